//! What a service finds when it runs: descriptors, arguments, environment, signals.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use keepd_testkit::daemonproxy::{Conversation, Daemonproxy, Setup};

use crate::services::{define, expect_down, output_of, read, run, start};

/// Lists the descriptors of the shell itself, from a subshell, which takes the redirection; the
/// `true` behind it keeps the shell from becoming that subshell.
const LIST: &str = "(find /proc/$$/fd -type l -printf '%f %l\\n' >out); true";

/// Sets the descriptor list of the observer, and returns what it finds open, by number.
#[track_caller]
fn open_with(proxy: &Daemonproxy, controller: &mut Conversation, list: &str) -> Vec<String> {
    controller.ask(format!("service.fds\tobserver{list}"));
    let mut lines: Vec<String> =
        output_of(proxy, controller, LIST).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// K11: without a list a service has the null device three times, and nothing else.
#[test]
fn without_a_list_there_is_the_null_device() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let out = output_of(&proxy, &mut controller, LIST);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0 /dev/null", "1 /dev/null", "2 /dev/null"]);
}

/// K11: with an empty list a service has no open descriptor at all.
#[test]
fn with_an_empty_list_nothing_is_open() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    assert_eq!(open_with(&proxy, &mut controller, ""), Vec::<String>::new());
    assert_eq!(open_with(&proxy, &mut controller, "\t"), Vec::<String>::new());
}

/// The position in the list is the number of the descriptor, `-` is a closed one, and a handle may
/// be there often. Everything beyond the list is closed.
#[test]
fn the_list_is_what_is_open() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let (a, b) = (proxy.path("a").display().to_string(), proxy.path("b").display().to_string());
    controller.ask("fd.open\ta\tread,write,create\ta");
    controller.ask("fd.open\tb\twrite,create\tb");
    assert_eq!(
        open_with(&proxy, &mut controller, "\tnull\t-\ta\tb\t-\ta\ta"),
        [
            "0 /dev/null".to_owned(),
            format!("2 {a}"),
            format!("3 {b}"),
            format!("5 {a}"),
            format!("6 {a}")
        ]
    );
    assert_eq!(open_with(&proxy, &mut controller, "\t-\t-\t-\tb"), [format!("3 {b}")]);
    assert_eq!(open_with(&proxy, &mut controller, "\tb"), [format!("0 {b}")]);
}

/// Long lists work too: no descriptor is overwritten on its way to another place.
#[test]
fn a_long_list_keeps_its_order() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let names: Vec<String> = (0..20).map(|number| format!("h{number:02}")).collect();
    for name in &names {
        controller.ask(format!("fd.open\t{name}\twrite,create\t{name}"));
    }
    let reversed: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    let found = open_with(&proxy, &mut controller, &format!("\t{}", reversed.join("\t")));
    let mut expected: Vec<String> = reversed
        .iter()
        .enumerate()
        .map(|(number, name)| format!("{number} {}", proxy.path(name).display()))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// An empty name in a list is skipped, with a warning in the log; later ones shift down.
#[test]
fn an_empty_name_in_a_list_is_skipped() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.open\ta\twrite,create\ta");
    let found = open_with(&proxy, &mut controller, "\tnull\t\ta");
    assert_eq!(found, ["0 /dev/null".to_owned(), format!("1 {}", proxy.path("a").display())]);
    proxy.expect_log(&["warning: "]);
}

/// Descriptors that the proxy was started with are not passed on unasked.
#[test]
fn inherited_descriptors_are_closed() {
    let setup = Setup::new().through(["sh", "-c", "exec 9</etc/passwd \"$0\" \"$@\""]);
    let (proxy, mut controller) = Daemonproxy::interactive_with(setup);
    let dump = controller.ask("statedump");
    assert!(dump.iter().any(|line| line.starts_with("fd.state\tfd_9\t")), "{dump:?}");
    assert_eq!(open_with(&proxy, &mut controller, "\tnull\tnull"), ["0 /dev/null", "1 /dev/null"]);
    assert_eq!(open_with(&proxy, &mut controller, "\t-\tfd_9"), ["1 /etc/passwd"]);
}

/// Descriptors of one service are not open in another.
#[test]
fn services_do_not_hold_each_others_pipes() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.pipe\tr\tw");
    controller.ask("service.args\tother\tsleep\t1000");
    start(&mut controller, "other");
    define(&mut controller, "reader", "cat; exit 5");
    controller.ask("service.fds\treader\tr\tnull");
    start(&mut controller, "reader");
    controller.ask("service.args\tlate\tsleep\t1000");
    start(&mut controller, "late");
    controller.ask("fd.delete\tw");
    assert_eq!(expect_down(&mut controller, "reader"), "exit 5");
}

/// Arguments arrive as they were given, empty ones too.
#[test]
fn arguments_arrive_as_given() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.open\tout\twrite,create,trunc\tout");
    controller.ask("service.args\tx\tprintf\t[%s]\ta\t\tb c\t \"$x\" \\ 'ü\t");
    controller.ask("service.fds\tx\tnull\tout");
    assert_eq!(run(&mut controller, "x"), "exit 0");
    assert_eq!(read(&proxy, "out"), "[a][][b c][ \"$x\" \\ 'ü][]");
}

