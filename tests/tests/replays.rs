//! Replays by a plan: what is selected and what it should cost, the budget, death in the middle, and a queue that nothing takes from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use sluicegate_contract::Budget;
use sluicegate_lake::faulty::Faulty;
use sluicegate_lake::memory::{Memory, MemoryStore};
use sluicegate_lake::{
    Dataset, Depth, Outgoing, PlanId, Queue, QueueError, RawId, Received, Store, keys, list_all,
};
use sluicegate_replay::MAX_HOPS;
use sluicegate_runtime::{Reason, RunMessage, StageMessage, Summary};
use sluicegate_table::bill;
use sluicegate_table::budget::{self, Standing};
use sluicegate_table::replay::{self, Chunk, Plan, Progress, RunState};
use sluicegate_table::{State, View};
use sluicegate_tests::{LAKE, World, sqs_event};

const DATASET: &str = "readings";

fn dataset() -> Dataset {
    DATASET.parse().unwrap()
}

fn contract(version: &str) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["at", "value"],
        "properties": {"at": {"type": "string", "format": "date-time"}, "value": {"type": "number", "maximum": 100}},
        "x-sluicegate": {
            "version": version,
            "team": {"name": "t"},
            "format": {"type": "csv"},
            "event_time": {"column": "at"},
            "lateness": {"allowed": "P9D"},
            "bad_rows": {"max_fraction": 0.1},
            "audits": [],
        },
    })
}

/// The queue to stage, which holds every message to the budget (REP-2) by what the ledger says and a sum of its own.
#[derive(Clone)]
struct Watched {
    inner: Arc<dyn Queue>,
    lake: MemoryStore,
    sent: Arc<Mutex<Vec<RawId>>>,
}

impl Watched {
    async fn hold_to_the_budget(&self, messages: &[Outgoing]) {
        let read = |m: &Outgoing| serde_json::from_str::<StageMessage>(&m.body).unwrap();
        let messages: Vec<StageMessage> = messages.iter().map(read).collect();
        let Some(id) = messages.first().and_then(|m| m.plan.clone()) else { return };
        let plan = replay::read_plan(&self.lake, &dataset(), &id).await.unwrap();
        let objects = objects(&self.lake, &plan).await;
        let budget = progress(&self.lake, &id).await.budget;
        let view = View::read(&self.lake, &dataset()).await.unwrap();
        let committed = |ids: &BTreeSet<RawId>| -> u64 {
            let each = ids.iter().map(|id| {
                let object = &objects[id];
                match view.ledger.records.get(id) {
                    Some(record) if record.order.epoch >= plan.epoch => {
                        record.spent() - object.spent + plan.publishing
                    }
                    _ => plan.expected(object),
                }
            });
            each.sum()
        };
        let mut ids: BTreeSet<RawId> = self.sent.lock().unwrap().iter().cloned().collect();
        let before = committed(&ids);
        let new = messages.iter().filter(|m| ids.insert(m.raw_id.clone())).count();
        assert!(new == 0 || before < budget, "REP-2: {before} of {budget}, and {new} more");
        assert!(new == 0 || committed(&ids) <= budget, "more is reserved than may be spent");
        for message in &messages {
            assert_eq!(
                (message.epoch, message.reason, message.hop),
                (plan.epoch, Reason::Replay, 1)
            );
        }
        self.sent.lock().unwrap().extend(messages.into_iter().map(|m| m.raw_id));
    }
}

#[async_trait]
impl Queue for Watched {
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError> {
        self.hold_to_the_budget(messages).await;
        self.inner.send(messages).await
    }

    async fn send_later(&self, message: &Outgoing, delay: Duration) -> Result<(), QueueError> {
        self.inner.send_later(message, delay).await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.inner.depth().await
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Received>, QueueError> {
        self.inner.receive(wait).await
    }

    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), QueueError> {
        self.inner.release(receipt, delay).await
    }

    async fn delete(&self, receipt: &str) -> Result<(), QueueError> {
        self.inner.delete(receipt).await
    }
}

/// A world whose replay may die, and whose messages are held to the budget.
struct Watch {
    world: World,
    faulty: Faulty,
    sent: Arc<Mutex<Vec<RawId>>>,
}

