//! Tests of accepted rows for the audits that ask for a share of them, a column at a time.
//!
//! Every batch is tested as it passes; a contract without such audits costs nothing. Conditions are evaluated by whole
//! columns; what that cannot do exactly, such as numbers beyond 128 bits, is evaluated row by row, with the same outcome
//! ([`Expr::value`] is what both mean). Values of classified columns are not kept.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use sluicegate_contract::audits::AuditMeasure;
use sluicegate_contract::check::texts;
use sluicegate_contract::expr::{Comparison, Expr, Literal, Operator, Value};
use sluicegate_contract::time::MICROS_PER_DAY;
use sluicegate_contract::{Contract, Format, Lineage, Num, Pattern, pointer};

use crate::cell::POWERS;

/// Failures of one test that are kept.
const SAMPLE: usize = 5;
/// Characters of a value that a failure shows.
const SHOWN: usize = 60;
/// Values that are looked through; of more, one is sought.
const FEW: usize = 16;

/// The row tests of a contract's audits, and what they have come to.
#[derive(Debug, Default)]
pub(crate) struct RowTests {
    tests: Vec<Test>,
    /// Where the columns that conditions name are.
    columns: BTreeMap<String, usize>,
    /// Where the rows' numbers are.
    row_number: usize,
}

/// What a row test came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Rows or values of which it can be told; of a coverage, the values that are listed.
    pub tested: u64,
    pub passed: u64,
    /// The first rows that failed; of a coverage, values that do not occur.
    pub failures: Vec<String>,
}

#[derive(Debug)]
struct Test {
    id: String,
    what: What,
    /// The column whose values may be shown.
    shown: Option<usize>,
    tested: u64,
    passed: u64,
    /// Numbers of rows, in order, with the value that failed.
    failures: Vec<(i64, String)>,
}

#[derive(Debug)]
enum What {
    Holds(Expr),
    Among { column: usize, members: Members },
    Matches { column: usize, pattern: Pattern },
    OfFormat { column: usize, format: Format },
    Covers { column: usize, unseen: Vec<Literal>, missing: Members, redacted: bool },
}

impl RowTests {
    /// The tests that a contract's audits need.
    pub(crate) fn new(contract: &Contract) -> Self {
        let find = |name: &str| contract.fields.iter().position(|field| field.name == name);
        let mut columns = BTreeMap::new();
        let mut tests = Vec::new();
        for rule in &contract.audits {
            let of = match &rule.measure {
                AuditMeasure::AllowedValues { column, .. }
                | AuditMeasure::Coverage { column, .. }
                | AuditMeasure::Pattern { column, .. }
                | AuditMeasure::Format { column, .. } => find(column),
                _ => None,
            };
            let redacted = of
                .and_then(|at| contract.fields.get(at))
                .is_none_or(|field| contract.is_redacted(&pointer::child("", &field.source)));
            let what = match (&rule.measure, of) {
                (AuditMeasure::Share { condition }, _) => {
                    condition.leaves(&mut |leaf| {
                        if let Expr::Column(name) = leaf {
                            columns.extend(find(name).map(|at| (name.clone(), at)));
                        }
                    });
                    What::Holds(condition.clone())
                }
                (AuditMeasure::AllowedValues { values, .. }, Some(column)) => {
                    What::Among { column, members: Members::of(values) }
                }
                (AuditMeasure::Pattern { pattern, .. }, Some(column)) => {
                    What::Matches { column, pattern: pattern.clone() }
                }
                (AuditMeasure::Format { format, .. }, Some(column)) => {
                    What::OfFormat { column, format: *format }
                }
                (AuditMeasure::Coverage { values, .. }, Some(column)) => What::Covers {
                    column,
                    unseen: values.clone(),
                    missing: Members::of(values),
                    redacted,
                },
                _ => continue,
            };
            let tested = match &what {
                What::Covers { unseen, .. } => unseen.len() as u64,
                _ => 0,
            };
            let shown = of.filter(|_| !redacted);
            let id = rule.id.clone();
            tests.push(Test { id, what, shown, tested, passed: 0, failures: Vec::new() });
        }
        let ours = Lineage::of(contract).iter().position(|l| *l == Lineage::RawRow);
        Self { tests, columns, row_number: contract.fields.len() + ours.unwrap_or_default() }
    }

    /// Tests accepted rows, in the published schema.
    pub(crate) fn update(&mut self, rows: &RecordBatch) {
        for test in &mut self.tests {
            let held = match &mut test.what {
                What::Holds(condition) => Frame { rows, columns: &self.columns }.truth(condition),
                What::Among { column, members } => {
                    of_values(rows, *column, |array| members.holding(array))
                }
                What::Matches { column, pattern } => of_values(rows, *column, |array| {
                    Some(!&texts_where(array.as_string_opt()?, |v| !pattern.is_match(v)))
                }),
                What::OfFormat { column, format } => of_values(rows, *column, |array| {
                    Some(!&texts_where(array.as_string_opt()?, |v| !format.is_match(v)))
                }),
                What::Covers { column, unseen, missing, .. } => {
                    if let Some(array) = rows.columns().get(*column) {
                        see(array, unseen, missing);
                    }
                    test.passed = test.tested.saturating_sub(unseen.len() as u64);
                    continue;
                }
            };
            test.count(rows, self.row_number, &held);
        }
    }

    /// What the tests came to, by the ids of their audits.
    pub(crate) fn finish(self) -> BTreeMap<String, Tally> {
        let tallies = self.tests.into_iter().map(|test| {
            let failures = match &test.what {
                What::Covers { redacted: true, .. } => Vec::new(),
                What::Covers { unseen, .. } => {
                    unseen.iter().take(SAMPLE).map(Literal::shown).collect()
                }
                _ => test.failures.into_iter().map(|(_, shown)| shown).collect(),
            };
            (test.id, Tally { tested: test.tested, passed: test.passed, failures })
        });
        tallies.collect()
    }
}

