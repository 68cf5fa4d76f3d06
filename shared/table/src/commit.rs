//! The commit: one new snapshot for a group of proposals, by one conditional write.
//!
//! At every attempt, in this order: read the pointer and what it leads to, then list each source's versions, look for
//! decisions, plan, check the invariants, write the new tree beside the old one, and swap the pointer. Listing comes
//! after reading so that a version that somebody published in between loses the swap rather than being overlooked.
//! A lost race starts over from the pointer; nothing is ever staged again, and nothing is cleaned up after a loss.
//!
//! Guarantee: `Ok` means that every proposal of the group is in the ledger at its order or above, in this snapshot or in
//! one before it. What an error means for the group, [`CommitError::remedy`] says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use sluicegate_contract::{Contract, Reupload, Version};
use sluicegate_lake::cas::{Backoff, Swap, Writer};
use sluicegate_lake::{
    Ambient, Dataset, Expected, Order, RawId, Source, Store, StoreError, keys, list_all,
};
use tokio::sync::{Mutex, MutexGuard};

use crate::bill::Bill;
use crate::budget::{Month, Standing};
use crate::changes::Change;
use crate::contracts::{ContractError, current_contract};
use crate::iceberg::FormatError;
use crate::invariants::{self, Invariant, Violation};
use crate::ledger::Record;
use crate::plan::{Incoming, NoPlan, Older, Plan, Policy, plan};
use crate::proposal::{Decision, Proposal};
use crate::tree::PAGE_WEIGHT;
use crate::view::View;
use crate::write::NewTree;

/// Requests under way at once for one commit.
pub(crate) const AT_ONCE: usize = 16;

/// How much of the table's pages one commit of several messages reads, and how much it adds to them, in bytes (see
/// [`CommitError::Wide`]). In memory it takes about six times that, and promote has half a gigabyte.
const WIDEST: u64 = 24 << 20;

/// Commits that read less go on beside each other.
const SMALL: u64 = 4 << 20;

/// How long an attempt may take to write its tree: what is older and was never swapped in may be collected a day later. A
/// machine that sleeps in between wakes to a lost race.
const LONGEST_ATTEMPT: SignedDuration = SignedDuration::from_hours(1);

/// A proposal that a message asks to be promoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub source: Source,
    pub raw_id: RawId,
    pub order: Order,
}

/// What a commit came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The new snapshot's number; `None` where nothing had to change.
    pub number: Option<i64>,
    /// The name that the pointer holds, also where nothing had to change; `None` where there is no table.
    pub file: Option<String>,
    /// How often the pointer was tried.
    pub attempts: u32,
    /// The ledger's records of what was wanted, and whether this commit changed them.
    pub records: Vec<(Record, bool)>,
    /// Partitions that were restated.
    pub restated: u64,
    /// When the pointer was swapped.
    pub swapped_at: Option<Timestamp>,
    /// What was spent this month, the new snapshot included; `None` where nothing had to change.
    pub month: Option<Standing>,
}

/// Why there is no new snapshot.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{raw_id} at {order}: {reason}")]
    Poison { raw_id: RawId, order: Order, reason: String },
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("the race for the pointer was lost {0} times")]
    Contended(u32),
    #[error("the table cannot be read: {0}")]
    Corrupt(String),
    #[error("the table cannot be read or written: {0}")]
    Format(#[from] FormatError),
    #[error("the dataset's contract cannot be read: {0}")]
    Contract(String),
    /// A group that is scattered over the table, or has very many files, is committed in parts: memory would not hold all.
    #[error("{0} messages are about {1} bytes of the table's pages, more than one commit may be")]
    Wide(usize, u64),
}

impl From<ContractError> for CommitError {
    fn from(error: ContractError) -> Self {
        match error {
            ContractError::Store(error) => Self::Store(error),
            other => Self::Contract(other.to_string()),
        }
    }
}

/// What to do about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The whole group goes back to the queue: later it may succeed.
    Return,
    /// The messages that ask for this proposal fail, the others are tried again without them.
    Without(RawId, Order),
    /// Some message of the group is to blame, or their number: try halves.
    Bisect,
}

impl CommitError {
    /// What to do.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Poison { raw_id, order, .. } => Remedy::Without(raw_id.clone(), *order),
            Self::Violation(_) | Self::Format(_) | Self::Wide(..) => Remedy::Bisect,
            // The table or the store is to blame, not a message.
            Self::Store(_) | Self::Contended(_) | Self::Corrupt(_) | Self::Contract(_) => {
                Remedy::Return
            }
        }
    }
}

