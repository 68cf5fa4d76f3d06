//! What must hold of every snapshot, as named values, checked before each swap. A violation is never published: it is a
//! defect of ours, and the group that showed it fails.
//!
//! They are checked of the sources that a plan touches: all of their records and files were read, and a plan changes
//! nothing else.
//!
//! RAW-1 (a raw object never changes) and the atomicity half of PUB-3 rest on the store's conditions; AUD-1 is held by
//! the type of a verdict; RAW-2 by that of a record, which has one state. PUB-4 needs the store: `commit` looks each new
//! file up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sluicegate_contract::Reupload;
use sluicegate_lake::Source;

use crate::changes::Change;
use crate::ledger::{Record, State};
use crate::plan::Plan;
use crate::proposal::Ruling;
use crate::view::{View, raw_id_of};

/// An invariant's name, as in the documentation, in metrics and in alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// Of the versions of a source one at most is published (`append` exempt).
    Src1,
    /// A snapshot names only data files of proposals that passed: by their verdict, or by a release that is recorded.
    Pub1,
    /// A raw id's files are in a snapshot at most once; a data file at most once.
    Pub2,
    /// A new file must exist.
    Pub4,
    /// A restated partition names its reason and the raw ids.
    Late1,
    /// A record's rank never falls, no record is lost, and no decision on it.
    Ord1,
    /// What was spent on a raw object stays spent: a record's receipts only grow, by the new staging's.
    Cost1,
    /// The rows of the files are the rows of the published records.
    Sum1,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Src1 => "SRC-1",
            Self::Pub1 => "PUB-1",
            Self::Pub2 => "PUB-2",
            Self::Pub4 => "PUB-4",
            Self::Late1 => "LATE-1",
            Self::Ord1 => "ORD-1",
            Self::Cost1 => "COST-1",
            Self::Sum1 => "SUM-1",
        })
    }
}

/// An invariant that a plan would break, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {detail}")]
pub struct Violation {
    pub invariant: Invariant,
    pub detail: String,
}

