//! Every third-party version stands once, in the root's `[workspace.dependencies]`. A workspace of
//! its own, which is not shipped, has its own versions and its own lockfile.

use toml::{Table, Value};

use super::edges::{dependencies, line_of_key};
use super::finding::Finding;

const RULE: &str = "version";

/// Checks the `Cargo.toml` of a member: it takes over every dependency from the workspace.
pub(crate) fn check_member(path: &str, text: &str, manifest: &Table) -> Vec<Finding> {
    dependencies(manifest)
        .into_iter()
        .filter(|dependency| {
            dependency.value.get("workspace").and_then(Value::as_bool) != Some(true)
        })
        .map(|dependency| {
            let name = &dependency.name;
            let message = format!(
                "write `{name}.workspace = true` here, and version and path once in \
                 [workspace.dependencies] of the root"
            );
            Finding::new(path, line_of_key(text, name), RULE, message)
        })
        .collect()
}

/// Checks the `Cargo.toml` of a workspace beside that of the root: its versions are pinned by a
/// lockfile beside it, and come from the registry.
pub(crate) fn check_workspace(
    path: &str,
    text: &str,
    manifest: &Table,
    has_file: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lock = path.replace("Cargo.toml", "Cargo.lock");
    if !has_file(&lock) {
        let message = format!("commit \"{lock}\": it pins what a workspace of its own is built of");
        findings.push(Finding::new(path, 1, RULE, message));
    }
    for dependency in dependencies(manifest) {
        let (name, value) = (&dependency.name, dependency.value);
        let version = value.as_str().or_else(|| value.get("version")?.as_str());
        let is_pinned = version.is_some_and(|version| is_caret(version.trim_start_matches('=')));
        let is_ours = name.starts_with("keepd") && value.get("path").is_some();
        if !is_ours && (!is_pinned || value.get("git").is_some()) {
            let message =
                "take a released version from the registry, such as \"1.2\" or \"=1.2.3\"";
            findings.push(Finding::new(path, line_of_key(text, name), RULE, message));
        }
    }
    findings
}

/// Checks the root's table: an own crate has a path, a third-party one a version from the registry.
pub(crate) fn check_root(path: &str, text: &str, manifest: &Table) -> Vec<Finding> {
    let table = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(Value::as_table);
    let mut findings = Vec::new();
    for (name, value) in table.into_iter().flatten() {
        let own = name.starts_with("keepd");
        let version = value.as_str().or_else(|| value.get("version")?.as_str());
        let message = if own && value.get("path").is_none() {
            "give the crate's path: our own crates come from this checkout"
        } else if own {
            continue;
        } else if value.get("git").is_some() || value.get("path").is_some() {
            "take a released version from the registry: sources are pinned by Cargo.lock alone"
        } else if !version.is_some_and(is_caret) {
            "write a plain version such as \"1.2\": it means every compatible one, and Cargo.lock \
             pins it"
        } else {
            continue;
        };
        findings.push(Finding::new(path, line_of_key(text, name), RULE, message));
    }
    findings
}

/// Reports whether a version is a plain one, such as `1.2`.
fn is_caret(version: &str) -> bool {
    version.starts_with(|letter: char| letter.is_ascii_digit())
        && !version.contains(['*', ',', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> usize {
        check_member("crates/a/Cargo.toml", text, &text.parse().unwrap()).len()
    }

    fn root(text: &str) -> usize {
        check_root("Cargo.toml", text, &text.parse().unwrap()).len()
    }

    #[test]
    fn members_take_versions_from_the_workspace() {
        assert_eq!(member("[dependencies]\ntoml.workspace = true\n"), 0);
        assert_eq!(
            member("[dependencies]\ntoml = { workspace = true, features = [\"serde\"] }\n"),
            0
        );
        assert_eq!(member("[dependencies]\ntoml = \"1\"\n"), 1);
        assert_eq!(member("[dependencies]\na = { path = \"../a\" }\n"), 1);
        assert_eq!(member("[dev-dependencies]\ninsta = { version = \"1\" }\n"), 1);
    }

    #[test]
    fn a_workspace_of_its_own_is_pinned_by_its_lockfile() {
        let check = |line: &str, has_lock: bool| {
            let text = format!("[workspace]\n[dependencies]\n{line}\n");
            let manifest = text.parse().unwrap();
            let has_file = |path: &str| has_lock && path == "a/Cargo.lock";
            check_workspace("a/Cargo.toml", &text, &manifest, has_file).len()
        };
        assert_eq!(check("toml = \"=1.2.3\"", true), 0);
        assert_eq!(check("toml = { version = \"1\" }", true), 0);
        assert_eq!(check("keepd-os = { path = \"../b\" }", true), 0);
        assert_eq!(check("", false), 1);
        assert_eq!(check("toml = { git = \"x\" }", true), 1);
        assert_eq!(check("toml = \"*\"", false), 2);
    }

    #[test]
    fn the_root_has_plain_versions_and_own_paths() {
        let entry = |line: &str| format!("[workspace.dependencies]\n{line}\n");
        assert_eq!(root(&entry("toml = \"1.2\"")), 0);
        assert_eq!(root(&entry("toml = { version = \"1.2\" }")), 0);
        assert_eq!(root(&entry("toml = \"*\"")), 1);
        assert_eq!(root(&entry("toml = \"=1.2.3\"")), 1);
        assert_eq!(root(&entry("toml = { git = \"x\" }")), 1);
        assert_eq!(root(&entry("keepd-os = { path = \"crates/keepd-os\" }")), 0);
        assert_eq!(root(&entry("keepd-os = \"1\"")), 1);
    }
}
