//! The Lambda bootstrap of promote.

use std::sync::Arc;

use sluicegate_lake::catalog::Catalog;
use sluicegate_promote::Promote;
use sluicegate_runtime::{Cloud, HandlerError, serve, setting};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve("promote", connect, Promote::handle).await
}

async fn connect(cloud: &Cloud) -> Result<Promote, HandlerError> {
    let lake = Arc::new(cloud.clients.bucket(setting("SLUICEGATE_LAKE_BUCKET")?));
    let database = std::env::var("SLUICEGATE_GLUE_DATABASE").ok().filter(|name| !name.is_empty());
    let catalog = database.map(|name| Arc::new(cloud.clients.catalog(name)) as Arc<dyn Catalog>);
    let meter = Some(cloud.meter.clone());
    Ok(Promote { catalog, meter, ..Promote::new(lake, cloud.ambient.clone()) })
}
