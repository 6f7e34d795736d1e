//! The thread that writes. It may wait for a terminal as long as it likes: nobody waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use keepd_model::ServiceName;

use super::own_file::OwnFile;
use super::queue::{Queue, Work};
use super::screen::Screen;
use super::style::SharedStyle;
use crate::logs::{Follower, LogLine, ServiceLog};

/// The most output of one service that is shown in one go. A service that writes faster than the
/// terminal shows is cut here; its log has everything.
const SHOWN_BYTES_MAX: usize = 1024 * 1024;

/// The most output of one service that is skipped in one go, so that others get their turn.
const SKIPPED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many lines are looked at to find those that a service wrote before it was followed.
const LOOKED_BACK_LINES: usize = 200;

/// The state of the writing thread.
pub(crate) struct Writer<O, E> {
    queue: Arc<Queue>,
    screen: Screen<O>,
    error: E,
    style: SharedStyle,
    columns: fn() -> Option<u16>,
    /// One for each service, so that the backlog of one is not that of another.
    followers: BTreeMap<ServiceName, Follower>,
    /// Logs about which was complained.
    unread: BTreeSet<PathBuf>,
    own_file: Option<OwnFile>,
}

impl<O: Write, E: Write> Writer<O, E> {
    /// Returns a writer for lines of this style. `columns` asks for the width of the terminal.
    pub(crate) fn new(
        queue: Arc<Queue>,
        out: O,
        error: E,
        style: SharedStyle,
        columns: fn() -> Option<u16>,
    ) -> Self {
        Self {
            queue,
            screen: Screen::new(out),
            error,
            style,
            columns,
            followers: BTreeMap::new(),
            unread: BTreeSet::new(),
            own_file: None,
        }
    }

    /// Returns the writer with a bound to the file that it writes to.
    pub(crate) fn with_own_file(self, own_file: Option<OwnFile>) -> Self {
        Self { own_file, ..self }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(work) = self.queue.wait() {
            self.handle(work);
            // What is there already is written together with it.
            while let Some(work) = self.queue.take() {
                self.handle(work);
            }
            self.screen.flush((self.columns)());
            self.bound_own_file();
        }
        self.screen.set_live(None);
        self.screen.flush(None);
    }

    fn handle(&mut self, work: Work) {
        match work {
            Work::Out(line) => self.screen.write(|out| out.extend_from_slice(&line)),
            Work::Err(line) => {
                self.screen.make_room();
                // There is nobody left to whom a failure could be told.
                let _ = self.error.write_all(&line);
            }
            Work::Follow(log, since_wall_ns) => self.follow(log, since_wall_ns),
            Work::Output { name, ended } => self.show_output(&name, ended),
            Work::Lost(count) => {
                let text = format!("{count} lines were not shown: nobody read them in time");
                self.say(&text);
            }
            Work::Live(line) => self.screen.set_live(line),
        }
    }

    fn bound_own_file(&mut self) {
        let bounded = self.own_file.as_mut().map_or(Ok(()), OwnFile::bound);
        if let Err(error) = bounded {
            self.say(&format!("cannot move what is old out of keepd's own log: {error}"));
            self.screen.flush(None);
        }
    }

    fn say(&mut self, text: &str) {
        let now_ns = keepd_os::clock::wall_now_ns();
        let line = self.style.get().own_line(now_ns, tracing::Level::WARN, text);
        self.screen.write(|out| out.extend_from_slice(&line));
    }

    fn show(&mut self, line: &LogLine) {
        let style = self.style.get();
        self.screen.write(|out| style.append_service_line(line, out));
    }

    /// Begins with a log. The service may have written already before this thread came to it.
    fn follow(&mut self, log: ServiceLog, since_wall_ns: u64) {
        let name = log.name.clone();
        let (tail, follower) = Follower::after_tail(&[log], LOOKED_BACK_LINES);
        for line in tail.lines {
            if line.stamp.is_some_and(|stamp| stamp.wall_ns >= since_wall_ns) {
                self.show(&line);
            }
        }
        self.followers.insert(name.clone(), follower);
        self.show_output(&name, false);
    }

