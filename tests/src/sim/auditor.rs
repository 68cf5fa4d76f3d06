//! Looks at the lake after every step, and remembers what must not change.
//!
//! Knows nothing of plans or pages: it reads what is in the lake, every snapshot once and in order, and holds it against
//! the invariants. What it looks at again is only what was written or deleted since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluicegate_contract::Outcome;
use sluicegate_contract::time::MICROS_PER_DAY;
use sluicegate_lake::memory::MemoryStore;
use sluicegate_lake::{Order, RawId, Store, keys};
use sluicegate_table::changes::{Change, ChangeList};
use sluicegate_table::iceberg::metadata::Snapshot;
use sluicegate_table::{PartitionBy, Proposal, Record, Ruling, State, View, rollback};

use super::{ALLOWED_LATENESS, dataset, decision, ensure};
use crate::World;

/// What one snapshot publishes.
#[derive(Clone, Default)]
struct Published {
    files: BTreeSet<String>,
    raw_ids: BTreeSet<RawId>,
}

#[derive(Default)]
pub(super) struct Auditor {
    /// How far the lake's journal was read.
    journal: usize,
    /// Swaps of the pointer.
    swaps: i64,
    /// The table's number, snapshot or expiry.
    number: i64,
    last: Option<View>,
    /// By the snapshot's number.
    published: BTreeMap<i64, Published>,
    /// What a rollback took out, by its number.
    withdrawn: BTreeMap<RawId, u64>,
    proposals: BTreeMap<(RawId, Order), Arc<Proposal>>,
    /// The month of the last snapshot, what was spent in it, and what the whole ledger cost.
    spent: (String, u64, u64),
    /// Data files that were seen to exist.
    there: BTreeSet<String>,
    pub(super) rollbacks: u64,
    pub(super) late: u64,
    pub(super) deleted: u64,
}

/// Whether what never was published is released: it has waited, and how late it is, is decided now.
fn first_released(before: &Record, after: &Record) -> bool {
    let released = |r: &Record| r.decision.as_ref().is_some_and(|d| d.ruling == Ruling::Released);
    before.published_at.is_none() && before.decision.is_none() && released(after)
}

impl Auditor {
    pub(super) async fn look(&mut self, world: &World) -> Result<(), String> {
        let pointer = keys::table_pointer(&dataset());
        let (touched, length) = world.lake.touched_since(self.journal);
        self.journal = length;
        let (mut swapped, mut deleted) = (false, false);
        for key in touched {
            if key == pointer {
                swapped = true;
                self.swaps += 1;
            } else if !key.ends_with("/current.json") {
                match world.lake.versions(&key) {
                    1 => {}
                    0 => {
                        deleted = true;
                        self.deleted += 1;
                        self.there.remove(&world.lake.uri(&key));
                        let of_table = key.starts_with("tables/");
                        ensure(of_table, || format!("RAW-1: {key} was deleted"))?;
                    }
                    n => return Err(format!("RAW-1: {key} was written {n} times")),
                }
            }
        }
        if swapped {
            self.swapped(world).await?;
        }
        if deleted {
            self.nothing_needed_is_gone(world).await?;
        }
        Ok(())
    }

    /// Once everything is delivered and replayed, nothing is withdrawn any more.
    pub(super) fn all_came_back(&self) -> Result<(), String> {
        let Some((id, barrier)) = self.withdrawn.first_key_value() else { return Ok(()) };
        let record = self.last.as_ref().and_then(|view| view.ledger.records.get(id));
        Err(format!("{id}, out since {barrier}, did not come back by a replay: {record:?}"))
    }

