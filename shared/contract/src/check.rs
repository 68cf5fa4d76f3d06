//! The contract over Arrow: the schema of its rows, and its checks a column at a time.
//!
//! [`suspects`] finds the rows that may break the contract: every row that does, and perhaps some that do not. Whoever
//! asks holds those, as they were written, against [`Contract::explain`], which has the last word and the reasons. So
//! what cannot be said of whole columns needs no second meaning here: its rows are suspects.
//!
//! The decoder has already answered for types, null and presence of what is declared. A rule that no value breaks
//! costs one pass without branches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Field as ArrowField, Fields, Float32Type,
    Float64Type, Int32Type, Int64Type, Schema as ArrowSchema, SchemaRef, TimeUnit,
};

use crate::datum::Datum;
use crate::format::Format;
use crate::num::Num;
use crate::schema::{Assertion, Schema, Types};
use crate::types::{Element, Field, Type, items_path, path};
use crate::{Contract, Lineage, Version};

/// The key under which Arrow's Parquet writer looks for a column's field id.
pub const FIELD_ID: &str = "PARQUET:field_id";

/// The Arrow type of a column, without field ids.
pub fn data_type(ty: &Type) -> DataType {
    arrow_type(ty, "", None)
}

fn arrow_type(ty: &Type, at: &str, version: Option<&Version>) -> DataType {
    match ty {
        Type::Boolean => DataType::Boolean,
        Type::Int => DataType::Int32,
        Type::Long => DataType::Int64,
        Type::Float => DataType::Float32,
        Type::Double => DataType::Float64,
        Type::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or_default())
        }
        Type::String | Type::Json => DataType::Utf8,
        Type::Date => DataType::Date32,
        Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::Struct(fields) => DataType::Struct(arrow_fields(fields, at, version)),
        Type::List(element) => DataType::List(Arc::new(arrow_element(element, at, version))),
    }
}

fn arrow_fields(fields: &[Field], parent: &str, version: Option<&Version>) -> Fields {
    let fields = fields.iter().map(|field| {
        let at = path(parent, &field.source);
        let nullable = version.is_none() || !field.always_present();
        with_id(
            ArrowField::new(&field.name, arrow_type(&field.ty, &at, version), nullable),
            &at,
            version,
        )
    });
    fields.collect()
}

fn arrow_element(element: &Element, parent: &str, version: Option<&Version>) -> ArrowField {
    let at = items_path(parent);
    let nullable = version.is_none() || element.nullable;
    with_id(
        ArrowField::new("element", arrow_type(&element.ty, &at, version), nullable),
        &at,
        version,
    )
}

fn with_id(field: ArrowField, at: &str, version: Option<&Version>) -> ArrowField {
    match version {
        None => field,
        Some(version) => {
            field.with_metadata([(FIELD_ID.to_owned(), version.field_id(at).to_string())])
        }
    }
}

/// The schema of the rows as they are published: the contract's columns, then ours, each with its field id.
pub fn published_schema(contract: &Contract, version: &Version) -> SchemaRef {
    let columns = arrow_fields(&contract.fields, "", Some(version));
    let ours = Lineage::of(contract).iter().map(|lineage| {
        let field =
            ArrowField::new(lineage.name(), data_type(&lineage.ty()), !lineage.always_present());
        Arc::new(field.with_metadata([(FIELD_ID.to_owned(), lineage.field_id().to_string())]))
    });
    Arc::new(ArrowSchema::new(columns.iter().cloned().chain(ours).collect::<Fields>()))
}

/// A column as a decoder builds it.
#[derive(Clone, Debug)]
pub struct Vector {
    pub array: ArrayRef,
    pub present: Present,
    /// The columns of a struct; the items of a list; nothing otherwise.
    pub inner: Vec<Vector>,
}

/// Where a column has a value, null among them.
#[derive(Clone, Debug)]
pub enum Present {
    /// Everywhere.
    All,
    /// Where it is not null.
    Valid,
    Mask(BooleanBuffer),
}

impl Vector {
    /// A column without parts.
    pub fn new(array: ArrayRef, present: Present) -> Self {
        Self { array, present, inner: Vec::new() }
    }

