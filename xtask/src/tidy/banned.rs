//! Words that are not written here: empty names, leftovers, silenced warnings, ignored tests,
//! sleeps in tests, and paths of somebody's machine.

use super::finding::Finding;
use super::lexer::is_word;
use super::paths::paths;
use super::source::Source;

/// Names that say nothing about what a module holds.
const MODULES: [&str; 6] = ["util", "utils", "common", "misc", "imp", "helpers"];

/// Packages that are not shipped: a failed `unwrap` there is a failed test.
const FOR_DEVELOPERS: [&str; 3] = ["xtask", "crates/keepd-testkit", "crates/keepd-e2e"];

/// Packages that are tests in all but their folder.
const FOR_TESTS: [&str; 2] = ["crates/keepd-testkit", "crates/keepd-e2e"];

/// Where machines keep their checkouts. In pieces, for this file is checked too.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "tmp/t-")];

/// Checks one Rust file.
pub(crate) fn check(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    module_names(source, &mut findings);
    attributes_and_calls(source, &mut findings);
    sleeps(source, &mut findings);
    markers(source, &mut findings);
    findings
}

fn module_names(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let all = paths(&source.code);
    for pair in all.windows(2) {
        if let [keyword, name] = pair
            && keyword.segments == ["mod"]
            && let [word] = name.segments[..]
            && MODULES.contains(&word)
        {
            let message = format!("\"{word}\" says nothing: name the module after what it does");
            findings.push(source.finding(name.offset, "name", message));
        }
    }
}

fn attributes_and_calls(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let mut refuse = |pattern: &str, outside_tests: bool, message: &str| {
        for (offset, _) in source.code.match_indices(pattern) {
            let inside_word = offset > 0
                && is_word(pattern.as_bytes()[0])
                && is_word(source.code.as_bytes()[offset - 1]);
            let exempt = outside_tests && source.is_test(offset);
            if !inside_word && !exempt {
                findings.push(source.finding(offset, "banned", message));
            }
        }
    };
    for pattern in ["#[allow(", "#![allow("] {
        let message = "write #[expect(…, reason = \"…\")]: it goes when its cause goes";
        refuse(pattern, false, message);
    }
    for pattern in ["#[ignore]", "#[ignore ="] {
        let message = "an ignored test rots: let it print `SKIPPED: reason`, append the line to \
                       the file named by KEEPD_TEST_SKIPS, and return";
        refuse(pattern, false, message);
    }
    refuse("dbg!", false, "remove the leftover dbg!");
    if !FOR_DEVELOPERS.contains(&source.package()) {
        let message = "handle the error, or `expect` with the invariant that excludes it";
        refuse(".unwrap()", true, message);
    }
}

/// A test that sleeps is slow where the machine is quick and wrong where it is slow.
fn sleeps(source: &Source<'_>, findings: &mut Vec<Finding>) {
    for path in paths(&source.code) {
        let sleeps =
            matches!(path.segments[..], [.., "thread" | "time", "sleep"] | [.., "nanosleep"]);
        let in_test = FOR_TESTS.contains(&source.package()) || source.is_test(path.offset);
        if sleeps && in_test {
            let message = "a test does not sleep: wait for the event, with a deadline";
            findings.push(source.finding(path.offset, "sleep", message));
        }
    }
}

/// Leftover marks in comments.
fn markers(source: &Source<'_>, findings: &mut Vec<Finding>) {
    for mark in ["FIXME", "XXX", "TODO"] {
        for (offset, _) in source.comments.match_indices(mark) {
            let around = source.comments.as_bytes();
            let end = offset + mark.len();
            let inside_word = (offset > 0 && is_word(around[offset - 1]))
                || around.get(end).is_some_and(|byte| is_word(*byte));
            let has_issue = mark == "TODO" && names_issue(&source.comments[end..]);
            if !inside_word && !has_issue {
                let message = format!("{mark}: do it now, or open an issue and write TODO(#12)");
                findings.push(source.finding(offset, "marker", message));
            }
        }
    }
}

