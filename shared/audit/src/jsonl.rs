//! JSON Lines: one object a line, UTF-8.
//!
//! A line that is no JSON object, or that has a property twice, is a bad row. Blank lines are no rows.

use std::borrow::Cow;
use std::cell::{Cell as Known, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use arrow::array::StringBuilder;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sluicegate_contract::check::tells_absent_from_null;
use sluicegate_contract::{
    Contract, Datum, Field, JsonlFormat, Reason, Type, UnknownFields, pointer,
};

use crate::decode::{
    CHUNK_BYTES, Cell, Chunk, Column, DecodeError, Decoder, RowFault, chunk_rows, columns, leaves,
    quote,
};
use crate::unknown::Unknown;

/// Values in the structs and lists of one row, and of a chunk beyond its last row.
const ROW_VALUES: usize = 1 << 18;
const CHUNK_VALUES: usize = 1 << 20;
/// Bytes asked of the reader at once.
const READ: usize = 256 << 10;

pub(crate) struct Jsonl<'a, R> {
    contract: &'a Contract,
    format: &'a JsonlFormat,
    reader: R,
    /// Bytes read and not yet given out; a line may lie across reads.
    pending: Vec<u8>,
    at: usize,
    ended: bool,
    offset: u64,
    rows: u64,
    shape: Shape<'a>,
    tell_absent: bool,
    unknown: &'a RefCell<Unknown>,
}

impl<'a, R: Read> Jsonl<'a, R> {
    pub(crate) fn new(
        contract: &'a Contract,
        format: &'a JsonlFormat,
        reader: R,
        unknown: &'a RefCell<Unknown>,
    ) -> Result<Self, DecodeError> {
        let mut jsonl = Self {
            contract,
            format,
            reader,
            pending: Vec::new(),
            at: 0,
            ended: false,
            offset: 0,
            rows: 0,
            shape: Shape::of(&contract.fields),
            tell_absent: tells_absent_from_null(contract),
            unknown,
        };
        while jsonl.pending.len() < 3 && !jsonl.ended {
            jsonl.fill()?;
        }
        if jsonl.pending.is_empty() {
            return Err(DecodeError::Unreadable(Reason::new("empty", "the object is empty")));
        }
        if jsonl.pending.starts_with(b"\xef\xbb\xbf") {
            jsonl.at = 3;
            jsonl.offset = 3;
        }
        Ok(jsonl)
    }

    fn fill(&mut self) -> Result<(), DecodeError> {
        self.pending.drain(..std::mem::take(&mut self.at));
        let from = self.pending.len();
        self.pending.resize(from + READ, 0);
        let read = loop {
            match self.reader.read(self.pending.get_mut(from..).unwrap_or_default()) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.pending.truncate(from + read.as_ref().copied().unwrap_or_default());
        self.ended = read? == 0;
        Ok(())
    }

    /// Appends the next line to `line`, its end included; `false` at the end of the input.
    fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool, DecodeError> {
        let mut searched = 0;
        loop {
            let rest = self.pending.get(self.at..).unwrap_or_default();
            let unseen = rest.get(searched..).unwrap_or_default();
            let found = memchr::memchr(b'\n', unseen).map(|p| searched + p + 1);
            let length = match found {
                Some(length) => length,
                None if self.ended => rest.len(),
                None => 0,
            };
            if length.max(if found.is_none() { rest.len() } else { 0 }) > self.format.line_limit {
                let message = format!(
                    "row {} is longer than the contract's line limit of {} bytes",
                    self.rows + 1,
                    self.format.line_limit
                );
                return Err(DecodeError::Unreadable(Reason::new("line_limit", message)));
            }
            if found.is_some() || self.ended {
                line.extend_from_slice(rest.get(..length).unwrap_or_default());
                self.at += length;
                self.offset += length as u64;
                return Ok(length > 0);
            }
            searched = rest.len();
            self.fill()?;
        }
    }
}

impl<R: Read> Jsonl<'_, R> {
    /// Cuts a chunk before a row.
    fn put_back(&mut self, chunk: &mut Chunk, row: usize, bytes: &[u8]) {
        let from = chunk.spans.get(row).map_or(bytes.len(), |span| span.start);
        let rest = bytes.get(from..).unwrap_or_default();
        self.pending.splice(..self.at, rest.iter().copied());
        self.at = 0;
        self.offset -= rest.len() as u64;
        self.rows -= (chunk.rows - row) as u64;
        chunk.rows = row;
        chunk.spans.truncate(row);
        chunk.bad.truncate(row);
    }
}

