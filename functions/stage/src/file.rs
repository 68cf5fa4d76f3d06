//! What a table must know of a data file, from its Parquet footer: counts, sizes and bounds by field id.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use parquet::basic::{ConvertedType, LogicalType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;
use sluicegate_table::iceberg::manifest::{Bound, DataFile};

/// Characters of a string bound that are kept (Iceberg's default, truncate(16)).
const BOUND_CHARS: usize = 16;

/// Columns whose sizes, counts and bounds are kept, the default of Iceberg's own writers
/// (`write.metadata.metrics.max-inferred-column-defaults`): what a manifest weighs has a bound, however wide a contract is.
const METRICS: usize = 100;

/// Bytes that an object's files may take to be described, before the columns of further ones go without: it may lie in ten
/// thousand partitions, and whoever promotes it has all of them in memory.
const DESCRIBED: u64 = 4 << 20;

/// The least and the greatest value of a column.
#[derive(Clone, Debug, PartialEq)]
enum Range {
    Boolean(bool, bool),
    Date(i32, i32),
    Int(i32, i32),
    Long(i64, i64),
    Float(f32, f32),
    /// Unscaled.
    Decimal(i128, i128),
    Timestamp(i64, i64),
    Double(f64, f64),
    Text(String, Option<String>),
}

/// Describes a closed file, its columns of the least field ids: those that were there first. Its path is left empty.
pub(crate) fn describe(metadata: &ParquetMetaData, partition: Option<i32>, bytes: u64) -> DataFile {
    let mut file = DataFile::new("", partition, 0, bytes);
    let mut ranges: BTreeMap<i32, Option<Range>> = BTreeMap::new();
    let columns = metadata.file_metadata().schema_descr().columns().iter();
    let mut ids: Vec<i32> = columns.map(|column| field_id(column)).collect();
    ids.sort_unstable();
    let beyond = ids.get(METRICS).copied().unwrap_or(i32::MAX);
    for group in metadata.row_groups() {
        file.rows += positive(group.num_rows());
        file.split_offsets.extend(offset(group));
        for column in group.columns() {
            let id = field_id(column.column_descr());
            if id >= beyond {
                continue;
            }
            *file.column_sizes.entry(id).or_default() += positive(column.compressed_size());
            *file.value_counts.entry(id).or_default() += positive(column.num_values());
            let nulls =
                column.statistics().and_then(Statistics::null_count_opt).unwrap_or_default();
            *file.null_counts.entry(id).or_default() += nulls;
            let all_null = nulls == positive(column.num_values());
            match (range(column), ranges.remove(&id)) {
                (Some(range), None) => ranges.insert(id, Some(range)),
                (Some(range), Some(Some(known))) => ranges.insert(id, merge(known, range)),
                // A group of nulls says nothing about the others.
                (None, Some(known)) if all_null => ranges.insert(id, known),
                (None, None) if all_null => None,
                // One group without a range leaves the whole without one.
                (_, _) => ranges.insert(id, None),
            };
        }
    }
    for (id, range) in ranges {
        let Some(range) = range else { continue };
        let (lower, upper) = bounds(range);
        file.lower_bounds.insert(id, lower);
        file.upper_bounds.extend(upper.map(|upper| (id, upper)));
    }
    file
}

/// A file as it is described after others of its object that took so many bytes.
pub(crate) fn within(file: DataFile, described: u64) -> DataFile {
    if described < DESCRIBED {
        return file;
    }
    let DataFile { path, partition, rows, bytes, split_offsets, .. } = file;
    DataFile { split_offsets, ..DataFile::new(path, partition, rows, bytes) }
}

/// The bound of a column whose rows all have the value of its first.
pub(crate) fn exact_bound(column: &ArrayRef) -> Option<Bound> {
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return times.values().first().map(|at| Bound::from_timestamp(*at));
    }
    let texts = column.as_string_opt::<i32>().filter(|texts| !texts.is_empty())?;
    let text = texts.value(0);
    Some(Bound::string_lower(text, text.chars().count()))
}

fn field_id(column: &ColumnDescriptor) -> i32 {
    column.self_type().get_basic_info().id()
}

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// Where a row group begins: readers split files there.
fn offset(group: &RowGroupMetaData) -> Option<u64> {
    let first = group.columns().first()?;
    let data = first.data_page_offset();
    let start = first.dictionary_page_offset().map_or(data, |dictionary| dictionary.min(data));
    u64::try_from(start).ok()
}

