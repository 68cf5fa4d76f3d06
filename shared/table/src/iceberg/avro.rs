//! As much of Avro's object container format as Iceberg's manifests and manifest lists need.
//!
//! Guarantees: writing is deterministic, the sync marker being a hash of the content. Reading follows the schema in the
//! file and finds fields by Iceberg's `field-id`, so that a later writer's fields are skipped. Each step of the reader
//! consumes input (fields that take no bytes are dropped from the schema first), so hostile files cost time linear in
//! their size; nothing is allocated ahead of the bytes that fill it.
//!
//! Fails on every codec but `null`, and on schemas that refer to a type by name (Iceberg's never do): resolving names
//! would let a small schema describe an endless one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::FormatError;

const MAGIC: &[u8] = b"Obj\x01";
const SYNC: usize = 16;
/// A block is closed once it holds this much, so that streaming readers need not hold a whole manifest.
const BLOCK: usize = 64 * 1024;

type Result<T> = std::result::Result<T, FormatError>;

// Schemas as Iceberg annotates them.

pub(super) fn required(id: i32, name: &str, ty: impl Into<Value>) -> Value {
    json!({"name": name, "type": ty.into(), "field-id": id})
}

pub(super) fn optional(id: i32, name: &str, ty: impl Into<Value>) -> Value {
    json!({"name": name, "type": ["null", ty.into()], "default": null, "field-id": id})
}

pub(super) fn record(name: &str, fields: Vec<Value>) -> Value {
    json!({"type": "record", "name": name, "fields": fields})
}

pub(super) fn array(element: i32, items: impl Into<Value>) -> Value {
    json!({"type": "array", "items": items.into(), "element-id": element})
}

/// Avro's own maps have string keys only; Iceberg writes others as arrays of pairs.
pub(super) fn map(key: i32, value: i32, ty: &str) -> Value {
    let pair = record(
        &format!("k{key}_v{value}"),
        vec![required(key, "key", "int"), required(value, "value", ty)],
    );
    json!({"type": "array", "logicalType": "map", "items": pair})
}

/// `name` as Avro allows it, in the spelling that Iceberg's own writers use.
pub(super) fn name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (i, unit) in name.encode_utf16().enumerate() {
        match u8::try_from(unit).map(char::from) {
            Ok(c) if c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit()) => {
                out.push(c)
            }
            Ok(c) if c.is_ascii_digit() => out.extend(['_', c]),
            _ => out.push_str(&format!("_x{unit:X}")),
        }
    }
    out
}

// Writing.

/// Appends values; the caller keeps to the order of its schema.
#[derive(Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            self.0.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    pub(super) fn int(&mut self, value: i32) {
        self.long(value.into());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.0.push(value.into());
    }

    pub(super) fn unsigned(&mut self, what: &'static str, value: u64) -> Result<()> {
        self.long(i64::try_from(value).map_err(|_| FormatError::range(what, value))?);
        Ok(())
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> Result<()> {
        self.len(value.len())?;
        self.0.extend_from_slice(value);
        Ok(())
    }

    fn len(&mut self, len: usize) -> Result<()> {
        self.long(i64::try_from(len).map_err(|_| FormatError::range("length", len))?);
        Ok(())
    }

    /// The branch of an optional field; what follows is there only if `present`.
    pub(super) fn branch(&mut self, present: bool) -> bool {
        self.long(present.into());
        present
    }

    /// An optional array, null when empty.
    pub(super) fn array<I: ExactSizeIterator>(
        &mut self,
        items: I,
        mut each: impl FnMut(&mut Self, I::Item) -> Result<()>,
    ) -> Result<()> {
        if self.branch(items.len() > 0) {
            self.len(items.len())?;
            for item in items {
                each(self, item)?;
            }
            self.long(0);
        }
        Ok(())
    }
}

