//! Stages published raw objects again, and holds the bytes against what is published (REP-1).
//!
//! The staging is stage's own, which is why this depends on it: another that does the same would prove nothing of the one that
//! publishes. It runs on a store that reads from the lake and writes nowhere. A data file is compared as it is created and let
//! go, piece by piece: no more lies on this machine's disk than stage needs, and no file in memory. Each raw object is staged under the version of the
//! contract that its files are from; what another engine staged cannot be told, and is counted. Bytes that differ are
//! a finding; what cannot be read, such as a raw object that is gone, ends it with an error.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use sluicegate_audit::ENGINE;
use sluicegate_contract::{ContractPointer, Version};
use sluicegate_lake::memory::Memory;
use sluicegate_lake::{
    Ambient, Attributes, Body, ByteStream, CopySource, Dataset, ETag, Expected, Listed, Meta,
    Order, Page, RawId, Requests, Source, Store, StoreError, Usage, keys, list_all,
};
use sluicegate_runtime::cost::{FALLBACK, Meter, Prices};
use sluicegate_runtime::{Reason, StageMessage, Summary};
use sluicegate_stage::{Scratch, Stage};
use sluicegate_table::{Proposal, Record, State, View};

/// What a verification came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub dataset: Dataset,
    /// Published records of the ledger.
    pub published: u64,
    /// Those that were chosen.
    pub chosen: u64,
    /// Those of them that were staged again.
    pub staged: u64,
    /// The engine of this build.
    pub engine: u32,
    /// The others by their engine.
    pub other_engines: BTreeMap<u32, u64>,
    /// Data files that were compared, and the bytes of the published ones.
    pub files: u64,
    pub bytes: u64,
    pub differences: Vec<Difference>,
}

/// A data file that is not made again as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The raw object whose rows it has.
    pub raw_id: RawId,
    /// The published file's key; the new one's where none is published in its place.
    pub file: String,
    /// Bytes of the published file; `None` where there is none.
    pub published: Option<u64>,
    /// Bytes of the new one; `None` where there is none.
    pub staged: Option<u64>,
    /// Offset of the first byte that differs, where there are both.
    pub at: Option<u64>,
}

/// What stages again, and where.
pub struct Verifier {
    pub lake: Arc<dyn Store>,
    pub ambient: Arc<dyn Ambient>,
    /// Where files lie while they are compared.
    pub scratch: Scratch,
}

type Failure = Box<dyn Error>;

/// A data file's place among those of its raw object: its partition's folder, and its number.
type Place = (String, usize);

/// A file that was made again: the sizes of both, and the first byte that differs.
#[derive(Clone, Copy)]
struct Compared {
    published: Option<u64>,
    staged: u64,
    at: Option<u64>,
}

impl Verifier {
    /// Verifies so many of a dataset's published raw objects, spread evenly over the ledger.
    pub async fn verify(&self, dataset: &Dataset, sample: u64) -> Result<Verified, Failure> {
        let view = View::open(&*self.lake, dataset).await?;
        let pages = view.root.pages.iter();
        let counts: Vec<u64> = pages.map(|page| page.in_state(State::Published)).collect();
        let mut verified = Verified {
            dataset: dataset.clone(),
            published: counts.iter().sum(),
            chosen: 0,
            staged: 0,
            engine: ENGINE,
            other_engines: BTreeMap::new(),
            files: 0,
            bytes: 0,
            differences: Vec::new(),
        };
        for (page, ranks) in spread(&counts, sample) {
            let mut records = view.records(&*self.lake, dataset, page).await?;
            let published = counts.get(page).copied().unwrap_or_default().max(1);
            records.retain(|record| record.state == State::Published && record.files > 0);
            // The ranks count those without rows too, which have no files.
            let left = records.len() as u64;
            let ranks: BTreeSet<u64> = ranks.iter().map(|rank| rank * left / published).collect();
            for (_, record) in (0..).zip(records).filter(|(rank, _)| ranks.contains(rank)) {
                self.record(dataset, &record, &mut verified).await?;
            }
        }
        Ok(verified)
    }

