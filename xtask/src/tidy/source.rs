//! One Rust file, taken apart once for all rules.

use std::ops::Range;

use super::finding::{Finding, line_at};
use super::lexer::{self, Parts};

/// A Rust file: where it is, what it says, and which of it is only for tests.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// From the root of the checkout, with `/`.
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    /// The code without comments and literals, at the same offsets.
    pub(crate) code: String,
    /// The comments alone, at the same offsets.
    pub(crate) comments: String,
    test_file: bool,
    test_items: Vec<Range<usize>>,
}

impl<'a> Source<'a> {
    /// Takes a file apart. `test_file` says that the module is declared under `#[cfg(test)]`; files
    /// in a crate's `tests` folder need not be told.
    pub(crate) fn new(path: &'a str, text: &'a str, test_file: bool) -> Self {
        let Parts { code, comments } = lexer::split(text);
        let test_items = test_items(&code);
        Self {
            path,
            text,
            code,
            comments,
            test_file: test_file || is_integration_test(path),
            test_items,
        }
    }

    /// Returns the folder of the package: `crates/NAME`, `bench/NAME`, or the first folder.
    pub(crate) fn package(&self) -> &'a str {
        package(self.path)
    }

    /// Reports whether the code at an offset is compiled for tests only.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.test_file || self.test_items.iter().any(|item| item.contains(&offset))
    }

    /// Makes a finding at an offset.
    pub(crate) fn finding(
        &self,
        offset: usize,
        rule: &'static str,
        message: impl Into<String>,
    ) -> Finding {
        Finding::new(self.path, line_at(self.text, offset), rule, message)
    }
}

/// Folders that hold a package in each of their folders.
const HOLDERS: [&str; 2] = ["crates/", "bench/"];

/// Returns the folder of the package that a file belongs to.
pub(crate) fn package(path: &str) -> &str {
    let slashes = usize::from(HOLDERS.iter().any(|holder| path.starts_with(holder)));
    path.match_indices('/').nth(slashes).map_or("", |(offset, _)| &path[..offset])
}

fn is_integration_test(path: &str) -> bool {
    path.strip_prefix(package(path)).is_some_and(|rest| rest.starts_with("/tests/"))
}

/// Returns the places of items under an attribute `#[cfg(…)]` that names `test`.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    for (offset, _) in code.match_indices("#[cfg(") {
        let Some(end) = end_of_attribute(code, offset) else {
            continue;
        };
        if is_test_condition(&code[offset..end]) {
            items.push(offset..end_of_item(code, end));
        }
    }
    items
}

/// Reports whether an attribute holds its item back from every build but that of tests.
pub(crate) fn is_test_condition(attribute: &str) -> bool {
    let condition: String = attribute.chars().filter(|letter| !letter.is_whitespace()).collect();
    condition == "#[cfg(test)]" || condition.starts_with("#[cfg(all(test,")
}

/// Returns the offset behind the `]` that closes the attribute at `offset`.
pub(crate) fn end_of_attribute(code: &str, offset: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(offset) {
        match byte {
            b'[' => depth += 1,
            b']' if depth == 1 => return Some(index + 1),
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Returns the offset behind the item at `offset`: behind its first pair of braces, or behind the
/// semicolon of an item without.
fn end_of_item(code: &str, offset: usize) -> usize {
    let mut braces = 0_usize;
    let mut brackets = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(offset) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b'{' => braces += 1,
            b'}' if braces <= 1 => return index + 1,
            b'}' => braces -= 1,
            b';' if braces == 0 && brackets == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_test(text: &str, word: &str) -> bool {
        let source = Source::new("crates/keepd-wire/src/a.rs", text, false);
        source.is_test(text.find(word).unwrap())
    }

    #[test]
    fn items_for_tests_are_told_from_the_rest() {
        let text = "fn a() { one }\n#[cfg(test)]\n#[x([1; 2])]\nmod tests {\n fn b() { two }\n \
                    three }\nfn c() { four }";
        assert!(!is_test(text, "one"));
        assert!(is_test(text, "two"));
        assert!(is_test(text, "three"));
        assert!(!is_test(text, "four"));
        assert!(!is_test("#[cfg(test)]\nuse a;\nfn b() { one }", "one"));
        assert!(!is_test("#[cfg(not(test))]\nfn b() { one }", "one"));
        assert!(!is_test("#[cfg(any(test, unix))]\nfn b() { one }", "one"));
        assert!(is_test("#[cfg(all(test, unix))]\nfn b() { one }", "one"));
        assert!(!is_test("// #[cfg(test)]\nfn b() { one }", "one"));
    }

    #[test]
    fn folders_for_tests_are_tests_whole() {
        assert!(Source::new("crates/keepd-wire/tests/a.rs", "x", false).is_test(0));
        assert!(!Source::new("crates/keepd-wire/src/tests/a.rs", "x", false).is_test(0));
        assert!(Source::new("crates/keepd-wire/src/tests/a.rs", "x", true).is_test(0));
        assert!(Source::new("xtask/tests/a.rs", "x", false).is_test(0));
    }

    #[test]
    fn packages_are_folders() {
        assert_eq!(package("crates/keepd-os/src/a.rs"), "crates/keepd-os");
        assert_eq!(package("bench/library/src/main.rs"), "bench/library");
        assert_eq!(package("xtask/src/main.rs"), "xtask");
        assert_eq!(package("build.rs"), "");
    }
}
