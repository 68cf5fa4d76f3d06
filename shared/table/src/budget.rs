//! What a dataset's stagings cost in a calendar month (UTC), beside what its contract allows.
//!
//! Guarantees: the present month is known from the snapshot's summary, without a ledger page. By each commit it grows by
//! what the ledger's cost grows by and by what publishing took, nothing else, fresh data and replays apart. What is staged counts to the month whose commit
//! records it. A month never goes back: where clocks differ, the later one is kept and added to. A snapshot from before
//! summaries had months counts as nothing spent. Pure but for what reads the contract.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use sluicegate_contract::Budget;
use sluicegate_lake::{Ambient, Dataset, Store};

use crate::commit::CommitError;
use crate::contracts::current_contract;
use crate::iceberg::metadata::TableMetadata;
use crate::ledger::{Ledger, Record};
use crate::view::View;

/// Keys of a snapshot's summary.
const MONTH: &str = "sluicegate.month";
const FRESH: &str = "sluicegate.month-fresh-nano-usd";
const REPLAYS: &str = "sluicegate.month-replay-nano-usd";

/// What was spent in a month, in nano-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Month {
    first_day: Date,
    /// What was staged as it landed.
    pub fresh: u64,
    /// What was staged again.
    pub replays: u64,
}

/// A month beside its budget, in nano-dollars.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Such as `2026-11`.
    pub month: String,
    pub fresh_nano_usd: u64,
    pub fresh_budget_nano_usd: Option<u64>,
    pub replay_nano_usd: u64,
    pub replay_budget_nano_usd: Option<u64>,
}

impl Month {
    /// The month that it is now, as the table's present snapshot has it.
    pub fn at(view: &View, now: Timestamp) -> Self {
        Self::after(Self::last(view), now)
    }

    /// The month of a commit. One that spends nothing begins none: a rollback may be by a person whose clock is ahead.
    pub(crate) fn of_commit(
        view: &View,
        after: &Ledger,
        billed: u64,
        epochs: &[u64],
        now: Timestamp,
    ) -> Self {
        let at = Self::at(view, now);
        let next = at.plus(&view.ledger, after).billed(billed, epochs);
        if next == at { Self::last(view).unwrap_or(next) } else { next }
    }

    /// Beside what the contract allows.
    pub fn beside(self, budget: Budget) -> Standing {
        Standing {
            month: self.name(),
            fresh_nano_usd: self.fresh,
            fresh_budget_nano_usd: budget.fresh,
            replay_nano_usd: self.replays,
            replay_budget_nano_usd: budget.replays,
        }
    }

    /// With what was spent from one ledger to the next.
    #[must_use]
    pub(crate) fn plus(mut self, before: &Ledger, after: &Ledger) -> Self {
        for (id, record) in &after.records {
            let before = before.records.get(id);
            let spent = record.spent().saturating_sub(before.map_or(0, Record::spent));
            // A record that goes over a staging has its cost as well: that was fresh, if the one before it was.
            let is_new = before.is_none_or(|before| before.order != record.order);
            let own = record.receipt.cost_nano_usd.total().min(if is_new { spent } else { 0 });
            self.add(record.order.epoch, own);
            self.add(before.map_or(0, |before| before.order.epoch), spent - own);
        }
        self
    }

    /// With what publishing took, by how many of the raw objects were fresh.
    #[must_use]
    fn billed(mut self, billed: u64, epochs: &[u64]) -> Self {
        let all = epochs.len().max(1) as u128;
        let fresh = epochs.iter().filter(|epoch| **epoch == 0).count() as u128;
        let fresh = u64::try_from(u128::from(billed) * fresh / all).unwrap_or(billed);
        self.add(0, fresh);
        self.add(1, billed - fresh);
        self
    }

    fn add(&mut self, epoch: u64, spent: u64) {
        let share = if epoch == 0 { &mut self.fresh } else { &mut self.replays };
        *share = share.saturating_add(spent);
    }

    /// As a snapshot's summary says it.
    pub(crate) fn summary(self) -> [(String, String); 3] {
        [(MONTH, self.name()), (FRESH, self.fresh.to_string()), (REPLAYS, self.replays.to_string())]
            .map(|(key, value)| (key.to_owned(), value))
    }

