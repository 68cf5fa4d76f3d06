//! Which rows stand for all: those whose numbers hash below a bound that sinks as rows come.
//!
//! Every row has the same chance, whatever its values. While there are few rows, all of them are in the sample.

/// The rows of the sample so far, by the hash that let them in.
pub(super) struct Sample {
    most: usize,
    /// A row is in if its hash ends in so many zeros.
    level: u32,
    hashes: Vec<u64>,
}

/// Sampled values of all columns together.
const VALUES: usize = 1 << 18;

impl Sample {
    /// A sample for so many columns.
    pub(super) fn new(columns: usize) -> Self {
        let most = (VALUES / columns.max(1)).clamp(256, 1 << 14);
        Self { most, level: 0, hashes: Vec::new() }
    }

    /// Takes rows in: of `count` rows from number `first` on, those that are, counted from 0.
    pub(super) fn pick(&mut self, first: u64, count: usize) -> Vec<usize> {
        let mut picked = Vec::new();
        for at in 0..count {
            let hash = mix(first + at as u64);
            if hash.trailing_zeros() >= self.level {
                picked.push(at);
                self.hashes.push(hash);
            }
        }
        picked
    }

    /// Makes the sample small enough again; which of its rows stay, if not all do.
    pub(super) fn thin(&mut self) -> Option<Vec<bool>> {
        if self.hashes.len() <= self.most {
            return None;
        }
        let before = self.hashes.clone();
        while self.hashes.len() > self.most {
            self.level += 1;
            self.hashes.retain(|hash| hash.trailing_zeros() >= self.level);
        }
        Some(before.iter().map(|hash| hash.trailing_zeros() >= self.level).collect())
    }
}

/// Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// How far the share of rows below a value may be off in a sample of so many, 99 times in 100 (Dvoretzky, Kiefer,
/// Wolfowitz; Massart's constant).
pub(super) fn error(size: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a bound")]
    let size = size.max(1) as f64;
    ((2.0f64 / 0.01).ln() / (2.0 * size)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_bounded_fair_and_the_same_however_rows_come() {
        let run = |step: usize| {
            let mut sample = Sample::new(16);
            let mut rows: Vec<u64> = Vec::new();
            let mut at = 0;
            while at < 200_000 {
                let count = step.min(200_000 - at);
                rows.extend(sample.pick(at as u64, count).iter().map(|i| (at + i) as u64));
                if let Some(keep) = sample.thin() {
                    let mut keep = keep.into_iter();
                    rows.retain(|_| keep.next().unwrap());
                }
                at += count;
            }
            rows
        };
        let rows = run(8192);
        assert!((1 << 13..=1 << 14).contains(&rows.len()), "{}", rows.len());
        assert_eq!(rows, run(1000));
        let low = rows.iter().filter(|row| **row < 100_000).count();
        assert!(low.abs_diff(rows.len() / 2) < 300, "{low} of {}", rows.len());
    }
}
