//! What is used and what it costs, as plain numbers; and requests, counted where they are made.
//!
//! [`Requests`] counts each request as it is sent, so that retries are in it, under the API's own name. [`Usage`] and
//! [`Cost`] are additive and exact: the sum of the parts is the whole, to the last unit. Nothing here knows a price.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// What SQS bills as one request.
const UNIT: u64 = 64 * 1024;

/// What a piece of work used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Milliseconds in the handler.
    pub duration_ms: u64,
    /// Milliseconds before the first event, which are billed as well.
    #[serde(skip_serializing_if = "is_zero")]
    pub init_ms: u64,
    /// All of these milliseconds times the function's memory in MB.
    #[serde(skip_serializing_if = "is_zero")]
    pub mb_ms: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub invocations: u64,
    /// Requests by kind, such as `s3:PutObject`.
    pub requests: BTreeMap<String, u64>,
    /// What was sent to SQS, in units of 64 KB: a request is one at least.
    #[serde(skip_serializing_if = "is_zero")]
    pub sent_units: u64,
    /// Bytes uploaded to S3, or copied inside it.
    #[serde(skip_serializing_if = "is_zero")]
    pub stored_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub log_bytes: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What was used after `earlier`, a reading of the same meter.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.with(earlier, u64::saturating_sub);
        since.requests.retain(|_, count| *count > 0);
        since
    }

    fn with(&self, other: &Self, op: fn(u64, u64) -> u64) -> Self {
        let mut requests = self.requests.clone();
        for (kind, count) in &other.requests {
            let own = requests.entry(kind.clone()).or_default();
            *own = op(*own, *count);
        }
        Self {
            duration_ms: op(self.duration_ms, other.duration_ms),
            init_ms: op(self.init_ms, other.init_ms),
            mb_ms: op(self.mb_ms, other.mb_ms),
            invocations: op(self.invocations, other.invocations),
            requests,
            sent_units: op(self.sent_units, other.sent_units),
            stored_bytes: op(self.stored_bytes, other.stored_bytes),
            log_bytes: op(self.log_bytes, other.log_bytes),
        }
    }

    /// Adds requests of one kind.
    pub fn request(&mut self, service: &str, operation: &str, count: u64) {
        *self.requests.entry(format!("{service}:{operation}")).or_default() += count;
    }
}

/// What a usage costs, in whole nano-dollars (thousand-millionths of a dollar).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Lambda by time and memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub compute: u64,
    /// Lambda by invocation.
    #[serde(skip_serializing_if = "is_zero")]
    pub invocations: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub s3: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub sqs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub logs: u64,
}

impl Cost {
    /// The parts with their names.
    pub fn parts(&self) -> [(&'static str, u64); 5] {
        let Self { compute, invocations, s3, sqs, logs } = *self;
        [
            ("compute", compute),
            ("invocations", invocations),
            ("s3", s3),
            ("sqs", sqs),
            ("logs", logs),
        ]
    }

    /// All parts together.
    pub fn total(&self) -> u64 {
        self.parts().iter().fold(0, |sum, (_, part)| sum.saturating_add(*part))
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What is left when `earlier` is paid.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    fn with(&self, other: &Self, op: fn(u64, u64) -> u64) -> Self {
        Self {
            compute: op(self.compute, other.compute),
            invocations: op(self.invocations, other.invocations),
            s3: op(self.s3, other.s3),
            sqs: op(self.sqs, other.sqs),
            logs: op(self.logs, other.logs),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A shared meter of requests. Clones count into the same total.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Mutex<Usage>>);

impl Requests {
    /// Counts one request.
    pub fn count(&self, service: &str, operation: &str) {
        self.lock().request(service, operation, 1);
    }

    /// Counts bytes that a request uploads or copies.
    pub fn stored(&self, bytes: u64) {
        self.lock().stored_bytes += bytes;
    }

    /// Counts the bytes of a request's messages.
    pub fn sent(&self, bytes: u64) {
        self.lock().sent_units += bytes.div_ceil(UNIT).max(1);
    }

    /// What is counted so far, left as it is.
    pub fn so_far(&self) -> Usage {
        self.lock().clone()
    }

    /// The requests that were counted since the last call; bytes are forgotten with them.
    pub fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.lock()).requests
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_adds_up_and_comes_apart_again() {
        let requests = Requests::default();
        requests.count("s3", "GetObject");
        let first = requests.so_far();
        requests.count("s3", "PutObject");
        requests.stored(10);
        let second = requests.so_far().since(&first);
        assert_eq!(second.requests, [("s3:PutObject".to_owned(), 1)].into());
        assert_eq!(first.plus(&second), requests.so_far());
        let cost = Cost { compute: 3, s3: 4, ..Cost::default() };
        let more = Cost { compute: 1, logs: 5, ..Cost::default() };
        assert_eq!(cost.plus(&more).since(&cost), more);
        assert_eq!(cost.plus(&more).total(), cost.total() + more.total());
    }

    #[test]
    fn messages_are_metered_by_64_kb_and_an_empty_request_is_one() {
        let units = |bytes| {
            let requests = Requests::default();
            requests.sent(bytes);
            requests.so_far().sent_units
        };
        assert_eq!([0, 1, 65_536, 65_537, 1 << 20].map(units), [1, 1, 1, 2, 16]);
    }

    #[test]
    fn a_receipt_of_before_there_were_prices_reads_as_one_that_cost_nothing() {
        let old = r#"{"duration_ms": 12, "requests": {"s3:PutObject": 2}}"#;
        let usage: Usage = serde_json::from_str(old).unwrap();
        assert_eq!((usage.duration_ms, usage.mb_ms), (12, 0));
        assert_eq!(
            serde_json::to_value(&usage).unwrap(),
            serde_json::from_str::<serde_json::Value>(old).unwrap()
        );
    }
}
