//! A first contract drafted from real rows, and amendments for fields that a contract does not know.
//!
//! A draft is a document that [`Contract::parse`] accepts as it stands, and of which every row that it was drafted from
//! is valid; its owner tightens it. Only rows without a single property give a document without columns, which is no
//! contract yet. What is proposed, all of it from the rows seen:
//!
//! | what | when |
//! |---|---|
//! | `integer`, `number`, `boolean`, format `date` or `date-time` | every value is one; integers with leading zeros are strings |
//! | `decimal(18,s)` | fractions in a column named like money, of one scale from 1 to 6. JSON does not keep trailing zeros: there, the largest scale seen, at least 2 |
//! | `decimal(38,0)` | JSON integers beyond 64 bits |
//! | logical type `json` | several JSON types, nothing but null, an object or a list that is always empty, or nesting beyond 16 levels |
//! | null, not required | a null or, in CSV, a null token; an absent property is only not required |
//! | other formats | 20 values or more, all of that format; never `hostname`, which most words are |
//! | `minimum` 0 | nothing is negative |
//! | `minimum` and `maximum` | integers that reach both ends of 0–23, 1–12, 1–31, 0–59 or 0–100 and take half of the values between |
//! | `enum` | strings: 20 distinct values or fewer in 100 rows or more, each seen twice or more and ten times on average |
//! | `pattern` | strings: more than 20 distinct values, all of one length up to 12, of ASCII letters and digits only |
//! | `maxLength` | other strings of up to 1024 characters: the next of 16, 32, 64, … |
//! | `event_time` | a date-time or date that is always there, names like `*time*`, `*date*`, `*_at` and date-times first |
//! | `key` | two rows or more, and the first column, else pair of neighbours, of integers, strings or dates always there and never twice |
//!
//! Memory is bounded whatever the rows are: values beyond 1000 distinct ones of a column are only counted, columns beyond
//! 2000 are left out. A document that would still be too large goes without bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::datum::Datum;
use crate::format::Format;
use crate::model::{Contract, RowFormat};
use crate::num::Num;
use crate::pointer::segment;
use crate::time;
use crate::types::{decimal, is_column_name, snake_case};

/// How the rows are written that a draft is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceFormat {
    Csv {
        delimiter: u8,
        null_tokens: Vec<String>,
    },
    Jsonl,
    /// Its unknown fields alone: a draft is not made from it.
    Parquet,
}

impl From<&RowFormat> for SourceFormat {
    fn from(format: &RowFormat) -> Self {
        match format {
            RowFormat::Csv(csv) => {
                Self::Csv { delimiter: csv.delimiter, null_tokens: csv.null_tokens.clone() }
            }
            RowFormat::Jsonl(_) => Self::Jsonl,
            RowFormat::Parquet(_) => Self::Parquet,
        }
    }
}

/// A contract in the making.
pub struct Draft {
    dataset: String,
    format: SourceFormat,
    /// The row as a whole, an object.
    root: Properties,
    /// The values of a column and the one after it, together.
    pairs: Vec<Distinct>,
    budget: Budget,
}

impl Draft {
    pub fn new(dataset: &str, format: SourceFormat) -> Self {
        Self {
            dataset: dataset.to_owned(),
            format,
            root: Properties::default(),
            pairs: Vec::new(),
            budget: Budget::default(),
        }
    }

    /// Learns from a row of JSON. What is no object is no row.
    pub fn add_row(&mut self, row: &Datum<'_>) {
        let Datum::Object(properties) = row else { return };
        self.root.objects += 1;
        for (hint, (name, value)) in properties.iter().enumerate() {
            if let Some(place) = self.root.place(hint, name, &mut self.budget) {
                place.see(value, 0, &mut self.budget);
            }
        }
        self.see_pairs();
    }

    /// Learns from a row of CSV. A cell without a name is passed over; a name without a cell is absent.
    pub fn add_cells(&mut self, names: &[&str], cells: &[&str]) {
        let SourceFormat::Csv { null_tokens, .. } = &self.format else { return };
        self.root.objects += 1;
        for (hint, (name, cell)) in names.iter().zip(cells).enumerate() {
            if let Some(place) = self.root.place(hint, name, &mut self.budget) {
                place.see_cell(cell, null_tokens);
            }
        }
        self.see_pairs();
    }

    /// The rows seen.
    pub fn rows(&self) -> u64 {
        self.root.objects
    }

    /// The null tokens given, and those that a second pass had better be given: they stand in columns whose other values
    /// are all numbers or dates. A token stands for null in every column, also where it is a word.
    pub fn null_tokens(&self) -> Vec<String> {
        let SourceFormat::Csv { null_tokens, .. } = &self.format else { return Vec::new() };
        let mut tokens = null_tokens.clone();
        let proposed = |token: &str| {
            self.root.all.iter().any(|(_, place)| {
                let shape = place.shape(true);
                let measured =
                    matches!(shape, Shape::Integer | Shape::Number | Shape::Date | Shape::DateTime);
                measured && place.tokens.contains_key(token)
            })
        };
        tokens.extend(NULL_TOKENS.iter().filter(|t| proposed(t)).map(|t| (*t).to_owned()));
        tokens
    }

    /// The document.
    pub fn finish(mut self) -> Value {
        let csv = matches!(self.format, SourceFormat::Csv { .. });
        for (_, place) in &mut self.root.all {
            place.settle();
        }
        let document = self.document(&Drafting { csv, bounds: true });
        // Measured as people will keep it.
        let size = serde_json::to_vec_pretty(&document).map_or(u64::MAX, |text| text.len() as u64);
        if size <= Contract::SIZE_LIMIT {
            return document;
        }
        self.document(&Drafting { csv, bounds: false })
    }

    fn document(&self, drafting: &Drafting) -> Value {
        let mut settings = Map::new();
        settings.insert("version".to_owned(), json!("0.1.0"));
        settings.insert("team".to_owned(), json!({"name": "TODO: who answers for this data"}));
        let format = match &self.format {
            SourceFormat::Csv { delimiter, null_tokens } => json!({
                "type": "csv",
                "delimiter": char::from(*delimiter).to_string(),
                "header": true,
                "null_tokens": null_tokens,
            }),
            SourceFormat::Jsonl => json!({"type": "jsonl"}),
            SourceFormat::Parquet => json!({"type": "parquet"}),
        };
        settings.insert("format".to_owned(), format);
        let names = self.root.column_names();
        let columns: Vec<_> = self
            .root
            .all
            .iter()
            .zip(&names)
            .map(|((_, place), name)| Column {
                name,
                place,
                shape: place.shape(drafting.csv),
                always: place.present == self.rows() && place.nulls == 0,
            })
            .collect();
        if let Some(name) = event_time(&columns) {
            settings.insert("event_time".to_owned(), json!({"column": name, "grain": "day"}));
        }
        if let Some(key) = self.key(&columns) {
            settings.insert("key".to_owned(), json!(key));
        }
        settings.insert("bad_rows".to_owned(), json!({"max_fraction": 0}));

        let mut document = Map::new();
        let draft = "https://json-schema.org/draft/2020-12/schema";
        document.insert("$schema".to_owned(), json!(draft));
        document.insert("title".to_owned(), json!(self.dataset));
        document.insert("type".to_owned(), json!("object"));
        document.insert("x-sluicegate".to_owned(), Value::Object(settings));
        self.root.describe(&mut document, drafting);
        Value::Object(document)
    }

