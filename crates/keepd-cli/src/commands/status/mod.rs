//! `keepd status`: a table of services, or everything about one.

mod details;
mod rows;
mod verb;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use verb::{StatusOptions, run};
