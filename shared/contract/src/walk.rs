//! A schema held against one value, and every reason why it does not hold.
//!
//! This is the language's meaning: slow, and plain. The vectorised checks ([`crate::check`]) only find the rows that
//! are looked at here.

use crate::datum::Datum;
use crate::node::cut;
use crate::pointer::child;
use crate::schema::{Assertion, Schema, or_null};

/// One broken rule of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer to the value in its row; of a missing property, to where it would be.
    pub pointer: String,
    /// The JSON Schema keyword, or a rule of ours: `logicalType`, `unknown_field`.
    pub rule: &'static str,
    /// What is demanded.
    pub demand: String,
    /// The offending value, cut; `None` where it is missing or must not be shown.
    pub value: Option<String>,
}

/// Faults of one value that are looked for.
pub(crate) const FAULT_LIMIT: usize = 32;

impl Schema {
    /// Whether it holds of a value.
    pub fn holds(&self, value: &Datum<'_>) -> bool {
        self.assertions.iter().all(|assertion| holds(assertion, value))
    }

    /// Every reason why it does not hold of a value at `pointer`.
    pub fn explain(&self, value: &Datum<'_>, pointer: &str, faults: &mut Vec<Fault>) {
        for assertion in &self.assertions {
            if faults.len() < FAULT_LIMIT {
                explain(assertion, value, pointer, faults);
            }
        }
    }
}

fn holds(assertion: &Assertion, value: &Datum<'_>) -> bool {
    use Assertion as A;
    match (assertion, value) {
        (A::Never, _) => false,
        (A::Type(types), value) => types.has(value.types()),
        (A::Enum(values), value) => values.iter().any(|v| v == value),
        (A::Const(only), value) => only == value,
        (A::Minimum(bound), Datum::Number(n)) => n >= bound,
        (A::ExclusiveMinimum(bound), Datum::Number(n)) => n > bound,
        (A::Maximum(bound), Datum::Number(n)) => n <= bound,
        (A::ExclusiveMaximum(bound), Datum::Number(n)) => n < bound,
        (A::MultipleOf(unit), Datum::Number(n)) => n.is_multiple_of(*unit),
        (A::MinLength(least), Datum::Text(text)) => text.chars().count() as u64 >= *least,
        (A::MaxLength(most), Datum::Text(text)) => text.chars().count() as u64 <= *most,
        (A::Pattern(pattern), Datum::Text(text)) => pattern.is_match(text),
        (A::Format(format), Datum::Text(text)) => format.is_match(text),
        (A::Items(schema), Datum::Array(items)) => items.iter().all(|item| schema.holds(item)),
        (A::MinItems(least), Datum::Array(items)) => items.len() as u64 >= *least,
        (A::MaxItems(most), Datum::Array(items)) => items.len() as u64 <= *most,
        (A::UniqueItems, Datum::Array(items)) => twice(items).is_none(),
        (A::Properties(properties), Datum::Object(_)) => {
            let own = value.properties();
            properties.iter().all(|(name, schema)| own.get(name).is_none_or(|v| schema.holds(v)))
        }
        (A::Required(names), Datum::Object(_)) => {
            let own = value.properties();
            names.iter().all(|name| own.get(name).is_some())
        }
        (A::DependentRequired(pairs), Datum::Object(_)) => {
            let own = value.properties();
            let there = |name: &String| own.get(name).is_some();
            pairs.iter().all(|(name, needed)| !there(name) || needed.iter().all(there))
        }
        (A::MinProperties(least), Datum::Object(all)) => all.len() as u64 >= *least,
        (A::MaxProperties(most), Datum::Object(all)) => all.len() as u64 <= *most,
        (A::AllOf(schemas), value) => schemas.iter().all(|s| s.holds(value)),
        (A::AnyOf(schemas), value) => schemas.iter().any(|s| s.holds(value)),
        (A::OneOf(schemas), value) => {
            schemas.iter().filter(|s| s.holds(value)).take(2).count() == 1
        }
        (A::Not(schema), value) => !schema.holds(value),
        (A::If { test, then, otherwise }, value) => {
            let branch = if test.holds(value) { then } else { otherwise };
            branch.as_ref().is_none_or(|s| s.holds(value))
        }
        (A::Ref(schema), value) => schema.holds(value),
        _ => true,
    }
}

