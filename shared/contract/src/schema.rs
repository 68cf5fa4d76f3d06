//! A JSON Schema of the subset: a list of assertions, each of which names its keyword.
//!
//! Reading expands local `$ref`s, so nothing below this module follows one. Bounded: documents that expand, nest or
//! compile to more than the limits are refused, in time and memory proportional to the limits.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::datum::Datum;
use crate::format::Format;
use crate::node::{Finding, Findings, Node, brief, strings};
use crate::num::Num;
use crate::pattern::Pattern;

/// A set of JSON types. A `number` is an integer or a fraction: `1.0` is an integer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Types(u8);

impl Types {
    pub const NONE: Self = Self(0);
    pub const NULL: Self = Self(1);
    pub const BOOLEAN: Self = Self(2);
    pub const INTEGER: Self = Self(4);
    pub const FRACTION: Self = Self(8);
    pub const NUMBER: Self = Self(4 | 8);
    pub const STRING: Self = Self(16);
    pub const ARRAY: Self = Self(32);
    pub const OBJECT: Self = Self(64);
    pub const ALL: Self = Self(127);

    const NAMES: [(&'static str, Self); 7] = [
        ("null", Self::NULL),
        ("boolean", Self::BOOLEAN),
        ("number", Self::NUMBER),
        ("integer", Self::INTEGER),
        ("string", Self::STRING),
        ("array", Self::ARRAY),
        ("object", Self::OBJECT),
    ];

    /// Those in both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in either.
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those not in `other`.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are in it.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, types)| *types)
    }
}

/// As a contract lists them.
impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = *self;
        let mut first = true;
        for (name, types) in Self::NAMES {
            if left.has(types) {
                if !first {
                    f.write_str(" or ")?;
                }
                first = false;
                left = left.without(types);
                f.write_str(name)?;
            }
        }
        if left.has(Self::FRACTION) {
            f.write_str(if first { "number" } else { " or number" })?;
            first = false;
        }
        if first { f.write_str("nothing") } else { Ok(()) }
    }
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Types({self})")
    }
}

/// A schema: what holds of a value when every assertion does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// Where it stands in its document.
    pub pointer: String,
    pub assertions: Vec<Assertion>,
    pub about: About,
}

/// What a schema says to people, and of a column to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub title: Option<String>,
    pub description: Option<String>,
    pub deprecated: bool,
    /// The column's name, where the property's is not nice.
    pub name: Option<String>,
    pub unit: Option<String>,
    pub logical: Option<Logical>,
    pub classification: Option<Classification>,
}

/// Who may see a column's values, the strictest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Classification {
    Public,
    Internal,
    Confidential,
    Restricted,
    /// Of a person, or leading to one.
    Pii,
}

impl Classification {
    /// With their names in a contract.
    pub const ALL: [(&'static str, Self); 5] = [
        ("public", Self::Public),
        ("internal", Self::Internal),
        ("confidential", Self::Confidential),
        ("restricted", Self::Restricted),
        ("pii", Self::Pii),
    ];

    /// Its name in a contract.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, c)| *c == self).map_or("", |(name, _)| name)
    }

    /// Whether its values are kept out of reports and logs.
    pub fn is_redacted(self) -> bool {
        !matches!(self, Self::Public | Self::Internal)
    }
}

/// A `logicalType`: which column a JSON type becomes, where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// IEEE 754 single.
    Float,
    /// IEEE 754 double.
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// Microseconds, UTC.
    Timestamp,
    /// Any JSON value, as its text.
    Json,
}

