//! Splits a stream of bytes into lines of bounded length.

/// How many bytes of an over-long line are kept, so that its number (`@ID`) can still be answered.
const START_BYTES_MAX: usize = 32;
/// A buffer that grew beyond this for one long line is given back once it is empty.
const CAPACITY_KEPT_BYTES: usize = 64 * 1024;

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line within the limit, without its line feed.
    Complete(Vec<u8>),
    /// A line beyond the limit; it was thrown away up to its line feed. Told once, when the line
    /// feed is there. Not told for a comment: a long one is no error.
    TooLong {
        /// Its first bytes, for the answer (`RequestError::too_long`).
        start: Vec<u8>,
    },
}

/// Splits a stream into lines, each of at most `limit` bytes.
///
/// Memory is bounded by the limit and one read, if [`LineReader::next_line`] is called until it
/// returns `None` before the next [`LineReader::push`]. Lines are looked at only when they are
/// asked for, so [`LineReader::set_limit`] counts for every line after the one returned last: a
/// connection that `proto` upgrades loses nothing of what it sent in the same packet.
#[derive(Clone, Debug)]
pub struct LineReader {
    limit: usize,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to here there is no line feed after `start`, so nothing is searched twice.
    searched: usize,
    /// The start of a line that is being thrown away.
    discarding: Option<Vec<u8>>,
}

