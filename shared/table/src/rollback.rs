//! Rollback: a new snapshot with the published state of an older one.
//!
//! Guarantees: what is published afterwards is what the older snapshot published, file by file. What that takes out is
//! recorded as withdrawn, and every record that changes is marked with the new snapshot's number: messages of lower
//! epochs change it no more, so nothing comes back by a late message, and everything by a replay. Lateness stays
//! as it was decided, and so do verdicts, decisions and what is held. The schema stays the newest.
//!
//! [`preview`] tells what it would come to.
//!
//! Fails without a trace where the snapshot is not retained, or is the present one.

use std::collections::{BTreeMap, BTreeSet};

use sluicegate_contract::Reupload;
use sluicegate_lake::{Ambient, Dataset, RawId, Store};

use crate::changes::{Gathered, RestatedBy};
use crate::commit::{CommitError, Publication, governing, patiently};
use crate::iceberg::metadata::Snapshot;
use crate::invariants;
use crate::ledger::{Record, State};
use crate::plan::{Plan, changed, holders};
use crate::proposal::PartitionBy;
use crate::tree::{PAGE_WEIGHT, Root};
use crate::view::{View, raw_id_of};

/// Keys of the new snapshot's summary.
pub const TO: &str = "sluicegate.rollback-to";
pub const BY: &str = "sluicegate.rollback-by";
pub const WHY: &str = "sluicegate.rollback-why";
const REQUEST: &str = "sluicegate.rollback-request";

/// What somebody wants restored.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The number of the snapshot.
    pub to: i64,
    pub by: &'a str,
    pub why: &'a str,
}

/// What a rollback came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The new snapshot's number.
    pub number: i64,
    /// How often the pointer was tried.
    pub attempts: u32,
    /// Raw ids that are no longer published.
    pub withdrawn: BTreeSet<RawId>,
    /// Raw ids that are published again, or from another staging.
    pub restored: BTreeSet<RawId>,
    /// Rows of the files that go.
    pub rows_removed: u64,
    /// Rows of the files that come back.
    pub rows_added: u64,
}

/// Why there is no rollback.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    #[error("snapshot {0} is not retained; the oldest that is, is {1}")]
    NotRetained(i64, i64),
    #[error("snapshot {0} is the present one")]
    Present(i64),
    #[error("nothing is published")]
    NoTable,
    #[error("{0}; nothing is published of it now, and it stays so")]
    Same(String),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// What restoring a snapshot, by its number, would come to as the table is now. Nothing is written.
pub async fn preview(
    store: &dyn Store,
    dataset: &Dataset,
    to: i64,
) -> Result<Restored, RollbackError> {
    let mut now = View::open(store, dataset).await?;
    let (_, restored) = planned(store, dataset, &mut now, to).await?;
    Ok(restored)
}

/// Restores a snapshot.
pub async fn roll_back(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    request: &Request<'_>,
) -> Result<Restored, RollbackError> {
    roll_back_in_pages(store, ambient, dataset, request, PAGE_WEIGHT).await
}

/// As [`roll_back`], with pages of another weight.
pub async fn roll_back_in_pages(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    request: &Request<'_>,
    page_weight: usize,
) -> Result<Restored, RollbackError> {
    let mut known = Known {
        request: ambient.uuid().to_string(),
        planned: Restored::default(),
        seen: BTreeSet::new(),
    };
    patiently(ambient, None, async |attempts| {
        let restored = attempt(store, ambient, dataset, request, page_weight, &mut known).await?;
        Ok(restored.map(|restored| Restored { attempts, ..restored }))
    })
    .await
}

/// What attempts hand on to the next.
struct Known {
    /// By this an attempt is found whose acknowledgement was lost, and that others have built upon since.
    request: String,
    /// What the last attempt would have come to.
    planned: Restored,
    /// Data files that were seen to exist.
    seen: BTreeSet<String>,
}

async fn attempt(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    request: &Request<'_>,
    page_weight: usize,
    known: &mut Known,
) -> Result<Option<Restored>, RollbackError> {
    let mut now = View::open(store, dataset).await?;
    let mine = |s: &&Snapshot| s.summary.get(REQUEST) == Some(&known.request);
    if let Some(done) = now.metadata.iter().flat_map(|m| &m.snapshots).find(mine) {
        return Ok(Some(Restored { number: done.sequence_number, ..known.planned.clone() }));
    }
    let (plan, restored) = planned(store, dataset, &mut now, request.to).await?;
    known.planned.clone_from(&restored);
    let (version, contract) = governing(store, dataset, "it has a table").await?;
    let summary = [
        (TO, request.to.to_string()),
        (BY, request.by.to_owned()),
        (WHY, request.why.to_owned()),
        (REQUEST, known.request.clone()),
    ];
    let publication = Publication {
        store,
        ambient,
        dataset,
        view: &now,
        plan: &plan,
        version: &version,
        contract: &contract,
        page_weight,
        // What the older snapshot published under another setting may be published again.
        reupload: Reupload::Append,
        summary: summary.map(|(key, value)| (key.to_owned(), value)).into(),
        bill: None,
    };
    Ok(publication
        .publish(&mut known.seen)
        .await?
        .map(|published| Restored { number: published.number, ..restored }))
}

