//! Every malformed form is refused, with the number to answer and words that help.

use keepd_model::protocol::{
    Command, EXEC_OUTPUT_BYTES_MAX, Fail, FailKind, Message, NOTE_BYTES_MAX, NOTIFY_BYTES_MAX,
    Reply, Request, RequestId,
};
use keepd_wire::{
    FIELDS_MAX, Mode, NOTE_KEY_BYTES_MAX, RequestError, decode_message, decode_request,
};

/// Writes `⇥` as a tab, as the documentation does.
pub(crate) fn tabs(text: &str) -> Vec<u8> {
    text.replace('⇥', "\t").into_bytes()
}

fn refused(line: &[u8], mode: Mode) -> RequestError {
    match decode_request(line, mode) {
        Err(error) => error,
        Ok(request) => panic!("{:?} was read as {request:?}", String::from_utf8_lossy(line)),
    }
}

#[test]
fn malformed_numbered_commands_are_answered_by_number() {
    let cases = [
        ("", "the command is missing"),
        ("⇥", "unknown command"),
        ("⇥reboot", "unknown command: reboot"),
        ("⇥service.fds⇥web", "not supported by this version"),
        ("⇥proto⇥keepd⇥1", "has no number"),
        ("⇥statedump⇥x", "field too many"),
        ("⇥exit⇥", "field too many"),
        ("⇥conn.log", "is missing"),
        ("⇥conn.log⇥yes", "\"on\" or \"off\""),
        ("⇥terminate", "the exit code is missing"),
        ("⇥terminate⇥256", "more than 255"),
        ("⇥terminate⇥-1", "integer"),
        ("⇥terminate⇥0⇥7", "field too many"),
        ("⇥signal.clear⇥FOO⇥1", "invalid signal: \"FOO\""),
        ("⇥signal.clear⇥0⇥1", "invalid signal"),
        ("⇥signal.clear⇥+9⇥1", "invalid signal"),
        ("⇥signal.clear⇥TERM", "the count is missing"),
        ("⇥signal.clear⇥TERM⇥-1", "integer"),
        ("⇥service.args", "service name is missing"),
        ("⇥service.args⇥", "not a valid service name"),
        ("⇥service.args⇥a/b⇥x", "not a valid service name: \"a/b\""),
        ("⇥service.args⇥..⇥x", "not a valid service name"),
        ("⇥service.args⇥web⇥\\x", "no such escape: \"\\x\""),
        ("⇥service.args⇥web⇥a\\", "ends inside an escape"),
        ("⇥service.args⇥web⇥a\r", "carriage return"),
        ("⇥service.args⇥web⇥a\0b", "zero byte"),
        ("⇥service.auto_up⇥web", "the interval is missing"),
        ("⇥service.auto_up⇥web⇥0⇥always", "less than 1"),
        ("⇥service.auto_up⇥web⇥2147483648⇥always", "more than 2147483647"),
        ("⇥service.auto_up⇥web⇥1⇥TERM", "trigger \"TERM\" is not supported"),
        ("⇥service.auto_up⇥web⇥1⇥often", "unknown trigger"),
        ("⇥service.start⇥web⇥x", "integer"),
        ("⇥service.start⇥web⇥18446744073709551616", "more than"),
        ("⇥service.start⇥web⇥1⇥1", "field too many"),
        ("⇥service.stop⇥web", "generation is missing"),
        ("⇥service.stop⇥web⇥1⇥TERM", "timeout is missing"),
        ("⇥service.stop⇥web⇥1⇥TERM⇥1⇥1", "field too many"),
        ("⇥service.signal⇥web⇥TERM", "integer"),
        ("⇥service.signal⇥web⇥1⇥TERM", "scope is missing"),
        ("⇥service.signal⇥web⇥1⇥TERM⇥group", "\"main\" or \"all\""),
        ("⇥service.exec⇥web⇥0⇥true", "deadline is less than 1"),
        ("⇥service.exec⇥web⇥10", "the program is missing"),
        ("⇥service.note⇥web⇥⇥value", "a key has 1 to"),
        ("⇥service.note⇥web⇥key", "value of the note is missing"),
        ("⇥service.note⇥web⇥key⇥value⇥x", "field too many"),
        ("⇥service.delete⇥web⇥x", "field too many"),
    ];
    for (command, words) in cases {
        let error = refused(&tabs(&format!("@7{command}")), Mode::Extended);
        assert_eq!(error.id, Some(RequestId(7)), "{command}");
        assert!(error.text.contains(words), "{command}: {}", error.text);
        let Message::Reply(id, Reply::Fail(Fail { kind, spawn, .. })) = error.into_message() else {
            panic!("{command} is answered by \"fail\"");
        };
        assert_eq!((id, spawn), (RequestId(7), None));
        let unknown = words.contains("unknown command") || command.contains("fds");
        assert_eq!(kind == FailKind::UnknownCommand, unknown, "{command}");
    }
}

