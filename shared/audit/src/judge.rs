//! The verdicts of a contract's audits, from what was seen of one object and what was published before it.
//!
//! Guarantees: every audit has one result, in the contract's order, and the same input gives the same results. What is
//! counted is compared exactly; what is estimated fails only where no value within its error would pass. Where there is
//! no value that could fail, an audit passes and says so: completeness and row_count ask for values. What cannot be told,
//! since the profile lacks it, is not proven, which is no pass. Values of classified columns are not shown. Pure.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sluicegate_contract::audits::{
    AuditMeasure, AuditRule, Baseline, Bounds, DriftBy, LengthOf, Season, Statistic,
};
use sluicegate_contract::expr::{Aggregate, Expr, Literal, Value};
use sluicegate_contract::profile::{ColumnProfile, Profile};
use sluicegate_contract::time::{MICROS_PER_DAY, MICROS_PER_HOUR, date, date_time};
use sluicegate_contract::{
    AuditResult, AuditState, Contract, Coverage, Field, Grain, Num, Type, pointer,
};

use crate::digest::Digest;
use crate::rowtest::Tally;
use crate::unique::Uniqueness;

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
pub(crate) struct Facts<'a> {
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
    /// [`Events::main_day`]
    pub main_day: Option<i64>,
    pub profile: Option<Profile>,
}

impl History {
    /// How many of the newest files a contract's audits look at, at most.
    pub fn depth(contract: &Contract) -> usize {
        let files = |baseline: &Baseline| match baseline.season {
            Season::None => baseline.history,
            // There may be many files a day; but a page of the ledger has no more.
            Season::Weekday => (baseline.history * 7 * 24).min(1000),
        };
        let all = contract.audits.iter().filter_map(|rule| rule.measure.baseline());
        all.map(files).max().unwrap_or_default()
    }

    /// The files whose profiles a contract's audits of a file look into, by their places here.
    pub(crate) fn wanted(
        &self,
        contract: &Contract,
        landed_at: Timestamp,
        main_day: Option<i64>,
    ) -> BTreeSet<usize> {
        let drifts = contract.audits.iter().filter_map(|rule| match &rule.measure {
            AuditMeasure::Drift { baseline, .. } => Some(baseline),
            _ => None,
        });
        let mut wanted = BTreeSet::new();
        for baseline in drifts {
            let alike = self.alike(contract, landed_at, main_day, baseline.season);
            wanted.extend(alike.map(|(at, _)| at).take(baseline.history));
        }
        wanted
    }

    /// The files that one is comparable with, the newest first.
    fn alike(
        &self,
        contract: &Contract,
        landed_at: Timestamp,
        main_day: Option<i64>,
        season: Season,
    ) -> impl Iterator<Item = (usize, &PastFile)> {
        let timed = contract.event_time.is_some();
        let weekday = move |landed_at: Timestamp, main_day: Option<i64>| {
            let landed = landed_at.as_microsecond().div_euclid(MICROS_PER_DAY);
            let day = if timed { main_day } else { Some(landed) };
            day.map(|day| day.rem_euclid(7))
        };
        let own = weekday(landed_at, main_day);
        self.files.iter().enumerate().filter(move |(_, file)| {
            season == Season::None || weekday(file.landed_at, file.main_day) == own
        })
    }
}

