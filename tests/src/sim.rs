//! A seeded life of the pipeline: uploads, duplicate and reordered events, stagings, promotions that race, replays, contract
//! changes, people's decisions, rollbacks, expiry and collection, clocks that differ, faults of the store and the queues,
//! and deaths at any request; after every step an auditor looks at the lake.
//!
//! At the end everything is delivered without faults, and what is published must be what a reference of a few lines
//! says of the uploads and the decisions alone. The same seed gives the same trace.

mod auditor;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};
use sluicegate_contract::time::MICROS_PER_DAY;
use sluicegate_lake::faulty::{Faulty, Odds};
use sluicegate_lake::memory::{Memory, MemoryStore};
use sluicegate_lake::{Ambient, Dataset, Order, RawId, Seeded, Store, StoreError, keys};
use sluicegate_runtime::{PromoteMessage, Summary};
use sluicegate_table::commit::CommitError;
use sluicegate_table::held::{self, DecideError, Refusal, Request};
use sluicegate_table::retention::{Retention, collect, expire};
use sluicegate_table::rollback::{self, RollbackError, roll_back_in_pages};
use sluicegate_table::{Decision, Record, Ruling, State};

use crate::{INBOX, LAKE, World, s3_event};
use auditor::Auditor;

const DATASET: &str = "readings";
const SOURCES: [&str; 6] = ["a.csv", "b.csv", "c/d.csv", "e f.csv", "g.csv", "h.csv"];
const QUEUES: [&str; 4] = ["stage", "stage-replay", "promote", "promote-replay"];
/// Of the simulation's contracts, in microseconds.
const ALLOWED_LATENESS: i64 = MICROS_PER_DAY;
/// So few records a page that there are several.
const PAGE_WEIGHT: usize = 4;
/// Bytes that a commit of several messages may be about in every other history: two or three pages.
const WIDEST: u64 = 24_000;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// A line a step.
    pub trace: Vec<String>,
    /// Faults and other mishaps, by kind.
    pub mishaps: BTreeMap<String, u64>,
    pub snapshots: i64,
    /// Held proposals that were released and published.
    pub released: u64,
    pub rollbacks: u64,
    /// Raw objects that were late.
    pub late: u64,
    /// Objects that were collected.
    pub deleted: u64,
}

/// Something to put between a store and whoever asks it.
pub type Wrap<S> = Box<dyn FnOnce(S) -> Arc<dyn Store>>;

/// What stands between the pipeline and the lake: nothing, or a defect.
pub struct Wraps {
    /// Between the faults and the lake.
    pub inner: Wrap<MemoryStore>,
    /// Between the pipeline and the faults.
    pub outer: Wrap<Arc<dyn Store>>,
    /// Whether a collection deletes whatever is old.
    pub collects_by_age: bool,
}

impl Default for Wraps {
    fn default() -> Self {
        Self {
            inner: Box::new(|lake| Arc::new(lake)),
            outer: Box::new(|store| store),
            collects_by_age: false,
        }
    }
}

/// What is in an uploaded file, as far as the reference needs to know.
#[derive(Clone, Debug)]
struct Content {
    bytes: String,
    /// What becomes of it under the first and under the second version of the contract.
    fates: [Fate; 2],
}

/// What stage makes of a file, with the rows that are good.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Passes(u64),
    Held(u64),
    Unreadable,
}

/// One seed's life.
struct Sim {
    world: World,
    faulty: Faulty,
    /// The lake as people's tools reach it.
    store: Arc<dyn Store>,
    dice: Seeded,
    /// Every event that S3 will deliver at least once more.
    events: Vec<Value>,
    /// Messages in each queue.
    queues: BTreeMap<&'static str, Vec<String>>,
    /// Uploads of each source, oldest first.
    uploads: BTreeMap<&'static str, Vec<(RawId, Content)>>,
    /// What somebody was told is decided.
    decided: BTreeMap<(RawId, Order), Ruling>,
    contracts: usize,
    collects_by_age: bool,
    mishaps: BTreeMap<String, u64>,
    trace: Vec<String>,
}

