//! Replays that are planned: which raw objects, what staging them again should cost, and how far it has come.
//!
//! Guarantees: a plan is immutable, and there only once all of it is. Of its objects none is handed out to be sent once what is
//! spent and what is reserved reaches the budget (REP-2), nor once what replays spent this month and what is reserved reaches
//! the contract's budget for them (REP-3): what is to be sent is claimed by a swap of the plan's
//! progress first, so of two that run a plan one goes on, and whoever finds a claim that nobody confirmed sends its messages again,
//! which stages nothing twice. What a claim costs is reserved as the plan expects it until the ledger has it at the plan's
//! epoch, and is then what its receipt says, and what publishing one costs on average. Only ledger pages are read, never
//! data. What may not be done is a
//! [`Refusal`]; any other failure leaves it open whether it was done, and doing it again tells.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sluicegate_lake::cas::{Swap, Writer};
use sluicegate_lake::{
    Ambient, Dataset, ETag, Expected, PlanId, RawId, Source, Store, StoreError, keys, list_all,
};

use crate::bill;
use crate::budget::{self, Month};
use crate::commit::{AT_ONCE, CommitError};
use crate::ledger::{Record, State};
use crate::proposal::Receipt;
use crate::tree::PageRef;
use crate::view::View;

/// Objects that one chunk of a plan names; the last one has the rest.
const CHUNK: usize = 1000;

/// Chunks that are counted together: a page that lies in several is read once.
const TOGETHER: usize = 8;

/// Objects that a step sends at most, and seconds from one step to the next.
pub const STEP: usize = 500;
pub const REST: u64 = 10;

/// How often an authorization is tried against a run that goes on meanwhile.
const TRIES: u32 = 8;

/// Which raw objects: those of the ledger for which all that is given here is true. Days are UTC, and included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    pub dataset: Dataset,
    /// These. What waits for its contract or is pending is staged again only if it is among them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub raw_ids: BTreeSet<RawId>,
    /// The first and the last day of landing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed_from: Option<Date>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed_to: Option<Date>,
    /// Events of these days, the first and the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_from: Option<Date>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_to: Option<Date>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// With quarantined rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
    /// Last staged under a version of the contract that is older than the one of this sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_below: Option<u32>,
    /// Last staged by an engine older than this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_below: Option<u32>,
}

/// `replays/<dataset>/<plan id>/plan.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The format of this object.
    pub v: u32,
    pub id: PlanId,
    pub at: Timestamp,
    pub selection: Selection,
    /// The number of the table's snapshot, which whatever is staged by this plan carries.
    pub epoch: u64,
    pub objects: u64,
    /// Size of the raw objects.
    pub bytes: u64,
    /// Those whose receipts have prices; the others are taken to cost the same by the byte.
    pub priced_objects: u64,
    pub priced_bytes: u64,
    /// The sum of these receipts, with the newest of their price lists.
    pub receipt: Receipt,
    /// What publishing an object costs besides, in nano-dollars, by the experience of the table's snapshots.
    #[serde(default)]
    pub publishing: u64,
    /// Raw objects that are staged again at the same time.
    pub concurrency: u32,
}

/// `replays/<dataset>/<plan id>/<n>.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The format of this object.
    pub v: u32,
    pub objects: Vec<Object>,
}

/// A raw object of a plan. Costs are in nano-dollars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub source: Source,
    pub raw_id: RawId,
    pub bytes: u64,
    /// What staging it cost the last time; absent where its receipt has no prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// What all of its stagings had cost when this was planned.
    #[serde(default)]
    pub spent: u64,
}

/// Whether a plan is being carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Running,
    /// The budget does not allow what is left.
    Capped,
    /// The contract's budget for this month's replays does not.
    Month,
    /// What was sent is not in the ledger for a long time.
    Stalled,
    /// Everything was sent, and is in the ledger.
    Done,
}

impl RunState {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Capped => "capped",
            Self::Month => "month",
            Self::Stalled => "stalled",
            Self::Done => "done",
        }
    }
}

