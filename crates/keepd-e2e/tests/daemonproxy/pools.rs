//! `--fd-pool` and `--service-pool`: their grammar, their limits, and what a full one refuses.

use keepd_testkit::Running;
use keepd_testkit::daemonproxy::Conversation;

use crate::place::{Place, handle, handles, shows};

/// `N`, `NxM`, `Nx`, and every suffix of M.
#[test]
fn pools_are_given_in_many_forms() {
    let place = Place::new();
    let forms =
        ["8", "8x", "8x64", "8x64b", "8x64B", "8x1k", "8x1K", "8x1kiB", "8x1KiB", "8x1kB", "8x1KB"];
    for form in forms {
        let words = ["--fd-pool", form, "--service-pool", form];
        let mut proxy = place.interactive(&words);
        assert_eq!(handles(&mut proxy.talk).len(), 7, "{form}");
        assert!(!shows(&proxy.log(), &["warning: "]), "{form}: {}", proxy.log());
        proxy.talk.send("terminate\t0");
        let ended = proxy.wait().expect_code(0);
        assert!(!shows(&ended.stderr, &["imum"]), "{form}: {}", ended.stderr);
    }
    for form in ["1x1m", "1x1M", "1x1MiB", "1x1mB", "1x1MB", "1x1miB"] {
        let proxy = place.interactive(&["--service-pool", form]);
        assert!(!shows(&proxy.log(), &["imum"]), "{form}: {}", proxy.log());
    }
}

/// Anything else, leftover text, `t` and what is too large for a number are refused with 2 (A26).
#[test]
fn other_forms_are_refused() {
    let place = Place::new();
    let forms = [
        "",
        "x",
        "x5",
        "5 ",
        " 5",
        "+5",
        "-5",
        "five",
        "5,6",
        "5y64",
        "5x64x",
        "5x64 ",
        "5x-64",
        "5x1Kb",
        "5x1kib",
        "5x1KIB",
        "5x1kk",
        "5xk",
        "5x1i",
        "5x1iB",
        "5x1bb",
        "5x1t",
        "5x1T",
        "5x1TiB",
        "5x1tB",
        "5x1.5k",
        "0x10y",
        "5x18446744073709551616",
        "99999999999999999999",
        "5x18446744073709551615k",
        "5x99999999999999999999g",
        "5x18014398509481985kiB",
    ];
    for option in ["--fd-pool", "--service-pool"] {
        for form in forms {
            let ended = place.run(&["-i", option, form]).expect_code(2);
            assert!(shows(&ended.stderr, &["fatal: "]), "{option} {form:?}: {}", ended.stderr);
        }
    }
}

/// What is out of range is clamped, with a warning that holds "minimum" or "maximum".
#[test]
fn sizes_out_of_range_are_clamped_with_a_warning() {
    let place = Place::new();
    let sizes = [
        ("--fd-pool", "0", "minimum"),
        ("--fd-pool", "6", "minimum"),
        ("--fd-pool", "1025", "maximum"),
        ("--fd-pool", "4000000000", "maximum"),
        ("--fd-pool", "7x31", "minimum"),
        ("--fd-pool", "7x0", "minimum"),
        ("--fd-pool", "7x4097", "maximum"),
        ("--fd-pool", "7x1g", "maximum"),
        ("--service-pool", "0", "minimum"),
        ("--service-pool", "1x63", "minimum"),
        ("--service-pool", "65536x64", "maximum"),
    ];
    for (option, size, word) in sizes {
        let mut proxy = place.interactive(&[option, size]);
        proxy.log_line(&["warning: ", word]);
        proxy.talk.send("terminate\t0");
        proxy.wait().expect_code(0);
    }
}

/// The limits themselves are accepted without a word.
#[test]
fn sizes_within_range_are_not_warned_of() {
    let place = Place::new();
    let sizes = [
        ("--fd-pool", "7x32"),
        ("--fd-pool", "1024x4096"),
        ("--fd-pool", "7x4k"),
        ("--service-pool", "1x64"),
        ("--service-pool", "65535x64"),
    ];
    for (option, size) in sizes {
        let mut proxy = place.interactive(&[option, size]);
        proxy.talk.send("terminate\t0");
        let ended = proxy.wait().expect_code(0);
        assert!(!shows(&ended.stderr, &["warning: "]), "{option} {size}: {}", ended.stderr);
    }
}

