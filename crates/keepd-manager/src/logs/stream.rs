//! One stream of one service: bytes of its file to lines, with the stamps that the index gives
//! them.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use keepd_model::ServiceName;
use keepd_model::protocol::Stream;
use keepd_wire::index::{IndexKind, IndexRecord};

use super::index::read_range;
use super::line::{LINE_BYTES_MAX, LogLine, Stamp};

/// How much is read from a log at once.
const BLOCK_BYTES: u64 = 64 * 1024;

/// A record, and how many of the service came before it: lines of both streams are in this order.
#[derive(Clone, Copy, Debug)]
struct Known {
    number: u64,
    record: IndexRecord,
}

/// Which part of a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Where the first line begins; `None`: with the first bytes that a record speaks of.
    pub(super) start: Option<u64>,
    /// Nothing from here on.
    pub(super) stop: u64,
}

impl Part {
    /// Everything.
    pub(super) const ALL: Self = Self { start: Some(0), stop: u64::MAX };
    /// Nothing.
    pub(super) const NONE: Self = Self { start: Some(0), stop: 0 };
}

/// A stream, read up to a position.
#[derive(Debug)]
pub(super) struct StreamReader {
    service: ServiceName,
    stream: Stream,
    path: PathBuf,
    /// Bytes that are read and not given yet. Those before `given` are done with.
    buffer: Vec<u8>,
    given: usize,
    /// How many of the bytes not given yet hold no line feed.
    searched: usize,
    /// The offset of the first byte not given yet: where the next line begins.
    line_start: u64,
    /// Bytes from here on must not be read yet.
    limit: u64,
    /// Bytes from here on are of no interest.
    stop: u64,
    /// `line_start` is known.
    placed: bool,
    /// Chunks that begin after `line_start`, and the last one that does not.
    chunks: VecDeque<Known>,
    chunk_before: Option<Known>,
    /// Borders between runs, in the same way.
    borders: VecDeque<Known>,
    border_before: Option<Known>,
    /// A line that was looked at and not taken yet, and the number of its record.
    head: Option<(u64, LogLine)>,
}

impl StreamReader {
    /// Returns a reader of this part that may not read anything yet.
    pub(super) fn new(service: ServiceName, stream: Stream, dir: &Path, part: Part) -> Self {
        let start = part.start.unwrap_or(0);
        Self {
            service,
            stream,
            path: file_of(dir, stream),
            buffer: Vec::new(),
            given: 0,
            searched: 0,
            line_start: start,
            limit: start,
            stop: part.stop,
            placed: part.start.is_some(),
            chunks: VecDeque::new(),
            chunk_before: None,
            borders: VecDeque::new(),
            border_before: None,
            head: None,
        }
    }

    /// Returns the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many records wait for their bytes to be read.
    pub(super) fn pending_records(&self) -> usize {
        self.chunks.len() + self.borders.len()
    }

    /// Reports whether bytes may be read that are not given yet.
    pub(super) fn has_bytes(&self) -> bool {
        self.line_start < self.limit
    }

    /// Reports whether everything that is of interest was given.
    pub(super) fn is_at_stop(&self) -> bool {
        self.line_start >= self.stop
    }

    /// Takes news from the index about this stream. Bytes that a chunk covers may be read.
    pub(super) fn take_record(&mut self, number: u64, record: IndexRecord) {
        if self.is_at_stop() {
            return;
        }
        let known = Known { number, record };
        match record.kind {
            IndexKind::Start => self.borders.push_back(known),
            IndexKind::Chunk => {
                if !self.placed || record.offset < self.last_covered() {
                    self.restart_at(record.offset);
                }
                self.extend(end_of(&record));
                self.chunks.push_back(known);
            }
        }
        self.pass_records();
    }

    /// Lets everything before this offset be read, whatever the index says.
    pub(super) fn extend(&mut self, limit: u64) {
        if self.placed {
            self.limit = self.limit.max(limit.min(self.stop));
        }
    }

    /// Begins with a file anew that is shorter than what was read of it, where no index says so.
    pub(super) fn follow_length(&mut self, length: u64) {
        if length < self.line_start {
            self.restart_at(0);
        }
        self.extend(length);
    }

    fn last_covered(&self) -> u64 {
        let last = self.chunks.back().or(self.chunk_before.as_ref());
        last.map_or(0, |known| end_of(&known.record))
    }

    /// The file was removed or cut off, and the pump went on at an earlier place: what is known
    /// about the old content is of no use any more, except a border that was written after it.
    fn restart_at(&mut self, offset: u64) {
        self.buffer.clear();
        self.given = 0;
        self.searched = 0;
        self.line_start = offset;
        self.limit = offset;
        self.placed = true;
        let last_chunk = self.chunks.back().or(self.chunk_before.as_ref()).copied();
        let last_border = self.borders.back().or(self.border_before.as_ref()).copied();
        self.chunks.clear();
        self.chunk_before = None;
        self.borders.clear();
        self.border_before = None;
        let is_newer = |border: &Known| last_chunk.is_none_or(|chunk| border.number > chunk.number);
        self.borders.extend(last_border.filter(is_newer));
    }

