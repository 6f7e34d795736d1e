//! daemonproxy's front end: its language, wording, pools and limits, before keepd's core.
//!
//! To the core ([`keepd_engine::proxy`]) this is one connection like any other, [`FRONT`]: it sends
//! numbered commands and hears every event. Everything that only daemonproxy has is here: plain
//! connections with their buffers, `overflow` and time limits, `error⇥…, for command "…"`, whole
//! seconds, the order of a dump, pools. The core is looked at, by reference, for dumps and pools;
//! it is changed only by commands.
//!
//! It contains no clock, file, socket, thread or environment; the shell reads lines, writes what is
//! in the buffers, and passes commands and messages between the two machines at once.
//!
//! Start from [`Front`]. `docs/protocol.md` is the reference for people.

mod answers;
mod client;
mod decode;
mod dump;
mod encode;
mod front;
mod pools;

pub use decode::{Refusal, decode_line};
pub use front::{Client, FRONT, Front, Output};
pub use pools::{Limits, Pool};
