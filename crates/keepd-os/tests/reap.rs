//! Looking at an end before it is gone. One test, because it sees all children of the process.

mod support;

use keepd_model::{Errno, Exit, Signal};
use keepd_os::{process, reap, signals};
use support::{Start, await_end};

#[test]
fn an_end_is_seen_until_it_is_consumed() {
    assert_eq!(reap::peek(), Ok(None), "no children");

    let running = Start::shell("exec sleep 1000").start();
    assert_eq!(reap::peek(), Ok(None), "none has ended");
    signals::send(running.pid(), Signal::KILL).unwrap();
    await_end(running.pid());
    let killed = Exit::Signal { signal: Signal::KILL, core: false };
    assert_eq!(reap::peek(), Ok(Some((running.pid(), killed))));
    assert_eq!(reap::peek(), Ok(Some((running.pid(), killed))), "still there");
    assert_eq!(reap::consume(running.pid()), Ok(()));
    assert_eq!(reap::peek(), Ok(None));
    assert_eq!(reap::consume(running.pid()), Err(Errno(10)), "no child any more");

    // An orphan comes to the subreaper, with its status.
    process::become_subreaper().unwrap();
    let parent = Start::shell("sh -c 'exit 42' & exec sh -c 'exit 7'").start();
    let mut found = Vec::new();
    while found.len() < 2 {
        match reap::peek().unwrap() {
            Some((pid, exit)) => {
                reap::consume(pid).unwrap();
                found.push((pid == parent.pid(), exit));
            }
            None => await_any_child(),
        }
    }
    found.sort_by_key(|(main, _)| *main);
    assert_eq!(found, [(false, Exit::Code(42)), (true, Exit::Code(7))]);
}

/// Blocks in waitid(2) itself: the test program's deadline is the harness's.
fn await_any_child() {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let _ = waitid(WaitId::All, options).unwrap();
}