    /// A column that needs no decoding: where it may be absent, null says so.
    pub fn of(array: &ArrayRef, field: &Field) -> Self {
        let present = if field.required { Present::All } else { Present::Valid };
        Self { present, ..Self::typed(array, &field.ty) }
    }

    fn typed(array: &ArrayRef, ty: &Type) -> Self {
        let inner = match ty {
            Type::Struct(fields) => array.as_struct_opt().map(|structs| {
                let columns = structs.columns().iter().zip(fields);
                columns.map(|(column, field)| Self::of(column, field)).collect()
            }),
            Type::List(element) => {
                array.as_list_opt::<i32>().map(|list| vec![Self::typed(list.values(), &element.ty)])
            }
            _ => None,
        };
        Self { array: array.clone(), present: Present::All, inner: inner.unwrap_or_default() }
    }

    fn absent(&self) -> Option<BooleanBuffer> {
        match &self.present {
            Present::All => None,
            Present::Valid => nulls(&self.array),
            Present::Mask(mask) => some(!mask),
        }
    }
}

/// Whether absent and null must be told apart: only conditions ask.
pub fn tells_absent_from_null(contract: &Contract) -> bool {
    conditional(&contract.row)
}

fn conditional(schema: &Schema) -> bool {
    schema.assertions.iter().any(|assertion| match assertion {
        Assertion::AnyOf(_)
        | Assertion::OneOf(_)
        | Assertion::Not(_)
        | Assertion::If { .. }
        | Assertion::DependentRequired(_) => true,
        Assertion::Properties(properties) => properties.iter().any(|(_, s)| conditional(s)),
        Assertion::AllOf(schemas) => schemas.iter().any(conditional),
        Assertion::Ref(schema) | Assertion::Items(schema) => conditional(schema),
        _ => false,
    })
}

/// The rows that may break the contract; `None` if none does. `columns` are in the order of the contract's fields.
pub fn suspects(contract: &Contract, columns: &[Vector], rows: usize) -> Option<BooleanBuffer> {
    let row = Subject::Object { fields: &contract.fields, columns, nulls: None, len: rows };
    failing(&contract.row, &row).bad
}

/// What a schema is held against: a column, or the columns of an object.
enum Subject<'a> {
    Object { fields: &'a [Field], columns: &'a [Vector], nulls: Option<BooleanBuffer>, len: usize },
    Column { ty: &'a Type, vector: &'a Vector },
}

/// Where a schema does not hold.
struct Found {
    /// `None`: nowhere.
    bad: Option<BooleanBuffer>,
    /// Whether it does not hold in all of them, and not only perhaps.
    exact: bool,
}

impl Found {
    const NOWHERE: Self = Self { bad: None, exact: true };

    fn exactly(bad: Option<BooleanBuffer>) -> Self {
        Self { bad, exact: true }
    }

    fn perhaps(bad: Option<BooleanBuffer>) -> Self {
        let exact = bad.is_none();
        Self { bad, exact }
    }

    fn or(self, other: Self) -> Self {
        Self { bad: either(self.bad, other.bad), exact: self.exact && other.exact }
    }
}

/// A mask, unless it is empty.
fn some(mask: BooleanBuffer) -> Option<BooleanBuffer> {
    (mask.count_set_bits() > 0).then_some(mask)
}

fn either(a: Option<BooleanBuffer>, b: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(&a | &b),
        (a, b) => a.or(b),
    }
}

fn both(a: Option<BooleanBuffer>, b: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    some(&a? & &b?)
}

/// Those of a mask that are not in another.
fn without(mask: Option<BooleanBuffer>, other: &Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (mask, other) {
        (Some(mask), Some(other)) => some(&mask & &!other),
        (mask, _) => mask,
    }
}

fn nulls(array: &ArrayRef) -> Option<BooleanBuffer> {
    array.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| !nulls.inner())
}

