//! `keepd-bench`: the guard, and in a process below it the measurements.
//!
//! Nothing is measured here. Start from [`keepd_bench::guard::run`], which ends what a run leaves,
//! and [`keepd_bench::bench::run`], the order of the measurements.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) if word == keepd_bench::guard::WORKER_WORD => {
            keepd_bench::bench::run(rest)
        }
        Some(_) | None => keepd_bench::guard::run(&arguments),
    }
}
