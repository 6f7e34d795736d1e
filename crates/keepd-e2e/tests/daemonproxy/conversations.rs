//! Whole conversations: a configuration file with a log writer, a controller that is restarted and
//! learns everything again, jobs in the background.

use std::fs;

use keepd_model::Signal;
use keepd_testkit::daemonproxy::{Daemonproxy, PATIENCE, Setup};
use keepd_testkit::{free_port, kill, wait_until};

use crate::services::{deleted, expect_down, expect_start, expect_up, read, wait_for_dumped};

/// A log writer takes one line in each run; what was written between two runs waits in the pipe.
#[test]
fn restarting_a_log_writer_loses_nothing() {
    let config = "# a program, and its log writer\n\
        fd.pipe\tweblog.out\tweblog.in\n\
        service.tags\tweblog\tkind=logger\tof=web\n\
        service.args\tweblog\tsh\t-c\tread -r line; echo \"$line\" >>log\n\
        service.fds\tweblog\tweblog.out\tnull\tstderr\n\
        service.auto_up\tweblog\t1\talways\n\
        \n\
        service.args\tweb\tsh\t-c\techo one; echo two; echo three; exec sleep 1000\n\
        service.fds\tweb\tnull\tweblog.in\tweblog.in\n\
        service.auto_up\tweb\t5\talways\n";
    let setup = Setup::new().file("config", config).options(["-c", "config", "-S", "ctl"]);
    let mut proxy = setup.start();
    let mut client = proxy.client("ctl");
    wait_until("three lines of log", PATIENCE, || {
        let log = fs::read_to_string(proxy.path("log")).unwrap_or_default();
        (log.lines().count() >= 3).then_some(())
    });
    assert_eq!(read(&proxy, "log"), "one\ntwo\nthree\n");
    client.send("statedump");
    client.expect("fd.state\tweblog.in\tpipe\tto\tweblog.out");
    client.expect("service.state\tweb\tup\t{num}\t{pid}\t-\t-\t{num}\t-");
}

/// A listener outlives the service that accepts from it: no client is refused meanwhile.
#[test]
fn restarting_a_server_refuses_nobody() {
    let port = free_port();
    let config = format!(
        "fd.socket\tweb.listen\ttcp,listen=64\t127.0.0.1:{port}\n\
        service.args\tweb\tsleep\t1000\n\
        service.fds\tweb\tnull\tnull\tnull\tweb.listen\n\
        service.auto_up\tweb\t1\talways\n"
    );
    let setup = Setup::new().file("config", &config).options(["-c", "config"]);
    let (_proxy, mut controller) = Daemonproxy::interactive_with(setup);
    wait_for_dumped(&mut controller, "service.auto_up\tweb\t1\talways");
    let mut connections = Vec::new();
    for _ in 0..2 {
        controller.send("statedump");
        let (_, pid) = expect_up(&mut controller, "web");
        connections.push(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
        kill(pid);
        expect_down(&mut controller, "web");
        // Nobody accepts now, and still nobody is refused.
        connections.push(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
        expect_start(&mut controller, "web");
        assert_ne!(expect_up(&mut controller, "web").1, pid);
    }
}

/// The controller that the next test restarts: it asks for everything, writes down what it hears
/// up to its marker, and ends in its first run.
const BOSS: &str = "#!/bin/sh
printf 'conn.event_timeout\\t5\\t20\\nstatedump\\necho\\t--sync--\\t%s\\n' $$
while IFS= read -r line; do
    printf '%s\\n' \"$line\" >>heard.$$
    case $line in --sync--*) break;; esac
done
mv heard.$$ table.$$
[ -e second ] || { : >second; exit 7; }
while IFS= read -r line; do
    case $line in
    signal*SIGTERM*)
        printf 'signal.clear\\tSIGTERM\\t1\\nservice.auto_up\\tweb\\t-\\n'
        printf 'service.signal\\tweb\\tSIGTERM\\n';;
    service.state*web*down*) printf 'terminate\\t5\\n';;
    esac
done
";

