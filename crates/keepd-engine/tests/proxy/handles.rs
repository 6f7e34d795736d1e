//! Behaviour 17: handles, and the lists that hand them to services.

use keepd_engine::proxy::{
    ControlEnd, DescriptorId, DescriptorList, DescriptorSource, Input, Output, Performed, Settings,
    Ticket,
};
use keepd_model::protocol::{Attributes, Command, Request, RequestId};
use keepd_model::{
    Address, Domain, Errno, Exit, FdSlot, HandleKind, HandleReport, OpenFlags, PipeSpec,
    SocketSpec, SocketType,
};

use crate::driver::*;

fn open(text: &str) -> Command {
    let flags = OpenFlags { write: true, append: true, ..OpenFlags::default() };
    Command::HandleOpen { name: handle_name(text), flags, path: b"/log".to_vec() }
}

fn pipe(read: &str, write: &str) -> Command {
    Command::HandlePipe {
        read: handle_name(read),
        write: handle_name(write),
        spec: PipeSpec { socket: None, nonblock: false },
    }
}

fn socket(text: &str) -> Command {
    let spec = SocketSpec {
        domain: Domain::Inet,
        kind: SocketType::Stream,
        bind: Some(Address::Inet([0; 4], 80)),
        address_text: b"*:80".to_vec(),
        listen: Some(32),
        nonblock: false,
        mkdir: false,
    };
    Command::HandleSocket { name: handle_name(text), spec }
}

fn take(text: &str) -> Command {
    Command::HandleTake { name: handle_name(text) }
}

fn delete(text: &str) -> Command {
    Command::HandleDelete { name: handle_name(text) }
}

fn fds(words: &[&str]) -> Command {
    let slot = |word: &&str| match *word {
        "-" => FdSlot::Closed,
        "" => FdSlot::Skipped,
        text => FdSlot::Handle(handle_name(text)),
    };
    Command::ServiceFds { name: name("web"), slots: words.iter().map(slot).collect() }
}

/// Returns a machine with the handle `null` (descriptor 1), [`BOSS`] and [`TYPIST`].
fn driver() -> Driver {
    let mut driver =
        Driver::with_settings(Settings { handles: vec![null()], ..Settings::default() });
    driver.connect(BOSS);
    driver.connect(TYPIST);
    driver
}

/// Returns what a dump says of handles.
fn dumped(driver: &mut Driver) -> Vec<String> {
    let lines = driver.say(TYPIST, Command::StateDump);
    lines.into_iter().filter(|line| line.starts_with("2> handle")).collect()
}

#[test]
fn a_handle_is_made_when_the_call_succeeded() {
    // (behaviour 17.1, 17.3)
    let mut driver = driver();
    assert_eq!(driver.ask(open("a")), ["perform 1: open 2 write,append /log"]);
    assert!(driver.proxy.handle("a").is_none());
    assert_eq!(
        driver.performed(1),
        ["1> ok 1", "1> handle a file write,append /log", "2> handle a file write,append /log"]
    );
    assert_eq!(driver.performed(1), [""; 0], "an answer counts once");
    assert_eq!(driver.say(TYPIST, socket("s")), ["perform 2: socket 3 *:80"]);
    let told = "handle s socket inet stream true Some(32) *:80";
    assert_eq!(driver.performed(2), [format!("1> {told}"), format!("2> {told}")]);
    assert_eq!(
        dumped(&mut driver),
        [
            "2> handle a file write,append /log",
            "2> handle control.cmd special write commands to the proxy",
            "2> handle control.event special read events of the proxy",
            "2> handle control.socket special read,write commands to the proxy and its events",
            "2> handle null special read,write /dev/null",
            "2> handle s socket inet stream true Some(32) *:80",
        ]
    );
    assert_eq!(driver.proxy.handle_count(), 6);
}

#[test]
fn what_the_kernel_refuses_changes_nothing() {
    // (behaviour 17.3)
    let mut driver = driver();
    driver.ask(open("a"));
    driver.performed(1);
    driver.say(TYPIST, open("a"));
    assert_eq!(
        driver.not_performed(2, "open", Some(Errno::ENOENT)),
        ["2> error cannot make handle \"a\": cannot open: no such file or directory"]
    );
    driver.say(TYPIST, socket("s"));
    assert_eq!(
        driver.not_performed(3, "bind", Some(Errno(98))),
        ["2> error cannot make handle \"s\": cannot bind: address already in use"]
    );
    driver.say(TYPIST, pipe("r", "w"));
    assert_eq!(
        driver.not_performed(4, "socketpair", Some(Errno(95))),
        ["2> error cannot make handle \"r\" and \"w\": cannot socketpair: operation not supported"]
    );
    driver.ask(take("t"));
    assert_eq!(driver.not_performed(5, "no descriptor came", None), ["1> fail 2 system"]);
    assert_eq!(driver.proxy.handle_count(), 5);
}