    /// Looks at every snapshot since the last that was seen.
    async fn swapped(&mut self, world: &World) -> Result<(), String> {
        let (lake, dataset) = (&world.lake, dataset());
        let open = View::open(lake, &dataset).await.map_err(|e| format!("PUB-4: {e}"))?;
        let number = open.number();
        ensure(number == self.swaps, || format!("PUB-3: {} swaps, number {number}", self.swaps))?;
        let metadata = open.metadata.clone().ok_or("PUB-3: a pointer without a table")?;
        let seen = self.number;
        for snapshot in metadata.snapshots.iter().filter(|s| s.sequence_number > seen) {
            let at = open.at(lake, &dataset, snapshot).await;
            let view = match at {
                Ok(view) => view.whole(lake, &dataset).await,
                Err(error) => Err(error),
            };
            let view = view.map_err(|e| format!("PUB-4: {e}"))?;
            self.snapshot(world, snapshot, &view).await?;
            self.last = Some(view);
        }
        self.number = number;
        Ok(())
    }

    async fn snapshot(
        &mut self,
        world: &World,
        snapshot: &Snapshot,
        view: &View,
    ) -> Result<(), String> {
        let number = snapshot.sequence_number;
        self.files(world, view).await?;
        self.history(view)?;
        self.lateness(world, view).await?;
        self.changes(world, snapshot, view).await?;
        self.month(snapshot)?;
        let records = view.ledger.records.values();
        let published = records.filter(|r| r.state == State::Published);
        let published = Published {
            files: view.files.keys().cloned().collect(),
            raw_ids: published.clone().map(|r| r.raw_id.clone()).collect(),
        };
        if let Some(to) = snapshot.summary.get(rollback::TO).and_then(|to| to.parse::<i64>().ok()) {
            let wanted = self.published.get(&to).ok_or("a rollback to what was never there")?;
            ensure(wanted.files == published.files && wanted.raw_ids == published.raw_ids, || {
                format!("snapshot {number} does not publish what snapshot {to} did")
            })?;
            let before = self.published.last_key_value().map(|(_, before)| before.raw_ids.clone());
            let out = before.unwrap_or_default();
            let out = out.difference(&wanted.raw_ids).cloned();
            self.withdrawn.extend(out.map(|id| (id, u64::try_from(number).unwrap_or_default())));
            self.withdrawn.retain(|id, _| !published.raw_ids.contains(id));
            self.rollbacks += 1;
        } else {
            for id in &published.raw_ids {
                let Some(barrier) = self.withdrawn.get(id) else { continue };
                let epoch = view.ledger.records.get(id).map_or(0, |r| r.order.epoch);
                ensure(epoch >= *barrier, || {
                    format!("{id} was withdrawn by {barrier} and came back by epoch {epoch}")
                })?;
                self.withdrawn.remove(id);
            }
            // A replay that ends otherwise is an answer as well.
            self.withdrawn.retain(|id, barrier| {
                view.ledger.records.get(id).is_none_or(|r| r.order.epoch < *barrier)
            });
        }
        self.published.insert(number, published);
        Ok(())
    }

