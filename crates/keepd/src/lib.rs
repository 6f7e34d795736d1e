//! For programs that are daemons: tasks that are restarted, a shutdown that ends, configuration,
//! logs and numbers. It contains no supervisor; that is the program `keepd`, under which a daemon
//! made with this crate runs as well as alone.
//!
//! ```no_run
//! # #[cfg(feature = "tokio")]
//! #[tokio::main]
//! async fn main() -> keepd::Result<()> {
//!     let config = keepd::Config::builder().name("hello").build()?;
//!     keepd::Daemon::builder(config)
//!         .with_task("greeter", |mut shutdown| async move {
//!             println!("hello");
//!             shutdown.cancelled().await;
//!             Ok(())
//!         })
//!         .run()
//!         .await
//! }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! Start from [`Config`] (what can be set, and where it comes from), [`Subsystem`] (what runs) and
//! [`Error`] (everything that can go wrong); everything together is the module `daemon`. The page
//! `docs/library.md` of the repository goes from a first daemon to production,
//! `docs/migrating-from-proc-daemon.md` has what changes for programs of proc-daemon, and
//! `crates/keepd/examples` has a program for each part.
//!
//! A program that was written for proc-daemon 1.0 or 1.1 compiles against this crate under its old
//! name:
//!
//! ```
//! use keepd as proc_daemon;
//! use proc_daemon::{Config, LogLevel};
//!
//! # fn main() -> proc_daemon::Result<()> {
//! let config = Config::builder().name("web").log_level(LogLevel::Debug).build()?;
//! assert_eq!(config.name, "web");
//! # Ok(())
//! # }
//! ```

pub mod config;
pub mod coord;
#[cfg(feature = "tokio")]
pub mod daemon;
pub mod environment;
pub mod error;
#[cfg(feature = "ipc")]
pub mod ipc;
pub mod lock;
pub mod logging;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod notify;
pub mod pidfile;
pub mod pool;
pub mod prelude;
#[cfg(any(feature = "profiling", feature = "heap-profiling"))]
pub mod profiling;
pub mod resources;
pub mod restart;
#[cfg(feature = "scheduler-hints")]
pub mod scheduler;
pub mod shutdown;
pub mod signal;
#[cfg(feature = "process")]
pub mod sockets;
pub mod subsystem;
mod sync;
#[cfg(feature = "high-res-timing")]
pub mod timing;

mod macros;
// With the features that the pages use.
#[cfg(all(doctest, feature = "metrics", feature = "process", feature = "tokio", feature = "toml"))]
mod pages;

pub use config::{Config, ConfigBuilder, LogLevel};
#[cfg(feature = "tokio")]
pub use daemon::{Daemon, DaemonBuilder};
pub use environment::Environment;
pub use error::{Error, ErrorCode, Result};
pub use notify::Notifier;
pub use pool::{ObjectPool, PooledObject, PooledString, PooledVec, StringPool, VecPool};
pub use shutdown::{ShutdownCoordinator, ShutdownHandle, ShutdownReason};
pub use signal::SignalConfig;
#[cfg(feature = "tokio")]
pub use subsystem::SubsystemManager;
pub use subsystem::{RestartPolicy, Subsystem, SubsystemEvent, SubsystemId, SubsystemState};

/// The version of this crate.
///
/// ```
/// assert_eq!(keepd::VERSION.split('.').count(), 3);
/// ```
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long a graceful shutdown may take unless the configuration says otherwise, in milliseconds.
///
/// ```
/// let graceful = keepd::Config::default().shutdown.graceful;
/// assert_eq!(graceful, keepd::DEFAULT_SHUTDOWN_TIMEOUT_MS);
/// ```
pub const DEFAULT_SHUTDOWN_TIMEOUT_MS: u64 = 5000;

/// The configuration file that [`Config::load`] reads, in the current folder.
///
/// ```
/// assert_eq!(keepd::DEFAULT_CONFIG_FILE, "daemon.toml");
/// ```
pub const DEFAULT_CONFIG_FILE: &str = "daemon.toml";

/// What the macros of this crate expand to. Not for programs.
#[doc(hidden)]
pub mod hidden {
    #[cfg(feature = "tokio")]
    pub use crate::macros::repeat;
    #[cfg(feature = "heap-profiling")]
    pub use dhat;
    #[cfg(feature = "mimalloc")]
    pub use mimalloc;
}
