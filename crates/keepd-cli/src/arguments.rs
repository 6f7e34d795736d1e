//! What can be typed: the verbs and the options that they share.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use keepd_manager::console::{ColorChoice, ColorEnvironment};

use crate::commands::{
    apply, check, completions, demo, diff, doctor, down, events, history, is, logs, reference,
    reload, restart, run, show, shutdown, signal, start, status, stop, up, wait, why,
};

/// The environment variable that names configuration files, separated by colons.
pub(crate) const CONFIG_VARIABLE: &str = "KEEPD_CONFIG";

/// The environment variable that names the control socket.
pub(crate) const SOCKET_VARIABLE: &str = "KEEPD_SOCKET";

const ABOUT: &str = "Keep services running, and say why they are not";

const LONG_ABOUT: &str = "\
Keep services running, and say why they are not

keepd starts the services of a configuration file in the order of their dependencies, knows when \
they are ready, restarts them by policy, keeps their output, and stops all of what they started. \
A project is a folder with a keepd.toml; every verb finds it from the current folder upwards.";

const AFTER_HELP: &str = "\
Quick start:
  keepd check              is the keepd.toml here right?
  keepd up                 start its services and show what they print, until Ctrl-C
  keepd up -d              the same in the background, until `keepd down`
  keepd status             what runs, and for how long
  keepd why web            why it is as it is
  keepd logs -f web        what it prints
  keepd diff               what would `keepd apply` do with my changes?

SELECTOR is a name, a glob ('web*'), tag:WORD, state:STATE, or all; several are united.

Exit codes: 0 done or yes, 1 no or not reached, 3 not running, 4 no such service, 100 the \
caller's fault, 111 the system's fault, 124 --timeout is over, 130 interrupted. After 124 and 130 \
the action goes on.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "keepd",
    bin_name = "keepd",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    disable_help_subcommand = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    max_term_width = 100
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb, before or after it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of every verb")]
pub(crate) struct Globals {
    /// Use this configuration file instead of the nearest keepd.toml
    ///
    /// May be given several times: the files are read together, and the first one says which
    /// project is meant. KEEPD_CONFIG does the same, with colons between the files.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,

    /// Talk to the keepd that listens here [env: KEEPD_SOCKET]
    #[arg(short, long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Use the project in this folder
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,

    /// Use the system instance: the keepd that runs the whole machine, or container
    #[arg(long, global = true, conflicts_with_all = ["project", "user"])]
    pub(crate) system: bool,

    /// Use the user instance: the keepd of this user that belongs to no project
    #[arg(long, global = true, conflicts_with = "project")]
    pub(crate) user: bool,

    /// Choose how results are printed
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,

    /// Stop waiting after this time, with exit code 124; what was begun goes on
    #[arg(short, long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Do not wait for the result, print the number of the change instead
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,

    /// Choose when colours are used
    ///
    /// With auto they are used on a terminal, unless NO_COLOR is set or TERM is dumb;
    /// CLICOLOR_FORCE and FORCE_COLOR force them.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        value_parser = PossibleValuesParser::new(ColorChoice::ALL.map(ColorChoice::word))
            .map(|word| ColorChoice::from_word(&word).unwrap_or_default())
    )]
    pub(crate) color: ColorChoice,

    /// Print points in time instead of how long ago they were
    #[arg(long, global = true)]
    pub(crate) abs_time: bool,

    /// Print times in UTC instead of the local time zone
    #[arg(long, global = true)]
    pub(crate) utc: bool,

    /// Leave out headers and lines about what went well
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say which files and sockets are used
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

impl Globals {
    /// Reports whether errors and results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        match self.output {
            Format::Json => true,
            Format::Table | Format::Wide | Format::Name => false,
        }
    }

    /// Reports whether colours are used on an output that is (or is not) a terminal.
    pub(crate) fn is_colored(&self, terminal: bool) -> bool {
        self.color.is_colored(&ColorEnvironment::read(), terminal)
    }
}

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// One JSON document; for streams, one a line
    Json,
    /// Names only
    Name,
}

fn duration(text: &str) -> Result<Duration, String> {
    keepd_plan::parse_duration(text).map_err(|error| match error.hint() {
        Some(hint) => format!("{error}: {hint}"),
        None => error.to_string(),
    })
}

/// Reads a duration such as `10s` or `1m30s`.
pub(crate) fn duration_value(text: &str) -> Result<Duration, String> {
    duration(text)
}

/// The verbs of this version. Those of later versions are in [`crate::later`].
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Up(up::UpOptions),
    Down(down::DownOptions),
    Run(run::RunOptions),
    Status(status::StatusOptions),
    Start(start::StartOptions),
    Stop(stop::StopOptions),
    Restart(restart::RestartOptions),
    Reload(reload::ReloadOptions),
    Signal(signal::SignalOptions),
    Wait(wait::WaitOptions),
    Is(is::IsOptions),
    Logs(logs::LogsOptions),
    Events(events::EventsOptions),
    Why(why::WhyOptions),
    History(history::HistoryOptions),
    Check(check::CheckOptions),
    Diff(diff::DiffOptions),
    Apply(apply::ApplyOptions),
    Show(show::ShowOptions),
    Shutdown(shutdown::ShutdownOptions),
    Doctor(doctor::DoctorOptions),
    Completions(completions::CompletionsOptions),
    #[command(subcommand)]
    Demo(demo::Demo),
    Proxy(ProxyOptions),
    #[command(name = "__reference", hide = true)]
    Reference(reference::ReferenceOptions),
}

/// Run only the parent that starts and reaps services as controllers command
///
/// It has no policy of its own: controllers connect and speak the line protocol of daemonproxy,
/// which it can replace. It has options of its own: see `keepd proxy --help`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct ProxyOptions {
    /// The options of the proxy
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        for words in [
            ["keepd", "-o", "json", "-t", "5s", "status", "web"],
            ["keepd", "status", "web", "-o", "json", "-t", "5s"],
        ] {
            let line = CommandLine::try_parse_from(words).unwrap();
            assert!(line.globals.is_json());
            assert_eq!(line.globals.timeout, Some(Duration::from_secs(5)));
        }
        let words = ["keepd", "-c", "a", "check", "-c", "b"];
        assert_eq!(CommandLine::try_parse_from(words).unwrap().globals.config.len(), 1);
    }

    #[test]
    fn help_texts_are_imperative_and_have_no_full_stop() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            let about = command.get_about().unwrap_or_else(|| panic!("{name} has no help"));
            assert!(!about.to_string().ends_with('.'), "{name}: {about}");
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "{name} {} has no help", argument.get_id());
                assert!(!help.ends_with('.'), "{name} {}: {help}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&CommandLine::command());
    }
}
