//! Create once, swap if unchanged: the two steps that publish anything, and nothing about datasets.
//!
//! Guarantee: an answer of [`Creation::Made`] or of [`Swap::Done`] means that this attempt's bytes were at the key at
//! some moment, also when the store's acknowledgement was lost on the way. [`Creation::Found`] and [`Swap::Lost`] mean
//! that this attempt's bytes never were, with one exception: a swap whose acknowledgement was lost and that
//! somebody else swapped away before it could be read back answers `Lost`. A caller must therefore find its own
//! commit in what it reads next, as promote does in the ledger.
//!
//! It works because every object carries the id of the attempt that wrote it: a 412 is answered by reading back.
//!
//! ```
//! # use sluicegate_lake::{cas::{Creation, Writer}, memory::Memory, Seeded, StoreError};
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let (cloud, ambient) = (Memory::default(), Seeded::new(jiff::Timestamp::UNIX_EPOCH, 1));
//! let store = cloud.bucket("lake");
//! let first = Writer::new(&store, &ambient);
//! assert!(matches!(first.create("a", "one").await?, Creation::Made));
//! let second = Writer::new(&store, &ambient);
//! assert!(matches!(second.create("a", "two").await?, Creation::Found(_)));
//! # Ok::<(), StoreError>(()) }).unwrap();
//! ```

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::{Ambient, Attributes, Body, CopySource, Expected, Meta, Store, StoreError};

/// The attribute that names the attempt which wrote an object.
pub const ATTEMPT: &str = "sluicegate-attempt";

/// What a creation came to.
#[derive(Debug)]
pub enum Creation {
    /// This attempt made it.
    Made,
    /// Somebody else had; this is theirs.
    Found(Meta),
}

/// What a swap came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    Done,
    Lost,
}

/// Waits between tries: doubling from `first`, capped, and spread over the whole span so that rivals part.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first: Duration,
    pub cap: Duration,
    pub tries: u32,
}

impl Backoff {
    /// For one request that asked to be tried again.
    pub const REQUEST: Self =
        Self { first: Duration::from_millis(50), cap: Duration::from_secs(2), tries: 5 };
    /// For a whole commit that lost its race.
    pub const COMMIT: Self =
        Self { first: Duration::from_millis(20), cap: Duration::from_secs(3), tries: 20 };

    /// Sleeps before try number `next` (from 1); `false` when there are none left.
    pub async fn wait(&self, next: u32, ambient: &dyn Ambient) -> bool {
        if next >= self.tries {
            return false;
        }
        let span = self.first.saturating_mul(1 << next.min(16)).min(self.cap);
        tokio::time::sleep(span.mul_f64(ambient.jitter())).await;
        true
    }
}

/// Writes conditionally to one store, under one attempt id.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    store: &'a dyn Store,
    ambient: &'a dyn Ambient,
    attempt: Uuid,
}

impl<'a> Writer<'a> {
    /// A writer with a new attempt id.
    pub fn new(store: &'a dyn Store, ambient: &'a dyn Ambient) -> Self {
        Self { store, ambient, attempt: ambient.uuid() }
    }

    /// The id that everything written here carries.
    pub fn attempt(&self) -> Uuid {
        self.attempt
    }

    /// Makes an object, or finds the one that is there.
    pub async fn create(&self, key: &str, body: impl Into<Body>) -> Result<Creation, StoreError> {
        let body = body.into();
        let attributes = self.signed(Attributes::new());
        self.once(key, || self.store.create(key, body.clone(), &attributes)).await
    }

    /// Makes an object from another bucket's, or finds the one that is there.
    pub async fn copy(
        &self,
        from: &CopySource,
        key: &str,
        attributes: Attributes,
    ) -> Result<Creation, StoreError> {
        let attributes = self.signed(attributes);
        self.once(key, || self.store.copy(from, key, &attributes)).await
    }

