//! One service, from its keys to its specification.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keepd_model::{
    CommandLine, Kind, LogMode, Origin, Reload, RestartPolicy, ServiceName, ServiceSpec, Signal,
    Template,
};

use crate::diagnostic::{Collector, quoted};
use crate::duration::format_duration;
use crate::edges::EdgeDraft;
use crate::field::{Entry, Field, Place};
use crate::service_keys::ROWS;
use crate::table::Entries;

/// The most bytes of a command: what Linux takes for a single argument of execve(2).
const COMMAND_BYTES_MAX: usize = 128 * 1024;

/// A service while its keys are read: what depends on several keys is not yet in the specification.
pub(crate) struct Draft {
    pub(crate) spec: ServiceSpec,
    pub(crate) shell: bool,
    pub(crate) command: Option<CommandLine>,
    pub(crate) reload_signal: Option<Signal>,
    pub(crate) reload_command: Option<CommandLine>,
    pub(crate) restart: Option<RestartPolicy>,
    pub(crate) ready_delay: Option<Duration>,
    pub(crate) ready_timeout: Option<Duration>,
    pub(crate) log_mode: Option<Destination>,
    pub(crate) log_dir: Option<Template>,
    pub(crate) log_file: Option<Template>,
    pub(crate) edges: BTreeMap<String, EdgeDraft>,
    /// Names of `after`, each with its place.
    pub(crate) after: BTreeMap<String, Origin>,
    /// Names of `before`, each with its place.
    pub(crate) before: BTreeMap<String, Origin>,
    /// Keys whose value is wrong, so that nothing more is concluded from them.
    pub(crate) broken: BTreeSet<&'static str>,
}

/// The words of `log.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    File,
    Append,
    Null,
    Inherit,
}

impl Destination {
    pub(crate) const ALL: &'static [Self] = &[Self::File, Self::Append, Self::Null, Self::Inherit];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Append => "append",
            Self::Null => "null",
            Self::Inherit => "inherit",
        }
    }
}

/// What a group can have: the rest says how to run something.
const GROUP_KEYS: [&str; 8] =
    ["description", "kind", "enabled", "tags", "override", "depends_on", "after", "before"];

/// A table of service keys that is being read.
pub(crate) struct ServiceReader<'r, 'd> {
    /// The service, or `[defaults]`.
    pub(crate) place: Place<'r>,
    /// Where the table stands.
    pub(crate) origin: Origin,
    pub(crate) entries: &'r Entries<'d>,
    /// Whatever is not there was not written.
    pub(crate) is_complete: bool,
    pub(crate) collector: &'r mut Collector,
}

