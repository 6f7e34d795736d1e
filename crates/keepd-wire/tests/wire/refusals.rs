//! Every malformed form is refused, with the number to answer and words that help.

use keepd_model::Address;
use keepd_model::protocol::{
    EXEC_OUTPUT_BYTES_MAX, Fail, FailKind, Message, NOTE_BYTES_MAX, NOTIFY_BYTES_MAX, Reply,
    Request, RequestId,
};
use keepd_wire::{
    FIELDS_MAX, NOTE_KEY_BYTES_MAX, RequestError, decode_message, decode_request, words,
};

/// Writes `⇥` as a tab, as the documentation does.
pub(crate) fn tabs(text: &str) -> Vec<u8> {
    text.replace('⇥', "\t").into_bytes()
}

fn refused(line: &[u8]) -> RequestError {
    match decode_request(line) {
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
        ("⇥conn.event_timeout⇥1⇥2", "unknown command: conn.event_timeout"),
        ("⇥proto⇥keepd⇥1", "the connection is an extended one"),
        ("⇥statedump⇥x", "superfluous argument: \"x\""),
        ("⇥exit⇥", "superfluous argument: \"\""),
        ("⇥conn.log", "is missing"),
        ("⇥conn.log⇥yes", "\"on\" or \"off\""),
        ("⇥conn.start⇥1", "\"on\" or \"off\""),
        ("⇥terminate", "the exit code is missing"),
        ("⇥terminate⇥256", "more than 255"),
        ("⇥terminate⇥-1", "integer expected as exit code, not \"-1\""),
        ("⇥terminate⇥0⇥+7", "integer expected as guard code, not \"+7\""),
        ("⇥terminate⇥0⇥9223372036854775808", "does not fit 64 bits"),
        ("⇥terminate⇥0⇥7⇥7", "superfluous argument"),
        ("⇥terminate.guard", "sign \"+\" or \"-\" is missing"),
        ("⇥terminate.guard⇥1", "\"+\" or \"-\" expected, not \"1\""),
        ("⇥terminate.guard⇥+", "guard code is missing"),
        ("⇥terminate.guard⇥-⇥-", "integer expected"),
        ("⇥terminate.guard⇥+⇥1⇥2", "superfluous argument"),
        ("⇥terminate.exec_args⇥a⇥\0", "zero byte"),
        ("⇥chdir", "the path is missing"),
        ("⇥chdir⇥", "the path is missing"),
        ("⇥chdir⇥a\0", "zero byte"),
        ("⇥chdir⇥a⇥b", "superfluous argument: \"b\""),
        ("⇥log.filter⇥loud", "log level unknown: \"loud\""),
        ("⇥log.filter⇥+⇥+", "superfluous argument"),
        ("⇥log.dest", "type of the destination is missing"),
        ("⇥log.dest⇥file⇥a", "log type unknown: \"file\""),
        ("⇥log.dest⇥fd", "handle name is missing"),
        ("⇥log.dest⇥fd⇥-", "invalid handle name: \"-\""),
        ("⇥log.dest⇥fd⇥a⇥b", "superfluous argument"),
        ("⇥socket.create", "options is missing"),
        ("⇥socket.create⇥mode=1⇥/s", "bad options \"mode=1\""),
        ("⇥socket.create⇥-", "the path is missing"),
        ("⇥socket.create⇥-⇥", "the path is missing"),
        ("⇥socket.create⇥-⇥/s⇥x", "superfluous argument"),
        ("⇥socket.delete⇥/s", "superfluous argument"),
        ("⇥signal.clear⇥FOO⇥1", "invalid signal: \"FOO\""),
        ("⇥signal.clear⇥0⇥1", "invalid signal"),
        ("⇥signal.clear⇥+9⇥1", "invalid signal"),
        ("⇥signal.clear⇥TERM", "the count is missing"),
        ("⇥signal.clear⇥TERM⇥-1", "integer expected"),
        ("⇥service.args", "service name is missing"),
        ("⇥service.args⇥", "not a valid service name"),
        ("⇥service.args⇥a/b⇥x", "not a valid service name: \"a/b\""),
        ("⇥service.args⇥web⇥\\x", "no such escape: \"\\x\""),
        ("⇥service.args⇥web⇥a\\", "ends inside an escape"),
        ("⇥service.args⇥web⇥a\r", "carriage return"),
        ("⇥service.args⇥web⇥a\0b", "zero byte"),
        ("⇥service.fds", "service name is missing"),
        ("⇥service.fds⇥web⇥null⇥a/b", "invalid handle name: \"a/b\""),
        ("⇥service.auto_up⇥web", "the interval is missing"),
        ("⇥service.auto_up⇥web⇥", "integer expected as interval"),
        ("⇥service.auto_up⇥web⇥soon", "integer expected as interval"),
        ("⇥service.auto_up⇥web⇥0⇥always", "interval outside 1..2^31-1: \"0\""),
        ("⇥service.auto_up⇥web⇥-1⇥always", "interval outside 1..2^31-1: \"-1\""),
        ("⇥service.auto_up⇥web⇥2147483648⇥always", "interval outside 1..2^31-1"),
        ("⇥service.auto_up⇥web⇥1⇥often", "unknown trigger \"often\""),
        ("⇥service.auto_up⇥web⇥1⇥term", "unknown trigger"),
        ("⇥service.auto_up⇥web⇥1⇥", "unknown trigger \"\""),
        ("⇥service.auto_up⇥web⇥1⇥65536", "unknown trigger"),
        ("⇥service.cancel", "service name is missing"),
        ("⇥service.cancel⇥web⇥x", "superfluous argument"),
        ("⇥service.start⇥web⇥x", "integer"),
        ("⇥service.start⇥web⇥18446744073709551616", "more than"),
        ("⇥service.start⇥web⇥1⇥soon", "integer expected as time"),
        ("⇥service.start⇥web⇥1⇥-", "integer expected as time"),
        ("⇥service.start⇥web⇥1⇥1⇥1", "superfluous argument"),
        ("⇥service.stop⇥web", "generation is missing"),
        ("⇥service.stop⇥web⇥1⇥TERM", "timeout is missing"),
        ("⇥service.stop⇥web⇥1⇥TERM⇥1⇥1", "superfluous argument"),
        ("⇥service.signal⇥web⇥TERM", "integer"),
        ("⇥service.signal⇥web⇥1⇥TERM", "scope is missing"),
        ("⇥service.signal⇥web⇥1⇥65536⇥main", "invalid signal: \"65536\""),
        ("⇥service.signal⇥web⇥1⇥⇥main", "invalid signal: \"\""),
        ("⇥service.signal⇥web⇥1⇥TERM⇥one", "\"main\", \"all\" or \"group\""),
        ("⇥service.exec⇥web⇥0⇥true", "deadline is less than 1"),
        ("⇥service.exec⇥web⇥10", "the program is missing"),
        ("⇥service.note⇥web⇥⇥value", "a key has 1 to"),
        ("⇥service.note⇥web⇥key", "value of the note is missing"),
        ("⇥service.note⇥web⇥key⇥value⇥x", "superfluous argument"),
        ("⇥service.ack⇥web", "the generation is missing"),
        ("⇥service.ack⇥web⇥1⇥2", "superfluous argument"),
        ("⇥service.lease⇥web⇥1", "kind of ends is missing"),
        ("⇥service.lease⇥web⇥1⇥some⇥-", "any or failure, not \"some\""),
        ("⇥service.lease⇥web⇥1⇥any", "list of successes is missing"),
        ("⇥service.lease⇥web⇥1⇥any⇥256", "exit code"),
        ("⇥service.lease⇥web⇥1⇥any⇥0,,1", "invalid signal: \"\""),
        ("⇥service.lease⇥web⇥1⇥any⇥SIG65", "invalid signal: \"65\""),
        ("⇥service.lease⇥web⇥1⇥any⇥SIG", "invalid signal"),
        ("⇥service.lease⇥web⇥1⇥any⇥-⇥-5", "integer expected as delay"),
        ("⇥service.lease⇥web⇥1⇥any⇥-⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0⇥0", "at most 16 delays"),
        ("⇥service.delete⇥web⇥x", "superfluous argument"),
    ];
    for (command, words) in cases {
        let unnumbered = command.strip_prefix('⇥').filter(|command| !command.is_empty());
        if let Some(unnumbered) = unnumbered {
            let error = refused(&tabs(unnumbered));
            assert!(error.text.contains(words), "{unnumbered}: {}", error.text);
            assert!(matches!(error.into_message(), Message::Error(_)));
        }
        let error = refused(&tabs(&format!("@7{command}")));
        assert_eq!(error.id, Some(RequestId(7)), "{command}");
        assert!(error.text.contains(words), "{command}: {}", error.text);
        let Message::Reply(id, Reply::Fail(Fail { kind, spawn, .. })) = error.into_message() else {
            panic!("{command} is answered by \"fail\"");
        };
        assert_eq!((id, spawn), (RequestId(7), None));
        let unknown = words.contains("unknown command");
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
        ("set", "place=here", "\"service\", \"own\" or \"none\""),
        ("set", "place=", "\"service\", \"own\" or \"none\""),
        ("set", "session=old", "\"new\" or \"inherit\""),
        ("set", "marks=true", "\"yes\" or \"no\""),
        ("set", "retry_ms=", "integer"),
        ("set", "retry_ms=-1", "integer"),
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
        let error = refused(&line);
        assert_eq!((error.id, error.kind), (Some(RequestId(7)), FailKind::Malformed));
        assert!(error.text.contains(words), "{fields}: {}", error.text);
    }
}