/// Runs a seed for some steps.
pub async fn run(seed: u64, steps: usize, wraps: Wraps) -> Result<Run, String> {
    let cloud = Memory::default();
    let faulty = Faulty::new((wraps.inner)(cloud.bucket(LAKE)), seed);
    let store = (wraps.outer)(Arc::new(faulty.clone()));
    let queue = |name: &str| Arc::new(faulty.queue(Arc::new(cloud.queue(name)))) as _;
    let mut world = World::over(cloud.clone(), store.clone(), queue, seed);
    world.promote.page_weight = PAGE_WEIGHT;
    if seed % 2 == 1 {
        world.promote.widest = WIDEST;
    }
    let dice = Seeded::new(jiff::Timestamp::UNIX_EPOCH, seed ^ 0x5157_1ce6);
    let queues = QUEUES.into_iter().map(|q| (q, Vec::new())).collect();
    let mut sim = Sim {
        world,
        faulty,
        store,
        dice,
        events: Vec::new(),
        queues,
        uploads: BTreeMap::new(),
        decided: BTreeMap::new(),
        contracts: 0,
        collects_by_age: wraps.collects_by_age,
        mishaps: BTreeMap::new(),
        trace: Vec::new(),
    };
    let mut auditor = Auditor::default();
    for step in 0..steps {
        let did = sim.step().await.map_err(|e| format!("seed {seed}, step {step}: {e}"))?;
        sim.trace.push(format!("{step}: {did}"));
        let place = |e| format!("seed {seed}, step {step} ({did}): {e}");
        auditor.look(&sim.world).await.map_err(place)?;
    }
    let place = |e| format!("seed {seed}, at the end: {e}");
    sim.settle(&mut auditor).await.map_err(place)?;
    auditor.all_came_back().map_err(place)?;
    let view = sim.world.view(DATASET).await;
    let records = view.ledger.records.values();
    let released = records.filter(|r| r.state == State::Published && r.decision.is_some()).count();
    let fired = sim.faulty.fired().into_iter().map(|(fault, n)| (format!("{fault:?}"), n));
    let mut mishaps = sim.mishaps;
    mishaps.extend(fired);
    Ok(Run {
        trace: sim.trace,
        mishaps,
        snapshots: view.number(),
        released: released as u64,
        rollbacks: auditor.rollbacks,
        late: auditor.late,
        deleted: auditor.deleted,
    })
}

impl Sim {
    fn roll(&self, sides: u64) -> u64 {
        self.dice.uuid().as_u64_pair().0 % sides
    }

    fn pick(&self, len: usize) -> usize {
        usize::try_from(self.roll(len.max(1) as u64)).unwrap_or_default()
    }

    async fn step(&mut self) -> Result<String, String> {
        self.world.wait(i64::try_from(self.roll(3)).unwrap_or_default());
        self.faulty.set_odds(Odds {
            conflict: 20,
            unavailable: 20,
            lost_acknowledgement: 20,
            repeated_by_client: 20,
            slow: 20,
        });
        if self.roll(3) == 0 {
            let seconds = |roll: u64| i64::try_from(roll).unwrap_or_default() - 120;
            let skews = [(); 3].map(|()| SignedDuration::from_secs(seconds(self.roll(240))));
            self.world.skew(skews);
            self.count("ClockSkew");
        }
        let dies = self.roll(4) == 0;
        self.faulty.kill_at(dies.then(|| 1 + self.roll(30)), self.roll(2) == 0);
        let did = match self.roll(27) {
            0..=3 => Ok(self.upload()),
            4..=8 => Ok(self.event().await),
            9..=12 => self.messages("stage").await,
            13..=16 => self.messages("promote").await,
            17 | 18 => self.race().await,
            19 => Ok(self.replay().await),
            20 => Ok(self.contract()),
            21 | 22 => Ok(self.decide().await),
            23 => self.roll_back().await,
            24 => self.expire().await,
            25 => self.collection().await,
            _ => {
                // Long enough for a grace to pass.
                self.world.wait(90_000);
                Ok("a day and an hour pass".to_owned())
            }
        };
        self.faulty.kill_at(None, false);
        self.collect();
        let violations = self.world.violations();
        ensure(violations == 0, || format!("{violations} plans would have broken an invariant"))?;
        did
    }