/// A clamped pool has the smallest size: one service, seven handles.
#[test]
fn a_clamped_pool_has_the_smallest_size() {
    let place = Place::new();
    let mut proxy = place.interactive(&["--fd-pool", "1", "--service-pool", "0"]);
    proxy.talk.answers("service.args\tone\tx", "service.args\tone\tx");
    proxy.talk.refuses("service.args\ttwo\tx", &["allocate", "service"]);
    assert_eq!(handles(&mut proxy.talk).len(), 7);
    proxy.talk.refuses("fd.open\tx\tread\t/dev/null", &["allocate", "file"]);
}

/// A full service pool: every command that would make a service is refused, those that are there
/// can be changed, and a deleted one makes room.
#[test]
fn a_full_service_pool_refuses_new_services() {
    let place = Place::new();
    let mut proxy = place.interactive(&["--service-pool", "3"]);
    for name in ["a", "b", "c"] {
        proxy.talk.answers(&format!("service.args\t{name}\ttrue"), "service.args\t{rest}");
    }
    for command in ["args\td\tx", "fds\td\tnull", "tags\td\tx", "auto_up\td\t1\tSIGHUP"] {
        proxy.talk.refuses(&format!("service.{command}"), &["allocate", "service"]);
    }
    proxy.talk.answers("service.args\tb\tfalse", "service.args\tb\tfalse");
    let dump = proxy.talk.ask("statedump");
    assert!(!dump.iter().any(|line| line.contains("\td\t")), "{dump:#?}");
    proxy.talk.ask("service.delete\tb");
    proxy.talk.answers("service.tags\td\tx", "service.tags\td\tx");
    proxy.talk.refuses("service.tags\tb\tx", &["allocate", "service"]);
}

/// The smallest service pool runs its one service again and again.
#[test]
fn a_service_of_a_full_pool_runs() {
    let place = Place::new();
    let mut proxy = place.interactive(&["--service-pool", "1x64", "--fd-pool", "7"]);
    proxy.talk.send("service.args\tx\ttrue");
    for _ in 0..3 {
        proxy.talk.send("service.start\tx");
        proxy.talk.expect("service.state\tx\tdown\t{num}\t{pid}\texit\t0\t{num}\t{num}");
    }
}

/// Sets a value that does not fit, and hears that the old one is still there.
#[track_caller]
fn keeps(talk: &mut Conversation, command: &str, name: &str, old: &str) {
    talk.refuses(command, &[]);
    let dump = talk.ask("statedump");
    let line = format!("service.{name}\tx\t{old}");
    assert!(dump.contains(&line), "no {line:?} in {dump:#?}");
}

/// Values that do not fit into M are refused, the old ones stay.
#[test]
fn values_too_long_for_the_pool_are_refused_and_the_old_stay() {
    let place = Place::new();
    let mut proxy = place.interactive(&["--service-pool", "2x128"]);
    let long = "y".repeat(130);
    proxy.talk.answers("service.args\tx\tone\ttwo", "service.args\tx\tone\ttwo");
    keeps(&mut proxy.talk, &format!("service.args\tx\t{long}"), "args", "one\ttwo");
    proxy.talk.answers("service.tags\tx\tone", "service.tags\tx\tone");
    keeps(&mut proxy.talk, &format!("service.tags\tx\t{long}"), "tags", "one");
    let names = vec!["stderr"; 30].join("\t");
    proxy.talk.answers("service.fds\tx\tnull\tnull", "service.fds\tx\tnull\tnull");
    keeps(&mut proxy.talk, &format!("service.fds\tx\t{names}"), "fds", "null\tnull");
    let triggers = vec!["SIGUSR1"; 60].join("\t");
    proxy.talk.answers("service.auto_up\tx\t9\tSIGHUP", "service.auto_up\tx\t9\tSIGHUP");
    keeps(&mut proxy.talk, &format!("service.auto_up\tx\t7\t{triggers}"), "auto_up", "9\tSIGHUP");
}