fn range(column: &ColumnChunkMetaData) -> Option<Range> {
    let descriptor = column.column_descr();
    if descriptor.max_rep_level() > 0 {
        // The items of lists have no bounds in Iceberg: a row has many of them.
        return None;
    }
    match column.statistics()? {
        Statistics::Boolean(s) => Some(Range::Boolean(*s.min_opt()?, *s.max_opt()?)),
        Statistics::Int32(s) => match descriptor.logical_type_ref() {
            Some(LogicalType::Date) => Some(Range::Date(*s.min_opt()?, *s.max_opt()?)),
            Some(LogicalType::Decimal { .. }) => {
                Some(Range::Decimal((*s.min_opt()?).into(), (*s.max_opt()?).into()))
            }
            None if descriptor.converted_type() == ConvertedType::NONE => {
                Some(Range::Int(*s.min_opt()?, *s.max_opt()?))
            }
            _ => None,
        },
        Statistics::Int64(s) => {
            let (low, high) = (*s.min_opt()?, *s.max_opt()?);
            match descriptor.logical_type_ref() {
                Some(LogicalType::Timestamp { .. }) => Some(Range::Timestamp(low, high)),
                Some(LogicalType::Decimal { .. }) => Some(Range::Decimal(low.into(), high.into())),
                None if descriptor.converted_type() == ConvertedType::NONE => {
                    Some(Range::Long(low, high))
                }
                _ => None,
            }
        }
        Statistics::Float(s) => Some(Range::Float(*s.min_opt()?, *s.max_opt()?)),
        Statistics::FixedLenByteArray(s) => match descriptor.logical_type_ref() {
            Some(LogicalType::Decimal { .. }) => Some(Range::Decimal(
                big_endian(s.min_opt()?.data())?,
                big_endian(s.max_opt()?.data())?,
            )),
            _ => None,
        },
        Statistics::Double(s) => Some(Range::Double(*s.min_opt()?, *s.max_opt()?)),
        Statistics::ByteArray(s) => {
            let low = std::str::from_utf8(s.min_opt()?.data()).ok()?.to_owned();
            let high = std::str::from_utf8(s.max_opt()?.data()).ok().map(str::to_owned);
            Some(Range::Text(low, high))
        }
        _ => None,
    }
}

/// A signed whole number of at most 16 bytes.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first()? & 0x80 != 0;
    let mut whole = if negative { [0xff; 16] } else { [0; 16] };
    whole.get_mut(16usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

fn merge(a: Range, b: Range) -> Option<Range> {
    Some(match (a, b) {
        (Range::Boolean(a, b), Range::Boolean(c, d)) => Range::Boolean(a & c, b | d),
        (Range::Date(a, b), Range::Date(c, d)) => Range::Date(a.min(c), b.max(d)),
        (Range::Long(a, b), Range::Long(c, d)) => Range::Long(a.min(c), b.max(d)),
        (Range::Int(a, b), Range::Int(c, d)) => Range::Int(a.min(c), b.max(d)),
        (Range::Float(a, b), Range::Float(c, d)) => Range::Float(a.min(c), b.max(d)),
        (Range::Decimal(a, b), Range::Decimal(c, d)) => Range::Decimal(a.min(c), b.max(d)),
        (Range::Timestamp(a, b), Range::Timestamp(c, d)) => Range::Timestamp(a.min(c), b.max(d)),
        (Range::Double(a, b), Range::Double(c, d)) => Range::Double(a.min(c), b.max(d)),
        (Range::Text(a, b), Range::Text(c, d)) => {
            Range::Text(a.min(c), b.zip(d).map(|(b, d)| b.max(d)))
        }
        _ => return None,
    })
}

fn bounds(range: Range) -> (Bound, Option<Bound>) {
    match range {
        Range::Boolean(a, b) => (Bound::from_bool(a), Some(Bound::from_bool(b))),
        Range::Date(a, b) => (Bound::from_date(a), Some(Bound::from_date(b))),
        Range::Long(a, b) => (Bound::from_long(a), Some(Bound::from_long(b))),
        Range::Int(a, b) => (Bound::from_int(a), Some(Bound::from_int(b))),
        Range::Float(a, b) => (Bound::from_float(a), Some(Bound::from_float(b))),
        Range::Decimal(a, b) => (Bound::from_decimal(a), Some(Bound::from_decimal(b))),
        Range::Timestamp(a, b) => (Bound::from_timestamp(a), Some(Bound::from_timestamp(b))),
        Range::Double(a, b) => (Bound::from_double(a), Some(Bound::from_double(b))),
        Range::Text(a, b) => {
            let upper = b.and_then(|b| Bound::string_upper(&b, BOUND_CHARS));
            (Bound::string_lower(&a, BOUND_CHARS), upper)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};

    use super::*;

    #[test]
    fn of_a_wide_file_the_first_columns_are_described() {
        let of = |columns: i32| {
            // The ids fall: what counts is the id, not the place.
            let ids: Vec<i32> = (1..=columns).rev().collect();
            let field = |id: &i32| {
                let meta = [(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())];
                Field::new(format!("c{id}"), DataType::Int64, true).with_metadata(meta)
            };
            let schema = Arc::new(Schema::new(ids.iter().map(field).collect::<Vec<_>>()));
            let column = |id: &i32| Arc::new(Int64Array::from(vec![i64::from(*id), 7])) as ArrayRef;
            let rows = RecordBatch::try_new(schema.clone(), ids.iter().map(column).collect());
            let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
            writer.write(&rows.unwrap()).unwrap();
            describe(&writer.close().unwrap(), None, 9)
        };
        let (narrow, wide) = (of(100), of(300));
        assert_eq!(narrow.value_counts, (1..=100).map(|id| (id, 2)).collect());
        assert_eq!(narrow.lower_bounds[&100], Bound::from_long(7));
        assert_eq!(within(wide.clone(), 0), wide);
        let bare = within(wide.clone(), DESCRIBED);
        let offsets = wide.split_offsets.clone();
        assert_eq!(bare, DataFile { split_offsets: offsets, ..DataFile::new("", None, 2, 9) });
        assert!(bare.described_in() * 10 < wide.described_in());
        assert_eq!(wide, DataFile { column_sizes: wide.column_sizes.clone(), ..narrow });
        assert_eq!(
            wide.column_sizes.keys().copied().collect::<Vec<_>>(),
            (1..=100).collect::<Vec<_>>()
        );
    }
}
