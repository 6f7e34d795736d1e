//! `keepd show`: the configuration that is in force, and how it looks in the kernel.

mod actual;
mod environment;
mod redact;
mod report;
mod verb;

pub(crate) use verb::{ShowOptions, run};
