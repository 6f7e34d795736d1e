//! The end of everything: in reverse order of dependency, with a limit, and with a status.

use std::time::Duration;

use keepd_model::protocol::Command;
use keepd_model::{ExitCode, ExitWhen, Instant, ServiceName, Signal};

use super::Manager;
use super::cause::{Cause, ShutdownCause};
use super::interface::{Happening, Output};
use super::record::{
    RecordedStage, SHUTDOWN_KEY, ShutdownRecord, decode_shutdown, encode_shutdown,
};
use super::service::{Manner, Phase, Rest, Want};

/// After KILL, how long to wait for what does not end before giving up on it.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    cause: ShutdownCause,
    code: ExitCode,
    stage: Stage,
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// In order, each with its own stop time; KILL to all at this time.
    Polite { until: Instant },
    /// KILL was sent to all; what is left at this time is given up.
    Killing { until: Instant },
    /// Nothing is left, or was given up: the shell was told.
    Finished,
}

impl Shutdown {
    pub(super) fn next_time(&self) -> Option<Instant> {
        match self.stage {
            Stage::Polite { until } | Stage::Killing { until } => Some(until),
            Stage::Finished => None,
        }
    }

    /// Returns what is written down of it.
    fn to_note(&self) -> Option<Vec<u8>> {
        let (stage, deadline) = match self.stage {
            Stage::Polite { until } => (RecordedStage::Polite, until),
            Stage::Killing { until } => (RecordedStage::Killing, until),
            // Then the proxy ends; a successor that comes before that finds the time over.
            Stage::Finished => return None,
        };
        let (cause, code) = (self.cause.clone(), self.code);
        Some(encode_shutdown(&ShutdownRecord { cause, code, stage, deadline }))
    }
}

impl Manager {
    /// Reports whether everything is being stopped.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// The proxy got a signal that means an end. The others are the shell's.
    pub(super) fn on_signal(&mut self, now: Instant, signal: Signal, count: u64) {
        let at_once = match signal {
            Signal::QUIT => true,
            Signal::INT | Signal::TERM => self.shutdown.is_some() || count > 1,
            _ => return,
        };
        self.begin_shutdown(now, ShutdownCause::Signal(signal), at_once);
        self.send(Command::SignalClear { signal, count });
    }

    /// Begins the end, or makes it harder.
    pub(super) fn begin_shutdown(&mut self, now: Instant, cause: ShutdownCause, at_once: bool) {
        if self.shutdown.is_none() {
            let code = self.exit_code(&cause);
            let until = now.saturating_add(self.plan.manager.shutdown_timeout);
            self.announce(now, Happening::ShutdownBegun(Cause::Shutdown(cause.clone())));
            let stage = Stage::Polite { until };
            self.enter_shutdown(Shutdown { cause, code, stage });
        }
        if at_once {
            self.kill_all(now);
        }
    }

    /// A predecessor had begun it.
    fn resume_shutdown(&mut self, record: ShutdownRecord) {
        if self.shutdown.is_none() {
            let ShutdownRecord { cause, code, stage, deadline: until } = record;
            let stage = match stage {
                RecordedStage::Polite => Stage::Polite { until },
                RecordedStage::Killing => Stage::Killing { until },
            };
            self.enter_shutdown(Shutdown { cause, code, stage });
        }
    }

    fn enter_shutdown(&mut self, shutdown: Shutdown) {
        self.shutdown = Some(shutdown);
        self.note_shutdown();
        self.unwant_everything();
    }

    /// Writes down how far the shutdown is: a successor must neither ask politely again what was
    /// killed, nor give it its time anew.
    fn note_shutdown(&mut self) {
        if let Some(note) = self.shutdown.as_ref().and_then(Shutdown::to_note) {
            self.note(SHUTDOWN_KEY.to_owned(), note);
        }
    }

    /// Goes on with the shutdown that was noted; notes ours again if the proxy was lost before it
    /// had it.
    pub(super) fn compare_shutdown(&mut self, noted: Option<&Vec<u8>>) {
        if let Some(record) = noted.and_then(|note| decode_shutdown(note)) {
            self.resume_shutdown(record);
        }
        if self.shutdown.as_ref().and_then(Shutdown::to_note).as_ref() != noted {
            self.note_shutdown();
        }
    }

    /// During a shutdown nothing is wanted up. A service that ended unseen can begin one in the
    /// middle of a takeover, before the others are known; so it is said again after it.
    pub(super) fn unwant_everything(&mut self) {
        let Some(shutdown) = &self.shutdown else {
            return;
        };
        let because = Cause::Shutdown(shutdown.cause.clone());
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        for name in names {
            // What came to rest by itself keeps its own cause: it was not us.
            if self.services.get(&name).is_some_and(|service| service.want == Want::Up) {
                self.want_down(&name, &because, Manner::Polite);
            }
        }
    }

