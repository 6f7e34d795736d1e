//! `keepd proxy --warden` with controllers of its own, and `keepd run -- COMMAND`: the loss of a
//! process of keepd is not noticed there either.
//! (behaviour 20.3, 20.13, 20.14)

use std::fs;
use std::net::TcpStream;

use keepd_testkit::torture::Victim;
use keepd_testkit::{LONG, Project, Running, free_port, wait_for_end, wait_until};

use crate::b0900_protocol::Connection;
use crate::b1700_controllers::proxy_command;
use crate::b1900_never_lost::Keepd;
use crate::b1910_ends_in_a_gap::{make_gate, open_gate};

/// Returns a plain dump.
fn dump(connection: &mut Connection) -> Vec<String> {
    connection.say("statedump");
    connection.say("echo\tdumped");
    let mut lines = Vec::new();
    loop {
        match connection.hear() {
            line if line == "dumped" => return lines,
            line => lines.push(line),
        }
    }
}

/// Returns the process id in a `service.state`.
fn pid_in(line: &str) -> u32 {
    line.split('\t').nth(4).unwrap().parse().unwrap()
}

#[test]
fn a_controller_of_a_lost_proxy_connects_again() {
    let project = Project::new("");
    let words = ["--warden", "--run-dir", "run", "-S", "proxy.sock"];
    let mut proxy = Running::start(&mut proxy_command(&project, &words));
    let socket = project.path("proxy.sock");
    let keepd = Keepd::without_manager(&project);
    let port = free_port();

    let mut connection = Connection::new(&socket);
    connection.say(&format!("fd.socket\tweb.listen\ttcp,listen=8\t127.0.0.1:{port}"));
    connection.hear_until("fd.state\tweb.listen\t");
    connection.say("fd.pipe\twords.out\twords.in");
    connection.hear_until("fd.state\twords.in\t");
    connection.say("service.fds\tweb\tnull\twords.in\twords.in");
    connection.say("service.args\tweb\tsh\t-c\techo hello; exec sleep 1000");
    connection.say("service.start\tweb");
    let pid = pid_in(&connection.hear_until("service.state\tweb\tup\t"));

    for victim in [Victim::Proxy, Victim::Warden, Victim::Proxy] {
        keepd.lose(&[victim]);
        let lines = dump(&mut Connection::new(&socket));
        let one = |start: &str| {
            let found: Vec<&String> = lines.iter().filter(|line| line.starts_with(start)).collect();
            assert_eq!(found.len(), 1, "{start}: {lines:#?}");
            found[0].as_str()
        };
        one("fd.state\tweb.listen\t");
        one("fd.state\twords.out\t");
        one("service.args\tweb\tsh\t-c\t");
        assert_eq!(pid_in(one("service.state\tweb\tup\t")), pid);
    }
    assert!(!proxy.is_running(), "its process was the first warden");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "nobody listens on port {port}");

    // What the service wrote is still in the pipe; and it ends as it is told.
    let mut connection = Connection::new(&socket);
    connection.say("service.fds\treader\twords.out\tnull\tnull");
    connection.say("service.args\treader\tsh\t-c\thead -c 6 > said; exit 5");
    connection.say("service.start\treader");
    let down = connection.hear_until("service.state\treader\tdown\t");
    assert!(down.contains("\texit\t5\t"), "{down}");
    assert_eq!(fs::read_to_string(project.path("said")).unwrap(), "hello\n");
    connection.say("service.signal\tweb\tSIGTERM");
    let down = connection.hear_until("service.state\tweb\tdown\t");
    assert!(down.contains("\tsignal\tSIGTERM\t"), "{down}");

    let keepers = keepd.complete();
    connection.say("terminate\t0");
    for pid in [keepers.warden, keepers.proxy].into_iter().flatten() {
        assert!(wait_for_end(pid, LONG), "{pid} goes on");
    }
}

/// A project with a named pipe, and a command that ends when somebody writes a line into it.
fn start_command(project: &Project) -> Running {
    make_gate(project);
    let script = "echo $$ > pid; read line < gate; echo \"$line\"; exit 7";
    let run = project.start_keepd(["run", "--", "sh", "-c", script]);
    wait_until("the command", LONG, || {
        fs::read_to_string(project.path("pid")).ok().filter(|text| text.ends_with('\n'))
    });
    run
}

#[test]
fn a_command_and_its_status_outlive_the_proxy() {
    let project = Project::new("");
    let run = start_command(&project);
    let keepd = Keepd::of(&project);
    keepd.lose(&[Victim::Proxy]);
    // Also when it ends while nobody is there.
    let command: u32 = fs::read_to_string(project.path("pid")).unwrap().trim().parse().unwrap();
    keepd.without_proxy(|| {
        open_gate(&project.path("gate"), "good bye\n");
        assert!(wait_for_end(command, LONG), "{command} goes on");
    });
    let end = run.wait().expect_code(7);
    assert_eq!(end.stdout, "good bye\n");
    let left = project.processes();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_command_outlives_keepd_run_itself() {
    let project = Project::new("");
    let run = start_command(&project);
    Keepd::of(&project).lose(&[Victim::Warden]);
    run.wait().expect_code(128 + 9);
    open_gate(&project.path("gate"), "good bye\n");
    wait_until("the end of everything", LONG, || project.processes().is_empty().then_some(()));
}
