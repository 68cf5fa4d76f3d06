//! What a dataset's stagings cost in a calendar month (UTC), beside what its contract allows.
//!
//! Guarantees: the present month is known from the snapshot's summary, without a ledger page. By each commit it grows by
//! what the ledger's cost grows by, nothing else, fresh data and replays apart. What is staged counts to the month whose commit
//! records it. A month never goes back: where clocks differ, the later one is kept and added to. A snapshot from before
//! summaries had months counts as nothing spent. Pure but for [`read`].

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
use crate::ledger::Record;
use crate::plan::Plan;
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
        let first_day = now.to_zoned(TimeZone::UTC).date().first_of_month();
        let snapshot = view.metadata.as_ref().and_then(TableMetadata::current_snapshot);
        let kept = snapshot.and_then(|s| Self::of(&s.summary));
        kept.filter(|kept| kept.first_day >= first_day).unwrap_or(Self {
            first_day,
            fresh: 0,
            replays: 0,
        })
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

    /// With what a plan's records spent that the view's had not.
    #[must_use]
    pub(crate) fn plus(mut self, view: &View, plan: &Plan) -> Self {
        for record in plan.changed.iter().filter_map(|id| plan.ledger.records.get(id)) {
            let before = view.ledger.records.get(&record.raw_id).map_or(0, Record::spent);
            let spent = record.spent().saturating_sub(before);
            let share = if record.order.epoch == 0 { &mut self.fresh } else { &mut self.replays };
            *share = share.saturating_add(spent);
        }
        self
    }

    /// As a snapshot's summary says it.
    pub(crate) fn summary(self) -> [(String, String); 3] {
        [(MONTH, self.name()), (FRESH, self.fresh.to_string()), (REPLAYS, self.replays.to_string())]
            .map(|(key, value)| (key.to_owned(), value))
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
    let view = View::open(store, dataset).await?;
    Ok(Month::at(&view, ambient.now()).beside(allowed(store, dataset).await?))
}

/// What a dataset's contract allows; a dataset without one has no budget.
pub async fn allowed(store: &dyn Store, dataset: &Dataset) -> Result<Budget, CommitError> {
    let Some((_, version)) = current_contract(store, dataset).await? else {
        return Ok(Budget::default());
    };
    Ok(version.contract().map_err(|e| CommitError::Contract(e.to_string()))?.budget)
}
