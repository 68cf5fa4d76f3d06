//! What the pipeline asks of S3 and SQS, counted: the numbers of docs/costs.md, each with its reason. The receipts add up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::SignedDuration;
use serde_json::{Value, json};
use sluicegate_contract::Budget;
use sluicegate_lake::memory::Fault;
use sluicegate_lake::{Ambient, Cost, Outgoing, Queue, Usage, list_all};
use sluicegate_runtime::{Summary, cost::LOG_BYTES};
use sluicegate_table::Record;
use sluicegate_table::bill;
use sluicegate_table::budget::{self, Month, Standing};
use sluicegate_table::replay::{self, Selection};
use sluicegate_table::retention::{Retention, expire};
use sluicegate_table::rollback::{Request, roll_back};
use sluicegate_tests::{World, sqs_event};

type Requests = BTreeMap<String, u64>;

const DATASET: &str = "readings";

fn contract(audits: Value) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["at", "value"],
        "properties": {"at": {"type": "string", "format": "date-time"}, "value": {"type": "number", "maximum": 100}},
        "x-sluicegate": {
            "version": "1.0.0",
            "team": {"name": "t"},
            "format": {"type": "csv"},
            "event_time": {"column": "at"},
            "lateness": {"allowed": "P9D"},
            "bad_rows": {"max_count": 1},
            "audits": audits,
        },
    })
}

async fn world() -> World {
    let world = World::default();
    let contract = contract(json!([])).to_string();
    world.upload(&format!("_contracts/{DATASET}.json"), contract).await;
    world.cloud.requests().take();
    world
}

/// Rows of one day, which is one data file.
fn file(n: usize) -> String {
    let rows = (0..20).map(|row| format!("2013-01-01T00:00:{row:02}Z,{n}\n"));
    std::iter::once("at,value\n".to_owned()).chain(rows).collect()
}

async fn land(world: &World, files: Range<usize>) {
    for n in files {
        world.wait(1);
        world.upload(&format!("{DATASET}/{n}.csv"), file(n)).await;
    }
}

fn requests(counts: &[(&str, u64)]) -> Requests {
    counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
}

/// Delivers what waits in a queue as one batch; answers with the invocation's summary and its requests.
async fn invoke(world: &World, queue: &str) -> (Summary, Requests) {
    let event = sqs_event(&world.queue(queue).drain());
    let mut summary = Summary::new("test", "r");
    world.cloud.requests().take();
    let answer = match queue {
        "promote" | "promote-replay" => world.promote.handle(event, &mut summary).await,
        _ => world.stage.handle(event, &mut summary).await,
    };
    assert_eq!(answer.unwrap(), json!({"batchItemFailures": []}));
    (summary, world.cloud.requests().take())
}

async fn resend(world: &World, bodies: &[String]) {
    let group = DATASET.to_owned();
    let again = bodies.iter().map(|body| Outgoing { body: body.clone(), group: group.clone() });
    world.queue("stage").send(&again.collect::<Vec<_>>()).await.unwrap();
}

async fn ledger(world: &World) -> Vec<Record> {
    world.view(DATASET).await.ledger.records.into_values().collect()
}

fn total(receipts: &[Record]) -> Cost {
    receipts.iter().fold(Cost::default(), |sum, r| sum.plus(&r.receipt.cost_nano_usd))
}

#[tokio::test]
async fn landing_a_file_is_a_look_a_copy_and_a_message() {
    let world = world().await;
    land(&world, 0..1).await;
    let landed = world.cloud.requests().take();
    // What is uploaded, and when; the copy; the message.
    let expected = [("s3:HeadObject", 1), ("s3:CopyObject", 1), ("sqs:SendMessageBatch", 1)];
    assert_eq!(landed, requests(&expected));
}

#[tokio::test]
async fn staging_is_two_reads_two_writes_and_a_message_a_file_and_two_reads_an_invocation() {
    for files in [1, 10] {
        let world = world().await;
        land(&world, 0..files).await;
        let (summary, staged) = invoke(&world, "stage").await;
        let n = files as u64;
        assert_eq!(summary.outcomes.files_staged, n);
        // The contract and its pointer; of each file whether it is staged already, and its bytes; its data file and its
        // proposal; its message.
        let expected =
            [("s3:GetObject", 2 + 2 * n), ("s3:PutObject", 2 * n), ("sqs:SendMessageBatch", n)];
        assert_eq!(staged, requests(&expected), "{files} files");
    }
}

