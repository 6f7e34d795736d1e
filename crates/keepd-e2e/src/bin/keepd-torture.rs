//! `cargo xtask torture`: [`keepd_testkit::torture::command`] as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepd_testkit::torture::command::run()
}
