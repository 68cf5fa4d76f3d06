//! Every row's verdict against the `jsonschema` crate's, under contracts and rows made up by a seed.
//!
//! `DIFFERENTIAL_CASES` says how many rows (3,000 by default); `DIFFERENTIAL_SEED` where to begin. What a column adds to
//! JSON Schema (64 bits, decimals, microseconds) and how a CSV's text becomes a value are written here a second time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sluicegate_audit::{Accepted, BadRow, Outcome, Rules, Scratch, Sink, audit};
use sluicegate_contract::Version;

/// splitmix64.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

const TEXTS: [&str; 22] = [
    "",
    "a",
    "ab",
    "abc",
    "ABC",
    "A1",
    "EWR",
    "JFK",
    "é",
    "äöü",
    "日本語",
    "x y",
    "0",
    "12",
    "true",
    "null",
    "a\tb",
    "\u{1F600}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "-",
    "ABCD",
    "a1b2",
];
const PATTERNS: [&str; 8] =
    ["^[A-Z]{3}$", "^[a-z]+$", "b", "^\\d+$", "^\\w*$", "^(a|b|c)*$", "^.{2,3}$", "[0-9]"];
const NUMBERS: [&str; 30] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "10",
    "12",
    "100",
    "-100",
    "0.5",
    "-0.5",
    "1.5",
    "2.25",
    "0.01",
    "0.07",
    "99.99",
    "1e2",
    "1.0",
    "2.50",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "2147483647",
    "2147483648",
    "1e300",
    "0.001",
    "123456789.12",
    "1e17",
];
const BOUNDS: [&str; 12] =
    ["0", "1", "-1", "2", "5", "10", "0.5", "1.5", "-100", "100", "9007199254740993", "12"];
const FORMATS: [(&str, &[&str]); 10] = [
    ("date", &["2013-01-31", "2012-02-29", "2013-02-29", "2013-1-1", "2013-01-01T00:00:00Z", "x"]),
    (
        "date-time",
        &[
            "2013-01-01T10:00:00Z",
            "2013-01-01t10:00:00.123456+05:30",
            "2013-01-01T10:00:00.1234567Z",
            "1998-12-31T23:59:60Z",
            "2013-01-01T10:00:00",
            "2013-01-01",
            "2013-13-01T10:00:00Z",
            "1969-12-31T23:59:59.999999-23:59",
        ],
    ),
    ("time", &["10:00:00Z", "10:00:00.5+01:00", "10:00:00", "24:00:00Z", "x"]),
    ("duration", &["P1D", "PT1H30M", "P1W", "P1Y2M3D", "P", "1D", "PT", "P1H"]),
    ("email", &["a@example.com", "a.b+c@example.org", "a", "@example.com", "a@"]),
    ("uri", &["https://example.com/a?b=c#d", "urn:isbn:1", "/a", "a b", "http://a b"]),
    (
        "uuid",
        &[
            "2eb8aa08-aa98-11ea-b4aa-73b441d16380",
            "2EB8AA08-AA98-11EA-B4AA-73B441D16380",
            "2eb8aa08aa9811eab4aa73b441d16380",
            "x",
        ],
    ),
    ("ipv4", &["127.0.0.1", "256.0.0.1", "1.2.3", "1.2.3.4.5"]),
    ("ipv6", &["::1", "fe80::1", "12345::", "1.2.3.4", "::1%eth0"]),
    ("hostname", &["example.com", "a-b.c", "-a.b", "a_b", "a..b"]),
];

fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A contract's rows: the document, and what its rows are made of.
struct Making<'r> {
    rng: &'r mut Seeded,
    /// Whether columns must be those of a CSV.
    flat: bool,
}