/// What does not change between attempts.
#[derive(Default)]
struct Known {
    proposals: BTreeMap<(RawId, Order), Proposal>,
    /// New data files that were seen to exist.
    seen: BTreeSet<String>,
}

/// Commits a group of one dataset's proposals.
pub async fn commit(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    wanted: &[Wanted],
) -> Result<Report, CommitError> {
    commit_with(store, ambient, dataset, wanted, Options::default()).await
}

/// How a group is committed.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Records or files that a page holds: small pages let a test have a deep table of few files.
    pub page_weight: usize,
    /// Bytes of pages that a commit of several messages may be about.
    pub widest: u64,
    /// Held by the one commit at a time that is about more than a few pages.
    pub large: Option<&'a Mutex<()>>,
    /// When no further attempt is begun.
    pub until: Option<Timestamp>,
    /// What the snapshot's summary says of its cost.
    pub bill: Option<Bill<'a>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { page_weight: PAGE_WEIGHT, widest: WIDEST, large: None, until: None, bill: None }
    }
}

/// What of the table an attempt holds in memory, and may.
struct Room<'a> {
    options: Options<'a>,
    messages: usize,
    /// Pages that one message needs: halving its group does not make them fewer.
    alone: usize,
    large: Option<MutexGuard<'a, ()>>,
}

impl<'a> Room<'a> {
    fn new(options: Options<'a>, wanted: &[Wanted], view: &View) -> Self {
        let alone = view.root.pages_for(wanted.first().map(|w| &w.raw_id)).len();
        Self { options, messages: wanted.len(), alone, large: None }
    }

    /// Before these pages are read, those that were read before among them.
    async fn take(&mut self, view: &View, pages: &BTreeSet<usize>) -> Result<(), CommitError> {
        let bytes = view.bytes_of(pages);
        self.may_hold(if pages.len() > self.alone { bytes } else { 0 })?;
        if let (Some(large), None) = (self.options.large, &self.large)
            && bytes > SMALL
        {
            self.large = Some(large.lock().await);
        }
        Ok(())
    }

    /// Whether so much may be read of the table, or added to it.
    fn may_hold(&self, bytes: u64) -> Result<(), CommitError> {
        let is_wide = self.messages > 1 && bytes > self.options.widest;
        if is_wide { Err(CommitError::Wide(self.messages, bytes)) } else { Ok(()) }
    }
}

/// As [`commit`], otherwise than by default.
pub async fn commit_with(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    wanted: &[Wanted],
    options: Options<'_>,
) -> Result<Report, CommitError> {
    let mut known = Known::default();
    patiently(ambient, options.until, async |attempts| {
        let report = attempt(store, ambient, dataset, wanted, options, &mut known).await?;
        Ok::<_, CommitError>(report.map(|report| Report { attempts, ..report }))
    })
    .await
}

/// Attempts until one is not a lost race, or it is too late for another; they are counted from 1.
pub(crate) async fn patiently<T, E: From<CommitError>>(
    ambient: &dyn Ambient,
    until: Option<Timestamp>,
    mut attempt: impl AsyncFnMut(u32) -> Result<Option<T>, E>,
) -> Result<T, E> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt(attempts).await? {
            Some(done) => return Ok(done),
            None if until.is_none_or(|until| ambient.now() < until)
                && Backoff::COMMIT.wait(attempts, ambient).await => {}
            None => return Err(CommitError::Contended(attempts).into()),
        }
    }
}

