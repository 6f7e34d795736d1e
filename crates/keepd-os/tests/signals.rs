//! Signals to us by descriptor, signals from us to children and groups.

mod support;

use keepd_model::{Errno, Exit, Pid, Signal};
use keepd_os::pidfd;
use keepd_os::signals::{self, SignalReader};
use support::{Start, await_readable, end_of, final_report};

#[test]
fn signals_are_read_and_counted() {
    let realtime = Signal::new(40).unwrap();
    let reader = SignalReader::new(&[Signal::USR1, realtime]).unwrap();
    assert_eq!(reader.read(), Ok(vec![]));
    // Sent to this thread alone, since the harness's thread does not block them.
    for signal in [Signal::USR1, Signal::USR1, realtime, realtime] {
        raise(signal);
    }
    await_readable(&reader);
    let mut found = reader.read().unwrap();
    found.sort();
    assert_eq!(found, [(Signal::USR1, 1), (realtime, 2)], "standard signals coalesce");
    assert_eq!(reader.read(), Ok(vec![]));
    assert_eq!(signals::ignore(Signal::KILL), Err(Errno::EINVAL));
}

#[expect(unsafe_code, reason = "no safe call signals one thread")]
fn raise(signal: Signal) {
    // SAFETY: the call takes a number only.
    assert_eq!(unsafe { libc::raise(i32::from(signal.get())) }, 0);
}

#[test]
fn children_and_groups_are_signalled() {
    let killed = |signal| Exit::Signal { signal, core: false };
    let mut one = Start::new(&["sleep", "1000"]).start();
    final_report(&mut one);
    signals::send(one.pid(), Signal::TERM).unwrap();
    assert_eq!(end_of(one.pid()), killed(Signal::TERM));

    let mut leader = Start::new(&["sleep", "1000"]).start();
    final_report(&mut leader);
    signals::send_number(leader.pid(), Signal::HUP.get().into(), true).unwrap();
    let first = Pid::new(1).unwrap();
    assert_eq!(
        signals::send_number(first, Signal::CONT.get().into(), true),
        Err(Errno(3)),
        "never everybody"
    );
    assert_eq!(end_of(leader.pid()), killed(Signal::HUP));

    let mut third = Start::new(&["sleep", "1000"]).start();
    final_report(&mut third);
    let held = pidfd::open(third.pid()).unwrap();
    pidfd::send(&held, Signal::new(64).unwrap()).unwrap();
    assert_eq!(end_of(third.pid()), killed(Signal::new(64).unwrap()));
    assert_eq!(pidfd::send(&held, Signal::KILL), Err(Errno(3)), "reaped");
}
