//! What a process uses: memory, processor time, threads.
//!
//! Start from [`ResourceTracker`]. Linux only: elsewhere, starting one is a platform error.

mod sample;
mod tracker;
mod usage;

pub use tracker::ResourceTracker;
pub use usage::{Alert, ResourceUsage};