/// The first argument is the program, looked for in the PATH of the proxy, and `argv[0]`.
#[test]
fn the_program_is_found_in_the_path() {
    let setup = Setup::new().file("tools/hello", "#!/bin/sh\necho hello from $0 >out\n");
    let tool = setup.path("tools/hello");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", setup.path("tools").display());
    let (proxy, mut controller) = Daemonproxy::interactive_with(setup.variable("PATH", path));
    controller.ask("service.args\tx\thello");
    assert_eq!(run(&mut controller, "x"), "exit 0");
    assert_eq!(read(&proxy, "out"), format!("hello from {}\n", tool.display()));
    // A name with a slash is a path, from the directory of the proxy.
    controller.ask("service.args\tx\ttools/hello");
    assert_eq!(run(&mut controller, "x"), "exit 0");
    assert_eq!(read(&proxy, "out"), "hello from tools/hello\n");
    controller.ask("service.args\tx\tcut\t-z\t-c\t1-\t/proc/self/cmdline");
    controller.ask("fd.open\tout\twrite,create,trunc\tout");
    controller.ask("service.fds\tx\tnull\tout");
    assert_eq!(run(&mut controller, "x"), "exit 0");
    assert!(read(&proxy, "out").starts_with("cut\0-z\0"), "{:?}", read(&proxy, "out"));
}

/// K14: the environment is that of the proxy, unchanged.
#[test]
fn the_environment_is_the_proxys() {
    let setup = Setup::new().variable("COLOUR", "blue green").variable("EMPTY", "");
    let (proxy, mut controller) = Daemonproxy::interactive_with(setup);
    controller.ask("fd.open\tout\twrite,create,trunc\tout");
    controller.ask("service.args\tx\tcat\t/proc/self/environ");
    controller.ask("service.fds\tx\tnull\tout");
    assert_eq!(run(&mut controller, "x"), "exit 0");
    let own = fs::read_to_string(format!("/proc/{}/environ", proxy.pid())).unwrap();
    let sorted = |text: &str| {
        let mut entries: Vec<String> = text.split('\0').map(str::to_owned).collect();
        entries.sort();
        entries
    };
    assert_eq!(sorted(&read(&proxy, "out")), sorted(&own));
    assert!(own.contains("COLOUR=blue green\0"), "{own:?}");
}

/// K14: the umask is 077, whatever the proxy was started with; the directory is the proxy's.
#[test]
fn the_umask_is_077() {
    let setup = Setup::new().through(["sh", "-c", "umask 0; exec \"$0\" \"$@\""]);
    let (proxy, mut controller) = Daemonproxy::interactive_with(setup);
    let out = output_of(&proxy, &mut controller, "(umask; /bin/pwd) >out");
    assert_eq!(out, format!("0077\n{}\n", proxy.folder().display()));
}

/// K13: services are in the session and the process group of the proxy, and are its children.
#[test]
fn services_share_session_and_group() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    // Process, parent, group, session: fields 1, 4, 5, 6 of proc_pid_stat(5).
    let script = "cut -d ' ' -f 1,4,5,6 /proc/$$/stat >out; true";
    let out = output_of(&proxy, &mut controller, script);
    let service: Vec<&str> = out.split_whitespace().collect();
    let own = fs::read_to_string(format!("/proc/{}/stat", proxy.pid())).unwrap();
    let (_, own) = own.rsplit_once(')').unwrap();
    let own: Vec<&str> = own.split_whitespace().collect();
    assert_eq!(service[1], proxy.pid().to_string());
    assert_eq!(service[2..], own[2..4]);
}

/// Limits are those that the proxy was started with.
#[test]
fn limits_are_the_proxys() {
    let setup =
        Setup::new().through(["sh", "-c", "ulimit -Sn 1000; ulimit -c 0; exec \"$0\" \"$@\""]);
    let (proxy, mut controller) = Daemonproxy::interactive_with(setup);
    let out = output_of(&proxy, &mut controller, "(ulimit -Sn; ulimit -c) >out");
    assert_eq!(out, "1000\n0\n");
}

/// Signals are neither blocked nor ignored, even those that were ignored when the proxy was
/// started, as far as it handles them; others are inherited.
#[test]
fn signals_are_at_their_defaults() {
    let trap = "trap '' HUP INT QUIT USR1 USR2 PIPE ALRM TERM CHLD TSTP; exec \"$0\" \"$@\"";
    let setup = Setup::new().through(["sh", "-c", trap]);
    let (proxy, mut controller) = Daemonproxy::interactive_with(setup);
    controller.ask("fd.open\tout\twrite,create,trunc\tout");
    controller.ask("service.args\tx\tgrep\t-E\t^Sig(Blk|Ign|Cgt)\t/proc/self/status");
    controller.ask("service.fds\tx\tnull\tout");
    assert_eq!(run(&mut controller, "x"), "exit 0");
    let out = read(&proxy, "out");
    let set = |name: &str| {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let bits = |numbers: &[u64]| numbers.iter().map(|number| 1 << (number - 1)).sum::<u64>();
    // HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM CHLD, and TSTP.
    let handled = bits(&[1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 17]);
    let others = bits(&[20]);
    assert_eq!(set("SigBlk"), 0, "{out}");
    assert_eq!(set("SigIgn") & (handled | others), others, "{out}");
}

/// A service that ends by PIPE shows that nobody ignores it.
#[test]
fn a_broken_pipe_ends_a_service() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.pipe\tr\tw");
    controller.ask("fd.delete\tr");
    controller.ask("service.args\tx\tyes");
    controller.ask("service.fds\tx\tnull\tw");
    assert_eq!(run(&mut controller, "x"), "signal SIGPIPE");
}

/// With a descriptor list of services that close everything, the proxy itself goes on.
#[test]
fn a_service_without_standard_descriptors_runs() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 12");
    controller.ask("service.fds\tx");
    for _ in 0..3 {
        assert_eq!(run(&mut controller, "x"), "exit 12");
    }
}
