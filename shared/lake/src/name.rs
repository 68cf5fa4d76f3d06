//! The names of things: dataset, source, raw id, order, plan.
//!
//! Each is a checked newtype: a value that exists is well-formed, so no code below the edge checks again. Parsing
//! answers [`NameError`], which says what a well-formed one looks like.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A name that is not well-formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{got}` is not well-formed: {expected}")]
pub struct NameError {
    what: &'static str,
    got: String,
    expected: &'static str,
}

impl NameError {
    fn new(what: &'static str, got: &str, expected: &'static str) -> Self {
        Self { what, got: got.chars().take(120).collect(), expected }
    }
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }
    };
}

/// A dataset: the first segment of an inbox key, and the name of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dataset(String);

impl Dataset {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Dataset {
    type Err = NameError;

    /// `^[a-z][a-z0-9_]{0,62}$`: what Glue, Athena and every engine take unquoted.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let ok = (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new(
                "dataset",
                text,
                "1 to 63 of a-z, 0-9 and _, beginning with a letter",
            ))
        }
    }
}

text_form!(Dataset);

/// An inbox key below its dataset, as one path segment.
///
/// Everything but `A-Z a-z 0-9 . _ - =` is percent-encoded. A segment longer than [`Source::LIMIT`] is replaced by
/// `~` and the SHA-256 of the key; `~` is encoded in all others, so the two forms never meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Source(String);

/// What a segment must encode.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-').remove(b'=');

impl Source {
    /// The longest segment, so that every key made with one stays below S3's 1,024 bytes.
    pub const LIMIT: usize = 700;

    /// The source of an inbox key, given without its dataset: `2013/01.csv` → `2013%2F01.csv`.
    pub fn of_inbox_key(rest: &str) -> Result<Self, NameError> {
        if rest.is_empty() {
            return Err(NameError::new("source", rest, "not empty"));
        }
        let mut segment = utf8_percent_encode(rest, SEGMENT).to_string();
        if segment == "." || segment == ".." {
            segment = segment.replace('.', "%2E");
        }
        if segment.len() > Self::LIMIT {
            segment = format!("~{}", hex(&Sha256::digest(rest.as_bytes())));
        }
        Ok(Self(segment))
    }

    /// The inbox key below the dataset, unless the segment is a hash of it.
    pub fn inbox_key(&self) -> Option<String> {
        (!self.is_hashed()).then(|| percent_decode_str(&self.0).decode_utf8_lossy().into_owned())
    }

    /// Whether the segment is a hash, so that the key must be kept beside it.
    pub fn is_hashed(&self) -> bool {
        self.0.starts_with('~')
    }

    /// The segment.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Source {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let hashed = text.strip_prefix('~');
        let ok = match hashed {
            Some(hash) => hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
            None => {
                !text.is_empty()
                    && text.len() <= Self::LIMIT
                    && text != "."
                    && text != ".."
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-=%".contains(&b))
            }
        };
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new("source", text, "a percent-encoded segment, or ~ and 64 hex digits"))
        }
    }
}

text_form!(Source);

/// The identity of a raw object: its landing second and 128 bits of a hash of where it came from.
///
/// The same upload gives the same id, however often its event is delivered; text order is landing order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RawId(String);

impl RawId {
    const FORM: &str = "YYYYMMDDThhmmssZ-<32 hex digits>";

    /// The id of one version of an inbox object. `version` is its version id, or its ETag where the bucket keeps none.
    pub fn new(last_modified: Timestamp, bucket: &str, key: &str, version: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [bucket, key, version] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let when = last_modified.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        Self(format!("{when}-{}", hex(digest.get(..16).unwrap_or(&digest))))
    }

    /// The second it landed: Last-Modified of the inbox object.
    pub fn landed_at(&self) -> Timestamp {
        Self::second(&self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn second(text: &str) -> Option<Timestamp> {
        let when = text.get(..16)?;
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", when)
            .ok()?
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|z| z.timestamp())
    }
}

impl FromStr for RawId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let hash = text.get(17..).unwrap_or_default();
        let ok = Self::second(text).is_some()
            && text.get(16..17) == Some("-")
            && hash.len() == 32
            && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::new("raw id", text, Self::FORM)) }
    }
}

text_form!(RawId);

/// The rank of a staging: (epoch, contract sequence, engine sequence). Higher wins, ties change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Order {
    /// The snapshot number when a replay was planned, else 0.
    pub epoch: u64,
    /// The contract's place in its dataset's history, from 1.
    pub contract: u32,
    /// The version of the staging code, raised when it would write other bytes.
    pub engine: u32,
}

impl Order {
    /// Whether two stagings ran the same contract on the same engine.
    pub fn same_rules(&self, other: &Self) -> bool {
        (self.contract, self.engine) == (other.contract, other.engine)
    }
}

impl fmt::Display for Order {
    /// Zero-padded, so that text order is rank.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{:010}-c{:05}-g{:05}", self.epoch, self.contract, self.engine)
    }
}

impl FromStr for Order {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let mut parts = text.split('-');
            let epoch = parts.next()?.strip_prefix('e')?.parse().ok()?;
            let contract = parts.next()?.strip_prefix('c')?.parse().ok()?;
            let engine = parts.next()?.strip_prefix('g')?.parse().ok()?;
            let order = Self { epoch, contract, engine };
            (parts.next().is_none() && order.to_string() == text).then_some(order)
        };
        parse().ok_or_else(|| NameError::new("order", text, "e<10 digits>-c<5 digits>-g<5 digits>"))
    }
}

