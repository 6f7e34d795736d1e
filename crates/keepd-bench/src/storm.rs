//! A crash storm: services that fail at once, for ever, and are started again every second.

use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::error::BenchError;
use crate::probe;
use crate::report::{Row, Target, Unit};
use crate::samples::Samples;
use crate::status;
use crate::subject::{PATIENCE, Place, Project, Services, Subject};

/// Services in the storm.
const SERVICES: usize = 200;
/// From the end of one `keepd status` to the begin of the next.
const PAUSE: Duration = Duration::from_millis(20);
/// Each service has failed so often before anything is measured: the delays have grown to their
/// longest, a second.
const STARTS_BEFORE: usize = 4;

/// Asks for the status again and again while services fail.
///
/// # Errors
/// The project cannot be started, or `keepd status` fails.
pub fn measure(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let time = 2 * options.idle();
    progress(&format!("storm of {SERVICES} services, {} s", time.as_secs()));
    let project = Box::new(Project::start(place, SERVICES, Services::failing())?);
    project.records().wait_for(SERVICES * STARTS_BEFORE, PATIENCE)?;
    let processes = project.processes()?;
    let mut status = project.status(place);
    let mut latency = Samples::default();
    // First without any question, so that the answers are not in the processor time.
    let (cpu_before, starts_before, begun_at) =
        (probe::cpu_time(&processes), project.records().count()?, Instant::now());
    thread::sleep(time);
    let elapsed = begun_at.elapsed();
    let cpu = probe::cpu_time(&processes).saturating_sub(cpu_before);
    let starts = project.records().count()?.saturating_sub(starts_before);
    let begun_at = Instant::now();
    while begun_at.elapsed() < time {
        status::time(&mut status, &mut latency)?;
        thread::sleep(PAUSE);
    }
    project.stop()?;
    let row = |what: &str, unit, samples, target| Row {
        part: Part::Storm,
        what: what.to_owned(),
        subject: "keepd up".into(),
        unit,
        samples,
        floor: None,
        target,
    };
    let percent = 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64();
    let per_second = starts as f64 / elapsed.as_secs_f64();
    Ok(vec![
        row("`keepd status` in the storm", Unit::Milliseconds, latency, Some(Target::P99(10.0))),
        row(
            "processor time of all our processes",
            Unit::Percent,
            [percent].into_iter().collect(),
            Some(Target::Median(5.0)),
        ),
        row("starts in a second", Unit::Starts, [per_second].into_iter().collect(), None),
    ])
}
