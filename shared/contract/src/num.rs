//! Numbers as contracts and rows write them, compared without rounding.
//!
//! A number is exact for as long as 128 bits hold its digits; only beyond that it is the nearest double. `0.1` in a
//! contract and `0.1` in a row are the same number, whatever column the row's becomes.

use std::cmp::Ordering;
use std::fmt;

/// A JSON number.
#[derive(Clone, Copy, Debug)]
pub enum Num {
    /// `unscaled` × 10^-`scale`, without trailing zeros behind the point: whole numbers have scale 0.
    Exact { unscaled: i128, scale: u8 },
    /// A number that needs more digits than that; finite.
    Double(f64),
}

/// Digits that are kept exactly.
const MAX_SCALE: u8 = 38;

impl Num {
    /// A whole number.
    pub const fn whole(value: i128) -> Self {
        Self::Exact { unscaled: value, scale: 0 }
    }

    /// A decimal as a column keeps it.
    pub fn decimal(unscaled: i128, scale: u8) -> Self {
        let (mut unscaled, mut scale) = (unscaled, scale);
        while scale > 0 && unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        Self::Exact { unscaled, scale }
    }

    /// The number that a double is written as; `None` if it is not finite.
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        // The shortest text that reads back as this double.
        Some(Self::parse(&format!("{value:e}")).unwrap_or(Self::Double(value)))
    }

    /// Reads a JSON number (RFC 8259); `None` if it is not one, or is too large for a double.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, rest) = match bytes.split_first()? {
            (b'-', rest) => (true, rest),
            _ => (false, bytes),
        };
        let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let (whole, rest) = rest.split_at(digits(rest));
        if whole.is_empty() || (whole.len() > 1 && whole.first() == Some(&b'0')) {
            return None;
        }
        let (fraction, rest) = match rest.split_first() {
            Some((b'.', rest)) => rest.split_at(digits(rest)),
            _ => (&[][..], rest),
        };
        if fraction.is_empty() && bytes.contains(&b'.') {
            return None;
        }
        let exponent: i64 = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', exponent)) => {
                let digits = match exponent.split_first() {
                    Some((b'+' | b'-', digits)) => digits,
                    _ => exponent,
                };
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return None;
                }
                // Beyond nine digits it is beyond every double, on either side.
                let text = std::str::from_utf8(exponent).ok()?;
                text.parse().unwrap_or(if exponent.starts_with(b"-") {
                    -i64::MAX / 2
                } else {
                    i64::MAX / 2
                })
            }
            Some(_) => return None,
        };
        match exact(negative, whole, fraction, exponent) {
            Some(exact) => Some(exact),
            None => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Self::Double),
        }
    }

    /// Whether it has no fraction, as JSON Schema's `integer` asks: `1.0` is an integer.
    pub fn is_whole(self) -> bool {
        match self {
            Self::Exact { scale, .. } => scale == 0,
            Self::Double(value) => value.fract() == 0.0,
        }
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        match self {
            #[allow(
                clippy::cast_precision_loss,
                reason = "the nearest double is what is asked for"
            )]
            Self::Exact { unscaled, scale: 0 } => unscaled as f64,
            // Through the text, which rounds once.
            exact @ Self::Exact { .. } => exact.to_string().parse().unwrap_or(f64::NAN),
            Self::Double(value) => value,
        }
    }

    /// As a decimal of so many digits behind the point; `None` if it has more, or too many before it.
    pub fn to_decimal(self, scale: u8) -> Option<i128> {
        match self {
            Self::Exact { unscaled, scale: own } if own <= scale => {
                unscaled.checked_mul(10i128.checked_pow(u32::from(scale - own))?)
            }
            _ => None,
        }
    }

    /// The largest decimal of so many digits behind the point that is not above it, and whether it is equal.
    pub fn floor(self, scale: u8) -> Option<(i128, bool)> {
        match self {
            Self::Exact { unscaled, scale: own } if own > scale => {
                let unit = 10i128.checked_pow(u32::from(own - scale))?;
                Some((unscaled.div_euclid(unit), unscaled.rem_euclid(unit) == 0))
            }
            Self::Exact { .. } => self.to_decimal(scale).map(|whole| (whole, true)),
            Self::Double(value) => {
                let (digits, power) = self.digits()?;
                let digits = i128::try_from(digits).ok()?;
                let digits = if value < 0.0 { -digits } else { digits };
                let power = power + i32::from(scale);
                match u32::try_from(power) {
                    Ok(power) => Some((digits.checked_mul(10i128.checked_pow(power)?)?, true)),
                    Err(_) => match 10i128.checked_pow(power.unsigned_abs()) {
                        Some(unit) => Some((digits.div_euclid(unit), digits % unit == 0)),
                        // Smaller than any unit that can be named.
                        None => Some((digits.signum().min(0), digits == 0)),
                    },
                }
            }
        }
    }

    /// Whether it is a whole multiple of another, which is not zero.
    pub fn is_multiple_of(self, unit: Self) -> bool {
        let ((Some((digits, power)), Some((unit, unit_power))), false) =
            ((self.digits(), unit.digits()), unit.is_zero())
        else {
            return self.is_zero();
        };
        match u32::try_from(power - unit_power) {
            // digits × 10^n, modulo unit.
            Ok(n) => {
                let ten = (0..n).fold(1 % unit, |rest, _| times(rest, 10, unit));
                times(digits % unit, ten, unit) == 0
            }
            // digits has no zero at its end left that could make up for the unit's.
            Err(_) => {
                let n = u32::try_from(unit_power - power).unwrap_or(u32::MAX);
                let unit = 10u128.checked_pow(n).and_then(|ten| unit.checked_mul(ten));
                digits == 0 || unit.is_some_and(|unit| digits % unit == 0)
            }
        }
    }

    /// Its size as digits × 10^power, as it is written.
    fn digits(self) -> Option<(u128, i32)> {
        match self {
            Self::Exact { unscaled, scale } => Some((unscaled.unsigned_abs(), -i32::from(scale))),
            Self::Double(value) => {
                let text = format!("{:e}", value.abs());
                let (mantissa, power) = text.split_once('e')?;
                let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
                let digits = format!("{whole}{fraction}").parse().ok()?;
                Some((digits, power.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()?))
            }
        }
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        match self {
            Self::Exact { unscaled, .. } => unscaled == 0,
            Self::Double(value) => value == 0.0,
        }
    }
}

