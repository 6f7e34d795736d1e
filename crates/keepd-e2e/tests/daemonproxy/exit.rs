//! How it ends: exit codes, signals, fatal conditions, and the program that takes its place.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use keepd_testkit::daemonproxy::Conversation;
use keepd_testkit::{LONG, Running, kill, wait_until};

use crate::place::{Place, Proxy, link, shows, status_of};

/// The signals that are fatal conditions: ABRT FPE ILL SEGV BUS TRAP.
pub(crate) const FATAL: [u8; 6] = [6, 8, 4, 11, 7, 5];

/// The signals that only wake it: CHLD ALRM PIPE.
const WAKING: [u8; 3] = [17, 14, 13];

/// The signals that are counted.
const COUNTED: [(u8, &str); 6] = [
    (2, "SIGINT"),
    (1, "SIGHUP"),
    (15, "SIGTERM"),
    (10, "SIGUSR1"),
    (12, "SIGUSR2"),
    (3, "SIGQUIT"),
];

/// Makes a rescue program: it writes down what it was told, and ends with 42.
pub(crate) fn rescue(place: &Place) -> String {
    let text = "echo \"$$ code=$DAEMONPROXY_EXITCODE error=${DAEMONPROXY_ERROR-unset}\" > told\n\
                exit 42";
    place.script("rescue", text)
}

/// Waits until the proxy has become the rescue program, and returns the code and the message that
/// it was given.
#[track_caller]
pub(crate) fn rescued(place: &Place, proxy: Proxy) -> (i32, String) {
    let pid = proxy.pid();
    let ended = proxy.wait().expect_code(42);
    let told = place.read("told");
    let (own, rest) = told.trim_end().split_once(" code=").unwrap();
    assert_eq!(own, pid.to_string(), "another process: {}", ended.stderr);
    let (code, message) = rest.split_once(" error=").unwrap();
    (code.parse().unwrap(), message.to_owned())
}

/// Runs daemonproxy with `-E rescue` and these words to its end, and returns what the rescue
/// program was told.
#[track_caller]
fn rescued_from(place: &Place, words: &[&str]) -> (i32, String) {
    let rescue = rescue(place);
    let words: Vec<&str> = ["-E", &rescue].iter().chain(words).copied().collect();
    let running = Running::start(&mut place.daemonproxy(&words));
    let pid = running.pid();
    running.wait().expect_code(42);
    let told = place.read("told");
    let (own, rest) = told.trim_end().split_once(" code=").unwrap();
    assert_eq!(own, pid.to_string());
    let (code, message) = rest.split_once(" error=").unwrap();
    (code.parse().unwrap(), message.to_owned())
}

/// Outputs are flushed before the end, and no line after `terminate` is run (A19).
#[test]
fn terminate_is_the_last_command_and_answers_before_it_arrive() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    let lines = "echo\tfirst\nterminate\t3\necho\tlate\nservice.args\tlate\tx\nterminate\t4\n";
    proxy.talk.send_bytes(lines.as_bytes());
    assert_eq!(proxy.talk.expect_end(), ["first"]);
    proxy.wait().expect_code(3);
}

/// At the end services are neither signalled nor waited for; an `info` and a warning for each tell
/// of it.
#[test]
fn services_outlive_it_and_are_named_in_the_log() {
    let place = Place::new();
    let mut proxy = place.socket(&[]);
    let one = proxy.sleeper("one");
    let two = proxy.sleeper("two");
    proxy.talk.send("service.args\tdown\ttrue");
    proxy.talk.sync();
    proxy.talk.send("terminate\t0");
    let ended = proxy.wait().expect_code(0);
    assert!(shows(&ended.stderr, &["info: "]), "{}", ended.stderr);
    for (name, pid) in [("one", one), ("two", two)] {
        assert!(shows(&ended.stderr, &["warning: ", name]), "{}", ended.stderr);
        assert!(!status_of(pid, "State").starts_with('Z'), "{name} has ended");
        kill(pid);
    }
    let about = |line: &&str| line.starts_with("warning: ") && line.contains("down");
    assert_eq!(ended.stderr.lines().find(about), None);
}

/// The file of the control socket does not stay behind (A20).
#[test]
fn the_socket_is_unlinked_at_the_end() {
    let place = Place::new();
    let mut proxy = place.socket(&[]);
    proxy.talk.send("terminate\t0");
    proxy.wait().expect_code(0);
    assert!(!place.path("sock").exists());
}

/// INT HUP TERM USR1 USR2 QUIT are counted and reported, and never end it (K4).
#[test]
fn six_signals_are_reported_and_never_end_it() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    for (number, name) in COUNTED {
        proxy.signal(number);
        proxy.talk.expect(&format!("signal\t{name}\t{{num}}\t1"));
    }
    proxy.talk.send("terminate\t5");
    proxy.wait().expect_code(5);
}

