//! `keepd-init -- COMMAND`: as process 1 of a PID namespace, as a subreaper, and on a terminal.
//! (behaviour 19.1, 19.2, 19.3, 19.4, 19.5, 19.6, 19.7, 19.8, 19.9, 19.10, 19.11, 19.12, 19.13)
//! (behaviour 19.14, 19.15, 19.16, 19.17)

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keepd_model::Signal;
use keepd_testkit::{
    Finished, LONG, Running, Scratch, find_program, init_program, signal, skip, wait_for_end,
    wait_until,
};

/// Makes a namespace in which the program is process 1, and ends it with unshare(1).
const CONTAIN: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

/// The warning of an init that can adopt nobody.
const CANNOT_ADOPT: &str = "keepd-init: warning: it is neither process 1 nor a subreaper";

/// Where the init runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// As process 1.
    First,
    /// As a subreaper.
    Subreaper,
}

/// Returns where the init can be tried here, and says what cannot.
fn places() -> Vec<Place> {
    let probe = Command::new("unshare").args(CONTAIN).arg("true").output();
    if probe.is_ok_and(|output| output.status.success()) {
        vec![Place::First, Place::Subreaper]
    } else {
        skip("keepd-init as process 1: unshare(1) cannot make a namespace of processes here");
        vec![Place::Subreaper]
    }
}

/// Returns a command for the init in its place, up to the `--`.
fn init(place: Place, options: &[&str]) -> Command {
    let mut command = match place {
        Place::First => {
            let mut command = Command::new("unshare");
            command.args(CONTAIN).arg(init_program());
            command
        }
        Place::Subreaper => {
            let mut command = Command::new(init_program());
            command.arg("-s");
            command
        }
    };
    // What a shell is just forking can lose TERM; no test waits ten seconds for that.
    command.arg("--grace=1").args(options).arg("--").stdin(Stdio::null());
    command
}

fn start(place: Place, options: &[&str], script: &str) -> Running {
    Running::start(init(place, options).args(["sh", "-c", script]))
}

fn run(place: Place, options: &[&str], script: &str) -> Finished {
    start(place, options, script).wait()
}

/// Returns the process id of the init.
fn init_pid(place: Place, running: &Running) -> u32 {
    match place {
        Place::Subreaper => running.pid(),
        Place::First => wait_until("process 1", LONG, || children(running.pid()).first().copied()),
    }
}

/// Returns the children of a process, zombies too.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|word| word.parse().expect("the kernel lists numbers")).collect()
}

fn wait_for_line(running: &Running, line: &str) {
    running.stdout().wait_for_line(line, LONG, |found| found == line);
}

/// A script that says which signals it got, and ends with 5 after QUIT.
fn listener(signals: impl IntoIterator<Item = u8>) -> String {
    let traps = signals.into_iter().map(|number| format!("trap 'echo got {number}' {number}; "));
    let traps: String = traps.collect();
    format!("{traps} trap 'exit 5' QUIT; echo ready; while :; do sleep 600 & wait $!; done")
}

#[test]
fn it_ends_as_the_command_does() {
    for place in places() {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
            run(place, &[], script).expect_code(code);
        }
        run(place, &["-e", "143", "-e7"], "exit 7").expect_code(0);
        run(place, &["-e", "143"], "kill -15 $$").expect_code(0);
        run(place, &["-e", "143"], "exit 7").expect_code(7);
    }
}

#[test]
fn every_signal_is_handed_on_that_can_be() {
    for place in places() {
        // Not KILL, QUIT (which ends the script), CHLD, STOP, and what the C library keeps for
        // itself.
        let numbers = (1..=64).filter(|number| ![3, 9, 17, 19, 32, 33].contains(number));
        let running = start(place, &[], &listener(numbers.clone()));
        wait_for_line(&running, "ready");
        let pid = init_pid(place, &running);
        for number in numbers {
            assert!(signal(pid, Signal::new(number).unwrap()));
            wait_for_line(&running, &format!("got {number}"));
        }
        assert!(signal(pid, Signal::QUIT));
        running.wait().expect_code(5);
    }
}

