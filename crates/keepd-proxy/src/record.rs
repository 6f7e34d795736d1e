//! The part of a turn that is about a successor: what is written down, and when.
//!
//! Nothing that was accepted is answered, and nothing is started, before it is in the journal; no
//! child of a service is let go before its word says how it ended. Without a ledger all of this is
//! nothing.

use keepd_engine::proxy::{Fact, Input};
use keepd_model::{Errno, Exit, Generation, LogLevel, Pid, ServiceName, SpawnFailure};
use keepd_wire::Line;
use keepd_wire::ledger::Outcome;
use keepd_wire::ledger::keeper::{Lost, Settled};

use crate::children::Started;
use crate::ledger::{Intent, Refusal};
use crate::run::Shell;

impl Shell {
    /// Notes what a successor has to know.
    pub(crate) fn record(&mut self, fact: &Fact) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        if let Err(error) = ledger.record(fact) {
            self.say(LogLevel::Error, format_args!("cannot write down a command: {error}"));
        }
    }

    /// Appends what was noted: before anything that follows from it is told or done.
    pub(crate) fn flush_journal(&mut self) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        let outcome = ledger.flush();
        self.check_journal(outcome);
    }

    /// Says once that the journal cannot be written, and that it can be again.
    fn check_journal(&mut self, outcome: Result<(), Errno>) {
        let error = outcome.err();
        if error == self.journal_error {
            return;
        }
        self.journal_error = error;
        match error {
            Some(error) => {
                self.say(LogLevel::Error, format_args!("cannot write the journal: {error}"));
            }
            None => self.say(LogLevel::Info, "the journal can be written again"),
        }
    }

    /// Makes room for what a line may define, and tells the machine whether there is some.
    pub(crate) fn look_at_journal(&mut self, line: &Line) {
        let (Line::Complete(bytes) | Line::TooLong { start: bytes }) = line;
        self.make_room_in_journal(bytes.len());
    }

    /// As [`Shell::look_at_journal`], for a line of this length.
    pub(crate) fn make_room_in_journal(&mut self, bytes: usize) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        let is_full = ledger.make_room(bytes).is_err();
        if is_full != self.is_journal_full {
            self.is_journal_full = is_full;
            self.tell(Input::JournalFull { on: is_full });
        }
    }

    /// Replaces the journal by what still holds, if most of it does not.
    pub(crate) fn compact_journal(&mut self) {
        let Some(ledger) = self.ledger.as_mut().filter(|ledger| ledger.wants_compaction()) else {
            return;
        };
        if let Err(error) = ledger.compact(self.machine.snapshot()) {
            self.say(LogLevel::Warning, format_args!("cannot compact the journal: {error}"));
        }
    }

    /// Writes down that a generation is about to be cloned; nothing without a ledger.
    pub(crate) fn intend(
        &mut self,
        name: &ServiceName,
        generation: Generation,
    ) -> Result<Option<Intent>, Refusal> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(None);
        };
        ledger.intend(name, generation).map(Some)
    }

    /// Writes down what became of a clone.
    pub(crate) fn note_spawned(
        &mut self,
        intent: Option<&Intent>,
        outcome: Result<&Started, &SpawnFailure>,
    ) {
        let (Some(ledger), Some(intent)) = (&mut self.ledger, intent) else {
            return;
        };
        match outcome {
            Ok(started) => ledger.note_child(intent, started.pid),
            Err(failure) => {
                ledger.note_failed(intent, *failure, Some(self.now.monotonic));
            }
        }
    }

    /// Writes down how a child ended, lets it go and tells it. Returns whether it is gone; `None`:
    /// it is no service's, and nothing was done.
    pub(crate) fn record_end(&mut self, pid: Pid, exit: Exit) -> Option<bool> {
        let ledger = self.ledger.as_mut()?;
        let run = ledger.run_of(pid)?;
        let recorded = ledger.end(run, pid, exit);
        let is_consumed = self.consume(pid);
        if let Some(ledger) = &mut self.ledger {
            let settled = ledger.settle(run, pid, Some(self.now.monotonic));
            self.say_settled(pid, settled);
        }
        let exit = match recorded {
            Ok(Outcome::Ended(recorded)) => recorded,
            // A child that failed has said so through its pipe, too.
            Ok(Outcome::Failed(_) | Outcome::Cancelled) => exit,
            Err(error) => {
                let text = format_args!("cannot write down the end of process {pid}: {error}");
                self.say(LogLevel::Error, text);
                exit
            }
        };
        self.tell_end(pid, exit);
        Some(is_consumed)
    }

    /// Says what was lost for an outcome.
    pub(crate) fn say_settled(&mut self, pid: Pid, settled: Settled) {
        let lost = match settled {
            Settled::Done { lost, .. } => lost,
            Settled::Nothing => None,
            Settled::Full(_) | Settled::Unsure(_) => Some(Lost::Damaged),
        };
        match lost {
            None => {}
            Some(Lost::Outcome(generation)) => {
                let text = format_args!(
                    "the end of generation {generation} was forgotten for that of process {pid}"
                );
                self.log.say(LogLevel::Warning, text);
            }
            Some(Lost::Damaged) => {
                let text = format_args!("the ledger was damaged where process {pid} is kept");
                self.log.say(LogLevel::Warning, text);
            }
        }
    }
}
