//! Commits on the memory store: what is published, whatever comes in whatever order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop, and say why"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use sluicegate_contract::Outcome;
use sluicegate_lake::memory::Fault;
use sluicegate_lake::{Dataset, RawId, Store};
use sluicegate_table::changes::{Change, RestatedBy};
use sluicegate_table::commit::{CommitError, Options, Remedy, Wanted, commit_with};
use sluicegate_table::held::{self, DecideError, Request};
use sluicegate_table::invariants::Invariant;
use sluicegate_table::{Decision, Ruling, State};
use world::{PLAIN, Staged, World, assert_tree};

#[tokio::test(start_paused = true)]
async fn a_group_is_one_snapshot_and_the_same_again_is_none() {
    let world = World::new("replace").await;
    let a = world.stage(PLAIN).await;
    let b = world.stage(Staged { source: "b.csv", day: 1, rows: 7, ..PLAIN }).await;
    let c = world.stage(Staged { source: "c.csv", outcome: Outcome::Reject, ..PLAIN }).await;
    let group = [a.clone(), b, c.clone(), a.clone()];
    let report = world.commit(&group).await.unwrap();
    assert_eq!((report.number, report.attempts), (Some(1), 1));
    assert_eq!(world.rows().await, 12);
    assert_eq!(world.record(&a).await.state, State::Published);
    assert_eq!(world.record(&c).await.state, State::Rejected);
    let kinds: Vec<_> =
        world.changes().await.iter().map(|c| (c.partition.clone(), c.change)).collect();
    assert_eq!(
        kinds,
        [("2013-01-01".into(), Change::Opened), ("2013-01-02".into(), Change::Opened)]
    );

    let again = world.commit(&group).await.unwrap();
    assert_eq!(again.number, None);
    assert!(again.records.iter().all(|(_, changed)| !changed));
    assert_eq!(world.view().await.number(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_of_a_source_replaces_the_older_ones_rows() {
    let world = World::new("replace").await;
    let old = world.stage(PLAIN).await;
    let other = world.stage(Staged { source: "b.csv", rows: 2, ..PLAIN }).await;
    let new = world.stage(Staged { landed: 10, rows: 4, ..PLAIN }).await;
    world.commit(&[old.clone(), other]).await.unwrap();
    let report = world.commit(std::slice::from_ref(&new)).await.unwrap();
    assert_eq!((report.number, report.restated), (Some(2), 1));
    assert_eq!(world.rows().await, 6);
    assert_eq!(world.record(&old).await.state, State::Superseded);
    let changes = world.changes().await;
    assert_eq!((changes[0].rows_added, changes[0].rows_removed), (4, 5));
    assert_eq!(changes[0].reasons, [RestatedBy::Correction].into());
    assert_eq!(changes[0].raw_ids, [old.raw_id.clone(), new.raw_id.clone()].into());

    // The older one, staged again at a higher order, stays superseded.
    let replayed = world.stage(Staged { epoch: 2, ..PLAIN }).await;
    world.commit(&[replayed]).await.unwrap();
    assert_eq!((world.rows().await, world.record(&old).await.state), (6, State::Superseded));

    // The newer one no longer passes: the older one's latest staging comes back.
    let held = world.stage(Staged { landed: 10, epoch: 3, outcome: Outcome::Hold, ..PLAIN }).await;
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    assert_eq!(world.rows().await, 7);
    assert_eq!(world.record(&held).await.state, State::Held);
    assert_eq!(world.record(&old).await.state, State::Published);
}

#[tokio::test(start_paused = true)]
async fn staging_the_same_raw_object_again_replaces_exactly_its_files() {
    let world = World::new("replace").await;
    let first = world.stage(PLAIN).await;
    let other = world.stage(Staged { source: "b.csv", ..PLAIN }).await;
    world.commit(&[first.clone(), other]).await.unwrap();
    let again = world.stage(Staged { epoch: 1, rows: 3, ..PLAIN }).await;
    world.commit(&[again]).await.unwrap();
    assert_eq!(world.rows().await, 8);
    assert_eq!(
        world.changes().await[0].reasons,
        [RestatedBy::Correction, RestatedBy::Replay].into()
    );
    let late_message = world.commit(&[first]).await.unwrap();
    assert_eq!((late_message.number, world.rows().await), (None, 8));
}

#[tokio::test(start_paused = true)]
async fn the_same_content_again_moves_the_record_and_leaves_the_files() {
    let world = World::new("replace").await;
    let same = Some("c2FtZQ==");
    let old = world.stage(Staged { sha256: same, ..PLAIN }).await;
    world.commit(std::slice::from_ref(&old)).await.unwrap();
    let files = world.view().await.files;
    let new = world.stage(Staged { landed: 9, sha256: same, ..PLAIN }).await;
    let report = world.commit(std::slice::from_ref(&new)).await.unwrap();
    assert_eq!((report.number, report.restated), (Some(2), 0));
    let paths = |files: &BTreeMap<String, _>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&world.view().await.files), paths(&files));
    assert_eq!(world.record(&new).await.state, State::Published);
    assert_eq!(world.record(&old).await.state, State::Superseded);
    // A third, changed version still finds the files that it replaces.
    let third = world.stage(Staged { landed: 20, rows: 1, ..PLAIN }).await;
    world.commit(&[third]).await.unwrap();
    assert_eq!(world.rows().await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_content_judged_otherwise_replaces_the_files() {
    // max_ahead depends on the landing: what was bad a month ago may be good now.
    let world = World::new("replace").await;
    let same = Some("c2FtZQ==");
    let old = world.stage(Staged { sha256: same, rows: 2, ..PLAIN }).await;
    let new = world.stage(Staged { sha256: same, rows: 3, landed: 9, ..PLAIN }).await;
    world.commit(&[old]).await.unwrap();
    world.commit(&[new]).await.unwrap();
    assert_eq!(world.rows().await, 3);
}

#[tokio::test(start_paused = true)]
async fn lateness_is_decided_once_against_earlier_seconds() {
    let world = World::new("replace").await;
    // Allowed lateness is a day: once the 10th is known, everything before the 10th is closed.
    let tenth = world.stage(Staged { source: "10.csv", day: 9, ..PLAIN }).await;
    let same_second = world.stage(Staged { source: "2.csv", day: 1, ..PLAIN }).await;
    let late = world.stage(Staged { source: "1.csv", landed: 5, day: 1, rows: 3, ..PLAIN }).await;
    let open = world.stage(Staged { source: "10b.csv", landed: 5, day: 9, ..PLAIN }).await;
    let group = [late.clone(), same_second.clone(), tenth, open.clone()];
    let report = world.commit(&group).await.unwrap();
    assert_eq!(report.restated, 1);
    let record = world.record(&late).await;
    assert_eq!((record.late, record.late_rows), (Some(vec![15_707]), 3));
    assert_eq!(world.record(&same_second).await.late, Some(vec![]));
    assert_eq!(world.record(&open).await.late, Some(vec![]));
    let change = &world.changes().await[0];
    assert_eq!((change.change, &change.reasons), (Change::Restated, &[RestatedBy::Late].into()));
    // A correction of it is a correction, and what was decided stays decided.
    let corrected = Staged { source: "1.csv", landed: 8, day: 1, rows: 2, ..PLAIN };
    let corrected = world.stage(corrected).await;
    world.commit(std::slice::from_ref(&corrected)).await.unwrap();
    assert_eq!(world.record(&corrected).await.late, Some(vec![]));
    assert_eq!(world.changes().await[0].reasons, [RestatedBy::Correction].into());
}

#[tokio::test(start_paused = true)]
async fn the_watermark_is_known_from_pages_that_are_not_read() {
    let world = World::new("replace").await;
    let names: Vec<String> = (0..12).map(|i| format!("{i}.csv")).collect();
    let mut wanted = Vec::new();
    for (i, name) in (0..).zip(names) {
        let source: &'static str = name.leak();
        // The first day, the newest one, and then what lies between them.
        let day = match i {
            0 => 0,
            1 => 20,
            _ => 5,
        };
        wanted.push(world.stage(Staged { source, landed: i, day, ..PLAIN }).await);
    }
    for w in &wanted {
        world.commit(std::slice::from_ref(w)).await.unwrap();
    }
    let view = world.view().await;
    assert_eq!(view.root.pages.len(), 6);
    assert_tree(&view, 2);
    let late = view.ledger.records.values().filter(|r| r.late_rows > 0).count();
    assert_eq!(late, 10, "every one after the second, though its page was never read again");
}

#[tokio::test(start_paused = true)]
async fn a_commit_reads_and_writes_what_it_touches() {
    let requests = async |files: i64| {
        let world = World::new("replace").await;
        let mut wanted = Vec::new();
        for i in 0..files {
            let source: &'static str = format!("{i}.csv").leak();
            wanted.push(world.stage(Staged { source, landed: i, ..PLAIN }).await);
        }
        world.commit(&wanted).await.unwrap();
        assert_tree(&world.view().await, 2);
        let one = world.stage(Staged { source: "one.csv", landed: files, ..PLAIN }).await;
        world.requests.take();
        world.commit(&[one]).await.unwrap();
        world.requests.take()
    };
    let (small, large) = (requests(21).await, requests(401).await);
    assert_eq!(small, large);
    let count = |kind: &str| large.get(kind).copied().unwrap_or_default();
    // Pointer, metadata, root, list, contract and its pointer, ledger page, manifest, proposal.
    assert_eq!(count("s3:GetObject"), 9);
    // Ledger page, manifest, root, changes, list, metadata, pointer.
    assert_eq!(count("s3:PutObject"), 7);
    assert_eq!((count("s3:ListObjectsV2"), count("s3:HeadObject")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_held_proposal_waits_for_a_decision() {
    let world = World::new("replace").await;
    let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    assert_eq!((world.rows().await, world.record(&held).await.state), (0, State::Held));
    // The same message again changes nothing, until somebody has decided.
    assert_eq!(world.commit(std::slice::from_ref(&held)).await.unwrap().number, None);
    world.decide(&held, Ruling::Released);
    let report = world.commit(std::slice::from_ref(&held)).await.unwrap();
    assert_eq!((report.number, report.records[0].1), (Some(2), true));
    let record = world.record(&held).await;
    assert_eq!((world.rows().await, record.state), (5, State::Published));
    assert_eq!(record.reason.as_deref(), Some("released by ann: known outage"));
    assert_eq!(record.decision.map(|d| (d.by, d.why)), Some(("ann".into(), "known outage".into())));
    assert_eq!((record.late, record.published_at.is_some()), (Some(vec![]), true));
    // A late message finds it decided.
    assert_eq!(world.commit(std::slice::from_ref(&held)).await.unwrap().number, None);
    assert_eq!(world.record(&held).await.state, State::Published);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_proposal_is_never_published() {
    let world = World::new("replace").await;
    let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    world.decide(&held, Ruling::Rejected);
    for number in [Some(2), None] {
        let report = world.commit(std::slice::from_ref(&held)).await.unwrap();
        assert_eq!(report.number, number);
        let record = world.record(&held).await;
        assert_eq!((world.rows().await, record.state, record.passed), (0, State::Rejected, false));
        assert_eq!(record.reason.as_deref(), Some("rejected by ann: known outage"));
    }
    // A newer version of its source, which passes, does not bring it back, and neither does its replay.
    let new = world.stage(Staged { landed: 9, rows: 2, ..PLAIN }).await;
    world.commit(&[new, held.clone()]).await.unwrap();
    assert_eq!((world.rows().await, world.record(&held).await.state), (2, State::Rejected));
    let again = world.stage(Staged { outcome: Outcome::Hold, epoch: 3, ..PLAIN }).await;
    world.commit(&[again.clone(), held]).await.unwrap();
    let record = world.record(&again).await;
    assert_eq!((record.state, record.decision), (State::Held, None), "staged anew, asked anew");
}

#[tokio::test(start_paused = true)]
async fn a_decision_may_come_before_its_proposal_is_promoted() {
    for (ruling, state, rows) in
        [(Ruling::Released, State::Published, 5), (Ruling::Rejected, State::Rejected, 0)]
    {
        let world = World::new("replace").await;
        let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
        world.decide(&held, ruling);
        world.commit(&[held.clone(), held.clone()]).await.unwrap();
        let record = world.record(&held).await;
        assert_eq!((world.rows().await, record.state), (rows, state));
        assert_eq!(record.decision.map(|d| d.ruling), Some(ruling));
        assert_eq!(world.commit(&[held]).await.unwrap().number, None);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_decides_on_what_passed_or_cannot_be_read() {
    let world = World::new("replace").await;
    let good = world.stage(PLAIN).await;
    let bad = world.stage(Staged { source: "b.csv", outcome: Outcome::Reject, ..PLAIN }).await;
    world.decide(&good, Ruling::Rejected);
    world.decide(&bad, Ruling::Released);
    world.commit(&[good.clone(), bad.clone()]).await.unwrap();
    assert_eq!(world.commit(&[good.clone(), bad.clone()]).await.unwrap().number, None);
    assert_eq!((world.rows().await, world.record(&good).await.state), (5, State::Published));
    assert_eq!(world.record(&bad).await.state, State::Rejected);
    assert_eq!(world.record(&bad).await.decision, None);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_ranked_like_whatever_passed() {
    // Below a newer version that is published: recorded, and superseded at once.
    let world = World::new("replace").await;
    let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
    let new = world.stage(Staged { landed: 9, rows: 2, ..PLAIN }).await;
    world.commit(&[held.clone(), new.clone()]).await.unwrap();
    world.decide(&held, Ruling::Released);
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    assert_eq!((world.rows().await, world.record(&held).await.state), (2, State::Superseded));
    // Above an older one: it takes its place, as a correction.
    let newest = Staged { landed: 20, rows: 3, outcome: Outcome::Hold, ..PLAIN };
    let newest = world.stage(newest).await;
    world.commit(std::slice::from_ref(&newest)).await.unwrap();
    assert_eq!(world.rows().await, 2);
    world.decide(&newest, Ruling::Released);
    world.commit(std::slice::from_ref(&newest)).await.unwrap();
    assert_eq!((world.rows().await, world.record(&new).await.state), (3, State::Superseded));
    assert_eq!(world.changes().await[0].reasons, [RestatedBy::Correction].into());
}

#[tokio::test(start_paused = true)]
async fn a_decision_about_a_lower_order_changes_nothing() {
    let world = World::new("replace").await;
    let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
    let replayed = world.stage(Staged { outcome: Outcome::Hold, epoch: 1, ..PLAIN }).await;
    world.commit(&[held.clone(), replayed.clone()]).await.unwrap();
    world.decide(&held, Ruling::Released);
    assert_eq!(world.commit(std::slice::from_ref(&held)).await.unwrap().number, None);
    assert_eq!((world.rows().await, world.record(&held).await.state), (0, State::Held));
    // One about the order that is recorded counts, whatever comes beside it.
    world.decide(&replayed, Ruling::Released);
    world.commit(&[held, replayed.clone()]).await.unwrap();
    let record = world.record(&replayed).await;
    assert_eq!((world.rows().await, record.order.epoch, record.state), (5, 1, State::Published));
}

#[tokio::test(start_paused = true)]
async fn what_is_released_into_a_closed_partition_is_late() {
    let world = World::new("replace").await;
    // It landed first, and waited while the 10th came: everything before the 10th is closed by then.
    let held = world.stage(Staged { outcome: Outcome::Hold, rows: 3, ..PLAIN }).await;
    let tenth = world.stage(Staged { source: "10.csv", landed: 5, day: 9, ..PLAIN }).await;
    let first = world.stage(Staged { source: "1.csv", landed: 1, ..PLAIN }).await;
    world.commit(&[held.clone(), first.clone(), tenth]).await.unwrap();
    assert_eq!(world.record(&first).await.late, Some(vec![]), "it landed before the 10th");
    world.decide(&held, Ruling::Released);
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    let record = world.record(&held).await;
    assert_eq!((record.late, record.late_rows), (Some(vec![15_706]), 3));
    let change = &world.changes().await[0];
    assert_eq!((change.change, &change.reasons), (Change::Restated, &[RestatedBy::Late].into()));
}

impl World {
    async fn ask(&self, wanted: &Wanted, ruling: Ruling, by: &str) -> Result<Decision, String> {
        let request = Request { raw_id: &wanted.raw_id, order: None, ruling, by, why: "w" };
        self.request(request).await
    }

    async fn request(&self, request: Request<'_>) -> Result<Decision, String> {
        let decided = held::decide(&self.store, &self.ambient, &self.dataset, &request).await;
        match decided {
            Ok((record, decision)) => {
                assert_eq!(&record.raw_id, request.raw_id);
                Ok(decision)
            }
            Err(DecideError::Refused(refusal)) => Err(refusal.to_string()),
            Err(DecideError::Failed(error)) => panic!("{error}"),
        }
    }
}

fn says(decided: &Result<Decision, String>, part: &str) {
    let refusal = decided.as_ref().expect_err("it should be refused");
    assert!(refusal.contains(part), "{refusal:?} should say {part:?}");
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_made_once_and_may_be_asked_for_again() {
    let world = World::new("replace").await;
    let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
    let ruling = Ruling::Released;
    says(&world.ask(&held, ruling, "ann").await, "is pending");
    let unknown = RawId::new(Timestamp::UNIX_EPOCH, "b", "k", "v");
    let request = Request { raw_id: &unknown, order: None, ruling, by: "ann", why: "w" };
    says(&world.request(request).await, "nothing is staged");
    world.commit(std::slice::from_ref(&held)).await.unwrap();

    // Its acknowledgement is lost, the message never sent: the same again finds it, the opposite is told.
    world.store.fail_next(Fault::LostAcknowledgement);
    let made = world.ask(&held, ruling, "ann").await.unwrap();
    assert_eq!(world.ask(&held, ruling, "bob").await.as_ref(), Ok(&made));
    says(&world.ask(&held, Ruling::Rejected, "bob").await, "is decided: released by ann: w");
    assert_eq!(made.by, "ann");
    // Once it is obeyed there is nothing left to ask for.
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    assert_eq!(world.record(&held).await.decision, Some(made));
    says(&world.ask(&held, ruling, "bob").await, "is decided: released by ann: w");
}

#[tokio::test(start_paused = true)]
async fn of_two_rivals_one_decides() {
    let world = World::new("replace").await;
    let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    let (released, rejected) = futures::join!(
        world.ask(&held, Ruling::Released, "ann"),
        world.ask(&held, Ruling::Rejected, "bob"),
    );
    assert_ne!(released.is_ok(), rejected.is_ok(), "{released:?} {rejected:?}");
}

#[tokio::test(start_paused = true)]
async fn what_would_not_be_published_is_not_released() {
    let hold = Staged { outcome: Outcome::Hold, landed: 5, ..PLAIN };
    let newer = Staged { landed: 9, ..PLAIN };
    for (policy, other, refusal) in [
        ("replace", newer.clone(), Some("a newer version of a.csv is published")),
        ("replace", PLAIN, None),
        ("reject", newer.clone(), Some("its contract takes no second one")),
        ("reject", PLAIN, Some("its contract takes no second one")),
        ("append", newer, None),
    ] {
        let world = World::new(policy).await;
        let held = world.stage(hold.clone()).await;
        let other = world.stage(other).await;
        world.commit(&[held.clone(), other.clone()]).await.unwrap();
        says(&world.ask(&other, Ruling::Rejected, "ann").await, "is published, not held");
        let decided = world.ask(&held, Ruling::Released, "ann").await;
        match refusal {
            Some(refusal) => {
                says(&decided, refusal);
                // To reject it is always possible.
                world.ask(&held, Ruling::Rejected, "ann").await.unwrap();
            }
            None => assert!(decided.is_ok(), "{policy}: {decided:?}"),
        }
        world.commit(std::slice::from_ref(&held)).await.unwrap();
        let state = world.record(&held).await.state;
        assert_eq!(state == State::Published, refusal.is_none(), "{policy}: {state:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_a_newer_version_took_over_are_not_released_beside_it() {
    let world = World::new("replace").await;
    let same = Staged { source: "a.csv", sha256: Some("one"), ..PLAIN };
    let old = world.one(same.clone()).await;
    world.one(Staged { landed: 5, ..same.clone() }).await;
    assert_eq!(world.record(&old).await.state, State::Superseded);
    let again = Staged { epoch: 1, outcome: Outcome::Hold, ..same };
    let again = world.one(again).await;
    assert_eq!(world.record(&again).await.state, State::Held);
    world.govern("append").await;
    says(&world.ask(&again, Ruling::Released, "ann").await, "newer version");
    assert_eq!(world.rows().await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_about_the_staging_that_was_looked_at() {
    let world = World::new("replace").await;
    let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
    let again = world.stage(Staged { outcome: Outcome::Hold, epoch: 1, ..PLAIN }).await;
    let request = |order| Request {
        raw_id: &held.raw_id,
        order: Some(order),
        ruling: Ruling::Released,
        by: "ann",
        why: "w",
    };
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    says(&world.request(request(again.order)).await, "is pending");
    world.commit(std::slice::from_ref(&again)).await.unwrap();
    says(&world.request(request(held.order)).await, "was staged again");
    assert!(world.request(request(again.order)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_found_without_reading_the_rest() {
    let world = World::new("replace").await;
    let mut wanted = Vec::new();
    for i in 0..20 {
        let source: &'static str = format!("{i}.csv").leak();
        let outcome = if i == 7 { Outcome::Hold } else { Outcome::Publish };
        wanted.push(world.stage(Staged { source, landed: i, outcome, ..PLAIN }).await);
    }
    world.commit(&wanted).await.unwrap();
    world.requests.take();
    let listed = held::list(&world.store, &world.dataset).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|r| &r.raw_id).collect();
    assert_eq!(ids, [&wanted[7].raw_id]);
    // Pointer, metadata, root, list, one page and its manifest, of ten pages.
    assert_eq!(world.requests.take()["s3:GetObject"], 6);
    let found = held::evidence(&world.store, &world.dataset, &wanted[7].raw_id).await.unwrap();
    let found = found.unwrap();
    assert_eq!((found.proposal.order, found.decision), (wanted[7].order, None));
    assert_eq!(found.record.map(|r| r.state), Some(State::Held));
    let versions = held::versions(&world.store, &world.dataset, &wanted[7].source).await.unwrap();
    assert_eq!(versions, listed);
    let other: Dataset = "other".parse().unwrap();
    assert_eq!(held::list(&world.store, &other).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn rivals_over_a_decision_publish_once() {
    let world = World::new("replace").await;
    let held = world.stage(Staged { outcome: Outcome::Hold, ..PLAIN }).await;
    let new = world.stage(Staged { landed: 9, rows: 2, ..PLAIN }).await;
    world.commit(std::slice::from_ref(&held)).await.unwrap();
    world.decide(&held, Ruling::Released);
    let again = world.stage(Staged { outcome: Outcome::Hold, epoch: 1, ..PLAIN }).await;
    let groups = [[held.clone()], [new.clone()], [held.clone()], [again.clone()]];
    let commits = groups.iter().map(|group| world.commit(group));
    for report in futures::future::join_all(commits).await {
        report.unwrap();
    }
    assert_eq!((world.rows().await, world.record(&new).await.state), (2, State::Published));
    let record = world.record(&again).await;
    assert_eq!((record.order, record.state), (again.order, State::Held));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_uploaded_again_and_again_costs_what_a_new_one_does() {
    let requests = async |versions: i64| {
        let world = World::new("replace").await;
        for i in 0..versions {
            world.one(Staged { source: "latest.csv", landed: 10 * i, day: i, ..PLAIN }).await;
            let source: &'static str = format!("{i}.csv").leak();
            world.one(Staged { source, landed: 10 * i + 5, day: i, ..PLAIN }).await;
        }
        let next = Staged { source: "latest.csv", landed: 10 * versions, day: versions, ..PLAIN };
        let next = world.stage(next).await;
        world.requests.take();
        world.commit(std::slice::from_ref(&next)).await.unwrap();
        let requests = world.requests.take();
        assert_eq!(world.rows().await, 5 * (u64::try_from(versions).unwrap() + 1));
        // It is held by another contract's rules: the version before comes back, which nobody had to look at since.
        let held = Staged { source: "latest.csv", landed: 10 * versions, epoch: 1, ..PLAIN };
        let held = world.stage(Staged { outcome: Outcome::Hold, ..held }).await;
        world.commit(&[held]).await.unwrap();
        assert_eq!(world.rows().await, 5 * (u64::try_from(versions).unwrap() + 1));
        requests
    };
    assert_eq!(requests(4).await, requests(60).await);
}

#[tokio::test(start_paused = true)]
async fn versions_that_were_published_together_go_together_when_the_contract_takes_one() {
    let world = World::new("append").await;
    for i in 0..9 {
        world.one(Staged { source: "a.csv", landed: i, day: i, ..PLAIN }).await;
    }
    assert_eq!(world.rows().await, 9 * 5);
    world.govern("replace").await;
    let newest = world.one(Staged { source: "a.csv", landed: 20, rows: 3, ..PLAIN }).await;
    assert_eq!((world.rows().await, world.record(&newest).await.state), (3, State::Published));
    // And so for ever: it is not known of which sources there are several.
    let newer = world.one(Staged { source: "a.csv", landed: 21, rows: 4, ..PLAIN }).await;
    assert_eq!((world.rows().await, world.record(&newer).await.state), (4, State::Published));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_too_wide_is_refused_until_it_is_halved() {
    let world = World::new("replace").await;
    let mut group = Vec::new();
    for i in 0..8 {
        let source: &'static str = format!("{i}.csv").leak();
        group.push(world.stage(Staged { source, landed: i, ..PLAIN }).await);
    }
    let options = |widest| Options { page_weight: 2, widest, ..Options::default() };
    let commit = async |group: &[Wanted], widest| {
        commit_with(&world.store, &world.ambient, &world.dataset, group, options(widest)).await
    };
    // By what is to be added: eight files are described in some eight hundred bytes.
    let error = commit(&group, 500).await.unwrap_err();
    assert!(matches!(error, CommitError::Wide(8, 500..)), "{error}");
    assert_eq!((error.remedy(), world.view().await.number()), (Remedy::Bisect, 0));
    assert_eq!(commit(&group, 1000).await.unwrap().number, Some(1));
    // By the pages that are there: four of them, of two records and a manifest of kilobytes.
    for (i, wanted) in (0..).zip(&mut group) {
        let source: &'static str = format!("{i}.csv").leak();
        *wanted = world.stage(Staged { source, landed: i, epoch: 1, ..PLAIN }).await;
    }
    let whole = commit(&group, 8000).await.unwrap_err();
    assert!(matches!(whole, CommitError::Wide(8, 8000..)), "{whole}");
    let half = commit(&group[..4], 8000).await.unwrap_err();
    assert!(matches!(half, CommitError::Wide(4, 8000..)), "{half}");
    // One that needs more than is allowed is committed all the same: it cannot be halved.
    assert_eq!(commit(&group[..1], 1).await.unwrap().number, Some(2));
    // A newer version touches the page of the older one, which is known only once versions are listed.
    let newer = world.stage(Staged { source: "0.csv", landed: 20, ..PLAIN }).await;
    let other = world.stage(Staged { source: "9.csv", landed: 21, ..PLAIN }).await;
    let error = commit(&[newer, other], 8000).await.unwrap_err();
    assert!(matches!(error, CommitError::Wide(2, 8000..)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn bad_messages_and_broken_promises_are_told_apart() {
    let world = World::new("replace").await;
    let good = world.stage(PLAIN).await;
    let mut unknown = good.clone();
    unknown.order.engine = 9;
    let error = world.commit(&[good.clone(), unknown.clone()]).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Without(unknown.raw_id.clone(), unknown.order));
    // A proposal whose data file is gone is never published.
    let lost = world.stage(Staged { source: "lost.csv", ..PLAIN }).await;
    let listed = sluicegate_lake::list_all(&world.store, "tables/flights/data/").await.unwrap();
    let file = listed.iter().find(|o| o.key.contains(lost.raw_id.as_str())).unwrap();
    world.store.delete(&file.key).await.unwrap();
    let error = world.commit(&[good.clone(), lost]).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Bisect);
    assert!(matches!(error, CommitError::Violation(v) if v.invariant == Invariant::Pub4));
    assert_eq!(world.view().await.number(), 0);
    world.commit(&[good]).await.unwrap();
    assert_eq!(world.rows().await, 5);
}

#[tokio::test(start_paused = true)]
async fn rivals_for_one_table_lose_nothing() {
    let world = World::new("replace").await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut wanted = Vec::new();
    for source in names {
        wanted.push(world.stage(Staged { source, ..PLAIN }).await);
    }
    let commits = wanted.iter().map(|w| world.commit(std::slice::from_ref(w)));
    let reports = futures::future::join_all(commits).await;
    let numbers: BTreeSet<_> = reports.into_iter().map(|r| r.unwrap().number.unwrap()).collect();
    assert_eq!(numbers, (1..=8).collect());
    assert_eq!((world.rows().await, world.view().await.number()), (40, 8));
}

#[tokio::test(start_paused = true)]
async fn lost_acknowledgements_and_conflicts_publish_once() {
    // Every write of a commit in turn meets every fault.
    for write in 0..6 {
        for fault in [Fault::LostAcknowledgement, Fault::Conflict, Fault::Unavailable] {
            let world = World::new("replace").await;
            let a = world.stage(PLAIN).await;
            for _ in 0..write {
                world.store.fail_next(Fault::None);
            }
            world.store.fail_next(fault);
            let report = world.commit(std::slice::from_ref(&a)).await.unwrap();
            assert_eq!((report.number, report.attempts), (Some(1), 1), "{fault:?} at {write}");
            assert_eq!(world.rows().await, 5);
            assert_eq!(world.store.versions("tables/flights/metadata/version-hint.text"), 1);
        }
    }
}

#[derive(Clone, Debug)]
struct Upload {
    source: &'static str,
    outcome: Outcome,
    rows: u64,
    /// What a person makes of it if it is held, and whether only after it was promoted.
    decision: Option<(Ruling, bool)>,
}

impl Upload {
    fn passes(&self) -> bool {
        match self.outcome {
            Outcome::Publish => true,
            Outcome::Hold => matches!(self.decision, Some((Ruling::Released, _))),
            Outcome::Reject => false,
        }
    }
}

fn uploads() -> impl Strategy<Value = Vec<Upload>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Publish),
        3 => Just(Outcome::Hold),
        1 => Just(Outcome::Reject),
    ];
    let source = prop_oneof![Just("a"), Just("b"), Just("c")];
    let ruling = prop_oneof![Just(Ruling::Released), Just(Ruling::Rejected)];
    let decision = prop::option::of((ruling, any::<bool>()));
    let upload = (source, outcome, 1u64..100, decision);
    let upload = upload.prop_map(|(source, outcome, rows, decision)| Upload {
        source,
        outcome,
        rows,
        decision,
    });
    prop::collection::vec(upload, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// SRC-1 whatever the order of promotion, the grouping, and the repetition of messages.
    #[test]
    fn what_is_published_follows_from_what_was_uploaded(
        uploads in uploads(),
        policy in prop_oneof![Just("replace"), Just("append"), Just("reject")],
        messages in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..12),
        seed in any::<u64>(),
        page_weight in 1usize..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(policy).await;
            world.page_weight = page_weight;
            let mut wanted = Vec::new();
            for (i, upload) in (0..).zip(&uploads) {
                let Upload { source, outcome, rows, decision } = upload.clone();
                let staged = world.stage(Staged { source, outcome, rows, landed: i, ..PLAIN }).await;
                if let Some((ruling, false)) = decision {
                    world.decide(&staged, ruling);
                }
                wanted.push(staged);
            }
            // A random walk with repetitions first, then whatever is still missing, in a seeded order.
            let mut group = Vec::new();
            for (index, flush) in messages {
                group.push(index.get(&wanted).clone());
                if flush {
                    world.commit(&std::mem::take(&mut group)).await.unwrap();
                }
            }
            let mut rest = wanted.clone();
            let at = usize::try_from(seed % rest.len() as u64).unwrap();
            rest.rotate_left(at);
            if seed % 2 == 0 {
                rest.reverse();
            }
            group.extend(rest.clone());
            world.commit(&group).await.unwrap();
            // Now the decisions that came late, each with its message, and all messages once more.
            for (w, upload) in wanted.iter().zip(&uploads) {
                if let Some((ruling, true)) = upload.decision {
                    world.decide(w, ruling);
                    if seed % 3 != 0 {
                        world.commit(std::slice::from_ref(w)).await.unwrap();
                    }
                }
            }
            world.commit(&rest).await.unwrap();
            assert_eq!(world.commit(&wanted).await.unwrap().number, None);

            let mut expected = 0;
            for source in ["a", "b", "c"] {
                let passed = uploads.iter().filter(|u| u.source == source && u.passes());
                let rows: Vec<u64> = passed.map(|u| u.rows).collect();
                expected += match policy {
                    "replace" => rows.last().copied().unwrap_or(0),
                    "reject" => rows.first().copied().unwrap_or(0),
                    _ => rows.iter().sum(),
                };
            }
            assert_eq!(world.rows().await, expected);
            let view = world.view().await;
            assert_eq!(view.ledger.records.len(), wanted.len(), "RAW-2");
            assert_tree(&view, page_weight);
        });
    }
}