#[test]
fn limits_are_kept() {
    let accepted = |line: &str| decode_request(&tabs(line)).is_ok();
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
        let error = refused(&tabs(line));
        assert_eq!((error.id, error.kind), (None, FailKind::Malformed), "{line}");
        assert!(matches!(error.into_message(), Message::Error(_)));
    }
}

#[test]
fn malformed_handles_are_refused() {
    let path_of = |bytes: usize| "p".repeat(bytes);
    let cases = [
        ("open", "", "invalid handle name"),
        ("open", "-", "invalid handle name: \"-\""),
        ("open", &*path_of(64), "invalid handle name"),
        ("open", "a", "the flags are missing"),
        ("open", "a⇥", "the path is missing"),
        ("open", "a⇥⇥", "the path is missing"),
        ("open", "a⇥read⇥/p⇥", "superfluous argument: \"\""),
        ("open", "a⇥read,exec⇥/p", "unknown flag \"exec\""),
        ("open", "a⇥-,read⇥/p", "unknown flag \"-\""),
        ("open", "a⇥re\nad⇥/p", "unknown flag \"re?ad\""),
        ("open", &*format!("a⇥⇥{}", path_of(4096)), "more than 4095 bytes"),
        ("pipe", "a", "handle name is missing"),
        ("pipe", "a⇥a", "both ends of the pipe have the name \"a\""),
        ("pipe", "a⇥b⇥read", "unknown flag \"read\""),
        ("pipe", "a⇥b⇥⇥x", "superfluous argument"),
        ("socket", "s", "the flags are missing"),
        ("socket", "s⇥bind", "address expected to bind the socket to, it is missing"),
        ("socket", "s⇥bind⇥", "address expected"),
        ("socket", "s⇥listen=5", "address expected"),
        ("socket", "s⇥listen=0⇥/s", "invalid listen length \"0\""),
        ("socket", "s⇥listen=65536⇥/s", "invalid listen length \"65536\""),
        ("socket", "s⇥listen=⇥/s", "invalid listen length \"\""),
        ("socket", "s⇥listen=+1⇥/s", "invalid listen length \"+1\""),
        ("socket", "s⇥connect⇥/s", "unknown flag \"connect\""),
        ("socket", "s⇥tcp,mkdir⇥*:1", "\"mkdir\" is for unix sockets only"),
        ("socket", "s⇥⇥/s⇥x", "superfluous argument: \"x\""),
        ("socket", &*format!("s⇥⇥{}", path_of(108)), "invalid address"),
        ("socket", "s⇥⇥/s\0", "invalid address"),
        ("take", "", "invalid handle name"),
        ("take", "a⇥b", "superfluous argument"),
        ("delete", "a b", "invalid handle name: \"a b\""),
    ];
    for (command, fields, words) in cases {
        let error = refused(&tabs(&format!("@7⇥fd.{command}⇥{fields}")));
        assert_eq!((error.id, error.kind), (Some(RequestId(7)), FailKind::Malformed));
        assert!(error.text.contains(words), "{command} {fields}: {}", error.text);
    }
}

