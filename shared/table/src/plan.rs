//! What a group of proposals makes of a table. Pure: the same view and proposals give the same plan.
//!
//! Nothing is patched step by step. Records are brought up to date, each touched source's versions are ranked anew, and
//! the files that should be there are compared with those that are. So neither the order in which messages arrive nor
//! their repetition matters.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sluicegate_contract::Reupload;
use sluicegate_lake::{Order, RawId, Source};

use crate::iceberg::manifest::DataFile;
use crate::ledger::{Ledger, Record, State};
use crate::proposal::{Decision, PartitionBy, Proposal};
use crate::view::{View, raw_id_of};

/// A proposal that a message asks for, and what a person decided on it.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub proposal: Proposal,
    pub decision: Option<Decision>,
}

/// The contract's say in a plan.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub reupload: Reupload,
    pub allowed_lateness: SignedDuration,
}

/// How a partition changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It had no rows before.
    Opened,
    /// It was open and got more.
    Appended,
    /// It was closed, or rows of it were replaced: subscribers compute it again.
    Restated,
}

/// Why a partition was restated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestatedBy {
    Late,
    Correction,
    Replay,
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

/// What a snapshot changes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub ledger: Ledger,
    /// New data files and how they are partitioned.
    pub added: Vec<(Option<PartitionBy>, DataFile)>,
    /// Paths of data files that go.
    pub removed: BTreeSet<String>,
    pub partitions: Vec<PartitionChange>,
    /// Raw ids whose records changed.
    pub changed: BTreeSet<RawId>,
    /// Sources whose versions were ranked; all of their records were seen.
    pub touched: BTreeSet<Source>,
}

impl Plan {
    /// Whether there is nothing to publish or record.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }
}

/// Why there is no plan yet.
#[derive(Debug, PartialEq, Eq)]
pub enum NoPlan {
    /// An older proposal is published again, and its files are needed.
    Needs(RawId, Order),
}

/// Plans one snapshot. `versions` are the raw ids that exist of each touched source; `older` holds proposals that an
/// earlier call asked for.
pub fn plan(
    view: &View,
    incoming: &[Incoming],
    versions: &BTreeMap<Source, BTreeSet<RawId>>,
    older: &BTreeMap<(RawId, Order), Proposal>,
    policy: Policy,
    now: Timestamp,
) -> Result<Plan, NoPlan> {
    let mut ledger = view.ledger.clone();
    let mut proposals: BTreeMap<(RawId, Order), &Proposal> =
        older.iter().map(|(k, p)| (k.clone(), p)).collect();
    for Incoming { proposal, decision } in incoming {
        proposals.insert((proposal.raw_id.clone(), proposal.order), proposal);
        let known = ledger.records.get(&proposal.raw_id);
        let mut record = match known {
            Some(known) if known.order > proposal.order => continue,
            Some(known) if known.order == proposal.order => known.clone(),
            Some(known) => Record {
                late: known.late.clone(),
                late_rows: known.late_rows,
                published_at: known.published_at,
                ..Record::of(proposal)
            },
            None => Record::of(proposal),
        };
        // Nobody decides on what is not held, and nobody twice.
        if let Some(decision) = decision.as_ref().filter(|_| record.awaits_decision()) {
            record = record.decided(decision);
        }
        ledger.records.insert(proposal.raw_id.clone(), record);
    }
    for (source, ids) in versions {
        rank_versions(&mut ledger, &view.ledger, source, ids, policy.reupload);
    }
    let before = holders(&view.ledger);
    let after = holders(&ledger);
    let gone: BTreeSet<&RawId> =
        before.iter().filter(|h| !after.contains(h)).map(|(id, _)| id).collect();
    let removed: BTreeSet<String> = view
        .files
        .keys()
        .filter(|path| raw_id_of(path).is_some_and(|id| gone.contains(&id)))
        .cloned()
        .collect();
    let mut fresh = Vec::new();
    for holder in after.iter().filter(|h| !before.contains(h)) {
        let proposal =
            proposals.get(holder).ok_or_else(|| NoPlan::Needs(holder.0.clone(), holder.1))?;
        fresh.push(*proposal);
    }
    let decided = decide_lateness(&mut ledger, view, &fresh, policy, now);
    let partitions = partition_changes(view, &removed, &fresh, &decided);
    let changed = ledger
        .records
        .iter()
        .filter(|(id, record)| view.ledger.records.get(*id) != Some(record))
        .map(|(id, _)| id.clone())
        .collect();
    let added =
        fresh.iter().flat_map(|p| p.files.iter().map(|f| (p.partition_by.clone(), f.clone())));
    let touched = versions.keys().cloned().collect();
    Ok(Plan { added: added.collect(), ledger, removed, partitions, changed, touched })
}

