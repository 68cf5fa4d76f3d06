//! A contract in the words of other tools: Open Data Contract Standard, dbt, a page for people, an Iceberg schema.
//!
//! Each export says what its format can say and lists the rest, with its place, in [`Export::unsaid`]: nothing of a
//! contract is left out silently. The same contract gives the same text. Only [`iceberg`] can fail: where the version's
//! document is no longer a contract.

mod dbt;
mod iceberg;
mod markdown;
mod odcs;
mod words;

use jiff::SignedDuration;
use serde_json::{Map, Number, Value};

pub use self::dbt::dbt;
pub use self::iceberg::iceberg;
pub use self::markdown::markdown;
pub use self::odcs::odcs;

use crate::audits::AuditRule;
use crate::datum::Datum;
use crate::format::Format;
use crate::num::Num;
use crate::pointer::child;
use crate::schema::{Assertion, Schema, Types};
use crate::types::{Field, Type};
use crate::{Contract, Lineage};

/// A contract in another format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub text: String,
    /// What the contract says that the format cannot: its place, and one sentence.
    pub unsaid: Vec<String>,
}

/// A rule that holds of a value without conditions.
struct Rule<'a> {
    /// JSON pointer of its keyword in the document.
    at: String,
    assertion: &'a Assertion,
}

/// A column, or a part of one, with its rules.
struct Part<'a> {
    /// Where the document declares it.
    at: String,
    /// The property; the items of a list have none.
    field: Option<&'a Field>,
    ty: &'a Type,
    nullable: bool,
    /// Whether its numbers have no fraction, whatever the column could hold.
    whole: bool,
    /// Those that its type does not say already.
    rules: Vec<Rule<'a>>,
    /// The fields of a struct, or the one kind of item of a list.
    parts: Vec<Part<'a>>,
}

impl Part<'_> {
    /// Whether every value of what it is a part of has one that is not null.
    fn always_present(&self) -> bool {
        !self.nullable && self.field.is_none_or(|field| field.required)
    }

    /// The sentence about being absent and being null, where a column cannot tell them apart.
    fn presence(&self) -> Option<String> {
        let field = self.field?;
        match (field.required, self.nullable) {
            (true, true) => Some(sentence(&self.at, "It must be there, although it may be null.")),
            (false, false) => Some(sentence(&self.at, "It may be absent, but not null.")),
            _ => None,
        }
    }

    /// What it says of its values that a column of its type does not, apart from its rules.
    fn beyond_its_type(&self) -> Option<String> {
        match self.ty {
            Type::Json => Some(sentence(&self.at, "It is any JSON value, kept as its text.")),
            Type::Float | Type::Double if self.whole => {
                Some(sentence(&self.at, "Its numbers are whole."))
            }
            _ => None,
        }
    }

    /// The sentences of its own rules and of those below it.
    fn all_rules(&self) -> Vec<String> {
        let mut all: Vec<_> = self.rules.iter().map(Rule::sentence).collect();
        all.extend(self.parts.iter().flat_map(Part::all_rules));
        all
    }
}

impl Rule<'_> {
    /// What it demands, with its place.
    fn sentence(&self) -> String {
        sentence(&self.at, &words::sentence(self.assertion, "it"))
    }
}

/// A line of [`Export::unsaid`].
fn sentence(at: &str, says: &str) -> String {
    format!("{}: {says}", if at.is_empty() { "/" } else { at })
}

/// The columns of a contract, and the rules about whole rows.
fn parts(contract: &Contract) -> (Vec<Part<'_>>, Vec<Rule<'_>>) {
    let mut rules = rules(&[&contract.row]);
    let parts = fields(&contract.fields, &rules);
    rules.retain(|rule| !is_shape(rule.assertion));
    (parts, rules)
}

