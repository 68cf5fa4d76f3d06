//! The verdicts of a contract's audits, from what was seen of one object and what was published before it.
//!
//! Guarantees: every audit has one result, in the contract's order, and the same input gives the same results. What is
//! counted is compared exactly; what is estimated fails only where no value within its error would pass. Where there is
//! no value that could fail, an audit passes and says so: completeness and row_count ask for values. What cannot be told,
//! since the profile lacks it, is not proven, which is no pass. Values of classified columns are not shown. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sluicegate_contract::audits::{
    AuditMeasure, AuditRule, Baseline, Bounds, DriftBy, LengthOf, Season, Statistic,
};
use sluicegate_contract::expr::{Aggregate, Expr, Literal, Value};
use sluicegate_contract::profile::{ColumnProfile, EventStep, Events, Profile};
use sluicegate_contract::time::{MICROS_PER_DAY, date, date_time};
use sluicegate_contract::{
    AuditResult, AuditState, Contract, Coverage, Field, Grain, Num, Type, pointer,
};

use crate::digest::Digest;
use crate::rowtest::Tally;

const MICROS_PER_HOUR: i64 = 3_600_000_000;
/// Values that both sides of a drift must have, where the contract does not say.
const DRIFT_FLOOR: u64 = 500;
/// Standard deviations that an estimate may be off.
const SPREAD: f64 = 3.0;
/// The share of all values from which on one is looked at by itself.
const NOTABLE: f64 = 0.01;
/// The largest parts of a drift that are shown.
const SAMPLE: usize = 3;

/// What was seen of one object.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Of its accepted rows.
    pub profile: &'a Profile,
    pub coverage: Coverage,
    /// By the ids of their audits.
    pub tallies: BTreeMap<String, Tally>,
    /// By the ids of their audits.
    pub keys: BTreeMap<String, Uniqueness>,
    /// Accepted rows by the partition's value.
    pub partitions: BTreeMap<Option<i32>, u64>,
    /// First and last event of the accepted rows, in microseconds since 1970.
    pub event_range: Option<(i64, i64)>,
    pub landed_at: Timestamp,
}

/// Whether rows are told apart by some columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uniqueness {
    Unique,
    /// So many rows have the values of an earlier one; a few of those values.
    Duplicates {
        rows: u64,
        sample: Vec<String>,
    },
    /// Why that is not known.
    NotProven(String),
}

/// What was published of the dataset before.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The newest first.
    pub files: Vec<PastFile>,
}

/// A file that was published.
#[derive(Clone, Debug)]
pub struct PastFile {
    pub landed_at: Timestamp,
    /// That were published of it.
    pub rows: u64,
    /// The [`main_day`] of its events.
    pub main_day: Option<i64>,
    pub profile: Option<Profile>,
}

impl History {
    /// How many of the newest files a contract's audits look at, at most.
    pub fn depth(contract: &Contract) -> usize {
        let files = |baseline: &Baseline| match baseline.season {
            Season::None => baseline.history,
            Season::Weekday => baseline.history * 7,
        };
        let all = contract.audits.iter().filter_map(|rule| rule.measure.baseline());
        all.map(files).max().unwrap_or_default()
    }
}

/// The day since 1970 on which at least half of the rows happened. A day's file has one in every time zone; a file of
/// many days has none.
pub fn main_day(events: &Events) -> Option<i64> {
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    for (step, rows) in &events.rows {
        let day = match events.step {
            EventStep::Hour => step.div_euclid(24),
            EventStep::Day => *step,
        };
        *days.entry(day).or_default() += rows;
    }
    let all: u64 = days.values().sum();
    // Of two halves the earlier.
    days.into_iter().find(|(_, rows)| rows.saturating_mul(2) >= all).map(|(day, _)| day)
}

/// The results of all audits of a contract.
pub fn judge(contract: &Contract, seen: &Seen<'_>, history: &History) -> Vec<AuditResult> {
    let judge = Judge { contract, seen, history };
    contract.audits.iter().map(|rule| judge.result(rule)).collect()
}

/// What an audit came to, before it has a name.
struct Answer {
    state: AuditState,
    found: String,
    value: Option<f64>,
    sample: Vec<String>,
}

impl Answer {
    fn new(passed: bool, found: String) -> Self {
        let state = if passed { AuditState::Passed } else { AuditState::Failed };
        Self { state, found, value: None, sample: Vec::new() }
    }

