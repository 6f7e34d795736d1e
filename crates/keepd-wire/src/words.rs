//! Words and values that both languages have: flags and addresses of handles, triggers, levels.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use keepd_model::protocol::{FilterChange, SignalNumber, Triggers};
use keepd_model::{
    Address, Domain, FdSlot, HandleKind, HandleName, HandleReport, LogLevel, OpenFlags, PipeEnd,
    PipeSpec, SocketSpec, SocketType,
};

pub use crate::field::{Problem, decimal, quoted, signal, without_zero};

use crate::field::{LineWriter, decimal_u32};

/// The longest path of a unix socket in bytes, unix(7).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The backlog of `listen` without a number.
const BACKLOG: u32 = 32;
/// The longest interval of `service.auto_up`, in seconds.
const INTERVAL_SECONDS_MAX: u32 = i32::MAX as u32;
/// The longest backlog.
const BACKLOG_MAX: u32 = 65_535;

/// Reads a comma list, word by word; an empty text has no words.
fn each_flag(
    flags: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<bool, Problem>,
) -> Result<(), Problem> {
    for flag in flags.split(|byte| *byte == b',').filter(|flag| !flag.is_empty()) {
        if !take(flag)? {
            return Err(Problem::new(format!("unknown flag {}", quoted(flag))));
        }
    }
    Ok(())
}

/// Reads the flags of `fd.open`.
pub fn open_flags(flags: &[u8]) -> Result<OpenFlags, Problem> {
    let mut open = OpenFlags::default();
    each_flag(flags, |flag| {
        let field = match flag {
            b"read" => &mut open.read,
            b"write" => &mut open.write,
            b"append" => &mut open.append,
            b"create" => &mut open.create,
            b"trunc" => &mut open.trunc,
            b"nonblock" => &mut open.nonblock,
            b"mkdir" => &mut open.mkdir,
            _ => return Ok(false),
        };
        *field = true;
        Ok(true)
    })?;
    open.read |= !open.write;
    Ok(open)
}

/// Reads the flags of `fd.pipe`: without a word of sockets it is a pipe.
pub fn pipe_spec(flags: &[u8]) -> Result<PipeSpec, Problem> {
    if flags == b"-" {
        return Ok(PipeSpec { socket: None, nonblock: false });
    }
    let (mut domain, mut kind, mut nonblock) = (None, None, false);
    each_flag(flags, |flag| {
        if flag == b"nonblock" {
            nonblock = true;
            return Ok(true);
        }
        Ok(take_socket_word(flag, &mut domain, &mut kind))
    })?;
    let is_socket = domain.is_some() || kind.is_some();
    let socket = is_socket.then(|| (domain.unwrap_or_default(), kind.unwrap_or_default()));
    Ok(PipeSpec { socket, nonblock })
}

/// Takes a word for a domain, a type or both.
fn take_socket_word(
    word: &[u8],
    domain: &mut Option<Domain>,
    kind: &mut Option<SocketType>,
) -> bool {
    match word {
        b"unix" => *domain = Some(Domain::Unix),
        b"inet" => *domain = Some(Domain::Inet),
        b"inet6" => *domain = Some(Domain::Inet6),
        b"stream" => *kind = Some(SocketType::Stream),
        b"dgram" => *kind = Some(SocketType::Datagram),
        b"seqpacket" => *kind = Some(SocketType::SequencedPacket),
        b"tcp" => (*domain, *kind) = (Some(Domain::Inet), Some(SocketType::Stream)),
        b"udp" => (*domain, *kind) = (Some(Domain::Inet), Some(SocketType::Datagram)),
        _ => return false,
    }
    true
}