/// What one keyword asserts. Each is silent on values of types that it is not about.
#[derive(Clone, Debug, PartialEq)]
pub enum Assertion {
    /// The schema `false`.
    Never,
    Type(Types),
    Enum(Vec<Datum<'static>>),
    Const(Datum<'static>),
    Minimum(Num),
    ExclusiveMinimum(Num),
    Maximum(Num),
    ExclusiveMaximum(Num),
    MultipleOf(Num),
    /// In characters.
    MinLength(u64),
    MaxLength(u64),
    Pattern(Pattern),
    Format(Format),
    Items(Box<Schema>),
    MinItems(u64),
    MaxItems(u64),
    UniqueItems,
    Properties(Vec<(String, Schema)>),
    Required(Vec<String>),
    DependentRequired(Vec<(String, Vec<String>)>),
    MinProperties(u64),
    MaxProperties(u64),
    AllOf(Vec<Schema>),
    AnyOf(Vec<Schema>),
    OneOf(Vec<Schema>),
    Not(Box<Schema>),
    If {
        test: Box<Schema>,
        then: Option<Box<Schema>>,
        otherwise: Option<Box<Schema>>,
    },
    /// A local `$ref`, expanded.
    Ref(Box<Schema>),
}

impl Assertion {
    /// The JSON Schema keyword.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Never => "false",
            Self::Type(_) => "type",
            Self::Enum(_) => "enum",
            Self::Const(_) => "const",
            Self::Minimum(_) => "minimum",
            Self::ExclusiveMinimum(_) => "exclusiveMinimum",
            Self::Maximum(_) => "maximum",
            Self::ExclusiveMaximum(_) => "exclusiveMaximum",
            Self::MultipleOf(_) => "multipleOf",
            Self::MinLength(_) => "minLength",
            Self::MaxLength(_) => "maxLength",
            Self::Pattern(_) => "pattern",
            Self::Format(_) => "format",
            Self::Items(_) => "items",
            Self::MinItems(_) => "minItems",
            Self::MaxItems(_) => "maxItems",
            Self::UniqueItems => "uniqueItems",
            Self::Properties(_) => "properties",
            Self::Required(_) => "required",
            Self::DependentRequired(_) => "dependentRequired",
            Self::MinProperties(_) => "minProperties",
            Self::MaxProperties(_) => "maxProperties",
            Self::AllOf(_) => "allOf",
            Self::AnyOf(_) => "anyOf",
            Self::OneOf(_) => "oneOf",
            Self::Not(_) => "not",
            Self::If { .. } => "if",
            Self::Ref(_) => "$ref",
        }
    }

    /// The types it says something about.
    pub fn concerns(&self) -> Types {
        match self {
            Self::Minimum(_)
            | Self::ExclusiveMinimum(_)
            | Self::Maximum(_)
            | Self::ExclusiveMaximum(_)
            | Self::MultipleOf(_) => Types::NUMBER,
            Self::MinLength(_) | Self::MaxLength(_) | Self::Pattern(_) | Self::Format(_) => {
                Types::STRING
            }
            Self::Items(_) | Self::MinItems(_) | Self::MaxItems(_) | Self::UniqueItems => {
                Types::ARRAY
            }
            Self::Properties(_)
            | Self::Required(_)
            | Self::DependentRequired(_)
            | Self::MinProperties(_)
            | Self::MaxProperties(_) => Types::OBJECT,
            _ => Types::ALL,
        }
    }
}

impl Schema {
    /// Reads a schema that is a document of its own; its `$ref`s are pointers into it.
    pub fn parse(document: &Value) -> Result<Self, Findings> {
        let mut findings = Vec::new();
        let schema =
            Reader::new(document).read(document.clone(), String::new(), Place::Root, &mut findings);
        if findings.is_empty() { Ok(schema) } else { Err(Findings(findings)) }
    }

    /// The types that its values can have, as far as it says so without conditions.
    pub fn types(&self) -> Types {
        let any =
            |schemas: &[Self]| schemas.iter().fold(Types::NONE, |types, s| types.or(s.types()));
        self.assertions.iter().fold(Types::ALL, |types, assertion| {
            types.and(match assertion {
                Assertion::Never => Types::NONE,
                Assertion::Type(types) => *types,
                Assertion::Const(value) => value.types(),
                Assertion::Enum(values) => {
                    values.iter().fold(Types::NONE, |types, value| types.or(value.types()))
                }
                Assertion::AllOf(schemas) => {
                    schemas.iter().fold(Types::ALL, |types, s| types.and(s.types()))
                }
                Assertion::AnyOf(schemas) | Assertion::OneOf(schemas) => any(schemas),
                Assertion::Ref(schema) => schema.types(),
                _ => Types::ALL,
            })
        })
    }

    /// Every assertion that holds of what is not null without conditions: its own, and those behind `allOf`, `$ref`, and
    /// the alternative of null.
    pub fn unconditional(&self) -> Vec<&Assertion> {
        let mut all = Vec::new();
        self.collect(&mut all);
        all
    }

