//! Who is signalled, and who is waited for: `kill_mode=main`, `service.signal`, MAINPID.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use keepd_model::Generation;
use keepd_model::protocol::Stream;
use keepd_os::sweep;
use keepd_wire::index::{IndexKind, decode_all};

use crate::support::{Client, Grouping, Proxy};

const BOTH: [Grouping; 2] = [Grouping::Cgroup, Grouping::Environment];

/// Lets `web` be a shell script that ends alone.
fn set_up(client: &mut Client, script: &str) {
    client.accepted(&format!("service.args\tweb\t/bin/sh\t-c\t{script}"));
    client.accepted("service.set\tweb\tkill_mode=main");
}

/// Runs a shell command as a job, which must succeed; returns its output.
fn job(client: &mut Client, script: &str) -> String {
    let job = client.command(&format!("service.exec\tweb\t20000\t/bin/sh\t-c\t{script}"));
    let answer = client.answer(job);
    let output = answer.strip_prefix(&format!("ok\t{job}\texit\t0\t"));
    output.unwrap_or_else(|| panic!("{script}: {answer}")).to_owned()
}

/// Waits in a job, because the proxy's end is the deadline of that.
fn wait_until(client: &mut Client, condition: &str) {
    job(client, &format!("until {condition}; do sleep 0.01; done"));
}

/// Starts the next generation of `web`; returns its mark.
fn start(client: &mut Client, last: u64) -> String {
    client.accepted(&format!("service.start\tweb\t{last}"));
    let invocation = client.expect("service.invocation\tweb\t");
    client.expect_run("web", last + 1, "up");
    format!("INVOCATION_ID={}", invocation.rsplit('\t').next().unwrap())
}

/// Stops `web`; returns the states that were told.
fn stop(client: &mut Client, generation: u64) -> Vec<String> {
    client.accepted(&format!("service.stop\tweb\t{generation}"));
    states_to_down(client)
}

fn states_to_down(client: &mut Client) -> Vec<String> {
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state != "down") {
        let line = client.expect("service.run\tweb\t");
        states.push(line.split('\t').nth(3).unwrap().to_owned());
    }
    states
}

fn marked(mark: &str) -> Vec<sweep::Process> {
    sweep::processes_marked(mark.as_bytes()).unwrap()
}

fn leaves(proxy: &Proxy) -> Vec<String> {
    let mut leaves = proxy.group().map(|group| group.children().unwrap()).unwrap_or_default();
    leaves.retain(|leaf| leaf.starts_with("s."));
    leaves.sort();
    leaves
}

/// A script whose main process is a sleep, with one more in a session of its own.
fn leaving(proxy: &Proxy) -> String {
    let there = proxy.folder().join("there");
    format!(
        "rm -f {0}; setsid sh -c 'echo > {0}; exec sleep 1000' & exec sleep 1000",
        there.display()
    )
}

#[test]
fn with_main_others_live_on_and_nobody_waits_for_them() {
    // (behaviour 3.23, 3.24)
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        set_up(&mut client, &leaving(&proxy));
        let there = format!("[ -e {} ]", proxy.folder().join("there").display());
        let first = start(&mut client, 0);
        wait_until(&mut client, &there);
        assert_eq!(stop(&mut client, 1), ["stopping", "down"]);
        assert_eq!(marked(&first).len(), 1, "one is left");

        start(&mut client, 1);
        wait_until(&mut client, &there);
        if proxy.group().is_some() {
            assert_eq!(leaves(&proxy), ["s.web.1", "s.web.2"]);
        }
        client.accepted("service.signal\tweb\t2\tSIGKILL\tall");
        assert_eq!(states_to_down(&mut client), ["down"]);
        assert_eq!(marked(&first).len(), 1, "a signal for all is for all of one generation");

        let left = marked(&first).remove(0);
        left.signal(keepd_model::Signal::KILL).unwrap();
        if let Some(group) = proxy.group() {
            let leaf = group.path().join("s.web.1");
            wait_until(&mut client, &format!("[ ! -e {} ]", leaf.display()));
        }
    }
}