/// They are handled also when they were ignored at the start, as after nohup(1).
#[test]
fn signals_ignored_at_the_start_are_reported() {
    let place = Place::new();
    let before = "trap '' INT HUP TERM USR1 USR2 QUIT";
    let mut proxy = Place::start_interactive(&mut place.after(before, &["-i"]));
    proxy.talk.sync();
    for (number, name) in COUNTED {
        proxy.signal(number);
        proxy.talk.expect(&format!("signal\t{name}\t{{num}}\t1"));
    }
}

/// CHLD, ALRM and PIPE wake it only: not counted, not reported.
#[test]
fn three_signals_are_not_reported() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    for number in WAKING {
        proxy.signal(number);
    }
    proxy.signal(10);
    let mut lines = vec![proxy.talk.next_line()];
    lines.extend(proxy.talk.ask("statedump"));
    let signals: Vec<&String> = lines.iter().filter(|line| line.starts_with("signal\t")).collect();
    assert!(signals.iter().all(|line| line.starts_with("signal\tSIGUSR1\t")), "{signals:?}");
}

/// ABRT FPE ILL SEGV BUS TRAP are fatal conditions, also when sent by kill(2): exit code 4.
#[test]
fn six_signals_are_fatal_with_code_4() {
    let place = Place::new();
    for number in FATAL {
        let proxy = place.interactive(&[]);
        proxy.signal(number);
        let ended = proxy.wait().expect_code(4);
        assert!(shows(&ended.stderr, &["fatal: "]), "{number}: {}", ended.stderr);
    }
}

/// KILL and every signal outside the table end it by default, and nothing takes its place.
#[test]
fn other_signals_end_it_without_exit_exec() {
    let place = Place::new();
    let rescue = rescue(&place);
    for number in [9, 26, 29, 34] {
        let proxy = place.interactive(&["-E", &rescue]);
        proxy.signal(number);
        proxy.wait().expect_code(128 + i32::from(number));
        assert_eq!(place.read("told"), "", "{number}");
    }
}

/// Returns a set of signals from the text of `/proc/PID/status`, one bit for each.
#[track_caller]
fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// Returns the set of the fifteen signals that the proxy handles.
fn handled() -> u64 {
    let counted = COUNTED.iter().map(|(number, _)| *number);
    counted.chain(FATAL).chain(WAKING).fold(0, |set, number| set | 1 << (number - 1))
}

/// Services get an empty mask and the fifteen signals at default, also those that were ignored at
/// the start; others stay as inherited.
#[test]
fn services_get_fifteen_signals_at_default() {
    let place = Place::new();
    let before = "trap '' INT HUP TERM USR1 USR2 QUIT CHLD ALRM PIPE ABRT FPE ILL SEGV BUS TRAP \
                  WINCH";
    let mut proxy = place.start_with_socket(&mut place.after(before, &["-S", "sock"]));
    let script = "exec cat /proc/self/status > $OUT";
    let seen = place.in_service(&mut proxy.talk, "null\tnull\tnull", script);
    assert_eq!(mask(&seen, "SigBlk:"), 0);
    assert_eq!(mask(&seen, "SigCgt:"), 0);
    let window_changed = 1 << (28 - 1);
    assert_eq!(mask(&seen, "SigIgn:") & (handled() | window_changed), window_changed);
}

/// Exit-exec after `terminate`: the same PID, the code, and "terminated normally".
#[test]
fn exit_exec_follows_terminate() {
    let place = Place::new();
    let rescue = rescue(&place);
    let mut proxy = place.interactive(&["-E", &rescue]);
    proxy.talk.send("terminate\t9");
    assert_eq!(rescued(&place, proxy), (9, "terminated normally".to_owned()));
}

/// Exit-exec after the end of `-i`: 0 and 1 are null for the program (A18).
#[test]
fn exit_exec_follows_the_end_of_an_interactive_session() {
    let place = Place::new();
    let rescue = rescue(&place);
    let mut proxy = place.interactive(&["--exit-exec", &rescue]);
    proxy.talk.close_input();
    assert_eq!(rescued(&place, proxy), (0, "terminated normally".to_owned()));
    let mut proxy = place.interactive(&["-E", "sleep\t600"]);
    proxy.talk.send("exit");
    becomes(&proxy, "sleep");
    for descriptor in 0..2 {
        assert_eq!(link(proxy.pid(), descriptor).as_deref(), Some("/dev/null"), "{descriptor}");
    }
    assert!(link(proxy.pid(), 2).is_some());
    kill(proxy.pid());
}

/// Waits until the process of the proxy runs the program of this name.
#[track_caller]
fn becomes(proxy: &Proxy, name: &str) {
    wait_until("the program that takes its place", LONG, || {
        (proxy.status("Name") == name).then_some(())
    });
}

