//! Tests that cannot run here say so.

use std::fs::OpenOptions;
use std::io::Write;

/// The variable with the name of the file that `cargo xtask` prints at the end.
const VARIABLE: &str = "KEEPD_TEST_SKIPS";

/// Says aloud that the calling test does nothing, and why. The test returns afterwards.
///
/// The line goes to standard error, which libtest hides, and to the file named by KEEPD_TEST_SKIPS.
pub fn skip(reason: &str) {
    let line = format!("SKIPPED: {reason}\n");
    eprint!("{line}");
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    let file = OpenOptions::new().append(true).create(true).open(&path);
    // One write(2) with O_APPEND: tests that run side by side do not mix their lines.
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the file named by KEEPD_TEST_SKIPS can be written");
}
