//! Restarts that need no command, and ends that wait to be acknowledged.

use keepd_engine::proxy::{Input, Settings};
use keepd_model::protocol::{Attributes, Command, LeaseAfter, Place, RunState};
use keepd_model::{Exit, Signal};

use crate::driver::{
    BOSS, Driver, NO_FILE, OTHER, ack, arguments, auto_up, killed_by, lease, ms, name, service,
    set, start, stop,
};

/// A machine with a service that is up as generation 1, pid 100, and is its main process.
fn up() -> Driver {
    Driver::with_service_up(Attributes { place: Place::None, ..Attributes::default() })
}

/// The same with somebody to be survived by.
fn up_with_records() -> Driver {
    let mut driver = Driver::with_settings(Settings { records: true, ..Settings::default() });
    driver.connect(BOSS);
    driver.ask(set("web", Attributes { place: Place::None, ..Attributes::default() }));
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    driver.spawned(service("web", 1), 100);
    driver.executed(service("web", 1));
    driver
}

#[test]
fn each_end_spends_one_delay_and_a_used_up_list_starts_nothing() {
    let mut driver = up();
    driver.ask(lease("web", 1, LeaseAfter::Any, &[0, 50]));
    assert_eq!(
        driver.reaped(100, Exit::Code(1)),
        [
            "1> web 1 down pid 100 exit 1",
            "1> web 1 start pid 100 exit 1",
            "1> web 2 invocation",
            "spawn web.2"
        ]
    );
    driver.spawned(service("web", 2), 101);
    driver.reaped(101, killed_by(Signal::KILL));
    assert_eq!(driver.until_timeout(), Some(ms(50)));
    assert_eq!(driver.pass(ms(50)), ["1> web 3 invocation", "spawn web.3"]);
    driver.spawned(service("web", 3), 102);
    assert_eq!(driver.reaped(102, Exit::Code(1)), ["1> web 3 down pid 102 exit 1"]);
    assert_eq!(driver.until_timeout(), None);
}

#[test]
fn a_lease_for_failures_leaves_a_success_alone() {
    let mut driver = up();
    driver.ask(lease("web", 1, LeaseAfter::Failure, &[0, 0]));
    assert_eq!(driver.reaped(100, Exit::Code(0)), ["1> web 1 down pid 100 exit 0"]);
    // The end has spent its delay: the one that is left is for the next.
    driver.ask(start("web", 1));
    driver.spawned(service("web", 2), 101);
    let lines = driver.reaped(101, Exit::Unknown);
    assert_eq!(lines.last().unwrap(), "spawn web.3", "nobody says it was a success");
    driver.not_spawned(service("web", 3));
    assert_eq!(driver.state("web"), Some(RunState::Down));
}

#[test]
fn a_start_that_cannot_be_made_spends_a_delay_like_any_end() {
    let mut driver = up();
    driver.ask(lease("web", 1, LeaseAfter::Failure, &[0, 0]));
    driver.reaped(100, Exit::Code(3));
    let outcome = Err(NO_FILE);
    let lines = driver.give(Input::Spawned { owner: service("web", 2), outcome });
    assert_eq!(lines.last().unwrap(), "spawn web.3");
}

/// Its giver tries again when there is room; and what is left of the lease is for later ends.
#[test]
fn a_start_that_finds_no_room_is_left_to_whoever_gave_the_lease() {
    let mut driver = up();
    driver.ask(lease("web", 1, LeaseAfter::Any, &[0, 0, 0]));
    driver.reaped(100, Exit::Code(3));
    assert_eq!(driver.not_spawned(service("web", 2)), ["1> web 2 down failed clone"]);
    driver.ask(start("web", 2));
    driver.spawned(service("web", 3), 101);
    assert_eq!(driver.reaped(101, Exit::Code(3)).last().unwrap(), "spawn web.4");
}

