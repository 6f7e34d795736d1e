//! What is in the logs of several services.

use super::filter::Filter;
use super::follow::Follower;
use super::line::{LogLine, ServiceLog, Unread};
use super::merge::merge;
use super::place::{Place, Run, Wanted};
use super::service::{Extent, ServiceReader};

/// How many bytes are looked at first for each line that is wanted, and at least.
const LINE_BYTES_GUESS: u64 = 256;
const SPAN_BYTES_MIN: u64 = 64 * 1024;

/// How much more is looked at where that was not enough. All attempts together cost a seventh more
/// than the last one alone.
const SPAN_GROWTH: u64 = 8;

/// What is wanted of logs.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Lines that pass it.
    pub filter: Filter,
    /// Only the last so many of them, of all services together.
    pub count: Option<u64>,
    /// [`Stored::into_follower`] will go on behind them: what has no line feed yet, or no record in
    /// the index, is left to the follower.
    pub followed: bool,
}

/// The lines that are in logs now.
#[derive(Debug)]
pub struct Stored {
    readers: Vec<ServiceReader>,
    /// Logs that could not be opened.
    closed: Vec<ServiceLog>,
    selection: Selection,
    /// So many lines come before those that are wanted.
    skip: u64,
    notes: Vec<Note>,
    unread: Vec<Unread>,
}

/// Why a service has fewer lines than somebody may expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The run that is wanted is not in its log.
    NoSuchRun(ServiceLog),
    /// Its index is missing, so its lines have no times to be chosen by.
    NoTimes(ServiceLog),
}

impl Stored {
    /// Finds the lines that are wanted. Files are read from their ends, as far as needed, and in
    /// memory that grows with the number of services only.
    ///
    /// A service without files has no lines.
    pub fn find(logs: &[(ServiceLog, Run)], selection: Selection) -> Self {
        let mut found = Self {
            readers: Vec::with_capacity(logs.len()),
            closed: Vec::new(),
            selection,
            skip: 0,
            notes: Vec::new(),
            unread: Vec::new(),
        };
        let mut total = 0_u64;
        for (log, run) in logs {
            match found.open(log, *run) {
                Ok((reader, lines)) => {
                    total += lines;
                    found.note(&reader, *run);
                    found.readers.push(reader);
                }
                Err(unread) => {
                    found.unread.push(unread);
                    found.closed.push(log.clone());
                }
            }
        }
        found.skip = found.selection.count.map_or(0, |count| total.saturating_sub(count));
        found
    }

    /// Takes the lines in the order of their times until there is none or `take` refuses one more.
    pub fn read(&mut self, mut take: impl FnMut(LogLine) -> bool) {
        let Self { readers, selection, skip, unread, .. } = self;
        let extent = extent_of(selection);
        merge(readers.iter_mut(), extent, unread, |line| {
            if !selection.filter.accepts(&line) {
                return true;
            }
            if *skip > 0 {
                *skip -= 1;
                return true;
            }
            take(line)
        });
    }

    /// Returns the logs that could not be read since the last call.
    pub fn take_unread(&mut self) -> Vec<Unread> {
        std::mem::take(&mut self.unread)
    }

    /// Returns why there are fewer lines than may be expected.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Returns a follower that goes on exactly behind the lines, once they are read.
    pub fn into_follower(self) -> Follower {
        // A log that cannot be read now may be readable later.
        let closed = self.closed.into_iter().map(ServiceReader::unseen);
        Follower::of(self.readers.into_iter().chain(closed))
    }

    /// Opens a log where enough lines follow, and counts them if only some are wanted.
    fn open(&self, log: &ServiceLog, run: Run) -> Result<(ServiceReader, u64), Unread> {
        let filter = &self.selection.filter;
        let Some(count) = self.selection.count else {
            let place = Place::find(log, Wanted { span_bytes: None, filter, run })?;
            return Ok((ServiceReader::at(log.clone(), place), 0));
        };
        let mut span_bytes = match count {
            0 => 0,
            count => count.saturating_mul(LINE_BYTES_GUESS).max(SPAN_BYTES_MIN),
        };
        loop {
            let place = Place::find(log, Wanted { span_bytes: Some(span_bytes), filter, run })?;
            let lines = self.lines_behind(log, &place)?;
            if lines >= count || place.complete {
                return Ok((ServiceReader::at(log.clone(), place), lines));
            }
            span_bytes = span_bytes.saturating_mul(SPAN_GROWTH);
        }
    }

    /// Counts the lines behind a place that are wanted.
    fn lines_behind(&self, log: &ServiceLog, place: &Place) -> Result<u64, Unread> {
        let mut reader = ServiceReader::at(log.clone(), place.clone());
        let mut lines = 0;
        while reader.load(extent_of(&self.selection))? {
            let line = reader.take_head();
            lines += u64::from(line.is_some_and(|line| self.selection.filter.accepts(&line)));
        }
        Ok(lines)
    }

