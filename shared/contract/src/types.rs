//! The columns of a contract: what each property of the domain object becomes in a table.

use crate::datum::Datum;
use crate::format::Format;
use crate::node::Finding;
use crate::num::Num;
use crate::pointer::child;
use crate::pointer::segment;
use crate::schema::{About, Assertion, Classification, Logical, Schema, Types};
use crate::time;
use crate::walk::{FAULT_LIMIT, Fault, shown};

/// The type of a column or of a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Boolean,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// IEEE 754 single.
    Float,
    /// IEEE 754 double.
    Double,
    /// So many digits, so many of them behind the point.
    Decimal {
        precision: u8,
        scale: u8,
    },
    String,
    Date,
    /// Microseconds, UTC.
    Timestamp,
    /// Any JSON value, as its text.
    Json,
    /// An object with declared properties.
    Struct(Vec<Field>),
    List(Box<Element>),
}

/// What a list holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    pub ty: Type,
    pub nullable: bool,
}

/// A property of the domain object, and its column.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The property's name, which is the source's.
    pub source: String,
    /// The column's name.
    pub name: String,
    pub ty: Type,
    /// Whether null is a value of it.
    pub nullable: bool,
    /// Whether it must be there.
    pub required: bool,
    pub title: Option<String>,
    pub description: Option<String>,
    pub unit: Option<String>,
    pub classification: Option<Classification>,
    pub deprecated: bool,
}

impl Field {
    /// Whether every accepted row has a value, so that the table's column is required too.
    pub fn always_present(&self) -> bool {
        self.required && !self.nullable
    }

    /// What a table says of the column: its description, and its unit.
    pub fn doc(&self) -> Option<String> {
        match (&self.description, &self.unit) {
            (Some(text), Some(unit)) => Some(format!("{text} [{unit}]")),
            (Some(text), None) => Some(text.clone()),
            (None, unit) => unit.as_ref().map(|unit| format!("[{unit}]")),
        }
    }
}

impl Type {
    /// A name for people, such as `decimal(12,2)`.
    pub fn describe(&self) -> String {
        match self {
            Self::Boolean => "boolean".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Long => "long".to_owned(),
            Self::Float => "float".to_owned(),
            Self::Double => "double".to_owned(),
            Self::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Self::String => "string".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Json => "json".to_owned(),
            Self::Struct(fields) => {
                let fields = fields.iter().map(|f| format!("{} {}", f.name, f.ty.describe()));
                format!("struct<{}>", fields.collect::<Vec<_>>().join(", "))
            }
            Self::List(element) => format!("list<{}>", element.ty.describe()),
        }
    }

    /// Whether a value that is valid also has a place in the column: nothing is ever rounded or cut.
    ///
    /// Silent on values of other JSON types, which are not valid in the first place.
    pub fn explain(&self, value: &Datum<'_>, pointer: &str, faults: &mut Vec<Fault>) {
        if faults.len() >= FAULT_LIMIT {
            return;
        }
        let fits = match (self, value) {
            (Self::Int, Datum::Number(n)) => whole(*n).is_some_and(|n| i32::try_from(n).is_ok()),
            (Self::Long, Datum::Number(n)) => whole(*n).is_some_and(|n| i64::try_from(n).is_ok()),
            (Self::Float, Datum::Number(n)) => single(n.to_f64()).is_some(),
            (Self::Decimal { precision, scale }, Datum::Number(n)) => {
                decimal(*n, *precision, *scale).is_some()
            }
            (Self::Date, Datum::Text(text)) => time::date(text.as_bytes()).is_some(),
            (Self::Timestamp, Datum::Text(text)) => time::date_time(text.as_bytes()).is_some(),
            (Self::Struct(fields), Datum::Object(_)) => {
                let own = value.properties();
                for field in fields {
                    if let Some(value) = own.get(&field.source) {
                        field.ty.explain(value, &child(pointer, &field.source), faults);
                    }
                }
                true
            }
            (Self::List(element), Datum::Array(items)) => {
                for (i, item) in items.iter().enumerate() {
                    element.ty.explain(item, &format!("{pointer}/{i}"), faults);
                }
                true
            }
            _ => true,
        };
        if !fits && !faults.iter().any(|fault| fault.pointer == pointer) {
            faults.push(Fault {
                pointer: pointer.to_owned(),
                rule: "logicalType",
                demand: format!("must fit {}, which rounds nothing", self.describe()),
                value: Some(shown(value)),
            });
        }
    }
}

