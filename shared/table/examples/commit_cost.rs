//! What a commit costs as the table grows: requests, bytes and time of a commit of ten files, on the memory store.
//!
//! `commit_cost [FILES …]` builds tables of so many synthetic files, in commits of a thousand, and prints a row for each.
//! The entries have bounds for twenty columns, as those of real files do. A second table is of the worst that can be asked: a
//! file of every page staged again, committed in as many parts as promote would, with the most memory that took (Linux).

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "it prints a table of ratios")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sluicegate_contract::{Coverage, Outcome, Verdict, Version};
use sluicegate_lake::memory::{Memory, MemoryStore};
use sluicegate_lake::{
    Ambient, Attributes, Body, ByteStream, CopySource, Dataset, ETag, Expected, Meta, Order, Page,
    RawId, Source, Store, StoreError, System, keys,
};
use sluicegate_table::commit::{CommitError, Wanted, commit};
use sluicegate_table::iceberg::manifest::{Bound, DataFile};
use sluicegate_table::{Proposal, Receipt, partition_by};

type Failure = Box<dyn std::error::Error>;

/// Commits of ten files that are measured; their median counts.
const MEASURED: usize = 15;
/// Files of a commit while a table is built.
const GROUP: u64 = 1000;

/// The memory store, with the bytes that pass counted, and data files that exist without being there.
struct Counted {
    inner: MemoryStore,
    bytes: Mutex<(u64, u64)>,
}

impl Counted {
    fn add(&self, read: usize, written: usize) {
        let mut bytes = self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bytes.0 += read as u64;
        bytes.1 += written as u64;
    }

