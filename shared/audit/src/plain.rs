//! Rows of JSON Lines in their plainest form: one flat object, known names, no escapes.
//!
//! Almost all rows are such, and reading them takes half the time of reading JSON in general. [`read`] gives just the
//! cells that the general reader would give, or says that the row is not plain; it never says that a row is wrong.

use std::borrow::Cow;

use crate::cell::POWERS;
use crate::decode::Cell;
use crate::jsonl::{Shape, Slot};

/// Whether strings in these bytes end at their next quote and have nothing that JSON forbids: there is no escape and no
/// control character but line feeds.
pub(crate) fn has_plain_strings(bytes: &[u8]) -> bool {
    // Without a branch, and so many at a time.
    let odd = |b: &u8| (*b < 0x20 && *b != b'\n') | (*b == b'\\');
    bytes.chunks(4096).all(|some| !some.iter().fold(false, |any, b| any | odd(b)))
}

/// Reads a row of a text whose strings are plain; `false` leaves some cells filled.
pub(crate) fn read<'de>(shape: &Shape<'_>, text: &'de str, cells: &mut [Cell<'de>]) -> bool {
    row(shape, text, cells).is_some()
}

fn row<'de>(shape: &Shape<'_>, text: &'de str, cells: &mut [Cell<'de>]) -> Option<()> {
    let bytes = text.as_bytes();
    let mut at = skip(bytes, 0);
    at = skip(bytes, one(bytes, at, b'{')?);
    if bytes.get(at) == Some(&b'}') {
        return (skip(bytes, at + 1) == bytes.len()).then_some(());
    }
    let mut before = 0;
    loop {
        let name = one(bytes, at, b'"')?;
        let (known, after) = match shape.guess(before) {
            Some((known, guess)) if is_at(bytes, name, guess) => (known, name + guess.len() + 1),
            _ => {
                let end = name + memchr::memchr(b'"', bytes.get(name..)?)?;
                (shape.find(text.get(name..end)?, before)?, end + 1)
            }
        };
        let cell = cells.get_mut(known)?;
        if !matches!(cell, Cell::Absent) {
            return None;
        }
        let from = skip(bytes, one(bytes, skip(bytes, after), b':')?);
        let (value, end) = value(text, from, shape.slot(known)?)?;
        *cell = value;
        before = known + 1;
        at = skip(bytes, end);
        match bytes.get(at)? {
            b',' => at = skip(bytes, at + 1),
            b'}' => return (skip(bytes, at + 1) == bytes.len()).then_some(()),
            _ => return None,
        }
    }
}

/// Whether a name and a quote stand at a place.
#[inline]
fn is_at(bytes: &[u8], at: usize, name: &str) -> bool {
    let end = at + name.len();
    bytes.get(end) == Some(&b'"') && bytes.get(at..end) == Some(name.as_bytes())
}

#[inline]
fn one(bytes: &[u8], at: usize, byte: u8) -> Option<usize> {
    (bytes.get(at) == Some(&byte)).then_some(at + 1)
}

#[inline]
fn skip(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at) == Some(&b' ') {
        at += 1;
    }
    at
}

fn value<'de>(text: &'de str, from: usize, slot: &Slot<'_>) -> Option<(Cell<'de>, usize)> {
    let bytes = text.as_bytes();
    let raw = matches!(slot, Slot::Raw);
    match bytes.get(from)? {
        b'"' if !raw => {
            let start = from + 1;
            let end = start + memchr::memchr(b'"', bytes.get(start..)?)?;
            Some((Cell::String(Cow::Borrowed(text.get(start..end)?)), end + 1))
        }
        b'-' | b'0'..=b'9' => {
            let (cell, end) = number(bytes, from)?;
            Some((if raw { Cell::Raw(text.get(from..end)?) } else { cell }, end))
        }
        b'n' if bytes.get(from..from + 4) == Some(b"null") => Some((Cell::Null, from + 4)),
        b't' if !raw && bytes.get(from..from + 4) == Some(b"true") => {
            Some((Cell::Boolean(true), from + 4))
        }
        b'f' if !raw && bytes.get(from..from + 5) == Some(b"false") => {
            Some((Cell::Boolean(false), from + 5))
        }
        _ => None,
    }
}

/// A number of at most fifteen digits and no exponent, which is the very double that it says.
fn number<'de>(bytes: &[u8], from: usize) -> Option<(Cell<'de>, usize)> {
    let negative = bytes.get(from) == Some(&b'-');
    let start = from + usize::from(negative);
    let mut whole = 0i64;
    let mut at = start;
    let mut point = None;
    loop {
        let byte = bytes.get(at).copied().unwrap_or_default();
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            whole = whole.wrapping_mul(10).wrapping_add(i64::from(digit));
        } else if byte == b'.' && point.is_none() {
            point = Some(at);
        } else if matches!(byte, b'e' | b'E' | b'.' | b'+' | b'-') {
            return None;
        } else {
            break;
        }
        at += 1;
    }
    let before = point.unwrap_or(at) - start;
    let behind = point.map_or(0, |point| at - point - 1);
    let leads = bytes.get(start) == Some(&b'0') && before > 1;
    if before == 0 || leads || before + behind > 15 || (point.is_some() && behind == 0) {
        return None;
    }
    let cell = if point.is_none() {
        if negative && whole == 0 {
            // A zero with a sign is no integer to everybody.
            return None;
        }
        Cell::Integer(if negative { -whole } else { whole })
    } else {
        #[allow(clippy::cast_precision_loss, reason = "below 10^15")]
        let value = whole as f64 / POWERS.get(behind)?;
        Cell::Number(if negative { -value } else { value })
    };
    Some((cell, at))
}
