//! Log folders for tests, written as the pump writes them: bytes, then their record.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use keepd_model::protocol::Stream;
use keepd_model::{Generation, Instant, ServiceName};
use keepd_wire::index::{IndexKind, IndexRecord, encode_record};

use super::line::{LogLine, ServiceLog};
use super::stream::file_of;
use keepd_testkit::Scratch;

/// The log of one service.
pub(crate) struct Written {
    name: ServiceName,
    dir: PathBuf,
    generation: Generation,
    /// So many seconds the wall clock is ahead of the monotonic one.
    wall_ahead: i64,
}

impl Written {
    /// Makes the folder of a service.
    pub(crate) fn new(scratch: &Scratch, name: &str) -> Self {
        let dir = scratch.path().join(name);
        fs::create_dir(&dir).unwrap();
        Self {
            name: ServiceName::new(name).unwrap(),
            dir,
            generation: Generation::NONE,
            wall_ahead: 0,
        }
    }

    /// Goes on in the same folder as a new keepd would: its runs are counted anew.
    pub(crate) fn again(&self) -> Self {
        let (name, dir) = (self.name.clone(), self.dir.clone());
        Self { name, dir, generation: Generation::NONE, wall_ahead: self.wall_ahead }
    }

    pub(crate) fn name(&self) -> &ServiceName {
        &self.name
    }

    pub(crate) fn log(&self) -> ServiceLog {
        ServiceLog { name: self.name.clone(), dir: self.dir.clone() }
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.dir.join("index")
    }

    /// Sets the wall clock: from now on it is so many seconds ahead of the monotonic one.
    pub(crate) fn set_clock(&mut self, wall_ahead: i64) {
        self.wall_ahead = wall_ahead;
    }

    /// Lets the next run be the first one of another keepd.
    pub(crate) fn forget_generation(&mut self) {
        self.generation = Generation::NONE;
    }

    /// Returns the file of a stream.
    pub(crate) fn path(&self, stream: Stream) -> PathBuf {
        file_of(&self.dir, stream)
    }

    /// Cuts a file off, as somebody with `truncate` does it while the service runs.
    pub(crate) fn truncate(&self, stream: Stream, length: u64) {
        let file = OpenOptions::new().write(true).open(self.path(stream)).unwrap();
        file.set_len(length).unwrap();
    }

    /// Begins the next run; `waiting` bytes of the last one are still in the pipe of standard
    /// output.
    pub(crate) fn start(&mut self, second: u64, waiting: u64) {
        self.generation = self.generation.next();
        for (stream, waiting) in [(Stream::Out, waiting), (Stream::Err, 0)] {
            let offset = self.length(stream) + waiting;
            self.record(IndexKind::Start, stream, offset, 0, second);
        }
    }

    /// Writes bytes and their record.
    pub(crate) fn chunk(&self, stream: Stream, second: u64, bytes: &[u8]) {
        let offset = self.length(stream);
        self.bytes(stream, bytes);
        self.record(IndexKind::Chunk, stream, offset, bytes.len(), second);
    }

    /// Writes bytes without a record.
    pub(crate) fn bytes(&self, stream: Stream, bytes: &[u8]) {
        append(&file_of(&self.dir, stream), bytes);
    }

    /// Removes everything, as if nothing had ever run.
    pub(crate) fn clear(&mut self) {
        fs::remove_dir_all(&self.dir).unwrap();
        fs::create_dir(&self.dir).unwrap();
        self.generation = Generation::NONE;
    }

    fn length(&self, stream: Stream) -> u64 {
        fs::metadata(file_of(&self.dir, stream)).map_or(0, |found| found.len())
    }

    fn record(&self, kind: IndexKind, stream: Stream, offset: u64, length: usize, second: u64) {
        let record = IndexRecord {
            kind,
            stream,
            offset,
            length_bytes: u32::try_from(length).unwrap(),
            generation: self.generation,
            monotonic: Instant::from_nanos(second * 1_000_000_000),
            wall: Duration::from_secs(second.checked_add_signed(self.wall_ahead).unwrap()),
        };
        append(&self.index_path(), &encode_record(&record));
    }
}

fn append(path: &std::path::Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// Writes a line as `SECONDS NAME STREAM/GENERATION TEXT`, with `...` for a partial one.
pub(crate) fn shown(lines: &[LogLine]) -> Vec<String> {
    let show = |line: &LogLine| {
        let stamp =
            line.stamp.map_or("-".to_owned(), |stamp| (stamp.wall_ns / 1_000_000_000).to_string());
        let generation = line.stamp.map_or(0, |stamp| stamp.generation.get());
        let text = String::from_utf8_lossy(&line.bytes);
        let dots = if line.partial { "..." } else { "" };
        let (service, stream) = (&line.service, line.stream.word());
        format!("{stamp} {service} {stream}/{generation} {text}{dots}")
    };
    lines.iter().map(show).collect()
}
