//! What `why` says of a waiting, failing, failed and stopped service.

use keepd_model::{Exit, Origin, RestartPolicy, Until};

use crate::world::*;

#[test]
fn a_waiting_service_names_what_it_waits_for() {
    // (behaviour 6.5)
    let web = needs(daemon("web"), &[("migrate", Until::Done)]);
    let mut world = World::boot(plan([oneshot("migrate"), web]));
    world.advance(secs(2));
    world.exits("migrate", Exit::Code(3));
    let expected = [
        "web is waiting",
        "  because it waits for \"migrate\" to be done",
        "    it waits for migrate to be done (it is failed)",
        "  it is wanted up, because it is enabled, and keepd started",
        "    migrate is failed",
        "      because its process 101 (generation 1) ended with exit 3 after 2.0s",
        "      it stays so: its restart policy is \"never\" (default)",
    ];
    assert_eq!(world.why("web"), expected);
}

#[test]
fn a_backoff_says_when_and_by_what_rule() {
    // (behaviour 8.4)
    let mut web = probed(daemon("web"));
    let origin = Origin { file: "keepd.toml".into(), line: 12, column: 1 };
    web.origins.insert("restart".to_owned(), origin);
    let mut world = World::boot(plan([web]));
    world.advance(secs(1));
    world.exits("web", Exit::Code(1));
    let expected = [
        "web is in backoff, next start in 0.5s (delay 0.5s, 1st restart)",
        "  because its process 101 (generation 1) ended with exit 1 after 1.0s",
        "  it is started again by the restart policy \"always\" (keepd.toml:12:1 restart)",
    ];
    assert_eq!(world.why("web"), expected);
}

#[test]
fn a_failed_service_says_that_it_stays_so() {
    // (behaviour 8.6)
    let mut web = daemon("web");
    web.restart = RestartPolicy::Never;
    let mut world = World::boot(plan([]));
    world.unpreparable.insert(name("web"));
    world.apply(plan([web]), true);
    let expected = [
        "web is failed",
        "  because executable \"/bin/service\" not found",
        "  it stays so: its restart policy is \"never\" (default)",
    ];
    assert_eq!(world.why("web"), expected);
}

#[test]
fn a_stopped_service_says_who_stopped_it() {
    // (behaviour 9.7)
    let mut world = World::boot(plan([daemon("web")]));
    world.advance(secs(5));
    world.stop(&["web"]);
    let expected = [
        "web is stopped",
        "  because somebody asked for it (stop, change 2)",
        "    change 2 (stop) was asked for by uid 7, process 70",
        "  its last run (generation 1) ended with signal TERM after 5.0s",
        "  it is wanted down, because somebody asked for it (stop, change 2)",
    ];
    assert_eq!(world.why("web"), expected);
    world.take_over();
    assert_eq!(world.why("web"), expected);
}
