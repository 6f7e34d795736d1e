//! Everything that can go wrong, as one type with stable codes.
//!
//! The variants, the codes and the beginning of each message are interface: programs match on them
//! and operators search for them. The rest of a message is for people.

use std::error::Error as StdError;
use std::fmt;

mod exit;

/// The result of everything that can fail in this crate.
///
/// ```
/// fn port(text: &str) -> keepd::Result<u16> {
///     text.parse().map_err(|_| keepd::Error::config(format!("{text:?} is no port")))
/// }
///
/// assert!(port("http").unwrap_err().is_config_error());
/// ```
pub type Result<T> = std::result::Result<T, Error>;

/// What a failure was caused by.
type Source = Box<dyn StdError + Send + Sync + 'static>;

macro_rules! error_codes {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)+) => {
        /// A stable number and word for one kind of failure.
        ///
        /// ```
        /// use keepd::ErrorCode;
        ///
        /// assert_eq!(ErrorCode::ConfigParse.to_string(), "CONFIG_PARSE(1001)");
        /// assert_eq!(ErrorCode::ConfigParse.as_str(), "CONFIG_PARSE");
        /// assert_eq!(ErrorCode::ConfigParse.number(), 1001);
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum ErrorCode {
            $($(#[$meta])* $name = $number,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the word, such as `CONFIG_INVALID`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

error_codes! {
    /// A value that breaks a rule, or a key that does not exist.
    ConfigInvalid = 1000, "CONFIG_INVALID";
    /// The text is not TOML (or JSON).
    ConfigParse = 1001, "CONFIG_PARSE";
    /// Something that must be configured is not.
    ConfigMissing = 1002, "CONFIG_MISSING";
    /// A value of another type than the key wants.
    ConfigTypeMismatch = 1003, "CONFIG_TYPE_MISMATCH";
    /// A handler for a signal could not be installed.
    SignalRegisterFailed = 2000, "SIGNAL_REGISTER_FAILED";
    /// A signal could not be sent.
    SignalSendFailed = 2001, "SIGNAL_SEND_FAILED";
    /// A number that is no signal, or one that cannot be handled.
    SignalInvalid = 2002, "SIGNAL_INVALID";
    /// Something was not finished when the time for the shutdown was over.
    ShutdownTimeout = 3000, "SHUTDOWN_TIMEOUT";
    /// Shutdown was asked for before.
    ShutdownAlreadyInProgress = 3001, "SHUTDOWN_ALREADY_IN_PROGRESS";
    /// The shutdown failed in another way.
    ShutdownFailed = 3002, "SHUTDOWN_FAILED";
    /// A subsystem could not be started.
    SubsystemStartFailed = 4000, "SUBSYSTEM_START_FAILED";
    /// A subsystem could not be stopped.
    SubsystemStopFailed = 4001, "SUBSYSTEM_STOP_FAILED";
    /// No subsystem has this number or name.
    SubsystemNotFound = 4002, "SUBSYSTEM_NOT_FOUND";
    /// A subsystem of this name exists.
    SubsystemAlreadyRegistered = 4003, "SUBSYSTEM_ALREADY_REGISTERED";
    /// The subsystem is in a state in which this cannot be done.
    SubsystemStateInvalid = 4004, "SUBSYSTEM_STATE_INVALID";
    /// Reading or writing failed.
    IoError = 5000, "IO_ERROR";
    /// A file does not exist.
    FileNotFound = 5001, "FILE_NOT_FOUND";
    /// The rights for a file are missing.
    FilePermissionDenied = 5002, "FILE_PERMISSION_DENIED";
    /// Code panicked, or failed in a way that has no other code.
    RuntimePanic = 6000, "RUNTIME_PANIC";
    /// The async runtime failed.
    RuntimeAsyncError = 6001, "RUNTIME_ASYNC_ERROR";
    /// A lock is held by somebody else.
    LockFailed = 6002, "LOCK_FAILED";
    /// A task or thread could not be started.
    RuntimeSpawnError = 6003, "RUNTIME_SPAWN_ERROR";
    /// There is no async runtime where one is needed.
    MissingRuntime = 6004, "MISSING_RUNTIME";
    /// No memory is left.
    ResourceExhaustedMemory = 7000, "RESOURCE_EXHAUSTED_MEMORY";
    /// No processor time is left.
    ResourceExhaustedCpu = 7001, "RESOURCE_EXHAUSTED_CPU";
    /// No file descriptor is left.
    ResourceExhaustedFileDescriptors = 7002, "RESOURCE_EXHAUSTED_FILE_DESCRIPTORS";
    /// An operation took longer than it may.
    TimeoutOperation = 8000, "TIMEOUT_OPERATION";
    /// A connection took longer than it may.
    TimeoutConnection = 8001, "TIMEOUT_CONNECTION";
    /// A change from one state to another that is not allowed.
    InvalidStateTransition = 9000, "INVALID_STATE_TRANSITION";
    /// A state in which this cannot be done.
    InvalidStateValue = 9001, "INVALID_STATE_VALUE";
    /// This platform does not have it.
    PlatformNotSupported = 10000, "PLATFORM_NOT_SUPPORTED";
    /// The platform has it, this build or this kernel does not.
    PlatformFeatureNotAvailable = 10001, "PLATFORM_FEATURE_NOT_AVAILABLE";
    /// The process has threads, so code of it cannot run after fork.
    ForkUnsafe = 11000, "FORK_UNSAFE";
    /// No entry of this name is registered.
    TargetNotRegistered = 11001, "TARGET_NOT_REGISTERED";
    /// A target that cannot travel to another process.
    TargetNotPortable = 11002, "TARGET_NOT_PORTABLE";
    /// Another instance runs.
    AlreadyRunning = 11003, "ALREADY_RUNNING";
    /// A process ended before it was ready.
    ExitedEarly = 11004, "EXITED_EARLY";
    /// What was waited for did not come true in time.
    WaitTimeout = 11005, "WAIT_TIMEOUT";
    /// Rights could not be given up as asked.
    PrivilegeDropFailed = 12000, "PRIVILEGE_DROP_FAILED";
    /// The sandbox could not be set up as asked.
    SandboxFailed = 12001, "SANDBOX_FAILED";
    /// Nothing else fits.
    Unknown = 99999, "UNKNOWN";
}

impl ErrorCode {
    /// Returns the number, such as 1000.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.as_str(), self.number())
    }
}

/// Every failure of this crate.
///
/// The enum is exhaustive and does not grow: what is new gets a new [`ErrorCode`].
///
/// ```
/// use keepd::{Error, ErrorCode};
///
/// let error = Error::subsystem("web", "the port is taken");
/// assert_eq!(
///     error.to_string(),
///     "Subsystem 'web' error [SUBSYSTEM_NOT_FOUND(4002)]: the port is taken"
/// );
/// assert_eq!(error.category(), "subsystem");
/// assert!(matches!(error, Error::Subsystem { code: ErrorCode::SubsystemNotFound, .. }));
/// ```
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Error {
    /// The configuration cannot be read or breaks a rule.
    #[doc(alias = "ConfigError")]
    Config {
        /// The kind.
        code: ErrorCode,
        /// What is wrong, for people.
        message: String,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// A signal cannot be handled or sent.
    Signal {
        /// The kind.
        code: ErrorCode,
        /// What is wrong, for people.
        message: String,
        /// The number of the signal, where one is meant.
        signal: Option<i32>,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// The shutdown did not go as it should.
    #[doc(alias = "ShutdownError")]
    Shutdown {
        /// The kind.
        code: ErrorCode,
        /// What is wrong, for people.
        message: String,
        /// The time that was not enough, in milliseconds.
        timeout_ms: Option<u64>,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// A subsystem failed.
    #[doc(alias = "SubsystemError")]
    Subsystem {
        /// The kind.
        code: ErrorCode,
        /// The name of the subsystem.
        name: String,
        /// What is wrong, for people.
        message: String,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// Reading or writing failed.
    #[doc(alias = "IoError")]
    Io {
        /// The kind.
        code: ErrorCode,
        /// What is wrong, for people.
        message: String,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// Something is used up.
    ResourceExhausted {
        /// The kind.
        code: ErrorCode,
        /// What is used up.
        resource: String,
        /// What is wrong, for people.
        message: String,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// Something took too long.
    Timeout {
        /// The kind.
        code: ErrorCode,
        /// What took too long.
        operation: String,
        /// The time that was not enough, in milliseconds.
        timeout_ms: u64,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// Something is asked for that the present state does not allow.
    InvalidState {
        /// The kind.
        code: ErrorCode,
        /// What is wrong, for people.
        message: String,
        /// The present state, where it is known.
        current_state: Option<String>,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// The platform, the kernel or the build lacks something.
    #[doc(alias = "ProfilingError")]
    Platform {
        /// The kind.
        code: ErrorCode,
        /// What is wrong, for people.
        message: String,
        /// The platform.
        platform: String,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
    /// Everything else that can fail at run time.
    Runtime {
        /// The kind.
        code: ErrorCode,
        /// What is wrong, for people.
        message: String,
        /// What caused it.
        #[cfg_attr(feature = "serde", serde(skip))]
        source: Option<Source>,
    },
}

/// Constructors. Texts are taken as `&str` and as `String`.
impl Error {
    /// Returns a configuration error, [`ErrorCode::ConfigInvalid`].
    #[inline]
    pub fn config(message: impl Into<String>) -> Self {
        Self::config_with_code(ErrorCode::ConfigInvalid, message)
    }

    /// Returns a configuration error with a code.
    #[inline]
    pub fn config_with_code(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Config { code, message: message.into(), source: root() }
    }

    /// Returns a configuration error with a code and its cause.
    #[inline]
    pub fn config_with_source(
        code: ErrorCode,
        message: impl Into<String>,
        source: impl Into<Source>,
    ) -> Self {
        Self::Config { code, message: message.into(), source: caused(source) }
    }

    /// Returns a signal error, [`ErrorCode::SignalInvalid`].
    pub fn signal(message: impl Into<String>) -> Self {
        Self::signal_with_code(ErrorCode::SignalInvalid, message)
    }

    /// Returns an error about one signal, [`ErrorCode::SignalInvalid`].
    pub fn signal_with_number(message: impl Into<String>, signal: i32) -> Self {
        let code = ErrorCode::SignalInvalid;
        Self::Signal { code, message: message.into(), signal: Some(signal), source: root() }
    }

    /// Returns a signal error with a code.
    pub fn signal_with_code(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Signal { code, message: message.into(), signal: None, source: root() }
    }

    /// Returns a shutdown error, [`ErrorCode::ShutdownFailed`].
    pub fn shutdown(message: impl Into<String>) -> Self {
        Self::shutdown_with_code(ErrorCode::ShutdownFailed, message)
    }

    /// Returns a shutdown error with a code.
    pub fn shutdown_with_code(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Shutdown { code, message: message.into(), timeout_ms: None, source: root() }
    }

    /// Returns the error of a shutdown that took longer than `timeout_ms`,
    /// [`ErrorCode::ShutdownTimeout`].
    pub fn shutdown_timeout(message: impl Into<String>, timeout_ms: u64) -> Self {
        let code = ErrorCode::ShutdownTimeout;
        let timeout_ms = Some(timeout_ms);
        Self::Shutdown { code, message: message.into(), timeout_ms, source: root() }
    }

    /// Returns the error of a subsystem, [`ErrorCode::SubsystemNotFound`].
    pub fn subsystem(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::subsystem_with_code(ErrorCode::SubsystemNotFound, name, message)
    }

    /// Returns the error of a subsystem with a code.
    pub fn subsystem_with_code(
        code: ErrorCode,
        name: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::Subsystem { code, name: name.into(), message: message.into(), source: root() }
    }

    /// Returns an input or output error, [`ErrorCode::IoError`].
    #[inline]
    pub fn io(message: impl Into<String>) -> Self {
        Self::Io { code: ErrorCode::IoError, message: message.into(), source: root() }
    }

    /// Returns an input or output error with its cause, [`ErrorCode::IoError`].
    #[inline]
    pub fn io_with_source(message: impl Into<String>, source: impl Into<Source>) -> Self {
        let code = ErrorCode::IoError;
        Self::Io { code, message: message.into(), source: caused(source) }
    }

    /// Returns the error of something that is used up, [`ErrorCode::ResourceExhaustedMemory`].
    pub fn resource_exhausted(resource: impl Into<String>, message: impl Into<String>) -> Self {
        Self::resource_exhausted_with_code(ErrorCode::ResourceExhaustedMemory, resource, message)
    }

    /// Returns the error of something that is used up, with a code.
    pub fn resource_exhausted_with_code(
        code: ErrorCode,
        resource: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let (resource, message) = (resource.into(), message.into());
        Self::ResourceExhausted { code, resource, message, source: root() }
    }

    /// Returns the error of an operation that took longer than `timeout_ms`,
    /// [`ErrorCode::TimeoutOperation`].
    pub fn timeout(operation: impl Into<String>, timeout_ms: u64) -> Self {
        let code = ErrorCode::TimeoutOperation;
        Self::Timeout { code, operation: operation.into(), timeout_ms, source: root() }
    }

    /// Returns the error of an operation that took too long, with its cause.
    pub fn timeout_with_source(
        operation: impl Into<String>,
        timeout_ms: u64,
        source: impl Into<Source>,
    ) -> Self {
        let code = ErrorCode::TimeoutOperation;
        Self::Timeout { code, operation: operation.into(), timeout_ms, source: caused(source) }
    }

    /// Returns the error of a wrong state, [`ErrorCode::InvalidStateValue`].
    pub fn invalid_state(message: impl Into<String>) -> Self {
        Self::invalid_state_with_code(ErrorCode::InvalidStateValue, message)
    }

    /// Returns the error of a wrong state, with a code.
    pub fn invalid_state_with_code(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::InvalidState { code, message: message.into(), current_state: None, source: root() }
    }

    /// Returns the error of a wrong state that names the state,
    /// [`ErrorCode::InvalidStateTransition`].
    pub fn invalid_state_with_current(
        message: impl Into<String>,
        current_state: impl Into<String>,
    ) -> Self {
        let code = ErrorCode::InvalidStateTransition;
        let current_state = Some(current_state.into());
        Self::InvalidState { code, message: message.into(), current_state, source: root() }
    }

    /// Returns the error of something that a platform lacks, [`ErrorCode::PlatformNotSupported`].
    pub fn platform(message: impl Into<String>, platform: impl Into<String>) -> Self {
        Self::platform_with_code(ErrorCode::PlatformNotSupported, message, platform)
    }

    /// Returns the error of something that a platform lacks, with a code.
    pub fn platform_with_code(
        code: ErrorCode,
        message: impl Into<String>,
        platform: impl Into<String>,
    ) -> Self {
        let (message, platform) = (message.into(), platform.into());
        Self::Platform { code, message, platform, source: root() }
    }

    /// Returns a runtime error, [`ErrorCode::RuntimePanic`].
    #[inline]
    pub fn runtime(message: impl Into<String>) -> Self {
        Self::runtime_with_code(ErrorCode::RuntimePanic, message)
    }

    /// Returns a runtime error with a code.
    #[inline]
    pub fn runtime_with_code(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Runtime { code, message: message.into(), source: root() }
    }

    /// Returns a runtime error with its cause, [`ErrorCode::RuntimePanic`].
    pub fn runtime_with_source(message: impl Into<String>, source: impl Into<Source>) -> Self {
        let code = ErrorCode::RuntimePanic;
        Self::Runtime { code, message: message.into(), source: caused(source) }
    }
}

/// Questions.
impl Error {
    /// Returns the code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Config { code, .. }
            | Self::Signal { code, .. }
            | Self::Shutdown { code, .. }
            | Self::Subsystem { code, .. }
            | Self::Io { code, .. }
            | Self::ResourceExhausted { code, .. }
            | Self::Timeout { code, .. }
            | Self::InvalidState { code, .. }
            | Self::Platform { code, .. }
            | Self::Runtime { code, .. } => *code,
        }
    }

    /// Returns whether the same thing may succeed when it is tried again: input and output, the
    /// runtime, and what is used up.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Runtime { .. } | Self::ResourceExhausted { .. })
    }

    /// Returns whether something took too long.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// Returns whether the configuration is to blame.
    pub const fn is_config_error(&self) -> bool {
        matches!(self, Self::Config { .. })
    }

    /// Returns one word for the variant, for example as a label of a metric.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Config { .. } => "config",
            Self::Signal { .. } => "signal",
            Self::Shutdown { .. } => "shutdown",
            Self::Subsystem { .. } => "subsystem",
            Self::Io { .. } => "io",
            Self::ResourceExhausted { .. } => "resource",
            Self::Timeout { .. } => "timeout",
            Self::InvalidState { .. } => "state",
            Self::Platform { .. } => "platform",
            Self::Runtime { .. } => "runtime",
        }
    }

    const fn source_mut(&mut self) -> &mut Option<Source> {
        match self {
            Self::Config { source, .. }
            | Self::Signal { source, .. }
            | Self::Shutdown { source, .. }
            | Self::Subsystem { source, .. }
            | Self::Io { source, .. }
            | Self::ResourceExhausted { source, .. }
            | Self::Timeout { source, .. }
            | Self::InvalidState { source, .. }
            | Self::Platform { source, .. }
            | Self::Runtime { source, .. } => source,
        }
    }

    /// Returns where the error was made, if `RUST_BACKTRACE` asks for that.
    ///
    /// Errors that a program builds by hand, without a constructor, have none.
    #[cfg(feature = "backtrace")]
    pub fn backtrace(&self) -> Option<&std::backtrace::Backtrace> {
        let mut stored = self.stored_source()?;
        if let Some(exit::WithExitCode { cause, .. }) = stored.downcast_ref() {
            stored = cause.as_deref()?;
        }
        stored.downcast_ref::<traced::Traced>().map(traced::Traced::backtrace)
    }

    fn stored_source(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        match self {
            Self::Config { source, .. }
            | Self::Signal { source, .. }
            | Self::Shutdown { source, .. }
            | Self::Subsystem { source, .. }
            | Self::Io { source, .. }
            | Self::ResourceExhausted { source, .. }
            | Self::Timeout { source, .. }
            | Self::InvalidState { source, .. }
            | Self::Platform { source, .. }
            | Self::Runtime { source, .. } => source.as_deref(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { code, message, .. } => {
                write!(f, "Configuration error [{code}]: {message}")
            }
            Self::Signal { code, message, signal, .. } => {
                write!(f, "Signal handling error [{code}]: {message}")?;
                signal.map_or(Ok(()), |number| write!(f, " (signal {number})"))
            }
            Self::Shutdown { code, message, timeout_ms, .. } => {
                write!(f, "Shutdown error [{code}]: {message}")?;
                timeout_ms.map_or(Ok(()), |time| write!(f, " (timeout {time}ms)"))
            }
            Self::Subsystem { code, name, message, .. } => {
                write!(f, "Subsystem '{name}' error [{code}]: {message}")
            }
            Self::Io { code, message, .. } => write!(f, "I/O error [{code}]: {message}"),
            Self::ResourceExhausted { code, resource, message, .. } => {
                write!(f, "Resource exhausted [{code}]: {resource} - {message}")
            }
            Self::Timeout { code, operation, timeout_ms, .. } => {
                write!(f, "Operation timed out [{code}] after {timeout_ms}ms: {operation}")
            }
            Self::InvalidState { code, message, current_state, .. } => {
                write!(f, "Invalid state [{code}]: {message}")?;
                current_state.as_ref().map_or(Ok(()), |state| write!(f, " (state {state})"))
            }
            Self::Platform { code, message, platform, .. } => {
                write!(f, "Platform error [{code}]: {message} (platform: {platform})")
            }
            Self::Runtime { code, message, .. } => write!(f, "Runtime error [{code}]: {message}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let stored = self.stored_source()?;
        #[cfg(feature = "backtrace")]
        if let Some(traced) = stored.downcast_ref::<traced::Traced>() {
            return traced.cause();
        }
        Some(stored)
    }
}

/// The source of an error that nothing else caused.
#[inline]
fn root() -> Option<Source> {
    #[cfg(feature = "backtrace")]
    return traced::Traced::capture(None);
    #[cfg(not(feature = "backtrace"))]
    None
}

/// The source of an error that something else caused.
#[inline]
fn caused(source: impl Into<Source>) -> Option<Source> {
    #[cfg(feature = "backtrace")]
    return traced::Traced::capture(Some(source.into()));
    #[cfg(not(feature = "backtrace"))]
    Some(source.into())
}

/// A backtrace travels inside the source, because a field of its own would change the variants,
/// which programs build by hand, with a feature that another crate may have switched on.
#[cfg(feature = "backtrace")]
mod traced {
    use std::backtrace::{Backtrace, BacktraceStatus};
    use std::error::Error as StdError;
    use std::fmt;

    use super::Source;

    #[derive(Debug)]
    pub(super) struct Traced {
        cause: Option<Source>,
        backtrace: Backtrace,
    }

    impl Traced {
        /// Wraps the cause, unless `RUST_BACKTRACE` asks for nothing.
        pub(super) fn capture(cause: Option<Source>) -> Option<Source> {
            let backtrace = Backtrace::capture();
            if backtrace.status() != BacktraceStatus::Captured {
                return cause;
            }
            Some(Box::new(Self { cause, backtrace }))
        }

        pub(super) fn backtrace(&self) -> &Backtrace {
            &self.backtrace
        }

        pub(super) fn cause(&self) -> Option<&(dyn StdError + 'static)> {
            self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
        }
    }

    impl fmt::Display for Traced {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match &self.cause {
                Some(cause) => cause.fmt(f),
                None => f.write_str("made where the backtrace says"),
            }
        }
    }

    impl StdError for Traced {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.cause()
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io { code: io_code(&error), message: error.to_string(), source: caused(error) }
    }
}

/// Returns the code for an error of the operating system.
pub(crate) fn io_code(error: &std::io::Error) -> ErrorCode {
    match error.kind() {
        std::io::ErrorKind::NotFound => ErrorCode::FileNotFound,
        std::io::ErrorKind::PermissionDenied => ErrorCode::FilePermissionDenied,
        _ => ErrorCode::IoError,
    }
}

#[cfg(feature = "toml")]
impl From<toml::de::Error> for Error {
    fn from(error: toml::de::Error) -> Self {
        Self::config_with_source(ErrorCode::ConfigParse, error.to_string(), error)
    }
}

#[cfg(feature = "serde_json")]
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::config_with_source(ErrorCode::ConfigParse, error.to_string(), error)
    }
}

#[cfg(feature = "figment")]
impl From<figment::Error> for Error {
    fn from(error: figment::Error) -> Self {
        Self::config_with_source(ErrorCode::ConfigInvalid, error.to_string(), error)
    }
}
