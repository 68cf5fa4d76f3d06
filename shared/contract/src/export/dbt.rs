//! A dbt properties file (version 2): the table as a source, with its tests and its freshness, and the model that reads
//! it, with the contract that dbt itself can enforce.
//!
//! dbt enforces contracts on models only, so that the source alone could not have one; the model is called by dbt's
//! convention, `stg_sluicegate__<dataset>`. Types are those of Spark SQL, which Athena and Databricks share. Properties
//! stand where dbt 1.10.5 and later want them. Text from the contract is never run as Jinja.

use serde_json::{Map, Value, json};

use super::{
    Export, Part, Rule, in_units, lineage, listed, object, parts, sentence, some_text, text,
    unsaid_settings, words,
};
use crate::datum::Datum;
use crate::schema::Assertion;
use crate::types::{Field, Type};
use crate::{Contract, Lineage};

/// What the file has a place for, apart from a key.
const SAID: [&str; 7] = [
    "tags",
    "team/name",
    "team/contact",
    "team/effective",
    "event_time/column",
    "freshness/warn_after",
    "freshness/error_after",
];

/// The contract of a dataset as a dbt properties file.
pub fn dbt(contract: &Contract, dataset: &str) -> Export {
    let mut unsaid = Vec::new();
    let (parts, rules) = parts(contract);
    let (mut source, mut model) = (Vec::new(), Vec::new());
    for part in &parts {
        let Some(field) = part.field else { continue };
        let tests = tests(contract, part, field, &mut unsaid);
        let of_column =
            column(field.name.as_str(), part.ty, field.description.as_deref(), meta(part, field));
        let present = part.always_present();
        source.push(with(of_column.clone(), "data_tests", tests));
        model.push(with(of_column, "constraints", not_null(present)));
    }
    for (lineage, ty) in lineage(contract) {
        let of_column = column(lineage.name(), &ty, Some(lineage.description()), Map::new());
        let tests = lineage.always_present().then(|| text("not_null")).into_iter().collect();
        source.push(with(of_column.clone(), "data_tests", tests));
        model.push(with(of_column, "constraints", not_null(lineage.always_present())));
    }
    unsaid.extend(
        rules.iter().map(|rule| sentence(&rule.at, &words::sentence(rule.assertion, "the row"))),
    );
    let event_time = contract.event_field().map(|field| text(&field.name));
    let mut config = freshness(contract, &mut unsaid);
    config.extend(object([
        ("event_time", event_time.clone()),
        ("tags", (!contract.tags.is_empty()).then(|| quiet(json!(contract.tags)))),
        ("meta", Some(Value::Object(about(contract)))),
    ]));
    let table = object([
        ("name", Some(text(dataset))),
        ("description", description(contract)),
        ("config", Some(Value::Object(config))),
        ("columns", Some(json!(source))),
    ]);
    let enforced =
        object([("contract", Some(json!({ "enforced": true }))), ("event_time", event_time)]);
    let model = object([
        ("name", Some(text(format!("stg_sluicegate__{dataset}")))),
        ("description", description(contract)),
        ("config", Some(Value::Object(enforced))),
        ("columns", Some(json!(model))),
    ]);
    let document = json!({
        "version": 2,
        "sources": [{ "name": "sluicegate", "loader": "sluicegate", "tables": [table] }],
        "models": [model],
    });
    let mut said = SAID.to_vec();
    if contract.key.len() == 1 {
        said.push("key");
    }
    unsaid.extend(unsaid_settings(contract, &said));
    let mut text = String::new();
    yaml(&document, 0, &mut text);
    Export { text, unsaid }
}

fn description(contract: &Contract) -> Option<Value> {
    let said = contract.description.as_deref().or(contract.title.as_deref())?;
    Some(text(no_jinja(said)))
}

/// Whose it is.
fn about(contract: &Contract) -> Map<String, Value> {
    let team = &contract.team;
    let meta = object([
        ("contract_version", Some(text(&contract.version))),
        ("owner", Some(text(&team.name))),
        ("contact", some_text(team.contact.as_ref())),
        ("owner_since", team.effective.map(|date| text(date.to_string()))),
    ]);
    meta.into_iter().map(|(key, v)| (key, quiet(v))).collect()
}

