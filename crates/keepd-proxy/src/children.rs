//! Processes: what each start and each job needs, the clone, and what the children report.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keepd_engine::proxy::{
    ControlEnd, DescriptorSource, Input, JobId, JobSpawn, Owner, ServiceSpawn, SpawnOutcome,
};
use keepd_model::protocol::{Attributes, LogTarget, Place, SessionPlace};
use keepd_model::{Domain, Errno, Pid, ServiceName, Signal, SocketType, SpawnFailure, SpawnStep};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::handle;
use keepd_os::ledger::ChildRecord;
use keepd_os::process::{self, DescriptorLimit};
use keepd_os::random;
use keepd_os::spawn::{Descriptor, FAILURE_STATUS, Report, Session, SpawnRequest, Spawned, spawn};
use rustix::fs::OFlags;
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::connections::Direction;
use crate::controllers;
use crate::descriptors::Descriptors;
use crate::environment::{Base, Entry, Facts, Process};
use crate::groups::Groups;
use crate::notify::NotifySockets;
use crate::pump::{Moment, Pump, Start, Writers};
use crate::ready::ReadyPipes;
use crate::token::Token;

/// What a child of daemonproxy exits with when it cannot become its program.
const PLAIN_FAILURE_STATUS: u8 = 3;
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
    pub(crate) descriptors: &'a Descriptors,
    /// What the child of a service writes down, where there is a ledger.
    pub(crate) record: Option<ChildRecord<'a>>,
}

/// A process that was cloned.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// Our end of its control connection, if its descriptor list asks for one.
    pub(crate) control: Option<(OwnedFd, Direction)>,
}

/// Both ends of a control connection.
struct Control {
    ours: OwnedFd,
    theirs: OwnedFd,
    direction: Direction,
}

/// Makes a control connection; a direction that is not asked for is shut down.
fn control_pair(control: ControlEnd) -> Result<Control, Errno> {
    let (ours, theirs) = handle::socket_pair(Domain::Unix, SocketType::Stream, false)
        .map_err(|error| error.errno)?;
    let direction = controllers::direction(control);
    let unused = match direction {
        Direction::Both => None,
        Direction::CommandsOnly => Some(Shutdown::Read),
        Direction::EventsOnly => Some(Shutdown::Write),
    };
    if let Some(unused) = unused {
        rustix::net::shutdown(&theirs, unused).map_err(|error| Errno(error.raw_os_error()))?;
    }
    Ok(Control { ours, theirs, direction })
}

/// Returns what a place in a descriptor list is for the child.
fn descriptor<'a>(
    source: DescriptorSource,
    descriptors: &'a Descriptors,
    theirs: Option<BorrowedFd<'a>>,
) -> Descriptor<'a> {
    let held = match source {
        DescriptorSource::Closed => return Descriptor::Closed,
        DescriptorSource::Missing => None,
        DescriptorSource::Held(id) => descriptors.get(id),
        DescriptorSource::Control => theirs,
    };
    held.map_or(Descriptor::Missing, Descriptor::Open)
}

/// Descriptors that services can have as their standard ones.
pub(crate) struct Inheritance {
    /// `/dev/null`, for reading and writing.
    pub(crate) null: OwnedFd,
    /// The proxy's own input may be handed on: it is no connection.
    pub(crate) has_input: bool,
    /// The proxy's own output may be handed on: it is no connection.
    pub(crate) has_output: bool,
}

impl Inheritance {
    /// Returns what the proxy's own input, output and error output are for services. No copies are
    /// kept: what the proxy lets go of, it has not any more.
    fn own(&self) -> [BorrowedFd<'_>; 3] {
        let null = self.null.as_fd();
        let input = if self.has_input { rustix::stdio::stdin() } else { null };
        let output = if self.has_output { rustix::stdio::stdout() } else { null };
        [input, output, rustix::stdio::stderr()]
    }
}

