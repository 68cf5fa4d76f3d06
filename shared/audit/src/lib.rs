//! The audit: bytes in; checked batches, quarantined rows and a verdict out, in one pass.
//!
//! [`read`] reads an object's bytes as its contract says they are written, checks every row, hands accepted rows to a
//! [`Sink`] as Arrow batches, one partition each, and bad ones as their original bytes with every rule they broke. What
//! it has seen is judged by the contract's audits and by what was published before ([`Seen::judge`]).
//!
//! Guarantees: rows accepted + rows quarantined = rows read (AUD-1); the same bytes under the same rules give the same
//! batches, however the input was cut into reads (REP-1); memory depends on the longest row, not on the object. Of an
//! object that is rejected, how far it was read before that was seen may depend on the reads.
//!
//! It fails in two ways only: [`AuditError::Source`] when the bytes could not be read to their end, and
//! [`AuditError::Sink`] when what came out could not be kept. Whatever is wrong with the bytes themselves is a
//! verdict, not an error. Pure: no clock, no I/O but through the reader, the sink,
//! and files in a [`Scratch`] folder.

mod cell;
mod csv;
mod decode;
mod digest;
mod input;
mod jsonl;
mod judge;
mod parquet;
mod pass;
mod plain;
pub mod profile;
mod rowtest;
mod split;
mod text;
mod unique;
mod unknown;

pub use decode::RowFault;
pub use input::{MAX_EXPANSION, unpacked};
pub use judge::{History, PastFile};
pub use pass::{Accepted, Audit, AuditError, BadRow, Rules, Seen, Sink, audit, read};
pub use sluicegate_contract::infer::Amendment;
pub use sluicegate_contract::{Coverage, Outcome, Reason, Verdict, VerdictError};

/// Rises with every change that makes the same bytes give other files, so that a replay is told from a repetition.
pub const ENGINE: u32 = 3;

/// Room for local files that an audit may need: to sort keys, and to hold what must be read from its end.
#[derive(Clone, Debug)]
pub struct Scratch {
    pub folder: std::path::PathBuf,
    /// Bytes.
    pub limit: u64,
}
