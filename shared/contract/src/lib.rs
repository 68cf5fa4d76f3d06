//! The contract: one JSON Schema (2020-12) with an `x-sluicegate` block that producer and subscriber both test with.
//!
//! * [`Contract::parse`] reads and lints a document. What it accepts, it understands in full: a keyword outside the
//!   subset is refused with its JSON pointer and what to write instead, never ignored.
//! * [`Schema`] is the language: its assertions, and what they mean for one value ([`Schema::explain`]).
//! * [`Type`] is what a property becomes in a table; nothing is rounded on the way.
//! * [`Version`] is a contract as the lake keeps it: numbered, with a field id for every column that survives changes.
//! * [`Verdict`] is what holding an object against its contract came to; there is none without its coverage.
//! * [`audits`] is what a contract asks of an object's rows as a whole; [`expr`] is the language of their conditions.
//! * [`profile`] is what the rows of an object look like, column by column.
//! * [`check`] (feature `arrow`) is the Arrow schema of the rows and the vectorised checks over them.
//!
//! Pure: no I/O, no clock, no network; the same document gives the same answer for ever, in bounded time and memory.

pub mod audits;
#[cfg(feature = "arrow")]
pub mod check;
mod datum;
pub mod diff;
pub mod export;
pub mod expr;
mod format;
pub mod infer;
mod lint;
pub mod lock;
mod model;
mod node;
mod num;
mod pattern;
pub mod pointer;
pub mod profile;
pub mod sample;
mod schema;
mod shape;
pub mod time;
mod types;
mod verdict;
mod version;
mod walk;

pub use datum::Datum;
pub use diff::{Change, ChangeKind, Compatibility, Diff, Refusal};
pub use format::Format;
pub use model::{
    BadRows, Budget, Compression, Contract, Counterexample, CsvFormat, Encoding, EventTime,
    Freshness, Grain, JsonlFormat, LateFiles, Measure, Metric, ParquetFormat, Reupload, RowFormat,
    Team, UnknownFields, unknown_fields,
};
pub use node::{Finding, Findings};
pub use num::Num;
pub use pattern::Pattern;
pub use schema::{About, Assertion, Classification, Logical, Schema, Types};
pub use types::{
    Element, Field, Type, decimal, is_column_name, items_path, path, single, snake_case,
};
pub use verdict::{
    AuditResult, AuditState, Coverage, Outcome, Reason, Severity, Verdict, VerdictError,
};
pub use version::{ContractPointer, FIRST_FIELD_ID, Lineage, Version, VersionError};
pub use walk::Fault;
