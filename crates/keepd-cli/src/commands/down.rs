//! `keepd down`: the end of a project.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::Args;
use keepd_manager::Instance;
use keepd_manager::api::types::{ActionOptions, ActionWord, VersionObject};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::change;
use crate::client::{Client, block_on};
use crate::error::{CliError, ErrorKind};
use crate::place::{self, Place};
use crate::top::{self, HeldLock};

/// How long to wait for processes that were killed.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// From one look at the lock of the instance to the next.
const LOOK: Duration = Duration::from_millis(20);

/// Stop every service of this project, and keepd itself
///
/// Services are stopped in the reverse order of their dependencies, each with its own stop signal
/// and timeout. The system and the user instance are ended by shutdown.
#[derive(Args, Debug)]
pub(crate) struct DownOptions {
    /// End processes of this project that a lost keepd left behind
    ///
    /// They are killed. A keepd whose manager does not start counts as lost.
    #[arg(long)]
    pub(crate) leftovers: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no project, keepd does not answer, `--timeout` is over, or a signal came.
pub(crate) fn run(globals: &Globals, options: &DownOptions) -> Result<ExitCode, CliError> {
    let instance = place::find(globals)?.instance;
    if options.leftovers {
        let instance = instance.ok_or_else(|| {
            CliError::new(ErrorKind::Usage, "cannot tell which project the socket belongs to")
                .with_hint("use -c FILE")
        })?;
        return end_leftovers(globals, &instance);
    }
    if let Some(standing) = instance.as_ref().filter(|found| found.standing().is_some()) {
        let message = format!("cannot take {} down: down ends projects", standing.shown());
        return Err(CliError::new(ErrorKind::Usage, message).with_hint("keepd shutdown"));
    }
    end(globals, instance)
}

/// Stops every service of an instance and keepd itself, and waits until nothing is left.
///
/// # Errors
/// keepd does not answer, `--timeout` is over, or a signal came.
pub(super) fn end(globals: &Globals, instance: Option<Instance>) -> Result<ExitCode, CliError> {
    // Taken now, because the file goes before the process that has the lock.
    let held = instance.as_ref().and_then(HeldLock::of);
    if let Some(instance) = instance.as_ref().filter(|_| held.is_none())
        && UnixStream::connect(instance.control_socket()).is_err()
    {
        if !globals.quiet && !globals.is_json() {
            let socket = instance.control_socket();
            println!(
                "Nothing runs for {}: nothing listens at \"{}\".",
                instance.shown(),
                socket.display()
            );
        }
        return Ok(ExitCode::Done);
    }
    let code = match change::perform(globals, ActionWord::Shutdown, &[], ActionOptions::default()) {
        // The manager may be gone before its last answer is read: that is what was asked for. Where
        // its proxy is still there it was not heard at all, and nothing ends.
        Err(error) if error.kind() == ErrorKind::NoManager => match &instance {
            Some(instance) if UnixStream::connect(instance.proxy_socket()).is_ok() => {
                return Err(error);
            }
            Some(_) | None => ExitCode::Done,
        },
        result => result?,
    };
    match (instance.filter(|_| !globals.no_wait), held) {
        (Some(_), Some(held)) => wait_for_end(globals, &held)?,
        // Its top process was lost, and the manager may have started another one meanwhile.
        (Some(instance), None) => match HeldLock::of(&instance) {
            Some(held) => wait_for_end(globals, &held)?,
            // Nobody else is left to clean up.
            None => {
                let _lock = top::hold(&instance)?;
                top::end_leftovers(&instance, None, KILL_PATIENCE)?;
                forget(&instance);
            }
        },
        (None, _) => {}
    }
    Ok(code)
}

/// Removes what lives no longer than the instance. What stays is found and replaced by the next
/// start.
fn forget(instance: &Instance) {
    let _ = std::fs::remove_dir_all(&instance.run_dir);
    instance.remove_signpost(&place::surroundings());
}

/// Waits until the top process has left nothing behind, and is gone.
fn wait_for_end(globals: &Globals, held: &HeldLock) -> Result<(), CliError> {
    block_on(async {
        let ended = async {
            while held.is_held() {
                tokio::time::sleep(LOOK).await;
            }
        };
        match globals.timeout {
            None => ended.await,
            Some(limit) => tokio::time::timeout(limit, ended).await.map_err(|_| {
                let limit = keepd_plan::format_duration(limit);
                let message = format!("cannot see the end of keepd within {limit}: it goes on");
                CliError::new(ErrorKind::Timeout, message)
            })?,
        }
        Ok(())
    })
}

/// Ends what runs without a manager, because that does not start: nobody is there who could stop
/// one service after the other.
fn end_unmanaged(
    globals: &Globals,
    instance: &Instance,
    held: &HeldLock,
) -> Result<ExitCode, CliError> {
    let client = Client::new(&Place::of(instance.clone()));
    // It tries for a while: a manager may be on its way.
    match block_on(client.get::<VersionObject>("/v1/version")) {
        Err(error) if error.kind() == ErrorKind::NoManager => {}
        Err(error) => return Err(error),
        Ok(_) => {
            let name = &instance.name;
            let message = format!("cannot end leftovers of project \"{name}\": keepd runs it");
            return Err(CliError::new(ErrorKind::Usage, message).with_hint("keepd down"));
        }
    }
    // The end of the proxy in order is the end of everything that it left.
    let asked = UnixStream::connect(instance.proxy_socket())
        .and_then(|mut proxy| proxy.write_all(b"terminate\t0\n"));
    asked.map_err(|error| {
        let message = format!("cannot end {}: its proxy cannot be reached", instance.shown());
        CliError::because(ErrorKind::System, message, error)
    })?;
    wait_for_end(globals, held)?;
    if !globals.quiet {
        println!("Everything of project \"{}\" is killed.", instance.name);
    }
    Ok(ExitCode::Done)
}

fn end_leftovers(globals: &Globals, instance: &Instance) -> Result<ExitCode, CliError> {
    let name = &instance.name;
    if let Some(held) = HeldLock::of(instance) {
        return end_unmanaged(globals, instance, &held);
    }
    let _lock = top::hold(instance)?;
    let found = top::find_leftovers(instance, None)?;
    let left = top::end_leftovers(instance, None, KILL_PATIENCE)?;
    for process in &found {
        let gone = left.iter().all(|still| still.pid != process.pid);
        let word = if gone { "is killed" } else { "cannot be killed" };
        println!("Process {} ({}) {word}.", process.pid, process.name);
    }
    if found.is_empty() && !globals.quiet {
        println!("Nothing is left of project \"{name}\".");
    }
    forget(instance);
    Ok(if left.is_empty() { ExitCode::Done } else { ExitCode::No })
}
