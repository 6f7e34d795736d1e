//! `fd.open`, `fd.delete`, and what holds for handles of every kind.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use keepd_testkit::daemonproxy::{Conversation, Daemonproxy};

use crate::services::{define, expect_down, output_of, read, start};

/// The handles that cannot be changed.
const UNALTERABLE: [&str; 4] = ["null", "control.cmd", "control.event", "control.socket"];

/// Lets a service write a text to a handle.
#[track_caller]
fn write_to(controller: &mut Conversation, handle: &str, text: &str) {
    controller.ask(format!("service.args\twriter\tprintf\t%s\t{text}"));
    controller.ask(format!("service.fds\twriter\tnull\t{handle}"));
    start(controller, "writer");
    assert_eq!(expect_down(controller, "writer"), "exit 0");
}

/// `fd.open`: the flags are shown in one order, whatever the order they came in.
#[test]
fn flags_are_shown_in_a_fixed_order() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    fs::write(proxy.path("x"), "").unwrap();
    for (given, shown) in [
        ("", "read"),
        ("read", "read"),
        ("write,create", "write,create"),
        ("create,write,read", "read,write,create"),
        ("trunc,write", "write,trunc"),
        ("append,write", "write,append"),
        ("nonblock,read", "read,nonblock"),
        (
            "nonblock,mkdir,trunc,create,append,write,read",
            "read,write,append,create,trunc,nonblock,mkdir",
        ),
    ] {
        controller
            .answers(&format!("fd.open\tf\t{given}\tx"), &format!("fd.state\tf\tfile\t{shown}\tx"));
    }
}

/// `fd.open`: the path is shown as it was given.
#[test]
fn a_path_is_shown_as_given() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let whole = proxy.path("f").display().to_string();
    for path in ["f", "./f", ".//f", &whole] {
        controller.answers(
            &format!("fd.open\tf\twrite,create\t{path}"),
            &format!("fd.state\tf\tfile\twrite,create\t{path}"),
        );
    }
}

/// `create` makes a file for its owner alone, `mkdir` its folders too.
#[test]
fn new_files_and_folders_are_private() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.answers(
        "fd.open\tf\twrite,create,mkdir\ta/b/c",
        "fd.state\tf\tfile\twrite,create,mkdir\ta/b/c",
    );
    for (name, mode) in [("a", 0o700), ("a/b", 0o700), ("a/b/c", 0o600)] {
        let found = fs::metadata(proxy.path(name)).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{name}");
    }
    // Folders that are there are no error.
    controller.answers(
        "fd.open\tg\twrite,create,mkdir\ta/b/d",
        "fd.state\tg\tfile\twrite,create,mkdir\ta/b/d",
    );
}

/// `write` alone keeps what is there, `append` writes behind it, `trunc` empties the file.
#[test]
fn append_and_trunc_do_what_they_say() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    fs::write(proxy.path("f"), "12345").unwrap();
    controller.ask("fd.open\tf\twrite\tf");
    write_to(&mut controller, "f", "ab");
    assert_eq!(read(&proxy, "f"), "ab345");
    controller.ask("fd.open\tf\twrite,append\tf");
    write_to(&mut controller, "f", "cd");
    assert_eq!(read(&proxy, "f"), "ab345cd");
    controller.ask("fd.open\tf\twrite,trunc\tf");
    assert_eq!(read(&proxy, "f"), "");
    write_to(&mut controller, "f", "ef");
    assert_eq!(read(&proxy, "f"), "ef");
}

/// `fd.open` names the call and the error of the system, and then makes no handle.
#[test]
fn a_failed_open_says_why() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("fd.open\tf\tread\tnowhere", &["open", "No such file or directory"]);
    controller
        .refuses("fd.open\tf\twrite,create\tno/where", &["open", "No such file or directory"]);
    fs::write(proxy.path("file"), "").unwrap();
    controller.refuses("fd.open\tf\twrite,create,mkdir\tfile/x", &[]);
    controller.refuses("fd.open\tf\twrite\t/", &["open", "Is a directory"]);
    let dump = controller.ask("statedump");
    assert!(!dump.iter().any(|line| line.starts_with("fd.state\tf\t")), "{dump:?}");
}

/// `fd.open` wants three arguments, and names a flag that it does not know.
#[test]
fn open_wants_a_name_flags_and_a_path() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("fd.open\tf", &[]);
    controller.refuses("fd.open\tf\tread", &[]);
    controller.refuses("fd.open\tf\tread\t", &[]);
    controller.refuses("fd.open\tf\tread\t/dev/null\tmore", &[]);
}

/// A13: an unknown flag is named, in one line.
#[test]
fn an_unknown_flag_is_named_in_one_line() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for flag in ["frobnicate", "READ", "listen", "unix", "reads"] {
        controller.refuses(&format!("fd.open\tf\tread,{flag}\t/dev/null"), &[flag]);
        controller.refuses(&format!("fd.open\tf\t{flag},read\t/dev/null"), &[flag]);
    }
    controller.refuses("fd.pipe\tr\tw\tfrobnicate", &["frobnicate"]);
    controller.refuses("fd.socket\ts\tfrobnicate\tx", &["frobnicate"]);
}

/// K9: a handle that is replaced by one of its name sends no `deleted`.
#[test]
fn a_replaced_handle_is_not_deleted() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("fd.open\tf\tread\t/dev/null", "fd.state\tf\tfile\tread\t/dev/null");
    controller.answers("fd.open\tf\tread\t/dev/zero", "fd.state\tf\tfile\tread\t/dev/zero");
    let dump = controller.ask("statedump");
    let states: Vec<&String> =
        dump.iter().filter(|line| line.starts_with("fd.state\tf\t")).collect();
    assert_eq!(states, ["fd.state\tf\tfile\tread\t/dev/zero"]);
}

