//! What a contract says, once it has been read: no JSON below this line.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::civil::Date;

use crate::audits::AuditRule;
use crate::datum::Datum;
use crate::node::Findings;
use crate::num::Num;
use crate::schema::Schema;
use crate::types::{Field, Type};
use crate::walk::Fault;

/// A dataset's contract.
#[derive(Clone, Debug)]
pub struct Contract {
    pub title: Option<String>,
    pub description: Option<String>,
    /// `major.minor.patch`; a published version never changes.
    pub version: String,
    pub team: Team,
    pub tags: Vec<String>,
    pub format: RowFormat,
    /// Where the rows' time is; without it the table has no partitions and nothing is ever late.
    pub event_time: Option<EventTime>,
    /// Indices into [`Contract::fields`]: the columns that together tell one row from another.
    pub key: Vec<usize>,
    /// How long after the newest event a day stays open.
    pub allowed_lateness: SignedDuration,
    pub late_files: LateFiles,
    pub freshness: Freshness,
    pub budget: Budget,
    pub bad_rows: BadRows,
    pub reupload: Reupload,
    pub unknown_fields: UnknownFields,
    pub metrics: Vec<Metric>,
    /// What is asked of the accepted rows of one object as a whole.
    pub audits: Vec<AuditRule>,
    /// Why this version may break its subscribers.
    pub breaking: Option<String>,
    /// Rows that are good, for both sides to test with.
    pub examples: Vec<Datum<'static>>,
    /// Rows that are bad, and what each breaks.
    pub counterexamples: Vec<Counterexample>,
    /// What holds of every row.
    pub row: Schema,
    /// The columns, in the document's order, which is the table's.
    pub fields: Vec<Field>,
}

/// Who answers for the dataset (Open Data Contract Standard: team).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Team {
    pub name: String,
    pub contact: Option<String>,
    /// Since when.
    pub effective: Option<Date>,
}

/// How a source writes its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowFormat {
    Csv(CsvFormat),
    Jsonl(JsonlFormat),
    Parquet(ParquetFormat),
}

impl RowFormat {
    /// How the object is packed.
    pub fn compression(&self) -> Compression {
        match self {
            Self::Csv(csv) => csv.compression,
            Self::Jsonl(jsonl) => jsonl.compression,
            // Its pages are packed, never the object.
            Self::Parquet(_) => Compression::None,
        }
    }
}

/// Comma-separated values (RFC 4180).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFormat {
    pub delimiter: u8,
    pub quote: u8,
    /// Whether the first row names the columns; otherwise they are the contract's, in its order.
    pub header: bool,
    pub encoding: Encoding,
    /// Cells that stand for null, quoted or not.
    pub null_tokens: Vec<String>,
    pub line_limit: usize,
    pub compression: Compression,
}

/// How text is written as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    /// ISO 8859-1: every byte is a character.
    Latin1,
}

/// JSON Lines: one object a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonlFormat {
    pub line_limit: usize,
    pub compression: Compression,
}

/// Apache Parquet: columns, with their own types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParquetFormat {
    /// Of a row's texts, in bytes.
    pub line_limit: usize,
}

/// How the object is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// By the object's first bytes.
    Detect,
    None,
    Gzip,
    Zstd,
}

/// Which column says when a row happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// Index into [`Contract::fields`].
    pub field: usize,
    pub grain: Grain,
    /// How far after its landing a row may claim to have happened.
    pub max_ahead: SignedDuration,
}

/// The partitions of the table: a transform of the event time, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    Hour,
    Day,
    Month,
    None,
}

impl Grain {
    /// What Iceberg calls the field of a table's partitions by this grain of a column; `None` without partitions.
    pub fn partition_name(self, column: &str) -> Option<String> {
        let word = match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::None => return None,
        };
        Some(format!("{column}_{word}"))
    }
}

/// How long after its newest event the dataset may go without a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    pub warn_after: Option<SignedDuration>,
    pub error_after: Option<SignedDuration>,
}

/// What the dataset's stagings may cost in a calendar month (UTC), in nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Of fresh data; above it there is an alarm, and everything is published all the same.
    pub fresh: Option<u64>,
    /// Of replays by a plan, which stop there.
    pub replays: Option<u64>,
}

/// How many bad rows an object may have and still be published without them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadRows {
    pub max_fraction: f64,
    pub max_count: Option<u64>,
}

/// What uploading a source again means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reupload {
    /// The newest version that passed is published, in place of the older one's rows.
    Replace,
    /// Every version is published.
    Append,
    /// The oldest version that passed stays.
    Reject,
}

/// What becomes of a file with rows for a partition that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateFiles {
    /// It is published, and the partition restated.
    Publish,
    /// It waits for a person.
    Hold,
}

/// What happens to a field that the contract does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// It is kept in the column `_extra`, and proposed as an amendment.
    Keep,
    /// It is left out of the table, and proposed as an amendment.
    Drop,
    /// It is an error: of the object for CSV and Parquet, of the row for JSON Lines.
    Reject,
}

/// A named measure of the dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: String,
    pub description: Option<String>,
    pub unit: Option<String>,
    pub measure: Measure,
}

/// How a metric is computed from rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// The share of rows of which a schema holds.
    ShareOf(Box<Schema>),
    /// Of a numeric column; indices into [`Contract::fields`].
    SumOf(usize),
    MeanOf(usize),
    MinOf(usize),
    MaxOf(usize),
}

/// A bad row, and the rule that it must break.
#[derive(Clone, Debug, PartialEq)]
pub struct Counterexample {
    pub row: Datum<'static>,
    /// JSON pointer into the row.
    pub at: String,
    pub rule: String,
}

