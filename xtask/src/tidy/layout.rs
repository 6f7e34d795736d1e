//! The shape of texts: widths, lengths, white space.

use super::finding::Finding;

/// The widest line of Rust, in characters.
const COLUMNS_MAX: usize = 100;

/// The longest Rust file.
const LINES_MAX: usize = 800;

/// Checks the white space of any text of ours.
pub(crate) fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.trim_end() != line {
            findings.push(Finding::new(
                path,
                index + 1,
                "white-space",
                "remove the white space at the end of the line (in a string, write \\x20)",
            ));
        }
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        let line = text.lines().count().max(1);
        let message = "end the file with exactly one line end";
        findings.push(Finding::new(path, line, "white-space", message));
    }
    findings
}

/// Checks widths, indentation and length of a Rust file.
pub(crate) fn check_rust(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let width = line.chars().count();
        let has_address = line.contains("https://") || line.contains("http://");
        if width > COLUMNS_MAX && !has_address {
            let message = format!("the line has {width} columns of {COLUMNS_MAX}: break it");
            findings.push(Finding::new(path, index + 1, "width", message));
        }
        let indentation = &line[..line.len() - line.trim_start().len()];
        if indentation.contains('\t') {
            let message = "indent with spaces (in a string, write \\t)";
            findings.push(Finding::new(path, index + 1, "tab", message));
        }
    }
    let count = text.lines().count();
    if count > LINES_MAX {
        let message =
            format!("the file has {count} lines of {LINES_MAX}: split it by what its parts do");
        findings.push(Finding::new(path, LINES_MAX + 1, "length", message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_ink_and_files_with_one_line_end() {
        assert!(check_text("a.md", "a\n\nb\n").is_empty());
        assert!(check_text("a.md", "").is_empty());
        assert_eq!(check_text("a.md", "a \nb\t\n").len(), 2);
        assert_eq!(check_text("a.md", "a\r\n").len(), 1);
        assert_eq!(check_text("a.md", "a").len(), 1);
        assert_eq!(check_text("a.md", "a\n\n").len(), 1);
    }

    #[test]
    fn lines_are_at_most_100_columns_wide() {
        let wide = |count: usize| check_rust("a.rs", &"é".repeat(count)).len();
        assert_eq!((wide(100), wide(101)), (0, 1));
        let address = format!("// https://{}", "a".repeat(100));
        assert!(check_rust("a.rs", &address).is_empty());
    }

    #[test]
    fn indentation_is_spaces() {
        assert!(check_rust("a.rs", "    a\tb\n").is_empty());
        assert_eq!(check_rust("a.rs", " \ta\n").len(), 1);
    }

    #[test]
    fn files_are_at_most_800_lines_long() {
        assert!(check_rust("a.rs", &"a\n".repeat(800)).is_empty());
        assert_eq!(check_rust("a.rs", &"a\n".repeat(801)).len(), 1);
    }
}