/// a × b modulo m, where the product may need more than 128 bits.
fn times(a: u128, b: u128, m: u128) -> u128 {
    if let Some(product) = a.checked_mul(b) {
        return product % m;
    }
    let add = |x: u128, y: u128| if x >= m - y { x - (m - y) } else { x + y };
    let (mut sum, mut a, mut b) = (0, a % m, b);
    while b > 0 {
        if b & 1 == 1 {
            sum = add(sum, a);
        }
        a = add(a, a);
        b >>= 1;
    }
    sum
}

fn exact(negative: bool, whole: &[u8], fraction: &[u8], exponent: i64) -> Option<Num> {
    let all = whole.iter().chain(fraction);
    let mut unscaled = 0i128;
    let zeros = all.clone().rev().take_while(|b| **b == b'0').count();
    let kept = whole.len() + fraction.len() - zeros;
    // Counted downwards, since the lowest number has no positive twin.
    for byte in all.take(kept) {
        unscaled = unscaled.checked_mul(10)?.checked_sub(i128::from(byte - b'0'))?;
    }
    if !negative {
        unscaled = unscaled.checked_neg()?;
    }
    if unscaled == 0 {
        return Some(Num::whole(0));
    }
    let power = exponent
        .checked_add(i64::try_from(zeros).ok()?)?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?;
    if power >= 0 {
        let unit = 10i128.checked_pow(u32::try_from(power).ok()?)?;
        return Some(Num::whole(unscaled.checked_mul(unit)?));
    }
    let scale = u8::try_from(power.checked_neg()?).ok().filter(|scale| *scale <= MAX_SCALE)?;
    Some(Num::Exact { unscaled, scale })
}

/// Two exact numbers at one scale.
fn aligned(a: Num, b: Num) -> Option<(i128, i128, u8)> {
    let (Num::Exact { scale: left, .. }, Num::Exact { scale: right, .. }) = (a, b) else {
        return None;
    };
    let scale = left.max(right);
    Some((a.to_decimal(scale)?, b.to_decimal(scale)?, scale))
}

