//! What is wrong with a file, and where.

use std::fmt;

use keepd_model::Origin;

/// The most errors of one load that are kept; the rest is counted.
const DIAGNOSTICS_MAX: usize = 1_000;

/// From this many errors on, hints that cost a search through all services are left out.
const CROWD: usize = 50;

/// The most characters of a user's text that a message repeats.
const QUOTED_CHARS_MAX: usize = 80;

/// One error or warning about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The place of the offending key or value; `None` where no single place is at fault.
    pub origin: Option<Origin>,
    /// What cannot be done, on what, and why: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Writes `FILE:LINE:COL: MESSAGE`, and the hint on an indented line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(formatter, "{origin}: ")?;
        }
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Everything found wrong so far: errors, which refuse the plan, and warnings, which do not.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    dropped: usize,
}

impl Collector {
    /// Notes an error.
    pub(crate) fn error(&mut self, origin: Option<Origin>, message: String, hint: Option<String>) {
        if self.is_full() {
            self.dropped += 1;
            return;
        }
        self.errors.push(Diagnostic { origin, message, hint });
    }

    /// Notes a warning.
    pub(crate) fn warning(&mut self, origin: Option<Origin>, message: &str, hint: &str) {
        self.warnings.push(Diagnostic {
            origin,
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        });
    }

    /// Reports whether there are so many errors that a costly hint is not worth its time.
    pub(crate) fn is_crowded(&self) -> bool {
        self.errors.len() >= CROWD
    }

    /// Reports whether further errors are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= DIAGNOSTICS_MAX
    }

    /// Returns the warnings, or the errors if there is one; both by file, line and column.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        sort(&mut self.errors);
        sort(&mut self.warnings);
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        if self.dropped > 0 {
            self.errors.push(Diagnostic {
                origin: None,
                message: format!("cannot show {} more errors", self.dropped),
                hint: Some("correct the errors above first".to_owned()),
            });
        }
        Err(self.errors)
    }
}

/// Sorts by place, those without a place last, and drops what is said twice.
fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|left, right| {
        let key =
            |diagnostic: &Diagnostic| (diagnostic.origin.is_none(), diagnostic.origin.clone());
        key(left).cmp(&key(right)).then_with(|| left.message.cmp(&right.message))
    });
    diagnostics.dedup();
}

/// Returns a user's text in quotes, without control characters and cut to a bearable length.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(line: u32, column: u32) -> Option<Origin> {
        Some(Origin { file: "keepd.toml".into(), line, column })
    }

    #[test]
    fn display_is_file_line_column_message_and_hint() {
        let mut diagnostic = Diagnostic {
            origin: origin(9, 1),
            message: "cannot use key \"depends-on\" in service \"web\"".into(),
            hint: Some("the key is \"depends_on\"".into()),
        };
        assert_eq!(
            diagnostic.to_string(),
            "keepd.toml:9:1: cannot use key \"depends-on\" in service \"web\"\n  hint: the key is \
             \"depends_on\""
        );
        diagnostic.origin = None;
        diagnostic.hint = None;
        assert_eq!(diagnostic.to_string(), "cannot use key \"depends-on\" in service \"web\"");
    }

    #[test]
    fn errors_are_sorted_by_place_and_said_once() {
        let mut collector = Collector::default();
        collector.error(None, "c".into(), None);
        collector.error(origin(10, 1), "b".into(), None);
        collector.error(origin(9, 2), "a".into(), None);
        collector.error(origin(10, 1), "b".into(), None);
        let messages: Vec<_> = collector
            .finish()
            .unwrap_err()
            .into_iter()
            .map(|diagnostic| diagnostic.message)
            .collect();
        assert_eq!(messages, ["a", "b", "c"]);
    }

    #[test]
    fn what_is_beyond_the_limit_is_counted() {
        let mut collector = Collector::default();
        for line in 0..1_005 {
            collector.error(origin(line, 1), "x".into(), None);
        }
        let errors = collector.finish().unwrap_err();
        assert_eq!(errors.len(), 1_001);
        assert_eq!(errors[1_000].message, "cannot show 5 more errors");
    }

    #[test]
    fn quoted_text_is_cut_and_free_of_control_characters() {
        assert_eq!(quoted("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        assert_eq!(quoted(&"é".repeat(81)), format!("\"{}\"...", "é".repeat(80)));
    }
}
