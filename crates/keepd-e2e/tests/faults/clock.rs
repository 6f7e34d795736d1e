//! The wall clock is set (row 13): an hour back, a day on, and right again. Nothing that is decided
//! depends on it. (behaviour 8.4, 3.4)
//!
//! Nobody may set the clock of the machine for that: every process of the project is shown another
//! one, by `clock.c`.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use keepd_testkit::control::{ControlWatch, recovers};
use keepd_testkit::{LONG, Project, Scratch, figures, find_program, skip};

use crate::instance::{RECOVERY_MAX, TALKING, identities, services};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/clock.c");
const HOUR: i64 = 3600;
const NANOSECONDS: i64 = 1_000_000_000;

/// A clock that every process of a project is shown.
struct ShownClock {
    /// Keeps the library and the file with the difference.
    scratch: Scratch,
}

impl ShownClock {
    /// Makes the library; says aloud where there is no compiler, or another processor.
    fn new(project: &mut Project) -> Option<Self> {
        if !cfg!(target_arch = "x86_64") {
            skip("steps of the wall clock: they are made on x86-64 only");
            return None;
        }
        let Some(compiler) = find_program("cc") else {
            skip("steps of the wall clock: there is no C compiler");
            return None;
        };
        let scratch = Scratch::new();
        let library = scratch.path().join("clock.so");
        let made = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", SOURCE, "-o"])
            .arg(&library)
            .output()
            .expect("the compiler can be started");
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr);
            skip(&format!("steps of the wall clock: clock.c cannot be compiled: {why}"));
            return None;
        }
        let clock = Self { scratch };
        clock.set(0);
        let path = |name: &str| clock.scratch.path().join(name).display().to_string();
        project.set_variable("LD_PRELOAD", &path("clock.so"));
        project.set_variable("KEEPD_TEST_CLOCK", &path("difference"));
        Some(clock)
    }

    /// Sets the clock so many seconds before or after the real one.
    fn set(&self, seconds: i64) {
        use std::os::unix::fs::FileExt as _;
        let path = self.scratch.path().join("difference");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let bytes = (seconds * NANOSECONDS).to_ne_bytes();
        file.and_then(|file| file.write_all_at(&bytes, 0)).expect("the file is ours");
    }
}

/// The seconds of the wall clock as keepd shows it: those of the time zone's day are enough.
fn shown_now(project: &Project) -> String {
    let service = project.service("s0");
    service["since"].as_str().expect("a state has a beginning").to_owned()
}

#[test]
fn steps_of_the_wall_clock_decide_nothing() {
    const FAULT: &str = "the wall clock is set";
    let crashing = "[services.crashing]\ncommand = \"${TEST_SERVICE} --exit 0 3\"\n\
                    backoff_initial = \"100ms\"\nbackoff_max = \"100ms\"\nbackoff_jitter = 0.0\n";
    let stubborn = "[services.stubborn]\ncommand = \"${TEST_SERVICE} --ready 0 --ignore-term\"\n\
                    ready.notify = true\nstop_timeout = \"300ms\"\n";
    let mut project = Project::new(&(services(0..3, TALKING) + crashing + stubborn));
    let Some(clock) = ShownClock::new(&mut project) else { return };
    let _up = project.up();
    for name in ["s0", "s1", "s2", "stubborn"] {
        project.wait_for_state(name, "ready");
    }
    let before = identities(&project.services());
    let watch = ControlWatch::start(&project);
    let events = project.events();
    let mut shown = Vec::new();
    for seconds in [-HOUR, 24 * HOUR, 0, -24 * HOUR, HOUR, 0] {
        clock.set(seconds);
        let step = Instant::now();
        // Somebody who crashes goes on to be restarted, neither sooner nor later.
        let count = events.of("start", "crashing").len();
        events.wait_for("start", "crashing", count + 3, LONG);
        let starts = &events.of("start", "crashing")[count..];
        let ends = &events.of("end", "crashing")[count..];
        for (end, start) in ends.iter().zip(&starts[1..]) {
            let gap = Duration::from_nanos(start.nanoseconds - end.nanoseconds);
            assert!(gap >= Duration::from_millis(100), "{seconds} s: started after {gap:?}");
        }
        // A stop has its time, and no more.
        project.keepd(["restart", "stubborn"]).expect_code(0);
        project.keepd(["restart", "s0"]).expect_code(0);
        recovers(&format!("{FAULT} by {seconds} s"), RECOVERY_MAX * 2, step, || Some(()));
        // How long something has been there is known.
        for service in project.services() {
            let uptime = service["uptime_s"].as_f64().unwrap_or(0.0);
            assert!((0.0..120.0).contains(&uptime), "{seconds} s: {service}");
        }
        shown.push(shown_now(&project));
        let logs = project.keepd(["logs", "s1", "-n", "3"]).expect_code(0).stdout;
        assert_eq!(logs.lines().count(), 3, "{logs}");
    }
    watch.finish(FAULT);
    // The clock was really another one.
    let days: std::collections::BTreeSet<&str> = shown.iter().map(|time| &time[..10]).collect();
    assert!(days.len() >= 3, "the clock was not set: {shown:?}");
    figures::note(FAULT, "clocks shown", &shown.join(" "));
    let after = identities(&project.services());
    for name in ["s1", "s2"] {
        assert_eq!(after[name], before[name]);
    }
    // Every line is found, whatever its time says.
    let chatter = |text: &str| text.lines().filter(|line| line.contains("chatter")).count();
    project.keepd(["stop", "s1"]).expect_code(0);
    let whole = String::from_utf8_lossy(&project.out_log("s1")).into_owned();
    let logs = project.keepd(["logs", "s1", "-n", "all"]).expect_code(0).stdout;
    assert_eq!(chatter(&logs), chatter(&whole));
    events.check();
}
