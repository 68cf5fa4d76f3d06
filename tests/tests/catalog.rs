//! Promote with a catalog: what the pointer holds is told after every group, and a catalog that fails fails no message.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use sluicegate_lake::catalog::{Catalog, CatalogError, Entry, MemoryCatalog, Table};
use sluicegate_lake::memory::Fault;
use sluicegate_lake::{Ambient, Dataset, Seeded};
use sluicegate_runtime::Summary;
use sluicegate_tests::{LAKE, World, sqs_event};

fn flights() -> Dataset {
    "flights".parse().unwrap()
}

fn example(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/flights");
    std::fs::read(folder.join(name)).unwrap()
}

/// A pipeline with a catalog, and the flights' contract.
async fn with_catalog() -> (World, MemoryCatalog) {
    let (mut world, catalog) = (World::default(), MemoryCatalog::default());
    world.promote.catalog = Some(Arc::new(catalog.clone()));
    world.upload("_contracts/flights.json", example("contract.json")).await;
    (world, catalog)
}

/// Uploads a day and stages it; answers with what promote is sent.
async fn staged(world: &World, day: &str) -> Vec<String> {
    staged_as(world, day, example(&format!("{day}.csv"))).await
}

async fn staged_as(world: &World, name: &str, bytes: Vec<u8>) -> Vec<String> {
    world.upload(&format!("flights/{name}.csv"), bytes).await;
    let bodies = world.queue("stage").drain();
    assert!(world.deliver("stage", &bodies).await.is_empty());
    world.queue("promote").drain()
}

/// Has promote handle messages, none of which may fail; answers with the failures of the catalog.
async fn promote(world: &World, bodies: &[String]) -> u64 {
    let mut summary = Summary::new("promote", "r");
    let answer = world.promote.handle(sqs_event(bodies), &mut summary).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(summary.outcomes.failures, 0);
    summary.outcomes.catalog_failures
}

/// The metadata file that the pointer leads to.
async fn present(world: &World) -> String {
    let file = world.view("flights").await.file.unwrap();
    format!("{}{file}.metadata.json", base())
}

fn base() -> String {
    format!("s3://{LAKE}/tables/flights/metadata/")
}

fn told(catalog: &MemoryCatalog) -> Option<String> {
    let (_, entry) = catalog.table(&flights())?;
    Some(entry.metadata()?.to_owned())
}

#[tokio::test]
async fn every_commit_is_told_with_columns_and_the_file_before() {
    let (world, catalog) = with_catalog().await;
    let bodies = staged(&world, "2013-01-01").await;
    assert_eq!(promote(&world, &bodies).await, 0);
    let first = present(&world).await;
    let (table, entry) = catalog.table(&flights()).unwrap();
    assert_eq!(entry.metadata(), Some(first.as_str()));
    assert_eq!(entry.parameters["table_type"], "ICEBERG");
    assert_eq!(format!("{}/metadata/", table.location), base());
    let column = |name: &str| table.columns.iter().find(|c| c.name == name).unwrap();
    assert_eq!(column("time_hour").ty, "timestamp");
    assert_eq!(column("distance").ty, "double");
    assert!(column("_raw_id").comment.is_some());

    let bodies = staged(&world, "2013-01-02").await;
    assert_eq!(promote(&world, &bodies).await, 0);
    let (_, entry) = catalog.table(&flights()).unwrap();
    assert_eq!(entry.metadata(), Some(present(&world).await.as_str()));
    assert_eq!(entry.parameters["previous_metadata_location"], first);
}

