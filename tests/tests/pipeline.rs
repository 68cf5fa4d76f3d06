//! The functions' handlers, one after the other, on real and on hostile input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use jiff::SignedDuration;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};
use sluicegate_contract::Outcome;
use sluicegate_lake::memory::Fault;
use sluicegate_lake::{Ambient, Store, keys, list_all};
use sluicegate_runtime::Summary;
use sluicegate_table::held::{self, Request};
use sluicegate_table::iceberg::metadata::TableMetadata;
use sluicegate_table::iceberg::{list, manifest};
use sluicegate_table::{Proposal, Ruling, State};
use sluicegate_tests::{World, s3_event, sqs_event};

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn event(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(root("events").join(path)).unwrap()).unwrap()
}

fn example(name: &str) -> Vec<u8> {
    std::fs::read(root("examples/flights").join(name)).unwrap()
}

async fn with_contract(change: impl FnOnce(&mut Value)) -> World {
    let world = World::default();
    let mut contract: Value = serde_json::from_slice(&example("contract.json")).unwrap();
    change(&mut contract);
    world.upload("_contracts/flights.json", contract.to_string()).await;
    world
}

/// A world with so many files staged, and the messages that ask for their promotion.
async fn to_promote(files: usize) -> (World, Vec<String>) {
    let world = with_contract(|_| {}).await;
    for n in 1..=files {
        world.upload(&format!("flights/{n}.csv"), example("2013-01-01.csv")).await;
    }
    let staged = world.queue("stage").drain();
    world.deliver("stage", &staged).await;
    let promotions = world.queue("promote").drain();
    (world, promotions)
}

/// Lays the object that the events under `events/` tell of into the inbox.
fn upload_of_the_events(world: &World) {
    let version = "096fKKXTRTtl3on89fVO.nfljtsv6qko";
    world.inbox.upload_version("flights/2013-01-01.csv", example("2013-01-01.csv"), version);
}

