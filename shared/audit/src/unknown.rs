//! Fields that the contract does not know: counted, and proposed as amendments.

use sluicegate_contract::infer::{self, Amendment};
use sluicegate_contract::{Contract, Datum};

use crate::jsonl::Stranger;

/// What an object has beyond its contract.
pub(crate) struct Unknown {
    inference: infer::Unknown,
}

impl Unknown {
    pub(crate) fn of(contract: &Contract) -> Self {
        Self { inference: infer::Unknown::new((&contract.format).into()) }
    }

    /// Counts what one row has beyond its contract.
    pub(crate) fn row(&mut self, row: u64, strangers: &[Stranger<'_>]) {
        for (place, text) in strangers {
            if let Ok(value) = Datum::parse(text) {
                self.inference.add(row, place, &value);
            }
        }
    }

    /// Counts one cell of a column that the contract does not know.
    pub(crate) fn cell(&mut self, row: u64, place: &str, text: &str) {
        self.inference.add(row, place, &Datum::Text(text.into()));
    }

    pub(crate) fn finish(self, rows: u64) -> Vec<Amendment> {
        self.inference.finish(rows)
    }
}
