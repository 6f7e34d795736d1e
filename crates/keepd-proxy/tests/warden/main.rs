//! What a proxy leaves, and what its successor finds: real proxies under a warden that kills them.
//!
//! The warden is this process, so there are no test threads: it is the parent of whatever a proxy
//! leaves behind. Words on the command line choose cases.

#[expect(dead_code, reason = "these cases need a part of what the others need")]
#[path = "../proxy/support.rs"]
mod support;
mod warden;

use std::os::unix::net::UnixStream;
use std::path::Path;

use keepd_model::{Exit, Generation, Pid, Signal};
use keepd_os::{process, signals};
use keepd_proxy::channel::ToWarden;
use keepd_proxy::estate::{Entry, Label};
use keepd_wire::ledger::State;
use keepd_wire::ledger::keeper::Slot;
use support::{Client, Grouping};
use warden::Warden;

/// A case and its name.
type Case = (&'static str, fn(&mut Warden));

const CASES: [Case; 17] = [
    ("adopted", what_runs_is_adopted_with_everything_that_is_known_of_it),
    ("gap", an_end_while_there_is_no_proxy_is_told_with_its_status),
    ("later", the_end_of_what_was_adopted_is_told_and_a_trigger_starts_it_again),
    ("signals", what_was_adopted_can_be_signalled_and_stopped),
    ("torn", a_torn_end_of_the_journal_is_cut_off),
    ("damaged", what_is_damaged_is_refused_and_not_touched),
    ("cancelled", a_start_that_never_was_one_is_told_as_cancelled),
    ("acknowledged", what_was_acknowledged_is_not_told_again),
    ("compacted", a_long_journal_is_replaced_by_what_still_holds),
    ("configured", a_configuration_is_read_once),
    ("half", a_configuration_that_was_read_half_is_read_again_and_starts_nothing_twice),
    ("handles", handles_and_what_is_said_outlive_their_proxy),
    ("again", a_successor_can_be_lost_as_well),
    ("both", where_both_were_lost_the_ledger_is_enough),
    ("unanswered", nothing_is_told_before_it_is_written_down),
    ("asked", who_was_asked_to_end_leaves_nothing),
    ("lost", a_proxy_takes_the_place_of_a_lost_warden),
];

fn main() {
    process::become_subreaper().unwrap();
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let cases = CASES.into_iter().filter(|(name, _)| {
        chosen.is_empty() || chosen.iter().any(|word| name.contains(word.as_str()))
    });
    for (name, case) in cases {
        for grouping in [Grouping::Environment, Grouping::Cgroup] {
            let group = match grouping {
                Grouping::Environment => None,
                Grouping::Cgroup => match support::Proxy::make_group() {
                    Some(group) => Some(group),
                    None => continue,
                },
            };
            case(&mut Warden::new(name, group));
            println!("{name}, {grouping:?}: ok");
        }
    }
}

/// Connects an extended controller.
fn connect(warden: &Warden) -> Client {
    let stream = UnixStream::connect(warden.folder().join("proxy.sock")).unwrap();
    let mut client = Client::new(stream);
    client.send("proto\tkeepd\t1");
    client.expect("proto\tkeepd\t1");
    client
}

/// Defines a service that runs a script, and starts it; returns its process.
fn run_script(client: &mut Client, name: &str, script: &str) -> Pid {
    client.accepted(&format!("service.args\t{name}\t/bin/sh\t-c\t{script}"));
    client.accepted(&format!("service.start\t{name}"));
    pid_of(&client.expect(&format!("service.run\t{name}\t1\tup\t")))
}

fn pid_of(line: &str) -> Pid {
    Pid::new(line.split('\t').nth(5).unwrap().parse().unwrap()).unwrap()
}

/// A script that makes a file of this name when it is told to go on, and ends with this code.
fn until_told(warden: &Warden, code: u8) -> String {
    format!("read line < {} ; exit {code}", warden.path("gate"))
}

/// Makes the pipe on which scripts wait.
fn make_gate(warden: &Warden) {
    let path = warden.path("gate");
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Lets one script go on.
fn open_gate(warden: &Warden) {
    std::fs::write(warden.path("gate"), "\n").unwrap();
}

fn dump(client: &mut Client) -> Vec<String> {
    client.send("statedump");
    let until = std::time::Instant::now() + warden::DEADLINE;
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.starts_with("dump.end\t")) {
        lines.push(client.next_line(until).expect("a dump has an end"));
    }
    lines
}

/// Asks for dumps until there is one with lines that start like this.
fn dump_with(client: &mut Client, starts: &[&str]) -> Vec<String> {
    let until = std::time::Instant::now() + warden::DEADLINE;
    loop {
        let lines = dump(client);
        if starts.iter().all(|start| lines.iter().any(|line| line.starts_with(start))) {
            return lines;
        }
        assert!(std::time::Instant::now() < until, "no {starts:?}: {lines:#?}");
    }
}

fn what_runs_is_adopted_with_everything_that_is_known_of_it(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    let folder = warden.path("logs");
    client.accepted(&format!("service.log\tweb\tmode=file\tdir={folder}"));
    client.accepted("service.env\tweb\t+COLOUR=blue");
    client.accepted("service.note\tweb\treason\tbecause\\tit\\\\is so");
    let script = "echo one; while read line; do echo \\\"$line\\\"; done < gate";
    let script = script.replace("gate", &warden.path("gate")).replace("\\\"", "\"");
    make_gate(warden);
    let pid = run_script(&mut client, "web", &script);
    let invocation = dump(&mut client);
    let invocation = line_of(&invocation, "service.invocation\tweb\t1\t");
    warden.wait_for("its pipes", |warden| warden.holds(|label| matches!(label, Label::Log { .. })));
    let before = warden.proxy();
    warden.kill_proxy();
    warden.recover();

    warden.start(&[]);
    assert_ne!(warden.proxy(), before);
    let mut client = connect(warden);
    let lines = dump(&mut client);
    for start in [
        format!("service.args\tweb\t/bin/sh\t-c\t{script}"),
        "service.env\tweb\t+COLOUR=blue".to_owned(),
        format!("service.log\tweb\tmode=file\tdir={folder}"),
        "service.note\tweb\treason\tbecause\\tit\\\\is so".to_owned(),
        invocation,
        "service.run\tweb\t1\tup\t".to_owned(),
    ] {
        line_of(&lines, &start);
    }
    assert_eq!(pid_of(&line_of(&lines, "service.run\tweb\t1\tup\t")), pid);
    assert!(!warden.holds(|label| matches!(label, Label::Pidfd { .. })), "no longer needed");
    // Nobody has noticed anything: its output goes on.
    client.accepted("conn.log\ton");
    open_gate(warden);
    client.expect("service.output\tweb\tout\t5");
    assert_eq!(std::fs::read_to_string(Path::new(&folder).join("out.log")).unwrap(), "one\n\n");
}

fn line_of(lines: &[String], start: &str) -> String {
    let found = lines.iter().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start:?} in {lines:#?}")).clone()
}

fn an_end_while_there_is_no_proxy_is_told_with_its_status(warden: &mut Warden) {
    warden.start(&[]);
    make_gate(warden);
    let mut client = connect(warden);
    let script = until_told(warden, 7);
    let pid = run_script(&mut client, "web", &script);
    warden.kill_proxy();
    open_gate(warden);
    assert_eq!(warden.wait_for_end(pid), Exit::Code(7));
    warden.recover();
    warden.start(&[]);
    let mut client = connect(warden);
    client.send("statedump");
    // Others of its group might be left, so it may be told first that these are waited for.
    let (how, value) = client.expect_run("web", 1, "down");
    assert_eq!((how.as_str(), value.as_str()), ("exit", "7"));
    client.accepted("service.start\tweb");
    client.expect("service.run\tweb\t2\tup\t");
}

fn the_end_of_what_was_adopted_is_told_and_a_trigger_starts_it_again(warden: &mut Warden) {
    warden.start(&[]);
    make_gate(warden);
    let mut client = connect(warden);
    let script = until_told(warden, 3);
    run_script(&mut client, "web", &script);
    client.accepted("service.auto_up\tweb\t1\talways");
    warden.kill_proxy();
    warden.recover();
    warden.start(&[]);
    let mut client = connect(warden);
    line_of(&dump(&mut client), "service.run\tweb\t1\tup\t");
    open_gate(warden);
    // We are its parent now: the proxy hears of it when we have consumed it.
    warden.wait_for("its end", |warden| {
        let cells = warden.cells().unwrap();
        let slot = Warden::slot_of(&cells, "web");
        let word = Slot::new(&cells, slot).word().unwrap();
        word.generation() == Generation::new(2) || matches!(word.state(), State::Down(_))
    });
    let (how, value) = client.expect_run("web", 1, "down");
    assert_eq!((how.as_str(), value.as_str()), ("exit", "3"));
    client.expect("service.run\tweb\t2\tup\t");
}

fn what_was_adopted_can_be_signalled_and_stopped(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    let mark = warden.path("mark");
    let script =
        format!("trap 'echo got > {mark}; exit 0' USR1; while read x < {mark}.none; do :; done");
    make_gate(warden);
    std::fs::rename(warden.path("gate"), format!("{mark}.none")).unwrap();
    let pid = run_script(&mut client, "web", &script);
    let other = run_script(&mut client, "other", "sleep 1000");
    warden.kill_proxy();
    warden.recover();
    warden.start(&[]);
    let mut client = connect(warden);
    client.accepted("service.signal\tweb\t-\tSIGUSR1\tmain");
    assert_eq!(warden.wait_for_end(pid), Exit::Code(0));
    let (how, value) = client.expect_run("web", 1, "down");
    assert_eq!((how.as_str(), value.as_str()), ("exit", "0"));
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "got\n");
    client.accepted("service.stop\tother\t1");
    assert_eq!(warden.wait_for_end(other), Exit::Signal { signal: Signal::TERM, core: false });
    let (how, value) = client.expect_run("other", 1, "down");
    assert_eq!((how.as_str(), value.as_str()), ("signal", "SIGTERM"));
}