/// Exit-exec after `--help` and `--version`: code 1, no message, and their text is not lost (A18).
#[test]
fn exit_exec_follows_help_and_version() {
    let place = Place::new();
    let rescue = rescue(&place);
    for (option, word) in [("--help", "--interactive"), ("--version", "LICENSE")] {
        let ended = place.run(&["-E", &rescue, option]).expect_code(42);
        assert!(shows(&ended.stdout, &[word]), "{option}: {:?}", ended.stdout);
        assert!(place.read("told").ends_with(" code=1 error=\n"), "{:?}", place.read("told"));
    }
}

/// Exit-exec after every error in the arguments that follow `-E`: code 2 and the message.
#[test]
fn exit_exec_follows_errors_of_later_options() {
    let place = Place::new();
    let wrong = [
        &["--nonsense"][..],
        &["word"],
        &["-c"],
        &["-c", "missing"],
        &["--exit-guard", "x"],
        &["--fd-pool", "x"],
        &["--service-pool", "5x1Kb"],
        &[],
    ];
    for words in wrong {
        let (code, message) = rescued_from(&place, words);
        assert_eq!(code, 2, "{words:?}");
        assert_ne!(message, "", "{words:?}");
    }
    let rescue = rescue(&place);
    std::fs::remove_file(place.path("told")).unwrap();
    place.run(&["--nonsense", "-E", &rescue]).expect_code(2);
    assert_eq!(place.read("told"), "");
}

/// Exit-exec after a failure at the start: code 3 and the message.
#[test]
fn exit_exec_follows_failures_at_the_start() {
    let place = Place::new();
    let _listener = UnixListener::bind(place.path("a-socket")).unwrap();
    for words in [&["-S", "missing/sock"][..], &["-c", "a-socket"]] {
        let (code, message) = rescued_from(&place, words);
        assert_eq!(code, 3, "{words:?}");
        assert_ne!(message, "", "{words:?}");
    }
}

/// Exit-exec after each fatal signal: code 4 and the message.
#[test]
fn exit_exec_follows_fatal_signals() {
    let place = Place::new();
    let rescue = rescue(&place);
    for number in FATAL {
        let proxy = place.interactive(&["-E", &rescue]);
        proxy.signal(number);
        let (code, message) = rescued(&place, proxy);
        assert_eq!(code, 4, "{number}");
        assert_ne!(message, "", "{number}");
        std::fs::remove_file(place.path("told")).unwrap();
    }
}

/// Running services become children of the program; a warning names it, and one each service with
/// its PID.
#[test]
fn services_become_children_of_the_program() {
    let place = Place::new();
    for end in ["terminate", "ABRT"] {
        let mut proxy = place.socket(&["-E", "sleep\t601"]);
        let one = proxy.sleeper("one");
        let two = proxy.sleeper("two");
        match end {
            "terminate" => proxy.talk.send("terminate\t0"),
            _ => proxy.signal(6),
        }
        becomes(&proxy, "sleep");
        proxy.log_line(&["warning: ", "sleep"]);
        for (name, pid) in [("one", one), ("two", two)] {
            proxy.log_line(&["warning: ", name, &pid.to_string()]);
            assert_eq!(status_of(pid, "PPid"), proxy.pid().to_string(), "{end}");
        }
        [one, two, proxy.pid()].into_iter().for_each(kill);
    }
}

/// The program gets default handlers and an empty mask, after a fatal signal too.
#[test]
fn the_program_gets_default_handlers_and_an_empty_mask() {
    let place = Place::new();
    for number in [0, 6, 11] {
        let mut proxy = place.socket(&["-E", "cat\t/proc/self/status"]);
        match number {
            0 => proxy.talk.send("terminate\t0"),
            _ => proxy.signal(number),
        }
        let ended = proxy.wait().expect_code(0);
        for field in ["SigBlk:", "SigIgn:", "SigCgt:"] {
            let signals = mask(&ended.stdout, field) & handled();
            assert_eq!(signals, 0, "{number}: {field}");
        }
    }
}

/// It has the output and the error output of the proxy, its directory, its umask, and the
/// environment with the two variables replaced.
#[test]
fn the_program_inherits_everything_else() {
    let place = Place::new();
    let script = "sh\t-c\tumask; pwd; echo $KEPT $DAEMONPROXY_EXITCODE; echo err >&2; exit 7";
    let mut command = place.daemonproxy(&["-S", "sock", "-E", script]);
    command.env("KEPT", "kept").env("DAEMONPROXY_EXITCODE", "old").env("DAEMONPROXY_ERROR", "old");
    let mut proxy = place.start_with_socket(&mut command);
    proxy.talk.send("chdir\t/\nterminate\t6");
    let ended = proxy.wait().expect_code(7);
    assert_eq!(ended.stdout, "0077\n/\nkept 6\n");
    assert_eq!(ended.stderr.lines().last(), Some("err"));
}

