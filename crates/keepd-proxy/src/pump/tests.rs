//! A pump that is lost, and another one that goes on with what it left.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use keepd_model::protocol::{LogTarget, Stream};
use keepd_model::{Generation, ServiceName};
use keepd_os::channel::{Channel, MESSAGE_BYTES_MAX, Received};
use keepd_os::epoll::Epoll;
use keepd_os::pipe::LogPipe;
use keepd_os::process;
use keepd_testkit::Scratch;
use keepd_wire::index::{IndexKind, IndexRecord, RECORD_BYTES, decode_record};

use super::{Left, Moment, News, Pump, Start, Writers, find_again};
use crate::channel::ToWarden;
use crate::estate::{Estate, Label};
use crate::holder::{Held, Holder};

struct Stage {
    scratch: Scratch,
    epoll: Epoll,
    name: ServiceName,
    target: LogTarget,
}

impl Stage {
    fn new(target: impl FnOnce(&Path) -> LogTarget) -> Self {
        let scratch = Scratch::new();
        let target = target(scratch.path());
        let name = ServiceName::new("web").unwrap();
        Self { epoll: Epoll::new().unwrap(), name, target, scratch }
    }

    fn with_files() -> Self {
        Self::new(|folder| LogTarget::File {
            dir: folder.join("web").to_str().unwrap().into(),
            merge: false,
        })
    }

    fn start(&self, pump: &mut Pump, generation: u64) -> Writers {
        let start = Start {
            name: &self.name,
            generation: Generation::new(generation),
            target: &self.target,
            uid: process::effective_uid(),
        };
        pump.prepare(&self.epoll, Moment::now(), &start).unwrap().unwrap()
    }

    fn left(&self, pipes: Vec<(Stream, LogPipe<Held>)>) -> Left {
        let (name, target) = (self.name.clone(), self.target.clone());
        Left { name, generation: Generation::new(1), target, pipes }
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.scratch.path().join(file)).unwrap()
    }

    fn records(&self, stream: Stream) -> Vec<IndexRecord> {
        let bytes = fs::read(self.scratch.path().join("web/index")).unwrap();
        let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
        assert_eq!(rest, b"");
        let records = records.iter().map(|record| decode_record(record).unwrap());
        records.filter(|record| record.stream == stream).collect()
    }

    /// Asserts that the chunks of a stream cover its file, without a gap and once each.
    fn assert_covered(&self, stream: Stream, length: u64) {
        let records = self.records(stream);
        let chunks = records.iter().filter(|record| record.kind == IndexKind::Chunk);
        let end = chunks.fold(0, |end, chunk| {
            assert_eq!(chunk.offset, end, "{records:?}");
            end + u64::from(chunk.length_bytes)
        });
        assert_eq!(end, length, "{records:?}");
    }
}

fn write(writer: &OwnedFd, text: &str) {
    assert_eq!(rustix::io::write(writer, text.as_bytes()), Ok(text.len()));
}

/// A pump with a warden that has everything which is held.
fn pump_with_warden() -> (Pump, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (Pump::new(Holder::new(ours, Estate::default())), theirs)
}

