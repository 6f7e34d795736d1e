//! What a process uses: memory, processor time, threads.
//!
//! Start from [`ResourceTracker`]. Linux only: elsewhere, starting one is a platform error.

mod sample;
mod tracker;
mod usage;

pub use tracker::ResourceTracker;
#[cfg(feature = "tokio")]
pub(crate) use tracker::Sampler;
pub use usage::{Alert, ResourceUsage};
