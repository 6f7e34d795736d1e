//! The language, events and quirks of daemonproxy, checked from outside on the program under that
//! name. One module for each area; the quirks (K1 to K16 kept, A1 to A29 done better) are those of
//! `docs/protocol.md`.

mod p0100_grammar;

mod daemonize;
mod exit;
mod guard;
mod handles;
mod log;
mod options;
mod pid1;
mod place;
mod pools;
