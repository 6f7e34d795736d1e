//! Every crate opens with what it is, what it does not contain, and where to start.

use super::finding::Finding;
use super::source::package;

/// The shortest opening.
const LINES_MIN: usize = 3;

/// Checks a file, if it is the root of a library or a program.
pub(crate) fn check(path: &str, text: &str) -> Option<Finding> {
    let in_package = path.strip_prefix(package(path))?;
    let is_root =
        matches!(in_package, "/src/lib.rs" | "/src/main.rs") || in_package.starts_with("/src/bin/");
    if !is_root {
        return None;
    }
    let opening: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .filter(|line| !line.trim().is_empty())
        .collect();
    let placeholder = opening.iter().any(|line| line.trim() == "(opening)");
    (placeholder || opening.len() < LINES_MIN).then(|| {
        let message = format!(
            "open the crate with at least {LINES_MIN} lines of `//!`: what it is, what it does not \
             contain, which one or two items to start from"
        );
        Finding::new(path, 1, "opening", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_open_with_three_lines() {
        let good = "//! The words.\n//!\n//! No clock.\n//! Start from [`A`].\n\nmod a;\n";
        assert_eq!(check("crates/keepd-os/src/lib.rs", good), None);
        assert!(check("crates/keepd-os/src/lib.rs", "//! One.\n//! Two.\n").is_some());
        assert!(check("xtask/src/main.rs", "fn main() {}\n").is_some());
        assert!(check("crates/keepd-os/src/bin/a.rs", "").is_some());
        let placeholder = "//! (opening)\n//! b\n//! c\n";
        assert!(check("crates/keepd-os/src/lib.rs", placeholder).is_some());
    }

    #[test]
    fn modules_may_open_shortly() {
        assert_eq!(check("crates/keepd-os/src/clock.rs", "//! Clocks.\n"), None);
    }
}