impl PartialEq for Num {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Num {}

impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Num {
    fn cmp(&self, other: &Self) -> Ordering {
        match aligned(*self, *other) {
            Some((a, b, _)) => a.cmp(&b),
            None => match (*self, *other) {
                // Their whole parts differ, or one has more digits than can be aligned: the whole parts decide first.
                (Self::Exact { .. }, Self::Exact { .. }) => {
                    let floors = self.floor(0).zip(other.floor(0));
                    let by_floor = floors.map_or(Ordering::Equal, |((a, _), (b, _))| a.cmp(&b));
                    by_floor.then_with(|| self.to_f64().total_cmp(&other.to_f64()))
                }
                (a, b) => a.to_f64().total_cmp(&b.to_f64()),
            },
        }
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exact { unscaled, scale: 0 } => unscaled.fmt(f),
            Self::Exact { unscaled, scale } => {
                let unit = 10u128.pow(u32::from(scale));
                let size = unscaled.unsigned_abs();
                let sign = if unscaled < 0 { "-" } else { "" };
                write!(
                    f,
                    "{sign}{}.{:0width$}",
                    size / unit,
                    size % unit,
                    width = usize::from(scale)
                )
            }
            Self::Double(value) => write!(f, "{value:e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn num(text: &str) -> Num {
        Num::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn what_is_no_json_number_is_none() {
        for text in [
            "", "-", "+1", "01", "-01", ".5", "1.", "1e", "1e+", "0x1", "NaN", "1 ", "1e999",
            "--1", "1.5.5", "1e5e",
        ] {
            assert!(Num::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn one_number_has_many_spellings() {
        for (a, b) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("0.10", "1E-1"),
            ("-0", "0.000"),
            ("12e-1", "1.2"),
            ("0e999999999999", "0"),
        ] {
            assert_eq!(num(a), num(b), "{a} {b}");
        }
        assert!(num("1.0").is_whole() && num("1e30").is_whole() && num("1e300").is_whole());
        assert!(!num("1.5").is_whole() && !num("1e-30").is_whole());
        assert_eq!(num("12.34").to_string(), "12.34");
        assert_eq!(num("-0.05").to_string(), "-0.05");
    }

    #[test]
    fn nothing_is_rounded_while_128_bits_hold_it() {
        assert!(num("9007199254740993") > num("9007199254740992"));
        assert!(num("0.1") < num("0.10000000000000000001"));
        assert!(num("1e300") > num("170141183460469231731687303715884105727"));
        assert!(num("-1e300") < num("0.5"));
        assert!(
            num("99999999999999999999999999999999999999")
                > num("0.00000000000000000000000000000000000001")
        );
        assert_eq!(num("12.345").to_decimal(2), None);
        assert_eq!(num("12.30").to_decimal(2), Some(1230));
        assert_eq!(num("-12.345").floor(2), Some((-1235, false)));
        assert_eq!(num("1e-40").floor(0), Some((0, false)));
        assert_eq!(num("-1e-40").floor(2), Some((-1, false)));
        assert_eq!(num("0.1234567890123456789012345678901234567890").floor(2), Some((12, false)));
        assert_eq!(num("1e300").floor(0), None);
    }

    #[test]
    fn multiples_are_those_of_the_written_numbers() {
        assert!(num("0.0075").is_multiple_of(num("0.0001")));
        assert!(!num("0.00751").is_multiple_of(num("0.0001")));
        assert!(num("4.5").is_multiple_of(num("1.5")) && !num("35").is_multiple_of(num("1.5")));
        assert!(
            num("1e308").is_multiple_of(num("0.5"))
                && !num("1e308").is_multiple_of(num("0.123456789"))
        );
    }

    proptest! {
        #[test]
        fn doubles_survive(value in proptest::num::f64::NORMAL) {
            prop_assert_eq!(Num::from_f64(value).unwrap().to_f64(), value);
        }

        #[test]
        fn order_is_that_of_integers(a: i64, b: i64) {
            let of = |n: i64| Num::parse(&n.to_string()).unwrap();
            prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
        }
    }
}