    /// Replaces what is expected at `key`.
    pub async fn swap(
        &self,
        key: &str,
        body: Bytes,
        expected: &Expected,
    ) -> Result<Swap, StoreError> {
        let attributes = self.signed(Attributes::new());
        let swapped =
            self.patiently(|| self.store.swap(key, body.clone(), expected, &attributes)).await;
        match swapped {
            Ok(()) => Ok(Swap::Done),
            Err(StoreError::Changed { .. } | StoreError::AlreadyThere { .. }) => {
                Ok(match self.read_back(key).await? {
                    Some(meta) if self.is_mine(&meta) => Swap::Done,
                    _ => Swap::Lost,
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn once<F>(&self, key: &str, request: impl FnMut() -> F) -> Result<Creation, StoreError>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        match self.patiently(request).await {
            Ok(()) => Ok(Creation::Made),
            Err(error @ StoreError::AlreadyThere { .. }) => match self.read_back(key).await? {
                Some(meta) if self.is_mine(&meta) => Ok(Creation::Made),
                Some(meta) => Ok(Creation::Found(meta)),
                // Deleted in between: no object of ours is ever created anew under such a key.
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn read_back(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        match self.patiently(|| self.store.head(key, None)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a request until it has an outcome that is known, or patience ends.
    async fn patiently<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut tried = 0;
        loop {
            let outcome = request().await;
            tried += 1;
            match outcome {
                Err(error) if error.is_try_again() => {
                    if !Backoff::REQUEST.wait(tried, self.ambient).await {
                        return Err(error);
                    }
                }
                known => return known,
            }
        }
    }

    fn signed(&self, mut attributes: Attributes) -> Attributes {
        attributes.insert(ATTEMPT.to_owned(), self.attempt.to_string());
        attributes
    }

    fn is_mine(&self, meta: &Meta) -> bool {
        meta.attributes.get(ATTEMPT) == Some(&self.attempt.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Fault, Memory};
    use crate::{ETag, Seeded};

    fn world() -> (Memory, Seeded) {
        (Memory::default(), Seeded::new(jiff::Timestamp::UNIX_EPOCH, 1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_acknowledgement_of_a_creation_is_no_loss() {
        let (cloud, ambient) = world();
        let store = cloud.bucket("lake");
        store.fail_next(Fault::LostAcknowledgement);
        let writer = Writer::new(&store, &ambient);
        assert!(matches!(writer.create("k", "mine").await.unwrap(), Creation::Made));
        assert_eq!(store.get("k").await.unwrap().1, "mine");

        store.fail_next(Fault::LostAcknowledgement);
        let other = Writer::new(&store, &ambient);
        assert!(matches!(other.create("k", "theirs").await.unwrap(), Creation::Found(_)));
        assert_eq!(store.get("k").await.unwrap().1, "mine");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_acknowledgement_of_a_swap_is_no_loss() {
        let (cloud, ambient) = world();
        let store = cloud.bucket("lake");
        let writer = Writer::new(&store, &ambient);
        assert_eq!(writer.swap("p", "1".into(), &Expected::Nothing).await.unwrap(), Swap::Done);
        let tag = store.get("p").await.unwrap().0.etag;

        store.fail_next(Fault::LostAcknowledgement);
        let second = Writer::new(&store, &ambient);
        let expected = Expected::Tag(tag.clone());
        assert_eq!(second.swap("p", "2".into(), &expected).await.unwrap(), Swap::Done);

        let late = Writer::new(&store, &ambient);
        assert_eq!(late.swap("p", "3".into(), &expected).await.unwrap(), Swap::Lost);
        assert_eq!(store.get("p").await.unwrap().1, "2");
        let absent = Expected::Tag(ETag("none".into()));
        assert_eq!(late.swap("q", "3".into(), &absent).await.unwrap(), Swap::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_tried_again_and_gives_up_in_the_end() {
        let (cloud, ambient) = world();
        let store = cloud.bucket("lake");
        let writer = Writer::new(&store, &ambient);
        store.fail_next(Fault::Conflict);
        store.fail_next(Fault::Unavailable);
        assert!(matches!(writer.create("k", "mine").await.unwrap(), Creation::Made));
        for _ in 0..Backoff::REQUEST.tries {
            store.fail_next(Fault::Conflict);
        }
        let error = writer.swap("p", "1".into(), &Expected::Nothing).await.unwrap_err();
        assert!(error.is_try_again(), "{error}");
        assert!(matches!(store.head("p", None).await, Err(StoreError::Absent { .. })));
    }
}