#[test]
fn a_lease_is_for_the_generation_that_its_giver_knows() {
    let mut driver = up();
    assert_eq!(driver.ask(lease("web", 0, LeaseAfter::Any, &[0])), ["1> fail 4 stale"]);
    assert_eq!(driver.ask(lease("db", 0, LeaseAfter::Any, &[0])), ["1> fail 5 no-such-service"]);
    // The end of one that is down was told before: whoever heard it decides.
    driver.reaped(100, Exit::Code(1));
    assert_eq!(driver.ask(lease("web", 1, LeaseAfter::Any, &[0])), ["1> ok 6"]);
    assert_eq!(driver.state("web"), Some(RunState::Down));
    driver.ask(start("web", 1));
    driver.spawned(service("web", 2), 101);
    assert_eq!(driver.reaped(101, Exit::Code(1)).last().unwrap(), "spawn web.3");
}

#[test]
fn a_stop_ends_a_lease_and_the_start_it_made_pending() {
    let mut driver = up();
    driver.ask(lease("web", 1, LeaseAfter::Any, &[100, 100]));
    driver.reaped(100, Exit::Code(1));
    assert_eq!(driver.ask(stop("web", 1)), ["1> ok 5", "1> web 1 down pid 100 exit 1"]);
    assert_eq!(driver.until_timeout(), None);
    driver.ask(start("web", 1));
    driver.spawned(service("web", 2), 101);
    driver.reaped(101, Exit::Code(1));
    assert_eq!(driver.until_timeout(), None);
}

#[test]
fn what_changes_the_next_start_ends_a_lease_and_a_pending_start_of_it() {
    let text = || name("web");
    let changes = [
        arguments("web"),
        set("web", Attributes { place: Place::None, ..Attributes::default() }),
        Command::ServiceEnv { name: text(), environment: Default::default() },
        Command::ServiceLog { name: text(), log: Default::default() },
        Command::ServiceFds { name: text(), slots: Vec::new() },
        Command::ServiceCancel { name: text() },
        lease("web", 1, LeaseAfter::Any, &[]),
    ];
    for change in changes {
        let mut driver = up();
        driver.ask(lease("web", 1, LeaseAfter::Any, &[100, 100]));
        driver.reaped(100, Exit::Code(1));
        driver.ask(change.clone());
        assert_eq!(driver.state("web"), Some(RunState::Down), "{change:?}");
        assert_eq!(driver.until_timeout(), None, "{change:?}");
    }
    for other in [
        Command::ServiceTags { name: text(), tags: Vec::new() },
        Command::ServiceNote { name: text(), key: "k".to_owned(), value: b"v".to_vec() },
        auto_up("web", Some(1), true),
        ack("web", 1),
        lease("web", 1, LeaseAfter::Failure, &[7]),
    ] {
        let mut driver = up();
        driver.ask(lease("web", 1, LeaseAfter::Any, &[100, 100]));
        driver.reaped(100, Exit::Code(1));
        driver.ask(other.clone());
        assert_eq!(driver.until_timeout(), Some(ms(100)), "{other:?}");
    }
}

#[test]
fn a_dump_shows_what_is_left_and_the_ends_that_nobody_acknowledged() {
    let mut driver = up();
    driver.ask(lease("web", 1, LeaseAfter::Any, &[0, 0, 30]));
    for (generation, pid) in [(2, 101), (3, 102)] {
        driver.reaped(pid - 1, Exit::Code(9));
        driver.spawned(service("web", generation), pid);
    }
    let dump = |driver: &mut Driver| -> Vec<String> {
        let lines = driver.ask(Command::StateDump).into_iter();
        let told = |line: &String| line.contains("lease") || line.contains("ended");
        lines.filter(told).collect()
    };
    assert_eq!(
        dump(&mut driver),
        ["1> web 3 lease [30ms]", "1> web 1 ended Exit(Code(9))", "1> web 2 ended Exit(Code(9))"]
    );
    assert_eq!(driver.ask(ack("web", 1)), ["1> ok 6"]);
    assert_eq!(dump(&mut driver), ["1> web 3 lease [30ms]", "1> web 2 ended Exit(Code(9))"]);
    driver.reaped(102, Exit::Code(9));
    // The start is pending, and its delay is spent.
    assert_eq!(dump(&mut driver), ["1> web 2 ended Exit(Code(9))"]);
    driver.ask(ack("web", 3));
    assert_eq!(dump(&mut driver), [] as [&str; 0]);
    driver.pass(ms(30));
    assert_eq!(dump(&mut driver), [] as [&str; 0], "the end of 3 was acknowledged before");
}

