//! The whole pipeline in one process: the functions' own handlers on the memory store and queues.
//!
//! [`World`] is the inbox, the lake and the queues with the four functions between them. Nothing moves until a test says
//! so: [`World::upload`] puts a file and delivers its event, [`World::settle`] delivers messages until none are left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are its only callers: one that cannot go on should stop, and say why"
)]

pub mod sim;

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluicegate_lake::memory::{Memory, MemoryQueue, MemoryStore};
use sluicegate_lake::{Ambient, Dataset, Meta, Queue, Seeded, Store, keys};
use sluicegate_land::Land;
use sluicegate_promote::Promote;
use sluicegate_replay::Replay;
use sluicegate_runtime::cost::{Meter, Prices};
use sluicegate_runtime::{HandlerError, Summary};
use sluicegate_stage::{Scratch, Stage};
use sluicegate_table::{Proposal, Record, View};
use uuid::Uuid;

/// The names that the events under `events/` use.
pub const INBOX: &str = "sluicegate-inbox-000000000000";
pub const LAKE: &str = "sluicegate-lake-000000000000";

/// The pipeline.
pub struct World {
    pub cloud: Memory,
    pub inbox: MemoryStore,
    pub lake: MemoryStore,
    pub ambient: Arc<Seeded>,
    /// The clocks of land, stage and promote.
    clocks: [Arc<Skewed>; 3],
    counts: Mutex<Counts>,
    pub land: Land,
    pub stage: Stage,
    pub promote: Promote,
    pub replay: Replay,
    _scratch: tempfile::TempDir,
}

/// What promote told of in its summaries.
#[derive(Clone, Copy, Default)]
struct Counts {
    commits: u64,
    violations: u64,
}

/// A clock that goes wrong by some seconds.
pub struct Skewed {
    inner: Arc<Seeded>,
    by: Mutex<SignedDuration>,
}

impl Ambient for Skewed {
    fn now(&self) -> Timestamp {
        self.inner.now().saturating_add(*self.by.lock().unwrap()).unwrap()
    }

    fn uuid(&self) -> Uuid {
        self.inner.uuid()
    }
}

impl Default for World {
    fn default() -> Self {
        let cloud = Memory::default();
        let lake = cloud.bucket(LAKE);
        let store = Arc::new(lake.clone());
        let world = Self::over(cloud.clone(), store, |name| Arc::new(cloud.queue(name)), 1);
        // The very one that the functions have, with whatever faults a test plans.
        Self { lake, ..world }
    }
}

impl World {
    /// A world at the moment that the events under `events/` tell of; the functions reach the lake through `store`.
    pub fn over(
        cloud: Memory,
        store: Arc<dyn Store>,
        queue: impl Fn(&str) -> Arc<dyn Queue>,
        seed: u64,
    ) -> Self {
        let start: Timestamp = "2013-01-02T03:04:05Z".parse().unwrap();
        cloud.set_now(start);
        let (inbox, lake) = (cloud.bucket(INBOX), cloud.bucket(LAKE));
        let ambient = Arc::new(Seeded::new(start, seed));
        let clocks =
            [(); 3].map(|()| Arc::new(Skewed { inner: ambient.clone(), by: Mutex::default() }));
        let scratch = tempfile::tempdir().unwrap();
        let land = Land {
            inbox: Arc::new(inbox.clone()),
            lake: store.clone(),
            stage: queue("stage"),
            ambient: clocks[0].clone(),
        };
        let stage = Stage {
            lake: store.clone(),
            promote: queue("promote"),
            promote_replay: queue("promote-replay"),
            ambient: clocks[1].clone(),
            scratch: Scratch::new(scratch.path(), 1 << 30),
            meter: Meter {
                requests: cloud.requests().clone(),
                prices: Prices::built_in("us-east-1", "aarch64").unwrap(),
                memory_mb: 1769,
            },
        };
        let promote = Promote::new(store.clone(), clocks[2].clone());
        let replay = Replay {
            lake: store,
            stage_replay: queue("stage-replay"),
            replay: queue("replay"),
            ambient: ambient.clone(),
            concurrency: 2,
            step: 4,
        };
        Self {
            cloud,
            inbox,
            lake,
            ambient,
            clocks,
            counts: Mutex::default(),
            land,
            stage,
            promote,
            replay,
            _scratch: scratch,
        }
    }

    /// Sets the clocks of land, stage and promote wrong.
    pub fn skew(&self, by: [SignedDuration; 3]) {
        for (clock, by) in self.clocks.iter().zip(by) {
            *clock.by.lock().unwrap() = by;
        }
    }

    /// Commits that promote told of.
    pub fn commits(&self) -> u64 {
        self.counts.lock().unwrap().commits
    }