#[tokio::test]
async fn bad_rows_cost_two_objects_and_a_held_file_its_report_and_table() {
    let world = world().await;
    let bad_row = file(1) + "2013-01-01T00:00:21Z,101\n";
    world.upload(&format!("{DATASET}/bad.csv"), bad_row.clone()).await;
    let (_, staged) = invoke(&world, "stage").await;
    assert_eq!(staged["s3:PutObject"], 2 + 2, "rows and reasons");
    world.upload(&format!("{DATASET}/worse.csv"), bad_row + "2013-01-01T00:00:22Z,102\n").await;
    let (summary, staged) = invoke(&world, "stage").await;
    assert_eq!(summary.outcomes.files_staged, 1);
    // Report; manifest, list, metadata and pointer of the table.
    assert_eq!(staged["s3:PutObject"], 2 + 2 + 5);
}

#[tokio::test]
async fn an_audit_that_compares_reads_the_past_once_an_invocation() {
    let world = World::default();
    let audits = json!([{"id": "usual", "audit": "volume", "min": 0.1, "max": 9.9}]);
    world.upload(&format!("_contracts/{DATASET}.json"), contract(audits).to_string()).await;
    land(&world, 0..3).await;
    assert!(world.settle().await.is_empty());
    land(&world, 3..13).await;
    let (_, staged) = invoke(&world, "stage").await;
    // Pointer, metadata, list, root and one page of the ledger, for all ten.
    assert_eq!(staged["s3:GetObject"], 2 + 2 * 10 + 5);
}

