//! Apache Parquet, on the `parquet` crate's readers of values.
//!
//! Parquet is read from its end, so the object is first spooled into a file without a name. Columns are found by name, in
//! any order; a value that has no place in its column makes a bad row, a column whose type never has one makes the object
//! unreadable. The types are Parquet's own: the schema that Arrow's writers embed is not looked at.
//!
//! A row has no bytes of its own. Where it is bad, it is written as the JSON object that it stands for.
//!
//! Bounded for whatever bytes: the footer, its schema and every page are checked before the crate reads them ([`pages`]),
//! which panics on some files and believes the sizes that others claim.

mod bits;
mod columns;
mod pages;
mod rows;
mod schema;
mod thrift;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder, StructArray};
use arrow::datatypes::{BinaryViewType, DataType};
use parquet::arrow::FieldLevels;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection, RowSelector};
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};
use sluicegate_contract::{Contract, Datum, ParquetFormat, Reason, UnknownFields};

use self::columns::Misfit;
use self::pages::{Account, Group, Leaf};
use self::schema::Plan;
use crate::Scratch;
use crate::decode::{CHUNK_BYTES, Chunk, DecodeError, Decoder, RowFault, chunk_rows, quote};
use crate::jsonl::object_of;
use crate::unknown::Unknown;

/// Bytes that are spooled at once.
const SPOOL: usize = 256 << 10;
/// Bytes of a footer: of a hostile one, a small part of what it becomes.
const FOOTER: u64 = 8 << 20;
const MAGIC: &[u8; 4] = b"PAR1";
/// How many times its own bytes an object may have rows, and its rows bytes, beyond the first [`FREE`].
const EXPANSION: u64 = 1000;
const FREE: u64 = 64 << 20;

/// Rows of an object, or bytes of its rows, that its own bytes may stand for.
fn allowed(length: u64) -> u64 {
    FREE.max(length.saturating_mul(EXPANSION))
}

pub(crate) struct Parquet<'a> {
    contract: &'a Contract,
    format: &'a ParquetFormat,
    file: Arc<File>,
    metadata: Arc<ParquetMetaData>,
    length: u64,
    /// Where the footer begins.
    end: u64,
    leaves: Arc<[Leaf]>,
    levels: FieldLevels,
    plan: Plan<'a>,
    /// Rows of a batch, unless they hold too much.
    batch: u64,
    /// The next row group.
    next_group: usize,
    reading: Option<Reading>,
    /// What is left of a batch, and the bytes of its rows.
    rest: Option<(StructArray, Vec<u64>)>,
    /// The rows of the last chunk, as they were read.
    current: Option<StructArray>,
    /// Rows given out.
    rows: u64,
    /// Bytes of the rows that were read.
    bytes: u64,
    unknown: &'a RefCell<Unknown>,
}

/// A row group that is being read.
struct Reading {
    index: usize,
    /// Where its first column begins.
    offset: u64,
    reader: ParquetRecordBatchReader,
    account: Arc<Account>,
    rows: u64,
    done: u64,
    batch: u64,
}

fn unreadable(message: impl Into<String>) -> DecodeError {
    DecodeError::Unreadable(Reason::new("parquet", message))
}

/// What a reader says of the file, without the names that the crates give themselves.
fn damaged(place: &str, error: impl Display) -> DecodeError {
    let message = error.to_string();
    let message = message.trim_start_matches("Parquet argument error: ");
    unreadable(format!("{place}: {}", message.trim_start_matches("Parquet error: ")))
}

impl<'a> Parquet<'a> {
    /// Spools the object and reads its footer; fails where its columns do not fit the contract.
    pub(crate) fn new(
        contract: &'a Contract,
        format: &'a ParquetFormat,
        reader: impl Read,
        scratch: &Scratch,
        unknown: &'a RefCell<Unknown>,
    ) -> Result<Self, DecodeError> {
        let (file, length) = spool(reader, scratch)?;
        let (metadata, end) = footer(&file, length)?;
        let keep = contract.unknown_fields != UnknownFields::Drop;
        let found = schema::read(&metadata, &contract.fields, keep)?;
        let plan = schema::plan(contract, found.fields)?;
        let cells = found.leaves.iter().map(|leaf| leaf.width.div_ceil(16).max(1)).sum();
        Ok(Self {
            contract,
            format,
            file: Arc::new(file),
            metadata: Arc::new(metadata),
            length,
            end,
            leaves: found.leaves.into(),
            levels: found.levels,
            plan,
            batch: chunk_rows(cells) as u64,
            next_group: 0,
            reading: None,
            rest: None,
            current: None,
            rows: 0,
            bytes: 0,
            unknown,
        })
    }

