//! Requests, counted where they are made: retries included, by the API's own name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A shared counter of requests by kind, such as `s3:PutObject`. Clones count into the same total.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Mutex<BTreeMap<String, u64>>>);

impl Requests {
    /// Counts one request.
    pub fn count(&self, service: &str, operation: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(format!("{service}:{operation}")).or_default() += 1;
    }

    /// What is counted so far, left as it is.
    pub fn so_far(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was counted since the last call.
    pub fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