/// A whole number, if it is one and its digits are known.
fn whole(number: Num) -> Option<i128> {
    number.to_decimal(0)
}

/// The nearest single, if there is a finite one.
#[allow(clippy::cast_possible_truncation, reason = "the contract says float: the nearest single")]
pub fn single(value: f64) -> Option<f32> {
    Some(value as f32).filter(|single| single.is_finite())
}

/// A decimal column's value, if it has no more digits than the column.
pub fn decimal(number: Num, precision: u8, scale: u8) -> Option<i128> {
    let most = 10u128.checked_pow(u32::from(precision))?;
    number.to_decimal(scale).filter(|unscaled| unscaled.unsigned_abs() < most)
}

/// The most columns that are read at all, those in structs counted.
const FIELD_LIMIT: usize = 2000;
/// Levels of structs and lists in a column.
const NESTING_LIMIT: usize = 16;

/// Derives the columns of a row's schema; whatever has no column is a finding.
pub(crate) fn columns(row: &Schema, findings: &mut Vec<Finding>) -> Vec<Field> {
    let mut derivation = Derivation { findings, columns: 0 };
    let fields = derivation.fields(&[row], "", 0);
    if derivation.columns <= FIELD_LIMIT {
        derivation.undeclared(row, &fields);
    }
    derivation.slips(row, Types::OBJECT);
    fields
}

/// What a condition on a row says of properties that have no column is a finding.
pub(crate) fn declared(condition: &Schema, fields: &[Field], findings: &mut Vec<Finding>) {
    Derivation { findings, columns: 0 }.undeclared(condition, fields);
}

struct Derivation<'a> {
    findings: &'a mut Vec<Finding>,
    columns: usize,
}

