//! What must be so.

use keepd_model::{Exit, Generation, Pid, Signal};
use keepd_os::{file, pidfd, proc, signals};
use keepd_wire::ledger::keeper::Slot;
use keepd_wire::ledger::layout::SlotNumber;
use keepd_wire::ledger::{Outcome, State};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::fixture::{DEADLINE, Proxy, Running, wait_for};
use crate::script::{Cells, open_ledger};

/// Every case.
pub(crate) const ALL: [(&str, fn()); 9] = [
    ("a_killed_proxy_is_replaced_and_finds_what_was_held", killed),
    ("the_end_that_was_asked_for_is_the_end_of_the_warden", ends),
    ("another_program_takes_the_place_of_the_warden", becomes),
    ("a_failed_start_has_its_own_code", failed_start),
    ("signals_wait_until_the_proxy_is_ready", signals_wait),
    ("the_proxy_takes_the_place_of_a_lost_warden", lost_warden),
    ("a_warden_goes_on_after_a_fault_with_the_same_proxy", fault),
    ("what_runs_is_held_and_what_ends_is_written_down", ledger),
    ("without_a_ledger_nothing_is_touched", no_ledger),
];

fn ready(running: &Running) -> Proxy {
    let mut proxy = running.next_proxy();
    assert_eq!(proxy.arguments[..4], ["--estate", "3", "--channel", "4"].map(str::to_owned));
    assert_eq!(proxy.ask("ready"), "done");
    proxy
}

/// With a ledger, so that its loss is not the end.
fn ready_with_ledger(running: &Running) -> Proxy {
    let mut proxy = ready(running);
    assert_eq!(proxy.ask("ledger"), "done");
    proxy
}

fn held(proxy: &mut Proxy) -> Vec<String> {
    let text = proxy.ask("estate");
    let words =
        text.split(' ').filter(|word| !word.contains("deaths=") && !word.contains("proxy="));
    words.map(str::to_owned).collect()
}

fn killed() {
    let running = Running::start("killed");
    let mut proxy = ready_with_ledger(&running);
    let number = proxy.ask("hold xyz");
    let gone = proxy.ask("hold gone");
    assert_eq!(proxy.ask(&format!("drop {gone}")), "done");
    assert_eq!(proxy.ask(&format!("read {number}")), "x");
    let expected = held(&mut proxy);
    assert_eq!(expected.len(), 2, "{expected:?}");
    assert!(expected[0].ends_with("=lock") && expected[1] == format!("{number}=xyz"));
    for byte in ["y", "z"] {
        let before = proxy.pid;
        proxy.kill();
        proxy = ready(&running);
        assert_ne!(proxy.pid, before);
        assert_eq!(proxy.arguments.len(), 4, "it is not careful");
        assert_eq!(held(&mut proxy), expected);
        assert_eq!(proxy.ask(&format!("read {number}")), byte);
        assert!(proxy.ask("estate").contains("deaths=0"), "a KILL does not count");
    }
    // Another end counts, and the next one knows.
    proxy.say("die 4");
    let mut proxy = ready(&running);
    assert!(proxy.ask("estate").contains("deaths=1"));
    let said = running.said();
    assert!(said.contains("keepd: the proxy was lost (signal KILL); a new one"), "{said}");
    assert!(said.contains("keepd: the proxy was lost (exit 4); a new one is started"));
    let lock = std::fs::File::open(running.folder.join("lock")).unwrap();
    assert_eq!(file::lock_exclusive(&lock), Ok(false));
}

fn ends() {
    let mut running = Running::start("ends");
    let mut proxy = ready(&running);
    proxy.say("exit 7");
    assert_eq!(running.ends().code(), Some(7));
    // It was a proxy once that was lost; the end is the same.
    let mut running = Running::start("ends-later");
    ready_with_ledger(&running).kill();
    ready(&running).say("exit 0");
    assert_eq!(running.ends().code(), Some(0));
}

fn becomes() {
    let mut running = Running::start("becomes");
    let mut proxy = ready(&running);
    proxy.ask("hold xyz");
    let out = running.folder.join("out");
    let script = running.folder.join("script");
    let text = format!(
        "echo $$ $DAEMONPROXY_EXITCODE $DAEMONPROXY_ERROR > {0}\nls /proc/$$/fd >> {0}\nexit 5\n",
        out.display()
    );
    std::fs::write(&script, text).unwrap();
    proxy.say(&format!("exec 3 /bin/sh {}", script.display()));
    assert_eq!(running.ends().code(), Some(5));
    let text = std::fs::read_to_string(out).unwrap();
    let expected = format!("{} 3 terminated normally", running.pid());
    assert_eq!(text.lines().next(), Some(expected.as_str()));
    let open: Vec<u32> = text.lines().skip(1).map(|line| line.parse().unwrap()).collect();
    assert!(open.iter().all(|number| *number < 256), "{open:?}");

    let mut running = Running::start("becomes-nothing");
    ready(&running).say("exec 3 /nonexistent");
    assert_eq!(running.ends().code(), Some(3));
    assert!(running.said().contains("cannot execute /nonexistent: "), "{}", running.said());
}

fn failed_start() {
    let mut running = Running::start("failed-start");
    running.next_proxy().say("die 3");
    assert_eq!(running.ends().code(), Some(109));
    assert!(running.said().contains("failed start: 3"), "{}", running.said());
    // Killed before it was ready, it is replaced: nothing runs, so there is nothing to be known.
    let mut running = Running::start("killed-early");
    running.next_proxy().kill();
    running.next_proxy().say("die 3");
    assert_eq!(running.ends().code(), Some(109));
    assert!(running.said().contains("failed start: 3"), "{}", running.said());
}