fn ensure(
    holds: bool,
    invariant: Invariant,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// Checks everything about a plan that can be checked without the store.
pub fn check(view: &View, plan: &Plan, reupload: Reupload) -> Result<(), Violation> {
    let mut published: BTreeMap<&Source, u32> = BTreeMap::new();
    let mut holders = BTreeSet::new();
    let mut rows = 0;
    let is_touched = |record: &Record| plan.touched.contains(&record.source);
    let records = || plan.ledger.records.values().filter(|r| is_touched(r));
    // The same staging as it was before.
    let before = |record: &Record| {
        view.ledger.records.get(&record.raw_id).filter(|before| before.order == record.order)
    };
    for record in records().filter(|r| r.state == State::Published) {
        let versions = published.entry(&record.source).or_default();
        *versions += 1;
        ensure(*versions == 1 || reupload == Reupload::Append, Invariant::Src1, || {
            format!("{} would be published twice", record.source)
        })?;
        ensure(record.passed, Invariant::Pub1, || format!("{} did not pass", record.raw_id))?;
        let was_held = before(record).is_some_and(Record::awaits_decision);
        let released = record.decision.as_ref().map(|d| d.ruling == Ruling::Released);
        ensure(released.unwrap_or(!was_held), Invariant::Pub1, || {
            format!("{} was held, and nobody released it", record.raw_id)
        })?;
        rows += record.rows;
        if let Some((holder, _)) = &record.files_of {
            ensure(holders.insert(holder), Invariant::Pub2, || {
                format!("{holder} would be published twice")
            })?;
        }
    }
    let record_of = |path: &str| plan.ledger.records.get(&raw_id_of(path)?);
    let kept = view.files.iter().filter(|(path, _)| {
        !plan.removed.contains(*path) && record_of(path).is_none_or(is_touched)
    });
    let kept: BTreeMap<&str, u64> = kept.map(|(p, (_, e))| (p.as_str(), e.file.rows)).collect();
    let mut files = kept;
    for (_, file) in &plan.added {
        let first = files.insert(&file.path, file.rows).is_none();
        ensure(first, Invariant::Pub2, || format!("{} would be there twice", file.path))?;
    }
    for path in files.keys() {
        let of_published = raw_id_of(path).is_some_and(|id| holders.contains(&id));
        ensure(of_published, Invariant::Pub1, || format!("{path} belongs to nothing published"))?;
    }
    let in_files: u64 = files.values().sum();
    ensure(in_files == rows, Invariant::Sum1, || {
        format!("{in_files} rows in files, {rows} in the ledger")
    })?;
    for (id, before) in &view.ledger.records {
        let after = plan.ledger.records.get(id);
        ensure(after.is_some_and(|after| after.rank() >= before.rank()), Invariant::Ord1, || {
            format!("{id} would fall below order {}", before.rank())
        })?;
        let kept = |after: &Record| {
            before.decision.is_none()
                || after.rank() > before.rank()
                || after.decision == before.decision
        };
        ensure(after.is_some_and(kept), Invariant::Ord1, || {
            format!("what was decided on {id} would be forgotten")
        })?;
    }
    for after in plan.changed.iter().filter_map(|id| plan.ledger.records.get(id)) {
        let before = view.ledger.records.get(&after.raw_id);
        // A rollback restores a staging that was paid for already.
        let is_staged_anew = before
            .is_none_or(|before| before.order < after.order && after.barrier <= before.barrier);
        let staged = if is_staged_anew { after.receipt.cost_nano_usd.total() } else { 0 };
        let expected = before.map_or(0, Record::spent).saturating_add(staged);
        ensure(after.spent() == expected, Invariant::Cost1, || {
            format!("{}: {} nano-dollars, {expected} were spent", after.raw_id, after.spent())
        })?;
    }
    for change in plan.partitions.iter().filter(|c| c.change == Change::Restated) {
        ensure(!change.reasons.is_empty() && !change.raw_ids.is_empty(), Invariant::Late1, || {
            format!("{} is restated without a reason", change.partition)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::ledger::Ledger;

    fn ledger(state: &str, decision: Option<&str>) -> Ledger {
        let id = "20130102T030405Z-0123456789abcdef0123456789abcdef";
        let order = "e0000000000-c00001-g00001";
        let files_of = (state == "published").then(|| json!([id, order]));
        let decision = decision.map(|ruling| {
            json!({"v": 1, "ruling": ruling, "by": "ann", "why": "w", "at": "2013-01-02T03:04:05Z"})
        });
        let record = json!({
            "raw_id": id, "source": "s", "state": state, "order": order, "passed": state == "published",
            "sequencer": null, "sha256": null, "files_of": files_of, "files": 0, "rows": 0, "quarantined": 0,
            "event_range": null, "late": null, "late_rows": 0, "published_at": null, "reason": null,
            "decision": decision, "receipt": {"duration_ms": 0, "requests": {}},
        });
        serde_json::from_value(json!({"v": 1, "records": [record]})).unwrap()
    }

    /// What is broken by going from one ledger to another.
    fn broken(before: Ledger, after: Ledger) -> Option<Invariant> {
        let view = View { ledger: before, ..View::default() };
        let plan = Plan {
            touched: after.records.values().map(|r| r.source.clone()).collect(),
            ledger: after,
            added: Vec::new(),
            removed: BTreeSet::new(),
            partitions: Vec::new(),
            changed: BTreeSet::new(),
        };
        check(&view, &plan, Reupload::Replace).err().map(|violation| violation.invariant)
    }

    #[test]
    fn what_was_held_is_published_by_a_recorded_release_alone() {
        let held = || ledger("held", None);
        assert_eq!(broken(held(), ledger("published", None)), Some(Invariant::Pub1));
        assert_eq!(broken(held(), ledger("published", Some("rejected"))), Some(Invariant::Pub1));
        assert_eq!(broken(held(), ledger("published", Some("released"))), None);
        assert_eq!(broken(held(), ledger("rejected", Some("rejected"))), None);
        assert_eq!(broken(Ledger::default(), ledger("published", None)), None);
    }

    #[test]
    fn a_decision_is_never_forgotten_or_changed() {
        let rejected = || ledger("rejected", Some("rejected"));
        assert_eq!(broken(rejected(), ledger("held", None)), Some(Invariant::Ord1));
        assert_eq!(broken(rejected(), ledger("rejected", Some("released"))), Some(Invariant::Ord1));
        assert_eq!(broken(rejected(), rejected()), None);
        assert_eq!(broken(rejected(), Ledger::default()), Some(Invariant::Ord1));
    }
}
