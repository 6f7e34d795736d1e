//! Standard output with a last line that is drawn again below everything else.

use std::io::{self, Write};

/// Goes to the start of the line and erases it.
const ERASE: &[u8] = b"\r\x1b[2K";

/// Writes lines; on a terminal with a live line below them.
pub(crate) struct Screen<W> {
    out: W,
    /// Waits to be written together.
    pending: Vec<u8>,
    live: Option<String>,
    /// The live line is on the terminal, and the cursor at its end.
    drawn: bool,
    /// Nobody reads any more: everything is thrown away from here on.
    dead: bool,
}

/// Lines are collected up to this many bytes before they are written.
const PENDING_BYTES_MAX: usize = 64 * 1024;

impl<W: Write> Screen<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, pending: Vec::new(), live: None, drawn: false, dead: false }
    }

    /// Reports whether nobody reads any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Adds whole lines. They are written by [`Screen::flush`] at the latest.
    pub(crate) fn write(&mut self, add: impl FnOnce(&mut Vec<u8>)) {
        if self.dead {
            return;
        }
        self.erase();
        add(&mut self.pending);
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.write_pending();
        }
    }

    /// Sets the live line; shown by the next [`Screen::flush`].
    pub(crate) fn set_live(&mut self, line: Option<String>) {
        if self.live == line {
            return;
        }
        self.erase();
        self.live = line;
    }

    /// Takes the live line away, so that somebody else can write. The next [`Screen::flush`] brings
    /// it back.
    pub(crate) fn make_room(&mut self) {
        self.erase();
        self.write_pending();
    }

    /// Writes everything, and the live line cut to this width.
    pub(crate) fn flush(&mut self, columns: Option<u16>) {
        if let Some(live) = &self.live
            && !self.drawn
        {
            self.pending.extend_from_slice(cut(live, columns).as_bytes());
            self.drawn = true;
        }
        self.write_pending();
    }

    fn erase(&mut self) {
        if self.drawn {
            self.pending.extend_from_slice(ERASE);
            self.drawn = false;
        }
    }

    fn write_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let written = if self.dead {
            Ok(())
        } else {
            self.out.write_all(&self.pending).and_then(|()| self.out.flush())
        };
        self.pending.clear();
        match written {
            Ok(()) => {}
            // A full disk may get room again; what was lost stands in the services' own logs.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            // EPIPE and EIO: the reader or the terminal is gone. That ends the echo, and nothing
            // else.
            Err(_) => self.dead = true,
        }
    }
}

/// Returns the line cut so that it never wraps: a wrapped line cannot be erased.
fn cut(line: &str, columns: Option<u16>) -> String {
    let columns = usize::from(columns.unwrap_or(80).max(8)) - 1;
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    line.chars().take(columns - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(screen: &mut Screen<Vec<u8>>) -> String {
        String::from_utf8(std::mem::take(&mut screen.out)).unwrap()
    }

    #[test]
    fn the_live_line_stays_below_the_others() {
        let mut screen = Screen::new(Vec::new());
        screen.write(|out| out.extend_from_slice(b"a\n"));
        screen.set_live(Some("waiting: db".into()));
        screen.flush(Some(80));
        assert_eq!(text(&mut screen), "a\nwaiting: db");
        screen.flush(Some(80));
        assert_eq!(text(&mut screen), "", "nothing changed");
        screen.write(|out| out.extend_from_slice(b"b\n"));
        screen.write(|out| out.extend_from_slice(b"c\n"));
        screen.flush(Some(12));
        assert_eq!(text(&mut screen), "\r\x1b[2Kb\nc\nwaiting: db");
        screen.set_live(Some("waiting: database".into()));
        screen.flush(Some(12));
        assert_eq!(text(&mut screen), "\r\x1b[2Kwaiting:...");
        screen.make_room();
        assert_eq!(text(&mut screen), "\r\x1b[2K");
        screen.set_live(None);
        screen.flush(None);
        assert_eq!(text(&mut screen), "");
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_ends_the_echo_quietly() {
        let mut screen = Screen::new(Closed);
        screen.write(|out| out.extend_from_slice(b"a\n"));
        screen.flush(None);
        assert!(screen.is_dead());
        screen.write(|out| out.extend_from_slice(b"b\n"));
        screen.flush(None);
    }
}