impl Subject<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Object { len, .. } => *len,
            Self::Column { vector, .. } => vector.array.len(),
        }
    }

    fn all(&self) -> Option<BooleanBuffer> {
        some(BooleanBuffer::new_set(self.len()))
    }

    fn nulls(&self) -> Option<BooleanBuffer> {
        match self {
            Self::Object { nulls, .. } => nulls.clone(),
            Self::Column { vector, .. } => nulls(&vector.array),
        }
    }

    fn not_null(&self) -> Option<BooleanBuffer> {
        without(self.all(), &self.nulls())
    }

    /// The JSON types of its values that are not null.
    fn types(&self) -> Types {
        let ty = match self {
            Self::Object { .. } => return Types::OBJECT,
            Self::Column { ty, .. } => ty,
        };
        match ty {
            Type::Boolean => Types::BOOLEAN,
            Type::Int | Type::Long => Types::INTEGER,
            Type::Float | Type::Double | Type::Decimal { .. } => Types::NUMBER,
            Type::String | Type::Date | Type::Timestamp => Types::STRING,
            Type::Json => Types::ALL,
            Type::Struct(_) => Types::OBJECT,
            Type::List(_) => Types::ARRAY,
        }
    }
}

fn failing(schema: &Schema, subject: &Subject<'_>) -> Found {
    let bounds = within(schema, subject);
    schema.assertions.iter().fold(bounds, |found, a| found.or(assertion(a, subject)))
}

/// Where whole numbers of units are outside all of a schema's bounds, in one pass.
fn within(schema: &Schema, subject: &Subject<'_>) -> Found {
    let Subject::Column { ty, vector } = subject else { return Found::NOWHERE };
    let scale = match ty {
        Type::Int | Type::Long => 0,
        Type::Decimal { scale, .. } => *scale,
        _ => return Found::NOWHERE,
    };
    let limits = schema.assertions.iter().filter_map(|a| limits(a, scale));
    let limits = limits.reduce(|(a, b), (c, d)| (a.max(c), b.min(d)));
    let Some((least, most)) = limits else { return Found::NOWHERE };
    let array = &vector.array;
    let bad = match ty {
        Type::Int => array.as_primitive_opt::<Int32Type>().map(|a| outside(a, least, most)),
        Type::Long => array.as_primitive_opt::<Int64Type>().map(|a| outside(a, least, most)),
        _ => array.as_primitive_opt::<Decimal128Type>().map(|a| outside(a, least, most)),
    };
    Found::exactly(match bad {
        Some(Some(bad)) => bad,
        Some(None) => subject.not_null(),
        None => None,
    })
}

/// Where values are below the least or above the most; `None`: everywhere.
fn outside<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    least: i128,
    most: i128,
) -> Option<Option<BooleanBuffer>>
where
    T::Native: Copy + PartialOrd + TryFrom<i128>,
{
    // A limit beyond the column's range is one that all values keep, or none.
    match (T::Native::try_from(least), T::Native::try_from(most)) {
        (Ok(least), Ok(most)) => Some(values(array, |v| (v < least) | (v > most))),
        (Ok(least), Err(_)) if most > 0 => Some(values(array, |v| v < least)),
        (Err(_), Ok(most)) if least < 0 => Some(values(array, |v| v > most)),
        (Err(_), Err(_)) if least < 0 && most > 0 => Some(None),
        _ => None,
    }
}

