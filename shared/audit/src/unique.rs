//! Whether rows of an object share a key: exact, in bounded memory, by sorting outside of it.
//!
//! Keys whose columns fit sixteen bytes are compared as they are. Others are compared by 128 bits of a hash: rows of one
//! key are always found, and two keys are taken for one with a chance below n² ÷ 2^129. Rows with a null in the key are
//! left out, as in SQL. Sorted runs go to a file when memory is used up; when the file's room is used up too, nothing is
//! known, and that is what is said.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};

use crate::Scratch;

/// What became known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uniqueness {
    /// No two rows share it.
    Unique,
    /// So many rows have the key of an earlier one; the sample names some of both by their numbers.
    Duplicates { rows: u64, sample: Vec<String> },
    /// Why nothing is known.
    NotProven(String),
}

/// Keys held in memory, of all that must be unique together.
const BUFFER: usize = 1 << 19;
/// Bytes of a key and its row in a file.
const WIDTH: usize = 24;
/// Keys that are read at once of each run.
const READ: usize = 512;
/// Duplicates that are shown.
const SAMPLE: usize = 5;

/// A key's halves, the higher first, and the number of its row.
type Key = [u64; 3];

/// The keys of the rows so far.
pub(crate) struct Keys {
    /// Indices of the key's columns.
    columns: Vec<usize>,
    buffer: Vec<Key>,
    /// Keys that the buffer holds.
    size: usize,
    file: Option<File>,
    /// Bytes that the file may have, and has.
    limit: u64,
    written: u64,
    runs: Vec<Run>,
    duplicates: Duplicates,
    full: bool,
}

/// A sorted piece of the file.
struct Run {
    at: u64,
    keys: u64,
    first: Key,
    last: Key,
    /// Whether no two of its own rows share a key.
    unique: bool,
}

#[derive(Default)]
struct Duplicates {
    rows: u64,
    sample: Vec<(u64, u64)>,
}

/// Whether two rows have the same key.
fn same(a: &Key, b: &Key) -> bool {
    a.first_chunk::<2>() == b.first_chunk::<2>()
}

impl Duplicates {
    /// Compares neighbours in the order of keys.
    fn see(&mut self, earlier: &Key, later: &Key) {
        if same(earlier, later) {
            self.rows += 1;
            if self.sample.len() < SAMPLE {
                let row = |key: &Key| key.last().copied().unwrap_or_default();
                self.sample.push((row(earlier), row(later)));
            }
        }
    }
}

impl Keys {
    /// A key of some columns, one of `count`, with its share of the room there is for files.
    pub(crate) fn new(columns: Vec<usize>, limit: u64, count: usize) -> Self {
        Self {
            columns,
            buffer: Vec::new(),
            size: BUFFER / count.max(1),
            file: None,
            limit,
            written: 0,
            runs: Vec::new(),
            duplicates: Duplicates::default(),
            full: false,
        }
    }

