//! Several files: what is put over what, what is included, and what is said about either.

use std::time::Duration;

use keepd_model::{Edge, Kind, LogMode, OnStop, Reload, ServiceSpec, Signal, Template, Until};
use keepd_plan::{Context, Source, load};

use crate::{errors, errors_of, loaded, name};

fn source(file: &str, text: &str) -> Source {
    let directory = format!("/{}", file.trim_end_matches(".toml"));
    Source { file: file.into(), directory, text: text.into() }
}

fn web(texts: &[&str]) -> ServiceSpec {
    let names = ["a.toml", "b.toml", "c.toml"];
    let sources: Vec<Source> =
        names.iter().zip(texts).map(|(name, text)| source(name, text)).collect();
    let loaded =
        load(&sources, &Context { project: true }).unwrap_or_else(|errors| panic!("{errors:#?}"));
    (*loaded.plan.services["web"]).clone()
}

const FIRST: &str = "[services.web]
command = 'web'
tags = ['a', 'b']
env = { A = '1', B = '2' }
ready.port = 80
ready.timeout = '5s'
env_file = 'a.env'
depends_on.db.until = 'started'
depends_on.db.required = false
[services.db]
command = 'db'
[services.cache]
command = 'cache'
";

#[test]
fn scalars_and_arrays_replace_and_tables_merge() {
    let second = "[services.web]
override = true
command = 'other'
tags = ['c']
env = { B = '3', C = '4' }
ready.timeout = '6s'
env_file = 'b.env'
depends_on.db.until = 'ready'
depends_on.cache = {}
";
    let spec = web(&[FIRST, second]);
    assert_eq!(spec.tags, ["c"]);
    let literal = |text: &str| Some(Template::literal(text));
    assert_eq!((&spec.env["A"], &spec.env["B"]), (&literal("1"), &literal("3")));
    assert_eq!(spec.env["C"], literal("4"));
    assert_eq!(spec.ready.probes.len(), 1);
    assert_eq!(spec.ready.timeout, Some(Duration::from_secs(6)));
    let edge = Edge { until: Until::Ready, required: false, on_stop: OnStop::Ignore };
    assert_eq!(spec.depends_on[&name("db")], edge);
    assert_eq!(spec.depends_on[&name("cache")], Edge::until(Until::Ready));
    // A path is relative to the file it stands in, the default folder is that of the first file.
    assert_eq!(spec.env_files[0].path, Template::literal("/b/b.env"));
    assert_eq!(spec.working_dir, Template::literal("/a"));
    let place = |key: &str| spec.origins.get(key).unwrap().to_string();
    assert_eq!(place("command"), "b.toml:3:1");
    assert_eq!(place("ready.port"), "a.toml:5:7");
    assert_eq!(place("env.A"), "a.toml:4:9");
    assert_eq!(place("env.B"), "b.toml:5:9");
    assert_eq!(place("depends_on.cache"), "b.toml:9:12");
    assert_eq!(place("depends_on.db"), "b.toml:8:12");
    assert_eq!(place(""), "a.toml:1:11");
}

#[test]
fn an_array_of_names_replaces_edges_and_a_table_adds_to_it() {
    let array = "[services.web]\noverride = true\ndepends_on = ['cache']";
    let names = |spec: ServiceSpec| -> Vec<String> {
        spec.depends_on.keys().map(ToString::to_string).collect()
    };
    assert_eq!(names(web(&[FIRST, array])), ["cache"]);
    let table = "[services.web]\noverride = true\ndepends_on.db.until = 'started'";
    let spec = web(&[FIRST, array, table]);
    assert_eq!(spec.depends_on[&name("db")], Edge::until(Until::Started));
    assert_eq!(names(spec), ["cache", "db"]);
}

