//! What a group of proposals makes of a table. Pure: the same view and proposals give the same plan.
//!
//! Nothing is patched step by step. Records are brought up to date, each touched source's versions are ranked anew, and
//! the files that should be there are compared with those that are. So neither the order in which messages arrive nor
//! their repetition matters. Where the contract holds late files, what proves late is held, and all is planned anew
//! without it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sluicegate_contract::{LateFiles, Reupload};
use sluicegate_lake::{Order, RawId, Source};

use crate::changes::{Gathered, PartitionChange};
use crate::iceberg::manifest::DataFile;
use crate::lateness;
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
    pub late_files: LateFiles,
}

/// Proposals that an earlier plan asked for; `None` for one that is closed: its files may be gone.
pub type Older = BTreeMap<(RawId, Order), Option<Proposal>>;

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
    /// Sources whose versions were ranked; all of their records were seen, or all that are not outranked for good.
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
    /// These older proposals are published again, and their files are needed.
    Needs(Vec<(RawId, Order)>),
    /// For each source whose versions were not all seen that matter: the pages to look into, the likeliest first.
    Unseen(Vec<Vec<usize>>),
}

/// Plans one snapshot. `versions` are the raw ids that exist of each touched source; `older` holds the proposals that an
/// earlier call asked for, and the view the pages.
pub fn plan(
    view: &View,
    incoming: &[Incoming],
    versions: &BTreeMap<Source, BTreeSet<RawId>>,
    older: &Older,
    policy: Policy,
    now: Timestamp,
) -> Result<Plan, NoPlan> {
    let (mut withheld, mut ever) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        let (plan, late) = attempt(view, incoming, versions, older, policy, now, &withheld)?;
        if late == withheld {
            return Ok(plan);
        }
        ever.extend(late.iter().cloned());
        withheld = late;
    }
    // It goes back and forth: a version is late only by what is published while it is not itself. Such a one is held. What
    // only went along, and is not late beside it, is published; each is let go once, so this ends.
    let (mut withheld, mut let_go) = (ever, BTreeSet::new());
    loop {
        let (plan, late) = attempt(view, incoming, versions, older, policy, now, &withheld)?;
        let instead: BTreeSet<&Source> = plan
            .ledger
            .records
            .values()
            .filter(|r| r.state == State::Published)
            .map(|r| &r.source)
            .collect();
        let is_free = |id: &&RawId| {
            let record = plan.ledger.records.get(*id);
            !late.contains(*id)
                && !let_go.contains(*id)
                && record.is_some_and(|r| !instead.contains(&r.source))
        };
        let free: BTreeSet<RawId> = withheld.iter().filter(is_free).cloned().collect();
        let next = withheld.difference(&free).chain(&late).cloned().collect();
        if next == withheld {
            return Ok(plan);
        }
        let_go.extend(free);
        withheld = next;
    }
}

/// How often a plan is made anew because something proved late.
const ROUNDS: u32 = 8;