    fn with(self, value: Option<f64>, sample: Vec<String>) -> Self {
        // There is nothing to show of what is as it should be.
        let sample = if self.state == AuditState::Failed { sample } else { Vec::new() };
        Self { value: value.filter(|v| v.is_finite()), sample, ..self }
    }

    /// Nothing is there that could fail.
    fn vacuous(found: impl Into<String>) -> Self {
        Self::new(true, found.into())
    }

    fn not_proven(found: impl Into<String>) -> Self {
        Self { state: AuditState::NotProven, ..Self::vacuous(found) }
    }

    fn no_history(found: impl Into<String>) -> Self {
        Self { state: AuditState::NoHistory, ..Self::vacuous(found) }
    }
}

struct Judge<'a> {
    contract: &'a Contract,
    seen: &'a Seen<'a>,
    history: &'a History,
}

impl<'a> Judge<'a> {
    fn result(&self, rule: &AuditRule) -> AuditResult {
        let answer = self.answer(rule).unwrap_or_else(|not_proven| not_proven);
        AuditResult {
            id: rule.id.clone(),
            severity: rule.severity,
            state: answer.state,
            expected: rule.to_string(),
            found: answer.found,
            value: answer.value,
            sample: answer.sample,
        }
    }

    /// `Err` where it cannot be told.
    fn answer(&self, rule: &AuditRule) -> Result<Answer, Answer> {
        use AuditMeasure as M;
        let bounds = &rule.bounds;
        Ok(match &rule.measure {
            M::RowCount => {
                let rows = self.seen.coverage.rows_accepted;
                let passed = within(bounds, &number(rows), &number(rows));
                Answer::new(passed, rows_of(rows)).with(Some(float(rows)), Vec::new())
            }
            M::Completeness { column } => {
                let column = self.column(column)?;
                let all = column.values + column.nulls;
                share(bounds, column.values, all, "are null")
            }
            M::Unique { columns } => self.unique(&rule.id, columns),
            M::DistinctCount { column } => {
                let column = self.column(column)?;
                distinct(bounds, column, 1.0)
            }
            M::DistinctShare { column } => {
                let column = self.column(column)?;
                match column.values {
                    0 => Answer::vacuous("no values"),
                    values => distinct(bounds, column, float(values)),
                }
            }
            M::Statistic { of, column } => self.statistic(bounds, *of, column)?,
            M::Quantile { column, rank } => self.quantile(bounds, column, *rank)?,
            M::Length { of, column } => length(bounds, *of, self.column(column)?)?,
            M::AllowedValues { .. } => self.tally(rule, "are others")?,
            M::Coverage { .. } => self.tally(rule, "do not occur")?,
            M::Pattern { .. } => self.tally(rule, "do not match")?,
            M::Format { .. } => self.tally(rule, "are not")?,
            M::Share { .. } => self.tally(rule, "rows fail")?,
            M::TrueShare { column } => {
                let column = self.column(column)?;
                let trues = column.trues.filter(|trues| *trues <= column.values);
                let trues = trues.ok_or_else(|| lacks(column, "count of true values"))?;
                share(bounds, trues, column.values, "are false")
            }
            M::Aggregate { condition } => self.aggregate(condition)?,
            M::Freshness { max_age } => self.freshness(*max_age),
            M::Volume { baseline } => self.volume(bounds, baseline),
            M::Drift { column, by, baseline } => self.drift(bounds, column, *by, baseline)?,
            M::Heaviest { column } => heaviest(bounds, self.field(column)?, self.column(column)?)?,
            M::HeaviestPartition => self.heaviest_partition(bounds),
        })
    }

