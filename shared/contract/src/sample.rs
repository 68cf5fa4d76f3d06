//! Rows to test with: good ones, and bad ones that each name the rule they break.
//!
//! The same contract, seed and number give the same rows; there is no clock and no other randomness. What is returned has
//! been held against the contract, so a generator that guesses wrong costs rows and never makes a wrong one: where a
//! contract's conditions are beyond it, it falls back on variations of the contract's own examples, and then returns
//! fewer rows than were asked for. Rows of a CSV contract are as they would be read back from a file: null and absent are
//! one there, and a null token is no text.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

use crate::datum::Datum;
use crate::format::Format;
use crate::model::{Contract, RowFormat, UnknownFields};
use crate::num::Num;
use crate::pointer::child;
use crate::schema::{Assertion, Schema, Types};
use crate::types::{Field, Type};

/// A row that breaks a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Bad {
    pub row: Datum<'static>,
    /// JSON pointer into the row, as [`Contract::explain`] gives it.
    pub at: String,
    pub rule: String,
}

/// Rows that the contract accepts.
pub fn valid(contract: &Contract, seed: u64, n: usize) -> Vec<Datum<'static>> {
    let mut maker = Maker::new(contract, seed);
    std::iter::from_fn(|| maker.row()).take(n).collect()
}

/// Rows that the contract refuses: each rule's turn comes before any rule's second, and a row breaks no rule but its own
/// where that is possible. Rules that no row can break alone or together are passed over.
pub fn invalid(contract: &Contract, seed: u64, n: usize) -> Vec<Bad> {
    let mut maker = Maker::new(contract, !seed);
    let starts = starts(&mut maker);
    let mut rules: VecDeque<_> = all_rules(contract).into();
    let mut rows = Vec::new();
    while rows.len() < n
        && let Some(rule) = rules.pop_front()
    {
        if let Some(row) = maker.broken(&rule, &starts) {
            rows.push(Bad { row, at: rule.at.clone(), rule: rule.name.to_owned() });
            rules.push_back(rule);
        }
    }
    rows
}

/// The rules that a row could break: where, and which keyword. Items of lists stand for all of theirs as the first. Not
/// every one can be broken: a bound may be stricter than the type it is on.
pub fn rules(contract: &Contract) -> Vec<(String, &'static str)> {
    all_rules(contract).into_iter().map(|rule| (rule.at, rule.name)).collect()
}

/// Attempts at a row before the examples are varied, and at a scalar before its row is given up.
const ROW_ATTEMPTS: usize = 64;
const VALUE_ATTEMPTS: usize = 16;
/// Good rows that bad ones are made from, and how many of them are tried for one that breaks nothing else.
const STARTS: usize = 64;
const STARTS_FOR_ONE_FAULT: usize = 8;
/// Items of a list and characters of a text that are made at all.
const ITEM_LIMIT: u64 = 1000;
const LENGTH_LIMIT: u64 = 1 << 16;

fn starts(maker: &mut Maker<'_>) -> Vec<Datum<'static>> {
    let mut rows: Vec<_> = std::iter::from_fn(|| maker.row()).take(STARTS).collect();
    let examples = maker.contract.examples.iter().map(|row| maker.as_read(row.clone()));
    rows.extend(examples);
    rows
}

/// Random numbers from a seed (splitmix64, by Sebastiano Vigna).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`; 0 if that is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or_default()
    }

    /// One in so many.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// From `low` to `high`, both included; `low` if they are the wrong way round.
    fn between(&mut self, low: i128, high: i128) -> i128 {
        let span =
            high.checked_sub(low).and_then(|span| u128::try_from(span).ok()).unwrap_or_default();
        let wide = (u128::from(self.next()) << 64) | u128::from(self.next());
        let offset = span.checked_add(1).map_or(wide, |count| wide % count);
        i128::try_from(offset).ok().and_then(|offset| low.checked_add(offset)).unwrap_or(low)
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        let at = self.below(from.len() as u64);
        from.get(usize::try_from(at).ok()?)
    }
}

/// How many of the optional properties a row has.
#[derive(Clone, Copy)]
enum Fullness {
    Bare,
    Mixed,
    Full,
}

struct Maker<'c> {
    contract: &'c Contract,
    random: Random,
    fullness: Fullness,
}

impl<'c> Maker<'c> {
    fn new(contract: &'c Contract, seed: u64) -> Self {
        Self { contract, random: Random(seed), fullness: Fullness::Full }
    }

