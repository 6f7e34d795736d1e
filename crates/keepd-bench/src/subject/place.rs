//! Where the files of a run are, and the environment that all its processes share.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keepd_os::process;

use crate::error::{Attempt, BenchError};
use crate::guard;
use crate::records::Records;

/// The scratch folder and the programs of a run. Each subject gets a folder of its own in it.
#[derive(Debug)]
pub struct Place {
    id: String,
    scratch: PathBuf,
    programs: PathBuf,
    subjects: usize,
}

impl Place {
    /// Returns the place that the guard made.
    ///
    /// # Errors
    /// This process was not started by the guard, or a program is missing.
    pub fn new() -> Result<Self, BenchError> {
        let id = std::env::var(guard::MARK).attempt("measure without the guard above")?;
        let own = process::own_executable().attempt("find this program")?;
        let programs = own.parent().map(Path::to_owned).unwrap_or_default();
        let place = Self { scratch: guard::scratch(&id), id, programs, subjects: 0 };
        for program in ["keepd", "keepd-bench-floor", "keepd-bench-service"] {
            let path = place.program(program);
            if !path.is_file() {
                return Err(BenchError::new(format!(
                    "cannot find \"{}\": `cargo xtask bench` builds it",
                    path.display()
                )));
            }
        }
        Ok(place)
    }

    /// Returns the id of the run, which is also the value of [`guard::MARK`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns where the run folders of instances are.
    pub fn run_dirs(&self) -> PathBuf {
        self.scratch.join("run")
    }

    /// Returns the full path of a program that was built with this one.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Returns the path of the static `keepd-init`, which has a profile of its own.
    ///
    /// # Errors
    /// It is not there.
    pub fn static_init(&self) -> Result<PathBuf, BenchError> {
        let target = self.programs.parent().map(Path::to_owned).unwrap_or_default();
        let path = target.join("init/keepd-init");
        if path.is_file() {
            return Ok(path);
        }
        let path = path.display();
        Err(BenchError::new(format!("cannot find \"{path}\": `cargo xtask bench` builds it")))
    }

    /// Makes a folder for one subject. Its name is unique in the run, and tells whose the control
    /// group of an instance in it is.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&mut self) -> Result<PathBuf, BenchError> {
        self.subjects += 1;
        let folder = self.scratch.join(format!("{}-{}", self.id, self.subjects));
        std::fs::create_dir(&folder).attempt(format!("create \"{}\"", folder.display()))?;
        Ok(folder)
    }

    /// Makes an empty file of records in a folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn records(&self, folder: &Path) -> Result<Records, BenchError> {
        Records::create(folder.join("records"))
    }

    /// Returns a command with the environment of the run, which is small and always the same, and
    /// without input and output.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.scratch)
            .env("KEEPD_RUN_DIR", self.run_dirs())
            .env(guard::MARK, &self.id)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        command
    }
}
