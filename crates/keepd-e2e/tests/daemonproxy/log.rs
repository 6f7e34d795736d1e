//! The log: its lines, filter and destination, and what happens when nobody takes them.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Instant;

use keepd_testkit::{LONG, cpu_ticks, skip, wait_until};

use crate::place::{NONBLOCK, Place, Proxy, holds, shows};

/// A FIFO as log, read only when the test wants to.
struct Pipe {
    both: File,
    text: String,
}

impl Pipe {
    fn new(place: &Place) -> Self {
        let path = place.fifo("fifo");
        let flags = i32::try_from(NONBLOCK).unwrap();
        let both = File::options().read(true).write(true).custom_flags(flags).open(path).unwrap();
        Self { both, text: String::new() }
    }

    /// Fills it, so that nobody can write.
    fn fill(&mut self) {
        let page = [b'x'; 4096];
        for size in [page.len(), 1] {
            let error = loop {
                if let Err(error) = self.both.write(&page[..size]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    }

    /// Takes everything that is in it, and returns what the proxy has written so far.
    fn drain(&mut self) -> &str {
        let mut buffer = [0; 4096];
        while let Ok(count) = self.both.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            self.text.push_str(text.trim_start_matches('x'));
        }
        &self.text
    }

    /// Drains it until a whole line holds these words.
    #[track_caller]
    fn wait_for(&mut self, words: &[&str]) {
        wait_until(&format!("a line with {words:?}"), LONG, || {
            let text = self.drain();
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            shows(whole, words).then_some(())
        });
    }
}

/// Starts daemonproxy with `-i` and these words; `before` says where its descriptor 2 leads.
#[track_caller]
fn logging(place: &Place, before: &str, words: &[&str]) -> Proxy {
    let words: Vec<&str> = ["-i"].iter().chain(words).copied().collect();
    let mut proxy = Place::start_interactive(&mut place.after(before, &words));
    proxy.talk.sync();
    proxy
}

/// Says this many commands that do not exist, all alike long. Each is one or more messages.
#[track_caller]
fn provoke(proxy: &mut Proxy, prefix: &str, count: usize) {
    for number in 0..count {
        proxy.talk.send(format!("{prefix}.no.such.command.of.any.kind.{number:05}"));
        let answers = proxy.talk.sync();
        assert!(answers.len() == 1 && answers[0].starts_with("error\t"), "{answers:?}");
    }
}

/// Returns how many messages [`provoke`] makes of each command.
fn messages_each(place: &Place) -> usize {
    let mut proxy = logging(place, "exec 2>calibration", &["-q"]);
    provoke(&mut proxy, "one", 1);
    wait_until("a line of the log", LONG, || {
        proxy.talk.sync();
        shows(&place.read("calibration"), &["error: ", "unknown command"]).then_some(())
    });
    place.read("calibration").lines().filter(|line| line.starts_with("error: ")).count()
}

/// Returns how many messages the lines that tell of losses speak of.
fn lost(text: &str) -> Vec<usize> {
    let number = |line: &str| {
        let (_, rest) = line.split_once("lost ")?;
        let (number, _) = rest.split_once(" log messages")?;
        assert!(line.starts_with("warning: "), "{line:?}");
        number.parse().ok()
    };
    text.lines().filter_map(number).collect()
}

/// Waits somewhat over a second, while the proxy has nothing else to do: a service says when.
#[track_caller]
fn let_a_second_pass(proxy: &mut Proxy) {
    proxy.talk.send("service.args\tclock\tsleep\t1.1");
    proxy.talk.send("service.start\tclock");
    proxy.talk.expect("service.state\tclock\tdown\t{rest}");
    proxy.talk.sync();
}

/// Lines are `LEVEL: TEXT` (K8).
#[test]
fn each_line_has_its_level_first() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    provoke(&mut proxy, "x", 3);
    proxy.talk.send("terminate\t0");
    let ended = proxy.wait().expect_code(0);
    let levels = ["trace: ", "debug: ", "info: ", "warning: ", "error: ", "fatal: "];
    for line in ended.stderr.lines() {
        assert!(levels.iter().any(|level| line.starts_with(level)), "{line:?}");
    }
    assert!(shows(&ended.stderr, &["error: "]), "{}", ended.stderr);
}

/// An unknown command is named in full.
#[test]
fn an_unknown_command_is_an_error_with_its_name() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    let name = format!("no.such.command.{}", "x".repeat(60));
    proxy.talk.ask(format!("{name}\twith\targuments"));
    proxy.log_line(&["error: ", &format!("unknown command {name}")]);
}

/// A line that is too long.
#[test]
fn a_line_that_is_too_long_is_an_error() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    proxy.talk.ask(format!("echo\t{}", "x".repeat(2000)));
    proxy.log_line(&["error: ", "command exceeds buffer size"]);
}

