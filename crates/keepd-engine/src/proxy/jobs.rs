//! Commands that run in the context of a service (`service.exec`): probes, hooks, reload commands.
//!
//! A job has a group of its own and one asker. It ends for its asker when its group is empty, or at
//! its deadline; it ends for the proxy only when its group is empty, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use keepd_model::protocol::{EXEC_OUTPUT_BYTES_MAX, Fail, FailKind, Message, Reply, RequestId};
use keepd_model::{Exit, Instant, Pid, ServiceName, Signal, SpawnFailure};

use super::commands::fail;
use super::service::Timer;
use super::stop::STUCK_AFTER;
use super::{ConnectionId, JobId, JobSpawn, Output, Owner, Proxy, SpawnOutcome};

/// The most jobs at once.
pub(super) const JOBS_MAX: usize = 64;
/// The most jobs of one service at once.
pub(super) const SERVICE_JOBS_MAX: usize = 4;

/// One command in the context of a service.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: ServiceName,
    /// Who waits for it. `None`: it was answered, or nobody is there to hear.
    pub(super) asker: Option<(ConnectionId, RequestId)>,
    deadline: Instant,
    /// The first bytes of its output.
    output: Vec<u8>,
    /// The step at which it failed to become its program.
    failure: Option<SpawnFailure>,
    pub(super) phase: JobPhase,
}

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobPhase {
    /// The shell was asked for a process and has not answered.
    Spawning,
    /// Its main process is there, and somebody waits.
    Running { pid: Pid },
    /// Nobody waits: KILL was sent and is sent again at a time.
    Killed { pid: Pid, again: Instant },
    /// The main process ended, the rest of the group got KILL and gets it again at a time.
    Emptying { exit: Exit, again: Instant },
}

impl Job {
    /// Returns when the next step is due without any news.
    pub(super) fn due(&self) -> Option<Instant> {
        let deadline = self.asker.map(|_| self.deadline);
        match self.phase {
            JobPhase::Spawning | JobPhase::Running { .. } => deadline,
            JobPhase::Killed { again, .. } => Some(again),
            JobPhase::Emptying { again, .. } => {
                Some(deadline.map_or(again, |deadline| deadline.min(again)))
            }
        }
    }

    /// Returns the main process, until it is reaped.
    pub(super) const fn pid(&self) -> Option<Pid> {
        match self.phase {
            JobPhase::Running { pid } | JobPhase::Killed { pid, .. } => Some(pid),
            JobPhase::Spawning | JobPhase::Emptying { .. } => None,
        }
    }
}

impl Proxy {
    /// `service.exec`. The answer comes when the job ends.
    pub(super) fn exec(
        &mut self,
        now: Instant,
        asker: (ConnectionId, RequestId),
        name: &ServiceName,
        deadline: Duration,
        arguments: Vec<Vec<u8>>,
    ) -> Result<(), Fail> {
        let service = self.service_mut("run a command for", name)?;
        let environment = service.environment.unpack();
        let attributes = Arc::clone(&service.attributes);
        let main_pid = service.run().main().map(|main| main.pid);
        let refused = |kind, why: &str| {
            let text = format!("cannot run a command for service \"{name}\": {why}");
            Err(fail(kind, text))
        };
        if arguments.is_empty() {
            return refused(FailKind::NoArguments, "it has no arguments");
        }
        if let Some(why) = &self.settings.safe_mode {
            return refused(FailKind::Limit, &format!("nothing is started in safe mode: {why}"));
        }
        let of_service = self.jobs.values().filter(|job| job.name == *name).count();
        if self.jobs.len() >= JOBS_MAX || of_service >= SERVICE_JOBS_MAX {
            return refused(FailKind::Limit, "too many commands are running already");
        }
        self.jobs_made += 1;
        let job = JobId(self.jobs_made);
        let deadline = now.saturating_add(deadline);
        self.jobs.insert(
            job,
            Job {
                name: name.clone(),
                asker: Some(asker),
                deadline,
                output: Vec::new(),
                failure: None,
                phase: JobPhase::Spawning,
            },
        );
        self.timers.insert((deadline, Timer::Job(job)));
        self.outputs.push_back(Output::SpawnJob(Box::new(JobSpawn {
            job,
            name: name.clone(),
            arguments,
            environment,
            attributes,
            main_pid,
        })));
        Ok(())
    }