    fn note(&mut self, reader: &ServiceReader, run: Run) {
        let place = reader.place();
        if run != Run::All && place.no_such_run {
            self.notes.push(Note::NoSuchRun(reader.log.clone()));
        } else if !place.has_index
            && self.selection.filter.asks_for_times()
            && place.lengths.iter().any(|length| *length > 0)
        {
            self.notes.push(Note::NoTimes(reader.log.clone()));
        }
    }
}

fn extent_of(selection: &Selection) -> Extent {
    if selection.followed { Extent::StoredLines } else { Extent::Stored }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keepd_model::protocol::Stream::{Err, Out};
    use keepd_testkit::Scratch;

    use super::*;
    use crate::logs::written::{Written, shown};

    fn found(logs: &[&Written], run: Run, selection: Selection) -> (Vec<String>, Vec<Note>) {
        let logs: Vec<_> = logs.iter().map(|written| (written.log(), run)).collect();
        let mut stored = Stored::find(&logs, selection);
        let mut lines = Vec::new();
        stored.read(|line| {
            lines.push(line);
            true
        });
        assert!(stored.take_unread().is_empty());
        (shown(&lines), stored.notes().to_vec())
    }

    fn lines(logs: &[&Written], selection: Selection) -> Vec<String> {
        found(logs, Run::All, selection).0
    }

    fn run_of(written: &Written, run: Run) -> Vec<String> {
        found(&[written], run, Selection::default()).0
    }

    fn between(since: Option<u64>, until: Option<u64>) -> Selection {
        let ns = |second| second * 1_000_000_000;
        let filter =
            Filter { since_ns: since.map(ns), until_ns: until.map(ns), ..Filter::default() };
        Selection { filter, ..Selection::default() }
    }

    fn matching(pattern: &str, count: Option<u64>) -> Selection {
        let filter = Filter { pattern: Some(pattern.parse().unwrap()), ..Filter::default() };
        Selection { filter, count, followed: false }
    }

    #[test]
    fn the_number_counts_after_the_filter_however_far_back_that_is() {
        let scratch = Scratch::new();
        let (mut db, mut web) = (Written::new(&scratch, "db"), Written::new(&scratch, "web"));
        db.start(1, 0);
        web.start(1, 0);
        for second in 0..30_000_u64 {
            let text = match second {
                3 | 20_000 | 29_000 => format!("needle {second}\n"),
                _ => format!("{second:060}\n"),
            };
            web.chunk(if second % 2 == 0 { Out } else { Err }, second, text.as_bytes());
        }
        db.chunk(Err, 25_000, b"needle in db\n");
        let all = [
            "3 web err/1 needle 3",
            "20000 web out/1 needle 20000",
            "25000 db err/1 needle in db",
            "29000 web out/1 needle 29000",
        ];
        assert_eq!(lines(&[&db, &web], matching("^needle", None)), all);
        for count in 0..6 {
            let expected = &all[4_usize.saturating_sub(count)..];
            let selection = matching("^needle", Some(count as u64));
            assert_eq!(lines(&[&db, &web], selection), expected, "{count}");
        }
    }

    #[test]
    fn times_choose_whole_lines() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 2, b"a\nb");
        web.chunk(Err, 3, b"c\n");
        web.chunk(Out, 4, b"egin\nd\n");
        web.chunk(Out, 5, b"e");
        let all = [
            "2 web out/1 a",
            "2 web out/1 begin",
            "3 web err/1 c",
            "4 web out/1 d",
            "5 web out/1 e...",
        ];
        assert_eq!(lines(&[&web], Selection::default()), all);
        assert_eq!(lines(&[&web], between(Some(2), None)), all);
        assert_eq!(lines(&[&web], between(Some(3), None)), all[2..]);
        assert_eq!(lines(&[&web], between(Some(4), None)), all[3..]);
        assert_eq!(lines(&[&web], between(Some(6), None)), all[5..]);
        assert_eq!(lines(&[&web], between(None, Some(6))), all);
        assert_eq!(lines(&[&web], between(None, Some(5))), all[..4]);
        assert_eq!(lines(&[&web], between(None, Some(3))), all[..2]);
        assert_eq!(lines(&[&web], between(None, Some(1))), all[..0]);
        assert_eq!(lines(&[&web], between(Some(3), Some(5))), all[2..4]);
        let last = Selection { count: Some(1), ..between(Some(2), Some(5)) };
        assert_eq!(lines(&[&web], last), all[3..4]);
    }

    #[test]
    fn a_run_begins_with_a_line_also_where_the_one_before_did_not_end_one() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Err, 2, b"torn");
        web.start(3, 0);
        web.chunk(Out, 4, b"a\n");
        web.chunk(Err, 5, b"whole\n");
        assert_eq!(lines(&[&web], between(Some(4), None)), ["4 web out/2 a", "5 web err/2 whole"]);
    }

    #[test]
    fn a_set_clock_loses_no_line() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(100, 0);
        let mut expected = Vec::new();
        for (number, wall_ahead) in [0, 500, 0, -60, 7].into_iter().enumerate() {
            web.set_clock(wall_ahead);
            for second in 0..20_u64 {
                let second = 101 + 20 * number as u64 + second;
                web.chunk(Out, second, format!("{second}\n").as_bytes());
                let wall = second.checked_add_signed(wall_ahead).unwrap();
                if (110..150).contains(&wall) {
                    expected.push(format!("{wall} web out/1 {second}"));
                }
            }
        }
        assert_eq!(lines(&[&web], between(Some(110), Some(150))), expected);
    }

    #[test]
    fn runs_are_told_apart_by_their_borders() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        assert_eq!(found(&[&web], Run::Last, Selection::default()).1, [Note::NoSuchRun(web.log())]);
        web.start(1, 0);
        web.chunk(Out, 2, b"first\n");
        assert_eq!(run_of(&web, Run::Last), ["2 web out/1 first"]);
        let (before, notes) = found(&[&web], Run::BeforeLast, Selection::default());
        assert_eq!((before, notes), (Vec::new(), vec![Note::NoSuchRun(web.log())]));
        // The end of the first run was still in the pipe when the second one began.
        web.start(3, 5);
        web.chunk(Out, 4, b"rest\nsecond\nno line feed");
        web.chunk(Err, 5, b"oops\n");
        web.start(6, 0);
        web.chunk(Out, 7, b"third\n");
        assert_eq!(run_of(&web, Run::Last), ["7 web out/3 third"]);
        assert_eq!(
            run_of(&web, Run::BeforeLast),
            ["4 web out/2 second", "4 web out/2 no line feed...", "5 web err/2 oops"]
        );
        // Another keepd counts from 1 again.
        web.forget_generation();
        web.start(8, 0);
        web.chunk(Out, 9, b"fourth\n");
        assert_eq!(run_of(&web, Run::BeforeLast), ["7 web out/3 third"]);
        web.start(10, 0);
        assert_eq!(run_of(&web, Run::BeforeLast), ["9 web out/1 fourth"]);
        assert!(run_of(&web, Run::Last).is_empty());
    }

    #[test]
    fn a_file_that_was_cut_off_has_its_new_lines_once_and_with_their_times() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 2, b"old one\nold two\n");
        web.chunk(Err, 3, b"stays\n");
        web.truncate(Out, 0);
        web.chunk(Out, 4, b"new\n");
        let expected = ["3 web err/1 stays", "4 web out/1 new"];
        assert_eq!(lines(&[&web], Selection::default()), expected);
        assert_eq!(lines(&[&web], Selection { count: Some(9), ..Selection::default() }), expected);
        assert_eq!(run_of(&web, Run::Last), expected);
        web.start(5, 0);
        assert_eq!(run_of(&web, Run::BeforeLast), expected);
        web.truncate(Out, 0);
        web.start(6, 0);
        web.chunk(Out, 7, b"newer and longer than before\n");
        assert!(run_of(&web, Run::BeforeLast).is_empty());
        // Removed, and not made again yet.
        fs::remove_file(web.path(Out)).unwrap();
        assert_eq!(lines(&[&web], Selection::default()), ["3 web err/1 stays"]);
    }

    #[test]
    fn without_an_index_only_what_needs_no_times_is_found() {
        let scratch = Scratch::new();
        let web = Written::new(&scratch, "web");
        web.bytes(Out, &b"line\n".repeat(40_000));
        web.bytes(Out, b"end");
        let last = Selection { count: Some(2), ..Selection::default() };
        assert_eq!(lines(&[&web], last), ["- web out/0 line", "- web out/0 end..."]);
        assert_eq!(lines(&[&web], Selection::default()).len(), 40_001);
        assert_eq!(lines(&[&web], matching("end", Some(5))), ["- web out/0 end..."]);
        let (none, notes) = found(&[&web], Run::All, between(Some(1), None));
        assert_eq!((none, notes), (Vec::new(), vec![Note::NoTimes(web.log())]));
        let (none, notes) = found(&[&web], Run::Last, Selection::default());
        assert_eq!((none, notes), (Vec::new(), vec![Note::NoSuchRun(web.log())]));
    }

    #[test]
    fn an_index_that_begins_late_does_not_make_a_short_answer_long() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.bytes(Out, &b"untimed\n".repeat(100_000));
        web.start(1, 0);
        web.chunk(Out, 2, b"a\n");
        let last = |count| Selection { count: Some(count), ..Selection::default() };
        assert_eq!(lines(&[&web], last(1)), ["2 web out/1 a"]);
        assert_eq!(lines(&[&web], last(2)), ["2 web out/1 untimed", "2 web out/1 a"]);
        assert_eq!(lines(&[&web], last(200_000)).len(), 100_001);
        assert_eq!(lines(&[&web], between(Some(1), None)), ["2 web out/1 a"]);
    }
}