async fn watch() -> Watch {
    let cloud = Memory::default();
    let faulty = Faulty::new(Arc::new(cloud.bucket(LAKE)), 1);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (lake, same) = (cloud.bucket(LAKE), sent.clone());
    let mut world = World::over(
        cloud.clone(),
        Arc::new(faulty.clone()),
        |name| {
            let queue = Arc::new(cloud.queue(name));
            if name != "stage-replay" {
                return Arc::new(faulty.queue(queue));
            }
            let watched = Watched { inner: queue, lake: lake.clone(), sent: same.clone() };
            Arc::new(faulty.queue(Arc::new(watched)))
        },
        1,
    );
    world.promote.meter = Some(world.stage.meter.clone());
    world.upload(&format!("_contracts/{DATASET}.json"), contract("1.0.0").to_string()).await;
    Watch { world, faulty, sent }
}

/// Uploads files, a day each, of about 20 rows.
async fn upload(world: &World, files: Range<usize>) {
    for n in files {
        let day = 1 + n % 28;
        let rows = (0..20 + 2 * (n % 3))
            .map(|row| format!("2012-12-{day:02}T{:02}:{:02}:00Z,{n}\n", row / 60, row % 60));
        let text: String = std::iter::once("at,value\n".to_owned()).chain(rows).collect();
        world.upload(&format!("{DATASET}/{n}.csv"), text).await;
        world.wait(1);
    }
}

async fn ask(world: &World, event: Value) -> Result<Value, String> {
    let answer = world.replay.handle(event, &mut Summary::new("replay", "r")).await;
    answer.map_err(|error| error.to_string())
}

async fn plan(world: &World, selection: Value) -> Plan {
    let mut event = json!({"plan": true, "dataset": DATASET});
    event.as_object_mut().unwrap().extend(selection.as_object().unwrap().clone());
    let answer = ask(world, event).await.unwrap();
    let id: PlanId = answer["plan"].as_str().unwrap().parse().unwrap();
    let plan = replay::read_plan(&world.lake, &dataset(), &id).await.unwrap();
    assert_eq!(answer["nano_usd"], plan.cost());
    plan
}

async fn objects(lake: &MemoryStore, plan: &Plan) -> BTreeMap<RawId, replay::Object> {
    let mut objects = BTreeMap::new();
    let chunks = plan.objects.div_ceil(1000);
    for n in 0..chunks {
        let (_, bytes) = lake.get(&keys::replay_chunk(&dataset(), &plan.id, n)).await.unwrap();
        let chunk: Chunk = serde_json::from_slice(&bytes).unwrap();
        objects.extend(chunk.objects.into_iter().map(|o| (o.raw_id.clone(), o)));
    }
    assert_eq!(objects.len() as u64, plan.objects);
    objects
}

