//! What one run of a service writes, line by line as it comes.

use std::io;
use std::path::{Path, PathBuf};

use keepd_model::Generation;
use keepd_model::protocol::Stream;
use keepd_wire::index::{IndexKind, IndexRecord};

use super::index::{Snapshot, read_range};
use super::line::{LINE_BYTES_MAX, ServiceLog, Unread};
use super::place::length_of;
use super::stream::file_of;

/// How much of each stream one call reads at most.
const CALL_BYTES_MAX: u64 = 512 * 1024;

/// How much is read at once.
const BLOCK_BYTES: u64 = 64 * 1024;

/// Reads the output of one run from its beginning, every byte once.
///
/// It begins where the index has the border to the run before. Bytes need no record of their own to
/// be read: whatever stands behind the border was written by this run.
#[derive(Debug)]
pub(crate) struct RunReader {
    log: ServiceLog,
    generation: Generation,
    /// The streams of this run; empty until its border is found.
    parts: Vec<Part>,
}

/// What a call found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// A line that is wanted.
    Found,
    /// Nothing yet, and there is more to read.
    More,
    /// Nothing in everything that is written.
    Nothing,
}

impl RunReader {
    /// Returns a reader that has read nothing.
    pub(crate) fn new(log: ServiceLog, generation: Generation) -> Self {
        Self { log, generation, parts: Vec::new() }
    }

