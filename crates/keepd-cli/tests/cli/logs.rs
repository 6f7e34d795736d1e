//! `keepd logs`, without a manager.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use keepd_model::protocol::Stream;
use keepd_model::{Generation, Instant, Pid, Signal};
use keepd_wire::index::{IndexKind, IndexRecord, encode_record};

use crate::fixture::Fixture;

const PLAN: &str =
    "[services.db]\ncommand = \"x\"\n[services.web]\ncommand = \"x\"\ntags = [\"front\"]\n";

/// 2026-11-21T07:02:55Z.
const BEGIN: Duration = Duration::from_secs(1_795_244_575);

/// Writes a log and its index: each line one chunk, so many milliseconds after the beginning.
fn write(fixture: &Fixture, name: &str, stream: Stream, lines: &[(u64, &str)]) {
    let mut bytes = Vec::new();
    let mut index =
        std::fs::read(fixture.path().join(format!(".keepd/log/{name}/index"))).unwrap_or_default();
    for (milliseconds, line) in lines {
        let record = IndexRecord {
            kind: IndexKind::Chunk,
            stream,
            offset: bytes.len() as u64,
            length_bytes: u32::try_from(line.len()).unwrap(),
            generation: Generation::new(4),
            monotonic: Instant::ZERO,
            wall: BEGIN + Duration::from_millis(*milliseconds),
        };
        bytes.extend_from_slice(line.as_bytes());
        index.extend_from_slice(&encode_record(&record));
    }
    fixture.write(&format!(".keepd/log/{name}/{}.log", stream.word()), bytes);
    fixture.write(&format!(".keepd/log/{name}/index"), index);
}

fn stack() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("keepd.toml", PLAN);
    write(&fixture, "db", Stream::Out, &[(120, "hello\n"), (140, "bye\n")]);
    write(&fixture, "web", Stream::Err, &[(123, "oh \"no\"\n")]);
    fixture
}

#[test]
fn lines_of_all_services_are_in_the_order_of_time() {
    let fixture = stack();
    let lines = "2026-11-21T07:02:55.120Z db | hello\n\
                 2026-11-21T07:02:55.123Z web ! oh \"no\"\n\
                 2026-11-21T07:02:55.140Z db | bye\n";
    fixture.run(&["logs"]).done(lines);
    fixture.run(&["logs", "w*", "db"]).done(lines);
    fixture.run(&["logs", "-n", "1"]).done("2026-11-21T07:02:55.140Z db | bye\n");
    fixture.run(&["logs", "tag:front", "-o", "json"]).done(
        "{\"time\":\"2026-11-21T07:02:55.123Z\",\"service\":\"web\",\"stream\":\"err\",\
         \"generation\":4,\"message\":\"oh \\\"no\\\"\"}\n",
    );
}

#[test]
fn a_service_that_is_not_there_is_exit_4() {
    let fixture = stack();
    fixture.run(&["logs", "wbe"]).refused(4, "keepd: cannot find a service for \"wbe\"\n");
}

#[test]
fn following_goes_on_until_it_is_interrupted() {
    let fixture = stack();
    let mut follower =
        fixture.command(&["logs", "-f", "-n", "1", "db"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "2026-11-21T07:02:55.140Z db | bye");
    // The first line is there, so signals are already waited for.
    write(&fixture, "db", Stream::Err, &[(150, "more\n")]);
    assert_eq!(lines.next().unwrap().unwrap(), "2026-11-21T07:02:55.150Z db ! more");
    keepd_os::signals::send(Pid::new(follower.id()).unwrap(), Signal::INT).unwrap();
    assert!(lines.next().is_none());
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}