    /// COST-1: the month has grown by what the ledger's cost has, and never goes back.
    fn month(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let nano = |key: &str| -> u64 {
            let text = snapshot.summary.get(&format!("sluicegate.{key}"));
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let month = snapshot.summary.get("sluicegate.month").cloned().unwrap_or_default();
        let spent = nano("month-fresh-nano-usd") + nano("month-replay-nano-usd");
        let cost = nano("cost-nano-usd");
        let (last, before, cost_before) = &self.spent;
        let carried = if month == *last { *before } else { 0 };
        let grown = spent.checked_sub(carried).zip(cost.checked_sub(*cost_before));
        ensure(month >= *last && grown.is_some_and(|(spent, cost)| spent == cost), || {
            format!(
                "COST-1: {spent} in {month} after {before} in {last}, {cost} after {cost_before}"
            )
        })?;
        self.spent = (month, spent, cost);
        Ok(())
    }

    /// PUB-1, PUB-2, PUB-4, SRC-1, AUD-1: the table's files are those of the published proposals, which passed, each once.
    async fn files(&mut self, world: &World, view: &View) -> Result<(), String> {
        let mut expected = BTreeSet::new();
        let mut sources = BTreeSet::new();
        for record in view.ledger.records.values() {
            let own = self.proposal(world, &record.raw_id, record.order).await?;
            let coverage = own.verdict.coverage();
            let is_rejected = own.verdict.outcome() == Outcome::Reject;
            ensure(coverage.bytes == own.bytes || is_rejected, || {
                format!("AUD-1: {} of {} bytes", coverage.bytes, own.bytes)
            })?;
            if record.state != State::Published {
                continue;
            }
            let (own_outcome, passed) = (own.verdict.outcome(), own.passed(None));
            let decision = decision(world, &record.raw_id, record.order).await?;
            let released = decision.as_ref().map(|d| d.ruling == Ruling::Released);
            ensure(own_outcome != Outcome::Reject && released.unwrap_or(passed), || {
                format!("PUB-1: {} is published though it did not pass", record.raw_id)
            })?;
            ensure(record.decision == decision, || {
                format!("PUB-1: {} is published, and its decision is not kept", record.raw_id)
            })?;
            ensure(sources.insert(&record.source), || {
                format!("SRC-1: {} is published twice", record.source)
            })?;
            let (holder, order) = record.files_of.as_ref().ok_or("PUB-1: no files")?;
            for file in &self.proposal(world, holder, *order).await?.files {
                ensure(expected.insert(file.path.clone()), || {
                    format!("PUB-2: {} is there twice", file.path)
                })?;
            }
        }
        let found: BTreeSet<String> = view.files.keys().cloned().collect();
        ensure(found == expected, || format!("PUB-1: {found:?} are not {expected:?}"))?;
        for (path, (_, entry)) in &view.files {
            if self.there.insert(path.clone()) {
                exists(&world.lake, path, entry.file.bytes).await?;
            }
        }
        Ok(())
    }

    /// ORD-1, and LATE-1's "once": nothing that was decided is decided otherwise.
    fn history(&self, view: &View) -> Result<(), String> {
        let Some(last) = &self.last else { return Ok(()) };
        for (id, before) in &last.ledger.records {
            let after =
                view.ledger.records.get(id).ok_or_else(|| format!("ORD-1: {id} is forgotten"))?;
            ensure(after.rank() >= before.rank(), || {
                format!("ORD-1: {id} fell to {}", after.order)
            })?;
            let kept = before.late.is_none() || before.late == after.late;
            let kept = kept || first_released(before, after);
            ensure(kept, || format!("LATE-1: {id} was decided twice"))?;
            let kept = before.published_at.is_none() || before.published_at == after.published_at;
            ensure(kept, || format!("{id} was published for the first time twice"))?;
            let decided = before.decision.is_some() && before.rank() == after.rank();
            ensure(!decided || before.decision == after.decision, || {
                format!("what was decided on {id} is undone")
            })?;
        }
        Ok(())
    }

    /// LATE-1: what is decided of a source that is new is what the published files of earlier seconds say of it.
    async fn lateness(&mut self, world: &World, view: &View) -> Result<(), String> {
        let last = self.last.take();
        let told = self.lateness_since(world, view, last.as_ref()).await;
        self.last = last;
        told
    }

    async fn lateness_since(
        &mut self,
        world: &World,
        view: &View,
        last: Option<&View>,
    ) -> Result<(), String> {
        let none = BTreeMap::new();
        let known = last.map_or(&none, |last| &last.ledger.records);
        let was_decided = |r: &Record| {
            let known = known.get(&r.raw_id);
            known.is_some_and(|k| k.late.is_some() && !first_released(k, r))
        };
        let was_published =
            |r: &Record| known.get(&r.raw_id).is_some_and(|k| k.published_at.is_some());
        let is_known = |r: &Record| {
            known
                .values()
                .any(|k| k.source == r.source && k.late.is_some() && k.published_at.is_some())
        };
        let counts = |r: &Record| matches!(r.state, State::Published | State::Superseded);
        let counts = |r: &Record| counts(r) && r.published_at.is_some();
        let mut ranges = BTreeMap::new();
        for record in view.ledger.records.values().filter(|r| counts(r)) {
            // As it was staged, not as it was written down.
            let range = self.proposal(world, &record.raw_id, record.order).await?.event_range;
            ranges.insert(&record.raw_id, range);
        }
        for record in view.ledger.records.values() {
            let Some(late) = record.late.as_ref().filter(|_| !was_decided(record)) else {
                continue;
            };
            let released = record.decision.is_some();
            let before = |other: &&Record| {
                counts(other)
                    && if released {
                        // Of what is released together nothing came first.
                        was_published(other)
                    } else {
                        other.raw_id.landed_at() < record.raw_id.landed_at()
                    }
            };
            let others = || view.ledger.records.values().filter(before);
            let range = |r: &Record| ranges.get(&r.raw_id).copied().flatten();
            let newest = others().filter_map(|r| Some(range(r)?.1)).max();
            let oldest = others().filter(|r| !r.backfill).filter_map(|r| Some(range(r)?.0)).min();
            let proposal = self.proposal(world, &record.raw_id, record.order).await?;
            let first_day = oldest.map(|at| at.div_euclid(MICROS_PER_DAY));
            let last_day = proposal.event_range.map(|(_, at)| at.div_euclid(MICROS_PER_DAY));
            let backfill = newest.is_some()
                && last_day.is_some_and(|last| first_day.is_none_or(|first| last < first));
            let mut expected = BTreeSet::new();
            if let Some(newest) = newest.filter(|_| !is_known(record) && !backfill) {
                let closed = |value: &i32| {
                    let by: Option<&PartitionBy> = proposal.partition_by.as_ref();
                    by.is_some_and(|by| by.end(*value) <= newest - ALLOWED_LATENESS)
                };
                expected.extend(proposal.files.iter().filter_map(|f| f.partition).filter(closed));
            }
            let found: BTreeSet<i32> = late.iter().copied().collect();
            ensure(found == expected, || {
                format!(
                    "LATE-1: {} of {} ({:?}) is late for {found:?}, not for {expected:?}",
                    record.raw_id, record.source, record.state
                )
            })?;
            self.late += u64::from(!found.is_empty());
        }
        // What is held stays so, whatever a rollback takes out that was published instead.
        let is_new = |r: &&Record| known.get(&r.raw_id) != Some(r);
        let held = view.ledger.records.values().filter(|r| r.state == State::Held);
        for record in held.filter(is_new) {
            let proposal = self.proposal(world, &record.raw_id, record.order).await?;
            // Or late only as long as the version that is published instead of it is not.
            let contested =
                record.late.is_none()
                    && view.ledger.records.values().any(|other| {
                        other.source == record.source && other.state == State::Published
                    });
            let late = record.is_late() || contested;
            let why = !proposal.passed(None) || (late && record.published_at.is_none());
            ensure(why, || format!("{} is held for nothing", record.raw_id))?;
        }
        Ok(())
    }

    /// LATE-1: the change list tells of the partitions whose files changed, with their rows; restated ones with reasons.
    async fn changes(&self, world: &World, snapshot: &Snapshot, view: &View) -> Result<(), String> {
        let name = snapshot.summary.get("sluicegate.changes").ok_or("LATE-1: no change list")?;
        let key = keys::metadata(&dataset(), name);
        let (_, bytes) = world.lake.get(&key).await.map_err(|e| format!("PUB-4: {e}"))?;
        let list: ChangeList = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let none = BTreeMap::new();
        let before = self.last.as_ref().map_or(&none, |last| &last.files);
        let day = |path: &str| path.rsplit('/').nth(1).unwrap_or_default().to_owned();
        let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (path, (_, entry)) in view.files.iter().filter(|(p, _)| !before.contains_key(*p)) {
            expected.entry(day(path)).or_default().0 += entry.file.rows;
        }
        for (path, (_, entry)) in before.iter().filter(|(p, _)| !view.files.contains_key(*p)) {
            expected.entry(day(path)).or_default().1 += entry.file.rows;
        }
        let told: BTreeMap<String, (u64, u64)> = list
            .partitions
            .iter()
            .map(|c| (c.partition.clone(), (c.rows_added, c.rows_removed)))
            .collect();
        ensure(told == expected, || format!("LATE-1: {told:?} changed, not {expected:?}"))?;
        for change in &list.partitions {
            let restated = change.change == Change::Restated;
            ensure(!change.raw_ids.is_empty(), || "LATE-1: no raw ids".to_owned())?;
            ensure(restated != change.reasons.is_empty(), || {
                format!(
                    "LATE-1: {} is {:?} by {:?}",
                    change.partition, change.change, change.reasons
                )
            })?;
            ensure(restated || change.rows_removed == 0, || {
                format!("LATE-1: {} lost rows and is not restated", change.partition)
            })?;
        }
        Ok(())
    }

    /// PUB-4, after something was deleted: every retained snapshot reads, and what may yet be published has its files.
    async fn nothing_needed_is_gone(&mut self, world: &World) -> Result<(), String> {
        let (lake, dataset) = (&world.lake, dataset());
        let present = View::read(lake, &dataset).await.map_err(|e| format!("PUB-4: {e}"))?;
        let snapshots = present.metadata.iter().flat_map(|m| &m.snapshots);
        for snapshot in snapshots {
            let number = snapshot.sequence_number;
            let gone = |e| format!("PUB-4: snapshot {number} is retained: {e}");
            let view = present.at(lake, &dataset, snapshot).await.map_err(gone)?;
            let view = view.whole(lake, &dataset).await.map_err(gone)?;
            for (path, (_, entry)) in &view.files {
                exists(lake, path, entry.file.bytes).await?;
            }
        }
        let prefix = keys::staging(&dataset);
        let staged = sluicegate_lake::list_all(lake, &prefix).await.map_err(|e| e.to_string())?;
        for key in staged.iter().map(|object| &object.key) {
            let Some(order) = keys::parse_proposal(key) else { continue };
            let id = key.strip_prefix(&prefix).and_then(|k| k.split('/').next());
            let id: RawId = id.unwrap_or_default().parse().map_err(|_| "a proposal of nothing")?;
            let record = present.ledger.records.get(&id);
            let is_open = record
                .is_none_or(|r| r.rank() < order || (r.order == order && r.state == State::Held));
            if is_open {
                for file in &self.proposal(world, &id, order).await?.files {
                    exists(lake, &file.path, file.bytes).await?;
                }
            }
        }
        Ok(())
    }

    async fn proposal(
        &mut self,
        world: &World,
        id: &RawId,
        order: Order,
    ) -> Result<Arc<Proposal>, String> {
        let at = (id.clone(), order);
        if let Some(known) = self.proposals.get(&at) {
            return Ok(known.clone());
        }
        let key = keys::proposal(&dataset(), id, order);
        let (_, bytes) = world.lake.get(&key).await.map_err(|e| format!("PUB-1: {e}"))?;
        let mut proposal: Proposal =
            serde_json::from_slice(&bytes).map_err(|e| format!("{key}: {e}"))?;
        proposal.profile = None;
        let proposal = Arc::new(proposal);
        self.proposals.insert(at, proposal.clone());
        Ok(proposal)
    }
}

async fn exists(lake: &MemoryStore, path: &str, bytes: u64) -> Result<(), String> {
    let base = lake.uri("");
    let key = path.strip_prefix(&base).unwrap_or(path);
    let there = lake.head(key, None).await.is_ok_and(|m| m.size == bytes);
    ensure(there, || format!("PUB-4: {key} is missing or of another size"))
}
