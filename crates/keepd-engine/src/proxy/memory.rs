//! What is refused while the system gives no memory: whatever would make a table or a value larger.
//! Everything else goes on with what the process kept back: deaths, starts, stops, news, dumps, and
//! what makes something smaller.

use std::time::Duration;

use keepd_model::protocol::{Attributes, Command, Fail, FailKind, Lease, LogTarget};
use keepd_model::{ExpectedEnd, ServiceName};

use super::Proxy;
use super::commands::fail;
use super::packed::{Changes, Slots, packed_bytes};
use super::service::Service;

/// Returns the refusal of what would need memory.
fn out_of_memory(what: impl std::fmt::Display) -> Fail {
    fail(FailKind::Limit, format!("cannot allocate {what}: out of memory"))
}

impl Proxy {
    /// The system refuses memory, or gives it again.
    pub(super) fn on_memory_low(&mut self, is_low: bool) {
        self.is_memory_low = is_low;
    }

    /// Refuses a command that would make something grow while memory is low.
    pub(super) fn check_memory(&self, command: &Command) -> Result<(), Fail> {
        if !self.is_memory_low {
            return Ok(());
        }
        match command {
            Command::ServiceArgs { name, arguments } => {
                self.check_value(name, "args", words_bytes(arguments), |service| {
                    service.arguments.bytes()
                })
            }
            Command::ServiceTags { name, tags } => {
                let old = |service: &Service| service.tags.bytes();
                self.check_value(name, "tags", words_bytes(tags), old)
            }
            Command::ServiceFds { name, slots } => {
                let new = Slots::new(slots).bytes();
                let old = |service: &Service| service.fds.as_ref().map_or(0, Slots::bytes);
                self.check_value(name, "fds", new, old)
            }
            Command::ServiceAutoUp { name, triggers, .. } => {
                let old = |service: &Service| service.auto_up.words.bytes();
                self.check_value(name, "triggers", words_bytes(&triggers.words), old)
            }
            Command::ServiceSet { name, attributes } => {
                let old = |service: &Service| attributes_bytes(&service.attributes);
                self.check_value(name, "attributes", attributes_bytes(attributes), old)
            }
            Command::ServiceEnv { name, environment } => {
                let new = Changes::new(environment).bytes();
                let old = |service: &Service| service.environment.bytes();
                self.check_value(name, "environment", new, old)
            }
            Command::ServiceLog { name, log } => {
                let old = |service: &Service| log_bytes(&service.log);
                self.check_value(name, "log", log_bytes(log), old)
            }
            Command::ServiceNote { name, key, value } => {
                let old = |service: &Service| service.note_bytes(key);
                self.check_value(name, "note", value.len(), old)
            }
            Command::ServiceLease { name, lease, .. } if self.services.contains_key(name) => {
                let old = |service: &Service| {
                    service.lease.as_ref().map_or(0, |granted| lease_bytes(&granted.lease))
                };
                self.check_value(name, "lease", lease_bytes(lease), old)
            }
            Command::HandleOpen { .. }
            | Command::HandleSocket { .. }
            | Command::HandleTake { .. } => Err(out_of_memory("a new file descriptor object")),
            Command::HandlePipe { .. } => {
                Err(out_of_memory("the file descriptor objects of both ends"))
            }
            Command::SocketCreate { .. } => Err(out_of_memory("a control socket")),
            Command::TerminateExec { arguments } if !arguments.is_empty() => {
                Err(out_of_memory("the arguments of the last program"))
            }
            Command::ServiceExec { .. } => Err(out_of_memory("a job")),
            Command::Proto { .. }
            | Command::Echo { .. }
            | Command::StateDump
            | Command::WatchLogs { .. }
            | Command::WatchStarts { .. }
            | Command::EventTimeout { .. }
            | Command::Exit
            | Command::Terminate { .. }
            | Command::TerminateGuard { .. }
            | Command::TerminateExec { .. }
            | Command::Chdir { .. }
            | Command::LogFilter { .. }
            | Command::ServiceAck { .. }
            | Command::ServiceLease { .. }
            | Command::LogDestination { .. }
            | Command::SocketDelete
            | Command::HandleDelete { .. }
            | Command::SignalClear { .. }
            | Command::ServiceStart { .. }
            | Command::ServiceCancel { .. }
            | Command::ServiceStop { .. }
            | Command::ServiceSignal { .. }
            | Command::ServiceDelete { .. } => Ok(()),
        }
    }

    /// Refuses a value of a service that is longer than the one it replaces.
    fn check_value(
        &self,
        name: &ServiceName,
        what: &str,
        new: usize,
        old: impl FnOnce(&Service) -> usize,
    ) -> Result<(), Fail> {
        match self.services.get(name) {
            None => Err(out_of_memory("a new service")),
            Some(service) if new > old(service) => {
                Err(out_of_memory(format_args!("the {what} of service \"{name}\"")))
            }
            Some(_) => Ok(()),
        }
    }
}

fn words_bytes(words: &[Vec<u8>]) -> usize {
    words.iter().map(|word| packed_bytes(word)).sum()
}

/// Returns what attributes take beside their place in the service.
fn attributes_bytes(attributes: &Attributes) -> usize {
    let directory = attributes.directory.as_ref().map_or(0, Vec::len);
    let groups = attributes.groups.as_ref().map_or(0, Vec::len);
    directory + size_of::<u32>() * groups + size_of::<Duration>() * attributes.respawn.len()
}

/// Returns what a lease takes; one that is taken back takes nothing.
fn lease_bytes(lease: &Lease) -> usize {
    match lease.delays.len() {
        0 => 0,
        delays => {
            size_of::<Lease>()
                + size_of::<ExpectedEnd>() * lease.successes.len()
                + size_of::<Duration>() * delays
        }
    }
}

/// Returns what a log target takes beside its place in the service.
fn log_bytes(log: &LogTarget) -> usize {
    match log {
        LogTarget::Null | LogTarget::Inherit => 0,
        LogTarget::File { dir, merge: _ } => dir.len(),
        LogTarget::Append { file } => file.len(),
    }
}
