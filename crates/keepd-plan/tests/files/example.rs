//! The documented example, defaults, several files, order.

use std::time::Duration;

use keepd_model::{
    CommandLine, Edge, EnvFile, Kind, Probe, RestartPolicy, ShutdownOn, Signal, TcpProbe, Template,
    Until,
};
use keepd_plan::{Context, Diagnostic, Source, load, start_order};

use crate::{loaded, name, service, source};

/// The example of the reference, without the keys that are not built.
const EXAMPLE: &str = r#"version = 1

[defaults]
user = "app"
stop_timeout = "15s"

[services.migrate]
kind = "oneshot"
command = "/app/migrate --url ${DATABASE_URL:?set DATABASE_URL}"
depends_on = ["db"]

[services.db]
command = ["postgres", "-D", "/var/lib/postgres"]
user = "postgres"
stop_signal = "INT"
ready.port = 5432

[services.web]
command = "/app/web"
env_file = "-/etc/app/web.env"
ready.notify = true
shutdown_on = "failure"

[services.web.depends_on]
migrate = {}
db = { until = "ready" }
"#;

fn words(words: &[&str]) -> Option<CommandLine> {
    let words = words.iter().map(|word| Template::parse(word).unwrap());
    Some(CommandLine::Words(words.collect()))
}

#[test]
fn the_documented_example_is_read() {
    let loaded = loaded(EXAMPLE);
    assert_eq!(loaded.warnings, []);
    let services = &loaded.plan.services;
    let names: Vec<_> = services.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["db", "migrate", "web"]);

    let migrate = &services["migrate"];
    assert_eq!(migrate.kind, Kind::Oneshot);
    assert_eq!(migrate.restart, RestartPolicy::Never);
    assert_eq!(
        migrate.command,
        words(&["/app/migrate", "--url", "${DATABASE_URL:?set DATABASE_URL}"])
    );
    assert_eq!(migrate.user.as_deref(), Some("app"));
    assert_eq!((migrate.ready.delay, migrate.ready.timeout), (Duration::ZERO, None));

    let db = &services["db"];
    assert_eq!(db.command, words(&["postgres", "-D", "/var/lib/postgres"]));
    assert_eq!(db.user.as_deref(), Some("postgres"));
    assert_eq!((db.stop.signal, db.stop.timeout), (Signal::INT, Duration::from_secs(15)));
    let address = Template::literal("127.0.0.1:5432");
    assert_eq!(db.ready.probes, [Probe::Tcp(TcpProbe { address })]);
    assert_eq!((db.ready.delay, db.ready.timeout), (Duration::ZERO, Some(Duration::from_secs(60))));

    let web = &services["web"];
    let path = Template::literal("/etc/app/web.env");
    assert_eq!(web.env_files, [EnvFile { path, optional: true }]);
    assert!(web.ready.notify);
    assert_eq!(web.shutdown_on, ShutdownOn::Failure);
    assert_eq!(web.restart, RestartPolicy::Always);
    assert_eq!(web.depends_on[&name("migrate")], Edge::until(Until::Done));
    assert_eq!(web.depends_on[&name("db")], Edge::until(Until::Ready));
}

#[test]
fn origins_tell_where_each_key_stands() {
    let loaded = loaded(EXAMPLE);
    let origins = &loaded.plan.services["web"].origins;
    let places: Vec<String> = origins
        .iter()
        .map(|(key, origin)| format!("{key} {}:{}", origin.line, origin.column))
        .collect();
    assert_eq!(
        places,
        [
            " 18:11",
            "command 19:1",
            "depends_on 24:15",
            "depends_on.db 26:1",
            "depends_on.migrate 25:1",
            "env_file 20:1",
            "ready.notify 21:7",
            "shutdown_on 22:1",
            "stop_timeout 5:1",
            "user 4:1",
        ]
    );
}

#[test]
fn services_start_after_what_they_need_and_else_by_name() {
    let order = start_order(&loaded(EXAMPLE).plan);
    assert_eq!(order, [name("db"), name("migrate"), name("web")]);
    let text = "[services]
        a = { command = 'x', depends_on = ['z'] }
        b = { command = 'x' }
        c = { command = 'x', depends_on = ['a', 'b'] }
        z = { command = 'x' }";
    let order: Vec<String> =
        start_order(&loaded(text).plan).iter().map(ToString::to_string).collect();
    assert_eq!(order, ["b", "z", "a", "c"]);
}

#[test]
fn services_start_in_the_order_of_all_three_relations() {
    let text = "[services]
        a = { command = 'x', after = ['z'] }
        b = { command = 'x' }
        c = { command = 'x', depends_on = ['b'], before = ['a', 'z'] }
        z = { command = 'x', after = ['b'], depends_on = ['b'] }";
    let order: Vec<String> =
        start_order(&loaded(text).plan).iter().map(ToString::to_string).collect();
    assert_eq!(order, ["b", "c", "z", "a"]);
}