    fn column(&self, name: &str) -> Result<&'a ColumnProfile, Answer> {
        let column = self.seen.profile.column(name);
        column.ok_or_else(|| Answer::not_proven(format!("the profile has no column {name}")))
    }

    fn field(&self, name: &str) -> Result<&'a Field, Answer> {
        let field = self.contract.fields.iter().find(|field| field.name == name);
        field.ok_or_else(|| Answer::not_proven(format!("the contract has no column {name}")))
    }

    fn is_redacted(&self, field: &Field) -> bool {
        self.contract.is_redacted(&pointer::child("", &field.source))
    }

    fn unique(&self, id: &str, columns: &[String]) -> Answer {
        let rows = self.seen.coverage.rows_accepted;
        match self.seen.keys.get(id) {
            Some(Uniqueness::Unique) => Answer::new(true, format!("no two of {}", rows_of(rows)))
                .with(Some(0.0), Vec::new()),
            Some(Uniqueness::Duplicates { rows: again, sample }) => {
                let hidden =
                    columns.iter().any(|c| self.field(c).is_ok_and(|f| self.is_redacted(f)));
                let sample = if hidden { Vec::new() } else { sample.clone() };
                let found = format!("{} of {} repeat an earlier one", count(*again), rows_of(rows));
                Answer::new(false, found).with(Some(float(*again)), sample)
            }
            Some(Uniqueness::NotProven(why)) => Answer::not_proven(why),
            None => Answer::not_proven("it was not looked at"),
        }
    }

    fn tally(&self, rule: &AuditRule, failed: &str) -> Result<Answer, Answer> {
        let tally = self.seen.tallies.get(&rule.id);
        let tally = tally.ok_or_else(|| Answer::not_proven("it was not looked at"))?;
        let answer = share(&rule.bounds, tally.passed, tally.tested, failed);
        let value = answer.value;
        Ok(answer.with(value, tally.failures.clone()))
    }

    fn statistic(&self, bounds: &Bounds, of: Statistic, name: &str) -> Result<Answer, Answer> {
        let (field, column) = (self.field(name)?, self.column(name)?);
        let of = match of {
            Statistic::Minimum => Aggregate::Minimum,
            Statistic::Maximum => Aggregate::Maximum,
            Statistic::Mean => Aggregate::Mean,
            Statistic::Deviation => Aggregate::Deviation,
            Statistic::Sum => Aggregate::Sum,
        };
        let Some(value) = value_of(field, column, of)? else {
            return Ok(Answer::vacuous(few(column)));
        };
        let answer = Answer::new(within(bounds, &value, &value), shown(&value, &field.ty));
        Ok(answer.with(value.to_f64(), Vec::new()))
    }

    fn quantile(&self, bounds: &Bounds, name: &str, rank: f64) -> Result<Answer, Answer> {
        let (field, column) = (self.field(name)?, self.column(name)?);
        if column.values == 0 {
            return Ok(Answer::vacuous(few(column)));
        }
        let (Some(digest), Some(quantiles)) = (digest(field, column), &column.quantiles) else {
            return Err(lacks(column, "distribution"));
        };
        let at = |rank: f64| placed(digest.quantile(rank), &field.ty);
        let (low, value, high) = (at(rank - quantiles.error), at(rank), at(rank + quantiles.error));
        let (Some(low), Some(value), Some(high)) = (low, value, high) else {
            return Err(lacks(column, "distribution"));
        };
        let found = format!(
            "{} (between {} and {})",
            shown(&value, &field.ty),
            shown(&low, &field.ty),
            shown(&high, &field.ty)
        );
        let found = if low == high { shown(&value, &field.ty) } else { found };
        Ok(Answer::new(within(bounds, &low, &high), found).with(value.to_f64(), Vec::new()))
    }

    fn aggregate(&self, condition: &Expr) -> Result<Answer, Answer> {
        let rows = self.seen.coverage.rows_accepted;
        let mut leaves = Vec::new();
        condition.leaves(&mut |leaf| leaves.push(leaf));
        let mut values: Vec<(&Expr, Option<Value>)> = Vec::with_capacity(leaves.len());
        let mut said: Vec<String> = Vec::new();
        for leaf in leaves {
            let (value, ty) = match leaf {
                Expr::Aggregate(of, name) => {
                    let field = self.field(name)?;
                    (value_of(field, self.column(name)?, *of)?, &field.ty)
                }
                _ => (Some(number(rows)), &Type::Long),
            };
            let shown = value.as_ref().map_or("null".to_owned(), |v| shown(v, ty));
            let line = format!("{leaf} is {shown}");
            if !said.contains(&line) {
                said.push(line);
            }
            values.push((leaf, value));
        }
        let known =
            |leaf: &Expr| values.iter().find(|(l, _)| *l == leaf).and_then(|(_, v)| v.clone());
        let truth = condition.value(&known);
        // As a check of SQL does, it fails only where it is known not to hold.
        Ok(Answer::new(truth != Some(Value::Boolean(false)), said.join(", ")))
    }

    fn freshness(&self, max_age: SignedDuration) -> Answer {
        let Some((_, newest)) = self.seen.event_range else {
            return Answer::vacuous("no events");
        };
        let micros = self.seen.landed_at.as_microsecond().saturating_sub(newest);
        let age = SignedDuration::from_micros(micros);
        let passed = age <= max_age;
        if self.contract.event_field().is_some_and(|field| self.is_redacted(field)) {
            return Answer::new(passed, if passed { "it is" } else { "it is older" }.to_owned());
        }
        let event = Literal::Timestamp(newest).shown();
        let found = if micros < 0 {
            format!("{event}, after the landing")
        } else {
            format!("{event}, {:#} before the landing", SignedDuration::from_secs(age.as_secs()))
        };
        Answer::new(passed, found).with(Some(age.as_secs_f64()), Vec::new())
    }

    /// Past files that this one is comparable with, the newest first.
    fn alike(&self, season: Season) -> impl Iterator<Item = &'a PastFile> {
        let timed = self.contract.event_time.is_some();
        let weekday = move |landed_at: Timestamp, main_day: Option<i64>| {
            let landed = landed_at.as_microsecond().div_euclid(MICROS_PER_DAY);
            let day = if timed { main_day } else { Some(landed) };
            day.map(|day| day.rem_euclid(7))
        };
        let own = weekday(self.seen.landed_at, main_day(&self.seen.profile.events));
        self.history.files.iter().filter(move |file| {
            season == Season::None || weekday(file.landed_at, file.main_day) == own
        })
    }

    fn volume(&self, bounds: &Bounds, baseline: &Baseline) -> Answer {
        let past = self.alike(baseline.season).take(baseline.history);
        let mut past: Vec<u64> = past.map(|file| file.rows).collect();
        past.sort_unstable();
        if past.len() < baseline.min_history {
            return too_few(past.len(), baseline);
        }
        let (rows, median) = (self.seen.coverage.rows_accepted, median(&past));
        if median == 0.0 {
            return Answer::no_history("the past files have no rows");
        }
        let ratio = float(rows) / median;
        // Counts of events that do not know of each other differ by that much by chance.
        let floor = baseline.floor.map_or(3.0 * median.sqrt(), float);
        let near = (float(rows) - median).abs() < floor;
        let passed = near || within(bounds, &Value::Double(ratio), &Value::Double(ratio));
        let found = format!(
            "{} ({}; the median of {} past files is {})",
            figure(ratio),
            rows_of(rows),
            past.len(),
            figure(median)
        );
        Answer::new(passed, found).with(Some(ratio), Vec::new())
    }

    fn drift(
        &self,
        bounds: &Bounds,
        name: &str,
        by: DriftBy,
        baseline: &Baseline,
    ) -> Result<Answer, Answer> {
        let (field, column) = (self.field(name)?, self.column(name)?);
        let past = self.alike(baseline.season);
        let past = past.filter_map(|file| file.profile.as_ref()?.column(name));
        let past: Vec<&ColumnProfile> = past.take(baseline.history).collect();
        if past.len() < baseline.min_history {
            return Ok(too_few(past.len(), baseline));
        }
        // The share of nulls is of rows, all else of values.
        let size =
            |c: &ColumnProfile| if by == DriftBy::Nulls { c.values + c.nulls } else { c.values };
        let (now, before) = (size(column), past.iter().map(|c| size(c)).sum::<u64>());
        let floor = baseline.floor.unwrap_or(DRIFT_FLOOR).max(1);
        if now < floor || before < floor {
            let found = format!(
                "{} values here and {} in {} past files: it is judged from {} on",
                count(now),
                count(before),
                past.len(),
                count(floor)
            );
            return Ok(Answer::no_history(found));
        }
        let (distance, sample) = match by {
            DriftBy::Nulls => {
                let nulls = |all: &mut dyn Iterator<Item = &ColumnProfile>, size: u64| {
                    float(all.map(|c| c.nulls).sum()) / float(size)
                };
                let now = nulls(&mut std::iter::once(column), now);
                let before = nulls(&mut past.iter().copied(), before);
                ((now - before).abs(), vec![format!("{} → {}", figure(before), figure(now))])
            }
            DriftBy::Mean => {
                let mean = |c: &ColumnProfile| c.mean.ok_or_else(|| lacks(c, "mean"));
                let now = mean(column)?;
                let mut sum = 0.0;
                for c in past.iter().filter(|c| c.values > 0) {
                    sum += mean(c)? * float(c.values);
                }
                let before = sum / float(before);
                let off = (now - before).abs();
                let distance = if off == 0.0 { 0.0 } else { off / before.abs() };
                (distance, vec![format!("{} → {}", figure(before), figure(now))])
            }
            DriftBy::Quantiles => {
                let (now, before) = both(field, column, &past)?;
                farthest(&now, &before, &field.ty)
            }
            DriftBy::Psi => psi_of(field, column, &past)?,
        };
        let value = Value::Double(distance);
        let passed = within(bounds, &value, &value);
        let found = format!(
            "{} ({} values here, {} in {} past files)",
            figure(distance),
            count(now),
            count(before),
            past.len()
        );
        Ok(Answer::new(passed, found).with(Some(distance), sample))
    }

    fn heaviest_partition(&self, bounds: &Bounds) -> Answer {
        let all: u64 = self.seen.partitions.values().sum();
        // Of several the first.
        let heaviest = self.seen.partitions.iter().rev().max_by_key(|(_, rows)| **rows);
        let Some((partition, rows)) = heaviest.filter(|(_, rows)| **rows > 0) else {
            return Answer::vacuous("no rows");
        };
        let share = float(*rows) / float(all);
        let time = self.contract.event_time.as_ref();
        let hidden = self.contract.event_field().is_some_and(|field| self.is_redacted(field));
        let name = match (partition, time.map(|time| time.grain)) {
            (Some(partition), Some(grain)) if !hidden => format!("{}: ", called(*partition, grain)),
            _ => String::new(),
        };
        let found = format!("{} ({name}{} of {})", figure(share), count(*rows), rows_of(all));
        let value = Value::Double(share);
        Answer::new(within(bounds, &value, &value), found).with(Some(share), Vec::new())
    }
}

