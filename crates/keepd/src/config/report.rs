//! Everything that is wrong with a configuration, gathered before anything is said.

use super::origin::Origin;
use crate::error::{Error, ErrorCode, Result};

/// How many errors one message names; a broken file has no use for more.
const ERRORS_MAX: usize = 20;

/// What was found while reading.
#[derive(Default)]
pub(super) struct Report {
    errors: Vec<(ErrorCode, String)>,
    /// Errors that are not named.
    more: usize,
    pub(super) warnings: Vec<String>,
}

impl Report {
    pub(super) fn error(&mut self, code: ErrorCode, origin: &Origin, text: impl AsRef<str>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push((code, format!("{origin}: {}", text.as_ref())));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn warning(&mut self, origin: &Origin, text: impl AsRef<str>) {
        self.warnings.push(format!("{origin}: {}", text.as_ref()));
    }

    /// Returns one error with everything that is wrong; its code is that of the first one.
    pub(super) fn finish(self) -> Result<Vec<String>> {
        let Some((code, _)) = self.errors.first() else {
            return Ok(self.warnings);
        };
        let mut texts: Vec<&str> = self.errors.iter().map(|(_, text)| text.as_str()).collect();
        let more = format!("and {} more", self.more);
        if self.more > 0 {
            texts.push(&more);
        }
        Err(Error::config_with_code(*code, texts.join("; ")))
    }
}