    /// Looks on for a line that is `wanted`. A line at the end counts without its line feed; of a
    /// line that is longer than [`LINE_BYTES_MAX`] only so much is looked at.
    ///
    /// # Errors
    /// A file that is there cannot be read. It can be tried again.
    pub(crate) fn find(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Sought, Unread> {
        if self.parts.is_empty() {
            self.parts = begin(&self.log, self.generation)?;
        }
        let mut all = Sought::Nothing;
        for part in &mut self.parts {
            let sought = part.find(&mut wanted).map_err(|error| Unread {
                service: self.log.name.clone(),
                path: part.path.clone(),
                error,
            })?;
            match sought {
                Sought::Found => return Ok(Sought::Found),
                Sought::More => all = Sought::More,
                Sought::Nothing => {}
            }
        }
        Ok(all)
    }
}

/// Returns the streams of a run at their beginnings. Numbers begin anew with each keepd, so it is
/// the last run of this number that counts.
fn begin(log: &ServiceLog, generation: Generation) -> Result<Vec<Part>, Unread> {
    let path = log.dir.join("index");
    let borders = borders(&path, generation).map_err(|error| Unread {
        service: log.name.clone(),
        path,
        error,
    })?;
    let part = |border: IndexRecord| Part::new(file_of(&log.dir, border.stream), border.offset);
    Ok(borders.into_iter().map(part).collect())
}

/// Returns the last borders of this generation, one a stream.
fn borders(index: &Path, generation: Generation) -> io::Result<Vec<IndexRecord>> {
    let Some(snapshot) = Snapshot::open(index)? else {
        return Ok(Vec::new());
    };
    let mut found: Vec<IndexRecord> = Vec::new();
    let mut blocks = snapshot.backwards(snapshot.length());
    while let Some(block) = blocks.next_block()? {
        for placed in block.into_iter().rev() {
            let record = placed.record;
            let is_border = record.kind == IndexKind::Start && record.generation == generation;
            if is_border && found.iter().all(|border| border.stream != record.stream) {
                found.push(record);
                // The border of standard output is written first: that of standard error was found.
                if record.stream == Stream::Out {
                    found.reverse();
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

/// One stream, read up to a position.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    position: u64,
    /// What is read of the line at `position`, at most [`LINE_BYTES_MAX`].
    line: Vec<u8>,
    /// The line has grown since it was looked at.
    grown: bool,
}

impl Part {
    fn new(path: PathBuf, position: u64) -> Self {
        Self { path, position, line: Vec::new(), grown: false }
    }

    fn find(&mut self, wanted: &mut impl FnMut(&[u8]) -> bool) -> io::Result<Sought> {
        let length = length_of(&self.path)?;
        if length < self.position {
            // Somebody cut the file off; what it holds now was written since.
            self.position = 0;
            self.line.clear();
        }
        let end = length.min(self.position.saturating_add(CALL_BYTES_MAX));
        while self.position < end {
            let block_end = end.min(self.position + BLOCK_BYTES);
            let bytes = read_range(&self.path, self.position, block_end)?;
            if bytes.is_empty() {
                break;
            }
            self.position += bytes.len() as u64;
            if self.take(&bytes, wanted) {
                return Ok(Sought::Found);
            }
        }
        if self.position < length {
            return Ok(Sought::More);
        }
        if std::mem::take(&mut self.grown) && wanted(&self.line) {
            return Ok(Sought::Found);
        }
        Ok(Sought::Nothing)
    }

    /// Takes more bytes, and reports whether a line that ends in them is wanted.
    fn take(&mut self, bytes: &[u8], wanted: &mut impl FnMut(&[u8]) -> bool) -> bool {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            let room = LINE_BYTES_MAX - self.line.len();
            let rest = text.unwrap_or(piece);
            self.line.extend_from_slice(&rest[..rest.len().min(room)]);
            self.grown = true;
            if text.is_some() {
                let found = wanted(&self.line);
                self.line.clear();
                self.grown = false;
                if found {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keepd_model::protocol::Stream::{Err, Out};

    use super::*;
    use crate::logs::written::Written;
    use keepd_testkit::Scratch;

    fn reader(written: &Written, generation: u64) -> RunReader {
        RunReader::new(written.log(), Generation::new(generation))
    }

    /// Reads everything that is there; returns the lines that were looked at.
    fn seen(reader: &mut RunReader) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let sought = reader.find(|line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                false
            });
            match sought.unwrap() {
                Sought::More => {}
                Sought::Nothing => return lines,
                Sought::Found => unreachable!("nothing is wanted"),
            }
        }
    }

    #[test]
    fn only_the_present_run_is_read_and_nothing_twice() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 1, b"old ready\n");
        web.chunk(Out, 1, b"rest");
        web.start(2, 3);
        // Three bytes of the first run were in the pipe when the second one began.
        web.chunk(Out, 3, b"of!new\n");
        web.chunk(Err, 3, b"warning\nhalf");
        let mut reader = reader(&web, 2);
        assert_eq!(seen(&mut reader), ["new", "warning", "half"]);
        assert!(seen(&mut reader).is_empty());
        web.chunk(Err, 4, b" done\n");
        assert_eq!(seen(&mut reader), ["half done"]);
    }

    #[test]
    fn the_last_run_of_a_number_counts() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 1, b"ready\n");
        let mut again = web.again();
        again.start(3, 0);
        assert!(seen(&mut reader(&again, 1)).is_empty());
        again.chunk(Out, 4, b"new\n");
        assert_eq!(seen(&mut reader(&again, 1)), ["new"]);
    }

    #[test]
    fn a_run_without_a_border_has_written_nothing_yet() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        let mut reader = reader(&web, 2);
        assert!(seen(&mut reader).is_empty());
        web.start(1, 0);
        web.chunk(Out, 1, b"ready\n");
        assert!(seen(&mut reader).is_empty());
        web.start(2, 0);
        web.chunk(Out, 2, b"new\n");
        assert_eq!(seen(&mut reader), ["new"]);
    }

    #[test]
    fn a_long_line_is_looked_at_by_its_beginning() {
        // (behaviour 7.13)
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 1, &vec![b'x'; LINE_BYTES_MAX]);
        web.chunk(Out, 2, b"ready\nnext\n");
        let lines = seen(&mut reader(&web, 1));
        assert_eq!((lines[0].len(), lines[1].as_str()), (LINE_BYTES_MAX, "next"));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_flood_is_read_in_several_calls_and_stops_neither_stream() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        for second in 0..20 {
            web.chunk(Out, second, &b"noise\n".repeat(10_000));
        }
        web.chunk(Err, 30, b"ready\n");
        let mut reader = reader(&web, 1);
        assert_eq!(reader.find(|line| line == b"ready").unwrap(), Sought::Found);
        assert_eq!(reader.find(|line| line == b"never").unwrap(), Sought::More);
    }

    #[test]
    fn a_file_that_was_cut_off_is_read_from_its_beginning() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 1, b"one\ntwo\n");
        let mut reader = reader(&web, 1);
        assert_eq!(seen(&mut reader), ["one", "two"]);
        fs::write(file_of(&web.log().dir, Out), b"new\n").unwrap();
        assert_eq!(seen(&mut reader), ["new"]);
    }
}