    /// Two neighbours' values are one value of their pair.
    fn see_pairs(&mut self) {
        let row = self.rows();
        self.pairs.resize_with(self.root.all.len(), Distinct::default);
        let neighbours = self.root.all.iter().zip(self.root.all.iter().skip(1));
        for (((_, a), (_, b)), pair) in neighbours.zip(&mut self.pairs) {
            if let (Some(a), Some(b)) = (a.hash_in(row), b.hash_in(row)) {
                pair.insert(hash(&(a, b)));
            }
        }
    }

    /// The first column that tells the rows apart, or the first two neighbours that do.
    fn key<'a>(&self, columns: &[Column<'a>]) -> Option<Vec<&'a str>> {
        let rows = usize::try_from(self.rows()).ok().filter(|rows| *rows >= 2)?;
        let telling = |column: &Column<'_>| {
            let identity = matches!(
                column.shape,
                Shape::Integer | Shape::Text | Shape::Date | Shape::DateTime
            );
            identity && column.always
        };
        let unique = |distinct: &Distinct| distinct.count() == Some(rows);
        let single = columns.iter().find(|c| telling(c) && unique(&c.place.distinct));
        let pair = || {
            let neighbours = columns.iter().zip(columns.iter().skip(1)).zip(&self.pairs);
            let mut pairs = neighbours.filter(|((a, b), _)| telling(a) && telling(b));
            let ((a, b), _) = pairs.find(|(_, pair)| unique(pair))?;
            Some(vec![a.name, b.name])
        };
        single.map(|c| vec![c.name]).or_else(pair)
    }
}

/// A column of the row itself.
struct Column<'a> {
    name: &'a str,
    place: &'a Place,
    shape: Shape,
    /// Whether every row has a value of it.
    always: bool,
}

fn event_time<'a>(columns: &[Column<'a>]) -> Option<&'a str> {
    let rank = |column: &Column<'_>| {
        let name = column.name;
        let suggests = name.contains("time") || name.contains("date") || name.ends_with("_at");
        (!suggests, column.shape != Shape::DateTime)
    };
    let timed = |c: &&Column<'_>| c.always && matches!(c.shape, Shape::Date | Shape::DateTime);
    columns.iter().filter(timed).min_by_key(|c| rank(c)).map(|c| c.name)
}

/// Distinct values of a column that are remembered.
const DISTINCT_LIMIT: usize = 1000;
/// Values of a column that are remembered as they are, and their bytes: those of an `enum`.
const ENUM_LIMIT: usize = 20;
const ENUM_VALUE_LIMIT: usize = 128;
/// Properties of a draft, and the bytes of their names together.
const COLUMN_LIMIT: usize = 2000;
const NAMES_LIMIT: usize = 64 << 10;
/// Levels of objects and lists in a column.
const NESTING_LIMIT: usize = 16;
/// Values that must agree before a format is proposed.
const FORMAT_EVIDENCE: u64 = 20;
/// What sources write for null.
const NULL_TOKENS: [&str; 6] = ["NA", "N/A", "NULL", "null", "\\N", ""];
/// Formats that are proposed on evidence.
const FORMATS: [Format; 7] = [
    Format::Uuid,
    Format::Ipv4,
    Format::Ipv6,
    Format::Email,
    Format::Uri,
    Format::Duration,
    Format::Time,
];
/// Ranges of integers that are closed by their nature: hours, months, days, minutes, percents.
const CLOSED_RANGES: [(i128, i128); 5] = [(0, 23), (1, 12), (1, 31), (0, 59), (0, 100)];
/// Words that columns of money are named by.
const MONEY: [&str; 20] = [
    "price", "amount", "cost", "total", "subtotal", "fee", "tax", "vat", "fare", "charge",
    "payment", "balance", "revenue", "salary", "discount", "refund", "tip", "toll", "usd", "eur",
];

/// How a document is written from what was seen.
struct Drafting {
    csv: bool,
    /// Whether bounds are proposed, or types and formats only.
    bounds: bool,
}

/// What may still be remembered.
struct Budget {
    columns: usize,
    name_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { columns: COLUMN_LIMIT, name_bytes: NAMES_LIMIT }
    }
}

/// The properties of the objects at one place, in the order of their first appearance.
#[derive(Default)]
struct Properties {
    objects: u64,
    index: BTreeMap<String, usize>,
    all: Vec<(String, Place)>,
}

impl Properties {
    /// The place of a property of the present object; `None` if it comes twice or there is no room for it. The hint is
    /// where it probably is.
    fn place(&mut self, hint: usize, name: &str, budget: &mut Budget) -> Option<&mut Place> {
        let known = match self.all.get(hint) {
            Some((there, _)) if there == name => Some(hint),
            _ => self.index.get(name).copied(),
        };
        let at = match known {
            Some(at) => at,
            None => {
                // As the document will spell it.
                let bytes = serde_json::to_string(name).ok()?.len();
                budget.columns = budget.columns.checked_sub(1)?;
                budget.name_bytes = budget.name_bytes.checked_sub(bytes)?;
                self.index.insert(name.to_owned(), self.all.len());
                self.all.push((name.to_owned(), Place::default()));
                self.all.len() - 1
            }
        };
        let (_, place) = self.all.get_mut(at)?;
        if place.last_object == self.objects {
            return None;
        }
        place.last_object = self.objects;
        place.last_hash = None;
        Some(place)
    }

    /// A column name for each property, no two alike. Those that are column names already keep them.
    fn column_names(&self) -> Vec<String> {
        let mut taken: BTreeSet<String> =
            self.all.iter().filter(|(n, _)| is_column_name(n)).map(|(n, _)| n.clone()).collect();
        let name = |(source, _): &(String, Place)| {
            if is_column_name(source) { source.clone() } else { free_name(source, &mut taken) }
        };
        self.all.iter().map(name).collect()
    }

    /// Writes `required` and `properties`.
    fn describe(&self, schema: &mut Map<String, Value>, drafting: &Drafting) {
        let always =
            |place: &Place| place.present == self.objects && !(drafting.csv && place.nulls > 0);
        let required: Vec<_> =
            self.all.iter().filter(|(_, place)| always(place)).map(|(name, _)| name).collect();
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        let mut properties = Map::new();
        for ((source, place), name) in self.all.iter().zip(self.column_names()) {
            properties.insert(source.clone(), place.property(source, &name, drafting));
        }
        schema.insert("properties".to_owned(), Value::Object(properties));
    }
}

/// A column name for a source's name that is none, and takes it.
fn free_name(source: &str, taken: &mut BTreeSet<String>) -> String {
    let nice: String = snake_case(source).chars().take(100).collect();
    let mut name = nice.clone();
    let mut number = 1u32;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{nice}_{number}");
    }
    name
}

/// What a value is, in the order that [`Place::shape`] reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Boolean,
    Integer,
    Fraction,
    Date,
    DateTime,
    Text,
    Array,
    Object,
}

/// What a column becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Boolean,
    Integer,
    Number,
    Date,
    DateTime,
    Text,
    Array,
    Object,
    Json,
}

/// What was seen at one place of the rows.
#[derive(Default)]
struct Place {
    /// Null is present too.
    present: u64,
    nulls: u64,
    kinds: BTreeSet<Kind>,
    numbers: Option<Numbers>,
    texts: Texts,
    distinct: Distinct,
    /// What could stand for null but was not said to.
    tokens: BTreeMap<&'static str, u64>,
    properties: Properties,
    items: Option<Box<Place>>,
    /// The object, by its number, that had the property last, and the scalar that it was.
    last_object: u64,
    last_hash: Option<u64>,
}

