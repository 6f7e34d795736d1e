//! Keeps services alive: a controller of `keepd proxy` in Rust, with the standard library alone.
//! README.md has the policy.
//!
//! ```text
//! rustc -O keep.rs
//! keep SERVICE...      in the order in which they start; they are stopped in reverse
//! ```
//!
//! Descriptor 0 is control.event, 1 is control.cmd, 2 takes what is said to people. There is no
//! clock in here: the proxy tells the time with its events, and starts services at the time it is
//! told. A Ctrl-C in the terminal of the proxy ends this program (to ignore it needs more than the
//! standard library): then the proxy starts it again, and it goes on with the stop.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

/// The numbers of the policy, each with a variable of its own.
struct Limits {
    /// Short runs in a row before a service is given up.
    retries: u32,
    /// The longest wait before a restart, in seconds.
    delay_max: u64,
    /// A run of so many seconds was no short one.
    settled: u64,
    /// Seconds from TERM to KILL.
    stop: u64,
}

/// What the proxy has told of a service.
#[derive(Clone)]
enum State {
    /// It was never started, or its start was cancelled.
    Unstarted,
    /// It is going to be started.
    Due,
    /// Its process was made.
    Up { pid: u32 },
    /// Its process ended.
    Down(End),
    /// It is gone.
    Deleted,
}

/// How and when a process ended.
#[derive(Clone)]
struct End {
    time: u64,
    pid: u32,
    how: String,
    uptime: u64,
    downtime: u64,
}

/// Whom we asked to stop.
#[derive(Clone, PartialEq, Eq)]
enum Asked {
    /// This process of a service.
    Process(String, u32),
    /// A start that was due.
    Start(String),
}

/// A signal that asked for the end.
struct Stop {
    signal: String,
    /// How many of it the proxy has counted.
    count: String,
}

struct Keeper<W> {
    commands: W,
    limits: Limits,
    names: Vec<String>,
    table: BTreeMap<String, State>,
    failures: BTreeMap<String, u32>,
    /// Time and pid of the end of each service that was counted last.
    counted: BTreeMap<String, (u64, u32)>,
    /// The latest time that the proxy has told.
    now: u64,
    /// How often we asked for a dump.
    syncs: u64,
    /// The table is complete.
    synced: bool,
    stopping: Option<Stop>,
    asked: Option<Asked>,
    asked_at: u64,
    finished: bool,
}

