//! The Lambda bootstrap of promote.

use std::sync::Arc;

use sluicegate_promote::Promote;
use sluicegate_runtime::{Cloud, HandlerError, serve, setting};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve("promote", connect, Promote::handle).await
}

async fn connect(cloud: &Cloud) -> Result<Promote, HandlerError> {
    let lake = Arc::new(cloud.clients.bucket(setting("SLUICEGATE_LAKE_BUCKET")?));
    Ok(Promote::new(lake, cloud.ambient.clone()))
}
