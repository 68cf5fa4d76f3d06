//! Conditions of audits: a small typed language in SQL's words, over the columns of a row or over aggregates.
//!
//! Guarantees: what is read is typed in full, so that evaluating it cannot fail; work and room are bounded by a text's
//! size. A tree that is printed and read again is the same tree. Logic has three values, as in SQL: what compares with
//! null is null. Whole numbers and decimals are exact; what has a double in it is a double, and so is every quotient.
//! Fails with the position of what is wrong.

use std::cmp::Ordering;
use std::fmt;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::datum::Datum;
use crate::node::duration;
use crate::num::Num;
use crate::time::{self, MICROS_PER_DAY};
use crate::types::{Field, Type};

/// Bytes of a condition's text.
const TEXT_LIMIT: usize = 4096;
/// Words and signs of it, which bound the depth of its tree.
const TOKEN_LIMIT: usize = 1000;
/// Levels of parentheses, `not` and `-`.
const DEPTH_LIMIT: usize = 32;
/// Digits behind the point of an exact number.
const SCALE_LIMIT: u8 = 38;

/// A condition, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Literal(Literal),
    /// A column's name.
    Column(String),
    /// `rows()`
    Rows,
    /// Of a column, by its name.
    Aggregate(Aggregate, String),
    Negate(Box<Expr>),
    Arithmetic(Operator, Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    IsNull {
        of: Box<Expr>,
        negated: bool,
    },
    In {
        of: Box<Expr>,
        values: Vec<Literal>,
        negated: bool,
    },
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
}

/// A value that a contract writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Boolean(bool),
    Number(Num),
    Text(String),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
    /// Microseconds.
    Duration(i64),
}

/// What is asked of all values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Values that are not null.
    Count,
    Nulls,
    /// Different values, as far as they are known: an estimate where there are many.
    Distinct,
    Sum,
    Mean,
    Minimum,
    Maximum,
    /// Of the sample.
    Deviation,
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    /// By zero it is null.
    Divide,
}

/// Comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The columns of one row.
    Row,
    /// Aggregates of all rows.
    Aggregate,
}

/// A value that a condition computes with; null is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Boolean(bool),
    /// Exact.
    Number(Num),
    /// Finite.
    Double(f64),
    Text(String),
    /// Microseconds since 1970; a date is its midnight in UTC.
    Time(i64),
    /// Microseconds.
    Duration(i64),
}

/// What is wrong with a condition, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {message}")]
pub struct ExprError {
    /// Counted from 1.
    pub at: usize,
    pub message: String,
}

impl Expr {
    /// Reads a condition over the scalar columns among the fields.
    pub fn parse(text: &str, fields: &[Field], scope: Scope) -> Result<Self, ExprError> {
        if text.len() > TEXT_LIMIT {
            let message = format!("it has more than {TEXT_LIMIT} bytes");
            return Err(ExprError { at: 1, message });
        }
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens, next: 0, fields, scope, depth: 0 };
        let whole = parser.or()?;
        if parser.peek() != &Token::End {
            let found = parser.peek().describe();
            return parser.fail(format!("{found} is not expected here"));
        }
        parser.is(&whole, Kind::Boolean)?;
        Ok(whole.expr)
    }

    /// What it comes to; `None` is null. `leaf` says the values of columns and aggregates.
    pub fn value(&self, leaf: &dyn Fn(&Self) -> Option<Value>) -> Option<Value> {
        let truth = |expr: &Self| match expr.value(leaf) {
            Some(Value::Boolean(truth)) => Some(truth),
            _ => None,
        };
        match self {
            Self::Literal(literal) => Some(literal.value()),
            Self::Column(_) | Self::Rows | Self::Aggregate(..) => leaf(self),
            Self::Negate(of) => of.value(leaf)?.negated(),
            Self::Arithmetic(operator, a, b) => {
                let (a, b) = (a.value(leaf)?, b.value(leaf)?);
                a.combined(*operator, &b)
            }
            Self::Compare(comparison, a, b) => {
                let ordering = a.value(leaf)?.compare(&b.value(leaf)?)?;
                Some(Value::Boolean(comparison.holds(ordering)))
            }
            Self::IsNull { of, negated } => {
                Some(Value::Boolean(of.value(leaf).is_none() != *negated))
            }
            Self::In { of, values, negated } => {
                let value = of.value(leaf)?;
                let found =
                    values.iter().any(|v| value.compare(&v.value()) == Some(Ordering::Equal));
                Some(Value::Boolean(found != *negated))
            }
            Self::Not(of) => truth(of).map(|truth| Value::Boolean(!truth)),
            Self::And(a, b) => match (truth(a), truth(b)) {
                (Some(false), _) | (_, Some(false)) => Some(Value::Boolean(false)),
                (Some(true), Some(true)) => Some(Value::Boolean(true)),
                _ => None,
            },
            Self::Or(a, b) => match (truth(a), truth(b)) {
                (Some(true), _) | (_, Some(true)) => Some(Value::Boolean(true)),
                (Some(false), Some(false)) => Some(Value::Boolean(false)),
                _ => None,
            },
        }
    }

    /// Calls back for each column and aggregate in it, in the order of writing.
    pub fn leaves<'a>(&'a self, found: &mut dyn FnMut(&'a Self)) {
        match self {
            Self::Literal(_) => {}
            Self::Column(_) | Self::Rows | Self::Aggregate(..) => found(self),
            Self::Negate(of) | Self::Not(of) | Self::IsNull { of, .. } | Self::In { of, .. } => {
                of.leaves(found)
            }
            Self::Arithmetic(_, a, b)
            | Self::Compare(_, a, b)
            | Self::And(a, b)
            | Self::Or(a, b) => {
                a.leaves(found);
                b.leaves(found);
            }
        }
    }

    /// How tightly it binds: printing sets parentheses by it, reading goes by it.
    fn rank(&self) -> u8 {
        match self {
            Self::Or(..) => 0,
            Self::And(..) => 1,
            Self::Not(_) => 2,
            Self::Compare(..) | Self::IsNull { .. } | Self::In { .. } => 3,
            Self::Arithmetic(Operator::Add | Operator::Subtract, ..) => 4,
            Self::Arithmetic(..) => 5,
            Self::Negate(_) => 6,
            Self::Literal(_) | Self::Column(_) | Self::Rows | Self::Aggregate(..) => 7,
        }
    }
}