impl Making<'_> {
    fn bounds(&mut self, schema: &mut Map<String, Value>) {
        for keyword in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
            if self.rng.one_in(4) {
                schema.insert(keyword.into(), number(self.rng.pick(&BOUNDS)));
            }
        }
        if self.rng.one_in(5) {
            schema.insert(
                "multipleOf".into(),
                number(self.rng.pick(&["2", "3", "5", "0.5", "0.25", "0.01"])),
            );
        }
    }

    fn lengths(&mut self, schema: &mut Map<String, Value>, least: &str, most: &str) {
        if self.rng.one_in(3) {
            schema.insert(least.into(), json!(self.rng.below(4)));
        }
        if self.rng.one_in(3) {
            schema.insert(most.into(), json!(self.rng.below(5)));
        }
    }

    fn string(&mut self) -> Map<String, Value> {
        let mut schema = Map::from_iter([("type".to_owned(), json!("string"))]);
        match self.rng.below(5) {
            0 => {
                let format = FORMATS[self.rng.below(FORMATS.len())].0;
                schema.insert("format".into(), json!(format));
                if self.rng.one_in(4) {
                    self.lengths(&mut schema, "minLength", "maxLength");
                }
            }
            1 => {
                schema.insert("pattern".into(), json!(self.rng.pick(&PATTERNS)));
            }
            2 => {
                let values: BTreeSet<_> =
                    (0..1 + self.rng.below(4)).map(|_| self.rng.pick(&TEXTS)).collect();
                schema.insert("enum".into(), json!(values));
            }
            _ => self.lengths(&mut schema, "minLength", "maxLength"),
        }
        schema
    }

    /// A condition on a scalar of a type.
    fn condition(&mut self, ty: &str) -> Value {
        let part = |making: &mut Self| {
            let mut schema = Map::new();
            match ty {
                "integer" | "number" => making.bounds(&mut schema),
                "string" => making.lengths(&mut schema, "minLength", "maxLength"),
                _ => {}
            }
            if schema.is_empty() {
                schema.insert(
                    "const".into(),
                    match ty {
                        "boolean" => json!(true),
                        "string" => json!(making.rng.pick(&TEXTS)),
                        _ => number(making.rng.pick(&NUMBERS[..20])),
                    },
                );
            }
            Value::Object(schema)
        };
        let (a, b, c) = (part(self), part(self), part(self));
        match self.rng.below(6) {
            0 => json!({"anyOf": [a, b]}),
            1 => json!({"oneOf": [a, b, c]}),
            2 => json!({"not": a}),
            3 => json!({"if": a, "then": b, "else": c}),
            4 => json!({"allOf": [a, {"not": b}]}),
            _ => json!({"anyOf": [a, {"type": "null"}]}),
        }
    }

    fn property(&mut self, depth: usize) -> Value {
        let nested = if self.flat || depth > 2 { 0 } else { 4 };
        let mut schema = match self.rng.below(10 + nested) {
            0 | 1 => Map::from_iter([("type".to_owned(), json!("integer"))]),
            2 => Map::from_iter([("type".to_owned(), json!("number"))]),
            3 => Map::from_iter([
                ("type".to_owned(), json!("number")),
                (
                    "x-sluicegate".to_owned(),
                    json!({"logicalType": self.rng.pick(&["decimal(12,2)", "decimal(4,1)", "decimal(38,3)"])}),
                ),
            ]),
            4 => Map::from_iter([
                ("type".to_owned(), json!("integer")),
                ("x-sluicegate".to_owned(), json!({"logicalType": "int"})),
            ]),
            5..=7 => self.string(),
            8 => Map::from_iter([("type".to_owned(), json!("boolean"))]),
            9 => {
                let mut schema = self.string();
                schema.insert("x-sluicegate".to_owned(), json!({"description": "d"}));
                schema.remove("x-sluicegate");
                schema
            }
            10 => {
                let mut schema = Map::from_iter([
                    ("type".to_owned(), json!("array")),
                    ("items".to_owned(), self.property(depth + 1)),
                ]);
                self.lengths(&mut schema, "minItems", "maxItems");
                if self.rng.one_in(3) {
                    schema.insert("uniqueItems".into(), json!(true));
                }
                schema
            }
            11 => {
                let mut schema =
                    Map::from_iter([("x-sluicegate".to_owned(), json!({"logicalType": "json"}))]);
                if self.rng.one_in(2) {
                    schema.insert("type".into(), json!(["string", "integer", "array"]));
                    schema.insert("minLength".into(), json!(2));
                    schema.insert("maximum".into(), json!(10));
                }
                schema
            }
            _ => self.object(depth + 1),
        };
        let ty = schema.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if ty == "integer" || ty == "number" {
            self.bounds(&mut schema);
        }
        let simple = matches!(ty.as_str(), "integer" | "number" | "string" | "boolean");
        if simple && self.rng.one_in(4) {
            let condition = self.condition(&ty);
            schema.extend(condition.as_object().unwrap().clone());
        }
        if !ty.is_empty() && self.rng.one_in(3) {
            if self.rng.one_in(3) && !schema.contains_key("x-sluicegate") {
                // As code generators write what may be null.
                return json!({"anyOf": [schema, {"type": "null"}]});
            }
            schema.insert("type".into(), json!([ty, "null"]));
        }
        Value::Object(schema)
    }

    fn object(&mut self, depth: usize) -> Map<String, Value> {
        let names: Vec<String> = (0..1 + self.rng.below(4)).map(|i| format!("p{i}")).collect();
        let properties: Map<String, Value> =
            names.iter().map(|name| (name.clone(), self.property(depth))).collect();
        let required: Vec<_> = names.iter().filter(|_| self.rng.one_in(2)).collect();
        let mut schema = Map::from_iter([
            ("type".to_owned(), json!("object")),
            ("required".to_owned(), json!(required)),
        ]);
        let any = |making: &mut Self| names[making.rng.below(names.len())].clone();
        match self.rng.below(9) {
            0 => {
                schema.insert("dependentRequired".into(), json!({any(self): [any(self)]}));
            }
            1 => {
                schema.insert(
                    "anyOf".into(),
                    json!([{"required": [any(self)]}, {"required": [any(self)]}]),
                );
            }
            2 => {
                let (a, b) = (any(self), any(self));
                schema.insert("oneOf".into(), json!([{"required": [a]}, {"required": [b]}]));
            }
            3 => {
                let (a, value) = (any(self), self.value());
                schema.insert(
                    "if".into(),
                    json!({"properties": {a.clone(): {"const": value}}, "required": [a]}),
                );
                schema.insert("then".into(), json!({"required": [any(self)]}));
                if self.rng.one_in(2) {
                    schema.insert("else".into(), json!({"not": {"required": [any(self)]}}));
                }
            }
            4 => {
                schema.insert(
                    "not".into(),
                    json!({"properties": {any(self): {"type": "null"}}, "required": [any(self)]}),
                );
            }
            5 if !self.flat => {
                schema.insert("minProperties".into(), json!(self.rng.below(3)));
                schema.insert("maxProperties".into(), json!(1 + self.rng.below(4)));
            }
            _ => {}
        }
        schema.insert("properties".into(), Value::Object(properties));
        schema
    }

    fn document(&mut self) -> Value {
        let mut document = self.object(0);
        let format = if self.flat {
            json!({"type": "csv", "null_tokens": ["", "NA"]})
        } else {
            json!({"type": "jsonl"})
        };
        if !self.flat && self.rng.one_in(3) {
            let shared = self.property(1);
            document.insert("$defs".into(), json!({"shared": shared}));
            let properties = document["properties"].as_object_mut().unwrap();
            properties.insert("p9".into(), json!({"$ref": "#/$defs/shared"}));
            properties.insert("p8".into(), json!({"allOf": [{"$ref": "#/$defs/shared"}]}));
        }
        document.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        document.insert(
            "x-sluicegate".into(),
            json!({
                "version": "1.0.0", "team": {"name": "t"}, "format": format, "bad_rows": {"max_fraction": 1.0},
                "unknown_fields": self.rng.pick(&["keep", "drop"]),
            }),
        );
        Value::Object(document)
    }

    /// Any value at all.
    fn value(&mut self) -> Value {
        match self.rng.below(12) {
            0 => Value::Null,
            1 => json!(self.rng.one_in(2)),
            2..=5 => number(self.rng.pick(&NUMBERS)),
            6 => json!([]),
            7 => json!([number(self.rng.pick(&NUMBERS)), self.rng.pick(&TEXTS)]),
            8 => json!({"p0": number(self.rng.pick(&NUMBERS)), "other": [null, {"x": 1}]}),
            9 => {
                let texts = FORMATS[self.rng.below(FORMATS.len())].1;
                json!(self.rng.pick(texts))
            }
            _ => json!(self.rng.pick(&TEXTS)),
        }
    }

    /// A value that is likely right for a schema, and sometimes anything.
    fn value_for(&mut self, schema: &Value, document: &Value) -> Value {
        if self.rng.one_in(12) && !schema.to_string().contains("multipleOf") {
            return self.value();
        }
        if let Some(target) = schema["$ref"].as_str() {
            let target = document.pointer(&target[1..]).unwrap();
            return self.value_for(target, document);
        }
        for keyword in ["allOf", "anyOf"] {
            if let (Some(first), None) = (schema[keyword].get(0), schema.get("type")) {
                return if self.rng.one_in(5) {
                    Value::Null
                } else {
                    self.value_for(first, document)
                };
            }
        }
        if let (Some(values), true) = (schema["enum"].as_array(), self.rng.one_in(2)) {
            return values[self.rng.below(values.len())].clone();
        }
        if let (Some(value), true) = (schema.get("const"), self.rng.one_in(2)) {
            return value.clone();
        }
        let ty = match &schema["type"] {
            Value::String(ty) => ty.clone(),
            Value::Array(types) => types[self.rng.below(types.len())].as_str().unwrap().to_owned(),
            _ => return self.value(),
        };
        match ty.as_str() {
            "null" => Value::Null,
            "boolean" => json!(self.rng.one_in(2)),
            "integer" => number(self.rng.pick(&[
                "0",
                "1",
                "2",
                "3",
                "5",
                "6",
                "10",
                "12",
                "-1",
                "100",
                "7",
                "30",
                "9007199254740993",
                "2.0",
            ])),
            // Whether 1e300 is a multiple of 3, the oracle asks of the double.
            "number" if schema.to_string().contains("multipleOf") => {
                number(self.rng.pick(&NUMBERS[..20]))
            }
            "number" => number(self.rng.pick(&NUMBERS)),
            "string" => match schema["format"].as_str() {
                Some(format) => {
                    let texts = FORMATS.iter().find(|(f, _)| *f == format).unwrap().1;
                    json!(self.rng.pick(texts))
                }
                None => json!(self.rng.pick(&TEXTS)),
            },
            "array" => {
                let length = self.rng.below(4);
                (0..length).map(|_| self.value_for(&schema["items"], document)).collect()
            }
            _ => {
                let properties = schema["properties"].as_object().unwrap();
                let mut row: Map<String, Value> = properties
                    .iter()
                    .filter(|_| !self.rng.one_in(6))
                    .map(|(name, s)| (name.clone(), s))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|(name, s)| (name, self.value_for(s, document)))
                    .collect();
                if self.rng.one_in(8) {
                    row.insert("stranger".into(), self.value());
                }
                Value::Object(row)
            }
        }
    }
}

