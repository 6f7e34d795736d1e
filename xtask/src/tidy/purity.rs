//! Pure crates, and the portable files of the library, touch nothing outside their arguments, and
//! below the manager nobody reads std's clock.

use super::finding::Finding;
use super::paths::{CodePath, paths};
use super::source::Source;

/// The crates that decide and translate, and never act.
const PURE: [&str; 5] = [
    "crates/keepd-model",
    "crates/keepd-engine",
    "crates/keepd-wire",
    "crates/keepd-compat",
    "crates/keepd-plan",
];

/// The files of the library that decide and translate: they hold no call of Linux, so they are the
/// same on every system.
const PORTABLE: [&str; 13] = [
    "crates/keepd/src/config/keys.rs",
    "crates/keepd/src/config/origin.rs",
    "crates/keepd/src/config/text.rs",
    "crates/keepd/src/config/tree.rs",
    "crates/keepd/src/config/validate.rs",
    "crates/keepd/src/coord.rs",
    "crates/keepd/src/error.rs",
    "crates/keepd/src/pool.rs",
    "crates/keepd/src/restart.rs",
    "crates/keepd/src/shutdown/slots.rs",
    "crates/keepd/src/shutdown/word.rs",
    "crates/keepd/src/subsystem/machine.rs",
    "crates/keepd/src/subsystem/words.rs",
];

/// The crates through which the library calls the kernel.
const KERNEL: [&str; 3] = ["rustix", "keepd_os", "libc"];

/// The crates that act, but by our own clock.
const OWN_CLOCK: [&str; 2] = ["crates/keepd-os", "crates/keepd-proxy"];

/// Something of std that is refused, and what to use instead.
struct Ban {
    path: &'static [&'static str],
    instead: &'static str,
}

const STD_INSTANT: Ban = Ban {
    path: &["std", "time", "Instant"],
    instead: "take a keepd_model::Instant as an argument",
};

const BANS: [Ban; 14] = [
    STD_INSTANT,
    Ban { path: &["std", "time", "SystemTime"], instead: "take the time as an argument" },
    Ban { path: &["std", "time", "UNIX_EPOCH"], instead: "take the time as an argument" },
    Ban { path: &["std", "fs"], instead: "take the bytes as an argument" },
    Ban {
        path: &["std", "net"],
        instead: "leave sockets and addresses to the shell around this crate",
    },
    Ban { path: &["std", "thread"], instead: "leave threads to the shell around this crate" },
    Ban { path: &["std", "env"], instead: "take what is needed of the environment as an argument" },
    Ban {
        path: &["std", "process"],
        instead: "return an output, and let the shell around this crate act",
    },
    Ban { path: &["std", "os"], instead: "leave descriptors and the kernel to keepd-os" },
    Ban { path: &["std", "io", "stdin"], instead: "take the bytes as an argument" },
    Ban { path: &["std", "io", "stdout"], instead: "return the text" },
    Ban { path: &["std", "io", "stderr"], instead: "return the text" },
    Ban { path: &["std", "hash", "RandomState"], instead: "take a seed as an argument" },
    Ban {
        path: &["std", "hash", "DefaultHasher"],
        instead: "write the few lines of a stable hash: this one may change with the compiler",
    },
];

const PRINTING: [&str; 4] = ["print", "println", "eprint", "eprintln"];

const RANDOM_ORDER: [&str; 2] = ["HashMap", "HashSet"];

/// Checks one file.
pub(crate) fn check(source: &Source<'_>) -> Vec<Finding> {
    let in_src =
        source.path.strip_prefix(source.package()).is_some_and(|rest| rest.starts_with("/src/"));
    if !in_src {
        return Vec::new();
    }
    if PORTABLE.contains(&source.path) {
        paths(&source.code)
            .iter()
            .filter(|path| !source.is_test(path.offset))
            .filter_map(|path| kernel_call(source, path).or_else(|| impurity(source, path)))
            .collect()
    } else if PURE.contains(&source.package()) {
        paths(&source.code).iter().filter_map(|path| impurity(source, path)).collect()
    } else if OWN_CLOCK.contains(&source.package()) {
        paths(&source.code)
            .iter()
            .filter(|path| !source.is_test(path.offset) && STD_INSTANT.matches(path))
            .map(|path| {
                let message = "std's clock is banned below the manager: use keepd_os::clock, which \
                               gives a keepd_model::Instant";
                source.finding(path.offset, "clock", message)
            })
            .collect()
    } else {
        Vec::new()
    }
}

/// Returns what ties a path in a portable file to a system.
fn kernel_call(source: &Source<'_>, path: &CodePath<'_>) -> Option<Finding> {
    let first = path.segments.first()?;
    let message = format!(
        "a portable file of the library does not name `{first}`: leave the kernel to a file that \
         is not listed in xtask/src/tidy/purity.rs"
    );
    KERNEL.contains(first).then(|| source.finding(path.offset, "purity", message))
}