/// The freshness that dbt can measure: by landings, since the newest event may lie ahead of them.
fn freshness(contract: &Contract, unsaid: &mut Vec<String>) -> Map<String, Value> {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let mut periods = Map::new();
    for (key, after) in [
        ("warn_after", contract.freshness.warn_after),
        ("error_after", contract.freshness.error_after),
    ] {
        let Some(after) = after else { continue };
        let (count, period) = in_units(after, &units);
        periods.insert(key.to_owned(), json!({ "count": count, "period": period }));
        let rounded = if after.as_secs() % 60 != 0 || after.subsec_nanos() != 0 {
            ", in whole minutes, rounded up"
        } else {
            ""
        };
        let says = format!(
            "It is measured from the newest event; dbt measures from the newest landing{rounded}."
        );
        unsaid.push(sentence(&format!("/x-sluicegate/freshness/{key}"), &says));
    }
    object([
        ("loaded_at_field", (!periods.is_empty()).then(|| text(Lineage::LandedAt.name()))),
        ("freshness", (!periods.is_empty()).then_some(Value::Object(periods))),
    ])
}

fn column(
    name: &str,
    ty: &Type,
    description: Option<&str>,
    meta: Map<String, Value>,
) -> Map<String, Value> {
    let meta = (!meta.is_empty()).then(|| json!({ "meta": meta }));
    object([
        ("name", Some(text(name))),
        ("description", description.map(|said| text(no_jinja(said)))),
        ("data_type", Some(text(sql(ty)))),
        ("config", meta),
    ])
}

fn with(mut column: Map<String, Value>, key: &str, list: Vec<Value>) -> Map<String, Value> {
    if !list.is_empty() {
        column.insert(key.to_owned(), Value::Array(list));
    }
    column
}

fn not_null(present: bool) -> Vec<Value> {
    present.then(|| json!({ "type": "not_null" })).into_iter().collect()
}

/// What dbt keeps for others to read. Parts of a column have no entry of their own in dbt, so that theirs is here.
fn meta(part: &Part<'_>, field: &Field) -> Map<String, Value> {
    let mut parts = part.parts.as_slice();
    while let [Part { field: None, parts: inner, .. }] = parts {
        parts = inner;
    }
    let inner: Vec<_> = parts
        .iter()
        .filter_map(|part| part.field.map(|field| (part, field)))
        .map(|(part, field)| {
            let name = json!({ "name": field.name, "description": field.description });
            let mut named: Map<String, Value> = match quiet(name) {
                Value::Object(map) => map.into_iter().filter(|(_, v)| !v.is_null()).collect(),
                _ => Map::new(),
            };
            named.extend(meta(part, field));
            Value::Object(named)
        })
        .collect();
    object([
        ("title", some_text(field.title.as_ref()).map(quiet)),
        ("source_name", (field.name != field.source).then(|| quiet(text(&field.source)))),
        ("unit", some_text(field.unit.as_ref()).map(quiet)),
        ("classification", field.classification.map(|c| text(c.name()))),
        ("deprecated", field.deprecated.then(|| json!(true))),
        ("fields", (!inner.is_empty()).then_some(Value::Array(inner))),
    ])
}

/// The tests of a column; what they do not test is unsaid.
fn tests(
    contract: &Contract,
    part: &Part<'_>,
    field: &Field,
    unsaid: &mut Vec<String>,
) -> Vec<Value> {
    unsaid.extend(part.presence());
    unsaid.extend(part.beyond_its_type());
    let mut tests = Vec::new();
    if part.always_present() {
        tests.push(text("not_null"));
    }
    let key = contract.key.iter().map(|at| contract.fields.get(*at));
    if key.eq([Some(field)]) {
        tests.push(text("unique"));
    }
    for rule in &part.rules {
        match accepted_values(part.ty, rule.assertion) {
            Some(test) => tests.push(test),
            None => unsaid.push(Rule::sentence(rule)),
        }
    }
    for inner in &part.parts {
        below(inner, unsaid);
    }
    tests
}

/// Parts of columns are not tested.
fn below(part: &Part<'_>, unsaid: &mut Vec<String>) {
    unsaid.extend(part.presence());
    unsaid.extend(part.beyond_its_type());
    if part.always_present() {
        unsaid.push(sentence(&part.at, "It is not null."));
    }
    unsaid.extend(part.rules.iter().map(Rule::sentence));
    part.parts.iter().for_each(|inner| below(inner, unsaid));
}

fn accepted_values(ty: &Type, assertion: &Assertion) -> Option<Value> {
    let quote = match ty {
        Type::String => true,
        Type::Boolean
        | Type::Int
        | Type::Long
        | Type::Float
        | Type::Double
        | Type::Decimal { .. } => false,
        // As text they are written in more than one way.
        _ => return None,
    };
    let values: Vec<String> = listed(assertion)?
        .into_iter()
        .map(|value| match value {
            // dbt puts the text between quotes as it is, in a template.
            Datum::Text(text) => {
                (quote && !text.contains(['\'', '\\', '{'])).then(|| text.to_string())
            }
            other => (!quote).then(|| other.to_string()),
        })
        .collect::<Option<_>>()?;
    let arguments = match quote {
        true => json!({ "values": values }),
        false => json!({ "values": values, "quote": false }),
    };
    Some(json!({ "accepted_values": { "arguments": arguments } }))
}

