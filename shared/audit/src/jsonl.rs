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
use crate::input::Buffer;
use crate::plain;
use crate::unknown::Unknown;

/// Values in the structs and lists of one row, and of a chunk beyond its last row.
const ROW_VALUES: usize = 1 << 18;
const CHUNK_VALUES: usize = 1 << 20;

pub(crate) struct Jsonl<'a, R> {
    contract: &'a Contract,
    format: &'a JsonlFormat,
    reader: R,
    /// Bytes that were read and belong to no chunk yet.
    ahead: Buffer,
    /// Room that was given back.
    spare: Vec<u8>,
    ended: bool,
    /// Where `ahead` begins in the unpacked object.
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
        mut reader: R,
        unknown: &'a RefCell<Unknown>,
    ) -> Result<Self, DecodeError> {
        let (mut ahead, mut ended) = (Buffer::default(), false);
        while ahead.bytes().len() < 3 && !ended {
            ended = !ahead.read_more(&mut reader)?;
        }
        if ahead.bytes().is_empty() {
            return Err(DecodeError::Unreadable(Reason::new("empty", "the object is empty")));
        }
        let mut offset = 0;
        if ahead.bytes().starts_with(b"\xef\xbb\xbf") {
            ahead.drop_front(3);
            offset = 3;
        }
        let shape = Shape::of(&contract.fields);
        let tell_absent = tells_absent_from_null(contract);
        Ok(Self {
            contract,
            format,
            reader,
            ahead,
            spare: Vec::new(),
            ended,
            offset,
            rows: 0,
            shape,
            tell_absent,
            unknown,
        })
    }

    /// Takes lines off the object that are not blank, none at its end, and tells where they end in the chunk's bytes.
    fn take(&mut self, rows: usize) -> Result<(Chunk, usize), DecodeError> {
        let mut chunk = Chunk { offset: self.offset, ..Chunk::default() };
        let (mut at, mut searched) = (0, 0);
        while chunk.spans.len() < rows && (at < CHUNK_BYTES || chunk.spans.is_empty()) {
            if at >= CHUNK_BYTES {
                // Blank lines alone must not fill a chunk: one without rows is the end.
                self.ahead.drop_front(at);
                chunk.offset += at as u64;
                searched -= at;
                at = 0;
            }
            let bytes = self.ahead.bytes();
            let unseen = bytes.get(searched..).unwrap_or_default();
            let end = memchr::memchr(b'\n', unseen).map(|found| searched + found);
            let length = end.map_or(bytes.len(), |end| end + 1) - at;
            if length > self.format.line_limit {
                let message = format!(
                    "row {} is longer than the contract's line limit of {} bytes",
                    self.rows + chunk.spans.len() as u64 + 1,
                    self.format.line_limit
                );
                return Err(DecodeError::Unreadable(Reason::new("line_limit", message)));
            }
            if end.is_none() && !self.ended {
                searched = bytes.len();
                self.ended = !self.ahead.read_more(&mut self.reader)?;
                continue;
            }
            if length == 0 {
                break;
            }
            let line = bytes.get(at..at + length).unwrap_or_default();
            if !line.trim_ascii().is_empty() {
                chunk.spans.push(at..at + line.trim_ascii_end().len());
            }
            at += length;
            searched = at;
        }
        let bytes = self.ahead.take(at, std::mem::take(&mut self.spare));
        self.offset = chunk.offset + at as u64;
        chunk.rows = chunk.spans.len();
        chunk.bad = vec![false; chunk.rows];
        self.rows += chunk.rows as u64;
        chunk.bytes = bytes;
        Ok((chunk, at))
    }

    /// Cuts a chunk before a row.
    fn put_back(&mut self, chunk: &mut Chunk, row: usize, bytes: &[u8]) {
        let from = chunk.spans.get(row).map_or(bytes.len(), |span| span.start);
        let rest = bytes.get(from..).unwrap_or_default();
        self.ahead.prepend(rest);
        self.offset -= rest.len() as u64;
        self.rows -= (chunk.rows - row) as u64;
        chunk.rows = row;
        chunk.spans.truncate(row);
        chunk.bad.truncate(row);
    }
}