fn signals_wait() {
    let running = Running::start("signals");
    let mut proxy = running.next_proxy();
    signals::send(running.pid(), Signal::TERM).unwrap();
    signals::send(running.pid(), Signal::HUP).unwrap();
    // An answer of the proxy comes after what it had got before.
    assert!(proxy.ask("estate").contains("=lock"));
    proxy.say("ready");
    let mut lines = [proxy.line(), proxy.line(), proxy.line()];
    lines.sort();
    assert_eq!(lines, ["done", "signal HUP 1", "signal TERM 1"]);
    signals::send(running.pid(), Signal::INT).unwrap();
    assert_eq!(proxy.line(), "signal INT 1");
}

fn lost_warden() {
    let mut running = Running::start("lost-warden");
    let mut proxy = ready_with_ledger(&running);
    let number = proxy.ask("hold xyz");
    assert_eq!(proxy.ask(&format!("read {number}")), "x");
    let service: Pid = Pid::new(proxy.ask("service 0").parse().unwrap()).unwrap();
    assert_eq!(proxy.ask("intent 1"), "done");
    let expected = held(&mut proxy);
    running.warden.kill().unwrap();
    running.warden.wait().unwrap();
    let warden = proxy.pid;
    proxy.say("succeed");
    // What was the proxy is the warden, in the same process.
    let mut proxy = ready(&running);
    assert_eq!(proc::stat(proxy.pid).unwrap().parent, Some(warden));
    assert_eq!(proc::name(warden).as_deref(), Some("keepd-warden"));
    let found = held(&mut proxy);
    assert_eq!(found[..2], expected[..]);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(proxy.ask(&format!("read {number}")), "y");
    // It does all that the first one did.
    let mapping = open_ledger(&running.folder);
    let cells = Cells(&mapping);
    let state = |slot| Slot::new(&cells, SlotNumber(slot)).word().unwrap().state();
    assert_eq!(state(0), State::Run(Generation::new(1), service));
    assert_eq!(state(1), State::Over(Generation::new(1), Outcome::Cancelled));
    proxy.kill();
    let mut proxy = ready(&running);
    assert_eq!(proxy.ask(&format!("read {number}")), "z");
    signals::send(service, Signal::KILL).unwrap();
    proxy.say("exit 0");
    wait_for(warden);
}

fn fault() {
    let mut running = Running::start_with("fault", Some(2));
    let mut proxy = ready_with_ledger(&running);
    let number = proxy.ask("hold xyz");
    proxy.kill();
    // The warden has a panic when it has started this one.
    let mut proxy = ready(&running);
    assert_eq!(proxy.ask(&format!("read {number}")), "x");
    // It hears it, and passes signals on.
    signals::send(running.pid(), Signal::TERM).unwrap();
    assert_eq!(proxy.line(), "signal TERM 1");
    let said = running.said();
    assert!(said.contains("keepd: fatal: the warden panicked at "), "{said}");
    assert!(said.contains("keepd: the warden goes on after a fault: panicked at "), "{said}");
    let expected = held(&mut proxy);
    proxy.kill();
    let mut proxy = ready(&running);
    assert_eq!(held(&mut proxy), expected);
    assert_eq!(proc::stat(proxy.pid).unwrap().parent, Some(running.pid()));
    proxy.say("exit 6");
    assert_eq!(running.ends().code(), Some(6));
}

fn ledger() {
    let running = Running::start("ledger");
    let mut proxy = ready_with_ledger(&running);
    let started: Pid = Pid::new(proxy.ask("service 0").parse().unwrap()).unwrap();
    assert_eq!(proxy.ask("intent 5"), "done");
    let mapping = open_ledger(&running.folder);
    let cells = Cells(&mapping);
    let state = |slot| Slot::new(&cells, SlotNumber(slot)).word().unwrap().state();
    let generation = Generation::new(1);
    assert_eq!(state(5), State::Intent(generation));
    proxy.kill();
    let mut proxy = ready(&running);
    assert_eq!(state(0), State::Run(generation, started));
    assert_eq!(state(5), State::Over(generation, Outcome::Cancelled));
    let text = proxy.ask("estate");
    assert!(text.contains(&format!("=pidfd {started}")), "{text}");
    assert!(!text.contains("(closed)"), "{text}");
    // A child of the warden now: written down before it is gone.
    kill_and_wait(started);
    let end = Exit::Signal { signal: Signal::KILL, core: false };
    assert_eq!(state(0), State::Over(generation, Outcome::Ended(end)));
    // It is in no word any more, so nobody needs it.
    proxy.kill();
    let text = ready(&running).ask("estate");
    assert!(!text.contains("=pidfd"), "{text}");
}

fn no_ledger() {
    let mut running = Running::start("no-ledger");
    let mut proxy = ready(&running);
    assert_eq!(proxy.ask("ledger"), "done");
    let started: Pid = Pid::new(proxy.ask("service 0").parse().unwrap()).unwrap();
    std::fs::write(running.folder.join("ledger"), [b'x'; 8192]).unwrap();
    proxy.kill();
    assert_eq!(running.ends().code(), Some(111));
    let said = running.said();
    assert!(said.contains("lost: cannot use the ledger: it is another kind of file"), "{said}");
    assert!(proc::name(started).is_some_and(|name| name == "sleep"));
    signals::send(started, Signal::KILL).unwrap();
}

/// Kills a process and waits until it is gone, zombie and all.
fn kill_and_wait(pid: Pid) {
    let held = pidfd::open(pid).unwrap();
    pidfd::send(&held, Signal::KILL).unwrap();
    // Only its parent's wait(2) makes it hang up.
    let mut polled = [PollFd::new(&held, PollFlags::empty())];
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    assert_eq!(poll(&mut polled, Some(&timeout)), Ok(1), "process {pid} is not reaped");
}
