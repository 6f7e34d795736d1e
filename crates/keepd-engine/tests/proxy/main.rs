//! Story, table and walk tests of the proxy machine. They cite `docs/behaviour.md`.

mod connections;
mod driver;
mod ending;
mod flow;
mod jobs;
mod running;
mod starting;
mod table;
mod walk;
