//! Counters, gauges and histograms that cost a few nanoseconds.
//!
//! Start from [`MetricsCollector`]. Numbers are given by name; who gives one very often takes a
//! handle ([`MetricsCollector::counter`] and its like) and skips the look-up.
//!
//! Each thread has counts of its own, which are added up when somebody asks, and remembers the
//! names it used last. So no two threads wait for each other when they count. A registry behind a
//! lock is asked only for a name that is new to a thread.

mod cache;
mod cell;
mod collector;
#[cfg(all(test, keepd_loom))]
mod loom_models;
mod prometheus;
mod registry;
mod snapshot;
mod timer;

pub use cell::{Counter, Gauge, Histogram, LocalCounter};
pub use collector::MetricsCollector;
pub use snapshot::MetricsSnapshot;
pub use timer::Timer;
