//! How the proxy ends: the guard, the program that it becomes, and its last words.

use std::borrow::Cow;

use keepd_engine::proxy::Proxy;
use keepd_model::{LogLevel, Signal};
use keepd_os::clock;
use keepd_os::exec::{self, Program};
use keepd_os::fatal::{self, Rescue};
use keepd_os::process::DescriptorLimit;

use crate::log::Log;

/// The exit code of daemonproxy after what is asked to be shown.
pub(crate) const SHOWN: u8 = 1;
/// A mistake on the command line.
pub(crate) const USAGE: u8 = 2;
/// It cannot start.
pub(crate) const START: u8 = 3;
/// A handle that is always there cannot be made.
pub(crate) const HANDLES: u8 = 4;
/// A fatal signal.
pub(crate) const FATAL_SIGNAL: u8 = 4;
/// Signals cannot be set up.
pub(crate) const SIGNALS: u8 = 5;
/// The ledger, or what the warden gave, cannot be used: nothing was touched.
pub(crate) const LEDGER: u8 = 6;

/// What the end of this process depends on.
#[derive(Default)]
pub(crate) struct Exit {
    /// No fatal condition ends it.
    pub(crate) is_guarded: bool,
    /// What it becomes; empty: it just ends.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// A warden starts another one in its place, and becomes what it would become.
    pub(crate) has_warden: bool,
    /// What it has raised and gives back to what it becomes.
    pub(crate) descriptor_limit: Option<DescriptorLimit>,
}

/// The proxy ends with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended(pub(crate) u8);

impl Exit {
    /// A fatal condition: becomes the other program if there is one; else ends, unless guarded.
    ///
    /// # Errors
    ///
    /// Returns the code to end with.
    pub(crate) fn fatal(
        &self,
        log: &mut Log,
        code: u8,
        message: &str,
        machine: Option<&Proxy>,
    ) -> Result<(), Ended> {
        self.become_other(log, code, message, machine);
        // Once it runs, a successor is better than whatever is left of this one.
        let is_replaced = self.has_warden && machine.is_some();
        if self.is_guarded && !is_replaced {
            let text = format!("{message} (guarded: attempting to continue)");
            say_now(log, LogLevel::Fatal, text.trim_start());
            return Ok(());
        }
        if !message.is_empty() {
            say_now(log, LogLevel::Fatal, message);
        }
        if !is_replaced {
            warn_of(log, machine);
        }
        Err(Ended(code))
    }

    /// The end that was asked for, and permitted.
    pub(crate) fn end(&self, log: &mut Log, code: u8, machine: &Proxy) -> Ended {
        let machine = Some(machine);
        if self.arguments.is_empty() {
            log.say(LogLevel::Info, format_args!("exiting with code {code}"));
        } else {
            self.become_other(log, code, "terminated normally", machine);
            log.say(LogLevel::Fatal, "terminated normally");
        }
        warn_of(log, machine);
        log.flush(None, clock::monotonic_now());
        Ended(code)
    }

    /// Becomes the other program: the same process id, so running services are its children.
    /// Returns only if there is none, or it cannot be executed.
    fn become_other(&self, log: &mut Log, code: u8, message: &str, machine: Option<&Proxy>) {
        let Some(program) = self.arguments.first().filter(|_| !self.has_warden) else {
            return;
        };
        let program = String::from_utf8_lossy(program).into_owned();
        log.say(LogLevel::Warning, format_args!("becoming \"{program}\""));
        warn_of(log, machine);
        log.flush(None, clock::monotonic_now());
        let environment = environment(code, message.as_bytes());
        let environment: Vec<Cow<'_, [u8]>> =
            environment.iter().map(|entry| Cow::Borrowed(entry.as_slice())).collect();
        let error = exec::exec(&Program {
            file: None,
            arguments: &self.arguments,
            environment: &environment,
            descriptor_limit: self.descriptor_limit,
        });
        log.say(LogLevel::Error, format_args!("cannot execute \"{program}\": {error}"));
    }

    /// Prepares what a real fault or a panic becomes, when nothing can be prepared any more.
    pub(crate) fn prepare_rescue(&self, log: &mut Log) {
        if self.arguments.is_empty() || self.has_warden {
            fatal::set_rescue(None);
            return;
        }
        let environment = environment_of_rescue();
        let environment: Vec<Cow<'_, [u8]>> =
            environment.iter().map(|entry| Cow::Borrowed(entry.as_slice())).collect();
        let program = Program {
            file: None,
            arguments: &self.arguments,
            environment: &environment,
            descriptor_limit: self.descriptor_limit,
        };
        match Rescue::new(&program, REASON, fatal_text) {
            Ok(rescue) => fatal::set_rescue(Some(rescue)),
            Err(failed) => {
                log.say(LogLevel::Error, format_args!("cannot prepare the rescue: {failed}"));
            }
        }
    }
}

/// The variable in which a program is told why it was started.
pub(crate) const REASON: &str = "DAEMONPROXY_ERROR";

/// Returns the environment of what a fault starts, without the reason.
pub(crate) fn environment_of_rescue() -> Vec<Vec<u8>> {
    let mut environment = environment(FATAL_SIGNAL, b"");
    environment.retain(|entry| !entry.starts_with(b"DAEMONPROXY_ERROR="));
    environment
}

/// Returns what is said of a fatal signal.
pub(crate) fn fatal_text(signal: Signal) -> String {
    format!("caught fatal signal {signal}")
}

/// Returns our environment with the two variables of exit-exec.
pub(crate) fn environment(code: u8, message: &[u8]) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    const OWN: [&[u8]; 2] = [b"DAEMONPROXY_EXITCODE", b"DAEMONPROXY_ERROR"];
    let inherited = std::env::vars_os().filter_map(|(key, value)| {
        let key = key.into_vec();
        (!OWN.contains(&key.as_slice()))
            .then(|| [key.as_slice(), b"=", value.into_vec().as_slice()].concat())
    });
    let mut environment: Vec<Vec<u8>> = inherited.collect();
    environment.push(format!("DAEMONPROXY_EXITCODE={code}").into_bytes());
    let message: Vec<u8> = message.iter().copied().filter(|byte| *byte != 0).collect();
    environment.push([b"DAEMONPROXY_ERROR=".as_slice(), &message].concat());
    environment
}

/// Names the processes that will outlive us and that somebody has to look after: not keepd's own,
/// which end with the instance.
fn warn_of(log: &mut Log, machine: Option<&Proxy>) {
    let services = machine.into_iter().flat_map(Proxy::services);
    for service in services.filter(|service| !service.name.is_internal()) {
        if let Some(pid) = service.pid {
            // There may be more of them than the buffer holds.
            let name = service.name;
            say_now(
                log,
                LogLevel::Warning,
                &format!("service \"{name}\" is still running as {pid}"),
            );
        }
    }
}

fn say_now(log: &mut Log, level: LogLevel, text: &str) {
    log.say(level, text);
    log.flush(None, clock::monotonic_now());
}