/// What a column asks beyond JSON Schema: that the value has a place in it.
fn fits(schema: &Value, value: &Value, document: &Value) -> bool {
    if let Some(target) = schema["$ref"].as_str() {
        return fits(document.pointer(&target[1..]).unwrap(), value, document);
    }
    for keyword in ["allOf", "anyOf"] {
        if let (Some(first), None) = (schema[keyword].get(0), schema.get("type")) {
            return fits(first, value, document);
        }
    }
    let logical = schema["x-sluicegate"]["logicalType"].as_str().unwrap_or_default();
    if logical == "json" {
        return true;
    }
    let is = |ty: &str| match &schema["type"] {
        Value::String(t) => t == ty,
        Value::Array(types) => types.iter().any(|t| t == ty),
        _ => false,
    };
    match value {
        Value::Number(n) if is("integer") => {
            let text = n.to_string();
            let whole = match n.as_i64() {
                Some(whole) => Some(whole),
                // Written as a float, it is exact up to 2^53 only.
                None => n
                    .as_f64()
                    .filter(|f| f.abs() < 9_007_199_254_740_992.0 && n.as_u64().is_none())
                    .map(|f| f as i64),
            };
            whole.is_some_and(|w| logical != "int" || i32::try_from(w).is_ok()) || text.is_empty()
        }
        Value::Number(n) if logical.starts_with("decimal") => {
            let digits = logical[8..logical.len() - 1].split_once(',').unwrap();
            let (precision, scale): (usize, usize) =
                (digits.0.parse().unwrap(), digits.1.parse().unwrap());
            // Written out, without exponent.
            let text = n.as_i64().map_or_else(
                || n.as_u64().map_or_else(|| format!("{}", n.as_f64().unwrap()), |u| u.to_string()),
                |i| i.to_string(),
            );
            let text = text.trim_start_matches('-');
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            fraction.trim_end_matches('0').len() <= scale
                && whole.trim_start_matches('0').len() <= precision - scale
        }
        Value::String(text) if schema["format"] == "date-time" => {
            let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
            let digits: String = fraction.chars().take_while(char::is_ascii_digit).collect();
            digits.trim_end_matches('0').len() <= 6 && !text.contains(":60")
        }
        Value::Array(items) => items.iter().all(|item| fits(&schema["items"], item, document)),
        Value::Object(row) => row.iter().all(|(name, value)| {
            schema["properties"].get(name).is_none_or(|s| fits(s, value, document))
        }),
        _ => true,
    }
}