async fn progress(lake: &MemoryStore, id: &PlanId) -> Progress {
    let (_, bytes) = lake.get(&keys::replay_progress(&dataset(), id)).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn run(plan: &Plan, budget: u64, partly: bool) -> Value {
    json!({"run": plan.id, "dataset": DATASET, "budget_nano_usd": budget, "partly": partly})
}

/// What a plan's objects cost since it was made, by the ledger, and publishing them on average.
async fn paid(world: &World, plan: &Plan) -> u64 {
    let view = world.view(DATASET).await;
    let objects = objects(&world.lake, plan).await;
    let settled = objects.values().filter_map(|object| {
        let record = &view.ledger.records[&object.raw_id];
        let is_settled = record.order.epoch >= plan.epoch;
        is_settled.then(|| record.spent() - object.spent + plan.publishing)
    });
    settled.sum()
}

#[tokio::test]
async fn a_selection_is_by_landing_events_state_contract_and_name() {
    let Watch { world, .. } = watch().await;
    upload(&world, 0..3).await;
    let bad = |rows: &str| format!("at,value\n2012-12-09T00:00:00Z,1\n{rows}");
    let one = bad(&"2012-12-09T00:00:00Z,1\n".repeat(18)) + "2012-12-09T00:00:00Z,101\n";
    world.upload(&format!("{DATASET}/one.csv"), one).await;
    let many = bad("2012-12-09T00:00:00Z,101\n2012-12-09T00:00:00Z,102\n");
    world.upload(&format!("{DATASET}/two.csv"), many).await;
    world.settle().await;
    world.wait(86_400);
    world.upload(&format!("_contracts/{DATASET}.json"), contract("1.0.1").to_string()).await;
    upload(&world, 3..4).await;
    world.settle().await;
    world.queue("stage").drain();
    let waiting = world.upload(&format!("{DATASET}/late.csv"), bad("")).await;
    assert!(waiting.size > 0);
    let raw = list_all(&world.lake, &keys::raw_of_dataset(&dataset())).await.unwrap();
    let id_of = |name: &str| {
        let object = raw.iter().find(|o| o.key.contains(name)).unwrap();
        keys::parse_raw(&object.key).unwrap().2
    };
    let engine = world.records(DATASET, "0.csv").await[0].order.engine;
    for (selection, expected) in [
        (json!({}), &["0.csv", "1.csv", "2.csv", "one.csv", "two.csv", "3.csv"][..]),
        (json!({"landed_to": "2013-01-02"}), &["0.csv", "1.csv", "2.csv", "one.csv", "two.csv"]),
        (json!({"landed_from": "2013-01-03"}), &["3.csv"]),
        (json!({"events_from": "2012-12-02", "events_to": "2012-12-03"}), &["1.csv", "2.csv"]),
        (json!({"state": "held"}), &["two.csv"]),
        (json!({"quarantined": true}), &["one.csv", "two.csv"]),
        (
            json!({"contract_below": 2, "state": "published"}),
            &["0.csv", "1.csv", "2.csv", "one.csv"],
        ),
        (json!({"engine_below": engine + 1, "landed_from": "2013-01-03"}), &["3.csv"]),
        (json!({"raw_ids": [id_of("/2.csv"), id_of("/late.csv")]}), &["2.csv", "late.csv"]),
    ] {
        let plan = plan(&world, selection.clone()).await;
        let objects = objects(&world.lake, &plan).await;
        let mut sources: Vec<_> = objects.values().map(|o| o.source.as_str()).collect();
        sources.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(sources, expected, "{selection}");
    }
    for (nothing, why) in [
        (json!({"state": "withdrawn"}), "nothing of readings is selected"),
        (json!({"engine_below": engine}), "nothing of readings is selected"),
        (json!({"landed_from": "2013-01-03", "landed_to": "2013-01-02"}), "landing window"),
        (json!({"events_from": "2013-01-03", "events_to": "2013-01-02"}), "event window"),
    ] {
        let mut event = json!({"plan": true, "dataset": DATASET});
        event.as_object_mut().unwrap().extend(nothing.as_object().unwrap().clone());
        let refusal = ask(&world, event).await.unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
    }
    assert_eq!(world.queue("stage-replay").drain(), Vec::<String>::new(), "planning sends nothing");
}

#[tokio::test]
async fn a_plan_is_priced_by_the_receipts_of_its_very_objects_and_the_rest_by_the_byte() {
    let Watch { world, .. } = watch().await;
    upload(&world, 0..6).await;
    world.settle().await;
    let view = world.view(DATASET).await;
    let receipts: Vec<_> = view.ledger.records.values().map(|r| r.receipt.clone()).collect();
    let cost = |n: usize| receipts[n].cost_nano_usd.total();
    let all = plan(&world, json!({})).await;
    assert_eq!((all.objects, all.priced_objects, all.epoch), (6, 6, view.number().cast_unsigned()));
    assert_eq!(all.cost(), (0..6).map(cost).sum::<u64>() + 6 * all.publishing);
    assert!(all.publishing > 0 && all.receipt.prices > 0);
    let requests: u64 = receipts.iter().flat_map(|r| r.used.requests.values()).sum();
    assert!((all.requests() - requests as f64).abs() < 1e-6);
    // One that is not staged yet costs by the byte what the other does.
    world.upload(&format!("{DATASET}/new.csv"), "at,value\n2013-01-01T00:00:00Z,1\n").await;
    let first = view.ledger.records.values().next().unwrap();
    let raw = list_all(&world.lake, &keys::raw_of_dataset(&dataset())).await.unwrap();
    let new = raw.iter().find(|o| o.key.contains("/new.csv")).unwrap();
    let ids = json!({"raw_ids": [first.raw_id, keys::parse_raw(&new.key).unwrap().2]});
    let two = plan(&world, ids).await;
    assert_eq!((two.objects, two.priced_objects), (2, 1));
    assert_eq!(two.cost(), cost(0) + cost(0) * new.size / first.bytes + 2 * two.publishing);
    let sum: u64 = objects(&world.lake, &two).await.values().map(|o| two.expected(o)).sum();
    assert_eq!(sum, two.cost());
}

#[tokio::test]
async fn a_plan_is_carried_out_once_and_says_what_it_cost() {
    let Watch { world, sent, .. } = watch().await;
    upload(&world, 0..11).await;
    world.settle().await;
    let rows = world.rows(DATASET).await;
    let plan = plan(&world, json!({})).await;
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    assert_eq!(world.settle().await, Vec::<String>::new());
    let done = progress(&world.lake, &plan.id).await;
    assert_eq!((done.state, done.sent, done.settled, done.reserved), (RunState::Done, 11, 11, 0));
    assert_eq!((done.estimated, done.spent), (plan.cost(), paid(&world, &plan).await));
    assert!(done.spent > 0);
    let view = world.view(DATASET).await;
    let records = || view.ledger.records.values();
    assert!(records().all(|r| r.order.epoch == plan.epoch));
    let states: Vec<_> = records().map(|r| (r.state, r.reason.clone())).collect();
    assert_eq!(states, vec![(State::Published, None); 11]);
    assert_eq!(world.rows(DATASET).await, rows);
    assert_eq!(sent.lock().unwrap().len(), 11);
    // Asked again, and an old message delivered again: there is nothing left to do.
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    let old = RunMessage::new(dataset(), plan.id.clone(), 1);
    ask(&world, serde_json::to_value(old).unwrap()).await.unwrap();
    assert_eq!(sent.lock().unwrap().len(), 11);
    assert_eq!(world.queue("replay").drain(), Vec::<String>::new());
}

#[tokio::test]
async fn quarantined_rows_that_pass_a_newer_contract_are_published_with_their_object_and_the_others_stay()
 {
    let Watch { world, .. } = watch().await;
    upload(&world, 0..3).await;
    let rows = (0..30).map(|row| format!("2012-12-09T00:{row:02}:00Z,7\n"));
    let bad = ["2012-12-09T01:00:00Z,150\n", "2012-12-09T01:01:00Z,950\n"].map(str::to_owned);
    let text: String = std::iter::once("at,value\n".to_owned()).chain(rows).chain(bad).collect();
    world.upload(&format!("{DATASET}/bad.csv"), text).await;
    world.settle().await;
    let before = world.rows(DATASET).await;

    let mut wider = contract("1.1.0");
    wider["properties"]["value"]["maximum"] = json!(200);
    world.upload(&format!("_contracts/{DATASET}.json"), wider.to_string()).await;
    let plan = plan(&world, json!({"quarantined": true})).await;
    assert_eq!(plan.objects, 1, "the other files have no quarantined rows");
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    world.settle().await;
    assert_eq!(world.rows(DATASET).await, before + 1);
    let view = world.view(DATASET).await;
    let record = view.ledger.records.values().find(|r| r.source.to_string() == "bad.csv").unwrap();
    assert_eq!((record.state, record.rows, record.quarantined), (State::Published, 31, 1));
    assert_eq!(progress(&world.lake, &plan.id).await.state, RunState::Done);
}

#[tokio::test]
async fn a_budget_below_the_plan_is_refused_or_spent_as_far_as_it_goes_and_more_goes_on() {
    let Watch { world, sent, .. } = watch().await;
    upload(&world, 0..12).await;
    world.settle().await;
    let plan = plan(&world, json!({})).await;
    let half = plan.cost() / 2;
    let refusal = ask(&world, run(&plan, half, false)).await.unwrap_err();
    assert!(refusal.contains(&format!("{} nano-dollars", plan.cost())), "{refusal}");
    assert!(sent.lock().unwrap().is_empty());

    ask(&world, run(&plan, half, true)).await.unwrap();
    world.settle().await;
    let capped = progress(&world.lake, &plan.id).await;
    assert_eq!(capped.state, RunState::Capped);
    let (first, count) = (paid(&world, &plan).await, sent.lock().unwrap().len());
    assert!((1..12).contains(&count) && capped.sent == count as u64, "{capped:?}");
    assert_eq!((capped.spent, capped.reserved), (first, 0));
    // The same budget again changes nothing; more goes on from there.
    ask(&world, run(&plan, half, true)).await.unwrap();
    world.settle().await;
    assert_eq!(progress(&world.lake, &plan.id).await.state, RunState::Capped);
    let again = sent.lock().unwrap().len();
    assert_eq!(again, count, "the budget was used up");
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    world.settle().await;
    let done = progress(&world.lake, &plan.id).await;
    assert_eq!((done.state, done.settled), (RunState::Done, 12));
    assert_eq!(done.spent, paid(&world, &plan).await);
    let distinct: BTreeSet<RawId> = sent.lock().unwrap().iter().cloned().collect();
    assert_eq!((distinct.len(), sent.lock().unwrap().len()), (12, 12), "nothing was sent twice");
}

/// Uploads a version of the contract under which a month's replays may cost so much.
async fn allow(world: &World, version: &str, nano_usd: u64) {
    let mut contract = contract(version);
    let dollars: Value = serde_json::from_str(&Budget::dollars(nano_usd)).unwrap();
    contract["x-sluicegate"]["budget"] = json!({"replay_usd_per_month": dollars});
    world.upload(&format!("_contracts/{DATASET}.json"), contract.to_string()).await;
    let month = month(world).await;
    assert_eq!(month.replay_budget_nano_usd, Some(nano_usd), "the contract is current");
}

/// What publishing has cost so far.
async fn published_for(world: &World) -> u64 {
    bill::of_all_commits(&world.view(DATASET).await.metadata.unwrap()).unwrap()
}

async fn month(world: &World) -> Standing {
    budget::read(&world.lake, &*world.ambient, &dataset()).await.unwrap()
}

#[tokio::test]
async fn replays_stop_at_the_months_budget_and_go_on_in_a_later_month() {
    let Watch { mut world, sent, .. } = watch().await;
    // All at once, so that what is in flight alone holds it back.
    world.replay.step = 12;
    upload(&world, 0..12).await;
    world.settle().await;
    let plan = plan(&world, json!({})).await;
    let cap = plan.cost() * 2 / 5;
    allow(&world, "1.0.1", cap).await;
    let enough = run(&plan, plan.cost() * 2, false);
    let mut months: Vec<usize> = Vec::new();
    while months.iter().sum::<usize>() < 12 {
        assert!(months.len() < 4, "{months:?}");
        let before = sent.lock().unwrap().len();
        // Twice in each month: the second time nothing more is sent.
        for _ in 0..2 {
            ask(&world, enough.clone()).await.unwrap();
            assert_eq!(world.settle().await, Vec::<String>::new());
        }
        let (spent, now) = (month(&world).await, progress(&world.lake, &plan.id).await);
        let count = sent.lock().unwrap().len();
        assert!(count > before && spent.replay_nano_usd <= cap, "{spent:?}");
        assert_eq!((now.sent, now.settled, now.reserved), (count as u64, count as u64, 0));
        let stopped = if count == 12 { RunState::Done } else { RunState::Month };
        assert_eq!(now.state, stopped);
        months.push(count - before);
        world.wait(31 * 86_400);
    }
    assert!(months.len() > 2, "{months:?}");
    let distinct: BTreeSet<RawId> = sent.lock().unwrap().iter().cloned().collect();
    assert_eq!((distinct.len(), sent.lock().unwrap().len()), (12, 12), "nothing was sent twice");
    assert_eq!(paid(&world, &plan).await, progress(&world.lake, &plan.id).await.spent);
}

#[tokio::test]
async fn what_was_claimed_and_never_sent_stays_so_once_the_month_does_not_pay_for_it() {
    let Watch { world, sent, .. } = watch().await;
    upload(&world, 0..4).await;
    world.settle().await;
    let plan = plan(&world, json!({})).await;
    let (lake, ambient, budget) = (&world.lake, &*world.ambient, plan.cost() * 2);
    let allowed = replay::authorize(lake, ambient, &dataset(), &plan.id, budget, false).await;
    let step = replay::advance(lake, ambient, &plan, allowed.unwrap().1.step, 4, false).await;
    // Here replay dies, and the contract comes to allow less.
    assert!(replay::claim(lake, ambient, &plan, &step.unwrap().unwrap()).await.unwrap());
    for (version, allowed, count, state) in [
        ("1.0.1", plan.cost() / 2, 0, RunState::Month),
        ("1.0.2", plan.cost() * 3, 4, RunState::Done),
    ] {
        allow(&world, version, allowed).await;
        ask(&world, run(&plan, budget, false)).await.unwrap();
        world.settle().await;
        assert_eq!(sent.lock().unwrap().len(), count);
        assert_eq!(progress(&world.lake, &plan.id).await.state, state);
    }
}

#[tokio::test]
async fn under_a_contract_that_allows_more_a_replay_goes_on_in_the_same_month() {
    let Watch { world, sent, .. } = watch().await;
    upload(&world, 0..6).await;
    world.settle().await;
    let plan = plan(&world, json!({})).await;
    let before = published_for(&world).await;
    allow(&world, "1.0.1", plan.cost() / 2).await;
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    world.settle().await;
    assert_eq!(progress(&world.lake, &plan.id).await.state, RunState::Month);
    assert!((1..6).contains(&sent.lock().unwrap().len()));
    // The plan's own budget is another: more of that alone does not help.
    ask(&world, run(&plan, plan.cost() * 9, false)).await.unwrap();
    world.settle().await;
    assert_eq!(progress(&world.lake, &plan.id).await.state, RunState::Month);
    allow(&world, "1.0.2", plan.cost() * 2).await;
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    world.settle().await;
    let done = progress(&world.lake, &plan.id).await;
    assert_eq!((done.state, done.settled), (RunState::Done, 6));
    let staged = done.spent - 6 * plan.publishing;
    let publishing = published_for(&world).await - before;
    assert_eq!(month(&world).await.replay_nano_usd, staged + publishing);
}

#[tokio::test]
async fn a_plan_tells_what_is_left_of_the_month_and_without_a_plan_nothing_is_sent_once_it_is_used_up()
 {
    let Watch { world, sent, .. } = watch().await;
    upload(&world, 0..2).await;
    world.settle().await;
    let at_once =
        json!({"dataset": DATASET, "landed_from": "2013-01-01", "landed_to": "2013-01-31"});
    let ask_for_a_plan = json!({"plan": true, "dataset": DATASET});
    let left =
        async || ask(&world, ask_for_a_plan.clone()).await.unwrap()["month_left_nano_usd"].clone();
    assert_eq!(left().await, Value::Null);
    allow(&world, "1.0.1", 1).await;
    assert_eq!(left().await, 1);
    // Its cost is not known before: while anything is left it is sent.
    assert_eq!(ask(&world, at_once.clone()).await.unwrap()["sent"], 2);
    world.settle().await;
    assert_eq!(left().await, 0);
    let refusal = ask(&world, at_once.clone()).await.unwrap_err();
    assert!(refusal.contains("this month's budget"), "{refusal}");
    assert!(sent.lock().unwrap().is_empty(), "without a plan");
    assert_eq!(world.queue("stage-replay").drain(), Vec::<String>::new());
    world.wait(31 * 86_400);
    assert_eq!(left().await, 1);
    assert_eq!(ask(&world, at_once).await.unwrap()["sent"], 2);
}

#[tokio::test]
async fn no_budget_sends_nothing() {
    let Watch { world, sent, .. } = watch().await;
    upload(&world, 0..2).await;
    world.settle().await;
    let plan = plan(&world, json!({})).await;
    ask(&world, run(&plan, 0, true)).await.unwrap();
    world.settle().await;
    assert_eq!(progress(&world.lake, &plan.id).await.state, RunState::Capped);
    assert!(sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn while_nothing_is_staged_little_waits_in_the_queue_and_the_plan_stalls_until_it_is_run_again()
 {
    let Watch { world, sent, .. } = watch().await;
    upload(&world, 0..20).await;
    world.settle().await;
    let plan = plan(&world, json!({})).await;
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    let mut hops = Vec::new();
    loop {
        let bodies = world.queue("replay").drain();
        let Some(body) = bodies.first() else { break };
        let message: RunMessage = serde_json::from_str(body).unwrap();
        hops.push(message.hop);
        assert_eq!(world.deliver("replay", &bodies).await, Vec::<String>::new());
    }
    assert_eq!(sent.lock().unwrap().len(), 8, "two steps of four");
    assert_eq!(hops.iter().max(), Some(&MAX_HOPS));
    assert_eq!(progress(&world.lake, &plan.id).await.state, RunState::Stalled);
    world.settle().await;
    assert_eq!(sent.lock().unwrap().len(), 8, "what stalled stays so until somebody runs it");
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    world.settle().await;
    let done = progress(&world.lake, &plan.id).await;
    assert_eq!((done.state, done.settled), (RunState::Done, 20));
}

/// Delivers the messages of replay one by one, and everything else as it comes, until nothing is left. Replay dies at its
/// `death`th request; the message that it had comes again.
async fn live(watch: &Watch, first: Value, death: u64, carried_out: bool) -> bool {
    let Watch { world, faulty, .. } = watch;
    faulty.kill_at(Some(death), carried_out);
    let mut died = false;
    let mut waiting = vec![first.to_string()];
    for _ in 0..100 {
        let Some(body) = waiting.pop() else { return died };
        let mut summary = Summary::new("replay", "r");
        let event = sqs_event(std::slice::from_ref(&body));
        tokio::select! {
            biased;
            answer = world.replay.handle(event, &mut summary) => {
                assert_eq!(answer.unwrap(), json!({"batchItemFailures": []}));
            }
            () = faulty.killed() => {
                died = true;
                waiting.push(body);
            }
        }
        waiting.extend(world.queue("replay").drain());
        // Replay is the one that dies.
        if died || waiting.is_empty() {
            faulty.kill_at(None, false);
        }
        if died {
            for queue in ["stage-replay", "promote", "promote-replay"] {
                let bodies = world.queue(queue).drain();
                if !bodies.is_empty() {
                    assert_eq!(world.deliver(queue, &bodies).await, Vec::<String>::new());
                }
            }
        }
    }
    panic!("it goes on for ever");
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_request_it_comes_to_the_same_end_and_sends_no_more_than_a_step_again() {
    let mut deaths = 0;
    for carried_out in [false, true] {
        for death in 1..200 {
            let watch = watch().await;
            upload(&watch.world, 0..7).await;
            watch.world.settle().await;
            let plan = plan(&watch.world, json!({})).await;
            let died = live(&watch, run(&plan, plan.cost() * 2, false), death, carried_out).await;
            watch.faulty.kill_at(None, false);
            watch.world.settle().await;
            if !died {
                break;
            }
            deaths += 1;
            let done = progress(&watch.world.lake, &plan.id).await;
            let place = format!("{death} {carried_out}: {done:?}");
            if done.state == RunState::Stalled {
                // It died late, after what was in flight had long rested: whoever runs it again ends it.
                ask(&watch.world, run(&plan, plan.cost() * 2, false)).await.unwrap();
                watch.world.settle().await;
            }
            let done = progress(&watch.world.lake, &plan.id).await;
            assert_eq!((done.state, done.settled), (RunState::Done, 7), "{place}");
            assert_eq!(done.spent, paid(&watch.world, &plan).await, "{place}");
            let sent = watch.sent.lock().unwrap().clone();
            let distinct: BTreeSet<&RawId> = sent.iter().collect();
            assert_eq!(distinct.len(), 7, "{place}");
            assert!(sent.len() <= 7 + 4, "{} messages: {place}", sent.len());
            let staged = list_all(&watch.world.lake, &keys::staging(&dataset())).await.unwrap();
            let proposals = staged.iter().filter_map(|o| keys::parse_proposal(&o.key));
            let of_plan = proposals.filter(|order| order.epoch == plan.epoch).count();
            assert_eq!(of_plan, 7, "nothing is staged twice: {place}");
            assert_eq!(watch.world.queue("replay").drain(), Vec::<String>::new(), "{place}");
        }
    }
    assert!(deaths > 40, "{deaths} deaths");
}

#[tokio::test]
async fn a_plan_of_more_than_a_chunk_is_carried_out_whole() {
    let Watch { mut world, sent, .. } = watch().await;
    world.replay.step = 400;
    for n in 0..1100 {
        world.upload(&format!("{DATASET}/{n}.csv"), "at,value\n2013-01-01T00:00:00Z,1\n").await;
    }
    world.settle().await;
    let plan = plan(&world, json!({})).await;
    assert_eq!(plan.objects, 1100);
    ask(&world, run(&plan, plan.cost() * 2, false)).await.unwrap();
    world.settle().await;
    let done = progress(&world.lake, &plan.id).await;
    assert_eq!((done.state, done.settled, done.closed), (RunState::Done, 1100, 1100));
    assert_eq!(done.spent, paid(&world, &plan).await);
    assert_eq!(sent.lock().unwrap().len(), 1100);
}
