//! The commit: one new snapshot for a group of proposals, by one conditional write.
//!
//! At every attempt, in this order: read the pointer and what it leads to, then list each source's versions, look for
//! decisions, plan, check the invariants, write the new tree beside the old one, and swap the pointer. Listing comes
//! after reading so that a version that somebody published in between loses the swap rather than being overlooked.
//! A lost race starts over from the pointer; nothing is ever staged again, and nothing is cleaned up after a loss.
//!
//! Guarantee: `Ok` means that every proposal of the group is in the ledger at its order or above, in this snapshot or in
//! one before it. What an error means for the group, [`CommitError::remedy`] says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;
use sluicegate_contract::{Contract, Version};
use sluicegate_lake::cas::{Backoff, Creation, Swap, Writer};
use sluicegate_lake::{
    Ambient, Dataset, Expected, Order, RawId, Source, Store, StoreError, keys, list_all,
};
use uuid::Uuid;

use crate::contracts::{ContractError, current_contract};
use crate::iceberg::FormatError;
use crate::iceberg::list::{self, ManifestFile};
use crate::iceberg::manifest::{self, Entry, Status};
use crate::iceberg::metadata::{Snapshot, TableMetadata};
use crate::iceberg::schema::{PartitionSpec, Schema};
use crate::invariants::{self, Invariant, Violation};
use crate::ledger::{Record, State};
use crate::mapping::{partition_by, table_schema};
use crate::plan::{Change, Incoming, NoPlan, Plan, Policy, plan};
use crate::proposal::{Decision, Proposal};
use crate::view::{CHANGES, COMMIT, CONTRACT, LEDGER, View, base_of};

/// Requests under way at once for one commit.
const AT_ONCE: usize = 16;
/// Snapshots and earlier files that the metadata lists; readers parse them all.
const RETAINED_SNAPSHOTS: usize = 200;
const LOGGED_FILES: usize = 100;

/// A proposal that a message asks to be promoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub source: Source,
    pub raw_id: RawId,
    pub order: Order,
}

/// What a commit came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The new snapshot's number; `None` where nothing had to change.
    pub number: Option<i64>,
    /// How often the pointer was tried.
    pub attempts: u32,
    /// The ledger's records of what was wanted, and whether this commit changed them.
    pub records: Vec<(Record, bool)>,
    /// Partitions that were restated.
    pub restated: u64,
}

/// Why there is no new snapshot.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{raw_id} at {order}: {reason}")]
    Poison { raw_id: RawId, order: Order, reason: String },
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("the race for the pointer was lost {0} times")]
    Contended(u32),
    #[error("the table cannot be read: {0}")]
    Corrupt(String),
    #[error("the table cannot be read or written: {0}")]
    Format(#[from] FormatError),
    #[error("the dataset's contract cannot be read: {0}")]
    Contract(String),
}

impl From<ContractError> for CommitError {
    fn from(error: ContractError) -> Self {
        match error {
            ContractError::Store(error) => Self::Store(error),
            other => Self::Contract(other.to_string()),
        }
    }
}

/// What to do about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The whole group goes back to the queue: later it may succeed.
    Return,
    /// The messages that ask for this proposal fail, the others are tried again without them.
    Without(RawId, Order),
    /// Some message of the group is to blame: try halves.
    Bisect,
}

impl CommitError {
    /// What to do.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Poison { raw_id, order, .. } => Remedy::Without(raw_id.clone(), *order),
            Self::Violation(_) | Self::Format(_) => Remedy::Bisect,
            // The table or the store is to blame, not a message.
            Self::Store(_) | Self::Contended(_) | Self::Corrupt(_) | Self::Contract(_) => {
                Remedy::Return
            }
        }
    }
}

/// What does not change between attempts.
#[derive(Default)]
struct Known {
    proposals: BTreeMap<(RawId, Order), Proposal>,
    /// New data files that were seen to exist.
    seen: BTreeSet<String>,
}

