//! Handles and descriptors: their names, types, flags, and lists of them.

use keepd_model::{
    Domain, FdSlot, HandleKind, HandleName, OpenFlags, PipeEnd, PipeSpec, SocketSpec, SocketType,
};

use super::address;
use crate::field::{Problem, decimal_u32, quoted};

/// The backlog of `listen` without a number.
const BACKLOG: u32 = 32;
/// The longest backlog.
const BACKLOG_MAX: u32 = 65_535;

/// Reads the name of a handle.
///
/// # Errors
///
/// Refuses what is none: see [`HandleName`].
pub fn handle_name(field: &[u8]) -> Result<HandleName, Problem> {
    str::from_utf8(field)
        .ok()
        .and_then(|text| HandleName::new(text).ok())
        .ok_or_else(|| Problem::new(format!("invalid handle name: {}", quoted(field))))
}

/// Refuses one name for both ends of a pipe: the second would replace the first.
///
/// # Errors
///
/// Names it.
pub fn different_ends(read: &HandleName, write: &HandleName) -> Result<(), Problem> {
    if read == write {
        return Err(Problem::new(format!("both ends of the pipe have the name \"{read}\"")));
    }
    Ok(())
}

/// Reads one place of a descriptor list.
///
/// # Errors
///
/// Refuses what is neither `-`, empty nor the name of a handle.
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

/// Reads the flags of `fd.open`; neither `read` nor `write`: reading.
///
/// # Errors
///
/// Names the flag that is unknown.
pub fn open_flags(flags: &[u8]) -> Result<OpenFlags, Problem> {
    let mut open = reported_open_flags(flags)?;
    open.read |= !open.write;
    Ok(open)
}

/// Reads the flags of `fd.pipe`: without a word of sockets it is a pipe.
///
/// # Errors
///
/// Names the flag that is unknown.
pub fn pipe_spec(flags: &[u8]) -> Result<PipeSpec, Problem> {
    let mut words = PipeWords::default();
    each_flag(flags, |flag| Ok(words.take(flag)))?;
    Ok(words.spec())
}

/// Reads flags and address of `fd.socket`. An address alone implies `bind`.
///
/// # Errors
///
/// Names the flag that is unknown, and says what is wrong with the address or the backlog.
pub fn socket_spec(flags: &[u8], address: Option<&[u8]>) -> Result<SocketSpec, Problem> {
    let words = SocketWords::read(flags)?;
    let SocketWords { kind, bind, listen, mkdir, nonblock } = words;
    let (domain, kind) = kind.or_default();
    if mkdir && domain != Domain::Unix {
        return Err(Problem::new("the flag \"mkdir\" is for unix sockets only"));
    }
    let address = address.filter(|address| !address.is_empty());
    if address.is_none() && (bind || listen.is_some()) {
        return Err(Problem::new("address expected to bind the socket to, it is missing"));
    }
    Ok(SocketSpec {
        domain,
        kind,
        bind: address.map(|text| address::read(domain, text)).transpose()?,
        address_text: address.unwrap_or_default().to_vec(),
        listen,
        nonblock,
        mkdir,
    })
}

