//! `sluicegate check`: what stage runs, on files at hand. Nothing is written.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use sluicegate_audit::{Accepted, Audit, BadRow, Outcome, RowFault, Rules, Sink, audit};
use sluicegate_contract::{AuditResult, AuditState, Contract, RowFormat, Severity};
use sluicegate_lake::{Ambient, System};
use sluicegate_table::report::visible;

use crate::out::say;
use crate::{Failure, input, junit};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The contract
    #[arg(long)]
    contract: PathBuf,
    /// Print JSON, one line a file
    #[arg(long, conflicts_with = "junit")]
    json: bool,
    /// Print a JUnit report (XML)
    #[arg(long)]
    junit: bool,
    /// Bad rows that are shown of a file
    #[arg(long, default_value_t = 5)]
    show: usize,
    /// CSV or JSON Lines, plain, gzip or zstd, or Parquet; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// A file and what became of it.
#[derive(Serialize)]
pub(crate) struct Checked {
    pub(crate) file: PathBuf,
    pub(crate) audit: Audit,
    first_bad_rows: Vec<Shown>,
}

/// A bad row, to be shown.
#[derive(Serialize)]
struct Shown {
    row: u64,
    faults: Vec<RowFault>,
    /// The row as it was written and, beneath, marks under what is wrong.
    #[serde(skip)]
    context: Vec<String>,
}

struct FirstBad<'c> {
    contract: &'c Contract,
    limit: usize,
    rows: Vec<Shown>,
}

impl Sink for FirstBad<'_> {
    fn accept(&mut self, _: Accepted) -> io::Result<()> {
        Ok(())
    }

    fn quarantine(&mut self, header: &[u8], row: &BadRow<'_>) -> io::Result<()> {
        if self.rows.len() < self.limit {
            self.rows.push(Shown {
                row: row.row,
                faults: row.faults.clone(),
                context: context(self.contract, header, row),
            });
        }
        Ok(())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let version = input::version(&arguments.contract)?;
    // Rows are held against the present: a file that is checked has not landed yet.
    let now: Timestamp = System.now();
    let rules = Rules::new(version.contract()?, &version, "", now);
    let mut all = Vec::with_capacity(arguments.files.len());
    for path in &arguments.files {
        let mut bad =
            FirstBad { contract: rules.contract(), limit: arguments.show, rows: Vec::new() };
        let audit = audit(input::open(path)?, &rules, &input::scratch(), &mut bad)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let checked = Checked { file: path.clone(), audit, first_bad_rows: bad.rows };
        if arguments.json {
            say!("{}", serde_json::to_string(&checked)?);
        } else if !arguments.junit {
            print(&checked);
        }
        all.push(checked);
    }
    if arguments.junit {
        say!("{}", junit::report(rules.contract(), &all));
    }
    let worst = all.iter().map(|checked| match checked.audit.verdict.outcome() {
        Outcome::Publish => 0,
        Outcome::Hold => 1,
        Outcome::Reject => 2,
    });
    Ok(ExitCode::from(worst.max().unwrap_or_default()))
}

fn print(checked: &Checked) {
    let Checked { file, audit, first_bad_rows } = checked;
    let (verdict, coverage) = (&audit.verdict, audit.verdict.coverage());
    say!(
        "{}: {}  {} rows read, {} accepted, {} quarantined",
        file.display(),
        word(verdict.outcome()),
        coverage.rows_read,
        coverage.rows_accepted,
        coverage.rows_quarantined
    );
    // Audits are told of one by one.
    let own = verdict.reasons().iter().filter(|reason| reason.code != "audit");
    own.for_each(|reason| say!("  {}", reason.message));
    let mut broken: Vec<_> = audit.broken.iter().collect();
    broken.sort_by_key(|(_, rows)| std::cmp::Reverse(**rows));
    let width = broken.iter().map(|(rule, _)| rule.chars().count()).max().unwrap_or_default();
    for (rule, rows) in broken.iter().take(20) {
        let unit = if **rows == 1 { "row" } else { "rows" };
        say!("  {rule:<width$}  {rows:>10} {unit}");
    }
    let without_past = |audit: &&AuditResult| audit.state == AuditState::NoHistory;
    for audit in audit.audits.iter().filter(|a| a.state != AuditState::Passed && !without_past(a)) {
        let AuditResult { id, state, severity, expected, found, sample, .. } = audit;
        let what = match (severity, state) {
            (Severity::Warn, _) => "warns",
            (Severity::Error, AuditState::NotProven) => "is not proven",
            (Severity::Error, _) => "fails",
        };
        say!("  audit {id} {what}: {expected}; found {found}");
        sample.iter().for_each(|line| say!("    {line}"));
    }
    let untold = audit.audits.iter().filter(without_past).count();
    if untold > 0 {
        say!("  audits that compare with what is published: {untold}, not told here");
    }
    for row in first_bad_rows {
        say!("");
        for fault in &row.faults {
            let place = if fault.pointer.is_empty() { "the row" } else { &fault.pointer };
            say!("  row {}: {place} {}: {}", row.row, fault.rule, visible(&fault.reason));
        }
        row.context.iter().for_each(|line| say!("    {line}"));
    }
    if coverage.rows_quarantined > first_bad_rows.len() as u64 && !first_bad_rows.is_empty() {
        say!("\n  … and {} more", coverage.rows_quarantined - first_bad_rows.len() as u64);
    }
    for amendment in &audit.amendments {
        say!(
            "  not in the contract: {} ({:.1} % of the rows)",
            amendment.pointer,
            amendment.share * 100.0
        );
    }
}

