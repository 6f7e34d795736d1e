//! The effective configuration as a file that can be read again.

use std::sync::Arc;

use keepd_model::{Plan, ServiceSpec};
use keepd_plan::{
    Context, RenderOptions, Section, keys, load, load_salvaging, render, render_plan,
};

use crate::{loaded, source};

const REVEALED: RenderOptions = RenderOptions { origins: false, reveal: true };

/// Every key, none with its default, in every form that leaves a trace.
const EVERY_KEY: &str = r#"version = 1
include = []
[keepd]
name = "sh\"op"
log_level = "debug"
log_format = "json"
run_dir = "/run/$$shop"
state_dir = "state"
log_dir = "log"
echo = "text"
exit_when = "idle"
shutdown_timeout = "1m30s"
history = 3
[services.web]
description = "Größe \\ \"x\" ✓"
command = "a 'b c' ${D:-\"x y\"} $$E '$F'"
enabled = false
tags = ["front", "b:c"]
working_dir = "web/${X}"
user = "app"
group = 33
extra_groups = ["video", 44]
umask = "0077"
env = { A = "x ${B:-y} $$", PORT = 8080, GONE = false, EMPTY = "", TAB = "a\tb\u0001c\nd" }
env_file = ["a.env", "-b.env", "-${HOME}/c.env"]
env_inherit = ["PATH"]
after = ["a.b"]
before = ["db"]
stop_signal = 40
stop_timeout = "1m1s1ms"
kill_mode = "main"
reload_command = ["kill", "-HUP", "${MAINPID}"]
restart = "on-failure"
exit_ok = [0, 3, "TERM", "SIGHUP"]
backoff_initial = "1ms"
backoff_max = "1m"
backoff_factor = 1e3
backoff_jitter = 0
backoff_reset = "0s"
restart_limit = 5
restart_window = "1h"
shutdown_on = "exit"
ready.notify = true
ready.fd = 4
ready.port = "${PORT:-80}"
ready.http = "http://127.0.0.1:${PORT}/"
ready.exec = "true 'a b'"
ready.socket = "web.sock"
ready.file = "/run/web.$$"
ready.log = '''listening on \d+ "now"'''
ready.delay = "1s"
ready.timeout = "2s"
ready.interval = "3ms"
log.mode = "file"
log.dir = "logs/${keepd.service}"
log.stderr = "merge"
[services.web.depends_on]
"a.b" = { until = "started", required = false }
[services.db]
shell = true
command = "a | b\n  && c \u007f"
reload_signal = "HUP"
env_inherit = false
extra_groups = []
log = { mode = "append", file = "all.log" }
[services."a.b"]
kind = "oneshot"
command = ["x"]
depends_on.m = { on_stop = "restart" }
log.mode = "null"
[services.m]
command = "x"
ready.timeout = "0s"
log.mode = "inherit"
[services.all-of-it]
kind = "group"
description = "everything"
enabled = false
tags = ["t"]
depends_on = ["db", "m"]
after = ["web"]
before = []
"#;

/// The services of a plan without where anything stands.
fn placeless(plan: &Plan) -> Vec<ServiceSpec> {
    let services = plan.services.values().map(|spec| {
        let mut spec = ServiceSpec::clone(spec);
        spec.origins.clear();
        spec
    });
    services.collect()
}

#[test]
fn what_is_rendered_gives_the_same_plan() {
    let plan = loaded(EVERY_KEY).plan;
    let text = render_plan(&plan, REVEALED);
    // Another folder shows that every path is absolute.
    let mut again = source(&text);
    again.directory = "/elsewhere".into();
    let again = load(&[again], &Context { project: true })
        .unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    assert_eq!(again.warnings, []);
    assert_eq!(again.plan.manager, plan.manager);
    assert_eq!(placeless(&again.plan), placeless(&plan), "{text}");
    assert_eq!(render_plan(&again.plan, REVEALED), text);
}

#[test]
fn every_key_is_rendered_in_the_order_of_the_documentation() {
    let plan = loaded(EVERY_KEY).plan;
    let text = render_plan(&plan, REVEALED);
    let key_of = |line: &str| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        line.split([' ', ':']).next().unwrap_or_default().to_owned()
    };
    let section = |header: &str| {
        let lines = text.lines().skip_while(|line| *line != header).skip(1);
        let lines = lines.take_while(|line| !line.is_empty());
        // Tables with free names have a line for each of them.
        let lines = lines.map(|line| match key_of(line) {
            key if key.starts_with("env.") => "env".to_owned(),
            key if key.starts_with("depends_on.") => "depends_on".to_owned(),
            key => key,
        });
        let mut lines: Vec<String> = lines.collect();
        lines.dedup();
        lines
    };
    let documented = |section| {
        let docs = keys().iter().filter(move |doc| doc.section == section);
        // Once it has been done, it is nothing that holds.
        docs.map(|doc| doc.key.to_owned()).filter(|key| key != "override").collect::<Vec<_>>()
    };
    assert_eq!(section("[services.web]"), documented(Section::Service));
    assert_eq!(section("[keepd]"), documented(Section::Keepd));
    assert_eq!(
        section("[services.all-of-it]"),
        ["description", "kind", "enabled", "tags", "depends_on", "after", "before"]
    );
}

#[test]
fn each_line_tells_where_it_comes_from() {
    let text = "[defaults]
user = 'app'
[services.web]
command = 'x'
env.A = '1'
ready.port = 80
depends_on = ['d.b']
[services.'d.b']
command = 'x'
";
    let plan = loaded(text).plan;
    let text = render(&plan.services["web"], RenderOptions { origins: true, reveal: true });
    let expected = [
        "[services.web]  # keepd.toml:3",
        "command = [\"x\"]  # keepd.toml:4",
        "user = \"app\"  # keepd.toml:2",
        "group = \"\"  # default",
        "# extra_groups: those of the user",
        "env.A = \"1\"  # keepd.toml:5",
        "ready.port = \"127.0.0.1:80\"  # keepd.toml:6",
        "depends_on.\"d.b\" = { until = \"ready\", required = true, on_stop = \"ignore\" }  \
         # keepd.toml:7",
        "restart = \"always\"  # default",
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn variables_are_hidden_unless_asked_for() {
    let plan = loaded(EVERY_KEY).plan;
    let text = render(&plan.services["web"], RenderOptions::default());
    for line in ["env.A = <hidden>", "env.PORT = <hidden>", "env.GONE = false"] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("8080"));
    // What hides values is never read as one.
    assert!(load(&[source(&text)], &Context::default()).is_err());
}

#[test]
fn a_file_with_a_line_feed_in_its_name_cannot_write_lines() {
    let mut named = source("[services.web]\ncommand = 'x'");
    named.file = Arc::from("a\nb.toml");
    let plan = load(&[named], &Context::default()).unwrap().plan;
    let text = render(&plan.services["web"], RenderOptions { origins: true, reveal: true });
    assert!(text.contains("# a?b.toml:2\n"));
}

#[test]
fn a_quarantined_service_shows_its_reason() {
    let text = "[services.web]\ncommand = 5\n";
    let plan = load_salvaging(&[source(text)], &Context::default()).unwrap().plan;
    assert_eq!(
        render(&plan.services["web"], RenderOptions::default()),
        "[services.web]\n# quarantined: keepd.toml:2:11: cannot use 5 for \"command\" in service \
         \"web\": it takes a string or an array of strings\n"
    );
}