#[test]
fn kill_of_main_hits_only_the_main_process() {
    // (behaviour 3.23)
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        let script = leaving(&proxy).replace("exec sleep 1000", "trap '' TERM; sleep 1000");
        // Only the outer shell is to be found by its name.
        set_up(&mut client, &format!("trap '' TERM; {script}; :"));
        client.accepted("service.set\tweb\tkill_mode=main\tstop_timeout_ms=50");
        let mark = start(&mut client, 0);
        let there = format!("[ -e {} ]", proxy.folder().join("there").display());
        wait_until(&mut client, &there);
        client.accepted("service.stop\tweb\t1");
        client.expect_run("web", 1, "stopping");
        let end = client.expect_run("web", 1, "down");
        assert_eq!(end, ("signal".to_owned(), "SIGKILL".to_owned()));
        assert!(!marked(&mark).is_empty(), "the others got nothing");
    }
}

#[test]
fn what_is_left_goes_on_writing_while_the_next_generation_runs() {
    // (behaviour 3.24)
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        let go = proxy.folder().join("go");
        let log = proxy.folder().join("log/web");
        set_up(
            &mut client,
            &format!("(until [ -e {} ]; do sleep 0.01; done; echo late) & echo one", go.display()),
        );
        client.accepted(&format!("service.log\tweb\tmode=file\tdir={}", log.display()));
        client.accepted("conn.log\ton");
        client.accepted("service.start\tweb\t0");
        client.expect("service.output\tweb\tout\t4");
        client.expect_run("web", 1, "down");
        let written = || std::fs::read_to_string(log.join("out.log")).unwrap();
        assert_eq!(written(), "one\n", "the output of a run is complete at its end");

        set_up(&mut client, "echo two; exec sleep 1000");
        client.accepted("service.start\tweb\t1");
        client.expect("service.output\tweb\tout\t8");
        std::fs::write(&go, "").unwrap();
        client.expect("service.output\tweb\tout\t13");
        assert_eq!(written(), "one\ntwo\nlate\n");
        let (records, damaged) = decode_all(&std::fs::read(log.join("index")).unwrap());
        assert_eq!(damaged, 0);
        let of_output: Vec<_> = records
            .iter()
            .filter(|record| record.stream == Stream::Out)
            .map(|record| (record.kind, record.offset, record.generation))
            .collect();
        let [first, second] = [1, 2].map(Generation::new);
        assert_eq!(
            of_output,
            [
                (IndexKind::Start, 0, first),
                (IndexKind::Chunk, 0, first),
                (IndexKind::Start, 4, second),
                (IndexKind::Chunk, 4, second),
                (IndexKind::Chunk, 8, second),
            ]
        );
    }
}

#[test]
fn a_service_that_was_deleted_and_made_again_is_not_in_the_way_of_itself() {
    // (behaviour 3.24)
    let Some(proxy) = Proxy::start_with(Grouping::Cgroup) else {
        return;
    };
    let mut client = proxy.connect();
    let there = format!("[ -e {} ]", proxy.folder().join("there").display());
    set_up(&mut client, &leaving(&proxy));
    let first = start(&mut client, 0);
    wait_until(&mut client, &there);
    stop(&mut client, 1);
    client.accepted("service.delete\tweb");

    set_up(&mut client, &leaving(&proxy));
    start(&mut client, 0);
    wait_until(&mut client, &there);
    let names = leaves(&proxy);
    assert!(names.len() == 2 && names[0] == "s.web.1", "{names:?}");
    assert!(names[1].starts_with("s.web.1+"), "{names:?}");
    let aside = proxy.group().unwrap().child(&names[1]).unwrap();
    let pids: Vec<_> = marked(&first).iter().map(|process| process.pid).collect();
    assert_eq!(aside.pids().unwrap(), pids);
    assert_eq!(stop(&mut client, 1), ["stopping", "down"]);

    aside.kill().unwrap();
    wait_until(&mut client, &format!("[ ! -e {} ]", aside.path().display()));
}

