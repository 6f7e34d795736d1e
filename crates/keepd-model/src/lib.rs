//! The words of keepd. Every other crate speaks them; this one knows none of the others.
//!
//! It contains names, numbers with a meaning ([`Instant`], [`Generation`], [`Pid`]), the states and
//! reasons that people see, what a service is ([`ServiceSpec`], [`Plan`]), the restart arithmetic
//! ([`backoff`]) and the words of the proxy protocol ([`protocol`]). It contains no decision about
//! a running service, no clock, no file, no socket, no thread and no environment: it is standard
//! library only and pure.
//!
//! Start from [`ServiceSpec`] (what somebody wants) and [`protocol::Request`] (what is asked of the
//! proxy).

pub mod backoff;
mod exit;
mod handle;
mod log_level;
mod name;
mod nearest;
mod number;
pub mod protocol;
mod selector;
mod signal;
mod spec;
mod state;
mod template;

pub use exit::{Errno, Exit, SpawnFailure, SpawnStep};
pub use handle::{
    Address, Domain, FdSlot, HANDLE_NAME_BYTES_MAX, HandleKind, HandleName, HandleNameError,
    HandleReport, OpenFlags, PipeEnd, PipeSpec, SocketSpec, SocketType,
};
pub use log_level::LogLevel;
pub use name::{NameError, SERVICE_NAME_BYTES_MAX, ServiceName};
pub use nearest::nearest;
pub use number::{ChangeId, ExitCode, Generation, Instant, Pid};
pub use selector::is_pattern;
pub use signal::{Signal, SignalError};
pub use spec::{
    Apply, CommandLine, Difference, Echo, Edge, EnvFile, EnvInherit, ExitWhen, ExpectedEnd,
    HttpProbe, KillMode, Kind, LogMode, LogSpec, ManagerSpec, OnStop, Origin, Origins, Plan, Probe,
    ReadySpec, Reload, RestartLimit, RestartPolicy, ServiceSpec, ShutdownOn, StderrMode, StopSpec,
    TcpProbe, Until,
};
pub use state::{Health, Reason, State, Wanted};
pub use template::{Template, TemplateError};
