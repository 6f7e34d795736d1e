//! The services of a torture run: what each generation does follows from the seed, the name and the
//! number of the generation, so that a run can be had again and nobody has to be told.
//!
//! They are the witnesses: each writes into the event log what it is about to do before it does it.
//! Beside that they are as short as can be, because a run has hundreds of them in a second.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use keepd_model::Signal;
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::{pidfd, process, signals};

use super::{Dice, output_line};
use crate::EventLog;

/// The first argument of a service of a torture run; the seed and the kind follow.
pub const LIFE: &str = "--torture";
/// The first argument of what such a service leaves behind.
pub const RELATIVE: &str = "--torture-relative";

/// The code of a service whose output nobody can read: EX_IOERR of sysexits.h(3head).
const UNREAD: u8 = 74;

/// What kind of life a service leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lives 1 to 20 ms.
    Short,
    /// Lives up to 300 ms.
    Long,
    /// Has a grandchild that outlives it, if nobody ends it.
    Family,
    /// Writes numbered lines: one after the other, in bursts, and one without a line feed.
    Writer,
    /// Never ends by itself. HUP makes it say `reload`.
    Steady,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Short, Self::Long, Self::Family, Self::Writer, Self::Steady];

    /// Returns its word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Family => "family",
            Self::Writer => "writer",
            Self::Steady => "steady",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// How a generation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It exits.
    Exit(u8),
    /// It signals itself.
    Signal(Signal),
    /// It waits for a signal.
    Never,
}

/// What a generation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    life: Duration,
    ending: Ending,
    /// Lines in each burst, and bursts.
    lines: u64,
    bursts: u64,
    /// The last line has no line feed.
    is_open: bool,
    /// It ends right behind this line, in the middle of a burst.
    cut_at: Option<u64>,
    has_relative: bool,
}

impl Plan {
    fn new(kind: Kind, dice: &mut Dice) -> Self {
        let life_ms = match kind {
            Kind::Short | Kind::Writer => dice.between(1, 20),
            Kind::Long => dice.between(1, 300),
            Kind::Family => dice.between(5, 60),
            Kind::Steady => 0,
        };
        let code = u8::try_from(dice.below(256)).unwrap_or_default();
        let ending = match dice.below(8) {
            _ if kind == Kind::Steady => Ending::Never,
            0..4 => Ending::Exit(code),
            4 | 5 => Ending::Exit(0),
            _ => Ending::Signal(*dice.one_of(&[Signal::KILL, Signal::USR1, Signal::USR2])),
        };
        let is_writer = kind == Kind::Writer;
        let (lines, bursts) = match kind {
            Kind::Writer => (dice.between(1, 40), dice.between(1, 4)),
            // So that its output can be lost, too.
            Kind::Steady => (1, 1),
            Kind::Short | Kind::Long | Kind::Family => (0, 0),
        };
        let is_cut = is_writer && matches!(ending, Ending::Signal(_)) && dice.one_in(2);
        Self {
            life: Duration::from_millis(life_ms),
            ending,
            lines,
            bursts,
            is_open: is_writer && dice.one_in(3),
            cut_at: is_cut.then(|| dice.between(1, lines * bursts)),
            has_relative: kind == Kind::Family && dice.one_in(2),
        }
    }
}

/// Runs a service with the arguments behind [`LIFE`]: the seed and the kind.
///
/// # Panics
/// If the arguments are wrong, or the event log cannot be written.
pub fn live(arguments: &[String]) -> ExitCode {
    let [seed, kind] = arguments else { panic!("a life has a seed and a kind") };
    let seed = seed.parse().expect("a seed is a number");
    let kind = Kind::parse(kind).expect("the kind is known");
    let witness = Witness::new();
    let dice = &mut Dice::named(seed, &witness.name, witness.generation);
    let plan = Plan::new(kind, dice);
    let reader =
        signals::SignalReader::new(&[Signal::TERM, Signal::HUP]).expect("signals can be read");
    let set = Epoll::new().expect("an epoll set can be made");
    set.add(&reader, 0, Interest::READ).expect("signals can be waited for");
    let _locks = witness.lock();
    witness.say("start", "");
    if plan.has_relative {
        start_relative();
    }
    let pause = plan.life / u32::try_from(plan.bursts.max(1)).unwrap_or(1);
    let mut writer = Writer { witness: &witness, number: 0 };
    for burst in 1..=plan.bursts.max(1) {
        for line in 1..=plan.lines {
            let is_open = plan.is_open && burst == plan.bursts && line == plan.lines;
            if !writer.write(is_open) {
                // Whoever read it was lost, and so was everybody who held the pipe for it.
                return end(Ending::Exit(UNREAD), &witness);
            }
            let is_cut = plan.cut_at == Some(writer.number);
            if is_cut || line == plan.lines {
                writer.say(is_open);
            }
            if is_cut {
                return end(plan.ending, &witness);
            }
        }
        let until = (plan.ending != Ending::Never).then_some(pause);
        if wait(&set, &reader, until, &witness) {
            witness.say("end", "exit 0");
            return ExitCode::SUCCESS;
        }
    }
    end(plan.ending, &witness)
}

fn end(ending: Ending, witness: &Witness) -> ExitCode {
    match ending {
        Ending::Exit(code) => {
            witness.say("end", &format!("exit {code}"));
            ExitCode::from(code)
        }
        Ending::Signal(signal) => {
            witness.say("end", &format!("signal {signal}"));
            let own = pidfd::open(process::id()).expect("a process can hold itself");
            pidfd::send(&own, signal).expect("a process may signal itself");
            unreachable!("none of these signals is blocked or handled");
        }
        Ending::Never => unreachable!("only a signal ends this wait"),
    }
}