/// When its replacement cannot be made, a handle stays what it was.
#[test]
fn a_failed_replacement_leaves_the_old_handle() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.open\tf\twrite,create\tf");
    controller.refuses("fd.open\tf\tread\tnowhere", &["open"]);
    controller.refuses("fd.socket\tf\ttcp\t1.2.3.4.5:6", &[]);
    write_to(&mut controller, "f", "still");
    assert_eq!(read(&proxy, "f"), "still");
}

/// A running service keeps its copy of a handle that is replaced or deleted.
#[test]
fn running_services_keep_their_copies() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.open\tf\twrite,create\tfirst");
    controller.ask("fd.pipe\tgo.out\tgo.in");
    define(&mut controller, "x", "read -r line; echo $line");
    controller.ask("service.fds\tx\tgo.out\tf");
    start(&mut controller, "x");
    controller.ask("fd.open\tf\twrite,create\tsecond");
    controller.answers("fd.delete\tf", "fd.state\tf\tdeleted");
    controller.answers("fd.delete\tgo.out", "fd.state\tgo.out\tdeleted");
    controller.ask("service.args\twriter\techo\tgo");
    controller.ask("service.fds\twriter\tnull\tgo.in");
    controller.send("service.start\twriter");
    assert_eq!(expect_down(&mut controller, "x"), "exit 0");
    assert_eq!(read(&proxy, "first"), "go\n");
    assert_eq!(read(&proxy, "second"), "");
}

/// `fd.delete` forgets a handle.
#[test]
fn a_deleted_handle_is_gone() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.open\tf\tread\t/dev/null");
    controller.answers("fd.delete\tf", "fd.state\tf\tdeleted");
    controller.refuses("fd.delete\tf", &[]);
    let dump = controller.ask("statedump");
    assert!(!dump.iter().any(|line| line.starts_with("fd.state\tf\t")), "{dump:?}");
}

/// Four handles are built in: none of them can be deleted or replaced.
#[test]
fn built_in_handles_are_unalterable() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let before = controller.ask("statedump");
    for name in UNALTERABLE {
        controller.refuses(&format!("fd.delete\t{name}"), &[]);
        controller.refuses(&format!("fd.open\t{name}\tread\t/dev/null"), &[]);
        controller.refuses(&format!("fd.pipe\t{name}\tw"), &[]);
        controller.refuses(&format!("fd.pipe\tr\t{name}"), &[]);
        controller.refuses(&format!("fd.socket\t{name}\tunix"), &[]);
    }
    assert_eq!(controller.ask("statedump"), before);
}

/// `stdin`, `stdout` and `stderr` can be replaced and deleted.
#[test]
fn standard_handles_can_be_changed() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.answers(
        "fd.open\tstdout\twrite,create\tstandard",
        "fd.state\tstdout\tfile\twrite,create\tstandard",
    );
    write_to(&mut controller, "stdout", "hello");
    assert_eq!(read(&proxy, "standard"), "hello");
    controller.answers("fd.delete\tstdin", "fd.state\tstdin\tdeleted");
    controller.answers("fd.delete\tstdout", "fd.state\tstdout\tdeleted");
    controller.answers("fd.delete\tstderr", "fd.state\tstderr\tdeleted");
    assert_eq!(controller.ask("echo\tstill here"), ["still here"]);
}

/// K15: with `-i`, what a service writes to `stdout` never reaches the controller.
#[test]
fn the_controllers_stream_is_never_a_handle() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("service.args\tx\techo\tinto the stream");
    controller.ask("service.fds\tx\tstdin\tstdout");
    start(&mut controller, "x");
    controller.expect_line("the end of x", |line| {
        assert!(!line.starts_with("into"), "{line}");
        line.contains("\tdown\t").then_some(())
    });
    assert_eq!(controller.sync(), Vec::<String>::new());
    // And its input is at its end, not the controller's commands.
    define(&mut controller, "y", "cat; exit 8");
    controller.ask("service.fds\ty\tstdin\tnull");
    start(&mut controller, "y");
    assert_eq!(expect_down(&mut controller, "y"), "exit 8");
}

/// A22: a handle cannot be named `-`, which means a closed descriptor in lists.
#[test]
fn no_handle_is_named_by_a_hyphen() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("fd.open\t-\tread\t/dev/null", &[]);
    controller.refuses("fd.pipe\t-\tw", &[]);
    controller.refuses("fd.pipe\tr\t-", &[]);
    controller.refuses("fd.socket\t-\tunix", &[]);
}

/// A `nonblock` descriptor is one in the service too.
#[test]
fn nonblock_is_a_flag_of_the_open_file() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.open\tplain\tread\t/dev/zero");
    controller.ask("fd.open\tquick\tread,nonblock\t/dev/zero");
    controller.ask("service.fds\tobserver\tplain\tquick");
    let script = "(grep -h ^flags /proc/$$/fdinfo/0 /proc/$$/fdinfo/1 >out); true";
    let flags = output_of(&proxy, &mut controller, script);
    let octal: Vec<u32> = flags
        .lines()
        .map(|line| u32::from_str_radix(line.split_whitespace().nth(1).unwrap(), 8).unwrap())
        .collect();
    let nonblock = 0o4000;
    assert_eq!([octal[0] & nonblock, octal[1] & nonblock], [0, nonblock], "{flags}");
}
