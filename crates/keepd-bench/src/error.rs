//! Why a run cannot go on.

use std::fmt;

/// A sentence for whoever started the run: `cannot VERB OBJECT: why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchError(String);

impl BenchError {
    /// Returns an error with this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BenchError {}

/// Puts what was attempted before why it failed.
pub trait Attempt<T> {
    /// Names the attempt, from its verb on.
    ///
    /// # Errors
    /// The attempt failed.
    fn attempt(self, what: impl fmt::Display) -> Result<T, BenchError>;
}

impl<T, E: fmt::Display> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl fmt::Display) -> Result<T, BenchError> {
        self.map_err(|why| BenchError(format!("cannot {what}: {why}")))
    }
}
