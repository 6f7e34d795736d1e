//! Tokens, interest, and timeouts that are never early.

mod support;

use std::time::{Duration, Instant};

use keepd_model::Errno;
use keepd_os::epoll::{Epoll, Interest};
use support::DEADLINE;

#[test]
fn news_carry_their_token_until_removed() {
    let epoll = Epoll::new().unwrap();
    let (read, write) = rustix::pipe::pipe().unwrap();
    let mut ready = Vec::new();
    epoll.add(&read, u64::MAX, Interest::READ).unwrap();
    assert_eq!(epoll.add(&read, 1, Interest::READ), Err(Errno(17)));
    epoll.wait(Some(Duration::ZERO), &mut ready).unwrap();
    assert!(ready.is_empty());

    rustix::io::write(&write, b"x").unwrap();
    epoll.wait(Some(DEADLINE), &mut ready).unwrap();
    assert_eq!((ready.len(), ready[0].token), (1, u64::MAX));
    assert!(ready[0].readable && !ready[0].writable && !ready[0].hangup);

    epoll.modify(&read, 2, Interest::default()).unwrap();
    epoll.wait(Some(Duration::ZERO), &mut ready).unwrap();
    assert!(ready.is_empty(), "no interest, no news");
    drop(write);
    epoll.wait(Some(DEADLINE), &mut ready).unwrap();
    assert!(ready[0].hangup && ready[0].token == 2, "hang-ups are always said");

    epoll.remove(&read).unwrap();
    epoll.wait(Some(Duration::ZERO), &mut ready).unwrap();
    assert!(ready.is_empty());
}

#[test]
fn a_timeout_is_never_early() {
    let epoll = Epoll::new().unwrap();
    let mut ready = Vec::new();
    for timeout in [Duration::from_nanos(1), Duration::from_micros(2_300)] {
        let start = Instant::now();
        epoll.wait(Some(timeout), &mut ready).unwrap();
        assert!(start.elapsed() >= timeout);
    }
    let (read, write) = rustix::pipe::pipe().unwrap();
    epoll.add(&read, 1, Interest::READ).unwrap();
    drop(write);
    epoll.wait(Some(Duration::MAX), &mut ready).unwrap();
    assert_eq!(ready.len(), 1, "the longest wait is accepted");
}
