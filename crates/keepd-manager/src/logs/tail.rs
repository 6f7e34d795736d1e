//! The last lines of several services.

use super::line::{LogLine, ServiceLog, Unread};
use super::place::Run;
use super::stored::{Selection, Stored};

/// What [`tail`] found.
#[derive(Debug, Default)]
pub struct Tail {
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// The logs that could not be read.
    pub unread: Vec<Unread>,
}

/// Returns the last `count` lines of these services together, merged by time.
///
/// Files are read from their ends, in memory that grows with `count` and the number of services,
/// not with the files. Bytes at the end that have no line feed yet are a line, too. A service
/// without files has no lines.
pub fn tail(logs: &[ServiceLog], count: usize) -> Tail {
    let selection = Selection { count: Some(count as u64), ..Selection::default() };
    let logs: Vec<_> = logs.iter().map(|log| (log.clone(), Run::All)).collect();
    collect(&mut Stored::find(&logs, selection))
}

/// Reads everything that was found.
pub(super) fn collect(stored: &mut Stored) -> Tail {
    let mut lines = Vec::new();
    stored.read(|line| {
        lines.push(line);
        true
    });
    Tail { lines, unread: stored.take_unread() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keepd_model::protocol::Stream::{Err, Out};

    use super::*;
    use crate::logs::LINE_BYTES_MAX;
    use crate::logs::written::{Written, shown};
    use keepd_testkit::Scratch;

    fn tail_of(logs: &[&Written], count: usize) -> Vec<String> {
        let logs: Vec<ServiceLog> = logs.iter().map(|written| written.log()).collect();
        let found = tail(&logs, count);
        assert!(found.unread.is_empty(), "{:?}", found.unread);
        shown(&found.lines)
    }

    #[test]
    fn streams_and_services_are_merged_by_time() {
        let scratch = Scratch::new();
        let (mut db, mut web) = (Written::new(&scratch, "db"), Written::new(&scratch, "web"));
        db.start(1, 0);
        web.start(1, 0);
        web.chunk(Out, 2, b"a\nb\n");
        db.chunk(Err, 3, b"c\n");
        web.chunk(Err, 4, b"d\n");
        web.chunk(Out, 5, b"e\n");
        db.chunk(Out, 5, b"f\n");
        let all = [
            "2 web out/1 a",
            "2 web out/1 b",
            "3 db err/1 c",
            "4 web err/1 d",
            "5 db out/1 f",
            "5 web out/1 e",
        ];
        assert_eq!(tail_of(&[&db, &web], 100), all);
        assert_eq!(tail_of(&[&db, &web], 6), all);
        for count in 0..6 {
            assert_eq!(tail_of(&[&db, &web], count), all[6 - count..], "{count}");
        }
    }

    #[test]
    fn a_line_over_several_chunks_has_the_time_of_its_first_byte() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 2, b"a\nbe");
        web.chunk(Out, 3, b"gin");
        web.chunk(Out, 4, b"ning\nc\n");
        assert_eq!(
            tail_of(&[&web], 9),
            ["2 web out/1 a", "2 web out/1 beginning", "4 web out/1 c"]
        );
    }

    #[test]
    fn every_byte_comes_back() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        for (number, chunk) in bytes.chunks(7_001).enumerate() {
            web.chunk(Out, number as u64, chunk);
        }
        let mut back = Vec::new();
        for line in tail(&[web.log()], usize::MAX).lines {
            back.extend_from_slice(&line.bytes);
            if !line.partial {
                back.push(b'\n');
            }
        }
        assert!(back == bytes);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 2, &vec![b'x'; 2 * LINE_BYTES_MAX + 5]);
        web.chunk(Out, 3, b"\nend");
        let lines = tail(&[web.log()], 9).lines;
        let pieces: Vec<_> = lines.iter().map(|line| (line.bytes.len(), line.partial)).collect();
        assert_eq!(pieces, [(LINE_BYTES_MAX, true), (LINE_BYTES_MAX, true), (5, false), (3, true)]);
    }

    #[test]
    fn a_run_that_ends_without_a_line_feed_does_not_reach_into_the_next() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Out, 2, b"one");
        // Five more bytes were in the pipe when the next run began; they come in one chunk with its
        // own.
        web.start(3, 5);
        web.chunk(Out, 4, b" last");
        web.chunk(Out, 5, b"two\n");
        assert_eq!(tail_of(&[&web], 9), ["2 web out/1 one last...", "5 web out/2 two"]);
        web.start(6, 2);
        web.chunk(Out, 7, b"xxthree\n");
        assert_eq!(tail_of(&[&web], 2), ["7 web out/3 xx...", "7 web out/3 three"]);
    }

    #[test]
    fn without_an_index_lines_have_no_time() {
        let scratch = Scratch::new();
        let web = Written::new(&scratch, "web");
        assert!(tail_of(&[&web], 9).is_empty());
        web.bytes(Out, b"a\nb");
        assert_eq!(tail_of(&[&web], 9), ["- web out/0 a", "- web out/0 b..."]);
    }

    #[test]
    fn a_damaged_index_gives_the_time_of_the_neighbour() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        for second in 2..6 {
            web.chunk(Out, second, format!("line {second}\n").as_bytes());
        }
        let index = fs::read(web.index_path()).unwrap();
        let mut torn = index.clone();
        // The record of line 3, behind two starts and one chunk.
        torn[3 * 48 + 20] ^= 1;
        fs::write(web.index_path(), &torn).unwrap();
        let mut expected = [
            "2 web out/1 line 2",
            "2 web out/1 line 3",
            "4 web out/1 line 4",
            "5 web out/1 line 5",
        ];
        assert_eq!(tail_of(&[&web], 9), expected);
        fs::write(web.index_path(), &index[..index.len() - 60]).unwrap();
        expected[1..].copy_from_slice(&[
            "3 web out/1 line 3",
            "3 web out/1 line 4",
            "3 web out/1 line 5",
        ]);
        assert_eq!(tail_of(&[&web], 9), expected);
        fs::write(web.index_path(), &index[index.len() - 60..]).unwrap();
        expected = [
            "5 web out/1 line 2",
            "5 web out/1 line 3",
            "5 web out/1 line 4",
            "5 web out/1 line 5",
        ];
        assert_eq!(tail_of(&[&web], 9), expected);
    }

    #[test]
    fn a_long_index_is_read_from_its_end() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        web.chunk(Err, 2, b"old\n");
        web.chunk(Err, 3, b"half");
        for second in 0..5_000 {
            web.chunk(Out, 10 + second, format!("{second}\n").as_bytes());
        }
        web.chunk(Err, 6_000, b" line\nnew\n");
        assert_eq!(
            tail_of(&[&web], 3),
            ["5008 web out/1 4998", "5009 web out/1 4999", "6000 web err/1 new"]
        );
        let all = tail_of(&[&web], 5_004);
        assert_eq!(all.len(), 5_003);
        assert_eq!(all[..2], ["2 web err/1 old", "3 web err/1 half line"]);
    }
}
