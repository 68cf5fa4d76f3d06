//! From a JSON document to a [`Contract`], or to everything that is wrong with it.
//!
//! The reader is the linter: each keyword is taken off the object as it is understood, and what is left over is
//! refused. So nothing can be accepted silently. Nested types, applicators (`anyOf`, `if`, …) and `$ref` have their
//! place in [`property`]; until they are understood they are left over, and refused.

use std::fmt;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use regex::RegexBuilder;
use serde_json::{Map, Value};

use crate::model::{
    Allowed, BadRows, Bound, Compression, Contract, CsvFormat, EventTime, Field, Format, Grain,
    JsonlFormat, Kind, Reupload, Rule, Team, UnknownFields,
};

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// JSON pointer (RFC 6901) to the place.
    pub pointer: String,
    pub message: String,
}

/// All that is wrong with a document; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Findings(pub Vec<Finding>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let at = if finding.pointer.is_empty() { "(root)" } else { &finding.pointer };
            write!(f, "{at}: {}", finding.message)?;
        }
        Ok(())
    }
}

/// The most columns that are read at all.
const FIELD_LIMIT: usize = 2000;
/// Compiled size of one pattern.
const PATTERN_LIMIT: usize = 1 << 20;
/// Rows longer than this are refused whatever the contract says: a row is held in memory.
const LINE_LIMIT_MAX: u64 = 16 << 20;
const LINE_LIMIT: u64 = 1 << 20;
/// Keywords that say something to people only.
const ANNOTATIONS: [&str; 7] =
    ["title", "description", "examples", "deprecated", "default", "$comment", "$id"];

pub(crate) fn read(document: &[u8]) -> Result<Contract, Findings> {
    let refuse = |message: String| Findings(vec![Finding { pointer: String::new(), message }]);
    if document.len() as u64 > Contract::SIZE_LIMIT {
        return Err(refuse(format!(
            "the document has {} bytes; a contract has at most {}",
            document.len(),
            Contract::SIZE_LIMIT
        )));
    }
    let value: Value =
        serde_json::from_slice(document).map_err(|e| refuse(format!("not JSON: {e}")))?;
    let mut findings = Vec::new();
    let contract = root(Node::new(value, String::new(), &mut findings));
    match contract {
        Some(contract) if findings.is_empty() => Ok(contract),
        _ if findings.is_empty() => Err(refuse("not a contract".to_owned())),
        _ => Err(Findings(findings)),
    }
}

/// A JSON object that is being read: keywords are taken off, and [`Node::done`] refuses the rest.
struct Node<'a> {
    map: Map<String, Value>,
    pointer: String,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Node<'a> {
    fn new(value: Value, pointer: String, findings: &'a mut Vec<Finding>) -> Self {
        let map = match value {
            Value::Object(map) => map,
            other => {
                let message = format!("must be an object, is {}", brief(&other));
                findings.push(Finding { pointer: pointer.clone(), message });
                Map::new()
            }
        };
        Self { map, pointer, findings }
    }

    fn at(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"))
    }

    fn refuse(&mut self, key: &str, message: impl Into<String>) {
        let pointer = if key.is_empty() { self.pointer.clone() } else { self.at(key) };
        self.findings.push(Finding { pointer, message: message.into() });
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key)
    }

    fn child(&mut self, key: &str) -> Option<Node<'_>> {
        let value = self.take(key)?;
        let pointer = self.at(key);
        Some(Node::new(value, pointer, self.findings))
    }

    /// A value of one kind, or a finding.
    fn take_as<T>(
        &mut self,
        key: &str,
        kind: &str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let found = convert(&value);
        if found.is_none() {
            self.refuse(key, format!("must be {kind}, is {}", brief(&value)));
        }
        found
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.take_as(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    fn count(&mut self, key: &str) -> Option<u64> {
        self.take_as(key, "a whole number, 0 or more", Value::as_u64)
    }

    /// One of a few words, each with its meaning.
    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.take_as(key, &format!("one of {}", words.join(", ")), |v| {
            let word = v.as_str()?;
            choices.iter().find(|(w, _)| *w == word).map(|(_, meaning)| *meaning)
        })
    }

    fn duration(&mut self, key: &str) -> Option<SignedDuration> {
        self.take_as(key, "an ISO 8601 duration of days or less, such as P3D or PT1H", |v| {
            let span: Span = v.as_str()?.parse().ok()?;
            let days = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
            (!days.is_negative()).then_some(days)
        })
    }

    fn annotations(&mut self) -> (Option<String>, Option<String>) {
        let (title, description) = (self.text("title"), self.text("description"));
        for key in ANNOTATIONS {
            self.take(key);
        }
        (title, description)
    }

    /// Refuses every keyword that nobody took.
    fn done(&mut self, hint: impl Fn(&str) -> &'static str) {
        let left: Vec<_> = self.map.keys().cloned().collect();
        for key in left {
            let message = format!("`{key}` {}", hint(&key));
            self.refuse(&key, message);
        }
    }
}