/// Commits a group of one dataset's proposals.
pub async fn commit(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    wanted: &[Wanted],
) -> Result<Report, CommitError> {
    let mut known = Known::default();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt(store, ambient, dataset, wanted, &mut known).await? {
            Some(mut report) => {
                report.attempts = attempts;
                return Ok(report);
            }
            None if Backoff::COMMIT.wait(attempts, ambient).await => {}
            None => return Err(CommitError::Contended(attempts)),
        }
    }
}

/// One attempt; `None` when the race was lost.
async fn attempt(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    wanted: &[Wanted],
    known: &mut Known,
) -> Result<Option<Report>, CommitError> {
    let view = View::read(store, dataset).await?;
    let is_news = |w: &&Wanted| {
        view.ledger.records.get(&w.raw_id).is_none_or(|record| record.order < w.order)
    };
    let news: BTreeSet<&Wanted> = wanted.iter().filter(is_news).collect();
    if news.is_empty() {
        return Ok(Some(report(&view, &Plan::nothing(&view), wanted, None)));
    }
    let versions = list_versions(store, dataset, &news).await?;
    let incoming = read_incoming(store, dataset, &news, known).await?;
    let (_, version) = current_contract(store, dataset).await?.ok_or_else(|| {
        CommitError::Contract(format!("{dataset} has none, though something of it was staged"))
    })?;
    let contract = version.contract().map_err(|e| CommitError::Contract(e.to_string()))?;
    let policy =
        Policy { reupload: contract.reupload, allowed_lateness: contract.allowed_lateness };
    let now = ambient.now();
    let plan = loop {
        match plan(&view, &incoming, &versions, &known.proposals, policy, now) {
            Ok(plan) => break plan,
            Err(NoPlan::Needs(id, order)) => {
                let proposal = read_proposal(store, dataset, &id, order).await?;
                known.proposals.insert((id, order), proposal);
            }
        }
    };
    if plan.is_empty() {
        return Ok(Some(report(&view, &plan, wanted, None)));
    }
    invariants::check(&view, &plan, policy.reupload)?;
    files_exist(store, &plan, known).await?;
    let number = view.number() + 1;
    let writer = Writer::new(store, ambient);
    let file =
        write_tree(&writer, store, dataset, &view, &plan, &contract, &version, number, now).await?;
    let expected = view.pointer.clone().map_or(Expected::Nothing, Expected::Tag);
    let swapped = writer.swap(&keys::table_pointer(dataset), Bytes::from(file), &expected).await?;
    Ok((swapped == Swap::Done).then(|| report(&view, &plan, wanted, Some(number))))
}

impl Plan {
    /// The plan that leaves a table as it is.
    fn nothing(view: &View) -> Self {
        Self {
            ledger: view.ledger.clone(),
            added: Vec::new(),
            removed: BTreeSet::new(),
            partitions: Vec::new(),
            changed: BTreeSet::new(),
        }
    }
}

fn report(view: &View, plan: &Plan, wanted: &[Wanted], number: Option<i64>) -> Report {
    let records = wanted.iter().filter_map(|w| {
        let record = plan.ledger.records.get(&w.raw_id)?;
        Some((record.clone(), view.ledger.records.get(&w.raw_id) != Some(record)))
    });
    let restated = plan.partitions.iter().filter(|p| p.change == Change::Restated).count();
    Report { number, attempts: 0, records: records.collect(), restated: restated as u64 }
}

