//! Losses: warden, proxy and manager are killed at every effect, and what they leave behind is
//! taken over.
//!
//! It is a world of its own beside the one of [`run`](crate::run): here time between two effects of
//! a process matters, there it does not. The proxy machine, the keeper, the decisions and the
//! journal are the real ones; the shells play the contract of `docs/design/0009-ledger.md`, one
//! effect after another. The invariants are at the top of `judge.rs`.

mod adopt;
mod cells;
mod child;
mod client;
mod judge;
mod kernel;
mod pace;
mod proxy;
mod sabotage;
mod search;
mod story;
mod walk;
mod warden;
mod world;

pub use kernel::{Kill, Role};
pub use pace::Pace;
pub use sabotage::Sabotage as LossSabotage;
pub use search::{
    Breach, Depth, Loss, Outcome, Tale, Telling, crash_points, play, story_names, walk, walk_of,
};
