//! The contract: one JSON Schema (2020-12) with an `x-sluicegate` block that producer and subscriber both test with.
//!
//! * [`Contract::parse`] reads and lints a document. What it accepts, it understands in full: a keyword outside the
//!   subset is refused with its JSON pointer and what to write instead, never ignored.
//! * [`Version`] is a contract as the lake keeps it: numbered, with a field id for every column that survives changes.
//! * [`Verdict`] is what holding an object against its contract came to; there is none without its coverage.
//! * [`check`] (feature `arrow`) is the Arrow schema of the rows and the vectorised checks over them.
//!
//! Pure: no I/O, no clock, no network; the same document gives the same answer for ever.

#[cfg(feature = "arrow")]
pub mod check;
mod lint;
mod model;
mod verdict;
mod version;

pub use lint::{Finding, Findings};
pub use model::{
    Allowed, BadRows, Bound, Compression, Contract, CsvFormat, EventTime, Field, Format, Grain,
    JsonlFormat, Kind, Reupload, Rule, Team, UnknownFields,
};
pub use verdict::{Coverage, Outcome, Reason, Verdict, VerdictError};
pub use version::{ContractPointer, FIRST_FIELD_ID, Lineage, Version, VersionError};
