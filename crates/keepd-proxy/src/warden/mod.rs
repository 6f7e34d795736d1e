//! The warden.

mod alone;
mod fault;
mod holdings;
mod ledger;
pub mod machine;
mod run;
mod say;
mod setup;
mod start;
mod survivors;

pub(crate) use alone::{Alone, Words};
pub use machine::Ending;
pub use run::{Ended, News, run};
pub use setup::{Keys, Origin, Setup, WardenError};
pub use survivors::{Survivors, SurvivorsError, forget, survivors};
