//! The profile of the accepted rows, made in the pass that stages them.
//!
//! A column is counted value by value while it has few different ones: then everything about it is exact. Beyond that
//! it is summarised: distinct values by HLL, the distribution and the most frequent values by a sample of the rows.
//! The sample is drawn by a hash of the row's number, so the same rows give the same profile; which rows are in it says
//! nothing of their values. Memory depends on the number of columns alone.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use sluicegate_contract::profile::{ColumnProfile, Frequent, Profile, Top};
use sluicegate_contract::{Contract, Field, Type, pointer};

use self::column::{Numbers, Texts};
use self::events::Hours;

mod column;
mod counts;
mod digest;
mod events;
mod merge;
mod sample;
mod value;

pub use merge::{merge, types};
use sample::Sample;

/// Values that are counted one by one, of all columns together.
const VALUES: usize = 1 << 17;

/// Makes the profile of rows that are handed in.
pub(crate) struct Profiler {
    rows: u64,
    columns: Vec<Node>,
    hours: Hours,
    sample: Sample,
}

/// A column or a part of one.
struct Node {
    path: String,
    /// Classified: its values are not to be shown.
    redacted: bool,
    ty: Type,
    values: u64,
    nulls: u64,
    kind: Kind,
}

enum Kind {
    Int(Numbers<i32>),
    Long(Numbers<i64>),
    Float(Numbers<f32>),
    Double(Numbers<f64>),
    Decimal(Numbers<i128>),
    Date(Numbers<i32>),
    Timestamp(Numbers<i64>),
    Boolean { trues: u64 },
    Text(Texts),
    Struct(Vec<Node>),
    List(Box<Node>),
}

impl Profiler {
    pub(crate) fn new(contract: &Contract) -> Self {
        let mut columns: Vec<Node> = contract
            .fields
            .iter()
            .map(|field| {
                let redacted = contract.is_redacted(&pointer::child("", &field.source));
                Node::of(field, field.name.clone(), redacted)
            })
            .collect();
        let leaves = columns.iter().map(Node::leaves).sum();
        columns.iter_mut().for_each(|node| node.limit(leaves));
        Self { rows: 0, columns, hours: Hours::default(), sample: Sample::new(leaves) }
    }

    /// Adds accepted rows, their columns in the contract's order; `events` are their event times in microseconds since
    /// 1970, if they have any.
    pub(crate) fn update(&mut self, rows: &RecordBatch, events: &[i64]) {
        let picked = self.sample.pick(self.rows, rows.num_rows());
        self.rows += rows.num_rows() as u64;
        for (node, column) in self.columns.iter_mut().zip(rows.columns()) {
            node.update(column, Some(&picked));
        }
        if let Some(keep) = self.sample.thin() {
            self.columns.iter_mut().for_each(|node| node.thin(&keep));
        }
        self.hours.add(events);
    }

    pub(crate) fn finish(self) -> Profile {
        let mut columns = Vec::with_capacity(self.columns.len());
        for node in self.columns {
            node.finish(&mut columns);
        }
        Profile { rows: self.rows, columns, events: self.hours.finish() }
    }
}

impl Node {
    fn of(field: &Field, path: String, redacted: bool) -> Self {
        let redacted = redacted || field.classification.is_some_and(|c| c.is_redacted());
        Self::of_type(&field.ty, path, redacted)
    }

    fn of_type(ty: &Type, path: String, redacted: bool) -> Self {
        let kind = match ty {
            Type::Boolean => Kind::Boolean { trues: 0 },
            Type::Int => Kind::Int(Numbers::default()),
            Type::Long => Kind::Long(Numbers::default()),
            Type::Float => Kind::Float(Numbers::default()),
            Type::Double => Kind::Double(Numbers::default()),
            Type::Decimal { .. } => Kind::Decimal(Numbers::default()),
            Type::Date => Kind::Date(Numbers::default()),
            Type::Timestamp => Kind::Timestamp(Numbers::default()),
            Type::String | Type::Json => Kind::Text(Texts::default()),
            Type::Struct(fields) => Kind::Struct(
                fields
                    .iter()
                    .map(|f| Self::of(f, format!("{path}.{}", f.name), redacted))
                    .collect(),
            ),
            Type::List(element) => {
                let inner = format!("{path}.element");
                Kind::List(Box::new(Self::of_type(&element.ty, inner, redacted)))
            }
        };
        Self { path, redacted, ty: ty.clone(), values: 0, nulls: 0, kind }
    }