/// A controller that dies is started again, hears its own `up` first, learns everything by a dump,
/// and acts; the services have not noticed.
#[test]
fn a_controller_can_be_restarted() {
    let config = "service.args\tweb\tsleep\t1000\n\
        service.auto_up\tweb\t5\talways\n\
        service.args\tboss\tsh\t./boss\n\
        service.fds\tboss\tcontrol.event\tcontrol.cmd\tstderr\n\
        service.auto_up\tboss\t1\talways\n";
    let setup = Setup::new().file("config", config).file("boss", BOSS);
    let mut proxy = setup.options(["-c", "config"]).start();
    let tables = || -> Vec<String> {
        let names = fs::read_dir(proxy.folder()).unwrap().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| Some(name.to_str()?.strip_prefix("table.")?.to_owned())).collect()
    };
    let pids = wait_until("two tables", PATIENCE, || {
        let found = tables();
        (found.len() == 2).then_some(found)
    });
    let mut states = Vec::new();
    for pid in &pids {
        let table = read(&proxy, &format!("table.{pid}"));
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("service.state\tboss\tup\t"), "{table}");
        assert!(lines[0].contains(&format!("\t{pid}\t")), "{table}");
        assert_eq!(*lines.last().unwrap(), format!("--sync--\t{pid}"), "{table}");
        assert!(lines.contains(&"service.args\tweb\tsleep\t1000"), "{table}");
        assert!(lines.contains(&"service.auto_up\tweb\t5\talways"), "{table}");
        let state = lines.iter().rfind(|line| line.starts_with("service.state\tweb\tup\t"));
        let fields: Vec<&str> = state.unwrap().split('\t').collect();
        states.push(fields[3..5].join(" "));
    }
    assert_eq!(states[0], states[1], "web has the same process in both tables");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit(), 5);
}

/// A client makes a job and leaves; another one finds it by its tags, learns how it ended, and
/// deletes it (A7).
#[test]
fn jobs_run_in_the_background() {
    let (mut proxy, mut submitter) = Daemonproxy::with_socket();
    for line in [
        "service.tags\tjob.17\towner=alice\tqueue=thumbs",
        "service.args\tjob.17\tsh\t-c\techo made >album-17",
        "service.fds\tjob.17\tnull\tnull\tstderr",
    ] {
        submitter.send(line);
        submitter.expect_next(line);
    }
    submitter.send("service.start\tjob.17");
    submitter.expect_next("service.state\tjob.17\tstart\t{num}\t-\t-\t-\t-\t-");
    submitter.expect_next("service.state\tjob.17\tup\t{num}\t{pid}\t-\t-\t0\t-");
    drop(submitter);
    let mut other = proxy.client("ctl");
    wait_until("the job is done", PATIENCE, || {
        let begin = "service.state\tjob.17\tdown\t";
        other.ask("statedump").iter().any(|line| line.starts_with(begin)).then_some(())
    });
    assert_eq!(read(&proxy, "album-17"), "made\n");
    let state = "service.state\tjob.17\tdown\t{num}\t{pid}\texit\t0\t{num}\t{num}";
    other.send("statedump");
    other.send("echo\tq1");
    other.expect(state);
    other.expect("service.tags\tjob.17\towner=alice\tqueue=thumbs");
    other.expect("q1");
    other.answers("service.delete\tjob.17", &deleted("job.17"));
}

/// Several controllers see one world: what the one does, the other hears at once.
#[test]
fn two_controllers_share_one_world() {
    let (mut proxy, mut one) = Daemonproxy::with_socket();
    let mut two = proxy.client("ctl");
    two.sync();
    one.send("service.args\tx\tsleep\t1000");
    two.expect_next("service.args\tx\tsleep\t1000");
    two.send("service.start\tx");
    let pid = expect_up(&mut one, "x").1;
    assert_eq!(expect_up(&mut two, "x").1, pid);
    kill(pid);
    assert_eq!(expect_down(&mut two, "x"), "signal SIGKILL");
    two.send("service.delete\tx");
    one.expect(&deleted("x"));
}
