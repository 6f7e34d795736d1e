//! The small program for containers: the init of one command, or the proxy as a program of its own.
//!
//! It contains nothing but the choice between the two: start from [`keepd_proxy::init`] and
//! [`keepd_proxy::run()`].

use std::process::ExitCode;

use keepd_proxy::init;

/// The system's allocator, until the proxy takes all its memory at the start.
#[global_allocator]
static HEAP: keepd_os::heap::Heap = keepd_os::heap::Heap;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|word| word == "--") {
        return init::run(arguments).into();
    }
    keepd_proxy::run("keepd-init", arguments).into()
}