impl Derivation<'_> {
    fn refuse(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.findings.push(Finding { pointer: pointer.into(), message: message.into() });
    }

    /// The fields of an object that several schemas describe together.
    fn fields(&mut self, objects: &[&Schema], pointer: &str, depth: usize) -> Vec<Field> {
        let assertions: Vec<&Assertion> = objects.iter().flat_map(|s| s.unconditional()).collect();
        let mut declared: Vec<(&str, Vec<&Schema>)> = Vec::new();
        let mut at = std::collections::BTreeMap::new();
        for assertion in &assertions {
            let Assertion::Properties(properties) = assertion else { continue };
            for (name, schema) in properties {
                let place = *at.entry(name.as_str()).or_insert_with(|| {
                    declared.push((name, Vec::new()));
                    declared.len() - 1
                });
                if let Some((_, schemas)) = declared.get_mut(place) {
                    schemas.push(schema);
                }
            }
        }
        if declared.is_empty() {
            self.refuse(
                format!("{pointer}/properties"),
                "is missing or empty: it says the columns",
            );
        }
        self.columns += declared.len();
        if self.columns > FIELD_LIMIT {
            if self.columns - declared.len() <= FIELD_LIMIT {
                self.refuse(pointer, format!("has more than {FIELD_LIMIT} columns"));
            }
            return Vec::new();
        }
        let required = |name: &str| {
            assertions
                .iter()
                .any(|a| matches!(a, Assertion::Required(names) if names.iter().any(|n| n == name)))
        };
        let mut fields: Vec<Field> = Vec::with_capacity(declared.len());
        let mut taken = std::collections::BTreeSet::new();
        for (source, schemas) in declared {
            let Some(field) = self.field(source, &schemas, required(source), depth) else {
                continue;
            };
            if !taken.insert(field.name.clone()) {
                let pointer = schemas.first().map(|s| s.pointer.clone()).unwrap_or_default();
                self.refuse(
                    pointer,
                    format!("two properties have the column name `{}`", field.name),
                );
            }
            fields.push(field);
        }
        fields
    }

    fn field(
        &mut self,
        source: &str,
        schemas: &[&Schema],
        required: bool,
        depth: usize,
    ) -> Option<Field> {
        let pointer = schemas.first().map(|s| s.pointer.clone()).unwrap_or_default();
        let about = schemas.iter().map(|s| s.about()).reduce(About::or)?;
        let name = about.name.clone().unwrap_or_else(|| source.to_owned());
        if name.starts_with('_') {
            self.refuse(&pointer, format!("`{name}`: column names that begin with _ are reserved"));
        } else if !is_column_name(&name) {
            let nice = snake_case(&name);
            self.refuse(
                &pointer,
                format!("`{name}` is no column name (a-z, 0-9, _): say {{\"x-sluicegate\": {{\"name\": \"{nice}\"}}}}"),
            );
        }
        let (ty, nullable) = self.ty(schemas, &about, &pointer, depth)?;
        Some(Field {
            source: source.to_owned(),
            name,
            ty,
            nullable,
            required,
            title: about.title,
            description: about.description,
            unit: about.unit,
            classification: about.classification,
            deprecated: about.deprecated,
        })
    }

    /// The type that several schemas together leave, and whether null is among its values.
    fn ty(
        &mut self,
        schemas: &[&Schema],
        about: &About,
        pointer: &str,
        depth: usize,
    ) -> Option<(Type, bool)> {
        let types = schemas.iter().fold(Types::ALL, |types, s| types.and(s.types()));
        let nullable = schemas.iter().all(|s| s.holds(&Datum::Null));
        let types = types.without(Types::NULL);
        if about.logical == Some(Logical::Json) {
            schemas.iter().for_each(|s| self.plain(s));
            return Some((Type::Json, nullable));
        }
        if types.is_none() {
            self.refuse(pointer, "no value but null can be valid: its types contradict each other");
            return None;
        }
        if depth > NESTING_LIMIT {
            self.refuse(pointer, format!("is nested more than {NESTING_LIMIT} levels deep"));
            return None;
        }
        let assertions: Vec<&Assertion> = schemas.iter().flat_map(|s| s.unconditional()).collect();
        let ty = if Types::NUMBER.has(types) {
            self.number(types, about, pointer)?
        } else if types == Types::STRING {
            let of = |wanted| {
                assertions.iter().any(|a| matches!(a, Assertion::Format(f) if *f == wanted))
            };
            match about.logical {
                None if of(Format::Date) => Type::Date,
                None | Some(Logical::Timestamp) if of(Format::DateTime) => Type::Timestamp,
                None => Type::String,
                Some(_) => {
                    self.refuse(
                        pointer,
                        "logicalType of a string: timestamp (with format date-time) or json",
                    );
                    return None;
                }
            }
        } else if let Some(logical) = about.logical {
            self.refuse(pointer, format!("logicalType {logical:?} is not for {types}"));
            return None;
        } else if types == Types::BOOLEAN {
            Type::Boolean
        } else if types == Types::OBJECT {
            Type::Struct(self.fields(schemas, pointer, depth + 1))
        } else if types == Types::ARRAY {
            let items: Vec<&Schema> = assertions
                .iter()
                .filter_map(|a| match a {
                    Assertion::Items(schema) => Some(schema.as_ref()),
                    _ => None,
                })
                .collect();
            let about = items.iter().map(|s| s.about()).reduce(About::or);
            let Some(about) = about else {
                self.refuse(pointer, "an array says what its items are, by items");
                return None;
            };
            let (ty, nullable) = self.ty(&items, &about, &child(pointer, "items"), depth + 1)?;
            if about.name.is_some() || about.unit.is_some() || about.classification.is_some() {
                let message = "items have no name, unit or classification: say it of the array";
                self.refuse(child(pointer, "items"), message);
            }
            Type::List(Box::new(Element { ty, nullable }))
        } else {
            self.refuse(
                pointer,
                format!(
                    "may be {types}: say one type (with or without null), or logicalType json to keep any value as its text"
                ),
            );
            return None;
        };
        schemas.iter().for_each(|s| self.slips(s, types));
        Some((ty, nullable))
    }

    /// Inside a column of JSON nothing is a column.
    fn plain(&mut self, schema: &Schema) {
        for assertion in &schema.assertions {
            let inner: Vec<&Schema> = match assertion {
                Assertion::Items(items) => vec![items],
                Assertion::Properties(properties) => properties.iter().map(|(_, s)| s).collect(),
                _ => Vec::new(),
            };
            for inner in inner {
                let About { name, unit, logical, classification, .. } = &inner.about;
                if name.is_some() || unit.is_some() || logical.is_some() || classification.is_some()
                {
                    let at = child(&inner.pointer, "x-sluicegate");
                    self.refuse(at, "describes a column: inside a column of JSON there is none");
                }
                self.plain(inner);
            }
            parts(assertion).into_iter().for_each(|part| self.plain(part));
        }
    }

    /// A keyword about other types than the column's is a slip of the pen, in a condition too.
    fn slips(&mut self, schema: &Schema, types: Types) {
        for assertion in &schema.assertions {
            let concerned = assertion.concerns();
            if concerned.and(types).is_none() {
                let at = child(&schema.pointer, assertion.keyword());
                self.refuse(at, format!("is for {concerned}; this is {types}"));
            }
            parts(assertion).into_iter().for_each(|part| self.slips(part, types));
        }
    }

    fn number(&mut self, types: Types, about: &About, pointer: &str) -> Option<Type> {
        let whole = types == Types::INTEGER;
        Some(match about.logical {
            None if whole => Type::Long,
            Some(Logical::Int) if whole => Type::Int,
            Some(Logical::Long) if whole => Type::Long,
            None => Type::Double,
            // A column of doubles would take what is no integer, once it is rounded.
            Some(Logical::Double) if !whole => Type::Double,
            Some(Logical::Float) if !whole => Type::Float,
            Some(Logical::Decimal { precision, scale }) => Type::Decimal { precision, scale },
            Some(other) => {
                self.refuse(pointer, format!("logicalType {other:?} is not for {types}"));
                return None;
            }
        })
    }

    /// Refuses what is said of properties that an object does not declare: they have no column.
    fn undeclared(&mut self, schema: &Schema, fields: &[Field]) {
        let field = |name: &str| fields.iter().find(|f| f.source == name);
        for assertion in &schema.assertions {
            let named: Vec<&String> = match assertion {
                Assertion::Required(names) => names.iter().collect(),
                Assertion::DependentRequired(pairs) => pairs
                    .iter()
                    .flat_map(|(name, needed)| [name].into_iter().chain(needed))
                    .collect(),
                Assertion::Properties(properties) => {
                    for (name, inner) in properties {
                        if let Some(field) = field(name) {
                            self.undeclared_inside(inner, &field.ty);
                        }
                    }
                    properties.iter().map(|(name, _)| name).collect()
                }
                _ => Vec::new(),
            };
            for name in named.into_iter().filter(|name| field(name).is_none()) {
                let at = child(&schema.pointer, assertion.keyword());
                self.refuse(at, format!("`{name}` is not among the properties"));
            }
            parts(assertion).into_iter().for_each(|part| self.undeclared(part, fields));
        }
    }

    fn undeclared_inside(&mut self, schema: &Schema, ty: &Type) {
        match ty {
            Type::Struct(fields) => self.undeclared(schema, fields),
            Type::List(element) => {
                for assertion in &schema.assertions {
                    if let Assertion::Items(items) = assertion {
                        self.undeclared_inside(items, &element.ty);
                    }
                    parts(assertion).into_iter().for_each(|part| self.undeclared_inside(part, ty));
                }
            }
            _ => {}
        }
    }
}

