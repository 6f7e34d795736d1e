//! The loop of the warden: what the kernel and the proxy say becomes news for the machine, and what
//! the machine asks for is done.

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use keepd_model::{Errno, Exit, Instant, Pid, Signal};
use keepd_os::channel::{Channel, MESSAGE_BYTES_MAX, Received};
use keepd_os::epoll::{Epoll, Interest, Ready};
use keepd_os::exec::Program;
use keepd_os::fatal::{self, FatalSignals};
use keepd_os::process::{self, DescriptorLimit};
use keepd_os::signals::{self, SignalReader};
use keepd_os::spawn::{Report, Spawned};
use keepd_os::{clock, exec, held, panic, proc, reap};

use super::fault::{self, Fault};
use super::holdings::Holdings;
use super::ledger::{Ledger, Unreadable};
use super::machine::{Begin, Ending, Input, Machine, Output, Recovery};
use super::say::say;
use super::setup::{Keys, Origin, Setup, WardenError, failed};
use super::start::start_proxy;
use crate::channel::ToWarden;
use crate::estate::Entry;
use crate::exit;

/// What ps(1) shows.
const NAME: &str = "keepd-warden";
/// The exit status after a fault that nobody answers.
const FAULT_STATUS: u8 = 111;
/// What somebody wants the proxy to hear, always.
const PASSED: [Signal; 6] =
    [Signal::INT, Signal::TERM, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2];
/// The kernel keeps one of each signal that is pending; more than a few say nothing more.
const REPEATED_MAX: u32 = 8;

const SIGNALS: u64 = 0;
const FATAL: u64 = 1;
const REPORT: u64 = 2;
const CHANNEL: u64 = 3;

/// Keeps a proxy alive until it ends in order, or nothing can be known any more; `tell` hears
/// of every proxy.
///
/// Returns how the process is to end. Nothing that is held is closed before that.
///
/// # Errors
///
/// What the warden cannot be without. A proxy that lives goes on in its place.
pub fn run(
    setup: &Setup,
    origin: Origin,
    tell: &mut dyn FnMut(News),
) -> Result<Ended, WardenError> {
    let mut warden = Warden::new(setup, origin)?;
    let ending = warden.follow(tell)?;
    Ok(Ended { ending, holdings: warden.holdings, descriptor_limit: warden.descriptor_limit })
}

/// What whoever made the warden may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// There is another proxy.
    Started(Pid),
    /// It has reached its loop.
    Ready,
}

/// How it ended, and what is still held.
#[derive(Debug)]
pub struct Ended {
    /// How the process is to end.
    pub ending: Ending,
    holdings: Holdings,
    descriptor_limit: Option<DescriptorLimit>,
}

impl Ended {
    /// Becomes another program, which has our process id and so what runs as its children. Returns
    /// only if it cannot be executed: its name, and why.
    pub fn become_other(&self, code: u8, arguments: &[Vec<u8>]) -> (String, Errno) {
        self.holdings.close_at_exec();
        let environment = exit::environment(code, b"terminated normally");
        let environment: Vec<Cow<'_, [u8]>> =
            environment.iter().map(|entry| Cow::Borrowed(entry.as_slice())).collect();
        let program = Program {
            file: None,
            arguments,
            environment: &environment,
            descriptor_limit: self.descriptor_limit,
        };
        let errno = exec::exec(&program);
        let name = arguments.first().map_or(&b""[..], Vec::as_slice);
        (String::from_utf8_lossy(name).into_owned(), errno)
    }
}

struct Warden<'a> {
    setup: &'a Setup,
    machine: Machine,
    epoll: Epoll,
    signals: SignalReader,
    fatal: FatalSignals,
    holdings: Holdings,
    ledger: Ledger,
    /// The limit from before we raised it.
    descriptor_limit: Option<DescriptorLimit>,
    proxy: Option<Proxy>,
    ending: Option<Ending>,
    buffer: Vec<u8>,
}

/// A proxy that is not reaped.
struct Proxy {
    pid: Pid,
    channel: Channel,
    /// The channel is in the epoll set.
    is_connected: bool,
    /// As long as its program may not run.
    spawned: Option<Spawned>,
    /// It has said that it is ready, and nobody was told.
    is_news: bool,
}

