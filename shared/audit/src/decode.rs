//! What a decoder makes of the bytes: chunks of rows as columns, with the original bytes beside them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use sluicegate_contract::{Contract, Kind, Reason};

use crate::cell;

/// Rows and cells in a chunk, and the bytes after which it ends earlier. All count rows, never reads: REP-1.
const CHUNK_ROWS: usize = 8192;
const CHUNK_CELLS: usize = 1 << 18;
pub(crate) const CHUNK_BYTES: usize = 4 << 20;

/// Rows in a chunk of so many columns.
pub(crate) fn chunk_rows(columns: usize) -> usize {
    (CHUNK_CELLS / columns.max(1)).clamp(1, CHUNK_ROWS)
}

/// One rule that a row broke.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RowFault {
    /// The column, unless it is the row as a whole.
    pub column: Option<String>,
    /// A JSON Schema keyword, or `columns`, `quotes`, `encoding`, `json`, `unknown_field`, `max_ahead`; `more` where a row
    /// has more faults than are kept.
    pub rule: &'static str,
    pub reason: String,
}

/// A fault that a decoder found.
pub(crate) struct DecodeFault {
    pub(crate) row: usize,
    pub(crate) field: Option<usize>,
    pub(crate) rule: &'static str,
    pub(crate) reason: String,
}

/// Some rows, decoded.
#[derive(Default)]
pub(crate) struct Chunk {
    /// One array a field of the contract; a cell that could not be decoded is null and has a fault.
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) rows: usize,
    /// Offset of `bytes` in the unpacked object.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    /// Where each row lies in `bytes`, its line end left out.
    pub(crate) spans: Vec<std::ops::Range<usize>>,
    pub(crate) faults: Vec<DecodeFault>,
}

/// Why decoding ended early.
pub(crate) enum DecodeError {
    /// The reader failed; whether it is the source's fault, its progress says.
    Io(std::io::Error),
    /// The bytes cannot be read as the contract says.
    Unreadable(Reason),
}

impl From<std::io::Error> for DecodeError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads rows of one format.
pub(crate) trait Decoder {
    /// The next rows; `None` at the end.
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DecodeError>;

    /// What must precede quarantined rows so that they can be read like a file of the source.
    fn header(&self) -> &[u8] {
        &[]
    }

    /// Names of fields that the contract does not know.
    fn unknown_fields(&self) -> &BTreeSet<String>;
}

/// A value that came with its type (JSON), or as text (CSV).
pub(crate) enum Cell<'a> {
    Absent,
    Null,
    Text(&'a str),
    Boolean(bool),
    Integer(i64),
    Number(f64),
    String(std::borrow::Cow<'a, str>),
    /// A value of a type that no column has.
    Other(&'static str),
}

/// Builds one column.
pub(crate) enum Column {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    String(StringBuilder),
    Date(Date32Builder),
    DateTime(TimestampMicrosecondBuilder),
}

/// The largest whole number up to which doubles are exact: beyond, a JSON number written as a float is not an integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Column {
    pub(crate) fn of(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            Kind::Integer => Self::Integer(Int64Builder::with_capacity(rows)),
            Kind::Number => Self::Number(Float64Builder::with_capacity(rows)),
            Kind::String => Self::String(StringBuilder::with_capacity(rows, rows * 8)),
            Kind::Date => Self::Date(Date32Builder::with_capacity(rows)),
            Kind::DateTime => Self::DateTime(
                TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"),
            ),
        }
    }

    pub(crate) fn null(&mut self) {
        match self {
            Self::Boolean(b) => b.append_null(),
            Self::Integer(b) => b.append_null(),
            Self::Number(b) => b.append_null(),
            Self::String(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::DateTime(b) => b.append_null(),
        }
    }

    /// Appends a value that is there; `false` if it is not one of this column's, which then gets a null.
    pub(crate) fn value(&mut self, cell: &Cell<'_>) -> bool {
        macro_rules! put {
            ($builder:ident, $value:expr) => {{
                let value = $value;
                $builder.append_option(value);
                value.is_some()
            }};
        }
        match self {
            Self::Boolean(b) => put!(
                b,
                match cell {
                    Cell::Boolean(v) => Some(*v),
                    Cell::Text(t) => cell::boolean(t),
                    _ => None,
                }
            ),
            Self::Integer(b) => put!(
                b,
                match cell {
                    Cell::Integer(v) => Some(*v),
                    Cell::Text(t) => cell::integer(t),
                    #[allow(clippy::cast_possible_truncation, reason = "whole, and within 2^53")]
                    Cell::Number(v) if v.fract() == 0.0 && v.abs() <= EXACT => Some(*v as i64),
                    _ => None,
                }
            ),
            Self::Number(b) => put!(
                b,
                match cell {
                    Cell::Number(v) => Some(*v),
                    #[allow(clippy::cast_precision_loss, reason = "the contract says double")]
                    Cell::Integer(v) => Some(*v as f64),
                    Cell::Text(t) => cell::number(t),
                    _ => None,
                }
            ),
            Self::String(b) => put!(b, string(cell)),
            Self::Date(b) => put!(b, string(cell).and_then(cell::date)),
            Self::DateTime(b) => put!(b, string(cell).and_then(cell::date_time)),
        }
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Integer(b) => Arc::new(b.finish()),
            Self::Number(b) => Arc::new(b.finish()),
            Self::String(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::DateTime(b) => Arc::new(b.finish()),
        }
    }
}

fn string<'a>(cell: &'a Cell<'_>) -> Option<&'a str> {
    match cell {
        Cell::Text(t) => Some(t),
        Cell::String(s) => Some(s),
        _ => None,
    }
}

/// Appends one cell of a row to its column, with the fault if it has one.
pub(crate) fn append(
    contract: &Contract,
    field: usize,
    row: usize,
    column: &mut Column,
    cell: &Cell<'_>,
    faults: &mut Vec<DecodeFault>,
) {
    let Some(declared) = contract.fields.get(field) else { return };
    let mut fault =
        |rule, reason| faults.push(DecodeFault { row, field: Some(field), rule, reason });
    match cell {
        Cell::Absent => {
            column.null();
            if declared.required {
                fault("required", "is missing".to_owned());
            }
        }
        Cell::Null => {
            column.null();
            if !declared.nullable {
                fault("type", format!("must be {}, is null", declared.kind.describe()));
            }
        }
        value => {
            if !column.value(value) {
                let shown = show(value);
                fault("type", format!("must be {}, is {shown}", declared.kind.describe()));
            }
        }
    }
}

/// A value cut short for a message.
fn show(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Text(t) => quote(t),
        Cell::String(s) => quote(s),
        Cell::Boolean(b) => b.to_string(),
        Cell::Integer(n) => n.to_string(),
        Cell::Number(n) => n.to_string(),
        Cell::Other(name) => (*name).to_owned(),
        Cell::Null | Cell::Absent => "null".to_owned(),
    }
}

/// Text in quotes, cut after 60 characters.
pub(crate) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}
