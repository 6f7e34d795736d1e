//! What can be set, and where it comes from: defaults, a file, drop-ins, the environment, and what
//! the program says in code, from the weakest to the strongest.
//!
//! Start from [`Config`] and [`ConfigBuilder`] for a configuration that is written in code, and
//! from [`ConfigLoader`] for one that is loaded.

mod builder;
mod environment;
mod files;
#[cfg(feature = "serde_json")]
mod json_file;
mod keys;
mod live;
mod load;
mod origin;
mod paths;
#[cfg(feature = "figment")]
mod provider;
mod report;
mod text;
#[cfg(feature = "toml")]
mod toml_file;
mod tree;
mod types;
mod validate;
#[cfg(feature = "config-watch")]
mod watch;

pub use builder::ConfigBuilder;
pub use live::LiveConfig;
pub use load::{ConfigLoader, Differences, UnknownKeys};
pub use origin::{Origin, Origins};
pub use types::{
    Config, LogConfig, LogLevel, LogRotation, LogTarget, MonitoringConfig, PerformanceConfig,
    RestartConfig, RestartWhen, ShutdownConfig,
};
#[cfg(feature = "config-watch")]
pub use watch::ConfigWatcher;
