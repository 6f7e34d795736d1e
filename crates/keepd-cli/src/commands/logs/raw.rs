//! `keepd logs --raw`: bytes of one service as it wrote them.

use std::time::Duration;

use keepd_manager::logs::{Note, RawReader, Run, ServiceLog};
use keepd_model::ExitCode;
use keepd_model::protocol::Stream;
use tokio::signal::unix::SignalKind;

use crate::arguments::Globals;
use crate::client::block_on;
use crate::error::{CliError, ErrorKind};
use crate::log_places::LogPlaces;
use crate::place::Place;

use super::chosen::previous;
use super::follow::{is_past, listen};
use super::options::LogsOptions;
use super::printer::Printer;
use super::verb::is_merged;

/// How much is read at once.
const BLOCK_BYTES: usize = 128 * 1024;

/// From one look at the file to the next while following.
const LOOK: Duration = Duration::from_millis(100);

/// Prints the bytes of one service.
///
/// # Errors
/// It is not one service and one file, or the files cannot be read.
pub(super) fn run(
    globals: &Globals,
    options: &LogsOptions,
    place: &Place,
    places: &LogPlaces,
    logs: Vec<ServiceLog>,
    printer: &mut Printer,
) -> Result<ExitCode, CliError> {
    if globals.is_json() {
        let message = "cannot use --raw together with --output json";
        return Err(CliError::new(ErrorKind::Usage, message)
            .with_hint("without --raw, bytes that are not UTF-8 are in \"message_base64\""));
    }
    let log = only(logs)?;
    let stream = stream(options, places, &log)?;
    let (since_ns, until_ns) = options.range(globals)?;
    let (log, run) = match options.previous {
        true => previous(place, vec![log])?.remove(0),
        false => (log, Run::All),
    };
    let cannot = |unread| CliError::of(ErrorKind::System, &unread);
    let mut reader = RawReader::find(&log, stream, run, since_ns, until_ns).map_err(cannot)?;
    if reader.has_no_such_run() {
        printer.explain(&[Note::NoSuchRun(log)]);
    }
    print(&mut reader, printer)?;
    if options.follow {
        return block_on(follow(reader, until_ns, printer));
    }
    Ok(ExitCode::Done)
}

/// Returns the one log that is meant.
fn only(mut logs: Vec<ServiceLog>) -> Result<ServiceLog, CliError> {
    match (logs.pop(), logs.len()) {
        (Some(log), 0) => Ok(log),
        (Some(log), more) => {
            let message = format!("cannot print bytes as written of {} services at once", more + 1);
            Err(CliError::new(ErrorKind::Usage, message)
                .with_hint(format!("name one of them: keepd logs --raw {}", log.name)))
        }
        (None, _) => {
            let message = "cannot print bytes as written: no service that is meant has a log";
            Err(CliError::new(ErrorKind::Usage, message).with_hint("name one service"))
        }
    }
}

/// Returns the stream that is meant: standard output unless it is said.
fn stream(options: &LogsOptions, places: &LogPlaces, log: &ServiceLog) -> Result<Stream, CliError> {
    let merged = is_merged(places, log);
    let name = log.name.as_str();
    match (options.stream(), options.out && options.err) {
        (Some(Stream::Err), _) if merged => {
            let message = format!(
                "cannot print standard error of service \"{name}\" alone: it is in its standard \
                 output (log.stderr = \"merge\")"
            );
            Err(CliError::new(ErrorKind::Usage, message)
                .with_service(name)
                .with_hint("leave --err out"))
        }
        (None, true) if !merged => {
            let message =
                format!("cannot print both streams of service \"{name}\" as they were written");
            Err(CliError::new(ErrorKind::Usage, message)
                .with_service(name)
                .with_hint("choose --out or --err; log.stderr = \"merge\" keeps them in one file"))
        }
        (stream, _) => Ok(stream.unwrap_or(Stream::Out)),
    }
}

fn print(reader: &mut RawReader, printer: &mut Printer) -> Result<(), CliError> {
    let mut buffer = vec![0; BLOCK_BYTES];
    loop {
        let count = reader.read(&mut buffer);
        match count.map_err(|unread| CliError::of(ErrorKind::System, &unread))? {
            0 => return printer.flush(),
            count => printer.bytes(&buffer[..count])?,
        }
    }
}

async fn follow(
    mut reader: RawReader,
    until_ns: Option<u64>,
    printer: &mut Printer,
) -> Result<ExitCode, CliError> {
    let mut interrupted = listen(SignalKind::interrupt())?;
    let mut terminated = listen(SignalKind::terminate())?;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        let ended = tokio::select! {
            _ = looks.tick() => is_past(until_ns),
            _ = interrupted.recv() => true,
            _ = terminated.recv() => true,
        };
        reader.extend().map_err(|unread| CliError::of(ErrorKind::System, &unread))?;
        print(&mut reader, printer)?;
        if ended {
            return Ok(ExitCode::Done);
        }
    }
}