impl Test {
    fn count(&mut self, rows: &RecordBatch, row_number: usize, held: &Truth) {
        let (tested, passed) = match &held.nulls {
            None => (held.holds.len(), held.holds.count_set_bits()),
            Some(nulls) => {
                let passed = (&held.holds & nulls.inner()).count_set_bits();
                (nulls.len() - nulls.null_count(), passed)
            }
        };
        self.tested += tested as u64;
        self.passed += passed as u64;
        if passed == tested {
            return;
        }
        let failed = match &held.nulls {
            None => !&held.holds,
            Some(nulls) => nulls.inner() & &!&held.holds,
        };
        let numbers = rows.columns().get(row_number);
        let numbers = numbers.and_then(|array| array.as_primitive_opt::<Int64Type>());
        let column = self.shown.and_then(|at| rows.columns().get(at));
        for at in failed.set_indices().take(SAMPLE) {
            let Some(number) = numbers.and_then(|n| n.values().get(at)) else { break };
            let shown = match column {
                Some(array) => format!("row {number}: {}", shown(array, at)),
                None => format!("row {number}"),
            };
            self.failures.push((*number, shown));
        }
        self.failures.sort();
        self.failures.truncate(SAMPLE);
    }
}

/// A value for a message, as JSON has it.
fn shown(array: &ArrayRef, row: usize) -> String {
    let text = match (cell(array, row), array.data_type()) {
        (Some(Value::Time(micros)), DataType::Date32) => {
            let day = i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or_default();
            Literal::Date(day).shown()
        }
        (Some(Value::Time(micros)), _) => Literal::Timestamp(micros).shown(),
        (Some(Value::Text(text)), _) => Literal::Text(text).shown(),
        (Some(Value::Number(number)), _) => number.to_string(),
        (Some(Value::Double(double)), _) => double.to_string(),
        _ => String::new(),
    };
    match text.char_indices().nth(SHOWN) {
        None => text,
        Some(_) => format!("{}…", text.chars().take(SHOWN).collect::<String>()),
    }
}

/// Where something holds, and where that cannot be told.
struct Truth {
    holds: BooleanBuffer,
    nulls: Option<NullBuffer>,
}

/// A test of the values of a column; of an array that is none of its type nothing can be told.
fn of_values(
    rows: &RecordBatch,
    column: usize,
    test: impl FnOnce(&ArrayRef) -> Option<BooleanBuffer>,
) -> Truth {
    let array = rows.columns().get(column);
    match array.and_then(|array| Some((array, test(array)?))) {
        Some((array, holds)) => Truth { holds, nulls: nulls(array) },
        None => unknown(rows.num_rows()),
    }
}

fn unknown(rows: usize) -> Truth {
    let holds = BooleanBuffer::new_unset(rows);
    Truth { holds, nulls: Some(NullBuffer::new_null(rows)) }
}

fn nulls(array: &ArrayRef) -> Option<NullBuffer> {
    array.nulls().filter(|nulls| nulls.null_count() > 0).cloned()
}

/// The strings that are so; null is none.
fn texts_where(array: &StringArray, is: impl Fn(&str) -> bool) -> BooleanBuffer {
    texts(array, is).unwrap_or_else(|| BooleanBuffer::new_unset(array.len()))
}

/// Strikes off the values that occur.
fn see(array: &ArrayRef, unseen: &mut Vec<Literal>, missing: &mut Members) {
    if unseen.is_empty() {
        return;
    }
    let Some(found) = missing.holding(array) else { return };
    let found = match array.nulls() {
        Some(nulls) => &found & nulls.inner(),
        None => found,
    };
    let before = unseen.len();
    let mut last: Option<Value> = None;
    for row in found.set_indices() {
        let Some(value) = cell(array, row) else { continue };
        // Values come in runs: one that was struck off is not looked for again.
        if last.as_ref().is_some_and(|last| last.compare(&value) == Some(Ordering::Equal)) {
            continue;
        }
        unseen.retain(|v| v.value().compare(&value) != Some(Ordering::Equal));
        if unseen.is_empty() {
            break;
        }
        last = Some(value);
    }
    if unseen.len() < before {
        *missing = Members::of(unseen);
    }
}

/// A value of an array; a double that is not finite is null.
fn cell(array: &ArrayRef, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return None;
    }
    let number = |n: i128| Some(Value::Number(Num::whole(n)));
    match array.data_type() {
        DataType::Boolean => Some(Value::Boolean(array.as_boolean_opt()?.value(row))),
        DataType::Int32 => number(array.as_primitive_opt::<Int32Type>()?.value(row).into()),
        DataType::Int64 => number(array.as_primitive_opt::<Int64Type>()?.value(row).into()),
        DataType::Float32 => {
            Value::double(array.as_primitive_opt::<Float32Type>()?.value(row).into())
        }
        DataType::Float64 => Value::double(array.as_primitive_opt::<Float64Type>()?.value(row)),
        DataType::Decimal128(_, scale) => {
            let unscaled = array.as_primitive_opt::<Decimal128Type>()?.value(row);
            Some(Value::Number(Num::decimal(unscaled, u8::try_from(*scale).ok()?)))
        }
        DataType::Utf8 => Some(Value::Text(array.as_string_opt::<i32>()?.value(row).to_owned())),
        DataType::Date32 => {
            let days = array.as_primitive_opt::<Date32Type>()?.value(row);
            Some(Value::Time(i64::from(days) * MICROS_PER_DAY))
        }
        DataType::Timestamp(..) => {
            Some(Value::Time(array.as_primitive_opt::<TimestampMicrosecondType>()?.value(row)))
        }
        _ => None,
    }
}

/// A list of values of one kind, to seek in.
#[derive(Debug)]
enum Members {
    /// Microseconds.
    Times(Vec<i64>),
    Numbers(Vec<Num>),
    Texts(Vec<String>),
    /// Of conditions or intervals.
    Others,
}

