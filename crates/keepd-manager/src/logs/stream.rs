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
    /// Chunks that begin after `line_start`, and the last one that does not.
    chunks: VecDeque<IndexRecord>,
    chunk_before: Option<IndexRecord>,
    /// Borders between runs, in the same way.
    borders: VecDeque<IndexRecord>,
    border_before: Option<IndexRecord>,
    /// A line that was looked at and not taken yet.
    head: Option<LogLine>,
}

impl StreamReader {
    /// Returns a reader at this offset that may not read anything yet.
    pub(super) fn new(service: ServiceName, stream: Stream, dir: &Path, start: u64) -> Self {
        Self {
            service,
            stream,
            path: file_of(dir, stream),
            buffer: Vec::new(),
            given: 0,
            searched: 0,
            line_start: start,
            limit: start,
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

    /// Returns the stream.
    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    /// Returns how many records wait for their bytes to be read.
    pub(super) fn pending_records(&self) -> usize {
        self.chunks.len() + self.borders.len()
    }

    /// Takes news from the index about this stream. Bytes that a chunk covers may be read.
    pub(super) fn take_record(&mut self, record: IndexRecord) {
        match record.kind {
            IndexKind::Start => self.borders.push_back(record),
            IndexKind::Chunk => {
                if record.offset < self.last_covered() {
                    self.restart_at(record.offset);
                }
                self.limit = self.limit.max(end_of(&record));
                self.chunks.push_back(record);
            }
        }
        self.pass_records();
    }

    /// Lets everything before this offset be read, whatever the index says.
    pub(super) fn extend(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    fn last_covered(&self) -> u64 {
        let last = self.chunks.back().or(self.chunk_before.as_ref());
        last.map_or(0, end_of)
    }

    /// The file was removed or cut off, and the pump went on at an earlier place: what is known
    /// about the old content is of no use any more.
    fn restart_at(&mut self, offset: u64) {
        self.buffer.clear();
        self.given = 0;
        self.searched = 0;
        self.line_start = offset;
        self.limit = offset;
        self.chunks.clear();
        self.chunk_before = None;
        self.borders.clear();
        self.border_before = None;
    }

    /// Reports whether there is a line to take, reading as much as that needs. At the end of what
    /// may be read, a line without a line feed counts only if `unfinished` ones do.
    pub(super) fn load_head(&mut self, unfinished: bool) -> io::Result<bool> {
        if self.head.is_none() {
            self.head = self.next_line(unfinished)?;
        }
        Ok(self.head.is_some())
    }

    /// Returns the line that [`StreamReader::load_head`] found.
    pub(super) fn head(&self) -> Option<&LogLine> {
        self.head.as_ref()
    }

    /// Takes the line that [`StreamReader::load_head`] found.
    pub(super) fn take_head(&mut self) -> Option<LogLine> {
        self.head.take()
    }

    fn next_line(&mut self, unfinished: bool) -> io::Result<Option<LogLine>> {
        loop {
            let waiting = &self.buffer[self.given..];
            let longest = self.longest_line();
            let end = waiting.len().min(longest);
            let found = waiting[self.searched.min(end)..end].iter().position(|byte| *byte == b'\n');
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
                return Ok((unfinished && length > 0).then(|| self.give(length, false)));
            }
        }
    }

    /// Returns how long a line that begins here may be: it does not reach into the next run.
    fn longest_line(&self) -> usize {
        let border = self.borders.front().map(|border| border.offset - self.line_start);
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
    fn give(&mut self, length: usize, line_feed: bool) -> LogLine {
        let line = LogLine {
            service: self.service.clone(),
            stream: self.stream,
            stamp: self.stamp(),
            bytes: self.buffer[self.given..self.given + length].to_vec(),
            partial: !line_feed,
        };
        let used = length + usize::from(line_feed);
        self.given += used;
        self.searched = 0;
        self.line_start += used as u64;
        self.pass_records();
        line
    }

    /// Moves the records that begin at or before the next line out of the queues.
    fn pass_records(&mut self) {
        pass(&mut self.chunks, &mut self.chunk_before, self.line_start);
        pass(&mut self.borders, &mut self.border_before, self.line_start);
    }

    /// Returns what the index says about the byte at `line_start`, or about its nearest neighbour.
    fn stamp(&self) -> Option<Stamp> {
        let first_after = || self.chunks.front().or(self.borders.front());
        match (&self.chunk_before, &self.border_before) {
            // What was in the pipe at a start is written after its border: such a chunk reaches
            // across.
            (Some(chunk), Some(border)) if border.offset > chunk.offset => {
                let nearest = if end_of(chunk) > self.line_start { chunk } else { border };
                Some(Stamp { generation: border.generation, ..stamp_of(nearest) })
            }
            (Some(record), _) | (None, Some(record)) => Some(stamp_of(record)),
            (None, None) => first_after().map(stamp_of),
        }
    }
}

/// Takes the records that begin at or before an offset out of a queue, and keeps the last of them.
fn pass(queue: &mut VecDeque<IndexRecord>, before: &mut Option<IndexRecord>, offset: u64) {
    let is_passed = |record: &IndexRecord| record.offset <= offset;
    while queue.front().is_some_and(is_passed) {
        *before = queue.pop_front();
    }
}

/// Returns the file of a stream in a log folder.
pub(super) fn file_of(dir: &Path, stream: Stream) -> PathBuf {
    dir.join(format!("{}.log", stream.word()))
}

fn stamp_of(record: &IndexRecord) -> Stamp {
    Stamp {
        wall_ns: u64::try_from(record.wall.as_nanos()).unwrap_or(u64::MAX),
        monotonic: record.monotonic,
        generation: record.generation,
    }
}

fn end_of(record: &IndexRecord) -> u64 {
    record.offset.saturating_add(u64::from(record.length_bytes))
}
