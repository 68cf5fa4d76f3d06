//! What the targets share: a contract that has everything, and an audit of any bytes that checks what holds of all.
//!
//! A promise that is broken is a panic, which is what a fuzzer reports.

use std::collections::BTreeSet;
use std::io::{self, Read};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluicegate_audit::{
    Accepted, Amendment, Audit, BadRow, History, Outcome, PastFile, RowFault, Rules, Scratch, Sink,
    read,
};
use sluicegate_contract::{Contract, Version, infer};

/// Every column type, a few rules, most audits.
pub const CONTRACT: &str = include_str!("../contract.json");

const RAW_ID: &str = "20130102T030405Z-00000000000000000000000000000000";

/// A version of the contract with another `format`.
pub fn version(format: Value) -> Version {
    let mut document: Value = serde_json::from_str(CONTRACT).unwrap();
    document["x-sluicegate"]["format"] = format;
    Version::next(document.to_string().as_bytes(), None, "u").unwrap().unwrap()
}

/// An object's bytes are held against these.
pub struct Subject {
    version: Version,
    rules: Rules,
    /// Whether the bytes of a row are those of the object, at its offset.
    rows_are_bytes: bool,
}

impl Subject {
    pub fn new(format: Value) -> Self {
        let rows_are_bytes = format["type"] != json!("parquet");
        let version = version(format);
        let landed: Timestamp = "2013-01-02T03:04:05Z".parse().unwrap();
        let rules = Rules::new(version.contract().unwrap(), &version, RAW_ID, landed);
        Self { version, rules, rows_are_bytes }
    }

    /// Audits bytes whole, in pieces, and with a past, and checks what must hold of any.
    pub fn check(&self, bytes: &[u8]) {
        let (whole, kept) = self.audit(bytes, &History::default());
        self.check_rows(&whole, &kept, bytes);
        let (cut, kept_cut) = self.audit(Pieces(bytes), &History::default());
        let rejected = whole.verdict.outcome() == Outcome::Reject;
        if rejected && is_packed(bytes) {
            // How much is unpacked before damage is met depends on the reads, and so does what is met first.
            assert_eq!(cut.verdict.outcome(), Outcome::Reject, "REP-1: the same outcome");
        } else {
            assert_eq!(says(&whole), says(&cut), "REP-1: the same verdict");
            assert_eq!(kept.accepted, kept_cut.accepted, "REP-1: the same rows");
            assert_eq!(kept.bad, kept_cut.bad, "REP-1: the same bad rows");
        }
        assert_eq!(text(&reread(&whole)), text(&whole), "an audit is read as it was written");
        if rejected {
            return;
        }
        let past = PastFile {
            landed_at: Timestamp::UNIX_EPOCH,
            rows: whole.verdict.coverage().rows_accepted,
            main_day: whole.profile.events.main_day(),
            profile: Some(whole.profile),
        };
        self.audit(bytes, &History { files: vec![past.clone(), past] });
        // It is most of the time, and seldom another case.
        if bytes.len() % 16 == 0 {
            self.amend(&whole.amendments);
        }
    }

    fn amend(&self, amendments: &[Amendment]) {
        if let Some(amended) = infer::amend(&self.version.document, amendments) {
            Contract::parse(amended.to_string().as_bytes()).expect("what is amended is a contract");
        }
    }

    /// Only reads and judges.
    pub fn audit(&self, source: impl Read + Send, history: &History) -> (Audit, Kept) {
        let scratch = Scratch { folder: std::env::temp_dir(), limit: 1 << 30 };
        let mut kept = Kept::default();
        let seen =
            read(source, &self.rules, &scratch, &mut kept).expect("any bytes have a verdict");
        (seen.judge(&self.rules, history).expect("what was seen can be judged"), kept)
    }

    fn check_rows(&self, audit: &Audit, kept: &Kept, bytes: &[u8]) {
        let coverage = audit.verdict.coverage();
        let accepted: usize = kept.accepted.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(coverage.rows_accepted, accepted as u64, "AUD-1: accepted");
        assert_eq!(coverage.rows_quarantined, kept.bad.len() as u64, "AUD-1: quarantined");
        let mut rows: BTreeSet<u64> = kept.bad.iter().map(|bad| bad.row).collect();
        for batch in &kept.accepted {
            let numbers = batch["_raw_row"].as_primitive::<Int64Type>();
            rows.extend(numbers.values().iter().map(|row| u64::try_from(*row).unwrap()));
        }
        assert!(rows.into_iter().eq(1..=coverage.rows_read), "AUD-1: every row is there once");
        assert!(coverage.bytes <= bytes.len() as u64);
        if audit.verdict.outcome() != Outcome::Reject {
            assert_eq!(coverage.bytes, bytes.len() as u64, "AUD-1: all bytes are covered");
        }
        for bad in &kept.bad {
            assert!(!bad.faults.is_empty(), "a bad row has a reason");
            if !self.rows_are_bytes {
                assert!(bad.offset <= bytes.len() as u64);
                assert!(serde_json::from_slice::<Value>(&bad.bytes).is_ok(), "a row is JSON");
                assert!(!bad.bytes.contains(&b'\n'), "a row is a line");
            } else if !is_packed(bytes) {
                let from = usize::try_from(bad.offset).unwrap();
                let there = bytes.get(from..from + bad.bytes.len());
                assert_eq!(there, Some(bad.bytes.as_slice()), "a bad row lies where it is said to");
            }
        }
    }
}

/// Whether the bytes say that they are gzip or zstd.
pub fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd")
}

/// All that an audit says, but how far it read what it could not understand: that depends on how the bytes arrive.
fn says(audit: &Audit) -> String {
    match audit.verdict.outcome() {
        Outcome::Reject => says_of_rows(audit),
        Outcome::Publish | Outcome::Hold => text(audit),
    }
}

/// What an audit says of the rows, however their bytes came.
pub fn says_of_rows(audit: &Audit) -> String {
    let mut coverage = audit.verdict.coverage();
    coverage.bytes = 0;
    let verdict = (audit.verdict.outcome(), audit.verdict.reasons(), coverage);
    let rest = (&audit.profile, &audit.audits, &audit.amendments, &audit.broken);
    text(&(verdict, audit.event_range, rest))
}

/// What came out of an audit.
#[derive(Debug, Default, PartialEq)]
pub struct Kept {
    pub accepted: Vec<RecordBatch>,
    pub bad: Vec<Bad>,
}

#[derive(Debug, PartialEq)]
pub struct Bad {
    pub row: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
    pub faults: Vec<RowFault>,
}

impl Sink for Kept {
    fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        self.accepted.push(accepted.rows);
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], row: &BadRow<'_>) -> io::Result<()> {
        let (bytes, faults) = (row.bytes.to_vec(), row.faults.clone());
        self.bad.push(Bad { row: row.row, offset: row.offset, bytes, faults });
        Ok(())
    }
}

/// Gives seven bytes at a time.
pub struct Pieces<'a>(pub &'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let few = buffer.len().min(7);
        self.0.read(&mut buffer[..few])
    }
}

/// As it is stored.
pub fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what was made can be written")
}

/// As it is read when it was stored.
pub fn reread<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&text(value)).expect("what was written can be read")
}
