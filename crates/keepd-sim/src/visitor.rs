//! What a second controller does besides looking: handles come and go, and a service of its own is
//! started at times, by triggers and by itself. The manager takes no notice of it.

use std::collections::BTreeSet;
use std::time::Duration;

use keepd_engine::proxy::{
    CallFailure, DescriptorId, DescriptorList, DescriptorSource, Effect, Performed,
};
use keepd_model::protocol::{
    Attributes, Command, Place, Scope, SessionPlace, SignalNumber, Triggers,
};
use keepd_model::{
    Errno, Exit, FdSlot, HandleKind, HandleName, HandleReport, OpenFlags, Pid, PipeSpec,
    ServiceName, Signal,
};

use crate::world::{Due, Step, World, broken};

/// The name of an end of a pipe.
const PIPE_IN: &str = "pipe.in";
/// The names of other handles that come and go.
const HANDLES: [&str; 3] = ["pipe.out", "log", "stderr"];

/// Returns the service of second controllers. Its name is one of keepd's own, so that it is nobody
/// else's business.
pub(crate) fn service() -> ServiceName {
    ServiceName::new_internal("keepd.visitor").expect("the visitor has a valid name")
}

/// Returns the handles that the proxy has from the start.
pub(crate) fn first_handles() -> Vec<HandleReport> {
    let report = |name: &str| HandleReport {
        name: handle_name(name),
        kind: HandleKind::Special(OpenFlags { read: true, write: true, ..OpenFlags::default() }),
        description: b"/dev/null".to_vec(),
    };
    vec![report("null"), report("stderr")]
}

/// Returns their descriptors.
pub(crate) fn first_descriptors() -> BTreeSet<DescriptorId> {
    (1..).map(DescriptorId).take(first_handles().len()).collect()
}

fn handle_name(text: &str) -> HandleName {
    HandleName::new(text).expect("the names of this file are valid")
}

impl World {
    /// Returns what a second controller asks for.
    pub(crate) fn visitor_commands(&mut self) -> Vec<Command> {
        if self.random.chance(30) {
            return Vec::new();
        }
        let name = service();
        let attributes = Attributes {
            place: Place::None,
            session: SessionPlace::Inherit,
            marks: false,
            retry: Some(Duration::from_secs(3)),
            ..Attributes::default()
        };
        let mut commands = vec![
            Command::WatchStarts { on: self.random.chance(50) },
            Command::ServiceSet { name: name.clone(), attributes: attributes.into() },
            Command::ServiceArgs { name, arguments: vec![b"/bin/visitor".to_vec()] },
        ];
        for _ in 0..self.random.between(0, 8) {
            commands.push(self.visitor_command());
        }
        commands
    }

    fn visitor_command(&mut self) -> Command {
        let name = service();
        match self.random.between(0, 12) {
            0 => Command::HandleOpen {
                name: self.some_handle(),
                flags: OpenFlags::default(),
                path: b"/file".to_vec(),
            },
            1 => Command::HandlePipe {
                read: handle_name(PIPE_IN),
                write: self.some_handle(),
                spec: PipeSpec { socket: None, nonblock: false },
            },
            2 => Command::HandleDelete { name: self.some_handle() },
            3 => Command::LogDestination { handle: self.some_handle() },
            4..=5 => Command::ServiceFds { name, slots: self.some_slots() },
            6..=7 => Command::ServiceAutoUp { name, seconds: None, triggers: self.some_triggers() },
            8..=9 => {
                let delay = self.random.millis(0, 3_000);
                let at = self.random.chance(60).then(|| self.now.saturating_add(delay));
                Command::ServiceStart { name, expected: None, at }
            }
            10 => Command::ServiceCancel { name },
            11 => Command::ServiceSignal {
                name,
                expected: None,
                signal: SignalNumber(self.random.pick(&[0, 9, 15])),
                scope: self.random.pick(&[Scope::Main, Scope::All, Scope::ProcessGroup]),
            },
            _ => Command::ServiceDelete { name },
        }
    }