/// `replays/<dataset>/<plan id>/progress.json`: how far a plan is carried out. Costs are in nano-dollars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The format of this object.
    pub v: u32,
    pub state: RunState,
    pub budget: u64,
    /// Leading objects of the plan whose messages were sent.
    pub sent: u64,
    /// Leading objects that may be sent, and have their cost reserved.
    pub claimed: u64,
    /// What the claimed ones should cost.
    pub estimated: u64,
    /// Those that the ledger has at the plan's epoch.
    pub settled: u64,
    /// What they cost.
    pub spent: u64,
    /// What the claimed ones should cost that are not settled.
    pub reserved: u64,
    /// Chunks with claimed objects that are looked up in the ledger again; of all other chunks everything is settled.
    pub open: BTreeSet<u64>,
    /// How many those were, and what they cost.
    pub closed: u64,
    pub closed_spent: u64,
    /// The step that is next: a message of an earlier one comes too late.
    pub step: u64,
    pub at: Timestamp,
}

/// What is to be done next: to be claimed, sent and confirmed.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    before: ETag,
    pub progress: Progress,
    pub objects: Vec<Object>,
    /// Whether anything was sent or settled since the step before.
    pub moved: bool,
}

/// Why there is no plan, or why it is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the {0} window ends before it begins")]
    Window(&'static str),
    #[error("nothing of {0} is selected")]
    Nothing(Dataset),
    #[error("{missing} raw ids are not in {dataset}, the first is {first}")]
    Unknown { dataset: Dataset, missing: usize, first: RawId },
    #[error("{0} has no plan {1}")]
    NoPlan(Dataset, PlanId),
    #[error(
        "it should cost {cost} nano-dollars, and the budget is {budget}: raise it, or ask for as much as it pays for"
    )]
    AboveBudget { cost: u64, budget: u64 },
    #[error(
        "what its objects cost is not known, so no budget holds: none was staged since receipts have prices; replay them by day or raw id"
    )]
    Unpriced,
    #[error(
        "this month's budget for replays of {0} is used up: replay next month, or under a contract that allows more"
    )]
    Month(Dataset),
}

/// Why a replay is not planned or carried out.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] CommitError),
}

impl From<StoreError> for ReplayError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Selection {
    /// Everything of a dataset.
    pub fn all(dataset: Dataset) -> Self {
        Self {
            dataset,
            raw_ids: BTreeSet::new(),
            landed_from: None,
            landed_to: None,
            events_from: None,
            events_to: None,
            state: None,
            quarantined: false,
            contract_below: None,
            engine_below: None,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        let ends_first =
            |from: Option<Date>, to: Option<Date>| from.zip(to).is_some_and(|(f, t)| t < f);
        if ends_first(self.landed_from, self.landed_to) {
            return Err(Refusal::Window("landing"));
        }
        if ends_first(self.events_from, self.events_to) {
            return Err(Refusal::Window("event"));
        }
        Ok(())
    }

    /// Whether a page may have records that are selected, as far as the ledger's root can tell.
    fn may_be_in(&self, page: &PageRef) -> bool {
        if !self.raw_ids.is_empty() {
            let named = self.raw_ids.range(&page.first..).next();
            return named.is_some_and(|id| *id <= page.last);
        }
        self.state.is_none_or(|state| page.states.contains_key(&state))
            && self.landed_from.is_none_or(|from| landed(&page.last) >= from)
            && self.landed_to.is_none_or(|to| landed(&page.first) <= to)
    }

    fn takes(&self, record: &Record) -> bool {
        let day = landed(&record.raw_id);
        (self.raw_ids.is_empty() || self.raw_ids.contains(&record.raw_id))
            && self.landed_from.is_none_or(|from| day >= from)
            && self.landed_to.is_none_or(|to| day <= to)
            && self.has_events_of(record)
            && self.state.is_none_or(|state| record.state == state)
            && (!self.quarantined || record.quarantined > 0)
            && self.contract_below.is_none_or(|sequence| record.order.contract < sequence)
            && self.engine_below.is_none_or(|engine| record.order.engine < engine)
    }

    fn has_events_of(&self, record: &Record) -> bool {
        if self.events_from.is_none() && self.events_to.is_none() {
            return true;
        }
        record.event_range.is_some_and(|(first, last)| {
            self.events_from.is_none_or(|from| last >= starts(from))
                && self
                    .events_to
                    .and_then(|to| to.tomorrow().ok())
                    .is_none_or(|end| first < starts(end))
        })
    }

    /// Whether it asks for something that only a record tells.
    fn asks_of_records(&self) -> bool {
        self.events_from.is_some()
            || self.events_to.is_some()
            || self.state.is_some()
            || self.quarantined
            || self.contract_below.is_some()
            || self.engine_below.is_some()
    }
}

fn landed(id: &RawId) -> Date {
    id.landed_at().to_zoned(TimeZone::UTC).date()
}

/// The first microsecond of a day.
fn starts(day: Date) -> i64 {
    day.to_zoned(TimeZone::UTC).map_or(i64::MAX, |at| at.timestamp().as_microsecond())
}

impl Plan {
    /// The object's present format.
    pub const FORMAT: u32 = 1;

