//! Behaviour 18: what the proxy's own process is told.

use keepd_engine::proxy::Settings;
use keepd_model::protocol::{Command, FilterChange};
use keepd_model::{Errno, HandleReport, LogLevel, OpenFlags};

use crate::driver::*;

fn terminate(guard: Option<i64>) -> Command {
    Command::Terminate { code: 3, guard }
}

fn guard(set: bool, code: i64) -> Command {
    Command::TerminateGuard { set, code }
}

fn exit_exec(words: &[&str]) -> Command {
    let arguments = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    Command::TerminateExec { arguments }
}

fn open(text: &str) -> Command {
    let (flags, path) = (OpenFlags::default(), b"/log".to_vec());
    Command::HandleOpen { name: handle_name(text), flags, path }
}

fn log_to(text: &str) -> Command {
    Command::LogDestination { handle: handle_name(text) }
}

/// Returns a machine with the handles `null` (1) and `stderr` (2), and with [`TYPIST`].
fn driver(settings: Settings) -> Driver {
    let stderr = HandleReport { name: handle_name("stderr"), ..null() };
    let mut driver = Driver::with_settings(Settings { handles: vec![null(), stderr], ..settings });
    driver.connect(TYPIST);
    driver
}

#[test]
fn a_guard_needs_its_code_and_something_to_become() {
    // (behaviour 18.1, 18.2)
    let mut driver = driver(Settings::default());
    let refusals = [
        (guard(true, 0), "cannot set the guard: the code is 0"),
        (guard(false, 7), "cannot clear the guard: it is not set"),
    ];
    for (command, why) in refusals {
        assert_eq!(driver.say(TYPIST, command), [format!("2> error {why}")]);
    }
    assert_eq!(driver.say(TYPIST, guard(true, -7)), ["guarded true"]);
    assert_eq!(driver.proxy.guard(), Some(-7));
    let refusals = [
        (guard(true, 8), "cannot set the guard: it is already set"),
        (guard(false, 7), "cannot clear the guard: incorrect guard code"),
        (terminate(None), "cannot terminate: guard code required"),
        (terminate(Some(7)), "cannot terminate: incorrect guard code"),
        (terminate(Some(-7)), "cannot terminate: cannot exit without exit-exec"),
    ];
    for (command, why) in refusals {
        assert_eq!(driver.say(TYPIST, command), [format!("2> error {why}")]);
    }
    assert_eq!(driver.say(TYPIST, exit_exec(&["/bin/sh"])), ["exit-exec /bin/sh"]);
    assert_eq!(driver.say(TYPIST, terminate(Some(-7))), ["terminate 3"]);
    assert_eq!(driver.say(TYPIST, arguments("web")), [""; 0], "nothing comes after it");
}

#[test]
fn without_a_guard_the_code_is_not_looked_at() {
    // (behaviour 18.1)
    let mut driver = driver(Settings { guard: Some(0), ..Settings::default() });
    assert_eq!(driver.proxy.guard(), None);
    driver.say(TYPIST, guard(true, 5));
    assert_eq!(driver.say(TYPIST, guard(false, 5)), ["guarded false"]);
    assert_eq!(driver.say(TYPIST, terminate(Some(1))), ["terminate 3"]);
}

#[test]
fn guard_and_exit_exec_may_be_there_from_the_start() {
    // (behaviour 18.1, 18.2)
    let exit_exec = vec![b"/rescue".to_vec()];
    let mut driver = driver(Settings { guard: Some(1), exit_exec, ..Settings::default() });
    assert_eq!(driver.say(TYPIST, terminate(Some(1))), ["terminate 3"]);
}

#[test]
fn exit_exec_arguments_have_a_limit() {
    // (behaviour 18.2)
    let mut driver = driver(Settings::default());
    let fits = "x".repeat(253);
    assert_eq!(driver.say(TYPIST, exit_exec(&[&fits, "y"])).len(), 1);
    assert_eq!(
        driver.say(TYPIST, exit_exec(&[&fits, "yz"])),
        ["2> error cannot set the exit-exec arguments: they are longer than 255 bytes"]
    );
    assert_eq!(driver.say(TYPIST, exit_exec(&[])), ["exit-exec "]);
}

