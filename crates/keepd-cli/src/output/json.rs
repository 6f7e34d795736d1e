//! JSON on standard output.

use serde::Serialize;

use super::Screen;
use crate::error::{CliError, ErrorKind};

/// Prints one document on a line of its own.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| {
        CliError::because(ErrorKind::System, "cannot write the answer as JSON", &error)
    })?;
    let mut screen = Screen::stdout();
    screen.line(&text)?;
    screen.flush()
}
