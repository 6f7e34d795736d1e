//! Pools, and what is refused while the system gives no memory.

use keepd_compat::{Client, Limits, Pool};
use keepd_engine::proxy::Input;

use crate::driver::{BOSS, Driver, MANAGER, OTHER};

fn with_pools(services: Option<(usize, usize)>, handles: Option<(usize, usize)>) -> Driver {
    let pool = |(count, bytes)| Pool { count, bytes };
    Driver::with_limits(Limits { services: services.map(pool), handles: handles.map(pool) })
}

#[track_caller]
fn is_refused(answer: &str, words: &[&str]) {
    assert!(answer.starts_with("error⇥"), "{answer}");
    assert!(words.iter().all(|word| answer.contains(word)), "{answer}");
    assert_eq!(answer.lines().count(), 1, "{answer}");
}

#[test]
fn the_service_pool_counts_services() {
    let mut driver = with_pools(Some((2, 512)), None);
    driver.say(BOSS, "service.tags⇥a\nservice.args⇥b⇥x");
    for command in ["service.args⇥c⇥x", "service.fds⇥c", "service.tags⇥c", "service.auto_up⇥c⇥1"]
    {
        is_refused(&driver.say(BOSS, command), &["cannot allocate a new service"]);
    }
    assert_eq!(driver.say(BOSS, "service.args⇥b⇥y"), "service.args⇥b⇥y\n");
    driver.say(BOSS, "service.delete⇥a");
    assert_eq!(driver.say(BOSS, "service.tags⇥c"), "service.tags⇥c⇥\n");
    assert_eq!(driver.services(), ["b", "c"]);
}

#[test]
fn a_value_beyond_the_pool_is_refused_and_the_old_one_stays() {
    let mut driver = with_pools(Some((5, 64)), None);
    let word = |length| "w".repeat(length);
    driver.say(BOSS, &format!("service.args⇥a⇥{}\nservice.tags⇥a⇥{}", word(30), word(20)));
    is_refused(&driver.say(BOSS, &format!("service.args⇥a⇥{}", word(43))), &["args", "pool"]);
    is_refused(&driver.say(BOSS, &format!("service.tags⇥a⇥{}", word(33))), &["tags", "pool"]);
    is_refused(&driver.say(BOSS, "service.fds⇥a⇥stdin⇥stdin⇥stdin"), &["fds", "pool"]);
    let triggers = "service.auto_up⇥a⇥1⇥always⇥SIGUSR1";
    is_refused(&driver.say(BOSS, triggers), &["triggers", "pool"]);
    let expected = format!(
        "\
service.state⇥a⇥down⇥-⇥-⇥-⇥-⇥-⇥-
service.tags⇥a⇥{}
service.args⇥a⇥{}
service.fds⇥a⇥null⇥null⇥null
service.auto_up⇥a⇥-
",
        word(20),
        word(30)
    );
    assert_eq!(driver.dumped("service."), expected);
    assert!(driver.say(BOSS, &format!("service.args⇥a⇥{}", word(42))).starts_with("service.args"));
    // The service is made though its first value is refused.
    is_refused(&driver.say(BOSS, &format!("service.args⇥new⇥{}", word(64))), &["args", "pool"]);
    is_refused(
        &driver.say(BOSS, &format!("service.auto_up⇥never⇥1{}", "⇥always".repeat(10))),
        &["triggers", "pool"],
    );
    assert_eq!(driver.services(), ["a", "new"]);
}

#[test]
fn the_handle_pool_counts_handles_and_one_for_a_replacement() {
    // Seven are built in.
    let mut driver = with_pools(None, Some((9, 96)));
    driver.say(BOSS, "fd.open⇥a⇥read⇥/a");
    is_refused(&driver.say(BOSS, "fd.pipe⇥r⇥w"), &["cannot allocate", "file descriptor"]);
    assert_eq!(driver.say(BOSS, "fd.open⇥a⇥read⇥/b"), "fd.state⇥a⇥file⇥read⇥/b\n");
    driver.say(BOSS, "fd.open⇥b⇥read⇥/b");
    for command in ["fd.open⇥c⇥read⇥/c", "fd.open⇥a⇥read⇥/c", "fd.socket⇥c⇥", "fd.take⇥c"]
    {
        let words = ["cannot allocate a new file descriptor object"];
        is_refused(&driver.say(BOSS, command), &words);
    }
    assert_eq!(driver.dumped("fd.state⇥a"), "fd.state⇥a⇥file⇥read⇥/b\n");
    driver.say(BOSS, "fd.delete⇥b\nfd.delete⇥a");
    assert!(driver.say(BOSS, "fd.pipe⇥r⇥w").starts_with("fd.state⇥r⇥"));
}

