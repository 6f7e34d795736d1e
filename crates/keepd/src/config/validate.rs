//! The rules for values. Rules for paths, which need the file system, are in `paths.rs`.

use super::types::{Config, LogTarget};
use crate::error::{Error, ErrorCode, Result};

/// One rule that is broken.
pub(super) struct Violation {
    /// The key it is about, such as `shutdown.force`.
    pub(super) key: &'static str,
    /// The rule. Its wording is interface.
    pub(super) rule: &'static str,
    /// The value, as a person would write it.
    pub(super) value: String,
}

impl Violation {
    /// Returns the whole sentence.
    pub(super) fn text(&self) -> String {
        format!("{} ({} = {})", self.rule, self.key, self.value)
    }
}

impl Config {
    /// Checks every rule: values, and that the folders of configured paths exist.
    ///
    /// # Errors
    ///
    /// One configuration error with all rules that are broken, the first one first.
    ///
    /// ```
    /// use keepd::Config;
    ///
    /// let mut config = Config::default();
    /// config.shutdown.force = 10;
    /// let text = config.validate().unwrap_err().to_string();
    /// assert!(text.contains("Force timeout must be greater than graceful timeout"));
    /// ```
    #[inline]
    pub fn validate(&self) -> Result<()> {
        // The common case costs a few comparisons: no list, and no look at the file system.
        let has_paths =
            self.work_dir.is_some() || self.pid_file.is_some() || self.logging.file.is_some();
        if self.breaks_no_value_rule() && !has_paths { Ok(()) } else { self.validate_in_full() }
    }

    #[cold]
    #[inline(never)]
    fn validate_in_full(&self) -> Result<()> {
        let mut violations = self.value_violations();
        self.add_path_violations(&mut violations);
        if violations.is_empty() { Ok(()) } else { Err(refusal(&violations)) }
    }

    /// Reports whether [`Config::value_violations`] would find nothing.
    #[inline]
    fn breaks_no_value_rule(&self) -> bool {
        let (shutdown, monitoring) = (&self.shutdown, &self.monitoring);
        let is_checked = monitoring.health_checks;
        shutdown.graceful > 0
            && shutdown.force > shutdown.graceful
            && shutdown.kill > shutdown.force
            && self.performance.memory_pool_size > 0
            && (!monitoring.enable_metrics || monitoring.metrics_interval_ms > 0)
            && (!is_checked || monitoring.health_check_interval_ms > 0)
            && (!is_checked || monitoring.health_failures > 0)
            && monitoring.watchdog != Some(0)
            && !self.name.is_empty()
            && self.logging.max_file_size != Some(0)
            && (self.logging.target != LogTarget::File || self.logging.file.is_some())
    }

    /// Checks the rules for values alone, so that a file can be checked on another machine.
    pub(super) fn value_violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut check = |holds: bool, key, rule, value: &dyn std::fmt::Display| {
            if !holds {
                violations.push(Violation { key, rule, value: value.to_string() });
            }
        };
        let shutdown = &self.shutdown;
        let monitoring = &self.monitoring;
        check(
            shutdown.graceful > 0,
            "shutdown.graceful",
            "Shutdown timeout must be greater than 0",
            &shutdown.graceful,
        );
        check(
            shutdown.force > shutdown.graceful,
            "shutdown.force",
            "Force timeout must be greater than graceful timeout",
            &shutdown.force,
        );
        check(
            shutdown.kill > shutdown.force,
            "shutdown.kill",
            "Kill timeout must be greater than force timeout",
            &shutdown.kill,
        );
        check(
            self.performance.memory_pool_size > 0,
            "performance.memory_pool_size",
            "Memory pool size must be greater than 0",
            &self.performance.memory_pool_size,
        );
        check(
            !monitoring.enable_metrics || monitoring.metrics_interval_ms > 0,
            "monitoring.metrics_interval_ms",
            "Metrics interval must be greater than 0 when metrics are enabled",
            &monitoring.metrics_interval_ms,
        );
        check(
            !monitoring.health_checks || monitoring.health_check_interval_ms > 0,
            "monitoring.health_check_interval_ms",
            "Health check interval must be greater than 0 when health checks are enabled",
            &monitoring.health_check_interval_ms,
        );
        check(
            !monitoring.health_checks || monitoring.health_failures > 0,
            "monitoring.health_failures",
            "Health failures must be greater than 0 when health checks are enabled",
            &monitoring.health_failures,
        );
        check(
            monitoring.watchdog != Some(0),
            "monitoring.watchdog",
            "Watchdog time must be greater than 0",
            &0,
        );
        check(!self.name.is_empty(), "name", "Daemon name cannot be empty", &"\"\"");
        check(
            self.logging.max_file_size != Some(0),
            "logging.max_file_size",
            "Log max_file_size must be greater than 0",
            &0,
        );
        check(
            self.logging.target != LogTarget::File || self.logging.file.is_some(),
            "logging.target",
            "Log target \"file\" needs logging.file",
            &"\"file\"",
        );
        violations
    }
}

