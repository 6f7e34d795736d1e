//! Regular expressions for lines of a service (`ready.log`).

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// A compiled regular expression for lines, which are bytes.
pub type LinePattern = Regex;

/// The most bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 1_024;

/// The most memory of a compiled pattern, and again of what it remembers while it looks at lines.
const PATTERN_MEMORY_BYTES_MAX: usize = 1024 * 1024;

/// The most groups inside each other.
const NESTED_MAX: u32 = 50;

/// Why a text is no pattern for lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Where it goes wrong, in bytes of the text; none where the whole is at fault.
    pub offset: Option<usize>,
    message: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for PatternError {}

impl PatternError {
    fn whole(message: String) -> Self {
        Self { offset: None, message }
    }
}

/// Compiles a regular expression for one line without its line feed. It may match anywhere in the
/// line, and lines need not be UTF-8. Looking at a line takes time linear in its length.
///
/// # Errors
///
/// Fails on a text that is empty, longer than 1 KiB or no regular expression, and on one that would
/// need more than 1 MiB.
pub fn line_pattern(text: &str) -> Result<LinePattern, PatternError> {
    if text.is_empty() {
        let message = "a pattern must not be empty, or every line would do";
        return Err(PatternError::whole(message.to_owned()));
    }
    if text.len() > PATTERN_BYTES_MAX {
        let message = format!("a pattern has at most {PATTERN_BYTES_MAX} bytes");
        return Err(PatternError::whole(message));
    }
    // Only the parser says where a text goes wrong.
    let parsed =
        regex_syntax::ParserBuilder::new().utf8(false).nest_limit(NESTED_MAX).build().parse(text);
    parsed.map_err(|error| syntax_error(&error))?;
    RegexBuilder::new(text)
        .nest_limit(NESTED_MAX)
        .size_limit(PATTERN_MEMORY_BYTES_MAX)
        .dfa_size_limit(PATTERN_MEMORY_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                PatternError::whole("it needs more than 1 MiB of memory".to_owned())
            }
            other => PatternError::whole(other.to_string()),
        })
}

fn syntax_error(error: &regex_syntax::Error) -> PatternError {
    let (offset, reason) = match error {
        regex_syntax::Error::Parse(error) => (error.span().start.offset, error.kind().to_string()),
        regex_syntax::Error::Translate(error) => {
            (error.span().start.offset, error.kind().to_string())
        }
        other => return PatternError::whole(other.to_string()),
    };
    // The parser's own words may go over several lines.
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    PatternError { offset: Some(offset), message: format!("it is no regular expression: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_anywhere_in_a_line_of_any_bytes() {
        let pattern = line_pattern(r"listening on \d+").unwrap();
        assert!(pattern.is_match(b"\xff server listening on 8080."));
        assert!(!pattern.is_match(b"Listening on 8080"));
        assert!(line_pattern("(?i)ready").unwrap().is_match(b"READY"));
        assert!(line_pattern("^$").unwrap().is_match(b""));
    }

    #[test]
    fn what_is_wrong_says_where() {
        let error = line_pattern("a(b").unwrap_err();
        assert_eq!(error.offset, Some(1));
        assert_eq!(error.to_string(), "it is no regular expression: unclosed group");
        assert_eq!(line_pattern("é*{").unwrap_err().offset, Some(3));
        assert!(line_pattern(r"(a)\1").is_err());
    }

    #[test]
    fn what_is_too_large_is_refused() {
        assert_eq!(line_pattern("").unwrap_err().offset, None);
        assert!(line_pattern(&"a".repeat(1_025)).is_err());
        assert!(line_pattern(&"(".repeat(1_000)).is_err());
        let error = line_pattern(r"(\w{200}){200}").unwrap_err();
        assert_eq!(error.to_string(), "it needs more than 1 MiB of memory");
    }
}
