//! A panic of our own ends no program of ours in silence. Each case is a process of its own, told
//! by its argument what to do; so this program has no test threads.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// What must be true of a case: the start of its only line, and its exit status.
const CASES: [(&str, &str, i32); 2] =
    [("proxy", "fatal: panicked at ", 4), ("init", "keepd-init: fatal: panicked at ", 125)];

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("proxy") => keepd_proxy::run("case", words()).into(),
        Some("init") => keepd_proxy::init::run(words()).into(),
        // An argument of the test runner, or none.
        Some(_) | None => {
            CASES.into_iter().for_each(check);
            println!("ok");
            ExitCode::SUCCESS
        }
    }
}

/// Words of a command line that are the end of whoever reads them.
fn words() -> impl Iterator<Item = OsString> {
    std::iter::once_with(|| panic!("no {}", "words"))
}

fn check((case, start, code): (&str, &str, i32)) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).arg(case).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with(start) && text.ends_with(": no words\n"), "{case}: {text}");
    assert_eq!(text.lines().count(), 1, "{case}: {text}");
    assert_eq!(output.status.code(), Some(code), "{case}");
}