async fn list_versions(
    store: &dyn Store,
    dataset: &Dataset,
    news: &BTreeSet<&Wanted>,
) -> Result<BTreeMap<Source, BTreeSet<RawId>>, CommitError> {
    let sources: BTreeSet<Source> = news.iter().map(|w| w.source.clone()).collect();
    futures::stream::iter(sources)
        .map(|source| async move {
            let listed = list_all(store, &keys::raw_of_source(dataset, &source)).await?;
            let ids = listed.iter().filter_map(|o| keys::parse_raw(&o.key)).map(|(_, _, id)| id);
            Ok((source, ids.collect()))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Reads the proposals once, and the decisions anew at every attempt.
async fn read_incoming(
    store: &dyn Store,
    dataset: &Dataset,
    news: &BTreeSet<&Wanted>,
    known: &mut Known,
) -> Result<Vec<Incoming>, CommitError> {
    let missing: Vec<&Wanted> = news
        .iter()
        .filter(|w| !known.proposals.contains_key(&(w.raw_id.clone(), w.order)))
        .copied()
        .collect();
    let read: Vec<Proposal> = futures::stream::iter(missing)
        .map(|w| async move {
            let proposal = read_proposal(store, dataset, &w.raw_id, w.order).await?;
            let same = proposal.raw_id == w.raw_id
                && proposal.order == w.order
                && proposal.source == w.source
                && proposal.dataset == *dataset;
            if same {
                Ok(proposal)
            } else {
                Err(poison(&w.raw_id, w.order, "the proposal is of another raw object"))
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    known.proposals.extend(read.into_iter().map(|p| ((p.raw_id.clone(), p.order), p)));
    let proposals = news.iter().filter_map(|w| known.proposals.get(&(w.raw_id.clone(), w.order)));
    futures::stream::iter(proposals.cloned().collect::<Vec<_>>())
        .map(|proposal| async move {
            let held = proposal.verdict.outcome() == sluicegate_contract::Outcome::Hold;
            let decision =
                if held { read_decision(store, dataset, &proposal).await? } else { None };
            Ok(Incoming { proposal, decision })
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

fn poison(raw_id: &RawId, order: Order, reason: impl Into<String>) -> CommitError {
    CommitError::Poison { raw_id: raw_id.clone(), order, reason: reason.into() }
}

async fn read_proposal(
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
    order: Order,
) -> Result<Proposal, CommitError> {
    let key = keys::proposal(dataset, raw_id, order);
    let (_, bytes) = match store.get(&key).await {
        Err(StoreError::Absent { .. }) => {
            return Err(poison(raw_id, order, format!("{key} is absent")));
        }
        read => read?,
    };
    let proposal: Proposal =
        serde_json::from_slice(&bytes).map_err(|e| poison(raw_id, order, format!("{key}: {e}")))?;
    if proposal.v != Proposal::FORMAT {
        return Err(poison(raw_id, order, format!("{key}: format {} is not known", proposal.v)));
    }
    Ok(proposal)
}

async fn read_decision(
    store: &dyn Store,
    dataset: &Dataset,
    proposal: &Proposal,
) -> Result<Option<Decision>, CommitError> {
    let key = keys::decision(dataset, &proposal.raw_id, proposal.order);
    match store.get(&key).await {
        Ok((_, bytes)) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| poison(&proposal.raw_id, proposal.order, format!("{key}: {e}"))),
        Err(StoreError::Absent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// PUB-4: looks every new data file up, once.
async fn files_exist(store: &dyn Store, plan: &Plan, known: &mut Known) -> Result<(), CommitError> {
    let base = store.uri("");
    let unseen = plan.added.iter().map(|(_, f)| f).filter(|f| !known.seen.contains(&f.path));
    let checked: Vec<String> = futures::stream::iter(unseen.cloned().collect::<Vec<_>>())
        .map(|file| {
            let key = file.path.strip_prefix(&base).unwrap_or(&file.path).to_owned();
            async move {
                match store.head(&key, None).await {
                    Ok(meta) if meta.size == file.bytes => Ok(file.path),
                    Ok(meta) => {
                        Err(pub_4(format!("{key} has {} bytes, not {}", meta.size, file.bytes)))
                    }
                    Err(StoreError::Absent { .. }) => Err(pub_4(format!("{key} is absent"))),
                    Err(error) => Err(error.into()),
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    known.seen.extend(checked);
    Ok(())
}

fn pub_4(detail: String) -> CommitError {
    Violation { invariant: Invariant::Pub4, detail }.into()
}

/// Writes manifests, ledger, change list, manifest list and metadata; answers with the name for the pointer.
#[allow(clippy::too_many_arguments, reason = "the whole of a commit comes together here")]
async fn write_tree(
    writer: &Writer<'_>,
    store: &dyn Store,
    dataset: &Dataset,
    view: &View,
    plan: &Plan,
    contract: &Contract,
    version: &Version,
    number: i64,
    now: Timestamp,
) -> Result<String, CommitError> {
    let uuid = writer.attempt();
    let snapshot_id = snapshot_id(uuid);
    let base = base_of(store, dataset);
    let mut metadata = next_metadata(store, dataset, view, contract, version, uuid, now);
    let mut described = Vec::new();
    for (spec, entries) in entries_by_spec(view, plan, &mut metadata, snapshot_id, number) {
        let schema = metadata.current_schema().ok_or(FormatError::Missing { field: "schema" })?;
        let bytes = manifest::write(schema, &spec, &entries)?;
        let name = format!("{uuid}-m{}.avro", spec.id);
        let length = bytes.len() as u64;
        described.push(ManifestFile::describe(
            format!("{base}{name}"),
            length,
            &spec,
            &entries,
            snapshot_id,
            number,
        ));
        create(writer, dataset, &name, bytes).await?;
    }
    let (ledger, changes) = (format!("{uuid}-ledger.json"), format!("{uuid}-changes.json"));
    create(writer, dataset, &ledger, json(&plan.ledger)?).await?;
    create(
        writer,
        dataset,
        &changes,
        json(&ChangeList { v: 1, number, partitions: &plan.partitions })?,
    )
    .await?;
    let parent = metadata.current_snapshot_id;
    let listed = format!("snap-{snapshot_id}-{uuid}.avro");
    create(writer, dataset, &listed, list::write(snapshot_id, parent, number, &described)?).await?;
    let mut summary = totals(view, plan);
    summary.insert(LEDGER.to_owned(), ledger);
    summary.insert(CHANGES.to_owned(), changes);
    summary.insert(COMMIT.to_owned(), uuid.to_string());
    summary.insert(CONTRACT.to_owned(), version.sequence.to_string());
    let snapshot = Snapshot {
        snapshot_id,
        parent_snapshot_id: parent,
        sequence_number: number,
        timestamp_ms: now.as_millisecond(),
        manifest_list: format!("{base}{listed}"),
        summary,
        schema_id: Some(metadata.current_schema_id),
    };
    let file = format!("{number:05}-{uuid}");
    let metadata = metadata.with_snapshot(snapshot, RETAINED_SNAPSHOTS).to_json()?;
    create(writer, dataset, &format!("{file}.metadata.json"), metadata).await?;
    Ok(file)
}

#[derive(Serialize)]
struct ChangeList<'a> {
    v: u32,
    number: i64,
    partitions: &'a [crate::plan::PartitionChange],
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, CommitError> {
    serde_json::to_vec(value).map_err(|e| CommitError::Corrupt(e.to_string()))
}

async fn create(
    writer: &Writer<'_>,
    dataset: &Dataset,
    name: &str,
    bytes: Vec<u8>,
) -> Result<(), CommitError> {
    let key = keys::metadata(dataset, name);
    match writer.create(&key, bytes).await? {
        Creation::Made => Ok(()),
        // Names carry the attempt: nobody else can have made it.
        Creation::Found(_) => Err(CommitError::Corrupt(format!("{key} was there already"))),
    }
}

/// A positive number that no other commit has.
fn snapshot_id(uuid: Uuid) -> i64 {
    let (high, _) = uuid.as_u64_pair();
    i64::try_from(high >> 1).unwrap_or(i64::MAX).max(1)
}

/// The metadata to build on: the present one, or that of a new table, with the current contract's schema.
fn next_metadata(
    store: &dyn Store,
    dataset: &Dataset,
    view: &View,
    contract: &Contract,
    version: &Version,
    uuid: Uuid,
    now: Timestamp,
) -> TableMetadata {
    let schema = table_schema(contract, version);
    let by: Vec<_> = partition_by(contract, version).iter().map(|b| b.field()).collect();
    let Some(metadata) = &view.metadata else {
        let unpartitioned = PartitionSpec { id: 0, fields: Vec::new() };
        let location = store.uri(&keys::table(dataset));
        let empty = TableMetadata::new(uuid, location, schema, unpartitioned, now.as_millisecond());
        let mut metadata = empty.with_spec(by);
        metadata.properties.insert("sluicegate.dataset".to_owned(), dataset.to_string());
        return metadata;
    };
    let file = view.file.as_deref().unwrap_or_default();
    let file = format!("{}{file}.metadata.json", base_of(store, dataset));
    let logged = metadata.with_previous_file(file, LOGGED_FILES).with_spec(by);
    if version.sequence <= view.contract_sequence() {
        return logged;
    }
    logged.with_schema(loosened(schema, metadata.current_schema()))
}

/// A schema under which files of the one before can be read: what they may lack is not required.
fn loosened(mut schema: Schema, before: Option<&Schema>) -> Schema {
    let required = |id: i32| {
        before.is_none_or(|b| b.fields.iter().any(|field| field.id == id && field.required))
    };
    for field in &mut schema.fields {
        field.required &= required(field.id);
    }
    schema
}

/// The entries of the new snapshot, a manifest for each partition spec.
fn entries_by_spec(
    view: &View,
    plan: &Plan,
    metadata: &mut TableMetadata,
    snapshot_id: i64,
    number: i64,
) -> Vec<(PartitionSpec, Vec<Entry>)> {
    let default = metadata.default_spec_id;
    let mut entries: BTreeMap<i32, Vec<Entry>> = BTreeMap::new();
    for (path, (spec, entry)) in &view.files {
        let mut entry = entry.clone();
        if plan.removed.contains(path) {
            (entry.status, entry.snapshot_id) = (Status::Deleted, snapshot_id);
        } else {
            entry.status = Status::Existing;
        }
        entries.entry(*spec).or_default().push(entry);
    }
    for (by, file) in &plan.added {
        *metadata = metadata.with_spec(by.iter().map(|b| b.field()).collect());
        entries.entry(metadata.default_spec_id).or_default().push(Entry {
            status: Status::Added,
            snapshot_id,
            sequence_number: number,
            file_sequence_number: number,
            file: file.clone(),
        });
    }
    metadata.default_spec_id = default;
    let spec = |id: i32| metadata.partition_specs.iter().find(|s| s.id == id).cloned();
    entries.into_iter().filter_map(|(id, entries)| Some((spec(id)?, entries))).collect()
}

/// A snapshot's summary in Iceberg's own keys.
fn totals(view: &View, plan: &Plan) -> BTreeMap<String, String> {
    let gone = || view.files.iter().filter(|(path, _)| plan.removed.contains(*path));
    let gone_rows: u64 = gone().map(|(_, (_, e))| e.file.rows).sum();
    let gone_bytes: u64 = gone().map(|(_, (_, e))| e.file.bytes).sum();
    let new_rows: u64 = plan.added.iter().map(|(_, f)| f.rows).sum();
    let new_bytes: u64 = plan.added.iter().map(|(_, f)| f.bytes).sum();
    let (gone_files, new_files) = (plan.removed.len() as u64, plan.added.len() as u64);
    let before = |key: fn(&Entry) -> u64| view.files.values().map(|(_, e)| key(e)).sum::<u64>();
    let operation = if gone_files > 0 { "overwrite" } else { "append" };
    let records = plan.ledger.records.values();
    let held = records.filter(|r| r.state == State::Held).count();
    let pairs = [
        ("added-data-files", new_files),
        ("added-records", new_rows),
        ("added-files-size", new_bytes),
        ("deleted-data-files", gone_files),
        ("deleted-records", gone_rows),
        ("removed-files-size", gone_bytes),
        ("total-data-files", view.files.len() as u64 + new_files - gone_files),
        ("total-records", before(|e| e.file.rows) + new_rows - gone_rows),
        ("total-files-size", before(|e| e.file.bytes) + new_bytes - gone_bytes),
        ("total-delete-files", 0),
        ("total-position-deletes", 0),
        ("total-equality-deletes", 0),
        ("sluicegate.held", held as u64),
    ];
    let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_string()));
    pairs.chain([("operation".to_owned(), operation.to_owned())]).collect()
}