/// Whether some value from the low to the high one passes.
fn within(bounds: &Bounds, low: &Value, high: &Value) -> bool {
    let below = |a: &Value, b: &Value| a.compare(b) == Some(Ordering::Less);
    bounds.min.as_ref().is_none_or(|min| !below(high, &min.value()))
        && bounds.max.as_ref().is_none_or(|max| !below(&max.value(), low))
}

fn share(bounds: &Bounds, passed: u64, all: u64, failed: &str) -> Answer {
    if all == 0 {
        return Answer::vacuous("no values");
    }
    let share = float(passed) / float(all);
    let value = Value::Double(share);
    let others = all.saturating_sub(passed);
    let found = format!("{} ({} of {} {failed})", figure(share), count(others), count(all));
    Answer::new(within(bounds, &value, &value), found).with(Some(share), Vec::new())
}

/// Distinct values by so many.
fn distinct(bounds: &Bounds, column: &ColumnProfile, by: f64) -> Answer {
    let (estimate, error) = (column.distinct.estimate, column.distinct.error);
    let off = estimate * error * SPREAD;
    let at = |n: f64| Value::Double(n / by);
    let value = estimate / by;
    let found = if error > 0.0 {
        format!(
            "about {} (between {} and {})",
            figure(value),
            figure((estimate - off) / by),
            figure((estimate + off) / by)
        )
    } else {
        figure(value)
    };
    let passed = within(bounds, &at(estimate - off), &at(estimate + off));
    Answer::new(passed, found).with(Some(value), Vec::new())
}