    fn leaves(&self) -> usize {
        match &self.kind {
            Kind::Struct(inner) => inner.iter().map(Self::leaves).sum(),
            Kind::List(inner) => inner.leaves(),
            _ => 1,
        }
    }

    /// Tells how many columns share the memory.
    fn limit(&mut self, columns: usize) {
        let most = (VALUES / columns.max(1)).clamp(64, 4096);
        match &mut self.kind {
            Kind::Int(numbers) | Kind::Date(numbers) => numbers.limit(most),
            Kind::Long(numbers) | Kind::Timestamp(numbers) => numbers.limit(most),
            Kind::Float(numbers) => numbers.limit(most),
            Kind::Double(numbers) => numbers.limit(most),
            Kind::Decimal(numbers) => numbers.limit(most),
            Kind::Text(texts) => texts.limit(most),
            Kind::Struct(inner) => inner.iter_mut().for_each(|node| node.limit(columns)),
            Kind::List(inner) => inner.limit(columns),
            Kind::Boolean { .. } => {}
        }
    }

    /// `picked`: the rows that belong to the sample. Inside of lists there is none: all values are counted or sketched.
    fn update(&mut self, column: &ArrayRef, picked: Option<&[usize]>) {
        self.nulls += column.null_count() as u64;
        self.values += (column.len() - column.null_count()) as u64;
        match &mut self.kind {
            Kind::Int(numbers) => numbers.update(column.as_primitive::<Int32Type>(), picked),
            Kind::Long(numbers) => numbers.update(column.as_primitive::<Int64Type>(), picked),
            Kind::Float(numbers) => numbers.update(column.as_primitive::<Float32Type>(), picked),
            Kind::Double(numbers) => numbers.update(column.as_primitive::<Float64Type>(), picked),
            Kind::Decimal(numbers) => {
                numbers.update(column.as_primitive::<Decimal128Type>(), picked);
            }
            Kind::Date(numbers) => numbers.update(column.as_primitive::<Date32Type>(), picked),
            Kind::Timestamp(numbers) => {
                numbers.update(column.as_primitive::<TimestampMicrosecondType>(), picked);
            }
            Kind::Boolean { trues } => *trues += column.as_boolean().true_count() as u64,
            Kind::Text(texts) => texts.update(column.as_string::<i32>(), picked),
            Kind::Struct(inner) => {
                let columns = column.as_struct().columns();
                inner
                    .iter_mut()
                    .zip(columns)
                    .for_each(|(node, column)| node.update(column, picked));
            }
            Kind::List(inner) => {
                let list = column.as_list::<i32>();
                let (from, to) = (list.value_offsets().first(), list.value_offsets().last());
                let from = from.and_then(|at| usize::try_from(*at).ok()).unwrap_or_default();
                let to = to.and_then(|at| usize::try_from(*at).ok()).unwrap_or_default();
                inner.update(&list.values().slice(from, to - from), None);
            }
        }
    }

    /// Leaves out of the sample what is no longer in it.
    fn thin(&mut self, keep: &[bool]) {
        match &mut self.kind {
            Kind::Int(numbers) | Kind::Date(numbers) => numbers.thin(keep),
            Kind::Long(numbers) | Kind::Timestamp(numbers) => numbers.thin(keep),
            Kind::Float(numbers) => numbers.thin(keep),
            Kind::Double(numbers) => numbers.thin(keep),
            Kind::Decimal(numbers) => numbers.thin(keep),
            Kind::Text(texts) => texts.thin(keep),
            Kind::Struct(inner) => inner.iter_mut().for_each(|node| node.thin(keep)),
            Kind::Boolean { .. } | Kind::List(_) => {}
        }
    }