#[test]
fn malformed_attributes_are_refused() {
    let cases = [
        ("set", "directory", "\"KEY=VALUE\""),
        ("set", "directory=", "1 to 4095 bytes"),
        ("set", "directory=/a\0", "zero byte"),
        ("set", "color=red", "no key \"color\""),
        ("set", "uid=1⇥uid=1", "given twice"),
        ("set", "umask=", "octal"),
        ("set", "umask=8", "octal"),
        ("set", "umask=1000", "octal"),
        ("set", "umask=+7", "octal"),
        ("set", "uid=-1", "integer"),
        ("set", "uid=4294967295", "more than"),
        ("set", "gid=4294967295", "more than"),
        ("set", "groups=1,,2", "integer"),
        ("set", "groups=4294967295", "more than"),
        ("set", "notify=1", "\"yes\" or \"no\""),
        ("set", "ready_fd=2", "3 or more"),
        ("set", "ready_fd=1024", "more than"),
        ("set", "ready_fd=", "integer"),
        ("set", "kill_mode=none", "\"mixed\", \"all\" or \"main\""),
        ("set", "stop_signal=0", "invalid signal"),
        ("set", "stop_timeout_ms=1.5", "integer"),
        ("set", "respawn_ms=1,", "integer"),
        ("set", "place=here", "\"service\" or \"own\""),
        ("env", "A=1", "\"+NAME=VALUE\""),
        ("env", "", "\"+NAME=VALUE\""),
        ("env", "+A", "has no value"),
        ("env", "+=1", "not a name of a variable"),
        ("env", "-", "not a name of a variable"),
        ("env", "-A=1", "not a name of a variable"),
        ("env", "+A=\0", "zero byte"),
        ("env", "+A=1⇥=", "\"+NAME=VALUE\""),
        ("log", "stderr=merge", "\"mode\" is missing"),
        ("log", "mode=splice", "no mode \"splice\""),
        ("log", "mode=null⇥dir=/l", "no such key"),
        ("log", "mode=inherit⇥stderr=merge", "no such key"),
        ("log", "mode=file", "needs \"dir\""),
        ("log", "mode=file⇥dir=/l⇥file=/f", "no such key"),
        ("log", "mode=file⇥dir=/l⇥stderr=both", "\"separate\" or \"merge\""),
        ("log", "mode=append", "needs \"file\""),
        ("log", "mode=append⇥file=/f⇥stderr=merge", "no such key"),
        ("log", "mode=null⇥mode=null", "given twice"),
    ];
    for (command, fields, words) in cases {
        let line = tabs(&format!("@7⇥service.{command}⇥web⇥{fields}"));
        let error = refused(&line, Mode::Extended);
        assert_eq!((error.id, error.kind), (Some(RequestId(7)), FailKind::Malformed));
        assert!(error.text.contains(words), "{fields}: {}", error.text);
    }
}