/// The row with the numbers that its columns hold: of a double, the nearest.
fn held(schema: &Value, value: &Value, document: &Value) -> Value {
    if let Some(target) = schema["$ref"].as_str() {
        return held(document.pointer(&target[1..]).unwrap(), value, document);
    }
    for keyword in ["allOf", "anyOf"] {
        if let (Some(first), None) = (schema[keyword].get(0), schema.get("type")) {
            return held(first, value, document);
        }
    }
    let double = match &schema["type"] {
        Value::String(ty) => ty == "number",
        Value::Array(types) => types.iter().any(|ty| ty == "number"),
        _ => false,
    };
    match value {
        _ if schema["x-sluicegate"]["logicalType"].is_string() => value.clone(),
        Value::Number(n) if double => json!(n.as_f64()),
        Value::Array(items) => items.iter().map(|v| held(&schema["items"], v, document)).collect(),
        Value::Object(row) => row
            .iter()
            .map(|(name, value)| match schema["properties"].get(name) {
                Some(schema) => (name.clone(), held(schema, value, document)),
                None => (name.clone(), value.clone()),
            })
            .collect(),
        other => other.clone(),
    }
}

#[derive(Default)]
struct Bad(BTreeMap<u64, String>);

impl Sink for Bad {
    fn accept(&mut self, _: Accepted) -> io::Result<()> {
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], row: &BadRow<'_>) -> io::Result<()> {
        let faults = row.faults.iter().map(|f| format!("{} {}: {}", f.pointer, f.rule, f.reason));
        self.0.insert(row.row, faults.collect::<Vec<_>>().join("; "));
        Ok(())
    }
}