/// Decides which version of a source is published (SRC-1), from what passed and not from what came when.
fn rank_versions(
    ledger: &mut Ledger,
    before: &Ledger,
    source: &Source,
    ids: &BTreeSet<RawId>,
    reupload: Reupload,
) {
    let mut passed: Vec<&Record> = ids
        .iter()
        .filter_map(|id| ledger.records.get(id))
        .filter(|r| r.source == *source && r.passed && r.state != State::Withdrawn)
        // What was superseded while the contract said `replace` does not come back when it says `append`.
        .filter(|r| {
            let was = before.records.get(&r.raw_id).map(|b| b.state);
            reupload != Reupload::Append || was != Some(State::Superseded)
        })
        .collect();
    passed.sort_by_cached_key(|r| r.upload_rank());
    let chosen: Vec<RawId> = match reupload {
        Reupload::Replace => passed.last().map(|r| r.raw_id.clone()).into_iter().collect(),
        Reupload::Reject => passed.first().map(|r| r.raw_id.clone()).into_iter().collect(),
        Reupload::Append => passed.iter().map(|r| r.raw_id.clone()).collect(),
    };
    let passed: Vec<RawId> = passed.into_iter().map(|r| r.raw_id.clone()).collect();
    // The version that was published before, whose files an identical newer one takes over.
    let published = ids
        .iter()
        .filter_map(|id| before.records.get(id))
        .filter(|r| r.state == State::Published)
        .max_by_key(|r| r.upload_rank())
        .cloned();
    for id in passed {
        let Some(record) = ledger.records.get_mut(&id) else { continue };
        if chosen.contains(&id) {
            record.state = State::Published;
            let taken_over = published.as_ref().filter(|p| {
                reupload == Reupload::Replace
                    && p.raw_id != id
                    && p.sha256.is_some()
                    && p.sha256 == record.sha256
                    && p.order.same_rules(&record.order)
                    // How far ahead a row lies depends on when it landed: equal bytes may be judged otherwise.
                    && (p.rows, p.quarantined, p.event_range)
                        == (record.rows, record.quarantined, record.event_range)
            });
            if let Some(older) = taken_over {
                record.files_of.clone_from(&older.files_of);
            }
            let own = (id.clone(), record.order);
            match &record.files_of {
                Some((holder, _)) if *holder != id => {}
                _ => record.files_of = Some(own),
            }
        } else {
            record.files_of = None;
            match reupload {
                Reupload::Reject => {
                    record.state = State::Rejected;
                    record.reason = Some("an older version of the source is published, and the contract takes no second one".to_owned());
                }
                _ => record.state = State::Superseded,
            }
        }
    }
}

/// The proposals whose files are in the table.
fn holders(ledger: &Ledger) -> BTreeSet<(RawId, Order)> {
    let published = ledger.records.values().filter(|r| r.state == State::Published);
    published.filter_map(|r| r.files_of.clone()).collect()
}

/// What was decided of the newly published proposals.
struct Decided {
    /// Partitions (by proposal) that were closed when the source came for the first time.
    late: BTreeMap<RawId, BTreeSet<i32>>,
    /// Raw ids whose source had been published before.
    corrections: BTreeSet<RawId>,
}

/// Decides lateness, once per source, against the watermark of what landed in earlier seconds; of what a person
/// released, against that of all that is published by then: whoever waited for its partitions has waited long enough.
fn decide_lateness(
    ledger: &mut Ledger,
    view: &View,
    fresh: &[&Proposal],
    policy: Policy,
    now: Timestamp,
) -> Decided {
    let mut decided = Decided { late: BTreeMap::new(), corrections: BTreeSet::new() };
    let known: BTreeSet<&Source> =
        view.ledger.records.values().filter(|r| r.late.is_some()).map(|r| &r.source).collect();
    for proposal in fresh {
        if known.contains(&proposal.source) {
            decided.corrections.insert(proposal.raw_id.clone());
        }
    }
    let firsts = fresh.iter().filter(|p| !known.contains(&p.source));
    let firsts: BTreeMap<&RawId, &Proposal> = firsts.map(|p| (&p.raw_id, *p)).collect();
    let mut decide = |record: &mut Record, watermark| {
        let late = firsts.get(&record.raw_id).map(|p| late_rows(p, watermark)).unwrap_or_default();
        record.late_rows = late.values().sum();
        record.late = Some(late.keys().copied().collect());
        if !late.is_empty() {
            decided.late.insert(record.raw_id.clone(), late.into_keys().collect());
        }
    };
    // In landing order; `watermark` trails by the second that is being read. Pages that were not read end in an earlier
    // second than any record that follows them here (`Root::pages_for`), so their newest event is all that counts.
    let lateness = i64::try_from(policy.allowed_lateness.as_micros()).unwrap_or(i64::MAX);
    let unread = view.root.pages.iter().enumerate().filter(|(i, _)| !view.loaded.contains(i));
    let closed = |newest: Option<i64>| newest.map_or(i64::MIN, |n| n.saturating_sub(lateness));
    let unread: Vec<_> =
        unread.map(|(_, p)| (p.last.landed_at(), closed(p.newest_event))).collect();
    let mut of_all = unread.iter().map(|(_, newest)| *newest).max().unwrap_or(i64::MIN);
    let mut unread = unread.into_iter().peekable();
    let (mut watermark, mut this_second) = (i64::MIN, (Timestamp::MIN, i64::MIN));
    let mut released = Vec::new();
    for (id, record) in &mut ledger.records {
        let landed = id.landed_at();
        while let Some((_, newest)) = unread.next_if(|(last, _)| *last < landed) {
            watermark = watermark.max(newest);
        }
        if landed > this_second.0 {
            watermark = watermark.max(this_second.1);
            this_second = (landed, i64::MIN);
        }
        if record.state == State::Published && record.published_at.is_none() {
            record.published_at = Some(now);
        }
        let undecided = record.state == State::Published && record.late.is_none();
        if record.was_published() {
            let newest = closed(record.event_range.map(|(_, last)| last));
            this_second.1 = this_second.1.max(newest);
            if !undecided {
                of_all = of_all.max(newest);
            }
        }
        if undecided && record.decision.is_some() {
            released.push(record);
        } else if undecided {
            decide(record, watermark);
        }
    }
    released.into_iter().for_each(|record| decide(record, of_all));
    decided
}