impl Budget {
    /// Nano-dollars as dollars are written in a contract.
    pub fn dollars(nano: u64) -> String {
        Num::decimal(i128::from(nano), 9).to_string()
    }
}

impl Contract {
    /// The largest document that is read at all.
    pub const SIZE_LIMIT: u64 = 1 << 20;

    /// Reads a document and lints it; every finding is reported, not only the first.
    pub fn parse(document: &[u8]) -> Result<Self, Findings> {
        crate::lint::read(document)
    }

    /// The column that says when a row happened.
    pub fn event_field(&self) -> Option<&Field> {
        self.event_time.as_ref().and_then(|e| self.fields.get(e.field))
    }

    /// Every rule that a row breaks, as far as the row alone can tell. Values of classified columns are not shown.
    pub fn explain(&self, row: &Datum<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.row.explain(&held(&self.fields, row), "", &mut faults);
        let own = row.properties();
        for field in &self.fields {
            if let Some(value) = own.get(&field.source) {
                let pointer = crate::pointer::child("", &field.source);
                field.ty.explain(value, &pointer, &mut faults);
            }
        }
        if self.unknown_fields == UnknownFields::Reject {
            unknown_fields(&self.fields, row, "", &mut |pointer, value| {
                if faults.len() >= crate::walk::FAULT_LIMIT {
                    return;
                }
                faults.push(Fault {
                    pointer,
                    rule: "unknown_field",
                    demand: "is not in the contract, which rejects unknown fields".to_owned(),
                    value: Some(crate::walk::shown(value)),
                });
            });
        }
        for fault in &mut faults {
            if self.is_redacted(&fault.pointer) {
                fault.value = None;
            }
        }
        faults
    }

    /// Whether the values at a place in a row are not to be shown.
    pub fn is_redacted(&self, pointer: &str) -> bool {
        let redacted = |field: &Field| field.classification.is_some_and(|c| c.is_redacted());
        let segments: Vec<_> = crate::pointer::names(pointer).collect();
        let mut fields = self.fields.as_slice();
        let mut segments = segments.iter();
        while let Some(segment) = segments.next() {
            let Some(field) = fields.iter().find(|f| f.source == *segment) else { return false };
            if redacted(field) {
                return true;
            }
            let mut ty = &field.ty;
            while let Type::List(element) = ty {
                ty = &element.ty;
                if segments.next().is_none() {
                    break;
                }
            }
            match ty {
                // A fault of a whole object shows its parts.
                Type::Struct(inner) if segments.len() == 0 => return any(inner, &redacted),
                Type::Struct(inner) => fields = inner,
                _ => return false,
            }
        }
        any(fields, &redacted)
    }
}

/// A row with the numbers that its columns hold: of a double, the nearest one. The rules are about those.
fn held<'a>(fields: &[Field], row: &Datum<'a>) -> Datum<'a> {
    let Datum::Object(properties) = row else { return row.clone() };
    let known: BTreeMap<&str, &Type> = fields.iter().map(|f| (f.source.as_str(), &f.ty)).collect();
    let properties = properties.iter().map(|(name, value)| {
        let held = known.get(name.as_ref()).map(|ty| held_by(ty, value));
        (name.clone(), held.unwrap_or_else(|| value.clone()))
    });
    Datum::Object(properties.collect())
}

fn held_by<'a>(ty: &Type, value: &Datum<'a>) -> Datum<'a> {
    let number = match (ty, value) {
        (Type::Double, Datum::Number(n)) => Num::from_f64(n.to_f64()),
        // Through its own text, which is shorter than that of the double it is.
        (Type::Float, Datum::Number(n)) => {
            crate::types::single(n.to_f64()).and_then(|n| Num::parse(&format!("{n:e}")))
        }
        (Type::Struct(fields), object) => return held(fields, object),
        (Type::List(element), Datum::Array(items)) => {
            return Datum::Array(items.iter().map(|item| held_by(&element.ty, item)).collect());
        }
        _ => None,
    };
    number.map_or_else(|| value.clone(), Datum::Number)
}

/// Whether any field, at any depth, is so.
fn any(fields: &[Field], is: &dyn Fn(&Field) -> bool) -> bool {
    fields.iter().any(|field| {
        let mut ty = &field.ty;
        while let Type::List(element) = ty {
            ty = &element.ty;
        }
        is(field) || matches!(ty, Type::Struct(inner) if any(inner, is))
    })
}

/// Calls back for every property of a row that the fields do not know, at any depth, with its place.
pub fn unknown_fields(
    fields: &[Field],
    value: &Datum<'_>,
    pointer: &str,
    found: &mut dyn FnMut(String, &Datum<'_>),
) {
    let Datum::Object(properties) = value else { return };
    let known: BTreeMap<&str, &Field> = fields.iter().map(|f| (f.source.as_str(), f)).collect();
    for (name, value) in properties {
        let at = crate::pointer::child(pointer, name);
        match known.get(name.as_ref()) {
            Some(field) => unknown_inside(&field.ty, value, &at, found),
            None => found(at, value),
        }
    }
}

fn unknown_inside(
    ty: &Type,
    value: &Datum<'_>,
    pointer: &str,
    found: &mut dyn FnMut(String, &Datum<'_>),
) {
    match (ty, value) {
        (Type::Struct(fields), value) => unknown_fields(fields, value, pointer, found),
        (Type::List(element), Datum::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                unknown_inside(&element.ty, item, &format!("{pointer}/{i}"), found);
            }
        }
        _ => {}
    }
}
