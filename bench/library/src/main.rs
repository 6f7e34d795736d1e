//! `keepd-bench-library`: the library keepd beside proc-daemon 1.1.3, both in this program, the
//! same bodies in turns.
//!
//! It contains no test of what the libraries do, and no figure of the supervisor; that is the
//! package keepd-bench, whose page and samples it uses.
//!
//! Start from [`calls`] (single calls) and [`fleet`] (a hundred thousand tasks).

mod arguments;
mod calls;
mod fleet;
mod report;
mod scale;
mod storm;

use std::process::ExitCode;
use std::time::Duration;

use keepd_bench::error::BenchError;
use keepd_bench::machine::Machine;
use keepd_bench::page;
use keepd_bench::samples::Samples;

use arguments::{Options, Part, USAGE};
use report::{Report, Row, Unit};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if let Some(outcome) = scale::run_child(&words) {
        return finish(outcome.map(|line| println!("{line}")));
    }
    match Options::parse(&words) {
        Ok(options) => finish(run(&options)),
        Err(why) => {
            eprint!("keepd-bench-library: {why}\n{USAGE}");
            ExitCode::from(100)
        }
    }
}

fn finish(outcome: Result<(), BenchError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keepd-bench-library: {error}");
            ExitCode::from(111)
        }
    }
}

fn run(options: &Options) -> Result<(), BenchError> {
    let mut rows = Vec::new();
    for part in Part::ALL.into_iter().filter(|part| options.includes(*part)) {
        rows.extend(match part {
            Part::Calls => measure_calls(options),
            Part::Scale => scale::measure(options)?,
            Part::Storm => scale::measure_storm(options)?,
        });
    }
    let report = Report { machine: Machine::look(), options: options.again(), rows };
    if let Some(path) = &options.write {
        page::write(path, "cargo xtask bench library", &report.markdown())?;
        progress(&format!("wrote {}", path.display()));
    }
    print!("{}", if options.json { report.json() } else { report.markdown() });
    Ok(())
}

/// Says on standard error what is going on.
fn progress(what: &str) {
    eprintln!("keepd-bench-library: {what}");
}

/// Returns a row for each call. Who has the first turn alternates: A B, B A, A B, ...
fn measure_calls(options: &Options) -> Vec<Row> {
    let turn = Duration::from_millis(if options.quick { 50 } else { 2_000 });
    let row = |call: calls::Call| {
        progress(call.name);
        let mut ours = calls::Timed::new((call.keepd)());
        let mut theirs = calls::Timed::new((call.other)());
        let (mut our_samples, mut their_samples) = (Samples::default(), Samples::default());
        for round in 0..options.rounds {
            if round % 2 == 0 {
                our_samples.push(ours.turn(turn));
                their_samples.push(theirs.turn(turn));
            } else {
                their_samples.push(theirs.turn(turn));
                our_samples.push(ours.turn(turn));
            }
        }
        Row {
            part: Part::Calls,
            what: format!("`{}`: {}", call.name, call.what),
            unit: Unit::Nanoseconds,
            samples: our_samples,
            other: Some((call.beside.to_owned(), their_samples)),
            target: call.target,
        }
    };
    calls::all().into_iter().map(row).collect()
}
