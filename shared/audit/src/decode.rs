//! What a decoder makes of the bytes: chunks of rows as columns, with the original bytes beside them.
//!
//! A decoder says which rows are bad, and not why: the reasons are [`Contract::explain`]'s, of the row as it was
//! written. Only of rows that are no rows at all the decoder itself gives the fault.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBufferBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float32Builder, Float64Builder, Int32Builder, Int64Builder, ListArray, NullBufferBuilder,
    StringBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::ArrowError;
use sluicegate_contract::check::{Present, Vector, data_type};
use sluicegate_contract::{Contract, Datum, Field, Num, Reason, Type, decimal, single, time};

/// Rows and cells in a chunk, and the bytes after which it ends earlier. All count rows, never reads: REP-1.
const CHUNK_ROWS: usize = 8192;
const CHUNK_CELLS: usize = 1 << 18;
pub(crate) const CHUNK_BYTES: usize = 4 << 20;

/// Rows in a chunk of so many columns.
pub(crate) fn chunk_rows(columns: usize) -> usize {
    (CHUNK_CELLS / columns.max(1)).clamp(1, CHUNK_ROWS)
}

/// Columns as Parquet counts them.
pub(crate) fn leaves(fields: &[Field]) -> usize {
    let of = |mut ty: &Type| {
        while let Type::List(element) = ty {
            ty = &element.ty;
        }
        match ty {
            Type::Struct(fields) => leaves(fields),
            _ => 1,
        }
    };
    fields.iter().map(|field| of(&field.ty)).sum()
}

/// One rule that a row broke.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RowFault {
    /// The property of the row, unless it is the row as a whole.
    pub column: Option<String>,
    /// JSON pointer to the value in its row.
    pub pointer: String,
    /// A JSON Schema keyword, or `logicalType`, `columns`, `quotes`, `encoding`, `json`, `unknown_field`, `max_ahead`; `more`
    /// where a row has more faults than are kept.
    pub rule: &'static str,
    pub reason: String,
}

impl RowFault {
    /// A fault of the row as a whole.
    pub(crate) fn whole(rule: &'static str, reason: impl Into<String>) -> Self {
        Self { column: None, pointer: String::new(), rule, reason: reason.into() }
    }
}

/// Some rows, decoded.
#[derive(Default)]
pub(crate) struct Chunk {
    /// One column a field of the contract; a cell that could not be decoded is null, and its row is bad.
    pub(crate) columns: Vec<Vector>,
    /// What the contract does not know, where it is kept: a JSON object a row.
    pub(crate) extra: Option<ArrayRef>,
    pub(crate) rows: usize,
    /// Offset of `bytes` in the unpacked object; of Parquet, that of the rows' row group.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    /// Where each row lies in `bytes`, its line end left out.
    pub(crate) spans: Vec<std::ops::Range<usize>>,
    /// Rows that break the contract.
    pub(crate) bad: Vec<bool>,
    /// Rows that may, though every value has a place in its column.
    pub(crate) doubtful: Vec<usize>,
    /// The first column of a bad row that has no place for its value.
    pub(crate) blamed: BTreeMap<usize, usize>,
    /// Rows that are none.
    pub(crate) broken: BTreeMap<usize, RowFault>,
}

impl Chunk {
    /// Marks a row that is none.
    pub(crate) fn spoil(&mut self, row: usize, rule: &'static str, reason: impl Into<String>) {
        self.broken.entry(row).or_insert_with(|| RowFault::whole(rule, reason));
        if let Some(bad) = self.bad.get_mut(row) {
            *bad = true;
        }
    }

    /// A row's bytes.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        self.spans.get(row).and_then(|span| self.bytes.get(span.clone())).unwrap_or_default()
    }
}

/// Why decoding ended early.
pub(crate) enum DecodeError {
    /// The reader failed; whether it is the source's fault, its progress says.
    Io(std::io::Error),
    /// What must be at hand as a file could not be kept as one, or not be read again.
    Scratch(std::io::Error),
    /// The bytes cannot be read as the contract says.
    Unreadable(Reason),
    /// A column does not fit together, which is ours to mend: nothing is made of the object.
    Defect(ArrowError),
}

impl From<ArrowError> for DecodeError {
    fn from(error: ArrowError) -> Self {
        Self::Defect(error)
    }
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

    /// A row of the last chunk as it was written, or as JSON where it has no bytes of its own.
    fn original<'c>(&'c self, chunk: &'c Chunk, row: usize) -> Cow<'c, [u8]> {
        Cow::Borrowed(chunk.row(row))
    }

    /// A row as it was written, from its bytes.
    fn datum<'a>(&self, row: &'a [u8]) -> Result<Datum<'a>, RowFault>;

    /// Takes the bytes of a chunk back that is done with, to be filled again.
    fn recycle(&mut self, bytes: Vec<u8>) {
        drop(bytes);
    }

    /// What must precede quarantined rows so that they can be read like a file of the source.
    fn header(&self) -> &[u8] {
        &[]
    }
}

