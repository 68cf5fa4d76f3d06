//! Comma-separated values (RFC 4180), on `csv-core`'s state machine.
//!
//! Columns are found by the header's names, so their order does not matter. A row with too few or too many cells, with
//! invalid UTF-8 or with a NUL is a bad row; a header that does not fit the contract makes the object unreadable.

use std::collections::BTreeSet;
use std::io::Read;

use csv_core::ReadRecordResult;
use sluicegate_contract::{Contract, CsvFormat, Reason, UnknownFields};

use crate::decode::{
    CHUNK_BYTES, Cell, Chunk, Column, DecodeError, DecodeFault, Decoder, append, chunk_rows, quote,
};

/// Bytes asked of the reader at once.
const READ: usize = 256 << 10;
/// Cells of one row; more than this is no table.
const MAX_COLUMNS: usize = 10_000;

pub(crate) struct Csv<'a, R> {
    contract: &'a Contract,
    format: &'a CsvFormat,
    reader: R,
    core: csv_core::Reader,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    ended: bool,
    /// Bytes of the unpacked object that were given to the state machine.
    offset: u64,
    rows: u64,
    /// Field of the contract → column of the file.
    places: Vec<Option<usize>>,
    width: usize,
    header: Vec<u8>,
    unknown: BTreeSet<String>,
    /// Scratch, kept between chunks.
    record: Record,
}

/// The cells of one row, unquoted, one after the other; scratch of [`Csv::record`].
#[derive(Default)]
struct Record {
    data: Vec<u8>,
    ends: Vec<usize>,
    data_len: usize,
    ends_len: usize,
}

fn unreadable(code: &str, message: impl Into<String>) -> DecodeError {
    DecodeError::Unreadable(Reason::new(code, message))
}

impl<'a, R: Read> Csv<'a, R> {
    /// Reads the header; fails where it does not fit the contract.
    pub(crate) fn new(
        contract: &'a Contract,
        format: &'a CsvFormat,
        reader: R,
    ) -> Result<Self, DecodeError> {
        let core = csv_core::ReaderBuilder::new().delimiter(format.delimiter).build();
        let mut csv = Self {
            contract,
            format,
            reader,
            core,
            buffer: vec![0; READ],
            at: 0,
            filled: 0,
            ended: false,
            offset: 0,
            rows: 0,
            places: Vec::new(),
            width: 0,
            header: Vec::new(),
            unknown: BTreeSet::new(),
            record: Record { data: vec![0; 4096], ends: vec![0; 256], ..Record::default() },
        };
        csv.read_header()?;
        Ok(csv)
    }

