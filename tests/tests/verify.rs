//! Verification: published raw objects are staged again and come to the same bytes (REP-1), whatever contract came since; a planted difference is
//! found, and nothing is written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::sync::Arc;

use serde_json::{Value, json};
use sluicegate_cli::verify::{Verified, Verifier};
use sluicegate_lake::{Dataset, Store, keys};
use sluicegate_runtime::Summary;
use sluicegate_stage::Scratch;
use sluicegate_table::{Record, State};
use sluicegate_tests::World;

const DATASET: &str = "readings";

fn dataset() -> Dataset {
    DATASET.parse().unwrap()
}

fn contract(version: &str, maximum: u32) -> String {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["at", "value"],
        "properties": {"at": {"type": "string", "format": "date-time"}, "value": {"type": "number", "maximum": maximum}},
        "x-sluicegate": {
            "version": version,
            "breaking": "another bound",
            "team": {"name": "t"},
            "format": {"type": "csv"},
            "event_time": {"column": "at"},
            "bad_rows": {"max_fraction": 0.5},
            "audits": [],
        },
    })
    .to_string()
}

/// Rows of two days, every fifth of them above 100.
fn rows(n: usize) -> String {
    let row = |i: usize| {
        let value = if i.is_multiple_of(5) { 150 } else { n };
        format!("2013-01-0{}T00:{:02}:00Z,{value}\n", 1 + i % 2, i % 60)
    };
    std::iter::once("at,value\n".to_owned()).chain((0..60 + n).map(row)).collect()
}

async fn upload(world: &World, name: &str, n: usize) {
    world.upload(&format!("{DATASET}/{name}.csv"), rows(n)).await;
    world.wait(1);
}

/// A world that has published so many files.
async fn published(files: usize) -> World {
    let world = World::default();
    world.upload(&format!("_contracts/{DATASET}.json"), contract("1.0.0", 100)).await;
    for n in 0..files {
        upload(&world, &n.to_string(), n).await;
    }
    assert_eq!(world.settle().await, Vec::<String>::new());
    world
}

