//! What a person reads about a proposal: JSON, Markdown, or one file of HTML.
//!
//! Guarantees: pure (the same proposal gives the same report); the verdict comes first, then why, then what to do; counts are
//! the proposal's own, and what a profile estimates is marked `≈`. Texts come from strangers' files: in Markdown and HTML they
//! are shown, never obeyed. Values of classified columns are in neither proposal nor report.

mod page;

use jiff::Timestamp;
use serde::Serialize;
use sluicegate_contract::infer::Amendment;
use sluicegate_contract::profile::{ColumnProfile, Profile, Quantiles};
use sluicegate_contract::{AuditResult, AuditState, Coverage, Outcome, Reason, Severity};
use sluicegate_lake::{Dataset, Order, RawId, keys};

pub use self::page::visible;
use self::page::{Block, Cell, Page, Section};
use crate::proposal::{Decision, PartitionBy, Proposal, Receipt, Ruling};

/// A proposal as it is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The format of this report.
    pub v: u32,
    /// The verdict in one line.
    pub headline: String,
    pub dataset: Dataset,
    /// The inbox key below the dataset, or what stands for it where it is too long.
    pub file: String,
    pub raw_id: RawId,
    pub order: Order,
    pub contract_version: String,
    pub landed_at: Timestamp,
    pub staged_at: Timestamp,
    pub verdict: Outcome,
    pub reasons: Vec<Reason>,
    pub decision: Option<Decision>,
    /// What to do, in sentences and commands.
    pub next: Vec<Step>,
    /// The audits that failed first.
    pub audits: Vec<AuditResult>,
    pub broken: Vec<Broken>,
    pub bytes: u64,
    pub coverage: Coverage,
    /// First and last event of the accepted rows.
    pub events: Option<(Timestamp, Timestamp)>,
    pub partitions: Vec<Partition>,
    /// Keys of the bad rows and of their reasons.
    pub quarantine: Vec<String>,
    /// The Iceberg table over just this proposal's files.
    pub table: Option<String>,
    pub profile: Option<Profile>,
    pub amendments: Vec<Amendment>,
    pub receipt: Receipt,
}

/// One thing that can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub what: String,
    pub commands: Vec<String>,
}

/// Rows that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub column: String,
    pub rule: String,
    pub rows: u64,
}

/// A proposal's share of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    pub partition: String,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
}

impl Report {
    /// The format of a report's JSON.
    pub const FORMAT: u32 = 1;

    /// The report of a proposal and of what was decided on it. `lake` is the URI that the lake's keys follow.
    pub fn of(proposal: &Proposal, decision: Option<&Decision>, lake: &str) -> Self {
        let decision = decision.filter(|_| proposal.is_held());
        let Proposal { dataset, source, raw_id, order, verdict, .. } = proposal;
        let table = (proposal.is_held() && !proposal.files.is_empty())
            .then(|| format!("{lake}{}", keys::held_table(dataset, raw_id, *order)));
        let mut audits = proposal.audits.clone();
        audits.sort_by_key(|a| (rank(a), std::cmp::Reverse(a.severity)));
        let broken = proposal.broken.iter().map(|(what, rows)| {
            let (column, rule) = what.rsplit_once(' ').unwrap_or(("row", what));
            Broken { column: column.to_owned(), rule: rule.to_owned(), rows: *rows }
        });
        let mut broken: Vec<Broken> = broken.collect();
        broken.sort_by_key(|b| std::cmp::Reverse(b.rows));
        let instant = |micros| Timestamp::from_microsecond(micros).unwrap_or_default();
        Self {
            v: Self::FORMAT,
            headline: headline(proposal, decision),
            dataset: dataset.clone(),
            file: source.inbox_key().unwrap_or_else(|| source.to_string()),
            raw_id: raw_id.clone(),
            order: *order,
            contract_version: proposal.contract_version.clone(),
            landed_at: raw_id.landed_at(),
            staged_at: proposal.staged_at,
            verdict: verdict.outcome(),
            reasons: verdict.reasons().to_vec(),
            next: next(proposal, decision, table.as_deref()),
            decision: decision.cloned(),
            audits,
            broken,
            bytes: proposal.bytes,
            coverage: verdict.coverage(),
            events: proposal.event_range.map(|(first, last)| (instant(first), instant(last))),
            partitions: partitions(proposal),
            quarantine: proposal.quarantine.iter().map(|key| format!("{lake}{key}")).collect(),
            table,
            profile: proposal.profile.clone(),
            amendments: proposal.amendments.clone(),
            receipt: proposal.receipt.clone(),
        }
    }

