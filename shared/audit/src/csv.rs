//! Comma-separated values (RFC 4180), on `csv-core`'s state machine.
//!
//! Columns are found by the header's names, so their order does not matter. A row with too few or too many cells, with
//! invalid UTF-8 or with a NUL is a bad row; a header that does not fit the contract makes the object unreadable.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use arrow::array::StringBuilder;
use csv_core::ReadRecordResult;
use sluicegate_contract::check::tells_absent_from_null;
use sluicegate_contract::{
    Contract, CsvFormat, Datum, Encoding, Reason, Type, UnknownFields, pointer,
};

use crate::cell;
use crate::decode::{
    CHUNK_BYTES, Cell, Chunk, Column, DecodeError, Decoder, RowFault, chunk_rows, leaves, quote,
};
use crate::jsonl::{Stranger, object_of, parse};
use crate::unknown::Unknown;

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
    /// Columns of the file that the contract does not know.
    strangers: Vec<(usize, String)>,
    unknown: &'a RefCell<Unknown>,
    tell_absent: bool,
    /// Whether the object has ended within quotes.
    open_quote: bool,
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

fn core(format: &CsvFormat) -> csv_core::Reader {
    csv_core::ReaderBuilder::new().delimiter(format.delimiter).quote(format.quote).build()
}

/// Bytes as text, by the source's encoding.
trait AsText {
    /// `ends` are moved where characters need more bytes; `None` if the bytes are no text.
    fn text<'b>(&self, bytes: &'b [u8], ends: &mut [usize]) -> Option<Cow<'b, str>>;
}

impl AsText for CsvFormat {
    fn text<'b>(&self, bytes: &'b [u8], ends: &mut [usize]) -> Option<Cow<'b, str>> {
        if self.encoding == Encoding::Utf8 || bytes.is_ascii() {
            return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
        }
        // In UTF-8, every second half of the code page takes one byte more.
        let (mut at, mut more) = (0, 0);
        for end in ends {
            let cell = bytes.get(at..*end).unwrap_or_default();
            more += cell.iter().filter(|b| !b.is_ascii()).count();
            at = *end;
            *end += more;
        }
        Some(Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect()))
    }
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
        unknown: &'a RefCell<Unknown>,
    ) -> Result<Self, DecodeError> {
        let mut csv = Self {
            contract,
            format,
            reader,
            core: core(format),
            buffer: vec![0; READ],
            at: 0,
            filled: 0,
            ended: false,
            offset: 0,
            rows: 0,
            places: Vec::new(),
            width: 0,
            header: Vec::new(),
            strangers: Vec::new(),
            unknown,
            tell_absent: tells_absent_from_null(contract),
            open_quote: false,
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
        if !self.format.header {
            if self.at == self.filled {
                return Err(unreadable("empty", "the object is empty"));
            }
            self.width = self.contract.fields.len();
            self.places = (0..self.width).map(Some).collect();
            return Ok(());
        }
        let mut line = Vec::new();
        if !self.next_record(&mut line)? {
            return Err(unreadable("empty", "the object is empty: not even a header"));
        }
        let Record { data, ends, data_len, ends_len } = &self.record;
        let mut ends = ends.get(..*ends_len).unwrap_or_default().to_vec();
        let text = self.format.text(data.get(..*data_len).unwrap_or_default(), &mut ends);
        let text = text.ok_or_else(|| unreadable("header", "the header is not UTF-8 text"))?;
        let mut from = 0;
        let names: Vec<&str> = ends
            .iter()
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
                    quote(&names.join(",")),
                    missing.len()
                ),
            ));
        }
        let known = |name: &str| self.contract.fields.iter().any(|f| f.source == name);
        let strangers = names.iter().enumerate().filter(|(_, name)| !known(name));
        self.strangers = strangers.map(|(place, name)| (place, (*name).to_owned())).collect();
        if let (UnknownFields::Reject, Some((_, first))) =
            (self.contract.unknown_fields, self.strangers.first())
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
            if input.is_empty() {
                let begun = trimmed(line.get(start..).unwrap_or_default());
                self.open_quote = is_open(self.format, begun);
            }
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

/// Whether a row goes on beyond an end of line: only within quotes it does.
fn is_open(format: &CsvFormat, row: &[u8]) -> bool {
    let (mut core, mut cells) = (core(format), vec![0; MAX_COLUMNS + 1]);
    let mut text = vec![0; row.len() + 2];
    let mut text = text.as_mut_slice();
    for bytes in [row, b"\n"] {
        let (result, _, written, _) = core.read_record(bytes, text, &mut cells);
        if result == ReadRecordResult::Record {
            return false;
        }
        text = text.get_mut(written..).unwrap_or_default();
    }
    !row.is_empty()
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
}

