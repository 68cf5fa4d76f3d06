//! `sluicegate why`: one file's whole story, every version of it, and what to do next.
//!
//! Nothing is kept for it: it is told from `raw/`, the proposals, the decisions, the ledger and the table's log, each of which is
//! written once, and it names no cause that none of them has. Where the stack is known, what was given up is part of the story.

use std::cmp::Reverse;
use std::process::ExitCode;

use clap::Args;
use futures::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluicegate_contract::{AuditResult, AuditState, Coverage};
use sluicegate_lake::aws::Clients;
use sluicegate_lake::name::upload_rank;
use sluicegate_lake::{
    Ambient, Dataset, Listed, Order, RawId, Source, Store, StoreError, System, keys, list_all,
};
use sluicegate_table::held;
use sluicegate_table::iceberg::metadata::{Snapshot, TableMetadata};
use sluicegate_table::report::{Broken, Report, Step, visible};
use sluicegate_table::rollback::{BY, WHY};
use sluicegate_table::{Decision, Proposal, Record, State, View, current_contract, log};

use crate::Failure;
use crate::dlq::{self, Letter};
use crate::out::{refused, say, usd};
use crate::status::since;

#[derive(Args)]
pub(crate) struct Arguments {
    /// s3://INBOX/DATASET/FILE, DATASET/FILE, DATASET/RAW_ID or a raw id
    which: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The stack, whose dead-letter queues are looked through for what is pending
    #[arg(long, env = "SLUICEGATE_STACK")]
    stack: Option<String>,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
}

/// Versions that are told: a screen has no room for more.
const VERSIONS: usize = 10;

/// Bad rows that are shown of a staging.
const SAMPLE: usize = 3;

/// The most of a quarantine that is read for them.
const SAMPLE_BYTES: u64 = 64 * 1024;

#[derive(Debug, Serialize)]
struct Story {
    dataset: Dataset,
    file: String,
    /// The newest first.
    versions: Vec<Version>,
    /// Older ones, of which nothing is told.
    untold: usize,
}

