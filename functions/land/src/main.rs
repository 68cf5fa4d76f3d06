//! The Lambda bootstrap of land.

use std::sync::Arc;

use sluicegate_lake::aws::{CopyCondition, CopyLimits};
use sluicegate_land::Land;
use sluicegate_runtime::{Cloud, HandlerError, serve, setting};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve("land", connect, Land::handle).await
}

async fn connect(cloud: &Cloud) -> Result<Land, HandlerError> {
    let condition = match setting("SLUICEGATE_COPY_CONDITION")?.as_str() {
        "off" => CopyCondition::Off,
        _ => CopyCondition::On,
    };
    let lake = cloud.clients.bucket(setting("SLUICEGATE_LAKE_BUCKET")?);
    Ok(Land {
        inbox: Arc::new(cloud.clients.bucket(setting("SLUICEGATE_INBOX_BUCKET")?)),
        lake: Arc::new(lake.with_copies(condition, CopyLimits::default())),
        stage: Arc::new(cloud.clients.queue(setting("SLUICEGATE_STAGE_QUEUE_URL")?)),
        ambient: cloud.ambient.clone(),
    })
}
