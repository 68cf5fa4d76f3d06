//! S3, SQS and Glue over the AWS SDK.
//!
//! One [`Clients`] a process: configuration and credentials as everywhere on AWS (environment, profile, role;
//! `AWS_ENDPOINT_URL` for an emulator), one TLS stack (rustls on ring), every request counted, the SDK's retries
//! included.

mod count;
mod error;
#[cfg(feature = "glue")]
mod glue;
mod s3;
mod sqs;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls;

use crate::{QueueError, Requests};
#[cfg(feature = "glue")]
pub use glue::Glue;
pub use s3::{CopyCondition, CopyLimits, S3};
pub use sqs::Sqs;

/// What all stores and queues of a process share.
#[derive(Clone, Debug)]
pub struct Clients {
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    #[cfg(feature = "glue")]
    config: SdkConfig,
    requests: Requests,
}

impl Clients {
    /// Clients configured from the environment.
    pub async fn from_env() -> Self {
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let config =
            aws_config::defaults(BehaviorVersion::latest()).http_client(https).load().await;
        Self::new(&config)
    }

    fn new(config: &SdkConfig) -> Self {
        let requests = Requests::default();
        // An endpoint of one's own is an emulator or a gateway: they seldom have a host name per bucket.
        let path_style = config.endpoint_url().is_some();
        let s3 = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(path_style)
            .interceptor(count::Counting::new("s3", requests.clone()))
            .build();
        let sqs = aws_sdk_sqs::config::Builder::from(config)
            .interceptor(count::Counting::new("sqs", requests.clone()))
            .build();
        Self {
            s3: aws_sdk_s3::Client::from_conf(s3),
            sqs: aws_sdk_sqs::Client::from_conf(sqs),
            #[cfg(feature = "glue")]
            config: config.clone(),
            requests,
        }
    }

    /// A bucket.
    pub fn bucket(&self, name: impl Into<String>) -> S3 {
        S3::new(self.s3.clone(), name.into(), self.requests.clone())
    }

    /// A queue, by its URL.
    pub fn queue(&self, url: impl Into<String>) -> Sqs {
        Sqs::new(self.sqs.clone(), url.into())
    }

    /// A queue of one's own account and region, by its name.
    pub async fn queue_named(&self, name: &str) -> Result<Sqs, QueueError> {
        let answer = self.sqs.get_queue_url().queue_name(name).send().await;
        let answer = answer.map_err(|e| match error::queue(&e) {
            QueueError::Other { reason } => {
                QueueError::Other { reason: format!("{name}: {reason}") }
            }
            other => other,
        })?;
        let url = answer.queue_url.unwrap_or_default();
        Ok(self.queue(url))
    }

    /// A queue, by its ARN; `None` if that is not one of a queue.
    pub fn queue_of_arn(&self, arn: &str) -> Option<Sqs> {
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", partition, "sqs", region, account, name] = parts.as_slice() else {
            return None;
        };
        let domain = if *partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        // Requests go to the client's own endpoint; the URL only names the queue.
        Some(self.queue(format!("https://sqs.{region}.{domain}/{account}/{name}")))
    }

    /// A database of Glue. Its client is made here, so that whoever has no catalog pays for none.
    #[cfg(feature = "glue")]
    pub fn catalog(&self, database: impl Into<String>) -> Glue {
        let glue = aws_sdk_glue::config::Builder::from(&self.config)
            .interceptor(count::Counting::new("glue", self.requests.clone()))
            .build();
        Glue::new(aws_sdk_glue::Client::from_conf(glue), database.into())
    }

    /// The requests made, counted since last taken.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }
}
