//! One column's summary: exact while it has few different values, estimated beyond.

use arrow::array::{Array, PrimitiveArray, StringArray};
use arrow::datatypes::ArrowPrimitiveType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datasketches::hll::{HllSketch, HllType};
use sluicegate_contract::Type;
use sluicegate_contract::profile::{ColumnProfile, Distinct, Frequent, Lengths, Top};

use super::counts::{Counted, Counts};
use super::value::{Value, of_units, unit};
use super::{digest, sample};

/// 2^11 registers: 1.04 ÷ √2048 is a standard deviation of 2.3 %.
pub(super) const LG_REGISTERS: u8 = 11;
pub(super) const DISTINCT_ERROR: f64 = 0.023;
/// Frequent values that are named.
pub(super) const TOP: usize = 10;
/// Bytes of a text that are kept; a longer one is cut.
const TEXT: usize = 64;
/// A longer text is not counted.
const COUNTED_TEXT: usize = 256;

/// Numbers, dates and times.
#[derive(Default)]
pub(super) struct Numbers<T: Value> {
    few: Counts<()>,
    many: Option<Box<Many<T>>>,
    /// Values of the sampled rows.
    sample: Vec<Option<T>>,
    scratch: Vec<T>,
}

struct Many<T> {
    min: T,
    max: T,
    moments: Moments,
    /// Of units; `None` once it does not fit.
    whole: Option<i128>,
    sum: f64,
    last: Option<u64>,
    hll: HllSketch,
}

/// Number, mean and Σ(x - mean)² of values, which add up (Chan, Golub, LeVeque, "Updating Formulae and a Pairwise
/// Algorithm for Computing Sample Variances").
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub(super) values: f64,
    pub(super) mean: f64,
    pub(super) squares: f64,
}

impl Moments {
    pub(super) fn add(&mut self, other: Self) {
        let values = self.values + other.values;
        if other.values <= 0.0 {
            return;
        }
        let apart = other.mean - self.mean;
        self.mean += apart * other.values / values;
        self.squares += other.squares + apart * apart * self.values * other.values / values;
        self.values = values;
    }