    /// A row that the contract accepts.
    fn row(&mut self) -> Option<Datum<'static>> {
        let contract = self.contract;
        let examples: Vec<&Datum<'static>> = contract.examples.iter().collect();
        for _ in 0..ROW_ATTEMPTS {
            self.fullness = match self.random.below(4) {
                0 => Fullness::Bare,
                1 => Fullness::Full,
                _ => Fullness::Mixed,
            };
            let made = self.value(&[&contract.row], Column::Row(&contract.fields), &examples);
            if let Some(row) = made.map(|row| self.as_read(row))
                && contract.explain(&row).is_empty()
            {
                return Some(row);
            }
        }
        let example = (*self.random.pick(&examples)?).clone();
        let example = self.as_read(example);
        for _ in 0..VALUE_ATTEMPTS {
            let field = self.random.pick(&contract.fields)?;
            let schemas = declared(&contract.row, &field.source);
            let at = child("", &field.source);
            let varied = self
                .value(&schemas, Column::Of(&field.ty), &[])
                .and_then(|value| with(&example, &at, value))
                .map(|row| self.as_read(row));
            if let Some(row) = varied.filter(|row| contract.explain(row).is_empty()) {
                return Some(row);
            }
        }
        Some(example).filter(|row| contract.explain(row).is_empty())
    }

    /// The row as it is after a file of the contract's format.
    fn as_read(&self, row: Datum<'static>) -> Datum<'static> {
        let RowFormat::Csv(csv) = &self.contract.format else { return row };
        let mut properties = match row {
            Datum::Object(properties) => properties,
            // Every line is a row.
            _ => Vec::new(),
        };
        let is_null = |value: &Datum<'_>| match value {
            Datum::Null => true,
            Datum::Text(text) => csv.null_tokens.iter().any(|token| token == text),
            _ => false,
        };
        let mut read = Vec::with_capacity(properties.len());
        for field in &self.contract.fields {
            let at = properties.iter().position(|(name, _)| *name == field.source);
            let value = at.map(|at| properties.remove(at).1).filter(|value| !is_null(value));
            let value = value.map(|value| cell(&field.ty, value));
            if let Some(value) = value.or(field.nullable.then_some(Datum::Null)) {
                read.push((Cow::Owned(field.source.clone()), value));
            }
        }
        read.extend(properties);
        Datum::Object(read)
    }

    /// A value that the schemas accept together, as far as can be told here.
    fn value(
        &mut self,
        schemas: &[&Schema],
        column: Column<'_>,
        examples: &[&Datum<'static>],
    ) -> Option<Datum<'static>> {
        for _ in 0..VALUE_ATTEMPTS {
            let value = self.attempt(schemas, column, examples)?;
            // Whatever is inside objects and lists has been looked at on its own.
            let inner = matches!(value, Datum::Object(_) | Datum::Array(_));
            if inner || schemas.iter().all(|schema| schema.holds(&value)) {
                return Some(value);
            }
        }
        None
    }

    fn attempt(
        &mut self,
        schemas: &[&Schema],
        column: Column<'_>,
        examples: &[&Datum<'static>],
    ) -> Option<Datum<'static>> {
        let mut all = Vec::new();
        for schema in schemas {
            self.demands(schema, &mut all);
        }
        let mut types = Types::ALL;
        let mut choices: Option<Vec<&Datum<'static>>> = None;
        for assertion in &all {
            let listed: Vec<_> = match assertion {
                Assertion::Never => return None,
                Assertion::Type(allowed) => {
                    types = types.and(*allowed);
                    continue;
                }
                Assertion::Enum(values) => values.iter().collect(),
                Assertion::Const(only) => vec![only],
                _ => continue,
            };
            choices = Some(match choices {
                None => listed,
                Some(before) => before.into_iter().filter(|value| listed.contains(value)).collect(),
            });
        }
        if let Some(mut choices) = choices {
            choices.retain(|value| types.has(value.types()));
            return self.random.pick(&choices).map(|value| (*value).clone());
        }
        if types == Types::NULL
            || (types.has(Types::NULL) && types != Types::ALL && self.random.one_in(8))
        {
            return Some(Datum::Null);
        }
        // Of a value that can be anything, something simple.
        let simple = [Types::STRING, Types::INTEGER, Types::BOOLEAN];
        let typed = [
            Types::STRING,
            Types::NUMBER,
            Types::INTEGER,
            Types::BOOLEAN,
            Types::ARRAY,
            Types::OBJECT,
        ];
        let kinds = if types == Types::ALL { simple.as_slice() } else { typed.as_slice() };
        let mut kinds: Vec<_> = kinds.iter().copied().filter(|kind| types.has(*kind)).collect();
        if kinds.contains(&Types::NUMBER) {
            kinds.retain(|kind| *kind != Types::INTEGER);
        }
        match *self.random.pick(&kinds)? {
            Types::STRING => self.text(&all, examples),
            Types::BOOLEAN => Some(Datum::Boolean(self.random.one_in(2))),
            Types::ARRAY => self.array(&all, column, examples),
            Types::OBJECT => self.object(&all, column, examples),
            kind => self.number(&all, kind, column),
        }
    }

    /// What is demanded once every alternative has been chosen. What `not` forbids is left to chance.
    fn demands<'a>(&mut self, schema: &'a Schema, all: &mut Vec<&'a Assertion>) {
        for assertion in &schema.assertions {
            match assertion {
                Assertion::AllOf(schemas) => schemas.iter().for_each(|s| self.demands(s, all)),
                Assertion::Ref(schema) => self.demands(schema, all),
                Assertion::AnyOf(schemas) | Assertion::OneOf(schemas) => {
                    if let Some(chosen) = self.random.pick(schemas) {
                        self.demands(chosen, all);
                    }
                }
                Assertion::If { test, then, otherwise } => {
                    let holds = self.random.one_in(2);
                    if holds {
                        self.demands(test, all);
                    }
                    if let Some(branch) = if holds { then } else { otherwise } {
                        self.demands(branch, all);
                    }
                }
                other => all.push(other),
            }
        }
    }

    fn number(
        &mut self,
        all: &[&Assertion],
        kind: Types,
        column: Column<'_>,
    ) -> Option<Datum<'static>> {
        let whole = !kind.has(Types::FRACTION);
        let step = all.iter().find_map(|assertion| match assertion {
            Assertion::MultipleOf(step) => Some(*step),
            _ => None,
        });
        let scales: &[u8] = match (column.ty(), step) {
            (_, Some(Num::Exact { scale, .. })) => &[scale],
            _ if whole => &[0],
            (Some(Type::Decimal { scale, .. }), _) => &[*scale],
            // Narrow bounds need finer numbers.
            _ => &[2, 6, 12],
        };
        scales
            .iter()
            .find_map(|scale| self.number_of_scale(all, *scale, step, column))
            .map(Datum::Number)
    }

    fn number_of_scale(
        &mut self,
        all: &[&Assertion],
        scale: u8,
        step: Option<Num>,
        column: Column<'_>,
    ) -> Option<Num> {
        let unit = 10i128.checked_pow(u32::from(scale))?;
        let step = step.and_then(|step| step.to_decimal(scale)).unwrap_or(1);
        let mut low: Option<i128> = None;
        let mut high: Option<i128> = None;
        for assertion in all {
            match assertion {
                Assertion::Minimum(bound) => {
                    let least = bound
                        .floor(scale)
                        .map(|(n, exact)| if exact { n } else { n.saturating_add(1) });
                    low = low.max(least);
                }
                Assertion::ExclusiveMinimum(bound) => {
                    low = low.max(bound.floor(scale).map(|(n, _)| n.saturating_add(1)));
                }
                Assertion::Maximum(bound) => {
                    let most = bound.floor(scale).map(|(n, _)| n);
                    high = [high, most].into_iter().flatten().min();
                }
                Assertion::ExclusiveMaximum(bound) => {
                    let most = bound
                        .floor(scale)
                        .map(|(n, exact)| if exact { n.saturating_sub(1) } else { n });
                    high = [high, most].into_iter().flatten().min();
                }
                _ => {}
            }
        }
        let bounded = (low.is_some(), high.is_some());
        let span = unit.checked_mul(1000)?.max(step.checked_mul(10)?);
        let (low, high) = match (low, high) {
            (Some(low), Some(high)) => (low, high),
            (Some(low), None) => (low, low.saturating_add(span)),
            (None, Some(high)) => (high.saturating_sub(span), high),
            (None, None) => (0, span),
        };
        let (least, most) = match column.ty() {
            Some(Type::Int) => (i128::from(i32::MIN), i128::from(i32::MAX)),
            Some(Type::Long) => (i128::from(i64::MIN), i128::from(i64::MAX)),
            Some(Type::Decimal { precision, scale: own }) if *own >= scale => {
                let digits = u32::from(precision.saturating_sub(own - scale));
                let most = 10i128.checked_pow(digits)? - 1;
                (-most, most)
            }
            _ => (i128::MIN, i128::MAX),
        };
        // In steps from here on.
        let (low, high) = (low.max(least), high.min(most));
        let first = low.div_euclid(step) + i128::from(low.rem_euclid(step) != 0);
        let last = high.div_euclid(step);
        if first > last {
            return None;
        }
        let chosen = match self.random.below(8) {
            0 if bounded.0 => first,
            1 if bounded.1 => last,
            _ => self.random.between(first, last),
        };
        Some(Num::decimal(chosen.checked_mul(step)?, scale))
    }

    fn text(&mut self, all: &[&Assertion], examples: &[&Datum<'static>]) -> Option<Datum<'static>> {
        let (mut least, mut most) = (0, LENGTH_LIMIT);
        let (mut patterns, mut formats) = (Vec::new(), Vec::new());
        for assertion in all {
            match assertion {
                Assertion::MinLength(length) => least = least.max(*length),
                Assertion::MaxLength(length) => most = most.min(*length),
                Assertion::Pattern(pattern) => patterns.push(pattern),
                Assertion::Format(format) => formats.push(*format),
                _ => {}
            }
        }
        if least > most {
            return None;
        }
        let known: Vec<&str> = examples
            .iter()
            .filter_map(|value| match value {
                Datum::Text(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        let fits = |text: &str| {
            let length = text.chars().count() as u64;
            (least..=most).contains(&length)
                && patterns.iter().all(|pattern| pattern.is_match(text))
                && formats.iter().all(|format| format.is_match(text))
        };
        for _ in 0..VALUE_ATTEMPTS {
            let by_pattern = formats.is_empty() || self.random.one_in(2);
            let text = match (self.random.pick(&known), self.random.pick(&patterns)) {
                (Some(text), _) if self.random.one_in(4) => Some((*text).to_owned()),
                (_, Some(pattern)) if by_pattern => shape::of(pattern.as_str()).and_then(|shape| {
                    let spread = *self.random.pick(&[0, 3, 8, least])?;
                    shape.text(&mut self.random, spread)
                }),
                _ => match self.random.pick(&formats).copied() {
                    Some(format) => Some(self.formatted(format)),
                    None => Some(self.word(least, most)),
                },
            };
            if let Some(text) = text.filter(|text| fits(text)) {
                return Some(Datum::Text(Cow::Owned(text)));
            }
        }
        let fitting: Vec<_> = known.into_iter().filter(|text| fits(text)).collect();
        self.random.pick(&fitting).map(|text| Datum::Text(Cow::Owned((*text).to_owned())))
    }

    /// A word that can be spoken, of a length that is asked for.
    fn word(&mut self, least: u64, most: u64) -> String {
        let low = least.max(3).min(most);
        let length = low + self.random.below(most.min(low + 7) - low + 1);
        let letter = |random: &mut Random, letters: &[char]| random.pick(letters).copied();
        let make = |i| {
            let letters: &[char] = if i % 2 == 0 {
                &['b', 'd', 'f', 'k', 'l', 'm', 'n', 'r', 's', 't']
            } else {
                &['a', 'e', 'i', 'o', 'u']
            };
            letter(&mut self.random, letters)
        };
        (0..length).filter_map(make).collect()
    }

    fn formatted(&mut self, format: Format) -> String {
        let mut up_to = |low: u64, high: u64| low + self.random.below(high - low + 1);
        let date = format!("{}-{:02}-{:02}", up_to(2015, 2024), up_to(1, 12), up_to(1, 28));
        let time = format!("{:02}:{:02}:{:02}Z", up_to(0, 23), up_to(0, 59), up_to(0, 59));
        let (small, byte, hex) = (up_to(1, 23), up_to(1, 254), up_to(0, u64::from(u32::MAX)));
        let wide = up_to(0, (1 << 48) - 1);
        match format {
            Format::Date => date,
            Format::DateTime => format!("{date}T{time}"),
            Format::Time => time,
            Format::Duration => format!("PT{small}H"),
            Format::Email => format!("{}@example.com", self.word(3, 8)),
            Format::Uri => format!("https://example.com/{}", self.word(3, 8)),
            Format::Uuid => {
                format!(
                    "{hex:08x}-{:04x}-4{:03x}-8{:03x}-{wide:012x}",
                    hex & 0xffff,
                    wide & 0xfff,
                    hex >> 20
                )
            }
            Format::Ipv4 => format!("192.0.2.{byte}"),
            Format::Ipv6 => format!("2001:db8::{:x}:{byte:x}", hex & 0xffff),
            Format::Hostname => format!("{}.example.com", self.word(3, 8)),
        }
    }

    fn array(
        &mut self,
        all: &[&Assertion],
        column: Column<'_>,
        examples: &[&Datum<'static>],
    ) -> Option<Datum<'static>> {
        let (mut least, mut most, mut unique) = (0, ITEM_LIMIT, false);
        let mut schemas = Vec::new();
        for assertion in all {
            match assertion {
                Assertion::Items(schema) => schemas.push(schema.as_ref()),
                Assertion::MinItems(count) => least = least.max(*count),
                Assertion::MaxItems(count) => most = most.min(*count),
                Assertion::UniqueItems => unique = true,
                _ => {}
            }
        }
        if least > most {
            return None;
        }
        let wanted = least + self.random.below(most.min(least + 3) - least + 1);
        let examples: Vec<&Datum<'static>> = examples
            .iter()
            .flat_map(|value| match value {
                Datum::Array(items) => items.as_slice(),
                _ => &[],
            })
            .collect();
        let mut items: Vec<Datum<'static>> = Vec::new();
        for _ in 0..wanted.saturating_mul(4) {
            if items.len() as u64 == wanted {
                break;
            }
            let item = self.value(&schemas, column.items(), &examples)?;
            if !unique || !items.contains(&item) {
                items.push(item);
            }
        }
        (items.len() as u64 >= least).then_some(Datum::Array(items))
    }

    fn object(
        &mut self,
        all: &[&Assertion],
        column: Column<'_>,
        examples: &[&Datum<'static>],
    ) -> Option<Datum<'static>> {
        let mut properties = merged(all);
        let mut required: BTreeSet<&str> = BTreeSet::new();
        let (mut least, mut most) = (0, u64::MAX);
        for assertion in all {
            match assertion {
                Assertion::Required(names) => required.extend(names.iter().map(String::as_str)),
                Assertion::MinProperties(count) => least = least.max(*count),
                Assertion::MaxProperties(count) => most = most.min(*count),
                _ => {}
            }
        }
        for name in &required {
            if !properties.iter().any(|(known, _)| known == name) {
                properties.push((name, Vec::new()));
            }
        }
        let mut chosen = required.clone();
        for (name, _) in &properties {
            let lucky = match self.fullness {
                Fullness::Bare => false,
                Fullness::Mixed => !self.random.one_in(4),
                Fullness::Full => true,
            };
            if (chosen.len() as u64) < most && (lucky || (chosen.len() as u64) < least) {
                chosen.insert(name);
            }
        }
        loop {
            let before = chosen.len();
            for assertion in all {
                let Assertion::DependentRequired(pairs) = assertion else { continue };
                for (name, needed) in pairs {
                    if chosen.contains(name.as_str()) {
                        chosen.extend(needed.iter().map(String::as_str));
                    }
                }
            }
            if chosen.len() == before {
                break;
            }
        }
        let mut made = Vec::with_capacity(chosen.len());
        for (name, schemas) in &properties {
            if !chosen.contains(name) {
                continue;
            }
            let examples: Vec<_> = examples.iter().filter_map(|value| value.get(name)).collect();
            match self.value(schemas, column.property(name), &examples) {
                Some(value) => made.push((Cow::Owned((*name).to_owned()), value)),
                None if required.contains(name) => return None,
                None => {}
            }
        }
        Some(Datum::Object(made))
    }

    /// A row that breaks a rule; no other one if that can be had.
    fn broken(&mut self, rule: &Rule<'_>, starts: &[Datum<'static>]) -> Option<Datum<'static>> {
        let contract = self.contract;
        let mut second_best = None;
        let first = usize::try_from(self.random.below(starts.len() as u64)).unwrap_or_default();
        for (tried, start) in starts.iter().cycle().skip(first).take(starts.len()).enumerate() {
            if second_best.is_some() && tried >= STARTS_FOR_ONE_FAULT {
                break;
            }
            for row in self.spoilt(rule, start) {
                let row = self.as_read(row);
                let faults = contract.explain(&row);
                if faults.iter().any(|f| f.pointer == rule.at && f.rule == rule.name) {
                    if faults.len() == 1 {
                        return Some(row);
                    }
                    second_best.get_or_insert(row);
                }
            }
        }
        let named =
            contract.counterexamples.iter().filter(|c| c.at == rule.at && c.rule == rule.name);
        second_best.or_else(|| named.map(|c| c.row.clone()).next())
    }

    /// Changes of a row that may break a rule.
    fn spoilt(&mut self, rule: &Rule<'_>, row: &Datum<'static>) -> Vec<Datum<'static>> {
        if matches!(rule.name, "required" | "dependentRequired") {
            return without(row, &rule.at).into_iter().collect();
        }
        let current = match at(row, &rule.at) {
            Some(value) if *value != Datum::Null => Some(value.clone()),
            _ => {
                let is_possible = |s: &&&Schema| !s.assertions.contains(&Assertion::Never);
                let schemas: Vec<_> = rule.schemas.iter().filter(is_possible).copied().collect();
                self.value(&schemas, rule.column, &[])
            }
        };
        let current = current.unwrap_or(Datum::Null);
        let mut values = Vec::new();
        for assertion in &rule.assertions {
            values.extend(self.against(assertion, rule, &current));
        }
        if rule.name == "logicalType" {
            values.extend(misfits(rule.column, &current));
        }
        if rule.name == "unknown_field" {
            values.push(text("nobody declared this"));
        }
        values.into_iter().filter_map(|value| with(row, &rule.at, value)).collect()
    }

    /// Values that an assertion may not hold of, most likely ones first.
    fn against(
        &mut self,
        assertion: &Assertion,
        rule: &Rule<'_>,
        current: &Datum<'static>,
    ) -> Vec<Datum<'static>> {
        let scale = match rule.column.ty() {
            Some(Type::Decimal { scale, .. }) => *scale,
            _ => 0,
        };
        let numbers = |from: Num, by: &[Num]| -> Vec<Datum<'static>> {
            by.iter().filter_map(|by| sum(from, *by)).map(Datum::Number).collect()
        };
        let (unit, one) = (Num::decimal(1, scale), Num::whole(1));
        match (assertion, current) {
            (Assertion::Type(_), _) => {
                let mut values = any_kind();
                // Text first: it is what comes instead of numbers. Then whatever else, in turns.
                if let Some(rest) = values.get_mut(1..) {
                    let turn = usize::try_from(self.random.below(rest.len() as u64));
                    rest.rotate_left(turn.unwrap_or_default());
                }
                values
            }
            (Assertion::Minimum(bound), _) => {
                let steps: Vec<_> = rule
                    .steps()
                    .chain([unit, one, Num::whole(1000)])
                    .filter_map(negative)
                    .collect();
                numbers(*bound, &steps)
            }
            (Assertion::ExclusiveMinimum(bound), _) => {
                numbers(*bound, &[Num::whole(0), Num::whole(-1), Num::whole(-1000)])
            }
            (Assertion::Maximum(bound), _) => {
                let steps: Vec<_> = rule.steps().chain([unit, one, Num::whole(1000)]).collect();
                numbers(*bound, &steps)
            }
            (Assertion::ExclusiveMaximum(bound), _) => {
                numbers(*bound, &[Num::whole(0), one, Num::whole(1000)])
            }
            (Assertion::MultipleOf(Num::Exact { unscaled, scale: own }), Datum::Number(n)) => {
                let finer = own.saturating_add(1);
                let half = unscaled.checked_mul(5).map_or(unit, |half| Num::decimal(half, finer));
                let parts =
                    [unit, one, negative(one).unwrap_or(one), half, Num::decimal(*unscaled, finer)];
                numbers(*n, &parts)
            }
            (Assertion::MinLength(least), Datum::Text(before)) => {
                let length = least.saturating_sub(1);
                let cut: String =
                    before.chars().take(usize::try_from(length).unwrap_or_default()).collect();
                let mut values = vec![text(&cut)];
                if length <= LENGTH_LIMIT {
                    values.push(text(&self.word(length, length)));
                }
                values
            }
            (Assertion::MaxLength(most), Datum::Text(before)) if *most < LENGTH_LIMIT => {
                let length = usize::try_from(most.saturating_add(1)).unwrap_or_default();
                let last = before.chars().last().unwrap_or('x');
                let padded: String =
                    before.chars().chain(std::iter::repeat(last)).take(length).collect();
                vec![text(&padded), text(&self.word(most + 1, most + 1))]
            }
            (Assertion::Pattern(_) | Assertion::Format(_), Datum::Text(before)) => {
                self.misspelt(before)
            }
            (Assertion::Enum(_) | Assertion::Const(_), before) => {
                let mut values = match before {
                    Datum::Text(before) => self.misspelt(before),
                    Datum::Number(n) => numbers(*n, &[one, Num::whole(-1), Num::whole(1000)]),
                    Datum::Boolean(b) => vec![Datum::Boolean(!b)],
                    _ => Vec::new(),
                };
                values.extend(any_kind());
                values
            }
            (Assertion::MinItems(least), Datum::Array(items)) => {
                let kept = usize::try_from(least.saturating_sub(1)).unwrap_or_default();
                vec![Datum::Array(items.iter().take(kept).cloned().collect())]
            }
            (Assertion::MaxItems(most), Datum::Array(items)) if *most < ITEM_LIMIT => {
                let count = usize::try_from(most.saturating_add(1)).unwrap_or_default();
                let mut more = items.clone();
                while more.len() < count {
                    let item = self.value(&rule.items(), rule.column.items(), &[]);
                    match item.filter(|item| !more.contains(item)).or_else(|| more.first().cloned())
                    {
                        Some(item) => more.push(item),
                        None => break,
                    }
                }
                vec![Datum::Array(more)]
            }
            (Assertion::UniqueItems, Datum::Array(items)) => {
                let Some(first) = items.first() else { return Vec::new() };
                let longer = items.iter().chain([first]).cloned().collect();
                let skip = usize::from(items.len() > 1);
                let same: Vec<_> =
                    items.iter().rev().skip(skip).rev().chain([first]).cloned().collect();
                vec![Datum::Array(same), Datum::Array(longer)]
            }
            (Assertion::MinProperties(least), Datum::Object(properties)) => {
                let kept = usize::try_from(least.saturating_sub(1)).unwrap_or_default();
                let head = properties.iter().take(kept).cloned().collect();
                let tail = properties.iter().rev().take(kept).rev().cloned().collect();
                vec![Datum::Object(head), Datum::Object(tail)]
            }
            (Assertion::MaxProperties(most), Datum::Object(properties)) if *most < ITEM_LIMIT => {
                let mut more = properties.clone();
                for i in 0..=*most {
                    if more.len() as u64 <= *most {
                        more.push((Cow::Owned(format!("more_{i}")), Datum::Boolean(true)));
                    }
                }
                vec![Datum::Object(more)]
            }
            (Assertion::Never, before) => vec![before.clone(), text("x"), Datum::Number(one)],
            (Assertion::Not(schema), before) => self.also(&[schema], rule, before),
            (Assertion::OneOf(schemas), before) => {
                let mut values = self.less(before);
                let two = [self.random.pick(schemas), self.random.pick(schemas)];
                values.extend(self.also(
                    &two.into_iter().flatten().collect::<Vec<_>>(),
                    rule,
                    before,
                ));
                values
            }
            (Assertion::AnyOf(_), before) => self.less(before),
            _ => Vec::new(),
        }
    }

    /// A value as it is, but such that more schemas hold of it.
    fn also(
        &mut self,
        more: &[&Schema],
        rule: &Rule<'_>,
        current: &Datum<'static>,
    ) -> Vec<Datum<'static>> {
        let mut values = Vec::new();
        let both: Vec<_> = more.iter().chain(&rule.schemas).copied().collect();
        let made = [self.attempt(more, rule.column, &[]), self.attempt(&both, rule.column, &[])];
        for made in made.into_iter().flatten() {
            values.push(match (current, made) {
                (Datum::Object(before), Datum::Object(made)) => {
                    let mut all = before.clone();
                    all.retain(|(name, _)| !made.iter().any(|(new, _)| new == name));
                    all.extend(made);
                    Datum::Object(all)
                }
                (_, made) => made,
            });
        }
        values
    }

    /// A value of which less is true than before.
    fn less(&mut self, current: &Datum<'static>) -> Vec<Datum<'static>> {
        let mut values = Vec::new();
        if let Datum::Object(properties) = current {
            for (at, (_, value)) in properties.iter().enumerate() {
                let mut fewer = properties.clone();
                fewer.remove(at);
                values.push(Datum::Object(fewer));
                for other in self.unlike(value) {
                    let mut changed = properties.clone();
                    if let Some((_, value)) = changed.get_mut(at) {
                        *value = other;
                    }
                    values.push(Datum::Object(changed));
                }
            }
        }
        values.extend(self.unlike(current));
        values
    }

    fn unlike(&mut self, current: &Datum<'static>) -> Vec<Datum<'static>> {
        match current {
            Datum::Text(before) => self.misspelt(before),
            Datum::Number(n) => {
                let by = [1, -1, 1000, -1000].map(Num::whole);
                by.iter().filter_map(|by| sum(*n, *by)).map(Datum::Number).collect()
            }
            Datum::Boolean(b) => vec![Datum::Boolean(!b)],
            _ => any_kind(),
        }
    }

    /// Texts that differ from one in small and large ways.
    fn misspelt(&mut self, before: &str) -> Vec<Datum<'static>> {
        let length = before.chars().count();
        let at = usize::try_from(self.random.below(length as u64)).unwrap_or_default();
        let replaced = |by: char| -> String {
            before.chars().enumerate().map(|(i, c)| if i == at { by } else { c }).collect()
        };
        let word = self.word(length as u64, length as u64);
        let reversed: String = before.chars().rev().collect();
        let shorter: String = before.chars().skip(1).collect();
        let same_length =
            [replaced('?'), replaced('7'), replaced('x'), replaced('X'), word, reversed];
        let mut values: Vec<_> = same_length
            .into_iter()
            .chain([before.to_lowercase(), before.to_uppercase(), format!("{before}?"), shorter])
            .filter(|text| text != before)
            .map(|spelt| text(&spelt))
            .collect();
        let turn = usize::try_from(self.random.below(values.len() as u64)).unwrap_or_default();
        values.rotate_left(turn);
        values.extend(["not a value", "?", ""].map(text));
        values
    }
}