/// A value cut short for a message.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        None => text,
        Some(_) => format!("{}…", text.chars().take(60).collect::<String>()),
    }
}

fn root(mut node: Node<'_>) -> Option<Contract> {
    let (title, description) = node.annotations();
    match node.text("$schema").as_deref() {
        Some("https://json-schema.org/draft/2020-12/schema") => {}
        _ => node.refuse("$schema", "must be https://json-schema.org/draft/2020-12/schema"),
    }
    if node.text("type").as_deref() != Some("object") {
        node.refuse("type", "must be \"object\": a row is an object");
    }
    let required = node
        .take_as("required", "a list of property names", |v| {
            let names = v.as_array()?.iter().map(|n| n.as_str().map(str::to_owned));
            names.collect::<Option<Vec<_>>>()
        })
        .unwrap_or_default();
    let fields = properties(&mut node, &required);
    for name in &required {
        if !fields.iter().any(|f| f.source == *name) {
            node.refuse("required", format!("`{name}` is not among the properties"));
        }
    }
    let settings = match node.child("x-sluicegate") {
        Some(settings) => self::settings(settings, &fields),
        None => {
            node.refuse("x-sluicegate", "is missing: it says version, team and format");
            None
        }
    };
    node.done(outside_the_subset);
    let settings = settings?;
    Some(Contract {
        title,
        description,
        version: settings.version,
        team: settings.team,
        format: settings.format,
        event_time: settings.event_time,
        allowed_lateness: settings.allowed_lateness,
        bad_rows: settings.bad_rows,
        reupload: settings.reupload,
        unknown_fields: settings.unknown_fields,
        fields,
    })
}

/// What to write instead of a keyword that is not understood.
fn outside_the_subset(key: &str) -> &'static str {
    match key {
        "additionalProperties" | "unevaluatedProperties" | "patternProperties" => {
            "is outside the subset: say unknown_fields in x-sluicegate"
        }
        "$ref" | "$defs" | "$dynamicRef" | "$anchor" => {
            "is outside the subset: write the schema out where it is used"
        }
        "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" => {
            "is outside the subset: say it with the type, bounds or enum of one property"
        }
        "items" | "prefixItems" | "contains" | "properties" => {
            "is outside the subset: a property is a scalar"
        }
        _ => "is not a keyword of the subset",
    }
}

struct Settings {
    version: String,
    team: Team,
    format: Format,
    event_time: Option<EventTime>,
    allowed_lateness: SignedDuration,
    bad_rows: BadRows,
    reupload: Reupload,
    unknown_fields: UnknownFields,
}

fn settings(mut node: Node<'_>, fields: &[Field]) -> Option<Settings> {
    let version = node.text("version");
    if !version.as_deref().is_some_and(is_version) {
        node.refuse("version", "must be there, as major.minor.patch");
    }
    let mut team = Team::default();
    if let Some(mut node) = node.child("team") {
        team.name = node.text("name").unwrap_or_default();
        team.contact = node.text("contact");
        node.done(|_| "is not known here: name, contact");
    }
    if team.name.is_empty() {
        node.refuse("team", "must name who answers for the data: {\"name\": …}");
    }
    let format = match node.child("format") {
        Some(node) => self::format(node),
        None => {
            node.refuse("format", "must say how rows are written: {\"type\": \"csv\" | \"jsonl\"}");
            None
        }
    };
    let event_time = node.child("event_time").and_then(|node| self::event_time(node, fields));
    let mut allowed_lateness = SignedDuration::ZERO;
    if let Some(mut node) = node.child("lateness") {
        allowed_lateness = node.duration("allowed").unwrap_or_default();
        node.done(|_| "is not known here: allowed");
    }
    let mut bad_rows = BadRows { max_fraction: 0.0 };
    if let Some(mut node) = node.child("bad_rows") {
        let fraction = node.take_as("max_fraction", "a number from 0 to 1", |v| {
            v.as_f64().filter(|f| (0.0..=1.0).contains(f))
        });
        bad_rows.max_fraction = fraction.unwrap_or_default();
        node.done(|_| "is not known here: max_fraction");
    }
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
        &[("drop", UnknownFields::Drop), ("reject", UnknownFields::Reject)],
    );
    node.take("tags");
    node.done(|_| "is not known here: version, team, tags, format, event_time, lateness, bad_rows, reupload, unknown_fields");
    Some(Settings {
        version: version?,
        team,
        format: format?,
        event_time,
        allowed_lateness,
        bad_rows,
        reupload: reupload.unwrap_or(Reupload::Replace),
        unknown_fields: unknown_fields.unwrap_or(UnknownFields::Drop),
    })
}

