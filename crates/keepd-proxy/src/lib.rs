//! The proxy: one thread that spawns, reaps, pumps output and speaks the protocol.
//!
//! It is the shell round [`keepd_engine::proxy`]: it turns what the kernel says into news for the
//! machine and does what the machine asks for. It contains no decision about a service, no
//! configuration but a stream of commands, no name lookup, no second thread and no runtime.
//!
//! Start from [`Options`] and [`run()`]; [`init`] is the other half of `keepd-init`, a loop of its
//! own for one command.

mod children;
mod connections;
mod environment;
mod groups;
pub mod init;
mod listener;
mod log;
mod notify;
mod options;
mod pump;
mod ready;
mod run;
mod start;
mod token;

pub use options::{Options, UsageError};
pub use run::run;
