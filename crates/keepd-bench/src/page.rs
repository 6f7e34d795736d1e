//! The part of a page that the program writes; the rest belongs to people.

use std::path::Path;

use crate::error::{Attempt, BenchError};

/// The line behind the figures of any command.
const END: &str = "<!-- end of figures -->";

/// Replaces the figures of a command, such as `cargo xtask bench`, in a page.
///
/// # Errors
/// The page cannot be read or written, or has no place for them.
pub fn write(path: &Path, command: &str, figures: &str) -> Result<(), BenchError> {
    let name = path.display();
    let text = std::fs::read_to_string(path).attempt(format!("read \"{name}\""))?;
    let begin = begin(command);
    let replaced = replace(&text, &begin, figures).ok_or_else(|| {
        BenchError::new(format!(
            "cannot write \"{name}\": it has no lines \"{begin}\" and \"{END}\""
        ))
    })?;
    std::fs::write(path, replaced).attempt(format!("write \"{name}\""))
}

/// Returns the line before the figures of a command.
fn begin(command: &str) -> String {
    format!("<!-- figures: written by `{command} --write` -->")
}

fn replace(text: &str, begin: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_lines_of_the_command_is_replaced() {
        let (one, other) = (begin("bench"), begin("bench library"));
        let page = format!("# A\n\n{one}\nold\n{END}\n\nWhy.\n\n{other}\nold\n{END}\n");
        let replaced = replace(&page, &other, "new\n").expect("the page has both lines");
        let expected = format!("# A\n\n{one}\nold\n{END}\n\nWhy.\n\n{other}\n\nnew\n\n{END}\n");
        assert_eq!(replaced, expected);
        assert_eq!(replace(&replaced, &other, "new\n"), Some(replaced.clone()));
        assert_eq!(replace("# A\n", &one, "new\n"), None);
    }
}