/// Reads flags and address of `fd.socket`. An address alone implies `bind`.
pub fn socket_spec(flags: &[u8], address: Option<&[u8]>) -> Result<SocketSpec, Problem> {
    let (mut domain, mut kind) = (None, None);
    let (mut bind, mut listen, mut nonblock, mut mkdir) = (false, None, false, false);
    let flags = if flags == b"-" { b"" } else { flags };
    each_flag(flags, |flag| {
        match flag {
            b"bind" => bind = true,
            b"listen" => listen = Some(BACKLOG),
            b"nonblock" => nonblock = true,
            b"mkdir" => mkdir = true,
            _ => match flag.strip_prefix(b"listen=") {
                Some(length) => listen = Some(backlog(length)?),
                None => return Ok(take_socket_word(flag, &mut domain, &mut kind)),
            },
        }
        Ok(true)
    })?;
    let domain = domain.unwrap_or_default();
    if mkdir && domain != Domain::Unix {
        return Err(Problem::new("the flag \"mkdir\" is for unix sockets only"));
    }
    let address = address.filter(|address| !address.is_empty());
    if address.is_none() && (bind || listen.is_some()) {
        return Err(Problem::new("an address is expected, to bind the socket to"));
    }
    Ok(SocketSpec {
        domain,
        kind: kind.unwrap_or_default(),
        bind: address.map(|text| read_address(domain, text)).transpose()?,
        address_text: address.unwrap_or_default().to_vec(),
        listen,
        nonblock,
        mkdir,
    })
}

fn backlog(length: &[u8]) -> Result<u32, Problem> {
    match decimal_u32(length, "listen length", BACKLOG_MAX) {
        Ok(length) if length > 0 => Ok(length),
        Ok(_) | Err(_) => Err(Problem::new(format!(
            "invalid listen length {}, 1 to {BACKLOG_MAX} is expected",
            quoted(length)
        ))),
    }
}

/// Reads an address of a domain: a path, or `*` or a number address, then optionally `:PORT`.
fn read_address(domain: Domain, text: &[u8]) -> Result<Address, Problem> {
    let invalid = || Problem::new(format!("invalid address {}", quoted(text)));
    match domain {
        Domain::Unix => {
            without_zero(text, "address")?;
            if text.len() > SOCKET_PATH_BYTES_MAX {
                return Err(Problem::new(format!(
                    "invalid address, a path has at most {SOCKET_PATH_BYTES_MAX} bytes"
                )));
            }
            Ok(Address::Unix(text.to_vec()))
        }
        Domain::Inet => {
            let text = std::str::from_utf8(text).map_err(|_| invalid())?;
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, read_port(port).ok_or_else(invalid)?),
                None => (text, 0),
            };
            let host = match host {
                "*" => [0; 4],
                host => host.parse::<std::net::Ipv4Addr>().map_err(|_| invalid())?.octets(),
            };
            Ok(Address::Inet(host, port))
        }
        Domain::Inet6 => {
            let text = std::str::from_utf8(text).map_err(|_| invalid())?;
            let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((host, "")) => (host, 0),
                Some((host, port)) => {
                    let port = port.strip_prefix(':').and_then(read_port);
                    (host, port.ok_or_else(invalid)?)
                }
                None => match text.split_once(':') {
                    Some(("*", port)) => ("*", read_port(port).ok_or_else(invalid)?),
                    Some(_) | None => (text, 0),
                },
            };
            let host = match host {
                "*" => Ipv6Addr::UNSPECIFIED,
                host => host.parse().map_err(|_| invalid())?,
            };
            Ok(Address::Inet6(host.octets(), port))
        }
    }
}

fn read_port(port: &str) -> Option<u16> {
    let is_decimal = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| is_decimal)
}

/// Reads the name of a handle.
pub fn handle_name(field: &[u8]) -> Result<HandleName, Problem> {
    std::str::from_utf8(field)
        .ok()
        .and_then(|text| HandleName::new(text).ok())
        .ok_or_else(|| Problem::new(format!("not a valid handle name: {}", quoted(field))))
}

/// Reads one place of a descriptor list.
pub fn fd_slot(field: &[u8]) -> Result<FdSlot, Problem> {
    match field {
        b"-" => Ok(FdSlot::Closed),
        b"" => Ok(FdSlot::Skipped),
        name => handle_name(name).map(FdSlot::Handle),
    }
}

