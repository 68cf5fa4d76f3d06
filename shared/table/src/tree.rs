//! The tree of a snapshot: pages by ranges of raw ids, and the root that lists them with their sums.
//!
//! A page is two kinds of object for the same range: a ledger page (the records) and a manifest a partition spec (the
//! data files). A commit reads and writes the pages of the raw ids that it touches, and reads those of the versions that
//! they replace; of all others it knows what the root says: sums, partitions, and the newest event. So its cost follows
//! what changes, not the table.
//!
//! Pages are split by weight like those of a B-tree. Raw ids come in the order of landing, so the last page is filled to
//! the brim before the next begins; one that is split elsewhere leaves room on both sides.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sluicegate_lake::RawId;

use crate::iceberg::manifest::{Entry, Status};
use crate::ledger::{Record, State};

/// Records or files, whichever are more, that a page holds.
pub const PAGE_WEIGHT: usize = 1000;

/// The ledger's root: the pages in the order of their ranges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Root {
    pub v: u32,
    pub pages: Vec<PageRef>,
}

/// What the root says of a page. It covers the raw ids from `first` up to the next page's; the first page also those
/// before, the last all those after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageRef {
    pub first: RawId,
    pub last: RawId,
    /// Name of the ledger page below `metadata/`.
    pub ledger: String,
    /// Names of the manifests below `metadata/`.
    pub manifests: Vec<String>,
    pub states: BTreeMap<State, u64>,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// What the stagings of its raw objects cost, in nano-dollars.
    #[serde(default)]
    pub cost: u64,
    /// Newest event, in microseconds since 1970, of what is published or superseded.
    pub newest_event: Option<i64>,
    /// The oldest, backfills left out; not known of pages that were written before it was kept.
    #[serde(default = "not_known")]
    pub oldest_event: Option<i64>,
    /// Specs and values of the partitions that its files lie in.
    pub partitions: BTreeSet<(i32, Option<i32>)>,
}

/// Of a page whose oldest event was not kept: nothing is older.
#[expect(clippy::unnecessary_wraps, reason = "it stands for a field")]
fn not_known() -> Option<i64> {
    Some(i64::MIN)
}

impl PageRef {
    /// Records, whatever their state.
    pub fn records(&self) -> u64 {
        self.states.values().sum()
    }

    /// Records in a state.
    pub fn in_state(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or_default()
    }

    /// Records or files, whichever are more.
    pub(crate) fn weight(&self) -> usize {
        usize::try_from(self.records().max(self.files)).unwrap_or(usize::MAX)
    }
}

impl Root {
    /// The present format.
    pub const FORMAT: u32 = 1;

    /// The page that covers a raw id; `None` while there is none at all.
    pub fn page_of(&self, id: &RawId) -> Option<usize> {
        let after = self.pages.partition_point(|page| page.first <= *id);
        (!self.pages.is_empty()).then(|| after.saturating_sub(1))
    }

    /// The pages that a plan for these raw ids must see: theirs, and those before them that end within the very second one
    /// of them landed in, since the watermark is that of earlier seconds.
    pub fn pages_for<'a>(&self, ids: impl IntoIterator<Item = &'a RawId>) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        for id in ids {
            let Some(own) = self.page_of(id) else { continue };
            needed.insert(own);
            let same_second = |page: &PageRef| page.last.landed_at() >= id.landed_at();
            let before = (0..own).rev();
            needed.extend(before.take_while(|i| self.pages.get(*i).is_some_and(same_second)));
        }
        needed
    }

    /// The neighbours of these pages that are better merged with them.
    pub(crate) fn small_beside(&self, pages: &BTreeSet<usize>, limit: usize) -> BTreeSet<usize> {
        let weight = |i: usize| self.pages.get(i).map(PageRef::weight);
        let beside = pages.iter().flat_map(|i| {
            let neighbours = [i.checked_sub(1), Some(i + 1)].into_iter().flatten();
            neighbours.filter(|n| {
                weight(*i).zip(weight(*n)).is_some_and(|(own, other)| merges(own, other, limit))
            })
        });
        beside.filter(|i| !pages.contains(i)).collect()
    }

    /// A sum over all pages.
    pub fn sum(&self, of: impl Fn(&PageRef) -> u64) -> u64 {
        self.pages.iter().map(of).sum()
    }
}

/// The records and files of one page to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// By partition spec; deleted entries with them.
    pub(crate) entries: BTreeMap<i32, Vec<Entry>>,
}

