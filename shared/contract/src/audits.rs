//! Audits: what a contract asks of the accepted rows of one object as a whole.
//!
//! The reader is the linter: an audit that cannot be evaluated, since its column is missing or of another type, its
//! bounds contradict each other or its condition is none, is refused at its place. What is read can be evaluated.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use jiff::SignedDuration;
use serde_json::Value as Json;

use crate::datum::Datum;
use crate::expr::{Expr, Literal, Scope};
use crate::format::Format;
use crate::model::{EventTime, Grain};
use crate::node::{Finding, Node, cut};
use crate::num::Num;
use crate::pattern::Pattern;
use crate::types::{Field, Type, is_column_name};
use crate::verdict::Severity;

/// Audits of one contract.
const AUDIT_LIMIT: usize = 200;
/// Values that one audit lists.
const VALUE_LIMIT: usize = 10_000;
/// Past files that an audit may compare with.
const HISTORY_LIMIT: u64 = 100;

/// One audit.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRule {
    /// Unique in its contract; named as columns are.
    pub id: String,
    pub severity: Severity,
    pub description: Option<String>,
    pub measure: AuditMeasure,
    /// What the measure must lie between; of measures that hold or do not, nothing.
    pub bounds: Bounds,
}

/// What an audit looks at. Columns are named as in the table.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditMeasure {
    RowCount,
    /// The share of rows where the column is not null.
    Completeness {
        column: String,
    },
    /// No two rows have the same values; rows with null among them are not compared.
    Unique {
        columns: Vec<String>,
    },
    DistinctCount {
        column: String,
    },
    /// Distinct values by values.
    DistinctShare {
        column: String,
    },
    Statistic {
        of: Statistic,
        column: String,
    },
    /// The value below which `rank` of all values lie.
    Quantile {
        column: String,
        rank: f64,
    },
    /// In characters.
    Length {
        of: LengthOf,
        column: String,
    },
    /// The share of values that are listed; none twice.
    AllowedValues {
        column: String,
        values: Vec<Literal>,
    },
    /// The share of the listed values that occur; none twice.
    Coverage {
        column: String,
        values: Vec<Literal>,
    },
    /// The share of values that match.
    Pattern {
        column: String,
        pattern: Pattern,
    },
    /// The share of values that are of a format.
    Format {
        column: String,
        format: Format,
    },
    /// The share of a boolean column's values that are true.
    TrueShare {
        column: String,
    },
    /// The share of rows of which the condition holds among those of which it holds or does not.
    Share {
        condition: Expr,
    },
    /// A condition over aggregates holds.
    Aggregate {
        condition: Expr,
    },
    /// How long before the landing the newest event lies.
    Freshness {
        max_age: SignedDuration,
    },
    /// Rows by the median of past files' rows.
    Volume {
        baseline: Baseline,
    },
    /// How far the column is from what it was in past files.
    Drift {
        column: String,
        by: DriftBy,
        baseline: Baseline,
    },
    /// The share of the most frequent value among the column's values.
    Heaviest {
        column: String,
    },
    /// The share of rows in the partition that has the most.
    HeaviestPartition,
}

/// Of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Also of dates and timestamps.
    Minimum,
    /// Also of dates and timestamps.
    Maximum,
    Mean,
    /// Of the sample.
    Deviation,
    Sum,
}

/// Of the lengths of a column's strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthOf {
    Minimum,
    Maximum,
    Mean,
}

/// How a distance between two distributions is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftBy {
    /// Population stability index.
    Psi,
    /// The largest distance of ranks (Kolmogorov-Smirnov).
    Quantiles,
    /// The difference of the shares of nulls.
    Nulls,
    /// The difference of the means, as a share of the past one.
    Mean,
}

/// Which past files an audit compares with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    pub season: Season,
    /// The newest so many.
    pub history: usize,
    /// With fewer there is no verdict.
    pub min_history: usize,
    /// Of volume, a difference in rows that never fails; of drift, rows that both sides have at least.
    pub floor: Option<u64>,
}

/// What past files a file is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Season {
    /// All.
    None,
    /// Those of the same weekday.
    Weekday,
}

/// The least and the greatest value that passes; both do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    pub min: Option<Literal>,
    pub max: Option<Literal>,
}

impl AuditMeasure {
    /// Its name in a contract.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RowCount => "row_count",
            Self::Completeness { .. } => "completeness",
            Self::Unique { .. } => "unique",
            Self::DistinctCount { .. } => "distinct_count",
            Self::DistinctShare { .. } => "distinct_share",
            Self::Statistic { of, .. } => of.name(),
            Self::Quantile { .. } => "quantile",
            Self::Length { of: LengthOf::Minimum, .. } => "length_min",
            Self::Length { of: LengthOf::Maximum, .. } => "length_max",
            Self::Length { of: LengthOf::Mean, .. } => "length_mean",
            Self::AllowedValues { .. } => "allowed_values",
            Self::Coverage { .. } => "coverage",
            Self::Pattern { .. } => "pattern",
            Self::Format { .. } => "format",
            Self::TrueShare { .. } => "true_share",
            Self::Share { .. } => "share",
            Self::Aggregate { .. } => "aggregate",
            Self::Freshness { .. } => "freshness",
            Self::Volume { .. } => "volume",
            Self::Drift { .. } => "drift",
            Self::Heaviest { .. } => "heaviest",
            Self::HeaviestPartition => "heaviest_partition",
        }
    }

    /// The past files that it compares with, if it does.
    pub fn baseline(&self) -> Option<&Baseline> {
        match self {
            Self::Volume { baseline } | Self::Drift { baseline, .. } => Some(baseline),
            _ => None,
        }
    }
}

