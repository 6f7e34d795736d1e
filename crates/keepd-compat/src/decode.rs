//! A line of a plain connection, read as a command. There are no escapes: a field ends at the next
//! tab, and every other byte stands for itself.

use std::time::Duration;

use keepd_model::protocol::{Command, FilterChange, Scope};
use keepd_model::{Address, FdSlot, HandleName, Instant, ServiceName};
use keepd_wire::words::{self, Problem, quoted, without_zero};

/// The longest name of a service or handle in bytes, as in the original.
pub(crate) const NAME_BYTES_MAX: usize = 31;
/// The longest argument vector of exit-exec in bytes, tabs between arguments included.
const EXEC_ARGS_BYTES_MAX: usize = 255;
/// How far back the time of a start may lie, in seconds: what is not older means now.
const START_AGE_SECONDS_MAX: i64 = 100_000;
/// The longest time of `conn.event_timeout` in seconds.
const TIMEOUT_SECONDS_MAX: i64 = i32::MAX as i64;

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such command. Its name is the first field of the line.
    UnknownCommand,
    /// The command cannot be read.
    Invalid {
        /// One sentence without a full stop.
        text: String,
        /// The service that exists from here on nevertheless, as the original makes it before it
        /// looks at the rest of `service.args`, `.tags` and `.fds`.
        makes: Option<ServiceName>,
    },
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Invalid { text: problem.to_string(), makes: None }
    }
}

/// Reads a line without its line feed; `None` for a blank line or a comment. `now` is needed for
/// `service.start`, whose time may lie in the past, even before the origin of the clock.
///
/// # Errors
///
/// Returns what is wrong with the line, and which service it makes all the same.
pub fn decode_line(now: Instant, line: &[u8]) -> Result<Option<Command>, Refusal> {
    if is_ignored(line) {
        return Ok(None);
    }
    let mut fields = Fields { rest: Some(line) };
    let command_name = fields.next().unwrap_or_default();
    let command = match command_name {
        b"echo" => Command::Echo { text: fields.rest.unwrap_or_default().to_vec() },
        b"statedump" => Command::StateDump,
        b"exit" => Command::Exit,
        b"proto" => proto(&mut fields)?,
        b"conn.event_timeout" => event_timeout(&mut fields)?,
        b"chdir" => {
            let path = path(&mut fields)?;
            fields.end()?;
            Command::Chdir { path }
        }
        b"log.filter" => log_filter(&mut fields)?,
        b"log.dest" => log_destination(&mut fields)?,
        b"signal.clear" => signal_clear(&mut fields)?,
        b"socket.create" => socket_create(&mut fields)?,
        b"socket.delete" => Command::SocketDelete,
        b"terminate" => terminate(&mut fields)?,
        b"terminate.guard" => terminate_guard(&mut fields)?,
        b"terminate.exec_args" => terminate_exec(fields)?,
        b"service.args" => service_args(fields)?,
        b"service.tags" => {
            Command::ServiceTags { name: service_name(&mut fields)?, tags: fields.list() }
        }
        b"service.fds" => service_fds(fields)?,
        b"service.auto_up" => Command::ServiceAutoUp {
            name: service_name(&mut fields)?,
            seconds: words::interval(fields.required("interval")?)?,
            triggers: words::triggers(fields.list())?,
        },
        b"service.start" => service_start(now, &mut fields)?,
        b"service.signal" => service_signal(&mut fields)?,
        b"service.delete" => Command::ServiceDelete { name: service_name(&mut fields)? },
        b"fd.open" => handle_open(&mut fields)?,
        b"fd.pipe" => handle_pipe(&mut fields)?,
        b"fd.socket" => handle_socket(&mut fields)?,
        b"fd.take" => Command::HandleTake { name: handle_name(&mut fields)? },
        b"fd.delete" => Command::HandleDelete { name: handle_name(&mut fields)? },
        _ => return Err(Refusal::UnknownCommand),
    };
    Ok(Some(command))
}

