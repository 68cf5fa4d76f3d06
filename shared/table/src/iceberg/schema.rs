//! Table schemas and partition specs.
//!
//! Guarantees: a field is its id; its name may change. JSON is Iceberg's own. Fails only in reading JSON that names a
//! type or transform this module does not have.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// A column's type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
#[non_exhaustive]
pub enum Type {
    Boolean,
    /// 32 bits, signed.
    Int,
    Long,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    String,
    Date,
    /// Microseconds since the epoch, UTC.
    Timestamptz,
    Struct(Vec<Field>),
    List {
        id: i32,
        required: bool,
        element: Box<Type>,
    },
}

/// A type as JSON has it: a word, or an object that says which.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Nested(Nested),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "kebab-case")]
enum Nested {
    Struct { fields: Vec<Field> },
    List { element_id: i32, element_required: bool, element: Type },
}

/// The types that are written as one word.
const WORDS: [(&str, Type); 8] = [
    ("boolean", Type::Boolean),
    ("int", Type::Int),
    ("long", Type::Long),
    ("float", Type::Float),
    ("double", Type::Double),
    ("string", Type::String),
    ("date", Type::Date),
    ("timestamptz", Type::Timestamptz),
];

impl TryFrom<Written> for Type {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        Ok(match written {
            Written::Nested(Nested::Struct { fields }) => Self::Struct(fields),
            Written::Nested(Nested::List { element_id, element_required, element }) => Self::List {
                id: element_id,
                required: element_required,
                element: Box::new(element),
            },
            Written::Word(word) => match WORDS.iter().find(|(known, _)| *known == word) {
                Some((_, ty)) => ty.clone(),
                None => decimal(&word).ok_or_else(|| format!("no type is called {word}"))?,
            },
        })
    }
}

fn decimal(word: &str) -> Option<Type> {
    let (precision, scale) = word.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    Some(Type::Decimal {
        precision: precision.trim().parse().ok()?,
        scale: scale.trim().parse().ok()?,
    })
}