#[derive(Debug, Serialize)]
struct Version {
    raw_id: RawId,
    state: &'static str,
    bytes: u64,
    sequencer: Option<String>,
    /// In the order of time.
    events: Vec<Event>,
    /// By order.
    stagings: Vec<Staging>,
    reason: Option<String>,
    rows: u64,
    quarantined: u64,
    late_rows: u64,
    /// The snapshot that it was first published by, if that is retained.
    snapshot: Option<i64>,
    superseded_by: Option<RawId>,
    cost_nano_usd: u64,
    given_up: Vec<Letter>,
    next: Vec<Step>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Event {
    at: Timestamp,
    what: String,
    /// Since the event before.
    after_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Staging {
    order: Order,
    /// Whether it is what the version is now.
    recorded: bool,
    headline: String,
    contract_version: String,
    coverage: Coverage,
    /// Those that did not pass.
    audits: Vec<AuditResult>,
    broken: Vec<Broken>,
    /// Rows that are quarantined: where, and why.
    sample: Vec<String>,
    quarantine: Vec<String>,
    decision: Option<Decision>,
    duration_ms: u64,
    cost_nano_usd: u64,
    #[serde(skip)]
    staged_at: Timestamp,
    #[serde(skip)]
    next: Vec<Step>,
}

/// What is asked about.
#[derive(Debug, PartialEq)]
enum Which {
    File(Dataset, Source),
    RawId(Option<Dataset>, RawId),
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments { which, json, stack, lake } = arguments;
    let clients = Clients::from_env().await;
    let store = clients.bucket(lake);
    let found = match parse(which, lake)? {
        Which::File(dataset, source) => Some((dataset, source)),
        Which::RawId(dataset, raw_id) => find(&store, dataset.as_ref(), &raw_id).await?,
    };
    let Some((dataset, source)) = found else {
        return Ok(refused(format_args!("there is no raw object {which}")));
    };
    let Some(mut story) = tell(&store, &dataset, &source).await? else {
        let look = match stack {
            Some(stack) => format!("sluicegate dlq list land-failed --stack {stack}"),
            None => "sluicegate dlq list land-failed".to_owned(),
        };
        return Ok(refused(format_args!(
            "nothing has landed as {which}: is it in the inbox, under this very name? If it is, its event failed ({look}) or is on its way"
        )));
    };
    if let Some(stack) = stack {
        for version in story.versions.iter_mut().filter(|v| v.state == PENDING) {
            version.given_up = dlq::of_raw_object(&clients, &store, stack, &version.raw_id).await?;
        }
    }
    for version in &mut story.versions {
        version.next = next(&dataset, version);
    }
    if *json {
        say!("{}", serde_json::to_string(&story)?);
    } else {
        print(&story, System.now());
    }
    Ok(ExitCode::SUCCESS)
}

const PENDING: &str = "pending";
const WAITING: &str = "waiting";

fn parse(which: &str, lake: &str) -> Result<Which, Failure> {
    let key = match which.strip_prefix("s3://").map(|rest| rest.split_once('/')) {
        Some(Some((bucket, key))) if bucket == lake => {
            let raw = keys::parse_raw(key).map(|(dataset, _, id)| Which::RawId(Some(dataset), id));
            return raw.ok_or_else(|| format!("{which} is in the lake, and no raw object").into());
        }
        Some(Some((_, key))) => key,
        Some(None) => return Err(format!("{which} names no object").into()),
        None => which,
    };
    let Some((dataset, rest)) = key.split_once('/') else {
        let raw_id =
            key.parse().map_err(|_| format!("{which} is neither DATASET/FILE nor a raw id"))?;
        return Ok(Which::RawId(None, raw_id));
    };
    if format!("{dataset}/") == keys::INBOX_CONTRACTS {
        let why = "is a contract: contracts/DATASET/current.json in the lake names the one in force, \
                   contracts/DATASET/refused/ has why one was refused";
        return Err(format!("{which} {why}").into());
    }
    // A name that is not well-formed is why a file is ignored: the error says what one is.
    let dataset: Dataset = dataset.parse().map_err(|e| format!("{which} is ignored: {e}"))?;
    Ok(match rest.parse() {
        Ok(raw_id) => Which::RawId(Some(dataset), raw_id),
        Err(_) => Which::File(dataset, Source::of_inbox_key(rest)?),
    })
}

/// The source of a raw object: looked for in all there is where its dataset is not known.
async fn find(
    store: &dyn Store,
    dataset: Option<&Dataset>,
    raw_id: &RawId,
) -> Result<Option<(Dataset, Source)>, Failure> {
    let prefix = dataset.map_or_else(|| keys::RAW.to_owned(), keys::raw_of_dataset);
    let listed = list_all(store, &prefix).await?;
    let mut named = listed.iter().filter_map(|object| keys::parse_raw(&object.key));
    Ok(named.find(|(_, _, id)| id == raw_id).map(|(dataset, source, _)| (dataset, source)))
}

/// The story of a source; `None` if it never landed.
async fn tell(
    store: &dyn Store,
    dataset: &Dataset,
    source: &Source,
) -> Result<Option<Story>, Failure> {
    // The table before the raw objects: what lands in between is pending.
    let records = held::versions(store, dataset, source).await?;
    let metadata = View::open(store, dataset).await?.metadata;
    // One that cannot be read is there: what waits for it is pending, and fails.
    let contract = !matches!(current_contract(store, dataset).await, Ok(None));
    let mut listed = list_all(store, &keys::raw_of_source(dataset, source)).await?;
    listed.sort_by(|a, b| b.key.cmp(&a.key));
    let mut versions = Vec::new();
    for object in listed.iter().take(VERSIONS) {
        let Some((_, _, raw_id)) = keys::parse_raw(&object.key) else { continue };
        let attributes = store.head(&object.key, None).await?.attributes;
        let sequencer = attributes.get(keys::SEQUENCER).cloned();
        let record = records.iter().find(|record| record.raw_id == raw_id);
        let stagings = stagings(store, dataset, &raw_id, record).await?;
        let snapshot = match (record, &metadata) {
            (Some(record), Some(metadata)) => {
                published_by(store, dataset, metadata, record).await?
            }
            _ => None,
        };
        let newer = records.iter().rev().find(|r| r.state == State::Published);
        versions.push(version(
            object,
            raw_id,
            Facts {
                sequencer,
                stagings,
                record,
                newer,
                snapshot,
                metadata: metadata.as_ref(),
                contract,
            },
        ));
    }
    // As promote ranks them.
    versions.sort_by_cached_key(|version| {
        Reverse(upload_rank(&version.raw_id, version.sequencer.as_deref()))
    });
    let untold = listed.len().saturating_sub(versions.len());
    let file = source.inbox_key().unwrap_or_else(|| source.to_string());
    Ok((!versions.is_empty()).then(|| Story { dataset: dataset.clone(), file, versions, untold }))
}

/// What is known of a version.
struct Facts<'a> {
    sequencer: Option<String>,
    stagings: Vec<Staging>,
    record: Option<&'a Record>,
    /// The version of its source that is published.
    newer: Option<&'a Record>,
    snapshot: Option<&'a Snapshot>,
    metadata: Option<&'a TableMetadata>,
    contract: bool,
}

fn version(object: &Listed, raw_id: RawId, facts: Facts<'_>) -> Version {
    let Facts { sequencer, stagings, record, newer, snapshot, metadata, contract } = facts;
    let without_record = if contract { PENDING } else { WAITING };
    let state = record.map_or(without_record, |record| record.state.word());
    let mut events =
        vec![(raw_id.landed_at(), "uploaded".to_owned()), (object.modified, "landed".to_owned())];
    for Staging { order, staged_at, decision, contract_version, .. } in &stagings {
        events
            .push((*staged_at, format!("staged at {order}, against contract {contract_version}")));
        events.extend(decision.iter().map(|decision| (decision.at, decision.to_string())));
    }
    if let Some(at) = record.and_then(|record| record.published_at) {
        let by = snapshot.map(|s| format!(" by snapshot {}", s.sequence_number));
        events.push((at, format!("published{}", by.unwrap_or_default())));
    }
    let superseded = newer.filter(|newer| state == "superseded" && newer.raw_id != raw_id);
    if let Some((newer, at)) = superseded.and_then(|newer| Some((newer, newer.published_at?))) {
        events.push((at, format!("superseded by {}", newer.raw_id)));
    }
    let rollback = record.filter(|r| r.barrier > 0 && r.state == State::Withdrawn);
    let rollback = rollback.and_then(|r| log::find(metadata?, i64::try_from(r.barrier).ok()?));
    if let Some(rollback) = rollback {
        let said = |key| rollback.summary.get(key).map_or("", String::as_str);
        let at = Timestamp::from_millisecond(rollback.timestamp_ms).unwrap_or_default();
        events.push((at, format!("withdrawn by {}: {}", said(BY), said(WHY))));
    }
    // Before there is a record, receipts are only in the proposals.
    let staged = stagings.iter().map(|staging| staging.cost_nano_usd).sum();
    Version {
        state,
        bytes: object.size,
        sequencer,
        events: timeline(events),
        stagings,
        reason: record.and_then(|record| record.reason.clone()),
        rows: record.map_or(0, |record| record.rows),
        quarantined: record.map_or(0, |record| record.quarantined),
        late_rows: record.map_or(0, |record| record.late_rows),
        snapshot: snapshot.map(|s| s.sequence_number),
        superseded_by: superseded.map(|newer| newer.raw_id.clone()),
        cost_nano_usd: record.map_or(staged, Record::spent),
        given_up: Vec::new(),
        next: Vec::new(),
        raw_id,
    }
}

/// Events in the order of time, each with how long after the one before it came.
fn timeline(mut events: Vec<(Timestamp, String)>) -> Vec<Event> {
    events.sort_by_key(|(at, _)| *at);
    let mut before = events.first().map(|(at, _)| *at).unwrap_or_default();
    let events = events.into_iter().map(|(at, what)| {
        let after_seconds = at.duration_since(before).as_secs_f64();
        before = at;
        Event { at, what, after_seconds }
    });
    events.collect()
}

async fn stagings(
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
    record: Option<&Record>,
) -> Result<Vec<Staging>, Failure> {
    let listed = list_all(store, &keys::proposals(dataset, raw_id)).await?;
    let orders = listed.iter().filter_map(|object| keys::parse_proposal(&object.key));
    let mut stagings = Vec::new();
    for order in orders {
        let (_, bytes) = store.get(&keys::proposal(dataset, raw_id, order)).await?;
        let proposal: Proposal = serde_json::from_slice(&bytes)?;
        let decision = match store.get(&keys::decision(dataset, raw_id, order)).await {
            Ok((_, bytes)) => Some(serde_json::from_slice::<Decision>(&bytes)?),
            Err(StoreError::Absent { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let report = Report::of(&proposal, decision.as_ref(), &store.uri(""));
        let sample = sample(store, &proposal).await?;
        stagings.push(Staging {
            order,
            recorded: record.is_some_and(|record| record.order == order),
            headline: report.headline,
            contract_version: report.contract_version,
            coverage: report.coverage,
            audits: report.audits.into_iter().filter(is_told).collect(),
            broken: report.broken,
            sample,
            quarantine: report.quarantine,
            decision: report.decision,
            duration_ms: report.receipt.used.duration_ms,
            cost_nano_usd: report.receipt.cost_nano_usd.total(),
            staged_at: report.staged_at,
            next: report.next,
        });
    }
    Ok(stagings)
}

fn is_told(audit: &AuditResult) -> bool {
    matches!(audit.state, AuditState::Failed | AuditState::NotProven)
}

/// A line of a quarantine's reasons, as far as it is told.
#[derive(Deserialize)]
struct Bad {
    row: u64,
    faults: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    pointer: String,
    reason: String,
}

/// The first bad rows, and why each is bad.
async fn sample(store: &dyn Store, proposal: &Proposal) -> Result<Vec<String>, Failure> {
    let Some(key) = proposal.quarantine.iter().find(|key| key.ends_with(".jsonl")) else {
        return Ok(Vec::new());
    };
    let (_, mut stream) = store.read(key, Some(0..SAMPLE_BYTES)).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    let lines = bytes.split(|byte| *byte == b'\n').take(SAMPLE);
    let bad = lines.filter_map(|line| serde_json::from_slice::<Bad>(line).ok());
    Ok(bad.map(|bad| told(&bad)).collect())
}

fn told(bad: &Bad) -> String {
    let faults = bad.faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.reason));
    format!("row {}: {}", bad.row, faults.collect::<Vec<_>>().join("; "))
}

/// The snapshot that a raw object was first published by, if it is retained.
async fn published_by<'a>(
    store: &dyn Store,
    dataset: &Dataset,
    metadata: &'a TableMetadata,
    record: &Record,
) -> Result<Option<&'a Snapshot>, Failure> {
    let Some(at) = record.published_at else { return Ok(None) };
    // It was planned just before its snapshot was written, and after the one before.
    let after = |s: &&Snapshot| s.timestamp_ms >= at.as_millisecond();
    let Some(snapshot) = metadata.snapshots.iter().find(after) else { return Ok(None) };
    let Ok(changes) = log::changes_in(store, dataset, snapshot).await else { return Ok(None) };
    let named = changes.partitions.iter().any(|p| p.raw_ids.contains(&record.raw_id));
    Ok(named.then_some(snapshot))
}

