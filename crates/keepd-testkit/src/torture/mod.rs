//! Torture: keepd's own processes are killed again and again, and services write down themselves
//! what happened to them.
//!
//! The judge reads three things that know nothing of each other: the [event log](crate::EventLog)
//! of the services, what keepd reported about their ends ([`Report`]), and the files with their
//! output. What must hold: no two instances at once, every end reported with the true status,
//! generations without gaps, and every byte of the output in its place, once. [`judge`] and
//! [`judge_output`] kill nothing and start nothing.
//!
//! Start from [`Order`]: a round of kills at moments that a seed chooses. What the services do
//! follows from the same seed ([`live`]). The program for it is [`command`].

pub mod command;
mod dice;
mod guard;
mod instance;
mod judge;
mod keepers;
mod kills;
mod life;
mod output;
mod reports;
mod round;
mod stack;
mod table;
pub mod tracer;
mod walks;

pub use dice::Dice;
pub use guard::GUARD;
pub use judge::{Figures, Finding, Report, Reported, Verdict, judge};
pub use keepers::{Keepers, Seeker};
pub use kills::{Kill, Kills, Pairs, Victim};
pub use life::{Kind, LIFE, RELATIVE, live, live_as_relative};
pub use output::{OutputFigures, OutputFinding, judge_output, output_line};
pub use reports::{REMEMBERED, Reports};
pub use round::{Order, Round};
pub use stack::FLAKY;
pub use table::Table;
pub use tracer::{Tracer, Whose};
pub use walks::{Episode, Walk, Walked};
