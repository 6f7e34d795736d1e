//! Lines on standard output and standard error.

use std::fmt;
use std::io::{self, Write};

/// Prints a line at once, whole. A reader that is gone is no reason to stop working.
pub(super) fn say(line: impl fmt::Display) {
    let mut output = io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Prints a line to standard error.
pub(super) fn complain(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
