//! The handles that are there at the start, and what each mode does to the standard descriptors.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use keepd_testkit::daemonproxy::Conversation;
use keepd_testkit::{LONG, Running, wait_until};

use crate::place::{NONBLOCK, Place, Proxy, handle, handles, link};

/// The built-in handles, as a dump shows their names.
const BUILT_IN: [&str; 7] =
    ["control.cmd", "control.event", "control.socket", "null", "stderr", "stdin", "stdout"];

/// Where the descriptors 0, 1 and 2 of a service with stdin, stdout and stderr lead.
#[track_caller]
fn standard(place: &Place, talk: &mut Conversation) -> [String; 3] {
    // Each link is read with descriptor 1 elsewhere, so a copy of it is looked at instead.
    let script = "exec 3>&1 > $OUT; for fd in 0 3 2; do readlink /proc/$$/fd/$fd; done";
    let seen = place.in_service(talk, "stdin\tstdout\tstderr", script);
    let links: Vec<String> = seen.lines().map(str::to_owned).collect();
    links.try_into().unwrap_or_else(|links| panic!("not three lines: {links:?}"))
}

/// The seven built-in handles are there, and none of the proxy's own descriptors is.
#[test]
fn the_built_in_handles_are_there_and_nothing_else() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-S", "sock"]);
    assert_eq!(handles(&mut proxy.talk), BUILT_IN);
    let mut other = place.connect("sock", &proxy);
    assert_eq!(handles(&mut other), BUILT_IN);
}

/// What `fd.state` says of `null` and the three virtual handles.
#[test]
fn the_special_handles_have_their_types_and_flags() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    let null = handle(&mut proxy.talk, "null").unwrap();
    assert_eq!(null, "fd.state\tnull\tspecial\tread,write\t/dev/null");
    let names = [("control.cmd", "write"), ("control.event", "read")];
    for (name, flags) in names.into_iter().chain([("control.socket", "read,write")]) {
        let line = handle(&mut proxy.talk, name).unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[..4], ["fd.state", name, "special", flags]);
        assert_eq!(fields.len(), 5, "{line:?}");
    }
}

/// Built-in handles cannot be deleted, nor replaced.
#[test]
fn four_handles_are_unalterable() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    for name in ["null", "control.cmd", "control.event", "control.socket"] {
        proxy.talk.refuses(&format!("fd.delete\t{name}"), &[]);
        proxy.talk.refuses(&format!("fd.open\t{name}\tread\t/dev/zero"), &[]);
        proxy.talk.refuses(&format!("fd.pipe\t{name}\tx"), &[]);
        proxy.talk.refuses(&format!("fd.pipe\tx\t{name}"), &[]);
        proxy.talk.refuses(&format!("fd.socket\t{name}\tunix"), &[]);
    }
    assert_eq!(handles(&mut proxy.talk), BUILT_IN);
}

/// `stdin`, `stdout`, `stderr` and `fd_N` can be replaced and deleted.
#[test]
fn inherited_handles_can_be_replaced_and_deleted() {
    let place = Place::new();
    let mut proxy = place.start_with_socket(&mut place.after("exec 7</dev/zero", &["-S", "sock"]));
    for name in ["stdin", "stdout", "stderr", "fd_7"] {
        let open = format!("fd.open\t{name}\twrite\t/dev/null");
        let state = format!("fd.state\t{name}\tfile\twrite\t/dev/null");
        assert_eq!(proxy.talk.ask(open), [state]);
        let deleted = format!("fd.state\t{name}\tdeleted");
        assert_eq!(proxy.talk.ask(format!("fd.delete\t{name}")), [deleted]);
    }
    assert_eq!(handles(&mut proxy.talk), &BUILT_IN[..4]);
}

/// A standard descriptor whose handle goes is let go of: the other end of its pipe is at its end.
#[test]
fn a_deleted_standard_handle_is_closed() {
    for (name, redirection, change) in [
        ("stdout", ">", "fd.delete\tstdout"),
        ("stderr", "2>", "fd.delete\tstderr"),
        ("stdout", ">", "fd.open\tstdout\twrite\t/dev/null"),
    ] {
        let place = Place::new();
        let path = place.fifo("fifo");
        let mut reader =
            File::options().read(true).custom_flags(NONBLOCK.cast_signed()).open(path).unwrap();
        let before = format!("exec {redirection}fifo");
        let mut proxy = place.start_with_socket(&mut place.after(&before, &["-S", "sock"]));
        place.in_service(&mut proxy.talk, &format!("null\tnull\t{name}"), "echo hello >&2");
        let mut text = [0; 100];
        assert_eq!(reader.read(&mut text).unwrap(), "hello\n".len(), "{name}");
        let open = reader.read(&mut text).unwrap_err();
        assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock, "{name}");
        proxy.talk.ask(change);
        assert_eq!(reader.read(&mut text).unwrap(), 0, "{change}");
        proxy.talk.sync();
    }
}