    fn show_output(&mut self, name: &ServiceName, ended: bool) {
        let Some(mut follower) = self.followers.remove(name) else {
            return;
        };
        if self.screen.is_dead() {
            return;
        }
        let mut budget = Budget::default();
        loop {
            let lines = follower.read_new(name);
            if lines.is_empty() {
                break;
            }
            self.show_within(&lines, &mut budget);
            if budget.skipped_bytes > SKIPPED_BYTES_MAX {
                self.queue.push_output(name, ended);
                break;
            }
        }
        if ended && budget.skipped_bytes <= SKIPPED_BYTES_MAX {
            let rest = follower.finish(name);
            self.show_within(&rest, &mut budget);
        }
        if budget.skipped_lines > 0 {
            let count = budget.skipped_lines;
            self.say(&format!(
                "{count} lines of {name} were not shown (keepd logs {name} has them)"
            ));
        }
        for unread in follower.take_unread() {
            // A log that has not been written yet is no problem.
            let missing = unread.error.kind() == std::io::ErrorKind::NotFound;
            if !missing && self.unread.insert(unread.path.clone()) {
                self.say(&format!("{unread}: {}", unread.error));
            }
        }
        self.followers.insert(name.clone(), follower);
    }

    fn show_within(&mut self, lines: &[LogLine], budget: &mut Budget) {
        for line in lines {
            if budget.shown_bytes <= SHOWN_BYTES_MAX {
                budget.shown_bytes += line.bytes.len() + 1;
                self.show(line);
            } else {
                budget.skipped_bytes += line.bytes.len() + 1;
                budget.skipped_lines += 1;
            }
        }
    }
}

/// How much of one service was shown and skipped in one go.
#[derive(Default)]
struct Budget {
    shown_bytes: usize,
    skipped_bytes: usize,
    skipped_lines: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_model::protocol::Stream;
    use keepd_model::{Generation, Instant};
    use keepd_testkit::Scratch;
    use keepd_wire::index::{IndexKind, IndexRecord, encode_record};
    use std::fs::{self, OpenOptions};
    use std::path::Path;
    use std::time::Duration;

    /// Writes a stream and its record as the pump would.
    fn write_stream(dir: &Path, stream: Stream, text: &str) {
        fs::write(dir.join(format!("{}.log", stream.word())), text).unwrap();
        let record = IndexRecord {
            kind: IndexKind::Chunk,
            stream,
            offset: 0,
            length_bytes: u32::try_from(text.len()).unwrap(),
            generation: Generation::new(1),
            monotonic: Instant::ZERO,
            wall: Duration::from_secs(1),
        };
        let index = OpenOptions::new().append(true).create(true).open(dir.join("index"));
        index.unwrap().write_all(&encode_record(&record)).unwrap();
    }

    #[test]
    fn a_service_that_writes_faster_than_it_is_shown_is_cut_and_counted() {
        const LINES: usize = 3 * SHOWN_BYTES_MAX / 1024;
        let scratch = Scratch::new();
        let name = ServiceName::new("web").unwrap();
        let dir = scratch.path().to_owned();
        let log = ServiceLog { name: name.clone(), dir: dir.clone() };
        let queue = Arc::new(Queue::new());
        let mut out = Vec::new();
        let mut writer =
            Writer::new(Arc::clone(&queue), &mut out, Vec::new(), SharedStyle::default(), || None);
        writer.handle(Work::Follow(log, 0));
        // 1024 bytes a line, three times what is shown in one go.
        write_stream(&dir, Stream::Out, &format!("{}\n", "x".repeat(1023)).repeat(LINES));
        writer.handle(Work::Output { name: name.clone(), ended: false });
        write_stream(&dir, Stream::Err, "after\n");
        queue.push_output(&name, true);
        queue.close();
        writer.run();
        let text = String::from_utf8(out).unwrap();
        let shown = text.lines().filter(|line| line.contains(" web | xxx")).count();
        assert!(shown.abs_diff(SHOWN_BYTES_MAX / 1024) <= 1, "{shown}");
        let skipped = LINES - shown;
        let said =
            format!("keepd: warn: {skipped} lines of web were not shown (keepd logs web has them)");
        assert!(text.contains(&said), "{}", &text[text.len() - 400..]);
        assert!(text.ends_with(" web ! after\n"), "{}", &text[text.len() - 400..]);
    }
}
