//! Clients of the manager: each wants one thing, and asks with the same word until it is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_engine::manager::{Ask, AskId, Input, Refusal, Who};
use keepd_model::protocol::Scope;
use keepd_model::{ChangeId, ServiceName, Signal};

use crate::checker::Checker;
use crate::sabotage::Sabotage;
use crate::scenario;
use crate::world::{Due, Step, World, broken};

/// What a client wants. The plan of an apply is read when it is asked for, as the shell does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Start(Vec<ServiceName>, bool),
    Stop(Vec<ServiceName>, bool, bool),
    Restart(Vec<ServiceName>),
    Reload(Vec<ServiceName>),
    Signal(Vec<ServiceName>),
    Apply(bool),
    Shutdown(bool),
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) want: Want,
    pub(crate) answer: Option<Result<ChangeId, Refusal>>,
    /// It asks once more after its answer, as a client does that lost it.
    asks_again: bool,
}

impl Checker {
    /// Somebody was told that this was accepted: from now on nobody may forget it.
    pub(crate) fn note_answer(&mut self, change: ChangeId) {
        let wishes = self.tracks.values_mut().filter_map(|track| track.wish.as_mut());
        for wish in wishes.filter(|wish| wish.change == change) {
            wish.is_answered = true;
        }
    }
}

impl World {
    /// A client with a random wish appears.
    pub(crate) fn add_client(&mut self) {
        let names: Vec<ServiceName> = self.accepted.services.keys().cloned().collect();
        let mut some = || -> Vec<ServiceName> {
            if names.is_empty() {
                return Vec::new();
            }
            let count = self.random.between(1, 2);
            let mut some: Vec<ServiceName> =
                (0..count).map(|_| names[self.random.index(names.len())].clone()).collect();
            some.dedup();
            some
        };
        let some = some();
        let (kind, alone, kill) = (
            self.random.weighted(&[(30, 0), (25, 1), (15, 2), (8, 3), (4, 4), (14, 5)]),
            self.random.chance(15),
            self.random.chance(20),
        );
        let want = match kind {
            0 => Want::Start(some, alone),
            1 => Want::Stop(some, alone, kill),
            2 => Want::Restart(some),
            3 => Want::Reload(some),
            4 => Want::Signal(some),
            _ => {
                self.files = scenario::edited(&mut self.random, &self.files);
                Want::Apply(self.random.chance(80))
            }
        };
        self.add_client_with(want);
    }

    pub(crate) fn add_client_with(&mut self, want: Want) {
        let number = self.clients.len();
        self.trace(|| format!("client {number} wants {want:?}"));
        let asks_again = self.random.chance(10);
        self.clients.push(Client { want, answer: None, asks_again });
        self.after(Duration::ZERO, Due::ClientAsks(number));
    }

    pub(crate) fn retry_client(&mut self, client: usize) {
        let delay = self.random.millis(10, 100);
        self.after(delay, Due::ClientAsks(client));
    }

    /// A client asks, if there is a manager; otherwise it tries again soon.
    pub(crate) fn on_client_asks(&mut self, client: usize) -> Step {
        let token = format!("t{client}");
        let Some(shell) = &mut self.manager else {
            self.retry_client(client);
            return Ok(());
        };
        // The shell carries nothing out for a word that is known: the machine answers it.
        let is_known =
            shell.machine.changes().any(|change| change.token.as_deref() == Some(&token));
        let accepts = shell.machine.is_synchronised() && !shell.machine.is_shutting_down();
        let request = match self.clients[client].want.clone() {
            Want::Start(names, alone) => Ask::Start { names, alone },
            Want::Stop(names, alone, kill) => Ask::Stop { names, alone, kill },
            Want::Restart(names) => Ask::Restart { names },
            Want::Reload(names) => Ask::Reload { names },
            Want::Signal(names) => Ask::Signal { names, signal: Signal::HUP, scope: Scope::All },
            Want::Shutdown(now) => Ask::Shutdown { now },
            Want::Apply(restart) => {
                let plan = self.files.clone();
                if accepts && !is_known {
                    self.replaced = std::mem::replace(&mut self.accepted, plan.clone());
                    self.draw_tempers();
                    self.checker.apply_is_under_way = true;
                }
                Ask::Apply { plan, restart }
            }
        };
        if self.sabotage_once(Sabotage::SwallowsRequest, accepts) {
            return Ok(());
        }
        let ask = AskId(client as u64);
        let Some(shell) = &mut self.manager else {
            return Ok(());
        };
        shell.asks.insert(ask, client);
        let done = self.give_manager(Input::Ask {
            ask,
            who: Who { uid: 0, pid: 1 },
            token: Some(token),
            request,
        });
        self.checker.apply_is_under_way = false;
        done
    }

    /// The machine answered.
    pub(crate) fn on_answer(&mut self, ask: AskId, answer: Result<ChangeId, Refusal>) -> Step {
        let client = self.manager.as_mut().and_then(|shell| shell.asks.remove(&ask));
        let Some(client) = client else {
            return broken("S5", format!("{ask:?} is answered, and nobody asked"));
        };
        if answer == Err(Refusal::NotSynchronised) {
            self.faults.count("asked too early");
            self.retry_client(client);
            return Ok(());
        }
        if let Ok(change) = &answer {
            self.checker.note_answer(*change);
            self.check_goals(client, *change)?;
        }
        let before = self.clients[client].answer.clone();
        if let Some(Ok(before)) = before
            && let Ok(now) = &answer
            && before != *now
            && self.is_remembered(before)
        {
            let sentence = format!("client {client} got change {before}, and then {now}");
            return broken("S5", sentence);
        }
        self.clients[client].answer = Some(answer);
        if std::mem::take(&mut self.clients[client].asks_again) {
            self.faults.count("asked again");
            self.retry_client(client);
        }
        Ok(())
    }

    /// Reports whether a change is among those that a manager still knows.
    fn is_remembered(&self, change: ChangeId) -> bool {
        self.manager.as_ref().is_some_and(|shell| shell.machine.change(change).is_some())
    }

    /// keepd itself gets a signal.
    pub(crate) fn signal_keepd(&mut self, signal: Signal) {
        self.trace(|| format!("keepd gets {signal}"));
        self.faults.count("signal to keepd");
        self.proxy.signals.push(signal);
        self.wake_proxy();
    }
}

/// Counts clients by whether they were answered.
pub(crate) fn unanswered(clients: &[Client]) -> BTreeMap<usize, &Want> {
    clients
        .iter()
        .enumerate()
        .filter(|(_, client)| client.answer.is_none())
        .map(|(index, client)| (index, &client.want))
        .collect()
}
