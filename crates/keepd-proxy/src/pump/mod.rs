//! Output of services: from their pipes into files, with an index that knows times and runs.
//!
//! Its only inputs are pipes, files and moments, so that it can become a process of its own: a
//! regular file has no non-blocking form, and a log folder on a hung file system stops whoever
//! writes. It decides nothing about services. Nothing is lost: what cannot be written stays where
//! it is, in the pipe, and stops only who writes into it.

mod file;
mod found;
mod index;
mod stream;
mod table;

pub(crate) use table::{Moment, News, Pump, Start, Writers};
pub(crate) use {found::find_again, table::Left};

#[cfg(test)]
mod tests;
