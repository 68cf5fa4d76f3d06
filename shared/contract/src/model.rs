//! What a contract says, once it has been read: no JSON below this line.

use jiff::SignedDuration;
use regex::Regex;

use crate::lint::{Findings, read};

/// A dataset's contract.
#[derive(Clone, Debug)]
pub struct Contract {
    pub title: Option<String>,
    pub description: Option<String>,
    /// `major.minor.patch`; a published version never changes.
    pub version: String,
    pub team: Team,
    pub format: Format,
    /// Where the rows' time is; without it the table has no partitions and nothing is ever late.
    pub event_time: Option<EventTime>,
    /// How long after the newest event a day stays open.
    pub allowed_lateness: SignedDuration,
    pub bad_rows: BadRows,
    pub reupload: Reupload,
    pub unknown_fields: UnknownFields,
    /// In the document's order, which is the table's.
    pub fields: Vec<Field>,
}

/// Who answers for the dataset (Open Data Contract Standard: team).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Team {
    pub name: String,
    pub contact: Option<String>,
}

/// How a source writes its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Csv(CsvFormat),
    Jsonl(JsonlFormat),
}

impl Format {
    /// How the object is packed.
    pub fn compression(&self) -> Compression {
        match self {
            Self::Csv(csv) => csv.compression,
            Self::Jsonl(jsonl) => jsonl.compression,
        }
    }
}

/// Comma-separated values (RFC 4180), with a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFormat {
    pub delimiter: u8,
    /// Cells that stand for null, quoted or not.
    pub null_tokens: Vec<String>,
    pub line_limit: usize,
    pub compression: Compression,
}

/// JSON Lines: one object a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonlFormat {
    pub line_limit: usize,
    pub compression: Compression,
}

/// How the object is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// By the object's first bytes.
    Detect,
    None,
    Gzip,
    Zstd,
}

/// Which column says when a row happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// Index into [`Contract::fields`].
    pub field: usize,
    pub grain: Grain,
    /// How far after its landing a row may claim to have happened.
    pub max_ahead: SignedDuration,
}

/// The partitions of the table: a transform of the event time, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    Hour,
    Day,
    Month,
    None,
}

/// How many bad rows an object may have and still be published without them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadRows {
    pub max_fraction: f64,
}

/// What uploading a source again means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reupload {
    /// The newest version that passed is published, in place of the older one's rows.
    Replace,
    /// Every version is published.
    Append,
    /// The oldest version that passed stays.
    Reject,
}

/// What happens to a field that the contract does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// It is left out of the table, and its name kept in the proposal.
    Drop,
    /// It is an error: of the object for CSV, of the row for JSON Lines.
    Reject,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    /// 64 bits, signed.
    Integer,
    /// IEEE 754 double.
    Number,
    String,
    /// A string of format `date`.
    Date,
    /// A string of format `date-time`, kept as microseconds UTC.
    DateTime,
}

/// One property of the domain object, and its column.
#[derive(Clone, Debug)]
pub struct Field {
    /// The property's name, which is the source's.
    pub source: String,
    /// The column's name.
    pub name: String,
    pub kind: Kind,
    /// Whether null is a value of it.
    pub nullable: bool,
    /// Whether it must be there.
    pub required: bool,
    pub rules: Vec<Rule>,
    pub description: Option<String>,
    pub unit: Option<String>,
}

impl Field {
    /// Whether every accepted row has a value, so that the table's column is required too.
    pub fn always_present(&self) -> bool {
        self.required && !self.nullable
    }
}

/// A bound of a number, in the type of its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    Integer(i64),
    Number { value: f64, exclusive: bool },
}

/// A check of a value that is not null. Each names the keyword it comes from.
#[derive(Clone, Debug)]
pub enum Rule {
    /// For integers, exclusive and fractional bounds have become the next whole number.
    Minimum {
        keyword: &'static str,
        bound: Bound,
        written: String,
    },
    Maximum {
        keyword: &'static str,
        bound: Bound,
        written: String,
    },
    /// In characters.
    MinLength(usize),
    MaxLength(usize),
    Pattern(Regex),
    /// `enum` or `const`.
    OneOf {
        keyword: &'static str,
        values: Allowed,
        written: String,
    },
}

/// The values of an `enum`, in the type of their column.
#[derive(Clone, Debug, PartialEq)]
pub enum Allowed {
    Booleans(Vec<bool>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Strings(Vec<String>),
}

impl Rule {
    /// The JSON Schema keyword.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Minimum { keyword, .. }
            | Self::Maximum { keyword, .. }
            | Self::OneOf { keyword, .. } => keyword,
            Self::MinLength(_) => "minLength",
            Self::MaxLength(_) => "maxLength",
            Self::Pattern(_) => "pattern",
        }
    }

    /// What it demands, for people.
    pub fn demand(&self) -> String {
        match self {
            Self::Minimum { keyword, written, .. } | Self::Maximum { keyword, written, .. } => {
                format!("{keyword} is {written}")
            }
            Self::MinLength(n) => format!("at least {n} characters"),
            Self::MaxLength(n) => format!("at most {n} characters"),
            Self::Pattern(pattern) => format!("must match {}", pattern.as_str()),
            Self::OneOf { written, .. } => format!("must be one of {written}"),
        }
    }
}

impl Kind {
    /// What a value of it looks like, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean (true or false)",
            Self::Integer => "an integer of 64 bits",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Date => "a date (YYYY-MM-DD)",
            Self::DateTime => "a date-time (RFC 3339)",
        }
    }
}

impl Contract {
    /// The largest document that is read at all.
    pub const SIZE_LIMIT: u64 = 1 << 20;

    /// Reads a document and lints it; every finding is reported, not only the first.
    pub fn parse(document: &[u8]) -> Result<Self, Findings> {
        read(document)
    }

    /// The column that says when a row happened.
    pub fn event_field(&self) -> Option<&Field> {
        self.event_time.as_ref().and_then(|e| self.fields.get(e.field))
    }
}
