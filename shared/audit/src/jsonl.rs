//! JSON Lines: one object a line, UTF-8.
//!
//! A line that is no JSON object, or that has a property twice, is a bad row. Blank lines are no rows.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;

use serde::Deserializer as _;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sluicegate_contract::{Contract, JsonlFormat, Reason, UnknownFields};

use crate::decode::{
    CHUNK_BYTES, Cell, Chunk, Column, DecodeError, DecodeFault, Decoder, append, chunk_rows, quote,
};

/// Bytes asked of the reader at once.
const READ: usize = 256 << 10;
/// Names of unknown fields that are remembered.
const MAX_UNKNOWN: usize = 100;

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
    names: BTreeMap<&'a str, usize>,
    unknown: BTreeSet<String>,
}

impl<'a, R: Read> Jsonl<'a, R> {
    pub(crate) fn new(
        contract: &'a Contract,
        format: &'a JsonlFormat,
        reader: R,
    ) -> Result<Self, DecodeError> {
        let names =
            contract.fields.iter().enumerate().map(|(i, f)| (f.source.as_str(), i)).collect();
        let mut jsonl = Self {
            contract,
            format,
            reader,
            pending: Vec::new(),
            at: 0,
            ended: false,
            offset: 0,
            rows: 0,
            names,
            unknown: BTreeSet::new(),
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

impl<R: Read> Decoder for Jsonl<'_, R> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DecodeError> {
        let mut chunk = Chunk { offset: self.offset, ..Chunk::default() };
        let limit = chunk_rows(self.contract.fields.len());
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
        let mut columns: Vec<_> =
            self.contract.fields.iter().map(|f| Column::of(f.kind, chunk.rows)).collect();
        for (row, span) in chunk.spans.iter().enumerate() {
            let line = chunk.bytes.get(span.clone()).unwrap_or_default();
            let mut cells: Vec<_> = columns.iter().map(|_| Cell::Absent).collect();
            let mut strangers = Vec::new();
            let reader = Row { names: &self.names, cells: &mut cells, strangers: &mut strangers };
            if let Err((rule, reason)) = reader.read(line) {
                chunk.faults.push(DecodeFault { row, field: None, rule, reason });
                columns.iter_mut().for_each(Column::null);
                continue;
            }
            for (index, (column, cell)) in columns.iter_mut().zip(&cells).enumerate() {
                append(self.contract, index, row, column, cell, &mut chunk.faults);
            }
            for name in strangers {
                if self.contract.unknown_fields == UnknownFields::Reject {
                    let reason = format!("{} is not in the contract", quote(&name));
                    chunk.faults.push(DecodeFault {
                        row,
                        field: None,
                        rule: "unknown_field",
                        reason,
                    });
                }
                if self.unknown.len() < MAX_UNKNOWN {
                    self.unknown.insert(name);
                }
            }
        }
        chunk.columns = columns.iter_mut().map(Column::finish).collect();
        Ok(Some(chunk))
    }

    fn unknown_fields(&self) -> &BTreeSet<String> {
        &self.unknown
    }
}

/// Reads one object into cells, by the contract's names.
struct Row<'r, 'de> {
    names: &'r BTreeMap<&'r str, usize>,
    cells: &'r mut Vec<Cell<'de>>,
    strangers: &'r mut Vec<String>,
}

impl<'de> Row<'_, 'de> {
    fn read(self, line: &'de [u8]) -> Result<(), (&'static str, String)> {
        let text =
            std::str::from_utf8(line).map_err(|_| ("encoding", "is not valid UTF-8".to_owned()))?;
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_any(self).and_then(|()| json.end()).map_err(|e| {
            let rule = if e.is_data() { "type" } else { "json" };
            (rule, e.to_string())
        })
    }
}

impl<'de> Visitor<'de> for Row<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            let Some(cell) = self.names.get(&*name).and_then(|i| self.cells.get_mut(*i)) else {
                map.next_value::<IgnoredAny>()?;
                self.strangers.push(name.into_owned());
                continue;
            };
            if !matches!(cell, Cell::Absent) {
                return Err(de::Error::custom(format!("property {} comes twice", quote(&name))));
            }
            *cell = map.next_value_seed(Value)?;
        }
        Ok(())
    }
}

/// A property's name, borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// A property's value.
struct Value;

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Cell<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
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
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Other("an object"))
    }
}
