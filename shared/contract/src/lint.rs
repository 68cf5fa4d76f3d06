//! From a JSON document to a [`Contract`], or to everything that is wrong with it.

use jiff::SignedDuration;
use serde_json::Value;

use crate::audits;
use crate::datum::Datum;
use crate::model::{
    BadRows, Budget, Compression, Contract, Counterexample, CsvFormat, Encoding, EventTime,
    Freshness, Grain, JsonlFormat, LateFiles, Measure, Metric, ParquetFormat, Reupload, RowFormat,
    Team, UnknownFields,
};
use crate::node::{Finding, Findings, Node};
use crate::pointer::child;
use crate::schema::{Place, Reader};
use crate::types::{Field, Type, columns, declared, is_column_name};

/// Rows longer than this are refused whatever the contract says: a row is held in memory.
const LINE_LIMIT_MAX: u64 = 16 << 20;
const LINE_LIMIT: u64 = 1 << 20;
/// Examples of one kind: each is held against the whole contract.
const EXAMPLE_LIMIT: usize = 200;
/// Findings that are reported.
const FINDING_LIMIT: usize = 200;

pub(crate) fn read(document: &[u8]) -> Result<Contract, Findings> {
    if document.len() as u64 > Contract::SIZE_LIMIT {
        let limit = Contract::SIZE_LIMIT;
        let message =
            format!("the document has {} bytes; a contract has at most {limit}", document.len());
        return Err(Findings::whole(message));
    }
    let text = std::str::from_utf8(document).map_err(|_| Findings::whole("not UTF-8 text"))?;
    let value: Value =
        serde_json::from_str(text).map_err(|e| Findings::whole(format!("not JSON: {e}")))?;
    // A key that comes twice would be half ignored.
    let written =
        Datum::parse(text).map_err(|e| Findings::whole(format!("not a contract: {e}")))?;
    let mut findings = Vec::new();
    rounded(&written, &Datum::from(&value), "", &mut findings);
    let contract = root(&value, &mut findings);
    if let (Some(contract), true) = (&contract, findings.is_empty()) {
        run_examples(contract, &mut findings);
    }
    match contract {
        Some(contract) if findings.is_empty() => Ok(contract),
        _ if findings.is_empty() => Err(Findings::whole("not a contract")),
        _ => {
            // What several references lead to is found once for each.
            let mut seen = std::collections::BTreeSet::new();
            findings.retain(|f| seen.insert((f.pointer.clone(), f.message.clone())));
            findings.truncate(FINDING_LIMIT);
            Err(Findings(findings))
        }
    }
}

/// Refuses numbers that have more digits than are read: a bound would be another than the one that is written.
fn rounded(written: &Datum<'_>, read: &Datum<'_>, pointer: &str, findings: &mut Vec<Finding>) {
    match (written, read) {
        (Datum::Number(written), Datum::Number(read)) if written != read => {
            let message =
                format!("{written} has more digits than a double keeps, which are {read}");
            findings.push(Finding { pointer: pointer.to_owned(), message });
        }
        (Datum::Array(written), Datum::Array(read)) => {
            for (i, (written, read)) in written.iter().zip(read).enumerate() {
                rounded(written, read, &format!("{pointer}/{i}"), findings);
            }
        }
        (Datum::Object(written), Datum::Object(read)) => {
            // Both are in the order of the document.
            for ((name, written), (_, read)) in written.iter().zip(read) {
                rounded(written, read, &child(pointer, name), findings);
            }
        }
        _ => {}
    }
}

