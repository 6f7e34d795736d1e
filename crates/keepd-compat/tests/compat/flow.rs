//! Clients that do not read: back-pressure, overflow, time limits, and dumps in pieces.

use keepd_compat::Client;
use keepd_model::LogLevel;

use crate::driver::{BOSS, Driver, FILE, OTHER, seconds};

/// Makes services until the dump is many times the buffer.
fn with_many_services(count: usize) -> Driver {
    let mut driver = Driver::new();
    driver.connect(FILE, Client::Configuration);
    for number in 0..count {
        driver.send(FILE, &format!("service.args⇥s{number:04}⇥{}", "x".repeat(100)));
        driver.heard(BOSS);
    }
    driver
}

/// News of about a kilobyte.
fn news(driver: &mut Driver, number: usize) {
    driver.send(OTHER, &format!("service.tags⇥x⇥{number}{}", "y".repeat(980)));
    driver.heard(OTHER);
}

#[test]
fn who_sends_without_reading_is_not_served_further() {
    let mut driver = Driver::new();
    let commands: Vec<String> = (0..2_000).map(|number| format!("echo⇥answer {number}")).collect();
    driver.send(BOSS, &commands.join("\n"));
    let waiting = driver.front.output(BOSS).len();
    assert!((8_193..8_300).contains(&waiting), "{waiting}");
    assert!(!driver.front.is_ready(BOSS));
    let answers = driver.heard(BOSS);
    assert_eq!(answers.lines().count(), 2_000);
    assert!(!answers.contains("overflow"), "no answer is lost");
    assert_eq!(answers.lines().last(), Some("answer 1999"));
}

#[test]
fn news_that_does_not_fit_ends_in_overflow() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::Both);
    for number in 0..40 {
        news(&mut driver, number);
    }
    let waiting = driver.front.output(BOSS).len();
    assert!((15_000..=16_384).contains(&waiting), "{waiting}");
    // Overflowed, so its commands go on, and nobody hears the answers.
    driver.send(BOSS, "echo⇥lost");
    let heard = driver.heard(BOSS);
    let lines: Vec<&str> = heard.lines().collect();
    assert_eq!(lines.last(), Some(&"overflow"));
    assert!(!heard.contains("lost"));
    assert!(lines[..lines.len() - 1].iter().all(|line| line.starts_with("service.tags⇥x⇥")));
    assert_eq!(heard.matches("overflow").count(), 1);
    news(&mut driver, 99);
    assert!(driver.heard(BOSS).starts_with("service.tags⇥x⇥99"));
    assert_eq!(driver.say(BOSS, "echo⇥again"), "again\n");
}

#[test]
fn a_dump_is_complete_before_the_next_command() {
    let mut driver = with_many_services(500);
    driver.send(BOSS, "statedump\necho⇥marker");
    assert!(driver.front.output(BOSS).len() < 10_000, "it is made in pieces");
    let dump = driver.heard(BOSS);
    assert_eq!(dump.lines().last(), Some("marker"));
    let states = dump.lines().filter(|line| line.starts_with("service.state⇥"));
    let names: Vec<&str> = states.map(|line| line.split('⇥').nth(1).unwrap()).collect();
    assert_eq!(names.len(), 500);
    assert!(names.is_sorted());
}

#[test]
fn news_comes_between_the_pieces_of_a_dump() {
    let mut driver = with_many_services(500);
    driver.send(BOSS, "statedump");
    driver.send(FILE, "service.tags⇥zz⇥late");
    let dump = driver.heard(BOSS);
    let lines: Vec<&str> = dump.lines().collect();
    let news = lines.iter().position(|line| *line == "service.tags⇥zz⇥late").unwrap();
    assert!(news < lines.len() - 10, "the news did not wait for the end");
    assert_eq!(lines[lines.len() - 5], "service.state⇥zz⇥down⇥-⇥-⇥-⇥-⇥-⇥-");
    assert!(!dump.contains("overflow"));
}

#[test]
fn overflow_ends_a_dump() {
    let mut driver = with_many_services(500);
    driver.connect(OTHER, Client::Both);
    driver.send(BOSS, "statedump\necho⇥lost");
    for number in 0..20 {
        news(&mut driver, number);
    }
    let heard = driver.heard(BOSS);
    assert_eq!(heard.lines().last(), Some("overflow"));
    let repeated = driver.say(BOSS, "statedump\necho⇥whole");
    assert_eq!(repeated.lines().filter(|line| line.starts_with("service.state⇥")).count(), 501);
}

