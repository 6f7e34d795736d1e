//! The order of the measurements, and where their figures go.

use std::process::ExitCode;

use keepd_os::process;

use crate::arguments::{Options, Part};
use crate::error::{Attempt, BenchError};
use crate::machine::Machine;
use crate::report::{Report, Row};
use crate::subject::Place;
use crate::{fleet, inits, kills, page, plain, protocol, restart, status, storm};

/// Runs what was asked for, in the process below the guard.
pub fn run(arguments: &[String]) -> ExitCode {
    match measure(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keepd-bench: {error}");
            ExitCode::from(111)
        }
    }
}

/// Says on standard error what is going on.
pub fn progress(what: &str) {
    eprintln!("keepd-bench: {what}");
}

fn measure(arguments: &[String]) -> Result<(), BenchError> {
    let options = Options::parse(arguments).map_err(BenchError::new)?;
    // A process is taken hold of by descriptor, and there may be many.
    process::raise_descriptor_limit().attempt("raise the descriptor limit")?;
    let mut place = Place::new()?;
    let mut rows: Vec<Row> = Vec::new();
    for part in Part::ALL.into_iter().filter(|part| options.includes(*part)) {
        rows.extend(match part {
            Part::Restart => restart::measure(&mut place, &options)?,
            Part::Kills => kills::measure(&mut place, &options)?,
            Part::Fleet => fleet::measure(&mut place, &options)?,
            Part::Status => status::measure(&mut place, &options)?,
            Part::Init => inits::measure(&mut place, &options)?,
            Part::Storm => storm::measure(&mut place, &options)?,
            Part::Protocol => protocol::measure(&mut place, &options)?,
            Part::Plain => plain::measure(&mut place, &options)?,
        });
    }
    let report = Report { machine: Machine::look(), options: again(&options), rows };
    if let Some(path) = &options.write {
        page::write(path, "cargo xtask bench", &report.markdown())?;
        progress(&format!("wrote {}", path.display()));
    }
    print!("{}", if options.json { report.json() } else { report.markdown() });
    Ok(())
}

/// Returns the options that differ from the usual ones, each with a space before it.
fn again(options: &Options) -> String {
    let usual = Options::default();
    let mut words = String::new();
    if options.quick {
        words += " --quick";
    }
    for (word, value, usual) in [
        ("--rounds", options.rounds, usual.rounds),
        ("--services", options.services, usual.services),
    ] {
        if value != usual {
            words += &format!(" {word} {value}");
        }
    }
    words
}