fn a_torn_end_of_the_journal_is_cut_off(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    client.accepted("service.args\tweb\t/bin/true");
    warden.kill_proxy();
    warden.recover();
    let path = warden.folder().join("journal");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"torn"].concat()).unwrap();
    warden.start(&[]);
    let mut client = connect(warden);
    line_of(&dump(&mut client), "service.args\tweb\t/bin/true");
    assert_eq!(std::fs::read(&path).unwrap()[..whole.len()], whole[..]);
    let log = warden.log();
    assert!(log.contains("(4 bytes) was torn before it was answered"), "{log}");
}

fn what_is_damaged_is_refused_and_not_touched(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    client.accepted("service.args\tweb\t/bin/sleep\t1000");
    client.accepted("service.start\tweb");
    let pid = pid_of(&client.expect("service.run\tweb\t1\tup\t"));
    warden.kill_proxy();
    warden.recover();
    for name in ["journal", "ledger"] {
        let path = warden.folder().join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[600 % whole.len()] ^= 1;
        if name == "ledger" {
            damaged[20] ^= 1;
        }
        std::fs::write(&path, &damaged).unwrap();
        warden.launch(&[]);
        let (exit, said) = warden.wait_for_proxy();
        let is_refused = matches!(&said[..], [ToWarden::Refused(_)]);
        assert!(exit == Exit::Code(6) && is_refused, "{name}: {exit}, {said:?}, {}", warden.log());
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "{name}");
        let log = warden.log();
        let sentence = format!("fatal: cannot use the {name}: ");
        assert!(log.contains(&sentence) && log.contains("; nothing was touched"), "{log}");
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(signals::send_number(pid, 0, false), Ok(()), "it still runs");
    warden.start(&[]);
    let lines = dump(&mut connect(warden));
    assert_eq!(pid_of(&line_of(&lines, "service.run\tweb\t1\tup\t")), pid);
}

