//! Changes of the configuration file, as a running daemon hears of them.

#![cfg(all(feature = "config-watch", feature = "toml"))]

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use keepd::Config;
use keepd::config::{ConfigLoader, ConfigWatcher, LiveConfig};
use keepd_testkit::Scratch;

/// Longer than any event takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);

fn watch(scratch: &Scratch) -> (ConfigWatcher, Receiver<keepd::Result<Config>>) {
    let (sender, receiver) = channel();
    let path = scratch.path().join("daemon.toml");
    let watcher = Config::watch_file(path, move |result| drop(sender.send(result))).unwrap();
    (watcher, receiver)
}

#[test]
fn a_file_that_appears_is_loaded() {
    let scratch = Scratch::new();
    let (_watcher, changes) = watch(&scratch);
    scratch.write("daemon.toml", "name = \"new\"\n");
    assert_eq!(changes.recv_timeout(DEADLINE).unwrap().unwrap().name, "new");
}

#[test]
fn a_file_that_is_replaced_by_renaming_is_loaded_every_time() {
    let scratch = Scratch::new();
    scratch.write("daemon.toml", "name = \"first\"\n");
    let (_watcher, changes) = watch(&scratch);
    for name in ["second", "third", "fourth"] {
        let temporary = scratch.write(".daemon.toml.swp", &format!("name = \"{name}\"\n"));
        std::fs::rename(temporary, scratch.path().join("daemon.toml")).unwrap();
        assert_eq!(changes.recv_timeout(DEADLINE).unwrap().unwrap().name, name);
    }
}

#[test]
fn an_invalid_file_never_gets_in_force() {
    let scratch = Scratch::new();
    scratch.write("daemon.toml", "name = \"good\"\n");
    let (_watcher, changes) = watch(&scratch);
    let live = LiveConfig::new(Config { name: "good".to_owned(), ..Config::default() });
    scratch.write("daemon.toml", "name = \"bad\"\n[shutdown]\ngraceful = 0\n");
    let error = changes.recv_timeout(DEADLINE).unwrap().unwrap_err();
    assert!(error.to_string().contains("Shutdown timeout must be greater than 0"), "{error}");
    assert_eq!(live.snapshot().name, "good");
    scratch.write("daemon.toml", "name = \"better\"\nwork_dir = \"/nonexistent\"\n");
    let error = changes.recv_timeout(DEADLINE).unwrap().unwrap_err();
    assert!(error.to_string().contains("Working directory does not exist"), "{error}");
    scratch.write("daemon.toml", "name = \"better\"\n");
    let config = changes.recv_timeout(DEADLINE).unwrap().unwrap();
    assert_eq!(live.replace(config).unwrap().after_restart, ["name"]);
    assert_eq!(live.snapshot().name, "better");
}

#[test]
fn other_files_and_the_same_bytes_are_no_change() {
    let scratch = Scratch::new();
    scratch.write("daemon.toml", "name = \"same\"\n");
    let (_watcher, changes) = watch(&scratch);
    scratch.write("web.log", "a line\n");
    scratch.write("daemon.toml", "name = \"same\"\n");
    scratch.write("daemon.toml", "name = \"other\"\n");
    // Whatever the events were, the first thing that is heard of is the other name.
    assert_eq!(changes.recv_timeout(DEADLINE).unwrap().unwrap().name, "other");
}

#[test]
fn what_the_program_said_survives_a_reload() {
    let scratch = Scratch::new();
    scratch.write("daemon.toml", "");
    let (sender, changes) = channel();
    let loader = ConfigLoader::new()
        .file(scratch.path().join("daemon.toml"))
        .variables([("DAEMON_SHUTDOWN_GRACEFUL", "4s")])
        .set("name", "from-code");
    let _watcher = loader.watch(move |result| drop(sender.send(result))).unwrap();
    scratch.write("daemon.toml", "name = \"file\"\nhot_reload = true\n");
    let config = changes.recv_timeout(DEADLINE).unwrap().unwrap();
    assert!(config.hot_reload);
    assert_eq!((config.name.as_str(), config.shutdown.graceful), ("from-code", 4000));
}

#[test]
fn dropping_the_watcher_ends_its_thread() {
    let scratch = Scratch::new();
    let (watcher, changes) = watch(&scratch);
    drop(watcher);
    // The thread owned the callback, which owned the sender.
    assert_eq!(changes.recv_timeout(DEADLINE).unwrap_err(), RecvTimeoutError::Disconnected);
}

#[test]
fn a_folder_that_does_not_exist_cannot_be_watched() {
    let error = Config::watch_file("/nonexistent/daemon.toml", |_| {}).unwrap_err();
    assert!(error.to_string().contains("cannot watch \"/nonexistent\""), "{error}");
}
