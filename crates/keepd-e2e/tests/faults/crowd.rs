//! A crowd of services: started, asked and stopped. KEEPD_TEST_CROWD says how many.

use std::time::Instant;

use keepd_testkit::control::ControlWatch;
use keepd_testkit::{LONG, Project, figures};

use crate::instance::services;

const CROWD: usize = 1_000;

fn size() -> usize {
    let text = std::env::var("KEEPD_TEST_CROWD").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(CROWD)
}

#[test]
fn a_crowd_of_services_starts_answers_and_stops() {
    let size = size();
    let fault = format!("{size} services");
    let limit = LONG * u32::try_from(1 + size / 500).unwrap();
    // Logs would need six descriptors for each; who may have 20,000 has not that many.
    let keys = "command = \"sleep 1000000\"\nready.delay = \"0s\"\nlog.mode = \"null\"\n";
    let project = Project::new(&services(0..size, keys));
    let begun = Instant::now();
    let up = project.up();
    // Whoever looks at all of them after each event is most of the load.
    project.start_keepd(["wait", "all", "ready"]).wait_for(limit).expect_code(0);
    figures::note(&fault, "all ready", &format!("{:.2?}", begun.elapsed()));
    let begun = Instant::now();
    let table = project.keepd(["status", "-q"]).expect_code(0).stdout;
    figures::note(&fault, "keepd status", &format!("{:.2?}", begun.elapsed()));
    assert_eq!(table.lines().count(), size);
    let watch = ControlWatch::start_for(&project, "s1");
    project.keepd(["restart", "s0"]).expect_code(0);
    watch.finish(&fault);
    let begun = Instant::now();
    up.signal(keepd_model::Signal::INT);
    up.wait_for(limit).expect_code(0);
    figures::note(&fault, "all stopped", &format!("{:.2?}", begun.elapsed()));
    project.assert_nothing_left();
}