    /// What an object should cost, in nano-dollars.
    pub fn expected(&self, object: &Object) -> u64 {
        let staging = object.expected.unwrap_or_else(|| self.by_the_byte(object.bytes));
        staging.saturating_add(self.publishing)
    }

    /// What all of it should cost, in nano-dollars.
    pub fn cost(&self) -> u64 {
        let unpriced = self.by_the_byte(self.bytes.saturating_sub(self.priced_bytes));
        let publishing = self.publishing.saturating_mul(self.objects);
        self.receipt.cost_nano_usd.total().saturating_add(unpriced).saturating_add(publishing)
    }

    /// Memory times time of stage, in GB seconds.
    pub fn gb_seconds(&self) -> f64 {
        self.whole(self.receipt.used.mb_ms) / 1024.0 / 1000.0
    }

    /// Requests of stage to S3 and SQS.
    pub fn requests(&self) -> f64 {
        self.whole(self.receipt.used.requests.values().sum())
    }

    /// How long it takes, where nothing else waits in the queue.
    pub fn minutes(&self) -> f64 {
        let Receipt { used, .. } = &self.receipt;
        let staged = self.whole(used.duration_ms) / 1000.0 / f64::from(self.concurrency.max(1));
        let sent = self.objects as f64 / STEP as f64 * REST as f64;
        staged.max(sent) / 60.0
    }

    fn by_the_byte(&self, bytes: u64) -> u64 {
        let cost = u128::from(self.receipt.cost_nano_usd.total()) * u128::from(bytes);
        let each = cost.checked_div(u128::from(self.priced_bytes)).unwrap_or_default();
        u64::try_from(each).unwrap_or(u64::MAX)
    }

    /// A sum over the priced objects, as one over all of them.
    fn whole(&self, sum: u64) -> f64 {
        let priced = if self.priced_bytes == 0 { self.bytes } else { self.priced_bytes };
        sum as f64 * self.bytes.max(1) as f64 / priced.max(1) as f64
    }

    /// Whether the ledger has what this plan staged, or what outranks it.
    fn is_settled(&self, record: &Record) -> bool {
        record.order.epoch >= self.epoch || record.barrier > self.epoch
    }
}

impl Progress {
    /// The object's present format.
    pub const FORMAT: u32 = 1;

    fn new(budget: u64, at: Timestamp) -> Self {
        Self {
            v: Self::FORMAT,
            state: RunState::Running,
            budget,
            sent: 0,
            claimed: 0,
            estimated: 0,
            settled: 0,
            spent: 0,
            reserved: 0,
            open: BTreeSet::new(),
            closed: 0,
            closed_spent: 0,
            step: 0,
            at,
        }
    }

    /// What is spent or may be, in nano-dollars.
    pub fn committed(&self) -> u64 {
        self.spent.saturating_add(self.reserved)
    }

    /// Whether the budget pays for one more object (REP-2).
    fn pays_for(&self, expected: u64) -> bool {
        self.committed() < self.budget && self.committed().saturating_add(expected) <= self.budget
    }

    /// Whether what is left of a month pays for one more object besides what is reserved (REP-3).
    fn fits(&self, expected: u64, left: u64) -> bool {
        self.reserved < left && self.reserved.saturating_add(expected) <= left
    }