impl Literal {
    /// As a value.
    pub fn value(&self) -> Value {
        match self {
            Self::Boolean(truth) => Value::Boolean(*truth),
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(text.clone()),
            Self::Date(days) => Value::Time(i64::from(*days) * MICROS_PER_DAY),
            Self::Timestamp(micros) => Value::Time(*micros),
            Self::Duration(micros) => Value::Duration(*micros),
        }
    }

    /// A JSON value as one of a column's, where it has a place in it.
    pub(crate) fn of(value: &Datum<'_>, ty: &Type) -> Option<Self> {
        let mut faults = Vec::new();
        ty.explain(value, "", &mut faults);
        let literal = match (ty, value) {
            (
                Type::Int | Type::Long | Type::Float | Type::Double | Type::Decimal { .. },
                Datum::Number(number),
            ) => Self::Number(*number),
            (Type::String, Datum::Text(text)) => Self::Text(text.to_string()),
            (Type::Date, Datum::Text(text)) => Self::Date(time::date(text.as_bytes())?),
            (Type::Timestamp, Datum::Text(text)) => {
                Self::Timestamp(time::date_time(text.as_bytes())?)
            }
            _ => return None,
        };
        faults.is_empty().then_some(literal)
    }

    /// Without the words around it that a condition needs: dates and times as JSON has them.
    pub fn shown(&self) -> String {
        match self {
            Self::Date(days) => day(*days),
            Self::Timestamp(micros) => instant(*micros),
            Self::Duration(micros) => SignedDuration::from_micros(*micros).to_string(),
            Self::Text(text) => Datum::Text(text.into()).to_string(),
            other => other.to_string(),
        }
    }
}

impl Value {
    /// The order of two values of one kind; exact of two exact numbers, by the nearest doubles otherwise.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) | (Self::Duration(a), Self::Duration(b)) => {
                Some(a.cmp(b))
            }
            (Self::Number(a), Self::Number(b)) => Some(a.cmp(b)),
            (a, b) => a.to_f64()?.partial_cmp(&b.to_f64()?),
        }
    }

    /// A number as the nearest double.
    pub fn to_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number.to_f64()),
            Self::Double(double) => Some(*double),
            _ => None,
        }
    }

    /// A double; null if it is not finite.
    pub fn double(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Double(value))
    }

    fn negated(self) -> Option<Self> {
        match self {
            Self::Number(Num::Exact { unscaled, scale }) => match unscaled.checked_neg() {
                Some(unscaled) => Some(Self::Number(Num::Exact { unscaled, scale })),
                None => Self::double(-Num::Exact { unscaled, scale }.to_f64()),
            },
            Self::Number(Num::Double(value)) => Some(Self::Number(Num::Double(-value))),
            Self::Double(value) => Some(Self::Double(-value)),
            Self::Duration(micros) => micros.checked_neg().map(Self::Duration),
            _ => None,
        }
    }

    fn combined(&self, operator: Operator, other: &Self) -> Option<Self> {
        use Operator as O;
        match (self, operator, other) {
            (Self::Time(a), O::Subtract, Self::Time(b)) => a.checked_sub(*b).map(Self::Duration),
            (Self::Time(a), O::Add, Self::Duration(b))
            | (Self::Duration(b), O::Add, Self::Time(a)) => a.checked_add(*b).map(Self::Time),
            (Self::Time(a), O::Subtract, Self::Duration(b)) => a.checked_sub(*b).map(Self::Time),
            (Self::Duration(a), O::Add, Self::Duration(b)) => a.checked_add(*b).map(Self::Duration),
            (Self::Duration(a), O::Subtract, Self::Duration(b)) => {
                a.checked_sub(*b).map(Self::Duration)
            }
            (Self::Number(a), O::Add | O::Subtract | O::Multiply, Self::Number(b)) => {
                match exactly(*a, operator, *b) {
                    Some(exact) => Some(Self::Number(exact)),
                    None => Self::double(operator.of(a.to_f64(), b.to_f64())),
                }
            }
            (a, operator, b) => {
                let (a, b) = (a.to_f64()?, b.to_f64()?);
                Self::double(operator.of(a, b))
            }
        }
    }
}

