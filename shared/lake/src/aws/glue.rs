//! [`Catalog`] over AWS Glue: GetTable, CreateTable, and UpdateTable under the version that was read.

use async_trait::async_trait;
use aws_sdk_glue::Client;
use aws_sdk_glue::types::{Column, StorageDescriptor, TableInput};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::error::operation::BuildError;

use super::error::classify;
use crate::catalog::{Catalog, CatalogError, Entry, Table};
use crate::{Dataset, catalog};

/// A database of Glue's Data Catalog.
#[derive(Clone, Debug)]
pub struct Glue {
    client: Client,
    database: String,
}

impl Glue {
    /// The longest comment of a column in bytes (Glue API reference, Column).
    const COMMENT: usize = 255;

    pub(super) fn new(client: Client, database: String) -> Self {
        Self { client, database }
    }
}

#[async_trait]
impl Catalog for Glue {
    async fn look_up(&self, table: &Dataset) -> Result<Option<Entry>, CatalogError> {
        let request = self.client.get_table().database_name(&self.database).name(table.as_str());
        let found = match request.send().await {
            Ok(answer) => answer.table,
            Err(error) if error.code() == Some("EntityNotFoundException") => return Ok(None),
            Err(error) => return Err(failed(table, &error)),
        };
        let Some(found) = found else { return Ok(None) };
        let version = found.version_id.ok_or_else(|| CatalogError::Failed {
            table: table.clone(),
            reason: "the entry has no version".to_owned(),
        })?;
        let parameters = found.parameters.unwrap_or_default().into_iter().collect();
        Ok(Some(Entry { version, description: found.description, parameters }))
    }

    async fn create(&self, table: &Table) -> Result<(), CatalogError> {
        let request = self.client.create_table().database_name(&self.database);
        let input = input(table, None).map_err(|e| unbuilt(table, &e))?;
        match request.table_input(input).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("AlreadyExistsException") => Err(changed(table)),
            Err(error) => Err(failed(&table.name, &error)),
        }
    }

    async fn update(&self, table: &Table, seen: &Entry) -> Result<(), CatalogError> {
        // Every version of an entry that Glue keeps is paid for, and Iceberg has the history.
        let request = self.client.update_table().database_name(&self.database).skip_archive(true);
        let input = input(table, Some(seen)).map_err(|e| unbuilt(table, &e))?;
        match request.version_id(&seen.version).table_input(input).send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.code() {
                // Dropped in between, it is made anew.
                Some("ConcurrentModificationException" | "EntityNotFoundException") => {
                    Err(changed(table))
                }
                _ => Err(failed(&table.name, &error)),
            },
        }
    }
}

fn input(table: &Table, seen: Option<&Entry>) -> Result<TableInput, BuildError> {
    let columns: Result<Vec<Column>, BuildError> = table.columns.iter().map(column).collect();
    let storage = StorageDescriptor::builder().location(&table.location);
    TableInput::builder()
        .name(table.name.as_str())
        .set_description(seen.and_then(|entry| entry.description.clone()))
        .table_type("EXTERNAL_TABLE")
        .set_parameters(Some(table.parameters(seen).into_iter().collect()))
        .storage_descriptor(storage.set_columns(Some(columns?)).build())
        .build()
}

fn column(column: &catalog::Column) -> Result<Column, BuildError> {
    let comment = column.comment.as_deref().map(one_line);
    Column::builder().name(&column.name).r#type(&column.ty).set_comment(comment).build()
}

/// A comment as Glue takes it: one line, cut where it is too long.
fn one_line(text: &str) -> String {
    let is_printable = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let mut line: String = text.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
    line.truncate(line.floor_char_boundary(Glue::COMMENT));
    line
}

fn changed(table: &Table) -> CatalogError {
    CatalogError::Changed { table: table.name.clone() }
}

fn unbuilt(table: &Table, error: &BuildError) -> CatalogError {
    CatalogError::Failed { table: table.name.clone(), reason: error.to_string() }
}

fn failed<E>(table: &Dataset, error: &SdkError<E, HttpResponse>) -> CatalogError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let (_, reason) = classify(error);
    CatalogError::Failed { table: table.clone(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_one_line_that_glue_takes() {
        assert_eq!(one_line("minutes,\n\tlocal"), "minutes,  local");
        let long = format!("x{}", "ü".repeat(200));
        assert_eq!(one_line(&long), format!("x{}", "ü".repeat(127)));
    }
}
