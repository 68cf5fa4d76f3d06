//! A row of columns as the JSON object that it stands for.
//!
//! Numbers have all their digits, times are RFC 3339, bytes that are no text are in hexadecimal. What no JSON number is
//! (NaN, infinities) stands there by its name, as text. A null is null where the contract allows it, else left out.

use arrow::array::{Array, AsArray, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use jiff::civil::Date;
use jiff::{Span, Timestamp};
use sluicegate_contract::{Datum, Type, pointer};

use super::schema::{Plan, Value};

/// A row.
pub(super) fn object(plan: &Plan<'_>, rows: &StructArray, row: usize) -> String {
    let mut out = String::new();
    write_object(&mut out, plan, rows, row);
    out
}

/// What a row has beyond its contract: place, and JSON text.
pub(super) fn strangers(plan: &Plan<'_>, rows: &StructArray, row: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(plan, rows, row, "", &mut found);
    found
}

fn collect(
    plan: &Plan<'_>,
    object: &StructArray,
    row: usize,
    at: &str,
    found: &mut Vec<(String, String)>,
) {
    for column in &plan.columns {
        let Some((i, value)) = &column.from else { continue };
        if let Some(array) = object.columns().get(*i).filter(|_| has_strangers(value)) {
            inside(value, array, row, &pointer::child(at, &column.field.source), found);
        }
    }
    for (i, name) in &plan.strangers {
        if let Some(array) = object.columns().get(*i).filter(|array| array.is_valid(row)) {
            let mut text = String::new();
            write(&mut text, array, row);
            found.push((pointer::child(at, name), text));
        }
    }
}

/// Whether objects may have something beyond their contract.
pub(super) fn any_strangers(plan: &Plan<'_>) -> bool {
    let mut columns = plan.columns.iter().filter_map(|column| column.from.as_ref());
    !plan.strangers.is_empty() || columns.any(|(_, value)| has_strangers(value))
}

fn has_strangers(value: &Value<'_>) -> bool {
    match value {
        Value::Leaf(_) => false,
        Value::List(_, _, items) => has_strangers(items),
        Value::Struct(_, plan) => any_strangers(plan),
    }
}

fn inside(
    value: &Value<'_>,
    array: &dyn Array,
    row: usize,
    at: &str,
    found: &mut Vec<(String, String)>,
) {
    match value {
        _ if array.is_null(row) => {}
        Value::Leaf(_) => {}
        Value::Struct(_, plan) => collect(plan, array.as_struct(), row, at, found),
        Value::List(_, _, items) => {
            let list = array.as_list::<i32>();
            for (n, item) in items_of(list.offsets(), row).enumerate() {
                inside(items, list.values(), item, &format!("{at}/{n}"), found);
            }
        }
    }
}

/// The items of a row's list.
fn items_of(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    let at = |place: usize| offsets.get(place).and_then(|o| usize::try_from(*o).ok());
    at(row).unwrap_or_default()..at(row + 1).unwrap_or_default()
}

fn write_object(out: &mut String, plan: &Plan<'_>, object: &StructArray, row: usize) {
    let mut first = true;
    out.push('{');
    for column in &plan.columns {
        let array =
            column.from.as_ref().and_then(|(i, plan)| Some((object.columns().get(*i)?, plan)));
        let Some((array, value)) = array else { continue };
        if array.is_valid(row) || column.field.nullable {
            name(out, &column.field.source, &mut first);
            write_value(out, value, array, row);
        }
    }
    for (i, stranger) in &plan.strangers {
        if let Some(array) = object.columns().get(*i).filter(|array| array.is_valid(row)) {
            name(out, stranger, &mut first);
            write(out, array, row);
        }
    }
    out.push('}');
}

fn name(out: &mut String, name: &str, first: &mut bool) {
    if !std::mem::replace(first, false) {
        out.push(',');
    }
    quoted(out, name);
    out.push(':');
}

fn write_value(out: &mut String, value: &Value<'_>, array: &dyn Array, row: usize) {
    match value {
        _ if array.is_null(row) => out.push_str("null"),
        Value::Struct(_, plan) => write_object(out, plan, array.as_struct(), row),
        Value::List(_, _, items) => {
            let list = array.as_list::<i32>();
            sequence(out, items_of(list.offsets(), row), |out, item| {
                write_value(out, items, list.values(), item);
            });
        }
        Value::Leaf(Type::Double) if *array.data_type() == DataType::Float32 => {
            // As the column has it, which has more digits than the single's own.
            number(out, array.as_primitive::<Float32Type>().value(row).into());
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "one that is no single is written as it is"
        )]
        Value::Leaf(Type::Float) if *array.data_type() == DataType::Float64 => {
            let double = array.as_primitive::<Float64Type>().value(row);
            if f64::from(double as f32) == double {
                single(out, double as f32);
            } else {
                number(out, double);
            }
        }
        Value::Leaf(Type::Json) if *array.data_type() == DataType::BinaryView => {
            let text = std::str::from_utf8(array.as_binary_view().value(row)).ok();
            match text.filter(|text| Datum::parse(text).is_ok()) {
                // A row is a line; outside of its strings JSON may have others.
                Some(text) => {
                    out.extend(text.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }))
                }
                None => write(out, array, row),
            }
        }
        Value::Leaf(_) => write(out, array, row),
    }
}

