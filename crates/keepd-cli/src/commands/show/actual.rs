//! `show NAME --actual`: the main process as the kernel sees it, beside what a start would be given
//! now.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use keepd_manager::api::types::{LaunchObject, ServiceObject};
use keepd_model::ServiceSpec;

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

/// Reads what the kernel says about a process.
///
/// # Errors
/// It has ended, or may not be looked at.
pub(super) fn facts(pid: u32, expectation: Expectation<'_>) -> io::Result<Vec<Fact>> {
    let launch = expectation.launch;
    let link = |name: &str| {
        let path = fs::read_link(format!("/proc/{pid}/{name}"))?;
        Ok::<_, io::Error>(text(path.as_os_str().as_bytes()))
    };
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}"));
    let status = text(&read("status")?);
    let mut facts = vec![
        Fact::new("pid", pid.to_string(), None),
        Fact::new("executable", link("exe")?, None),
        Fact::new(
            "arguments",
            joined(split(&read("cmdline")?)),
            launch.map(|launch| joined(launch.arguments.clone())),
        ),
        Fact::new("directory", link("cwd")?, launch.map(|launch| resolved(&launch.directory))),
    ];
    facts.extend(identity(&status, expectation));
    let umask = field(&status, "Umask:").unwrap_or_default();
    let expected = expectation.spec.map(|spec| format!("{:04o}", spec.umask));
    facts.push(Fact::new("umask", umask.to_owned(), expected));
    facts.push(Fact::new("cgroup", group(&text(&read("cgroup")?)), None));
    facts.extend(limits(&text(&read("limits")?)));
    facts.extend(variables(&split(&read("environ")?), expectation));
    Ok(facts)
}

/// Returns the group of the unified hierarchy, of which there is one (cgroups(7)); the groups of
/// each controller where there is none.
fn group(text: &str) -> String {
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    unified.map_or_else(|| text.trim_end().replace('\n', ", "), str::to_owned)
}

/// Returns who the process is, by the effective ids.
fn identity(status: &str, expectation: Expectation<'_>) -> Vec<Fact> {
    let Expectation { launch, keepd: (uid, gid), .. } = expectation;
    let effective = |name: &str| {
        let ids = field(status, name).unwrap_or_default();
        ids.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    let groups = field(status, "Groups:").unwrap_or_default();
    let numbers = |groups: &[u32]| -> String {
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let known: Vec<u32> = groups.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    vec![
        Fact::new(
            "uid",
            effective("Uid:"),
            launch.map(|launch| launch.uid.unwrap_or(uid).to_string()),
        ),
        Fact::new(
            "gid",
            effective("Gid:"),
            launch.map(|launch| launch.gid.unwrap_or(gid).to_string()),
        ),
        // Which supplementary groups keepd itself has is not known here.
        Fact::new(
            "groups",
            numbers(&known),
            launch.and_then(|launch| launch.groups.as_deref()).map(numbers),
        ),
    ]
}

/// Returns the limits that are not infinite, soft and hard (getrlimit(2)).
fn limits(text: &str) -> Vec<Fact> {
    let rows = text.lines().skip(1).filter_map(|line| {
        // The name has words; the columns begin at a fixed place (proc_pid_limits(5)).
        let (name, rest) = line.split_at_checked(26)?;
        let mut columns = rest.split_whitespace();
        let (soft, hard) = (columns.next()?, columns.next()?);
        let key = name.trim().to_lowercase().replace("max ", "limit ");
        (soft != "unlimited" || hard != "unlimited")
            .then(|| Fact::new(&key, format!("{soft} (at most {hard})"), None))
    });
    rows.collect()
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

/// Returns what a line of `/proc/PID/status` says.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Returns the words of a text that ends each with a NUL.
fn split(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(text).collect()
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
    fn ids_and_limits_are_read_as_the_kernel_writes_them() {
        let service = service("web", "ready");
        let launch = launch(&[]);
        let expectation =
            Expectation { service: &service, launch: Some(&launch), spec: None, keepd: (0, 0) };
        let status = "Umask:\t0022\nUid:\t7\t7\t7\t7\nGid:\t5\t5\t5\t5\nGroups:\t8 9 \n";
        let facts = identity(status, expectation);
        let marks: Vec<bool> = facts.iter().map(Fact::differs).collect();
        assert_eq!(marks, [false, true, false]);
        assert_eq!(field(status, "Umask:"), Some("0022"));
        let row = |name: &str, soft: &str, hard: &str, unit: &str| {
            format!("{name:26}{soft:21}{hard:21}{unit:10}\n")
        };
        let text = [
            row("Limit", "Soft Limit", "Hard Limit", "Units"),
            row("Max cpu time", "unlimited", "unlimited", "seconds"),
            row("Max open files", "1024", "524288", "files"),
        ]
        .concat();
        let limits = limits(&text);
        assert_eq!(limits.len(), 1);
        assert_eq!(limits[0].key, "limit open files");
        assert_eq!(limits[0].actual.as_deref(), Some("1024 (at most 524288)"));
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
    fn the_group_is_that_of_the_unified_hierarchy() {
        assert_eq!(group("8:pids:/\n0::/keepd.x/s.web.1\n"), "/keepd.x/s.web.1");
        assert_eq!(group("8:pids:/\n1:cpu:/a\n"), "8:pids:/, 1:cpu:/a");
    }

    #[test]
    fn words_are_seen_one_by_one() {
        assert_eq!(joined(split(b"sh\0-c\0a b\0\0")), "sh -c 'a b' ''");
        assert_eq!(split(b""), Vec::<String>::new());
    }
}