#[test]
fn a_stalled_client_is_warned_of_then_closed() {
    let mut driver = Driver::new();
    driver.send(BOSS, "echo⇥x");
    driver.blocked(BOSS);
    driver.pass(seconds(14));
    assert_eq!(driver.log, []);
    driver.pass(seconds(1));
    assert_eq!(driver.logged(LogLevel::Warning).len(), 1);
    driver.blocked(BOSS);
    driver.pass(seconds(14));
    assert!(driver.closed.is_empty());
    driver.pass(seconds(1));
    assert!(driver.closed.contains(&BOSS));
    assert!(driver.front.output(BOSS).is_empty());
    assert_eq!(driver.logged(LogLevel::Error).len(), 1);
    assert_eq!(driver.front.poll_timeout(), None);
}

#[test]
fn a_write_that_succeeds_stops_the_clock() {
    let mut driver = Driver::new();
    driver.send(BOSS, "echo⇥abc");
    driver.blocked(BOSS);
    driver.pass(seconds(14));
    driver.front.written(driver.now, &driver.core, BOSS, 1);
    assert_eq!(driver.front.poll_timeout(), None);
    driver.blocked(BOSS);
    driver.pass(seconds(14));
    assert_eq!(driver.log, []);
}

#[test]
fn after_the_reset_a_full_queue_of_commands_goes_on() {
    let mut driver = Driver::new();
    driver.send(BOSS, "conn.event_timeout⇥2⇥60");
    let commands: Vec<String> = (0..1_000).map(|number| format!("echo⇥answer {number}")).collect();
    driver.send(BOSS, &(commands.join("\n") + "\nservice.tags⇥reached⇥x"));
    driver.front.set_input_full(BOSS, true);
    driver.blocked(BOSS);
    assert_eq!(driver.services(), [""; 0]);
    driver.pass(seconds(2));
    assert_eq!(driver.services(), ["reached"]);
    let heard = driver.heard(BOSS);
    assert_eq!(heard.lines().last(), Some("overflow"));
    assert!(heard.lines().count() < 800, "the answers after the reset are lost");
}

#[test]
fn a_queue_that_fills_after_the_reset_goes_on_too() {
    let mut driver = Driver::new();
    driver.send(BOSS, "conn.event_timeout⇥0⇥60");
    driver.send(BOSS, &["echo⇥xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"; 300].join("\n"));
    driver.blocked(BOSS);
    driver.pass(seconds(0));
    assert_eq!(driver.logged(LogLevel::Warning).len(), 1);
    assert!(!driver.front.is_ready(BOSS));
    driver.front.set_input_full(BOSS, true);
    assert!(driver.front.is_ready(BOSS));
}

#[test]
fn a_client_without_hearing_still_commands() {
    let mut driver = Driver::new();
    driver.send(BOSS, "echo⇥x");
    driver.front.output_lost(BOSS);
    assert_eq!(driver.say(BOSS, "echo⇥y\nstatedump\nservice.tags⇥made⇥x"), "");
    assert_eq!(driver.services(), ["made"]);
}

#[test]
fn who_half_closes_gets_all_answers() {
    let mut driver = Driver::new();
    let commands: Vec<String> = (0..100).map(|number| format!("echo⇥answer {number}")).collect();
    driver.send(BOSS, &commands.join("\n"));
    let answers = driver.heard(BOSS);
    driver.end(BOSS, "");
    assert_eq!(answers.lines().count(), 100);
    assert!(driver.closed.contains(&BOSS));
}

#[test]
fn a_client_that_left_hears_nothing_more() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::Both);
    driver.send(BOSS, "echo⇥last\nexit\nservice.tags⇥never⇥x");
    news(&mut driver, 1);
    let line = keepd_wire::Line::Complete(b"service.tags\tnever\tx".to_vec());
    driver.front.handle_line(driver.now, &driver.core, BOSS, &line);
    driver.settle();
    assert_eq!(driver.heard(BOSS), "last\n");
    assert_eq!(driver.services(), ["x"]);
}
