//! What a rule found.

use std::fmt;

/// A place that breaks a rule, and what to do about it. Ordered by place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    rule: &'static str,
    message: String,
}

impl Finding {
    /// Makes a finding at a line, counted from 1.
    pub(crate) fn new(
        path: &str,
        line: usize,
        rule: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { path: path.to_owned(), line, rule, message: message.into() }
    }
}

/// Writes `path:line: rule: message`.
impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, message } = self;
        write!(formatter, "{path}:{line}: {rule}: {message}")
    }
}

/// Returns the number of the line, counted from 1, that holds a byte offset.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_sort_by_place_and_print_as_editors_read_them() {
        let late = Finding::new("b.rs", 1, "width", "x");
        let early = Finding::new("a.rs", 20, "width", "cut it");
        let earlier = Finding::new("a.rs", 3, "width", "x");
        assert!(earlier < early && early < late);
        assert_eq!(early.to_string(), "a.rs:20: width: cut it");
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!(line_at("a\nb", 0), 1);
        assert_eq!(line_at("a\nb", 2), 2);
    }
}
