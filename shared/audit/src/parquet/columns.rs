//! A file's columns as the contract's: the same values in other types, never rounded.
//!
//! | column | from | bad |
//! |---|---|---|
//! | boolean | boolean | |
//! | int, long | integers of any width, decimals without a fraction | beyond 32 or 64 bits |
//! | float | integers to 2^24, floats and doubles | what no single is exactly; NaN and infinities |
//! | double | integers to 2^53, floats and doubles | the same of doubles |
//! | decimal | integers, decimals | more digits than the column has |
//! | string | byte arrays, however they are annotated | what is no UTF-8 |
//! | json | the same | what is no JSON |
//! | date | date | beyond the years 0 to 9999 |
//! | timestamp | timestamps of any unit; without a zone they are UTC | the same, and what is finer than a microsecond |
//! | struct, list | struct, list | |

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, ListArray, PrimitiveArray,
    StringBuilder, StructArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::nullif;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type, i256,
};
use arrow::error::ArrowError;
use sluicegate_contract::check::{Present, Vector, data_type};
use sluicegate_contract::time::MICROS_PER_DAY;
use sluicegate_contract::{Datum, Element, Type};

use super::schema::{Column, Plan, Value};

/// Days since 1970 of the years 0 to 9999, which are those that text has.
const DAYS: std::ops::RangeInclusive<i32> = -719_528..=2_932_896;
/// Integers up to here are all doubles, and singles.
const EXACT_DOUBLE: i128 = 1 << 53;
const EXACT_SINGLE: i128 = 1 << 24;

/// A value that has no place in its column.
pub(super) struct Misfit {
    /// Its row, or its place among the items of a list.
    pub(super) at: usize,
    /// The rule it breaks and why, where no rule of the contract says it.
    pub(super) rule: Option<(&'static str, &'static str)>,
}

/// A column of a contract, from the object that has it.
pub(super) fn column(
    column: &Column<'_>,
    object: &StructArray,
    misfits: &mut Vec<Misfit>,
) -> Result<Vector, ArrowError> {
    let field = column.field;
    let found = column.from.as_ref();
    let Some((source, plan)) = found.and_then(|(i, plan)| Some((object.columns().get(*i)?, plan)))
    else {
        let array = new_null_array(&data_type(&field.ty), object.len());
        return Ok(Vector::of(&array, field));
    };
    // What stands where there is no object is of no meaning.
    let source = match object.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => nullif(source, &(!nulls.inner()).into())?,
        None => source.clone(),
    };
    let mut vector = value(plan, &source, misfits)?;
    if field.always_present() {
        let is_missing = |at: &usize| vector.array.is_null(*at) && object.is_valid(*at);
        misfits.extend((0..object.len()).filter(is_missing).map(|at| Misfit { at, rule: None }));
    }
    // A null is a value where null is one; else it is as if the property were not there.
    vector.present = if field.required || field.nullable { Present::All } else { Present::Valid };
    Ok(vector)
}

fn value(
    plan: &Value<'_>,
    source: &ArrayRef,
    misfits: &mut Vec<Misfit>,
) -> Result<Vector, ArrowError> {
    match plan {
        Value::Leaf(ty) => Ok(Vector::new(leaf(ty, source, misfits)?, Present::All)),
        Value::Struct(ty, plan) => structure(ty, plan, source, misfits),
        Value::List(ty, element, items) => list(ty, element, items, source, misfits),
    }
}

fn structure(
    ty: &Type,
    plan: &Plan<'_>,
    source: &ArrayRef,
    misfits: &mut Vec<Misfit>,
) -> Result<Vector, ArrowError> {
    let object = source.as_struct();
    let inner = plan.columns.iter().map(|c| column(c, object, misfits));
    let inner = inner.collect::<Result<Vec<_>, _>>()?;
    let arrays = inner.iter().map(|vector| vector.array.clone()).collect();
    let DataType::Struct(fields) = data_type(ty) else { return Err(mismatch(source)) };
    let (nulls, length) = (object.nulls().cloned(), object.len());
    let array = StructArray::try_new_with_length(fields, arrays, nulls, length)?;
    Ok(Vector { array: Arc::new(array), present: Present::All, inner })
}

fn list(
    ty: &Type,
    element: &Element,
    plan: &Value<'_>,
    source: &ArrayRef,
    misfits: &mut Vec<Misfit>,
) -> Result<Vector, ArrowError> {
    let list = source.as_list::<i32>();
    let offsets = list.offsets();
    let (first, last) = (offsets.first(), offsets.last());
    let place = |offset: i32| usize::try_from(offset).unwrap_or_default();
    let values = list.values().slice(place(first), place(last) - place(first));
    let mut inside = Vec::new();
    let items = value(plan, &values, &mut inside)?;
    if !element.nullable {
        let nulls = (0..values.len()).filter(|at| values.is_null(*at));
        inside.extend(nulls.map(|at| Misfit { at, rule: None }));
    }
    for misfit in inside {
        let item = misfit.at + place(first);
        let row = offsets.partition_point(|end| place(*end) <= item).saturating_sub(1);
        misfits.push(Misfit { at: row, ..misfit });
    }
    let DataType::List(field) = data_type(ty) else { return Err(mismatch(source)) };
    let offsets: Vec<i32> = offsets.iter().map(|offset| offset - first).collect();
    let offsets = OffsetBuffer::new(offsets.into());
    let array = ListArray::try_new(field, offsets, items.array.clone(), list.nulls().cloned())?;
    Ok(Vector { array: Arc::new(array), present: Present::All, inner: vec![items] })
}