#[test]
fn defaults_stand_behind_a_services_own_keys_and_tables_merge() {
    let text = "[defaults]
        env = { A = '1', B = '2' }
        ready.timeout = '5s'
        log.mode = 'inherit'
        log.stderr = 'merge'
        [services.one]
        command = 'x'
        env = { B = '3', A = false }
        ready.interval = '1s'
        [services.two]
        command = 'x'
        log.mode = 'file'
        log.dir = 'logs'";
    let one = service(text, "one");
    assert_eq!(one.env["A"], None);
    assert_eq!(one.env["B"], Some(Template::literal("3")));
    assert_eq!(one.ready.timeout, Some(Duration::from_secs(5)));
    assert_eq!(one.ready.interval, Duration::from_secs(1));
    assert_eq!(one.log.mode, keepd_model::LogMode::Inherit);
    let two = service(text, "two");
    assert_eq!(two.env["B"], Some(Template::literal("2")));
    let dir = Some(Template::literal("/srv/app/logs"));
    assert_eq!(two.log.mode, keepd_model::LogMode::File { dir });
    assert_eq!(two.log.stderr, keepd_model::StderrMode::Merge);
}

#[test]
fn a_default_of_another_log_mode_does_not_trouble_a_service() {
    let text = "[defaults]
        log = { mode = 'append', file = '/var/log/all' }
        [services.one]
        command = 'x'
        log.mode = 'null'
        [services.two]
        command = 'x'";
    assert_eq!(service(text, "one").log.mode, keepd_model::LogMode::Null);
    let file = Template::literal("/var/log/all");
    assert_eq!(service(text, "two").log.mode, keepd_model::LogMode::Append { file });
}

#[test]
fn several_files_are_one_plan_whatever_their_order() {
    let first = Source {
        file: "a.toml".into(),
        directory: "/a".into(),
        text:
            "keepd.name = 'n'\ndefaults.user = 'u'\n[services.one]\ncommand = 'x'\nworking_dir = \
         'd'"
            .into(),
    };
    let second = Source {
        file: "b.toml".into(),
        directory: "/b".into(),
        text: "keepd.echo = 'off'\n[services.two]\ncommand = 'x'\nworking_dir = 'd'\ndepends_on = \
         ['one']"
            .into(),
    };
    let forward = load(&[first.clone(), second.clone()], &Context::default()).unwrap();
    let backward = load(&[second, first], &Context::default()).unwrap();
    assert_eq!(forward, backward);
    let services = &forward.plan.services;
    assert_eq!(services["one"].working_dir, Template::literal("/a/d"));
    assert_eq!(services["two"].working_dir, Template::literal("/b/d"));
    assert_eq!(services["two"].user.as_deref(), Some("u"));
    assert_eq!(forward.plan.manager.name, "n");
}

#[test]
fn a_project_works_in_the_folder_of_its_file() {
    let text = "services.web.command = 'x'";
    let directory = |project| {
        let loaded = load(&[source(text)], &Context { project }).unwrap();
        loaded.plan.services["web"].working_dir.clone()
    };
    assert_eq!(directory(true), Template::literal("/srv/app"));
    assert_eq!(directory(false), Template::literal("/"));
}

#[test]
fn the_order_of_keys_and_tables_does_not_matter() {
    let other = r#"
services.web = {
    shutdown_on = "failure",
    ready = { notify = true },
    env_file = ["-/etc/app/web.env"],
    command = ["/app/web"],
    depends_on = { db = { until = "ready" }, migrate = { until = "done" } },
}

[services.db]
ready.port = 5432
stop_signal = "SIGINT"
user = "postgres"
command = "postgres -D '/var/lib/postgres'"

[services.migrate]
depends_on.db = {}
command = "/app/migrate --url ${DATABASE_URL:?set DATABASE_URL}"
kind = "oneshot"

[defaults]
stop_timeout = "15s"
user = "app"
"#;
    let without_origins = |text: &str| {
        let plan = loaded(text).plan;
        let services = plan.services.values().map(|spec| {
            let mut spec = (**spec).clone();
            spec.origins.clear();
            spec
        });
        (plan.manager.clone(), services.collect::<Vec<_>>())
    };
    assert_eq!(without_origins(EXAMPLE), without_origins(other));
}

#[test]
fn a_file_without_services_is_fine_and_said() {
    let loaded = loaded("# nothing yet\n");
    let said: Vec<String> = loaded.warnings.iter().map(Diagnostic::to_string).collect();
    assert_eq!(
        said,
        ["no service is defined\n  hint: add [services.NAME] with command = \"PROGRAM \
             ARGUMENT...\""]
    );
    assert!(loaded.plan.services.is_empty());
}

#[test]
fn notes_are_ignored_everywhere_but_names_are_no_keys() {
    let text = "x_top = 1
        [keepd]
        x_keepd = []
        [defaults]
        x_defaults = 1
        [services.x_one]
        command = 'x'
        x_service = { a = 1 }
        env.x_variable = 'kept'
        ready.x_ready = 1
        log.x_log = 1
        [services.two]
        command = 'x'
        depends_on.x_one = { x_edge = 1 }";
    let one = service(text, "x_one");
    assert_eq!(one.env["x_variable"], Some(Template::literal("kept")));
    assert!(service(text, "two").depends_on.contains_key("x_one"));
}