    fn claim(&mut self, expected: u64) {
        self.open.insert(self.claimed / CHUNK as u64);
        self.claimed += 1;
        self.estimated = self.estimated.saturating_add(expected);
        self.reserved = self.reserved.saturating_add(expected);
    }
}

impl Object {
    fn of(record: &Record) -> Self {
        let cost = record.receipt.cost_nano_usd.total();
        Self {
            source: record.source.clone(),
            raw_id: record.raw_id.clone(),
            bytes: record.bytes,
            expected: (cost > 0).then_some(cost),
            spent: record.spent(),
        }
    }
}

/// Plans a replay at the table's present state, and keeps the plan. `concurrency` is how many raw objects are staged at the
/// same time.
pub async fn plan(
    store: &dyn Store,
    ambient: &dyn Ambient,
    selection: Selection,
    concurrency: u32,
) -> Result<Plan, ReplayError> {
    selection.check()?;
    let dataset = selection.dataset.clone();
    let view = View::open(store, &dataset).await?;
    let epoch = u64::try_from(view.number()).unwrap_or_default();
    let writer = Writer::new(store, ambient);
    let plan = Plan {
        v: Plan::FORMAT,
        id: PlanId::new(epoch, writer.attempt()),
        at: ambient.now(),
        selection,
        epoch,
        objects: 0,
        bytes: 0,
        priced_objects: 0,
        priced_bytes: 0,
        receipt: Receipt::default(),
        publishing: view.metadata.as_ref().map_or(0, bill::of_a_raw_object),
        concurrency,
    };
    let mut draft = Draft { writer, dataset: &dataset, plan, chunk: Vec::new(), chunks: 0 };
    let mut missing = draft.plan.selection.raw_ids.clone();
    for (n, page) in view.root.pages.iter().enumerate() {
        if !draft.plan.selection.may_be_in(page) {
            continue;
        }
        for record in view.records(store, &dataset, n).await? {
            missing.remove(&record.raw_id);
            if draft.plan.selection.takes(&record) {
                draft.add(Object::of(&record), Some(&record.receipt)).await?;
            }
        }
    }
    for object in unrecorded(store, &draft.plan.selection, missing).await? {
        draft.add(object, None).await?;
    }
    draft.finish().await
}

/// Raw objects that were asked for and are not in the ledger.
async fn unrecorded(
    store: &dyn Store,
    selection: &Selection,
    mut missing: BTreeSet<RawId>,
) -> Result<Vec<Object>, ReplayError> {
    let Selection { dataset, .. } = selection;
    let mut found = Vec::new();
    let (prefix, mut after) = (keys::raw_of_dataset(dataset), None);
    while !missing.is_empty() {
        let page = store.list(&prefix, after.as_deref()).await?;
        after = page.objects.last().map(|o| o.key.clone());
        for listed in page.objects {
            let Some((_, source, raw_id)) = keys::parse_raw(&listed.key) else { continue };
            if missing.remove(&raw_id) {
                found.push(Object { source, raw_id, bytes: listed.size, expected: None, spent: 0 });
            }
        }
        if !page.more {
            break;
        }
    }
    if let Some(first) = missing.first().cloned() {
        return Err(
            Refusal::Unknown { dataset: dataset.clone(), missing: missing.len(), first }.into()
        );
    }
    let day = |object: &Object| landed(&object.raw_id);
    found.retain(|object| {
        !selection.asks_of_records()
            && selection.landed_from.is_none_or(|from| day(object) >= from)
            && selection.landed_to.is_none_or(|to| day(object) <= to)
    });
    Ok(found)
}

/// A plan in the making: a chunk is written as soon as it is full.
struct Draft<'a> {
    writer: Writer<'a>,
    dataset: &'a Dataset,
    plan: Plan,
    chunk: Vec<Object>,
    chunks: u64,
}

impl Draft<'_> {
    async fn add(&mut self, object: Object, receipt: Option<&Receipt>) -> Result<(), ReplayError> {
        let plan = &mut self.plan;
        plan.objects += 1;
        plan.bytes += object.bytes;
        if let Some(receipt) = receipt.filter(|_| object.expected.is_some()) {
            plan.priced_objects += 1;
            plan.priced_bytes += object.bytes;
            plan.receipt = Receipt {
                used: plan.receipt.used.plus(&receipt.used),
                cost_nano_usd: plan.receipt.cost_nano_usd.plus(&receipt.cost_nano_usd),
                prices: plan.receipt.prices.max(receipt.prices),
            };
        }
        self.chunk.push(object);
        if self.chunk.len() == CHUNK { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), ReplayError> {
        let chunk = Chunk { v: Plan::FORMAT, objects: std::mem::take(&mut self.chunk) };
        let key = keys::replay_chunk(self.dataset, &self.plan.id, self.chunks);
        self.chunks += 1;
        self.writer.create(&key, json(&chunk)?).await?;
        Ok(())
    }

    async fn finish(mut self) -> Result<Plan, ReplayError> {
        if self.plan.objects == 0 {
            return Err(Refusal::Nothing(self.dataset.clone()).into());
        }
        if !self.chunk.is_empty() {
            self.write().await?;
        }
        let key = keys::replay_plan(self.dataset, &self.plan.id);
        self.writer.create(&key, json(&self.plan)?).await?;
        Ok(self.plan)
    }
}

