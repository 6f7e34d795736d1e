//! Processes: what each start and each job needs, the clone, and what the children report.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keepd_engine::proxy::{Input, JobId, JobSpawn, Owner, ServiceSpawn, SpawnOutcome};
use keepd_model::protocol::{Attributes, LogTarget, Place};
use keepd_model::{Errno, Pid, SpawnFailure, SpawnStep};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::process::{self, DescriptorLimit};
use keepd_os::random;
use keepd_os::spawn::{Descriptor, FAILURE_STATUS, Report, Session, SpawnRequest, Spawned, spawn};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::environment::{Base, Entry, Facts, Process};
use crate::groups::Groups;
use crate::notify::NotifySockets;
use crate::pump::{Moment, Pump, Start, Writers};
use crate::ready::ReadyPipes;
use crate::token::Token;

/// What daemonproxy's services inherit from it.
const PLAIN_UMASK: u32 = 0o077;
/// Read from a job at once, and at most in one turn.
const JOB_READ_BYTES: usize = 16 * 1024;

/// What a spawn works with.
pub(crate) struct Surroundings<'a> {
    pub(crate) epoll: &'a Epoll,
    pub(crate) now: Moment,
    pub(crate) pump: &'a mut Pump,
    pub(crate) groups: &'a mut Groups,
    pub(crate) notify: &'a mut NotifySockets,
    pub(crate) ready: &'a mut ReadyPipes,
}

/// Descriptors that services can have as their standard ones.
pub(crate) struct Inheritance {
    /// `/dev/null`, for reading and writing.
    pub(crate) null: OwnedFd,
    /// The proxy's own input; `/dev/null` where that is a connection.
    pub(crate) input: OwnedFd,
    /// The proxy's own output; `/dev/null` where that is a connection.
    pub(crate) out: OwnedFd,
    /// The proxy's own error output.
    pub(crate) err: OwnedFd,
}

/// Every child that was not heard of, and the outputs of jobs.
pub(crate) struct Children {
    base: Base,
    inheritance: Inheritance,
    /// Services that read our input get the terminal there.
    terminal: bool,
    descriptor_limit: Option<DescriptorLimit>,
    reports: BTreeMap<Pid, (Owner, Spawned)>,
    job_outputs: HashMap<JobId, OwnedFd>,
}

impl Children {
    /// Makes the table. With `terminal`, services that read the proxy's own input get the terminal
    /// there. `descriptor_limit` is what children get back, if the proxy raised its own.
    pub(crate) fn new(
        base: Base,
        inheritance: Inheritance,
        terminal: bool,
        descriptor_limit: Option<DescriptorLimit>,
    ) -> Self {
        Self {
            base,
            inheritance,
            terminal,
            descriptor_limit,
            reports: BTreeMap::new(),
            job_outputs: HashMap::new(),
        }
    }

    /// Starts a generation of a service.
    pub(crate) fn spawn_service(
        &mut self,
        around: &mut Surroundings<'_>,
        service: &ServiceSpawn,
    ) -> Result<Pid, SpawnFailure> {
        let owner = Owner::Service(service.name.clone(), service.generation);
        let attributes = &service.attributes;
        let uid = attributes.uid.unwrap_or_else(process::effective_uid);
        let notify_socket = if service.extended && attributes.notify {
            let made = around.notify.prepare(around.epoll, &service.name, uid);
            Some(made.map_err(prepare_failure)?)
        } else {
            None
        };
        let start = Start {
            name: &service.name,
            generation: service.generation,
            target: &service.log,
            uid,
        };
        let writers = around.pump.prepare(around.epoll, around.now, &start);
        let writers = writers.map_err(prepare_failure)?;
        let environment = self.base.for_service(service, notify_socket.as_deref());
        let descriptors = self.standard(&service.log, writers.as_ref()).map(Descriptor::Open);
        let has_group = service.extended && attributes.place == Place::Service;
        let ready = match attributes.ready_fd.filter(|_| has_group) {
            // Where there is no process in the end, the pipe ends with this side.
            Some(number) => {
                let (name, generation) = (&service.name, service.generation);
                let writer = around.ready.prepare(around.epoll, name, generation, uid);
                Some((writer.map_err(prepare_failure)?, number))
            }
            None => None,
        };
        let extra = ready.as_ref().map(|(writer, number)| (writer.as_fd(), number.cast_signed()));
        if has_group {
            around.groups.make(around.epoll, &owner, service.invocation)?;
        }
        let cgroup = match (service.extended, attributes.place) {
            (true, Place::Service) => around.groups.directory(&owner),
            (true, Place::Own) => around.groups.own_directory(),
            (false, Place::Service | Place::Own) => None,
        };
        let request = SpawnRequest {
            arguments: &service.arguments,
            descriptors: &descriptors,
            extra: extra.as_slice(),
            cgroup,
            session: self.session(service),
            umask: if service.extended { attributes.umask } else { PLAIN_UMASK },
            ..self.request(attributes, &environment)
        };
        let result = spawn(&request);
        self.keep(around, owner, result)
    }