fn assertion(assertion: &Assertion, subject: &Subject<'_>) -> Found {
    use Assertion as A;
    if assertion.concerns().and(subject.types()).is_none() {
        return Found::NOWHERE;
    }
    match assertion {
        A::Never => Found::exactly(subject.all()),
        A::AllOf(schemas) => {
            schemas.iter().fold(Found::NOWHERE, |found, s| found.or(failing(s, subject)))
        }
        A::Ref(schema) => failing(schema, subject),
        A::AnyOf(schemas) => {
            let mut bad = Some(BooleanBuffer::new_set(subject.len()));
            let mut exact = true;
            for schema in schemas {
                let found = failing(schema, subject);
                bad = both(bad, found.bad);
                exact &= found.exact;
            }
            Found { exact: exact || bad.is_none(), bad }
        }
        A::OneOf(schemas) => one_of(schemas, subject),
        A::Not(schema) => {
            let found = failing(schema, subject);
            if found.exact {
                Found::exactly(without(subject.all(), &found.bad))
            } else {
                Found::perhaps(subject.all())
            }
        }
        A::If { test, then, otherwise } => {
            let branch = |schema: &Option<Box<Schema>>| {
                schema.as_ref().map_or(Found::NOWHERE, |s| failing(s, subject))
            };
            let (test, then, otherwise) = (failing(test, subject), branch(then), branch(otherwise));
            if !test.exact {
                return Found::perhaps(either(then.bad, otherwise.bad));
            }
            let then = Found { bad: without(then.bad, &test.bad), ..then };
            then.or(Found { bad: both(otherwise.bad, test.bad), exact: otherwise.exact })
        }
        of_a_value => match subject {
            Subject::Object { fields, columns, nulls, len } => {
                object(of_a_value, fields, columns, nulls, *len, subject)
            }
            Subject::Column { ty, vector } => column(of_a_value, ty, vector, subject),
        },
    }
}

fn one_of(schemas: &[Schema], subject: &Subject<'_>) -> Found {
    let len = subject.len();
    let (mut once, mut more) = (BooleanBuffer::new_unset(len), BooleanBuffer::new_unset(len));
    for schema in schemas {
        let found = failing(schema, subject);
        if !found.exact {
            return Found::perhaps(subject.all());
        }
        let good = found.bad.map_or_else(|| BooleanBuffer::new_set(len), |bad| !&bad);
        more = &more | &(&once & &good);
        once = &once | &good;
    }
    Found::exactly(some(&!&once | &more))
}

fn object(
    assertion: &Assertion,
    fields: &[Field],
    columns: &[Vector],
    nulls: &Option<BooleanBuffer>,
    len: usize,
    subject: &Subject<'_>,
) -> Found {
    let find = |name: &str| {
        let at = fields.iter().position(|f| f.source == name)?;
        Some((fields.get(at)?, columns.get(at)?))
    };
    // Where a property is absent; one without a column, everywhere.
    let absent = |name: &str| match find(name) {
        Some((_, vector)) => vector.absent(),
        None => some(BooleanBuffer::new_set(len)),
    };
    let found = match assertion {
        Assertion::Properties(properties) => {
            properties.iter().fold(Found::NOWHERE, |found, (name, schema)| {
                let Some((field, vector)) = find(name) else {
                    let trivial = schema.is_trivial();
                    return found.or(Found::perhaps(if trivial { None } else { subject.all() }));
                };
                let inner = failing(schema, &subject_of(&field.ty, vector));
                let bad = inner.bad.and_then(|bad| without(Some(bad), &vector.absent()));
                found.or(Found { bad, exact: inner.exact })
            })
        }
        Assertion::Required(names) => {
            Found::exactly(names.iter().fold(None, |bad, name| either(bad, absent(name))))
        }
        Assertion::DependentRequired(pairs) => {
            let mut bad = None;
            for (name, needed) in pairs {
                let lacking = needed.iter().fold(None, |bad, name| either(bad, absent(name)));
                bad = either(bad, without(lacking, &absent(name)));
            }
            Found::exactly(bad)
        }
        Assertion::Type(types) => {
            let null = if types.has(Types::NULL) { None } else { nulls.clone() };
            let others = if types.has(Types::OBJECT) { None } else { subject.not_null() };
            return Found::exactly(either(null, others));
        }
        // Counts and equality see more than the columns: fields that the contract does not know.
        _ => return Found::perhaps(subject.all()),
    };
    Found { bad: without(found.bad, nulls), ..found }
}

fn subject_of<'a>(ty: &'a Type, vector: &'a Vector) -> Subject<'a> {
    match ty {
        Type::Struct(fields) => Subject::Object {
            fields,
            columns: &vector.inner,
            nulls: nulls(&vector.array),
            len: vector.array.len(),
        },
        ty => Subject::Column { ty, vector },
    }
}