/// The plans of a dataset, by epoch.
pub async fn list(store: &dyn Store, dataset: &Dataset) -> Result<Vec<PlanId>, ReplayError> {
    let listed = list_all(store, &keys::replays(dataset)).await?;
    Ok(listed.iter().filter_map(|object| keys::parse_replay_plan(&object.key)).collect())
}

/// A plan, and how far it has come as the ledger tells now; no progress of one that nobody has run.
pub async fn show(
    store: &dyn Store,
    dataset: &Dataset,
    id: &PlanId,
) -> Result<(Plan, Option<Progress>), ReplayError> {
    let plan = read_plan(store, dataset, id).await?;
    let progress = match read_progress(store, &plan).await? {
        None => None,
        Some((_, progress)) => {
            let view = View::open(store, dataset).await?;
            Some(standing(store, &view, &plan, progress).await?)
        }
    };
    Ok((plan, progress))
}

/// Allows a plan to spend so much, in nano-dollars, from its first message on; what stopped goes on. A budget below what the plan should
/// cost is refused unless it is to be carried out in part.
pub async fn authorize(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    id: &PlanId,
    budget: u64,
    partly: bool,
) -> Result<(Plan, Progress), ReplayError> {
    let plan = read_plan(store, dataset, id).await?;
    if plan.priced_objects == 0 {
        return Err(Refusal::Unpriced.into());
    }
    if plan.cost() > budget && !partly {
        return Err(Refusal::AboveBudget { cost: plan.cost(), budget }.into());
    }
    for _ in 0..TRIES {
        let (expected, progress) = match read_progress(store, &plan).await? {
            None => (Expected::Nothing, Progress::new(budget, ambient.now())),
            Some((_, progress)) if progress.state == RunState::Done => return Ok((plan, progress)),
            Some((tag, progress)) => {
                let state = RunState::Running;
                (
                    Expected::Tag(tag),
                    Progress {
                        state,
                        budget,
                        step: progress.step + 1,
                        at: ambient.now(),
                        ..progress
                    },
                )
            }
        };
        if swap(store, ambient, &plan, &progress, &expected).await? == Swap::Done {
            return Ok((plan, progress));
        }
    }
    Err(CommitError::Contended(TRIES).into())
}

/// Refuses a replay that has no plan where nothing is left of this month's budget for replays. What it will cost nobody knows.
pub async fn check_month(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
) -> Result<(), ReplayError> {
    let budget = budget::allowed(store, dataset).await?;
    if budget.replays.is_none() {
        return Ok(());
    }
    let view = View::open(store, dataset).await?;
    match Month::at(&view, ambient.now()).beside(budget).left_for_replays() {
        Some(0) => Err(Refusal::Month(dataset.clone()).into()),
        _ => Ok(()),
    }
}

