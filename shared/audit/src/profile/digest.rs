//! Distributions as t-digests (Dunning, Ertl, "Computing Extremely Accurate Quantiles Using t-Digests").

use sluicegate_contract::profile::Quantiles;
use tdigests::{Centroid, TDigest};

use super::sample;

/// Centroids of a finished digest.
const CENTROIDS: usize = 100;
/// How far a rank may be off by the merging of centroids: the widest stands for two of a hundred.
const MERGED: f64 = 0.01;

/// The distribution of counted values.
pub(super) fn of_counts(values: impl Iterator<Item = (f64, u64)>) -> Option<Quantiles> {
    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
    let centroids = values.map(|(value, count)| Centroid::new(value, count as f64));
    of(centroids.collect(), 0.0)
}

/// The distribution of so many values by a sample of them.
pub(super) fn of_sample(sample: &[f64], values: u64) -> Option<Quantiles> {
    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
    let (values, size) = (values as f64, sample.len() as f64);
    let error = if values > size { sample::error(sample.len()) } else { 0.0 };
    let centroids = sample.iter().map(|value| Centroid::new(*value, 1.0)).collect();
    let mut quantiles = of(centroids, error)?;
    quantiles.centroids.iter_mut().for_each(|(_, weight)| *weight *= values / size);
    Some(quantiles)
}

/// The distribution of all values of several.
pub(super) fn merge<'a>(all: impl Iterator<Item = &'a Quantiles>) -> Option<Quantiles> {
    let (mut centroids, mut error) = (Vec::new(), 0.0f64);
    for quantiles in all {
        error = error.max(quantiles.error);
        let each = quantiles.centroids.iter();
        centroids.extend(each.map(|(mean, weight)| Centroid::new(*mean, *weight)));
    }
    let merged = of(centroids, 0.0)?;
    Some(Quantiles { error: error.max(merged.error), ..merged })
}

fn of(mut centroids: Vec<Centroid>, error: f64) -> Option<Quantiles> {
    // The library takes neither nothing nor what is no number.
    centroids.retain(|c| c.weight > 0.0 && c.mean.is_finite());
    if centroids.is_empty() {
        return None;
    }
    let whole = centroids.len() <= CENTROIDS;
    let mut digest = TDigest::from_centroids(centroids);
    digest.compress(CENTROIDS);
    let centroids: Vec<_> = digest.centroids().iter().map(|c| (c.mean, c.weight)).collect();
    // The middle of two doubles near the greatest may be none.
    if centroids.iter().any(|(mean, _)| !mean.is_finite()) {
        return None;
    }
    Some(Quantiles { centroids, error: error + if whole { 0.0 } else { MERGED } })
}
