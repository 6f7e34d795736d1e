//! Layers: defaults, a file, its drop-ins, the environment, and what the program says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::environment;
use super::files;
use super::keys::{KEYS, RESTART, RESTART_KEYS, Value};
use super::origin::{Origin, Origins};
use super::report::Report;
use super::tree::{Entry, Finder, Node, Setting, Table};
use super::types::Config;
use crate::error::{Error, ErrorCode, Result};

/// What happens to a key of a file that does not exist.
///
/// ```
/// use keepd::config::{ConfigLoader, UnknownKeys};
///
/// let loader = ConfigLoader::new().variables::<&str, &str>([]);
/// let mut loader = loader.unknown_keys(UnknownKeys::Warn);
/// assert_eq!(loader.load()?.name, "proc-daemon");
/// assert!(loader.warnings().is_empty());
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownKeys {
    /// Nothing.
    Allow,
    /// It is logged.
    Warn,
    /// It is an error that names the nearest key that exists.
    #[default]
    Deny,
}

/// Loads a [`Config`] from its sources; from the weakest to the strongest: defaults, the file, its
/// drop-ins (`daemon.toml.d/*.toml`, by name), the environment, and [`ConfigLoader::set`].
///
/// Each value remembers where it comes from, so partial files and partial environments go together.
///
/// ```
/// use keepd::config::{ConfigLoader, Origin};
///
/// # fn main() -> keepd::Result<()> {
/// let mut loader = ConfigLoader::new()
///     .variables([("DAEMON_SHUTDOWN_TIMEOUT_MS", "4s")])
///     .set("logging.level", "debug");
/// let config = loader.load()?;
/// assert_eq!(config.shutdown.graceful, 4000);
/// let origin = loader.origins().of("shutdown.graceful").to_string();
/// assert_eq!(origin, "variable DAEMON_SHUTDOWN_TIMEOUT_MS");
/// assert_eq!(loader.origins().of("name"), &Origin::Default);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct ConfigLoader {
    file: Option<PathBuf>,
    variables: Variables,
    overrides: Vec<(String, String)>,
    #[cfg(feature = "figment")]
    provided: Option<figment::value::Dict>,
    unknown_keys: UnknownKeys,
    map: bool,
    /// Where a relative `work_dir` begins, if not in the current folder.
    origin: Option<PathBuf>,
    origins: Origins,
    warnings: Vec<String>,
}

/// Where variables are taken from.
#[derive(Debug, Default)]
enum Variables {
    #[default]
    Process,
    Given(Vec<(OsString, OsString)>),
}