    /// Returns the status with which keepd will end.
    fn exit_code(&self, cause: &ShutdownCause) -> ExitCode {
        match cause {
            ShutdownCause::Operator(_) | ShutdownCause::Signal(_) => ExitCode::Done,
            ShutdownCause::Idle => {
                let all_done = self.services.values().all(|service| {
                    matches!(service.phase, Phase::Resting(Rest::Done) | Phase::Gathered)
                        || service.want != Want::Up
                });
                if all_done { ExitCode::Done } else { ExitCode::No }
            }
            ShutdownCause::Service(name) => {
                let end = self.services.get(name).and_then(|service| service.last_end.as_ref());
                match end.map(|end| end.exit) {
                    Some(Some(exit)) => ExitCode::Service(exit.shell_status()),
                    Some(None) => ExitCode::System,
                    None => ExitCode::No,
                }
            }
        }
    }

    fn kill_all(&mut self, now: Instant) {
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        let because = Cause::Shutdown(shutdown.cause.clone());
        if let Stage::Polite { .. } = shutdown.stage {
            shutdown.stage = Stage::Killing { until: now.saturating_add(STUCK_AFTER) };
            self.note_shutdown();
        }
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        for name in names {
            self.want_down(&name, &because, Manner::Kill);
        }
    }

    pub(super) fn on_shutdown_timer(&mut self, now: Instant) {
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        match shutdown.stage {
            Stage::Polite { until } if until <= now => self.kill_all(now),
            Stage::Killing { until } if until <= now => {
                shutdown.stage = Stage::Finished;
                // Something of ours is still there: whatever the reason, this was no clean end.
                let code = ExitCode::No.get();
                self.give_answers();
                self.outputs.push_back(Output::Finish { code });
            }
            Stage::Polite { .. } | Stage::Killing { .. } | Stage::Finished => {}
        }
    }

    /// Begins the end when nothing runs or will run; returns what tells the shell that nothing is
    /// left, to be said last in this turn: the connection ends with the answer to it.
    pub(super) fn advance_shutdown(&mut self, now: Instant) -> Option<Output> {
        if self.shutdown.is_none() && self.exits_when_idle() && self.is_idle() {
            self.begin_shutdown(now, ShutdownCause::Idle, false);
            self.settle(now);
        }
        let shutdown = self.shutdown.as_mut()?;
        if shutdown.stage == Stage::Finished
            || self.services.values().any(|service| service.has_process())
        {
            return None;
        }
        shutdown.stage = Stage::Finished;
        let code = shutdown.code.get();
        Some(Output::Finish { code })
    }

    fn exits_when_idle(&self) -> bool {
        match self.plan.manager.exit_when {
            ExitWhen::Auto => self.settings.idle_by_default,
            ExitWhen::Never => false,
            ExitWhen::Idle => true,
        }
    }

    /// Reports whether every service that is wanted came to rest by itself (or waits for one that
    /// did), and none was stopped by an operator.
    fn is_idle(&self) -> bool {
        let mut ended = false;
        for service in self.services.values() {
            match (&service.phase, service.want) {
                (Phase::Resting(Rest::Done | Rest::Failed), Want::Up) => ended = true,
                (Phase::Resting(_), Want::Down(_)) => {
                    if let Cause::Operator { .. } = service.want_cause {
                        return false;
                    }
                }
                // A group is as idle as its members.
                (Phase::Gathered, Want::Up) => {}
                (Phase::Waiting, Want::Up) if self.rests_for_good(service, 0) => {}
                (
                    Phase::Resting(Rest::Stopped)
                    | Phase::Waiting
                    | Phase::Preparing { .. }
                    | Phase::Commanded { .. }
                    | Phase::Starting(_)
                    | Phase::Running(_)
                    | Phase::Ending(_)
                    | Phase::Stuck(_)
                    | Phase::Gathered
                    | Phase::Leased { .. }
                    | Phase::Backoff { .. },
                    _,
                ) => return false,
            }
        }
        ended
    }

    /// Reports whether a waiting service waits for one that will not move any more.
    fn rests_for_good(&self, service: &super::service::Service, depth: usize) -> bool {
        depth < self.services.len()
            && service.spec.depends_on.iter().any(|(on, edge)| {
                self.services.get(on).is_some_and(|other| {
                    !other.satisfies(edge.until)
                        && match other.phase {
                            Phase::Resting(Rest::Done | Rest::Failed) => true,
                            Phase::Waiting => self.rests_for_good(other, depth + 1),
                            Phase::Resting(Rest::Stopped)
                            | Phase::Preparing { .. }
                            | Phase::Commanded { .. }
                            | Phase::Starting(_)
                            | Phase::Running(_)
                            | Phase::Gathered
                            | Phase::Ending(_)
                            | Phase::Stuck(_)
                            | Phase::Leased { .. }
                            | Phase::Backoff { .. } => false,
                        }
                })
            })
    }
}
