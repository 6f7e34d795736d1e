//! Looks at processes of which nobody of ours is the parent.

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use keepd_model::Generation;
use keepd_os::{proc, process};
use keepd_testkit::{LONG, Scratch, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::ledger::make;

/// A process of a service, its ledger, and the parent, which never consumes it.
struct Orphan {
    _scratch: Scratch,
    ledger: Ledger,
    foreign: Foreign,
    parent: Child,
    pid: Pid,
    run: Run,
}

impl Orphan {
    /// Starts a process that ends in this way, and waits until it has.
    fn ended(how: &str) -> Self {
        let script =
            format!("exec 3<&0; sh -c 'read go <&3; {how}' & echo $!; exec sleep 1000 3<&-");
        let mut parent = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = parent.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let pid = Pid::new(line.trim().parse().unwrap()).unwrap();
        let pidfd = pidfd::open(pid).unwrap();
        let parent_pid = Pid::new(parent.id()).unwrap();
        // A shell would consume it.
        let is_sleeping = || (proc::name(parent_pid)? == "sleep").then_some(());
        wait_until("a parent that consumes nobody", LONG, is_sleeping);
        // What it waits for ends.
        drop(parent.stdin.take());
        wait_for_end(&pidfd);

        let scratch = Scratch::new();
        let mut ledger = make(scratch.path(), "shop-0badcafe").unwrap();
        let name = ServiceName::new("web").unwrap();
        let intent = ledger.intend(&name, Generation::new(1)).unwrap();
        ledger.note_child(&intent, pid);
        let run = ledger.run_of(pid).unwrap();
        let mut foreign = Foreign::default();
        let epoll = Epoll::new().unwrap();
        foreign.add(&epoll, pid, name, run, Held::alone(pidfd), Instant::ZERO);
        Self { _scratch: scratch, ledger, foreign, parent, pid, run }
    }

    fn look(&mut self) -> Option<Outcome> {
        match self.foreign.look(&self.ledger, self.pid, Instant::ZERO) {
            Some(Look::Over(outcome)) => Some(outcome),
            Some(Look::Later) | None => None,
        }
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

fn wait_for_end(pidfd: impl AsFd) {
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    let deadline = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut polled, Some(&deadline)), Ok(1), "it has ended");
}

#[test]
fn a_zombie_that_nobody_consumes_is_over_at_the_first_look() {
    let mut orphan = Orphan::ended("exit 7");
    let outcome = Outcome::Ended(Exit::Code(7));
    assert_eq!(orphan.look(), Some(outcome));
    assert_eq!(orphan.ledger.outcome(orphan.run), Some(outcome), "a successor knows it, too");
    let mut orphan = Orphan::ended("kill -s KILL $$");
    let killed = Exit::Signal { signal: Signal::KILL, core: false };
    assert_eq!(orphan.look(), Some(Outcome::Ended(killed)));
}

#[test]
fn a_zombie_of_a_keeper_waits_for_the_keeper_to_write_it_down() {
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    let pid = Pid::new(child.id()).unwrap();
    let pidfd = pidfd::open(pid).unwrap();
    wait_for_end(&pidfd);
    let mut orphan = Orphan::ended("exit 3");
    let process = orphan.foreign.processes.remove(&orphan.pid).unwrap();
    let process = Process { pidfd: Held::alone(pidfd), ..process };
    orphan.foreign.processes.insert(pid, process);
    orphan.pid = pid;
    assert_eq!(orphan.look(), None);
    assert!(orphan.foreign.poll_timeout().is_some(), "it is looked at again");
    // Now it is consumed without having been written down, and its number is not told apart from
    // that of whoever has it next.
    child.wait().unwrap();
    assert!(matches!(orphan.look(), Some(Outcome::Ended(Exit::Code(7) | Exit::Unknown))));
}

#[test]
fn who_has_the_number_of_one_that_is_gone_is_not_asked() {
    let mut orphan = Orphan::ended("exit 3");
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    let pidfd = pidfd::open(Pid::new(child.id()).unwrap()).unwrap();
    child.wait().unwrap();
    let process = orphan.foreign.processes.remove(&orphan.pid).unwrap();
    let process = Process { pidfd: Held::alone(pidfd), ..process };
    // As if this very process had got the number.
    orphan.pid = process::id();
    orphan.foreign.processes.insert(orphan.pid, process);
    assert!(orphan.foreign.has(process::id()));
    assert!(matches!(orphan.look(), Some(Outcome::Ended(Exit::Code(7) | Exit::Unknown))));
}
