//! What a child does between clone and exec, and after it.

use std::time::Duration;

use keepd_model::{Exit, Signal, SpawnFailure};
use keepd_wire::ledger::keeper::Intended;
use keepd_wire::ledger::layout::SlotCell;
use keepd_wire::ledger::{State, Word, failed_word, inode_cell, run_word};

use super::kernel::{Child, ChildReport, ChildStep, Due, Kernel, Life, Process, Serial};
use super::sabotage::Sabotage;

/// A child that finds its intent taken back ends with this.
const REFUSED: Exit = Exit::Code(111);
/// A child whose program cannot be executed ends with this.
const NOT_EXECUTED: Exit = Exit::Code(127);

impl Kernel {
    /// One step, each of them one system call or one access to a cell.
    pub(super) fn child_steps(&mut self, serial: Serial) {
        let Some(Process { pid, life: Life::Alive, child: Some(child), .. }) =
            self.processes.get(&serial).cloned()
        else {
            return;
        };
        let offset = |cell| child.slot.offset(cell);
        let Intended { intent, awaited } = child.intended;
        let next = match child.step {
            ChildStep::Born => {
                let inode = inode_cell(serial);
                let is_awaited = self.exchange_now(offset(SlotCell::Identity), awaited, inode);
                (is_awaited || self.is(Sabotage::RefusalIgnored)).then_some(ChildStep::Identified)
            }
            ChildStep::Identified => {
                let run = run_word(intent, pid.get());
                let is_recorded = self.exchange_now(offset(SlotCell::Word), intent, run);
                (is_recorded || self.is(Sabotage::RefusalIgnored)).then_some(ChildStep::Recorded)
            }
            ChildStep::Recorded => match child.behaviour.failure {
                None => return self.child_executes(serial, &child),
                Some(failure) => {
                    self.record_failure(&child, failure);
                    Some(ChildStep::FailureRecorded)
                }
            },
            ChildStep::FailureRecorded => {
                self.report(&child, child.behaviour.failure);
                Some(ChildStep::FailureReported)
            }
            ChildStep::FailureReported => return self.die(serial, NOT_EXECUTED),
            ChildStep::Executed => return,
        };
        let Some(next) = next else {
            self.note(|| format!("{serial} finds its intent taken back"));
            return self.die(serial, REFUSED);
        };
        self.note(|| format!("child {serial} is {next:?}"));
        self.set_step(serial, next);
        let delay = self.pace.child_delay(&mut self.random);
        self.after(delay, Due::ChildSteps(serial));
    }

    fn set_step(&mut self, serial: Serial, step: ChildStep) {
        let process = self.processes.get_mut(&serial);
        if let Some(child) = process.and_then(|process| process.child.as_mut()) {
            child.step = step;
        }
    }

    fn record_failure(&mut self, child: &Child, failure: SpawnFailure) {
        let word = child.slot.offset(SlotCell::Word);
        let current = self.peek(word);
        let errno = failure.errno.0;
        let failed = failed_word(current, failure.step as u8, errno);
        self.judge.on_failure(&child.name, child.generation, failure);
        if failed != 0 {
            self.exchange_now(word, current, failed);
        }
    }

    fn report(&mut self, child: &Child, failure: Option<SpawnFailure>) {
        if self.is_alive(child.parent) {
            let (name, generation) = (child.name.clone(), child.generation);
            let report = ChildReport { name, generation, failure };
            self.reports.entry(child.parent).or_default().push(report);
        }
    }

    fn child_executes(&mut self, serial: Serial, child: &Child) {
        self.set_step(serial, ChildStep::Executed);
        let (name, generation) = (&child.name, child.generation);
        self.note(|| format!("{serial} executes: {name} {generation}"));
        let word = Word::from_raw(self.peek(child.slot.offset(SlotCell::Word)));
        let pid = self.pid_of(serial);
        if word.map(Word::state) != Ok(State::Run(generation, pid)) {
            let sentence = format!("{name} {generation} runs, and its word is {word:?}");
            self.judge.breach("R2", sentence);
        }
        self.check_instances(serial, child);
        self.judge.on_execute(name, generation);
        self.report(child, None);
        if name.is_internal() {
            self.manager = Some(serial);
        }
        if child.has_term_pending && !child.behaviour.ignores_term {
            self.signal(serial, Signal::TERM);
        }
        for _ in 0..child.behaviour.helpers {
            self.add_helper(serial);
        }
        if let Some((lasts, exit)) = child.behaviour.ends {
            self.after(lasts, Due::Ends(serial, exit));
        }
        if child.lines_left > 0 {
            self.after(Duration::from_millis(1), Due::Writes(serial));
        }
    }

    /// R1 and R12: nobody of an earlier generation lives.
    fn check_instances(&mut self, serial: Serial, child: &Child) {
        let (name, generation) = (&child.name, child.generation);
        let is_other = |process: &Process| {
            let other = process.child.as_ref().filter(|other| other.name == *name);
            other.is_some_and(|other| other.step == ChildStep::Executed)
        };
        let mut others =
            self.alive().filter(|(other, process)| *other != serial && is_other(process));
        if let Some((other, _)) = others.next() {
            drop(others);
            let sentence = format!("{name} {generation} is {serial}, and {other} lives");
            return self.judge.breach("R1", sentence);
        }
        drop(others);
        let is_left = |process: &Process| {
            let group = process.group.as_ref().filter(|group| group.0 == *name);
            group.is_some_and(|group| group.1 != generation)
        };
        let left = self.alive().find(|(_, process)| is_left(process)).map(|(left, _)| left);
        if let Some(left) = left {
            let sentence = format!("{name} {generation} runs, and {left} of another one lives");
            self.judge.breach("R12", sentence);
        }
    }

    /// A line into the pipe; without anybody at its other end it is lost.
    pub(super) fn child_writes(&mut self, serial: Serial) {
        let Some(process) = self.processes.get_mut(&serial) else {
            return;
        };
        let Some(child) = process.child.as_mut().filter(|_| process.life == Life::Alive) else {
            return;
        };
        child.lines_left -= 1;
        let (left, pipe) = (child.lines_left, child.pipe);
        let line = self.judge.next_line();
        let pipe = &mut self.pipes[pipe];
        if pipe.holders.is_empty() {
            self.judge.on_lines_lost(1);
        } else {
            pipe.lines.push_back(line);
        }
        if left > 0 {
            let pause = Duration::from_millis(self.random.between(1, 20));
            self.after(pause, Due::Writes(serial));
        }
    }
}
