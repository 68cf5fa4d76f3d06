//! What becomes of a table's past: rollback, late files, backfills, expiry and collection, pages that shrink.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "a test that cannot go on should stop, and say why"
)]

mod world;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::json;
use sluicegate_contract::{LateFiles, Outcome, Reupload};
use sluicegate_lake::memory::Fault;
use sluicegate_lake::{Ambient, RawId, Store, keys, list_all};
use sluicegate_table::changes::{Change, RestatedBy, merge};
use sluicegate_table::commit::Wanted;
use sluicegate_table::log::{self, LogError};
use sluicegate_table::plan::{Incoming, Older, Policy, plan};
use sluicegate_table::retention::{Collected, Retention, collect, collectable, expire};
use sluicegate_table::rollback::{Request, Restored, RollbackError, preview, roll_back_in_pages};
use sluicegate_table::{Ruling, State};
use world::{PLAIN, Staged, World, assert_tree};

impl World {
    async fn roll_back(&self, to: i64) -> Result<Restored, RollbackError> {
        let request = Request { to, by: "ann", why: "a bad deploy" };
        let (store, ambient) = (&self.store, &self.ambient);
        roll_back_in_pages(store, ambient, &self.dataset, &request, self.page_weight).await
    }

    async fn published(&self) -> BTreeSet<RawId> {
        let records = self.view().await.ledger.records.into_values();
        records.filter(|r| r.state == State::Published).map(|r| r.raw_id).collect()
    }

    async fn keys(&self, prefix: &str) -> BTreeSet<String> {
        list_all(&self.store, prefix).await.unwrap().into_iter().map(|o| o.key).collect()
    }

    async fn collect(&self) -> Collected {
        let grace = SignedDuration::from_hours(24);
        collect(&self.store, &self.ambient, &self.dataset, grace).await.unwrap()
    }

    async fn collectable(&self) -> Collected {
        let grace = SignedDuration::from_hours(24);
        collectable(&self.store, &self.ambient, &self.dataset, grace).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_publishes_what_the_older_snapshot_did() {
    let world = World::new("replace").await;
    // Enough of them for several pages.
    let mut first = Vec::new();
    for i in 0..7 {
        let source: &'static str = format!("{i}.csv").leak();
        first.push(world.stage(Staged { source, landed: i, ..PLAIN }).await);
    }
    world.commit(&first).await.unwrap();
    let (before, rows) = (world.view().await, world.rows().await);
    // A correction, a new file, and a replay that passes no more.
    let corrected = world.one(Staged { source: "3.csv", landed: 20, rows: 50, ..PLAIN }).await;
    let new = world.one(Staged { source: "new.csv", landed: 21, ..PLAIN }).await;
    let held = Staged { source: "5.csv", landed: 5, epoch: 3, outcome: Outcome::Hold, ..PLAIN };
    let held = world.one(held).await;
    assert_eq!(world.rows().await, 5 * 5 + 50 + 5);

    let objects = world.keys("").await;
    let expected = preview(&world.store, &world.dataset, 1).await.unwrap();
    assert_eq!(world.keys("").await, objects, "a preview writes nothing");
    let restored = world.roll_back(1).await.unwrap();
    assert_eq!((restored.number, restored.attempts), (5, 1));
    assert_eq!(expected, Restored { attempts: 0, ..restored.clone() });
    assert_eq!((restored.rows_added, restored.rows_removed), (10, 55));
    assert_eq!(restored.withdrawn, [corrected.raw_id.clone(), new.raw_id.clone()].into());
    let again = [first[3].raw_id.clone(), held.raw_id.clone()];
    assert_eq!(restored.restored, again.clone().into());
    let after = world.view().await;
    assert_eq!(world.rows().await, rows);
    let paths = |view: &sluicegate_table::View| view.files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&after), paths(&before));
    assert_tree(&after, 2);
    assert_eq!(world.record(&new).await.state, State::Withdrawn);
    let summary = after.metadata.as_ref().unwrap().current_snapshot().unwrap().summary.clone();
    assert_eq!(summary["sluicegate.rollback-to"], "1");
    assert_eq!(summary["sluicegate.rollback-why"], "a bad deploy");
    let changes = world.changes().await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].change, Change::Restated);
    assert_eq!(changes[0].reasons, [RestatedBy::Rollback].into());
    assert_eq!((changes[0].rows_added, changes[0].rows_removed), (10, 55));
}