fn bad_rows(document: &Value, bytes: &[u8]) -> (u64, BTreeMap<u64, String>) {
    let version = Version::next(document.to_string().as_bytes(), None, "u");
    let version = version.unwrap_or_else(|e| panic!("{e}\n{document:#}")).unwrap();
    let landed: Timestamp = "2013-01-02T03:04:05Z".parse().unwrap();
    let rules = Rules::new(version.contract().unwrap(), &version, "raw", landed);
    let mut bad = Bad::default();
    let scratch = Scratch { folder: std::env::temp_dir(), limit: 0 };
    let found = audit(bytes, &rules, &scratch, &mut bad).unwrap();
    assert_ne!(found.verdict.outcome(), Outcome::Reject, "{:?}\n{document:#}", found.verdict);
    (found.verdict.coverage().rows_read, bad.0)
}

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// Runs until enough rows were compared; `make` gives a contract, its rows as a file, and what each should come to.
fn compare(
    what: &str,
    make: impl Fn(&mut Seeded) -> Option<(Value, Vec<u8>, Vec<bool>, Vec<String>)>,
) {
    let cases = from_env("DIFFERENTIAL_CASES", 3000);
    let seed = from_env("DIFFERENTIAL_SEED", 1);
    let (mut compared, mut good, mut contracts, mut unfit) = (0, 0, 0, 0);
    for turn in 0.. {
        if compared >= cases {
            break;
        }
        let mut rng = Seeded(seed.wrapping_add(turn).wrapping_mul(0xD134_2543_DE82_EF95));
        let Some((document, bytes, expected, rows)) = make(&mut rng) else {
            unfit += 1;
            continue;
        };
        let (read, bad) = bad_rows(&document, &bytes);
        assert_eq!(read as usize, expected.len(), "{document:#}");
        for (i, expected) in expected.iter().enumerate() {
            let found = bad.get(&(i as u64 + 1));
            assert_eq!(
                found.is_none(),
                *expected,
                "turn {turn} of seed {seed}: {}\n{found:?}\nunder {document:#}",
                rows[i]
            );
            good += u64::from(*expected);
        }
        contracts += 1;
        compared += expected.len() as u64;
    }
    println!(
        "{what}: {compared} rows under {contracts} contracts agree, {good} of them good; {unfit} contracts could not be"
    );
    assert!(
        good * 5 > compared && good * 5 < compared * 4,
        "both kinds are plentiful: {good} of {compared}"
    );
    assert!(unfit < contracts, "most contracts can be");
}

