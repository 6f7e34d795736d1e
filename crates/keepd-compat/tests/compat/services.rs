//! The life of a service as plain clients hear it.

use keepd_compat::Client;
use keepd_engine::proxy::{Input, SpawnOutcome};
use keepd_model::protocol::{Attributes, Command, Event, Message, Place, SessionPlace};
use keepd_model::{Errno, Exit, Generation, ServiceName, Signal, SpawnFailure, SpawnStep};

use crate::driver::{BOSS, Driver, FRONT_RETRY, MANAGER, OTHER, seconds};

fn up_service(driver: &mut Driver) {
    driver.say(BOSS, "service.args⇥x⇥prog\nservice.start⇥x");
}

#[test]
fn a_service_has_what_daemonproxy_gives_its_services() {
    let mut driver = Driver::new();
    driver.connect_manager();
    driver.messages.clear();
    up_service(&mut driver);
    let attributes = &driver.spawns[0].0.attributes;
    let expected = Attributes {
        umask: 0o077,
        session: SessionPlace::Inherit,
        place: Place::None,
        marks: false,
        retry: Some(FRONT_RETRY),
        ..Attributes::default()
    };
    assert_eq!(**attributes, expected);
    assert_eq!(driver.spawns[0].0.descriptors, None);
    // An extended connection hears of all of it.
    let is_set = |message: &Message| matches!(message, Message::Event(Event::Set(..)));
    assert_eq!(driver.messages.iter().filter(|message| is_set(message)).count(), 1);
    assert_eq!(driver.say(BOSS, "service.tags⇥x⇥y"), "service.tags⇥x⇥y\n");
    assert_eq!(driver.messages.iter().filter(|message| is_set(message)).count(), 1);
}

#[test]
fn setters_are_told_to_everybody_as_they_came() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::Both);
    let cases = [
        ("service.args⇥x⇥a⇥⇥b⇥", "service.args⇥x⇥a⇥⇥b⇥\n"),
        ("service.args⇥x", "service.args⇥x⇥\n"),
        ("service.args⇥x⇥", "service.args⇥x⇥\n"),
        ("service.tags⇥x⇥a=b", "service.tags⇥x⇥a=b\n"),
        ("service.tags⇥x", "service.tags⇥x⇥\n"),
        ("service.fds⇥x⇥-⇥null⇥⇥null", "service.fds⇥x⇥-⇥null⇥⇥null\n"),
        ("service.fds⇥x", "service.fds⇥x⇥\n"),
        ("service.auto_up⇥x⇥5⇥SIGUSR1⇥HUP", "service.auto_up⇥x⇥5⇥SIGUSR1⇥HUP\n"),
        ("service.auto_up⇥x⇥-", "service.auto_up⇥x⇥-\n"),
        ("service.auto_up⇥x⇥-⇥USR2", "service.auto_up⇥x⇥5⇥USR2\n"),
        ("service.auto_up⇥x⇥7", "service.auto_up⇥x⇥-\n"),
        ("service.auto_up⇥x⇥-⇥USR2", "service.auto_up⇥x⇥7⇥USR2\n"),
    ];
    for (command, expected) in cases {
        assert_eq!(driver.say(BOSS, command), expected, "{command}");
        assert_eq!(driver.heard(OTHER), expected, "{command}");
    }
}

#[test]
fn an_unset_service_is_dumped_with_the_documented_marks() {
    let mut driver = Driver::new();
    driver.say(BOSS, "service.tags⇥x");
    let expected = "\
service.state⇥x⇥down⇥-⇥-⇥-⇥-⇥-⇥-
service.tags⇥x⇥
service.args⇥x⇥
service.fds⇥x⇥null⇥null⇥null
service.auto_up⇥x⇥-
";
    assert_eq!(driver.dumped("service."), expected);
    driver.say(BOSS, "service.fds⇥x");
    assert_eq!(driver.dumped("service.fds"), "service.fds⇥x⇥\n");
}

#[test]
fn a_start_can_be_put_off_and_taken_back() {
    let mut driver = Driver::new();
    driver.say(BOSS, "service.args⇥x⇥prog");
    let start = |time| format!("service.state⇥x⇥start⇥{time}⇥-⇥-⇥-⇥-⇥-\n");
    assert_eq!(driver.say(BOSS, "service.start⇥x⇥1190"), start(1190));
    assert_eq!(driver.say(BOSS, "service.start⇥x⇥1191"), start(1191));
    assert_eq!(driver.say(BOSS, "service.start⇥x⇥1191"), start(1191));
    assert_eq!(driver.dumped("service.state"), start(1191));
    let down = "service.state⇥x⇥down⇥-⇥-⇥-⇥-⇥-⇥-\n";
    assert_eq!(driver.say(BOSS, "service.start⇥x⇥-"), down);
    driver.say(BOSS, "service.start⇥x⇥1190");
    driver.pass(seconds(8));
    assert_eq!(driver.heard(BOSS), "service.state⇥x⇥up⇥1190⇥16788⇥-⇥-⇥0⇥-\n");
}

