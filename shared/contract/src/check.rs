//! The contract over Arrow: the schema of its rows, and its checks a column at a time.
//!
//! The decoder has already answered for types, null and presence, since only it still sees the source's text; what is
//! checked here are the rules of values that are there. A column without a fault costs one pass without branches where
//! the rule allows it; only a column with one is looked at value by value.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field as ArrowField, Float64Type, Int64Type, Schema, SchemaRef,
    TimeUnit,
};

use crate::model::Allowed;
use crate::{Bound, Contract, Field, Kind, Lineage, Rule, Version};

/// The key under which Arrow's Parquet writer looks for a column's field id.
pub const FIELD_ID: &str = "PARQUET:field_id";

/// One broken rule of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Row in the batch.
    pub row: usize,
    /// Index into [`Contract::fields`].
    pub field: usize,
    /// Index into [`Field::rules`].
    pub rule: usize,
}

/// The Arrow type of a column.
pub fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Boolean => DataType::Boolean,
        Kind::Integer => DataType::Int64,
        Kind::Number => DataType::Float64,
        Kind::String => DataType::Utf8,
        Kind::Date => DataType::Date32,
        Kind::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// The schema of the rows as they are published: the contract's columns, then ours, each with its field id.
pub fn published_schema(contract: &Contract, version: &Version) -> SchemaRef {
    let with_id =
        |field: ArrowField, id: i32| field.with_metadata([(FIELD_ID.to_owned(), id.to_string())]);
    let columns = contract.fields.iter().map(|field| {
        let column = ArrowField::new(&field.name, data_type(field.kind), !field.always_present());
        with_id(column, version.field_id(field))
    });
    let ours = Lineage::ALL.map(|lineage| {
        let kind = match lineage {
            Lineage::RawId => DataType::Utf8,
            Lineage::RawRow => DataType::Int64,
            Lineage::LandedAt => data_type(Kind::DateTime),
        };
        with_id(ArrowField::new(lineage.name(), kind, false), lineage.field_id())
    });
    Arc::new(Schema::new(columns.chain(ours).collect::<Vec<_>>()))
}

/// Appends a fault for every rule that a value breaks. `columns` are in the order of the contract's fields.
pub fn check(contract: &Contract, columns: &[ArrayRef], faults: &mut Vec<Fault>) {
    for (index, (field, column)) in contract.fields.iter().zip(columns).enumerate() {
        for (rule_index, rule) in field.rules.iter().enumerate() {
            check_rule(field, rule, column, &mut |row| {
                faults.push(Fault { row, field: index, rule: rule_index });
            });
        }
    }
}

fn check_rule(field: &Field, rule: &Rule, column: &ArrayRef, fault: &mut dyn FnMut(usize)) {
    match field.kind {
        Kind::Integer => {
            if let Some(column) = column.as_primitive_opt::<Int64Type>() {
                integers(rule, column, fault);
            }
        }
        Kind::Number => {
            if let Some(column) = column.as_primitive_opt::<Float64Type>() {
                numbers(rule, column, fault);
            }
        }
        Kind::String => {
            if let Some(column) = column.as_string_opt::<i32>() {
                strings(rule, column, fault);
            }
        }
        Kind::Boolean => {
            if let (Some(column), Rule::OneOf { values: Allowed::Booleans(allowed), .. }) =
                (column.as_boolean_opt(), rule)
            {
                booleans(allowed, column, fault);
            }
        }
        // Their types are their only rules.
        Kind::Date | Kind::DateTime => {}
    }
}

/// Reports the rows where `is_bad`; the first pass has no branch and no look at the nulls.
fn primitives<T: ArrowPrimitiveType>(
    column: &PrimitiveArray<T>,
    fault: &mut dyn FnMut(usize),
    is_bad: impl Fn(T::Native) -> bool,
) {
    if column.values().iter().fold(false, |any, value| any | is_bad(*value)) {
        for (row, value) in column.iter().enumerate() {
            if value.is_some_and(&is_bad) {
                fault(row);
            }
        }
    }
}

fn integers(rule: &Rule, column: &PrimitiveArray<Int64Type>, fault: &mut dyn FnMut(usize)) {
    match rule {
        Rule::Minimum { bound: Bound::Integer(bound), .. } => {
            primitives(column, fault, |v| v < *bound);
        }
        Rule::Maximum { bound: Bound::Integer(bound), .. } => {
            primitives(column, fault, |v| v > *bound);
        }
        Rule::OneOf { values: Allowed::Integers(allowed), .. } => {
            primitives(column, fault, |v| !allowed.contains(&v));
        }
        _ => {}
    }
}

#[allow(clippy::float_cmp, reason = "enum asks for the very value")]
fn numbers(rule: &Rule, column: &PrimitiveArray<Float64Type>, fault: &mut dyn FnMut(usize)) {
    match rule {
        Rule::Minimum { bound: Bound::Number { value, exclusive: false }, .. } => {
            primitives(column, fault, |v| v < *value);
        }
        Rule::Minimum { bound: Bound::Number { value, exclusive: true }, .. } => {
            primitives(column, fault, |v| v <= *value);
        }
        Rule::Maximum { bound: Bound::Number { value, exclusive: false }, .. } => {
            primitives(column, fault, |v| v > *value);
        }
        Rule::Maximum { bound: Bound::Number { value, exclusive: true }, .. } => {
            primitives(column, fault, |v| v >= *value);
        }
        Rule::OneOf { values: Allowed::Numbers(allowed), .. } => {
            primitives(column, fault, |v| !allowed.contains(&v));
        }
        _ => {}
    }
}