#[test]
fn of_what_excludes_each_other_the_later_table_is_meant() {
    let first = "[defaults]\nreload_signal = 'HUP'\n[services.web]\ncommand = 'x'\nlog = { mode = \
                 'append', file = 'x' }";
    let spec = web(&[first]);
    assert_eq!(spec.reload, Some(Reload::Signal(Signal::HUP)));
    let second = "[services.web]\noverride = true\nreload_command = 'x'\nlog.mode = 'null'";
    let spec = web(&[first, second]);
    assert!(matches!(spec.reload, Some(Reload::Command(_))), "{:?}", spec.reload);
    assert_eq!(spec.log.mode, LogMode::Null);
    let third = "[services.web]\noverride = true\nreload_signal = 'USR1'";
    assert_eq!(web(&[first, second, third]).reload, Some(Reload::Signal(Signal::USR1)));
}

#[test]
fn an_override_needs_something_to_be_put_over() {
    assert_eq!(
        errors("[services.web]\noverride = true\ncommand = 'x'"),
        ["keepd.toml:2:1: cannot override service \"web\": it has no table yet\n  hint: leave \
             out override, or read the file of the first table before this one"]
    );
    let first = source("a.toml", "services.web = { override = true, command = 'x' }");
    let second = source("b.toml", "services.web = { command = 'x', override = false }");
    assert_eq!(
        errors_of(&[first, second]),
        [
            "a.toml:1:18: cannot override service \"web\": it has no table yet\n  hint: leave \
             out override, or read the file of the first table before this one",
            "b.toml:1:10: cannot define service \"web\" twice\n  hint: it stands for the first \
             time at a.toml:1:10; with override = true this table is put over that one",
        ]
    );
    assert_eq!(
        errors("[services.web]\ncommand = 'x'\noverride = 'merge'"),
        ["keepd.toml:3:12: cannot use \"merge\" for \"override\" in service \"web\": it takes \
             true or false\n  hint: write true"]
    );
}

#[test]
fn errors_of_merged_keys_stand_where_the_key_stands() {
    let first = source("a.toml", "[services.web]\ncommand = 'x'\nbackoff_max = '1s'");
    let second = source("b.toml", "[services.web]\noverride = true\nbackoff_initial = '2s'");
    assert_eq!(
        errors_of(&[first, second]),
        ["b.toml:3:19: cannot use \"backoff_initial\" in service \"web\": it is longer than \
             \"backoff_max\""]
    );
}

#[test]
fn a_service_may_become_a_group() {
    let first =
        "services.web.tags = ['a']\nservices.db.command = 'x'\nservices.web.kind = 'daemon'";
    let second = "services.web = { override = true, kind = 'group', depends_on = ['db'] }";
    let spec = web(&[first, second]);
    assert_eq!((spec.kind, spec.command), (Kind::Group, None));
}

#[test]
fn includes_are_validated() {
    assert_eq!(loaded("include = ['conf.d/*.toml', 'one.toml']").warnings.len(), 1);
    let text = "include = [
  '',
  '~/a.toml',
  '${HOME}/a.toml',
  'conf.d/',
  'a[.toml',
  5,
]";
    // What is no string is told first, because the items are not looked at without it.
    assert_eq!(
        errors(text),
        ["keepd.toml:7:3: cannot use 5 for \"include\" at the top level: it takes strings"]
    );
    assert_eq!(
        errors(&text.replace("  5,\n", "")),
        [
            "keepd.toml:2:3: cannot use \"\" for \"include\" at the top level: a path must not be \
             empty",
            "keepd.toml:3:3: cannot use \"~/a.toml\" for \"include\" at the top level: \"~\" means \
             something to a shell only\n  hint: write the whole path",
            "keepd.toml:4:3: cannot use \"${HOME}/a.toml\" for \"include\" at the top level: no \
             variable is filled in here",
            "keepd.toml:5:3: cannot use \"conf.d/\" for \"include\" at the top level: it takes \
             files, and this is a folder\n  hint: write \"conf.d/*.toml\" for the files in it",
            "keepd.toml:6:5: cannot use \"a[.toml\" for \"include\" at the top level: the bracket \
             [ is not closed",
        ]
    );
}
