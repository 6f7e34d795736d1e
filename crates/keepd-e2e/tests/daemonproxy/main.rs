//! The language, events and quirks of daemonproxy, checked from outside on the program under that
//! name.
//!
//! One module for each area, one test for each fact. The quirks (K1 to K16, which clients depend
//! on; A1 to A29, accidents of the original that are done better) are those of `docs/protocol.md`.

mod child;
mod connection_commands;
mod control_socket;
mod controllers;
mod conversations;
mod daemonize;
mod errors;
mod exit;
mod fault;
mod flow;
mod guard;
mod handles;
mod handles_taken;
mod inherited;
mod life_cycle;
mod lines;
mod log;
mod log_commands;
mod options;
mod pid1;
mod pipes;
mod place;
mod pools;
mod service_commands;
mod services;
mod signals;
mod sockets;
mod statedump;
mod terminate;
mod triggers;
mod turns;
