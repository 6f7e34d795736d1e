//! keepd's own processes are killed, one by one and together: no service notices, and control
//! comes back.
//! (behaviour 20.1, 20.2, 20.3, 20.4, 20.7, 20.8)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keepd_model::Signal;
use keepd_testkit::torture::{Keepers, Seeker, Victim};
use keepd_testkit::{
    LONG, Project, Running, keepd_program, kill, signal, wait_for_end, wait_until,
};
use serde_json::Value;

const CONFIGURATION: &str = r#"
version = 1
[defaults]
ready.notify = true
[services.db]
command = "${TEST_SERVICE} --ready 0 --chatter 5"
[services.web]
command = "${TEST_SERVICE} --ready 0 --fork 1"
depends_on = ["db"]
[services.slow]
command = "${TEST_SERVICE} --ready 0 --stop-takes 100"
[services.idle]
command = "${TEST_SERVICE} --ready 0"
enabled = false
[services.once]
kind = "oneshot"
command = "${TEST_SERVICE} --exit 0 0"
ready.notify = false
"#;

/// SIGSTOP: the process is there, and does nothing.
pub(crate) fn stop_signal() -> Signal {
    Signal::new(19).unwrap()
}

/// The processes of keepd itself, of one project.
pub(crate) struct Keepd {
    seeker: Seeker,
    kinds: &'static [Victim],
}

impl Keepd {
    pub(crate) fn of(project: &Project) -> Self {
        Self { seeker: Seeker::new(&keepd_program(), project.mark()), kinds: &Victim::ALL }
    }

    /// Of a proxy with other controllers.
    pub(crate) fn without_manager(project: &Project) -> Self {
        Self { kinds: &[Victim::Warden, Victim::Proxy], ..Self::of(project) }
    }

    /// Waits until there is one of each kind, and returns them.
    #[track_caller]
    pub(crate) fn complete(&self) -> Keepers {
        wait_until("keepd's own processes", LONG, || {
            let found = self.seeker.find();
            self.kinds.iter().all(|victim| found.of(*victim).is_some()).then_some(found)
        })
    }

    /// Kills these at the same time, and waits until each has a successor.
    #[track_caller]
    pub(crate) fn lose(&self, victims: &[Victim]) {
        let before = self.complete();
        let pids: Vec<u32> = victims.iter().filter_map(|victim| before.of(*victim)).collect();
        kill_together(&pids);
        wait_until("a successor of whom was killed", LONG, || {
            let found = self.seeker.find();
            let is_there = |victim: &Victim| {
                let pid = found.of(*victim);
                pid.is_some() && !(victims.contains(victim) && pid == before.of(*victim))
            };
            self.kinds.iter().all(is_there).then_some(())
        });
    }

    /// Kills warden, proxy and manager, so that none of them can react.
    #[track_caller]
    pub(crate) fn lose_everything(&self) {
        let found = self.complete();
        let pids: Vec<u32> = Victim::ALL.iter().filter_map(|victim| found.of(*victim)).collect();
        kill_together(&pids);
    }

    /// Kills the proxy, and keeps the warden from noticing while `meanwhile` runs.
    #[track_caller]
    pub(crate) fn without_proxy<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let before = self.complete();
        let (warden, proxy) = (before.warden.unwrap(), before.proxy.unwrap());
        assert!(signal(warden, stop_signal()));
        kill(proxy);
        let result = meanwhile();
        assert!(signal(warden, Signal::CONT));
        wait_until("another proxy, or the end of everything", LONG, || {
            let found = self.seeker.find();
            let is_new = found.proxy.is_some_and(|pid| pid != proxy);
            (is_new || found.warden.is_none()).then_some(())
        });
        result
    }
}

/// Kills processes of which none sees the end of another one.
fn kill_together(pids: &[u32]) {
    for pid in pids {
        assert!(signal(*pid, stop_signal()), "there is no process {pid}");
    }
    for pid in pids {
        assert!(signal(*pid, Signal::KILL), "there is no process {pid}");
    }
    for pid in pids {
        assert!(wait_for_end(*pid, LONG), "process {pid} outlives KILL");
    }
}

