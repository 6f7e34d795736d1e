//! With both pools, everything that a controller can do costs no memory of the system.

use std::time::Duration;

use keepd_model::Signal;
use keepd_testkit::daemonproxy::Conversation;

use crate::fixture::{Proxy, pour};

const SERVICES: usize = 40;
const HANDLES: usize = 24;
/// Connections at the same time with static pools.
const CONNECTIONS: usize = 16;
/// What the stack may grow by while the address space must not.
const STACK_BYTES: u64 = 256 * 1024;
/// Nothing comes within this time.
const SILENCE: Duration = Duration::from_millis(200);

pub(crate) fn nothing_is_asked_of_the_system() {
    let pools = [format!("{SERVICES}x512"), format!("{HANDLES}x96")];
    let proxy = Proxy::start(&["--service-pool", &pools[0], "--fd-pool", &pools[1]]);
    let mut talk = proxy.connect();
    run_one(&mut talk, "first");
    talk.ask("service.delete\tfirst");
    // The counter sees Rust's allocator; the limit sees everything else, too.
    proxy.limit_growth(STACK_BYTES);

    fill(&mut talk);
    exhaust(&mut talk);
    let mut slow: Vec<Conversation> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut slow {
        client.sync();
    }
    change_everything(&mut talk);
    start_everything(&proxy, &mut talk);
    for client in &mut slow {
        client.expect("overflow");
        client.ask("statedump");
    }
    drop(slow);
    connect_and_leave(&proxy);
    say_nonsense(&mut talk);
    let usage = proxy.end(&mut talk);
    assert_eq!(usage.calls, 0, "{usage:?}");
    assert!(usage.used_max < usage.region);
}

/// Runs `true` as a service.
fn run_one(talk: &mut Conversation, name: &str) {
    talk.send(format!("service.args\t{name}\ttrue"));
    talk.send(format!("service.start\t{name}"));
    talk.expect(&format!("service.state\t{name}\tdown\t{{num}}\t{{pid}}\texit\t0\t{{rest}}"));
    talk.sync();
}

fn fill(talk: &mut Conversation) {
    let value = "y".repeat(110);
    for number in 0..SERVICES {
        let name = format!("service-{number:02}");
        talk.ask(format!("service.args\t{name}\ttrue\t{value}"));
        talk.ask(format!("service.tags\t{name}\t{value}\t{value}\t{value}"));
        talk.ask(format!("service.fds\t{name}\tnull\tnull\tstderr"));
        let told = talk.ask(format!("service.auto_up\t{name}\t9\tSIGUSR1"));
        assert_eq!(told, [format!("service.auto_up\t{name}\t9\tSIGUSR1")]);
    }
    for number in 0..HANDLES {
        talk.ask(format!("fd.open\thandle-{number:02}\tread\t/dev/null"));
    }
}

fn exhaust(talk: &mut Conversation) {
    for round in 0..300 {
        for command in ["args", "tags", "fds", "auto_up"] {
            let line = format!("service.{command}\tone-more-{round}\t1");
            talk.refuses(&line, &["allocate", "service"]);
        }
        talk.refuses("fd.open\tone-more\tread\t/dev/null", &["allocate", "file"]);
        talk.refuses("fd.pipe\tone-more\ttwo-more", &["allocate"]);
        talk.refuses(&format!("service.tags\tservice-00\t{}", "z".repeat(600)), &["tags"]);
    }
    talk.refuses("proto\tkeepd\t1", &["extended", "static pools"]);
}

