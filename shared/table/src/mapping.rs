//! From a contract to a table's schema and partitions.

use sluicegate_contract::{Contract, Grain, Kind, Lineage, Version};

use crate::iceberg::schema::{Field, Schema, Transform, Type};
use crate::proposal::PartitionBy;

/// The table's schema: the contract's columns, then ours.
pub fn table_schema(contract: &Contract, version: &Version) -> Schema {
    let columns = contract.fields.iter().map(|field| Field {
        id: version.field_id(field),
        name: field.name.clone(),
        required: field.always_present(),
        ty: match field.kind {
            Kind::Boolean => Type::Boolean,
            Kind::Integer => Type::Long,
            Kind::Number => Type::Double,
            Kind::String => Type::String,
            Kind::Date => Type::Date,
            Kind::DateTime => Type::Timestamptz,
        },
        doc: match (&field.description, &field.unit) {
            (Some(text), Some(unit)) => Some(format!("{text} [{unit}]")),
            (Some(text), None) => Some(text.clone()),
            (None, unit) => unit.as_ref().map(|unit| format!("[{unit}]")),
        },
    });
    let ours = Lineage::ALL.map(|lineage| Field {
        id: lineage.field_id(),
        name: lineage.name().to_owned(),
        required: true,
        ty: match lineage {
            Lineage::RawId => Type::String,
            Lineage::RawRow => Type::Long,
            Lineage::LandedAt => Type::Timestamptz,
        },
        doc: Some(lineage.description().to_owned()),
    });
    let id = i32::try_from(version.sequence).unwrap_or(i32::MAX);
    Schema { id, fields: columns.chain(ours).collect() }
}

/// How the table is partitioned, if it is.
pub fn partition_by(contract: &Contract, version: &Version) -> Option<PartitionBy> {
    let field = contract.event_field()?;
    let transform = match contract.event_time.as_ref()?.grain {
        Grain::Hour => Transform::Hour,
        Grain::Day => Transform::Day,
        Grain::Month => Transform::Month,
        Grain::None => return None,
    };
    let word = match transform {
        Transform::Hour => "hour",
        Transform::Day => "day",
        Transform::Month => "month",
    };
    let name = format!("{}_{word}", field.name);
    Some(PartitionBy { source_id: version.field_id(field), name, transform })
}