/// One attempt; `None` when the race was lost.
async fn attempt(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    wanted: &[Wanted],
    options: Options<'_>,
    known: &mut Known,
) -> Result<Option<Report>, CommitError> {
    let Options { page_weight, bill, .. } = options;
    let mut view = View::open(store, dataset).await?;
    let mut room = Room::new(options, wanted, &view);
    let mut pages = view.root.pages_for(wanted.iter().map(|w| &w.raw_id));
    room.take(&view, &pages).await?;
    pages.extend(view.root.small_beside(&pages, page_weight));
    view.load(store, dataset, pages).await?;
    let known_as = |w: &Wanted| view.ledger.records.get(&w.raw_id);
    let is_news = |w: &&Wanted| known_as(w).is_none_or(|record| record.rank() < w.order);
    let is_held =
        |w: &&Wanted| known_as(w).is_some_and(|r| r.order == w.order && r.awaits_decision());
    let mut news: BTreeSet<&Wanted> = wanted.iter().filter(is_news).collect();
    // Of what is held, a message is news once somebody has decided.
    let held: BTreeSet<&Wanted> = wanted.iter().filter(is_held).collect();
    let mut decisions = read_decisions(store, dataset, held).await?;
    news.extend(decisions.keys());
    if news.is_empty() {
        return Ok(Some(report(&view, &Plan::nothing(&view), wanted, None)));
    }
    let versions = list_versions(store, dataset, &news).await?;
    let proposals = read_proposals(store, dataset, &news, known, &room).await?;
    let unread = proposals.iter().filter(|(w, p)| p.is_held() && !decisions.contains_key(w));
    let unread = unread.map(|(w, _)| *w).collect();
    decisions.extend(read_decisions(store, dataset, unread).await?);
    let incoming: Vec<Incoming> = proposals
        .into_iter()
        .map(|(w, proposal)| Incoming { proposal, decision: decisions.get(w).cloned() })
        .collect();
    let (version, contract) = governing(store, dataset, "something of it was staged").await?;
    let policy = Policy {
        reupload: contract.reupload,
        allowed_lateness: contract.allowed_lateness,
        late_files: contract.late_files,
    };
    let mut described: u64 = known.proposals.values().map(Proposal::described_in).sum();
    let (mut older, mut depth) = (Older::new(), 1);
    let plan = loop {
        match plan(&view, &incoming, &versions, &older, policy, ambient.now()) {
            Ok(plan) => break plan,
            Err(NoPlan::Needs(missing)) => {
                let read = futures::stream::iter(missing).map(|(id, order)| async move {
                    let proposal = read_open(store, dataset, &id, order).await?;
                    Ok::<_, CommitError>(((id, order), proposal))
                });
                let mut read = read.buffer_unordered(AT_ONCE);
                while let Some((id, proposal)) = read.try_next().await? {
                    described += proposal.as_ref().map_or(0, Proposal::described_in);
                    room.may_hold(described)?;
                    older.insert(id, proposal);
                }
            }
            // Twice as far back each time: mostly the version before is the one that is published.
            Err(NoPlan::Unseen(sources)) => {
                let mut pages = view.loaded.clone();
                pages.extend(sources.iter().flat_map(|pages| pages.iter().take(depth)));
                depth *= 2;
                room.take(&view, &pages).await?;
                view.load(store, dataset, pages).await?;
            }
        }
    };
    if plan.is_empty() {
        return Ok(Some(report(&view, &plan, wanted, None)));
    }
    let publication = Publication {
        store,
        ambient,
        dataset,
        view: &view,
        plan: &plan,
        version: &version,
        contract: &contract,
        page_weight,
        reupload: policy.reupload,
        summary: BTreeMap::new(),
        bill,
    };
    let published = publication.publish(&mut known.seen).await?;
    Ok(published.map(|published| Report {
        file: Some(published.file),
        swapped_at: Some(published.at),
        month: Some(published.month.beside(contract.budget)),
        ..report(&view, &plan, wanted, Some(published.number))
    }))
}

/// A plan, with all that publishing it takes.
pub(crate) struct Publication<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) ambient: &'a dyn Ambient,
    pub(crate) dataset: &'a Dataset,
    pub(crate) view: &'a View,
    pub(crate) plan: &'a Plan,
    pub(crate) version: &'a Version,
    pub(crate) contract: &'a Contract,
    pub(crate) page_weight: usize,
    /// What SRC-1 is held against.
    pub(crate) reupload: Reupload,
    /// What the snapshot's summary says besides.
    pub(crate) summary: BTreeMap<String, String>,
    pub(crate) bill: Option<Bill<'a>>,
}

/// A plan that was published.
pub(crate) struct Published {
    pub(crate) number: i64,
    /// The name that the pointer holds.
    pub(crate) file: String,
    pub(crate) at: Timestamp,
    pub(crate) month: Month,
}

impl Publication<'_> {
    /// Checks the plan, writes the new tree and swaps the pointer; `None` when the race was lost. `seen` are data files
    /// that are known to exist.
    pub(crate) async fn publish(
        self,
        seen: &mut BTreeSet<String>,
    ) -> Result<Option<Published>, CommitError> {
        let Self { store, ambient, dataset, view, plan, page_weight, bill, .. } = self;
        invariants::check(view, plan, self.reupload)?;
        files_exist(store, plan, seen).await?;
        let number = view.number() + 1;
        let (writer, began) = (Writer::new(store, ambient), ambient.now());
        let (writer, summary) = (&writer, &self.summary);
        let tree =
            NewTree { writer, store, dataset, view, plan, number, page_weight, summary, bill };
        let (file, month) = tree.write(self.contract, self.version, ambient.now()).await?;
        let swapped = swap(writer, ambient, began, dataset, view, file.clone()).await?;
        Ok((swapped == Swap::Done).then(|| Published { number, file, at: ambient.now(), month }))
    }
}