/// What becomes of a value: the row's own fields, a column or a part of one, or nobody knows.
#[derive(Clone, Copy)]
enum Column<'a> {
    Row(&'a [Field]),
    Of(&'a Type),
    Unknown,
}

impl<'a> Column<'a> {
    fn ty(self) -> Option<&'a Type> {
        match self {
            Self::Of(ty) => Some(ty),
            Self::Row(_) | Self::Unknown => None,
        }
    }

    fn property(self, name: &str) -> Self {
        let fields = match self {
            Self::Row(fields) => fields,
            Self::Of(Type::Struct(fields)) => fields,
            _ => return Self::Unknown,
        };
        fields.iter().find(|f| f.source == name).map_or(Self::Unknown, |f| Self::Of(&f.ty))
    }

    fn items(self) -> Self {
        match self {
            Self::Of(Type::List(element)) => Self::Of(&element.ty),
            _ => Self::Unknown,
        }
    }
}

/// A rule, and what is known about its place.
struct Rule<'a> {
    at: String,
    name: &'static str,
    assertions: Vec<&'a Assertion>,
    /// The schemas of the place.
    schemas: Vec<&'a Schema>,
    column: Column<'a>,
}

impl<'a> Rule<'a> {
    /// What the numbers of the place are multiples of.
    fn steps(&self) -> impl Iterator<Item = Num> {
        let all = self.schemas.iter().flat_map(|s| s.unconditional());
        all.filter_map(|assertion| match assertion {
            Assertion::MultipleOf(step) => Some(*step),
            _ => None,
        })
    }

