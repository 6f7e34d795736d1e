//! Fixtures for tests with real processes: a project of its own for each test, the `keepd` program,
//! its HTTP API, and services that write down themselves what happens to them.
//!
//! It contains no test and no knowledge of how keepd works inside: it sees what a user sees, and
//! its witness is the event log that the test services write, never what keepd says about them.
//! Nothing here sleeps: every wait is for an event, and has a deadline.
//!
//! Start from [`Project`] (a folder with a configuration, and everything that runs in it) and
//! [`test_service`] (what the services of most tests are); for the proxy alone, start from
//! [`daemonproxy`].

mod api;
mod client;
pub mod control;
pub mod daemonproxy;
mod event_log;
pub mod figures;
mod limits;
mod mount;
mod older_kernel;
mod output;
mod ports;
mod processes;
mod program;
mod project;
mod running;
mod scratch;
mod skip;
pub mod test_service;
pub mod torture;
mod waiting;

pub use api::{Api, ApiError, EventStream, Response};
pub use client::talk;
pub use event_log::{Entry, EventLog};
pub use limits::{OldGroup, ProcessLimit};
pub use mount::Mount;
pub use older_kernel::{Lacking, OlderKernel};
pub use output::Output;
pub use ports::free_port;
pub use processes::{cpu_ticks, kill, marked, signal, wait_for_end, working_below};
pub use program::{
    find_program, init_program, keepd_program, test_service_program, torture_program,
};
pub use project::Project;
pub use running::{Finished, Running};
pub use scratch::Scratch;
pub use skip::skip;
pub use waiting::{Deadline, LONG, monotonic_seconds, wait_until};
