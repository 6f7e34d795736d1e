//! Links between pages lead somewhere.

use super::finding::Finding;

/// Checks the relative links of one page; `exists` knows the files and folders of the checkout.
pub(crate) fn check(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_fence = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            in_fence = !in_fence;
            continue;
        }
        if in_fence {
            continue;
        }
        for target in targets(&without_code(line)) {
            if is_relative(&target) && !resolve(path, &target).is_some_and(|file| exists(&file)) {
                let message = format!("\"{target}\" leads nowhere: correct or remove the link");
                findings.push(Finding::new(path, index + 1, "link", message));
            }
        }
    }
    findings
}

/// Blanks the `code` in a line.
fn without_code(line: &str) -> String {
    line.split('`')
        .enumerate()
        .map(|(index, part)| if index % 2 == 0 { part } else { " " })
        .collect()
}

/// Returns the targets of `[text](target)` and of `[name]: target`.
fn targets(line: &str) -> Vec<String> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let definition = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .and_then(|(_, rest)| rest.split_whitespace().next());
    inline.chain(definition).map(|target| target.trim_matches(['<', '>']).to_owned()).collect()
}

/// Reports whether a target is a file of ours: not an address, and not a place in the same page.
fn is_relative(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:") && !target.starts_with('#')
}

/// Returns the path of a target from the root of the checkout, or nothing if it leaves that.
fn resolve(page: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default();
    let (folder, target) = match target.strip_prefix('/') {
        Some(from_root) => ("", from_root),
        None => (page.rsplit_once('/').map_or("", |(folder, _)| folder), target),
    };
    let mut parts = Vec::new();
    for part in folder.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        let files = ["docs/a.md", "docs/design", "README.md"];
        check("docs/page.md", text, |path| files.contains(&path)).len()
    }

    #[test]
    fn relative_links_resolve_from_their_page() {
        let good =
            "[a](a.md) ![b](../README.md \"title\") [c](a.md#top) [d](design/) [e](/README.md)";
        assert_eq!(count(good), 0);
        assert_eq!(count("[a](b.md) and [c](../../README.md)"), 2);
        assert_eq!(count("[a]: a.md\n[b]: gone.md"), 1);
    }

    #[test]
    fn addresses_and_code_are_left_alone() {
        assert_eq!(count("[a](https://example.org/b) [c](#top) [d](mailto:e@example.org)"), 0);
        assert_eq!(count("`[a](b.md)`\n```\n[a](b.md)\n```"), 0);
        assert_eq!(count("```\n```\n[a](b.md)"), 1);
    }
}
