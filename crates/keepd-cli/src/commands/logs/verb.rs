//! The verb: stored lines, followed lines or bytes.

use keepd_manager::logs::{Run, ServiceLog, Stored};
use keepd_model::protocol::Stream;
use keepd_model::{ExitCode, StderrMode};

use crate::arguments::Globals;
use crate::client::block_on;
use crate::error::CliError;
use crate::log_places::LogPlaces;
use crate::place;

use super::chosen::{chosen, previous};
use super::follow::Following;
use super::options::LogsOptions;
use super::printer::Printer;
use super::raw;

/// Runs the verb.
///
/// # Errors
/// There is no configuration or no such service, or none of the logs can be read.
pub(crate) fn run(globals: &Globals, options: &LogsOptions) -> Result<ExitCode, CliError> {
    let selection = options.selection(globals)?;
    let place = place::find(globals)?;
    let places = LogPlaces::find(globals, &place)?;
    let logs = chosen(&places, &options.select)?;
    let mut printer = Printer::new(globals);
    if options.raw {
        return raw::run(globals, options, &place, &places, logs, &mut printer);
    }
    if selection.filter.stream == Some(Stream::Err) {
        say_merged(&places, &logs, &printer);
    }
    let logs: Vec<(ServiceLog, Run)> = if options.previous {
        previous(&place, logs)?
    } else {
        logs.into_iter().map(|log| (log, Run::All)).collect()
    };
    let until_ns = selection.filter.until_ns;
    let filter = selection.filter.clone();
    let mut stored = Stored::find(&logs, selection);
    printer.explain(stored.notes());
    print(&mut stored, &mut printer)?;
    let unread = stored.take_unread();
    printer.report(&unread);
    if options.follow {
        let names = logs.into_iter().map(|(log, _)| log.name).collect();
        let following = Following::new(&place, options, filter, names, stored.into_follower());
        return block_on(following.run(until_ns, &mut printer));
    }
    Ok(if unread.is_empty() { ExitCode::Done } else { ExitCode::System })
}

fn print(stored: &mut Stored, printer: &mut Printer) -> Result<(), CliError> {
    let mut result = Ok(());
    stored.read(|line| {
        result = printer.line(&line);
        result.is_ok()
    });
    result?;
    printer.flush()
}

/// Says whose standard error cannot be told from standard output.
fn say_merged(places: &LogPlaces, logs: &[ServiceLog], printer: &Printer) {
    for log in logs {
        if is_merged(places, log) {
            printer.say(&format!(
                "standard error of service \"{}\" is in its standard output (log.stderr = \
                 \"merge\"): none of it is printed",
                log.name
            ));
        }
    }
}

/// Reports whether a service has one file for both streams.
pub(super) fn is_merged(places: &LogPlaces, log: &ServiceLog) -> bool {
    let spec = places.plan().services.get(&log.name);
    spec.is_some_and(|spec| spec.log.stderr == StderrMode::Merge)
}
