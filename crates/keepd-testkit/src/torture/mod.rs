//! The judge of a torture run: keepd's own processes are killed again and again, and services write
//! down themselves what happened to them.
//!
//! It reads three things that know nothing of each other: the [event log](crate::EventLog) of the
//! services, what keepd reported about their ends ([`Report`]), and the files with their output.
//! What must hold: no two instances at once, every end reported once with the true status,
//! generations without gaps, and every byte of the output in its place, once.
//!
//! It kills nothing and starts nothing. [`Kills`] says whom to kill and when, by events of the log
//! and never by a clock; [`judge`] and [`judge_output`] say whether all was well.

mod judge;
mod kills;
mod output;

pub use judge::{Figures, Finding, Report, Reported, Verdict, judge};
pub use kills::{Kill, Kills, Victim};
pub use output::{OutputFigures, OutputFinding, judge_output, output_line};