/// A whole container file of `items`, each written by `encode` as `schema` says.
pub(super) fn write<T>(
    schema: &str,
    metadata: &[(&str, &str)],
    items: impl IntoIterator<Item = T>,
    mut encode: impl FnMut(&mut Encoder, T) -> Result<()>,
) -> Result<Vec<u8>> {
    let mut head = Encoder(MAGIC.to_vec());
    head.len(metadata.len() + 2)?;
    for (key, value) in [("avro.schema", schema), ("avro.codec", "null")].iter().chain(metadata) {
        head.bytes(key.as_bytes())?;
        head.bytes(value.as_bytes())?;
    }
    head.long(0);

    let mut blocks = Vec::new();
    let mut block = (0, Encoder::default());
    for item in items {
        encode(&mut block.1, item)?;
        block.0 += 1;
        if block.1.0.len() >= BLOCK {
            blocks.push(std::mem::take(&mut block));
        }
    }
    if block.0 > 0 {
        blocks.push(block);
    }

    let parts = std::iter::once(&head.0).chain(blocks.iter().map(|(_, block)| &block.0));
    let sync = fnv(parts.flatten()).to_be_bytes();
    let mut out = head;
    out.0.reserve_exact(
        blocks.iter().map(|(_, block)| block.0.len() + 2 * SYNC + 4).sum::<usize>() + SYNC,
    );
    out.0.extend_from_slice(&sync);
    for (count, block) in blocks {
        out.len(count)?;
        out.bytes(&block.0)?;
        out.0.extend_from_slice(&sync);
    }
    Ok(out.0)
}

/// FNV-1a of 128 bits: the marker must be unlikely in the data and the same in every run, not secret.
fn fnv<'a>(bytes: impl Iterator<Item = &'a u8>) -> u128 {
    bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

// Reading.

/// What the writer's schema says comes next.
#[derive(Debug)]
pub(super) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Array(Box<Shape>),
    Map(Box<Shape>),
    Union(Vec<Shape>),
    Record(Vec<(Option<i32>, Shape)>),
}

thread_local! {
    static SHAPES: RefCell<Vec<(Vec<u8>, Rc<Shape>)>> = const { RefCell::new(Vec::new()) };
}

/// As many schemas as a commit meets: of lists, and of manifests under a few partition specs.
const REMEMBERED: usize = 8;

impl Shape {
    /// The shape of a file's schema. All manifests of a partition spec have the same one, and to parse it takes longer than
    /// to read a dozen entries: the newest few are remembered.
    fn of(schema: &[u8]) -> Result<Rc<Self>> {
        SHAPES.with_borrow_mut(|known| {
            if let Some(at) = known.iter().position(|(text, _)| text == schema) {
                return Ok(Rc::clone(&known[at].1));
            }
            let value: Value =
                serde_json::from_slice(schema).map_err(FormatError::json("the Avro schema"))?;
            let shape = Rc::new(Self::parse(&value)?);
            known.truncate(REMEMBERED - 1);
            known.insert(0, (schema.to_vec(), Rc::clone(&shape)));
            Ok(shape)
        })
    }

    /// The depth is bounded by that of the JSON, which its parser bounds.
    fn parse(schema: &Value) -> Result<Self> {
        Ok(match schema {
            Value::String(name) => Self::named(name, &Map::new())?,
            Value::Array(branches) => {
                Self::Union(branches.iter().map(Self::parse).collect::<Result<_>>()?)
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => Self::named(name, object)?,
                Some(inner) => Self::parse(inner)?,
                None => return Err(FormatError::Missing { field: "type in the Avro schema" }),
            },
            other => return Err(FormatError::unsupported("Avro schema", other.to_string())),
        })
    }