fn booleans(allowed: &[bool], column: &BooleanArray, fault: &mut dyn FnMut(usize)) {
    for (row, value) in column.iter().enumerate() {
        if value.is_some_and(|v| !allowed.contains(&v)) {
            fault(row);
        }
    }
}

fn strings(rule: &Rule, column: &StringArray, fault: &mut dyn FnMut(usize)) {
    let mut report = |is_bad: &mut dyn FnMut(&str) -> bool| {
        for (row, value) in column.iter().enumerate() {
            if value.is_some_and(&mut *is_bad) {
                fault(row);
            }
        }
    };
    match rule {
        // A string has at least a quarter as many characters as bytes and at most as many: most need no counting.
        Rule::MinLength(n) => {
            report(&mut |v| v.len() < *n || (v.len() < 4 * n && v.chars().count() < *n));
        }
        Rule::MaxLength(n) => report(&mut |v| v.len() > *n && v.chars().count() > *n),
        Rule::Pattern(pattern) => {
            // Columns with a pattern hold codes: few values, often repeated. Only as many are kept as stay cheap.
            let mut known: BTreeMap<String, bool> = BTreeMap::new();
            report(&mut |v| match known.get(v) {
                Some(bad) => *bad,
                None => {
                    let bad = !pattern.is_match(v);
                    if known.len() < 256 && v.len() <= 64 {
                        known.insert(v.to_owned(), bad);
                    }
                    bad
                }
            });
        }
        Rule::OneOf { values: Allowed::Strings(allowed), .. } => {
            report(&mut |v| !allowed.iter().any(|a| a == v));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array};
    use serde_json::{Value, json};

    /// A contract of one column `c`, and the rows of `column` that break a rule of it.
    fn bad_rows(property: Value, column: ArrayRef) -> Vec<usize> {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"c": property},
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"}},
        });
        let contract = Contract::parse(document.to_string().as_bytes()).unwrap();
        let mut faults = Vec::new();
        check(&contract, &[column], &mut faults);
        let mut rows: Vec<_> = faults.into_iter().map(|f| f.row).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn bounds_of_integers_hold_at_their_edges_and_leave_null_alone() {
        let column = Arc::new(Int64Array::from(vec![Some(0), Some(1), None, Some(5), Some(6)]));
        let of = |p: Value| bad_rows(p, column.clone());
        assert_eq!(of(json!({"type": "integer", "minimum": 1, "maximum": 5})), [0, 4]);
        assert_eq!(
            of(json!({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 5})),
            [0, 1, 3, 4]
        );
        assert_eq!(of(json!({"type": "integer", "enum": [1, 6]})), [0, 3]);
        assert_eq!(of(json!({"type": "integer", "const": 6})), [0, 1, 3]);
        assert_eq!(of(json!({"type": "integer", "minimum": 0.5})), [0]);
    }

    #[test]
    fn bounds_of_numbers_hold_at_their_edges() {
        let column = Arc::new(Float64Array::from(vec![Some(0.0), Some(0.5), None, Some(1.0)]));
        let of = |p: Value| bad_rows(p, column.clone());
        assert_eq!(of(json!({"type": "number", "minimum": 0.5, "exclusiveMaximum": 1})), [0, 3]);
        assert_eq!(of(json!({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5})), [0, 3]);
        assert_eq!(of(json!({"type": "number", "enum": [0, 1.0]})), [1]);
    }

    #[test]
    fn strings_are_counted_in_characters() {
        let column =
            Arc::new(StringArray::from(vec![Some(""), Some("é"), None, Some("äöü"), Some("abcd")]));
        let of = |p: Value| bad_rows(p, column.clone());
        assert_eq!(of(json!({"type": "string", "minLength": 1})), [0]);
        assert_eq!(of(json!({"type": "string", "minLength": 2, "maxLength": 3})), [0, 1, 4]);
        assert_eq!(of(json!({"type": "string", "pattern": "^[a-z]+$"})), [0, 1, 3]);
        assert_eq!(of(json!({"type": "string", "pattern": "b"})), [0, 1, 3]);
        assert_eq!(of(json!({"type": "string", "enum": ["", "é"]})), [3, 4]);
        let column = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
        assert_eq!(bad_rows(json!({"type": "boolean", "const": true}), column), [2]);
    }

    #[test]
    fn the_published_schema_carries_field_ids_and_lineage() {
        let document = include_bytes!("../../../examples/flights/contract.json");
        let version = Version::next(document, None, "u").unwrap().unwrap();
        let schema = published_schema(&version.contract().unwrap(), &version);
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names.len(), 22);
        assert_eq!(names[19..], ["_raw_id", "_raw_row", "_landed_at"]);
        assert_eq!(schema.field(0).metadata()[FIELD_ID], "11");
        assert!(schema.field(3).is_nullable() && !schema.field(18).is_nullable());
    }
}
