//! Groups: membership, emptiness through epoll, and ends that nobody escapes.

mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use keepd_model::{Errno, Exit, Signal};
use keepd_os::cgroup::{Group, read_populated};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::spawn::spawn;
use support::{DEADLINE, Start, TestGroup, end_of, null, read_until, standard};

const KILLED: Exit = Exit::Signal { signal: Signal::KILL, core: false };

#[test]
fn groups_are_made_listed_and_removed_with_those_below() {
    let Some(TestGroup(group)) = &TestGroup::new("tree") else {
        return;
    };
    let leaf = Group::create(group, "a").and_then(|a| Group::create(&a, "b")).unwrap();
    assert_eq!(leaf.path(), group.path().join("a/b"));
    assert_eq!(Group::create(group, "a").unwrap_err(), Errno(17));
    assert_eq!(Group::ensure(group, "a").unwrap().children().unwrap(), ["b"]);
    for bad in ["", ".", "..", "a/b", "a\0"] {
        assert_eq!(Group::create(group, bad).unwrap_err(), Errno::EINVAL, "{bad:?}");
    }
    let events = leaf.events().unwrap();
    Group::open(&group.path().join("a")).unwrap().remove().unwrap();
    assert!(group.children().unwrap().is_empty());
    // Everything can still be asked of a group that is gone.
    assert_eq!(leaf.pids(), Ok(vec![]));
    assert_eq!(leaf.is_populated(), Ok(false));
    assert_eq!(read_populated(events.as_fd()), Ok(false));
    assert_eq!(leaf.signal_all(Signal::TERM), Ok(0));
    assert_eq!((leaf.kill(), leaf.remove()), (Ok(()), Ok(())));
}

#[test]
fn fifty_grandchildren_with_sessions_of_their_own_die_with_their_group() {
    let Some(TestGroup(group)) = &TestGroup::new("fifty") else {
        return;
    };
    let script = "i=0; while [ $i -lt 50 ]; do setsid sh -c 'trap \"\" TERM; echo up; \
        while :; do sleep 1000; done' & i=$((i+1)); done; wait";
    let start = Start::shell(script);
    let (read, write) = rustix::pipe::pipe().unwrap();
    let null = null();
    let descriptors = standard([null.as_fd(), write.as_fd(), write.as_fd()]);
    let request = start.request(&descriptors, &[], Some(group));
    let main = spawn(&request).unwrap();
    read_until(&read, &"up\n".repeat(50));

    let events = group.events().unwrap();
    let epoll = Epoll::new().unwrap();
    epoll.add(&events, 7, Interest::PRIORITY).unwrap();
    assert_eq!(read_populated(events.as_fd()), Ok(true));
    let mut ready = Vec::new();
    epoll.wait(Some(Duration::ZERO), &mut ready).unwrap();
    assert!(ready.is_empty(), "reading rearms");

    assert!(group.pids().unwrap().len() > 50);
    assert!(group.signal_all(Signal::TERM).unwrap() > 50);
    assert_eq!(group.is_populated(), Ok(true), "they ignore TERM");
    assert_eq!(group.remove(), Err(Errno(16)), "they are still there");

    group.kill().unwrap();
    let end = Instant::now() + DEADLINE;
    while read_populated(events.as_fd()).unwrap() {
        let left = end.saturating_duration_since(Instant::now());
        epoll.wait(Some(left), &mut ready).unwrap();
        assert!(ready.iter().all(|ready| ready.token == 7 && ready.priority));
        assert!(!ready.is_empty(), "no event");
    }
    let exit = end_of(main.pid());
    assert!(exit == KILLED || matches!(exit, Exit::Signal { .. }), "{exit}");
    assert_eq!(group.pids(), Ok(vec![]));
}

#[test]
fn a_process_can_be_moved_and_is_counted() {
    let Some(TestGroup(group)) = &TestGroup::new("moved") else {
        return;
    };
    let child = Start::shell("while :; do :; done").start();
    group.add(child.pid()).unwrap();
    assert_eq!(group.pids(), Ok(vec![child.pid()]));
    let before = group.cpu_usage();
    assert_eq!(group.signal_all(Signal::KILL), Ok(1));
    assert_eq!(end_of(child.pid()), KILLED);
    assert_eq!(group.pids(), Ok(vec![]));
    match (before, group.cpu_usage()) {
        (Some(before), Some(after)) => assert!(after >= before),
        _ => eprintln!("SKIPPED: a_process_can_be_moved_and_is_counted: no cpu.stat"),
    }
}

#[test]
fn what_a_group_uses_includes_the_groups_below_it() {
    let Some(TestGroup(group)) = &TestGroup::new("usage") else {
        return;
    };
    let leaf = Group::create(group, "leaf").unwrap();
    assert_eq!(group.child_usage("leaf").unwrap().tasks, 0);
    let first = Start::shell("exec sleep 1000").start();
    leaf.add(first.pid()).unwrap();
    let one = group.child_usage("leaf").unwrap();
    assert!(one.tasks == 1 && one.memory_bytes > 0, "{one:?}");
    let inner = Group::create(&leaf, "inner").unwrap();
    let second = Start::shell("exec sleep 1000").start();
    inner.add(second.pid()).unwrap();
    let two = group.child_usage("leaf").unwrap();
    assert!(two.tasks == 2 && two.memory_bytes > one.memory_bytes, "{two:?}");
    leaf.kill().unwrap();
    assert_eq!([end_of(first.pid()), end_of(second.pid())], [KILLED, KILLED]);
    leaf.remove().unwrap();
    assert_eq!(group.child_usage("leaf"), Err(Errno::ENOENT));
    assert!(group.child_usage("../leaf").is_err());
}
