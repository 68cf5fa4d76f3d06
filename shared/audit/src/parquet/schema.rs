//! What a file's columns are to a contract's: which are read, as what, and which can never have a place.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Fields, TimeUnit};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::{SchemaDescriptor, Type as Node, TypePtr};
use sluicegate_contract::{Contract, Element, Field, Reason, Type, UnknownFields};

use super::pages::Leaf;
use super::{damaged, unreadable};
use crate::decode::{DecodeError, quote};

/// Bytes of a value of fixed length.
const WIDTH: usize = 64 << 10;

/// The columns of a file that are read.
pub(super) struct Found {
    pub(super) leaves: Vec<Leaf>,
    pub(super) levels: FieldLevels,
    pub(super) fields: Fields,
}

/// Chooses the columns of a file that are read; `keep`: also those that the contract does not know.
pub(super) fn read(
    metadata: &ParquetMetaData,
    fields: &[Field],
    keep: bool,
) -> Result<Found, DecodeError> {
    let schema = metadata.file_metadata().schema_descr();
    let mut choice = Choice { schema, keep, next: 0, leaves: Vec::new() };
    let columns = choice.columns(schema.root_schema(), Some(fields))?;
    let leaves = choice.leaves;
    let failed = |error| damaged("the schema", error);
    let root = Node::group_type_builder(schema.root_schema().name()).with_fields(columns);
    let chosen = SchemaDescriptor::new(Arc::new(root.build().map_err(failed)?));
    // Only Parquet's own types count, but for what no Arrow type holds as it is.
    let levels = |hint: Option<&Fields>| {
        parquet_to_arrow_field_levels(&chosen, ProjectionMask::all(), hint).map_err(failed)
    };
    let plain = arrow_fields(&chosen)?;
    let mut physical = leaves.iter().map(|leaf| leaf.physical);
    let fields: Fields = plain.iter().map(|field| hinted(field, &mut physical)).collect();
    Ok(Found { levels: levels(Some(&fields))?, leaves, fields })
}

/// The Arrow types of a schema's columns.
fn arrow_fields(schema: &SchemaDescriptor) -> Result<Fields, DecodeError> {
    let schema = parquet::arrow::parquet_to_arrow_schema(schema, None);
    schema.map(|schema| schema.fields).map_err(|error| damaged("the schema", error))
}

/// The field as it is read: strings as views of their pages, and the instants of 96 bits in microseconds, since their
/// nanoseconds go beyond 64 bits.
fn hinted(field: &ArrowField, physical: &mut impl Iterator<Item = Physical>) -> Arc<ArrowField> {
    let ty = match field.data_type() {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| hinted(f, &mut *physical)).collect())
        }
        DataType::List(item) => DataType::List(hinted(item, physical)),
        DataType::Map(entries, sorted) => DataType::Map(hinted(entries, physical), *sorted),
        ty => match (physical.next(), ty) {
            (_, DataType::Binary) => DataType::BinaryView,
            (Some(Physical::INT96), _) => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            _ => ty.clone(),
        },
    };
    Arc::new(field.clone().with_data_type(ty))
}

/// Walks a file's schema, column by column.
struct Choice<'s> {
    schema: &'s SchemaDescriptor,
    keep: bool,
    /// The next column of the file.
    next: usize,
    leaves: Vec<Leaf>,
}