/// Sets, deletes and makes again, thousands of times; nobody else reads what is told of it.
fn change_everything(talk: &mut Conversation) {
    let value = "v".repeat(100);
    for number in (0..HANDLES).rev().take(4) {
        talk.ask(format!("fd.delete\thandle-{number:02}"));
    }
    talk.ask("service.delete\tservice-00");
    let commands = (0..1_500).flat_map(|round| {
        [
            format!("service.tags\tagain\t{round}\t{value}"),
            format!("service.args\tagain\ttrue\t{round}"),
            format!("service.fds\tagain\tr\tw\tmissing-{round}"),
            format!("service.auto_up\tagain\t{}\tSIGHUP\tSIGTERM", round + 1),
            "service.start\tagain\t-".to_owned(),
            "fd.pipe\tr\tw".to_owned(),
            "fd.socket\ts\tinet\t*:0".to_owned(),
            "fd.delete\tr".to_owned(),
            "fd.delete\tw".to_owned(),
            "fd.delete\ts".to_owned(),
            "log.filter\t+".to_owned(),
            "log.filter\t-".to_owned(),
            format!("terminate.exec_args\tsh\t{round}"),
            "terminate.exec_args".to_owned(),
            format!("terminate.guard\t+\t{}", round + 1),
            format!("terminate.guard\t-\t{}", round + 1),
            "chdir\t.".to_owned(),
            "service.delete\tagain".to_owned(),
        ]
    });
    let heard = pour(talk, commands);
    assert!(heard.iter().filter(|line| line.starts_with("service.tags\tagain\t")).count() > 1_000);
}

/// All services at once, by a signal; and one that controls the proxy, many times.
fn start_everything(proxy: &Proxy, talk: &mut Conversation) {
    for _ in 0..4 {
        proxy.signal(Signal::USR1);
        talk.expect("signal\tSIGUSR1\t{num}\t1");
        talk.ask("signal.clear\tSIGUSR1\t1");
        for number in 1..SERVICES {
            talk.send(format!("service.start\tservice-{number:02}"));
        }
        talk.ask("statedump");
    }
    let script =
        "printf 'service.tags\\011teller\\011%s\\n' $$ >&0; read -r up <&0; read -r tags <&0";
    talk.ask("service.fds\tteller\tcontrol.socket\tnull\tnull");
    talk.ask(format!("service.args\tteller\tsh\t-c\t{script}"));
    for _ in 0..20 {
        talk.send("service.start\tteller");
        // What it says may come after its end: others end at the same time, and it hears of them.
        let (mut has_told, mut is_down) = (false, false);
        talk.expect_line("its word and its end", |line| {
            has_told |= line.starts_with("service.tags\tteller\t");
            is_down |= line.starts_with("service.state\tteller\tdown\t");
            (has_told && is_down).then_some(())
        });
    }
}

fn connect_and_leave(proxy: &Proxy) {
    for round in 0..200 {
        let mut client = proxy.connect();
        match round % 3 {
            0 => assert!(client.ask("statedump").len() > SERVICES),
            1 => client.send("statedump"),
            _ => {
                client.send("echo\thalf a line");
                client.send_bytes(b"service.tags\tservice-01\tno end");
                client.close_input();
                client.expect_end();
            }
        }
    }
}

fn say_nonsense(talk: &mut Conversation) {
    for length in [1_023, 1_024, 5_000, 200_000] {
        talk.send_bytes(&vec![b'x'; length]);
        talk.send("");
    }
    let lines = (0..2_000).map(|number| format!("no.such.command.{number}\t{}", "w".repeat(300)));
    let heard = pour(talk, lines);
    let refused = heard.iter().filter(|line| line.starts_with("error\t")).count();
    assert!(refused >= 2_000, "{refused}");
}

pub(crate) fn connections_wait_for_each_other() {
    let proxy = Proxy::start(&["--service-pool", "2", "--fd-pool", "9"]);
    let mut clients: Vec<Conversation> = (0..CONNECTIONS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.sync();
    }
    let mut late = proxy.connect();
    late.send("echo\tat last");
    // A service that needs a connection is tried again, like one that cannot be cloned.
    clients[0].send("service.fds\tboss\tcontrol.event");
    clients[0].send("service.args\tboss\ttrue");
    clients[0].send("service.start\tboss");
    clients[0].expect("service.state\tboss\tstart\t{rest}");
    clients[0].sync();
    assert!(!late.is_heard_within(SILENCE));
    drop(clients.pop());
    late.expect("at last");
    drop(clients.pop());
    clients[0].expect("service.state\tboss\tdown\t{num}\t{pid}\texit\t0\t{rest}");
    assert_eq!(proxy.end(&mut clients[0]).calls, 0);
}