    /// What the items of the place are.
    fn items(&self) -> Vec<&'a Schema> {
        let all = self.schemas.iter().flat_map(|s| s.unconditional());
        all.filter_map(|assertion| match assertion {
            Assertion::Items(schema) => Some(schema.as_ref()),
            _ => None,
        })
        .collect()
    }
}

fn all_rules(contract: &Contract) -> Vec<Rule<'_>> {
    let mut rules = Rules { all: Vec::new() };
    rules.walk("", &[&contract.row], Column::Row(&contract.fields));
    // An unknown column of a CSV file is a fault of the file, not of a row.
    let by_row = matches!(contract.format, RowFormat::Jsonl(_));
    if by_row && contract.unknown_fields == UnknownFields::Reject {
        let is_free = |name: &String| !contract.fields.iter().any(|f| f.source == *name);
        let names = (0..).map(|i| format!("unknown_{i}"));
        if let Some(name) = names.take(contract.fields.len() + 1).find(is_free) {
            rules.note(child("", &name), "unknown_field", None, &[], Column::Unknown);
        }
    }
    rules.all
}

struct Rules<'a> {
    all: Vec<Rule<'a>>,
}

impl<'a> Rules<'a> {
    fn note(
        &mut self,
        at: String,
        name: &'static str,
        assertion: Option<&'a Assertion>,
        schemas: &[&'a Schema],
        column: Column<'a>,
    ) {
        if let Some(known) = self.all.iter_mut().find(|rule| rule.at == at && rule.name == name) {
            known.assertions.extend(assertion);
            return;
        }
        let assertions = assertion.into_iter().collect();
        self.all.push(Rule { at, name, assertions, schemas: schemas.to_vec(), column });
    }

    /// Every rule of a place and of those inside it.
    fn walk(&mut self, at: &str, schemas: &[&'a Schema], column: Column<'a>) {
        let mut all = Vec::new();
        for schema in schemas {
            reported(schema, &mut all);
        }
        let mut items = Vec::new();
        for assertion in &all {
            match assertion {
                Assertion::Properties(_) => {}
                Assertion::Items(schema) => items.push(schema.as_ref()),
                Assertion::Required(names) => {
                    for name in names {
                        self.note(child(at, name), "required", None, &[], Column::Unknown);
                    }
                }
                Assertion::DependentRequired(pairs) => {
                    for name in pairs.iter().flat_map(|(_, needed)| needed) {
                        self.note(child(at, name), "dependentRequired", None, &[], Column::Unknown);
                    }
                }
                Assertion::Type(types) if *types == Types::ALL => {}
                other => self.note(at.to_owned(), other.keyword(), Some(other), schemas, column),
            }
        }
        if matches!(
            column.ty(),
            Some(Type::Int | Type::Long | Type::Float | Type::Decimal { .. } | Type::Timestamp)
        ) {
            self.note(at.to_owned(), "logicalType", None, schemas, column);
        }
        for (name, schemas) in merged(&all) {
            self.walk(&child(at, name), &schemas, column.property(name));
        }
        if !items.is_empty() {
            self.walk(&format!("{at}/0"), &items, column.items());
        }
    }
}

/// Every assertion whose faults are named on their own, those of conditional branches among them.
fn reported<'a>(schema: &'a Schema, all: &mut Vec<&'a Assertion>) {
    for assertion in &schema.assertions {
        match assertion {
            Assertion::AllOf(schemas) => schemas.iter().for_each(|s| reported(s, all)),
            Assertion::Ref(schema) => reported(schema, all),
            Assertion::If { then, otherwise, .. } => {
                then.iter().chain(otherwise).for_each(|s| reported(s, all));
            }
            other => all.push(other),
        }
    }
}

/// Each property with all its schemas, in the order of their first mention.
fn merged<'a>(all: &[&'a Assertion]) -> Vec<(&'a str, Vec<&'a Schema>)> {
    let mut properties: Vec<(&str, Vec<&Schema>)> = Vec::new();
    let mut index = std::collections::BTreeMap::new();
    for assertion in all {
        let Assertion::Properties(declared) = assertion else { continue };
        for (name, schema) in declared {
            let at = *index.entry(name.as_str()).or_insert(properties.len());
            match properties.get_mut(at) {
                Some((_, schemas)) => schemas.push(schema),
                None => properties.push((name, vec![schema])),
            }
        }
    }
    properties
}

