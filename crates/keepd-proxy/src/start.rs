//! Everything that is done once, before the loop: what fails here ends the proxy, later failures
//! never do.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use keepd_engine::proxy::{ConnectionId, Input, Proxy, Settings};
use keepd_model::{Errno, Signal};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::signals::{self, SignalReader};
use keepd_os::spawn::reserve_slots;
use keepd_os::{process, random};
use keepd_wire::FEATURES;
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;

use crate::children::{Children, Inheritance};
use crate::connections::{Connections, Ends};
use crate::environment::Base;
use crate::groups::Groups;
use crate::listener::Listener;
use crate::log::{Level, Log};
use crate::notify::NotifySockets;
use crate::options::Options;
use crate::pump::{Moment, Pump};
use crate::ready::ReadyPipes;
use crate::run::Shell;
use crate::token::Token;

/// The proxy makes files for itself only; what it starts gets a mask of its own.
const UMASK: u32 = 0o077;
/// Signals that are counted and told, and CHLD.
const HEARD: [Signal; 7] = [
    Signal::CHLD,
    Signal::INT,
    Signal::HUP,
    Signal::TERM,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
];
/// What the terminal sends to those in its background who read, or who write if it is set so.
const TTIN: u8 = 21;
const TTOU: u8 = 22;
/// PIPE and ALRM: no news for anybody, and not to end the proxy.
const IGNORED_NUMBERS: [u8; 2] = [13, 14];

/// Why the proxy cannot start.
pub(crate) struct StartError {
    what: String,
    errno: Option<Errno>,
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(errno) => write!(formatter, "cannot {}: {errno}", self.what),
            None => write!(formatter, "cannot {}", self.what),
        }
    }
}

/// Names what was attempted.
fn attempt<T>(what: impl Into<String>, result: Result<T, Errno>) -> Result<T, StartError> {
    result.map_err(|errno| StartError { what: what.into(), errno: Some(errno) })
}

impl Shell {
    /// Prepares this process and everything that the loop needs.
    pub(crate) fn start(options: &Options, mut log: Log) -> Result<Self, (StartError, Log)> {
        match Parts::make(options, &mut log) {
            Ok(parts) => Ok(parts.into_shell(log)),
            Err(error) => Err((error, log)),
        }
    }
}

/// What the loop needs, but for the log.
struct Parts {
    epoll: Epoll,
    signals: SignalReader,
    machine: Proxy,
    connections: Connections,
    /// Connections that the machine has still to be told of.
    first: Vec<(ConnectionId, bool)>,
    listener: Option<Listener>,
    children: Children,
    groups: Groups,
    notify: NotifySockets,
}

impl Parts {
    fn make(options: &Options, log: &mut Log) -> Result<Self, StartError> {
        rustix::process::umask(Mode::from_raw_mode(UMASK));
        // Who started us may have ignored it, and then no status of any child could be had.
        attempt("hear of children", signals::restore_default(Signal::CHLD))?;
        let signals = attempt("read signals", SignalReader::new(&HEARD))?;
        for signal in IGNORED_NUMBERS.into_iter().filter_map(Signal::new) {
            attempt("ignore a signal", signals::ignore(signal))?;
        }
        let descriptor_limit = take_place(options, log);
        let epoll = attempt("make an epoll set", Epoll::new())?;
        attempt("wait for signals", epoll.add(&signals, Token::Signals.into(), Interest::READ))?;
        let inheritance = attempt("open \"/dev/null\"", inherit(options))?;
        let groups = Groups::new(options.group.as_deref()).unwrap_or_else(|error| {
            log.say(
                Level::Warning,
                format_args!("cannot use the cgroup: {error}; processes are found by a weaker way"),
            );
            Groups::without_cgroup()
        });
        let seed = attempt("read random bytes", random::seed())?;
        let listener = match &options.socket {
            Some(path) => Some(listen(path, &epoll)?),
            None => None,
        };
        let mut connections = Connections::default();
        let first = connect(options, &epoll, &mut connections)?;
        Ok(Self {
            epoll,
            signals,
            machine: Proxy::new(Settings { seed, features: FEATURES.map(str::to_owned).to_vec() }),
            connections,
            first,
            listener,
            children: Children::new(
                Base::of_this_process(options.instance.clone()),
                inheritance,
                options.terminal,
                descriptor_limit,
            ),
            groups,
            notify: NotifySockets::new(options.run_dir.clone()),
        })
    }