fn length(bounds: &Bounds, of: LengthOf, column: &ColumnProfile) -> Result<Answer, Answer> {
    if column.values == 0 {
        return Ok(Answer::vacuous(few(column)));
    }
    let lengths = column.lengths.ok_or_else(|| lacks(column, "lengths"))?;
    let (value, found) = match of {
        LengthOf::Minimum => (number(lengths.min), count(lengths.min)),
        LengthOf::Maximum => (number(lengths.max), count(lengths.max)),
        LengthOf::Mean => {
            let mean = float(lengths.sum) / float(column.values);
            (Value::Double(mean), figure(mean))
        }
    };
    let found = format!("{found} characters");
    Ok(Answer::new(within(bounds, &value, &value), found).with(value.to_f64(), Vec::new()))
}

fn heaviest(bounds: &Bounds, field: &Field, column: &ColumnProfile) -> Result<Answer, Answer> {
    if column.values == 0 {
        return Ok(Answer::vacuous(few(column)));
    }
    let most = column.top.values.first().ok_or_else(|| lacks(column, "frequent values"))?;
    let (share, error) = (float(most.count) / float(column.values), column.top.error);
    let passed = within(
        bounds,
        &Value::Double((share - error).max(0.0)),
        &Value::Double((share + error).min(1.0)),
    );
    let about = if error > 0.0 { "about " } else { "" };
    let found = format!(
        "{about}{} ({}: {} of {})",
        figure(share),
        named(&most.value, &field.ty),
        count(most.count),
        count(column.values)
    );
    Ok(Answer::new(passed, found).with(Some(share), Vec::new()))
}