    /// Begins to read a row group at one of its rows.
    fn open(&self, index: usize, done: u64, batch: u64) -> Result<Option<Reading>, DecodeError> {
        let Some(group) = self.metadata.row_groups().get(index) else { return Ok(None) };
        let rows = u64::try_from(group.num_rows()).unwrap_or_default();
        let columns = 0..group.num_columns();
        let starts = columns.filter_map(|column| pages::range(group, column, self.end));
        let offset = starts.map(|range| range.start).min().unwrap_or_default();
        let account = Arc::new(Account::default());
        let group = Group {
            file: self.file.clone(),
            metadata: self.metadata.clone(),
            index,
            end: self.end,
            leaves: self.leaves.clone(),
            start: done,
            batch,
            account: account.clone(),
        };
        let count = |rows: u64| usize::try_from(rows).unwrap_or_default();
        let selection = (done > 0).then(|| {
            let (skipped, left) = (count(done), count(rows - done));
            RowSelection::from(vec![RowSelector::skip(skipped), RowSelector::select(left)])
        });
        let reader = ParquetRecordBatchReader::try_new_with_row_groups(
            &self.levels,
            &group,
            count(batch),
            selection,
        );
        let reader = reader.map_err(|error| damaged(&format!("row group {}", index + 1), error))?;
        Ok(Some(Reading { index, offset, reader, account, rows, done, batch }))
    }

    fn next_batch(&mut self) -> Result<Option<StructArray>, DecodeError> {
        loop {
            let Some(reading) = &mut self.reading else {
                let index = self.next_group;
                self.next_group += 1;
                match self.open(index, 0, self.batch)? {
                    None => return Ok(None),
                    reading => self.reading = reading,
                }
                continue;
            };
            let (index, done, batch) = (reading.index, reading.done, reading.batch);
            match reading.reader.next() {
                Some(Ok(rows)) => {
                    reading.done += rows.num_rows() as u64;
                    let (schema, columns, length) = rows.into_parts();
                    let fields = schema.fields.clone();
                    let rows = StructArray::try_new_with_length(fields, columns, None, length);
                    let place = format!("row group {}", index + 1);
                    return rows.map(Some).map_err(|error| damaged(&place, error));
                }
                Some(Err(_)) if reading.account.is_crowded() => {
                    // The same rows, fewer at a time.
                    self.reading = self.open(index, done, (batch / 16).max(1))?;
                }
                Some(Err(error)) => {
                    return Err(match reading.account.failure() {
                        Some(failure) => DecodeError::Scratch(failure),
                        None => damaged(&format!("row group {}", index + 1), error),
                    });
                }
                None if done != reading.rows => {
                    let message = format!(
                        "row group {} has {done} rows, the footer says {}",
                        index + 1,
                        reading.rows
                    );
                    return Err(unreadable(message));
                }
                None => self.reading = None,
            }
        }
    }

    /// What the contract does not know, a JSON object a row; counted on the way.
    fn extra(&self, rows: &StructArray, chunk: &mut Chunk) -> StringBuilder {
        let mut extra = StringBuilder::new();
        let mut unknown = self.unknown.borrow_mut();
        for row in 0..rows.len() {
            let found = rows::strangers(&self.plan, rows, row);
            let strangers: Vec<_> =
                found.iter().map(|(place, text)| (place.clone(), text.as_str())).collect();
            let number = self.rows + row as u64;
            if let Err(error) = unknown.row(self.contract, number, &strangers) {
                chunk.spoil(row, "json", error.to_string());
            }
            extra.append_option(object_of(&strangers));
        }
        extra
    }

