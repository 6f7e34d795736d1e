//! `keepd proxy` alone, spoken to by hand: the conversations of `docs/protocol.md`, line by line.
//! (behaviour 1.6, 1.8, 3.15)

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, Running, free_port, keepd_program, signal, wait_until};

/// The page, as it is in the repository.
const PAGE: &str = include_str!("../../../../docs/protocol.md");

/// The page with the options.
const OPTIONS_PAGE: &str = include_str!("../../../../docs/daemonproxy.md");

/// How the page starts the proxy.
const START: &str = "keepd proxy -S p.sock --run-dir .";

/// One thing that a reader of the page does or sees.
#[derive(Debug)]
enum Step {
    Say(String),
    Hear(String),
    /// "Kill it from elsewhere": the service "worker".
    KillWorker(Signal),
    /// "Send one from elsewhere", to the proxy.
    TellProxy(Signal),
}

/// Reads the part of the page between two headings.
fn steps(from: &str, to: &str) -> Vec<Step> {
    assert!(PAGE.contains(&format!("\n{START}\n")), "the page starts a proxy in another way");
    let begin = PAGE.find(from).expect("the page has the section");
    let section = &PAGE[begin..];
    let section = &section[..section.find(to).expect("the next section follows")];
    let mut steps = Vec::new();
    for line in section.lines() {
        if let Some(line) = line.strip_prefix("C> ") {
            steps.push(Step::Say(line.replace('⇥', "\t")));
        } else if let Some(line) = line.strip_prefix("P> ") {
            steps.push(Step::Hear(line.replace('⇥', "\t")));
        } else if line.contains("`kill -ABRT ") {
            steps.push(Step::KillWorker(Signal::new(6).unwrap()));
        } else if line.contains("`kill -TERM`") {
            steps.push(Step::TellProxy(Signal::TERM));
        }
    }
    assert!(steps.len() > 45, "the page has a long conversation");
    steps
}

/// A connection to a proxy.
pub(crate) struct Connection {
    lines: BufReader<UnixStream>,
    /// Process ids by service, from what was heard.
    pub(crate) pids: BTreeMap<String, u32>,
}

impl Connection {
    pub(crate) fn new(socket: &Path) -> Self {
        let stream =
            wait_until("the socket of the proxy", LONG, || UnixStream::connect(socket).ok());
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { lines: BufReader::new(stream), pids: BTreeMap::new() }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.lines.get_mut().write_all(line.as_bytes()).unwrap();
    }

    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap_or_else(|error| panic!("nothing is said: {error}"));
        let line = line.strip_suffix('\n').expect("the proxy goes on").to_owned();
        let fields: Vec<&str> = line.split('\t').collect();
        if let ["service.run", name, _, "forked" | "up", _, pid, ..] = fields[..] {
            self.pids.insert(name.to_owned(), pid.parse().unwrap());
        }
        line
    }

    /// Connects, and speaks the extended language.
    pub(crate) fn extended(socket: &Path) -> Self {
        let mut connection = Self::new(socket);
        connection.say("proto\tkeepd\t1");
        connection.hear_until("proto\t");
        connection
    }

    /// Says each command with the next of the numbers from 1, and hears that it was accepted.
    pub(crate) fn accepted(&mut self, commands: &[&str]) {
        for (command, number) in commands.iter().zip(1..) {
            self.say(&format!("@{number}\t{command}"));
            let answer = loop {
                let line = self.hear();
                if line.starts_with("ok\t") || line.starts_with("fail\t") {
                    break line;
                }
            };
            assert_eq!(answer, format!("ok\t{number}"), "{command}");
        }
    }

    /// Hears a line of this shape. With `only_new`, handles that the proxy has from its start may
    /// be told before it.
    #[track_caller]
    fn hear_shape(&mut self, expected: &str, only_new: bool) {
        let expected = shape(expected);
        loop {
            let line = self.hear();
            if shape(&line) == expected {
                return;
            }
            let is_left_out = only_new && line.starts_with("fd.state\t");
            assert!(is_left_out, "{line} was said instead of {expected}");
        }
    }

    /// Hears lines up to the first that begins so, and returns that.
    pub(crate) fn hear_until(&mut self, start: &str) -> String {
        loop {
            let line = self.hear();
            if line.starts_with(start) {
                return line;
            }
        }
    }
}

/// Makes lines of different days comparable: times, process ids and identities are only marked.
fn shape(line: &str) -> String {
    let mut fields: Vec<&str> = line.split('\t').collect();
    let mark = |field: &mut &str| {
        if *field != "-" {
            *field = "*";
        }
    };
    match fields[..] {
        ["service.run", ..] => {
            fields[4..6].iter_mut().for_each(mark);
            // Whether there is a core is a matter of the machine.
            if fields[6] == "core" {
                fields[6] = "signal";
            }
        }
        ["service.invocation", ..] | ["service.notify", ..] => {
            fields[3..4].iter_mut().for_each(mark);
        }
        ["service.state", _, _, _, _, _, _, _, _] => {
            fields[3..5].iter_mut().for_each(mark);
            fields[7..9].iter_mut().for_each(mark);
        }
        ["signal", ..] => fields[2..3].iter_mut().for_each(mark),
        _ => {}
    }
    fields.join("\t")
}

