//! What comes back from the core: answers, news, and the wording of refusals.

use std::sync::Arc;
use std::time::Duration;

use keepd_engine::proxy::{ConnectionId, Proxy, ServiceDetails};
use keepd_model::protocol::{
    Attributes, Command, Event, Place, Reply, Request, RequestId, RunEnd, RunReport, RunState,
    SessionPlace,
};
use keepd_model::{Instant, LogLevel, ServiceName};

use crate::decode::Fields;
use crate::encode;
use crate::front::{FRONT, Front, Output};

/// How many bytes of a command an error line quotes.
const QUOTED_BYTES_MAX: usize = 30;
/// How many bytes of a command the log quotes.
const LOGGED_BYTES_MAX: usize = 90;
/// What every service has that daemonproxy's language made: umask(2) 077.
const UMASK: u32 = 0o077;
/// How soon it is tried again to make a process, if that failed.
const RETRY: Duration = Duration::from_secs(3);

/// What is to be done when the core has accepted a request.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing: success is silent, or comes as an event.
    Nothing,
    /// The service is made: go on with this setter.
    Set(Command),
    /// The service is made, and the command is refused all the same.
    Refuse(String),
    /// The line of the command is the news: tell it to everybody.
    TellLine,
    /// Name the handles of the list that are not there, then tell the line.
    TellLineOfFds,
    /// Say it if there is no handle for the log.
    WarnOfLogHandle,
}

/// Returns what makes a service of keepd's one of daemonproxy's.
pub(crate) fn attributes() -> Attributes {
    Attributes {
        umask: UMASK,
        place: Place::None,
        session: SessionPlace::Inherit,
        marks: false,
        retry: Some(RETRY),
        ..Attributes::default()
    }
}

impl Front {
    /// Makes a service with what daemonproxy's services have, then goes on.
    pub(crate) fn make_service(
        &mut self,
        core: &Proxy,
        id: ConnectionId,
        name: &ServiceName,
        next: Next,
    ) {
        if core.service(name.as_str()).is_some() {
            self.go_on(core, id, next);
            return;
        }
        if let Err(text) = self.resources.new_service(core) {
            self.refuse(id, &text);
            return;
        }
        let attributes = Arc::clone(&self.attributes);
        self.ask(id, Command::ServiceSet { name: name.clone(), attributes }, next);
    }

    /// Asks for a setter whose service is there. What `service.auto_up` comes to is known to the
    /// core alone, and may come after a `start`.
    pub(crate) fn set(&mut self, id: ConnectionId, command: Command) {
        if let Command::ServiceAutoUp { .. } = command {
            self.ask_for_news(id, command);
        } else if let Command::ServiceFds { .. } = command {
            self.ask(id, command, Next::TellLineOfFds);
        } else {
            self.ask(id, command, Next::TellLine);
        }
    }

    /// Asks for something that is told to everybody by an event.
    ///
    /// The core does not tell it to whoever sent the command with a number. So it is asked for
    /// without one, and a numbered command behind it says when everything has come.
    pub(crate) fn ask_for_news(&mut self, id: ConnectionId, command: Command) {
        self.outputs.push_back(Output::Ask(Request::Unnumbered(command)));
        self.ask(id, Command::Echo { text: Vec::new() }, Next::Nothing);
    }

    /// The core answered.
    pub(crate) fn on_reply(&mut self, core: &Proxy, id: RequestId, reply: &Reply) {
        let Some(pending) = self.take_pending(id) else {
            return;
        };
        match reply {
            Reply::Ok | Reply::Exec { .. } => self.go_on(core, pending.connection, pending.next),
            Reply::Fail(fail) if pending.connection == FRONT => {
                let text = format!("starts are not told: {}", fail.text);
                self.log(LogLevel::Error, text);
            }
            Reply::Fail(fail) => self.refuse(pending.connection, &fail.text),
        }
    }

