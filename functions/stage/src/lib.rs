//! **stage**: a raw object becomes a proposal: data files that nobody sees yet, quarantined rows, and a verdict.
//!
//! Guarantees: a proposal is created once; a second attempt at the same order adopts the first one's, verdict and all, and
//! only sends its message again. Whatever is wrong with the bytes is a verdict. A message fails only when its work could
//! not be done, and then it comes again. Killed at any moment, this leaves nothing that is ever published: data files
//! carry the attempt's id and are named by no proposal but their own. What is held or rejected has a report for people, and what
//! is held a table over its files for engines; both are there before the proposal is.
//!
//! Memory does not grow with the object, and what local files take has a bound: bytes stream from the store through a
//! bounded channel into the audit, which runs on a thread of its own and writes Parquet to local files; what is full is
//! uploaded meanwhile, the rest when the verdict is known. Of a Parquet object, which is read from its end, there is a
//! local copy. Small objects share an invocation, as long as there is time for another.

mod encoding;
mod file;
mod scratch;
mod sink;
mod source;
mod tab;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sluicegate_audit::{AuditError, ENGINE, History, Outcome, PastFile, Rules, Seen, read};
use sluicegate_contract::{Contract, Reupload, Version};
use sluicegate_lake::cas::{Creation, Writer};
use sluicegate_lake::{Ambient, Body, Dataset, Meta, Order, Queue, RawId, Store, StoreError, keys};
use sluicegate_runtime::cost::Meter;
use sluicegate_runtime::{
    BatchResponse, Envelope, HandlerError, PromoteMessage, Reason, StageMessage, Summary,
    envelopes, outgoing,
};
use sluicegate_table::commit::CommitError;
use sluicegate_table::history::Past;
use sluicegate_table::iceberg::manifest::DataFile;
use sluicegate_table::preview::{Subject, preview};
use sluicegate_table::report::Report;
use sluicegate_table::{PartitionBy, Proposal, current_contract, partition_by};

use tokio::sync::mpsc;

use crate::sink::{Closed, LocalFile};
use crate::tab::Tab;

pub use crate::scratch::Scratch;

/// How many functions may hand the same work on before it is taken for a loop.
const MAX_HOPS: u32 = 8;

/// What stage works with.
pub struct Stage {
    pub lake: Arc<dyn Store>,
    /// What is fresh goes to the one, what is staged again to the other: none of it waits behind a replay.
    pub promote: Arc<dyn Queue>,
    pub promote_replay: Arc<dyn Queue>,
    pub ambient: Arc<dyn Ambient>,
    /// Where local files go.
    pub scratch: Scratch,
    /// What `lake` and the queues count into, for receipts.
    pub meter: Meter,
}

/// What is left of an invocation's time when an audit is stopped: enough to say so, and to upload what a short one made.
const MARGIN: SignedDuration = SignedDuration::from_secs(30);

/// What there is once for all messages of an invocation.
struct Shared<'a> {
    contracts: BTreeMap<Dataset, Option<Arc<(Contract, Version)>>>,
    pasts: Pasts,
    tab: Tab<'a>,
}

/// Whether a message led to a proposal that this very attempt made.
enum Staged {
    Now,
    Not,
}

type Pasts = BTreeMap<Dataset, Past>;

impl Stage {
    /// Handles one batch of stage messages.
    pub async fn handle(&self, event: Value, summary: &mut Summary) -> Result<Value, HandlerError> {
        let tab = Tab::open(&self.meter, self.ambient.now(), summary.init_ms());
        let mut shared = Shared { contracts: BTreeMap::new(), pasts: Pasts::new(), tab };
        let mut response = BatchResponse::default();
        let mut messages = envelopes::<StageMessage>(event, &mut response, summary)?;
        // Whoever was put back most often comes first.
        messages.sort_by_key(|envelope| std::cmp::Reverse(envelope.receives));
        for (n, Envelope { id, message, .. }) in messages.into_iter().enumerate() {
            if n > 0 && !summary.has_time_for_more(self.ambient.now()) {
                response.put_back(&id, summary);
                continue;
            }
            match self.message(message, &mut shared, summary).await {
                Ok(Staged::Now) => shared.tab.skip_bytes(self.ambient.now()),
                Ok(Staged::Not) => shared.tab.skip(self.ambient.now()),
                Err(error) => {
                    shared.tab.skip(self.ambient.now());
                    response.fail(&id, &error, summary);
                }
            }
        }
        Ok(serde_json::to_value(response)?)
    }

