//! `up -d`: the top process goes to the background with the lock in its hand, and whoever started
//! it waits until the first change is complete.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use keepd_model::{Exit, ExitCode, Pid};
use keepd_os::reap;
use keepd_os::spawn::Session;
use tokio::time::Instant;

use super::{Prepared, spawn_self, system};
use crate::arguments::Globals;
use crate::change;
use crate::client::{Client, block_on};
use crate::commands::warden::{LOCK, SURVIVORS, VERB};
use crate::error::{CliError, ErrorKind};
use crate::place::Place;

/// The number under which the top process finds the lock.
const LOCK_DESCRIPTOR: i32 = 3;
/// The first change of an instance: the start of everything that is enabled.
const BOOT_CHANGE: &str = "1";
/// How long keepd may take until it answers at all.
const START_LIMIT: Duration = Duration::from_secs(10);
/// From one attempt to reach it to the next.
const LOOK: Duration = Duration::from_millis(10);
/// How many lines of keepd's own log are shown when it did not start.
const LOG_LINES: usize = 10;

/// Starts the top process in the background; returns when everything is ready, or is known not to
/// be.
pub(crate) fn detach(globals: &Globals, prepared: &Prepared) -> Result<ExitCode, CliError> {
    let instance = &prepared.options.instance;
    let top = start_top(prepared)?;
    let place = Place::of(instance.clone());
    let client = Client::new(&place);
    block_on(async {
        let asked_at = Instant::now();
        loop {
            if let Some(end) = ended(top) {
                return Err(system(format!("cannot start keepd in the background: {end}"))
                    .with_hint(last_lines(prepared)));
            }
            if tokio::net::UnixStream::connect(&place.socket).await.is_ok() {
                break;
            }
            if asked_at.elapsed() > START_LIMIT {
                return Err(system(
                    "cannot reach keepd in the background: it does not answer".into(),
                )
                .with_hint(last_lines(prepared)));
            }
            tokio::time::sleep(LOOK).await;
        }
        if prepared.has_survivors() {
            // Nothing was started, so there is nothing to wait for.
            return Ok(ExitCode::Done);
        }
        change::finish(&client, globals, BOOT_CHANGE, asked_at).await
    })
}

fn start_top(prepared: &Prepared) -> Result<Pid, CliError> {
    let (null, log) = open_outputs(prepared)
        .map_err(|error| CliError::because(ErrorKind::System, "cannot open the log", error))?;
    let survivors = prepared.has_survivors().then(|| OsString::from(SURVIVORS));
    let number = OsString::from(LOCK_DESCRIPTOR.to_string());
    let arguments = [OsString::from(VERB), OsString::from(LOCK), number].into_iter();
    let arguments = arguments.chain(survivors).chain(prepared.options.to_arguments());
    let lock = [(prepared.lock(), LOCK_DESCRIPTOR)];
    let spawned =
        spawn_self(arguments, [null.as_fd(), log.as_fd(), log.as_fd()], &lock, Session::New)?;
    Ok(spawned.pid())
}

fn open_outputs(prepared: &Prepared) -> io::Result<(File, File)> {
    let null = File::open("/dev/null")?;
    let path = prepared.options.instance.own_log_file();
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    Ok((null, log))
}

/// Returns how the top process ended, if it did.
fn ended(top: Pid) -> Option<Exit> {
    let (pid, exit) = reap::peek().ok()??;
    (pid == top).then_some(exit)
}

/// Returns where keepd's own log is, and its last lines.
fn last_lines(prepared: &Prepared) -> String {
    let path = prepared.options.instance.own_log_file();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
    format!("its own log is \"{}\":\n  {last}", path.display())
}