fn root(document: &Value, findings: &mut Vec<Finding>) -> Option<Contract> {
    let mut node = Node::new(document.clone(), String::new(), findings);
    let settings = node.take("x-sluicegate");
    if !node.map.contains_key("$schema") {
        node.refuse("$schema", "must be https://json-schema.org/draft/2020-12/schema");
    }
    if node.map.get("type").and_then(Value::as_str) != Some("object") {
        node.refuse("type", "must be \"object\": a row is an object");
    }
    let mut reader = Reader::new(document);
    let row = reader.read(Value::Object(node.map), String::new(), Place::Root, findings);
    let fields = columns(&row, findings);
    let Some(settings) = settings else {
        let message = "is missing: it says version, team and format".to_owned();
        findings.push(Finding { pointer: "/x-sluicegate".to_owned(), message });
        return None;
    };
    let node = Node::new(settings, "/x-sluicegate".to_owned(), findings);
    let mut contract = self::settings(node, &fields, &mut reader)?;
    let about = row.about();
    (contract.title, contract.description) = (about.title, about.description);
    contract.row = row;
    contract.fields = fields;
    Some(contract)
}

fn settings(mut node: Node<'_>, fields: &[Field], reader: &mut Reader<'_>) -> Option<Contract> {
    let version = node.text("version");
    if !version.as_deref().is_some_and(is_version) {
        node.refuse("version", "must be there, as major.minor.patch");
    }
    let team = team(&mut node);
    let format = match node.child("format") {
        Some(node) => self::format(node),
        None => {
            node.refuse(
                "format",
                "must say how rows are written: {\"type\": \"csv\" | \"jsonl\" | \"parquet\"}",
            );
            None
        }
    };
    let event_time = node.child("event_time").and_then(|node| self::event_time(node, fields));
    let key = key(&mut node, fields);
    let mut allowed_lateness = SignedDuration::ZERO;
    let mut late_files = None;
    if let Some(mut node) = node.child("lateness") {
        allowed_lateness = node.duration("allowed").unwrap_or_default();
        let choices = [("publish", LateFiles::Publish), ("hold", LateFiles::Hold)];
        late_files = node.choice("late", &choices);
        node.done("allowed, late");
    }
    let freshness = freshness(&mut node, event_time.is_some());
    let budget = budget(&mut node);
    let bad_rows = bad_rows(&mut node);
    let reupload = node.choice(
        "reupload",
        &[
            ("replace", Reupload::Replace),
            ("append", Reupload::Append),
            ("reject", Reupload::Reject),
        ],
    );
    let unknown_fields = node.choice(
        "unknown_fields",
        &[
            ("keep", UnknownFields::Keep),
            ("drop", UnknownFields::Drop),
            ("reject", UnknownFields::Reject),
        ],
    );
    let metrics = metrics(&mut node, fields, reader);
    let about = audits::About { fields, key: &key, event_time: event_time.as_ref() };
    let audits = audits::read(&mut node, &about);
    let breaking = node.text("breaking");
    if breaking.as_deref().is_some_and(|why| why.trim().is_empty()) {
        node.refuse("breaking", "must say why");
    }
    let examples = examples(&mut node);
    let counterexamples = counterexamples(&mut node);
    let tags = node.names("tags").unwrap_or_default();
    node.done(
        "version, team, tags, format, event_time, key, lateness, freshness, budget, bad_rows, reupload, unknown_fields, metrics, audits, breaking, examples, counterexamples",
    );
    Some(Contract {
        title: None,
        description: None,
        version: version?,
        team,
        tags,
        format: format?,
        event_time,
        key,
        allowed_lateness,
        late_files: late_files.unwrap_or(LateFiles::Publish),
        freshness,
        budget,
        bad_rows,
        reupload: reupload.unwrap_or(Reupload::Replace),
        unknown_fields: unknown_fields.unwrap_or(UnknownFields::Keep),
        metrics,
        audits,
        breaking,
        examples,
        counterexamples,
        row: crate::schema::Schema::default(),
        fields: Vec::new(),
    })
}

fn team(node: &mut Node<'_>) -> Team {
    let mut team = Team::default();
    if let Some(mut node) = node.child("team") {
        team.name = node.text("name").unwrap_or_default();
        team.contact = node.text("contact");
        team.effective =
            node.take_as("effective", "a date (YYYY-MM-DD)", |v| v.as_str()?.parse().ok());
        node.done("name, contact, effective");
    }
    if team.name.is_empty() {
        node.refuse("team", "must name who answers for the data: {\"name\": …}");
    }
    team
}