    fn take(&self) -> (u64, u64) {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[async_trait]
impl Store for Counted {
    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    fn uri(&self, key: &str) -> String {
        self.inner.uri(key)
    }

    async fn head(&self, key: &str, version: Option<&str>) -> Result<Meta, StoreError> {
        if key.ends_with(".parquet") {
            return Ok(Meta {
                size: 1 << 20,
                etag: ETag(String::new()),
                modified: Timestamp::UNIX_EPOCH,
                version: None,
                attributes: Attributes::new(),
                sha256: None,
            });
        }
        self.inner.head(key, version).await
    }

    async fn get(&self, key: &str) -> Result<(Meta, Bytes), StoreError> {
        let got = self.inner.get(key).await?;
        self.add(got.1.len(), 0);
        Ok(got)
    }

    async fn read(
        &self,
        key: &str,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<(Meta, ByteStream), StoreError> {
        self.inner.read(key, range).await
    }

    async fn create(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        if let Body::Bytes(bytes) = &body {
            self.add(0, bytes.len());
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
        self.add(0, body.len());
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
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

struct World {
    store: Counted,
    cloud: Memory,
    dataset: Dataset,
    version: Version,
}

impl World {
    fn new() -> Result<Self, Failure> {
        let mut properties = json!({"at": {"type": "string", "format": "date-time"}});
        for column in 1..20 {
            properties[format!("c{column}")] = json!({"type": "integer"});
        }
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["at"],
            "properties": properties,
            "x-sluicegate": {
                "version": "1.0.0", "team": {"name": "Benchmarks"}, "format": {"type": "csv"},
                "event_time": {"column": "at"}, "lateness": {"allowed": "P1000D"},
            },
        });
        let version =
            Version::next(document.to_string().as_bytes(), None, "u")?.ok_or("no version")?;
        let (cloud, dataset): (_, Dataset) = (Memory::default(), "benchmark".parse()?);
        let inner = cloud.bucket("lake");
        inner.upload(&keys::contract(&dataset, "1.0.0"), serde_json::to_vec(&version)?);
        inner.upload(
            &keys::contract_pointer(&dataset),
            serde_json::to_vec(&version.pointer("1.0.0"))?,
        );
        let store = Counted { inner, bytes: Mutex::default() };
        Ok(Self { store, cloud, dataset, version })
    }

    /// The `i`th file, staged for the `epoch`th time: one a minute, each of one day.
    fn stage(&self, i: u64, epoch: u64) -> Result<Wanted, Failure> {
        let start: Timestamp = "2020-01-01T00:00:00Z".parse()?;
        let landed = start.checked_add(SignedDuration::from_mins(i64::try_from(i)?))?;
        let source = Source::of_inbox_key(&format!("{i}.csv"))?;
        let raw_id = RawId::new(landed, "inbox", source.as_str(), "1");
        self.store.inner.upload(&keys::raw(&self.dataset, &source, &raw_id), "");
        let order = Order { epoch, contract: 1, engine: 1 };
        let day = i32::try_from(landed.as_second() / 86_400)?;
        let key = keys::data_file(&self.dataset, &day.to_string(), &raw_id, System.uuid(), 0);
        let ids = || (1..=3).chain(11..31);
        let bounds = |value: i64| ids().map(|id| (id, Bound::from_long(value))).collect();
        let counts = |n: u64| ids().map(|id| (id, n)).collect::<BTreeMap<i32, u64>>();
        let rows = 10_000;
        let proposal = Proposal {
            v: Proposal::FORMAT,
            dataset: self.dataset.clone(),
            source: source.clone(),
            raw_id: raw_id.clone(),
            order,
            contract_version: "1.0.0".to_owned(),
            partition_by: partition_by(&self.version.contract()?, &self.version),
            sequencer: Some("0055AED6DCD90281E5".to_owned()),
            sha256: Some("y6BrVzb69n5UsHtWHq6UOV53TFF6fZEKVDaeEmPM+9Q=".to_owned()),
            bytes: 1 << 20,
            verdict: Verdict::new(
                Outcome::Publish,
                vec![],
                Coverage {
                    bytes: 1 << 20,
                    rows_read: rows,
                    rows_accepted: rows,
                    rows_quarantined: 0,
                },
            )?,
            audits: Vec::new(),
            profile: None,
            event_range: Some((landed.as_microsecond(), landed.as_microsecond())),
            amendments: vec![],
            broken: BTreeMap::new(),
            files: vec![DataFile {
                column_sizes: counts(5000),
                value_counts: counts(rows),
                null_counts: counts(0),
                lower_bounds: bounds(1),
                upper_bounds: bounds(1_000_000),
                split_offsets: vec![4],
                ..DataFile::new(self.store.uri(&key), Some(day), rows, 1 << 20)
            }],
            quarantine: vec![],
            receipt: Receipt::default(),
            staged_at: landed,
        };
        let key = keys::proposal(&self.dataset, &raw_id, order);
        self.store.inner.upload(&key, serde_json::to_vec(&proposal)?);
        Ok(Wanted { source, raw_id, order })
    }

    async fn commit(&self, files: std::ops::Range<u64>) -> Result<Duration, Failure> {
        let wanted = files.map(|i| self.stage(i, 0)).collect::<Result<Vec<_>, _>>()?;
        self.store.take();
        self.cloud.requests().take();
        let began = System.now();
        commit(&self.store, &System, &self.dataset, &wanted).await?;
        let took = System.now().duration_since(began).unsigned_abs();
        // What no later commit reads: a heap full of it would make every allocation slow, which no function has.
        for Wanted { source, raw_id, order } in &wanted {
            self.store.delete(&keys::proposal(&self.dataset, raw_id, *order)).await?;
            self.store.delete(&keys::raw(&self.dataset, source, raw_id)).await?;
        }
        Ok(took)
    }
}

/// A commit of a file in each page.
struct Scattered {
    files: usize,
    commits: u64,
    took: Duration,
    /// In bytes, beside what the store holds.
    memory: Option<u64>,
}

impl World {
    /// Stages the first file of every thousand again, and commits them, halved as promote halves what is too wide.
    async fn scatter(&self, there: u64, epoch: u64) -> Result<Scattered, Failure> {
        let ids = (0..there).step_by(usize::try_from(GROUP)?);
        let group = ids.map(|i| self.stage(i, epoch)).collect::<Result<Vec<_>, _>>()?;
        self.store.take();
        // The peak from here on.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let (before, began) = (resident("VmRSS:"), System.now());
        let (files, mut commits, mut groups) = (group.len(), 0, vec![group]);
        while let Some(mut group) = groups.pop() {
            match commit(&self.store, &System, &self.dataset, &group).await {
                Err(CommitError::Wide(..)) => {
                    let half = group.split_off(group.len() / 2);
                    groups.extend([half, group]);
                }
                done => commits += u64::from(done?.number.is_some()),
            }
        }
        let took = System.now().duration_since(began).unsigned_abs();
        let (_, written) = self.store.take();
        let more = resident("VmHWM:").zip(before).map(|(peak, before)| peak - before);
        let memory = more.map(|more| more.saturating_sub(written));
        Ok(Scattered { files, commits, took, memory })
    }
}

/// What the system says of this process's memory, in bytes.
fn resident(what: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut sizes = std::env::args().skip(1).map(|n| n.parse()).collect::<Result<Vec<u64>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 100_000];
    }
    println!(
        "| files in the table | commit of 10, ms | × | KB read + written | × | GET | PUT | commit of 1,000, ms |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    let world = World::new()?;
    let (mut there, mut first) = (0, None);
    let mut scattered = Vec::new();
    for (epoch, size) in (1..).zip(sizes) {
        let mut group = Duration::ZERO;
        while there < size {
            // The first thousand in small commits: from then on the metadata lists as many snapshots as it ever will.
            let step = if there < GROUP { 5 } else { GROUP };
            let next = (there + step).min(size);
            group = world.commit(there..next).await?;
            there = next;
        }
        let mut measured = Vec::new();
        for _ in 0..MEASURED {
            let took = world.commit(there..there + 10).await?;
            let ((read, written), requests) = (world.store.take(), world.cloud.requests().take());
            measured.push((took, read + written, requests));
            there += 10;
        }
        measured.sort_by_key(|(took, ..)| *took);
        let (took, _, requests) = measured.get(MEASURED / 2).ok_or("nothing measured")?;
        let mut bytes: Vec<u64> = measured.iter().map(|(_, bytes, _)| *bytes).collect();
        bytes.sort_unstable();
        let bytes = bytes.get(MEASURED / 2).copied().unwrap_or_default() as f64;
        let ms = took.as_secs_f64() * 1000.0;
        let (first_ms, first_bytes) = *first.get_or_insert((ms, bytes));
        let count = |kind: &str| requests.get(kind).copied().unwrap_or_default();
        println!(
            "| {size} | {ms:.1} | {:.2} | {:.0} | {:.2} | {} | {} | {:.0} |",
            ms / first_ms,
            bytes / 1000.0,
            bytes / first_bytes,
            count("s3:GetObject"),
            count("s3:PutObject"),
            group.as_secs_f64() * 1000.0
        );
        scattered.push((size, world.scatter(size, epoch).await?));
    }
    println!();
    println!(
        "| files in the table | files staged again, one of each page | commits | ms a file | memory, MB |"
    );
    println!("|---:|---:|---:|---:|---:|");
    for (size, Scattered { files, commits, took, memory }) in scattered {
        let ms = took.as_secs_f64() * 1000.0 / files as f64;
        let memory = memory.map(|bytes| format!("{:.0}", bytes as f64 / 1e6)).unwrap_or_default();
        println!("| {size} | {files} | {commits} | {ms:.1} | {memory} |");
    }
    Ok(())
}
