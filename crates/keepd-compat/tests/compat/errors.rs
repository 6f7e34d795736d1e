//! Every refusal of the original has a line with the words that clients look for, and is logged.

use keepd_compat::Client;
use keepd_engine::proxy::CallFailure;
use keepd_model::{Errno, LogLevel};

use crate::driver::{BOSS, Driver, FILE, OTHER};

/// A driver with a service `up` that runs, and `idle` that could.
fn with_services() -> Driver {
    let mut driver = Driver::new();
    driver.say(
        BOSS,
        "service.args⇥up⇥x\nservice.start⇥up\nservice.args⇥idle⇥x\nservice.tags⇥bare⇥no-args",
    );
    driver
}

/// Each command is refused with the words, for the command.
fn refuses(cases: &[(&str, &str)]) {
    let mut driver = with_services();
    for (command, words) in cases {
        driver.log.clear();
        let answer = driver.say(BOSS, command);
        let line = answer.strip_suffix('\n').unwrap_or_else(|| panic!("{command}: {answer:?}"));
        assert!(line.starts_with("error⇥"), "{command}: {line}");
        assert_eq!(line.lines().count(), 1, "{command}: {line}");
        let word = words.to_lowercase();
        assert!(line.to_lowercase().contains(&word), "{command}: {line} without {words}");
        let bytes = command.replace('⇥', "\t");
        let prefix: String = bytes.chars().take(30).collect::<String>().replace('\t', "⇥");
        let dots = if bytes.len() >= 30 { "..." } else { "" };
        let end = format!(", for command \"{prefix}{dots}\"");
        assert!(line.ends_with(&end), "{command}: {line}");
        let logged = driver.logged(LogLevel::Error);
        assert_eq!(logged.len(), 2, "{command}: {logged:?}");
        assert!(logged[0].contains(&*bytes), "{command}: {logged:?}");
        assert!(logged[1].to_lowercase().contains(&word), "{command}: {logged:?}");
    }
}

#[test]
fn names_of_services() {
    for command in ["args", "fds", "tags", "auto_up", "start", "signal", "delete"] {
        let command = format!("service.{command}");
        let long = "x".repeat(32);
        refuses(&[
            (&command, "service name is missing"),
            (&format!("{command}⇥"), "service name is missing"),
            (&format!("{command}⇥a/b⇥1⇥always"), "not a valid service name"),
            (&format!("{command}⇥a@b⇥1⇥always"), "not a valid service name"),
            (&format!("{command}⇥{long}⇥1⇥always"), "not a valid service name"),
            (&format!("{command}⇥keepd.x⇥1⇥always"), "not a valid service name"),
        ]);
    }
    refuses(&[
        ("service.start⇥nobody", "no such service"),
        ("service.start⇥nobody⇥-", "no such service"),
        ("service.signal⇥nobody⇥SIGTERM", "no such service"),
        ("service.delete⇥nobody", "no such service"),
    ]);
}

#[test]
fn names_of_handles() {
    let long = "x".repeat(32);
    for (start, end) in [
        ("fd.open", "⇥read⇥/x"),
        ("fd.pipe", "⇥other"),
        ("fd.pipe⇥other", ""),
        ("fd.socket", "⇥unix"),
        ("fd.take", ""),
        ("fd.delete", ""),
        ("log.dest⇥fd", ""),
    ] {
        refuses(&[
            (start, "handle name is missing"),
            (&format!("{start}⇥a/b{end}"), "invalid handle name"),
            (&format!("{start}⇥{long}{end}"), "invalid handle name"),
        ]);
    }
    refuses(&[
        ("fd.delete⇥gone", "does not exist"),
        ("fd.delete⇥null", "built in"),
        ("fd.delete⇥control.cmd", "built in"),
        ("fd.open⇥null⇥read⇥/x", "built in"),
        ("fd.open⇥-⇥read⇥/x", "invalid handle name"),
        ("fd.pipe⇥q⇥q", "names"),
        ("fd.socket⇥control.socket⇥unix", "built in"),
        ("fd.take⇥control.event", "built in"),
        ("service.fds⇥idle⇥a/b", "invalid handle name"),
        ("service.fds⇥idle⇥control.socket⇥a b", "invalid handle name"),
    ]);
}