impl Choice<'_> {
    /// The columns of a group that are read; of the row itself and of structs the contract's `fields` are known.
    fn columns(
        &mut self,
        group: &Node,
        fields: Option<&[Field]>,
    ) -> Result<Vec<TypePtr>, DecodeError> {
        let mut chosen = Vec::new();
        for node in group.get_fields() {
            let field = fields.and_then(|f| f.iter().find(|f| f.source == node.name()));
            if field.is_none() && fields.is_some() && !self.keep {
                self.next += leaves(node);
                continue;
            }
            let inner = match field.map(|f| &f.ty) {
                Some(Type::Struct(fields)) => Some(fields.as_slice()),
                _ => None,
            };
            chosen.push(self.node(node, inner)?);
        }
        // A struct is there or not by its columns: one that the contract knows none of is read whole.
        if chosen.is_empty() && !group.is_schema() && fields.is_some() {
            self.next -= leaves(group);
            return self.columns(group, None);
        }
        Ok(chosen)
    }

    fn node(&mut self, node: &Node, fields: Option<&[Field]>) -> Result<TypePtr, DecodeError> {
        let failed = |error| damaged("the schema", error);
        let (info, name) = (node.get_basic_info(), quote(node.name()));
        if node.is_primitive() {
            return self.leaf(node);
        }
        let converted = info.converted_type();
        let is_map = matches!(converted, ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
        if is_map {
            let entries = match node.get_fields() {
                [entries] if !entries.is_primitive() => entries.get_fields().len(),
                _ => 0,
            };
            if !(1..=2).contains(&entries) {
                return Err(unreadable(format!("column {name} is a map without entries")));
            }
        }
        // Only a struct's own columns go by their names.
        let is_struct = converted == ConvertedType::NONE && info.logical_type_ref().is_none();
        let columns = self.columns(node, fields.filter(|_| is_struct))?;
        let built = Node::group_type_builder(node.name())
            .with_repetition(info.repetition())
            .with_converted_type(converted)
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(columns)
            .build();
        built.map(Arc::new).map_err(failed)
    }

    fn leaf(&mut self, node: &Node) -> Result<TypePtr, DecodeError> {
        let (info, name) = (node.get_basic_info(), quote(node.name()));
        let column = self.next;
        self.next += 1;
        let descriptor = self.schema.columns().get(column);
        let descriptor = descriptor.ok_or_else(|| unreadable("a column is missing"))?;
        let physical = node.get_physical_type();
        let width = match physical {
            Physical::BOOLEAN => 1,
            Physical::INT32 | Physical::FLOAT | Physical::BYTE_ARRAY => 4,
            Physical::INT64 | Physical::DOUBLE => 8,
            Physical::INT96 => 12,
            Physical::FIXED_LEN_BYTE_ARRAY => {
                usize::try_from(descriptor.type_length()).unwrap_or_default()
            }
        };
        if !(1..=WIDTH).contains(&width) {
            let message = format!("column {name} has values of {width} bytes; at most {WIDTH}");
            return Err(unreadable(message));
        }
        let level = |level: i16| u32::try_from(level).unwrap_or_default();
        self.leaves.push(Leaf {
            column,
            physical,
            width,
            max_definition: level(descriptor.max_def_level()),
            max_repetition: level(descriptor.max_rep_level()),
        });
        let is_decimal = info.converted_type() == ConvertedType::DECIMAL
            || matches!(info.logical_type_ref(), Some(LogicalType::Decimal(_)));
        let is_nothing = info.logical_type_ref() == Some(&LogicalType::Unknown);
        let plain = match physical {
            Physical::BYTE_ARRAY if is_decimal => {
                let message = format!(
                    "column {name} has decimals of any length, which are not read: write them with a fixed one"
                );
                return Err(unreadable(message));
            }
            // Text is checked row by row.
            Physical::BYTE_ARRAY => true,
            Physical::INT32 => false,
            _ => is_nothing,
        };
        let mut built = Node::primitive_type_builder(node.name(), physical)
            .with_repetition(info.repetition())
            .with_length(descriptor.type_length());
        if !plain {
            built = built
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_precision(descriptor.type_precision())
                .with_scale(descriptor.type_scale());
        }
        built.build().map(Arc::new).map_err(|error| damaged("the schema", error))
    }
}

/// Columns in a part of a schema.
fn leaves(node: &Node) -> usize {
    if node.is_primitive() { 1 } else { node.get_fields().iter().map(|n| leaves(n)).sum() }
}

/// How the columns of an object are found in a file.
pub(super) struct Plan<'c> {
    /// In the order of the contract's fields.
    pub(super) columns: Vec<Column<'c>>,
    /// What the contract does not know: place and name.
    pub(super) strangers: Vec<(usize, String)>,
}

/// A field of the contract, and where it is in the file.
pub(super) struct Column<'c> {
    pub(super) field: &'c Field,
    pub(super) from: Option<(usize, Value<'c>)>,
}