/// A value of JSON.
#[derive(Debug, Default)]
pub(crate) enum Cell<'a> {
    #[default]
    Absent,
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    String(Cow<'a, str>),
    /// JSON text of a value whose column needs its very digits.
    Raw(&'a str),
    Array(Vec<Cell<'a>>),
    /// In the order of the struct's fields.
    Object(Vec<Cell<'a>>),
    /// A value of a type that the column does not have.
    Other,
}

/// Builds one column.
pub(crate) struct Column {
    builder: Builder,
    nullable: bool,
    required: bool,
    /// Where absent and null must be told apart.
    present: Option<BooleanBufferBuilder>,
}

enum Builder {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder, u8, u8),
    String(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Json(StringBuilder),
    Struct { columns: Vec<Column>, valid: NullBufferBuilder, fields: Fields },
    List { items: Box<Column>, offsets: Vec<i32>, valid: NullBufferBuilder, item: FieldRef },
}

/// From here on a double stands for several whole numbers: a JSON number written as a float is none of them for sure.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Column {
    pub(crate) fn of(field: &Field, rows: usize, tell_absent: bool) -> Self {
        let told = tell_absent && field.nullable && !field.required;
        Self {
            builder: Builder::of(&field.ty, rows, tell_absent),
            nullable: field.nullable,
            required: field.required,
            present: told.then(|| BooleanBufferBuilder::new(rows)),
        }
    }

    /// Appends nothing, for a row that is bad anyway.
    pub(crate) fn skip(&mut self) {
        self.null();
        if let Some(present) = &mut self.present {
            present.append(false);
        }
    }

    fn null(&mut self) {
        match &mut self.builder {
            Builder::Boolean(b) => b.append_null(),
            Builder::Int(b) => b.append_null(),
            Builder::Long(b) => b.append_null(),
            Builder::Float(b) => b.append_null(),
            Builder::Double(b) => b.append_null(),
            Builder::Decimal(b, ..) => b.append_null(),
            Builder::String(b) | Builder::Json(b) => b.append_null(),
            Builder::Date(b) => b.append_null(),
            Builder::Timestamp(b) => b.append_null(),
            Builder::Struct { columns, valid, .. } => {
                valid.append_null();
                columns.iter_mut().for_each(Column::skip);
            }
            Builder::List { offsets, valid, .. } => {
                valid.append_null();
                offsets.push(offsets.last().copied().unwrap_or_default());
            }
        }
    }

    /// Appends a cell; `false` if the contract does not allow it here, and then something stands in its place. `doubt` is
    /// raised where a whole number came as a float, which may have been another number before it was one.
    pub(crate) fn append(&mut self, cell: &Cell<'_>, doubt: &mut bool) -> bool {
        if let Some(present) = &mut self.present {
            present.append(!matches!(cell, Cell::Absent));
        }
        match cell {
            Cell::Absent => {
                self.null();
                !self.required
            }
            Cell::Null => {
                self.null();
                self.nullable
            }
            value => self.value(value, doubt),
        }
    }

    fn value(&mut self, cell: &Cell<'_>, doubt: &mut bool) -> bool {
        macro_rules! put {
            ($builder:ident, $value:expr) => {{
                let value = $value;
                $builder.append_option(value);
                value.is_some()
            }};
        }
        match &mut self.builder {
            Builder::Boolean(b) => put!(
                b,
                match cell {
                    Cell::Boolean(v) => Some(*v),
                    _ => None,
                }
            ),
            Builder::Long(b) => {
                *doubt |= matches!(cell, Cell::Number(_));
                put!(b, whole(cell))
            }
            Builder::Int(b) => {
                *doubt |= matches!(cell, Cell::Number(_));
                put!(b, whole(cell).and_then(|n| i32::try_from(n).ok()))
            }
            Builder::Double(b) => put!(b, number(cell)),
            Builder::Float(b) => put!(b, number(cell).and_then(single)),
            Builder::Decimal(b, precision, scale) => {
                let number = match cell {
                    Cell::Raw(text) => Num::parse(text),
                    Cell::Integer(n) => Some(Num::whole((*n).into())),
                    Cell::Number(n) => Num::from_f64(*n),
                    _ => None,
                };
                put!(b, number.and_then(|n| decimal(n, *precision, *scale)))
            }
            Builder::String(b) => put!(b, string(cell)),
            Builder::Date(b) => put!(b, string(cell).and_then(time::date)),
            Builder::Timestamp(b) => put!(b, string(cell).and_then(time::date_time)),
            Builder::Json(b) => put!(
                b,
                match cell {
                    Cell::Raw(text) => Datum::parse(text).ok().map(|_| *text),
                    _ => None,
                }
            ),
            Builder::Struct { columns, valid, .. } => match cell {
                Cell::Object(cells) => {
                    valid.append_non_null();
                    columns
                        .iter_mut()
                        .zip(cells)
                        .fold(true, |good, (c, cell)| c.append(cell, doubt) & good)
                }
                _ => {
                    self.null();
                    false
                }
            },
            Builder::List { items, offsets, valid, .. } => match cell {
                Cell::Array(cells) => {
                    valid.append_non_null();
                    let from = offsets.last().copied().unwrap_or_default();
                    offsets.push(from + i32::try_from(cells.len()).unwrap_or(i32::MAX - from));
                    cells.iter().fold(true, |good, cell| items.append(cell, doubt) & good)
                }
                _ => {
                    self.null();
                    false
                }
            },
        }
    }

    pub(crate) fn finish(&mut self) -> Result<Vector, ArrowError> {
        let present = match &mut self.present {
            Some(present) => Present::Mask(present.finish()),
            None if self.required => Present::All,
            None => Present::Valid,
        };
        let array: ArrayRef = match &mut self.builder {
            Builder::Boolean(b) => Arc::new(b.finish()),
            Builder::Int(b) => Arc::new(b.finish()),
            Builder::Long(b) => Arc::new(b.finish()),
            Builder::Float(b) => Arc::new(b.finish()),
            Builder::Double(b) => Arc::new(b.finish()),
            Builder::Decimal(b, ..) => Arc::new(b.finish()),
            Builder::String(b) | Builder::Json(b) => Arc::new(b.finish()),
            Builder::Date(b) => Arc::new(b.finish()),
            Builder::Timestamp(b) => Arc::new(b.finish()),
            Builder::Struct { columns, valid, fields } => {
                let inner: Vec<_> =
                    columns.iter_mut().map(Self::finish).collect::<Result<_, _>>()?;
                let arrays = inner.iter().map(|v| v.array.clone()).collect();
                let length = valid.len();
                let nulls = valid.finish();
                let array =
                    StructArray::try_new_with_length(fields.clone(), arrays, nulls, length)?;
                return Ok(Vector { array: Arc::new(array), present, inner });
            }
            Builder::List { items, offsets, valid, item } => {
                let inner = items.finish()?;
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let values = inner.array.clone();
                let array = ListArray::try_new(item.clone(), offsets, values, valid.finish())?;
                return Ok(Vector { array: Arc::new(array), present, inner: vec![inner] });
            }
        };
        Ok(Vector::new(array, present))
    }
}

impl Builder {
    fn of(ty: &Type, rows: usize, tell_absent: bool) -> Self {
        match ty {
            Type::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            Type::Int => Self::Int(Int32Builder::with_capacity(rows)),
            Type::Long => Self::Long(Int64Builder::with_capacity(rows)),
            Type::Float => Self::Float(Float32Builder::with_capacity(rows)),
            Type::Double => Self::Double(Float64Builder::with_capacity(rows)),
            Type::Decimal { precision, scale } => {
                let builder = Decimal128Builder::with_capacity(rows).with_data_type(data_type(ty));
                Self::Decimal(builder, *precision, *scale)
            }
            Type::String => Self::String(StringBuilder::with_capacity(rows, rows * 8)),
            Type::Json => Self::Json(StringBuilder::with_capacity(rows, rows * 8)),
            Type::Date => Self::Date(Date32Builder::with_capacity(rows)),
            Type::Timestamp => Self::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"),
            ),
            Type::Struct(fields) => Self::Struct {
                columns: fields.iter().map(|f| Column::of(f, rows, tell_absent)).collect(),
                valid: NullBufferBuilder::new(rows),
                fields: match data_type(ty) {
                    DataType::Struct(fields) => fields,
                    _ => Fields::empty(),
                },
            },
            Type::List(element) => Self::List {
                items: Box::new(Column {
                    builder: Self::of(&element.ty, rows, tell_absent),
                    nullable: element.nullable,
                    // An item is always there.
                    required: true,
                    present: None,
                }),
                offsets: vec![0],
                valid: NullBufferBuilder::new(rows),
                item: match data_type(ty) {
                    DataType::List(item) => item,
                    other => Arc::new(arrow::datatypes::Field::new("element", other, true)),
                },
            },
        }
    }
}

fn whole(cell: &Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Integer(v) => Some(*v),
        #[allow(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
        Cell::Number(v) if v.fract() == 0.0 && v.abs() < EXACT => Some(*v as i64),
        _ => None,
    }
}

fn number(cell: &Cell<'_>) -> Option<f64> {
    match cell {
        Cell::Number(v) => Some(*v),
        #[allow(clippy::cast_precision_loss, reason = "the contract says double")]
        Cell::Integer(v) => Some(*v as f64),
        _ => None,
    }
}

fn string<'a>(cell: &'a Cell<'_>) -> Option<&'a str> {
    match cell {
        Cell::String(s) => Some(s),
        _ => None,
    }
}

/// Builders for every column of a contract.
pub(crate) fn columns(contract: &Contract, rows: usize, tell_absent: bool) -> Vec<Column> {
    contract.fields.iter().map(|f| Column::of(f, rows, tell_absent)).collect()
}

/// Text in quotes, cut after 60 characters.
pub(crate) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}
