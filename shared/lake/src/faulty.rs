//! A store and queues that fail as S3 and SQS do, by plan: for tests and simulations.
//!
//! Wraps any [`Store`] and any [`Queue`]. Each request draws a fault from a seed; what was drawn is counted, so that a run can prove that
//! every kind of fault fired. A process is killed by a request that never answers ([`Faulty::kill_at`]): whoever
//! drives it waits for [`Faulty::killed`] and drops the future, which is a death at that very await.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    Ambient, Attributes, Body, ByteStream, CopySource, Depth, Expected, Meta, Outgoing, Page,
    Queue, QueueError, Received, Seeded, Store, StoreError,
};

/// What can go wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// 409, nothing done.
    Conflict,
    /// 503, nothing done.
    Unavailable,
    /// Done, and the answer lost.
    LostAcknowledgement,
    /// Done, the answer lost, and sent again by a client that thinks itself helpful: 412 for one's own success.
    RepeatedByClient,
    /// Late.
    Slow,
    /// The process dies before the request is sent.
    KilledBefore,
    /// The process dies before the answer arrives.
    KilledAfter,
}

/// Which faults fire, in thousandths of all requests. Conflicts and lost answers befall writes only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    pub conflict: u64,
    pub unavailable: u64,
    pub lost_acknowledgement: u64,
    pub repeated_by_client: u64,
    pub slow: u64,
}

struct State {
    odds: Odds,
    /// Requests until the process dies, and whether that one is still carried out.
    kill_in: Option<(u64, bool)>,
    dead: bool,
    fired: BTreeMap<Fault, u64>,
}

/// A store with faults. Clones share them.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    dice: Arc<Seeded>,
    state: Arc<Mutex<State>>,
    death: Arc<Notify>,
}

impl Faulty {
    /// A store that behaves until told otherwise.
    pub fn new(inner: Arc<dyn Store>, seed: u64) -> Self {
        let state =
            State { odds: Odds::default(), kill_in: None, dead: false, fired: BTreeMap::new() };
        Self {
            inner,
            dice: Arc::new(Seeded::new(jiff::Timestamp::UNIX_EPOCH, seed)),
            state: Arc::new(Mutex::new(state)),
            death: Arc::default(),
        }
    }

    /// A queue that fails with it.
    pub fn queue(&self, inner: Arc<dyn Queue>) -> FaultyQueue {
        FaultyQueue { inner, faulty: self.clone() }
    }

    /// Sets the odds; all zero is a store without faults.
    pub fn set_odds(&self, odds: Odds) {
        self.lock().odds = odds;
    }

    /// Has the process die at the `requests`th request from now, before or after it is carried out; `None`: never. After its
    /// death nothing is answered until this is called for the next one.
    pub fn kill_at(&self, requests: Option<u64>, carried_out: bool) {
        let mut state = self.lock();
        (state.kill_in, state.dead) = (requests.map(|n| (n, carried_out)), false);
    }

    /// Answers when the process has died.
    pub async fn killed(&self) {
        // A death that nobody waited for leaves a permit behind: the next process does not die of it.
        while !self.lock().dead {
            self.death.notified().await;
        }
    }

