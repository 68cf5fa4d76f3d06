//! Held proposals: finding them in the ledger, and deciding on them.
//!
//! Guarantees: of two decisions on a proposal one is made, and whoever comes second is told of it; what is decided stands in the
//! lake before anybody is asked to obey it. To obey it is promote's work, so a decision's message is sent after it, and
//! again when the same is decided once more: a death between the two loses nothing. What may not be decided is a
//! [`Refusal`]; any other failure leaves it open whether it was decided, and doing it again tells.

use std::collections::BTreeSet;

use sluicegate_contract::Reupload;
use sluicegate_lake::cas::{Creation, Writer};
use sluicegate_lake::{Ambient, Dataset, Order, RawId, Source, Store, keys, list_all};

use crate::commit::{CommitError, raw_ids_of, read_decision, read_proposal};
use crate::contracts::current_contract;
use crate::ledger::{Record, State};
use crate::proposal::{Decision, Proposal, Ruling};
use crate::view::View;

/// Why a proposal is not decided on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("nothing is staged of {0}: there is no such raw object, or it waits")]
    Unknown(RawId),
    #[error("{0} is staged and not yet promoted: it is pending")]
    Pending(RawId),
    #[error("{0} is {state}, not held", state = .1.word())]
    NotHeld(RawId, State),
    #[error("{raw_id} is decided: {decision} ({at})", at = .decision.at)]
    Decided { raw_id: RawId, decision: Box<Decision> },
    #[error("{raw_id} was staged again: {recorded} is what is held now, not {asked}")]
    StagedAgain { raw_id: RawId, asked: Order, recorded: Order },
    #[error("a newer version of {0} is published: {1}")]
    NewerVersion(Source, RawId),
    #[error("another version of {0} is published, and its contract takes no second one: {1}")]
    OtherVersion(Source, RawId),
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] CommitError),
}

/// What a person wants of a held proposal.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub raw_id: &'a RawId,
    /// The staging that was looked at; the one that is recorded where nobody says.
    pub order: Option<Order>,
    pub ruling: Ruling,
    pub by: &'a str,
    pub why: &'a str,
}

/// A proposal with what was decided on it so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    pub proposal: Proposal,
    pub decision: Option<Decision>,
    /// What the ledger says; `None` while it is pending.
    pub record: Option<Record>,
}

/// What is held of a dataset, oldest first, from those pages of the ledger alone that have some.
pub async fn list(store: &dyn Store, dataset: &Dataset) -> Result<Vec<Record>, CommitError> {
    let mut view = View::open(store, dataset).await?;
    let has_some =
        |i: &usize| view.root.pages.get(*i).is_some_and(|p| p.states.contains_key(&State::Held));
    let pages = (0..view.root.pages.len()).filter(has_some).collect();
    view.load(store, dataset, pages).await?;
    Ok(view.ledger.records.into_values().filter(|r| r.state == State::Held).collect())
}

/// The versions of a source that are recorded, oldest first.
pub async fn versions(
    store: &dyn Store,
    dataset: &Dataset,
    source: &Source,
) -> Result<Vec<Record>, CommitError> {
    let mut view = View::open(store, dataset).await?;
    versions_in(&mut view, store, dataset, source).await
}

/// The proposal that a raw object is recorded by, or its latest while it is pending; `None` if it has none.
pub async fn evidence(
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
) -> Result<Option<Evidence>, CommitError> {
    let mut view = View::open(store, dataset).await?;
    let record = record(&mut view, store, dataset, raw_id).await?;
    let order = match &record {
        Some(record) => Some(record.order),
        None => latest(store, dataset, raw_id).await?,
    };
    let Some(order) = order else { return Ok(None) };
    let proposal = read_proposal(store, dataset, raw_id, order).await?;
    let decision = read_decision(store, dataset, raw_id, order).await?;
    Ok(Some(Evidence { proposal, decision, record }))
}