/// Of two exact numbers, as long as 128 bits hold the digits.
fn exactly(a: Num, operator: Operator, b: Num) -> Option<Num> {
    let (Num::Exact { unscaled: x, scale: s }, Num::Exact { unscaled: y, scale: t }) = (a, b)
    else {
        return None;
    };
    let (unscaled, scale) = match operator {
        Operator::Multiply => (x.checked_mul(y)?, s.checked_add(t)?),
        _ => {
            let scale = s.max(t);
            let (x, y) = (a.to_decimal(scale)?, b.to_decimal(scale)?);
            let unscaled = match operator {
                Operator::Add => x.checked_add(y)?,
                _ => x.checked_sub(y)?,
            };
            (unscaled, scale)
        }
    };
    Some(Num::decimal(unscaled, scale))
        .filter(|n| matches!(n, Num::Exact { scale, .. } if *scale <= SCALE_LIMIT))
}

impl Operator {
    /// Of two doubles.
    pub fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
        }
    }
}

impl Comparison {
    const ALL: [(&'static str, Self); 6] = [
        ("=", Self::Equal),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        ("<=", Self::LessOrEqual),
        (">", Self::Greater),
        (">=", Self::GreaterOrEqual),
    ];

    /// Whether it holds of two values in that order.
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Aggregate {
    const ALL: [(&'static str, Self); 8] = [
        ("count", Self::Count),
        ("nulls", Self::Nulls),
        ("distinct", Self::Distinct),
        ("sum", Self::Sum),
        ("mean", Self::Mean),
        ("min", Self::Minimum),
        ("max", Self::Maximum),
        ("stddev", Self::Deviation),
    ];

    /// Whether it tells something of the values themselves, and not only how many there are.
    pub fn shows_values(self) -> bool {
        !matches!(self, Self::Count | Self::Nulls | Self::Distinct)
    }
}

/// Words that are no column's name unless in double quotes.
const RESERVED: [&str; 8] = ["and", "or", "not", "is", "in", "null", "true", "false"];

/// A day as JSON has it.
fn day(days: i32) -> String {
    let date = Date::constant(1970, 1, 1).checked_add(days.days());
    date.map(|date| date.to_string()).unwrap_or_default()
}

/// An instant as JSON has it.
fn instant(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map(|instant| instant.to_string()).unwrap_or_default()
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Date(days) => write!(f, "date '{}'", day(*days)),
            Self::Timestamp(micros) => write!(f, "timestamp '{}'", instant(*micros)),
            Self::Duration(micros) => {
                write!(f, "interval '{}'", SignedDuration::from_micros(*micros))
            }
        }
    }
}

/// As it is written, with no more parentheses than it needs.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |f: &mut fmt::Formatter<'_>, expr: &Self, least: u8| {
            if expr.rank() < least { write!(f, "({expr})") } else { expr.fmt(f) }
        };
        let rank = self.rank();
        match self {
            Self::Literal(literal) => literal.fmt(f),
            Self::Column(name) => column(f, name),
            Self::Rows => f.write_str("rows()"),
            Self::Aggregate(aggregate, name) => {
                let function = Aggregate::ALL.iter().find(|(_, a)| a == aggregate);
                f.write_str(function.map_or("", |(function, _)| function))?;
                f.write_str("(")?;
                column(f, name)?;
                f.write_str(")")
            }
            Self::Negate(of) => {
                f.write_str("-")?;
                // A number would be read as a negative one.
                let number = matches!(of.as_ref(), Self::Literal(Literal::Number(_)));
                inner(f, of, if number { rank + 2 } else { rank + 1 })
            }
            Self::Arithmetic(operator, a, b) => {
                inner(f, a, rank)?;
                f.write_str(match operator {
                    Operator::Add => " + ",
                    Operator::Subtract => " - ",
                    Operator::Multiply => " * ",
                    Operator::Divide => " / ",
                })?;
                inner(f, b, rank + 1)
            }
            Self::Compare(comparison, a, b) => {
                inner(f, a, rank + 1)?;
                let sign = Comparison::ALL.iter().find(|(_, c)| c == comparison);
                write!(f, " {} ", sign.map_or("", |(sign, _)| sign))?;
                inner(f, b, rank + 1)
            }
            Self::IsNull { of, negated } => {
                inner(f, of, rank + 1)?;
                f.write_str(if *negated { " is not null" } else { " is null" })
            }
            Self::In { of, values, negated } => {
                inner(f, of, rank + 1)?;
                f.write_str(if *negated { " not in (" } else { " in (" })?;
                for (i, value) in values.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    value.fmt(f)?;
                }
                f.write_str(")")
            }
            Self::Not(of) => {
                f.write_str("not ")?;
                inner(f, of, rank)
            }
            Self::And(a, b) => {
                inner(f, a, rank)?;
                f.write_str(" and ")?;
                inner(f, b, rank + 1)
            }
            Self::Or(a, b) => {
                inner(f, a, rank)?;
                f.write_str(" or ")?;
                inner(f, b, rank + 1)
            }
        }
    }
}

