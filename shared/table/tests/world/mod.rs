//! A table on the memory store, and proposals for it without anybody who stages them.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluicegate_contract::{Coverage, Outcome, Reason, Verdict, Version};
use sluicegate_lake::memory::{Memory, MemoryStore};
use sluicegate_lake::{
    Ambient, Attributes, Dataset, Order, RawId, Requests, Seeded, Source, Store, keys,
};
use sluicegate_table::changes::PartitionChange;
use sluicegate_table::commit::{CommitError, Options, Report, Wanted, commit_with};
use sluicegate_table::iceberg::manifest::DataFile;
use sluicegate_table::{Decision, Proposal, Receipt, Record, Ruling, View, partition_by};

const START: &str = "2013-02-01T00:00:00Z";
pub(crate) const DAY: i64 = 86_400_000_000;

pub(crate) struct World {
    pub(crate) page_weight: usize,
    pub(crate) cloud: Memory,
    pub(crate) store: MemoryStore,
    pub(crate) requests: Requests,
    pub(crate) ambient: Seeded,
    pub(crate) dataset: Dataset,
    pub(crate) version: Version,
}

impl World {
    pub(crate) async fn new(reupload: &str) -> Self {
        Self::with(json!({"reupload": reupload})).await
    }

    /// A world whose contract has some settings more.
    pub(crate) async fn with(settings: Value) -> Self {
        let mut document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["at"],
            "properties": {"at": {"type": "string", "format": "date-time"}},
            "x-sluicegate": {
                "version": "1.0.0",
                "team": {"name": "t"},
                "format": {"type": "csv"},
                "event_time": {"column": "at"},
                "lateness": {"allowed": "P1D"},
            },
        });
        for (key, value) in settings.as_object().unwrap() {
            document["x-sluicegate"][key] = value.clone();
        }
        let version = Version::next(document.to_string().as_bytes(), None, "u").unwrap().unwrap();
        let cloud = Memory::default();
        cloud.set_now(START.parse().unwrap());
        let world = Self {
            // Two records a page: every test here is one of a tree.
            page_weight: 2,
            store: cloud.bucket("lake"),
            requests: cloud.requests().clone(),
            cloud,
            ambient: Seeded::new(START.parse().unwrap(), 1),
            dataset: "flights".parse().unwrap(),
            version,
        };
        let pointer = serde_json::to_vec(&world.version.pointer("1.0.0")).unwrap();
        world.store.upload(&keys::contract_pointer(&world.dataset), pointer);
        let body = serde_json::to_vec(&world.version).unwrap();
        world.store.upload(&keys::contract(&world.dataset, "1.0.0"), body);
        world
    }

    /// Lands and stages one version of a source; its rows lie in `day` of January 2013.
    pub(crate) async fn stage(&self, staged: Staged) -> Wanted {
        self.stage_files(staged, 1).await
    }

    /// As [`World::stage`], its rows in so many files.
    pub(crate) async fn stage_files(&self, staged: Staged, count: usize) -> Wanted {
        let source: Source = staged.source.parse().unwrap();
        let landed: Timestamp = START.parse().unwrap();
        let landed = landed.saturating_add(SignedDuration::from_secs(staged.landed)).unwrap();
        let raw_id = RawId::new(landed, "inbox", staged.source, &staged.landed.to_string());
        let raw = keys::raw(&self.dataset, &source, &raw_id);
        let _ = self.store.create(&raw, "raw".into(), &Attributes::new()).await;
        let order = Order { epoch: staged.epoch, contract: 1, engine: 1 };
        let partition_by = partition_by(&self.version.contract().unwrap(), &self.version);
        let partition = i32::try_from(15_706 + staged.day).unwrap();
        let mut files = Vec::new();
        let attempt = self.ambient.uuid();
        for n in 0..if staged.outcome == Outcome::Reject { 0 } else { count } {
            let name = format!("{raw_id}-{attempt}-{n}.parquet");
            let key = format!("tables/{}/data/{}/{name}", self.dataset, staged.day);
            let body = vec![b'x'; 10];
            self.store.create(&key, body.into(), &Attributes::new()).await.unwrap();
            files.push(DataFile {
                split_offsets: vec![4],
                ..DataFile::new(self.store.uri(&key), Some(partition), staged.rows, 10)
            });
        }
        let rows = if files.is_empty() { 0 } else { staged.rows * count as u64 };
        let coverage =
            Coverage { bytes: 3, rows_read: rows, rows_accepted: rows, rows_quarantined: 0 };
        let reasons = match staged.outcome {
            Outcome::Publish => vec![],
            _ => vec![Reason::new("planned", "planned")],
        };
        let start = (15_706 + staged.day) * DAY;
        let proposal = Proposal {
            v: Proposal::FORMAT,
            dataset: self.dataset.clone(),
            source: source.clone(),
            raw_id: raw_id.clone(),
            order,
            contract_version: "1.0.0".into(),
            partition_by,
            sequencer: None,
            sha256: staged.sha256.map(str::to_owned),
            bytes: 3,
            verdict: Verdict::new(staged.outcome, reasons, coverage).unwrap(),
            audits: Vec::new(),
            profile: None,
            event_range: (rows > 0).then_some((start, start + DAY - 1)),
            amendments: vec![],
            broken: BTreeMap::new(),
            files,
            quarantine: vec![],
            receipt: Receipt::default(),
            staged_at: self.ambient.now(),
        };
        let body = serde_json::to_vec(&proposal).unwrap();
        let key = keys::proposal(&self.dataset, &raw_id, order);
        let _ = self.store.create(&key, body.into(), &Attributes::new()).await;
        Wanted { source, raw_id, order }
    }

    /// Has the contract say otherwise what uploading a source again means.
    pub(crate) async fn govern(&self, reupload: &str) {
        let version = Self::new(reupload).await.version;
        let key = keys::contract(&self.dataset, "1.0.0");
        self.store.upload(&key, serde_json::to_vec(&version).unwrap());
    }

    /// Moves every clock on.
    pub(crate) fn wait(&self, duration: SignedDuration) {
        self.ambient.advance(duration);
        self.cloud.set_now(self.ambient.now());
    }

    /// Decides on a proposal, as a person does.
    pub(crate) fn decide(&self, wanted: &Wanted, ruling: Ruling) {
        let decision = Decision {
            v: Decision::FORMAT,
            ruling,
            by: "ann".into(),
            why: "known outage".into(),
            at: self.ambient.now(),
        };
        let key = keys::decision(&self.dataset, &wanted.raw_id, wanted.order);
        self.store.upload(&key, serde_json::to_vec(&decision).unwrap());
    }

    pub(crate) async fn commit(&self, wanted: &[Wanted]) -> Result<Report, CommitError> {
        let options = Options { page_weight: self.page_weight, ..Options::default() };
        commit_with(&self.store, &self.ambient, &self.dataset, wanted, options).await
    }

    pub(crate) async fn one(&self, staged: Staged) -> Wanted {
        let wanted = self.stage(staged).await;
        self.commit(std::slice::from_ref(&wanted)).await.unwrap();
        wanted
    }

    pub(crate) async fn view(&self) -> View {
        View::read(&self.store, &self.dataset).await.unwrap()
    }

    pub(crate) async fn record(&self, wanted: &Wanted) -> Record {
        self.view().await.ledger.records[&wanted.raw_id].clone()
    }

    pub(crate) async fn rows(&self) -> u64 {
        self.view().await.files.values().map(|(_, e)| e.file.rows).sum()
    }

    pub(crate) async fn changes(&self) -> Vec<PartitionChange> {
        let metadata = self.view().await.metadata.unwrap();
        let name = &metadata.current_snapshot().unwrap().summary["sluicegate.changes"];
        let (_, body) = self.store.get(&keys::metadata(&self.dataset, name)).await.unwrap();
        let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
        serde_json::from_value(list["partitions"].clone()).unwrap()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub(crate) source: &'static str,
    pub(crate) landed: i64,
    pub(crate) day: i64,
    pub(crate) rows: u64,
    pub(crate) outcome: Outcome,
    pub(crate) epoch: u64,
    pub(crate) sha256: Option<&'static str>,
}

