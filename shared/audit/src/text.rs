//! Columns of plain values from cells of text, a column at a time.
//!
//! What a text means is [`crate::cell`]'s to say. A cell that has no place in its column is null there, and its row is
//! reported.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, NullBufferBuilder, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::error::ArrowError;
use sluicegate_contract::check::{Present, Vector};
use sluicegate_contract::{CsvFormat, Datum, Field, Type, decimal, single, time};

use crate::cell;
use crate::split::Rows;

/// Cells that stand for null.
pub(crate) struct Nulls<'a> {
    tokens: Vec<&'a [u8]>,
    longest: Option<usize>,
}

impl<'a> Nulls<'a> {
    pub(crate) fn of(format: &'a CsvFormat) -> Self {
        let tokens: Vec<&[u8]> = format.null_tokens.iter().map(String::as_bytes).collect();
        Self { longest: tokens.iter().map(|token| token.len()).max(), tokens }
    }

    pub(crate) fn has(&self, text: &[u8]) -> bool {
        Some(text.len()) <= self.longest && self.tokens.contains(&text)
    }
}

/// The cells of one column.
pub(crate) struct Texts<'a> {
    pub(crate) split: &'a Rows,
    pub(crate) bytes: &'a [u8],
    pub(crate) place: usize,
    /// Cells a row has.
    pub(crate) width: usize,
    pub(crate) nulls: &'a Nulls<'a>,
    /// Rows that are none.
    pub(crate) dead: &'a [bool],
    pub(crate) tell_absent: bool,
}

fn utf_8(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok()
}

impl Texts<'_> {
    /// Builds the column; `misfit` is told of every row that has no place in it.
    pub(crate) fn column(
        &self,
        field: &Field,
        mut misfit: impl FnMut(usize),
    ) -> Result<Vector, ArrowError> {
        let misfit = &mut misfit;
        let array: ArrayRef = match &field.ty {
            Type::Boolean => {
                let (values, nulls) =
                    self.values(field, misfit, |text| cell::boolean(utf_8(text)?));
                Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls))
            }
            Type::Int => {
                let (values, nulls) =
                    self.values(field, misfit, |text| i32::try_from(cell::integer(text)?).ok());
                Arc::new(Int32Array::try_new(values.into(), nulls)?)
            }
            Type::Long => {
                let (values, nulls) = self.values(field, misfit, cell::integer);
                Arc::new(Int64Array::try_new(values.into(), nulls)?)
            }
            Type::Float => {
                let (values, nulls) =
                    self.values(field, misfit, |text| single(cell::number(text)?));
                Arc::new(Float32Array::try_new(values.into(), nulls)?)
            }
            Type::Double => {
                let (values, nulls) = self.values(field, misfit, cell::number);
                Arc::new(Float64Array::try_new(values.into(), nulls)?)
            }
            Type::Decimal { precision, scale } => {
                let (values, nulls) = self.values(field, misfit, |text| {
                    decimal(cell::exact(utf_8(text)?)?, *precision, *scale)
                });
                let scale = i8::try_from(*scale).unwrap_or_default();
                let array = Decimal128Array::try_new(values.into(), nulls)?;
                Arc::new(array.with_precision_and_scale(*precision, scale)?)
            }
            Type::Date => {
                let (values, nulls) = self.values(field, misfit, |text| time::date(text));
                Arc::new(Date32Array::try_new(values.into(), nulls)?)
            }
            Type::Timestamp => {
                let (values, nulls) = self.values(field, misfit, |text| time::date_time(text));
                let array = TimestampMicrosecondArray::try_new(values.into(), nulls)?;
                Arc::new(array.with_timezone("UTC"))
            }
            Type::Json => self.strings(field, misfit, |text| {
                utf_8(text).is_some_and(|text| Datum::parse(text).is_ok())
            })?,
            Type::String | Type::Struct(_) | Type::List(_) => {
                self.strings(field, misfit, |_| true)?
            }
        };
        Ok(Vector::new(array, self.present(field)))
    }

    fn rows(&self) -> usize {
        self.dead.len()
    }

    #[inline]
    fn text(&self, row: usize) -> &[u8] {
        self.split.cell(self.bytes, row * self.width + self.place)
    }

    #[inline]
    fn cells(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.split.column(self.bytes, self.place, self.width).take(self.rows())
    }

    /// A cell is always there; whether it stands for null or for nothing, the contract says.
    fn present(&self, field: &Field) -> Present {
        if self.tell_absent && field.nullable && !field.required {
            Present::Mask(self.dead.iter().map(|dead| !dead).collect())
        } else if field.required {
            Present::All
        } else {
            Present::Valid
        }
    }

    /// Whether a row may be without a value: a null where null is allowed, or nothing where nothing is.
    fn may_lack(&self, field: &Field, row: usize) -> bool {
        let dead = self.dead.get(row).copied().unwrap_or(true);
        dead || (self.nulls.has(self.text(row)) && (field.nullable || !field.required))
    }

    fn values<T: Copy + Default>(
        &self,
        field: &Field,
        misfit: &mut impl FnMut(usize),
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> (Vec<T>, Option<NullBuffer>) {
        // Tokens are rarely values, as an empty cell is none: then most cells need not be compared with them.
        let are_values = self.nulls.tokens.iter().any(|token| parse(token).is_some());
        let mut values = Vec::with_capacity(self.rows());
        let mut valid = NullBufferBuilder::new(self.rows());
        for (row, (length, beyond)) in self.cells().enumerate() {
            let text = beyond.get(..length).unwrap_or_default();
            let is_null = are_values && self.nulls.has(text);
            let value = if is_null { None } else { parse(text) };
            match value {
                Some(value) => {
                    values.push(value);
                    valid.append_non_null();
                }
                None => {
                    values.push(T::default());
                    valid.append_null();
                    if !self.may_lack(field, row) {
                        misfit(row);
                    }
                }
            }
        }
        (values, valid.finish())
    }

    fn strings(
        &self,
        field: &Field,
        misfit: &mut impl FnMut(usize),
        is_value: impl Fn(&[u8]) -> bool,
    ) -> Result<ArrayRef, ArrowError> {
        let mut values: Vec<u8> = Vec::with_capacity(self.rows() * 16 + 32);
        let mut offsets = Vec::with_capacity(self.rows() + 1);
        offsets.push(0);
        let mut valid = NullBufferBuilder::new(self.rows());
        let any_dead = self.dead.contains(&true);
        for (row, (length, beyond)) in self.cells().enumerate() {
            let text = beyond.get(..length).unwrap_or_default();
            let dead = any_dead && self.dead.get(row).copied().unwrap_or(true);
            if dead || self.nulls.has(text) || !is_value(text) {
                valid.append_null();
                if !self.may_lack(field, row) {
                    misfit(row);
                }
            } else {
                // Most texts are short: a piece of one size is moved without asking how long it is, and cut.
                match beyond.first_chunk::<32>() {
                    Some(piece) if length <= 32 => {
                        let end = values.len() + length;
                        values.extend_from_slice(piece);
                        values.truncate(end);
                    }
                    _ => values.extend_from_slice(text),
                }
                valid.append_non_null();
            }
            offsets.push(i32::try_from(values.len()).unwrap_or(i32::MAX));
        }
        let offsets = OffsetBuffer::new(offsets.into());
        Ok(Arc::new(StringArray::try_new(offsets, values.into(), valid.finish())?))
    }
}
