//! `sluicegate status`: the state of a lake, dataset by dataset, or every raw object of one (RAW-2), from `raw/` and the ledgers.
//!
//! What is told of a dataset holds together: the table is read before the raw objects, so that one which lands in between
//! is pending, and none is missed. Queues are told where the stack is known, and are approximate, as SQS counts. How old the
//! oldest message is SQS does not say: the oldest file that is on its way is told instead. A contract that cannot be read hides nothing
//! but itself, and a table of a lake only its dataset's; both are said. Watched, what else fails is said, and tried again.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sluicegate_contract::{Budget, Freshness as Promise};
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{
    Ambient, Dataset, Depth, Queue, RawId, Source, Store, System, keys, list_all,
};
use sluicegate_table::budget::{Month, Standing};
use sluicegate_table::report::visible;
use sluicegate_table::tree::PageRef;
use sluicegate_table::{Record, State, View, current_contract};

use crate::Failure;
use crate::dlq::{self, Work};
use crate::held::datasets;
use crate::out::{self, aligned, say, usd};
use crate::progress::Replays;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Every file of this dataset; a line for each dataset if absent
    dataset: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Tell it again every two seconds
    #[arg(long)]
    watch: bool,
    /// Watch for so many seconds; until Ctrl-C if absent
    #[arg(long = "for", value_name = "SECONDS", requires = "watch")]
    seconds: Option<u64>,
    /// The stack, whose queues are told too
    #[arg(long, env = "SLUICEGATE_STACK")]
    stack: Option<String>,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
}

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Files that are listed one by one while somebody watches: more would not fit a screen.
const WATCHED: usize = 10;

/// A ledger's.
type Records = BTreeMap<RawId, Record>;

#[derive(Serialize)]
struct Lake {
    datasets: Vec<Summary>,
    replays: Replays,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<Queues>,
}

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    summary: Summary,
    rows: Rows,
    /// Accepted rows of the files in each state.
    rows_by_state: BTreeMap<&'static str, u64>,
    raw: Vec<Raw>,
    replays: Replays,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<Queues>,
}

/// A dataset in a line.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    dataset: Dataset,
    contract: Option<String>,
    /// What of it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    snapshot: Option<Snapshot>,
    states: BTreeMap<&'static str, u64>,
    freshness: Option<Freshness>,
    /// When the oldest file landed that is on its way.
    oldest_pending: Option<Timestamp>,
    /// What all stagings that the ledger knows of cost.
    cost_nano_usd: u64,
    /// What stagings and their publishing took this month, beside what the contract allows.
    month: Standing,
}

/// How old the newest published event is, beside what the contract promises.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Freshness {
    newest_event: Timestamp,
    age_seconds: i64,
    warn_after_seconds: Option<i64>,
    error_after_seconds: Option<i64>,
    /// `None` where nothing is promised.
    state: Option<&'static str>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Queues {
    /// By name, without the stack's.
    depths: BTreeMap<&'static str, Messages>,
    /// Why they are not all told.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Messages {
    waiting: u64,
    in_flight: u64,
    delayed: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Snapshot {
    id: i64,
    number: i64,
    published_at: Timestamp,
    rows: u64,
    files: u64,
}

#[derive(Default, Serialize)]
struct Rows {
    published: u64,
    quarantined: u64,
    late: u64,
}