/// A dataset's contract and its version. It has one, says `though`.
pub(crate) async fn governing(
    store: &dyn Store,
    dataset: &Dataset,
    though: &str,
) -> Result<(Version, Contract), CommitError> {
    let (_, version) = current_contract(store, dataset)
        .await?
        .ok_or_else(|| CommitError::Contract(format!("{dataset} has none, though {though}")))?;
    let contract = version.contract().map_err(|e| CommitError::Contract(e.to_string()))?;
    Ok((version, contract))
}

/// Swaps the pointer that a view was read by. What `began` too long ago has lost: its objects may be collected.
pub(crate) async fn swap(
    writer: &Writer<'_>,
    ambient: &dyn Ambient,
    began: Timestamp,
    dataset: &Dataset,
    view: &View,
    file: String,
) -> Result<Swap, StoreError> {
    if ambient.now().duration_since(began) > LONGEST_ATTEMPT {
        return Ok(Swap::Lost);
    }
    let expected = view.pointer.clone().map_or(Expected::Nothing, Expected::Tag);
    writer.swap(&keys::table_pointer(dataset), Bytes::from(file), &expected).await
}

impl Plan {
    /// The plan that leaves a table as it is.
    fn nothing(view: &View) -> Self {
        Self {
            ledger: view.ledger.clone(),
            added: Vec::new(),
            removed: BTreeSet::new(),
            partitions: Vec::new(),
            changed: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }
}

fn report(view: &View, plan: &Plan, wanted: &[Wanted], number: Option<i64>) -> Report {
    let records = wanted.iter().filter_map(|w| {
        let record = plan.ledger.records.get(&w.raw_id)?;
        Some((record.clone(), view.ledger.records.get(&w.raw_id) != Some(record)))
    });
    let restated = plan.partitions.iter().filter(|p| p.change == Change::Restated).count();
    Report {
        number,
        file: view.file.clone(),
        attempts: 0,
        records: records.collect(),
        restated: restated as u64,
        swapped_at: None,
        month: None,
    }
}

/// All versions of a source, promoted or not.
pub(crate) async fn raw_ids_of(
    store: &dyn Store,
    dataset: &Dataset,
    source: &Source,
) -> Result<BTreeSet<RawId>, StoreError> {
    let listed = list_all(store, &keys::raw_of_source(dataset, source)).await?;
    let named = listed.iter().filter_map(|object| keys::parse_raw(&object.key));
    Ok(named.map(|(_, _, id)| id).collect())
}

async fn list_versions(
    store: &dyn Store,
    dataset: &Dataset,
    news: &BTreeSet<&Wanted>,
) -> Result<BTreeMap<Source, BTreeSet<RawId>>, CommitError> {
    let sources: BTreeSet<Source> = news.iter().map(|w| w.source.clone()).collect();
    let listed = futures::stream::iter(sources).map(|source| async move {
        let ids = raw_ids_of(store, dataset, &source).await?;
        Ok::<_, CommitError>((source, ids))
    });
    let mut versions: BTreeMap<Source, BTreeSet<RawId>> =
        listed.buffer_unordered(AT_ONCE).try_collect().await?;
    for w in news {
        versions.entry(w.source.clone()).or_default().insert(w.raw_id.clone());
    }
    Ok(versions)
}

/// Reads the proposals, each once for all attempts.
async fn read_proposals<'a>(
    store: &dyn Store,
    dataset: &Dataset,
    news: &BTreeSet<&'a Wanted>,
    known: &mut Known,
    room: &Room<'_>,
) -> Result<Vec<(&'a Wanted, Proposal)>, CommitError> {
    let missing: Vec<&Wanted> = news
        .iter()
        .filter(|w| !known.proposals.contains_key(&(w.raw_id.clone(), w.order)))
        .copied()
        .collect();
    let mut read = futures::stream::iter(missing)
        .map(|w| async move {
            let proposal = read_proposal(store, dataset, &w.raw_id, w.order).await?;
            let same = proposal.raw_id == w.raw_id
                && proposal.order == w.order
                && proposal.source == w.source
                && proposal.dataset == *dataset;
            if same {
                Ok(proposal.without_columns())
            } else {
                Err(poison(&w.raw_id, w.order, "the proposal is of another raw object"))
            }
        })
        .buffer_unordered(AT_ONCE);
    let mut described: u64 = known.proposals.values().map(Proposal::described_in).sum();
    while let Some(proposal) = read.try_next().await? {
        described += proposal.described_in();
        room.may_hold(described)?;
        known.proposals.insert((proposal.raw_id.clone(), proposal.order), proposal);
    }
    let proposal = |w: &Wanted| known.proposals.get(&(w.raw_id.clone(), w.order)).cloned();
    Ok(news.iter().filter_map(|w| Some((*w, proposal(w)?))).collect())
}

