//! The environment of a service: the proxy's own, the differences, keepd's variables.

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;

use keepd_engine::proxy::ServiceSpawn;
use keepd_model::protocol::{Environment, EnvironmentChange, Place};
use keepd_model::{Generation, Pid, ServiceName};

/// Variables that were meant for keepd itself and would mislead a service.
const OWN_NAMES: [&[u8]; 5] =
    [b"NOTIFY_SOCKET", b"WATCHDOG_PID", b"WATCHDOG_USEC", b"INVOCATION_ID", MAINPID];
/// The same, by how they begin.
const OWN_PREFIXES: [&[u8]; 2] = [b"LISTEN_", b"KEEPD_"];

/// The variable that marks every process of an instance.
const PROJECT: &[u8] = b"KEEPD_PROJECT";

/// The variable with the main process of a service, for jobs.
const MAINPID: &[u8] = b"MAINPID";

/// What the environment of every service is made from, read once at the start.
pub(crate) struct Base {
    /// `KEY=VALUE`, as the proxy was started.
    whole: Vec<Vec<u8>>,
    /// Without keepd's own variables.
    passed: Vec<Vec<u8>>,
    /// The value of KEEPD_PROJECT.
    instance: Option<String>,
}

/// One `KEY=VALUE`.
pub(crate) type Entry<'a> = Cow<'a, [u8]>;

/// What keepd says about one start.
pub(crate) struct Facts<'a> {
    /// The service.
    pub(crate) name: &'a ServiceName,
    /// INVOCATION_ID.
    pub(crate) invocation: u128,
    /// What is started.
    pub(crate) process: Process<'a>,
}

/// What is started, with what only this kind is told.
#[derive(Clone, Copy)]
pub(crate) enum Process<'a> {
    /// A generation of the service.
    Main {
        /// Its number.
        generation: Generation,
        /// The path of the notify socket.
        notify_socket: Option<&'a [u8]>,
        /// The number of the descriptor for a line feed.
        ready_fd: Option<u32>,
    },
    /// A command beside it.
    Job {
        /// The main process, if there is one.
        main_pid: Option<Pid>,
    },
}

impl Base {
    /// Takes the environment of the proxy.
    pub(crate) fn of_this_process(instance: Option<String>) -> Self {
        let whole = std::env::vars_os().map(|(key, value)| {
            let mut entry = key.into_vec();
            entry.push(b'=');
            entry.append(&mut value.into_vec());
            entry
        });
        Self::new(whole.collect(), instance)
    }

    fn new(whole: Vec<Vec<u8>>, instance: Option<String>) -> Self {
        let passed = whole.iter().filter(|entry| !is_own(key(entry)));
        Self { passed: passed.cloned().collect(), whole, instance }
    }

    /// Returns the environment of one start of a service.
    ///
    /// A plain service gets the proxy's unchanged; one of keepd's own the same and KEEPD_PROJECT.
    pub(crate) fn for_service<'a>(
        &'a self,
        spawn: &'a ServiceSpawn,
        notify_socket: Option<&[u8]>,
    ) -> Vec<Entry<'a>> {
        if !spawn.attributes.marks {
            return self.whole.iter().map(|entry| Cow::Borrowed(entry.as_slice())).collect();
        }
        match spawn.attributes.place {
            Place::Own => {
                let mut variables = Variables::of(&self.whole);
                variables.change(&spawn.environment, &self.whole);
                self.mark(&mut variables);
                variables.into_entries()
            }
            Place::Service | Place::None => self.with_facts(
                &spawn.environment,
                &Facts {
                    name: &spawn.name,
                    invocation: spawn.invocation,
                    process: Process::Main {
                        generation: spawn.generation,
                        notify_socket,
                        ready_fd: spawn.attributes.ready_fd,
                    },
                },
            ),
        }
    }

    /// Returns the passed environment with these differences, then the facts: a difference cannot
    /// hide one.
    pub(crate) fn with_facts<'a>(
        &'a self,
        differences: &'a Environment,
        facts: &Facts<'_>,
    ) -> Vec<Entry<'a>> {
        let mut variables = Variables::of(&self.passed);
        variables.change(differences, &self.passed);
        variables.set(b"KEEPD_SERVICE", facts.name.as_str().as_bytes());
        if let Some(instance) = facts.name.instance() {
            variables.set(b"KEEPD_INSTANCE", instance.as_bytes());
        }
        let invocation = format!("{:032x}", facts.invocation);
        variables.set(b"INVOCATION_ID", invocation.as_bytes());
        match facts.process {
            Process::Main { generation, notify_socket, ready_fd } => {
                variables.set(b"KEEPD_GENERATION", generation.to_string().as_bytes());
                if let Some(path) = notify_socket {
                    variables.set(b"NOTIFY_SOCKET", path);
                }
                if let Some(number) = ready_fd {
                    variables.set(b"KEEPD_READY_FD", number.to_string().as_bytes());
                }
            }
            Process::Job { main_pid: Some(pid) } => {
                variables.set(MAINPID, pid.to_string().as_bytes());
            }
            // Not even one that the configuration made up.
            Process::Job { main_pid: None } => variables.remove(MAINPID),
        }
        self.mark(&mut variables);
        variables.into_entries()
    }

    fn mark(&self, variables: &mut Variables<'_>) {
        if let Some(instance) = &self.instance {
            variables.set(PROJECT, instance.as_bytes());
        }
    }
}