    async fn message(
        &self,
        message: StageMessage,
        shared: &mut Shared<'_>,
        summary: &mut Summary,
    ) -> Result<Staged, HandlerError> {
        if message.hop > MAX_HOPS {
            let reason = format!("{} was handed on {} times: a loop", message.raw_id, message.hop);
            return Err(HandlerError::new(reason));
        }
        let Some(contract) = self.contract(&message.dataset, shared).await? else {
            // RAW-2: waiting. Its contract's landing sends this message again.
            summary.outcomes.files_waiting += 1;
            return Ok(Staged::Not);
        };
        let version = &contract.1;
        let order = Order { epoch: message.epoch, contract: version.sequence, engine: ENGINE };
        let found = self.proposed(&message.dataset, &message.raw_id, order).await?;
        let (proposal, staged) = match found {
            Some(proposal) => (proposal, Staged::Not),
            None => self.propose(&message, &contract, order, shared, summary).await?,
        };
        let promote = PromoteMessage {
            v: 1,
            dataset: proposal.dataset,
            source: proposal.source,
            raw_id: proposal.raw_id,
            order: proposal.order,
        };
        let queue = match message.reason {
            Reason::Fresh => &self.promote,
            Reason::Replay => &self.promote_replay,
        };
        queue.send(&[outgoing(&promote.dataset, &promote)?]).await?;
        Ok(staged)
    }

    async fn contract(
        &self,
        dataset: &Dataset,
        shared: &mut Shared<'_>,
    ) -> Result<Option<Arc<(Contract, Version)>>, HandlerError> {
        if let Some(contract) = shared.contracts.get(dataset) {
            return Ok(contract.clone());
        }
        let current = current_contract(&*self.lake, dataset)
            .await
            .map_err(|e| HandlerError::new(e.to_string()))?;
        let contract = match current {
            None => None,
            Some((_, version)) => {
                let contract = version.contract().map_err(|e| HandlerError::new(e.to_string()))?;
                Some(Arc::new((contract, version)))
            }
        };
        shared.contracts.insert(dataset.clone(), contract.clone());
        Ok(contract)
    }