fn column(assertion: &Assertion, ty: &Type, vector: &Vector, subject: &Subject<'_>) -> Found {
    let array = &vector.array;
    if *ty == Type::Json {
        return match assertion {
            Assertion::Type(types) if *types == Types::ALL => Found::NOWHERE,
            _ => Found::perhaps(subject.all()),
        };
    }
    match assertion {
        Assertion::Type(types) => {
            let null = if types.has(Types::NULL) { None } else { nulls(array) };
            let own = subject.types();
            let others = if types.has(own) {
                Found::NOWHERE
            } else if types.and(own).is_none() {
                Found::exactly(subject.not_null())
            } else {
                fractions(*types, ty, array)
            };
            Found::exactly(null).or(others)
        }
        Assertion::Enum(values) => {
            let null = values.iter().any(|v| matches!(v, Datum::Null));
            let null = if null { None } else { nulls(array) };
            Found::exactly(null).or(equal(&values.iter().collect::<Vec<_>>(), ty, array, subject))
        }
        Assertion::Const(value) => {
            let null = if matches!(value, Datum::Null) { None } else { nulls(array) };
            Found::exactly(null).or(equal(&[value], ty, array, subject))
        }
        _ => match ty {
            Type::Int => array
                .as_primitive_opt::<Int32Type>()
                .map_or(Found::NOWHERE, |a| integers(assertion, a, 0, subject)),
            Type::Long => array
                .as_primitive_opt::<Int64Type>()
                .map_or(Found::NOWHERE, |a| integers(assertion, a, 0, subject)),
            Type::Decimal { scale, .. } => array
                .as_primitive_opt::<Decimal128Type>()
                .map_or(Found::NOWHERE, |a| integers(assertion, a, *scale, subject)),
            Type::Double => array
                .as_primitive_opt::<Float64Type>()
                .map_or(Found::NOWHERE, |a| doubles(assertion, a, subject)),
            Type::Float => array
                .as_primitive_opt::<Float32Type>()
                .map_or(Found::NOWHERE, |a| singles(assertion, a, subject)),
            Type::String => {
                array.as_string_opt::<i32>().map_or(Found::NOWHERE, |a| strings(assertion, a))
            }
            Type::Date if *assertion == Assertion::Format(Format::Date) => Found::NOWHERE,
            Type::Timestamp if *assertion == Assertion::Format(Format::DateTime) => Found::NOWHERE,
            Type::List(element) => list(assertion, element, vector),
            // Their text is gone: whoever asks has it.
            _ => Found::perhaps(subject.not_null()),
        },
    }
}

/// The values of a column that are not null and bad.
fn values<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    is_bad: impl Fn(T::Native) -> bool,
) -> Option<BooleanBuffer> {
    masked(array.values(), array.nulls(), |value| is_bad(*value))
}

/// Where values that are not null are bad, looked at in groups of as many as a word has bits.
fn masked<V>(
    values: &[V],
    nulls: Option<&NullBuffer>,
    is_bad: impl Fn(&V) -> bool,
) -> Option<BooleanBuffer> {
    let mut words: Vec<u64> = Vec::new();
    for (at, group) in values.chunks(64).enumerate() {
        // Without a branch, and so several at a time.
        if group.iter().fold(false, |any, value| any | is_bad(value)) {
            let bits =
                group.iter().rev().fold(0, |bits, value| (bits << 1) | u64::from(is_bad(value)));
            words.resize(at, 0);
            words.push(bits);
        }
    }
    if words.is_empty() {
        return None;
    }
    words.resize(values.len().div_ceil(64), 0);
    let bad = BooleanBuffer::new(Buffer::from_vec(words), 0, values.len());
    some(match nulls {
        Some(nulls) => &bad & nulls.inner(),
        None => bad,
    })
}

/// Where numbers are whole and should not be, or the other way round.
fn fractions(types: Types, ty: &Type, array: &ArrayRef) -> Found {
    let whole = types.has(Types::INTEGER);
    Found::exactly(match ty {
        Type::Double => array
            .as_primitive_opt::<Float64Type>()
            .and_then(|a| values(a, |v| (v.fract() == 0.0) != whole)),
        Type::Float => array
            .as_primitive_opt::<Float32Type>()
            .and_then(|a| values(a, |v| (v.fract() == 0.0) != whole)),
        Type::Decimal { scale, .. } => {
            let unit = 10i128.pow(u32::from(*scale));
            array
                .as_primitive_opt::<Decimal128Type>()
                .and_then(|a| values(a, |v| (v % unit == 0) != whole))
        }
        _ => None,
    })
}