#[tokio::test(start_paused = true)]
async fn what_was_withdrawn_comes_back_by_a_replay_alone() {
    let world = World::new("replace").await;
    let old = world.one(PLAIN).await;
    let new = world.one(Staged { landed: 9, rows: 7, ..PLAIN }).await;
    let planned_before = world.stage(Staged { landed: 9, rows: 8, epoch: 2, ..PLAIN }).await;
    let older = world.stage(Staged { landed: 0, rows: 1, epoch: 2, ..PLAIN }).await;
    assert_eq!(world.roll_back(1).await.unwrap().number, 3);
    assert_eq!(world.published().await, [old.raw_id.clone()].into());
    // Late messages: of the old version, of the new one, and of replays that were planned before the rollback.
    for late in [&old, &new, &planned_before, &older] {
        assert_eq!(world.commit(std::slice::from_ref(late)).await.unwrap().number, None);
    }
    assert_eq!((world.rows().await, world.published().await.len()), (5, 1));
    // Another version that is rejected makes nothing come back either.
    world.one(Staged { landed: 30, outcome: Outcome::Reject, ..PLAIN }).await;
    assert_eq!(world.published().await, [old.raw_id.clone()].into());
    let replayed = world.one(Staged { landed: 9, rows: 7, epoch: 3, ..PLAIN }).await;
    assert_eq!(world.published().await, [replayed.raw_id.clone()].into());
    assert_eq!(world.record(&old).await.state, State::Superseded);
    assert_eq!(
        world.changes().await[0].reasons,
        [RestatedBy::Correction, RestatedBy::Replay].into()
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_superseded_in_between_stays_out_as_well() {
    let world = World::new("replace").await;
    let first = world.one(PLAIN).await;
    world.one(Staged { landed: 1, rows: 6, ..PLAIN }).await;
    world.one(Staged { landed: 2, rows: 7, ..PLAIN }).await;
    world.roll_back(1).await.unwrap();
    // A ranking of the versions, as any new one causes it, brings none of them back.
    world.one(Staged { landed: 3, outcome: Outcome::Hold, ..PLAIN }).await;
    assert_eq!(world.published().await, [first.raw_id].into());
    assert_eq!(world.rows().await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_can_be_rolled_back() {
    let world = World::new("replace").await;
    world.one(PLAIN).await;
    let new = world.one(Staged { source: "b.csv", landed: 9, rows: 7, ..PLAIN }).await;
    world.roll_back(1).await.unwrap();
    let restored = world.roll_back(2).await.unwrap();
    assert_eq!((restored.number, restored.restored), (4, [new.raw_id].into()));
    assert_eq!(world.rows().await, 12);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_cannot_be_leaves_no_trace() {
    let world = World::new("replace").await;
    assert!(matches!(world.roll_back(1).await, Err(RollbackError::NoTable)));
    world.one(PLAIN).await;
    world.one(Staged { source: "b.csv", outcome: Outcome::Hold, ..PLAIN }).await;
    let same = preview(&world.store, &world.dataset, 1).await;
    assert!(matches!(same, Err(RollbackError::Same(_))));
    assert!(matches!(world.roll_back(2).await, Err(RollbackError::Present(2))));
    assert!(matches!(world.roll_back(7).await, Err(RollbackError::NotRetained(7, 1))));
    // What is held since then is none of a rollback's business.
    assert!(matches!(world.roll_back(1).await, Err(RollbackError::Same(_))));
    assert_eq!(world.view().await.number(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_whose_answer_was_lost_is_done_once() {
    let world = World::new("replace").await;
    world.one(PLAIN).await;
    world.one(Staged { source: "b.csv", landed: 9, ..PLAIN }).await;
    world.store.fail_next(Fault::LostAcknowledgement);
    assert_eq!(world.roll_back(1).await.unwrap().number, 3);
    assert_eq!((world.view().await.number(), world.rows().await), (3, 5));
}

#[tokio::test(start_paused = true)]
async fn a_late_file_waits_where_the_contract_says_so() {
    let world = World::with(json!({"lateness": {"allowed": "P1D", "late": "hold"}})).await;
    let first = world.one(Staged { source: "1.csv", ..PLAIN }).await;
    let tenth = world.one(Staged { source: "10.csv", landed: 5, day: 9, ..PLAIN }).await;
    let late = world.stage(Staged { source: "5.csv", landed: 9, day: 4, rows: 3, ..PLAIN }).await;
    let fine = world.stage(Staged { source: "10b.csv", landed: 9, day: 9, ..PLAIN }).await;
    world.commit(&[late.clone(), fine.clone()]).await.unwrap();
    let record = world.record(&late).await;
    assert_eq!((record.state, record.late_rows, record.published_at), (State::Held, 3, None));
    assert!(record.reason.unwrap().contains("3 rows for closed partitions (1)"));
    let published = [first.raw_id, tenth.raw_id, fine.raw_id];
    assert_eq!(world.published().await, published.into());
    // Neither a redelivery nor a replay changes that: it stays late, and asks anew.
    assert_eq!(world.commit(std::slice::from_ref(&late)).await.unwrap().number, None);
    let replay = Staged { source: "5.csv", landed: 9, day: 4, rows: 3, epoch: 4, ..PLAIN };
    let replay = world.one(replay).await;
    assert_eq!(world.record(&replay).await.state, State::Held);
    world.decide(&replay, Ruling::Released);
    world.commit(std::slice::from_ref(&replay)).await.unwrap();
    let record = world.record(&replay).await;
    assert_eq!((record.state, record.late_rows), (State::Published, 3));
    assert_eq!(world.changes().await[0].change, Change::Restated);
    assert!(world.changes().await[0].reasons.contains(&RestatedBy::Replay));
}

#[tokio::test(start_paused = true)]
async fn a_late_file_that_is_released_restates_as_late_and_one_rejected_stays_out() {
    let world = World::with(json!({"lateness": {"late": "hold"}})).await;
    world.one(Staged { source: "1.csv", ..PLAIN }).await;
    world.one(Staged { source: "10.csv", landed: 5, day: 9, ..PLAIN }).await;
    let one = world.one(Staged { source: "5.csv", landed: 9, day: 4, ..PLAIN }).await;
    let other = world.one(Staged { source: "6.csv", landed: 9, day: 5, ..PLAIN }).await;
    world.decide(&one, Ruling::Released);
    world.decide(&other, Ruling::Rejected);
    world.commit(&[one.clone(), other.clone()]).await.unwrap();
    assert_eq!(world.changes().await[0].reasons, [RestatedBy::Late].into());
    assert_eq!(world.record(&one).await.state, State::Published);
    assert_eq!(world.record(&other).await.state, State::Rejected);
    // A new version of the rejected one is late as well: the source was never published.
    let again = world.one(Staged { source: "6.csv", landed: 20, day: 5, ..PLAIN }).await;
    assert_eq!(world.record(&again).await.state, State::Held);
}

#[tokio::test(start_paused = true)]
async fn an_older_version_is_published_while_the_newer_one_waits_as_late() {
    let world = World::with(json!({"lateness": {"late": "hold"}})).await;
    world.one(Staged { source: "1.csv", ..PLAIN }).await;
    world.one(Staged { source: "10.csv", landed: 5, day: 9, ..PLAIN }).await;
    let old = world.stage(Staged { source: "a.csv", landed: 8, day: 9, ..PLAIN }).await;
    let new = world.stage(Staged { source: "a.csv", landed: 9, day: 4, ..PLAIN }).await;
    world.commit(&[old.clone(), new.clone()]).await.unwrap();
    assert_eq!(world.record(&new).await.state, State::Held);
    assert_eq!(world.record(&old).await.state, State::Published);
}

#[tokio::test(start_paused = true)]
async fn what_is_late_only_beside_what_proves_late_itself_is_published() {
    let world = World::with(json!({"lateness": {"late": "hold"}})).await;
    let stage =
        async |source, landed, day| world.stage(Staged { source, landed, day, ..PLAIN }).await;
    // While the new version is published its older one is not: then the fifth is the first day, and both that come last
    // are late. While they are held the tenth is the first day, and both are backfills.
    let old = stage("a.csv", 1, 10).await;
    let fifth = stage("5.csv", 2, 5).await;
    let tenth = stage("10.csv", 3, 10).await;
    let new = stage("a.csv", 4, 5).await;
    let beside = stage("b.csv", 5, 5).await;
    let all = [&old, &fifth, &tenth, &new, &beside].map(Wanted::clone);
    world.commit(&all).await.unwrap();
    let record = async |wanted| {
        let record = world.record(wanted).await;
        (record.state, record.late, record.backfill)
    };
    assert_eq!(record(&new).await, (State::Held, None, true));
    assert_eq!(record(&old).await, (State::Published, Some(vec![]), false));
    for backfill in [&fifth, &beside] {
        assert_eq!(record(backfill).await, (State::Published, Some(vec![]), true));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_first_day_is_a_backfill_and_never_late() {
    let world = World::with(json!({"lateness": {"late": "hold"}})).await;
    world.one(Staged { source: "20.csv", day: 20, ..PLAIN }).await;
    // Oldest first, so that each is older than the dataset's first day and not than the backfill's.
    for (landed, day) in [(1, 3), (2, 4), (3, 19)] {
        let source: &'static str = format!("{day}.csv").leak();
        let backfill = world.one(Staged { source, landed, day, ..PLAIN }).await;
        let record = world.record(&backfill).await;
        assert_eq!(
            (record.state, record.late, record.backfill),
            (State::Published, Some(vec![]), true)
        );
        assert_eq!(world.changes().await[0].reasons, [RestatedBy::Backfill].into());
    }
    assert_tree(&world.view().await, 2);
    // The first day itself is closed by the 30th, and no history.
    world.one(Staged { source: "30.csv", landed: 5, day: 30, ..PLAIN }).await;
    let late = world.one(Staged { source: "20b.csv", landed: 9, day: 20, ..PLAIN }).await;
    assert_eq!(world.record(&late).await.state, State::Held);
}

#[tokio::test(start_paused = true)]
async fn what_changed_is_told_beyond_what_is_retained() {
    let world = World::new("replace").await;
    for i in 0..6 {
        let source: &'static str = format!("{i}.csv").leak();
        world.one(Staged { source, landed: i, day: i, ..PLAIN }).await;
    }
    world.one(Staged { source: "2.csv", landed: 9, day: 2, rows: 1, ..PLAIN }).await;
    let retention = Retention { snapshots: 2, age: SignedDuration::ZERO };
    world.wait(SignedDuration::from_secs(9));
    let expired = expire(&world.store, &world.ambient, &world.dataset, retention).await.unwrap();
    assert_eq!((expired.snapshots, expired.attempts), (vec![1, 2, 3, 4, 5], 1));
    let metadata = log::metadata(&world.store, &world.dataset).await.unwrap();
    assert_eq!(metadata.snapshots.len(), 2);
    let since =
        async |number| log::changes_since(&world.store, &world.dataset, &metadata, number).await;
    let numbers = |lists: &[sluicegate_table::changes::ChangeList]| {
        lists.iter().map(|list| list.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&since(0).await.unwrap()), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(numbers(&since(5).await.unwrap()), [6, 7]);
    assert_eq!(numbers(&since(7).await.unwrap()).len(), 0);
    let merged = merge(&since(2).await.unwrap());
    let of = |partition: &str| merged.iter().find(|c| c.partition.contains(partition)).unwrap();
    assert_eq!(of("2013-01-03").change, Change::Restated);
    assert_eq!((of("2013-01-03").rows_added, of("2013-01-03").rows_removed), (6, 5));
    assert_eq!(of("2013-01-05").change, Change::Opened);
    assert!(merged.iter().all(|c| !c.partition.contains("2013-01-01")));
    assert!(matches!(since(8).await, Err(LogError::Unknown(8, 7))));
    let sixth = log::find(&metadata, 6).unwrap();
    let list = log::changes_in(&world.store, &world.dataset, sixth).await.unwrap();
    assert_eq!((list.number, list.snapshot_id), (6, Some(sixth.snapshot_id)));
    // An expiry is a number without a snapshot: nothing changed in it.
    let next = world.one(Staged { source: "z.csv", landed: 99, day: 9, ..PLAIN }).await;
    assert_eq!(world.record(&next).await.state, State::Published);
    let metadata = log::metadata(&world.store, &world.dataset).await.unwrap();
    let lists = log::changes_since(&world.store, &world.dataset, &metadata, 7).await.unwrap();
    assert_eq!(numbers(&lists), [9]);
    // Whoever saw the fifth needs its list no more, whoever did not reads the table anew.
    let fifth = sluicegate_lake::keys::metadata(&world.dataset, &list.previous.unwrap());
    world.store.delete(&fifth).await.unwrap();
    assert_eq!(numbers(&since(5).await.unwrap()), [6, 7]);
    assert!(matches!(since(4).await, Err(LogError::Gone(5))));
    let seventh = lists.last().and_then(|list| list.previous.clone()).unwrap();
    world.store.delete(&sluicegate_lake::keys::metadata(&world.dataset, &seventh)).await.unwrap();
    for seen in [7, 8] {
        let lists = log::changes_since(&world.store, &world.dataset, &metadata, seen).await;
        assert_eq!(numbers(&lists.unwrap()), [9], "the list of the seventh is not needed");
    }
    let lists = log::changes_since(&world.store, &world.dataset, &metadata, 6).await;
    assert!(matches!(lists, Err(LogError::Gone(7))));
}

#[tokio::test(start_paused = true)]
async fn collection_deletes_what_nothing_leads_to_and_nothing_else() {
    let world = World::new("replace").await;
    let day = SignedDuration::from_hours(25);
    world.one(PLAIN).await;
    let second = world.one(Staged { landed: 1, rows: 6, ..PLAIN }).await;
    let held = world.one(Staged { source: "h.csv", outcome: Outcome::Hold, ..PLAIN }).await;
    let pending = world.stage(Staged { source: "p.csv", ..PLAIN }).await;
    // Files of an attempt that died, and the metadata of one that lost its race.
    let orphan = world.stage(Staged { source: "o.csv", landed: 3, ..PLAIN }).await;
    world
        .store
        .delete(&sluicegate_lake::keys::proposal(&world.dataset, &orphan.raw_id, orphan.order))
        .await
        .unwrap();
    world.store.upload("tables/flights/metadata/00009-lost.metadata.json", "lost");
    assert_eq!(world.collect().await, Collected::default(), "everything is young");
    world.wait(day);
    let expected = world.collectable().await;
    let collected = world.collect().await;
    assert_eq!((collected.metadata_files, collected.data_files), (1, 1), "{collected:?}");
    assert_eq!(expected, collected);
    // The first version's files are still in a retained snapshot.
    assert_eq!(collected.closed, 0);
    let kept = world.view().await;
    let retention = Retention { snapshots: 1, age: SignedDuration::ZERO };
    expire(&world.store, &world.ambient, &world.dataset, retention).await.unwrap();
    let objects = world.keys("").await;
    let expected = world.collectable().await;
    assert_eq!(world.keys("").await, objects, "nothing is written, nothing deleted");
    let collected = world.collect().await;
    assert_eq!((collected.data_files, collected.closed), (0, 1), "closed first");
    assert_eq!(expected, collected);
    assert!(collected.metadata_files > 0);
    assert_eq!(world.collect().await.closed, 0);
    world.wait(day);
    let collected = world.collect().await;
    assert_eq!((collected.data_files, collected.closed), (1, 0));
    assert_eq!(world.view().await.files, kept.files);
    // What waits for a person or for its message is all there.
    world.decide(&held, Ruling::Released);
    world.commit(&[held, pending]).await.unwrap();
    assert_eq!(world.rows().await, 6 + 5 + 5);
    let data = world.keys("tables/flights/data/").await;
    assert_eq!(data.len(), 3, "{data:?}");
    assert_eq!(world.record(&second).await.state, State::Published);
    assert_eq!(world.collect().await, Collected::default());
}

#[tokio::test(start_paused = true)]
async fn a_closed_proposal_does_not_come_back() {
    let world = World::new("replace").await;
    let old = world.one(PLAIN).await;
    let new = world.one(Staged { landed: 1, rows: 6, ..PLAIN }).await;
    let retention = Retention { snapshots: 1, age: SignedDuration::ZERO };
    world.wait(SignedDuration::from_hours(25));
    expire(&world.store, &world.ambient, &world.dataset, retention).await.unwrap();
    assert_eq!(world.collect().await.closed, 1);
    // The new version, staged again, does not pass: the old one would take its place, were its files sure to stay.
    let again = Staged { landed: 1, epoch: 4, outcome: Outcome::Hold, ..PLAIN };
    let again = world.one(again).await;
    assert_eq!(again.raw_id, new.raw_id);
    assert_eq!((world.rows().await, world.record(&old).await.state), (0, State::Superseded));
    // A replay of it does.
    world.one(Staged { epoch: 5, ..PLAIN }).await;
    assert_eq!(world.rows().await, 5);
}

#[tokio::test(start_paused = true)]
async fn what_a_rollback_may_restore_is_kept_as_long_as_its_snapshot() {
    let world = World::new("replace").await;
    world.one(PLAIN).await;
    world.one(Staged { landed: 1, rows: 6, ..PLAIN }).await;
    world.wait(SignedDuration::from_hours(50));
    let keep = Retention { snapshots: 1, age: SignedDuration::from_hours(99) };
    let expired = expire(&world.store, &world.ambient, &world.dataset, keep).await.unwrap();
    assert_eq!((expired.snapshots, expired.attempts), (vec![], 0));
    assert_eq!(world.collect().await, Collected::default());
    world.roll_back(1).await.unwrap();
    assert_eq!(world.rows().await, 5);
}

#[tokio::test(start_paused = true)]
async fn pages_that_shrank_are_merged() {
    let mut world = World::new("replace").await;
    world.page_weight = 8;
    // Sources of four files each weigh as much as four records: two fill a page.
    let mut wanted = Vec::new();
    for i in 0..8 {
        let source: &'static str = format!("{i}.csv").leak();
        wanted.push(world.stage_files(Staged { source, landed: i * 10, ..PLAIN }, 4).await);
    }
    world.commit(&wanted).await.unwrap();
    assert_eq!(world.view().await.root.pages.len(), 4);
    // Each is staged again, into a single file: the pages shrink, and whoever touches them next finds them so.
    for (epoch, i) in (1..3).flat_map(|epoch| (0..8).map(move |i| (epoch, i))) {
        let source: &'static str = format!("{i}.csv").leak();
        world.one(Staged { source, landed: i * 10, epoch, ..PLAIN }).await;
    }
    let view = world.view().await;
    assert_eq!((view.root.pages.len(), view.files.len()), (2, 8));
    assert_tree(&view, 8);
}

#[tokio::test(start_paused = true)]
async fn what_was_superseded_stays_so_under_append_however_often_it_is_staged() {
    let world = World::new("replace").await;
    world.one(PLAIN).await;
    world.one(Staged { landed: 1, rows: 6, ..PLAIN }).await;
    let again = world.stage(Staged { epoch: 2, ..PLAIN }).await;
    let view = world.view().await;
    let proposal = keys::proposal(&world.dataset, &again.raw_id, again.order);
    let proposal = serde_json::from_slice(&world.store.get(&proposal).await.unwrap().1).unwrap();
    let incoming = [Incoming { proposal, decision: None }];
    let versions = [(again.source.clone(), view.ledger.records.keys().cloned().collect())].into();
    let policy = Policy {
        reupload: Reupload::Append,
        allowed_lateness: SignedDuration::ZERO,
        late_files: LateFiles::Publish,
    };
    let now = world.ambient.now();
    let plan = plan(&view, &incoming, &versions, &Older::new(), policy, now).unwrap();
    let record = &plan.ledger.records[&again.raw_id];
    assert_eq!((record.state, record.order), (State::Superseded, again.order));
    assert!(plan.added.is_empty());
}