impl ConfigLoader {
    /// Returns a loader without a file, with the environment of the process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the file. One that does not exist says nothing.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Returns the file.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Takes these variables instead of those of the process. Only names that begin with `DAEMON_`
    /// are looked at.
    #[must_use]
    pub fn variables<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.variables = Variables::Given(variables.collect());
        self
    }

    /// Sets a value that beats every other source, for example from the command line. The key is a
    /// path such as `shutdown.graceful`; the value is written as in a variable.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.overrides.push((key.into(), value.into()));
        self
    }

    /// Sets what a provider of figment says; it beats every source but [`ConfigLoader::set`].
    ///
    /// # Errors
    ///
    /// What the provider says.
    #[cfg(feature = "figment")]
    pub fn provider<P: figment::Provider>(mut self, provider: P) -> Result<Self> {
        self.provided = Some(figment::Figment::from(provider).extract()?);
        Ok(self)
    }

    /// Sets what happens to a key of a file that does not exist.
    #[must_use]
    pub const fn unknown_keys(mut self, rule: UnknownKeys) -> Self {
        self.unknown_keys = rule;
        self
    }

    /// Maps the file instead of reading it (with the feature `mmap-config`).
    ///
    /// A mapped file that is shortened while it is read kills the process with SIGBUS, so this is
    /// for files that are replaced by renaming only.
    #[must_use]
    pub const fn map(mut self, enabled: bool) -> Self {
        self.map = enabled;
        self
    }

    /// Says where a relative `work_dir` begins: a daemon has left the folder that it was started in
    /// when it reads its file again.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub(crate) fn origin(mut self, folder: PathBuf) -> Self {
        self.origin = Some(folder);
        self
    }

    /// Loads the configuration and checks its values. That configured folders exist is not checked,
    /// so that a file can be checked on another machine: see [`Config::validate`].
    ///
    /// # Errors
    ///
    /// One configuration error with everything that is wrong, each with its file and line (or its
    /// variable) and the nearest valid word.
    pub fn load(&mut self) -> Result<Config> {
        let mut report = Report::default();
        let mut layers = Vec::new();
        if let Some(file) = &self.file {
            for path in std::iter::once(file.clone()).chain(files::drop_ins(file)?) {
                let Some(root) = files::read(&path, self.map, &mut report)? else { continue };
                layers.push(Finder::new(self.unknown_keys, &mut report).find(root));
            }
        }
        layers.push(environment::find(self.known_variables(&mut report), &mut report));
        #[cfg(feature = "figment")]
        if let Some(provided) = &self.provided {
            let root = super::provider::table(provided);
            // Programs keep values of their own in their providers; 1.x never looked at them.
            let rule = self.unknown_keys.min_warn();
            layers.push(Finder::new(rule, &mut report).find(root));
        }
        layers.push(Finder::new(UnknownKeys::Deny, &mut report).find(self.override_table()));

        let mut config = Config::default();
        let mut origins = Origins::default();
        for layer in layers {
            refuse_contradictions(&layer, &mut report);
            for setting in layer {
                apply(setting, &mut config, &mut origins, &mut report);
            }
        }
        if let Some(origin) = &self.origin {
            config.anchor(origin);
        }
        for violation in config.value_violations() {
            let origin = origins.of(violation.key);
            report.error(ErrorCode::ConfigInvalid, origin, violation.text());
        }
        self.warnings = report.finish()?;
        self.origins = origins;
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }

    /// Returns where the values of the last [`ConfigLoader::load`] that succeeded come from.
    pub const fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Returns what the last [`ConfigLoader::load`] that succeeded has to say.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the variables of keepd as text.
    fn known_variables(&self, report: &mut Report) -> Vec<(String, String)> {
        let variables: Vec<(OsString, OsString)> = match &self.variables {
            Variables::Process => std::env::vars_os().collect(),
            Variables::Given(variables) => variables.clone(),
        };
        let mut known = Vec::new();
        for (name, value) in variables {
            // A name that is not UTF-8 is none of ours.
            let Some(name) = name.to_str().filter(|name| name.starts_with(environment::PREFIX))
            else {
                continue;
            };
            match value.into_string() {
                Ok(value) => known.push((name.to_owned(), value)),
                Err(value) => {
                    let text = format!("the value {value:?} is not UTF-8");
                    let origin = Origin::Variable(name.to_owned());
                    report.error(ErrorCode::ConfigTypeMismatch, &origin, text);
                }
            }
        }
        known.sort_unstable();
        known
    }

    /// Returns the overrides as a tree, so that they are read as a file is.
    fn override_table(&self) -> Table {
        let is_last = |index: usize, path: &str| {
            !self.overrides[index + 1..].iter().any(|(later, _)| later == path)
        };
        let overrides = self.overrides.iter().enumerate();
        let overrides = overrides.filter(|(index, (path, _))| is_last(*index, path));
        overrides.map(|(_, (path, value))| override_entry(path, value)).collect()
    }
}

/// Returns one override as an entry of the root; `a.b` becomes a table `a` with the key `b`.
fn override_entry(path: &str, value: &str) -> Entry {
    let origin = || Origin::Program;
    let value = Node::Value(Value::Untyped(value.to_owned()));
    match path.rsplit_once('.') {
        None => Entry { key: path.to_owned(), origin: origin(), node: value },
        Some((tables, key)) => {
            let inner = Entry { key: key.to_owned(), origin: origin(), node: value };
            let in_tables = |inner: Entry, table: &str| {
                let node = Node::Table(vec![inner]);
                Entry { key: table.to_owned(), origin: origin(), node }
            };
            tables.rsplit('.').fold(inner, in_tables)
        }
    }
}

#[cfg(feature = "figment")]
impl UnknownKeys {
    /// Returns the rule, but never stricter than a warning.
    const fn min_warn(self) -> Self {
        match self {
            Self::Allow => Self::Allow,
            Self::Warn | Self::Deny => Self::Warn,
        }
    }
}

/// Reports two spellings of one key in one source that say different things.
fn refuse_contradictions(layer: &[Setting], report: &mut Report) {
    for (index, setting) in layer.iter().enumerate() {
        let same = |other: &&Setting| {
            other.path == setting.path
                && other.subsystem == setting.subsystem
                && other.value != setting.value
        };
        if let Some(earlier) = layer[..index].iter().find(same) {
            let text = format!(
                "\"{}\" and \"{}\" are the same key with different values: keep one",
                earlier.written, setting.written
            );
            report.error(ErrorCode::ConfigInvalid, &setting.origin, text);
        }
    }
}