fn key(node: &mut Node<'_>, fields: &[Field]) -> Vec<usize> {
    let names = node.names("key").unwrap_or_default();
    let mut key = Vec::with_capacity(names.len());
    for name in names {
        match fields.iter().position(|f| f.name == name) {
            Some(at) => {
                let plain = fields.get(at).is_some_and(|f| {
                    f.always_present()
                        && !matches!(f.ty, Type::Struct(_) | Type::List(_) | Type::Json)
                });
                if !plain {
                    node.refuse("key", format!("`{name}` must be required, not null and a scalar"));
                }
                key.push(at);
            }
            None => node.refuse("key", format!("`{name}` is not a column")),
        }
    }
    key
}

fn freshness(node: &mut Node<'_>, timed: bool) -> Freshness {
    let mut freshness = Freshness::default();
    let Some(mut node) = node.child("freshness") else { return freshness };
    freshness.warn_after = node.duration("warn_after");
    freshness.error_after = node.duration("error_after");
    if let (Some(warn), Some(error)) = (freshness.warn_after, freshness.error_after)
        && warn > error
    {
        node.refuse("warn_after", "must not be longer than error_after");
    }
    if !timed {
        node.refuse("", "is measured by event_time, which is missing");
    }
    node.done("warn_after, error_after");
    freshness
}

fn budget(node: &mut Node<'_>) -> Budget {
    let Some(mut node) = node.child("budget") else { return Budget::default() };
    let mut dollars = |key: &str| {
        let kind = "dollars, more than 0 and with at most nine digits behind the point";
        node.take_as(key, kind, |value| match Datum::from(value) {
            Datum::Number(number) => {
                let nano = u64::try_from(number.to_decimal(9)?).ok()?;
                Some(nano).filter(|nano| *nano > 0)
            }
            _ => None,
        })
    };
    let budget =
        Budget { fresh: dollars("fresh_usd_per_month"), replays: dollars("replay_usd_per_month") };
    node.done("fresh_usd_per_month, replay_usd_per_month");
    budget
}

fn bad_rows(node: &mut Node<'_>) -> BadRows {
    let mut bad_rows = BadRows { max_fraction: 0.0, max_count: None };
    let Some(mut node) = node.child("bad_rows") else { return bad_rows };
    let fraction = node.take_as("max_fraction", "a number from 0 to 1", |v| {
        v.as_f64().filter(|f| (0.0..=1.0).contains(f))
    });
    bad_rows.max_count = node.count("max_count");
    // A count alone is a limit of its own.
    let otherwise = if bad_rows.max_count.is_some() { 1.0 } else { 0.0 };
    bad_rows.max_fraction = fraction.unwrap_or(otherwise);
    node.done("max_fraction, max_count");
    bad_rows
}

/// Makes a measure of a column.
type OfColumn = fn(usize) -> Measure;

fn metrics(node: &mut Node<'_>, fields: &[Field], reader: &mut Reader<'_>) -> Vec<Metric> {
    let Some(mut node) = node.child("metrics") else { return Vec::new() };
    let names: Vec<_> = node.map.keys().cloned().collect();
    let mut metrics = Vec::with_capacity(names.len());
    for name in names {
        if !is_column_name(&name) {
            node.refuse(&name, "a metric's name is one of a-z, 0-9 and _");
        }
        let Some(mut node) = node.child(&name) else { continue };
        let (description, unit) = (node.text("description"), node.text("unit"));
        let mut measures = Vec::new();
        if let Some(value) = node.take("share_of") {
            let pointer = node.at("share_of");
            let schema = reader.read(value, pointer, Place::Condition, node.findings);
            declared(&schema, fields, node.findings);
            measures.push(Measure::ShareOf(Box::new(schema)));
        }
        let of_columns: [(&str, OfColumn); 4] = [
            ("sum_of", Measure::SumOf),
            ("mean_of", Measure::MeanOf),
            ("min_of", Measure::MinOf),
            ("max_of", Measure::MaxOf),
        ];
        for (keyword, build) in of_columns {
            let Some(column) = node.text(keyword) else { continue };
            let numeric = |f: &Field| {
                let kinds = (&f.ty, f.name == column);
                matches!(
                    kinds,
                    (
                        Type::Int | Type::Long | Type::Float | Type::Double | Type::Decimal { .. },
                        true
                    )
                )
            };
            match fields.iter().position(numeric) {
                Some(at) => measures.push(build(at)),
                None => node.refuse(keyword, format!("`{column}` is not a numeric column")),
            }
        }
        node.done("description, unit, and one of share_of, sum_of, mean_of, min_of, max_of");
        match (measures.pop(), measures.is_empty()) {
            (Some(measure), true) => metrics.push(Metric { name, description, unit, measure }),
            _ => node.refuse("", "must say one of share_of, sum_of, mean_of, min_of, max_of"),
        }
    }
    metrics
}

