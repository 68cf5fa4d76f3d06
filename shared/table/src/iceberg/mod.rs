//! The Iceberg v2 table format: schemas, manifests, manifest lists and table metadata, as values and as bytes.
//!
//! Guarantees: pure (no I/O, no clock, no randomness: the same values give the same bytes); what this module writes it
//! reads back equal; a reader that knows Iceberg v2 needs nothing else. Only what our tables need is here: data files
//! in Parquet, no delete files, at most one partition field, uncompressed Avro.
//!
//! Fails by value: whatever bytes come in, reading ends in `Ok` or in a [`FormatError`] that names the place, in time
//! and memory linear in the input. A file that is valid Iceberg but outside the above is `Unsupported`, never misread.

mod avro;
pub mod list;
pub mod manifest;
pub mod metadata;
pub mod schema;

/// Why bytes are not what we take them for, or values cannot be written. None of these goes away by trying again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The input stops inside `what`: cut off, or a length that lies.
    #[error("byte {at}: the input ends within {what}")]
    Ended { at: usize, what: &'static str },
    /// The bytes at this place cannot be `what`.
    #[error("byte {at}: not a valid {what}")]
    Malformed { at: usize, what: &'static str },
    /// The file's own schema gives a field another type than the format prescribes.
    #[error("byte {at}: {wanted} expected, the file's schema says {found}")]
    Type { at: usize, wanted: &'static str, found: &'static str },
    /// A field that the format, or this module, cannot do without is absent or null.
    #[error("required field {field} is missing")]
    Missing { field: &'static str },
    /// A number is outside what the field can hold.
    #[error("{what} is out of range: {value}")]
    Range { what: &'static str, value: String },
    /// Valid Iceberg perhaps, but not of the kind this module handles.
    #[error("unsupported {what}: {found}")]
    Unsupported { what: &'static str, found: String },
    /// JSON that does not parse, or is not the object it should be.
    #[error("{what}: {source}")]
    Json { what: &'static str, source: serde_json::Error },
}

impl FormatError {
    fn range(what: &'static str, value: impl ToString) -> Self {
        Self::Range { what, value: value.to_string() }
    }

    fn unsupported(what: &'static str, found: impl Into<String>) -> Self {
        Self::Unsupported { what, found: found.into() }
    }

    fn json(what: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json { what, source }
    }
}