impl Place {
    fn see(&mut self, value: &Datum<'_>, depth: usize, budget: &mut Budget) {
        self.present += 1;
        match value {
            Datum::Null => self.nulls += 1,
            Datum::Boolean(b) => {
                self.kinds.insert(Kind::Boolean);
                self.see_scalar(hash(b));
            }
            Datum::Number(n) => {
                self.kinds.insert(if n.is_whole() { Kind::Integer } else { Kind::Fraction });
                let scale = match n {
                    Num::Exact { scale, .. } => Some(*scale),
                    Num::Double(_) => None,
                };
                self.see_number(*n, scale);
                self.see_scalar(hash(&n.to_string()));
            }
            Datum::Text(text) => {
                self.kinds.insert(text_kind(text));
                self.see_text(text, 1);
            }
            Datum::Array(items) => {
                self.kinds.insert(Kind::Array);
                if depth < NESTING_LIMIT {
                    for item in items {
                        self.items.get_or_insert_default().see(item, depth + 1, budget);
                    }
                }
            }
            Datum::Object(properties) => {
                self.kinds.insert(Kind::Object);
                if depth < NESTING_LIMIT {
                    self.properties.objects += 1;
                    for (hint, (name, value)) in properties.iter().enumerate() {
                        if let Some(place) = self.properties.place(hint, name, budget) {
                            place.see(value, depth + 1, budget);
                        }
                    }
                }
            }
        }
    }

    fn see_cell(&mut self, cell: &str, null_tokens: &[String]) {
        self.present += 1;
        if null_tokens.iter().any(|token| token == cell) {
            self.nulls += 1;
        } else if let Some(token) = NULL_TOKENS.iter().find(|token| **token == cell) {
            *self.tokens.entry(token).or_default() += 1;
            self.last_hash = Some(hash(cell));
        } else {
            let (kind, number) = cell_kind(cell);
            self.kinds.insert(kind);
            if let Some(number) = number {
                self.see_number(number, written_scale(cell));
            }
            self.see_text(cell, 1);
        }
    }

    fn see_number(&mut self, number: Num, scale: Option<u8>) {
        let numbers = self.numbers.get_or_insert(Numbers {
            min: number,
            max: number,
            scales: scale.map(|s| (s, s)),
        });
        numbers.min = numbers.min.min(number);
        numbers.max = numbers.max.max(number);
        let wider = |(least, most): (u8, u8), scale: u8| (least.min(scale), most.max(scale));
        numbers.scales = numbers.scales.zip(scale).map(|(scales, scale)| wider(scales, scale));
    }

    fn see_text(&mut self, text: &str, times: u64) {
        self.texts.see(text, times);
        self.see_scalar(hash(text));
    }

    fn see_scalar(&mut self, hash: u64) {
        self.distinct.insert(hash);
        self.last_hash = Some(hash);
    }

    /// The scalar that the object of this number had.
    fn hash_in(&self, object: u64) -> Option<u64> {
        self.last_hash.filter(|_| self.last_object == object)
    }

    /// Takes for text what could have stood for null.
    fn settle(&mut self) {
        for (token, times) in std::mem::take(&mut self.tokens) {
            self.kinds.insert(Kind::Text);
            self.see_text(token, times);
        }
    }

    fn shape(&self, csv: bool) -> Shape {
        let kinds: Vec<Kind> = self.kinds.iter().copied().collect();
        match kinds.as_slice() {
            [] if csv => Shape::Text,
            [Kind::Boolean] => Shape::Boolean,
            [Kind::Integer] => Shape::Integer,
            [Kind::Fraction] | [Kind::Integer, Kind::Fraction] => Shape::Number,
            [Kind::Date] => Shape::Date,
            [Kind::DateTime] => Shape::DateTime,
            [Kind::Array] if self.items.is_some() => Shape::Array,
            [Kind::Object] if !self.properties.all.is_empty() => Shape::Object,
            [Kind::Date | Kind::DateTime | Kind::Text, ..]
                if !kinds.contains(&Kind::Array) && !kinds.contains(&Kind::Object) =>
            {
                Shape::Text
            }
            _ if csv => Shape::Text,
            _ => Shape::Json,
        }
    }

    /// The schema of a property.
    fn property(&self, source: &str, name: &str, drafting: &Drafting) -> Value {
        let mut schema = self.schema(source, drafting);
        if name != source {
            let about = schema.entry("x-sluicegate").or_insert_with(|| json!({}));
            if let Some(about) = about.as_object_mut() {
                about.shift_insert(0, "name".to_owned(), json!(name));
            }
        }
        Value::Object(schema)
    }

    fn schema(&self, source: &str, drafting: &Drafting) -> Map<String, Value> {
        let mut schema = Map::new();
        match self.shape(drafting.csv) {
            Shape::Boolean => self.typed(&mut schema, "boolean"),
            Shape::Integer => self.integer(&mut schema, drafting),
            Shape::Number => self.number(&mut schema, source, drafting),
            Shape::Date => self.timed(&mut schema, Format::Date),
            Shape::DateTime => self.timed(&mut schema, Format::DateTime),
            Shape::Text => self.text(&mut schema, drafting),
            Shape::Array => {
                self.typed(&mut schema, "array");
                let items = self.items.as_ref().map(|items| items.schema(source, drafting));
                schema.insert("items".to_owned(), Value::Object(items.unwrap_or_default()));
            }
            Shape::Object => {
                self.typed(&mut schema, "object");
                self.properties.describe(&mut schema, drafting);
            }
            Shape::Json => self.json(&mut schema),
        }
        schema
    }

    fn typed(&self, schema: &mut Map<String, Value>, ty: &str) {
        let value = if self.nulls > 0 { json!([ty, "null"]) } else { json!(ty) };
        schema.insert("type".to_owned(), value);
    }

    fn timed(&self, schema: &mut Map<String, Value>, format: Format) {
        self.typed(schema, "string");
        schema.insert("format".to_owned(), json!(format.name()));
    }

    fn integer(&self, schema: &mut Map<String, Value>, drafting: &Drafting) {
        let Some(numbers) = &self.numbers else { return self.typed(schema, "integer") };
        let both = |fits: &dyn Fn(Num) -> bool| fits(numbers.min) && fits(numbers.max);
        if both(&|n| n.to_decimal(0).is_some_and(|n| i64::try_from(n).is_ok())) {
            self.typed(schema, "integer");
        } else if both(&|n| decimal(n, 38, 0).is_some()) {
            self.typed(schema, "integer");
            logical(schema, "decimal(38,0)");
        } else {
            self.typed(schema, "number");
        }
        if !drafting.bounds {
            return;
        }
        let closed = CLOSED_RANGES.iter().find(|(low, high)| {
            let ends = numbers.min == Num::whole(*low) && numbers.max == Num::whole(*high);
            let half = usize::try_from((high - low) / 2).unwrap_or(usize::MAX);
            ends && self.distinct.count().is_some_and(|count| count > half)
        });
        if let Some((low, high)) = closed
            .and_then(|(low, high)| Some((i64::try_from(*low).ok()?, i64::try_from(*high).ok()?)))
        {
            schema.insert("minimum".to_owned(), json!(low));
            schema.insert("maximum".to_owned(), json!(high));
        } else if numbers.min >= Num::whole(0) {
            schema.insert("minimum".to_owned(), json!(0));
        }
    }