impl Cells {
    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let from =
            if index == 0 { 0 } else { self.ends.get(index - 1).copied().unwrap_or_default() };
        from..self.ends.get(index).copied().unwrap_or(from)
    }

    /// Marks the rows that are not text. Whole chunks are looked at first: almost all are.
    fn check_text(&mut self, width: usize, chunk: &mut Chunk) {
        let clean = std::str::from_utf8(&self.data)
            .is_ok_and(|text| self.ends.iter().all(|end| text.is_char_boundary(*end)))
            && memchr::memchr(0, &self.data).is_none();
        if clean {
            return;
        }
        for row in 0..chunk.rows {
            for index in row * width..(row + 1) * width {
                let cell = self.data.get(self.range(index)).unwrap_or_default();
                if std::str::from_utf8(cell).is_err() {
                    chunk.spoil(row, "encoding", "is not valid UTF-8");
                } else if cell.contains(&0) {
                    chunk.spoil(row, "encoding", "has a NUL character");
                }
            }
        }
    }
}

/// Cells that stand for null.
struct Nulls<'a> {
    tokens: Vec<&'a [u8]>,
    longest: Option<usize>,
}

impl<'a> Nulls<'a> {
    fn of(format: &'a CsvFormat) -> Self {
        let tokens: Vec<&[u8]> = format.null_tokens.iter().map(String::as_bytes).collect();
        Self { longest: tokens.iter().map(|token| token.len()).max(), tokens }
    }

    fn has(&self, text: &str) -> bool {
        Some(text.len()) <= self.longest && self.tokens.contains(&text.as_bytes())
    }
}

impl<R: Read> Csv<'_, R> {
    /// What the contract does not know, a JSON object a row; counted on the way. `inside`: what cells of JSON have.
    fn extra<'t>(
        &self,
        rows: usize,
        cell: &dyn Fn(usize, usize) -> Option<&'t str>,
        inside: &BTreeMap<usize, Vec<Stranger<'t>>>,
    ) -> StringBuilder {
        let nulls = Nulls::of(self.format);
        let mut extra = StringBuilder::new();
        let mut unknown = self.unknown.borrow_mut();
        let first = self.rows - rows as u64;
        for row in 0..rows {
            let mut strangers: Vec<(String, Cow<'_, str>)> = Vec::new();
            for (place, name) in &self.strangers {
                let Some(text) = cell(row, *place).filter(|text| !nulls.has(text)) else {
                    continue;
                };
                let pointer = pointer::child("", name);
                unknown.cell(first + row as u64, &pointer, text);
                let text = serde_json::to_string(text).unwrap_or_default();
                strangers.push((pointer, text.into()));
            }
            let nested = inside.get(&row).map(Vec::as_slice).unwrap_or_default();
            strangers
                .extend(nested.iter().map(|(place, text)| (place.clone(), Cow::Borrowed(*text))));
            let strangers: Vec<_> =
                strangers.iter().map(|(place, text)| (place.clone(), text.as_ref())).collect();
            extra.append_option(object_of(&strangers));
        }
        extra
    }
}

