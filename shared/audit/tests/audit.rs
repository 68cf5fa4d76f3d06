//! The audit from outside: real rows, planted faults, and everything that is no table at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::io::{self, Read, Write};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use sluicegate_audit::{Accepted, Audit, AuditError, BadRow, Outcome, Rules, Scratch, Sink, audit};
use sluicegate_contract::Version;

const RAW_ID: &str = "20130102T030405Z-00000000000000000000000000000000";

/// Keeps everything in memory.
#[derive(Default)]
struct Kept {
    accepted: Vec<(Option<i32>, RecordBatch)>,
    bad: Vec<(u64, u64, String, Vec<String>)>,
    header: Vec<u8>,
}

impl Sink for Kept {
    fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        self.accepted.push((accepted.partition, accepted.rows));
        Ok(())
    }

    fn quarantine(&mut self, header: &[u8], row: &BadRow<'_>) -> io::Result<()> {
        self.header = header.to_vec();
        let bytes = String::from_utf8_lossy(row.bytes).into_owned();
        let faults = row.faults.iter();
        let faults = faults.map(|f| format!("{} {}", f.column.as_deref().unwrap_or("row"), f.rule));
        self.bad.push((row.row, row.offset, bytes, faults.collect()));
        Ok(())
    }
}

fn scratch() -> Scratch {
    Scratch { folder: std::env::temp_dir(), limit: 1 << 30 }
}

fn contract(change: impl FnOnce(&mut Value)) -> Version {
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["id", "at"],
        "properties": {
            "id": {"type": "integer", "minimum": 1},
            "name": {"type": ["string", "null"], "maxLength": 5},
            "at": {"type": "string", "format": "date-time"},
        },
        "x-sluicegate": {
            "version": "1.0.0",
            "team": {"name": "t"},
            "format": {"type": "csv", "line_limit": 100_000},
            "event_time": {"column": "at", "max_ahead": "P1D"},
            "bad_rows": {"max_fraction": 0.5},
        },
    });
    change(&mut document);
    Version::next(document.to_string().as_bytes(), None, "u").unwrap().unwrap()
}

fn jsonl() -> Version {
    contract(|d| d["x-sluicegate"]["format"] = json!({"type": "jsonl", "line_limit": 100_000}))
}

fn try_run(version: &Version, source: impl Read + Send) -> (Result<Audit, AuditError>, Kept) {
    let landed: Timestamp = "2013-01-02T03:04:05Z".parse().unwrap();
    let rules = Rules::new(version.contract().unwrap(), version, RAW_ID, landed);
    let mut kept = Kept::default();
    (audit(source, &rules, &scratch(), &mut kept), kept)
}

fn run(version: &Version, bytes: &[u8]) -> (Audit, Kept) {
    let (result, kept) = try_run(version, bytes);
    let found = result.unwrap();
    let coverage = found.verdict.coverage();
    assert_eq!(coverage.bytes, bytes.len() as u64, "AUD-1: all bytes are covered");
    let accepted: usize = kept.accepted.iter().map(|(_, b)| b.num_rows()).sum();
    assert_eq!(coverage.rows_accepted, accepted as u64);
    assert_eq!(coverage.rows_quarantined, kept.bad.len() as u64);
    (found, kept)
}

fn reject(version: &Version, bytes: &[u8]) -> String {
    let (result, kept) = try_run(version, bytes);
    let found = result.unwrap();
    assert_eq!(found.verdict.outcome(), Outcome::Reject, "{found:?}");
    assert!(kept.accepted.is_empty(), "nothing was taken for good");
    let reason = &found.verdict.reasons()[0];
    format!("{}: {}", reason.code, reason.message)
}

fn unknown(found: &Audit) -> Vec<&str> {
    found.amendments.iter().map(|a| a.pointer.as_str()).collect()
}

const GOOD: &str = "2013-01-01T10:00:00Z";

