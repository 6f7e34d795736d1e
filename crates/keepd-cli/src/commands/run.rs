//! `keepd run`: the system or user instance; and `keepd run -- CMD`: one command, looked after like
//! a service.

use std::ffi::OsString;
use std::fmt::Write;

use clap::Args;
use keepd_manager::accepted::{Accepted, AcceptedSource};
use keepd_manager::discovery::{Discovered, Root, discover};
use keepd_manager::revision::{self, Start};
use keepd_manager::time::timestamp;
use keepd_manager::{Instance, Standing};
use keepd_model::ExitCode;
use keepd_os::{clock, process};
use keepd_plan::Diagnostic;

use crate::arguments::Globals;
use crate::configuration;
use crate::error::{CliError, ErrorKind, diagnostic_object, diagnostic_text};
use crate::place;
use crate::top::{self, Input, Prepared, Wishes};

/// Run the system instance, or the user instance, in the foreground; or one command
///
/// Without a command it reads the files of the system (root, or --system) or of the user, or those
/// of -c, and runs until it is told to end; as PID 1 it reaps orphans, too. A service whose table
/// has errors is quarantined, and the others start; if the files cannot be used at all, the last
/// good configuration is. With a command it runs only that, passes signals on to it, ends whatever
/// it leaves behind, and ends with its exit code.
#[derive(Args, Debug)]
pub(crate) struct RunOptions {
    /// Start no service; `keepd start` does
    #[arg(long, conflicts_with = "command")]
    pub(crate) no_start: bool,

    /// Run this command
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Runs the verb.
pub(crate) fn run(globals: &Globals, options: &RunOptions) -> Result<ExitCode, CliError> {
    if options.command.is_empty() {
        run_standing(globals, options.no_start)
    } else {
        run_command(globals, &options.command)
    }
}

/// Runs the instance of the machine, or of the user.
fn run_standing(globals: &Globals, no_start: bool) -> Result<ExitCode, CliError> {
    let surroundings = place::surroundings();
    let standing = place::named_standing(globals).unwrap_or(match surroundings.uid {
        0 => Standing::System,
        _ => Standing::User,
    });
    let roots = place::standing_files(globals, standing)?;
    let config_dir = place::named_files(globals)?.and_then(|files| place::config_dir(&files));
    let last_good_file = place::locate_standing(globals, standing)?.last_good_file();
    let now = timestamp(clock::wall_now_ns());
    let found = find(&roots);
    let Start { accepted, loaded, errors } = Start::choose(roots, found, &last_good_file, &now)
        .map_err(|diagnostics| {
            let word = standing.word();
            let count = configuration::errors(diagnostics.len());
            let message =
                format!("cannot start the {word} instance: the configuration has {count}");
            CliError::configuration(message, &diagnostics)
        })?;
    let labelled = [("", &errors), ("warning: ", &loaded.warnings)];
    for (label, diagnostics) in labelled {
        for diagnostic in diagnostics {
            eprintln!("{}", diagnostic_text(&diagnostic_object(diagnostic), label));
        }
    }
    let manager = &loaded.plan.manager;
    let instance = standing.locate(config_dir.as_deref(), manager, &surroundings);
    let wishes = Wishes {
        // In a container the output of PID 1 is where people look for the lines of services.
        foreground: process::id().get() == 1,
        color: globals.color,
        only: Vec::new(),
        no_start,
        log_level: globals.verbose.then(|| "debug".to_owned()),
    };
    let prepared = Prepared::new(instance, &accepted, manager, &surroundings, wishes)?;
    top::supervise(prepared, Input::Null)
}

/// Reads the files of a standing instance. What cannot be read is an error like others: there may
/// be a revision to fall back to.
fn find(roots: &[Root]) -> Discovered {
    match discover(roots) {
        Ok(found) if found.sources.is_empty() && found.errors.is_empty() => {
            let looked: Vec<String> =
                roots.iter().map(|root| format!("\"{}\"", root.shown)).collect();
            let error = Diagnostic {
                origin: None,
                message: format!("cannot find a configuration file at {}", looked.join(", ")),
                hint: Some("write one there, or use -c FILE".to_owned()),
            };
            Discovered { sources: Vec::new(), errors: vec![error] }
        }
        Ok(found) => found,
        Err(error) => {
            Discovered { sources: Vec::new(), errors: vec![revision::unreadable(&error)] }
        }
    }
}

/// Runs one command.
fn run_command(globals: &Globals, command: &[OsString]) -> Result<ExitCode, CliError> {
    let directory = std::env::current_dir().map_err(|error| {
        CliError::because(ErrorKind::System, "cannot find the current folder", &error)
    })?;
    let text = configuration_for(command)?;
    let directory = directory.to_str().map(str::to_owned).ok_or_else(|| {
        CliError::new(ErrorKind::Usage, "cannot use the current folder: it is not UTF-8")
    })?;
    let source = AcceptedSource { file: "run".to_owned(), path: None, directory, text };
    let loaded = configuration::load(std::slice::from_ref(&source), true)
        .map_err(|diagnostics| CliError::configuration("cannot run this command", &diagnostics))?;
    let accepted = Accepted::new(true, Vec::new(), vec![source]);
    // Every run is an instance of its own: two of them in one folder do not disturb each other.
    let surroundings = place::surroundings();
    let instance = Instance::of_run(process::id().get(), &surroundings)?;
    let wishes = Wishes {
        foreground: true,
        color: globals.color,
        only: Vec::new(),
        no_start: false,
        // How the command ended is in the exit code; more than errors would only mix with its own
        // words.
        log_level: Some(if globals.verbose { "debug" } else { "error" }.to_owned()),
    };
    let prepared = Prepared::new(instance, &accepted, &loaded.plan.manager, &surroundings, wishes)?;
    top::supervise(prepared, Input::Own)
}

/// Writes what a person would write into keepd.toml for this command.
fn configuration_for(command: &[OsString]) -> Result<String, CliError> {
    let mut words = String::new();
    for word in command {
        let word = word.to_str().ok_or_else(|| {
            let message = format!("cannot use argument \"{}\": it is not UTF-8", word.display());
            CliError::new(ErrorKind::Usage, message)
        })?;
        // A dollar sign is a dollar sign: the shell has substituted already.
        let _ = write!(words, "{}, ", toml_string(&word.replace('$', "$$")));
    }
    Ok(format!(
        "[keepd]\necho = \"off\"\n\n[services.main]\ncommand = [{words}]\nrestart = \"never\"\n\
         shutdown_on = \"exit\"\nlog.mode = \"inherit\"\nready.delay = \"0s\"\n"
    ))
}

/// Returns the text as a basic string of TOML.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            control if control.is_control() => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_argument_survives_the_way_through_toml() {
        let command: Vec<OsString> =
            ["sh", "-c", "echo \"$HOME\" ${X} \\ \t\n\u{7f}\u{e9}", ""].map(Into::into).to_vec();
        let text = configuration_for(&command).unwrap();
        let source =
            AcceptedSource { file: "run".to_owned(), path: None, directory: "/".to_owned(), text };
        let loaded = configuration::load(&[source], true).unwrap();
        let main = loaded.plan.services.values().next().unwrap();
        let Some(keepd_model::CommandLine::Words(words)) = &main.command else {
            panic!("no words")
        };
        let expanded: Vec<String> =
            words.iter().map(|word| word.expand(|_| None).unwrap()).collect();
        assert_eq!(expanded, command.iter().map(|w| w.to_str().unwrap()).collect::<Vec<_>>());
    }
}
