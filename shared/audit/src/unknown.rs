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

    /// Counts what one row has beyond its contract. What lies inside a classified column is not looked at: amendments
    /// show examples. Fails where a value is no JSON after all, as one with a property twice.
    pub(crate) fn row(
        &mut self,
        contract: &Contract,
        row: u64,
        strangers: &[Stranger<'_>],
    ) -> Result<(), serde_json::Error> {
        for (place, text) in strangers {
            let value = Datum::parse(text)?;
            if !contract.is_redacted(place) {
                self.inference.add(row, place, &value);
            }
        }
        Ok(())
    }

    /// Counts one cell of a column that the contract does not know.
    pub(crate) fn cell(&mut self, row: u64, place: &str, text: &str) {
        self.inference.add(row, place, &Datum::Text(text.into()));
    }

    pub(crate) fn finish(self, rows: u64) -> Vec<Amendment> {
        self.inference.finish(rows)
    }
}