#[tokio::test]
async fn promoting_a_group_is_fifteen_requests_and_three_a_file() {
    let first = |n| {
        // The pointer that is not there, the contract and its pointer; then of each file its proposal.
        [
            ("s3:GetObject", 3 + n),
            ("s3:HeadObject", n),
            ("s3:ListObjectsV2", n),
            ("s3:PutObject", 7),
        ]
    };
    let next = |n| {
        // Pointer, metadata, list, root, ledger page, manifest; contract and pointer; proposals. Whether the data file is
        // there, and the versions of its source. Ledger page, manifest, root, changes, list, metadata, pointer.
        [
            ("s3:GetObject", 8 + n),
            ("s3:HeadObject", n),
            ("s3:ListObjectsV2", n),
            ("s3:PutObject", 7),
        ]
    };
    for files in [1, 10] {
        let world = world().await;
        for round in 0..2 {
            land(&world, round * files..(round + 1) * files).await;
            invoke(&world, "stage").await;
            let (summary, promoted) = invoke(&world, "promote").await;
            assert_eq!(summary.outcomes.commits, 1);
            let n = files as u64;
            let expected = if round == 0 { first(n) } else { next(n) };
            assert_eq!(promoted, requests(&expected), "{files} files, round {round}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_tells_what_promoting_it_took_and_a_plan_expects_as_much() {
    let mut world = world().await;
    world.promote.meter = Some(world.stage.meter.clone());
    let mut all = 0;
    for files in [0..3, 3..4] {
        land(&world, files).await;
        invoke(&world, "stage").await;
        let (_, requests) = invoke(&world, "promote").await;
        let used = Usage { invocations: 1, log_bytes: LOG_BYTES, requests, ..Usage::default() };
        all += world.stage.meter.prices.cost(&used).total();
        let metadata = world.view(DATASET).await.metadata.unwrap();
        assert_eq!(bill::of_all_commits(&metadata), Some(all));
    }
    let selection = Selection::all(DATASET.parse().unwrap());
    let plan = replay::plan(&world.lake, &*world.ambient, selection, 2).await.unwrap();
    assert_eq!((plan.objects, plan.publishing), (4, all / 4));
    let staged = total(&ledger(&world).await).total();
    assert_eq!(plan.cost(), staged + 4 * plan.publishing);

    let to = Request { to: 1, by: "ann", why: "a test" };
    roll_back(&world.lake, &*world.ambient, &plan.selection.dataset, &to).await.unwrap();
    let metadata = world.view(DATASET).await.metadata.unwrap();
    assert_eq!(bill::of_all_commits(&metadata), Some(all), "a rollback keeps the sum");
}

#[tokio::test]
async fn a_message_that_comes_again_writes_nothing() {
    let world = world().await;
    land(&world, 0..1).await;
    let again = world.queue("stage").drain();
    resend(&world, &again).await;
    invoke(&world, "stage").await;
    invoke(&world, "promote").await;
    resend(&world, &again).await;
    let (summary, staged) = invoke(&world, "stage").await;
    let expected = [("s3:GetObject", 3), ("sqs:SendMessageBatch", 1)];
    assert_eq!(staged, requests(&expected));
    assert_eq!(summary.receipts(), &Cost::default());
    let (_, promoted) = invoke(&world, "promote").await;
    // Pointer, metadata, list, root, page and manifest: the record is there.
    assert_eq!(promoted, requests(&[("s3:GetObject", 6)]));
}

#[tokio::test]
async fn nothing_is_copied_twice() {
    let world = world().await;
    let before = world.cloud.requests().so_far().stored_bytes;
    land(&world, 0..5).await;
    // settle() delivers what landed; take() would forget the bytes.
    assert!(world.settle().await.is_empty());
    let stored = world.cloud.requests().so_far().stored_bytes - before;
    let lake = list_all(&world.lake, "").await.unwrap();
    let contracts = |key: &str| key.starts_with("contracts/") || key.starts_with("raw/_contracts/");
    let there: u64 = lake.iter().filter(|o| !contracts(&o.key)).map(|o| o.size).sum();
    assert_eq!(stored, there, "every byte that was stored is there, once");
    let raw: u64 = (0..5).map(|n| file(n).len() as u64).sum();
    let of = |prefix: &str| -> u64 {
        lake.iter().filter(|o| o.key.starts_with(prefix)).map(|o| o.size).sum()
    };
    assert_eq!(of(&format!("raw/{DATASET}/")), raw);
    let data: u64 =
        world.view(DATASET).await.files.values().map(|(_, entry)| entry.file.bytes).sum();
    assert_eq!(of(&format!("tables/{DATASET}/data/")), data);
}

#[tokio::test]
async fn a_request_that_is_tried_again_is_on_the_receipt_twice() {
    let world = world().await;
    land(&world, 0..1).await;
    world.lake.fail_next(Fault::Unavailable);
    let (_, staged) = invoke(&world, "stage").await;
    assert_eq!(staged["s3:PutObject"], 3);
    invoke(&world, "promote").await;
    let [record] = ledger(&world).await.try_into().unwrap();
    assert_eq!(record.receipt.used.requests, staged);
    assert_eq!(record.receipt.prices, world.stage.meter.prices.version());
}

#[tokio::test]
async fn receipts_in_the_ledger_add_up_to_what_stagings_metered() {
    let world = world().await;
    land(&world, 0..7).await;
    let (summary, _) = invoke(&world, "stage").await;
    invoke(&world, "promote").await;
    let fresh = *summary.receipts();
    assert_eq!(total(&ledger(&world).await), fresh);
    assert!(fresh.s3 > 0 && fresh.sqs > 0 && fresh.invocations > 0 && fresh.logs > 0);

    let replay =
        json!({"dataset": DATASET, "landed_from": "2013-01-01", "landed_to": "2013-01-31"});
    world.replay.handle(replay, &mut Summary::new("replay", "r")).await.unwrap();
    let (summary, _) = invoke(&world, "stage-replay").await;
    invoke(&world, "promote-replay").await;
    let view = world.view(DATASET).await;
    let records: Vec<Record> = view.ledger.records.values().cloned().collect();
    assert_eq!(total(&records), *summary.receipts());
    let spent: u64 = records.iter().map(Record::spent).sum();
    assert_eq!(spent, fresh.plus(summary.receipts()).total(), "what was spent stays spent");
    assert_eq!(view.root.sum(|page| page.cost), spent);
    let snapshot = view.metadata.as_ref().unwrap().current_snapshot().unwrap();
    assert_eq!(snapshot.summary["sluicegate.cost-nano-usd"], spent.to_string());
    let month = Month::at(&view, world.ambient.now());
    assert_eq!((month.fresh, month.replays), (fresh.total(), summary.receipts().total()));
    let keys = ["month", "month-fresh-nano-usd", "month-replay-nano-usd"];
    let said = keys.map(|key| snapshot.summary[&format!("sluicegate.{key}")].clone());
    assert_eq!(said, ["2013-01".to_owned(), month.fresh.to_string(), month.replays.to_string()]);
}

async fn month(world: &World) -> Standing {
    let dataset = DATASET.parse().unwrap();
    budget::read(&world.lake, &*world.ambient, &dataset).await.unwrap()
}

#[tokio::test]
async fn a_rollback_and_an_expiry_keep_what_the_month_has_spent() {
    let world = world().await;
    for n in 0..2 {
        land(&world, n..n + 1).await;
        assert!(world.settle().await.is_empty());
    }
    let (spent, dataset) = (month(&world).await, DATASET.parse().unwrap());
    assert_eq!(spent.fresh_nano_usd, total(&ledger(&world).await).total());
    let request = Request { to: 1, by: "ann", why: "a bad deploy" };
    roll_back(&world.lake, &*world.ambient, &dataset, &request).await.unwrap();
    assert_eq!(month(&world).await, spent);
    world.wait(1);
    let retention = Retention { snapshots: 1, age: SignedDuration::ZERO };
    let expired = expire(&world.lake, &*world.ambient, &dataset, retention).await.unwrap();
    assert_eq!((expired.snapshots, month(&world).await), (vec![1, 2], spent));
}

#[tokio::test]
async fn fresh_data_over_its_budget_is_published_all_the_same_and_the_line_says_so() {
    let world = world().await;
    land(&world, 0..1).await;
    assert!(world.settle().await.is_empty());
    let first = month(&world).await;
    assert!(first.fresh_nano_usd > 0 && first.fresh_budget_nano_usd.is_none());
    let allowed = first.fresh_nano_usd * 5 / 2;
    let mut contract = contract(json!([]));
    let dollars: Value = serde_json::from_str(&Budget::dollars(allowed)).unwrap();
    contract["x-sluicegate"]["budget"] = json!({"fresh_usd_per_month": dollars});
    contract["x-sluicegate"]["version"] = json!("1.0.1");
    world.upload(&format!("_contracts/{DATASET}.json"), contract.to_string()).await;
    let mut told = Vec::new();
    for n in 1..5 {
        if n == 4 {
            world.wait(31 * 86_400);
        }
        land(&world, n..n + 1).await;
        invoke(&world, "stage").await;
        let (summary, _) = invoke(&world, "promote").await;
        assert_eq!((summary.outcomes.files_published, summary.outcomes.failures), (1, 0));
        let prices = &world.stage.meter.prices;
        let line = summary.line(world.ambient.now(), &Usage::default(), prices);
        let line: Value = serde_json::from_str(&line).unwrap();
        let month = month(&world).await;
        assert_eq!(month.fresh_budget_nano_usd, Some(allowed));
        assert_eq!(line["OverBudget"] == 1, month.is_over());
        assert_eq!(line["over_budget"] == json!([DATASET]), month.is_over());
        told.push((month.month.clone(), month.is_over()));
    }
    let of = |month: &str, is_over| (month.to_owned(), is_over);
    let (january, february) = ("2013-01", "2013-02");
    let expected = [of(january, false), of(january, true), of(january, true), of(february, false)];
    assert_eq!(told, expected);
    assert_eq!(world.rows(DATASET).await, 5 * 20);
}

#[tokio::test]
async fn an_invocations_receipts_cost_what_it_metered_but_for_its_end() {
    let world = world().await;
    land(&world, 0..10).await;
    let event = sqs_event(&world.queue("stage").drain());
    let run = world.stage.meter.begin(world.ambient.now(), None);
    let mut summary = Summary::new("stage", "r");
    world.stage.handle(event, &mut summary).await.unwrap();
    let used = world.stage.meter.used(&run, world.ambient.now());
    assert_eq!(used.log_bytes, LOG_BYTES);
    // The clock stands: there is no end that no receipt could know.
    assert_eq!(world.stage.meter.prices.cost(&used), *summary.receipts());
}