#[test]
fn good_rows_are_accepted_by_day_with_their_lineage() {
    let text = format!(
        "name,id,at,extra\nann,1,{GOOD},x\n,2,2013-01-02T00:00:00Z,y\n\"b,\"\"é\",3,{GOOD},z"
    );
    let (found, kept) = run(&contract(|_| {}), text.as_bytes());
    assert_eq!(found.verdict.outcome(), Outcome::Publish);
    assert_eq!(unknown(&found), ["/extra"]);
    assert_eq!(found.event_range, Some((1_357_034_400_000_000, 1_357_084_800_000_000)));
    let days: Vec<_> = kept.accepted.iter().map(|(p, b)| (p.unwrap(), b.num_rows())).collect();
    assert_eq!(days, [(15_706, 2), (15_707, 1)]);
    let first = &kept.accepted[0].1;
    assert_eq!(first["id"].as_primitive::<Int64Type>().values().as_ref(), [1, 3]);
    assert_eq!(first["name"].as_string::<i32>().value(1), "b,\"é");
    assert_eq!(first["_raw_row"].as_primitive::<Int64Type>().values().as_ref(), [1, 3]);
    assert_eq!(first["_raw_id"].as_string::<i32>().value(0), RAW_ID);
    let landed = first["_landed_at"].as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(landed, 1_357_095_845_000_000);
}

#[test]
fn bad_rows_keep_their_bytes_their_place_and_every_rule_they_broke() {
    let rows = [
        format!("1,ann,{GOOD}"),
        format!("0,toolong,{GOOD}"),
        format!("x,\"q\n\",{GOOD}"),
        "4,a".to_owned(),
        format!(",a,{GOOD}"),
        "6,a,2013-01-03T03:04:06Z".to_owned(),
        "7,a,2013-01-03T03:04:05Z".to_owned(),
        format!("8,a,{GOOD}"),
        format!("9,a,{GOOD}"),
        format!("10,a,{GOOD}"),
    ];
    for end in ["\n", "\r\n"] {
        let text = format!("id,name,at{end}{}{end}", rows.join(end));
        let (found, kept) = run(&contract(|_| {}), text.as_bytes());
        assert_eq!(found.verdict.outcome(), Outcome::Publish);
        assert_eq!(kept.header, b"id,name,at\n");
        let expected: [(u64, &[&str]); 5] = [
            (2, &["id minimum", "name maxLength"]),
            (3, &["id type"]),
            (4, &["row columns"]),
            (5, &["id required"]),
            (6, &["at max_ahead"]),
        ];
        assert_eq!(kept.bad.len(), expected.len());
        for ((row, offset, bytes, faults), (number, rules)) in kept.bad.iter().zip(expected) {
            assert_eq!(*row, number);
            assert_eq!(*bytes, rows[number as usize - 1]);
            let at = usize::try_from(*offset).unwrap();
            assert_eq!(text[at..at + bytes.len()], *bytes);
            assert_eq!(faults, rules);
        }
        assert_eq!(found.broken["id minimum"], 1);
    }
}

#[test]
fn too_many_bad_rows_hold_the_object() {
    let version = contract(|d| d["x-sluicegate"]["bad_rows"]["max_fraction"] = json!(0.25));
    let text = |bad: usize| {
        let rows = (0..8).map(|i| format!("{},a,{GOOD}\n", if i < bad { 0 } else { 1 }));
        format!("id,name,at\n{}", rows.collect::<String>())
    };
    assert_eq!(run(&version, text(2).as_bytes()).0.verdict.outcome(), Outcome::Publish);
    let (held, kept) = run(&version, text(3).as_bytes());
    assert_eq!(held.verdict.outcome(), Outcome::Hold);
    let message = &held.verdict.reasons()[0].message;
    assert!(message.contains("3 of 8 rows") && message.contains("id minimum × 3"), "{message}");
    assert_eq!(kept.accepted[0].1.num_rows(), 5, "what is good stays staged for a release");
}