/// M holds args, fds, tags and triggers together.
#[test]
fn the_values_of_a_service_share_its_place() {
    let place = Place::new();
    let mut proxy = place.interactive(&["--service-pool", "2x128"]);
    let half = "y".repeat(80);
    let args = format!("service.args\tx\t{half}");
    let tags = format!("service.tags\tx\t{half}");
    proxy.talk.answers(&args, &args);
    proxy.talk.refuses(&tags, &[]);
    proxy.talk.answers("service.args\tx", "service.args\tx\t");
    proxy.talk.answers(&tags, &tags);
    // The other service has its own.
    proxy.talk.answers(&args.replace("\tx\t", "\tz\t"), &args.replace("\tx\t", "\tz\t"));
}

/// M is 512 for services when it is not given.
#[test]
fn services_have_512_bytes_by_default() {
    let place = Place::new();
    for size in ["4", "4x"] {
        let mut proxy = place.interactive(&["--service-pool", size]);
        let fits = format!("service.args\tx\t{}", "y".repeat(400));
        proxy.talk.answers(&fits, &fits);
        let long = "y".repeat(520);
        keeps(&mut proxy.talk, &format!("service.args\tx\t{long}"), "args", &"y".repeat(400));
    }
}

/// The seven built-in handles fill a pool of 7 (K12).
#[test]
fn the_built_in_handles_fill_a_pool_of_7() {
    let place = Place::new();
    let mut proxy = place.interactive(&["--fd-pool", "7"]);
    assert!(!shows(&proxy.log(), &["warning: "]), "{}", proxy.log());
    proxy.talk.refuses("fd.open\tx\tread\t/dev/null", &["allocate", "file"]);
    proxy.talk.refuses("fd.socket\tx\tunix,stream", &["allocate", "file"]);
    proxy.talk.refuses("fd.pipe\tx\ty", &[]);
    assert_eq!(handles(&mut proxy.talk).len(), 7);
    proxy.talk.ask("fd.delete\tstdin");
    let opened = "fd.state\tx\tfile\tread\t/dev/null";
    proxy.talk.answers("fd.open\tx\tread\t/dev/null", opened);
}

/// Replacing a handle in a full pool fails: the new one is made before the old one goes.
#[test]
fn a_handle_of_a_full_pool_cannot_be_replaced() {
    let place = Place::new();
    let mut proxy = place.interactive(&["--fd-pool", "8"]);
    let one = "fd.state\tx\tfile\tread\t/dev/null";
    proxy.talk.answers("fd.open\tx\tread\t/dev/null", one);
    proxy.talk.refuses("fd.open\tx\twrite\t/dev/zero", &["allocate", "file"]);
    proxy.talk.refuses("fd.socket\tx\tunix", &["allocate", "file"]);
    assert_eq!(handle(&mut proxy.talk, "x").as_deref(), Some(one));
}

/// A pipe needs two places, or nothing is made.
#[test]
fn a_pipe_needs_two_places() {
    let place = Place::new();
    let mut proxy = place.interactive(&["--fd-pool", "8"]);
    proxy.talk.refuses("fd.pipe\tx\ty", &[]);
    assert_eq!(handles(&mut proxy.talk).len(), 7);
    proxy.talk.ask("fd.delete\tstdin");
    let made = proxy.talk.ask("fd.pipe\tx\ty");
    assert_eq!(made, ["fd.state\tx\tpipe\tfrom\ty", "fd.state\ty\tpipe\tto\tx"]);
}