    fn read_header(&mut self) -> Result<(), DecodeError> {
        self.fill()?;
        if self.buffer.get(self.at..self.filled).is_some_and(|b| b.starts_with(b"\xef\xbb\xbf")) {
            self.at += 3;
            self.offset += 3;
        }
        let mut line = Vec::new();
        if !self.next_record(&mut line)? {
            return Err(unreadable("empty", "the object is empty: not even a header"));
        }
        let Record { data, ends, data_len, ends_len } = &self.record;
        let text = std::str::from_utf8(data.get(..*data_len).unwrap_or_default())
            .map_err(|_| unreadable("header", "the header is not UTF-8 text"))?;
        let mut from = 0;
        let names: Vec<&str> = ends
            .iter()
            .take(*ends_len)
            .map(|end| text.get(std::mem::replace(&mut from, *end)..*end).unwrap_or_default())
            .collect();
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
            return Err(unreadable("header", format!("two columns are called {}", quote(twice))));
        }
        let place = |name: &str| names.iter().position(|n| *n == name);
        self.places = self.contract.fields.iter().map(|f| place(&f.source)).collect();
        let fields = self.contract.fields.iter().zip(&self.places);
        let missing: Vec<_> = fields
            .filter(|(f, place)| f.required && place.is_none())
            .map(|(f, _)| quote(&f.source))
            .collect();
        if !missing.is_empty() {
            let delimiter = char::from(self.format.delimiter);
            let hint = if names.len() == 1 && self.contract.fields.len() > 1 {
                format!("; the header is a single cell: is {delimiter:?} the delimiter?")
            } else {
                String::new()
            };
            let listed = missing.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
            return Err(unreadable(
                "header",
                format!(
                    "the header {} lacks {} required columns: {listed}{hint}",
                    quote(text),
                    missing.len()
                ),
            ));
        }
        let known = |name: &str| self.contract.fields.iter().any(|f| f.source == name);
        self.unknown = names.iter().filter(|n| !known(n)).map(|n| (*n).to_owned()).collect();
        if let (UnknownFields::Reject, Some(first)) =
            (self.contract.unknown_fields, self.unknown.first())
        {
            return Err(unreadable(
                "unknown_field",
                format!(
                    "column {} is not in the contract, which rejects unknown fields",
                    quote(first)
                ),
            ));
        }
        self.width = names.len();
        self.header = [trimmed(&line), b"\n"].concat();
        self.rows = 0;
        Ok(())
    }

    /// Makes sure that bytes are at hand, unless the input has ended.
    fn fill(&mut self) -> Result<(), DecodeError> {
        while self.at == self.filled && !self.ended {
            self.at = 0;
            self.filled = match self.reader.read(&mut self.buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => 0,
                read => {
                    let read = read?;
                    self.ended = read == 0;
                    read
                }
            };
        }
        Ok(())
    }

    /// Reads one record into `self.record`, its bytes appended to `line`; `false` at the end.
    fn next_record(&mut self, line: &mut Vec<u8>) -> Result<bool, DecodeError> {
        let start = line.len();
        self.record.data_len = 0;
        self.record.ends_len = 0;
        loop {
            self.fill()?;
            let input = self.buffer.get(self.at..self.filled).unwrap_or_default();
            let record = &mut self.record;
            let data = record.data.get_mut(record.data_len..).unwrap_or_default();
            let ends = record.ends.get_mut(record.ends_len..).unwrap_or_default();
            let (result, consumed, written, ended) = self.core.read_record(input, data, ends);
            line.extend_from_slice(input.get(..consumed).unwrap_or_default());
            self.at += consumed;
            self.offset += consumed as u64;
            record.data_len += written;
            record.ends_len += ended;
            if line.len() - start > self.format.line_limit {
                return Err(unreadable(
                    "line_limit",
                    format!(
                        "row {} is longer than the contract's line limit of {} bytes",
                        self.rows + 1,
                        self.format.line_limit
                    ),
                ));
            }
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => record.data.resize(record.data.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if record.ends.len() >= MAX_COLUMNS => {
                    return Err(unreadable(
                        "columns",
                        format!("row {} has more than {MAX_COLUMNS} cells", self.rows + 1),
                    ));
                }
                ReadRecordResult::OutputEndsFull => record.ends.resize(record.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    self.rows += 1;
                    return Ok(true);
                }
                ReadRecordResult::End => return Ok(false),
            }
        }
    }
}

/// A row's bytes without the line ends around it: csv-core leaves the second half of a CRLF to the next record.
fn trimmed(line: &[u8]) -> &[u8] {
    let is_end = |b: &u8| matches!(b, b'\r' | b'\n');
    let from = line.iter().position(|b| !is_end(b)).unwrap_or(line.len());
    let to = line.iter().rposition(|b| !is_end(b)).map_or(from, |last| last + 1);
    line.get(from..to).unwrap_or_default()
}

/// The cells of a chunk: `width` of them a row, unquoted, one after the other.
#[derive(Default)]
struct Cells {
    data: Vec<u8>,
    /// End of each cell in `data`.
    ends: Vec<usize>,
    /// Rows whose cells are not to be looked at; they have a fault already.
    dead: Vec<bool>,
}

impl Cells {
    fn kill(
        &mut self,
        row: usize,
        rule: &'static str,
        reason: String,
        faults: &mut Vec<DecodeFault>,
    ) {
        if let Some(dead) = self.dead.get_mut(row).filter(|dead| !**dead) {
            *dead = true;
            faults.push(DecodeFault { row, field: None, rule, reason });
        }
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let from =
            if index == 0 { 0 } else { self.ends.get(index - 1).copied().unwrap_or_default() };
        from..self.ends.get(index).copied().unwrap_or(from)
    }

