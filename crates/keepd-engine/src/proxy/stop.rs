//! From a running program to an empty group: stops, signals, deaths, and what is left after a
//! death.

use std::time::Duration;

use keepd_model::protocol::{Fail, FailKind, RunEnd, Scope, SignalNumber};
use keepd_model::{Errno, Exit, Generation, Instant, KillMode, ServiceName, Signal, Wanted};

use super::commands::{Asker, fail, stale};
use super::service::{Ended, Main, Phase, Remains, Run};
use super::tickets::{Purpose, Undertaking};
use super::{Effect, Output, Owner, Proxy};

/// What is still there this long after KILL is reported as stuck; KILL is repeated as often.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(5);

/// A stop as it was asked for: the signal, and when KILL follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StopOrder {
    signal: Signal,
    kill_due: Instant,
}

impl StopOrder {
    /// Returns the order that was given now. KILL leaves nothing to wait for.
    pub(super) fn new(now: Instant, signal: Signal, timeout: Duration) -> Self {
        let kill_due = if signal == Signal::KILL { now } else { now.saturating_add(timeout) };
        Self { signal, kill_due }
    }

    /// Returns the phase that this order begins with.
    fn phase(self, now: Instant) -> Phase {
        if self.kill_due <= now { killed(now) } else { Phase::Polite { kill_due: self.kill_due } }
    }

    /// Returns this order with the earlier time for KILL of both.
    fn tightened_by(self, later: Self) -> Self {
        Self { signal: self.signal, kill_due: self.kill_due.min(later.kill_due) }
    }
}

/// Returns the phase after a KILL that is sent now.
fn killed(now: Instant) -> Phase {
    Phase::Killed { again: now.saturating_add(STUCK_AFTER) }
}

impl Proxy {
    /// `service.stop`. `other` replaces signal and timeout of the attributes.
    pub(super) fn stop(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        expected: Generation,
        other: Option<(Signal, Duration)>,
    ) -> Result<(), Fail> {
        let service = self.service_mut("stop", name)?;
        let run = service.run();
        if let Run::Down { .. } = run {
            return Err(not_running("stop", name));
        }
        self.check_sure("stop", name)?;
        let service = self.service_mut("stop", name)?;
        if expected != service.generation {
            return Err(stale("stop", name, expected, service.generation));
        }
        let attributes = &service.attributes;
        let (signal, timeout) = other.unwrap_or((attributes.stop_signal, attributes.stop_timeout));
        let order = StopOrder::new(now, signal, timeout);
        service.wanted = Wanted::Down;
        service.lease = None;
        self.accept(asker);
        match run {
            // Refused above.
            Run::Down { .. } | Run::Unsure { .. } => {}
            Run::Pending { ended, .. } => {
                self.transition(name, Run::Down { since: now, ended });
            }
            Run::Spawning { asked, leaf, stop } => {
                let stop = Some(stop.map_or(order, |earlier| earlier.tightened_by(order)));
                self.transition(name, Run::Spawning { asked, leaf, stop });
            }
            Run::Forked { main } | Run::Up { main, .. } => {
                self.begin_stop(now, name, main, order);
            }
            Run::Stopping { main, since, phase } => {
                let phase = self.tighten(now, name, phase, order, other.is_some());
                self.transition(name, Run::Stopping { main, since, phase });
            }
            Run::Emptying { ended, phase } => {
                let phase = self.tighten(now, name, phase, order, other.is_some());
                self.transition(name, Run::Emptying { ended, phase });
            }
            // KILL is the last word, and it was said.
            Run::Stuck { .. } => {}
        }
        Ok(())
    }

    /// Begins to end a main process. A child that has not executed its program keeps the signal
    /// pending until it has, with the default disposition.
    pub(super) fn begin_stop(
        &mut self,
        now: Instant,
        name: &ServiceName,
        main: Main,
        order: StopOrder,
    ) {
        let phase = order.phase(now);
        self.transition(name, Run::Stopping { main, since: now, phase });
        match phase {
            Phase::Polite { .. } => self.signal_politely(name, order.signal),
            Phase::Killed { .. } => self.kill(name),
        }
    }

    /// Returns the phase after one more stop: KILL may come earlier, never later. The signal is
    /// sent again only if the stop named one.
    fn tighten(
        &mut self,
        now: Instant,
        name: &ServiceName,
        phase: Phase,
        order: StopOrder,
        names_signal: bool,
    ) -> Phase {
        match phase {
            Phase::Killed { .. } => phase,
            Phase::Polite { .. } if order.kill_due <= now => {
                self.kill(name);
                killed(now)
            }
            Phase::Polite { kill_due } => {
                if names_signal {
                    self.signal_politely(name, order.signal);
                }
                Phase::Polite { kill_due: kill_due.min(order.kill_due) }
            }
        }
    }