fn fields<'a>(fields: &'a [Field], object: &[Rule<'a>]) -> Vec<Part<'a>> {
    let declared = |source: &str| -> Vec<&'a Schema> {
        let properties = object.iter().filter_map(|rule| match rule.assertion {
            Assertion::Properties(properties) => Some(properties),
            _ => None,
        });
        properties.flatten().filter(|(name, _)| name == source).map(|(_, schema)| schema).collect()
    };
    let one =
        |field: &'a Field| part(Some(field), &field.ty, field.nullable, &declared(&field.source));
    fields.iter().map(one).collect()
}

fn part<'a>(
    field: Option<&'a Field>,
    ty: &'a Type,
    nullable: bool,
    schemas: &[&'a Schema],
) -> Part<'a> {
    let types = schemas.iter().fold(Types::ALL, |types, s| types.and(s.types()));
    let mut rules = rules(schemas);
    let parts = match ty {
        Type::Struct(inner) => fields(inner, &rules),
        Type::List(element) => {
            let items: Vec<&Schema> = rules
                .iter()
                .filter_map(|rule| match rule.assertion {
                    Assertion::Items(schema) => Some(schema.as_ref()),
                    _ => None,
                })
                .collect();
            vec![part(None, &element.ty, element.nullable, &items)]
        }
        _ => Vec::new(),
    };
    rules.retain(|rule| match (ty, rule.assertion) {
        // Anything may be in it, so its type says nothing.
        (Type::Json, _) => true,
        (Type::Date, Assertion::Format(Format::Date)) => false,
        (Type::Timestamp, Assertion::Format(Format::DateTime)) => false,
        (_, assertion) => !is_shape(assertion),
    });
    Part {
        at: schemas.first().map(|s| s.pointer.clone()).unwrap_or_default(),
        field,
        ty,
        nullable,
        whole: Types::INTEGER.has(types.without(Types::NULL)),
        rules,
        parts,
    }
}

/// Whether the columns say it: their types, and what is in them.
fn is_shape(assertion: &Assertion) -> bool {
    matches!(
        assertion,
        Assertion::Type(_)
            | Assertion::Properties(_)
            | Assertion::Items(_)
            | Assertion::Required(_)
    )
}

/// Every rule of schemas that hold together, those behind `allOf` and `$ref` with them.
fn rules<'a>(schemas: &[&'a Schema]) -> Vec<Rule<'a>> {
    let mut all = Vec::new();
    for schema in schemas {
        for assertion in &schema.assertions {
            match assertion {
                Assertion::AllOf(inner) => all.extend(rules(&inner.iter().collect::<Vec<_>>())),
                Assertion::Ref(inner) => all.extend(rules(&[inner.as_ref()])),
                _ => all.push(Rule { at: child(&schema.pointer, assertion.keyword()), assertion }),
            }
        }
    }
    all
}

/// What the settings come to, in words, each with its key in `x-sluicegate`.
fn settings(contract: &Contract) -> Vec<(String, String)> {
    let mut all = words::settings(contract);
    let metric = |metric: &crate::Metric| {
        (format!("metrics/{}", metric.name), words::metric(contract, metric))
    };
    all.extend(contract.metrics.iter().map(metric));
    let audit = |rule: &AuditRule| (format!("audits/{}", rule.id), words::audit(rule));
    all.extend(contract.audits.iter().map(audit));
    if !contract.examples.is_empty() {
        all.push(("examples".to_owned(), "Rows that are good, to test with.".to_owned()));
    }
    if !contract.counterexamples.is_empty() {
        all.push(("counterexamples".to_owned(), "Rows that are bad, to test with.".to_owned()));
    }
    all
}

/// The settings that a format does not say: those whose keys are not among `said`.
fn unsaid_settings(contract: &Contract, said: &[&str]) -> Vec<String> {
    let left = settings(contract).into_iter().filter(|(key, _)| !said.contains(&key.as_str()));
    left.map(|(key, words)| sentence(&format!("/x-sluicegate/{key}"), &words)).collect()
}

