//! Lateness: decided once per source, when it is first to be published, and recorded; pure.
//!
//! A partition is closed by the watermark: the newest event of what landed in earlier seconds and is published, less
//! what the contract allows. Landing, not promotion, is the order, so neither the order of messages nor their repetition
//! changes an answer; and within a second nobody came first. What a person released is measured by all that is
//! published by then: whoever waited for its partitions has waited long enough. A file from before the first day of
//! what landed earlier, other backfills left out, is a backfill, and never late.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sluicegate_contract::LateFiles;
use sluicegate_contract::time::MICROS_PER_DAY;
use sluicegate_lake::{RawId, Source};

use crate::ledger::{Ledger, Record, State};
use crate::plan::Policy;
use crate::proposal::Proposal;
use crate::tree::PageRef;
use crate::view::View;

/// What was decided of the newly published proposals.
pub(crate) struct Decided {
    /// Partitions that were closed when the source came for the first time.
    pub(crate) late: BTreeMap<RawId, BTreeSet<i32>>,
    /// Raw ids whose source had been published before.
    pub(crate) corrections: BTreeSet<RawId>,
    /// Raw ids from before the dataset's first day.
    pub(crate) backfills: BTreeSet<RawId>,
    /// Raw ids that are late, and must be held because the contract says so.
    pub(crate) withheld: BTreeSet<RawId>,
}

/// What is known of the events before a second of landing.
#[derive(Clone, Copy)]
struct Events {
    /// The end of what is closed.
    closed: i64,
    /// The oldest event.
    oldest: i64,
}

impl Events {
    const NONE: Self = Self { closed: i64::MIN, oldest: i64::MAX };

    /// Of what lies between two events: `lateness` after the newest nothing before it is open.
    fn between(oldest: Option<i64>, newest: Option<i64>, lateness: i64) -> Self {
        Self {
            closed: newest.map_or(i64::MIN, |newest| newest.saturating_sub(lateness)),
            oldest: oldest.unwrap_or(i64::MAX),
        }
    }

    fn and(self, other: Self) -> Self {
        Self { closed: self.closed.max(other.closed), oldest: self.oldest.min(other.oldest) }
    }

    /// Whether a range of events ends before the first day.
    fn begin_after(self, range: Option<(i64, i64)>) -> bool {
        let first_day = self.oldest.div_euclid(MICROS_PER_DAY);
        self.closed > i64::MIN && range.is_some_and(|r| r.1.div_euclid(MICROS_PER_DAY) < first_day)
    }
}

/// Decides on the records, in the ledger, of what is newly published, and of what is `held` because it was found late.
pub(crate) fn decide(
    ledger: &mut Ledger,
    view: &View,
    fresh: &[&Proposal],
    held: &[&Proposal],
    policy: Policy,
    now: Timestamp,
) -> Decided {
    let known: BTreeSet<&Source> = view
        .ledger
        .records
        .values()
        .filter(|r| r.late.is_some() && r.published_at.is_some())
        .map(|r| &r.source)
        .collect();
    let (firsts, corrections): (Vec<&Proposal>, Vec<&Proposal>) =
        fresh.iter().chain(held).partition(|p| !known.contains(&p.source));
    let mut decided = Decided {
        late: BTreeMap::new(),
        corrections: corrections.into_iter().map(|p| p.raw_id.clone()).collect(),
        backfills: BTreeSet::new(),
        withheld: BTreeSet::new(),
    };
    let firsts: BTreeMap<&RawId, &Proposal> = firsts.into_iter().map(|p| (&p.raw_id, p)).collect();
    let mut decide = |record: &mut Record, before: Events| {
        let first = firsts.get(&record.raw_id);
        record.backfill = before.begin_after(record.event_range);
        let late = first.filter(|_| !record.backfill).map(|p| late_rows(p, before.closed));
        let late = late.unwrap_or_default();
        record.late_rows = late.values().sum();
        record.late = Some(late.keys().copied().collect());
        if first.is_some() && record.backfill {
            decided.backfills.insert(record.raw_id.clone());
        }
        let is_withheld =
            !late.is_empty() && policy.late_files == LateFiles::Hold && record.decision.is_none();
        if is_withheld {
            decided.withheld.insert(record.raw_id.clone());
        }
        is_withheld
    };
    let lateness = i64::try_from(policy.allowed_lateness.as_micros()).unwrap_or(i64::MAX);
    let unread = view.root.pages.iter().enumerate().filter(|(i, _)| !view.loaded.contains(i));
    let of_page = |p: &PageRef| Events::between(p.oldest_event, p.newest_event, lateness);
    let of_record = |r: &Record| {
        let (oldest, newest) = r.event_range.filter(|_| r.was_published()).unzip();
        // A backfill has no part in where the dataset's first day is.
        Events::between(oldest.filter(|_| !r.backfill), newest, lateness)
    };
    let unread: Vec<_> = unread.map(|(_, p)| (p.last.landed_at(), of_page(p))).collect();
    let held: BTreeSet<&RawId> = held.iter().map(|p| &p.raw_id).collect();
    let is_undecided =
        |r: &Record| r.late.is_none() && (r.state == State::Published || held.contains(&r.raw_id));
    let of_unread = unread.iter().map(|(_, events)| *events);
    let of_decided = ledger.records.values().filter(|r| r.late.is_some()).map(of_record);
    let all = of_unread.chain(of_decided).fold(Events::NONE, Events::and);
    let publish = |record: &mut Record| {
        if record.state == State::Published {
            record.published_at.get_or_insert(now);
        }
    };
    for record in ledger.records.values_mut() {
        if record.decision.is_some() && is_undecided(record) {
            decide(record, all);
            publish(record);
        }
    }
    // In landing order; `before` trails by the second that is being read. Pages that were not read end in an earlier
    // second than any record that follows them here (`Root::pages_for`), so their first and last events are all that counts.
    let mut unread = unread.into_iter().peekable();
    let (mut before, mut this_second) = (Events::NONE, (Timestamp::MIN, Events::NONE));
    for (id, record) in &mut ledger.records {
        let landed = id.landed_at();
        while let Some((_, events)) = unread.next_if(|(last, _)| *last < landed) {
            before = before.and(events);
        }
        if landed > this_second.0 {
            before = before.and(this_second.1);
            this_second = (landed, Events::NONE);
        }
        if is_undecided(record) && decide(record, before) {
            continue;
        }
        publish(record);
        this_second.1 = this_second.1.and(of_record(record));
    }
    for id in firsts.keys() {
        let late = ledger.records.get(*id).and_then(|record| record.late.as_ref());
        if let Some(late) = late.filter(|late| !late.is_empty()) {
            decided.late.insert((*id).clone(), late.iter().copied().collect());
        }
    }
    decided
}

/// The rows of a proposal that lie in closed partitions, by partition.
fn late_rows(proposal: &Proposal, closed: i64) -> BTreeMap<i32, u64> {
    let mut late = BTreeMap::new();
    let Some(by) = &proposal.partition_by else { return late };
    for file in &proposal.files {
        if let Some(value) = file.partition.filter(|v| by.end(*v) <= closed) {
            *late.entry(value).or_insert(0) += file.rows;
        }
    }
    late
}
