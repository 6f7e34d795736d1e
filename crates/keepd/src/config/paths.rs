//! The rules for configured paths, which are looked up in the file system.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::types::Config;
use super::validate::Violation;

impl Config {
    /// Returns a configured path as the daemon uses it: relative ones begin in `work_dir`.
    ///
    /// ```
    /// use keepd::Config;
    /// use std::path::Path;
    ///
    /// let mut config = Config::default();
    /// config.work_dir = Some("/srv/web".into());
    /// assert_eq!(config.resolve(Path::new("web.pid")), Path::new("/srv/web/web.pid"));
    /// assert_eq!(config.resolve(Path::new("/run/web.pid")), Path::new("/run/web.pid"));
    /// ```
    pub fn resolve<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        match &self.work_dir {
            Some(folder) if path.is_relative() => Cow::Owned(folder.join(path)),
            Some(_) | None => Cow::Borrowed(path),
        }
    }

    /// Makes a relative `work_dir` begin in this folder.
    pub(crate) fn anchor(&mut self, origin: &Path) {
        if let Some(folder) = self.work_dir.as_mut().filter(|folder| folder.is_relative()) {
            *folder = origin.join(&*folder);
        }
    }

    /// Adds what is wrong with the paths.
    #[inline]
    pub(super) fn add_path_violations(&self, violations: &mut Vec<Violation>) {
        if let Some(folder) = &self.work_dir {
            let rule = if !folder.exists() {
                Some("Working directory does not exist")
            } else if !folder.is_dir() {
                Some("Working directory is not a directory")
            } else {
                None
            };
            violations.extend(rule.map(|rule| violation("work_dir", rule, folder)));
        }
        if let Some(file) = &self.pid_file {
            self.check_folder(file, "pid_file", "PID file directory does not exist", violations);
        }
        if let Some(file) = &self.logging.file {
            let rule = "Log file directory does not exist";
            self.check_folder(file, "logging.file", rule, violations);
        }
    }

    fn check_folder(
        &self,
        file: &Path,
        key: &'static str,
        rule: &'static str,
        violations: &mut Vec<Violation>,
    ) {
        let whole = self.resolve(file);
        // A bare file name has the empty path as its parent: the current folder, which exists.
        let folder = whole.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            violations.push(violation(key, rule, &whole.into_owned()));
        }
    }
}

fn violation(key: &'static str, rule: &'static str, path: &PathBuf) -> Violation {
    Violation { key, rule, value: format!("{path:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn folders_must_exist() {
        let text = text(|config| {
            config.work_dir = Some("/nonexistent".into());
            config.pid_file = Some("/nonexistent/run/web.pid".into());
            config.logging.file = Some("/nonexistent/log/web.log".into());
        });
        for expected in [
            "Working directory does not exist (work_dir = \"/nonexistent\")",
            "PID file directory does not exist (pid_file = \"/nonexistent/run/web.pid\")",
            "Log file directory does not exist (logging.file = \"/nonexistent/log/web.log\")",
        ] {
            assert!(text.contains(expected), "{text} does not contain {expected}");
        }
    }

    #[test]
    fn a_file_is_no_working_directory() {
        let text = text(|config| config.work_dir = Some("/dev/null".into()));
        assert!(text.contains("Working directory is not a directory"), "{text}");
    }

    #[test]
    fn a_bare_file_name_is_valid_and_begins_in_the_working_directory() {
        let mut config = Config { pid_file: Some("web.pid".into()), ..Config::default() };
        config.validate().unwrap();
        config.work_dir = Some("/tmp".into());
        config.validate().unwrap();
        config.pid_file = Some("no-such-folder/web.pid".into());
        let text = config.validate().unwrap_err().to_string();
        assert!(text.contains("\"/tmp/no-such-folder/web.pid\""), "{text}");
    }
}