    /// Reports whether there is a line to take, reading as much as that needs. At the end of what
    /// may be read, a line without a line feed counts only if `unfinished` ones do.
    pub(super) fn load_head(&mut self, unfinished: bool) -> io::Result<bool> {
        if self.head.is_none() {
            self.head = self.next_line(unfinished)?;
        }
        Ok(self.head.is_some())
    }

    /// Returns the number of the record of the line that [`StreamReader::load_head`] found, and the
    /// line.
    pub(super) fn head(&self) -> Option<(u64, &LogLine)> {
        self.head.as_ref().map(|(number, line)| (*number, line))
    }

    /// Takes the line that [`StreamReader::load_head`] found.
    pub(super) fn take_head(&mut self) -> Option<LogLine> {
        self.head.take().map(|(_, line)| line)
    }

    fn next_line(&mut self, unfinished: bool) -> io::Result<Option<(u64, LogLine)>> {
        loop {
            let waiting = &self.buffer[self.given..];
            let longest = self.longest_line();
            let end = waiting.len().min(longest);
            let found = memchr::memchr(b'\n', &waiting[self.searched.min(end)..end]);
            if let Some(distance) = found {
                let length = self.searched + distance;
                return Ok(Some(self.give(length, true)));
            }
            if waiting.len() >= longest {
                return Ok(Some(self.give(longest, false)));
            }
            self.searched = waiting.len();
            if !self.read_block()? {
                let length = self.buffer.len() - self.given;
                let is_last = unfinished || self.line_start + length as u64 >= self.stop;
                return Ok((is_last && length > 0).then(|| self.give(length, false)));
            }
        }
    }

    /// Returns how long a line that begins here may be: it does not reach into the next run.
    fn longest_line(&self) -> usize {
        let border = self.borders.front();
        let border = border.map(|border| border.record.offset - self.line_start);
        border
            .and_then(|distance| usize::try_from(distance).ok())
            .map_or(LINE_BYTES_MAX, |distance| distance.min(LINE_BYTES_MAX))
    }

    /// Reports whether bytes were read.
    fn read_block(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.given);
        self.given = 0;
        let position = self.line_start + self.buffer.len() as u64;
        if position >= self.limit {
            return Ok(false);
        }
        let end = self.limit.min(position + BLOCK_BYTES);
        let bytes = match read_range(&self.path, position, end) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        self.buffer.extend_from_slice(&bytes);
        Ok(!bytes.is_empty())
    }

    /// Makes a line of the next bytes; a line feed behind them is left out.
    fn give(&mut self, length: usize, line_feed: bool) -> (u64, LogLine) {
        let (number, stamp) = self.stamp().unzip();
        let line = LogLine {
            service: self.service.clone(),
            stream: self.stream,
            stamp,
            bytes: self.buffer[self.given..self.given + length].to_vec(),
            partial: !line_feed,
        };
        let used = length + usize::from(line_feed);
        self.given += used;
        self.searched = 0;
        self.line_start += used as u64;
        self.pass_records();
        (number.unwrap_or(0), line)
    }

    /// Moves the records that begin at or before the next line out of the queues.
    fn pass_records(&mut self) {
        pass(&mut self.chunks, &mut self.chunk_before, self.line_start);
        pass(&mut self.borders, &mut self.border_before, self.line_start);
    }

    /// Returns what the index says about the byte at `line_start`, or about its nearest neighbour,
    /// and the number of that record.
    fn stamp(&self) -> Option<(u64, Stamp)> {
        match (&self.chunk_before, &self.border_before) {
            // What was in the pipe at a start is written after its border: such a chunk reaches
            // across.
            (Some(chunk), Some(border)) if border.record.offset > chunk.record.offset => {
                let covers = end_of(&chunk.record) > self.line_start;
                let (number, nearest) = stamp_of(if covers { chunk } else { border });
                Some((number, Stamp { generation: border.record.generation, ..nearest }))
            }
            (Some(known), _) | (None, Some(known)) => Some(stamp_of(known)),
            (None, None) => self.chunks.front().or(self.borders.front()).map(stamp_of),
        }
    }
}

/// Takes the records that begin at or before an offset out of a queue, and keeps the last of them.
fn pass(queue: &mut VecDeque<Known>, before: &mut Option<Known>, offset: u64) {
    let is_passed = |known: &Known| known.record.offset <= offset;
    while queue.front().is_some_and(is_passed) {
        *before = queue.pop_front();
    }
}

/// Returns the file of a stream in a log folder.
pub(super) fn file_of(dir: &Path, stream: Stream) -> PathBuf {
    dir.join(format!("{}.log", stream.word()))
}

fn stamp_of(known: &Known) -> (u64, Stamp) {
    let record = &known.record;
    let stamp = Stamp {
        wall_ns: u64::try_from(record.wall.as_nanos()).unwrap_or(u64::MAX),
        monotonic: record.monotonic,
        generation: record.generation,
    };
    (known.number, stamp)
}

/// Returns the offset behind the bytes of a record.
pub(super) fn end_of(record: &IndexRecord) -> u64 {
    record.offset.saturating_add(u64::from(record.length_bytes))
}
