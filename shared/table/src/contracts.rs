//! A dataset's contract as the lake keeps it: a pointer, and the immutable version that it names.

use sluicegate_contract::{ContractPointer, Version};
use sluicegate_lake::{Dataset, ETag, Store, StoreError, keys};

/// Why a contract cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{key}: {source}")]
    Malformed { key: String, source: serde_json::Error },
}

/// The current contract of a dataset with the pointer's tag, if it has one.
pub async fn current_contract(
    store: &dyn Store,
    dataset: &Dataset,
) -> Result<Option<(ETag, Version)>, ContractError> {
    let key = keys::contract_pointer(dataset);
    let (meta, bytes) = match store.get(&key).await {
        Err(StoreError::Absent { .. }) => return Ok(None),
        found => found?,
    };
    let pointer: ContractPointer = serde_json::from_slice(&bytes)
        .map_err(|source| ContractError::Malformed { key, source })?;
    let key = keys::contract(dataset, &pointer.name);
    let (_, bytes) = store.get(&key).await?;
    let version = serde_json::from_slice(&bytes)
        .map_err(|source| ContractError::Malformed { key, source })?;
    Ok(Some((meta.etag, version)))
}
