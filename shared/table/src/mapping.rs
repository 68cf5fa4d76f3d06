//! From a contract to a table's schema and partitions.

use sluicegate_contract::{self as contract, Contract, Grain, Lineage, Version, items_path, path};

use crate::iceberg::schema::{Field, Schema, Transform, Type};
use crate::proposal::PartitionBy;

/// The table's schema: the contract's columns, then ours. What older files may lack is not required.
pub fn table_schema(contract: &Contract, version: &Version) -> Schema {
    let mut columns = fields(&contract.fields, "", version);
    columns.extend(Lineage::of(contract).iter().map(|lineage| Field {
        id: lineage.field_id(),
        name: lineage.name().to_owned(),
        required: lineage.always_present(),
        ty: table_type(&lineage.ty(), "", version),
        doc: Some(lineage.description().to_owned()),
    }));
    let id = i32::try_from(version.sequence).unwrap_or(i32::MAX);
    Schema { id, fields: columns }
}

fn fields(declared: &[contract::Field], parent: &str, version: &Version) -> Vec<Field> {
    let fields = declared.iter().map(|field| {
        let at = path(parent, &field.source);
        Field {
            id: version.field_id(&at),
            name: field.name.clone(),
            required: field.always_present() && !version.lacking.contains(&version.field_id(&at)),
            ty: table_type(&field.ty, &at, version),
            doc: field.doc(),
        }
    });
    fields.collect()
}

fn table_type(ty: &contract::Type, at: &str, version: &Version) -> Type {
    match ty {
        contract::Type::Boolean => Type::Boolean,
        contract::Type::Int => Type::Int,
        contract::Type::Long => Type::Long,
        contract::Type::Float => Type::Float,
        contract::Type::Double => Type::Double,
        contract::Type::Decimal { precision, scale } => {
            Type::Decimal { precision: *precision, scale: *scale }
        }
        contract::Type::String | contract::Type::Json => Type::String,
        contract::Type::Date => Type::Date,
        contract::Type::Timestamp => Type::Timestamptz,
        contract::Type::Struct(inner) => Type::Struct(fields(inner, at, version)),
        contract::Type::List(element) => {
            let at = items_path(at);
            Type::List {
                id: version.field_id(&at),
                required: !element.nullable && !version.lacking.contains(&version.field_id(&at)),
                element: Box::new(table_type(&element.ty, &at, version)),
            }
        }
    }
}

/// How the table is partitioned, if it is.
pub fn partition_by(contract: &Contract, version: &Version) -> Option<PartitionBy> {
    let field = contract.event_field()?;
    let grain = contract.event_time.as_ref()?.grain;
    let transform = match grain {
        Grain::Hour => Transform::Hour,
        Grain::Day => Transform::Day,
        Grain::Month => Transform::Month,
        Grain::None => return None,
    };
    let name = grain.partition_name(&field.name)?;
    Some(PartitionBy { source_id: version.field_id(&path("", &field.source)), name, transform })
}