#[test]
fn a_signal_from_within_is_handed_on_as_well() {
    // The kernel drops what process 1 does not wait for.
    let script = "trap 'exit 8' TERM; kill -TERM $PPID; while :; do sleep 600 & wait $!; done";
    for place in places() {
        run(place, &["--grace=0"], script).expect_code(8);
    }
}

#[test]
fn signals_go_to_the_command_or_to_its_whole_group() {
    for place in places() {
        for group in [false, true] {
            let script = "sh -c 'trap \"echo child\" USR1; echo child ready; \
                          while :; do sleep 600 & wait $!; done' & \
                          trap 'echo main' USR1; trap 'exit 5' QUIT; echo main ready; \
                          while :; do wait; done";
            let running = start(place, if group { &["--group"] } else { &[] }, script);
            wait_for_line(&running, "main ready");
            wait_for_line(&running, "child ready");
            assert!(signal(init_pid(place, &running), Signal::USR1));
            wait_for_line(&running, "main");
            if group {
                wait_for_line(&running, "child");
            }
            assert!(signal(init_pid(place, &running), Signal::QUIT));
            let ended = running.wait().expect_code(5);
            assert_eq!(ended.stdout.lines().any(|line| line == "child"), group, "{place:?}");
        }
    }
}

#[test]
fn signals_are_rewritten_and_dropped() {
    let options = ["-r", "TERM:QUIT", "-rHUP:0", "--rewrite=USR1:RTMIN+2"];
    let running = start(Place::Subreaper, &options, &listener([1, 10, 15, 36]));
    wait_for_line(&running, "ready");
    running.signal(Signal::HUP);
    running.signal(Signal::USR1);
    wait_for_line(&running, "got 36");
    running.signal(Signal::TERM);
    let ended = running.wait().expect_code(5);
    assert_eq!(ended.stdout, "ready\ngot 36\n");
}

#[test]
fn what_is_left_gets_time_and_then_kill() {
    for place in places() {
        let scratch = Scratch::new();
        let ready = scratch.path().join("ready");
        // A daemon in a session of its own, without its parent.
        let daemon = |trap: &str| {
            format!(
                "(setsid sh -c '{trap}; echo ready > {0}; while :; do sleep 600 & wait $!; \
                 done' &); while [ ! -s {0} ]; do :; done; exit 4",
                ready.display()
            )
        };
        let began = Instant::now();
        run(place, &["--grace", "0.3"], &daemon("trap \"\" TERM")).expect_code(4);
        assert!(began.elapsed() >= Duration::from_millis(300), "{place:?}");

        fs::remove_file(&ready).unwrap();
        let began = Instant::now();
        let polite = daemon("trap \"echo bye; exit\" TERM");
        let ended = run(place, &["--grace=60"], &polite).expect_code(4);
        assert!(ended.stdout.contains("bye"), "{place:?}");
        assert!(began.elapsed() < LONG, "{place:?}");

        // Who is stopped is continued, to hear it.
        fs::remove_file(&ready).unwrap();
        let stopped = format!(
            "(setsid sh -c 'trap \"echo bye; exit\" TERM; echo $$ > {0}; kill -STOP $$' &); \
             while [ ! -s {0} ]; do :; done; read pid < {0}; \
             until grep -q 'State:.T' /proc/$pid/status; do :; done; exit 4",
            ready.display()
        );
        let ended = run(place, &["--grace=60"], &stopped).expect_code(4);
        assert!(ended.stdout.contains("bye"), "{place:?}");

        fs::remove_file(&ready).unwrap();
        let ended = run(place, &["--grace", "0"], &daemon("trap \"echo bye\" TERM")).expect_code(4);
        assert!(!ended.stdout.contains("bye"), "{place:?}");
    }
}

