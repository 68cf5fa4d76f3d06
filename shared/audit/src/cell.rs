//! How text becomes a value. One table, for every source whose values are text:
//!
//! | column | text | value |
//! |---|---|---|
//! | any | one of the contract's null tokens | null where null is allowed, else as if the property were absent |
//! | boolean | `true`, `false` in any case | the boolean |
//! | int, long | optional `-`, digits; a fraction of zeros only | 32 or 64 bits, else bad |
//! | float, double | decimal or scientific; finite | the nearest single or double |
//! | decimal | decimal or scientific | exactly, else bad |
//! | string | any | itself |
//! | date | `YYYY-MM-DD`, a day that exists | the day |
//! | timestamp | RFC 3339 with offset; at most six digits of fraction, or zeros | the microsecond in UTC, never rounded |
//! | struct, list, json | JSON | the value |

use std::borrow::Cow;

use sluicegate_contract::{Datum, Num, Type};

/// A boolean.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// An integer of 64 bits.
pub(crate) fn integer(bytes: &[u8]) -> Option<i64> {
    // Eighteen digits cannot overflow.
    if (1..=18).contains(&bytes.len()) {
        let mut value = 0i64;
        let mut all = true;
        for byte in bytes {
            let digit = byte.wrapping_sub(b'0');
            all &= digit <= 9;
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
        }
        if all {
            return Some(value);
        }
    }
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    let whole = match digits.iter().position(|b| *b == b'.') {
        None => digits,
        Some(dot) => {
            let (whole, fraction) = digits.split_at(dot);
            let zeros = fraction.len() > 1 && fraction.iter().skip(1).all(|b| *b == b'0');
            zeros.then_some(whole)?
        }
    };
    if whole.is_empty() {
        return None;
    }
    // Counted downwards, since the lowest integer has no positive twin.
    let value = whole.iter().try_fold(0i64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_sub(i64::from(digit))
    })?;
    if negative { Some(value) } else { value.checked_neg() }
}

/// A finite double.
pub(crate) fn number(bytes: &[u8]) -> Option<f64> {
    if let Some(number) = short(bytes) {
        return Some(number);
    }
    let plain = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
    if bytes.first() == Some(&b'+') || !bytes.iter().all(plain) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

/// The powers of ten that are doubles.
pub(crate) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// A number of so few digits that they and the power of ten are doubles themselves: their quotient is the nearest one
/// (Clinger, "How to Read Floating Point Numbers Accurately", the fast path). `None` says nothing.
fn short(bytes: &[u8]) -> Option<f64> {
    let (negative, digits) = match bytes.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, bytes),
    };
    // Fifteen digits, and a point among them.
    if digits.len() > 16 {
        return None;
    }
    let (mut whole, mut point) = (0u64, None);
    for (at, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            whole = whole * 10 + u64::from(digit);
        } else if *byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let count = digits.len() - usize::from(point.is_some());
    if count == 0 || count > 15 {
        return None;
    }
    let behind = point.map_or(0, |at| digits.len() - 1 - at);
    #[allow(clippy::cast_precision_loss, reason = "below 10^15")]
    let value = whole as f64 / POWERS.get(behind)?;
    Some(if negative { -value } else { value })
}

/// A number, exactly: as JSON writes one, or with zeros in front, or with nothing before or behind the point.
pub(crate) fn exact(text: &str) -> Option<Num> {
    if let Some(number) = Num::parse(text) {
        return Some(number);
    }
    number(text.as_bytes())?;
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => digits.split_at(at),
        None => (digits, ""),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    Num::parse(&format!("{sign}{whole}.{fraction}{exponent}"))
}

/// Whether a text is an integer as a cell has one, of whatever size.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |text: &str, is: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(is);
    all(whole, u8::is_ascii_digit) && all(fraction, |b| *b == b'0')
}

/// The JSON value that a cell stands for in a column; one that stands for none is left as text, which is then of the
/// wrong type.
pub(crate) fn datum<'a>(ty: &Type, text: &'a str) -> Datum<'a> {
    let value = match ty {
        Type::Boolean => boolean(text).map(Datum::Boolean),
        // What is no 64 bits is still a number, and has a better reason to be bad.
        Type::Int | Type::Long => match integer(text.as_bytes()) {
            Some(value) => Some(Datum::Number(Num::whole(value.into()))),
            None => exact(text).filter(|n| !n.is_whole() || is_plain(text)).map(Datum::Number),
        },
        Type::Float | Type::Double | Type::Decimal { .. } => exact(text).map(Datum::Number),
        Type::String | Type::Date | Type::Timestamp => None,
        Type::Json | Type::Struct(_) | Type::List(_) => Datum::parse(text).ok(),
    };
    value.unwrap_or(Datum::Text(Cow::Borrowed(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_exact_or_bad() {
        let good = [
            ("0", 0),
            ("-0", 0),
            ("0517", 517),
            ("517.0", 517),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, value) in good {
            assert_eq!(integer(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "1.",
            ".0",
            "1.5",
            "1e3",
            "9223372036854775808",
            "0x1",
            "１",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_finite_decimals() {
        for (text, value) in [("1", 1.0), ("-2.50", -2.5), ("1e3", 1000.0), (".5", 0.5)] {
            assert_eq!(number(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", "inf", "NaN", "+1", "1e999", "1,5", " 1", "0x10", "e", "1_0"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_exact_however_they_are_written() {
        for (text, same) in
            [("007", "7"), (".5", "0.5"), ("5.", "5"), ("-.50e2", "-50"), ("1E3", "1000")]
        {
            assert_eq!(exact(text), Num::parse(same), "{text}");
        }
        for text in ["", ".", "-", "e5", "1e", "+1", "NaN", "1,5", "--1"] {
            assert!(exact(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_cell_that_is_no_value_of_its_column_is_text() {
        let shown = |ty: Type, text: &str| datum(&ty, text).to_string();
        assert_eq!(shown(Type::Long, "517.0"), "517");
        assert_eq!(shown(Type::Long, "9223372036854775808"), "9223372036854775808");
        assert_eq!(shown(Type::Long, "1e3"), "\"1e3\"");
        assert_eq!(shown(Type::Long, "x"), "\"x\"");
        assert_eq!(shown(Type::Boolean, "TRUE"), "true");
        assert_eq!(shown(Type::Json, "[1, 2]"), "[1,2]");
        assert_eq!(shown(Type::String, "1"), "\"1\"");
    }

    proptest! {
        #[test]
        fn integers_agree_with_the_standard_library(value in any::<i64>()) {
            prop_assert_eq!(integer(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = (boolean(&text), integer(text.as_bytes()), number(text.as_bytes()), exact(&text));
        }
    }
}
