//! `keepd logs`: what services wrote, from files, so that it works without a running keepd.

mod chosen;
mod follow;
mod options;
mod printer;
mod raw;
mod verb;

pub(crate) use options::LogsOptions;
pub(crate) use verb::run;
