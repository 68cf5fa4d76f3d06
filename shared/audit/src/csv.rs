//! Comma-separated values (RFC 4180).
//!
//! Columns are found by the header's names, so their order does not matter. A row with too few or too many cells, with
//! invalid UTF-8 or with a NUL is a bad row; a header that does not fit the contract makes the object unreadable.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use arrow::array::StringBuilder;
use sluicegate_contract::check::tells_absent_from_null;
use sluicegate_contract::{
    Contract, CsvFormat, Datum, Encoding, Reason, Type, UnknownFields, pointer,
};

use crate::cell;
use crate::decode::{
    CHUNK_BYTES, Cell, Chunk, Column, DecodeError, Decoder, RowFault, chunk_rows, leaves, quote,
};
use crate::input::Buffer;
use crate::jsonl::{Stranger, object_of, parse};
use crate::split::{MAX_COLUMNS, Row, Rows, Splitter, Stop, Wanted};
use crate::text::{Nulls, Texts};
use crate::unknown::Unknown;

pub(crate) struct Csv<'a, R> {
    contract: &'a Contract,
    format: &'a CsvFormat,
    reader: R,
    splitter: Splitter,
    /// Bytes that were read and belong to no chunk yet.
    ahead: Buffer,
    /// Room that was given back.
    spare: Vec<u8>,
    ended: bool,
    /// Where `ahead` begins in the unpacked object.
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
}

/// Some rows, split, and the bytes that they lie in.
struct Taken {
    bytes: Vec<u8>,
    /// Where the rows end; what lies behind is none of theirs.
    end: usize,
    offset: u64,
    split: Rows,
    /// Whether the object ends within quotes.
    open_quote: bool,
}

fn unreadable(code: &str, message: impl Into<String>) -> DecodeError {
    DecodeError::Unreadable(Reason::new(code, message))
}

/// The text of some bytes; `None` if they are none.
fn text(encoding: Encoding, bytes: &[u8]) -> Option<Cow<'_, str>> {
    match encoding {
        Encoding::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Encoding::Latin1 => Some(latin_1(bytes)),
    }
}

