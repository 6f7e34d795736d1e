//! How lines look.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::color::paint_dim;
use super::line::{append_json_line, append_text_line};
use crate::logs::LogLine;
use crate::time::timestamp;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// With colours.
    pub(crate) colored: bool,
    /// Lines of services as JSON objects.
    pub(crate) echo_json: bool,
    /// keepd's own lines as JSON objects.
    pub(crate) own_json: bool,
}

/// A style that may change while lines are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedStyle(Arc<Mutex<Style>>);

impl SharedStyle {
    pub(crate) fn new(style: Style) -> Self {
        Self(Arc::new(Mutex::new(style)))
    }

    /// Returns how lines look now.
    pub(crate) fn get(&self) -> Style {
        // A panic while the lock is held cannot leave the plain data in it half-changed.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next lines look like this.
    pub(crate) fn set(&self, style: Style) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = style;
    }
}

/// A line of keepd's own as JSON.
#[derive(Serialize)]
struct OwnObject<'a> {
    time: &'a str,
    level: &'a str,
    message: &'a str,
}

impl Style {
    /// Appends a line of a service.
    pub(crate) fn append_service_line(self, line: &LogLine, out: &mut Vec<u8>) {
        if self.echo_json {
            append_json_line(line, out);
        } else {
            append_text_line(line, self.colored, out);
        }
    }

    /// Returns a line of keepd's own: `2026-11-21T07:02:55.123Z keepd: text`. The level is said
    /// where it is more, or less, than news.
    pub(crate) fn own_line(self, wall_ns: u64, level: tracing::Level, text: &str) -> Vec<u8> {
        let time = timestamp(wall_ns);
        let word = match level {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        if self.own_json {
            let object = OwnObject { time: &time, level: word, message: text };
            let mut line =
                serde_json::to_vec(&object).expect("an object of texts can be written to memory");
            line.push(b'\n');
            return line;
        }
        let time = if self.colored { paint_dim(&time) } else { time };
        let level = if level == tracing::Level::INFO { String::new() } else { format!("{word}: ") };
        format!("{time} keepd: {level}{text}\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    const TIME_NS: u64 = 1_795_244_575_123_000_000;

    fn text(style: Style, level: Level, text: &str) -> String {
        String::from_utf8(style.own_line(TIME_NS, level, text)).unwrap()
    }

    #[test]
    fn own_lines_are_text_or_json() {
        let plain = Style::default();
        assert_eq!(
            text(plain, Level::INFO, "web is ready (1.2s)"),
            "2026-11-21T07:02:55.123Z keepd: web is ready (1.2s)\n"
        );
        assert_eq!(text(plain, Level::WARN, "x"), "2026-11-21T07:02:55.123Z keepd: warn: x\n");
        let json = Style { own_json: true, ..plain };
        assert_eq!(
            text(json, Level::INFO, "say \"x\""),
            "{\"time\":\"2026-11-21T07:02:55.123Z\",\"level\":\"info\",\
             \"message\":\"say \\\"x\\\"\"}\n"
        );
    }
}
