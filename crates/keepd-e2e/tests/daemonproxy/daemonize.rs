//! `-D`: into the background.

use std::io::Write;

use keepd_testkit::daemonproxy::Conversation;
use keepd_testkit::{LONG, Output, Running, kill, signal, skip, wait_for_end, wait_until};

use crate::place::{Place, handle, handles, link, shows, status_of};

/// Runs daemonproxy with `-D`, `-S sock` and these words, and returns the process in the background
/// with a controller.
#[track_caller]
fn in_background(place: &Place, words: &[&str]) -> (u32, Conversation) {
    let words = [&["-D", "-S", "sock"], words].concat();
    let ended = place.run(&words).expect_code(0);
    let pid = ended.stdout.parse().unwrap_or_else(|_| panic!("no PID: {:?}", ended.stdout));
    (pid, connect(place))
}

#[track_caller]
fn connect(place: &Place) -> Conversation {
    let stream = wait_until("the control socket", LONG, || {
        std::os::unix::net::UnixStream::connect(place.path("sock")).ok()
    });
    // Its log goes nowhere.
    Conversation::over_socket(stream, Output::default())
}

/// Returns the fields of `/proc/PID/stat` after the name: state, parent, group, session, terminal.
fn stat(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    fields.split(' ').map(str::to_owned).collect()
}

/// The parent prints the PID of the child without a line end, and ends with 0.
#[test]
fn the_parent_prints_a_number_and_ends_with_0() {
    let place = Place::new();
    let ended = place.run(&["-D", "-S", "sock"]).expect_code(0);
    assert!(ended.stdout.bytes().all(|byte| byte.is_ascii_digit()), "{:?}", ended.stdout);
    let pid = ended.stdout.parse().unwrap();
    connect(&place).sync();
    assert_eq!(status_of(pid, "Name"), "daemonproxy");
}

/// The child has its own session, which it leads, and no terminal; it keeps umask and directory.
#[test]
fn the_child_has_its_own_session() {
    let place = Place::new();
    let (pid, mut talk) = in_background(&place, &[]);
    let fields = stat(pid);
    let own = pid.to_string();
    assert_eq!(fields[2..5], [own.as_str(), &own, "0"]);
    assert_eq!(status_of(pid, "Umask"), "0077");
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(folder, place.path("").canonicalize().unwrap());
    let script = "cut -d' ' -f5,6 /proc/$$/stat > $OUT";
    let seen = place.in_service(&mut talk, "null\tnull\tnull", script);
    assert_eq!(seen, format!("{pid} {pid}\n"), "group and session of a service (K13)");
}

/// 0, 1 and 2 are the null device (A2), and so are the handles, whose flags do not change.
#[test]
fn the_standard_descriptors_are_null() {
    let place = Place::new();
    let (pid, mut talk) = in_background(&place, &[]);
    for descriptor in 0..3 {
        wait_until("the null device", LONG, || {
            (link(pid, descriptor).as_deref() == Some("/dev/null")).then_some(())
        });
    }
    let script = "exec 3>&1 > $OUT; for fd in 0 3 2; do readlink /proc/$$/fd/$fd; done";
    let seen = place.in_service(&mut talk, "stdin\tstdout\tstderr", script);
    assert_eq!(seen, "/dev/null\n".repeat(3));
    assert_eq!(handles(&mut talk).len(), 7);
    let stdout = handle(&mut talk, "stdout").unwrap();
    assert_eq!(stdout.split('\t').nth(3), Some("write"), "it was a pipe: {stdout:?}");
}

/// No handle that is made later gets the text of the log (A2); it is off until `log.dest`.
#[test]
fn the_log_is_off_until_it_has_a_destination() {
    let place = Place::new();
    let (_, mut talk) = in_background(&place, &[]);
    let names = ["file0", "file1", "file2", "file3", "stderr"];
    for name in names {
        talk.ask(format!("fd.open\t{name}\twrite,create\t{name}"));
    }
    talk.ask("no.such.command");
    talk.sync();
    for name in names {
        assert_eq!(place.read(name), "");
    }
    talk.is_silent("log.dest\tfd\tfile1");
    talk.ask("no.such.thing");
    wait_until("the log", LONG, || {
        shows(&place.read("file1"), &["error: ", "no.such.thing"]).then_some(())
    });
}