#[test]
fn a_signal_in_the_grace_goes_to_what_is_left() {
    for place in places() {
        let scratch = Scratch::new();
        let ready = scratch.path().join("ready");
        let script = format!(
            "(setsid sh -c 'trap \"echo asked\" TERM; trap \"echo hup; exit\" HUP; \
             echo ready > {0}; while :; do sleep 600 & wait $!; done' &); \
             while [ ! -s {0} ]; do :; done; exit 4",
            ready.display()
        );
        let running = start(place, &["--grace=60"], &script);
        wait_for_line(&running, "asked");
        assert!(signal(init_pid(place, &running), Signal::HUP));
        let ended = running.wait().expect_code(4);
        assert!(ended.stdout.contains("hup"), "{place:?}");
    }
}

#[test]
fn orphans_are_reaped_by_the_thousand() {
    for place in places() {
        let script = "i=0; while [ $i -lt 2000 ]; do ( : & ); i=$((i+1)); done; \
                      trap 'exit 6' TERM; echo done; while :; do sleep 600 & wait $!; done";
        let running = start(place, &["--warn"], script);
        wait_for_line(&running, "done");
        let pid = init_pid(place, &running);
        // The shell is the only child that stays, and its own children are its own business.
        wait_until("the last orphan to be reaped", LONG, || {
            (children(pid).len() == 1).then_some(())
        });
        assert!(running.stderr().text().contains("keepd-init: reaped "), "{place:?}");
        assert!(signal(pid, Signal::TERM));
        running.wait().expect_code(6);
    }
}

#[test]
fn a_storm_of_orphans_keeps_no_signal_from_the_command() {
    let script = "(while :; do ( : & ); done) & trap 'exit 6' TERM; echo ready; \
                  while :; do wait; done";
    for place in places() {
        let running = start(place, &[], script);
        wait_for_line(&running, "ready");
        assert!(signal(init_pid(place, &running), Signal::TERM));
        running.wait().expect_code(6);
    }
}

#[test]
fn what_forks_without_end_is_ended_as_well() {
    let storm = "(trap '' TERM; while :; do ( : & ); done) & (trap '' TERM; while :; do ( : & ); \
                 done) & exit 3";
    for place in places() {
        run(place, &["--grace=0.2"], storm).expect_code(3);
    }
}

#[test]
fn a_full_standard_error_holds_nothing_up() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // Nobody reads, and the pipe is full but for less than a message.
    let mut filler = Command::new("sh");
    filler.args(["-c", "head -c 65536 /dev/zero"]).stdout(writer.try_clone().unwrap());
    assert!(filler.status().unwrap().success());
    let script = "i=0; while [ $i -lt 100 ]; do ( : & ); i=$((i+1)); done; exit 7";
    let mut command = init(Place::Subreaper, &["--warn"]);
    let child = command.args(["sh", "-c", script]).stderr(writer.try_clone().unwrap());
    let mut child = child.stdout(Stdio::null()).spawn().unwrap();
    assert!(wait_for_end(child.id(), LONG));
    assert_eq!(child.wait().unwrap().code(), Some(7));
    drop(reader);
    assert!(writer.write_all(b"nobody").is_err());
}

