//! The profile of many files from theirs.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datasketches::hll::{HllSketch, HllType, HllUnion};
use sluicegate_contract::profile::{
    ColumnProfile, Distinct, EventStep, Events, Frequent, Lengths, Profile, Top,
};
use sluicegate_contract::{Contract, Num, Type};

use super::column::{DISTINCT_ERROR, LG_REGISTERS, Moments, TOP};
use super::{digest, events};

/// The profile of the rows of several profiles. `types` are the types of the columns by path: a column's least value is
/// the least by its type. Columns that some profile lacks have their rows counted as nulls there.
pub fn merge(profiles: &[&Profile], types: &BTreeMap<String, Type>) -> Profile {
    // What has no rows says nothing of columns.
    let profiles: Vec<&Profile> = profiles.iter().copied().filter(|p| p.rows > 0).collect();
    let mut paths: Vec<&str> = Vec::new();
    for column in profiles.iter().flat_map(|p| &p.columns) {
        if !paths.contains(&column.path.as_str()) {
            paths.push(&column.path);
        }
    }
    let columns = paths.iter().map(|path| {
        let found: Vec<&ColumnProfile> = profiles.iter().filter_map(|p| p.column(path)).collect();
        let lacking = profiles.iter().filter(|p| p.column(path).is_none()).map(|p| p.rows);
        let mut column = columns(path, &found, types.get(*path));
        column.nulls += lacking.sum::<u64>();
        column
    });
    Profile {
        rows: profiles.iter().map(|p| p.rows).sum(),
        columns: columns.collect(),
        events: merge_events(profiles.iter().map(|p| &p.events)),
    }
}

/// The types of a contract's columns by their paths in a profile.
pub fn types(contract: &Contract) -> BTreeMap<String, Type> {
    fn of(ty: &Type, path: String, types: &mut BTreeMap<String, Type>) {
        match ty {
            Type::Struct(fields) => {
                fields.iter().for_each(|f| of(&f.ty, format!("{path}.{}", f.name), types));
            }
            Type::List(element) => of(&element.ty, format!("{path}.element"), types),
            _ => {}
        }
        types.insert(path, ty.clone());
    }
    let mut types = BTreeMap::new();
    contract.fields.iter().for_each(|f| of(&f.ty, f.name.clone(), &mut types));
    types
}

fn columns(path: &str, all: &[&ColumnProfile], ty: Option<&Type>) -> ColumnProfile {
    let mut moments = Moments::default();
    for column in all {
        if let Some(mean) = column.mean {
            #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
            let values = column.values as f64;
            let squares = column.variance.map_or(0.0, |variance| variance * (values - 1.0));
            moments.add(Moments { values, mean, squares });
        }
    }
    let least = |pick: fn(&ColumnProfile) -> &Option<String>, least: bool| {
        all.iter()
            .filter_map(|c| pick(c).as_ref())
            .reduce(|a, b| if is_less(b, a, ty) == least && a != b { b } else { a })
    };
    ColumnProfile {
        path: path.to_owned(),
        values: all.iter().map(|c| c.values).sum(),
        nulls: all.iter().map(|c| c.nulls).sum(),
        min: least(|c| &c.min, true).cloned(),
        max: least(|c| &c.max, false).cloned(),
        sum: sum(all.iter().filter_map(|c| c.sum.as_deref()), ty),
        mean: (moments.values > 0.0).then_some(moments.mean),
        variance: moments.variance(),
        trues: all.iter().map(|c| c.trues).sum(),
        lengths: all.iter().filter_map(|c| c.lengths).reduce(|a, b| Lengths {
            min: a.min.min(b.min),
            max: a.max.max(b.max),
            sum: a.sum + b.sum,
        }),
        distinct: distinct(all),
        quantiles: digest::merge(all.iter().filter_map(|c| c.quantiles.as_ref())),
        top: top(all),
    }
}

/// Whether a value as text is less than another of its column.
fn is_less(a: &str, b: &str, ty: Option<&Type>) -> bool {
    let number = |text: &str| Num::parse(text).or_else(|| Num::from_f64(text.parse().ok()?));
    match (ty, number(a), number(b)) {
        (Some(Type::String | Type::Json | Type::Date | Type::Timestamp), ..) | (_, None, _) => {
            a < b
        }
        (_, Some(a), Some(b)) => a < b,
        (_, _, None) => a < b,
    }
}