pub(crate) fn start_proxy(project: &Project) -> Running {
    let program = keepd_program();
    let folder = program.parent().unwrap().to_str().unwrap();
    let mut command = project.command(&program);
    command
        .env("PATH", format!("{folder}:/usr/bin:/bin"))
        .env("EDITOR", "ed")
        // `keepd demo web` listens there.
        .env("PORT", free_port().to_string())
        .args(START.split(' ').skip(1));
    Running::start(&mut command)
}

#[test]
fn the_plain_conversation_of_the_page_can_be_had() {
    let project = Project::new("");
    let proxy = start_proxy(&project);
    let mut connection = Connection::new(&project.path("p.sock"));
    for step in steps("### Two services and what is between them", "### A file of commands") {
        match step {
            Step::Say(line) => connection.say(&line),
            Step::Hear(line) => connection.hear_shape(&line, true),
            Step::TellProxy(number) => proxy.signal(number),
            Step::KillWorker(_) => panic!("the page kills nobody here"),
        }
    }
    // Its last words are "terminate", 0.
    proxy.wait().expect_code(0);
}

#[test]
fn the_extended_conversation_of_the_page_can_be_had() {
    let project = Project::new("");
    let proxy = start_proxy(&project);
    let socket = project.path("p.sock");
    let mut connection = Connection::new(&socket);
    for step in steps("## The same, extended", "## Grammar") {
        match step {
            Step::Say(line) => connection.say(&line),
            Step::Hear(line) => connection.hear_shape(&line, true),
            Step::KillWorker(number) => assert!(signal(connection.pids["worker"], number)),
            Step::TellProxy(_) => panic!("the page tells the proxy nothing here"),
        }
    }

    // "Close the connection, and `web` runs on. Connect again, dump, and you know what you knew."
    let web = connection.pids["web"];
    drop(connection);
    let mut connection = Connection::new(&socket);
    connection.say("proto\tkeepd\t1");
    connection.say("statedump");
    let mut dump = Vec::new();
    loop {
        let line = connection.hear();
        let is_end = line.starts_with("dump.end\t");
        dump.push(line);
        if is_end {
            break;
        }
    }
    assert_eq!(connection.pids["web"], web);
    assert!(dump.contains(&"service.note\tweb\twanted\tup, by alice".to_owned()), "{dump:?}");
    assert!(!dump.iter().any(|line| line.contains("worker")), "{dump:?}");

    connection.say("@1\tservice.stop\tweb\t2");
    assert_eq!(connection.hear(), "ok\t1");
    while !connection.hear().starts_with("service.run\tweb\t2\tdown\t") {}
    connection.say("@2\tterminate\t9");
    assert_eq!(proxy.wait().code(), 9);
    let left = project.processes();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_option_of_the_proxy_is_on_its_page() {
    let help = Project::new("").keepd(["proxy", "--help"]).expect_code(1).stdout;
    let options: Vec<&str> = help
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-')
        .filter(|word| word.starts_with("--"))
        .collect();
    assert!(options.len() >= 10, "{help}");
    for option in options {
        assert!(OPTIONS_PAGE.contains(&format!("`{option}")), "{option} is not on the page");
    }
}

#[test]
fn a_plain_connection_hears_what_daemonproxy_says() {
    let project = Project::new("");
    let proxy = start_proxy(&project);
    let mut connection = Connection::new(&project.path("p.sock"));
    connection.say("service.args\tjob\tsh\t-c\texit 3");
    assert_eq!(connection.hear(), "service.args\tjob\tsh\t-c\texit 3");
    connection.say("service.start\tjob");
    let state = |line: &str| {
        let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        assert_eq!(fields[..2], ["service.state", "job"], "{line}");
        [&fields[2], &fields[5], &fields[6]].map(ToString::to_string)
    };
    assert_eq!(state(&connection.hear()), ["start", "-", "-"]);
    assert_eq!(state(&connection.hear()), ["up", "-", "-"]);
    assert_eq!(state(&connection.hear()), ["down", "exit", "3"]);
    connection.say("service.strat\tjob");
    assert_eq!(connection.hear(), "error\tunknown command: service.strat");
    connection.say("echo\t--sync--\t17");
    assert_eq!(connection.hear(), "--sync--\t17");
    connection.say("terminate\t0");
    proxy.wait().expect_code(0);
}
