//! How each column is written: by what its first rows look like.
//!
//! A dictionary pays where values repeat; where they do not, building one is most of the work and makes the file larger.
//! Whole numbers are written as differences then, and texts as lengths and bytes. The choice depends on rows alone, so
//! the same rows give the same files (REP-1). Only encodings are used that every engine of the README reads.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sluicegate_contract::Lineage;

/// Rows of a row group: engines read it as a unit, and its pages are held until it is written.
const ROW_GROUP: usize = 128 * 1024;
/// As DuckDB and Polars have it: below 3 files grow by a tenth, above it time doubles.
const ZSTD_LEVEL: i32 = 3;
/// With fewer rows nothing is known of the others, and little is lost.
const ENOUGH: usize = 1000;

/// How files are written whose first rows are these.
pub(crate) fn properties(rows: &RecordBatch) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by("sluicegate".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        if is_constant(field.name()) {
            let path = ColumnPath::from(field.name().as_str());
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
        // A row's number grows by one.
        let counts_up = field.name() == Lineage::RawRow.name();
        if counts_up || (rows.num_rows() >= ENOUGH && !repeats(column)) {
            let path = ColumnPath::from(field.name().as_str());
            builder = builder.set_column_dictionary_enabled(path.clone(), false);
            if let Some(encoding) = plain(field.data_type()) {
                builder = builder.set_column_encoding(path, encoding);
            }
        }
    }
    builder.build()
}

/// Whether a column has one value in all rows of an object: its bounds are known without looking at each.
pub(crate) fn is_constant(column: &str) -> bool {
    [Lineage::RawId, Lineage::LandedAt].iter().any(|lineage| lineage.name() == column)
}

/// The encoding of values that do not repeat, if it is not the plain one.
fn plain(ty: &DataType) -> Option<Encoding> {
    match ty {
        DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(..) => {
            Some(Encoding::DELTA_BINARY_PACKED)
        }
        // Up to 18 digits Parquet has them as whole numbers.
        DataType::Decimal128(precision, _) if *precision <= 18 => {
            Some(Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Utf8 => Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        _ => None,
    }
}

/// Whether a dictionary pays: for numbers, which are small themselves, only if there are few.
fn repeats(column: &ArrayRef) -> bool {
    let rows = column.len() - column.null_count();
    let (distinct, share) = match column.data_type() {
        DataType::Utf8 => {
            (column.as_string::<i32>().iter().flatten().collect::<BTreeSet<_>>().len(), 2)
        }
        DataType::Int32 => (distinct(column.as_primitive::<Int32Type>().iter().flatten()), 16),
        DataType::Int64 => (distinct(column.as_primitive::<Int64Type>().iter().flatten()), 16),
        DataType::Date32 => (distinct(column.as_primitive::<Date32Type>().iter().flatten()), 16),
        DataType::Timestamp(..) => {
            (distinct(column.as_primitive::<TimestampMicrosecondType>().iter().flatten()), 16)
        }
        DataType::Decimal128(..) => {
            (distinct(column.as_primitive::<Decimal128Type>().iter().flatten()), 8)
        }
        DataType::Float32 => {
            let bits = column.as_primitive::<Float32Type>().iter().flatten().map(f32::to_bits);
            (distinct(bits), 4)
        }
        DataType::Float64 => {
            let bits = column.as_primitive::<Float64Type>().iter().flatten().map(f64::to_bits);
            (distinct(bits), 4)
        }
        // Booleans have none; of structs and lists each part would have to be looked at.
        _ => return true,
    };
    distinct <= rows / share
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> usize {
    values.collect::<BTreeSet<_>>().len()
}