    /// Starts a job.
    pub(crate) fn spawn_job(
        &mut self,
        around: &mut Surroundings<'_>,
        job: &JobSpawn,
    ) -> Result<Pid, SpawnFailure> {
        let owner = Owner::Job(job.job);
        let invocation = random::seed().map_err(prepare_failure)?;
        let environment = self.base.with_facts(
            &job.environment,
            &Facts {
                name: &job.name,
                invocation,
                process: Process::Job { main_pid: job.main_pid },
            },
        );
        let (output, writer) = reading_pipe().map_err(prepare_failure)?;
        around.groups.make(around.epoll, &owner, invocation)?;
        let null = self.inheritance.null.as_fd();
        let descriptors = [null, writer.as_fd(), writer.as_fd()].map(Descriptor::Open);
        let request = SpawnRequest {
            arguments: &job.arguments,
            descriptors: &descriptors,
            cgroup: around.groups.directory(&owner),
            ..self.request(&job.attributes, &environment)
        };
        let result = spawn(&request);
        let pid = self.keep(around, owner, result)?;
        // Without a place in the set its output comes at its end.
        let _ = around.epoll.add(&output, Token::JobOutput(job.job.0).into(), Interest::READ);
        self.job_outputs.insert(job.job, output);
        Ok(pid)
    }

