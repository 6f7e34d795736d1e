//! The command line: every option, its grammar, and what is refused.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use keepd_testkit::{LONG, Running, wait_until};

use crate::place::{Place, handles, holds, link, path_of_length, shows};

/// What is refused with exit code 2, and nothing is started.
#[track_caller]
fn refused(place: &Place, words: &[&str]) {
    let ended = place.run(words).expect_code(2);
    assert!(shows(&ended.stderr, &["fatal: "]), "{words:?}: {:?}", ended.stderr);
}

/// Without any of `-i`, `-c`, `-S` there is nothing to do.
#[test]
fn without_a_controller_it_ends_with_2() {
    let place = Place::new();
    refused(&place, &[]);
    refused(&place, &["-v"]);
    refused(&place, &["--exit-guard", "0"]);
}

/// No `-cFILE`, no `--x=VALUE`, no abbreviations, no `--`.
#[test]
fn what_is_no_option_is_refused() {
    let place = Place::new();
    place.write("FILE", "");
    let wrong = [
        &["--nonsense"][..],
        &["-x"],
        &["-ix"],
        &["--"],
        &["-i", "--"],
        &["-cFILE"],
        &["--config=FILE"],
        &["--conf", "FILE"],
        &["--interact"],
        &["-config", "FILE"],
        &["--Interactive"],
        &["-I"],
    ];
    for words in wrong {
        refused(&place, words);
    }
}

/// Any other word is an error.
#[test]
fn a_superfluous_word_is_refused() {
    let place = Place::new();
    place.write("FILE", "");
    refused(&place, &["-i", "word"]);
    refused(&place, &["-c", "FILE", "FILE"]);
    refused(&place, &["-i", ""]);
}

/// An option with an argument takes the next word, and there must be one.
#[test]
fn a_missing_argument_is_refused() {
    let place = Place::new();
    let options = ["-c", "--config", "-S", "--socket", "--exit-guard", "-E", "--exit-exec"];
    for option in options.into_iter().chain(["--fd-pool", "--service-pool", "-ic"]) {
        refused(&place, &[option]);
        refused(&place, &["-i", option]);
    }
}

/// The next word is the argument, whatever it looks like.
#[test]
fn an_argument_may_look_like_an_option() {
    let place = Place::new();
    place.write("-i", "terminate\t9\n");
    place.run(&["-c", "-i"]).expect_code(9);
}

/// A lone `-` is ignored.
#[test]
fn a_lone_dash_is_ignored() {
    let place = Place::new();
    place.write("FILE", "terminate\t5\n");
    place.run(&["-", "-c", "FILE", "-"]).expect_code(5);
    refused(&place, &["-"]);
}

/// Short options cluster; each takes the next word that is left.
#[test]
fn short_options_cluster() {
    let place = Place::new();
    place.write("FILE", "terminate\t6\n");
    place.run(&["-vqc", "FILE"]).expect_code(6);
    place.run(&["-cS", "FILE", "sock"]).expect_code(6);
    place.run(&["-Sc", "sock", "FILE"]).expect_code(6);
    let mut proxy = Place::start_interactive(&mut place.daemonproxy(&["-viS", "sock"]));
    proxy.talk.sync();
    proxy.talk.answers("log.filter", "log.filter\ttrace");
    place.connect("sock", &proxy).sync();
}

/// Long and short names mean the same.
#[test]
fn long_names_mean_what_short_names_mean() {
    let place = Place::new();
    place.write("FILE", "terminate\t6\n");
    place.run(&["--config", "FILE"]).expect_code(6);
    let words = ["--interactive", "--socket", "sock", "--verbose", "--quiet", "--quiet"];
    let mut proxy = Place::start_interactive(&mut place.daemonproxy(&words));
    proxy.talk.sync();
    proxy.talk.answers("log.filter", "log.filter\tinfo");
    place.connect("sock", &proxy).sync();
}

/// Repeating an option: the last one wins.
#[test]
fn the_last_of_repeated_options_wins() {
    let place = Place::new();
    place.write("one", "terminate\t1\n");
    place.write("two", "terminate\t2\n");
    place.run(&["-c", "one", "-c", "two"]).expect_code(2);
    let mut proxy = place.socket(&["-S", "other", "--exit-guard", "3", "--exit-guard", "0"]);
    assert!(!place.path("other").exists());
    proxy.talk.send("terminate\t8");
    proxy.wait().expect_code(8);
    let words = ["-E", "sh\t-c\techo one >&2", "-E", "sh\t-c\techo two >&2", "-c", "one"];
    let ended = place.run(&words).expect_code(0);
    assert!(shows(&ended.stderr, &["two"]) && !ended.stderr.lines().any(|line| line == "one"));
}

