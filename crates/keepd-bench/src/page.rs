//! The part of a page that the program writes; the rest belongs to people.

use std::path::Path;

use crate::error::{Attempt, BenchError};

/// The line before the figures.
const BEGIN: &str = "<!-- figures: written by `cargo xtask bench --write` -->";
/// The line behind them.
const END: &str = "<!-- end of figures -->";

/// Replaces the figures in a page.
///
/// # Errors
/// The page cannot be read or written, or has no place for them.
pub fn write(path: &Path, figures: &str) -> Result<(), BenchError> {
    let name = path.display();
    let text = std::fs::read_to_string(path).attempt(format!("read \"{name}\""))?;
    let replaced = replace(&text, figures).ok_or_else(|| {
        BenchError::new(format!(
            "cannot write \"{name}\": it has no lines \"{BEGIN}\" and \"{END}\""
        ))
    })?;
    std::fs::write(path, replaced).attempt(format!("write \"{name}\""))
}

fn replace(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_lines_is_replaced() {
        let page = format!("# A\n\n{BEGIN}\nold\n{END}\n\nWhy.\n");
        let replaced = replace(&page, "new\n").expect("the page has both lines");
        assert_eq!(replaced, format!("# A\n\n{BEGIN}\n\nnew\n\n{END}\n\nWhy.\n"));
        assert_eq!(replace(&replaced, "new\n"), Some(replaced.clone()));
        assert_eq!(replace("# A\n", "new\n"), None);
    }
}