    fn named(name: &str, object: &Map<String, Value>) -> Result<Self> {
        let inner = |key: &str, field| match object.get(key) {
            Some(value) => Self::parse(value).map(Box::new),
            None => Err(FormatError::Missing { field }),
        };
        Ok(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" | "enum" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            "fixed" => Self::Fixed(
                object
                    .get("size")
                    .and_then(Value::as_u64)
                    .and_then(|size| usize::try_from(size).ok())
                    .ok_or(FormatError::Missing { field: "size of an Avro fixed" })?,
            ),
            "array" => Self::Array(inner("items", "items of an Avro array")?),
            "map" => Self::Map(inner("values", "values of an Avro map")?),
            "record" => {
                let fields = object.get("fields").and_then(Value::as_array);
                let mut shapes = Vec::new();
                for field in
                    fields.ok_or(FormatError::Missing { field: "fields of an Avro record" })?
                {
                    let shape = Self::parse(field.get("type").unwrap_or(&Value::Null))?;
                    let id = field
                        .get("field-id")
                        .and_then(Value::as_i64)
                        .and_then(|id| i32::try_from(id).ok());
                    if !shape.is_empty() {
                        shapes.push((id, shape));
                    }
                }
                Self::Record(shapes)
            }
            other => return Err(FormatError::unsupported("Avro type", other)),
        })
    }

    /// Whether a value takes no bytes at all.
    fn is_empty(&self) -> bool {
        match self {
            Self::Null | Self::Fixed(0) => true,
            Self::Record(fields) => fields.is_empty(),
            _ => false,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Fixed(_) => "fixed",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Record(_) => "record",
        }
    }
}