/// The plan that restores a snapshot, and what it comes to. Of the present one all that it takes is read.
async fn planned(
    store: &dyn Store,
    dataset: &Dataset,
    now: &mut View,
    to: i64,
) -> Result<(Plan, Restored), RollbackError> {
    let metadata = now.metadata.as_ref().ok_or(RollbackError::NoTable)?;
    let present = metadata.current_snapshot().ok_or(RollbackError::NoTable)?.sequence_number;
    if present == to {
        return Err(RollbackError::Present(present));
    }
    let Some(wanted) = metadata.snapshots.iter().find(|s| s.sequence_number == to) else {
        let oldest = metadata.snapshots.iter().map(|s| s.sequence_number).min();
        return Err(RollbackError::NotRetained(to, oldest.unwrap_or(present)));
    };
    let mut then = now.at(store, dataset, wanted).await?;
    load_differences(store, dataset, now, &mut then).await?;
    let (mut planned, mut restored) = plan(now, &then, now.number() + 1);
    // Rows that are published by way of another version's files may lie in pages that are the same in both.
    if invariants::check(now, &planned, Reupload::Append).is_err() {
        for view in [&mut *now, &mut then] {
            view.load(store, dataset, (0..view.root.pages.len()).collect()).await?;
        }
        (planned, restored) = plan(now, &then, now.number() + 1);
    }
    if planned.is_empty() {
        let same = format!("snapshot {present} publishes what snapshot {to} did");
        return Err(RollbackError::Same(same));
    }
    Ok((planned, restored))
}

/// Reads the pages in which two snapshots differ, and those of the files that they name.
async fn load_differences(
    store: &dyn Store,
    dataset: &Dataset,
    now: &mut View,
    then: &mut View,
) -> Result<(), CommitError> {
    let names = |root: &Root| -> BTreeSet<String> {
        root.pages.iter().flat_map(|p| p.manifests.iter().chain([&p.ledger])).cloned().collect()
    };
    let (of_now, of_then) = (names(&now.root), names(&then.root));
    for (view, others) in [(&mut *now, &of_then), (&mut *then, &of_now)] {
        let pages = view.root.pages.iter().enumerate();
        let other = pages.filter(|(_, p)| {
            !others.contains(&p.ledger) || p.manifests.iter().any(|m| !others.contains(m))
        });
        let other = other.map(|(i, _)| i).collect();
        view.load(store, dataset, other).await?;
    }
    let holders: BTreeSet<RawId> =
        holders(&now.ledger).into_iter().chain(holders(&then.ledger)).map(|(id, _)| id).collect();
    for view in [now, then] {
        let pages = holders.iter().filter_map(|id| view.root.page_of(id)).collect();
        view.load(store, dataset, pages).await?;
    }
    Ok(())
}

/// The plan that has `now` publish what `then` does. Of both, all pages in which they differ were read.
fn plan(now: &View, then: &View, number: i64) -> (Plan, Restored) {
    let barrier = u64::try_from(number).unwrap_or_default();
    let mut ledger = now.ledger.clone();
    let mut outcome = Restored { number, ..Restored::default() };
    for (id, record) in &mut ledger.records {
        let was = then.ledger.records.get(id).filter(|was| was.state == State::Published);
        match was {
            Some(was) if record.state == State::Published && record.files_of == was.files_of => {}
            Some(was) => {
                outcome.restored.insert(id.clone());
                *record = Record {
                    late: record.late.clone(),
                    late_rows: record.late_rows,
                    backfill: record.backfill,
                    published_at: record.published_at,
                    barrier,
                    // What was spent since then was spent.
                    spent_before: record.spent().saturating_sub(was.receipt.cost_nano_usd.total()),
                    ..was.clone()
                };
            }
            None => {
                // What was out already and may not come back by a ranking of versions stays as it is.
                let known = then.ledger.records.get(id);
                let was_out = known.is_some_and(|was| was.passed && was.state == record.state);
                let comes_back = record.passed && record.state != State::Withdrawn && !was_out;
                if record.state == State::Published {
                    outcome.withdrawn.insert(id.clone());
                }
                if record.state == State::Published || comes_back {
                    record.state = State::Withdrawn;
                    record.files_of = None;
                    record.barrier = barrier;
                    record.reason = Some(format!("snapshot {number} restored an older one"));
                }
            }
        }
    }
    let (before, after) = (holders(&now.ledger), holders(&ledger));
    let ids = |from: &BTreeSet<_>, but: &BTreeSet<_>| -> BTreeSet<RawId> {
        from.difference(but).map(|(id, _): &(RawId, _)| id.clone()).collect()
    };
    let (gone, back) = (ids(&before, &after), ids(&after, &before));
    let of = |view: &View, ids: &BTreeSet<RawId>| -> BTreeSet<String> {
        let paths = view.files.keys();
        paths.filter(|path| raw_id_of(path).is_some_and(|id| ids.contains(&id))).cloned().collect()
    };
    let removed = of(now, &gone);
    let mut changes = Gathered::new(now);
    changes.remove(&removed, RestatedBy::Rollback);
    let specs = now.metadata.as_ref().map(|m| m.partition_specs.as_slice()).unwrap_or_default();
    let by: BTreeMap<i32, Option<PartitionBy>> =
        specs.iter().map(|spec| (spec.id, PartitionBy::of(spec))).collect();
    let mut added = Vec::new();
    for (spec, entry) in of(then, &back).iter().filter_map(|path| then.files.get(path)) {
        let Some(id) = raw_id_of(&entry.file.path) else { continue };
        changes.restore(*spec, entry, &id);
        added.push((by.get(spec).cloned().flatten(), entry.file.clone()));
    }
    let changed = changed(&ledger, now);
    let touched = changed.iter().filter_map(|id| ledger.records.get(id));
    let touched = touched.map(|record| record.source.clone()).collect();
    let partitions = changes.into_changes();
    outcome.rows_removed = partitions.iter().map(|p| p.rows_removed).sum();
    outcome.rows_added = partitions.iter().map(|p| p.rows_added).sum();
    (Plan { ledger, added, removed, partitions, changed, touched }, outcome)
}