    /// As Markdown, which also reads well as it is.
    pub fn markdown(&self) -> String {
        self.page().markdown()
    }

    /// As one file of HTML.
    pub fn html(&self) -> String {
        self.page().html()
    }

    fn page(&self) -> Page {
        let sections = [
            ("Why", self.why()),
            ("What to do", self.what_to_do()),
            ("What was read", self.what_was_read()),
            ("Files", self.files()),
            ("Columns of the accepted rows", self.columns()),
            ("Fields that the contract does not know", self.unknown()),
            ("What it cost", self.cost()),
        ];
        let sections = sections.into_iter().filter(|(_, blocks)| !blocks.is_empty());
        Page {
            title: format!("{} / {}", self.dataset, self.file),
            tone: match self.verdict {
                Outcome::Publish => "publish",
                Outcome::Hold => "hold",
                Outcome::Reject => "reject",
            },
            headline: self.headline.clone(),
            sections: sections.map(|(heading, blocks)| Section { heading, blocks }).collect(),
        }
    }

    fn why(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        if !self.reasons.is_empty() {
            blocks.push(Block::Lines(self.reasons.iter().map(|r| r.message.clone()).collect()));
        }
        if !self.audits.is_empty() {
            let rows = self.audits.iter().map(|audit| {
                let state = match (audit.state, audit.severity) {
                    (AuditState::Passed, _) => "passed",
                    (AuditState::NoHistory, _) => "no history yet",
                    (AuditState::NotProven, Severity::Error) => "not proven: holds the file",
                    (AuditState::NotProven, Severity::Warn) => "not proven",
                    (AuditState::Failed, Severity::Error) => "failed: holds the file",
                    (AuditState::Failed, Severity::Warn) => "failed: a warning",
                };
                vec![
                    Cell::Code(audit.id.clone()),
                    Cell::Text(state.to_owned()),
                    Cell::Text(audit.expected.clone()),
                    Cell::Text(audit.found.clone()),
                    Cell::Code(audit.sample.join(", ")),
                ]
            });
            let head = vec!["audit", "state", "expected", "found", "sample"];
            blocks.push(Block::Table { head, rows: rows.collect() });
        }
        if !self.broken.is_empty() {
            let rows = self.broken.iter().map(|b| {
                vec![
                    Cell::Code(b.column.clone()),
                    Cell::Code(b.rule.clone()),
                    Cell::Number(number(b.rows)),
                ]
            });
            let head = vec!["column", "broken rule", "rows"];
            blocks.push(Block::Table { head, rows: rows.collect() });
        }
        blocks
    }

    fn what_to_do(&self) -> Vec<Block> {
        let blocks = self.next.iter().flat_map(|step| {
            let commands = (!step.commands.is_empty()).then(|| Block::Code(step.commands.clone()));
            [Some(Block::Text(step.what.clone())), commands]
        });
        blocks.flatten().collect()
    }

    fn what_was_read(&self) -> Vec<Block> {
        let Coverage { bytes, rows_read, rows_accepted, rows_quarantined } = self.coverage;
        let mut lines = vec![
            format!("{} of {} bytes", number(bytes), number(self.bytes)),
            format!(
                "{} rows read: {} accepted, {} quarantined",
                number(rows_read),
                number(rows_accepted),
                number(rows_quarantined)
            ),
        ];
        if let Some((first, last)) = self.events {
            lines.push(format!("events from {first} to {last}"));
        }
        lines.push(format!("landed {}, staged {:.0}", self.landed_at, self.staged_at));
        lines.push(format!("held against version {} of the contract", self.contract_version));
        lines.push(format!("raw id {}, order {}", self.raw_id, self.order));
        vec![Block::Lines(lines)]
    }

