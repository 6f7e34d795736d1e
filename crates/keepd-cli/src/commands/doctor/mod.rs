//! `keepd doctor`.

mod finding;
mod instance;
mod machine;
mod verb;

pub(crate) use verb::{DoctorOptions, run};
