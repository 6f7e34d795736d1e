//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// Returns the `keepd` to test: the one named by KEEPD_BIN, else the one that cargo built beside
/// this test.
#[track_caller]
pub fn keepd_program() -> PathBuf {
    match std::env::var_os("KEEPD_BIN") {
        Some(path) => PathBuf::from(path),
        None => built("keepd", "cargo build --package keepd-cli"),
    }
}

/// Returns the `keepd-init` to test: the one named by KEEPD_INIT_BIN, else the one that cargo built
/// beside this test.
#[track_caller]
pub fn init_program() -> PathBuf {
    match std::env::var_os("KEEPD_INIT_BIN") {
        Some(path) => PathBuf::from(path),
        None => built("keepd-init", "cargo build --package keepd-proxy"),
    }
}

/// Returns the program that runs [`test_service::run`](crate::test_service::run).
#[track_caller]
pub fn test_service_program() -> PathBuf {
    built("keepd-test-service", "cargo build --package keepd-e2e")
}

/// Returns the program that runs [`torture::command::run`](crate::torture::command::run).
#[track_caller]
pub fn torture_program() -> PathBuf {
    built("keepd-torture", "cargo build --package keepd-e2e")
}

/// Returns the absolute path of a program in the places where Debian puts them, daemons too.
pub fn find_program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// Returns a program beside the folder `deps`, in which cargo puts tests.
#[track_caller]
fn built(name: &str, how: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("cannot find program \"{name}\": run `{how}` first"))
}