/// A failed command makes an error that quotes up to 90 bytes of it, and a second with the reason.
#[test]
fn a_failed_command_is_quoted_and_explained() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-q"]);
    proxy.talk.ask(format!("fd.open\tnew\tread\t/nonexistent/{}", "y".repeat(300)));
    proxy.log_line(&["error: ", "fd.open"]);
    proxy.log_line(&["error: ", "no such file"]);
    proxy.talk.send("terminate\t0");
    let ended = proxy.wait().expect_code(0);
    let quote = ended.stderr.lines().find(|line| line.contains("fd.open")).unwrap();
    let (_, rest) = quote.split_once("/nonexistent/").unwrap();
    let quoted = rest.bytes().take_while(|byte| *byte == b'y').count();
    let before = "fd.open_new_read_/nonexistent/".len();
    assert!((10..=90 - before).contains(&quoted), "{quote:?}");
}

/// The main thread itself writes the log (K8).
#[test]
fn the_main_thread_writes_the_log() {
    let place = Place::new();
    let Some((mut proxy, _)) = traced(&place, "exec 2>log", &[]) else {
        return;
    };
    provoke(&mut proxy, "x", 3);
    proxy.talk.send("terminate\t0");
    proxy.running.wait().expect_code(0);
    let trace = place.read("trace");
    let writers = writers(&trace, "log");
    let main = trace.split_whitespace().next().unwrap();
    assert!(!writers.is_empty() && writers.iter().all(|writer| writer == main), "{trace}");
}

/// Starts daemonproxy with `-i` below strace(1), which writes down what is written, and where to.
fn traced(place: &Place, before: &str, words: &[&str]) -> Option<(Proxy, Instant)> {
    let calls = "trace=execve,write,writev,pwritev2,sendto,sendmsg";
    let probe = Command::new("strace").args(["-y", "-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("how often the log is written: strace(1) cannot be used here");
        return None;
    }
    let mut command = place.command("bash");
    let script = format!("{before}\nexec \"$@\"");
    command.args(["-c", &script, "bash", "strace", "-f", "-y", "-qq", "-o", "trace", "-e", calls]);
    command.args([&place.program(), "-i"]).args(words);
    let begin = Instant::now();
    let mut proxy = Place::start_interactive(&mut command);
    proxy.talk.sync();
    Some((proxy, begin))
}

/// Returns who wrote to a file of this name, once for each write call.
fn writers(trace: &str, name: &str) -> Vec<String> {
    let call = |line: &str| {
        let (writer, call) = line.split_once(' ')?;
        let (call, arguments) = call.trim_start().split_once('(')?;
        let (descriptor, _) = arguments.split_once(',')?;
        let written = call != "execve" && descriptor.ends_with(&format!("/{name}>"));
        written.then(|| writer.to_owned())
    };
    trace.lines().filter_map(call).collect()
}

/// The destination is not made non-blocking: it may be shared.
#[test]
fn the_destination_stays_blocking() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    provoke(&mut proxy, "x", 1);
    proxy.log_line(&["error: "]);
    assert_eq!(proxy.flags(2) & NONBLOCK, 0);
}

/// A pipe that nobody reads holds nothing up: commands are done, services run.
#[test]
fn a_full_pipe_holds_nothing_up() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place);
    pipe.fill();
    let mut proxy = logging(&place, "exec 2>fifo", &[]);
    provoke(&mut proxy, "x", 100);
    proxy.talk.send("service.args\tx\ttrue\nservice.start\tx");
    proxy.talk.expect("service.state\tx\tdown\t{num}\t{pid}\texit\t0\t{num}\t{num}");
    proxy.talk.send("terminate\t3");
    proxy.running.wait().expect_code(3);
}

/// Exactly those messages that do not arrive are counted as lost, once, and then it goes on.
/// 40 messages of 50 bytes are more than the buffer holds.
#[test]
fn the_number_of_lost_messages_is_exact() {
    let place = Place::new();
    let each = messages_each(&place);
    let mut pipe = Pipe::new(&place);
    pipe.fill();
    let mut proxy = logging(&place, "exec 2>fifo", &["-q"]);
    provoke(&mut proxy, "x", 40);
    pipe.wait_for(&["lost"]);
    let text = pipe.drain().to_owned();
    let lost = lost(&text);
    assert_eq!(lost.len(), 1, "{text}");
    let (kept, rest) = text.split_at(text.find("warning: ").unwrap());
    assert!(kept.lines().all(|line| line.starts_with("error: ")), "{text}");
    let arrived = kept.lines().count();
    assert!(arrived >= 5 && kept.len() <= 2048, "{text}");
    assert_eq!(arrived + lost[0], 40 * each, "{text}");
    assert_eq!(rest.lines().count(), 1, "{text}");

    provoke(&mut proxy, "later", 1);
    pipe.wait_for(&["error: ", "later"]);
    provoke(&mut proxy, "last", 1);
    pipe.wait_for(&["error: ", "last"]);
    assert_eq!(self::lost(pipe.drain()).len(), 1, "{}", pipe.drain());
}