    fn go_on(&mut self, core: &Proxy, id: ConnectionId, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Set(command) => self.set(id, command),
            Next::Refuse(text) => self.refuse(id, &text),
            Next::TellLine => self.tell_line(),
            Next::TellLineOfFds => {
                self.warn_of_fds(core, id);
                self.tell_line();
            }
            Next::WarnOfLogHandle => self.warn_of_log_handle(core, id),
        }
    }

    /// Tells everybody the line of a setter of a list, as it came. Only an unset list is written
    /// with a tab at the end, whether it came so or not.
    fn tell_line(&mut self) {
        let fields = Fields::of(&self.line).take(3).count();
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.line);
        if fields < 3 {
            self.scratch.push(b'\t');
        }
        self.scratch.push(b'\n');
        self.tell_scratch();
    }

    fn tell_scratch(&mut self) {
        if !self.scratch.is_empty() {
            for (id, connection) in &mut self.clients {
                if !connection.is_awaiting()
                    && connection.tell(&self.scratch)
                    && !self.crowded.contains(id)
                {
                    self.crowded.push_back(*id);
                }
            }
        }
    }

    /// A service is up: those of its own connections that waited for that hear of it.
    fn end_waiting(&mut self, name: &ServiceName) {
        for connection in self.clients.values_mut() {
            connection.end_waiting(name);
        }
    }

    /// The core told news.
    pub(crate) fn on_event(&mut self, now: Instant, core: &Proxy, event: &Event) {
        if let Event::Run(report) = event {
            if is_tried_again(core, report) {
                return;
            }
            if report.state == RunState::Forked {
                self.end_waiting(&report.name);
            }
        }
        self.scratch.clear();
        let description_bytes_max = self.resources.description_bytes_max();
        encode::write_event(now, event, description_bytes_max, &mut self.scratch);
        if matches!(event, Event::LogFilter(_)) {
            if let Some(connection) = self.clients.get_mut(&self.asker) {
                connection.reply(&self.scratch);
            }
        } else {
            self.tell_scratch();
        }
    }

    /// Names to the asker each handle of `service.fds` that is not there, once.
    fn warn_of_fds(&mut self, core: &Proxy, id: ConnectionId) {
        let Some(connection) = self.clients.get_mut(&id) else {
            return;
        };
        let fields = Fields::of(&self.line).skip(2);
        for (position, field) in fields.clone().enumerate() {
            let is_name = !matches!(field, b"" | b"-");
            let is_first = fields.clone().take(position).all(|earlier| earlier != field);
            if is_name && is_first && !is_there(core, field) {
                self.scratch.clear();
                self.scratch.extend_from_slice(b"warning: fd \"");
                self.scratch.extend_from_slice(field);
                self.scratch.extend_from_slice(b"\" does not exist\n");
                connection.reply(&self.scratch);
            }
        }
    }

    /// Says to the asker of `log.dest` that its handle is not there.
    fn warn_of_log_handle(&mut self, core: &Proxy, id: ConnectionId) {
        let handle = Fields::of(&self.line).nth(2).unwrap_or_default();
        if is_there(core, handle) {
            return;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(b"warning\tfd \"");
        self.scratch.extend_from_slice(handle);
        self.scratch.extend_from_slice(b"\" does not exist, messages wait for it\n");
        if let Some(connection) = self.clients.get_mut(&id) {
            connection.reply(&self.scratch);
        }
    }

    /// Refuses the last command: `error⇥TEXT, for command "PREFIX"`.
    pub(crate) fn refuse(&mut self, id: ConnectionId, text: &str) {
        self.begin_error(text);
        self.scratch.extend_from_slice(b", for command \"");
        self.scratch.extend_from_slice(start_of(&self.line, QUOTED_BYTES_MAX));
        if self.line.len() >= QUOTED_BYTES_MAX {
            self.scratch.extend_from_slice(b"...");
        }
        self.scratch.push(b'"');
        self.end_error(id);
        let quoted = loggable(start_of(&self.line, LOGGED_BYTES_MAX));
        let dots = if self.line.len() > LOGGED_BYTES_MAX { "..." } else { "" };
        self.log(LogLevel::Error, format!("the command \"{quoted}{dots}\" is refused"));
        self.log(LogLevel::Error, loggable(text.as_bytes()));
    }

    /// Refuses a line whose first word is no command; it is told in full.
    pub(crate) fn refuse_unknown(&mut self, id: ConnectionId) {
        self.begin_error("unknown command: ");
        let name = Fields::of(&self.line).next().unwrap_or_default();
        self.scratch.extend_from_slice(name);
        let text = format!("unknown command {}", loggable(name));
        self.end_error(id);
        self.log(LogLevel::Error, text);
    }

    /// Refuses a line beyond the limit.
    pub(crate) fn refuse_long_line(&mut self, id: ConnectionId) {
        self.begin_error("line too long");
        self.end_error(id);
        let start = loggable(&self.line);
        self.log(LogLevel::Error, format!("command exceeds buffer size: \"{start}...\""));
    }

    fn begin_error(&mut self, text: &str) {
        self.scratch.clear();
        self.scratch.extend_from_slice(b"error\t");
        // A line feed would make a second line of it.
        self.scratch.extend(text.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
    }

    fn end_error(&mut self, id: ConnectionId) {
        self.scratch.push(b'\n');
        if let Some(connection) = self.clients.get_mut(&id) {
            connection.reply(&self.scratch);
        }
    }
}

/// Reports whether this is the end of a run that never had a process, and the next one is due: to a
/// plain client such a start has only got another time.
fn is_tried_again(core: &Proxy, report: &RunReport) -> bool {
    let never_was = match report.ended {
        Some(RunEnd::Failed(_) | RunEnd::Cancelled) => {
            report.state == RunState::Down && report.pid.is_none()
        }
        Some(RunEnd::Exit(_)) | None => false,
    };
    let is_down = |service: ServiceDetails<'_>| service.report().state == RunState::Down;
    never_was && !core.service(report.name.as_str()).is_some_and(is_down)
}

fn is_there(core: &Proxy, handle: &[u8]) -> bool {
    std::str::from_utf8(handle).is_ok_and(|name| core.handle(name).is_some())
}

fn start_of(line: &[u8], bytes_max: usize) -> &[u8] {
    &line[..line.len().min(bytes_max)]
}

/// Returns a text for the log: tabs as they are, as commands hold them, and no other control byte.
fn loggable(text: &[u8]) -> String {
    let is_harmful = |letter: char| letter.is_control() && letter != '\t';
    String::from_utf8_lossy(text).replace(is_harmful, "?")
}
