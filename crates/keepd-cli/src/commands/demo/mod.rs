//! `keepd demo`: small programs that show how a service behaves well, and one that does not.
//!
//! They use the standard library and nothing of keepd but waiting for signals: what they do can be
//! done by any program in any language.

mod flaky;
mod notify;
mod program;
mod say;
mod setup;
mod signals;
mod web;
mod worker;

pub(crate) use program::{Demo, run};
