//! What was published before a raw object: what its audits compare it with.
//!
//! Reads the ledger's root once and the pages that are asked for, each once; never a manifest and never data. What is
//! read is one snapshot's: what is published meanwhile is not seen, and a withdrawn or superseded file is nobody's past.

use std::collections::BTreeMap;

use sluicegate_contract::profile::Profile;
use sluicegate_lake::{Dataset, Order, RawId, Source, Store};

use crate::commit::{CommitError, read_proposal};
use crate::ledger::{Record, State};
use crate::view::View;

/// Profiles that are kept.
const KEPT: usize = 32;

/// A dataset's published files, as far as they were asked for.
#[derive(Debug, Default)]
pub struct Past {
    view: View,
    /// By page.
    records: BTreeMap<usize, Vec<Record>>,
    profiles: BTreeMap<(RawId, Order), Option<Profile>>,
}

impl Past {
    /// Opens the table's present state; one without a table has no past.
    pub async fn open(store: &dyn Store, dataset: &Dataset) -> Result<Self, CommitError> {
        Ok(Self::of(View::open(store, dataset).await?))
    }

    /// As a view of the table has it.
    pub fn of(view: View) -> Self {
        Self { view, ..Self::default() }
    }

    /// The published files that landed before, the newest first, at most `count`; those of one source left out.
    pub async fn before(
        &mut self,
        store: &dyn Store,
        dataset: &Dataset,
        id: &RawId,
        but: Option<&Source>,
        count: usize,
    ) -> Result<Vec<Record>, CommitError> {
        let mut found = Vec::new();
        let Some(own) = self.view.root.page_of(id) else { return Ok(found) };
        for page in (0..=own).rev() {
            if found.len() >= count {
                break;
            }
            // The root says of which pages nothing is published any more.
            if self.view.root.pages.get(page).is_none_or(|p| p.in_state(State::Published) == 0) {
                continue;
            }
            if !self.records.contains_key(&page) {
                let records = self.view.records(store, dataset, page).await?;
                self.records.insert(page, records);
            }
            let records = self.records.get(&page).map(Vec::as_slice).unwrap_or_default();
            let past = records.iter().rev().filter(|record| {
                record.raw_id < *id
                    && record.state == State::Published
                    && but.is_none_or(|source| record.source != *source)
            });
            found.extend(past.take(count - found.len()).cloned());
        }
        Ok(found)
    }

    /// The profile of a published file; `None` if its proposal has none, as old ones.
    pub async fn profile(
        &mut self,
        store: &dyn Store,
        dataset: &Dataset,
        record: &Record,
    ) -> Result<Option<Profile>, CommitError> {
        let of = record.files_of.clone().unwrap_or_else(|| (record.raw_id.clone(), record.order));
        if let Some(known) = self.profiles.get(&of) {
            return Ok(known.clone());
        }
        let profile = match read_proposal(store, dataset, &of.0, of.1).await {
            Ok(proposal) => proposal.profile,
            // It is no part of the table, and nobody's fault that it is gone or of another format.
            Err(CommitError::Poison { .. }) => None,
            Err(error) => return Err(error),
        };
        // Wide ones are large: what a season of files needs is kept, no more.
        if self.profiles.len() >= KEPT {
            self.profiles.pop_first();
        }
        self.profiles.insert(of, profile.clone());
        Ok(profile)
    }
}