/// What to do, by the state that a version is in.
fn next(dataset: &Dataset, version: &Version) -> Vec<Step> {
    let Version { raw_id, state, stagings, given_up, .. } = version;
    let step = |what: &str, commands: Vec<String>| Step { what: what.to_owned(), commands };
    match *state {
        WAITING => vec![step(
            &format!(
                "Upload a contract as _contracts/{dataset}.json; if you did, contracts/{dataset}/refused/ in the lake has why it was refused."
            ),
            Vec::new(),
        )],
        PENDING if !given_up.is_empty() => {
            let all = given_up.iter().map(|letter| {
                format!("sluicegate dlq show {} {}", letter.queue, letter.message_id)
            });
            vec![step("It was given up: mend the cause, and have it tried again.", all.collect())]
        }
        PENDING => vec![step(
            "It is on its way, or failing and tried again. If it stays so, look whether it was given up.",
            vec![format!("sluicegate status {dataset} --watch"), "sluicegate dlq list".to_owned()],
        )],
        "held" | "rejected" => {
            let staging = stagings.iter().find(|staging| staging.recorded);
            staging.map(|staging| staging.next.clone()).unwrap_or_default()
        }
        "withdrawn" => vec![step(
            "Upload a corrected file under the same name, or have it replayed: invoke the replay function with",
            vec![format!("{{\"dataset\": \"{dataset}\", \"raw_ids\": [\"{raw_id}\"]}}")],
        )],
        "published" if version.quarantined > 0 => vec![step(
            "If its quarantined rows are wanted too, correct them and upload the file again under its name.",
            Vec::new(),
        )],
        _ => Vec::new(),
    }
}