/// Inspection of what is inherited: access mode, append, nonblock; the description is "unknown".
#[test]
fn inherited_files_are_inspected() {
    let place = Place::new();
    let before = "exec 3<one 4>two 5>>three 6<>four 9<&3 0</etc/passwd 1>>out";
    place.write("one", "");
    let mut proxy = place.start_with_socket(&mut place.after(before, &["-S", "sock"]));
    let expected = [
        ("fd_3", "read"),
        ("fd_4", "write"),
        ("fd_5", "write,append"),
        ("fd_6", "read,write"),
        ("fd_9", "read"),
        ("stdin", "read"),
        ("stdout", "write,append"),
    ];
    for (name, flags) in expected {
        let line = handle(&mut proxy.talk, name).unwrap();
        assert_eq!(line, format!("fd.state\t{name}\tfile\t{flags}\tunknown"));
    }
}

/// An inherited socket is shown as one, with domain and type.
#[test]
fn inherited_sockets_are_inspected() {
    let place = Place::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = place.daemonproxy(&["-S", "sock"]);
    let mut proxy =
        place.start_with_socket(command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))));
    let line = handle(&mut proxy.talk, "stdin").unwrap();
    assert_eq!(line, "fd.state\tstdin\tsocket\tunix,stream\tunknown");
    drop(ours);
}

/// Every open descriptor has a handle, also from 1,024 up (A27).
#[test]
fn descriptors_from_1024_up_are_handles() {
    let place = Place::new();
    let before = "ulimit -n 4096 && exec 7</dev/zero 1023</dev/zero 1024</dev/zero 3000</dev/zero";
    let mut proxy = place.start_with_socket(&mut place.after(before, &["-S", "sock"]));
    let inherited: Vec<String> =
        handles(&mut proxy.talk).into_iter().filter(|name| name.starts_with("fd_")).collect();
    assert_eq!(inherited, ["fd_1023", "fd_1024", "fd_3000", "fd_7"]);
    let script = "readlink /proc/$$/fd/0 > $OUT";
    let seen = place.in_service(&mut proxy.talk, "fd_3000", script);
    assert_eq!(seen, "/dev/zero\n");
}

/// More handles than select(2) knows of can be made and given to services (A27).
#[test]
fn handles_from_1024_up_are_given_to_services() {
    let place = Place::new();
    let mut proxy = place.start_with_socket(&mut place.after("ulimit -n 4096", &["-S", "sock"]));
    for number in 0..1_100 {
        let path = if number == 1_099 { "/dev/zero" } else { "/dev/null" };
        let line = format!("fd.state\tx{number}\tfile\tread\t{path}");
        proxy.talk.answers(&format!("fd.open\tx{number}\tread\t{path}"), &line);
    }
    let script = "for fd in 0 2; do readlink /proc/$$/fd/$fd; done > $OUT";
    let seen = place.in_service(&mut proxy.talk, "x1099\tnull\tx1098", script);
    assert_eq!(seen, "/dev/zero\n/dev/null\n");
    place.connect("sock", &proxy).sync();
}

/// Services get what their list names and nothing else, also from 1,024 up (A27).
#[test]
fn services_get_no_inherited_descriptor() {
    let place = Place::new();
    let before = "ulimit -n 4096 && exec 7</dev/zero 1024</dev/zero 3000</dev/zero";
    let mut proxy = place.start_with_socket(&mut place.after(before, &["-S", "sock"]));
    let script = "exec ls -l /proc/self/fd > $OUT";
    let seen = place.in_service(&mut proxy.talk, "null\tnull\tnull", script);
    let links = seen.lines().filter_map(|line| Some(line.split_once(" -> ")?.1));
    let others: Vec<&str> = links.filter(|link| *link != "/dev/null").collect();
    let out = |link: &str| link.contains("/seen-");
    // The file of the test, and the folder that is being listed.
    assert!(others.len() == 2 && out(others[0]) && others[1].contains("/proc/"), "{seen}");
}