    /// Kills the rows that are not text. Whole chunks are looked at first: almost all are.
    fn check_text(&mut self, width: usize, faults: &mut Vec<DecodeFault>) {
        let clean = std::str::from_utf8(&self.data)
            .is_ok_and(|text| self.ends.iter().all(|end| text.is_char_boundary(*end)))
            && memchr::memchr(0, &self.data).is_none();
        if clean {
            return;
        }
        for row in 0..self.dead.len() {
            for index in row * width..(row + 1) * width {
                let cell = self.data.get(self.range(index)).unwrap_or_default();
                let reason = if std::str::from_utf8(cell).is_err() {
                    "is not valid UTF-8"
                } else if cell.contains(&0) {
                    "has a NUL character"
                } else {
                    continue;
                };
                self.kill(row, "encoding", reason.to_owned(), faults);
            }
        }
    }
}

impl<R: Read> Decoder for Csv<'_, R> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DecodeError> {
        let mut chunk = Chunk { offset: self.offset, ..Chunk::default() };
        let mut cells = Cells::default();
        let limit = chunk_rows(self.width.max(self.contract.fields.len()));
        while chunk.rows < limit && chunk.bytes.len() < CHUNK_BYTES {
            let from = chunk.bytes.len();
            if !self.next_record(&mut chunk.bytes)? {
                break;
            }
            let line = chunk.bytes.get(from..).unwrap_or_default();
            let row = trimmed(line);
            let lead = line.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            chunk.spans.push(from + lead..from + lead + row.len());
            let base = cells.data.len();
            let record = &self.record;
            cells.dead.push(false);
            if record.ends_len == self.width {
                cells
                    .data
                    .extend_from_slice(record.data.get(..record.data_len).unwrap_or_default());
                cells.ends.extend(record.ends.iter().take(self.width).map(|end| base + end));
            } else {
                cells.ends.extend(std::iter::repeat_n(base, self.width));
                let reason = format!("has {} cells, the header {}", record.ends_len, self.width);
                cells.kill(chunk.rows, "columns", reason, &mut chunk.faults);
            }
            // The input ends within quotes: what came after them, if anything did, is lost in this row.
            if self.ended && line.iter().filter(|b| **b == b'"').count() % 2 == 1 {
                let reason = "the object ends within quotes".to_owned();
                cells.kill(chunk.rows, "quotes", reason, &mut chunk.faults);
            }
            chunk.rows += 1;
        }
        if chunk.rows == 0 {
            return Ok(None);
        }
        cells.check_text(self.width, &mut chunk.faults);
        let nulls: Vec<&[u8]> = self.format.null_tokens.iter().map(String::as_bytes).collect();
        let longest_null = nulls.iter().map(|token| token.len()).max();
        // Almost always the whole chunk is text; where it is not, the rows that are still alive are.
        let text = std::str::from_utf8(&cells.data).ok();
        for (index, (field, place)) in self.contract.fields.iter().zip(&self.places).enumerate() {
            let mut column = Column::of(field.kind, chunk.rows);
            for row in 0..chunk.rows {
                if cells.dead.get(row).copied().unwrap_or(true) {
                    column.null();
                    continue;
                }
                let range = place.map(|place| cells.range(row * self.width + place));
                let value = range.and_then(|range| match text {
                    Some(text) => text.get(range),
                    None => cells.data.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()),
                });
                let cell = match value {
                    None => Cell::Absent,
                    Some(value)
                        if Some(value.len()) <= longest_null
                            && nulls.contains(&value.as_bytes()) =>
                    {
                        if field.nullable {
                            Cell::Null
                        } else {
                            Cell::Absent
                        }
                    }
                    Some(value) => Cell::Text(value),
                };
                append(self.contract, index, row, &mut column, &cell, &mut chunk.faults);
            }
            chunk.columns.push(column.finish());
        }
        Ok(Some(chunk))
    }

    fn header(&self) -> &[u8] {
        &self.header
    }

    fn unknown_fields(&self) -> &BTreeSet<String> {
        &self.unknown
    }
}
