//! What is added to logs.

use std::collections::BTreeMap;

use keepd_model::ServiceName;

use super::line::{LogLine, ServiceLog, Unread};
use super::merge::merge;
use super::place::Run;
use super::service::{Extent, ServiceReader};
use super::stored::{Selection, Stored};
use super::tail::{Tail, collect};

/// About how many bytes one call returns at most; the next call goes on.
const RETURNED_BYTES_MAX: usize = 1024 * 1024;

/// Where to begin with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// With everything that is there.
    Beginning,
    /// With what comes.
    End,
}

/// Reads what is added to the logs of several services.
///
/// It looks only when it is asked, so somebody else says when there may be news: events of the
/// proxy, or a timer. Files may appear, be removed and appear again. Within a stream every byte is
/// given exactly once and in order; among streams the order is that of the times, as far as they
/// are there at a look.
#[derive(Debug, Default)]
pub struct Follower {
    readers: BTreeMap<ServiceName, ServiceReader>,
    unread: Vec<Unread>,
}

impl Follower {
    /// Returns a follower of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the last `count` lines of these services, and a follower that goes on exactly behind
    /// them.
    ///
    /// Unlike [`tail`](super::tail()), what has no line feed yet is left to the follower.
    pub fn after_tail(logs: &[ServiceLog], count: usize) -> (Tail, Self) {
        let selection =
            Selection { count: Some(count as u64), followed: true, ..Selection::default() };
        let logs: Vec<_> = logs.iter().map(|log| (log.clone(), Run::All)).collect();
        let mut stored = Stored::find(&logs, selection);
        let tail = collect(&mut stored);
        (tail, stored.into_follower())
    }

    /// Returns a follower that goes on where these readers are.
    pub(super) fn of(readers: impl Iterator<Item = ServiceReader>) -> Self {
        let readers = readers.map(|reader| (reader.log.name.clone(), reader)).collect();
        Self { readers, unread: Vec::new() }
    }

    /// Follows one more service. One that is followed already goes on as it was if its folder is
    /// the same.
    pub fn add(&mut self, log: ServiceLog, from: StartFrom) {
        let known = self.readers.get(&log.name);
        if known.is_some_and(|reader| reader.log == log) {
            return;
        }
        let opened = match from {
            StartFrom::Beginning => ServiceReader::at_beginning(log.clone()),
            StartFrom::End => ServiceReader::at_end(log.clone()),
        };
        let reader = opened.unwrap_or_else(|error| {
            note(&mut self.unread, error);
            ServiceReader::unseen(log)
        });
        self.readers.insert(reader.log.name.clone(), reader);
    }

    /// Follows a service no longer.
    pub fn remove(&mut self, name: &ServiceName) {
        self.readers.remove(name);
    }

    /// Returns new lines of one service, about 1 MiB at most. Ask again until there is none.
    pub fn read_new(&mut self, name: &ServiceName) -> Vec<LogLine> {
        let Self { readers, unread } = self;
        read(readers.get_mut(name).into_iter(), Extent::Lines, unread)
    }

    /// Returns new lines of all services, merged by time, about 1 MiB at most. Ask again until
    /// there is none.
    pub fn read_all_new(&mut self) -> Vec<LogLine> {
        let Self { readers, unread } = self;
        read(readers.values_mut(), Extent::Lines, unread)
    }

    /// Returns new lines of one service, and at their end what has no line feed yet. For a service
    /// that ended. About 1 MiB at most; ask again until there is none.
    pub fn finish(&mut self, name: &ServiceName) -> Vec<LogLine> {
        let Self { readers, unread } = self;
        read(readers.get_mut(name).into_iter(), Extent::LinesAndRest, unread)
    }

    /// Returns what has no line feed yet, of all services, and lines before it.
    pub fn finish_all(&mut self) -> Vec<LogLine> {
        let Self { readers, unread } = self;
        read(readers.values_mut(), Extent::LinesAndRest, unread)
    }

    /// Returns the logs that could not be read since the last call.
    pub fn take_unread(&mut self) -> Vec<Unread> {
        std::mem::take(&mut self.unread)
    }
}

fn read<'r>(
    readers: impl Iterator<Item = &'r mut ServiceReader>,
    extent: Extent,
    unread: &mut Vec<Unread>,
) -> Vec<LogLine> {
    let mut found = Vec::new();
    let mut lines = Vec::new();
    let mut bytes = 0;
    merge(readers, extent, &mut found, |line| {
        bytes += line.bytes.len() + size_of::<LogLine>();
        lines.push(line);
        bytes < RETURNED_BYTES_MAX
    });
    for error in found {
        note(unread, error);
    }
    lines
}