fn a_start_that_never_was_one_is_told_as_cancelled(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    client.accepted("service.args\tweb\t/bin/sleep\t1000");
    client.accepted("service.start\tweb");
    client.expect("service.run\tweb\t1\tup\t");
    client.accepted("service.stop\tweb\t1");
    client.expect("service.run\tweb\t1\tdown\t");
    client.accepted("service.ack\tweb\t1");
    warden.kill_proxy();
    // As if it had been lost a moment later, between the intent and the clone.
    let cells = warden.cells().unwrap();
    let slot = Slot::new(&cells, Warden::slot_of(&cells, "web"));
    slot.intend(Generation::new(2)).unwrap();
    warden.recover();
    warden.start(&[]);
    let mut client = connect(warden);
    client.send("statedump");
    let (how, value) = client.expect_run("web", 2, "down");
    assert_eq!((how.as_str(), value.as_str()), ("cancelled", "-"));
    client.accepted("service.start\tweb");
    client.expect("service.run\tweb\t3\tup\t");
}

fn what_was_acknowledged_is_not_told_again(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    client.accepted("service.args\tweb\t/bin/sh\t-c\texit 4");
    client.accepted("service.args\tother\t/bin/sh\t-c\texit 5");
    for name in ["web", "other"] {
        client.accepted(&format!("service.start\t{name}"));
        client.expect(&format!("service.run\t{name}\t1\tdown\t"));
    }
    client.accepted("service.ack\tweb\t1");
    warden.kill_proxy();
    warden.recover();
    warden.start(&[]);
    let mut client = connect(warden);
    let known = line_of(&dump(&mut client), "service.run\tweb\t1\tdown\t");
    assert!(known.ends_with("\t-\t-"), "{known}");
    client.send("statedump");
    let (how, value) = client.expect_run("other", 1, "down");
    assert_eq!((how.as_str(), value.as_str()), ("exit", "5"));
}