/// Reports whether a line says nothing: it is blank, or a comment.
fn is_ignored(line: &[u8]) -> bool {
    line.starts_with(b"#") || line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

/// The fields of a line from the left. A tab at the end begins one more field, which is empty.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'line> {
    /// What stands after the last tab that was read; `None` after the last field.
    rest: Option<&'line [u8]>,
}

impl<'line> Iterator for Fields<'line> {
    type Item = &'line [u8];

    fn next(&mut self) -> Option<&'line [u8]> {
        let rest = self.rest?;
        let tab = rest.iter().position(|byte| *byte == b'\t');
        self.rest = tab.map(|tab| &rest[tab + 1..]);
        Some(tab.map_or(rest, |tab| &rest[..tab]))
    }
}

impl<'line> Fields<'line> {
    /// Returns the fields of a line, its name included.
    pub(crate) const fn of(line: &'line [u8]) -> Self {
        Self { rest: Some(line) }
    }

    /// Returns the next field; `what` names it in the error.
    fn required(&mut self, what: &str) -> Result<&'line [u8], Problem> {
        self.next().ok_or_else(|| Problem::new(format!("the {what} is missing")))
    }

    /// Returns the next field, which must not be empty.
    fn required_text(&mut self, what: &str) -> Result<&'line [u8], Problem> {
        let field = self.required(what)?;
        if field.is_empty() {
            return Err(Problem::new(format!("the {what} is missing")));
        }
        Ok(field)
    }

    /// Returns all fields that are left. Nothing and one empty field are the same, because an unset
    /// list is written with a tab at the end.
    pub(crate) fn list(self) -> Vec<Vec<u8>> {
        match self.rest {
            None | Some(b"") => Vec::new(),
            Some(_) => self.map(<[u8]>::to_vec).collect(),
        }
    }

    /// Refuses fields that nobody asked for.
    fn end(&mut self) -> Result<(), Problem> {
        match self.next() {
            None => Ok(()),
            Some(field) => {
                Err(Problem::new(format!("there is a superfluous argument: {}", quoted(field))))
            }
        }
    }
}

/// Reads the name of a service: without `@`, so that a plain connection can neither make nor touch
/// an instance, and not one of keepd's own, of which it does not hear either.
fn service_name(fields: &mut Fields<'_>) -> Result<ServiceName, Problem> {
    let field = fields.required_text("service name")?;
    std::str::from_utf8(field)
        .ok()
        .and_then(|text| ServiceName::new_internal(text).ok())
        .filter(|name| name.instance().is_none() && !name.is_internal())
        .ok_or_else(|| Problem::new(format!("not a valid service name: {}", quoted(field))))
}

fn handle_name(fields: &mut Fields<'_>) -> Result<HandleName, Problem> {
    let field = fields.required_text("handle name")?;
    short_handle_name(field)
}

fn short_handle_name(field: &[u8]) -> Result<HandleName, Problem> {
    if field.len() > NAME_BYTES_MAX {
        return Err(Problem::new(format!("invalid handle name: {}", quoted(field))));
    }
    words::handle_name(field)
}

fn path(fields: &mut Fields<'_>) -> Result<Vec<u8>, Problem> {
    let path = fields.required_text("path")?;
    without_zero(path, "path")?;
    Ok(path.to_vec())
}

/// Reads `keepd⇥VERSION`.
fn proto(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let protocol = fields.required("name of the protocol")?;
    if protocol != b"keepd" {
        return Err(Problem::new(format!("unknown protocol {}", quoted(protocol))));
    }
    let version = fields.required("version")?;
    let number = words::decimal(version, "version", u32::MAX.into())?;
    let version = u32::try_from(number).expect("the number is at most u32::MAX");
    Ok(Command::Proto { version })
}