fn sql(ty: &Type) -> String {
    match ty {
        Type::Long => "bigint".to_owned(),
        Type::Json => "string".to_owned(),
        Type::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|f| format!("{}: {}", f.name, sql(&f.ty))).collect();
            format!("struct<{}>", fields.join(", "))
        }
        Type::List(element) => format!("array<{}>", sql(&element.ty)),
        same => same.describe(),
    }
}

/// Text in which dbt finds no Jinja: an opening bracket becomes an expression that is that bracket.
fn no_jinja(text: &str) -> String {
    let mut quiet = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next @ ('{' | '%' | '#')) if c == '{' => {
                quiet.push_str(&format!("{{{{ '{{{next}' }}}}"));
                chars.next();
            }
            _ => quiet.push(c),
        }
    }
    quiet
}

/// A value in whose texts dbt finds no Jinja.
fn quiet(value: Value) -> Value {
    match value {
        Value::String(said) => Value::String(no_jinja(&said)),
        Value::Array(items) => Value::Array(items.into_iter().map(quiet).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, v)| (key, quiet(v))).collect())
        }
        other => other,
    }
}

/// Block style; the first line stands where the caller left off.
fn yaml(value: &Value, indent: usize, out: &mut String) {
    let pad = |out: &mut String, first: bool| {
        if !first {
            out.push_str(&" ".repeat(indent));
        }
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (i, (key, value)) in map.iter().enumerate() {
                pad(out, i == 0);
                out.push_str(&scalar(key));
                out.push(':');
                if nests(value) {
                    out.push('\n');
                    out.push_str(&" ".repeat(indent + 2));
                } else {
                    out.push(' ');
                }
                yaml(value, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                pad(out, i == 0);
                out.push_str("- ");
                yaml(item, indent + 2, out);
            }
        }
        Value::String(text) => {
            out.push_str(&scalar(text));
            out.push('\n');
        }
        // Numbers, booleans and what is empty are the same in JSON and YAML.
        other => out.push_str(&format!("{other}\n")),
    }
}

fn nests(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// Words that some YAML reader takes for another type than a string.
const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan"];

fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !WORDS.contains(&text);
    if plain {
        return text.to_owned();
    }
    // A JSON string is a YAML string, but for the line breaks and controls that JSON leaves as they are.
    let json = Value::from(text).to_string();
    let special = |c: char| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    json.chars()
        .map(|c| if special(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_contract_is_never_run_as_jinja() {
        for hostile in ["{{ env_var('X') }}", "{% do run() %}", "{# gone", "{{{", "a {{b}} {%"] {
            let quiet = no_jinja(hostile);
            // What is left of it, once each bracket's own expression is put back, is the text.
            let back = quiet
                .replace("{{ '{{' }}", "\u{1}")
                .replace("{{ '{%' }}", "\u{2}")
                .replace("{{ '{#' }}", "\u{3}");
            assert!(!back.contains("{{") && !back.contains("{%") && !back.contains("{#"), "{back}");
            let back = back.replace('\u{1}', "{{").replace('\u{2}', "{%").replace('\u{3}', "{#");
            assert_eq!(back, hostile);
        }
    }

    #[test]
    fn values_that_dbt_would_take_for_sql_or_jinja_are_not_tested() {
        let accepted = |value: &str| {
            let only = Datum::Text(value.to_owned().into());
            accepted_values(&Type::String, &Assertion::Const(only)).is_some()
        };
        assert!(accepted("a b") && !accepted("a'b") && !accepted("a\\") && !accepted("{{ a }}"));
        let number = Datum::parse("1.50").unwrap();
        let test = accepted_values(&Type::Double, &Assertion::Const(number)).unwrap();
        assert_eq!(
            test["accepted_values"]["arguments"],
            json!({"values": ["1.5"], "quote": false})
        );
    }

    #[test]
    fn strings_stay_strings_in_yaml() {
        let quoted = |text: &str| scalar(text).starts_with('"');
        for text in ["true", "no", "null", "1.0", "", "- a", "a: b", "a\nb", "~", "2024-01-01"] {
            assert!(quoted(text), "{text}");
        }
        assert_eq!(
            (scalar("not_null").as_str(), scalar("\u{2028}").as_str()),
            ("not_null", "\"\\u2028\"")
        );
    }

    #[test]
    fn yaml_is_block_style() {
        let mut out = String::new();
        yaml(&json!({"a": [{"b": 1, "c": {"d": []}}, "e"]}), 0, &mut out);
        assert_eq!(out, "a:\n  - b: 1\n    c:\n      d: []\n  - e\n");
    }
}