fn a_long_journal_is_replaced_by_what_still_holds(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    client.accepted("service.args\tweb\t/bin/sleep\t1000");
    client.accepted("service.start\tweb");
    let pid = pid_of(&client.expect("service.run\tweb\t1\tup\t"));
    let value = "x".repeat(2000);
    for number in 0..100 {
        client.accepted(&format!("service.note\tweb\tlast\t{number}{value}"));
    }
    let length = std::fs::metadata(warden.folder().join("journal")).unwrap().len();
    assert!(length < 150_000, "{length} bytes are left of 200,000");
    warden.kill_proxy();
    warden.recover();
    warden.start(&[]);
    let lines = dump(&mut connect(warden));
    line_of(&lines, &format!("service.note\tweb\tlast\t99{value}"));
    assert_eq!(pid_of(&line_of(&lines, "service.run\tweb\t1\tup\t")), pid);
}

fn a_configuration_is_read_once(warden: &mut Warden) {
    let path = warden.path("conf");
    std::fs::write(&path, "service.args\tweb\t/bin/true\n").unwrap();
    warden.start(&["--config", &path]);
    let mut client = connect(warden);
    line_of(&dump(&mut client), "service.args\tweb\t/bin/true");
    client.accepted("service.delete\tweb");
    warden.kill_proxy();
    warden.recover();
    warden.start(&["--config", &path]);
    let lines = dump(&mut connect(warden));
    assert!(!lines.iter().any(|line| line.starts_with("service.args")), "{lines:#?}");
}

