//! Buckets and queues in this process: what tests and simulations run on.
//!
//! Atomic under one lock, versioned like a versioned S3 bucket, counted like the real thing, and able to fail on
//! request ([`MemoryStore::fail_next`]). Time stands at the epoch until [`Memory::set_now`].

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::store::must_be_absent;
use crate::{
    Attributes, Body, ByteStream, CopySource, Depth, ETag, Expected, Listed, Meta, Outgoing, Page,
    Queue, QueueError, Received, Requests, Store, StoreError,
};

/// The pieces in which [`Store::read`] hands out bytes.
const PIECE: usize = 64 * 1024;

/// What the next write may be made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the write goes through. It places the faults after it.
    None,
    /// 409: somebody is writing; nothing was done.
    Conflict,
    /// 503: nothing was done.
    Unavailable,
    /// The write was done, the answer lost.
    LostAcknowledgement,
}

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    meta: Meta,
}

#[derive(Default)]
struct State {
    now: Timestamp,
    serial: u64,
    buckets: BTreeMap<String, BTreeMap<String, Vec<Object>>>,
    /// Buckets and keys in the order in which they were written or deleted.
    journal: Vec<(String, String)>,
    queues: BTreeMap<String, VecDeque<Received>>,
    taken: BTreeMap<String, (String, Received)>,
}

/// A cloud of one process. Clones share it.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<State>>, Requests);

impl Memory {
    /// One of its buckets, made on first use.
    pub fn bucket(&self, name: &str) -> MemoryStore {
        MemoryStore { cloud: self.clone(), name: name.to_owned(), faults: Arc::default() }
    }

    /// One of its queues, made on first use.
    pub fn queue(&self, name: &str) -> MemoryQueue {
        MemoryQueue { cloud: self.clone(), name: name.to_owned() }
    }

    /// The requests made so far, counted since last taken.
    pub fn requests(&self) -> &Requests {
        &self.1
    }