#[test]
fn csv_that_cannot_be_read_is_rejected_with_a_reason() {
    let version = contract(|_| {});
    assert!(reject(&version, b"").starts_with("empty"));
    assert!(reject(&version, b"\xef\xbb\xbf").starts_with("empty"));
    let delimiter = reject(&version, b"id;name;at\n1;a;2013-01-01T10:00:00Z\n");
    assert!(delimiter.contains("is ',' the delimiter?"), "{delimiter}");
    let missing = reject(&version, b"id,name\n1,a\n");
    assert!(missing.contains("lacks 1 required columns: \"at\""), "{missing}");
    let twice = reject(&version, b"id,name,id,at\n");
    assert!(twice.contains("two columns are called \"id\""), "{twice}");
    assert!(reject(&version, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").starts_with("header"));
    assert!(reject(&version, &[b','; 50_000]).starts_with("columns"));
    let unknown = contract(|d| d["x-sluicegate"]["unknown_fields"] = json!("reject"));
    let message = reject(&unknown, b"id,name,at,more\n");
    assert!(message.starts_with("unknown_field: column \"more\""), "{message}");
}

#[test]
fn a_header_alone_is_held_and_not_taken_for_an_empty_table() {
    let (found, _) = run(&contract(|_| {}), b"id,name,at\n");
    assert_eq!(found.verdict.outcome(), Outcome::Hold);
    assert_eq!(found.verdict.reasons()[0].code, "no_rows");
    let (found, _) = run(&jsonl(), b"\n \n");
    assert_eq!(found.verdict.outcome(), Outcome::Hold);
    assert!(reject(&jsonl(), b"").starts_with("empty"));
}

#[test]
fn rows_that_are_no_text_are_bad_rows() {
    let mut bytes = format!("id,name,at\n1,ok,{GOOD}\n").into_bytes();
    bytes.extend_from_slice(b"2,\xff\xfe,2013-01-01T10:00:00Z\n");
    bytes.extend_from_slice(b"3,a\0b,2013-01-01T10:00:00Z\n");
    // Together the two cells would be valid UTF-8; apart they are not.
    bytes.extend_from_slice(b"4,\xc3,\xa92013-01-01T10:00:00Z\n");
    bytes.extend_from_slice(format!("5,ok,{GOOD}\n6,ok,{GOOD}\n").as_bytes());
    let (found, kept) = run(&contract(|_| {}), &bytes);
    assert_eq!(found.verdict.outcome(), Outcome::Publish);
    let rows: Vec<_> =
        kept.bad.iter().map(|(row, _, _, faults)| (*row, faults.join(","))).collect();
    let bad = |row| (row, "row encoding".to_owned());
    assert_eq!(rows, [bad(2), bad(3), bad(4)]);
}

/// Gives `length` bytes of `x` without holding them.
struct Endless {
    length: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = buffer.len().min(self.length);
        buffer[..n].fill(b'x');
        self.length -= n;
        Ok(n)
    }
}

#[test]
fn a_line_without_end_is_refused_by_the_contracts_limit() {
    for version in [contract(|_| {}), jsonl()] {
        let head = "id,name,at\n".as_bytes();
        let (result, _) = try_run(&version, head.chain(Endless { length: 200 << 20 }));
        let verdict = result.unwrap().verdict;
        assert_eq!(verdict.outcome(), Outcome::Reject);
        assert_eq!(verdict.reasons()[0].code, "line_limit");
        assert!(verdict.coverage().bytes < 2 << 20, "reading stopped at the limit");
    }
}

#[test]
fn a_truncated_gzip_is_rejected_and_a_broken_source_is_no_verdict() {
    let rows = (1..20_000).map(|i| format!("{i},a{},{GOOD}\n", i % 997)).collect::<String>();
    let text = format!("id,name,at\n{rows}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    let (found, _) = run(&contract(|_| {}), &packed);
    assert_eq!(found.verdict.outcome(), Outcome::Publish);
    let (result, _) = try_run(&contract(|_| {}), &packed[..packed.len() / 2]);
    let verdict = result.unwrap().verdict;
    assert_eq!(
        (verdict.outcome(), verdict.reasons()[0].code.as_str()),
        (Outcome::Reject, "compression")
    );

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("connection reset"))
        }
    }
    for head in [&packed[..packed.len() / 2], text.as_bytes(), b""] {
        let (result, _) = try_run(&contract(|_| {}), head.chain(Broken));
        assert!(matches!(result, Err(AuditError::Source(_))));
    }
}