/// The results of all audits of a contract.
pub(crate) fn judge(contract: &Contract, seen: &Facts<'_>, history: &History) -> Vec<AuditResult> {
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
    seen: &'a Facts<'a>,
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
        let main_day = self.seen.profile.events.main_day();
        let alike = self.history.alike(self.contract, self.seen.landed_at, main_day, season);
        alike.map(|(_, file)| file)
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
        // A column that was classified or of another type then has nothing to compare with.
        let tells = |c: &&ColumnProfile| match by {
            DriftBy::Nulls => true,
            DriftBy::Mean => c.mean.is_some() || c.values == 0,
            DriftBy::Quantiles => c.quantiles.is_some() || c.values == 0,
            DriftBy::Psi => {
                c.quantiles.is_some() || c.trues.is_some() || !c.top.is_empty() || c.values == 0
            }
        };
        let past: Vec<&ColumnProfile> = past.filter(tells).take(baseline.history).collect();
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
    let Some(most) = column.top.values.first() else {
        let error = column.top.error;
        if error <= 0.0 {
            return Err(lacks(column, "frequent values"));
        }
        let passed = within(bounds, &Value::Double(0.0), &Value::Double(error));
        return Ok(Answer::new(passed, format!("no value has more than {}", figure(error))));
    };
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
    // Without an error each centroid is one value.
    let counted = quantiles.error <= 0.0;
    Digest::new(quantiles.centroids.clone(), end(&column.min)?, end(&column.max)?, counted)
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
            // What is not listed has no more than the rarest that is, or than the error of a list of none.
            let rarest = column.top.values.iter().map(|f| float(f.count)).reduce(f64::min);
            let unlisted = column.top.error * float(column.values);
            let rarest = rarest.or_else(|| (unlisted > 0.0).then_some(unlisted))?;
            let listed: u64 = column.top.values.iter().map(|f| f.count).sum();
            if column.top.error > 0.0 || listed < column.values {
                all.complete = false;
                all.rarest += rarest;
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
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
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

#[cfg(test)]
mod tests {
    use sluicegate_contract::profile::{EventStep, Events};

    use super::*;
    use serde_json::{Value as Json, json};
    use sluicegate_contract::profile::{Distinct, Frequent, Lengths, Quantiles, Top};

    fn contract(audits: Json) -> Contract {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["at"],
            "x-sluicegate": {
                "version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"},
                "event_time": {"column": "at"}, "audits": audits,
            },
            "properties": {
                "at": {"type": "string", "format": "date-time"},
                "day": {"type": "string", "format": "date"},
                "n": {"type": "integer"},
                "paid": {"type": "number", "x-sluicegate": {"logicalType": "decimal(12,2)"}},
                "x": {"type": ["number", "null"]},
                "s": {"type": "string"},
                "ok": {"type": "boolean"},
                "mail": {"type": "string", "x-sluicegate": {"classification": "pii"}},
            },
        });
        Contract::parse(document.to_string().as_bytes()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// 2013-06-03, a Monday.
    const MONDAY: i64 = 15_859;

    fn landed(day: i64) -> Timestamp {
        Timestamp::from_microsecond((day + 1) * MICROS_PER_DAY + MICROS_PER_HOUR).unwrap()
    }

    fn column(path: &str, values: u64, nulls: u64) -> ColumnProfile {
        ColumnProfile { path: path.to_owned(), values, nulls, ..ColumnProfile::default() }
    }

    fn top(counts: &[(&str, u64)]) -> Top {
        let values = counts.iter().map(|(v, n)| Frequent { value: (*v).to_owned(), count: *n });
        Top { values: values.collect(), error: 0.0 }
    }

    /// A column of numbers, ten of them a centroid.
    fn numbers(path: &str, values: impl Iterator<Item = f64>) -> ColumnProfile {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let weight = |n: &[f64]| float(n.len() as u64);
        let mean = |n: &[f64]| n.iter().sum::<f64>() / weight(n);
        ColumnProfile {
            min: values.first().map(f64::to_string),
            max: values.last().map(f64::to_string),
            mean: Some(mean(&values)),
            quantiles: Some(Quantiles {
                centroids: values.chunks(10).map(|n| (mean(n), weight(n))).collect(),
                error: 0.01,
            }),
            ..column(path, values.len() as u64, 0)
        }
    }

    fn profile(day: i64, rows: u64, columns: Vec<ColumnProfile>) -> Profile {
        let events = Events { step: EventStep::Day, rows: [(day, rows)].into() };
        Profile { rows, columns, events }
    }

    fn past(profile: Profile) -> PastFile {
        let main_day = profile.events.main_day();
        let landed_at = landed(main_day.unwrap());
        PastFile { landed_at, rows: profile.rows, main_day, profile: Some(profile) }
    }

    struct Object {
        profile: Profile,
        tallies: BTreeMap<String, Tally>,
        keys: BTreeMap<String, Uniqueness>,
        partitions: BTreeMap<Option<i32>, u64>,
        event_range: Option<(i64, i64)>,
    }

    impl Object {
        fn of(profile: Profile) -> Self {
            let day = profile.events.main_day().unwrap() * MICROS_PER_DAY;
            Self {
                profile,
                tallies: BTreeMap::new(),
                keys: BTreeMap::new(),
                partitions: BTreeMap::new(),
                event_range: Some((day, day)),
            }
        }

        fn judged(&self, audits: Json, history: Vec<PastFile>) -> Vec<AuditResult> {
            let rows = self.profile.rows;
            let seen = Facts {
                profile: &self.profile,
                coverage: Coverage { rows_read: rows, rows_accepted: rows, ..Coverage::default() },
                tallies: self.tallies.clone(),
                keys: self.keys.clone(),
                partitions: self.partitions.clone(),
                event_range: self.event_range,
                landed_at: landed(self.profile.events.main_day().unwrap()),
            };
            judge(&contract(audits), &seen, &History { files: history })
        }

        fn one(&self, audit: Json, history: Vec<PastFile>) -> AuditResult {
            let mut audit = audit;
            audit["id"] = json!("it");
            self.judged(json!([audit]), history).remove(0)
        }
    }

    fn object() -> Object {
        let mut at = numbers(
            "at",
            (0..24)
                .map(|h| float(u64::try_from(MONDAY).unwrap()) * 86_400e6 + f64::from(h) * 3600e6),
        );
        at.min = Some("2013-06-03T00:00:00Z".to_owned());
        at.max = Some("2013-06-03T23:00:00Z".to_owned());
        let mut day = numbers("day", (0..1000).map(|n| 15_000.0 + f64::from(n)));
        day.min = Some("2011-01-26".to_owned());
        day.max = Some("2013-10-21".to_owned());
        let paid = ColumnProfile {
            min: Some("-0.05".to_owned()),
            max: Some("99.95".to_owned()),
            sum: Some("90000000000000000.01".to_owned()),
            mean: Some(12.5),
            variance: Some(4.0),
            ..column("paid", 1000, 0)
        };
        let s = ColumnProfile {
            lengths: Some(Lengths { min: 2, max: 9, sum: 3500 }),
            distinct: Distinct { estimate: 400.0, error: 0.02, hll: String::new() },
            top: top(&[("UA", 600), ("AA", 300)]),
            ..column("s", 1000, 0)
        };
        let ok = ColumnProfile { trues: Some(250), ..column("ok", 1000, 0) };
        let x = numbers("x", (0..810).map(f64::from));
        let x = ColumnProfile { nulls: 190, ..x };
        let columns = vec![at, day, numbers("n", (0..1000).map(f64::from)), paid, s, ok, x];
        Object::of(profile(MONDAY, 1000, columns))
    }

    #[test]
    fn every_measure_passes_within_its_bounds_and_fails_beyond() {
        let mut object = object();
        object.partitions = [(Some(15_858), 100), (Some(15_859), 900)].into();
        for (audit, min, max, found) in [
            (json!({"audit": "row_count"}), json!(1000), json!(999), "1,000 rows"),
            (
                json!({"audit": "completeness", "column": "x"}),
                json!(0.81),
                json!(0.8),
                "0.81 (190 of 1,000 are null)",
            ),
            (
                json!({"audit": "distinct_count", "column": "s"}),
                json!(420),
                json!(370),
                "about 400 (between 376 and 424)",
            ),
            (
                json!({"audit": "distinct_share", "column": "s"}),
                json!(0.4),
                json!(0.3),
                "about 0.4 (between 0.376 and 0.424)",
            ),
            (json!({"audit": "minimum", "column": "paid"}), json!(-0.05), json!(-0.06), "-0.05"),
            (json!({"audit": "maximum", "column": "paid"}), json!(99.95), json!(99.9), "99.95"),
            (json!({"audit": "mean", "column": "paid"}), json!(12.5), json!(12), "12.5"),
            (json!({"audit": "stddev", "column": "paid"}), json!(2), json!(1.9), "2"),
            (
                json!({"audit": "sum", "column": "paid"}),
                json!(90_000_000_000_000_000u64),
                json!(90_000_000_000_000_000u64),
                "90000000000000000.01",
            ),
            (
                json!({"audit": "maximum", "column": "at"}),
                json!("2013-06-03T23:00:00Z"),
                json!("2013-06-03T22:59:59Z"),
                "2013-06-03T23:00:00Z",
            ),
            (
                json!({"audit": "minimum", "column": "day"}),
                json!("2011-01-26"),
                json!("2011-01-25"),
                "2011-01-26",
            ),
            (
                json!({"audit": "quantile", "column": "n", "rank": 0.9}),
                json!(905),
                json!(880),
                "899.5 (between 889.5 and 909.5)",
            ),
            (
                json!({"audit": "quantile", "column": "day", "rank": 0.5}),
                json!("2012-06-01"),
                json!("2012-05-01"),
                "2012-06-08 (between 2012-05-29 and 2012-06-18)",
            ),
            (json!({"audit": "length_min", "column": "s"}), json!(2), json!(1), "2 characters"),
            (
                json!({"audit": "length_mean", "column": "s"}),
                json!(3.5),
                json!(3.4),
                "3.5 characters",
            ),
            (
                json!({"audit": "true_share", "column": "ok"}),
                json!(0.25),
                json!(0.2),
                "0.25 (750 of 1,000 are false)",
            ),
            (
                json!({"audit": "heaviest", "column": "s"}),
                json!(0.6),
                json!(0.5),
                "0.6 (\"UA\": 600 of 1,000)",
            ),
            (
                json!({"audit": "heaviest_partition"}),
                json!(0.9),
                json!(0.89),
                "0.9 (2013-06-03: 900 of 1,000 rows)",
            ),
        ] {
            let mut passes = audit.clone();
            passes["min"] = min;
            let mut fails = audit;
            fails["max"] = max;
            let (passed, failed) = (object.one(passes, vec![]), object.one(fails, vec![]));
            assert_eq!(passed.state, AuditState::Passed, "{passed:?}");
            assert_eq!(failed.state, AuditState::Failed, "{failed:?}");
            assert!(failed.holds() && !passed.holds());
            assert_eq!((passed.found.as_str(), failed.found.as_str()), (found, found));
        }
    }

    #[test]
    fn rows_that_were_tested_are_shares_with_a_sample() {
        let mut object = object();
        let failures = vec!["row 7".to_owned()];
        object.tallies = [("it".to_owned(), Tally { tested: 400, passed: 396, failures })].into();
        let audit = json!({"audit": "share", "where": "n > 0", "min": 0.995, "severity": "warn"});
        let result = object.one(audit, vec![]);
        assert_eq!(result.found, "0.99 (4 of 400 rows fail)");
        assert_eq!(
            (result.value, result.sample.as_slice()),
            (Some(0.99), ["row 7".to_owned()].as_slice())
        );
        assert!(result.state == AuditState::Failed && !result.holds(), "a warning holds nothing");
        let passed = object.one(json!({"audit": "share", "where": "n > 0", "min": 0.99}), vec![]);
        assert!(passed.state == AuditState::Passed && passed.sample.is_empty());
        object.tallies.clear();
        let unseen = object.one(json!({"audit": "share", "where": "n > 0"}), vec![]);
        assert!(unseen.state == AuditState::NotProven && unseen.holds());
        object.tallies = [("it".to_owned(), Tally::default())].into();
        let empty = object.one(json!({"audit": "share", "where": "n > 0"}), vec![]);
        assert_eq!((empty.state, empty.found.as_str()), (AuditState::Passed, "no values"));
    }

    #[test]
    fn keys_are_unique_or_not_or_not_proven() {
        let mut object = object();
        let audit = |column: &str| json!({"audit": "unique", "columns": ["n", column]});
        let mut result = |found: Option<Uniqueness>, column: &str| {
            object.keys = found.map(|f| ("it".to_owned(), f)).into_iter().collect();
            object.one(audit(column), vec![])
        };
        let twice = || Uniqueness::Duplicates { rows: 12, sample: vec!["7, UA".to_owned()] };
        assert_eq!(result(Some(Uniqueness::Unique), "s").state, AuditState::Passed);
        let failed = result(Some(twice()), "s");
        assert_eq!(failed.found, "12 of 1,000 rows repeat an earlier one");
        assert!(failed.holds() && failed.sample == ["7, UA"]);
        assert!(result(Some(twice()), "mail").sample.is_empty(), "classified");
        let unknown = result(Some(Uniqueness::NotProven("too many keys".to_owned())), "s");
        assert_eq!(
            (unknown.state, unknown.found.as_str()),
            (AuditState::NotProven, "too many keys")
        );
        assert!(unknown.holds() && result(None, "s").holds());
    }

    #[test]
    fn aggregates_hold_exactly_and_say_what_they_are() {
        let object = object();
        let result = |text: &str| object.one(json!({"audit": "aggregate", "where": text}), vec![]);
        let failed = result("sum(paid) <= 90000000000000000 or count(x) = rows()");
        assert_eq!(failed.state, AuditState::Failed);
        let found = "sum(paid) is 90000000000000000.01, count(x) is 810, rows() is 1000";
        assert_eq!(failed.found, found);
        for text in [
            "sum(paid) = 90000000000000000.01 and nulls(x) < 0.2 * rows()",
            "max(at) - min(at) = interval 'PT23H' and min(day) > date '2011-01-25'",
            "stddev(paid) = 2 and mean(paid) > 12 and max(paid) < 100 and distinct(s) = 400",
        ] {
            assert_eq!(result(text).state, AuditState::Passed, "{text}: {}", result(text).found);
        }
    }

    #[test]
    fn what_has_no_values_fails_nothing_and_what_is_not_known_is_not_proven() {
        let empty = Object::of(profile(
            MONDAY,
            1000,
            vec![column("x", 0, 1000), column("n", 1000, 0), column("s", 0, 0)],
        ));
        for audit in [
            json!({"audit": "minimum", "column": "x", "min": 5}),
            json!({"audit": "mean", "column": "x", "min": 5}),
            json!({"audit": "quantile", "column": "x", "rank": 0.5, "min": 5}),
            json!({"audit": "length_max", "column": "s", "max": 1}),
            json!({"audit": "heaviest", "column": "x", "max": 0.1}),
            json!({"audit": "aggregate", "where": "max(x) > 5"}),
        ] {
            let result = empty.one(audit, vec![]);
            assert_eq!(result.state, AuditState::Passed, "{result:?}");
        }
        for audit in [
            json!({"audit": "minimum", "column": "n", "min": 5}),
            json!({"audit": "quantile", "column": "n", "rank": 0.5, "min": 5}),
            json!({"audit": "heaviest", "column": "n", "max": 0.1}),
            json!({"audit": "completeness", "column": "day", "min": 0.1}),
            json!({"audit": "aggregate", "where": "max(n) > 5 and count(n) > 1"}),
            json!({"audit": "aggregate", "where": "count(ok) > 5"}),
        ] {
            let result = empty.one(audit, vec![]);
            assert!(result.state == AuditState::NotProven && result.holds(), "{result:?}");
        }
        let completeness = json!({"audit": "completeness", "column": "x", "min": 0.1});
        assert_eq!(empty.one(completeness, vec![]).found, "0 (1,000 of 1,000 are null)");
    }

    #[test]
    fn freshness_is_measured_from_the_landing() {
        let object = object();
        let result = |age: &str| object.one(json!({"audit": "freshness", "max_age": age}), vec![]);
        // Landed an hour after the day's end; its newest event is the midnight that began it.
        assert_eq!(result("PT25H").found, "2013-06-03T00:00:00Z, 25h before the landing");
        assert_eq!(result("PT25H").state, AuditState::Passed);
        assert_eq!(result("PT24H").state, AuditState::Failed);
    }

    /// Rows of a day by a week's pattern, with a little noise.
    fn usual(day: i64) -> u64 {
        let noise = u64::try_from((day * 7919).rem_euclid(41)).unwrap();
        match day.rem_euclid(7) {
            // 1970-01-01 was a Thursday.
            2 => 300 + noise,
            3 => 150 + noise,
            _ => 1000 + noise,
        }
    }

    fn days_before(day: i64, days: i64) -> Vec<PastFile> {
        (1..=days).map(|back| past(profile(day - back, usual(day - back), vec![]))).collect()
    }

    fn volume(day: i64, rows: u64, history: Vec<PastFile>, audit: Json) -> AuditResult {
        let mut all = json!({"audit": "volume", "min": 0.7, "max": 1.4});
        all.as_object_mut().unwrap().extend(audit.as_object().unwrap().clone());
        Object::of(profile(day, rows, vec![])).one(all, history)
    }

    #[test]
    fn a_week_with_its_weekend_does_not_alarm() {
        for day in MONDAY..MONDAY + 28 {
            let result = volume(day, usual(day), days_before(day, 60), json!({}));
            assert_eq!(result.state, AuditState::Passed, "{result:?}");
        }
        // Against all days alike, a Sunday would.
        let sunday = MONDAY + 6;
        let all = json!({"season": "none"});
        let alarm = volume(sunday, usual(sunday), days_before(sunday, 60), all);
        assert_eq!(alarm.state, AuditState::Failed, "{alarm:?}");
    }

    #[test]
    fn half_the_rows_alarm_on_any_day() {
        for day in MONDAY..MONDAY + 7 {
            let rows = usual(day) / 2;
            let result = volume(day, rows, days_before(day, 60), json!({}));
            assert_eq!(result.state, AuditState::Failed, "{result:?}");
            let twice = volume(day, usual(day) * 2, days_before(day, 60), json!({}));
            assert_eq!(twice.state, AuditState::Failed, "{twice:?}");
        }
        let monday = volume(MONDAY, 500, days_before(MONDAY, 60), json!({}));
        assert!(monday.found.starts_with("0.4"), "{}", monday.found);
        assert!(
            monday.found.contains("(500 rows; the median of 8 past files is 10"),
            "{}",
            monday.found
        );
    }

    #[test]
    fn one_odd_day_in_the_past_does_not_alarm_a_week_later() {
        let mut history = days_before(MONDAY, 60);
        for file in history.iter_mut().filter(|f| f.main_day == Some(MONDAY - 7)) {
            file.rows = 1;
        }
        assert_eq!(volume(MONDAY, usual(MONDAY), history, json!({})).state, AuditState::Passed);
    }

    #[test]
    fn too_short_a_past_gives_no_verdict() {
        let three_weeks = volume(MONDAY, 1, days_before(MONDAY, 27), json!({}));
        assert_eq!(three_weeks.state, AuditState::NoHistory);
        assert!(!three_weeks.holds());
        let found = "3 past files of the same weekday: it is judged from 4 on";
        assert_eq!(three_weeks.found, found);
        let enough = volume(MONDAY, 1, days_before(MONDAY, 28), json!({}));
        assert_eq!(enough.state, AuditState::Failed);
        let sooner = volume(MONDAY, 1, days_before(MONDAY, 7), json!({"min_history": 1}));
        assert_eq!(sooner.state, AuditState::Failed);
    }

    #[test]
    fn a_difference_below_the_floor_never_fails() {
        let few = |rows| -> Vec<PastFile> {
            (1..=8).map(|week| past(profile(MONDAY - 7 * week, rows, vec![]))).collect()
        };
        // By chance, four rows may as well be one.
        assert_eq!(volume(MONDAY, 1, few(4), json!({})).state, AuditState::Passed);
        assert_eq!(volume(MONDAY, 1, few(4), json!({"floor": 0})).state, AuditState::Failed);
        assert_eq!(volume(MONDAY, 500, few(1000), json!({"floor": 501})).state, AuditState::Passed);
        assert_eq!(volume(MONDAY, 500, few(1000), json!({"floor": 500})).state, AuditState::Failed);
    }

    #[test]
    fn files_of_many_days_are_compared_with_their_like() {
        let month = |first: i64, rows: u64| {
            let days = (first..first + 30).map(|day| (day, rows / 30)).collect();
            let events = Events { step: EventStep::Day, rows: days };
            assert_eq!(events.main_day(), None);
            events
        };
        let files = (1..=6).map(|n| PastFile {
            landed_at: landed(MONDAY - 30 * n),
            rows: 30_000,
            main_day: month(MONDAY - 30 * n, 30_000).main_day(),
            profile: None,
        });
        let history: Vec<_> = days_before(MONDAY, 60).into_iter().chain(files).collect();
        let seen_profile = Profile { events: month(MONDAY, 12_000), ..Profile::default() };
        let seen = Facts {
            profile: &seen_profile,
            coverage: Coverage { rows_read: 12_000, rows_accepted: 12_000, ..Coverage::default() },
            tallies: BTreeMap::new(),
            keys: BTreeMap::new(),
            partitions: BTreeMap::new(),
            event_range: None,
            landed_at: landed(MONDAY),
        };
        let contract = contract(json!([{"id": "v", "audit": "volume", "min": 0.5}]));
        let results = judge(&contract, &seen, &History { files: history });
        let found: Vec<_> = results.iter().map(|r| r.found.as_str()).collect();
        assert_eq!(found, ["0.4 (12,000 rows; the median of 6 past files is 30000)"]);
    }

    #[test]
    fn a_days_file_has_a_main_day_in_every_time_zone() {
        for offset in -14..=14 {
            let hours = (0..24)
                .map(|hour| (MONDAY * 24 + hour + offset, 10 + u64::try_from(hour).unwrap()));
            let events = Events { step: EventStep::Hour, rows: hours.collect() };
            let day = events.main_day().unwrap();
            assert!((MONDAY - 1..=MONDAY + 1).contains(&day), "{offset}");
        }
        assert_eq!(Events::default().main_day(), None);
    }

    #[test]
    fn history_is_as_deep_as_the_audits_look() {
        let volume =
            json!({"id": "v", "audit": "volume", "min": 0.5, "history": 4, "season": "none"});
        let drift = json!({"id": "d", "audit": "drift", "column": "s", "by": "psi", "max": 1});
        assert_eq!(History::depth(&contract(json!([volume.clone()]))), 4);
        assert_eq!(History::depth(&contract(json!([volume, drift]))), 1000);
        assert_eq!(
            History::depth(&contract(json!([{"id": "r", "audit": "row_count", "min": 1}]))),
            0
        );
    }

    /// The same day of some weeks before, each with that column.
    fn weeks(of: impl Fn(i64) -> ColumnProfile) -> Vec<PastFile> {
        (1..=8).map(|week| past(profile(MONDAY - 7 * week, 1000, vec![of(week)]))).collect()
    }

    fn drift(by: &str, max: f64, now: ColumnProfile, past: Vec<PastFile>) -> AuditResult {
        let audit = json!({"audit": "drift", "column": now.path, "by": by, "max": max});
        Object::of(profile(MONDAY, 1000, vec![now])).one(audit, past)
    }

    /// A thousand numbers around some place, spread by some width.
    fn around(place: f64, width: f64, seed: i64) -> ColumnProfile {
        let mut state = u64::try_from(seed).unwrap().wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            float(state >> 11) / float(1 << 53)
        };
        numbers("n", (0..1000).map(|_| place + width * (next() + next() + next() - 1.5)))
    }

    #[test]
    fn the_same_distribution_has_not_drifted_and_another_has() {
        let past = || weeks(|week| around(100.0, 20.0, week));
        for by in ["psi", "quantiles"] {
            let same = drift(by, 0.1, around(100.0, 20.0, 99), past());
            assert_eq!(same.state, AuditState::Passed, "{same:?}");
            for moved in [around(108.0, 20.0, 99), around(100.0, 40.0, 99)] {
                let moved = drift(by, 0.1, moved, past());
                assert_eq!(moved.state, AuditState::Failed, "{moved:?}");
                assert!(!moved.sample.is_empty());
            }
        }
        let mean = drift("mean", 0.05, around(108.0, 20.0, 99), past());
        assert_eq!(mean.state, AuditState::Failed, "{mean:?}");
        assert_eq!(drift("mean", 0.1, around(108.0, 20.0, 99), past()).state, AuditState::Passed);
    }

    #[test]
    fn values_that_are_few_are_compared_one_by_one() {
        let s = |counts: &[(&str, u64)]| ColumnProfile {
            top: top(counts),
            ..column("s", counts.iter().map(|(_, n)| n).sum(), 0)
        };
        let past = || weeks(|_| s(&[("UA", 600), ("AA", 400)]));
        let same = drift("psi", 0.1, s(&[("UA", 580), ("AA", 420)]), past());
        assert_eq!(same.state, AuditState::Passed, "{same:?}");
        let other = drift("psi", 0.1, s(&[("UA", 400), ("AA", 300), ("new", 300)]), past());
        assert_eq!(other.state, AuditState::Failed, "{other:?}");
        assert!(other.sample[0].starts_with("\"new\": "), "{other:?}");
        let ok = |trues| ColumnProfile { trues: Some(trues), ..column("ok", 1000, 0) };
        let past = || weeks(|_| ok(500));
        assert_eq!(drift("psi", 0.1, ok(510), past()).state, AuditState::Passed);
        assert_eq!(drift("psi", 0.1, ok(900), past()).state, AuditState::Failed);
    }

    #[test]
    fn a_cut_list_of_rare_values_has_not_drifted() {
        // Of four thousand tail numbers other ones are the most frequent every day.
        let tails = |day: i64| {
            let counts: Vec<_> =
                (0..20).map(|n| (format!("N{}", (day * 37 + n * 11) % 4000), 3)).collect();
            let counts: Vec<_> = counts.iter().map(|(v, n)| (v.as_str(), *n)).collect();
            ColumnProfile { top: top(&counts), ..column("s", 1000, 0) }
        };
        let result = drift("psi", 0.05, tails(99), weeks(tails));
        assert_eq!(result.state, AuditState::Passed, "{result:?}");
        // One that was rare and is a third of all now is seen.
        let mut heavy = tails(99);
        heavy.top.values.insert(0, Frequent { value: "N0".to_owned(), count: 330 });
        assert_eq!(drift("psi", 0.05, heavy, weeks(tails)).state, AuditState::Failed);
    }

    #[test]
    fn nulls_drift_by_their_share_and_few_values_not_at_all() {
        let x = |values, nulls| column("x", values, nulls);
        let past = || weeks(|_| x(950, 50));
        assert_eq!(drift("nulls", 0.1, x(900, 100), past()).state, AuditState::Passed);
        let more = drift("nulls", 0.1, x(800, 200), past());
        assert_eq!((more.state, more.sample[0].as_str()), (AuditState::Failed, "0.05 → 0.2"));
        let few = drift("nulls", 0.1, x(0, 40), past());
        assert_eq!(few.state, AuditState::NoHistory);
        let found = "40 values here and 8,000 in 8 past files: it is judged from 500 on";
        assert_eq!(few.found, found);
        // A column that the past does not have is new.
        let new = drift("nulls", 0.1, x(900, 100), days_before(MONDAY, 60));
        assert_eq!(new.state, AuditState::NoHistory);
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (1.0 / 3.0, "0.333333"),
            (1234.0, "1234"),
            (123_456_789.0, "123456789"),
            (0.000_123_4, "0.0001234"),
            (-2.50, "-2.5"),
            (1e300, "1.000e300"),
        ] {
            assert_eq!(figure(value), text);
        }
        assert_eq!(
            (count(7), count(1000), count(1_234_567)),
            ("7".into(), "1,000".into(), "1,234,567".into())
        );
    }
}