/// Exact but for floats.
fn sum<'a>(mut all: impl Iterator<Item = &'a str>, ty: Option<&Type>) -> Option<String> {
    if matches!(ty, Some(Type::Float | Type::Double)) {
        let mut sum = None;
        for text in all {
            sum = Some(sum.unwrap_or(0.0) + text.parse::<f64>().ok()?);
        }
        return sum.map(|sum: f64| format!("{sum:?}"));
    }
    let scale = match ty {
        Some(Type::Decimal { scale, .. }) => *scale,
        _ => 0,
    };
    let first = Num::parse(all.next()?)?.to_decimal(scale)?;
    let units =
        all.try_fold(first, |sum, text| sum.checked_add(Num::parse(text)?.to_decimal(scale)?))?;
    Some(super::value::of_units(units, ty.unwrap_or(&Type::Long)))
}

fn distinct(all: &[&ColumnProfile]) -> Distinct {
    if let [one] = all {
        return one.distinct.clone();
    }
    let sketches: Option<Vec<HllSketch>> = all
        .iter()
        .filter(|c| c.values > 0)
        .map(|c| HllSketch::deserialize(&STANDARD.decode(&c.distinct.hll).ok()?).ok())
        .collect();
    let union = HllUnion::new(LG_REGISTERS).ok().zip(sketches).map(|(mut union, sketches)| {
        sketches.iter().for_each(|sketch| union.update(sketch));
        union.to_sketch(HllType::Hll8)
    });
    match union {
        Some(sketch) => Distinct {
            estimate: sketch.estimate(),
            error: DISTINCT_ERROR,
            hll: STANDARD.encode(sketch.serialize()),
        },
        // Classified, or a boolean: at least as many as one file has.
        None => {
            let most = all.iter().map(|c| &c.distinct);
            let most = most.max_by(|a, b| a.estimate.total_cmp(&b.estimate)).cloned();
            Distinct { hll: String::new(), ..most.unwrap_or_default() }
        }
    }
}

/// What is frequent in no file may still be so in all: the bound of what was left out is part of the error.
fn top(all: &[&ColumnProfile]) -> Top {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut unseen, mut sampled, mut values) = (0u64, 0.0, 0u64);
    for column in all {
        for Frequent { value, count } in &column.top.values {
            *counts.entry(value).or_default() += count;
        }
        values += column.values;
        if column.top.values.len() >= TOP {
            unseen += column.top.values.last().map_or(0, |last| last.count);
        }
        #[allow(clippy::cast_precision_loss, reason = "an error")]
        let of_all = column.values as f64;
        sampled += column.top.error * of_all;
    }
    let mut found: Vec<_> = counts.into_iter().collect();
    found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let frequent = found.into_iter().take(TOP);
    let frequent = frequent.map(|(value, count)| Frequent { value: value.to_owned(), count });
    #[allow(clippy::cast_precision_loss, reason = "an error")]
    let error = if values == 0 { 0.0 } else { (unseen as f64 + sampled) / values as f64 };
    Top { values: frequent.collect(), error }
}

fn merge_events<'a>(all: impl Iterator<Item = &'a Events> + Clone) -> Events {
    let rank = |step: EventStep| match step {
        EventStep::Hour => 0,
        EventStep::Day => 1,
        EventStep::Month => 2,
    };
    let widest =
        all.clone().filter(|e| !e.rows.is_empty()).map(|e| e.step).max_by_key(|s| rank(*s));
    let widest = widest.unwrap_or_default();
    let mut rows = BTreeMap::new();
    for each in all {
        for (at, count) in &each.rows {
            let (mut step, mut at) = (each.step, *at);
            while let Some(next) = events::next(step).filter(|_| step != widest) {
                at = events::up(step, at);
                step = next;
            }
            *rows.entry(at).or_default() += count;
        }
    }
    events::coarser(Events { step: widest, rows })
}
