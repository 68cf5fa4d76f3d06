//! Standard output, for as long as somebody reads it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

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
}