impl<R: Read> Decoder for Csv<'_, R> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DecodeError> {
        let mut chunk = Chunk { offset: self.offset, ..Chunk::default() };
        let mut cells = Cells::default();
        let limit = chunk_rows(self.width.max(leaves(&self.contract.fields)));
        while chunk.rows < limit && chunk.bytes.len() < CHUNK_BYTES {
            let from = chunk.bytes.len();
            if !self.next_record(&mut chunk.bytes)? {
                break;
            }
            let line = chunk.bytes.get(from..).unwrap_or_default();
            let row = trimmed(line);
            let lead = line.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            chunk.spans.push(from + lead..from + lead + row.len());
            chunk.bad.push(false);
            let base = cells.data.len();
            let record = &self.record;
            if record.ends_len == self.width {
                cells
                    .data
                    .extend_from_slice(record.data.get(..record.data_len).unwrap_or_default());
                cells.ends.extend(record.ends.iter().take(self.width).map(|end| base + end));
            } else {
                cells.ends.extend(std::iter::repeat_n(base, self.width));
                let reason = if self.format.header {
                    format!("has {} cells, the header {}", record.ends_len, self.width)
                } else {
                    format!("has {} cells, the contract {}", record.ends_len, self.width)
                };
                chunk.spoil(chunk.rows, "columns", reason);
            }
            // The input ends within quotes: what came after them, if anything did, is lost in this row.
            if self.open_quote {
                chunk.spoil(chunk.rows, "quotes", "the object ends within quotes");
            }
            chunk.rows += 1;
        }
        if chunk.rows == 0 {
            return Ok(None);
        }
        if self.format.encoding == Encoding::Latin1
            && let Some(Cow::Owned(text)) = self.format.text(&cells.data, &mut cells.ends)
        {
            cells.data = text.into_bytes();
        }
        cells.check_text(self.width, &mut chunk);
        let nulls = Nulls::of(self.format);
        // Almost always the whole chunk is text; where it is not, the rows that are still alive are.
        let text = std::str::from_utf8(&cells.data).ok();
        let dead: Vec<bool> = chunk.bad.clone();
        let at = |row: usize, place: usize| {
            let range = cells.range(row * self.width + place);
            match text {
                Some(text) => text.get(range),
                None => cells.data.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()),
            }
        };
        let first = self.rows - chunk.rows as u64;
        let reject = self.contract.unknown_fields == UnknownFields::Reject;
        let mut inside: BTreeMap<usize, Vec<Stranger<'_>>> = BTreeMap::new();
        for (index, (field, place)) in self.contract.fields.iter().zip(&self.places).enumerate() {
            let is_json = matches!(field.ty, Type::Struct(_) | Type::List(_));
            let mut column = Column::of(field, chunk.rows, self.tell_absent);
            for (row, bad) in chunk.bad.iter_mut().enumerate() {
                if dead.get(row).copied().unwrap_or(true) {
                    column.skip();
                    continue;
                }
                let cell = match place.and_then(|place| at(row, place)) {
                    None => Cell::Absent,
                    Some(value) if nulls.has(value) && field.nullable => Cell::Null,
                    Some(value) if nulls.has(value) => Cell::Absent,
                    Some(value) if is_json => match parse(field, value) {
                        Some((cell, strangers)) => {
                            let number = first + row as u64;
                            let mut unknown = self.unknown.borrow_mut();
                            let seen = unknown.row(self.contract, number, &strangers);
                            *bad |= seen.is_err() || (reject && !strangers.is_empty());
                            inside.entry(row).or_default().extend(strangers);
                            cell
                        }
                        None => Cell::Other,
                    },
                    Some(value) => Cell::Text(value),
                };
                let mut doubt = false;
                if !column.append(&cell, &mut doubt) {
                    *bad = true;
                    chunk.blamed.entry(row).or_insert(index);
                }
                if doubt {
                    chunk.doubtful.push(row);
                }
            }
            chunk.columns.push(column.finish()?);
        }
        let keep = self.contract.unknown_fields == UnknownFields::Keep;
        if keep || !self.strangers.is_empty() {
            let alive = |row: usize, place: usize| {
                let dead = dead.get(row).copied().unwrap_or(true);
                if dead { None } else { at(row, place) }
            };
            let mut extra = self.extra(chunk.rows, &alive, &inside);
            chunk.extra = keep.then(|| Arc::new(extra.finish()) as _);
        }
        Ok(Some(chunk))
    }

    fn datum<'b>(&self, row: &'b [u8]) -> Result<Datum<'b>, RowFault> {
        let mut core = core(self.format);
        let (mut data, mut ends) = (vec![0; row.len() + 1], vec![0; self.width + 2]);
        let (_, read, mut written, mut ended) = core.read_record(row, &mut data, &mut ends);
        if read == row.len() {
            // An end of line, which the row's bytes do not have, ends the last cell.
            let rest = data.get_mut(written..).unwrap_or_default();
            let places = ends.get_mut(ended..).unwrap_or_default();
            let (_, _, more, cells) = core.read_record(b"\n", rest, places);
            written += more;
            ended += cells;
        }
        ends.truncate(ended);
        let text = self.format.text(data.get(..written).unwrap_or_default(), &mut ends);
        let text = text.ok_or_else(|| RowFault::whole("encoding", "is not valid UTF-8"))?;
        let nulls = Nulls::of(self.format);
        let cell = |place: usize| {
            let from = if place == 0 { 0 } else { ends.get(place - 1).copied()? };
            text.get(from..ends.get(place).copied()?)
        };
        let mut properties = Vec::with_capacity(self.places.len());
        for (field, place) in self.contract.fields.iter().zip(&self.places) {
            let Some(text) = place.and_then(cell) else { continue };
            let value = match (nulls.has(text), field.nullable) {
                (true, true) => Datum::Null,
                (true, false) => continue,
                (false, _) => cell::datum(&field.ty, text).into_owned(),
            };
            properties.push((Cow::Owned(field.source.clone()), value));
        }
        Ok(Datum::Object(properties))
    }

    fn header(&self) -> &[u8] {
        &self.header
    }
}