/// Reads type and flags of a report (`fd.state`): what is not said is not so.
///
/// # Errors
///
/// Refuses an unknown type or flag, and a pipe without an end.
pub fn handle_kind(kind: &[u8], flags: &[u8]) -> Result<HandleKind, Problem> {
    match kind {
        b"file" => reported_open_flags(flags).map(HandleKind::File),
        b"special" => reported_open_flags(flags).map(HandleKind::Special),
        b"pipe" => {
            let (mut words, mut end) = (PipeWords::default(), None);
            each_flag(flags, |flag| {
                match flag {
                    b"from" => end = Some(PipeEnd::From),
                    b"to" => end = Some(PipeEnd::To),
                    other => return Ok(words.take(other)),
                }
                Ok(true)
            })?;
            let end = end.ok_or_else(|| Problem::new("the end of the pipe is missing"))?;
            Ok(HandleKind::Pipe { end, spec: words.spec() })
        }
        b"socket" => {
            let SocketWords { kind, bind, listen, mkdir, nonblock } = SocketWords::read(flags)?;
            let (domain, kind) = kind.or_default();
            Ok(HandleKind::Socket { domain, kind, bind, listen, mkdir, nonblock })
        }
        other => Err(Problem::new(format!("unknown type of handle {}", quoted(other)))),
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
    match kind {
        HandleKind::File(flags) | HandleKind::Special(flags) => FlagList::default()
            .with("read", flags.read)
            .with("write", flags.write)
            .with("append", flags.append)
            .with("create", flags.create)
            .with("trunc", flags.trunc)
            .with("nonblock", flags.nonblock)
            .with("mkdir", flags.mkdir),
        HandleKind::Pipe { end, spec } => FlagList::default()
            .with_pipe(*spec)
            .with("from", *end == PipeEnd::From)
            .with("to", *end == PipeEnd::To),
        HandleKind::Socket { domain, kind, bind, listen, mkdir, nonblock } => FlagList::default()
            .with(domain.word(), true)
            .with(kind.word(), true)
            .with("bind", *bind)
            .with_listen(*listen)
            .with("mkdir", *mkdir)
            .with("nonblock", *nonblock),
    }
    .0
}

/// Returns the flags of `fd.pipe`.
pub(crate) fn pipe_flags(spec: PipeSpec) -> String {
    FlagList::default().with_pipe(spec).0
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

/// Hands out the words of a comma list; neither an empty text nor `-` has any. `take` returns
/// whether it knows a word.
fn each_flag(
    flags: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<bool, Problem>,
) -> Result<(), Problem> {
    if flags == b"-" {
        return Ok(());
    }
    for flag in flags.split(|byte| *byte == b',').filter(|flag| !flag.is_empty()) {
        if !take(flag)? {
            return Err(Problem::new(format!("unknown flag {}", quoted(flag))));
        }
    }
    Ok(())
}

fn reported_open_flags(flags: &[u8]) -> Result<OpenFlags, Problem> {
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
    Ok(open)
}

/// What was said of domain and type; of several words the last one counts.
#[derive(Clone, Copy, Default)]
struct KindWords {
    domain: Option<Domain>,
    kind: Option<SocketType>,
}

impl KindWords {
    /// Takes a word for a domain, a type or both; returns whether it is one.
    fn take(&mut self, word: &[u8]) -> bool {
        let (domain, kind) = match word {
            b"unix" => (Some(Domain::Unix), None),
            b"inet" => (Some(Domain::Inet), None),
            b"inet6" => (Some(Domain::Inet6), None),
            b"stream" => (None, Some(SocketType::Stream)),
            b"dgram" => (None, Some(SocketType::Datagram)),
            b"seqpacket" => (None, Some(SocketType::SequencedPacket)),
            b"tcp" => (Some(Domain::Inet), Some(SocketType::Stream)),
            b"udp" => (Some(Domain::Inet), Some(SocketType::Datagram)),
            _ => return false,
        };
        self.domain = domain.or(self.domain);
        self.kind = kind.or(self.kind);
        true
    }

    fn is_said(self) -> bool {
        self.domain.is_some() || self.kind.is_some()
    }

    fn or_default(self) -> (Domain, SocketType) {
        (self.domain.unwrap_or_default(), self.kind.unwrap_or_default())
    }
}

#[derive(Default)]
struct PipeWords {
    kind: KindWords,
    nonblock: bool,
}

impl PipeWords {
    fn take(&mut self, word: &[u8]) -> bool {
        let is_nonblock = word == b"nonblock";
        self.nonblock |= is_nonblock;
        is_nonblock || self.kind.take(word)
    }

    fn spec(&self) -> PipeSpec {
        let socket = self.kind.is_said().then(|| self.kind.or_default());
        PipeSpec { socket, nonblock: self.nonblock }
    }
}

#[derive(Default)]
struct SocketWords {
    kind: KindWords,
    bind: bool,
    listen: Option<u32>,
    mkdir: bool,
    nonblock: bool,
}

impl SocketWords {
    fn read(flags: &[u8]) -> Result<Self, Problem> {
        let mut words = Self::default();
        each_flag(flags, |flag| {
            match flag {
                b"bind" => words.bind = true,
                b"listen" => words.listen = Some(BACKLOG),
                b"mkdir" => words.mkdir = true,
                b"nonblock" => words.nonblock = true,
                other => match other.strip_prefix(b"listen=") {
                    Some(length) => words.listen = Some(backlog(length)?),
                    None => return Ok(words.kind.take(other)),
                },
            }
            Ok(true)
        })?;
        Ok(words)
    }
}

fn backlog(length: &[u8]) -> Result<u32, Problem> {
    let number = decimal_u32(length, "listen length", BACKLOG_MAX).ok();
    number.filter(|number| *number > 0).ok_or_else(|| {
        let length = quoted(length);
        Problem::new(format!("invalid listen length {length}, 1 to {BACKLOG_MAX} is expected"))
    })
}

/// A comma list that is being written.
#[derive(Default)]
struct FlagList(String);

impl FlagList {
    /// Adds a word if it holds.
    fn with(mut self, word: &str, holds: bool) -> Self {
        if holds {
            if !self.0.is_empty() {
                self.0.push(',');
            }
            self.0.push_str(word);
        }
        self
    }

    fn with_pipe(self, spec: PipeSpec) -> Self {
        let list = match spec.socket {
            Some((domain, kind)) => self.with(domain.word(), true).with(kind.word(), true),
            None => self,
        };
        list.with("nonblock", spec.nonblock)
    }

    fn with_listen(self, length: Option<u32>) -> Self {
        match length {
            Some(length) => self.with(&format!("listen={length}"), true),
            None => self,
        }
    }
}