#[test]
fn limits_are_kept() {
    let accepted = |line: &str| decode_request(&tabs(line), Mode::Extended).is_ok();
    let note = |key: usize, value: usize| {
        let (key, value) = ("k".repeat(key), "v".repeat(value));
        accepted(&format!("@1⇥service.note⇥web⇥{key}⇥{value}"))
    };
    assert!(note(NOTE_KEY_BYTES_MAX, NOTE_BYTES_MAX));
    assert!(!note(NOTE_KEY_BYTES_MAX + 1, 1));
    assert!(!note(1, NOTE_BYTES_MAX + 1));

    let list = |fields: usize| {
        let list = "⇥".repeat(fields - 2);
        accepted(&format!("@1⇥service.tags⇥web{list}"))
    };
    assert!(list(FIELDS_MAX));
    assert!(!list(FIELDS_MAX + 1));

    let delays = |count: usize| {
        let delays = vec!["0"; count].join(",");
        accepted(&format!("@1⇥service.set⇥web⇥respawn_ms={delays}"))
    };
    assert!(delays(64));
    assert!(!delays(65));
}

#[test]
fn a_number_that_cannot_be_read_is_answered_by_error() {
    for line in ["@", "@x⇥statedump", "@-1⇥exit", "@18446744073709551616⇥exit", "@ 1⇥exit"]
    {
        let error = refused(&tabs(line), Mode::Extended);
        assert_eq!((error.id, error.kind), (None, FailKind::Malformed), "{line}");
        assert!(matches!(error.into_message(), Message::PlainError(_)));
    }
}

#[test]
fn plain_errors_quote_the_command_as_the_original_does() {
    let cases = [
        ("frobnicate⇥a", "unknown command: frobnicate"),
        ("@1⇥statedump", "unknown command: @1"),
        ("service.set⇥web", "unknown command: service.set"),
        (" statedump", "unknown command:  statedump"),
        ("service.args", "the service name is missing, for command \"service.args\""),
        (
            "service.args⇥web@blue⇥x",
            "not a valid service name: \"web@blue\", for command \"service.args⇥web@blue⇥x\"",
        ),
        (
            "service.start⇥123456789012345678⇥17",
            "a start time is not supported by this version, \
             for command \"service.start⇥1234567890123456...\"",
        ),
        (
            "service.fds⇥web⇥null",
            "command \"service.fds\" is not supported by this version, \
             for command \"service.fds⇥web⇥null\"",
        ),
        (
            "terminate⇥0⇥42",
            "a guard code is not supported by this version, for command \"terminate⇥0⇥42\"",
        ),
    ];
    for (line, expected) in cases {
        let error = refused(&tabs(line), Mode::Plain);
        let expected = String::from_utf8(tabs(expected)).unwrap();
        assert_eq!(error.id, None);
        assert_eq!(error.into_message(), Message::PlainError(expected));
    }
}

#[test]
fn plain_refusals_name_what_is_wrong() {
    let long_name = format!("service.args⇥{}⇥x", "a".repeat(32));
    let cases = [
        (&*long_name, "not a valid service name"),
        ("service.signal⇥web", "signal is missing"),
        ("service.signal⇥web⇥0", "invalid signal"),
        ("service.signal⇥web⇥TERM⇥all", "unknown option"),
        ("service.auto_up⇥web⇥x", "integer"),
        ("service.auto_up⇥web⇥-1", "integer"),
        ("service.auto_up⇥web⇥1⇥SIGHUP", "not supported by this version"),
        ("signal.clear⇥TERM⇥-1", "integer"),
        ("terminate", "the exit code is missing"),
        ("terminate⇥x", "integer"),
        ("proto⇥other⇥1", "no such protocol"),
        ("proto⇥keepd", "version is missing"),
        ("proto⇥keepd⇥0", "version 0"),
        ("fd.open⇥a⇥read⇥/", "not supported by this version"),
        ("conn.event_timeout⇥1⇥2", "not supported by this version"),
    ];
    for (line, words) in cases {
        let error = refused(&tabs(line), Mode::Plain);
        assert!(error.plain_text.contains(words), "{line}: {}", error.plain_text);
    }
}

#[test]
fn extended_commands_typed_without_a_number_are_told_so() {
    let error = refused(&tabs("service.stop⇥web⇥1"), Mode::Extended);
    assert_eq!(error.id, None);
    assert!(error.plain_text.contains("needs a number"));
    let statedump = decode_request(b"statedump", Mode::Extended);
    assert_eq!(statedump, Ok(Some(Request::Unnumbered(Command::StateDump))));
}

