//! Measures what keepd costs, beside a bare loop that only spawns and reaps (the *floor*), in the
//! same run and in turns, so that a busy machine makes both slow.
//!
//! It sees keepd from outside: the built programs, the kernel's counters in /proc, and the moments
//! that the services themselves write down ([`records`]). It contains no test and no judgement
//! beyond "the target is met or missed"; why is written by people, in `docs/performance.md`.
//!
//! Start from [`guard::run`] (which lets nothing outlive the run), [`bench::run`] (the order of the
//! measurements) and [`subject`] (the ways to run the same services).

pub mod arguments;
pub mod bench;
pub mod control;
pub mod error;
pub mod fleet;
pub mod guard;
pub mod inits;
pub mod kills;
pub mod machine;
pub mod page;
pub mod plain;
pub mod probe;
pub mod processor;
pub mod protocol;
pub mod records;
pub mod report;
pub mod restart;
pub mod samples;
pub mod status;
pub mod storm;
pub mod subject;
pub mod table;
