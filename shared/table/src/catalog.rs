//! The catalog follows the pointer.
//!
//! Guarantee: after `Ok` the catalog's entry of the table names the given metadata file or one with a higher number, and it
//! was never set to a lower one. The pointer is the truth: an entry at the same number that names another file, which some
//! engine has written, is corrected. An entry of a table elsewhere is nobody's to replace: [`FollowError::Foreign`].
//! Any failure leaves the entry behind, and the next call mends it.

use sluicegate_lake::cas::Backoff;
use sluicegate_lake::catalog::{Catalog, CatalogError, Column, Entry, Table};
use sluicegate_lake::{Ambient, Dataset, Store, StoreError, keys};

use crate::iceberg::FormatError;
use crate::iceberg::metadata::TableMetadata;
use crate::iceberg::schema::{Field, Schema, Type};
use crate::view::{base_of, number_of};

/// Why the catalog may be behind.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the table's metadata cannot be read: {0}")]
    Format(#[from] FormatError),
    #[error("{dataset} is another table in the catalog, with its metadata at {found}")]
    Foreign { dataset: Dataset, found: String },
}

/// Brings the catalog's entry of a table to a metadata file that the pointer held, by the name it has there.
pub async fn follow(
    catalog: &dyn Catalog,
    store: &dyn Store,
    ambient: &dyn Ambient,
    dataset: &Dataset,
    file: &str,
) -> Result<(), FollowError> {
    let base = base_of(store, dataset);
    let mut table = None;
    let mut tries = 0;
    loop {
        let seen = catalog.look_up(dataset).await?;
        if let Some(entry) = &seen
            && !is_behind(entry, &base, dataset, file)?
        {
            return Ok(());
        }
        let table = match &mut table {
            Some(table) => table,
            none => none.insert(describe(store, dataset, file).await?),
        };
        let written = match &seen {
            Some(entry) => catalog.update(table, entry).await,
            None => catalog.create(table).await,
        };
        tries += 1;
        match written {
            Err(CatalogError::Changed { .. }) if Backoff::REQUEST.wait(tries, ambient).await => {}
            written => return Ok(written?),
        }
    }
}

/// Whether an entry is to be replaced by one that names `file`.
fn is_behind(
    entry: &Entry,
    base: &str,
    dataset: &Dataset,
    file: &str,
) -> Result<bool, FollowError> {
    let found = entry.metadata().unwrap_or("no place: it is not an Iceberg table");
    let there = found.strip_prefix(base).and_then(|name| name.strip_suffix(".metadata.json"));
    match there.and_then(|name| Some((name, number_of(name)?))) {
        Some((name, theirs)) => Ok(name != file && Some(theirs) <= number_of(file)),
        None => Err(FollowError::Foreign { dataset: dataset.clone(), found: found.to_owned() }),
    }
}

/// A table as the catalog is to show it. Read anew, which only happens when there is something to write.
async fn describe(store: &dyn Store, dataset: &Dataset, file: &str) -> Result<Table, FollowError> {
    let name = format!("{file}.metadata.json");
    let (_, bytes) = store.get(&keys::metadata(dataset, &name)).await?;
    let metadata = TableMetadata::from_json(&bytes)?;
    Ok(Table {
        name: dataset.clone(),
        metadata: format!("{}{name}", base_of(store, dataset)),
        columns: metadata.current_schema().map(columns).unwrap_or_default(),
        location: metadata.location,
    })
}

fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &Field| Column {
        name: field.name.clone(),
        ty: hive(&field.ty),
        comment: field.doc.clone(),
    };
    schema.fields.iter().map(column).collect()
}

/// A type by its name in Hive.
fn hive(ty: &Type) -> String {
    match ty {
        Type::Boolean => "boolean".to_owned(),
        Type::Int => "int".to_owned(),
        Type::Long => "bigint".to_owned(),
        Type::Float => "float".to_owned(),
        Type::Double => "double".to_owned(),
        Type::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        Type::String => "string".to_owned(),
        Type::Date => "date".to_owned(),
        Type::Timestamptz => "timestamp".to_owned(),
        Type::List { element, .. } => format!("array<{}>", hive(element)),
        Type::Struct(fields) => {
            let field = |field: &Field| format!("{}:{}", field.name, hive(&field.ty));
            format!("struct<{}>", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_types_have_hives_names() {
        let text = r#"{"schema-id":0,"type":"struct","fields":[
            {"id":1,"name":"at","required":true,"type":"timestamptz","doc":"When"},
            {"id":2,"name":"lines","required":false,"type":{"type":"list","element-id":3,"element-required":true,"element":
                {"type":"struct","fields":[{"id":4,"name":"price","required":true,"type":"decimal(12, 2)"},
                                           {"id":5,"name":"n","required":true,"type":"long"}]}}}]}"#;
        let columns = columns(&serde_json::from_str(text).unwrap());
        let told = columns.iter().map(|c| (c.name.as_str(), c.ty.as_str(), c.comment.as_deref()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("at", "timestamp", Some("When")),
                ("lines", "array<struct<price:decimal(12,2),n:bigint>>", None)
            ]
        );
    }

    #[test]
    fn an_entry_is_behind_below_our_number_or_at_it_with_another_file() {
        let dataset: Dataset = "flights".parse().unwrap();
        let base = "s3://lake/tables/flights/metadata/";
        let behind = |location: &str| {
            let parameters = [("metadata_location".to_owned(), location.to_owned())].into();
            let entry = Entry { version: "1".to_owned(), description: None, parameters };
            is_behind(&entry, base, &dataset, "00010-b").ok()
        };
        for (file, expected) in [("00009-a", true), ("00010-b", false), ("00011-c", false)] {
            assert_eq!(behind(&format!("{base}{file}.metadata.json")), Some(expected), "{file}");
        }
        assert_eq!(behind(&format!("{base}00010-x.metadata.json")), Some(true));
        // As numbers, not as text.
        assert_eq!(behind(&format!("{base}100000-x.metadata.json")), Some(false));
        for elsewhere in ["s3://lake/tables/other/metadata/00001-a.metadata.json", "", base] {
            assert_eq!(behind(elsewhere), None, "{elsewhere}");
        }
    }
}