/// Five messages of 50 bytes survive the blocking.
#[test]
fn a_few_messages_survive_a_full_pipe() {
    let place = Place::new();
    let each = messages_each(&place);
    let commands = (5 / each).max(1);
    let mut pipe = Pipe::new(&place);
    pipe.fill();
    let mut proxy = logging(&place, "exec 2>fifo", &["-q"]);
    provoke(&mut proxy, "x", commands);
    pipe.wait_for(&["error: ", &format!("{:05}", commands - 1)]);
    provoke(&mut proxy, "later", 1);
    pipe.wait_for(&["error: ", "later"]);
    let text = pipe.drain();
    assert_eq!(lost(text), Vec::<usize>::new(), "{text}");
    assert_eq!(text.lines().count(), (commands + 1) * each, "{text}");
}

/// On a full pipe there are fewer than 6 write calls until it is drained.
#[test]
fn a_full_pipe_is_tried_fewer_than_six_times() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place);
    pipe.fill();
    let Some((mut proxy, _)) = traced(&place, "exec 2>fifo", &["-q"]) else {
        return;
    };
    provoke(&mut proxy, "x", 15);
    let_a_second_pass(&mut proxy);
    provoke(&mut proxy, "y", 15);
    let trace = place.read("trace");
    assert!(writers(&trace, "fifo").len() < 6, "{trace}");
    pipe.wait_for(&["lost"]);
    assert!(!writers(&place.read("trace"), "fifo").is_empty(), "strace(1) sees no write");
}

/// `/dev/full` is always "writable": there only a timer is trusted, 4 to 9 tries in a session of
/// little over a second.
#[test]
fn a_full_device_is_tried_by_a_timer_only() {
    let place = Place::new();
    let Some((mut proxy, begin)) = traced(&place, "exec 2>/dev/full", &["-q"]) else {
        return;
    };
    provoke(&mut proxy, "x", 15);
    let_a_second_pass(&mut proxy);
    provoke(&mut proxy, "y", 15);
    proxy.talk.send("terminate\t0");
    proxy.running.wait().expect_code(0);
    // Two tries for each second by which this took longer.
    let late = begin.elapsed().as_millis().saturating_sub(1_100).div_ceil(500);
    let trace = place.read("trace");
    let tries = writers(&trace, "full").len() as u128;
    assert!((4..=9 + late).contains(&tries), "{tries} tries, {late} more allowed:\n{trace}");
}

/// A terminal that nobody reads holds nothing up either: script(1), which makes it, cannot write.
#[test]
fn a_full_terminal_holds_nothing_up() {
    let place = Place::new();
    if place.command("script").arg("--version").output().is_err() {
        return skip("a log to a terminal: there is no script(1)");
    }
    let mut pipe = Pipe::new(&place);
    pipe.fill();
    let mut command = place.command("bash");
    let program = place.program();
    let script = format!("exec script -qec 'exec {program} -S sock' /dev/null >fifo");
    command.args(["-c", &script]);
    let mut proxy = place.start_with_socket(&mut command);
    provoke(&mut proxy, "x", 500);
    proxy.talk.send("terminate\t0");
    proxy.talk.expect_end();
}

/// A log whose reader has gone ends nothing, and keeps nobody busy.
#[test]
fn a_log_whose_reader_has_gone_is_no_busy_loop() {
    let place = Place::new();
    let pipe = Pipe::new(&place);
    let mut proxy = logging(&place, "exec 2>fifo", &[]);
    drop(pipe);
    provoke(&mut proxy, "x", 20);
    let before = cpu_ticks(proxy.pid());
    let_a_second_pass(&mut proxy);
    let ticks = cpu_ticks(proxy.pid()) - before;
    assert!(ticks < 30, "{ticks} ticks in little over a second");
    proxy.talk.send("terminate\t3");
    proxy.running.wait().expect_code(3);
}

/// `log.dest`: the log goes to the handle of that name, at once and for good.
#[test]
fn the_log_goes_where_it_is_told_to() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-q"]);
    proxy.talk.ask("fd.open\tlog\twrite,create,append\tlog");
    proxy.talk.is_silent("log.dest\tfd\tlog");
    provoke(&mut proxy, "elsewhere", 1);
    arrives(&place, &mut proxy, "log", &["error: ", "elsewhere"]);
    assert!(!proxy.log().contains("elsewhere"), "{}", proxy.log());
    proxy.talk.is_silent("log.dest\tfd\tstderr");
}