#[tokio::test]
async fn a_catalog_that_fails_is_mended_by_a_message_that_finds_nothing_to_do() {
    let (world, catalog) = with_catalog().await;
    let bodies = staged(&world, "2013-01-01").await;
    catalog.fail_next(Fault::Unavailable);
    assert_eq!(promote(&world, &bodies).await, 1);
    assert_eq!((told(&catalog), world.rows("flights").await), (None, 842));
    assert_eq!(promote(&world, &bodies).await, 0);
    assert_eq!(told(&catalog), Some(present(&world).await));
    assert_eq!(world.view("flights").await.number(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_found_to_have_been_a_success() {
    let (world, catalog) = with_catalog().await;
    let bodies = staged(&world, "2013-01-01").await;
    catalog.fail_next(Fault::None);
    catalog.fail_next(Fault::LostAcknowledgement);
    assert_eq!(promote(&world, &bodies).await, 1);
    let (_, written) = catalog.table(&flights()).unwrap();
    assert_eq!(promote(&world, &bodies).await, 0);
    assert_eq!(catalog.table(&flights()).unwrap().1, written, "nothing is written twice");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_read_again_and_tried_again() {
    let (world, catalog) = with_catalog().await;
    let bodies = staged(&world, "2013-01-01").await;
    let looked_up = [Fault::None, Fault::Conflict];
    looked_up.repeat(2).into_iter().for_each(|fault| catalog.fail_next(fault));
    assert_eq!(promote(&world, &bodies).await, 0);
    assert_eq!(told(&catalog), Some(present(&world).await));
    // But not for ever.
    let bodies = staged(&world, "2013-01-02").await;
    looked_up.repeat(20).into_iter().for_each(|fault| catalog.fail_next(fault));
    assert_eq!(promote(&world, &bodies).await, 1);
}

#[tokio::test]
async fn an_entry_that_changed_since_it_was_read_is_not_replaced() {
    let (world, catalog) = with_catalog().await;
    let bodies = staged(&world, "2013-01-01").await;
    promote(&world, &bodies).await;
    let (table, stale) = catalog.table(&flights()).unwrap();
    assert!(matches!(catalog.create(&table).await, Err(CatalogError::Changed { .. })));
    catalog.put(&table, stale.parameters.clone());
    let late = catalog.update(&table, &stale).await;
    assert!(matches!(late, Err(CatalogError::Changed { .. })), "{late:?}");
}

#[tokio::test]
async fn a_catalog_is_never_told_a_lower_number() {
    let (world, catalog) = with_catalog().await;
    let bodies = staged(&world, "2013-01-01").await;
    promote(&world, &bodies).await;
    let (table, entry) = catalog.table(&flights()).unwrap();
    let higher = format!("{}00002-x.metadata.json", base());
    let mut parameters = entry.parameters;
    parameters.insert("metadata_location".to_owned(), higher.clone());
    parameters.insert("owner".to_owned(), "somebody".to_owned());
    catalog.put(&table, parameters);
    assert_eq!(promote(&world, &bodies).await, 0);
    assert_eq!(told(&catalog), Some(higher.clone()));
    // Nobody but an engine that wrote can have made it: at the same number the pointer is right.
    let bodies = staged(&world, "2013-01-02").await;
    assert_eq!(promote(&world, &bodies).await, 0);
    assert_eq!(told(&catalog), Some(present(&world).await));
    let (_, entry) = catalog.table(&flights()).unwrap();
    assert_eq!(entry.parameters["previous_metadata_location"], higher);
    assert_eq!(entry.parameters["owner"], "somebody", "what others have set stays");
}

#[tokio::test]
async fn another_table_of_that_name_is_left_alone() {
    let (world, catalog) = with_catalog().await;
    let table = Table {
        name: flights(),
        location: "s3://elsewhere/flights".to_owned(),
        metadata: "s3://elsewhere/flights/metadata/00000-a.metadata.json".to_owned(),
        columns: Vec::new(),
    };
    catalog.create(&table).await.unwrap();
    let bodies = staged(&world, "2013-01-01").await;
    assert_eq!(promote(&world, &bodies).await, 1);
    assert_eq!(told(&catalog), Some(table.metadata));
    assert_eq!(world.rows("flights").await, 842);
}

/// A catalog that cannot be reached.
struct Silent;

#[async_trait]
impl Catalog for Silent {
    async fn look_up(&self, _: &Dataset) -> Result<Option<Entry>, CatalogError> {
        std::future::pending().await
    }

    async fn create(&self, _: &Table) -> Result<(), CatalogError> {
        std::future::pending().await
    }

    async fn update(&self, _: &Table, _: &Entry) -> Result<(), CatalogError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_catalog_that_never_answers_is_not_waited_for() {
    let (mut world, _) = with_catalog().await;
    world.promote.catalog = Some(Arc::new(Silent));
    let bodies = staged(&world, "2013-01-01").await;
    tokio::time::pause();
    assert_eq!(promote(&world, &bodies).await, 1);
    assert_eq!(world.rows("flights").await, 842);
}

/// The number of the metadata file that it names; 0 for none.
fn number(catalog: &MemoryCatalog) -> i64 {
    told(catalog).map_or(0, |at| {
        at.strip_prefix(&base()).unwrap().split('-').next().unwrap().parse().unwrap()
    })
}

/// A catalog whose calls wait for others now and then, so that promotions meet between two of them.
struct Yielding(MemoryCatalog, Seeded);

impl Yielding {
    async fn others_first(&self) {
        for _ in 0..roll(&self.1, 3) {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Catalog for Yielding {
    async fn look_up(&self, table: &Dataset) -> Result<Option<Entry>, CatalogError> {
        self.others_first().await;
        self.0.look_up(table).await
    }

    async fn create(&self, table: &Table) -> Result<(), CatalogError> {
        self.others_first().await;
        self.0.create(table).await
    }

    async fn update(&self, table: &Table, seen: &Entry) -> Result<(), CatalogError> {
        self.others_first().await;
        let before = number(&self.0);
        let updated = self.0.update(table, seen).await;
        assert!(before <= number(&self.0), "it fell from {before}");
        updated
    }
}

fn roll(dice: &Seeded, sides: usize) -> usize {
    let (high, _) = dice.uuid().as_u64_pair();
    usize::try_from(high).unwrap() % sides
}

/// Promotions that race, messages that come again, a catalog that fails: no write lowers it, it is never ahead of
/// the pointer, and a message without a fault ends it there.
#[tokio::test(start_paused = true)]
async fn whatever_fails_the_catalog_never_falls_and_ends_at_the_pointer() {
    let lines: Vec<String> = String::from_utf8(example("2013-01-01.csv"))
        .unwrap()
        .lines()
        .map(|line| format!("{line}\n"))
        .collect();
    for seed in 0..10 {
        let (mut world, catalog) = with_catalog().await;
        let dice = Seeded::new(jiff::Timestamp::UNIX_EPOCH, seed);
        let yielding = Yielding(catalog.clone(), Seeded::new(jiff::Timestamp::UNIX_EPOCH, !seed));
        world.promote.catalog = Some(Arc::new(yielding));
        let mut bodies = Vec::new();
        for step in 0..12 {
            world.wait(1);
            for name in ["a", "b"] {
                bodies.extend(staged_as(&world, name, lines[..step + 2].concat().into()).await);
            }
            for _ in 0..roll(&dice, 4) {
                let faults = [Fault::None, Fault::Conflict, Fault::Unavailable];
                let faults = [&faults[..], &[Fault::LostAcknowledgement]].concat();
                catalog.fail_next(faults[roll(&dice, faults.len())]);
            }
            // Two new messages race with one that may have come before.
            let (one, other) = (&bodies[2 * step..][..1], &bodies[2 * step + 1..]);
            let any = &bodies[roll(&dice, bodies.len())..][..1];
            tokio::join!(promote(&world, one), promote(&world, other), promote(&world, any));
            let pointer = world.view("flights").await.number();
            assert!(number(&catalog) <= pointer, "seed {seed}: ahead of the pointer");
        }
        // What is left of the faults is used up.
        while promote(&world, &bodies[..1]).await > 0 {}
        assert_eq!(told(&catalog), Some(present(&world).await), "{seed}");
        assert_eq!(world.view("flights").await.number(), 24);
    }
}