#[test]
fn a_cancelled_start_forgets_the_last_exit() {
    let mut driver = Driver::new();
    up_service(&mut driver);
    driver.reap(driver.last_pid(), Exit::Code(7));
    driver.say(BOSS, "service.start⇥x⇥1190");
    let down = "service.state⇥x⇥down⇥-⇥-⇥-⇥-⇥-⇥-\n";
    assert_eq!(driver.say(BOSS, "service.start⇥x⇥-"), down);
    assert_eq!(driver.dumped("service.state"), down);
    let deleted = "service.state⇥x⇥deleted⇥-⇥-⇥-⇥-⇥-⇥-\n";
    assert_eq!(driver.say(BOSS, "service.delete⇥x"), deleted);
}

#[test]
fn up_is_told_once_however_far_the_start_got() {
    let mut driver = Driver::new();
    up_service(&mut driver);
    driver.report(SpawnOutcome::Executed);
    assert_eq!(driver.heard(BOSS), "");
    let up = "service.state⇥x⇥up⇥1182⇥16788⇥-⇥-⇥0⇥-\n";
    assert_eq!(driver.dumped("service.state"), up);
}

#[test]
fn times_are_cut_and_durations_are_exact() {
    let mut driver = Driver::new();
    up_service(&mut driver);
    // From 1,182.9 to 1,188.8 seconds it is less than six.
    driver.pass(std::time::Duration::from_millis(5_900));
    driver.reap(driver.last_pid(), Exit::Code(255));
    assert_eq!(driver.heard(BOSS), "service.state⇥x⇥down⇥1188⇥16788⇥exit⇥255⇥5⇥0\n");
    driver.pass(std::time::Duration::from_millis(1_200));
    let down = "service.state⇥x⇥down⇥1188⇥16788⇥exit⇥255⇥5⇥1\n";
    assert_eq!(driver.dumped("service.state"), down);
}

#[test]
fn a_program_that_cannot_be_executed_exits_with_3() {
    let mut driver = Driver::new();
    up_service(&mut driver);
    let failure = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
    driver.report(SpawnOutcome::Failed(failure));
    driver.reap(driver.last_pid(), Exit::Code(127));
    assert_eq!(driver.heard(BOSS), "service.state⇥x⇥down⇥1182⇥16788⇥exit⇥3⇥0⇥0\n");
}

#[test]
fn a_failed_clone_is_a_start_at_another_time() {
    let mut driver = Driver::new();
    driver.say(BOSS, "service.args⇥x⇥prog");
    driver.cannot_clone = true;
    let start = |time| format!("service.state⇥x⇥start⇥{time}⇥-⇥-⇥-⇥-⇥-\n");
    assert_eq!(driver.say(BOSS, "service.start⇥x"), start(1182) + &start(1185));
    driver.pass(seconds(3));
    assert_eq!(driver.heard(BOSS), start(1188));
    driver.cannot_clone = false;
    driver.pass(seconds(3));
    assert_eq!(driver.heard(BOSS), "service.state⇥x⇥up⇥1188⇥16788⇥-⇥-⇥0⇥-\n");
}

#[test]
fn auto_up_starts_again_and_tells_each_start_once() {
    let mut driver = Driver::new();
    driver.say(BOSS, "service.args⇥x⇥prog\nservice.auto_up⇥x⇥5⇥always");
    driver.pass(seconds(1));
    driver.reap(driver.last_pid(), Exit::Code(0));
    let expected = "\
service.state⇥x⇥down⇥1183⇥16788⇥exit⇥0⇥1⇥0
service.state⇥x⇥start⇥1187⇥-⇥-⇥-⇥-⇥-
";
    assert_eq!(driver.heard(BOSS), expected);
    driver.pass(seconds(4));
    assert_eq!(driver.heard(BOSS), "service.state⇥x⇥up⇥1187⇥16789⇥-⇥-⇥0⇥-\n");
    driver.pass(seconds(6));
    driver.reap(driver.last_pid(), Exit::Code(0));
    let expected = "\
service.state⇥x⇥down⇥1193⇥16789⇥exit⇥0⇥6⇥0
service.state⇥x⇥start⇥1193⇥-⇥-⇥-⇥-⇥-
service.state⇥x⇥up⇥1193⇥16790⇥-⇥-⇥0⇥-
";
    assert_eq!(driver.heard(BOSS), expected);
}