impl Statistic {
    fn name(self) -> &'static str {
        match self {
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
            Self::Mean => "mean",
            Self::Deviation => "stddev",
            Self::Sum => "sum",
        }
    }
}

impl DriftBy {
    const ALL: [(&'static str, Self); 4] = [
        ("psi", Self::Psi),
        ("quantiles", Self::Quantiles),
        ("nulls", Self::Nulls),
        ("mean", Self::Mean),
    ];
}

/// What the audit asks for, such as `completeness of dep_time ≥ 0.95`.
impl fmt::Display for AuditRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AuditMeasure as M;
        let bounds = &self.bounds;
        match &self.measure {
            M::RowCount => write!(f, "rows {bounds}"),
            M::Completeness { column } => write!(f, "completeness of {column} {bounds}"),
            M::Unique { columns } => write!(f, "no two rows with the same {}", columns.join(", ")),
            M::DistinctCount { column } => write!(f, "distinct values of {column} {bounds}"),
            M::DistinctShare { column } => {
                write!(f, "distinct values of {column}, as a share of its values, {bounds}")
            }
            M::Statistic { of, column } => {
                let of = match of {
                    Statistic::Deviation => "standard deviation",
                    other => other.name(),
                };
                write!(f, "{of} of {column} {bounds}")
            }
            M::Quantile { column, rank } => write!(f, "quantile {rank} of {column} {bounds}"),
            M::Length { of, column } => {
                let of = match of {
                    LengthOf::Minimum => "least",
                    LengthOf::Maximum => "greatest",
                    LengthOf::Mean => "mean",
                };
                write!(f, "{of} length of {column} {bounds}")
            }
            M::AllowedValues { column, values } => {
                write!(f, "share of {column} among {} {bounds}", listed(values))
            }
            M::Coverage { column, values } => {
                write!(f, "share of {} that occur in {column} {bounds}", listed(values))
            }
            M::Pattern { column, pattern } => {
                let pattern = cut(pattern.as_str().to_owned());
                write!(f, "share of {column} that matches {pattern} {bounds}")
            }
            M::Format { column, format } => {
                write!(f, "share of {column} that is of format {} {bounds}", format.name())
            }
            M::TrueShare { column } => write!(f, "share of {column} that is true {bounds}"),
            M::Share { condition } => write!(f, "share of rows where ({condition}) {bounds}"),
            M::Aggregate { condition } => condition.fmt(f),
            M::Freshness { max_age } => {
                write!(f, "newest event at most {max_age:#} before the landing")
            }
            M::Volume { baseline } => {
                write!(f, "rows by the median of {baseline} {bounds}")
            }
            M::Drift { column, by, baseline } => match by {
                DriftBy::Psi => {
                    write!(f, "stability index (PSI) of {column} against {baseline} {bounds}")
                }
                DriftBy::Quantiles => {
                    write!(f, "distance of ranks of {column} from {baseline} {bounds}")
                }
                DriftBy::Nulls => {
                    write!(
                        f,
                        "difference in the share of nulls of {column} from {baseline} {bounds}"
                    )
                }
                DriftBy::Mean => {
                    write!(
                        f,
                        "difference of the mean of {column} from {baseline}, as a share of it, {bounds}"
                    )
                }
            },
            M::Heaviest { column } => {
                write!(f, "share of the most frequent value of {column} {bounds}")
            }
            M::HeaviestPartition => write!(f, "share of the heaviest partition {bounds}"),
        }
    }
}

/// `≥ 0.5`, `≤ 2`, `between 0.5 and 2`.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.min, &self.max) {
            (Some(min), Some(max)) => write!(f, "between {} and {}", min.shown(), max.shown()),
            (Some(min), None) => write!(f, "≥ {}", min.shown()),
            (None, Some(max)) => write!(f, "≤ {}", max.shown()),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let like = match self.season {
            Season::None => "",
            Season::Weekday => " of the same weekday",
        };
        write!(f, "up to {} past files{like}", self.history)
    }
}

/// A few values of a list.
fn listed(values: &[Literal]) -> String {
    const FEW: usize = 5;
    let shown: Vec<_> = values.iter().take(FEW).map(Literal::shown).collect();
    let more =
        if values.len() > FEW { format!(", … ({} values)", values.len()) } else { String::new() };
    format!("{}{more}", cut(shown.join(", ")))
}

