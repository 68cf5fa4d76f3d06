//! A seeded life of the pipeline: uploads, duplicate and reordered events, stagings, promotions that race, replays, contract
//! changes, people's decisions, faults of the store, and deaths at any request; after every step an auditor looks at the lake.
//!
//! The auditor ([`Auditor`]) knows nothing of plans or pages: it reads what is in the lake and holds it against the
//! invariants. At the end everything is delivered without faults, and what is published must be what a reference of
//! a few lines says of the uploads and the decisions alone. The same seed gives the same trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use sluicegate_contract::Outcome;
use sluicegate_lake::faulty::{Fault, Faulty, Odds};
use sluicegate_lake::memory::MemoryStore;
use sluicegate_lake::{Ambient, Dataset, Order, RawId, Seeded, Store, StoreError, keys, list_all};
use sluicegate_runtime::{PromoteMessage, Summary};
use sluicegate_table::held::{self, DecideError, Refusal, Request};
use sluicegate_table::{Decision, Proposal, Record, Ruling, State, View};

use crate::{INBOX, World, s3_event};

const DATASET: &str = "readings";
const SOURCES: [&str; 4] = ["a.csv", "b.csv", "c/d.csv", "e f.csv"];

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// A line a step.
    pub trace: Vec<String>,
    pub faults: BTreeMap<Fault, u64>,
    pub snapshots: i64,
    /// Held proposals that were released and published.
    pub released: u64,
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
    trace: Vec<String>,
}

/// Runs a seed for some steps; `wrap` may put a defect between the faults and the lake.
pub async fn run(
    seed: u64,
    steps: usize,
    wrap: impl FnOnce(MemoryStore) -> Arc<dyn Store>,
) -> Result<Run, String> {
    let mut faulty = None;
    let world = World::over(
        |lake| {
            let store = Faulty::new(wrap(lake), seed);
            faulty = Some(store.clone());
            Arc::new(store)
        },
        seed,
    );
    let faulty = faulty.ok_or("no store")?;
    let dice = Seeded::new(jiff::Timestamp::UNIX_EPOCH, seed ^ 0x5157_1ce6);
    let queues =
        ["stage", "stage-replay", "promote"].into_iter().map(|q| (q, Vec::new())).collect();
    let mut sim = Sim {
        world,
        faulty,
        dice,
        events: Vec::new(),
        queues,
        uploads: BTreeMap::new(),
        decided: BTreeMap::new(),
        contracts: 0,
        trace: Vec::new(),
    };
    let mut auditor = Auditor::default();
    for step in 0..steps {
        let did = sim.step().await;
        sim.trace.push(format!("{step}: {did}"));
        let place = |e| format!("seed {seed}, step {step} ({did}): {e}");
        auditor.look(&sim.world).await.map_err(place)?;
    }
    sim.settle().await.map_err(|e| format!("seed {seed}, at the end: {e}"))?;
    auditor.look(&sim.world).await.map_err(|e| format!("seed {seed}, at the end: {e}"))?;
    let view = sim.world.view(DATASET).await;
    let records = view.ledger.records.values();
    let released = records.filter(|r| r.state == State::Published && r.decision.is_some()).count();
    Ok(Run {
        trace: sim.trace,
        faults: sim.faulty.fired(),
        snapshots: view.number(),
        released: released as u64,
    })
}

impl Sim {
    fn roll(&self, sides: u64) -> u64 {
        self.dice.uuid().as_u64_pair().0 % sides
    }

    fn pick(&self, len: usize) -> usize {
        usize::try_from(self.roll(len.max(1) as u64)).unwrap_or_default()
    }

