//! `keepd check`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use keepd_manager::api::types::DiagnosticObject;
use keepd_model::{ExitCode, Plan};
use keepd_plan::Diagnostic;
use serde::Serialize;

use crate::arguments::Globals;
use crate::configuration;
use crate::error::{CliError, diagnostic_object, diagnostic_text};
use crate::output::print_json;
use crate::place;

/// Check the configuration without starting anything
///
/// Prints every error with its file, line and column, and nothing if there is none. Needs no
/// running keepd and asks no network. Exit code 100 if there is an error.
#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    /// Check these files together instead of those of the project or instance
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no configuration, or a file cannot be read.
pub(crate) fn run(globals: &Globals, options: &CheckOptions) -> Result<ExitCode, CliError> {
    let (roots, project) = match (options.files.as_slice(), place::named_standing(globals)) {
        ([], Some(standing)) => (place::standing_files(globals, standing)?, false),
        ([], None) => (place::config_files(globals)?, true),
        (files, standing) => {
            let files = files.iter().map(|file| configuration::named(file));
            (files.collect::<Result<_, _>>()?, standing.is_none())
        }
    };
    let (errors, mut warnings) = match configuration::read(roots)?.load(project) {
        Ok((_, loaded)) => {
            let mut warnings = loaded.warnings;
            warnings.extend(unknown_users(&loaded.plan));
            (Vec::new(), warnings)
        }
        Err(errors) => (errors, Vec::new()),
    };
    // Warnings of the plan come first otherwise, whatever lines they are about.
    warnings.sort_by(|one, other| one.origin.cmp(&other.origin));
    let bad = !errors.is_empty() || (options.strict && !warnings.is_empty());
    report(globals, &errors, &warnings)?;
    Ok(if bad { ExitCode::Caller } else { ExitCode::Done })
}

/// Asks the user database, once for each user.
fn unknown_users(plan: &Plan) -> Vec<Diagnostic> {
    let mut known: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let mut warnings = Vec::new();
    for spec in plan.services.values() {
        let Some(user) = &spec.user else { continue };
        let problem = known.entry(user).or_insert_with(|| match keepd_os::users::user(user) {
            Ok(Some(_)) => None,
            Ok(None) => Some("there is no such user here".to_owned()),
            Err(errno) => Some(format!("the user database says: {errno}")),
        });
        if let Some(problem) = problem {
            let name = &spec.name;
            warnings.push(Diagnostic {
                origin: spec.origins.get("user").cloned(),
                message: format!("cannot find user \"{user}\" of service \"{name}\": {problem}"),
                hint: None,
            });
        }
    }
    warnings
}

#[derive(Serialize)]
struct Report {
    diagnostics: Vec<SeverityObject>,
}

#[derive(Serialize)]
struct SeverityObject {
    severity: &'static str,
    #[serde(flatten)]
    diagnostic: DiagnosticObject,
}

fn report(
    globals: &Globals,
    errors: &[Diagnostic],
    warnings: &[Diagnostic],
) -> Result<(), CliError> {
    let labelled = [("error", "", errors), ("warning", "warning: ", warnings)];
    if globals.is_json() {
        let diagnostics = labelled.iter().flat_map(|(severity, _, diagnostics)| {
            diagnostics.iter().map(|diagnostic| SeverityObject {
                severity,
                diagnostic: diagnostic_object(diagnostic),
            })
        });
        return print_json(&Report { diagnostics: diagnostics.collect() });
    }
    for (_, label, diagnostics) in labelled {
        for diagnostic in diagnostics {
            eprintln!("{}", diagnostic_text(&diagnostic_object(diagnostic), label));
        }
    }
    Ok(())
}
