//! One published state of a table, as far as it has been read: what a plan starts from.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use sluicegate_lake::{Dataset, ETag, RawId, Store, StoreError, keys};
use uuid::Uuid;

use crate::commit::{AT_ONCE, CommitError};
use crate::iceberg::FormatError;
use crate::iceberg::list::{self, ManifestFile};
use crate::iceberg::manifest::{self, Entry, Status};
use crate::iceberg::metadata::{Snapshot, TableMetadata};
use crate::ledger::{Ledger, Record};
use crate::tree::Root;

/// Keys of a snapshot's summary that are ours.
pub(crate) const LEDGER: &str = "sluicegate.ledger";
pub(crate) const CHANGES: &str = "sluicegate.changes";
pub(crate) const COMMIT: &str = "sluicegate.commit";
pub(crate) const CONTRACT: &str = "sluicegate.contract-sequence";

/// Of a table that never published two versions of a source at once.
pub(crate) const ONE_VERSION: &str = "sluicegate.one-version";

/// About what a record takes in a ledger page, in bytes.
const RECORD_BYTES: u64 = 1000;

/// Earlier files that the metadata lists; readers parse them all.
const LOGGED_FILES: usize = 100;

/// A table as one snapshot of it says. Records and files are those of the pages that were read.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The pointer's tag; `None` while there is no table.
    pub pointer: Option<ETag>,
    /// The name that the pointer holds.
    pub file: Option<String>,
    pub metadata: Option<TableMetadata>,
    pub root: Root,
    pub(crate) manifests: Vec<ManifestFile>,
    /// Indices of the pages that were read.
    pub(crate) loaded: BTreeSet<usize>,
    /// Live data files by path, each with the spec of its manifest.
    pub files: BTreeMap<String, (i32, Entry)>,
    pub ledger: Ledger,
}

impl View {
    /// Reads the table's present state, whole. A dataset without a table is an empty view.
    pub async fn read(store: &dyn Store, dataset: &Dataset) -> Result<Self, CommitError> {
        Self::open(store, dataset).await?.whole(store, dataset).await
    }

    /// With all pages read.
    pub async fn whole(
        mut self,
        store: &dyn Store,
        dataset: &Dataset,
    ) -> Result<Self, CommitError> {
        let all = (0..self.root.pages.len()).collect();
        self.load(store, dataset, all).await?;
        Ok(self)
    }

