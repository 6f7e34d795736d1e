//! SIGKILL at the system calls of one process, one after the other. The walks that take longest are
//! left to `cargo xtask torture --every-call`, or go in larger steps here.

use std::path::Path;

use keepd_testkit::skip;
use keepd_testkit::torture::{Episode, Victim, Walk, Whose, tracer};

/// Takes a walk in steps of so many calls, and checks that nothing was lost.
#[track_caller]
fn take(episode: Episode, traced: Victim, whose: Whose, stride: u64) {
    let program = Path::new(env!("CARGO_BIN_EXE_keepd-torture"));
    if let Err(why) = tracer::check(program) {
        skip(&format!("kills at system calls: {why}"));
        return;
    }
    let walk = Walk { episode, traced, whose };
    let walked = walk.take(program, 1, stride, |_| {});
    assert!(walked.findings.is_empty(), "{walk}: {walked:#?}");
    assert!(walked.killed > 0, "{walk}: nobody was killed");
}

#[test]
fn a_start_is_cut_at_every_call_of_the_child() {
    take(Episode::Spawn, Victim::Proxy, Whose::Child, 1);
}

#[test]
fn a_restart_is_cut_at_every_call_of_the_child() {
    take(Episode::Reap, Victim::Proxy, Whose::Child, 1);
}

#[test]
fn a_start_is_cut_at_every_call_of_the_proxy() {
    take(Episode::Spawn, Victim::Proxy, Whose::Own, 1);
}

#[test]
fn an_end_is_cut_at_every_call_of_the_proxy() {
    take(Episode::Reap, Victim::Proxy, Whose::Own, 1);
}

#[test]
fn an_end_of_an_adopted_service_is_cut_at_calls_of_the_warden() {
    take(Episode::ReapAdopted, Victim::Warden, Whose::Own, 5);
}

#[test]
fn a_stop_is_cut_at_calls_of_the_proxy() {
    take(Episode::Stop, Victim::Proxy, Whose::Own, 5);
}

#[test]
fn an_adoption_is_cut_at_calls_of_the_new_proxy() {
    take(Episode::ProxyLost, Victim::Warden, Whose::Successor, 25);
}
