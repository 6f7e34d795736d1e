//! Commands in the context of a service, and what services say of themselves.

use std::os::unix::net::UnixDatagram;

use crate::support::{Grouping, Proxy};

const BOTH: [Grouping; 2] = [Grouping::Cgroup, Grouping::Environment];

#[test]
fn a_command_answers_with_its_end_and_its_output() {
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        client.accepted("service.args\tweb\t/bin/sleep\t1000");
        client.accepted("service.env\tweb\t+A=1");
        let job = client.command(
            "service.exec\tweb\t20000\t/bin/sh\t-c\t\
             echo out $A $KEEPD_SERVICE; echo err >&2; exit 3",
        );
        assert_eq!(client.answer(job), format!("ok\t{job}\texit\t3\tout 1 web\\nerr\\n"));
        let missing = client.command("service.exec\tweb\t20000\t/nonexistent");
        let answer = client.answer(missing);
        assert!(answer.starts_with(&format!("fail\t{missing}\tspawn\texec\t2\t")), "{answer}");
    }
}

#[test]
fn a_command_is_killed_at_its_deadline_with_all_its_children() {
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        client.accepted("service.args\tweb\t/bin/sleep\t1000");
        let job = client.command(
            "service.exec\tweb\t100\t/bin/sh\t-c\ttrap '' TERM; setsid sleep 1000 & sleep 1000",
        );
        let answer = client.answer(job);
        assert!(answer.starts_with(&format!("fail\t{job}\tdeadline\t")), "{answer}");
        // The next one only runs to its end if the proxy is still well; its output is cut, not its
        // end.
        let job = client.command("service.exec\tweb\t20000\t/bin/sh\t-c\tyes | head -c 1000000");
        let answer = client.answer(job);
        assert!(answer.starts_with(&format!("ok\t{job}\texit\t0\ty\\ny\\n")), "{answer}");
    }
}

#[test]
fn notifications_are_forwarded_also_when_the_service_ends_at_once() {
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        let program = std::env::current_exe().unwrap();
        client.accepted(&format!(
            "service.args\tweb\t{}\t--exact\tjobs::says_ready_when_it_is_run_as_a_service",
            program.display()
        ));
        client.accepted("service.set\tweb\tnotify=yes");
        client.accepted("service.start\tweb\t0");
        let line = client.expect("service.notify\tweb\t1\t");
        assert!(line.ends_with("\tREADY=1\\nSTATUS=fine"), "{line}");
        let end = client.expect_run("web", 1, "down");
        assert_eq!(end, ("exit".to_owned(), "0".to_owned()));
    }
}

/// Not a test of its own: the service of the test above.
#[test]
fn says_ready_when_it_is_run_as_a_service() {
    if std::env::var_os("KEEPD_SERVICE").is_none() {
        return;
    }
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1\nSTATUS=fine", path).unwrap();
}
