//! Parquet from outside: every type that has a place, the same rows as JSON Lines would have them, and files that are none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::io;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, Int96, Int96Type};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader,
    ParquetMetaDataWriter, RowGroupMetaData, RowGroupMetaDataBuilder,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};
use sluicegate_audit::{
    Accepted, Audit, AuditError, BadRow, Outcome, RowFault, Rules, Scratch, Sink, audit,
};
use sluicegate_contract::Version;

const RAW_ID: &str = "20130102T030405Z-00000000000000000000000000000000";

#[derive(Debug, PartialEq)]
struct Bad {
    row: u64,
    offset: u64,
    text: String,
    faults: Vec<RowFault>,
}

/// Keeps everything in memory.
#[derive(Default)]
struct Kept {
    accepted: Vec<RecordBatch>,
    bad: Vec<Bad>,
}

impl Sink for Kept {
    fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        self.accepted.push(accepted.rows);
        Ok(())
    }

    fn quarantine(&mut self, header: &[u8], row: &BadRow<'_>) -> io::Result<()> {
        assert!(header.is_empty());
        let text = String::from_utf8(row.bytes.to_vec()).unwrap();
        assert!(!text.contains('\n'), "a row is a line");
        self.bad.push(Bad { row: row.row, offset: row.offset, text, faults: row.faults.clone() });
        Ok(())
    }
}

impl Kept {
    /// The accepted rows as one batch, without ours.
    fn rows(&self) -> Option<RecordBatch> {
        let schema = self.accepted.first()?.schema();
        let batch = arrow::compute::concat_batches(&schema, &self.accepted).unwrap();
        let own = |name: &String| matches!(name.as_str(), "_raw_id" | "_landed_at" | "_raw_row");
        let columns = schema.fields().iter().enumerate().filter(|(_, f)| !own(f.name()));
        Some(batch.project(&columns.map(|(i, _)| i).collect::<Vec<_>>()).unwrap())
    }

    fn faults(&self) -> Vec<(u64, String)> {
        let each = |bad: &Bad| {
            let column = |f: &RowFault| f.column.clone().unwrap_or("row".to_owned());
            let faults = bad.faults.iter().map(|f| format!("{} {}", column(f), f.rule));
            (bad.row, faults.collect::<Vec<_>>().join(","))
        };
        self.bad.iter().map(each).collect()
    }
}

fn contract(properties: Value, change: impl FnOnce(&mut Value)) -> Version {
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "x-sluicegate": {
            "version": "1.0.0",
            "team": {"name": "t"},
            "format": {"type": "parquet"},
            "bad_rows": {"max_fraction": 1},
        },
    });
    change(&mut document);
    Version::next(document.to_string().as_bytes(), None, "u").unwrap().unwrap()
}

fn try_run(version: &Version, bytes: &[u8]) -> (Result<Audit, AuditError>, Kept) {
    let landed: Timestamp = "2013-01-02T03:04:05Z".parse().unwrap();
    let rules = Rules::new(version.contract().unwrap(), version, RAW_ID, landed);
    let scratch = Scratch { folder: std::env::temp_dir(), limit: 1 << 30 };
    let mut kept = Kept::default();
    (audit(bytes, &rules, &scratch, &mut kept), kept)
}

fn run(version: &Version, bytes: &[u8]) -> (Audit, Kept) {
    let (result, kept) = try_run(version, bytes);
    let found = result.unwrap();
    assert_ne!(found.verdict.outcome(), Outcome::Reject, "{:?}", found.verdict.reasons());
    let coverage = found.verdict.coverage();
    assert_eq!(coverage.bytes, bytes.len() as u64, "AUD-1: all bytes are covered");
    let accepted: usize = kept.accepted.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(coverage.rows_accepted, accepted as u64);
    assert_eq!(coverage.rows_quarantined, kept.bad.len() as u64);
    (found, kept)
}

fn reject(version: &Version, bytes: &[u8]) -> String {
    let found = try_run(version, bytes).0.unwrap();
    assert_eq!(found.verdict.outcome(), Outcome::Reject, "{found:?}");
    let reason = &found.verdict.reasons()[0];
    format!("{}: {}", reason.code, reason.message)
}

fn written(batch: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer =
        ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    written(&batch, WriterProperties::default())
}

/// One column `c` of a property: its accepted values as JSON, or the fault of each row.
fn column(property: Value, array: impl Array + 'static) -> Vec<String> {
    let version = contract(json!({"c": property}), |_| {});
    let (_, kept) = run(&version, &file(vec![("c", Arc::new(array))]));
    let mut shown = std::collections::BTreeMap::new();
    for batch in &kept.accepted {
        let rows = batch["_raw_row"].as_primitive::<Int64Type>();
        for (i, row) in rows.values().iter().enumerate() {
            let column = match batch["c"].as_primitive_opt::<TimestampMicrosecondType>() {
                // Zones by name are not among the features.
                Some(times) => Arc::new(times.clone().with_timezone("+00:00")),
                None => batch["c"].clone(),
            };
            let text = arrow::util::display::array_value_to_string(&column, i).unwrap();
            shown.insert(u64::try_from(*row).unwrap(), text);
        }
    }
    for (bad, (row, faults)) in kept.bad.iter().zip(kept.faults()) {
        shown.insert(row, format!("{faults} {}", bad.text));
    }
    shown.into_values().collect()
}

fn typed(ty: &str, logical: &str) -> Value {
    json!({"type": [ty, "null"], "x-sluicegate": {"logicalType": logical}})
}

