//! A kernel that lacks something, for one program and everything that it starts.

use std::process::Command;

pub use keepd_os::seccomp::Lacking;
use keepd_os::seccomp::take_away;

use crate::{LONG, Project, Running, keepd_program, skip, wait_until};

/// What a kernel lacks.
#[derive(Clone, Debug)]
pub struct OlderKernel {
    lacking: Vec<Lacking>,
    is_forbidden: bool,
}

impl OlderKernel {
    /// Describes a kernel without these. Says aloud if no filter can be installed here, and returns
    /// `None`.
    pub fn without(lacking: &[Lacking]) -> Option<Self> {
        let kernel = Self { lacking: lacking.to_vec(), is_forbidden: false };
        let mut nothing = Command::new("true");
        take_away(&mut nothing, &kernel.lacking, false);
        if nothing.status().is_ok_and(|status| status.success()) {
            return Some(kernel);
        }
        skip(&format!("a kernel without {lacking:?}: no filter of system calls can be installed"));
        None
    }

    /// The calls are known and forbidden, as in a container.
    #[must_use]
    pub fn forbidden(self) -> Self {
        Self { is_forbidden: true, ..self }
    }

    /// Starts `keepd` on it with these words.
    #[track_caller]
    pub fn start_keepd(&self, project: &Project, words: &[&str]) -> Running {
        let mut command = project.command(keepd_program());
        command.args(words);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        take_away(&mut command, &self.lacking, self.is_forbidden);
        Running::start(&mut command)
    }

    /// Starts `keepd up` on it, and waits until every service is ready.
    ///
    /// # Panics
    /// If it ends before.
    #[track_caller]
    pub fn up_and_ready(&self, project: &Project) -> Running {
        let mut up = self.start_keepd(project, &["up"]);
        wait_until("every service to be ready", LONG, || {
            assert!(up.is_running(), "keepd up ended:\n{}", up.stderr().text());
            let answer = project.api().get("/v1/services").ok().filter(|it| it.status == 200)?;
            let services = answer.json()["services"].as_array().cloned()?;
            services.iter().all(|service| service["state"] == "ready").then_some(())
        });
        up
    }
}
