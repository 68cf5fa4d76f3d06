//! The ledger: one record for every raw object ever promoted, also of those without files.
//!
//! It is what makes a late message harmless: a proposal at or below a record's order changes nothing, for ever,
//! whatever snapshots are retained.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluicegate_lake::name::upload_rank;
use sluicegate_lake::{Order, RawId, Source};

use crate::proposal::{Decision, Proposal, Receipt, Ruling};

/// What has become of a raw object, once promoted. Before that it is waiting (no contract) or pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its rows are in the table.
    Published,
    /// It waits for a person.
    Held,
    /// It could not be read, a person rejected it, or its source may not be uploaded again.
    Rejected,
    /// Another version of its source is published.
    Superseded,
    /// A rollback took it out.
    Withdrawn,
}

impl State {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Held => "held",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// One raw object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub raw_id: RawId,
    pub source: Source,
    pub state: State,
    /// The order of the proposal that it is now.
    pub order: Order,
    /// Whether that proposal may be published; which version of a source is, follows from it.
    pub passed: bool,
    pub sequencer: Option<String>,
    pub sha256: Option<String>,
    /// Whose data files hold its rows: its own, or those of an older version with the same content.
    pub files_of: Option<(RawId, Order)>,
    pub files: u64,
    pub rows: u64,
    pub quarantined: u64,
    pub event_range: Option<(i64, i64)>,
    /// The day since 1970 on which most of its rows happened, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_day: Option<i64>,
    /// Partitions that were closed when its source was first published; `None` until then. Never decided again.
    pub late: Option<Vec<i32>>,
    pub late_rows: u64,
    /// Whether it was from before the dataset's first day when its source was first published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backfill: bool,
    /// When it was first published.
    pub published_at: Option<Timestamp>,
    /// Why it is held or rejected.
    pub reason: Option<String>,
    /// What a person made of this very proposal, which was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The number of the rollback that gave it its state: what was staged at a lower epoch changes nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub barrier: u64,
    pub receipt: Receipt,
    /// What its earlier stagings cost, in nano-dollars: a replay's receipt takes the place of theirs.
    #[serde(default)]
    pub spent_before: u64,
    /// Size of the raw object.
    #[serde(default)]
    pub bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Record {
    /// What a proposal says of its raw object. What passed is rejected until its source's versions are ranked; lateness
    /// is still to be decided.
    pub fn of(proposal: &Proposal) -> Self {
        let coverage = proposal.verdict.coverage();
        Self {
            raw_id: proposal.raw_id.clone(),
            source: proposal.source.clone(),
            state: if proposal.is_held() { State::Held } else { State::Rejected },
            order: proposal.order,
            passed: proposal.passed(None),
            sequencer: proposal.sequencer.clone(),
            sha256: proposal.sha256.clone(),
            files_of: None,
            files: proposal.files.len() as u64,
            rows: coverage.rows_accepted,
            quarantined: coverage.rows_quarantined,
            event_range: proposal.event_range,
            main_day: proposal.profile.as_ref().and_then(|profile| profile.events.main_day()),
            late: None,
            late_rows: 0,
            backfill: false,
            published_at: None,
            reason: proposal.verdict.reasons().first().map(|r| r.message.clone()),
            decision: None,
            barrier: 0,
            receipt: proposal.receipt.clone(),
            spent_before: 0,
            bytes: proposal.bytes,
        }
    }

    /// What a proposal's order must be above to change it. It never falls.
    pub fn rank(&self) -> Order {
        self.order.max(Order { epoch: self.barrier, contract: 0, engine: 0 })
    }

    /// Whether it had rows for closed partitions when its source came first.
    pub fn is_late(&self) -> bool {
        self.late.as_ref().is_some_and(|late| !late.is_empty())
    }

    /// As the contract wants it that holds late files. What is late only while another version of its source is not published
    /// is held undecided.
    #[must_use]
    pub(crate) fn held_as_late(self) -> Self {
        let late = self.late.clone().filter(|late| !late.is_empty());
        let reason = match &late {
            Some(late) => {
                format!("late: {} rows for closed partitions ({})", self.late_rows, late.len())
            }
            None => "late, unless an older version of it is published".to_owned(),
        };
        let (state, passed, files_of) = (State::Held, false, None);
        Self { state, passed, files_of, late, reason: Some(reason), ..self }
    }

    /// What all of its stagings cost, in nano-dollars.
    pub fn spent(&self) -> u64 {
        self.spent_before.saturating_add(self.receipt.cost_nano_usd.total())
    }

    /// Whether a decision on the proposal that it is now would change it.
    pub fn awaits_decision(&self) -> bool {
        self.state == State::Held && self.decision.is_none()
    }

    /// As a person decided. What is released is ranked like whatever else passed.
    #[must_use]
    pub fn decided(self, decision: &Decision) -> Self {
        Self {
            state: State::Rejected,
            passed: decision.ruling == Ruling::Released,
            reason: Some(decision.to_string()),
            decision: Some(decision.clone()),
            ..self
        }
    }

    /// Whether its rows are, or were, in the table as they are recorded here.
    pub fn was_published(&self) -> bool {
        self.published_at.is_some() && matches!(self.state, State::Published | State::Superseded)
    }

    /// Ranks the versions of a source by upload: second, then sequencer, then id.
    pub fn upload_rank(&self) -> impl Ord + use<> {
        upload_rank(&self.raw_id, self.sequencer.as_deref())
    }
}

/// Records by raw id, which is by landing time: all of a dataset's, or a page of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Page", into = "Page")]
pub struct Ledger {
    pub records: BTreeMap<RawId, Record>,
}

/// A ledger as it is written.
#[derive(Serialize, Deserialize)]
struct Page {
    v: u32,
    records: Vec<Record>,
}

impl Ledger {
    /// The present format of a page.
    pub const FORMAT: u32 = 1;
}

impl TryFrom<Page> for Ledger {
    type Error = String;
    fn try_from(page: Page) -> Result<Self, String> {
        if page.v != Self::FORMAT {
            return Err(format!("ledger format {} is not known", page.v));
        }
        let records = page.records.into_iter().map(|r| (r.raw_id.clone(), r)).collect();
        Ok(Self { records })
    }
}

impl From<Ledger> for Page {
    fn from(ledger: Ledger) -> Self {
        Self { v: Ledger::FORMAT, records: ledger.records.into_values().collect() }
    }
}