    async fn proposed(
        &self,
        dataset: &Dataset,
        id: &RawId,
        order: Order,
    ) -> Result<Option<Proposal>, HandlerError> {
        match self.lake.get(&keys::proposal(dataset, id, order)).await {
            Ok((_, bytes)) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(StoreError::Absent { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Stages a raw object, and makes the proposal unless somebody has.
    async fn propose(
        &self,
        message: &StageMessage,
        contract: &Arc<(Contract, Version)>,
        order: Order,
        shared: &mut Shared<'_>,
        summary: &mut Summary,
    ) -> Result<(Proposal, Staged), HandlerError> {
        let StageMessage { dataset, source, raw_id, .. } = message;
        let key = keys::raw(dataset, source, raw_id);
        let folder = self.scratch.folder().map_err(|e| HandlerError::new(e.to_string()))?;
        let writer = Writer::new(&*self.lake, &*self.ambient);
        let by = partition_by(&contract.0, &contract.1);
        let mut uploads = Uploads {
            dataset,
            raw_id,
            order,
            by: by.as_ref(),
            writer: &writer,
            done: Uploaded::default(),
        };
        let until = summary.deadline().map(|at| at - MARGIN);
        let (meta, seen, rest, rules) =
            self.audit(&key, raw_id, contract, folder.path(), until, &mut uploads).await?;
        let history = self.history(message, &seen, &rules, &mut shared.pasts).await?;
        let audited =
            seen.judge(&rules, &history).map_err(|e| HandlerError::new(format!("{key}: {e}")))?;
        let coverage = audited.verdict.coverage();
        let outcome = audited.verdict.outcome();
        if outcome != Outcome::Reject && coverage.bytes != meta.size {
            let reason =
                format!("AUD-1: {} of {} bytes of {key} were read", coverage.bytes, meta.size);
            return Err(HandlerError::new(reason));
        }
        let Uploaded { files, quarantine, .. } = if outcome == Outcome::Reject {
            // What was uploaded on the way is named by nobody, and collected.
            Uploaded::default()
        } else {
            for closed in rest {
                uploads.add(&*self.lake, closed).await?;
            }
            uploads.done
        };
        if outcome == Outcome::Hold && !files.is_empty() {
            self.show(&writer, dataset, raw_id, order, contract, &files).await?;
        }
        let staged_at = self.ambient.now();
        let has_report = outcome != Outcome::Publish;
        let receipt = shared.tab.receipt(staged_at, 1 + u64::from(has_report));
        let proposal = Proposal {
            v: Proposal::FORMAT,
            dataset: dataset.clone(),
            source: source.clone(),
            raw_id: raw_id.clone(),
            order,
            contract_version: contract.1.version.clone(),
            partition_by: by,
            sequencer: meta.attributes.get(keys::SEQUENCER).cloned(),
            sha256: meta.sha256,
            bytes: meta.size,
            verdict: audited.verdict,
            audits: audited.audits,
            profile: Some(audited.profile),
            event_range: audited.event_range,
            amendments: audited.amendments,
            broken: audited.broken,
            files,
            quarantine,
            receipt,
            staged_at,
        };
        if has_report {
            let report = Report::of(&proposal, None, &self.lake.uri("")).html();
            // An attempt that was killed may have left one: it tells the same of the same bytes.
            writer.create(&keys::report(dataset, raw_id, order), report).await?;
        }
        let key = keys::proposal(dataset, raw_id, order);
        let created = writer.create(&key, serde_json::to_vec(&proposal)?).await?;
        summary.outcomes.files_staged += 1;
        summary.outcomes.rows_read += coverage.rows_read;
        summary.outcomes.rows_accepted += coverage.rows_accepted;
        summary.outcomes.rows_quarantined += coverage.rows_quarantined;
        summary.outcomes.bytes_read += coverage.bytes;
        summary.outcomes.bytes_written += proposal.files.iter().map(|f| f.bytes).sum::<u64>();
        summary.dataset(dataset, 1, coverage.rows_read);
        match created {
            Creation::Made => {
                summary.receipt(&proposal.receipt.cost_nano_usd);
                Ok((proposal, Staged::Now))
            }
            // Somebody else's attempt was first: theirs is the proposal, ours was for nothing.
            Creation::Found(_) => {
                let theirs = self.proposed(dataset, raw_id, order).await?;
                let theirs =
                    theirs.ok_or_else(|| HandlerError::new(format!("{key} came and went")))?;
                Ok((theirs, Staged::Not))
            }
        }
    }

    /// Streams a raw object through the audit; what is full on the way is uploaded, the rest given back.
    async fn audit(
        &self,
        key: &str,
        raw_id: &RawId,
        contract: &Arc<(Contract, Version)>,
        folder: &std::path::Path,
        until: Option<Timestamp>,
        uploads: &mut Uploads<'_>,
    ) -> Result<(Meta, Seen, Vec<Closed>, Rules), HandlerError> {
        let (lake, ambient) = (self.lake.clone(), self.ambient.clone());
        let (meta, pump, reader) = source::open(lake, key, ambient, until).await?;
        let rules =
            Rules::new(contract.0.clone(), &contract.1, raw_id.as_str(), raw_id.landed_at());
        let limit = self.scratch.for_audit();
        let folder = folder.to_owned();
        let (sender, closed) = mpsc::channel(1);
        let work = tokio::task::spawn_blocking(move || {
            let scratch = sluicegate_audit::Scratch { folder: folder.clone(), limit };
            let mut sink = sink::LocalSink::new(folder, rules.schema().clone(), sender);
            let seen = read(reader, &rules, &scratch, &mut sink)?;
            let rest = sink.finish().map_err(AuditError::Sink)?;
            Ok::<_, AuditError>((seen, rest, rules))
        });
        let upload = async {
            // Whatever ends the uploads closes the channel: the audit must not wait for them.
            let mut closed = closed;
            while let Some(file) = closed.recv().await {
                uploads.add(&*self.lake, file).await?;
            }
            Ok::<_, HandlerError>(())
        };
        // The pump ends when the reader is dropped, the reader when the pump is done, and the uploads with the audit.
        let (pumped, worked, uploaded) = futures::join!(pump.run(), work, upload);
        uploaded?;
        let worked =
            worked.map_err(|e| HandlerError::new(format!("the audit ended abruptly: {e}")))?;
        let (seen, rest, rules) = match (worked, pumped) {
            (Ok(done), _) => done,
            (Err(AuditError::Source(_)), Err(error)) => return Err(error.into()),
            (Err(error), _) => return Err(HandlerError::new(format!("{key}: {error}"))),
        };
        Ok((meta, seen, rest, rules))
    }

    /// What was published before, as far as a contract's audits ask.
    async fn history(
        &self,
        message: &StageMessage,
        seen: &Seen,
        rules: &Rules,
        pasts: &mut Pasts,
    ) -> Result<History, HandlerError> {
        let depth = History::depth(rules.contract());
        let StageMessage { dataset, source, raw_id, .. } = message;
        if depth == 0 || seen.is_unreadable() {
            return Ok(History::default());
        }
        let failed = |e: CommitError| HandlerError::new(e.to_string());
        let lake = &*self.lake;
        let past = match pasts.entry(dataset.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Past::open(lake, dataset).await.map_err(failed)?),
        };
        // A newer version takes the older one's place, and is not measured by it.
        let replaces = rules.contract().reupload != Reupload::Append;
        let own = replaces.then_some(source);
        let records = past.before(lake, dataset, raw_id, own, depth).await.map_err(failed)?;
        let files = records.iter().map(|record| PastFile {
            landed_at: record.raw_id.landed_at(),
            rows: record.rows,
            main_day: record.main_day,
            profile: None,
        });
        let mut history = History { files: files.collect() };
        for at in seen.profiles_wanted(rules, &history) {
            if let (Some(file), Some(record)) = (history.files.get_mut(at), records.get(at)) {
                file.profile = past.profile(lake, dataset, record).await.map_err(failed)?;
            }
        }
        Ok(history)
    }

    /// Makes a table over just these files, so that somebody can look at them before deciding.
    async fn show(
        &self,
        writer: &Writer<'_>,
        dataset: &Dataset,
        raw_id: &RawId,
        order: Order,
        contract: &(Contract, Version),
        files: &[DataFile],
    ) -> Result<(), HandlerError> {
        let root = keys::held_table(dataset, raw_id, order);
        let (contract, version) = (&contract.0, &contract.1);
        let subject = Subject { dataset, raw_id, contract, version, files };
        let (attempt, now) = (writer.attempt(), self.ambient.now());
        let table = preview(subject, &self.lake.uri(&root), attempt, now)
            .map_err(|e| HandlerError::new(e.to_string()))?;
        // An attempt that was killed may have left a pointer to its own: a whole table of the same rows (REP-1).
        for (name, bytes) in table.objects.into_iter().chain([table.pointer]) {
            writer.create(&format!("{root}/{name}"), bytes).await?;
        }
        Ok(())
    }
}

/// Where an attempt's files go, and those that have gone.
struct Uploads<'a> {
    dataset: &'a Dataset,
    raw_id: &'a RawId,
    order: Order,
    by: Option<&'a PartitionBy>,
    writer: &'a Writer<'a>,
    done: Uploaded,
}

#[derive(Default)]
struct Uploaded {
    files: Vec<DataFile>,
    /// Keys.
    quarantine: Vec<String>,
    /// What manifests take to describe the files, in bytes.
    described: u64,
}

impl Uploads<'_> {
    /// Uploads a file, and removes it here.
    async fn add(&mut self, lake: &dyn Store, closed: Closed) -> Result<(), HandlerError> {
        match closed {
            Closed::File(LocalFile { path, file }) => {
                let partition = PartitionBy::path(self.by, file.partition);
                let (attempt, n) = (self.writer.attempt(), self.done.files.len());
                let key = keys::data_file(self.dataset, &partition, self.raw_id, attempt, n);
                self.writer.create(&key, Body::File(path.clone())).await?;
                remove(&path);
                let file = file::within(file, self.done.described);
                self.done.described += file.described_in();
                self.done.files.push(DataFile { path: lake.uri(&key), ..file });
            }
            Closed::Quarantine(part) => {
                let n = self.done.quarantine.len() / 2;
                for (extension, path) in [("rows", part.rows), ("jsonl", part.reasons)] {
                    let key = keys::quarantine(self.dataset, self.raw_id, self.order, n, extension);
                    // An attempt that was killed may have left it: the same bytes, by REP-1.
                    self.writer.create(&key, Body::File(path.clone())).await?;
                    remove(&path);
                    self.done.quarantine.push(key);
                }
            }
        }
        Ok(())
    }
}

/// Makes room; what stays goes with the folder.
fn remove(path: &std::path::Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "left in the scratch folder");
    }
}