    fn count(&mut self, mishap: &str) {
        *self.mishaps.entry(mishap.to_owned()).or_default() += 1;
    }

    /// Moves what was sent into the simulator's own queues, where it can be repeated and reordered.
    fn collect(&mut self) {
        for (name, messages) in &mut self.queues {
            messages.extend(self.world.queue(name).drain());
        }
    }

    fn upload(&mut self) -> String {
        let source = SOURCES[self.pick(SOURCES.len())];
        let before = self.uploads.entry(source).or_default().last().map(|(_, c)| c.clone());
        let (day, salt) = (1 + self.roll(6), self.roll(1000));
        let row = |n: u64, id: u64| format!("{id},2013-01-{:02}T{:02}:00:00Z\n", day, n % 24);
        let file = |rows: String| format!("id,at\n{rows}");
        let many = 1 + self.roll(4);
        let both = |fate| [fate, fate];
        let content = match (self.roll(12), before) {
            (0, Some(before)) => before,
            (1, _) => Content { bytes: "\u{1}no table".into(), fates: both(Fate::Unreadable) },
            (2, _) => Content { bytes: file(String::new()), fates: both(Fate::Held(0)) },
            // Passes the first contract only.
            (3, _) => {
                let rows = (0..many).map(|n| row(n, 5000 + salt)).collect();
                Content { bytes: file(rows), fates: [Fate::Passes(many), Fate::Held(0)] }
            }
            // One bad row, which is within bounds.
            (4, _) => {
                let rows: String = (0..3).map(|n| row(n, salt + 1)).collect();
                Content { bytes: file(rows + "x,y\n"), fates: both(Fate::Passes(3)) }
            }
            // More bad rows than good ones.
            (5 | 6, _) => {
                let rows: String = (0..many).map(|n| row(n, salt + 1)).collect();
                let bad = "x,y\n".repeat(5);
                Content { bytes: file(rows + &bad), fates: both(Fate::Held(many)) }
            }
            _ => {
                let rows = (0..many).map(|n| row(n, salt + 1)).collect();
                Content { bytes: file(rows), fates: both(Fate::Passes(many)) }
            }
        };
        let key = format!("{DATASET}/{source}");
        let meta = self.world.inbox.upload(&key, content.bytes.clone());
        let version = meta.version.clone().unwrap_or_default();
        let raw_id = RawId::new(meta.modified, INBOX, &key, &version);
        self.events.push(s3_event(&key, &meta));
        self.uploads.entry(source).or_default().push((raw_id, content));
        format!("upload {source}")
    }