    /// How often each kind of fault fired.
    pub fn fired(&self) -> BTreeMap<Fault, u64> {
        self.lock().fired.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, is_write: bool) -> Option<Fault> {
        let (high, _) = self.dice.uuid().as_u64_pair();
        let roll = high % 1000;
        let mut state = self.lock();
        let odds = state.odds;
        let mut fault = None;
        if let Some((left, carried_out)) = &mut state.kill_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let carried_out = *carried_out;
                fault = Some(if carried_out { Fault::KilledAfter } else { Fault::KilledBefore });
                state.kill_in = None;
            }
        }
        if fault.is_none() {
            let kinds = [
                (Fault::Unavailable, odds.unavailable, true),
                (Fault::Slow, odds.slow, true),
                (Fault::Conflict, odds.conflict, is_write),
                (Fault::LostAcknowledgement, odds.lost_acknowledgement, is_write),
                (Fault::RepeatedByClient, odds.repeated_by_client, is_write),
            ];
            let mut from = 0;
            for (kind, odds, possible) in kinds {
                if possible && (from..from + odds).contains(&roll) {
                    fault = Some(kind);
                }
                from += odds;
            }
        }
        if let Some(fault) = fault {
            *state.fired.entry(fault).or_default() += 1;
        }
        fault
    }

    async fn die<T>(&self) -> T {
        self.lock().dead = true;
        self.death.notify_one();
        std::future::pending().await
    }

    async fn request<T, E: TryAgain, F>(
        &self,
        what: &str,
        is_write: bool,
        mut request: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let try_again = |reason: &str| E::try_again(what, reason);
        if self.lock().dead {
            return std::future::pending().await;
        }
        match self.draw(is_write) {
            None => {
                // Every request gives others a chance, so that two functions interleave.
                tokio::task::yield_now().await;
                request().await
            }
            Some(Fault::Conflict) => Err(try_again("409 (planned)")),
            Some(Fault::Unavailable) => Err(try_again("503 (planned)")),
            Some(Fault::LostAcknowledgement) => {
                request().await?;
                Err(try_again("acknowledgement lost (planned)"))
            }
            Some(Fault::RepeatedByClient) => {
                request().await?;
                request().await
            }
            Some(Fault::Slow) => {
                tokio::time::sleep(Duration::from_secs(2).mul_f64(self.dice.jitter())).await;
                request().await
            }
            Some(Fault::KilledBefore) => self.die().await,
            Some(Fault::KilledAfter) => {
                let _ = request().await;
                self.die().await
            }
        }
    }
}

/// An error that says nothing about the outcome.
trait TryAgain {
    fn try_again(what: &str, reason: &str) -> Self;
}

impl TryAgain for StoreError {
    fn try_again(what: &str, reason: &str) -> Self {
        Self::TryAgain { key: what.to_owned(), reason: reason.to_owned() }
    }
}

impl TryAgain for QueueError {
    fn try_again(what: &str, reason: &str) -> Self {
        Self::TryAgain { reason: format!("{what}: {reason}") }
    }
}

/// A queue with the faults of a [`Faulty`], drawn from the same seed.
#[derive(Clone)]
pub struct FaultyQueue {
    inner: Arc<dyn Queue>,
    faulty: Faulty,
}

#[async_trait]
impl Queue for FaultyQueue {
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError> {
        self.faulty.request("send", true, || self.inner.send(messages)).await
    }

    async fn send_later(&self, message: &Outgoing, delay: Duration) -> Result<(), QueueError> {
        self.faulty.request("send", true, || self.inner.send_later(message, delay)).await
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Received>, QueueError> {
        self.faulty.request("receive", false, || self.inner.receive(wait)).await
    }

    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), QueueError> {
        self.faulty.request("release", true, || self.inner.release(receipt, delay)).await
    }

    async fn delete(&self, receipt: &str) -> Result<(), QueueError> {
        self.faulty.request("delete", true, || self.inner.delete(receipt)).await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.faulty.request("depth", false, || self.inner.depth()).await
    }
}

#[async_trait]
impl Store for Faulty {
    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    fn uri(&self, key: &str) -> String {
        self.inner.uri(key)
    }

    async fn head(&self, key: &str, version: Option<&str>) -> Result<Meta, StoreError> {
        self.request(key, false, || self.inner.head(key, version)).await
    }

    async fn get(&self, key: &str) -> Result<(Meta, Bytes), StoreError> {
        self.request(key, false, || self.inner.get(key)).await
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Meta, ByteStream), StoreError> {
        self.request(key, false, || self.inner.read(key, range.clone())).await
    }

    async fn create(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.request(key, true, || self.inner.create(key, body.clone(), attributes)).await
    }

    async fn swap(
        &self,
        key: &str,
        body: Bytes,
        expected: &Expected,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.request(key, true, || self.inner.swap(key, body.clone(), expected, attributes)).await
    }

    async fn copy(
        &self,
        from: &CopySource,
        key: &str,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.request(key, true, || self.inner.copy(from, key, attributes)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, StoreError> {
        self.request(prefix, false, || self.inner.list(prefix, after)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.request(key, true, || self.inner.delete(key)).await
    }
}
