//! Finding a wall time in an index without reading all of it.
//!
//! Records are in the order in which they were written. Their monotonic times never go back within
//! a boot, but their wall times do whenever somebody sets the clock, so plain bisection could land
//! behind lines that are wanted. The two clocks tell where that happened: slewing changes both
//! alike, so their difference is the same for every record until the clock is set, the machine
//! sleeps or boots. A part of the index whose two ends have the same difference is in order; any
//! other part is cut in halves, and both are looked at.

use std::io;

use super::index::{Placed, Snapshot};

/// How far the difference of the clocks of two records may vary without a set clock: the pump reads
/// one clock right after the other.
const JITTER_NS: u64 = 50_000;

/// Returns where the first record begins whose wall time is not before this one; the end of the
/// snapshot if there is none.
pub(super) fn first_not_before(index: &Snapshot, wall_ns: u64) -> io::Result<u64> {
    let found = match ends(index)? {
        Some((first, last)) => search_first(index, first, last, wall_ns)?,
        None => None,
    };
    Ok(found.map_or(index.length(), |record| record.position))
}

/// Returns where the last record ends whose wall time is before this one; 0 if there is none.
pub(super) fn end_of_last_before(index: &Snapshot, wall_ns: u64) -> io::Result<u64> {
    let found = match ends(index)? {
        Some((first, last)) => search_last(index, first, last, wall_ns)?,
        None => None,
    };
    Ok(found.map_or(0, |record| record.end()))
}

fn ends(index: &Snapshot) -> io::Result<Option<(Placed, Placed)>> {
    let first = index.first_from(0, index.length())?;
    let last = index.last_before(index.length())?;
    Ok(first.zip(last))
}

fn search_first(
    index: &Snapshot,
    first: Placed,
    last: Placed,
    wall_ns: u64,
) -> io::Result<Option<Placed>> {
    if wall_of(&first) >= wall_ns {
        return Ok(Some(first));
    }
    if in_order(&first, &last) && wall_of(&last).saturating_add(JITTER_NS) < wall_ns {
        return Ok(None);
    }
    let Some(middle) = between(index, &first, &last)? else {
        return Ok((wall_of(&last) >= wall_ns).then_some(last));
    };
    match search_first(index, first, middle, wall_ns)? {
        Some(found) => Ok(Some(found)),
        None => search_first(index, middle, last, wall_ns),
    }
}

fn search_last(
    index: &Snapshot,
    first: Placed,
    last: Placed,
    wall_ns: u64,
) -> io::Result<Option<Placed>> {
    if wall_of(&last) < wall_ns {
        return Ok(Some(last));
    }
    if in_order(&first, &last) && wall_of(&first) >= wall_ns.saturating_add(JITTER_NS) {
        return Ok(None);
    }
    let Some(middle) = between(index, &first, &last)? else {
        return Ok((wall_of(&first) < wall_ns).then_some(first));
    };
    match search_last(index, middle, last, wall_ns)? {
        Some(found) => Ok(Some(found)),
        None => search_last(index, first, middle, wall_ns),
    }
}

/// Returns a record about half way between two others; `None` if there is nothing between them.
fn between(index: &Snapshot, first: &Placed, last: &Placed) -> io::Result<Option<Placed>> {
    let size = first.end() - first.position;
    let middle = first.end() + last.position.saturating_sub(first.end()) / (2 * size) * size;
    if let Some(found) = index.first_from(middle, last.position)? {
        return Ok(Some(found));
    }
    // What is behind the middle is damaged: the record before the damage is taken.
    let before = index.last_before(middle)?;
    Ok(before.filter(|found| found.position > first.position))
}

/// Reports whether the wall times from one record to the other are in order.
fn in_order(first: &Placed, last: &Placed) -> bool {
    let difference =
        |at: &Placed| i128::from(wall_of(at)) - i128::from(at.record.monotonic.as_nanos());
    let is_same_boot = first.record.monotonic <= last.record.monotonic;
    is_same_boot && difference(first).abs_diff(difference(last)) <= u128::from(JITTER_NS)
}