/// Variables in the order of their first appearance, each once. What they are made from is
/// borrowed: starts come in hundreds, and each would copy the whole environment of the proxy.
struct Variables<'a> {
    entries: Vec<Option<Entry<'a>>>,
    positions: HashMap<&'a [u8], usize>,
}

impl<'a> Variables<'a> {
    fn of(entries: &'a [Vec<u8>]) -> Self {
        let positions = entries.iter().enumerate();
        let borrowed = entries.iter().map(|entry| Some(Cow::Borrowed(entry.as_slice())));
        Self {
            positions: positions.map(|(at, entry)| (key(entry), at)).collect(),
            entries: borrowed.collect(),
        }
    }

    fn change(&mut self, differences: &'a Environment, base: &[Vec<u8>]) {
        if differences.clear {
            *self = Self::of(&[]);
        } else {
            debug_assert!(self.entries.len() == base.len(), "differences are applied first");
        }
        for change in &differences.changes {
            match change {
                EnvironmentChange::Set(key, value) => self.set(key, value),
                EnvironmentChange::Remove(key) => self.remove(key),
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(position) = self.positions.remove(key) {
            self.entries[position] = None;
        }
    }

    fn set(&mut self, key: &'a [u8], value: &[u8]) {
        let entry = Some(Cow::Owned([key, b"=", value].concat()));
        match self.positions.get(key) {
            Some(position) => self.entries[*position] = entry,
            None => {
                self.positions.insert(key, self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    fn into_entries(self) -> Vec<Entry<'a>> {
        self.entries.into_iter().flatten().collect()
    }
}

fn key(entry: &[u8]) -> &[u8] {
    let end = entry.iter().position(|byte| *byte == b'=');
    &entry[..end.unwrap_or(entry.len())]
}

fn is_own(key: &[u8]) -> bool {
    OWN_NAMES.contains(&key) || OWN_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base {
        let entries = ["PATH=/bin", "NOTIFY_SOCKET=/x", "LISTEN_FDS=1", "KEEPD_RUN_DIR=/r", "A=1"];
        Base::new(
            entries.map(|entry| entry.as_bytes().to_vec()).to_vec(),
            Some("demo-1".to_owned()),
        )
    }

    fn facts(name: &ServiceName) -> Facts<'_> {
        Facts {
            name,
            invocation: 0xab,
            process: Process::Main {
                generation: Generation::new(3),
                notify_socket: Some(b"/n/web"),
                ready_fd: Some(7),
            },
        }
    }

    fn text(entries: Vec<Entry<'_>>) -> Vec<String> {
        let text = |entry: Entry<'_>| String::from_utf8(entry.into_owned()).unwrap();
        entries.into_iter().map(text).collect()
    }

    #[test]
    fn own_variables_do_not_pass_and_facts_win() {
        let name = ServiceName::new("web@blue").unwrap();
        let differences = Environment {
            clear: false,
            changes: vec![
                EnvironmentChange::Remove(b"A".to_vec()),
                EnvironmentChange::Set(b"B".to_vec(), b"x=y".to_vec()),
                EnvironmentChange::Set(b"KEEPD_SERVICE".to_vec(), b"lie".to_vec()),
            ],
        };
        assert_eq!(
            text(base().with_facts(&differences, &facts(&name))),
            [
                "PATH=/bin",
                "B=x=y",
                "KEEPD_SERVICE=web@blue",
                "KEEPD_INSTANCE=blue",
                "INVOCATION_ID=000000000000000000000000000000ab",
                "KEEPD_GENERATION=3",
                "NOTIFY_SOCKET=/n/web",
                "KEEPD_READY_FD=7",
                "KEEPD_PROJECT=demo-1",
            ]
        );
    }

    #[test]
    fn a_job_is_told_the_main_process_or_nothing() {
        // (behaviour 4.8)
        let name = ServiceName::new("web").unwrap();
        let made_up = EnvironmentChange::Set(MAINPID.to_vec(), b"1".to_vec());
        let differences = Environment { clear: false, changes: vec![made_up] };
        let told = |main_pid| {
            let process = Process::Job { main_pid };
            let facts = Facts { name: &name, invocation: 1, process };
            let mut entries = text(base().with_facts(&differences, &facts));
            entries.retain(|entry| entry.starts_with("MAINPID=") || entry.contains("READY"));
            entries
        };
        assert_eq!(told(Pid::new(42)), ["MAINPID=42"]);
        assert_eq!(told(None), [""; 0]);
    }

    #[test]
    fn a_cleared_environment_holds_only_what_was_set_and_the_facts() {
        let name = ServiceName::new("web").unwrap();
        let differences = Environment {
            clear: true,
            changes: vec![EnvironmentChange::Set(b"A".to_vec(), b"2".to_vec())],
        };
        let entries = text(base().with_facts(&differences, &facts(&name)));
        assert_eq!(entries[0], "A=2");
        assert!(!entries.iter().any(|entry| entry.starts_with("PATH=")));
    }
}