fn a_configuration_that_was_read_half_is_read_again_and_starts_nothing_twice(warden: &mut Warden) {
    let count = warden.path("count");
    let script = |name: &str, rest: &str| {
        let args = format!("service.args\t{name}\t/bin/sh\t-c\techo {name} >> {count}; {rest}");
        format!("{args}\nservice.start\t{name}\t0\n")
    };
    let half = format!(
        "proto\tkeepd\t1\n{}{}service.note\tlong\tread\thalf\n",
        script("once", "exit 3"),
        script("long", "exec sleep 1000")
    );
    let path = warden.path("conf");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Both ends are here, so it has no end.
    let pipe = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &pipe, half.as_bytes()).unwrap();
    warden.start(&["--config", &path]);
    let mut client = connect(warden);
    dump_with(&mut client, &["service.run\tonce\t1\tdown\t", "service.run\tlong\t1\tup\t"]);
    warden.kill_proxy();
    warden.recover();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, format!("{half}{}", script("last", "exit 0"))).unwrap();
    warden.start(&["--config", &path]);
    let mut client = connect(warden);
    let lines = dump_with(&mut client, &["service.run\tlast\t1\tdown\t"]);
    line_of(&lines, "service.run\tlong\t1\tup\t");
    line_of(&lines, "service.run\tonce\t1\tdown\t");
    let text = std::fs::read_to_string(&count).unwrap();
    let mut started: Vec<&str> = text.lines().collect();
    started.sort_unstable();
    assert_eq!(started, ["last", "long", "once"], "{}", warden.log());
}

fn handles_and_what_is_said_outlive_their_proxy(warden: &mut Warden) {
    warden.start(&[]);
    make_gate(warden);
    let mut client = connect(warden);
    let file = warden.path("file");
    client.accepted(&format!("fd.open\tout\twrite,create\t{file}"));
    client.accepted("fd.delete\tstdin");
    let handles = |lines: Vec<String>| -> Vec<String> {
        let is_state = |line: &String| line.starts_with("fd.state\t") && !line.ends_with("deleted");
        lines.into_iter().filter(is_state).collect()
    };
    let before = handles(dump(&mut client));
    client.accepted("service.set\tweb\tready_fd=3");
    let script = format!("read line < {}; echo >&3; sleep 1000", warden.path("gate"));
    run_script(&mut client, "web", &script);
    warden.kill_proxy();
    open_gate(warden);
    warden.recover();
    warden.start(&[]);
    let mut client = connect(warden);
    assert_eq!(handles(dump(&mut client)), before);
    client.accepted("service.fds\tlate\tnull\tout\tout");
    client.accepted("service.args\tlate\t/bin/echo\tit works");
    client.accepted("service.start\tlate");
    client.expect_run("late", 1, "down");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "it works\n");
    client.send("statedump");
    client.expect("service.notify\tweb\t1\t");
}

fn a_successor_can_be_lost_as_well(warden: &mut Warden) {
    warden.start(&[]);
    make_gate(warden);
    let mut client = connect(warden);
    let script = until_told(warden, 5);
    let pid = run_script(&mut client, "web", &script);
    client.accepted("service.auto_up\tweb\t1\talways");
    for round in 0..3 {
        warden.kill_proxy();
        warden.recover();
        warden.start(&[]);
        let mut client = connect(warden);
        let lines = dump(&mut client);
        assert_eq!(pid_of(&line_of(&lines, "service.run\tweb\t1\tup\t")), pid, "{round}");
        client.accepted(&format!("service.note\tweb\tround\t{round}"));
    }
    warden.kill_proxy();
    open_gate(warden);
    assert_eq!(warden.wait_for_end(pid), Exit::Code(5));
    warden.recover();
    warden.start(&[]);
    let mut client = connect(warden);
    client.send("statedump");
    client.expect("service.note\tweb\tround\t2");
    // Its trigger goes on, and the child of the successor is as good as that of the first.
    client.expect("service.run\tweb\t2\tup\t");
    open_gate(warden);
    let (how, value) = client.expect_run("web", 2, "down");
    assert_eq!((how.as_str(), value.as_str()), ("exit", "5"));
}

