//! [`Catalog`]: what is asked of a metastore, such as AWS Glue, in which engines look tables up by name.
//!
//! An entry names a table's metadata file, as the pointer does. It is created where there is none and replaced under the
//! version that was read, so of two writers one is told [`CatalogError::Changed`] and reads again. A failed call leaves the
//! entry as it was or as it should be, never in between.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::Dataset;
use crate::memory::Fault;

/// The parameter that names a table's metadata file: where engines begin to read.
const METADATA: &str = "metadata_location";

/// A table as a catalog is to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: Dataset,
    /// The table's root, as a URI.
    pub location: String,
    /// Its metadata file, as a URI.
    pub metadata: String,
    /// For people who look at the catalog; engines take the columns from the metadata file.
    pub columns: Vec<Column>,
}

/// A column by Hive's type names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub ty: String,
    pub comment: Option<String>,
}

/// A table's entry, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Grows with every change.
    pub version: String,
    pub description: Option<String>,
    /// All of them, those that others have set included.
    pub parameters: BTreeMap<String, String>,
}

impl Entry {
    /// The metadata file that the entry names; `None` if it is not of an Iceberg table.
    pub fn metadata(&self) -> Option<&str> {
        self.parameters.get(METADATA).map(String::as_str)
    }
}

impl Table {
    /// The parameters of its new entry: Iceberg's own, and what else is in the entry that it replaces.
    pub fn parameters(&self, seen: Option<&Entry>) -> BTreeMap<String, String> {
        let mut parameters = seen.map(|entry| entry.parameters.clone()).unwrap_or_default();
        parameters.insert("table_type".to_owned(), "ICEBERG".to_owned());
        if let Some(previous) = parameters.insert(METADATA.to_owned(), self.metadata.clone()) {
            parameters.insert("previous_metadata_location".to_owned(), previous);
        }
        parameters
    }
}

/// Why a catalog did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    #[error("the catalog's entry of {table} was changed by somebody else")]
    Changed { table: Dataset },
    #[error("the catalog, asked about {table}: {reason}")]
    Failed { table: Dataset, reason: String },
}

/// One database of a metastore.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// A table's entry, if it has one.
    async fn look_up(&self, table: &Dataset) -> Result<Option<Entry>, CatalogError>;

    /// Makes an entry that is absent; else [`CatalogError::Changed`].
    async fn create(&self, table: &Table) -> Result<(), CatalogError>;

    /// Replaces the entry that was seen; [`CatalogError::Changed`] if it is another one by now.
    async fn update(&self, table: &Table, seen: &Entry) -> Result<(), CatalogError>;
}

/// A catalog in this process, for tests and simulations. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryCatalog(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tables: BTreeMap<Dataset, (Table, Entry)>,
    /// How often an entry was written.
    writes: u64,
    faults: VecDeque<Fault>,
}

impl MemoryCatalog {
    /// What it shows of a table.
    pub fn table(&self, name: &Dataset) -> Option<(Table, Entry)> {
        self.lock().tables.get(name).cloned()
    }

    /// Writes an entry as somebody else may, unconditionally.
    pub fn put(&self, table: &Table, parameters: BTreeMap<String, String>) {
        self.lock().write(table, parameters, None);
    }

    /// Makes a coming call fail; faults are used up in order.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(
        &mut self,
        table: &Table,
        parameters: BTreeMap<String, String>,
        description: Option<String>,
    ) {
        self.writes += 1;
        let entry = Entry { version: self.writes.to_string(), description, parameters };
        self.tables.insert(table.name.clone(), (table.clone(), entry));
    }

    /// Does a call, unless a fault prevents it or its answer.
    fn call<T>(
        &mut self,
        table: &Dataset,
        call: impl FnOnce(&mut Self) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let failed =
            |reason: &str| CatalogError::Failed { table: table.clone(), reason: reason.to_owned() };
        match self.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => call(self),
            Fault::Conflict => Err(CatalogError::Changed { table: table.clone() }),
            Fault::Unavailable => Err(failed("unavailable (planned)")),
            Fault::LostAcknowledgement => {
                call(self)?;
                Err(failed("the answer was lost (planned)"))
            }
        }
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn look_up(&self, table: &Dataset) -> Result<Option<Entry>, CatalogError> {
        let found = |state: &mut State| Ok(state.tables.get(table).map(|(_, entry)| entry.clone()));
        self.lock().call(table, found)
    }

    async fn create(&self, table: &Table) -> Result<(), CatalogError> {
        self.lock().call(&table.name, |state| {
            if state.tables.contains_key(&table.name) {
                return Err(CatalogError::Changed { table: table.name.clone() });
            }
            state.write(table, table.parameters(None), None);
            Ok(())
        })
    }

    async fn update(&self, table: &Table, seen: &Entry) -> Result<(), CatalogError> {
        self.lock().call(&table.name, |state| {
            let present = state.tables.get(&table.name).map(|(_, entry)| &entry.version);
            if present != Some(&seen.version) {
                return Err(CatalogError::Changed { table: table.name.clone() });
            }
            state.write(table, table.parameters(Some(seen)), seen.description.clone());
            Ok(())
        })
    }
}