    fn files(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        if !self.partitions.is_empty() {
            let rows = self.partitions.iter().map(|p| {
                let numbers = [p.files, p.rows, p.bytes].map(|n| Cell::Number(number(n)));
                [vec![Cell::Code(p.partition.clone())], numbers.into()].concat()
            });
            let head = vec!["partition", "files", "rows", "bytes"];
            blocks.push(Block::Table { head, rows: rows.collect() });
        }
        if !self.quarantine.is_empty() {
            let what = "The bad rows as they came, and why each is bad:".to_owned();
            blocks.extend([Block::Text(what), Block::Code(self.quarantine.clone())]);
        }
        blocks
    }

    fn columns(&self) -> Vec<Block> {
        let Some(profile) = self.profile.as_ref().filter(|p| !p.columns.is_empty()) else {
            return Vec::new();
        };
        let head = [
            "column",
            "values",
            "nulls",
            "distinct",
            "min",
            "max",
            "mean",
            "median",
            "most frequent",
        ];
        let rows = profile.columns.iter().map(|column| {
            let top = column.top.values.iter().take(3).map(|frequent| {
                let about = if column.top.error > 0.0 { "≈" } else { "" };
                format!("{} ×{about}{}", frequent.value, number(frequent.count))
            });
            vec![
                Cell::Code(column.path.clone()),
                Cell::Number(number(column.values)),
                Cell::Number(number(column.nulls)),
                Cell::Number(distinct(column)),
                Cell::Code(column.min.clone().unwrap_or_default()),
                Cell::Code(column.max.clone().unwrap_or_default()),
                Cell::Number(column.mean.map(float).unwrap_or_default()),
                Cell::Number(median(column).unwrap_or_default()),
                Cell::Code(top.collect::<Vec<_>>().join(", ")),
            ]
        });
        vec![Block::Table { head: head.into(), rows: rows.collect() }]
    }

    fn unknown(&self) -> Vec<Block> {
        if self.amendments.is_empty() {
            return Vec::new();
        }
        let rows = self.amendments.iter().map(|a| {
            vec![
                Cell::Code(a.pointer.clone()),
                Cell::Code(a.schema.to_string()),
                Cell::Number(number(a.rows)),
                Cell::Code(a.examples.join(", ")),
            ]
        });
        let head = vec!["field", "as it might become", "rows", "such as"];
        vec![Block::Table { head, rows: rows.collect() }]
    }

    fn cost(&self) -> Vec<Block> {
        let Receipt { used, cost_nano_usd, .. } = &self.receipt;
        let spent = used.requests.iter();
        let spent = spent.map(|(kind, count)| format!("{} {kind}", number(*count)));
        let took = format!("{} ms", number(used.duration_ms));
        let cost = format!("{:.6} dollars", cost_nano_usd.total() as f64 / 1e9);
        vec![Block::Lines([cost, took].into_iter().chain(spent).collect())]
    }
}

fn rank(audit: &AuditResult) -> u8 {
    match audit.state {
        AuditState::Failed => 0,
        AuditState::NotProven => 1,
        AuditState::NoHistory => 2,
        AuditState::Passed => 3,
    }
}

fn headline(proposal: &Proposal, decision: Option<&Decision>) -> String {
    let Coverage { rows_read, rows_accepted, rows_quarantined, .. } = proposal.verdict.coverage();
    let why = proposal.verdict.reasons().first().map_or("", |reason| reason.message.as_str());
    match (proposal.verdict.outcome(), decision) {
        (Outcome::Publish, _) if rows_quarantined == 0 => {
            format!("Passed: all {} rows are good.", number(rows_read))
        }
        (Outcome::Publish, _) => format!(
            "Passed: {} of {} rows are good, {} are quarantined.",
            number(rows_accepted),
            number(rows_read),
            number(rows_quarantined)
        ),
        (Outcome::Hold, None) => format!("Held, nothing of it is published: {why}"),
        (Outcome::Hold, Some(decision)) => format!("Held ({why}), then {decision}"),
        (Outcome::Reject, _) => format!("Rejected, it cannot be published: {why}"),
    }
}