    fn collect<'a>(&'a self, all: &mut Vec<&'a Assertion>) {
        for assertion in &self.assertions {
            match assertion {
                Assertion::AllOf(schemas) => schemas.iter().for_each(|s| s.collect(all)),
                Assertion::Ref(schema) => schema.collect(all),
                other => {
                    or_null(other).into_iter().for_each(|s| s.collect(all));
                    all.push(other);
                }
            }
        }
    }

    /// Whether it holds of everything.
    pub fn is_trivial(&self) -> bool {
        self.assertions.iter().all(|assertion| match assertion {
            Assertion::Type(types) => *types == Types::ALL,
            Assertion::AllOf(schemas) => schemas.iter().all(Self::is_trivial),
            Assertion::Ref(schema) | Assertion::Items(schema) => schema.is_trivial(),
            Assertion::Properties(properties) => properties.iter().all(|(_, s)| s.is_trivial()),
            _ => false,
        })
    }

    /// What it says to people, its own words before those it refers to.
    pub fn about(&self) -> About {
        let others = self.assertions.iter().flat_map(|assertion| match assertion {
            Assertion::Ref(schema) => std::slice::from_ref(schema.as_ref()),
            Assertion::AllOf(schemas) => schemas,
            other => or_null(other).map(std::slice::from_ref).unwrap_or_default(),
        });
        others.fold(self.about.clone(), |about, other| about.or(other.about()))
    }
}

impl About {
    /// What this leaves unsaid, taken from another.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            title: self.title.or(other.title),
            description: self.description.or(other.description),
            deprecated: self.deprecated || other.deprecated,
            name: self.name.or(other.name),
            unit: self.unit.or(other.unit),
            logical: self.logical.or(other.logical),
            // Of two, the stricter.
            classification: self.classification.max(other.classification),
        }
    }
}

/// The only alternative to null, where there is one.
pub(crate) fn or_null(assertion: &Assertion) -> Option<&Schema> {
    let (Assertion::AnyOf(schemas) | Assertion::OneOf(schemas)) = assertion else { return None };
    let mut others = schemas.iter().filter(|s| !Types::NULL.has(s.types()));
    let only = others.next().filter(|_| schemas.len() > 1)?;
    others.next().is_none().then_some(only)
}

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Root,
    /// A property, the items of an array, a definition: something that can become a column.
    Column,
    /// A part of the root: what it declares are columns, it is none.
    Part,
    /// A part of a condition.
    Condition,
}

/// Bytes of text that `$ref`s may expand to.
const EXPANSION_LIMIT: usize = 4 << 20;
/// Levels of schemas in schemas.
const DEPTH_LIMIT: usize = 64;
/// Distinct patterns of a document, and how many may be wrong before no more are tried.
const PATTERN_LIMIT: usize = 200;
const WRONG_PATTERN_LIMIT: usize = 20;
/// Properties of one object.
const PROPERTY_LIMIT: usize = 2000;

/// Keywords that say something to people only.
const ANNOTATIONS: [&str; 6] =
    ["examples", "default", "$comment", "readOnly", "writeOnly", "contentMediaType"];

/// Makes an assertion of a keyword's value.
type Build<T> = fn(T) -> Assertion;

/// Reads the schemas of one document.
pub(crate) struct Reader<'d> {
    document: &'d Value,
    /// The references that are being expanded.
    open: Vec<String>,
    depth: usize,
    expanded: usize,
    patterns: BTreeMap<String, Result<Pattern, String>>,
}

impl<'d> Reader<'d> {
    pub(crate) fn new(document: &'d Value) -> Self {
        Self { document, open: Vec::new(), depth: 0, expanded: 0, patterns: BTreeMap::new() }
    }

    /// Reads one schema.
    pub(crate) fn read(
        &mut self,
        value: Value,
        pointer: String,
        place: Place,
        findings: &mut Vec<Finding>,
    ) -> Schema {
        match value {
            Value::Bool(true) => Schema { pointer, ..Schema::default() },
            Value::Bool(false) => {
                Schema { pointer, assertions: vec![Assertion::Never], ..Schema::default() }
            }
            Value::Object(_) if self.depth >= DEPTH_LIMIT => {
                let message = format!("is nested more than {DEPTH_LIMIT} levels deep");
                findings.push(Finding { pointer, message });
                Schema::default()
            }
            Value::Object(_) => {
                self.depth += 1;
                let mut node = Node::new(value, pointer, findings);
                let schema = self.object(&mut node, place);
                node.done_with(|key| outside_the_subset(key, place).to_owned());
                self.depth -= 1;
                schema
            }
            other => {
                let message =
                    format!("must be a schema: an object, true or false; is {}", brief(&other));
                findings.push(Finding { pointer, message });
                Schema::default()
            }
        }
    }