fn too_few(files: usize, baseline: &Baseline) -> Answer {
    let like = match baseline.season {
        Season::None => "",
        Season::Weekday => " of the same weekday",
    };
    let least = baseline.min_history;
    Answer::no_history(format!("{files} past files{like}: it is judged from {least} on"))
}

fn lacks(column: &ColumnProfile, what: &str) -> Answer {
    Answer::not_proven(format!("the profile of {} has no {what}", column.path))
}

fn few(column: &ColumnProfile) -> String {
    if column.values == 0 { "no values".to_owned() } else { "too few values".to_owned() }
}

/// What an aggregate of a column comes to; `Ok(None)` if it has too few values for one.
fn value_of(field: &Field, column: &ColumnProfile, of: Aggregate) -> Result<Option<Value>, Answer> {
    let text = |text: &Option<String>| text.as_deref().and_then(|t| typed(t, &field.ty));
    let (value, what, least) = match of {
        Aggregate::Count => (Some(number(column.values)), "count", 0),
        Aggregate::Nulls => (Some(number(column.nulls)), "count of nulls", 0),
        Aggregate::Distinct => {
            (Value::double(column.distinct.estimate), "count of distinct values", 0)
        }
        Aggregate::Sum => (text(&column.sum), "sum", 1),
        Aggregate::Mean => (column.mean.and_then(Value::double), "mean", 1),
        Aggregate::Minimum => (text(&column.min), "least value", 1),
        Aggregate::Maximum => (text(&column.max), "greatest value", 1),
        Aggregate::Deviation => {
            (column.variance.map(f64::sqrt).and_then(Value::double), "variance", 2)
        }
    };
    if column.values < least {
        return Ok(None);
    }
    value.map(Some).ok_or_else(|| lacks(column, what))
}

/// A value that a profile has as text.
fn typed(text: &str, ty: &Type) -> Option<Value> {
    match ty {
        Type::Float | Type::Double => text.parse().ok().and_then(Value::double),
        Type::Int | Type::Long | Type::Decimal { .. } => Num::parse(text).map(Value::Number),
        Type::Date => date(text).map(|days| Value::Time(i64::from(days) * MICROS_PER_DAY)),
        Type::Timestamp => date_time(text).map(Value::Time),
        Type::String => Some(Value::Text(text.to_owned())),
        _ => None,
    }
}

/// A place in a profile's distribution as a value of its column.
fn placed(at: f64, ty: &Type) -> Option<Value> {
    #[allow(clippy::cast_possible_truncation, reason = "a time between two of the profile")]
    match ty {
        Type::Date => Some(Value::Time((at.floor() as i64).checked_mul(MICROS_PER_DAY)?)),
        Type::Timestamp => Some(Value::Time(at.round() as i64)),
        _ => Value::double(at),
    }
}

fn digest(field: &Field, column: &ColumnProfile) -> Option<Digest> {
    let end = |text: &Option<String>| {
        #[allow(clippy::cast_precision_loss, reason = "a place among others")]
        match (typed(text.as_deref()?, &field.ty)?, &field.ty) {
            (Value::Time(micros), Type::Date) => Some((micros / MICROS_PER_DAY) as f64),
            (Value::Time(micros), _) => Some(micros as f64),
            (number, _) => number.to_f64(),
        }
    };
    let quantiles = column.quantiles.as_ref()?;
    Digest::new(quantiles.centroids.clone(), end(&column.min)?, end(&column.max)?)
}

/// The distribution of a column here, and in past files together.
fn both(
    field: &Field,
    column: &ColumnProfile,
    past: &[&ColumnProfile],
) -> Result<(Digest, Digest), Answer> {
    let of = |c: &ColumnProfile| digest(field, c).ok_or_else(|| lacks(c, "distribution"));
    let now = of(column)?;
    let past = past.iter().filter(|c| c.values > 0).map(|c| of(c));
    let past = Digest::merged(&past.collect::<Result<Vec<_>, _>>()?);
    Ok((now, past.ok_or_else(|| lacks(column, "past distribution"))?))
}