fn next(proposal: &Proposal, decision: Option<&Decision>, table: Option<&str>) -> Vec<Step> {
    let Proposal { dataset, raw_id, order, .. } = proposal;
    let step = |what: &str, commands: Vec<String>| Step { what: what.to_owned(), commands };
    let command = |verb: &str| {
        vec![format!("sluicegate held {verb} {dataset} {raw_id} --order {order} --why '…'")]
    };
    let mut steps = Vec::new();
    if let Some(table) = table {
        steps.push(step(
            "Look at its accepted rows, with DuckDB or pyiceberg:",
            vec![
                format!("SELECT * FROM iceberg_scan('{table}');"),
                format!("StaticTable.from_metadata(\"{table}\").scan().to_arrow()"),
            ],
        ));
    }
    match (proposal.verdict.outcome(), decision.map(|d| d.ruling)) {
        (Outcome::Publish, _) => {}
        (Outcome::Hold, None) => {
            steps.push(step("Publish its accepted rows, if they are right:", command("release")));
            steps.push(step("Or say that they are not to be published:", command("reject")));
            steps.push(step(
                "Or correct the file and upload it again under the same name.",
                Vec::new(),
            ));
        }
        (Outcome::Hold, Some(Ruling::Released)) => {}
        (Outcome::Hold, Some(Ruling::Rejected)) | (Outcome::Reject, _) => {
            steps.push(step(
                "Correct the file and upload it again under the same name.",
                Vec::new(),
            ));
        }
    }
    steps
}

fn partitions(proposal: &Proposal) -> Vec<Partition> {
    let mut partitions: Vec<Partition> = Vec::new();
    for file in &proposal.files {
        let name = PartitionBy::path(proposal.partition_by.as_ref(), file.partition);
        let at = partitions.iter().position(|p| p.partition == name).unwrap_or_else(|| {
            partitions.push(Partition { partition: name, files: 0, rows: 0, bytes: 0 });
            partitions.len() - 1
        });
        if let Some(partition) = partitions.get_mut(at) {
            partition.files += 1;
            partition.rows += file.rows;
            partition.bytes += file.bytes;
        }
    }
    partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
    partitions
}

fn distinct(column: &ColumnProfile) -> String {
    let count = format!("{:.0}", column.distinct.estimate);
    let count = count.parse().map_or(count, number);
    if column.distinct.error > 0.0 { format!("≈{count}") } else { count }
}

/// The median of a column, in its own terms: dates and timestamps are summarised as numbers.
fn median(column: &ColumnProfile) -> Option<String> {
    let median = middle(column.quantiles.as_ref()?)?;
    let min = column.min.as_deref().unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, reason = "beyond either end it is no date")]
    let whole = median.round() as i64;
    let text = if min.parse::<Timestamp>().is_ok() {
        Timestamp::from_microsecond(whole).ok()?.to_string()
    } else if min.parse::<jiff::civil::Date>().is_ok() {
        let days = jiff::Span::new().try_days(whole).ok()?;
        jiff::civil::date(1970, 1, 1).checked_add(days).ok()?.to_string()
    } else {
        float(median)
    };
    Some(format!("≈{text}"))
}

/// Where half of the weight lies, between the centroids around it.
fn middle(quantiles: &Quantiles) -> Option<f64> {
    let half = quantiles.centroids.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut before = 0.0;
    let mut last: Option<(f64, f64)> = None;
    for &(mean, weight) in &quantiles.centroids {
        // A centroid stands for the middle of its weight.
        let at = before + weight / 2.0;
        if at >= half {
            return Some(match last {
                Some((left, from)) if at > from => {
                    left + (mean - left) * (half - from) / (at - from)
                }
                _ => mean,
            });
        }
        last = Some((mean, at));
        before += weight;
    }
    last.map(|(mean, _)| mean)
}