/// Reads `RESET⇥CLOSE`.
fn event_timeout(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let mut seconds = |what: &str| {
        let seconds = words::integer(fields.required(what)?, what)?;
        u64::try_from(seconds).ok().filter(|_| seconds <= TIMEOUT_SECONDS_MAX).ok_or_else(|| {
            Problem::new(format!("the {what} {seconds} is not from 0 to {TIMEOUT_SECONDS_MAX}"))
        })
    };
    let (reset, close) = (seconds("reset timeout")?, seconds("close timeout")?);
    if reset > close {
        return Err(Problem::new("the reset timeout is greater than the close timeout"));
    }
    let [reset, close] = [reset, close].map(Duration::from_secs);
    Ok(Command::EventTimeout { reset, close })
}

/// Reads `[+|-|LEVEL]`. An empty word is none of them.
fn log_filter(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let change = match fields.next() {
        Some(b"") => FilterChange::To(words::log_level(b"")?),
        field => words::filter_change(field)?,
    };
    Ok(Command::LogFilter { change })
}

/// Reads `fd⇥HANDLE`.
fn log_destination(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    match fields.required("type of the log")? {
        b"fd" => Ok(Command::LogDestination { handle: handle_name(fields)? }),
        other => Err(Problem::new(format!("unknown log type {}", quoted(other)))),
    }
}

/// Reads `SIGNAL⇥COUNT`.
fn signal_clear(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let field = fields.required_text("signal")?;
    let signal = words::signal_number(field)?
        .signal()
        .ok_or_else(|| Problem::new(format!("invalid signal: {}", quoted(field))))?;
    let count = words::integer(fields.required("count")?, "count")?;
    let count = u64::try_from(count)
        .map_err(|_| Problem::new(format!("the count {count} is less than 0")))?;
    Ok(Command::SignalClear { signal, count })
}

/// Reads `OPTIONS⇥PATH`; there are no options yet.
fn socket_create(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    words::socket_options(fields.required("list of options")?)?;
    Ok(Command::SocketCreate { path: words::socket_path(fields.required("path")?)? })
}

/// Reads `CODE[⇥GUARD]`. The process keeps the low eight bits of the code. A guard code that is no
/// number is none: without a guard it is not looked at, and with one it is refused in either case.
fn terminate(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let code = words::integer(fields.required("exit code")?, "exit code")?;
    let [code, ..] = code.to_le_bytes();
    let guard = fields.next().and_then(|field| words::integer(field, "guard code").ok());
    Ok(Command::Terminate { code, guard })
}

/// Reads `+|-⇥CODE`.
fn terminate_guard(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let set = match fields.required("sign \"+\" or \"-\"")? {
        b"+" => true,
        b"-" => false,
        other => {
            return Err(Problem::new(format!("\"+\" or \"-\" is expected, not {}", quoted(other))));
        }
    };
    let code = words::integer(fields.required("guard code")?, "guard code")?;
    Ok(Command::TerminateGuard { set, code })
}

fn terminate_exec(fields: Fields<'_>) -> Result<Command, Problem> {
    let length = fields.rest.unwrap_or_default().len();
    if length > EXEC_ARGS_BYTES_MAX {
        return Err(Problem::new(format!(
            "the arguments are longer than {EXEC_ARGS_BYTES_MAX} bytes"
        )));
    }
    let arguments = fields.list();
    without_zeros(&arguments)?;
    Ok(Command::TerminateExec { arguments })
}

fn without_zeros(arguments: &[Vec<u8>]) -> Result<(), Problem> {
    arguments.iter().try_for_each(|argument| without_zero(argument, "argument"))
}

/// Notes on a problem that this service exists from here on.
fn makes(name: &ServiceName) -> impl FnOnce(Problem) -> Refusal {
    |problem| Refusal::Invalid { text: problem.to_string(), makes: Some(name.clone()) }
}

fn service_args(mut fields: Fields<'_>) -> Result<Command, Refusal> {
    let name = service_name(&mut fields)?;
    let arguments = fields.list();
    without_zeros(&arguments).map_err(makes(&name))?;
    Ok(Command::ServiceArgs { name, arguments })
}