    fn contract(&mut self) -> String {
        if self.contracts == 2 {
            return "no third contract".into();
        }
        self.contracts += 1;
        let maximum = if self.contracts == 1 { 1_000_000 } else { 2000 };
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["id", "at"],
            "properties": {
                "id": {"type": "integer", "minimum": 1, "maximum": maximum},
                "at": {"type": "string", "format": "date-time"},
            },
            "x-sluicegate": {
                "version": format!("{}.0.0", self.contracts),
                "breaking": "the second one is narrower",
                "team": {"name": "simulation"},
                "format": {"type": "csv"},
                "event_time": {"column": "at", "max_ahead": "P365D"},
                "lateness": {"allowed": "P1D", "late": if self.contracts == 1 { "publish" } else { "hold" }},
                "bad_rows": {"max_fraction": 0.5},
            },
        });
        let key = format!("_contracts/{DATASET}.json");
        let meta = self.world.inbox.upload(&key, document.to_string());
        self.events.push(s3_event(&key, &meta));
        format!("contract {}", self.contracts)
    }

    async fn event(&mut self) -> String {
        if self.events.is_empty() {
            return "no event".into();
        }
        let at = self.pick(self.events.len());
        let event = self.events[at].clone();
        let landed = alive(&self.faulty, self.world.land_event(event)).await;
        let done = matches!(landed, Some(Ok(_)));
        // Delivered once is enough; now and then it comes again.
        if done && self.roll(4) > 0 {
            self.events.swap_remove(at);
        } else if done {
            self.count("DuplicateEvent");
        }
        format!("event: {}", fate(landed.map(|r| r.is_ok())))
    }

    /// Takes some messages of a queue in any order.
    fn take(&mut self, queue: &str) -> Vec<String> {
        let waiting = self.queues.get(queue).map_or(0, Vec::len);
        let count = self.pick(6).min(waiting);
        let mut taken = Vec::with_capacity(count);
        for _ in 0..count {
            let at = self.pick(self.queues[queue].len());
            if at > 0 {
                self.count("ReorderedMessage");
            }
            taken.extend(self.queues.get_mut(queue).map(|q| q.swap_remove(at)));
        }
        taken
    }

    /// Puts back what failed, and now and then what did not: at least once is what SQS promises.
    fn put_back(&mut self, queue: &'static str, batch: Vec<String>, failed: Option<Vec<String>>) {
        for body in batch {
            let failed = failed.as_ref().is_none_or(|f| f.contains(&body));
            let duplicate = !failed && self.roll(10) == 0;
            if duplicate {
                self.count("DuplicateMessage");
            }
            if failed || duplicate {
                self.queues.entry(queue).or_default().push(body);
            }
        }
    }

    async fn messages(&mut self, queue: &'static str) -> Result<String, String> {
        let queue = match queue {
            "stage" if self.roll(2) == 0 => "stage-replay",
            "promote" if self.roll(2) == 0 => "promote-replay",
            _ => queue,
        };
        let batch = self.take(queue);
        let pointer = keys::table_pointer(&dataset());
        let (swaps, commits) = (self.world.lake.versions(&pointer), self.world.commits());
        let failed = alive(&self.faulty, self.world.deliver(queue, &batch)).await;
        let did = format!("{queue} {}: {}", batch.len(), fate(failed.as_ref().map(Vec::is_empty)));
        if failed.as_ref().is_some_and(Vec::is_empty) {
            // Nobody else was at it: what was swapped was told of, whatever acknowledgement was lost.
            let swaps = self.world.lake.versions(&pointer) - swaps;
            let told = self.world.commits() - commits;
            ensure(swaps as u64 == told, || format!("{did}: {swaps} swaps, {told} told of"))?;
        }
        self.put_back(queue, batch, failed);
        Ok(did)
    }

    /// Two promotes, a landing, a decision and what sweeps do at the same time. Not stage: its audit has a thread of its own,
    /// and how far that has come is not the seed's to decide.
    async fn race(&mut self) -> Result<String, String> {
        let (a, b) = (self.take("promote"), self.take("promote-replay"));
        let event =
            (!self.events.is_empty()).then(|| self.events[self.pick(self.events.len())].clone());
        let request = self.wish().await;
        let other = self.roll(4);
        let to = self.some_snapshot().await;
        let retention = self.some_retention();
        let all = async {
            tokio::join!(
                self.decide_on(&request),
                self.world.deliver("promote", &a),
                self.world.deliver("promote-replay", &b),
                async {
                    if let Some(event) = event {
                        // It stays among the events, so a failure is no loss.
                        let _ = self.world.land_event(event).await;
                    }
                },
                async {
                    match (other, to) {
                        (0, Some(to)) => self.restore(to).await.map(|_| ()),
                        (1, _) => self.expire_to(retention).await.map(|_| ()),
                        (2, _) => self.collect_now().await.map(|_| ()),
                        _ => Ok(()),
                    }
                },
            )
        };
        let failed = alive(&self.faulty, all).await;
        let did = format!("race: {}", fate(failed.as_ref().map(|_| true)));
        let (mut decided, mut x, mut y) = (None, None, None);
        if let Some((d, failed_a, failed_b, (), swept)) = failed {
            swept?;
            (decided, x, y) = (d, Some(failed_a), Some(failed_b));
        }
        self.ask(decided);
        self.put_back("promote", a, x);
        self.put_back("promote-replay", b, y);
        Ok(did)
    }

    /// The number of a snapshot before the present one.
    async fn some_snapshot(&self) -> Option<i64> {
        let metadata = self.world.view(DATASET).await.metadata?;
        let earlier = metadata.snapshots.len().checked_sub(2)?;
        metadata.snapshots.get(self.pick(earlier + 1)).map(|s| s.sequence_number)
    }

    async fn roll_back(&mut self) -> Result<String, String> {
        let Some(to) = self.some_snapshot().await else { return Ok("nothing to restore".into()) };
        let restored = alive(&self.faulty, self.restore(to)).await.transpose()?;
        Ok(format!("roll back to {to}: {}", fate(restored)))
    }

    /// Whether a snapshot was restored. A rollback may fail by the store's faults, and be refused; it may not break a thing.
    async fn restore(&self, to: i64) -> Result<bool, String> {
        let request = rollback::Request { to, by: "ann", why: "a seed" };
        let (store, ambient) = (&*self.store, &*self.world.ambient);
        match roll_back_in_pages(store, ambient, &dataset(), &request, PAGE_WEIGHT).await {
            Ok(_) => Ok(true),
            Err(RollbackError::Commit(
                error @ (CommitError::Violation(_)
                | CommitError::Corrupt(_)
                | CommitError::Format(_)
                | CommitError::Poison { .. }),
            )) => Err(format!("a rollback to {to} ends in {error}")),
            Err(_) => Ok(false),
        }
    }

    fn some_retention(&self) -> Retention {
        let hours = i64::try_from(self.roll(60)).unwrap_or_default();
        Retention { snapshots: 1 + self.pick(4), age: SignedDuration::from_hours(hours) }
    }

    async fn expire(&mut self) -> Result<String, String> {
        let retention = self.some_retention();
        let expired = alive(&self.faulty, self.expire_to(retention)).await.transpose()?;
        Ok(format!("expire: {}", fate(expired)))
    }

    async fn expire_to(&self, retention: Retention) -> Result<bool, String> {
        let expired = expire(&*self.store, &*self.world.ambient, &dataset(), retention).await;
        sound("an expiry", expired)
    }

    async fn collection(&mut self) -> Result<String, String> {
        let collected = alive(&self.faulty, self.collect_now()).await.transpose()?;
        Ok(format!("collect: {}", fate(collected)))
    }

    async fn collect_now(&self) -> Result<bool, String> {
        let (store, ambient) = (&*self.store, &*self.world.ambient);
        if self.collects_by_age {
            return Ok(collect_by_age(store, ambient).await.is_ok());
        }
        sound("a collection", collect(store, ambient, &dataset(), SignedDuration::ZERO).await)
    }

    /// What a person might want of something that is held, if anything is.
    async fn wish(&self) -> Option<(RawId, Ruling)> {
        let held = self.held().await;
        let record = held.get(self.pick(held.len()))?;
        let ruling = if self.roll(3) == 0 { Ruling::Rejected } else { Ruling::Released };
        Some((record.raw_id.clone(), ruling))
    }

    async fn held(&self) -> Vec<Record> {
        let records = self.world.view(DATASET).await.ledger.records.into_values();
        records.filter(|r| r.state == State::Held).collect()
    }

    /// Decides as the command line does: first the decision, then the message.
    async fn decide_on(
        &self,
        wish: &Option<(RawId, Ruling)>,
    ) -> Option<Result<(Record, Decision), DecideError>> {
        let (raw_id, ruling) = wish.as_ref()?;
        let by = format!("seed {}", self.roll(9));
        let request = Request { raw_id, order: None, ruling: *ruling, by: &by, why: "a seed" };
        Some(held::decide(&*self.store, &*self.world.ambient, &dataset(), &request).await)
    }

    /// Sends the message of a decision that somebody was told of.
    fn ask(&mut self, decided: Option<Result<(Record, Decision), DecideError>>) {
        let Some(Ok((record, decision))) = decided else { return };
        let Record { raw_id, source, order, .. } = record;
        self.decided.insert((raw_id.clone(), order), decision.ruling);
        let message = PromoteMessage { v: 1, dataset: dataset(), source, raw_id, order };
        let body = json!(message).to_string();
        self.queues.entry("promote").or_default().push(body);
    }

    async fn decide(&mut self) -> String {
        let Some(wish) = self.wish().await else { return "nothing is held".into() };
        let said = wish.1;
        let decided = alive(&self.faulty, self.decide_on(&Some(wish))).await;
        let did = fate(decided.as_ref().map(|d| matches!(d, Some(Ok(_)))));
        self.ask(decided.flatten());
        format!("{said}: {did}")
    }

    /// Decides without faults: first once more what was decided and perhaps never asked for, then this and that.
    async fn decide_all(&mut self) -> Result<(), String> {
        for record in self.held().await {
            let decision = self.decision(&record.raw_id, record.order).await?;
            let ruling = match (decision, self.roll(3)) {
                (Some(decision), _) => decision.ruling,
                (None, 0) => Ruling::Released,
                (None, 1) => Ruling::Rejected,
                (None, _) => continue,
            };
            let decided = self.decide_on(&Some((record.raw_id, ruling))).await;
            match &decided {
                Some(Err(DecideError::Refused(Refusal::NewerVersion(..)))) | Some(Ok(_)) => {}
                other => return Err(format!("a decision is {other:?}")),
            }
            self.ask(decided);
        }
        Ok(())
    }

    /// What is decided on a proposal, by what is in the lake.
    async fn decision(&self, id: &RawId, order: Order) -> Result<Option<Decision>, String> {
        decision(&self.world, id, order).await
    }

    async fn replay(&mut self) -> String {
        let request =
            json!({"dataset": DATASET, "landed_from": "2013-01-01", "landed_to": "2013-12-31"});
        let mut summary = Summary::new("replay", "r");
        let sent = alive(&self.faulty, self.world.replay.handle(request, &mut summary)).await;
        format!("replay: {}", fate(sent.map(|r| r.is_ok())))
    }

    /// Delivers everything without faults; then stages all of it once more, so that the last contract has the last word.
    async fn settle(&mut self, auditor: &mut Auditor) -> Result<(), String> {
        self.faulty.set_odds(Odds::default());
        self.world.skew([SignedDuration::ZERO; 3]);
        while self.contracts < 2 {
            self.contract();
        }
        for round in 0..2 {
            for event in std::mem::take(&mut self.events) {
                self.world.land_event(event).await.map_err(|e| e.to_string())?;
            }
            self.drain().await?;
            auditor.look(&self.world).await?;
            self.decide_all().await?;
            self.drain().await?;
            auditor.look(&self.world).await?;
            self.compare().await?;
            if round == 0 {
                let did = self.replay().await;
                self.trace.push(did);
            }
        }
        Ok(())
    }

    /// Delivers messages until none are left.
    async fn drain(&mut self) -> Result<(), String> {
        self.collect();
        let mut left = 40;
        while self.queues.values().any(|q| !q.is_empty()) {
            for queue in QUEUES {
                let batch = self.queues.get_mut(queue).map(std::mem::take).unwrap_or_default();
                let failed = self.world.deliver(queue, &batch).await;
                self.queues.entry(queue).or_default().extend(failed);
            }
            self.collect();
            left -= 1;
            if left == 0 {
                let stuck: Vec<_> = self.queues.values().flatten().collect();
                return Err(format!(
                    "{} messages never succeed, as {:?}",
                    stuck.len(),
                    stuck.first()
                ));
            }
        }
        Ok(())
    }

    /// RAW-2: once everything is delivered, no raw object is left waiting or pending.
    async fn none_stranded(&self) -> Result<(), String> {
        let uploads: usize = self.uploads.values().map(Vec::len).sum();
        let records = self.world.view(DATASET).await.ledger.records.len();
        ensure(records == uploads, || format!("RAW-2: {uploads} uploads, {records} records"))
    }

    /// Holds what is published against what was uploaded and decided.
    async fn compare(&self) -> Result<(), String> {
        let view = self.world.view(DATASET).await;
        self.none_stranded().await?;
        for ((id, order), ruling) in &self.decided {
            let kept = self.decision(id, *order).await?.is_some_and(|d| d.ruling == *ruling);
            ensure(kept, || format!("{id} was {ruling}, and it is forgotten"))?;
        }
        for (source, uploads) in &self.uploads {
            let mut expected = None;
            for (id, content) in uploads.iter().rev() {
                let record = view.ledger.records.get(id).ok_or("a record is missing")?;
                let proposal = self.world.proposal(DATASET, record).await;
                let fate = content.fates[usize::from(proposal.contract_version != "1.0.0")];
                let decision = self.decision(id, record.order).await?;
                ensure(record.decision == decision || record.state == State::Withdrawn, || {
                    format!("{id}: {decision:?} is not obeyed, {:?} is", record.decision)
                })?;
                let released = decision.as_ref().is_some_and(|d| d.ruling == Ruling::Released);
                // What is late is held, which the auditor has looked at; so is what was.
                let waits = record.state == State::Held || decision.is_some();
                // What a collection has closed comes back by a replay, as what was withdrawn does.
                let closing = keys::closing(&dataset(), id, record.order);
                let is_out = record.state == State::Withdrawn
                    || (record.state != State::Published
                        && self.world.lake.head(&closing, None).await.is_ok());
                let rows = match fate {
                    _ if is_out => None,
                    Fate::Passes(rows) if !waits => Some(rows),
                    Fate::Passes(rows) | Fate::Held(rows) => released.then_some(rows),
                    Fate::Unreadable => None,
                };
                expected = expected.or(rows);
            }
            let expected = expected.unwrap_or(0);
            let segment =
                sluicegate_lake::Source::of_inbox_key(source).map_err(|e| e.to_string())?;
            let published = view.ledger.records.values().filter(|r| r.source == segment);
            let published = published.filter(|r| r.state == State::Published);
            let rows: u64 = published.map(|r| r.rows).sum();
            ensure(rows == expected, || {
                format!(
                    "SRC-1: {source} has {rows} rows published, its newest that passes has {expected}"
                )
            })?;
        }
        Ok(())
    }
}

