//! An SDK interceptor that counts every request as it is sent, and the bytes it carries, retries included.

use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchInput;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, Metadata};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use crate::Requests;

#[derive(Debug)]
pub(super) struct Counting {
    service: &'static str,
    requests: Requests,
}

/// The bytes of the messages that an operation sends.
#[derive(Debug)]
struct Sending(u64);

impl Storable for Sending {
    type Storer = StoreReplace<Self>;
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

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // What is sent is known here alone, and metered by the attempt.
        if let Some(batch) = context.input().downcast_ref::<SendMessageBatchInput>() {
            config.interceptor_state().store_put(Sending(bytes_of(batch)));
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("Unknown", |m| m.name());
        self.requests.count(self.service, operation);
        if operation == "PutObject" {
            self.requests.stored(content_length(context.request()));
        }
        if let Some(&Sending(bytes)) = config.load::<Sending>() {
            self.requests.sent(bytes);
        }
        Ok(())
    }
}

/// The size of an upload. What is streamed goes in chunks with their checksum: the object's own size is said beside it.
fn content_length(request: &HttpRequest) -> u64 {
    let headers = ["x-amz-decoded-content-length", "content-length"].into_iter();
    let said = headers.filter_map(|name| request.headers().get(name)?.parse().ok()).next();
    said.or_else(|| request.body().content_length()).unwrap_or_default()
}

/// What SQS bills of a batch: its messages, not what they are wrapped in.
fn bytes_of(batch: &SendMessageBatchInput) -> u64 {
    batch.entries().iter().map(|entry| entry.message_body().len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn an_uploads_size_is_its_objects_however_it_is_sent() {
        let mut request = HttpRequest::new(SdkBody::from("12345"));
        assert_eq!(content_length(&request), 5);
        request.headers_mut().insert("content-length", "61");
        request.headers_mut().insert("x-amz-decoded-content-length", "7");
        assert_eq!(content_length(&request), 7);
    }

    #[test]
    fn a_batch_is_as_large_as_its_messages() {
        let entry = |id: &str, body: &str| {
            SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
        };
        let batch = SendMessageBatchInput::builder().entries(entry("0", "abc"));
        assert_eq!(bytes_of(&batch.entries(entry("1", "\"de\"")).build().unwrap()), 7);
    }
}