/// Process and generation of each service that has a process.
fn identities(services: &[Value]) -> BTreeMap<String, (u64, u64)> {
    let running = services.iter().filter(|service| service["pid"].is_u64());
    let identity = |service: &Value| {
        let pid = service["pid"].as_u64().unwrap();
        let generation = service["generation"].as_u64().unwrap();
        (service["name"].to_string(), (pid, generation))
    };
    running.map(identity).collect()
}

/// Returns the status of all services once keepd answers.
#[track_caller]
pub(crate) fn answered(project: &Project) -> Vec<Value> {
    project.wait_for("an answer", LONG, |services| Some(services.to_vec()))
}

/// Loses these, and checks that nobody noticed, and that keepd does everything as before.
#[track_caller]
fn lose_and_look(project: &Project, victims: &[Victim]) {
    let keepd = Keepd::of(project);
    let before = identities(&answered(project));
    assert_eq!(before.len(), 3, "{before:?}");
    let lines = project.out_log("db").len();
    let began = Instant::now();
    keepd.lose(victims);
    let services = answered(project);
    println!("control is back after the loss of {victims:?}: {:.1?}", began.elapsed());
    assert_eq!(identities(&services), before, "after the loss of {victims:?}");
    wait_until("output to go on", LONG, || (project.out_log("db").len() > lines).then_some(()));

    let status = project.keepd(["status", "-o", "json"]).expect_code(0).json();
    let state = |name: &str| {
        let services = status["services"].as_array().unwrap();
        services.iter().find(|service| service["name"] == name).unwrap()["state"].clone()
    };
    assert_eq!((state("db"), state("web")), ("ready".into(), "ready".into()));
    assert_eq!((state("idle"), state("once")), ("stopped".into(), "done".into()));
    let why = project.keepd(["why", "web"]).expect_code(0);
    assert!(why.stdout.starts_with("web is ready"), "{}", why.stdout);

    // What runs can be commanded: it has another parent than the one that started it.
    let slow = project.pid("slow");
    project.keepd(["restart", "slow"]).expect_code(0);
    assert!(wait_for_end(slow, Duration::ZERO), "the old process is left");
    assert_eq!(project.service("slow")["generation"], before["\"slow\""].1 + 1);
    project.keepd(["stop", "slow"]).expect_code(0);
    assert_eq!(project.service("slow")["wanted"], "down");
    project.keepd(["start", "slow"]).expect_code(0);
    let terms = project.events().of("term", "slow").len();
    assert_eq!(terms as u64, before["\"slow\""].1 + 1, "it was asked to end, not killed");
}

/// Ends the project by `keepd down`, and checks that nothing is left.
#[track_caller]
fn down(project: &Project) {
    project.keepd(["down"]).expect_code(0);
    project.events().check();
    project.assert_nothing_left();
}

/// Checks that each line of `db` is in its log once, and in order.
#[track_caller]
fn assert_every_line(project: &Project) {
    let text = String::from_utf8(project.out_log("db")).unwrap();
    for (number, line) in text.lines().enumerate() {
        assert_eq!(line, format!("chatter {number}"));
    }
}

#[test]
fn a_lost_proxy_is_replaced_and_up_goes_on() {
    let project = Project::new(CONFIGURATION);
    let mut up = project.up_and_ready();
    for _ in 0..3 {
        lose_and_look(&project, &[Victim::Proxy]);
        assert!(up.is_running());
    }
    let news = up.stderr().text();
    assert!(news.contains("keepd: the proxy was lost (signal KILL); a new one"), "{news}");
    // Its terminal goes on as well.
    let seen = up.stdout().text().lines().count();
    up.stdout().wait_for_line("another line", LONG, |line| {
        line.ends_with("Z db | chatter 0") || seen > 0 && line.contains("Z db | chatter ")
    });
    up.signal(Signal::INT);
    let end = up.wait().expect_code(0);
    assert!(end.stdout.contains("keepd: web: 1 start, stopped (exit 0)"), "{}", end.stdout);
    assert_every_line(&project);
    project.events().check();
    project.assert_nothing_left();
}