/// How a value is read.
pub(super) enum Value<'c> {
    Leaf(&'c Type),
    Struct(&'c Type, Plan<'c>),
    List(&'c Type, &'c Element, Box<Value<'c>>),
}

/// Finds a contract's columns in a file.
pub(super) fn plan(contract: &Contract, file: Fields) -> Result<Plan<'_>, DecodeError> {
    let reject = contract.unknown_fields == UnknownFields::Reject;
    object(&contract.fields, &file, "", reject)
}

fn header(message: String) -> DecodeError {
    DecodeError::Unreadable(Reason::new("header", message))
}

/// A column's place for people: its names, with points between them.
fn path(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn object<'c>(
    fields: &'c [Field],
    file: &Fields,
    at: &str,
    reject: bool,
) -> Result<Plan<'c>, DecodeError> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = file.iter().find(|field| !seen.insert(field.name())) {
        let name = quote(&path(at, twice.name()));
        return Err(header(format!("two columns are called {name}")));
    }
    let mut missing = Vec::new();
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let place = path(at, &field.source);
        let found = file.iter().enumerate().find(|(_, f)| *f.name() == field.source);
        let from = match found {
            Some((i, found)) => Some((i, value(&field.ty, found.data_type(), &place, reject)?)),
            None => None,
        };
        if from.is_none() && field.required {
            missing.push(quote(&place));
        }
        columns.push(Column { field, from });
    }
    if !missing.is_empty() {
        let listed = missing.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
        return Err(header(format!("the file lacks {} required columns: {listed}", missing.len())));
    }
    let is_strange = |name: &String| !fields.iter().any(|f| f.source == *name);
    let strangers: Vec<_> = file
        .iter()
        .enumerate()
        .filter(|(_, f)| is_strange(f.name()))
        .map(|(i, f)| (i, f.name().clone()))
        .collect();
    if let (true, Some((_, first))) = (reject, strangers.first()) {
        let message = format!(
            "column {} is not in the contract, which rejects unknown fields",
            quote(&path(at, first))
        );
        return Err(DecodeError::Unreadable(Reason::new("unknown_field", message)));
    }
    Ok(Plan { columns, strangers })
}

fn value<'c>(
    ty: &'c Type,
    file: &DataType,
    at: &str,
    reject: bool,
) -> Result<Value<'c>, DecodeError> {
    match (ty, file) {
        (Type::Struct(fields), DataType::Struct(file)) => {
            Ok(Value::Struct(ty, object(fields, file, at, reject)?))
        }
        (Type::List(element), DataType::List(item)) => {
            let item = value(&element.ty, item.data_type(), &path(at, "items"), reject)?;
            Ok(Value::List(ty, element, Box::new(item)))
        }
        _ if fits(ty, file) => Ok(Value::Leaf(ty)),
        _ => Err(header(format!(
            "column {} is {} in the file, which has no place in {}",
            quote(at),
            describe(file),
            ty.describe()
        ))),
    }
}

/// Whether some values of a file's type have a place in a column.
fn fits(ty: &Type, file: &DataType) -> bool {
    let is_decimal = matches!(file, DataType::Decimal128(..) | DataType::Decimal256(..));
    match ty {
        _ if *file == DataType::Null => true,
        Type::Boolean => *file == DataType::Boolean,
        Type::Int | Type::Long => {
            let is_whole = matches!(file, DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0));
            file.is_integer() || is_whole
        }
        Type::Float | Type::Double => file.is_integer() || file.is_floating(),
        Type::Decimal { .. } => file.is_integer() || is_decimal,
        Type::String | Type::Json => *file == DataType::BinaryView,
        Type::Date => *file == DataType::Date32,
        Type::Timestamp => matches!(file, DataType::Timestamp(..)),
        Type::Struct(_) | Type::List(_) => false,
    }
}

/// A file's type for people.
fn describe(file: &DataType) -> String {
    match file {
        DataType::BinaryView => "a string".to_owned(),
        DataType::Struct(_) => "a struct".to_owned(),
        DataType::List(_) => "a list".to_owned(),
        DataType::Map(..) => "a map".to_owned(),
        other => other.to_string(),
    }
}
