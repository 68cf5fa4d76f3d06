//! `sluicegate status`: every raw object of a dataset and its state (RAW-2), from `raw/` and the ledger.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Dataset, RawId, Source, Store, keys, list_all};
use sluicegate_table::report::visible;
use sluicegate_table::{Record, View, current_contract};

use crate::Failure;
use crate::out::say;

#[derive(Serialize)]
struct Status {
    dataset: Dataset,
    contract: Option<String>,
    snapshot: Option<Snapshot>,
    states: BTreeMap<&'static str, u64>,
    rows: Rows,
    raw: Vec<Raw>,
}

#[derive(Serialize)]
struct Snapshot {
    id: i64,
    number: i64,
    published_at: Timestamp,
    rows: u64,
    files: u64,
}

#[derive(Default, Serialize)]
struct Rows {
    published: u64,
    quarantined: u64,
    late: u64,
}

#[derive(Serialize)]
struct Raw {
    raw_id: RawId,
    source: Source,
    state: &'static str,
    rows: u64,
    quarantined: u64,
    late_files: usize,
    late_rows: u64,
    landed_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

const STATES: [&str; 7] =
    ["waiting", "pending", "published", "held", "rejected", "superseded", "withdrawn"];

pub(crate) async fn run(dataset: &str, json: bool, lake: &str) -> Result<ExitCode, Failure> {
    let dataset: Dataset = dataset.parse()?;
    let store = Clients::from_env().await.bucket(lake);
    let status = read(&store, dataset).await?;
    if json {
        say!("{}", serde_json::to_string(&status)?);
    } else {
        print(&status);
    }
    Ok(ExitCode::SUCCESS)
}

async fn read(store: &dyn Store, dataset: Dataset) -> Result<Status, Failure> {
    // The table before the raw objects: one that lands in between is pending, and none is missed.
    let view = View::read(store, &dataset).await?;
    let contract = current_contract(store, &dataset).await?.map(|(_, version)| version.version);
    let listed = list_all(store, &keys::raw_of_dataset(&dataset)).await?;
    let without_record = if contract.is_some() { "pending" } else { "waiting" };
    let mut raw: Vec<Raw> = listed
        .iter()
        .filter_map(|object| keys::parse_raw(&object.key))
        .map(|(_, source, id)| match view.ledger.records.get(&id) {
            Some(record) => recorded(record),
            None => Raw {
                landed_at: id.landed_at(),
                raw_id: id,
                source,
                state: without_record,
                rows: 0,
                quarantined: 0,
                late_files: 0,
                late_rows: 0,
                published_at: None,
                reason: None,
            },
        })
        .collect();
    raw.sort_by(|a, b| a.raw_id.cmp(&b.raw_id));
    let mut states: BTreeMap<_, u64> = STATES.iter().map(|state| (*state, 0)).collect();
    let mut rows = Rows::default();
    for object in &raw {
        *states.entry(object.state).or_default() += 1;
        if object.state == "published" {
            rows.published += object.rows;
            rows.quarantined += object.quarantined;
            rows.late += object.late_rows;
        }
    }
    let snapshot = view.metadata.as_ref().and_then(|m| m.current_snapshot()).map(|s| Snapshot {
        id: s.snapshot_id,
        number: s.sequence_number,
        published_at: Timestamp::from_millisecond(s.timestamp_ms).unwrap_or_default(),
        rows: view.files.values().map(|(_, e)| e.file.rows).sum(),
        files: view.files.len() as u64,
    });
    Ok(Status { dataset, contract, snapshot, states, rows, raw })
}

fn recorded(record: &Record) -> Raw {
    Raw {
        raw_id: record.raw_id.clone(),
        source: record.source.clone(),
        state: record.state.word(),
        rows: record.rows,
        quarantined: record.quarantined,
        late_files: record.late.as_ref().map_or(0, Vec::len),
        late_rows: record.late_rows,
        landed_at: record.raw_id.landed_at(),
        published_at: record.published_at,
        reason: record.reason.clone(),
    }
}

fn print(status: &Status) {
    let contract = status.contract.as_deref().unwrap_or("none: files wait until one lands");
    say!("{}  contract {contract}", status.dataset);
    match &status.snapshot {
        Some(s) => {
            say!(
                "snapshot {} of {}: {} rows in {} files",
                s.number,
                s.published_at,
                s.rows,
                s.files
            );
        }
        None => say!("nothing published yet"),
    }
    let shown = STATES.iter().filter_map(|s| status.states.get_key_value(s));
    let shown =
        shown.filter(|(_, count)| **count > 0).map(|(state, count)| format!("{count} {state}"));
    say!("raw objects: {}", shown.collect::<Vec<_>>().join(", "));
    say!(
        "rows: {} published, {} quarantined, {} late",
        status.rows.published,
        status.rows.quarantined,
        status.rows.late
    );
    for raw in status.raw.iter().filter(|r| !matches!(r.state, "published" | "superseded")) {
        let reason = raw.reason.as_deref().unwrap_or_default();
        let source = raw.source.inbox_key().unwrap_or_else(|| raw.source.to_string());
        let (source, reason) = (visible(&source), visible(reason));
        say!("  {:<10} {source}  {}  {reason}", raw.state, raw.raw_id);
    }
}