    /// Returns the part of a request that does not depend on what is started.
    fn request<'a>(
        &'a self,
        attributes: &'a Attributes,
        environment: &'a [Entry<'a>],
    ) -> SpawnRequest<'a> {
        SpawnRequest {
            arguments: &[],
            environment,
            directory: attributes.directory.as_deref(),
            umask: attributes.umask,
            uid: attributes.uid,
            gid: attributes.gid,
            groups: attributes.groups.as_deref(),
            descriptors: &[],
            extra: &[],
            cgroup: None,
            session: Session::New,
            ignored: &[],
            descriptor_limit: self.descriptor_limit,
            failure_status: FAILURE_STATUS,
        }
    }

    /// Returns which session a service gets.
    fn session(&self, service: &ServiceSpawn) -> Session {
        let reads_ours = match service.log {
            LogTarget::Inherit => service.attributes.place == Place::Service,
            LogTarget::Null | LogTarget::File { .. } | LogTarget::Append { .. } => false,
        };
        match service.extended {
            true if self.terminal && reads_ours => Session::Foreground,
            true => Session::New,
            false => Session::Inherit,
        }
    }

    fn standard<'a>(
        &'a self,
        log: &LogTarget,
        writers: Option<&'a Writers>,
    ) -> [BorrowedFd<'a>; 3] {
        let Inheritance { null, input, out, err } = &self.inheritance;
        let standard = match (writers, log) {
            (Some(Writers { out, err }), _) => [null, out, err.as_ref().unwrap_or(out)],
            (None, LogTarget::Inherit) => [input, out, err],
            (None, LogTarget::Null | LogTarget::File { .. } | LogTarget::Append { .. }) => {
                [null, null, null]
            }
        };
        standard.map(AsFd::as_fd)
    }

    /// Waits for the report of a child, or takes back what was made for one that there is not.
    fn keep(
        &mut self,
        around: &mut Surroundings<'_>,
        owner: Owner,
        result: Result<Spawned, SpawnFailure>,
    ) -> Result<Pid, SpawnFailure> {
        match result {
            Ok(child) => {
                let pid = child.pid();
                around.groups.note_leader(&owner, pid);
                // Without a place in the set the report is read at the child's end.
                let _ = around.epoll.add(
                    &child,
                    Token::Report(pid.get().into()).into(),
                    Interest::READ,
                );
                self.reports.insert(pid, (owner, child));
                Ok(pid)
            }
            Err(failure) => {
                around.groups.discard(around.epoll, &owner);
                Err(failure)
            }
        }
    }

    /// Reads what a child says of itself, whose pipe is ready; `None` if it said nothing new.
    pub(crate) fn report(&mut self, epoll: &Epoll, pid: Pid) -> Option<Input> {
        let (_, child) = self.reports.get_mut(&pid)?;
        let report = child.report_ready();
        self.on_report(epoll, pid, report)
    }

    /// Reads the last that a child says of itself, before it is reaped.
    pub(crate) fn last_report(&mut self, epoll: &Epoll, pid: Pid) -> Option<Input> {
        let (_, child) = self.reports.get_mut(&pid)?;
        let report = child.report();
        self.on_report(epoll, pid, report)
    }

    fn on_report(&mut self, epoll: &Epoll, pid: Pid, report: Report) -> Option<Input> {
        let outcome = match report {
            Report::Pending => return None,
            Report::Executed => SpawnOutcome::Executed,
            Report::Failed(failure) => SpawnOutcome::Failed(failure),
        };
        let (owner, child) = self.reports.remove(&pid)?;
        let _ = epoll.remove(&child);
        Some(Input::Report { owner, outcome })
    }

    /// Forgets a child that is being reaped and has nothing more to say.
    pub(crate) fn forget(&mut self, epoll: &Epoll, pid: Pid) {
        if let Some((_, child)) = self.reports.remove(&pid) {
            let _ = epoll.remove(&child);
        }
    }

    /// Reads output of a job: what one read gives, or with `to_end` everything that is there now.
    pub(crate) fn job_output(&mut self, epoll: &Epoll, job: JobId, to_end: bool) -> Vec<Input> {
        let mut news = Vec::new();
        let Some(output) = self.job_outputs.get(&job) else {
            return news;
        };
        let mut is_over = to_end;
        // What is there at the end fits into a pipe, unless a stranger goes on writing.
        let reads = if to_end { PIPE_BYTES_MAX / JOB_READ_BYTES } else { 1 };
        for _ in 0..reads {
            let mut buffer = [0; JOB_READ_BYTES];
            match rustix::io::read(output, &mut buffer) {
                Ok(count) if count > 0 => {
                    news.push(Input::JobOutput { job, bytes: buffer[..count].to_vec() });
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Ok(_) | Err(_) => {
                    is_over = true;
                    break;
                }
            }
        }
        if is_over {
            let _ = epoll.remove(output);
            self.job_outputs.remove(&job);
        }
        news
    }
}

/// The most that a pipe holds without privileges.
const PIPE_BYTES_MAX: usize = 1024 * 1024;

/// Makes a pipe that we read and a child writes. Only our side is non-blocking: a program that
/// meets EAGAIN on its standard output is surprised.
pub(crate) fn reading_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let errno = |error: rustix::io::Errno| Errno(error.raw_os_error());
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(errno)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).map_err(errno)?;
    Ok((reader, writer))
}

fn prepare_failure(errno: Errno) -> SpawnFailure {
    SpawnFailure { step: SpawnStep::Prepare, errno }
}
