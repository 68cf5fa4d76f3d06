//! Landing a contract: kept, linted, numbered, stored, made current; then what waited for it is staged.

use sluicegate_contract::diff::Change;
use sluicegate_contract::{Contract, Finding, Version, VersionError};
use sluicegate_lake::cas::{Backoff, Creation, Swap, Writer};
use sluicegate_lake::{CopySource, Dataset, Expected, RawId, StoreError, keys, list_all};
use sluicegate_runtime::{HandlerError, StageMessage, Summary};
use sluicegate_table::{ContractError, current_contract};

use crate::Land;

impl Land {
    /// Lands one upload of a contract; answers with the raw objects that waited for it.
    pub(crate) async fn land_contract(
        &self,
        dataset: &Dataset,
        from: &CopySource,
        id: RawId,
        summary: &mut Summary,
    ) -> Result<Vec<StageMessage>, HandlerError> {
        let kept = keys::contract_upload(dataset, &id);
        let writer = Writer::new(&*self.lake, &*self.ambient);
        writer.copy(from, &kept, [].into()).await?;
        if from.size > Contract::SIZE_LIMIT {
            let why =
                format!("{} bytes; a contract has at most {}", from.size, Contract::SIZE_LIMIT);
            let why = Refused { why, ..Refused::default() };
            self.report_refusal(&writer, dataset, &id, &why, summary).await?;
            return Ok(Vec::new());
        }
        let (_, document) = self.lake.get(&kept).await?;
        let mut tried = 0;
        let current = loop {
            tried += 1;
            match self.make_current(dataset, &document, &id).await? {
                Attempt::Current(version) => break version,
                Attempt::Refused(why) => {
                    self.report_refusal(&writer, dataset, &id, &why, summary).await?;
                    return Ok(Vec::new());
                }
                Attempt::Lost if Backoff::COMMIT.wait(tried, &*self.ambient).await => {}
                Attempt::Lost => {
                    return Err(HandlerError::new("the contract's pointer is contended"));
                }
            }
        };
        summary.outcomes.contracts_landed += 1;
        // Only a dataset's first contract can have been waited for, and only its own event, first or repeated, sends what
        // did: uploading the same contract later must not stage everything again.
        if current.sequence > 1 || current.upload != id.as_str() {
            return Ok(Vec::new());
        }
        let waiting = list_all(&*self.lake, &keys::raw_of_dataset(dataset)).await?;
        let waiting = waiting.iter().filter_map(|object| keys::parse_raw(&object.key));
        Ok(waiting.map(|(dataset, source, id)| StageMessage::fresh(dataset, source, id)).collect())
    }

    async fn report_refusal(
        &self,
        writer: &Writer<'_>,
        dataset: &Dataset,
        id: &RawId,
        refused: &Refused,
        summary: &mut Summary,
    ) -> Result<(), HandlerError> {
        summary.outcomes.contracts_refused += 1;
        tracing::warn!(%dataset, why = refused.why, "contract refused");
        let report = serde_json::json!({
            "v": 1,
            "upload": id,
            "dataset": dataset,
            "why": refused.why,
            "findings": refused.findings,
            "breaking": refused.breaking,
        });
        writer.create(&keys::contract_refusal(dataset, id), report.to_string()).await?;
        Ok(())
    }

    async fn make_current(
        &self,
        dataset: &Dataset,
        document: &[u8],
        id: &RawId,
    ) -> Result<Attempt, HandlerError> {
        let (tag, previous) = match current_contract(&*self.lake, dataset).await.map_err(broken)? {
            Some((tag, version)) => (Expected::Tag(tag), Some(version)),
            None => (Expected::Nothing, None),
        };
        let next = match Version::next(document, previous.as_ref(), id.as_str()) {
            Err(error) => return self.refused(dataset, error, id).await,
            Ok(None) => return Ok(previous.map_or(Attempt::Lost, Attempt::Current)),
            Ok(Some(next)) => next,
        };
        let writer = Writer::new(&*self.lake, &*self.ambient);
        let name = self.store_version(&writer, dataset, &next).await?;
        let pointer = serde_json::to_vec(&next.pointer(&name))?;
        let swapped = writer.swap(&keys::contract_pointer(dataset), pointer.into(), &tag).await?;
        Ok(match swapped {
            Swap::Done => Attempt::Current(next),
            Swap::Lost => Attempt::Lost,
        })
    }
}

impl Land {
    /// Refuses a document, unless this very upload had made it current before and somebody else has gone on since: then
    /// its event is a repetition, and what waited for it may still have to be sent.
    async fn refused(
        &self,
        dataset: &Dataset,
        error: VersionError,
        id: &RawId,
    ) -> Result<Attempt, HandlerError> {
        let VersionError::Lower { new: version, .. } = &error else {
            return Ok(Attempt::Refused(error.into()));
        };
        match self.lake.get(&keys::contract(dataset, version)).await {
            Ok((_, bytes)) => {
                let there: Version = serde_json::from_slice(&bytes)?;
                let own = there.upload == id.as_str();
                Ok(if own { Attempt::Current(there) } else { Attempt::Refused(error.into()) })
            }
            Err(StoreError::Absent { .. }) => Ok(Attempt::Refused(error.into())),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a version; answers with the name of its object.
    ///
    /// A version above the current one was never current, so an object that has its name already is of an attempt that
    /// was given up, or of a rival who is about to lose the pointer. Versions depend on what came before them, so
    /// even this upload's own earlier attempt may have stored another.
    async fn store_version(
        &self,
        writer: &Writer<'_>,
        dataset: &Dataset,
        next: &Version,
    ) -> Result<String, HandlerError> {
        let body = serde_json::to_vec(next)?;
        let key = keys::contract(dataset, &next.version);
        if let Creation::Found(_) = writer.create(&key, body.clone()).await? {
            let there: Version = serde_json::from_slice(&self.lake.get(&key).await?.1)?;
            if there != *next {
                let name = format!("{}-{}", next.version, writer.attempt());
                writer.create(&keys::contract(dataset, &name), body).await?;
                return Ok(name);
            }
        }
        Ok(next.version.clone())
    }
}

/// What one try at making a document current came to.
enum Attempt {
    Current(Version),
    Refused(Refused),
    Lost,
}

/// Why a document was refused: for people, and in parts for machines.
#[derive(Default)]
struct Refused {
    why: String,
    /// Where its language is wrong.
    findings: Vec<Finding>,
    /// What it would break.
    breaking: Vec<Change>,
}

impl From<VersionError> for Refused {
    fn from(error: VersionError) -> Self {
        let why = error.to_string();
        match error {
            VersionError::Lint(findings) | VersionError::Unreadable { findings, .. } => {
                Self { why, findings: findings.0, ..Self::default() }
            }
            VersionError::Breaking(refusal) => {
                Self { why, breaking: refusal.breaking, ..Self::default() }
            }
            VersionError::Published(_) | VersionError::Lower { .. } => {
                Self { why, ..Self::default() }
            }
        }
    }
}

fn broken(error: ContractError) -> HandlerError {
    HandlerError::new(error.to_string())
}
