//! Controllers that behave, and some that do not.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::Proxy;

#[test]
fn garbage_is_answered_and_does_no_harm() {
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    client.send("no such thing");
    assert_eq!(client.expect("error\t"), "error\tunknown command: no such thing");
    let id = client.command("service.start\t/etc/passwd\t0");
    assert!(client.answer(id).starts_with(&format!("fail\t{id}\tmalformed\t")));
    let id = client.command("service.stop\tnobody\t1");
    assert!(client.answer(id).starts_with(&format!("fail\t{id}\tno-such-service\t")));
    let all_bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'\n').chain([b'\n']).collect();
    client.send_bytes(&all_bytes);
    client.expect("error\t");
    client.send_bytes(&[b'x'; 3_000_000]);
    client.send("");
    let line = client.expect("error\t");
    assert!(line.contains("long"), "{line}");
    client.accepted("echo\tstill here");
}

#[test]
fn a_controller_that_reads_nothing_stops_only_itself() {
    let proxy = Proxy::start();
    let mut silent = proxy.connect();
    let mut client = proxy.connect();
    let long = "x".repeat(100_000);
    silent.accepted(&format!("service.args\tweb\t/bin/true\t{long}"));
    client.expect("service.args\tweb\t");
    // Dumps of far more than its buffer and the socket's.
    for id in 0..200 {
        silent.send(&format!("@{id}\tstatedump"));
    }
    for number in 0..3 {
        client.accepted(&format!("service.args\tother{number}\t/bin/true"));
        client.accepted(&format!("service.start\tother{number}\t0"));
        client.expect_run(&format!("other{number}"), 1, "down");
    }
    // It reads again and misses nothing of its own.
    silent.expect("dump.end\t200");
    let id = silent.command("echo\tdone");
    silent.answer(id);
}

#[test]
fn a_client_that_ends_its_input_gets_every_answer() {
    let proxy = Proxy::start();
    let mut client = proxy.connect_plain();
    let lines: String = (0..1000).map(|number| format!("echo\t{number}\n")).collect();
    client.send_bytes(lines.as_bytes());
    client.end_input();
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(client.rest(), expected);

    let mut client = proxy.connect();
    client.accepted("service.args\tweb\t/bin/true");
    let job = client.command("service.exec\tweb\t20000\t/bin/sh\t-c\tsleep 0.1; echo late");
    client.end_input();
    let rest = client.rest();
    assert_eq!(rest.last(), Some(&format!("ok\t{job}\texit\t0\tlate\\n")), "{rest:?}");
}

#[test]
fn a_client_that_is_gone_in_the_middle_of_a_line_has_said_only_whole_lines() {
    let proxy = Proxy::start();
    let mut watcher = proxy.connect();
    let mut client = proxy.connect();
    client.send_bytes(b"@1\tservice.args\tweb\t/bin/true\n@2\tservice.args\thalf\t/bin/tr");
    drop(client);
    assert_eq!(watcher.expect("service.args\t"), "service.args\tweb\t/bin/true");
    watcher.command("statedump");
    while let line = watcher.expect("")
        && !line.starts_with("dump.end")
    {
        assert!(!line.contains("half"), "{line}");
    }
}

#[test]
fn a_configuration_file_is_run_to_its_end_and_standard_input_ends_the_proxy() {
    let folder = std::env::temp_dir().join(format!("keepd-proxy.config.{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let (config, made) = (folder.join("commands"), folder.join("made"));
    // Without a line feed at the end.
    let text = format!("service.args\ta\t/bin/touch\t{}\nservice.start\ta", made.display());
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_keepd-init"))
        .arg("-ic")
        .arg(&config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let lines = std::io::BufRead::lines(&mut output);
    let down = lines.map(Result::unwrap).find(|line| line.starts_with("service.state\ta\tdown"));
    assert!(down.is_some_and(|line| line.contains("\texit\t0\t")));
    assert!(made.exists());
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"echo\tlast\n").unwrap();
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let last = std::io::read_to_string(output).unwrap();
    assert_eq!(last, "last\n");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_cannot_start_says_so_with_daemonproxys_codes() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_keepd-init"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&[]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("fatal: nothing to do"), "{text}");
    let (code, text) = run(&["-S", "/nonexistent/socket"]);
    assert_eq!(code, Some(3));
    assert_eq!(
        text,
        "fatal: cannot listen at \"/nonexistent/socket\": no such file or directory\n"
    );
    // With the dashes it is the other half of the program.
    assert_eq!(run(&["-s", "--", "true"]), (Some(0), String::new()));
    assert_eq!(run(&["--version"]).0, Some(1));
}
