//! `keepd status`: a table of services, or everything about one.

mod details;
mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod verb;

pub(crate) use rows::{duration, how};
pub(crate) use verb::{StatusOptions, run};
