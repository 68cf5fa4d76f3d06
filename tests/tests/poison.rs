//! Messages that can never be handled, among many that can: what they cost, where they end, and that they can come back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_lake::{Outgoing, Queue, Store};
use sluicegate_table::State;
use sluicegate_tests::World;

/// The template's `maxReceiveCount` of the stage queue.
const TRIES: u32 = 16;

fn contract() -> String {
    let contract = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["n"],
        "properties": {"n": {"type": "integer"}},
        "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "csv"}, "bad_rows": {"max_count": 1}},
    });
    contract.to_string()
}

/// A world with 1,000 files landed, every hundredth of a dataset whose contract's version is not there; and that version.
async fn spoilt_world() -> (World, Vec<u8>) {
    let world = World::default();
    for dataset in ["good", "spoilt"] {
        world.upload(&format!("_contracts/{dataset}.json"), contract()).await;
    }
    let key = "contracts/spoilt/1.0.0.json";
    let version = world.lake.get(key).await.unwrap().1.to_vec();
    world.lake.delete(key).await.unwrap();
    for n in 0..1000 {
        let dataset = if n % 100 == 50 { "spoilt" } else { "good" };
        world.upload(&format!("{dataset}/{n}.csv"), format!("n\n{n}\n")).await;
    }
    (world, version)
}

/// Has the stage queue worked on until it is empty, as SQS and Lambda do; answers with how often each message was delivered.
async fn stage_all(world: &World) -> BTreeMap<String, u32> {
    let (queue, dead) = (world.queue("stage"), world.queue("stage-dlq"));
    let mut deliveries = BTreeMap::new();
    while queue.depth().await.unwrap().waiting > 0 {
        loop {
            let mut batch = queue.receive(Duration::ZERO).await.unwrap();
            if batch.is_empty() {
                break;
            }
            for message in batch.extract_if(.., |message| message.receives > TRIES) {
                dead.send(&[Outgoing { body: message.body, group: "dead".into() }]).await.unwrap();
                queue.delete(&message.receipt).await.unwrap();
            }
            let bodies: Vec<_> = batch.iter().map(|message| message.body.clone()).collect();
            let failed = world.deliver("stage", &bodies).await;
            for message in batch {
                *deliveries.entry(message.body.clone()).or_default() += 1;
                if !failed.contains(&message.body) {
                    queue.delete(&message.receipt).await.unwrap();
                }
            }
        }
        queue.return_all();
    }
    deliveries
}

async fn published(world: &World, dataset: &str) -> usize {
    let view = world.view(dataset).await;
    view.ledger.records.values().filter(|record| record.state == State::Published).count()
}

fn is_spoilt(body: &str) -> bool {
    serde_json::from_str::<Value>(body).unwrap()["dataset"] == "spoilt"
}

#[tokio::test]
async fn ten_poison_messages_among_a_thousand_cost_their_own_tries_and_come_back_when_the_cause_is_gone()
 {
    let (world, version) = spoilt_world().await;
    let deliveries = stage_all(&world).await;
    assert_eq!(deliveries.len(), 1000);
    for (body, times) in &deliveries {
        assert_eq!(*times, if is_spoilt(body) { TRIES } else { 1 }, "{body}");
    }
    assert_eq!(world.settle().await, [""; 0]);
    assert_eq!((published(&world, "good").await, published(&world, "spoilt").await), (990, 0));
    assert_eq!(world.rows("good").await, 990);

    let dead = world.queue("stage-dlq").drain();
    assert_eq!((dead.len(), dead.iter().all(|body| is_spoilt(body))), (10, true));
    world.lake.upload("contracts/spoilt/1.0.0.json", version);
    // A redrive that died between sending and deleting sends one of them twice.
    let again = dead.iter().chain(dead.first());
    let again = again.map(|body| Outgoing { body: body.clone(), group: "spoilt".into() });
    world.queue("stage").send(&again.collect::<Vec<_>>()).await.unwrap();
    let before = world.commits();
    assert_eq!(world.settle().await, [""; 0]);
    assert_eq!((published(&world, "good").await, published(&world, "spoilt").await), (990, 10));
    assert_eq!((world.rows("good").await, world.rows("spoilt").await), (990, 10));
    assert!(world.commits() > before);
    assert_eq!(world.violations(), 0);
}
