//! This process and others as /proc shows them; clocks, randomness, terminals.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use keepd_model::{Exit, Signal};
use keepd_os::{clock, proc, process, random, terminal};
use support::{Start, end_of, final_report, null};

#[test]
fn this_process_knows_itself() {
    assert_eq!(process::id().get(), std::process::id());
    assert_eq!(process::parent_id().unwrap().get(), std::os::unix::process::parent_id());
    assert_eq!(process::own_executable().unwrap(), std::env::current_exe().unwrap());
    process::set_name("a name that is longer than fifteen").unwrap();
    let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    assert_eq!(name, "a name that is \n");
    assert!(process::set_name("a\0b").is_err());
}

#[test]
fn the_descriptor_limit_is_raised_and_handed_back() {
    let inherited = process::raise_descriptor_limit().unwrap();
    let raised = process::raise_descriptor_limit().unwrap();
    assert_eq!((raised.soft, raised.hard), (inherited.hard, inherited.hard));
    let mut start = Start::shell("ulimit -Sn; ulimit -Hn");
    start.descriptor_limit = Some(inherited);
    let text = |limit: u64| match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => limit.to_string(),
    };
    let expected = format!("{}\n{}\n", text(inherited.soft), text(inherited.hard));
    assert_eq!(start.run().1, expected);
}

#[test]
fn ends_of_the_standard_library_are_translated() {
    let exit = |raw| process::exit_of(ExitStatus::from_raw(raw));
    assert_eq!(exit(42 << 8), Exit::Code(42));
    let signal = Signal::new(11).unwrap();
    assert_eq!(exit(11), Exit::Signal { signal, core: false });
    assert_eq!(exit(11 | 0x80), Exit::Signal { signal, core: true });
}

#[test]
fn facts_of_a_process_are_read() {
    let mut start = Start::new(&["sleep", "1000"]);
    start.environment = vec![b"PATH=/usr/bin:/bin".into(), b"MARK=one".into()];
    let mut child = start.start();
    final_report(&mut child);
    let pid = child.pid();
    let stat = proc::stat(pid).unwrap();
    assert_eq!(stat.parent, Some(process::id()));
    assert!(proc::memory_resident_bytes(pid).is_some_and(|bytes| bytes > 0));
    assert!(proc::cpu_time(pid).is_some_and(|time| time.as_secs() < 10));
    assert!(proc::start_ticks(pid) >= proc::start_ticks(process::id()));
    assert!(proc::environment_has(pid, b"MARK=one"));
    for other in [&b"MARK=on"[..], b"MARK=one1", b"MARK", b""] {
        assert!(!proc::environment_has(pid, other));
    }
    keepd_os::signals::send(pid, Signal::KILL).unwrap();
    end_of(pid);
    assert_eq!(proc::stat(pid), None);
    assert!(!proc::environment_has(pid, b"MARK=one"));
}

#[test]
fn clocks_advance_and_seeds_differ() {
    let first = clock::monotonic_now();
    assert!(clock::monotonic_now() >= first && first.as_nanos() > 0);
    // After 2020-01-01.
    assert!(clock::wall_now_ns() > 1_577_836_800_000_000_000);
    assert_ne!(random::seed().unwrap(), random::seed().unwrap());
}

#[test]
fn what_is_no_terminal_is_known_as_such() {
    let null = null();
    assert!(!terminal::is_terminal(&null));
    assert_eq!(terminal::columns(&null), None);
    assert!(terminal::foreground_lost(&null));
    assert!(terminal::set_foreground(&null, process::id()).is_err());
}
