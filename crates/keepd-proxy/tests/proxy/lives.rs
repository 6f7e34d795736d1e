//! From start to end of services.

use keepd_os::cgroup::Group;
use keepd_os::sweep;

use crate::support::{Grouping, Proxy};

const BOTH: [Grouping; 2] = [Grouping::Cgroup, Grouping::Environment];

#[test]
fn a_service_starts_and_stops_in_conversation() {
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        client.accepted("service.args\tweb\t/bin/sleep\t1000");
        client.accepted("service.set\tweb\tstop_signal=SIGINT");
        client.accepted("service.log\tweb\tmode=null");
        let start = client.command("service.start\tweb\t0");
        assert_eq!(client.answer(start), format!("ok\t{start}"));
        client.expect("service.invocation\tweb\t1\t");
        client.expect_run("web", 1, "forked");
        client.expect_run("web", 1, "up");
        let stale = client.command("service.start\tweb\t0");
        assert!(client.answer(stale).starts_with(&format!("fail\t{stale}\tstale\t")));
        let stop = client.command("service.stop\tweb\t1");
        assert_eq!(client.answer(stop), format!("ok\t{stop}"));
        client.expect_run("web", 1, "stopping");
        client.expect_run("web", 1, "emptying");
        let end = client.expect_run("web", 1, "down");
        assert_eq!(end, ("signal".to_owned(), "SIGINT".to_owned()));
        if let Some(group) = proxy.group() {
            assert_eq!(group.children(), Ok(vec!["own".to_owned()]));
        }
    }
}

#[test]
fn a_missing_program_is_down_with_step_and_errno() {
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        client.accepted("service.args\tweb\t/nonexistent/program");
        client.accepted("service.start\tweb\t0");
        let end = client.expect_run("web", 1, "down");
        assert_eq!(end, ("failed".to_owned(), "exec:2".to_owned()));
        client.accepted("service.set\tweb\tdirectory=/nonexistent");
        client.accepted("service.start\tweb\t1");
        let end = client.expect_run("web", 2, "down");
        assert_eq!(end, ("failed".to_owned(), "directory:2".to_owned()));
    }
}

#[test]
fn grandchildren_in_their_own_sessions_are_gone_before_down() {
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        let ready = proxy.folder().join("ready");
        client.accepted(&format!(
            "service.args\tweb\t/bin/sh\t-c\t\
             (trap '' TERM; setsid sh -c 'trap \"\" TERM; echo > {}; \
             sleep 1000; sleep 1000' &) ; sleep 1000",
            ready.display()
        ));
        client.accepted("service.env\tweb\t+MARK_OF_THIS_TEST=1");
        client.accepted(&format!("service.log\tweb\tmode=file\tdir={}", log_dir(&proxy)));
        client.accepted("service.start\tweb\t0");
        let invocation = client.expect("service.invocation\tweb\t1\t");
        let mark = format!("INVOCATION_ID={}", invocation.rsplit('\t').next().unwrap());
        // The job ends when the grandchild is there.
        let job = client.command(&format!(
            "service.exec\tweb\t20000\t/bin/sh\t-c\tuntil [ -e {} ]; do sleep 0.01; done",
            ready.display()
        ));
        assert!(client.answer(job).starts_with(&format!("ok\t{job}\texit\t0")));
        assert!(sweep::processes_marked(mark.as_bytes()).unwrap().len() >= 2);
        client.accepted("service.stop\tweb\t1");
        client.expect_run("web", 1, "down");
        let left = sweep::processes_marked(mark.as_bytes()).unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn the_environment_is_the_base_with_differences_and_facts() {
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    let log = log_dir(&proxy);
    client.accepted("service.args\tweb@a\t/usr/bin/env");
    client.accepted("service.env\tweb@a\t+A=x=y\t-HOME");
    client.accepted(&format!("service.log\tweb@a\tmode=file\tdir={log}\tstderr=merge"));
    client.accepted("service.set\tweb@a\tnotify=yes");
    client.accepted("service.start\tweb@a\t0");
    client.expect_run("web@a", 1, "down");
    let shown = std::fs::read_to_string(format!("{log}/out.log")).unwrap();
    let has = |line: &str| shown.lines().any(|shown| shown == line);
    for line in [
        "PASSED_ON=yes",
        "A=x=y",
        "KEEPD_SERVICE=web@a",
        "KEEPD_INSTANCE=a",
        "KEEPD_GENERATION=1",
        &format!("NOTIFY_SOCKET={}", proxy.folder().join("n/web@a").display()),
    ] {
        assert!(has(line), "{line} is not in:\n{shown}");
    }
    assert!(!shown.lines().any(|line| line.starts_with("HOME=")), "{shown}");
}

#[test]
fn three_hundred_services_start_at_once() {
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        let mut commands = String::new();
        for number in 0..300 {
            let log = proxy.folder().join(format!("log/s{number}"));
            commands += &format!(
                "@{0}\tservice.args\ts{number}\t/bin/sleep\t1000\n\
                 @{0}\tservice.log\ts{number}\tmode=file\tdir={1}\n\
                 @{0}\tservice.start\ts{number}\t0\n",
                number + 1,
                log.display()
            );
        }
        client.send_bytes(commands.as_bytes());
        let mut up = std::collections::BTreeSet::new();
        while up.len() < 300 {
            let line = client.expect("service.run\t");
            let fields: Vec<&str> = line.split('\t').collect();
            assert!(["forked", "up"].contains(&fields[3]), "{line}");
            if fields[3] == "up" {
                up.insert(fields[1].to_owned());
            }
        }
        let stops: String = (0..300)
            .map(|number| format!("@1\tservice.stop\ts{number}\t1\tSIGKILL\t0\n"))
            .collect();
        client.send_bytes(stops.as_bytes());
        for _ in 0..300 {
            client.find_down();
        }
    }
}

