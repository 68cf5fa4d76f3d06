//! **promote**: proposals become visible, all those of an invocation and a dataset in one pointer swap.
//!
//! Guarantees: a message is answered only when its proposal is in the ledger at its order or above; the same message
//! again changes nothing; datasets do not wait for each other, up to [`DATASETS`] of them. A group that fails because
//! of one of its messages is bisected until that one is alone, so a poison message costs its own retries and nothing
//! else; one whose part of the table memory would not hold is bisected until it does; a group that fails because of the
//! store goes back to the queue as a whole, and so does what is left of a halved one when the invocation nears its end.
//!
//! Where fresh data cost more this month than its contract allows, it is published all the same and counted (`OverBudget`).
//!
//! Where there is a catalog, every group brings it up to the pointer. A catalog that fails is counted and left behind
//! until the next group; it fails no message.

mod tab;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use serde_json::Value;
use sluicegate_lake::catalog::Catalog;
use sluicegate_lake::{Ambient, Dataset, Store};
use sluicegate_runtime::cost::Meter;
use sluicegate_runtime::{
    BatchResponse, Envelope, HandlerError, PromoteMessage, Summary, envelopes,
};
use sluicegate_table::State;
use sluicegate_table::bill::Bill;
use sluicegate_table::budget::Standing;
use sluicegate_table::catalog::follow;
use sluicegate_table::commit::{CommitError, Options, Remedy, Report, Wanted, commit_with};
use tokio::sync::Mutex;

use tab::Tab;

/// What promote works with.
pub struct Promote {
    pub lake: Arc<dyn Store>,
    pub ambient: Arc<dyn Ambient>,
    /// Told of every commit, if there is one.
    pub catalog: Option<Arc<dyn Catalog>>,
    /// Prices every commit, if there is one.
    pub meter: Option<Meter>,
    /// Records or files that a page of the table's tree holds.
    pub page_weight: usize,
    /// Bytes of those pages that a commit of several messages may be about.
    pub widest: u64,
}

/// How long a group waits for the catalog, which may not be reachable at all.
const CATALOG_TIME: Duration = Duration::from_secs(10);

/// Datasets whose groups are committed at once. Of those that are about more than a few pages there is one at a time.
const DATASETS: usize = 8;

/// How long before the end of the invocation no further commit is begun: one takes seconds, and races for the pointer.
const MARGIN: Duration = Duration::from_secs(30);

/// What the groups of an invocation have in common.
struct Shared {
    /// How often each message was received.
    tries: BTreeMap<Wanted, u32>,
    until: Option<Timestamp>,
    large: Mutex<()>,
    /// Whether anything is done: an invocation that begins late does something all the same.
    is_begun: AtomicBool,
}

/// What became of one dataset's group.
#[derive(Default)]
struct Outcome {
    reports: Vec<Report>,
    failed: Vec<(Vec<Wanted>, CommitError)>,
    /// What there was no time for.
    left: Vec<Wanted>,
    catalog_failed: bool,
}

impl Promote {
    /// A promote without a catalog and without prices that writes pages of the usual size.
    pub fn new(lake: Arc<dyn Store>, ambient: Arc<dyn Ambient>) -> Self {
        let Options { page_weight, widest, .. } = Options::default();
        Self { lake, ambient, catalog: None, meter: None, page_weight, widest }
    }

    /// Handles one batch of promote messages.
    pub async fn handle(&self, event: Value, summary: &mut Summary) -> Result<Value, HandlerError> {
        let mut response = BatchResponse::default();
        let mut ids: BTreeMap<Dataset, BTreeMap<Wanted, Vec<String>>> = BTreeMap::new();
        let mut tries: BTreeMap<Wanted, u32> = BTreeMap::new();
        for Envelope { id, message, receives } in envelopes(event, &mut response, summary)? {
            let PromoteMessage { dataset, source, raw_id, order, .. } = message;
            let wanted = Wanted { source, raw_id, order };
            let most = tries.entry(wanted.clone()).or_default();
            *most = receives.max(*most);
            ids.entry(dataset).or_default().entry(wanted).or_default().push(id);
        }
        let metered = self
            .meter
            .as_ref()
            .map(|meter| (meter, meter.begin(self.ambient.now(), summary.init_ms())));
        let all = ids.values().map(BTreeMap::len).sum();
        let until = summary.deadline().map(|at| at - MARGIN);
        let shared =
            &Shared { tries, until, large: Mutex::new(()), is_begun: AtomicBool::new(false) };
        let groups = ids.iter().map(|(dataset, wanted)| {
            let share = (wanted.len(), all);
            let tab =
                metered.as_ref().map(|(meter, run)| Tab::open(meter, run, &*self.ambient, share));
            async move {
                let wanted = wanted.keys().cloned().collect();
                (dataset, self.promote(dataset, wanted, shared, tab).await)
            }
        });
        let outcomes: Vec<_> =
            futures::stream::iter(groups).buffer_unordered(DATASETS).collect().await;
        for (dataset, outcome) in outcomes {
            for report in &outcome.reports {
                count(dataset, report, summary);
            }
            summary.outcomes.catalog_failures += u64::from(outcome.catalog_failed);
            let of = |group: &[Wanted]| -> Vec<&String> {
                group.iter().filter_map(|w| ids.get(dataset)?.get(w)).flatten().collect()
            };
            of(&outcome.left).into_iter().for_each(|id| response.put_back(id, summary));
            for (group, error) in outcome.failed {
                match error {
                    CommitError::Violation(_) => summary.outcomes.invariant_violations += 1,
                    CommitError::Contended(attempts) => {
                        summary.outcomes.commit_attempts += u64::from(attempts);
                    }
                    _ => {}
                }
                let error = HandlerError::new(format!("{dataset}: {error}"));
                of(&group).into_iter().for_each(|id| response.fail(id, &error, summary));
            }
        }
        Ok(serde_json::to_value(response)?)
    }