    fn number(&self, schema: &mut Map<String, Value>, source: &str, drafting: &Drafting) {
        self.typed(schema, "number");
        let Some(numbers) = &self.numbers else { return };
        let scale = match numbers.scales {
            Some((least, most)) if drafting.csv => Some(most).filter(|most| least == *most),
            scales => scales.map(|(_, most)| most.max(2)),
        };
        if let Some(scale) = scale.filter(|scale| (1..=6).contains(scale) && is_money(source))
            && decimal(numbers.min, 18, scale).is_some()
            && decimal(numbers.max, 18, scale).is_some()
        {
            logical(schema, &format!("decimal(18,{scale})"));
        }
        if drafting.bounds && numbers.min >= Num::whole(0) {
            schema.insert("minimum".to_owned(), json!(0));
        }
    }

    fn text(&self, schema: &mut Map<String, Value>, drafting: &Drafting) {
        self.typed(schema, "string");
        let texts = &self.texts;
        if let Some(format) = texts.format() {
            schema.insert("format".to_owned(), json!(format.name()));
        } else if !drafting.bounds || texts.count == 0 {
            // Nothing is known of its values, or nothing is to be said.
        } else if let Some(values) = texts.choices() {
            let null = (self.nulls > 0).then_some(Value::Null);
            let values: Vec<_> = values.map(Value::from).chain(null).collect();
            schema.insert("enum".to_owned(), Value::Array(values));
        } else if let Some(pattern) = texts.code(&self.distinct) {
            schema.insert("pattern".to_owned(), json!(pattern));
        } else if texts.longest <= 1024 {
            let most = texts.longest.max(16).next_power_of_two();
            schema.insert("maxLength".to_owned(), json!(most));
        }
    }

    fn json(&self, schema: &mut Map<String, Value>) {
        let mut names: Vec<_> = self
            .kinds
            .iter()
            .map(|kind| match kind {
                Kind::Boolean => "boolean",
                Kind::Integer => "integer",
                Kind::Fraction => "number",
                Kind::Date | Kind::DateTime | Kind::Text => "string",
                Kind::Array => "array",
                Kind::Object => "object",
            })
            .collect();
        names.dedup();
        if names.contains(&"number") {
            names.retain(|name| *name != "integer");
        }
        // Of a place that was only ever null, nothing is known.
        if !names.is_empty() {
            names.extend((self.nulls > 0).then_some("null"));
            let one = names.first().filter(|_| names.len() == 1);
            let types = one.map_or_else(|| json!(names), |name| json!(name));
            schema.insert("type".to_owned(), types);
        }
        logical(schema, "json");
    }
}

fn logical(schema: &mut Map<String, Value>, name: &str) {
    schema.insert("x-sluicegate".to_owned(), json!({"logicalType": name}));
}

fn is_money(source: &str) -> bool {
    let money = |word: &str| MONEY.iter().any(|m| word == *m || word.strip_suffix('s') == Some(m));
    snake_case(source).split('_').any(money)
}

/// What a string is. A date-time that no column can hold is text.
fn text_kind(text: &str) -> Kind {
    if time::date(text).is_some() {
        Kind::Date
    } else if time::date_time(text).is_some() {
        Kind::DateTime
    } else {
        Kind::Text
    }
}

/// What a cell is, and its number.
fn cell_kind(cell: &str) -> (Kind, Option<Num>) {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let whole = digits.bytes().all(|b| b.is_ascii_digit());
    match Num::parse(cell) {
        // Digits beyond 64 bits are a name, not a count.
        Some(n) if whole && n.to_decimal(0).is_some_and(|n| i64::try_from(n).is_ok()) => {
            (Kind::Integer, Some(n))
        }
        Some(n) if !whole => (Kind::Fraction, Some(n)),
        Some(_) => (Kind::Text, None),
        None if cell.eq_ignore_ascii_case("true") || cell.eq_ignore_ascii_case("false") => {
            (Kind::Boolean, None)
        }
        None => (text_kind(cell), None),
    }
}

/// Digits behind the point, as written.
fn written_scale(cell: &str) -> Option<u8> {
    let fraction = cell.split_once('.').map_or("", |(_, fraction)| fraction);
    let plain = !cell.contains(['e', 'E']);
    u8::try_from(fraction.len()).ok().filter(|_| plain)
}

/// A number's worth of a value; equal values have equal ones, and unequal ones practically never.
fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

struct Numbers {
    min: Num,
    max: Num,
    /// The least and the most digits behind the point; `None` if a value does not tell.
    scales: Option<(u8, u8)>,
}

/// The distinct values of a place, as long as there are not too many.
#[derive(Default)]
struct Distinct {
    hashes: BTreeSet<u64>,
    capped: bool,
}

impl Distinct {
    fn insert(&mut self, hash: u64) {
        if self.capped {
            return;
        }
        self.hashes.insert(hash);
        if self.hashes.len() > DISTINCT_LIMIT {
            self.hashes = BTreeSet::new();
            self.capped = true;
        }
    }

    /// How many; `None` if there are more than are remembered.
    fn count(&self) -> Option<usize> {
        (!self.capped).then_some(self.hashes.len())
    }
}

/// What the texts of a place have in common.
struct Texts {
    count: u64,
    /// In characters.
    shortest: usize,
    longest: usize,
    classes: Classes,
    /// Formats that every text is of.
    formats: Vec<Format>,
    /// How often each text came, as long as they are few and short.
    values: BTreeMap<String, u64>,
    many: bool,
}

/// The kinds of characters that texts have.
#[derive(Default)]
struct Classes {
    digit: bool,
    upper: bool,
    lower: bool,
    other: bool,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            count: 0,
            shortest: usize::MAX,
            longest: 0,
            classes: Classes::default(),
            formats: FORMATS.to_vec(),
            values: BTreeMap::new(),
            many: false,
        }
    }
}

impl Texts {
    fn see(&mut self, text: &str, times: u64) {
        self.count += times;
        let length = text.chars().count();
        self.shortest = self.shortest.min(length);
        self.longest = self.longest.max(length);
        for byte in text.bytes() {
            match byte {
                b'0'..=b'9' => self.classes.digit = true,
                b'A'..=b'Z' => self.classes.upper = true,
                b'a'..=b'z' => self.classes.lower = true,
                _ => self.classes.other = true,
            }
        }
        self.formats.retain(|format| format.is_match(text));
        if self.many {
            return;
        }
        if let Some(times_before) = self.values.get_mut(text) {
            *times_before += times;
        } else if text.len() > ENUM_VALUE_LIMIT || self.values.len() >= ENUM_LIMIT {
            self.many = true;
            self.values = BTreeMap::new();
        } else {
            self.values.insert(text.to_owned(), times);
        }
    }

    fn format(&self) -> Option<Format> {
        self.formats.first().copied().filter(|_| self.count >= FORMAT_EVIDENCE)
    }

    /// The values of an `enum`.
    fn choices(&self) -> Option<impl Iterator<Item = &str>> {
        let often = self.values.values().all(|times| *times >= 2)
            && self.count >= 10 * self.values.len() as u64;
        let few = !self.many && self.count >= 100;
        (few && often).then(|| self.values.keys().map(String::as_str))
    }