#[test]
fn the_directory_and_the_control_socket_are_tried_first() {
    // (behaviour 18.3)
    let mut driver = driver(Settings::default());
    driver.connect(BOSS);
    let chdir = || Command::Chdir { path: b"/srv".to_vec() };
    assert_eq!(driver.ask(chdir()), ["perform 1: chdir /srv"]);
    assert_eq!(driver.performed(1), ["1> ok 1"]);
    driver.say(TYPIST, chdir());
    assert_eq!(
        driver.not_performed(2, "chdir", Some(Errno::ENOENT)),
        ["2> error cannot change the directory to \"/srv\": cannot chdir: no such file or \
             directory"]
    );
    let listen = || Command::SocketCreate { path: b"/run/\tx".to_vec() };
    assert_eq!(driver.say(TYPIST, listen()), ["perform 3: listen /run/\tx"]);
    assert_eq!(driver.performed(3), [""; 0]);
    driver.say(TYPIST, listen());
    assert_eq!(
        driver.not_performed(4, "bind", Some(Errno(98))),
        ["2> error cannot make a control socket at \"/run/\\tx\": cannot bind: address already \
             in use"]
    );
    assert_eq!(driver.say(TYPIST, Command::SocketDelete), ["stop listening"]);
}

#[test]
fn the_filter_is_told_to_who_asked() {
    // (behaviour 18.4)
    let mut driver = driver(Settings::default());
    driver.connect(BOSS);
    let filter = |change| Command::LogFilter { change };
    assert_eq!(driver.say(TYPIST, filter(FilterChange::Show)), ["2> log.filter debug"]);
    assert_eq!(
        driver.ask(filter(FilterChange::Less)),
        ["log filter info", "1> ok 1", "1> log.filter info"]
    );
    assert_eq!(
        driver.say(TYPIST, filter(FilterChange::To(LogLevel::None))),
        ["log filter none", "2> log.filter none"]
    );
    assert_eq!(driver.say(TYPIST, filter(FilterChange::More)), ["2> log.filter none"]);
}

#[test]
fn a_closed_log_is_opened_by_name_only() {
    // (behaviour 18.5)
    let mut driver = driver(Settings { is_log_closed: true, ..Settings::default() });
    driver.say(TYPIST, open("stderr"));
    assert_eq!(
        driver.performed(1),
        ["close descriptor 2", "2> handle stderr file read /log"],
        "nobody has said that the log goes there"
    );
    assert_eq!(driver.say(TYPIST, log_to("stderr")), ["log to 3"]);
}

#[test]
fn the_log_follows_a_name() {
    // (behaviour 18.5)
    let mut driver = driver(Settings::default());
    let delete = |text: &str| Command::HandleDelete { name: handle_name(text) };
    assert_eq!(
        driver.say(TYPIST, delete("stderr")),
        ["log waits", "close descriptor 2", "2> handle stderr deleted"]
    );
    driver.say(TYPIST, open("stderr"));
    assert_eq!(driver.performed(1), ["log to 3", "2> handle stderr file read /log"]);
    assert_eq!(driver.say(TYPIST, log_to("other")), ["log waits"]);
    driver.say(TYPIST, open("other"));
    assert_eq!(driver.performed(2)[0], "log to 4");
    driver.say(TYPIST, open("other"));
    assert_eq!(driver.performed(3)[..2], ["log to 5", "close descriptor 4"]);
    assert_eq!(driver.say(TYPIST, delete("stderr")).len(), 2, "it has the log no longer");
    assert_eq!(driver.say(TYPIST, log_to("null")), ["log to 1"]);
    assert_eq!(
        driver.say(TYPIST, log_to("control.event")),
        ["2> error cannot log to handle \"control.event\": it has no descriptor of its own"]
    );
}