/// A plan that withholds what was found late; answers with what is late by it.
fn attempt(
    view: &View,
    incoming: &[Incoming],
    versions: &BTreeMap<Source, BTreeSet<RawId>>,
    older: &Older,
    policy: Policy,
    now: Timestamp,
    withheld: &BTreeSet<RawId>,
) -> Result<(Plan, BTreeSet<RawId>), NoPlan> {
    let mut ledger = view.ledger.clone();
    let mut proposals: BTreeMap<(RawId, Order), &Proposal> =
        older.iter().filter_map(|(k, p)| Some((k.clone(), p.as_ref()?))).collect();
    for Incoming { proposal, decision } in incoming {
        proposals.insert((proposal.raw_id.clone(), proposal.order), proposal);
        let known = ledger.records.get(&proposal.raw_id);
        if let Some(record) = brought_up(known, proposal, decision.as_ref(), policy) {
            ledger.records.insert(proposal.raw_id.clone(), record);
        }
    }
    for Incoming { proposal, .. } in incoming {
        // What was never published has waited for its release: how late it is, is decided now.
        let known = view.ledger.records.get(&proposal.raw_id);
        if let Some(record) = ledger.records.get_mut(&proposal.raw_id)
            && known.is_some_and(|known| known.decision.is_none())
            && record.decision.is_some()
            && record.passed
            && record.published_at.is_none()
        {
            (record.late, record.late_rows, record.backfill) = (None, 0, false);
        }
    }
    let hold = |ledger: &mut Ledger| {
        for id in withheld {
            if let Some(record) = ledger.records.get_mut(id) {
                *record = record.clone().held_as_late();
            }
        }
    };
    hold(&mut ledger);
    for (source, ids) in versions {
        rank_versions(&mut ledger, &view.ledger, source, ids, policy.reupload, older);
    }
    let unseen = versions.values().map(|ids| unseen(view, &ledger, ids, policy));
    let unseen: Vec<Vec<usize>> = unseen.filter(|pages| !pages.is_empty()).collect();
    if !unseen.is_empty() {
        return Err(NoPlan::Unseen(unseen));
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
    let new = || after.iter().filter(|holder| !before.contains(holder));
    let missing: Vec<_> = new().filter(|h| !proposals.contains_key(h)).cloned().collect();
    if !missing.is_empty() {
        return Err(NoPlan::Needs(missing));
    }
    let fresh: Vec<&Proposal> = new().filter_map(|h| proposals.get(h).copied()).collect();
    let held = withheld.iter().filter_map(|id| {
        let order = ledger.records.get(id)?.order;
        proposals.get(&(id.clone(), order)).copied()
    });
    let held: Vec<&Proposal> = held.collect();
    let decided = lateness::decide(&mut ledger, view, &fresh, &held, policy, now);
    hold(&mut ledger);
    let partitions = Gathered::by_publishing(view, &removed, &fresh, &decided);
    let added =
        fresh.iter().flat_map(|p| p.files.iter().map(|f| (p.partition_by.clone(), f.clone())));
    let touched = versions.keys().cloned().collect();
    let changed = changed(&ledger, view);
    let plan = Plan { added: added.collect(), ledger, removed, partitions, changed, touched };
    Ok((plan, decided.withheld))
}

/// A proposal's record as it enters the ranking of its source's versions; `None` if it changes nothing.
fn brought_up(
    known: Option<&Record>,
    proposal: &Proposal,
    decision: Option<&Decision>,
    policy: Policy,
) -> Option<Record> {
    let mut record = match known {
        Some(known) if known.rank() > proposal.order => return None,
        Some(known) if known.order == proposal.order => known.clone(),
        Some(known) => {
            let staged = Record {
                late: known.late.clone(),
                late_rows: known.late_rows,
                backfill: known.backfill,
                published_at: known.published_at,
                spent_before: known.spent(),
                ..Record::of(proposal)
            };
            // What was held as late stays so, however often it is staged, until somebody releases it.
            let waits = known.published_at.is_none() && known.is_late();
            if waits && staged.passed && policy.late_files == LateFiles::Hold {
                staged.held_as_late()
            } else {
                staged
            }
        }
        None => Record::of(proposal),
    };
    // Nobody decides on what is not held, and nobody twice.
    if let Some(decision) = decision.filter(|_| record.awaits_decision()) {
        record = record.decided(decision);
    }
    Some(record)
}

/// Raw ids whose records are not as they were.
pub(crate) fn changed(ledger: &Ledger, view: &View) -> BTreeSet<RawId> {
    let records = ledger.records.iter();
    let changed = records.filter(|(id, record)| view.ledger.records.get(*id) != Some(record));
    changed.map(|(id, _)| id.clone()).collect()
}

/// Decides which version of a source is published (SRC-1), from what passed and not from what came when.
fn rank_versions(
    ledger: &mut Ledger,
    before: &Ledger,
    source: &Source,
    ids: &BTreeSet<RawId>,
    reupload: Reupload,
    older: &Older,
) {
    // What is closed cannot come back, but what is published stays.
    let is_closed = |r: &Record| {
        let was = before.records.get(&r.raw_id).map(|b| (b.state, b.order));
        was != Some((State::Published, r.order))
            && older.get(&(r.raw_id.clone(), r.order)).is_some_and(Option::is_none)
    };
    // What was superseded while the contract said `replace` does not come back when it says `append`, however often it is staged.
    if reupload == Reupload::Append {
        for id in ids {
            let was = before.records.get(id).map(|b| b.state);
            if let Some(record) = ledger.records.get_mut(id)
                && record.passed
                && record.state != State::Withdrawn
                && was == Some(State::Superseded)
            {
                (record.state, record.files_of) = (State::Superseded, None);
            }
        }
    }
    let mut passed: Vec<&Record> = ids
        .iter()
        .filter_map(|id| ledger.records.get(id))
        .filter(|r| r.source == *source && r.passed && r.state != State::Withdrawn)
        .filter(|r| !is_closed(r))
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
    let published = published(before, ids).max_by_key(|r| r.upload_rank()).cloned();
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

/// The records among these that are published, in the order of landing.
fn published<'a>(ledger: &'a Ledger, ids: &'a BTreeSet<RawId>) -> impl Iterator<Item = &'a Record> {
    let records = ids.iter().filter_map(|id| ledger.records.get(id));
    records.filter(|record| record.state == State::Published)
}

/// The pages that must be read before a source's ranking holds; none if it does.
///
/// Where one version a source is published, what is older than it was outranked once for all, and need not be seen: a
/// name that is uploaded every day does not have every commit read every day's page.
fn unseen(view: &View, ledger: &Ledger, ids: &BTreeSet<RawId>, policy: Policy) -> Vec<usize> {
    let is_unseen =
        |id: &&RawId| view.root.page_of(id).is_some_and(|page| !view.loaded.contains(&page));
    let unseen: Vec<&RawId> = ids.iter().rev().filter(is_unseen).collect();
    let Some(newest) = unseen.first() else { return Vec::new() };
    let before: Vec<&Record> = published(&view.ledger, ids).collect();
    let is_ranked = policy.reupload == Reupload::Replace
        && view.has_one_version()
        && !before.is_empty()
        && published(ledger, ids)
            .last()
            .is_some_and(|chosen| newest.landed_at() < chosen.raw_id.landed_at());
    let needed: Vec<&RawId> = if is_ranked {
        // An older version's files may be the ones that are published.
        let holders = before.iter().filter_map(|record| record.files_of.as_ref());
        holders.map(|(id, _)| id).filter(is_unseen).collect()
    } else {
        unseen
    };
    let mut pages = Vec::new();
    for id in needed {
        let more = view.root.pages_for([id]).into_iter().rev();
        pages.extend(more.filter(|page| !view.loaded.contains(page)));
    }
    pages.dedup();
    pages
}

/// The proposals whose files are in the table.
pub(crate) fn holders(ledger: &Ledger) -> BTreeSet<(RawId, Order)> {
    let published = ledger.records.values().filter(|r| r.state == State::Published);
    published.filter_map(|r| r.files_of.clone()).collect()
}