#[test]
fn a_replaced_handle_is_closed_and_not_told_as_deleted() {
    // (behaviour 17.4)
    let mut driver = driver();
    driver.ask(open("a"));
    driver.performed(1);
    driver.ask(open("a"));
    assert_eq!(
        driver.performed(2),
        [
            "close descriptor 2",
            "1> ok 2",
            "1> handle a file write,append /log",
            "2> handle a file write,append /log"
        ]
    );
    assert_eq!(
        driver.ask(delete("a")),
        ["close descriptor 3", "1> ok 3", "1> handle a deleted", "2> handle a deleted"]
    );
    assert_eq!(driver.ask(delete("a")), ["1> fail 4 malformed"]);
    assert_eq!(
        driver.say(TYPIST, delete("a")),
        ["2> error cannot delete handle \"a\": it does not exist"]
    );
}

#[test]
fn a_pipe_names_its_other_end_while_that_is_there() {
    // (behaviour 17.5)
    let mut driver = driver();
    assert_eq!(driver.ask(pipe("r", "w")), ["perform 1: pipe 2 3"]);
    assert_eq!(
        driver.performed(1),
        [
            "1> ok 1",
            "1> handle r pipe from w",
            "2> handle r pipe from w",
            "1> handle w pipe to r",
            "2> handle w pipe to r"
        ]
    );
    driver.ask(open("w"));
    driver.performed(2);
    let of_r = |driver: &Driver| driver.proxy.handle("r").unwrap().description;
    assert_eq!(of_r(&driver), b"?");
    // Another pipe under one of the names is another pipe.
    driver.ask(pipe("x", "r"));
    assert_eq!(
        driver.performed(3),
        [
            "close descriptor 2",
            "1> ok 3",
            "1> handle x pipe from r",
            "2> handle x pipe from r",
            "1> handle r pipe to x",
            "2> handle r pipe to x"
        ]
    );
    driver.ask(delete("x"));
    assert_eq!(of_r(&driver), b"?");
    assert_eq!(
        driver.say(TYPIST, pipe("q", "q")),
        ["2> error cannot make handle \"q\": the ends of a pipe have two names"]
    );
}

#[test]
fn both_ends_of_a_socket_pair_are_written() {
    let mut driver = driver();
    let spec = PipeSpec { socket: Some((Domain::Unix, SocketType::Datagram)), nonblock: false };
    let (read, write) = (handle_name("s"), handle_name("t"));
    driver.say(TYPIST, Command::HandlePipe { read, write, spec });
    let told = driver.performed(1);
    assert_eq!([&told[0], &told[2]], ["1> handle s pipe to t", "1> handle t pipe to s"]);
}

#[test]
fn built_in_handles_cannot_be_changed() {
    // (behaviour 17.2)
    let mut driver = driver();
    for text in ["null", "control.cmd", "control.event", "control.socket"] {
        for command in
            [open(text), socket(text), pipe("r", text), pipe(text, "w"), take(text), delete(text)]
        {
            let lines = driver.say(TYPIST, command);
            let why = format!("handle \"{text}\": it is built in and not alterable");
            assert!(lines.len() == 1 && lines[0].ends_with(&why), "{lines:?}");
        }
    }
}

#[test]
fn a_taken_descriptor_is_what_the_shell_finds() {
    // (behaviour 17.6)
    let mut driver = driver();
    assert_eq!(driver.ask(take("t")), ["perform 1: take 2 from 1"]);
    let flags = OpenFlags { read: true, ..OpenFlags::default() };
    let outcome = Ok(Performed::Taken(HandleKind::File(flags)));
    assert_eq!(
        driver.give(Input::Performed { ticket: Ticket(1), outcome }),
        ["1> ok 1", "1> handle t file read unknown", "2> handle t file read unknown"]
    );
}

#[test]
fn there_is_a_limit_of_handles() {
    // (behaviour 17.1)
    let report = |number| HandleReport { name: handle_name(&format!("fd_{number}")), ..null() };
    let handles = (0..19_996).map(report).collect();
    let mut driver = Driver::with_settings(Settings { handles, ..Settings::default() });
    driver.connect(TYPIST);
    let refusal = "2> error cannot allocate a new file descriptor object: there are 20000 already";
    assert_eq!(driver.say(TYPIST, pipe("r", "w")), [refusal]);
    assert_eq!(driver.say(TYPIST, pipe("r", "fd_1")), ["perform 1: pipe 19997 19998"]);
    driver.performed(1);
    assert_eq!(driver.say(TYPIST, open("more")), [refusal]);
    assert_eq!(driver.say(TYPIST, open("fd_1")).len(), 1);
    assert_eq!(driver.performed(2)[0], "close descriptor 19998");
}

