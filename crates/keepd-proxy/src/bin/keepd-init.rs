//! The proxy as a program of its own, for containers and for controllers that need nothing else of
//! keepd.
//!
//! It contains nothing but the entry: start from [`keepd_proxy::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    keepd_proxy::run("keepd-init", std::env::args_os().skip(1)).into()
}