/// Decides on a held proposal; answers with its record and with what is decided, which may have been so before.
pub async fn decide(
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    request: &Request<'_>,
) -> Result<(Record, Decision), DecideError> {
    let Request { raw_id, order, ruling, by, why } = *request;
    let mut view = View::open(store, dataset).await?;
    let Some(record) = record(&mut view, store, dataset, raw_id).await? else {
        let staged = latest(store, dataset, raw_id).await?.is_some();
        let refusal = if staged { Refusal::Pending } else { Refusal::Unknown };
        return Err(refusal(raw_id.clone()).into());
    };
    let agree = |decision: Decision| {
        if decision.ruling == ruling {
            return Ok((record.clone(), decision));
        }
        Err(Refusal::Decided { raw_id: raw_id.clone(), decision: Box::new(decision) }.into())
    };
    if let Some(asked) = order.filter(|asked| *asked != record.order) {
        let (raw_id, recorded) = (raw_id.clone(), record.order);
        return Err(if asked < recorded {
            Refusal::StagedAgain { raw_id, asked, recorded }.into()
        } else {
            Refusal::Pending(raw_id).into()
        });
    }
    if let Some(decision) = &record.decision {
        let decision = Box::new(decision.clone());
        return Err(Refusal::Decided { raw_id: raw_id.clone(), decision }.into());
    }
    if record.state != State::Held {
        return Err(Refusal::NotHeld(raw_id.clone(), record.state).into());
    }
    if let Some(decision) = read_decision(store, dataset, raw_id, record.order).await? {
        return agree(decision);
    }
    if ruling == Ruling::Released {
        let versions = versions_in(&mut view, store, dataset, &record.source).await?;
        match current_contract(store, dataset).await.map_err(CommitError::from)? {
            Some((_, version)) => {
                let contract =
                    version.contract().map_err(|e| CommitError::Contract(e.to_string()))?;
                obstacle(&record, &versions, contract.reupload).map_or(Ok(()), Err)?;
            }
            None => return Err(CommitError::Contract(format!("{dataset} has none")).into()),
        }
    }
    let decision = Decision {
        v: Decision::FORMAT,
        ruling,
        by: by.to_owned(),
        why: why.to_owned(),
        at: ambient.now(),
    };
    let key = keys::decision(dataset, raw_id, record.order);
    let body = serde_json::to_vec(&decision).map_err(|e| CommitError::Corrupt(e.to_string()))?;
    let created = Writer::new(store, ambient).create(&key, body).await;
    match created.map_err(CommitError::from)? {
        Creation::Made => Ok((record, decision)),
        Creation::Found(_) => match read_decision(store, dataset, raw_id, record.order).await? {
            Some(theirs) => agree(theirs),
            None => Err(CommitError::Corrupt(format!("{key} came and went")).into()),
        },
    }
}

/// Why a release would not be published.
fn obstacle(record: &Record, versions: &[Record], reupload: Reupload) -> Option<Refusal> {
    let mut others =
        versions.iter().filter(|r| r.state == State::Published && r.raw_id != record.raw_id);
    match reupload {
        // Its rows are in the table: an identical newer version took its files over while the contract said `replace`.
        Reupload::Append => others
            .find(|other| other.files_of.as_ref().is_some_and(|(id, _)| *id == record.raw_id))
            .map(|newer| Refusal::NewerVersion(record.source.clone(), newer.raw_id.clone())),
        Reupload::Replace => others
            .find(|other| other.upload_rank() > record.upload_rank())
            .map(|newer| Refusal::NewerVersion(record.source.clone(), newer.raw_id.clone())),
        Reupload::Reject => others
            .next()
            .map(|other| Refusal::OtherVersion(record.source.clone(), other.raw_id.clone())),
    }
}

async fn record(
    view: &mut View,
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
) -> Result<Option<Record>, CommitError> {
    let page = view.root.page_of(raw_id).into_iter().collect();
    view.load(store, dataset, page).await?;
    Ok(view.ledger.records.get(raw_id).cloned())
}

async fn versions_in(
    view: &mut View,
    store: &dyn Store,
    dataset: &Dataset,
    source: &Source,
) -> Result<Vec<Record>, CommitError> {
    let ids = raw_ids_of(store, dataset, source).await?;
    let pages: BTreeSet<usize> = ids.iter().filter_map(|id| view.root.page_of(id)).collect();
    view.load(store, dataset, pages).await?;
    let records = view.ledger.records.values().filter(|r| r.source == *source);
    let mut versions: Vec<Record> = records.cloned().collect();
    versions.sort_by_cached_key(Record::upload_rank);
    Ok(versions)
}

/// The highest order that a raw object is staged at.
async fn latest(
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
) -> Result<Option<Order>, CommitError> {
    let staged = list_all(store, &keys::proposals(dataset, raw_id)).await?;
    Ok(staged.iter().filter_map(|o| keys::parse_proposal(&o.key)).max())
}
