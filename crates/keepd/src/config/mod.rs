//! What can be set, and where it comes from: defaults, a file, drop-ins, the environment, and what
//! the program says in code, from the weakest to the strongest.
//!
//! Start from [`Config`] and [`ConfigBuilder`] for a configuration that is written in code.

mod builder;
mod paths;
mod text;
mod types;
mod validate;

pub use builder::ConfigBuilder;
pub use types::{
    Config, LogConfig, LogLevel, LogRotation, LogTarget, MonitoringConfig, PerformanceConfig,
    RestartConfig, RestartWhen, ShutdownConfig,
};