/// What a contract means, to somebody else.
fn oracle(document: &Value) -> jsonschema::Validator {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(document)
        .unwrap()
}

#[test]
fn json_lines_have_the_verdict_of_the_oracle() {
    compare("json lines", |rng| {
        let mut making = Making { rng, flat: false };
        let document = making.document();
        // Conditions may contradict the type: such a contract is refused, and that is right.
        Version::next(document.to_string().as_bytes(), None, "u").ok()?;
        let oracle = oracle(&document);
        let right = |row: &Value| {
            oracle.is_valid(&held(&document, row, &document)) && fits(&document, row, &document)
        };
        let rows: Vec<Value> = (0..50)
            .map(|_| {
                // Most rows that are made up are bad: some get more tries.
                let tries = 1 + making.rng.below(2) * 30;
                let mut rows = (0..tries).map(|_| making.value_for(&document, &document));
                let first = rows.next().unwrap();
                if right(&first) { first } else { rows.find(|row| right(row)).unwrap_or(first) }
            })
            .collect();
        let expected = rows.iter().map(right).collect();
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        let bytes = lines.join("\n").into_bytes();
        Some((document, bytes, expected, lines))
    });
}

/// The table of docs/contract.md, once more: what a cell's text is as JSON.
fn cell_value(schema: &Value, text: &str) -> Option<Value> {
    let schema = schema["anyOf"].get(0).filter(|_| schema.get("type").is_none()).unwrap_or(schema);
    let types: Vec<&str> = match &schema["type"] {
        Value::String(ty) => vec![ty],
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let has = |ty: &str| types.contains(&ty);
    let decimal = |text: &str| -> Option<Value> {
        let plain = !text.starts_with('+')
            && text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
        let value: f64 = text.parse().ok().filter(|v: &f64| plain && v.is_finite())?;
        if text.contains(['.', 'e', 'E']) && value.abs() < 1e15 && value.fract() == 0.0 {
            return Some(json!(value as i64));
        }
        text.trim_start_matches('0').parse::<i64>().ok().map(|i| json!(i)).or(Some(json!(value)))
    };
    if has("boolean") {
        return match text.to_ascii_lowercase().as_str() {
            "true" => Some(json!(true)),
            "false" => Some(json!(false)),
            _ => None,
        };
    }
    if has("integer") {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let right = !digits.is_empty()
            && digits.chars().all(|c| c.is_ascii_digit())
            && !fraction.is_empty()
            && fraction.chars().all(|c| c == '0');
        return if right { whole.parse::<i64>().ok().map(|i| json!(i)) } else { None };
    }
    if has("number") {
        return decimal(text);
    }
    Some(json!(text))
}

const CELLS: [&str; 24] = [
    "",
    "NA",
    "0",
    "1",
    "-1",
    "007",
    "2.0",
    "2.5",
    "1e2",
    ".5",
    "5.",
    "+1",
    " 1",
    "x",
    "true",
    "FALSE",
    "abc",
    "é",
    "\"q\"",
    "a,b",
    "99999999999999999999",
    "12.345",
    "null",
    "-0",
];

/// A row as JSON and as quoted cells, and whether every cell is a value of its column.
fn csv_row(
    making: &mut Making<'_>,
    document: &Value,
    properties: &Map<String, Value>,
) -> (Value, Vec<String>, bool) {
    let (mut row, mut cells, mut readable) = (Map::new(), Vec::new(), true);
    for (name, schema) in properties {
        let cell = match making.value_for(schema, document) {
            _ if making.rng.one_in(8) => making.rng.pick(&CELLS).to_owned(),
            Value::String(text) => text,
            Value::Null => "NA".to_owned(),
            other => other.to_string(),
        };
        // The oracle has doubles only: what needs more digits is for integers.
        let cell =
            if cell.len() > 17 && schema["type"] != "integer" { "x".to_owned() } else { cell };
        cells.push(format!("\"{}\"", cell.replace('"', "\"\"")));
        let nullable = jsonschema::is_valid(schema, &Value::Null);
        if cell.is_empty() || cell == "NA" {
            if nullable {
                row.insert(name.clone(), Value::Null);
            }
            continue;
        }
        match cell_value(schema, &cell) {
            Some(value) => {
                row.insert(name.clone(), value);
            }
            None => readable = false,
        }
    }
    (Value::Object(row), cells, readable)
}

#[test]
fn csv_has_the_verdict_of_the_oracle() {
    compare("csv", |rng| {
        let mut making = Making { rng, flat: true };
        let document = making.document();
        Version::next(document.to_string().as_bytes(), None, "u").ok()?;
        let oracle = oracle(&document);
        let properties = document["properties"].as_object().unwrap().clone();
        let names: Vec<&String> = properties.keys().collect();
        let mut text = names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(",") + "\n";
        let (mut expected, mut lines) = (Vec::new(), Vec::new());
        let right = |(row, _, readable): &(Value, Vec<String>, bool)| {
            let seen = held(&document, row, &document);
            *readable && oracle.is_valid(&seen) && fits(&document, row, &document)
        };
        for _ in 0..50 {
            let tries = 1 + making.rng.below(2) * 30;
            let mut rows = (0..tries).map(|_| csv_row(&mut making, &document, &properties));
            let first = rows.next().unwrap();
            let made = if right(&first) { first } else { rows.find(right).unwrap_or(first) };
            expected.push(right(&made));
            let (row, cells, _) = made;
            lines.push(format!("{} = {row}", cells.join(",")));
            text += &(cells.join(",") + "\n");
        }
        Some((document, text.into_bytes(), expected, lines))
    });
}