#[test]
fn addresses_are_numbers_with_a_port_that_exists() {
    let refused = [
        ("inet", ":80"),
        ("inet", "*:"),
        ("inet", "*:65536"),
        ("inet", "*:+80"),
        ("inet", "*:80:80"),
        ("inet", "1.2.3"),
        ("inet", "1.2.3.256"),
        ("inet", "01.2.3.4"),
        ("inet", "localhost:80"),
        ("inet", "::1"),
        ("inet", "[1.2.3.4]:80"),
        ("inet", "\u{ff11}.2.3.4"),
        ("inet6", "*80"),
        ("inet6", "*:"),
        ("inet6", "[*]"),
        ("inet6", "[::1"),
        ("inet6", "[::1]80"),
        ("inet6", "[::1]:"),
        ("inet6", "[::1]:65536"),
        ("inet6", "::1]:80"),
        ("inet6", "fe80::1%eth0"),
        ("inet6", "1.2.3.4:80"),
    ];
    for (domain, address) in refused {
        let problem = words::socket_spec(domain.as_bytes(), Some(address.as_bytes())).unwrap_err();
        assert!(problem.to_string().starts_with("invalid address "), "{address}: {problem}");
    }
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let read = [
        ("inet", "*", Address::Inet([0; 4], 0)),
        ("inet", "*:65535", Address::Inet([0; 4], 65_535)),
        ("inet", "127.0.0.1:0", Address::Inet([127, 0, 0, 1], 0)),
        ("inet", "10.0.0.7", Address::Inet([10, 0, 0, 7], 0)),
        ("inet6", "*", Address::Inet6([0; 16], 0)),
        ("inet6", "*:80", Address::Inet6([0; 16], 80)),
        ("inet6", "::1", Address::Inet6(loopback, 0)),
        ("inet6", "[::1]", Address::Inet6(loopback, 0)),
        ("inet6", "[::1]:80", Address::Inet6(loopback, 80)),
        ("unix", "*:80", Address::Unix(b"*:80".to_vec())),
    ];
    for (domain, text, address) in read {
        let spec = words::socket_spec(domain.as_bytes(), Some(text.as_bytes())).unwrap();
        assert_eq!((spec.bind, &*spec.address_text), (Some(address), text.as_bytes()), "{text}");
    }
}