/// The rows of a proposal that lie in closed partitions, by partition.
fn late_rows(proposal: &Proposal, watermark: i64) -> BTreeMap<i32, u64> {
    let mut late = BTreeMap::new();
    let Some(by) = &proposal.partition_by else { return late };
    for file in &proposal.files {
        if let Some(value) = file.partition.filter(|v| by.end(*v) <= watermark) {
            *late.entry(value).or_insert(0) += file.rows;
        }
    }
    late
}

fn partition_changes(
    view: &View,
    removed: &BTreeSet<String>,
    fresh: &[&Proposal],
    decided: &Decided,
) -> Vec<PartitionChange> {
    let specs = view.metadata.as_ref().map(|m| m.partition_specs.as_slice()).unwrap_or_default();
    let name = |spec_id: i32, value: Option<i32>| {
        let spec = specs.iter().find(|s| s.id == spec_id);
        spec.map_or_else(|| "all".to_owned(), |s| s.partition_path(value))
    };
    let known = view.root.pages.iter().flat_map(|page| &page.partitions);
    let existing: BTreeSet<String> = known.map(|(spec, value)| name(*spec, *value)).collect();
    let mut changes: BTreeMap<String, PartitionChange> = BTreeMap::new();
    let mut touch = |partition: String| {
        let change = if existing.contains(&partition) { Change::Appended } else { Change::Opened };
        changes.entry(partition.clone()).or_insert_with(|| PartitionChange {
            partition,
            change,
            reasons: BTreeSet::new(),
            rows_added: 0,
            rows_removed: 0,
            raw_ids: BTreeSet::new(),
        });
    };
    let gone: Vec<_> = removed.iter().filter_map(|path| view.files.get(path)).collect();
    gone.iter().for_each(|(spec, e)| touch(name(*spec, e.file.partition)));
    let named = |p: &Proposal, value| PartitionBy::path(p.partition_by.as_ref(), value);
    fresh.iter().for_each(|p| p.files.iter().for_each(|f| touch(named(p, f.partition))));

    for (spec, entry) in gone {
        let Some(change) = changes.get_mut(&name(*spec, entry.file.partition)) else { continue };
        change.change = Change::Restated;
        change.rows_removed += entry.file.rows;
        change.raw_ids.extend(raw_id_of(&entry.file.path));
        // Rows go only because another version or another staging of them comes.
        change.reasons.insert(RestatedBy::Correction);
    }
    for proposal in fresh {
        let late = decided.late.get(&proposal.raw_id);
        for file in &proposal.files {
            let Some(change) = changes.get_mut(&named(proposal, file.partition)) else { continue };
            change.rows_added += file.rows;
            change.raw_ids.insert(proposal.raw_id.clone());
            let is_late = file.partition.is_some_and(|v| late.is_some_and(|l| l.contains(&v)));
            let reason = if proposal.order.epoch > 0 {
                Some(RestatedBy::Replay)
            } else if decided.corrections.contains(&proposal.raw_id) {
                Some(RestatedBy::Correction)
            } else {
                is_late.then_some(RestatedBy::Late)
            };
            if let Some(reason) = reason {
                change.change = Change::Restated;
                change.reasons.insert(reason);
            }
        }
    }
    changes.into_values().collect()
}
