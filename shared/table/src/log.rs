//! The table's log: the snapshots that are retained, and what changed since one of them.
//!
//! Changes are told also of snapshots that are no longer retained, as long as their lists are there: each list names
//! the one before. Fails with [`LogError::Gone`] where a list that is needed was collected: whoever asks has been
//! away too long, and reads the table anew.

use sluicegate_lake::{Dataset, Store, StoreError, keys};

use crate::changes::ChangeList;
use crate::commit::CommitError;
use crate::iceberg::metadata::{Snapshot, TableMetadata};
use crate::view::{CHANGES, View, parse};

/// Why what changed cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("nothing is published")]
    NoTable,
    #[error("there was no snapshot {0}; the present one is {1}")]
    Unknown(i64, i64),
    #[error("what changed in snapshot {0} is no longer there: read the table anew")]
    Gone(i64),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// A table's metadata, with its retained snapshots.
pub async fn metadata(store: &dyn Store, dataset: &Dataset) -> Result<TableMetadata, LogError> {
    let view = View::open(store, dataset).await?;
    view.metadata.filter(|m| m.current_snapshot().is_some()).ok_or(LogError::NoTable)
}

/// A snapshot by its number or its id, if it is retained.
pub fn find(metadata: &TableMetadata, number_or_id: i64) -> Option<&Snapshot> {
    let snapshots = || metadata.snapshots.iter();
    let by_number = snapshots().find(|s| s.sequence_number == number_or_id);
    by_number.or_else(|| snapshots().find(|s| s.snapshot_id == number_or_id))
}

/// The change list of a retained snapshot.
pub async fn changes_in(
    store: &dyn Store,
    dataset: &Dataset,
    snapshot: &Snapshot,
) -> Result<ChangeList, LogError> {
    let gone = LogError::Gone(snapshot.sequence_number);
    let Some(name) = snapshot.summary.get(CHANGES) else { return Err(gone) };
    read(store, dataset, name).await?.ok_or(gone)
}

/// The change lists of all snapshots after `since`, a number, the oldest first.
pub async fn changes_since(
    store: &dyn Store,
    dataset: &Dataset,
    metadata: &TableMetadata,
    since: i64,
) -> Result<Vec<ChangeList>, LogError> {
    let present = metadata.current_snapshot().ok_or(LogError::NoTable)?;
    if !(0..=present.sequence_number).contains(&since) {
        return Err(LogError::Unknown(since, present.sequence_number));
    }
    let mut lists: Vec<ChangeList> = Vec::new();
    let mut next = Some(present).filter(|s| s.sequence_number > since);
    let mut name = next.take().and_then(|s| s.summary.get(CHANGES).cloned());
    while let Some(this) = name.take() {
        let list = read(store, dataset, &this).await?;
        let list = match (list, lists.last()) {
            (Some(list), _) => list,
            (None, Some(later)) => return Err(LogError::Gone(later.before())),
            (None, None) => return Err(LogError::Gone(present.sequence_number)),
        };
        if list.number <= since {
            break;
        }
        // The list that was seen already need not be there.
        let is_needed = list.before() > since;
        name = list.previous.clone().filter(|_| is_needed);
        // The first lists did not name the one before; the metadata does while it is retained.
        if name.is_none() && is_needed {
            let before = metadata.snapshots.iter().rfind(|s| s.sequence_number < list.number);
            name = before.and_then(|s| s.summary.get(CHANGES).cloned());
            if name.is_none() && list.at.is_none() {
                return Err(LogError::Gone(list.before()));
            }
        }
        lists.push(list);
    }
    lists.reverse();
    Ok(lists)
}

/// A change list; `None` if it was collected.
pub(crate) async fn read(
    store: &dyn Store,
    dataset: &Dataset,
    name: &str,
) -> Result<Option<ChangeList>, CommitError> {
    let bytes = match store.get(&keys::metadata(dataset, name)).await {
        Ok((_, bytes)) => bytes,
        Err(StoreError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let list: ChangeList = parse(name, &bytes)?;
    if list.v != ChangeList::FORMAT {
        return Err(CommitError::Corrupt(format!("{name}: format {}", list.v)));
    }
    Ok(Some(list))
}
