//! Subsystems: what runs ([`Subsystem`]), what follows when it ends ([`RestartPolicy`]), and who
//! sees to that ([`SubsystemManager`]).
//!
//! Every decision is in a pure machine; one task per manager wakes for its timers. There is no task
//! per subsystem besides the subsystem's own.

#[cfg(feature = "tokio")]
mod body;
#[cfg(feature = "tokio")]
mod events;
#[cfg(feature = "tokio")]
mod inner;
#[cfg(feature = "tokio")]
mod machine;
#[cfg(all(test, feature = "tokio"))]
mod machine_tests;
#[cfg(feature = "tokio")]
mod manager;
#[cfg(feature = "tokio")]
mod order;
#[cfg(feature = "tokio")]
mod slot;
mod types;
#[cfg(feature = "tokio")]
mod words;

#[cfg(feature = "tokio")]
pub(crate) use body::panic_text as body_panic_text;
#[cfg(feature = "tokio")]
pub use manager::SubsystemManager;
pub use types::{
    HealthCheck, RestartPolicy, Subsystem, SubsystemEvent, SubsystemFn, SubsystemFuture,
    SubsystemId, SubsystemMetadata, SubsystemState, SubsystemStats,
};
#[cfg(feature = "tokio")]
pub(crate) use words::Counts;
