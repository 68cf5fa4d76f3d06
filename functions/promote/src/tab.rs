//! What an invocation tells its snapshots that they cost.
//!
//! Of several datasets each pays by its messages, and for the objects that are still to be written when its snapshot says so.
//! Races that were lost are on the snapshot that won. Nothing is told twice: what a snapshot cannot know, the time from its
//! writing to its swap, is on the dataset's next one in the same invocation, or on none.

use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_lake::Ambient;
use sluicegate_runtime::cost::{Meter, Run};

/// What a dataset's share of an invocation has cost, and how much of that a snapshot has told.
pub(crate) struct Tab<'a> {
    meter: &'a Meter,
    run: &'a Run,
    ambient: &'a dyn Ambient,
    /// Messages of the dataset, and of the invocation.
    share: (usize, usize),
    told: AtomicU64,
    /// What the last attempt was to tell.
    billed: AtomicU64,
}

impl<'a> Tab<'a> {
    pub(crate) fn open(
        meter: &'a Meter,
        run: &'a Run,
        ambient: &'a dyn Ambient,
        share: (usize, usize),
    ) -> Self {
        Self { meter, run, ambient, share, told: AtomicU64::new(0), billed: AtomicU64::new(0) }
    }

    /// What a snapshot is to tell that has so many objects still to write, in nano-dollars.
    pub(crate) fn due(&self, puts: u64) -> u64 {
        let prices = &self.meter.prices;
        let mut used = self.meter.used(self.run, self.ambient.now());
        let so_far = prices.cost(&used).total();
        used.request("s3", "PutObject", puts);
        let to_come = prices.cost(&used).total().saturating_sub(so_far);
        let (own, all) = self.share;
        let own = u128::from(so_far) * own as u128 / all.max(1) as u128;
        let own = u64::try_from(own).unwrap_or(u64::MAX).saturating_add(to_come);
        let due = own.saturating_sub(self.told.load(Ordering::Relaxed));
        self.billed.store(due, Ordering::Relaxed);
        due
    }

    /// A snapshot has told what it was to.
    pub(crate) fn pay(&self) {
        self.told.fetch_add(self.billed.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
