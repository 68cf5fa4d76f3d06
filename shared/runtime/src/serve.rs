//! A function's `main`: connect once, then a payload in, an answer and a line out.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use jiff::Timestamp;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Ambient, Queue, QueueError, StoreError, System};

use crate::Summary;
use crate::batch::Receipt;
use crate::cost::{Meter, PriceError, Prices};

/// What a function is connected to.
#[derive(Clone)]
pub struct Cloud {
    pub clients: Clients,
    pub ambient: Arc<dyn Ambient>,
    pub meter: Meter,
}

impl Cloud {
    /// Clients and prices as the environment says; Lambda sets region and memory.
    async fn from_env(ambient: Arc<dyn Ambient>) -> Result<Self, HandlerError> {
        let clients = Clients::from_env().await;
        let region = std::env::var("AWS_REGION").unwrap_or_default();
        let prices = Prices::built_in(&region, std::env::consts::ARCH)?;
        let memory_mb = setting("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")?;
        let memory_mb = memory_mb.parse().map_err(|_| {
            HandlerError::new(format!("AWS_LAMBDA_FUNCTION_MEMORY_SIZE is {memory_mb:?}"))
        })?;
        let meter = Meter { requests: clients.requests().clone(), prices, memory_mb };
        Ok(Self { clients, ambient, meter })
    }
}

/// Why an invocation, or one message of it, failed: a sentence for people. Whether it is tried again is the queue's to
/// decide; what must not be tried again is not an error but an outcome.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HandlerError(String);

impl HandlerError {
    /// An error.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<StoreError> for HandlerError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<QueueError> for HandlerError {
    fn from(error: QueueError) -> Self {
        Self(error.to_string())
    }
}

impl From<PriceError> for HandlerError {
    fn from(error: PriceError) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for HandlerError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<HandlerError> for Diagnostic {
    fn from(error: HandlerError) -> Self {
        Self { error_type: "HandlerError".to_owned(), error_message: error.0 }
    }
}

/// A setting that the template gives every function that reads it.
pub fn setting(name: &str) -> Result<String, HandlerError> {
    std::env::var(name).map_err(|_| HandlerError::new(format!("{name} is not set")))
}

/// Runs a function until its sandbox ends.
pub async fn serve<H>(
    function: &'static str,
    connect: impl AsyncFnOnce(&Cloud) -> Result<H, HandlerError>,
    handle: impl AsyncFn(&H, Value, &mut Summary) -> Result<Value, HandlerError>,
) -> Result<(), lambda_runtime::Error> {
    let ambient: Arc<dyn Ambient> = Arc::new(System);
    let started = ambient.now();
    log();
    let cloud = Cloud::from_env(ambient.clone()).await?;
    let handler = connect(&cloud).await?;
    let init_ms = u64::try_from(ambient.now().duration_since(started).as_millis());
    let init_ms = init_ms.unwrap_or_default();
    let warm = AtomicBool::new(false);
    let (cloud, handler, handle, warm) = (&cloud, &handler, &handle, &warm);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let mut summary = Summary::new(function, &event.context.request_id);
        if !warm.swap(true, Ordering::Relaxed) {
            summary.cold(init_ms);
        }
        let began = cloud.ambient.now();
        let run = cloud.meter.begin(began, summary.init_ms());
        let deadline = i64::try_from(event.context.deadline).ok();
        if let Some(at) = deadline.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
            summary.timed(began, at);
        }
        let receipts = Receipt::all(&event.payload);
        let outcome = handle(handler, event.payload, &mut summary).await;
        if let Err(error) = &outcome {
            summary.failure(error);
        }
        release(cloud, Receipt::failed(receipts, outcome.as_ref().ok())).await;
        let now = cloud.ambient.now();
        let line = summary.line(now, &cloud.meter.used(&run, now), &cloud.meter.prices);
        // A line that cannot be written has nowhere to be reported.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
        outcome
    }))
    .await
}

/// Requests under way at once.
const AT_ONCE: usize = 16;

/// Has failed messages come again sooner than their visibility time-out.
async fn release(cloud: &Cloud, failed: Vec<Receipt>) {
    // A batch may be a thousand, and the invocation near its end.
    let release = |receipt: Receipt| async move {
        let Some(queue) = cloud.clients.queue_of_arn(&receipt.queue_arn) else { return };
        if let Err(error) = queue.release(&receipt.receipt, receipt.delay()).await {
            // It comes again all the same, only later.
            tracing::warn!(%error, "a failed message was not released");
        }
    };
    futures::stream::iter(failed).for_each_concurrent(AT_ONCE, release).await;
}

/// Warnings and errors as JSON lines beside the summary; more with RUST_LOG.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A second call, as in a test, keeps the first one's.
    let _ = tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_current_span(false)
        .without_time()
        .try_init();
}
