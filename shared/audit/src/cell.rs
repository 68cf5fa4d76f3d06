//! How text becomes a value. One table, for every source whose values are text:
//!
//! | column | text | value |
//! |---|---|---|
//! | any | one of the contract's null tokens | null where null is allowed, else as if the property were absent |
//! | boolean | `true`, `false` in any case | the boolean |
//! | integer | optional `-`, digits; a fraction of zeros only | 64 bits, else bad |
//! | number | decimal or scientific; finite | the nearest double |
//! | string | any | itself |
//! | date | `YYYY-MM-DD`, a day that exists | the day |
//! | date-time | RFC 3339 with offset; at most six digits of fraction, or zeros | the microsecond in UTC, never rounded |

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
pub(crate) fn integer(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
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
pub(crate) fn number(text: &str) -> Option<f64> {
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
    if text.starts_with('+') || !text.bytes().all(plain) {
        return None;
    }
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

/// Days since 1970-01-01.
pub(crate) fn date(text: &str) -> Option<i32> {
    match text.as_bytes() {
        [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] => {
            let year = i32::from(two(*y1, *y2)?) * 100 + i32::from(two(*y3, *y4)?);
            let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let last = match month {
                1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
                4 | 6 | 9 | 11 => 30,
                2 if leap => 29,
                2 => 28,
                _ => return None,
            };
            (1..=last).contains(&day).then(|| days_from_civil(year, month, day))
        }
        _ => None,
    }
}

/// Days since 1970-01-01 of a date that exists (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i32, month: u8, day: u8) -> i32 {
    let (month, day) = (i32::from(month), i32::from(day));
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year and month of a day since 1970-01-01, as months since 1970-01 (the same source).
pub(crate) fn month_of_day(day: i32) -> i32 {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let (year, month) = (year_of_era + era * 400, (shifted_month + 2) % 12);
    let year = if month < 2 { year + 1 } else { year };
    (year - 1970) * 12 + month
}

/// Microseconds since 1970-01-01T00:00:00Z.
pub(crate) fn date_time(text: &str) -> Option<i64> {
    let day = i64::from(date(text.get(..10)?)?);
    let time = text.as_bytes().get(10..)?;
    let [b'T' | b't', h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = time else { return None };
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let digits = match rest {
        [b'.', fraction @ ..] => fraction.iter().take_while(|b| b.is_ascii_digit()).count(),
        _ => 0,
    };
    let (mut micros, mut rest) = (0i64, rest);
    if digits > 0 {
        let fraction = rest.get(1..=digits)?;
        for place in 0..6 {
            let digit = fraction.get(place).map_or(0, |b| b - b'0');
            micros = micros * 10 + i64::from(digit);
        }
        if fraction.iter().skip(6).any(|b| *b != b'0') {
            return None;
        }
        rest = rest.get(digits + 1..)?;
    }
    let offset = match rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (i64::from(two(*h1, *h2)?), i64::from(two(*m1, *m2)?));
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = hours * 60 + minutes;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let minutes = (day * 24 + i64::from(hour)) * 60 + i64::from(minute) - offset;
    Some((minutes * 60 + i64::from(second)) * 1_000_000 + micros)
}

/// Two decimal digits.
fn two(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::Date;
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
            assert_eq!(integer(text), Some(value), "{text}");
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
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_finite_decimals() {
        for (text, value) in [("1", 1.0), ("-2.50", -2.5), ("1e3", 1000.0), (".5", 0.5)] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in ["", "inf", "NaN", "+1", "1e999", "1,5", " 1", "0x10", "e", "1_0"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn date_times_are_rfc_3339_and_never_rounded() {
        let good = [
            ("1970-01-01T00:00:00Z", 0),
            ("2013-01-01T10:00:00Z", 1_357_034_400_000_000),
            ("2013-01-01t05:00:00-05:00", 1_357_034_400_000_000),
            ("2013-01-01T10:00:00.1Z", 1_357_034_400_100_000),
            ("2013-01-01T10:00:00.123456000Z", 1_357_034_400_123_456),
            ("1969-12-31T23:59:59.999999Z", -1),
        ];
        for (text, value) in good {
            assert_eq!(date_time(text), Some(value), "{text}");
        }
        for text in [
            "",
            "2013-01-01",
            "2013-01-01T10:00:00",
            "2013-01-01 10:00:00Z",
            "2013-01-01T24:00:00Z",
            "2013-01-01T10:00:60Z",
            "2013-01-01T10:00:00.Z",
            "2013-01-01T10:00:00.1234567Z",
            "2013-02-29T10:00:00Z",
            "2013-01-01T10:00:00+2400",
            "2013-01-01T10:00:00Zé",
            "2013-01-0éT10:00:00Z",
        ] {
            assert_eq!(date_time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn dates_agree_with_a_calendar(year in 0i16..=9999, month in 1i8..=12, day in 1i8..=31) {
            let text = format!("{year:04}-{month:02}-{day:02}");
            let epoch = Date::constant(1970, 1, 1);
            let expected = Date::new(year, month, day).ok().map(|d| (d - epoch).get_days());
            prop_assert_eq!(date(&text), expected);
            if let Some(days) = expected {
                let months = (i32::from(year) - 1970) * 12 + i32::from(month) - 1;
                prop_assert_eq!(month_of_day(days), months);
            }
        }

        #[test]
        fn integers_agree_with_the_standard_library(value in any::<i64>()) {
            prop_assert_eq!(integer(&value.to_string()), Some(value));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = (boolean(&text), integer(&text), number(&text), date(&text), date_time(&text));
        }
    }
}
