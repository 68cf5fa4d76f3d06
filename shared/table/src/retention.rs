//! Retention: old snapshots expire, and what nothing leads to any more is collected.
//!
//! [`expire`] takes snapshots out of the table's metadata by a swap, like any other change. [`collect`] deletes objects
//! of the table, each by its age **and** by not being reachable: not from a retained snapshot, and not from a proposal that
//! may yet be published. A proposal whose files no snapshot names any more is closed first, by an object of its own, and
//! its files are deleted a grace later. Promote looks for that object whenever it would publish an older proposal again,
//! after it has read the pointer; its attempts live for minutes, a grace is a day at least, so either promote sees
//! the closing or the collection sees the snapshot.
//!
//! Never deleted: raw objects, proposals, decisions, quarantined rows, the pointer. A collection that dies half way has
//! deleted nothing that was needed, and the next one goes on. An error stops it; nothing is deleted on a doubt.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sluicegate_lake::cas::{Swap, Writer};
use sluicegate_lake::{Ambient, Dataset, Listed, Order, RawId, Store, StoreError, keys, list_all};
use uuid::Uuid;

use crate::commit::{AT_ONCE, CommitError, patiently, read_proposal, swap};
use crate::iceberg::manifest::{self, Status};
use crate::iceberg::metadata::TableMetadata;
use crate::ledger::{Record, State};
use crate::log;
use crate::view::{CHANGES, LEDGER, View, base_of, file_name, object, tree_of};

/// The least time that what is no longer reachable is kept: readers and writers of that time are done by then.
pub const LEAST_GRACE: SignedDuration = SignedDuration::from_hours(24);

/// What of a table's past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Snapshots that are kept whatever their age, the present one counted; at least 1.
    pub snapshots: usize,
    /// Snapshots that are this young are kept, as far as the metadata has room.
    pub age: SignedDuration,
}

/// What an expiry came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Numbers of the snapshots that are no longer retained.
    pub snapshots: Vec<i64>,
    /// How often the pointer was tried; 0 where nothing was to be done.
    pub attempts: u32,
}

/// What a collection came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub metadata_files: u64,
    pub data_files: u64,
    pub bytes: u64,
    /// Proposals that were closed: their files go by a later collection.
    pub closed: u64,
}

/// `staging/<dataset>/<raw id>/<order>/closed.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The format of this object.
    pub v: u32,
    pub at: Timestamp,
}

impl Closing {
    /// The object's present format.
    pub const FORMAT: u32 = 1;
}

/// Takes old snapshots out of a table's metadata. What they alone led to is there until it is collected.
pub async fn expire(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    retention: Retention,
) -> Result<Expired, CommitError> {
    patiently(ambient, None, async |attempts| {
        let view = View::open(store, dataset).await?;
        let Some(metadata) = &view.metadata else { return Ok(Some(Expired::default())) };
        let now = ambient.now();
        let old = outdated(metadata, retention, now);
        if old.is_empty() {
            return Ok(Some(Expired::default()));
        }
        let numbers = metadata.snapshots.iter().filter(|s| old.contains(&s.snapshot_id));
        let snapshots = numbers.map(|s| s.sequence_number).collect();
        let writer = Writer::new(store, ambient);
        let next = view.logged(metadata, store, dataset);
        let next = next.without_snapshots(&old, now.as_millisecond());
        let file = file_name(next.last_sequence_number, writer.attempt());
        let key = keys::metadata(dataset, &format!("{file}.metadata.json"));
        writer.create(&key, next.to_json()?).await?;
        let swapped = swap(&writer, ambient, now, dataset, &view, file).await?;
        Ok((swapped == Swap::Done).then_some(Expired { snapshots, attempts }))
    })
    .await
}

/// Ids of the snapshots that need not be retained.
fn outdated(metadata: &TableMetadata, retention: Retention, now: Timestamp) -> BTreeSet<i64> {
    let kept = retention.snapshots.max(1);
    let oldest = now
        .as_millisecond()
        .saturating_sub(i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX));
    let referred: BTreeSet<i64> = metadata.refs.values().map(|r| r.snapshot_id).collect();
    let by_age = metadata.snapshots.iter().rev().skip(kept);
    let by_age = by_age.filter(|s| s.timestamp_ms < oldest && !referred.contains(&s.snapshot_id));
    by_age.map(|s| s.snapshot_id).collect()
}

