//! What every function shares: events at the edge, messages between functions, outcomes per message, and one summary
//! line per invocation.
//!
//! [`serve`] is a function's whole `main`: it sets up logging, connects, and hands each payload to the handler with a
//! [`Summary`] to fill in, which is then written as one line that is also an EMF record.

mod batch;
pub mod cost;
mod event;
mod message;
mod serve;
mod summary;

pub use batch::{BatchResponse, Envelope, each, envelopes};
pub use event::{Incoming, Upload, What, uploads};
pub use message::{PromoteMessage, Reason, ReplayRequest, RunMessage, StageMessage, outgoing};
pub use serve::{Cloud, HandlerError, serve, setting};
pub use summary::{Outcomes, Summary};