fn column(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if RESERVED.contains(&name) { write!(f, "\"{name}\"") } else { f.write_str(name) }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// In double quotes.
    Name(String),
    Number(Num),
    /// In single quotes.
    Text(String),
    Sign(&'static str),
    End,
}

impl Token {
    fn describe(&self) -> String {
        match self {
            Self::Word(word) | Self::Name(word) => format!("`{word}`"),
            Self::Number(number) => format!("`{number}`"),
            Self::Text(_) => "a text".to_owned(),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// The longer first.
const SIGNS: [&str; 13] = ["!=", "<=", ">=", "<>", "=", "<", ">", "+", "-", "*", "/", "(", ")"];

/// The tokens, each with its position; the last is the end.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ExprError> {
    let mut tokens = Vec::new();
    let (mut rest, mut at) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let fail = |message: &str| Err(ExprError { at, message: message.to_owned() });
        let run = |keeps: &dyn Fn(char) -> bool| rest.find(|c| !keeps(c)).unwrap_or(rest.len());
        let (token, bytes) = if first.is_whitespace() {
            (None, first.len_utf8())
        } else if first.is_ascii_alphabetic() || first == '_' {
            let bytes = run(&|c| c.is_ascii_alphanumeric() || c == '_');
            (rest.get(..bytes).map(|word| Token::Word(word.to_owned())), bytes)
        } else if first.is_ascii_digit() {
            let bytes = digits(rest);
            match rest.get(..bytes).and_then(Num::parse) {
                Some(number) => (Some(Token::Number(number)), bytes),
                None => return fail("this is no number"),
            }
        } else if first == '\'' || first == '"' {
            match quoted(rest, first) {
                Some((text, bytes)) if first == '"' => (Some(Token::Name(text)), bytes),
                Some((text, bytes)) => (Some(Token::Text(text)), bytes),
                None => return fail("a quote opens here and does not close"),
            }
        } else if first == ',' {
            (Some(Token::Sign(",")), 1)
        } else {
            match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Some(Token::Sign(sign)), sign.len()),
                None => return fail(&format!("`{first}` means nothing here")),
            }
        };
        tokens.extend(token.map(|token| (at, token)));
        if tokens.len() > TOKEN_LIMIT {
            return fail(&format!("it has more than {TOKEN_LIMIT} words and signs"));
        }
        let (taken, after) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
        at += taken.chars().count();
        rest = after;
    }
    tokens.push((at, Token::End));
    Ok(tokens)
}

/// The bytes of a number at the beginning.
fn digits(text: &str) -> usize {
    let bytes = text.as_bytes();
    let from = |at: usize| bytes.iter().skip(at).take_while(|b| b.is_ascii_digit()).count();
    let mut end = from(0);
    if bytes.get(end) == Some(&b'.') && from(end + 1) > 0 {
        end += 1 + from(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if from(end + 1 + sign) > 0 {
            end += 1 + sign + from(end + 1 + sign);
        }
    }
    end
}

/// What stands in quotes, a doubled one for itself, and the bytes it took.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            out.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            out.push(quote);
        } else {
            return Some((out, at + quote.len_utf8()));
        }
    }
    None
}

/// What a part of a condition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Text,
    /// A date or a timestamp.
    Time,
    Duration,
}

impl Kind {
    fn of(ty: &Type) -> Option<Self> {
        match ty {
            Type::Boolean => Some(Self::Boolean),
            Type::Int | Type::Long | Type::Float | Type::Double | Type::Decimal { .. } => {
                Some(Self::Number)
            }
            Type::String => Some(Self::Text),
            Type::Date | Type::Timestamp => Some(Self::Time),
            Type::Json | Type::Struct(_) | Type::List(_) => None,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Boolean => "a condition",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Time => "a date or timestamp",
            Self::Duration => "an interval",
        }
    }
}

/// A part that is read: what it is, and where it begins.
struct Part {
    expr: Expr,
    kind: Kind,
    at: usize,
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    next: usize,
    fields: &'a [Field],
    scope: Scope,
    depth: usize,
}