/// Every byte is a character.
fn latin_1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect()),
    }
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
            splitter: Splitter::new(format.delimiter, format.quote),
            ahead: Buffer::default(),
            spare: Vec::new(),
            ended: false,
            offset: 0,
            rows: 0,
            places: Vec::new(),
            width: 0,
            header: Vec::new(),
            strangers: Vec::new(),
            unknown,
            tell_absent: tells_absent_from_null(contract),
        };
        csv.read_header()?;
        Ok(csv)
    }

    fn read_header(&mut self) -> Result<(), DecodeError> {
        while self.ahead.bytes().len() < 3 && !self.ended {
            self.ended = !self.ahead.read_more(&mut self.reader)?;
        }
        if self.ahead.bytes().starts_with(b"\xef\xbb\xbf") {
            self.ahead.drop_front(3);
            self.offset = 3;
        }
        if !self.format.header {
            if self.ahead.bytes().is_empty() {
                return Err(unreadable("empty", "the object is empty"));
            }
            self.width = self.contract.fields.len();
            self.places = (0..self.width).map(Some).collect();
            return Ok(());
        }
        // Wider than any row, so that the names are kept, however many.
        let wanted = Wanted { width: MAX_COLUMNS + 1, rows: 1, bytes: CHUNK_BYTES };
        let Taken { bytes, split, .. } = self.take_rows(&wanted)?;
        let Some(row) = split.rows.first() else {
            return Err(unreadable("empty", "the object is empty: not even a header"));
        };
        let names = (0..row.cells).map(|i| text(self.format.encoding, split.cell(&bytes, i)));
        let names: Option<Vec<_>> = names.collect();
        let names = names.ok_or_else(|| unreadable("header", "the header is not UTF-8 text"))?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
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
        self.strangers = strangers.map(|(place, name)| (place, name.to_string())).collect();
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
        self.header = bytes.get(row.span.clone()).unwrap_or_default().to_vec();
        self.header.push(b'\n');
        self.rows = 0;
        Ok(())
    }

    /// Takes rows off the object; none at its end.
    fn take_rows(&mut self, wanted: &Wanted) -> Result<Taken, DecodeError> {
        loop {
            let taken = self.take(wanted)?;
            // Empty lines alone are no end.
            if !taken.split.rows.is_empty() || (self.ended && self.ahead.bytes().is_empty()) {
                return Ok(taken);
            }
            self.spare = taken.bytes;
        }
    }

    /// Takes a chunk of bytes off the object, and the rows in it.
    fn take(&mut self, wanted: &Wanted) -> Result<Taken, DecodeError> {
        // Many short objects have few rows: only a chunk that follows another is likely to be full.
        let more = self.rows >= wanted.rows as u64 && wanted.rows > 1;
        let mut split =
            if more { Rows::with_room(wanted.rows, wanted.width) } else { Rows::default() };
        let end = loop {
            let bytes = self.ahead.bytes();
            let stop = self.splitter.scan(bytes, self.ended, wanted, &mut split);
            let pending = if stop == Stop::More { self.splitter.pending() } else { 0 };
            let lengths = split.rows.iter().map(|row| row.span.len()).chain([pending]);
            let limit = self.format.line_limit;
            if let Some(row) = lengths.enumerate().position(|(_, length)| length > limit) {
                return Err(unreadable(
                    "line_limit",
                    format!(
                        "row {} is longer than the contract's line limit of {limit} bytes",
                        self.rows + row as u64 + 1,
                    ),
                ));
            }
            match stop {
                Stop::Full(end) => break end,
                Stop::More => self.ended = !self.ahead.read_more(&mut self.reader)?,
                Stop::Columns => {
                    return Err(unreadable(
                        "columns",
                        format!(
                            "row {} has more than {MAX_COLUMNS} cells",
                            self.rows + split.rows.len() as u64 + 1
                        ),
                    ));
                }
            }
        };
        let bytes = self.ahead.take(end, std::mem::take(&mut self.spare));
        let offset = self.offset;
        self.offset += end as u64;
        self.rows += split.rows.len() as u64;
        Ok(Taken { bytes, end, offset, split, open_quote: self.splitter.is_open() })
    }

    /// Finds rows that are no text, and makes text of those that are not UTF-8.
    fn check_text(&self, chunk: &mut Chunk, end: usize, split: &mut Rows) {
        let bytes = chunk.bytes.get(..end).unwrap_or_default();
        let is_utf_8 = match self.format.encoding {
            Encoding::Utf8 => std::str::from_utf8(bytes).is_ok(),
            Encoding::Latin1 => bytes.is_ascii(),
        };
        if is_utf_8 && memchr::memchr(0, bytes).is_none() {
            return;
        }
        let mut broken = Vec::new();
        for (row, span) in chunk.spans.iter().enumerate() {
            let line = bytes.get(span.clone()).unwrap_or_default();
            if line.is_ascii() && memchr::memchr(0, line).is_none() {
                continue;
            }
            for index in row * self.width..(row + 1) * self.width {
                let cell = split.cell(bytes, index);
                match text(self.format.encoding, cell) {
                    None => broken.push((row, "is not valid UTF-8")),
                    Some(_) if cell.contains(&0) => broken.push((row, "has a NUL character")),
                    Some(Cow::Borrowed(_)) => {}
                    Some(Cow::Owned(text)) => split.replace(index, text.as_bytes()),
                }
            }
        }
        for (row, reason) in broken {
            chunk.spoil(row, "encoding", reason);
            (row * self.width..(row + 1) * self.width).for_each(|i| split.replace(i, &[]));
        }
    }

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
                let text = cell(row, *place).filter(|text| !nulls.has(text.as_bytes()));
                let Some(text) = text else { continue };
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
        let rows = chunk_rows(self.width.max(leaves(&self.contract.fields)));
        let wanted = Wanted { width: self.width, rows, bytes: CHUNK_BYTES };
        let Taken { bytes, end, offset, mut split, open_quote } = self.take_rows(&wanted)?;
        if split.rows.is_empty() {
            return Ok(None);
        }
        let rows = split.rows.len();
        let spans = split.rows.iter().map(|row| row.span.clone()).collect();
        let mut chunk =
            Chunk { offset, bytes, spans, rows, bad: vec![false; rows], ..Chunk::default() };
        let of = if self.format.header { "the header" } else { "the contract" };
        let wrong = |(_, row): &(usize, &Row)| row.cells != self.width;
        for (row, Row { cells, .. }) in split.rows.iter().enumerate().filter(wrong) {
            chunk.spoil(row, "columns", format!("has {cells} cells, {of} {}", self.width));
        }
        // What came after the quotes, if anything did, is lost in this row.
        if open_quote {
            let last = rows.saturating_sub(1);
            chunk.spoil(last, "quotes", "the object ends within quotes");
            let cells = last * self.width..(last + 1) * self.width;
            cells.for_each(|index| split.replace(index, &[]));
        }
        self.check_text(&mut chunk, end, &mut split);
        let dead: Vec<bool> = chunk.bad.clone();
        let nulls = Nulls::of(self.format);
        let first = self.rows - rows as u64;
        let reject = self.contract.unknown_fields == UnknownFields::Reject;
        let bytes = std::mem::take(&mut chunk.bytes);
        let at = |row: usize, place: usize| {
            std::str::from_utf8(split.cell(&bytes, row * self.width + place)).ok()
        };
        let mut inside: BTreeMap<usize, Vec<Stranger<'_>>> = BTreeMap::new();
        for (index, (field, place)) in self.contract.fields.iter().zip(&self.places).enumerate() {
            if let (Some(place), false) =
                (place, matches!(field.ty, Type::Struct(_) | Type::List(_)))
            {
                let texts = Texts {
                    split: &split,
                    bytes: &bytes,
                    place: *place,
                    width: self.width,
                    nulls: &nulls,
                    dead: &dead,
                    tell_absent: self.tell_absent,
                };
                chunk.columns.push(texts.column(field, |row| {
                    if let Some(bad) = chunk.bad.get_mut(row) {
                        *bad = true;
                    }
                    chunk.blamed.entry(row).or_insert(index);
                })?);
                continue;
            }
            let mut column = Column::of(field, rows, self.tell_absent);
            for (row, bad) in chunk.bad.iter_mut().enumerate() {
                if dead.get(row).copied().unwrap_or(true) {
                    column.skip();
                    continue;
                }
                let cell = match place.and_then(|place| at(row, place)) {
                    None => Cell::Absent,
                    Some(value) if nulls.has(value.as_bytes()) && field.nullable => Cell::Null,
                    Some(value) if nulls.has(value.as_bytes()) => Cell::Absent,
                    Some(value) => match parse(field, value) {
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
        if !inside.is_empty() || !self.strangers.is_empty() {
            let alive = |row: usize, place: usize| {
                let dead = dead.get(row).copied().unwrap_or(true);
                if dead { None } else { at(row, place) }
            };
            let mut extra = self.extra(rows, &alive, &inside);
            chunk.extra = keep.then(|| Arc::new(extra.finish()) as _);
        }
        chunk.bytes = bytes;
        Ok(Some(chunk))
    }

    fn datum<'b>(&self, row: &'b [u8]) -> Result<Datum<'b>, RowFault> {
        let mut splitter = Splitter::new(self.format.delimiter, self.format.quote);
        let mut split = Rows::default();
        let wanted = Wanted { width: self.width, rows: 1, bytes: usize::MAX };
        splitter.scan(row, true, &wanted, &mut split);
        let nulls = Nulls::of(self.format);
        let mut properties = Vec::with_capacity(self.places.len());
        for (field, place) in self.contract.fields.iter().zip(&self.places) {
            let Some(place) = place.filter(|place| *place < split.len()) else { continue };
            let text = text(self.format.encoding, split.cell(row, place));
            let text = text.ok_or_else(|| RowFault::whole("encoding", "is not valid UTF-8"))?;
            let value = match (nulls.has(text.as_bytes()), field.nullable) {
                (true, true) => Datum::Null,
                (true, false) => continue,
                (false, _) => cell::datum(&field.ty, &text).into_owned(),
            };
            properties.push((Cow::Owned(field.source.clone()), value));
        }
        Ok(Datum::Object(properties))
    }

    fn recycle(&mut self, bytes: Vec<u8>) {
        self.spare = bytes;
    }

    fn header(&self) -> &[u8] {
        &self.header
    }
}