impl<'d> ServiceReader<'_, 'd> {
    /// Reads every key. What is wrong is noted, and its default stands in the draft.
    pub(crate) fn read(&mut self, name: ServiceName, working_dir: &str) -> Draft {
        let mut draft = self.draft(name, working_dir);
        for row in ROWS {
            for (key, entry) in self.entries.of(row.doc.key) {
                if draft.spec.kind == Kind::Group && !GROUP_KEYS.contains(&row.doc.key) {
                    self.refuse_in_group(key, entry);
                    continue;
                }
                let mut field = Field::new(key, self.place, *entry, self.collector);
                (row.read)(&mut draft, &mut field);
                if field.has_failed() {
                    draft.broken.insert(row.doc.key);
                }
                let known = row.doc.key;
                let key = if key == known { Cow::Borrowed(known) } else { key.to_owned().into() };
                draft.spec.origins.insert(key, entry.key_origin());
            }
        }
        if draft.spec.kind == Kind::Group {
            self.conclude_group(&mut draft);
            return draft;
        }
        self.conclude_command(&mut draft);
        self.conclude_reload(&mut draft);
        self.conclude_restart(&mut draft);
        self.check_restart_limit(&draft);
        self.conclude_ready(&mut draft);
        self.conclude_log(&mut draft);
        self.check_log_pattern(&draft);
        self.check_backoff(&draft);
        draft
    }

    fn draft(&self, name: ServiceName, working_dir: &str) -> Draft {
        let mut spec = ServiceSpec::new(name, CommandLine::Words(Vec::new()));
        spec.working_dir = Template::literal(working_dir);
        spec.origins.insert("", self.origin.clone());
        Draft {
            spec,
            shell: false,
            command: None,
            reload_signal: None,
            reload_command: None,
            restart: None,
            ready_delay: None,
            ready_timeout: None,
            log_mode: None,
            log_dir: None,
            log_file: None,
            edges: BTreeMap::new(),
            after: BTreeMap::new(),
            before: BTreeMap::new(),
            broken: BTreeSet::new(),
        }
    }

    /// Notes a key that a group cannot have. What `[defaults]` says is for services with a process.
    fn refuse_in_group(&mut self, key: &str, entry: &Entry<'_>) {
        if entry.is_inherited() {
            return;
        }
        let message =
            format!("cannot use key {} {}: a group has no process", quoted(key), self.place);
        let hint = match key {
            "command" => "leave out kind for a service with a command",
            _ => "a group takes description, enabled, tags, depends_on, after and before",
        };
        self.collector.error(Some(entry.key_origin()), message, Some(hint.to_owned()));
    }

    fn conclude_group(&mut self, draft: &mut Draft) {
        let spec = &mut draft.spec;
        spec.command = None;
        spec.working_dir = Template::literal("/");
        let is_given =
            draft.broken.contains("depends_on") || self.entries.meant.contains(&"depends_on");
        if draft.edges.is_empty() && !is_given && self.is_complete {
            let origin = self.entries.get("kind").map(Entry::value_origin);
            let name = quoted(draft.spec.name.as_str());
            let message = format!("group {name} has no members, so it is ready at once");
            self.collector.warning(origin, &message, "list them: depends_on = [\"SERVICE\"]");
        }
    }

    /// Returns the entry of a key that this table gives itself.
    fn own(&self, key: &str) -> Option<Entry<'d>> {
        let entry = self.entries.get(key).copied();
        entry.filter(|entry| !entry.is_inherited())
    }

    fn is_service(&self) -> bool {
        match self.place {
            Place::Service(_) => true,
            Place::Top | Place::Keepd | Place::Defaults => false,
        }
    }

    fn name(&self) -> String {
        match self.place {
            Place::Service(name) => format!("service {}", quoted(name)),
            Place::Top | Place::Keepd | Place::Defaults => "a service".to_owned(),
        }
    }

    fn conclude_command(&mut self, draft: &mut Draft) {
        let entry = self.entries.get("command");
        let Some(command) = draft.command.take() else {
            let is_missing = entry.is_none()
                && !self.entries.meant.contains(&"command")
                && !draft.broken.contains("kind");
            if is_missing && self.is_complete && self.is_service() {
                let message = format!("cannot run {}: it has no command", self.name());
                let hint = "add command = \"PROGRAM ARGUMENT...\"".to_owned();
                self.collector.error(Some(self.origin.clone()), message, Some(hint));
            }
            return;
        };
        let bytes = match &command {
            CommandLine::Shell(line) => line.len(),
            CommandLine::Words(words) => words.iter().map(|word| word.to_string().len() + 1).sum(),
        };
        if bytes > COMMAND_BYTES_MAX {
            let message = format!(
                "cannot use a command of {bytes} bytes {}: the limit is {COMMAND_BYTES_MAX}",
                self.place
            );
            let origin = entry.map(Entry::value_origin);
            self.collector.error(origin, message, None);
            draft.broken.insert("command");
        }
        draft.spec.command = Some(command);
    }

    fn conclude_reload(&mut self, draft: &mut Draft) {
        let signal = self.entries.get("reload_signal").copied();
        let command = self.entries.get("reload_command").copied();
        if let (Some(signal), Some(command)) = (signal, command) {
            // A service that has one of them takes back the other of [defaults].
            match signal.rank.cmp(&command.rank) {
                Ordering::Less => draft.reload_signal = None,
                Ordering::Greater => draft.reload_command = None,
                Ordering::Equal if signal.is_inherited() => {}
                Ordering::Equal => self.refuse_two_reloads(&signal, &command),
            }
        }
        let signal = draft.reload_signal.take().map(Reload::Signal);
        draft.spec.reload = draft.reload_command.take().map(Reload::Command).or(signal);
    }

    fn refuse_two_reloads(&mut self, signal: &Entry<'_>, command: &Entry<'_>) {
        let message = format!(
            "cannot use both \"reload_signal\" and \"reload_command\" {}: a reload is one of them",
            self.place
        );
        let hint =
            format!("leave out one of them; reload_signal stands at {}", signal.key_origin());
        self.collector.error(Some(command.key_origin()), message, Some(hint));
    }

    fn check_restart_limit(&mut self, draft: &Draft) {
        let limit = draft.spec.restart_limit;
        let window = self.own("restart_window");
        if self.entries.get("restart_limit").is_none() && self.is_service() {
            if let Some(window) = window {
                let message = format!(
                    "key \"restart_window\" has no effect {}: nothing is limited",
                    self.place
                );
                let hint = "add restart_limit = COUNT";
                self.collector.warning(Some(window.key_origin()), &message, hint);
            }
            return;
        }
        let is_broken =
            ["restart_limit", "restart_window"].iter().any(|key| draft.broken.contains(key));
        let given = window.or_else(|| self.own("restart_limit"));
        if limit.count > 0
            && limit.window.is_zero()
            && !is_broken
            && let Some(given) = given
        {
            let message = format!(
                "cannot limit restarts {}: \"restart_window\" is \"0s\", in which nothing can be \
                 counted",
                self.place
            );
            let hint = "0 for restart_limit means no limit".to_owned();
            self.collector.error(Some(given.value_origin()), message, Some(hint));
        }
    }

    fn conclude_restart(&mut self, draft: &mut Draft) {
        let (given, default) = (
            draft.restart,
            match draft.spec.kind {
                Kind::Daemon => RestartPolicy::Always,
                Kind::Oneshot | Kind::Group => RestartPolicy::Never,
            },
        );
        draft.spec.restart = given.unwrap_or(default);
        let is_oneshot = draft.spec.kind == Kind::Oneshot;
        if is_oneshot && given == Some(RestartPolicy::Always) && self.is_service() {
            let entry = self.entries.get("restart");
            let message = format!(
                "cannot use \"always\" for \"restart\" {}: a oneshot that succeeded stays done",
                self.place
            );
            let hint = "write restart = \"on-failure\", or \"never\", the default of a oneshot";
            let origin = entry.map(Entry::value_origin);
            self.collector.error(origin, message, Some(hint.to_owned()));
            draft.broken.insert("restart");
        }
    }

    fn conclude_ready(&mut self, draft: &mut Draft) {
        let ready = &mut draft.spec.ready;
        let is_asked = ready.notify || ready.fd.is_some() || !ready.probes.is_empty();
        let (delay, timeout) = match draft.spec.kind {
            Kind::Daemon if is_asked => (Duration::ZERO, Duration::from_secs(60)),
            Kind::Daemon => (Duration::from_secs(1), Duration::from_secs(60)),
            Kind::Oneshot | Kind::Group => (Duration::ZERO, Duration::ZERO),
        };
        ready.delay = draft.ready_delay.unwrap_or(delay);
        let timeout = draft.ready_timeout.unwrap_or(timeout);
        ready.timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        self.check_ready(draft);
    }

    fn check_ready(&mut self, draft: &Draft) {
        let (delay, timeout) = (draft.spec.ready.delay, draft.spec.ready.timeout);
        let Some(timeout) = timeout.filter(|timeout| *timeout <= delay) else {
            return;
        };
        let given = [self.entries.get("ready.timeout"), self.entries.get("ready.delay")];
        let is_both = given.iter().all(Option::is_some);
        let is_inherited = given.iter().flatten().all(|entry| entry.is_inherited());
        // Two defaults that exclude each other are noted once, where they stand.
        let is_ours = if self.is_service() { !(is_both && is_inherited) } else { is_both };
        if let Some(entry) = given.into_iter().flatten().next().filter(|_| is_ours) {
            let message = format!(
                "cannot reach \"ready\" {}: \"ready.delay\" ({}) is not shorter than \
                 \"ready.timeout\" ({})",
                self.place,
                format_duration(delay),
                format_duration(timeout)
            );
            let hint = Some("\"0s\" for \"ready.timeout\" means no limit".to_owned());
            self.collector.error(Some(entry.value_origin()), message, hint);
        }
    }

    fn conclude_log(&mut self, draft: &mut Draft) {
        let mode = draft.log_mode.unwrap_or(Destination::File);
        // In [defaults] a folder or file may stand without the mode that services choose.
        let is_chosen = self.is_service() || self.entries.get("log.mode").is_some();
        let is_known = is_chosen && !draft.broken.contains("log.mode");
        for (key, of) in [("log.dir", Destination::File), ("log.file", Destination::Append)] {
            // What an overriding table says of the mode leaves the key of the lower one aside.
            let rank = self.entries.get("log.mode").map_or(0, |entry| entry.rank);
            let own = self.own(key).filter(|entry| entry.rank >= rank);
            if let Some(entry) = own.filter(|_| mode != of && is_known) {
                let message = format!(
                    "cannot use key \"{key}\" {}: it goes with log.mode = \"{}\" only",
                    self.place,
                    of.word()
                );
                self.collector.error(Some(entry.key_origin()), message, None);
            }
        }
        draft.spec.log.mode = match (mode, draft.log_file.take()) {
            (Destination::File, _) => LogMode::File { dir: draft.log_dir.take() },
            (Destination::Append, Some(file)) => LogMode::Append { file },
            (Destination::Append, None) => {
                self.refuse_missing_file();
                LogMode::Null
            }
            (Destination::Null, _) => LogMode::Null,
            (Destination::Inherit, _) => LogMode::Inherit,
        };
    }

    /// Notes a pattern for lines that keepd does not see.
    fn check_log_pattern(&mut self, draft: &Draft) {
        let mode = draft.log_mode.unwrap_or(Destination::File);
        let pattern = self.entries.get("ready.log").copied();
        let Some(pattern) = pattern.filter(|_| mode != Destination::File) else {
            return;
        };
        // Two defaults that exclude each other are noted once, where they stand.
        let entries = [self.entries.get("log.mode").copied(), Some(pattern)];
        let given = entries.into_iter().flatten().max_by_key(|entry| entry.rank);
        if let Some(given) = given.filter(|entry| !entry.is_inherited()) {
            let message = format!(
                "cannot use \"ready.log\" {} with log.mode = \"{}\": keepd can read only what it \
                 writes itself",
                self.place,
                mode.word()
            );
            let hint = "leave out log.mode, or write log.mode = \"file\"".to_owned();
            self.collector.error(Some(given.key_origin()), message, Some(hint));
        }
    }

    fn refuse_missing_file(&mut self) {
        let is_given =
            self.entries.get("log.file").is_some() || self.entries.meant.contains(&"log.file");
        let mode = self.entries.get("log.mode");
        if let Some(mode) = mode.filter(|_| !is_given && self.is_complete && self.is_service()) {
            let message =
                format!("cannot log {} by \"append\": it has no \"log.file\"", self.name());
            let hint = "add log.file = \"PATH\"".to_owned();
            self.collector.error(Some(mode.value_origin()), message, Some(hint));
        }
    }

    fn check_backoff(&mut self, draft: &Draft) {
        let (initial, max) = (self.own("backoff_initial"), self.own("backoff_max"));
        let is_broken =
            ["backoff_initial", "backoff_max"].iter().any(|key| draft.broken.contains(key));
        let is_too_long = draft.spec.backoff.initial > draft.spec.backoff.max;
        if let Some(entry) = initial.or(max).filter(|_| is_too_long && !is_broken) {
            let message = format!(
                "cannot use \"backoff_initial\" {}: it is longer than \"backoff_max\"",
                self.place
            );
            self.collector.error(Some(entry.value_origin()), message, None);
        }
    }
}
