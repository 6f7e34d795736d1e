//! Where the time goes, and the memory.
//!
//! Start from `CpuProfiler` (feature `profiling`) or `heap::HeapProfiler` (feature
//! `heap-profiling`).

#[cfg(feature = "profiling")]
mod cpu;
pub mod heap;

#[cfg(feature = "profiling")]
pub use cpu::CpuProfiler;
