//! Standard output, for as long as somebody reads it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use sluicegate_table::budget::Standing;
use sluicegate_table::report::visible;

/// Prints one line; ends the program where the reader has gone, as pipes expect.
pub(crate) fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == ErrorKind::BrokenPipe { 0 } else { 2 });
    }
}

/// Says why something is not done, and exits so.
pub(crate) fn refused(why: Arguments<'_>) -> ExitCode {
    line(format_args!("refused: {}", visible(&why.to_string())));
    ExitCode::from(1)
}

/// Nano-dollars in dollars, to be shown.
pub(crate) fn usd(nano: u64) -> f64 {
    nano as f64 / 1e9
}

/// A month beside its budget.
pub(crate) fn month(month: &Standing) -> String {
    let share = |spent: u64, budget: Option<u64>| match budget {
        Some(budget) => format!("{:.6} of {:.6} dollars", usd(spent), usd(budget)),
        None => format!("{:.6} dollars", usd(spent)),
    };
    format!(
        "this month: {} for fresh data{}, {} for replays{}",
        share(month.fresh_nano_usd, month.fresh_budget_nano_usd),
        if month.is_over() { ", over its budget" } else { "" },
        share(month.replay_nano_usd, month.replay_budget_nano_usd),
        if month.left_for_replays() == Some(0) { ", used up" } else { "" },
    )
}

/// Rows as lines whose cells stand below one another. Cells come from anywhere: what cannot be seen in them is spelt out.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| visible(cell))).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// As `println!`, without its panic when a pipe is closed.
macro_rules! say {
    ($($part:tt)*) => { $crate::out::line(format_args!($($part)*)) };
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_below_one_another_and_hide_nothing() {
        let rows = [["é", "1", "x"], ["a\u{1b}[2J", "", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), [r"é           1  x", r"a\u{1b}[2J"]);
    }

    #[test]
    fn a_month_is_told_beside_its_budget() {
        let spent = Standing {
            fresh_nano_usd: 2_500_000,
            replay_nano_usd: 1_000_000,
            ..Standing::default()
        };
        let free = "this month: 0.002500 dollars for fresh data, 0.001000 dollars for replays";
        assert_eq!(month(&spent), free);
        let budgets = |fresh, replays| Standing {
            fresh_budget_nano_usd: Some(fresh),
            replay_budget_nano_usd: Some(replays),
            ..spent.clone()
        };
        assert_eq!(
            month(&budgets(2_500_000, 1_000_001)),
            "this month: 0.002500 of 0.002500 dollars for fresh data, 0.001000 of 0.001000 dollars for replays"
        );
        let told = month(&budgets(2_499_999, 1_000_000));
        assert!(told.contains("fresh data, over its budget, "), "{told}");
        assert!(told.ends_with("replays, used up"), "{told}");
    }
}