/// Waits so long, or for ever. Returns `true` if TERM came.
fn wait(
    set: &Epoll,
    reader: &signals::SignalReader,
    pause: Option<Duration>,
    witness: &Witness,
) -> bool {
    let begun_at = Instant::now();
    let mut news = Vec::new();
    loop {
        let rest = pause.map(|pause| pause.saturating_sub(begun_at.elapsed()));
        if rest.is_some_and(|rest| rest.is_zero()) {
            return false;
        }
        set.wait(rest, &mut news).expect("the set can be waited for");
        for (signal, _) in reader.read().expect("signals can be read") {
            if signal == Signal::TERM {
                return true;
            }
            witness.say("reload", "");
        }
    }
}

/// Writes numbered lines, and writes down how far it came.
struct Writer<'a> {
    witness: &'a Witness,
    number: u64,
}

impl Writer<'_> {
    /// Writes the next line. Returns `false` if nobody can read it any more.
    fn write(&mut self, is_open: bool) -> bool {
        self.number += 1;
        let Witness { name, generation, .. } = self.witness;
        let line = output_line(name, *generation, self.number);
        let text = if is_open { line.trim_end() } else { &line };
        // One write(2): standard output of the library would split it at the line feed.
        let stdout = rustix::stdio::stdout();
        let written = rustix::io::retry_on_intr(|| rustix::io::write(stdout, text.as_bytes()));
        if written == Err(rustix::io::Errno::PIPE) {
            return false;
        }
        assert_eq!(written, Ok(text.len()), "a pipe takes a short line whole");
        true
    }

    fn say(&self, is_open: bool) {
        let open = if is_open { " open" } else { "" };
        self.witness.say("wrote", &format!("{}{open}", self.number));
    }
}

/// Who this process is, and where it writes what happens.
struct Witness {
    log: EventLog,
    name: String,
    generation: u64,
}

impl Witness {
    fn new() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("a service of a torture run has {name}"))
        };
        Self {
            log: EventLog::new(variable(crate::test_service::EVENTS_VARIABLE)),
            name: variable("KEEPD_SERVICE"),
            generation: variable("KEEPD_GENERATION").parse().expect("a generation is a number"),
        }
    }

    fn say(&self, what: &str, more: &str) {
        let said = self.log.append(what, &self.name, self.generation, more);
        said.expect("the event log can be written");
    }

    fn path(&self, what: &str) -> PathBuf {
        self.log.path().with_file_name(format!("{what}.{}", self.name))
    }

    /// Takes the locks that only one live process of a service, and no relative of an earlier one,
    /// can have beside it. The kernel gives them back at the end of a process, however that comes,
    /// and before anybody hears of it.
    fn lock(&self) -> [File; 2] {
        let take = |what: &str, violation: &str| {
            let file = File::create(self.path(what)).expect("the lock file can be made");
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => self.say("violation", violation),
                Err(TryLockError::Error(error)) => panic!("cannot lock: {error}"),
            }
            file
        };
        let own = take("lock", "another process is alive");
        let relatives = take("relatives", "a grandchild of an earlier generation is alive");
        // Only to look: the grandchildren of this one take it from here on.
        relatives.unlock().expect("what is locked can be unlocked");
        [own, relatives]
    }
}

/// Starts a grandchild, and waits until it has its lock: from then on it is a witness, too.
fn start_relative() {
    let own = std::env::current_exe().expect("a program knows its own path");
    let child = Command::new(own)
        .arg(RELATIVE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.expect("a grandchild can be started");
    let mut stdout = child.stdout.take().expect("the output is a pipe");
    // It ends when the lock is held, or at the end of the grandchild.
    io::copy(&mut stdout, &mut io::sink()).expect("a pipe can be read");
    // Nobody waits for it: that it is left behind is what it is for.
    drop(child);
}

/// Runs a grandchild: it ignores TERM, leaves the session, and waits for KILL.
///
/// # Panics
/// If a lock cannot be had.
pub fn live_as_relative() -> ExitCode {
    signals::ignore(Signal::TERM).expect("TERM can be ignored");
    process::new_session().expect("a new process leads no group");
    let witness = Witness::new();
    let file = File::create(witness.path("relatives")).expect("the lock file can be made");
    file.lock_shared().expect("a file can be locked");
    let null = File::create("/dev/null").expect("the null device can be opened");
    io::stdout().flush().expect("nothing was written");
    rustix::stdio::dup2_stdout(&null).expect("a descriptor can be replaced");
    let nothing = Epoll::new().expect("an epoll set can be made");
    loop {
        nothing.wait(None, &mut Vec::new()).expect("an empty set can be waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(kind: Kind) -> Vec<Plan> {
        (1..500).map(|number| Plan::new(kind, &mut Dice::named(3, kind.word(), number))).collect()
    }

    #[test]
    fn each_kind_leads_every_life_that_it_can() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.word()), Some(kind));
            let plans = plans(kind);
            let has = |found: fn(&Plan) -> bool| plans.iter().any(found);
            let is_steady = kind == Kind::Steady;
            assert_eq!(has(|plan| plan.ending == Ending::Never), is_steady);
            assert_eq!(has(|plan| matches!(plan.ending, Ending::Exit(1..))), !is_steady);
            assert_eq!(has(|plan| matches!(plan.ending, Ending::Signal(_))), !is_steady);
            assert_eq!(has(|plan| plan.is_open), kind == Kind::Writer);
            assert_eq!(has(|plan| plan.has_relative), kind == Kind::Family);
            assert!(plans.iter().all(|plan| plan.life <= Duration::from_millis(300)));
        }
    }
}