impl From<Type> for Written {
    fn from(ty: Type) -> Self {
        match ty {
            Type::Struct(fields) => Self::Nested(Nested::Struct { fields }),
            Type::List { id, required, element } => Self::Nested(Nested::List {
                element_id: id,
                element_required: required,
                element: *element,
            }),
            Type::Decimal { precision, scale } => {
                Self::Word(format!("decimal({precision}, {scale})"))
            }
            word => {
                let known = WORDS.iter().find(|(_, ty)| *ty == word);
                Self::Word(known.map_or("string", |(known, _)| known).to_owned())
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub id: i32,
    pub name: String,
    pub required: bool,
    #[serde(rename = "type")]
    pub ty: Type,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "struct")]
pub struct Schema {
    #[serde(rename = "schema-id", default)]
    pub id: i32,
    pub fields: Vec<Field>,
}

impl Schema {
    /// The highest field id in use; 0 without fields.
    pub fn last_id(&self) -> i32 {
        last_of(&self.fields)
    }
}

fn last_of(fields: &[Field]) -> i32 {
    fields.iter().map(|field| field.id.max(last_in(&field.ty))).max().unwrap_or(0)
}

fn last_in(ty: &Type) -> i32 {
    match ty {
        Type::Struct(fields) => last_of(fields),
        Type::List { id, element, .. } => (*id).max(last_in(element)),
        _ => 0,
    }
}

/// How a partition value comes from a timestamp: whole units since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    Hour,
    Day,
    Month,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionField {
    pub source_id: i32,
    pub field_id: i32,
    pub name: String,
    pub transform: Transform,
}

/// One field, or none for a table without partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSpec {
    #[serde(rename = "spec-id")]
    pub id: i32,
    pub fields: Vec<PartitionField>,
}

impl PartitionSpec {
    /// The partition as a path segment people can read: `2013-01-01`, or `all` where there is none. A value beyond the
    /// calendar (year 9999) is spelt as its number.
    pub fn partition_path(&self, value: Option<i32>) -> String {
        let Some((field, value)) = self.fields.first().zip(value) else {
            return "all".to_owned();
        };
        let path = match field.transform {
            Transform::Month => {
                first_of_month(value).map(|date| date.strftime("%Y-%m").to_string())
            }
            Transform::Day => day(value).map(|date| date.to_string()),
            Transform::Hour => {
                day(value.div_euclid(24)).map(|date| format!("{date}-{:02}", value.rem_euclid(24)))
            }
        };
        path.unwrap_or_else(|| value.to_string())
    }
}

fn day(days: i32) -> Option<Date> {
    let span = jiff::Span::new().try_days(days).ok()?;
    Date::constant(1970, 1, 1).checked_add(span).ok()
}

fn first_of_month(months: i32) -> Option<Date> {
    let year = i16::try_from(1970 + months.div_euclid(12)).ok()?;
    Date::new(year, i8::try_from(months.rem_euclid(12) + 1).ok()?, 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(transform: Transform) -> PartitionSpec {
        let field =
            PartitionField { source_id: 3, field_id: 1000, name: "time_day".to_owned(), transform };
        PartitionSpec { id: 0, fields: vec![field] }
    }

    #[test]
    fn paths_are_calendar_segments() {
        let path = |transform, value| spec(transform).partition_path(Some(value));
        assert_eq!(path(Transform::Day, 15706), "2013-01-01");
        assert_eq!(path(Transform::Day, -1), "1969-12-31");
        assert_eq!(path(Transform::Month, 43 * 12), "2013-01");
        assert_eq!(path(Transform::Month, -1), "1969-12");
        assert_eq!(path(Transform::Hour, 15706 * 24 + 5), "2013-01-01-05");
        assert_eq!(path(Transform::Hour, -1), "1969-12-31-23");
        assert_eq!(spec(Transform::Day).partition_path(None), "all");
        assert_eq!(PartitionSpec { id: 0, fields: Vec::new() }.partition_path(None), "all");
    }

    #[test]
    fn values_beyond_the_calendar_are_numbers() {
        for transform in [Transform::Hour, Transform::Day, Transform::Month] {
            for value in [i32::MIN, i32::MAX] {
                let path = spec(transform).partition_path(Some(value));
                assert_eq!(path, value.to_string());
            }
        }
    }

    #[test]
    fn nested_types_are_icebergs() {
        let text = r#"{"id":1,"name":"lines","required":true,"type":{"type":"list","element-id":2,"element-required":true,"element":{"type":"struct","fields":[{"id":3,"name":"price","required":true,"type":"decimal(12, 2)"},{"id":9,"name":"n","required":false,"type":"int"}]}}}"#;
        let field: Field = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&field).unwrap(), text);
        assert_eq!(Schema { id: 0, fields: vec![field] }.last_id(), 9);
        assert!(serde_json::from_str::<Type>("\"varchar\"").is_err());
        assert!(serde_json::from_str::<Type>("\"decimal(x, 2)\"").is_err());
    }

    #[test]
    fn json_is_icebergs() {
        let schema = Schema {
            id: 2,
            fields: vec![
                Field {
                    id: 1,
                    name: "time".to_owned(),
                    required: true,
                    ty: Type::Timestamptz,
                    doc: None,
                },
                Field {
                    id: 7,
                    name: "ok".to_owned(),
                    required: false,
                    ty: Type::Boolean,
                    doc: Some("d".to_owned()),
                },
            ],
        };
        let json = serde_json::to_string(&schema).unwrap();
        assert_eq!(
            json,
            r#"{"type":"struct","schema-id":2,"fields":[{"id":1,"name":"time","required":true,"type":"timestamptz"},{"id":7,"name":"ok","required":false,"type":"boolean","doc":"d"}]}"#
        );
        assert_eq!(serde_json::from_str::<Schema>(&json).unwrap(), schema);
        assert_eq!(schema.last_id(), 7);
        assert_eq!(
            serde_json::to_string(&spec(Transform::Day)).unwrap(),
            r#"{"spec-id":0,"fields":[{"source-id":3,"field-id":1000,"name":"time_day","transform":"day"}]}"#
        );
    }
}
