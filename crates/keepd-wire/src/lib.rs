//! Bytes to messages and back: the tab protocol between proxy and manager, sd_notify(3) datagrams,
//! the records of log indexes, and the format of the ledger.
//!
//! It contains no clock, file, socket, thread or environment, and no decision but one: what a cell
//! of the ledger means to a successor ([`ledger::decide`]). Bytes come in as slices, bytes go out
//! into a `Vec<u8>`, and the words themselves are those of [`keepd_model::protocol`].
//! It does not know what a command does; it knows how one is written, and refuses what cannot be
//! read. Nothing here panics on any input, and no buffer grows beyond a written limit.
//!
//! daemonproxy's language, without escapes and numbers, is read in `keepd-compat`; what it has in
//! common with this one is in [`words`].
//!
//! Start from [`decode_request`] (what the proxy reads) and [`encode_message`] (what it writes).
//! `docs/protocol.md` is the reference for people.
//!
//! # History of the extension
//!
//! Numbers and words are never reused. A reader skips messages whose name it does not know; fields
//! are never added to a line that exists.
//!
//! | version | since | what it is |
//! | --- | --- | --- |
//! | 1 | keepd 0.1 | `proto`, `@ID`, the words of [`keepd_model::protocol`], [`FEATURES`] |

mod attribute;
mod field;
pub mod index;
pub mod ledger;
mod line;
mod message;
pub mod notify;
mod request;
mod setter;
pub mod words;

pub use field::FIELDS_MAX;
pub use line::{Line, LineReader};
pub use message::{FEATURES, MessageError, decode_message, encode_message};
pub use request::{RequestError, decode_request, encode_request};
pub use setter::NOTE_KEY_BYTES_MAX;