    async fn record(
        &self,
        dataset: &Dataset,
        record: &Record,
        verified: &mut Verified,
    ) -> Result<(), Failure> {
        let own = || (record.raw_id.clone(), record.order);
        let (raw_id, order) = record.files_of.clone().unwrap_or_else(own);
        verified.chosen += 1;
        if order.engine != ENGINE {
            *verified.other_engines.entry(order.engine).or_default() += 1;
            return Ok(());
        }
        let key = keys::proposal(dataset, &raw_id, order);
        let published: Proposal = parse(&key, &self.lake.get(&key).await?.1)?;
        let mut found = None;
        for contract in self.contracts(&published).await? {
            let (compared, differences) = self.stage_again(&published, contract).await?;
            let is_same = differences.is_empty();
            found = Some((compared, differences));
            if is_same {
                break;
            }
        }
        let Some((compared, differences)) = found else {
            let (version, sequence) = (&published.contract_version, order.contract);
            return Err(format!("{dataset} has no contract {version}, number {sequence}").into());
        };
        verified.staged += 1;
        verified.files += compared.len() as u64;
        verified.bytes += compared.values().filter_map(|file| file.published).sum::<u64>();
        verified.differences.extend(differences);
        Ok(())
    }

    /// The names of the contract's version that a proposal was held against. There are several where an attempt at landing it was
    /// given up: any of them may have been the one.
    async fn contracts(&self, proposal: &Proposal) -> Result<Vec<ContractPointer>, Failure> {
        let Proposal { dataset, order, contract_version, .. } = proposal;
        let mut found = Vec::new();
        let prefix = keys::contract(dataset, contract_version);
        let prefix = prefix.strip_suffix(".json").unwrap_or(&prefix);
        for Listed { key, .. } in list_all(&*self.lake, prefix).await? {
            let name = key.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
            let version: Version = parse(&key, &self.lake.get(&key).await?.1)?;
            if let Some(name) = name
                && version.sequence == order.contract
                && version.version == *contract_version
            {
                found.push(version.pointer(name));
            }
        }
        Ok(found)
    }

    async fn stage_again(
        &self,
        published: &Proposal,
        contract: ContractPointer,
    ) -> Result<(BTreeMap<Place, Compared>, Vec<Difference>), Failure> {
        let Proposal { dataset, source, raw_id, order, .. } = published;
        let files = self.places(published)?;
        let overlay = Arc::new(Overlay {
            lake: self.lake.clone(),
            proposal: keys::proposal(dataset, raw_id, *order),
            pointer: (keys::contract_pointer(dataset), serde_json::to_vec(&contract)?.into()),
            published: files,
            made: Mutex::default(),
        });
        self.stage(overlay.clone(), dataset, source, raw_id, *order).await?;
        let made = std::mem::take(&mut *overlay.made());
        let again = made.proposal.ok_or_else(|| format!("{raw_id} came to no proposal"))?;
        // What a rejected attempt had made by then is nobody's.
        let again = self.places(&again)?;
        let mut differences = Vec::new();
        for (place, file) in &overlay.published {
            match made.compared.get(place).filter(|_| again.contains_key(place)) {
                Some(Compared { at: None, published: Some(_), .. }) => {}
                Some(Compared { published, staged, at }) => differences.push(Difference {
                    raw_id: raw_id.clone(),
                    file: file.clone(),
                    published: *published,
                    staged: Some(*staged),
                    at: *at,
                }),
                None => differences.push(Difference {
                    raw_id: raw_id.clone(),
                    file: file.clone(),
                    published: self.size(file).await?,
                    staged: None,
                    at: None,
                }),
            }
        }
        for (place, file) in again {
            if !overlay.published.contains_key(&place) {
                let staged = made.compared.get(&place).map(|compared| compared.staged);
                let raw_id = raw_id.clone();
                differences.push(Difference { raw_id, file, published: None, staged, at: None });
            }
        }
        Ok((made.compared, differences))
    }