fn wall_of(placed: &Placed) -> u64 {
    u64::try_from(placed.record.wall.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keepd_model::protocol::Stream::Out;
    use keepd_testkit::Scratch;
    use keepd_wire::index::{RECORD_BYTES, decode_all};

    use super::*;
    use crate::logs::written::Written;

    /// Compares both searches with what looking at every record finds, for every time that occurs.
    #[track_caller]
    fn assert_exact(written: &Written) {
        let index = Snapshot::open(&written.index_path()).unwrap().unwrap();
        let mut records = Vec::new();
        let mut position = 0;
        while let Some(found) = index.first_from(position, index.length()).unwrap() {
            position = found.end();
            records.push(found);
        }
        let whole = fs::read(written.index_path()).unwrap();
        assert_eq!(records.len(), decode_all(&whole).0.len());
        let mut times: Vec<u64> = records.iter().map(wall_of).collect();
        times.extend([0, u64::MAX]);
        for wall_ns in times.iter().flat_map(|time| [*time, time.saturating_add(1)]) {
            let first = records.iter().find(|record| wall_of(record) >= wall_ns);
            let last = records.iter().rfind(|record| wall_of(record) < wall_ns);
            assert_eq!(
                first_not_before(&index, wall_ns).unwrap(),
                first.map_or(index.length(), |record| record.position),
                "not before {wall_ns}"
            );
            assert_eq!(
                end_of_last_before(&index, wall_ns).unwrap(),
                last.map_or(0, Placed::end),
                "before {wall_ns}"
            );
        }
    }

    fn write(written: &Written, seconds: std::ops::Range<u64>) {
        for second in seconds {
            written.chunk(Out, second, b"x\n");
        }
    }

    #[test]
    fn a_time_is_found_wherever_the_clock_was_set_to() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        fs::write(web.index_path(), b"").unwrap();
        assert_exact(&web);
        web.start(100, 0);
        write(&web, 100..140);
        assert_exact(&web);
        // Forwards, as at the end of a sleep; backwards; and away and back again.
        for wall_ahead in [50, 20, -30, 1_000, -30] {
            web.set_clock(wall_ahead);
            let second = 200 + fs::metadata(web.index_path()).unwrap().len();
            write(&web, second..second + 25);
            assert_exact(&web);
        }
        // Another boot.
        web.set_clock(3_000);
        write(&web, 5..40);
        assert_exact(&web);
    }

    #[test]
    fn damage_does_not_hide_what_is_beside_it() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        write(&web, 2..400);
        let whole = fs::read(web.index_path()).unwrap();
        let damages: [std::ops::Range<usize>; 4] =
            [0..70, 9_000..9_010, 9_650..17_000, whole.len() - 5_000..whole.len()];
        for damage in damages {
            let mut damaged = whole.clone();
            damaged[damage].fill(0);
            fs::write(web.index_path(), &damaged).unwrap();
            assert_exact(&web);
        }
        // Off the grid of records.
        fs::write(web.index_path(), &whole[RECORD_BYTES + 11..]).unwrap();
        assert_exact(&web);
    }

    #[test]
    fn little_of_a_long_index_is_read() {
        let scratch = Scratch::new();
        let mut web = Written::new(&scratch, "web");
        web.start(1, 0);
        write(&web, 2..20_000);
        let index = Snapshot::open(&web.index_path()).unwrap().unwrap();
        for second in [2, 7_777, 19_999, 30_000] {
            let before = index.reads();
            first_not_before(&index, second * 1_000_000_000).unwrap();
            end_of_last_before(&index, second * 1_000_000_000).unwrap();
            assert!(index.reads() - before < 80, "{second}: {}", index.reads() - before);
        }
    }
}