/// Signals are handled as in the foreground, also after a child has ended (A1).
#[test]
fn signals_are_handled_in_the_background() {
    let place = Place::new();
    let (pid, mut talk) = in_background(&place, &[]);
    for name in ["one", "two", "three"] {
        talk.send(format!("service.args\t{name}\ttrue"));
        talk.send(format!("service.start\t{name}"));
        talk.expect(&format!("service.state\t{name}\tdown\t{{num}}\t{{pid}}\texit\t0\t{{rest}}"));
        for number in [15, 10] {
            assert!(signal(pid, keepd_model::Signal::new(number).unwrap()));
            talk.expect_line("the signal", |line| line.starts_with("signal\t").then_some(()));
        }
    }
    let children = format!("/proc/{pid}/task/{pid}/children");
    assert_eq!(std::fs::read_to_string(children).unwrap(), "", "no zombie is left");
    assert!(signal(pid, keepd_model::Signal::new(6).unwrap()));
    assert!(wait_for_end(pid, LONG));
}

/// Commands of a file are done by the child, which is the parent of the services.
#[test]
fn a_config_file_is_read_in_the_background() {
    let place = Place::new();
    place.write("FILE", "service.args\tx\tsleep\t600\nservice.start\tx\n");
    let (pid, mut talk) = in_background(&place, &["-c", "FILE"]);
    let service = wait_until("the service", LONG, || {
        let dump = talk.ask("statedump");
        let up = dump.iter().find_map(|line| line.strip_prefix("service.state\tx\tup\t"))?;
        up.split('\t').nth(1)?.parse().ok()
    });
    assert_eq!(status_of(service, "PPid"), pid.to_string());
    talk.send("terminate\t0");
    assert!(wait_for_end(pid, LONG));
    kill(service);
}

/// `-c -`: standard input stays the command stream.
#[test]
fn commands_from_standard_input_go_on_in_the_background() {
    let place = Place::new();
    let command = &mut place.daemonproxy(&["-D", "-c", "-", "-S", "sock"]);
    let (running, mut stdin, _stdout) = Running::start_conversation(command);
    running.wait().expect_code(0);
    let mut talk = connect(&place);
    talk.sync();
    stdin.write_all(b"service.args\tx\ttrue\n").unwrap();
    talk.expect("service.args\tx\ttrue");
}

/// With `-i` it is ignored, with a warning.
#[test]
fn an_interactive_one_stays_in_the_foreground() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-D"]);
    proxy.log_line(&["warning: "]);
    proxy.talk.send("terminate\t7");
    proxy.wait().expect_code(7);
}

/// What fails at the start is told by the parent, with its code.
#[test]
fn failures_at_the_start_are_told_in_the_foreground() {
    let place = Place::new();
    let ended = place.run(&["-D", "-S", "missing/sock"]).expect_code(3);
    assert!(shows(&ended.stderr, &["fatal: "]), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    place.run(&["-D", "-S", "sock", "--nonsense"]).expect_code(2);
    place.run(&["-D"]).expect_code(2);
}

/// `-M` locks the memory of the child (A3).
#[test]
fn memory_is_locked_in_the_background() {
    let place = Place::new();
    let foreground = place.interactive(&["-M"]);
    if shows(&foreground.log(), &["error: ", "lock"]) {
        skip("a daemon with locked memory: memory cannot be locked here");
        return;
    }
    let (pid, mut talk) = in_background(&place, &["-M"]);
    talk.sync();
    assert_ne!(status_of(pid, "VmLck"), "0 kB");
}
