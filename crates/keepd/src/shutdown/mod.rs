//! Asking every task to end: who asks ([`ShutdownCoordinator`]), who is asked ([`ShutdownHandle`]),
//! and why ([`ShutdownReason`]).
//!
//! One atomic word says whether and why; a table says who takes part and who waits. Nothing here
//! aborts anything: that is done by the managers of [`subsystem`](mod@crate::subsystem).

pub(crate) mod clock;
mod coordinator;
mod handle;
#[cfg(all(test, keepd_loom))]
mod loom_models;
mod quit;
mod reason;
mod slots;
mod stats;
mod word;

pub use coordinator::ShutdownCoordinator;
pub use handle::ShutdownHandle;
pub use quit::Quit;
pub use reason::ShutdownReason;
#[cfg(feature = "tokio")]
pub(crate) use slots::Key;
pub use stats::ShutdownStats;
