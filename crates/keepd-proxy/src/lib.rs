//! The proxy: one thread that spawns, reaps, pumps output and speaks the protocol.
//!
//! It is the shell round [`keepd_engine::proxy`]: it turns what the kernel says into news for the
//! machine and does what the machine asks for. It contains no decision about a service, no
//! configuration but a stream of commands, no name lookup, no second thread and no runtime.
//!
//! Start from [`run()`]; [`init`] is the other half of `keepd-init`, a loop of its own for one
//! command.

mod adopt;
pub mod channel;
mod children;
mod connections;
mod controllers;
mod descriptors;
mod entry;
mod environment;
pub mod estate;
mod exit;
mod foreign;
mod groups;
pub mod holder;
pub mod init;
mod ledger;
mod legacy;
mod link;
mod listener;
mod log;
mod memory;
mod notify;
mod options;
mod pool;
mod pump;
mod ready;
mod record;
mod run;
mod start;
mod token;
pub mod warden;

pub use entry::run;
pub use options::{Setting, Step, UsageError, read as read_options};
pub use pool::{PoolError, PoolText, read as read_pool};
