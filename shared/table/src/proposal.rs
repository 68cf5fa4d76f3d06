//! What staging a raw object at an order produced, and what a person decided on it. Both are created once.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluicegate_contract::infer::Amendment;
use sluicegate_contract::profile::Profile;
use sluicegate_contract::time::{MICROS_PER_DAY, MICROS_PER_HOUR};
use sluicegate_contract::{AuditResult, Outcome, Verdict};
use sluicegate_lake::{Cost, Dataset, Order, RawId, Source, Usage};

use crate::iceberg::manifest::DataFile;
use crate::iceberg::schema::{PartitionField, PartitionSpec, Transform};

/// `staging/<dataset>/<raw id>/<order>/proposal.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The format of this object.
    pub v: u32,
    pub dataset: Dataset,
    pub source: Source,
    pub raw_id: RawId,
    pub order: Order,
    /// The contract's version that it was held against.
    pub contract_version: String,
    pub partition_by: Option<PartitionBy>,
    /// The upload's sequencer, which orders two versions of a source that landed within a second.
    pub sequencer: Option<String>,
    /// Of the raw object's whole content, in base64; absent where only a composite checksum is known.
    pub sha256: Option<String>,
    /// Size of the raw object.
    pub bytes: u64,
    pub verdict: Verdict,
    /// What each of the contract's audits came to.
    #[serde(default)]
    pub audits: Vec<AuditResult>,
    /// What the accepted rows look like. Promote does without.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// First and last event time of the accepted rows, in microseconds since 1970.
    pub event_range: Option<(i64, i64)>,
    /// Fields that the contract does not know, as it might learn them.
    #[serde(default)]
    pub amendments: Vec<Amendment>,
    /// `column rule` → rows that broke it.
    pub broken: BTreeMap<String, u64>,
    pub files: Vec<DataFile>,
    /// Keys of the quarantined rows and of their reasons.
    pub quarantine: Vec<String>,
    pub receipt: Receipt,
    pub staged_at: Timestamp,
}

impl Proposal {
    /// The object's present format.
    pub const FORMAT: u32 = 1;

    /// Whether it waits for a person.
    pub fn is_held(&self) -> bool {
        self.verdict.outcome() == Outcome::Hold
    }

    /// Itself without what a commit has no use for: a thousand of them are in memory together.
    pub(crate) fn without_columns(mut self) -> Self {
        self.audits = Vec::new();
        self.profile = self.profile.map(|profile| Profile { columns: Vec::new(), ..profile });
        self
    }

    /// About how many bytes manifests take to describe its files.
    pub(crate) fn described_in(&self) -> u64 {
        self.files.iter().map(DataFile::described_in).sum()
    }

    /// Whether it may be published: by its verdict, or by a person's release of a held one.
    pub fn passed(&self, decision: Option<&Decision>) -> bool {
        match self.verdict.outcome() {
            Outcome::Publish => true,
            Outcome::Hold => decision.is_some_and(|d| d.ruling == Ruling::Released),
            Outcome::Reject => false,
        }
    }
}

/// What a staging attempt used and cost. Of what an invocation does once for several files, the first of them has it all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    #[serde(flatten)]
    pub used: Usage,
    /// Nothing in a receipt of before there were prices.
    #[serde(default)]
    pub cost_nano_usd: Cost,
    /// Version of the price list; 0 where there was none.
    #[serde(default)]
    pub prices: u32,
}

/// `staging/<dataset>/<raw id>/<order>/decision.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The format of this object.
    pub v: u32,
    pub ruling: Ruling,
    pub by: String,
    pub why: String,
    pub at: Timestamp,
}

impl Decision {
    /// The object's present format.
    pub const FORMAT: u32 = 1;
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}: {}", self.ruling, self.by, self.why)
    }
}

/// What a person decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ruling {
    Released,
    Rejected,
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Released => "released",
            Self::Rejected => "rejected",
        })
    }
}

/// The partition of a proposal's files: a transform of one column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBy {
    /// Field id of the column.
    pub source_id: i32,
    /// The partition field's name.
    pub name: String,
    pub transform: Transform,
}

impl PartitionBy {
    /// As a field of an Iceberg spec, its id still to be given.
    pub fn field(&self) -> PartitionField {
        PartitionField {
            source_id: self.source_id,
            field_id: 0,
            name: self.name.clone(),
            transform: self.transform,
        }
    }

    /// What a spec partitions by; `None` for one without fields.
    pub(crate) fn of(spec: &PartitionSpec) -> Option<Self> {
        let field = spec.fields.first()?;
        let PartitionField { source_id, name, transform, .. } = field.clone();
        Some(Self { source_id, name, transform })
    }

    /// A partition's name in paths and messages.
    pub fn path(by: Option<&Self>, value: Option<i32>) -> String {
        let fields = by.map(Self::field).into_iter().collect();
        PartitionSpec { id: 0, fields }.partition_path(value)
    }

    /// The first microsecond after a partition.
    pub fn end(&self, value: i32) -> i64 {
        let next = i64::from(value) + 1;
        match self.transform {
            Transform::Hour => next * MICROS_PER_HOUR,
            Transform::Day => next * MICROS_PER_DAY,
            Transform::Month => {
                let year = i16::try_from(1970 + next.div_euclid(12)).unwrap_or(i16::MAX);
                let month = i8::try_from(1 + next.rem_euclid(12)).unwrap_or(1);
                let first = jiff::civil::Date::new(year, month, 1).ok();
                let start = first.and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC).ok());
                start.map_or(i64::MAX, |z| z.timestamp().as_microsecond())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_ends_where_the_next_begins() {
        let by = |transform| PartitionBy { source_id: 11, name: "t".into(), transform };
        let micros = |t: &str| t.parse::<Timestamp>().unwrap().as_microsecond();
        assert_eq!(by(Transform::Day).end(15_706), micros("2013-01-02T00:00:00Z"));
        assert_eq!(by(Transform::Hour).end(0), micros("1970-01-01T01:00:00Z"));
        assert_eq!(by(Transform::Month).end(43 * 12 + 11), micros("2014-01-01T00:00:00Z"));
        assert_eq!(by(Transform::Month).end(-1), 0);
    }
}
