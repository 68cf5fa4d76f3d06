//! An SDK interceptor that counts every request as it is sent, retries included.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use crate::Requests;

#[derive(Debug)]
pub(super) struct Counting {
    service: &'static str,
    requests: Requests,
}

impl Counting {
    pub(super) fn new(service: &'static str, requests: Requests) -> Self {
        Self { service, requests }
    }
}

#[dyn_dispatch_hint]
impl Intercept for Counting {
    fn name(&self) -> &'static str {
        "sluicegate-count"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("Unknown", |m| m.name());
        self.requests.count(self.service, operation);
        Ok(())
    }
}