/// The columns that are ours, each with its type.
fn lineage(contract: &Contract) -> impl Iterator<Item = (Lineage, Type)> + use<> {
    Lineage::of(contract).iter().map(|lineage| (*lineage, lineage.ty()))
}

/// The type's name in Iceberg; of structs and lists, only of which kind they are.
fn iceberg_type(ty: &Type) -> String {
    match ty {
        Type::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        Type::Timestamp => "timestamptz".to_owned(),
        Type::Json => "string".to_owned(),
        Type::Struct(_) => "struct".to_owned(),
        Type::List(_) => "list".to_owned(),
        scalar => scalar.describe(),
    }
}

/// A number as JSON has it; `None` where that would round it.
fn number(num: Num) -> Option<Value> {
    if let Some(whole) = num.to_decimal(0) {
        let small = i64::try_from(whole).ok().map(Number::from);
        let number = small.or_else(|| u64::try_from(whole).ok().map(Number::from));
        return number.map(Value::Number);
    }
    let nearest = num.to_f64();
    (Num::from_f64(nearest)? == num).then(|| Number::from_f64(nearest).map(Value::Number))?
}

/// A value as JSON has it; `None` where that would round a number in it.
fn value(datum: &Datum<'_>) -> Option<Value> {
    Some(match datum {
        Datum::Null => Value::Null,
        Datum::Boolean(b) => Value::Bool(*b),
        Datum::Number(n) => number(*n)?,
        Datum::Text(text) => Value::String(text.to_string()),
        Datum::Array(items) => Value::Array(items.iter().map(value).collect::<Option<_>>()?),
        Datum::Object(properties) => {
            let properties = properties.iter().map(|(name, v)| Some((name.to_string(), value(v)?)));
            Value::Object(properties.collect::<Option<Map<_, _>>>()?)
        }
    })
}

/// The scalar values that an enumeration leaves, null apart; `None` where it is none of scalars.
fn listed(assertion: &Assertion) -> Option<Vec<&Datum<'static>>> {
    let values: Vec<_> = match assertion {
        Assertion::Enum(values) => values.iter().collect(),
        Assertion::Const(only) => vec![only],
        _ => return None,
    };
    let scalar = |v: &&Datum<'_>| !matches!(v, Datum::Array(_) | Datum::Object(_));
    let values = values.into_iter().filter(|v| !matches!(v, Datum::Null));
    let values: Vec<_> = values.collect();
    (!values.is_empty() && values.iter().all(scalar)).then_some(values)
}

/// A duration in the largest of the units in which it is whole. Units are in seconds, the largest first; a rest below
/// the smallest is rounded up.
fn in_units<'u>(duration: SignedDuration, units: &[(i64, &'u str)]) -> (i64, &'u str) {
    let seconds = duration.as_secs() + i64::from(duration.subsec_nanos() > 0);
    let whole = units.iter().find(|(size, _)| seconds % size == 0);
    let (size, name) = whole.or(units.last()).copied().unwrap_or((1, "seconds"));
    (seconds.div_euclid(size) + i64::from(seconds % size != 0), name)
}