/// A cursor over the values of one file, never past `end`. Each typed read takes the writer's shape and answers `None`
/// for a null.
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Decoder<'a> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8]> {
        let to = self.at.checked_add(len).filter(|to| *to <= self.end);
        let taken = to.and_then(|to| self.bytes.get(self.at..to));
        let taken = taken.ok_or(FormatError::Ended { at: self.at, what })?;
        self.at += len;
        Ok(taken)
    }

    fn malformed(&self, what: &'static str) -> FormatError {
        FormatError::Malformed { at: self.at, what }
    }

    fn raw_long(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1, "an integer")?.first().copied().unwrap_or(0);
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(self.malformed("integer"))
    }

    fn raw_bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let len = usize::try_from(self.raw_long()?).map_err(|_| self.malformed("length"))?;
        self.take(len, what)
    }

    fn text(&self, bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|_| self.malformed("UTF-8"))
    }

    /// The item count of an array's or map's next chunk; zero ends it.
    fn chunk(&mut self) -> Result<usize> {
        let mut count = self.raw_long()?;
        if count < 0 {
            count = count.checked_neg().ok_or_else(|| self.malformed("item count"))?;
            self.raw_long()?;
        }
        let count = usize::try_from(count).map_err(|_| self.malformed("item count"))?;
        // Items take at least a byte each, so a greater count is a lie; it is found out before any loop.
        if count > self.end - self.at {
            return Err(FormatError::Ended { at: self.at, what: "an array" });
        }
        Ok(count)
    }

    /// The shape behind an optional one.
    fn branch<'s>(&mut self, shape: &'s Shape) -> Result<Option<&'s Shape>> {
        let shape = match shape {
            Shape::Union(branches) => {
                let branch = usize::try_from(self.raw_long()?).ok().and_then(|i| branches.get(i));
                branch.ok_or_else(|| self.malformed("union branch"))?
            }
            plain => plain,
        };
        Ok(Some(shape).filter(|shape| !matches!(shape, Shape::Null)))
    }

    fn mismatch<T>(&self, wanted: &'static str, shape: &Shape) -> Result<T> {
        Err(FormatError::Type { at: self.at, wanted, found: shape.kind() })
    }

    pub(super) fn long(&mut self, shape: &Shape) -> Result<Option<i64>> {
        match self.branch(shape)? {
            None => Ok(None),
            Some(Shape::Int | Shape::Long) => self.raw_long().map(Some),
            Some(other) => self.mismatch("a long", other),
        }
    }

    pub(super) fn int(&mut self, shape: &Shape) -> Result<Option<i32>> {
        let value = self.long(shape)?;
        value
            .map(|value| i32::try_from(value).map_err(|_| FormatError::range("int", value)))
            .transpose()
    }

    /// A count or size: the format stores it signed, and negative ones mean nothing.
    pub(super) fn unsigned(&mut self, shape: &Shape) -> Result<Option<u64>> {
        let value = self.long(shape)?;
        value
            .map(|value| u64::try_from(value).map_err(|_| FormatError::range("count", value)))
            .transpose()
    }

    pub(super) fn bool(&mut self, shape: &Shape) -> Result<Option<bool>> {
        match self.branch(shape)? {
            None => Ok(None),
            Some(Shape::Boolean) => match self.take(1, "a boolean")? {
                [0] => Ok(Some(false)),
                [1] => Ok(Some(true)),
                _ => Err(self.malformed("boolean")),
            },
            Some(other) => self.mismatch("a boolean", other),
        }
    }

    pub(super) fn bytes(&mut self, shape: &Shape) -> Result<Option<&'a [u8]>> {
        match self.branch(shape)? {
            None => Ok(None),
            Some(Shape::Bytes) => self.raw_bytes("bytes").map(Some),
            Some(Shape::Fixed(size)) => self.take(*size, "a fixed").map(Some),
            Some(other) => self.mismatch("bytes", other),
        }
    }

    pub(super) fn string(&mut self, shape: &Shape) -> Result<Option<&'a str>> {
        match self.branch(shape)? {
            None => Ok(None),
            Some(Shape::String) => {
                let bytes = self.raw_bytes("a string")?;
                self.text(bytes).map(Some)
            }
            Some(other) => self.mismatch("a string", other),
        }
    }

    /// Calls `each` with the id and shape of every field, in order; `each` must consume the field. Fields without an
    /// id are skipped. False for a null.
    pub(super) fn record(
        &mut self,
        shape: &Shape,
        mut each: impl FnMut(&mut Self, i32, &Shape) -> Result<()>,
    ) -> Result<bool> {
        match self.branch(shape)? {
            None => Ok(false),
            Some(Shape::Record(fields)) => {
                for (id, shape) in fields {
                    match id {
                        Some(id) => each(self, *id, shape)?,
                        None => self.skip(shape)?,
                    }
                }
                Ok(true)
            }
            Some(other) => self.mismatch("a record", other),
        }
    }

    /// An array's items; none for a null.
    pub(super) fn array<T>(
        &mut self,
        shape: &Shape,
        mut each: impl FnMut(&mut Self, &Shape) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        match self.branch(shape)? {
            None => {}
            Some(Shape::Array(item)) => loop {
                let count = self.chunk()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    items.push(each(self, item)?);
                }
            },
            Some(other) => return self.mismatch("an array", other),
        }
        Ok(items)
    }

    /// A map kept as an array of pairs; empty for a null.
    pub(super) fn map<T>(
        &mut self,
        shape: &Shape,
        mut value: impl FnMut(&mut Self, &Shape) -> Result<Option<T>>,
    ) -> Result<BTreeMap<i32, T>> {
        let pairs = self.array(shape, |this, pair| match pair {
            Shape::Record(fields) => match fields.as_slice() {
                [(_, key), (_, of)] => Ok(this.int(key)?.zip(value(this, of)?)),
                _ => this.mismatch("a key and a value", pair),
            },
            other => this.mismatch("a pair", other),
        })?;
        Ok(pairs.into_iter().flatten().collect())
    }

    pub(super) fn skip(&mut self, shape: &Shape) -> Result<()> {
        let what = "a field to skip";
        match shape {
            Shape::Null => {}
            Shape::Boolean => drop(self.take(1, what)?),
            Shape::Int | Shape::Long => drop(self.raw_long()?),
            Shape::Float => drop(self.take(4, what)?),
            Shape::Double => drop(self.take(8, what)?),
            Shape::Bytes | Shape::String => drop(self.raw_bytes(what)?),
            Shape::Fixed(size) => drop(self.take(*size, what)?),
            Shape::Array(item) => {
                while let count @ 1.. = self.chunk()? {
                    for _ in 0..count {
                        self.skip(item)?;
                    }
                }
            }
            Shape::Map(value) => {
                while let count @ 1.. = self.chunk()? {
                    for _ in 0..count {
                        self.raw_bytes(what)?;
                        self.skip(value)?;
                    }
                }
            }
            Shape::Union(_) => {
                if let Some(shape) = self.branch(shape)? {
                    self.skip(shape)?;
                }
            }
            Shape::Record(fields) => {
                for (_, shape) in fields {
                    self.skip(shape)?;
                }
            }
        }
        Ok(())
    }
}