fn print(story: &Story, now: Timestamp) {
    let Story { dataset, file, versions, untold } = story;
    say!("{dataset}/{}", visible(file));
    for version in versions {
        print_version(version, now);
    }
    if *untold > 0 {
        say!("{untold} older versions are not told");
    }
}

fn print_version(version: &Version, now: Timestamp) {
    let Version { raw_id, state, bytes, events, stagings, reason, .. } = version;
    let dollars = usd(version.cost_nano_usd);
    say!("");
    let last = events.iter().rfind(|event| event.at <= now).map(|event| since(event.at, now));
    let last = last.map(|since| format!(", nothing since {since}")).unwrap_or_default();
    say!("{}  {raw_id}  {bytes} bytes, {dollars:.6} dollars{last}", state.to_uppercase());
    // Mostly a verdict's own, which is told with it.
    let told = |reason: &&String| stagings.iter().any(|s| s.headline.contains(reason.as_str()));
    if let Some(reason) = reason.as_ref().filter(|reason| !told(reason)) {
        say!("  {}", visible(reason));
    }
    for Event { at, what, after_seconds } in events {
        say!("  {at:.3}  {:>12}  {}", format!("+{after_seconds:.1} s"), visible(what));
    }
    for staging in stagings {
        print_staging(staging);
    }
    if version.late_rows > 0 {
        say!("  {} of its rows were late", version.late_rows);
    }
    for Letter { queue, message_id, reason, .. } in &version.given_up {
        say!("  given up: {message_id} in {queue}: {}", visible(reason));
    }
    for Step { what, commands } in &version.next {
        say!("  > {what}");
        for command in commands {
            say!("      {command}");
        }
    }
}