#[test]
fn what_is_left_cannot_speak_for_the_next_generation() {
    // (behaviour 3.24)
    let Some(proxy) = Proxy::start_with(Grouping::Cgroup) else {
        return;
    };
    let mut client = proxy.connect();
    let path = proxy.folder().join("test.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let program = std::env::current_exe().unwrap();
    let told = "--exact modes::says_ready_when_it_is_told_to";
    set_up(&mut client, &format!("{} {told} & exec sleep 1000", program.display()));
    client.accepted("service.set\tweb\tkill_mode=main\tnotify=yes");
    client.accepted(&format!("service.env\tweb\t+TEST_SOCKET={}", path.display()));
    start(&mut client, 0);
    let (mut left, _) = listener.accept().unwrap();
    stop(&mut client, 1);
    set_up(&mut client, "exec sleep 1000");
    client.accepted("service.set\tweb\tkill_mode=main\tnotify=yes");
    start(&mut client, 1);
    left.write_all(b"!").unwrap();
    // It answers when it has spoken.
    left.read_exact(&mut [0]).unwrap();
    client.send("statedump");
    let mut dump = Vec::new();
    while dump.last().is_none_or(|line: &String| !line.starts_with("dump.end")) {
        dump.push(client.expect(""));
    }
    assert!(!dump.iter().any(|line| line.starts_with("service.notify")), "{dump:#?}");
}

/// Not a test of its own: what is left behind in the test above.
#[test]
fn says_ready_when_it_is_told_to() {
    let Some(path) = std::env::var_os("TEST_SOCKET") else {
        return;
    };
    let mut test = UnixStream::connect(path).unwrap();
    test.read_exact(&mut [0]).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", std::env::var_os("NOTIFY_SOCKET").unwrap()).unwrap();
    test.write_all(b"!").unwrap();
    // Who has ended cannot be found in its group.
    let _ = test.read_exact(&mut [0]);
}

#[test]
fn a_signal_goes_to_the_main_process_or_to_all() {
    // (behaviour 2.6)
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        let folder = proxy.folder().display().to_string();
        // A shell runs its trap when its child has ended, and the sleeps get the signal, too.
        let hears = |who: &str| {
            format!(
                "trap 'echo {who} >> {folder}/heard' USR1; echo > {folder}/{who}; \
                 while :; do sleep 0.01; done"
            )
        };
        std::fs::write(proxy.folder().join("other.sh"), hears("other")).unwrap();
        let script = format!("setsid sh {folder}/other.sh & {}", hears("main"));
        client.accepted(&format!("service.args\tweb\t/bin/sh\t-c\t{script}"));
        start(&mut client, 0);
        wait_until(&mut client, &format!("[ -e {folder}/main -a -e {folder}/other ]"));
        client.accepted("service.signal\tweb\t1\tSIGUSR1\tmain");
        wait_until(&mut client, &format!("grep -q main {folder}/heard"));
        client.accepted("service.signal\tweb\t-\tSIGUSR1\tall");
        wait_until(&mut client, &format!("grep -q other {folder}/heard"));
        wait_until(&mut client, &format!("[ $(grep -c main {folder}/heard) = 2 ]"));
        let heard = std::fs::read_to_string(proxy.folder().join("heard")).unwrap();
        assert_eq!(heard.matches("other").count(), 1, "{heard}");
    }
}

#[test]
fn a_job_knows_the_main_process_while_there_is_one() {
    // (behaviour 4.8)
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    client.accepted("service.args\tweb\t/bin/sleep\t1000");
    let shows = "echo ${MAINPID-none}";
    assert_eq!(job(&mut client, shows), "none\\n");
    client.accepted("service.start\tweb\t0");
    let up = client.expect("service.run\tweb\t1\tup\t");
    let pid = up.split('\t').nth(5).unwrap();
    assert_eq!(job(&mut client, shows), format!("{pid}\\n"));
    stop(&mut client, 1);
    assert_eq!(job(&mut client, shows), "none\\n");
}
