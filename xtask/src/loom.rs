//! `cargo xtask loom`: the lock-free parts of the library, in every order of their threads.
//!
//! The models stand beside the code, in `loom_models`. They need the crate built with loom's locks
//! and atomic numbers in place of std's, so everything is built into a folder of its own.

use crate::outcome::{Failure, Verdict, no_arguments};
use crate::workspace::{self, cargo};

/// Without tokio: its own switch for loom has another name, and no model needs a runtime.
const TESTS: &str =
    "test --quiet --package keepd --lib --no-default-features --features metrics loom_models";

/// Runs the command.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    no_arguments("loom", arguments)?;
    let mut tests = cargo(TESTS);
    tests
        // The models use a part of the crate, and its other tests are left out.
        .env("RUSTFLAGS", "--cfg keepd_loom -Adead_code")
        .env("CARGO_TARGET_DIR", workspace::target()?.join("loom"))
        // Each model is searched whole; this only ends one that somebody made too large.
        .env("LOOM_MAX_BRANCHES", "10000");
    Ok(Verdict::from_good(workspace::run(&mut tests)?.success()))
}