#[test]
fn a_lost_warden_is_replaced_by_the_proxy() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    let proxy = Keepd::of(&project).complete().proxy;
    lose_and_look(&project, &[Victim::Warden]);
    assert_eq!(Keepd::of(&project).complete().warden, proxy, "it is in the same process");
    up.wait().expect_code(128 + 9);
    lose_and_look(&project, &[Victim::Warden]);
    assert_every_line(&project);
    down(&project);
}

#[test]
fn one_after_the_other_may_be_lost() {
    let project = Project::new(CONFIGURATION);
    project.keepd(["up", "-d"]).expect_code(0);
    for victim in [Victim::Proxy, Victim::Warden, Victim::Manager, Victim::Proxy, Victim::Warden] {
        lose_and_look(&project, &[victim]);
    }
    assert_every_line(&project);
    down(&project);
}

#[test]
fn two_may_be_lost_at_once() {
    let project = Project::new(CONFIGURATION);
    project.keepd(["up", "-d"]).expect_code(0);
    lose_and_look(&project, &[Victim::Proxy, Victim::Manager]);
    lose_and_look(&project, &[Victim::Warden, Victim::Manager]);
    assert_every_line(&project);
    down(&project);
}

#[test]
fn the_manager_starts_a_second_warden() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    let manager = Keepd::of(&project).complete().manager;
    lose_and_look(&project, &[Victim::Warden, Victim::Proxy]);
    assert_eq!(Keepd::of(&project).complete().manager, manager, "it is the same one");
    up.wait().expect_code(128 + 9);
    lose_and_look(&project, &[Victim::Warden, Victim::Proxy]);
    down(&project);
}

#[test]
fn up_takes_over_what_a_lost_keepd_left() {
    for in_background in [false, true] {
        let project = Project::new(CONFIGURATION);
        project.keepd(["up", "-d"]).expect_code(0);
        let before = identities(&project.services());
        Keepd::of(&project).lose_everything();
        project.keepd(["status"]).expect_code(111);

        let said = "keepd: took over 3 services of a lost keepd\n";
        let up = match in_background {
            true => {
                let up = project.keepd(["up", "-d"]).expect_code(0);
                assert!(up.stderr.contains(said), "{}", up.stderr);
                None
            }
            false => {
                let up = project.start_keepd(["up"]);
                up.stderr()
                    .wait_for_line("what was taken over", LONG, |line| said.trim_end() == line);
                Some(up)
            }
        };
        assert_eq!(identities(&answered(&project)), before);
        lose_and_look(&project, &[Victim::Proxy]);
        match up {
            Some(up) => ends_with_signal(&project, up),
            None => down(&project),
        }
    }
}

#[track_caller]
fn ends_with_signal(project: &Project, up: Running) {
    up.signal(Signal::TERM);
    up.wait().expect_code(0);
    project.events().check();
    project.assert_nothing_left();
}

#[test]
fn down_right_after_a_loss_is_an_end_in_order() {
    for victims in [&[Victim::Proxy][..], &[Victim::Warden], &[Victim::Warden, Victim::Proxy]] {
        let project = Project::new(CONFIGURATION);
        project.keepd(["up", "-d"]).expect_code(0);
        let keepers = Keepd::of(&project).complete();
        let pids: Vec<u32> = victims.iter().filter_map(|victim| keepers.of(*victim)).collect();
        kill_together(&pids);
        down(&project);
        let order = project.events().order("term");
        let position = |name| order.iter().position(|found| found == name).unwrap();
        assert!(position("web") < position("db"), "{victims:?}: {order:?}");
    }
}

#[test]
fn a_lost_proxy_that_nobody_replaces_keeps_its_socket() {
    let project = Project::new(CONFIGURATION);
    project.keepd(["up", "-d"]).expect_code(0);
    let socket = project.run_dir().join("proxy.sock");
    // Who connects meanwhile is answered by the next one.
    let mut waiting = Keepd::of(&project).without_proxy(|| {
        let mut connection = crate::b0900_protocol::Connection::new(&socket);
        connection.say("statedump");
        connection
    });
    let line = waiting.hear_until("service.state\tdb\tup\t");
    assert_eq!(line.split('\t').nth(4).unwrap(), project.pid("db").to_string());
    down(&project);
}