/// Options are effective at once: what is told before `-q` is told, what follows is not.
#[test]
fn options_are_effective_from_left_to_right() {
    let place = Place::new();
    let quiet = place.run(&["-qqqq", "--nonsense"]).expect_code(2);
    assert_eq!(quiet.stderr, "");
    let loud = place.run(&["--nonsense", "-qqqq"]).expect_code(2);
    assert!(shows(&loud.stderr, &["fatal: "]), "{:?}", loud.stderr);
    place.run(&["--help", "--nonsense"]).expect_code(1);
    place.run(&["--nonsense", "--help"]).expect_code(2);
}

/// `-v` is one step down, `-q` one up; they add up, and are clamped at both ends.
#[test]
fn verbose_and_quiet_add_up() {
    let levels = [
        ("-i", "debug"),
        ("-iv", "trace"),
        ("-ivv", "none"),
        ("-ivvv", "none"),
        ("-iq", "info"),
        ("-iqq", "warning"),
        ("-iqqq", "error"),
        ("-iqqqq", "fatal"),
        ("-iqqqqqq", "fatal"),
        ("-ivqqv", "debug"),
        ("-iqqqqqqv", "error"),
    ];
    let place = Place::new();
    for (word, level) in levels {
        let mut proxy = Place::start_interactive(&mut place.daemonproxy(&[word]));
        proxy.talk.sync();
        proxy.talk.answers("log.filter", &format!("log.filter\t{level}"));
        proxy.talk.close_input();
        proxy.wait().expect_code(0);
    }
}

/// `--help`: a line with the word "options", one line for each option with `--interactive` before
/// `--exit-exec`, on standard output; exit code 1 (K6).
#[test]
fn help_names_each_option_in_a_line_and_ends_with_1() {
    let place = Place::new();
    let long = place.run(&["--help"]).expect_code(1);
    let short = place.run(&["-h"]).expect_code(1);
    assert_eq!(long.stdout, short.stdout);
    assert!(shows(&long.stdout, &["options"]), "{}", long.stdout);
    let lines: Vec<&str> = long.stdout.lines().collect();
    let place_of = |option: &str| {
        let named = lines.iter().position(|line| line.contains(option));
        named.unwrap_or_else(|| panic!("{option} is missing:\n{}", long.stdout))
    };
    let options = [
        "--config",
        "--interactive",
        "--socket",
        "--daemonize",
        "--exit-guard",
        "--exit-exec",
        "--fd-pool",
        "--service-pool",
        "--mlockall",
        "--verbose",
        "--quiet",
        "--help",
        "--version",
    ];
    let mut places: Vec<usize> = options.iter().map(|option| place_of(option)).collect();
    assert!(place_of("--interactive") < place_of("--exit-exec"));
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), options.len(), "two options in one line:\n{}", long.stdout);
}

/// `--version`: program, build time stamp, git HEAD, copyright with years, LICENSE, each in a line
/// of its own and in this order; exit code 1 (K6).
#[test]
fn version_has_five_lines_in_order_and_ends_with_1() {
    let place = Place::new();
    let ended = place.run(&["--version"]).expect_code(1);
    let all_in = |text: &str, digits: fn(&char) -> bool| {
        !text.is_empty() && text.chars().all(|letter| digits(&letter))
    };
    let years = |line: &str| {
        let words = line.split(|letter: char| letter.is_whitespace() || letter == ',');
        words.into_iter().any(|word| {
            word.split_once('-').is_some_and(|(from, to)| {
                [from, to].iter().all(|year| year.len() == 4 && year.parse::<u16>().is_ok())
            })
        })
    };
    let fits: [&dyn Fn(&str) -> bool; 5] = [
        &|line| {
            let line = line.to_lowercase();
            line.find("daemonproxy").is_some_and(|at| line[at..].contains("version"))
        },
        &|line| {
            let seconds = line.strip_prefix("build timestamp: ");
            seconds.is_some_and(|text| all_in(text, char::is_ascii_digit))
        },
        &|line| {
            let commit = line.strip_prefix("git HEAD: ");
            commit.is_some_and(|text| all_in(text, char::is_ascii_hexdigit))
        },
        &|line| line.to_lowercase().starts_with("copyright ") && years(line),
        &|line| line.contains("LICENSE"),
    ];
    let mut from = 0;
    let lines: Vec<&str> = ended.stdout.lines().collect();
    for (number, fits) in fits.iter().enumerate() {
        let found = lines[from..].iter().position(|line| fits(line));
        let found = found.unwrap_or_else(|| panic!("line {number} is missing:\n{}", ended.stdout));
        from += found + 1;
    }
}

