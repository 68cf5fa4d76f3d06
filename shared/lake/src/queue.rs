//! [`Queue`]: what is asked of a message queue. At least once, in no order.
//!
//! Sending answers only when every message was taken; a failure may leave some of them sent, which is harmless
//! because every handler is idempotent.

use std::time::Duration;

use async_trait::async_trait;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub body: String,
    /// Fair-queue group: messages of one dataset share one, so that its burst delays nobody else's
    /// (SQS developer guide, fair queues).
    pub group: String,
}

/// A message taken from a queue; it comes again unless deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub id: String,
    pub body: String,
    pub receipt: String,
    /// How often it was taken, this time included.
    pub receives: u32,
}

/// How many messages a queue has. SQS counts approximately: a number may be some seconds old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// To be taken.
    pub waiting: u64,
    /// Taken, and neither deleted nor back.
    pub in_flight: u64,
    /// Sent, and not to be taken before a delay ends.
    pub delayed: u64,
}

/// Why a queue did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    #[error("queue: try again: {reason}")]
    TryAgain { reason: String },
    #[error("queue: access denied: {reason}")]
    Denied { reason: String },
    #[error("queue: {reason}")]
    Other { reason: String },
}

/// One queue.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends all messages.
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError>;

    /// Sends a message that nobody gets before `delay` is over, 15 minutes at most.
    async fn send_later(&self, message: &Outgoing, delay: Duration) -> Result<(), QueueError>;

    /// Takes up to ten messages, waiting for the first at most `wait`.
    async fn receive(&self, wait: Duration) -> Result<Vec<Received>, QueueError>;

    /// Has a message that was taken come again after `delay`, instead of when its visibility time-out ends.
    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), QueueError>;

    /// Removes a message that was taken.
    async fn delete(&self, receipt: &str) -> Result<(), QueueError>;

    /// How many messages it has.
    async fn depth(&self) -> Result<Depth, QueueError>;
}