/// What audits are about.
pub(crate) struct About<'a> {
    pub(crate) fields: &'a [Field],
    pub(crate) key: &'a [usize],
    pub(crate) event_time: Option<&'a EventTime>,
}

/// Takes the audits off the settings.
pub(crate) fn read(node: &mut Node<'_>, about: &About<'_>) -> Vec<AuditRule> {
    let what = format!("a list of at most {AUDIT_LIMIT} audits");
    let few = |v: &Json| v.as_array().filter(|all| all.len() <= AUDIT_LIMIT).cloned();
    let all = node.take_as("audits", &what, few).unwrap_or_default();
    let at = node.at("audits");
    let mut ids = BTreeSet::new();
    let mut rules = Vec::with_capacity(all.len());
    for (i, value) in all.into_iter().enumerate() {
        let mut node = Node::new(value, format!("{at}/{i}"), node.findings);
        let id = node.text("id").unwrap_or_default();
        if !is_column_name(&id) {
            node.refuse("id", "must be there, of a-z, 0-9 and _, beginning with a letter");
        } else if !ids.insert(id.clone()) {
            node.refuse("id", format!("`{id}` is the id of two audits"));
        }
        let severity = node
            .choice("severity", &[("warn", Severity::Warn), ("error", Severity::Error)])
            .unwrap_or(Severity::Error);
        let description = node.text("description");
        let mut one = One { node, about, known: "id, audit, severity, description".to_owned() };
        if let Some((measure, bounds)) = one.measure() {
            one.node.done(&one.known);
            rules.push(AuditRule { id, severity, description, measure, bounds });
        }
    }
    rules
}

/// An audit that is being read.
struct One<'n, 'a> {
    node: Node<'n>,
    about: &'a About<'a>,
    /// The keys that it has, for a message.
    known: String,
}

/// What a measure's bounds are.
enum Range<'a> {
    /// Numbers from 0 to 1.
    Share,
    /// Numbers of 0 or more.
    Amount,
    /// Any numbers.
    Number,
    /// Values of a column.
    Of(&'a Type),
}

/// Whether there must be a bound.
#[derive(PartialEq)]
enum Unsaid {
    Refused,
    /// All of them.
    One,
}

const IS_NUMBER: fn(&Type) -> bool =
    |ty| matches!(ty, Type::Int | Type::Long | Type::Float | Type::Double | Type::Decimal { .. });
const IS_ORDERED: fn(&Type) -> bool =
    |ty| IS_NUMBER(ty) || matches!(ty, Type::Date | Type::Timestamp);
const IS_SCALAR: fn(&Type) -> bool = |ty| !matches!(ty, Type::Struct(_) | Type::List(_));
/// A single is no decimal that anybody writes: 0.1 is none of its values.
const IS_LISTED: fn(&Type) -> bool =
    |ty| (IS_ORDERED(ty) && *ty != Type::Float) || *ty == Type::String;