/// Values of an enum: a few are looked through, many are sought.
struct Wanted<T>(Vec<T>);

impl<T: Ord> Wanted<T> {
    fn of(mut values: Vec<T>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    fn has(&self, value: &T) -> bool {
        if self.0.len() > 16 { self.0.binary_search(value).is_ok() } else { self.0.contains(value) }
    }
}

/// Where a value is none of some.
#[allow(clippy::float_cmp, reason = "enum asks for the very value")]
fn equal(wanted: &[&Datum<'_>], ty: &Type, array: &ArrayRef, subject: &Subject<'_>) -> Found {
    let numbers = || {
        wanted.iter().filter_map(|v| match v {
            Datum::Number(n) => Some(*n),
            _ => None,
        })
    };
    let integers = |scale: u8| numbers().filter_map(|n| n.to_decimal(scale)).collect::<Vec<_>>();
    let bad = match ty {
        Type::Boolean => array.as_boolean_opt().and_then(|a| booleans(wanted, a)),
        Type::Int => {
            let wanted =
                Wanted::of(integers(0).iter().filter_map(|n| i32::try_from(*n).ok()).collect());
            array.as_primitive_opt::<Int32Type>().and_then(|a| values(a, |v| !wanted.has(&v)))
        }
        Type::Long => {
            let wanted =
                Wanted::of(integers(0).iter().filter_map(|n| i64::try_from(*n).ok()).collect());
            array.as_primitive_opt::<Int64Type>().and_then(|a| values(a, |v| !wanted.has(&v)))
        }
        Type::Decimal { scale, .. } => {
            let wanted = Wanted::of(integers(*scale));
            array.as_primitive_opt::<Decimal128Type>().and_then(|a| values(a, |v| !wanted.has(&v)))
        }
        Type::Double => {
            let wanted: Vec<f64> = numbers().map(Num::to_f64).collect();
            array
                .as_primitive_opt::<Float64Type>()
                .and_then(|a| values(a, |v| !wanted.contains(&v)))
        }
        Type::String => {
            let wanted: Vec<&str> = wanted
                .iter()
                .filter_map(|v| match v {
                    Datum::Text(text) => Some(text.as_ref()),
                    _ => None,
                })
                .collect();
            let wanted = Wanted::of(wanted);
            array.as_string_opt::<i32>().and_then(|a| texts(a, |v| !wanted.has(&v)))
        }
        _ => return Found::perhaps(subject.not_null()),
    };
    Found::exactly(bad)
}

fn booleans(wanted: &[&Datum<'_>], array: &BooleanArray) -> Option<BooleanBuffer> {
    let allowed =
        |value: bool| wanted.iter().any(|v| matches!(v, Datum::Boolean(b) if *b == value));
    let bad = match (allowed(true), allowed(false)) {
        (true, true) => return None,
        (true, false) => !array.values(),
        (false, true) => array.values().clone(),
        (false, false) => BooleanBuffer::new_set(array.len()),
    };
    without(some(bad), &array.nulls().map(|n| !n.inner()))
}

/// The least and the greatest whole number of units that a bound leaves.
fn limits(assertion: &Assertion, scale: u8) -> Option<(i128, i128)> {
    let beyond = |n: &Num| n.to_f64() > 0.0;
    let (lowest, highest) = (i128::MIN, i128::MAX);
    Some(match assertion {
        Assertion::Minimum(n) => match n.floor(scale) {
            Some((floor, exact)) => (floor + i128::from(!exact), highest),
            None => (if beyond(n) { highest } else { lowest }, highest),
        },
        Assertion::ExclusiveMinimum(n) => match n.floor(scale) {
            Some((floor, _)) => (floor + 1, highest),
            None => (if beyond(n) { highest } else { lowest }, highest),
        },
        Assertion::Maximum(n) => match n.floor(scale) {
            Some((floor, _)) => (lowest, floor),
            None => (lowest, if beyond(n) { highest } else { lowest }),
        },
        Assertion::ExclusiveMaximum(n) => match n.floor(scale) {
            Some((floor, exact)) => (lowest, floor - i128::from(exact)),
            None => (lowest, if beyond(n) { highest } else { lowest }),
        },
        _ => return None,
    })
}

/// What is left to ask of whole numbers of units once [`within`] has their bounds.
fn integers<T: ArrowPrimitiveType>(
    assertion: &Assertion,
    array: &PrimitiveArray<T>,
    scale: u8,
    subject: &Subject<'_>,
) -> Found
where
    T::Native: Copy + Into<i128>,
{
    match assertion {
        Assertion::MultipleOf(unit) => match unit.to_decimal(scale).filter(|unit| *unit != 0) {
            Some(unit) => Found::exactly(values(array, |v| Into::<i128>::into(v) % unit != 0)),
            None => Found::perhaps(subject.not_null()),
        },
        _ => Found::NOWHERE,
    }
}

fn doubles(
    assertion: &Assertion,
    array: &PrimitiveArray<Float64Type>,
    subject: &Subject<'_>,
) -> Found {
    let (Assertion::Minimum(n)
    | Assertion::ExclusiveMinimum(n)
    | Assertion::Maximum(n)
    | Assertion::ExclusiveMaximum(n)
    | Assertion::MultipleOf(n)) = assertion
    else {
        return Found::NOWHERE;
    };
    let bound = n.to_f64();
    // A bound that is no double itself lies on one side of the one that stands for it.
    if Num::from_f64(bound) != Some(*n) {
        return Found::perhaps(subject.not_null());
    }
    match assertion {
        Assertion::Minimum(_) => Found::exactly(values(array, |v| v < bound)),
        Assertion::ExclusiveMinimum(_) => Found::exactly(values(array, |v| v <= bound)),
        Assertion::Maximum(_) => Found::exactly(values(array, |v| v > bound)),
        Assertion::ExclusiveMaximum(_) => Found::exactly(values(array, |v| v >= bound)),
        // 0.07 is a multiple of 0.01, but no double is.
        _ => Found::perhaps(values(array, |v| v % bound != 0.0)),
    }
}

/// Singles were rounded: what lies on a bound may have been beyond it.
#[allow(clippy::cast_possible_truncation, reason = "rounded as the values were")]
fn singles(
    assertion: &Assertion,
    array: &PrimitiveArray<Float32Type>,
    subject: &Subject<'_>,
) -> Found {
    Found::perhaps(match assertion {
        Assertion::Minimum(n) | Assertion::ExclusiveMinimum(n) => {
            let bound = n.to_f64() as f32;
            values(array, |v| v <= bound)
        }
        Assertion::Maximum(n) | Assertion::ExclusiveMaximum(n) => {
            let bound = n.to_f64() as f32;
            values(array, |v| v >= bound)
        }
        _ => subject.not_null(),
    })
}

/// The strings of a column that are not null and bad. Codes are short, few, and often repeated: what was last found of
/// a short text is remembered under a hash.
pub fn texts(array: &StringArray, is_bad: impl Fn(&str) -> bool) -> Option<BooleanBuffer> {
    let mut known = [(0u64, usize::MAX, false); 256];
    let (data, offsets) = (array.value_data(), array.value_offsets());
    let mut bad: Option<Vec<usize>> = None;
    for (row, ends) in offsets.windows(2).enumerate() {
        let [start, end] = [ends.first(), ends.last()]
            .map(|end| end.and_then(|end| usize::try_from(*end).ok()).unwrap_or_default());
        let length = end - start;
        // Eight bytes at once, of which the text's own count: only at the end of the buffer there are not so many.
        let word = data.get(start..start + 8).and_then(|bytes| bytes.try_into().ok());
        let is_bad_here = match word.map(u64::from_le_bytes) {
            Some(word) if length <= 8 => {
                let key = if length == 8 { word } else { word & !(u64::MAX << (8 * length)) };
                let slot = (key ^ length as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
                match usize::try_from(slot).ok().and_then(|slot| known.get_mut(slot)) {
                    Some(slot) => {
                        if (slot.0, slot.1) != (key, length) {
                            *slot = (key, length, is_bad(array.value(row)));
                        }
                        slot.2
                    }
                    None => is_bad(array.value(row)),
                }
            }
            _ => is_bad(array.value(row)),
        };
        if is_bad_here && array.is_valid(row) {
            bad.get_or_insert_default().push(row);
        }
    }
    bad.map(|bad| rows(array.len(), bad))
}

/// Strings that are not null and whose number of characters is bad.
fn lengths(array: &StringArray, is_bad: impl Fn(usize) -> bool) -> Option<BooleanBuffer> {
    if !array.value_data().is_ascii() {
        return texts(array, |text| is_bad(text.chars().count()));
    }
    // Every byte is a character: the ends of the texts say it all.
    let length = |ends: &[i32]| match ends {
        [start, end] => usize::try_from(end - start).unwrap_or_default(),
        _ => 0,
    };
    let lengths: Vec<usize> = array.value_offsets().windows(2).map(length).collect();
    masked(&lengths, array.nulls(), |length| is_bad(*length))
}

fn rows(len: usize, set: impl IntoIterator<Item = usize>) -> BooleanBuffer {
    let mut flags = vec![false; len];
    for row in set {
        if let Some(flag) = flags.get_mut(row) {
            *flag = true;
        }
    }
    BooleanBuffer::from(flags)
}

fn strings(assertion: &Assertion, array: &StringArray) -> Found {
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Found::exactly(match assertion {
        Assertion::MinLength(n) => lengths(array, |length| length < count(*n)),
        Assertion::MaxLength(n) => lengths(array, |length| length > count(*n)),
        Assertion::Pattern(pattern) if pattern.is_cheap() => {
            let is_bad = |v: Option<&str>| v.is_some_and(|v| !pattern.is_match(v));
            let bad: Vec<usize> =
                array.iter().enumerate().filter(|(_, v)| is_bad(*v)).map(|(row, _)| row).collect();
            (!bad.is_empty()).then(|| rows(array.len(), bad))
        }
        Assertion::Pattern(pattern) => texts(array, |v| !pattern.is_match(v)),
        Assertion::Format(format) => texts(array, |v| !format.is_match(v)),
        _ => None,
    })
}

fn list(assertion: &Assertion, element: &Element, vector: &Vector) -> Found {
    let (Some(list), Some(items)) = (vector.array.as_list_opt::<i32>(), vector.inner.first())
    else {
        return Found::NOWHERE;
    };
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let counts = |is_bad: &dyn Fn(usize) -> bool| {
        let lengths = list.offsets().lengths().enumerate();
        let bad: Vec<_> = lengths.filter(|(_, n)| is_bad(*n)).map(|(row, _)| row).collect();
        let bad = (!bad.is_empty()).then(|| rows(list.len(), bad));
        without(bad, &list.nulls().map(|n: &NullBuffer| !n.inner()))
    };
    match assertion {
        Assertion::Items(schema) => {
            let found = failing(schema, &subject_of(&element.ty, items));
            let bad = found.bad.map(|bad| {
                // Both ascend: one walk over the bad items finds their rows.
                let offsets = list.offsets();
                let mut row = 0;
                rows(
                    list.len(),
                    bad.set_indices().map(|item| {
                        while offsets
                            .get(row + 1)
                            .is_some_and(|end| usize::try_from(*end).is_ok_and(|end| end <= item))
                        {
                            row += 1;
                        }
                        row
                    }),
                )
            });
            Found { bad, exact: found.exact }
        }
        Assertion::MinItems(n) => Found::exactly(counts(&|len| len < count(*n))),
        Assertion::MaxItems(n) => Found::exactly(counts(&|len| len > count(*n))),
        Assertion::UniqueItems => Found::perhaps(counts(&|len| len > 1)),
        _ => Found::NOWHERE,
    }
}
