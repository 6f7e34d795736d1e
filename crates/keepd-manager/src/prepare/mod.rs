//! What a start needs, found out fresh at every start: users, variables, files and paths.
//!
//! It runs on a blocking thread with a limit of time, because the user database and file systems
//! answer when they like.

mod env_file;
mod environment;
mod executable;
mod identity;
mod launch;
mod pool;

pub(crate) use environment::{Variables, inherited};
pub(crate) use launch::prepare;
pub(crate) use pool::Pool;

use keepd_engine::manager::PrepareFailure;
use keepd_model::{Errno, SpawnStep};

/// Returns a failure of this step.
fn failure(step: SpawnStep, errno: Option<Errno>, text: String) -> PrepareFailure {
    PrepareFailure { step, errno, text }
}
