//! The region holds what the pools promise, and little more.

use keepd_model::Signal;
use keepd_testkit::daemonproxy::Conversation;

use crate::fixture::{Proxy, Usage, pour};

/// Connections of a proxy with static pools.
const CONNECTIONS: usize = 16;
/// A line of a plain connection.
const LINE_BYTES_MAX: usize = 1023;
/// So many processes are made at once: more of them take too long on a busy machine.
const STARTED_MAX: usize = 300;
/// The handles that are always there.
const BUILT_IN: usize = 7;

/// Returns words that take exactly so many bytes of a pool: short ones, which need most.
fn words(bytes: usize, word: &str) -> String {
    format!("\t{word}").repeat(bytes / (word.len() + 1))
}

/// Returns the commands that fill a service with `bytes` bytes.
fn fill(name: &str, bytes: usize) -> Vec<String> {
    // Each list may have as much as fits into a line.
    let line = LINE_BYTES_MAX - 20 - name.len();
    let part = |share: usize| share.min(line);
    let triggers = part(bytes / 4);
    let fds = part(bytes / 4);
    let args = part((bytes - triggers - fds) / 2);
    let tags = part(bytes - triggers - fds - args);
    vec![
        format!("service.auto_up\t{name}\t9{}", words(triggers, "1")),
        format!("service.fds\t{name}{}", words(fds, "-")),
        format!("service.args\t{name}\t{}", sleeper(args)),
        format!("service.tags\t{name}{}", words(tags, "y")),
    ]
}

/// Returns program and arguments of at most so many bytes: a process that stays.
fn sleeper(bytes: usize) -> String {
    let long = "sh\t-c\texec sleep 600";
    match bytes.checked_sub(long.len() + 1) {
        Some(rest) => format!("{long}{}", words(rest, "x")),
        None => "sleep\t600".to_owned(),
    }
}

fn name(number: usize) -> String {
    format!("a-service-with-a-long-na-{number:06}")
}

/// Fills both pools while as many clients as there can be are connected and do not read, then has
/// every service started by a signal; no program can be executed.
fn fill_pools(services: (usize, usize), handles: (usize, usize)) -> Usage {
    let text = |(count, bytes): (usize, usize)| format!("{count}x{bytes}");
    let proxy = Proxy::start(&["--service-pool", &text(services), "--fd-pool", &text(handles)]);
    let mut talk = proxy.connect();
    let mut others: Vec<Conversation> = (1..CONNECTIONS).map(|_| proxy.connect()).collect();
    for other in &mut others {
        other.sync();
        other.send("no.such.command");
    }
    let commands = (0..services.0).flat_map(|number| fill(&name(number), services.1));
    let heard = pour(&mut talk, commands);
    let errors = heard.iter().filter(|line| line.starts_with("error\t"));
    assert_eq!(
        errors.count(),
        0,
        "{services:?}: {:?}",
        heard.iter().find(|line| line.starts_with("error"))
    );
    // A path as long as a line allows, whatever is shown of it.
    let path = format!("/{}dev/null", "./".repeat(450));
    let commands = (BUILT_IN..handles.0)
        .map(|number| format!("fd.open\ta-handle-with-a-long-na-{number:06}\tread\t{path}"));
    pour(&mut talk, commands);
    talk.refuses("service.args\tone-more\tx", &["allocate", "service"]);
    talk.refuses("fd.open\tone-more\tread\t/dev/null", &["allocate", "file"]);
    let dump = talk.ask("statedump");
    let count = |start: &str| dump.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("service.state\t"), services.0);
    assert_eq!(count("fd.state\t"), handles.0);
    if services.0 <= STARTED_MAX {
        proxy.signal(Signal::HUP);
        talk.expect("signal\tSIGHUP\t{num}\t1");
        talk.ask("signal.clear\tSIGHUP\t1");
        let dump = talk.ask("statedump");
        let is_up = |line: &&String| line.starts_with("service.state\t") && line.contains("\tup\t");
        assert_eq!(dump.iter().filter(is_up).count(), services.0);
        // They would outlive the proxy.
        let kills = (0..services.0).map(|number| format!("service.signal\t{}\tKILL", name(number)));
        pour(&mut talk, kills);
    }
    for other in &mut others {
        other.send("statedump");
    }
    talk.sync();
    drop(others);
    let usage = proxy.end(&mut talk);
    println!("{services:?} {handles:?}: {usage:?}");
    assert_eq!(usage.calls, 0);
    assert!(usage.used_max <= usage.region);
    usage
}

/// Small and common sizes.
pub(crate) fn pools_are_filled_to_the_brim() {
    for (services, handles) in [
        ((1, 64), (7, 32)),
        ((64, 512), (96, 96)),
        ((300, 4096), (20, 4096)),
        ((1000, 2048), (1024, 4096)),
        ((1000, 64), (7, 32)),
        ((1, 64), (1024, 4096)),
    ] {
        fill_pools(services, handles);
    }
}

/// The most that can be asked for.
pub(crate) fn the_largest_pool_is_filled() {
    fill_pools((65_535, 64), (7, 32));
}