/// A path that is longer than M is shown cut, ending in `...`; the file is the right one.
#[test]
fn a_long_path_is_shown_cut() {
    let place = Place::new();
    let path = place.write(&"p".repeat(200), "content").display().to_string();
    for (size, shown) in [("9x32", 32), ("9", 96), ("9x", 96)] {
        let mut proxy = place.interactive(&["--fd-pool", size]);
        let line = proxy.talk.ask(format!("fd.open\tx\tread\t{path}")).remove(0);
        let text = line.strip_prefix("fd.state\tx\tfile\tread\t").unwrap();
        let begin = text.strip_suffix("...").unwrap_or_else(|| panic!("{line:?} is not cut"));
        assert!(path.starts_with(begin), "{line:?}");
        assert!(text.len() <= shown && text.len() >= shown / 4, "{size}: {text:?}");
        assert_eq!(handle(&mut proxy.talk, "x").unwrap(), line);
        let seen = place.in_service(&mut proxy.talk, "x\tnull\tnull", "cat > $OUT");
        assert_eq!(seen, "content");
    }
    let mut proxy = place.interactive(&["--fd-pool", "9x4096"]);
    let line = proxy.talk.ask(format!("fd.open\tx\tread\t{path}")).remove(0);
    assert!(line.ends_with(&path), "{line:?}");
}

/// A pool too small for what was inherited holds what fits, and a warning tells of it; the built-in
/// handles always fit (A29).
#[test]
fn a_pool_too_small_for_what_is_inherited_holds_what_fits() {
    let place = Place::new();
    let before = "exec 3</dev/null 5</dev/null 7</dev/null";
    for (size, count) in [("7", 7), ("8", 8), ("9", 9)] {
        let words = ["-S", "sock", "--fd-pool", size];
        let mut proxy = place.start_with_socket(&mut place.after(before, &words));
        proxy.log_line(&["warning: "]);
        let names = handles(&mut proxy.talk);
        assert_eq!(names.len(), count, "{names:?}");
        for name in ["null", "control.cmd", "stdin", "stderr"] {
            assert!(names.iter().any(|other| other == name), "{names:?}");
        }
        proxy.talk.send("terminate\t0");
        proxy.wait().expect_code(0);
    }
}

/// Without pools there is no limit but memory.
#[test]
fn without_pools_tables_grow() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    for number in 0..2_000 {
        proxy.talk.send(format!("service.tags\tservice-{number}\t{number}"));
        proxy.talk.expect_next(&format!("service.tags\tservice-{number}\t{number}"));
    }
    for number in 0..200 {
        let line = format!("fd.state\thandle-{number}\tfile\tread\t/dev/null");
        proxy.talk.answers(&format!("fd.open\thandle-{number}\tread\t/dev/null"), &line);
    }
    let dump = proxy.talk.ask("statedump");
    assert_eq!(dump.iter().filter(|line| line.starts_with("service.state\t")).count(), 2_000);
    assert_eq!(dump.iter().filter(|line| line.starts_with("fd.state\t")).count(), 207);
}

/// Without pools, memory that the system refuses is an error reply and never the end; what is
/// deleted makes room.
#[test]
fn memory_that_is_refused_is_an_error_reply() {
    const SERVICES_MAX: usize = 40_000;
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    let kilobytes: u64 = proxy.status("VmSize").trim_end_matches(" kB").parse().unwrap();
    let mut limit = place.command("prlimit");
    limit.args([format!("--pid={}", proxy.pid()), format!("--as={}", (kilobytes + 2048) * 1024)]);
    assert!(limit.status().unwrap().success());

    let value = "y".repeat(900);
    let mut made = 0;
    let refusal = loop {
        proxy.talk.send(format!("service.tags\tservice-{made}\t{value}"));
        let answer = proxy.talk.next_line();
        if answer.starts_with("error\t") {
            break answer;
        }
        made += 1;
        assert!(made < SERVICES_MAX, "nothing was refused");
    };
    assert!(refusal.contains("allocate"), "{refusal:?}");
    for _ in 0..50 {
        proxy.talk.refuses(&format!("service.tags\tanother\t{value}"), &["allocate"]);
    }
    proxy.talk.answers("echo\tstill there", "still there");
    for number in 0..made {
        proxy.talk.ask(format!("service.delete\tservice-{number}"));
    }
    for number in 0..made / 2 {
        let line = format!("service.tags\tservice-{number}\t{value}");
        proxy.talk.answers(&line, &line);
    }
    proxy.talk.send("terminate\t3");
    proxy.wait().expect_code(3);
}

