//! A proxy that is its own warden's, from its command line to its end.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use keepd_testkit::{Running, Scratch};

/// Starts the program with these words; its run folder is `run` in this one.
fn start(folder: &Path, words: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepd-init"));
    command.args(["--warden", "--run-dir", "run"]).args(words);
    command.current_dir(folder).stdin(Stdio::null());
    Running::start(&mut command)
}

fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("rescue");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn the_rescue_program_takes_the_place_of_a_start_that_fails() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let rescue = script(folder, "echo $$ $DAEMONPROXY_EXITCODE $DAEMONPROXY_ERROR > out; exit 7");
    let exec = format!("/bin/sh\t{rescue}");
    let failing = start(folder, &["--socket", "no/such/folder/sock", "--exit-exec", &exec]);
    let pid = failing.pid();
    let ended = failing.wait().expect_code(7);
    assert!(ended.stderr.contains("cannot listen at \"no/such/folder/sock\""), "{}", ended.stderr);
    let out = fs::read_to_string(folder.join("out")).unwrap();
    assert_eq!(out, format!("{pid} 3 the proxy could not start (exit 3)\n"), "the same process");

    // Without one it ends as the proxy did.
    let failing = start(folder, &["--socket", "no/such/folder/sock"]);
    let ended = failing.wait().expect_code(3);
    assert!(ended.stderr.contains("the proxy could not start (exit 3)"), "{}", ended.stderr);
}

#[test]
fn a_ledger_that_cannot_be_read_is_not_touched() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let ledger = folder.join("run/ledger");
    fs::create_dir(folder.join("run")).unwrap();
    fs::write(&ledger, "something else").unwrap();
    let rescue = script(folder, "echo $DAEMONPROXY_EXITCODE > out; exit 7");
    let exec = format!("/bin/sh\t{rescue}");
    let words = ["--socket", "sock", "--exit-exec", &exec];
    let ended = start(folder, &words[..2]).wait().expect_code(3);
    let said = "cannot say what a lost keepd left running: ";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("nothing was touched\nhint: end what it left"),
        "{}",
        ended.stderr
    );
    start(folder, &words).wait().expect_code(7);
    assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), "3\n");
    assert_eq!(fs::read(&ledger).unwrap(), b"something else");
    // One that is not there is no obstacle.
    fs::remove_file(&ledger).unwrap();
    fs::write(folder.join("config"), "terminate\t5\n").unwrap();
    start(folder, &["--config", "config"]).wait().expect_code(5);
}
