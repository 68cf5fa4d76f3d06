//! What the profile must know of a number, whatever its type.

use arrow::datatypes::ArrowNativeType;
use datasketches::hll::HllSketch;
use sluicegate_contract::Type;

/// A value of a primitive column.
pub(super) trait Value: ArrowNativeType + PartialOrd {
    /// What tells it from others, if 64 bits do.
    fn key(self) -> Option<u64>;
    fn of_key(key: u64) -> Self;
    /// In the units of the array: a decimal's is its last digit.
    fn real(self) -> f64;
    /// The value as a whole number of units; `None` for floating point.
    fn whole(self) -> Option<i128>;
    fn sketch(self, hll: &mut HllSketch);
    fn text(self, ty: &Type) -> String;
}

macro_rules! whole {
    ($native:ty) => {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_possible_wrap,
            clippy::cast_precision_loss,
            clippy::cast_lossless,
            reason = "there and back through 64 bits; reals are for estimates"
        )]
        impl Value for $native {
            fn key(self) -> Option<u64> {
                i64::try_from(self).ok().map(|value| value as u64)
            }
            fn of_key(key: u64) -> Self {
                key as i64 as Self
            }
            fn real(self) -> f64 {
                self as f64
            }
            fn whole(self) -> Option<i128> {
                Some(self.into())
            }
            fn sketch(self, hll: &mut HllSketch) {
                // As wide as it must be, so that columns merge that were widened.
                match i64::try_from(self) {
                    Ok(value) => hll.update(value),
                    Err(_) => hll.update(self),
                }
            }
            fn text(self, ty: &Type) -> String {
                of_units(self.into(), ty)
            }
        }
    };
}

whole!(i32);
whole!(i64);
whole!(i128);

macro_rules! real {
    ($native:ty, $bits:ty) => {
        #[allow(clippy::cast_possible_truncation, reason = "the bits were put in as wide")]
        impl Value for $native {
            fn key(self) -> Option<u64> {
                // Zero has two signs and is one value.
                Some((self + 0.0).to_bits().into())
            }
            fn of_key(key: u64) -> Self {
                Self::from_bits(key as $bits)
            }
            fn real(self) -> f64 {
                self.into()
            }
            fn whole(self) -> Option<i128> {
                None
            }
            fn sketch(self, hll: &mut HllSketch) {
                hll.update((f64::from(self) + 0.0).to_bits());
            }
            fn text(self, _: &Type) -> String {
                format!("{self:?}")
            }
        }
    };
}

real!(f32, u32);
real!(f64, u64);

/// A whole number of units as the column's type is written.
pub(super) fn of_units(units: i128, ty: &Type) -> String {
    match ty {
        Type::Decimal { scale, .. } => {
            let unit = 10i128.pow(u32::from(*scale));
            let (whole, fraction) = (units / unit, (units % unit).unsigned_abs());
            let sign = if units < 0 && whole == 0 { "-" } else { "" };
            match usize::from(*scale) {
                0 => units.to_string(),
                width => format!("{sign}{whole}.{fraction:0width$}"),
            }
        }
        Type::Date => {
            let days = i32::try_from(units).unwrap_or_default();
            let first = jiff::civil::Date::constant(1970, 1, 1);
            let date = first.checked_add(jiff::Span::new().days(days));
            date.map_or_else(|_| days.to_string(), |date| date.to_string())
        }
        Type::Timestamp => {
            let micros = i64::try_from(units).unwrap_or_default();
            let at = jiff::Timestamp::from_microsecond(micros);
            at.map_or_else(|_| micros.to_string(), |at| at.to_string())
        }
        _ => units.to_string(),
    }
}

/// How much a unit of the array is of the column's value.
pub(super) fn unit(ty: &Type) -> f64 {
    match ty {
        Type::Decimal { scale, .. } => 10f64.powi(-i32::from(*scale)),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_their_type_is() {
        let money = Type::Decimal { precision: 9, scale: 2 };
        let cases = [
            (of_units(-5, &money), "-0.05"),
            (of_units(-1205, &money), "-12.05"),
            (of_units(15_706, &Type::Date), "2013-01-01"),
            (of_units(-1, &Type::Date), "1969-12-31"),
            (of_units(1_357_034_400_000_001, &Type::Timestamp), "2013-01-01T10:00:00.000001Z"),
            (of_units(7, &Type::Long), "7"),
            (1.5f64.text(&Type::Double), "1.5"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn keys_lead_back_and_zero_is_one_value() {
        assert_eq!(i64::of_key((-7i64).key().unwrap()), -7);
        assert_eq!(i128::of_key((-7i128).key().unwrap()), -7);
        assert_eq!(i128::MAX.key(), None);
        assert_eq!((-0.0f64).key(), 0.0f64.key());
        assert!((f32::of_key(1.25f32.key().unwrap()) - 1.25).abs() < f32::EPSILON);
    }
}
