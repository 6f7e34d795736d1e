//! What is always true between two inputs.

use std::collections::{BTreeMap, BTreeSet};

use keepd_model::protocol::{LEASE_DELAYS_MAX, NOTE_BYTES_MAX, NOTES_MAX, RunState};
use keepd_model::{Generation, Pid, Wanted};

use super::commands::SERVICES_MAX;
use super::handles::HANDLES_MAX;
use super::jobs::{JOBS_MAX, JobPhase, SERVICE_JOBS_MAX};
use super::leases::UNACKNOWLEDGED_MAX;
use super::process::{EXIT_EXEC_BYTES_MAX, joined_length};
use super::service::{Cause, NOTIFICATIONS_MAX, Run, Timer};
use super::tickets::Purpose;
use super::{EndedRun, Owner, Proxy};

impl Proxy {
    /// Checks the numbered sentences below, for tests and the simulation.
    ///
    /// # Errors
    ///
    /// Returns the first sentence that does not hold, with what breaks it.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_indexes()?;
        self.check_services()?;
        self.check_successions()?;
        self.check_jobs()?;
        self.check_connections()?;
        self.check_handles()?;
        self.check_process()
    }

    fn check_indexes(&self) -> Result<(), String> {
        let of_services = self.services.iter().filter_map(|(name, service)| {
            let due = service.run().deadline()?;
            Some((due, Timer::Service(name.clone())))
        });
        let of_jobs = self.jobs.iter().filter_map(|(id, job)| Some((job.due()?, Timer::Job(*id))));
        let timers: BTreeSet<_> = of_services.chain(of_jobs).collect();
        ensure(timers == self.timers, || {
            "1. the timers are exactly the deadlines of services and jobs".to_owned()
        })?;
        let mut processes: BTreeMap<Pid, Owner> = BTreeMap::new();
        let mains = self.services.iter().filter_map(|(name, service)| {
            let main = service.run().main().map(|main| main.pid)?;
            Some((main, Owner::Service(name.clone(), service.generation)))
        });
        let jobs = self.jobs.iter().filter_map(|(id, job)| Some((job.pid()?, Owner::Job(*id))));
        for (pid, owner) in mains.chain(jobs) {
            let other = processes.insert(pid, owner);
            ensure(other.is_none(), || {
                format!("2. no process is the main process of two owners: {pid}, {other:?}")
            })?;
        }
        ensure(processes == self.processes, || {
            "3. the process index holds exactly the main processes that were not reaped".to_owned()
        })
    }

    fn check_services(&self) -> Result<(), String> {
        ensure(self.services.len() <= SERVICES_MAX, || {
            format!("4. there are at most {SERVICES_MAX} services")
        })?;
        for (name, service) in &self.services {
            let run = service.run();
            let has_run = service.generation != Generation::NONE;
            ensure(run.is_at_rest() || has_run, || {
                format!("5. a service that was never started has no process: \"{name}\"")
            })?;
            ensure(run.ended().is_none() || has_run, || {
                format!("6. a service that was never started has no end: \"{name}\"")
            })?;
            ensure(!matches!(run, Run::Pending { .. }) || service.wanted == Wanted::Up, || {
                format!("7. nothing starts by itself after a stop: \"{name}\"")
            })?;
            let is_emptied = run.state() == RunState::Emptying;
            // Of one that was adopted the process is not known any more.
            let had_process = run.ended().is_some_and(|ended| !ended.is_unmade());
            ensure(!is_emptied || had_process, || {
                format!("8. only a group that had a main process is emptied: \"{name}\"")
            })?;
            ensure(
                service.notes.len() <= NOTES_MAX
                    && service.notes.is_sorted_by(|one, next| one.key < next.key)
                    && service
                        .notes
                        .iter()
                        .all(|note| !note.value.is_empty() && note.value.len() <= NOTE_BYTES_MAX),
                || format!("9. notes are bounded and in order, and none is empty: \"{name}\""),
            )?;
            let signals = &service.auto_up.signals;
            ensure(
                service.auto_up.seconds >= 1 && signals.is_sorted_by(|one, next| one < next),
                || format!("18. triggers are in order, their interval is at least 1 s: \"{name}\""),
            )?;
            ensure(service.notifications.len() <= NOTIFICATIONS_MAX, || {
                format!("10. at most {NOTIFICATIONS_MAX} notifications are kept: \"{name}\"")
            })?;
        }
        Ok(())
    }

    fn check_successions(&self) -> Result<(), String> {
        for (name, service) in &self.services {
            let run = service.run();
            let delays = service.lease.as_deref().map(|granted| granted.lease.delays.len());
            ensure(delays.is_none_or(|count| (1..=LEASE_DELAYS_MAX).contains(&count)), || {
                format!("24. a lease has delays, a bounded number of them: \"{name}\"")
            })?;
            let cause = match run {
                Run::Pending { cause, .. } => Some(cause),
                Run::Down { .. }
                | Run::Spawning { .. }
                | Run::Forked { .. }
                | Run::Up { .. }
                | Run::Stopping { .. }
                | Run::Emptying { .. }
                | Run::Stuck { .. }
                | Run::Unsure { .. } => None,
            };
            let is_leased = matches!(cause, Some(Cause::Lease | Cause::Held));
            ensure(!is_leased || (delays.is_some() && run.ended().is_some()), || {
                format!("25. a start that a lease allows has a lease, and an end: \"{name}\"")
            })?;
            ensure(cause != Some(Cause::Held) || !service.has_room(), || {
                format!("26. a start waits only while there is no room for its end: \"{name}\"")
            })?;
            let ends = &service.unacknowledged;
            let open = |end: &EndedRun| {
                service.acknowledged < end.generation && end.generation < service.generation
            };
            ensure(
                service.acknowledged <= service.generation
                    && ends.len() <= UNACKNOWLEDGED_MAX
                    && ends.is_sorted_by(|one, next| one.generation < next.generation)
                    && ends.iter().all(open),
                || format!("27. kept are the ends that nobody has acknowledged: \"{name}\""),
            )?;
            let is_unsure = matches!(run, Run::Unsure { .. });
            ensure(is_unsure == self.doubts.contains_key(name), || {
                format!("28. a doubt is about a service that is in doubt: \"{name}\"")
            })?;
            let is_begun = matches!(run, Run::Pending { .. } | Run::Spawning { .. });
            ensure(!is_begun || self.may_start(), || {
                format!("29. nothing is started in safe mode: \"{name}\"")
            })?;
        }
        let are_known = self.doubts.keys().all(|name| self.services.contains_key(name));
        ensure(are_known, || "30. a doubt is about a service that is there".to_owned())
    }

    fn check_jobs(&self) -> Result<(), String> {
        ensure(self.jobs.len() <= JOBS_MAX, || format!("11. there are at most {JOBS_MAX} jobs"))?;
        let mut of_service = BTreeMap::new();
        for (id, job) in &self.jobs {
            let count = of_service.entry(&job.name).or_insert(0_usize);
            *count += 1;
            ensure(*count <= SERVICE_JOBS_MAX, || {
                format!("12. a service has at most {SERVICE_JOBS_MAX} jobs: \"{}\"", job.name)
            })?;
            let is_connected =
                job.asker.is_none_or(|(connection, _)| self.connections.contains_key(&connection));
            ensure(is_connected, || {
                format!("13. a job is awaited only by a connection that is there: {id:?}")
            })?;
            let fits = match job.phase {
                JobPhase::Running { .. } => job.asker.is_some(),
                JobPhase::Killed { .. } => job.asker.is_none(),
                JobPhase::Spawning | JobPhase::Emptying { .. } => true,
            };
            ensure(fits, || {
                format!(
                    "14. a job runs while somebody waits, and is killed when nobody does: {id:?}"
                )
            })?;
        }
        Ok(())
    }

    fn check_connections(&self) -> Result<(), String> {
        for (id, connection) in &self.connections {
            ensure(connection.output || !connection.is_behind(), || {
                format!("15. nothing is kept for a connection that hears nothing: {id:?}")
            })?;
            connection.backlog.check().map_err(|why| {
                format!("16. what is kept has one place in the order: {id:?}: {why}")
            })?;
        }
        let are_pending = self.signals.values().all(|pending| pending.count > 0);
        ensure(are_pending, || "17. only signals that are pending are kept".to_owned())
    }

    fn check_handles(&self) -> Result<(), String> {
        ensure(self.handles.len() <= HANDLES_MAX, || {
            format!("19. there are at most {HANDLES_MAX} handles")
        })?;
        let virtual_ones: Vec<&str> = self
            .handles
            .iter()
            .filter(|(_, handle)| handle.descriptor.is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        ensure(virtual_ones == ["control.cmd", "control.event", "control.socket"], || {
            format!("20. exactly the control handles have no descriptor: {virtual_ones:?}")
        })?;
        let promised = self.tickets.values().flat_map(|undertaking| match &undertaking.purpose {
            Purpose::Handles(made) => made.as_slice(),
            Purpose::Signal { .. } | Purpose::Chdir { .. } | Purpose::Listen { .. } => &[],
        });
        let mut descriptors = BTreeSet::new();
        for handle in self.handles.values().chain(promised.map(|(_, handle)| handle)) {
            let Some(descriptor) = handle.descriptor else {
                continue;
            };
            let is_made = (1..=self.descriptors_made).contains(&descriptor.0);
            ensure(is_made && descriptors.insert(descriptor), || {
                format!("21. every descriptor has one handle, and its own number: {descriptor:?}")
            })?;
        }
        Ok(())
    }

    fn check_process(&self) -> Result<(), String> {
        let is_bounded = joined_length(&self.exit_exec) <= EXIT_EXEC_BYTES_MAX;
        ensure(self.guard != Some(0) && is_bounded, || {
            "22. a guard is not 0, and the exit-exec arguments are bounded".to_owned()
        })?;
        let are_made =
            self.tickets.last_key_value().is_none_or(|(last, _)| last.0 <= self.tickets_made);
        ensure(are_made, || "23. only tickets that were given out are awaited".to_owned())
    }
}

fn ensure(holds: bool, sentence: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(sentence()) }
}
