//! The audits of a contract over real files: a month of flights by their own contract, day after day. With
//! `FLIGHTS=<folder>` the daily files are those of that folder, such as a whole year
//! (`examples/flights/make_data.py --year <folder>`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use sluicegate_audit::{Accepted, BadRow, History, PastFile, Rules, Scratch, Sink, read};
use sluicegate_contract::{AuditResult, AuditState, Version};

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

/// Keeps nothing.
struct Dropped;

impl Sink for Dropped {
    fn accept(&mut self, _: Accepted) -> io::Result<()> {
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], _: &BadRow<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// The results for the bytes of a file, and the file as history has it.
fn judged(
    version: &Version,
    bytes: Vec<u8>,
    landed_at: Timestamp,
    history: &History,
) -> (Vec<AuditResult>, PastFile) {
    let rules = Rules::new(version.contract().unwrap(), version, "raw", landed_at);
    let folder = tempfile::tempdir().unwrap();
    let scratch = Scratch { folder: folder.path().to_owned(), limit: 1 << 20 };
    let seen = read(Cursor::new(bytes), &rules, &scratch, &mut Dropped).unwrap();
    let audit = seen.judge(&rules, history).unwrap();
    let rows = audit.verdict.coverage().rows_accepted;
    let main_day = audit.profile.events.main_day();
    (audit.audits, PastFile { landed_at, rows, main_day, profile: Some(audit.profile) })
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
        ("one_row_a_flight", true, "rows 11 and 521"),
        ("arrived_flights_departed", true, "row 5"),
        ("no_plane_is_faster_than_sound", true, "row 4"),
        ("as_many_flights_as_usual", false, ""),
    ];
    assert_eq!(failed.get(..4).unwrap(), expected);
    let (id, holds, most) = failed[4];
    assert_eq!((id, holds), ("as_far_as_usual", false));
    assert!(most.contains(" → "), "{most}");
}