#[test]
fn a_trigger_that_holds_starts_before_it_is_told() {
    let mut driver = Driver::new();
    driver.say(BOSS, "service.args⇥x⇥prog");
    driver.signal(Signal::HUP, 1);
    driver.heard(BOSS);
    let told = driver.say(BOSS, "service.auto_up⇥x⇥5⇥SIGHUP");
    let expected = "\
service.state⇥x⇥start⇥1182⇥-⇥-⇥-⇥-⇥-
service.auto_up⇥x⇥5⇥SIGHUP
service.state⇥x⇥up⇥1182⇥16788⇥-⇥-⇥0⇥-
";
    assert_eq!(told, expected);
}

#[test]
fn a_signal_starts_who_waits_for_it() {
    let mut driver = Driver::new();
    driver.say(BOSS, "service.args⇥x⇥prog\nservice.auto_up⇥x⇥5⇥SIGUSR1");
    driver.signal(Signal::USR1, 3);
    let heard = driver.heard(BOSS);
    let expected = "\
signal⇥SIGUSR1⇥1182⇥3
service.state⇥x⇥start⇥1182⇥-⇥-⇥-⇥-⇥-
service.state⇥x⇥up⇥1182⇥16788⇥-⇥-⇥0⇥-
";
    assert_eq!(heard, expected);
    assert_eq!(driver.dumped("signal"), "signal⇥SIGUSR1⇥1182⇥3\n");
    driver.say(BOSS, "signal.clear⇥SIGUSR1⇥5");
    assert_eq!(driver.dumped("signal"), "");
}

#[test]
fn a_real_time_signal_has_no_name() {
    let mut driver = Driver::new();
    up_service(&mut driver);
    let signal = Signal::new(40).unwrap();
    driver.reap(driver.last_pid(), Exit::Signal { signal, core: false });
    let down = "service.state⇥x⇥down⇥1182⇥16788⇥signal⇥SIG-?⇥0⇥0\n";
    assert_eq!(driver.heard(BOSS), down);
}

#[test]
fn what_extended_connections_do_is_told_in_the_old_words() {
    let mut driver = Driver::new();
    driver.connect_manager();
    let name = |text: &str| ServiceName::new_internal(text).unwrap();
    let args = |text: &str, argument: &str| Command::ServiceArgs {
        name: name(text),
        arguments: vec![argument.as_bytes().to_vec()],
    };
    driver.manager_asks(1, args("web", "httpd"));
    driver.manager_asks(2, args("web@blue", "httpd"));
    driver.manager_asks(3, args("keepd.manager", "keepd"));
    driver.manager_asks(4, args("tab", "a\tb"));
    driver.manager_asks(5, args("forger", "a\nservice.args\tweb\tevil"));
    driver.manager_asks(6, args("long", &"x".repeat(5_000)));
    assert_eq!(driver.heard(BOSS), "service.args⇥web⇥httpd\n");
    let start =
        Command::ServiceStart { name: name("web"), expected: Some(Generation::NONE), at: None };
    driver.manager_asks(7, start);
    let expected = "\
service.state⇥web⇥start⇥1182⇥-⇥-⇥-⇥-⇥-
service.state⇥web⇥up⇥1182⇥16788⇥-⇥-⇥0⇥-
";
    assert_eq!(driver.heard(BOSS), expected);
    assert_eq!(driver.dumped("service.args"), "service.args⇥web⇥httpd\n");
    let states = driver.dumped("service.state");
    let names: Vec<&str> = states.lines().map(|line| line.split('⇥').nth(1).unwrap()).collect();
    assert_eq!(names, ["forger", "long", "tab", "web"]);
    driver.give(Input::Disconnected { connection: MANAGER });
}

#[test]
fn a_service_with_anything_left_is_up_in_a_dump() {
    let mut driver = Driver::new();
    driver.connect_manager();
    let name = ServiceName::new("web").unwrap();
    let arguments = vec![b"httpd".to_vec()];
    driver.manager_asks(1, Command::ServiceArgs { name: name.clone(), arguments });
    driver.manager_asks(2, Command::ServiceStart { name, expected: None, at: None });
    driver.heard(BOSS);
    // Its main process ends, and others of its group are still there.
    driver.reap(driver.last_pid(), Exit::Code(0));
    assert_eq!(driver.heard(BOSS), "");
    let up = "service.state⇥web⇥up⇥1182⇥16788⇥-⇥-⇥0⇥-\n";
    assert_eq!(driver.dumped("service.state"), up);
}

#[test]
fn a_refused_value_makes_its_service_but_a_refused_interval_does_not() {
    let mut driver = Driver::new();
    driver.say(BOSS, "service.fds⇥made⇥a/b\nservice.auto_up⇥not.made⇥0⇥always");
    driver.say(BOSS, "service.auto_up⇥not.made⇥5⇥often");
    assert_eq!(driver.services(), ["made"]);
    // Nothing of a refused setting sticks.
    driver.say(BOSS, "service.auto_up⇥made⇥3⇥USR1\nservice.auto_up⇥made⇥9⇥often");
    assert_eq!(driver.dumped("service.auto_up"), "service.auto_up⇥made⇥3⇥USR1\n");
}
