//! Which files the compiler reads: from the roots of each package along its `mod` lines. A file
//! that it never reads is dead, and its tests with it.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::finding::Finding;
use super::lexer;
use super::paths::paths;
use super::source::{end_of_attribute, is_test_condition, package};

/// The files that some root reaches.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    reached: BTreeSet<String>,
    reached_outside_tests: BTreeSet<String>,
}

/// A module that has a file of its own.
#[derive(Debug, PartialEq, Eq)]
struct Declaration {
    name: String,
    /// The file named by a `#[path]` above it.
    path: Option<String>,
    test_only: bool,
}

impl Modules {
    /// Follows the `mod` lines of all Rust files from the roots that cargo finds by itself and
    /// those that a manifest names.
    pub(crate) fn new(files: &BTreeMap<&str, &str>, manifests: &BTreeMap<&str, Table>) -> Self {
        let mut modules = Self::default();
        for path in files.keys() {
            let is_named = manifests
                .get(package(path))
                .is_some_and(|manifest| names_root(manifest, package(path), path));
            if is_root(path) || is_named {
                modules.follow(path, true, false, files);
            }
        }
        modules
    }

    /// Reports whether a file is compiled for tests only.
    pub(crate) fn is_test(&self, path: &str) -> bool {
        self.reached.contains(path) && !self.reached_outside_tests.contains(path)
    }

    /// Names the Rust files of packages that nothing reaches.
    pub(crate) fn check(
        &self,
        files: &BTreeMap<&str, &str>,
        manifests: &BTreeMap<&str, Table>,
    ) -> Vec<Finding> {
        files
            .keys()
            .filter(|path| manifests.contains_key(package(path)) && !self.reached.contains(**path))
            .map(|path| {
                let message = "no `mod` line leads to this file, so nothing compiles it: declare \
                               it or delete it";
                Finding::new(path, 1, "dead-file", message)
            })
            .collect()
    }

    fn follow(&mut self, path: &str, is_root: bool, in_test: bool, files: &BTreeMap<&str, &str>) {
        let Some(text) = files.get(path) else {
            return;
        };
        let new = self.reached.insert(path.to_owned());
        let new_outside = !in_test && self.reached_outside_tests.insert(path.to_owned());
        if !new && !new_outside {
            return;
        }
        for declaration in declarations(text) {
            for candidate in candidates(path, is_root, &declaration) {
                let in_test = in_test || declaration.test_only;
                self.follow(&candidate, false, in_test, files);
            }
        }
    }
}

/// Reports whether cargo takes a file as the root of a target by its place.
fn is_root(path: &str) -> bool {
    let Some(rest) = path.strip_prefix(package(path)) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    matches!(
        parts[..],
        ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["src", "bin", _]
            | ["src", "bin", _, "main.rs"]
            | ["tests" | "benches" | "examples", _]
            | ["tests" | "benches" | "examples", _, "main.rs"]
    )
}

/// Reports whether a manifest names a file as the root of a target.
fn names_root(manifest: &Table, folder: &str, path: &str) -> bool {
    ["lib", "bin", "test", "bench", "example"]
        .into_iter()
        .filter_map(|kind| manifest.get(kind))
        .flat_map(|value| match value {
            Value::Array(targets) => targets.iter().collect(),
            single => vec![single],
        })
        .filter_map(|target| target.get("path").and_then(Value::as_str))
        .any(|target| path.strip_prefix(folder) == Some(&format!("/{target}")))
}

