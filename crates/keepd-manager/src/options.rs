//! The arguments of the manager (`keepd __manager …`), written by `keepd up` and read by the
//! manager.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use crate::console::ColorChoice;
use crate::instance::Instance;

/// What the manager is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The instance and its paths.
    pub instance: Instance,
    /// It belongs to a foreground `up`: lines of services are shown, and it ends when nothing is
    /// left to do (unless the configuration says otherwise).
    pub foreground: bool,
    /// Whether output is coloured.
    pub color: ColorChoice,
    /// Only what these selectors match is wanted up at the start; empty: everything that is
    /// enabled.
    pub only: Vec<String>,
    /// Nothing is wanted up at the start (`run --no-start`).
    pub no_start: bool,
    /// `--log-level`: stronger than KEEPD_LOG and the configuration.
    pub log_level: Option<String>,
    /// The cgroup of the instance, where there is one.
    pub group: Option<PathBuf>,
}

/// Why the arguments cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// There is no such option.
    Unknown(OsString),
    /// The option needs a value.
    Missing(&'static str),
    /// The value cannot be used.
    Value(&'static str, OsString),
}

impl fmt::Display for OptionsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(found) => {
                write!(formatter, "cannot use option \"{}\"", found.display())
            }
            Self::Missing(option) => {
                write!(formatter, "cannot use option \"{option}\" without a value")
            }
            Self::Value(option, found) => {
                write!(formatter, "cannot use value \"{}\" of option \"{option}\"", found.display())
            }
        }
    }
}

impl std::error::Error for OptionsError {}

impl Options {
    /// Returns the arguments that [`Options::parse`] reads, without the program and the verb.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut add = |option: &str, value: &OsStr| {
            arguments.push(OsString::from(option));
            arguments.push(value.to_owned());
        };
        add("--instance", OsStr::new(&self.instance.name));
        add("--run-dir", self.instance.run_dir.as_os_str());
        add("--state-dir", self.instance.state_dir.as_os_str());
        add("--log-dir", self.instance.log_dir.as_os_str());
        add("--config-dir", self.instance.config_dir.as_os_str());
        add("--color", OsStr::new(self.color.word()));
        if let Some(level) = &self.log_level {
            add("--log-level", OsStr::new(level));
        }
        if let Some(group) = &self.group {
            add("--group", group.as_os_str());
        }
        for selector in &self.only {
            add("--only", OsStr::new(selector));
        }
        if self.no_start {
            arguments.push(OsString::from("--no-start"));
        }
        if self.foreground {
            arguments.push(OsString::from("--foreground"));
        }
        arguments
    }

    /// Reads the arguments that follow the verb.
    ///
    /// # Errors
    /// The first argument that cannot be used.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut found = Found::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            found.take(&argument, &mut arguments)?;
        }
        found.finish()
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    name: Option<String>,
    run_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    log_dir: Option<PathBuf>,
    config_dir: Option<PathBuf>,
    foreground: bool,
    no_start: bool,
    color: ColorChoice,
    only: Vec<String>,
    log_level: Option<String>,
    group: Option<PathBuf>,
}

impl Found {
    fn take(
        &mut self,
        argument: &OsStr,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), OptionsError> {
        let mut value = |option| rest.next().ok_or(OptionsError::Missing(option));
        match argument.to_str() {
            Some("--instance") => self.name = Some(text("--instance", value("--instance")?)?),
            Some("--run-dir") => self.run_dir = Some(value("--run-dir")?.into()),
            Some("--state-dir") => self.state_dir = Some(value("--state-dir")?.into()),
            Some("--log-dir") => self.log_dir = Some(value("--log-dir")?.into()),
            Some("--config-dir") => self.config_dir = Some(value("--config-dir")?.into()),
            Some("--group") => self.group = Some(value("--group")?.into()),
            Some("--only") => self.only.push(text("--only", value("--only")?)?),
            Some("--log-level") => {
                self.log_level = Some(text("--log-level", value("--log-level")?)?);
            }
            Some("--color") => {
                let word = text("--color", value("--color")?)?;
                self.color = ColorChoice::from_word(&word)
                    .ok_or_else(|| OptionsError::Value("--color", word.into()))?;
            }
            Some("--no-start") => self.no_start = true,
            Some("--foreground") => self.foreground = true,
            Some(_) | None => return Err(OptionsError::Unknown(argument.to_owned())),
        }
        Ok(())
    }

    fn finish(self) -> Result<Options, OptionsError> {
        Ok(Options {
            instance: Instance {
                name: self.name.ok_or(OptionsError::Missing("--instance"))?,
                run_dir: self.run_dir.ok_or(OptionsError::Missing("--run-dir"))?,
                state_dir: self.state_dir.ok_or(OptionsError::Missing("--state-dir"))?,
                log_dir: self.log_dir.ok_or(OptionsError::Missing("--log-dir"))?,
                config_dir: self.config_dir.ok_or(OptionsError::Missing("--config-dir"))?,
            },
            foreground: self.foreground,
            color: self.color,
            only: self.only,
            no_start: self.no_start,
            log_level: self.log_level,
            group: self.group,
        })
    }
}

fn text(option: &'static str, value: OsString) -> Result<String, OptionsError> {
    value.into_string().map_err(|value| OptionsError::Value(option, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            instance: Instance {
                name: "shop-00c0ffee".into(),
                run_dir: "/run/keepd/shop-00c0ffee".into(),
                state_dir: "/srv/shop/.keepd".into(),
                log_dir: "/srv/shop/.keepd/log".into(),
                config_dir: "/srv/shop".into(),
            },
            foreground: true,
            color: ColorChoice::Never,
            only: vec!["web*".into(), "--odd".into()],
            no_start: true,
            log_level: Some("debug".into()),
            group: Some("/sys/fs/cgroup/keepd.shop-00c0ffee".into()),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut options = options();
        assert_eq!(Options::parse(options.to_arguments()), Ok(options.clone()));
        options.foreground = false;
        options.only.clear();
        options.no_start = false;
        options.log_level = None;
        options.group = None;
        assert_eq!(Options::parse(options.to_arguments()), Ok(options));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let parse = |words: &[&str]| Options::parse(words.iter().map(OsString::from)).unwrap_err();
        assert_eq!(parse(&[]), OptionsError::Missing("--instance"));
        assert_eq!(parse(&["--run-dir"]), OptionsError::Missing("--run-dir"));
        assert_eq!(parse(&["--odd"]), OptionsError::Unknown("--odd".into()));
        assert_eq!(
            parse(&["--color", "red"]).to_string(),
            "cannot use value \"red\" of option \"--color\""
        );
    }
}
