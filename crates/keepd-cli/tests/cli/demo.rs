//! `keepd demo`: the examples do what they show.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use keepd_model::{Pid, Signal};

use crate::fixture::Fixture;

type Lines = std::io::Lines<BufReader<ChildStdout>>;

/// A program that does not outlive a test that fails.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It has usually been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(fixture: &Fixture, words: &[&str], notify: Option<&Path>) -> (Program, Lines) {
    let mut command = fixture.command(words);
    if let Some(path) = notify {
        command.env("NOTIFY_SOCKET", path);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (Program(child), lines)
}

fn terminate(program: &mut Program) -> Option<i32> {
    let child = &mut program.0;
    keepd_os::signals::send(Pid::new(child.id()).unwrap(), Signal::TERM).unwrap();
    child.wait().unwrap().code()
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn web_serves_and_ends_gracefully() {
    let fixture = Fixture::new();
    let (mut child, mut lines) = spawn(&fixture, &["demo", "web", "--port", "0"], None);
    let first = lines.next().unwrap().unwrap();
    let address = first.split_once("http://").unwrap().1.trim_end_matches('/').to_owned();
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
    let hit = get(&address, "/");
    let body = format!("{{\"service\":\"web\",\"hits\":1,\"pid\":{}}}\n", child.0.id());
    assert!(hit.ends_with(&body), "{hit}");
    assert!(get(&address, "/x").starts_with("HTTP/1.1 404 "));
    assert_eq!(terminate(&mut child), Some(0));
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(
        rest,
        [
            "GET /healthz 200",
            "GET / 200",
            "GET /x 404",
            "web got TERM, answered every request and ends"
        ]
    );
}

#[test]
fn web_is_not_ready_while_it_warms_up() {
    let fixture = Fixture::new();
    let words = ["demo", "web", "--port", "0", "--warm-up", "1h"];
    let (mut child, mut lines) = spawn(&fixture, &words, None);
    let first = lines.next().unwrap().unwrap();
    let address = first.split_once("http://").unwrap().1.trim_end_matches('/').to_owned();
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 503 "));
    assert_eq!(terminate(&mut child), Some(0));
}

#[test]
fn worker_says_when_it_is_ready_and_finishes_its_item() {
    let fixture = Fixture::new();
    let path = fixture.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let words = ["demo", "worker", "--period", "20ms", "--notify"];
    let (mut child, mut lines) = spawn(&fixture, &words, Some(&path));
    let mut datagram = [0; 256];
    let length = socket.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"READY=1\nSTATUS=waiting for the first item");
    assert_eq!(lines.next().unwrap().unwrap(), format!("worker {} is ready", child.0.id()));
    assert_eq!(lines.next().unwrap().unwrap(), "item 1 is done");
    assert_eq!(terminate(&mut child), Some(0));
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let [.., item, end] = rest.as_slice() else { panic!("{rest:?}") };
    let number = item.trim_start_matches("item ").trim_end_matches(" is done");
    assert_eq!(*end, format!("worker got TERM, finished item {number} and ends"));
}

#[test]
fn setup_writes_its_file_and_is_done() {
    let fixture = Fixture::new();
    let run = fixture.run(&["demo", "setup", "--takes", "0s", "--file", "made"]);
    run.done("setup begins, it takes 0s\nsetup wrote made\nsetup is done\n");
    assert!(fixture.path().join("made").is_file());
    let words = ["demo", "setup", "--takes", "1h"];
    let (mut child, mut lines) = spawn(&fixture, &words, None);
    lines.next().unwrap().unwrap();
    assert_eq!(terminate(&mut child), Some(1));
}

#[test]
fn flaky_crashes_as_it_is_told() {
    let fixture = Fixture::new();
    let exit = fixture.run(&["demo", "flaky", "--after", "0s", "--how", "exit"]);
    assert_eq!(exit.code, Some(3));
    assert_eq!(exit.stderr, "flaky cannot go on: the moon is in the wrong phase\n");
    let mut abort = fixture.command(&["demo", "flaky", "--after", "0s", "--how", "abort"]);
    let abort = abort.output().unwrap();
    assert_eq!(abort.status.signal(), Some(6));
    assert_eq!(abort.stderr, b"flaky fails an assertion: the world is not flat\n");
    let (mut child, mut lines) = spawn(&fixture, &["demo", "flaky", "--after", "1h"], None);
    lines.next().unwrap().unwrap();
    assert_eq!(terminate(&mut child), Some(0));
}