/// What a plan's step comes to: at most `room` objects, or an earlier claim that nobody confirmed. `is_last` says that a step that
/// moves nothing is the last one. `None` where the plan is not running, or somebody has taken this step.
///
/// Whoever takes it sends the message of the step after it first, if the plan is still running: then a message whose
/// step is over has nothing left to do, and of a message that came twice one goes on.
pub async fn advance(
    store: &dyn Store,
    ambient: &dyn Ambient,
    plan: &Plan,
    step: u64,
    room: usize,
    is_last: bool,
) -> Result<Option<Step>, ReplayError> {
    let Some((tag, before)) = read_progress(store, plan).await? else { return Ok(None) };
    if before.state != RunState::Running || step < before.step {
        return Ok(None);
    }
    // After the progress: what a step counts as settled is no older than what it claims.
    let view = View::open(store, &plan.selection.dataset).await?;
    let mut progress = standing(store, &view, plan, before.clone()).await?;
    let mut stop = None;
    let mut objects = Vec::new();
    if progress.settled == progress.claimed {
        progress.sent = progress.claimed;
    }
    let is_claimed = progress.sent < progress.claimed;
    let to = progress.claimed.saturating_add(room as u64).min(plan.objects);
    let left = if is_claimed || progress.claimed < to {
        let month = budget::standing(store, ambient, &plan.selection.dataset, &view).await?;
        month.left_for_replays().unwrap_or(u64::MAX)
    } else {
        0
    };
    if is_claimed {
        // Since they were claimed the budgets may have become less.
        stop = if progress.committed() > progress.budget {
            Some(RunState::Capped)
        } else if progress.reserved > left {
            Some(RunState::Month)
        } else {
            objects = range(store, plan, progress.sent, progress.claimed).await?;
            None
        };
    } else {
        for object in range(store, plan, progress.claimed, to).await? {
            let expected = plan.expected(&object);
            if !progress.pays_for(expected) {
                stop = Some(RunState::Capped);
                break;
            }
            if !progress.fits(expected, left) {
                stop = Some(RunState::Month);
                break;
            }
            progress.claim(expected);
            objects.push(object);
        }
    }
    // Not what is sent once more: whoever can never send it would go on for ever.
    let moved = progress.claimed > before.claimed || progress.settled > before.settled;
    progress.state = if progress.settled == plan.objects {
        RunState::Done
    } else if let Some(stop) = stop.filter(|_| is_claimed || progress.reserved == 0) {
        stop
    } else if is_last && !moved {
        RunState::Stalled
    } else {
        RunState::Running
    };
    progress.step = step + 1;
    progress.at = ambient.now();
    Ok(Some(Step { before: tag, progress, objects, moved }))
}

/// Claims a step; `false` where somebody else has gone on with the plan meanwhile.
pub async fn claim(
    store: &dyn Store,
    ambient: &dyn Ambient,
    plan: &Plan,
    step: &Step,
) -> Result<bool, ReplayError> {
    let expected = Expected::Tag(step.before.clone());
    Ok(swap(store, ambient, plan, &step.progress, &expected).await? == Swap::Done)
}

/// Says that what a step claimed was sent; `false` where somebody else has gone on with the plan meanwhile.
pub async fn confirm(
    store: &dyn Store,
    ambient: &dyn Ambient,
    plan: &Plan,
    step: &Step,
) -> Result<bool, ReplayError> {
    let Some((tag, now)) = read_progress(store, plan).await? else { return Ok(false) };
    if now != step.progress {
        return Ok(false);
    }
    let progress = Progress { sent: now.claimed, at: ambient.now(), ..now };
    Ok(swap(store, ambient, plan, &progress, &Expected::Tag(tag)).await? == Swap::Done)
}

/// A plan.
pub async fn read_plan(
    store: &dyn Store,
    dataset: &Dataset,
    id: &PlanId,
) -> Result<Plan, ReplayError> {
    let plan: Option<(ETag, Plan)> = read(store, &keys::replay_plan(dataset, id)).await?;
    let refusal = || Refusal::NoPlan(dataset.clone(), id.clone());
    Ok(plan.ok_or_else(refusal)?.1)
}

async fn read_progress(
    store: &dyn Store,
    plan: &Plan,
) -> Result<Option<(ETag, Progress)>, ReplayError> {
    read(store, &keys::replay_progress(&plan.selection.dataset, &plan.id)).await
}

