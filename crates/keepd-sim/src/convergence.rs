//! The end of a run: the faults stop, time passes, and everything must be where it is wanted (S4,
//! S5).

use std::time::Duration;

use keepd_engine::manager::{Cause, Goal, Manager, Outcome, ServiceStatus, Target};
use keepd_model::protocol::RunEnd;
use keepd_model::{Generation, Kind, RestartPolicy, ServiceName, State, Until, Wanted};

use crate::checker::Wish;
use crate::clients::unanswered;
use crate::plain::is_foreign;
use crate::world::{Step, World, broken};

/// Longer than any chain of starts, stops and delays that a plan of the scenarios can make.
const SETTLING: Duration = Duration::from_secs(100);
/// Longer than a command takes that is answered at its deadline.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// Longer than any shutdown: its time, the time after KILL, and a manager that was lost meanwhile.
const ENDING: Duration = Duration::from_secs(60);

impl World {
    /// Waits until nothing is due any more, and looks.
    pub(crate) fn converge(&mut self) -> Step {
        self.calm_down();
        self.advance(SETTLING)?;
        if self.ended.is_some() {
            return self.check_end_of_all();
        }
        self.trace_places();
        let Some(shell) = &self.manager else {
            return broken("S4", "there is no manager".to_owned());
        };
        let machine = &shell.machine;
        if !machine.is_synchronised() {
            return broken("S4", "the manager does not know the proxy".to_owned());
        }
        if machine.is_shutting_down() {
            return broken("S4", "a shutdown does not end".to_owned());
        }
        if let Some((client, want)) = unanswered(&self.clients).into_iter().next() {
            return broken("S5", format!("client {client} got no answer: {want:?}"));
        }
        for (id, connection) in &self.proxy.connections {
            // A question that is asked again and again may be under way at the end, too.
            if let Some((number, came)) = connection.unanswered.first_key_value()
                && self.now.saturating_since(*came) > UNDER_WAY
            {
                return broken("S9", format!("{id:?}: {} got no answer", number.0));
            }
        }
        for status in machine.statuses() {
            self.check_place(machine, &status)?;
            self.check_history(machine, &status)?;
        }
        self.check_changes(machine)?;
        self.check_proxy_agrees(machine)
    }

    /// Writes down where every service is.
    fn trace_places(&mut self) {
        let statuses = self.manager.as_ref().map(|shell| shell.machine.statuses());
        for status in statuses.unwrap_or_default() {
            let needs: Vec<String> = status
                .spec
                .depends_on
                .iter()
                .map(|(on, edge)| format!("{on} {}", edge.until))
                .collect();
            self.trace(|| {
                format!(
                    "{} is {}, wanted {}, {} {} needs [{}], because {:?}",
                    status.spec.name,
                    status.state,
                    status.wanted,
                    status.spec.kind,
                    status.spec.restart,
                    needs.join(", "),
                    status.cause
                )
            });
        }
    }

    /// keepd is told to end, and must.
    pub(crate) fn finish(&mut self) -> Step {
        self.begin_end()?;
        self.advance(ENDING)?;
        if self.ended.is_none() {
            return broken("S4", "keepd was told to end and does not".to_owned());
        }
        self.check_end_of_all()
    }