/// The largest distance of two distributions' ranks, and where it is.
fn farthest(now: &Digest, before: &Digest, ty: &Type) -> (f64, Vec<String>) {
    let apart = |at: f64| (now.rank(at) - before.rank(at)).abs();
    let places = now.places().chain(before.places());
    let most = places.map(|at| (apart(at), at)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    let Some((distance, at)) = most else { return (0.0, Vec::new()) };
    let place = placed(at, ty).map(|value| shown(&value, ty)).unwrap_or_default();
    let ranks = format!("{} → {}", figure(before.rank(at)), figure(now.rank(at)));
    (distance, vec![format!("share up to {place}: {ranks}")])
}

/// A part of a distribution: what it is called, and its values before and now.
type Part = (String, f64, f64);

/// The stability index of a column, and the parts that make most of it.
fn psi_of(
    field: &Field,
    column: &ColumnProfile,
    past: &[&ColumnProfile],
) -> Result<(f64, Vec<String>), Answer> {
    let now = Frequencies::of(&[column]);
    let before = Frequencies::of(past);
    let ordered = matches!(
        field.ty,
        Type::Int
            | Type::Long
            | Type::Float
            | Type::Double
            | Type::Decimal { .. }
            | Type::Date
            | Type::Timestamp
    );
    let parts = match (now, before) {
        // Of few different values each is known exactly.
        (Some(now), Some(before)) if !ordered || (now.complete && before.complete) => {
            categories(&now, &before, &field.ty)
        }
        _ if ordered => {
            let (now, before) = both(field, column, past)?;
            bins(&now, &before, &field.ty)
        }
        _ => return Err(lacks(column, "frequent values")),
    };
    Ok(psi(&parts))
}

/// How often which values occur.
struct Frequencies {
    counts: BTreeMap<String, f64>,
    values: f64,
    /// Whether there are no others.
    complete: bool,
    /// More than any other that does not stand there can have.
    rarest: f64,
}

impl Frequencies {
    fn of(columns: &[&ColumnProfile]) -> Option<Self> {
        let mut all = Self { counts: BTreeMap::new(), values: 0.0, complete: true, rarest: 0.0 };
        for column in columns.iter().filter(|c| c.values > 0) {
            all.values += float(column.values);
            if let (true, Some(trues)) = (column.top.is_empty(), column.trues) {
                let falses = column.values.saturating_sub(trues);
                *all.counts.entry("true".to_owned()).or_default() += float(trues);
                *all.counts.entry("false".to_owned()).or_default() += float(falses);
                continue;
            }
            let rarest = column.top.values.iter().map(|f| f.count).min()?;
            let listed: u64 = column.top.values.iter().map(|f| f.count).sum();
            if column.top.error > 0.0 || listed < column.values {
                all.complete = false;
                all.rarest += float(rarest);
            }
            for frequent in &column.top.values {
                *all.counts.entry(frequent.value.clone()).or_default() += float(frequent.count);
            }
        }
        (all.values > 0.0).then_some(all)
    }

    fn share(&self, value: &str) -> Option<f64> {
        match self.counts.get(value) {
            Some(count) => Some(count / self.values),
            None => self.complete.then_some(0.0),
        }
    }
}

/// The values that are frequent before or now, and the rest.
fn categories(now: &Frequencies, before: &Frequencies, ty: &Type) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let (mut rest_now, mut rest_before) = (1.0, 1.0);
    let mut names: Vec<&String> = now.counts.keys().chain(before.counts.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (a, b) = (now.share(name), before.share(name));
        if a.unwrap_or_default().max(b.unwrap_or_default()) < NOTABLE {
            continue;
        }
        // Of what does not stand in a list that is cut, as much as may be.
        let most = |all: &Frequencies, other: Option<f64>| {
            (all.rarest / all.values).min(other.unwrap_or_default())
        };
        let a_share = a.unwrap_or_else(|| most(now, b));
        let b_share = b.unwrap_or_else(|| most(before, a));
        rest_now -= a_share;
        rest_before -= b_share;
        parts.push((named(name, ty), b_share * before.values, a_share * now.values));
    }
    let rest = |share: f64, values: f64| (share * values).max(0.0);
    let rest = (rest(rest_before, before.values), rest(rest_now, now.values));
    // Rounding makes no part.
    if rest.0 >= 0.5 || rest.1 >= 0.5 {
        parts.push(("others".to_owned(), rest.0, rest.1));
    }
    parts
}