    /// That of the present snapshot.
    fn last(view: &View) -> Option<Self> {
        let snapshot = view.metadata.as_ref().and_then(TableMetadata::current_snapshot);
        Self::of(&snapshot?.summary)
    }

    /// The month that it is when the last that is known is this one.
    fn after(last: Option<Self>, now: Timestamp) -> Self {
        let first_day = now.to_zoned(TimeZone::UTC).date().first_of_month();
        let begun = Self { first_day, fresh: 0, replays: 0 };
        last.filter(|last| last.first_day >= first_day).unwrap_or(begun)
    }

    fn of(summary: &BTreeMap<String, String>) -> Option<Self> {
        let nano = |key: &str| summary.get(key)?.parse().ok();
        Some(Self {
            first_day: format!("{}-01", summary.get(MONTH)?).parse().ok()?,
            fresh: nano(FRESH)?,
            replays: nano(REPLAYS)?,
        })
    }

    fn name(self) -> String {
        self.first_day.strftime("%Y-%m").to_string()
    }
}

impl Standing {
    /// Whether fresh data cost more than its budget.
    pub fn is_over(&self) -> bool {
        self.fresh_budget_nano_usd.is_some_and(|budget| self.fresh_nano_usd > budget)
    }

    /// What replays may still spend; `None` without a budget.
    pub fn left_for_replays(&self) -> Option<u64> {
        Some(self.replay_budget_nano_usd?.saturating_sub(self.replay_nano_usd))
    }
}

/// The present month of a dataset.
pub async fn read(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
) -> Result<Standing, CommitError> {
    standing(store, ambient, dataset, &View::open(store, dataset).await?).await
}

/// The present month of a dataset, as a view of its table has it, beside what the contract allows now.
pub async fn standing(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    view: &View,
) -> Result<Standing, CommitError> {
    Ok(Month::at(view, ambient.now()).beside(allowed(store, dataset).await?))
}