/// Waits until a file holds a line with these words.
#[track_caller]
fn arrives(place: &Place, proxy: &mut Proxy, file: &str, words: &[&str]) {
    wait_until(&format!("a line with {words:?} in {file}"), LONG, || {
        proxy.talk.sync();
        shows(&place.read(file), words).then_some(())
    });
}

/// The handle may be absent: a warning says so, and messages wait until it appears.
#[test]
fn messages_wait_for_a_handle_that_is_not_there_yet() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-q"]);
    let answer = proxy.talk.ask("log.dest\tfd\tlater");
    assert!(answer.len() == 1 && answer[0].starts_with("warning\t"), "{answer:?}");
    provoke(&mut proxy, "waiting", 3);
    proxy.talk.ask("fd.open\tlater\twrite,create\tlog");
    arrives(&place, &mut proxy, "log", &["error: ", "command waiting", "00002"]);
    assert_eq!(lost(&place.read("log")), Vec::<usize>::new());
    assert!(!proxy.log().contains("waiting"), "{}", proxy.log());
}

/// More messages than the buffer holds are counted until the handle appears.
#[test]
fn messages_without_a_destination_are_counted() {
    let place = Place::new();
    let each = messages_each(&place);
    let mut proxy = place.interactive(&["-q"]);
    proxy.talk.ask("log.dest\tfd\tlater");
    provoke(&mut proxy, "x", 60);
    proxy.talk.ask("fd.open\tlater\twrite,create\tlog");
    arrives(&place, &mut proxy, "log", &["warning: ", "lost "]);
    let text = place.read("log");
    let kept = text.lines().filter(|line| holds(line, &["error: "])).count();
    assert_eq!(kept + lost(&text)[0], 60 * each, "{text}");
}

/// The destination is a name: when its handle is deleted, messages wait for the next of that name;
/// when it is replaced, they go to the new one.
#[test]
fn the_destination_is_a_name() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-q"]);
    proxy.talk.ask("fd.open\tlog\twrite,create\tone");
    proxy.talk.is_silent("log.dest\tfd\tlog");
    provoke(&mut proxy, "first", 1);
    arrives(&place, &mut proxy, "one", &["error: ", "first"]);
    proxy.talk.ask("fd.open\tlog\twrite,create\ttwo");
    provoke(&mut proxy, "second", 1);
    arrives(&place, &mut proxy, "two", &["error: ", "second"]);
    proxy.talk.ask("fd.delete\tlog");
    provoke(&mut proxy, "third", 1);
    proxy.talk.ask("fd.open\tlog\twrite,create\tthree");
    arrives(&place, &mut proxy, "three", &["error: ", "third"]);
    assert!(!proxy.log().contains("no.such"), "{}", proxy.log());
}

/// Deleting or replacing `stderr` while it carries the log is as if `log.dest` had named it (A15).
#[test]
fn without_a_destination_the_log_follows_stderr() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-q"]);
    proxy.talk.ask("fd.delete\tstderr");
    provoke(&mut proxy, "waiting", 2);
    proxy.talk.ask("fd.open\tstderr\twrite,create\tone");
    arrives(&place, &mut proxy, "one", &["error: ", "waiting"]);
    proxy.talk.ask("fd.open\tstderr\twrite,create\ttwo");
    provoke(&mut proxy, "moved", 1);
    arrives(&place, &mut proxy, "two", &["error: ", "moved"]);
}

/// What is in the buffer survives a change of destination, and the count of what was lost does too.
#[test]
fn the_buffer_survives_a_change_of_destination() {
    for sink in ["fifo", "/dev/full"] {
        let place = Place::new();
        let each = messages_each(&place);
        let mut pipe = Pipe::new(&place);
        pipe.fill();
        let mut proxy = logging(&place, &format!("exec 2>{sink}"), &["-q"]);
        provoke(&mut proxy, "x", 40);
        proxy.talk.ask("fd.open\tlog\twrite,create\tlog");
        proxy.talk.is_silent("log.dest\tfd\tlog");
        arrives(&place, &mut proxy, "log", &["warning: ", "lost "]);
        let text = place.read("log");
        assert!(text.lines().next().unwrap().contains("00000"), "{text}");
        let kept = text.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(kept + lost(&text)[0], 40 * each, "{sink}: {text}");
    }
}

/// A message that is longer than the buffer is cut, and the log goes on (A14).
#[test]
fn an_over_long_message_is_cut() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-q"]);
    let name = "x".repeat(1_023);
    proxy.talk.ask(&name);
    provoke(&mut proxy, "later", 1);
    proxy.log_line(&["error: ", "later"]);
    let log = proxy.log();
    let cut = log.lines().find(|line| line.contains("xxx")).expect("the message is there");
    assert!(cut.starts_with("error: ") && cut.len() < 1_024, "{log}");
}
