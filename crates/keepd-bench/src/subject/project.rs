//! `keepd up` with a `keepd.toml`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use keepd_model::Instant;
use keepd_os::clock;

use super::{Mode, Place, Subject};
use crate::control::Control;
use crate::error::{Attempt, BenchError};
use crate::probe::{self, OurProcess};
use crate::records::Records;

/// What the services of a project are.
#[derive(Clone, Copy, Debug)]
pub struct Services {
    /// Lines of `[defaults]`.
    defaults: &'static str,
    /// The argument after the file of records.
    argument: Option<&'static str>,
}

impl Services {
    /// Services that wait for a signal. They ask for no readiness, so they are ready once they
    /// are executed; every other key has its default.
    ///
    /// [`Mode::Again`]: a service that has been ready for a second counts as healthy again, so
    /// that each kill is answered like a first one: at once.
    pub fn waiting(mode: Mode) -> Self {
        let defaults = match mode {
            Mode::Once => "ready.delay = \"0s\"\n",
            Mode::Again => "ready.delay = \"0s\"\nbackoff_reset = \"1s\"\n",
        };
        Self { defaults, argument: None }
    }

    /// The same, but HUP makes each write one record more.
    pub fn answering(mode: Mode) -> Self {
        Self { argument: Some("answer"), ..Self::waiting(mode) }
    }

    /// The same, without files of their output: those need six descriptors each, and more of them
    /// than a process may have if there are ten thousand.
    pub fn answering_without_logs() -> Self {
        let defaults = "ready.delay = \"0s\"\nlog.mode = \"null\"\n";
        Self { defaults, argument: Some("answer") }
    }

    /// Services that fail at once, for ever; each is started again at most a second later.
    pub fn failing() -> Self {
        let defaults = "ready.delay = \"0s\"\nbackoff_max = \"1s\"\n";
        Self { defaults, argument: Some("1") }
    }
}

/// A project in the background.
#[derive(Debug)]
pub struct Project {
    folder: PathBuf,
    keepd: PathBuf,
    run_dirs: PathBuf,
    id: String,
    down: Command,
    asked_at: Instant,
    up: Option<Child>,
    records: Records,
}

impl Project {
    /// Starts `keepd up -d` with so many services. They are asked for before keepd is executed.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(place: &mut Place, count: usize, services: Services) -> Result<Self, BenchError> {
        let folder = place.folder()?;
        let records = place.records(&folder)?;
        let keepd = place.program("keepd");
        // Relative to the folder in which services are: a file of ten thousand is long enough.
        let records_path = records.path().strip_prefix(&folder).unwrap_or(records.path());
        let program = place.program("keepd-bench-service");
        let configuration = configuration(count, &services, &program, records_path);
        std::fs::write(folder.join("keepd.toml"), configuration).attempt("write \"keepd.toml\"")?;
        let mut up = place.command(&keepd);
        up.args(["up", "--detach", "--quiet"]).current_dir(&folder);
        let mut down = place.command(&keepd);
        down.args(["down", "--quiet"]).current_dir(&folder);
        let asked_at = clock::monotonic_now();
        let up = up.spawn().attempt("start \"keepd up\"")?;
        let id = place.id().to_owned();
        let run_dirs = place.run_dirs();
        Ok(Self { folder, keepd, run_dirs, id, down, asked_at, up: Some(up), records })
    }

    /// Waits until `keepd up -d` returns: every service is ready, or is known not to be. Returns
    /// how long that took since the services were asked for.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait_until_up(&mut self) -> Result<Duration, BenchError> {
        if let Some(mut up) = self.up.take() {
            up.wait().attempt("wait for \"keepd up\"")?;
        }
        Ok(clock::monotonic_now().saturating_since(self.asked_at))
    }

    /// Returns the control socket of this project, once it is there.
    ///
    /// # Errors
    /// It cannot be found.
    pub fn control(&self) -> Result<Control, BenchError> {
        let what = format!("find the run folder in \"{}\"", self.run_dirs.display());
        let name = self.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let prefix = format!("{name}-");
        for entry in std::fs::read_dir(&self.run_dirs).attempt(&what)? {
            let entry = entry.attempt(&what)?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                return Ok(Control::new(entry.path().join("keepd.sock")));
            }
        }
        Err("there is none of this project").attempt(&what)
    }

    /// Returns `keepd status` for this project.
    pub fn status(&self, place: &Place) -> Command {
        let mut status = place.command(&self.keepd);
        status.arg("status").current_dir(&self.folder);
        status
    }
}

fn configuration(count: usize, services: &Services, program: &Path, records: &Path) -> String {
    let (program, records) = (program.display(), records.display());
    let Services { defaults, argument } = services;
    let argument = argument.map(|word| format!(", '{word}'")).unwrap_or_default();
    let mut text = format!("[defaults]\n{defaults}");
    if count == 0 {
        // keepd warns of a project without any service.
        text += "enabled = false\n";
    }
    for number in 0..count.max(1) {
        writeln!(text, "\n[services.s{number:05}]\ncommand = ['{program}', '{records}'{argument}]")
            .expect("a String takes every text");
    }
    text
}

impl Subject for Project {
    fn asked_at(&self) -> Instant {
        self.asked_at
    }

    fn records(&self) -> &Records {
        &self.records
    }

    fn processes(&self) -> Result<Vec<OurProcess>, BenchError> {
        probe::keepd_processes(&self.keepd, &self.folder, &self.id)
    }

    fn stop(mut self: Box<Self>) -> Result<Duration, BenchError> {
        self.wait_until_up()?;
        let begun_at = clock::monotonic_now();
        let status = self.down.status().attempt("run \"keepd down\"")?;
        if status.success() {
            Ok(clock::monotonic_now().saturating_since(begun_at))
        } else {
            Err(BenchError::new(format!("cannot stop the services: \"keepd down\": {status}")))
        }
    }
}