#[derive(Serialize)]
struct Raw {
    raw_id: RawId,
    source: Source,
    state: &'static str,
    rows: u64,
    quarantined: u64,
    late_files: usize,
    late_rows: u64,
    landed_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

const STATES: [&str; 7] =
    ["waiting", "pending", "published", "held", "rejected", "superseded", "withdrawn"];

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let clients = Clients::from_env().await;
    if !arguments.watch {
        tell(&clients, arguments).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut looks = arguments.seconds.map(|seconds| seconds / PAUSE.as_secs());
    loop {
        if let Err(error) = tell(&clients, arguments).await {
            say!("it cannot be read now: {error}");
        }
        match &mut looks {
            Some(0) => return Ok(ExitCode::SUCCESS),
            Some(left) => *left -= 1,
            None => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tell(clients: &Clients, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { dataset, json, watch, stack, lake, .. } = arguments;
    let (store, now) = (clients.bucket(lake), System.now());
    let queues = match stack {
        Some(stack) => Some(queues(clients, stack).await),
        None => None,
    };
    // The whole picture is there before the old one goes.
    let clear = || {
        if *watch && !*json && io::stdout().is_terminal() {
            say!("\u{1b}[2J\u{1b}[H{now:.0}");
        }
    };
    if let Some(dataset) = dataset {
        let dataset = dataset.parse()?;
        let replays = Replays::read(&store, [&dataset], now).await;
        let status = Status { queues, replays, ..read(&store, dataset, now).await? };
        clear();
        match json {
            true => say!("{}", serde_json::to_string(&status)?),
            false => print(&status, now, if *watch { WATCHED } else { usize::MAX }),
        }
    } else {
        let datasets = overview(&store, now).await?;
        let replays = Replays::read(&store, datasets.iter().map(|d| &d.dataset), now).await;
        let lake = Lake { datasets, replays, queues };
        clear();
        match json {
            true => say!("{}", serde_json::to_string(&lake)?),
            false => print_lake(&lake, now),
        }
    }
    Ok(())
}

async fn queues(clients: &Clients, stack: &str) -> Queues {
    let work = Work::ALL.into_iter().filter_map(Work::queue);
    let mut queues = Queues { depths: BTreeMap::new(), unread: None };
    for name in work.chain(Work::ALL.into_iter().map(Work::dead)) {
        let depth = match dlq::named(clients, stack, name).await {
            Ok(queue) => queue.depth().await,
            Err(error) => Err(error),
        };
        match depth {
            Ok(Depth { waiting, in_flight, delayed }) => {
                queues.depths.insert(name, Messages { waiting, in_flight, delayed });
            }
            Err(error) => {
                queues.unread = Some(error.to_string());
                break;
            }
        }
    }
    queues
}

/// Every dataset that has a contract, or raw objects that wait for one.
async fn overview(store: &dyn Store, now: Timestamp) -> Result<Vec<Summary>, Failure> {
    let mut views = BTreeMap::new();
    for dataset in datasets(store).await? {
        let mut terms = Terms::read(store, &dataset).await;
        let view = View::open(store, &dataset).await.unwrap_or_else(|error| {
            terms.trouble = Some(error.to_string());
            View::default()
        });
        views.insert(dataset, (terms, view, Vec::new()));
    }
    for object in list_all(store, keys::RAW).await? {
        if let Some((dataset, _, raw_id)) = keys::parse_raw(&object.key) {
            views.entry(dataset).or_default().2.push(raw_id);
        }
    }
    let mut summaries = Vec::new();
    for (dataset, (terms, view, raw_ids)) in views {
        // Records are read only where they tell which raw objects are on their way.
        let is_some_pending = raw_ids.len() as u64 > view.root.sum(PageRef::records);
        let records = match is_some_pending {
            true => records(store, &dataset, &view).await?,
            false => Records::new(),
        };
        summaries.push(summary(dataset, terms, &view, &records, &raw_ids, now));
    }
    Ok(summaries)
}

/// What a status wants of a contract.
#[derive(Default)]
struct Terms {
    version: Option<String>,
    promise: Promise,
    budget: Budget,
    trouble: Option<String>,
}

impl Terms {
    async fn read(store: &dyn Store, dataset: &Dataset) -> Self {
        match current_contract(store, dataset).await {
            Ok(None) => Self::default(),
            Ok(Some((_, version))) => {
                let terms =
                    version.contract().map(|contract| (contract.freshness, contract.budget));
                let (promise, budget) = terms.unwrap_or_default();
                Self { version: Some(version.version), promise, budget, trouble: None }
            }
            Err(error) => Self { trouble: Some(error.to_string()), ..Self::default() },
        }
    }

    /// The state of what has no record.
    fn without_record(&self) -> &'static str {
        // Where the contract cannot be read, what has landed does not wait for one: its staging fails.
        if self.version.is_some() || self.trouble.is_some() { "pending" } else { "waiting" }
    }
}

/// The ledger's records.
async fn records(store: &dyn Store, dataset: &Dataset, view: &View) -> Result<Records, Failure> {
    let all: Vec<Record> = view.all_records(store, dataset).try_concat().await?;
    Ok(all.into_iter().map(|record| (record.raw_id.clone(), record)).collect())
}

fn summary(
    dataset: Dataset,
    terms: Terms,
    view: &View,
    records: &Records,
    raw_ids: &[RawId],
    now: Timestamp,
) -> Summary {
    let mut states: BTreeMap<_, u64> = STATES.iter().map(|state| (*state, 0)).collect();
    for (state, count) in view.root.pages.iter().flat_map(|page| &page.states) {
        *states.entry(State::word(*state)).or_default() += count;
    }
    let unrecorded = (raw_ids.len() as u64).saturating_sub(view.root.sum(PageRef::records));
    states.insert(terms.without_record(), unrecorded);
    let Terms { version: contract, promise, budget, trouble } = terms;
    let pending = raw_ids.iter().filter(|id| !records.contains_key(*id));
    let oldest_pending = (unrecorded > 0).then(|| pending.map(RawId::landed_at).min()).flatten();
    let snapshot = view.metadata.as_ref().and_then(|m| m.current_snapshot()).map(|s| Snapshot {
        id: s.snapshot_id,
        number: s.sequence_number,
        published_at: Timestamp::from_millisecond(s.timestamp_ms).unwrap_or_default(),
        rows: view.root.sum(|page| page.rows),
        files: view.root.sum(|page| page.files),
    });
    let newest = view.root.pages.iter().filter_map(|page| page.newest_event).max();
    let newest = newest.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let freshness = newest.map(|newest| Freshness::of(newest, promise, now));
    let cost_nano_usd = view.root.sum(|page| page.cost);
    Summary {
        dataset,
        contract,
        trouble,
        snapshot,
        states,
        freshness,
        oldest_pending,
        cost_nano_usd,
        month: Month::at(view, now).beside(budget),
    }
}

impl Freshness {
    fn of(newest_event: Timestamp, promise: Promise, now: Timestamp) -> Self {
        let age = now.duration_since(newest_event);
        let Promise { warn_after, error_after } = promise;
        let state = match (error_after, warn_after) {
            (Some(limit), _) if age > limit => Some("error"),
            (_, Some(limit)) if age > limit => Some("warn"),
            (None, None) => None,
            _ => Some("fresh"),
        };
        let seconds = |after: Option<SignedDuration>| after.map(|a| a.as_secs());
        Self {
            newest_event,
            age_seconds: age.as_secs(),
            warn_after_seconds: seconds(warn_after),
            error_after_seconds: seconds(error_after),
            state,
        }
    }

    fn said(&self) -> String {
        let Self { age_seconds, warn_after_seconds, error_after_seconds, state, .. } = self;
        let age = match age_seconds {
            ..0 => format!("{} ahead", span(-age_seconds)),
            _ => format!("{} old", span(*age_seconds)),
        };
        let promised = |after: &Option<i64>| after.map(span).unwrap_or_default();
        match state {
            Some("error") => {
                format!("{age}: too old, the promise is {}", promised(error_after_seconds))
            }
            Some("warn") => format!("{age}: a warning, after {}", promised(warn_after_seconds)),
            Some(_) => format!("{age}: as promised"),
            None => age,
        }
    }
}

async fn read(store: &dyn Store, dataset: Dataset, now: Timestamp) -> Result<Status, Failure> {
    // The table before the raw objects: one that lands in between is pending, and none is missed.
    let view = View::open(store, &dataset).await?;
    let records = records(store, &dataset, &view).await?;
    let terms = Terms::read(store, &dataset).await;
    let listed = list_all(store, &keys::raw_of_dataset(&dataset)).await?;
    let without_record = terms.without_record();
    let mut raw: Vec<Raw> = listed
        .iter()
        .filter_map(|object| keys::parse_raw(&object.key))
        .map(|(_, source, id)| match records.get(&id) {
            Some(record) => recorded(record),
            None => Raw {
                landed_at: id.landed_at(),
                raw_id: id,
                source,
                state: without_record,
                rows: 0,
                quarantined: 0,
                late_files: 0,
                late_rows: 0,
                published_at: None,
                reason: None,
            },
        })
        .collect();
    raw.sort_by(|a, b| a.raw_id.cmp(&b.raw_id));
    let mut rows = Rows::default();
    let mut rows_by_state = BTreeMap::new();
    for object in &raw {
        *rows_by_state.entry(object.state).or_default() += object.rows;
        if object.state == "published" {
            rows.published += object.rows;
            rows.quarantined += object.quarantined;
            rows.late += object.late_rows;
        }
    }
    let raw_ids: Vec<RawId> = raw.iter().map(|object| object.raw_id.clone()).collect();
    let summary = summary(dataset, terms, &view, &records, &raw_ids, now);
    let replays = Replays::default();
    Ok(Status { summary, rows, rows_by_state, raw, replays, queues: None })
}

fn recorded(record: &Record) -> Raw {
    Raw {
        raw_id: record.raw_id.clone(),
        source: record.source.clone(),
        state: record.state.word(),
        rows: record.rows,
        quarantined: record.quarantined,
        late_files: record.late.as_ref().map_or(0, Vec::len),
        late_rows: record.late_rows,
        landed_at: record.raw_id.landed_at(),
        published_at: record.published_at,
        reason: record.reason.clone(),
    }
}

fn print(status: &Status, now: Timestamp, most: usize) {
    let Status { summary, rows, rows_by_state, raw, replays, queues } = status;
    let contract = match (&summary.contract, &summary.trouble) {
        (Some(version), _) => version.clone(),
        (None, Some(trouble)) => format!("cannot be read: {}", visible(trouble)),
        (None, None) => "none: files wait until one lands".to_owned(),
    };
    say!("{}  contract {contract}", summary.dataset);
    match &summary.snapshot {
        Some(s) => {
            let (number, at, ago) = (s.number, s.published_at, since(s.published_at, now));
            say!("snapshot {number} of {at}, {ago} ago: {} rows in {} files", s.rows, s.files);
        }
        None => say!("nothing published yet"),
    }
    let shown = STATES.iter().filter_map(|state| summary.states.get_key_value(state));
    let shown = shown.filter(|(_, count)| **count > 0).map(|(state, count)| {
        match rows_by_state.get(state).filter(|rows| **rows > 0) {
            Some(rows) => format!("{count} {state} ({rows} rows)"),
            None => format!("{count} {state}"),
        }
    });
    say!("raw objects: {}", shown.collect::<Vec<_>>().join(", "));
    let Rows { published, quarantined, late } = rows;
    say!("rows: {published} published, {quarantined} quarantined, {late} late");
    if let Some(freshness) = &summary.freshness {
        say!("newest event: {}, {}", freshness.newest_event, freshness.said());
    }
    if let Some(at) = summary.oldest_pending {
        say!("on its way: since {at}, {}", since(at, now));
    }
    say!("staged for {}", dollars(summary.cost_nano_usd));
    say!("{}", out::month(&summary.month));
    let listed = || raw.iter().filter(|r| !matches!(r.state, "published" | "superseded"));
    for raw in listed().take(most) {
        let reason = raw.reason.as_deref().unwrap_or_default();
        let source = raw.source.inbox_key().unwrap_or_else(|| raw.source.to_string());
        let (source, reason) = (visible(&source), visible(reason));
        say!("  {:<10} {source}  {}  {reason}", raw.state, raw.raw_id);
    }
    match listed().count().saturating_sub(most) {
        0 => {}
        more => say!("  … and {more} more"),
    }
    replays.lines().iter().for_each(|line| say!("{line}"));
    print_queues(queues.as_ref());
}

fn print_lake(lake: &Lake, now: Timestamp) {
    if lake.datasets.is_empty() {
        say!("nothing has landed");
    } else {
        let head = ["dataset", "raw objects", "rows", "published", "newest event", "dollars"];
        let rows = lake.datasets.iter().map(|dataset| line(dataset, now));
        let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
        for line in aligned(&rows) {
            say!("{line}");
        }
        for Summary { dataset, trouble, .. } in &lake.datasets {
            if let Some(trouble) = trouble {
                say!("{dataset} cannot be read: {}", visible(trouble));
            }
        }
    }
    lake.replays.lines().iter().for_each(|line| say!("{line}"));
    print_queues(lake.queues.as_ref());
}

fn line(summary: &Summary, now: Timestamp) -> [String; 6] {
    let shown = STATES.iter().filter_map(|state| summary.states.get_key_value(state));
    let shown =
        shown.filter(|(_, count)| **count > 0).map(|(state, count)| format!("{count} {state}"));
    let mut files = shown.collect::<Vec<_>>().join(", ");
    if let Some(at) = summary.oldest_pending {
        files = format!("{files}, the oldest since {}", since(at, now));
    }
    let snapshot = summary.snapshot.as_ref();
    [
        summary.dataset.to_string(),
        files,
        snapshot.map_or(0, |s| s.rows).to_string(),
        snapshot.map_or("never".to_owned(), |s| format!("{} ago", since(s.published_at, now))),
        summary.freshness.as_ref().map(Freshness::said).unwrap_or_default(),
        format!("{:.6}", usd(summary.cost_nano_usd)),
    ]
}

fn print_queues(queues: Option<&Queues>) {
    let Some(queues) = queues else { return };
    let busy = |depth: &&Messages| depth.waiting + depth.in_flight + depth.delayed > 0;
    if queues.unread.is_none() && !queues.depths.values().any(|depth| busy(&depth)) {
        say!("queues: all empty");
    }
    for work in Work::ALL {
        let depth = work.queue().and_then(|name| queues.depths.get(name)).filter(busy);
        if let Some(Messages { waiting, in_flight, delayed }) = depth {
            let name = work.word();
            say!(
                "queue {name}: {waiting} wait, {in_flight} are worked on or will be tried again, {delayed} delayed"
            );
        }
    }
    for work in Work::ALL {
        if let Some(dead) = queues.depths.get(work.dead()).filter(busy) {
            let (count, word) = (dead.waiting + dead.in_flight, work.word());
            say!("given up: {count} of {word}; sluicegate dlq list {word}");
        }
    }
    if let Some(why) = &queues.unread {
        say!("queues cannot be read: {}", visible(why));
    }
}

fn dollars(nano: u64) -> String {
    format!("{:.6} dollars", usd(nano))
}

/// How long ago a moment was.
pub(crate) fn since(at: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(at).as_secs().max(0))
}

/// Seconds as people say them, in the largest unit of which there are two.
pub(crate) fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_the_largest_unit_of_which_there_are_two() {
        let told = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(span);
        assert_eq!(told, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
    }

    #[test]
    fn freshness_is_measured_against_the_promise() {
        let newest: Timestamp = "2013-01-01T00:00:00Z".parse().unwrap();
        let hours = |n: i64| Some(SignedDuration::from_hours(n));
        let at = |age: i64, warn_after, error_after| {
            let now = newest + SignedDuration::from_secs(age);
            Freshness::of(newest, Promise { warn_after, error_after }, now)
        };
        assert_eq!(at(9 * 3600, None, None).state, None);
        assert_eq!(at(3600, hours(1), hours(2)).said(), "60 min old: as promised");
        assert_eq!(at(3601, hours(1), hours(2)).said(), "60 min old: a warning, after 60 min");
        assert_eq!(at(7201, hours(1), hours(2)).said(), "2 h old: too old, the promise is 2 h");
        assert_eq!(at(7201, None, hours(2)).state, Some("error"));
        assert_eq!(at(-600, hours(1), None).said(), "10 min ahead: as promised");
    }

    #[test]
    fn raw_objects_without_a_record_are_on_their_way_or_wait() {
        let ids = ["20130102T030405Z", "20130101T030405Z"];
        let ids = ids.map(|at| format!("{at}-0123456789abcdef0123456789abcdef").parse().unwrap());
        let now: Timestamp = "2013-01-02T04:04:05Z".parse().unwrap();
        let of = |contract: Option<&str>| {
            let version = contract.map(str::to_owned);
            let terms = Terms { version, ..Terms::default() };
            summary("flights".parse().unwrap(), terms, &View::default(), &Records::new(), &ids, now)
        };
        let pending = of(Some("1.0.0"));
        assert_eq!((pending.states["pending"], pending.states["waiting"]), (2, 0));
        assert_eq!(pending.oldest_pending.unwrap().to_string(), "2013-01-01T03:04:05Z");
        let files = "2 pending, the oldest since 25 h";
        assert_eq!(line(&pending, now), ["flights", files, "0", "never", "", "0.000000"]);
        assert_eq!(of(None).states["waiting"], 2);
    }
}