    /// `None` for fewer than two values.
    pub(super) fn variance(&self) -> Option<f64> {
        (self.values > 1.0).then(|| self.squares / (self.values - 1.0))
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
fn real(count: u64) -> f64 {
    count as f64
}

pub(super) fn new_hll() -> Option<HllSketch> {
    HllSketch::new(LG_REGISTERS, HllType::Hll8).ok()
}

impl<T: Value> Numbers<T> {
    pub(super) fn limit(&mut self, most: usize) {
        self.few.limit(most);
    }

    pub(super) fn update<A: ArrowPrimitiveType<Native = T>>(
        &mut self,
        array: &PrimitiveArray<A>,
        picked: Option<&[usize]>,
    ) {
        for at in picked.unwrap_or_default() {
            self.sample.push(array.is_valid(*at).then(|| array.value(*at)));
        }
        if array.null_count() == 0 {
            self.add(array.values());
        } else {
            let mut values = std::mem::take(&mut self.scratch);
            values.clear();
            values.extend(array.iter().flatten());
            self.add(&values);
            self.scratch = values;
        }
    }

    fn add(&mut self, values: &[T]) {
        let mut counted = 0;
        if self.many.is_none() {
            let mut is_new = |value: &T| match value.key() {
                Some(key) => self.few.add(key, |()| true, || ()) == Counted::TooMany,
                None => true,
            };
            match values.iter().position(&mut is_new) {
                None => return,
                Some(at) => counted = at,
            }
            self.many = Many::of(&self.few).map(Box::new);
        }
        if let Some(many) = &mut self.many {
            many.add(values.get(counted..).unwrap_or_default());
        }
    }

    pub(super) fn thin(&mut self, keep: &[bool]) {
        thin(&mut self.sample, keep);
    }

    pub(super) fn finish(self, ty: &Type, profile: &mut ColumnProfile) {
        let unit = unit(ty);
        match &self.many {
            None => self.finish_few(ty, unit, profile),
            Some(many) => {
                profile.min = Some(many.min.text(ty));
                profile.max = Some(many.max.text(ty));
                moments(&many.moments, many.whole, many.sum, ty, profile);
                profile.distinct = distinct(&many.hll, None);
                let sampled: Vec<T> = self.sample.into_iter().flatten().collect();
                let reals: Vec<f64> = sampled.iter().map(|value| value.real() * unit).collect();
                profile.quantiles = digest::of_sample(&reals, profile.values);
                let mut keys: Vec<String> = sampled.iter().map(|value| value.text(ty)).collect();
                profile.top = top_of_sample(&mut keys, profile.values);
            }
        }
    }

    fn finish_few(&self, ty: &Type, unit: f64, profile: &mut ColumnProfile) {
        let mut entries: Vec<(T, u64)> =
            self.few.entries().map(|(key, (), count)| (T::of_key(key), count)).collect();
        entries.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        profile.min = entries.first().map(|(value, _)| value.text(ty));
        profile.max = entries.last().map(|(value, _)| value.text(ty));
        let Some(Many { moments: all, whole, sum, hll, .. }) = Many::<T>::of(&self.few) else {
            return;
        };
        moments(&all, whole, sum, ty, profile);
        profile.distinct = distinct(&hll, Some(entries.len()));
        profile.quantiles =
            digest::of_counts(entries.iter().map(|(value, count)| (value.real() * unit, *count)));
        entries.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let values = entries.iter().take(TOP);
        let values = values.map(|(value, count)| Frequent { value: value.text(ty), count: *count });
        profile.top = Top { values: values.collect(), error: 0.0 };
    }
}

impl<T: Value> Many<T> {
    /// What is known of values that were counted.
    fn of(few: &Counts<()>) -> Option<Self> {
        let mut many = Self {
            min: T::default(),
            max: T::default(),
            moments: Moments::default(),
            whole: Some(0),
            sum: 0.0,
            last: None,
            hll: new_hll()?,
        };
        let mut entries: Vec<(T, u64)> =
            few.entries().map(|(key, (), count)| (T::of_key(key), count)).collect();
        entries.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        if let (Some((min, _)), Some((max, _))) = (entries.first(), entries.last()) {
            (many.min, many.max) = (*min, *max);
        }
        for (value, count) in entries {
            let values = real(count);
            many.moments.add(Moments { values, mean: value.real(), squares: 0.0 });
            many.sum += value.real() * values;
            many.whole = many
                .whole
                .zip(value.whole())
                .and_then(|(sum, value)| sum.checked_add(value.checked_mul(i128::from(count))?));
            value.sketch(&mut many.hll);
        }
        Some(many)
    }

    fn add(&mut self, values: &[T]) {
        let Some(first) = values.first() else { return };
        if self.moments.values <= 0.0 {
            (self.min, self.max) = (*first, *first);
        }
        for value in values {
            if *value < self.min {
                self.min = *value;
            }
            if *value > self.max {
                self.max = *value;
            }
        }
        if let Some(whole) = self.whole {
            let sum = values.iter().try_fold(whole, |sum, v| sum.checked_add(v.whole()?));
            self.whole = sum;
        }
        let sum = lanes(values, |value| value.real());
        let count = real(values.len() as u64);
        let mean = sum / count;
        let squares = lanes(values, |value| {
            let apart = value.real() - mean;
            apart * apart
        });
        self.sum += sum;
        self.moments.add(Moments { values: count, mean, squares });
        for value in values {
            // A key that comes in runs need not be hashed again.
            let key = value.key();
            if key.is_none() || key != self.last {
                value.sketch(&mut self.hll);
                self.last = key;
            }
        }
    }
}

/// A sum of reals, several at a time, and always in the same order.
fn lanes<T: Copy>(values: &[T], real: impl Fn(T) -> f64) -> f64 {
    let mut sums = [0.0; 8];
    let (groups, rest) = values.as_chunks::<8>();
    for group in groups {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum += real(*value);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| real(*value)).sum::<f64>()
}

/// Sum, mean and variance in the column's own values.
fn moments(all: &Moments, whole: Option<i128>, sum: f64, ty: &Type, profile: &mut ColumnProfile) {
    if all.values <= 0.0 {
        return;
    }
    let unit = unit(ty);
    // What is beyond a double is not said.
    profile.mean = Some(all.mean * unit).filter(|mean| mean.is_finite());
    let variance = all.variance().map(|variance| variance * unit * unit);
    profile.variance = variance.filter(|variance| variance.is_finite());
    // The sum of dates says nothing.
    profile.sum = match ty {
        Type::Date | Type::Timestamp => None,
        Type::Float | Type::Double => sum.is_finite().then(|| format!("{sum:?}")),
        _ => whole.map(|whole| of_units(whole, ty)),
    };
}

pub(super) fn distinct(hll: &HllSketch, counted: Option<usize>) -> Distinct {
    let (estimate, error) = match counted {
        Some(counted) => (real(counted as u64), 0.0),
        None => (hll.estimate(), DISTINCT_ERROR),
    };
    Distinct { estimate, error, hll: STANDARD.encode(hll.serialize()) }
}

fn thin<T>(sample: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    sample.retain(|_| keep.next().copied().unwrap_or(true));
}

/// The most frequent values of a sample, counted as if it were all.
fn top_of_sample(sample: &mut [String], values: u64) -> Top {
    sample.sort_unstable();
    let error = sample::error(sample.len());
    let size = real(sample.len() as u64);
    let mut found: Vec<(usize, &String)> = sample
        .chunk_by(|a, b| a == b)
        // One in the sample is one in many, and no more frequent than others.
        .filter(|same| real(same.len() as u64) > (error * size).max(1.0))
        .filter_map(|same| Some((same.len(), same.first()?)))
        .collect();
    found.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let values = found.into_iter().take(TOP).map(|(count, value)| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
        let count = (real(count as u64) / size * real(values)).round() as u64;
        Frequent { value: value.clone(), count }
    });
    let values: Vec<_> = values.collect();
    Top { values, error }
}

/// Strings.
#[derive(Default)]
pub(super) struct Texts {
    few: Counts<u32>,
    /// The texts that do not fit a key.
    long: Vec<Box<str>>,
    many: Option<Box<ManyTexts>>,
    sample: Vec<Option<Box<str>>>,
}

struct ManyTexts {
    min: String,
    max: String,
    lengths: Option<Lengths>,
    hll: HllSketch,
}

impl Texts {
    pub(super) fn limit(&mut self, most: usize) {
        self.few.limit(most);
    }

