//! The log of a process. One test, because a process has one log.

use keepd::{Config, LogLevel, logging};
use keepd_testkit::Scratch;

#[test]
fn a_file_is_written_replaced_and_changed_while_the_daemon_runs() {
    let scratch = Scratch::new();
    let path = scratch.path().join("web.log");
    let mut config = Config::default();
    config.logging.file = Some("web.log".into());
    config.work_dir = Some(scratch.path().to_owned());
    let log = logging::init(&config).unwrap();
    assert!(log.is_own());

    tracing::info!(answer = 42, "first");
    tracing::debug!("below the level");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (0..100).for_each(|line| tracing::info!(thread, line, "many")));
        }
    });
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 401);
    assert!(text.lines().next().unwrap().ends_with("first answer=42"), "{text}");
    assert!(!text.contains("below the level") && !text.contains('\x1b'), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("many")).count(), 400);

    std::fs::rename(&path, scratch.path().join("web.log.old")).unwrap();
    log.reopen().unwrap();
    tracing::info!("after reopening");
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);

    config.logging.level = LogLevel::Debug;
    config.logging.file = Some("other.log".into());
    log.apply(&config).unwrap();
    tracing::debug!("now above the level");
    let other = std::fs::read_to_string(scratch.path().join("other.log")).unwrap();
    // Who runs the tests with RUST_LOG has decided the level.
    if std::env::var_os("RUST_LOG").is_none() {
        assert!(other.contains("now above the level"), "{other}");
    }

    config.logging.file = Some("no-such-folder/x.log".into());
    assert!(log.apply(&config).is_err());
    tracing::error!("still there");
    let other = std::fs::read_to_string(scratch.path().join("other.log")).unwrap();
    assert!(other.contains("still there"), "{other}");

    // A second one finds a subscriber, leaves it alone, and opens nothing.
    assert!(!logging::init(&config).unwrap().is_own());
}
