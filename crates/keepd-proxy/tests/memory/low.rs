//! Without pools, what the system refuses is an error reply, whoever asks for it and however often.

use std::time::Duration;

use keepd_testkit::daemonproxy::Conversation;

use crate::fixture::{Proxy, pour};

/// How much more the proxy gets of the system.
const GROWTH_BYTES: u64 = 2 * 1024 * 1024;
/// More than fits into that.
const SERVICES_MAX: usize = 20_000;
const CLIENTS: usize = 200;

/// Makes services until one is refused; returns how many there are.
fn fill(talk: &mut Conversation, value: &str) -> usize {
    for number in 0..SERVICES_MAX {
        let answer = talk.ask(format!("service.tags\tservice-{number}\t{value}"));
        if answer[0].starts_with("error\t") {
            assert!(answer[0].contains("allocate"), "{answer:?}");
            return number;
        }
    }
    panic!("nothing was refused");
}

fn empty(talk: &mut Conversation, count: usize) {
    let heard = pour(talk, (0..count).map(|number| format!("service.delete\tservice-{number}")));
    assert!(!heard.iter().any(|line| line.starts_with("error\t")));
}

/// Prepares services that run, end and are started while memory is low.
fn prepare(talk: &mut Conversation) {
    talk.ask("service.args\tshort\ttrue");
    talk.ask("service.args\tlong\tsleep\t600");
    talk.ask("service.tags\tlong\tone\ttwo");
    talk.send("service.start\tlong");
    talk.expect("service.state\tlong\tup\t{rest}");
    talk.sync();
}

/// Deaths are reaped, services started and events told as always.
fn works(talk: &mut Conversation) {
    talk.send("service.signal\tlong\tKILL");
    talk.expect("service.state\tlong\tdown\t{num}\t{pid}\tsignal\tSIGKILL\t{rest}");
    for _ in 0..3 {
        talk.send("service.start\tshort");
        talk.expect("service.state\tshort\tdown\t{num}\t{pid}\texit\t0\t{rest}");
    }
    talk.send("service.start\tlong");
    talk.expect("service.state\tlong\tup\t{rest}");
    talk.answers("service.tags\tlong\tone\t2", "service.tags\tlong\tone\t2");
    assert!(talk.ask("statedump").len() > 20);
}

pub(crate) fn growth_is_refused_and_all_else_works() {
    let proxy = Proxy::start(&[]);
    let mut talk = proxy.connect();
    prepare(&mut talk);
    proxy.limit_growth(GROWTH_BYTES);
    let value = "y".repeat(900);
    for _ in 0..3 {
        let made = fill(&mut talk, &value);
        assert!(made > 100, "{made}");
        for round in 0..1_000 {
            for command in ["tags", "args", "auto_up"] {
                let line = format!("service.{command}\tnew-{round}\t1\talways");
                talk.refuses(&line, &["cannot allocate"]);
            }
            talk.refuses("fd.open\tx\tread\t/dev/null", &["cannot allocate"]);
            talk.refuses("fd.pipe\tx\ty", &["cannot allocate"]);
        }
        works(&mut talk);
        empty(&mut talk, made);
        talk.answers("service.tags\tnew\tx", "service.tags\tnew\tx");
        talk.ask("service.delete\tnew");
        talk.answers("service.tags\tlong\tone\ttwo", "service.tags\tlong\tone\ttwo");
        // Who came meanwhile was let wait.
        proxy.connect().sync();
    }
    talk.ask("service.signal\tlong\tKILL");
    talk.send("terminate\t3");
    let _ = proxy.running.wait().expect_code(3);
}

pub(crate) fn many_clients_cannot_use_up_the_reserve() {
    let proxy = Proxy::start(&[]);
    let mut talk = proxy.connect();
    prepare(&mut talk);
    let mut clients: Vec<Conversation> = (0..CLIENTS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.sync();
    }
    proxy.limit_growth(GROWTH_BYTES);
    let made = fill(&mut talk, &"y".repeat(900));
    // None of them reads; each has a long line, many refusals, and half a line waiting.
    for round in 0..5 {
        for client in &mut clients {
            let mut bytes = vec![b'z'; 9_000];
            for number in 0..20 {
                let words = "x\t".repeat(450);
                bytes.extend(format!("\nservice.args\tnew-{number}\t{words}").as_bytes());
            }
            bytes.extend(b"\nstatedump\n");
            bytes.extend(b"service.args\tshort\tx".repeat(10 * round));
            client.offer(&bytes, Duration::ZERO);
        }
        talk.sync();
        works(&mut talk);
    }
    drop(clients);
    empty(&mut talk, made);
    talk.answers("service.tags\tnew\tx", "service.tags\tnew\tx");
    talk.ask("service.signal\tlong\tKILL");
    talk.send("terminate\t3");
    let _ = proxy.running.wait().expect_code(3);
}

