//! Lines: comments, blanks, fields, lengths, names, numbers.

use keepd_testkit::daemonproxy::{Daemonproxy, Setup};

use crate::services::{define, expect_down, never_run, run, start, wait_for_dumped};

/// The longest line, without its line feed.
const LINE_MAX: usize = 1023;

/// `echo`, K1: the arguments come back without the word, empty ones too.
#[test]
fn echo_returns_everything_after_the_first_tab() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    assert_eq!(controller.ask("echo\ta\t\tb c\t"), ["a\t\tb c\t"]);
    assert_eq!(controller.ask("echo\t\t"), ["\t"]);
}

/// `echo`: without a text nothing is sent.
#[test]
fn echo_of_nothing_is_silent() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("echo");
    controller.is_silent("echo\t");
}

/// A comment begins with `#` as the very first byte, and may be longer than a command.
#[test]
fn comments_are_skipped() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("#");
    controller.is_silent("# echo\tx\ty");
    controller.is_silent(&format!("#{}", "x".repeat(5000)));
}

/// Lines of spaces, tabs and CR only are skipped.
#[test]
fn blank_lines_are_skipped() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for line in ["", " ", "\t", "\r", " \t \r", "\t\t"] {
        controller.is_silent(line);
    }
}

/// A space before a command or before `#` belongs to the name, and so does a CR behind it.
#[test]
fn blanks_around_a_name_make_an_unknown_command() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for line in [" echo\tx", " #x", "statedump\r", "echo "] {
        let name = line.split('\t').next().unwrap();
        controller.answers(line, &format!("error\t{{any}}: {name}"));
    }
}

/// A CR is data.
#[test]
fn a_carriage_return_is_kept() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    assert_eq!(controller.ask("echo\tfoo\r"), ["foo\r"]);
}

/// Command names are case-sensitive.
#[test]
fn names_of_commands_are_case_sensitive() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("Echo\tx", "error\t{any}: Echo");
    controller.answers("STATEDUMP", "error\t{any}: STATEDUMP");
}

/// Bytes from 0x80 up are transparent, valid UTF-8 or not.
#[test]
fn high_bytes_pass_through() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let text: Vec<u8> = (0x20..=0xff).collect();
    for command in [&b"echo\t"[..], b"service.tags\tx\t"] {
        let line = [command, &text[..]].concat();
        controller.send(&line);
        let expected = if command == b"echo\t" { &text } else { &line };
        assert_eq!(controller.next_line_bytes().as_ref(), Some(expected));
    }
}

/// NUL must not be used; whoever does harms nobody.
#[test]
fn a_nul_byte_does_not_disturb_the_next_line() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.send(b"echo\ta\0b");
    controller.send(b"\0");
    controller.send(b"service.tags\tx\0y\tz");
    controller.sync();
    assert_eq!(controller.ask("echo\talive"), ["alive"]);
}

/// The longest line has 1,023 bytes and a line feed.
#[test]
fn a_line_of_the_greatest_length_is_a_command() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let text = "x".repeat(LINE_MAX - "echo\t".len());
    assert_eq!(controller.ask(format!("echo\t{text}")), [text]);
}

/// A longer line is one error without a quotation, and the next line is a command again.
#[test]
fn a_longer_line_is_refused_once() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    for length in [LINE_MAX + 1, LINE_MAX + 2, 2 * LINE_MAX, 2 * LINE_MAX + 2, 10_000] {
        let lines = controller.ask(format!("echo\t{}", "x".repeat(length - "echo\t".len())));
        assert_eq!(lines.len(), 1, "{length} bytes: {lines:?}");
        assert!(lines[0].starts_with("error\t"), "{lines:?}");
        assert!(lines[0].contains("long"), "{lines:?}");
        assert!(!lines[0].contains("for command"), "{lines:?}");
        assert_eq!(controller.ask("echo\tnext"), ["next"]);
    }
    proxy.expect_log(&["error: ", "command exceeds buffer size"]);
}

/// The end of a line that is too long is never taken for a command.
#[test]
fn the_rest_of_a_longer_line_is_thrown_away() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let mut line = vec![b'x'; LINE_MAX + 1];
    line.extend_from_slice(b"echo\tsmuggled");
    let lines = controller.ask(line);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains("smuggled"), "{lines:?}");
}

/// Lines may come in any portions.
#[test]
fn lines_may_arrive_byte_by_byte() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for byte in b"echo\tin pieces\n" {
        controller.send_bytes(&[*byte]);
    }
    controller.expect_next("in pieces");
    controller.send_bytes(b"echo\ta\necho\tb\n\n#\necho\tc\necho");
    controller.send_bytes(b"\td\n");
    for text in ["a", "b", "c", "d"] {
        controller.expect_next(text);
    }
}

/// K12: names have 1 to 31 bytes; a longer one is refused before anything is created.
#[test]
fn names_have_up_to_31_bytes() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let good = "n".repeat(31);
    let long = "n".repeat(32);
    controller.answers(&format!("service.tags\t{good}\ta"), &format!("service.tags\t{good}\ta"));
    controller.answers(
        &format!("fd.open\t{good}\tread\t/dev/null"),
        &format!("fd.state\t{good}\tfile\tread\t/dev/null"),
    );
    for setter in ["args", "fds", "tags", "auto_up"] {
        controller.refuses(&format!("service.{setter}\t{long}\t1"), &[]);
    }
    controller.refuses(&format!("fd.open\t{long}\tread\t/dev/null"), &[]);
    controller.refuses(&format!("fd.pipe\ta\t{long}"), &[]);
    let dump = controller.ask("statedump");
    assert!(!dump.iter().any(|line| line.contains(&long)), "{dump:?}");
    assert!(!dump.iter().any(|line| line.starts_with("fd.state\ta\t")), "{dump:?}");
}