fn dataset() -> Dataset {
    DATASET.parse().unwrap()
}

/// What is decided on a proposal.
async fn decision(world: &World, id: &RawId, order: Order) -> Result<Option<Decision>, String> {
    match world.lake.get(&keys::decision(&dataset(), id, order)).await {
        Ok((_, bytes)) => serde_json::from_slice(&bytes).map(Some).map_err(|e| e.to_string()),
        Err(StoreError::Absent { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Drives a function until it answers or its process dies.
async fn alive<T>(faulty: &Faulty, function: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = function => Some(answer),
        () = faulty.killed() => None,
    }
}

fn fate(succeeded: Option<bool>) -> &'static str {
    match succeeded {
        Some(true) => "done",
        Some(false) => "failed",
        None => "died",
    }
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

/// Whether what sweeps do succeeded. It may fail by the store's faults alone.
fn sound<T>(what: &str, outcome: Result<T, CommitError>) -> Result<bool, String> {
    match outcome {
        Ok(_) => Ok(true),
        Err(CommitError::Store(_) | CommitError::Contended(_)) => Ok(false),
        Err(error) => Err(format!("{what} ends in {error}")),
    }
}

/// A collection as it must not be: whatever is old goes, unless the present snapshot names it.
async fn collect_by_age(store: &dyn Store, ambient: &dyn Ambient) -> Result<(), StoreError> {
    let before = ambient.now().saturating_sub(SignedDuration::from_hours(24));
    let before = before.unwrap_or(jiff::Timestamp::MIN);
    let present = sluicegate_table::View::read(store, &dataset()).await;
    let live: BTreeSet<String> = present.map(|v| v.files.into_keys().collect()).unwrap_or_default();
    for object in sluicegate_lake::list_all(store, &keys::data_files(&dataset())).await? {
        if object.modified < before && !live.contains(&store.uri(&object.key)) {
            store.delete(&object.key).await?;
        }
    }
    Ok(())
}
