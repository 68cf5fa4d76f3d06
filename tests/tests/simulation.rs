//! Seeded lives of the pipeline (`sluicegate_tests::sim`), and proof that the auditor can fail.
//!
//! `SEEDS=from..to` and `STEPS=n` run more than the few that every test run has (`make sim`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use sluicegate_lake::memory::MemoryStore;
use sluicegate_lake::{
    Attributes, Body, ByteStream, CopySource, Expected, Listed, Meta, Page, Store, StoreError,
    list_all,
};
use sluicegate_tests::sim::{Run, Wraps, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn life(seed: u64, steps: usize, wraps: Wraps) -> Result<Run, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(run(seed, steps, wraps))
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else { return 0..100 };
    let (from, to) = text.split_once("..").expect("SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

fn steps() -> usize {
    std::env::var("STEPS").map_or(200, |n| n.parse().expect("STEPS=n"))
}

/// Kinds of mishap that a run must have seen.
const MISHAPS: [&str; 11] = [
    "ClockSkew",
    "Conflict",
    "DuplicateEvent",
    "DuplicateMessage",
    "KilledAfter",
    "KilledBefore",
    "LostAcknowledgement",
    "ReorderedMessage",
    "RepeatedByClient",
    "Slow",
    "Unavailable",
];

#[test]
fn no_seed_breaks_an_invariant_and_every_fault_fires() {
    let (seeds, steps) = (seeds(), steps());
    let count = seeds.end - seeds.start;
    let (next, total) = (AtomicU64::new(seeds.start), Mutex::new(Run::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let run = life(seed, steps, Wraps::default());
                    let run = run.unwrap_or_else(|violation| panic!("{violation}"));
                    let mut total = total.lock().unwrap();
                    for (mishap, times) in run.mishaps {
                        *total.mishaps.entry(mishap).or_default() += times;
                    }
                    total.snapshots += run.snapshots;
                    total.released += run.released;
                    total.rollbacks += run.rollbacks;
                    total.late += run.late;
                    total.deleted += run.deleted;
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{count} histories of {steps} steps: {total:?}");
    assert_eq!(total.mishaps.keys().map(String::as_str).collect::<Vec<_>>(), MISHAPS);
    assert!(total.mishaps.values().all(|times| *times >= count / 4), "{total:?}");
    assert!(total.snapshots >= i64::try_from(count).unwrap());
    for seen in [total.released, total.rollbacks, total.late, total.deleted] {
        assert!(seen >= count / 4, "{total:?}");
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..8 {
        let life = || life(seed, 200, Wraps::default()).unwrap();
        assert!(life() == life(), "seed {seed}");
    }
}

/// A defect of a store, or of the code that asks it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    SwapWithoutCondition,
    CreateWithoutCondition,
    DataFilesLost,
    VersionsOverlooked,
    ProposalsForgotten,
    DecisionsOverlooked,
    DecisionsForgotten,
    ReleasesUndone,
    ConflictReadAsThere,
    LostAcknowledgementReadAsLoss,
    VersionsListedFirst,
    RollbackForgotten,
    CollectionByAgeAlone,
    OpenProposalsCollected,
    CleanupAfterALostRace,
    WatermarkFromTheFuture,
}

const BUGS: [Bug; 16] = [
    Bug::SwapWithoutCondition,
    Bug::CreateWithoutCondition,
    Bug::DataFilesLost,
    Bug::VersionsOverlooked,
    Bug::ProposalsForgotten,
    Bug::DecisionsOverlooked,
    Bug::DecisionsForgotten,
    Bug::ReleasesUndone,
    Bug::ConflictReadAsThere,
    Bug::LostAcknowledgementReadAsLoss,
    Bug::VersionsListedFirst,
    Bug::RollbackForgotten,
    Bug::CollectionByAgeAlone,
    Bug::OpenProposalsCollected,
    Bug::CleanupAfterALostRace,
    Bug::WatermarkFromTheFuture,
];

impl Bug {
    /// Where it stands: most of them between the faults and the lake.
    fn planted(self) -> Wraps {
        let mut wraps = Wraps::default();
        let buggy = move |inner, lake| Buggy { inner, lake, bug: self, memory: Mutex::default() };
        match self {
            Self::CollectionByAgeAlone => wraps.collects_by_age = true,
            Self::ConflictReadAsThere
            | Self::LostAcknowledgementReadAsLoss
            | Self::CleanupAfterALostRace => {
                wraps.outer = Box::new(move |store| Arc::new(buggy(store, None)));
            }
            _ => {
                wraps.inner =
                    Box::new(move |lake| Arc::new(buggy(Arc::new(lake.clone()), Some(lake))));
            }
        }
        wraps
    }
}

/// What a defect remembers.
#[derive(Default)]
struct Memory {
    /// Decisions that were read, or metadata that was written since the last swap.
    keys: BTreeSet<String>,
    /// All raw keys at the last readings of the pointer.
    raw: VecDeque<Vec<Listed>>,
}

struct Buggy {
    inner: Arc<dyn Store>,
    /// What takes every write, where the defect stands before it.
    lake: Option<MemoryStore>,
    bug: Bug,
    memory: Mutex<Memory>,
}

impl Buggy {
    /// A ledger without some of its records.
    async fn ledger_without(
        &self,
        key: &str,
        forgotten: impl Fn(&Value) -> bool,
    ) -> Result<(Meta, Bytes), StoreError> {
        let (meta, bytes) = self.inner.get(key).await?;
        let Ok(mut page) = serde_json::from_slice::<Value>(&bytes) else {
            return Ok((meta, bytes));
        };
        if let Some(records) = page.get_mut("records").and_then(|r| r.as_array_mut()) {
            records.retain(|r| !forgotten(r));
        }
        Ok((meta, page.to_string().into()))
    }
}

#[async_trait]
impl Store for Buggy {
    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    fn uri(&self, key: &str) -> String {
        self.inner.uri(key)
    }

    async fn head(&self, key: &str, version: Option<&str>) -> Result<Meta, StoreError> {
        match self.bug {
            Bug::DataFilesLost if key.ends_with(".parquet") => {
                let mut meta = self.inner.head("contracts/readings/current.json", None).await?;
                meta.size = u64::MAX;
                Ok(meta)
            }
            Bug::LostAcknowledgementReadAsLoss if key.ends_with("version-hint.text") => {
                let meta = self.inner.head(key, version).await?;
                Ok(Meta { attributes: Attributes::new(), ..meta })
            }
            _ => self.inner.head(key, version).await,
        }
    }

    async fn get(&self, key: &str) -> Result<(Meta, Bytes), StoreError> {
        let is_ledger = key.starts_with("tables/") && key.ends_with(".json");
        let is_decision = key.ends_with("/decision.json");
        match self.bug {
            Bug::ProposalsForgotten if is_ledger => {
                return self.ledger_without(key, |r| r["files"] == 0).await;
            }
            // A late message finds what was decided undecided.
            Bug::ReleasesUndone if is_ledger => {
                return self.ledger_without(key, |r| !r["decision"].is_null()).await;
            }
            Bug::ReleasesUndone if is_decision => {
                let found = self.inner.get(key).await?;
                if !self.memory.lock().unwrap().keys.insert(key.to_owned()) {
                    return Err(StoreError::Absent { key: key.to_owned() });
                }
                return Ok(found);
            }
            Bug::DecisionsOverlooked if is_decision => {
                return Err(StoreError::Absent { key: key.to_owned() });
            }
            // What was taken out is as if it had been superseded.
            Bug::RollbackForgotten if is_ledger => {
                let (meta, bytes) = self.inner.get(key).await?;
                let text =
                    String::from_utf8_lossy(&bytes).replace("\"withdrawn\"", "\"superseded\"");
                return Ok((meta, text.replace("\"barrier\"", "\"forgotten\"").into()));
            }
            // A file's last event is ahead of what is in it.
            Bug::WatermarkFromTheFuture if key.ends_with("/proposal.json") => {
                let (meta, bytes) = self.inner.get(key).await?;
                let mut proposal: Value = serde_json::from_slice(&bytes).unwrap();
                if let Some(last) = proposal["event_range"][1].as_i64() {
                    proposal["event_range"][1] = (last + 3 * 86_400_000_000).into();
                }
                return Ok((meta, proposal.to_string().into()));
            }
            Bug::VersionsListedFirst if key.ends_with("version-hint.text") => {
                let listed = list_all(&*self.inner, "raw/readings/").await?;
                let mut memory = self.memory.lock().unwrap();
                memory.raw.push_back(listed);
                // The process hung after it had listed, while others read the pointer so often.
                if memory.raw.len() > 12 {
                    memory.raw.pop_front();
                }
            }
            _ => {}
        }
        self.inner.get(key).await
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Meta, ByteStream), StoreError> {
        self.inner.read(key, range).await
    }

    async fn create(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        let lost = match self.bug {
            Bug::DataFilesLost => key.ends_with(".parquet"),
            Bug::DecisionsForgotten => key.ends_with("/decision.json"),
            _ => false,
        };
        if lost {
            return Ok(());
        }
        if let (Bug::CreateWithoutCondition, Some(lake), Body::Bytes(bytes)) =
            (self.bug, &self.lake, &body)
        {
            lake.upload(key, bytes.clone());
            return Ok(());
        }
        if self.bug == Bug::CleanupAfterALostRace && key.contains("/metadata/") {
            self.memory.lock().unwrap().keys.insert(key.to_owned());
        }
        match self.inner.create(key, body, attributes).await {
            // Somebody else is at it, so it will be there.
            Err(StoreError::TryAgain { reason, .. })
                if self.bug == Bug::ConflictReadAsThere && reason.contains("409") =>
            {
                Ok(())
            }
            created => created,
        }
    }

    async fn swap(
        &self,
        key: &str,
        body: Bytes,
        expected: &Expected,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        if self.bug == Bug::SwapWithoutCondition {
            return match self.inner.head(key, None).await {
                Ok(meta) => self.inner.swap(key, body, &Expected::Tag(meta.etag), attributes).await,
                Err(_) => self.inner.swap(key, body, expected, attributes).await,
            };
        }
        let swapped = self.inner.swap(key, body, expected, attributes).await;
        if self.bug == Bug::CleanupAfterALostRace {
            let written = std::mem::take(&mut self.memory.lock().unwrap().keys);
            if matches!(swapped, Err(StoreError::Changed { .. })) {
                for key in written {
                    let _ = self.inner.delete(&key).await;
                }
            }
        }
        swapped
    }

    async fn copy(
        &self,
        from: &CopySource,
        key: &str,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.inner.copy(from, key, attributes).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, StoreError> {
        let mut page = self.inner.list(prefix, after).await?;
        // raw/<dataset>/<source>/: the versions of one source.
        let is_of_source = prefix.starts_with("raw/") && prefix.split('/').count() == 4;
        match self.bug {
            Bug::VersionsOverlooked if is_of_source => page.objects.truncate(1),
            Bug::VersionsListedFirst if is_of_source => {
                let memory = self.memory.lock().unwrap();
                let listed = memory.raw.front().map(Vec::as_slice).unwrap_or_default();
                page.objects.retain(|o| listed.iter().any(|known| known.key == o.key));
            }
            // staging/<dataset>/<raw id>/: a raw object's proposals.
            Bug::OpenProposalsCollected if prefix.starts_with("staging/") => page = Page::default(),
            _ => {}
        }
        Ok(page)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

#[test]
fn every_planted_bug_is_caught() {
    for bug in BUGS {
        let caught = (0..400).find_map(|seed| {
            let violation = life(seed, 200, bug.planted()).err()?;
            Some((seed + 1, violation))
        });
        let (seeds, violation) = caught.unwrap_or_else(|| panic!("{bug:?} was not caught"));
        println!("{bug:?}: caught by seed {seeds} of 400: {violation}");
    }
}