fn sequence(
    out: &mut String,
    items: std::ops::Range<usize>,
    mut write: impl FnMut(&mut String, usize),
) {
    out.push('[');
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

fn quoted(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn number(out: &mut String, number: f64) {
    match serde_json::Number::from_f64(number) {
        Some(number) => out.push_str(&number.to_string()),
        None => quoted(out, &number.to_string()),
    }
}

fn single(out: &mut String, single: f32) {
    if single.is_finite() {
        out.push_str(&serde_json::to_string(&single).unwrap_or_default());
    } else {
        quoted(out, &single.to_string());
    }
}

fn bytes(out: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => quoted(out, text),
        Err(_) => hexadecimal(out, bytes),
    }
}

fn hexadecimal(out: &mut String, bytes: &[u8]) {
    let digits = |byte: &u8| {
        [byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or_default())
    };
    out.push('"');
    out.extend(bytes.iter().flat_map(digits));
    out.push('"');
}

/// A day of the calendar, or how many days it is from 1970.
fn date(days: i32) -> String {
    let span = Span::new().try_days(i64::from(days)).ok();
    let date = span.and_then(|span| Date::constant(1970, 1, 1).checked_add(span).ok());
    date.map_or_else(|| format!("{days} days from 1970-01-01"), |date| date.to_string())
}

/// An instant, or how many units it is from 1970.
fn instant(value: i64, unit: TimeUnit) -> String {
    let (nanos, name) = match unit {
        TimeUnit::Second => (1_000_000_000, "seconds"),
        TimeUnit::Millisecond => (1_000_000, "milliseconds"),
        TimeUnit::Microsecond => (1000, "microseconds"),
        TimeUnit::Nanosecond => (1, "nanoseconds"),
    };
    let instant = Timestamp::from_nanosecond(i128::from(value) * nanos);
    instant.map_or_else(|_| format!("{value} {name} from 1970-01-01"), |i| i.to_string())
}

/// A value by its own type.
fn write(out: &mut String, array: &dyn Array, row: usize) {
    macro_rules! value {
        ($ty:ty) => {
            array.as_primitive::<$ty>().value(row)
        };
    }
    match array.data_type() {
        _ if array.is_null(row) => out.push_str("null"),
        DataType::Null => out.push_str("null"),
        DataType::Boolean => out.push_str(&array.as_boolean().value(row).to_string()),
        DataType::Int8 => out.push_str(&value!(Int8Type).to_string()),
        DataType::Int16 => out.push_str(&value!(Int16Type).to_string()),
        DataType::Int32 => out.push_str(&value!(Int32Type).to_string()),
        DataType::Int64 => out.push_str(&value!(Int64Type).to_string()),
        DataType::UInt8 => out.push_str(&value!(UInt8Type).to_string()),
        DataType::UInt16 => out.push_str(&value!(UInt16Type).to_string()),
        DataType::UInt32 => out.push_str(&value!(UInt32Type).to_string()),
        DataType::UInt64 => out.push_str(&value!(UInt64Type).to_string()),
        DataType::Float16 => single(out, value!(Float16Type).to_f32()),
        DataType::Float32 => single(out, value!(Float32Type)),
        DataType::Float64 => number(out, value!(Float64Type)),
        DataType::Decimal128(..) => {
            out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row));
        }
        DataType::Decimal256(..) => {
            out.push_str(&array.as_primitive::<Decimal256Type>().value_as_string(row));
        }
        DataType::BinaryView => bytes(out, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hexadecimal(out, array.as_fixed_size_binary().value(row)),
        DataType::Date32 => quoted(out, &date(value!(Date32Type))),
        DataType::Timestamp(unit, _) => {
            let value = match unit {
                TimeUnit::Second => value!(TimestampSecondType),
                TimeUnit::Millisecond => value!(TimestampMillisecondType),
                TimeUnit::Microsecond => value!(TimestampMicrosecondType),
                TimeUnit::Nanosecond => value!(TimestampNanosecondType),
            };
            quoted(out, &instant(value, *unit));
        }
        DataType::Struct(fields) => {
            let object = array.as_struct();
            let mut first = true;
            out.push('{');
            for (field, column) in fields.iter().zip(object.columns()) {
                if column.is_valid(row) {
                    name(out, field.name(), &mut first);
                    write(out, column, row);
                }
            }
            out.push('}');
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            sequence(out, items_of(list.offsets(), row), |out, item| {
                write(out, list.values(), item);
            });
        }
        // As its entries: keys of JSON are text, and come once.
        DataType::Map(..) => {
            let map = array.as_map();
            sequence(out, items_of(map.offsets(), row), |out, item| {
                write(out, map.entries(), item);
            });
        }
        _ => quoted(out, &array_value_to_string(array, row).unwrap_or_default()),
    }
}