    /// Marks a row that has a value without a place.
    fn mark(&self, chunk: &mut Chunk, index: usize, misfit: Misfit) {
        let Misfit { at: row, rule } = misfit;
        if let Some(bad) = chunk.bad.get_mut(row) {
            *bad = true;
        }
        chunk.blamed.entry(row).or_insert(index);
        let field = self.contract.fields.get(index);
        if let (Some((rule, reason)), Some(field)) = (rule, field) {
            let fault = RowFault {
                column: Some(field.source.clone()),
                pointer: sluicegate_contract::pointer::child("", &field.source),
                rule,
                reason: reason.to_owned(),
            };
            chunk.broken.entry(row).or_insert(fault);
        }
    }
}

impl Decoder for Parquet<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DecodeError> {
        let (batch, sizes) = match self.rest.take() {
            Some(rest) => rest,
            None => {
                let Some(batch) = self.next_batch()? else { return Ok(None) };
                let mut sizes = vec![0; batch.len()];
                weigh(&batch, &mut sizes);
                self.bytes = self.bytes.saturating_add(sizes.iter().sum());
                if self.bytes > allowed(self.length) {
                    let message = format!("unpacks to more than {EXPANSION} times its size");
                    return Err(unreadable(message));
                }
                (batch, sizes)
            }
        };
        let limit = self.format.line_limit as u64;
        if let Some(row) = sizes.iter().position(|size| *size > limit) {
            let message = format!(
                "row {} is longer than the contract's line limit of {limit} bytes",
                self.rows + row as u64 + 1
            );
            return Err(DecodeError::Unreadable(Reason::new("line_limit", message)));
        }
        let mut bytes = 0;
        let fit = sizes.iter().take_while(|size| {
            bytes += **size;
            bytes <= CHUNK_BYTES as u64
        });
        let length = fit.count().clamp(1.min(batch.len()), batch.len());
        let rows = batch.slice(0, length);
        if length < batch.len() {
            let left = sizes.get(length..).unwrap_or_default().to_vec();
            self.rest = Some((batch.slice(length, batch.len() - length), left));
        }
        let mut chunk = Chunk {
            rows: length,
            bad: vec![false; length],
            offset: self.reading.as_ref().map_or(0, |reading| reading.offset),
            ..Chunk::default()
        };
        for (index, column) in self.plan.columns.iter().enumerate() {
            let mut misfits = Vec::new();
            chunk.columns.push(columns::column(column, &rows, &mut misfits)?);
            for misfit in misfits {
                self.mark(&mut chunk, index, misfit);
            }
        }
        let keep = self.contract.unknown_fields == UnknownFields::Keep;
        if keep && rows::any_strangers(&self.plan) {
            let mut extra = self.extra(&rows, &mut chunk);
            chunk.extra = Some(Arc::new(extra.finish()));
        }
        self.rows += length as u64;
        self.current = Some(rows);
        Ok(Some(chunk))
    }

    fn original<'c>(&'c self, _: &'c Chunk, row: usize) -> Cow<'c, [u8]> {
        let text = self.current.as_ref().map(|rows| rows::object(&self.plan, rows, row));
        Cow::Owned(text.unwrap_or_default().into_bytes())
    }

    fn datum<'b>(&self, row: &'b [u8]) -> Result<Datum<'b>, RowFault> {
        let text = std::str::from_utf8(row)
            .map_err(|_| RowFault::whole("encoding", "is not valid UTF-8"))?;
        Datum::parse_row(text).map_err(|e| RowFault::whole("json", e.to_string()))
    }
}

/// Copies an object into a file without a name, and says how long it is.
fn spool(mut reader: impl Read, scratch: &Scratch) -> Result<(File, u64), DecodeError> {
    let mut file = tempfile::tempfile_in(&scratch.folder).map_err(DecodeError::Scratch)?;
    let (mut buffer, mut length) = (vec![0; SPOOL], 0);
    let mut head = Vec::new();
    loop {
        let read = match reader.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        if head.len() < MAGIC.len() {
            head.extend_from_slice(bytes.get(..MAGIC.len().min(read)).unwrap_or_default());
            if !head.starts_with(MAGIC.get(..head.len()).unwrap_or(MAGIC)) {
                let found = head.get(..MAGIC.len()).unwrap_or(&head);
                let found = quote(&String::from_utf8_lossy(found));
                return Err(unreadable(format!("the object begins with {found}, not \"PAR1\"")));
            }
        }
        if read == 0 {
            break;
        }
        length += read as u64;
        if length > scratch.limit {
            let limit = scratch.limit;
            return Err(unreadable(format!("the object has more than the {limit} bytes of room")));
        }
        file.write_all(bytes).map_err(DecodeError::Scratch)?;
    }
    if length == 0 {
        return Err(DecodeError::Unreadable(Reason::new("empty", "the object is empty")));
    }
    Ok((file, length))
}