/// Tenths of what was before.
fn bins(now: &Digest, before: &Digest, ty: &Type) -> Vec<Part> {
    let mut edges: Vec<f64> = (1..10).map(|i| before.quantile(f64::from(i) / 10.0)).collect();
    edges.dedup();
    let mut parts = Vec::with_capacity(edges.len() + 1);
    let (mut from_now, mut from_before) = (0.0, 0.0);
    let mut last = None;
    for edge in edges {
        let (to_now, to_before) = (now.rank(edge), before.rank(edge));
        let name = placed(edge, ty).map(|value| shown(&value, ty)).unwrap_or_default();
        let weights =
            ((to_before - from_before) * before.weight(), (to_now - from_now) * now.weight());
        parts.push((format!("up to {name}"), weights.0, weights.1));
        (from_now, from_before, last) = (to_now, to_before, Some(name));
    }
    let weights = ((1.0 - from_before) * before.weight(), (1.0 - from_now) * now.weight());
    // Nothing lies beyond the greatest value.
    if weights.0 + weights.1 > 0.0 {
        let name = last.map_or("all".to_owned(), |last| format!("above {last}"));
        parts.push((name, weights.0, weights.1));
    }
    parts
}

/// Σ (now - before) × ln(now ÷ before) over shares, and the parts that add most to it. Half a value more in each part
/// keeps an empty one from being infinitely far.
fn psi(parts: &[Part]) -> (f64, Vec<String>) {
    const MORE: f64 = 0.5;
    #[allow(clippy::cast_precision_loss, reason = "a few parts")]
    let more = MORE * parts.len() as f64;
    let before: f64 = parts.iter().map(|(_, before, _)| before).sum::<f64>() + more;
    let now: f64 = parts.iter().map(|(_, _, now)| now).sum::<f64>() + more;
    let mut terms: Vec<(f64, String)> = parts
        .iter()
        .map(|(name, b, n)| {
            let (b, n) = ((b + MORE) / before, (n + MORE) / now);
            ((n - b) * (n / b).ln(), format!("{name}: {} → {}", figure(b), figure(n)))
        })
        .collect();
    let distance = terms.iter().map(|(term, _)| term).sum();
    terms.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    (distance, terms.into_iter().take(SAMPLE).map(|(_, line)| line).collect())
}

fn median(sorted: &[u64]) -> f64 {
    let at = |i: usize| sorted.get(i).copied().map_or(0.0, float);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    }
}

/// A partition's name.
fn called(partition: i32, grain: Grain) -> String {
    match grain {
        Grain::Hour => Literal::Timestamp(i64::from(partition) * MICROS_PER_HOUR).shown(),
        Grain::Day => Literal::Date(partition).shown(),
        Grain::Month => {
            format!("{:04}-{:02}", 1970 + partition.div_euclid(12), partition.rem_euclid(12) + 1)
        }
        Grain::None => String::new(),
    }
}

/// A value as people write it.
fn shown(value: &Value, ty: &Type) -> String {
    match (value, ty) {
        (Value::Time(micros), Type::Date) => i32::try_from(micros.div_euclid(MICROS_PER_DAY))
            .map(Literal::Date)
            .map(|day| day.shown())
            .unwrap_or_default(),
        (Value::Time(micros), _) => Literal::Timestamp(*micros).shown(),
        (Value::Duration(micros), _) => Literal::Duration(*micros).shown(),
        (Value::Number(number), _) => number.to_string(),
        (Value::Double(double), _) => figure(*double),
        (Value::Text(text), _) => brief(text),
        (Value::Boolean(truth), _) => truth.to_string(),
    }
}

/// A value that a profile has as text.
fn named(value: &str, ty: &Type) -> String {
    if matches!(ty, Type::String | Type::Json) { brief(value) } else { value.to_owned() }
}

/// A text in quotes, cut.
fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{more}", Literal::Text(cut).shown())
}

fn number(n: u64) -> Value {
    Value::Number(Num::whole(n.into()))
}

#[allow(clippy::cast_precision_loss, reason = "a count; exact up to 2^53")]
fn float(n: u64) -> f64 {
    n as f64
}

fn rows_of(rows: u64) -> String {
    format!("{} {}", count(rows), if rows == 1 { "row" } else { "rows" })
}

/// A count with its thousands set apart.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with six digits that count.
fn figure(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{value:.3e}");
    }
    #[allow(clippy::cast_possible_truncation, reason = "a power of ten between those two")]
    let power = if size == 0.0 { 0 } else { size.log10().floor() as i32 };
    let places = usize::try_from(5 - power).unwrap_or_default();
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}