    /// Reads the table's present state without its pages.
    pub async fn open(store: &dyn Store, dataset: &Dataset) -> Result<Self, CommitError> {
        let (pointer, hint) = match store.get(&keys::table_pointer(dataset)).await {
            Ok((meta, hint)) => (meta.etag, hint),
            Err(StoreError::Absent { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let file = String::from_utf8_lossy(&hint).into_owned();
        let name = format!("{file}.metadata.json");
        let metadata = TableMetadata::from_json(&object(store, dataset, &name).await?);
        let metadata = metadata.map_err(|e| unreadable(&name, &e))?;
        let mut view = Self { pointer: Some(pointer), file: Some(file), ..Self::default() };
        if let Some(snapshot) = metadata.current_snapshot() {
            (view.root, view.manifests) = tree_of(store, dataset, snapshot).await?;
        }
        view.metadata = Some(metadata);
        Ok(view)
    }

    /// A snapshot of the same table, without its pages. It has no pointer, since nothing can be built on it.
    pub async fn at(
        &self,
        store: &dyn Store,
        dataset: &Dataset,
        snapshot: &Snapshot,
    ) -> Result<Self, CommitError> {
        let (root, manifests) = tree_of(store, dataset, snapshot).await?;
        Ok(Self { metadata: self.metadata.clone(), root, manifests, ..Self::default() })
    }

    /// Reads the records of one page.
    pub async fn records(
        &self,
        store: &dyn Store,
        dataset: &Dataset,
        page: usize,
    ) -> Result<Vec<Record>, CommitError> {
        let Some(page) = self.root.pages.get(page) else { return Ok(Vec::new()) };
        let read: Ledger = parse(&page.ledger, &object(store, dataset, &page.ledger).await?)?;
        Ok(read.records.into_values().collect())
    }

    /// The records of all pages, page by page in the order of raw ids. No file is read, and a few pages are held at once.
    pub fn all_records<'a>(
        &'a self,
        store: &'a dyn Store,
        dataset: &'a Dataset,
    ) -> impl Stream<Item = Result<Vec<Record>, CommitError>> + 'a {
        futures::stream::iter(0..self.root.pages.len())
            .map(move |page| self.records(store, dataset, page))
            .buffered(AT_ONCE)
    }

    /// How much there is to read in these pages, in bytes: of manifests what the list says, of records an estimate.
    pub(crate) fn bytes_of(&self, pages: &BTreeSet<usize>) -> u64 {
        let pages = || pages.iter().filter_map(|i| self.root.pages.get(*i));
        let named: BTreeSet<&str> =
            pages().flat_map(|page| &page.manifests).map(String::as_str).collect();
        let is_named = |manifest: &&ManifestFile| {
            manifest.path.rsplit_once('/').is_some_and(|(_, name)| named.contains(name))
        };
        let manifests: u64 = self.manifests.iter().filter(is_named).map(|m| m.length).sum();
        manifests + pages().map(|page| page.records() * RECORD_BYTES).sum::<u64>()
    }

    /// Reads pages, those that were read before left out.
    pub(crate) async fn load(
        &mut self,
        store: &dyn Store,
        dataset: &Dataset,
        pages: BTreeSet<usize>,
    ) -> Result<(), CommitError> {
        let missing: Vec<usize> = pages.difference(&self.loaded).copied().collect();
        let objects = missing.iter().filter_map(|i| self.root.pages.get(*i)).flat_map(|page| {
            let ledger = std::iter::once((page.ledger.as_str(), true));
            ledger.chain(page.manifests.iter().map(|name| (name.as_str(), false)))
        });
        let objects: Vec<(String, bool)> =
            objects.map(|(name, is_ledger)| (name.to_owned(), is_ledger)).collect();
        let read: Vec<(String, bool, Bytes)> = futures::stream::iter(objects)
            .map(|(name, is_ledger)| async move {
                let bytes = object(store, dataset, &name).await?;
                Ok::<_, CommitError>((name, is_ledger, bytes))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let base = base_of(store, dataset);
        let specs: BTreeMap<&str, &ManifestFile> = self
            .manifests
            .iter()
            .map(|m| (m.path.strip_prefix(&base).unwrap_or(&m.path), m))
            .collect();
        for (name, is_ledger, bytes) in read {
            if is_ledger {
                let page: Ledger = parse(&name, &bytes)?;
                self.ledger.records.extend(page.records);
                continue;
            }
            let described = specs.get(name.as_str()).filter(|m| m.length == bytes.len() as u64);
            let described = described.ok_or_else(|| {
                CommitError::Corrupt(format!("{name} is not as the snapshot's list says"))
            })?;
            for entry in manifest::read(&bytes).map_err(|e| unreadable(&name, &e))? {
                if entry.status != Status::Deleted {
                    self.files.insert(entry.file.path.clone(), (described.spec_id, entry));
                }
            }
        }
        self.loaded.extend(missing);
        Ok(())
    }

    /// Metadata to build on: with its own file, that this was read from, in the log of earlier ones.
    pub(crate) fn logged(
        &self,
        metadata: &TableMetadata,
        store: &dyn Store,
        dataset: &Dataset,
    ) -> TableMetadata {
        let file = self.file.as_deref().unwrap_or_default();
        let file = format!("{}{file}.metadata.json", base_of(store, dataset));
        metadata.with_previous_file(file, LOGGED_FILES)
    }

    /// The number of the snapshot, which is its sequence number; 0 for none.
    pub fn number(&self) -> i64 {
        self.metadata.as_ref().map_or(0, |m| m.last_sequence_number)
    }

    /// Whether no snapshot ever published two versions of a source at once, as far as is known.
    pub(crate) fn has_one_version(&self) -> bool {
        let Some(metadata) = &self.metadata else { return true };
        let snapshot = metadata.current_snapshot();
        snapshot.is_none_or(|s| s.summary.contains_key(ONE_VERSION))
    }

    /// The contract's sequence that the table's schema is from.
    pub fn contract_sequence(&self) -> u32 {
        let snapshot = self.metadata.as_ref().and_then(TableMetadata::current_snapshot);
        let sequence = snapshot.and_then(|s| s.summary.get(CONTRACT));
        sequence.and_then(|s| s.parse().ok()).unwrap_or_default()
    }
}

/// What a snapshot names: the ledger's root and the manifests.
pub(crate) async fn tree_of(
    store: &dyn Store,
    dataset: &Dataset,
    snapshot: &Snapshot,
) -> Result<(Root, Vec<ManifestFile>), CommitError> {
    let base = base_of(store, dataset);
    let listed = snapshot.manifest_list.strip_prefix(&base).unwrap_or(&snapshot.manifest_list);
    let name = snapshot.summary.get(LEDGER).ok_or_else(|| {
        CommitError::Corrupt(format!("snapshot {} names no ledger", snapshot.snapshot_id))
    })?;
    let (listed, bytes) =
        futures::try_join!(object(store, dataset, listed), object(store, dataset, name))?;
    let root: Root = parse(name, &bytes)?;
    if root.v != Root::FORMAT {
        return Err(CommitError::Corrupt(format!("{name}: format {}", root.v)));
    }
    let manifests = list::read(&listed).map_err(|e| unreadable(&snapshot.manifest_list, &e))?;
    Ok((root, manifests))
}

/// What the table itself has written is to blame, no message.
fn unreadable(name: &str, error: &FormatError) -> CommitError {
    CommitError::Corrupt(format!("{name}: {error}"))
}

/// The name of a metadata file, as the pointer has it.
pub(crate) fn file_name(number: i64, attempt: Uuid) -> String {
    format!("{number:05}-{attempt}")
}

/// The table's number, as the name of a metadata file says it.
pub fn number_of(file: &str) -> Option<u64> {
    file.split_once('-')?.0.parse().ok()
}

/// The start of every metadata path of a table.
pub(crate) fn base_of(store: &dyn Store, dataset: &Dataset) -> String {
    store.uri(&keys::metadata(dataset, ""))
}

/// The raw object that a data file was staged from: its name begins with the raw id.
pub(crate) fn raw_id_of(path: &str) -> Option<RawId> {
    let (_, name) = path.rsplit_once('/')?;
    name.get(..49)?.parse().ok()
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    name: &str,
    bytes: &[u8],
) -> Result<T, CommitError> {
    serde_json::from_slice(bytes).map_err(|e| CommitError::Corrupt(format!("{name}: {e}")))
}

pub(crate) async fn object(
    store: &dyn Store,
    dataset: &Dataset,
    name: &str,
) -> Result<Bytes, CommitError> {
    match store.get(&keys::metadata(dataset, name)).await {
        Ok((_, bytes)) => Ok(bytes),
        // PUB-4: what the pointer leads to must be there.
        Err(StoreError::Absent { key }) => Err(CommitError::Corrupt(format!("{key} is missing"))),
        Err(error) => Err(error.into()),
    }
}