/// Puts one value into the configuration.
fn apply(setting: Setting, config: &mut Config, origins: &mut Origins, report: &mut Report) {
    let Setting { subsystem, path, written, value, origin } = setting;
    let (name, result) = match subsystem {
        Some(subsystem) => {
            let subsystem = subsystem_name(config, subsystem, &origin);
            let name = format!("{RESTART}.{subsystem}.{path}");
            let key = RESTART_KEYS.iter().find(|key| key.path == path);
            let target = config.restart.entry(subsystem).or_default();
            (name, key.map(|key| key.set(target, &value)))
        }
        None => {
            let key = KEYS.iter().find(|key| key.path == path);
            (path.to_owned(), key.map(|key| key.set(config, &value)))
        }
    };
    match result.expect("a setting has the path of a key in the table") {
        Ok(()) => origins.set(&name, origin),
        Err(text) => {
            let text = format!("cannot read \"{written}\": {text}");
            report.error(ErrorCode::ConfigTypeMismatch, &origin, text);
        }
    }
}

/// Returns the name of a subsystem. A variable has no small letters and no dashes, so it means the
/// table whose name is written so, if there is one.
fn subsystem_name(config: &Config, name: String, origin: &Origin) -> String {
    let Origin::Variable(_) = origin else { return name };
    let folded = |name: &str| {
        let fold = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        name.chars().map(fold).collect::<String>()
    };
    config.restart.keys().find(|known| folded(known) == name).cloned().unwrap_or(name)
}

impl Config {
    /// Loads `daemon.toml` in the current folder, and the environment.
    ///
    /// # Errors
    ///
    /// As [`Config::load_from_file`].
    pub fn load() -> Result<Self> {
        Self::load_from_file(crate::DEFAULT_CONFIG_FILE)
    }

    /// Loads a file, its drop-ins and the environment. A file that does not exist says nothing.
    ///
    /// A path that ends with `.json` is JSON, and needs the feature `serde_json`; every other one
    /// is TOML, and needs the feature `toml`.
    ///
    /// # Errors
    ///
    /// A configuration error with everything that is wrong: a file that cannot be read, syntax,
    /// types, unknown keys, rules.
    ///
    /// ```
    /// # #[cfg(feature = "toml")]
    /// # fn main() -> keepd::Result<()> {
    /// use keepd::Config;
    ///
    /// let config = Config::load_from_file("no-such-file.toml")?;
    /// assert_eq!(config.shutdown.graceful, 5000);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "toml"))]
    /// # fn main() {}
    /// ```
    pub fn load_from_file<P: AsRef<Path>>(path: P) -> Result<Self> {
        ConfigLoader::new().file(path.as_ref()).load()
    }

    /// Loads what a provider of figment says over the defaults and the environment.
    ///
    /// # Errors
    ///
    /// As [`Config::load_from_file`], and what the provider says.
    ///
    /// ```
    /// use figment::providers::Serialized;
    /// use keepd::Config;
    ///
    /// # fn main() -> keepd::Result<()> {
    /// let config = Config::load_with_provider(Serialized::default("name", "web"))?;
    /// assert_eq!(config.name, "web");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "figment")]
    pub fn load_with_provider<P: figment::Provider>(provider: P) -> Result<Self> {
        ConfigLoader::new().provider(provider)?.load()
    }

    /// Returns the keys whose values differ, those that a running daemon takes at once first.
    ///
    /// ```
    /// use keepd::Config;
    ///
    /// let old = Config::default();
    /// let mut new = Config::default();
    /// new.name = "web".to_owned();
    /// new.shutdown.graceful = 2000;
    /// let differences = old.differences(&new);
    /// assert_eq!(differences.live, ["shutdown.graceful"]);
    /// assert_eq!(differences.after_restart, ["name"]);
    /// ```
    pub fn differences(&self, new: &Self) -> Differences {
        let mut differences = Differences::default();
        let (mut old, mut new) = (self.clone(), new.clone());
        for key in KEYS {
            if key.differs(&mut old, &mut new) {
                let keys = match key.is_live {
                    true => &mut differences.live,
                    false => &mut differences.after_restart,
                };
                keys.push(key.path);
            }
        }
        if old.restart != new.restart {
            differences.live.push(RESTART);
        }
        differences
    }
}

/// What a new configuration changes.
///
/// ```
/// use keepd::Config;
///
/// let old = Config::default();
/// assert!(old.differences(&old.clone()).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Keys that a running daemon takes at once.
    pub live: Vec<&'static str>,
    /// Keys that need a restart of the daemon.
    pub after_restart: Vec<&'static str>,
}

impl Differences {
    /// Returns whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.after_restart.is_empty()
    }
}