    /// Adds rows and their numbers.
    pub(crate) fn update(
        &mut self,
        rows: &RecordBatch,
        numbers: &[i64],
        scratch: &Scratch,
    ) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        let columns: Vec<&ArrayRef> =
            self.columns.iter().filter_map(|at| rows.columns().get(*at)).collect();
        let has_null = |row: usize| columns.iter().any(|column| column.is_null(row));
        let any_null = columns.iter().any(|column| column.null_count() > 0);
        let keys = packed(&columns).unwrap_or_else(|| hashed(&columns, rows.num_rows()));
        for (at, (key, number)) in keys.into_iter().zip(numbers).enumerate() {
            if any_null && has_null(at) {
                continue;
            }
            #[allow(clippy::cast_possible_truncation, reason = "its halves")]
            let (high, low) = ((key >> 64) as u64, key as u64);
            self.buffer.push([high, low, number.unsigned_abs()]);
        }
        if self.buffer.len() >= self.size {
            self.spill(scratch)?;
        }
        Ok(())
    }

    /// Writes the buffer out as a sorted run.
    fn spill(&mut self, scratch: &Scratch) -> io::Result<()> {
        let bytes = (self.buffer.len() * WIDTH) as u64;
        if self.written + bytes > self.limit {
            self.full = true;
            (self.buffer, self.runs, self.file) = (Vec::new(), Vec::new(), None);
            return Ok(());
        }
        self.buffer.sort_unstable();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&scratch.folder)?),
        };
        let mut writer = BufWriter::with_capacity(1 << 16, &mut *file);
        for key in &self.buffer {
            let mut bytes = [0; WIDTH];
            let (words, _) = bytes.as_chunks_mut::<8>();
            words.iter_mut().zip(key).for_each(|(to, word)| *to = word.to_le_bytes());
            writer.write_all(&bytes)?;
        }
        writer.flush()?;
        drop(writer);
        let (first, last) = (self.buffer.first(), self.buffer.last());
        if let (Some(first), Some(last)) = (first, last) {
            let keys = self.buffer.len() as u64;
            let unique = self.buffer.array_windows().all(|[a, b]| !same(a, b));
            self.runs.push(Run { at: self.written, keys, first: *first, last: *last, unique });
        }
        self.written += bytes;
        self.buffer.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self, scratch: &Scratch) -> io::Result<Uniqueness> {
        if !self.full && !self.runs.is_empty() && !self.buffer.is_empty() {
            self.spill(scratch)?;
        }
        if self.full {
            return Ok(Uniqueness::NotProven(format!(
                "the keys take more than the {} MB there are for them",
                self.limit >> 20
            )));
        }
        match &self.file {
            None => {
                self.buffer.sort_unstable();
                self.buffer.array_windows().for_each(|[a, b]| self.duplicates.see(a, b));
            }
            Some(file) => merge(file, self.runs, &mut self.duplicates)?,
        }
        let Duplicates { rows, sample } = self.duplicates;
        Ok(if rows == 0 {
            Uniqueness::Unique
        } else {
            let sample = sample.iter().map(|(a, b)| format!("rows {a} and {b}")).collect();
            Uniqueness::Duplicates { rows, sample }
        })
    }
}

/// Reads sorted runs together, and compares neighbours.
fn merge(file: &File, mut runs: Vec<Run>, duplicates: &mut Duplicates) -> io::Result<()> {
    runs.sort_by_key(|run| run.first);
    // Keys that came in their order make runs that do not overlap: nothing need be read again.
    let apart = runs.array_windows().all(|[a, b]| a.last < b.first && !same(&a.last, &b.first));
    if apart && runs.iter().all(|run| run.unique) {
        return Ok(());
    }
    let mut cursors: Vec<Cursor> = runs.into_iter().map(Cursor::new).collect();
    let mut heap = BinaryHeap::with_capacity(cursors.len());
    for (at, cursor) in cursors.iter_mut().enumerate() {
        if let Some(key) = cursor.next(file)? {
            heap.push(Reverse((key, at)));
        }
    }
    let mut before: Option<Key> = None;
    while let Some(Reverse((key, at))) = heap.pop() {
        if let Some(before) = &before {
            duplicates.see(before, &key);
        }
        before = Some(key);
        if let Some(next) = cursors.get_mut(at).map(|c| c.next(file)).transpose()?.flatten() {
            heap.push(Reverse((next, at)));
        }
    }
    Ok(())
}

/// A place in a run.
struct Cursor {
    at: u64,
    left: u64,
    ahead: std::vec::IntoIter<Key>,
}

impl Cursor {
    fn new(run: Run) -> Self {
        Self { at: run.at, left: run.keys, ahead: Vec::new().into_iter() }
    }

