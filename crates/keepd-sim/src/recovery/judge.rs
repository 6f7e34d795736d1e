//! What is true, written down apart from all shells, and the invariants.
//!
//! | number | what always holds |
//! | --- | --- |
//! | R1 | No two instances of a service live at once. |
//! | R2 | A program runs only if its word says so. |
//! | R3 | An end is told as it was; `unknown` only where two faults came into each other. |
//! | R4 | An end is told while nobody of that generation lives, and the same each time. |
//! | R5 | Every end is told; generations have no gaps. |
//! | R6 | What was answered is there after every loss, and what was deleted is not. |
//! | R7 | After a stop that was answered nothing starts until somebody asks for it. |
//! | R8 | At rest, what is wanted is what is there, and there is a manager. |
//! | R9 | No line of a log is lost or written twice, unless two faults came into each other. |
//! | R10 | Journal and cells can be read; what is replayed is the machine that was lost. |
//! | R11 | Everything comes to rest; the machines' own invariants hold. |
//! | R12 | No generation starts while others of the group of an earlier one are there. |

use std::collections::BTreeMap;

use keepd_model::protocol::RunEnd;
use keepd_model::{Exit, Generation, ServiceName, SpawnFailure};

use super::kernel::Serial;
use crate::report::Broken;

/// What is true of one generation.
#[derive(Clone, Debug, Default)]
struct Run {
    serial: Option<Serial>,
    was_executed: bool,
    /// The step that failed, in a child or before there was one.
    failure: Option<SpawnFailure>,
    exit: Option<Exit>,
    told: Option<RunEnd>,
    /// Two faults came into each other while it was there.
    may_be_unknown: bool,
}

/// The judge of one world.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    runs: BTreeMap<(ServiceName, Generation), Run>,
    /// Services whose stop was answered, and nobody asked for a start since.
    stopped: BTreeMap<ServiceName, Generation>,
    /// Something was lost, and a successor has not taken over.
    is_recovering: bool,
    pub(crate) double_faults: u64,
    /// How many slots were ever claimed.
    pub(crate) slots_used: u32,
    lines_made: u64,
    lines_lost: u64,
    lines_filed: u64,
    last_filed: BTreeMap<usize, u64>,
    pub(crate) ends_told: u64,
    pub(crate) unknowns: u64,
    pub(crate) breach: Option<Broken>,
}

impl Judge {
    /// An invariant broke. The first one counts.
    pub(crate) fn breach(&mut self, number: &'static str, sentence: String) {
        self.breach.get_or_insert(Broken { number, sentence });
    }

    fn run(&mut self, name: &ServiceName, generation: Generation) -> &mut Run {
        self.runs.entry((name.clone(), generation)).or_default()
    }

    /// A warden or a proxy is lost.
    pub(crate) fn on_fault(&mut self) {
        if self.is_recovering {
            self.double_faults += 1;
            for run in self.runs.values_mut() {
                run.may_be_unknown |= run.told.is_none();
            }
        }
        self.is_recovering = true;
    }

    /// A proxy with a warden above it has taken over.
    pub(crate) fn on_whole(&mut self) {
        self.is_recovering = false;
    }

    pub(crate) fn on_clone(&mut self, name: &ServiceName, generation: Generation, serial: Serial) {
        let is_recovering = self.is_recovering && self.double_faults > 0;
        let run = self.run(name, generation);
        run.may_be_unknown |= is_recovering;
        if run.serial.replace(serial).is_some() {
            let sentence = format!("{name}: generation {generation} is cloned twice");
            self.breach("R5", sentence);
        }
    }

    /// There will be no child.
    pub(crate) fn on_clone_failed(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        failure: SpawnFailure,
    ) {
        self.run(name, generation).failure = Some(failure);
    }

    pub(crate) fn on_execute(&mut self, name: &ServiceName, generation: Generation) {
        self.run(name, generation).was_executed = true;
        // Of the same generation it may be the answer to a stop of a child before its program.
        if let Some(stopped) = self.stopped.get(name).filter(|stopped| **stopped < generation) {
            let sentence =
                format!("{name}: generation {generation} runs, and the stop of {stopped} held");
            self.breach("R7", sentence);
        }
    }

