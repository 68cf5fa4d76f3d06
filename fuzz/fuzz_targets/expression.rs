#![no_main]
//! Any text as a condition, over rows and over aggregates, evaluated with values at the ends of what there is.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sluicegate_contract::expr::{Aggregate, Expr, ExprError, Scope, Value};
use sluicegate_contract::{Contract, Field, Num, Type};

static FIELDS: LazyLock<Vec<Field>> =
    LazyLock::new(|| Contract::parse(sluicegate_fuzz::CONTRACT.as_bytes()).unwrap().fields);

/// The longest text that is read.
const LIMIT: usize = 4096;

const NUMBERS: [i128; 6] = [0, 1, -1, i64::MAX as i128, i128::MAX, i128::MIN];
const DOUBLES: [f64; 6] = [0.0, -0.0, 0.1, f64::MIN_POSITIVE, f64::MAX, f64::MIN];
const TIMES: [i64; 4] = [0, -62_135_596_800_000_000, 253_402_300_799_999_999, 1];

fn of_type(ty: &Type, n: usize) -> Option<Value> {
    Some(match ty {
        Type::Boolean => Value::Boolean(n % 2 == 0),
        Type::Int => Value::Number(Num::whole(if n % 2 == 0 { i32::MIN } else { i32::MAX }.into())),
        Type::Long => {
            Value::Number(Num::whole(if n % 2 == 0 { i64::MIN } else { i64::MAX }.into()))
        }
        Type::Decimal { scale, .. } => Value::Number(Num::decimal(NUMBERS[n % 3], *scale)),
        Type::Float | Type::Double => Value::Double(DOUBLES[n % DOUBLES.len()]),
        Type::Date | Type::Timestamp => Value::Time(TIMES[n % TIMES.len()]),
        Type::String => Value::Text(["", "a", "é"][n % 3].to_owned()),
        _ => return None,
    })
}

fn leaf(expr: &Expr, n: usize) -> Option<Value> {
    let of = |name: &str| FIELDS.iter().find(|field| field.name == name).map(|field| &field.ty);
    match expr {
        Expr::Column(name) => of_type(of(name)?, n),
        Expr::Rows => Some(Value::Number(Num::whole(NUMBERS[n % 4]))),
        Expr::Aggregate(Aggregate::Sum, _) if n % 2 == 0 => {
            Some(Value::Number(Num::whole(NUMBERS[n % NUMBERS.len()])))
        }
        Expr::Aggregate(Aggregate::Minimum | Aggregate::Maximum, name) => of_type(of(name)?, n),
        Expr::Aggregate(Aggregate::Count | Aggregate::Nulls | Aggregate::Distinct, _) => {
            Some(Value::Number(Num::whole(NUMBERS[n % 4])))
        }
        Expr::Aggregate(..) => Some(Value::Double(DOUBLES[n % DOUBLES.len()])),
        _ => None,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for scope in [Scope::Row, Scope::Aggregate] {
        let expr = match Expr::parse(text, &FIELDS, scope) {
            Ok(expr) => expr,
            Err(error) => {
                assert!((1..=text.chars().count() + 1).contains(&error.at), "{error}");
                continue;
            }
        };
        let printed = expr.to_string();
        // A literal that is nearer to zero than any double is printed as `0e0`, which is read as an exact zero.
        if printed.len() <= LIMIT && !printed.contains("0e0") {
            match Expr::parse(&printed, &FIELDS, scope) {
                Ok(read) => assert_eq!(read, expr, "{printed}"),
                // Printing sets parentheses between two minus signs, and each counts.
                Err(ExprError { message, .. }) => assert!(
                    message.contains("nested more than") || message.contains("words and signs"),
                    "{printed}: {message}"
                ),
            }
        }
        expr.leaves(&mut |leaf| {
            assert!(matches!(leaf, Expr::Column(_) | Expr::Rows | Expr::Aggregate(..)))
        });
        let mut values = vec![expr.value(&|_| None)];
        for n in 0..6 {
            values.push(expr.value(&|of| leaf(of, n)));
            // The leaves of one condition have values that differ.
            values.push(expr.value(&|of| leaf(of, n + format!("{of:?}").len())));
        }
        for value in values {
            assert!(matches!(value, None | Some(Value::Boolean(_))), "{printed}: {value:?}");
        }
    }
});
