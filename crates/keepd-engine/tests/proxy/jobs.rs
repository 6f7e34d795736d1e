//! Behaviour 4: jobs.

use keepd_engine::proxy::{Input, JobId, Output, SpawnOutcome};
use keepd_model::protocol::{Attributes, Command, Request, RequestId};
use keepd_model::{Exit, Signal};

use crate::driver::*;

fn exec(text: &str, deadline_ms: u64) -> Command {
    Command::ServiceExec {
        name: name(text),
        deadline: ms(deadline_ms),
        arguments: vec![b"/bin/probe".to_vec()],
    }
}

fn output(number: u64, bytes: &[u8]) -> Input {
    Input::JobOutput { job: JobId(number), bytes: bytes.to_vec() }
}

/// Returns a machine with a service that is down and a job 1 with pid 200 (request 2).
fn with_job() -> Driver {
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    assert_eq!(driver.ask(exec("web", 1_000)), ["spawn job1 of web"]);
    assert_eq!(driver.spawned(job(1), 200), [""; 0]);
    assert_eq!(driver.executed(job(1)), [""; 0]);
    driver
}

#[test]
fn a_job_is_answered_when_its_group_is_empty() {
    // (behaviour 4.1, 4.3)
    let mut driver = with_job();
    driver.give(output(1, b"hel"));
    driver.give(output(1, b"lo"));
    assert_eq!(driver.reaped(200, Exit::Code(3)), ["KILL to group of job1", "watch job1"]);
    assert_eq!(driver.empty(job(1)), ["1> ok 2 exit 3 \"hello\""]);
    assert_eq!(driver.proxy.poll_timeout(), None);
    assert_eq!(driver.proxy.jobs().count(), 0);
}

#[test]
fn a_job_is_told_the_main_process_only_while_there_is_one() {
    // (behaviour 4.8)
    let main_pid = |driver: &mut Driver| {
        let request = Request::Numbered(RequestId(1_000), exec("web", 1_000));
        let outputs = driver.drive(Input::Request { connection: BOSS, request });
        let spawn = outputs.iter().find_map(|output| match output {
            Output::SpawnJob(spawn) => Some(spawn.main_pid),
            _ => None,
        });
        spawn.expect("a job is started")
    };
    let mut driver = Driver::with_service_up(Attributes::default());
    assert_eq!(main_pid(&mut driver), Some(pid(100)));
    driver.reaped(100, Exit::Code(0));
    assert_eq!(main_pid(&mut driver), None, "emptying");
    driver.empty(service("web", 1));
    assert_eq!(main_pid(&mut driver), None, "down");
    driver.ask(start("web", 1));
    assert_eq!(main_pid(&mut driver), None, "not cloned yet");
}

#[test]
fn only_the_first_bytes_of_output_are_kept() {
    // (behaviour 4.3)
    let mut driver = with_job();
    driver.give(output(1, &[b'a'; 4_000]));
    driver.give(output(1, &[b'b'; 4_000]));
    driver.give(output(1, b"c"));
    driver.reaped(200, Exit::Code(0));
    let lines = driver.empty(job(1));
    assert_eq!(lines[0].matches('a').count(), 4_000);
    assert_eq!(lines[0].matches('b').count(), 96);
    assert_eq!(lines[0].matches('c').count(), 0);
}

#[test]
fn a_job_is_killed_and_answered_at_its_deadline() {
    // (behaviour 4.5, 4.7)
    let mut driver = with_job();
    assert_eq!(driver.pass(ms(1_000)), ["1> fail 2 deadline", "KILL to group of job1"]);
    assert_eq!(driver.pass(ms(5_000)), ["KILL to group of job1"]);
    assert_eq!(
        driver.reaped(200, killed_by(Signal::KILL)),
        ["KILL to group of job1", "watch job1"]
    );
    assert_eq!(driver.pass(ms(5_000)), ["KILL to group of job1"]);
    assert_eq!(driver.empty(job(1)), [""; 0]);
    assert_eq!(driver.proxy.poll_timeout(), None);
}

#[test]
fn the_deadline_counts_for_what_a_job_left_behind() {
    // (behaviour 4.5)
    let mut driver = with_job();
    driver.pass(ms(600));
    driver.reaped(200, Exit::Code(0));
    assert_eq!(driver.pass(ms(400)), ["1> fail 2 deadline", "KILL to group of job1"]);
    assert_eq!(driver.empty(job(1)), [""; 0]);
}

#[test]
fn what_a_job_left_behind_is_killed_again_while_the_asker_waits() {
    // (behaviour 4.7)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    driver.ask(exec("web", 60_000));
    driver.spawned(job(1), 200);
    driver.reaped(200, Exit::Code(0));
    assert_eq!(driver.pass(ms(5_000)), ["KILL to group of job1"]);
    assert_eq!(driver.empty(job(1)), ["1> ok 2 exit 0 \"\""]);
}

#[test]
fn a_job_that_never_ran_says_why() {
    // (behaviour 4.4)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    driver.ask(exec("web", 1_000));
    assert_eq!(driver.not_spawned(job(1)), ["1> fail 2 spawn"]);
    driver.ask(exec("web", 1_000));
    driver.spawned(job(2), 200);
    driver.give(Input::Report { owner: job(2), outcome: SpawnOutcome::Failed(NO_FILE) });
    driver.reaped(200, Exit::Code(127));
    assert_eq!(driver.empty(job(2)), ["1> fail 3 spawn"]);
}

#[test]
fn a_job_whose_asker_is_gone_is_killed() {
    // (behaviour 4.6)
    let mut driver = with_job();
    driver.ask(exec("web", 1_000));
    assert_eq!(driver.give(Input::Disconnected { connection: BOSS }), ["KILL to group of job1"]);
    assert_eq!(driver.spawned(job(2), 201), ["KILL to group of job2"]);
    for (number, pid) in [(1, 200), (2, 201)] {
        driver.reaped(pid, killed_by(Signal::KILL));
        assert_eq!(driver.empty(job(number)), [""; 0]);
    }
    assert_eq!(driver.proxy.jobs().count(), 0);
}

#[test]
fn the_deadline_passes_even_if_the_shell_is_slow() {
    // (behaviour 4.5)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    driver.ask(exec("web", 1_000));
    assert_eq!(driver.pass(ms(2_000)), ["1> fail 2 deadline"]);
    assert_eq!(driver.spawned(job(1), 200), ["KILL to group of job1"]);
    driver.ask(exec("web", 1_000));
    driver.pass(ms(1_000));
    assert_eq!(driver.not_spawned(job(2)), [""; 0]);
    assert_eq!(driver.proxy.jobs().count(), 1);
}

#[test]
fn jobs_are_limited_and_refused_where_they_cannot_run() {
    // (behaviour 4.2, 4.1)
    let mut driver = Driver::with_boss();
    assert_eq!(driver.ask(exec("web", 1)), ["1> fail 1 no-such-service"]);
    for number in 0..17 {
        driver.ask(arguments(&format!("s{number}")));
    }
    let empty = Command::ServiceExec { name: name("s0"), deadline: ms(1), arguments: Vec::new() };
    assert_eq!(driver.ask(empty), ["1> fail 19 no-arguments"]);
    for number in 0..16 {
        for _ in 0..4 {
            assert_eq!(driver.ask(exec(&format!("s{number}"), 1_000)).len(), 1);
        }
        assert!(driver.ask(exec(&format!("s{number}"), 1_000))[0].ends_with("limit"));
    }
    assert!(driver.ask(exec("s16", 1_000))[0].ends_with("limit"));
    assert_eq!(driver.proxy.jobs().count(), 64);
}