impl<R: Read> Decoder for Jsonl<'_, R> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DecodeError> {
        let (mut chunk, end) = self.take(chunk_rows(leaves(&self.contract.fields)))?;
        if chunk.rows == 0 {
            return Ok(None);
        }
        let first = self.rows - chunk.rows as u64;
        let mut columns = columns(self.contract, chunk.rows, self.tell_absent);
        let keep = self.contract.unknown_fields == UnknownFields::Keep;
        let mut extra = keep.then(StringBuilder::new);
        let bytes = std::mem::take(&mut chunk.bytes);
        let lines = bytes.get(..end).unwrap_or_default();
        let text = std::str::from_utf8(lines).ok();
        let is_plain = plain::has_plain_strings(lines);
        let mut cells: Vec<Cell<'_>> = Vec::new();
        let mut values = 0;
        for row in 0..chunk.rows {
            if values > CHUNK_VALUES {
                // The rest is read again: it becomes a chunk of its own.
                self.put_back(&mut chunk, row, lines);
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
            let read = match text {
                Some(text)
                    if is_plain
                        && self.shape.plain
                        && plain::read(&self.shape, text, &mut cells) =>
                {
                    Ok(())
                }
                _ => {
                    cells.fill_with(Cell::default);
                    self.shape.read(text, &mut cells, &finds)
                }
            };
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

    fn recycle(&mut self, bytes: Vec<u8>) {
        self.spare = bytes;
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
pub(crate) struct Shape<'c> {
    names: BTreeMap<&'c str, usize>,
    slots: Vec<(&'c str, Slot<'c>)>,
    /// Whether all names are written as they are.
    plain: bool,
    /// Which property came last time after each, and first of all: rows are alike, so the next name is seldom sought.
    next: Vec<Known<usize>>,
}

/// How a value is read.
pub(crate) enum Slot<'c> {
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
            plain: fields.iter().all(|f| !f.source.contains(['"', '\\'])),
            next: (0..=fields.len()).map(Known::new).collect(),
        }
    }

    /// The property that came last time after another, which is counted from 1.
    #[inline]
    pub(crate) fn guess(&self, before: usize) -> Option<(usize, &'c str)> {
        let guess = self.next.get(before)?.get();
        self.slots.get(guess).map(|(name, _)| (guess, *name))
    }

    pub(crate) fn slot(&self, property: usize) -> Option<&Slot<'c>> {
        self.slots.get(property).map(|(_, slot)| slot)
    }

    /// The property of a name; `before` is the one that came before it, counted from 1.
    pub(crate) fn find(&self, name: &str, before: usize) -> Option<usize> {
        if let Some((guess, _)) = self.guess(before).filter(|(_, guess)| *guess == name) {
            return Some(guess);
        }
        let found = *self.names.get(name)?;
        self.next.get(before)?.set(found);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn contract() -> Contract {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "n": {"type": ["integer", "null"]},
                "x": {"type": "number"},
                "d": {"type": "number", "x-sluicegate": {"logicalType": "decimal(9,2)"}},
                "s": {"type": "string"},
                "b": {"type": "boolean"},
            },
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"}},
        });
        Contract::parse(document.to_string().as_bytes()).unwrap()
    }

    /// Cells as they are read the general way.
    fn general(shape: &Shape<'_>, text: &str) -> Option<String> {
        let mut cells: Vec<Cell<'_>> = Vec::new();
        cells.resize_with(5, Cell::default);
        let finds = Finds::default();
        shape.read(Some(text), &mut cells, &finds).ok()?;
        finds.strangers.borrow().is_empty().then(|| format!("{cells:?}"))
    }

    fn plainly(shape: &Shape<'_>, text: &str) -> Option<String> {
        let mut cells: Vec<Cell<'_>> = Vec::new();
        cells.resize_with(5, Cell::default);
        let is_plain = plain::has_plain_strings(text.as_bytes());
        (is_plain && plain::read(shape, text, &mut cells)).then(|| format!("{cells:?}"))
    }

    #[test]
    fn ordinary_rows_are_plain() {
        let contract = contract();
        let shape = Shape::of(&contract.fields);
        for row in [
            r#"{"n":1,"x":2.50,"d":-3.25,"s":"","b":true}"#,
            r#"{ "x": 0.1, "n": null , "s": "été", "b": false }"#,
            "{}",
        ] {
            let found = plainly(&shape, row);
            assert_eq!(found, general(&shape, row), "{row}");
            assert!(found.is_some(), "{row}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn a_plain_row_has_the_cells_of_any_other(
            text in r#"\{ ?("(n|x|d|s|b|z)" ?: ?(-?[0-9]{1,17}(\.[0-9]{0,4})?(e1)?|"[a-z\\"é ]{0,5}"|true|false|null|\[1\]|\{\}),? ?){0,4}\}? ?"#,
        ) {
            let contract = contract();
            let shape = Shape::of(&contract.fields);
            if let Some(found) = plainly(&shape, &text) {
                prop_assert_eq!(Some(found), general(&shape, &text));
            }
        }
    }
}