/// The schemas of a property as far as they are unconditional.
fn declared<'a>(schema: &'a Schema, name: &str) -> Vec<&'a Schema> {
    let properties = merged(&schema.unconditional());
    properties.into_iter().find(|(n, _)| *n == name).map(|(_, schemas)| schemas).unwrap_or_default()
}

fn text(text: &str) -> Datum<'static> {
    Datum::Text(Cow::Owned(text.to_owned()))
}

/// A value of every kind.
fn any_kind() -> Vec<Datum<'static>> {
    vec![
        text("not a value"),
        Datum::Number(Num::decimal(15, 1)),
        Datum::Number(Num::whole(1)),
        Datum::Boolean(true),
        Datum::Array(Vec::new()),
        Datum::Object(Vec::new()),
        Datum::Null,
    ]
}

/// Values of the right type that the column has no room for.
fn misfits(column: Column<'_>, current: &Datum<'static>) -> Vec<Datum<'static>> {
    let power = |exponent: u8| 10i128.checked_pow(u32::from(exponent));
    let numbers: Vec<Option<Num>> = match (column.ty(), current) {
        (Some(Type::Int), _) => {
            vec![Some(Num::whole(3_000_000_000)), Some(Num::whole(-3_000_000_000))]
        }
        (Some(Type::Long), _) => vec![power(19).map(Num::whole), power(19).map(|n| Num::whole(-n))],
        (Some(Type::Float), _) => vec![Num::from_f64(1e300), Num::from_f64(-1e300)],
        (Some(Type::Decimal { precision, scale }), current) => {
            let finer = Num::decimal(1, scale.saturating_add(1));
            let from = match current {
                Datum::Number(n) => *n,
                _ => Num::whole(0),
            };
            vec![sum(from, finer), power(precision.saturating_sub(*scale)).map(Num::whole)]
        }
        (Some(Type::Timestamp), _) => return vec![text("2024-05-06T07:08:09.0000001Z")],
        _ => Vec::new(),
    };
    numbers.into_iter().flatten().map(Datum::Number).collect()
}