    fn into_shell(self, log: Log) -> Shell {
        let mut shell = Shell {
            epoll: self.epoll,
            signals: self.signals,
            machine: self.machine,
            now: Moment::now(),
            log,
            connections: self.connections,
            listener: self.listener,
            pump: Pump::new(),
            groups: self.groups,
            notify: self.notify,
            ready: ReadyPipes::default(),
            children: self.children,
            has_ended_children: false,
            watches_output: false,
            ending: None,
        };
        for (connection, output) in self.first {
            shell.tell(Input::Connected { connection, output });
        }
        shell
    }
}

/// Finds the place of this process among others. What cannot be had is said and done without.
fn take_place(options: &Options, log: &mut Log) -> Option<process::DescriptorLimit> {
    let mut warn = |what: &str, errno: Errno| {
        log.say(Level::Warning, format_args!("cannot {what}: {errno}"));
    };
    if let Err(error) = process::set_name("keepd-proxy") {
        warn("set the name of the process", error);
    }
    if let Err(error) = process::become_subreaper() {
        warn("adopt orphaned processes", error);
    }
    if options.own_session
        && let Err(error) = process::new_session()
    {
        warn("leave the session", error);
    }
    if options.terminal {
        // In the background of a terminal what we say would stop us, if the terminal is set so.
        for number in [TTIN, TTOU] {
            if let Some(Err(error)) = Signal::new(number).map(signals::ignore) {
                warn("ignore a signal of the terminal", error);
            }
        }
    }
    let limit = process::raise_descriptor_limit()
        .inspect_err(|error| warn("raise the limit of descriptors", *error))
        .ok();
    if let Err(error) = reserve_slots() {
        warn("reserve descriptors for spawning", error);
    }
    limit
}

/// Standard output is a connection with `-i`, and services must not write into it.
fn inherit(options: &Options) -> Result<Inheritance, Errno> {
    let open_null = || {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(errno)
    };
    let reads_input = options.interactive || options.config.as_deref() == Some(Path::new("-"));
    Ok(Inheritance {
        null: open_null()?,
        input: if reads_input { open_null()? } else { copy(rustix::stdio::stdin())? },
        out: if options.interactive { open_null()? } else { copy(rustix::stdio::stdout())? },
        err: copy(rustix::stdio::stderr())?,
    })
}

fn listen(path: &Path, epoll: &Epoll) -> Result<Listener, StartError> {
    let what = format!("listen at \"{}\"", path.display());
    let listener = attempt(&*what, Listener::new(path))?;
    let added = epoll.add(&listener, Token::Listener.into(), Interest::READ);
    attempt(what, added)?;
    Ok(listener)
}

/// Makes the connections of the command line; each with whether it can be answered.
fn connect(
    options: &Options,
    epoll: &Epoll,
    connections: &mut Connections,
) -> Result<Vec<(ConnectionId, bool)>, StartError> {
    let mut first = Vec::new();
    if options.interactive {
        let ends = attempt("use standard input and output", standard_ends())?;
        let id = attempt("use standard input and output", connections.add(epoll, ends))?;
        if let Some(connection) = connections.get_mut(id) {
            let greeting = format!("info\tkeepd proxy {}\n", env!("CARGO_PKG_VERSION"));
            connection.send(|output| output.extend_from_slice(greeting.as_bytes()));
        }
        first.push((id, true));
    }
    if let Some(path) = &options.config {
        let what = format!("read configuration \"{}\"", path.display());
        let input = match path.to_str() {
            Some("-") if options.interactive => {
                return Err(StartError {
                    what: "take commands from standard input twice".to_owned(),
                    errno: None,
                });
            }
            Some("-") => copy_non_blocking(rustix::stdio::stdin()),
            Some(_) | None => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).map_err(errno)
            }
        };
        let ends = Ends::InputOnly(attempt(&*what, input)?);
        let id = attempt(what, connections.add(epoll, ends))?;
        first.push((id, false));
    }
    Ok(first)
}

fn standard_ends() -> Result<Ends, Errno> {
    Ok(Ends::Standard(
        copy_non_blocking(rustix::stdio::stdin())?,
        copy_non_blocking(rustix::stdio::stdout())?,
    ))
}

fn copy_non_blocking(descriptor: impl AsFd) -> Result<OwnedFd, Errno> {
    let copy = copy(descriptor)?;
    let flags = rustix::fs::fcntl_getfl(&copy).map_err(errno)?;
    rustix::fs::fcntl_setfl(&copy, flags | OFlags::NONBLOCK).map_err(errno)?;
    Ok(copy)
}

fn copy(descriptor: impl AsFd) -> Result<OwnedFd, Errno> {
    fcntl_dupfd_cloexec(descriptor, 3).map_err(errno)
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}