fn main() -> ExitCode {
    let limits = Limits {
        retries: variable("KEEP_RETRIES", 5),
        delay_max: variable("KEEP_DELAY_MAX", 60),
        settled: variable("KEEP_SETTLED", 10),
        stop: variable("KEEP_STOP_LIMIT", 10),
    };
    let names: Vec<String> = std::env::args().skip(1).collect();
    match Keeper::new(io::stdout().lock(), limits, names).run(io::stdin().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // The proxy is gone, and nobody is left to command.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cannot go on: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn say(text: &str) {
    // Where nobody listens, there is nobody to tell about it.
    let _ = writeln!(io::stderr(), "keep.rs: {text}");
}

/// Reads the fields of a line service.state behind the name. `None`: a word or form that is not
/// known here. The other half is the time at which the line was written, as far as it says.
fn state(fields: &[&str]) -> Option<(State, u64)> {
    match *fields {
        ["up", time, pid, _, _, uptime, _] => {
            let told = time.parse::<u64>().ok()? + uptime.parse::<u64>().ok()?;
            Some((State::Up { pid: pid.parse().ok()? }, told))
        }
        ["down", _, "-", ..] => Some((State::Unstarted, 0)),
        ["down", time, pid, reason, value, uptime, downtime] => {
            let end = End {
                time: time.parse().ok()?,
                pid: pid.parse().ok()?,
                how: format!("{reason} {value}"),
                uptime: uptime.parse().ok()?,
                downtime: downtime.parse().ok()?,
            };
            let told = end.time + end.downtime;
            Some((State::Down(end), told))
        }
        ["start", ..] => Some((State::Due, 0)),
        ["deleted", ..] => Some((State::Deleted, 0)),
        _ => None,
    }
}

impl<W: Write> Keeper<W> {
    fn new(commands: W, limits: Limits, names: Vec<String>) -> Self {
        Self {
            commands,
            limits,
            names,
            table: BTreeMap::new(),
            failures: BTreeMap::new(),
            counted: BTreeMap::new(),
            now: 0,
            syncs: 0,
            synced: false,
            stopping: None,
            asked: None,
            asked_at: 0,
            finished: false,
        }
    }

    fn run(mut self, mut events: impl BufRead) -> io::Result<()> {
        self.sync()?;
        let mut line = Vec::new();
        loop {
            line.clear();
            events.read_until(b'\n', &mut line)?;
            // A line without its end is the last word of a proxy that is gone.
            let Some((b'\n', words)) = line.split_last() else {
                return Ok(());
            };
            // Lines of others may hold any bytes.
            let words = String::from_utf8_lossy(words);
            let fields: Vec<&str> = words.split('\t').collect();
            self.on_line(&fields)?;
        }
    }

    fn send(&mut self, fields: &[&str]) -> io::Result<()> {
        writeln!(self.commands, "{}", fields.join("\t"))?;
        self.commands.flush()
    }

    /// Forgets the table and asks for everything. What follows builds the table, and nobody acts on
    /// it before the marker has come back.
    fn sync(&mut self) -> io::Result<()> {
        self.synced = false;
        self.syncs += 1;
        self.table.clear();
        let [pid, syncs] = [u64::from(std::process::id()), self.syncs].map(|n| n.to_string());
        self.send(&["statedump"])?;
        self.send(&["echo", "keep.synced", &pid, &syncs])
    }

    fn on_line(&mut self, fields: &[&str]) -> io::Result<()> {
        match *fields {
            ["service.state", name, ref fields @ ..] => match state(fields) {
                Some((state, told)) => self.on_state(name, state, told),
                None => Ok(()),
            },
            ["keep.synced", pid, syncs]
                if pid == std::process::id().to_string() && syncs == self.syncs.to_string() =>
            {
                self.on_synced()
            }
            ["signal", signal @ ("SIGTERM" | "SIGINT"), time, count] => {
                self.on_signal(signal, time, count)
            }
            ["overflow"] => self.sync(),
            ["error" | "warning", ref text @ ..] => {
                say(&format!("the proxy says: {}", text.join(" ")));
                Ok(())
            }
            // Everything else is somebody else's affair, or of a later version.
            _ => Ok(()),
        }
    }

    fn on_state(&mut self, name: &str, state: State, told: u64) -> io::Result<()> {
        self.now = self.now.max(told);
        if name == "alarm" {
            return self.on_alarm(&state);
        }
        if !self.names.iter().any(|ours| ours == name) {
            return Ok(());
        }
        // Somebody has cancelled a start: that is for them to decide.
        let is_cancelled = matches!(state, State::Unstarted);
        self.table.insert(name.to_owned(), state);
        match (self.synced, &self.stopping) {
            (true, Some(_)) => self.stop_next(),
            (true, None) if !is_cancelled => self.keep(name),
            (true, None) | (false, _) => Ok(()),
        }
    }

    /// The table is complete.
    fn on_synced(&mut self) -> io::Result<()> {
        self.synced = true;
        if self.stopping.is_some() {
            return self.stop_next();
        }
        for name in self.names.clone() {
            self.keep(&name)?;
        }
        Ok(())
    }

    /// Does what a service needs: nothing, unless it is down.
    fn keep(&mut self, name: &str) -> io::Result<()> {
        match self.table.get(name).cloned() {
            None => {
                say(&format!("cannot keep \"{name}\": there is no such service"));
                Ok(())
            }
            Some(State::Unstarted) => self.send(&["service.start", name]),
            Some(State::Due | State::Up { .. } | State::Deleted) => Ok(()),
            Some(State::Down(end)) => self.start_again(name, &end),
        }
    }

    fn start_again(&mut self, name: &str, end: &End) -> io::Result<()> {
        let failures = self.count(name, end);
        if failures > self.limits.retries {
            return Ok(());
        }
        let delay = 2u64.saturating_pow(failures.saturating_sub(1)).min(self.limits.delay_max);
        let End { time, how, uptime, downtime, .. } = end;
        say(&format!(
            "\"{name}\" ended with {how} after {uptime} s, it starts again {delay} s after its end"
        ));
        if *downtime >= delay {
            self.send(&["service.start", name])
        } else {
            self.send(&["service.start", name, &(time + delay).to_string()])
        }
    }

    /// Counts an end, and returns how many short runs there were in a row.
    fn count(&mut self, name: &str, end: &End) -> u32 {
        let failures = self.failures.entry(name.to_owned()).or_default();
        // A dump shows an end that was counted before once more.
        let this = (end.time, end.pid);
        if self.counted.insert(name.to_owned(), this) != Some(this) {
            if end.uptime >= self.limits.settled {
                *failures = 0;
            }
            *failures += 1;
            if *failures > self.limits.retries {
                say(&format!(
                    "giving up \"{name}\": {failures} short runs in a row, the last one ended \
                     with {}",
                    end.how
                ));
            }
        }
        *failures
    }

    /// Stops the last service that is not down; the proxy ends after the first one.
    fn stop_next(&mut self) -> io::Result<()> {
        let Some(stop) = self.stopping.as_ref().filter(|_| !self.finished) else {
            return Ok(());
        };
        let not_down = self.names.iter().rev().find_map(|name| match self.table.get(name)? {
            State::Up { pid } => Some(Asked::Process(name.clone(), *pid)),
            State::Due => Some(Asked::Start(name.clone())),
            State::Unstarted | State::Down(_) | State::Deleted => None,
        });
        if let Some(aim) = not_down {
            return self.ask(aim);
        }
        say("everything is stopped");
        self.finished = true;
        // Not before: were we killed half way, our successor would find the signal still pending,
        // and go on with the stop.
        let [signal, count] = [stop.signal.clone(), stop.count.clone()];
        self.send(&["signal.clear", &signal, &count])?;
        self.send(&["terminate", "0"])
    }

    fn ask(&mut self, aim: Asked) -> io::Result<()> {
        if self.asked.as_ref() == Some(&aim) {
            return Ok(());
        }
        self.asked_at = self.now;
        self.asked = Some(aim.clone());
        match aim {
            Asked::Process(name, _) => {
                say(&format!("stopping \"{name}\""));
                self.send(&["service.signal", &name, "SIGTERM"])?;
                self.set_alarm()
            }
            Asked::Start(name) => self.send(&["service.start", &name, "-"]),
        }
    }

    fn set_alarm(&mut self) -> io::Result<()> {
        let time = (self.now + self.limits.stop).to_string();
        self.send(&["service.start", "alarm", &time])
    }

    /// The service "alarm" does nothing; that the proxy starts it at its time is how we wait.
    fn on_alarm(&mut self, state: &State) -> io::Result<()> {
        if !self.synced || self.stopping.is_none() || self.finished {
            return Ok(());
        }
        match (state, self.asked.clone()) {
            (State::Up { .. }, Some(Asked::Process(name, _)))
                if self.now - self.asked_at >= self.limits.stop =>
            {
                say(&format!("\"{name}\" did not stop in {} s: KILL", self.limits.stop));
                self.send(&["service.signal", &name, "SIGKILL"])
            }
            (State::Down(_), _) => self.set_alarm(),
            (State::Up { .. } | State::Due | State::Unstarted | State::Deleted, _) => Ok(()),
        }
    }

    fn on_signal(&mut self, signal: &str, time: &str, count: &str) -> io::Result<()> {
        self.stopping = Some(Stop { signal: signal.to_owned(), count: count.to_owned() });
        self.now = self.now.max(time.parse().unwrap_or(0));
        if self.synced { self.stop_next() } else { Ok(()) }
    }
}