    fn finish(self, out: &mut Vec<ColumnProfile>) {
        let Self { path, redacted, ty, values, nulls, kind } = self;
        let mut profile = ColumnProfile { path, values, nulls, ..ColumnProfile::default() };
        match kind {
            Kind::Int(numbers) | Kind::Date(numbers) => numbers.finish(&ty, &mut profile),
            Kind::Long(numbers) | Kind::Timestamp(numbers) => numbers.finish(&ty, &mut profile),
            Kind::Float(numbers) => numbers.finish(&ty, &mut profile),
            Kind::Double(numbers) => numbers.finish(&ty, &mut profile),
            Kind::Decimal(numbers) => numbers.finish(&ty, &mut profile),
            Kind::Boolean { trues } => {
                profile.trues = Some(trues);
                let kinds = u8::from(trues > 0) + u8::from(trues < values);
                profile.distinct.estimate = kinds.into();
                let counts = [("true", trues), ("false", values.saturating_sub(trues))];
                let frequent =
                    |(value, count): (&str, u64)| Frequent { value: value.to_owned(), count };
                let mut top: Vec<_> =
                    counts.into_iter().filter(|(_, n)| *n > 0).map(frequent).collect();
                top.sort_by_key(|value| std::cmp::Reverse(value.count));
                profile.top = Top { values: top, error: 0.0 };
            }
            Kind::Text(texts) => texts.finish(&mut profile),
            Kind::Struct(inner) => {
                out.push(profile);
                inner.into_iter().for_each(|node| node.finish(out));
                return;
            }
            Kind::List(inner) => {
                out.push(profile);
                inner.finish(out);
                return;
            }
        }
        if redacted {
            profile = redact(profile);
        }
        out.push(profile);
    }
}