fn is_version(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let whole = |p: &&str| p.parse::<u32>().is_ok_and(|n| n.to_string() == **p);
    parts.len() == 3 && parts.iter().all(whole)
}

fn format(mut node: Node<'_>) -> Option<Format> {
    let compressions = [
        ("detect", Compression::Detect),
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ];
    let compression = node.choice("compression", &compressions).unwrap_or(Compression::Detect);
    let limit = node.count("line_limit").unwrap_or(LINE_LIMIT);
    if !(1..=LINE_LIMIT_MAX).contains(&limit) {
        node.refuse("line_limit", format!("must be 1 to {LINE_LIMIT_MAX} bytes"));
    }
    let line_limit = usize::try_from(limit).ok()?;
    let csv = node.choice("type", &[("csv", true), ("jsonl", false)]);
    match csv {
        Some(true) => {
            let delimiter = node.take_as("delimiter", "one ASCII character", |v| {
                let bytes = v.as_str()?.as_bytes();
                let plain = |b: &&u8| b.is_ascii() && !matches!(**b, b'"' | b'\r' | b'\n');
                bytes.first().filter(plain).filter(|_| bytes.len() == 1).copied()
            });
            if node.take_as("header", "true", Value::as_bool) == Some(false) {
                node.refuse("header", "must be true: columns are matched by name, not by position");
            }
            let null_tokens = node.take_as("null_tokens", "a list of strings", |v| {
                let tokens = v.as_array()?.iter().map(|t| t.as_str().map(str::to_owned));
                tokens.collect::<Option<Vec<_>>>()
            });
            node.done(|_| "is not known here: type, delimiter, header, null_tokens, line_limit, compression");
            Some(Format::Csv(CsvFormat {
                delimiter: delimiter.unwrap_or(b','),
                null_tokens: null_tokens.unwrap_or_else(|| vec![String::new()]),
                line_limit,
                compression,
            }))
        }
        Some(false) => {
            node.done(|_| "is not known here: type, line_limit, compression");
            Some(Format::Jsonl(JsonlFormat { line_limit, compression }))
        }
        None => {
            node.refuse("type", "must be csv or jsonl");
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
    node.done(|_| "is not known here: column, grain, max_ahead");
    let Some(at) = fields.iter().position(|f| f.name == column) else {
        node.refuse("column", format!("`{column}` is not a column"));
        return None;
    };
    let field = fields.get(at)?;
    if !matches!(field.kind, Kind::Date | Kind::DateTime) {
        node.refuse("column", format!("`{column}` must have format date or date-time"));
    }
    if !field.always_present() {
        node.refuse("column", format!("`{column}` must be required and not null"));
    }
    if grain == Grain::Hour && field.kind == Kind::Date {
        node.refuse("grain", format!("`{column}` is a date: it has no hours"));
    }
    Some(EventTime { field: at, grain, max_ahead })
}

fn properties(node: &mut Node<'_>, required: &[String]) -> Vec<Field> {
    let Some(mut node) = node.child("properties") else {
        node.refuse("properties", "is missing: it says the columns");
        return Vec::new();
    };
    let mut fields: Vec<Field> = Vec::new();
    let names: Vec<_> = node.map.keys().cloned().collect();
    if names.is_empty() || names.len() > FIELD_LIMIT {
        node.refuse("", format!("has {} properties; 1 to {FIELD_LIMIT} it is", names.len()));
        return fields;
    }
    for name in names {
        let is_required = required.contains(&name);
        let Some(field) = node.child(&name).and_then(|p| property(p, name.clone(), is_required))
        else {
            continue;
        };
        if fields.iter().any(|f| f.name == field.name) {
            node.refuse(&name, format!("two properties have the column name `{}`", field.name));
        }
        fields.push(field);
    }
    fields
}

fn property(mut node: Node<'_>, source: String, required: bool) -> Option<Field> {
    let (_, description) = node.annotations();
    let (mut unit, mut renamed) = (None, None);
    if let Some(mut node) = node.child("x-sluicegate") {
        (unit, renamed) = (node.text("unit"), node.text("name"));
        node.done(|_| "is not known here: name, unit");
    }
    let name = renamed.unwrap_or_else(|| source.clone());
    if name.starts_with('_') {
        node.refuse("", format!("`{name}`: column names that begin with _ are reserved"));
    } else if !is_column_name(&name) {
        node.refuse(
            "",
            format!(
                "`{name}` is no column name: give it one of a-z, 0-9 and _ as x-sluicegate.name"
            ),
        );
    }
    let (kind, null_typed) = kind(&mut node)?;
    let (rules, null_allowed) = rules(&mut node, kind);
    node.done(outside_the_subset);
    let nullable = null_typed && null_allowed;
    Some(Field { source, name, kind, nullable, required, rules, description, unit })
}

fn is_column_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The column's kind, and whether `null` is among the types.
fn kind(node: &mut Node<'_>) -> Option<(Kind, bool)> {
    let types = node.take_as("type", "a type or a list of types", |v| match v {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|t| t.as_str().map(str::to_owned)).collect(),
        _ => None,
    });
    let Some(types) = types else {
        node.refuse("type", "must be there: a column has a type");
        return None;
    };
    let mut names: Vec<&str> = types.iter().map(String::as_str).filter(|t| *t != "null").collect();
    let null = names.len() < types.len();
    names.sort_unstable();
    let format = node.text("format");
    let kind = match (names.as_slice(), format.as_deref()) {
        (["boolean"], None) => Kind::Boolean,
        (["integer"], None) => Kind::Integer,
        (["number"] | ["integer", "number"], None) => Kind::Number,
        (["string"], None) => Kind::String,
        (["string"], Some("date")) => Kind::Date,
        (["string"], Some("date-time")) => Kind::DateTime,
        (["string"], Some(other)) => {
            node.refuse("format", format!("`{other}` is not one of date, date-time"));
            return None;
        }
        (_, Some(_)) => {
            node.refuse("format", "is for strings");
            return None;
        }
        _ => {
            let listed = types.join(", ");
            node.refuse(
                "type",
                format!(
                    "[{listed}]: one of boolean, integer, number, string, with or without null"
                ),
            );
            return None;
        }
    };
    Some((kind, null))
}

/// The checks of one property, and whether `enum` and `const` leave null allowed.
fn rules(node: &mut Node<'_>, kind: Kind) -> (Vec<Rule>, bool) {
    let mut rules = Vec::new();
    let mut null_allowed = true;
    for keyword in ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"] {
        let Some(value) = node.take_as(keyword, "a number", |v| v.is_number().then(|| v.clone()))
        else {
            continue;
        };
        let lower = keyword.to_ascii_lowercase().ends_with("minimum");
        let exclusive = keyword.starts_with("exclusive");
        let bound = match kind {
            Kind::Integer => integer_bound(&value, lower, exclusive).map(Bound::Integer),
            Kind::Number => value.as_f64().map(|value| Bound::Number { value, exclusive }),
            _ => None,
        };
        let written = value.to_string();
        match bound {
            Some(bound) if lower => rules.push(Rule::Minimum { keyword, bound, written }),
            Some(bound) => rules.push(Rule::Maximum { keyword, bound, written }),
            None => node.refuse(keyword, "is for integers and numbers, within their range"),
        }
    }
    for (keyword, rule) in
        [("minLength", Rule::MinLength as fn(usize) -> Rule), ("maxLength", Rule::MaxLength)]
    {
        if let Some(length) = node.count(keyword).and_then(|n| usize::try_from(n).ok()) {
            match kind {
                Kind::String => rules.push(rule(length)),
                _ => node.refuse(keyword, "is for strings without a format"),
            }
        }
    }
    if let Some(pattern) = node.text("pattern") {
        match RegexBuilder::new(&pattern).size_limit(PATTERN_LIMIT).build() {
            Ok(regex) if kind == Kind::String => rules.push(Rule::Pattern(regex)),
            Ok(_) => node.refuse("pattern", "is for strings without a format"),
            Err(error) => {
                let reason = error.to_string();
                let last = reason.lines().last().unwrap_or_default().trim().to_owned();
                node.refuse(
                    "pattern",
                    format!("is not of the linear-time kind that we run: {last}"),
                );
            }
        }
    }
    for keyword in ["enum", "const"] {
        let Some(value) = node.take(keyword) else { continue };
        let written = match &value {
            Value::Array(values) if keyword == "enum" => {
                values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        let values = match value {
            Value::Array(values) if keyword == "enum" => values,
            _ if keyword == "enum" => {
                node.refuse(keyword, "must be a list of values");
                continue;
            }
            one => vec![one],
        };
        let (nulls, values): (Vec<_>, Vec<_>) = values.into_iter().partition(Value::is_null);
        null_allowed &= !nulls.is_empty();
        match allowed(kind, &values) {
            Some(values) => rules.push(Rule::OneOf { keyword, values, written }),
            None => {
                node.refuse(keyword, format!("every value must be {} or null", kind.describe()))
            }
        }
    }
    (rules, null_allowed)
}

/// The whole number that a bound comes to, saturated at the ends of 64 bits only where that changes nothing.
fn integer_bound(value: &Value, lower: bool, exclusive: bool) -> Option<i64> {
    let step = i64::from(exclusive);
    if let Some(whole) = value.as_i64() {
        return if lower { whole.checked_add(step) } else { whole.checked_sub(step) };
    }
    let number = value.as_f64()?;
    let whole = if lower { number.ceil() } else { number.floor() };
    // 2^63 is exact as a double; everything below it in size converts exactly.
    if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "whole, and in range by the line above")]
    let whole_number = whole as i64;
    let step = i64::from(exclusive && whole == number);
    if lower { whole_number.checked_add(step) } else { whole_number.checked_sub(step) }
}