impl Page {
    /// What the root says of it, once its objects have names.
    pub(crate) fn describe(&self, ledger: String, manifests: Vec<String>) -> Option<PageRef> {
        let mut states = BTreeMap::new();
        for record in &self.records {
            *states.entry(record.state).or_default() += 1;
        }
        let live = || {
            let all = self.entries.iter().flat_map(|(spec, e)| e.iter().map(move |e| (*spec, e)));
            all.filter(|(_, entry)| entry.status != Status::Deleted)
        };
        let published = || self.records.iter().filter(|r| r.was_published());
        Some(PageRef {
            first: self.records.first()?.raw_id.clone(),
            last: self.records.last()?.raw_id.clone(),
            ledger,
            manifests,
            states,
            files: live().count() as u64,
            rows: live().map(|(_, e)| e.file.rows).sum(),
            bytes: live().map(|(_, e)| e.file.bytes).sum(),
            cost: self.records.iter().map(Record::spent).sum(),
            newest_event: published().filter_map(|r| Some(r.event_range?.1)).max(),
            oldest_event: published()
                .filter(|r| !r.backfill)
                .filter_map(|r| Some(r.event_range?.0))
                .min(),
            partitions: live().map(|(spec, e)| (spec, e.file.partition)).collect(),
        })
    }
}

/// Whether two neighbours are merged: together they are half a page, so that what was split is not merged again at once.
pub(crate) fn merges(one: usize, other: usize, limit: usize) -> bool {
    one.saturating_add(other) <= limit / 2
}

/// Cuts the records of one range into pages. `weight` is what a record weighs, `is_last` whether its range is the
/// table's last.
pub(crate) fn split(
    records: Vec<Record>,
    weight: impl Fn(&RawId) -> usize,
    is_last: bool,
    limit: usize,
) -> Vec<Vec<Record>> {
    let total: usize = records.iter().map(|r| weight(&r.raw_id)).sum();
    let pages = total.div_ceil(limit).max(1);
    let target = if is_last { limit } else { total.div_ceil(pages) };
    let mut cut: Vec<Vec<Record>> = Vec::with_capacity(pages);
    let mut filled = 0;
    for record in records {
        let weight = weight(&record.raw_id);
        match cut.last_mut() {
            Some(page) if filled + weight <= target => {
                page.push(record);
                filled += weight;
            }
            _ => {
                cut.push(vec![record]);
                filled = weight;
            }
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn id(second: i64) -> RawId {
        RawId::new(Timestamp::from_second(second).unwrap(), "b", "k", &second.to_string())
    }

    fn page(first: i64, last: i64) -> PageRef {
        PageRef {
            first: id(first),
            last: id(last),
            ledger: String::new(),
            manifests: Vec::new(),
            states: BTreeMap::new(),
            files: 0,
            rows: 0,
            bytes: 0,
            cost: 0,
            newest_event: None,
            oldest_event: None,
            partitions: BTreeSet::new(),
        }
    }

    #[test]
    fn every_raw_id_has_a_page_and_its_second_is_seen_whole() {
        let root =
            Root { v: 1, pages: vec![page(10, 19), page(20, 20), page(20, 29), page(30, 39)] };
        assert_eq!(Root::default().page_of(&id(5)), None);
        for (second, index) in [(5, 0), (10, 0), (19, 0), (25, 2), (29, 2), (99, 3)] {
            assert_eq!(root.page_of(&id(second)), Some(index), "{second}");
        }
        assert_eq!(root.pages_for([&id(25)]), [2].into());
        assert_eq!(root.pages_for([&id(35)]), [3].into());
        let same_second = Root { v: 1, pages: vec![page(10, 20), page(20, 20), page(20, 29)] };
        let own = same_second.page_of(&id(20)).unwrap();
        assert_eq!(same_second.pages_for([&id(20)]), (0..=own).collect());
    }

    #[test]
    fn pages_are_cut_to_size_and_the_last_one_is_filled() {
        let records = |n: i64| -> Vec<Record> {
            let json = |i: i64| {
                serde_json::json!({
                    "raw_id": id(i), "source": "s", "state": "published",
                    "order": "e0000000000-c00001-g00001", "passed": true, "sequencer": null, "sha256": null,
                    "files_of": null, "files": 1, "rows": 1, "quarantined": 0, "event_range": null, "late": null,
                    "late_rows": 0, "published_at": null, "reason": null,
                    "receipt": {"duration_ms": 0, "requests": {}},
                })
            };
            (0..n).map(|i| serde_json::from_value(json(i)).unwrap()).collect()
        };
        let sizes = |n, is_last, weight: fn(&RawId) -> usize| -> Vec<usize> {
            split(records(n), weight, is_last, 4).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(4, false, |_| 1), [4]);
        assert_eq!(sizes(5, false, |_| 1), [3, 2]);
        assert_eq!(sizes(5, true, |_| 1), [4, 1]);
        assert_eq!(sizes(9, true, |_| 1), [4, 4, 1]);
        assert_eq!(sizes(3, false, |_| 9), [1, 1, 1], "one record is never cut");
    }
}
