//! `show NAME --actual`: the main process as the kernel sees it, beside what a start would be given
//! now.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use keepd_manager::api::types::{LaunchObject, ServiceObject};
use keepd_model::{Pid, ServiceSpec};
use keepd_os::proc::{self, Details, Limit};

use super::redact::{HIDDEN, is_secret};

/// One thing that the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// What it is about; variables as `env.NAME`.
    pub(super) key: String,
    /// What the kernel says; `None`: there is no such variable.
    pub(super) actual: Option<String>,
    /// What a start would be given now, where that is known.
    pub(super) expected: Expected,
}

/// What a start would be given now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nothing is known, or nothing was asked for.
    Open,
    /// This.
    Value(String),
    /// That there is no such variable.
    Absent,
}

impl Fact {
    fn new(key: &str, actual: String, expected: Option<String>) -> Self {
        let expected = expected.map_or(Expected::Open, Expected::Value);
        Self { key: key.to_owned(), actual: Some(actual), expected }
    }

    /// Reports whether the process is not what a start would make now.
    pub(super) fn differs(&self) -> bool {
        match &self.expected {
            Expected::Open => false,
            Expected::Value(expected) => self.actual.as_ref() != Some(expected),
            Expected::Absent => self.actual.is_some(),
        }
    }

    /// Hides values that may be secrets. That two of them differ is still seen.
    pub(super) fn redacted(mut self) -> Self {
        let differs = self.differs();
        if !self.key.strip_prefix("env.").is_some_and(is_secret) {
            return self;
        }
        self.actual = self.actual.map(|_| HIDDEN.to_owned());
        self.expected = match self.expected {
            Expected::Value(_) if differs => Expected::Value(format!("another {HIDDEN}")),
            Expected::Value(_) => Expected::Value(HIDDEN.to_owned()),
            other => other,
        };
        self
    }
}

/// What is expected of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectation<'a> {
    /// The service at this moment.
    pub(super) service: &'a ServiceObject,
    /// What a start would be given now; `None` if it could not be started.
    pub(super) launch: Option<&'a LaunchObject>,
    /// Its table.
    pub(super) spec: Option<&'a ServiceSpec>,
    /// The user and group id of keepd itself.
    pub(super) keepd: (u32, u32),
}

/// Compares what the kernel says about a process.
///
/// # Errors
/// It has ended, or may not be looked at.
pub(super) fn facts(pid: u32, expectation: Expectation<'_>) -> io::Result<Vec<Fact>> {
    let launch = expectation.launch;
    let pid = Pid::new(pid).ok_or(io::ErrorKind::NotFound)?;
    let details = proc::details(pid).map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
    let path = |path: &Path| text(path.as_os_str().as_bytes());
    let words = |words: &[Vec<u8>]| words.iter().map(|word| text(word)).collect::<Vec<_>>();
    let mut facts = vec![
        Fact::new("pid", pid.to_string(), None),
        Fact::new("executable", path(&details.executable), None),
        Fact::new(
            "arguments",
            joined(words(&details.arguments)),
            launch.map(|launch| joined(launch.arguments.clone())),
        ),
        Fact::new(
            "directory",
            path(&details.directory),
            launch.map(|launch| resolved(&launch.directory)),
        ),
    ];
    facts.extend(identity(&details, expectation));
    let mask = |mask: u32| format!("{mask:04o}");
    let expected = expectation.spec.map(|spec| mask(spec.umask));
    facts.push(Fact::new("umask", details.umask.map(mask).unwrap_or_default(), expected));
    facts.push(Fact::new("cgroup", details.cgroup.clone(), None));
    facts.extend(details.limits.iter().filter_map(limit));
    facts.extend(variables(&words(&details.environment), expectation));
    Ok(facts)
}