/// Names are of letters, digits, dot, underscore and hyphen, in any place.
#[test]
fn names_are_of_letters_digits_and_three_signs() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for name in ["a", "Z", "0", ".", "_", "..", "-x", ".x", "9.a-B_c"] {
        controller
            .answers(&format!("service.tags\t{name}\ta"), &format!("service.tags\t{name}\ta"));
    }
    for name in ["", "a b", "a/b", "a@b", "ü", "a*", "a:b", "a\r"] {
        controller.refuses(&format!("service.tags\t{name}\ta"), &[]);
        controller.refuses(&format!("fd.open\t{name}\tread\t/dev/null"), &[]);
    }
}

/// Services and handles have name spaces of their own.
#[test]
fn a_service_and_a_handle_may_have_the_same_name() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("service.tags\tnull\tx", "service.tags\tnull\tx");
    controller.answers("fd.open\tsame\tread\t/dev/null", "fd.state\tsame\tfile\tread\t/dev/null");
    controller.answers("service.tags\tsame\tx", "service.tags\tsame\tx");
    controller.answers("fd.delete\tsame", "fd.state\tsame\tdeleted");
    controller.answers("service.tags\tsame\ty", "service.tags\tsame\ty");
}

/// Integers are decimal digits, perhaps after a minus, and nothing else.
#[test]
fn integers_fill_the_whole_field() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("conn.event_timeout\t10\t20");
    for number in ["", "+5", " 5", "5 ", "0x5", "5a", "--5", "5.0", "-", "9223372036854775808"] {
        controller.refuses(&format!("conn.event_timeout\t{number}\t20"), &[]);
        controller.refuses(&format!("service.auto_up\tx\t{number}x\talways"), &[]);
        controller.refuses(&format!("terminate\t{number}"), &[]);
        controller.refuses(&format!("signal.clear\tSIGUSR1\t{number}"), &[]);
    }
}

/// Signals are named with or without SIG, in upper case, or by number.
#[test]
fn signals_are_named_or_numbered() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    for (word, name) in
        [("TERM", "SIGTERM"), ("SIGTERM", "SIGTERM"), ("9", "SIGKILL"), ("SIGUSR2", "SIGUSR2")]
    {
        start(&mut controller, "x");
        controller.send(format!("service.signal\tx\t{word}"));
        assert_eq!(expect_down(&mut controller, "x"), format!("signal {name}"));
    }
    start(&mut controller, "x");
    for word in ["term", "SIGterm", "sigterm", "SIGSIGTERM", "65536", "-9", "+9", "", "9x"] {
        controller.refuses(&format!("service.signal\tx\t{word}"), &[]);
    }
}

/// A signal without a name is shown as `SIG-?`.
#[test]
fn a_signal_without_a_name_is_shown_as_unnamed() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "kill -40 $$");
    assert_eq!(run(&mut controller, "x"), "signal SIG-?");
}

/// A trailing tab is one more, empty field; a list that is one empty field is an unset one.
#[test]
fn a_trailing_tab_is_an_empty_field() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for setter in ["args", "tags", "fds"] {
        for end in ["", "\t"] {
            let unset = format!("service.{setter}\tx\t");
            controller.answers(&format!("service.{setter}\tx{end}"), &unset);
        }
    }
    let four = "service.args\tx\ta\t\tb\t";
    controller.answers(four, four);
    controller.answers("service.tags\tx\t\t", "service.tags\tx\t\t");
}

/// Fields that a command does not know are ignored.
#[test]
fn superfluous_fields_are_ignored() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    assert!(controller.ask("statedump\tmore\tfields").len() >= 7);
    controller.is_silent("conn.event_timeout\t10\t20\tmore");
    controller.is_silent("signal.clear\tSIGUSR1\t1\tmore");
    controller.is_silent("socket.delete\tmore");
    controller.answers("log.filter\tdebug\tmore", "log.filter\tdebug");
    controller.ask("service.tags\tx\ta");
    controller.answers("service.delete\tx\tmore", "service.state\tx\tdeleted\t-\t-\t-\t-\t-\t-");
    controller.ask("fd.open\th\tread\t/dev/null");
    controller.answers("fd.delete\th\tmore", "fd.state\th\tdeleted");
}

/// A last line without a line feed is executed in a configuration file, with a warning in the log.
#[test]
fn the_unfinished_last_line_of_a_file_is_executed() {
    let setup = Setup::new().file("config", "service.tags\tfirst\ta\nservice.tags\tlast\tb");
    let mut proxy = setup.options(["-c", "config", "-S", "ctl"]).start();
    proxy.expect_log(&["warning: "]);
    let mut client = proxy.client("ctl");
    for line in ["service.tags\tfirst\ta", "service.tags\tlast\tb"] {
        wait_for_dumped(&mut client, line);
    }
}

/// A last line without a line feed is dropped on a connection, with a warning in the log.
#[test]
fn the_unfinished_last_line_of_a_client_is_dropped() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    client.send_bytes(b"service.tags\tx\tkept\nservice.tags\ty\tdropped");
    client.close_input();
    assert_eq!(client.expect_end(), ["service.tags\tx\tkept"]);
    proxy.expect_log(&["warning: "]);
    let dump = proxy.client("ctl").ask("statedump");
    assert!(dump.contains(&never_run("x")), "{dump:?}");
    assert!(!dump.iter().any(|line| line.contains("dropped")), "{dump:?}");
}