/// Deletes what nothing leads to, once it is older than `grace`, which is raised to [`LEAST_GRACE`].
pub async fn collect(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    grace: SignedDuration,
) -> Result<Collected, CommitError> {
    run(store, ambient, dataset, grace, false).await
}

/// What [`collect`] would do. Nothing is written or deleted.
pub async fn collectable(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    grace: SignedDuration,
) -> Result<Collected, CommitError> {
    run(store, ambient, dataset, grace, true).await
}

async fn run(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    grace: SignedDuration,
    dry: bool,
) -> Result<Collected, CommitError> {
    let now = ambient.now();
    let before = now.checked_sub(grace.max(LEAST_GRACE)).unwrap_or(Timestamp::MIN);
    let mut collection = Collection {
        store,
        ambient,
        dataset,
        before,
        dry,
        view: View::open(store, dataset).await?,
        live: Live::default(),
        collected: Collected::default(),
    };
    collection.mark().await?;
    collection.metadata().await?;
    collection.data().await?;
    Ok(collection.collected)
}

/// What is reachable.
#[derive(Default)]
struct Live {
    /// Names below `metadata/`.
    metadata: BTreeSet<String>,
    /// Data files, by the attempt that wrote them and its number.
    files: BTreeSet<(Uuid, usize)>,
}

struct Collection<'a> {
    store: &'a dyn Store,
    ambient: &'a dyn Ambient,
    dataset: &'a Dataset,
    /// What was last changed before this moment may go.
    before: Timestamp,
    /// Only counts.
    dry: bool,
    view: View,
    live: Live,
    collected: Collected,
}

