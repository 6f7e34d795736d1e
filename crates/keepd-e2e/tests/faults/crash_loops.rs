//! Two hundred services that end at once, for ever (row 12): each is restarted later and later, all
//! of them alike, and whoever asks is answered at once. (behaviour 8.4)

use std::time::{Duration, Instant};

use keepd_testkit::control::ControlWatch;
use keepd_testkit::{LONG, Project, cpu_ticks, figures};

use crate::instance::{identities, manager_pid, proxy_pid, services};

const LOOPS: usize = 200;

/// So many ends take 0.2 + 0.4 + 0.8 + 1.6 s of delays.
const STARTS: u64 = 5;

#[test]
fn two_hundred_crash_loops_are_fair_and_cheap() {
    const FAULT: &str = "200 crash loops";
    let keys = "command = \"false\"\nbackoff_initial = \"200ms\"\nbackoff_max = \"1h\"\n\
                backoff_jitter = 0.0\n";
    let good = "[services.good]\ncommand = \"${TEST_SERVICE} --ready 0\"\nready.notify = true\n";
    let project = Project::new(&(services(0..LOOPS, keys) + good));
    let begun = Instant::now();
    let _up = project.up();
    project.wait_for_state("good", "ready");
    let good = identities(&project.services())["good"];
    let watch = ControlWatch::start(&project);
    let own = [proxy_pid(&project), manager_pid(&project)];
    let generations = project.wait_for("five starts of each", LONG, |services| {
        let loops = services.iter().filter(|service| service["name"] != "good");
        let generations: Vec<u64> =
            loops.filter_map(|service| service["generation"].as_u64()).collect();
        generations.iter().all(|generation| *generation >= STARTS).then_some(generations)
    });
    let elapsed = begun.elapsed();
    let used: u64 = own.map(cpu_ticks).iter().sum();
    let used = Duration::from_millis(10) * u32::try_from(used).unwrap();
    watch.finish(FAULT);
    let total: u64 = generations.iter().sum();
    let (least, most) = (generations.iter().min().unwrap(), generations.iter().max().unwrap());
    figures::note(
        FAULT,
        "starts",
        &format!(
            "{total} in {elapsed:.1?}, {least} to {most} of each; proxy and manager used {used:.1?}"
        ),
    );
    // The sixth start is 3.2 s after the fifth: nobody can have had it while another waits for its
    // fifth, if all are treated alike.
    assert!(most - least <= 1, "{least} to {most} starts");
    assert_eq!(identities(&project.services())["good"], good, "who is well notices nothing");
}

#[test]
fn each_delay_is_at_least_what_it_has_to_be() {
    let keys = "command = \"${TEST_SERVICE} --exit 0 3\"\nbackoff_initial = \"100ms\"\n\
                backoff_max = \"400ms\"\nbackoff_jitter = 0.0\n";
    let project = Project::new(&services(0..20, keys));
    let _up = project.up();
    let events = project.events();
    for number in 0..20 {
        let name = format!("s{number}");
        events.wait_for("start", &name, 6, LONG);
        let ends = events.of("end", &name);
        let starts = events.of("start", &name);
        for (number, (end, start)) in ends.iter().zip(&starts[1..]).enumerate().take(5) {
            let gap = Duration::from_nanos(start.nanoseconds - end.nanoseconds);
            let delay = Duration::from_millis(400.min(100 << number));
            assert!(gap >= delay, "{name}: start {} came after {gap:?}", number + 2);
        }
    }
    events.check();
}