    pub(crate) fn on_failure(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        failure: SpawnFailure,
    ) {
        self.run(name, generation).failure = Some(failure);
    }

    pub(crate) fn on_end(&mut self, name: &ServiceName, generation: Generation, exit: Exit) {
        self.run(name, generation).exit = Some(exit);
    }

    /// A stop was answered, or a start is asked for.
    pub(crate) fn on_stop_answered(&mut self, name: &ServiceName, generation: Generation) {
        self.stopped.insert(name.clone(), generation);
    }

    pub(crate) fn on_start_asked(&mut self, name: &ServiceName) {
        self.stopped.remove(name);
    }

    /// A service is forgotten, with all its generations.
    pub(crate) fn on_deleted(&mut self, name: &ServiceName) {
        self.runs.retain(|(other, _), _| other != name);
        self.stopped.remove(name);
    }

    /// Somebody outside was told of an end.
    pub(crate) fn on_told(&mut self, name: &ServiceName, generation: Generation, end: RunEnd) {
        if generation == Generation::NONE {
            return;
        }
        let run = self.run(name, generation).clone();
        let is_true = match end {
            RunEnd::Cancelled => !run.was_executed,
            RunEnd::Failed(failure) => !run.was_executed && run.failure == Some(failure),
            RunEnd::Exit(Exit::Unknown) => run.may_be_unknown,
            RunEnd::Exit(exit) => run.exit == Some(exit) && run.failure.is_none(),
        };
        if !is_true {
            let sentence = format!("{name}: the end of {generation} is told as {end:?}: {run:?}");
            return self.breach("R3", sentence);
        }
        let is_alive = run.was_executed && run.exit.is_none();
        if is_alive || run.told.is_some_and(|told| told != end) {
            let sentence = format!("{name}: {generation} is told as {end:?}: {run:?}");
            return self.breach("R4", sentence);
        }
        if run.told.is_none() {
            self.ends_told += 1;
            self.unknowns += u64::from(end == RunEnd::Exit(Exit::Unknown));
        }
        self.run(name, generation).told = Some(end);
    }

    pub(crate) fn was_told(&self, name: &ServiceName, generation: Generation) -> bool {
        let run = self.runs.get(&(name.clone(), generation));
        run.is_some_and(|run| run.told.is_some())
    }

    /// At rest: every generation of a service that somebody acknowledges was told, but for a last
    /// one that still runs.
    pub(crate) fn check_rest(&mut self, name: &ServiceName, last: Generation, is_running: bool) {
        for number in 1..=last.get() {
            let generation = Generation::new(number);
            let may_run = is_running && generation == last;
            if !may_run && !self.was_told(name, generation) {
                let run = self.runs.get(&(name.clone(), generation));
                let sentence = format!("{name}: the end of {generation} was never told: {run:?}");
                return self.breach("R5", sentence);
            }
        }
        let ran = self.runs.range((name.clone(), last.next())..);
        let later = ran.take_while(|((other, _), _)| other == name).next().map(|(key, _)| key.1);
        if let Some(later) = later {
            let sentence = format!("{name}: {later} was started, and {last} is the last known");
            self.breach("R5", sentence);
        }
        if self.lines_lost > 0 && self.double_faults == 0 {
            let sentence = format!("{} lines of logs are lost", self.lines_lost);
            self.breach("R9", sentence);
        }
    }

    pub(crate) fn next_line(&mut self) -> u64 {
        self.lines_made += 1;
        self.lines_made
    }

    pub(crate) fn on_lines_lost(&mut self, count: usize) {
        self.lines_lost += count as u64;
    }

    /// A line of this pipe is in the file.
    pub(crate) fn on_line_filed(&mut self, pipe: usize, line: u64) {
        self.lines_filed += 1;
        let last = self.last_filed.insert(pipe, line);
        if last.is_some_and(|last| last >= line) {
            self.breach("R9", format!("line {line} is written after {last:?}"));
        }
    }

    /// At rest nothing is in a pipe any more.
    pub(crate) fn check_lines(&mut self) {
        if self.double_faults == 0 && self.lines_filed != self.lines_made {
            let (made, filed) = (self.lines_made, self.lines_filed);
            self.breach("R9", format!("{made} lines were written, {filed} are in files"));
        }
    }
}
