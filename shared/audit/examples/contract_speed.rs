//! Rows a second of the contract's checks, beside the `jsonschema` crate's row by row, in one run on one thread.
//!
//!     contract_speed CONTRACT FILE [RUNS [alone]]
//!
//! Prints one JSON line of nanoseconds a row, medians: `check` alone over rows that are decoded already, and `whole`
//! from bytes to a verdict; `oracle_check` and `oracle_whole` for JSON Lines, unless it is to run `alone`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures time, prints, and stops where it cannot go on"
)]

use std::hint::black_box;
use std::io;
use std::time::Instant;

use arrow::array::RecordBatch;
use serde_json::{Value, json};
use sluicegate_audit::{Accepted, BadRow, Outcome, Rules, Scratch, Sink, audit};
use sluicegate_contract::check::{Vector, suspects};
use sluicegate_contract::{RowFormat, Version};

/// Keeps accepted rows, or counts them only.
#[derive(Default)]
struct Rows {
    keep: bool,
    batches: Vec<RecordBatch>,
    accepted: usize,
}

impl Sink for Rows {
    fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        self.accepted += accepted.rows.num_rows();
        if self.keep {
            self.batches.push(accepted.rows);
        }
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], _: &BadRow<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// The median nanoseconds a row of some runs.
fn median(runs: usize, rows: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1e9 / rows as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let document = std::fs::read(arguments.next().expect("a contract")).unwrap();
    let bytes = std::fs::read(arguments.next().expect("a file")).unwrap();
    let runs = arguments.next().map_or(5, |n| n.parse().unwrap());
    let alone = arguments.next().is_some();
    let version = Version::next(&document, None, "u").unwrap().unwrap();
    let contract = version.contract().unwrap();
    let landed = "2026-01-01T00:00:00Z".parse().unwrap();
    let rules = Rules::new(contract.clone(), &version, "20260101T000000Z-bench", landed);

    let scratch = Scratch { folder: std::env::temp_dir(), limit: u64::MAX };
    let mut kept = Rows { keep: true, ..Rows::default() };
    let found = audit(bytes.as_slice(), &rules, &scratch, &mut kept).unwrap();
    assert_eq!(found.verdict.outcome(), Outcome::Publish, "{:?}", found.verdict);
    let rows = kept.accepted;
    let chunks: Vec<(usize, Vec<Vector>)> = kept
        .batches
        .iter()
        .flat_map(|batch| {
            // As stage checks them: a few thousand at a time.
            (0..batch.num_rows())
                .step_by(8192)
                .map(|at| batch.slice(at, 8192.min(batch.num_rows() - at)))
        })
        .map(|batch| {
            let columns = batch.columns().iter().zip(&contract.fields);
            (batch.num_rows(), columns.map(|(column, f)| Vector::of(column, f)).collect())
        })
        .collect();
    let check = median(runs, rows, || {
        for (len, columns) in &chunks {
            assert!(black_box(suspects(&contract, columns, *len)).is_none());
        }
    });
    let whole = median(runs, rows, || {
        let mut sink = Rows::default();
        black_box(audit(bytes.as_slice(), &rules, &scratch, &mut sink).unwrap());
    });
    let mut report = json!({"rows": rows, "check": check, "whole": whole});
    if matches!(contract.format, RowFormat::Jsonl(_)) && !alone {
        let document: Value = serde_json::from_slice(&document).unwrap();
        let oracle = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .build(&document)
            .unwrap();
        let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
        let parsed: Vec<Value> = lines.iter().map(|l| serde_json::from_slice(l).unwrap()).collect();
        report["oracle_check"] = json!(median(runs, rows, || {
            for row in &parsed {
                assert!(black_box(oracle.is_valid(row)));
            }
        }));
        drop(parsed);
        report["oracle_whole"] = json!(median(runs, rows, || {
            for line in &lines {
                let row: Value = serde_json::from_slice(line).unwrap();
                assert!(black_box(oracle.is_valid(&row)));
            }
        }));
    }
    println!("{report}");
}
