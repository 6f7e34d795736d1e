//! The state of a daemon in the title of the terminal that it runs on: what terminfo(5) calls the
//! status line, and the one place there that does not mix with what the program prints.

use std::io::{self, IsTerminal, Write};

/// A title has so many characters at most.
const TITLE_CHARS_MAX: usize = 120;

/// Keeps the present title, xterm's control sequences 22 and 23 for windows.
const PUSH: &str = "\x1b[22;2t";
const POP: &str = "\x1b[23;2t";

/// The title. Dropping it puts the old one back.
#[derive(Debug, Default)]
pub(super) struct Console {
    /// Standard error is a terminal that has a title.
    has_title: bool,
    shown: String,
}

impl Console {
    /// Takes the title of the terminal that this process runs on, where there is one.
    pub(super) fn begin() -> Self {
        let terminal = std::env::var("TERM").unwrap_or_default();
        let has_title = io::stderr().is_terminal() && !matches!(&*terminal, "" | "dumb" | "linux");
        if has_title {
            write(PUSH);
        }
        Self { has_title, shown: String::new() }
    }

    /// Shows a text.
    pub(super) fn show(&mut self, name: &str, status: &str) {
        let title = title(name, status);
        if self.has_title && self.shown != title {
            write(&title);
            self.shown = title;
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.has_title {
            write(POP);
        }
    }
}

/// Returns the sequence that sets the title.
fn title(name: &str, status: &str) -> String {
    let text = format!("{name}: {status}");
    // A control character would end the sequence, or begin another.
    let text: String = text.chars().filter(|c| !c.is_control()).take(TITLE_CHARS_MAX).collect();
    format!("\x1b]2;{text}\x07")
}

fn write(sequence: &str) {
    let mut terminal = io::stderr().lock();
    // A terminal that has gone shows no title; the log says so itself.
    let _ = terminal.write_all(sequence.as_bytes()).and_then(|()| terminal.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_sequence_whatever_the_name_is() {
        assert_eq!(title("web", "2 subsystems running"), "\x1b]2;web: 2 subsystems running\x07");
        assert_eq!(title("a\x07\x1b]0;b", "c\nd"), "\x1b]2;a]0;b: cd\x07");
        let long = title("web", &"x".repeat(1000));
        assert_eq!(long.chars().count(), TITLE_CHARS_MAX + "\x1b]2;\x07".len());
    }

    #[test]
    fn nothing_is_shown_where_nobody_looks() {
        let mut console = Console::default();
        console.show("web", "running");
        assert!(console.shown.is_empty());
    }
}
