//! What every [`Store`] and [`Queue`] must do, as functions that panic when one does not.
//!
//! Run against memory and disk in this crate's tests, against an emulator when `SLUICEGATE_TEST_ENDPOINT` names one,
//! and against a real bucket when `SLUICEGATE_TEST_BUCKET` does (`tests/conformance.rs`). Each call works below
//! a prefix of its own, so a bucket may be used again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a suite of assertions: tests are its only callers"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use crate::{Attributes, CopySource, ETag, Expected, Outgoing, Queue, Store, StoreError, list_all};

fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Absent objects are told apart from everything else, by every kind of request.
pub async fn absent_is_absent(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}/nothing");
    assert!(matches!(store.head(&key, None).await, Err(StoreError::Absent { .. })));
    assert!(matches!(store.get(&key).await, Err(StoreError::Absent { .. })));
    assert!(matches!(store.read(&key, None).await.map(|_| ()), Err(StoreError::Absent { .. })));
    store.delete(&key).await.unwrap();
    assert_eq!(list_all(store, &key).await.unwrap(), []);
}

/// A creation happens once; the first one's bytes stay.
pub async fn create_once(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}/once");
    store.create(&key, "first".into(), &Attributes::new()).await.unwrap();
    let second = store.create(&key, "second".into(), &Attributes::new()).await;
    assert!(matches!(second, Err(StoreError::AlreadyThere { .. })), "{second:?}");
    assert_eq!(store.get(&key).await.unwrap().1, "first");
    store.delete(&key).await.unwrap();
    store.create(&key, "again".into(), &Attributes::new()).await.unwrap();
}

/// Attributes come back with the object, whole.
pub async fn attributes_are_kept(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}/attributes");
    let given = attributes(&[("sluicegate-attempt", "a-1"), ("sequencer", "00AB")]);
    store.create(&key, "x".into(), &given).await.unwrap();
    assert_eq!(store.head(&key, None).await.unwrap().attributes, given);
    assert_eq!(store.get(&key).await.unwrap().0.attributes, given);
}

/// A swap needs the present tag; the tag changes with it.
pub async fn swap_needs_the_present_tag(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}/pointer");
    let none = Attributes::new();
    let tagged = |tag: &ETag| Expected::Tag(tag.clone());
    let early = store.swap(&key, "0".into(), &Expected::Tag(ETag("\"0\"".into())), &none).await;
    assert!(matches!(early, Err(StoreError::Changed { .. })), "{early:?}");
    store.swap(&key, "1".into(), &Expected::Nothing, &none).await.unwrap();
    let again = store.swap(&key, "1b".into(), &Expected::Nothing, &none).await;
    assert!(matches!(again, Err(StoreError::Changed { .. })), "{again:?}");
    let first = store.head(&key, None).await.unwrap().etag;
    store.swap(&key, "2".into(), &tagged(&first), &none).await.unwrap();
    let stale = store.swap(&key, "3".into(), &tagged(&first), &none).await;
    assert!(matches!(stale, Err(StoreError::Changed { .. })), "{stale:?}");
    let (meta, bytes) = store.get(&key).await.unwrap();
    assert_eq!(bytes, "2");
    assert_ne!(meta.etag, first);
}

/// Of many who swap at once from the same tag, one wins.
pub async fn one_swap_wins(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}/race");
    let none = Attributes::new();
    store.swap(&key, "start".into(), &Expected::Nothing, &none).await.unwrap();
    let tag = Expected::Tag(store.head(&key, None).await.unwrap().etag);
    let racers = (0..16).map(|i| {
        let (key, tag, none) = (&key, &tag, &none);
        async move { store.swap(key, format!("racer {i}").into(), tag, none).await }
    });
    let outcomes = futures::future::join_all(racers).await;
    let winners: Vec<_> = (0..).zip(&outcomes).filter(|(_, o)| o.is_ok()).map(|(i, _)| i).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    for lost in outcomes.iter().filter_map(|o| o.as_ref().err()) {
        assert!(
            matches!(lost, StoreError::Changed { .. } | StoreError::TryAgain { .. }),
            "{lost:?}"
        );
    }
    let expected = format!("racer {}", winners.first().copied().unwrap_or(-1));
    assert_eq!(store.get(&key).await.unwrap().1, expected);
}

/// Bytes are read back in order, whole and by range.
pub async fn reads_stream_in_order(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}/large");
    let bytes: Bytes = (0..700_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into();
    store.create(&key, bytes.clone().into(), &Attributes::new()).await.unwrap();
    let ranges = [None, Some(0..1), Some(3..2_000_001), Some(2_799_999..2_800_000)];
    for range in ranges {
        let (meta, mut pieces) = store.read(&key, range.clone()).await.unwrap();
        let mut read = Vec::new();
        while let Some(piece) = pieces.next().await {
            read.extend_from_slice(&piece.unwrap());
        }
        let whole = 0..bytes.len() as u64;
        let at = range.clone().unwrap_or(whole.clone());
        let (from, to) = (usize::try_from(at.start).unwrap(), usize::try_from(at.end).unwrap());
        assert_eq!(read, bytes.slice(from..to), "{range:?}");
        assert!(range.is_some() || meta.size == whole.end);
    }
}

