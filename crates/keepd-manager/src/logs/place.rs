//! Where in a service's log reading begins and ends.
//!
//! The index is read backwards from its end until it is known which bytes belong to what is wanted.
//! On the way two things are learned that reading forwards would learn too late: how far the index
//! speaks of bytes that are no longer there, because somebody cut a file off, and which runs there
//! were.

use std::fs;
use std::io;
use std::path::Path;

use keepd_model::protocol::Stream;
use keepd_model::{Generation, Instant};
use keepd_wire::index::{IndexKind, IndexRecord};

use super::filter::Filter;
use super::index::{IndexReader, Placed, Snapshot, read_range};
use super::line::{LINE_BYTES_MAX, ServiceLog, Unread};
use super::search::{end_of_last_before, first_not_before};
use super::stream::{Part, end_of, file_of};

/// The streams in the order in which lines of the same moment are given.
pub(super) const STREAMS: [Stream; 2] = [Stream::Out, Stream::Err];

/// Which run of a service is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Run {
    /// All of them.
    #[default]
    All,
    /// The last one that began.
    Last,
    /// The one before the last one.
    BeforeLast,
}

/// What part of a log is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// At least the last so many bytes; `None`: everything else decides alone.
    pub(super) span_bytes: Option<u64>,
    /// Lines that pass it.
    pub(super) filter: &'a Filter,
    /// Of this run.
    pub(super) run: Run,
}

/// Where reading begins and ends.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The index, at the first record of interest.
    pub(super) index: IndexReader,
    /// No record from here on is of interest, except for the end of a line that began before.
    pub(super) index_end: u64,
    /// How long the index was.
    pub(super) index_length: u64,
    /// What is read of each stream.
    pub(super) parts: [Part; 2],
    /// Records of a stream before these positions speak of bytes that are no longer there.
    pub(super) valid_from: [u64; 2],
    /// Where the bytes of each stream end that records of interest speak of.
    pub(super) recorded: [u64; 2],
    /// How long the files were.
    pub(super) lengths: [u64; 2],
    /// Bytes that no record speaks of are of interest, too.
    pub(super) in_flight: bool,
    /// There is nothing before it that could be of interest.
    pub(super) complete: bool,
    /// There is an index.
    pub(super) has_index: bool,
    /// The run that is wanted was not found.
    pub(super) no_such_run: bool,
}

impl Place {
    /// Finds the place in a log.
    pub(super) fn find(log: &ServiceLog, wanted: Wanted<'_>) -> Result<Self, Unread> {
        let path = log.dir.join("index");
        let of_index = |error| unread(log, &path, error);
        let Some(snapshot) = Snapshot::open(&path).map_err(of_index)? else {
            return Self::without_index(log, IndexReader::new(path.clone()), wanted);
        };
        let (floor, ceiling) = range(&snapshot, wanted).map_err(of_index)?;
        let mut scan = Scan::new(log, wanted, floor, ceiling);
        scan.run(&snapshot)?;
        // After the index, so that no record speaks of bytes beyond.
        let lengths = lengths(log)?;
        let mut parts = [Part::ALL; 2];
        for (number, part) in parts.iter_mut().enumerate() {
            *part = scan.part(number, lengths[number])?;
        }
        Ok(Self {
            index: IndexReader::from_snapshot(path.clone(), &snapshot, scan.position),
            index_end: ceiling,
            index_length: snapshot.length(),
            parts,
            valid_from: scan.seen.map(|seen| seen.valid_from),
            recorded: scan.seen.map(|seen| seen.newest_end.unwrap_or(0)),
            lengths,
            in_flight: wanted.filter.until_ns.is_none() && wanted.run != Run::BeforeLast,
            complete: scan.complete,
            has_index: true,
            no_such_run: scan.runs.is_missing(),
        })
    }

