//! Whole-system tests: the real `keepd`, real services, a real kernel.
//!
//! This library is empty. The tests are in `tests/system/`, one file for each area of behaviour,
//! and in `tests/daemonproxy/`, for the program under that name; what they share is in
//! `keepd-testkit`. A rule that a pure crate can show is tested there and not here: these tests
//! prove that the parts fit, and what only a kernel can say.
//!
//! `cargo build --package keepd-cli` comes before `cargo test --package keepd-e2e`; `cargo xtask
//! e2e` does both.