/// Returns a file error with the right code.
pub(super) fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let code = crate::error::io_code(&error);
    Error::config_with_source(code, format!("cannot read {path:?}: {error}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config> {
        ConfigLoader::new().variables(variables.iter().copied()).load()
    }

    #[test]
    fn every_key_has_a_variable_in_every_spelling() {
        for key in KEYS {
            for spelling in key.spellings() {
                let name = environment::variable(spelling);
                let value = match key.path {
                    "logging.level" => "error",
                    "logging.rotate" => "daily",
                    "logging.target" => "stderr",
                    "shutdown.force" => "6s",
                    "shutdown.kill" => "11s",
                    path if path.ends_with("_file") || path.ends_with("_dir") => "/run/x",
                    "logging.file" | "name" => "/run/x",
                    _ => {
                        let mut probe = Config::default();
                        let takes_flag = key.set(&mut probe, &Value::Flag(true)).is_ok();
                        let is_set = probe == Config::default();
                        match (takes_flag, is_set) {
                            (true, true) => "false",
                            (true, false) => "true",
                            (false, _) => "7",
                        }
                    }
                };
                let config = load(&[(&name, value)]).unwrap_or_else(|e| panic!("{name}: {e}"));
                let differences = Config::default().differences(&config);
                let changed = [differences.live, differences.after_restart].concat();
                assert_eq!(changed, [key.path], "{name}");
            }
        }
    }

    #[test]
    fn an_empty_variable_is_none_where_that_is_possible() {
        let config = load(&[("DAEMON_LOGGING_MAX_FILE_SIZE", "")]).unwrap();
        assert_eq!(config.logging.max_file_size, None);
        let error = load(&[("DAEMON_SHUTDOWN_GRACEFUL", "")]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cannot read \"DAEMON_SHUTDOWN_GRACEFUL\": expected"), "{text}");
        assert_eq!(error.code(), ErrorCode::ConfigTypeMismatch);
    }

    #[test]
    fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
        let mut loader = ConfigLoader::new().variables([
            ("DAEMON_SHUTDOWN_GRACEFULL", "1"),
            ("DAEMON_HOME", "/"),
            ("HOME", "/"),
        ]);
        loader.load().unwrap();
        let expected = [
            "variable DAEMON_HOME: the variable belongs to no key",
            "variable DAEMON_SHUTDOWN_GRACEFULL: the variable belongs to no key, did you mean \
             DAEMON_SHUTDOWN_GRACEFUL?",
        ];
        let warnings = loader.warnings();
        assert!(warnings[0].starts_with(expected[0]), "{warnings:?}");
        assert_eq!(warnings[1], expected[1]);
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn two_spellings_with_different_values_are_refused() {
        let same = [("DAEMON_SHUTDOWN_GRACEFUL", "9"), ("DAEMON_SHUTDOWN_TIMEOUT_MS", "9")];
        assert_eq!(load(&same).unwrap().shutdown.graceful, 9);
        let other = [("DAEMON_SHUTDOWN_GRACEFUL", "9"), ("DAEMON_SHUTDOWN_TIMEOUT_MS", "8")];
        let text = load(&other).unwrap_err().to_string();
        let expected = "\"DAEMON_SHUTDOWN_GRACEFUL\" and \"DAEMON_SHUTDOWN_TIMEOUT_MS\" are the \
                        same key with different values: keep one";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_broken_rule_names_the_variable() {
        let text = load(&[("DAEMON_SHUTDOWN_GRACEFUL", "20s")]).unwrap_err().to_string();
        let expected = "Force timeout must be greater than graceful timeout";
        assert!(text.contains(expected), "{text}");
        let text = load(&[("DAEMON_SHUTDOWN_KILL", "1s")]).unwrap_err().to_string();
        assert!(text.contains("variable DAEMON_SHUTDOWN_KILL: Kill timeout must"), "{text}");
    }

    #[test]
    fn overrides_beat_everything_and_the_last_one_wins() {
        let mut loader = ConfigLoader::new()
            .variables([("DAEMON_NAME", "from-environment")])
            .set("name", "first")
            .set("restart.web.delay", "3s")
            .set("name", "second");
        let config = loader.load().unwrap();
        assert_eq!(config.name, "second");
        assert_eq!(config.restart["web"].delay, 3000);
        assert_eq!(loader.origins().of("name"), &Origin::Program);
        let error = ConfigLoader::new().set("nmae", "x").load().unwrap_err().to_string();
        assert!(error.contains("unknown key \"nmae\", did you mean \"name\"?"), "{error}");
    }

    #[test]
    fn a_variable_of_a_subsystem_finds_its_table() {
        let config = ConfigLoader::new()
            .variables([("DAEMON_RESTART_WEB_SERVER_MAX_DELAY", "3s")])
            .set("restart.Web-Server.delay", "1s");
        let mut config = config;
        let loaded = config.load().unwrap();
        // The override comes later, so the variable could not know its spelling.
        assert_eq!(loaded.restart["web_server"].max_delay, 3000);
        assert_eq!(loaded.restart["Web-Server"].delay, 1000);
    }
}