#[test]
fn a_long_description_is_shown_cut() {
    let mut driver = with_pools(None, Some((20, 32)));
    let path = |length: usize| format!("/{}", "x".repeat(length - 1));
    let told = driver.say(BOSS, &format!("fd.open⇥a⇥read⇥{}", path(32)));
    assert_eq!(told, format!("fd.state⇥a⇥file⇥read⇥{}\n", path(32)));
    let told = driver.say(BOSS, &format!("fd.open⇥a⇥read⇥{}", path(33)));
    assert_eq!(told, format!("fd.state⇥a⇥file⇥read⇥{}...\n", path(29)));
    assert_eq!(driver.dumped("fd.state⇥a"), told);
}

#[test]
fn without_memory_nothing_grows_and_all_else_works() {
    let mut driver = Driver::new();
    driver.say(BOSS, "service.args⇥a⇥prog⇥arg\nfd.open⇥h⇥read⇥/h");
    driver.give(Input::MemoryLow { on: true });
    let growing = [
        "service.args⇥new⇥x",
        "service.tags⇥new⇥x",
        "service.fds⇥new⇥x",
        "service.auto_up⇥new⇥1",
        "service.args⇥a⇥prog⇥argument",
        "service.tags⇥a⇥x",
        "service.fds⇥a⇥null",
        "service.auto_up⇥a⇥1⇥SIGHUP",
        "fd.open⇥h⇥read⇥/h",
        "fd.pipe⇥r⇥w",
        "fd.socket⇥s⇥",
        "fd.take⇥t",
        "socket.create⇥-⇥/s",
        "terminate.exec_args⇥sh",
    ];
    for command in growing {
        is_refused(&driver.say(BOSS, command), &["cannot allocate", "out of memory"]);
    }
    assert_eq!(driver.services(), ["a"]);
    assert_eq!(driver.say(BOSS, "echo⇥x\nservice.args⇥a⇥prog"), "x\nservice.args⇥a⇥prog\n");
    assert!(driver.say(BOSS, "service.start⇥a").contains("⇥up⇥"));
    assert_eq!(driver.say(BOSS, "service.signal⇥a⇥SIGTERM"), "");
    assert_eq!(driver.dumped("fd.state⇥h"), "fd.state⇥h⇥file⇥read⇥/h\n");
    assert_eq!(driver.say(BOSS, "fd.delete⇥h"), "fd.state⇥h⇥deleted\n");
    driver.give(Input::MemoryLow { on: false });
    assert_eq!(driver.say(BOSS, "service.tags⇥new⇥x"), "service.tags⇥new⇥x\n");
}

#[test]
fn with_both_pools_there_are_no_extended_connections() {
    let proto = "proto⇥keepd⇥1";
    let mut driver = with_pools(Some((5, 64)), Some((9, 32)));
    is_refused(&driver.say(BOSS, proto), &["extended", "static pools"]);
    assert_eq!(driver.say(BOSS, "echo⇥still plain"), "still plain\n");
    assert!(driver.upgraded.is_empty());
    for mut driver in [with_pools(Some((5, 64)), None), with_pools(None, Some((9, 32)))] {
        driver.say(BOSS, proto);
        assert_eq!(driver.upgraded.len(), 1);
    }
}

#[test]
fn connections_that_only_hear_or_only_command_are_served() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::EventsOnly);
    driver.connect(MANAGER, Client::CommandsOnly);
    driver.send(MANAGER, "echo⇥x\nstatedump\nservice.tags⇥a⇥b");
    assert!(driver.front.output(MANAGER).is_empty());
    assert_eq!(driver.heard(OTHER), "service.tags⇥a⇥b\n");
}
