//! What is asked for, and how the answer looks.

use clap::Args;
use keepd_model::ExitCode;
use serde::Serialize;

use super::finding::Finding;
use super::{instance, machine};
use crate::arguments::Globals;
use crate::error::{CliError, ErrorKind};
use crate::output::{Screen, print_json};
use crate::place::{self, Place};

/// Say which promises are weaker on this machine, and why
///
/// Looks at what this kernel, this container and this user allow, at the folders of the project or
/// instance that is meant, and at the keepd that runs it, if one does. Each thing that is weaker
/// than it could be has a hint that says what to do. Changes nothing. Exit code 1 if something is
/// weaker.
#[derive(Args, Debug)]
pub(crate) struct DoctorOptions {}

#[derive(Serialize)]
struct Report<'a> {
    /// The identity of the instance that was looked at.
    instance: Option<&'a str>,
    checks: &'a [Finding],
    weaker: usize,
}

/// Runs the verb.
///
/// # Errors
/// What was named cannot be found, or the output cannot be written.
pub(crate) fn run(globals: &Globals, _options: &DoctorOptions) -> Result<ExitCode, CliError> {
    let place = find(globals)?;
    let mut findings = machine::look();
    findings.extend(place.iter().flat_map(instance::look));
    let weaker = findings.iter().filter(|finding| !finding.ok).count();
    if globals.is_json() {
        let instance = place.as_ref().and_then(|place| place.instance.as_ref());
        let instance = instance.map(|instance| instance.name.as_str());
        print_json(&Report { instance, checks: &findings, weaker })?;
    } else {
        print(globals, &findings, weaker)?;
    }
    Ok(if weaker == 0 { ExitCode::Done } else { ExitCode::No })
}

/// Returns the instance that is meant; where there is none, the machine is all there is to look at.
fn find(globals: &Globals) -> Result<Option<Place>, CliError> {
    match place::find(globals) {
        Ok(place) => Ok(Some(place)),
        Err(error) if error.kind() == ErrorKind::NoManager => Ok(None),
        Err(error) => Err(error),
    }
}

fn print(globals: &Globals, findings: &[Finding], weaker: usize) -> Result<(), CliError> {
    let mut screen = Screen::stdout();
    for finding in findings.iter().filter(|finding| !globals.quiet || !finding.ok) {
        for line in finding.lines() {
            screen.line(&line)?;
        }
    }
    if !globals.quiet {
        screen.line(&summary(findings.len(), weaker))?;
    }
    screen.flush()
}

fn summary(count: usize, weaker: usize) -> String {
    match weaker {
        0 => format!("All of {count} things are as they should be."),
        1 => format!("1 of {count} things is weaker than it could be."),
        _ => format!("{weaker} of {count} things are weaker than they could be."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        assert_eq!(summary(9, 0), "All of 9 things are as they should be.");
        assert_eq!(summary(9, 1), "1 of 9 things is weaker than it could be.");
        assert_eq!(summary(9, 2), "2 of 9 things are weaker than they could be.");
    }
}