    pub(super) fn update(&mut self, array: &StringArray, picked: Option<&[usize]>) {
        for at in picked.unwrap_or_default() {
            let text = array.is_valid(*at).then(|| cut(array.value(*at)).into());
            self.sample.push(text);
        }
        let mut from = 0;
        if self.many.is_none() {
            let mut rows = 0..array.len();
            match rows.find(|at| array.is_valid(*at) && !self.count(array.value(*at))) {
                None => return,
                Some(at) => from = at,
            }
            self.many = self.to_many().map(Box::new);
        }
        if let Some(many) = &mut self.many {
            many.add(&array.slice(from, array.len() - from));
        }
    }

    /// Counts a text; `false` if it is one too many.
    fn count(&mut self, text: &str) -> bool {
        let bytes = text.as_bytes();
        if bytes.len() > COUNTED_TEXT {
            return false;
        }
        let (few, long) = (&mut self.few, &mut self.long);
        let counted = match packed(bytes) {
            Some(key) => few.add(key, |_| true, || u32::MAX),
            None => {
                let next = u32::try_from(long.len()).unwrap_or(u32::MAX);
                let mut is_new = false;
                let same = |at: &u32| long.get(*at as usize).is_some_and(|known| **known == *text);
                let counted = few.add(hash(bytes) | LONG, same, || {
                    is_new = true;
                    next
                });
                if is_new {
                    long.push(text.into());
                }
                counted
            }
        };
        counted == Counted::Yes
    }

