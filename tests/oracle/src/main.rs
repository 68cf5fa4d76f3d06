//! Reads a published table with the `iceberg` crate, which shares no code with what wrote it.
//!
//! `oracle METADATA_LOCATION COLUMN` reads every row and column of every live snapshot and prints what it found as JSON, by the
//! snapshots' ids: `{"638791973914157518": {"rows": 100, "sum": 125704.0}}`, the sum being that of a numeric column without its
//! nulls. The store is S3 as the environment's AWS_ variables say. Whatever it cannot read is an error and exit code 1.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_schema::DataType;
use futures::TryStreamExt;
use iceberg::TableIdent;
use iceberg::io::{FileIOBuilder, S3_PATH_STYLE_ACCESS};
use iceberg::table::StaticTable;
use iceberg_storage_opendal::OpenDalStorageFactory;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let [location, column] = <[String; 2]>::try_from(std::env::args().skip(1).collect::<Vec<_>>())
        .map_err(|_| "usage: oracle METADATA_LOCATION COLUMN")?;
    // An endpoint that is an address has no names below it for the buckets.
    let store = OpenDalStorageFactory::S3 { customized_credential_load: None };
    let table = StaticTable::from_metadata_file(
        &location,
        TableIdent::from_strs(["published", "table"])?,
        FileIOBuilder::new(Arc::new(store)).with_prop(S3_PATH_STYLE_ACCESS, true).build(),
    )
    .await?;
    let mut found = BTreeMap::new();
    for snapshot in table.metadata().snapshots() {
        let id = snapshot.snapshot_id();
        found.insert(id.to_string(), figures(&table, id, &column).await?);
    }
    println!("{}", json!(found));
    Ok(())
}

async fn figures(
    table: &StaticTable,
    snapshot: i64,
    column: &str,
) -> Result<Value, Box<dyn Error>> {
    let scan = table.scan().snapshot_id(snapshot).build()?;
    let mut batches = scan.to_arrow().await?;
    let (mut rows, mut total) = (0, 0.0);
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows();
        total += sum(&batch, column)?;
    }
    Ok(json!({"rows": rows, "sum": total}))
}

fn sum(batch: &RecordBatch, column: &str) -> Result<f64, Box<dyn Error>> {
    let values =
        batch.column_by_name(column).ok_or_else(|| format!("there is no column {column}"))?;
    let numbers = arrow_cast::cast(values, &DataType::Float64)?;
    let numbers =
        numbers.as_primitive_opt::<Float64Type>().ok_or("a cast to doubles gave something else")?;
    Ok(arrow_arith::aggregate::sum(numbers).unwrap_or_default())
}