impl LineReader {
    /// Makes a reader for lines of at most `limit` bytes, line feed excluded.
    pub const fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), start: 0, searched: 0, discarding: None }
    }

    /// As [`LineReader::new`], with room for all that waits while no more than `read` bytes are
    /// pushed at once: it never grows.
    pub fn with_room(limit: usize, read: usize) -> Self {
        Self { buffer: Vec::with_capacity(limit + read), ..Self::new(limit) }
    }

    /// Changes the limit for every line not yet returned. Buffered bytes stay.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds bytes that were read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next line, or `None` if more bytes are needed.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(distance) = found else {
                self.searched = self.buffer.len();
                self.bound_partial_line();
                return None;
            };
            let end = self.searched + distance;
            let line = &self.buffer[self.start..end];
            let line = match self.discarding.take() {
                Some(start) => Line::TooLong { start },
                None if line.len() > self.limit => Line::TooLong { start: self.start_of(line) },
                None => Line::Complete(line.to_vec()),
            };
            self.start = end + 1;
            self.searched = self.start;
            match line {
                Line::TooLong { start } if start.starts_with(b"#") => {}
                Line::TooLong { .. } | Line::Complete(_) => return Some(line),
            }
        }
    }

    /// Returns the lines that are left, then what stands after the last line feed, then `None`: for
    /// the end of a stream.
    ///
    /// A configuration file runs a last line without a line feed; every other connection drops it.
    pub fn finish(&mut self) -> Option<Line> {
        if let Some(line) = self.next_line() {
            return Some(line);
        }
        let rest = self.buffer.split_off(self.start);
        self.searched = self.start;
        match self.discarding.take() {
            Some(start) if start.starts_with(b"#") => None,
            Some(start) => Some(Line::TooLong { start }),
            None if rest.is_empty() => None,
            None => Some(Line::Complete(rest)),
        }
    }

    /// Returns how many bytes wait for the rest of their line (or to be asked for).
    pub const fn buffered_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Returns what is kept of a line beyond the limit, the same however the line came in.
    fn start_of(&self, line: &[u8]) -> Vec<u8> {
        line[..START_BYTES_MAX.min(self.limit)].to_vec()
    }

    /// Throws a partial line away as soon as it is beyond the limit, so that it costs no memory.
    fn bound_partial_line(&mut self) {
        let partial = &self.buffer[self.start..];
        if self.discarding.is_none() && partial.len() > self.limit {
            self.discarding = Some(self.start_of(partial));
        }
        if self.discarding.is_some() {
            self.start = self.buffer.len();
        }
        self.compact();
    }

    /// Moves the waiting bytes to the front.
    fn compact(&mut self) {
        if self.start == 0 {
            return;
        }
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > CAPACITY_KEPT_BYTES {
            self.buffer = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(reader: &mut LineReader) -> Vec<Line> {
        std::iter::from_fn(|| reader.next_line()).collect()
    }

    fn complete(text: &str) -> Line {
        Line::Complete(text.as_bytes().to_vec())
    }

    fn too_long(start: &str) -> Line {
        Line::TooLong { start: start.as_bytes().to_vec() }
    }

    #[test]
    fn lines_come_out_whole_however_they_came_in() {
        let mut reader = LineReader::new(10);
        reader.push(b"ab");
        assert_eq!(reader.next_line(), None);
        reader.push(b"c\n\nde\nf");
        let expected = [complete("abc"), complete(""), complete("de")];
        assert_eq!(drain(&mut reader), expected);
        assert_eq!(reader.buffered_bytes(), 1);
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_byte_more_is_told_once() {
        let mut reader = LineReader::new(4);
        reader.push(b"1234\n12345\nok\n");
        let expected = [complete("1234"), too_long("1234"), complete("ok")];
        assert_eq!(drain(&mut reader), expected);
    }

    #[test]
    fn a_long_line_costs_no_memory_and_is_told_at_its_end() {
        let mut reader = LineReader::new(1023);
        reader.push(b"@5\techo\t");
        for _ in 0..10_000 {
            reader.push(&[b'x'; 100]);
            assert_eq!(reader.next_line(), None);
            assert!(reader.buffered_bytes() <= 1023);
            assert!(reader.buffer.capacity() <= 64 * 1024);
        }
        reader.push(b"x\nnext\n");
        let expected = [too_long(&format!("@5\techo\t{}", "x".repeat(24))), complete("next")];
        assert_eq!(drain(&mut reader), expected);
    }

    #[test]
    fn a_long_comment_is_no_error() {
        let mut reader = LineReader::new(4);
        reader.push(b"# a long comment\n# one in");
        assert_eq!(drain(&mut reader), []);
        reader.push(b" two parts\nok\n");
        assert_eq!(drain(&mut reader), [complete("ok")]);
    }

    #[test]
    fn a_new_limit_counts_for_bytes_that_are_already_there() {
        let mut reader = LineReader::new(6);
        reader.push(b"proto\n@1\tservice.args\tweb\n@2\techo");
        assert_eq!(reader.next_line(), Some(complete("proto")));
        reader.set_limit(100);
        assert_eq!(reader.next_line(), Some(complete("@1\tservice.args\tweb")));
        reader.push(b"\tx\n");
        assert_eq!(reader.next_line(), Some(complete("@2\techo\tx")));
    }

    #[test]
    fn the_end_of_the_stream_gives_the_last_line() {
        let finish = |bytes: &[u8]| {
            let mut reader = LineReader::new(4);
            reader.push(bytes);
            std::iter::from_fn(|| reader.finish()).collect::<Vec<_>>()
        };
        assert_eq!(finish(b""), []);
        assert_eq!(finish(b"a\n"), [complete("a")]);
        assert_eq!(finish(b"a\nb\nc"), ["a", "b", "c"].map(complete));
        assert_eq!(finish(b"a\n12345"), [complete("a"), too_long("1234")]);
        assert_eq!(finish(b"# long"), []);
    }

    #[test]
    fn a_buffer_grown_by_one_long_line_is_given_back() {
        let mut reader = LineReader::new(1024 * 1024);
        reader.push(&vec![b'x'; 512 * 1024]);
        assert_eq!(reader.next_line(), None);
        reader.push(b"\n");
        assert!(reader.next_line().is_some());
        assert_eq!(reader.next_line(), None);
        assert_eq!(reader.buffer.capacity(), 0);
    }
}