#[test]
fn comments_and_blank_lines_are_no_commands() {
    for line in ["", " ", "\t", " \t\r", "# service.args⇥web", "#"] {
        for mode in [Mode::Plain, Mode::Extended] {
            assert_eq!(decode_request(&tabs(line), mode), Ok(None), "{line:?}");
        }
    }
}

#[test]
fn lines_that_are_too_long_are_answered_by_number_too() {
    let plain = RequestError::too_long(b"echo\taaaa", Mode::Plain);
    assert!(plain.plain_text.contains("long"));
    assert_eq!(plain.id, None);
    let numbered = RequestError::too_long(b"@12\tservice.env\tweb", Mode::Extended);
    assert_eq!(numbered.id, Some(RequestId(12)));
    let untagged = RequestError::too_long(b"echo\taaaa", Mode::Extended);
    assert_eq!(untagged.id, None);
}

#[test]
fn malformed_messages_are_refused() {
    let run = |tail: &str| format!("service.run⇥web⇥1⇥up⇥5⇥{tail}");
    let cases = [
        run("7⇥-"),
        run("0⇥-⇥-"),
        run("7⇥exit⇥256"),
        run("7⇥exit⇥-"),
        run("7⇥signal⇥SIGFOO"),
        run("7⇥failed⇥exec"),
        run("7⇥failed⇥jump:2"),
        run("7⇥failed⇥exec:x"),
        run("7⇥vanished⇥-"),
        run("7⇥-⇥-⇥-"),
        "service.run⇥web⇥1⇥flying⇥5⇥7⇥-⇥-".to_owned(),
        "service.invocation⇥web⇥1⇥abc".to_owned(),
        format!("service.invocation⇥web⇥1⇥+{}", "a".repeat(31)),
        "service.output⇥web⇥in⇥5".to_owned(),
        "service.output_blocked⇥web⇥-5".to_owned(),
        "service.auto_up⇥web⇥5⇥SIGHUP".to_owned(),
        "service.auto_up⇥web⇥5".to_owned(),
        "service.deleted⇥web⇥x".to_owned(),
        format!("service.notify⇥web⇥1⇥7⇥{}", "x".repeat(NOTIFY_BYTES_MAX + 1)),
        format!("service.note⇥web⇥k⇥{}", "x".repeat(NOTE_BYTES_MAX + 1)),
        format!("ok⇥1⇥exit⇥0⇥{}", "x".repeat(EXEC_OUTPUT_BYTES_MAX + 1)),
        "ok".to_owned(),
        "ok⇥1⇥exit⇥0".to_owned(),
        "fail⇥1⇥spawn⇥exec⇥-⇥text".to_owned(),
        "fail⇥1⇥stale⇥-⇥-".to_owned(),
        "signal⇥SIGHUP⇥5".to_owned(),
        "dump.end".to_owned(),
        "dump.end⇥1⇥2".to_owned(),
        "overflow⇥x".to_owned(),
        "proto⇥other⇥1".to_owned(),
        "service.tags⇥web⇥\\".to_owned(),
    ];
    for line in cases {
        let error = decode_message(&tabs(&line)).unwrap_err().to_string();
        assert!(error.starts_with("cannot read message \""), "{line}: {error}");
    }
}

#[test]
fn unknown_messages_are_skipped_and_unknown_failures_kept() {
    for line in ["", "service.lease⇥web⇥\\q", "info⇥hello", "warning: fd x"] {
        assert_eq!(decode_message(&tabs(line)), Ok(None), "{line}");
    }
    let message = decode_message(&tabs("fail⇥3⇥quota⇥-⇥-⇥no more"));
    let fail = Fail { kind: FailKind::System, spawn: None, text: "no more".to_owned() };
    let expected = Message::Reply(RequestId(3), Reply::Fail(fail));
    assert_eq!(message, Ok(Some(expected)));
}
