//! `logs`: from files, so that it works without a manager.

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, signal};

const CONFIGURATION: &str = r#"
[services.a]
command = "${TEST_SERVICE} --ready 0 --lines 30"
ready.notify = true
[services.b]
command = "${TEST_SERVICE} --ready 0 --print first --print-err oops"
ready.notify = true
depends_on = ["a"]
[services.c]
command = "${TEST_SERVICE} --ready 0 --chatter 50"
ready.notify = true
depends_on = ["b"]
"#;

#[test]
fn lines_of_several_services_come_in_the_order_of_time() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    let logs = project.keepd(["logs", "a", "b"]).expect_code(0).stdout;
    let lines: Vec<&str> = logs.lines().collect();
    assert_eq!(lines.len(), 32, "{logs}");
    assert!(lines[0].ends_with(" a | line 1"), "{logs}");
    assert!(lines[29].ends_with(" a | line 30"), "{logs}");
    let rest: Vec<&str> = lines[30..].iter().map(|line| &line[line.find(' ').unwrap()..]).collect();
    assert!(rest.contains(&" b | first"), "{logs}");
    assert!(rest.contains(&" b ! oops"), "{logs}");
    // Times are RFC 3339 with milliseconds, and do not go back.
    let times: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(times.iter().all(|time| time.len() == 24 && time.ends_with('Z')), "{logs}");
    assert!(times.is_sorted(), "{logs}");

    let few = project.keepd(["logs", "-n", "2", "a"]).expect_code(0).stdout;
    let few: Vec<&str> = few.lines().collect();
    assert_eq!(few.len(), 2);
    assert!(few[0].ends_with("line 29") && few[1].ends_with("line 30"), "{few:?}");
    let object = project.keepd(["logs", "-n", "1", "a", "-o", "json"]).expect_code(0).json();
    assert_eq!(object["service"], "a");
    assert_eq!(object["stream"], "out");
    assert_eq!(object["message"], "line 30");
    assert_eq!(object["generation"], 1);
    project.keepd(["logs", "nobody"]).expect_code(4);

    // The files stay.
    up.signal(Signal::QUIT);
    let _ = up.wait();
    let after = project.keepd(["logs", "a"]).expect_code(0).stdout;
    assert_eq!(after.lines().count(), 30, "{after}");
}

#[test]
fn following_goes_on_while_the_manager_does_nothing() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let manager = project.api().get("/v1/version").unwrap().json()["pid"].clone();
    let manager = u32::try_from(manager.as_u64().unwrap()).unwrap();
    // SIGSTOP: there, and deaf.
    assert!(signal(manager, Signal::new(19).unwrap()));

    let stored = project.keepd(["logs", "b"]).expect_code(0).stdout;
    assert_eq!(stored.lines().count(), 2, "{stored}");

    let mut follower = project.start_keepd(["logs", "-f", "c"]);
    let output = follower.stdout();
    let number = |line: &str| line.rsplit(' ').next().and_then(|last| last.parse::<u32>().ok());
    let first = output.wait_for_line("a line", LONG, |line| line.contains(" c | chatter "));
    let first = number(&first).unwrap();
    output.wait_for_line("a later line", LONG, |line| {
        line.contains(" c | chatter ") && number(line).is_some_and(|now| now >= first + 5)
    });
    assert!(follower.is_running());
    assert!(signal(manager, Signal::CONT));
    follower.signal(Signal::INT);
    let followed = follower.wait();
    let numbers: Vec<u32> = followed.stdout.lines().filter_map(number).collect();
    let expected: Vec<u32> = (numbers[0]..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "every line once, in order");
}
