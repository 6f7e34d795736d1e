//! A proxy that speaks daemonproxy's language, seen from outside.
//!
//! [`Setup`] says how it is started, [`Daemonproxy`] is the process, and each controller of it has
//! a [`Conversation`].
//!
//! The program under test is called as `daemonproxy`, through a link of that name. With
//! KEEPD_PEER_DAEMONPROXY=PATH another program is started instead, so that the same tests can be
//! held against another implementation.

mod conversation;
mod pattern;
mod proxy;
mod setup;

pub use conversation::{Captured, Conversation, PATIENCE};
pub use proxy::Daemonproxy;
pub use setup::Setup;