    /// Reads a node's keywords, and leaves those that are not of the subset.
    pub(crate) fn object(&mut self, node: &mut Node<'_>, place: Place) -> Schema {
        let about = about(node, place);
        let mut all = Vec::new();
        self.definitions(node);
        if let Some(target) = node.take("$ref") {
            all.extend(self.reference(node, &target, place).map(|s| Assertion::Ref(Box::new(s))));
        }
        all.extend(types(node).map(Assertion::Type));
        values(node, &mut all);
        numbers(node, &mut all);
        self.strings(node, &mut all);
        self.arrays(node, place, &mut all);
        self.objects(node, place, &mut all);
        self.conditions(node, place, &mut all);
        Schema { pointer: node.pointer.clone(), assertions: all, about }
    }

    /// Definitions are read where they are used; here they are only held against the language.
    fn definitions(&mut self, node: &mut Node<'_>) {
        let Some(mut definitions) = node.child("$defs") else { return };
        for (name, value) in std::mem::take(&mut definitions.map) {
            let pointer = definitions.at(&name);
            // A definition that refers to itself is found from here: it is being read already.
            self.open.push(pointer.clone());
            self.read(value, pointer, Place::Column, definitions.findings);
            self.open.pop();
        }
    }

    fn reference(&mut self, node: &mut Node<'_>, target: &Value, place: Place) -> Option<Schema> {
        let Some(target) = target.as_str() else {
            node.refuse("$ref", "must be a string");
            return None;
        };
        let Some(fragment) =
            target.strip_prefix('#').filter(|f| f.is_empty() || f.starts_with('/'))
        else {
            node.refuse(
                "$ref",
                format!("`{target}` is not in this document: refer to #/$defs/… only"),
            );
            return None;
        };
        let pointer = percent_decoded(fragment);
        let found = self.document.pointer(&pointer);
        let Some(found) = found else {
            node.refuse("$ref", format!("there is nothing at `{target}`"));
            return None;
        };
        let inside =
            |open: &String| node.pointer == *open || node.pointer.starts_with(&format!("{open}/"));
        if self.open.contains(&pointer) || pointer.is_empty() || inside(&pointer) {
            node.refuse(
                "$ref",
                format!("`{target}` leads back to itself: a row has no bounded shape then"),
            );
            return None;
        }
        if self.expanded > EXPANSION_LIMIT {
            return None;
        }
        self.expanded += weight(found);
        if self.expanded > EXPANSION_LIMIT {
            node.refuse("$ref", "the document's references expand to more than can be read");
            return None;
        }
        self.open.push(pointer.clone());
        let place = if place == Place::Condition { Place::Condition } else { Place::Column };
        let schema = self.read(found.clone(), pointer, place, node.findings);
        self.open.pop();
        Some(schema)
    }

    fn strings(&mut self, node: &mut Node<'_>, all: &mut Vec<Assertion>) {
        all.extend(node.count("minLength").map(Assertion::MinLength));
        all.extend(node.count("maxLength").map(Assertion::MaxLength));
        if let Some(text) = node.text("pattern") {
            let wrong = self.patterns.values().filter(|p| p.is_err()).count();
            let full = self.patterns.len() >= PATTERN_LIMIT || wrong >= WRONG_PATTERN_LIMIT;
            if full && !self.patterns.contains_key(&text) {
                let message = format!(
                    "is not looked at: {PATTERN_LIMIT} patterns, or {WRONG_PATTERN_LIMIT} wrong ones, come before it"
                );
                node.refuse("pattern", message);
            } else {
                let pattern =
                    self.patterns.entry(text).or_insert_with_key(|text| Pattern::new(text));
                match pattern {
                    Ok(pattern) => all.push(Assertion::Pattern(pattern.clone())),
                    Err(why) => {
                        let message = format!("is not of the linear-time kind that we run: {why}");
                        node.refuse("pattern", message);
                    }
                }
            }
        }
        let formats = Format::ALL;
        all.extend(node.choice("format", &formats).map(Assertion::Format));
    }

    fn arrays(&mut self, node: &mut Node<'_>, place: Place, all: &mut Vec<Assertion>) {
        if let Some(items) = self.inner(node, "items", below(place)) {
            all.push(Assertion::Items(Box::new(items)));
        }
        all.extend(node.count("minItems").map(Assertion::MinItems));
        all.extend(node.count("maxItems").map(Assertion::MaxItems));
        if node.flag("uniqueItems") == Some(true) {
            all.push(Assertion::UniqueItems);
        }
    }

