//! The new tree of a commit: everything that the pointer is about to lead to.
//!
//! Pages that the plan leaves alone are named again, the others written anew; then root, change list, manifest list and
//! metadata. All objects are new, created once and immutable, so their order does not matter: nobody sees any of
//! them before the pointer is swapped.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;
use sluicegate_contract::{Contract, Reupload, Version};
use sluicegate_lake::cas::{Creation, Writer};
use sluicegate_lake::{Dataset, RawId, Store, keys};
use uuid::Uuid;

use crate::bill::{self, Bill};
use crate::budget::Month;
use crate::changes::ChangeList;
use crate::commit::{AT_ONCE, CommitError};
use crate::iceberg::FormatError;
use crate::iceberg::list::{self, ManifestFile};
use crate::iceberg::manifest::{self, Entry, Status};
use crate::iceberg::metadata::{Snapshot, TableMetadata};
use crate::iceberg::schema::PartitionSpec;
use crate::ledger::{Ledger, Record, State};
use crate::mapping::{partition_by, table_schema};
use crate::plan::Plan;
use crate::proposal::PartitionBy;
use crate::tree::{Page, Root, merges, split};
use crate::view::{
    CHANGES, COMMIT, CONTRACT, LEDGER, ONE_VERSION, View, base_of, file_name, raw_id_of,
};

/// Snapshots that the metadata lists; readers parse them all.
const RETAINED_SNAPSHOTS: usize = 200;

/// What a new tree is made of.
pub(crate) struct NewTree<'a> {
    pub(crate) writer: &'a Writer<'a>,
    pub(crate) store: &'a dyn Store,
    pub(crate) dataset: &'a Dataset,
    pub(crate) view: &'a View,
    pub(crate) plan: &'a Plan,
    pub(crate) number: i64,
    pub(crate) page_weight: usize,
    /// What the snapshot's summary says besides.
    pub(crate) summary: &'a BTreeMap<String, String>,
    pub(crate) bill: Option<Bill<'a>>,
}

/// A slot of the new root: a page that stays, by its index, or one to be written.
enum Slot {
    Kept(usize),
    New(Page),
}

/// Entries of the pages that were read, by raw id, each with its spec; and whether the plan changes them.
type Entries = BTreeMap<RawId, (Vec<(i32, Entry)>, bool)>;

/// Objects to be written, by name.
type Objects = Vec<(String, Vec<u8>)>;

