//! `keepd logs -f`: what is added.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use keepd_manager::logs::{Filter, Follower, LogLine, StartFrom};
use keepd_model::{ExitCode, ServiceName};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, ErrorKind};
use crate::log_places::LogPlaces;
use crate::place::Place;

use super::chosen::chosen;
use super::options::LogsOptions;
use super::printer::Printer;

/// From one look at the indexes to the next. Nothing tells a reader without a manager that a file
/// has grown.
const LOOK: Duration = Duration::from_millis(100);

/// Every so many looks it is asked whether another configuration is in force.
const LOOKS_PER_RELOAD: u32 = 10;

/// Logs that are followed.
pub(super) struct Following<'a> {
    place: &'a Place,
    options: &'a LogsOptions,
    filter: Filter,
    names: BTreeSet<ServiceName>,
    follower: Follower,
}

impl<'a> Following<'a> {
    /// Goes on with a follower of these services.
    pub(super) fn new(
        place: &'a Place,
        options: &'a LogsOptions,
        filter: Filter,
        names: BTreeSet<ServiceName>,
        follower: Follower,
    ) -> Self {
        Self { place, options, filter, names, follower }
    }

    /// Prints what is added until a signal ends it, or the time is over.
    ///
    /// # Errors
    /// Signals cannot be waited for, or nothing can be printed.
    pub(super) async fn run(
        mut self,
        until_ns: Option<u64>,
        printer: &mut Printer,
    ) -> Result<ExitCode, CliError> {
        let mut interrupted = listen(SignalKind::interrupt())?;
        let mut terminated = listen(SignalKind::terminate())?;
        let mut accepted = version_of(self.place);
        let mut looks = tokio::time::interval(LOOK);
        let mut count = 0_u32;
        loop {
            let ended = tokio::select! {
                _ = looks.tick() => is_past(until_ns),
                _ = interrupted.recv() => true,
                _ = terminated.recv() => true,
            };
            self.print_new(printer)?;
            if ended {
                let rest = self.follower.finish_all();
                self.print(&rest, printer)?;
                return Ok(ExitCode::Done);
            }
            count = count.wrapping_add(1);
            if count.is_multiple_of(LOOKS_PER_RELOAD) {
                let now = version_of(self.place);
                if now != accepted && now.is_some() {
                    self.adjust();
                }
                accepted = now;
            }
        }
    }

    fn print_new(&mut self, printer: &mut Printer) -> Result<(), CliError> {
        loop {
            let lines = self.follower.read_all_new();
            if lines.is_empty() {
                printer.report(&self.follower.take_unread());
                return Ok(());
            }
            self.print(&lines, printer)?;
        }
    }

    fn print(&self, lines: &[LogLine], printer: &mut Printer) -> Result<(), CliError> {
        for line in lines.iter().filter(|line| self.filter.accepts(line)) {
            printer.line(line)?;
        }
        printer.flush()
    }

    /// Follows the services of another configuration.
    fn adjust(&mut self) {
        // Selectors may mean nothing for a while; the services of before are followed until they
        // mean something.
        let places = LogPlaces::accepted(self.place);
        let logs = places.and_then(|places| chosen(&places, &self.options.select).ok());
        let Some(logs) = logs else { return };
        let now: BTreeSet<ServiceName> = logs.iter().map(|log| log.name.clone()).collect();
        for gone in self.names.difference(&now) {
            self.follower.remove(gone);
        }
        for log in logs {
            self.follower.add(log, StartFrom::End);
        }
        self.names = now;
    }
}

/// Reports whether a wall time in nanoseconds since 1970 is over; none never is.
pub(super) fn is_past(wall_ns: Option<u64>) -> bool {
    wall_ns.is_some_and(|wall_ns| keepd_os::clock::wall_now_ns() >= wall_ns)
}

/// Waits for a signal from now on.
pub(super) fn listen(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind)
        .map_err(|error| CliError::because(ErrorKind::System, "cannot wait for signals", &error))
}

/// Returns what tells one version of the accepted configuration from another.
fn version_of(place: &Place) -> Option<(u64, i64, i64)> {
    let path = place.instance.as_ref()?.accepted_file();
    let found = fs::metadata(Path::new(&path)).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec()))
}
