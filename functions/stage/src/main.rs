//! The Lambda bootstrap of stage.

use std::sync::Arc;

use sluicegate_runtime::{Cloud, HandlerError, serve, setting};
use sluicegate_stage::{Scratch, Stage};

// One thread waits for the store; the audit has its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve("stage", connect, Stage::handle).await
}

async fn connect(cloud: &Cloud) -> Result<Stage, HandlerError> {
    let megabytes = setting("SLUICEGATE_SCRATCH_MB")?;
    let megabytes: u64 = megabytes
        .parse()
        .map_err(|_| HandlerError::new(format!("SLUICEGATE_SCRATCH_MB is {megabytes:?}")))?;
    Ok(Stage {
        lake: Arc::new(cloud.clients.bucket(setting("SLUICEGATE_LAKE_BUCKET")?)),
        promote: Arc::new(cloud.clients.queue(setting("SLUICEGATE_PROMOTE_QUEUE_URL")?)),
        promote_replay: Arc::new(
            cloud.clients.queue(setting("SLUICEGATE_PROMOTE_REPLAY_QUEUE_URL")?),
        ),
        ambient: cloud.ambient.clone(),
        scratch: Scratch::new(std::env::temp_dir(), megabytes << 20),
        meter: cloud.meter.clone(),
    })
}
