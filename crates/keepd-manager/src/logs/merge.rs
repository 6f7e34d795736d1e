//! The lines of several services in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::line::{LogLine, Unread};
use super::service::{Extent, ServiceReader};

/// Takes the lines of these readers in order, each service's own order kept, until there is none or
/// `take` refuses one more.
///
/// A service that cannot be read is left out and noted in `unread`; the others go on.
pub(super) fn merge<'r>(
    readers: impl Iterator<Item = &'r mut ServiceReader>,
    extent: Extent,
    unread: &mut Vec<Unread>,
    mut take: impl FnMut(LogLine) -> bool,
) {
    let mut readers: Vec<&mut ServiceReader> = readers.collect();
    let mut heads = BinaryHeap::new();
    for (number, reader) in readers.iter_mut().enumerate() {
        reader.begin_look();
        push_head(&mut heads, reader, number, extent, unread);
    }
    while let Some(Reverse((_, number))) = heads.pop() {
        let reader = &mut readers[number];
        if let Some(line) = reader.take_head()
            && !take(line)
        {
            return;
        }
        push_head(&mut heads, reader, number, extent, unread);
    }
}

/// Wall time of the next line, then the reader, so that the order is the same every time.
type Head = Reverse<(u64, usize)>;

fn push_head(
    heads: &mut BinaryHeap<Head>,
    reader: &mut ServiceReader,
    number: usize,
    extent: Extent,
    unread: &mut Vec<Unread>,
) {
    match reader.load(extent) {
        Ok(false) => {}
        Ok(true) => {
            // A line without a time is as old as can be: others must not wait for it.
            let stamp = reader.head().and_then(|line| line.stamp);
            heads.push(Reverse((stamp.map_or(0, |stamp| stamp.wall_ns), number)));
        }
        Err(error) => unread.push(error),
    }
}
