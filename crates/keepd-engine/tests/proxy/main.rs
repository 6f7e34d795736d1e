//! Story, table and walk tests of the proxy machine. They cite `docs/behaviour.md`.

mod connections;
mod driver;
mod ending;
mod flow;
mod handles;
mod jobs;
mod leases;
mod memory;
mod process;
mod running;
mod starting;
mod succession;
mod table;
mod triggers;
mod walk;