/// The schemas that an assertion holds against the very same value.
fn parts(assertion: &Assertion) -> Vec<&Schema> {
    match assertion {
        Assertion::AllOf(all) | Assertion::AnyOf(all) | Assertion::OneOf(all) => {
            all.iter().collect()
        }
        Assertion::Not(one) | Assertion::Ref(one) => vec![one],
        Assertion::If { test, then, otherwise } => [Some(test), then.as_ref(), otherwise.as_ref()]
            .into_iter()
            .flatten()
            .map(AsRef::as_ref)
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether engines take it for a column's name without quoting.
pub fn is_column_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A nice column name for a source's: `FlightNo (IATA)` becomes `flight_no_iata`.
pub fn snake_case(name: &str) -> String {
    let mut nice = String::new();
    let mut before = ' ';
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_lower = chars.peek().is_some_and(char::is_ascii_lowercase);
        let begins_word = c.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase() && next_is_lower));
        if (begins_word || !c.is_ascii_alphanumeric()) && !nice.is_empty() && !nice.ends_with('_') {
            nice.push('_');
        }
        if c.is_ascii_alphanumeric() {
            nice.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    let nice = nice.trim_matches('_');
    if nice.starts_with(|c: char| c.is_ascii_lowercase()) {
        nice.to_owned()
    } else if nice.is_empty() {
        "column".to_owned()
    } else {
        format!("c_{nice}")
    }
}

/// A field's place in a row without the numbers of list items: `lines/*/price`, for identities that outlive rows.
pub fn path(parent: &str, source: &str) -> String {
    // A name of nothing would make a child's place that of the root's own.
    let segment =
        if source.is_empty() { "~3".to_owned() } else { segment(source).replace('*', "~2") };
    if parent.is_empty() { segment } else { format!("{parent}/{segment}") }
}

/// The place of a list's items.
pub fn items_path(parent: &str) -> String {
    format!("{parent}/*")
}
