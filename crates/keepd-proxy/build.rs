//! What `--version` says of this build: when, and from which commit.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    // Reproducible builds say when they were "made" (reproducible-builds.org).
    let seconds = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = seconds
        .or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|now| now.as_secs()))
        .unwrap_or(0);
    println!("cargo::rustc-env=KEEPD_BUILD_SECONDS={seconds}");
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output().ok();
    let commit = commit
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|text| text.trim().to_owned());
    // A source archive has no repository.
    let commit = commit.unwrap_or_else(|| "0".repeat(40));
    println!("cargo::rustc-env=KEEPD_BUILD_COMMIT={commit}");
}
