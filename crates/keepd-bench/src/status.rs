//! `keepd status` as a whole process: from before it is executed until it has ended.

use std::process::Command;

use keepd_os::clock;

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::error::{Attempt, BenchError};
use crate::report::{Row, Target, Unit};
use crate::samples::Samples;
use crate::subject::{Mode, PATIENCE, Place, Project, Services, Subject};

/// Runs of each program in a round.
const RUNS: usize = 10;

/// Runs `keepd status` in projects without and with services, and a program that does nothing.
///
/// # Errors
/// A project cannot be started, or a program fails.
pub fn measure(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let count = options.services;
    progress(&format!("status: starting {count} services"));
    let mut projects = Vec::new();
    for count in [0, count] {
        let mut project = Project::start(place, count, Services::waiting(Mode::Once))?;
        project.wait_until_up()?;
        project.records().wait_for(count, PATIENCE)?;
        projects.push(project);
    }
    // The floor without anything to run ends at once.
    let mut nothing = place.command(place.program("keepd-bench-floor"));
    nothing.args(["once", "0", "nothing"]);
    let mut commands = vec![(nothing, "a program that does nothing".to_owned())];
    for (project, count) in projects.iter().zip([0, count]) {
        commands.push((project.status(place), format!("keepd status at {count} services")));
    }
    let mut all = vec![Samples::default(); commands.len()];
    for round in 1..=options.rounds {
        progress(&format!("status, round {round} of {}", options.rounds));
        for ((command, _), samples) in commands.iter_mut().zip(&mut all) {
            for _ in 0..RUNS {
                time(command, samples)?;
            }
        }
    }
    for project in projects {
        Box::new(project).stop()?;
    }
    let floor = all[0].median();
    let rows =
        commands.into_iter().zip(all).enumerate().map(|(index, ((_, subject), samples))| Row {
            part: Part::Status,
            what: "whole process".into(),
            subject,
            unit: Unit::Milliseconds,
            samples,
            floor,
            target: (index > 0).then_some(Target::Median(5.0)),
        });
    Ok(rows.collect())
}

/// Runs a program once.
///
/// # Errors
/// It cannot be run, or fails.
pub fn time(command: &mut Command, samples: &mut Samples) -> Result<(), BenchError> {
    let begun_at = clock::monotonic_now();
    let status = command.status().attempt(format!("run {command:?}"))?;
    let elapsed = clock::monotonic_now().saturating_since(begun_at);
    if !status.success() {
        return Err(BenchError::new(format!("cannot measure {command:?}: {status}")));
    }
    samples.push_time(elapsed);
    Ok(())
}
