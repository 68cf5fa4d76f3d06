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

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use sluicegate_lake::memory::MemoryStore;
use sluicegate_lake::{
    Attributes, Body, ByteStream, CopySource, Expected, Meta, Page, Store, StoreError,
};
use sluicegate_tests::sim::{Run, run};

fn life(
    seed: u64,
    steps: usize,
    wrap: impl FnOnce(MemoryStore) -> Arc<dyn Store>,
) -> Result<Run, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(run(seed, steps, wrap))
}

fn sound(lake: MemoryStore) -> Arc<dyn Store> {
    Arc::new(lake)
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else { return 0..60 };
    let (from, to) = text.split_once("..").expect("SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

fn steps() -> usize {
    std::env::var("STEPS").map_or(200, |n| n.parse().expect("STEPS=n"))
}

#[test]
fn no_seed_breaks_an_invariant_and_every_fault_fires() {
    let (seeds, mut fired, mut snapshots, mut released) = (seeds(), BTreeMap::new(), 0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let run = life(seed, steps(), sound).unwrap_or_else(|violation| panic!("{violation}"));
        for (fault, times) in run.faults {
            *fired.entry(fault).or_insert(0) += times;
        }
        snapshots += run.snapshots;
        released += run.released;
    }
    println!(
        "{count} histories of {} steps, {snapshots} snapshots, {released} released at the end, faults: {fired:?}",
        steps()
    );
    assert!(fired.len() == 7 && fired.values().all(|times| *times >= count / 4), "{fired:?}");
    assert!(snapshots >= i64::try_from(count).unwrap());
    assert!(released >= count / 4);
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..8 {
        assert!(life(seed, 200, sound).unwrap() == life(seed, 200, sound).unwrap(), "seed {seed}");
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
}

struct Buggy {
    inner: MemoryStore,
    bug: Bug,
    /// Decisions that were read.
    obeyed: Mutex<BTreeSet<String>>,
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
        if self.bug == Bug::DataFilesLost && key.ends_with(".parquet") {
            let mut meta = self.inner.head("contracts/readings/current.json", None).await?;
            meta.size = u64::MAX;
            return Ok(meta);
        }
        self.inner.head(key, version).await
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
                if !self.obeyed.lock().unwrap().insert(key.to_owned()) {
                    return Err(StoreError::Absent { key: key.to_owned() });
                }
                return Ok(found);
            }
            Bug::DecisionsOverlooked if is_decision => {
                return Err(StoreError::Absent { key: key.to_owned() });
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
        if self.bug == Bug::CreateWithoutCondition {
            let Body::Bytes(bytes) = body else {
                return self.inner.create(key, body, attributes).await;
            };
            self.inner.upload(key, bytes);
            return Ok(());
        }
        self.inner.create(key, body, attributes).await
    }

    async fn swap(
        &self,
        key: &str,
        body: Bytes,
        expected: &Expected,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        if self.bug == Bug::SwapWithoutCondition {
            self.inner.upload(key, body);
            return Ok(());
        }
        self.inner.swap(key, body, expected, attributes).await
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
        if self.bug == Bug::VersionsOverlooked && prefix.split('/').count() == 4 {
            page.objects.truncate(1);
        }
        Ok(page)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

#[test]
fn every_planted_bug_is_caught() {
    for bug in [
        Bug::SwapWithoutCondition,
        Bug::CreateWithoutCondition,
        Bug::DataFilesLost,
        Bug::VersionsOverlooked,
        Bug::ProposalsForgotten,
        Bug::DecisionsOverlooked,
        Bug::DecisionsForgotten,
        Bug::ReleasesUndone,
    ] {
        let caught = (0..200).find_map(|seed| {
            let violation = life(seed, 200, |inner| {
                let obeyed = Mutex::default();
                Arc::new(Buggy { inner, bug, obeyed })
            })
            .err()?;
            Some((seed + 1, violation))
        });
        let (seeds, violation) = caught.unwrap_or_else(|| panic!("{bug:?} was not caught"));
        println!("{bug:?}: caught by seed {seeds} of 200: {violation}");
    }
}
