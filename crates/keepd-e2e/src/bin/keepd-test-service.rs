//! The service that the tests run: [`keepd_testkit::test_service`] as a program.
//!
//! It is here and not in `keepd-testkit`, because cargo builds programs only for tests of their own
//! package.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepd_testkit::test_service::run()
}
