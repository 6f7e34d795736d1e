//! What is said about groups, order and edges.

use keepd_plan::Diagnostic;

use crate::{errors, loaded};

#[test]
fn a_group_has_nothing_to_run() {
    let text = "[services.web]
command = 'x'
[services.site]
kind = 'group'
command = 'x'
depends_on = ['web']
env.A = '1'
ready.port = 80
restart = 'never'
log = { mode = 'null' }
user = 'app'
";
    let hint = "\n  hint: a group takes description, enabled, tags, depends_on, after and before";
    let refused = |place: &str, key: &str, hint: &str| {
        format!(
            "keepd.toml:{place}: cannot use key \"{key}\" in service \"site\": a group has no \
             process{hint}"
        )
    };
    assert_eq!(
        errors(text),
        [
            refused("5:1", "command", "\n  hint: leave out kind for a service with a command"),
            refused("7:5", "env.A", hint),
            refused("8:7", "ready.port", hint),
            refused("9:1", "restart", hint),
            refused("10:9", "log.mode", hint),
            refused("11:1", "user", hint),
        ]
    );
}

#[test]
fn a_group_without_members_is_warned_of() {
    let said = |text: &str| -> Vec<String> {
        loaded(text).warnings.iter().map(Diagnostic::to_string).collect()
    };
    assert_eq!(
        said("[services.site]\nkind = 'group'"),
        ["keepd.toml:2:8: group \"site\" has no members, so it is ready at once\n  hint: list \
             them: depends_on = [\"SERVICE\"]"]
    );
    let full =
        "[services.site]\nkind = 'group'\ndepends_on = ['web']\n[services.web]\ncommand = 'x'";
    assert!(said(full).is_empty());
}

#[test]
fn nobody_waits_for_the_end_of_a_group() {
    let text = "[services]
web = { command = 'x' }
site = { kind = 'group', depends_on = ['web'] }
a = { command = 'x', depends_on.site.until = 'done' }
b = { command = 'x', depends_on.site.until = 'exited' }
c = { command = 'x', depends_on.site.until = 'started' }
d = { command = 'x', depends_on.site.until = 'ready' }
";
    assert_eq!(
        errors(text),
        [
            "keepd.toml:4:46: cannot wait in service \"a\" until \"site\" is done: a group never \
             ends\n  hint: write until = \"ready\"",
            "keepd.toml:5:46: cannot wait in service \"b\" until \"site\" exited: a group never \
             ends\n  hint: write until = \"ready\"",
        ]
    );
}

#[test]
fn names_of_an_order_are_checked() {
    let text = "[services.web]
command = 'x'
after = ['web', 'db', 'db', 'dbb', 5]
before = 'db'
[services.db]
command = 'x'
after = ['zzzzzz']
before = ['dc']
";
    assert_eq!(
        errors(text),
        [
            "keepd.toml:3:36: cannot use 5 for \"after\" in service \"web\": it takes strings",
            "keepd.toml:4:10: cannot use \"db\" for \"before\" in service \"web\": it takes an \
             array of strings\n  hint: write [\"db\"]",
            "keepd.toml:7:10: cannot find service \"zzzzzz\", which service \"db\" starts after",
            "keepd.toml:8:11: cannot find service \"dc\", which service \"db\" starts before",
        ]
    );
    let text = text.replace(", 5]", "]").replace("before = 'db'", "");
    assert_eq!(
        errors(&text)[..3],
        [
            "keepd.toml:3:10: cannot order service \"web\" after itself",
            "keepd.toml:3:23: cannot name \"db\" twice for \"after\" in service \"web\"",
            "keepd.toml:3:29: cannot find service \"dbb\", which service \"web\" starts after\n  \
             hint: the nearest service is \"db\"",
        ]
    );
    assert_eq!(
        errors("[defaults]\nafter = ['web']"),
        ["keepd.toml:2:1: cannot use key \"after\" in table \"defaults\": each service has its \
             own"]
    );
}

#[test]
fn all_relations_together_have_no_cycle() {
    let hint = "\n  hint: \"a -> b\" means that a starts after b; \"(after)\" and \"(before)\" \
                name the key where it is not depends_on";
    let text = "[services.web]
command = 'x'
depends_on = ['db']
[services.db]
command = 'x'
after = ['cache']
[services.cache]
command = 'x'
[services.log]
command = 'x'
after = ['web']
before = ['cache']
";
    assert_eq!(
        errors(text),
        [format!(
            "keepd.toml:11:10: cannot order services: web -> db -> cache (after) -> log (before) \
             -> web (after){hint}"
        )]
    );
    assert_eq!(
        errors(
            "[services]\na = { command = 'x', after = ['b'] }\nb = { command = 'x', after = ['a'] }"
        ),
        [format!("keepd.toml:3:31: cannot order services: a -> b (after) -> a (after){hint}")]
    );
    assert_eq!(
        errors(
            "[services]\na = { command = 'x', before = ['b'] }\nb = { command = 'x', before = \
             ['a'] }"
        ),
        [format!("keepd.toml:2:32: cannot order services: a -> b (before) -> a (before){hint}")]
    );
    assert_eq!(
        errors(
            "[services]\nweb = { command = 'x', depends_on = ['all-of-it'] }\nall-of-it = { kind = \
             'group', depends_on = ['web'] }"
        ),
        ["keepd.toml:3:45: cannot order services: web -> all-of-it -> web"]
    );
}