/// Verifies, and sees to it that nothing is written or sent.
async fn verify(world: &World, sample: u64) -> Result<Verified, String> {
    let (_, before) = world.lake.touched_since(0);
    let folder = tempfile::tempdir().unwrap();
    let verifier = Verifier {
        lake: Arc::new(world.lake.clone()),
        ambient: world.ambient.clone(),
        scratch: Scratch::new(folder.path(), 1 << 30),
    };
    let verified = verifier.verify(&dataset(), sample).await.map_err(|e| e.to_string());
    assert_eq!(world.lake.touched_since(before).0, Vec::<String>::new(), "nothing is written");
    for queue in ["promote", "promote-replay"] {
        assert_eq!(world.queue(queue).drain(), Vec::<String>::new(), "nothing is sent");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left here");
    verified
}

/// Every published record in the order of landing.
async fn records(world: &World) -> Vec<Record> {
    let records = world.view(DATASET).await.ledger.records.into_values();
    records.filter(|record| record.state == State::Published).collect()
}

/// The keys of a record's data files.
async fn files(world: &World, record: &Record) -> Vec<String> {
    let base = world.lake.uri("");
    let files = world.proposal(DATASET, record).await.files.into_iter();
    files.map(|file| file.path.strip_prefix(&base).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_published_is_staged_again_byte_for_byte() {
    let world = published(7).await;
    let all = verify(&world, 10).await.unwrap();
    assert_eq!((all.published, all.chosen, all.staged, all.files), (7, 7, 7, 14));
    assert_eq!(all.differences, []);
    let view = world.view(DATASET).await;
    assert_eq!(all.bytes, view.files.values().map(|(_, entry)| entry.file.bytes).sum::<u64>());
    let three = verify(&world, 3).await.unwrap();
    assert_eq!((three.published, three.chosen, three.staged, three.files), (7, 3, 3, 6));
    assert_eq!(verify(&world, 3).await.unwrap(), three);
}

#[tokio::test]
async fn what_is_not_published_is_not_chosen() {
    let world = published(3).await;
    upload(&world, "1", 9).await;
    world.upload(&format!("{DATASET}/bad.csv"), "at,value\nx,1\n").await;
    world.upload(&format!("{DATASET}/none.csv"), "at,value\n").await;
    assert_eq!(world.settle().await, Vec::<String>::new());
    let states = |wanted: State| {
        let world = &world;
        async move {
            let records = world.view(DATASET).await.ledger.records;
            records.values().filter(|record| record.state == wanted).count()
        }
    };
    assert_eq!((states(State::Superseded).await, states(State::Held).await), (1, 2));
    let verified = verify(&world, 10).await.unwrap();
    assert_eq!((verified.staged, verified.files, verified.differences.len()), (3, 6, 0));
    assert_eq!(verified.published, states(State::Published).await as u64);
}

#[tokio::test]
async fn a_planted_difference_is_found_where_it_is() {
    let world = published(5).await;
    let records = records(&world).await;
    let (second, fourth) = (files(&world, &records[1]).await, files(&world, &records[3]).await);
    let mut bytes = world.lake.get(&second[1]).await.unwrap().1.to_vec();
    bytes[40] ^= 1;
    world.lake.upload(&second[1], bytes.clone());
    let longer = [&world.lake.get(&fourth[0]).await.unwrap().1[..], b"x"].concat();
    world.lake.upload(&fourth[0], longer.clone());
    Store::delete(&world.lake, &fourth[1]).await.unwrap();
    let verified = verify(&world, 10).await.unwrap();
    let told = verified.differences.iter().map(|d| {
        assert!(d.staged.is_some_and(|staged| staged > 0));
        (d.raw_id.clone(), d.file.clone(), d.published, d.at)
    });
    let size = |bytes: &[u8]| Some(bytes.len() as u64);
    let [one, other] = [&records[1].raw_id, &records[3].raw_id].map(Clone::clone);
    let end = longer.len() as u64 - 1;
    let expected = [
        (one, second[1].clone(), size(&bytes), Some(40)),
        (other.clone(), fourth[0].clone(), size(&longer), Some(end)),
        (other, fourth[1].clone(), None, None),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(verified.staged, 5);
}

#[tokio::test]
async fn a_file_more_or_less_is_a_difference() {
    let world = published(1).await;
    let record = &records(&world).await[0];
    let key = keys::proposal(&dataset(), &record.raw_id, record.order);
    let proposal: Value = serde_json::from_slice(&world.lake.get(&key).await.unwrap().1).unwrap();
    let mut less = proposal.clone();
    let gone = less["files"].as_array_mut().unwrap().pop().unwrap();
    world.lake.upload(&key, less.to_string());
    let differences = verify(&world, 1).await.unwrap().differences;
    assert_eq!(differences.len(), 1);
    assert_eq!((differences[0].published, differences[0].at), (None, None));
    assert_eq!(differences[0].staged, gone["bytes"].as_u64().or(differences[0].staged));
    let mut more = proposal.clone();
    let path = more["files"][0]["path"].as_str().unwrap().replace("-0.parquet", "-7.parquet");
    let mut extra = more["files"][0].clone();
    extra["path"] = path.clone().into();
    more["files"].as_array_mut().unwrap().push(extra);
    world.lake.upload(&key, more.to_string());
    let differences = verify(&world, 1).await.unwrap().differences;
    assert_eq!(differences.len(), 1);
    assert!(path.ends_with(&differences[0].file));
    assert_eq!((differences[0].staged, differences[0].at), (None, None));
}

#[tokio::test]
async fn a_contract_that_has_changed_since_is_no_difference() {
    let world = published(3).await;
    // Under this one, the rows that were quarantined would be accepted.
    world.upload(&format!("_contracts/{DATASET}.json"), contract("2.0.0", 200)).await;
    upload(&world, "new", 5).await;
    assert_eq!(world.settle().await, Vec::<String>::new());
    let quarantined: Vec<u64> = records(&world).await.iter().map(|r| r.quarantined).collect();
    assert_eq!(quarantined, [12, 13, 13, 0]);
    let verified = verify(&world, 10).await.unwrap();
    assert_eq!((verified.staged, verified.files, verified.differences.len()), (4, 8, 0));
    // What an attempt at landing it has left behind is tried too, and is not what the files are from.
    let place = |name: &str| keys::contract(&dataset(), name);
    let first = world.lake.get(&place("1.0.0")).await.unwrap().1;
    world.lake.upload(&place("1.0.0-0"), first.clone());
    let mut other: Value = serde_json::from_slice(&first).unwrap();
    other["document"]["properties"]["value"]["maximum"] = 200.into();
    world.lake.upload(&place("1.0.0"), other.to_string());
    assert_eq!(verify(&world, 10).await.unwrap(), verified);
}

#[tokio::test]
async fn the_same_content_uploaded_again_is_verified_against_the_older_ones_files() {
    let world = published(2).await;
    upload(&world, "1", 1).await;
    assert_eq!(world.settle().await, Vec::<String>::new());
    let records = records(&world).await;
    let again = records.last().unwrap();
    let (holder, _) = again.files_of.clone().unwrap();
    assert_ne!(holder, again.raw_id);
    let verified = verify(&world, 10).await.unwrap();
    assert_eq!((verified.staged, verified.files, verified.differences.len()), (2, 4, 0));
}

#[tokio::test]
async fn a_replay_is_verified_at_its_own_order() {
    let world = published(3).await;
    let days = ("2013-01-01", "2013-01-03");
    let event = json!({"dataset": DATASET, "landed_from": days.0, "landed_to": days.1});
    world.replay.handle(event, &mut Summary::new("replay", "r")).await.unwrap();
    assert_eq!(world.settle().await, Vec::<String>::new());
    assert!(records(&world).await.iter().all(|record| record.order.epoch > 0));
    let verified = verify(&world, 10).await.unwrap();
    assert_eq!((verified.staged, verified.differences.len()), (3, 0));
}

#[tokio::test]
async fn what_another_engine_staged_is_counted_and_not_compared() {
    let world = published(4).await;
    let view = world.view(DATASET).await;
    let key = keys::metadata(&dataset(), &view.root.pages[0].ledger);
    let mut page: Value = serde_json::from_slice(&world.lake.get(&key).await.unwrap().1).unwrap();
    for (record, engine) in [(0, 1), (1, 1), (3, 99_999)] {
        let order = page["records"][record]["order"].as_str().unwrap();
        let order = format!("{}-g{engine:05}", order.rsplit_once('-').unwrap().0);
        page["records"][record]["order"] = order.clone().into();
        page["records"][record]["files_of"][1] = order.into();
    }
    world.lake.upload(&key, page.to_string());
    let verified = verify(&world, 10).await.unwrap();
    assert_eq!((verified.chosen, verified.staged, verified.files), (4, 1, 2));
    assert_eq!(verified.other_engines, [(1, 2), (99_999, 1)].into());
    assert_eq!(verified.differences, []);
}

#[tokio::test]
async fn a_raw_object_that_cannot_be_read_ends_it_with_its_name() {
    let world = published(2).await;
    let record = &records(&world).await[1];
    let key = keys::raw(&dataset(), &record.source, &record.raw_id);
    Store::delete(&world.lake, &key).await.unwrap();
    let why = verify(&world, 10).await.unwrap_err();
    assert!(why.contains(record.raw_id.as_str()) && why.contains("absent"), "{why}");
}

#[tokio::test]
async fn a_dataset_without_a_table_has_nothing_to_verify() {
    let world = World::default();
    let verified = verify(&world, 10).await.unwrap();
    assert_eq!((verified.published, verified.chosen, verified.files), (0, 0, 0));
}