/// `-c`: existence is checked while parsing: exit code 2.
#[test]
fn a_config_file_that_is_missing_is_refused_with_2() {
    let place = Place::new();
    place.write("FILE", "");
    refused(&place, &["-c", "missing"]);
    refused(&place, &["-c", "missing", "-c", "FILE"]);
    refused(&place, &["-i", "-c", "missing/FILE"]);
}

/// `-c`: what is there and cannot be opened ends it with 3.
#[test]
fn a_config_file_that_cannot_be_opened_ends_it_with_3() {
    let place = Place::new();
    let _listener = UnixListener::bind(place.path("a-socket")).unwrap();
    let ended = place.run(&["-c", "a-socket"]).expect_code(3);
    assert!(shows(&ended.stderr, &["fatal: "]), "{:?}", ended.stderr);
}

/// Without descriptors for the handles that are always there it ends with 4.
#[test]
fn handles_that_cannot_be_made_end_it_with_4() {
    let place = Place::new();
    let mut command = place.after("ulimit -n 5", &["-i"]);
    let ended = Running::start(&mut command).wait().expect_code(4);
    assert!(shows(&ended.stderr, &["fatal: ", "too many open files"]), "{:?}", ended.stderr);
}

/// `-c`: what can be opened and not be read is told in the log.
#[test]
fn a_config_file_that_cannot_be_read_is_an_error() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    let mut proxy = place.socket(&["-c", "folder"]);
    proxy.log_line(&["error: ", "cannot read commands", "directory"]);
    proxy.talk.sync();
}

/// `-c FILE` is a stream of commands, read once; at its end the proxy goes on.
#[test]
fn a_config_file_is_read_once_and_its_end_is_not_the_end() {
    let place = Place::new();
    place.write("FILE", "service.args\tone\ttrue\nservice.args\ttwo\ttrue");
    let mut proxy = place.socket(&["-c", "FILE"]);
    let dump = wait_until("the last line of the file", LONG, || {
        let dump = proxy.talk.ask("statedump");
        dump.iter().any(|line| line == "service.args\ttwo\ttrue").then_some(dump)
    });
    assert!(dump.iter().any(|line| line == "service.args\tone\ttrue"));
    place.write("FILE", "service.args\tthree\ttrue\n");
    proxy.talk.is_silent("signal.clear\tSIGUSR1\t0");
    proxy.signal(1);
    proxy.talk.expect("signal\tSIGHUP\t{rest}");
    let dump = proxy.talk.ask("statedump");
    assert!(!dump.iter().any(|line| line.contains("three")), "{dump:#?}");
}