impl Members {
    fn of(values: &[Literal]) -> Self {
        let (mut times, mut numbers, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for value in values {
            match value.value() {
                Value::Time(micros) => times.push(micros),
                Value::Number(number) => numbers.push(number),
                Value::Text(text) => words.push(text),
                _ => return Self::Others,
            }
        }
        if !times.is_empty() {
            times.sort_unstable();
            Self::Times(times)
        } else if !numbers.is_empty() {
            numbers.sort_unstable();
            Self::Numbers(numbers)
        } else {
            words.sort_unstable();
            Self::Texts(words)
        }
    }

    /// Where an array has one of them; where it is null, anything.
    fn holding(&self, array: &ArrayRef) -> Option<BooleanBuffer> {
        self.among(&load(array)?.data)
    }

    fn among(&self, data: &Data<'_>) -> Option<BooleanBuffer> {
        match (self, data) {
            (Self::Times(times), Data::Whole(values)) => Some(sought(values, times)),
            (Self::Numbers(numbers), Data::Whole(values)) => {
                let whole = numbers.iter().filter_map(|n| i64::try_from(n.to_decimal(0)?).ok());
                Some(sought(values, &sorted(whole.collect())))
            }
            (Self::Numbers(numbers), Data::Decimal(values, scale)) => {
                let decimals = numbers.iter().filter_map(|n| n.to_decimal(*scale));
                Some(sought(values, &sorted(decimals.collect())))
            }
            (Self::Numbers(numbers), Data::Double(values)) => {
                // The negative zero is zero.
                let bits = |value: f64| (value + 0.0).to_bits();
                let wanted = sorted(numbers.iter().map(|n| bits(n.to_f64())).collect());
                let values: Vec<u64> = values.iter().map(|v| bits(*v)).collect();
                Some(sought(&values, &wanted))
            }
            (Self::Texts(words), Data::Text(array)) => Some(texts_where(array, |text| {
                if words.len() > FEW {
                    words.binary_search_by(|word| word.as_str().cmp(text)).is_ok()
                } else {
                    words.iter().any(|word| word == text)
                }
            })),
            _ => None,
        }
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values
}

fn sought<T: Ord + Copy>(values: &[T], wanted: &[T]) -> BooleanBuffer {
    if wanted.len() > FEW {
        flags(values.iter(), values.len(), |v| wanted.binary_search(v).is_ok())
    } else {
        flags(values.iter(), values.len(), |v| wanted.contains(v))
    }
}

fn flags<V>(
    mut values: impl Iterator<Item = V>,
    len: usize,
    is: impl Fn(V) -> bool,
) -> BooleanBuffer {
    BooleanBuffer::collect_bool(len, |_| values.next().is_some_and(&is))
}

/// The values of a part of a condition.
#[derive(Clone)]
enum Data<'a> {
    /// Whole numbers; times and intervals in microseconds.
    Whole(Cow<'a, [i64]>),
    /// With so many digits behind the point.
    Decimal(Cow<'a, [i128]>, u8),
    Double(Cow<'a, [f64]>),
    Text(&'a StringArray),
    Truth(BooleanBuffer),
    Constant(Value),
}

#[derive(Clone)]
struct Vector<'a> {
    data: Data<'a>,
    nulls: Option<NullBuffer>,
}

/// An array as it is; what it holds where it is null means nothing.
fn load(array: &ArrayRef) -> Option<Vector<'_>> {
    let data = match array.data_type() {
        DataType::Boolean => Data::Truth(array.as_boolean_opt()?.values().clone()),
        DataType::Int32 => {
            let values = array.as_primitive_opt::<Int32Type>()?.values();
            Data::Whole(values.iter().map(|v| i64::from(*v)).collect())
        }
        DataType::Int64 => {
            Data::Whole(Cow::Borrowed(array.as_primitive_opt::<Int64Type>()?.values()))
        }
        DataType::Float32 => {
            let values = array.as_primitive_opt::<Float32Type>()?.values();
            Data::Double(values.iter().map(|v| f64::from(*v)).collect())
        }
        DataType::Float64 => {
            Data::Double(Cow::Borrowed(array.as_primitive_opt::<Float64Type>()?.values()))
        }
        DataType::Decimal128(_, scale) => {
            let values = array.as_primitive_opt::<Decimal128Type>()?.values();
            Data::Decimal(Cow::Borrowed(values), u8::try_from(*scale).ok()?)
        }
        DataType::Utf8 => Data::Text(array.as_string_opt()?),
        DataType::Date32 => {
            let values = array.as_primitive_opt::<Date32Type>()?.values();
            Data::Whole(values.iter().map(|v| i64::from(*v) * MICROS_PER_DAY).collect())
        }
        DataType::Timestamp(..) => Data::Whole(Cow::Borrowed(
            array.as_primitive_opt::<TimestampMicrosecondType>()?.values(),
        )),
        _ => return None,
    };
    Some(finite(Vector { data, nulls: nulls(array) }))
}

/// With null where a double is not finite.
fn finite(vector: Vector<'_>) -> Vector<'_> {
    let nulls = match &vector.data {
        // Not stopping at the first: several are looked at at a time.
        Data::Double(values) if !values.iter().fold(true, |all, v| all & v.is_finite()) => {
            let finite = flags(values.iter(), values.len(), |v| v.is_finite());
            NullBuffer::union(vector.nulls.as_ref(), Some(&NullBuffer::new(finite)))
        }
        _ => return vector,
    };
    Vector { nulls, ..vector }
}

/// Numbers of one kind: as many as rows, or the same for all.
enum Operand<'v, T> {
    Many(&'v [T]),
    One(T),
}

impl<T: Copy> Operand<'_, T> {
    fn with<R: Copy, C: FromIterator<R>>(
        &self,
        other: &Self,
        rows: usize,
        of: impl Fn(T, T) -> R,
    ) -> C {
        match (self, other) {
            (Self::Many(a), Self::Many(b)) => {
                a.iter().zip(b.iter()).map(|(a, b)| of(*a, *b)).collect()
            }
            (Self::Many(a), Self::One(b)) => a.iter().map(|a| of(*a, *b)).collect(),
            (Self::One(a), Self::Many(b)) => b.iter().map(|b| of(*a, *b)).collect(),
            (Self::One(a), Self::One(b)) => std::iter::repeat_n(of(*a, *b), rows).collect(),
        }
    }

    fn flags(&self, other: &Self, rows: usize, is: impl Fn(T, T) -> bool) -> BooleanBuffer {
        match (self, other) {
            (Self::Many(a), Self::Many(b)) => {
                flags(a.iter().zip(b.iter()), rows, |(a, b)| is(*a, *b))
            }
            (Self::Many(a), Self::One(b)) => flags(a.iter(), rows, |a| is(*a, *b)),
            (Self::One(a), Self::Many(b)) => flags(b.iter(), rows, |b| is(*a, *b)),
            (Self::One(a), Self::One(b)) => uniform(rows, is(*a, *b)),
        }
    }
}

impl<T: Copy + PartialOrd> Operand<'_, T> {
    fn compared(&self, comparison: Comparison, other: &Self, rows: usize) -> BooleanBuffer {
        match comparison {
            Comparison::Equal => self.flags(other, rows, |a, b| a == b),
            Comparison::NotEqual => self.flags(other, rows, |a, b| a != b),
            Comparison::Less => self.flags(other, rows, |a, b| a < b),
            Comparison::LessOrEqual => self.flags(other, rows, |a, b| a <= b),
            Comparison::Greater => self.flags(other, rows, |a, b| a > b),
            Comparison::GreaterOrEqual => self.flags(other, rows, |a, b| a >= b),
        }
    }
}

fn uniform(rows: usize, truth: bool) -> BooleanBuffer {
    if truth { BooleanBuffer::new_set(rows) } else { BooleanBuffer::new_unset(rows) }
}

impl Data<'_> {
    /// As whole numbers, if it is some.
    fn whole(&self) -> Option<Operand<'_, i64>> {
        Some(match self {
            Self::Whole(values) => Operand::Many(values),
            Self::Constant(Value::Number(n)) => Operand::One(i64::try_from(n.to_decimal(0)?).ok()?),
            Self::Constant(Value::Time(micros) | Value::Duration(micros)) => Operand::One(*micros),
            _ => return None,
        })
    }

