//! Landing a contract: kept, linted, numbered, stored, made current; then what waited for it is staged.

use sluicegate_contract::Version;
use sluicegate_lake::cas::{Backoff, Creation, Swap, Writer};
use sluicegate_lake::{CopySource, Dataset, Expected, RawId, keys, list_all};
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
        let (_, document) = self.lake.get(&kept).await?;
        let mut tried = 0;
        let current = loop {
            tried += 1;
            match self.make_current(dataset, &document, &id).await? {
                Attempt::Current(version) => break version,
                Attempt::Refused(why) => {
                    summary.outcomes.contracts_refused += 1;
                    tracing::warn!(%dataset, why, "contract refused");
                    let report =
                        serde_json::json!({"v": 1, "upload": id, "dataset": dataset, "why": why});
                    let key = keys::contract_refusal(dataset, &id);
                    writer.create(&key, report.to_string()).await?;
                    return Ok(Vec::new());
                }
                Attempt::Lost if Backoff::COMMIT.wait(tried, &*self.ambient).await => {}
                Attempt::Lost => {
                    return Err(HandlerError::new("the contract's pointer is contended"));
                }
            }
        };
        summary.outcomes.contracts_landed += 1;
        // Only a dataset's first contract can have been waited for, and only its own event, first or repeated,
        // sends what did: uploading the same contract later must not stage everything again.
        if current.sequence > 1 || current.upload != id.as_str() {
            return Ok(Vec::new());
        }
        let waiting = list_all(&*self.lake, &keys::raw_of_dataset(dataset)).await?;
        let waiting = waiting.iter().filter_map(|object| keys::parse_raw(&object.key));
        Ok(waiting.map(|(dataset, source, id)| StageMessage::fresh(dataset, source, id)).collect())
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
            Err(error) => return Ok(Attempt::Refused(error.to_string())),
            Ok(None) => return Ok(previous.map_or(Attempt::Lost, Attempt::Current)),
            Ok(Some(next)) => next,
        };
        let key = keys::contract(dataset, &next.version);
        let writer = Writer::new(&*self.lake, &*self.ambient);
        if let Creation::Found(_) = writer.create(&key, serde_json::to_vec(&next)?).await? {
            // An earlier try of this very upload may have come this far.
            let (_, bytes) = self.lake.get(&key).await?;
            let there: Version = serde_json::from_slice(&bytes)?;
            if there.upload != next.upload || there.sequence != next.sequence {
                let why = format!("version {} was used by upload {}", there.version, there.upload);
                return Ok(Attempt::Refused(why));
            }
        }
        let pointer = serde_json::to_vec(&next.pointer())?;
        let swapped = writer.swap(&keys::contract_pointer(dataset), pointer.into(), &tag).await?;
        Ok(match swapped {
            Swap::Done => Attempt::Current(next),
            Swap::Lost => Attempt::Lost,
        })
    }
}

/// What one try at making a document current came to.
enum Attempt {
    Current(Version),
    Refused(String),
    Lost,
}

fn broken(error: ContractError) -> HandlerError {
    HandlerError::new(error.to_string())
}
