//! Everything that is done once, before the loop, in daemonproxy's order.
//!
//! What fails here is a fatal condition: it ends the proxy, or hands over to the rescue program,
//! or, under a guard, is said and gone without.

use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use keepd_compat::{Client, FRONT, Front, Limits};
use keepd_engine::proxy::{Fact, Input, Proxy, Settings};
use keepd_model::{Errno, LogLevel, Signal};
use keepd_os::daemon::{self, Fork, Standard};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::exec;
use keepd_os::fatal::{self, FatalSignals};
use keepd_os::handle;
use keepd_os::signals::{self, SignalReader};
use keepd_os::spawn::reserve_slots;
use keepd_os::{clock, process, random, spare};
use keepd_wire::FEATURES;
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;

use crate::adopt::Adoption;
use crate::children::{Children, Inheritance};
use crate::connections::{Connections, Ends};
use crate::descriptors::Initial;
use crate::environment::Base;
use crate::exit::{self, Ended, Exit};
use crate::foreign::Foreign;
use crate::groups::Groups;
use crate::holder::Holder;
use crate::ledger::{self, Ledger};
use crate::legacy::Legacy;
use crate::listener::{Admission, Listener};
use crate::log::{Destination, Log};
use crate::memory::{self, Memory};
use crate::notify::NotifySockets;
use crate::options::Options;
use crate::pool::{HANDLES, SERVICES};
use crate::pump::{Moment, Pump};
use crate::ready::ReadyPipes;
use crate::run::{QUIET, Shell};
use crate::token::Token;

/// The proxy makes files for itself only; services have a mask of their own, daemonproxy's this
/// one.
const UMASK: u32 = 0o077;
/// Descriptors kept back for looking at groups and ending them: a folder, a file and a few
/// processes.
const SPARES: usize = 8;
/// The handles that are always there, in the machine and here.
const BUILT_IN_HANDLES: usize = 7;
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

/// What is known while the proxy starts.
pub(crate) struct Starting<'a> {
    pub(crate) name: &'a str,
    pub(crate) options: &'a Options,
    pub(crate) log: Log,
    pub(crate) exit: Exit,
    /// The code without which there is no end.
    pub(crate) guard: Option<i64>,
    /// What whoever started us wanted to be ignored, and that we do not handle.
    pub(crate) ignored: Vec<Signal>,
}

/// What was opened before the process may go on in another one.
struct Opened {
    null: OwnedFd,
    initial: Initial,
    listener: Option<Listener>,
    /// Connections of the command line.
    first: Vec<(Ends, Client)>,
    limits: Limits,
    /// What the warden gave, if there is one.
    legacy: Option<Legacy>,
}