/// Returns the word of a place in a descriptor list.
pub fn fd_slot_word(slot: &FdSlot) -> &str {
    match slot {
        FdSlot::Closed => "-",
        FdSlot::Skipped => "",
        FdSlot::Handle(name) => name.as_str(),
    }
}

/// Returns the type of a handle: `file`, `special`, `pipe`, `socket`.
pub fn handle_type(kind: &HandleKind) -> &'static str {
    match kind {
        HandleKind::File(_) => "file",
        HandleKind::Special(_) => "special",
        HandleKind::Pipe { .. } => "pipe",
        HandleKind::Socket { .. } => "socket",
    }
}

/// Returns the flags of a handle as reports have them, in their fixed order.
pub fn handle_flags(kind: &HandleKind) -> String {
    let mut text = String::new();
    let mut add = |word: &str, holds: bool| {
        if holds {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(word);
        }
    };
    match kind {
        HandleKind::File(flags) | HandleKind::Special(flags) => {
            add("read", flags.read);
            add("write", flags.write);
            add("append", flags.append);
            add("create", flags.create);
            add("trunc", flags.trunc);
            add("nonblock", flags.nonblock);
            add("mkdir", flags.mkdir);
        }
        HandleKind::Pipe { end, spec } => {
            if let Some((domain, kind)) = spec.socket {
                add(domain.word(), true);
                add(kind.word(), true);
            }
            add("nonblock", spec.nonblock);
            add("from", *end == PipeEnd::From);
            add("to", *end == PipeEnd::To);
        }
        HandleKind::Socket { domain, kind, bind, listen, mkdir, nonblock } => {
            add(domain.word(), true);
            add(kind.word(), true);
            add("bind", *bind);
            if let Some(length) = listen {
                let mut word = String::from("listen=");
                let _ = write!(word, "{length}");
                add(&word, true);
            }
            add("mkdir", *mkdir);
            add("nonblock", *nonblock);
        }
    }
    text
}

/// Returns the flags of `fd.pipe`.
pub(crate) fn pipe_flags(spec: PipeSpec) -> String {
    let kind = HandleKind::Pipe { end: PipeEnd::To, spec };
    let flags = handle_flags(&kind);
    flags.strip_suffix("to").unwrap_or(&flags).trim_end_matches(',').to_owned()
}

/// Returns the flags of `fd.socket`.
pub(crate) fn socket_flags(spec: &SocketSpec) -> String {
    let SocketSpec { domain, kind, bind, address_text: _, listen, nonblock, mkdir } = spec;
    handle_flags(&HandleKind::Socket {
        domain: *domain,
        kind: *kind,
        bind: bind.is_some(),
        listen: *listen,
        mkdir: *mkdir,
        nonblock: *nonblock,
    })
}

/// Appends `fd.state⇥NAME⇥TYPE⇥FLAGS⇥DESCRIPTION`.
pub(crate) fn write_report(report: &HandleReport, out: &mut Vec<u8>) {
    LineWriter::new("fd.state", out)
        .word(&report.name)
        .word(handle_type(&report.kind))
        .word(handle_flags(&report.kind))
        .field(&report.description)
        .end();
}

/// Reads the interval of `service.auto_up`: `-` keeps the stored one.
pub fn interval(field: &[u8]) -> Result<Option<u32>, Problem> {
    if field == b"-" {
        return Ok(None);
    }
    match decimal_u32(field, "interval", INTERVAL_SECONDS_MAX)? {
        0 => Err(Problem::new("the interval is less than 1")),
        seconds => Ok(Some(seconds)),
    }
}

/// Reads the triggers of `service.auto_up`.
pub fn triggers(words: Vec<Vec<u8>>) -> Result<Triggers, Problem> {
    let mut triggers = Triggers::default();
    for word in &words {
        if word == b"always" {
            triggers.always = true;
            continue;
        }
        match signal_number(word)
            .map_err(|_| {
                Problem::new(format!(
                    "unknown trigger {}, \"always\" or a signal is expected",
                    quoted(word)
                ))
            })?
            .signal()
        {
            Some(signal) => triggers.signals.push(signal),
            // Accepted, as by the original; it never comes.
            None => {}
        }
    }
    triggers.signals.sort_unstable();
    triggers.signals.dedup();
    triggers.words = words;
    Ok(triggers)
}