#[test]
fn services_of_plain_connections_get_what_daemonproxy_gives() {
    let proxy = Proxy::start();
    let mut client = proxy.connect_plain();
    client.send("echo\tone\ttwo");
    assert_eq!(client.expect("one"), "one\ttwo");
    let shown = proxy.folder().join("shown");
    client.send(&format!(
        "service.args\ta\t/bin/sh\t-c\tumask > {0}; echo $KEEPD_SERVICE$PASSED_ON >> {0}; exit 7",
        shown.display()
    ));
    client.expect("service.args\ta\t/bin/sh");
    client.send("service.start\ta");
    client.expect("service.state\ta\tstart\t");
    client.expect("service.state\ta\tup\t");
    let down = client.expect("service.state\ta\tdown\t");
    let fields: Vec<&str> = down.split('\t').collect();
    assert_eq!(fields[5..7], ["exit", "7"], "{down}");
    assert_eq!(std::fs::read_to_string(shown).unwrap(), "0077\nyes\n");
    client.send("service.delete\ta");
    client.expect("service.state\ta\tdeleted\t");
}

#[test]
fn the_proxy_counts_its_signals_and_goes_on() {
    let mut proxy = Proxy::start();
    let mut client = proxy.connect();
    let pid = keepd_model::Pid::new(proxy.pid()).unwrap();
    keepd_os::signals::send(pid, keepd_model::Signal::TERM).unwrap();
    let line = client.expect("signal\tSIGTERM\t");
    assert!(line.ends_with("\t1"), "{line}");
    client.accepted("service.args\ta\t/bin/sleep\t1000");
    client.accepted("service.start\ta\t0");
    client.expect_run("a", 1, "up");
    client.accepted("signal.clear\tSIGTERM\t1");
    client.command("terminate\t42");
    assert_eq!(proxy.wait(), Some(42));
    assert!(!proxy.folder().join("proxy.sock").exists());
}

impl crate::support::Client {
    /// Waits for the end of some service.
    fn find_down(&mut self) {
        loop {
            let line = self.expect("service.run\t");
            if line.split('\t').nth(3) == Some("down") {
                return;
            }
        }
    }
}

fn log_dir(proxy: &Proxy) -> String {
    proxy.folder().join("log/web").display().to_string()
}

/// Linux 6.18 kills children that are born into a new group by a process of a group that was killed
/// before.
#[test]
fn a_group_that_was_killed_as_a_whole_can_be_used_again() {
    let Some(group) = Proxy::make_group() else {
        return;
    };
    Group::ensure(&group, "own").unwrap().kill().unwrap();
    let proxy = Proxy::start_in(Some(group));
    let mut client = proxy.connect();
    client.accepted("service.args\tweb\t/bin/true");
    client.accepted("service.start\tweb\t0");
    let end = client.expect_run("web", 1, "down");
    assert_eq!(end, ("exit".to_owned(), "0".to_owned()));
}