impl<'a> Warden<'a> {
    fn new(setup: &'a Setup, origin: Origin) -> Result<Self, WardenError> {
        let now = clock::monotonic_now();
        panic::end_at_panic("keepd: fatal: the warden ", FAULT_STATUS);
        // Without it people only miss the name.
        let _ = process::set_name(NAME);
        // Whoever started us may have ignored it, and then no end of a child could be had.
        signals::restore_default(Signal::CHLD).map_err(failed("handle signals"))?;
        let watched: Vec<Signal> = PASSED
            .into_iter()
            .chain([Signal::CHLD])
            .chain(setup.more_signals.iter().copied())
            .collect();
        let signals = SignalReader::new(&watched).map_err(failed("read signals"))?;
        let fatal = fatal::install(FAULT_STATUS).map_err(failed("handle signals"))?;
        process::become_subreaper().map_err(failed("become a subreaper"))?;
        let descriptor_limit = process::raise_descriptor_limit().ok();
        // The file may be another one by the time that it is needed.
        let _ = exec::own_program();
        let epoll = Epoll::new().map_err(failed("wait for news"))?;
        epoll.add(&signals, SIGNALS, Interest::READ).map_err(failed("wait for signals"))?;
        epoll.add(&fatal, FATAL, Interest::READ).map_err(failed("wait for signals"))?;
        let before = Before::of(&origin);
        let mut holdings = Holdings::begin(&setup.successor, origin)?;
        let fault = Fault::take();
        if let Some(fault) = &fault {
            say(format_args!("the warden goes on after a fault: {}", fault.what));
            holdings.note(Entry::Fault(now));
        }
        let mut warden = Self {
            machine: Machine::new(now, Begin::Alive, &[], None),
            setup,
            epoll,
            signals,
            fatal,
            ledger: Ledger::new(&setup.run_dir, &setup.instance),
            holdings,
            descriptor_limit,
            proxy: None,
            ending: None,
            buffer: vec![0; MESSAGE_BYTES_MAX],
        };
        let begin = warden.begin(before, fault.and_then(|fault| fault.channel))?;
        let rescue = setup.rescue.clone().filter(|_| process::id().get() == 1);
        let deaths: Vec<Instant> = warden.holdings.estate().deaths.iter().copied().collect();
        warden.machine = Machine::new(now, begin, &deaths, rescue);
        Ok(warden)
    }

    /// Finds out what there is.
    fn begin(&mut self, before: Before, channel: Option<RawFd>) -> Result<Begin, WardenError> {
        match before {
            Before::Nothing => Ok(Begin::Fresh),
            Before::Survivors => Ok(Begin::Lost),
            Before::Warden => {
                let channel = channel.and_then(|number| held::claim(number).ok());
                match self.holdings.estate().proxy.filter(|pid| is_child(*pid)).zip(channel) {
                    Some((pid, channel)) => {
                        self.connect(pid, channel.into(), None)?;
                        Ok(Begin::Alive)
                    }
                    None => Ok(Begin::Lost),
                }
            }
        }
    }

    fn connect(
        &mut self,
        pid: Pid,
        channel: Channel,
        spawned: Option<Spawned>,
    ) -> Result<(), WardenError> {
        let number = channel.as_fd().as_raw_fd();
        // For a warden in this process, should this one have a fault.
        let kept = held::set_close_on_exec(number, false);
        kept.map_err(failed("keep the channel to the proxy"))?;
        self.prepare_rescue(Some(&channel));
        let added = self.epoll.add(&channel, CHANNEL, Interest::READ);
        added.map_err(failed("wait for the proxy"))?;
        if let Some(spawned) = &spawned {
            let added = self.epoll.add(spawned, REPORT, Interest::READ);
            added.map_err(failed("wait for the proxy"))?;
        }
        self.proxy = Some(Proxy { pid, channel, is_connected: true, spawned, is_news: false });
        Ok(())
    }

    fn prepare_rescue(&self, channel: Option<&Channel>) {
        let prepared = fault::prepare(
            self.setup,
            &self.holdings,
            channel.map(|channel| channel.as_fd().as_raw_fd()),
            self.descriptor_limit,
        );
        if let Err(errno) = prepared {
            say(format_args!("warning: cannot prepare for a fault of the warden: {errno}"));
        }
    }

    /// Goes on until the end.
    fn follow(&mut self, tell: &mut dyn FnMut(News)) -> Result<Ending, WardenError> {
        let mut ready = Vec::new();
        // What ended before there was a reader of signals is not told any more.
        self.reap()?;
        loop {
            self.work(tell)?;
            if let Some(ending) = self.ending.take() {
                return Ok(ending);
            }
            self.epoll.wait(self.patience(), &mut ready).map_err(failed("wait for news"))?;
            self.on_ready(&ready)?;
            self.machine.handle_timeout(clock::monotonic_now());
        }
    }