/// Returns the files in which a module may live; exactly one of them exists.
fn candidates(parent: &str, is_root: bool, declaration: &Declaration) -> Vec<String> {
    let (folder, file) = parent.rsplit_once('/').unwrap_or(("", parent));
    if let Some(path) = &declaration.path {
        return vec![format!("{folder}/{path}")];
    }
    let stem = file.trim_end_matches(".rs");
    let folder =
        if is_root || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let name = &declaration.name;
    vec![format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
}

/// Returns the lines `mod NAME;` of a file, each with the attributes directly before it.
fn declarations(text: &str) -> Vec<Declaration> {
    let code = lexer::split(text).code;
    let all = paths(&code);
    let mut found = Vec::new();
    for pair in all.windows(2) {
        let [keyword, name] = pair else { continue };
        if keyword.segments != ["mod"] || name.follower != Some(b';') {
            continue;
        }
        // Attributes and visibility belong to the module; the item before it ends with one of
        // these.
        let start = code[..keyword.offset].rfind([';', '}', '{']).map_or(0, |offset| offset + 1);
        let head = &code[start..keyword.offset];
        found.push(Declaration {
            name: name.segments.join("::"),
            path: path_attribute(&text[start..keyword.offset], head),
            test_only: head.match_indices("#[cfg(").any(|(offset, _)| {
                end_of_attribute(head, offset)
                    .is_some_and(|end| is_test_condition(&head[offset..end]))
            }),
        });
    }
    found
}

/// Returns the string of `#[path = "…"]`; the code has its quotes, the text what is between them.
fn path_attribute(text: &str, code: &str) -> Option<String> {
    let attribute = code.find("#[path")?;
    let open = attribute + code[attribute..].find('"')? + 1;
    let length = code[open..].find('"')?;
    Some(text[open..open + length].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&'static str, &'static str)]) -> (Modules, Vec<String>) {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let manifest = "[[bin]]\nname = \"b\"\npath = \"src/b_main.rs\"\n";
        let manifests = BTreeMap::from([("crates/a", manifest.parse().unwrap())]);
        let modules = Modules::new(&files, &manifests);
        let dead = modules
            .check(&files, &manifests)
            .iter()
            .map(|finding| finding.to_string().split(':').next().unwrap().to_owned())
            .collect();
        (modules, dead)
    }

    #[test]
    fn files_without_a_mod_line_are_dead() {
        let (_, dead) = modules(&[
            ("crates/a/src/lib.rs", "mod b;\npub(crate) mod c;\n// mod d;\n"),
            ("crates/a/src/b.rs", "mod inner;"),
            ("crates/a/src/b/inner.rs", ""),
            ("crates/a/src/c/mod.rs", "mod deep;\n#[path = \"odd.rs\"]\nmod e;"),
            ("crates/a/src/c/deep.rs", ""),
            ("crates/a/src/c/odd.rs", ""),
            ("crates/a/src/d.rs", ""),
            ("crates/a/src/inner.rs", ""),
            ("crates/a/src/b_main.rs", ""),
            ("crates/a/src/bin/tool.rs", ""),
            ("examples/no-package.rs", ""),
        ]);
        assert_eq!(dead, ["crates/a/src/d.rs", "crates/a/src/inner.rs"]);
    }

    #[test]
    fn files_of_tests_are_found_by_cargo_or_declared() {
        let (_, dead) = modules(&[
            ("crates/a/tests/one.rs", ""),
            ("crates/a/tests/system/main.rs", "mod b100_start;"),
            ("crates/a/tests/system/b100_start.rs", ""),
            ("crates/a/tests/system/b200_forgotten.rs", ""),
        ]);
        assert_eq!(dead, ["crates/a/tests/system/b200_forgotten.rs"]);
    }

    #[test]
    fn modules_under_cfg_test_are_tests_with_all_below_them() {
        let (modules, _) = modules(&[
            ("crates/a/src/lib.rs", "#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\nmod b;\n"),
            ("crates/a/src/t.rs", "mod c;"),
            ("crates/a/src/t/c.rs", ""),
            ("crates/a/src/b.rs", ""),
        ]);
        assert!(modules.is_test("crates/a/src/t.rs"));
        assert!(modules.is_test("crates/a/src/t/c.rs"));
        assert!(!modules.is_test("crates/a/src/b.rs"));
    }
}