impl<'a> One<'_, 'a> {
    fn measure(&mut self) -> Option<(AuditMeasure, Bounds)> {
        use AuditMeasure as M;
        let Some(name) = self.node.text("audit") else {
            self.node
                .refuse("audit", "must say what is looked at, such as row_count or completeness");
            return None;
        };
        let statistic = [
            Statistic::Minimum,
            Statistic::Maximum,
            Statistic::Mean,
            Statistic::Deviation,
            Statistic::Sum,
        ];
        let length = [
            ("length_min", LengthOf::Minimum),
            ("length_max", LengthOf::Maximum),
            ("length_mean", LengthOf::Mean),
        ];
        let all = Unsaid::One;
        Some(match name.as_str() {
            "row_count" => (M::RowCount, self.bounds(&Range::Amount, &Unsaid::Refused)),
            "completeness" => {
                let column = self.column(IS_SCALAR, "a scalar")?.name.clone();
                (M::Completeness { column }, self.bounds(&Range::Share, &Unsaid::Refused))
            }
            "unique" => (M::Unique { columns: self.columns()? }, Bounds::default()),
            "distinct_count" => {
                let column = self.column(IS_SCALAR, "a scalar")?.name.clone();
                (M::DistinctCount { column }, self.bounds(&Range::Amount, &Unsaid::Refused))
            }
            "distinct_share" => {
                let column = self.column(IS_SCALAR, "a scalar")?.name.clone();
                (M::DistinctShare { column }, self.bounds(&Range::Share, &Unsaid::Refused))
            }
            "quantile" => {
                let field = self.shown(IS_ORDERED, "numeric, a date or a timestamp")?;
                let rank =
                    self.number("rank", "a number from 0 to 1", |n| (0.0..=1.0).contains(&n));
                let bounds = self.bounds(&Range::Of(&field.ty), &Unsaid::Refused);
                (M::Quantile { column: field.name.clone(), rank: rank? }, bounds)
            }
            "allowed_values" => {
                let field = self
                    .column(IS_LISTED, "a string, numeric but no float, a date or a timestamp")?;
                let values = self.values(field)?;
                let column = field.name.clone();
                (M::AllowedValues { column, values }, self.bounds(&Range::Share, &all))
            }
            "coverage" => {
                let field = self
                    .column(IS_LISTED, "a string, numeric but no float, a date or a timestamp")?;
                let values = self.values(field)?;
                let column = field.name.clone();
                (M::Coverage { column, values }, self.bounds(&Range::Share, &all))
            }
            "pattern" => {
                let column = self.column(|ty| *ty == Type::String, "a string")?.name.clone();
                let pattern = self.pattern()?;
                (M::Pattern { column, pattern }, self.bounds(&Range::Share, &all))
            }
            "format" => {
                let column = self.column(|ty| *ty == Type::String, "a string")?.name.clone();
                self.knows("format");
                let Some(format) = self.node.choice("format", &Format::ALL) else {
                    self.node.refuse("format", "must be there");
                    return None;
                };
                (M::Format { column, format }, self.bounds(&Range::Share, &all))
            }
            "true_share" => {
                let column = self.shown(|ty| *ty == Type::Boolean, "a boolean")?.name.clone();
                (M::TrueShare { column }, self.bounds(&Range::Share, &Unsaid::Refused))
            }
            "share" => {
                let condition = self.condition(Scope::Row)?;
                (M::Share { condition }, self.bounds(&Range::Share, &all))
            }
            "aggregate" => {
                (M::Aggregate { condition: self.condition(Scope::Aggregate)? }, Bounds::default())
            }
            "freshness" => {
                self.knows("max_age");
                if self.about.event_time.is_none() {
                    self.node.refuse("", "is measured by event_time, which is missing");
                }
                let Some(max_age) = self.node.duration("max_age") else {
                    self.node.refuse("max_age", "must be there, as a duration such as P1D");
                    return None;
                };
                (M::Freshness { max_age }, Bounds::default())
            }
            "volume" => {
                let baseline = self.baseline();
                (M::Volume { baseline }, self.bounds(&Range::Amount, &Unsaid::Refused))
            }
            "drift" => self.drift()?,
            "heaviest" => {
                let column = self.shown(IS_SCALAR, "a scalar")?.name.clone();
                (M::Heaviest { column }, self.bounds(&Range::Share, &Unsaid::Refused))
            }
            "heaviest_partition" => {
                if self.about.event_time.is_none_or(|time| time.grain == Grain::None) {
                    self.node.refuse("", "the table has no partitions: event_time says them");
                }
                (M::HeaviestPartition, self.bounds(&Range::Share, &Unsaid::Refused))
            }
            other => {
                if let Some(of) = statistic.into_iter().find(|s| s.name() == other) {
                    let timed = matches!(of, Statistic::Minimum | Statistic::Maximum);
                    let field = if timed {
                        self.shown(IS_ORDERED, "numeric, a date or a timestamp")?
                    } else {
                        self.shown(IS_NUMBER, "numeric")?
                    };
                    let range = match of {
                        Statistic::Minimum | Statistic::Maximum if !IS_NUMBER(&field.ty) => {
                            Range::Of(&field.ty)
                        }
                        Statistic::Deviation => Range::Amount,
                        _ => Range::Number,
                    };
                    let bounds = self.bounds(&range, &Unsaid::Refused);
                    return Some((M::Statistic { of, column: field.name.clone() }, bounds));
                }
                if let Some((_, of)) = length.into_iter().find(|(name, _)| *name == other) {
                    let column = self.column(|ty| *ty == Type::String, "a string")?.name.clone();
                    let bounds = self.bounds(&Range::Amount, &Unsaid::Refused);
                    return Some((M::Length { of, column }, bounds));
                }
                let message =
                    format!("`{}` is no audit: docs/audits.md lists them", cut(name.clone()));
                self.node.refuse("audit", message);
                return None;
            }
        })
    }

    fn knows(&mut self, keys: &str) {
        self.known = format!("{}, {keys}", self.known);
    }

    fn field(&self, name: &str) -> Option<&'a Field> {
        self.about.fields.iter().find(|field| field.name == name)
    }

    /// The column, of a type that the measure is for.
    fn column(&mut self, fits: fn(&Type) -> bool, what: &str) -> Option<&'a Field> {
        self.knows("column");
        let Some(name) = self.node.text("column") else {
            self.node.refuse("column", "must say of which column");
            return None;
        };
        let Some(field) = self.field(&name) else {
            self.node.refuse("column", format!("`{}` is not a column", cut(name)));
            return None;
        };
        if !fits(&field.ty) {
            let message = format!("`{name}` is {}: it must be {what}", field.ty.describe());
            self.node.refuse("column", message);
            return None;
        }
        Some(field)
    }

    /// The column of a measure that rests on a profile's values.
    fn shown(&mut self, fits: fn(&Type) -> bool, what: &str) -> Option<&'a Field> {
        let field = self.column(fits, what)?;
        if let Some(c) = field.classification.filter(|c| c.is_redacted()) {
            let message = format!(
                "`{}` is {}: its values are in no profile; share, allowed_values and pattern look at rows",
                field.name,
                c.name()
            );
            self.node.refuse("column", message);
            return None;
        }
        Some(field)
    }

    /// The columns of a uniqueness; those of the key where none are said.
    fn columns(&mut self) -> Option<Vec<String>> {
        self.knows("columns");
        if !self.node.map.contains_key("columns") {
            let key = self.about.key.iter().filter_map(|at| self.about.fields.get(*at));
            let key: Vec<_> = key.map(|field| field.name.clone()).collect();
            if key.is_empty() {
                self.node.refuse("columns", "must say which columns: the contract has no key");
                return None;
            }
            return Some(key);
        }
        let columns = self.node.names("columns")?;
        if columns.is_empty() {
            self.node.refuse("columns", "must name a column");
            return None;
        }
        for name in &columns {
            match self.field(name) {
                None => self.node.refuse("columns", format!("`{name}` is not a column")),
                Some(field) if !IS_SCALAR(&field.ty) || field.ty == Type::Json => {
                    let message =
                        format!("`{name}` is {}: it must be a scalar", field.ty.describe());
                    self.node.refuse("columns", message);
                }
                Some(_) => {}
            }
        }
        Some(columns)
    }

    fn number(&mut self, key: &str, what: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
        self.knows(key);
        if !self.node.map.contains_key(key) {
            self.node.refuse(key, format!("must be there: {what}"));
        }
        self.node.take_as(key, what, |v| v.as_f64().filter(|n| fits(*n)))
    }

    /// Values of a column, none twice.
    fn values(&mut self, field: &Field) -> Option<Vec<Literal>> {
        self.knows("values");
        let what = format!("a list of 1 to {VALUE_LIMIT} values");
        if !self.node.map.contains_key("values") {
            self.node.refuse("values", format!("must be there: {what}"));
        }
        let some =
            |v: &Json| v.as_array().filter(|all| (1..=VALUE_LIMIT).contains(&all.len())).cloned();
        let values = self.node.take_as("values", &what, some)?;
        let mut seen = BTreeSet::new();
        let mut read = Vec::with_capacity(values.len());
        for (i, value) in values.iter().enumerate() {
            let at = format!("{}/{i}", self.node.at("values"));
            let datum = Datum::from(value);
            let message = match Literal::of(&datum, &field.ty) {
                None => {
                    format!("is no value of `{}`, which is {}", field.name, field.ty.describe())
                }
                Some(literal) if !seen.insert(literal.to_string()) => {
                    format!("{} is there twice", literal.shown())
                }
                Some(literal) => {
                    read.push(literal);
                    continue;
                }
            };
            self.node.findings.push(Finding { pointer: at, message });
        }
        Some(read)
    }

    fn pattern(&mut self) -> Option<Pattern> {
        self.knows("pattern");
        let Some(text) = self.node.text("pattern") else {
            self.node.refuse("pattern", "must be there");
            return None;
        };
        match Pattern::new(&text) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                self.node.refuse("pattern", why);
                None
            }
        }
    }

    fn condition(&mut self, scope: Scope) -> Option<Expr> {
        self.knows("where");
        let Some(text) = self.node.text("where") else {
            self.node.refuse("where", "must say a condition");
            return None;
        };
        match Expr::parse(&text, self.about.fields, scope) {
            Ok(condition) => Some(condition),
            Err(error) => {
                self.node.refuse("where", error.to_string());
                None
            }
        }
    }

    fn baseline(&mut self) -> Baseline {
        self.knows("season, history, min_history, floor");
        let seasons = [("none", Season::None), ("weekday", Season::Weekday)];
        let season = self.node.choice("season", &seasons).unwrap_or(Season::Weekday);
        let history = self.node.count("history").unwrap_or(8);
        if !(1..=HISTORY_LIMIT).contains(&history) {
            self.node.refuse("history", format!("must be 1 to {HISTORY_LIMIT} files"));
        }
        let min_history = self.node.count("min_history").unwrap_or(history.min(4));
        if !(1..=history).contains(&min_history) {
            self.node.refuse("min_history", format!("must be 1 to {history}, which history is"));
        }
        let floor = self.node.count("floor");
        let files = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Baseline { season, history: files(history), min_history: files(min_history), floor }
    }

    fn drift(&mut self) -> Option<(AuditMeasure, Bounds)> {
        self.knows("by, max");
        let Some(by) = self.node.choice("by", &DriftBy::ALL) else {
            self.node.refuse("by", "must say how: psi, quantiles, nulls or mean");
            return None;
        };
        let field = match by {
            DriftBy::Nulls => self.column(IS_SCALAR, "a scalar"),
            DriftBy::Psi => self.shown(IS_SCALAR, "a scalar"),
            DriftBy::Quantiles => self.shown(IS_ORDERED, "numeric, a date or a timestamp"),
            DriftBy::Mean => self.shown(IS_NUMBER, "numeric"),
        };
        let column = field?.name.clone();
        let baseline = self.baseline();
        let most = match by {
            DriftBy::Quantiles | DriftBy::Nulls => 1.0,
            DriftBy::Psi | DriftBy::Mean => f64::MAX,
        };
        let what = if most > 1.0 { "a number of 0 or more" } else { "a number from 0 to 1" };
        let Some(max) = self.node.map.get("max").cloned() else {
            self.node.refuse("max", format!("must be there: {what}"));
            return None;
        };
        self.node.take_as("max", what, |v| v.as_f64().filter(|n| (0.0..=most).contains(n)))?;
        let max = Num::parse(&max.to_string()).map(Literal::Number);
        Some((AuditMeasure::Drift { column, by, baseline }, Bounds { min: None, max }))
    }

    fn bounds(&mut self, range: &Range<'_>, unsaid: &Unsaid) -> Bounds {
        self.knows("min, max");
        let said = self.node.map.contains_key("min") || self.node.map.contains_key("max");
        let mut one = |key: &str| {
            let what = match range {
                Range::Share => "a number from 0 to 1".to_owned(),
                Range::Amount => "a number of 0 or more".to_owned(),
                Range::Number => "a number".to_owned(),
                Range::Of(ty) => format!("a value of the column, which is {}", ty.describe()),
            };
            let number = |v: &Json, fits: &dyn Fn(f64) -> bool| {
                v.as_f64().filter(|n| fits(*n))?;
                Num::parse(&v.to_string()).map(Literal::Number)
            };
            self.node.take_as(key, &what, |v| match range {
                Range::Share => number(v, &|n| (0.0..=1.0).contains(&n)),
                Range::Amount => number(v, &|n| n >= 0.0),
                Range::Number => number(v, &|_| true),
                Range::Of(ty) if IS_NUMBER(ty) => number(v, &|_| true),
                Range::Of(ty) => Literal::of(&Datum::from(v), ty),
            })
        };
        let (min, max) = (one("min"), one("max"));
        if let (Some(min), Some(max)) = (&min, &max)
            && min.value().compare(&max.value()) == Some(Ordering::Greater)
        {
            self.node.refuse("min", "must not be more than max");
        }
        if said {
            return Bounds { min, max };
        }
        match unsaid {
            Unsaid::One => Bounds { min: Some(Literal::Number(Num::whole(1))), max: None },
            Unsaid::Refused => {
                self.node.refuse("", "must say min or max, or both");
                Bounds::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Contract;
    use serde_json::{Value, json};

    fn document(audits: Value) -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["id", "at"],
            "x-sluicegate": {
                "version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"},
                "event_time": {"column": "at"}, "key": ["id"], "audits": audits,
            },
            "properties": {
                "id": {"type": "integer"},
                "at": {"type": "string", "format": "date-time"},
                "day": {"type": "string", "format": "date"},
                "price": {"type": "number", "x-sluicegate": {"logicalType": "decimal(12,2)"}},
                "status": {"type": "string"},
                "ok": {"type": "boolean"},
                "salary": {"type": "number", "x-sluicegate": {"classification": "restricted"}},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        })
    }

    /// What the one audit asks for, or where and why it is refused.
    fn read(audit: Value) -> Result<String, (String, String)> {
        let mut audit = audit;
        audit.as_object_mut().unwrap().entry("id").or_insert(json!("it"));
        let text = document(json!([audit])).to_string();
        match Contract::parse(text.as_bytes()) {
            Ok(contract) => {
                let [rule] = contract.audits.as_slice() else { panic!("{text}") };
                assert_eq!(rule.measure.name(), audit["audit"].as_str().unwrap());
                Ok(rule.to_string())
            }
            Err(findings) => {
                let first = findings.0.first().unwrap();
                let at = first.pointer.trim_start_matches("/x-sluicegate/audits/0").to_owned();
                Err((at, first.message.clone()))
            }
        }
    }

    #[test]
    fn every_audit_says_what_it_asks_for() {
        let week = "up to 8 past files of the same weekday";
        let ratio = format!("rows by the median of {week} between 0.5 and 2");
        let psi = "stability index (PSI) of status against up to 5 past files ≤ 0.2";
        for (audit, expected) in [
            (json!({"audit": "row_count", "min": 1, "max": 1e6}), "rows between 1 and 1000000"),
            (
                json!({"audit": "completeness", "column": "price", "min": 0.95}),
                "completeness of price ≥ 0.95",
            ),
            (json!({"audit": "unique"}), "no two rows with the same id"),
            (
                json!({"audit": "unique", "columns": ["day", "status"]}),
                "no two rows with the same day, status",
            ),
            (
                json!({"audit": "distinct_count", "column": "status", "max": 9}),
                "distinct values of status ≤ 9",
            ),
            (
                json!({"audit": "distinct_share", "column": "id", "min": 0.5}),
                "distinct values of id, as a share of its values, ≥ 0.5",
            ),
            (
                json!({"audit": "minimum", "column": "day", "min": "2013-01-01"}),
                "minimum of day ≥ 2013-01-01",
            ),
            (
                json!({"audit": "maximum", "column": "at", "max": "2013-01-01T00:00:00Z"}),
                "maximum of at ≤ 2013-01-01T00:00:00Z",
            ),
            (json!({"audit": "mean", "column": "price", "min": -1.5}), "mean of price ≥ -1.5"),
            (
                json!({"audit": "stddev", "column": "price", "max": 3}),
                "standard deviation of price ≤ 3",
            ),
            (json!({"audit": "sum", "column": "price", "min": 0}), "sum of price ≥ 0"),
            (
                json!({"audit": "quantile", "column": "price", "rank": 0.5, "max": 10}),
                "quantile 0.5 of price ≤ 10",
            ),
            (
                json!({"audit": "length_mean", "column": "status", "max": 3}),
                "mean length of status ≤ 3",
            ),
            (
                json!({"audit": "allowed_values", "column": "status", "values": ["a", "b"]}),
                "share of status among \"a\", \"b\" ≥ 1",
            ),
            (
                json!({"audit": "coverage", "column": "price", "values": [1, 2.5], "min": 0.5}),
                "share of 1, 2.5 that occur in price ≥ 0.5",
            ),
            (
                json!({"audit": "pattern", "column": "status", "pattern": "^a", "min": 0.9}),
                "share of status that matches ^a ≥ 0.9",
            ),
            (
                json!({"audit": "format", "column": "status", "format": "email"}),
                "share of status that is of format email ≥ 1",
            ),
            (
                json!({"audit": "true_share", "column": "ok", "max": 0.1}),
                "share of ok that is true ≤ 0.1",
            ),
            (
                json!({"audit": "share", "where": "(salary>0 OR ok)"}),
                "share of rows where (salary > 0 or ok) ≥ 1",
            ),
            (
                json!({"audit": "aggregate", "where": "nulls(salary) < 0.1 * rows()"}),
                "nulls(salary) < 0.1 * rows()",
            ),
            (
                json!({"audit": "freshness", "max_age": "P1D"}),
                "newest event at most 24h before the landing",
            ),
            (json!({"audit": "volume", "min": 0.5, "max": 2}), ratio.as_str()),
            (
                json!({"audit": "drift", "column": "status", "by": "psi", "max": 0.2, "season": "none",
                    "history": 5, "min_history": 5, "floor": 100}),
                psi,
            ),
            (
                json!({"audit": "heaviest", "column": "status", "max": 0.5}),
                "share of the most frequent value of status ≤ 0.5",
            ),
            (
                json!({"audit": "heaviest_partition", "max": 0.9}),
                "share of the heaviest partition ≤ 0.9",
            ),
        ] {
            assert_eq!(read(audit.clone()), Ok(expected.to_owned()), "{audit}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_its_place() {
        for (audit, at, word) in [
            (json!({"audit": "rowcount", "min": 1}), "/audit", "no audit"),
            (json!({"min": 1}), "/audit", "must say"),
            (json!({"audit": "row_count"}), "", "min or max"),
            (json!({"audit": "row_count", "min": -1}), "/min", "0 or more"),
            (json!({"audit": "row_count", "min": 3, "max": 2}), "/min", "more than max"),
            (json!({"audit": "row_count", "min": 1, "column": "id"}), "/column", "not known"),
            (json!({"audit": "row_count", "min": 1, "id": "Rows"}), "/id", "a-z"),
            (json!({"audit": "row_count", "min": 1, "severity": "fatal"}), "/severity", "warn"),
            (json!({"audit": "completeness", "min": 1}), "/column", "which column"),
            (
                json!({"audit": "completeness", "column": "nope", "min": 1}),
                "/column",
                "not a column",
            ),
            (json!({"audit": "completeness", "column": "tags", "min": 1}), "/column", "a scalar"),
            (json!({"audit": "completeness", "column": "id", "min": 95}), "/min", "0 to 1"),
            (json!({"audit": "unique", "columns": ["nope"]}), "/columns", "not a column"),
            (json!({"audit": "unique", "columns": []}), "/columns", "name a column"),
            (json!({"audit": "unique", "columns": ["id"], "min": 1}), "/min", "not known"),
            (json!({"audit": "mean", "column": "day", "min": 1}), "/column", "numeric"),
            (json!({"audit": "mean", "column": "salary", "min": 1}), "/column", "restricted"),
            (json!({"audit": "minimum", "column": "day", "min": 1}), "/min", "date"),
            (json!({"audit": "minimum", "column": "day", "min": "2013-02-30"}), "/min", "date"),
            (
                json!({"audit": "minimum", "column": "day", "min": "2013-02-02", "max": "2013-02-01"}),
                "/min",
                "more than max",
            ),
            (json!({"audit": "quantile", "column": "price", "max": 1}), "/rank", "must be there"),
            (
                json!({"audit": "quantile", "column": "price", "rank": 50, "max": 1}),
                "/rank",
                "0 to 1",
            ),
            (json!({"audit": "length_max", "column": "id", "max": 1}), "/column", "a string"),
            (json!({"audit": "allowed_values", "column": "status"}), "/values", "must be there"),
            (
                json!({"audit": "allowed_values", "column": "status", "values": ["a", "a"]}),
                "/values/1",
                "twice",
            ),
            (
                json!({"audit": "coverage", "column": "id", "values": [1, 1.5]}),
                "/values/1",
                "no value of `id`",
            ),
            (
                json!({"audit": "pattern", "column": "status", "pattern": "(?=a)"}),
                "/pattern",
                "linear",
            ),
            (
                json!({"audit": "format", "column": "status", "format": "phone"}),
                "/format",
                "one of",
            ),
            (json!({"audit": "true_share", "column": "status", "min": 1}), "/column", "boolean"),
            (json!({"audit": "share", "where": "price > 'a'"}), "/where", "character 9"),
            (json!({"audit": "share", "where": "sum(price) > 1"}), "/where", "each row"),
            (json!({"audit": "share"}), "/where", "condition"),
            (json!({"audit": "aggregate", "where": "price > 1"}), "/where", "all rows"),
            (json!({"audit": "freshness"}), "/max_age", "duration"),
            (json!({"audit": "freshness", "max_age": "1 day"}), "/max_age", "ISO 8601"),
            (json!({"audit": "volume"}), "", "min or max"),
            (json!({"audit": "volume", "min": 0.5, "history": 0}), "/history", "1 to 100"),
            (json!({"audit": "volume", "min": 0.5, "min_history": 9}), "/min_history", "1 to 8"),
            (json!({"audit": "volume", "min": 0.5, "season": "month"}), "/season", "weekday"),
            (json!({"audit": "drift", "column": "status", "max": 0.2}), "/by", "psi"),
            (json!({"audit": "drift", "column": "status", "by": "psi"}), "/max", "must be there"),
            (
                json!({"audit": "drift", "column": "status", "by": "mean", "max": 1}),
                "/column",
                "numeric",
            ),
            (
                json!({"audit": "drift", "column": "price", "by": "quantiles", "max": 2}),
                "/max",
                "0 to 1",
            ),
            (
                json!({"audit": "drift", "column": "price", "by": "psi", "min": 0, "max": 2}),
                "/min",
                "not known",
            ),
            (json!({"audit": "heaviest", "column": "salary", "max": 1}), "/column", "restricted"),
        ] {
            let (place, message) = read(audit.clone()).unwrap_err();
            assert!(place == at && message.contains(word), "{audit}: {place}: {message}");
        }
    }

    /// With a boolean column more, which flights have not.
    #[test]
    fn the_examples_of_the_documentation_are_audits_of_flights() {
        let flights = include_str!("../../../examples/flights/contract.json");
        let mut document: Value = serde_json::from_str(flights).unwrap();
        document["properties"]["cancelled"] = json!({"type": "boolean"});
        let text = include_str!("../../../docs/audits.md");
        let mut named: Vec<&str> = Vec::new();
        for example in text.split('`').filter(|part| part.starts_with("{\"audit\"")) {
            let mut audit: Value = serde_json::from_str(example).unwrap();
            audit["id"] = json!("it");
            document["x-sluicegate"]["audits"] = json!([audit]);
            let contract = Contract::parse(document.to_string().as_bytes())
                .unwrap_or_else(|e| panic!("{example}: {e}"));
            named.extend(contract.audits.iter().map(|rule| rule.measure.name()));
        }
        named.dedup();
        assert_eq!(named.len(), 26, "{named:?}");
        let conditions: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        let fields = Contract::parse(flights.as_bytes()).unwrap().fields;
        assert_eq!(conditions.len(), 4);
        for condition in conditions {
            let scope = if condition.contains("sum(") { Scope::Aggregate } else { Scope::Row };
            assert!(Expr::parse(condition, &fields, scope).is_ok(), "{condition}");
        }
    }

    #[test]
    fn an_id_is_of_one_audit_and_there_are_not_too_many() {
        let one = |id: &str| json!({"id": id, "audit": "row_count", "min": 1});
        let refused = |audits: Value| {
            let text = document(audits).to_string();
            Contract::parse(text.as_bytes()).unwrap_err().0.swap_remove(0)
        };
        let twice = refused(json!([one("a"), one("b"), one("a")]));
        assert_eq!(twice.pointer, "/x-sluicegate/audits/2/id");
        let many: Vec<_> = (0..=AUDIT_LIMIT).map(|i| one(&format!("a{i}"))).collect();
        assert_eq!(refused(json!(many)).pointer, "/x-sluicegate/audits");
    }

    #[test]
    fn time_and_partitions_are_asked_of_datasets_that_have_them() {
        let mut timeless = document(json!([
            {"id": "a", "audit": "freshness", "max_age": "P1D"},
            {"id": "b", "audit": "heaviest_partition", "max": 0.5},
        ]));
        timeless["x-sluicegate"].as_object_mut().unwrap().remove("event_time");
        let found = Contract::parse(timeless.to_string().as_bytes()).unwrap_err().0;
        let places: Vec<_> = found.iter().map(|f| f.pointer.as_str()).collect();
        assert_eq!(places, ["/x-sluicegate/audits/0", "/x-sluicegate/audits/1"]);
    }
}
