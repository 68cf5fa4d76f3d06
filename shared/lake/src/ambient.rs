//! Time and randomness, handed in.
//!
//! No other code of the workspace may ask the system for either (clippy.toml), so a test or a simulation that
//! passes [`Seeded`] runs the same way every time.

use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// The world outside, as far as a function may ask about it.
pub trait Ambient: Send + Sync {
    /// The present, UTC.
    fn now(&self) -> Timestamp;
    /// A new identity; never the same twice.
    fn uuid(&self) -> Uuid;
    /// A fraction in `0.0..1.0`, to spread retries.
    fn jitter(&self) -> f64 {
        let (high, _) = self.uuid().as_u64_pair();
        (high >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The machine's own clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

#[allow(clippy::disallowed_methods, reason = "this is the one place they are taken from")]
impl Ambient for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// A world that a seed decides: the clock stands until [`Seeded::advance`], ids follow each other.
#[derive(Debug)]
pub struct Seeded {
    state: Mutex<(Timestamp, u64)>,
}

impl Seeded {
    /// A clock at `start`, and ids from `seed`.
    pub fn new(start: Timestamp, seed: u64) -> Self {
        Self { state: Mutex::new((start, seed)) }
    }

    /// Moves the clock on.
    pub fn advance(&self, by: SignedDuration) {
        let mut state = self.lock();
        state.0 = state.0.saturating_add(by).unwrap_or(Timestamp::MAX);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, u64)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Ambient for Seeded {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn uuid(&self) -> Uuid {
        let mut state = self.lock();
        let mut next = || {
            // splitmix64: distinct for 2^64 calls, and well mixed enough for names and jitter.
            state.1 = state.1.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state.1;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Uuid::from_u64_pair(next(), next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_jitter_stays_in_range() {
        let (a, b) = (Seeded::new(Timestamp::UNIX_EPOCH, 7), Seeded::new(Timestamp::UNIX_EPOCH, 7));
        for _ in 0..1000 {
            assert_eq!(a.uuid(), b.uuid());
            let j = a.jitter();
            assert!((0.0..1.0).contains(&j));
            b.jitter();
        }
        a.advance(SignedDuration::from_secs(5));
        assert_eq!(a.now(), Timestamp::from_second(5).unwrap());
    }
}