/// Returns what is impure about a path in a pure crate, tests included: they run side by side, and
/// a test that reads a file or a clock is not repeatable. They may print.
fn impurity(source: &Source<'_>, path: &CodePath<'_>) -> Option<Finding> {
    let word = *path.segments.last()?;
    let message = if path.follower == Some(b'!') {
        if !PRINTING.contains(&word) || source.is_test(path.offset) {
            return None;
        }
        format!("a pure crate does not print with `{word}!`: return the text")
    } else if RANDOM_ORDER.iter().any(|name| path.segments.contains(name)) {
        "a pure crate has no HashMap or HashSet, whose order is random: use BTreeMap or BTreeSet"
            .to_owned()
    } else {
        let ban = BANS.iter().find(|ban| ban.matches(path))?;
        format!("a pure crate does not name `{}`: {}", ban.path.join("::"), ban.instead)
    };
    Some(source.finding(path.offset, "purity", message))
}

impl Ban {
    /// Reports whether a path names the banned thing, something in it, or everything around it. A
    /// path that begins with the banned thing's module (`time::Instant`) names it too.
    fn matches(&self, path: &CodePath<'_>) -> bool {
        let segments = path.segments.as_slice();
        let inside = |banned: &[&str]| segments.starts_with(banned);
        match segments.split_last() {
            Some((&"*", around)) if !around.is_empty() => {
                inside(self.path) || self.path.starts_with(around)
            }
            _ => inside(self.path) || (self.path.len() == 3 && inside(&self.path[1..])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path, text, false)).iter().map(ToString::to_string).collect()
    }

    fn count_in_engine(text: &str) -> usize {
        findings("crates/keepd-engine/src/a.rs", text).len()
    }

    #[test]
    fn clocks_files_and_the_rest_are_refused_in_every_spelling() {
        for bad in [
            "use std::time::{Duration, Instant};",
            "use std::{time};\nfn f() { time::Instant::now(); }",
            "fn f() { std::time::SystemTime::now(); }",
            "use std::time::*;",
            "use std::*;",
            "use std::fs;",
            "use std::{fmt, net::Ipv4Addr};",
            "fn f() { std::thread::spawn(g); }",
            "fn f() { std::env::var(NAME); }",
            "use std::process::ExitCode;",
            "use std::os::fd::OwnedFd;",
            "use std::io;\nfn f() { io::stdout(); }",
            "use std::collections::HashMap;",
            "use std::collections::hash_map::RandomState;\ntype A = std::hash::RandomState;",
            "fn f() { println!(); }",
            "fn f() { std::eprintln!(); }",
        ] {
            assert_eq!(count_in_engine(bad), 1, "{bad}");
        }
    }

    #[test]
    fn arguments_words_and_strings_are_pure() {
        for good in [
            "use std::time::Duration;\nuse keepd_model::Instant;",
            "fn f(now: Instant) { env!(\"X\"); option_env!(\"Y\"); std::env!(\"Z\"); }",
            "use std::io::{self, Write};",
            "// std::fs::read\nconst A: &str = \"std::fs and println!\";",
            "use std::collections::BTreeMap;",
            "#[cfg(test)]\nmod tests { fn f() { println!(); } }",
            "fn process() { self.process(); state::process(); }",
        ] {
            assert_eq!(count_in_engine(good), 0, "{good}");
        }
    }

    #[test]
    fn tests_of_pure_crates_are_pure_but_may_print() {
        let text = "#[cfg(test)]\nmod tests {\n use std::fs;\n}";
        assert_eq!(
            findings("crates/keepd-plan/src/a.rs", text),
            ["crates/keepd-plan/src/a.rs:3: purity: a pure crate does not name `std::fs`: \
                 take the bytes as an argument"]
        );
        assert!(findings("crates/keepd-plan/tests/a.rs", "use std::fs;").is_empty());
    }

    #[test]
    fn portable_files_of_the_library_are_pure_and_exist() {
        for bad in ["use rustix::fs::open;", "use std::env;", "fn f() { std::fs::read(p); }"] {
            assert_eq!(findings("crates/keepd/src/restart.rs", bad).len(), 1, "{bad}");
            assert!(findings("crates/keepd/src/pidfile.rs", bad).is_empty(), "{bad}");
        }
        let in_test = "#[cfg(test)]\nmod tests { use std::thread; }";
        assert!(findings("crates/keepd/src/pool.rs", in_test).is_empty());
        let root = crate::workspace::root();
        for path in PORTABLE {
            assert!(root.join(path).is_file(), "{path} has gone: mend the list");
        }
    }

    #[test]
    fn below_the_manager_only_our_own_clock_is_read() {
        let text = "use std::{fs, time::Instant};";
        assert_eq!(findings("crates/keepd-proxy/src/a.rs", text).len(), 1);
        assert_eq!(findings("crates/keepd-os/src/a.rs", text).len(), 1);
        assert!(findings("crates/keepd-manager/src/a.rs", text).is_empty());
        let in_test = "#[cfg(test)]\nmod tests { use std::time::Instant; }";
        assert!(findings("crates/keepd-os/src/a.rs", in_test).is_empty());
    }
}