impl<R: Read> Decoder for Jsonl<'_, R> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DecodeError> {
        let mut chunk = Chunk { offset: self.offset, ..Chunk::default() };
        let limit = chunk_rows(leaves(&self.contract.fields));
        while chunk.rows < limit && chunk.bytes.len() < CHUNK_BYTES {
            let from = chunk.bytes.len();
            if !self.next_line(&mut chunk.bytes)? {
                break;
            }
            let line = chunk.bytes.get(from..).unwrap_or_default();
            let content = line.trim_ascii_end().len();
            if line.trim_ascii().is_empty() {
                if chunk.rows == 0 {
                    // Blank lines alone must not fill a chunk: one without rows is the end.
                    chunk.bytes.clear();
                    chunk.offset = self.offset;
                }
                continue;
            }
            chunk.spans.push(from..from + content);
            chunk.rows += 1;
            self.rows += 1;
        }
        if chunk.rows == 0 {
            return Ok(None);
        }
        chunk.bad = vec![false; chunk.rows];
        let first = self.rows - chunk.rows as u64;
        let mut columns = columns(self.contract, chunk.rows, self.tell_absent);
        let keep = self.contract.unknown_fields == UnknownFields::Keep;
        let mut extra = keep.then(StringBuilder::new);
        let bytes = std::mem::take(&mut chunk.bytes);
        let text = std::str::from_utf8(&bytes).ok();
        let mut cells: Vec<Cell<'_>> = Vec::new();
        let mut values = 0;
        for row in 0..chunk.rows {
            if values > CHUNK_VALUES {
                // The rest is read again: it becomes a chunk of its own.
                self.put_back(&mut chunk, row, &bytes);
                break;
            }
            let span = chunk.spans.get(row).cloned().unwrap_or_default();
            let line = bytes.get(span.clone()).unwrap_or_default();
            // Almost always the whole chunk is text.
            let text = match text {
                Some(text) => text.get(span),
                None => std::str::from_utf8(line).ok(),
            };
            cells.clear();
            cells.resize_with(columns.len(), Cell::default);
            let finds = Finds::default();
            let read = self.shape.read(text, &mut cells, &finds);
            values += finds.values.get();
            match read {
                Ok(()) => {
                    let (mut good, mut doubt) = (true, false);
                    for (i, (column, cell)) in columns.iter_mut().zip(&cells).enumerate() {
                        if !column.append(cell, &mut doubt) {
                            good = false;
                            chunk.blamed.entry(row).or_insert(i);
                        }
                    }
                    let strangers = finds.strangers.into_inner();
                    let refused = self.contract.unknown_fields == UnknownFields::Reject
                        && !strangers.is_empty();
                    if let Some(bad) = chunk.bad.get_mut(row) {
                        *bad = !good || refused;
                    }
                    if doubt && may_be_rounded(line) {
                        chunk.doubtful.push(row);
                    }
                    if let Some(extra) = &mut extra {
                        extra.append_option(object_of(&strangers));
                    }
                    if !strangers.is_empty() {
                        let seen = self.unknown.borrow_mut().row(
                            self.contract,
                            first + row as u64,
                            &strangers,
                        );
                        if let Err(error) = seen {
                            chunk.spoil(row, "json", error.to_string());
                        }
                    }
                }
                Err(why) => {
                    columns.iter_mut().for_each(Column::skip);
                    extra.iter_mut().for_each(StringBuilder::append_null);
                    match why {
                        Unread::Text => chunk.spoil(row, "encoding", "is not valid UTF-8"),
                        // A row of another type is told of as such.
                        Unread::Json(_) if self.datum(line).is_ok() => {
                            if let Some(bad) = chunk.bad.get_mut(row) {
                                *bad = true;
                            }
                        }
                        Unread::Json(error) => chunk.spoil(row, "json", error.to_string()),
                    }
                }
            }
        }
        chunk.columns = columns.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
        chunk.extra = extra.map(|mut extra| Arc::new(extra.finish()) as _);
        drop(cells);
        chunk.bytes = bytes;
        Ok(Some(chunk))
    }

    fn datum<'b>(&self, row: &'b [u8]) -> Result<Datum<'b>, RowFault> {
        let text = std::str::from_utf8(row)
            .map_err(|_| RowFault::whole("encoding", "is not valid UTF-8"))?;
        Datum::parse_row(text).map_err(|e| RowFault::whole("json", e.to_string()))
    }
}