#[test]
fn only_what_is_over_can_be_acknowledged() {
    let mut driver = up();
    assert_eq!(driver.ask(ack("db", 1)), ["1> fail 4 no-such-service"]);
    assert_eq!(driver.ask(ack("web", 2)), ["1> fail 5 stale"]);
    assert_eq!(driver.ask(ack("web", 1)), ["1> fail 6 running"]);
    driver.reaped(100, Exit::Code(0));
    assert_eq!(driver.ask(ack("web", 1)), ["1> ok 7"]);
    assert_eq!(driver.ask(ack("web", 0)), ["1> ok 8"], "again is once");
}

#[test]
fn a_leased_start_waits_for_room_for_its_end() {
    let mut driver = up_with_records();
    let delays = [0; 16];
    driver.ask(lease("web", 1, LeaseAfter::Any, &delays));
    for generation in 2..=16 {
        driver.reaped(98 + generation, Exit::Code(1));
        driver.spawned(service("web", generation.into()), 99 + generation);
    }
    let lines = driver.reaped(115, Exit::Code(1));
    assert_eq!(
        lines.last().unwrap(),
        "log warning: the start of service \"web\" waits: 16 of its ends are not acknowledged"
    );
    assert_eq!((driver.state("web"), driver.until_timeout()), (Some(RunState::Pending), None));
    driver.connect(OTHER);
    assert_eq!(
        driver.ask(ack("web", 1)),
        [
            "1> ok 5",
            "acknowledge web 1",
            "record web 17 invocation",
            "1> web 17 invocation",
            "3> web 17 invocation",
            "spawn web.17"
        ]
    );
}

#[test]
fn a_start_that_waits_for_room_can_be_stopped_or_commanded() {
    let full = || {
        let mut driver = up();
        driver.ask(lease("web", 1, LeaseAfter::Any, &[0; 16]));
        for generation in 2..=16 {
            driver.reaped(98 + generation, Exit::Code(1));
            driver.spawned(service("web", generation.into()), 99 + generation);
        }
        driver.reaped(115, Exit::Code(1));
        driver
    };
    let mut driver = full();
    driver.ask(stop("web", 16));
    assert_eq!(driver.ask(ack("web", 16)), ["1> ok 6"], "nothing is started any more");
    let mut driver = full();
    assert_eq!(driver.ask(start("web", 16)).last().unwrap(), "spawn web.17");
}

#[test]
fn a_start_by_command_or_by_itself_acknowledges() {
    let mut driver = up_with_records();
    driver.reaped(100, Exit::Code(1));
    assert_eq!(
        driver.ask(start("web", 1)),
        [
            "record web 2 invocation",
            "1> ok 4",
            "1> web 2 invocation",
            "spawn web.2",
            "acknowledge web 1"
        ],
        "a successor that finds no start knows the end"
    );
    driver.ask(auto_up("web", Some(1), true));
    driver.spawned(service("web", 2), 101);
    driver.reaped(101, Exit::Code(1));
    let lines = driver.pass(ms(1_000));
    assert!(lines.contains(&"acknowledge web 2".to_owned()), "{lines:?}");
}

#[test]
fn while_a_start_is_pending_the_last_end_stays_in_the_ledger() {
    let mut driver = up_with_records();
    driver.ask(lease("web", 1, LeaseAfter::Any, &[0, 40]));
    driver.reaped(100, Exit::Code(1));
    driver.spawned(service("web", 2), 101);
    driver.reaped(101, Exit::Code(1));
    assert_eq!(driver.ask(ack("web", 2)), ["1> ok 5", "acknowledge web 1"]);
    assert_eq!(
        driver.pass(ms(40)),
        ["record web 3 invocation", "1> web 3 invocation", "spawn web.3", "acknowledge web 2"]
    );
}

#[test]
fn ends_before_the_last_make_room_before_a_start_and_the_last_one_after_it() {
    let mut driver = up_with_records();
    driver.ask(lease("web", 1, LeaseAfter::Any, &[0]));
    driver.reaped(100, Exit::Code(1));
    driver.spawned(service("web", 2), 101);
    driver.reaped(101, Exit::Code(1));
    let lines = driver.ask(start("web", 2));
    assert_eq!(lines[3..], ["acknowledge web 1", "spawn web.3", "acknowledge web 2"], "{lines:?}");
}
