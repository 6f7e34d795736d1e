//! `keepd-bench-service RECORDS [EXIT_CODE | answer]`: the service of the measurements. It writes
//! down when it began, and waits for a signal, or ends with the code. With `answer` it also writes
//! down when HUP came.
//!
//! It does not know who started it, and asks for nothing: what is in the times is the start alone.

use std::path::Path;
use std::process::ExitCode;

use keepd_bench::records;
use keepd_model::Signal;
use keepd_os::clock;
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::signals::SignalReader;

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
        Some(word) if word == "answer" => answer(Path::new(&path)),
        Some(word) => match word.to_str().and_then(|word| word.parse::<u8>().ok()) {
            Some(code) => ExitCode::from(code),
            None => usage(),
        },
        None => loop {
            std::thread::park();
        },
    }
}

/// Writes a record at each HUP, until TERM.
fn answer(path: &Path) -> ExitCode {
    let waited = (|| -> Result<(), String> {
        let heard = [Signal::HUP, Signal::TERM];
        let reader = SignalReader::new(&heard).map_err(|errno| errno.to_string())?;
        let epoll = Epoll::new().map_err(|errno| errno.to_string())?;
        epoll.add(&reader, 0, Interest::READ).map_err(|errno| errno.to_string())?;
        let mut ready = Vec::new();
        loop {
            epoll.wait(None, &mut ready).map_err(|errno| errno.to_string())?;
            for (signal, _) in reader.read().map_err(|errno| errno.to_string())? {
                if signal == Signal::TERM {
                    return Ok(());
                }
                records::append(path, clock::monotonic_now()).map_err(|error| error.to_string())?;
            }
        }
    })();
    match waited {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot wait for signals: {error}");
            ExitCode::from(111)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: keepd-bench-service RECORDS [EXIT_CODE | answer]");
    ExitCode::from(100)
}