/// The footer of a file, and where it begins.
fn footer(mut file: &File, length: u64) -> Result<(ParquetMetaData, u64), DecodeError> {
    let mut read = |from: u64, length: u64| {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from)).map_err(DecodeError::Scratch)?;
        file.take(length).read_to_end(&mut bytes).map_err(DecodeError::Scratch)?;
        Ok::<_, DecodeError>(bytes)
    };
    let cut = || unreadable("the object does not end as Parquet does: it may be cut short");
    let tail_at = length.checked_sub(8).filter(|at| *at >= 4).ok_or_else(cut)?;
    let tail = read(tail_at, 8)?;
    let (size, magic) = tail.split_at_checked(4).ok_or_else(cut)?;
    if magic != MAGIC {
        return Err(cut());
    }
    let size = size.try_into().map(u32::from_le_bytes).map_or(0, u64::from);
    let end = tail_at.checked_sub(size).filter(|end| *end >= 4).ok_or_else(cut)?;
    if size > FOOTER {
        let message = format!("the footer has {size} bytes; at most {FOOTER} are read");
        return Err(unreadable(message));
    }
    let bytes = read(end, size)?;
    thrift::is_bounded(&bytes).ok_or_else(|| unreadable("the footer's schema is not one"))?;
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let metadata = ParquetMetaDataReader::decode_metadata_with_options(&bytes, Some(&options));
    let metadata = metadata.map_err(|error| damaged("the footer", error))?;
    check_rows(&metadata, end, length)?;
    Ok((metadata, end))
}

/// Whether the rows of the row groups are those of the footer, and no more than their bytes may stand for.
fn check_rows(metadata: &ParquetMetaData, end: u64, length: u64) -> Result<(), DecodeError> {
    let (mut rows, mut bytes) = (0u64, 0u64);
    for group in metadata.row_groups() {
        let own = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
        rows = rows.saturating_add(own);
        for column in 0..group.num_columns() {
            let range = pages::range(group, column, end)
                .ok_or_else(|| unreadable("a column lies outside of the file"))?;
            bytes = bytes.saturating_add(range.end - range.start);
        }
    }
    if u64::try_from(metadata.file_metadata().num_rows()) != Ok(rows) {
        return Err(unreadable("the row groups have other rows than the footer says"));
    }
    if bytes > end || rows > allowed(length) {
        return Err(unreadable(format!("{length} bytes cannot have {rows} rows in {bytes} bytes")));
    }
    Ok(())
}

/// Adds the bytes of each row's strings, as they are read.
fn weigh(array: &dyn Array, sizes: &mut [u64]) {
    match array.data_type() {
        DataType::BinaryView => {
            let views = array.as_byte_view::<BinaryViewType>().views();
            for (size, view) in sizes.iter_mut().zip(views) {
                // The length is the view's lowest 32 bits.
                *size += u64::try_from(view & u128::from(u32::MAX)).unwrap_or_default();
            }
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().for_each(|column| weigh(column, sizes));
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            weigh_items(list.values(), list.offsets(), sizes);
        }
        DataType::Map(..) => {
            let map = array.as_map();
            weigh_items(map.entries(), map.offsets(), sizes);
        }
        DataType::FixedSizeBinary(width) => {
            let width = u64::try_from(*width).unwrap_or_default();
            sizes.iter_mut().for_each(|size| *size += width);
        }
        _ => {}
    }
}

fn weigh_items(items: &dyn Array, offsets: &[i32], sizes: &mut [u64]) {
    let mut own = vec![0; items.len()];
    weigh(items, &mut own);
    let place = |offset: Option<&i32>| offset.and_then(|o| usize::try_from(*o).ok());
    for (row, size) in sizes.iter_mut().enumerate() {
        let (from, to) = (place(offsets.get(row)), place(offsets.get(row + 1)));
        let range = from.unwrap_or_default()..to.unwrap_or_default();
        *size += own.get(range).unwrap_or_default().iter().sum::<u64>();
    }
}
