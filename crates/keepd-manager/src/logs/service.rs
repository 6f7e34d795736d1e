//! Both streams of one service and their index.

use std::fs;
use std::io;
use std::path::Path;

use keepd_model::protocol::Stream;
use keepd_wire::index::{IndexKind, IndexRecord};

use super::index::{IndexReader, Look, read_range};
use super::line::{LINE_BYTES_MAX, ServiceLog, Unread};
use super::merge::Extent;
use super::stream::{StreamReader, file_of};

/// No more of the index is read while this many records wait for their bytes.
const PENDING_RECORDS_MAX: usize = 4096;

/// How much of a log is searched backwards at once.
const SEARCH_BYTES: u64 = 64 * 1024;

/// The streams in the order in which lines of the same moment are given.
const STREAMS: [Stream; 2] = [Stream::Out, Stream::Err];

/// A service's log, read up to a position.
#[derive(Debug)]
pub(super) struct ServiceReader {
    pub(super) log: ServiceLog,
    index: IndexReader,
    pub(super) streams: [StreamReader; 2],
}

impl ServiceReader {
    /// Returns a reader of everything that is there.
    pub(super) fn at_beginning(log: ServiceLog) -> Self {
        Self {
            index: IndexReader::new(log.dir.join("index")),
            streams: STREAMS.map(|stream| StreamReader::new(log.name.clone(), stream, &log.dir, 0)),
            log,
        }
    }

    /// Returns a reader that begins with the last `count` lines of each stream. Lines that are
    /// certainly older than `count` lines of the other stream may be left out.
    pub(super) fn at_last_lines(log: ServiceLog, count: usize) -> Result<Self, Unread> {
        let mut starts = [0; 2];
        for (start, stream) in starts.iter_mut().zip(STREAMS) {
            let path = file_of(&log.dir, stream);
            *start =
                start_of_last_lines(&path, count).map_err(|error| unread(&log, &path, error))?;
        }
        let path = log.dir.join("index");
        // Where one stream has its lines within the records found, everything before those records
        // is older than these lines, whichever stream it is on.
        let end = IndexReader::read_end(path.clone(), |records| {
            STREAMS.into_iter().zip(starts).any(|(stream, start)| reaches(records, stream, start))
        })
        .map_err(|error| unread(&log, &path, error))?;
        for (start, stream) in starts.iter_mut().zip(STREAMS) {
            if end.cut && !reaches(&end.records, stream, *start) {
                let path = file_of(&log.dir, stream);
                let first = start_of_known(&path, &end.records, stream)
                    .map_err(|error| unread(&log, &path, error))?;
                *start = first.max(*start);
            }
        }
        let mut reader = Self {
            index: end.reader,
            streams: [0, 1].map(|index| {
                StreamReader::new(log.name.clone(), STREAMS[index], &log.dir, starts[index])
            }),
            log,
        };
        for record in end.records {
            reader.take_record(record);
        }
        if !end.exists {
            reader.extend_to_files()?;
        }
        Ok(reader)
    }

    /// Reads more of the index, and reports whether it found something new there.
    ///
    /// Without an index the lengths of the files say what may be read. With one they do not: the
    /// pump writes bytes first and their record then, and bytes without a record would get a wrong
    /// time.
    pub(super) fn refresh(&mut self) -> Result<bool, Unread> {
        let waiting: usize = self.streams.iter().map(StreamReader::pending_records).sum();
        if waiting > PENDING_RECORDS_MAX {
            return Ok(false);
        }
        let look = self.index.read_next();
        let look = look.map_err(|error| unread(&self.log, self.index.path(), error))?;
        match look {
            Look::Missing => {
                self.extend_to_files()?;
                Ok(false)
            }
            Look::Records(records) => {
                let found = !records.is_empty();
                for record in records {
                    self.take_record(record);
                }
                Ok(found)
            }
        }
    }

    /// Lets everything be read that is in the files, whatever the index says.
    pub(super) fn extend_to_files(&mut self) -> Result<(), Unread> {
        for stream in &mut self.streams {
            let length = length_of(stream.path());
            stream.extend(length.map_err(|error| unread(&self.log, stream.path(), error))?);
        }
        Ok(())
    }

    /// Makes the next line of a stream ready to be taken, and reports whether there is one.
    pub(super) fn load_head(&mut self, index: usize, extent: Extent) -> Result<bool, Unread> {
        loop {
            if self.load_from_stream(index, false)? {
                return Ok(true);
            }
            if !(extent.refresh && self.refresh()?) {
                return Ok(extent.unfinished && self.load_from_stream(index, true)?);
            }
        }
    }

    fn load_from_stream(&mut self, index: usize, unfinished: bool) -> Result<bool, Unread> {
        let stream = &mut self.streams[index];
        let loaded = stream.load_head(unfinished);
        loaded.map_err(|error| unread(&self.log, stream.path(), error))
    }

    fn take_record(&mut self, record: IndexRecord) {
        for stream in &mut self.streams {
            if stream.stream() == record.stream {
                stream.take_record(record);
            }
        }
    }
}

fn unread(log: &ServiceLog, path: &Path, error: io::Error) -> Unread {
    Unread { service: log.name.clone(), path: path.to_owned(), error }
}

fn chunks_of(records: &[IndexRecord], stream: Stream) -> impl Iterator<Item = &IndexRecord> {
    records.iter().filter(move |record| record.kind == IndexKind::Chunk && record.stream == stream)
}

/// Reports whether the records of a stream go back to this offset.
fn reaches(records: &[IndexRecord], stream: Stream, offset: u64) -> bool {
    chunks_of(records, stream).any(|record| record.offset <= offset)
}

/// Returns the first line that begins within the records, or the end of the file if there is none.
fn start_of_known(path: &Path, records: &[IndexRecord], stream: Stream) -> io::Result<u64> {
    match chunks_of(records, stream).map(|record| record.offset).min() {
        None => length_of(path),
        Some(0) => Ok(0),
        Some(offset) => {
            let from = offset - 1;
            let bytes = read_range(path, from, offset.saturating_add(LINE_BYTES_MAX as u64))?;
            let line_feed = bytes.iter().position(|byte| *byte == b'\n');
            Ok(line_feed.map_or(offset, |distance| from + distance as u64 + 1))
        }
    }
}

/// Returns where the last `count` lines of a file begin, or 0 if it does not have as many.
fn start_of_last_lines(path: &Path, count: usize) -> io::Result<u64> {
    let length = length_of(path)?;
    // As many lines cannot be longer, because longer ones are given in pieces.
    let farthest = length.saturating_sub((count as u64).saturating_mul(LINE_BYTES_MAX as u64));
    let mut left = count;
    let mut end = length;
    if left == 0 {
        return Ok(length);
    }
    while end > farthest {
        let start = end.saturating_sub(SEARCH_BYTES).max(farthest);
        let bytes = read_range(path, start, end)?;
        for (distance, byte) in bytes.iter().enumerate().rev() {
            let after = start + distance as u64 + 1;
            // A line feed at the very end ends the last line and begins none.
            if *byte == b'\n' && after != length {
                left -= 1;
                if left == 0 {
                    return Ok(after);
                }
            }
        }
        end = start;
    }
    Ok(farthest)
}

/// Returns the length of a file, 0 if it is not there.
pub(super) fn length_of(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