    /// Moves the clock that stamps objects.
    pub fn set_now(&self, now: Timestamp) {
        self.lock().now = now;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket of a [`Memory`].
#[derive(Clone)]
pub struct MemoryStore {
    cloud: Memory,
    name: String,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl MemoryStore {
    /// Puts an object as a producer does, unconditionally: a new version if the key is taken.
    pub fn upload(&self, key: &str, bytes: impl Into<Bytes>) -> Meta {
        self.insert(&mut self.cloud.lock(), key, bytes.into(), &Attributes::new())
    }

    /// As [`MemoryStore::upload`], under a version id of one's own.
    pub fn upload_version(&self, key: &str, bytes: impl Into<Bytes>, version: &str) -> Meta {
        let mut state = self.cloud.lock();
        let mut meta = self.insert(&mut state, key, bytes.into(), &Attributes::new());
        meta.version = Some(version.to_owned());
        let versions = state.buckets.get_mut(&self.name).and_then(|b| b.get_mut(key));
        if let Some(object) = versions.and_then(|v| v.last_mut()) {
            object.meta = meta.clone();
        }
        meta
    }

    /// Makes a coming write fail; faults are used up in order.
    pub fn fail_next(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    /// How many versions of a key were ever written.
    pub fn versions(&self, key: &str) -> usize {
        let state = self.cloud.lock();
        state.buckets.get(&self.name).and_then(|b| b.get(key)).map_or(0, Vec::len)
    }

    /// Keys that were written or deleted since the journal had some length, in order, and its length now.
    pub fn touched_since(&self, length: usize) -> (Vec<String>, usize) {
        let state = self.cloud.lock();
        let since = state.journal.iter().skip(length).filter(|(bucket, _)| *bucket == self.name);
        (since.map(|(_, key)| key.clone()).collect(), state.journal.len())
    }

    fn insert(&self, state: &mut State, key: &str, bytes: Bytes, attributes: &Attributes) -> Meta {
        state.serial += 1;
        let meta = Meta {
            size: bytes.len() as u64,
            etag: ETag(format!("\"{:016x}\"", state.serial)),
            modified: state.now,
            version: Some(format!("v{:08}", state.serial)),
            attributes: attributes.clone(),
            sha256: Some(crate::base64(&Sha256::digest(&bytes))),
        };
        let object = Object { bytes, meta: meta.clone() };
        state.journal.push((self.name.clone(), key.to_owned()));
        let bucket = state.buckets.entry(self.name.clone()).or_default();
        bucket.entry(key.to_owned()).or_default().push(object);
        meta
    }

    fn write(
        &self,
        key: &str,
        bytes: Bytes,
        attributes: &Attributes,
        allowed: impl FnOnce(Option<&Meta>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let try_again =
            |reason: &str| StoreError::TryAgain { key: key.to_owned(), reason: reason.to_owned() };
        match fault {
            Some(Fault::Conflict) => return Err(try_again("409 (planned)")),
            Some(Fault::Unavailable) => return Err(try_again("503 (planned)")),
            Some(Fault::LostAcknowledgement | Fault::None) | None => {}
        }
        let mut state = self.cloud.lock();
        let current = state.buckets.get(&self.name).and_then(|b| b.get(key)).and_then(|v| v.last());
        allowed(current.map(|o| &o.meta))?;
        self.insert(&mut state, key, bytes, attributes);
        match fault {
            Some(Fault::LostAcknowledgement) => Err(try_again("acknowledgement lost (planned)")),
            _ => Ok(()),
        }
    }

    fn object(&self, key: &str, version: Option<&str>) -> Result<Object, StoreError> {
        let state = self.cloud.lock();
        let versions = state.buckets.get(&self.name).and_then(|b| b.get(key));
        let found = versions.and_then(|v| match version {
            Some(id) => v.iter().find(|o| o.meta.version.as_deref() == Some(id)),
            None => v.last(),
        });
        found.cloned().ok_or_else(|| StoreError::Absent { key: key.to_owned() })
    }

    fn count(&self, operation: &str) {
        self.cloud.1.count("s3", operation);
    }
}

/// The bytes of a body, whole: for stores that hold them in memory anyway.
fn whole(key: &str, body: Body) -> Result<Bytes, StoreError> {
    match body {
        Body::Bytes(bytes) => Ok(bytes),
        Body::File(path) => std::fs::read(&path)
            .map(Bytes::from)
            .map_err(|e| StoreError::Other { key: key.to_owned(), reason: e.to_string() }),
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn bucket(&self) -> &str {
        &self.name
    }

    fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    async fn head(&self, key: &str, version: Option<&str>) -> Result<Meta, StoreError> {
        self.count("HeadObject");
        self.object(key, version).map(|o| o.meta)
    }

    async fn get(&self, key: &str) -> Result<(Meta, Bytes), StoreError> {
        self.count("GetObject");
        self.object(key, None).map(|o| (o.meta, o.bytes))
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Meta, ByteStream), StoreError> {
        self.count("GetObject");
        let Object { bytes, meta } = self.object(key, None)?;
        let end = bytes.len();
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(end);
        let (from, to) = range.map_or((0, end), |r| (clamp(r.start), clamp(r.end)));
        let bytes = bytes.slice(from..to.max(from));
        let pieces: Vec<_> = (0..bytes.len())
            .step_by(PIECE)
            .map(|at| Ok(bytes.slice(at..(at + PIECE).min(bytes.len()))))
            .collect();
        Ok((meta, futures::stream::iter(pieces).boxed()))
    }

    async fn create(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.count("PutObject");
        let body = whole(key, body)?;
        self.cloud.1.stored(body.len() as u64);
        self.write(key, body, attributes, must_be_absent(key))
    }

    async fn swap(
        &self,
        key: &str,
        body: Bytes,
        expected: &Expected,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.count("PutObject");
        self.cloud.1.stored(body.len() as u64);
        self.write(key, body, attributes, |current| match (expected, current) {
            (Expected::Nothing, None) => Ok(()),
            (Expected::Tag(tag), Some(meta)) if *tag == meta.etag => Ok(()),
            _ => Err(StoreError::Changed { key: key.to_owned() }),
        })
    }

    async fn copy(
        &self,
        from: &CopySource,
        key: &str,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.count("CopyObject");
        let source = self.cloud.bucket(&from.bucket).object(&from.key, from.version.as_deref())?;
        let size = source.bytes.len() as u64;
        self.write(key, source.bytes, attributes, must_be_absent(key))?;
        self.cloud.1.stored(size);
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, StoreError> {
        self.count("ListObjectsV2");
        let state = self.cloud.lock();
        let Some(bucket) = state.buckets.get(&self.name) else { return Ok(Page::default()) };
        let mut rows = bucket
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .filter_map(|(key, versions)| versions.last().map(|o| (key, &o.meta)));
        let objects: Vec<_> = rows
            .by_ref()
            .take(1000)
            .map(|(key, m)| Listed { key: key.clone(), size: m.size, modified: m.modified })
            .collect();
        Ok(Page { objects, more: rows.next().is_some() })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.count("DeleteObject");
        let mut state = self.cloud.lock();
        state.journal.push((self.name.clone(), key.to_owned()));
        if let Some(bucket) = state.buckets.get_mut(&self.name) {
            bucket.remove(key);
        }
        Ok(())
    }
}

/// A queue of a [`Memory`]. A message that was received stays away until [`MemoryQueue::return_all`].
#[derive(Clone)]
pub struct MemoryQueue {
    cloud: Memory,
    name: String,
}

impl MemoryQueue {
    /// Lets every message that was received and not deleted come again, as a visibility time-out does.
    pub fn return_all(&self) {
        let mut state = self.cloud.lock();
        let (back, kept) = std::mem::take(&mut state.taken)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, (queue, _))| *queue == self.name);
        state.taken = kept;
        let queue = state.queues.entry(self.name.clone()).or_default();
        queue.extend(back.into_values().map(|(_, message)| message));
    }

    /// Takes every waiting message's body out of the queue, deleting it.
    pub fn drain(&self) -> Vec<String> {
        let mut state = self.cloud.lock();
        let queue = state.queues.entry(self.name.clone()).or_default();
        queue.drain(..).map(|m| m.body).collect()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError> {
        for batch in messages.chunks(10) {
            self.cloud.1.count("sqs", "SendMessageBatch");
            self.cloud.1.sent(batch.iter().map(|m| m.body.len() as u64).sum());
            let mut state = self.cloud.lock();
            for message in batch {
                state.serial += 1;
                let id = format!("m{:08}", state.serial);
                let queue = state.queues.entry(self.name.clone()).or_default();
                queue.push_back(Received {
                    receipt: id.clone(),
                    id,
                    body: message.body.clone(),
                    receives: 0,
                });
            }
        }
        Ok(())
    }

    /// The delay is not kept: nothing here waits.
    async fn send_later(&self, message: &Outgoing, _delay: Duration) -> Result<(), QueueError> {
        self.send(std::slice::from_ref(message)).await
    }

    async fn receive(&self, _wait: Duration) -> Result<Vec<Received>, QueueError> {
        self.cloud.1.count("sqs", "ReceiveMessage");
        let mut state = self.cloud.lock();
        let queue = state.queues.entry(self.name.clone()).or_default();
        let count = queue.len().min(10);
        let mut messages: Vec<_> = queue.drain(..count).collect();
        for message in &mut messages {
            message.receives += 1;
            state.taken.insert(message.receipt.clone(), (self.name.clone(), message.clone()));
        }
        Ok(messages)
    }

    /// The delay is not kept: nothing here waits.
    async fn release(&self, receipt: &str, _delay: Duration) -> Result<(), QueueError> {
        self.cloud.1.count("sqs", "ChangeMessageVisibility");
        let mut state = self.cloud.lock();
        if let Some((queue, message)) = state.taken.remove(receipt) {
            state.queues.entry(queue).or_default().push_back(message);
        }
        Ok(())
    }

    async fn delete(&self, receipt: &str) -> Result<(), QueueError> {
        self.cloud.1.count("sqs", "DeleteMessage");
        self.cloud.lock().taken.remove(receipt);
        Ok(())
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.cloud.1.count("sqs", "GetQueueAttributes");
        let state = self.cloud.lock();
        let waiting = state.queues.get(&self.name).map_or(0, VecDeque::len) as u64;
        let in_flight =
            state.taken.values().filter(|(queue, _)| *queue == self.name).count() as u64;
        Ok(Depth { waiting, in_flight, delayed: 0 })
    }
}