fn allowed(kind: Kind, values: &[Value]) -> Option<Allowed> {
    let strings = || values.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<_>>();
    match kind {
        Kind::Boolean => {
            values.iter().map(Value::as_bool).collect::<Option<_>>().map(Allowed::Booleans)
        }
        Kind::Integer => {
            values.iter().map(Value::as_i64).collect::<Option<_>>().map(Allowed::Integers)
        }
        Kind::Number => {
            values.iter().map(Value::as_f64).collect::<Option<_>>().map(Allowed::Numbers)
        }
        Kind::String => strings().map(Allowed::Strings),
        Kind::Date | Kind::DateTime => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flights() -> Value {
        serde_json::from_str(include_str!("../../../examples/flights/contract.json")).unwrap()
    }

    fn findings(document: &Value) -> Vec<(String, String)> {
        match Contract::parse(document.to_string().as_bytes()) {
            Ok(_) => Vec::new(),
            Err(found) => found.0.into_iter().map(|f| (f.pointer, f.message)).collect(),
        }
    }

    fn pointers(document: &Value) -> Vec<String> {
        findings(document).into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn the_example_reads_as_it_is_written() {
        let contract = Contract::parse(flights().to_string().as_bytes()).unwrap();
        assert_eq!(contract.fields.len(), 19);
        assert_eq!(contract.version, "1.0.0");
        assert_eq!(contract.allowed_lateness, SignedDuration::from_hours(72));
        assert_eq!(contract.event_field().unwrap().name, "time_hour");
        let by_name = |n: &str| contract.fields.iter().find(|f| f.name == n).unwrap();
        assert!(by_name("dep_time").nullable && !by_name("dep_time").required);
        assert!(by_name("year").always_present());
        assert_eq!(by_name("dep_delay").unit.as_deref(), Some("min"));
    }

    #[test]
    fn every_keyword_that_is_not_understood_is_refused_at_its_place() {
        let mut document = flights();
        document["anyOf"] = json!([]);
        document["additionalProperties"] = json!(false);
        document["properties"]["year"]["multipleOf"] = json!(2);
        document["properties"]["day"]["$ref"] = json!("#/$defs/day");
        document["x-sluicegate"]["colour"] = json!("blue");
        document["x-sluicegate"]["format"]["quote"] = json!("'");
        let found = pointers(&document);
        for pointer in [
            "/anyOf",
            "/additionalProperties",
            "/properties/year/multipleOf",
            "/properties/day/$ref",
            "/x-sluicegate/colour",
            "/x-sluicegate/format/quote",
        ] {
            assert!(found.iter().any(|p| p == pointer), "{pointer} in {found:?}");
        }
        assert_eq!(found.len(), 6);
    }

    #[test]
    fn bad_settings_are_refused_at_their_place() {
        let cases: Vec<(&str, Value)> = vec![
            ("/x-sluicegate/version", json!("1.0")),
            ("/x-sluicegate/team/name", json!(7)),
            ("/x-sluicegate/format/type", json!("xml")),
            ("/x-sluicegate/format/delimiter", json!("\"")),
            ("/x-sluicegate/format/header", json!(false)),
            ("/x-sluicegate/format/line_limit", json!(1u64 << 40)),
            ("/x-sluicegate/event_time/column", json!("nothing")),
            ("/x-sluicegate/event_time/column", json!("dep_time")),
            ("/x-sluicegate/event_time/max_ahead", json!("P1M")),
            ("/x-sluicegate/lateness/allowed", json!("-P1D")),
            ("/x-sluicegate/bad_rows/max_fraction", json!(1.5)),
            ("/x-sluicegate/reupload", json!("maybe")),
            ("/properties/carrier/pattern", json!("(?=x)")),
            ("/properties/carrier/pattern", json!("((a{1000}){1000}){1000}")),
            ("/properties/carrier/minimum", json!(1)),
            ("/properties/origin/enum", json!(["EWR", 3])),
            ("/properties/year/type", json!(["integer", "string"])),
            ("/properties/year/format", json!("date")),
            ("/properties/year/x-sluicegate", json!({"name": "_year"})),
            ("/required", json!(["nobody"])),
            ("/$schema", json!("http://json-schema.org/draft-07/schema#")),
        ];
        for (pointer, value) in cases {
            let mut document = flights();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value.clone();
            let found = pointers(&document);
            let parent_of_renamed = found.iter().any(|p| pointer.starts_with(p.as_str()));
            assert!(!found.is_empty() && parent_of_renamed, "{pointer} {value}: {found:?}");
        }
    }

    #[test]
    fn hostile_documents_are_refused_at_once() {
        assert!(Contract::parse(b"").is_err());
        assert!(Contract::parse(b"[1,2").is_err());
        assert!(Contract::parse(&vec![b' '; (1 << 20) + 1]).is_err());
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert!(Contract::parse(deep.as_bytes()).is_err());
        let mut wide = flights();
        wide["properties"] = (0..FIELD_LIMIT + 1).map(|i| (format!("c{i}"), json!({}))).collect();
        assert!(pointers(&wide).contains(&"/properties".to_owned()));
    }

    #[test]
    fn integer_bounds_become_whole_numbers() {
        let bound = |v: Value, lower, exclusive| integer_bound(&v, lower, exclusive);
        assert_eq!(bound(json!(1), true, false), Some(1));
        assert_eq!(bound(json!(1), true, true), Some(2));
        assert_eq!(bound(json!(0.5), true, true), Some(1));
        assert_eq!(bound(json!(-0.5), false, false), Some(-1));
        assert_eq!(bound(json!(2.0), false, true), Some(1));
        assert_eq!(bound(json!(i64::MAX), true, true), None);
        assert_eq!(bound(json!(9_007_199_254_740_993_i64), false, false), Some((1 << 53) + 1));
        assert_eq!(bound(json!(1e30), false, false), None);
    }

    #[test]
    fn null_in_the_type_needs_null_in_the_enum() {
        let nullable = |property: Value| {
            let mut document = flights();
            document["properties"]["tailnum"] = property;
            let contract = Contract::parse(document.to_string().as_bytes()).unwrap();
            contract.fields.iter().find(|f| f.source == "tailnum").unwrap().nullable
        };
        assert!(nullable(json!({"type": ["string", "null"]})));
        assert!(!nullable(json!({"type": ["string", "null"], "enum": ["a"]})));
        assert!(nullable(json!({"type": ["string", "null"], "enum": ["a", null]})));
        assert!(!nullable(json!({"type": "string", "enum": ["a", null]})));
    }
}