impl Starting<'_> {
    /// Prepares this process and everything that the loop needs.
    pub(crate) fn start(mut self, inherited: Vec<OwnedFd>) -> Result<Shell, Ended> {
        rustix::process::umask(Mode::from_raw_mode(UMASK));
        let null = self.null()?;
        let limits = self.limits();
        let (inherited, mut legacy) = self.legacy(inherited)?;
        let initial = self.handles(&null, inherited, limits, legacy.as_mut())?;
        let signals = self.signals()?;
        let listener = self.listen(legacy.as_mut())?;
        let first = self.connections_of_the_command_line(legacy.as_ref())?;
        let mut opened = Opened { null, initial, listener, first, limits, legacy };
        self.daemonize(&mut opened)?;
        if self.options.lock_memory
            && let Err(error) = daemon::lock_memory()
        {
            self.log.say(LogLevel::Error, format_args!("cannot lock memory (mlockall): {error}"));
        }
        self.assemble(opened, signals)
    }

    /// Opens the null device. A guarded proxy goes on without: process 1 of a folder without
    /// devices can still start what makes them.
    fn null(&mut self) -> Result<OwnedFd, Ended> {
        match self.want("open \"/dev/null\"", open_null())? {
            Some(null) => Ok(null),
            None => {
                let pipe = handle::pipe(false).map_err(|error| error.errno);
                // Nobody writes into it, so that it is at its end like the device.
                self.require("make a pipe", pipe).map(|(reader, _)| reader)
            }
        }
    }

    /// What the proxy cannot be without. Not even a guard helps.
    fn require<T>(&mut self, what: &str, result: Result<T, Errno>) -> Result<T, Ended> {
        self.require_or(exit::START, what, result)
    }

    /// What the handles that are always there cannot be without.
    fn require_handle<T>(&mut self, what: &str, result: Result<T, Errno>) -> Result<T, Ended> {
        self.require_or(exit::HANDLES, what, result)
    }

    fn require_or<T>(
        &mut self,
        code: u8,
        what: &str,
        result: Result<T, Errno>,
    ) -> Result<T, Ended> {
        result.map_err(|error| {
            let message = format!("cannot {what}: {error}");
            match self.exit.fatal(&mut self.log, code, &message, None) {
                Ok(()) => Ended(code),
                Err(ended) => ended,
            }
        })
    }

    /// What the proxy can be without, if a guard wants it to go on.
    fn want<T>(&mut self, what: &str, result: Result<T, Errno>) -> Result<Option<T>, Ended> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let message = format!("cannot {what}: {error}");
                self.exit.fatal(&mut self.log, exit::START, &message, None).map(|()| None)
            }
        }
    }

    /// Says what goes on in a weaker way.
    fn warn(&mut self, what: &str, errno: Errno) {
        self.log.say(LogLevel::Warning, format_args!("cannot {what}: {errno}"));
    }

    /// Returns the pools, within their ranges.
    fn limits(&mut self) -> Limits {
        let mut pool = |text: Option<_>, range: crate::pool::Range| {
            let (pool, warnings) = range.clamp(text?);
            for warning in warnings {
                self.log.say(LogLevel::Warning, warning);
            }
            Some(pool)
        };
        Limits {
            handles: pool(self.options.handle_pool, HANDLES),
            services: pool(self.options.service_pool, SERVICES),
        }
    }

    /// Takes what a warden gave, and what a predecessor left; returns what is left of the inherited
    /// descriptors. Nothing can be gone without.
    fn legacy(&mut self, inherited: Vec<OwnedFd>) -> Result<(Vec<OwnedFd>, Option<Legacy>), Ended> {
        self.exit.has_warden = self.options.estate.is_some();
        if !self.exit.has_warden {
            return Ok((inherited, None));
        }
        // Held descriptors have high numbers.
        self.raise_descriptor_limit();
        // Before the file is replaced by another version.
        let own_program = exec::own_program();
        self.require_or(exit::LEDGER, "open the program of this process", own_program)?;
        match Legacy::take(self.options, inherited) {
            Ok((inherited, legacy)) => {
                let repairs = legacy.resumed.iter().flat_map(|resumed| &resumed.repairs);
                for sentence in repairs {
                    self.log.say(LogLevel::Warning, sentence);
                }
                Ok((inherited, Some(legacy)))
            }
            Err(why) => Err(self.refuse(&why)),
        }
    }

    /// Ends because of the ledger, also under a guard: whatever went on would not know what runs.
    fn refuse(&mut self, why: &str) -> Ended {
        self.log.say(LogLevel::Fatal, why);
        self.log.flush(None, clock::monotonic_now());
        Ended(exit::LEDGER)
    }

    fn reads_commands_from_input(&self) -> bool {
        self.options.interactive || self.options.config.as_deref() == Some(Path::new("-"))
    }

    /// Makes the handles of the start. A stream that is a connection is not a handle: services must
    /// not write into it.
    fn handles(
        &mut self,
        null: &OwnedFd,
        inherited: Vec<OwnedFd>,
        limits: Limits,
        legacy: Option<&mut Legacy>,
    ) -> Result<Initial, Ended> {
        let legacy = match legacy {
            Some(legacy) if legacy.goes_on => return Ok(legacy.take_handles()),
            legacy => legacy,
        };
        let copy_of_null = copy(null);
        let mut initial = Initial::new(self.require_handle("copy \"/dev/null\"", copy_of_null)?);
        let standard = handle::standard().map_err(|error| error.errno);
        let [input, output, error] =
            self.require_handle("keep the standard descriptors", standard)?;
        initial.inherit("stdin", input, Some(Standard::Input));
        initial.inherit("stdout", output, Some(Standard::Output));
        initial.inherit("stderr", error, Some(Standard::Error));
        if self.reads_commands_from_input() {
            let copy = copy(null);
            initial.redirect("stdin", self.require_handle("copy \"/dev/null\"", copy)?);
        }
        if self.options.interactive {
            let copy = copy(null);
            initial.redirect("stdout", self.require_handle("copy \"/dev/null\"", copy)?);
        }
        let room = limits.handles.map_or(usize::MAX, |pool| pool.count - BUILT_IN_HANDLES);
        let count = inherited.len();
        for descriptor in inherited.into_iter().take(room) {
            let name = format!("fd_{}", descriptor.as_raw_fd());
            initial.inherit(&name, descriptor, None);
        }
        if count > room {
            let closed = count - room;
            self.log.say(
                LogLevel::Warning,
                format_args!("the handle pool is full: {closed} inherited descriptors are closed"),
            );
        }
        if let Some(legacy) = legacy {
            legacy.add_handles(&mut initial);
        }
        Ok(initial)
    }

    /// Signals are read from a descriptor, except those that are fatal.
    fn signals(&mut self) -> Result<(SignalReader, FatalSignals), Ended> {
        let made = (|| {
            // Who started us may have ignored it, and then no status of any child could be had.
            signals::restore_default(Signal::CHLD)?;
            let reader = SignalReader::new(&HEARD)?;
            for signal in IGNORED_NUMBERS.into_iter().filter_map(Signal::new) {
                signals::ignore(signal)?;
            }
            Ok((reader, fatal::install(exit::FATAL_SIGNAL)?))
        })();
        match made {
            Ok(signals) => {
                fatal::set_last_words(|signal| {
                    format!("fatal: {}\n", exit::fatal_text(signal)).into_bytes()
                });
                self.exit.prepare_rescue(&mut self.log);
                Ok(signals)
            }
            Err::<_, Errno>(error) => {
                let message = format!("cannot set up signals: {error}");
                self.exit.fatal(&mut self.log, exit::SIGNALS, &message, None)?;
                Err(Ended(exit::SIGNALS))
            }
        }
    }

    /// An instance of keepd has users of its own to protect; otherwise the file decides alone.
    fn admission(&self) -> Admission {
        if self.options.instance.is_some() { Admission::ByUser } else { Admission::ByFile }
    }

    /// Listens where the command line says so, or where a predecessor did at last.
    fn listen(&mut self, legacy: Option<&mut Legacy>) -> Result<Option<Listener>, Ended> {
        let admission = self.admission();
        let mut legacy = legacy;
        if let Some(legacy) = legacy.as_deref_mut()
            && legacy.goes_on
        {
            let left = legacy.listener.take();
            return Ok(left.map(|(path, socket)| Listener::adopt(&path, socket, admission)));
        }
        let Some(path) = &self.options.socket else {
            return Ok(None);
        };
        let holder = legacy.map_or_else(Holder::none, |legacy| legacy.link.holder.clone());
        let listener = Listener::new(path, admission).map(|listener| listener.hold(&holder));
        self.want(&format!("listen at \"{}\"", path.display()), listener)
    }

    fn connections_of_the_command_line(
        &mut self,
        legacy: Option<&Legacy>,
    ) -> Result<Vec<(Ends, Client)>, Ended> {
        let is_configured = legacy
            .and_then(|legacy| legacy.resumed.as_ref())
            .is_some_and(|resumed| resumed.is_configured);
        let mut first = Vec::new();
        if self.options.interactive {
            let ends = standard_ends();
            let ends = self.want("use standard input and output", ends)?;
            first.extend(ends.map(|ends| (ends, Client::Interactive)));
        }
        if let Some(path) = self.options.config.as_ref().filter(|_| !is_configured) {
            let input = match path.to_str() {
                Some("-") if self.options.interactive => Err(Errno::EBUSY),
                Some("-") => copy_non_blocking(rustix::stdio::stdin()),
                Some(_) | None => {
                    let flags =
                        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                    rustix::fs::open(path, flags, Mode::empty()).map_err(errno)
                }
            };
            let input = self.want(&format!("read configuration \"{}\"", path.display()), input)?;
            first.extend(input.map(|input| (Ends::Stream(input), Client::Configuration)));
        }
        Ok(first)
    }

    /// `-D`: goes on as another process, whose number the first one says.
    fn daemonize(&mut self, opened: &mut Opened) -> Result<(), Ended> {
        if !self.options.daemonize {
            return Ok(());
        }
        if self.options.interactive || std::process::id() == 1 {
            let why = "option \"--daemonize\" is ignored by an interactive proxy and process 1";
            self.log.say(LogLevel::Warning, why);
            return Ok(());
        }
        match self.want("go on in the background", daemon::fork_into_background())? {
            None => return Ok(()),
            Some(Fork::Parent(pid)) => {
                let mut out = std::io::stdout();
                // The number is all that the caller gets; without it the daemon runs all the same.
                let _ = write!(out, "{pid}").and_then(|()| out.flush());
                return Err(Ended(0));
            }
            Some(Fork::Child) => {}
        }
        let keeps_input = self.options.config.as_deref() == Some(Path::new("-"));
        let standard = [
            (Standard::Input, "stdin", keeps_input),
            (Standard::Output, "stdout", false),
            (Standard::Error, "stderr", false),
        ];
        self.log.set_destination(None, Destination::Nowhere);
        for (number, name, is_claimed) in standard {
            let copy_of_null = copy(&opened.null);
            opened.initial.redirect(name, self.require_handle("copy \"/dev/null\"", copy_of_null)?);
            if !is_claimed && let Err(error) = daemon::replace_by_null(number) {
                self.warn("let go of a standard descriptor", error);
            }
        }
        Ok(())
    }

    /// Finds the place of this process among others. What cannot be had is said and done without.
    fn take_place(&mut self) {
        if let Err(error) = process::set_name(self.name) {
            self.warn("set the name of the process", error);
        }
        // Only who marks what it starts can tell its orphans from those of others.
        let marks = self.options.instance.is_some() || self.options.run_dir.is_some();
        if marks && let Err(error) = process::become_subreaper() {
            self.warn("adopt orphaned processes", error);
        }
        if self.options.own_session
            && let Err(error) = process::new_session()
        {
            self.warn("leave the session", error);
        }
        if self.options.terminal {
            // In the background of a terminal what we say would stop us, if it is set so.
            for number in [TTIN, TTOU] {
                if let Some(Err(error)) = Signal::new(number).map(signals::ignore) {
                    self.warn("ignore a signal of the terminal", error);
                }
            }
        }
        self.raise_descriptor_limit();
        self.exit.prepare_rescue(&mut self.log);
        if let Err(error) = spare::keep(SPARES) {
            self.warn("keep descriptors back", error);
        }
        if let Err(error) = reserve_slots() {
            self.warn("reserve descriptors for spawning", error);
        }
    }

    /// Raises the limit of descriptors, once: what it was is given back to children.
    fn raise_descriptor_limit(&mut self) {
        if self.exit.descriptor_limit.is_some() {
            return;
        }
        match process::raise_descriptor_limit() {
            Ok(limit) => self.exit.descriptor_limit = Some(limit),
            Err(error) => self.warn("raise the limit of descriptors", error),
        }
    }

    /// Takes the memory of the pools, or keeps some back.
    fn take_memory(&mut self, limits: Limits) -> Result<Memory, Ended> {
        let has_pools = self.want("take the memory of the pools", memory::take_pools(limits))?;
        if has_pools != Some(true)
            && let Err(error) = memory::reserve()
        {
            self.warn("keep memory back", error);
        }
        Ok(Memory::new())
    }

    /// Opens the cgroup, or does without.
    fn groups(&mut self) -> Groups {
        Groups::new(self.options.group.as_deref()).unwrap_or_else(|error| {
            self.log.say(
                LogLevel::Warning,
                format_args!("cannot use the cgroup: {error}; processes are found by a weaker way"),
            );
            Groups::without_cgroup()
        })
    }

    /// Puts everything together. The epoll set is made last: what it hears belongs to the process
    /// that made it.
    fn assemble(
        mut self,
        opened: Opened,
        (signals, fatal): (SignalReader, FatalSignals),
    ) -> Result<Shell, Ended> {
        self.take_place();
        let epoll = Epoll::new();
        let epoll = self.require("make an epoll set", epoll)?;
        let added = epoll
            .add(&signals, Token::Signals.into(), Interest::READ)
            .and_then(|()| epoll.add(&fatal, Token::Fatal.into(), Interest::READ));
        self.require("wait for signals", added)?;
        let inheritance = inherit(&opened.null, self.reads_commands_from_input(), self.options);
        let inheritance = self.require("keep the standard descriptors", inheritance)?;
        let groups = self.groups();
        let seed = random::seed();
        let seed = self.require("read random bytes", seed)?;
        let mut legacy = opened.legacy;
        let holder = legacy.as_ref().map_or_else(Holder::none, |legacy| legacy.link.holder.clone());
        let handles = opened.initial.reports.clone();
        let descriptors = opened.initial.into_descriptors(&holder);
        let (ledger, facts) = self.ledger(legacy.as_mut())?;
        let admission = self.admission();
        // It is as large as it happens to be, and stays as it is: not a matter of the region.
        let base = Base::of_this_process(self.options.instance.clone());
        let memory = self.take_memory(opened.limits)?;
        let Self { options, log, exit, guard, ignored, .. } = self;
        let settings = Settings {
            seed,
            features: FEATURES.map(str::to_owned).to_vec(),
            handles,
            guard,
            exit_exec: exit.arguments.clone(),
            log_filter: log.filter(),
            is_log_closed: log.is_closed(),
            description_bytes_max: opened.limits.handles.map(|pool| pool.bytes + 1),
            records: ledger.is_some(),
            safe_mode: options.safe.clone(),
        };
        let mut shell = Shell {
            epoll,
            signals,
            fatal,
            machine: Proxy::new(settings),
            front: Front::new(opened.limits),
            descriptors,
            now: Moment::now(),
            log,
            memory,
            connections: Connections::new(memory::connections_max(opened.limits)),
            listener: None,
            admission,
            pump: Pump::new(holder.clone()),
            groups,
            notify: NotifySockets::new(options.run_dir.clone(), holder.clone()),
            ready: ReadyPipes::new(holder),
            children: Children::new(
                base,
                inheritance,
                options.terminal,
                exit.descriptor_limit,
                ignored,
            ),
            ledger,
            link: None,
            foreign: Foreign::default(),
            adoption: Adoption::default(),
            is_journal_full: false,
            journal_error: None,
            exit,
            has_ended_children: false,
            watches_output: false,
            rest_due: Some(clock::monotonic_now().saturating_add(QUIET)),
            ending: None,
            is_work_held: false,
        };
        shell.inherit(legacy, facts);
        shell.tell(Input::Connected { connection: FRONT, output: true });
        shell.begin(opened.listener, opened.first)
    }

    /// Returns the ledger, where there is a warden: that of a predecessor with what it accepted, or
    /// a new one. What is held was told to the warden before there is one.
    fn ledger(
        &mut self,
        legacy: Option<&mut Legacy>,
    ) -> Result<(Option<Ledger>, Option<Vec<Fact>>), Ended> {
        let Some(legacy) = legacy else {
            return Ok((None, None));
        };
        if let Some(resumed) = legacy.resumed.take() {
            return Ok((Some(resumed.ledger), Some(resumed.facts)));
        }
        legacy.link.holder.flush();
        match ledger::make(&legacy.run_dir, &legacy.instance) {
            Ok(ledger) => Ok((Some(ledger), None)),
            Err(error) => Err(self.refuse(&error.to_string())),
        }
    }
}