    /// As doubles, each the nearest.
    fn doubles(&self) -> Option<Cow<'_, [f64]>> {
        Some(match self {
            Self::Double(values) => Cow::Borrowed(values.as_ref()),
            #[allow(clippy::cast_precision_loss, reason = "the nearest double is asked for")]
            Self::Whole(values) => values.iter().map(|v| *v as f64).collect(),
            Self::Decimal(values, scale) => values.iter().map(|v| nearest(*v, *scale)).collect(),
            _ => return None,
        })
    }

    fn is_exact(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::Decimal(..) | Self::Constant(Value::Number(_)))
    }

    fn is_number(&self) -> bool {
        self.is_exact() || matches!(self, Self::Double(_) | Self::Constant(Value::Double(_)))
    }

    /// Digits behind the point that it has.
    fn scale(&self) -> Option<u8> {
        match self {
            Self::Whole(_) => Some(0),
            Self::Decimal(_, scale) | Self::Constant(Value::Number(Num::Exact { scale, .. })) => {
                Some(*scale)
            }
            _ => None,
        }
    }

    /// As decimals of so many digits behind the point; `None` where one has no place in 128 bits.
    fn decimals(&self, scale: u8) -> Option<Cow<'_, [i128]>> {
        let unit = |own: u8| 10i128.checked_pow(u32::from(scale.checked_sub(own)?));
        Some(match self {
            Self::Decimal(values, own) if *own == scale => Cow::Borrowed(values.as_ref()),
            Self::Decimal(values, own) => {
                let unit = unit(*own)?;
                values.iter().map(|v| v.checked_mul(unit)).collect::<Option<_>>()?
            }
            Self::Whole(values) => {
                let unit = unit(0)?;
                values.iter().map(|v| i128::from(*v).checked_mul(unit)).collect::<Option<_>>()?
            }
            _ => return None,
        })
    }
}

/// The nearest double of a decimal.
fn nearest(unscaled: i128, scale: u8) -> f64 {
    // Both are doubles, so that their quotient is rounded once.
    let small = unscaled.unsigned_abs() < 1 << 53;
    match POWERS.get(usize::from(scale)).filter(|_| small) {
        #[allow(clippy::cast_precision_loss, reason = "within 2^53")]
        Some(power) => unscaled as f64 / power,
        None => Num::decimal(unscaled, scale).to_f64(),
    }
}

/// A batch that conditions are evaluated over.
struct Frame<'a> {
    rows: &'a RecordBatch,
    columns: &'a BTreeMap<String, usize>,
}

impl<'a> Frame<'a> {
    /// Where a condition holds, and where that cannot be told.
    fn truth(&self, condition: &Expr) -> Truth {
        match self.vector(condition) {
            Some(Vector { data: Data::Truth(holds), nulls }) => Truth { holds, nulls },
            Some(Vector { data: Data::Constant(Value::Boolean(truth)), nulls }) => {
                Truth { holds: uniform(self.rows.num_rows(), truth), nulls }
            }
            _ => self.row_by_row(condition),
        }
    }

    fn row_by_row(&self, condition: &Expr) -> Truth {
        let rows = self.rows.num_rows();
        // Both masks are made in one walk.
        let mut known = Vec::with_capacity(rows);
        let holds = BooleanBuffer::collect_bool(rows, |row| {
            let value = condition.value(&|leaf| match leaf {
                Expr::Column(name) => cell(self.array(name)?, row),
                _ => None,
            });
            known.push(value.is_some());
            value == Some(Value::Boolean(true))
        });
        Truth { holds, nulls: Some(NullBuffer::from(known)) }
    }