    /// The only door through which a job changes: it keeps timers and process ids in step with it.
    fn change_job(&mut self, id: JobId, change: impl FnOnce(&mut Job)) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let before = (job.due(), job.pid());
        change(job);
        let after = (job.due(), job.pid());
        if let Some(due) = before.0 {
            self.timers.remove(&(due, Timer::Job(id)));
        }
        if let Some(due) = after.0 {
            self.timers.insert((due, Timer::Job(id)));
        }
        if before.1 != after.1 {
            if let Some(pid) = before.1 {
                self.processes.remove(&pid);
            }
            if let Some(pid) = after.1 {
                self.processes.insert(pid, Owner::Job(id));
            }
        }
    }

    /// Forgets a job that nothing is left of.
    fn remove_job(&mut self, id: JobId) {
        // Whatever a job without asker and process waits for, it is no timer.
        self.change_job(id, |job| {
            job.asker = None;
            job.phase = JobPhase::Spawning;
        });
        self.jobs.remove(&id);
    }

    /// Answers whoever waits for a job. Nobody waits from here on.
    fn answer_job(&mut self, id: JobId, reply: Reply) {
        let mut asker = None;
        self.change_job(id, |job| asker = job.asker.take());
        if let Some((connection, request)) = asker {
            self.send(connection, Message::Reply(request, reply));
        }
    }

    /// Sends KILL to everything of a job.
    fn kill_job(&mut self, id: JobId) {
        self.outputs.push_back(Output::SignalGroup { owner: Owner::Job(id), signal: Signal::KILL });
    }

    /// Kills the jobs of a connection that is gone.
    pub(super) fn abandon_jobs(&mut self, now: Instant, connection: ConnectionId) {
        let of_connection = |job: &Job| job.asker.is_some_and(|asker| asker.0 == connection);
        let abandoned: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| of_connection(job)).map(|(id, _)| *id).collect();
        for id in abandoned {
            self.give_up_job(now, id);
        }
    }

    /// Nobody waits for the job any longer: what there is of it gets KILL, at once and again.
    fn give_up_job(&mut self, now: Instant, id: JobId) {
        let again = now.saturating_add(STUCK_AFTER);
        let mut exists = false;
        self.change_job(id, |job| {
            job.asker = None;
            job.phase = match job.phase {
                // KILL follows as soon as there is a process.
                JobPhase::Spawning => JobPhase::Spawning,
                JobPhase::Running { pid } | JobPhase::Killed { pid, .. } => {
                    exists = true;
                    JobPhase::Killed { pid, again }
                }
                JobPhase::Emptying { exit, .. } => {
                    exists = true;
                    JobPhase::Emptying { exit, again }
                }
            };
        });
        if exists {
            self.kill_job(id);
        }
    }

    /// The shell cloned, or could not.
    pub(super) fn on_job_spawned(
        &mut self,
        now: Instant,
        id: JobId,
        outcome: Result<Pid, SpawnFailure>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (phase, is_awaited) = (job.phase, job.asker.is_some());
        match (phase, outcome) {
            (JobPhase::Spawning, Ok(pid)) => {
                self.change_job(id, |job| job.phase = JobPhase::Running { pid });
                if !is_awaited {
                    self.give_up_job(now, id);
                }
            }
            (JobPhase::Spawning, Err(failure)) => {
                self.answer_job(id, Reply::Fail(spawn_failed(failure)));
                self.remove_job(id);
            }
            // One question has one answer.
            (
                JobPhase::Running { .. } | JobPhase::Killed { .. } | JobPhase::Emptying { .. },
                Ok(_) | Err(_),
            ) => {}
        }
    }

    /// The child executed its program, or says at which step it failed.
    pub(super) fn on_job_report(&mut self, id: JobId, outcome: SpawnOutcome) {
        match outcome {
            SpawnOutcome::Executed => {}
            SpawnOutcome::Failed(failure) => {
                self.change_job(id, |job| job.failure = Some(failure));
            }
        }
    }

    /// Keeps the first bytes of a job's output.
    pub(super) fn on_job_output(&mut self, id: JobId, bytes: &[u8]) {
        if let Some(job) = self.jobs.get_mut(&id) {
            let room = EXEC_OUTPUT_BYTES_MAX - job.output.len();
            job.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// The main process was reaped; what it left behind is killed.
    pub(super) fn on_job_reaped(&mut self, now: Instant, id: JobId, exit: Exit) {
        let again = now.saturating_add(STUCK_AFTER);
        self.change_job(id, |job| job.phase = JobPhase::Emptying { exit, again });
        self.kill_job(id);
        self.outputs.push_back(Output::WatchGroup { owner: Owner::Job(id) });
    }

    /// No process of the job is left, and all its output came.
    pub(super) fn on_job_group_empty(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match job.phase {
            JobPhase::Emptying { exit, .. } => {
                let reply = match job.failure {
                    Some(failure) => Reply::Fail(spawn_failed(failure)),
                    None => Reply::Exec { exit, output: std::mem::take(&mut job.output) },
                };
                self.answer_job(id, reply);
                self.remove_job(id);
            }
            // The shell watches a group only after its main process was reaped.
            JobPhase::Spawning | JobPhase::Running { .. } | JobPhase::Killed { .. } => {}
        }
    }

    /// The deadline passed, or KILL is due again.
    pub(super) fn on_job_timer(&mut self, now: Instant, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if job.deadline <= now {
            let text =
                format!("the command of service \"{}\" was killed at its deadline", job.name);
            self.answer_job(id, Reply::Fail(fail(FailKind::Deadline, text)));
        }
        match self.jobs.get(&id).map(|job| (job.phase, job.asker)) {
            // Only the rest of its group is late; who waits for it goes on waiting.
            Some((JobPhase::Emptying { exit, .. }, Some(_))) => {
                let again = now.saturating_add(STUCK_AFTER);
                self.change_job(id, |job| job.phase = JobPhase::Emptying { exit, again });
                self.kill_job(id);
            }
            Some((
                JobPhase::Spawning
                | JobPhase::Running { .. }
                | JobPhase::Killed { .. }
                | JobPhase::Emptying { .. },
                Some(_) | None,
            )) => self.give_up_job(now, id),
            None => {}
        }
    }
}

/// Returns the answer of a job that never ran.
fn spawn_failed(failure: SpawnFailure) -> Fail {
    Fail {
        kind: FailKind::Spawn,
        spawn: Some(failure),
        text: format!("cannot run the command: {failure}"),
    }
}