/// Reports whether a text begins with `(#12)`.
fn names_issue(text: &str) -> bool {
    text.strip_prefix("(#")
        .and_then(|rest| rest.split_once(')'))
        .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

/// Checks any text of ours for paths that exist on one machine only.
pub(crate) fn check_machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for machine_path in MACHINE_PATHS {
            let begins_there = line.match_indices(machine_path).any(|(offset, _)| {
                // Further into a path or an address the folder may have any name.
                offset == 0
                    || !is_word(line.as_bytes()[offset - 1])
                        && !b"./-}".contains(&line.as_bytes()[offset - 1])
            });
            if begins_there {
                let message = format!("\"{machine_path}…\" exists on one machine only");
                findings.push(Finding::new(path, index + 1, "machine-path", message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Source::new(path, text, false)).len()
    }

    fn count_in_cli(text: &str) -> usize {
        count("crates/keepd-cli/src/a.rs", text)
    }

    #[test]
    fn modules_have_names_that_say_something() {
        assert_eq!(count_in_cli("mod utils;\npub mod common {}"), 2);
        assert_eq!(count_in_cli("mod clock;\nfn common() { util::a(); }"), 0);
    }

    #[test]
    fn warnings_are_expected_and_never_allowed() {
        assert_eq!(count_in_cli("#[allow(dead_code)]\n#![allow(x)]"), 2);
        assert_eq!(count_in_cli("#[expect(dead_code, reason = \"x\")]"), 0);
    }

    #[test]
    fn tests_are_skipped_aloud_and_never_ignored() {
        assert_eq!(count_in_cli("#[ignore]\nfn a() {}\n#[ignore = \"slow\"]\nfn b() {}"), 2);
        assert_eq!(count_in_cli("// #[ignore]\nfn a() {}"), 0);
    }

    #[test]
    fn unwrap_is_for_tests() {
        assert_eq!(count_in_cli("fn a() { b().unwrap(); dbg!(c); }"), 2);
        assert_eq!(count_in_cli("fn a() { b().unwrap_or(c); my_dbg!(c); }"), 0);
        assert_eq!(count_in_cli("#[cfg(test)]\nmod tests { fn a() { b().unwrap(); } }"), 0);
        assert_eq!(count("crates/keepd-testkit/src/a.rs", "b().unwrap()"), 0);
        assert_eq!(count("crates/keepd-os/tests/a.rs", "b().unwrap()"), 0);
    }

    #[test]
    fn tests_do_not_sleep() {
        let text = "use std::thread::sleep;\nfn a() { tokio::time::sleep(b); }";
        assert_eq!(count("crates/keepd-os/tests/a.rs", text), 2);
        assert_eq!(count("crates/keepd-e2e/src/a.rs", text), 2);
        assert_eq!(count_in_cli(text), 0);
        let in_module = format!("#[cfg(test)]\nmod tests {{ {text} }}");
        assert_eq!(count_in_cli(&in_module), 2);
        let harmless = "fn a() { command(\"sleep\"); tokio::time::timeout(b, c); }";
        assert_eq!(count("crates/keepd-e2e/src/a.rs", harmless), 0);
    }

    #[test]
    fn marks_name_an_issue() {
        assert_eq!(count_in_cli("// FIXME\n// TODO later\n/* XXX */"), 3);
        assert_eq!(count_in_cli("// TODO(#)\n// TODO(me)"), 2);
        assert_eq!(count_in_cli("// TODO(#12): later\n// mktemp XXXXXX"), 0);
        assert_eq!(count_in_cli("const A: &str = \"TODO\";"), 0);
    }

    #[test]
    fn paths_of_one_machine_are_found_where_they_begin() {
        for machine_path in MACHINE_PATHS {
            let bad = format!("see {machine_path}x");
            assert_eq!(check_machine_paths("a.md", &bad).len(), 1, "{bad}");
            let good = format!("https://example.org{machine_path}x");
            assert!(check_machine_paths("a.md", &good).is_empty(), "{good}");
        }
        assert!(check_machine_paths("a.md", "mkdir /tmp/a").is_empty());
    }
}