    async fn step(&mut self) -> String {
        self.world.wait(i64::try_from(self.roll(3)).unwrap_or_default());
        self.faulty.set_odds(Odds {
            conflict: 20,
            unavailable: 20,
            lost_acknowledgement: 20,
            repeated_by_client: 20,
            slow: 20,
        });
        let dies = self.roll(4) == 0;
        self.faulty.kill_at(dies.then(|| 1 + self.roll(30)), self.roll(2) == 0);
        let did = match self.roll(22) {
            0..=3 => self.upload(),
            4..=8 => self.event().await,
            9..=12 => self.messages("stage").await,
            13..=16 => self.messages("promote").await,
            17 => self.race().await,
            18 => self.replay().await,
            19 => self.contract(),
            _ => self.decide().await,
        };
        self.faulty.kill_at(None, false);
        self.collect();
        did
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
        let (day, salt) = (1 + self.roll(2), self.roll(1000));
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
        }
        format!("event: {}", fate(landed.map(|r| r.is_ok())))
    }

    /// Takes some messages of a queue in any order.
    fn take(&mut self, queue: &str) -> Vec<String> {
        let waiting = self.queues.get(queue).map_or(0, Vec::len);
        let count = self.pick(6).min(waiting);
        (0..count)
            .map(|_| {
                let at = self.pick(self.queues[queue].len());
                self.queues.get_mut(queue).map(|q| q.swap_remove(at)).unwrap_or_default()
            })
            .collect()
    }

    /// Puts back what failed, and now and then what did not: at least once is what SQS promises.
    fn put_back(&mut self, queue: &'static str, batch: Vec<String>, failed: Option<Vec<String>>) {
        for body in batch {
            let again = failed.as_ref().is_none_or(|f| f.contains(&body)) || self.roll(10) == 0;
            if again {
                self.queues.entry(queue).or_default().push(body);
            }
        }
    }

    async fn messages(&mut self, queue: &'static str) -> String {
        let queue = if queue == "stage" && self.roll(2) == 0 { "stage-replay" } else { queue };
        let batch = self.take(queue);
        let failed = alive(&self.faulty, self.world.deliver(queue, &batch)).await;
        let did = format!("{queue} {}: {}", batch.len(), fate(failed.as_ref().map(Vec::is_empty)));
        self.put_back(queue, batch, failed);
        did
    }

    /// Two promotes, a landing and a decision at the same time. Not stage: its audit has a thread of its own, and how far that has come
    /// is not the seed's to decide.
    async fn race(&mut self) -> String {
        let (a, b) = (self.take("promote"), self.take("promote"));
        let event =
            (!self.events.is_empty()).then(|| self.events[self.pick(self.events.len())].clone());
        let request = self.wish().await;
        let all = async {
            tokio::join!(
                self.decide_on(&request),
                self.world.deliver("promote", &a),
                self.world.deliver("promote", &b),
                async {
                    if let Some(event) = event {
                        // It stays among the events, so a failure is no loss.
                        let _ = self.world.land_event(event).await;
                    }
                },
            )
        };
        let failed = alive(&self.faulty, all).await;
        let did = format!("race: {}", fate(failed.as_ref().map(|_| true)));
        let (decided, x, y) =
            failed.map_or((None, None, None), |(d, x, y, ())| (d, Some(x), Some(y)));
        self.ask(decided);
        self.put_back("promote", a, x);
        self.put_back("promote", b, y);
        did
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
        Some(held::decide(&self.faulty, &*self.world.ambient, &dataset(), &request).await)
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
    async fn settle(&mut self) -> Result<(), String> {
        self.faulty.set_odds(Odds::default());
        while self.contracts < 2 {
            self.contract();
        }
        for round in 0..2 {
            for event in std::mem::take(&mut self.events) {
                self.world.land_event(event).await.map_err(|e| e.to_string())?;
            }
            self.drain().await?;
            self.decide_all().await?;
            self.drain().await?;
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
            for queue in ["stage", "stage-replay", "promote"] {
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
                ensure(record.decision == decision, || {
                    format!("{id}: {decision:?} is not obeyed, {:?} is", record.decision)
                })?;
                let released = decision.is_some_and(|d| d.ruling == Ruling::Released);
                let rows = match fate {
                    Fate::Passes(rows) => Some(rows),
                    Fate::Held(rows) => released.then_some(rows),
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

/// Looks at the lake after every step, and remembers what must not change.
#[derive(Default)]
struct Auditor {
    /// Sizes of all immutable objects seen.
    seen: BTreeMap<String, u64>,
    number: i64,
    last: Option<View>,
}

impl Auditor {
    async fn look(&mut self, world: &World) -> Result<(), String> {
        let lake = &world.lake;
        let objects = list_all(lake, "").await.map_err(|e| e.to_string())?;
        let present: BTreeSet<&str> = objects.iter().map(|o| o.key.as_str()).collect();
        for key in self.seen.keys() {
            ensure(present.contains(key.as_str()), || format!("{key} is gone"))?;
        }
        for object in &objects {
            let key = object.key.as_str();
            let is_pointer = key.starts_with("tables/") && key.ends_with("/version-hint.text");
            if is_pointer || key.ends_with("/current.json") {
                continue;
            }
            let versions = lake.versions(key);
            ensure(versions == 1, || format!("RAW-1: {key} was written {versions} times"))?;
            self.seen.insert(key.to_owned(), object.size);
        }
        let dataset = dataset();
        let view = View::read(lake, &dataset).await.map_err(|e| format!("PUB-4: {e}"))?;
        let swaps = lake.versions(&keys::table_pointer(&dataset));
        ensure(usize::try_from(view.number()) == Ok(swaps), || {
            format!("PUB-3: {swaps} swaps, number {}", view.number())
        })?;
        ensure(view.number() >= self.number, || format!("PUB-3: back to {}", view.number()))?;
        self.number = view.number();
        self.files(world, &view).await?;
        self.history(&view)?;
        self.last = Some(view);
        Ok(())
    }

    /// PUB-1, PUB-2, PUB-4, AUD-1: the table's files are those of the published proposals, which passed, each once.
    async fn files(&self, world: &World, view: &View) -> Result<(), String> {
        let mut expected = BTreeSet::new();
        let mut sources = BTreeSet::new();
        for record in view.ledger.records.values() {
            let own = self.proposal(world, &record.raw_id, record.order).await?;
            let coverage = own.verdict.coverage();
            ensure(
                coverage.bytes == own.bytes || own.verdict.outcome() == Outcome::Reject,
                || format!("AUD-1: {} of {} bytes", coverage.bytes, own.bytes),
            )?;
            if record.state != State::Published {
                continue;
            }
            let decision = decision(world, &record.raw_id, record.order).await?;
            ensure(own.passed(decision.as_ref()) && record.decision == decision, || {
                format!("PUB-1: {} is published though it did not pass", record.raw_id)
            })?;
            ensure(sources.insert(&record.source), || {
                format!("SRC-1: {} is published twice", record.source)
            })?;
            let (holder, order) = record.files_of.as_ref().ok_or("PUB-1: no files")?;
            for file in self.proposal(world, holder, *order).await?.files {
                ensure(expected.insert(file.path.clone()), || {
                    format!("PUB-2: {} is there twice", file.path)
                })?;
            }
        }
        let found: BTreeSet<String> = view.files.keys().cloned().collect();
        ensure(found == expected, || format!("PUB-1: {found:?} are not {expected:?}"))?;
        let base = world.lake.uri("");
        for (path, (_, entry)) in &view.files {
            let key = path.strip_prefix(&base).unwrap_or(path);
            let there = world.lake.head(key, None).await.is_ok_and(|m| m.size == entry.file.bytes);
            ensure(there, || format!("PUB-4: {key} is missing or of another size"))?;
        }
        Ok(())
    }

    async fn proposal(&self, world: &World, id: &RawId, order: Order) -> Result<Proposal, String> {
        let key = keys::proposal(&dataset(), id, order);
        let (_, bytes) = world.lake.get(&key).await.map_err(|e| format!("PUB-1: {e}"))?;
        serde_json::from_slice(&bytes).map_err(|e| format!("{key}: {e}"))
    }

    /// ORD-1, and LATE-1's "once": nothing that was decided is decided otherwise.
    fn history(&self, view: &View) -> Result<(), String> {
        let Some(last) = &self.last else { return Ok(()) };
        for (id, before) in &last.ledger.records {
            let after =
                view.ledger.records.get(id).ok_or_else(|| format!("ORD-1: {id} is forgotten"))?;
            ensure(after.order >= before.order, || format!("ORD-1: {id} fell to {}", after.order))?;
            let kept = before.late.is_none() || before.late == after.late;
            ensure(kept, || format!("LATE-1: {id} was decided twice"))?;
            let kept = before.published_at.is_none() || before.published_at == after.published_at;
            ensure(kept, || format!("{id} was published for the first time twice"))?;
            let decided = before.decision.is_some() && before.order == after.order;
            ensure(!decided || before.decision == after.decision, || {
                format!("what was decided on {id} is undone")
            })?;
        }
        Ok(())
    }
}