impl Shell {
    /// Takes over what a predecessor left, and the connection to the warden.
    fn inherit(&mut self, legacy: Option<Legacy>, facts: Option<Vec<Fact>>) {
        let Some(legacy) = legacy else {
            return;
        };
        let Legacy { link, left, .. } = legacy;
        self.link = Some(link);
        if let Some(facts) = facts {
            self.take_over(facts, left);
        }
    }

    /// Takes what was opened into the epoll set.
    fn begin(
        mut self,
        listener: Option<Listener>,
        first: Vec<(Ends, Client)>,
    ) -> Result<Self, Ended> {
        if let Some(listener) = listener {
            let added = self.epoll.add(&listener, Token::Listener.into(), Interest::READ);
            self.fatal_unless("wait for connections", added)?;
            self.listener = Some(listener);
        }
        for (ends, client) in first {
            let added = self.connections.add(&self.epoll, ends);
            if let Some(connection) = self.fatal_unless("read commands", added)? {
                self.greet(connection, client);
            }
        }
        Ok(self)
    }

    fn fatal_unless<T>(
        &mut self,
        what: &str,
        result: Result<T, Errno>,
    ) -> Result<Option<T>, Ended> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let message = format!("cannot {what}: {error}");
                self.exit.fatal(&mut self.log, exit::START, &message, None).map(|()| None)
            }
        }
    }
}

/// Returns the signals that were ignored when this process began, without those that it handles:
/// daemonproxy's services have them ignored too. To be asked before anything changes.
pub(crate) fn ignored_by_the_starter() -> Vec<Signal> {
    let ignored_here = IGNORED_NUMBERS.into_iter().filter_map(Signal::new);
    let handled: Vec<Signal> =
        HEARD.into_iter().chain(ignored_here).chain(fatal::SIGNALS).collect();
    let mut ignored = signals::ignored_signals();
    ignored.retain(|signal| !handled.contains(signal));
    ignored
}

fn open_null() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(errno)
}

/// Returns what `log.mode = "inherit"` hands on. What is a connection is not handed on.
fn inherit(
    null: &OwnedFd,
    input_is_connection: bool,
    options: &Options,
) -> Result<Inheritance, Errno> {
    Ok(Inheritance {
        null: copy(null)?,
        has_input: !input_is_connection,
        has_output: !options.interactive,
    })
}

fn standard_ends() -> Result<Ends, Errno> {
    if handle::was_closed(0) || handle::was_closed(1) {
        return Err(Errno::EBADF);
    }
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
