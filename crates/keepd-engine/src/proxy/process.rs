//! What the proxy's own process is told: its end, its directory, its log and its control socket.

use keepd_model::protocol::{Event, Fail, FailKind, FilterChange, Message};
use keepd_model::{HandleName, LogLevel};

use super::commands::{Asker, fail};
use super::handles::handle_refusal;
use super::tickets::{Purpose, Undertaking};
use super::{Effect, Output, Proxy};

/// The longest arguments of `terminate.exec_args`, joined by tabs, in bytes.
pub(super) const EXIT_EXEC_BYTES_MAX: usize = 255;
/// The longest path of a directory that a successor can be told (PATH_MAX without the zero byte).
const DIRECTORY_BYTES_MAX: usize = 4095;
/// The handle whose descriptor has the log until `log.dest` names another one.
const LOG_HANDLE: &str = "stderr";

/// Returns the name of the handle that has the log at the start.
pub(super) fn initial_log_handle() -> HandleName {
    HandleName::new(LOG_HANDLE).expect("the name of standard error is valid")
}

/// Returns the bytes of arguments that are joined by tabs.
pub(super) fn joined_length(arguments: &[Vec<u8>]) -> usize {
    let separators = arguments.len().saturating_sub(1);
    arguments.iter().map(Vec::len).sum::<usize>() + separators
}

/// Returns where a path leads from where another one led.
pub(super) fn joined_path(mut before: Vec<u8>, path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let is_step = |step: &&[u8]| !step.is_empty() && *step != b".";
    for step in path.split(|byte| *byte == b'/').filter(is_step) {
        if !before.ends_with(b"/") {
            before.push(b'/');
        }
        before.extend_from_slice(step);
    }
    before
}

impl Proxy {
    /// `terminate`. With a guard its code is needed, and something to become: the guard stands for
    /// a process that must not end, such as PID 1.
    pub(super) fn terminate(
        &mut self,
        asker: Asker,
        code: u8,
        given: Option<i64>,
    ) -> Result<(), Fail> {
        if let Some(guard) = self.guard {
            let why = match given {
                None => Some("guard code required"),
                Some(given) if given != guard => Some("incorrect guard code"),
                Some(_) if self.exit_exec.is_empty() => Some("cannot exit without exit-exec"),
                Some(_) => None,
            };
            if let Some(why) = why {
                return Err(fail(FailKind::Malformed, format!("cannot terminate: {why}")));
            }
        }
        self.accept(asker);
        self.outputs.push_back(Output::Terminate { code });
        self.is_terminated = true;
        Ok(())
    }

    /// `terminate.guard`.
    pub(super) fn set_guard(&mut self, asker: Asker, set: bool, code: i64) -> Result<(), Fail> {
        let (verb, why) = match (set, self.guard) {
            (true, _) if code == 0 => ("set", Some("the code is 0")),
            (true, Some(_)) => ("set", Some("it is already set")),
            (true, None) => ("set", None),
            (false, None) => ("clear", Some("it is not set")),
            (false, Some(guard)) if guard != code => ("clear", Some("incorrect guard code")),
            (false, Some(_)) => ("clear", None),
        };
        if let Some(why) = why {
            return Err(fail(FailKind::Malformed, format!("cannot {verb} the guard: {why}")));
        }
        self.guard = set.then_some(code);
        self.accept(asker);
        self.outputs.push_back(Output::Guarded { on: set });
        Ok(())
    }

    /// `terminate.exec_args`.
    pub(super) fn set_exit_exec(
        &mut self,
        asker: Asker,
        arguments: Vec<Vec<u8>>,
    ) -> Result<(), Fail> {
        if joined_length(&arguments) > EXIT_EXEC_BYTES_MAX {
            let text = format!(
                "cannot set the exit-exec arguments: they are longer than {EXIT_EXEC_BYTES_MAX} \
                 bytes"
            );
            return Err(fail(FailKind::Limit, text));
        }
        self.exit_exec.clone_from(&arguments);
        self.accept(asker);
        self.outputs.push_back(Output::ExitExec { arguments });
        Ok(())
    }

    /// `chdir`.
    pub(super) fn change_directory(&mut self, asker: Asker, path: Vec<u8>) -> Result<(), Fail> {
        let length = self.directory.as_ref().map_or(0, Vec::len) + 1 + path.len();
        if self.settings.records && !path.starts_with(b"/") && length > DIRECTORY_BYTES_MAX {
            let text = format!(
                "cannot change the directory: the path from that of the start has more than \
                 {DIRECTORY_BYTES_MAX} bytes"
            );
            return Err(fail(FailKind::Limit, text));
        }
        let purpose = Purpose::Chdir { path: path.clone() };
        self.perform(Effect::Chdir { path }, Undertaking { asker: Some(asker), purpose });
        Ok(())
    }

    /// `socket.create`.
    pub(super) fn create_socket(&mut self, asker: Asker, path: Vec<u8>) {
        let purpose = Purpose::Listen { path: path.clone() };
        self.perform(Effect::Listen { path }, Undertaking { asker: Some(asker), purpose });
    }

    /// `socket.delete`.
    pub(super) fn delete_socket(&mut self, asker: Asker) {
        self.accept(asker);
        self.outputs.push_back(Output::StopListening);
    }

    /// `log.filter`: whoever asked is told what holds.
    pub(super) fn change_log_filter(&mut self, asker: Asker, change: FilterChange) {
        let level = self.set_log_filter(change);
        self.accept(asker);
        self.send(asker.connection(), Message::Event(Event::LogFilter(level)));
    }

    /// Changes the filter of the log, and tells the shell. Returns what holds.
    pub(super) fn set_log_filter(&mut self, change: FilterChange) -> LogLevel {
        let level = match change {
            FilterChange::Show => self.log_filter,
            FilterChange::Less => self.log_filter.up(),
            FilterChange::More => self.log_filter.down(),
            FilterChange::To(level) => level,
        };
        if level != self.log_filter {
            self.log_filter = level;
            self.outputs.push_back(Output::LogFilter { level });
        }
        level
    }

    /// `log.dest`: the log follows the name. Where there is no such handle yet, messages wait.
    pub(super) fn set_log_handle(&mut self, asker: Asker, name: &HandleName) -> Result<(), Fail> {
        if self.handles.get(name).is_some_and(|handle| handle.descriptor.is_none()) {
            let why = "it has no descriptor of its own";
            return Err(handle_refusal("log to", name, FailKind::Malformed, why));
        }
        self.log_handle = Some(name.clone());
        self.accept(asker);
        self.follow_log_handle(name);
        Ok(())
    }

    /// Tells the shell where the log goes, if this handle has it.
    pub(super) fn follow_log_handle(&mut self, name: &HandleName) {
        if self.log_handle.as_ref() == Some(name) {
            let descriptor = self.handles.get(name).and_then(|handle| handle.descriptor);
            self.outputs.push_back(Output::LogTo { descriptor });
        }
    }

    /// Writes a message to the proxy's own log.
    pub(super) fn log(&mut self, level: LogLevel, text: String) {
        self.outputs.push_back(Output::Log { level, text });
    }
}