fn mismatch(source: &ArrayRef) -> ArrowError {
    ArrowError::CastError(format!("{} was planned for another column", source.data_type()))
}

/// Calls a macro with the Arrow type of integers of any width.
macro_rules! integers {
    ($source:expr, $each:ident) => {
        match $source.data_type() {
            DataType::Int8 => Some($each!(Int8Type)),
            DataType::Int16 => Some($each!(Int16Type)),
            DataType::Int32 => Some($each!(Int32Type)),
            DataType::Int64 => Some($each!(Int64Type)),
            DataType::UInt8 => Some($each!(UInt8Type)),
            DataType::UInt16 => Some($each!(UInt16Type)),
            DataType::UInt32 => Some($each!(UInt32Type)),
            DataType::UInt64 => Some($each!(UInt64Type)),
            _ => None,
        }
    };
}

/// Numbers as others, null where `f` says there is none.
fn to<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    source: &ArrayRef,
    f: impl Fn(F::Native) -> Option<T::Native>,
) -> PrimitiveArray<T> {
    source.as_primitive::<F>().unary_opt(f)
}

fn leaf(ty: &Type, source: &ArrayRef, misfits: &mut Vec<Misfit>) -> Result<ArrayRef, ArrowError> {
    let mut rule = None;
    let array: Option<ArrayRef> = match ty {
        _ if *source.data_type() == DataType::Null => {
            return Ok(new_null_array(&data_type(ty), source.len()));
        }
        Type::Boolean => return Ok(source.clone()),
        Type::Int => whole::<Int32Type>(source),
        Type::Long => whole::<Int64Type>(source),
        Type::Float => single(source),
        Type::Double => double(source),
        Type::Decimal { precision, scale } => {
            let array = decimal(source, *precision, *scale);
            array.map(|array| Arc::new(array.with_data_type(data_type(ty))) as _)
        }
        Type::String => {
            rule = Some(("encoding", "is not valid UTF-8"));
            source.as_binary_view_opt().map(texts)
        }
        Type::Json => return json(source, misfits),
        Type::Date => {
            let date = |day| Some(day).filter(|day| DAYS.contains(day));
            (*source.data_type() == DataType::Date32)
                .then(|| Arc::new(to::<Date32Type, Date32Type>(source, date)) as _)
        }
        Type::Timestamp => {
            let array = timestamp(source);
            array.map(|array| Arc::new(array.with_timezone("UTC")) as _)
        }
        Type::Struct(_) | Type::List(_) => None,
    };
    let array = array.ok_or_else(|| mismatch(source))?;
    let known = source.nulls().map_or(0, NullBuffer::null_count);
    if array.null_count() > known {
        let lost = (0..array.len()).filter(|at| array.is_null(*at) && source.is_valid(*at));
        misfits.extend(lost.map(|at| Misfit { at, rule }));
    }
    Ok(array)
}

fn whole<T: ArrowPrimitiveType>(source: &ArrayRef) -> Option<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    if *source.data_type() == T::DATA_TYPE {
        return Some(source.clone());
    }
    let fit = |value: i128| T::Native::try_from(value).ok();
    macro_rules! each {
        ($from:ty) => {
            to::<$from, T>(source, |v| fit(v.into()))
        };
    }
    let array = match source.data_type() {
        DataType::Decimal128(..) => Some(to::<Decimal128Type, T>(source, fit)),
        DataType::Decimal256(..) => {
            Some(to::<Decimal256Type, T>(source, |v| v.to_i128().and_then(fit)))
        }
        _ => integers!(source, each),
    };
    array.map(|array| Arc::new(array) as _)
}

fn double(source: &ArrayRef) -> Option<ArrayRef> {
    #[allow(clippy::cast_precision_loss, reason = "all of them are doubles")]
    let exact = |v: i128| (v.abs() <= EXACT_DOUBLE).then_some(v as f64);
    macro_rules! each {
        ($from:ty) => {
            to::<$from, Float64Type>(source, |v| exact(v.into()))
        };
    }
    let finite = |v: f64| Some(v).filter(|v| v.is_finite());
    let array = match source.data_type() {
        DataType::Float16 => Some(to::<Float16Type, Float64Type>(source, |v| finite(v.to_f64()))),
        DataType::Float32 => Some(to::<Float32Type, Float64Type>(source, |v| finite(v.into()))),
        DataType::Float64 => {
            let numbers = source.as_primitive::<Float64Type>();
            if numbers.values().iter().all(|v| v.is_finite()) {
                return Some(source.clone());
            }
            Some(to::<Float64Type, Float64Type>(source, finite))
        }
        _ => integers!(source, each),
    };
    array.map(|array| Arc::new(array) as _)
}