fn explain(assertion: &Assertion, value: &Datum<'_>, pointer: &str, faults: &mut Vec<Fault>) {
    use Assertion as A;
    let at = |name: &str| child(pointer, name);
    let missing = |name: &str, rule, demand| Fault { pointer: at(name), rule, demand, value: None };
    match (assertion, value) {
        (A::Items(schema), Datum::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                if faults.len() < FAULT_LIMIT {
                    schema.explain(item, &format!("{pointer}/{i}"), faults);
                }
            }
        }
        (A::Properties(properties), Datum::Object(_)) => {
            let own = value.properties();
            for (name, schema) in properties {
                if let Some(value) = own.get(name) {
                    schema.explain(value, &at(name), faults);
                }
            }
        }
        (A::Required(names), Datum::Object(_)) => {
            let own = value.properties();
            let absent = names.iter().filter(|n| own.get(n).is_none());
            let absent = absent.take(FAULT_LIMIT);
            faults.extend(absent.map(|n| missing(n, "required", "must be there".to_owned())));
        }
        (A::DependentRequired(pairs), Datum::Object(_)) => {
            for (name, needed) in pairs.iter().filter(|(name, _)| value.get(name).is_some()) {
                let absent = needed.iter().filter(|n| value.get(n).is_none());
                let demand = || format!("must be there where `{name}` is");
                faults.extend(absent.map(|n| missing(n, "dependentRequired", demand())));
            }
        }
        (A::AllOf(schemas), value) => {
            schemas.iter().for_each(|s| s.explain(value, pointer, faults));
        }
        (A::Ref(schema), value) => schema.explain(value, pointer, faults),
        (A::If { test, then, otherwise }, value) => {
            let branch = if test.holds(value) { then } else { otherwise };
            if let Some(schema) = branch {
                schema.explain(value, pointer, faults);
            }
        }
        // Of one alternative to null, its own reasons say more than that it is not met.
        (assertion, value) if or_null(assertion).is_some() && !matches!(value, Datum::Null) => {
            or_null(assertion).into_iter().for_each(|s| s.explain(value, pointer, faults));
        }
        (assertion, value) if !holds(assertion, value) => faults.push(Fault {
            pointer: pointer.to_owned(),
            rule: assertion.keyword(),
            demand: demand(assertion, value),
            value: Some(shown(value)),
        }),
        _ => {}
    }
}

/// What an assertion demands, for people.
fn demand(assertion: &Assertion, value: &Datum<'_>) -> String {
    use Assertion as A;
    match assertion {
        A::Never => "must not be there".to_owned(),
        A::Type(types) => format!("must be {types}"),
        A::Enum(values) => {
            let listed: Vec<_> = values.iter().take(10).map(shown).collect();
            let more = if values.len() > listed.len() { ", …" } else { "" };
            format!("must be one of {}{more}", listed.join(", "))
        }
        A::Const(only) => format!("must be {}", shown(only)),
        A::Minimum(n) => format!("must be at least {n}"),
        A::ExclusiveMinimum(n) => format!("must be more than {n}"),
        A::Maximum(n) => format!("must be at most {n}"),
        A::ExclusiveMaximum(n) => format!("must be less than {n}"),
        A::MultipleOf(n) => format!("must be a multiple of {n}"),
        A::MinLength(n) => format!("must have at least {}", many(*n, "character", "characters")),
        A::MaxLength(n) => format!("must have at most {}", many(*n, "character", "characters")),
        A::Pattern(pattern) => format!("must match {}", pattern.as_str()),
        A::Format(format) => format!("must be of format {}", format.name()),
        A::MinItems(n) => format!("must have at least {}", many(*n, "item", "items")),
        A::MaxItems(n) => format!("must have at most {}", many(*n, "item", "items")),
        A::UniqueItems => match value {
            Datum::Array(items) => {
                let (a, b) = twice(items).unwrap_or_default();
                format!("must have no item twice; items {a} and {b} are equal")
            }
            _ => String::new(),
        },
        A::MinProperties(n) => format!("must have at least {}", many(*n, "property", "properties")),
        A::MaxProperties(n) => format!("must have at most {}", many(*n, "property", "properties")),
        A::AnyOf(schemas) => {
            format!("must match one of {} alternatives, matches none", schemas.len())
        }
        A::OneOf(schemas) => {
            let matched = schemas.iter().filter(|s| s.holds(value)).count();
            format!("must match exactly one of {} alternatives, matches {matched}", schemas.len())
        }
        A::Not(schema) => format!("must not be what {} describes", schema.pointer),
        _ => String::new(),
    }
}

fn many(n: u64, one: &str, more: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { more })
}

/// Two items that are equal.
fn twice(items: &[Datum<'_>]) -> Option<(usize, usize)> {
    // Most arrays are short; of long ones, equal values have equal texts once their properties are in order.
    if items.len() <= 16 {
        let pairs = items.iter().enumerate().flat_map(|(i, a)| {
            items.iter().enumerate().skip(i + 1).map(move |(j, b)| ((i, a), (j, b)))
        });
        return pairs.into_iter().find(|((_, a), (_, b))| a == b).map(|((i, _), (j, _))| (i, j));
    }
    let mut seen = std::collections::BTreeMap::new();
    items.iter().enumerate().find_map(|(j, item)| seen.insert(canonical(item), j).map(|i| (i, j)))
}

/// A text that equal values share.
fn canonical(value: &Datum<'_>) -> String {
    match value {
        Datum::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        Datum::Object(properties) => {
            let mut all: Vec<_> =
                properties.iter().map(|(name, v)| format!("{name:?}:{}", canonical(v))).collect();
            all.sort_unstable();
            format!("{{{}}}", all.join(","))
        }
        other => other.to_string(),
    }
}

/// A value cut short for a message.
pub(crate) fn shown(value: &Datum<'_>) -> String {
    cut(value.to_string())
}