impl Collection<'_> {
    /// Marks what the retained snapshots lead to, and the change lists of the last grace.
    async fn mark(&mut self) -> Result<(), CommitError> {
        let Self { store, dataset, view, .. } = &*self;
        let Some(metadata) = &view.metadata else { return Ok(()) };
        let base = base_of(*store, dataset);
        let below = |path: &str| path.strip_prefix(&base).unwrap_or(path).to_owned();
        let mut live = BTreeSet::from([
            "version-hint.text".to_owned(),
            format!("{}.metadata.json", view.file.as_deref().unwrap_or_default()),
        ]);
        live.extend(metadata.metadata_log.iter().map(|entry| below(&entry.metadata_file)));
        let trees: Vec<_> = futures::stream::iter(&metadata.snapshots)
            .map(|snapshot| tree_of(*store, dataset, snapshot))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut manifests = BTreeSet::new();
        for (root, listed) in trees {
            live.extend(root.pages.into_iter().map(|page| page.ledger));
            manifests.extend(listed.iter().map(|manifest| below(&manifest.path)));
        }
        for snapshot in &metadata.snapshots {
            live.insert(below(&snapshot.manifest_list));
            let named = [LEDGER, CHANGES].into_iter().filter_map(|key| snapshot.summary.get(key));
            live.extend(named.cloned());
        }
        // Lists of snapshots that are no longer retained, back to those that are old enough to go.
        let oldest = metadata.snapshots.first().and_then(|s| s.summary.get(CHANGES).cloned());
        let mut next = oldest;
        while let Some(name) = next.take() {
            let Some(list) = log::read(*store, dataset, &name).await? else { break };
            live.insert(name);
            if list.at.is_some_and(|at| at >= self.before) {
                next = list.previous;
            }
        }
        let files: Vec<BTreeSet<_>> = futures::stream::iter(&manifests)
            .map(|name| async move {
                let entries = manifest::read(&object(*store, dataset, name).await?)?;
                let entries = entries.iter().filter(|entry| entry.status != Status::Deleted);
                let files: Option<BTreeSet<_>> = entries.map(|e| file_of(&e.file.path)).collect();
                files
                    .ok_or_else(|| CommitError::Corrupt(format!("{name} names a file not of ours")))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        live.extend(manifests);
        self.live = Live { metadata: live, files: files.into_iter().flatten().collect() };
        Ok(())
    }

    /// Deletes metadata of attempts that lost their race, and of snapshots that are no longer retained.
    async fn metadata(&mut self) -> Result<(), CommitError> {
        let prefix = keys::metadata(self.dataset, "");
        let mut after = None;
        loop {
            let page = self.store.list(&prefix, after.as_deref()).await?;
            let dead = page.objects.iter().filter(|object| {
                let name = object.key.strip_prefix(&prefix).unwrap_or(&object.key);
                object.modified < self.before && !self.live.metadata.contains(name)
            });
            let dead: Vec<&Listed> = dead.collect();
            self.collected.metadata_files += dead.len() as u64;
            self.delete(&dead).await?;
            after = page.objects.last().map(|object| object.key.clone());
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Deletes data files that no retained snapshot and no open proposal names.
    async fn data(&mut self) -> Result<(), CommitError> {
        let prefix = keys::data_files(self.dataset);
        let mut after = None;
        loop {
            let page = self.store.list(&prefix, after.as_deref()).await?;
            let mut unreachable: BTreeMap<RawId, Vec<&Listed>> = BTreeMap::new();
            for object in page.objects.iter().filter(|object| object.modified < self.before) {
                // What is not named like a data file of ours is not ours to delete.
                let Some((id, attempt, n)) = keys::parse_data_file(&object.key) else { continue };
                if !self.live.files.contains(&(attempt, n)) {
                    unreachable.entry(id).or_default().push(object);
                }
            }
            for (id, files) in unreachable {
                let needed = self.needed(&id).await?;
                let dead = files.into_iter().filter(|object| !needed.contains(object.key.as_str()));
                let dead: Vec<&Listed> = dead.collect();
                self.collected.data_files += dead.len() as u64;
                self.delete(&dead).await?;
            }
            after = page.objects.last().map(|object| object.key.clone());
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Keys of the files of a raw object's proposals that are not closed, or not for long enough. Closes those that are done
    /// with.
    async fn needed(&mut self, id: &RawId) -> Result<BTreeSet<String>, CommitError> {
        let Self { store, dataset, before, .. } = *self;
        let page = self.view.root.page_of(id).into_iter().collect();
        self.view.load(store, dataset, page).await?;
        let record = self.view.ledger.records.get(id);
        let listed = list_all(store, &keys::proposals(dataset, id)).await?;
        let closed = |order| {
            let key = keys::closing(dataset, id, order);
            listed.iter().find(|object| object.key == key).map(|object| object.modified)
        };
        let orders: Vec<Order> =
            listed.iter().filter_map(|o| keys::parse_proposal(&o.key)).collect();
        let base = store.uri("");
        let (mut needed, mut done) = (BTreeSet::new(), Vec::new());
        for order in orders {
            let proposal = match read_proposal(store, dataset, id, order).await {
                // What cannot be read is never published; what it might name stays for a person to look at.
                Err(CommitError::Poison { reason, .. }) => {
                    return Err(CommitError::Corrupt(reason));
                }
                read => read?,
            };
            // Promote may have held it as late just when it was closed.
            let waits = record.is_some_and(|r| r.order == order && r.state == State::Held);
            let is_gone = !waits && closed(order).is_some_and(|at| at < before);
            if !is_gone {
                let keys = proposal
                    .files
                    .iter()
                    .map(|file| file.path.strip_prefix(&base).unwrap_or(&file.path).to_owned());
                needed.extend(keys);
                let is_live = proposal.files.iter().any(|file| {
                    file_of(&file.path).is_none_or(|file| self.live.files.contains(&file))
                });
                if closed(order).is_none() && !is_live && record.is_some_and(|r| is_done(r, order))
                {
                    done.push(order);
                }
            }
        }
        self.collected.closed += done.len() as u64;
        for order in done.into_iter().filter(|_| !self.dry) {
            let closing = Closing { v: Closing::FORMAT, at: self.ambient.now() };
            let body =
                serde_json::to_vec(&closing).map_err(|e| CommitError::Corrupt(e.to_string()))?;
            let key = keys::closing(dataset, id, order);
            Writer::new(store, self.ambient).create(&key, body).await?;
        }
        Ok(needed)
    }

    async fn delete(&mut self, objects: &[&Listed]) -> Result<(), CommitError> {
        self.collected.bytes += objects.iter().map(|object| object.size).sum::<u64>();
        if self.dry {
            return Ok(());
        }
        let store = self.store;
        futures::stream::iter(objects)
            .map(|object| async move { store.delete(&object.key).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
            .map_err(|error: StoreError| CommitError::from(error))
    }
}

/// Whether a proposal can only be published again by being an older version's or staging's comeback: it is in the
/// ledger, and waits for nobody.
fn is_done(record: &Record, order: Order) -> bool {
    record.rank() > order || (record.order == order && record.state != State::Held)
}

/// What tells a data file from all others.
fn file_of(path: &str) -> Option<(Uuid, usize)> {
    keys::parse_data_file(path).map(|(_, attempt, n)| (attempt, n))
}
