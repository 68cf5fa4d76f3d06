//! Manifests: which data files a table has, with each file's partition, counts and bounds.
//!
//! Guarantees: [`write`] gives every entry its sequence numbers explicitly, so an entry means the same in whatever list
//! names its manifest; [`read`] takes manifests of any writer whose entries do likewise, skipping fields it does not
//! know. Fails (`Unsupported`) on delete files, other formats than Parquet and more than one partition field: an entry
//! is never dropped or read by halves.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::FormatError;
use super::avro::{self, Container, Decoder, Encoder, Shape};
use super::schema::{PartitionSpec, Schema, Transform};

/// A data file as readers see it; the same value travels in proposals as JSON. (JSON keys are strings, so do not
/// `serde(flatten)` it: the integer keys would not read back.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    pub path: String,
    /// The value of the spec's one field; `None` without partitions, or for rows whose source column is null.
    pub partition: Option<i32>,
    pub rows: u64,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub column_sizes: BTreeMap<i32, u64>,
    /// Values by field id, nulls and NaNs included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub value_counts: BTreeMap<i32, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub null_counts: BTreeMap<i32, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nan_counts: BTreeMap<i32, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lower_bounds: BTreeMap<i32, Bound>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upper_bounds: BTreeMap<i32, Bound>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split_offsets: Vec<u64>,
}

impl DataFile {
    /// A file of which no more is known than where it lies and how large it is.
    pub fn new(path: impl Into<String>, partition: Option<i32>, rows: u64, bytes: u64) -> Self {
        Self {
            path: path.into(),
            partition,
            rows,
            bytes,
            column_sizes: BTreeMap::new(),
            value_counts: BTreeMap::new(),
            null_counts: BTreeMap::new(),
            nan_counts: BTreeMap::new(),
            lower_bounds: BTreeMap::new(),
            upper_bounds: BTreeMap::new(),
            split_offsets: Vec::new(),
        }
    }

    /// About how many bytes a manifest takes to describe it.
    pub fn described_in(&self) -> u64 {
        let counts = [&self.column_sizes, &self.value_counts, &self.null_counts, &self.nan_counts];
        let bounds = [&self.lower_bounds, &self.upper_bounds];
        let counts: usize = counts.iter().map(|of| of.len()).sum();
        let bounds: usize = bounds.iter().map(|of| of.len()).sum();
        100 + 3 * counts as u64 + 12 * bounds as u64
    }
}

/// A value that no value of the column is below (or above), in Iceberg's single-value serialisation; base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound(Vec<u8>);

impl Bound {
    pub fn from_bool(value: bool) -> Self {
        Self(vec![value.into()])
    }

    pub fn from_int(value: i32) -> Self {
        Self(value.to_le_bytes().to_vec())
    }

    /// As [`Bound::from_double`].
    pub fn from_float(value: f32) -> Self {
        Self(value.to_le_bytes().to_vec())
    }

    /// The unscaled number in as few big-endian bytes as hold it and its sign.
    pub fn from_decimal(unscaled: i128) -> Self {
        let bytes = unscaled.to_be_bytes();
        let (filler, sign) = if unscaled < 0 { (0xff, 0x80) } else { (0, 0) };
        let redundant = bytes
            .windows(2)
            .take_while(
                |pair| matches!(pair, [first, next] if *first == filler && next & 0x80 == sign),
            )
            .count();
        Self(bytes.iter().skip(redundant).copied().collect())
    }

    pub fn from_long(value: i64) -> Self {
        Self(value.to_le_bytes().to_vec())
    }

    /// NaN is no bound, and of the zeros -0.0 is the lower: leave out the one and mind the other.
    pub fn from_double(value: f64) -> Self {
        Self(value.to_le_bytes().to_vec())
    }

    /// Days since the epoch.
    pub fn from_date(days: i32) -> Self {
        Self(days.to_le_bytes().to_vec())
    }

    /// Microseconds since the epoch.
    pub fn from_timestamp(micros: i64) -> Self {
        Self::from_long(micros)
    }

    /// The first `max_chars` characters: a prefix is never above the whole.
    pub fn string_lower(value: &str, max_chars: usize) -> Self {
        Self(value.chars().take(max_chars).collect::<String>().into_bytes())
    }

