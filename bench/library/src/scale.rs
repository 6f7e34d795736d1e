//! The measurements that need a process of their own for each sample, from above.

use std::process::{Command, Stdio};
use std::time::Duration;

use keepd_bench::error::{Attempt, BenchError};
use keepd_bench::samples::Samples;

use crate::arguments::{Options, Part};
use crate::fleet::{self, Subject, Took};
use crate::progress;
use crate::report::{Row, Target, Unit};
use crate::storm;

/// The first word of a process that measures one fleet.
const FLEET_WORD: &str = "__fleet";
/// The first word of a process that measures one storm.
const STORM_WORD: &str = "__storm";

/// How many times longer ten times as many may take.
const TENFOLD_MAX: f64 = 12.0;
/// How many times longer than plain tasks ours may take.
const PLAIN_MAX: f64 = 1.5;
/// The share of one processor that waiting may take, in percent.
const WAITING_PERCENT_MAX: f64 = 5.0;

/// Measures one sample, if the words say that this is such a process; returns the line to print.
pub(crate) fn run_child(words: &[String]) -> Option<Result<String, BenchError>> {
    let (word, rest) = words.split_first()?;
    let run: fn(&[String]) -> Result<String, BenchError> = match word.as_str() {
        FLEET_WORD => |rest| {
            let subject =
                Subject::ALL.into_iter().find(|subject| Some(subject.word()) == get(rest));
            let subject = subject.ok_or_else(|| BenchError::new("cannot find the subject"))?;
            Ok(fleet::measure(subject, number(rest)?)?.line())
        },
        STORM_WORD => |rest| {
            let length = Duration::from_millis(
                get(rest).unwrap_or_default().parse().attempt("read how long to measure")?,
            );
            Ok(storm::measure(number(rest)?, length)?.line())
        },
        _ => return None,
    };
    Some(run(rest))
}

fn get(words: &[String]) -> Option<&str> {
    words.first().map(String::as_str)
}

fn number(words: &[String]) -> Result<usize, BenchError> {
    words.get(1).map(String::as_str).unwrap_or_default().parse().attempt("read how many")
}