    fn next(&mut self, file: &File) -> io::Result<Option<Key>> {
        if let Some(key) = self.ahead.next() {
            return Ok(Some(key));
        }
        let count = usize::try_from(self.left).unwrap_or(READ).min(READ);
        let mut bytes = vec![0; count * WIDTH];
        file.read_exact_at(&mut bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.left -= count as u64;
        let (keys, _) = bytes.as_chunks::<WIDTH>();
        let read = keys.iter().map(|key| {
            let (words, _) = key.as_chunks::<8>();
            let mut read = [0; 3];
            read.iter_mut().zip(words).for_each(|(to, word)| *to = u64::from_le_bytes(*word));
            read
        });
        self.ahead = read.collect::<Vec<_>>().into_iter();
        Ok(self.ahead.next())
    }
}

/// The keys themselves, if they fit; nulls are anything.
fn packed(columns: &[&ArrayRef]) -> Option<Vec<u128>> {
    let width = |ty: &DataType| match ty {
        DataType::Boolean => Some(1),
        DataType::Int32 | DataType::Date32 | DataType::Float32 => Some(32),
        DataType::Int64 | DataType::Timestamp(..) | DataType::Float64 => Some(64),
        DataType::Decimal128(..) => Some(128),
        _ => None,
    };
    let widths: Option<Vec<u32>> = columns.iter().map(|c| width(c.data_type())).collect();
    let widths = widths.filter(|widths| widths.iter().sum::<u32>() <= 128)?;
    let rows = columns.first()?.len();
    let mut keys = vec![0u128; rows];
    for (column, width) in columns.iter().zip(widths) {
        let mut put = |row: usize, bits: u128| {
            if let Some(key) = keys.get_mut(row) {
                *key = key.checked_shl(width).unwrap_or_default() | bits;
            }
        };
        each_bits(column, &mut put);
    }
    Some(keys)
}

/// Calls back for each row with its value's bits: the same for equal values, in the order of whole ones.
fn each_bits(column: &ArrayRef, put: &mut impl FnMut(usize, u128)) {
    // Flipping the sign puts negative numbers before the others.
    let int = |value: i32| u128::from(value.cast_unsigned() ^ (1 << 31));
    let long = |value: i64| u128::from(value.cast_unsigned() ^ (1 << 63));
    match column.data_type() {
        DataType::Boolean => {
            column.as_boolean().values().iter().enumerate().for_each(|(i, v)| put(i, v.into()));
        }
        DataType::Int32 => {
            let values = column.as_primitive::<Int32Type>().values().iter();
            values.enumerate().for_each(|(i, v)| put(i, int(*v)));
        }
        DataType::Date32 => {
            let values = column.as_primitive::<Date32Type>().values().iter();
            values.enumerate().for_each(|(i, v)| put(i, int(*v)));
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().values().iter();
            values.enumerate().for_each(|(i, v)| put(i, long(*v)));
        }
        DataType::Timestamp(..) => {
            let values = column.as_primitive::<TimestampMicrosecondType>().values().iter();
            values.enumerate().for_each(|(i, v)| put(i, long(*v)));
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().values().iter();
            values.enumerate().for_each(|(i, v)| put(i, (v + 0.0).to_bits().into()));
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().values().iter();
            values.enumerate().for_each(|(i, v)| put(i, (v + 0.0).to_bits().into()));
        }
        DataType::Decimal128(..) => {
            let values = column.as_primitive::<Decimal128Type>().values().iter();
            values.enumerate().for_each(|(i, v)| put(i, v.cast_unsigned() ^ (1 << 127)));
        }
        _ => {}
    }
}

/// Hashes of keys that do not fit. Each value is told from its neighbours by its length.
fn hashed(columns: &[&ArrayRef], rows: usize) -> Vec<u128> {
    let mut texts: Vec<Vec<u8>> = vec![Vec::with_capacity(32); rows];
    for column in columns {
        match column.as_string_opt::<i32>() {
            Some(strings) => {
                for (text, value) in texts.iter_mut().zip(strings.iter()) {
                    let value = value.unwrap_or_default();
                    text.extend_from_slice(&(value.len() as u64).to_le_bytes());
                    text.extend_from_slice(value.as_bytes());
                }
            }
            None => each_bits(column, &mut |row, bits| {
                if let Some(text) = texts.get_mut(row) {
                    text.extend_from_slice(&bits.to_le_bytes());
                }
            }),
        }
    }
    texts.iter().map(|text| xxhash_rust::xxh3::xxh3_128(text)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn batch(keys: &[(i64, Option<String>)]) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(keys.iter().map(|k| k.0)));
        let texts: ArrayRef = Arc::new(keys.iter().map(|k| k.1.clone()).collect::<StringArray>());
        RecordBatch::try_from_iter([("n", numbers), ("s", texts)]).unwrap()
    }