impl NewTree<'_> {
    /// Writes the tree; answers with the name for the pointer, and with the month as it says it.
    pub(crate) async fn write(
        &self,
        contract: &Contract,
        version: &Version,
        now: Timestamp,
    ) -> Result<(String, Month), CommitError> {
        let uuid = self.writer.attempt();
        let snapshot_id = snapshot_id(uuid);
        let base = base_of(self.store, self.dataset);
        let mut metadata = self.next_metadata(contract, version, now);
        let slots = self.new_pages(&mut metadata, snapshot_id);
        let mut objects = Objects::new();
        let (root, described) = self.pages(slots, &metadata, &base, snapshot_id, &mut objects)?;
        let parent = metadata.current_snapshot_id;
        let (ledger, changes) = (format!("{uuid}-ledger.json"), format!("{uuid}-changes.json"));
        let listed = format!("snap-{snapshot_id}-{uuid}.avro");
        let list = list::write(snapshot_id, parent, self.number, &described)?;
        let before = metadata.current_snapshot();
        let change_list = ChangeList {
            v: ChangeList::FORMAT,
            number: self.number,
            snapshot_id: Some(snapshot_id),
            at: Some(now),
            previous: before.and_then(|s| s.summary.get(CHANGES).cloned()),
            previous_number: before.map(|s| s.sequence_number),
            partitions: self.plan.partitions.clone(),
        };
        let mut summary = self.totals(&root);
        // Four more objects follow, and the pointer.
        let billed = self.bill.map(|bill| bill(objects.len() as u64 + 5));
        let epochs = self.promoted();
        summary.extend(bill::entries(before, billed, epochs.len()));
        let month = Month::of_commit(
            self.view,
            &self.plan.ledger,
            billed.unwrap_or_default(),
            &epochs,
            now,
        );
        summary.extend(month.summary());
        summary.extend(self.summary.clone());
        if self.view.has_one_version() && contract.reupload != Reupload::Append {
            summary.insert(ONE_VERSION.to_owned(), "true".to_owned());
        }
        summary.insert(COMMIT.to_owned(), uuid.to_string());
        summary.insert(CONTRACT.to_owned(), version.sequence.to_string());
        summary.insert(LEDGER.to_owned(), ledger.clone());
        summary.insert(CHANGES.to_owned(), changes.clone());
        let snapshot = Snapshot {
            snapshot_id,
            parent_snapshot_id: parent,
            sequence_number: self.number,
            timestamp_ms: now.as_millisecond(),
            manifest_list: format!("{base}{listed}"),
            summary,
            schema_id: Some(metadata.current_schema_id),
        };
        let file = file_name(self.number, uuid);
        let metadata = metadata.with_snapshot(snapshot, RETAINED_SNAPSHOTS).to_json()?;
        objects.extend([
            (ledger, json(&root)?),
            (changes, json(&change_list)?),
            (listed, list),
            (format!("{file}.metadata.json"), metadata),
        ]);
        futures::stream::iter(objects)
            .map(|(name, bytes)| self.create(name, bytes))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok((file, month))
    }

    /// The epochs of the raw objects that the commit is about: staged anew, or decided. What these outrank changes with them.
    fn promoted(&self) -> Vec<u64> {
        let records = self.plan.changed.iter().filter_map(|id| self.plan.ledger.records.get(id));
        let is_promoted = |record: &&Record| {
            let before = self.view.ledger.records.get(&record.raw_id);
            before.is_none_or(|b| b.order != record.order || b.decision != record.decision)
        };
        records.filter(is_promoted).map(|record| record.order.epoch).collect()
    }

    async fn create(&self, name: String, bytes: Vec<u8>) -> Result<(), CommitError> {
        let key = keys::metadata(self.dataset, &name);
        match self.writer.create(&key, bytes).await? {
            Creation::Made => Ok(()),
            // Names carry the attempt: nobody else can have made it.
            Creation::Found(_) => Err(CommitError::Corrupt(format!("{key} was there already"))),
        }
    }

    /// The metadata to build on: the present one, or that of a new table, with the current contract's schema.
    fn next_metadata(
        &self,
        contract: &Contract,
        version: &Version,
        now: Timestamp,
    ) -> TableMetadata {
        let Self { store, dataset, view, .. } = *self;
        let uuid = self.writer.attempt();
        let Some(metadata) = &view.metadata else {
            let location = store.uri(&keys::table(dataset));
            return new_table(dataset, uuid, location, contract, version, now);
        };
        let schema = table_schema(contract, version);
        let by: Vec<_> = partition_by(contract, version).iter().map(|b| b.field()).collect();
        let logged = view.logged(metadata, store, dataset).with_spec(by);
        if version.sequence <= view.contract_sequence() {
            return logged;
        }
        logged.with_schema(schema)
    }

    /// The pages of the new snapshot, in order: those that the plan leaves alone, and those it changes, cut to size.
    fn new_pages(&self, metadata: &mut TableMetadata, snapshot_id: i64) -> Vec<Slot> {
        let Self { view, plan, .. } = *self;
        let mut entries = self.entries(metadata, snapshot_id);
        let mut records: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        let page_of = |id: &RawId| view.root.page_of(id).unwrap_or_default();
        let changed: BTreeSet<usize> = plan
            .changed
            .iter()
            .chain(entries.iter().filter(|(_, (_, changed))| *changed).map(|(id, _)| id))
            .map(page_of)
            .collect();
        let weight = |id: &RawId| {
            let of = entries.get(id).map(|(files, _)| files.as_slice()).unwrap_or_default();
            of.iter().filter(|(_, entry)| entry.status != Status::Deleted).count().max(1)
        };
        let mut weights: BTreeMap<usize, usize> = BTreeMap::new();
        for (id, record) in &plan.ledger.records {
            *weights.entry(page_of(id)).or_default() += weight(id);
            records.entry(page_of(id)).or_default().push(record.clone());
        }
        // Of two neighbours that were read, one of them changed.
        let merged = |page: usize| {
            let pair = weights.get(&page).zip(weights.get(&(page + 1)));
            (changed.contains(&page) || changed.contains(&(page + 1)))
                && pair.is_some_and(|(one, other)| merges(*one, *other, self.page_weight))
        };
        let pages = view.root.pages.len().max(1);
        let mut cuts: Vec<Result<Vec<Record>, usize>> = Vec::new();
        let mut index = 0;
        while index < pages {
            if !changed.contains(&index) && !merged(index) {
                cuts.push(Err(index));
                index += 1;
                continue;
            }
            let mut run = records.remove(&index).unwrap_or_default();
            while merged(index) {
                index += 1;
                run.extend(records.remove(&index).unwrap_or_default());
            }
            index += 1;
            cuts.extend(split(run, weight, index == pages, self.page_weight).into_iter().map(Ok));
        }
        let mut slots = Vec::with_capacity(cuts.len());
        for cut in cuts {
            let records = match cut {
                Ok(records) => records,
                Err(index) => {
                    slots.push(Slot::Kept(index));
                    continue;
                }
            };
            let mut page = Page { records, entries: BTreeMap::new() };
            for record in &page.records {
                for (spec, entry) in entries.remove(&record.raw_id).unwrap_or_default().0 {
                    page.entries.entry(spec).or_default().push(entry);
                }
            }
            slots.push(Slot::New(page));
        }
        slots
    }

    /// Every entry of the pages that were read, as the new snapshot has it.
    fn entries(&self, metadata: &mut TableMetadata, snapshot_id: i64) -> Entries {
        let Self { view, plan, number, .. } = *self;
        let mut entries = Entries::new();
        for (path, (spec, entry)) in &view.files {
            let Some(id) = raw_id_of(path) else { continue };
            let (all, changed) = entries.entry(id).or_default();
            let mut entry = entry.clone();
            if plan.removed.contains(path) {
                (entry.status, entry.snapshot_id) = (Status::Deleted, snapshot_id);
                *changed = true;
            } else {
                entry.status = Status::Existing;
            }
            all.push((*spec, entry));
        }
        let default = metadata.default_spec_id;
        let mut specs: Vec<(&Option<PartitionBy>, i32)> = Vec::new();
        for (by, file) in &plan.added {
            let Some(id) = raw_id_of(&file.path) else { continue };
            let known = specs.iter().find(|(known, _)| *known == by).map(|(_, spec)| *spec);
            let spec = known.unwrap_or_else(|| {
                *metadata = metadata.with_spec(by.iter().map(PartitionBy::field).collect());
                specs.push((by, metadata.default_spec_id));
                metadata.default_spec_id
            });
            let entry = Entry {
                status: Status::Added,
                snapshot_id,
                sequence_number: number,
                file_sequence_number: number,
                file: file.clone(),
            };
            let (all, changed) = entries.entry(id).or_default();
            all.push((spec, entry));
            *changed = true;
        }
        metadata.default_spec_id = default;
        entries
    }

    /// Encodes the new pages; answers with the new root and the rows of the manifest list.
    fn pages(
        &self,
        slots: Vec<Slot>,
        metadata: &TableMetadata,
        base: &str,
        snapshot_id: i64,
        objects: &mut Objects,
    ) -> Result<(Root, Vec<ManifestFile>), CommitError> {
        let Self { view, number, .. } = *self;
        let uuid = self.writer.attempt();
        let schema = metadata.current_schema().ok_or(FormatError::Missing { field: "schema" })?;
        let known: BTreeMap<&str, &ManifestFile> =
            view.manifests.iter().map(|m| (m.path.as_str(), m)).collect();
        let mut root = Root { v: Root::FORMAT, pages: Vec::with_capacity(slots.len()) };
        let mut described = Vec::with_capacity(slots.len());
        for (n, slot) in slots.into_iter().enumerate() {
            let page = match slot {
                Slot::Kept(index) => {
                    let Some(kept) = view.root.pages.get(index) else { continue };
                    let manifests = kept.manifests.iter();
                    let manifests =
                        manifests.filter_map(|m| known.get(format!("{base}{m}").as_str()));
                    described.extend(manifests.map(|m| (*m).clone()));
                    root.pages.push(kept.clone());
                    continue;
                }
                Slot::New(page) => page,
            };
            let mut names = Vec::new();
            for (spec_id, entries) in &page.entries {
                let spec = metadata.partition_specs.iter().find(|s| s.id == *spec_id);
                let spec =
                    spec.ok_or(FormatError::Missing { field: "a manifest's partition spec" })?;
                let bytes = manifest::write(schema, spec, entries)?;
                let (name, length) = (format!("{uuid}-m{n}-{spec_id}.avro"), bytes.len() as u64);
                let path = format!("{base}{name}");
                let manifest =
                    ManifestFile::describe(path, length, spec, entries, snapshot_id, number);
                described.push(manifest);
                names.push(name.clone());
                objects.push((name, bytes));
            }
            let name = format!("{uuid}-l{n}.json");
            root.pages.extend(page.describe(name.clone(), names));
            let records = page.records.into_iter().map(|r| (r.raw_id.clone(), r)).collect();
            objects.push((name, json(&Ledger { records })?));
        }
        Ok((root, described))
    }

    /// A snapshot's summary in Iceberg's own keys.
    fn totals(&self, root: &Root) -> BTreeMap<String, String> {
        let Self { view, plan, .. } = *self;
        let gone = || view.files.iter().filter(|(path, _)| plan.removed.contains(*path));
        let state = |state| root.sum(|page| page.in_state(state));
        let operation = if plan.removed.is_empty() { "append" } else { "overwrite" };
        let pairs = [
            ("added-data-files", plan.added.len() as u64),
            ("added-records", plan.added.iter().map(|(_, f)| f.rows).sum()),
            ("added-files-size", plan.added.iter().map(|(_, f)| f.bytes).sum()),
            ("deleted-data-files", plan.removed.len() as u64),
            ("deleted-records", gone().map(|(_, (_, e))| e.file.rows).sum()),
            ("removed-files-size", gone().map(|(_, (_, e))| e.file.bytes).sum()),
            ("total-data-files", root.sum(|page| page.files)),
            ("total-records", root.sum(|page| page.rows)),
            ("total-files-size", root.sum(|page| page.bytes)),
            ("total-delete-files", 0),
            ("total-position-deletes", 0),
            ("total-equality-deletes", 0),
            ("sluicegate.published", state(State::Published)),
            ("sluicegate.held", state(State::Held)),
            ("sluicegate.cost-nano-usd", root.sum(|page| page.cost)),
        ];
        let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_string()));
        pairs.chain([("operation".to_owned(), operation.to_owned())]).collect()
    }
}

/// A table without a snapshot, with a contract's schema and partitions.
pub(crate) fn new_table(
    dataset: &Dataset,
    uuid: Uuid,
    location: String,
    contract: &Contract,
    version: &Version,
    now: Timestamp,
) -> TableMetadata {
    let schema = table_schema(contract, version);
    let unpartitioned = PartitionSpec { id: 0, fields: Vec::new() };
    let by = partition_by(contract, version).iter().map(PartitionBy::field).collect();
    let empty = TableMetadata::new(uuid, location, schema, unpartitioned, now.as_millisecond());
    let mut metadata = empty.with_spec(by);
    metadata.properties.insert("sluicegate.dataset".to_owned(), dataset.to_string());
    metadata
}

/// A positive number that no other commit has.
pub(crate) fn snapshot_id(uuid: Uuid) -> i64 {
    let (high, _) = uuid.as_u64_pair();
    i64::try_from(high >> 1).unwrap_or(i64::MAX).max(1)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, CommitError> {
    serde_json::to_vec(value).map_err(|e| CommitError::Corrupt(e.to_string()))
}