/// Returns who the process is.
fn identity(details: &Details, expectation: Expectation<'_>) -> Vec<Fact> {
    let Expectation { launch, keepd: (uid, gid), .. } = expectation;
    let shown = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
    let numbers = |groups: &[u32]| -> String {
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    vec![
        Fact::new(
            "uid",
            shown(details.uid),
            launch.map(|launch| launch.uid.unwrap_or(uid).to_string()),
        ),
        Fact::new(
            "gid",
            shown(details.gid),
            launch.map(|launch| launch.gid.unwrap_or(gid).to_string()),
        ),
        // Which supplementary groups keepd itself has is not known here.
        Fact::new(
            "groups",
            numbers(&details.groups),
            launch.and_then(|launch| launch.groups.as_deref()).map(numbers),
        ),
    ]
}

/// Returns a limit, soft and hard, unless there is none.
fn limit(limit: &Limit) -> Option<Fact> {
    if limit.soft.is_none() && limit.hard.is_none() {
        return None;
    }
    let shown = |value: Option<u64>| {
        value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
    };
    let key = limit.name.to_lowercase().replace("max ", "limit ");
    let value = format!("{} (at most {})", shown(limit.soft), shown(limit.hard));
    Some(Fact::new(&key, value, None))
}

/// Returns the variables of the process, and those that a start would be given besides.
fn variables(environment: &[String], expectation: Expectation<'_>) -> Vec<Fact> {
    let actual: BTreeMap<&str, &str> =
        environment.iter().filter_map(|entry| entry.split_once('=')).collect();
    let expected = expectation.launch.map(|launch| &launch.environment);
    let mut names: Vec<&str> = actual.keys().copied().collect();
    names.extend(expected.into_iter().flatten().map(|(name, _)| name.as_str()));
    names.sort_unstable();
    names.dedup();
    let fact = |name: &str| {
        let given = expected.and_then(|expected| expected.get(name)).cloned();
        let expected = match (of_start(name, expectation.service), given) {
            (Some(value), _) => Expected::Value(value),
            (None, Some(value)) => Expected::Value(value),
            // These are chosen at each start.
            (None, None) if expected.is_none() || is_own(name) => Expected::Open,
            (None, None) => Expected::Absent,
        };
        Fact {
            key: format!("env.{name}"),
            actual: actual.get(name).map(|value| (*value).to_owned()),
            expected,
        }
    };
    names.into_iter().map(fact).collect()
}

/// Returns what a variable must be for the run that the manager speaks of.
fn of_start(name: &str, service: &ServiceObject) -> Option<String> {
    match name {
        "INVOCATION_ID" => service.invocation_id.clone(),
        "KEEPD_GENERATION" => Some(service.generation.to_string()),
        _ => None,
    }
}

fn is_own(name: &str) -> bool {
    name == "NOTIFY_SOCKET"
        || ["KEEPD_", "LISTEN_", "WATCHDOG_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Returns words so that each of them is seen: as the shell takes them.
fn joined(words: Vec<String>) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    let quoted = words.into_iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The kernel says where a folder is, not by which links it was reached.
fn resolved(directory: &str) -> String {
    let found = fs::canonicalize(directory);
    found.map_or_else(|_| directory.to_owned(), |path| text(path.as_os_str().as_bytes()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::tests::service;

    fn launch(environment: &[(&str, &str)]) -> LaunchObject {
        LaunchObject {
            name: "web".to_owned(),
            arguments: vec!["web".to_owned()],
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            directory: "/".to_owned(),
            uid: Some(7),
            gid: None,
            groups: Some(vec![9, 8]),
        }
    }

    #[test]
    fn variables_of_both_sides_are_compared() {
        let service = ServiceObject { generation: 4, ..service("web", "ready") };
        let launch = launch(&[("COLOR", "red"), ("NEW", "x"), ("SAME", "y")]);
        let expectation =
            Expectation { service: &service, launch: Some(&launch), spec: None, keepd: (0, 0) };
        let environment = ["COLOR=blue", "KEEPD_GENERATION=4", "LISTEN_PID=1", "OLD=z", "SAME=y"]
            .map(str::to_owned);
        let facts = variables(&environment, expectation);
        let marked: Vec<&str> =
            facts.iter().filter(|fact| fact.differs()).map(|fact| fact.key.as_str()).collect();
        assert_eq!(marked, ["env.COLOR", "env.NEW", "env.OLD"]);
        let color = facts[0].clone().redacted();
        assert_eq!(color.actual.as_deref(), Some("<hidden>"));
        assert_eq!(color.expected, Expected::Value("another <hidden>".to_owned()));
        assert!(color.differs());
        let same = facts.iter().find(|fact| fact.key == "env.SAME").unwrap().clone().redacted();
        assert!(!same.differs());
    }

    #[test]
    fn ids_and_limits_are_compared_and_shown() {
        let service = service("web", "ready");
        let launch = launch(&[]);
        let expectation =
            Expectation { service: &service, launch: Some(&launch), spec: None, keepd: (0, 0) };
        let own = proc::details(keepd_os::process::id()).unwrap();
        let details = Details { uid: Some(7), gid: Some(5), groups: vec![8, 9], ..own };
        let facts = identity(&details, expectation);
        let marks: Vec<bool> = facts.iter().map(Fact::differs).collect();
        assert_eq!(marks, [false, true, false]);
        let shown = |soft, hard| limit(&Limit { name: "Max open files".to_owned(), soft, hard });
        assert_eq!(shown(None, None), None);
        let fact = shown(Some(1024), None).unwrap();
        assert_eq!(fact.key, "limit open files");
        assert_eq!(fact.actual.as_deref(), Some("1024 (at most unlimited)"));
    }

    #[test]
    fn our_own_process_can_be_looked_at() {
        let service = service("web", "ready");
        let expectation =
            Expectation { service: &service, launch: None, spec: None, keepd: (0, 0) };
        let facts = facts(std::process::id(), expectation).unwrap();
        assert!(facts.iter().any(|fact| fact.key == "directory"));
        assert!(!facts.iter().any(Fact::differs), "{facts:?}");
    }

    #[test]
    fn words_are_seen_one_by_one() {
        let words = ["sh", "-c", "a b", ""].map(str::to_owned).to_vec();
        assert_eq!(joined(words), "sh -c 'a b' ''");
    }
}