    fn some_handle(&mut self) -> HandleName {
        handle_name(self.random.pick(&HANDLES))
    }

    fn some_slots(&mut self) -> Vec<FdSlot> {
        (0..self.random.between(0, 4))
            .map(|_| match self.random.between(0, 5) {
                0 => FdSlot::Closed,
                1 => FdSlot::Skipped,
                2 => FdSlot::Handle(handle_name("control.socket")),
                3 => FdSlot::Handle(handle_name(PIPE_IN)),
                _ => FdSlot::Handle(self.some_handle()),
            })
            .collect()
    }

    fn some_triggers(&mut self) -> Triggers {
        match self.random.between(0, 2) {
            0 => Triggers::default(),
            1 => Triggers {
                words: vec![b"SIGUSR1".to_vec()],
                always: false,
                signals: vec![Signal::USR1],
            },
            _ => Triggers::always(),
        }
    }

    /// The service of second controllers runs, and ends after a while.
    pub(crate) fn begin_visitor(&mut self, pid: Pid, serial: u64) {
        self.faults.count("service of a second controller");
        let lasts = self.random.millis(0, 4_000);
        self.after(lasts, Due::Dies(pid, serial, Exit::Code(0)));
    }

    /// Does what the proxy asks for, or fails to.
    pub(crate) fn attempt(&mut self, effect: &Effect) -> Step<Result<Performed, CallFailure>> {
        if let Effect::Signal { pid, signal, .. } = effect {
            let number = *signal;
            let owner = self.kernel.owner_of_main(*pid);
            let Some(owner) = owner else {
                return broken("S8", format!("signal {number:?} to {pid}, which nobody is"));
            };
            if let Some(signal) = number.signal() {
                self.signal_main(&owner, *pid, signal)?;
            }
            return Ok(Ok(Performed::Done));
        }
        if !self.is_calm && !self.proxy.is_adopting && self.random.chance(10) {
            self.faults.count("system call fails");
            return Ok(Err(CallFailure { call: "open", errno: Some(Errno::EIO) }));
        }
        let made: Vec<DescriptorId> = match effect {
            Effect::Open { descriptor, .. }
            | Effect::Socket { descriptor, .. }
            | Effect::Take { descriptor, .. } => vec![*descriptor],
            Effect::Pipe { read, write, .. } => vec![*read, *write],
            Effect::Signal { .. } | Effect::Chdir { .. } | Effect::Listen { .. } => Vec::new(),
        };
        for descriptor in made {
            if !self.proxy.descriptors.insert(descriptor) {
                return broken("S19", format!("{descriptor:?} is made twice"));
            }
        }
        Ok(Ok(Performed::Done))
    }

    /// S19: what is named is open.
    pub(crate) fn check_descriptor(&self, descriptor: DescriptorId) -> Step {
        if self.proxy.descriptors.contains(&descriptor) {
            Ok(())
        } else {
            broken("S19", format!("{descriptor:?} is not open"))
        }
    }

    /// S19: a service is given only what is open.
    pub(crate) fn check_descriptors(&mut self, list: &DescriptorList) -> Step {
        for source in &list.sources {
            match source {
                DescriptorSource::Held(descriptor) => {
                    self.check_descriptor(*descriptor)?;
                    self.faults.count("handle given");
                }
                DescriptorSource::Missing => self.faults.count("handle missing"),
                DescriptorSource::Control if list.control.is_some() => {}
                DescriptorSource::Control => {
                    return broken("S19", "a control handle without a direction".to_owned());
                }
                DescriptorSource::Closed => {}
            }
        }
        Ok(())
    }

    /// S19: what is open has a name.
    pub(crate) fn check_handles(&self) -> Step {
        // Three of them are virtual.
        let named = self.proxy.machine.handle_count() - 3;
        let open = self.proxy.descriptors.len();
        if named == open {
            Ok(())
        } else {
            broken("S19", format!("{open} descriptors are open, and {named} have a name"))
        }
    }
}
