//! A change of files with errors: what is broken keeps the table that it has.

use std::sync::Arc;

use keepd_model::{Plan, ServiceSpec};
use keepd_plan::{Context, Exceptions, Kept, Source, load_except, load_keeping};

use crate::{loaded, source};

/// Follows a plan with another text, and checks that a successor finds the same.
fn kept(before: &Plan, text: &str) -> Kept {
    let sources: [Source; 1] = [source(text)];
    let context = Context::default();
    let kept = load_keeping(&sources, &context, before)
        .unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    let tables = kept.exceptions.kept().map(|(name, text)| (name.clone(), text.to_owned()));
    let reasons = kept.exceptions.quarantined().map(|(name, why)| (name.clone(), why.to_owned()));
    let written = Exceptions::new(tables.collect::<Vec<_>>(), reasons.collect());
    assert_eq!(written, kept.exceptions);
    let again = load_except(&sources, &context, &written).unwrap();
    assert_eq!(again, kept.loaded);
    kept
}

fn names(kept: &Kept) -> (Vec<&str>, Vec<&str>) {
    let exceptions = &kept.exceptions;
    (
        exceptions.kept().map(|(name, _)| name.as_str()).collect(),
        exceptions.quarantined().map(|(name, _)| name.as_str()).collect(),
    )
}

/// A service without where it stands.
fn placeless(plan: &Plan, name: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::clone(&plan.services[name]);
    spec.origins.clear();
    spec
}

const BEFORE: &str = "[defaults]
reload_signal = 'HUP'
env = { A = '1' }
[services.web]
command = 'web ${A}'
working_dir = 'w'
depends_on = ['db']
[services.db]
command = 'db'
[services.other]
command = 'other'
";

#[test]
fn files_without_errors_have_no_exceptions() {
    let before = loaded(BEFORE).plan;
    let text = BEFORE.replace("'db'\n", "'db2'\n");
    let kept = kept(&before, &text);
    assert_eq!(kept.loaded, loaded(&text));
    assert!(kept.exceptions.is_empty() && kept.errors.is_empty());
}

#[test]
fn a_broken_table_leaves_the_one_in_force_whatever_the_defaults_say_now() {
    let before = loaded(BEFORE).plan;
    let text = "[defaults]
stop_signal = 'INT'
env = { B = '2' }
[services.web]
comand = 'web'
[services.db]
command = 'db'
[services.other]
command = 'changed'
[services.new]
command = 5
[services.user]
command = 'user'
depends_on = ['new', 'web']
";
    let kept = kept(&before, text);
    assert_eq!(names(&kept), (vec!["web"], vec!["new"]));
    let plan = &kept.loaded.plan;
    assert_eq!(placeless(plan, "web"), placeless(&before, "web"));
    assert!(before.services["web"].differences(&plan.services["web"]).is_empty());
    assert_eq!(plan.services["other"].env.len(), 1, "the others follow the files");
    let why = plan.services["new"].quarantine.as_deref().unwrap();
    assert!(why.starts_with("keepd.toml:11:11: "), "{why}");
    assert!(plan.services["user"].quarantine.is_none());
    let errors: Vec<String> = kept.errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, crate::errors(text), "all that the files are refused for otherwise");
    // The next change keeps what was kept.
    let again = self::kept(plan, text);
    assert_eq!(again.loaded, kept.loaded);
}

#[test]
fn what_a_kept_table_needs_is_kept_with_it() {
    let before = loaded(BEFORE).plan;
    let text = "services.web.command = 5\nservices.other.command = 'x'";
    let kept = kept(&before, text);
    assert_eq!(names(&kept), (vec!["db", "web"], vec![]));
    assert_eq!(placeless(&kept.loaded.plan, "db"), placeless(&before, "db"));
    assert_eq!(kept.errors.len(), 1);

    // Also if it is there, but another thing.
    let before = loaded(
        "services.web = { command = 'x', depends_on.setup.until = 'done' }
services.setup = { command = 'x', kind = 'oneshot' }",
    );
    let text = "services.web.command = 5\nservices.setup.command = 'always'";
    let kept = self::kept(&before.plan, text);
    assert_eq!(names(&kept), (vec!["setup", "web"], vec![]));
}

#[test]
fn members_of_a_cycle_keep_their_tables_and_new_ones_are_quarantined() {
    let before = loaded(
        "services.a.command = 'a'
services.b = { command = 'b', after = ['a'] }",
    );
    let text = "services.a = { command = 'a2', depends_on = ['b'] }
services.b = { command = 'b', after = ['n'] }
services.n = { command = 'n', after = ['a'] }
services.m = { command = 'm', after = ['a'] }";
    let kept = kept(&before.plan, text);
    assert_eq!(names(&kept), (vec!["a", "b"], vec!["n"]));
    assert!(Arc::clone(&kept.loaded.plan.services["a"]).depends_on.is_empty());
    assert!(kept.loaded.plan.services["m"].quarantine.is_none());

    // A new one that makes a cycle with tables that are kept gives way.
    let before = loaded(
        "services.a = { command = 'a', after = ['b'] }
services.b.command = 'b'",
    );
    let text = "services.a.command = 5
services.b = { command = 'b' }
services.n = { command = 'n', after = ['a'], before = ['b'] }";
    let kept = self::kept(&before.plan, text);
    assert_eq!(names(&kept), (vec!["a", "b"], vec!["n"]));
}

#[test]
fn what_has_no_table_that_could_be_kept_is_quarantined() {
    let before = loaded(BEFORE);
    let broken = kept(&before.plan, &BEFORE.replace("[services.other]\ncommand = 'other'", ""));
    assert!(broken.exceptions.is_empty());
    let text = "services.web.command = 5\nservices.x.command = 5";
    let first = kept(&broken.loaded.plan, text);
    assert_eq!(names(&first), (vec!["db", "web"], vec!["x"]));
    let second = kept(&first.loaded.plan, "services.x.command = 6");
    assert_eq!(names(&second), (vec![], vec!["x"]), "what was quarantined has no older table");
}

#[test]
fn what_is_not_about_a_service_is_refused() {
    let before = loaded(BEFORE).plan;
    for text in ["[keepd]\necho = 'loud'\n", "[defaults]\nuser = true\n", "x = = 1\n"] {
        let text = format!("{text}[services.web]\ncommand = 5\n");
        let errors = load_keeping(&[source(&text)], &Context::default(), &before).unwrap_err();
        assert!(!errors.is_empty());
    }
}
