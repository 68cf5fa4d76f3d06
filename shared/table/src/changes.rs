//! What a snapshot changes, partition by partition, as its subscribers want to know it; pure.
//!
//! Every snapshot's summary names a [`ChangeList`]. Each list names the one before, so that what changed since some
//! snapshot can be told also when that is no longer retained. A partition is *restated* when it was closed, or when
//! rows of it went: whoever computed something from it computes it again. Restated partitions name their reasons and
//! the raw ids (LATE-1).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluicegate_lake::RawId;

use crate::iceberg::manifest::Entry;
use crate::lateness::Decided;
use crate::proposal::{PartitionBy, Proposal};
use crate::view::{View, raw_id_of};

/// How a partition changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was open and got more.
    Appended,
    /// It had no rows before.
    Opened,
    /// It was closed, or rows of it were replaced: subscribers compute it again.
    Restated,
}

/// Why a partition was restated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestatedBy {
    /// A file came after the partition had closed.
    Late,
    /// Another version or another staging of a file replaced its rows.
    Correction,
    /// Somebody asked for a file to be staged again.
    Replay,
    /// A file from before the dataset's first day.
    Backfill,
    /// An older snapshot was restored.
    Rollback,
}

/// One partition's change in a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionChange {
    pub partition: String,
    pub change: Change,
    pub reasons: BTreeSet<RestatedBy>,
    pub rows_added: u64,
    pub rows_removed: u64,
    pub raw_ids: BTreeSet<RawId>,
}

/// `tables/<dataset>/metadata/<uuid>-changes.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeList {
    /// The format of this object.
    pub v: u32,
    /// The snapshot's number.
    pub number: i64,
    /// The snapshot's id.
    #[serde(default)]
    pub snapshot_id: Option<i64>,
    /// When it was made.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// The list of the snapshot before.
    #[serde(default)]
    pub previous: Option<String>,
    /// That snapshot's number: between the two only expiries were made, which change no row.
    #[serde(default)]
    pub previous_number: Option<i64>,
    pub partitions: Vec<PartitionChange>,
}

impl ChangeList {
    /// The object's present format.
    pub const FORMAT: u32 = 1;

    /// The number of the snapshot before, or of an expiry after it where a list of an earlier release does not say.
    pub fn before(&self) -> i64 {
        self.previous_number.unwrap_or(self.number - 1)
    }
}

/// Several snapshots' changes as one: what somebody who saw the snapshot before them has to catch up with.
pub fn merge<'a>(lists: impl IntoIterator<Item = &'a ChangeList>) -> Vec<PartitionChange> {
    let mut merged: BTreeMap<&str, PartitionChange> = BTreeMap::new();
    for change in lists.into_iter().flat_map(|list| &list.partitions) {
        match merged.get_mut(change.partition.as_str()) {
            None => {
                merged.insert(&change.partition, change.clone());
            }
            Some(known) => {
                known.change = known.change.max(change.change);
                known.reasons.extend(&change.reasons);
                known.rows_added += change.rows_added;
                known.rows_removed += change.rows_removed;
                known.raw_ids.extend(change.raw_ids.iter().cloned());
            }
        }
    }
    merged.into_values().collect()
}

/// The changes of one snapshot, as they are gathered.
pub(crate) struct Gathered<'a> {
    view: &'a View,
    existing: BTreeSet<String>,
    changes: BTreeMap<String, PartitionChange>,
}

