//! The lake: what things are called, where they lie, and the two conditional writes that everything rests on.
//!
//! * [`name`] and [`keys`]: dataset, source, raw id and order, and the layout of the lake bucket. Every key of the
//!   system is made in `keys` and nowhere else.
//! * [`Store`] and [`Queue`]: what is asked of S3 and SQS, with errors that say what the caller should do.
//!   [`memory`] and [`disk`] hold them in this process, [`aws`] (feature `aws`) is the real thing; one suite,
//!   [`conformance`], says what they have in common.
//! * [`Catalog`](catalog::Catalog): what is asked of Glue, where a deployment has it (feature `glue`).
//! * [`cas`]: create once and swap if unchanged, with lost acknowledgements resolved. It knows nothing of datasets.
//! * [`Ambient`]: the only clock and the only source of randomness.

mod ambient;
#[cfg(feature = "aws")]
pub mod aws;
pub mod cas;
pub mod catalog;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod disk;
pub mod faulty;
pub mod keys;
pub mod memory;
mod meter;
pub mod name;
mod queue;
mod store;

pub use ambient::{Ambient, Seeded, System};
pub use meter::{Cost, Requests, Usage};
pub use name::{Dataset, NameError, Order, PlanId, RawId, Source};
pub use queue::{Depth, Outgoing, Queue, QueueError, Received};
pub use store::{
    Attributes, Body, ByteStream, CopySource, ETag, Expected, Listed, Meta, Page, Store,
    StoreError, list_all,
};

/// Standard base64 (RFC 4648), as S3 writes checksums.
pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
