//! What is promised while something is wrong with the machine: one file for each fault of the table
//! in docs/reliability.md.
//!
//! In each of them control is asked for all the time, with a deadline; the figures are printed and
//! collected (`KEEPD_TEST_FIGURES`). A fault that cannot be made here is skipped, which is said.

mod clock;
mod controllers;
mod crash_loops;
mod crowd;
mod descriptors;
mod disk;
mod instance;
mod ledger;
mod ledger_files;
mod lines;
mod memory;
mod older_kernels;
mod processes;
mod readers;
mod reused_pids;
mod unkillable;