/// The progress with everything counted anew that was not settled for good.
async fn standing(
    store: &dyn Store,
    view: &View,
    plan: &Plan,
    mut progress: Progress,
) -> Result<Progress, ReplayError> {
    let dataset = &plan.selection.dataset;
    (progress.settled, progress.spent, progress.reserved) =
        (progress.closed, progress.closed_spent, 0);
    let open: Vec<u64> = std::mem::take(&mut progress.open).into_iter().collect();
    for group in open.chunks(TOGETHER) {
        let chunks: Vec<Chunk> = futures::stream::iter(group)
            .map(|n| read_chunk(store, plan, *n))
            .buffered(TOGETHER)
            .try_collect()
            .await?;
        let mut tallies: Vec<Tally> = Vec::with_capacity(chunks.len());
        let mut left: BTreeMap<&RawId, (usize, &Object)> = BTreeMap::new();
        for (n, chunk) in group.iter().zip(&chunks) {
            let first = n.saturating_mul(CHUNK as u64);
            let claimed = usize::try_from(progress.claimed.saturating_sub(first)).unwrap_or(CHUNK);
            let claimed = chunk.objects.get(..claimed).unwrap_or(&chunk.objects);
            left.extend(claimed.iter().map(|object| (&object.raw_id, (tallies.len(), object))));
            tallies.push(Tally::default());
        }
        // An id between two pages has no record.
        let holds = |page: &usize, id: &RawId| {
            let page = view.root.pages.get(*page);
            page.is_some_and(|page| (&page.first..=&page.last).contains(&id))
        };
        let pages = left.keys().filter_map(|id| view.root.page_of(id).filter(|p| holds(p, id)));
        let pages: BTreeSet<usize> = pages.collect();
        let mut read = futures::stream::iter(pages)
            .map(|page| view.records(store, dataset, page))
            .buffer_unordered(AT_ONCE);
        while let Some(records) = read.try_next().await? {
            for record in records.iter().filter(|record| plan.is_settled(record)) {
                let Some((at, object)) = left.remove(&record.raw_id) else { continue };
                let told = record.spent().saturating_sub(object.spent);
                // What a rollback has outranked is staged and paid for, and never reaches the ledger.
                let outranked = record.order.epoch < plan.epoch;
                let untold = if outranked { plan.expected(object) } else { 0 };
                if let Some(tally) = tallies.get_mut(at) {
                    tally.settled += 1;
                    let told = told.saturating_add(plan.publishing);
                    tally.spent = tally.spent.saturating_add(told.max(untold));
                }
            }
        }
        let expected = left.values().map(|(_, object)| plan.expected(object));
        progress.reserved = expected.fold(progress.reserved, u64::saturating_add);
        for ((n, chunk), Tally { settled, spent }) in group.iter().zip(&chunks).zip(tallies) {
            progress.settled += settled;
            progress.spent = progress.spent.saturating_add(spent);
            if settled == chunk.objects.len() as u64 {
                progress.closed += settled;
                progress.closed_spent = progress.closed_spent.saturating_add(spent);
            } else {
                progress.open.insert(*n);
            }
        }
    }
    Ok(progress)
}

/// What has settled of a chunk, and what that cost.
#[derive(Default)]
struct Tally {
    settled: u64,
    spent: u64,
}

/// The objects of a plan from one place to another, the latter not included.
async fn range(
    store: &dyn Store,
    plan: &Plan,
    from: u64,
    to: u64,
) -> Result<Vec<Object>, ReplayError> {
    let size = CHUNK as u64;
    let mut objects = Vec::new();
    for n in from / size..to.div_ceil(size) {
        let first = n.saturating_mul(size);
        let chunk = read_chunk(store, plan, n).await?;
        let places = (first..).zip(chunk.objects);
        objects.extend(places.filter(|(at, _)| (from..to).contains(at)).map(|(_, object)| object));
    }
    Ok(objects)
}

async fn read_chunk(store: &dyn Store, plan: &Plan, n: u64) -> Result<Chunk, ReplayError> {
    let key = keys::replay_chunk(&plan.selection.dataset, &plan.id, n);
    let chunk: Option<(ETag, Chunk)> = read(store, &key).await?;
    Ok(chunk.ok_or_else(|| CommitError::Corrupt(format!("{key} is missing")))?.1)
}

async fn swap(
    store: &dyn Store,
    ambient: &dyn Ambient,
    plan: &Plan,
    progress: &Progress,
    expected: &Expected,
) -> Result<Swap, ReplayError> {
    let key = keys::replay_progress(&plan.selection.dataset, &plan.id);
    Ok(Writer::new(store, ambient).swap(&key, json(progress)?.into(), expected).await?)
}

async fn read<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<(ETag, T)>, ReplayError> {
    match store.get(key).await {
        Ok((meta, bytes)) => {
            let object = serde_json::from_slice(&bytes)
                .map_err(|e| CommitError::Corrupt(format!("{key}: {e}")))?;
            Ok(Some((meta.etag, object)))
        }
        Err(StoreError::Absent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn json(object: &impl Serialize) -> Result<Vec<u8>, ReplayError> {
    serde_json::to_vec(object).map_err(|e| CommitError::Corrupt(e.to_string()).into())
}