fn single(source: &ArrayRef) -> Option<ArrayRef> {
    #[allow(clippy::cast_precision_loss, reason = "all of them are singles")]
    let exact = |v: i128| (v.abs() <= EXACT_SINGLE).then_some(v as f32);
    macro_rules! each {
        ($from:ty) => {
            to::<$from, Float32Type>(source, |v| exact(v.into()))
        };
    }
    let finite = |v: f32| Some(v).filter(|v| v.is_finite());
    #[allow(clippy::cast_possible_truncation, clippy::float_cmp, reason = "compared right after")]
    let narrowed = |v: f64| finite(v as f32).filter(|single| f64::from(*single) == v);
    let array = match source.data_type() {
        DataType::Float16 => Some(to::<Float16Type, Float32Type>(source, |v| finite(v.to_f32()))),
        DataType::Float32 => Some(to::<Float32Type, Float32Type>(source, finite)),
        DataType::Float64 => Some(to::<Float64Type, Float32Type>(source, narrowed)),
        _ => integers!(source, each),
    };
    array.map(|array| Arc::new(array) as _)
}

fn decimal(source: &ArrayRef, precision: u8, scale: u8) -> Option<PrimitiveArray<Decimal128Type>> {
    let most = 10u128.checked_pow(u32::from(precision))?;
    let fit = |value: i128| Some(value).filter(|value| value.unsigned_abs() < most);
    let rescaled = move |value: i128, from: i8| {
        let by = i32::from(scale) - i32::from(from);
        let unit = 10i128.checked_pow(by.unsigned_abs())?;
        if by >= 0 {
            return value.checked_mul(unit).and_then(fit);
        }
        (value % unit == 0).then_some(value / unit).and_then(fit)
    };
    macro_rules! each {
        ($from:ty) => {
            to::<$from, Decimal128Type>(source, |v| rescaled(v.into(), 0))
        };
    }
    match source.data_type() {
        DataType::Decimal128(_, from) => {
            let from = *from;
            Some(to::<Decimal128Type, _>(source, move |v| rescaled(v, from)))
        }
        DataType::Decimal256(_, from) => {
            let from = *from;
            Some(to::<Decimal256Type, _>(source, move |v| {
                // What goes beyond 128 bits may end in zeros.
                match v.to_i128() {
                    Some(v) => rescaled(v, from),
                    None => {
                        let by = i32::from(from) - i32::from(scale);
                        let unit = i256::from(10).checked_pow(u32::try_from(by).ok()?)?;
                        let (quotient, rest) = (v.checked_div(unit)?, v.checked_rem(unit)?);
                        (rest == i256::ZERO).then(|| quotient.to_i128())?.and_then(fit)
                    }
                }
            }))
        }
        _ => integers!(source, each),
    }
}

fn timestamp(source: &ArrayRef) -> Option<PrimitiveArray<TimestampMicrosecondType>> {
    let (first, last) = (i64::from(*DAYS.start()), i64::from(*DAYS.end()) + 1);
    let years = first * MICROS_PER_DAY..last * MICROS_PER_DAY;
    let fit = |micros: i64| Some(micros).filter(|micros| years.contains(micros));
    let DataType::Timestamp(unit, _) = source.data_type() else { return None };
    Some(match unit {
        TimeUnit::Second => {
            to::<TimestampSecondType, _>(source, |v| v.checked_mul(1_000_000).and_then(fit))
        }
        TimeUnit::Millisecond => {
            to::<TimestampMillisecondType, _>(source, |v| v.checked_mul(1000).and_then(fit))
        }
        TimeUnit::Microsecond => to::<TimestampMicrosecondType, _>(source, fit),
        TimeUnit::Nanosecond => to::<TimestampNanosecondType, _>(source, |v| {
            (v % 1000 == 0).then_some(v / 1000).and_then(fit)
        }),
    })
}

/// Text, null where bytes are none.
fn texts(source: &BinaryViewArray) -> ArrayRef {
    let bytes = source.iter().flatten().map(<[u8]>::len).sum();
    let mut texts = StringBuilder::with_capacity(source.len(), bytes);
    for value in source.iter() {
        texts.append_option(value.and_then(|bytes| std::str::from_utf8(bytes).ok()));
    }
    Arc::new(texts.finish())
}

/// Text of JSON values; JSON's null is one like any other.
fn json(source: &ArrayRef, misfits: &mut Vec<Misfit>) -> Result<ArrayRef, ArrowError> {
    let values = source.as_binary_view_opt().ok_or_else(|| mismatch(source))?;
    let mut texts = StringBuilder::new();
    for (at, value) in values.iter().enumerate() {
        let text = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
        match text.map(Datum::parse) {
            Some(Ok(Datum::Null)) => texts.append_null(),
            Some(Ok(_)) => texts.append_option(text),
            Some(Err(_)) | None => {
                texts.append_null();
                if value.is_some() {
                    misfits.push(Misfit { at, rule: Some(("json", "is not JSON")) });
                }
            }
        }
    }
    Ok(Arc::new(texts.finish()))
}