/// What a dataset's contract allows; a dataset without one has no budget.
pub(crate) async fn allowed(store: &dyn Store, dataset: &Dataset) -> Result<Budget, CommitError> {
    let Some((_, version)) = current_contract(store, dataset).await? else {
        return Ok(Budget::default());
    };
    Ok(version.contract().map_err(|e| CommitError::Contract(e.to_string()))?.budget)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluicegate_lake::{Order, RawId};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn id(n: u32) -> RawId {
        RawId::new(Timestamp::from_second(i64::from(n)).unwrap(), "b", "k", &n.to_string())
    }

    /// A ledger after another staging of a raw object.
    fn staged(ledger: &Ledger, n: u32, epoch: u64, cost: u64) -> Ledger {
        let mut ledger = ledger.clone();
        let known = ledger.records.get(&id(n));
        let record = serde_json::from_value(serde_json::json!({
            "raw_id": id(n), "source": "s", "state": "published", "order": Order { epoch, contract: 1, engine: 1 },
            "passed": true, "sequencer": null, "sha256": null, "files_of": null, "files": 1, "rows": 1, "quarantined": 0,
            "event_range": null, "late": null, "late_rows": 0, "published_at": null, "reason": null,
            "receipt": {"duration_ms": 0, "requests": {}, "cost_nano_usd": {"s3": cost}},
            "spent_before": known.map_or(0, Record::spent),
        }));
        ledger.records.insert(id(n), record.unwrap());
        ledger
    }

    /// What the next commit reads of a snapshot.
    fn kept(month: Month) -> Option<Month> {
        Month::of(&BTreeMap::from(month.summary()))
    }

    fn total(ledger: &Ledger) -> u64 {
        ledger.records.values().map(Record::spent).sum()
    }

    #[test]
    fn fresh_data_and_replays_are_counted_apart_and_a_new_month_begins_with_nothing() {
        let (none, late) = (Ledger::default(), at("2026-11-30T23:59:59Z"));
        let first = staged(&none, 1, 0, 70);
        let november = Month::after(None, late).plus(&none, &first);
        assert_eq!((november.fresh, november.replays), (70, 0));
        let again = staged(&staged(&first, 1, 5, 40), 2, 0, 3);
        let november = Month::after(kept(november), late).plus(&first, &again);
        assert_eq!((november.fresh, november.replays), (73, 40));
        // A commit that stages nothing, such as a rollback, keeps the sums.
        assert_eq!(Month::after(kept(november), late).plus(&again, &again), november);
        assert_eq!(november.beside(Budget::default()).month, "2026-11");
        let december = Month::after(kept(november), at("2026-12-01T00:00:00Z"));
        assert_eq!(december.beside(Budget::default()).month, "2026-12");
        assert_eq!((december.fresh, december.replays), (0, 0));
        // The clock of another promote is behind.
        assert_eq!(Month::after(kept(december), late), december);
    }

    #[test]
    fn what_was_staged_fresh_stays_so_where_a_replay_of_it_comes_in_the_same_commit() {
        let none = Ledger::default();
        let pending = staged(&none, 1, 0, 70);
        // The ledger sees both stagings at once, and the replay's is the one that it keeps.
        let both = staged(&pending, 1, 5, 40);
        let month = Month::after(None, at("2026-11-02T00:00:00Z")).plus(&none, &both);
        assert_eq!((month.fresh, month.replays), (70, 40));
    }

    #[test]
    fn what_publishing_took_is_shared_by_raw_objects_without_a_remainder() {
        let none = Month::after(None, at("2026-11-02T00:00:00Z"));
        let shares = |billed, epochs: &[u64]| {
            let month = none.billed(billed, epochs);
            (month.fresh, month.replays)
        };
        assert_eq!(shares(100, &[0, 0, 4]), (66, 34));
        assert_eq!(shares(100, &[0]), (100, 0));
        assert_eq!(shares(100, &[7]), (0, 100));
    }

    #[test]
    fn a_snapshot_that_knows_no_month_counts_as_nothing_spent() {
        let whole = Month { fresh: 7, ..Month::after(None, at("2026-11-02T00:00:00Z")) };
        assert_eq!(kept(whole), Some(whole));
        for key in [MONTH, FRESH, REPLAYS] {
            let mut summary = BTreeMap::from(whole.summary());
            summary.remove(key);
            assert_eq!(Month::of(&summary), None, "{key}");
        }
    }

    #[test]
    fn fresh_data_is_over_above_its_budget_and_replays_have_nothing_left_at_theirs() {
        let spent = Month { fresh: 10, replays: 10, ..Month::after(None, Timestamp::UNIX_EPOCH) };
        let with = |nano: Option<u64>| spent.beside(Budget { fresh: nano, replays: nano });
        assert_eq!([None, Some(10), Some(9)].map(|b| with(b).is_over()), [false, false, true]);
        let left = [None, Some(12), Some(10), Some(9)].map(|b| with(b).left_for_replays());
        assert_eq!(left, [None, Some(2), Some(0), Some(0)]);
    }

    proptest! {
        /// Commits whose clocks go back and forth, each with some stagings.
        #[test]
        fn the_months_of_all_commits_add_up_to_what_was_spent(
            commits in proptest::collection::vec(
                (0i64..150, proptest::collection::vec((0u32..6, 0u64..3, 0u64..1_000_000), 0..4)), 1..20),
        ) {
            let (mut ledger, mut last, mut closed) = (Ledger::default(), None, 0);
            for (n, (day, stagings)) in commits.into_iter().enumerate() {
                let mut next = ledger.clone();
                for (object, replayed, cost) in stagings {
                    let epoch = if replayed == 0 { 0 } else { n as u64 + 1 };
                    next = staged(&next, object, epoch, cost);
                }
                let now = Timestamp::from_second(day * 86_400).unwrap();
                let begun = Month::after(last, now);
                let month = begun.plus(&ledger, &next);
                let grown = month.fresh + month.replays - begun.fresh - begun.replays;
                prop_assert_eq!(grown, total(&next) - total(&ledger));
                if let Some(before) = last {
                    prop_assert!(month.first_day >= before.first_day);
                    if month.first_day > before.first_day {
                        closed += before.fresh + before.replays;
                    }
                }
                prop_assert!(month.first_day <= now.to_zoned(TimeZone::UTC).date() || Some(begun) == last);
                (ledger, last) = (next, kept(month));
                let open = month.fresh + month.replays;
                prop_assert_eq!(closed + open, total(&ledger));
            }
        }
    }
}
