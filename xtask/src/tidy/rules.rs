//! Every rule, put to every file it is about.

use std::collections::BTreeMap;

use toml::Table;

use super::finding::Finding;
use super::modules::Modules;
use super::source::{Source, package};
use super::tree::Tree;
use super::{banned, blobs, citations, edges, layout, links, opening, purity, unsafety, versions};
use crate::outcome::{Failure, Verdict, no_arguments};
use crate::workspace::root;

/// Runs `cargo xtask tidy`.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    no_arguments("tidy", arguments)?;
    let tree = Tree::read(root())?;
    let findings = check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    let files = tree.files.len();
    match findings.len() {
        0 => println!("tidy: {files} files are tidy"),
        1 => println!("tidy: 1 finding in {files} files"),
        count => println!("tidy: {count} findings in {files} files"),
    }
    Ok(Verdict::from_good(findings.is_empty()))
}

/// Returns all findings in order.
fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in &tree.files {
        findings.extend(blobs::check(path, file.bytes));
    }
    for (path, text) in tree.texts_all() {
        findings.extend(layout::check_text(path, text));
        findings.extend(banned::check_machine_paths(path, text));
    }
    let known = tree.paths_and_folders();
    for (path, text) in tree.texts(".md") {
        findings.extend(links::check(path, text, |target| known.contains(target)));
    }
    let manifests = check_manifests(tree, &mut findings);
    check_rust(tree, &manifests, &mut findings);
    findings.sort();
    findings
}

/// Checks every `Cargo.toml`, and returns them by the folders of their packages.
fn check_manifests<'a>(tree: &'a Tree, findings: &mut Vec<Finding>) -> BTreeMap<&'a str, Table> {
    let mut manifests = BTreeMap::new();
    for (path, text) in tree.texts("Cargo.toml") {
        let manifest: Table = match text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                let message = format!("cannot parse the manifest: {error}");
                findings.push(Finding::new(path, 1, "version", message));
                continue;
            }
        };
        if path == "Cargo.toml" {
            findings.extend(versions::check_root(path, text, &manifest));
        } else if manifest.get("workspace").is_none() {
            findings.extend(versions::check_member(path, text, &manifest));
            findings.extend(edges::check(path, text, &manifest));
        } else {
            let has_lock = |lock: &str| tree.files.contains_key(lock);
            findings.extend(versions::check_workspace(path, text, &manifest, has_lock));
        }
        manifests.insert(package(path), manifest);
    }
    manifests
}

/// Checks every Rust file.
fn check_rust(tree: &Tree, manifests: &BTreeMap<&str, Table>, findings: &mut Vec<Finding>) {
    let files: BTreeMap<&str, &str> = tree.texts(".rs").collect();
    let modules = Modules::new(&files, manifests);
    findings.extend(modules.check(&files, manifests));
    let behaviour =
        tree.files.get(citations::PAGE).and_then(|file| file.text.as_deref()).unwrap_or_default();
    let numbers = citations::numbers(behaviour);
    for (path, text) in &files {
        findings.extend(layout::check_rust(path, text));
        findings.extend(opening::check(path, text));
        let source = Source::new(path, text, modules.is_test(path));
        findings.extend(purity::check(&source));
        findings.extend(unsafety::check(&source));
        findings.extend(banned::check(&source));
        findings.extend(citations::check(&source, &numbers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::File;

    #[test]
    fn the_checkout_is_tidy() {
        let findings = check(&Tree::read(root()).unwrap());
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
    }

    #[test]
    fn every_kind_of_rule_is_put_to_its_files() {
        let files = [
            ("Cargo.toml", "[workspace.dependencies]\ntoml = \"*\"\n"),
            ("crates/keepd-wire/Cargo.toml", "[dependencies]\nkeepd-os = \"1\"\n"),
            (
                "crates/keepd-wire/src/lib.rs",
                "mod common;\n\tuse std::fs;\nfn f() { unsafe {} } // (behaviour 1.1)\n",
            ),
            ("crates/keepd-wire/src/dead.rs", "// TODO\n"),
            ("docs/a.md", "[a](b.md)\n"),
            ("README.md", concat!("see /", "root/a \n")),
        ];
        let mut tree = Tree::default();
        for (path, text) in files {
            let text = Some(text.to_owned());
            tree.files.insert(path.to_owned(), File { bytes: 1, text });
        }
        let bytes = 1 << 20;
        tree.files.insert("a.bin".to_owned(), File { bytes, text: None });
        let mut rules: Vec<String> = check(&tree)
            .iter()
            .map(|finding| finding.to_string().split(": ").nth(1).unwrap().to_owned())
            .collect();
        rules.sort();
        rules.dedup();
        assert_eq!(
            rules,
            [
                "blob",
                "citation",
                "dead-file",
                "edge",
                "link",
                "machine-path",
                "marker",
                "name",
                "opening",
                "purity",
                "tab",
                "unsafe",
                "version",
                "white-space"
            ]
        );
    }
}