    /// Has stage do its work, once.
    async fn stage(
        &self,
        lake: Arc<dyn Store>,
        dataset: &Dataset,
        source: &Source,
        raw_id: &RawId,
        order: Order,
    ) -> Result<(), Failure> {
        // Nobody pays for this, and nobody reads what it would cost.
        let prices = Prices::built_in(FALLBACK, "aarch64")?;
        let meter = Meter { requests: Requests::default(), prices: prices.clone(), memory_mb: 0 };
        let stage = Stage {
            lake,
            promote: Arc::new(Memory::default().queue("promote")),
            promote_replay: Arc::new(Memory::default().queue("promote-replay")),
            ambient: self.ambient.clone(),
            scratch: self.scratch.clone(),
            meter,
        };
        let message = StageMessage {
            epoch: order.epoch,
            reason: Reason::Replay,
            ..StageMessage::fresh(dataset.clone(), source.clone(), raw_id.clone())
        };
        let body = serde_json::to_string(&message)?;
        let event = json!({"Records": [{
            "messageId": "0", "body": body, "attributes": {}, "messageAttributes": {},
        }]});
        let mut summary = Summary::new("verify", raw_id.as_str());
        stage.handle(event, &mut summary).await?;
        if summary.outcomes.failures == 0 {
            return Ok(());
        }
        let line = summary.line(self.ambient.now(), &Usage::default(), &prices);
        let line: Value = serde_json::from_str(&line)?;
        let why = line.pointer("/failures/0").and_then(Value::as_str).unwrap_or_default();
        Err(format!("{raw_id} cannot be staged again: {why}").into())
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.lake.head(key, None).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(StoreError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The keys of a proposal's files, by their places.
    fn places(&self, proposal: &Proposal) -> Result<BTreeMap<Place, String>, Failure> {
        let base = self.lake.uri("");
        let keys = proposal.files.iter().map(|file| {
            let key = file.path.strip_prefix(&base).unwrap_or(&file.path);
            let place = place(key).ok_or_else(|| format!("{key} is no data file"))?;
            Ok((place, key.to_owned()))
        });
        keys.collect()
    }
}

/// Of `sample` records those in the middles of equal parts of all, by page: pages have so many, and ranks begin anew on each.
fn spread(counts: &[u64], sample: u64) -> Vec<(usize, Vec<u64>)> {
    let total: u64 = counts.iter().sum();
    let sample = sample.min(total);
    let middle = |part: u64| {
        let twice = (2 * u128::from(part) + 1) * u128::from(total);
        u64::try_from(twice / (2 * u128::from(sample))).unwrap_or(u64::MAX)
    };
    let mut ranks = (0..sample).map(middle).peekable();
    let mut before = 0;
    let pages = counts.iter().enumerate().map(|(page, count)| {
        let first = before;
        before += count;
        let own = std::iter::from_fn(|| ranks.next_if(|rank| *rank < first + count));
        (page, own.map(|rank| rank - first).collect::<Vec<_>>())
    });
    pages.filter(|(_, ranks)| !ranks.is_empty()).collect()
}

fn place(key: &str) -> Option<Place> {
    let (folder, _) = key.rsplit_once('/')?;
    let (_, _, n) = keys::parse_data_file(key)?;
    Some((folder.to_owned(), n))
}

fn parse<T: serde::de::DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(bytes).map_err(|e| format!("{key}: {e}"))?)
}

/// The lake as it was before a raw object was staged at an order, under the contract of that order. Nothing is written.
struct Overlay {
    lake: Arc<dyn Store>,
    /// The key of the proposal that is not there yet.
    proposal: String,
    /// The contract's pointer and what it says.
    pointer: (String, Bytes),
    /// The keys of the published files.
    published: BTreeMap<Place, String>,
    made: Mutex<Made>,
}

/// What was created here.
#[derive(Default)]
struct Made {
    compared: BTreeMap<Place, Compared>,
    proposal: Option<Proposal>,
}

impl Overlay {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a new file against the published one in its place.
    async fn compare(&self, place: &Place, body: &Body) -> Result<Compared, StoreError> {
        let failed = |error: io::Error| StoreError::Other {
            key: place.0.clone(),
            reason: format!("the new file cannot be read: {error}"),
        };
        let (new, staged): (Box<dyn Read + Send>, u64) = match body {
            Body::Bytes(bytes) => (Box::new(io::Cursor::new(bytes.clone())), bytes.len() as u64),
            Body::File(path) => {
                let file = File::open(path).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                (Box::new(file), size)
            }
        };
        let absent = Compared { published: None, staged, at: None };
        let Some(key) = self.published.get(place) else { return Ok(absent) };
        let (meta, old) = match self.lake.read(key, None).await {
            Err(StoreError::Absent { .. }) => return Ok(absent),
            found => found?,
        };
        let at = match first_difference(old, new).await {
            Ok(at) => at,
            Err(Unread::Old(error)) => return Err(error),
            Err(Unread::New(error)) => return Err(failed(error)),
        };
        Ok(Compared { published: Some(meta.size), staged, at })
    }

    /// Whether stage must not find a key: it would take the work for done.
    fn hides(&self, key: &str) -> bool {
        key == self.proposal
    }
}

/// Which of two could not be read.
enum Unread {
    Old(StoreError),
    New(io::Error),
}