#[test]
fn without_being_first_it_adopts_only_as_a_subreaper() {
    let scratch = Scratch::new();
    let script = |name: &str| {
        let file = scratch.path().join(name);
        format!(
            "(setsid sh -c 'echo $$ > {0}; exec sleep 600' >/dev/null 2>&1 &); \
                 while [ ! -s {0} ]; do :; done",
            file.display()
        )
    };
    let daemon = |name: &str| -> u32 {
        fs::read_to_string(scratch.path().join(name)).unwrap().trim().parse().unwrap()
    };
    let ended = run(Place::Subreaper, &[], &script("ours")).expect_code(0);
    assert_eq!(ended.stderr, "");
    assert!(!Path::new(&format!("/proc/{}", daemon("ours"))).exists());

    let mut alone = Command::new(init_program());
    alone.args(["--", "sh", "-c", &script("lost")]);
    let ended = Running::start(&mut alone).wait().expect_code(0);
    assert!(ended.stderr.starts_with(CANNOT_ADOPT), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(signal(daemon("lost"), Signal::KILL));
}

#[test]
fn what_was_handed_down_arrives() {
    let scratch = Scratch::new();
    let text = scratch.write("text", "three\n");
    for place in places() {
        // LISTEN_PID means the command now, and what is not meant for us stays as it is.
        let script = "echo listen $((LISTEN_PID == $$)) ${LISTEN_PIDFDID-none} $WATCHDOG_PID; \
                      umask; pwd; cat <&3; grep SigIgn /proc/self/status";
        let program = init_program();
        let mut command = Command::new("sh");
        let wrap = format!(
            "umask 027; trap '' HUP; exec 3< {}; export LISTEN_PID=$$ LISTEN_PIDFDID=7 \
             WATCHDOG_PID=77; exec \"$@\"",
            text.display()
        );
        command.args(["-c", &wrap, "sh"]);
        match place {
            Place::First => {
                let inside = "LISTEN_PID=1; exec \"$@\"";
                command.arg("unshare").args(CONTAIN).args(["sh", "-c", inside, "sh"]);
                command.arg(&program);
            }
            Place::Subreaper => {
                command.arg(&program).arg("-s");
            }
        }
        command.args(["--", "sh", "-c", script]).current_dir(scratch.path());
        let ended = Running::start(&mut command).wait().expect_code(0);
        let lines: Vec<&str> = ended.stdout.lines().collect();
        let folder = scratch.path().display().to_string();
        let expected = ["listen 1 none 77", "0027", &folder, "three"];
        assert_eq!(&lines[..4], expected, "{place:?}");
        // HUP is ignored as before; PIPE and CHLD are not.
        let ignored = lines[4].split_whitespace().last().unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        let bit = |signal: Signal| 1 << (signal.get() - 1);
        let asked = bit(Signal::HUP) | bit(Signal::PIPE) | bit(Signal::CHLD);
        assert_eq!(ignored & asked, bit(Signal::HUP), "{place:?}: {ignored:x}");
    }
}

#[test]
fn a_command_that_cannot_run_is_named() {
    let scratch = Scratch::new();
    let plain = scratch.write("plain", "no program\n").display().to_string();
    let broken = scratch.write("broken", "#!/nowhere/interpreter\n").display().to_string();
    executable(&broken);
    let missing = scratch.path().join("missing").display().to_string();
    let cases = [
        (&missing, 127, "no such file or directory\n"),
        (&broken, 127, "the file is there, but not what it needs to run"),
        (&plain, 126, "permission denied"),
        (&scratch.path().display().to_string(), 126, "permission denied"),
    ];
    for (program, code, why) in cases {
        let ended = Running::start(init(Place::Subreaper, &[]).arg(program)).wait();
        let ended = ended.expect_code(code);
        let message = format!("keepd-init: fatal: cannot execute \"{program}\": ");
        assert!(ended.stderr.starts_with(&message), "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    let mut command = init(Place::Subreaper, &[]);
    command.arg("no-such-program").env("PATH", "/nowhere:/bin");
    let ended = Running::start(&mut command).wait().expect_code(127);
    assert!(ended.stderr.contains("in PATH, which is \"/nowhere:/bin\""), "{}", ended.stderr);
    let mut command = init(Place::Subreaper, &[]);
    command.arg("no-such-program").env_remove("PATH");
    let ended = Running::start(&mut command).wait().expect_code(127);
    assert!(ended.stderr.contains("in \"/bin:/usr/bin\", as PATH is not set"), "{}", ended.stderr);

    // A script without a first line is the shell's, as for execvp(3).
    let script = scratch.write("script", "echo \"$0 $1\"\n").display().to_string();
    executable(&script);
    let ended = Running::start(init(Place::Subreaper, &[]).args([&script, "one"])).wait();
    assert_eq!(ended.expect_code(0).stdout, format!("{script} one\n"));
}

fn executable(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn wrong_options_start_nothing() {
    let cases = [
        (&["-z", "--", "true"][..], "unknown option \"-z\""),
        (&["--"], "no command stands after \"--\""),
        (&["--grace", "soon", "--", "true"], "option \"--grace\" cannot be \"soon\": "),
    ];
    for (words, why) in cases {
        let ended = Running::start(Command::new(init_program()).args(words)).wait();
        let ended = ended.expect_code(125);
        assert!(ended.stderr.starts_with(&format!("keepd-init: fatal: {why}")), "{}", ended.stderr);
    }
    let help = Running::start(Command::new(init_program()).args(["--help", "--"])).wait();
    assert!(help.expect_code(0).stdout.starts_with("Usage: keepd-init [OPTIONS] -- COMMAND"));
}

#[test]
fn the_parents_end_can_be_a_signal() {
    let scratch = Scratch::new();
    let file = scratch.path().join("pids");
    // The shell in between is our child and the parent of the init.
    let between = format!(
        "\"$@\" -s -p USR1 -- sh -c 'trap \"echo orphaned; exit 3\" USR1; echo $PPID > {}; \
         echo ready; while :; do sleep 600 & wait $!; done' & wait",
        file.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &between, "sh"]).arg(init_program());
    let running = Running::start(&mut command);
    wait_for_line(&running, "ready");
    let pid: u32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    running.signal(Signal::KILL);
    wait_for_line(&running, "orphaned");
    assert!(wait_for_end(pid, LONG));
}

/// A terminal by script(1), with what a person types.
struct Terminal {
    running: Running,
    keys: std::io::PipeWriter,
}

impl Terminal {
    /// Runs a script as a session of its own in a terminal; `None` where there is no script(1).
    fn open(script: &str) -> Option<Self> {
        if find_program("script").is_none() {
            skip("keepd-init on a terminal: there is no script(1) here");
            return None;
        }
        let (reader, keys) = std::io::pipe().unwrap();
        let mut command = Command::new("script");
        command.args(["-qec", script, "/dev/null"]).env("SHELL", find_program("bash")?);
        command.env("INIT", init_program()).stdin(reader);
        Some(Self { running: Running::start(&mut command), keys })
    }

    fn wait_for(&self, text: &str) {
        let found = |line: &str| line.trim_end().ends_with(text);
        self.running.stdout().wait_for_line(text, LONG, found);
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }
}

/// Says whether the caller's group is the foreground group: fields 5 and 8 of /proc/PID/stat.
const STAT: &str = "set -- $(cat /proc/self/stat); echo \"$0\" $(($5 == $8)) $(($5 == $6))";

#[test]
fn on_a_terminal_the_command_has_it_and_gives_it_back() {
    let script = format!(
        "\"$INIT\" -s -- sh -c 'sh -c \"$1\" inside; trap \"echo interrupted\" INT; \
         trap \"echo continued\" CONT; echo ready; until read line; do :; done; \
         echo got $line; until read line; do :; done; exit 9' sh '{STAT}'; echo status $?; \
         sh -c '{STAT}' after"
    );
    let Some(mut terminal) = Terminal::open(&script) else { return };
    // Its group is the foreground group, and not the one that leads the session.
    terminal.wait_for("inside 1 0");
    terminal.wait_for("ready");
    // Keys go to the command alone: as a signal of ours it would come twice.
    terminal.press(b"\x03");
    terminal.wait_for("interrupted");
    terminal.press(b"typed\n");
    terminal.wait_for("got typed");
    // No shell is there that could continue it: it is not left standing.
    terminal.press(b"\x1a");
    terminal.wait_for("continued");
    terminal.press(b"\n");
    terminal.wait_for("status 9");
    terminal.wait_for("after 1 1");
    let text = terminal.running.stdout().text();
    assert_eq!(text.matches("interrupted").count(), 1, "{text}");
    terminal.running.wait().expect_code(0);
}

#[test]
fn a_shell_stops_and_continues_it_like_any_job() {
    let script = format!(
        "set -m; \"$INIT\" -s -- sh -c 'echo ready; read line; sh -c \"$1\" again; exit 9' \
         sh '{STAT}'; echo stopped $?; fg; echo status $?"
    );
    let Some(mut terminal) = Terminal::open(&script) else { return };
    terminal.wait_for("ready");
    terminal.press(b"\x1a");
    terminal.wait_for("stopped 148");
    terminal.press(b"\n");
    // It is in the foreground again.
    terminal.wait_for("again 1 0");
    terminal.wait_for("status 9");
    terminal.running.wait().expect_code(0);
}

#[test]
fn in_the_background_it_leaves_the_terminal_alone() {
    let script = format!(
        "set -m; \"$INIT\" -s -- sh -c 'sh -c \"$1\" behind' sh '{STAT}' & wait; \
         sh -c '{STAT}' before; true"
    );
    let Some(terminal) = Terminal::open(&script) else { return };
    terminal.wait_for("behind 0 0");
    terminal.wait_for("before 1 0");
    terminal.running.wait().expect_code(0);
}

#[test]
fn the_command_is_in_a_group_of_its_own_and_in_our_session() {
    let ended = run(Place::Subreaper, &[], "cut -d' ' -f5,6 /proc/$$/stat; echo $$");
    let ended = ended.expect_code(0);
    let words: BTreeSet<&str> = ended.stdout.split_whitespace().collect();
    let own = fs::read_to_string("/proc/self/stat").unwrap();
    let session = own.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap();
    // The group has the number of the shell.
    assert_eq!(words.len(), 2, "{}", ended.stdout);
    assert!(words.contains(session), "{}", ended.stdout);
}

#[test]
fn without_dashes_it_is_the_proxy_also_as_process_1() {
    let scratch = Scratch::new();
    let file = scratch.path().join("started");
    let script = format!("echo $PPID > {}; exec sleep 600", file.display());
    let commands = format!("service.args\tweb\tsh\t-c\t{script}\nservice.start\tweb\n");
    let configuration = scratch.write("commands", &commands);
    let mut command = match places().first() {
        Some(Place::First) => {
            let mut command = Command::new("unshare");
            command.args(CONTAIN).arg(init_program());
            command
        }
        Some(Place::Subreaper) | None => return,
    };
    command.arg("-c").arg(configuration);
    let _running = Running::start(&mut command);
    wait_until("the service of the proxy", LONG, || {
        let parent = fs::read_to_string(&file).unwrap_or_default();
        (parent == "1\n").then_some(())
    });
}

/// The files of the image recipe, with programs of the test in their places.
#[test]
fn the_recipe_for_several_services_stops_politely() {
    let Some(Place::First) = places().first() else { return };
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
    let text = fs::read_to_string(packaging.join("daemonproxy.conf")).unwrap();
    let readme = fs::read_to_string(packaging.join("README.md")).unwrap();
    for line in text.lines().filter(|line| line.contains('\t')) {
        assert!(readme.contains(&line.replace('\t', "⇥")), "the page does not show {line:?}");
    }
    let scratch = Scratch::new();
    let script = "#!/bin/sh\ntrap 'echo ends; exit 0' TERM; echo runs with $*\n\
                  while :; do sleep 600 & wait $!; done\n";
    let app = scratch.write("app", script).display().to_string();
    executable(&app);
    let text = text.replace("\t/app\t", &format!("\t{app}\t"));
    let bye = packaging.join("bye").display().to_string();
    let text = text.replace("\t/bye\n", &format!("\t{bye}\n"));
    let configuration = scratch.write("daemonproxy.conf", &text);
    let mut command = Command::new("unshare");
    command.args(CONTAIN).arg(init_program()).arg("-c").arg(configuration).stdin(Stdio::null());
    let running = Running::start(&mut command);
    wait_for_line(&running, "runs with --port 8080");
    assert!(signal(init_pid(Place::First, &running), Signal::TERM));
    let ended = running.wait().expect_code(0);
    assert!(ended.stdout.ends_with("\nends\n"), "{ended:?}");
}
