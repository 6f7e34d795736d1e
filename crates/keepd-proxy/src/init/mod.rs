//! One command as the first process of a container: `keepd-init [OPTIONS] -- COMMAND`.
//!
//! A loop of its own, without the machine of the proxy: it starts the command in a process group of
//! its own, hands signals on, reaps whatever comes to it, and ends as the command did, once nothing
//! of it is left. It keeps no table and reads nothing but signals, so there is nothing that could
//! hold it up or make it grow.
//!
//! Start from [`run`]; the options are in [`Options`], the loop is in `watch.rs`, and what happens
//! after the end of the command in `farewell.rs`.

mod farewell;
mod options;
mod say;
mod signal_names;
mod start;
mod watch;

pub use options::{HELP, Options, OptionsError};
pub use start::run;
