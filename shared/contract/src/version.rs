//! A contract as the lake keeps it: `contracts/<dataset>/<version>.json`, immutable, and the pointer to the current one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diff::{Refusal, diff};
use crate::types::{Field, Type, items_path, path};
use crate::{Contract, Findings, UnknownFields};

/// The columns that are ours, in every row of every table. They answer "where does this row come from".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    RawId,
    RawRow,
    LandedAt,
    /// Only where the contract keeps unknown fields.
    Extra,
}

impl Lineage {
    /// Those of a contract's table, in the order of their columns, which come after the contract's.
    pub fn of(contract: &Contract) -> &'static [Self] {
        match contract.unknown_fields {
            UnknownFields::Keep => &[Self::RawId, Self::RawRow, Self::LandedAt, Self::Extra],
            UnknownFields::Drop | UnknownFields::Reject => {
                &[Self::RawId, Self::RawRow, Self::LandedAt]
            }
        }
    }

    /// What a column of it is.
    pub fn ty(self) -> Type {
        match self {
            Self::RawId => Type::String,
            Self::RawRow => Type::Long,
            Self::LandedAt => Type::Timestamp,
            Self::Extra => Type::Json,
        }
    }

    /// Whether every row has a value of it.
    pub fn always_present(self) -> bool {
        self != Self::Extra
    }

    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RawId => "_raw_id",
            Self::RawRow => "_raw_row",
            Self::LandedAt => "_landed_at",
            Self::Extra => "_extra",
        }
    }

    /// The column's field id: the same in every table.
    pub fn field_id(self) -> i32 {
        match self {
            Self::RawId => 1,
            Self::RawRow => 2,
            Self::LandedAt => 3,
            Self::Extra => 4,
        }
    }

    /// What it holds.
    pub fn description(self) -> &'static str {
        match self {
            Self::RawId => "The raw object that the row was staged from.",
            Self::RawRow => "The row's number in the raw object, from 1, the header not counted.",
            Self::LandedAt => "When the raw object landed.",
            Self::Extra => {
                "What the row had beyond its contract, as a JSON object from place to value."
            }
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
    /// Place ([`crate::path`]) → field id. A place keeps its id for as long as engines can read the older files' type as
    /// the newer one, whatever its column is called.
    pub field_ids: BTreeMap<String, i32>,
    /// The highest id ever given out; ids are never used twice.
    pub last_field_id: i32,
    /// Ids that rows of some version, up to this one, may lack: the table does not require them.
    #[serde(default)]
    pub lacking: BTreeSet<i32>,
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
    #[error(transparent)]
    Breaking(#[from] Refusal),
    /// Nothing can follow it, for its columns' ids would be lost.
    #[error("the current version {version} cannot be read any more:\n{findings}")]
    Unreadable { version: String, findings: Findings },
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
            if previous.says(&document) {
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
        let before = match previous {
            None => None,
            Some(previous) => {
                let old = previous.contract().map_err(|findings| VersionError::Unreadable {
                    version: previous.version.clone(),
                    findings,
                })?;
                diff(&old, &contract).permitted(&old, &contract)?;
                Some(old)
            }
        };
        let before = before.as_ref().map(|old| old.fields.as_slice()).unwrap_or_default();
        let (field_ids, last_field_id) = number_fields(&contract.fields, before, previous);
        let mut lacking = previous.map(|p| p.lacking.clone()).unwrap_or_default();
        let always = always_present(&contract.fields, &field_ids);
        // What is new was not there before, and what may be absent now may be so in files for ever.
        let first_new = previous.map_or(FIRST_FIELD_ID, |p| p.last_field_id + 1);
        lacking.extend(
            field_ids
                .values()
                .filter(|id| !always.contains(id) || (previous.is_some() && **id >= first_new)),
        );
        Ok(Some(Self {
            v: Self::FORMAT,
            sequence: previous.map_or(1, |p| p.sequence + 1),
            version: contract.version,
            upload: upload.to_owned(),
            field_ids,
            last_field_id,
            lacking,
            document,
        }))
    }

    /// The contract itself.
    pub fn contract(&self) -> Result<Contract, Findings> {
        Contract::parse(self.document.to_string().as_bytes())
    }

    /// Whether a document is the version's own: the order of its properties counts, since it is that of the columns.
    pub fn says(&self, document: &Value) -> bool {
        let (own, other) = (self.document.to_string(), document.to_string());
        own == other
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

    /// The field id of a place in the contract; 0 if it has none.
    pub fn field_id(&self, path: &str) -> i32 {
        self.field_ids.get(path).copied().unwrap_or_default()
    }
}

fn rank(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

/// Ids for the fields: the previous version's where older files stay readable, new ones otherwise.
fn number_fields(
    fields: &[Field],
    before: &[Field],
    previous: Option<&Version>,
) -> (BTreeMap<String, i32>, i32) {
    let mut numbering = Numbering {
        before: previous.map(|p| &p.field_ids),
        ids: BTreeMap::new(),
        last: previous.map_or(FIRST_FIELD_ID - 1, |p| p.last_field_id),
    };
    numbering.fields("", fields, Some(before));
    (numbering.ids, numbering.last)
}

/// The ids of what is there in every row, or in every value of what it is a part of.
fn always_present(fields: &[Field], ids: &BTreeMap<String, i32>) -> BTreeSet<i32> {
    fn fields_of(fields: &[Field], parent: &str, found: &mut dyn FnMut(&str)) {
        for field in fields {
            let at = path(parent, &field.source);
            if field.always_present() {
                found(&at);
            }
            inside(&field.ty, &at, found);
        }
    }
    fn inside(ty: &Type, at: &str, found: &mut dyn FnMut(&str)) {
        match ty {
            Type::Struct(fields) => fields_of(fields, at, found),
            Type::List(element) => {
                let at = items_path(at);
                if !element.nullable {
                    found(&at);
                }
                inside(&element.ty, &at, found);
            }
            _ => {}
        }
    }
    let mut always = BTreeSet::new();
    fields_of(fields, "", &mut |at| always.extend(ids.get(at)));
    always
}

struct Numbering<'a> {
    before: Option<&'a BTreeMap<String, i32>>,
    ids: BTreeMap<String, i32>,
    last: i32,
}

impl Numbering<'_> {
    fn fields(&mut self, parent: &str, fields: &[Field], before: Option<&[Field]>) {
        // All of a level before the levels below, as Iceberg itself numbers.
        let known =
            |field: &Field| before?.iter().find(|b| b.source == field.source).map(|b| &b.ty);
        let kept: Vec<_> = fields
            .iter()
            .map(|field| self.number(path(parent, &field.source), &field.ty, known(field)))
            .collect();
        for (field, kept) in fields.iter().zip(kept) {
            self.below(&path(parent, &field.source), &field.ty, known(field).filter(|_| kept));
        }
    }

    fn below(&mut self, at: &str, ty: &Type, before: Option<&Type>) {
        match (ty, before) {
            (Type::Struct(fields), Some(Type::Struct(before))) => {
                self.fields(at, fields, Some(before))
            }
            (Type::Struct(fields), _) => self.fields(at, fields, None),
            (Type::List(element), before) => {
                let before = match before {
                    Some(Type::List(before)) => Some(&before.ty),
                    _ => None,
                };
                let at = items_path(at);
                let kept = self.number(at.clone(), &element.ty, before);
                self.below(&at, &element.ty, before.filter(|_| kept));
            }
            _ => {}
        }
    }

    /// Gives a place its id; says whether it is the one it had.
    fn number(&mut self, at: String, ty: &Type, before: Option<&Type>) -> bool {
        let kept = before.filter(|before| reads_as(before, ty));
        let kept = kept.and_then(|_| self.before?.get(&at)).copied();
        let id = kept.unwrap_or_else(|| {
            self.last += 1;
            self.last
        });
        self.ids.insert(at, id);
        kept.is_some()
    }
}

/// Whether a column keeps its id: engines read files of the older type as the newer one (Iceberg specification, "Schema
/// evolution"). What is inside structs and lists has ids of its own.
pub(crate) fn reads_as(before: &Type, now: &Type) -> bool {
    match (before, now) {
        (Type::Int, Type::Long) | (Type::Float, Type::Double) => true,
        (
            Type::Decimal { precision: old, scale: a },
            Type::Decimal { precision: new, scale: b },
        ) => a == b && old <= new,
        (Type::Struct(_), Type::Struct(_)) => true,
        (Type::List(old), Type::List(new)) => reads_as(&old.ty, &new.ty),
        (before, now) => before == now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(version: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value: Value =
            serde_json::from_str(include_str!("../../../examples/flights/contract.json")).unwrap();
        value["x-sluicegate"]["version"] = json!(version);
        // They name columns that are renamed here.
        value["x-sluicegate"]["audits"] = json!([]);
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
            &document("2.0.0", |d| {
                d["x-sluicegate"]["breaking"] = json!("nobody asks for minutes");
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
            &document("3.0.0", |d| {
                d["x-sluicegate"]["breaking"] = json!("hours are halves");
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
    fn a_breaking_version_says_so_and_an_ordered_one_is_another() {
        let v1 = next(&document("1.0.0", |_| {}), None);
        let narrower = |version: &str| {
            document(version, |d| d["properties"]["dep_delay"]["maximum"] = json!(60))
        };
        for version in ["1.1.0", "2.0.0"] {
            let refused = Version::next(&narrower(version), Some(&v1), "x");
            assert!(matches!(refused, Err(VersionError::Breaking(_))), "{version}");
        }
        let wider = document("1.1.0", |d| d["properties"]["dep_delay"]["maximum"] = json!(6000));
        assert_eq!(next(&wider, Some(&v1)).field_ids, v1.field_ids);
        let moved = document("1.1.0", |d| {
            let properties = d["properties"].as_object_mut().unwrap();
            let year = properties.shift_remove("year").unwrap();
            properties.insert("year".to_owned(), year);
        });
        assert_eq!(next(&moved, Some(&v1)).field_ids["year"], v1.field_ids["year"]);
    }

    #[test]
    fn nested_places_keep_their_ids() {
        let orders = |version: &str, change: &dyn Fn(&mut Value)| {
            let mut value: Value = serde_json::from_str(include_str!(
                "../../../tests/contract/golden/orders.contract.json"
            ))
            .unwrap();
            value["x-sluicegate"]["version"] = json!(version);
            change(&mut value);
            value.to_string().into_bytes()
        };
        let v1 = next(&orders("1.0.0", &|_| {}), None);
        let ids: std::collections::BTreeSet<_> = v1.field_ids.values().collect();
        assert_eq!(ids.len(), v1.field_ids.len(), "no id twice");
        assert!(v1.field_ids.keys().any(|at| at.contains("/*/")), "{:?}", v1.field_ids);
        let v2 = next(
            &orders("1.1.0", &|d| {
                let lines = d.pointer_mut("/properties/lines/items/properties").unwrap();
                lines["discount"] = json!({"type": ["number", "null"]});
            }),
            Some(&v1),
        );
        let new = v2.field_ids["lines/*/discount"];
        assert_eq!(new, v1.last_field_id + 1);
        assert!(v1.field_ids.iter().all(|(at, id)| v2.field_ids[at] == *id));
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