/// What may be said of values that must not be shown.
fn redact(profile: ColumnProfile) -> ColumnProfile {
    let ColumnProfile { path, values, nulls, distinct, .. } = profile;
    let distinct = sluicegate_contract::profile::Distinct { hll: String::new(), ..distinct };
    ColumnProfile { path, values, nulls, distinct, ..ColumnProfile::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn contract() -> Contract {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "n": {"type": ["integer", "null"]},
                "x": {"type": "number"},
                "s": {"type": "string"},
                "secret": {"type": "string", "x-sluicegate": {"classification": "pii"}},
            },
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "csv"}},
        });
        Contract::parse(document.to_string().as_bytes()).unwrap()
    }

    type Row = (Option<i64>, f64, String);

    fn profile(rows: &[Row], chunk: usize) -> Profile {
        let mut profiler = Profiler::new(&contract());
        for rows in rows.chunks(chunk) {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|r| Some(r.1)).collect::<Float64Array>()),
                Arc::new(rows.iter().map(|r| Some(r.2.clone())).collect::<StringArray>()),
                Arc::new(rows.iter().map(|r| Some(r.2.clone())).collect::<StringArray>()),
            ];
            let names = ["n", "x", "s", "secret"];
            let batch = RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
            profiler.update(&batch, &[]);
        }
        profiler.finish()
    }

    /// Rows with `kinds` different values in each column.
    fn rows(count: u64, kinds: u64) -> Vec<Row> {
        let of = |i: u64| i.wrapping_mul(7_919) % kinds;
        let null = |i: u64| i % 10 == 3;
        (0..count)
            .map(|i| {
                let n = i64::try_from(of(i)).unwrap();
                ((!null(i)).then_some(n), n as f64 / 4.0, format!("text {}", of(i)))
            })
            .collect()
    }

    fn check(rows: &[Row], profile: &Profile) {
        assert_eq!(profile.rows, rows.len() as u64);
        let numbers: Vec<i64> = rows.iter().filter_map(|r| r.0).collect();
        let n = profile.column("n").unwrap();
        assert_eq!(n.values, numbers.len() as u64);
        assert_eq!(n.nulls, (rows.len() - numbers.len()) as u64);
        assert_eq!(n.min, numbers.iter().min().map(i64::to_string));
        assert_eq!(n.max, numbers.iter().max().map(i64::to_string));
        assert_eq!(n.sum, Some(numbers.iter().sum::<i64>().to_string()));
        let mean = numbers.iter().sum::<i64>() as f64 / numbers.len() as f64;
        assert!((n.mean.unwrap() - mean).abs() < 1e-9 * mean.abs().max(1.0));
        let squares: f64 = numbers.iter().map(|n| (*n as f64 - mean).powi(2)).sum();
        let variance = squares / (numbers.len() - 1) as f64;
        assert!((n.variance.unwrap() - variance).abs() < 1e-6 * variance.max(1.0));
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let off = (n.distinct.estimate - sorted.len() as f64).abs() / sorted.len() as f64;
        assert!(off <= 4.0 * n.distinct.error, "{off}");
        let s = profile.column("s").unwrap();
        assert_eq!(s.min, rows.iter().map(|r| r.2.clone()).min());
        assert_eq!(s.max, rows.iter().map(|r| r.2.clone()).max());
        let lengths: Vec<u64> = rows.iter().map(|r| r.2.len() as u64).collect();
        let found = s.lengths.unwrap();
        assert_eq!(
            (found.min, found.max, found.sum),
            (*lengths.iter().min().unwrap(), *lengths.iter().max().unwrap(), lengths.iter().sum())
        );
        // The rank of each centroid's mean is as far off as is said, at most.
        let quantiles = n.quantiles.as_ref().unwrap();
        let weight: f64 = quantiles.centroids.iter().map(|c| c.1).sum();
        assert!((weight - n.values as f64).abs() < 1e-6 * weight);
        let mut below = 0.0;
        for (mean, weight) in &quantiles.centroids {
            let rank = (below + weight / 2.0) / n.values as f64;
            let less = numbers.iter().filter(|n| (**n as f64) < *mean).count() as f64;
            let most = numbers.iter().filter(|n| (**n as f64) <= *mean).count() as f64;
            let (low, high) = (less / n.values as f64, most / n.values as f64);
            let off = (low - rank).max(rank - high).max(0.0);
            assert!(off <= quantiles.error + weight / n.values as f64 / 2.0, "{mean}: {off}");
            below += weight;
        }
        let secret = profile.column("secret").unwrap();
        assert_eq!((&secret.min, &secret.max, secret.lengths), (&None, &None, None));
        assert!(secret.top.is_empty() && secret.distinct.hll.is_empty());
    }

    #[test]
    fn few_values_are_described_exactly_and_many_within_the_error_that_is_stated() {
        for (count, kinds) in [(5, 5), (3_000, 7), (9_000, 4_000), (60_000, 50_000)] {
            let rows = rows(count, kinds);
            let found = profile(&rows, 1000);
            check(&rows, &found);
            check(&rows, &profile(&rows, 8192));
            assert!(found == profile(&rows, 1000), "the same rows have another profile");
        }
    }

    #[test]
    fn doubles_beyond_what_can_be_added_have_a_profile_that_can_be_read_again() {
        let mut all = rows(14_000, 2_000);
        all.iter_mut().take(3).for_each(|row| row.1 = f64::MAX);
        let found = profile(&all, 8192);
        let text = serde_json::to_string(&found).unwrap();
        assert!(serde_json::from_str::<Profile>(&text).unwrap() == found);
        assert_eq!(found.column("x").unwrap().max, Some(format!("{:?}", f64::MAX)));
    }

    #[test]
    fn a_heavy_value_among_many_is_found() {
        let mut rows = rows(60_000, 50_000);
        rows.iter_mut().step_by(5).for_each(|row| row.2 = "heavy".into());
        let found = profile(&rows, 8192);
        let top = &found.column("s").unwrap().top;
        assert_eq!(top.values[0].value, "heavy");
        let share = top.values[0].count as f64 / 60_000.0;
        assert!((share - 0.2).abs() <= top.error, "{share}");
    }

    #[test]
    fn profiles_of_parts_make_the_profile_of_the_whole() {
        let all = rows(60_000, 50_000);
        let types: BTreeMap<String, Type> = [
            ("n".to_owned(), Type::Long),
            ("x".to_owned(), Type::Double),
            ("s".to_owned(), Type::String),
        ]
        .into();
        let (few, many) = all.split_at(700);
        let (few, many) = (profile(few, 8192), profile(many, 8192));
        let merged = merge(&[&few, &many], &types);
        check(&all, &merged);
        let whole = profile(&all, 8192);
        let sum =
            |p: &Profile| p.column("x").unwrap().sum.as_ref().unwrap().parse::<f64>().unwrap();
        assert!((sum(&merged) - sum(&whole)).abs() < 1e-9 * sum(&whole));
        assert_eq!(merged.column("x").unwrap().max, whole.column("x").unwrap().max);
    }

    proptest! {
        #[test]
        fn any_texts_and_numbers_have_a_profile(
            rows in proptest::collection::vec((proptest::option::of(any::<i64>()), any::<f64>(), ".{0,40}"), 1..60)
        ) {
            let rows: Vec<Row> = rows.into_iter().map(|r| (r.0, if r.1.is_finite() { r.1 } else { 0.0 }, r.2)).collect();
            let found = profile(&rows, 7);
            let text = serde_json::to_string(&found).unwrap();
            prop_assert!(serde_json::from_str::<Profile>(&text).unwrap() == found, "{text:.300}");
            let s = found.column("s").unwrap();
            let mut texts: Vec<&str> = rows.iter().map(|r| r.2.as_str()).collect();
            texts.sort_unstable();
            texts.dedup();
            prop_assert!((s.distinct.estimate - texts.len() as f64).abs() < 0.5);
            let counted: u64 = s.top.values.iter().map(|v| v.count).sum();
            prop_assert!(counted <= rows.len() as u64);
        }
    }
}
