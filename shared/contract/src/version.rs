//! A contract as the lake keeps it: `contracts/<dataset>/<version>.json`, immutable, and the pointer to the current one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Contract, Field, Findings, Kind};

/// The columns that are ours, in every row of every table. They answer "where does this row come from".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    RawId,
    RawRow,
    LandedAt,
}

impl Lineage {
    /// In the order of their columns, which come after the contract's.
    pub const ALL: [Self; 3] = [Self::RawId, Self::RawRow, Self::LandedAt];

    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RawId => "_raw_id",
            Self::RawRow => "_raw_row",
            Self::LandedAt => "_landed_at",
        }
    }

    /// The column's field id: the same in every table.
    pub fn field_id(self) -> i32 {
        match self {
            Self::RawId => 1,
            Self::RawRow => 2,
            Self::LandedAt => 3,
        }
    }

    /// What it holds.
    pub fn description(self) -> &'static str {
        match self {
            Self::RawId => "The raw object that the row was staged from.",
            Self::RawRow => "The row's number in the raw object, from 1, the header not counted.",
            Self::LandedAt => "When the raw object landed.",
        }
    }
}

/// The first id of a contract's own columns; those below are ours.
pub const FIRST_FIELD_ID: i32 = 11;

/// One version of a dataset's contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The format of this record.
    pub v: u32,
    /// The place in the dataset's history, from 1; it ranks stagings.
    pub sequence: u32,
    pub version: String,
    /// The raw id of the upload that brought it.
    pub upload: String,
    /// Property → field id. A property keeps its id for as long as its type stays, whatever its column is called.
    pub field_ids: BTreeMap<String, i32>,
    /// The highest id ever given out; ids are never used twice.
    pub last_field_id: i32,
    pub document: Value,
}

/// What `contracts/<dataset>/current.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractPointer {
    pub v: u32,
    pub sequence: u32,
    pub version: String,
    /// What the version's object is called: its version, or, where an attempt that was given up has taken that, more.
    pub name: String,
}

/// Why a document does not become the next version.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error(transparent)]
    Lint(#[from] Findings),
    #[error(
        "version {0} is published with other content; a changed contract needs a higher version"
    )]
    Published(String),
    #[error("version {new} is lower than the published {current}")]
    Lower { new: String, current: String },
}

impl Version {
    /// The record's present format.
    pub const FORMAT: u32 = 1;

    /// Lints a document and numbers it as the successor of `previous`. `None`: it is the same document again.
    pub fn next(
        document: &[u8],
        previous: Option<&Self>,
        upload: &str,
    ) -> Result<Option<Self>, VersionError> {
        let contract = Contract::parse(document)?;
        let document: Value = serde_json::from_slice(document).unwrap_or_default();
        if let Some(previous) = previous {
            if previous.document == document {
                return Ok(None);
            }
            let (new, current) = (rank(&contract.version), rank(&previous.version));
            if new == current {
                return Err(VersionError::Published(contract.version));
            }
            if new < current {
                let current = previous.version.clone();
                return Err(VersionError::Lower { new: contract.version, current });
            }
        }
        let (field_ids, last_field_id) = number_fields(&contract.fields, previous);
        Ok(Some(Self {
            v: Self::FORMAT,
            sequence: previous.map_or(1, |p| p.sequence + 1),
            version: contract.version,
            upload: upload.to_owned(),
            field_ids,
            last_field_id,
            document,
        }))
    }

    /// The contract itself.
    pub fn contract(&self) -> Result<Contract, Findings> {
        Contract::parse(self.document.to_string().as_bytes())
    }

    /// The pointer that makes it current, as the object of this name.
    pub fn pointer(&self, name: &str) -> ContractPointer {
        ContractPointer {
            v: Self::FORMAT,
            sequence: self.sequence,
            version: self.version.clone(),
            name: name.to_owned(),
        }
    }

    /// The field id of a column of the contract.
    pub fn field_id(&self, field: &Field) -> i32 {
        self.field_ids.get(&field.source).copied().unwrap_or_default()
    }
}

fn rank(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

/// Ids for the fields: the previous version's where the type stayed, new ones otherwise.
fn number_fields(fields: &[Field], previous: Option<&Version>) -> (BTreeMap<String, i32>, i32) {
    let mut last = previous.map_or(FIRST_FIELD_ID - 1, |p| p.last_field_id);
    let before = previous.and_then(|p| p.contract().ok()).map(|c| c.fields).unwrap_or_default();
    let kind_before = |source: &str| -> Option<Kind> {
        before.iter().find(|f| f.source == source).map(|f| f.kind)
    };
    let ids = fields.iter().map(|field| {
        let kept = previous
            .and_then(|p| p.field_ids.get(&field.source))
            .filter(|_| kind_before(&field.source) == Some(field.kind));
        let id = kept.copied().unwrap_or_else(|| {
            last += 1;
            last
        });
        (field.source.clone(), id)
    });
    let ids = ids.collect();
    (ids, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(version: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value: Value =
            serde_json::from_str(include_str!("../../../examples/flights/contract.json")).unwrap();
        value["x-sluicegate"]["version"] = json!(version);
        change(&mut value);
        value.to_string().into_bytes()
    }

    fn next(document: &[u8], previous: Option<&Version>) -> Version {
        Version::next(document, previous, "upload").unwrap().unwrap()
    }

    #[test]
    fn ids_survive_renames_and_are_never_used_twice() {
        let v1 = next(&document("1.0.0", |_| {}), None);
        assert_eq!((v1.sequence, v1.field_ids["year"], v1.last_field_id), (1, 11, 29));
        let v2 = next(
            &document("1.1.0", |d| {
                d["properties"]["distance"]["x-sluicegate"]["name"] = json!("miles");
                d["properties"]["gate"] = json!({"type": ["string", "null"]});
                d["properties"].as_object_mut().unwrap().shift_remove("minute");
                d["required"].as_array_mut().unwrap().retain(|r| r != "minute");
            }),
            Some(&v1),
        );
        assert_eq!(v2.field_ids["distance"], v1.field_ids["distance"]);
        assert_eq!(v2.field_ids["gate"], 30);
        let v3 = next(
            &document("2.0.0", |d| {
                d["properties"]["hour"]["type"] = json!("number");
            }),
            Some(&v2),
        );
        assert_eq!((v3.sequence, v3.last_field_id), (3, 32));
        assert!(v3.field_ids["hour"] > 30 && v3.field_ids["minute"] > 30);
    }

    #[test]
    fn a_published_version_never_changes() {
        let v1 = next(&document("1.2.0", |_| {}), None);
        assert!(Version::next(&document("1.2.0", |_| {}), Some(&v1), "x").unwrap().is_none());
        let changed = document("1.2.0", |d| d["title"] = json!("other"));
        assert!(matches!(Version::next(&changed, Some(&v1), "x"), Err(VersionError::Published(_))));
        let lower = document("1.1.9", |_| {});
        assert!(matches!(Version::next(&lower, Some(&v1), "x"), Err(VersionError::Lower { .. })));
        assert!(matches!(Version::next(b"{}", Some(&v1), "x"), Err(VersionError::Lint(_))));
    }

    #[test]
    fn the_record_reads_back() {
        let v1 = next(&document("1.0.0", |_| {}), None);
        let text = serde_json::to_string(&v1).unwrap();
        let read: Version = serde_json::from_str(&text).unwrap();
        assert_eq!(read.document, v1.document);
        assert_eq!(read.contract().unwrap().fields.len(), 19);
        assert_eq!(read.pointer("1.0.0").sequence, 1);
    }
}
