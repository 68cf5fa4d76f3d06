//! Dates and times of day as text (RFC 3339), and the days and microseconds they stand for.
//!
//! Nothing is rounded: a fraction finer than a microsecond and a leap second are valid RFC 3339, but no microsecond.

/// Microseconds of an hour.
pub const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// Microseconds of a day.
pub const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Days since 1970-01-01 of `YYYY-MM-DD`, a day that exists.
pub fn date(text: impl AsRef<[u8]>) -> Option<i32> {
    let text: &[u8; 10] = text.as_ref().try_into().ok()?;
    let [y1, y2, y3, y4, dash, m1, m2, dash_2, d1, d2] = text.map(|b| b.wrapping_sub(b'0'));
    // All at once: dates are long columns, and almost all of them are dates.
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2].iter().fold(true, |all, d| all & (*d <= 9));
    let dashes = dash == b'-'.wrapping_sub(b'0') && dash_2 == dash;
    if !(digits && dashes) {
        return None;
    }
    let two = |tens: u8, ones: u8| tens * 10 + ones;
    let year = i32::from(two(y1, y2)) * 100 + i32::from(two(y3, y4));
    let (month, day) = (two(m1, m2), two(d1, d2));
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        _ => return None,
    };
    (1..=last).contains(&day).then(|| days_from_civil(year, month, day))
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
pub fn month_of_day(day: i32) -> i32 {
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

/// A time of day with its offset.
struct Clock {
    /// Since midnight at the offset; a leap second is counted as the second after.
    seconds: i64,
    micros: i64,
    /// Whether the fraction is finer than a microsecond.
    finer: bool,
    leap: bool,
    offset_minutes: i64,
}

fn clock(time: &[u8]) -> Option<Clock> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = time else { return None };
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (mut micros, mut finer, mut rest) = (0i64, false, rest);
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let (fraction, after) = fraction.split_at(digits);
        for place in 0..6 {
            micros = micros * 10 + i64::from(fraction.get(place).map_or(0, |b| b - b'0'));
        }
        finer = fraction.iter().skip(6).any(|b| *b != b'0');
        rest = after;
    }
    let offset_minutes = match rest {
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
    let minutes = i64::from(hour) * 60 + i64::from(minute);
    let leap = second == 60;
    // Leap seconds end a day of UTC.
    if leap && (minutes - offset_minutes).rem_euclid(24 * 60) != 24 * 60 - 1 {
        return None;
    }
    Some(Clock { seconds: minutes * 60 + i64::from(second), micros, finer, leap, offset_minutes })
}

/// Day and time of an RFC 3339 date-time.
fn parts(text: &[u8]) -> Option<(i32, Clock)> {
    let day = date(text.get(..10)?)?;
    match text.get(10..)? {
        [b'T' | b't', time @ ..] => Some((day, clock(time)?)),
        _ => None,
    }
}

/// Whether it is an RFC 3339 date-time.
pub fn is_date_time(text: &str) -> bool {
    parts(text.as_bytes()).is_some()
}

/// Whether it is an RFC 3339 full-time, which has an offset.
pub fn is_time(text: &str) -> bool {
    clock(text.as_bytes()).is_some()
}

/// Microseconds since 1970-01-01T00:00:00Z of an RFC 3339 date-time that is one.
pub fn date_time(text: impl AsRef<[u8]>) -> Option<i64> {
    let (day, clock) = parts(text.as_ref())?;
    if clock.finer || clock.leap {
        return None;
    }
    let seconds = clock.seconds - clock.offset_minutes * 60;
    Some(i64::from(day) * MICROS_PER_DAY + seconds * 1_000_000 + clock.micros)
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
            "2013-01-01T23:59:60Z",
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
        fn nothing_panics(text in ".{0,40}") {
            let _ = (date(&text), date_time(&text), is_time(&text));
        }
    }
}