/// Every child that was not heard of, and the outputs of jobs.
pub(crate) struct Children {
    base: Base,
    inheritance: Inheritance,
    /// Services that read our input get the terminal there.
    terminal: bool,
    descriptor_limit: Option<DescriptorLimit>,
    /// What was ignored when the proxy started, and that it does not handle itself.
    ignored: Vec<Signal>,
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
        ignored: Vec<Signal>,
    ) -> Self {
        Self {
            base,
            inheritance,
            terminal,
            descriptor_limit,
            ignored,
            reports: BTreeMap::new(),
            job_outputs: HashMap::new(),
        }
    }

    /// Starts a generation of a service.
    pub(crate) fn spawn_service(
        &mut self,
        around: &mut Surroundings<'_>,
        service: &ServiceSpawn,
    ) -> Result<Started, SpawnFailure> {
        let owner = Owner::Service(service.name.clone(), service.generation);
        let attributes = &service.attributes;
        let uid = attributes.uid.unwrap_or_else(process::effective_uid);
        let notify_socket = if attributes.notify {
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
        let standard = self.standard(&service.log, writers.as_ref()).map(Descriptor::Open);
        let control = match service.descriptors.as_ref().and_then(|list| list.control) {
            Some(control) => Some(control_pair(control).map_err(prepare_failure)?),
            None => None,
        };
        let listed = service.descriptors.as_ref().map(|list| {
            let theirs = control.as_ref().map(|control| control.theirs.as_fd());
            list.sources
                .iter()
                .map(|source| descriptor(*source, around.descriptors, theirs))
                .collect::<Vec<_>>()
        });
        let has_group = attributes.place == Place::Service;
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
        let cgroup = match attributes.place {
            Place::Service => around.groups.directory(&owner),
            Place::Own => around.groups.own_directory(),
            Place::None => None,
        };
        let request = SpawnRequest {
            arguments: &service.arguments,
            descriptors: listed.as_deref().unwrap_or(&standard),
            extra: extra.as_slice(),
            cgroup,
            session: self.session(service),
            record: around.record,
            ..self.request(attributes, &environment)
        };
        let result = spawn(&request);
        let pid = self.keep(around, owner, result)?;
        let control = control.map(|control| (control.ours, control.direction));
        Ok(Started { pid, control })
    }

    /// Starts a job.
    pub(crate) fn spawn_job(
        &mut self,
        around: &mut Surroundings<'_>,
        job: &JobSpawn,
    ) -> Result<Started, SpawnFailure> {
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
        Ok(Started { pid, control: None })
    }

    /// Returns the part of a request that does not depend on what is started.
    fn request<'a>(
        &'a self,
        attributes: &'a Attributes,
        environment: &'a [Entry<'a>],
    ) -> SpawnRequest<'a> {
        SpawnRequest {
            file: None,
            arguments: &[],
            environment,
            directory: attributes.directory.as_deref(),
            umask: attributes.umask,
            uid: attributes.uid,
            gid: attributes.gid,
            groups: attributes.groups.as_deref(),
            descriptors: &[],
            extra: &[],
            keep_from: None,
            cgroup: None,
            session: Session::New,
            ignored: match attributes.place {
                Place::None => &self.ignored,
                Place::Service | Place::Own => &[],
            },
            descriptor_limit: self.descriptor_limit,
            record: None,
            failure_status: match attributes.place {
                Place::None => PLAIN_FAILURE_STATUS,
                Place::Service | Place::Own => FAILURE_STATUS,
            },
        }
    }

    /// Returns which session a service gets.
    fn session(&self, service: &ServiceSpawn) -> Session {
        let reads_ours = match service.log {
            LogTarget::Inherit => {
                service.attributes.place == Place::Service && service.descriptors.is_none()
            }
            LogTarget::Null | LogTarget::File { .. } | LogTarget::Append { .. } => false,
        };
        match service.attributes.session {
            SessionPlace::New if self.terminal && reads_ours => Session::Foreground,
            SessionPlace::New => Session::New,
            SessionPlace::Inherit => Session::Inherit,
        }
    }

    fn standard<'a>(
        &'a self,
        log: &LogTarget,
        writers: Option<&'a Writers>,
    ) -> [BorrowedFd<'a>; 3] {
        let null = self.inheritance.null.as_fd();
        match (writers, log) {
            (Some(Writers { out, err }), _) => {
                [null, out.as_fd(), err.as_ref().unwrap_or(out).as_fd()]
            }
            (None, LogTarget::Inherit) => self.inheritance.own(),
            (None, LogTarget::Null | LogTarget::File { .. } | LogTarget::Append { .. }) => {
                [null; 3]
            }
        }
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

    /// Reads all that the child of a service says of itself, if it has not said all of it yet.
    pub(crate) fn open_report(&mut self, epoll: &Epoll, name: &ServiceName) -> Option<Input> {
        let is_of = |owner: &Owner| matches!(owner, Owner::Service(of, _) if of == name);
        let open = self.reports.iter().find(|(_, (owner, _))| is_of(owner));
        let pid = *open?.0;
        self.last_report(epoll, pid)
    }

    fn on_report(&mut self, epoll: &Epoll, pid: Pid, report: Report) -> Option<Input> {
        let outcome = match report {
            Report::Pending => return None,
            Report::Ended => {
                self.forget(epoll, pid);
                return None;
            }
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
