//! What an audit holds does not grow with its object: counted by the allocator, byte for byte.
//!
//! One test alone in its process, since the count is the process's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::alloc::System;
use std::io::{self, Read, Write};

use cap::Cap;
use serde_json::json;
use sluicegate_audit::{Accepted, BadRow, Outcome, Rules, Scratch, Sink, audit};
use sluicegate_contract::Version;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What the smaller object has, in bytes. A debug build takes a few seconds for both.
const SMALL: u64 = 16 << 20;
/// The larger one has this many times as much.
const TIMES: u64 = 8;
/// What an audit may hold at once, in bytes.
const LIMIT: usize = 64 << 20;

/// Takes rows and keeps none.
#[derive(Default)]
struct Counted {
    accepted: u64,
    bad: u64,
}

impl Sink for Counted {
    fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        self.accepted += accepted.rows.num_rows() as u64;
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], _: &BadRow<'_>) -> io::Result<()> {
        self.bad += 1;
        Ok(())
    }
}

/// Rows of CSV, made as they are asked for; a few are bad, and every value of `id` and `note` comes once.
struct Rows {
    bytes: u64,
    row: u64,
    ready: Vec<u8>,
    given: usize,
}

impl Rows {
    fn new(bytes: u64) -> Self {
        Self { bytes, row: 0, ready: b"id,amount,kind,note,day,at\n".to_vec(), given: 0 }
    }
}

impl Read for Rows {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() && self.bytes > 0 {
            self.ready.clear();
            self.given = 0;
            while self.ready.len() < 32 << 10 {
                self.row += 1;
                let row = self.row;
                // Spread over the whole range, so that no two rows are alike.
                let mixed = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let kind = ["red", "green", "blue", "none"][row as usize % 4];
                let amount =
                    if row.is_multiple_of(997) { -1.0 } else { (mixed >> 40) as f64 / 8.0 };
                let (day, hour) = (1 + mixed % 28, mixed / 64 % 24);
                writeln!(
                    self.ready,
                    "{row},{amount},{kind},note {mixed:016x} on {row},2013-01-{day:02},2013-01-{day:02}T{hour:02}:30:00Z"
                )?;
            }
            self.bytes = self.bytes.saturating_sub(self.ready.len() as u64);
        }
        let n = (&self.ready[self.given..]).read(buffer)?;
        self.given += n;
        Ok(n)
    }
}

/// No audit of a key: what tells apart every row there is cannot have the same size for any number of them.
fn contract() -> Version {
    let document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["id", "amount", "kind", "day", "at"],
        "properties": {
            "id": {"type": "integer", "minimum": 1},
            "amount": {"type": "number", "minimum": 0},
            "kind": {"type": "string", "enum": ["red", "green", "blue", "none"]},
            "note": {"type": ["string", "null"], "pattern": "^note "},
            "day": {"type": "string", "format": "date"},
            "at": {"type": "string", "format": "date-time"},
        },
        "x-sluicegate": {
            "version": "1.0.0",
            "team": {"name": "t"},
            "format": {"type": "csv"},
            "event_time": {"column": "at"},
            "bad_rows": {"max_fraction": 0.01},
            "audits": [
                {"id": "notes", "audit": "completeness", "column": "note", "min": 1},
                {"id": "written", "audit": "pattern", "column": "note", "pattern": "^note [0-9a-f]{16} on [0-9]+$"},
                {"id": "kinds", "audit": "allowed_values", "column": "kind", "values": ["red", "green", "blue", "none"]},
                {"id": "different", "audit": "distinct_share", "column": "note", "min": 0.5},
                {"id": "median", "audit": "quantile", "column": "amount", "rank": 0.5, "min": 0},
                {"id": "one_kind", "audit": "heaviest", "column": "kind", "max": 0.5},
                {"id": "one_day", "audit": "heaviest_partition", "max": 0.5},
                {"id": "paid", "audit": "share", "where": "amount >= 0 and kind != 'black'", "min": 1},
                {"id": "all", "audit": "aggregate", "where": "max(id) >= rows()"},
            ],
        },
    });
    Version::next(document.to_string().as_bytes(), None, "u").unwrap().unwrap()
}

/// The most bytes that were held at once in the process so far, after an audit of some bytes.
fn most_held_after(version: &Version, bytes: u64) -> usize {
    let raw_id = "20130201T000000Z-00000000000000000000000000000000";
    let landed = "2013-02-01T00:00:00Z".parse().unwrap();
    let rules = Rules::new(version.contract().unwrap(), version, raw_id, landed);
    let mut sink = Counted::default();
    let folder = tempfile::tempdir().unwrap();
    let scratch = Scratch { folder: folder.path().to_owned(), limit: 1 << 30 };
    let found = audit(Rows::new(bytes), &rules, &scratch, &mut sink).unwrap();
    assert_eq!(found.verdict.outcome(), Outcome::Publish, "{:?}", found.verdict.reasons());
    assert!(found.verdict.coverage().bytes >= bytes && sink.bad > 0);
    assert_eq!(found.verdict.coverage().rows_accepted, sink.accepted);
    ALLOCATOR.max_allocated()
}

#[test]
fn memory_does_not_grow_with_the_object() {
    let version = contract();
    let small = most_held_after(&version, SMALL);
    let large = most_held_after(&version, SMALL * TIMES);
    assert!(
        large < small + small / 10,
        "{small} bytes for {SMALL}, {large} for {TIMES} times as many"
    );
    assert!(large < LIMIT, "{large}");
}
