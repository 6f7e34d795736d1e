//! The loss of the proxy, and its successor: who was connected is cut off, who runs runs on, and
//! what was written down is replayed.
//!
//! The loss of the warden is that of the proxy, too: a proxy without a warden becomes one, and
//! starts another proxy. Where both are lost at once, nobody sees what ends meanwhile.

use std::collections::BTreeSet;

use keepd_compat::FRONT;
use keepd_engine::manager;
use keepd_engine::proxy::{ConnectionId, DescriptorId, Fact, Input, Output, Owner, SpawnOutcome};
use keepd_model::protocol::{Event, RunEnd};
use keepd_model::{Exit, Generation, HandleReport, Pid, ServiceName};

use crate::estate::{Running, says_more_than_generations};
use crate::proxy::ProxyShell;
use crate::visitor;
use crate::world::{Due, Step, World, broken};

/// What a proxy leaves to its successor besides journal and ledger.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The labels of held descriptors.
    handles: Vec<HandleReport>,
    /// What it knew, if it had nothing else in mind.
    snapshot: Option<Vec<Fact>>,
}

impl World {
    /// Counts one more output of a proxy that shall die within a turn. Reports whether it did.
    pub(crate) fn proxy_dies_here(&mut self) -> bool {
        match &mut self.proxy.dies_after {
            Some(0) => {
                self.faults.count("proxy dies within a turn");
                self.lose(false, false);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.proxy.is_lost
    }

    /// SIGKILL to the proxy, perhaps with its warden.
    pub(crate) fn lose_proxy(&mut self, with_warden: bool) {
        self.lose(with_warden, true);
    }

    /// Between two turns a proxy is at rest: what it knows is written down.
    fn lose(&mut self, with_warden: bool, is_at_rest: bool) {
        if self.proxy.is_lost || self.ended.is_some() {
            return;
        }
        let who = if with_warden { "warden and proxy are" } else { "the proxy is" };
        self.trace(|| format!("{who} killed"));
        self.note_quiet_at_loss();
        let is_at_rest = is_at_rest && !self.estate.has_unwritten();
        let snapshot = is_at_rest.then(|| self.proxy.machine.snapshot().collect());
        let whole = self.random.index(self.estate.unwritten_len() + 1);
        let torn = self.estate.tear(whole);
        self.lose_readiness(torn);
        self.left = Left { handles: self.held_handles(), snapshot };
        self.proxy.is_lost = true;
        self.proxy.has_no_warden = with_warden;
        self.proxy.dies_after = None;
        self.cut_connections();
        self.kernel.forget_watches();
        self.kill_jobs();
        for (name, generation, running) in self.estate.orphan() {
            self.orphan(&name, generation, running);
        }
        if with_warden {
            self.lose_statuses();
        }
        let delay = self.random.weighted(&[(60, (1, 20)), (25, (20, 200)), (15, (200, 6_000))]);
        let delay = self.random.millis(delay.0, delay.1);
        self.after(delay, Due::ProxyBegins);
    }

    /// A notification that was read and is in no journal is lost: nobody says it again.
    fn lose_readiness(&mut self, torn: Vec<Fact>) {
        let unsaid = std::iter::from_fn(|| self.proxy.machine.poll_output());
        let unsaid = unsaid.filter_map(|output| match output {
            Output::Record { fact } => Some(fact),
            _ => None,
        });
        let unsaid: Vec<Fact> = unsaid.collect();
        for fact in torn.into_iter().chain(unsaid) {
            if let Fact::Event(Event::Notify { name, generation, .. }) = fact
                && let Some(truth) = self.kernel.truths.get_mut(&(name, generation))
            {
                self.faults.count("readiness lost");
                truth.ready_at = None;
            }
        }
    }

    fn held_handles(&self) -> Vec<HandleReport> {
        let machine = &self.proxy.machine;
        let mut handles = Vec::new();
        let mut after = None;
        while let Some(report) = machine.handle_after(after.as_ref()) {
            after = Some(report.name.clone());
            if !report.name.as_str().starts_with("control.") {
                handles.push(report);
            }
        }
        // The null device first.
        handles.sort_by_key(|report| report.name.as_str() != "null");
        handles
    }

    /// What was written to a connection can be read, and then it ends.
    fn cut_connections(&mut self) {
        let manager =
            self.manager.as_ref().and_then(|shell| Some((shell.serial, shell.connection?)));
        if let Some((serial, id)) = manager
            && let Some(connection) = self.proxy.connections.get(&id)
        {
            let at = connection.last_at.max(connection.stalled_until).max(self.now);
            self.at(at, Due::ManagerIsCut(serial, id));
        }
        let proxy = &mut self.proxy;
        proxy.connections.clear();
        proxy.plain.clear();
        proxy.reports.clear();
        proxy.signals.clear();
        proxy.empties.clear();
        proxy.arrivals.clear();
        proxy.forget_spawned();
        self.observers.clear();
        self.plain_clients.clear();
    }

    /// A process whose parent was lost. One that has not looked at its word yet finds that it must
    /// not go on.
    fn orphan(&mut self, name: &ServiceName, generation: Generation, running: Running) {
        let pid = running.pid;
        let gives_up = self.kernel.is_executed(pid) == Some(false) && self.random.chance(50);
        let key = (name.clone(), generation);
        let Some(truth) = self.kernel.truths.get_mut(&key) else {
            return;
        };
        if !gives_up {
            // From here on nobody is told when it executes its program.
            truth.executed = Some(running.started);
            return;
        }
        truth.ended = Some(RunEnd::Cancelled);
        truth.ended_at = Some(self.now);
        self.faults.count("child gives up");
        self.trace(|| format!("kernel: {pid} of {name} {generation} gives up"));
        self.kernel.vanish(pid);
        self.estate.end(name, RunEnd::Cancelled, None);
    }

    /// Nobody sees the status of some that are not reaped.
    fn lose_statuses(&mut self) {
        for pid in self.proxy.deaths.clone() {
            if self.random.chance(50) {
                self.lose_status(pid);
            }
        }
    }

    /// Init takes a process away, and nobody will say how it ended.
    pub(crate) fn lose_status(&mut self, pid: Pid) {
        let Some(Owner::Service(name, generation)) = self.kernel.owner_of_main(pid) else {
            return;
        };
        let key = (name, generation);
        if let Some(truth) = self.kernel.truths.get_mut(&key)
            && matches!(truth.ended, Some(RunEnd::Exit(_)))
        {
            self.faults.count("status unknown");
            truth.ended = Some(RunEnd::Exit(Exit::Unknown));
            self.kernel.forget_status(pid);
        }
    }

    /// Somebody's main process is to be told as over: the ledger first.
    pub(crate) fn record_end(&mut self, pid: Pid) -> Option<(Owner, RunEnd, bool)> {
        let (name, generation, running) = self.estate.owner_of(pid)?;
        let (name, is_foreign) = (name.clone(), running.is_foreign);
        let truth = self.kernel.truths.get(&(name.clone(), generation));
        let end = truth.and_then(|truth| truth.ended)?;
        self.estate.end(&name, end, Some(self.now));
        Some((Owner::Service(name, generation), end, is_foreign))
    }

    /// The successor begins.
    pub(crate) fn on_proxy_begins(&mut self) -> Step {
        if !self.proxy.is_lost || self.ended.is_some() {
            return Ok(());
        }
        self.trace(|| "a new proxy begins".to_owned());
        self.faults.count("proxy comes back");
        let left = std::mem::take(&mut self.left);
        let handles = left.handles.len() as u64;
        let mut successor = ProxyShell::new(&mut self.random, left.handles);
        successor.descriptors = (1..=handles).map(DescriptorId).collect();
        successor.inherit(&mut self.proxy);
        let deaths = std::mem::take(&mut self.proxy.deaths);
        self.proxy = successor;
        if !self.is_calm && self.random.chance(15) {
            self.proxy.dies_after = Some(self.random.between(0, 40));
        }
        for pid in deaths {
            self.record_end(pid);
            self.kernel.reap(pid);
        }
        self.proxy.is_adopting = true;
        self.replay(left.snapshot)?;
        self.adopt_all()?;
        self.proxy.is_adopting = false;
        if self.proxy.is_lost {
            return Ok(());
        }
        let connected = Input::Connected { connection: FRONT, output: true };
        self.give_proxy(connected)?;
        self.wake_proxy();
        Ok(())
    }

    fn replay(&mut self, snapshot: Option<Vec<Fact>>) -> Step {
        for fact in self.estate.facts() {
            let Some(fact) = fact else {
                return broken("S26", "a line of the journal cannot be read".to_owned());
            };
            self.proxy.machine.handle_input(self.now, Input::Replayed { fact });
        }
        self.drain_proxy()?;
        let Some(mut facts) = snapshot.filter(|_| !self.proxy.is_lost) else {
            return Ok(());
        };
        let mut replayed: Vec<Fact> = self.proxy.machine.snapshot().collect();
        facts.retain(says_more_than_generations);
        replayed.retain(says_more_than_generations);
        let pair = facts.iter().zip(&replayed).find(|(one, other)| one != other);
        if let Some(pair) = pair {
            return broken("S26", format!("replayed is another: {pair:?}"));
        }
        if facts.len() != replayed.len() {
            let (lost, found) = (facts.len(), replayed.len());
            return broken("S26", format!("{lost} facts are replayed as {found}"));
        }
        Ok(())
    }

    fn adopt_all(&mut self) -> Step {
        let services: BTreeSet<ServiceName> =
            self.proxy.machine.services().map(|view| view.name.clone()).collect();
        for name in &services {
            if self.proxy.is_lost {
                return Ok(());
            }
            let leaf = *name != visitor::service();
            let (generation, run, unacknowledged) = self.estate.adopted(name, leaf);
            let name = name.clone();
            self.give_proxy(Input::Adopted { name, generation, run, unacknowledged })?;
        }
        let left: Vec<ServiceName> =
            self.estate.names().filter(|name| !services.contains(*name)).cloned().collect();
        for name in left {
            // It was deleted, and its slot was not given back.
            self.estate.forget(&name);
            self.forget_service(&name)?;
        }
        Ok(())
    }

    /// The manager reads the end of its connection.
    pub(crate) fn on_manager_is_cut(&mut self, serial: u64, connection: ConnectionId) -> Step {
        let is_its = self
            .manager
            .as_ref()
            .is_some_and(|shell| shell.serial == serial && shell.connection == Some(connection));
        if !is_its {
            return Ok(());
        }
        if let Some(shell) = &mut self.manager {
            shell.cut();
        }
        let delay = self.random.micros(0, 20_000);
        self.after(delay, Due::ManagerConnects(serial));
        self.give_manager(manager::Input::Disconnected)
    }

    pub(crate) fn on_manager_connects(&mut self, serial: u64) -> Step {
        if self.manager_serial() != Some(serial) {
            return Ok(());
        }
        if self.proxy.is_lost {
            let delay = self.random.millis(5, 50);
            self.after(delay, Due::ManagerConnects(serial));
            return Ok(());
        }
        let connection = self.connect(true);
        if let Some(shell) = &mut self.manager {
            shell.connection = Some(connection);
        }
        self.give_manager(manager::Input::Connected)
    }

    /// What a child of a lost proxy could not say, its word says.
    pub(crate) fn give_unsaid_failure(&mut self, owner: Owner, end: RunEnd) -> Step {
        match end {
            RunEnd::Failed(failure) => {
                let outcome = SpawnOutcome::Failed(failure);
                self.give_proxy(Input::Report { owner, outcome })
            }
            RunEnd::Exit(_) | RunEnd::Cancelled => Ok(()),
        }
    }

    /// A run that is killed with everybody who might see it.
    pub(crate) const fn is_unseen(&self) -> bool {
        self.proxy.is_lost && self.proxy.has_no_warden
    }
}