/// Errors of a config file are seen in the log only, and what follows is done all the same.
#[test]
fn an_error_of_the_config_file_is_logged_and_the_rest_is_done() {
    let place = Place::new();
    place.write("FILE", "no.such.thing\tx\nservice.start\tnobody\nterminate\t4\n");
    let ended = place.run(&["-c", "FILE"]).expect_code(4);
    assert!(
        shows(&ended.stderr, &["error: ", "unknown command no.such.thing"]),
        "{}",
        ended.stderr
    );
    assert!(shows(&ended.stderr, &["error: ", "service.start"]), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

/// A FIFO is fine: commands are done as they come, and the end comes when its writer closes.
#[test]
fn a_config_fifo_is_a_stream() {
    let place = Place::new();
    let path = place.fifo("FIFO");
    // Open both ways, so that neither side waits for the other.
    let mut both = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut proxy = place.socket(&["-c", "FIFO"]);
    both.write_all(b"service.args\tone\ttrue\n").unwrap();
    proxy.talk.expect("service.args\tone\ttrue");
    // A last line without its end waits for the end of the file.
    both.write_all(b"service.args\ttwo\ttrue").unwrap();
    proxy.talk.send("service.start\tone");
    proxy.talk.expect("service.state\tone\tdown\t{rest}");
    let dump = proxy.talk.ask("statedump");
    assert!(!dump.iter().any(|line| line.contains("two")), "{dump:#?}");
    drop(both);
    proxy.talk.expect("service.args\ttwo\ttrue");
    proxy.log_line(&["warning: "]);
}

/// `-c -` is standard input. Nothing is answered there, and its end is not the end.
#[test]
fn a_dash_as_config_file_is_standard_input() {
    let place = Place::new();
    let command = &mut place.daemonproxy(&["-c", "-", "-S", "sock"]);
    let mut proxy = Place::start_interactive(command);
    let mut other = place.connect("sock", &proxy);
    proxy.talk.send("echo\tnobody hears this\nservice.args\tone\ttrue");
    other.expect("service.args\tone\ttrue");
    proxy.talk.close_input();
    other.sync();
    assert_eq!(proxy.running.stdout().text(), "");
    other.send("terminate\t3");
    proxy.wait().expect_code(3);
}

/// `-i -c -`: both want standard input, so it is refused with 3.
#[test]
fn standard_input_cannot_be_two_controllers() {
    let place = Place::new();
    place.run(&["-i", "-c", "-"]).expect_code(3);
}

/// `-i -c FILE`: both are served, also when the file starts a controller (A5).
#[test]
fn interactive_and_config_file_go_together() {
    let place = Place::new();
    let boss = place.script("boss", "printf 'service.args\\tmade-by-boss\\ttrue\\n'; read line");
    let lines = format!(
        "service.args\tboss\t{boss}\nservice.fds\tboss\tcontrol.event\tcontrol.cmd\tstderr\n\
         service.start\tboss\n"
    );
    place.write("FILE", &lines);
    let mut proxy = Place::start_interactive(&mut place.daemonproxy(&["-i", "-c", "FILE"]));
    proxy.talk.expect("service.args\tmade-by-boss\ttrue");
    proxy.talk.sync();
}

/// `-i`: the end of the input, and `exit`, end it with 0 (K5).
#[test]
fn an_interactive_session_ends_with_0() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    proxy.talk.close_input();
    proxy.wait().expect_code(0);
    let mut proxy = place.interactive(&[]);
    proxy.talk.send("exit");
    proxy.wait().expect_code(0);
    // All that was said is done before.
    let mut proxy = Place::start_interactive(&mut place.daemonproxy(&["-i"]));
    proxy.talk.send("echo\tlast word");
    proxy.talk.close_input();
    assert_eq!(proxy.talk.expect_end().last().unwrap(), "last word");
    proxy.wait().expect_code(0);
}

/// `-i` greets with lines of `info`, the first with program and version; nobody else is greeted.
#[test]
fn only_the_interactive_controller_is_greeted() {
    let place = Place::new();
    let mut proxy = Place::start_interactive(&mut place.daemonproxy(&["-i", "-S", "sock"]));
    let banner = proxy.talk.sync();
    let first = banner.first().expect("there is a banner");
    assert!(first.starts_with("info\t") && holds(first, &["daemonproxy"]), "{banner:#?}");
    assert!(first.chars().any(|letter| letter.is_ascii_digit()), "no version: {first:?}");
    assert!(banner.iter().all(|line| line.starts_with("info\t")), "{banner:#?}");
    assert_eq!(place.connect("sock", &proxy).sync(), Vec::<String>::new());
}

/// A closed descriptor for `-i` ends it with 3.
#[test]
fn an_interactive_session_needs_its_descriptors() {
    let place = Place::new();
    for closed in ["exec <&-", "exec >&-"] {
        let command = &mut place.after(closed, &["-i"]);
        Running::start(command).wait().expect_code(3);
    }
}

/// `-S`: at most 107 bytes.
#[test]
fn a_socket_path_has_at_most_107_bytes() {
    let place = Place::new();
    let longest = path_of_length(&place.path("."), 107);
    let mut proxy =
        place.start_with_socket(&mut place.daemonproxy(&["-S", &longest, "-S", "sock"]));
    proxy.talk.send("terminate\t0");
    proxy.wait().expect_code(0);
    let command = &mut place.daemonproxy(&["-i", "-S", &longest]);
    let mut proxy = Place::start_interactive(command);
    proxy.talk.sync();
    UnixStream::connect(&longest).unwrap();
    let longer = format!("{longest}s");
    let ended = place.run(&["-S", &longer]);
    assert!([2, 3].contains(&ended.code()), "{}", ended.code());
}

/// `-S`: where no socket can be made, it ends with 3.
#[test]
fn a_socket_that_cannot_be_made_ends_it_with_3() {
    let place = Place::new();
    let ended = place.run(&["-S", "missing/sock"]).expect_code(3);
    assert!(shows(&ended.stderr, &["fatal: "]), "{:?}", ended.stderr);
}

/// `-S`: an ordinary file at the path is left alone (A21), a leftover socket is replaced.
#[test]
fn only_a_leftover_socket_is_replaced() {
    let place = Place::new();
    place.write("file", "precious");
    place.run(&["-S", "file"]).expect_code(3);
    assert_eq!(place.read("file"), "precious");
    drop(UnixListener::bind(place.path("sock")).unwrap());
    assert!(place.path("sock").exists());
    place.socket(&[]).talk.sync();
}

/// `-S`: by umask 077 only the user may connect.
#[test]
fn the_socket_is_for_the_user_only() {
    let place = Place::new();
    let _proxy = place.start_with_socket(&mut place.after("umask 000", &["-S", "sock"]));
    let mode = std::fs::metadata(place.path("sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// umask 077 is never undone; services inherit it (K14).
#[test]
fn services_get_umask_077() {
    let place = Place::new();
    let mut proxy = place.start_with_socket(&mut place.after("umask 000", &["-S", "sock"]));
    let seen = place.in_service(&mut proxy.talk, "null\tnull\tnull", "umask > $OUT");
    assert_eq!(seen, "0077\n");
    proxy.talk.send("fd.open\tnew\twrite,create\tnew");
    proxy.talk.expect("fd.state\tnew\t{rest}");
    let mode = std::fs::metadata(place.path("new")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Services get the environment of the proxy, unchanged (K14), and nothing for `--exit-exec`.
#[test]
fn services_get_the_environment_unchanged() {
    let place = Place::new();
    let mut command = place.daemonproxy(&["-S", "sock", "-E", "true"]);
    command.env_clear().envs([("PATH", "/usr/bin:/bin"), ("A", "one two"), ("EMPTY", "")]);
    let mut proxy = place.start_with_socket(&mut command);
    proxy.talk.send("service.fds\tx\tnull\tout\tnull");
    proxy.talk.send("fd.open\tout\twrite,create\tenvironment");
    proxy.talk.send("service.args\tx\tenv");
    proxy.talk.send("service.start\tx");
    proxy.talk.expect("service.state\tx\tdown\t{rest}");
    let mut lines: Vec<String> = place.read("environment").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=one two", "EMPTY=", "PATH=/usr/bin:/bin"]);
}

/// `-M` locks all memory.
#[test]
fn mlockall_locks_memory() {
    let place = Place::new();
    for word in ["-M", "--mlockall"] {
        let mut proxy = place.interactive(&[word]);
        if shows(&proxy.log(), &["error: ", "lock"]) {
            keepd_testkit::skip("mlockall: memory cannot be locked here");
            return;
        }
        assert_ne!(proxy.status("VmLck"), "0 kB", "{word}");
        proxy.talk.sync();
    }
}

/// `-M`: a failure is an error in the log, no more.
#[test]
fn memory_that_cannot_be_locked_is_an_error_only() {
    let place = Place::new();
    let mut command = place.command("prlimit");
    command.args(["--memlock=0", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]);
    command.args([&place.program(), "-M", "-S", "sock"]);
    let mut probe = place.command("setpriv");
    let probe = probe.args(["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        keepd_testkit::skip("mlockall: the right to lock memory cannot be given up here");
        return;
    }
    let mut proxy = place.start_with_socket(&mut command);
    proxy.log_line(&["error: ", "lock"]);
    proxy.talk.send("terminate\t0");
    proxy.wait().expect_code(0);
}

/// One process, whose name is `daemonproxy`.
#[test]
fn its_name_is_daemonproxy() {
    let place = Place::new();
    let proxy = place.socket(&[]);
    assert_eq!(proxy.status("Name"), "daemonproxy");
    assert_eq!(link(proxy.pid(), 0).unwrap(), "/dev/null");
}

/// `keepd proxy` is the same program.
#[test]
fn keepd_proxy_is_the_same_program() {
    let place = Place::new();
    let mut command = place.command(&keepd_testkit::keepd_program().display().to_string());
    let mut proxy = Place::start_interactive(command.args(["proxy", "-i", "--fd-pool", "8"]));
    proxy.talk.sync();
    assert_eq!(handles(&mut proxy.talk).len(), 7);
    proxy.talk.send("terminate\t3");
    proxy.wait().expect_code(3);
}
