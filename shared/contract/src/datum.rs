//! A JSON value as it was written: numbers exact, a property that comes twice an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Num;
use crate::schema::Types;

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Datum<'a> {
    Null,
    Boolean(bool),
    Number(Num),
    Text(Cow<'a, str>),
    Array(Vec<Datum<'a>>),
    /// In the order of writing; no name comes twice.
    Object(Vec<(Cow<'a, str>, Datum<'a>)>),
}

/// Levels of arrays and objects.
const DEPTH_LIMIT: usize = 128;
/// Levels of a row: its columns are nested less deeply than the difference.
const ROW_DEPTH_LIMIT: usize = DEPTH_LIMIT + 32;
/// From so many properties on they are sought by a tree.
const MANY: usize = 16;

impl<'a> Datum<'a> {
    /// Reads a JSON text. Fails on what is no JSON, on numbers beyond a double, on nesting beyond 128 levels and on
    /// properties that come twice.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        Self::read_whole(text, DEPTH_LIMIT)
    }

    /// Reads a row: what [`Datum::parse`] reads has a place in one.
    pub fn parse_row(text: &'a str) -> Result<Self, serde_json::Error> {
        Self::read_whole(text, ROW_DEPTH_LIMIT)
    }

    fn read_whole(text: &'a str, levels: usize) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Self::read(raw.get(), levels)
    }

    /// `text` is well-formed already.
    fn read(text: &'a str, levels: usize) -> Result<Self, serde_json::Error> {
        let Some(levels) = levels.checked_sub(1) else {
            return Err(de::Error::custom("nested too deeply"));
        };
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'n') => Ok(Self::Null),
            Some(b't') => Ok(Self::Boolean(true)),
            Some(b'f') => Ok(Self::Boolean(false)),
            Some(b'"') => serde_json::from_str(text).map(|Text(text)| Self::Text(text)),
            Some(b'[') => {
                serde_json::Deserializer::from_str(text).deserialize_seq(Array { levels })
            }
            Some(b'{') => {
                serde_json::Deserializer::from_str(text).deserialize_map(Object { levels })
            }
            _ => Num::parse(text.trim_ascii())
                .map(Self::Number)
                .ok_or_else(|| de::Error::custom("number out of range")),
        }
    }

    /// The kinds of value it is one of.
    pub fn types(&self) -> Types {
        match self {
            Self::Null => Types::NULL,
            Self::Boolean(_) => Types::BOOLEAN,
            Self::Number(n) if n.is_whole() => Types::INTEGER,
            Self::Number(_) => Types::FRACTION,
            Self::Text(_) => Types::STRING,
            Self::Array(_) => Types::ARRAY,
            Self::Object(_) => Types::OBJECT,
        }
    }

    /// A property's value.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) => properties.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }

    /// An object's properties, to be sought by name.
    pub(crate) fn properties(&self) -> Properties<'_, 'a> {
        match self {
            Self::Object(properties) if properties.len() > MANY => Properties::Many(
                properties.iter().map(|(name, value)| (name.as_ref(), value)).collect(),
            ),
            Self::Object(properties) => Properties::Few(properties),
            _ => Properties::Few(&[]),
        }
    }

    /// The same value, owning its text.
    pub fn into_owned(self) -> Datum<'static> {
        match self {
            Self::Null => Datum::Null,
            Self::Boolean(b) => Datum::Boolean(b),
            Self::Number(n) => Datum::Number(n),
            Self::Text(t) => Datum::Text(Cow::Owned(t.into_owned())),
            Self::Array(items) => Datum::Array(items.into_iter().map(Datum::into_owned).collect()),
            Self::Object(properties) => Datum::Object(
                properties
                    .into_iter()
                    .map(|(n, v)| (Cow::Owned(n.into_owned()), v.into_owned()))
                    .collect(),
            ),
        }
    }
}

/// The properties of an object.
pub(crate) enum Properties<'d, 'a> {
    Few(&'d [(Cow<'a, str>, Datum<'a>)]),
    Many(BTreeMap<&'d str, &'d Datum<'a>>),
}

impl<'d, 'a> Properties<'d, 'a> {
    /// A property's value.
    pub(crate) fn get(&self, name: &str) -> Option<&'d Datum<'a>> {
        match self {
            Self::Few(properties) => properties.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            Self::Many(properties) => properties.get(name).copied(),
        }
    }
}

impl From<&Value> for Datum<'static> {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Boolean(*b),
            // serde_json holds finite numbers only, and writes them as JSON does.
            Value::Number(n) => Self::Number(Num::parse(&n.to_string()).unwrap_or(Num::whole(0))),
            Value::String(s) => Self::Text(Cow::Owned(s.clone())),
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(map) => Self::Object(
                map.iter().map(|(name, v)| (Cow::Owned(name.clone()), Self::from(v))).collect(),
            ),
        }
    }
}

/// JSON Schema's equality: numbers by value, objects whatever their order.
impl PartialEq for Datum<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => {
                let others = other.properties();
                a.len() == b.len() && a.iter().all(|(name, value)| others.get(name) == Some(value))
            }
            _ => false,
        }
    }
}

/// As JSON.
impl fmt::Display for Datum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |f: &mut fmt::Formatter<'_>, t: &str| {
            f.write_str(&serde_json::to_string(t).map_err(|_| fmt::Error)?)
        };
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(b) => b.fmt(f),
            Self::Number(n) => n.fmt(f),
            Self::Text(t) => text(f, t),
            Self::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Object(properties) => {
                f.write_str("{")?;
                for (i, (name, value)) in properties.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    text(f, name)?;
                    f.write_str(":")?;
                    value.fmt(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Array {
    levels: usize,
}

impl<'de> Visitor<'de> for Array {
    type Value = Datum<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            items.push(Datum::read(raw.get(), self.levels).map_err(de::Error::custom)?);
        }
        Ok(Datum::Array(items))
    }
}

struct Object {
    levels: usize,
}

impl<'de> Visitor<'de> for Object {
    type Value = Datum<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut properties: Vec<(Cow<'de, str>, Datum<'de>)> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(Text(name)) = map.next_key()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format!("property {name:?} comes twice")));
            }
            let raw: &RawValue = map.next_value()?;
            properties
                .push((name, Datum::read(raw.get(), self.levels).map_err(de::Error::custom)?));
        }
        Ok(Datum::Object(properties))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        let text =
            r#" {"a": [1, 2.50, "x\n", null], "b": {"c": true}, "d": 12345678901234567890.12} "#;
        let datum = Datum::parse(text).unwrap();
        assert_eq!(
            datum.to_string(),
            r#"{"a":[1,2.5,"x\n",null],"b":{"c":true},"d":12345678901234567890.12}"#
        );
        assert_eq!(datum.get("b").unwrap().types(), Types::OBJECT);
    }

    #[test]
    fn equality_is_json_schemas() {
        let equal = |a: &str, b: &str| Datum::parse(a).unwrap() == Datum::parse(b).unwrap();
        assert!(equal("1", "1.0") && equal(r#"{"a":1,"b":2}"#, r#"{"b":2.0,"a":1}"#));
        assert!(
            !equal("0", "false") && !equal("[1]", "[true]") && !equal(r#"{"a":1}"#, r#"{"b":1}"#)
        );
    }

    #[test]
    fn hostile_text_is_an_error() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in
            ["", "{", "[1,]", "1e999", r#"{"a":1,"a":2}"#, "\"\\ud800\"", "nul", deep.as_str()]
        {
            assert!(Datum::parse(text).is_err(), "{text:.20}");
        }
    }
}