/// Pools whose memory cannot be had end it with 3.
#[test]
fn pools_that_cannot_be_had_end_it_with_3() {
    let place = Place::new();
    let words = ["-i", "--service-pool", "65535x4k", "--fd-pool", "1024x4096"];
    let ended = Running::start(&mut place.after("ulimit -v 200000", &words)).wait().expect_code(3);
    assert!(shows(&ended.stderr, &["fatal: ", "memory of the pools"]), "{:?}", ended.stderr);
}

/// The size of services has no upper limit, and takes no more than lines can fill.
#[test]
fn services_may_be_of_any_size() {
    let place = Place::new();
    let words = ["--service-pool", "100x16g", "--fd-pool", "7"];
    let mut proxy = place.interactive(&words);
    let value = "y".repeat(1000);
    for command in ["service.args\tx", "service.tags\tx"] {
        proxy.talk.answers(&format!("{command}\t{value}"), &format!("{command}\t{value}"));
    }
    assert_eq!(proxy.log(), "");
}

/// With both pools given nothing is asked of the system after the start: filling them, thousands of
/// commands, refusals, services and connections leave its memory as large as it was.
#[test]
fn with_both_pools_its_memory_stays_the_same() {
    const SERVICES: usize = 300;
    const HANDLES: usize = 100;
    let place = Place::new();
    let pools =
        ["--service-pool", &format!("{SERVICES}x1k"), "--fd-pool", &format!("{HANDLES}x256")];
    let mut proxy = place.socket(&pools);
    let sizes = |proxy: &crate::place::Proxy| ["VmSize", "VmData"].map(|name| proxy.status(name));
    run_one(&mut proxy.talk, "warm");
    proxy.talk.ask("service.delete\twarm");
    proxy.talk.ask("statedump");
    let before = sizes(&proxy);

    let value = "y".repeat(200);
    for number in 0..SERVICES {
        let name = format!("service-{number:03}");
        proxy.talk.ask(format!("service.args\t{name}\ttrue\t{value}"));
        proxy.talk.ask(format!("service.tags\t{name}\t{value}\t{number}"));
        proxy.talk.ask(format!("service.fds\t{name}\tnull\tnull\tstderr"));
        proxy.talk.ask(format!("service.auto_up\t{name}\t9\tSIGHUP"));
    }
    proxy.talk.refuses("service.args\tone-more\ttrue", &["allocate", "service"]);
    for number in 7..HANDLES {
        let answer = proxy.talk.ask(format!("fd.open\thandle-{number:03}\tread\t/dev/null"));
        assert!(answer[0].starts_with("fd.state\t"), "{answer:?}");
    }
    proxy.talk.refuses("fd.open\tone-more\tread\t/dev/null", &["allocate", "file"]);
    assert_eq!(sizes(&proxy), before, "after the pools were filled");

    for round in 0..2_000 {
        proxy.talk.ask(format!("service.tags\tservice-000\t{round}\t{value}"));
        proxy.talk.ask(format!("no.such.command.{round}"));
        proxy.talk.ask(format!("service.start\tno-such-service-{round}"));
    }
    for number in 0..20 {
        run_one(&mut proxy.talk, &format!("service-{number:03}"));
    }
    let mut other = place.connect("sock", &proxy);
    assert!(other.ask("statedump").len() > SERVICES * 5);
    proxy.talk.ask("statedump");
    assert_eq!(sizes(&proxy), before, "after thousands of commands");
}

/// Runs `true` as a service.
#[track_caller]
fn run_one(talk: &mut Conversation, name: &str) {
    talk.send(format!("service.args\t{name}\ttrue"));
    talk.send(format!("service.start\t{name}"));
    talk.expect(&format!("service.state\t{name}\tdown\t{{num}}\t{{pid}}\texit\t0\t{{rest}}"));
    talk.sync();
}