/// Runs this program with these words in a process of its own; returns the line that it prints.
fn child(words: &[&str]) -> Result<String, BenchError> {
    let program = std::env::current_exe().attempt("find this program")?;
    let what = "measure in a process of its own";
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .attempt(what)?;
    if !output.status.success() {
        return Err(BenchError::new(format!("cannot {what}: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[derive(Debug, Default)]
struct Times {
    ms: Samples,
    processor_ms: Samples,
}

impl Times {
    fn push(&mut self, took: Took) {
        self.ms.push(took.ms);
        self.processor_ms.push(took.processor_ms);
    }
}

/// The samples of one subject with so many tasks.
#[derive(Debug, Default)]
struct Fleet {
    register: Times,
    start: Times,
    stop: Times,
    registered_bytes: Samples,
    running_bytes: Samples,
}

impl Fleet {
    fn add(&mut self, subject: Subject, count: usize) -> Result<(), BenchError> {
        progress(&format!("{count} tasks of {}", subject.word()));
        let line = child(&[FLEET_WORD, subject.word(), &count.to_string()])?;
        let figures = fleet::Figures::parse(&line)?;
        self.register.push(figures.register);
        self.start.push(figures.start);
        self.stop.push(figures.stop);
        self.registered_bytes.push(figures.registered_bytes);
        self.running_bytes.push(figures.running_bytes);
        Ok(())
    }
}

/// Returns the rows about very many subsystems. The order of turns is reversed in every second
/// round.
pub(crate) fn measure(options: &Options) -> Result<Vec<Row>, BenchError> {
    let count: usize = if options.quick { 10_000 } else { 100_000 };
    let few = count / 10;
    let mut fleets: [(Subject, usize, Fleet); 4] = [
        (Subject::Keepd, count, Fleet::default()),
        (Subject::ProcDaemon, count, Fleet::default()),
        (Subject::Plain, count, Fleet::default()),
        (Subject::Keepd, few, Fleet::default()),
    ];
    for round in 0..options.rounds {
        for turn in 0..fleets.len() {
            let place = if round % 2 == 0 { turn } else { fleets.len() - 1 - turn };
            let (subject, count, fleet) = &mut fleets[place];
            fleet.add(*subject, *count)?;
        }
    }
    let [(_, _, ours), (_, _, theirs), (_, _, plain), (_, _, ours_few)] = fleets;
    Ok(rows(count, &ours, &theirs, &plain, (few, &ours_few)))
}

fn rows(
    count: usize,
    ours: &Fleet,
    theirs: &Fleet,
    plain: &Fleet,
    (few, ours_few): (usize, &Fleet),
) -> Vec<Row> {
    let row = |what: String, unit, get: fn(&Fleet) -> &Samples, who: String, other, target| Row {
        part: Part::Scale,
        what,
        unit,
        samples: get(ours).clone(),
        other: Some((who, get(other).clone())),
        target,
    };
    let time = |what: &str, get, who: &str, other, target: Option<f64>| {
        let (what, target) = (format!("{what} {count}"), target.map(Target::Ratio));
        row(what, Unit::Milliseconds, get, who.to_owned(), other, target)
    };
    let memory = |what: &str, get, who: Subject, other, target| {
        let what = format!("memory of each {what} of {count}");
        row(what, Unit::Bytes, get, who.word().to_owned(), other, target)
    };
    let registered: fn(&Fleet) -> &Samples = |fleet| &fleet.registered_bytes;
    let running: fn(&Fleet) -> &Samples = |fleet| &fleet.running_bytes;
    let (them, tasks) = (Subject::ProcDaemon.word(), Subject::Plain.word());
    let tenth = format!("keepd with {few}");
    vec![
        time("register", |fleet| &fleet.register.ms, them, theirs, Some(0.5)),
        time("start", |fleet| &fleet.start.ms, them, theirs, Some(0.5)),
        time("start, processor,", |fleet| &fleet.start.processor_ms, them, theirs, None),
        time("stop", |fleet| &fleet.stop.ms, them, theirs, Some(0.1)),
        time("stop, processor,", |fleet| &fleet.stop.processor_ms, them, theirs, None),
        time("start", |fleet| &fleet.start.ms, tasks, plain, Some(PLAIN_MAX)),
        time("start, processor,", |fleet| &fleet.start.processor_ms, tasks, plain, None),
        time("stop", |fleet| &fleet.stop.ms, tasks, plain, Some(PLAIN_MAX)),
        time("stop, processor,", |fleet| &fleet.stop.processor_ms, tasks, plain, None),
        time("register", |fleet| &fleet.register.ms, &tenth, ours_few, Some(TENFOLD_MAX)),
        time("start", |fleet| &fleet.start.ms, &tenth, ours_few, Some(TENFOLD_MAX)),
        time("stop", |fleet| &fleet.stop.ms, &tenth, ours_few, Some(TENFOLD_MAX)),
        memory("registered", registered, Subject::ProcDaemon, theirs, None),
        memory("running", running, Subject::ProcDaemon, theirs, Some(Target::AtMost(560.0))),
        memory("running", running, Subject::Plain, plain, None),
    ]
}

/// Returns the rows about very many that fail at once.
pub(crate) fn measure_storm(options: &Options) -> Result<Vec<Row>, BenchError> {
    let (count, length_ms) = if options.quick { (1_000, 500) } else { (10_000, 10_000) };
    let (mut waiting, mut storm) = (Samples::default(), Samples::default());
    for _ in 0..options.rounds {
        progress(&format!("{count} failing subsystems"));
        let line = child(&[STORM_WORD, &length_ms.to_string(), &count.to_string()])?;
        let figures = storm::Figures::parse(&line)?;
        waiting.push(figures.waiting_percent);
        storm.push(figures.storm_percent);
    }
    let row = |what: String, samples, target| Row {
        part: Part::Storm,
        what,
        unit: Unit::Percent,
        samples,
        other: None,
        target,
    };
    let seconds = f64::from(length_ms) / 1_000.0;
    Ok(vec![
        row(
            format!("processor, while {count} wait for their restarts"),
            waiting,
            Some(Target::AtMost(WAITING_PERCENT_MAX)),
        ),
        row(
            format!("processor, {count} start and fail for {seconds} s, first after 0.5 s"),
            storm,
            None,
        ),
    ])
}