fn bodies(event: &Value) -> Vec<String> {
    let records = event["Records"].as_array().unwrap().iter();
    records.map(|r| r["body"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_golden_event_leads_to_the_next() {
    let world = with_contract(|_| {}).await;
    upload_of_the_events(&world);
    let answer = world.land_event(event("land.json")).await.unwrap();
    assert_eq!(answer, json!({"landed": 1}));
    let sent = world.queue("stage").drain();
    assert_eq!(sent, bodies(&event("stage.json")), "events/stage.json is what land sends");

    let mut summary = Summary::new("stage", "r");
    let answer = world.stage.handle(event("stage.json"), &mut summary).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(summary.outcomes.rows_accepted, 842);
    let sent = world.queue("promote").drain();
    assert_eq!(sent, bodies(&event("promote.json")), "events/promote.json is what stage sends");

    let mut summary = Summary::new("promote", "r");
    let answer = world.promote.handle(event("promote.json"), &mut summary).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!((summary.outcomes.files_published, summary.outcomes.commits), (1, 1));
    assert_eq!(world.rows("flights").await, 842);

    let mut summary = Summary::new("replay", "r");
    let answer = world.replay.handle(event("replay.json"), &mut summary).await.unwrap();
    assert_eq!(answer, json!({"dataset": "flights", "sent": 1, "epoch": 1}));
    let answer = world.replay.handle(event("replay-sqs.json"), &mut summary).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(world.queue("stage-replay").drain().len(), 2);
    let plan = world.replay.handle(event("replay-plan.json"), &mut summary).await.unwrap();
    assert_eq!((&plan["dataset"], &plan["objects"]), (&json!("flights"), &json!(1)));
}

#[tokio::test]
async fn hostile_s3_events_land_what_they_should_and_nothing_else() {
    let raw = async |world: &World| -> BTreeSet<String> {
        let listed = list_all(&world.lake, "raw/").await.unwrap();
        listed.into_iter().map(|o| o.key.rsplit_once('/').unwrap().0.to_owned()).collect()
    };
    for (path, expected) in [
        ("hostile/s3-test-event.json", vec![]),
        ("hostile/s3-directory-marker.json", vec![]),
        ("hostile/s3-no-dataset.json", vec![]),
        ("hostile/s3-duplicate.json", vec!["raw/flights/2013-01-01.csv"]),
        ("hostile/s3-unknown-dataset.json", vec!["raw/weather_of_mars/sol-0001.csv"]),
        (
            "hostile/s3-odd-key.json",
            vec![
                "raw/flights/year=2013%2Fa%20b%2Bc=d%252F%C3%A9%20%E6%97%A5%E6%9C%AC%20%231%3F%26.csv",
            ],
        ),
    ] {
        let world = World::default();
        upload_of_the_events(&world);
        let version = "096fKKXTRTtl3on89fVO.nfljtsv6qko";
        for key in ["weather_of_mars/sol-0001.csv", "flights/year=2013/a b+c=d%2Fé 日本 #1?&.csv"]
        {
            world.inbox.upload_version(key, "x", version);
        }
        world.land_event(event(path)).await.unwrap();
        assert_eq!(raw(&world).await, expected.into_iter().map(str::to_owned).collect(), "{path}");
    }
}

#[tokio::test]
async fn two_versions_in_one_second_are_ordered_by_their_sequencers() {
    let world = with_contract(|_| {}).await;
    let lines = String::from_utf8(example("2013-01-01.csv")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let key = "flights/2013-01-01.csv";
    world.inbox.upload_version(key, lines[..11].join("\n"), "older6fKKXTRTtl3on89fVOnfljtsv6");
    world.inbox.upload_version(key, lines[..6].join("\n"), "newer8fKKXTRTtl3on89fVOnfljtsv6");
    world.land_event(event("hostile/s3-out-of-order.json")).await.unwrap();
    assert_eq!(world.settle().await, Vec::<String>::new());
    assert_eq!(world.rows("flights").await, 5, "the newer one's");
    let states: Vec<_> =
        world.records("flights", "2013-01-01.csv").await.iter().map(|r| r.state).collect();
    assert_eq!(states.len(), 2);
    assert!(states.contains(&State::Superseded) && states.contains(&State::Published));
}

#[tokio::test]
async fn one_bad_message_in_ten_fails_alone() {
    let world = with_contract(|_| {}).await;
    let mut batch = bodies(&event("hostile/sqs-one-bad-in-ten.json"));
    let bad: Vec<_> =
        batch.iter().filter(|b| serde_json::from_str::<Value>(b).is_err()).cloned().collect();
    assert_eq!(bad.len(), 1);
    // The raw objects of the nine good ones.
    for body in batch.iter().filter_map(|b| serde_json::from_str::<Value>(b).ok()) {
        let text = |k: &str| body[k].as_str().unwrap().to_owned();
        let key = format!("raw/{}/{}/{}", text("dataset"), text("source"), text("raw_id"));
        world.lake.upload(&key, example("2013-01-01.csv"));
    }
    assert_eq!(world.deliver("stage", &batch).await, bad);
    let promoted = world.queue("promote").drain();
    assert_eq!(promoted.len(), 9);
    // A poison message among the promotions: its proposal does not exist.
    batch = promoted;
    let poison = batch[4].replace("-c00001-", "-c00009-");
    batch.push(poison.clone());
    batch.push("{".to_owned());
    assert_eq!(world.deliver("promote", &batch).await, ["{".to_owned(), poison]);
    assert_eq!(world.view("flights").await.number(), 1, "the nine are one snapshot");
    assert_eq!(world.rows("flights").await, 9 * 842);
}

#[tokio::test]
async fn a_proposal_that_breaks_an_invariant_is_bisected_out_of_its_group() {
    let (world, promotions) = to_promote(7).await;
    let broken: Value = serde_json::from_str(&promotions[2]).unwrap();
    let files = list_all(&world.lake, "tables/flights/data/").await.unwrap();
    for file in files.iter().filter(|f| f.key.contains(broken["raw_id"].as_str().unwrap())) {
        world.lake.delete(&file.key).await.unwrap();
    }
    assert_eq!(world.deliver("promote", &promotions).await, [promotions[2].clone()]);
    assert_eq!(world.rows("flights").await, 6 * 842);
}

#[tokio::test]
async fn a_group_that_memory_would_not_hold_is_published_in_parts() {
    let (mut world, promotions) = to_promote(7).await;
    world.promote.widest = 3000;
    assert_eq!(world.deliver("promote", &promotions).await, Vec::<String>::new());
    assert_eq!(world.rows("flights").await, 7 * 842);
    assert_eq!(world.view("flights").await.number(), 7, "the files of two are too many");
}

#[tokio::test]
async fn parts_that_there_is_no_time_for_go_back_to_the_queue() {
    let (mut world, mut left) = to_promote(3).await;
    world.promote.widest = 1;
    // What was put back most often comes first, wherever it lies in the table.
    let often = left[1].clone();
    for (seconds, expected) in [(29, 2), (29, 1), (31, 0)] {
        let now = world.ambient.now();
        let mut summary = Summary::new("promote", "r");
        summary.timed(now, now + SignedDuration::from_secs(seconds));
        let mut event = sqs_event(&left);
        if left.contains(&often) {
            event["Records"][1]["attributes"] = json!({"ApproximateReceiveCount": "5"});
        }
        let answer = world.promote.handle(event, &mut summary).await.unwrap();
        let failures = answer["batchItemFailures"].as_array().unwrap();
        let index = |f: &Value| f["itemIdentifier"].as_str().unwrap().parse::<usize>().unwrap();
        left = failures.iter().map(|f| left[index(f)].clone()).collect();
        assert_eq!((left.len() as u64, summary.outcomes.put_back), (expected, expected));
        assert!(!left.contains(&often));
        assert_eq!(world.rows("flights").await, (3 - expected) * 842);
    }
}

#[tokio::test]
async fn a_file_waits_for_its_contract() {
    let world = World::default();
    world.upload("flights/2013-01-01.csv", example("2013-01-01.csv")).await;
    assert_eq!(world.settle().await, Vec::<String>::new());
    assert_eq!(world.view("flights").await.number(), 0);
    world.upload("_contracts/flights.json", example("contract.json")).await;
    world.settle().await;
    assert_eq!(world.rows("flights").await, 842);
    // The same contract once more changes nothing and stages nothing.
    world.wait(5);
    world.upload("_contracts/flights.json", example("contract.json")).await;
    assert_eq!(world.queue("stage").drain(), Vec::<String>::new());
}

/// The example's contract under another version.
fn contract_of_version(version: &str) -> String {
    let mut contract: Value = serde_json::from_slice(&example("contract.json")).unwrap();
    contract["x-sluicegate"]["version"] = json!(version);
    contract.to_string()
}

#[tokio::test]
async fn a_version_that_an_attempt_gave_up_is_not_in_the_way() {
    // What a landing leaves that died before its swap, while another contract went first.
    let world = World::default();
    let abandoned = sluicegate_contract::Version::next(&example("contract.json"), None, "gone");
    let abandoned = serde_json::to_vec(&abandoned.unwrap().unwrap()).unwrap();
    world.lake.upload("contracts/flights/1.0.0.json", abandoned);
    world.upload("_contracts/flights.json", example("contract.json")).await;
    world.upload("flights/2013-01-01.csv", example("2013-01-01.csv")).await;
    assert_eq!(world.settle().await, Vec::<String>::new());
    assert_eq!(world.rows("flights").await, 842);
    assert_eq!(world.lake.versions("contracts/flights/1.0.0.json"), 1);
}

#[tokio::test]
async fn what_waited_is_sent_even_if_the_first_contract_was_superseded_meanwhile() {
    let world = World::default();
    world.upload("flights/2013-01-01.csv", example("2013-01-01.csv")).await;
    world.settle().await;
    let key = "_contracts/flights.json";
    let first = world.upload(key, contract_of_version("1.0.0")).await;
    // It died before it had sent what waited; before its event comes again, a second contract lands.
    assert_eq!(world.queue("stage").drain().len(), 1);
    world.wait(1);
    world.upload(key, contract_of_version("1.1.0")).await;
    assert_eq!(world.queue("stage").drain(), Vec::<String>::new());
    world.land_event(s3_event(key, &first)).await.unwrap();
    world.settle().await;
    assert_eq!(world.rows("flights").await, 842);
    assert_eq!(list_all(&world.lake, "contracts/flights/refused/").await.unwrap(), []);
}

#[tokio::test]
async fn a_refused_contract_leaves_the_current_one_and_a_report() {
    let world = with_contract(|_| {}).await;
    let current = world.lake.get("contracts/flights/current.json").await.unwrap();
    let mut changed: Value = serde_json::from_slice(&example("contract.json")).unwrap();
    changed["properties"]["year"]["maximum"] = json!(1999);
    for bad in [changed.to_string(), "{\"type\": 7}".to_owned(), "\0".to_owned()] {
        world.wait(1);
        world.upload("_contracts/flights.json", bad).await;
    }
    let after = world.lake.get("contracts/flights/current.json").await.unwrap();
    assert_eq!(after, current);
    let reports = list_all(&world.lake, "contracts/flights/refused/").await.unwrap();
    assert_eq!(reports.len(), 3);
    let (_, report) = world.lake.get(&reports[0].key).await.unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert!(report["why"].as_str().unwrap().contains("needs a higher version"), "{report}");
    assert_eq!(list_all(&world.lake, "raw/_contracts/flights/").await.unwrap().len(), 4);
}

/// Everything about bad input that must hold at once: a clear verdict, raw kept, nothing published.
async fn refused(
    contract: impl FnOnce(&mut Value),
    bytes: Vec<u8>,
    outcome: Outcome,
    reason: &str,
) {
    let world = with_contract(contract).await;
    world.upload("flights/bad.csv", bytes.clone()).await;
    assert_eq!(world.settle().await, Vec::<String>::new(), "no message fails: it is a verdict");
    let records = world.records("flights", "bad.csv").await;
    let record = records.first().expect("the ledger knows it");
    let proposal = world.proposal("flights", record).await;
    assert_eq!(proposal.verdict.outcome(), outcome, "{:?}", proposal.verdict);
    let said = record.reason.clone().unwrap();
    assert!(said.contains(reason), "{said:?} should say {reason:?}");
    let expected = if outcome == Outcome::Hold { State::Held } else { State::Rejected };
    assert_eq!(record.state, expected);
    let source = "bad.csv".parse().unwrap();
    let key = keys::raw(&"flights".parse().unwrap(), &source, &record.raw_id);
    assert!(world.lake.get(&key).await.unwrap().1 == bytes, "raw is kept as it came");
    assert_eq!(world.rows("flights").await, 0);
}

#[tokio::test]
async fn bad_input_has_a_verdict_with_a_reason() {
    let good = String::from_utf8(example("2013-01-01.csv")).unwrap();
    let (header, rows) = good.split_once('\n').unwrap();
    let nine: Vec<&str> = rows.lines().take(9).collect();
    let with_row = |row: &[u8]| {
        [header.as_bytes(), b"\n", nine.join("\n").as_bytes(), b"\n", row, b"\n"].concat()
    };
    let none = |_: &mut Value| {};
    let (hold, reject) = (Outcome::Hold, Outcome::Reject);

    refused(none, vec![], reject, "the object is empty").await;
    refused(none, format!("{header}\n").into(), hold, "no rows").await;
    refused(none, good.replace(',', ";").into(), reject, "is ',' the delimiter?").await;
    refused(none, with_row(b"1,2,3"), hold, "row columns").await;
    refused(none, with_row(nine[0].replace("UA", "\u{0}A").as_bytes()), hold, "row encoding").await;
    let latin1: Vec<u8> = nine[0].bytes().map(|b| if b == b'U' { 0xdc } else { b }).collect();
    refused(none, with_row(&latin1), hold, "row encoding").await;
    let twice = good.replacen("month", "year", 1);
    refused(none, twice.into(), reject, "two columns are called \"year\"").await;
    let missing = good.replacen("carrier", "airline", 1);
    refused(none, missing.into(), reject, "\"carrier\"").await;
    refused(none, example("bad/not-a-csv.csv"), reject, "header").await;

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(good.as_bytes()).unwrap();
    let mut packed = gzip.finish().unwrap();
    packed.truncate(packed.len() / 2);
    refused(none, packed, reject, "").await;
}

#[tokio::test]
async fn a_line_of_200_mb_is_refused_by_the_contracts_limit() {
    let mut bytes = example("2013-01-01.csv");
    bytes.resize(200 << 20, b'x');
    let limit = |c: &mut Value| c["x-sluicegate"]["format"]["line_limit"] = json!(65536);
    refused(limit, bytes, Outcome::Reject, "longer than the contract's line limit of 65536 bytes")
        .await;
}

#[tokio::test]
async fn staging_again_gives_the_same_bytes() {
    // REP-1, at the level of files: many days, bad rows, several row groups' worth of batches.
    let mut contents = BTreeSet::new();
    for seed_steps in 0..3 {
        let world =
            with_contract(|c| c["x-sluicegate"]["bad_rows"]["max_fraction"] = json!(0.5)).await;
        for _ in 0..seed_steps {
            let _ = sluicegate_lake::Ambient::uuid(&*world.ambient);
        }
        world.wait(30 * 86_400);
        world.upload("flights/x.csv", example("bad/2013-01-20.csv")).await;
        world.settle().await;
        let mut files = Vec::new();
        for prefix in ["tables/flights/data/", "quarantine/"] {
            for object in list_all(&world.lake, prefix).await.unwrap() {
                files.push(world.lake.get(&object.key).await.unwrap().1.to_vec());
            }
        }
        files.sort();
        assert!(files.len() >= 4);
        contents.insert(files);
    }
    assert_eq!(contents.len(), 1);
}

#[tokio::test]
async fn what_the_table_says_of_a_file_is_what_its_footer_says() {
    let world = with_contract(|_| {}).await;
    world.upload("flights/2013-01-01.csv", example("2013-01-01.csv")).await;
    world.settle().await;
    let view = world.view("flights").await;
    let schema = view.metadata.as_ref().unwrap().current_schema().unwrap().clone();
    assert!(view.files.len() >= 2, "evening flights leave on the next day in UTC");
    for (path, (_, entry)) in &view.files {
        let key = path.strip_prefix(&world.lake.uri("")).unwrap();
        let (meta, bytes) = world.lake.get(key).await.unwrap();
        let footer = SerializedFileReader::new(bytes).unwrap();
        let footer = footer.metadata();
        assert_eq!(entry.file.bytes, meta.size);
        assert_eq!(entry.file.rows, u64::try_from(footer.file_metadata().num_rows()).unwrap());
        assert!(
            footer.file_metadata().key_value_metadata().is_none(),
            "no schema but Parquet's own"
        );
        for (field, column) in
            schema.fields.iter().zip(footer.file_metadata().schema_descr().columns())
        {
            let info = column.self_type().get_basic_info();
            assert_eq!((info.id(), info.name()), (field.id, field.name.as_str()));
            assert_eq!(entry.file.value_counts[&field.id], entry.file.rows);
            assert!(entry.file.lower_bounds.contains_key(&field.id), "{} has bounds", field.name);
        }
    }
}

/// A file of which two rows are good and eight are bad.
fn mostly_bad() -> Vec<u8> {
    let good = String::from_utf8(example("2013-01-01.csv")).unwrap();
    let lines: Vec<&str> = good.lines().take(3).collect();
    format!("{}\n{}", lines.join("\n"), "<b>,x\n".repeat(8)).into_bytes()
}

/// The keys below `staging/` by what follows the order, and how often each was written.
async fn staged(world: &World) -> BTreeMap<String, usize> {
    let listed = list_all(&world.lake, "staging/").await.unwrap();
    let name = |key: &str| key.splitn(5, '/').nth(4).unwrap().to_owned();
    listed.iter().map(|o| (name(&o.key), world.lake.versions(&o.key))).collect()
}

#[tokio::test]
async fn a_held_file_has_a_report_and_a_table_before_it_has_a_proposal() {
    let world = with_contract(|_| {}).await;
    world.upload("flights/bad.csv", mostly_bad()).await;
    let message = world.queue("stage").drain();
    world.deliver("stage", &message).await;
    let first = staged(&world).await;
    let count = |part: &str| first.keys().filter(|name| name.contains(part)).count();
    assert_eq!((count("proposal.json"), count("report.html"), count("table/metadata/")), (1, 1, 4));
    let folder = list_all(&world.lake, "staging/").await.unwrap();
    let folder = folder[0].key.split_inclusive('/').take(4).collect::<String>();
    let read = async |name: &str| world.lake.get(&format!("{folder}{name}")).await.unwrap().1;
    let report = String::from_utf8(read("report.html").await.to_vec()).unwrap();
    assert!(report.contains("sluicegate held release flights ") && !report.contains("<b>"));
    let proposal: Proposal = serde_json::from_slice(&read("proposal.json").await).unwrap();
    let hint = String::from_utf8(read("table/metadata/version-hint.text").await.to_vec()).unwrap();
    let metadata = read(&format!("table/metadata/{hint}.metadata.json")).await;
    let metadata = TableMetadata::from_json(&metadata).unwrap();
    assert_eq!(metadata.location, world.lake.uri(&format!("{folder}table")));
    let object = async |path: &str| {
        let key = path.strip_prefix(&world.lake.uri("")).unwrap().to_owned();
        world.lake.get(&key).await.unwrap().1
    };
    let manifests = &metadata.current_snapshot().unwrap().manifest_list;
    let manifests = list::read(&object(manifests).await).unwrap();
    let entries = manifest::read(&object(&manifests[0].path).await).unwrap();
    assert_eq!(entries.into_iter().map(|e| e.file).collect::<Vec<_>>(), proposal.files);
    assert_eq!(proposal.files.iter().map(|f| f.rows).sum::<u64>(), 2);

    // An attempt that was killed before its proposal leaves the rest: the next one takes it as it is.
    world.lake.delete(&format!("{folder}proposal.json")).await.unwrap();
    world.deliver("stage", &message).await;
    let second = staged(&world).await;
    for name in ["report.html", "table/metadata/version-hint.text"] {
        assert_eq!(second[name], 1, "{name}");
    }
    world.settle().await;
    let record = &world.records("flights", "bad.csv").await[0];
    assert_eq!((record.state, world.rows("flights").await), (State::Held, 0));
    let dataset = "flights".parse().unwrap();
    let raw_id = &record.raw_id;
    let order = Some(record.order);
    let request = Request { raw_id, order, ruling: Ruling::Released, by: "ann", why: "known" };
    let decided = held::decide(&world.lake, &*world.ambient, &dataset, &request).await;
    assert_eq!(decided.unwrap().1.by, "ann");
    world.deliver("stage", &message).await;
    world.settle().await;
    assert_eq!((world.rows("flights").await, world.view("flights").await.number()), (2, 2));
    // What passes has neither, and what cannot be read a report alone.
    world.upload("flights/good.csv", example("2013-01-01.csv")).await;
    world.upload("flights/worse.csv", example("bad/not-a-csv.csv")).await;
    world.settle().await;
    let all = list_all(&world.lake, "staging/").await.unwrap();
    let of = |part: &str| all.iter().filter(|o| o.key.contains(part)).count();
    assert_eq!((of("proposal.json"), of("report.html"), of("version-hint.text")), (3, 2, 1));
}

#[tokio::test]
async fn an_attempt_that_comes_second_adopts_the_first_ones_proposal() {
    let world = with_contract(|_| {}).await;
    let meta = world.upload("flights/2013-01-01.csv", example("2013-01-01.csv")).await;
    let message = world.queue("stage").drain();
    world.deliver("stage", &message).await;
    let first = list_all(&world.lake, "staging/").await.unwrap();
    // The same again, as SQS may, and the event again, as S3 may.
    world.deliver("stage", &message).await;
    world.land_event(s3_event("flights/2013-01-01.csv", &meta)).await.unwrap();
    assert_eq!(world.queue("stage").drain(), message);
    assert_eq!(list_all(&world.lake, "staging/").await.unwrap(), first);
    let promotions = world.queue("promote").drain();
    assert_eq!(promotions.len(), 2);
    assert_eq!(world.deliver("promote", &promotions).await, Vec::<String>::new());
    assert_eq!((world.rows("flights").await, world.view("flights").await.number()), (842, 1));
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_store_at_any_write_lose_nothing() {
    for write in 0..12 {
        for fault in [Fault::LostAcknowledgement, Fault::Conflict, Fault::Unavailable] {
            let world = with_contract(|_| {}).await;
            (0..write).for_each(|_| world.lake.fail_next(Fault::None));
            world.lake.fail_next(fault);
            world.upload("flights/2013-01-01.csv", example("2013-01-01.csv")).await;
            assert_eq!(world.settle().await, Vec::<String>::new());
            assert_eq!(world.rows("flights").await, 842, "{fault:?} at write {write}");
        }
    }
}

#[tokio::test]
async fn a_replay_stages_again_and_outranks() {
    let world = with_contract(|_| {}).await;
    world.upload("flights/2013-01-01.csv", example("2013-01-01.csv")).await;
    world.settle().await;
    let request =
        json!({"dataset": "flights", "landed_from": "2013-01-02", "landed_to": "2013-01-02"});
    world.replay.handle(request, &mut Summary::new("replay", "r")).await.unwrap();
    world.settle().await;
    let record = &world.records("flights", "2013-01-01.csv").await[0];
    assert_eq!((record.order.epoch, record.state), (1, State::Published));
    assert_eq!((world.rows("flights").await, world.view("flights").await.number()), (842, 2));
}

#[tokio::test]
async fn a_missing_raw_object_and_a_loop_fail_their_messages() {
    let world = with_contract(|_| {}).await;
    let gone = bodies(&event("stage.json"));
    assert_eq!(world.deliver("stage", &gone).await, gone);
    upload_of_the_events(&world);
    world.land_event(event("land.json")).await.unwrap();
    let looping = vec![gone[0].replace("\"hop\":0", "\"hop\":9")];
    assert_eq!(world.deliver("stage", &looping).await, looping);
    assert_eq!(world.deliver("stage", &gone).await, Vec::<String>::new());
    assert!(world.land_event(sqs_event(&[])).await.is_ok(), "no records, nothing to do");
}