pub(crate) const PLAIN: Staged = Staged {
    source: "a.csv",
    landed: 0,
    day: 0,
    rows: 5,
    outcome: Outcome::Publish,
    epoch: 0,
    sha256: None,
};

/// What must hold of the pages themselves.
pub(crate) fn assert_tree(view: &View, page_weight: usize) {
    let pages = &view.root.pages;
    for pair in pages.windows(2) {
        assert!(pair[0].last < pair[1].first, "ranges follow each other");
    }
    let mut records = 0;
    for page in pages {
        let within = view.ledger.records.range(page.first.clone()..=page.last.clone());
        let (mut states, mut newest) = (BTreeMap::new(), None);
        let count = within.clone().count();
        for (_, record) in within {
            *states.entry(record.state).or_insert(0) += 1;
            if record.was_published() {
                newest = newest.max(record.event_range.map(|(_, last)| last));
            }
        }
        assert_eq!((&page.states, page.newest_event), (&states, newest));
        assert!(count <= page_weight, "{count} records in a page of {page_weight}");
        records += count;
    }
    assert_eq!(records, view.ledger.records.len());
    assert_eq!(view.root.sum(|p| p.files), view.files.len() as u64);
    assert_eq!(
        view.root.sum(|p| p.rows),
        view.files.values().map(|(_, e)| e.file.rows).sum::<u64>()
    );
    let metadata = view.metadata.as_ref().unwrap();
    let total = &metadata.current_snapshot().unwrap().summary["total-records"];
    assert_eq!(*total, view.root.sum(|p| p.rows).to_string());
}