impl<'a> Gathered<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        let mut this = Self { view, existing: BTreeSet::new(), changes: BTreeMap::new() };
        let known = view.root.pages.iter().flat_map(|page| &page.partitions);
        this.existing = known.map(|(spec, value)| this.name(*spec, *value)).collect();
        this
    }

    /// Of files that go because of other versions or other stagings of them, and of proposals that come.
    pub(crate) fn by_publishing(
        view: &'a View,
        removed: &BTreeSet<String>,
        fresh: &[&Proposal],
        decided: &Decided,
    ) -> Vec<PartitionChange> {
        let mut this = Self::new(view);
        this.remove(removed, RestatedBy::Correction);
        for proposal in fresh {
            let late = decided.late.get(&proposal.raw_id);
            for file in &proposal.files {
                let is_late = file.partition.is_some_and(|v| late.is_some_and(|l| l.contains(&v)));
                let reason = if proposal.order.epoch > 0 {
                    Some(RestatedBy::Replay)
                } else if decided.corrections.contains(&proposal.raw_id) {
                    Some(RestatedBy::Correction)
                } else if decided.backfills.contains(&proposal.raw_id) {
                    Some(RestatedBy::Backfill)
                } else {
                    is_late.then_some(RestatedBy::Late)
                };
                let partition = PartitionBy::path(proposal.partition_by.as_ref(), file.partition);
                this.add(partition, file.rows, &proposal.raw_id, reason);
            }
        }
        this.into_changes()
    }

    pub(crate) fn remove(&mut self, removed: &BTreeSet<String>, reason: RestatedBy) {
        for (spec, entry) in removed.iter().filter_map(|path| self.view.files.get(path)) {
            let partition = self.name(*spec, entry.file.partition);
            let change = self.touch(partition);
            change.change = Change::Restated;
            change.reasons.insert(reason);
            change.rows_removed += entry.file.rows;
            change.raw_ids.extend(raw_id_of(&entry.file.path));
        }
    }

    /// Files of an older snapshot that come back.
    pub(crate) fn restore(&mut self, spec: i32, entry: &Entry, id: &RawId) {
        let partition = self.name(spec, entry.file.partition);
        self.add(partition, entry.file.rows, id, Some(RestatedBy::Rollback));
    }

    pub(crate) fn into_changes(self) -> Vec<PartitionChange> {
        self.changes.into_values().collect()
    }

    fn add(&mut self, partition: String, rows: u64, id: &RawId, reason: Option<RestatedBy>) {
        let change = self.touch(partition);
        change.rows_added += rows;
        change.raw_ids.insert(id.clone());
        if let Some(reason) = reason {
            change.change = Change::Restated;
            change.reasons.insert(reason);
        }
    }

    fn touch(&mut self, partition: String) -> &mut PartitionChange {
        let known = self.existing.contains(&partition);
        let change = if known { Change::Appended } else { Change::Opened };
        self.changes.entry(partition.clone()).or_insert_with(|| PartitionChange {
            partition,
            change,
            reasons: BTreeSet::new(),
            rows_added: 0,
            rows_removed: 0,
            raw_ids: BTreeSet::new(),
        })
    }

    fn name(&self, spec_id: i32, value: Option<i32>) -> String {
        let specs = self.view.metadata.as_ref().map(|m| m.partition_specs.as_slice());
        let spec = specs.unwrap_or_default().iter().find(|s| s.id == spec_id);
        spec.map_or_else(|| "all".to_owned(), |s| s.partition_path(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(partition: &str, change: Change, rows: (u64, u64)) -> PartitionChange {
        PartitionChange {
            partition: partition.to_owned(),
            change,
            reasons: BTreeSet::new(),
            rows_added: rows.0,
            rows_removed: rows.1,
            raw_ids: BTreeSet::new(),
        }
    }

    #[test]
    fn what_is_opened_and_restated_later_was_restated() {
        let list = |number, partitions| ChangeList {
            v: ChangeList::FORMAT,
            number,
            snapshot_id: None,
            at: None,
            previous: None,
            previous_number: None,
            partitions,
        };
        let lists = [
            list(1, vec![change("d1", Change::Opened, (5, 0))]),
            list(2, vec![change("d1", Change::Appended, (2, 0))]),
            list(
                3,
                vec![
                    change("d1", Change::Restated, (1, 5)),
                    change("d2", Change::Appended, (1, 0)),
                ],
            ),
        ];
        let merged = |from: usize| {
            let merged = merge(&lists[from..]);
            merged.into_iter().map(|c| (c.change, c.rows_added, c.rows_removed)).collect::<Vec<_>>()
        };
        assert_eq!(merged(0), [(Change::Restated, 8, 5), (Change::Appended, 1, 0)]);
        assert_eq!(merge(&lists[..2])[0].change, Change::Opened);
        assert_eq!(merged(3), []);
    }

    #[test]
    fn the_first_lists_are_still_read() {
        let first: ChangeList =
            serde_json::from_str(r#"{"v": 1, "number": 7, "partitions": []}"#).unwrap();
        assert_eq!((first.number, first.previous), (7, None));
    }
}
