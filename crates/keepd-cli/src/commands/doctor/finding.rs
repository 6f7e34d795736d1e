//! What was looked at, and what it means.

use serde::Serialize;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What it is.
    pub(super) name: String,
    /// Everything that keepd promises with it holds.
    pub(super) ok: bool,
    /// Sentences that say what is, and what is weaker for it.
    pub(super) text: String,
    /// What to do about it, where something can be done.
    pub(super) hint: Option<String>,
}

impl Finding {
    /// Returns something that is as it should be.
    pub(super) fn good(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, text: text.into(), hint: None }
    }

    /// Returns something that makes a promise weaker, and what to do about it.
    pub(super) fn weaker(
        name: impl Into<String>,
        text: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), ok: false, text: text.into(), hint: Some(hint.into()) }
    }

    /// Returns the lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let word = if self.ok { "ok    " } else { "weaker" };
        let mut lines = vec![format!("{word}  {}: {}", self.name, self.text)];
        lines.extend(self.hint.as_ref().map(|hint| format!("        hint: {hint}")));
        lines
    }
}
