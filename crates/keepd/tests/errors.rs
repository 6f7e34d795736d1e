//! Errors: what programs match on and operators search for.

use std::error::Error as _;

use keepd::{Error, ErrorCode};

#[test]
fn every_constructor_has_its_code_head_and_category() {
    let other = || std::io::Error::other("the cause");
    let cases = [
        (Error::config("m"), "Configuration error [CONFIG_INVALID(1000)]: m", "config"),
        (Error::signal("m"), "Signal handling error [SIGNAL_INVALID(2002)]: m", "signal"),
        (
            Error::signal_with_number("m", 15),
            "Signal handling error [SIGNAL_INVALID(2002)]: m (signal 15)",
            "signal",
        ),
        (Error::shutdown("m"), "Shutdown error [SHUTDOWN_FAILED(3002)]: m", "shutdown"),
        (
            Error::shutdown_timeout("m", 5),
            "Shutdown error [SHUTDOWN_TIMEOUT(3000)]: m (timeout 5ms)",
            "shutdown",
        ),
        (
            Error::subsystem("web", "m"),
            "Subsystem 'web' error [SUBSYSTEM_NOT_FOUND(4002)]: m",
            "subsystem",
        ),
        (Error::io("m"), "I/O error [IO_ERROR(5000)]: m", "io"),
        (Error::io_with_source("m", other()), "I/O error [IO_ERROR(5000)]: m", "io"),
        (Error::runtime("m"), "Runtime error [RUNTIME_PANIC(6000)]: m", "runtime"),
        (
            Error::runtime_with_source("m", other()),
            "Runtime error [RUNTIME_PANIC(6000)]: m",
            "runtime",
        ),
        (
            Error::resource_exhausted("memory", "m"),
            "Resource exhausted [RESOURCE_EXHAUSTED_MEMORY(7000)]: memory - m",
            "resource",
        ),
        (
            Error::timeout("connect", 9),
            "Operation timed out [TIMEOUT_OPERATION(8000)] after 9ms: connect",
            "timeout",
        ),
        (Error::invalid_state("m"), "Invalid state [INVALID_STATE_VALUE(9001)]: m", "state"),
        (
            Error::invalid_state_with_current("m", "Running"),
            "Invalid state [INVALID_STATE_TRANSITION(9000)]: m (state Running)",
            "state",
        ),
        (
            Error::platform("m", "plan9"),
            "Platform error [PLATFORM_NOT_SUPPORTED(10000)]: m (platform: plan9)",
            "platform",
        ),
    ];
    for (error, text, category) in cases {
        assert_eq!(error.to_string(), text);
        assert_eq!(error.category(), category);
        assert_eq!(error.exit_code(), if error.is_config_error() { 100 } else { 111 });
    }
}

#[test]
fn numbers_and_words_are_never_given_twice() {
    for (index, code) in ErrorCode::ALL.iter().enumerate() {
        for other in &ErrorCode::ALL[..index] {
            assert!(other.number() < code.number(), "{other} stands before {code}");
            assert_ne!(other.as_str(), code.as_str());
        }
    }
    assert_eq!(ErrorCode::PlatformFeatureNotAvailable.number(), 10001);
    assert_eq!(ErrorCode::WaitTimeout.number(), 11005);
    assert_eq!(ErrorCode::SandboxFailed.number(), 12001);
    assert_eq!(ErrorCode::Unknown.to_string(), "UNKNOWN(99999)");
}

#[test]
fn an_error_travels_between_threads_and_keeps_its_cause() {
    fn travels<T: Send + Sync + 'static>(_: &T) {}
    let error = Error::timeout_with_source("read", 1, std::io::Error::other("the cause"));
    travels(&error);
    assert_eq!(error.source().unwrap().to_string(), "the cause");
    assert!(error.source().unwrap().downcast_ref::<std::io::Error>().is_some());
    assert!(Error::io("m").source().is_none());
}

#[test]
fn the_system_says_which_code_it_is() {
    use std::io::ErrorKind;

    let code = |kind: ErrorKind| Error::from(std::io::Error::from(kind)).code();
    assert_eq!(code(ErrorKind::NotFound), ErrorCode::FileNotFound);
    assert_eq!(code(ErrorKind::PermissionDenied), ErrorCode::FilePermissionDenied);
    assert_eq!(code(ErrorKind::BrokenPipe), ErrorCode::IoError);
}

#[cfg(feature = "serde")]
#[test]
fn an_error_is_serialized_without_its_cause() {
    let error = Error::io_with_source("m", std::io::Error::other("the cause"));
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(json, r#"{"Io":{"code":"IoError","message":"m"}}"#);
}

#[cfg(feature = "toml")]
#[test]
fn a_syntax_error_of_toml_is_a_parse_error() {
    let error = Error::from(toml::from_str::<keepd::Config>("name = ").unwrap_err());
    assert_eq!(error.code(), ErrorCode::ConfigParse);
    assert!(error.source().is_some());
}

#[test]
fn a_program_ends_with_the_code_of_its_error() {
    use std::process::ExitCode;

    let shown = |code: ExitCode| format!("{code:?}");
    assert_eq!(shown(Error::exit(Ok(()))), shown(ExitCode::SUCCESS));
    assert_eq!(shown(Error::exit(Err(Error::config("no port")))), shown(ExitCode::from(100)));
    assert_eq!(shown(Error::exit(Err(Error::io("no disk")))), shown(ExitCode::from(111)));
    let error = Error::io_with_source("busy", std::io::Error::from_raw_os_error(16));
    let error = error.with_exit_code(75);
    assert_eq!(shown(Error::exit(Err(error))), shown(ExitCode::from(75)));
    // The cause is still there, and the variant and its text are what they were.
    let error = Error::io_with_source("busy", std::io::Error::from_raw_os_error(16));
    let text = error.to_string();
    let error = error.with_exit_code(75);
    assert_eq!(error.to_string(), text);
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    let system = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    assert_eq!(system.and_then(std::io::Error::raw_os_error), Some(16));
}
