//! `keepd logs`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use keepd_manager::console::{append_json_line, append_text_line};
use keepd_manager::logs::{Follower, LogLine, ServiceLog, StartFrom, Unread, tail};
use keepd_model::{ExitCode, ServiceName};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Globals;
use crate::client::block_on;
use crate::error::{CliError, ErrorKind};
use crate::log_places::LogPlaces;
use crate::output::Screen;
use crate::place::{self, Place};
use crate::selector::{exact_name, select};

/// From one look at the indexes to the next while following. Nothing tells a reader without a
/// manager that a file has grown.
const LOOK: Duration = Duration::from_millis(100);

/// Every so many looks it is asked whether another configuration is in force.
const LOOKS_PER_RELOAD: u32 = 10;

/// Print what services wrote, in the order of time
///
/// Lines of standard error have `!` instead of `|`. Works without a running keepd, too: it reads
/// the files.
#[derive(Args, Debug)]
pub(crate) struct LogsOptions {
    /// Print the output of these services instead of all
    #[arg(value_name = "SELECTOR")]
    select: Vec<String>,

    /// Go on with what is written from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Begin with the last N lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

/// Runs the verb.
///
/// # Errors
/// There is no configuration or no such service, or none of the logs can be read.
pub(crate) fn run(globals: &Globals, options: &LogsOptions) -> Result<ExitCode, CliError> {
    let places = LogPlaces::find(globals)?;
    let logs = chosen(&places, &options.select)?;
    let mut printer = Printer::new(globals);
    if options.follow {
        let place = place::find(globals)?;
        return block_on(follow(&place, logs, options, &mut printer));
    }
    let found = tail(&logs, options.lines);
    printer.print(&found.lines)?;
    printer.report(&found.unread);
    Ok(if found.unread.is_empty() { ExitCode::Done } else { ExitCode::System })
}

/// Returns the logs that are meant. A service without a log is only an error if it was named.
fn chosen(places: &LogPlaces, selectors: &[String]) -> Result<Vec<ServiceLog>, CliError> {
    let mut logs = Vec::new();
    for name in select(places.plan(), selectors)? {
        match places.log(&name) {
            Ok(log) => logs.push(log),
            Err(error) if exact_name(selectors).is_some() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(logs)
}

async fn follow(
    place: &Place,
    logs: Vec<ServiceLog>,
    options: &LogsOptions,
    printer: &mut Printer,
) -> Result<ExitCode, CliError> {
    let listen = |kind: SignalKind| {
        signal(kind).map_err(|error| {
            CliError::because(ErrorKind::System, "cannot wait for signals", &error)
        })
    };
    let mut interrupted = listen(SignalKind::interrupt())?;
    let mut terminated = listen(SignalKind::terminate())?;
    let (found, mut follower) = Follower::after_tail(&logs, options.lines);
    printer.print(&found.lines)?;
    printer.report(&found.unread);
    let mut names: BTreeSet<ServiceName> = logs.into_iter().map(|log| log.name).collect();
    let mut accepted = version_of(place);
    let mut looks = tokio::time::interval(LOOK);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
        count = count.wrapping_add(1);
        if count.is_multiple_of(LOOKS_PER_RELOAD) {
            let now = version_of(place);
            if now != accepted && now.is_some() {
                adjust(&mut follower, &mut names, place, &options.select);
            }
            accepted = now;
        }
        print_new(&mut follower, printer)?;
    }
    print_new(&mut follower, printer)?;
    printer.print(&follower.finish_all())?;
    Ok(ExitCode::Done)
}

fn print_new(follower: &mut Follower, printer: &mut Printer) -> Result<(), CliError> {
    loop {
        let lines = follower.read_all_new();
        if lines.is_empty() {
            printer.report(&follower.take_unread());
            return Ok(());
        }
        printer.print(&lines)?;
    }
}

/// Returns what tells one version of the accepted configuration from another.
fn version_of(place: &Place) -> Option<(u64, i64, i64)> {
    let path = place.instance.as_ref()?.accepted_file();
    let found = fs::metadata(Path::new(&path)).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec()))
}

/// Follows the services of another configuration.
fn adjust(
    follower: &mut Follower,
    names: &mut BTreeSet<ServiceName>,
    place: &Place,
    selectors: &[String],
) {
    // Selectors may mean nothing for a while; the services of before are followed until they mean
    // something.
    let logs = LogPlaces::accepted(place).and_then(|places| chosen(&places, selectors).ok());
    let Some(logs) = logs else { return };
    let now: BTreeSet<ServiceName> = logs.iter().map(|log| log.name.clone()).collect();
    for gone in names.difference(&now) {
        follower.remove(gone);
    }
    for log in logs {
        follower.add(log, StartFrom::End);
    }
    *names = now;
}

/// Writes lines to standard output, and once for each log why it cannot be read to standard error.
struct Printer {
    screen: Screen,
    colored: bool,
    json: bool,
    reported: BTreeSet<String>,
}

impl Printer {
    fn new(globals: &Globals) -> Self {
        Self {
            screen: Screen::stdout(),
            colored: globals.is_colored(io::stdout().is_terminal()),
            json: globals.is_json(),
            reported: BTreeSet::new(),
        }
    }

    fn print(&mut self, lines: &[LogLine]) -> Result<(), CliError> {
        let mut bytes = Vec::new();
        for line in lines {
            bytes.clear();
            if self.json {
                append_json_line(line, &mut bytes);
            } else {
                append_text_line(line, self.colored, &mut bytes);
            }
            self.screen.bytes(&bytes)?;
        }
        self.screen.flush()
    }

    fn report(&mut self, unread: &[Unread]) {
        for failure in unread {
            let error =
                CliError::of(ErrorKind::System, failure).with_service(failure.service.as_str());
            if self.reported.insert(error.to_string()) {
                error.print(self.json);
            }
        }
    }
}
