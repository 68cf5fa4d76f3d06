//! How far a replay has come is read from the ledger with few requests: each page once, and none that cannot have its objects.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop, and say why")]

use std::collections::BTreeSet;

use serde_json::json;
use sluicegate_lake::{Dataset, PlanId, keys, list_all};
use sluicegate_runtime::Summary;
use sluicegate_table::replay::{self, RunState};
use sluicegate_tests::World;

const DATASET: &str = "readings";

fn dataset() -> Dataset {
    DATASET.parse().unwrap()
}

fn contract() -> String {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["value"],
        "properties": {"value": {"type": "integer"}},
        "x-sluicegate": {
            "version": "1.0.0", "team": {"name": "t"}, "format": {"type": "csv"},
            "bad_rows": {"max_fraction": 0.1}, "audits": [],
        },
    })
    .to_string()
}

async fn upload(world: &World, name: &str, value: usize) {
    world.upload(&format!("{DATASET}/{name}.csv"), format!("value\n{value}\n")).await;
}

async fn ask(world: &World, event: serde_json::Value) -> serde_json::Value {
    world.replay.handle(event, &mut Summary::new("replay", "r")).await.unwrap()
}

async fn plan(world: &World, raw_ids: &[String]) -> PlanId {
    let event = json!({"plan": true, "dataset": DATASET, "raw_ids": raw_ids});
    ask(world, event).await["plan"].as_str().unwrap().parse().unwrap()
}

/// The standing of a plan, and the objects that were read for it.
async fn gets(world: &World, id: &PlanId) -> (replay::Progress, u64) {
    world.cloud.requests().take();
    let (_, progress) = replay::show(&world.lake, &dataset(), id).await.unwrap();
    (progress.unwrap(), world.cloud.requests().so_far().requests["s3:GetObject"])
}

#[tokio::test]
async fn each_page_is_read_once_and_only_those_that_may_have_the_objects_of_a_plan() {
    let mut world = World::default();
    world.replay.step = 2000;
    world.upload(&format!("_contracts/{DATASET}.json"), contract()).await;
    for n in 0..1600 {
        upload(&world, &n.to_string(), n).await;
        if n % 400 == 399 {
            world.wait(1);
        }
    }
    assert_eq!(world.settle().await, Vec::<String>::new());
    let view = world.view(DATASET).await;
    let ids: Vec<String> = view.ledger.records.keys().map(ToString::to_string).collect();
    assert_eq!(ids.len(), 1600);
    let page_of = |id: &String| view.root.page_of(&id.parse().unwrap()).unwrap();
    let pages = |ids: &[String]| ids.iter().map(page_of).collect::<BTreeSet<_>>();
    let (one, other) = (pages(&ids[500..1500]), pages(&ids[1500..]));
    assert!(one.len() > 1 && !one.is_disjoint(&other), "a page lies in both chunks");

    // The chunks stay open: nothing of what is sent is staged.
    let most = plan(&world, &ids[500..]).await;
    ask(&world, json!({"run": most, "dataset": DATASET, "budget_nano_usd": 1_000_000_000})).await;
    let (progress, count) = gets(&world, &most).await;
    assert_eq!((progress.claimed, progress.settled, progress.open.len()), (1100, 0, 2));
    // The plan, its progress, the pointer, the metadata, its list, the ledger's root; two chunks; the pages.
    assert_eq!(count, 6 + 2 + one.union(&other).count() as u64);
    assert_eq!(world.settle().await, Vec::<String>::new());
    let (progress, count) = gets(&world, &most).await;
    assert_eq!((progress.state, progress.settled), (RunState::Done, 1100));
    assert_eq!(count, 6, "what is settled for good is not read again");

    // One of a page, and one that is not in the ledger: it landed after all others.
    world.wait(60);
    upload(&world, "new", 9).await;
    world.queue("stage").drain();
    let raw = list_all(&world.lake, &keys::raw_of_dataset(&dataset())).await.unwrap();
    let new = raw.iter().find(|object| object.key.contains("/new.csv/")).unwrap();
    let new = keys::parse_raw(&new.key).unwrap().2.to_string();
    let two = plan(&world, &[ids[0].clone(), new]).await;
    ask(&world, json!({"run": two, "dataset": DATASET, "budget_nano_usd": 1_000_000_000})).await;
    let (progress, count) = gets(&world, &two).await;
    assert_eq!((progress.claimed, progress.settled), (2, 0));
    assert!(progress.reserved > 0);
    assert_eq!(count, 6 + 1 + 1);
}
