//! What publishing costs: each snapshot's summary says what promote used for it, for how many raw objects, and what all
//! snapshots before it took. Pure.
//!
//! A raw object's receipt is written by stage, before anybody knows who else is in its group: what promote takes is the
//! snapshot's, and what one more raw object will take is known by experience alone.

use std::collections::BTreeMap;

use crate::iceberg::metadata::{Snapshot, TableMetadata};

/// What the work on a group has cost by the time that so many more objects are written, in nano-dollars.
pub type Bill<'a> = &'a (dyn Fn(u64) -> u64 + Sync);

const COMMIT: &str = "sluicegate.commit-nano-usd";
const RAW_IDS: &str = "sluicegate.commit-raw-ids";
const COMMITS: &str = "sluicegate.commits-nano-usd";

/// What the summary of a snapshot after `before` says, whether it was billed or not.
pub(crate) fn entries(
    before: Option<&Snapshot>,
    billed: Option<u64>,
    raw_ids: usize,
) -> BTreeMap<String, String> {
    let earlier = before.and_then(|snapshot| number(snapshot, COMMITS));
    let mut entries = BTreeMap::new();
    if let Some(all) = earlier.into_iter().chain(billed).reduce(u64::saturating_add) {
        entries.insert(COMMITS.to_owned(), all.to_string());
    }
    if let Some(billed) = billed {
        entries.insert(COMMIT.to_owned(), billed.to_string());
        entries.insert(RAW_IDS.to_owned(), raw_ids.to_string());
    }
    entries
}

/// What all commits of a table have cost, in nano-dollars; `None` if none was billed.
pub fn of_all_commits(metadata: &TableMetadata) -> Option<u64> {
    metadata.current_snapshot().and_then(|snapshot| number(snapshot, COMMITS))
}

/// What publishing one more raw object should cost, in nano-dollars: the mean over the snapshots that the table still lists, 0
/// where none was billed.
pub fn of_a_raw_object(metadata: &TableMetadata) -> u64 {
    let billed =
        metadata.snapshots.iter().filter_map(|s| number(s, COMMIT).zip(number(s, RAW_IDS)));
    let (cost, raw_ids) = billed
        .fold((0u64, 0u64), |(cost, ids), (c, n)| (cost.saturating_add(c), ids.saturating_add(n)));
    cost.checked_div(raw_ids).unwrap_or_default()
}

fn number(snapshot: &Snapshot, key: &str) -> Option<u64> {
    snapshot.summary.get(key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iceberg::schema::{PartitionSpec, Schema};

    /// A table with a snapshot for each bill.
    fn table(bills: &[(Option<u64>, usize)]) -> TableMetadata {
        let schema = Schema { id: 0, fields: Vec::new() };
        let spec = PartitionSpec { id: 0, fields: Vec::new() };
        let mut metadata = TableMetadata::new("u", "s3://lake/t", schema, spec, 0);
        for (number, (billed, raw_ids)) in (1..).zip(bills) {
            let snapshot = Snapshot {
                snapshot_id: number,
                parent_snapshot_id: None,
                sequence_number: number,
                timestamp_ms: number,
                manifest_list: String::new(),
                summary: entries(metadata.current_snapshot(), *billed, *raw_ids),
                schema_id: None,
            };
            metadata = metadata.with_snapshot(snapshot, 2);
        }
        metadata
    }

    #[test]
    fn the_sum_outlives_the_snapshots_and_the_mean_is_of_those_that_are_left() {
        let table = table(&[(Some(100), 1), (Some(40), 4), (Some(20), 2)]);
        assert_eq!(of_all_commits(&table), Some(160));
        assert_eq!(of_a_raw_object(&table), 10);
    }

    #[test]
    fn what_nobody_billed_keeps_the_sum_and_is_no_experience() {
        let table = table(&[(Some(30), 3), (None, 7)]);
        assert_eq!((of_all_commits(&table), of_a_raw_object(&table)), (Some(30), 10));
        let never = self::table(&[(None, 7)]);
        assert_eq!((of_all_commits(&never), of_a_raw_object(&never)), (None, 0));
    }
}