fn print_staging(staging: &Staging) {
    let Staging { order, recorded, headline, audits, broken, sample, quarantine, .. } = staging;
    let mark = if *recorded { "" } else { " (not what is recorded)" };
    say!("  {order}{mark}: {}  ({} ms)", visible(headline), staging.duration_ms);
    for AuditResult { id, expected, found, sample, .. } in audits {
        let sample = match sample.is_empty() {
            true => String::new(),
            false => format!(", such as {}", sample.join(", ")),
        };
        say!("    audit {}", visible(&format!("{id}: {expected}, is {found}{sample}")));
    }
    for Broken { column, rule, rows } in broken {
        say!("    {rows} rows break {}", visible(&format!("{column} {rule}")));
    }
    for row in sample {
        say!("      {}", visible(row));
    }
    if let Some(first) = quarantine.first() {
        say!("    quarantined in {}", visible(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW_ID: &str = "20130102T030405Z-0123456789abcdef0123456789abcdef";

    #[test]
    fn a_file_is_named_in_four_ways() {
        let dataset: Dataset = "flights".parse().unwrap();
        let raw_id: RawId = RAW_ID.parse().unwrap();
        let source = Source::of_inbox_key("2013/01 a.csv").unwrap();
        let file = Which::File(dataset.clone(), source.clone());
        for which in ["s3://inbox/flights/2013/01 a.csv", "flights/2013/01 a.csv"] {
            assert_eq!(parse(which, "lake").unwrap(), file);
        }
        assert_eq!(parse(RAW_ID, "lake").unwrap(), Which::RawId(None, raw_id.clone()));
        let of_dataset = Which::RawId(Some(dataset.clone()), raw_id.clone());
        assert_eq!(parse(&format!("flights/{RAW_ID}"), "lake").unwrap(), of_dataset);
        let key = keys::raw(&dataset, &source, &raw_id);
        assert_eq!(parse(&format!("s3://lake/{key}"), "lake").unwrap(), of_dataset);
    }

    #[test]
    fn what_is_never_landed_is_refused_with_its_reason() {
        let why = |which: &str| parse(which, "lake").unwrap_err().to_string();
        assert!(why("s3://inbox/Flights-2013/a.csv").contains("is ignored: "));
        assert!(why("_contracts/flights.json").contains("is a contract"));
        assert!(why("s3://lake/tables/x/y.parquet").contains("no raw object"));
        assert!(why("flights").contains("neither"));
        assert!(why("s3://inbox").contains("names no object"));
    }

    #[test]
    fn events_stand_in_the_order_of_time() {
        let at = |seconds: i64| Timestamp::from_millisecond(1000 * seconds).unwrap();
        let events = [(at(9), "published"), (at(2), "uploaded"), (at(4), "staged")];
        let events = timeline(events.map(|(at, what)| (at, what.to_owned())).into());
        let told: Vec<_> = events.iter().map(|e| (e.what.as_str(), e.after_seconds)).collect();
        assert_eq!(told, [("uploaded", 0.0), ("staged", 2.0), ("published", 5.0)]);
    }

    #[test]
    fn a_bad_row_is_told_with_all_its_faults() {
        let line = r#"{"row": 126, "offset": 9, "at": 1, "length": 2, "faults": [
            {"column": "a", "pointer": "/a", "rule": "enum", "reason": "must be 1"},
            {"column": "b", "pointer": "/b", "rule": "type", "reason": "is no number"}]}"#;
        let bad: Bad = serde_json::from_str(line).unwrap();
        assert_eq!(told(&bad), "row 126: /a must be 1; /b is no number");
    }

    #[tokio::test]
    async fn versions_that_landed_within_a_second_are_told_by_their_sequencers_the_newest_first() {
        let store = sluicegate_lake::memory::Memory::default().bucket("lake");
        let (dataset, source): (Dataset, _) =
            ("flights".parse().unwrap(), Source::of_inbox_key("a.csv").unwrap());
        let id = |second: u32, hash: char| {
            format!("20130102T0304{second:02}Z-{}", hash.to_string().repeat(32))
        };
        let uploads = [(id(6, 'a'), "00"), (id(5, 'b'), "0A"), (id(5, 'c'), "09")];
        for (raw_id, sequencer) in &uploads {
            let key = keys::raw(&dataset, &source, &raw_id.parse().unwrap());
            let attributes = [(keys::SEQUENCER.to_owned(), (*sequencer).to_owned())].into();
            store.create(&key, vec![1].into(), &attributes).await.unwrap();
        }
        let story = tell(&store, &dataset, &source).await.unwrap().unwrap();
        let told: Vec<String> = story.versions.iter().map(|v| v.raw_id.to_string()).collect();
        assert_eq!(told, uploads.map(|(raw_id, _)| raw_id));
    }
}
