//! The bare loop.

use std::process::Child;
use std::time::Duration;

use keepd_model::{Instant, Pid};
use keepd_os::clock;

use super::{Mode, Place, Subject, kill, terminate};
use crate::error::{Attempt, BenchError};
use crate::probe::OurProcess;
use crate::records::Records;

/// `keepd-bench-floor` and its children.
#[derive(Debug)]
pub struct Floor {
    child: Child,
    mode: Mode,
    asked_at: Instant,
    records: Records,
}

impl Floor {
    /// Starts the loop. It is asked for before it is executed, as a `keepd up` is. Each child has
    /// these words behind the file of records.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        place: &mut Place,
        count: usize,
        mode: Mode,
        words: &[&str],
    ) -> Result<Self, BenchError> {
        let folder = place.folder()?;
        let records = place.records(&folder)?;
        let mut command = place.command(place.program("keepd-bench-floor"));
        let word = match mode {
            Mode::Once => "once",
            Mode::Again => "again",
        };
        command
            .args([word, &count.to_string()])
            .arg(place.program("keepd-bench-service"))
            .arg(records.path())
            .args(words);
        let asked_at = clock::monotonic_now();
        let child = command.spawn().attempt("start the floor")?;
        Ok(Self { child, mode, asked_at, records })
    }
}

impl Subject for Floor {
    fn asked_at(&self) -> Instant {
        self.asked_at
    }

    fn records(&self) -> &Records {
        &self.records
    }

    fn processes(&self) -> Result<Vec<OurProcess>, BenchError> {
        let pid = Pid::new(self.child.id());
        Ok(pid.map(|pid| OurProcess { role: "floor", pid }).into_iter().collect())
    }

    fn stop(mut self: Box<Self>) -> Result<Duration, BenchError> {
        if self.mode == Mode::Again
            && let Some(pid) = Pid::new(self.child.id())
        {
            // It would start again what ends.
            kill(pid)?;
        }
        let begun_at = terminate(&self.records.read()?);
        self.child.wait().attempt("wait for the floor")?;
        Ok(clock::monotonic_now().saturating_since(begun_at))
    }
}