    /// S6: keepd ends with 0 only when nothing of its services is left.
    fn check_end_of_all(&self) -> Step {
        let left = self
            .kernel
            .generations
            .keys()
            .filter(|name| !name.is_internal() && !is_foreign(name))
            .find(|name| self.kernel.has_live(name));
        match (left, self.ended) {
            (Some(name), Some(0)) => broken("S6", format!("keepd ended with 0, and {name} lives")),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// S4: a service is in a state that follows from what is wanted, its policy and its last end.
    fn check_place(&self, machine: &Manager, status: &ServiceStatus) -> Step {
        let name = &status.spec.name;
        let wish = self.checker.tracks.get(name).and_then(|track| track.wish);
        let state = status.state;
        let wrong = |why: &str| broken("S4", format!("{name} is {state}: {why}"));
        if !self.accepted.services.contains_key(name) {
            return match state {
                State::Stuck => Ok(()),
                _ => wrong("it is gone from the plan"),
            };
        }
        match wish {
            // It followed what it depends on.
            Some(Wish { up: true, .. })
                if matches!(status.cause, Cause::DependencyLost { .. })
                    && status.wanted == Wanted::Down => {}
            Some(Wish { up: true, .. }) if status.wanted == Wanted::Down => {
                return wrong("it was asked to be up last");
            }
            Some(Wish { up: false, .. }) if status.wanted == Wanted::Up => {
                return wrong("it was asked to be down last");
            }
            None if status.spec.enabled
                && status.wanted == Wanted::Down
                && status.cause == Cause::NotEnabled =>
            {
                return wrong("it is enabled, and nobody stopped it");
            }
            Some(_) | None => {}
        }
        let lives = self.kernel.has_live(name);
        match (state, status.wanted) {
            (State::Stuck, _) => wrong("nothing sleeps in the kernel any more"),
            (State::Unknown | State::Scheduled, _) => wrong("there is no such state yet"),
            (State::Stopped | State::Done | State::Failed, Wanted::Down) => {
                if lives {
                    wrong("it has a process")
                } else {
                    Ok(())
                }
            }
            (_, Wanted::Down) => wrong("it is not wanted"),
            (State::Stopped, Wanted::Up) => wrong("it is wanted"),
            (State::Ready, Wanted::Up)
                if status.spec.kind == Kind::Group && status.pid.is_none() =>
            {
                match self.unmet_edge(machine, status) {
                    Some(on) => wrong(&format!("its member {on} is not there")),
                    None => Ok(()),
                }
            }
            (State::Ready, Wanted::Up) => {
                if lives {
                    Ok(())
                } else {
                    wrong("it has no process")
                }
            }
            (State::Waiting, Wanted::Up) => match self.unmet(machine, status) {
                Some(_) => Ok(()),
                None => wrong("everything it waits for is there"),
            },
            (State::Done | State::Failed, Wanted::Up) => {
                self.check_rest(status).or_else(|why| wrong(&why))
            }
            (State::Starting | State::Stopping | State::Backoff, Wanted::Up) => {
                if self.goes_on_failing(status) { Ok(()) } else { wrong("time is over") }
            }
        }
    }

    /// S27: the history has every end since its first one, as it was.
    fn check_history(&self, machine: &Manager, status: &ServiceStatus) -> Step {
        let name = &status.spec.name;
        let mut last: Option<Generation> = None;
        for run in machine.history(name).into_iter().flatten() {
            let generation = run.end.generation;
            // A start that could not even be prepared has no generation of its own.
            let is_next = last.is_none_or(|last| generation == last || generation == last.next());
            if !is_next {
                let sentence = format!("{name}: {generation} follows {last:?} in the history");
                return broken("S27", sentence);
            }
            last = Some(generation);
            self.check_end(name, &run.end)?;
        }
        let mut ended = self
            .kernel
            .truths
            .iter()
            .filter(|((other, _), truth)| other == name && truth.ended.is_some());
        match ended.next_back() {
            Some(((_, generation), _)) if last != Some(*generation) => {
                let sentence = format!("{name}: the end of {generation} is not in the history");
                broken("S27", sentence)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the first thing that stands in the way of a start.
    fn unmet(&self, machine: &Manager, status: &ServiceStatus) -> Option<ServiceName> {
        self.unmet_edge(machine, status).or_else(|| earlier(machine, status))
    }

    /// Returns the first edge that does not hold.
    fn unmet_edge(&self, machine: &Manager, status: &ServiceStatus) -> Option<ServiceName> {
        let edges = status.spec.depends_on.iter();
        let mut unmet = edges.filter(|(on, edge)| {
            let Some(other) = machine.status(on) else {
                return true;
            };
            let gave_up = other.hopeless.is_some()
                || other.wanted == Wanted::Down
                || matches!(other.state, State::Done | State::Failed);
            if !edge.required && gave_up {
                return false;
            }
            if other.spec.kind == Kind::Group {
                return other.state != State::Ready;
            }
            let done = other.state == State::Done;
            let oneshot = other.spec.kind == Kind::Oneshot;
            !match edge.until {
                Until::Started => {
                    let key = ((*on).clone(), other.generation);
                    let truth = self.kernel.truths.get(&key);
                    let runs = truth.is_some_and(|truth| truth.executed.is_some());
                    done || (runs && self.kernel.has_live(on))
                }
                Until::Ready => other.state == State::Ready || (oneshot && done),
                Until::Done => done,
                Until::Exited => {
                    let ran = other.last_end.is_some_and(|end| end.exit.is_some());
                    done || (other.state == State::Failed && ran)
                }
            }
        });
        unmet.next().map(|(on, _)| on.clone())
    }

    /// Says why a service that is wanted up must not rest, if so.
    fn check_rest(&self, status: &ServiceStatus) -> Result<(), String> {
        let spec = &status.spec;
        let truth = self
            .kernel
            .truths
            .get(&(spec.name.clone(), status.generation))
            .and_then(|truth| truth.ended);
        let success = match truth {
            Some(RunEnd::Exit(exit)) => spec.is_success(exit),
            Some(RunEnd::Failed(_) | RunEnd::Cancelled) | None => false,
        };
        if self.kernel.has_live(&spec.name) {
            return Err("it has a process".to_owned());
        }
        if status.state == State::Done && !success {
            return Err(format!("its last end was {truth:?}"));
        }
        // The policy may have been changed after the end; then it rests all the same.
        Ok(())
    }

    /// Reports whether a service has a reason never to come to rest: it is broken, or what it runs
    /// neither gets ready nor ends.
    fn goes_on_failing(&self, status: &ServiceStatus) -> bool {
        let name = &status.spec.name;
        if self.temper_of(name).cannot_execute > 0 && status.spec.restart != RestartPolicy::Never {
            return true;
        }
        let key = (name.clone(), status.generation);
        let Some(truth) = self.kernel.truths.get(&key) else {
            return false;
        };
        let runs = self.kernel.has_live(name) && status.state == State::Starting;
        let is_late = status.spec.ready.timeout.is_none() || status.spec.kind == Kind::Oneshot;
        runs && is_late && (truth.ready_at.is_none() || status.spec.kind == Kind::Oneshot)
    }

    /// S5: every change is closed, unless a goal of it waits for something that goes on failing.
    fn check_changes(&self, machine: &Manager) -> Step {
        for change in machine.changes() {
            for goal in &change.goals {
                if goal.outcome.is_none() && !self.may_stay_open(machine, goal) {
                    let (id, name) = (change.id, &goal.name);
                    let state = machine.status(name).map(|status| status.state);
                    let sentence =
                        format!("change {id} is open: {name} {:?} is {state:?}", goal.target);
                    return broken("S5", sentence);
                }
                if let Some(Outcome::Reached(after)) = goal.outcome
                    && self.now.saturating_since(change.opened) < after
                {
                    return broken("S5", format!("change {} was reached in the future", change.id));
                }
            }
            let open = change.goals.iter().any(|goal| goal.outcome.is_none());
            if open == change.is_closed() {
                return broken("S5", format!("change {} is neither open nor closed", change.id));
            }
        }
        Ok(())
    }

    fn may_stay_open(&self, machine: &Manager, goal: &Goal) -> bool {
        match goal.target {
            Target::Up | Target::UpAfter(_) => {}
            Target::Down | Target::Reloaded | Target::Signalled | Target::Gone => return false,
        }
        let mut name = goal.name.clone();
        // A plan has no cycles, so the chain ends.
        while let Some(status) = machine.status(&name) {
            match status.state {
                State::Waiting => match self.unmet(machine, &status) {
                    Some(on) => name = on,
                    None => return false,
                },
                _ => return self.goes_on_failing(&status),
            }
        }
        false
    }

    /// S4: what the manager shows is what the proxy knows.
    fn check_proxy_agrees(&self, machine: &Manager) -> Step {
        for view in self.proxy.machine.services() {
            if view.name.is_internal() || is_foreign(view.name) {
                continue;
            }
            let Some(status) = machine.status(view.name) else {
                return broken("S4", format!("{} is forgotten, and the proxy has it", view.name));
            };
            let resting =
                matches!(status.state, State::Stopped | State::Done | State::Failed | State::Ready);
            if resting && (status.generation, status.pid) != (view.generation, view.pid) {
                let sentence = format!(
                    "{}: the manager knows {} {:?}, the proxy {} {:?}",
                    view.name, status.generation, status.pid, view.generation, view.pid
                );
                return broken("S4", sentence);
            }
        }
        Ok(())
    }
}

/// Returns a service that is on its way and comes before this one.
fn earlier(machine: &Manager, status: &ServiceStatus) -> Option<ServiceName> {
    let is_on_its_way = |other: &&ServiceStatus| {
        let is_earlier = status.spec.after.contains(&other.spec.name)
            || other.spec.before.contains(&status.spec.name);
        is_earlier
            && other.wanted == Wanted::Up
            && other.hopeless.is_none()
            && matches!(other.state, State::Waiting | State::Starting)
    };
    let statuses = machine.statuses();
    statuses.iter().find(is_on_its_way).map(|other| other.spec.name.clone())
}