    fn objects(&mut self, node: &mut Node<'_>, place: Place, all: &mut Vec<Assertion>) {
        if let Some(mut properties) = node.child("properties") {
            let all_properties = std::mem::take(&mut properties.map);
            let mut read = Vec::with_capacity(all_properties.len());
            if all_properties.len() > PROPERTY_LIMIT {
                properties.refuse("", format!("has more than {PROPERTY_LIMIT} properties"));
            } else {
                for (name, value) in all_properties {
                    let pointer = properties.at(&name);
                    let schema = self.read(value, pointer, below(place), properties.findings);
                    read.push((name, schema));
                }
            }
            all.push(Assertion::Properties(read));
        }
        all.extend(node.names("required").map(Assertion::Required));
        if let Some(mut dependents) = node.child("dependentRequired") {
            let names: Vec<_> = dependents.map.keys().cloned().collect();
            let pairs =
                names.into_iter().filter_map(|name| Some((name.clone(), dependents.names(&name)?)));
            let pairs = pairs.collect();
            all.push(Assertion::DependentRequired(pairs));
        }
        all.extend(node.count("minProperties").map(Assertion::MinProperties));
        all.extend(node.count("maxProperties").map(Assertion::MaxProperties));
    }

    fn conditions(&mut self, node: &mut Node<'_>, place: Place, all: &mut Vec<Assertion>) {
        let outer = place;
        let lists: [(&str, Build<Vec<Schema>>, Place); 3] = [
            ("allOf", Assertion::AllOf, place),
            ("anyOf", Assertion::AnyOf, Place::Condition),
            ("oneOf", Assertion::OneOf, Place::Condition),
        ];
        for (keyword, build, place) in lists {
            let Some(value) = node.take(keyword) else { continue };
            let Value::Array(values) = value else {
                node.refuse(keyword, format!("must be a list of schemas, is {}", brief(&value)));
                continue;
            };
            if values.is_empty() {
                node.refuse(keyword, "must have at least one schema");
            }
            let at = node.at(keyword);
            // A schema or null: what code generators write for what may be null. It is the column's own.
            let or_null = values.len() == 2 && values.iter().any(|v| *v == json!({"type": "null"}));
            let place = match place {
                Place::Root => Place::Part,
                Place::Condition if or_null => below(outer),
                place => place,
            };
            let schemas = values
                .into_iter()
                .enumerate()
                .map(|(i, value)| self.read(value, format!("{at}/{i}"), place, node.findings));
            let schemas = schemas.collect();
            all.push(build(schemas));
        }
        if let Some(schema) = self.inner(node, "not", Place::Condition) {
            all.push(Assertion::Not(Box::new(schema)));
        }
        let test = self.inner(node, "if", Place::Condition).map(Box::new);
        let then = self.inner(node, "then", Place::Condition).map(Box::new);
        let otherwise = self.inner(node, "else", Place::Condition).map(Box::new);
        match (test, then.is_some() || otherwise.is_some()) {
            (Some(test), true) => all.push(Assertion::If { test, then, otherwise }),
            (Some(_), false) => node.refuse("if", "says nothing without then or else"),
            (None, true) => node.refuse("if", "is missing: then and else say nothing without it"),
            (None, false) => {}
        }
    }

    fn inner(&mut self, node: &mut Node<'_>, key: &str, place: Place) -> Option<Schema> {
        let value = node.take(key)?;
        let pointer = node.at(key);
        Some(self.read(value, pointer, place, node.findings))
    }
}

/// What a schema's properties and items are, where it is a condition or not.
fn below(place: Place) -> Place {
    if place == Place::Condition { Place::Condition } else { Place::Column }
}

fn about(node: &mut Node<'_>, place: Place) -> About {
    let mut about = About {
        title: node.text("title"),
        description: node.text("description"),
        deprecated: node.flag("deprecated").unwrap_or_default(),
        ..About::default()
    };
    for key in ANNOTATIONS {
        node.take(key);
    }
    if place == Place::Root {
        node.text("$id");
        match node.take("$schema") {
            None => {}
            Some(Value::String(s)) if s == "https://json-schema.org/draft/2020-12/schema" => {}
            Some(_) => {
                node.refuse("$schema", "must be https://json-schema.org/draft/2020-12/schema")
            }
        }
    }
    if place == Place::Column
        && let Some(mut node) = node.child("x-sluicegate")
    {
        about.name = node.text("name");
        about.unit = node.text("unit");
        about.classification = node.choice("classification", &Classification::ALL);
        about.logical = node.take_as(
            "logicalType",
            "one of int, long, float, double, decimal(precision,scale), timestamp, json",
            |v| v.as_str().and_then(logical),
        );
        node.done("name, unit, logicalType, classification");
    }
    about
}

