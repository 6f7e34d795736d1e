use std::process::{Child, Command};
use std::time::Duration;

use keepd_os::clock;

use super::*;

fn service(name: &str, generation: u64) -> Owner {
    Owner::Service(ServiceName::new_internal(name).unwrap(), Generation::new(generation))
}

#[test]
fn names_of_leaves_are_read_as_they_are_written() {
    for owner in [service("web", 1), service("a.b@c", 40), Owner::Job(JobId(7))] {
        let name = leaf_name(&owner);
        assert_eq!(owner_of(&name), Some((owner.clone(), None)));
        assert_eq!(owner_of(&format!("{name}+12")), Some((owner, Some(12))));
    }
    for other in ["own", "s.web", "s.web.x", "s.web.01", "j.", "j.-1", "x.1", "s.web.1+", ""] {
        assert_eq!(owner_of(other), None, "{other}");
    }
}

/// A group for this test, removed with everything in it at the end.
struct Root(Group);

impl Root {
    fn new(test: &str) -> Option<Self> {
        let Some(own) = Group::own() else {
            eprintln!("SKIPPED: {test}: no control group can be made here");
            return None;
        };
        let name = format!("keepd-test.{test}.{}", std::process::id());
        Some(Self(Group::create(&own, &name).unwrap()))
    }

    /// A successor's table. It stays in its own group, because it is this program.
    fn groups(&self) -> Groups {
        let root = Group::open(self.0.path()).unwrap();
        let own = Group::ensure(&root, "own").unwrap();
        Groups::with_root(Some((root, own)))
    }

    fn sleeper_in(&self, leaf: &str) -> Child {
        let group = Group::ensure(&self.0, leaf).unwrap();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        group.add(Pid::new(child.id()).unwrap()).unwrap();
        child
    }

    fn has(&self, leaf: &str) -> bool {
        self.0.children().unwrap().iter().any(|name| name == leaf)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.remove();
    }
}

/// Lets a table hear of its groups until something is so.
fn turn_until(groups: &mut Groups, epoll: &Epoll, is_so: impl Fn(&mut Groups) -> bool) {
    let deadline = clock::monotonic_now().saturating_add(Duration::from_secs(20));
    while !is_so(groups) {
        assert!(clock::monotonic_now() < deadline, "it does not become so");
        let mut ready = Vec::new();
        epoll.wait(Some(Duration::from_millis(50)), &mut ready).unwrap();
        for one in ready {
            if let Some(Token::Group(token)) = Token::from_bits(one.token) {
                groups.on_ready(epoll, token);
            }
        }
        groups.look(clock::monotonic_now());
        groups.remove_unremoved();
    }
}

#[test]
fn the_leaf_of_a_run_is_gone_on_with() {
    let Some(root) = Root::new("adopt") else {
        return;
    };
    let owner = service("web", 3);
    let mut child = root.sleeper_in("s.web.3");
    let mut groups = root.groups();
    let epoll = Epoll::new().unwrap();
    assert!(groups.adopt(&owner, Pid::new(child.id()), 1));
    assert!(!groups.adopt(&service("web", 4), None, 2), "there is no such leaf");
    assert_eq!(groups.take_over_rest(&epoll), Ok(0));
    groups.watch(&epoll, &owner, clock::monotonic_now()).unwrap();
    assert!(!groups.has_empty());
    groups.signal(&owner, Signal::KILL, clock::monotonic_now()).unwrap();
    child.wait().unwrap();
    turn_until(&mut groups, &epoll, |groups| groups.has_empty());
    assert_eq!(groups.take_empty(&epoll), Some(owner));
    turn_until(&mut groups, &epoll, |_| !root.has("s.web.3"));
}

#[test]
fn lost_jobs_are_ended_and_what_was_left_behind_is_left_alone() {
    let Some(root) = Root::new("rest") else {
        return;
    };
    let mut job = root.sleeper_in("j.1");
    let mut left = root.sleeper_in("s.web.1");
    let mut aside = root.sleeper_in("s.web.1+5");
    let mut groups = root.groups();
    let epoll = Epoll::new().unwrap();
    assert_eq!(groups.take_over_rest(&epoll), Ok(1));
    job.wait().unwrap();
    turn_until(&mut groups, &epoll, |_| !root.has("j.1"));
    assert!(left.try_wait().unwrap().is_none() && aside.try_wait().unwrap().is_none());
    let name = ServiceName::new("web").unwrap();
    assert!(groups.is_left_behind(&name, Pid::new(left.id()).unwrap()));
    // A new service of that name counts from 1, and finds its leaf taken.
    groups.make(&epoll, &service("web", 1), 1).unwrap();
    assert!(root.has("s.web.1") && root.has("s.web.1+5"));
    for child in [&mut left, &mut aside] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    turn_until(&mut groups, &epoll, |_| !root.has("s.web.1+5"));
}

#[test]
fn without_a_cgroup_a_run_is_found_by_its_mark() {
    let mut groups = Groups::without_cgroup();
    let epoll = Epoll::new().unwrap();
    let owner = service("web", 1);
    let invocation = 0xFEED_0000 + u128::from(std::process::id());
    let mut child = Command::new("sleep")
        .arg("1000")
        .env("INVOCATION_ID", format!("{invocation:032x}"))
        .spawn()
        .unwrap();
    assert!(!groups.adopt(&owner, Pid::new(child.id()), invocation));
    assert_eq!(groups.take_over_rest(&epoll), Ok(0));
    groups.signal(&owner, Signal::KILL, clock::monotonic_now()).unwrap();
    groups.look(clock::monotonic_now());
    assert!(!child.wait().unwrap().success());
}
