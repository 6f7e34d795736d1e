//! Memory of a whole proxy: with static pools nothing is asked of the system after the start, and
//! without them what it refuses is an error reply.
//!
//! A program of its own, with the allocator that `keepd` and `keepd-init` have. It is the proxy,
//! too, when its first word says so. With `--show` it tells how much of each region was needed; the
//! constants of `src/memory.rs` are from there.

mod fixture;
mod low;
mod sealed;
mod sizes;

use std::process::ExitCode;

use fixture::PROXY;

#[global_allocator]
static HEAP: keepd_os::heap::Heap = keepd_os::heap::Heap;

/// Everything that is shown here, by name.
const CASES: [(&str, fn()); 8] = [
    ("sealed: nothing is asked of the system", sealed::nothing_is_asked_of_the_system),
    ("sealed: connections wait for each other", sealed::connections_wait_for_each_other),
    ("sizes: pools are filled to the brim", sizes::pools_are_filled_to_the_brim),
    ("sizes: the largest pool is filled", sizes::the_largest_pool_is_filled),
    ("low: growth is refused and all else works", low::growth_is_refused_and_all_else_works),
    ("low: many clients cannot use up the reserve", low::many_clients_cannot_use_up_the_reserve),
    ("low: extended connections are refused too", low::extended_connections_are_refused_too),
    ("low: a long line is refused", low::a_long_line_is_refused),
];

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let first = words.next().unwrap_or_default();
    if first == PROXY {
        return keepd_proxy::run("daemonproxy", words).into();
    }
    // The words of the usual test runner: a part of the name, options.
    let wanted = first.into_string().unwrap().replace("--list", "");
    for (name, case) in CASES {
        if wanted.starts_with("--") || name.contains(&wanted) {
            case();
            println!("{name}: ok");
        }
    }
    ExitCode::SUCCESS
}
