//! What `keepd status` prints, to the letter.

use jiff::tz::TimeZone;
use keepd_manager::api::types::{LastExitObject, ServiceObject};

use super::{details, rows, verb};
use crate::output::{Cell, Clock, render};

/// Returns a service in this state about which nothing else is known.
pub(crate) fn service(name: &str, state: &str) -> ServiceObject {
    ServiceObject {
        name: name.to_owned(),
        base: name.to_owned(),
        instance: None,
        kind: "daemon".to_owned(),
        wanted: "up".to_owned(),
        state: state.to_owned(),
        reason: "operator".to_owned(),
        health: "-".to_owned(),
        pid: None,
        generation: 1,
        invocation_id: None,
        since: "2026-11-21T07:02:55.123Z".to_owned(),
        uptime_s: None,
        ready_after_s: None,
        restarts: 0,
        restarts_in_window: None,
        next_start: None,
        last_exit: None,
        cpu_s: None,
        memory_bytes: None,
        tasks: None,
        limits_enforced: true,
        log_dropped_bytes: 0,
        depends_on: Vec::new(),
        tags: Vec::new(),
        enabled: true,
        config_changed: false,
        quarantine: None,
        description: String::new(),
        user: None,
        waits_for: Vec::new(),
        status_text: None,
        output_blocked: None,
        hopeless: None,
        leftovers: None,
    }
}

fn exit(time: &str, code: Option<u8>, signal: Option<&str>, reason: &str) -> LastExitObject {
    LastExitObject {
        generation: 1,
        time: time.to_owned(),
        code,
        signal: signal.map(str::to_owned),
        core: false,
        reason: reason.to_owned(),
        ran_s: 12.44,
        failure: None,
    }
}

fn clock() -> Clock {
    Clock::new("2026-11-21T07:02:55.123Z".parse().unwrap(), TimeZone::UTC)
}

fn stack() -> [ServiceObject; 3] {
    let db = ServiceObject {
        health: "healthy".to_owned(),
        pid: Some(4711),
        uptime_s: Some(11_520.0),
        cpu_s: Some(46.1),
        memory_bytes: Some(212 * 1024 * 1024),
        tasks: Some(7),
        user: Some("postgres".to_owned()),
        ..service("db", "ready")
    };
    let migrate = ServiceObject {
        kind: "oneshot".to_owned(),
        last_exit: Some(exit("2026-11-21T03:50:00.000Z", Some(0), None, "exit")),
        ..service("migrate", "done")
    };
    let web = ServiceObject {
        restarts: 4,
        next_start: Some("2026-11-21T07:03:02.423Z".to_owned()),
        last_exit: Some(exit("2026-11-21T07:02:55.120Z", None, Some("KILL"), "oom")),
        ..service("web", "backoff")
    };
    [db, migrate, web]
}

fn table(services: &[ServiceObject], absolute: bool, wide: bool) -> String {
    let rows: Vec<Vec<Cell>> =
        services.iter().map(|service| rows::cells(service, &clock(), absolute, wide)).collect();
    render(rows::columns(wide), &rows, true, false)
}

#[test]
fn the_table_is_the_documented_one() {
    assert_eq!(
        table(&stack(), false, false),
        "\
NAME     STATE     HEALTH     PID   UPTIME  RESTARTS   CPU     MEM  LAST
db       ready     healthy   4711   3h 12m         0  0.4%  212MiB  -
migrate  done      -            -        -         0     -       -  exit 0, 3h ago
web      backoff   -            -        -         4     -       -  OOM, next in 7s
"
    );
}

#[test]
fn the_wide_table_has_more_columns() {
    assert_eq!(
        table(&stack()[..1], false, true),
        "NAME  STATE     HEALTH     PID   UPTIME  RESTARTS   CPU     MEM  LAST  USER      TASKS  \
         SINCE   GENERATION  DESCRIPTION\n\
         db    ready     healthy   4711   3h 12m         0  0.4%  212MiB  -     postgres      7  \
         0s ago           1\n"
    );
}

#[test]
fn times_may_be_absolute() {
    let text = table(&stack(), true, false);
    assert!(text.contains("2026-11-21T03:50:55Z         0"), "{text}");
    assert!(text.contains("exit 0, 2026-11-21T03:50:00Z\n"), "{text}");
    assert!(text.contains("OOM, next at 2026-11-21T07:03:02Z\n"), "{text}");
}

#[test]
fn an_end_is_said_by_what_is_known() {
    let time = "2026-11-21T07:02:50.000Z";
    let mut failed = exit(time, None, None, "exec-error");
    assert_eq!(rows::how(&failed), "exec-error");
    failed.failure = Some("executable \"/app/web\" not found".to_owned());
    assert_eq!(rows::how(&failed), "executable \"/app/web\" not found");
    assert_eq!(rows::how(&exit(time, Some(3), None, "exit")), "exit 3");
    let mut crash = exit(time, None, Some("SEGV"), "signal");
    crash.core = true;
    assert_eq!(rows::how(&crash), "signal SEGV (core dumped)");
}

#[test]
fn the_exit_code_answers_whether_it_runs() {
    let mut expected: Vec<(&str, u8)> = vec![
        ("ready", 0),
        ("done", 0),
        ("starting", 1),
        ("stopping", 1),
        ("stuck", 1),
        ("unknown", 1),
        ("stopped", 3),
        ("waiting", 3),
        ("scheduled", 3),
        ("backoff", 3),
        ("failed", 3),
    ];
    for state in keepd_model::State::ALL {
        let code = verb::exit_code(&service("web", state.word())).get();
        let place = expected.iter().position(|pair| *pair == (state.word(), code));
        expected.remove(place.unwrap_or_else(|| panic!("{state} has {code}")));
    }
    let mut sick = service("web", "ready");
    sick.health = "unhealthy".to_owned();
    assert_eq!(verb::exit_code(&sick).get(), 1);
}

#[test]
fn details_leave_out_what_is_not_there() {
    let lines = |service: &ServiceObject| {
        let facts = details::facts(service, &clock(), false);
        let lines: Vec<String> =
            facts.into_iter().map(|(label, value)| format!("{label}: {value}")).collect();
        lines.join("\n")
    };
    let [db, _, mut web] = stack();
    assert_eq!(
        lines(&db),
        "state: ready (operator), for 0s\n\
         wanted: up, daemon, enabled\n\
         health: healthy\n\
         process: 4711, generation 1, up 3h\n\
         uses: 0.4% CPU, 212MiB memory, 7 tasks\n\
         user: postgres"
    );
    web.depends_on = vec!["db".to_owned(), "migrate".to_owned()];
    web.leftovers = Some(2);
    assert_eq!(
        lines(&web),
        "state: backoff (operator), for 0s\n\
         wanted: up, daemon, enabled\n\
         left behind: 2 processes of earlier runs\n\
         restarts: 4\n\
         last run: OOM, 0s ago, after 12.4s\n\
         next start: in 7s\n\
         depends on: db, migrate"
    );
}
