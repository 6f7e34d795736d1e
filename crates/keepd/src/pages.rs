//! The pages about this crate: their Rust blocks are documentation tests, so that they
//! cannot show what does not compile. They exist in such a test only; a package does not need them.

#[doc = include_str!("../../../README.md")]
mod readme {}

#[doc = include_str!("../../../docs/library.md")]
mod library {}

#[doc = include_str!("../../../docs/migrating-from-proc-daemon.md")]
mod migrating_from_proc_daemon {}
