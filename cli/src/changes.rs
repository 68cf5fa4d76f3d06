//! `sluicegate changes`: what somebody who saw an older snapshot must compute again, partition by partition.
//!
//! Told as long as the change lists are there, also of snapshots that are no longer retained. Where one is gone it is
//! refused: whoever asks reads the table anew.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Dataset, Store};
use sluicegate_table::changes::{Change, ChangeList, PartitionChange, RestatedBy, merge};
use sluicegate_table::log::{self, LogError};

use crate::Failure;
use crate::out::{aligned, refused, say};

#[derive(Args)]
pub(crate) struct Arguments {
    dataset: String,
    /// The number of the snapshot that was seen last (0 for none), or its id while it is retained
    #[arg(long)]
    since: i64,
    /// Print JSON, with the raw ids
    #[arg(long)]
    json: bool,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
}

#[derive(Serialize)]
struct Changes {
    dataset: Dataset,
    since: i64,
    /// What to ask with next time: the present snapshot's number.
    next: i64,
    /// Those that were made since, the oldest first. Numbers that are missing are expiries, which change no row.
    snapshots: Vec<Covered>,
    partitions: Vec<PartitionChange>,
}

#[derive(Serialize)]
struct Covered {
    number: i64,
    id: Option<i64>,
    at: Option<Timestamp>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments { dataset, since, json, lake } = arguments;
    let dataset: Dataset = dataset.parse()?;
    let store = Clients::from_env().await.bucket(lake);
    let changes = match read(&store, dataset, *since).await {
        Ok(changes) => changes,
        Err(LogError::Commit(error)) => return Err(error.into()),
        Err(error) => return Ok(refused(format_args!("{error}"))),
    };
    if *json {
        say!("{}", serde_json::to_string(&changes)?);
    } else {
        print(&changes);
    }
    Ok(ExitCode::SUCCESS)
}

/// Partitions' changes as lines for people.
pub(crate) fn lines(partitions: &[PartitionChange]) -> Vec<String> {
    let row = |change: &PartitionChange| {
        let raw_ids = change.raw_ids.len();
        [
            change.partition.clone(),
            word(change.change).to_owned(),
            reasons(&change.reasons),
            format!("rows +{} -{}", change.rows_added, change.rows_removed),
            format!("{raw_ids} raw id{}", if raw_ids == 1 { "" } else { "s" }),
        ]
    };
    aligned(&partitions.iter().map(row).collect::<Vec<_>>())
}

async fn read(store: &dyn Store, dataset: Dataset, since: i64) -> Result<Changes, LogError> {
    let metadata = log::metadata(store, &dataset).await?;
    let since = log::find(&metadata, since).map_or(since, |s| s.sequence_number);
    let lists = log::changes_since(store, &dataset, &metadata, since).await?;
    let covered =
        |list: &ChangeList| Covered { number: list.number, id: list.snapshot_id, at: list.at };
    Ok(Changes {
        dataset,
        since,
        next: metadata.current_snapshot().ok_or(LogError::NoTable)?.sequence_number,
        snapshots: lists.iter().map(covered).collect(),
        partitions: merge(&lists),
    })
}

fn print(changes: &Changes) {
    let Changes { dataset, since, next, snapshots, partitions } = changes;
    if snapshots.is_empty() {
        say!("{dataset}: nothing changed since snapshot {since}");
    } else {
        let numbers: Vec<String> = snapshots.iter().map(|s| s.number.to_string()).collect();
        say!("{dataset}: since snapshot {since} came {}", numbers.join(", "));
        if partitions.is_empty() {
            say!("no partition changed");
        }
        for line in lines(partitions) {
            say!("  {line}");
        }
    }
    say!("next time: --since {next}");
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Appended => "appended",
        Change::Opened => "opened",
        Change::Restated => "restated",
    }
}

fn reasons(reasons: &BTreeSet<RestatedBy>) -> String {
    let words = reasons.iter().map(|reason| match reason {
        RestatedBy::Late => "late",
        RestatedBy::Correction => "correction",
        RestatedBy::Replay => "replay",
        RestatedBy::Backfill => "backfill",
        RestatedBy::Rollback => "rollback",
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partitions_change_is_a_line() {
        let change = |partition: &str, change, reasons: &[RestatedBy], rows: (u64, u64)| {
            let id = format!("20130102T030405Z-{:032x}", 7).parse().unwrap();
            PartitionChange {
                partition: partition.to_owned(),
                change,
                reasons: reasons.iter().copied().collect(),
                rows_added: rows.0,
                rows_removed: rows.1,
                raw_ids: BTreeSet::from([id]),
            }
        };
        let restated = [RestatedBy::Rollback, RestatedBy::Late];
        let changes = [
            change("day=2013-01-01", Change::Restated, &restated, (5, 12)),
            PartitionChange {
                raw_ids: BTreeSet::new(),
                ..change("all", Change::Opened, &[], (7, 0))
            },
        ];
        assert_eq!(
            lines(&changes),
            [
                "day=2013-01-01  restated  late, rollback  rows +5 -12  1 raw id",
                "all             opened                    rows +7 -0   0 raw ids",
            ]
        );
    }
}