/// When the program cannot be executed, an error says so, and it ends with the code.
#[test]
fn a_program_that_cannot_be_executed_is_an_error_and_the_code_stays() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-E", "/nonexistent/program"]);
    proxy.talk.send("terminate\t5");
    let ended = proxy.wait().expect_code(5);
    assert!(shows(&ended.stderr, &["error: ", "/nonexistent/program"]), "{}", ended.stderr);
    let proxy = place.interactive(&["-E", "/nonexistent/program"]);
    proxy.signal(6);
    proxy.wait().expect_code(4);
}

/// `-E`: at most 255 bytes, empty is off, and its words are separated by tabs.
#[test]
fn exit_exec_takes_255_bytes() {
    let place = Place::new();
    place.write("FILE", "terminate\t0\n");
    let longest = format!("echo\ta  b\t\t{}", "x".repeat(255 - 11));
    assert_eq!(longest.len(), 255);
    let ended = place.run(&["-E", &longest, "-c", "FILE"]).expect_code(0);
    assert_eq!(ended.stdout, format!("a  b  {}\n", "x".repeat(255 - 11)));
    place.run(&["-E", &format!("{longest}x"), "-c", "FILE"]).expect_code(2);
    let ended = place.run(&["-E", &longest, "-E", "", "-c", "FILE"]).expect_code(0);
    assert_eq!(ended.stdout, "");
}

/// `terminate.exec_args` replaces what `-E` said, and takes it back without arguments.
#[test]
fn exit_exec_can_be_changed_by_command() {
    let place = Place::new();
    let end = |mut talk: Conversation| {
        talk.is_silent("terminate.exec_args\tsh\t-c\techo two >&2; exit 2");
        talk
    };
    let proxy = place.interactive(&["-E", "sh\t-c\techo one >&2; exit 1"]);
    let mut talk = end(proxy.talk);
    talk.send("terminate\t0");
    let ended = proxy.running.wait().expect_code(2);
    assert!(shows(&ended.stderr, &["two"]), "{}", ended.stderr);
    let proxy = place.interactive(&["-E", "sh\t-c\texit 1"]);
    let mut talk = end(proxy.talk);
    talk.is_silent("terminate.exec_args");
    talk.send("terminate\t0");
    proxy.running.wait().expect_code(0);
}

/// A service whose program cannot be executed ends with 3 (K6).
#[test]
fn a_service_that_cannot_be_executed_ends_with_3() {
    let place = Place::new();
    let mut proxy = place.socket(&[]);
    proxy.talk.send("service.args\tx\t/nonexistent/program");
    proxy.talk.send("service.start\tx");
    proxy.talk.expect("service.state\tx\tup\t{num}\t{pid}\t-\t-\t{num}\t-");
    proxy.talk.expect("service.state\tx\tdown\t{num}\t{pid}\texit\t3\t{num}\t{num}");
}

/// The message that the program gets names what was wrong.
#[test]
fn the_message_says_what_was_wrong() {
    let place = Place::new();
    let (_, message) = rescued_from(&place, &["--nonsense"]);
    assert!(message.contains("nonsense"), "{message:?}");
    let (_, message) = rescued_from(&place, &["-c", "missing.conf"]);
    assert!(message.contains("missing.conf"), "{message:?}");
    let (_, message) = rescued_from(&place, &["--fd-pool", "5x1t"]);
    assert!(message.contains("5x1t") || message.contains("fd-pool"), "{message:?}");
}

/// Exit-exec does not wait for a client that reads nothing, nor for a service.
#[test]
fn exit_exec_does_not_wait_for_clients() {
    // On a busy machine one of them may take long for other reasons.
    let times = (0..5).map(|_| time_to_the_end_with_a_silent_client());
    let quick = times.into_iter().find(|time| *time < Duration::from_millis(700));
    assert!(quick.is_some(), "it waits for who does not read");
}

/// Returns how long it takes from `terminate` to the end of the program behind it.
#[track_caller]
fn time_to_the_end_with_a_silent_client() -> Duration {
    let place = Place::new();
    let rescue = rescue(&place);
    let mut proxy = place.socket(&["-E", &rescue]);
    let service = proxy.sleeper("one");
    // A client that asks for much and reads nothing.
    let mut silent = place.connect("sock", &proxy);
    let dumps = "statedump\n".repeat(200_000);
    let taken = silent.offer(dumps.as_bytes(), Duration::from_millis(300));
    assert!(taken < dumps.len(), "it is served, though it does not read");
    let begin = Instant::now();
    proxy.talk.send("terminate\t8");
    assert_eq!(rescued(&place, proxy), (8, "terminated normally".to_owned()));
    let time = begin.elapsed();
    kill(service);
    time
}