/// Reads a signal as kill(2) takes it: a name with or without `SIG`, or a number from 0 to 65,535.
pub fn signal_number(field: &[u8]) -> Result<SignalNumber, Problem> {
    if !field.is_empty() && field.iter().all(u8::is_ascii_digit) {
        let number = decimal(field, "signal", u64::from(u16::MAX)).ok();
        let number = number.and_then(|number| u16::try_from(number).ok());
        return number
            .map(SignalNumber)
            .ok_or_else(|| Problem::new(format!("invalid signal: {}", quoted(field))));
    }
    signal(field).map(SignalNumber::from)
}

/// Reads the word of a log level.
pub fn log_level(field: &[u8]) -> Result<LogLevel, Problem> {
    LogLevel::ALL
        .into_iter()
        .find(|level| level.word().as_bytes() == field)
        .ok_or_else(|| Problem::new(format!("unknown log level {}", quoted(field))))
}

/// Reads what `log.filter` shall do; nothing: show it.
pub fn filter_change(field: Option<&[u8]>) -> Result<FilterChange, Problem> {
    match field {
        None | Some(b"") => Ok(FilterChange::Show),
        Some(b"+") => Ok(FilterChange::Less),
        Some(b"-") => Ok(FilterChange::More),
        Some(word) => log_level(word).map(FilterChange::To),
    }
}

/// Reads an integer as daemonproxy has them: digits, perhaps after a `-`, 64 bits.
pub fn integer(field: &[u8], what: &str) -> Result<i64, Problem> {
    let is_integer = {
        let digits = field.strip_prefix(b"-").unwrap_or(field);
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    };
    std::str::from_utf8(field)
        .ok()
        .filter(|_| is_integer)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            Problem::new(format!("an integer is expected as {what}, not {}", quoted(field)))
        })
}

/// Reads type and flags of a report.
pub fn handle_kind(kind: &[u8], flags: &[u8]) -> Result<HandleKind, Problem> {
    match kind {
        b"file" => reported_open_flags(flags).map(HandleKind::File),
        b"special" => reported_open_flags(flags).map(HandleKind::Special),
        b"pipe" => {
            let mut end = None;
            let words: Vec<&[u8]> = flags.split(|byte| *byte == b',').collect();
            let mut others = Vec::new();
            for word in words {
                match word {
                    b"from" => end = Some(PipeEnd::From),
                    b"to" => end = Some(PipeEnd::To),
                    other => others.push(other),
                }
            }
            let end = end.ok_or_else(|| Problem::new("the end of the pipe is missing"))?;
            Ok(HandleKind::Pipe { end, spec: pipe_spec(&others.join(&b','))? })
        }
        b"socket" => {
            let (mut domain, mut kind) = (None, None);
            let (mut bind, mut listen, mut mkdir, mut nonblock) = (false, None, false, false);
            each_flag(flags, |flag| {
                match flag {
                    b"bind" => bind = true,
                    b"mkdir" => mkdir = true,
                    b"nonblock" => nonblock = true,
                    _ => match flag.strip_prefix(b"listen=") {
                        Some(length) => listen = Some(backlog(length)?),
                        None => return Ok(take_socket_word(flag, &mut domain, &mut kind)),
                    },
                }
                Ok(true)
            })?;
            let (domain, kind) = (domain.unwrap_or_default(), kind.unwrap_or_default());
            Ok(HandleKind::Socket { domain, kind, bind, listen, mkdir, nonblock })
        }
        other => Err(Problem::new(format!("unknown type of handle {}", quoted(other)))),
    }
}

/// Reads flags as a report has them: what is not said is not so.
fn reported_open_flags(flags: &[u8]) -> Result<OpenFlags, Problem> {
    let is_said = |word: &[u8]| flags.split(|byte| *byte == b',').any(|flag| flag == word);
    Ok(OpenFlags { read: is_said(b"read"), ..open_flags(flags)? })
}