    /// Plans of promote that would have broken an invariant.
    pub fn violations(&self) -> u64 {
        self.counts.lock().unwrap().violations
    }

    /// A queue by its name: `stage`, `stage-replay`, `promote`, `promote-replay`, `replay`.
    pub fn queue(&self, name: &str) -> MemoryQueue {
        self.cloud.queue(name)
    }

    /// Moves every clock on by some seconds.
    pub fn wait(&self, seconds: i64) {
        self.ambient.advance(SignedDuration::from_secs(seconds));
        self.cloud.set_now(self.ambient.now());
    }

    /// Puts a file into the inbox and delivers its event.
    pub async fn upload(&self, key: &str, bytes: impl Into<Vec<u8>>) -> Meta {
        let meta = self.inbox.upload(key, bytes.into());
        self.land_event(s3_event(key, &meta)).await.unwrap();
        meta
    }

    /// Delivers an event to land.
    pub async fn land_event(&self, event: Value) -> Result<Value, HandlerError> {
        self.land.handle(event, &mut Summary::new("land", "r")).await
    }

    /// Delivers every waiting message, in batches of ten, until none are left; answers with the bodies that failed.
    pub async fn settle(&self) -> Vec<String> {
        let mut failed = Vec::new();
        loop {
            let mut moved = false;
            for name in ["replay", "stage", "stage-replay", "promote", "promote-replay"] {
                for bodies in self.queue(name).drain().chunks(10) {
                    moved = true;
                    failed.extend(self.deliver(name, bodies).await);
                }
            }
            if !moved {
                return failed;
            }
        }
    }

    /// Delivers one batch to the function behind a queue; answers with the bodies that failed.
    pub async fn deliver(&self, queue: &str, bodies: &[String]) -> Vec<String> {
        let event = sqs_event(bodies);
        let mut summary = Summary::new("test", "r");
        let answer = match queue {
            "promote" | "promote-replay" => self.promote.handle(event, &mut summary).await,
            "replay" => self.replay.handle(event, &mut summary).await,
            _ => self.stage.handle(event, &mut summary).await,
        };
        let answer = answer.unwrap();
        let mut counts = self.counts.lock().unwrap();
        counts.commits += summary.outcomes.commits;
        counts.violations += summary.outcomes.invariant_violations;
        drop(counts);
        let failures = answer["batchItemFailures"].as_array().unwrap();
        let index = |f: &Value| f["itemIdentifier"].as_str().unwrap().parse::<usize>().unwrap();
        failures.iter().map(|f| bodies[index(f)].clone()).collect()
    }

    /// What is published of a dataset.
    pub async fn view(&self, dataset: &str) -> View {
        View::read(&self.lake, &dataset.parse().unwrap()).await.unwrap()
    }

    /// Rows in the table.
    pub async fn rows(&self, dataset: &str) -> u64 {
        self.view(dataset).await.files.values().map(|(_, e)| e.file.rows).sum()
    }

    /// The ledger's records of a source, oldest first.
    pub async fn records(&self, dataset: &str, source: &str) -> Vec<Record> {
        let view = self.view(dataset).await;
        let records = view.ledger.records.into_values();
        records.filter(|r| r.source.as_str() == source).collect()
    }

    /// The proposal that a record rests on.
    pub async fn proposal(&self, dataset: &str, record: &Record) -> Proposal {
        let dataset: Dataset = dataset.parse().unwrap();
        let key = keys::proposal(&dataset, &record.raw_id, record.order);
        serde_json::from_slice(&self.lake.get(&key).await.unwrap().1).unwrap()
    }
}

/// S3's event for an object of the inbox.
pub fn s3_event(key: &str, meta: &Meta) -> Value {
    // Form-encoded, as S3 does it; encoding more than is needed decodes to the same.
    let encoded: String = key.bytes().map(|b| format!("%{b:02X}")).collect();
    json!({"Records": [{
        "eventVersion": "2.6", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": meta.modified, "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "p"},
        "requestParameters": {"sourceIPAddress": "192.0.2.1"},
        "responseElements": {},
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "c",
            "bucket": {"name": INBOX, "ownerIdentity": {"principalId": "p"}, "arn": format!("arn:aws:s3:::{INBOX}")},
            "object": {"key": encoded, "size": meta.size, "eTag": meta.etag.0, "versionId": meta.version, "sequencer": meta.version},
        },
    }]})
}

/// SQS's event for some bodies; a message's id is its place.
pub fn sqs_event(bodies: &[String]) -> Value {
    let records = bodies.iter().enumerate().map(|(i, body)| {
        json!({"messageId": i.to_string(), "body": body, "attributes": {}, "messageAttributes": {}})
    });
    json!({"Records": records.collect::<Vec<_>>()})
}