/// A file on disk is written whole.
pub async fn files_are_written_whole(store: &dyn Store, prefix: &str, folder: &std::path::Path) {
    let (key, path) = (format!("{prefix}/from-file"), folder.join("body"));
    let bytes = vec![7u8; 3_000_000];
    std::fs::write(&path, &bytes).unwrap();
    store.create(&key, crate::Body::File(path), &Attributes::new()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().1, bytes);
}

/// Listings are in key order, below the prefix only, and go on where they stopped.
pub async fn lists_in_order(store: &dyn Store, prefix: &str) {
    let names = ["a", "a b+c=ü%2F", "a/b", "a0", "b"];
    for name in names {
        let key = format!("{prefix}/list/{name}");
        store.create(&key, name.into(), &Attributes::new()).await.unwrap();
    }
    let keys = |rows: Vec<crate::Listed>| rows.into_iter().map(|r| r.key).collect::<Vec<_>>();
    let mut sorted: Vec<_> = names.iter().map(|n| format!("{prefix}/list/{n}")).collect();
    sorted.sort();
    let all = list_all(store, &format!("{prefix}/list/")).await.unwrap();
    assert_eq!(all.first().map(|r| r.size), Some(1));
    assert_eq!(keys(all), sorted);
    let after = store.list(&format!("{prefix}/list/"), sorted.get(1).map(String::as_str)).await;
    assert_eq!(keys(after.unwrap().objects), sorted.get(2..).unwrap());
    let below = list_all(store, &format!("{prefix}/list/a/")).await.unwrap();
    assert_eq!(keys(below), [format!("{prefix}/list/a/b")]);
}

/// A listing of more than a page is complete.
pub async fn lists_many(store: &dyn Store, prefix: &str) {
    let key = |i: u32| format!("{prefix}/many/{i:05}");
    for from in (0..1100).step_by(50) {
        let none = Attributes::new();
        let made = (from..from + 50).map(|i| {
            let none = &none;
            async move { store.create(&key(i), "".into(), none).await }
        });
        futures::future::join_all(made).await.into_iter().for_each(|r| r.unwrap());
    }
    let all = list_all(store, &format!("{prefix}/many/")).await.unwrap();
    assert!(all.iter().map(|r| r.key.clone()).eq((0..1100).map(key)));
}

/// A copy is made once, of the very version that was named, with the SHA-256 of its content.
/// `atomic`: whether the store itself refuses the second one of two that come at the same time.
pub async fn copies_once(
    store: &dyn Store,
    source: &CopySource,
    content: &[u8],
    prefix: &str,
    atomic: bool,
) {
    let key = format!("{prefix}/copy");
    let given = attributes(&[("sluicegate-attempt", "a-1")]);
    store.copy(source, &key, &given).await.unwrap();
    let (meta, bytes) = store.get(&key).await.unwrap();
    assert_eq!(bytes, content);
    assert_eq!(meta.attributes, given);
    let again = store.copy(source, &key, &Attributes::new()).await;
    assert!(matches!(again, Err(StoreError::AlreadyThere { .. })), "{again:?}");
    let gone = CopySource { key: format!("{}-gone", source.key), version: None, ..source.clone() };
    let missing = store.copy(&gone, &format!("{prefix}/copy-gone"), &given).await;
    assert!(matches!(missing, Err(StoreError::Absent { .. })), "{missing:?}");
    if atomic {
        let target = format!("{prefix}/copy-race");
        let racers = (0..8).map(|_| store.copy(source, &target, &given));
        let outcomes = futures::future::join_all(racers).await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "{outcomes:?}");
    }
}

/// Messages arrive, each at least once, and stay away once deleted.
pub async fn queue_delivers(queue: &dyn Queue) {
    let sent: BTreeSet<_> = (0..23).map(|i| format!("message {i} ü\n\"{{}}\"")).collect();
    let messages: Vec<_> =
        sent.iter().map(|b| Outgoing { body: b.clone(), group: "flights".into() }).collect();
    queue.send(&messages).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.in_flight, depth.delayed), (sent.len() as u64, 0, 0));
    let mut got = BTreeSet::new();
    for _ in 0..50 {
        for message in queue.receive(Duration::from_secs(1)).await.unwrap() {
            assert!(message.receives >= 1);
            queue.delete(&message.receipt).await.unwrap();
            got.insert(message.body);
        }
        if got.len() == sent.len() {
            break;
        }
    }
    assert_eq!(got, sent);
    assert_eq!(queue.receive(Duration::ZERO).await.unwrap(), []);
}

/// A message that was released comes again at once, and says how often it came.
pub async fn queue_releases(queue: &dyn Queue) {
    let message = Outgoing { body: "again".into(), group: "flights".into() };
    queue.send_later(&message, Duration::ZERO).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().waiting, 1);
    let first = queue.receive(Duration::from_secs(5)).await.unwrap().remove(0);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.in_flight), (0, 1));
    queue.release(&first.receipt, Duration::ZERO).await.unwrap();
    let second = queue.receive(Duration::from_secs(5)).await.unwrap().remove(0);
    assert_eq!((second.body.as_str(), second.receives), ("again", 2));
    queue.delete(&second.receipt).await.unwrap();
}