    /// The pattern of a code of fixed length.
    fn code(&self, distinct: &Distinct) -> Option<String> {
        let fixed = self.shortest == self.longest && (1..=12).contains(&self.longest);
        let varied = distinct.count().is_none_or(|count| count > ENUM_LIMIT);
        if !fixed || !varied || self.classes.other {
            return None;
        }
        let ranges =
            [(self.classes.digit, "0-9"), (self.classes.upper, "A-Z"), (self.classes.lower, "a-z")];
        let class: String = ranges.iter().filter(|(seen, _)| *seen).map(|(_, r)| *r).collect();
        Some(format!("^[{class}]{{{}}}$", self.longest))
    }
}

/// A field that a contract does not know, and the property that it would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Amendment {
    /// JSON pointer to its place in a row, `*` for the items of a list: `/lines/*/tax`. A property called `*` is `~2`.
    pub pointer: String,
    /// The property's name.
    pub name: String,
    /// Its schema: type and format, no bounds. It is optional.
    pub schema: Value,
    /// Rows that have it.
    pub rows: u64,
    /// Their share of the rows read.
    pub share: f64,
    /// Three values or fewer, cut.
    pub examples: Vec<String>,
}

/// The fields that a contract does not know, as they come. Bounded: places beyond the first 100 are passed over.
pub struct Unknown {
    format: SourceFormat,
    places: Vec<Occurrences>,
    budget: Budget,
}

/// An unknown field.
struct Occurrences {
    pointer: String,
    name: String,
    place: Place,
    rows: u64,
    last_row: Option<u64>,
    examples: Vec<String>,
}

/// Unknown places that are remembered, the bytes of one's pointer, the examples of each and their characters.
const PLACE_LIMIT: usize = 100;
const POINTER_LIMIT: usize = 1024;
const EXAMPLE_LIMIT: usize = 3;
const EXAMPLE_LENGTH: usize = 40;

impl Unknown {
    pub fn new(format: SourceFormat) -> Self {
        Self { format, places: Vec::new(), budget: Budget::default() }
    }

    /// Learns from a field that the contract does not know, at a place as [`crate::unknown_fields`] gives it. `row` is
    /// any number that tells the rows apart.
    pub fn add(&mut self, row: u64, pointer: &str, value: &Datum<'_>) {
        if pointer.len() > POINTER_LIMIT {
            return;
        }
        let pointer = folded(pointer);
        let known = self.places.iter().position(|p| p.pointer == pointer);
        let at = known.unwrap_or(self.places.len());
        if known.is_none() && self.places.len() < PLACE_LIMIT {
            let name = unescaped(pointer.rsplit('/').next().unwrap_or_default());
            self.places.push(Occurrences {
                pointer,
                name,
                place: Place::default(),
                rows: 0,
                last_row: None,
                examples: Vec::new(),
            });
        }
        let Some(found) = self.places.get_mut(at) else { return };
        if found.last_row != Some(row) {
            found.last_row = Some(row);
            found.rows += 1;
        }
        let nulls = found.place.nulls;
        match (&self.format, value) {
            (SourceFormat::Csv { null_tokens, .. }, Datum::Text(cell)) => {
                found.place.see_cell(cell, null_tokens);
            }
            (_, value) => found.place.see(value, 0, &mut self.budget),
        }
        if found.place.nulls == nulls && found.examples.len() < EXAMPLE_LIMIT {
            let shown = match value {
                Datum::Text(text) => text.chars().take(EXAMPLE_LENGTH).collect(),
                other => other.to_string().chars().take(EXAMPLE_LENGTH).collect::<String>(),
            };
            if !found.examples.contains(&shown) {
                found.examples.push(shown);
            }
        }
    }

    /// What to add to the contract, in the order of first appearance.
    pub fn finish(self, rows_read: u64) -> Vec<Amendment> {
        let csv = matches!(self.format, SourceFormat::Csv { .. });
        let drafting = Drafting { csv, bounds: false };
        let amendment = |mut found: Occurrences| {
            found.place.settle();
            let name = if is_column_name(&found.name) {
                found.name.clone()
            } else {
                free_name(&found.name, &mut BTreeSet::new())
            };
            #[allow(clippy::cast_precision_loss, reason = "a share is for people")]
            let share = found.rows as f64 / rows_read.max(found.rows).max(1) as f64;
            Amendment {
                schema: found.place.property(&found.name, &name, &drafting),
                pointer: found.pointer,
                name: found.name,
                rows: found.rows,
                share,
                examples: found.examples,
            }
        };
        self.places.into_iter().map(amendment).collect()
    }
}

/// A place in one row as a place in all rows. What is all digits and not the last is taken for an item's number.
fn folded(pointer: &str) -> String {
    let last = pointer.matches('/').count();
    let fold = |(i, segment): (usize, &str)| {
        let number = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
        if number && i < last { "*".to_owned() } else { segment.replace('*', "~2") }
    };
    pointer.split('/').enumerate().map(fold).collect::<Vec<_>>().join("/")
}

fn unescaped(segment: &str) -> String {
    crate::pointer::name(&segment.replace("~2", "*"))
}

/// The document with the optional properties added at their places and the version's minor raised; `None` if none can be
/// added or the document is no contract.
///
/// What is known already, has no place, or would leave no contract is passed over. A place inside a definition that
/// several properties share is amended for all of them.
pub fn amend(document: &Value, amendments: &[Amendment]) -> Option<Value> {
    let is_contract = |d: &Value| Contract::parse(d.to_string().as_bytes()).is_ok();
    if !is_contract(document) {
        return None;
    }
    let mut raised = document.clone();
    let version = raised.pointer_mut("/x-sluicegate/version")?;
    *version = json!(next_minor(version.as_str()?)?);
    let mut together = raised.clone();
    let mut added = 0;
    for amendment in amendments {
        added += usize::from(add(&mut together, amendment).is_some());
    }
    if added == 0 {
        return None;
    }
    if is_contract(&together) {
        return Some(together);
    }
    // At least one does not go with the contract: a counterexample may say that there is no such field.
    let mut one_by_one = None;
    for amendment in amendments {
        let mut next = one_by_one.as_ref().unwrap_or(&raised).clone();
        if add(&mut next, amendment).is_some() && is_contract(&next) {
            one_by_one = Some(next);
        }
    }
    one_by_one
}

fn next_minor(version: &str) -> Option<String> {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?, parts.next()?.parse::<u32>().ok()?);
    Some(format!("{major}.{}.0", minor.checked_add(1)?))
}

/// Adds one property; `None` if that cannot be done.
fn add(document: &mut Value, amendment: &Amendment) -> Option<()> {
    let mut segments: Vec<&str> = amendment.pointer.split('/').skip(1).collect();
    segments.pop()?;
    let mut at = String::new();
    for segment in segments {
        at = inside(document, &at, segment, HOPS)?;
    }
    let mut siblings = BTreeMap::new();
    properties(document, &at, HOPS, &mut siblings);
    if siblings.contains_key(&amendment.name) {
        return None;
    }
    let mut schema = amendment.schema.as_object()?.clone();
    let proposed = schema.get("x-sluicegate").and_then(|x| x.get("name")).and_then(Value::as_str);
    let name = proposed.unwrap_or(&amendment.name).to_owned();
    let mut taken: BTreeSet<String> = siblings.into_values().collect();
    if taken.contains(&name) {
        let name = free_name(&name, &mut taken);
        let about = schema.entry("x-sluicegate").or_insert_with(|| json!({}));
        about.as_object_mut()?.insert("name".to_owned(), json!(name));
    }
    let node = document.pointer_mut(&at)?.as_object_mut()?;
    let properties = node.entry("properties").or_insert_with(|| json!({}));
    properties.as_object_mut()?.insert(amendment.name.clone(), Value::Object(schema));
    Some(())
}