/// Asks for something on an extended connection, and returns its answer.
fn answer(talk: &mut Conversation, number: usize, command: &str) -> String {
    talk.send(format!("@{number}\t{command}"));
    let (ok, fail) = (format!("ok\t{number}"), format!("fail\t{number}\t"));
    talk.expect_line(&format!("the answer {number}"), |line| {
        (line == ok || line.starts_with(&fail)).then(|| line.to_owned())
    })
}

fn extended(proxy: &Proxy) -> Conversation {
    let mut talk = proxy.connect();
    talk.send("proto\tkeepd\t1");
    talk.expect("proto\tkeepd\t1{rest}");
    talk
}

pub(crate) fn extended_connections_are_refused_too() {
    let proxy = Proxy::start(&[]);
    let mut talk = extended(&proxy);
    assert_eq!(answer(&mut talk, 1, "service.args\trun\ttrue"), "ok\t1");
    assert_eq!(answer(&mut talk, 2, "service.tags\trun\tone"), "ok\t2");
    proxy.limit_growth(GROWTH_BYTES);
    let value = "y".repeat(3_000);
    let made = (0..SERVICES_MAX)
        .find(|number| {
            let setter = format!("service.args\tservice-{number}\ttrue\t{value}");
            let heard = answer(&mut talk, 10 + number, &setter);
            assert!(heard.starts_with("ok") || heard.contains("\tlimit\t"), "{heard}");
            !heard.starts_with("ok")
        })
        .expect("something is refused");
    assert!(made > 100, "{made}");
    let refused = [
        "service.args\trun\ttrue\tmore",
        "service.tags\trun\tone\ttwo",
        "service.env\trun\t+KEY=value",
        "service.set\trun\tdirectory=/tmp",
        "service.note\trun\tkey\tvalue",
        "service.log\trun\tmode=file\tdir=/tmp/logs",
        "service.fds\trun\tnull\tnull",
        "service.auto_up\trun\t1\tSIGHUP",
        "service.exec\trun\t1000\ttrue",
        "service.tags\tnew",
        "fd.open\tx\tread\t/dev/null",
        "fd.pipe\tx\ty",
    ];
    for round in 0..200 {
        for (index, command) in refused.iter().enumerate() {
            let heard = answer(&mut talk, 50_000 + 100 * round + index, command);
            assert!(heard.contains("\tlimit\t") && heard.contains("out of memory"), "{heard}");
        }
    }
    for number in 0..3 {
        assert_eq!(
            answer(&mut talk, 90_000 + number, "service.start\trun\t-"),
            format!("ok\t{}", 90_000 + number)
        );
        talk.expect_line("its end", |line| {
            (line.starts_with("service.run\trun\t") && line.contains("\tdown\t")).then_some(())
        });
    }
    for number in 0..made {
        let heard =
            answer(&mut talk, 100_000 + number, &format!("service.delete\tservice-{number}"));
        assert_eq!(heard, format!("ok\t{}", 100_000 + number));
    }
    assert_eq!(answer(&mut talk, 200_000, "service.tags\trun\tone\ttwo"), "ok\t200000");
    talk.send("@200001\tterminate\t3");
    let _ = proxy.running.wait().expect_code(3);
}

pub(crate) fn a_long_line_is_refused() {
    let proxy = Proxy::start(&[]);
    let mut talk = extended(&proxy);
    let mut others: Vec<Conversation> = (0..20).map(|_| extended(&proxy)).collect();
    assert_eq!(answer(&mut talk, 1, "service.args\trun\ttrue\tone"), "ok\t1");
    proxy.limit_growth(GROWTH_BYTES);
    for round in 0..20 {
        // As words it would take many times its length; the other one does not even fit.
        for (number, line) in [(2, "\tx".repeat(60_000)), (3, "x".repeat(1_000_000))] {
            let heard = answer(&mut talk, 10 * round + number, &format!("service.args\trun{line}"));
            assert!(heard.starts_with("ok") || heard.contains("out of memory"), "{heard}");
        }
        for other in &mut others {
            other.send(format!("@{round}\tservice.tags\trun{}", "\tx".repeat(30_000)));
            other.send_bytes(&vec![b'y'; 100_000]);
        }
        assert_eq!(
            answer(&mut talk, 10 * round + 4, "service.args\trun\ttrue"),
            format!("ok\t{}", 10 * round + 4)
        );
    }
    proxy.end_limit();
    drop(others);
    assert_eq!(
        answer(&mut talk, 1_000, &format!("service.args\trun{}", "\tx".repeat(60_000))),
        "ok\t1000"
    );
    talk.send("@1001\tterminate\t3");
    let _ = proxy.running.wait().expect_code(3);
}