fn logical(text: &str) -> Option<Logical> {
    Some(match text {
        "int" => Logical::Int,
        "long" => Logical::Long,
        "float" => Logical::Float,
        "double" => Logical::Double,
        "timestamp" => Logical::Timestamp,
        "json" => Logical::Json,
        _ => {
            let digits = text.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = digits.split_once(',')?;
            let precision = precision.trim().parse().ok().filter(|p| (1..=38).contains(p))?;
            let scale = scale.trim().parse().ok().filter(|s| *s <= precision)?;
            Logical::Decimal { precision, scale }
        }
    })
}

fn types(node: &mut Node<'_>) -> Option<Types> {
    node.take_as("type", "a type or a list of types", |v| match v {
        Value::String(one) => Types::from_name(one),
        Value::Array(_) => {
            let names = strings(v).filter(|names| !names.is_empty())?;
            let types = names.iter().map(|name| Types::from_name(name));
            types
                .collect::<Option<Vec<_>>>()
                .map(|all| all.into_iter().fold(Types::NONE, Types::or))
        }
        _ => None,
    })
}

fn values(node: &mut Node<'_>, all: &mut Vec<Assertion>) {
    match node.take("enum") {
        None => {}
        Some(Value::Array(values)) if !values.is_empty() => {
            all.push(Assertion::Enum(values.iter().map(Datum::from).collect()));
        }
        Some(_) => node.refuse("enum", "must be a list of values"),
    }
    all.extend(node.take("const").map(|value| Assertion::Const(Datum::from(&value))));
}

fn numbers(node: &mut Node<'_>, all: &mut Vec<Assertion>) {
    let bounds: [(&str, Build<Num>); 5] = [
        ("minimum", Assertion::Minimum),
        ("exclusiveMinimum", Assertion::ExclusiveMinimum),
        ("maximum", Assertion::Maximum),
        ("exclusiveMaximum", Assertion::ExclusiveMaximum),
        ("multipleOf", Assertion::MultipleOf),
    ];
    for (keyword, build) in bounds {
        let number = node.take_as(keyword, "a number", |v| match v {
            Value::Number(n) => Num::parse(&n.to_string()),
            _ => None,
        });
        match number {
            Some(unit) if keyword == "multipleOf" && unit <= Num::whole(0) => {
                node.refuse(keyword, "must be more than 0");
            }
            number => all.extend(number.map(build)),
        }
    }
}

/// About how much text a value is.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 8,
        Value::Array(items) => 8 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => {
            8 + map.iter().map(|(name, v)| name.len() + 8 + weight(v)).sum::<usize>()
        }
        _ => 8,
    }
}

fn percent_decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (first, after) {
            (b'%', [high, low, tail @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or_default() * 16 + hex(*low).unwrap_or_default());
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What to write instead of a keyword that is not understood.
fn outside_the_subset(key: &str, place: Place) -> &'static str {
    match key {
        "additionalProperties"
        | "unevaluatedProperties"
        | "patternProperties"
        | "propertyNames" => {
            "is outside the subset: every property is declared; say in x-sluicegate what becomes of unknown_fields"
        }
        "prefixItems" | "unevaluatedItems" | "additionalItems" => {
            "is outside the subset: the items of an array are of one kind, said by items"
        }
        "contains" | "minContains" | "maxContains" => {
            "is outside the subset: say what every item is, by items"
        }
        "dependentSchemas" | "dependencies" => {
            "is outside the subset: write if (with required) and then, or dependentRequired"
        }
        "$dynamicRef" | "$dynamicAnchor" | "$anchor" | "$recursiveRef" | "$recursiveAnchor" => {
            "is outside the subset: refer to #/$defs/… by $ref"
        }
        "definitions" => "is of an older draft: write $defs",
        "$id" | "$schema" | "$vocabulary" => "may stand at the root only, and $vocabulary nowhere",
        "x-sluicegate" if matches!(place, Place::Condition | Place::Part) => {
            "describes a column: say it where the property is declared"
        }
        "contentEncoding" | "contentSchema" => {
            "is outside the subset: nothing looks inside a string"
        }
        _ => "is not a keyword of the subset",
    }
}