/// Makes one error of all violations.
#[cold]
fn refusal(violations: &[Violation]) -> Error {
    let texts: Vec<String> = violations.iter().map(Violation::text).collect();
    Error::config_with_code(ErrorCode::ConfigInvalid, texts.join("; "))
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
    fn the_defaults_break_no_rule() {
        Config::default().validate().unwrap();
        assert!(Config::default().breaks_no_value_rule());
        assert!(Config::default().value_violations().is_empty());
    }

    #[test]
    fn each_rule_has_its_text() {
        type Case = (&'static str, fn(&mut Config));
        let cases: [Case; 11] = [
            ("Shutdown timeout must be greater than 0", |c| c.shutdown.graceful = 0),
            ("Force timeout must be greater than graceful timeout", |c| c.shutdown.force = 5000),
            ("Kill timeout must be greater than force timeout", |c| c.shutdown.kill = 10_000),
            ("Metrics interval must be greater than 0", |c| c.monitoring.metrics_interval_ms = 0),
            ("Health check interval must be greater than 0", |c| {
                c.monitoring.health_check_interval_ms = 0;
            }),
            ("Health failures must be greater than 0", |c| c.monitoring.health_failures = 0),
            ("Watchdog time must be greater than 0", |c| c.monitoring.watchdog = Some(0)),
            ("Memory pool size must be greater than 0", |c| c.performance.memory_pool_size = 0),
            ("Log max_file_size must be greater than 0", |c| c.logging.max_file_size = Some(0)),
            ("Log target \"file\" needs logging.file", |c| c.logging.target = LogTarget::File),
            ("Daemon name cannot be empty", |c| c.name.clear()),
        ];
        for (expected, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert!(!config.breaks_no_value_rule(), "{expected}");
            let text = text(change);
            assert!(text.contains(expected), "{text} does not contain {expected}");
            assert!(text.starts_with("Configuration error [CONFIG_INVALID(1000)]: "), "{text}");
        }
    }

    #[test]
    fn what_is_off_needs_no_interval() {
        let mut config = Config::default();
        config.monitoring.enable_metrics = false;
        config.monitoring.metrics_interval_ms = 0;
        config.monitoring.health_checks = false;
        config.monitoring.health_check_interval_ms = 0;
        config.monitoring.health_failures = 0;
        config.validate().unwrap();
    }

    #[test]
    fn all_violations_are_told_and_the_first_one_first() {
        let text = text(|config| {
            config.name.clear();
            config.shutdown.graceful = 20_000;
        });
        let expected = "Configuration error [CONFIG_INVALID(1000)]: Force timeout must be greater \
                        than graceful timeout (shutdown.force = 10000); Daemon name cannot be \
                        empty (name = \"\")";
        assert_eq!(text, expected);
    }
}