/// What the warden has of logs, as the next proxy gets it.
fn held_by(warden: &Channel) -> Vec<(Stream, LogPipe<Held>)> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let mut found = Vec::new();
    while let Received::Message { length, descriptor, .. } = warden.receive(&mut buffer).unwrap() {
        match ToWarden::decode(&buffer[..length]).unwrap() {
            ToWarden::Hold(_, Label::Log { stream, .. }) => {
                let held = Held::alone(descriptor.unwrap());
                found.push((stream, LogPipe::adopt(held)));
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

/// As after a SIGKILL: nothing is given back.
fn lose(pump: Pump) {
    std::mem::forget(pump);
}

#[test]
fn files_pipes_and_index_go_on_where_a_predecessor_was_lost() {
    let stage = Stage::with_files();
    let (mut first, warden) = pump_with_warden();
    let writers = stage.start(&mut first, 1);
    let err = writers.err.unwrap();
    write(&writers.out, "one\n");
    first.drain(&stage.epoll, Moment::now(), &stage.name);
    write(&writers.out, "two\n");
    write(&err, "oh\n");
    lose(first);
    let pipes = held_by(&warden);
    assert_eq!(pipes.len(), 2);

    let epoll = Epoll::new().unwrap();
    let mut second = Pump::new(Holder::none());
    let now = Moment::now();
    assert_eq!(second.adopt(&epoll, now, stage.left(pipes)), []);
    assert_eq!(second.poll_timeout(), Some(now.monotonic));
    second.retry(&epoll, now);
    let told = |offset| News::Output(stage.name.clone(), Stream::Out, offset);
    assert!(second.take_news().contains(&told(4)));
    write(&writers.out, "three\n");
    second.drain(&epoll, Moment::now(), &stage.name);
    assert_eq!(stage.text("web/out.log"), "one\ntwo\nthree\n");
    assert_eq!(stage.text("web/err.log"), "oh\n");
    stage.assert_covered(Stream::Out, 14);
    stage.assert_covered(Stream::Err, 3);
    assert!(second.take_news().contains(&told(14)));
    let records = stage.records(Stream::Out);
    assert_eq!(records.iter().filter(|record| record.kind == IndexKind::Start).count(), 1);
    assert!(records.iter().all(|record| record.generation == Generation::new(1)));

    // The next generation writes into the same pipes.
    let writers = stage.start(&mut second, 2);
    write(&writers.out, "four\n");
    second.drain(&epoll, Moment::now(), &stage.name);
    assert_eq!(stage.text("web/out.log"), "one\ntwo\nthree\nfour\n");
    assert_eq!(stage.records(Stream::Out).last().unwrap().generation, Generation::new(2));
}

#[test]
fn what_waits_in_a_pipe_is_moved_when_an_end_needs_it_before_its_turn() {
    let stage = Stage::with_files();
    let (mut first, warden) = pump_with_warden();
    let writers = stage.start(&mut first, 1);
    write(&writers.out, "last words\n");
    lose(first);
    let mut second = Pump::new(Holder::none());
    let epoll = Epoll::new().unwrap();
    second.adopt(&epoll, Moment::now(), stage.left(held_by(&warden)));
    assert_eq!(stage.text("web/out.log"), "");
    second.drain(&epoll, Moment::now(), &stage.name);
    assert_eq!(stage.text("web/out.log"), "last words\n");
    stage.assert_covered(Stream::Out, 11);
    assert_eq!(second.poll_timeout(), None);
}

#[test]
fn what_was_moved_and_not_recorded_is_recorded_by_the_successor() {
    let stage = Stage::with_files();
    let index = stage.scratch.path().join("web/index");
    // Lost after the first bytes, and after later ones.
    for rounds in 1..=2 {
        let (mut first, warden) = pump_with_warden();
        let writers = stage.start(&mut first, 1);
        let mut before = 0;
        for _ in 0..rounds {
            before = fs::metadata(&index).unwrap().len();
            write(&writers.out, "line\n");
            first.drain(&stage.epoll, Moment::now(), &stage.name);
        }
        lose(first);
        fs::OpenOptions::new().write(true).open(&index).unwrap().set_len(before).unwrap();
        let mut second = Pump::new(Holder::none());
        let epoll = Epoll::new().unwrap();
        let now = Moment::now();
        second.adopt(&epoll, now, stage.left(held_by(&warden)));
        second.retry(&epoll, now);
        stage.assert_covered(Stream::Out, 5 * rounds);
        fs::remove_dir_all(stage.scratch.path().join("web")).unwrap();
    }
}

#[test]
fn files_that_cannot_be_opened_are_tried_again_and_nothing_is_lost() {
    let stage = Stage::with_files();
    let (mut first, warden) = pump_with_warden();
    let writers = stage.start(&mut first, 1);
    write(&writers.out, "one\n");
    lose(first);
    let folder = stage.scratch.path().join("web");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let epoll = Epoll::new().unwrap();
    let mut second = Pump::new(Holder::none());
    let now = Moment::now();
    assert_eq!(second.adopt(&epoll, now, stage.left(held_by(&warden))), []);
    second.retry(&epoll, now);
    let news = second.take_news();
    assert!(matches!(news[..], [News::Blocked(_, Some(_))]), "{news:?}");
    let due = second.poll_timeout().unwrap();
    assert!(due > now.monotonic);
    fs::remove_file(&folder).unwrap();
    let later = Moment { monotonic: due, wall: now.wall };
    second.retry(&epoll, later);
    assert_eq!(second.poll_timeout(), None);
    second.drain(&epoll, later, &stage.name);
    assert_eq!(stage.text("web/out.log"), "one\n");
    let news = second.take_news();
    assert!(news.contains(&News::Blocked(stage.name.clone(), None)), "{news:?}");
}

#[test]
fn pipes_that_are_gone_are_said_and_made_anew() {
    let stage = Stage::with_files();
    let mut pump = Pump::new(Holder::none());
    let lost = pump.adopt(&stage.epoll, Moment::now(), stage.left(Vec::new()));
    assert_eq!(lost, [Stream::Out, Stream::Err]);
    let writers = stage.start(&mut pump, 2);
    write(&writers.out, "next\n");
    pump.drain(&stage.epoll, Moment::now(), &stage.name);
    assert_eq!(stage.text("web/out.log"), "next\n");
}

#[test]
fn pipes_are_found_in_the_process_that_writes_into_them() {
    let stage = Stage::new(|folder| LogTarget::Append {
        file: folder.join("all.log").to_str().unwrap().into(),
    });
    let mut first = Pump::new(Holder::none());
    let writers = stage.start(&mut first, 1);
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "echo one; read x; echo two"])
        .stdin(std::process::Stdio::piped())
        .stdout(writers.out)
        .spawn()
        .unwrap();
    // Both descriptors of ours are gone, as with warden and proxy.
    drop(first);
    let pid = keepd_model::Pid::new(child.id()).unwrap();
    let pidfd = keepd_os::pidfd::open(pid).unwrap();
    let holder = Holder::none();
    let found = find_again(&holder, &stage.name, &stage.target, (pid, pidfd.as_fd())).unwrap();
    let mut second = Pump::new(holder);
    assert_eq!(second.adopt(&stage.epoll, Moment::now(), stage.left(found)), []);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    second.drain(&stage.epoll, Moment::now(), &stage.name);
    assert_eq!(stage.text("all.log"), "one\ntwo\n");
}
