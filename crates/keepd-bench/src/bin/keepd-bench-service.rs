//! `keepd-bench-service RECORDS [EXIT_CODE]`: the service of the measurements. It writes down when
//! it began, and waits for a signal, or ends with the code.
//!
//! It does not know who started it, and asks for nothing: what is in the times is the start alone.

use std::path::Path;
use std::process::ExitCode;

use keepd_bench::records;
use keepd_os::clock;

fn main() -> ExitCode {
    // The clock comes first: everything below is the service's own time.
    let began_at = clock::monotonic_now();
    let mut arguments = std::env::args_os().skip(1);
    let Some(path) = arguments.next() else {
        return usage();
    };
    if let Err(error) = records::append(Path::new(&path), began_at) {
        eprintln!("{error}");
        return ExitCode::from(111);
    }
    match arguments.next() {
        Some(word) => match word.to_str().and_then(|word| word.parse::<u8>().ok()) {
            Some(code) => ExitCode::from(code),
            None => usage(),
        },
        None => loop {
            std::thread::park();
        },
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: keepd-bench-service RECORDS [EXIT_CODE]");
    ExitCode::from(100)
}