/// The offset of the first byte that differs, or at which one of two ends.
async fn first_difference(mut old: ByteStream, mut new: impl Read) -> Result<Option<u64>, Unread> {
    let (mut at, mut buffer) = (0u64, Vec::new());
    while let Some(piece) = old.next().await {
        let piece = piece.map_err(Unread::Old)?;
        buffer.clear();
        new.by_ref().take(piece.len() as u64).read_to_end(&mut buffer).map_err(Unread::New)?;
        if buffer != piece {
            let same = buffer.iter().zip(&piece).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
        at += piece.len() as u64;
    }
    let more = new.read(&mut [0]).map_err(Unread::New)?;
    Ok((more > 0).then_some(at))
}

fn refused(key: &str) -> StoreError {
    let reason = "a verification writes nothing".to_owned();
    StoreError::Denied { key: key.to_owned(), reason }
}

#[async_trait]
impl Store for Overlay {
    fn bucket(&self) -> &str {
        self.lake.bucket()
    }

    fn uri(&self, key: &str) -> String {
        self.lake.uri(key)
    }

    async fn head(&self, key: &str, version: Option<&str>) -> Result<Meta, StoreError> {
        self.lake.head(key, version).await
    }

    async fn get(&self, key: &str) -> Result<(Meta, Bytes), StoreError> {
        if self.hides(key) {
            return Err(StoreError::Absent { key: key.to_owned() });
        }
        let (pointer, bytes) = &self.pointer;
        if key != pointer {
            return self.lake.get(key).await;
        }
        let meta = Meta {
            size: bytes.len() as u64,
            etag: ETag(String::new()),
            modified: Timestamp::UNIX_EPOCH,
            version: None,
            attributes: Attributes::new(),
            sha256: None,
        };
        Ok((meta, bytes.clone()))
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Meta, ByteStream), StoreError> {
        self.lake.read(key, range).await
    }

    /// Compares a data file, keeps the proposal, and lets go of all else.
    async fn create(&self, key: &str, body: Body, _: &Attributes) -> Result<(), StoreError> {
        if let Some(place) = place(key) {
            let compared = self.compare(&place, &body).await?;
            self.made().compared.insert(place, compared);
        } else if self.hides(key)
            && let Body::Bytes(bytes) = body
        {
            let failed = |error: serde_json::Error| StoreError::Other {
                key: key.to_owned(),
                reason: error.to_string(),
            };
            self.made().proposal = Some(serde_json::from_slice(&bytes).map_err(failed)?);
        }
        Ok(())
    }

    async fn swap(
        &self,
        key: &str,
        _: Bytes,
        _: &Expected,
        _: &Attributes,
    ) -> Result<(), StoreError> {
        Err(refused(key))
    }

    async fn copy(&self, _: &CopySource, key: &str, _: &Attributes) -> Result<(), StoreError> {
        Err(refused(key))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, StoreError> {
        self.lake.list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        Err(refused(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly_over_the_pages_and_takes_all_where_there_are_no_more() {
        let ranks = |counts: &[u64], sample| -> Vec<u64> {
            let before = |page: usize| counts[..page].iter().sum::<u64>();
            let chosen = spread(counts, sample);
            let chosen =
                chosen.iter().flat_map(|(page, own)| own.iter().map(|r| r + before(*page)));
            chosen.collect()
        };
        assert_eq!(ranks(&[1000, 0, 1000], 4), [250, 750, 1250, 1750]);
        assert_eq!(ranks(&[3, 0, 1], 10), [0, 1, 2, 3]);
        assert_eq!(ranks(&[999, 2], 1), [500]);
        assert_eq!(ranks(&[7], 7), [0, 1, 2, 3, 4, 5, 6]);
        assert!(ranks(&[], 5).is_empty() && ranks(&[5], 0).is_empty());
    }

    #[tokio::test]
    async fn the_first_byte_that_differs_is_told_wherever_pieces_end() {
        let first = async |old: &[&str], new: &str| {
            let pieces: Vec<_> = old.iter().map(|p| Ok(Bytes::from((*p).to_owned()))).collect();
            let old = futures::stream::iter(pieces).boxed();
            first_difference(old, new.as_bytes()).await.unwrap_or_else(|_| panic!("unread"))
        };
        for (old, new, at) in [
            (&["abc", "", "de"][..], "abcde", None),
            (&[], "", None),
            (&["abc", "de"], "abcdx", Some(4)),
            (&["abc", "de"], "xbcde", Some(0)),
            (&["abc", "de"], "abcd", Some(4)),
            (&["abc", "de"], "abc", Some(3)),
            (&["abc", "de"], "abcdef", Some(5)),
        ] {
            assert_eq!(first(old, new).await, at, "{old:?} {new}");
        }
    }
}
