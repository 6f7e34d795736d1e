//! Stories: what services are like, and what is asked for, one thing after another.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_model::protocol::{Lease, LeaseAfter};
use keepd_model::{Errno, Exit, Generation, ServiceName, Signal, SpawnFailure, SpawnStep};

/// What one generation does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// There is no child at all.
    pub(crate) cannot_clone: bool,
    /// A step before the program fails.
    pub(crate) failure: Option<SpawnFailure>,
    /// After this time it ends by itself like this.
    pub(crate) ends: Option<(Duration, Exit)>,
    pub(crate) ignores_term: bool,
    /// How many processes it makes, which live until they are killed.
    pub(crate) helpers: u32,
    /// How many lines it writes.
    pub(crate) lines: u32,
}

/// Something that a person does, or that happens.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Services are defined.
    Define(&'static [&'static str]),
    /// It may be restarted so often without anybody's help.
    Lease(&'static str, Lease),
    /// It has to be up.
    Up(&'static str),
    /// It has to be down.
    Down(&'static str),
    /// Its definition is changed.
    Change(&'static str),
    /// Something is written down.
    Note(&'static str, &'static str),
    /// A service is forgotten; it is down.
    Delete(&'static str),
    /// Something outside kills its main process.
    KillMain(&'static str),
    /// A process of somebody else lives for so many milliseconds.
    Stranger(u64),
    /// Time passes.
    Wait(u64),
}

/// A story.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) name: &'static str,
    /// What generations do, the first first; the last goes on for ever.
    pub(crate) behaviours: BTreeMap<ServiceName, Vec<Behaviour>>,
    pub(crate) acts: Vec<Act>,
}

pub(crate) fn service(text: &str) -> ServiceName {
    ServiceName::new_internal(text).expect("the stories name services well")
}

impl Story {
    /// Returns what a generation does.
    pub(crate) fn behaviour(&self, name: &ServiceName, generation: Generation) -> Behaviour {
        let index = usize::try_from(generation.get()).unwrap_or(usize::MAX).saturating_sub(1);
        let all = self.behaviours.get(name);
        let one = all.and_then(|all| all.get(index).or(all.last()));
        one.cloned().unwrap_or_default()
    }
}

fn story(name: &'static str, behaviours: &[(&str, &[Behaviour])], acts: &[Act]) -> Story {
    let behaviours = behaviours.iter().map(|(name, all)| (service(name), all.to_vec())).collect();
    Story { name, behaviours, acts: acts.to_vec() }
}

fn ends(after_ms: u64, exit: Exit) -> Behaviour {
    Behaviour { ends: Some((Duration::from_millis(after_ms), exit)), lines: 2, ..runs() }
}

fn runs() -> Behaviour {
    Behaviour { lines: 3, ..Behaviour::default() }
}

/// It leaves others of its group behind.
fn with_helpers(behaviour: &Behaviour) -> Behaviour {
    Behaviour { helpers: 2, ..behaviour.clone() }
}

fn lease(delays_ms: &[u64]) -> Lease {
    Lease {
        after: LeaseAfter::Any,
        successes: Vec::new(),
        delays: delays_ms.iter().copied().map(Duration::from_millis).collect(),
    }
}

/// Returns the stories of the search.
pub(crate) fn stories() -> Vec<Story> {
    let mut all = stories_of_runs();
    all.extend(stories_of_wishes());
    all
}

/// What runs, fails and ends.
fn stories_of_runs() -> Vec<Story> {
    let no_file = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
    let fails = Behaviour { failure: Some(no_file), ..Behaviour::default() };
    let cannot_clone = Behaviour { cannot_clone: true, ..Behaviour::default() };
    let killed = Exit::Signal { signal: Signal::INT, core: false };
    vec![
        story("spawn", &[("web", &[runs()])], &[Act::Define(&["web"]), Act::Up("web")]),
        story(
            "failing spawn",
            &[("web", &[fails.clone(), cannot_clone, fails, runs()])],
            &[Act::Define(&["web"]), Act::Up("web"), Act::Wait(200)],
        ),
        story(
            "reap",
            &[("web", &[ends(20, Exit::Code(3)), ends(20, killed), runs()])],
            &[Act::Define(&["web"]), Act::Up("web"), Act::Wait(500)],
        ),
        story(
            "groups",
            &[("web", &[with_helpers(&ends(20, Exit::Code(3))), with_helpers(&runs())])],
            &[
                Act::Define(&["web"]),
                Act::Up("web"),
                Act::Wait(100),
                Act::KillMain("web"),
                Act::Wait(100),
                Act::Down("web"),
            ],
        ),
    ]
}

/// What is wanted, one thing after another.
fn stories_of_wishes() -> Vec<Story> {
    let stubborn = Behaviour { ignores_term: true, ..runs() };
    vec![
        story(
            "stop with KILL",
            &[("web", &[stubborn])],
            &[Act::Define(&["web"]), Act::Up("web"), Act::Wait(50), Act::Down("web")],
        ),
        story(
            "adopt",
            &[("web", &[runs()]), ("db", &[ends(60, Exit::Code(0)), runs()])],
            &[
                Act::Define(&["web", "db"]),
                Act::Up("web"),
                Act::Up("db"),
                Act::Wait(300),
                Act::KillMain("web"),
                Act::Wait(100),
                Act::Down("db"),
            ],
        ),
        story(
            "lease",
            &[("web", &[ends(5, Exit::Code(1)), ends(5, Exit::Code(0)), runs()])],
            &[
                Act::Define(&["web"]),
                Act::Up("web"),
                Act::Lease("web", lease(&[10, 20, 40])),
                Act::Wait(300),
                Act::KillMain("web"),
                Act::Wait(300),
            ],
        ),
        story(
            "apply",
            &[("web", &[runs()]), ("db", &[runs()]), ("job", &[ends(10, Exit::Code(0)), runs()])],
            &[
                Act::Define(&["web", "db", "job"]),
                Act::Note("web", "wanted"),
                Act::Up("web"),
                Act::Up("job"),
                Act::Wait(30),
                Act::Change("web"),
                Act::Down("web"),
                Act::Note("web", "changed"),
                Act::Wait(100),
                Act::Up("web"),
                Act::Up("db"),
                Act::Down("job"),
                Act::Wait(100),
                Act::Delete("job"),
                Act::Define(&["job2"]),
                Act::Up("job2"),
            ],
        ),
        story(
            "two deaths in a row",
            &[("web", &[ends(30, Exit::Code(4)), runs()]), ("db", &[runs()])],
            &[
                Act::Define(&["web", "db"]),
                Act::Up("web"),
                Act::Up("db"),
                Act::Wait(40),
                Act::KillMain("db"),
                Act::KillMain("web"),
                Act::Wait(40),
                Act::KillMain("db"),
            ],
        ),
    ]
}
