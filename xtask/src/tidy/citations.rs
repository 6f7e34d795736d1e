//! Tests and comments cite numbered sentences of `docs/behaviour.md`; each number is there.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::source::Source;

/// The page that numbers what the core does.
pub(crate) const PAGE: &str = "docs/behaviour.md";

/// How a citation begins; numbers follow, with commas between them, and a parenthesis.
const BEGINNING: &str = "(behaviour ";

/// Returns the numbers that begin a line of the page: `3.2 Text`, or set bold.
pub(crate) fn numbers(page: &str) -> BTreeSet<&str> {
    page.lines()
        .filter_map(|line| {
            let line = line.trim_start_matches([' ', '#', '-', '*']);
            let end = line.find([' ', '*']).unwrap_or(line.len());
            let number = line[..end].trim_end_matches('.');
            is_number(number).then_some(number)
        })
        .collect()
}

/// Checks the citations in the comments of one file. Without the page every citation is wrong.
pub(crate) fn check(source: &Source<'_>, numbers: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (offset, _) in source.comments.match_indices(BEGINNING) {
        let rest = &source.comments[offset + BEGINNING.len()..];
        let cited = rest.split(')').next().unwrap_or_default();
        for number in cited.split(',').map(str::trim) {
            if !numbers.contains(number) {
                let message = format!("{PAGE} has no line that begins with \"{number}\"");
                findings.push(source.finding(offset, "citation", message));
            }
        }
    }
    findings
}

/// Reports whether a text is a number such as `3.2`.
fn is_number(text: &str) -> bool {
    text.contains('.')
        && text
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEHAVIOUR: &str = "# Behaviour\n\n## 3 Ending\n\n3.1 It ends.\n**3.2** It is reaped.\n\
                             - **3.10.** A list.\nVersion 4.1 is not a line.\n";

    #[test]
    fn the_page_numbers_its_sentences() {
        let found: Vec<&str> = numbers(BEHAVIOUR).into_iter().collect();
        assert_eq!(found, ["3.1", "3.10", "3.2"]);
    }

    #[test]
    fn each_cited_number_is_there() {
        let count =
            |text: &str, page: &str| check(&Source::new("a.rs", text, false), &numbers(page)).len();
        assert_eq!(count("// It ends (behaviour 3.1, 3.2).", BEHAVIOUR), 0);
        assert_eq!(count("/// (behaviour 4.1) (behaviour 3.2, 9.9)", BEHAVIOUR), 2);
        assert_eq!(count("// (behaviour 3.1)", ""), 1);
        assert_eq!(count("const A: &str = \"(behaviour 4.1)\";", BEHAVIOUR), 0);
    }
}
