//! Standard output, for as long as somebody reads it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Prints one line; ends the program where the reader has gone, as pipes expect.
pub(crate) fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == ErrorKind::BrokenPipe { 0 } else { 2 });
    }
}

/// As `println!`, without its panic when a pipe is closed.
macro_rules! say {
    ($($part:tt)*) => { $crate::out::line(format_args!($($part)*)) };
}
pub(crate) use say;
