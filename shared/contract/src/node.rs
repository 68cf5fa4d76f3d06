//! Reading a document key by key, so that nothing in it is passed over.
//!
//! The reader is the linter: each key is taken off the object as it is understood, and what is left over is refused at
//! its place. So nothing can be accepted silently.

use std::fmt;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde_json::{Map, Value};

use crate::pointer::child;

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// JSON pointer (RFC 6901) to the place.
    pub pointer: String,
    pub message: String,
}

/// All that is wrong with a document; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// A finding about the document as a whole.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self(vec![Finding { pointer: String::new(), message: message.into() }])
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let at = if finding.pointer.is_empty() { "(root)" } else { &finding.pointer };
            write!(f, "{at}: {}", finding.message)?;
        }
        Ok(())
    }
}

/// A JSON object that is being read: keys are taken off, and [`Node::done`] refuses the rest.
pub(crate) struct Node<'a> {
    pub(crate) map: Map<String, Value>,
    pub(crate) pointer: String,
    pub(crate) findings: &'a mut Vec<Finding>,
}

impl<'a> Node<'a> {
    pub(crate) fn new(value: Value, pointer: String, findings: &'a mut Vec<Finding>) -> Self {
        let map = match value {
            Value::Object(map) => map,
            other => {
                let message = format!("must be an object, is {}", brief(&other));
                findings.push(Finding { pointer: pointer.clone(), message });
                Map::new()
            }
        };
        Self { map, pointer, findings }
    }

    pub(crate) fn at(&self, key: &str) -> String {
        child(&self.pointer, key)
    }

    pub(crate) fn refuse(&mut self, key: &str, message: impl Into<String>) {
        let pointer = if key.is_empty() { self.pointer.clone() } else { self.at(key) };
        self.findings.push(Finding { pointer, message: message.into() });
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key)
    }

    pub(crate) fn child(&mut self, key: &str) -> Option<Node<'_>> {
        let value = self.take(key)?;
        let pointer = self.at(key);
        Some(Node::new(value, pointer, self.findings))
    }

    /// A value of one kind, or a finding.
    pub(crate) fn take_as<T>(
        &mut self,
        key: &str,
        kind: &str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let found = convert(&value);
        if found.is_none() {
            self.refuse(key, format!("must be {kind}, is {}", brief(&value)));
        }
        found
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        self.take_as(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    pub(crate) fn flag(&mut self, key: &str) -> Option<bool> {
        self.take_as(key, "true or false", Value::as_bool)
    }

    /// A count; `2.0` is one.
    pub(crate) fn count(&mut self, key: &str) -> Option<u64> {
        self.take_as(key, "a whole number, 0 or more", |v| {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, and within 2^53"
            )]
            let whole =
                |n: f64| ((0.0..=9e15).contains(&n) && n.fract() == 0.0).then_some(n as u64);
            v.as_u64().or_else(|| v.as_f64().and_then(whole))
        })
    }

    /// A list of strings, none twice.
    pub(crate) fn names(&mut self, key: &str) -> Option<Vec<String>> {
        self.take_as(key, "a list of strings, none twice", strings)
    }

    /// One of a few words, each with its meaning.
    pub(crate) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.take_as(key, &format!("one of {}", words.join(", ")), |v| {
            let word = v.as_str()?;
            choices.iter().find(|(w, _)| *w == word).map(|(_, meaning)| *meaning)
        })
    }

    pub(crate) fn duration(&mut self, key: &str) -> Option<SignedDuration> {
        self.take_as(key, "an ISO 8601 duration of days or less, such as P3D or PT1H", |v| {
            v.as_str().and_then(duration)
        })
    }

    /// Refuses every key that nobody took; `known` are those of this place.
    pub(crate) fn done(&mut self, known: &str) {
        self.done_with(|_| format!("is not known here: {known}"));
    }

    pub(crate) fn done_with(&mut self, hint: impl Fn(&str) -> String) {
        let left: Vec<_> = self.map.keys().cloned().collect();
        for key in left {
            let message = format!("`{key}` {}", hint(&key));
            self.refuse(&key, message);
        }
    }
}

/// An ISO 8601 duration of weeks or less; a day has 24 hours.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    // The parser takes plain English as well.
    let span: Span = Some(text).filter(|text| text.starts_with('P'))?.parse().ok()?;
    let days = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (!days.is_negative()).then_some(days)
}

/// A list of strings, none twice.
pub(crate) fn strings(value: &Value) -> Option<Vec<String>> {
    let names = value.as_array()?.iter().map(|n| n.as_str().map(str::to_owned));
    let names = names.collect::<Option<Vec<_>>>()?;
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    (distinct.len() == names.len()).then_some(names)
}

/// A value cut short for a message.
pub(crate) fn brief(value: &Value) -> String {
    cut(value.to_string())
}

/// Characters of a value that a message shows.
const SHOWN: usize = 60;

/// A text cut short for a message.
pub(crate) fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text,
        Some(_) => format!("{}…", text.chars().take(SHOWN).collect::<String>()),
    }
}
