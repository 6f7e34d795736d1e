//! `cargo xtask tidy`: the rules of the house that no other tool checks.
//!
//! A rule is a function from a path and its text to findings; it reads no file, so its tests need
//! none. [`tree`] reads the checkout once, [`rules`] puts every rule to every file. Each message
//! says what to do instead.

mod banned;
mod blobs;
mod citations;
mod edges;
mod finding;
mod layout;
mod lexer;
mod links;
mod modules;
mod opening;
mod paths;
mod purity;
mod rules;
mod source;
mod tree;
mod unsafety;
mod versions;

pub(crate) use rules::run;
