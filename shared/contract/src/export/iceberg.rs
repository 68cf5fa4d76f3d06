//! The schema of an Iceberg table (format version 2), as its metadata has it.
//!
//! Ids are those of the version, so that a table of this schema reads every file of the dataset.

use serde_json::{Value, json};

use super::{Export, Part, iceberg_type, object, parts, pretty, sentence, text, unsaid_settings};
use crate::types::{Field, Type, items_path, path};
use crate::{Findings, Lineage, Version};

/// The table's schema: the contract's columns, then ours. Fails where the version's document is not a contract.
pub fn iceberg(version: &Version) -> Result<Export, Findings> {
    let contract = version.contract()?;
    let (columns, rules) = parts(&contract);
    let mut unsaid = Vec::new();
    let mut fields = nested(version, "", &columns, &mut unsaid);
    fields.extend(Lineage::of(&contract).iter().map(|lineage| {
        json!({
            "id": lineage.field_id(),
            "name": lineage.name(),
            "required": lineage.always_present(),
            "type": iceberg_type(&lineage.ty()),
            "doc": lineage.description(),
        })
    }));
    let key: Vec<&Field> = contract.key.iter().filter_map(|at| contract.fields.get(*at)).collect();
    // Iceberg identifies no row by a floating-point number.
    let exact = !key.iter().any(|field| matches!(field.ty, Type::Float | Type::Double));
    let ids: Vec<_> = key.iter().map(|field| version.field_id(&path("", &field.source))).collect();
    let schema = object([
        ("type", Some(text("struct"))),
        ("schema-id", Some(json!(version.sequence))),
        ("identifier-field-ids", (exact && !ids.is_empty()).then(|| json!(ids))),
        ("fields", Some(Value::Array(fields))),
    ]);
    unsaid.extend(columns.iter().flat_map(Part::all_rules));
    unsaid.extend(
        rules
            .iter()
            .map(|rule| sentence(&rule.at, &super::words::sentence(rule.assertion, "the row"))),
    );
    unsaid.extend(unsaid_settings(&contract, if exact { &["key"] } else { &[] }));
    Ok(Export { text: pretty(&Value::Object(schema)), unsaid })
}

fn nested(
    version: &Version,
    parent: &str,
    parts: &[Part<'_>],
    unsaid: &mut Vec<String>,
) -> Vec<Value> {
    let mut fields = Vec::with_capacity(parts.len());
    for part in parts {
        let Some(field) = part.field else { continue };
        let at = path(parent, &field.source);
        if let Some(classification) = field.classification {
            let says = format!("Its classification is {}.", classification.name());
            unsaid.push(sentence(&part.at, &says));
        }
        if field.deprecated {
            unsaid.push(sentence(&part.at, "It is deprecated."));
        }
        fields.push(Value::Object(object([
            ("id", Some(json!(version.field_id(&at)))),
            ("name", Some(text(&field.name))),
            ("required", Some(json!(part.always_present()))),
            ("type", Some(ty(version, &at, part, unsaid))),
            ("doc", field.doc().map(Value::String)),
        ])));
    }
    fields
}

fn ty(version: &Version, at: &str, part: &Part<'_>, unsaid: &mut Vec<String>) -> Value {
    unsaid.extend(part.presence());
    unsaid.extend(part.beyond_its_type());
    match (part.ty, part.parts.first()) {
        (Type::Struct(_), _) => {
            json!({ "type": "struct", "fields": nested(version, at, &part.parts, unsaid) })
        }
        (Type::List(_), Some(items)) => {
            let at = items_path(at);
            json!({
                "type": "list",
                "element-id": version.field_id(&at),
                "element-required": !items.nullable,
                "element": ty(version, &at, items, unsaid),
            })
        }
        (scalar, _) => Value::String(iceberg_type(scalar)),
    }
}