#[test]
fn arguments_of_handle_commands() {
    refuses(&[
        ("fd.open⇥h", "flags is missing"),
        ("fd.open⇥h⇥read", "path is missing"),
        ("fd.open⇥h⇥read⇥", "path is missing"),
        ("fd.open⇥h⇥read⇥/x⇥", "superfluous"),
        ("fd.open⇥h⇥read,sideways⇥/x", "unknown flag \"sideways\""),
        ("fd.pipe⇥a⇥b⇥listen", "unknown flag \"listen\""),
        ("fd.socket⇥h", "flags is missing"),
        ("fd.socket⇥h⇥unix⇥/x⇥more", "superfluous"),
        ("fd.socket⇥h⇥read⇥/x", "unknown flag \"read\""),
        ("fd.socket⇥h⇥bind", "address expected"),
        ("fd.socket⇥h⇥tcp,listen", "address expected"),
        ("fd.socket⇥h⇥tcp,listen=0⇥*:80", "listen length"),
        ("fd.socket⇥h⇥tcp,listen=65536⇥*:80", "listen length"),
        ("fd.socket⇥h⇥tcp⇥localhost:80", "invalid address"),
        ("fd.socket⇥h⇥tcp⇥*:65536", "invalid address"),
        ("fd.socket⇥h⇥inet6⇥::1", "invalid address"),
        ("fd.socket⇥h⇥tcp,mkdir⇥*:80", "unix"),
        ("chdir", "path is missing"),
        ("chdir⇥/⇥/", "superfluous"),
    ]);
}

#[test]
fn what_the_kernel_refuses_names_the_call() {
    for (command, call) in [
        ("fd.open⇥h⇥read⇥/x", "open"),
        ("fd.pipe⇥a⇥b⇥inet", "socketpair"),
        ("fd.socket⇥h⇥tcp⇥*:80", "bind"),
        ("chdir⇥/nowhere", "chdir"),
        ("socket.create⇥-⇥/nowhere/x", "bind"),
        ("service.signal⇥up⇥SIGTERM⇥group", "killpg"),
    ] {
        let mut driver = with_services();
        driver.log.clear();
        driver.effect_failure = Some(CallFailure { call, errno: Some(Errno::EACCES) });
        let answer = driver.say(BOSS, command);
        assert!(answer.starts_with("error⇥"), "{answer}");
        assert!(answer.contains(call) && answer.contains("permission denied"), "{answer}");
        assert!(answer.contains(", for command \""), "{answer}");
        assert_eq!(driver.logged(LogLevel::Error).len(), 2);
        assert_eq!(driver.say(BOSS, "echo⇥still-there"), "still-there\n");
    }
    let mut driver = Driver::new();
    let call = "no descriptor came with the message";
    driver.effect_failure = Some(CallFailure { call, errno: None });
    assert_eq!(
        driver.say(BOSS, "fd.take⇥h"),
        "error⇥cannot make handle \"h\": no descriptor came with the message, for command \
         \"fd.take⇥h\"\n"
    );
}

#[test]
fn numbers_and_words() {
    refuses(&[
        ("service.auto_up⇥idle", "interval is missing"),
        ("service.auto_up⇥idle⇥soon", "integer"),
        ("service.auto_up⇥idle⇥+1", "integer"),
        ("service.auto_up⇥idle⇥ 1", "integer"),
        ("service.auto_up⇥idle⇥0", "interval"),
        ("service.auto_up⇥idle⇥-1", "interval"),
        ("service.auto_up⇥idle⇥2147483648", "interval"),
        ("service.auto_up⇥idle⇥1⇥often", "unknown trigger \"often\""),
        ("conn.event_timeout", "missing"),
        ("conn.event_timeout⇥1", "missing"),
        ("conn.event_timeout⇥x⇥1", "integer"),
        ("conn.event_timeout⇥-1⇥1", "reset timeout"),
        ("conn.event_timeout⇥1⇥2147483648", "close timeout"),
        ("conn.event_timeout⇥3⇥2", "greater"),
        ("signal.clear", "signal is missing"),
        ("signal.clear⇥FOO⇥1", "invalid signal"),
        ("signal.clear⇥SIGTERM", "count is missing"),
        ("signal.clear⇥SIGTERM⇥x", "integer"),
        ("signal.clear⇥SIGTERM⇥-1", "less than 0"),
        ("terminate", "missing"),
        ("terminate⇥x", "integer"),
        ("terminate.guard", "missing"),
        ("terminate.guard⇥1", "\"+\" or \"-\" is expected"),
        ("terminate.guard⇥+", "code is missing"),
        ("terminate.guard⇥+⇥x", "integer"),
        ("terminate.guard⇥+⇥0", "0"),
        ("terminate.guard⇥-⇥1", "not set"),
        ("log.filter⇥loud", "log level unknown"),
        ("log.filter⇥", "log level unknown"),
        ("log.dest", "type of the log is missing"),
        ("log.dest⇥file⇥x", "unknown log type"),
        ("socket.create", "options is missing"),
        ("socket.create⇥0600⇥/x", "bad options"),
        ("socket.create⇥-", "path is missing"),
    ]);
    let long = format!("terminate.exec_args⇥{}", "x".repeat(256));
    let mut driver = Driver::new();
    assert!(driver.say(BOSS, &long).contains("longer than 255"));
    assert_eq!(driver.say(BOSS, &long[..long.len() - 1]), "");
}