    /// Returns the beginning of a log that could not be looked at.
    pub(super) fn unseen(index: IndexReader) -> Self {
        Self {
            index,
            index_end: u64::MAX,
            index_length: u64::MAX,
            parts: [Part::ALL; 2],
            valid_from: [0; 2],
            recorded: [0; 2],
            lengths: [0; 2],
            in_flight: true,
            complete: true,
            has_index: false,
            no_such_run: false,
        }
    }

    /// Without an index there are bytes and nothing else.
    fn without_index(
        log: &ServiceLog,
        index: IndexReader,
        wanted: Wanted<'_>,
    ) -> Result<Self, Unread> {
        let lengths = lengths(log)?;
        let mut parts = [Part::ALL; 2];
        let mut complete = true;
        for (number, part) in parts.iter_mut().enumerate() {
            let start = lengths[number].saturating_sub(wanted.span_bytes.unwrap_or(u64::MAX));
            complete &= start == 0;
            let path = file_of(&log.dir, STREAMS[number]);
            let line = line_start(&path, start).map_err(|error| unread(log, &path, error))?;
            part.start = Some(line);
        }
        Ok(Self {
            index,
            index_end: u64::MAX,
            index_length: u64::MAX,
            parts: if wanted.run == Run::All { parts } else { [Part::NONE; 2] },
            valid_from: [0; 2],
            recorded: lengths,
            lengths,
            in_flight: true,
            complete,
            has_index: false,
            no_such_run: wanted.run != Run::All,
        })
    }
}

/// Returns the positions in the index between which records of interest begin.
fn range(snapshot: &Snapshot, wanted: Wanted<'_>) -> io::Result<(u64, u64)> {
    let floor =
        wanted.filter.since_ns.map(|since| first_not_before(snapshot, since)).transpose()?;
    let ceiling =
        wanted.filter.until_ns.map(|until| end_of_last_before(snapshot, until)).transpose()?;
    Ok((floor.unwrap_or(0), ceiling.unwrap_or(snapshot.length())))
}

/// A walk through the index from its end.
struct Scan<'a> {
    log: &'a ServiceLog,
    wanted: Wanted<'a>,
    /// Records before it are of no interest by their time.
    floor: u64,
    /// Records from here on are of no interest by their time.
    ceiling: u64,
    /// The first record that was taken.
    position: u64,
    /// Bytes of interest that were found.
    found_bytes: u64,
    seen: [Seen; 2],
    runs: Runs,
    /// All of the index was looked at.
    is_whole: bool,
    /// There is nothing of interest before.
    complete: bool,
}

/// What was seen of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Where the oldest chunk that counts begins, in the file and in the index.
    oldest: Option<(u64, u64)>,
    /// Where the newest chunk of interest ends.
    newest_end: Option<u64>,
    /// The oldest chunk begins where a run does.
    at_border: bool,
    /// Records before it speak of bytes that are no longer there.
    valid_from: u64,
    /// One more record is needed to know whether the oldest chunk begins with a line.
    open: bool,
}

impl<'a> Scan<'a> {
    fn new(log: &'a ServiceLog, wanted: Wanted<'a>, floor: u64, ceiling: u64) -> Self {
        Self {
            log,
            wanted,
            floor,
            ceiling,
            position: 0,
            found_bytes: 0,
            seen: [Seen::default(); 2],
            runs: Runs::new(wanted.run),
            is_whole: false,
            complete: true,
        }
    }

    fn run(&mut self, snapshot: &Snapshot) -> Result<(), Unread> {
        self.position = snapshot.length();
        let path = self.log.dir.join("index");
        let mut blocks = snapshot.backwards(snapshot.length());
        let mut ending = false;
        while let Some(block) =
            blocks.next_block().map_err(|error| unread(self.log, &path, error))?
        {
            for placed in block.iter().rev() {
                if !ending && self.has_enough(placed) {
                    ending = true;
                    self.leave_open()?;
                }
                if ending && self.seen.iter().all(|seen| !seen.open) {
                    return Ok(());
                }
                self.take(placed, ending);
            }
        }
        self.position = 0;
        self.is_whole = true;
        Ok(())
    }

