//! One processor for two, so that no time goes to waking another one up.

use keepd_model::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Attempt, BenchError};

/// This thread and another process (which has only one) on one processor, until it is given back.
#[derive(Debug)]
pub struct OneProcessor {
    other: Option<rustix::process::Pid>,
    before: CpuSet,
}

impl OneProcessor {
    /// Leaves the first of this thread's processors to both.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn share_with(other: Pid) -> Result<Self, BenchError> {
        let before = sched_getaffinity(None).attempt("see on which processors this runs")?;
        let mut first = CpuSet::new();
        if let Some(number) = (0..CpuSet::MAX_CPU).find(|number| before.is_set(*number)) {
            first.set(number);
        }
        let shared =
            Self { other: rustix::process::Pid::from_raw(other.get().cast_signed()), before };
        shared.restrict(&first)?;
        Ok(shared)
    }

    /// Lets both run where this thread ran before.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn give_back(self) -> Result<(), BenchError> {
        self.restrict(&self.before)
    }

    fn restrict(&self, processors: &CpuSet) -> Result<(), BenchError> {
        let what = "choose the processors of what is measured";
        sched_setaffinity(None, processors).attempt(what)?;
        sched_setaffinity(self.other, processors).attempt(what)
    }
}