/// A count with its thousands apart.
fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number in at most six digits, or in the power of ten that it takes.
fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e12).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = match size {
        s if s >= 1e5 => 0,
        s if s >= 1e2 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn proposal(outcome: &str, reasons: &[&str]) -> Proposal {
        let reasons: Vec<_> =
            reasons.iter().map(|m| json!({"code": "bad_rows", "message": m})).collect();
        let file = |partition: i32, rows: u64| json!({"path": "s3://lake/x", "partition": partition, "rows": rows, "bytes": 1500});
        serde_json::from_value(json!({
            "v": 1, "dataset": "flights", "source": "2013%2F01.csv",
            "raw_id": "20130102T030405Z-0123456789abcdef0123456789abcdef", "order": "e0000000000-c00001-g00001",
            "contract_version": "1.2.0", "partition_by": {"source_id": 11, "name": "time_day", "transform": "day"},
            "sequencer": null, "sha256": null, "bytes": 123_456,
            "verdict": {"outcome": outcome, "reasons": reasons, "coverage":
                {"bytes": 123_456, "rows_read": 1000, "rows_accepted": 400, "rows_quarantined": 600}},
            "audits": [
                {"id": "fine", "severity": "error", "state": "passed", "expected": "rows ≥ 1", "found": "400"},
                {"id": "complete", "severity": "error", "state": "failed", "expected": "completeness of dep_time ≥ 0.95",
                 "found": "0.81", "sample": ["<b>|row 7"]},
            ],
            "profile": {"rows": 400, "columns": [
                {"path": "carrier", "values": 400, "nulls": 0, "min": "<9E>", "max": "YV", "distinct": {"estimate": 16.0, "error": 0.0},
                 "top": {"values": [{"value": "U|A", "count": 1234}], "error": 0.0}},
                {"path": "time", "values": 399, "nulls": 1, "min": "2013-01-01T00:00:00Z", "distinct": {"estimate": 12345.4, "error": 0.01},
                 "quantiles": {"centroids": [[0.0, 1.0], [1e6, 2.0], [9e6, 1.0]], "error": 0.01}},
            ]},
            "event_range": [0, 86_400_000_000_i64], "broken": {"dep time type": 3, "row columns": 590},
            "amendments": [{"pointer": "/tax", "name": "tax", "schema": {"type": "number"}, "rows": 7, "share": 0.1, "examples": ["`1`"]}],
            "files": [file(15_706, 100), file(15_706, 200), file(15_707, 100)],
            "quarantine": ["quarantine/flights/x-0.rows"],
            "receipt": {"duration_ms": 1234, "requests": {"s3:PutObject": 9}}, "staged_at": "2013-01-02T03:04:09Z",
        }))
        .unwrap()
    }

    fn decision(ruling: Ruling) -> Decision {
        let at = "2013-01-03T00:00:00Z".parse().unwrap();
        Decision { v: 1, ruling, by: "ann".into(), why: "<i>outage</i>".into(), at }
    }

    #[test]
    fn a_held_file_says_why_and_what_to_do() {
        let report =
            Report::of(&proposal("hold", &["60 % of the rows are bad"]), None, "s3://lake/");
        assert_eq!(report.headline, "Held, nothing of it is published: 60 % of the rows are bad");
        assert_eq!(
            (report.file.as_str(), report.audits[0].id.as_str()),
            ("2013/01.csv", "complete")
        );
        let broken: Vec<_> =
            report.broken.iter().map(|b| (b.column.as_str(), b.rule.as_str(), b.rows)).collect();
        assert_eq!(broken, [("row", "columns", 590), ("dep time", "type", 3)]);
        let partitions: Vec<_> =
            report.partitions.iter().map(|p| (p.partition.as_str(), p.files, p.rows)).collect();
        assert_eq!(partitions, [("2013-01-01", 2, 300), ("2013-01-02", 1, 100)]);
        let table = "s3://lake/staging/flights/20130102T030405Z-0123456789abcdef0123456789abcdef/e0000000000-c00001-g00001/table";
        assert_eq!(report.table.as_deref(), Some(table));
        let markdown = report.markdown();
        for said in [
            "# flights / 2013/01.csv\n\n**Held, nothing",
            "\n```\nsluicegate held release flights 20130102T030405Z-0123456789abcdef0123456789abcdef --order e0000000000-c00001-g00001 --why '…'\n```\n",
            &format!("\n```\nSELECT * FROM iceberg_scan('{table}');\n"),
            "| `complete` | failed: holds the file | completeness of dep_time ≥ 0.95 | 0.81 | `<b>\\|row 7` |",
            "| `carrier` | 400 | 0 | 16 | `<9E>` | `YV` |  |  | `U\\|A ×1,234` |",
            "| `time` | 399 | 1 | ≈12,345 | `2013-01-01T00:00:00Z` |  |  | ≈1970-01-01T00:00:01Z |  |",
            "1,000 rows read: 400 accepted, 600 quarantined",
            "\n```\ns3://lake/quarantine/flights/x-0.rows\n```\n",
            "| `/tax` | `{\"type\":\"number\"}` | 7 | `` `1` `` |",
            "9 s3:PutObject",
        ] {
            assert!(markdown.contains(said), "{said}\nis not in\n{markdown}");
        }
        let html = report.html();
        assert!(html.contains("<p class=\"headline hold\">Held") && !html.contains("<b>"));
        let order: Vec<_> =
            ["held release", "What was read", "<h2>Files", "<h2>Columns", "<h2>What it cost"]
                .map(|part| html.find(part))
                .into();
        assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
    }

    #[test]
    fn a_decision_is_told_and_asks_for_no_other() {
        let held = proposal("hold", &["too many"]);
        let released = Report::of(&held, Some(&decision(Ruling::Released)), "s3://lake/");
        assert_eq!(released.headline, "Held (too many), then released by ann: <i>outage</i>");
        assert!(!released.markdown().contains("sluicegate held"));
        assert!(!released.html().contains("<i>"));
        let rejected = Report::of(&held, Some(&decision(Ruling::Rejected)), "s3://lake/");
        assert!(rejected.markdown().contains("upload it again"));
    }

    #[test]
    fn what_passed_or_cannot_be_read_is_told_too() {
        let passed =
            Report::of(&proposal("publish", &[]), Some(&decision(Ruling::Rejected)), "s3://lake/");
        assert_eq!(passed.headline, "Passed: 400 of 1,000 rows are good, 600 are quarantined.");
        assert_eq!((passed.decision, passed.table, passed.next), (None, None, vec![]));
        let mut empty = proposal("reject", &["the object is empty"]);
        empty.files.clear();
        let empty = Report::of(&empty, None, "s3://lake/");
        assert_eq!(empty.headline, "Rejected, it cannot be published: the object is empty");
        assert_eq!((empty.table, empty.next.len()), (None, 1));
    }

    #[test]
    fn json_has_all_of_it() {
        let report = Report::of(&proposal("hold", &["x"]), None, "s3://lake/");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["v"].clone(), json["verdict"].clone()), (json!(1), json!("hold")));
        assert_eq!(
            json["next"][1]["commands"][0].as_str(),
            report.next[1].commands.first().map(String::as_str)
        );
        assert_eq!(json["profile"]["columns"][0]["path"], "carrier");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        let floats = [0.0, 0.5, -2.71999, 123.456, 1_234_567.8, 1e300, 2e-9];
        assert_eq!(
            floats.map(float),
            ["0", "0.5", "-2.72", "123.46", "1234568", "1.000e300", "2.000e-9"]
        );
        let digest =
            |centroids: &[(f64, f64)]| Quantiles { centroids: centroids.into(), error: 0.0 };
        assert_eq!(middle(&digest(&[])), None);
        assert_eq!(middle(&digest(&[(7.0, 1.0)])), Some(7.0));
        assert_eq!(middle(&digest(&[(1.0, 1.0), (2.0, 1.0)])), Some(1.5));
        assert_eq!(middle(&digest(&[(1.0, 1.0), (5.0, 1.0), (9.0, 1.0)])), Some(5.0));
    }
}