#[test]
fn integers_of_any_width_are_taken_and_none_is_cut() {
    let (int, long) = (typed("integer", "int"), typed("integer", "long"));
    let ok = ["1", "", "-128"];
    assert_eq!(column(int.clone(), Int8Array::from(vec![Some(1), None, Some(-128)])), ok);
    assert_eq!(column(long.clone(), Int16Array::from(vec![Some(1), None, Some(-128)])), ok);
    assert_eq!(column(int.clone(), UInt8Array::from(vec![255])), ["255"]);
    assert_eq!(column(int.clone(), UInt16Array::from(vec![65535])), ["65535"]);
    let big = r#"c logicalType {"c":4294967295}"#;
    assert_eq!(column(int.clone(), UInt32Array::from(vec![7, u32::MAX])), ["7", big]);
    assert_eq!(column(long.clone(), UInt32Array::from(vec![u32::MAX])), ["4294967295"]);
    let big = r#"c logicalType {"c":18446744073709551615}"#;
    assert_eq!(column(long.clone(), UInt64Array::from(vec![7, u64::MAX])), ["7", big]);
    let big = r#"c logicalType {"c":-2147483649}"#;
    assert_eq!(
        column(int.clone(), Int64Array::from(vec![-2147483648, -2147483649])),
        ["-2147483648", big]
    );
    assert_eq!(column(long.clone(), Int64Array::from(vec![i64::MAX])), ["9223372036854775807"]);
    let whole = Decimal128Array::from(vec![12, i128::MAX / 10]).with_precision_and_scale(38, 0);
    let big = format!(r#"c logicalType {{"c":{}}}"#, i128::MAX / 10);
    assert_eq!(column(long, whole.unwrap()), ["12", big.as_str()]);
}

#[test]
fn floats_are_exact_or_bad() {
    let (float, double) = (typed("number", "float"), typed("number", "double"));
    let numbers =
        Float64Array::from(vec![Some(0.5), None, Some(f64::NAN), Some(f64::INFINITY), Some(0.1)]);
    let nan = [r#"c type {"c":"NaN"}"#, r#"c type {"c":"inf"}"#];
    assert_eq!(column(double.clone(), numbers.clone()), ["0.5", "", nan[0], nan[1], "0.1"]);
    let wide = r#"c logicalType {"c":0.1}"#;
    assert_eq!(column(float.clone(), numbers), ["0.5", "", nan[0], nan[1], wide]);
    let numbers = Float32Array::from(vec![0.1, f32::NAN]);
    assert_eq!(column(float.clone(), numbers.clone()), ["0.1", nan[0]]);
    assert_eq!(column(double.clone(), numbers), ["0.10000000149011612", nan[0]]);
    let long = r#"c logicalType {"c":9007199254740993}"#;
    let whole = Int64Array::from(vec![9_007_199_254_740_992, 9_007_199_254_740_993]);
    assert_eq!(column(double.clone(), whole), ["9007199254740992.0", long]);
    let long = r#"c logicalType {"c":16777217}"#;
    assert_eq!(column(float, Int32Array::from(vec![16_777_216, 16_777_217])), ["16777216.0", long]);
    // What a double is by its rules is what its column has.
    let below = json!({"type": "number", "maximum": 0.1});
    let single = r#"c maximum {"c":0.10000000149011612}"#;
    assert_eq!(column(below, Float32Array::from(vec![0.1])), [single]);
}

#[test]
fn decimals_are_rescaled_exactly_or_bad() {
    let decimal = typed("number", "decimal(5,2)");
    let of = |values: Vec<i128>, precision, scale| {
        Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()
    };
    assert_eq!(
        column(decimal.clone(), of(vec![15, 99_999, -5], 7, 1)),
        ["1.50", r#"c logicalType {"c":9999.9}"#, "-0.50"]
    );
    let fine = [r#"c logicalType {"c":0.125}"#, "0.12"];
    assert_eq!(column(decimal.clone(), of(vec![125, 120], 20, 3)), fine);
    assert_eq!(
        column(decimal.clone(), Int32Array::from(vec![999, 1000])),
        ["999.00", r#"c logicalType {"c":1000}"#]
    );
    let wide = Decimal256Array::from(vec![
        i256::from_i128(12) * i256::from(10).wrapping_pow(60),
        i256::from_i128(12) * i256::from(10).wrapping_pow(57),
        i256::from_i128(1),
    ]);
    let wide = wide.with_precision_and_scale(76, 60).unwrap();
    let least = format!(r#"c logicalType {{"c":0.{}1}}"#, "0".repeat(59));
    let fine = format!(r#"c logicalType {{"c":0.012{}}}"#, "0".repeat(57));
    assert_eq!(column(decimal, wide), ["12.00", fine.as_str(), least.as_str()]);
}

#[test]
fn texts_are_utf_8_and_json_is_json() {
    let (text, any) = (typed("string", "json"), json!({"x-sluicegate": {"logicalType": "json"}}));
    let _ = text;
    let string = json!({"type": ["string", "null"], "maxLength": 3});
    let long = r#"c maxLength {"c":"abcd"}"#;
    assert_eq!(
        column(string.clone(), StringArray::from(vec![Some("é"), None, Some("abcd")])),
        ["é", "", long]
    );
    assert_eq!(column(string.clone(), LargeStringArray::from(vec!["a"])), ["a"]);
    assert_eq!(column(string.clone(), StringViewArray::from(vec!["a"])), ["a"]);
    let dictionary: DictionaryArray<Int32Type> = vec!["b", "a", "b"].into_iter().collect();
    assert_eq!(column(string.clone(), dictionary), ["b", "a", "b"]);
    let bytes = BinaryArray::from(vec![&b"ok"[..], b"\xff\x01"]);
    assert_eq!(column(string, bytes.clone()), ["ok", r#"c encoding {"c":"ff01"}"#]);
    let values = StringArray::from(vec![r#"{"a": [1,"x"]}"#, "1,", "[1,\n 2]", r#"{"a":1,"a":2}"#]);
    let shown = [
        r#"{"a": [1,"x"]}"#,
        r#"c json {"c":"1,"}"#,
        "[1,\n 2]",
        r#"c json {"c":"{\"a\":1,\"a\":2}"}"#,
    ];
    assert_eq!(column(any.clone(), values), shown);
    // What is bad elsewhere still is a line.
    let version = contract(json!({"c": any, "n": {"type": "integer", "minimum": 1}}), |_| {});
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int32Array::from(vec![0]))),
        ("c", Arc::new(StringArray::from(vec!["[1,\n 2]"]))),
    ];
    assert_eq!(run(&version, &file(columns)).1.bad[0].text, r#"{"c":[1,  2],"n":0}"#);
}

#[test]
fn times_are_of_any_unit_and_never_rounded() {
    let at = json!({"type": ["string", "null"], "format": "date-time"});
    let day = json!({"type": ["string", "null"], "format": "date"});
    let shown = "2013-01-01T10:00:00.001Z";
    let ms = 1_357_034_400_001;
    assert_eq!(
        column(at.clone(), TimestampMillisecondArray::from(vec![Some(ms), None])),
        [shown, ""]
    );
    let zoned = TimestampMillisecondArray::from(vec![ms]).with_timezone("Europe/Berlin");
    assert_eq!(column(at.clone(), zoned), [shown]);
    assert_eq!(column(at.clone(), TimestampMicrosecondArray::from(vec![ms * 1000])), [shown]);
    let nanos = TimestampNanosecondArray::from(vec![ms * 1_000_000, ms * 1_000_000 + 1]);
    let fine = r#"c logicalType {"c":"2013-01-01T10:00:00.001000001Z"}"#;
    assert_eq!(column(at.clone(), nanos), [shown, fine]);
    let far = TimestampMicrosecondArray::from(vec![
        253_402_300_799_999_999,
        253_402_300_800_000_000,
        i64::MIN,
    ]);
    let far = column(at, far);
    assert_eq!(far[0], "9999-12-31T23:59:59.999999Z");
    assert!(far[1].starts_with(r#"c format {"c":"253402300800000000 microseconds"#), "{far:?}");
    assert!(far[2].starts_with("c format"), "{far:?}");
    let days =
        column(day, Date32Array::from(vec![Some(15_706), None, Some(2_932_897), Some(i32::MIN)]));
    assert_eq!(days[..2], ["2013-01-01", ""]);
    assert!(days[2].starts_with("c format") && days[3].starts_with("c format"), "{days:?}");
}

/// A file of one column that Arrow does not write.
fn low_level(schema: &str, write: impl FnOnce(&mut SerializedColumnWriter<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::default());
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    write(&mut column);
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn old_timestamps_are_read_where_they_are_microseconds() {
    let version = contract(json!({"c": {"type": "string", "format": "date-time"}}), |_| {});
    let instant = |day: u32, nanos: u64| {
        let mut instant = Int96::new();
        instant.set_data((nanos & 0xffff_ffff) as u32, (nanos >> 32) as u32, day);
        instant
    };
    let file = |day, nanos| {
        low_level("message m { required int96 c; }", |column| {
            column.typed::<Int96Type>().write_batch(&[instant(day, nanos)], None, None).unwrap();
        })
    };
    // The last day of 9999 is beyond 64 bits of nanoseconds.
    let (_, kept) = run(&version, &file(5_373_484, 1_000));
    let micros = kept.accepted[0]["c"].as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(micros, 253_402_214_400_000_001);
    for (day, nanos) in [(2_456_294, 1), (5_373_485, 0), (2_456_294, 86_400_000_000_000)] {
        let reason = reject(&version, &file(day, nanos));
        assert!(reason.contains("INT96"), "{reason}");
    }
}

#[test]
fn a_row_groups_place_is_its_rows_offset() {
    let version = contract(json!({"c": {"type": "integer", "minimum": 0}}), |_| {});
    let array: ArrayRef = Arc::new(Int64Array::from(
        (0..30).map(|i| if i % 10 == 3 { -1 } else { i }).collect::<Vec<_>>(),
    ));
    let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10)).build();
    let (_, kept) = run(&version, &written(&batch, properties));
    assert_eq!(kept.bad.iter().map(|bad| bad.row).collect::<Vec<_>>(), [4, 14, 24]);
    assert_eq!(kept.bad[0].offset, 4);
    assert!(kept.bad[0].offset < kept.bad[1].offset && kept.bad[1].offset < kept.bad[2].offset);
}

#[test]
fn columns_are_found_by_name_and_a_null_is_absent_where_it_is_no_value() {
    let properties = json!({
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "note": {"type": ["string", "null"]},
        "gone": {"type": "string"},
    });
    let version = contract(properties, |d| d["required"] = json!(["id"]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("more", Arc::new(StringArray::from(vec![Some("x"), None, Some("z")]))),
        ("note", Arc::new(StringArray::from(vec![None, Some("b"), None]))),
        ("name", Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]))),
        ("id", Arc::new(Int64Array::from(vec![Some(1), Some(2), None]))),
    ];
    let bytes = file(columns);
    let (found, kept) = run(&version, &bytes);
    assert_eq!(kept.faults(), [(3, "id required".to_owned())]);
    assert_eq!(kept.bad[0].text, r#"{"name":"c","note":null,"more":"z"}"#);
    let rows = kept.rows().unwrap();
    assert_eq!(
        rows["_extra"].as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some(r#"{"more":"x"}"#), None]
    );
    assert_eq!(rows["gone"].null_count(), 2);
    let amendments: Vec<_> =
        found.amendments.iter().map(|a| (a.pointer.as_str(), a.rows)).collect();
    assert_eq!(amendments, [("/more", 2)]);
    let drop = contract(json!({"id": {"type": "integer"}}), |d| {
        d["x-sluicegate"]["unknown_fields"] = json!("drop")
    });
    let (found, kept) = run(&drop, &bytes);
    assert!(found.amendments.is_empty() && kept.bad.is_empty());
    let strict = contract(json!({"id": {"type": "integer"}}), |d| {
        d["x-sluicegate"]["unknown_fields"] = json!("reject")
    });
    assert!(reject(&strict, &bytes).starts_with("unknown_field: column \"more\""));
}

#[test]
fn columns_without_a_place_make_the_object_unreadable() {
    let wants = |property: Value, array: ArrayRef| {
        let version = contract(json!({"a": {"type": "string"}, "c": property}), |d| {
            d["required"] = json!(["a"])
        });
        let strings: ArrayRef = Arc::new(StringArray::from(vec!["x"; array.len()]));
        reject(&version, &file(vec![("a", strings), ("c", array)]))
    };
    let reason = wants(json!({"type": "integer"}), Arc::new(StringArray::from(vec!["1"])));
    assert_eq!(reason, "header: column \"c\" is a string in the file, which has no place in long");
    let reason = wants(json!({"type": "string"}), Arc::new(Int32Array::from(vec![1])));
    assert!(reason.starts_with("header: column \"c\" is Int32 in the file"), "{reason}");
    let reason = wants(
        json!({"type": "string", "format": "date"}),
        Arc::new(StringArray::from(vec!["2013-01-01"])),
    );
    assert!(reason.ends_with("no place in date"), "{reason}");
    let decimals = Decimal128Array::from(vec![1]).with_precision_and_scale(5, 2).unwrap();
    let reason = wants(json!({"type": "number"}), Arc::new(decimals));
    assert!(reason.ends_with("no place in double"), "{reason}");
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).unwrap();
    let map: ArrayRef = Arc::new(map.finish());
    let reason = wants(json!({"type": "array", "items": {"type": "string"}}), map.clone());
    assert!(reason.contains("is a map in the file"), "{reason}");
    let version = contract(json!({"b": {"type": "string"}}), |d| d["required"] = json!(["b"]));
    let reason = reject(&version, &file(vec![("a", map.clone())]));
    assert_eq!(reason, "header: the file lacks 1 required columns: \"b\"");
    // Beyond the contract a map has its place.
    let version = contract(json!({"b": {"type": "string"}}), |_| {});
    let (_, kept) = run(&version, &file(vec![("a", map)]));
    let extra = kept.rows().unwrap()["_extra"].as_string::<i32>().value(0).to_owned();
    assert_eq!(extra, r#"{"a":[{"key":"k","value":1}]}"#);
    let any_length = low_level("message m { required binary c (DECIMAL(5,2)); }", |column| {
        column
            .typed::<ByteArrayType>()
            .write_batch(&[ByteArray::from(vec![1; 40])], None, None)
            .unwrap();
    });
    assert!(reject(&version, &any_length).contains("decimals of any length"));
}

#[test]
fn what_is_no_parquet_is_rejected_with_a_reason() {
    let version = contract(json!({"c": {"type": "integer"}}), |_| {});
    assert!(reject(&version, b"").starts_with("empty"));
    assert!(
        reject(&version, b"id,name\n1,a\n").starts_with("parquet: the object begins with \"id,n\"")
    );
    assert!(reject(&version, b"PAR1").contains("cut short"));
    assert!(reject(&version, b"PAR1PAR1").contains("cut short"));
    assert!(reject(&version, b"\x1f\x8b\x08\x00").starts_with("compression"));
    let array: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let bytes = file(vec![("c", array)]);
    for end in 0..bytes.len() {
        let found = try_run(&version, &bytes[..end]).0.unwrap();
        assert_eq!(found.verdict.outcome(), Outcome::Reject, "cut to {end} bytes");
    }
    let landed = Timestamp::UNIX_EPOCH;
    let rules = Rules::new(version.contract().unwrap(), &version, RAW_ID, landed);
    let little = Scratch { folder: std::env::temp_dir(), limit: 100 };
    let found = audit(bytes.as_slice(), &rules, &little, &mut Kept::default()).unwrap();
    assert!(found.verdict.reasons()[0].message.contains("50 bytes of room"));
    let nowhere = Scratch { folder: "/nowhere/at/all".into(), limit: 1 << 30 };
    let failed = audit(bytes.as_slice(), &rules, &nowhere, &mut Kept::default());
    assert!(matches!(failed, Err(AuditError::Sink(_))));
}

#[test]
fn a_file_without_rows_is_held() {
    let version = contract(json!({"c": {"type": "integer"}}), |_| {});
    let array: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    let (found, _) = run(&version, &file(vec![("c", array)]));
    assert_eq!(found.verdict.outcome(), Outcome::Hold);
    assert_eq!(found.verdict.reasons()[0].code, "no_rows");
}

/// A contract with every type.
fn every_type() -> Value {
    let of = |ty: &str, logical: &str| json!({"type": [ty, "null"], "x-sluicegate": {"logicalType": logical}});
    json!({
        "boolean": {"type": ["boolean", "null"]},
        "int": {"type": ["integer", "null"], "maximum": 100, "x-sluicegate": {"logicalType": "int"}},
        "long": {"type": ["integer", "null"], "multipleOf": 3},
        "float": of("number", "float"),
        "double": {"type": ["number", "null"], "exclusiveMinimum": -5},
        "decimal": {"type": ["number", "null"], "maximum": 50.5, "x-sluicegate": {"logicalType": "decimal(9,3)"}},
        "string": {"type": ["string", "null"], "minLength": 1, "pattern": "^[a-z]*$"},
        "date": {"type": ["string", "null"], "format": "date"},
        "time": {"type": ["string", "null"], "format": "date-time"},
        "json": {"x-sluicegate": {"logicalType": "json"}},
        "struct": {
            "type": ["object", "null"],
            "required": ["a"],
            "properties": {"a": {"type": "integer", "minimum": 0}, "b": {"type": ["string", "null"], "maxLength": 2}},
        },
        "list": {"type": ["array", "null"], "maxItems": 3, "items": {"type": ["integer", "null"], "maximum": 9}},
        "structs": {
            "type": ["array", "null"],
            "items": {"type": "object", "properties": {"n": {"type": ["number", "null"], "minimum": 0}}},
        },
    })
}

/// A row of every type; what JSON Lines and Parquet both can say.
#[derive(Clone, Debug)]
struct Row {
    boolean: Option<bool>,
    int: Option<i32>,
    long: Option<i64>,
    float: Option<f32>,
    double: Option<f64>,
    decimal: Option<i32>,
    string: Option<String>,
    date: Option<i32>,
    time: Option<i64>,
    json: Option<String>,
    object: Option<(i64, Option<String>)>,
    list: Option<Vec<Option<i32>>>,
    structs: Option<Vec<Option<f64>>>,
    stranger: Option<i32>,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    use prop::option::of;
    let numbers = (
        of(any::<bool>()),
        of(-200..200i32),
        of(-9..99i64),
        of(-4.0..4.0f32),
        of(-9.0..9.0f64),
        of(-90_000..90_000i32),
    );
    let texts = (
        of("[a-z]{0,4}|[A-Zé\"\\\\]{1,3}"),
        of(-800_000..3_000_000i32),
        of(-70_000_000_000_000_000..260_000_000_000_000_000i64),
        of("\\{\"x\": [0-9]\\}|\\[\\]|null|\"a\\\\n\"|1\\.50|tru|\\{"),
    );
    let nested = (
        of((-2..9i64, of("[a-z]{0,3}"))),
        of(prop::collection::vec(of(0..12i32), 0..5)),
        of(prop::collection::vec(of(-1.0..9.0f64), 0..3)),
        of(0..9i32),
    );
    let row = (numbers, texts, nested).prop_map(|(n, t, x)| Row {
        boolean: n.0,
        int: n.1,
        long: n.2,
        float: n.3,
        double: n.4,
        decimal: n.5,
        string: t.0,
        date: t.1,
        time: t.2,
        json: t.3,
        object: x.0,
        list: x.1,
        structs: x.2,
        stranger: x.3,
    });
    prop::collection::vec(row, 1..40)
}

impl Row {
    /// Whether JSON Lines can say it: a calendar has no other years, and JSON no other JSON.
    fn is_sayable(&self) -> bool {
        let json =
            self.json.as_deref().is_none_or(|text| serde_json::from_str::<Value>(text).is_ok());
        let date = self.date.is_none_or(|day| (-719_528..=2_932_896).contains(&day));
        let time = self
            .time
            .is_none_or(|at| (-62_167_219_200_000_000..253_402_300_800_000_000).contains(&at));
        json && date && time
    }

    fn line(&self) -> String {
        let of = |value: Option<String>| value.unwrap_or("null".to_owned());
        let string = |value: &Option<String>| of(value.as_ref().map(|v| json!(v).to_string()));
        let date = |days: i32| {
            jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap()
        };
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let decimal = |v: i32| {
            format!("{}{}.{:03}", if v < 0 { "-" } else { "" }, v.abs() / 1000, v.abs() % 1000)
        };
        let mut line = format!(
            r#"{{"boolean":{},"int":{},"long":{},"float":{},"double":{},"decimal":{},"string":{},"date":{},"time":{},"json":{},"struct":{},"list":{},"structs":{}"#,
            of(self.boolean.map(|v| v.to_string())),
            of(self.int.map(|v| v.to_string())),
            of(self.long.map(|v| v.to_string())),
            of(self.float.map(|v| v.to_string())),
            of(self.double.map(|v| v.to_string())),
            of(self.decimal.map(decimal)),
            string(&self.string),
            of(self.date.map(|v| format!("\"{}\"", date(v)))),
            of(self.time.map(|v| format!("\"{}\"", Timestamp::from_microsecond(v).unwrap()))),
            of(self.json.clone()),
            of(self.object.as_ref().map(|(a, b)| format!(r#"{{"a":{a},"b":{}}}"#, string(b)))),
            of(self
                .list
                .as_ref()
                .map(|l| list(l.iter().map(|v| of(v.map(|v| v.to_string()))).collect()))),
            of(self.structs.as_ref().map(|l| list(
                l.iter().map(|v| format!(r#"{{"n":{}}}"#, of(v.map(|v| v.to_string())))).collect()
            ))),
        );
        if let Some(stranger) = self.stranger {
            line.push_str(&format!(r#","stranger":{stranger}"#));
        }
        line.push('}');
        line
    }
}

/// The rows as Arrow has them, in types beside the contract's own.
fn batch(rows: &[Row]) -> RecordBatch {
    let offsets = |lengths: Vec<usize>| OffsetBuffer::<i32>::from_lengths(lengths);
    let lists = |items: ArrayRef, lengths: Vec<Option<usize>>| -> ArrayRef {
        let nulls = NullBuffer::from(lengths.iter().map(Option::is_some).collect::<Vec<_>>());
        let field = Arc::new(Field::new("element", items.data_type().clone(), true));
        let offsets = offsets(lengths.into_iter().map(Option::unwrap_or_default).collect());
        Arc::new(ListArray::new(field, offsets, items, Some(nulls)))
    };
    let object = StructArray::new(
        vec![Field::new("b", DataType::Utf8, true), Field::new("a", DataType::Int16, true)].into(),
        vec![
            Arc::new(
                rows.iter()
                    .map(|r| r.object.as_ref().and_then(|o| o.1.clone()))
                    .collect::<StringArray>(),
            ),
            Arc::new(
                rows.iter().map(|r| r.object.as_ref().map(|o| o.0 as i16)).collect::<Int16Array>(),
            ),
        ],
        Some(NullBuffer::from(rows.iter().map(|r| r.object.is_some()).collect::<Vec<_>>())),
    );
    let numbers: Float64Array =
        rows.iter().flat_map(|r| r.structs.clone().unwrap_or_default()).collect();
    let structs = StructArray::new(
        vec![Field::new("n", DataType::Float64, true)].into(),
        vec![Arc::new(numbers)],
        None,
    );
    let items: Int32Array = rows.iter().flat_map(|r| r.list.clone().unwrap_or_default()).collect();
    let decimals: Decimal128Array =
        rows.iter().map(|r| r.decimal.map(|v| i128::from(v) * 10)).collect();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        (
            "structs",
            lists(
                Arc::new(structs),
                rows.iter().map(|r| r.structs.as_ref().map(Vec::len)).collect(),
            ),
            true,
        ),
        ("boolean", Arc::new(rows.iter().map(|r| r.boolean).collect::<BooleanArray>()), true),
        ("int", Arc::new(rows.iter().map(|r| r.int.map(i64::from)).collect::<Int64Array>()), true),
        ("stranger", Arc::new(rows.iter().map(|r| r.stranger).collect::<Int32Array>()), true),
        (
            "long",
            Arc::new(rows.iter().map(|r| r.long.map(|v| v as i8)).collect::<Int8Array>()),
            true,
        ),
        (
            "float",
            Arc::new(rows.iter().map(|r| r.float.map(f64::from)).collect::<Float64Array>()),
            true,
        ),
        ("double", Arc::new(rows.iter().map(|r| r.double).collect::<Float64Array>()), true),
        ("decimal", Arc::new(decimals.with_precision_and_scale(20, 4).unwrap()), true),
        ("string", Arc::new(rows.iter().map(|r| r.string.clone()).collect::<StringArray>()), true),
        ("date", Arc::new(rows.iter().map(|r| r.date).collect::<Date32Array>()), true),
        (
            "time",
            Arc::new(
                rows.iter()
                    .map(|r| r.time)
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
            true,
        ),
        ("json", Arc::new(rows.iter().map(|r| r.json.clone()).collect::<StringArray>()), true),
        ("struct", Arc::new(object), true),
        (
            "list",
            lists(Arc::new(items), rows.iter().map(|r| r.list.as_ref().map(Vec::len)).collect()),
            true,
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn small_pages() -> WriterProperties {
    WriterProperties::builder()
        .set_data_page_row_count_limit(7)
        .set_write_batch_size(5)
        .set_max_row_group_row_count(Some(17))
        .build()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    /// Whichever way rows come, they have one verdict, the same accepted batches and the same faults.
    #[test]
    fn rows_are_the_same_as_parquet_and_as_json_lines(rows in rows(), drop in any::<bool>()) {
        let rows: Vec<Row> = rows.into_iter().filter(Row::is_sayable).collect();
        prop_assume!(!rows.is_empty());
        let of = |format: &str| contract(every_type(), |d| {
            d["x-sluicegate"]["format"] = json!({"type": format});
            if drop {
                d["x-sluicegate"]["unknown_fields"] = json!("drop");
            }
        });
        let lines: Vec<String> = rows.iter().map(Row::line).collect();
        let (by_line, lined) = run(&of("jsonl"), lines.join("\n").as_bytes());
        for properties in [WriterProperties::default(), small_pages()] {
            let (by_column, columned) = run(&of("parquet"), &written(&batch(&rows), properties));
            let faults = |kept: &Kept| kept.bad.iter().map(|b| (b.row, b.faults.clone())).collect::<Vec<_>>();
            prop_assert_eq!(faults(&lined), faults(&columned));
            for (by_line, by_column) in lined.bad.iter().zip(&columned.bad) {
                let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                let (mut line, column) = (value(&by_line.text), value(&by_column.text));
                if drop {
                    line.as_object_mut().unwrap().remove("stranger");
                }
                prop_assert_eq!(line, column);
            }
            prop_assert_eq!(lined.rows(), columned.rows());
            prop_assert_eq!(&by_line.broken, &by_column.broken);
            prop_assert_eq!(by_line.verdict.outcome(), by_column.verdict.outcome());
            if !drop {
                prop_assert_eq!(&by_line.amendments, &by_column.amendments);
            }
        }
    }
}

/// Small files in every codec, page version and encoding.
fn samples() -> Vec<Vec<u8>> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rows: Vec<Row> =
        (0..3).flat_map(|_| rows().new_tree(&mut runner).unwrap().current()).collect();
    let batch = batch(&rows);
    let base = || WriterProperties::builder().set_data_page_row_count_limit(20);
    let mut samples: Vec<Vec<u8>> = [
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
    ]
    .into_iter()
    .map(|codec| written(&batch, base().set_compression(codec).build()))
    .collect();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        samples.push(written(&batch, base().set_writer_version(version).build()));
        samples.push(written(
            &batch,
            base().set_writer_version(version).set_dictionary_enabled(false).build(),
        ));
        samples.push(written(
            &batch,
            base().set_writer_version(version).set_compression(Compression::SNAPPY).build(),
        ));
    }
    let encodings = |properties: parquet::file::properties::WriterPropertiesBuilder,
                     of: &[(&str, Encoding)]| {
        let properties = properties.set_dictionary_enabled(false);
        of.iter()
            .fold(properties, |p, (name, encoding)| {
                p.set_column_encoding((*name).into(), *encoding)
            })
            .build()
    };
    samples.push(written(
        &batch,
        encodings(
            base(),
            &[
                ("string", Encoding::DELTA_BYTE_ARRAY),
                ("json", Encoding::DELTA_LENGTH_BYTE_ARRAY),
                ("long", Encoding::DELTA_BINARY_PACKED),
                ("double", Encoding::BYTE_STREAM_SPLIT),
                ("decimal", Encoding::DELTA_BYTE_ARRAY),
                ("boolean", Encoding::RLE),
            ],
        ),
    ));
    samples.push(written(
        &batch,
        encodings(
            base(),
            &[
                ("decimal", Encoding::BYTE_STREAM_SPLIT),
                ("date", Encoding::DELTA_BINARY_PACKED),
                ("float", Encoding::BYTE_STREAM_SPLIT),
            ],
        ),
    ));
    samples
}

#[test]
fn every_codec_page_and_encoding_gives_the_same_rows() {
    let version = contract(every_type(), |_| {});
    let samples: Vec<_> = samples().iter().map(|bytes| run(&version, bytes).1).collect();
    for sample in &samples[1..] {
        assert_eq!(sample.rows(), samples[0].rows());
        let told =
            |kept: &Kept| kept.bad.iter().map(|b| (b.row, b.text.clone())).collect::<Vec<_>>();
        assert_eq!(told(sample), told(&samples[0]));
    }
    assert!(!samples[0].bad.is_empty());
}

/// How many damaged files are read: `PARQUET_DAMAGES`, or some hundreds.
fn damages() -> u32 {
    std::env::var("PARQUET_DAMAGES").map_or(256, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(damages()) })]

    /// Bytes that are others here and there leave no panic either, and rows that add up.
    #[test]
    fn damaged_files_have_a_verdict(
        sample in 0usize..12,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        static SAMPLES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        let samples = SAMPLES.get_or_init(samples);
        let mut bytes = samples[sample % samples.len()].clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let found = try_run(&contract(every_type(), |_| {}), &bytes).0;
        prop_assert!(found.is_ok(), "{found:?}");
    }
}

/// A byte in fifty, or as many as `PARQUET_FLIPS` says, is another one: there is a verdict, and no panic.
#[test]
fn flipped_bytes_have_a_verdict() {
    let step = std::env::var("PARQUET_FLIPS").map_or(50, |step| step.parse().unwrap());
    let keep = contract(every_type(), |_| {});
    for (n, sample) in samples().into_iter().enumerate() {
        for at in (n % step..sample.len()).step_by(step) {
            for flip in [0xff, 1, 0x80, 0x10] {
                let mut bytes = sample.clone();
                bytes[at] ^= flip;
                assert!(try_run(&keep, &bytes).0.is_ok(), "byte {at} of sample {n}");
            }
        }
    }
}

#[test]
fn truncated_files_are_rejected() {
    let version = contract(every_type(), |_| {});
    let sample = samples().remove(0);
    for end in (0..sample.len()).step_by(50) {
        let found = try_run(&version, &sample[..end]).0.unwrap();
        assert_eq!(found.verdict.outcome(), Outcome::Reject);
    }
}

/// A file whose footer says something else than was written.
fn lying(bytes: &[u8], change: impl Fn(RowGroupMetaData) -> RowGroupMetaData) -> Vec<u8> {
    let length = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap());
    let end = bytes.len() - 8 - length as usize;
    let metadata = ParquetMetaDataReader::decode_metadata(&bytes[end..bytes.len() - 8]).unwrap();
    let file = metadata.file_metadata().clone();
    let groups = metadata.row_groups().iter().cloned().map(change).collect();
    let metadata = ParquetMetaDataBuilder::new(file).set_row_groups(groups).build();
    let mut bytes = bytes[..end].to_vec();
    ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().unwrap();
    bytes
}

#[test]
fn footers_that_lie_are_found_out() {
    let version = contract(json!({"c": {"type": "integer"}, "s": {"type": "string"}}), |_| {});
    let bytes = file(vec![
        ("c", Arc::new(Int64Array::from((0..100).collect::<Vec<_>>()))),
        ("s", Arc::new(StringArray::from(vec!["text"; 100]))),
    ]);
    let honest = lying(&bytes, |group| group);
    assert_eq!(run(&version, &honest).0.verdict.coverage().rows_accepted, 100);
    let told = |change: &dyn Fn(RowGroupMetaDataBuilder) -> RowGroupMetaDataBuilder| {
        let change = |group: RowGroupMetaData| change(group.into_builder()).build().unwrap();
        reject(&version, &lying(&bytes, change))
    };
    for rows in [0, 1, 99, 101, 1 << 20] {
        let reason = told(&|group| group.set_num_rows(rows));
        assert!(reason.starts_with("parquet"), "{reason}");
    }
    for rows in [1 << 40, i64::MAX] {
        let reason = told(&|group| group.set_num_rows(rows));
        assert!(reason.contains("cannot have"), "{reason}");
    }
    assert!(told(&|group| group.set_num_rows(-1)).contains("other rows than the footer"));
    let moved = |offset: i64, size: i64| {
        told(&|mut group| {
            let columns = group.take_columns().into_iter();
            let columns = columns.map(|column| {
                let column = column.into_builder().set_dictionary_page_offset(None);
                let column = column.set_data_page_offset(offset);
                column.set_total_compressed_size(size).build().unwrap()
            });
            group.set_column_metadata(columns.collect())
        })
    };
    for (offset, size) in
        [(4, i64::MAX / 4), (i64::MAX, 1), (-1, 10), (4, -1), (4, 1), (0, 50), (9, 50), (4, 0)]
    {
        let reason = moved(offset, size);
        assert!(reason.starts_with("parquet"), "{offset} {size}: {reason}");
    }
}

/// A file of nothing but a footer, which has a schema of so many elements; `children` are each one's.
fn schema(elements: u32, children: u32) -> Vec<u8> {
    let varint = |mut n: u32, to: &mut Vec<u8>| {
        while n > 0x7f {
            to.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        to.push(n as u8);
    };
    let mut footer = vec![0x15, 2, 0x19, 0xfc];
    varint(elements, &mut footer);
    for _ in 0..elements {
        footer.extend_from_slice(&[0x35, 2, 0x18, 1, b'a', 0x15]);
        varint(children << 1, &mut footer);
        footer.push(0);
    }
    footer.extend_from_slice(&[0x16, 0, 0x19, 0x0c, 0]);
    let length = (footer.len() as u32).to_le_bytes();
    [b"PAR1", footer.as_slice(), &length, b"PAR1"].concat()
}

/// A page as nobody would write it: its header's fields, and what it says of its size.
fn page(kind: i32, size: usize, fields: &[i32], body: &[u8]) -> Vec<u8> {
    fn number(to: &mut Vec<u8>, value: i32) {
        let mut left = (value << 1 ^ value >> 31).cast_unsigned();
        to.push(0x15);
        while left > 0x7f {
            to.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        to.push(left as u8);
    }
    let mut bytes = Vec::new();
    let sizes = [size, body.len()].map(|size| i32::try_from(size).unwrap());
    [kind, sizes[0], sizes[1]].into_iter().for_each(|n| number(&mut bytes, n));
    bytes.push([0x2c, 0, 0x4c, 0x5c][usize::try_from(kind).unwrap()]);
    fields.iter().for_each(|n| number(&mut bytes, *n));
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(body);
    bytes
}

/// A file of one column that has these pages, and so many rows.
fn forged(schema: &str, pages: &[Vec<u8>], rows: i64) -> Vec<u8> {
    let pages = pages.concat();
    let length = i64::try_from(pages.len()).unwrap();
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(parse_message_type(schema).unwrap())));
    let column = ColumnChunkMetaData::builder(schema.column(0))
        .set_compression(Compression::UNCOMPRESSED)
        .set_data_page_offset(4)
        .set_num_values(rows)
        .set_total_compressed_size(length)
        .set_total_uncompressed_size(length)
        .build();
    let group = RowGroupMetaData::builder(schema.clone())
        .set_num_rows(rows)
        .add_column_metadata(column.unwrap())
        .build();
    let file = FileMetaData::new(1, rows, None, None, schema, None);
    let metadata = ParquetMetaDataBuilder::new(file).set_row_groups(vec![group.unwrap()]).build();
    let mut bytes = [b"PAR1", pages.as_slice()].concat();
    ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().unwrap();
    bytes
}

#[test]
fn pages_that_lie_are_found_out_before_they_are_believed() {
    const LONG: &str = "message m { required int64 c; }";
    const TEXT: &str = "message m { required binary c (UTF8); }";
    const FIXED: &str = "message m { required fixed_len_byte_array(4) c (DECIMAL(9,2)); }";
    const LIST: &str =
        "message m { required group c (LIST) { repeated group list { optional int64 element; } } }";
    let [plain, dictionary, rle, packed, delta, lengths, prefixes, split] =
        [0, 8, 3, 5, 5, 6, 7, 9];
    let v1 = |rows: i32, encoding: i32, body: &[u8]| {
        page(0, body.len(), &[rows, encoding, rle, rle], body)
    };
    let of = |schema: &str, pages: &[Vec<u8>], rows: i64| {
        let property = match schema {
            LONG => json!({"type": "integer"}),
            TEXT => json!({"type": "string"}),
            FIXED => json!({"type": "number", "x-sluicegate": {"logicalType": "decimal(9,2)"}}),
            _ => json!({"type": "array", "items": {"type": ["integer", "null"]}}),
        };
        let version = contract(json!({"c": property}), |_| {});
        (version, forged(schema, pages, rows))
    };
    let good = |schema: &str, pages: &[Vec<u8>], rows: i64| {
        let (version, bytes) = of(schema, pages, rows);
        let (found, _) = run(&version, &bytes);
        assert_eq!(found.verdict.coverage().rows_accepted, rows.cast_unsigned());
    };
    let bad = |schema: &str, pages: &[Vec<u8>], rows: i64, why: &str| {
        let (version, bytes) = of(schema, pages, rows);
        let reason = reject(&version, &bytes);
        assert!(reason.starts_with("parquet: ") && reason.contains(why), "{reason}");
    };
    let eight = [1, 0, 0, 0, 0, 0, 0, 0];
    good(LONG, &[v1(1, plain, &eight)], 1);
    good(LONG, &[v1(0, plain, &[]), v1(1, plain, &eight)], 1);
    // A key without a dictionary; two dictionaries; more values in one than it has bytes; keys beyond it.
    let four = page(2, 4, &[1, plain], &[1, 0, 0, 0]);
    let keys = |key: u8| v1(1, dictionary, &[8, 2, key]);
    bad(LONG, &[keys(0)], 1, "RLE_DICTIONARY");
    good(FIXED, &[four.clone(), keys(0)], 1);
    bad(FIXED, &[four.clone(), keys(1)], 1, "RLE_DICTIONARY");
    bad(FIXED, &[keys(0)], 1, "RLE_DICTIONARY");
    bad(FIXED, &[four.clone(), four.clone(), keys(0)], 1, "a dictionary is none");
    bad(
        FIXED,
        &[page(2, 4, &[i32::MAX, plain], &[1, 0, 0, 0]), keys(0)],
        1,
        "a dictionary is none",
    );
    // Sizes and counts that nothing stands for.
    bad(LONG, &[page(0, 1 << 30, &[1, plain, rle, rle], &eight)], 1, "at most 67108864");
    bad(LONG, &[page(0, 9, &[1, plain, rle, rle], &eight)], 1, "does not unpack");
    bad(LONG, &[v1(i32::MAX, plain, &eight)], 1, "more rows");
    bad(LONG, &[v1(1, split, &[0; 7])], 1, "BYTE_STREAM_SPLIT");
    bad(LONG, &[v1(1, 4, &eight)], 1, "no header");
    let many = [0x80, 1, 4, 0x80, 0x80, 0x80, 0x80, 8, 0];
    bad(LONG, &[v1(2, delta, &many)], 2, "DELTA_BINARY_PACKED");
    bad(LONG, &[v1(1, packed, &[0x80, 1, 4, 0, 0])], 1, "DELTA_BINARY_PACKED");
    bad(TEXT, &[v1(2, lengths, &many)], 2, "DELTA_LENGTH_BYTE_ARRAY");
    bad(TEXT, &[v1(2, prefixes, &many)], 2, "DELTA_BYTE_ARRAY");
    bad(TEXT, &[v1(1, plain, &[255, 255, 255, 127])], 1, "eof");
    // One row of a billion items, which are eleven bytes.
    let levels = |repeated: &[u8], defined: &[u8]| {
        let length = |of: &[u8]| u32::try_from(of.len()).unwrap().to_le_bytes();
        [&length(repeated), repeated, &length(defined), defined].concat()
    };
    let ends = [0x80, 0x80, 0x80, 0x80, 8, 1];
    let endless = levels(&[&[2, 0][..], &ends].concat(), &ends);
    bad(LIST, &[v1(1 << 30, plain, &endless)], 1, "more than 1048576 values");
    good(LIST, &[v1(3, plain, &levels(&[2, 0, 4, 1], &[6, 1]))], 1);
    bad(LIST, &[v1(3, plain, &levels(&[6, 1], &[6, 1]))], 1, "repetition levels");
    bad(LIST, &[v1(3, plain, &levels(&[2, 0, 4, 9], &[6, 1]))], 1, "repetition levels");
    bad(LIST, &[v1(3, plain, &levels(&[2, 0, 4, 1], &[6, 3]))], 1, "definition levels");
    bad(LIST, &[page(0, 4, &[3, plain, 4, 4], &[255; 4])], 1, "no levels");
    bad(LIST, &[page(3, 4, &[3, 0, 1, plain, i32::MAX, i32::MAX], &[255; 4])], 1, "beyond it");
}

#[test]
fn schemas_without_end_are_refused() {
    let version = contract(json!({"c": {"type": "integer"}}), |_| {});
    for (elements, children) in [(500_000, 1), (80, 1), (3, 1 << 29), (100_000, 0), (3, 0)] {
        let reason = reject(&version, &schema(elements, children));
        assert!(reason.contains("schema is not one"), "{reason}");
    }
    let large =
        [b"PAR1".as_slice(), &vec![0; 9 << 20], &(9u32 << 20).to_le_bytes(), b"PAR1"].concat();
    assert!(reject(&version, &large).contains("at most 8388608"));
}

#[test]
fn long_lists_are_read_in_smaller_batches_and_endless_ones_not_at_all() {
    let version = contract(
        json!({"n": {"type": "integer"}, "c": {"type": "array", "items": {"type": "integer"}}}),
        |_| {},
    );
    let of = |lengths: Vec<usize>| {
        let items = Int32Array::from_iter_values(std::iter::repeat_n(7, lengths.iter().sum()));
        let field = Arc::new(Field::new("element", DataType::Int32, true));
        let n = UInt64Array::from_iter_values(0..lengths.len() as u64);
        let lists =
            ListArray::new(field, OffsetBuffer::from_lengths(lengths), Arc::new(items), None);
        file(vec![("n", Arc::new(n)), ("c", Arc::new(lists))])
    };
    let lengths: Vec<usize> =
        (0..9000).map(|row| if row % 100 == 3 { 30_000 } else { row % 3 }).collect();
    let (_, kept) = run(&version, &of(lengths.clone()));
    let mut numbers = Vec::new();
    for batch in &kept.accepted {
        let lists = batch["c"].as_list::<i32>();
        let at = numbers.len();
        numbers.extend_from_slice(batch["n"].as_primitive::<Int64Type>().values());
        for row in 0..batch.num_rows() {
            assert_eq!(lists.value(row).len(), lengths[at + row]);
        }
    }
    assert_eq!(numbers, (0..9000).collect::<Vec<i64>>());
    let reason = reject(&version, &of(vec![1, 2, 1_200_000, 1]));
    assert!(reason.contains("more than 1048576 values in a column"), "{reason}");
}

/// A file of one text column, its rows in batches of the same text.
fn texts(batches: usize, rows: usize, length: usize, encoding: Encoding) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_dictionary_page_size_limit(8 << 20)
        .set_statistics_enabled(EnabledStatistics::None);
    let properties = match encoding {
        Encoding::RLE_DICTIONARY => properties,
        other => properties.set_dictionary_enabled(false).set_encoding(other),
    };
    let mut bytes = Vec::new();
    let schema = Arc::new(parse_message_type("message m { required binary c (UTF8); }").unwrap());
    let mut writer =
        SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let text = vec![ByteArray::from(vec![b'a'; length]); rows];
    for _ in 0..batches {
        column.typed::<ByteArrayType>().write_batch(&text, None, None).unwrap();
    }
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// Counts rows and forgets them.
#[derive(Default)]
struct Counted(usize);

impl Sink for Counted {
    fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        self.0 += accepted.rows.num_rows();
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], _: &BadRow<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// The most memory that this process has had at once, in MiB, where Linux tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// Not a test of its own: audits the file that the environment names, and says how much memory that took.
#[test]
fn memory_of_an_audit() {
    let Some(path) = std::env::var_os("PARQUET_MEMORY_OF") else { return };
    let version = contract(json!({"c": {"type": "string"}, "n": {"type": "integer"}}), |d| {
        d["x-sluicegate"]["format"]["line_limit"] = json!(16 << 20);
    });
    let rules = Rules::new(version.contract().unwrap(), &version, RAW_ID, Timestamp::UNIX_EPOCH);
    let scratch = Scratch { folder: std::env::temp_dir(), limit: 1 << 30 };
    let before = peak().unwrap_or_default();
    let mut counted = Counted::default();
    let found = audit(std::fs::File::open(path).unwrap(), &rules, &scratch, &mut counted).unwrap();
    let reason = found.verdict.reasons().first().map(|reason| reason.message.clone());
    let report =
        json!({"rows": counted.0, "reason": reason, "mib": peak().unwrap_or_default() - before});
    std::fs::write(std::env::var_os("PARQUET_REPORT").unwrap(), report.to_string()).unwrap();
}

/// Audits a file in a process of its own: rows accepted, why not, and MiB.
fn measured(bytes: &[u8]) -> (u64, String, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (path, report) = (folder.path().join("f"), folder.path().join("r"));
    std::fs::write(&path, bytes).unwrap();
    let done = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory_of_an_audit", "--test-threads=1"])
        .env("PARQUET_MEMORY_OF", &path)
        .env("PARQUET_REPORT", &report)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let reason = report["reason"].as_str().unwrap_or_default().to_owned();
    (report["rows"].as_u64().unwrap(), reason, report["mib"].as_u64().unwrap())
}

#[test]
fn memory_does_not_grow_with_the_object() {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
    let strings: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..1_000_000).map(|i| format!("text {i}"))));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("c", strings)]).unwrap();
    let one_group = WriterProperties::builder().set_max_row_group_row_count(None).build();
    let bytes = written(&batch, one_group);
    drop(batch);
    let (rows, _, mib) = measured(&bytes);
    assert_eq!(rows, 1_000_000);
    assert!(mib < 64, "{mib} MiB for a million rows in one row group");
    // Long texts in one row group, of which no 8,192 rows fit.
    let (rows, _, mib) = measured(&texts(20, 10, 1 << 20, Encoding::PLAIN));
    assert_eq!(rows, 200);
    assert!(mib < 160, "{mib} MiB for long texts");
    // A text of a MiB that comes many thousand times.
    let (_, reason, mib) = measured(&texts(20, 1000, 1 << 20, Encoding::RLE_DICTIONARY));
    assert!(reason.contains("1000 times its size"), "{reason}");
    assert!(mib < 160, "{mib} MiB for a text that comes often");
    // The same in one page, where each text has all of the one before it.
    let (_, reason, mib) = measured(&texts(2, 1000, 1 << 20, Encoding::DELTA_BYTE_ARRAY));
    assert!(reason.contains("DELTA_BYTE_ARRAY"), "{reason}");
    assert!(mib < 160, "{mib} MiB for texts that share everything");
}
