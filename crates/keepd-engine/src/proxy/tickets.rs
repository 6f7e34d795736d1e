//! Effects that can fail while somebody waits for the outcome: the command is answered with what
//! the kernel said, and nothing changes before.

use keepd_model::protocol::{Command, Fail, FailKind};
use keepd_model::{HandleName, LogLevel, Pid, ServiceName};

use super::commands::{Asker, fail};
use super::handles::Handle;
use super::{CallFailure, Effect, Output, Performed, Proxy, Ticket};

/// What was asked of the shell, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Undertaking {
    /// `None`: a predecessor wrote it down.
    pub(super) asker: Option<Asker>,
    pub(super) purpose: Purpose,
}

/// What follows from success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// `service.signal`: nothing more.
    Signal { name: ServiceName, pid: Pid, group: bool },
    /// `fd.*`: the handles are there.
    Handles(Vec<(HandleName, Handle)>),
    /// `chdir`: nothing more.
    Chdir { path: Vec<u8> },
    /// `socket.create`: nothing more.
    Listen { path: Vec<u8> },
}

impl Purpose {
    /// Returns how many handles there may be more.
    pub(super) fn handle_count(&self) -> usize {
        match self {
            Self::Handles(made) => made.len(),
            Self::Signal { .. } | Self::Chdir { .. } | Self::Listen { .. } => 0,
        }
    }

    /// Returns the refusal that says what the kernel said.
    fn refusal(&self, failure: &CallFailure) -> Fail {
        let why = match failure.errno {
            Some(errno) => format!("cannot {}: {errno}", failure.call),
            None => failure.call.to_owned(),
        };
        let text = match self {
            Self::Signal { name, pid, group } => {
                let whom = if *group { "process group" } else { "process" };
                format!("cannot signal service \"{name}\", {whom} {pid}: {why}")
            }
            Self::Handles(made) => {
                let names: Vec<String> =
                    made.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                format!("cannot make handle {}: {why}", names.join(" and "))
            }
            Self::Chdir { path } => {
                format!("cannot change the directory to {}: {why}", quoted(path))
            }
            Self::Listen { path } => {
                format!("cannot make a control socket at {}: {why}", quoted(path))
            }
        };
        fail(FailKind::System, text)
    }
}

/// Returns bytes that a user chose as they can stand in one line of text.
fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(bytes).escape_debug())
}

impl Proxy {
    /// Asks the shell for an effect.
    pub(super) fn perform(&mut self, effect: Effect, undertaking: Undertaking) {
        self.tickets_made += 1;
        let ticket = Ticket(self.tickets_made);
        self.tickets.insert(ticket, undertaking);
        self.outputs.push_back(Output::Perform { ticket, effect });
    }

    /// The shell did it, or could not.
    pub(super) fn on_performed(&mut self, ticket: Ticket, outcome: Result<Performed, CallFailure>) {
        let Some(Undertaking { asker, purpose }) = self.tickets.remove(&ticket) else {
            return;
        };
        let performed = match outcome {
            Ok(performed) => performed,
            Err(failure) => {
                let refusal = purpose.refusal(&failure);
                match asker {
                    Some(asker) => self.refuse(asker, refusal),
                    None => self.log(LogLevel::Error, refusal.text),
                }
                return;
            }
        };
        let Some(asker) = asker else {
            if let Purpose::Chdir { path } = purpose {
                self.note_directory(path);
            }
            return;
        };
        match purpose {
            Purpose::Signal { .. } | Purpose::Listen { .. } => self.accept(asker),
            Purpose::Chdir { path } => {
                self.record(|| Command::Chdir { path: path.clone() }.into());
                self.note_directory(path);
                self.accept(asker);
            }
            Purpose::Handles(mut made) => {
                if let (Performed::Taken(kind), [(_, handle)]) = (performed, made.as_mut_slice()) {
                    handle.kind = kind;
                }
                self.install_handles(asker, made);
            }
        }
    }
}