/// Starts `web` and returns the descriptors of the start.
fn descriptors(driver: &mut Driver, id: u64, expected: u64) -> Option<DescriptorList> {
    let command = start("web", expected);
    let request = Request::Numbered(RequestId(1_000 + id), command);
    let outputs = driver.drive(Input::Request { connection: BOSS, request });
    let spawn = outputs.into_iter().find_map(|output| match output {
        Output::Spawn(spawn) => Some(spawn),
        _ => None,
    });
    spawn.unwrap().descriptors
}

#[test]
fn a_list_is_looked_up_at_each_start() {
    // (behaviour 17.7, 17.8)
    let mut driver = driver();
    driver.ask(set(
        "web",
        Attributes { place: keepd_model::protocol::Place::None, ..Attributes::default() },
    ));
    driver.ask(arguments("web"));
    assert_eq!(
        driver.ask(fds(&["null", "-", "a", "null"])),
        ["1> ok 3", "2> web fds null - a null"]
    );
    driver.ask(open("a"));
    driver.performed(1);
    let held = |number| DescriptorSource::Held(DescriptorId(number));
    let list = descriptors(&mut driver, 0, 0).unwrap();
    assert_eq!(list.sources, [held(1), DescriptorSource::Closed, held(2), held(1)]);
    assert_eq!(list.control, None);
    driver.spawned(service("web", 1), 100);
    driver.ask(open("a"));
    driver.performed(2);
    driver.reaped(100, Exit::Code(0));
    let list = descriptors(&mut driver, 1, 1).unwrap();
    assert_eq!(list.sources[2], held(3));
}

#[test]
fn a_list_may_name_what_is_not_there() {
    // (behaviour 17.8, 17.9)
    let mut driver = driver();
    driver.ask(arguments("web"));
    assert_eq!(driver.ask(fds(&["", "gone", "null"])), ["1> ok 2", "2> web fds '' gone null"]);
    assert_eq!(
        driver.ask(start("web", 0))[1..],
        [
            "log warning: an empty name in the descriptor list of service \"web\" is skipped",
            "log error: cannot give handle \"gone\" to service \"web\": it does not exist",
            "1> web 1 invocation",
            "2> web 1 invocation",
            "spawn web.1",
        ]
    );
    driver.not_spawned(service("web", 1));
    let list = descriptors(&mut driver, 0, 1).unwrap();
    let null = DescriptorSource::Held(DescriptorId(1));
    assert_eq!(list.sources, [DescriptorSource::Missing, null]);
}

#[test]
fn control_handles_are_one_connection_for_each_start() {
    // (behaviour 17.10)
    let mut driver = driver();
    driver.ask(arguments("web"));
    let cases = [
        (&["null"][..], None),
        (&["control.cmd"], Some((true, false))),
        (&["control.event", "control.event"], Some((false, true))),
        (&["control.event", "control.cmd"], Some((true, true))),
        (&["control.socket"], Some((true, true))),
    ];
    for (generation, (words, expected)) in (0..).zip(cases) {
        driver.ask(fds(words));
        let list = descriptors(&mut driver, generation, generation).unwrap();
        let end = expected.map(|(commands, events)| ControlEnd { commands, events });
        assert_eq!(list.control, end, "{words:?}");
        assert_eq!(list.sources.len(), words.len());
        if end.is_some() {
            assert!(list.sources.iter().all(|source| *source == DescriptorSource::Control));
        }
        driver.not_spawned(service("web", generation + 1));
    }
}

#[test]
fn a_list_is_in_dumps_once_it_was_set_and_may_be_empty() {
    // (behaviour 17.7, 5.6)
    let mut driver = driver();
    driver.ask(arguments("web"));
    let lists = |driver: &mut Driver| {
        let lines = driver.say(TYPIST, Command::StateDump);
        lines.into_iter().filter(|line| line.contains(" fds ")).collect::<Vec<_>>()
    };
    assert_eq!(lists(&mut driver), [""; 0]);
    assert_eq!(descriptors(&mut driver, 0, 0), None);
    driver.not_spawned(service("web", 1));
    driver.ask(fds(&[]));
    assert_eq!(lists(&mut driver), ["2> web fds "]);
    let list = descriptors(&mut driver, 1, 1).unwrap();
    assert_eq!(list, DescriptorList { sources: Vec::new(), control: None });
    let details = driver.proxy.service("web").unwrap();
    assert_eq!(details.fds().unwrap().count(), 0);
}

#[test]
fn the_latest_of_a_handle_is_kept_for_who_is_full() {
    // (behaviour 5.12)
    let mut driver = driver();
    driver.give(Input::Full { connection: TYPIST });
    driver.ask(open("a"));
    driver.performed(1);
    driver.ask(open("b"));
    driver.performed(2);
    driver.ask(delete("a"));
    assert_eq!(
        driver.give(Input::Drained { connection: TYPIST }),
        ["2> handle a deleted", "2> handle b file write,append /log"]
    );
}
