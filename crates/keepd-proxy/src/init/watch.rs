//! While the command runs: signals go to it, and orphans are reaped.

use std::time::Duration;

use keepd_model::{Exit, Pid, Signal};
use keepd_os::reap::{self, Change};
use keepd_os::sigwait::{self, Arrival};
use keepd_os::{code, signals, terminal};
use rustix::event::{Timespec, poll};

use super::farewell::{Family, Farewell};
use super::options::Options;
use super::say::say;
use super::start::take_terminal_back;

/// Orphans reaped before the next look for a signal: thousands that end at once must not keep TERM
/// from the command.
const REAPED_AT_ONCE_MAX: usize = 64;

/// How long a command runs until it looks as if it stayed.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// From one look at the children to the next where no signal can be waited for.
const WITHOUT_SIGNALS: Duration = Duration::from_millis(100);

/// The command, and what is known of it.
pub(super) struct Watch<'a> {
    options: &'a Options,
    family: Family,
    /// The process that was started, which is not reaped yet.
    command: Pid,
    /// The command got the terminal from us, and would get it again.
    terminal: bool,
    /// A signal has stopped the command.
    stopped: bool,
    /// The last signal that we handed on was one that stops, so it is meant.
    stop_asked: bool,
}

/// What came of one visit to the children.
pub(super) struct Visit {
    /// How the command ended, if it did.
    pub(super) end: Option<Exit>,
    /// There may be more to reap.
    pub(super) more: bool,
    /// There is nobody left.
    pub(super) childless: bool,
    /// Somebody was reaped, so there may be new orphans.
    pub(super) reaped: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(options: &'a Options, family: Family, command: Pid, terminal: bool) -> Self {
        Self { options, family, command, terminal, stopped: false, stop_asked: false }
    }

    /// Returns when the command has ended, and what it left as well, as far as it is ours.
    pub(super) fn run(mut self) -> Exit {
        let mut patience = Some(SETTLED_AFTER);
        let exit = loop {
            let visit = self.visit_children();
            if let Some(exit) = visit.end {
                break exit;
            }
            if visit.childless {
                // Its end was taken from us, which only a debugger could do. Nobody knows more.
                break Exit::Unknown;
            }
            let timeout = if visit.more { Some(Duration::ZERO) } else { patience };
            if let Some(arrival) = next_arrival(timeout) {
                self.on_arrival(arrival);
            } else if !visit.more && patience.take().is_some() {
                // What brought us here is most of the program, and not needed again. If it stays,
                // it only takes room.
                let _ = code::give_back_code();
            }
        };
        if self.terminal && !self.stopped {
            take_terminal_back();
        }
        Farewell::new(self.family, self.options).say();
        exit
    }

    /// Reaps some of who has ended.
    fn visit_children(&mut self) -> Visit {
        let command = self.command;
        let mut stopped_by = None;
        let visit = visit_children(self.options, |change| match change {
            Change::Ended(pid, exit) if pid == command => Some(exit),
            Change::Stopped(pid, signal) => {
                if pid == command {
                    stopped_by = Some(signal);
                }
                None
            }
            Change::Ended(..) | Change::Nothing | Change::Childless => None,
        });
        if let (Some(signal), None) = (stopped_by, visit.end) {
            self.on_stop(signal);
        }
        visit
    }

    fn on_arrival(&mut self, Arrival { signal, by_kernel }: Arrival) {
        match signal {
            // The loop looks after the children anyway.
            Signal::CHLD => {}
            // Made for us as a process in the background of a terminal. From a person they are
            // like any other: some servers count their workers by them.
            Signal::TTIN | Signal::TTOU if by_kernel => {}
            Signal::CONT if self.stopped => self.go_on(),
            _ => {
                if let Some(signal) = self.options.rewritten(signal) {
                    self.hand_on(signal);
                }
            }
        }
    }

    fn hand_on(&mut self, signal: Signal) {
        self.stop_asked =
            [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&signal);
        // It may just have ended, or have taken another user's rights; its end will be seen.
        let _ = if self.options.group {
            signals::send_number(self.command, signal.get().into(), true)
        } else {
            signals::send(self.command, signal)
        };
    }

    /// The command was stopped by a key, or as a process in the background: so are we, for a shell
    /// above that waits for all of the job.
    fn on_stop(&mut self, signal: Signal) {
        self.stopped = true;
        if ![Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&signal) {
            return;
        }
        if self.family != Family::Namespace && sigwait::stop_own_group() {
            // The CONT that woke us is the next signal.
            return;
        }
        // No shell is above. In our place, the command would not have been stopped by a key: nobody
        // could make it go on.
        if signal == Signal::TSTP && self.terminal && !self.stop_asked {
            self.go_on();
        }
    }

    /// Continues the whole group, which a key has stopped as a whole. If a shell has put us into
    /// the foreground, that is where the command belongs.
    fn go_on(&mut self) {
        self.stopped = false;
        self.stop_asked = false;
        if self.terminal && terminal::is_foreground(rustix::stdio::stdin()) {
            // The terminal may have been hung up.
            let _ = terminal::set_foreground(rustix::stdio::stdin(), self.command);
        }
        // It may just have ended.
        let _ = signals::send_number(self.command, Signal::CONT.get().into(), true);
    }
}

/// Waits for a signal.
pub(super) fn next_arrival(timeout: Option<Duration>) -> Option<Arrival> {
    match sigwait::wait(timeout) {
        Ok(arrival) => arrival,
        Err(_) => {
            // A filter of system calls forbids it. Without signals there are still ends to wait
            // for, but not in a circle.
            let pause = Timespec::try_from(WITHOUT_SIGNALS).unwrap_or_default();
            let _ = poll(&mut [], Some(&pause));
            None
        }
    }
}

/// Takes changes of children, up to a limit. `end_of` tells the end of the command from those of
/// orphans.
pub(super) fn visit_children(
    options: &Options,
    mut end_of: impl FnMut(Change) -> Option<Exit>,
) -> Visit {
    let mut orphans = Orphans::default();
    let mut visit = Visit { end: None, more: true, childless: false, reaped: false };
    for _ in 0..REAPED_AT_ONCE_MAX {
        // The call cannot fail but for want of children, which is no failure.
        let change = reap::take_change().unwrap_or(Change::Nothing);
        match change {
            Change::Childless | Change::Nothing => {
                visit.more = false;
                visit.childless = change == Change::Childless;
                break;
            }
            Change::Ended(pid, exit) => match end_of(change) {
                Some(exit) => {
                    visit.end = Some(exit);
                    break;
                }
                None => orphans.add(pid, exit),
            },
            Change::Stopped(..) => {
                end_of(change);
            }
        }
    }
    visit.reaped = orphans.count > 0;
    if options.warn {
        orphans.report();
    }
    visit
}

/// Orphans of one visit, for one line about all of them.
#[derive(Default)]
struct Orphans {
    count: usize,
    last: Option<(Pid, Exit)>,
}

impl Orphans {
    fn add(&mut self, pid: Pid, exit: Exit) {
        self.count += 1;
        self.last = Some((pid, exit));
    }

    fn report(&self) {
        match self.last {
            None => {}
            Some((pid, exit)) if self.count == 1 => {
                say(format_args!("reaped orphan {pid}: {exit}"));
            }
            Some((pid, exit)) => {
                let count = self.count;
                say(format_args!("reaped {count} orphans, the last one {pid}: {exit}"));
            }
        }
    }
}