/// `-c FILE` and `-S`: the standard descriptors are untouched, the handles are real.
#[test]
fn with_a_socket_the_standard_handles_are_real() {
    let place = Place::new();
    place.write("in", "");
    let before = "exec <in >out 2>>err";
    let mut proxy = place.start_with_socket(&mut place.after(before, &["-S", "sock"]));
    let real = ["in", "out", "err"].map(|name| place.path(name).display().to_string());
    assert_eq!(standard(&place, &mut proxy.talk), real);
    let own: Vec<String> = (0..3).map(|number| link(proxy.pid(), number).unwrap()).collect();
    assert_eq!(own, real);
    for descriptor in 0..3 {
        assert_eq!(proxy.flags(descriptor) & NONBLOCK, 0, "{descriptor}");
    }
}

/// `-i`: 0 and 1 are the controller's and do not block; `stdin` and `stdout` are null, never the
/// controller's stream (K15), and `fd.state` does not show it; `stderr` is real.
#[test]
fn interactively_stdin_and_stdout_are_null() {
    let place = Place::new();
    let mut proxy = Place::start_interactive(&mut place.after("exec 2>>err", &["-i"]));
    proxy.talk.sync();
    let err = place.path("err").display().to_string();
    assert_eq!(standard(&place, &mut proxy.talk), ["/dev/null", "/dev/null", &err]);
    assert_eq!(proxy.flags(0) & NONBLOCK, NONBLOCK);
    assert_eq!(proxy.flags(1) & NONBLOCK, NONBLOCK);
    assert_eq!(proxy.flags(2) & NONBLOCK, 0);
}

/// The flags that `fd.state` shows do not change when a handle is pointed to the null device.
#[test]
fn a_handle_pointed_to_null_keeps_its_flags() {
    let place = Place::new();
    place.write("in", "");
    let command = &mut place.after("exec <in 3>&2", &["-c", "-", "-S", "sock"]);
    let mut proxy = place.start_with_socket(command);
    let line = handle(&mut proxy.talk, "stdin").unwrap();
    let fields: Vec<&str> = line.split('\t').collect();
    assert_eq!(fields[3], "read", "{line:?}");
}

/// `-c -`: 0 is the command stream and does not block; `stdin` is null, `stdout` and `stderr` are
/// real.
#[test]
fn with_commands_from_standard_input_only_stdin_is_null() {
    let place = Place::new();
    let command = &mut place.after("exec >out 2>>err", &["-c", "-", "-S", "sock"]);
    let (running, stdin, _stdout) = Running::start_conversation(command);
    let stream = wait_until("the socket", LONG, || UnixStream::connect(place.path("sock")).ok());
    let talk = Conversation::over_socket(stream, running.stderr().clone());
    let mut proxy = Proxy { running, talk };
    let real = ["out", "err"].map(|name| place.path(name).display().to_string());
    assert_eq!(standard(&place, &mut proxy.talk), ["/dev/null", &real[0], &real[1]]);
    assert_eq!(proxy.flags(0) & NONBLOCK, NONBLOCK);
    assert_eq!(proxy.flags(1) & NONBLOCK, 0);
    drop(stdin);
}

/// A standard descriptor that is closed at the start is null, for services too; no socket or file
/// of the proxy takes its number, so the log goes nowhere else.
#[test]
fn closed_standard_descriptors_are_null() {
    let place = Place::new();
    let command = &mut place.after("exec <&- >&- 2>&-", &["-S", "sock"]);
    let mut proxy = place.start_with_socket(command);
    assert_eq!(handles(&mut proxy.talk), BUILT_IN);
    assert_eq!(standard(&place, &mut proxy.talk), ["/dev/null"; 3]);
    proxy.talk.ask("no.such.command");
    for descriptor in 0..3 {
        let link = link(proxy.pid(), descriptor).unwrap_or("/dev/null".to_owned());
        assert_eq!(link, "/dev/null", "{descriptor}");
    }
    proxy.talk.send("terminate\t4");
    proxy.wait().expect_code(4);
}

/// The virtual handles mean something in a service only, in every mode.
#[test]
fn the_control_handles_make_a_service_a_controller() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    let script = "printf 'echo\\tword\\n' >&1; read line; echo \"$line\" > $OUT; exec >&-";
    let seen = place.in_service(&mut proxy.talk, "control.event\tcontrol.cmd\tstderr", script);
    assert!(!seen.is_empty());
    let script = script.replace(">&1", ">&0");
    let seen = place.in_service(&mut proxy.talk, "control.socket\tnull\tstderr", &script);
    assert!(!seen.is_empty());
}
