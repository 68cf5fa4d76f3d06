//! The audits of a contract over real files: a month of flights by their own contract, day after day. With
//! `FLIGHTS=<folder>` the daily files are those of that folder, such as a whole year
//! (`examples/flights/make_data.py --year <folder>`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::array_value_to_string;
use jiff::{SignedDuration, Timestamp};
use sluicegate_audit::{
    Accepted, Audit, BadRow, History, PastFile, RowTests, Rules, Seen, Sink, Uniqueness, audit,
    judge, main_day,
};
use sluicegate_contract::audits::AuditMeasure;
use sluicegate_contract::profile::{
    ColumnProfile, Distinct, EventStep, Events, Frequent, Profile, Quantiles, Top,
};
use sluicegate_contract::{AuditResult, AuditState, Contract, Type, Version};

fn flights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights")
}

/// The daily files, in order.
fn days() -> Vec<PathBuf> {
    let folder = std::env::var_os("FLIGHTS").map_or_else(flights, PathBuf::from);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "csv")).collect();
    files.sort();
    assert!(files.len() >= 30);
    files
}

#[derive(Default)]
struct Kept {
    accepted: Vec<Accepted>,
}

impl Sink for Kept {
    fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        self.accepted.push(accepted);
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], _: &BadRow<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// Every value of a column as text; null is none.
fn texts(batches: &[Accepted], at: usize) -> Vec<Option<String>> {
    let of = |rows: &RecordBatch| {
        let column = rows.column(at).clone();
        // Without a data base of time zones, Arrow writes no time of one.
        let micros = column.as_primitive_opt::<TimestampMicrosecondType>();
        let text = |row| match micros {
            Some(micros) => micros.value(row).to_string(),
            None => array_value_to_string(&column, row).unwrap(),
        };
        let text = |row| column.is_valid(row).then(|| text(row));
        (0..column.len()).map(text).collect::<Vec<_>>()
    };
    batches.iter().flat_map(|accepted| of(&accepted.rows)).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a few values")]
fn column(name: &str, ty: &Type, all: &[Option<String>]) -> ColumnProfile {
    let values: Vec<&String> = all.iter().flatten().collect();
    let mut counts: BTreeMap<&String, u64> = BTreeMap::new();
    values.iter().for_each(|value| *counts.entry(value).or_default() += 1);
    let mut column = ColumnProfile {
        path: name.to_owned(),
        values: values.len() as u64,
        nulls: (all.len() - values.len()) as u64,
        distinct: Distinct { estimate: counts.len() as f64, error: 0.0, hll: String::new() },
        ..ColumnProfile::default()
    };
    let mut top: Vec<_> = counts.into_iter().collect();
    top.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let top = top.into_iter().take(20);
    let top = top.map(|(value, count)| Frequent { value: value.clone(), count }).collect();
    column.top = Top { values: top, error: 0.0 };
    if matches!(ty, Type::Long | Type::Double) && !values.is_empty() {
        let mut numbers: Vec<f64> = values.iter().map(|v| v.parse().unwrap()).collect();
        numbers.sort_by(f64::total_cmp);
        let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len() as f64;
        column.min = numbers.first().map(f64::to_string);
        column.max = numbers.last().map(f64::to_string);
        column.mean = Some(mean(&numbers));
        let centroids = numbers.chunks(8).map(|n| (mean(n), n.len() as f64)).collect();
        column.quantiles = Some(Quantiles { centroids, error: 0.01 });
    }
    column
}

fn profile(contract: &Contract, kept: &Kept) -> Profile {
    let columns = contract.fields.iter().enumerate();
    let columns = columns.map(|(at, f)| column(&f.name, &f.ty, &texts(&kept.accepted, at)));
    let mut events = Events { step: EventStep::Hour, rows: BTreeMap::new() };
    let at = contract.event_time.as_ref().unwrap().field;
    for text in texts(&kept.accepted, at).iter().flatten() {
        let hour = text.parse::<i64>().unwrap().div_euclid(3_600_000_000);
        *events.rows.entry(hour).or_default() += 1;
    }
    Profile { rows: events.rows.values().sum(), columns: columns.collect(), events }
}

/// What telling rows apart by each of a contract's keys comes to.
fn keys(contract: &Contract, kept: &Kept) -> BTreeMap<String, Uniqueness> {
    let mut keys = BTreeMap::new();
    for rule in &contract.audits {
        let AuditMeasure::Unique { columns } = &rule.measure else { continue };
        let at = columns.iter().map(|c| contract.fields.iter().position(|f| f.name == *c).unwrap());
        let columns: Vec<_> = at.map(|at| texts(&kept.accepted, at)).collect();
        let rows = columns.first().map_or(0, Vec::len);
        let distinct: BTreeSet<Vec<_>> =
            (0..rows).map(|row| columns.iter().map(|c| c[row].as_ref()).collect()).collect();
        let found = match (rows - distinct.len()) as u64 {
            0 => Uniqueness::Unique,
            rows => Uniqueness::Duplicates { rows, sample: Vec::new() },
        };
        keys.insert(rule.id.clone(), found);
    }
    keys
}

/// The results for the bytes of a file, and the file as history has it.
fn judged(
    version: &Version,
    bytes: Vec<u8>,
    landed_at: Timestamp,
    history: &History,
) -> (Vec<AuditResult>, PastFile) {
    let contract = version.contract().unwrap();
    let rules = Rules::new(contract.clone(), version, "raw", landed_at);
    let mut kept = Kept::default();
    let Audit { verdict, event_range, .. } = audit(Cursor::new(bytes), &rules, &mut kept).unwrap();
    let mut tests = RowTests::new(&contract);
    let mut partitions = BTreeMap::new();
    for accepted in &kept.accepted {
        tests.update(&accepted.rows);
        *partitions.entry(accepted.partition).or_default() += accepted.rows.num_rows() as u64;
    }
    let profile = profile(&contract, &kept);
    let seen = Seen {
        profile: &profile,
        coverage: verdict.coverage(),
        tallies: tests.finish(),
        keys: keys(&contract, &kept),
        partitions,
        event_range,
        landed_at,
    };
    let results = judge(&contract, &seen, history);
    let rows = verdict.coverage().rows_accepted;
    let main_day = main_day(&profile.events);
    (results, PastFile { landed_at, rows, main_day, profile: Some(profile) })
}

fn landed(day: usize) -> Timestamp {
    let first: Timestamp = "2013-01-02T06:00:00Z".parse().unwrap();
    first + SignedDuration::from_hours(24 * i64::try_from(day).unwrap())
}

#[test]
fn flights_pass_the_audits_of_their_own_contract_day_after_day() {
    let document = std::fs::read(flights().join("contract.json")).unwrap();
    let version = Version::next(&document, None, "u").unwrap().unwrap();
    let (mut history, mut compared, mut judgements) = (History::default(), 0, 0);
    for (day, path) in days().iter().enumerate() {
        let bytes = std::fs::read(path).unwrap();
        let (results, file) = judged(&version, bytes, landed(day), &history);
        for result in &results {
            let passed = matches!(result.state, AuditState::Passed | AuditState::NoHistory);
            assert!(passed, "{}: {result:?}", path.display());
            compared += u32::from(result.state == AuditState::Passed);
            judgements += 1;
        }
        history.files.insert(0, file);
        history.files.truncate(History::depth(&version.contract().unwrap()));
    }
    // Of most days, the weeks before are not known in the first month.
    assert!(compared > judgements / 2, "{compared} of {judgements}");
}

#[test]
fn a_bad_day_of_flights_fails_what_it_should() {
    let document = std::fs::read(flights().join("contract.json")).unwrap();
    let version = Version::next(&document, None, "u").unwrap().unwrap();
    let files = days();
    // The last day of the month, and the same weekday of the weeks before it.
    let mut history = History::default();
    for back in [28, 21, 14, 7] {
        let at = 30 - back;
        let name = format!("2013-01-{:02}.csv", at + 1);
        let path = files.iter().find(|f| f.ends_with(&name)).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let (_, file) = judged(&version, bytes, landed(at), &history);
        history.files.insert(0, file);
    }
    let path = files.iter().find(|f| f.ends_with("2013-01-31.csv")).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    // Little more than half of the rows, one of them twice, one too fast, and one that arrived without a departure.
    let mut rows: Vec<Vec<&str>> = rows
        .lines()
        .map(|row| row.split(',').collect())
        .filter(|row: &Vec<_>| !row.contains(&"NA"))
        .collect();
    rows.truncate(520);
    let at = |name: &str| header.split(',').position(|column| column == name).unwrap();
    // Flights to the far west only.
    for row in &mut rows {
        (row[at("distance")], row[at("air_time")]) = ("2475", "330");
    }
    rows[3][at("air_time")] = "1";
    rows[4][at("dep_time")] = "NA";
    rows.push(rows[10].clone());
    let rows: Vec<String> = rows.into_iter().map(|row| row.join(",")).collect();
    let bytes = format!("{header}\n{}\n", rows.join("\n")).into_bytes();
    let (results, _) = judged(&version, bytes, landed(30), &history);
    let failed: Vec<_> = results
        .iter()
        .filter(|r| r.state == AuditState::Failed)
        .map(|r| (r.id.as_str(), r.holds(), r.sample.first().map_or("", String::as_str)))
        .collect();
    let expected = [
        ("one_row_a_flight", true, ""),
        ("arrived_flights_departed", true, "row 5"),
        ("no_plane_is_faster_than_sound", true, "row 4"),
        ("as_many_flights_as_usual", false, ""),
    ];
    assert_eq!(failed.get(..4).unwrap(), expected);
    let (id, holds, most) = failed[4];
    assert_eq!((id, holds), ("as_far_as_usual", false));
    assert!(most.contains(" → "), "{most}");
}
