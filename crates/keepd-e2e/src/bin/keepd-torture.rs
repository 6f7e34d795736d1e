//! `cargo xtask torture`: [`keepd_testkit::torture::command`] as a program.
//!
//! It is here and not in `keepd-testkit`, because tests of this package need it, too: it is also
//! the tracer that kills at system calls.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepd_testkit::torture::command::run()
}