#[test]
fn starts_signals_and_deletes() {
    refuses(&[
        ("service.start⇥up", "not startable"),
        ("service.start⇥up⇥99999", "not startable"),
        ("service.start⇥bare", "no arg"),
        ("service.start⇥idle⇥soon", "invalid timestamp"),
        ("service.start⇥idle⇥", "invalid timestamp"),
        ("service.start⇥idle⇥-98819", "invalid timestamp"),
        ("service.start⇥idle⇥18446744074", "invalid timestamp"),
        ("service.start⇥idle⇥-", "no start pending"),
        ("service.start⇥up⇥-", "no start pending"),
        ("service.signal⇥up", "signal is missing"),
        ("service.signal⇥up⇥FOO", "invalid signal"),
        ("service.signal⇥up⇥sigterm", "invalid signal"),
        ("service.signal⇥up⇥65536", "invalid signal"),
        ("service.signal⇥up⇥SIGTERM⇥all", "unknown option \"all\""),
        ("service.signal⇥idle⇥SIGTERM", "not running"),
        ("service.delete⇥up", "still running"),
    ]);
}

#[test]
fn the_guard() {
    let mut driver = Driver::new();
    assert_eq!(driver.say(BOSS, "terminate.guard⇥+⇥-7"), "");
    let refuses = |driver: &mut Driver, command: &str, words: &str| {
        let answer = driver.say(BOSS, command);
        assert!(answer.starts_with("error⇥") && answer.contains(words), "{command}: {answer}");
        assert_eq!(driver.exit_code, None);
    };
    refuses(&mut driver, "terminate.guard⇥+⇥8", "already set");
    refuses(&mut driver, "terminate.guard⇥-⇥8", "incorrect");
    refuses(&mut driver, "terminate⇥1", "guard code");
    refuses(&mut driver, "terminate⇥1⇥8", "incorrect");
    refuses(&mut driver, "terminate⇥1⇥-7", "exec");
    assert_eq!(driver.say(BOSS, "terminate.exec_args⇥sh"), "");
    assert_eq!(driver.say(BOSS, "terminate⇥258⇥-7"), "");
    assert_eq!(driver.exit_code, Some(2));
}

#[test]
fn unknown_commands_are_told_in_full() {
    let mut driver = Driver::new();
    let name = "no.such.command.of.considerable.length";
    let answer = driver.say(BOSS, &format!("{name}⇥x"));
    assert_eq!(answer, format!("error⇥unknown command: {name}\n"));
    assert_eq!(driver.logged(LogLevel::Error), [format!("unknown command {name}")]);
    for line in [" echo⇥x", " #x", "Echo⇥x", "conn.log⇥on", "service.set⇥x", "@1⇥echo⇥x"]
    {
        let answer = driver.say(BOSS, line);
        assert!(answer.starts_with("error⇥unknown command: "), "{line}: {answer}");
    }
}

#[test]
fn a_long_line_is_one_error_and_reading_goes_on() {
    let mut driver = Driver::new();
    let longest = format!("echo⇥{}", "x".repeat(1018));
    assert_eq!(driver.say(BOSS, &longest).len(), 1019);
    driver.log.clear();
    let answer = driver.say(BOSS, &format!("{longest}y\n#{longest}\necho⇥next"));
    assert_eq!(answer, "error⇥line too long\nnext\n");
    let logged = driver.logged(LogLevel::Error);
    assert_eq!(logged.len(), 1);
    assert!(logged[0].contains("command exceeds buffer size"), "{logged:?}");
}

#[test]
fn errors_go_to_the_sender_or_to_the_log_alone() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::Both);
    driver.connect(FILE, Client::CommandsOnly);
    driver.say(BOSS, "service.start⇥x");
    driver.send(FILE, "service.start⇥y\nnonsense");
    assert_eq!(driver.heard(OTHER), "");
    assert_eq!(driver.heard(FILE), "");
    assert_eq!(driver.logged(LogLevel::Error).len(), 5);
}

#[test]
fn the_log_quotes_no_more_than_90_bytes_and_no_control_bytes() {
    let mut driver = Driver::new();
    let mut command = b"service.start\tx\x1b\r\xff".to_vec();
    command.resize(200, b'y');
    command.push(b'\n');
    driver.send_bytes(BOSS, &command);
    let logged = driver.logged(LogLevel::Error);
    let expected = format!("service.start\tx??\u{fffd}{}...", "y".repeat(72));
    assert!(logged[0].contains(&format!("\"{expected}\"")), "{logged:?}");
}
