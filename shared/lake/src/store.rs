//! [`Store`]: what is asked of an object store, one bucket each.
//!
//! Two writes are conditional and nothing else is ever written: [`Store::create`] (and [`Store::copy`]) makes an
//! object that was absent, [`Store::swap`] replaces one that is unchanged since it was read. What an error means for
//! the caller:
//!
//! | error | it means | the caller |
//! |---|---|---|
//! | [`StoreError::Absent`] | no such object | goes on without it |
//! | [`StoreError::AlreadyThere`] | somebody made it first, perhaps this very attempt | reads it back ([`crate::cas`]) |
//! | [`StoreError::Changed`] | the object is not the one that was read | reads again and rebuilds |
//! | [`StoreError::TryAgain`] | nothing is known about the outcome | repeats, or returns its message to the queue |
//! | [`StoreError::Denied`] | the role may not | stops: only a person can mend it |
//! | [`StoreError::Other`] | anything else | stops |

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;

/// Small text facts kept with an object (S3 user metadata): ASCII keys and values, 2 KB in all.
pub type Attributes = BTreeMap<String, String>;

/// An object's bytes, in order, in pieces of a bounded size.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// The tag of an object's present content, as the store gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(pub String);

/// What is known of an object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub size: u64,
    pub etag: ETag,
    pub modified: Timestamp,
    /// The version's id, where the bucket keeps versions.
    pub version: Option<String>,
    pub attributes: Attributes,
    /// SHA-256 of the whole object in base64. A composite checksum of parts is never given here.
    pub sha256: Option<String>,
}

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size: u64,
    pub modified: Timestamp,
}

/// A part of a listing, in key order; `more` says that keys after the last one remain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Listed>,
    pub more: bool,
}

/// What to write.
#[derive(Clone, Debug)]
pub enum Body {
    Bytes(Bytes),
    /// A local file, streamed.
    File(PathBuf),
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// What must be at the key for a swap to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Nothing,
    Tag(ETag),
}

/// The object that a copy reads: another bucket of the same store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
    pub size: u64,
}

/// Why a request did not do what was asked. The module's header says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("{key} is absent")]
    Absent { key: String },
    #[error("{key} is already there")]
    AlreadyThere { key: String },
    #[error("{key} was changed by somebody else")]
    Changed { key: String },
    #[error("{key}: try again: {reason}")]
    TryAgain { key: String, reason: String },
    #[error("{key}: access denied: {reason}")]
    Denied { key: String, reason: String },
    #[error("{key}: {reason}")]
    Other { key: String, reason: String },
}

impl StoreError {
    /// Whether repeating the same request may succeed.
    pub fn is_try_again(&self) -> bool {
        matches!(self, Self::TryAgain { .. })
    }
}

/// One bucket.
#[async_trait]
pub trait Store: Send + Sync {
    /// The bucket's name.
    fn bucket(&self) -> &str;

    /// A URI under which other engines find `key`.
    fn uri(&self, key: &str) -> String;

    /// What is known of an object, or of one of its versions.
    async fn head(&self, key: &str, version: Option<&str>) -> Result<Meta, StoreError>;

    /// A whole object, for those that are small by construction.
    async fn get(&self, key: &str) -> Result<(Meta, Bytes), StoreError>;

    /// An object, or a range of its bytes, as a stream.
    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Meta, ByteStream), StoreError>;

    /// Makes an object that is absent; else [`StoreError::AlreadyThere`].
    async fn create(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
    ) -> Result<(), StoreError>;

    /// Replaces what is expected; else [`StoreError::Changed`].
    async fn swap(
        &self,
        key: &str,
        body: Bytes,
        expected: &Expected,
        attributes: &Attributes,
    ) -> Result<(), StoreError>;

    /// Makes an object that is absent from another bucket's, inside the store, with a SHA-256 of its content.
    async fn copy(
        &self,
        from: &CopySource,
        key: &str,
        attributes: &Attributes,
    ) -> Result<(), StoreError>;

    /// Objects whose keys begin with `prefix` and come after `after`, at most 1,000.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, StoreError>;

    /// Removes an object; an absent one is no error.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}

/// Every object below a prefix.
pub async fn list_all(store: &dyn Store, prefix: &str) -> Result<Vec<Listed>, StoreError> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map(|o: &Listed| o.key.clone());
        let page = store.list(prefix, after.as_deref()).await?;
        all.extend(page.objects);
        if !page.more {
            return Ok(all);
        }
    }
}

/// The condition of a creation, for stores that see what is there.
pub(crate) fn must_be_absent(key: &str) -> impl FnOnce(Option<&Meta>) -> Result<(), StoreError> {
    move |current| match current {
        None => Ok(()),
        Some(_) => Err(StoreError::AlreadyThere { key: key.to_owned() }),
    }
}