pub(crate) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Publish => "publish",
        Outcome::Hold => "HOLD",
        Outcome::Reject => "REJECT",
    }
}

/// Characters of a row that are shown.
const WIDTH: usize = 100;

/// The row, with marks under the values that broke a rule. Where values are classified, no row is shown.
fn context(contract: &Contract, header: &[u8], row: &BadRow<'_>) -> Vec<String> {
    if contract.is_redacted("") {
        return Vec::new();
    }
    let Ok(text) = std::str::from_utf8(row.bytes) else { return Vec::new() };
    let line: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut marks = vec![' '; line.len()];
    let mut first = line.len();
    for fault in &row.faults {
        let Some(column) = &fault.column else { continue };
        let place = match &contract.format {
            RowFormat::Csv(csv) => {
                let cells = csv_cells(header, csv.delimiter, csv.quote);
                let names = std::str::from_utf8(header).ok();
                let names = names.map(|names| {
                    cells
                        .iter()
                        .map(|r| names.chars().skip(r.start).take(r.len()).collect::<String>())
                });
                let quote = char::from(csv.quote);
                let position = match names {
                    Some(mut names) if csv.header => {
                        names.position(|n| n.trim_end().trim_matches(quote) == column)
                    }
                    _ => contract.fields.iter().position(|f| f.source == *column),
                };
                position
                    .and_then(|p| csv_cells(row.bytes, csv.delimiter, csv.quote).get(p).cloned())
            }
            RowFormat::Jsonl(_) | RowFormat::Parquet(_) => json_name(&line, column),
        };
        let Some(place) = place else { continue };
        first = first.min(place.start);
        let end = place.end.max(place.start + 1);
        marks.resize(marks.len().max(end), ' ');
        marks.iter_mut().take(end).skip(place.start).for_each(|mark| *mark = '^');
    }
    // The window begins a little before the first mark.
    let from = if first + 20 < WIDTH { 0 } else { first.saturating_sub(20).min(line.len()) };
    let cut = |chars: &[char]| chars.iter().skip(from).take(WIDTH).collect::<String>();
    let lead = if from > 0 { "… " } else { "" };
    let more = if line.len() > from + WIDTH { " …" } else { "" };
    let marks = format!("{}{}", " ".repeat(lead.chars().count()), cut(&marks));
    vec![format!("{lead}{}{more}", cut(&line)), marks.trim_end().to_owned()]
}

/// Where each cell of a row lies, in characters, its quotes included.
fn csv_cells(row: &[u8], delimiter: u8, quote: u8) -> Vec<std::ops::Range<usize>> {
    let Ok(text) = std::str::from_utf8(row) else { return Vec::new() };
    let (mut cells, mut start, mut quoted, mut length) = (Vec::new(), 0, false, 0);
    for (at, c) in text.chars().enumerate() {
        length = at + 1;
        if c == char::from(quote) {
            quoted = !quoted;
        } else if c == char::from(delimiter) && !quoted {
            cells.push(start..at);
            start = at + 1;
        }
    }
    cells.push(start..length.max(start));
    cells
}

/// Where the name of a property of the row itself stands, in characters, its quotes included: neither one inside it nor
/// a value of the same text.
fn json_name(row: &[char], name: &str) -> Option<std::ops::Range<usize>> {
    let wanted: Vec<char> = serde_json::to_string(name).ok()?.chars().collect();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(c) = row.get(at) {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '"' => {
                let mut end = at + 1;
                while row.get(end).is_some_and(|c| *c != '"') {
                    end += if row.get(end) == Some(&'\\') { 2 } else { 1 };
                }
                let end = (end + 1).min(row.len());
                let named = row.iter().skip(end).find(|c| !c.is_whitespace()) == Some(&':');
                if depth == 1 && named && row.get(at..end) == Some(wanted.as_slice()) {
                    return Some(at..end);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// A file's name for reports.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}
