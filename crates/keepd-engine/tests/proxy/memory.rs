//! While the system gives no memory.

use std::time::Duration;

use keepd_engine::proxy::{Input, Output};
use keepd_model::protocol::{
    Attributes, Command, Environment, EnvironmentChange, LogTarget, RunState,
};
use keepd_model::{Exit, FdSlot, OpenFlags, PipeSpec, Signal};

use crate::driver::*;

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn tags(tags: &[&str]) -> Command {
    Command::ServiceTags { name: name("web"), tags: words(tags) }
}

fn note(key: &str, value: &str) -> Command {
    Command::ServiceNote { name: name("web"), key: key.to_owned(), value: value.into() }
}

fn environment(values: &[&str]) -> Command {
    let set = |value: &&str| EnvironmentChange::Set(b"KEY".to_vec(), value.as_bytes().to_vec());
    let changes = values.iter().map(set).collect();
    Command::ServiceEnv { name: name("web"), environment: Environment { clear: false, changes } }
}

#[test]
fn what_would_grow_is_refused_and_changes_nothing() {
    // (behaviour 1.18)
    let mut driver = Driver::with_boss();
    for command in
        [arguments("web"), tags(&["one", "two"]), note("key", "value"), environment(&["v"])]
    {
        driver.ask(command);
    }
    driver.give(Input::MemoryLow { on: true });
    let directory = Attributes { directory: Some(b"/srv".to_vec()), ..Attributes::default() };
    let file = LogTarget::File { dir: b"/logs".to_vec(), merge: false };
    let growing = [
        arguments("new"),
        tags(&["one", "three"]),
        note("key", "values"),
        note("new", "v"),
        environment(&["value"]),
        set("web", directory),
        Command::ServiceLog { name: name("web"), log: file },
        Command::ServiceFds { name: name("web"), slots: vec![FdSlot::Closed] },
        auto_up("web", None, true),
        Command::ServiceExec {
            name: name("web"),
            deadline: Duration::from_secs(1),
            arguments: words(&["true"]),
        },
        Command::HandleOpen {
            name: handle_name("h"),
            flags: OpenFlags::default(),
            path: b"/h".to_vec(),
        },
        Command::HandlePipe {
            read: handle_name("r"),
            write: handle_name("w"),
            spec: PipeSpec { socket: None, nonblock: false },
        },
        Command::TerminateExec { arguments: words(&["sh"]) },
        Command::SocketCreate { path: b"/s".to_vec() },
    ];
    for command in growing {
        let heard = driver.ask(command.clone());
        assert!(heard.len() == 1 && heard[0].ends_with(" limit"), "{command:?}: {heard:?}");
    }
    assert_eq!(driver.state("new"), None);
    for command in [tags(&["two", "one"]), tags(&["one"]), note("key", ""), environment(&[])] {
        let heard = driver.ask(command.clone());
        assert!(heard[0].contains(" ok "), "{command:?}: {heard:?}");
    }
    driver.give(Input::MemoryLow { on: false });
    assert!(driver.ask(tags(&["one", "two", "three"]))[0].contains(" ok "));
}

#[test]
fn lives_go_on_without_memory() {
    // (behaviour 1.18)
    let mut driver = Driver::with_service_up(Attributes::default());
    driver.give(Input::MemoryLow { on: true });
    let heard = driver.reaped(100, Exit::Code(1));
    assert!(heard.iter().any(|line| line.contains("emptying")), "{heard:?}");
    driver.empty(service("web", 1));
    assert_eq!(driver.state("web"), Some(RunState::Down));
    driver.ask(start("web", 1));
    driver.spawned(service("web", 2), 101);
    driver.executed(service("web", 2));
    assert_eq!(driver.state("web"), Some(RunState::Up));
    driver.give(Input::Signal { signal: Signal::HUP, count: 1 });
    driver.ask(stop("web", 2));
    assert_eq!(driver.state("web"), Some(RunState::Stopping));
}

#[test]
fn what_many_services_do_at_once_is_asked_for_one_by_one() {
    const SERVICES: usize = 500;
    let mut driver = Driver::with_boss();
    for number in 0..SERVICES {
        let name = format!("s{number:03}");
        driver.ask(arguments(&name));
        driver.ask(Command::ServiceStart {
            name: self::name(&name),
            expected: None,
            at: Some(driver.now.saturating_add(ms(1_000))),
        });
    }
    driver.now = driver.now.saturating_add(ms(1_000));
    driver.proxy.handle_timeout(driver.now);
    let mut spawns = 0;
    while let Some(output) = driver.proxy.poll_output() {
        if let Output::Spawn(spawn) = output {
            assert_eq!(spawn.name.as_str(), format!("s{spawns:03}"));
            spawns += 1;
            // The next one has not been touched yet.
            let next = driver.state(&format!("s{spawns:03}"));
            let view = driver.proxy.services().nth(spawns).map(|view| view.generation.get());
            assert_eq!(
                (next.is_some(), view.is_none_or(|number| number == 0)),
                (spawns < SERVICES, true)
            );
        }
    }
    assert_eq!(spawns, SERVICES);
    assert!(driver.proxy.poll_timeout().is_none());
}
