//! `keepd run -- CMD`: one command, looked after like a service.

use std::ffi::OsString;
use std::fmt::Write;

use clap::Args;
use keepd_manager::Instance;
use keepd_manager::accepted::{Accepted, AcceptedSource};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::configuration;
use crate::error::{CliError, ErrorKind};
use crate::place;
use crate::top::{self, Input, Prepared, Wishes};

/// Run one command under keepd, and end with its exit code
///
/// Signals are passed on to the command, whatever it leaves behind is ended, and its orphans are
/// reaped.
#[derive(Args, Debug)]
pub(crate) struct RunOptions {
    /// Run this command
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Runs the verb.
pub(crate) fn run(globals: &Globals, options: &RunOptions) -> Result<ExitCode, CliError> {
    if options.command.is_empty() {
        let message = "cannot run the system instance: it is not supported by this version";
        return Err(CliError::new(ErrorKind::Unsupported, message)
            .with_hint("keepd run -- CMD runs one command, keepd up runs a keepd.toml"));
    }
    let directory = std::env::current_dir().map_err(|error| {
        CliError::because(ErrorKind::System, "cannot find the current folder", &error)
    })?;
    let text = configuration_for(&options.command)?;
    let directory = directory.to_str().map(str::to_owned).ok_or_else(|| {
        CliError::new(ErrorKind::Usage, "cannot use the current folder: it is not UTF-8")
    })?;
    let source = AcceptedSource { file: "run".to_owned(), path: None, directory, text };
    let loaded = configuration::load(std::slice::from_ref(&source), true)
        .map_err(|diagnostics| CliError::configuration("cannot run this command", &diagnostics))?;
    let accepted = Accepted::new(true, vec![source]);
    // Every run is an instance of its own: two of them in one folder do not disturb each other.
    let surroundings = place::surroundings();
    let instance = Instance::of_run(keepd_os::process::id().get(), &surroundings)?;
    let wishes = Wishes {
        foreground: true,
        color: globals.color,
        only: Vec::new(),
        // How the command ended is in the exit code; more than errors would only mix with its own
        // words.
        log_level: Some(if globals.verbose { "debug" } else { "error" }.to_owned()),
    };
    let prepared = Prepared::new(instance, &accepted, &loaded.plan.manager, &surroundings, wishes)?;
    top::supervise(&prepared.options, Input::Own)
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