/// An opened container file: its header read, its records not.
pub(super) struct Container<'a> {
    decoder: Decoder<'a>,
    metadata: BTreeMap<&'a str, &'a [u8]>,
    shape: Rc<Shape>,
    sync: &'a [u8],
}

impl<'a> Container<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let mut decoder = Decoder { bytes, at: 0, end: bytes.len() };
        if decoder.take(MAGIC.len(), "the Avro magic")? != MAGIC {
            return Err(FormatError::Malformed { at: 0, what: "Avro file" });
        }
        let mut metadata = BTreeMap::new();
        while let count @ 1.. = decoder.chunk()? {
            for _ in 0..count {
                let key = decoder.raw_bytes("a header key")?;
                metadata.insert(decoder.text(key)?, decoder.raw_bytes("a header value")?);
            }
        }
        let sync = decoder.take(SYNC, "the sync marker")?;
        match metadata.get("avro.codec").copied() {
            None | Some(b"null") => {}
            Some(codec) => {
                return Err(FormatError::unsupported("Avro codec", String::from_utf8_lossy(codec)));
            }
        }
        let schema =
            metadata.get("avro.schema").ok_or(FormatError::Missing { field: "avro.schema" })?;
        Ok(Self { decoder, shape: Shape::of(schema)?, metadata, sync })
    }

    /// A value of the header; `None` also if it is no text.
    pub(super) fn header(&self, key: &str) -> Option<&'a str> {
        self.metadata.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All records, each read by `each`.
    pub(super) fn records<T>(
        mut self,
        mut each: impl FnMut(&mut Decoder<'a>, &Shape) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut out = Vec::new();
        let d = &mut self.decoder;
        while d.at < d.bytes.len() {
            let count = usize::try_from(d.raw_long()?).map_err(|_| d.malformed("block count"))?;
            let size = usize::try_from(d.raw_long()?).map_err(|_| d.malformed("block size"))?;
            let end = d.at.checked_add(size).filter(|end| *end <= d.bytes.len());
            d.end = end.ok_or(FormatError::Ended { at: d.at, what: "a block" })?;
            if count > size {
                return Err(d.malformed("block count"));
            }
            for _ in 0..count {
                out.push(each(d, &self.shape)?);
            }
            if d.at != d.end {
                return Err(d.malformed("block: bytes are left over"));
            }
            d.end = d.bytes.len();
            if d.take(SYNC, "a sync marker")? != self.sync {
                return Err(d.malformed("sync marker"));
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A container with a record of one field whose bytes are given raw.
    fn file(ty: Value, count: i64, body: &[u8]) -> Vec<u8> {
        let schema = record("r", vec![required(1, "f", ty)]).to_string();
        let mut out = Encoder(MAGIC.to_vec());
        out.long(1);
        out.bytes(b"avro.schema").unwrap();
        out.bytes(schema.as_bytes()).unwrap();
        out.long(0);
        out.0.extend_from_slice(&[7; SYNC]);
        out.long(count);
        out.bytes(body).unwrap();
        out.0.extend_from_slice(&[7; SYNC]);
        out.0
    }

    fn read<T>(
        bytes: &[u8],
        mut each: impl FnMut(&mut Decoder<'_>, &Shape) -> Result<T>,
    ) -> Result<Vec<Option<T>>> {
        Container::open(bytes)?.records(|d, shape| {
            let mut out = None;
            d.record(shape, |d, _, shape| {
                out = Some(each(d, shape)?);
                Ok(())
            })?;
            Ok(out)
        })
    }

    #[test]
    fn numbers_round_trip_at_the_edges() {
        for value in [0, -1, 1, 63, 64, -64, -65, i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let mut e = Encoder::default();
            e.long(value);
            let bytes = file(json!("long"), 1, &e.0);
            assert_eq!(read(&bytes, |d, s| d.long(s)).unwrap(), [Some(Some(value))], "{value}");
        }
    }

    #[test]
    fn names_become_avro_names() {
        assert_eq!(name("time_day"), "time_day");
        assert_eq!(name("1st-day"), "_1st_x2Dday");
        assert_eq!(name("größe"), "gr_xF6_xDFe");
    }

    #[test]
    fn lies_about_counts_are_errors() {
        let long = |d: &mut Decoder<'_>, s: &Shape| d.long(s);
        // More records than bytes; an eleven-byte integer; bytes left over; an endless array; a wrapping item count.
        assert!(read(&file(json!("null"), i64::MAX, b""), long).is_err());
        assert!(read(&file(json!("long"), 1, &[0xff; 11]), long).is_err());
        assert!(read(&file(json!("long"), 1, &[2, 2]), long).is_err());
        let endless = json!({"type": "array", "items": "null"});
        let mut e = Encoder::default();
        e.long(i64::MAX);
        assert!(read(&file(endless.clone(), 1, &e.0), |d, s| d.skip(s)).is_err());
        let mut e = Encoder::default();
        e.long(i64::MIN);
        e.long(0);
        assert!(read(&file(endless, 1, &e.0), |d, s| d.skip(s)).is_err());
    }

    #[test]
    fn unknown_codecs_and_named_references_are_refused() {
        let none: [i64; 0] = [];
        let bytes = write(r#""long""#, &[("avro.codec", "deflate")], none, |_, _| Ok(())).unwrap();
        assert!(matches!(
            Container::open(&bytes),
            Err(FormatError::Unsupported { what: "Avro codec", .. })
        ));
        assert!(matches!(
            Container::open(&file(json!("r"), 0, b"")),
            Err(FormatError::Unsupported { what: "Avro type", .. })
        ));
    }

    #[test]
    fn every_kind_of_field_can_be_skipped() {
        let ty = record(
            "inner",
            vec![
                required(2, "a", "boolean"),
                required(3, "b", "float"),
                required(4, "c", "double"),
                optional(5, "d", "string"),
                required(6, "e", json!({"type": "map", "values": "int"})),
                required(7, "f", json!({"type": "fixed", "name": "x", "size": 3})),
                required(8, "g", array(9, "long")),
                required(10, "h", "null"),
            ],
        );
        let mut e = Encoder(vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        e.branch(true);
        e.bytes(b"text").unwrap();
        e.0.extend_from_slice(&[2, 2, b'k', 2, 0]);
        e.0.extend_from_slice(b"xyz");
        // A chunk whose count is negative is followed by its size.
        e.0.extend_from_slice(&[3, 4, 2, 2, 0]);
        assert_eq!(read(&file(ty, 1, &e.0), |d, s| d.skip(s)).unwrap(), [Some(())]);
    }

    #[test]
    fn long_files_are_written_in_blocks() {
        let items = vec!["x".repeat(1000); 500];
        let schema = record("r", vec![required(1, "f", "string")]).to_string();
        let bytes = write(&schema, &[], &items, |e, item| e.bytes(item.as_bytes())).unwrap();
        let sync = bytes.get(bytes.len() - SYNC..).unwrap();
        assert!(bytes.windows(SYNC).filter(|w| *w == sync).count() > 5);
        let back = read(&bytes, |d, s| Ok(d.string(s)?.map(str::to_owned))).unwrap();
        assert_eq!(back.into_iter().flatten().flatten().collect::<Vec<_>>(), items);
    }

    proptest! {
        #[test]
        fn any_bytes_after_the_magic_end_in_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut file = MAGIC.to_vec();
            file.extend_from_slice(&bytes);
            if let Ok(container) = Container::open(&file) {
                let _ = container.records(|d, s| d.skip(s));
            }
        }

        #[test]
        fn any_body_of_a_nested_shape_ends_in_a_value(count in any::<i64>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let ty = array(2, record("k", vec![optional(3, "a", "string"), required(4, "b", array(5, "long"))]));
            let _ = read(&file(ty, count, &body), |d, s| d.skip(s));
        }
    }
}