    /// Reports whether this record and those before it are not needed.
    fn has_enough(&mut self, placed: &Placed) -> bool {
        if self.wanted.run != Run::All {
            return self.runs.is_found_before(&placed.record);
        }
        if placed.position < self.floor {
            return true;
        }
        let is_spanned = self.wanted.span_bytes.is_some_and(|span| self.found_bytes >= span);
        self.complete &= !is_spanned;
        is_spanned
    }

    /// Notes which streams need one more record. Where only the last lines are wanted, more of them
    /// than needed are looked at anyway.
    fn leave_open(&mut self) -> Result<(), Unread> {
        if self.wanted.run != Run::All || !self.complete {
            return Ok(());
        }
        for (number, seen) in self.seen.iter_mut().enumerate() {
            let path = file_of(&self.log.dir, STREAMS[number]);
            if let Some((offset, _)) = seen.oldest {
                let begins = begins_line(&path, offset);
                seen.open =
                    !seen.at_border && !begins.map_err(|error| unread(self.log, &path, error))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, placed: &Placed, ending: bool) {
        let record = &placed.record;
        let seen = &mut self.seen[number_of(record.stream)];
        if !ending {
            self.runs.take(placed);
        } else if !seen.open {
            return;
        }
        seen.open = false;
        self.position = placed.position;
        match record.kind {
            IndexKind::Start => {
                seen.at_border |= seen.oldest.is_some_and(|(offset, _)| offset == record.offset);
            }
            IndexKind::Chunk => match seen.oldest {
                // The pump never writes a byte twice, so the file was cut off between the two.
                Some((offset, position)) if end_of(record) > offset => {
                    seen.valid_from = seen.valid_from.max(position);
                }
                _ if seen.valid_from > 0 => {}
                Some(_) | None => {
                    seen.oldest = Some((record.offset, placed.position));
                    seen.at_border = false;
                    if placed.position < self.ceiling {
                        seen.newest_end.get_or_insert(end_of(record));
                        if self.wanted.filter.takes(record.stream) {
                            self.found_bytes += u64::from(record.length_bytes);
                        }
                    }
                }
            },
        }
    }

    /// Returns what is to be read of a stream whose file is as long as this.
    fn part(&mut self, number: usize, length: u64) -> Result<Part, Unread> {
        let seen = self.seen[number];
        if !self.wanted.filter.takes(STREAMS[number]) {
            return Ok(Part::NONE);
        }
        if self.wanted.run != Run::All {
            return Ok(self.runs.part(number, &seen));
        }
        let oldest = seen.oldest.map(|(offset, _)| offset);
        let start = match oldest {
            // What is before the first record has no time of its own.
            _ if self.is_whole && self.wanted.filter.since_ns.is_none() => {
                let span_bytes = self.wanted.span_bytes.unwrap_or(u64::MAX);
                let start = oldest.unwrap_or(length).saturating_sub(span_bytes);
                self.complete &= start == 0;
                start
            }
            None => return Ok(Part { start: None, stop: u64::MAX }),
            Some(offset) if seen.at_border => {
                return Ok(Part { start: Some(offset), stop: u64::MAX });
            }
            Some(offset) => offset,
        };
        let path = file_of(&self.log.dir, STREAMS[number]);
        let start = line_start(&path, start).map_err(|error| unread(self.log, &path, error))?;
        Ok(Part { start: Some(start), stop: u64::MAX })
    }
}

/// The runs that were met, the last one first.
struct Runs {
    wanted: usize,
    found: Vec<RunStart>,
}

/// The beginning of a run: a record for each stream, written at the same moment.
#[derive(Clone, Copy, Debug)]
struct RunStart {
    generation: Generation,
    monotonic: Instant,
    position: u64,
    offsets: [Option<u64>; 2],
}

impl Runs {
    fn new(run: Run) -> Self {
        let wanted = match run {
            Run::All => 0,
            Run::Last => 1,
            Run::BeforeLast => 2,
        };
        Self { wanted, found: Vec::new() }
    }

    fn take(&mut self, placed: &Placed) {
        let record = &placed.record;
        if self.wanted == 0 || record.kind != IndexKind::Start {
            return;
        }
        let known = self.found.last_mut().filter(|run| run.is_begun_by(record));
        let run = match known {
            Some(run) => run,
            None => {
                self.found.push(RunStart {
                    generation: record.generation,
                    monotonic: record.monotonic,
                    position: placed.position,
                    offsets: [None; 2],
                });
                self.found.last_mut().expect("a run was just added")
            }
        };
        run.position = placed.position;
        run.offsets[number_of(record.stream)] = Some(record.offset);
    }

    /// Reports whether all of the run that is wanted lies behind this record.
    fn is_found_before(&self, record: &IndexRecord) -> bool {
        let last = self.found.last();
        self.found.len() == self.wanted && last.is_some_and(|run| !run.is_begun_by(record))
    }

    fn is_missing(&self) -> bool {
        self.found.len() < self.wanted
    }

    /// Returns what the run that is wanted wrote on a stream.
    fn part(&self, number: usize, seen: &Seen) -> Part {
        let Some(run) = self.wanted.checked_sub(1).and_then(|last| self.found.get(last)) else {
            return Part::NONE;
        };
        let next = self.wanted.checked_sub(2).and_then(|next| self.found.get(next));
        let stop = next.and_then(|next| next.offsets[number]).unwrap_or(u64::MAX);
        let start = match seen.oldest {
            // The file was cut off since: nothing of the run is left, or what it wrote then.
            Some((offset, position)) if seen.valid_from > run.position => {
                let is_of_next = next.is_some_and(|next| position >= next.position);
                if is_of_next {
                    return Part::NONE;
                }
                offset
            }
            _ => match run.offsets[number] {
                Some(offset) => offset,
                None => return Part::NONE,
            },
        };
        Part { start: Some(start), stop: stop.max(start) }
    }
}

impl RunStart {
    fn is_begun_by(&self, record: &IndexRecord) -> bool {
        record.kind == IndexKind::Start
            && record.generation == self.generation
            && record.monotonic == self.monotonic
    }
}

/// Returns the place of a stream in [`STREAMS`].
pub(super) const fn number_of(stream: Stream) -> usize {
    match stream {
        Stream::Out => 0,
        Stream::Err => 1,
    }
}

/// Makes an error of what the system said about a file of a log.
pub(super) fn unread(log: &ServiceLog, path: &Path, error: io::Error) -> Unread {
    Unread { service: log.name.clone(), path: path.to_owned(), error }
}

fn lengths(log: &ServiceLog) -> Result<[u64; 2], Unread> {
    let mut lengths = [0; 2];
    for (length, stream) in lengths.iter_mut().zip(STREAMS) {
        let path = file_of(&log.dir, stream);
        *length = length_of(&path).map_err(|error| unread(log, &path, error))?;
    }
    Ok(lengths)
}

/// Returns the length of a file, 0 if it is not there.
pub(super) fn length_of(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Reports whether a line feed stands before an offset, or nothing at all.
fn begins_line(path: &Path, offset: u64) -> io::Result<bool> {
    Ok(offset == 0 || read_if_there(path, offset - 1, offset)? == b"\n")
}

/// Returns where the first line begins at or behind an offset; the offset itself if there is no
/// line feed for as long as a line may be.
fn line_start(path: &Path, offset: u64) -> io::Result<u64> {
    if offset == 0 {
        return Ok(0);
    }
    let from = offset - 1;
    let bytes = read_if_there(path, from, offset.saturating_add(LINE_BYTES_MAX as u64))?;
    let line_feed = bytes.iter().position(|byte| *byte == b'\n');
    Ok(line_feed.map_or(offset, |distance| from + distance as u64 + 1))
}

fn read_if_there(path: &Path, start: u64, end: u64) -> io::Result<Vec<u8>> {
    match read_range(path, start, end) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result,
    }
}
