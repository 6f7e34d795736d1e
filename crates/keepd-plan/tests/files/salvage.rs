//! A start from files with errors: what can be used is used.

use keepd_model::{Edge, Template, Until};
use keepd_plan::{Context, Diagnostic, Salvaged, Source, load, load_salvaging, start_order};

use crate::{errors, loaded, name, source};

fn salvaged(text: &str) -> Salvaged {
    load_salvaging(&[source(text)], &Context::default())
        .unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"))
}

fn refused(text: &str) -> Vec<String> {
    let errors = load_salvaging(&[source(text)], &Context::default()).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

/// The names of what is quarantined.
fn quarantined(text: &str) -> Vec<String> {
    let salvaged = salvaged(text);
    let services = salvaged.plan.services.values();
    let in_plan: Vec<String> = services
        .filter(|spec| spec.quarantine.is_some())
        .map(|spec| spec.name.to_string())
        .collect();
    let listed: Vec<String> =
        salvaged.quarantined.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(listed, in_plan);
    assert!(salvaged.quarantined.iter().all(|(_, errors)| !errors.is_empty()));
    listed
}

#[test]
fn files_without_errors_are_what_load_makes_of_them() {
    let text = "[services.web]\ncommand = 'x'\ndepends_on = ['db']\n[services.db]\ncommand = 'x'";
    let salvaged = salvaged(text);
    assert_eq!(salvaged.plan, loaded(text).plan);
    assert_eq!(salvaged.quarantined, []);
}

#[test]
fn a_broken_table_concerns_its_service_alone() {
    let text = "[services.web]
command = 'x'
comand = 'y'
stop_timeout = 5
description = 'the shop'
tags = ['front']
depends_on = ['db']
[services.user]
command = 'x'
depends_on = ['web']
[services.db]
command = 'x'
";
    let found = salvaged(text);
    let web = &found.plan.services["web"];
    assert_eq!(
        web.quarantine.as_deref(),
        Some("keepd.toml:3:1: cannot use key \"comand\" in service \"web\"")
    );
    assert_eq!(
        (web.description.as_str(), web.tags.as_slice()),
        ("the shop", &["front".into()][..])
    );
    assert!(web.command.is_none() && web.depends_on.is_empty());
    let errors: Vec<String> = found.quarantined[0].1.iter().map(Diagnostic::to_string).collect();
    assert_eq!(found.quarantined.len(), 1);
    assert_eq!(errors, crate::errors(text));
    // What depends on it is in order, and will wait.
    let user = &found.plan.services["user"];
    assert_eq!(user.quarantine, None);
    assert_eq!(user.depends_on[&name("web")], Edge::until(Until::Ready));
    assert_eq!(start_order(&found.plan).len(), 3);
}

#[test]
fn edges_that_lead_nowhere_and_all_members_of_a_cycle_are_quarantined() {
    let text = "[services]
missing = { command = 'x', depends_on = ['nobody'] }
order = { command = 'x', after = ['nobody'] }
endless = { command = 'x', depends_on.good.until = 'done' }
good = { command = 'x' }
a = { command = 'x', depends_on = ['b', 'd'] }
b = { command = 'x', after = ['c'] }
c = { command = 'x', before = [], depends_on = ['a'] }
d = { command = 'x', depends_on = ['c'] }
leads-in = { command = 'x', depends_on = ['a'] }
self = { command = 'x', depends_on = ['self'] }
";
    assert_eq!(quarantined(text), ["a", "b", "c", "d", "endless", "missing", "order", "self"]);
    let plan = salvaged(text).plan;
    assert_eq!(start_order(&plan).len(), plan.services.len());
    assert_eq!(
        plan.services["d"].quarantine.as_deref(),
        Some("keepd.toml:9:36: cannot order services: d is in a cycle")
    );
}

#[test]
fn what_is_no_table_or_stands_twice_is_quarantined() {
    assert_eq!(
        quarantined(
            "services.web = 5\nservices.user = { command = 'x', depends_on = ['web'] }\n\
             services.'a@1' = { command = 'x' }"
        ),
        ["a@1", "web"]
    );
    let first = Source {
        file: "a.toml".into(),
        directory: "/d".into(),
        text: "services.web.command = 'x'\nservices.db.command = 'x'".into(),
    };
    let second = Source { file: "b.toml".into(), ..first.clone() };
    let found = load_salvaging(&[first, second], &Context::default()).unwrap();
    let names: Vec<&str> = found.quarantined.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["db", "web"]);
}

#[test]
fn a_table_whose_name_is_none_is_left_out_and_said() {
    let text = "[services.'a/b']
command = 'x'
[services.all]
command = 'x'
[services.user]
command = 'x'
depends_on = ['a/b']
[services.web]
command = 'x'
";
    let found = salvaged(text);
    let said: Vec<&str> = found.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "cannot use service name \"a/b\": a service name must not hold '/' (at byte 1); \
             allowed are letters, digits, \".\", \"_\" and \"-\"",
            "cannot use service name \"all\": the name is reserved (\"all\", and names that begin \
             with \"keepd.\")",
        ]
    );
    assert_eq!(quarantined(text), ["user"]);
    assert_eq!(
        found.plan.services["user"].quarantine.as_deref(),
        Some("keepd.toml:7:15: cannot find service \"a/b\", which service \"user\" depends on")
    );
    // Where everything is refused, the one error is enough.
    assert_eq!(errors(text).len(), 2);
}

#[test]
fn what_is_not_about_a_service_is_an_error_of_all() {
    let service = "[services.web]\ncommand = 5\n";
    for (general, place) in [
        ("[keepd]\necho = 'loud'\n", "keepd.toml:2:8"),
        ("[defaults]\nuser = true\n", "keepd.toml:2:8"),
        ("colour = 1\n", "keepd.toml:1:1"),
        ("version = 2\n", "keepd.toml:1:11"),
        ("include = 5\n", "keepd.toml:1:11"),
        ("x = = 1\n", "keepd.toml:1:5"),
    ] {
        let found = refused(&format!("{general}{service}"));
        assert!(found[0].starts_with(place), "{found:#?}");
        assert!(found.iter().any(|error| error.contains("\"command\" in service")), "{found:#?}");
    }
}

#[test]
fn every_broken_service_is_known_however_many_there_are() {
    let many: String = (0..3_000)
        .map(|number| format!("s{number} = {{ command = 'x', depends_on = ['nobody'] }}\n"))
        .collect();
    let text = format!("[services]\n{many}good.command = 'x'\n");
    let found = salvaged(&text);
    assert_eq!(found.quarantined.len(), 3_000);
    assert_eq!(found.plan.services["good"].quarantine, None);
}

#[test]
fn nothing_of_the_defaults_gets_lost_for_those_that_stay() {
    let text = "[defaults]
working_dir = '/w'
[services.web]
command = 'x'
[services.bad]
command = 5
";
    assert_eq!(salvaged(text).plan.services["web"].working_dir, Template::literal("/w"));
    assert!(load(&[source(text)], &Context::default()).is_err());
}