fn service_fds(mut fields: Fields<'_>) -> Result<Command, Refusal> {
    let name = service_name(&mut fields)?;
    let slots = match fields.rest {
        None | Some(b"") => Ok(Vec::new()),
        Some(_) => fields.map(fd_slot).collect(),
    };
    let slots = slots.map_err(makes(&name))?;
    Ok(Command::ServiceFds { name, slots })
}

fn fd_slot(field: &[u8]) -> Result<FdSlot, Problem> {
    match words::fd_slot(field)? {
        FdSlot::Handle(_) => short_handle_name(field).map(FdSlot::Handle),
        slot @ (FdSlot::Closed | FdSlot::Skipped) => Ok(slot),
    }
}

/// Reads `NAME[⇥TS|-]`: a time in whole seconds, or `-` to take a pending start back.
fn service_start(now: Instant, fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let name = service_name(fields)?;
    let at = match fields.next() {
        Some(b"-") => return Ok(Command::ServiceCancel { name }),
        Some(field) => start_time(now, field)?,
        None => None,
    };
    Ok(Command::ServiceStart { name, expected: None, at })
}

/// Reads the time of a start; `None` where it is over, which means now.
fn start_time(now: Instant, field: &[u8]) -> Result<Option<Instant>, Problem> {
    let invalid = || Problem::new(format!("invalid timestamp {}", quoted(field)));
    let seconds = words::integer(field, "timestamp").map_err(|_| invalid())?;
    let now_seconds = now.saturating_since(Instant::ZERO).as_secs();
    let now_seconds = i64::try_from(now_seconds).expect("the clock has less than 2^63 seconds");
    if seconds < now_seconds - START_AGE_SECONDS_MAX {
        return Err(Problem::new(format!(
            "invalid timestamp {}, it lies more than {START_AGE_SECONDS_MAX} seconds back",
            quoted(field)
        )));
    }
    if seconds <= now_seconds {
        return Ok(None);
    }
    let nanoseconds =
        u64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
    nanoseconds.map(Instant::from_nanos).map(Some).ok_or_else(invalid)
}

/// Reads `NAME⇥SIGNAL[⇥group]`.
fn service_signal(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let name = service_name(fields)?;
    let signal = words::signal_number(fields.required_text("signal")?)?;
    let scope = match fields.next() {
        None | Some(b"") => Scope::Main,
        Some(b"group") => Scope::ProcessGroup,
        Some(other) => return Err(Problem::new(format!("unknown option {}", quoted(other)))),
    };
    Ok(Command::ServiceSignal { name, expected: None, signal, scope })
}

/// Reads `NAME⇥FLAGS⇥PATH`.
fn handle_open(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let name = handle_name(fields)?;
    let flags = words::open_flags(fields.required("list of flags")?)?;
    let path = path(fields)?;
    fields.end()?;
    Ok(Command::HandleOpen { name, flags, path })
}

/// Reads `READ⇥WRITE[⇥FLAGS]`.
fn handle_pipe(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let (read, write) = (handle_name(fields)?, handle_name(fields)?);
    if read == write {
        return Err(Problem::new("the ends of a pipe need two handle names"));
    }
    let spec = words::pipe_spec(fields.next().unwrap_or_default())?;
    Ok(Command::HandlePipe { read, write, spec })
}

/// Reads `NAME⇥FLAGS[⇥ADDRESS]`. The original has the word inet6, and no addresses of it.
fn handle_socket(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let name = handle_name(fields)?;
    let flags = fields.required("list of flags")?;
    let address = fields.next();
    fields.end()?;
    let spec = words::socket_spec(flags, address)?;
    if let Some(Address::Inet6(..)) = spec.bind {
        let address = quoted(&spec.address_text);
        return Err(Problem::new(format!("invalid address {address}, it is one of inet6")));
    }
    Ok(Command::HandleSocket { name, spec })
}