/// What a cell of CSV is read as.
fn cell(ty: &Type, value: Datum<'static>) -> Datum<'static> {
    let spelt = match (ty, &value) {
        (Type::Json | Type::Struct(_) | Type::List(_), _) => return value,
        (_, Datum::Text(spelt)) => spelt.to_string(),
        (_, other) => other.to_string(),
    };
    let read = match ty {
        Type::String | Type::Date | Type::Timestamp => None,
        Type::Boolean if spelt.eq_ignore_ascii_case("true") => Some(Datum::Boolean(true)),
        Type::Boolean if spelt.eq_ignore_ascii_case("false") => Some(Datum::Boolean(false)),
        Type::Boolean => None,
        _ => Num::parse(&spelt).map(Datum::Number),
    };
    read.unwrap_or(Datum::Text(Cow::Owned(spelt)))
}

fn scale(number: Num) -> Option<u8> {
    match number {
        Num::Exact { scale, .. } => Some(scale),
        Num::Double(_) => None,
    }
}

/// The sum of two exact numbers, if it is one.
fn sum(a: Num, b: Num) -> Option<Num> {
    let scale = scale(a)?.max(scale(b)?);
    Some(Num::decimal(a.to_decimal(scale)?.checked_add(b.to_decimal(scale)?)?, scale))
}

fn negative(number: Num) -> Option<Num> {
    let scale = scale(number)?;
    Some(Num::decimal(number.to_decimal(scale)?.checked_neg()?, scale))
}

/// The segments of a JSON pointer.
fn segments(pointer: &str) -> Vec<String> {
    crate::pointer::names(pointer).collect()
}

/// The value at a place.
fn at<'d>(row: &'d Datum<'static>, pointer: &str) -> Option<&'d Datum<'static>> {
    segments(pointer).iter().try_fold(row, |value, segment| match value {
        Datum::Array(items) => items.get(segment.parse::<usize>().ok()?),
        object => object.get(segment),
    })
}

fn at_mut<'d>(row: &'d mut Datum<'static>, segments: &[String]) -> Option<&'d mut Datum<'static>> {
    segments.iter().try_fold(row, |value, segment| match value {
        Datum::Array(items) => items.get_mut(segment.parse::<usize>().ok()?),
        Datum::Object(properties) => {
            properties.iter_mut().find(|(name, _)| name == segment).map(|(_, value)| value)
        }
        _ => None,
    })
}

/// The row with another value at a place; `None` if it has no such place.
fn with(row: &Datum<'static>, pointer: &str, value: Datum<'static>) -> Option<Datum<'static>> {
    let mut row = row.clone();
    let segments = segments(pointer);
    if let Some(place) = at_mut(&mut row, &segments) {
        *place = value;
        return Some(row);
    }
    let (last, parents) = segments.split_last()?;
    match at_mut(&mut row, parents)? {
        Datum::Object(properties) => properties.push((Cow::Owned(last.clone()), value)),
        _ => return None,
    }
    Some(row)
}