fn examples(node: &mut Node<'_>) -> Vec<Datum<'static>> {
    let what = format!("a list of at most {EXAMPLE_LIMIT} rows");
    let few = |v: &Value| v.as_array().filter(|rows| rows.len() <= EXAMPLE_LIMIT).cloned();
    let rows = node.take_as("examples", &what, few);
    rows.unwrap_or_default().iter().map(Datum::from).collect()
}

fn counterexamples(node: &mut Node<'_>) -> Vec<Counterexample> {
    let what = format!("a list of at most {EXAMPLE_LIMIT} bad rows");
    let few = |v: &Value| v.as_array().filter(|rows| rows.len() <= EXAMPLE_LIMIT).cloned();
    let rows = node.take_as("counterexamples", &what, few);
    let at = node.at("counterexamples");
    let mut read = Vec::new();
    for (i, value) in rows.unwrap_or_default().into_iter().enumerate() {
        let mut node = Node::new(value, format!("{at}/{i}"), node.findings);
        let row = node.take("row").map(|v| Datum::from(&v));
        let (at, rule) = (node.text("at"), node.text("rule"));
        node.done("row, at, rule");
        match (row, at, rule) {
            (Some(row), Some(at), Some(rule)) => read.push(Counterexample { row, at, rule }),
            _ => {
                node.refuse("", "must say the row, and at which JSON pointer it breaks which rule")
            }
        }
    }
    read
}

/// A contract that its own examples contradict is wrong, one way or the other.
fn run_examples(contract: &Contract, findings: &mut Vec<Finding>) {
    for (i, row) in contract.examples.iter().enumerate() {
        if let Some(fault) = contract.explain(row).first() {
            findings.push(Finding {
                pointer: format!("/x-sluicegate/examples/{i}"),
                message: format!("is bad: {} {}", fault.pointer, fault.demand),
            });
        }
    }
    for (i, bad) in contract.counterexamples.iter().enumerate() {
        let faults = contract.explain(&bad.row);
        if !faults.iter().any(|f| f.pointer == bad.at && f.rule == bad.rule) {
            let found: Vec<_> =
                faults.iter().map(|f| format!("{} {}", f.pointer, f.rule)).collect();
            let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
            findings.push(Finding {
                pointer: format!("/x-sluicegate/counterexamples/{i}"),
                message: format!("must break {} {}, breaks {found}", bad.at, bad.rule),
            });
        }
    }
}

pub(crate) fn is_version(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let whole = |p: &&str| p.parse::<u32>().is_ok_and(|n| n.to_string() == **p);
    parts.len() == 3 && parts.iter().all(whole)
}

fn format(mut node: Node<'_>) -> Option<RowFormat> {
    enum Kind {
        Csv,
        Jsonl,
        Parquet,
    }
    let kinds = [("csv", &Kind::Csv), ("jsonl", &Kind::Jsonl), ("parquet", &Kind::Parquet)];
    let kind = node.choice("type", &kinds);
    let compressions = [
        ("detect", Compression::Detect),
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ];
    // The pages of Parquet say themselves how they are packed.
    let compression = match kind {
        Some(Kind::Parquet) => None,
        _ => node.choice("compression", &compressions),
    };
    let compression = compression.unwrap_or(Compression::Detect);
    let limit = node.count("line_limit").unwrap_or(LINE_LIMIT);
    if !(1..=LINE_LIMIT_MAX).contains(&limit) {
        node.refuse("line_limit", format!("must be 1 to {LINE_LIMIT_MAX} bytes"));
    }
    let line_limit = usize::try_from(limit).ok()?;
    match kind {
        Some(Kind::Csv) => {
            let mut character = |key: &str, otherwise: u8| {
                let found = node.take_as(key, "one ASCII character", |v| {
                    let bytes = v.as_str()?.as_bytes();
                    let plain = |b: &&u8| b.is_ascii() && !matches!(**b, b'\r' | b'\n' | 0);
                    bytes.first().filter(plain).filter(|_| bytes.len() == 1).copied()
                });
                found.unwrap_or(otherwise)
            };
            let (delimiter, quote) = (character("delimiter", b','), character("quote", b'"'));
            if delimiter == quote {
                node.refuse("delimiter", "must not be the quote");
            }
            let header = node.flag("header").unwrap_or(true);
            let encodings = [("utf-8", Encoding::Utf8), ("latin-1", Encoding::Latin1)];
            let encoding = node.choice("encoding", &encodings).unwrap_or(Encoding::Utf8);
            let null_tokens = node.names("null_tokens").unwrap_or_else(|| vec![String::new()]);
            node.done(
                "type, delimiter, quote, header, encoding, null_tokens, line_limit, compression",
            );
            Some(RowFormat::Csv(CsvFormat {
                delimiter,
                quote,
                header,
                encoding,
                null_tokens,
                line_limit,
                compression,
            }))
        }
        Some(Kind::Jsonl) => {
            node.done("type, line_limit, compression");
            Some(RowFormat::Jsonl(JsonlFormat { line_limit, compression }))
        }
        Some(Kind::Parquet) => {
            node.done("type, line_limit");
            Some(RowFormat::Parquet(ParquetFormat { line_limit }))
        }
        None => {
            node.refuse("type", "must be csv, jsonl or parquet");
            None
        }
    }
}

fn event_time(mut node: Node<'_>, fields: &[Field]) -> Option<EventTime> {
    let column = node.text("column").unwrap_or_default();
    let grains = [
        ("hour", Grain::Hour),
        ("day", Grain::Day),
        ("month", Grain::Month),
        ("none", Grain::None),
    ];
    let grain = node.choice("grain", &grains).unwrap_or(Grain::Day);
    let max_ahead = node.duration("max_ahead").unwrap_or(SignedDuration::from_hours(24));
    node.done("column, grain, max_ahead");
    let Some(at) = fields.iter().position(|f| f.name == column) else {
        node.refuse("column", format!("`{column}` is not a column"));
        return None;
    };
    let field = fields.get(at)?;
    if !matches!(field.ty, Type::Date | Type::Timestamp) {
        node.refuse("column", format!("`{column}` must have format date or date-time"));
    }
    if !field.always_present() {
        node.refuse("column", format!("`{column}` must be required and not null"));
    }
    if let Some(c) = field.classification.filter(|c| c.is_redacted()) {
        let message =
            format!("`{column}` is {}: partitions and reports show when rows happened", c.name());
        node.refuse("column", message);
    }
    let partitions = grain.partition_name(&column);
    if let Some(name) = partitions.filter(|name| fields.iter().any(|f| f.name == *name)) {
        node.refuse("column", format!("its partitions are called `{name}`, as a column is"));
    }
    if grain == Grain::Hour && field.ty == Type::Date {
        node.refuse("grain", format!("`{column}` is a date: it has no hours"));
    }
    Some(EventTime { field: at, grain, max_ahead })
}
