//! Ranks and quantiles of a distribution that is kept as centroids (Dunning, "Computing Extremely Accurate Quantiles
//! Using t-Digests").
//!
//! Between the middles of two centroids, and between the ends and the centroids next to them, values are taken to lie
//! evenly. So what comes out is as exact as the centroids are, the least and the greatest value exactly. Where each
//! centroid is one value that was counted, nothing lies between them, and ranks are exact.

/// The share of all values above which a centroid is one value.
const HEAVY: f64 = 0.03;

/// A distribution of numbers; there is at least one.
#[derive(Clone, Debug)]
pub(crate) struct Digest {
    /// Values with the weight of all that is below them, both ascending: the least, the centroids, the greatest.
    points: Vec<(f64, f64)>,
    centroids: Vec<(f64, f64)>,
    min: f64,
    max: f64,
    counted: bool,
}

impl Digest {
    /// A distribution by its centroids and its ends; `None` if it has no value. `counted`: each centroid is one value.
    pub(crate) fn new(
        mut centroids: Vec<(f64, f64)>,
        min: f64,
        max: f64,
        counted: bool,
    ) -> Option<Self> {
        centroids.retain(|(mean, weight)| mean.is_finite() && *weight > 0.0);
        centroids.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        if centroids.is_empty() {
            return None;
        }
        let mut points = Vec::with_capacity(centroids.len() + 2);
        points.push((min, 0.0));
        let mut below = 0.0;
        let all: f64 = centroids.iter().map(|(_, weight)| weight).sum();
        for (mean, weight) in &centroids {
            let mean = mean.clamp(min, max);
            // So heavy a centroid is one frequent value: merging makes none of several values.
            if counted || *weight > HEAVY * all {
                points.extend([(mean, below), (mean, below + weight)]);
            } else {
                points.push((mean, below + weight / 2.0));
            }
            below += weight;
        }
        points.push((max, below));
        Some(Self { points, centroids, min, max, counted })
    }

    /// Several as one.
    pub(crate) fn merged(all: &[Self]) -> Option<Self> {
        let min = all.iter().map(|d| d.min).reduce(f64::min)?;
        let max = all.iter().map(|d| d.max).reduce(f64::max)?;
        let counted = all.iter().all(|d| d.counted);
        Self::new(all.iter().flat_map(|d| d.centroids.iter().copied()).collect(), min, max, counted)
    }

    /// How many values it stands for.
    pub(crate) fn weight(&self) -> f64 {
        self.points.last().map_or(0.0, |(_, below)| *below)
    }

    /// Where its shape is known: the ends and the centroids.
    pub(crate) fn places(&self) -> impl Iterator<Item = f64> + '_ {
        self.points.iter().map(|(value, _)| *value)
    }

    /// The value with that share of all values below it.
    pub(crate) fn quantile(&self, rank: f64) -> f64 {
        if rank <= 0.0 {
            return self.min;
        }
        if rank >= 1.0 {
            return self.max;
        }
        let below = rank * self.weight();
        let at = self.points.partition_point(|(_, b)| *b < below);
        match (at.checked_sub(1).and_then(|at| self.points.get(at)), self.points.get(at)) {
            (Some((v, b)), Some((w, c))) if c > b => v + (w - v) * (below - b) / (c - b),
            (_, Some((value, _))) | (Some((value, _)), None) => *value,
            (None, None) => self.max,
        }
    }

    /// The share of values up to that one.
    pub(crate) fn rank(&self, value: f64) -> f64 {
        if value >= self.max {
            return 1.0;
        }
        let at = self.points.partition_point(|(v, _)| *v <= value);
        let below =
            match (at.checked_sub(1).and_then(|at| self.points.get(at)), self.points.get(at)) {
                (Some((v, b)), Some((w, c))) if w > v => b + (c - b) * (value - v) / (w - v),
                (Some((_, b)), _) => *b,
                (None, _) => 0.0,
            };
        below / self.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand numbers from 0 to 999, ten a centroid.
    fn even() -> Digest {
        let centroids = (0..100).map(|i| (f64::from(i) * 10.0 + 4.5, 10.0)).collect();
        Digest::new(centroids, 0.0, 999.0, false).unwrap()
    }

    #[test]
    fn ranks_and_quantiles_are_those_of_the_values() {
        let digest = even();
        for percent in 0..=100 {
            let rank = f64::from(percent) / 100.0;
            let value = digest.quantile(rank);
            assert!((value - rank * 999.0).abs() < 1.0, "{rank}: {value}");
            assert!((digest.rank(value) - rank).abs() < 1e-9, "{rank}");
        }
        assert!(digest.rank(-1.0) == 0.0 && digest.rank(999.0) == 1.0 && digest.rank(1e9) == 1.0);
        assert!(digest.quantile(0.0) == 0.0 && digest.quantile(1.0) == 999.0);
    }

    #[test]
    fn values_that_occur_often_are_steps() {
        let steps = Digest::new(
            vec![(1.0, 1.0); 30].into_iter().chain(vec![(5.0, 1.0); 70]).collect(),
            1.0,
            5.0,
            false,
        );
        let steps = steps.unwrap();
        assert!((steps.rank(1.0) - 0.3).abs() < 0.01 && (steps.rank(3.0) - 0.3).abs() < 0.01);
        assert!(steps.rank(0.9) == 0.0 && steps.rank(5.0) == 1.0);
        assert!(steps.quantile(0.2) == 1.0 && steps.quantile(0.5) == 5.0);
        let same = Digest::new(vec![(7.0, 4.0)], 7.0, 7.0, false).unwrap();
        assert!(same.rank(6.9) == 0.0 && same.rank(7.0) == 1.0 && same.quantile(0.3) == 7.0);
    }

    #[test]
    fn counted_values_have_exact_ranks() {
        let hours = Digest::new(vec![(5.0, 1.0), (6.0, 3.0), (8.0, 4.0)], 5.0, 8.0, true).unwrap();
        let ranks = [4.0, 5.0, 5.5, 6.0, 7.0, 8.0].map(|value| hours.rank(value));
        assert_eq!(ranks, [0.0, 0.125, 0.125, 0.5, 0.5, 1.0]);
        let quantiles = [0.0, 0.1, 0.3, 0.6, 1.0].map(|rank| hours.quantile(rank));
        assert_eq!(quantiles, [5.0, 5.0, 6.0, 8.0, 8.0]);
    }

    #[test]
    fn several_are_one() {
        let low = Digest::new(vec![(0.0, 50.0), (10.0, 50.0)], 0.0, 10.0, false).unwrap();
        let high = Digest::new(vec![(100.0, 100.0)], 90.0, 110.0, false).unwrap();
        let both = Digest::merged(&[low, high]).unwrap();
        assert!(both.weight() == 200.0 && both.quantile(0.0) == 0.0 && both.quantile(1.0) == 110.0);
        assert!((both.rank(60.0) - 0.5).abs() < 0.1);
        assert!(
            Digest::merged(&[]).is_none() && Digest::new(Vec::new(), 0.0, 1.0, false).is_none()
        );
    }
}
