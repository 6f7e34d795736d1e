//! The proxy with real processes: every test starts the program and talks to it as a controller
//! does.

mod connections;
mod idle;
mod jobs;
mod lives;
mod modes;
mod output;
mod ready;
mod support;
