//! Open Data Contract Standard v3.1.0 (<https://bitol-io.github.io/open-data-contract-standard/v3.1.0/>), as JSON, which
//! is YAML.
//!
//! A property is called what the domain object calls it; `physicalName` is its column, where that is another. A rule for
//! which the standard has no keyword becomes a `quality` rule of type text, and is among what is unsaid, since no tool
//! holds rows to a text.

use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::{
    Export, Part, Rule, iceberg_type, in_units, lineage, listed, number, object, parts, pretty,
    sentence, some_text, text, unsaid_settings, value, words,
};
use crate::audits::{AuditMeasure, AuditRule};
use crate::expr::Literal;
use crate::format::Format;
use crate::schema::Assertion;
use crate::types::{Field, Type};
use crate::{Contract, Grain, Num, Severity};

/// What the standard has a place for.
const SAID: [&str; 7] = [
    "tags",
    "team/name",
    "team/contact",
    "key",
    "lateness/allowed",
    "freshness/error_after",
    "event_time/column",
];

/// The contract of a dataset as an Open Data Contract.
pub fn odcs(contract: &Contract, dataset: &str) -> Export {
    let mut unsaid = Vec::new();
    let (columns, rules) = parts(contract);
    let mut properties: Vec<Value> =
        columns.iter().map(|part| property(contract, part, &mut unsaid)).collect();
    properties.extend(lineage(contract).map(|(lineage, ty)| {
        let mut map = object([("name", Some(text(lineage.name())))]);
        map.extend(types(&ty, false, Map::new()));
        map.insert("description".to_owned(), text(lineage.description()));
        map.insert("required".to_owned(), json!(lineage.always_present()));
        Value::Object(map)
    }));
    let mut quality = in_words(&rules, "the row", &mut unsaid);
    quality.extend(no_duplicates(contract));
    let mut said: Vec<String> = SAID.iter().map(|key| (*key).to_owned()).collect();
    for rule in &contract.audits {
        let measured = audit(contract, rule);
        said.extend(measured.is_some().then(|| format!("audits/{}", rule.id)));
        let words = || json!({ "type": "text", "description": words::audit(rule) });
        quality.push(measured.unwrap_or_else(words));
    }
    let table = object([
        ("name", Some(text(dataset))),
        ("logicalType", Some(text("object"))),
        ("physicalType", Some(text("table"))),
        ("description", some_text(contract.description.as_ref())),
        ("properties", Some(Value::Array(properties))),
        ("quality", filled(quality)),
    ]);
    if contract.team.contact.is_some() {
        said.push("team/effective".to_owned());
    }
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    unsaid.extend(unsaid_settings(contract, &said));
    let document = object([
        ("apiVersion", Some(text("v3.1.0"))),
        ("kind", Some(text("DataContract"))),
        ("id", Some(text(dataset))),
        ("name", Some(text(contract.title.as_deref().unwrap_or(dataset)))),
        ("version", Some(text(&contract.version))),
        ("status", Some(text("active"))),
        ("tags", (!contract.tags.is_empty()).then(|| json!(contract.tags))),
        ("description", contract.description.as_ref().map(|purpose| json!({ "purpose": purpose }))),
        ("schema", Some(json!([table]))),
        ("team", Some(team(contract))),
        ("slaProperties", filled(service_levels(contract, dataset))),
    ]);
    Export { text: pretty(&Value::Object(document)), unsaid }
}

fn filled(values: Vec<Value>) -> Option<Value> {
    (!values.is_empty()).then_some(Value::Array(values))
}

fn team(contract: &Contract) -> Value {
    let team = &contract.team;
    let member = team.contact.as_ref().map(|contact| {
        object([
            ("username", Some(text(contact))),
            ("role", Some(text("owner"))),
            ("dateIn", team.effective.map(|date| text(date.to_string()))),
        ])
    });
    let members = member.map(|member| json!([member]));
    Value::Object(object([("name", Some(text(&team.name))), ("members", members)]))
}