/// The row without a property; `None` if it has no such property.
fn without(row: &Datum<'static>, pointer: &str) -> Option<Datum<'static>> {
    let mut row = row.clone();
    let segments = segments(pointer);
    let (last, parents) = segments.split_last()?;
    let Datum::Object(properties) = at_mut(&mut row, parents)? else { return None };
    let at = properties.iter().position(|(name, _)| name == last)?;
    properties.remove(at);
    Some(row)
}

/// Texts of a pattern's shape: literals, classes, groups, alternatives and repetitions. Whether a text really matches is
/// for the pattern to say.
mod shape {
    use super::{LENGTH_LIMIT, Random};

    /// Alternatives, each a sequence.
    pub(super) struct Shape(Vec<Vec<Part>>);

    struct Part {
        what: What,
        least: u64,
        /// Without end where `None`.
        most: Option<u64>,
    }

    enum What {
        /// One character of these ranges.
        Class(Vec<(char, char)>),
        Group(Shape),
        /// What takes no room: anchors and word boundaries.
        Nothing,
    }

    const DIGIT: &[(char, char)] = &[('0', '9')];
    const WORD: &[(char, char)] = &[('a', 'z'), ('0', '9'), ('A', 'Z'), ('_', '_')];
    const SPACE: &[(char, char)] = &[(' ', ' ')];
    const PRINTABLE: &[(char, char)] = &[(' ', '~')];
    const LETTER: &[(char, char)] = &[('a', 'z'), ('A', 'Z')];
    /// Groups in groups.
    const NESTING_LIMIT: usize = 50;

    /// A pattern's shape; `None` if it is beyond us.
    pub(super) fn of(pattern: &str) -> Option<Shape> {
        let mut reader =
            Reader { rest: pattern.chars().collect::<Vec<_>>().into_iter().peekable() };
        let shape = reader.alternatives(0)?;
        reader.rest.next().is_none().then_some(shape)
    }

    impl Shape {
        /// A text; repetitions are at most `spread` longer than they must be.
        pub(super) fn text(&self, random: &mut Random, spread: u64) -> Option<String> {
            let mut text = String::new();
            let mut steps = LENGTH_LIMIT;
            self.write(random, spread, &mut text, &mut steps)?;
            Some(text)
        }

        /// `None` once the steps are used up: empty groups can be repeated without end.
        fn write(
            &self,
            random: &mut Random,
            spread: u64,
            text: &mut String,
            steps: &mut u64,
        ) -> Option<()> {
            for part in random.pick(&self.0)? {
                let room =
                    part.most.map_or(spread, |most| most.saturating_sub(part.least).min(spread));
                let times = part.least + random.below(room + 1);
                for _ in 0..times {
                    *steps = steps.checked_sub(1)?;
                    match &part.what {
                        What::Nothing => break,
                        What::Class(ranges) => {
                            let (low, high) = *random.pick(ranges)?;
                            let code =
                                random.between(u32::from(low).into(), u32::from(high).into());
                            text.push(char::from_u32(u32::try_from(code).ok()?).unwrap_or(low));
                        }
                        What::Group(shape) => shape.write(random, spread, text, steps)?,
                    }
                }
            }
            Some(())
        }
    }

    struct Reader {
        rest: std::iter::Peekable<std::vec::IntoIter<char>>,
    }

    impl Reader {
        fn alternatives(&mut self, depth: usize) -> Option<Shape> {
            if depth > NESTING_LIMIT {
                return None;
            }
            let mut all = vec![Vec::new()];
            while let Some(c) = self.rest.next_if(|c| *c != ')') {
                if c == '|' {
                    all.push(Vec::new());
                    continue;
                }
                let what = self.what(c, depth)?;
                let (least, most) = self.repetition()?;
                all.last_mut()?.push(Part { what, least, most });
            }
            Some(Shape(all))
        }

        fn what(&mut self, c: char, depth: usize) -> Option<What> {
            Some(match c {
                '^' | '$' => What::Nothing,
                '.' => What::Class(PRINTABLE.to_vec()),
                '[' => What::Class(self.class()?),
                '(' => {
                    if self.rest.next_if_eq(&'?').is_some() && self.rest.next()? == '<' {
                        // The group's name.
                        while self.rest.next()? != '>' {}
                    }
                    let inner = self.alternatives(depth + 1)?;
                    self.rest.next_if_eq(&')')?;
                    What::Group(inner)
                }
                '\\' => match self.rest.next()? {
                    'b' | 'B' => What::Nothing,
                    escaped => What::Class(self.escape(escaped)?),
                },
                other => What::Class(vec![(other, other)]),
            })
        }

        fn class(&mut self) -> Option<Vec<(char, char)>> {
            let negated = self.rest.next_if_eq(&'^').is_some();
            let mut ranges = Vec::new();
            loop {
                let low = match self.rest.next()? {
                    ']' => break,
                    '\\' => match self.rest.next()? {
                        'b' => vec![('\u{8}', '\u{8}')],
                        escaped => self.escape(escaped)?,
                    },
                    c => vec![(c, c)],
                };
                let is_range = matches!(low.as_slice(), [(a, b)] if a == b)
                    && self.rest.next_if_eq(&'-').is_some();
                if !is_range {
                    ranges.extend(low);
                    continue;
                }
                let start = low.first()?.0;
                match self.rest.next()? {
                    // A hyphen at the end is one.
                    ']' => {
                        ranges.extend([(start, start), ('-', '-')]);
                        break;
                    }
                    '\\' => {
                        let escaped = self.rest.next()?;
                        ranges.push((start, self.escape(escaped)?.first()?.0));
                    }
                    end => ranges.push((start, end)),
                }
            }
            Some(if negated { others(&ranges) } else { ranges })
        }

        fn escape(&mut self, escaped: char) -> Option<Vec<(char, char)>> {
            let one = |c: char| Some(vec![(c, c)]);
            match escaped {
                'd' => Some(DIGIT.to_vec()),
                'w' => Some(WORD.to_vec()),
                's' => Some(SPACE.to_vec()),
                'D' => Some(others(DIGIT)),
                'W' => Some(others(WORD)),
                'S' => Some(others(SPACE)),
                'n' => one('\n'),
                'r' => one('\r'),
                't' => one('\t'),
                'f' => one('\u{c}'),
                'v' => one('\u{b}'),
                '0' => one('\0'),
                'c' => one(char::from_u32(
                    u32::from(self.rest.next()?.to_ascii_uppercase()).checked_sub(64)?,
                )?),
                'x' | 'u' => {
                    let digits: String = if self.rest.next_if_eq(&'{').is_some() {
                        self.rest.by_ref().take_while(|c| *c != '}').collect()
                    } else {
                        self.rest.by_ref().take(if escaped == 'x' { 2 } else { 4 }).collect()
                    };
                    one(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?)
                }
                'p' | 'P' => {
                    self.rest.next_if_eq(&'{')?;
                    let name: String = self.rest.by_ref().take_while(|c| *c != '}').collect();
                    let ranges = match name.as_str() {
                        "L" | "Letter" | "Alphabetic" => LETTER,
                        "Lu" | "Uppercase_Letter" => &[('A', 'Z')],
                        "Ll" | "Lowercase_Letter" => &[('a', 'z')],
                        "N" | "Nd" | "Number" => DIGIT,
                        _ => PRINTABLE,
                    };
                    Some(if escaped == 'P' { others(ranges) } else { ranges.to_vec() })
                }
                other => one(other),
            }
        }

        /// How often the part before it comes.
        fn repetition(&mut self) -> Option<(u64, Option<u64>)> {
            let times = match self.rest.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.rest.next();
                    let inner: String = self.rest.by_ref().take_while(|c| *c != '}').collect();
                    let times = match inner.split_once(',') {
                        None => inner.parse().ok().map(|n| (n, Some(n)))?,
                        Some((least, "")) => (least.parse().ok()?, None),
                        Some((least, most)) => (least.parse().ok()?, Some(most.parse().ok()?)),
                    };
                    self.rest.next_if_eq(&'?');
                    return Some(times);
                }
                _ => return Some((1, Some(1))),
            };
            self.rest.next();
            // Lazy or not, the texts are the same.
            self.rest.next_if_eq(&'?');
            Some(times)
        }
    }

    /// The printable characters that are in none of the ranges.
    fn others(ranges: &[(char, char)]) -> Vec<(char, char)> {
        let inside = |c: &char| ranges.iter().any(|(low, high)| (low..=high).contains(&c));
        (' '..='~').filter(|c| !inside(c)).map(|c| (c, c)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flights() -> Contract {
        Contract::parse(include_bytes!("../../../examples/flights/contract.json")).unwrap()
    }

    fn orders() -> Contract {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {
                "version": "1.0.0",
                "team": {"name": "Orders"},
                "format": {"type": "jsonl"},
                "unknown_fields": "reject",
            },
            "$defs": {
                "country": {"type": "string", "pattern": "^(?:[A-Z]{2}|X[0-9]+-\\w{2,4})$", "maxLength": 12},
            },
            "required": ["id", "status", "placed_at", "customer", "lines"],
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "status": {"enum": ["open", "shipped", "cancelled"]},
                "placed_at": {"type": "string", "format": "date-time"},
                "shipped_on": {"type": ["string", "null"], "format": "date"},
                "customer": {
                    "type": "object",
                    "required": ["email"],
                    "properties": {
                        "email": {"type": "string", "format": "email"},
                        "name": {"type": "string", "minLength": 2, "maxLength": 20},
                        "address": {
                            "type": ["object", "null"],
                            "required": ["country"],
                            "properties": {
                                "country": {"$ref": "#/$defs/country"},
                                "zip": {"type": "string", "pattern": "^[0-9]{5}(-[0-9]{4})?$"},
                            },
                        },
                    },
                    "dependentRequired": {"address": ["name"]},
                },
                "lines": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 5,
                    "uniqueItems": true,
                    "items": {
                        "type": "object",
                        "required": ["sku", "quantity", "price"],
                        "properties": {
                            "sku": {"type": "string", "pattern": "^[^a-z\\s]{3}\\.\\d+$"},
                            "quantity": {
                                "type": "integer", "exclusiveMinimum": 0, "multipleOf": 5,
                                "x-sluicegate": {"logicalType": "int"},
                            },
                            "price": {
                                "type": "number", "minimum": 0, "exclusiveMaximum": 100000, "multipleOf": 0.05,
                                "x-sluicegate": {"logicalType": "decimal(12,2)"},
                            },
                        },
                    },
                },
                "link": {"type": "string", "format": "uri"},
                "paid": {"type": "boolean"},
                "coupon": {"type": "string", "minLength": 3},
                "discount": {"type": "number", "minimum": 0.001, "maximum": 0.002},
                "note": {"x-sluicegate": {"logicalType": "json"}},
            },
            "if": {"properties": {"status": {"const": "shipped"}}},
            "then": {"required": ["shipped_on"], "properties": {"shipped_on": {"type": "string"}}},
            "else": {"properties": {"shipped_on": {"type": "null"}}},
            "not": {"required": ["coupon", "discount"]},
        });
        Contract::parse(document.to_string().as_bytes()).unwrap()
    }

    fn keywords(bad: &[Bad]) -> BTreeSet<&str> {
        bad.iter().map(|bad| bad.rule.as_str()).collect()
    }

    #[test]
    fn good_rows_are_accepted_and_as_many_as_asked_for() {
        for contract in [flights(), orders()] {
            let rows = valid(&contract, 7, 200);
            assert_eq!(rows.len(), 200);
            for row in &rows {
                assert_eq!(contract.explain(row), [], "{row}");
            }
        }
    }

    #[test]
    fn good_rows_differ_where_the_contract_lets_them() {
        let rows = valid(&orders(), 1, 200);
        let seen = |is: &dyn Fn(&Datum<'_>) -> bool| rows.iter().filter(|row| is(row)).count();
        for status in ["open", "shipped", "cancelled"] {
            assert!(seen(&|row| row.get("status") == Some(&text(status))) > 10, "{status}");
        }
        let address =
            |row: &Datum<'_>| row.get("customer").and_then(|c| c.get("address").map(Datum::types));
        assert!(seen(&|row| address(row) == Some(Types::OBJECT)) > 20);
        assert!(seen(&|row| address(row) == Some(Types::NULL)) > 5);
        assert!(seen(&|row| address(row).is_none()) > 20);
    }

    #[test]
    fn bad_rows_break_the_rule_they_name() {
        for contract in [flights(), orders()] {
            let rows = invalid(&contract, 7, 200);
            assert_eq!(rows.len(), 200);
            let mut alone = 0;
            for bad in &rows {
                let faults = contract.explain(&bad.row);
                assert!(
                    faults.iter().any(|f| f.pointer == bad.at && f.rule == bad.rule),
                    "{bad:?} {faults:?}"
                );
                alone += usize::from(faults.len() == 1);
            }
            assert!(alone > 190, "{alone}");
        }
    }

    #[test]
    fn every_rule_that_can_be_broken_is() {
        let contract = flights();
        let bad = invalid(&contract, 3, 200);
        assert_eq!(
            keywords(&bad),
            BTreeSet::from([
                "enum",
                "exclusiveMinimum",
                "format",
                "logicalType",
                "maxLength",
                "maximum",
                "minLength",
                "minimum",
                "pattern",
                "required",
                "type",
            ])
        );
        let broken: BTreeSet<_> = bad.iter().map(|b| (b.at.clone(), b.rule.clone())).collect();
        let unbroken: Vec<_> = rules(&contract)
            .into_iter()
            .filter(|(at, r)| !broken.contains(&(at.clone(), (*r).to_owned())))
            .collect();
        // The whole row is always an object, text is always a string, and a bound is stricter than 64 bits.
        for (at, rule) in unbroken {
            let text =
                ["/carrier", "/tailnum", "/origin", "/dest", "/time_hour"].contains(&at.as_str());
            assert!(
                rule == "type" && (text || at.is_empty()) || rule == "logicalType",
                "{at} {rule}"
            );
        }
        let contract = orders();
        let bad = invalid(&contract, 3, rules(&contract).len());
        let all = keywords(&bad);
        for rule in [
            "type",
            "required",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "pattern",
            "enum",
            "format",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "uniqueItems",
            "multipleOf",
            "not",
            "dependentRequired",
            "logicalType",
            "unknown_field",
        ] {
            assert!(all.contains(rule), "{rule}");
        }
        assert!(bad.iter().any(|b| b.at == "/shipped_on" && b.rule == "required"));
        assert!(bad.iter().any(|b| b.at == "/customer/address/country" && b.rule == "pattern"));
    }

    #[test]
    fn the_same_seed_gives_the_same_rows() {
        for contract in [flights(), orders()] {
            assert_eq!(valid(&contract, 5, 20), valid(&contract, 5, 20));
            assert_eq!(invalid(&contract, 5, 50), invalid(&contract, 5, 50));
            assert_ne!(valid(&contract, 5, 20), valid(&contract, 6, 20));
            assert_ne!(invalid(&contract, 5, 50), invalid(&contract, 6, 50));
        }
    }

    #[test]
    fn rows_of_csv_say_what_a_file_can_say() {
        let contract = flights();
        let rows = valid(&contract, 9, 300);
        let bad = invalid(&contract, 9, 300);
        for row in rows.iter().chain(bad.iter().map(|b| &b.row)) {
            for field in &contract.fields {
                let value = row.get(&field.source);
                assert!(value != Some(&text("NA")) && value != Some(&text("")), "{row}");
                assert!(value.is_some() || !field.nullable, "{row}");
            }
        }
        assert!(rows.iter().any(|row| row.get("dep_time") == Some(&Datum::Null)));
    }

    #[test]
    fn a_contract_that_accepts_nothing_gives_nothing() {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "x"}, "format": {"type": "jsonl"}},
            "required": ["a"],
            "properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}},
        });
        let contract = Contract::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!(valid(&contract, 1, 10), []);
        assert_eq!(invalid(&contract, 1, 10), []);
    }

    #[test]
    fn examples_help_where_the_generator_is_blind() {
        let mut document: serde_json::Value = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "x"}, "format": {"type": "jsonl"}},
            "required": ["a", "b"],
            "properties": {
                "a": {"type": "string", "pattern": "^[a-z]{20}$", "not": {"pattern": "[^q]"}},
                "b": {"type": "integer", "minimum": 0},
            },
        });
        let parse = |d: &serde_json::Value| Contract::parse(d.to_string().as_bytes()).unwrap();
        assert_eq!(valid(&parse(&document), 1, 10), []);
        document["x-sluicegate"]["examples"] = json!([{"a": "q".repeat(20), "b": 1}]);
        assert_eq!(valid(&parse(&document), 1, 10).len(), 10);
        let bad = invalid(&parse(&document), 1, 20);
        assert!(
            keywords(&bad).is_superset(&BTreeSet::from(["pattern", "not", "minimum", "required"]))
        );
    }

    #[test]
    fn texts_of_a_pattern_match_it() {
        for written in [
            "^abc$",
            "^[A-Z]{3}$",
            r"^\d{3,}-\w+$",
            "^(?:GET|PUT|(?<other>POST)) /[a-z./-]*$",
            r"^\$\d+\.\d{2}$",
            r"^[^\d,]{4}$",
            "^a?b+?c*$",
            r"^\x41\u0042\u{43}$",
            "x|^y$",
            r"^\p{Lu}\p{Ll}+$",
            "^[a-]$",
            "^.{10}$",
            r"^\S+@\S+\.\S{2,}$",
            "^$",
            r"^[\w.]+$",
            "^((a|b){2}c){3}$",
        ] {
            let pattern = crate::Pattern::new(written).unwrap();
            let shape = shape::of(written).unwrap_or_else(|| panic!("{written}"));
            let mut random = Random(1);
            for spread in [0, 1, 5] {
                let text = shape.text(&mut random, spread).unwrap();
                assert!(pattern.is_match(&text), "{written} {text}");
            }
        }
        for hostile in ["(", "[", "a{", "\\", &"(".repeat(10_000), "[z-", "(?<", "\\u{"] {
            assert!(shape::of(hostile).is_none(), "{hostile:.20}");
        }
        let endless = shape::of("((){1000}){1000000}").unwrap();
        assert_eq!(endless.text(&mut Random(1), 0), None);
    }

    #[test]
    fn bounds_wider_than_any_number_are_no_trouble() {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {"version": "1.0.0", "team": {"name": "x"}, "format": {"type": "jsonl"}},
            "required": ["a", "b", "c"],
            "properties": {
                "a": {"type": "integer", "minimum": -1e300, "maximum": 1e300},
                "b": {"type": "number", "minimum": -170141183460469231731687303715884105728.0, "multipleOf": 1e30},
                "c": {"type": "string", "minLength": 40_000},
            },
        });
        let contract = Contract::parse(document.to_string().as_bytes()).unwrap();
        let rows = valid(&contract, 1, 5);
        assert_eq!(rows.len(), 5);
        assert!(rows.iter().all(|row| contract.explain(row).is_empty()));
    }
}