    /// Commits a group, in halves where one of its messages is to blame.
    async fn promote(
        &self,
        dataset: &Dataset,
        mut group: Vec<Wanted>,
        shared: &Shared,
        tab: Option<Tab<'_>>,
    ) -> Outcome {
        let due = |puts| tab.as_ref().map_or(0, |tab| tab.due(puts));
        let bill = tab.is_some().then_some(&due as Bill<'_>);
        let mut outcome = Outcome::default();
        // In the order of the table's pages: of what is halved, each half has its own.
        group.sort_by(|a, b| a.raw_id.cmp(&b.raw_id));
        let mut groups = vec![group];
        while let Some(group) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            let is_late = shared.until.is_some_and(|until| self.ambient.now() >= until);
            if is_late && shared.is_begun.load(Ordering::Relaxed) {
                outcome.left.extend(group);
                continue;
            }
            let (lake, ambient) = (&*self.lake, &*self.ambient);
            let Self { page_weight, widest, .. } = *self;
            let (large, until) = (Some(&shared.large), shared.until);
            let options = Options { page_weight, widest, large, until, bill };
            let committed = commit_with(lake, ambient, dataset, &group, options).await;
            let error = match committed {
                Ok(report) => {
                    if let Some(tab) = tab.as_ref().filter(|_| report.number.is_some()) {
                        tab.pay();
                    }
                    outcome.reports.push(report);
                    shared.is_begun.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(error) => error,
            };
            let (blamed, mut rest): (Vec<_>, Vec<_>) = match error.remedy() {
                Remedy::Without(raw_id, order) => {
                    group.into_iter().partition(|w| (&w.raw_id, w.order) == (&raw_id, order))
                }
                Remedy::Return => (group, Vec::new()),
                Remedy::Bisect => (Vec::new(), group),
            };
            if blamed.is_empty() && rest.len() > 1 {
                // Too many at once, or one of them is to blame and it is not known which: halves, until it fits or is alone.
                // What was put back most often comes first: else the same ones would be out of time again and again.
                let half = rest.split_off(rest.len() / 2);
                let mut halves = [half, rest];
                halves.sort_by_key(|half| {
                    half.iter().filter_map(|w| shared.tries.get(w)).max().copied()
                });
                groups.extend(halves);
            } else {
                shared.is_begun.store(true, Ordering::Relaxed);
                let failed = if blamed.is_empty() { std::mem::take(&mut rest) } else { blamed };
                outcome.failed.push((failed, error));
                groups.push(rest);
            }
        }
        // Of several commits the last one read or swapped the pointer last.
        let file = outcome.reports.last().and_then(|report| report.file.as_deref());
        if let (Some(catalog), Some(file)) = (&self.catalog, file) {
            outcome.catalog_failed = !self.tell(&**catalog, dataset, file).await;
        }
        outcome
    }

    /// Brings the catalog up to the pointer; `false` if it may be behind.
    async fn tell(&self, catalog: &dyn Catalog, dataset: &Dataset, file: &str) -> bool {
        let told = follow(catalog, &*self.lake, &*self.ambient, dataset, file);
        let error = match tokio::time::timeout(CATALOG_TIME, told).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", CATALOG_TIME.as_secs()),
        };
        tracing::warn!(%dataset, error, "the catalog is behind until the next message");
        false
    }
}

/// Adds what a commit came to to the summary.
fn count(dataset: &Dataset, report: &Report, summary: &mut Summary) {
    let totals = &mut summary.outcomes;
    totals.commit_attempts += u64::from(report.attempts);
    totals.commits += u64::from(report.number.is_some());
    totals.restated_partitions += report.restated;
    if report.month.as_ref().is_some_and(Standing::is_over) {
        summary.over_budget(dataset);
    }
    let mut counted = BTreeSet::new();
    for (record, changed) in &report.records {
        if !changed || !counted.insert(&record.raw_id) {
            continue;
        }
        let totals = &mut summary.outcomes;
        match record.state {
            State::Published => {
                totals.files_published += 1;
                totals.late_files += u64::from(record.late_rows > 0);
                // Of a replay it would say how old the data is, and of a release how long people took.
                let is_fresh = record.order.epoch == 0 && record.decision.is_none();
                if let Some(at) = report.swapped_at.filter(|_| is_fresh) {
                    let landed = record.raw_id.landed_at().as_millisecond();
                    summary.latency(at.as_millisecond() - landed);
                }
                summary.dataset(dataset, 1, record.rows);
            }
            State::Held => totals.files_held += 1,
            State::Rejected => totals.files_rejected += 1,
            State::Superseded | State::Withdrawn => totals.files_superseded += 1,
        }
    }
}