fn service_levels(contract: &Contract, dataset: &str) -> Vec<Value> {
    let Some(event) = contract.event_field() else { return Vec::new() };
    let element = format!("{dataset}.{}", event.source);
    let level = |property: &str, duration: SignedDuration, description: &str| {
        let units = [(86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds")];
        let (count, unit) = in_units(duration, &units);
        json!({
            "property": property,
            "value": count,
            "unit": unit,
            "element": element,
            "description": description,
        })
    };
    let mut levels = Vec::new();
    if let Some(after) = contract.freshness.error_after {
        let description = "The longest time between the newest event and now.";
        levels.push(level("freshness", after, description));
    }
    if contract.event_time.as_ref().is_some_and(|time| time.grain != Grain::None) {
        // `latency` is the standard's word for freshness, so that this needs one of its own.
        let description = "How long a partition stays open after the newest event.";
        levels.push(level("lateness", contract.allowed_lateness, description));
    }
    levels
}

/// Of a key of several columns, which a property cannot say.
fn no_duplicates(contract: &Contract) -> Option<Value> {
    let key = contract.key.iter().filter_map(|at| contract.fields.get(*at));
    let key: Vec<_> = key.map(|field| field.source.as_str()).collect();
    (key.len() > 1).then(|| {
        json!({
            "metric": "duplicateValues",
            "arguments": { "properties": key },
            "mustBe": 0,
            "description": "No two rows have the same key.",
        })
    })
}

/// An audit as one of the standard's metrics, where it has one.
fn audit(contract: &Contract, rule: &AuditRule) -> Option<Value> {
    let bound = |literal: &Option<Literal>| match literal {
        Some(Literal::Number(n)) => number(*n),
        _ => None,
    };
    let mut quality = match &rule.measure {
        AuditMeasure::RowCount => {
            let (operator, value) = match (bound(&rule.bounds.min), bound(&rule.bounds.max)) {
                (Some(min), Some(max)) if min == max => ("mustBe", min),
                (Some(min), Some(max)) => ("mustBeBetween", json!([min, max])),
                (Some(min), None) => ("mustBeGreaterOrEqualTo", min),
                (None, max) => ("mustBeLessOrEqualTo", max?),
            };
            object([("metric", Some(text("rowCount"))), (operator, Some(value))])
        }
        AuditMeasure::Unique { columns } => {
            let field = |name: &String| contract.fields.iter().find(|f| f.name == *name);
            let properties: Vec<_> = columns.iter().filter_map(field).map(|f| &f.source).collect();
            object([
                ("metric", Some(text("duplicateValues"))),
                ("arguments", Some(json!({ "properties": properties }))),
                ("mustBe", Some(json!(0))),
            ])
        }
        _ => return None,
    };
    let severity = if rule.severity == Severity::Warn { "warning" } else { "error" };
    quality.extend(object([
        ("name", Some(text(&rule.id))),
        ("severity", Some(text(severity))),
        ("description", some_text(rule.description.as_ref())),
    ]));
    Some(Value::Object(quality))
}

fn property(contract: &Contract, part: &Part<'_>, unsaid: &mut Vec<String>) -> Value {
    unsaid.extend(part.presence());
    if *part.ty == Type::Json {
        unsaid.extend(part.beyond_its_type());
    }
    let mut options = Map::new();
    let mut quality = Vec::new();
    let mut left = Vec::new();
    for rule in &part.rules {
        if let Some(valid) = valid_values(part.ty, rule) {
            quality.push(valid);
        } else if !option(&mut options, part.ty, rule.assertion) {
            left.push(Rule { at: rule.at.clone(), assertion: rule.assertion });
        }
    }
    quality.extend(in_words(&left, "it", unsaid));

    let field = part.field;
    let mut map = object([("name", field.map(|field| text(&field.source)))]);
    map.extend(types(part.ty, part.whole, options));
    if let Some(field) = field {
        map.extend(of_field(field));
    }
    map.insert("required".to_owned(), json!(part.always_present()));
    // Only columns are keys and partitions, never their parts.
    let at = contract.fields.iter().position(|f| field.is_some_and(|field| std::ptr::eq(f, field)));
    if let Some(at) = at {
        map.extend(key(contract, at));
    }
    map.extend(object([("quality", filled(quality))]));
    let below: Vec<_> = part.parts.iter().map(|part| property(contract, part, unsaid)).collect();
    match part.ty {
        Type::Struct(_) => map.extend([("properties".to_owned(), Value::Array(below))]),
        Type::List(_) => {
            map.extend(below.into_iter().next().map(|items| ("items".to_owned(), items)))
        }
        _ => {}
    }
    Value::Object(map)
}

fn of_field(field: &Field) -> Map<String, Value> {
    let unit = field.unit.as_ref().map(|unit| json!([{ "property": "unit", "value": unit }]));
    object([
        ("physicalName", (field.name != field.source).then(|| text(&field.name))),
        ("businessName", some_text(field.title.as_ref())),
        ("description", some_text(field.description.as_ref())),
        ("classification", field.classification.map(|c| text(c.name()))),
        ("tags", field.deprecated.then(|| json!(["deprecated"]))),
        ("customProperties", unit),
    ])
}

/// Whether a column is of the key, and whether it makes partitions.
fn key(contract: &Contract, at: usize) -> Map<String, Value> {
    let position = contract.key.iter().position(|k| *k == at).map(|position| position + 1);
    let alone = position.is_some() && contract.key.len() == 1;
    let partitions = contract
        .event_time
        .as_ref()
        .is_some_and(|time| time.field == at && time.grain != Grain::None);
    object([
        ("primaryKey", position.map(|_| json!(true))),
        ("primaryKeyPosition", position.map(|position| json!(position))),
        ("unique", alone.then(|| json!(true))),
        ("partitioned", partitions.then(|| json!(true))),
        ("partitionKeyPosition", partitions.then(|| json!(1))),
    ])
}

/// `logicalType` with its options, and `physicalType`.
fn types(ty: &Type, whole: bool, mut options: Map<String, Value>) -> Map<String, Value> {
    let logical = match ty {
        Type::Boolean => "boolean",
        Type::Int | Type::Long => "integer",
        Type::Float | Type::Double | Type::Decimal { .. } if whole => "integer",
        Type::Float | Type::Double | Type::Decimal { .. } => "number",
        Type::String | Type::Json => "string",
        Type::Date => "date",
        Type::Timestamp => "timestamp",
        Type::Struct(_) => "object",
        Type::List(_) => "array",
    };
    // Where nothing is said, the standard takes 32 bits.
    let width = match ty {
        Type::Int => Some("i32"),
        Type::Long => Some("i64"),
        Type::Float | Type::Double | Type::Decimal { .. } if whole => Some("i128"),
        Type::Float => Some("f32"),
        Type::Double => Some("f64"),
        _ => None,
    };
    if let Some(width) = width {
        options.insert("format".to_owned(), text(width));
    }
    if *ty == Type::Timestamp {
        options.insert("timezone".to_owned(), json!(true));
    }
    object([
        ("logicalType", Some(text(logical))),
        ("logicalTypeOptions", (!options.is_empty()).then_some(Value::Object(options))),
        ("physicalType", Some(text(iceberg_type(ty)))),
    ])
}

/// Says a rule as an option of the logical type, where there is one that is not taken.
fn option(options: &mut Map<String, Value>, ty: &Type, assertion: &Assertion) -> bool {
    use Assertion as A;
    let numeric =
        matches!(ty, Type::Int | Type::Long | Type::Float | Type::Double | Type::Decimal { .. });
    let said = match (ty, assertion) {
        (
            _,
            A::Minimum(n)
            | A::ExclusiveMinimum(n)
            | A::Maximum(n)
            | A::ExclusiveMaximum(n)
            | A::MultipleOf(n),
        ) if numeric => number(*n),
        (Type::String, A::MinLength(n) | A::MaxLength(n)) => Some(json!(n)),
        (Type::List(_), A::MinItems(n) | A::MaxItems(n)) => Some(json!(n)),
        (Type::Struct(_), A::MinProperties(n) | A::MaxProperties(n)) => Some(json!(n)),
        (Type::List(_), A::UniqueItems) => Some(json!(true)),
        (Type::String, A::Pattern(pattern)) => Some(text(pattern.as_str())),
        // A date as text is no other format.
        (Type::String, A::Format(format)) if !matches!(format, Format::Date | Format::DateTime) => {
            Some(text(format.name()))
        }
        _ => None,
    };
    let Some(said) = said else { return false };
    match options.get(assertion.keyword()) {
        None => {
            options.insert(assertion.keyword().to_owned(), said);
            true
        }
        Some(taken) => stronger(assertion, &said, taken).is_some_and(|strongest| {
            options.insert(assertion.keyword().to_owned(), strongest);
            true
        }),
    }
}

/// Of two bounds, the one that the other follows from.
fn stronger(assertion: &Assertion, a: &Value, b: &Value) -> Option<Value> {
    use Assertion as A;
    if a == b {
        return Some(a.clone());
    }
    let upper = match assertion {
        A::Minimum(_)
        | A::ExclusiveMinimum(_)
        | A::MinLength(_)
        | A::MinItems(_)
        | A::MinProperties(_) => false,
        A::Maximum(_)
        | A::ExclusiveMaximum(_)
        | A::MaxLength(_)
        | A::MaxItems(_)
        | A::MaxProperties(_) => true,
        _ => return None,
    };
    let (left, right) = (Num::parse(&a.to_string())?, Num::parse(&b.to_string())?);
    Some(if (left < right) == upper { a.clone() } else { b.clone() })
}

/// An enumeration of scalars as the standard's rule on values.
fn valid_values(ty: &Type, rule: &Rule<'_>) -> Option<Value> {
    if matches!(ty, Type::Struct(_) | Type::List(_) | Type::Json) {
        return None;
    }
    let values: Vec<Value> =
        listed(rule.assertion)?.into_iter().map(value).collect::<Option<_>>()?;
    Some(json!({ "metric": "invalidValues", "arguments": { "validValues": values }, "mustBe": 0 }))
}

/// Rules as texts, which is all that the standard has for them.
fn in_words(rules: &[Rule<'_>], subject: &str, unsaid: &mut Vec<String>) -> Vec<Value> {
    let mut quality = Vec::with_capacity(rules.len());
    for rule in rules {
        let words = words::sentence(rule.assertion, subject);
        unsaid.push(sentence(&rule.at, &words));
        quality.push(json!({ "type": "text", "description": words }));
    }
    quality
}