    fn patience(&self) -> Option<Duration> {
        let due = self.machine.poll_timeout()?;
        Some(due.saturating_since(clock::monotonic_now()))
    }

    /// Takes news in this order: what a proxy says comes before its end.
    fn on_ready(&mut self, ready: &[Ready]) -> Result<(), WardenError> {
        let has = |token| ready.iter().any(|ready| ready.token == token);
        if has(CHANNEL) {
            self.hear()?;
        }
        if has(REPORT) {
            self.on_report()?;
        }
        if has(FATAL) {
            while let Some(signal) = self.fatal.take_pending() {
                self.tell(Input::Signal(signal, 1));
            }
        }
        if has(SIGNALS) {
            self.on_signals()?;
        }
        Ok(())
    }

    fn tell(&mut self, input: Input) {
        self.machine.handle_input(clock::monotonic_now(), input);
    }

    fn on_signals(&mut self) -> Result<(), WardenError> {
        let read = match self.setup.keys {
            Keys::Ours(_) => self.signals.read(),
            Keys::Everybody => self.signals.read_sent(),
        };
        let mut has_ended_children = false;
        for (signal, count) in read.map_err(failed("read signals"))? {
            if signal == Signal::CHLD {
                has_ended_children = true;
                continue;
            }
            let signal = match self.setup.keys {
                Keys::Ours(passed_on) => passed_on(signal),
                Keys::Everybody => signal,
            };
            self.tell(Input::Signal(signal, count));
        }
        if has_ended_children { self.reap() } else { Ok(()) }
    }

    /// Takes everything that the proxy has said.
    fn hear(&mut self) -> Result<(), WardenError> {
        while let Some(proxy) = &mut self.proxy
            && proxy.is_connected
        {
            let received = proxy.channel.receive(&mut self.buffer);
            match received.map_err(failed("hear the proxy"))? {
                Received::Nothing => return Ok(()),
                Received::Closed => {
                    proxy.is_connected = false;
                    let removed = self.epoll.remove(&proxy.channel);
                    removed.map_err(failed("hear the proxy"))?;
                }
                Received::Message { length, descriptor, is_cut } => {
                    self.on_message(length, descriptor, is_cut);
                }
            }
        }
        Ok(())
    }

    fn on_message(&mut self, length: usize, descriptor: Option<OwnedFd>, is_cut: bool) {
        let Some(message) = ToWarden::decode(&self.buffer[..length]) else {
            return say("warning: cannot understand the proxy: it is of another version");
        };
        match message {
            ToWarden::Hold(number, label) => match descriptor.filter(|_| !is_cut) {
                Some(descriptor) => self.holdings.hold(number, label, &descriptor),
                None => say(format_args!("warning: cannot hold {label:?}: it did not arrive")),
            },
            ToWarden::Drop(number) => self.holdings.release(number),
            ToWarden::Ready => {
                if let Some(proxy) = &mut self.proxy {
                    proxy.is_news = true;
                }
                self.tell(Input::Ready);
            }
            ToWarden::Exit(code) => self.tell(Input::Leaving(Ending::Exit(code))),
            ToWarden::Exec { code, arguments } => {
                self.tell(Input::Leaving(Ending::Become { code, arguments }));
            }
            ToWarden::Refused(why) => self.tell(Input::Refused(why)),
        }
    }

    fn on_report(&mut self) -> Result<(), WardenError> {
        let report = match self.proxy.as_mut().and_then(|proxy| proxy.spawned.as_mut()) {
            Some(spawned) => spawned.report(),
            None => return Ok(()),
        };
        if report == Report::Pending {
            return Ok(());
        }
        let spawned = self.proxy.as_mut().and_then(|proxy| proxy.spawned.take());
        if let Some(spawned) = spawned {
            self.epoll.remove(&spawned).map_err(failed("wait for the proxy"))?;
        }
        if let Report::Failed(failure) = report {
            self.disconnect()?;
            self.tell(Input::NotStarted(failure));
        }
        Ok(())
    }

    fn disconnect(&mut self) -> Result<(), WardenError> {
        if let Some(proxy) = self.proxy.take()
            && proxy.is_connected
        {
            self.epoll.remove(&proxy.channel).map_err(failed("hear the proxy"))?;
        }
        Ok(())
    }

