//! Measured figures of tests, printed and collected.

use std::fs::OpenOptions;
use std::io::Write;

/// The variable with the name of the file to which figures are added.
const VARIABLE: &str = "KEEPD_TEST_FIGURES";

/// Notes a figure: it is printed, and added to the file named by KEEPD_TEST_FIGURES as one line
/// `WHAT tab KIND tab VALUE`.
///
/// # Panics
/// If there is such a file and it cannot be written.
pub fn note(what: &str, kind: &str, value: &str) {
    println!("{what}: {kind}: {value}");
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    let file = OpenOptions::new().append(true).create(true).open(&path);
    // One write(2) with O_APPEND: tests that run side by side do not mix their lines.
    let written =
        file.and_then(|mut file| file.write_all(format!("{what}\t{kind}\t{value}\n").as_bytes()));
    written.expect("the file named by KEEPD_TEST_FIGURES can be written");
}