    fn array(&self, name: &str) -> Option<&'a ArrayRef> {
        self.rows.columns().get(*self.columns.get(name)?)
    }

    /// A part of a condition by whole columns; `None` where that cannot be done exactly.
    fn vector(&self, expr: &Expr) -> Option<Vector<'a>> {
        let mut constant = true;
        expr.leaves(&mut |_| constant = false);
        if constant {
            let data = Data::Constant(expr.value(&|_| None)?);
            return Some(Vector { data, nulls: None });
        }
        match expr {
            Expr::Literal(_) | Expr::Rows | Expr::Aggregate(..) => None,
            Expr::Column(name) => load(self.array(name)?),
            Expr::Negate(of) => {
                let of = self.vector(of)?;
                let data = match of.data {
                    Data::Whole(values) => {
                        Data::Whole(values.iter().map(|v| v.checked_neg()).collect::<Option<_>>()?)
                    }
                    Data::Decimal(values, scale) => {
                        let values = values.iter().map(|v| v.checked_neg());
                        Data::Decimal(values.collect::<Option<_>>()?, scale)
                    }
                    Data::Double(values) => Data::Double(values.iter().map(|v| -v).collect()),
                    _ => return None,
                };
                Some(Vector { data, nulls: of.nulls })
            }
            Expr::Arithmetic(operator, a, b) => {
                let (a, b) = (self.vector(a)?, self.vector(b)?);
                let nulls = NullBuffer::union(a.nulls.as_ref(), b.nulls.as_ref());
                let data = self.arithmetic(*operator, &a.data, &b.data)?;
                Some(finite(Vector { data, nulls }))
            }
            Expr::Compare(comparison, a, b) => {
                let (a, b) = (self.vector(a)?, self.vector(b)?);
                let nulls = NullBuffer::union(a.nulls.as_ref(), b.nulls.as_ref());
                let holds = self.compared(*comparison, &a.data, &b.data)?;
                Some(Vector { data: Data::Truth(holds), nulls })
            }
            Expr::IsNull { of, negated } => {
                let valid = match self.vector(of)?.nulls {
                    Some(nulls) => nulls.into_inner(),
                    None => BooleanBuffer::new_set(self.rows.num_rows()),
                };
                let holds = if *negated { valid } else { !&valid };
                Some(Vector { data: Data::Truth(holds), nulls: None })
            }
            Expr::In { of, values, negated } => {
                let of = self.vector(of)?;
                let found = Members::of(values).among(&of.data)?;
                let holds = if *negated { !&found } else { found };
                Some(Vector { data: Data::Truth(holds), nulls: of.nulls })
            }
            Expr::Not(of) => {
                let (holds, nulls) = self.mask(of)?;
                Some(Vector { data: Data::Truth(!&holds), nulls })
            }
            Expr::And(a, b) => {
                let (a, b) = (self.mask(a)?, self.mask(b)?);
                Some(joined(&a, &b, |a, b| a & b, |a, b| a | b))
            }
            Expr::Or(a, b) => {
                let (a, b) = (self.mask(a)?, self.mask(b)?);
                Some(joined(&a, &b, |a, b| a | b, |a, b| a & b))
            }
        }
    }

    fn mask(&self, expr: &Expr) -> Option<(BooleanBuffer, Option<NullBuffer>)> {
        let vector = self.vector(expr)?;
        match vector.data {
            Data::Truth(holds) => Some((holds, vector.nulls)),
            Data::Constant(Value::Boolean(truth)) => {
                Some((uniform(self.rows.num_rows(), truth), None))
            }
            _ => None,
        }
    }

    fn arithmetic(&self, operator: Operator, a: &Data<'_>, b: &Data<'_>) -> Option<Data<'static>> {
        let rows = self.rows.num_rows();
        if operator == Operator::Divide || !exact(a, b) {
            let (x, y) = (Doubles::of(a)?, Doubles::of(b)?);
            let values: Vec<f64> = x.operand().with(&y.operand(), rows, |x, y| operator.of(x, y));
            return Some(Data::Double(Cow::Owned(values)));
        }
        if let (Some(x), Some(y)) = (a.whole(), b.whole()) {
            let values: Option<Vec<i64>> = match operator {
                Operator::Add => x.with(&y, rows, i64::checked_add),
                Operator::Subtract => x.with(&y, rows, i64::checked_sub),
                _ => x.with(&y, rows, i64::checked_mul),
            };
            return values.map(|values| Data::Whole(Cow::Owned(values)));
        }
        let (s, t) = (a.scale()?, b.scale()?);
        let product = operator == Operator::Multiply;
        let (s, t) = if product { (s, t) } else { (s.max(t), s.max(t)) };
        let scale = if product { s.checked_add(t).filter(|s| *s <= 38)? } else { s };
        let (x, y) = (Decimals::of(a, s)?, Decimals::of(b, t)?);
        let (x, y) = (x.operand(), y.operand());
        let values: Option<Vec<i128>> = match operator {
            Operator::Add => x.with(&y, rows, i128::checked_add),
            Operator::Subtract => x.with(&y, rows, i128::checked_sub),
            _ => x.with(&y, rows, i128::checked_mul),
        };
        values.map(|values| Data::Decimal(Cow::Owned(values), scale))
    }

    fn compared(
        &self,
        comparison: Comparison,
        a: &Data<'_>,
        b: &Data<'_>,
    ) -> Option<BooleanBuffer> {
        let rows = self.rows.num_rows();
        match (a, b) {
            (Data::Constant(_), _) => self.compared(flipped(comparison), b, a),
            (Data::Truth(x), Data::Truth(y)) => match comparison {
                Comparison::Equal => Some(!&(x ^ y)),
                _ => Some(x ^ y),
            },
            (Data::Truth(x), Data::Constant(Value::Boolean(y))) => {
                let same = (comparison == Comparison::Equal) == *y;
                Some(if same { x.clone() } else { !x })
            }
            (Data::Text(x), Data::Constant(Value::Text(y))) => {
                Some(texts_where(x, |x| comparison.holds(x.cmp(y))))
            }
            (Data::Text(x), Data::Text(y)) => {
                let pairs = x.iter().zip(y.iter());
                Some(flags(pairs, rows, |(x, y)| comparison.holds(x.cmp(&y))))
            }
            (Data::Whole(x), Data::Constant(Value::Number(n))) => {
                to_number(x, comparison, *n, 0, rows)
            }
            (Data::Decimal(x, scale), Data::Constant(Value::Number(n))) => {
                to_number(x, comparison, *n, *scale, rows)
            }
            _ if a.whole().is_some() && b.whole().is_some() => {
                Some(a.whole()?.compared(comparison, &b.whole()?, rows))
            }
            _ if exact(a, b) => {
                let scale = a.scale()?.max(b.scale()?);
                let (x, y) = (a.decimals(scale)?, b.decimals(scale)?);
                Some(Operand::Many(&x).compared(comparison, &Operand::Many(&y), rows))
            }
            _ if a.is_number() && b.is_number() => {
                let (x, y) = (Doubles::of(a)?, Doubles::of(b)?);
                Some(x.operand().compared(comparison, &y.operand(), rows))
            }
            _ => None,
        }
    }
}

