//! **land**: an upload into the inbox becomes a raw object, created once and never changed.
//!
//! Data is copied inside S3 to `raw/<dataset>/<source>/<raw id>` with a SHA-256 of its content; no byte passes through
//! here. Then one stage message is sent. A duplicate event finds the raw object and sends the same message again, which
//! is harmless; a raw object whose message was lost is therefore never stranded by a retry.
//!
//! A contract, uploaded as `_contracts/<dataset>.json`, is kept as it came, linted, numbered, stored as an immutable
//! version and made current by a pointer swap. Raw objects that waited for the dataset's first contract are then sent to
//! stage. A contract that is refused leaves the current one in place and a report beside it.
//!
//! An event with a record that fails is an error as a whole: Lambda repeats it, and after that it goes to the on-failure
//! queue. Records that had succeeded find their work done.

mod contract;

use std::sync::Arc;

use serde_json::{Value, json};
use sluicegate_lake::cas::Writer;
use sluicegate_lake::{
    Ambient, Attributes, CopySource, Dataset, Meta, Queue, RawId, Source, Store, StoreError, keys,
};
use sluicegate_runtime::{
    HandlerError, Incoming, StageMessage, Summary, Upload, What, outgoing, uploads,
};

/// What land works with.
pub struct Land {
    pub inbox: Arc<dyn Store>,
    pub lake: Arc<dyn Store>,
    pub stage: Arc<dyn Queue>,
    pub ambient: Arc<dyn Ambient>,
}

impl Land {
    /// Handles one S3 event.
    pub async fn handle(&self, event: Value, summary: &mut Summary) -> Result<Value, HandlerError> {
        let mut failed = Vec::new();
        let mut messages = Vec::new();
        for incoming in uploads(event) {
            summary.outcomes.messages += 1;
            let outcome = match incoming {
                Incoming::Upload(upload) => self.land(&upload, summary).await,
                Incoming::Ignored(why) => {
                    summary.outcomes.ignored += 1;
                    tracing::info!(why, "ignored");
                    Ok(Vec::new())
                }
                Incoming::Malformed(why) => Err(HandlerError::new(why)),
            };
            match outcome {
                Ok(landed) => messages.extend(landed),
                Err(error) => failed.push(error),
            }
        }
        // What landed goes on even if a neighbour failed: the retry would only send it again.
        let bodies =
            messages.iter().map(|m| outgoing(&m.dataset, m)).collect::<Result<Vec<_>, _>>()?;
        self.stage.send(&bodies).await?;
        match failed.into_iter().next() {
            None => Ok(json!({"landed": summary.outcomes.files_landed})),
            Some(first) => Err(first),
        }
    }

    /// Lands one upload; answers with what is to be staged.
    async fn land(
        &self,
        upload: &Upload,
        summary: &mut Summary,
    ) -> Result<Vec<StageMessage>, HandlerError> {
        if upload.bucket != self.inbox.bucket() {
            let message = format!("{} is not our inbox {}", upload.bucket, self.inbox.bucket());
            return Err(HandlerError::new(message));
        }
        let meta = match self.inbox.head(&upload.key, upload.version.as_deref()).await {
            Err(StoreError::Absent { key }) => {
                let message = format!("{key} was removed from the inbox before it landed");
                return Err(HandlerError::new(message));
            }
            head => head?,
        };
        let version = upload.version.clone().unwrap_or_else(|| meta.etag.0.clone());
        let id = RawId::new(meta.modified, &upload.bucket, &upload.key, &version);
        let from = CopySource {
            bucket: upload.bucket.clone(),
            key: upload.key.clone(),
            version: upload.version.clone(),
            size: meta.size,
        };
        match &upload.what {
            What::Data { dataset, rest } => {
                let message =
                    self.land_data(dataset, rest, upload, &from, &meta, id, summary).await?;
                Ok(vec![message])
            }
            What::Contract { dataset } => self.land_contract(dataset, &from, id, summary).await,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one upload, taken apart")]
    async fn land_data(
        &self,
        dataset: &Dataset,
        rest: &str,
        upload: &Upload,
        from: &CopySource,
        meta: &Meta,
        id: RawId,
        summary: &mut Summary,
    ) -> Result<StageMessage, HandlerError> {
        let source = Source::of_inbox_key(rest)?;
        let mut attributes = Attributes::new();
        if let Some(sequencer) = &upload.sequencer {
            attributes.insert(keys::SEQUENCER.to_owned(), sequencer.clone());
        }
        if source.is_hashed() {
            let kept = sluicegate_lake::base64(rest.as_bytes());
            attributes.insert(keys::INBOX_KEY.to_owned(), kept);
        }
        let key = keys::raw(dataset, &source, &id);
        let writer = Writer::new(&*self.lake, &*self.ambient);
        writer.copy(from, &key, attributes).await?;
        summary.outcomes.files_landed += 1;
        summary.outcomes.bytes_read += meta.size;
        summary.dataset(dataset, 1, 0);
        Ok(StageMessage::fresh(dataset.clone(), source, id))
    }
}
