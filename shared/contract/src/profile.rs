//! What the accepted rows of an object, or of many, look like: one summary a column.
//!
//! Guarantees: counts, nulls, least and greatest values, and sums of whole numbers and decimals are exact; what is
//! estimated (distinct values, quantiles, most frequent values) says so and how far it may be off. Profiles merge, so a
//! dataset's is made of its files' and no row is read twice. Values of classified columns are not in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The profile of some rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub rows: u64,
    pub columns: Vec<ColumnProfile>,
    /// Rows by event time; empty for a dataset without one.
    #[serde(default)]
    pub events: Events,
}

impl Profile {
    /// A column's profile, by its path: the column's name, inside of structs and lists as Iceberg has it.
    pub fn column(&self, path: &str) -> Option<&ColumnProfile> {
        self.columns.iter().find(|column| column.path == path)
    }
}

/// One column, or a part of one that holds plain values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    pub path: String,
    /// Values that are not null. Of a list there may be more than rows.
    pub values: u64,
    pub nulls: u64,
    /// The least and the greatest value, as text: numbers in digits, dates and times as in JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Of numbers, as text; exact but for floats and doubles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Of the sample: Σ(x - mean)² ÷ (values - 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance: Option<f64>,
    /// How many of a boolean's are true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trues: Option<u64>,
    /// Of strings, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lengths: Option<Lengths>,
    pub distinct: Distinct,
    /// The distribution of numbers; of dates in days and of timestamps in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantiles: Option<Quantiles>,
    /// The most frequent values, the most frequent first.
    #[serde(default, skip_serializing_if = "Top::is_empty")]
    pub top: Top,
}

/// Lengths of strings in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    pub min: u64,
    pub max: u64,
    /// Of all together.
    pub sum: u64,
}

/// How many different values there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distinct {
    pub estimate: f64,
    /// One standard deviation, as a share of the estimate; 0 if it was counted.
    pub error: f64,
    /// Apache DataSketches' HLL in its serialised form, in base64: what merges. Absent where values are classified.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hll: String,
}

/// A distribution as a t-digest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Mean and weight, by mean. The weights add up to the values that they stand for.
    pub centroids: Vec<(f64, f64)>,
    /// How far a quantile's rank may be off, as a share of all values, 99 times in 100.
    pub error: f64,
}

/// Frequent values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Top {
    pub values: Vec<Frequent>,
    /// How far a count may be off, as a share of all values, 99 times in 100; 0 if they were counted.
    pub error: f64,
}

impl Top {
    /// Whether there is nothing to say, not even that no value is more frequent than the error.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.error <= 0.0
    }
}

/// A value and how often it occurs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frequent {
    pub value: String,
    pub count: u64,
}

/// Rows by event time, in steps that are as fine as their number allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// `hour`, `day` or `month`.
    pub step: EventStep,
    /// Steps since 1970 → rows.
    pub rows: BTreeMap<i64, u64>,
}

impl Events {
    /// The day since 1970 on which at least half of the rows happened. A day's file has one in every time zone; a file of
    /// many days has none.
    pub fn main_day(&self) -> Option<i64> {
        let mut days: BTreeMap<i64, u64> = BTreeMap::new();
        for (at, rows) in &self.rows {
            let day = match self.step {
                EventStep::Hour => at.div_euclid(24),
                EventStep::Day => *at,
                EventStep::Month => return None,
            };
            *days.entry(day).or_default() += rows;
        }
        let all: u64 = days.values().sum();
        // Of two halves the earlier.
        days.into_iter().find(|(_, rows)| rows.saturating_mul(2) >= all).map(|(day, _)| day)
    }
}

/// The width of [`Events`]' steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventStep {
    #[default]
    Hour,
    Day,
    Month,
}
