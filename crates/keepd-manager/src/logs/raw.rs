//! One stream of a log as bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use keepd_model::protocol::Stream;

use super::filter::Filter;
use super::line::{ServiceLog, Unread};
use super::place::{Place, Run, Wanted, length_of, number_of, unread};
use super::stream::file_of;

/// Reads bytes of one stream as the service wrote them.
///
/// Times are exact to a chunk of the index: it begins with a line whose chunk is in time, and ends
/// with the last chunk that is.
#[derive(Debug)]
pub struct RawReader {
    log: ServiceLog,
    path: PathBuf,
    position: u64,
    end: u64,
    no_such_run: bool,
}

impl RawReader {
    /// Finds the bytes that are there now.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn find(
        log: &ServiceLog,
        stream: Stream,
        run: Run,
        since_ns: Option<u64>,
        until_ns: Option<u64>,
    ) -> Result<Self, Unread> {
        let filter = Filter { since_ns, until_ns, stream: Some(stream), pattern: None };
        let place = Place::find(log, Wanted { span_bytes: None, filter: &filter, run })?;
        let number = number_of(stream);
        let part = place.parts[number];
        let length = match until_ns {
            Some(_) => place.recorded[number],
            None => place.lengths[number],
        };
        let end = length.min(part.stop);
        let without_times = !place.has_index && filter.asks_for_times();
        let start = part.start.filter(|_| !without_times);
        Ok(Self {
            log: log.clone(),
            path: file_of(&log.dir, stream),
            position: start.unwrap_or(end),
            end,
            no_such_run: place.no_such_run,
        })
    }

    /// Reports whether the run that is wanted is not in the log.
    pub fn has_no_such_run(&self) -> bool {
        self.no_such_run
    }

    /// Also reads what was written meanwhile. A file that became shorter is read from its
    /// beginning.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn extend(&mut self) -> Result<(), Unread> {
        let length = length_of(&self.path);
        let length = length.map_err(|error| unread(&self.log, &self.path, error))?;
        if length < self.position {
            self.position = 0;
        }
        self.end = length;
        Ok(())
    }

    /// Reads the next bytes; 0 at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Unread> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        if length == 0 {
            return Ok(0);
        }
        let count = match read_at(&self.path, &mut buffer[..length], self.position) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            result => result.map_err(|error| unread(&self.log, &self.path, error))?,
        };
        self.position += count as u64;
        Ok(count)
    }
}

fn read_at(path: &std::path::Path, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let file = File::open(path)?;
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keepd_model::protocol::Stream::{Err, Out};
    use keepd_testkit::Scratch;

    use super::*;
    use crate::logs::written::Written;

    fn rest(reader: &mut RawReader) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => return bytes,
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn bytes(web: &Written, run: Run, since: Option<u64>, until: Option<u64>) -> Vec<u8> {
        let ns = |second| second * 1_000_000_000;
        let reader = RawReader::find(&web.log(), Out, run, since.map(ns), until.map(ns));
        rest(&mut reader.unwrap())
    }

    #[test]
    fn bytes_are_those_of_the_file() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        assert!(bytes(&web, Run::All, None, None).is_empty());
        web.start(1, 0);
        let all: Vec<u8> = (0..=255).cycle().take(30_000).collect();
        web.chunk(Out, 2, &all);
        web.chunk(Err, 3, b"other");
        assert!(bytes(&web, Run::All, None, None) == all);
        let mut reader = RawReader::find(&web.log(), Out, Run::All, None, None).unwrap();
        assert!(rest(&mut reader) == all);
        web.chunk(Out, 4, b"\0more");
        assert!(rest(&mut reader).is_empty());
        reader.extend().unwrap();
        assert_eq!(rest(&mut reader), b"\0more");
        web.truncate(Out, 0);
        web.chunk(Out, 5, b"anew");
        reader.extend().unwrap();
        assert_eq!(rest(&mut reader), b"anew");
    }

    #[test]
    fn times_and_runs_choose_a_range() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 2, b"two");
        web.start(3, 0);
        web.chunk(Out, 4, b"\xff four\n");
        web.chunk(Out, 5, b"five\n");
        assert_eq!(bytes(&web, Run::Last, None, None), b"\xff four\nfive\n");
        assert_eq!(bytes(&web, Run::BeforeLast, None, None), b"two");
        assert_eq!(bytes(&web, Run::All, Some(4), None), b"\xff four\nfive\n");
        assert_eq!(bytes(&web, Run::All, Some(5), None), b"five\n");
        assert_eq!(bytes(&web, Run::All, None, Some(5)), b"two\xff four\n");
        assert_eq!(bytes(&web, Run::All, Some(6), None), b"");
        fs::remove_file(web.index_path()).unwrap();
        assert_eq!(bytes(&web, Run::All, None, None), b"two\xff four\nfive\n");
        assert_eq!(bytes(&web, Run::All, Some(1), None), b"");
    }
}