    /// Takes every child that has ended: first it is written down, then it is gone.
    fn reap(&mut self) -> Result<(), WardenError> {
        while let Some((pid, exit)) = reap::peek().map_err(failed("wait for children"))? {
            if self.proxy.as_ref().is_some_and(|proxy| proxy.pid == pid) {
                self.on_end_of_proxy(exit)?;
            } else if let Err(Unreadable::Unusable(why)) = self.ledger.record(pid, exit) {
                say(format_args!("warning: cannot write down the end of process {pid}: {why}"));
            }
            reap::consume(pid).map_err(failed("wait for children"))?;
        }
        Ok(())
    }

    fn on_end_of_proxy(&mut self, exit: Exit) -> Result<(), WardenError> {
        // What it said last: that it ends as it was asked to, or that its program never ran.
        self.hear()?;
        self.on_report()?;
        if self.proxy.is_some() {
            self.disconnect()?;
            self.tell(Input::Ended(exit));
        }
        Ok(())
    }

    /// Does what the machine asks for.
    fn work(&mut self, tell: &mut dyn FnMut(News)) -> Result<(), WardenError> {
        if self.proxy.as_mut().is_some_and(|proxy| std::mem::take(&mut proxy.is_news)) {
            tell(News::Ready);
        }
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Start { safe } => self.start(safe.as_deref(), tell)?,
                Output::Remember(at) => self.holdings.note(Entry::Death(at)),
                Output::Recover => {
                    let recovery = self.recover();
                    self.tell(Input::Recovered(recovery));
                }
                Output::Pass(signal, count) => self.pass(signal, count),
                Output::Kill => self.pass(Signal::KILL, 1),
                Output::Say(text) => say(text),
                Output::End(ending) => self.ending = Some(ending),
            }
        }
        Ok(())
    }

    fn start(&mut self, safe: Option<&str>, tell: &mut dyn FnMut(News)) -> Result<(), WardenError> {
        self.prepare_rescue(None);
        match start_proxy(self.setup, &mut self.holdings, safe, self.descriptor_limit) {
            Ok((spawned, channel)) => {
                let pid = spawned.pid();
                self.holdings.note(Entry::Proxy(pid));
                self.connect(pid, channel, Some(spawned))?;
                self.tell(Input::Started);
                tell(News::Started(pid));
            }
            Err(failure) => self.tell(Input::NotStarted(failure)),
        }
        Ok(())
    }

    fn pass(&self, signal: Signal, count: u32) {
        if let Some(proxy) = &self.proxy {
            for _ in 0..count.min(REPEATED_MAX) {
                // It is our child and not reaped: the number is its own.
                let _ = signals::send(proxy.pid, signal);
            }
        }
    }

    /// Takes back every intent, and holds everything that runs.
    fn recover(&mut self) -> Recovery {
        let running = match self.ledger.recover() {
            Ok(running) => running,
            Err(Unreadable::Absent) => return Recovery::Absent,
            Err(Unreadable::Unusable(why)) => return Recovery::Unusable(why),
        };
        let ledger = &self.ledger;
        let is_told = |pid: Pid, held: &OwnedFd| {
            // Somebody may still want to know how it ended.
            let run = running.iter().find(|(_, named)| *named == pid);
            run.is_some_and(|(slot, _)| ledger.still_holds(*slot, pid, held))
        };
        self.holdings.retain_processes(is_told);
        for (slot, pid) in &running {
            if self.holdings.holds_process(*pid) {
                continue;
            }
            match ledger.take_hold(*slot, *pid) {
                Ok(Some(held)) => {
                    if let Err(errno) = self.holdings.hold_process(*pid, &held) {
                        say(format_args!("warning: cannot hold process {pid}: {errno}"));
                    }
                }
                Ok(None) => {}
                Err(errno) => say(format_args!("warning: cannot hold process {pid}: {errno}")),
            }
        }
        Recovery::Sound
    }
}

/// What there was before, without what it left.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    Survivors,
    Warden,
}

impl Before {
    fn of(origin: &Origin) -> Self {
        match origin {
            Origin::Fresh { .. } => Self::Nothing,
            Origin::Survivors { .. } => Self::Survivors,
            Origin::Successor { .. } => Self::Warden,
        }
    }
}

/// Reports whether a process is a child of ours that is not reaped.
fn is_child(pid: Pid) -> bool {
    proc::stat(pid).is_some_and(|stat| stat.parent == Some(process::id()))
}
