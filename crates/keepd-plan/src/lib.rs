//! The text of keepd.toml to a [`Plan`](keepd_model::Plan): parsed, layered, validated, with every
//! error at once and the place of each.
//!
//! It contains the keys and what each may hold, the splitting of commands into words, the merging
//! of `[defaults]` and of tables that override others, the order of services, and the way back from
//! a plan to text. It contains no search for files, no environment, no clock and no look at the
//! system: texts come in as [`Source`]s, and variables stay unfilled in the plan. Whether a user or
//! a program exists is asked elsewhere.
//!
//! Start from [`load`] and [`Diagnostic`].

mod cycles;
mod diagnostic;
mod document;
mod duration;
mod edges;
mod field;
mod folded;
mod foreign;
mod include;
mod keep;
mod load;
mod manager;
mod order;
mod pattern;
mod probes;
mod render;
mod schema;
mod service;
mod service_keys;
mod table;
mod words;

pub use diagnostic::Diagnostic;
pub use duration::{DurationError, format_duration, parse_duration};
pub use include::{Include, includes};
pub use keep::{Exceptions, Kept, load_except, load_keeping};
pub use keepd_model::nearest;
pub use load::{Context, Loaded, Salvaged, Source, load, load_salvaging};
pub use order::start_order;
pub use pattern::{LinePattern, PatternError, line_pattern};
pub use render::{RenderOptions, render, render_plan};
pub use schema::{KeyDoc, Section, keys};
