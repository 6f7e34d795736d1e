//! From the words of a command line to the verb that they name, and to an exit code.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind as ClapKind;
use keepd_model::ExitCode;

use crate::arguments::{CommandLine, Globals, Verb};
use crate::commands::{
    apply, check, completions, demo, diff, down, events, history, is, logs, manager, proxy,
    reference, reload, restart, run as run_verb, show, shutdown, signal, start, status, stop, up,
    wait, warden, why,
};
use crate::error::{CliError, ErrorKind};
use crate::usage;

/// Runs the program with these arguments, the first of which is how it was called.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    // The processes of keepd have options of their own, and what clap knows is not for them.
    let called = arguments.first().and_then(|name| Path::new(name).file_name());
    let verb = arguments.get(1).map(OsString::as_os_str);
    if called == Some(OsStr::new("daemonproxy")) {
        return proxy::run("daemonproxy", arguments.get(1..).unwrap_or_default());
    }
    if verb == Some(OsStr::new("proxy")) {
        return proxy::run("keepd-proxy", arguments.get(2..).unwrap_or_default());
    }
    if verb == Some(OsStr::new(manager::VERB)) {
        return manager::run(arguments.get(2..).unwrap_or_default());
    }
    if verb == Some(OsStr::new(warden::VERB)) {
        return warden::run(arguments.get(2..).unwrap_or_default());
    }
    match CommandLine::try_parse_from(arguments) {
        Ok(line) => {
            let result = run_verb_of(&line.globals, &line.verb);
            finish(result, line.globals.is_json())
        }
        Err(refused) => match refused.kind() {
            ClapKind::DisplayHelp | ClapKind::DisplayVersion => {
                // A reader who closes the pipe has seen enough.
                let _ = refused.print();
                ExitCode::Done
            }
            _ => finish(Err(usage::error_of(&refused)), usage::asks_for_json(arguments)),
        },
    }
}

/// Prints the error, if there is one, and returns the exit code.
fn finish(result: Result<ExitCode, CliError>, json: bool) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            error.print(json);
            error.kind().exit_code()
        }
    }
}

fn run_verb_of(globals: &Globals, verb: &Verb) -> Result<ExitCode, CliError> {
    match verb {
        Verb::Up(options) => up::run(globals, options),
        Verb::Down(options) => down::run(globals, options),
        Verb::Run(options) => run_verb::run(globals, options),
        Verb::Status(options) => status::run(globals, options),
        Verb::Start(options) => start::run(globals, options),
        Verb::Stop(options) => stop::run(globals, options),
        Verb::Restart(options) => restart::run(globals, options),
        Verb::Reload(options) => reload::run(globals, options),
        Verb::Signal(options) => signal::run(globals, options),
        Verb::Wait(options) => wait::run(globals, options),
        Verb::Is(options) => is::run(globals, options),
        Verb::Logs(options) => logs::run(globals, options),
        Verb::Events(options) => events::run(globals, options),
        Verb::Why(options) => why::run(globals, options),
        Verb::History(options) => history::run(globals, options),
        Verb::Check(options) => check::run(globals, options),
        Verb::Diff(options) => diff::run(globals, options),
        Verb::Apply(options) => apply::run(globals, options),
        Verb::Show(options) => show::run(globals, options),
        Verb::Shutdown(options) => shutdown::run(globals, options),
        Verb::Completions(options) => completions::run(options),
        Verb::Demo(demo) => demo::run(demo),
        Verb::Proxy(_) => Err(CliError::new(
            ErrorKind::Usage,
            "cannot use options before \"proxy\": it has options of its own",
        )
        .with_hint("keepd proxy OPTION...")),
        Verb::Reference(options) => reference::run(options),
    }
}
