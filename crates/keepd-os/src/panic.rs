//! A panic ends this process as a fault does: with a line about it, and another program in its
//! place.
//!
//! For programs that must not end, and least of all without a word. Whoever would look at the stack
//! of the panic has its place in the source.

use std::fmt::{self, Write as _};
use std::panic::{self, PanicHookInfo};

use crate::fatal::{self, PANIC_BYTES_MAX};

/// Room for a prefix, the words about a panic and the end of the line.
const LINE_BYTES_MAX: usize = 64 + PANIC_BYTES_MAX + 1;

/// From now on a panic of any thread writes one line that begins with `prefix` to descriptor 2, if
/// that can be done without waiting; then the process becomes its
/// [`Rescue`](crate::fatal::Rescue), or ends with this status. Nothing is unwound.
///
/// The status is also that of an unrescued fault, until [`fatal::install`] sets another one.
pub fn end_at_panic(prefix: &'static str, status: u8) {
    fatal::set_status(status);
    panic::set_hook(Box::new(move |panic| {
        let reason = reason(panic);
        let mut line = Text::<LINE_BYTES_MAX>::new();
        line.add(prefix.as_bytes());
        line.add(reason.bytes());
        line.end();
        fatal::die_of_panic(line.bytes(), reason.bytes())
    }));
}

fn reason(panic: &PanicHookInfo<'_>) -> Text<PANIC_BYTES_MAX> {
    let mut text = Text::new();
    let payload = panic.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    // Writing to it cannot fail.
    let _ = match panic.location() {
        Some(location) => write!(text, "panicked at {location}: "),
        None => write!(text, "panicked: "),
    };
    let _ = text.write_str(message.unwrap_or("no message"));
    text
}

/// One line of text with room that was there before: a panic may be the end of the heap. What does
/// not fit is cut off.
struct Text<const BYTES_MAX: usize> {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl<const BYTES_MAX: usize> Text<BYTES_MAX> {
    const fn new() -> Self {
        Self { bytes: [0; BYTES_MAX], length: 0 }
    }

    /// Appends bytes; those that would end the line or the text become blanks.
    fn add(&mut self, bytes: &[u8]) {
        for (place, byte) in self.bytes[self.length..].iter_mut().zip(bytes) {
            *place = if byte.is_ascii_control() { b' ' } else { *byte };
            self.length += 1;
        }
    }

    /// Ends the line, in place of the last byte if there is no more room.
    fn end(&mut self) {
        self.length = (self.length + 1).min(BYTES_MAX);
        if let Some(last) = self.length.checked_sub(1).and_then(|at| self.bytes.get_mut(at)) {
            *last = b'\n';
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const BYTES_MAX: usize> fmt::Write for Text<BYTES_MAX> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_off() {
        let mut text = Text::<8>::new();
        text.add(b"a\nb\0c");
        assert_eq!(text.bytes(), b"a b c");
        text.add(b"defgh");
        assert_eq!(text.bytes(), b"a b cdef");
        text.end();
        assert_eq!(text.bytes(), b"a b cde\n");
        let mut text = Text::<8>::new();
        text.end();
        assert_eq!(text.bytes(), b"\n");
    }
}