    /// The counted texts, in order.
    fn entries(&self) -> Vec<(String, u64)> {
        let entries = self.few.entries().map(|(key, at, count)| {
            let text = match self.long.get(*at as usize) {
                Some(text) if key & LONG != 0 => text.to_string(),
                _ => unpacked(key),
            };
            (text, count)
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable();
        entries
    }

    fn to_many(&self) -> Option<ManyTexts> {
        let entries = self.entries();
        let mut many = ManyTexts {
            min: entries.first().map(|(text, _)| text.clone()).unwrap_or_default(),
            max: entries.last().map(|(text, _)| text.clone()).unwrap_or_default(),
            lengths: None,
            hll: new_hll()?,
        };
        for (text, count) in &entries {
            many.length(text.chars().count() as u64, *count);
            sketch(text, &mut many.hll);
        }
        Some(many)
    }

    pub(super) fn thin(&mut self, keep: &[bool]) {
        thin(&mut self.sample, keep);
    }

    pub(super) fn finish(self, profile: &mut ColumnProfile) {
        let mut entries = self.entries();
        let (many, counted) = match self.many {
            Some(many) => (Some(*many), None),
            None => (self.to_many(), Some(entries.len())),
        };
        let Some(many) = many else { return };
        if profile.values > 0 {
            profile.min = Some(cut(&many.min).to_owned());
            profile.max = Some(cut(&many.max).to_owned());
            profile.lengths = many.lengths;
        }
        profile.distinct = distinct(&many.hll, counted);
        profile.top = if counted.is_some() {
            entries.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            let values = entries.into_iter().take(TOP);
            let values =
                values.map(|(value, count)| Frequent { value: cut(&value).to_owned(), count });
            Top { values: values.collect(), error: 0.0 }
        } else {
            let mut sampled: Vec<String> =
                self.sample.into_iter().flatten().map(String::from).collect();
            top_of_sample(&mut sampled, profile.values)
        };
    }
}

impl ManyTexts {
    fn length(&mut self, length: u64, count: u64) {
        let all = self.lengths.get_or_insert(Lengths { min: length, max: length, sum: 0 });
        all.min = all.min.min(length);
        all.max = all.max.max(length);
        all.sum += length * count;
    }

    fn add(&mut self, array: &StringArray) {
        let is_ascii = array.value_data().is_ascii();
        let mut bounds = (head(&self.min), head(&self.max));
        for text in array.iter().flatten() {
            let length = if is_ascii { text.len() } else { text.chars().count() };
            self.length(length as u64, 1);
            sketch(text, &mut self.hll);
            // Eight bytes say most of what there is to say about the order.
            let start = head(text);
            if start <= bounds.0 && *text < *self.min {
                cut(text).clone_into(&mut self.min);
                bounds.0 = head(&self.min);
            }
            if start >= bounds.1 && *text > *self.max {
                cut(text).clone_into(&mut self.max);
                bounds.1 = head(&self.max);
            }
        }
    }
}

fn sketch(text: &str, hll: &mut HllSketch) {
    hll.update(datasketches::hash::value::raw_bytes::from_str(text));
}

/// The first eight bytes, in an order that is the text's.
fn head(text: &str) -> u64 {
    let bytes = text.as_bytes();
    match bytes.first_chunk::<8>() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            eight.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(eight)
        }
    }
}

/// Keys of texts that are kept beside them.
const LONG: u64 = 1 << 63;

/// A text of up to seven bytes as a key; its length is in the eighth.
#[inline]
fn packed(bytes: &[u8]) -> Option<u64> {
    if bytes.len() > 7 {
        return None;
    }
    let text = bytes.iter().rev().fold(0, |key, byte| (key << 8) | u64::from(*byte));
    Some(text | (bytes.len() as u64) << 56)
}

fn unpacked(key: u64) -> String {
    let length = usize::try_from(key >> 56).unwrap_or_default();
    let bytes = key.to_le_bytes();
    String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned()
}

/// For the table of counts only.
fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mix = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 29)
    };
    let hash =
        words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}

/// A text as far as it is kept.
fn cut(text: &str) -> &str {
    let end = (0..=TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or_default()).unwrap_or(text)
}