/// Whether both are whole or decimal numbers, or times.
fn exact(a: &Data<'_>, b: &Data<'_>) -> bool {
    let time = |d: &Data<'_>| matches!(d, Data::Constant(Value::Time(_) | Value::Duration(_)));
    (a.is_exact() || time(a)) && (b.is_exact() || time(b))
}

/// Doubles, or the one that all rows have.
enum Doubles<'v> {
    Many(Cow<'v, [f64]>),
    One(f64),
}

impl<'v> Doubles<'v> {
    fn of(data: &'v Data<'_>) -> Option<Self> {
        match data {
            Data::Constant(value) => value.to_f64().map(Self::One),
            data => data.doubles().map(Self::Many),
        }
    }

    fn operand(&self) -> Operand<'_, f64> {
        match self {
            Self::Many(values) => Operand::Many(values),
            Self::One(value) => Operand::One(*value),
        }
    }
}

/// Decimals, or the one that all rows have.
enum Decimals<'v> {
    Many(Cow<'v, [i128]>),
    One(i128),
}

impl<'v> Decimals<'v> {
    fn of(data: &'v Data<'_>, scale: u8) -> Option<Self> {
        match data {
            Data::Constant(Value::Number(n)) => n.to_decimal(scale).map(Self::One),
            data => data.decimals(scale).map(Self::Many),
        }
    }

    fn operand(&self) -> Operand<'_, i128> {
        match self {
            Self::Many(values) => Operand::Many(values),
            Self::One(value) => Operand::One(*value),
        }
    }
}

/// With the sides exchanged.
fn flipped(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}

/// Compares whole numbers of units with a number that may lie between two of them, or beyond all.
fn to_number<T>(
    values: &[T],
    comparison: Comparison,
    number: Num,
    scale: u8,
    rows: usize,
) -> Option<BooleanBuffer>
where
    T: Copy + PartialOrd + TryFrom<i128>,
{
    use Comparison as C;
    let floor = number.floor(scale);
    let bound = floor.and_then(|(floor, exact)| Some((T::try_from(floor).ok()?, exact)));
    let Some((bound, exact)) = bound else {
        let beyond = if number > Num::whole(0) { Ordering::Less } else { Ordering::Greater };
        return Some(uniform(rows, comparison.holds(beyond)));
    };
    let comparison = match comparison {
        _ if exact => comparison,
        C::Equal | C::NotEqual => return Some(uniform(rows, comparison == C::NotEqual)),
        C::Less | C::LessOrEqual => C::LessOrEqual,
        C::Greater | C::GreaterOrEqual => C::Greater,
    };
    Some(Operand::Many(values).compared(comparison, &Operand::One(bound), rows))
}