/// What a row has beyond its contract: place, and JSON text.
pub(crate) type Stranger<'de> = (String, &'de str);

/// What reading a row comes upon.
#[derive(Default)]
struct Finds<'de> {
    strangers: RefCell<Vec<Stranger<'de>>>,
    /// Values in structs and lists.
    values: Known<usize>,
}

impl Finds<'_> {
    /// Counts values before there is room made for them: two bytes of a list may be a struct of thousands.
    fn count(&self, more: usize) -> Result<(), String> {
        self.values.set(self.values.get() + more);
        if self.values.get() > ROW_VALUES {
            return Err(format!("has more than {ROW_VALUES} values"));
        }
        Ok(())
    }
}

/// Strangers as one JSON object.
pub(crate) fn object_of(strangers: &[Stranger<'_>]) -> Option<String> {
    if strangers.is_empty() {
        return None;
    }
    let mut text = String::from("{");
    for (i, (place, value)) in strangers.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        let name = place.strip_prefix('/').unwrap_or(place);
        text.push_str(&serde_json::to_string(name).unwrap_or_default());
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    Some(text)
}

/// Why a line is no row.
enum Unread {
    Text,
    Json(serde_json::Error),
}

/// Reads a JSON text as the value of a field, with what is strange inside it.
pub(crate) fn parse<'de>(field: &Field, text: &'de str) -> Option<(Cell<'de>, Vec<Stranger<'de>>)> {
    let (slot, finds) = (Slot::of(&field.ty), Finds::default());
    let mut json = serde_json::Deserializer::from_str(text);
    let at = Path::Name(&Path::Root, &field.source);
    let cell = Seed { slot: &slot, at: &at, finds: &finds }.deserialize(&mut json).ok()?;
    json.end().ok().map(|()| (cell, finds.strangers.into_inner()))
}

/// Whether a line may have a number that is no double: one of many digits, or of a power of ten.
fn may_be_rounded(line: &[u8]) -> bool {
    let is_part = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    line.split(|b| !is_part(b)).any(|number| {
        number.iter().any(u8::is_ascii_digit)
            && (number.len() > 15 || number.iter().any(|b| matches!(b, b'e' | b'E')))
    })
}

/// How the properties of an object are read.
struct Shape<'c> {
    names: BTreeMap<&'c str, usize>,
    slots: Vec<(&'c str, Slot<'c>)>,
    /// Which property came last time after each, and first of all: rows are alike, so the next name is seldom sought.
    next: Vec<Known<usize>>,
}

