//! Where and when a run was made: figures without it mean nothing.

use std::fmt;
use std::process::Command;

use serde_json::{Value, json};

/// The machine, the program and the day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processors that this process may use.
    pub processors: usize,
    /// The name of the processor.
    pub model: String,
    /// Release of the kernel.
    pub kernel: String,
    /// The day, in UTC.
    pub date: String,
    /// The commit, with `+` if files were changed since.
    pub commit: String,
    /// Whether keepd can make control groups.
    pub has_groups: bool,
}

impl Machine {
    /// Looks round. What cannot be found out is `unknown`.
    pub fn look() -> Self {
        let unknown = || "unknown".to_owned();
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let model = read("/proc/cpuinfo").and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let kernel = read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
        let commit = git(&["rev-parse", "--short", "HEAD"]).map(|commit| {
            let changed = git(&["status", "--porcelain"]).is_some_and(|text| !text.is_empty());
            if changed { commit + "+" } else { commit }
        });
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            model: model.unwrap_or_else(unknown),
            kernel: kernel.unwrap_or_else(unknown),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            commit: commit.unwrap_or_else(unknown),
            has_groups: keepd_os::cgroup::Group::own().is_some(),
        }
    }

    /// Returns it as an object.
    pub fn json(&self) -> Value {
        json!({
            "processors": self.processors,
            "model": self.model,
            "kernel": self.kernel,
            "date": self.date,
            "commit": self.commit,
            "has_groups": self.has_groups,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processors, model, kernel, date, commit, has_groups } = self;
        let groups = if *has_groups { "with" } else { "without" };
        write!(
            formatter,
            "Commit {commit}, {date}, {processors} processors ({model}), Linux {kernel}, {groups} \
             cgroup v2."
        )
    }
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
