//! Both streams of one service and their index, as one row of lines.

use keepd_wire::index::IndexRecord;

use super::filter::Filter;
use super::index::{IndexReader, Look};
use super::line::{LogLine, ServiceLog, Unread};
use super::place::{Place, Run, STREAMS, Wanted, length_of, number_of, unread};
use super::stream::StreamReader;

/// While a line of one stream waits for its end, no more than so many records are looked through to
/// find it before lines of the other stream go first.
const PENDING_RECORDS_MAX: usize = 8192;

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// What was there when the log was opened, with bytes that no record speaks of yet, and the
    /// line at the end that has no line feed.
    Stored,
    /// The lines that were there when the log was opened.
    StoredLines,
    /// Lines, also new ones.
    Lines,
    /// Lines, also new ones, and what has no line feed yet.
    LinesAndRest,
}

impl Extent {
    /// Also what the index says meanwhile.
    const fn is_refreshed(self) -> bool {
        match self {
            Self::Stored | Self::StoredLines => false,
            Self::Lines | Self::LinesAndRest => true,
        }
    }

    /// Also what has no line feed.
    const fn is_unfinished(self) -> bool {
        match self {
            Self::Stored | Self::LinesAndRest => true,
            Self::StoredLines | Self::Lines => false,
        }
    }
}

/// A service's log, read up to a position.
#[derive(Debug)]
pub(super) struct ServiceReader {
    pub(super) log: ServiceLog,
    place: Place,
    streams: [StreamReader; 2],
    /// How many records were taken.
    taken: u64,
    /// The index has nothing more within the extent of this look.
    exhausted: bool,
}

impl ServiceReader {
    /// Returns a reader of everything that is there.
    pub(super) fn at_beginning(log: ServiceLog) -> Result<Self, Unread> {
        let wanted = Wanted { span_bytes: None, filter: &Filter::default(), run: Run::All };
        let place = Place::find(&log, wanted)?;
        Ok(Self::at(log, place))
    }

    /// Returns a reader of a log that could not be looked at.
    pub(super) fn unseen(log: ServiceLog) -> Self {
        let index = IndexReader::new(log.dir.join("index"));
        Self::at(log, Place::unseen(index))
    }

    /// Returns a reader of what comes.
    pub(super) fn at_end(log: ServiceLog) -> Result<Self, Unread> {
        let wanted = Wanted { span_bytes: Some(0), filter: &Filter::default(), run: Run::All };
        let place = Place::find(&log, wanted)?;
        Ok(Self::at(log, place))
    }

    /// Returns a reader of the part behind a place.
    pub(super) fn at(log: ServiceLog, place: Place) -> Self {
        let streams = STREAMS.map(|stream| {
            let part = place.parts[number_of(stream)];
            StreamReader::new(log.name.clone(), stream, &log.dir, part)
        });
        Self { log, place, streams, taken: 0, exhausted: false }
    }

    /// Returns where it began.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Looks at the index again from now on, even if there was nothing new before.
    pub(super) fn begin_look(&mut self) {
        self.exhausted = false;
    }

    /// Returns the line that [`ServiceReader::load`] found.
    pub(super) fn head(&self) -> Option<&LogLine> {
        self.first_stream().and_then(|number| self.streams[number].head()).map(|(_, line)| line)
    }

    /// Takes the line that [`ServiceReader::load`] found.
    pub(super) fn take_head(&mut self) -> Option<LogLine> {
        let number = self.first_stream()?;
        self.streams[number].take_head()
    }

    /// Returns the stream whose next line was begun first.
    fn first_stream(&self) -> Option<usize> {
        let number = |stream: &StreamReader| stream.head().map(|(number, _)| number);
        match (number(&self.streams[0]), number(&self.streams[1])) {
            (Some(out), Some(err)) if err < out => Some(1),
            (Some(_), _) => Some(0),
            (None, Some(_)) => Some(1),
            (None, None) => None,
        }
    }

    /// Makes the next line ready to be taken, and reports whether there is one.
    ///
    /// The index is in the order of time, so a line that a known record speaks of comes before all
    /// lines of records that are not read yet. Only where a line has begun and its end is not known
    /// is more of the index needed.
    pub(super) fn load(&mut self, extent: Extent) -> Result<bool, Unread> {
        loop {
            let found = self.load_streams(false)?;
            let pending = self.streams.iter().map(StreamReader::pending_records).sum::<usize>();
            let is_sure = !self.waits_for_end() || pending > PENDING_RECORDS_MAX;
            if found && (is_sure || self.exhausted) {
                return Ok(true);
            }
            if !self.exhausted && !self.streams.iter().all(StreamReader::is_at_stop) {
                self.read_index(extent)?;
                continue;
            }
            return self.load_streams(extent.is_unfinished());
        }
    }

    /// Reports whether a line has begun whose end is not known.
    fn waits_for_end(&self) -> bool {
        self.streams.iter().any(|stream| stream.head().is_none() && stream.has_bytes())
    }

    /// Makes the next line of each stream ready, and reports whether there is one.
    fn load_streams(&mut self, unfinished: bool) -> Result<bool, Unread> {
        let mut found = false;
        for stream in &mut self.streams {
            let loaded = stream.load_head(unfinished);
            found |= loaded.map_err(|error| unread(&self.log, stream.path(), error))?;
        }
        Ok(found)
    }

    /// Reads more of the index.
    ///
    /// Without an index the lengths of the files say what may be read. With one they do not as long
    /// as more is expected: the pump writes bytes first and their record then, and bytes without a
    /// record would get a wrong time.
    fn read_index(&mut self, extent: Extent) -> Result<(), Unread> {
        let end = match (extent.is_refreshed(), self.waits_for_end()) {
            (true, _) => u64::MAX,
            (false, true) => self.place.index_length,
            (false, false) => self.place.index_end,
        };
        let look = self.place.index.read_next(end);
        let look = look.map_err(|error| unread(&self.log, self.place.index.path(), error))?;
        match look {
            Look::Missing => {
                self.exhausted = true;
                for (number, stream) in self.streams.iter_mut().enumerate() {
                    let length = if extent.is_refreshed() {
                        let length = length_of(stream.path());
                        length.map_err(|error| unread(&self.log, stream.path(), error))?
                    } else {
                        self.place.lengths[number]
                    };
                    stream.follow_length(length);
                }
            }
            Look::Records(records) if records.is_empty() => {
                self.exhausted = true;
                if extent == Extent::Stored && self.place.in_flight {
                    for (stream, length) in self.streams.iter_mut().zip(self.place.lengths) {
                        stream.extend(length);
                    }
                }
            }
            Look::Records(records) => {
                for placed in records {
                    self.take_record(placed.position, placed.record);
                }
            }
        }
        Ok(())
    }

    fn take_record(&mut self, position: u64, record: IndexRecord) {
        self.taken += 1;
        let number = number_of(record.stream);
        if position >= self.place.valid_from[number] {
            self.streams[number].take_record(self.taken, record);
        }
    }
}