    fn run(columns: Vec<usize>, batches: &[RecordBatch], limit: u64) -> Uniqueness {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch { folder: folder.path().to_owned(), limit };
        let mut keys = Keys::new(columns, limit, 1);
        let mut first = 1;
        for batch in batches {
            let rows = i64::try_from(batch.num_rows()).unwrap();
            let numbers: Vec<i64> = (first..first + rows).collect();
            keys.update(batch, &numbers, &scratch).unwrap();
            first += rows;
        }
        keys.finish(&scratch).unwrap()
    }

    /// Two and a half buffers of keys, the last of which are those of earlier rows.
    fn many(duplicates: i64) -> Vec<RecordBatch> {
        let rows = i64::try_from(BUFFER).unwrap() * 5 / 2;
        let key = |i: i64| if i >= rows - duplicates { i - rows / 2 } else { i };
        let mixed = |i: i64| key(i).wrapping_mul(0x09E3_779B_97F4_A7C1);
        let all: Vec<_> = (0..rows).map(|i| (mixed(i), None)).collect();
        all.chunks(8192).map(batch).collect()
    }

    #[test]
    fn duplicates_are_found_however_far_apart() {
        assert_eq!(run(vec![0], &many(0), u64::MAX), Uniqueness::Unique);
        let Uniqueness::Duplicates { rows, sample } = run(vec![0], &many(1000), u64::MAX) else {
            panic!("there are duplicates")
        };
        assert_eq!((rows, sample.len()), (1000, SAMPLE));
        let apart = i64::try_from(BUFFER).unwrap() * 5 / 4;
        for pair in sample {
            let rows: Vec<i64> = pair
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|number| number.parse().ok())
                .collect();
            assert_eq!(rows[1] - rows[0], apart, "{pair}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_proven() {
        let found = run(vec![0], &many(0), 1 << 20);
        assert!(matches!(found, Uniqueness::NotProven(_)), "{found:?}");
    }

    #[test]
    fn rows_with_a_null_in_the_key_are_left_out() {
        let rows = [(1, None), (1, None), (1, Some("a".to_owned()))];
        assert_eq!(run(vec![0, 1], &[batch(&rows)], 0), Uniqueness::Unique);
        let found = run(vec![0], &[batch(&rows)], 0);
        let sample = vec!["rows 1 and 2".to_owned(), "rows 2 and 3".to_owned()];
        assert_eq!(found, Uniqueness::Duplicates { rows: 2, sample });
    }

    proptest! {
        #[test]
        fn keys_of_several_columns_are_equal_where_all_are(
            rows in proptest::collection::vec((-2i64..2, "[a-b]{0,3}"), 0..40)
        ) {
            let rows: Vec<_> = rows.into_iter().map(|(n, s)| (n, Some(s))).collect();
            let mut distinct = rows.clone();
            distinct.sort();
            distinct.dedup();
            let expected = (rows.len() - distinct.len()) as u64;
            let found = match run(vec![0, 1], &[batch(&rows)], 0) {
                Uniqueness::Unique => 0,
                Uniqueness::Duplicates { rows, .. } => rows,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(found, expected);
        }
    }
}