/// Two conditions as one, in three values: `holds` of where both hold, `fails` of where both do not.
fn joined(
    (a, a_nulls): &(BooleanBuffer, Option<NullBuffer>),
    (b, b_nulls): &(BooleanBuffer, Option<NullBuffer>),
    holds: impl Fn(&BooleanBuffer, &BooleanBuffer) -> BooleanBuffer,
    fails: impl Fn(&BooleanBuffer, &BooleanBuffer) -> BooleanBuffer,
) -> Vector<'static> {
    if a_nulls.is_none() && b_nulls.is_none() {
        return Vector { data: Data::Truth(holds(a, b)), nulls: None };
    }
    let known = |mask: BooleanBuffer, nulls: &Option<NullBuffer>| match nulls {
        Some(nulls) => &mask & nulls.inner(),
        None => mask,
    };
    let held = holds(&known(a.clone(), a_nulls), &known(b.clone(), b_nulls));
    let failed = fails(&known(!a, a_nulls), &known(!b, b_nulls));
    let nulls = Some(NullBuffer::new(&held | &failed));
    Vector { data: Data::Truth(held), nulls }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
        Int64Array, TimestampMicrosecondArray,
    };
    use arrow::datatypes::Field;
    use arrow::datatypes::Schema;
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};
    use sluicegate_contract::expr::Scope;

    fn contract(audits: Json) -> Contract {
        let decimal = |n: u8| json!({"type": ["number", "null"], "x-sluicegate": {"logicalType": format!("decimal({n},2)")}});
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {
                "version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"}, "audits": audits,
            },
            "properties": {
                "i": {"type": ["integer", "null"], "x-sluicegate": {"logicalType": "int"}},
                "n": {"type": ["integer", "null"]},
                "d": decimal(12),
                "big": decimal(38),
                "x": {"type": ["number", "null"]},
                "f": {"type": ["number", "null"], "x-sluicegate": {"logicalType": "float"}},
                "s": {"type": ["string", "null"]},
                "t": {"type": ["string", "null"]},
                "ok": {"type": ["boolean", "null"]},
                "day": {"type": ["string", "null"], "format": "date"},
                "at": {"type": ["string", "null"], "format": "date-time"},
                "mail": {"type": ["string", "null"], "x-sluicegate": {"classification": "pii"}},
            },
        });
        Contract::parse(document.to_string().as_bytes()).unwrap_or_else(|e| panic!("{e}"))
    }

    #[derive(Clone, Debug, Default)]
    struct Row {
        i: Option<i32>,
        n: Option<i64>,
        d: Option<i128>,
        big: Option<i128>,
        x: Option<f64>,
        f: Option<f32>,
        s: Option<String>,
        t: Option<String>,
        ok: Option<bool>,
        day: Option<i32>,
        at: Option<i64>,
    }

    /// In the published schema, from that row number on.
    fn batch(rows: &[Row], first: i64) -> RecordBatch {
        let decimal = |values: Vec<Option<i128>>, precision| {
            Decimal128Array::from(values).with_precision_and_scale(precision, 2).unwrap()
        };
        let texts = |of: fn(&Row) -> Option<&str>| rows.iter().map(of).collect::<StringArray>();
        let numbers = (0..rows.len()).map(|row| first + i64::try_from(row).unwrap());
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("i", Arc::new(rows.iter().map(|r| r.i).collect::<Int32Array>())),
            ("n", Arc::new(rows.iter().map(|r| r.n).collect::<Int64Array>())),
            ("d", Arc::new(decimal(rows.iter().map(|r| r.d).collect(), 12))),
            ("big", Arc::new(decimal(rows.iter().map(|r| r.big).collect(), 38))),
            ("x", Arc::new(rows.iter().map(|r| r.x).collect::<Float64Array>())),
            ("f", Arc::new(rows.iter().map(|r| r.f).collect::<Float32Array>())),
            ("s", Arc::new(texts(|r| r.s.as_deref()))),
            ("t", Arc::new(texts(|r| r.t.as_deref()))),
            ("ok", Arc::new(rows.iter().map(|r| r.ok).collect::<BooleanArray>())),
            ("day", Arc::new(rows.iter().map(|r| r.day).collect::<Date32Array>())),
            (
                "at",
                Arc::new(
                    rows.iter()
                        .map(|r| r.at)
                        .collect::<TimestampMicrosecondArray>()
                        .with_timezone("UTC"),
                ),
            ),
            ("mail", Arc::new(texts(|r| r.s.as_deref()))),
            ("_raw_id", Arc::new(StringArray::from(vec!["raw"; rows.len()]))),
            ("_raw_row", Arc::new(numbers.collect::<Int64Array>())),
        ];
        let schema = columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true));
        let schema = Schema::new(schema.collect::<Vec<_>>());
        let columns = columns.into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn tallies(audits: Json, batches: &[RecordBatch]) -> BTreeMap<String, Tally> {
        let mut tests = RowTests::new(&contract(audits));
        batches.iter().for_each(|rows| tests.update(rows));
        tests.finish()
    }

    fn texts_of(values: &[Option<&str>]) -> Vec<Row> {
        let row = |s: &Option<&str>| Row { s: s.map(str::to_owned), ..Row::default() };
        values.iter().map(row).collect()
    }

    #[test]
    fn shares_are_of_what_can_be_told_and_the_first_failures_are_kept() {
        let rows: Vec<Row> =
            (0..40).map(|n| Row { n: (n % 4 != 3).then_some(n), ..Row::default() }).collect();
        let (low, high) = rows.split_at(20);
        let audits = json!([{"id": "even", "audit": "share", "where": "n < 30 and n != 8"}]);
        // The later batch first, as partitions may come.
        let tallies = tallies(audits, &[batch(high, 21), batch(low, 1)]);
        // Without null: 30 of 40, of which 8 and eight from 30 on fail.
        let failures = ["row 9", "row 31", "row 33", "row 34", "row 35"];
        let expected = Tally {
            tested: 30,
            passed: 22,
            failures: failures.iter().map(|row| (*row).to_owned()).collect(),
        };
        assert_eq!(tallies["even"], expected);
    }

    #[test]
    fn values_are_tested_and_shown_but_for_classified_ones() {
        let rows = texts_of(&[Some("UA"), None, Some("ua"), Some("AA"), Some("UA-far-too-long")]);
        let audits = json!([
            {"id": "listed", "audit": "allowed_values", "column": "s", "values": ["UA", "AA"]},
            {"id": "shape", "audit": "pattern", "column": "s", "pattern": "^[A-Z]{2}$"},
            {"id": "mail", "audit": "format", "column": "mail", "format": "email"},
            {"id": "there", "audit": "coverage", "column": "s", "values": ["AA", "DL", "UA"]},
            {"id": "hidden", "audit": "coverage", "column": "mail", "values": ["AA", "DL"]},
        ]);
        let all = tallies(audits, &[batch(&rows, 1)]);
        let failed = vec!["row 3: \"ua\"".to_owned(), "row 5: \"UA-far-too-long\"".to_owned()];
        let two = Tally { tested: 4, passed: 2, failures: failed };
        assert_eq!(all["listed"], two);
        assert_eq!(all["shape"], two);
        assert_eq!((all["mail"].tested, all["mail"].passed), (4, 0));
        assert_eq!(all["mail"].failures, ["row 1", "row 3", "row 4", "row 5"]);
        let missing = vec!["\"DL\"".to_owned()];
        assert_eq!(all["there"], Tally { tested: 3, passed: 2, failures: missing });
        assert_eq!(all["hidden"], Tally { tested: 2, passed: 1, failures: vec![] });
    }

    #[test]
    fn coverage_and_lists_are_of_every_type() {
        let rows: Vec<Row> = (0..50i16)
            .map(|n| Row {
                i: Some(i32::from(n)),
                d: Some(i128::from(n) * 50),
                x: Some(f64::from(n) / 10.0),
                day: Some(i32::from(n)),
                at: Some(i64::from(n) * 1_000_000),
                ..Row::default()
            })
            .collect();
        let many: Vec<i32> = (0..49).collect();
        let audits = json!([
            {"id": "i", "audit": "coverage", "column": "i", "values": [0, 49, 50]},
            {"id": "d", "audit": "coverage", "column": "d", "values": [0.5, 24.50, 0.25]},
            {"id": "x", "audit": "coverage", "column": "x", "values": [0.3, 4.9, 0.33, -0.0]},
            {"id": "day", "audit": "coverage", "column": "day", "values": ["1970-01-02", "1971-01-02"]},
            {"id": "at", "audit": "coverage", "column": "at", "values": ["1970-01-01T00:00:07Z"]},
            {"id": "many", "audit": "allowed_values", "column": "i", "values": many},
            {"id": "days", "audit": "allowed_values", "column": "day", "values": ["1970-01-02"]},
            {"id": "times", "audit": "allowed_values", "column": "at", "values": ["1970-01-01T00:00:00Z"]},
        ]);
        let all = tallies(audits, &[batch(&rows, 1)]);
        let came_to = |id: &str| (all[id].passed, all[id].failures.join(","));
        assert_eq!(came_to("i"), (2, "50".to_owned()));
        assert_eq!(came_to("d"), (2, "0.25".to_owned()));
        assert_eq!(came_to("x"), (3, "0.33".to_owned()));
        assert_eq!(came_to("day"), (1, "1971-01-02".to_owned()));
        assert_eq!(came_to("at"), (1, String::new()));
        assert_eq!(came_to("many"), (49, "row 50: 49".to_owned()));
        assert_eq!(all["days"].failures[0], "row 1: 1970-01-01");
        assert_eq!(all["times"].failures[0], "row 2: 1970-01-01T00:00:01Z");
    }

    #[test]
    fn a_contract_without_row_tests_has_none() {
        let tests = RowTests::new(&contract(json!([{"id": "a", "audit": "row_count", "min": 1}])));
        assert!(tests.tests.is_empty() && tests.finish().is_empty());
    }

    /// Conditions that whole columns answer for, whatever small values there are.
    const ORDINARY: [&str; 26] = [
        "n > 3 and i <= n",
        "n = 2 or n is null",
        "not (n < 0.5) and n >= -1.5",
        "n < 1e30 and n > -1e30",
        "d > 1.25 and d <= 2.505",
        "d = 1.5 or d != n",
        "d + n * 2 - i > 0.1",
        "-d < n / 3",
        "x > 0.1 and x * 2 != d",
        "x / n = 1 or f < x",
        "f is not null and f >= 0.5",
        "n / 0 is null",
        "s = 'a' or s < t",
        "s in ('a', 'é', 'long enough') and t not in ('b')",
        "n in (1, 2, 2.5) or d in (1.5, 0.01) or x in (0, 1.5)",
        "day in (date '1970-01-02') or at in (timestamp '1970-01-02T00:00:00Z')",
        "ok and not (n > 1)",
        "ok = (n > 1) or ok != true",
        "(ok is null) = (n is null)",
        "day <= date '1970-01-03' and at >= day",
        "at - day < interval 'PT30M' or at + interval 'PT1H' > timestamp '1970-01-02T00:00:00Z'",
        "1 < 2 and n > 1",
        "5 > n or 1.5 <= d or 'b' > s",
        "i * d < 10 and d * d > 0.0001",
        "-x > 1 or -n > 1",
        "interval 'PT1H' - (at - at) = interval 'PT1H'",
    ];
    /// Those that may have to be answered row by row.
    const HEAVY: [&str; 8] = [
        "n * n > 9223372036854775807",
        "big * big > 1",
        "big + n = big",
        "big > 1e37 and big < 99999999999999999999999999999999999.5",
        "big = n or big / 7 > x",
        "-n > 0",
        "n + 1 > n and i - n * 4 < big",
        "x * 1e308 > 1 or x / 1e-308 < 0",
    ];

    fn few<T: Clone + std::fmt::Debug + 'static>(
        values: Vec<T>,
    ) -> impl Strategy<Value = Option<T>> {
        proptest::option::weighted(0.8, proptest::sample::select(values))
    }

    fn row(extreme: bool) -> impl Strategy<Value = Row> {
        let texts = || {
            few(vec!["", "a", "b", "é", "ab", "long enough", "long enougH"]
                .into_iter()
                .map(str::to_owned)
                .collect())
        };
        let n = if extreme { vec![i64::MIN, i64::MAX, 0, 3] } else { vec![-2, -1, 0, 1, 2, 3] };
        let top = 99_999_999_999_999_999_999_999_999_999_999_999_999;
        let big = if extreme { vec![top, -top, 1, 250] } else { vec![0, 100, 250] };
        let x = if extreme {
            vec![f64::MAX, f64::MIN_POSITIVE, -0.0, f64::NAN, f64::INFINITY, 1.5]
        } else {
            vec![0.0, -0.0, 0.1, 1.5, -3.25]
        };
        let first =
            (few(vec![-2, 0, 1, 2, 7]), few(n), few(vec![0, 1, 125, 150, -250]), few(big), few(x));
        let second = (few(vec![0.0f32, 0.1, 0.5, 1.5]), texts(), texts(), few(vec![true, false]));
        let third = (few(vec![-1, 0, 1, 2]), few(vec![-1, 0, 1_800_000_000, MICROS_PER_DAY]));
        (first, second, third).prop_map(|((i, n, d, big, x), (f, s, t, ok), (day, at))| Row {
            i,
            n,
            d,
            big,
            x,
            f,
            s,
            t,
            ok,
            day,
            at,
        })
    }

    fn agrees(text: &str, rows: &[Row], by_columns: bool) -> Result<(), TestCaseError> {
        let contract = contract(json!([]));
        let condition = Expr::parse(text, &contract.fields, Scope::Row)
            .map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        let names = contract.fields.iter().enumerate().map(|(i, f)| (f.name.clone(), i));
        let columns = names.collect();
        let rows = batch(rows, 1);
        let frame = Frame { rows: &rows, columns: &columns };
        let oracle = frame.row_by_row(&condition);
        let quick = frame.vector(&condition);
        prop_assert!(quick.is_some() || !by_columns, "{} is answered row by row", text);
        let quick = frame.truth(&condition);
        for row in 0..rows.num_rows() {
            let truth = |t: &Truth| {
                t.nulls.as_ref().is_none_or(|n| n.is_valid(row)).then(|| t.holds.value(row))
            };
            prop_assert_eq!(truth(&quick), truth(&oracle), "{} of row {}", text, row);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whole_columns_and_single_rows_agree(
            rows in proptest::collection::vec(row(false), 1..200),
        ) {
            for text in ORDINARY {
                agrees(text, &rows, true)?;
            }
        }

        #[test]
        fn they_agree_on_numbers_beyond_all_bounds(
            rows in proptest::collection::vec(row(true), 1..80),
        ) {
            for text in HEAVY.iter().chain(&ORDINARY) {
                agrees(text, &rows, false)?;
            }
        }
    }
}
