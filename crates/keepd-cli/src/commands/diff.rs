//! `keepd diff`.

use std::path::PathBuf;

use clap::Args;
use keepd_manager::api::types::{DiffObject, DiffRequest, SourceObject};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::client::{Client, block_on};
use crate::configuration;
use crate::error::CliError;
use crate::output::{Screen, print_json};
use crate::place;
use crate::steps::{print_steps, print_warnings};

/// Show what apply would do
///
/// One line a service, with the keys that are the reason: `+` is started, or only added if it is
/// not enabled, `-` is stopped and forgotten, `~` is restarted or changed while it runs, `.` is
/// changed at its next start. The last line names the plan: `keepd apply --plan ID` does exactly
/// this, or nothing. Exit code 0 if there is nothing to do, 1 if there is something, 100 if the
/// files have errors.
#[derive(Args, Debug)]
pub(crate) struct DiffOptions {
    /// Compare with these files instead of those that keepd was started with
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager, or the files have errors.
pub(crate) fn run(globals: &Globals, options: &DiffOptions) -> Result<ExitCode, CliError> {
    let client = Client::new(&place::find(globals)?);
    let request = DiffRequest { sources: sources(&options.files)? };
    let diff: DiffObject = block_on(client.post("/v1/config/diff", &request))?;
    print_warnings(&diff.warnings);
    if globals.is_json() {
        print_json(&diff)?;
    } else {
        let mut screen = Screen::stdout();
        print_steps(globals, &mut screen, &diff.steps, "Nothing would change.")?;
        if !diff.steps.is_empty() {
            screen.line(&format!("plan {}", diff.plan))?;
        }
        screen.flush()?;
    }
    Ok(if diff.steps.is_empty() { ExitCode::Done } else { ExitCode::No })
}

/// Reads the files that were named, if any, and what they include.
fn sources(files: &[PathBuf]) -> Result<Option<Vec<SourceObject>>, CliError> {
    if files.is_empty() {
        return Ok(None);
    }
    let roots = files.iter().map(|file| configuration::named(file)).collect::<Result<_, _>>()?;
    let found = configuration::read(roots)?.found;
    if !found.errors.is_empty() {
        let count = configuration::errors(found.errors.len());
        let message = format!("cannot compare the configuration: it has {count}");
        return Err(CliError::configuration(message, &found.errors));
    }
    let sources = found.sources.into_iter().map(|source| SourceObject {
        file: source.file,
        directory: source.directory,
        text: source.text,
    });
    Ok(Some(sources.collect()))
}
