//! One published state of a table, read whole: what a plan starts from.

use std::collections::BTreeMap;

use bytes::Bytes;
use sluicegate_lake::{Dataset, ETag, RawId, Store, StoreError, keys};

use crate::commit::CommitError;
use crate::iceberg::list;
use crate::iceberg::manifest::{self, Entry, Status};
use crate::iceberg::metadata::TableMetadata;
use crate::ledger::Ledger;

/// Keys of a snapshot's summary that are ours.
pub(crate) const LEDGER: &str = "sluicegate.ledger";
pub(crate) const CHANGES: &str = "sluicegate.changes";
pub(crate) const COMMIT: &str = "sluicegate.commit";
pub(crate) const CONTRACT: &str = "sluicegate.contract-sequence";

/// A table as one snapshot of it says.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The pointer's tag; `None` while there is no table.
    pub pointer: Option<ETag>,
    /// The name that the pointer holds.
    pub file: Option<String>,
    pub metadata: Option<TableMetadata>,
    /// Live data files by path, each with the spec of its manifest.
    pub files: BTreeMap<String, (i32, Entry)>,
    pub ledger: Ledger,
}

impl View {
    /// Reads the table's present state. A dataset without a table is an empty view.
    pub async fn read(store: &dyn Store, dataset: &Dataset) -> Result<Self, CommitError> {
        let (pointer, hint) = match store.get(&keys::table_pointer(dataset)).await {
            Ok((meta, hint)) => (meta.etag, hint),
            Err(StoreError::Absent { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let file = String::from_utf8_lossy(&hint).into_owned();
        let name = format!("{file}.metadata.json");
        let metadata = TableMetadata::from_json(&object(store, dataset, &name).await?)?;
        let mut view = Self {
            pointer: Some(pointer),
            file: Some(file),
            metadata: None,
            files: BTreeMap::new(),
            ledger: Ledger::default(),
        };
        if let Some(snapshot) = metadata.current_snapshot() {
            let base = base_of(store, dataset);
            let name = |path: &str| path.strip_prefix(&base).unwrap_or(path).to_owned();
            let listed =
                list::read(&object(store, dataset, &name(&snapshot.manifest_list)).await?)?;
            for described in listed {
                let bytes = object(store, dataset, &name(&described.path)).await?;
                if bytes.len() as u64 != described.length {
                    return Err(CommitError::Corrupt(format!("{}: wrong length", described.path)));
                }
                for entry in manifest::read(&bytes)? {
                    if entry.status != Status::Deleted {
                        view.files.insert(entry.file.path.clone(), (described.spec_id, entry));
                    }
                }
            }
            let ledger = snapshot.summary.get(LEDGER).ok_or_else(|| {
                CommitError::Corrupt(format!("snapshot {} names no ledger", snapshot.snapshot_id))
            })?;
            view.ledger = serde_json::from_slice(&object(store, dataset, ledger).await?)
                .map_err(|e| CommitError::Corrupt(format!("{ledger}: {e}")))?;
        }
        view.metadata = Some(metadata);
        Ok(view)
    }

    /// The number of the snapshot, which is its sequence number; 0 for none.
    pub fn number(&self) -> i64 {
        self.metadata.as_ref().map_or(0, |m| m.last_sequence_number)
    }

    /// The contract's sequence that the table's schema is from.
    pub fn contract_sequence(&self) -> u32 {
        let snapshot = self.metadata.as_ref().and_then(TableMetadata::current_snapshot);
        let sequence = snapshot.and_then(|s| s.summary.get(CONTRACT));
        sequence.and_then(|s| s.parse().ok()).unwrap_or_default()
    }
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

async fn object(store: &dyn Store, dataset: &Dataset, name: &str) -> Result<Bytes, CommitError> {
    match store.get(&keys::metadata(dataset, name)).await {
        Ok((_, bytes)) => Ok(bytes),
        // PUB-4: what the pointer leads to must be there.
        Err(StoreError::Absent { key }) => Err(CommitError::Corrupt(format!("{key} is missing"))),
        Err(error) => Err(error.into()),
    }
}