/// How a value is read.
enum Slot<'c> {
    Scalar,
    /// A number whose digits all count, or any JSON.
    Raw,
    Struct(Shape<'c>),
    List(Box<Slot<'c>>),
}

impl<'c> Slot<'c> {
    fn of(ty: &'c Type) -> Self {
        match ty {
            Type::Decimal { .. } | Type::Json => Self::Raw,
            Type::Struct(fields) => Self::Struct(Shape::of(fields)),
            Type::List(element) => Self::List(Box::new(Self::of(&element.ty))),
            _ => Self::Scalar,
        }
    }
}

impl<'c> Shape<'c> {
    fn of(fields: &'c [Field]) -> Self {
        Self {
            names: fields.iter().enumerate().map(|(i, f)| (f.source.as_str(), i)).collect(),
            slots: fields.iter().map(|f| (f.source.as_str(), Slot::of(&f.ty))).collect(),
            next: (0..=fields.len()).map(Known::new).collect(),
        }
    }

    /// The property of a name; `before` is the one that came before it, counted from 1.
    fn find(&self, name: &str, before: usize) -> Option<usize> {
        let guess = self.next.get(before)?;
        if self.slots.get(guess.get()).is_some_and(|(n, _)| *n == name) {
            return Some(guess.get());
        }
        let found = *self.names.get(name)?;
        guess.set(found);
        Some(found)
    }

    fn read<'de>(
        &self,
        text: Option<&'de str>,
        cells: &mut [Cell<'de>],
        finds: &Finds<'de>,
    ) -> Result<(), Unread> {
        let text = text.ok_or(Unread::Text)?;
        let mut json = serde_json::Deserializer::from_str(text);
        let row = Row { shape: self, cells, at: &Path::Root, finds };
        json.deserialize_map(row).and_then(|()| json.end()).map_err(Unread::Json)
    }
}

/// Where in a row the reader is; written out only where something strange is met.
enum Path<'p> {
    Root,
    Name(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn pointer(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Name(parent, name) => pointer::child(&parent.pointer(), name),
            Self::Item(parent, index) => format!("{}/{index}", parent.pointer()),
        }
    }
}

/// Reads one object into cells.
struct Row<'r, 'de> {
    shape: &'r Shape<'r>,
    cells: &'r mut [Cell<'de>],
    at: &'r Path<'r>,
    finds: &'r Finds<'de>,
}

impl<'de> Visitor<'de> for Row<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut before = 0;
        let mut strange = BTreeSet::new();
        while let Some(Name(name)) = map.next_key()? {
            let known = self.shape.find(&name, before);
            let slot = known.and_then(|i| Some((self.cells.get_mut(i)?, self.shape.slots.get(i)?)));
            let Some((cell, (name, slot))) = slot else {
                let value: &RawValue = map.next_value()?;
                let place = Path::Name(self.at, &name).pointer();
                self.finds.strangers.borrow_mut().push((place, value.get()));
                if let Some(twice) = strange.replace(name) {
                    let message = format!("property {} comes twice", quote(&twice));
                    return Err(de::Error::custom(message));
                }
                continue;
            };
            if !matches!(cell, Cell::Absent) {
                return Err(de::Error::custom(format!("property {} comes twice", quote(name))));
            }
            let at = Path::Name(self.at, name);
            *cell = map.next_value_seed(Seed { slot, at: &at, finds: self.finds })?;
            before = known.unwrap_or_default() + 1;
        }
        Ok(())
    }
}

/// A property's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A property's value.
struct Seed<'r, 'de> {
    slot: &'r Slot<'r>,
    at: &'r Path<'r>,
    finds: &'r Finds<'de>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, 'de> {
    type Value = Cell<'de>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        if matches!(self.slot, Slot::Raw) {
            let raw = <&RawValue as de::Deserialize>::deserialize(d)?;
            return Ok(if raw.get() == "null" { Cell::Null } else { Cell::Raw(raw.get()) });
        }
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, 'de> {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cell<'de>, E> {
        Ok(Cell::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Cell<'de>, E> {
        #[allow(
            clippy::cast_precision_loss,
            reason = "beyond 64 signed bits only a double holds it"
        )]
        Ok(i64::try_from(value).map_or(Cell::Number(value as f64), Cell::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cell<'de>, E> {
        Ok(Cell::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell<'de>, A::Error> {
        let Slot::List(slot) = self.slot else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Cell::Other);
        };
        let mut cells = Vec::new();
        loop {
            let at = Path::Item(self.at, cells.len());
            let seed = Seed { slot, at: &at, finds: self.finds };
            match items.next_element_seed(seed)? {
                Some(cell) => {
                    self.finds.count(1).map_err(de::Error::custom)?;
                    cells.push(cell);
                }
                None => return Ok(Cell::Array(cells)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
        let Slot::Struct(shape) = self.slot else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Cell::Other);
        };
        self.finds.count(shape.slots.len()).map_err(de::Error::custom)?;
        let mut cells = Vec::new();
        cells.resize_with(shape.slots.len(), Cell::default);
        let row = Row { shape, cells: &mut cells, at: self.at, finds: self.finds };
        row.visit_map(map)?;
        Ok(Cell::Object(cells))
    }
}
