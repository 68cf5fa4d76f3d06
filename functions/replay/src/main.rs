//! The Lambda bootstrap of replay.

use std::sync::Arc;

use sluicegate_replay::Replay;
use sluicegate_runtime::{Cloud, HandlerError, serve, setting};
use sluicegate_table::replay::STEP;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve("replay", connect, Replay::handle).await
}

async fn connect(cloud: &Cloud) -> Result<Replay, HandlerError> {
    let concurrency = setting("SLUICEGATE_REPLAY_CONCURRENCY")?;
    Ok(Replay {
        lake: Arc::new(cloud.clients.bucket(setting("SLUICEGATE_LAKE_BUCKET")?)),
        stage_replay: Arc::new(cloud.clients.queue(setting("SLUICEGATE_STAGE_REPLAY_QUEUE_URL")?)),
        replay: Arc::new(cloud.clients.queue(setting("SLUICEGATE_REPLAY_QUEUE_URL")?)),
        ambient: cloud.ambient.clone(),
        step: STEP,
        concurrency: concurrency.parse().map_err(|_| {
            HandlerError::new(format!("SLUICEGATE_REPLAY_CONCURRENCY is {concurrency:?}"))
        })?,
    })
}