fn where_both_were_lost_the_ledger_is_enough(warden: &mut Warden) {
    warden.start(&[]);
    make_gate(warden);
    let mut client = connect(warden);
    let folder = warden.path("logs");
    client.accepted(&format!("service.log\tweb\tmode=file\tdir={folder}"));
    let script = format!("read line < {}; echo said", warden.path("gate"));
    let pid = run_script(&mut client, "web", &script);
    warden.kill_proxy();
    // A warden that is started afterwards holds nothing.
    warden.forget_all();
    warden.start(&[]);
    let mut client = connect(warden);
    let lines = dump(&mut client);
    assert_eq!(pid_of(&line_of(&lines, "service.run\tweb\t1\tup\t")), pid);
    line_of(&lines, "fd.state\tnull\t");
    client.accepted("service.stop\tweb\t1");
    warden.wait_for_end(pid);
    let (how, value) = client.expect_run("web", 1, "down");
    assert_eq!((how.as_str(), value.as_str()), ("signal", "SIGTERM"));
    client.accepted("service.start\tweb");
    client.expect("service.run\tweb\t2\tup\t");
    open_gate(warden);
    client.expect_run("web", 2, "down");
    assert_eq!(std::fs::read_to_string(Path::new(&folder).join("out.log")).unwrap(), "said\n");
}

fn nothing_is_told_before_it_is_written_down(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    let mut accepted = 0;
    for number in 0..50 {
        client.accepted(&format!("service.note\tweb\tn{number}\tx"));
        accepted += 1;
    }
    // More that nobody waits for.
    for number in 50..100 {
        client.command(&format!("service.note\tweb\tn{number}\tx"));
    }
    warden.kill_proxy();
    warden.recover();
    let told = client.rest().iter().filter(|line| line.starts_with("ok\t")).count();
    accepted += told;
    warden.start(&[]);
    let lines = dump(&mut connect(warden));
    let kept = lines.iter().filter(|line| line.starts_with("service.note\tweb\tn")).count();
    assert!(kept >= accepted, "{accepted} were told, and {kept} are there");
}

fn who_was_asked_to_end_leaves_nothing(warden: &mut Warden) {
    warden.start(&[]);
    let mut client = connect(warden);
    client.accepted("service.args\tweb\t/bin/true");
    client.send("terminate\t9");
    assert_eq!(warden.wait_for_proxy(), (Exit::Code(9), vec![ToWarden::Exit(9)]));
    for name in ["ledger", "journal", "proxy.sock"] {
        assert!(!warden.folder().join(name).exists(), "{name}");
    }
}

fn a_proxy_takes_the_place_of_a_lost_warden(warden: &mut Warden) {
    // What it becomes is another program of ours, which says what it was given.
    let mark = warden.path("mark");
    let script = format!("echo $PPID $@ > {mark}.new; cat <&3 >> {mark}.new; mv {mark}.new {mark}");
    let words = ["--", "/bin/sh", "-c", &script, "sh"];
    warden.write(&Entry::Warden(words.iter().map(|word| word.as_bytes().to_vec()).collect()));
    warden.start(&[]);
    let mut client = connect(warden);
    let folder = warden.path("logs");
    client.accepted(&format!("service.log\tweb\tmode=file\tdir={folder}"));
    let pid = run_script(&mut client, "web", "sleep 1000");
    let proxy = warden.proxy();
    warden.vanish();
    let (exit, _) = warden.wait_for_proxy();
    assert_eq!(exit, Exit::Code(0), "{}", warden.log());
    let said = std::fs::read_to_string(&mark).unwrap();
    let (given, estate) = said.split_once('\n').unwrap();
    assert_eq!(given, format!("{proxy} --estate 3"));
    assert!(estate.contains("\tlistener\t") && estate.contains("\tlog\tweb\tout\n"), "{estate}");
    assert_eq!(signals::send_number(pid, 0, false), Ok(()), "it still runs");
}