#[test]
fn integers_have_a_sign_and_64_bits() {
    assert_eq!(words::integer(b"-9223372036854775808", "code"), Ok(i64::MIN));
    assert_eq!(words::integer(b"9223372036854775807", "code"), Ok(i64::MAX));
    assert_eq!(words::integer(b"-0", "code"), Ok(0));
    for field in ["", "-", "--1", "+1", " 1", "1 ", "1.0", "0x1", "9223372036854775808", "\u{0661}"]
    {
        let problem = words::integer(field.as_bytes(), "code").unwrap_err().to_string();
        assert!(problem.starts_with("integer expected as code, "), "{field}: {problem}");
    }
}

#[test]
fn no_number_is_needed() {
    for line in ["statedump", "service.stop⇥web⇥1", "fd.take⇥a", "service.set⇥web⇥marks=no"]
    {
        let request = decode_request(&tabs(line));
        assert!(matches!(request, Ok(Some(Request::Unnumbered(_)))), "{line}: {request:?}");
    }
}

#[test]
fn comments_and_blank_lines_are_no_commands() {
    for line in ["", " ", "\t", " \t\r", "# service.args⇥web", "#"] {
        assert_eq!(decode_request(&tabs(line)), Ok(None), "{line:?}");
    }
}

#[test]
fn lines_that_are_too_long_are_answered_by_number_too() {
    let numbered = RequestError::too_long(b"@12\tservice.env\tweb");
    assert_eq!(numbered.id, Some(RequestId(12)));
    let untagged = RequestError::too_long(b"echo\taaaa");
    assert_eq!(untagged.id, None);
    assert!(untagged.text.contains("too long"));
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
        "service.auto_up⇥web⇥5⇥often".to_owned(),
        "service.auto_up⇥web⇥0⇥always".to_owned(),
        "service.auto_up⇥web⇥-⇥always".to_owned(),
        "service.fds⇥web⇥a/b".to_owned(),
        "fd.state⇥a".to_owned(),
        "fd.state⇥-⇥deleted".to_owned(),
        "fd.state⇥a⇥deleted⇥x".to_owned(),
        "fd.state⇥a⇥fifo⇥read⇥/p".to_owned(),
        "fd.state⇥a⇥file⇥read".to_owned(),
        "fd.state⇥a⇥file⇥exec⇥/p".to_owned(),
        "fd.state⇥a⇥pipe⇥nonblock⇥b".to_owned(),
        "fd.state⇥a⇥socket⇥unix,stream,listen=0⇥/s".to_owned(),
        "log.filter".to_owned(),
        "log.filter⇥loud".to_owned(),
        "log.filter⇥info⇥x".to_owned(),
        "service.auto_up⇥web⇥5".to_owned(),
        "service.deleted⇥web⇥x".to_owned(),
        "service.lease⇥web⇥\\q".to_owned(),
        "service.lease⇥web⇥1⇥never⇥-".to_owned(),
        "service.lease⇥web⇥1⇥any⇥-⇥x".to_owned(),
        format!("service.lease⇥web⇥1⇥any⇥-{}", "⇥1".repeat(17)),
        "service.ended⇥web⇥1⇥5⇥exit".to_owned(),
        "service.ended⇥web⇥1⇥5⇥exit⇥0⇥x".to_owned(),
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
    for line in ["", "service.loan⇥web⇥\\q", "overflow", "info⇥hello", "warning: fd x"] {
        assert_eq!(decode_message(&tabs(line)), Ok(None), "{line}");
    }
    let message = decode_message(&tabs("fail⇥3⇥quota⇥-⇥-⇥no more"));
    let fail = Fail { kind: FailKind::System, spawn: None, text: "no more".to_owned() };
    let expected = Message::Reply(RequestId(3), Reply::Fail(fail));
    assert_eq!(message, Ok(Some(expected)));
}
