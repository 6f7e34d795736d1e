//! Every third-party version stands once, in the root's `[workspace.dependencies]`.

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