    /// `value` if short enough, else the least string of at most `max_chars` characters above all that share its first
    /// `max_chars`; `None` if there is none.
    pub fn string_upper(value: &str, max_chars: usize) -> Option<Self> {
        let mut chars = value.chars();
        let mut prefix: Vec<char> = chars.by_ref().take(max_chars).collect();
        if chars.next().is_some() {
            // A last character that has no successor is dropped and the one before it raised.
            let next = loop {
                if let Some(next) = successor(prefix.pop()?) {
                    break next;
                }
            };
            prefix.push(next);
        }
        Some(Self(prefix.into_iter().collect::<String>().into_bytes()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The next character by code point, which is also the order of UTF-8's bytes. The range steps over the surrogates.
fn successor(c: char) -> Option<char> {
    (c..=char::MAX).nth(1)
}

impl From<Vec<u8>> for Bound {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What the snapshot that wrote an entry did with its file. Deleted entries are kept for one snapshot, for whoever
/// reads changes; readers of the table skip them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Existing = 0,
    Added = 1,
    Deleted = 2,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub status: Status,
    /// The snapshot that added the file, or deleted it.
    pub snapshot_id: i64,
    /// The sequence number of the file's data: that of the snapshot that added it, unless a rewrite kept an older one.
    pub sequence_number: i64,
    /// The sequence number of the snapshot that added the file.
    pub file_sequence_number: i64,
    pub file: DataFile,
}

impl Status {
    fn from_int(value: i32) -> Result<Self, FormatError> {
        [Self::Existing, Self::Added, Self::Deleted]
            .into_iter()
            .find(|status| *status as i32 == value)
            .ok_or_else(|| FormatError::range("status", value))
    }
}

/// A manifest of `entries`, all of which belong to `spec`.
pub fn write<'a>(
    schema: &Schema,
    spec: &PartitionSpec,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Result<Vec<u8>, FormatError> {
    let schema_json =
        serde_json::to_string(schema).map_err(FormatError::json("the table schema"))?;
    let fields_json =
        serde_json::to_string(&spec.fields).map_err(FormatError::json("the partition spec"))?;
    let metadata = [
        ("schema", schema_json.as_str()),
        ("schema-id", &schema.id.to_string()),
        ("partition-spec", &fields_json),
        ("partition-spec-id", &spec.id.to_string()),
        ("format-version", "2"),
        ("content", "data"),
    ];
    let partitioned = !spec.fields.is_empty();
    avro::write(&entry_schema(spec)?, &metadata, entries, |e, entry| encode(e, entry, partitioned))
}

/// The entries of a manifest, deleted ones included. A file cut off exactly between two Avro blocks reads as a shorter
/// manifest: compare the length with the list's.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    let container = Container::open(bytes)?;
    match container.header("content") {
        None | Some("data") => {}
        Some(other) => return Err(FormatError::unsupported("manifest content", other)),
    }
    container.records(decode)
}

/// The fields [`encode`] writes, in its order, with [`PARTITION`] where the spec says what follows.
static SCHEMA: LazyLock<String> = LazyLock::new(|| {
    use avro::{array, map, optional, record, required};

    let file = record(
        "r2",
        vec![
            required(134, "content", "int"),
            required(100, "file_path", "string"),
            required(101, "file_format", "string"),
            required(102, "partition", PARTITION),
            required(103, "record_count", "long"),
            required(104, "file_size_in_bytes", "long"),
            optional(108, "column_sizes", map(117, 118, "long")),
            optional(109, "value_counts", map(119, 120, "long")),
            optional(110, "null_value_counts", map(121, 122, "long")),
            optional(137, "nan_value_counts", map(138, 139, "long")),
            optional(125, "lower_bounds", map(126, 127, "bytes")),
            optional(128, "upper_bounds", map(129, 130, "bytes")),
            optional(131, "key_metadata", "bytes"),
            optional(132, "split_offsets", array(133, "long")),
            optional(135, "equality_ids", array(136, "int")),
            optional(140, "sort_order_id", "int"),
        ],
    );
    record(
        "manifest_entry",
        vec![
            required(0, "status", "int"),
            optional(1, "snapshot_id", "long"),
            optional(3, "sequence_number", "long"),
            optional(4, "file_sequence_number", "long"),
            required(2, "data_file", file),
        ],
    )
    .to_string()
});

const PARTITION: &str = "PARTITION";

fn entry_schema(spec: &PartitionSpec) -> Result<String, FormatError> {
    let partition = match spec.fields.as_slice() {
        [] => Vec::new(),
        [field] => {
            let ty = match field.transform {
                // Readers take a day partition for a date, and compare it as one.
                Transform::Day => serde_json::json!({"type": "int", "logicalType": "date"}),
                Transform::Hour | Transform::Month => "int".into(),
            };
            let name = avro::name(&field.name);
            let mut avro = avro::optional(field.field_id, &name, ty);
            if let Some(object) = avro.as_object_mut().filter(|_| name != field.name) {
                object.insert("iceberg-field-name".to_owned(), field.name.as_str().into());
            }
            vec![avro]
        }
        more => {
            return Err(FormatError::unsupported(
                "number of partition fields",
                more.len().to_string(),
            ));
        }
    };
    let partition = avro::record("r102", partition).to_string();
    Ok(SCHEMA.replacen(&format!("{PARTITION:?}"), &partition, 1))
}

fn encode(e: &mut Encoder, entry: &Entry, partitioned: bool) -> Result<(), FormatError> {
    let file = &entry.file;
    e.int(entry.status as i32);
    for number in [entry.snapshot_id, entry.sequence_number, entry.file_sequence_number] {
        e.branch(true);
        e.long(number);
    }
    e.int(0); // content: data
    e.bytes(file.path.as_bytes())?;
    e.bytes(b"PARQUET")?;
    match file.partition {
        None if !partitioned => {}
        None => drop(e.branch(false)),
        Some(value) if partitioned => {
            e.branch(true);
            e.int(value);
        }
        Some(value) => {
            return Err(FormatError::range("partition of a table without partitions", value));
        }
    }
    e.unsigned("record count", file.rows)?;
    e.unsigned("file size", file.bytes)?;
    for counts in [&file.column_sizes, &file.value_counts, &file.null_counts, &file.nan_counts] {
        e.array(counts.iter(), |e, (id, count)| {
            e.int(*id);
            e.unsigned("column count", *count)
        })?;
    }
    for bounds in [&file.lower_bounds, &file.upper_bounds] {
        e.array(bounds.iter(), |e, (id, bound)| {
            e.int(*id);
            e.bytes(bound.as_bytes())
        })?;
    }
    e.branch(false); // key_metadata
    e.array(file.split_offsets.iter(), |e, offset| e.unsigned("split offset", *offset))?;
    e.branch(false); // equality_ids
    e.branch(false); // sort_order_id
    Ok(())
}

fn decode(d: &mut Decoder<'_>, shape: &Shape) -> Result<Entry, FormatError> {
    let (mut status, mut snapshot_id, mut file) = (None, None, None);
    let (mut sequence_number, mut file_sequence_number) = (None, None);
    d.record(shape, |d, id, shape| {
        match id {
            0 => status = d.int(shape)?,
            1 => snapshot_id = d.long(shape)?,
            2 => file = Some(decode_file(d, shape)?),
            3 => sequence_number = d.long(shape)?,
            4 => file_sequence_number = d.long(shape)?,
            _ => d.skip(shape)?,
        }
        Ok(())
    })?;
    Ok(Entry {
        status: Status::from_int(status.ok_or(FormatError::Missing { field: "status" })?)?,
        snapshot_id: snapshot_id.ok_or(FormatError::Missing { field: "snapshot_id" })?,
        sequence_number: sequence_number
            .ok_or(FormatError::Missing { field: "sequence_number" })?,
        file_sequence_number: file_sequence_number
            .ok_or(FormatError::Missing { field: "file_sequence_number" })?,
        file: file.ok_or(FormatError::Missing { field: "data_file" })?,
    })
}

fn decode_file(d: &mut Decoder<'_>, shape: &Shape) -> Result<DataFile, FormatError> {
    let bound =
        |d: &mut Decoder<'_>, shape: &Shape| Ok(d.bytes(shape)?.map(|bytes| Bound(bytes.to_vec())));
    let (mut path, mut rows, mut bytes) = (None, None, None);
    let mut file = DataFile {
        path: String::new(),
        partition: None,
        rows: 0,
        bytes: 0,
        column_sizes: BTreeMap::new(),
        value_counts: BTreeMap::new(),
        null_counts: BTreeMap::new(),
        nan_counts: BTreeMap::new(),
        lower_bounds: BTreeMap::new(),
        upper_bounds: BTreeMap::new(),
        split_offsets: Vec::new(),
    };
    d.record(shape, |d, id, shape| {
        match id {
            100 => path = d.string(shape)?.map(str::to_owned),
            101 => match d.string(shape)? {
                Some(format) if format.eq_ignore_ascii_case("parquet") => {}
                other => {
                    return Err(FormatError::unsupported("file format", other.unwrap_or("null")));
                }
            },
            102 => file.partition = decode_partition(d, shape)?,
            103 => rows = d.unsigned(shape)?,
            104 => bytes = d.unsigned(shape)?,
            108 => file.column_sizes = d.map(shape, Decoder::unsigned)?,
            109 => file.value_counts = d.map(shape, Decoder::unsigned)?,
            110 => file.null_counts = d.map(shape, Decoder::unsigned)?,
            137 => file.nan_counts = d.map(shape, Decoder::unsigned)?,
            125 => file.lower_bounds = d.map(shape, bound)?,
            128 => file.upper_bounds = d.map(shape, bound)?,
            132 => {
                let offsets = d.array(shape, Decoder::unsigned)?;
                file.split_offsets = offsets.into_iter().flatten().collect();
            }
            134 => match d.int(shape)? {
                Some(0) => {}
                other => {
                    return Err(FormatError::unsupported("file content", format!("{other:?}")));
                }
            },
            _ => d.skip(shape)?,
        }
        Ok(())
    })?;
    file.path = path.ok_or(FormatError::Missing { field: "file_path" })?;
    file.rows = rows.ok_or(FormatError::Missing { field: "record_count" })?;
    file.bytes = bytes.ok_or(FormatError::Missing { field: "file_size_in_bytes" })?;
    Ok(file)
}

fn decode_partition(d: &mut Decoder<'_>, shape: &Shape) -> Result<Option<i32>, FormatError> {
    let (mut fields, mut value) = (0, None);
    d.record(shape, |d, _, shape| {
        fields += 1;
        value = d.int(shape)?;
        Ok(())
    })?;
    match fields {
        0 | 1 => Ok(value),
        more => Err(FormatError::unsupported("number of partition fields", more.to_string())),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::schema::{Field, PartitionField, Type};
    use super::*;

    pub(in super::super) fn schema() -> Schema {
        let field = |id, name: &str, ty| Field {
            id,
            name: name.to_owned(),
            required: false,
            ty,
            doc: None,
        };
        Schema {
            id: 4,
            fields: vec![field(1, "time", Type::Timestamptz), field(2, "carrier", Type::String)],
        }
    }

    pub(in super::super) fn spec(transform: Transform) -> PartitionSpec {
        let field = PartitionField {
            source_id: 1,
            field_id: 1000,
            name: "time-part".to_owned(),
            transform,
        };
        PartitionSpec { id: 3, fields: vec![field] }
    }

    pub(in super::super) fn entry(n: u64, status: Status, partition: Option<i32>) -> Entry {
        let number = i64::try_from(n).unwrap();
        Entry {
            status,
            snapshot_id: -7 - number,
            sequence_number: number,
            file_sequence_number: number + 1,
            file: DataFile {
                path: format!("s3://lake/tables/flights/data/é/{n}.parquet"),
                partition,
                rows: 100 + n,
                bytes: u64::from(u32::MAX) + n,
                column_sizes: BTreeMap::from([(1, 10), (2, n)]),
                value_counts: BTreeMap::from([(1, 100 + n), (2, 100 + n)]),
                null_counts: BTreeMap::from([(2, n)]),
                nan_counts: BTreeMap::new(),
                lower_bounds: BTreeMap::from([
                    (1, Bound::from_timestamp(-1)),
                    (2, Bound::string_lower("AA", 16)),
                ]),
                upper_bounds: BTreeMap::from([(1, Bound::from_timestamp(i64::MAX))]),
                split_offsets: vec![4, n + 5],
            },
        }
    }

    fn entries() -> Vec<Entry> {
        vec![
            entry(1, Status::Added, Some(15706)),
            entry(2, Status::Existing, Some(-1)),
            entry(3, Status::Deleted, None),
        ]
    }

    #[test]
    fn entries_round_trip_whatever_the_spec() {
        for transform in [Transform::Hour, Transform::Day, Transform::Month] {
            let bytes = write(&schema(), &spec(transform), &entries()).unwrap();
            assert_eq!(read(&bytes).unwrap(), entries());
        }
        let plain = PartitionSpec { id: 0, fields: Vec::new() };
        let mut unpartitioned = entries();
        unpartitioned.iter_mut().for_each(|entry| entry.file.partition = None);
        assert_eq!(
            read(&write(&schema(), &plain, &unpartitioned).unwrap()).unwrap(),
            unpartitioned
        );
        assert_eq!(read(&write(&schema(), &plain, []).unwrap()).unwrap(), []);
        assert!(matches!(write(&schema(), &plain, &entries()), Err(FormatError::Range { .. })));
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        let write = || write(&schema(), &spec(Transform::Day), &entries()).unwrap();
        assert_eq!(write(), write());
    }

    #[test]
    fn numbers_the_format_cannot_hold_are_refused() {
        let mut entry = entry(1, Status::Added, None);
        entry.file.rows = u64::MAX;
        let written = write(&schema(), &spec(Transform::Day), [&entry]);
        assert!(matches!(written, Err(FormatError::Range { what: "record count", .. })));
    }

    #[test]
    fn several_partition_fields_and_delete_files_are_refused() {
        let mut two = spec(Transform::Day);
        two.fields.extend(spec(Transform::Hour).fields);
        assert!(matches!(write(&schema(), &two, &entries()), Err(FormatError::Unsupported { .. })));

        let shape = avro::record("e", vec![avro::required(0, "status", "int")]);
        let deletes =
            avro::write(&shape.to_string(), &[("content", "deletes")], [0], |e, status| {
                e.int(status);
                Ok(())
            });
        assert!(matches!(
            read(&deletes.unwrap()),
            Err(FormatError::Unsupported { what: "manifest content", .. })
        ));
    }

    #[test]
    fn a_missing_field_is_named() {
        let shape = avro::record(
            "e",
            vec![avro::required(0, "status", "int"), avro::optional(99, "new", "string")],
        );
        let bytes = avro::write(&shape.to_string(), &[], [1], |e, status| {
            e.int(status);
            e.branch(true);
            e.bytes(b"skipped")
        });
        assert!(matches!(
            read(&bytes.unwrap()),
            Err(FormatError::Missing { field: "snapshot_id" })
        ));
    }

    #[test]
    fn data_files_travel_as_json() {
        let file = entry(9, Status::Added, Some(3)).file;
        let json = serde_json::to_string(&file).unwrap();
        assert!(json.contains(r#""lower_bounds":{"1":"//////////8=","2":"QUE="}"#), "{json}");
        assert!(!json.contains("nan_counts"), "{json}");
        assert_eq!(serde_json::from_str::<DataFile>(&json).unwrap(), file);
    }

    #[test]
    fn bounds_are_single_value_bytes() {
        assert_eq!(Bound::from_bool(true).as_bytes(), [1]);
        assert_eq!(Bound::from_long(-2).as_bytes(), [0xfe, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(Bound::from_date(1).as_bytes(), [1, 0, 0, 0]);
        assert_eq!(Bound::from_double(1.0).as_bytes(), [0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    }

    #[test]
    fn string_bounds_are_cut_by_character_and_rounded_up() {
        let upper = |value: &str, max| {
            Bound::string_upper(value, max).map(|b| String::from_utf8(b.0).unwrap())
        };
        assert_eq!(Bound::string_lower("größe", 3).as_bytes(), "grö".as_bytes());
        assert_eq!(upper("größe", 5).as_deref(), Some("größe"));
        assert_eq!(upper("größe", 3).as_deref(), Some("gr÷"));
        assert_eq!(upper("a\u{10ffff}b", 2).as_deref(), Some("b"));
        assert_eq!(upper("\u{d7ff}x", 1).as_deref(), Some("\u{e000}"));
        assert_eq!(upper("\u{10ffff}\u{10ffff}x", 2), None);
        assert_eq!(upper("x", 0), None);
        assert_eq!(upper("", 0).as_deref(), Some(""));
    }

    proptest! {
        #[test]
        fn string_bounds_enclose_their_value(value in any::<String>(), max in 0_usize..8) {
            let bytes = value.as_bytes();
            prop_assert!(Bound::string_lower(&value, max).as_bytes() <= bytes);
            if let Some(upper) = Bound::string_upper(&value, max) {
                prop_assert!(upper.as_bytes() >= bytes);
                prop_assert!(String::from_utf8(upper.0).unwrap().chars().count() <= max);
            }
        }

        #[test]
        fn damaged_manifests_end_in_a_value(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
            tail in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = write(&schema(), &spec(Transform::Day), &entries()).unwrap();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = read(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = read(&bytes);
            bytes.extend(tail);
            let _ = read(&bytes);
        }
    }
}