/// References that are followed in a row.
const HOPS: usize = 32;

/// The schemas that hold along with the one at a place: those it refers to.
fn along(document: &Value, at: &str) -> Vec<String> {
    let Some(schema) = document.pointer(at) else { return Vec::new() };
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
    let all_of = schema.get("allOf").and_then(Value::as_array).map_or(0, Vec::len);
    let all_of = (0..all_of).map(|i| format!("{at}/allOf/{i}"));
    reference.map(str::to_owned).into_iter().chain(all_of).collect()
}

/// Where the document describes a property of an object, or the items of a list.
fn inside(document: &Value, at: &str, segment_of_row: &str, hops: usize) -> Option<String> {
    let below = if segment_of_row == "*" {
        format!("{at}/items")
    } else {
        format!("{at}/properties/{}", segment(&unescaped(segment_of_row)))
    };
    if document.pointer(&below).is_some() {
        return Some(below);
    }
    let hops = hops.checked_sub(1)?;
    along(document, at).iter().find_map(|at| inside(document, at, segment_of_row, hops))
}

/// Every property of the object at a place, with its column's name.
fn properties(document: &Value, at: &str, hops: usize, found: &mut BTreeMap<String, String>) {
    let own = document.pointer(at).and_then(|s| s.get("properties")).and_then(Value::as_object);
    for (source, schema) in own.into_iter().flatten() {
        let name = schema.get("x-sluicegate").and_then(|x| x.get("name")).and_then(Value::as_str);
        found.insert(source.clone(), name.unwrap_or(source).to_owned());
    }
    if let Some(hops) = hops.checked_sub(1) {
        along(document, at).iter().for_each(|at| properties(document, at, hops, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Type;
    use proptest::prelude::*;

    fn csv(null_tokens: &[&str]) -> SourceFormat {
        let null_tokens = null_tokens.iter().map(|t| (*t).to_owned()).collect();
        SourceFormat::Csv { delimiter: b',', null_tokens }
    }

    fn parsed(document: &Value) -> Contract {
        Contract::parse(document.to_string().as_bytes())
            .unwrap_or_else(|e| panic!("{e}\n{document:#}"))
    }

    fn of_json(rows: &[Value]) -> Value {
        let mut draft = Draft::new("things", SourceFormat::Jsonl);
        rows.iter().for_each(|row| draft.add_row(&Datum::from(row)));
        draft.finish()
    }

    fn of_cells(names: &[&str], rows: &[Vec<String>], null_tokens: &[&str]) -> Value {
        let mut draft = Draft::new("things", csv(null_tokens));
        for row in rows {
            draft.add_cells(names, &row.iter().map(String::as_str).collect::<Vec<_>>());
        }
        draft.finish()
    }

    /// One column of cells, as its property.
    fn column(name: &str, cells: impl IntoIterator<Item = String>) -> Value {
        let rows: Vec<_> = cells.into_iter().map(|cell| vec![cell]).collect();
        let document = of_cells(&[name], &rows, &[""]);
        let contract = parsed(&document);
        for row in &rows {
            assert_eq!(contract.explain(&row_of(&contract, &[name], row)), [], "{document:#}");
        }
        document["properties"][name].clone()
    }

    /// What a row of cells is under a contract.
    fn row_of(contract: &Contract, names: &[&str], cells: &[String]) -> Datum<'static> {
        let RowFormat::Csv(format) = &contract.format else { panic!("not CSV") };
        let mut row = Vec::new();
        for (name, cell) in names.iter().zip(cells) {
            let field = contract.fields.iter().find(|f| f.source == *name).unwrap();
            let text = Datum::Text(cell.clone().into());
            let value = match field.ty {
                _ if format.null_tokens.contains(cell) && field.nullable => Datum::Null,
                _ if format.null_tokens.contains(cell) => continue,
                Type::Boolean => cell.to_lowercase().parse().map_or(text, Datum::Boolean),
                Type::Int | Type::Long | Type::Double | Type::Decimal { .. } => {
                    Num::parse(cell).map_or(text, Datum::Number)
                }
                _ => text,
            };
            row.push(((*name).to_owned().into(), value));
        }
        Datum::Object(row)
    }

    #[test]
    fn flights_become_a_contract_of_their_own() {
        let text = include_str!("../../../examples/flights/2013-01-01.csv");
        let mut lines = text.lines();
        let names: Vec<_> = lines.next().unwrap().split(',').collect();
        let rows: Vec<Vec<String>> =
            lines.map(|line| line.split(',').map(str::to_owned).collect()).collect();
        let document = of_cells(&names, &rows, &["", "NA"]);
        let contract = parsed(&document);
        for row in &rows {
            assert_eq!(contract.explain(&row_of(&contract, &names, row)), []);
        }
        assert_eq!(contract.fields.len(), 19);
        assert_eq!(contract.event_field().unwrap().name, "time_hour");
        let properties = &document["properties"];
        assert_eq!(properties["minute"], json!({"type": "integer", "minimum": 0, "maximum": 59}));
        assert_eq!(properties["dep_delay"], json!({"type": ["integer", "null"]}));
        assert_eq!(properties["origin"], json!({"type": "string", "enum": ["EWR", "JFK", "LGA"]}));
        assert_eq!(properties["dest"], json!({"type": "string", "pattern": "^[A-Z]{3}$"}));
        assert_eq!(properties["time_hour"], json!({"type": "string", "format": "date-time"}));
        let required = document["required"].as_array().unwrap();
        assert!(required.contains(&json!("year")) && !required.contains(&json!("dep_time")));
    }

    #[test]
    fn tokens_for_null_are_proposed_where_the_rest_is_numbers_or_dates() {
        let mut draft = Draft::new("things", csv(&[""]));
        for cells in
            [["1", "NULL", "N/A"], ["NA", "word", "2024-01-01"], ["", "null", "2024-01-02"]]
        {
            draft.add_cells(&["a", "b", "c"], &cells);
        }
        assert_eq!(draft.null_tokens(), ["", "NA", "N/A"]);
        assert_eq!(draft.rows(), 3);
        // Without them, they are text.
        let contract = parsed(&draft.finish());
        assert!(contract.fields.iter().all(|f| f.ty == Type::String));
        assert_eq!(
            contract.fields.iter().map(|f| f.nullable).collect::<Vec<_>>(),
            [true, false, false]
        );
    }

    #[test]
    fn cells_are_what_all_of_them_are() {
        let strings = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let types = [
            (&["1", "-2", "0"][..], json!("integer")),
            (&["1", "2.5"], json!("number")),
            (&["00501", "10001"], json!("string")),
            (&["1", "x"], json!("string")),
            (&["1", ""], json!(["integer", "null"])),
            (&["True", "false"], json!("boolean")),
            (&["true", "1"], json!("string")),
            (&["12345678901234567890"], json!("string")),
            (&["1e3"], json!("number")),
            (&["", ""], json!(["string", "null"])),
            (&["2024-01-01", "2024-01-01T00:00:00Z"], json!("string")),
        ];
        for (cells, ty) in types {
            assert_eq!(column("a", strings(cells))["type"], ty, "{cells:?}");
        }
        assert_eq!(column("a", strings(&["2024-02-29"]))["format"], "date");
        assert_eq!(column("a", strings(&["2024-02-29T10:00:00+01:00"]))["format"], "date-time");
        assert_eq!(column("a", strings(&["2024-02-30"])).get("format"), None);
        // RFC 3339, but no microsecond.
        assert_eq!(column("a", strings(&["2024-02-29T10:00:00.0000001Z"])).get("format"), None);
    }

    #[test]
    fn money_of_one_scale_is_decimal() {
        let prices = || ["10.50", "3.25"].map(str::to_owned);
        assert_eq!(
            column("unit_price", prices())["x-sluicegate"],
            json!({"logicalType": "decimal(18,2)"})
        );
        assert_eq!(column("TotalFees", prices())["x-sluicegate"]["logicalType"], "decimal(18,2)");
        assert_eq!(column("ratio", prices()).get("x-sluicegate"), None);
        assert_eq!(column("price", ["1.5", "1.25"].map(str::to_owned)).get("x-sluicegate"), None);
        let huge = ["12345678901234567.50".to_owned()];
        assert_eq!(column("price", huge).get("x-sluicegate"), None);
        let document = of_json(&[json!({"price": 10.5}), json!({"price": 3})]);
        assert_eq!(document["properties"]["price"]["x-sluicegate"]["logicalType"], "decimal(18,2)");
    }

    #[test]
    fn formats_need_twenty_values_that_agree() {
        let ips = |n: u32| (0..n).map(|i| format!("10.0.0.{i}"));
        assert_eq!(column("ip", ips(20)), json!({"type": "string", "format": "ipv4"}));
        assert_eq!(column("ip", ips(19)), json!({"type": "string", "maxLength": 16}));
        assert_eq!(column("ip", ips(30).chain(["x".to_owned()])).get("format"), None);
    }

    #[test]
    fn bounds_are_generous() {
        let numbers = |range: std::ops::Range<i32>| range.map(|n| n.to_string());
        assert_eq!(
            column("hour", numbers(0..24)),
            json!({"type": "integer", "minimum": 0, "maximum": 23})
        );
        assert_eq!(column("hour", numbers(0..23)), json!({"type": "integer", "minimum": 0}));
        assert_eq!(
            column("hour", ["0", "23"].map(str::to_owned)),
            json!({"type": "integer", "minimum": 0})
        );
        assert_eq!(column("n", numbers(-1..9)), json!({"type": "integer"}));
        let long = |n: usize| column("text", ["x y".to_owned(), "y".repeat(n)]);
        assert_eq!(
            (long(16)["maxLength"].clone(), long(17)["maxLength"].clone()),
            (json!(16), json!(32))
        );
        assert_eq!(
            (long(1024)["maxLength"].clone(), long(1025).get("maxLength")),
            (json!(1024), None)
        );
    }

    #[test]
    fn an_enum_needs_evidence() {
        let words =
            |distinct: usize, rows: usize| (0..rows).map(move |i| format!("w{}", i % distinct));
        assert!(column("a", words(10, 100)).get("enum").is_some());
        assert!(column("a", words(10, 99)).get("enum").is_none());
        assert!(column("a", words(11, 100)).get("enum").is_none());
        assert!(column("a", words(21, 1000)).get("enum").is_none());
        let once = words(2, 100).chain(["once".to_owned()]);
        assert!(column("a", once).get("enum").is_none());
        let nullable = words(2, 100).chain([String::new()]);
        assert_eq!(
            column("a", nullable),
            json!({"type": ["string", "null"], "enum": ["w0", "w1", null]})
        );
    }

    #[test]
    fn codes_of_one_shape_have_a_pattern() {
        let codes = |n: u32| (0..n).map(|i| format!("{:02}A", i));
        assert_eq!(
            column("code", codes(21)),
            json!({"type": "string", "pattern": "^[0-9A-Z]{3}$"})
        );
        assert_eq!(column("code", codes(20)), json!({"type": "string", "maxLength": 16}));
        assert_eq!(column("code", codes(30).chain(["0-A".to_owned()])).get("pattern"), None);
    }

    #[test]
    fn nested_rows_become_nested_properties() {
        let rows = [
            json!({"id": 1, "placed_at": "2024-01-01T10:00:00Z", "customer": {"name": "Ann", "vip": true},
                "lines": [{"sku": "a", "price": 1.25}, {"sku": "b", "price": null}], "tags": ["x"], "any": 1, "none": [],
                "empty": {}, "nothing": null}),
            json!({"id": 2, "placed_at": "2024-01-02T10:00:00Z", "customer": {"name": null},
                "lines": [], "tags": [], "any": "one", "none": [], "empty": {}, "nothing": null, "late": 1}),
        ];
        let document = of_json(&rows);
        let contract = parsed(&document);
        for row in &rows {
            assert_eq!(contract.explain(&Datum::from(row)), []);
        }
        let columns: Vec<_> =
            contract.fields.iter().map(|f| format!("{} {}", f.name, f.ty.describe())).collect();
        assert_eq!(
            columns,
            [
                "id long",
                "placed_at timestamp",
                "customer struct<name string, vip boolean>",
                "lines list<struct<sku string, price decimal(18,2)>>",
                "tags list<string>",
                "any json",
                "none json",
                "empty json",
                "nothing json",
                "late long",
            ]
        );
        assert_eq!(contract.event_field().unwrap().name, "placed_at");
        assert_eq!(document["x-sluicegate"]["key"], json!(["id"]));
        assert_eq!(document["properties"]["customer"]["required"], json!(["name"]));
        assert_eq!(document["properties"]["any"]["type"], json!(["integer", "string"]));
        assert!(!document["required"].as_array().unwrap().contains(&json!("late")));
    }

    #[test]
    fn the_key_is_a_column_or_two_neighbours_that_tell_rows_apart() {
        let rows = |n: usize| {
            let row = |i: usize| {
                vec![
                    "x".to_owned(),
                    format!("{}", i / 10),
                    format!("{}", i % 10),
                    format!("{}.5", i),
                ]
            };
            (0..n).map(row).collect::<Vec<_>>()
        };
        let names = ["a", "b", "c", "d"];
        let key = |document: Value| document["x-sluicegate"].get("key").cloned();
        assert_eq!(key(of_cells(&names, &rows(100), &[])), Some(json!(["b", "c"])));
        assert_eq!(key(of_cells(&names[..2], &rows(100), &[])), None);
        assert_eq!(key(of_cells(&names, &rows(1001), &[])), None);
        assert_eq!(key(of_cells(&names, &rows(1), &[])), None);
    }

    #[test]
    fn names_that_are_no_column_names_get_one() {
        let cells = vec!["1".to_owned(); 6];
        let names = ["_id", "id", "Flight No", "flight_no", "FlightNo", "*"];
        let document = of_cells(&names, &[cells], &[]);
        let columns: Vec<_> = parsed(&document).fields.into_iter().map(|f| f.name).collect();
        assert_eq!(columns, ["id_2", "id", "flight_no_2", "flight_no", "flight_no_3", "column"]);
    }

    #[test]
    fn memory_and_the_document_stay_bounded() {
        let wide: Map<String, Value> = (0..5000).map(|i| (format!("c{i}"), json!(i))).collect();
        let contract = parsed(&of_json(&[Value::Object(wide)]));
        assert_eq!(contract.fields.len(), COLUMN_LIMIT);
        let mut deep = json!(1);
        for _ in 0..30 {
            deep = json!({"a": [deep]});
        }
        let document = of_json(&[deep.clone()]);
        assert_eq!(parsed(&document).explain(&Datum::from(&deep)), []);
        // Enums of two thousand columns would be too much.
        let mut draft = Draft::new("things", SourceFormat::Jsonl);
        for i in 0..100 {
            let value = json!(format!("{i:0120}", i = i % 10));
            let row = (0..2000).map(|c| (format!("c{c}"), value.clone())).collect::<Map<_, _>>();
            draft.add_row(&Datum::from(&Value::Object(row)));
        }
        let document = draft.finish();
        assert_eq!(parsed(&document).fields.len(), 2000);
        assert_eq!(document["properties"]["c0"], json!({"type": "string"}));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-3i32..3).prop_map(|n| json!(f64::from(n) / 4.0)),
            "[a-c]{0,2}".prop_map(Value::from),
            prop_oneof![
                Just("2024-01-01"),
                Just("2024-01-01T00:00:00Z"),
                Just("2016-12-31T23:59:60Z")
            ]
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-bA_/~*\"\u{1}]{0,2}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    fn any_row() -> impl Strategy<Value = Value> {
        let names =
            prop_oneof![Just("price"), Just("a"), Just("A"), Just("_a"), Just(""), Just("at/~x")];
        prop::collection::btree_map(names.prop_map(str::to_owned), any_value(), 1..5)
            .prop_map(|m| Value::Object(m.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn every_draft_is_a_contract_that_accepts_its_rows(rows in prop::collection::vec(any_row(), 1..6)) {
            let contract = parsed(&of_json(&rows));
            for row in &rows {
                prop_assert_eq!(contract.explain(&Datum::from(row)), []);
            }
        }

        #[test]
        fn every_draft_of_cells_is_a_contract_that_accepts_them(
            cells in prop::collection::vec(prop::collection::vec("NA||null|-?[0-9]{1,3}|[0-9]\\.[0-9]{1,2}|true|FALSE|2024-01-0[1-3]|[a-b]{1,2}", 3), 1..6)
        ) {
            let names = ["Total price", "a", "b_at"];
            let contract = parsed(&of_cells(&names, &cells, &["NA", ""]));
            for row in &cells {
                prop_assert_eq!(contract.explain(&row_of(&contract, &names, row)), []);
            }
        }
    }

    fn orders() -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {
                "version": "1.4.2",
                "team": {"name": "Orders"},
                "format": {"type": "jsonl"},
            },
            "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "required": ["id"],
            "properties": {
                "id": {"type": "integer"},
                "customer": {"$ref": "#/$defs/person"},
                "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
            },
        })
    }

    #[test]
    fn unknown_fields_become_optional_properties() {
        let document = orders();
        let contract = parsed(&document);
        let rows = [
            json!({"id": 1, "colour": "red", "lines": [{"sku": "a", "tax": 1}, {"sku": "b", "tax": 2.5}]}),
            json!({"id": 2, "colour": null, "customer": {"name": "Ann", "Nick Name": "x".repeat(50)}}),
            json!({"id": 3}),
            json!({"id": 4, "lines": [{"tax": 3}]}),
        ];
        let mut unknown = Unknown::new(SourceFormat::from(&contract.format));
        for (row, number) in rows.iter().zip(0..) {
            crate::unknown_fields(
                &contract.fields,
                &Datum::from(row),
                "",
                &mut |pointer, value| {
                    unknown.add(number, &pointer, value);
                },
            );
        }
        let amendments = unknown.finish(4);
        let [colour, tax, nick] = amendments.as_slice() else { panic!("{amendments:?}") };
        assert_eq!((colour.pointer.as_str(), colour.rows, colour.share), ("/colour", 2, 0.5));
        assert_eq!(
            (colour.schema.clone(), colour.examples.clone()),
            (json!({"type": ["string", "null"]}), vec!["red".to_owned()])
        );
        assert_eq!((tax.pointer.as_str(), tax.rows, tax.examples.len()), ("/lines/*/tax", 2, 3));
        assert_eq!(
            tax.schema,
            json!({"type": "number", "x-sluicegate": {"logicalType": "decimal(18,2)"}})
        );
        assert_eq!((nick.name.as_str(), nick.examples[0].len()), ("Nick Name", 40));
        let text = serde_json::to_string(&amendments).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Amendment>>(&text).unwrap(), amendments);

        let amended = amend(&document, &amendments).unwrap();
        let contract = parsed(&amended);
        assert_eq!(contract.version, "1.5.0");
        for row in &rows {
            let row = Datum::from(row);
            assert_eq!(contract.explain(&row), []);
            crate::unknown_fields(&contract.fields, &row, "", &mut |pointer, _| {
                panic!("{pointer}")
            });
        }
        // The person of others is left alone.
        assert_eq!(amended["$defs"], document["$defs"]);
        assert!(contract.fields.iter().all(|f| f.required == (f.name == "id")));
        assert_eq!(amend(&amended, &amendments), None);
    }

    #[test]
    fn what_does_not_go_with_the_contract_is_passed_over() {
        let amendment = |pointer: &str, schema: Value| {
            let name = pointer.rsplit('/').next().unwrap().to_owned();
            Amendment {
                pointer: pointer.to_owned(),
                name,
                schema,
                rows: 1,
                share: 1.0,
                examples: vec![],
            }
        };
        let ty = json!({"type": "string"});
        let nowhere = [
            amendment("/nowhere/x", ty.clone()),
            amendment("/id/x", json!({"type": "nonsense"})),
            amendment("/id", ty.clone()),
            amendment("/lines/x", ty.clone()),
            amendment("", ty.clone()),
        ];
        assert_eq!(amend(&orders(), &nowhere), None);
        assert_eq!(amend(&json!({}), &[amendment("/x", ty.clone())]), None);
        // A counterexample may insist that there is no such field.
        let mut document = orders();
        document["x-sluicegate"]["unknown_fields"] = json!("reject");
        document["x-sluicegate"]["counterexamples"] =
            json!([{"row": {"id": 1, "x": "1"}, "at": "/x", "rule": "unknown_field"}]);
        let both = [amendment("/x", ty.clone()), amendment("/y", ty.clone())];
        let amended = amend(&document, &both).unwrap();
        assert_eq!(amended["properties"].get("x"), None);
        assert_eq!(amended["properties"]["y"], ty);
        // Column names stay apart.
        let amended = amend(
            &orders(),
            &[amendment("/ID", json!({"type": "string", "x-sluicegate": {"name": "id"}}))],
        );
        assert_eq!(amended.unwrap()["properties"]["ID"]["x-sluicegate"]["name"], "id_2");
    }

    #[test]
    fn unknown_cells_are_read_as_cells_and_places_are_bounded() {
        let mut unknown = Unknown::new(csv(&["NA"]));
        let cell = |text: &'static str| Datum::Text(text.into());
        for (row, text) in (0..).zip(["1", "NA", "2"]) {
            unknown.add(row, "/gate", &cell(text));
        }
        for i in 0..500 {
            unknown.add(9, &format!("/c{i}"), &cell("x"));
        }
        let amendments = unknown.finish(10);
        assert_eq!(amendments.len(), PLACE_LIMIT);
        assert_eq!(amendments[0].schema, json!({"type": ["integer", "null"]}));
        assert_eq!(amendments[0].examples, ["1", "2"]);
        assert_eq!(folded("/a*/0/b/1"), "/a~2/*/b/1");
    }
}