/// What people decided, read anew at every attempt.
async fn read_decisions<'a>(
    store: &dyn Store,
    dataset: &Dataset,
    held: BTreeSet<&'a Wanted>,
) -> Result<BTreeMap<&'a Wanted, Decision>, CommitError> {
    let read: Vec<_> = futures::stream::iter(held)
        .map(|w| async move {
            let decision = read_decision(store, dataset, &w.raw_id, w.order).await?;
            Ok::<_, CommitError>(decision.map(|decision| (w, decision)))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(read.into_iter().flatten().collect())
}

fn poison(raw_id: &RawId, order: Order, reason: impl Into<String>) -> CommitError {
    CommitError::Poison { raw_id: raw_id.clone(), order, reason: reason.into() }
}

pub(crate) async fn read_proposal(
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
    order: Order,
) -> Result<Proposal, CommitError> {
    let key = keys::proposal(dataset, raw_id, order);
    let (_, bytes) = match store.get(&key).await {
        Err(StoreError::Absent { .. }) => {
            return Err(poison(raw_id, order, format!("{key} is absent")));
        }
        read => read?,
    };
    let proposal: Proposal =
        serde_json::from_slice(&bytes).map_err(|e| poison(raw_id, order, format!("{key}: {e}")))?;
    if proposal.v != Proposal::FORMAT {
        return Err(poison(raw_id, order, format!("{key}: format {} is not known", proposal.v)));
    }
    Ok(proposal)
}

pub(crate) async fn read_decision(
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
    order: Order,
) -> Result<Option<Decision>, CommitError> {
    let key = keys::decision(dataset, raw_id, order);
    let (_, bytes) = match store.get(&key).await {
        Err(StoreError::Absent { .. }) => return Ok(None),
        read => read?,
    };
    let decision: Decision =
        serde_json::from_slice(&bytes).map_err(|e| poison(raw_id, order, format!("{key}: {e}")))?;
    if decision.v != Decision::FORMAT {
        return Err(poison(raw_id, order, format!("{key}: format {} is not known", decision.v)));
    }
    Ok(Some(decision))
}

/// An older proposal that is to be published again; `None` if it is closed. Read after the pointer at every attempt: whoever
/// closes it deletes nothing until the attempts of that time are over.
async fn read_open(
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
    order: Order,
) -> Result<Option<Proposal>, CommitError> {
    match store.head(&keys::closing(dataset, raw_id, order), None).await {
        Ok(_) => Ok(None),
        Err(StoreError::Absent { .. }) => {
            let proposal = read_proposal(store, dataset, raw_id, order).await?;
            Ok(Some(proposal.without_columns()))
        }
        Err(error) => Err(error.into()),
    }
}

/// PUB-4: looks every new data file up, once.
async fn files_exist(
    store: &dyn Store,
    plan: &Plan,
    seen: &mut BTreeSet<String>,
) -> Result<(), CommitError> {
    let base = store.uri("");
    let unseen = plan.added.iter().map(|(_, f)| f).filter(|f| !seen.contains(&f.path));
    let checked: Vec<String> = futures::stream::iter(unseen.cloned().collect::<Vec<_>>())
        .map(|file| {
            let key = file.path.strip_prefix(&base).unwrap_or(&file.path).to_owned();
            async move {
                match store.head(&key, None).await {
                    Ok(meta) if meta.size == file.bytes => Ok(file.path),
                    Ok(meta) => {
                        Err(pub_4(format!("{key} has {} bytes, not {}", meta.size, file.bytes)))
                    }
                    Err(StoreError::Absent { .. }) => Err(pub_4(format!("{key} is absent"))),
                    Err(error) => Err(error.into()),
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    seen.extend(checked);
    Ok(())
}

fn pub_4(detail: String) -> CommitError {
    Violation { invariant: Invariant::Pub4, detail }.into()
}
