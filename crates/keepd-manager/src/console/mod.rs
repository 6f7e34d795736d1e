//! What a person sees while `keepd up` runs in the foreground, and what is in keepd's log
//! otherwise.
//!
//! It is a subscriber of announcements and holds no policy. A thread of its own writes, behind a
//! bounded queue: a stopped terminal never stops the manager.

mod color;
mod line;
mod live;
mod news;
mod own_file;
mod queue;
mod screen;
mod style;
mod summary;
mod view;
mod writer;

pub use color::{ColorChoice, ColorEnvironment, paint_dim, paint_name};
pub use line::{append_json_line, append_text_line};
pub use news::{is_end_of_run, is_worth_a_line};

pub(crate) use queue::Queue;
#[cfg(test)]
pub(crate) use queue::Work;
pub(crate) use style::SharedStyle;
pub(crate) use view::{Console, Outputs};
