//! The manager process: a tokio shell round the pure machine [`keepd_engine::manager`].
//!
//! It contains effects: the connection to the proxy, files and users that a start needs, probes,
//! the HTTP API on a Unix socket, the console, and reading of logs. It contains no decision about
//! services; those are the machine's, and the console and the API only show what it says. It starts
//! and reaps no process: that is the proxy's; only when nobody keeps that alive any more, it starts
//! whoever does.
//!
//! Start from [`run()`] (the whole program) and [`Options`] (what it is told). [`Instance`] says
//! where the files of an instance are, [`api::types`] what the API says.

pub mod accepted;
pub mod api;
mod apply;
mod calls;
mod config;
pub mod console;
pub mod discovery;
pub mod instance;
mod link;
mod log_places;
pub mod logs;
mod options;
mod own_log;
mod prepare;
mod probes;
mod proposal;
pub mod revision;
mod run;
mod second_warden;
mod shell;
mod signpost;
mod standing;
pub mod time;

pub use instance::Instance;
pub use options::{Options, OptionsError};
pub use run::run;
pub use second_warden::{BEGIN_WARDEN, MANAGER_VERB, begin as begin_warden};
pub use signpost::Signpost;
pub use standing::Standing;
