//! The HTTP API on a Unix socket: it translates JSON to questions for the machine, and back. It
//! decides nothing.
//!
//! Start from [`types`], the objects on the wire, and from `server`, the list of paths.

mod actions;
mod body;
mod changes;
mod config;
mod events;
mod health;
mod history;
mod launch;
mod leftovers;
mod listener;
mod logs;
mod pieces;
mod problem;
mod query;
mod runs;
#[cfg(test)]
pub(crate) mod samples;
mod server;
mod services;
pub mod types;
mod wait;

pub(crate) use config::step_objects;
pub(crate) use history::History;
pub(crate) use server::{Api, serve};
