//! The lines of several services in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::line::{LogLine, Unread};
use super::service::ServiceReader;

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Also what the index says meanwhile; otherwise only what the readers know.
    pub(super) refresh: bool,
    /// Also the line at the end that has no line feed.
    pub(super) unfinished: bool,
}

/// Takes the lines of these readers in order, each stream's own order kept, until there is none or
/// `take` refuses one more.
///
/// A stream that cannot be read is left out and noted in `unread`; the others go on.
pub(super) fn merge<'r>(
    readers: impl Iterator<Item = &'r mut ServiceReader>,
    extent: Extent,
    unread: &mut Vec<Unread>,
    mut take: impl FnMut(LogLine) -> bool,
) {
    let mut readers: Vec<&mut ServiceReader> = readers.collect();
    let mut heads = BinaryHeap::new();
    for (number, reader) in readers.iter_mut().enumerate() {
        for stream in 0..reader.streams.len() {
            push_head(&mut heads, reader, (number, stream), extent, unread);
        }
    }
    while let Some(Reverse((_, place))) = heads.pop() {
        let reader = &mut readers[place.0];
        if let Some(line) = reader.streams[place.1].take_head()
            && !take(line)
        {
            return;
        }
        push_head(&mut heads, reader, place, extent, unread);
    }
}

/// Wall time of the next line, then reader and stream, so that the order is the same every time.
type Head = Reverse<(u64, (usize, usize))>;

fn push_head(
    heads: &mut BinaryHeap<Head>,
    reader: &mut ServiceReader,
    place: (usize, usize),
    extent: Extent,
    unread: &mut Vec<Unread>,
) {
    match reader.load_head(place.1, extent) {
        Ok(false) => {}
        Ok(true) => {
            let head = reader.streams[place.1].head();
            // A line without a time is as old as can be: others must not wait for it.
            let wall_ns = head.and_then(|line| line.stamp).map_or(0, |stamp| stamp.wall_ns);
            heads.push(Reverse((wall_ns, place)));
        }
        Err(error) => unread.push(error),
    }
}