type Parsed = Result<Part, ExprError>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |(at, _)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    /// Takes a sign, if it comes next.
    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.next += usize::from(found);
        found
    }

    /// Takes a word in any case, if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, ExprError> {
        Err(ExprError { at: self.at(), message: message.into() })
    }

    fn needs(&mut self, sign: &str) -> Result<(), ExprError> {
        if self.sign(sign) {
            return Ok(());
        }
        let found = self.peek().describe();
        self.fail(format!("`{sign}` is expected here, not {found}"))
    }

    /// Demands that a part is of a kind.
    fn is(&self, part: &Part, kind: Kind) -> Result<(), ExprError> {
        if part.kind == kind {
            return Ok(());
        }
        let (found, kind) = (part.kind.describe(), kind.describe());
        Err(ExprError { at: part.at, message: format!("this is {found}; {kind} is expected here") })
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth == DEPTH_LIMIT {
            return self.fail(format!("it is nested more than {DEPTH_LIMIT} levels deep"));
        }
        self.depth += 1;
        let part = read(self);
        self.depth -= 1;
        part
    }

    fn or(&mut self) -> Parsed {
        self.joined("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Parsed {
        self.joined("and", Self::not, Expr::And)
    }

    fn joined(
        &mut self,
        word: &str,
        read: fn(&mut Self) -> Parsed,
        join: fn(Box<Expr>, Box<Expr>) -> Expr,
    ) -> Parsed {
        let mut left = read(self)?;
        while self.word(word) {
            self.is(&left, Kind::Boolean)?;
            let right = read(self)?;
            self.is(&right, Kind::Boolean)?;
            left.expr = join(Box::new(left.expr), Box::new(right.expr));
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed {
        let at = self.at();
        if !self.word("not") {
            return self.predicate();
        }
        let of = self.deeper(Self::not)?;
        self.is(&of, Kind::Boolean)?;
        Ok(Part { expr: Expr::Not(Box::new(of.expr)), kind: Kind::Boolean, at })
    }

    fn predicate(&mut self) -> Parsed {
        let left = self.sum()?;
        let at = left.at;
        let truth = |expr| Ok(Part { expr, kind: Kind::Boolean, at });
        if self.word("is") {
            let negated = self.word("not");
            if !self.word("null") {
                return self.fail("`is` comes with null or not null");
            }
            return truth(Expr::IsNull { of: Box::new(left.expr), negated });
        }
        let negated = self.word("not");
        if self.word("in") {
            let values = self.values(&left)?;
            return truth(Expr::In { of: Box::new(left.expr), values, negated });
        }
        if negated {
            return self.fail("`in` is expected here");
        }
        let comparison = match self.peek() {
            Token::Sign("<>") => Comparison::NotEqual,
            Token::Sign(sign) => match Comparison::ALL.iter().find(|(s, _)| s == sign) {
                Some((_, comparison)) => *comparison,
                None => return Ok(left),
            },
            _ => return Ok(left),
        };
        self.next += 1;
        let right = self.sum()?;
        if left.kind != right.kind {
            let (one, other) = (left.kind.describe(), right.kind.describe());
            let message = format!("{one} cannot be compared with {other}");
            return Err(ExprError { at: right.at, message });
        }
        let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        if left.kind == Kind::Boolean && ordered {
            let message = "conditions are equal or not; they have no order".to_owned();
            return Err(ExprError { at, message });
        }
        truth(Expr::Compare(comparison, Box::new(left.expr), Box::new(right.expr)))
    }

    /// The values of a list, of the kind of what is sought in it.
    fn values(&mut self, sought: &Part) -> Result<Vec<Literal>, ExprError> {
        self.needs("(")?;
        let mut values = Vec::new();
        loop {
            let value = self.unary()?;
            self.is(&value, sought.kind)?;
            match value.expr {
                Expr::Literal(literal) => values.push(literal),
                _ => {
                    let message = "a list holds values only".to_owned();
                    return Err(ExprError { at: value.at, message });
                }
            }
            if !self.sign(",") {
                break;
            }
        }
        self.needs(")")?;
        Ok(values)
    }

    fn sum(&mut self) -> Parsed {
        let signs = [("+", Operator::Add), ("-", Operator::Subtract)];
        self.chain(&signs, Self::product)
    }

    fn product(&mut self) -> Parsed {
        let signs = [("*", Operator::Multiply), ("/", Operator::Divide)];
        self.chain(&signs, Self::unary)
    }

    fn chain(&mut self, signs: &[(&str, Operator)], read: fn(&mut Self) -> Parsed) -> Parsed {
        let mut left = read(self)?;
        while let Some((_, operator)) = signs.iter().find(|(sign, _)| self.sign(sign)) {
            let right = read(self)?;
            left.kind = match (left.kind, operator, right.kind) {
                (Kind::Number, _, Kind::Number) => Kind::Number,
                (Kind::Time, Operator::Subtract, Kind::Time) => Kind::Duration,
                (Kind::Time, Operator::Add | Operator::Subtract, Kind::Duration)
                | (Kind::Duration, Operator::Add, Kind::Time) => Kind::Time,
                (Kind::Duration, Operator::Add | Operator::Subtract, Kind::Duration) => {
                    Kind::Duration
                }
                (one, _, other) => {
                    let (one, other) = (one.describe(), other.describe());
                    let message = format!("there is no such arithmetic of {one} and {other}");
                    return Err(ExprError { at: right.at, message });
                }
            };
            left.expr = Expr::Arithmetic(*operator, Box::new(left.expr), Box::new(right.expr));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        if !self.sign("-") {
            return self.primary();
        }
        let number = matches!(self.peek(), Token::Number(_));
        let of = self.deeper(Self::unary)?;
        if !matches!(of.kind, Kind::Number | Kind::Duration) {
            self.is(&of, Kind::Number)?;
        }
        let expr = match of.expr {
            Expr::Literal(Literal::Number(n)) if number => match Value::Number(n).negated() {
                Some(Value::Number(n)) => Expr::Literal(Literal::Number(n)),
                _ => return self.fail("this is no number"),
            },
            other => Expr::Negate(Box::new(other)),
        };
        Ok(Part { expr, kind: of.kind, at })
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let part = |literal, kind| Ok(Part { expr: Expr::Literal(literal), kind, at });
        match self.take() {
            Token::Number(number) => part(Literal::Number(number), Kind::Number),
            Token::Text(text) => part(Literal::Text(text), Kind::Text),
            Token::Name(name) => self.column(&name, at),
            Token::Sign("(") => {
                let inner = self.deeper(Self::or)?;
                self.needs(")")?;
                Ok(Part { at, ..inner })
            }
            Token::Word(word) => {
                let lower = word.to_ascii_lowercase();
                if let Token::Text(text) = self.peek().clone()
                    && let Some(read) = literal(&lower, &text)
                {
                    let Some((literal, kind)) = read else {
                        return self.fail(format!("this is no {lower}"));
                    };
                    self.next += 1;
                    return part(literal, kind);
                }
                if self.sign("(") {
                    return self.call(&lower, at);
                }
                match lower.as_str() {
                    "true" | "false" => part(Literal::Boolean(lower == "true"), Kind::Boolean),
                    "null" => Err(ExprError {
                        at,
                        message: "ask for null by `is null` or `is not null`".to_owned(),
                    }),
                    reserved if RESERVED.contains(&reserved) => {
                        Err(ExprError { at, message: format!("`{word}` is not expected here") })
                    }
                    _ => self.column(&word, at),
                }
            }
            other => {
                Err(ExprError { at, message: format!("{} is not expected here", other.describe()) })
            }
        }
    }

    fn field(&self, name: &str, at: usize) -> Result<&Field, ExprError> {
        let field = self.fields.iter().find(|field| field.name == name);
        field.ok_or_else(|| ExprError { at, message: format!("`{name}` is not a column") })
    }

    fn column(&self, name: &str, at: usize) -> Parsed {
        let field = self.field(name, at)?;
        if self.scope == Scope::Aggregate {
            let message = format!(
                "`{name}` is a column of each row; this is about all rows: say sum({name}), mean({name}), …"
            );
            return Err(ExprError { at, message });
        }
        let Some(kind) = Kind::of(&field.ty) else {
            let message = format!("`{name}` is {}, and no scalar", field.ty.describe());
            return Err(ExprError { at, message });
        };
        Ok(Part { expr: Expr::Column(name.to_owned()), kind, at })
    }

    /// An aggregate, its parenthesis taken.
    fn call(&mut self, function: &str, at: usize) -> Parsed {
        let known = Aggregate::ALL.iter().find(|(name, _)| *name == function);
        if known.is_none() && function != "rows" {
            return Err(ExprError { at, message: format!("`{function}` is no function") });
        }
        if self.scope == Scope::Row {
            let message = format!("`{function}` is about all rows; this is about each row");
            return Err(ExprError { at, message });
        }
        let Some((_, aggregate)) = known else {
            self.needs(")")?;
            return Ok(Part { expr: Expr::Rows, kind: Kind::Number, at });
        };
        let place = self.at();
        let (Token::Word(name) | Token::Name(name)) = self.take() else {
            let message = format!("`{function}` is of a column");
            return Err(ExprError { at: place, message });
        };
        let field = self.field(&name, place)?;
        let own = Kind::of(&field.ty);
        let kind = match aggregate {
            _ if matches!(field.ty, Type::Struct(_) | Type::List(_)) => None,
            Aggregate::Count | Aggregate::Nulls | Aggregate::Distinct => Some(Kind::Number),
            Aggregate::Minimum | Aggregate::Maximum => own.filter(|k| *k != Kind::Boolean),
            Aggregate::Sum | Aggregate::Mean | Aggregate::Deviation => {
                own.filter(|k| *k == Kind::Number)
            }
        };
        let Some(kind) = kind else {
            let message = format!("there is no {function} of {}", field.ty.describe());
            return Err(ExprError { at: place, message });
        };
        if let Some(c) = field.classification.filter(|c| c.is_redacted())
            && aggregate.shows_values()
        {
            let message = format!(
                "`{name}` is {}: its values are in no profile; count, nulls and distinct are",
                c.name()
            );
            return Err(ExprError { at: place, message });
        }
        self.needs(")")?;
        Ok(Part { expr: Expr::Aggregate(*aggregate, name), kind, at })
    }
}

/// A text behind the word that says what it is; `None` if the word is another, `Some(None)` if the text is none.
#[allow(clippy::option_option, reason = "no such word, and no such value, are two things")]
fn literal(word: &str, text: &str) -> Option<Option<(Literal, Kind)>> {
    let read = match word {
        "date" => time::date(text).map(|days| (Literal::Date(days), Kind::Time)),
        "timestamp" => time::date_time(text)
            // With an offset it may lie outside the years that can be written.
            .filter(|micros| time::date_time(instant(*micros)) == Some(*micros))
            .map(|micros| (Literal::Timestamp(micros), Kind::Time)),
        "interval" => duration(text)
            .filter(|d| d.subsec_nanos() % 1000 == 0)
            .and_then(|d| i64::try_from(d.as_micros()).ok())
            .map(|micros| (Literal::Duration(micros), Kind::Duration)),
        _ => return None,
    };
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Contract;
    use proptest::prelude::*;

    fn fields() -> Vec<Field> {
        let document = serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"}},
            "properties": {
                "paid": {"type": "number", "x-sluicegate": {"logicalType": "decimal(12,2)"}},
                "billed": {"type": "number", "x-sluicegate": {"logicalType": "decimal(12,2)"}},
                "n": {"type": "integer"},
                "x": {"type": "number"},
                "name": {"type": "string"},
                "in": {"type": "string"},
                "ok": {"type": "boolean"},
                "date": {"type": "string", "format": "date"},
                "at": {"type": "string", "format": "date-time"},
                "salary": {"type": "number", "x-sluicegate": {"classification": "restricted"}},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        });
        Contract::parse(document.to_string().as_bytes()).unwrap().fields
    }

    fn row(text: &str) -> Expr {
        Expr::parse(text, &fields(), Scope::Row).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// What it comes to of one row.
    fn truth(text: &str) -> Option<bool> {
        let value = row(text).value(&|leaf| match leaf {
            Expr::Column(name) => match name.as_str() {
                "paid" => Some(Value::Number(Num::decimal(1999, 2))),
                "billed" => Some(Value::Number(Num::decimal(2000, 2))),
                "n" => Some(Value::Number(Num::whole(i128::from(i64::MAX)))),
                "x" => Some(Value::Double(0.1)),
                "name" => Some(Value::Text("it's".to_owned())),
                "at" => Some(Value::Time(86_400_000_000)),
                "date" => Some(Value::Time(0)),
                _ => None,
            },
            _ => None,
        });
        match value {
            None => None,
            Some(Value::Boolean(truth)) => Some(truth),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn exact_numbers_are_compared_exactly_and_doubles_as_doubles() {
        for text in [
            "paid + 0.01 = billed",
            "paid < billed and billed = 20",
            "n + 1 > n",
            "n = 9223372036854775807 and n != 9223372036854775808",
            "x = 0.1 and x + 0.2 != 0.3 and 0.1 + 0.2 = 0.3",
            "paid * 3 = 59.97 and billed / 3 > 6.66",
            "-paid < -1 and - (2) = -2",
            "name = 'it''s' and name > 'a' and name <> 'b'",
            "name in ('a', 'it''s') and n not in (1, 2)",
            "at - date = interval 'P1D' and at = timestamp '1970-01-01T19:00:00-05:00'",
            "date + interval 'PT24H' = at and date = date '1970-01-01'",
            "1 + 2 * 3 = 7 and (1 + 2) * 3 = 9 and 10 - 3 - 2 = 5",
            "not false and not (true and false) or false",
        ] {
            assert_eq!(truth(text), Some(true), "{text}");
        }
    }

    #[test]
    fn logic_has_three_values() {
        for (text, expected) in [
            ("salary > 1", None),
            ("not salary > 1", None),
            ("salary is null", Some(true)),
            ("(salary > 1) is null", Some(true)),
            ("salary is not null", Some(false)),
            ("salary > 1 or n > 1", Some(true)),
            ("salary > 1 and n > 1", None),
            ("salary > 1 and n < 1", Some(false)),
            ("salary in (1, 2)", None),
            ("n / 0 = 1", None),
            ("ok", None),
        ] {
            assert_eq!(truth(text), expected, "{text}");
        }
    }

    #[test]
    fn arithmetic_beyond_128_bits_is_that_of_doubles() {
        let big = "99999999999999999999999999999999999999";
        assert_eq!(truth(&format!("{big} * {big} > {big}")), Some(true));
        assert_eq!(truth(&format!("{big} * {big} - {big} * {big} = 0")), Some(true));
        assert_eq!(truth("1e308 * 10 > 1"), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_its_place() {
        for (text, at, word) in [
            ("", 1, "the end"),
            ("n >", 4, "the end"),
            ("n > 'a'", 5, "compared"),
            ("n > 1 and nope = 2", 11, "`nope` is not a column"),
            ("n", 1, "condition"),
            ("n + name > 1", 5, "arithmetic"),
            ("not n", 5, "condition"),
            ("n = null", 5, "is null"),
            ("n is 1", 6, "null"),
            ("n > 1)", 6, "`)`"),
            ("(n > 1", 7, "`)`"),
            ("n > 01", 5, "number"),
            ("name = 'a", 8, "close"),
            ("date = date '2013-02-30'", 13, "no date"),
            ("at - date > interval '3 days'", 22, "no interval"),
            ("sum(n) > 1", 1, "all rows"),
            ("tags is null", 1, "scalar"),
            ("ok > false", 1, "order"),
            ("n in (1, n)", 10, "values only"),
            ("n in ('a')", 7, "number"),
            ("n = 1 ; drop", 7, "`;`"),
            ("N = 1", 1, "`N`"),
            ("n > 1 is null", 7, "`is`"),
            ("é = 1", 1, "`é`"),
        ] {
            let error = Expr::parse(text, &fields(), Scope::Row).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.message.contains(word), "{text}: {error}");
        }
        for (text, at, word) in [
            ("n > 1", 1, "sum(n)"),
            ("sum(name) > 1", 5, "no sum"),
            ("sum(salary) > 1", 5, "restricted"),
            ("median(n) > 1", 1, "no function"),
            ("count(tags) > 1", 7, "no count"),
            ("sum() > 1", 5, "of a column"),
        ] {
            let error = Expr::parse(text, &fields(), Scope::Aggregate).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.message.contains(word), "{text}: {error}");
        }
        let aggregates =
            "nulls(salary) < 0.1 * rows() and max(date) >= date '2013-01-01' and min(name) < 'z'";
        assert!(Expr::parse(aggregates, &fields(), Scope::Aggregate).is_ok());
    }

    #[test]
    fn hostile_conditions_are_refused() {
        let deep = format!("{}n > 1{}", "(".repeat(1000), ")".repeat(1000));
        let wide = format!("n > 1{}", " and n > 1".repeat(400));
        let long = format!("name = '{}'", "x".repeat(5000));
        let minus = format!("n > {}1", "- ".repeat(900));
        for text in [deep, wide, long, minus] {
            assert!(Expr::parse(&text, &fields(), Scope::Row).is_err(), "{text:.40}");
        }
    }

    #[test]
    fn a_reserved_word_is_a_column_in_quotes() {
        assert_eq!(row("\"in\" = 'a'").to_string(), "\"in\" = 'a'");
        assert_eq!(row("date > DATE '2013-01-01'").to_string(), "date > date '2013-01-01'");
    }

    fn literal() -> impl Strategy<Value = Literal> {
        prop_oneof![
            any::<bool>().prop_map(Literal::Boolean),
            any::<i64>().prop_map(|n| Literal::Number(Num::whole(i128::from(n)))),
            (any::<i64>(), 0u8..20).prop_map(|(n, s)| Literal::Number(Num::decimal(n.into(), s))),
            proptest::num::f64::NORMAL
                .prop_filter_map("finite", Num::from_f64)
                .prop_map(Literal::Number),
            ".{0,8}".prop_map(Literal::Text),
            (-700_000i32..2_900_000).prop_map(Literal::Date),
            (-60_000_000_000_000_000i64..250_000_000_000_000_000).prop_map(Literal::Timestamp),
            (0i64..1 << 60).prop_map(Literal::Duration),
        ]
    }

    /// Any tree of a kind, as the reader makes them.
    fn tree(kind: Kind) -> BoxedStrategy<Expr> {
        let of_kind = move |l: &Literal| match l {
            Literal::Boolean(_) => kind == Kind::Boolean,
            Literal::Number(_) => kind == Kind::Number,
            Literal::Text(_) => kind == Kind::Text,
            Literal::Date(_) | Literal::Timestamp(_) => kind == Kind::Time,
            Literal::Duration(_) => kind == Kind::Duration,
        };
        let columns: &[&str] = match kind {
            Kind::Boolean => &["ok"],
            Kind::Number => &["paid", "n", "x", "salary"],
            Kind::Text => &["name", "in"],
            Kind::Time => &["date", "at"],
            Kind::Duration => &[],
        };
        let literal = literal().prop_filter("kind", of_kind).prop_map(Expr::Literal).boxed();
        if columns.is_empty() {
            return literal;
        }
        let column = proptest::sample::select(columns);
        prop_oneof![literal, column.prop_map(|c| Expr::Column(c.to_owned()))].boxed()
    }

    fn number() -> BoxedStrategy<Expr> {
        let operator = proptest::sample::select(vec![
            Operator::Add,
            Operator::Subtract,
            Operator::Multiply,
            Operator::Divide,
        ]);
        tree(Kind::Number)
            .prop_recursive(4, 24, 2, move |inner| {
                prop_oneof![
                    inner.clone().prop_map(|e| Expr::Negate(Box::new(e))),
                    (operator.clone(), inner.clone(), inner)
                        .prop_map(|(o, a, b)| Expr::Arithmetic(o, Box::new(a), Box::new(b))),
                ]
            })
            .boxed()
    }

    fn condition() -> BoxedStrategy<Expr> {
        let comparison = proptest::sample::select(&[
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Less,
            Comparison::GreaterOrEqual,
        ]);
        let compared = |kind| if kind == Kind::Number { number() } else { tree(kind) };
        let values = literal().prop_filter("numbers", |l| matches!(l, Literal::Number(_))).boxed();
        let predicate = prop_oneof![
            tree(Kind::Boolean),
            (comparison.clone(), compared(Kind::Number), compared(Kind::Number))
                .prop_map(|(c, a, b)| Expr::Compare(c, Box::new(a), Box::new(b))),
            (comparison.clone(), compared(Kind::Text), compared(Kind::Text))
                .prop_map(|(c, a, b)| Expr::Compare(c, Box::new(a), Box::new(b))),
            (comparison, compared(Kind::Time), compared(Kind::Time))
                .prop_map(|(c, a, b)| Expr::Compare(c, Box::new(a), Box::new(b))),
            (number(), any::<bool>())
                .prop_map(|(of, negated)| Expr::IsNull { of: Box::new(of), negated }),
            (number(), proptest::collection::vec(values, 1..4), any::<bool>())
                .prop_map(|(of, values, negated)| Expr::In { of: Box::new(of), values, negated }),
        ];
        predicate
            .prop_recursive(4, 24, 2, |inner| {
                prop_oneof![
                    inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
                    (inner.clone(), inner.clone())
                        .prop_map(|(a, b)| Expr::And(Box::new(a), Box::new(b))),
                    (inner.clone(), inner.clone())
                        .prop_map(|(a, b)| Expr::Or(Box::new(a), Box::new(b))),
                    (inner.clone(), inner.clone()).prop_map(|(a, b)| {
                        Expr::Compare(Comparison::Equal, Box::new(a), Box::new(b))
                    }),
                    (inner, any::<bool>())
                        .prop_map(|(of, negated)| Expr::IsNull { of: Box::new(of), negated }),
                ]
            })
            .boxed()
    }

    proptest! {
        #[test]
        fn a_printed_condition_is_read_as_the_same_tree(expr in condition()) {
            let text = expr.to_string();
            // Numbers at the end of what doubles hold have three hundred digits.
            prop_assume!(text.len() <= TEXT_LIMIT);
            let read = Expr::parse(&text, &fields(), Scope::Row);
            prop_assert_eq!(read, Ok(expr), "{}", text);
        }

        #[test]
        fn reading_never_panics(text in ".{0,60}") {
            let _ = Expr::parse(&text, &fields(), Scope::Row);
        }

        #[test]
        fn reading_what_looks_like_a_condition_never_panics(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "n", "paid", "name", "ok", "at", "not", "and", "or", "is", "null", "in", "(", ")", ",", "=", "<", "-",
                "+", "*", "/", "1", "0.5", "1e", "'a'", "'", "\"", "date", "interval", "'P1D'", "rows", "sum", "true",
            ]), 0..24),
        ) {
            let text = words.join(" ");
            for scope in [Scope::Row, Scope::Aggregate] {
                if let Ok(expr) = Expr::parse(&text, &fields(), scope) {
                    let _ = expr.value(&|_| None);
                    prop_assert_eq!(Expr::parse(&expr.to_string(), &fields(), scope), Ok(expr));
                }
            }
        }
    }
}