/// An object of those pairs that have a value.
fn object(pairs: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Map<String, Value> {
    pairs.into_iter().filter_map(|(name, v)| Some((name.to_owned(), v?))).collect()
}

/// A text as a JSON value.
fn text(text: impl Into<String>) -> Value {
    Value::String(text.into())
}

/// An optional text as a JSON value.
fn some_text(text: Option<&String>) -> Option<Value> {
    text.map(|text| Value::String(text.clone()))
}

/// A JSON document for people to read, too.
fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;
    use std::path::Path;

    const FLIGHTS: &[u8] = include_bytes!("../../../../examples/flights/contract.json");
    const ORDERS: &[u8] = include_bytes!("../../../../tests/contract/golden/orders.contract.json");

    /// The contract of one property beside others.
    fn contract(properties: Value, settings: Value) -> Contract {
        let mut document = serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"}},
        });
        for (key, value) in settings.as_object().unwrap() {
            if key == "row" {
                document.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            } else {
                document["x-sluicegate"][key] = value.clone();
            }
        }
        Contract::parse(document.to_string().as_bytes()).unwrap_or_else(|e| panic!("{e}"))
    }

    fn odcs_property(properties: Value) -> (Value, Vec<String>) {
        let export = odcs(&contract(properties, serde_json::json!({})), "things");
        let document: Value = serde_json::from_str(&export.text).unwrap();
        (document["schema"][0]["properties"][0].clone(), export.unsaid)
    }

    fn places(unsaid: &[String]) -> Vec<&str> {
        unsaid.iter().filter_map(|line| line.split_once(": ")).map(|(at, _)| at).collect()
    }

    /// With UPDATE_GOLDEN=1 they become what is exported.
    #[test]
    fn exports_are_the_golden_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract/golden");
        for (dataset, document) in [("flights", FLIGHTS), ("orders", ORDERS)] {
            let version = Version::next(document, None, "upload").unwrap().unwrap();
            let contract = Contract::parse(document).unwrap();
            let exports = [
                ("odcs.json", odcs(&contract, dataset)),
                ("dbt.yml", dbt(&contract, dataset)),
                ("md", markdown(&contract, dataset)),
                ("iceberg.json", iceberg(&version).unwrap()),
            ];
            for (extension, export) in exports {
                let path = folder.join(format!("{dataset}.{extension}"));
                if std::env::var("UPDATE_GOLDEN").as_deref() == Ok("1") {
                    std::fs::write(&path, &export.text).unwrap();
                }
                let golden = std::fs::read_to_string(&path).unwrap();
                let at = path.display();
                assert!(golden == export.text, "{at} differs; UPDATE_GOLDEN=1 rewrites it");
            }
        }
    }

    #[test]
    fn no_rule_is_left_out_silently() {
        let properties = serde_json::json!({
            "n": {"type": "integer", "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2, "not": {"const": 5}},
            "s": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "a", "format": "email", "enum": ["a'b"]},
            "d": {"type": "string", "format": "date", "minLength": 10, "const": "2024-01-01"},
            "o": {"type": "object", "minProperties": 1, "properties": {"x": {"type": "boolean", "const": true}}},
            "l": {"type": "array", "maxItems": 3, "uniqueItems": true, "items": {"anyOf": [{"type": "string"}]}},
            "j": {"x-sluicegate": {"logicalType": "json"}, "type": ["string", "object"], "required": ["k"]},
        });
        let row = serde_json::json!({"row": {"dependentRequired": {"s": ["d"]}, "oneOf": [{"required": ["n"]}]}});
        let contract = contract(properties, row);
        let said = [
            "/properties/n/minimum",
            "/properties/n/exclusiveMaximum",
            "/properties/n/multipleOf",
            "/properties/s/minLength",
            "/properties/s/maxLength",
            "/properties/s/pattern",
            "/properties/s/format",
            "/properties/s/enum",
            "/properties/d/const",
            "/properties/o/minProperties",
            "/properties/o/properties/x/const",
            "/properties/l/maxItems",
            "/properties/l/uniqueItems",
        ];
        let (all, of_rows) = parts(&contract);
        let of_columns = all.iter().flat_map(Part::all_rules);
        let rules: Vec<String> = of_columns.chain(of_rows.iter().map(Rule::sentence)).collect();
        assert_eq!(rules.len(), 20, "{rules:#?}");
        let odcs = odcs(&contract, "things");
        for at in places(&rules) {
            let unsaid = places(&odcs.unsaid).contains(&at);
            assert_ne!(unsaid, said.contains(&at), "{at}");
        }
        // Where a tool is told so, it is in the document; dbt is told of none of them.
        let dbt = dbt(&contract, "things");
        for at in places(&rules) {
            assert!(places(&dbt.unsaid).contains(&at), "{at}");
        }
        let page = markdown(&contract, "things");
        assert!(page.unsaid.is_empty());
        for words in [
            "less than 9",
            "not so that it is `5`",
            "has the format email",
            "`d` must be there where `s` is",
        ] {
            assert!(page.text.contains(words), "{words}\n{}", page.text);
        }
    }

    #[test]
    fn no_setting_is_left_out_silently() {
        let mut document: Value = serde_json::from_slice(ORDERS).unwrap();
        document["x-sluicegate"]["audits"] =
            serde_json::json!([{"id": "paid", "audit": "aggregate", "where": "sum(total) > 0"}]);
        let document = document.to_string();
        let contract = Contract::parse(document.as_bytes()).unwrap();
        let all: Vec<_> = settings(&contract).into_iter().map(|(key, _)| key).collect();
        for key in [
            "tags",
            "team/effective",
            "format",
            "event_time/max_ahead",
            "key",
            "bad_rows",
            "metrics/revenue",
            "audits/paid",
            "examples",
        ] {
            assert!(all.iter().any(|k| k == key), "{key}");
        }
        let version = Version::next(document.as_bytes(), None, "upload").unwrap().unwrap();
        let unsaid = iceberg(&version).unwrap().unsaid;
        for key in all.iter().filter(|key| *key != "key") {
            assert!(places(&unsaid).contains(&format!("/x-sluicegate/{key}").as_str()), "{key}");
        }
        let key_of = |unsaid: &[String]| places(unsaid).contains(&"/x-sluicegate/key");
        assert!(
            !key_of(&unsaid)
                && !key_of(&odcs(&contract, "o").unsaid)
                && !key_of(&dbt(&contract, "o").unsaid)
        );
    }

    #[test]
    fn audits_that_the_standard_measures_are_said_in_its_words() {
        let audits = serde_json::json!([
            {"id": "some", "audit": "row_count", "min": 1, "max": 9, "severity": "warn"},
            {"id": "few", "audit": "row_count", "max": 9},
            {"id": "once", "audit": "unique", "columns": ["n"]},
            {"id": "sum", "audit": "sum", "column": "n", "min": 1},
        ]);
        let properties =
            serde_json::json!({"N": {"type": "integer", "x-sluicegate": {"name": "n"}}});
        let export = odcs(&contract(properties, serde_json::json!({"audits": audits})), "things");
        let document: Value = serde_json::from_str(&export.text).unwrap();
        let quality = &document["schema"][0]["quality"];
        assert_eq!(quality[0]["mustBeBetween"], serde_json::json!([1, 9]));
        assert_eq!(
            (&quality[0]["severity"], &quality[1]["mustBeLessOrEqualTo"]),
            (&"warning".into(), &9.into())
        );
        assert_eq!(quality[2]["arguments"]["properties"], serde_json::json!(["N"]));
        assert_eq!(quality[3]["type"], "text");
        let audits: Vec<_> =
            places(&export.unsaid).into_iter().filter(|at| at.contains("audits")).collect();
        assert_eq!(audits, ["/x-sluicegate/audits/sum"]);
    }

    #[test]
    fn of_two_bounds_the_stronger_is_said() {
        let (property, unsaid) = odcs_property(serde_json::json!({"n": {
            "type": "integer", "minimum": 5, "allOf": [{"minimum": 3}, {"minimum": 7}, {"multipleOf": 2}, {"multipleOf": 3}],
        }}));
        let options = &property["logicalTypeOptions"];
        assert_eq!((&options["minimum"], &options["multipleOf"]), (&7.into(), &2.into()));
        assert!(places(&unsaid).contains(&"/properties/n/allOf/3/multipleOf"), "{unsaid:?}");
    }

    #[test]
    fn no_number_is_rounded() {
        let long = "0.1234567890123456789";
        let properties = serde_json::from_str(
            r#"{"n": {"type": "number", "x-sluicegate": {"logicalType": "decimal(38,20)"},
                "enum": [1.50, 9223372036854775807]}}"#,
        );
        let (property, _) = odcs_property(properties.unwrap());
        let valid = &property["quality"][0]["arguments"]["validValues"];
        assert_eq!(valid.to_string(), "[1.5,9223372036854775807]");
        assert_eq!(number(Num::parse(long).unwrap()), None);
        assert_eq!(number(Num::parse("18446744073709551616").unwrap()), None);
        assert_eq!(number(Num::parse("0.1").unwrap()).unwrap().to_string(), "0.1");
    }

    #[test]
    fn a_column_that_may_be_absent_but_not_null_says_so() {
        let (property, unsaid) = odcs_property(serde_json::json!({"n": {"type": "integer"}}));
        assert_eq!(property["required"], false);
        assert!(unsaid.contains(&"/properties/n: It may be absent, but not null.".to_owned()));
    }

    #[test]
    fn durations_are_whole_in_their_unit() {
        let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
        for (seconds, expected) in
            [(86_400, (1, "day")), (129_600, (36, "hour")), (61, (2, "minute")), (0, (0, "day"))]
        {
            assert_eq!(in_units(SignedDuration::from_secs(seconds), &units), expected);
        }
    }

    #[test]
    fn a_key_with_a_double_identifies_no_row_in_iceberg() {
        let document = serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "required": ["a", "b"],
            "properties": {"a": {"type": "number"}, "b": {"type": "string"}},
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"}, "key": ["a", "b"]},
        });
        let version = Version::next(document.to_string().as_bytes(), None, "u").unwrap().unwrap();
        let export = iceberg(&version).unwrap();
        assert!(!export.text.contains("identifier-field-ids"));
        assert!(places(&export.unsaid).contains(&"/x-sluicegate/key"));
        let odcs = odcs(&version.contract().unwrap(), "things");
        assert!(odcs.text.contains("duplicateValues"));
    }

    #[test]
    fn values_of_classified_columns_are_on_no_page() {
        let page = markdown(&Contract::parse(ORDERS).unwrap(), "orders");
        assert!(!page.text.contains("ada@example.com") && !page.text.contains("Harbour"));
        assert!(page.text.contains("Arlington") && page.text.contains("\"email\": \"…\""));
        assert_eq!(
            page.unsaid,
            ["/x-sluicegate/examples: Values of classified columns are not shown."]
        );
    }

    /// Sets a place of a document, or removes it.
    fn change(document: &mut Value, at: &str, set: Option<&Value>) {
        let (parent, key) = at.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{at}"));
        match set {
            Some(value) => parent[key] = value.clone(),
            None => assert!(parent.as_object_mut().unwrap().shift_remove(key).is_some(), "{at}"),
        }
    }

    /// tests/contract/test_export.py holds the schema for editors against the same variants.
    #[test]
    fn the_linter_is_of_one_mind_with_the_schema_for_editors() {
        let variants = include_str!("../../../../tests/contract/golden/variants.json");
        let variants: Value = serde_json::from_str(variants).unwrap();
        for (verdict, good) in [("refused", false), ("accepted", true)] {
            for variant in variants[verdict].as_array().unwrap() {
                let mut document: Value = serde_json::from_slice(ORDERS).unwrap();
                // Of a contract with other rules its examples would be wrong first.
                document["x-sluicegate"]["examples"] = Value::Array(Vec::new());
                let at = variant["at"].as_str().unwrap();
                if !at.contains("counterexamples") {
                    document["x-sluicegate"]["counterexamples"] = Value::Array(Vec::new());
                }
                change(&mut document, at, variant.get("set"));
                let read = Contract::parse(document.to_string().as_bytes());
                assert_eq!(read.is_ok(), good, "{}: {read:?}", variant["why"]);
            }
        }
    }
}