impl TryFrom<String> for Order {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Order> for String {
    fn from(order: Order) -> String {
        order.to_string()
    }
}

/// A replay's plan: the epoch that it stages at, and a part that no other plan has. Text order is the order of epochs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanId(String);

impl PlanId {
    /// A new name, of an epoch and of something that is never the same twice.
    pub fn new(epoch: u64, unique: Uuid) -> Self {
        Self(format!("e{epoch:010}-{}", hex(unique.as_bytes().get(..6).unwrap_or_default())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PlanId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts = text.strip_prefix('e').and_then(|rest| rest.split_once('-'));
        let is_plan = parts.is_some_and(|(epoch, unique)| {
            epoch.len() >= 10
                && epoch.parse::<u64>().is_ok_and(|n| format!("{n:010}") == epoch)
                && unique.len() == 12
                && unique.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let expected = "e<10 digits>-<12 hexadecimal digits>";
        is_plan.then(|| Self(text.to_owned())).ok_or_else(|| NameError::new("plan", text, expected))
    }
}

text_form!(PlanId);

/// Ranks the uploads of one key: by second, then sequencer, then id, which within a second says nothing of which came first.
pub fn upload_rank(raw_id: &RawId, sequencer: Option<&str>) -> impl Ord + use<> {
    (raw_id.landed_at(), sequencer.map(sequencer_rank), raw_id.clone())
}

/// An S3 sequencer as something that compares rightly: hexadecimal text of any length, padded on the right with
/// zeros (S3 user guide, event message structure). Comparable for one key only.
fn sequencer_rank(sequencer: &str) -> String {
    format!("{:0<40}", sequencer.to_ascii_uppercase())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dataset_is_what_every_engine_takes_unquoted() {
        for good in ["flights", "a", "orders_2", &"x".repeat(63)] {
            assert!(good.parse::<Dataset>().is_ok(), "{good}");
        }
        for bad in ["", "_contracts", "Flights", "9x", "a-b", "a b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<Dataset>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_source_is_one_segment_and_reads_back() {
        let cases = [
            ("2013-01-01.csv", "2013-01-01.csv"),
            ("a/b c+d=e.csv", "a%2Fb%20c%2Bd=e.csv"),
            ("ü%2F", "%C3%BC%252F"),
            ("..", "%2E%2E"),
            ("~x", "%7Ex"),
        ];
        for (key, segment) in cases {
            let source = Source::of_inbox_key(key).unwrap();
            assert_eq!(source.as_str(), segment);
            assert_eq!(source.inbox_key().as_deref(), Some(key));
        }
        let long = Source::of_inbox_key(&"k".repeat(1000)).unwrap();
        assert!(long.is_hashed() && long.as_str().len() == 65 && long.inbox_key().is_none());
        assert_ne!(long, Source::of_inbox_key(&"k".repeat(1001)).unwrap());
    }

    #[test]
    fn a_raw_id_is_the_same_for_the_same_upload_and_sorts_by_landing() {
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        let a = RawId::new(at("2013-01-01T05:00:00.900Z"), "inbox", "flights/a", "v1");
        assert_eq!(a, RawId::new(at("2013-01-01T05:00:00Z"), "inbox", "flights/a", "v1"));
        assert_ne!(a, RawId::new(at("2013-01-01T05:00:00Z"), "inbox", "flights/av", "1"));
        assert!(a < RawId::new(at("2013-01-01T05:00:01Z"), "inbox", "flights/a", "v1"));
        assert_eq!(a.landed_at(), at("2013-01-01T05:00:00Z"));
        assert_eq!(a.as_str().parse::<RawId>().unwrap(), a);
        assert!(a.as_str().starts_with("20130101T050000Z-"));
    }

    #[test]
    fn sequencers_of_different_length_compare_as_s3_says() {
        assert!(sequencer_rank("0055AED6DCD90281E5") < sequencer_rank("0055AED6DCD90281E501"));
        assert!(sequencer_rank("0055AED6DCD9") < sequencer_rank("0055AED6DCD90281E5"));
        assert_eq!(sequencer_rank("00A0"), sequencer_rank("00a"));
    }

    #[test]
    fn a_plans_name_reads_back_and_is_one_segment_of_a_key() {
        let id = PlanId::new(12, Uuid::from_u128(0xabcd << 112));
        assert_eq!(id.as_str(), "e0000000012-abcd00000000");
        assert_eq!(id.as_str().parse::<PlanId>().unwrap(), id);
        for bad in [
            "",
            "e12-abcd00000000",
            "e0000000012-ABCD00000000",
            "e0000000012-abcd",
            "e+000000012-abcd00000000",
        ] {
            assert!(bad.parse::<PlanId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn orders_sort_as_their_text(a in any::<(u32, u16, u16)>(), b in any::<(u32, u16, u16)>()) {
            let order = |(e, c, g): (u32, u16, u16)| Order { epoch: e.into(), contract: c.into(), engine: g.into() };
            let (a, b) = (order(a), order(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_string().parse::<Order>().unwrap(), a);
        }

        #[test]
        fn distinct_keys_give_distinct_sources(a in ".{1,300}", b in ".{1,300}") {
            let (x, y) = (Source::of_inbox_key(&a).unwrap(), Source::of_inbox_key(&b).unwrap());
            prop_assert_eq!(a == b, x == y);
            prop_assert_eq!(x.as_str().parse::<Source>().unwrap(), x);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = (text.parse::<Dataset>(), text.parse::<Source>(), text.parse::<RawId>(), text.parse::<Order>());
        }
    }
}