#[test]
fn json_lines_are_read_by_name_and_type() {
    let lines = [
        format!(r#"{{"at":"{GOOD}","id":1,"name":"ann","more":{{"deep":[1]}}}}"#),
        format!(r#"{{"id":2.0,"name":null,"at":"{GOOD}"}}"#),
        String::new(),
        format!(r#"{{"id":"3","name":"a","at":"{GOOD}"}}"#),
        format!(r#"{{"id":null,"at":"{GOOD}"}}"#),
        format!(r#"{{"name":"a","at":"{GOOD}"}}"#),
        format!(r#"{{"id":6,"id":7,"at":"{GOOD}"}}"#),
        r#"{"id":7,"#.to_owned(),
        "[1,2]".to_owned(),
        format!(r#"{{"id":9,"name":["a"],"at":"{GOOD}"}}"#),
        format!(r#"{{"id":9007199254740993,"name":"\u00e9\n","at":"{GOOD}"}}"#),
    ];
    let version = contract(|d| {
        d["x-sluicegate"]["format"] = json!({"type": "jsonl"});
        d["x-sluicegate"]["bad_rows"]["max_fraction"] = json!(0.9);
    });
    let (found, kept) = run(&version, lines.join("\n").as_bytes());
    assert_eq!(unknown(&found), ["/more"]);
    let ids = kept.accepted[0].1["id"].as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(ids, [1, 2, 9_007_199_254_740_993]);
    let bad: Vec<_> = kept.bad.iter().map(|(row, .., faults)| (*row, faults.join(","))).collect();
    let expected = [
        (3, "id type"),
        (4, "id type"),
        (5, "id required"),
        (6, "row json"),
        (7, "row json"),
        (8, "row type"),
        (9, "name type"),
    ];
    assert_eq!(bad, expected.map(|(row, faults)| (row, faults.to_owned())));
}

#[test]
fn blank_lines_are_no_end() {
    let row = |n: u32| format!("{{\"id\":{n},\"at\":\"{GOOD}\"}}\n");
    let rows = |from: u32| (from..from + 100).map(row).collect::<String>();
    let text = format!("{}{}{}", rows(1), "\n".repeat(9 << 20), rows(101));
    let (found, kept) = run(&jsonl(), text.as_bytes());
    assert_eq!(
        (found.verdict.outcome(), found.verdict.coverage().rows_read),
        (Outcome::Publish, 200)
    );
    assert_eq!(kept.accepted.iter().map(|(_, b)| b.num_rows()).sum::<usize>(), 200);
    let (found, kept) = run(&jsonl(), format!("{}{{\"id\":0}}", "\n".repeat(5 << 20)).as_bytes());
    assert_eq!(found.verdict.coverage().rows_read, 1);
    assert_eq!(kept.bad[0].1, 5 << 20, "offsets count what was skipped");
}

#[test]
fn an_object_that_ends_within_quotes_has_a_bad_row() {
    let text = format!("id,name,at\n1,a,{GOOD}\n2,b,{GOOD}\n3,\"c,{GOOD}\n4,d,{GOOD}\n");
    let (found, kept) = run(&contract(|_| {}), text.as_bytes());
    assert_eq!(found.verdict.coverage().rows_accepted, 2);
    assert!(kept.bad[0].3.iter().any(|fault| fault == "row columns" || fault == "row quotes"));
    let whole = format!("at,id,name\n{GOOD},1,a\n{GOOD},2,b\n{GOOD},3,\"c");
    let (_, kept) = run(&contract(|_| {}), whole.as_bytes());
    assert_eq!(kept.bad[0].3, ["row quotes"]);
}

#[test]
fn a_row_that_breaks_everything_keeps_its_first_faults() {
    let wide = contract(|d| {
        d["x-sluicegate"]["format"] = json!({"type": "jsonl"});
        for column in 0..500 {
            d["properties"][format!("c{column}")] = json!({"type": "integer"});
            d["required"].as_array_mut().unwrap().push(json!(format!("c{column}")));
        }
    });
    let (found, kept) = run(&wide, "{}\n".repeat(3000).as_bytes());
    assert_eq!(found.verdict.coverage().rows_quarantined, 3000);
    assert!(kept.bad.iter().all(|(.., faults)| faults.len() == 21 && faults[20] == "row more"));
}

/// Hands out its bytes in pieces of the given sizes, over and over.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    turn: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        let size = self.sizes[self.turn % self.sizes.len()];
        let n = size.min(buffer.len()).min(self.bytes.len());
        buffer[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes = &self.bytes[n..];
        Ok(n)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// REP-1, as far as reading goes: how the bytes arrive changes nothing.
    #[test]
    fn pieces_do_not_matter(
        sizes in prop::collection::vec(1usize..50, 1..5),
        cells in prop::collection::vec((0i64..3, "[a-cé\",\r\n]{0,7}"), 0..60),
    ) {
        let rows = cells.iter().map(|(id, name)| format!("{id},\"{}\",{GOOD}\r\n", name.replace('"', "\"\"")));
        let text = format!("id,name,at\r\n{}", rows.collect::<String>());
        let (whole, kept_whole) = try_run(&contract(|_| {}), text.as_bytes());
        let pieces = Pieces { bytes: text.as_bytes(), sizes, turn: 0 };
        let (cut, kept_cut) = try_run(&contract(|_| {}), pieces);
        prop_assert_eq!(whole.unwrap(), cut.unwrap());
        prop_assert_eq!(kept_whole.accepted, kept_cut.accepted);
        prop_assert_eq!(kept_whole.bad, kept_cut.bad);
    }

    /// Whatever the bytes, there is a verdict that adds up, and no row is lost.
    #[test]
    fn any_bytes_have_a_verdict(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        with_header in any::<bool>(),
    ) {
        let mut text = if with_header { b"id,name,at\n".to_vec() } else { Vec::new() };
        text.extend_from_slice(&bytes);
        for version in [contract(|_| {}), jsonl()] {
            prop_assert!(try_run(&version, text.as_slice()).0.is_ok());
        }
    }
}

/// The rows of a JSON Lines object, under properties and whatever else the contract says, that are bad.
fn bad_lines(schema: Value, lines: &[&str]) -> Vec<u64> {
    let version = contract(|d| {
        d["properties"] = json!({});
        d["required"] = json!([]);
        d["x-sluicegate"]["format"] = json!({"type": "jsonl"});
        d["x-sluicegate"].as_object_mut().unwrap().remove("event_time");
        d["x-sluicegate"]["bad_rows"]["max_fraction"] = json!(1.0);
        for (keyword, value) in schema.as_object().unwrap() {
            d[keyword] = value.clone();
        }
    });
    run(&version, lines.join("\n").as_bytes()).1.bad.iter().map(|(row, ..)| *row).collect()
}

#[test]
fn numbers_are_never_taken_for_their_neighbours() {
    let of =
        |property: Value, lines: &[&str]| bad_lines(json!({"properties": {"n": property}}), lines);
    let tiny = json!({"type": "integer", "maximum": 1e-40});
    assert_eq!(of(tiny, &[r#"{"n":5}"#, r#"{"n":-5}"#, r#"{"n":0}"#]), [1]);
    let tiny = json!({"type": "integer", "minimum": -1e-40});
    assert_eq!(of(tiny, &[r#"{"n":-5}"#, r#"{"n":0}"#]), [1]);
    let lines = [
        r#"{"n":1e-400}"#,
        r#"{"n":1.00000000000000000001}"#,
        r#"{"n":9007199254740993.0}"#,
        r#"{"n":3.0}"#,
        r#"{"n":3e2}"#,
    ];
    assert_eq!(of(json!({"type": "integer"}), &lines), [1, 2, 3]);
    // A double is what its column holds, for every rule alike.
    let below = json!({"type": "number", "exclusiveMaximum": 1});
    assert_eq!(of(below, &[r#"{"n":0.99999999999999999999}"#, r#"{"n":0.9}"#]), [1]);
    let float = json!({"type": "number", "maximum": 0.1, "x-sluicegate": {"logicalType": "float"}});
    assert_eq!(of(float, &[r#"{"n":0.1}"#, r#"{"n":0.11}"#]), [2]);
    let exact = json!({"type": "number", "x-sluicegate": {"logicalType": "decimal(38,2)"}});
    let lines = [r#"{"n":123456789012345678901234567890.12}"#, r#"{"n":1.125}"#];
    assert_eq!(of(exact, &lines), [2]);
}

#[test]
fn what_may_be_null_by_an_alternative_is_the_columns_own() {
    let person = json!({"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]});
    let document = json!({
        "$defs": {"person": {
            "type": "object",
            "required": ["email"],
            "properties": {"email": {"type": "string", "format": "email", "x-sluicegate": {"classification": "pii"}}},
        }},
        "properties": {"person": person, "day": {"oneOf": [{"type": "string", "format": "date"}, {"type": "null"}]}},
    });
    let lines = [
        r#"{"person":null,"day":null}"#,
        r#"{"person":{"email":"a@example.com"},"day":"2013-01-01"}"#,
        r#"{"person":{},"day":"2013-01-01"}"#,
        r#"{"person":{"email":"jane"},"day":null}"#,
        r#"{"person":null,"day":"yesterday"}"#,
        "{}",
    ];
    assert_eq!(bad_lines(document.clone(), &lines), [3, 4, 5]);
    let version = contract(|d| {
        d["x-sluicegate"]["format"] = json!({"type": "jsonl"});
        d["$defs"] = document["$defs"].clone();
        d["properties"]["person"] = document["properties"]["person"].clone();
    });
    struct Reasons(String);
    impl Sink for Reasons {
        fn accept(&mut self, _: Accepted) -> io::Result<()> {
            Ok(())
        }
        fn quarantine(&mut self, _: &[u8], row: &BadRow<'_>) -> io::Result<()> {
            self.0 += &format!("{:?}", row.faults);
            Ok(())
        }
    }
    let rules = Rules::new(version.contract().unwrap(), &version, RAW_ID, Timestamp::UNIX_EPOCH);
    let mut reasons = Reasons(String::new());
    let row = &br#"{"id":1,"at":"x","person":{"email":"jane"}}"#[..];
    audit(row, &rules, &scratch(), &mut reasons).unwrap();
    assert!(reasons.0.contains("/person/email") && !reasons.0.contains("jane"), "{}", reasons.0);
}

#[test]
fn an_open_quote_is_a_bad_row_and_a_literal_one_is_not() {
    let version = contract(|d| d["x-sluicegate"]["bad_rows"]["max_fraction"] = json!(1.0));
    let text = format!("id,at,name\n5,{GOOD},\"x\n1,{GOOD},2\n3,{GOOD},4\n");
    assert_eq!(run(&version, text.as_bytes()).1.bad[0].3, ["row quotes"]);
    for end in ["", "\n"] {
        let text = format!("id,at,name\n1,{GOOD},5\"{end}");
        assert!(run(&version, text.as_bytes()).1.bad.is_empty());
    }
}

#[test]
fn hostile_rows_take_bounded_work() {
    let fields: serde_json::Map<String, Value> =
        (0..100).map(|i| (format!("c{i}"), json!({"type": ["string", "null"]}))).collect();
    let list = json!({"properties": {
        "l": {"type": "array", "items": {"type": "object", "properties": fields}},
        "n": {"type": "array", "items": {"type": "integer", "x-sluicegate": {"logicalType": "int"}}},
    }});
    // Two bytes an item, and a hundred columns for each.
    let many = format!(r#"{{"l":[{}{{}}]}}"#, "{},".repeat(30_000));
    let few = format!(r#"{{"l":[{}{{}}]}}"#, "{},".repeat(2_000));
    let lines: Vec<&str> = std::iter::repeat_n(few.as_str(), 40).chain([many.as_str()]).collect();
    assert_eq!(bad_lines(list.clone(), &lines), [41]);
    let misfits = format!(r#"{{"n":[{}1]}}"#, "3000000000,".repeat(9_000));
    assert_eq!(bad_lines(list.clone(), &[&misfits, r#"{"n":[1]}"#]), [1]);
    let strangers: Vec<_> = (0..9_000).map(|i| format!("\"x{i}\":1")).collect();
    assert!(bad_lines(list.clone(), &[&format!("{{{}}}", strangers.join(","))]).is_empty());
    let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(127), "]".repeat(127));
    assert!(bad_lines(list.clone(), &[&deep]).is_empty());
    let deeper = format!(r#"{{"x":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(bad_lines(list, &[&deeper]), [1]);
}

fn audited(version: &Version, bytes: &[u8], id: &str) -> sluicegate_contract::AuditResult {
    let (found, _) = run(version, bytes);
    found.audits.into_iter().find(|audit| audit.id == id).unwrap()
}

#[test]
fn a_partition_that_has_almost_all_rows_is_seen() {
    let version = contract(|d| {
        d["x-sluicegate"]["audits"] =
            json!([{"id": "skew", "audit": "heaviest_partition", "max": 0.5}]);
    });
    let rows: String = (1..=9).map(|i| format!("{i},x,{GOOD}\n")).collect();
    let text = format!("id,name,at\n{rows}10,x,2013-01-02T00:00:00Z\n");
    let found = audited(&version, text.as_bytes(), "skew");
    assert!(found.holds() && found.value == Some(0.9), "{found:?}");
}

#[test]
fn a_frequent_value_is_the_median() {
    let version = contract(|d| {
        d["x-sluicegate"]["audits"] =
            json!([{"id": "median", "audit": "quantile", "column": "id", "rank": 0.5, "max": 1}]);
    });
    let rows: String = (0..100).map(|i| format!("{},x,{GOOD}\n", (i - 60).max(1))).collect();
    let found = audited(&version, format!("id,name,at\n{rows}").as_bytes(), "median");
    assert_eq!(found.value, Some(1.0), "{found:?}");
}

#[test]
fn empty_lines_of_a_csv_fill_no_memory_and_end_nothing() {
    let gap = "\n".repeat(9 << 20);
    let text = format!("{gap}id,name,at\n1,x,{GOOD}\n{gap}2,x,{GOOD}\n");
    let (found, kept) = run(&contract(|_| {}), text.as_bytes());
    assert_eq!((found.verdict.coverage().rows_accepted, kept.bad.len()), (2, 0));
}

#[test]
fn rows_keep_their_cells_beside_wrong_ones_in_the_widest_table() {
    let extra: Vec<String> = (3..10_000).map(|i| format!("c{i}")).collect();
    let commas = ",".repeat(extra.len());
    let header = format!("id,name,at,{}\n", extra.join(","));
    let text = format!("{header}1,a,{GOOD}{commas}\n2,b\n3,c,{GOOD}{commas}\n");
    let (found, kept) = run(&contract(|_| {}), text.as_bytes());
    assert_eq!(found.verdict.coverage().rows_accepted, 2);
    let ids: Vec<i64> = kept
        .accepted
        .iter()
        .flat_map(|(_, rows)| rows["id"].as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(ids, [1, 3]);
}

#[test]
fn rows_of_too_many_partitions_are_refused_before_each_is_a_file() {
    let version = contract(|d| d["x-sluicegate"]["event_time"]["grain"] = "hour".into());
    let start: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
    let hour = |i: i64| start + jiff::SignedDuration::from_hours(i);
    let rows: String = (0..20_000).map(|i| format!("{},x,{}\n", i + 1, hour(i))).collect();
    let (result, _) = try_run(&version, format!("id,name,at\n{rows}").as_bytes());
    let found = result.unwrap();
    assert_eq!(found.verdict.outcome(), Outcome::Reject);
    assert_eq!(found.verdict.reasons()[0].code, "partitions");
}

#[test]
fn a_row_within_the_line_limit_is_read_however_it_comes() {
    let version = contract(|d| {
        d["x-sluicegate"]["format"] = json!({"type": "csv", "line_limit": 60});
        d["properties"]["name"] = json!({"type": "string"});
    });
    let row = |length: usize| {
        let rest = format!("1,,{GOOD}").len();
        format!("1,{},{GOOD}\n", "x".repeat(length - rest))
    };
    for step in [1, 7, 64, 1000] {
        let text = format!("id,name,at\n{}{}", row(60), row(59));
        let (result, _) =
            try_run(&version, Pieces { bytes: text.as_bytes(), sizes: vec![step], turn: 0 });
        assert_eq!(result.unwrap().verdict.coverage().rows_accepted, 2, "{step}");
        let text = format!("id,name,at\n{}{}", row(61), row(59));
        let (result, _) =
            try_run(&version, Pieces { bytes: text.as_bytes(), sizes: vec![step], turn: 0 });
        assert_eq!(result.unwrap().verdict.reasons()[0].code, "line_limit", "{step}");
    }
}