/// A log that cannot be read at one look usually cannot at the next: it is said once until somebody
/// asks.
fn note(unread: &mut Vec<Unread>, error: Unread) {
    if !unread.iter().any(|known| known.path == error.path) {
        unread.push(error);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keepd_model::protocol::Stream::{Err, Out};

    use super::*;
    use crate::logs::written::{Written, shown};
    use keepd_testkit::Scratch;

    #[test]
    fn a_tail_and_its_follower_give_every_line_once() {
        let scratch = Scratch::new();
        let (mut db, mut web) = (Written::new(&scratch, "db"), Written::new(&scratch, "web"));
        db.start(1, 0);
        web.start(1, 0);
        web.chunk(Out, 2, b"a\nhalf");
        let (tail, mut follower) = Follower::after_tail(&[db.log(), web.log()], 10);
        assert_eq!(shown(&tail.lines), ["2 web out/1 a"]);
        assert!(follower.read_all_new().is_empty());
        web.chunk(Out, 3, b" line\nb\n");
        db.chunk(Err, 2, b"c\n");
        assert_eq!(
            shown(&follower.read_all_new()),
            ["2 db err/1 c", "2 web out/1 half line", "3 web out/1 b"]
        );
        web.chunk(Out, 4, b"end");
        assert!(follower.read_new(web.name()).is_empty());
        assert_eq!(shown(&follower.finish(web.name())), ["4 web out/1 end..."]);
        assert!(follower.finish_all().is_empty());
        assert!(follower.take_unread().is_empty());
    }

    #[test]
    fn bytes_without_a_record_wait_for_it() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        let mut follower = Follower::new();
        follower.add(web.log(), StartFrom::Beginning);
        web.bytes(Out, b"in flight\n");
        assert!(follower.read_all_new().is_empty());
        web.chunk(Out, 2, b"next\n");
        assert_eq!(shown(&follower.read_all_new()), ["1 web out/1 in flight", "2 web out/1 next"]);
    }

    #[test]
    fn files_may_appear_and_be_made_anew() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        let mut follower = Follower::new();
        follower.add(web.log(), StartFrom::End);
        assert!(follower.read_all_new().is_empty());
        web.start(1, 0);
        web.chunk(Out, 2, b"first\nsecond\n");
        assert_eq!(shown(&follower.read_all_new()), ["2 web out/1 first", "2 web out/1 second"]);
        web.clear();
        assert!(follower.read_all_new().is_empty());
        web.start(3, 0);
        web.chunk(Out, 4, b"again\n");
        assert_eq!(shown(&follower.read_all_new()), ["4 web out/1 again"]);
    }

    #[test]
    fn the_end_of_a_log_is_where_its_bytes_end() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 2, b"old\n");
        let mut follower = Follower::new();
        follower.add(web.log(), StartFrom::End);
        assert!(follower.read_all_new().is_empty());
        web.start(3, 0);
        web.chunk(Out, 4, b"new\n");
        assert_eq!(shown(&follower.read_all_new()), ["4 web out/2 new"]);
        follower.remove(web.name());
        web.chunk(Out, 5, b"unseen\n");
        assert!(follower.read_all_new().is_empty());
    }

    #[test]
    fn much_comes_in_several_calls_and_in_order() {
        let scratch = Scratch::new();
        let (mut db, mut web) = (Written::new(&scratch, "db"), Written::new(&scratch, "web"));
        db.start(1, 0);
        web.start(1, 0);
        for second in 0..9_000 {
            let written = if second % 3 == 0 { &db } else { &web };
            written.chunk(Out, second, format!("{second:0300}\n").as_bytes());
        }
        let mut follower = Follower::new();
        follower.add(db.log(), StartFrom::Beginning);
        follower.add(web.log(), StartFrom::Beginning);
        let mut numbers = Vec::new();
        let mut calls = 0;
        loop {
            let lines = follower.read_all_new();
            if lines.is_empty() {
                break;
            }
            calls += 1;
            for line in lines {
                numbers.push(String::from_utf8(line.bytes).unwrap().parse::<u32>().unwrap());
            }
        }
        assert!(calls > 2, "{calls}");
        assert!(numbers.iter().copied().eq(0..9_000));
    }

    #[test]
    fn a_log_that_cannot_be_read_does_not_stop_others() {
        let scratch = Scratch::new();
        let (bad, mut web) = (Written::new(&scratch, "bad"), Written::new(&scratch, "web"));
        // A folder in the place of the index cannot be read as a file, whoever we are.
        fs::create_dir_all(bad.index_path().join("folder")).unwrap();
        web.start(1, 0);
        web.chunk(Out, 2, b"a\n");
        let (tail, mut follower) = Follower::after_tail(&[bad.log(), web.log()], 9);
        assert_eq!(shown(&tail.lines), ["2 web out/1 a"]);
        assert_eq!(tail.unread.len(), 1);
        web.chunk(Out, 3, b"b\n");
        assert_eq!(shown(&follower.read_all_new()), ["3 web out/1 b"]);
        assert!(follower.read_all_new().is_empty());
        let unread = follower.take_unread();
        assert_eq!(unread.len(), 1);
        assert_eq!(unread[0].service.as_str(), "bad");
    }
}