    /// Sends a signal to those whom `kill_mode` names, and CONT, because a stopped process would
    /// keep it pending.
    fn signal_politely(&mut self, name: &ServiceName, signal: Signal) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let scope = match (service.attributes.kill_mode, service.run().main()) {
            (KillMode::Mixed | KillMode::Main, Some(_)) => Scope::Main,
            (KillMode::All, _) | (KillMode::Mixed | KillMode::Main, None) => Scope::All,
        };
        self.send_signal(name, signal, scope);
        self.send_signal(name, Signal::CONT, scope);
    }

    /// Sends KILL to everything of the service; with `kill_mode=main` to its main process only.
    fn kill(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let scope = match (service.attributes.kill_mode, service.run().main()) {
            (KillMode::Main, Some(_)) => Scope::Main,
            // A group that was being emptied when the mode became `main` is emptied.
            (KillMode::Main, None) | (KillMode::Mixed | KillMode::All, _) => Scope::All,
        };
        self.send_signal(name, Signal::KILL, scope);
    }

    /// Asks the shell for a signal. Without a group of its own a service is its main process: the
    /// group it lives in is the proxy's, with everything else that lives there.
    fn send_signal(&mut self, name: &ServiceName, signal: Signal, scope: Scope) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let owner = Owner::Service(name.clone(), service.generation);
        let output = match (service.run().main(), scope) {
            (Some(main), Scope::Main) => Output::SignalMain { owner, pid: main.pid, signal },
            (Some(main), Scope::All) if !main.leaf => {
                Output::SignalMain { owner, pid: main.pid, signal }
            }
            // Without a main process only a group that is not empty can be meant.
            (Some(_) | None, Scope::All) => Output::SignalGroup { owner, signal },
            // Nothing of the machine's own goes to a process group.
            (Some(_), Scope::ProcessGroup) | (None, Scope::Main | Scope::ProcessGroup) => return,
        };
        self.outputs.push_back(output);
    }

    /// `service.signal`.
    pub(super) fn signal_by_command(
        &mut self,
        asker: Asker,
        name: &ServiceName,
        expected: Option<Generation>,
        signal: SignalNumber,
        scope: Scope,
    ) -> Result<(), Fail> {
        self.check_sure("signal", name)?;
        let service = self.service_mut("signal", name)?;
        let has_receiver = match (service.run(), scope) {
            (
                Run::Down { .. }
                | Run::Pending { .. }
                | Run::Spawning { .. }
                // Refused above.
                | Run::Unsure { .. },
                _,
            ) => false,
            (
                Run::Forked { .. }
                | Run::Up { .. }
                | Run::Stopping { .. }
                | Run::Stuck { remains: Remains::Main(_), .. },
                _,
            ) => true,
            (Run::Emptying { .. } | Run::Stuck { remains: Remains::Group(_), .. }, Scope::All) => {
                true
            }
            // The process id was given back and may name a stranger.
            (
                Run::Emptying { .. } | Run::Stuck { remains: Remains::Group(_), .. },
                Scope::Main | Scope::ProcessGroup,
            ) => false,
        };
        if !has_receiver {
            return Err(not_running("signal", name));
        }
        if let Some(expected) = expected
            && expected != service.generation
        {
            return Err(stale("signal", name, expected, service.generation));
        }
        let main = service.run().main().copied();
        let group = match (main, scope) {
            // Others than the main process are reached only by way of their group.
            (Some(Main { leaf: true, .. }) | None, Scope::All) => {
                return self.signal_group_by_command(asker, name, signal);
            }
            (_, Scope::Main | Scope::All) => false,
            (_, Scope::ProcessGroup) => true,
        };
        let Some(Main { pid, .. }) = main else {
            return Err(not_running("signal", name));
        };
        let purpose = Purpose::Signal { name: name.clone(), pid, group };
        self.perform(
            Effect::Signal { pid, group, signal },
            Undertaking { asker: Some(asker), purpose },
        );
        Ok(())
    }

    /// `service.signal … all` for a service with a group of its own. Signal 0 finds somebody there.
    fn signal_group_by_command(
        &mut self,
        asker: Asker,
        name: &ServiceName,
        number: SignalNumber,
    ) -> Result<(), Fail> {
        let signal = number.signal();
        if signal.is_none() && number.0 != 0 {
            let why = format!("cannot kill: {}", Errno::EINVAL);
            let text = format!("cannot signal service \"{name}\": {why}");
            return Err(fail(FailKind::System, text));
        }
        self.accept(asker);
        if let Some(signal) = signal {
            self.send_signal(name, signal, Scope::All);
        }
        Ok(())
    }

    /// The main process was reaped.
    pub(super) fn on_service_reaped(&mut self, now: Instant, name: &ServiceName, exit: Exit) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let (main, driven) = match service.run() {
            Run::Forked { main } | Run::Up { main, .. } => (main, None),
            Run::Stopping { main, phase, .. } => (main, Some(phase)),
            Run::Stuck { remains: Remains::Main(main), again, .. } => {
                (main, Some(Phase::Killed { again }))
            }
            // Without a main process there is none to reap.
            Run::Down { .. }
            | Run::Pending { .. }
            | Run::Spawning { .. }
            | Run::Emptying { .. }
            | Run::Stuck { remains: Remains::Group(_), .. }
            | Run::Unsure { .. } => return,
        };
        let ended = Ended {
            at: now,
            end: main.failure.map_or(RunEnd::Exit(exit), RunEnd::Failed),
            pid: Some(main.pid),
            started: main.started,
        };
        self.end_main(now, name, ended, main.leaf, driven);
    }

    /// The main process is over; with `leaf` there is a group that others may be left in. `driven`
    /// is how far an end was driven before.
    pub(super) fn end_main(
        &mut self,
        now: Instant,
        name: &ServiceName,
        ended: Ended,
        leaf: bool,
        driven: Option<Phase>,
    ) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let owner = Owner::Service(name.clone(), service.generation);
        if !service.waits_for_group(leaf) {
            if leaf {
                self.outputs.push_back(Output::LeaveGroup { owner });
            }
            self.come_down(now, name, ended);
            return;
        }
        let attributes = &service.attributes;
        let order = StopOrder::new(now, attributes.stop_signal, attributes.stop_timeout);
        let phase = match (attributes.kill_mode, driven) {
            // With `main` nobody waits for a group.
            (KillMode::Mixed | KillMode::Main, _) | (KillMode::All, Some(Phase::Killed { .. })) => {
                killed(now)
            }
            // The others got the signal with the main process and have the rest of the time.
            (KillMode::All, Some(polite @ Phase::Polite { .. })) => polite,
            (KillMode::All, None) => order.phase(now),
        };
        self.transition(name, Run::Emptying { ended, phase });
        match (phase, driven) {
            (Phase::Killed { .. }, _) => self.kill(name),
            (Phase::Polite { .. }, None) => self.signal_politely(name, order.signal),
            (Phase::Polite { .. }, Some(_)) => {}
        }
        self.outputs.push_back(Output::WatchGroup { owner });
    }

    /// No process of the group is left.
    pub(super) fn on_service_group_empty(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
    ) {
        let Some(service) = self.present_generation(name, generation) else {
            return;
        };
        match service.run() {
            Run::Emptying { ended, .. } | Run::Stuck { remains: Remains::Group(ended), .. } => {
                self.come_down(now, name, ended);
            }
            // The shell watches a group only after its main process was reaped.
            Run::Down { .. }
            | Run::Pending { .. }
            | Run::Spawning { .. }
            | Run::Forked { .. }
            | Run::Up { .. }
            | Run::Stopping { .. }
            | Run::Stuck { remains: Remains::Main(_), .. }
            | Run::Unsure { .. } => {}
        }
    }

    /// The deadline of a run passed. Every state that has one moves it into the future here.
    pub(super) fn on_service_timer(&mut self, now: Instant, name: &ServiceName) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let again = now.saturating_add(STUCK_AFTER);
        let next = match service.run() {
            Run::Pending { due, ended, cause } => {
                self.start_due(now, name, due, ended, cause);
                return;
            }
            Run::Stopping { main, since, phase } => match phase {
                Phase::Polite { .. } => Run::Stopping { main, since, phase: killed(now) },
                Phase::Killed { .. } => {
                    Run::Stuck { remains: Remains::Main(main), since: now, again }
                }
            },
            Run::Emptying { ended, phase } => match phase {
                Phase::Polite { .. } => Run::Emptying { ended, phase: killed(now) },
                Phase::Killed { .. } => {
                    Run::Stuck { remains: Remains::Group(ended), since: now, again }
                }
            },
            Run::Stuck { remains, since, .. } => Run::Stuck { remains, since, again },
            // These have no deadline.
            Run::Down { .. }
            | Run::Spawning { .. }
            | Run::Forked { .. }
            | Run::Up { .. }
            | Run::Unsure { .. } => return,
        };
        self.transition(name, next);
        self.kill(name);
    }
}

impl Proxy {
    /// Refuses what acts on a service of which it cannot be said whether it runs.
    fn check_sure(&self, verb: &str, name: &ServiceName) -> Result<(), Fail> {
        match self.doubts.get(name) {
            Some(why) => {
                Err(fail(FailKind::System, format!("cannot {verb} service \"{name}\": {why}")))
            }
            None => Ok(()),
        }
    }
}

/// Returns the refusal of a command that needs a process.
fn not_running(verb: &str, name: &ServiceName) -> Fail {
    fail(FailKind::NotRunning, format!("cannot {verb} service \"{name}\": it is not running"))
}
