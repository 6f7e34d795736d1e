//! What the warden does about its proxy, as a pure machine: when a lost one is replaced, which
//! signals wait, and how all of it ends.

use std::collections::VecDeque;
use std::time::Duration;

use keepd_model::{Exit, Instant, Signal, SpawnFailure};

/// From a death of the proxy to the next start; the last one repeats.
const DELAYS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// A proxy that lived so long has nothing to do with the deaths before.
const STEADY: Duration = Duration::from_secs(10);
/// So many deaths within [`STEADY`] of each other are answered by a proxy that only adopts and
/// reaps.
const DEATHS_MAX: usize = 5;
/// The least between two starts. Somebody who kills from outside does not make us spin.
const START_GAP: Duration = Duration::from_millis(10);
/// How long a proxy may take to reach its loop until it gets signals all the same.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long a proxy may take to end once it has said so.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);
/// The exit code of daemonproxy where a rescue program takes over.
const FATAL: u8 = 4;

/// News for the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Answer to [`Output::Start`]: there is a process.
    Started,
    /// No program will run: there is no process, or its set-up failed. Its end is no further news.
    NotStarted(SpawnFailure),
    /// The proxy has reached its loop.
    Ready,
    /// The proxy says that it is about to end, because it was asked to.
    Leaving(Ending),
    /// The proxy ends because nobody can go on with what a predecessor left, for this reason.
    Refused(String),
    /// The proxy has ended.
    Ended(Exit),
    /// Answer to [`Output::Recover`].
    Recovered(Recovery),
    /// Somebody wants this signal to reach the proxy.
    Signal(Signal, u32),
}

/// How all of it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Exit(u8),
    /// As another program, in this process.
    Become {
        /// The code that the program is told, and that is ours if it cannot be executed.
        code: u8,
        /// Program and arguments; not empty.
        arguments: Vec<Vec<u8>>,
    },
    /// The first proxy could not be started; nothing runs.
    NotStarted(SpawnFailure),
    /// The proxy was lost and it is not known what runs: nothing is touched.
    Lost {
        /// Why that is not known.
        why: String,
    },
}

/// Whether a successor can know what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The ledger is sound: no child that is not recorded will go on, and what runs is held.
    Sound,
    /// There is no ledger.
    Absent,
    /// There is one that cannot be used, and this is why.
    Unusable(String),
}

/// What the shell does, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start a proxy. With `safe` it only adopts and reaps, because of this.
    Start {
        /// Why it is to be careful.
        safe: Option<String>,
    },
    /// Note that a proxy died at this time, for a warden in our place.
    Remember(Instant),
    /// Take back every intent and hold everything that runs; say what came of it.
    Recover,
    /// Send the proxy this signal, so often.
    Pass(Signal, u32),
    /// KILL the proxy.
    Kill,
    /// Tell whoever reads standard error.
    Say(String),
    /// The end.
    End(Ending),
}

/// What is known of a proxy when a warden begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// There never was one.
    Fresh,
    /// It was lost, and so was a warden.
    Lost,
    /// It lives: only a warden was lost, and this is the same process.
    Alive,
}

/// The machine. News goes in by [`Machine::handle_input`], work comes out of
/// [`Machine::poll_output`], and time is an argument.
#[derive(Debug)]
pub struct Machine {
    state: State,
    /// Something may run: a proxy was ready once.
    was_ready: bool,
    /// The last deaths that count, oldest first; at most [`DEATHS_MAX`].
    deaths: VecDeque<Instant>,
    /// Deaths that count since a proxy was steady.
    count: usize,
    /// What the last death was, for people.
    last: String,
    last_start: Option<Instant>,
    /// Signals until the proxy can take them, each once. Bounded by the number of signals.
    waiting: Vec<(Signal, u32)>,
    rescue: Option<Vec<Vec<u8>>>,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// [`Output::Recover`] is not answered; then a proxy is started at this time.
    Recovering { start_at: Instant },
    /// Nobody runs until then.
    Waiting { start_at: Instant },
    /// [`Output::Start`] is not answered.
    Starting,
    /// There is a proxy.
    Running { since: Instant, ready: Readiness },
    /// It has said how it will end.
    Leaving { ending: Ending, kill_at: Option<Instant> },
    /// Nothing follows.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// Signals wait until it is ready, and at most until then.
    Awaited(Instant),
    /// It takes signals.
    Ready,
}

impl Machine {
    /// Begins. `deaths` are those of which a predecessor in this place took note. `rescue` is what
    /// process 1 becomes if not even a careful proxy lives.
    pub fn new(
        now: Instant,
        begin: Begin,
        deaths: &[Instant],
        rescue: Option<Vec<Vec<u8>>>,
    ) -> Self {
        let kept = deaths.len().saturating_sub(DEATHS_MAX);
        let deaths: VecDeque<Instant> = deaths.iter().copied().skip(kept).collect();
        let is_old = deaths.back().is_none_or(|last| now.saturating_since(*last) >= STEADY);
        let count = if is_old { 0 } else { deaths.len() };
        let mut machine = Self {
            state: State::Waiting { start_at: now },
            was_ready: begin != Begin::Fresh,
            deaths,
            count,
            last: "before this warden".to_owned(),
            last_start: None,
            waiting: Vec::new(),
            rescue: rescue.filter(|arguments| !arguments.is_empty()),
            outputs: VecDeque::new(),
        };
        match begin {
            Begin::Fresh => machine.start(now),
            Begin::Lost => machine.recover(now),
            Begin::Alive => {
                machine.state = State::Running { since: now, ready: Readiness::Ready };
            }
        }
        machine
    }

    /// Takes one piece of news.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Started => {
                if self.state == State::Starting {
                    let ready = Readiness::Awaited(now.saturating_add(READY_LIMIT));
                    self.state = State::Running { since: now, ready };
                }
            }
            Input::NotStarted(failure) => self.on_not_started(now, failure),
            Input::Ready => self.on_ready(),
            Input::Leaving(ending) => self.on_leaving(now, ending),
            Input::Refused(why) => self.on_leaving(now, Ending::Lost { why }),
            Input::Ended(exit) => self.on_ended(now, exit),
            Input::Recovered(recovery) => self.on_recovered(now, recovery),
            Input::Signal(signal, count) => self.on_signal(signal, count),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        match &mut self.state {
            State::Waiting { .. } => self.start(now),
            State::Running { ready, .. } => {
                *ready = Readiness::Ready;
                self.pass_waiting();
            }
            State::Leaving { kill_at, .. } => {
                *kill_at = None;
                self.outputs.push_back(Output::Kill);
            }
            State::Recovering { .. } | State::Starting | State::Over => {}
        }
    }

    /// Returns when [`Machine::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { start_at } => Some(*start_at),
            // Without a signal that waits there is nothing to do then.
            State::Running { ready: Readiness::Awaited(until), .. } => {
                (!self.waiting.is_empty()).then_some(*until)
            }
            State::Leaving { kill_at, .. } => *kill_at,
            State::Recovering { .. }
            | State::Starting
            | State::Running { ready: Readiness::Ready, .. }
            | State::Over => None,
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn start(&mut self, now: Instant) {
        let within = |first: &Instant| now.saturating_since(*first) < STEADY;
        let is_restless = self.count >= DEATHS_MAX && self.deaths.front().is_some_and(within);
        let safe = (is_restless || self.count > DEATHS_MAX).then(|| {
            let (count, seconds) = (self.count, STEADY.as_secs());
            let last = &self.last;
            format!("the proxy was lost {count} times and never lived {seconds} s; at last: {last}")
        });
        self.last_start = Some(now);
        self.state = State::Starting;
        self.outputs.push_back(Output::Start { safe });
    }

    fn on_not_started(&mut self, now: Instant, failure: SpawnFailure) {
        match self.state {
            State::Starting | State::Running { .. } => {}
            State::Recovering { .. }
            | State::Waiting { .. }
            | State::Leaving { .. }
            | State::Over => return,
        }
        if self.was_ready {
            self.lose(now, format!("cannot be started: {failure}"), true);
        } else {
            self.end(Ending::NotStarted(failure));
        }
    }

    fn on_ready(&mut self) {
        if let State::Running { ready, .. } = &mut self.state {
            *ready = Readiness::Ready;
            self.was_ready = true;
            self.pass_waiting();
        }
    }

    fn on_leaving(&mut self, now: Instant, ending: Ending) {
        match self.state {
            State::Running { .. } | State::Leaving { .. } => {
                let kill_at = Some(now.saturating_add(LEAVE_LIMIT));
                self.state = State::Leaving { ending, kill_at };
            }
            State::Recovering { .. } | State::Waiting { .. } | State::Starting | State::Over => {}
        }
    }

    fn on_ended(&mut self, now: Instant, exit: Exit) {
        match &self.state {
            State::Leaving { ending, .. } => {
                let ending = ending.clone();
                self.end(ending);
            }
            State::Running { since, .. } => match exit {
                // It says itself why it cannot start; and nothing was started by it.
                Exit::Code(code) if !self.was_ready => self.end(Ending::Exit(code)),
                Exit::Code(_) | Exit::Signal { .. } | Exit::Unknown => {
                    if now.saturating_since(*since) >= STEADY {
                        self.count = 0;
                    }
                    let is_killed = matches!(exit, Exit::Signal { signal: Signal::KILL, .. });
                    self.lose(now, exit.to_string(), !is_killed);
                }
            },
            State::Recovering { .. } | State::Waiting { .. } | State::Starting | State::Over => {}
        }
    }

    /// There is no proxy any more, and nobody asked for that. What comes from outside does not
    /// count.
    fn lose(&mut self, now: Instant, what: String, counts: bool) {
        let delay = if counts {
            let delay = DELAYS[self.count.min(DELAYS.len() - 1)];
            self.count = self.count.saturating_add(1);
            if self.deaths.len() == DEATHS_MAX {
                self.deaths.pop_front();
            }
            self.deaths.push_back(now);
            self.outputs.push_back(Output::Remember(now));
            delay
        } else {
            Duration::ZERO
        };
        let after_gap = self.last_start.map_or(now, |last| last.saturating_add(START_GAP));
        let start_at = now.saturating_add(delay).max(after_gap);
        let when = when(start_at.saturating_since(now));
        let text = format!("the proxy was lost ({what}); a new one is started {when}");
        self.outputs.push_back(Output::Say(text));
        self.last = what;
        if self.count > DEATHS_MAX
            && let Some(arguments) = self.rescue.take()
        {
            self.end(Ending::Become { code: FATAL, arguments });
        } else {
            self.recover(start_at);
        }
    }

    fn recover(&mut self, start_at: Instant) {
        self.state = State::Recovering { start_at };
        self.outputs.push_back(Output::Recover);
    }

    fn on_recovered(&mut self, now: Instant, recovery: Recovery) {
        let State::Recovering { start_at } = self.state else {
            return;
        };
        match recovery {
            Recovery::Sound => {}
            // Nobody has got so far as to start anything.
            Recovery::Absent if !self.was_ready => {}
            Recovery::Absent => {
                return self.end(Ending::Lost { why: "it kept no ledger".to_owned() });
            }
            Recovery::Unusable(why) => return self.end(Ending::Lost { why }),
        }
        self.state = State::Waiting { start_at };
        self.handle_timeout(now);
    }

    fn on_signal(&mut self, signal: Signal, count: u32) {
        match self.state {
            State::Running { ready: Readiness::Ready, .. } => {
                self.outputs.push_back(Output::Pass(signal, count));
            }
            State::Recovering { .. }
            | State::Waiting { .. }
            | State::Starting
            | State::Running { ready: Readiness::Awaited(_), .. } => {
                match self.waiting.iter_mut().find(|(known, _)| *known == signal) {
                    Some((_, waiting)) => *waiting = waiting.saturating_add(count),
                    None => self.waiting.push((signal, count)),
                }
            }
            State::Leaving { .. } | State::Over => {}
        }
    }

    fn pass_waiting(&mut self) {
        let waiting = self.waiting.drain(..);
        self.outputs.extend(waiting.map(|(signal, count)| Output::Pass(signal, count)));
    }

    fn end(&mut self, ending: Ending) {
        self.state = State::Over;
        self.outputs.push_back(Output::End(ending));
    }
}

/// Returns a delay in words.
fn when(delay: Duration) -> String {
    match (delay.as_secs(), delay.as_millis()) {
        (0, 0) => "at once".to_owned(),
        (0, milliseconds) => format!("in {milliseconds} ms"),
        (seconds, _) => format!("in {seconds} s"),
    }
}

#[cfg(test)]
mod tests;
