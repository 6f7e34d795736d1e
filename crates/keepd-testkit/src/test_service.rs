//! The service of most tests: does what its options say, and writes down what happens to it.
//!
//! It is one loop over signals, a listener and its own clock. Options:
//!
//! | option | does |
//! | --- | --- |
//! | `--ready MS` | says READY=1 on NOTIFY_SOCKET after MS milliseconds |
//! | `--exit MS CODE` | exits with CODE after MS |
//! | `--abort MS` | ends itself by SIGABRT after MS |
//! | `--until GENERATION` | `--exit` and `--abort` hold up to this generation only |
//! | `--ignore-term` | goes on after TERM |
//! | `--stop-takes MS` | exits MS after TERM |
//! | `--reload-takes MS` | announces a reload after HUP, and its end after MS (sd_notify(3)) |
//! | `--fork N` | starts N grandchildren in sessions of their own, which ignore TERM |
//! | `--listen PORT` | answers HTTP on 127.0.0.1:PORT with its name, pid and generation |
//! | `--print TEXT`, `--print-err TEXT` | writes a line at the start |
//! | `--lines N` | writes `line 1` … `line N` at the start |
//! | `--write N`, `--write-err N` | writes the first N bytes of [`pattern`] |
//! | `--chatter MS` | writes a line every MS |
//! | `--say-variable NAME` | writes an event `variable` with `NAME=value` |
//!
//! Events: `start`, `ready`, `reload` (HUP), `reloaded`, `term`, `end`, `grandchild`, `written`,
//! `variable`, `violation` (another process of the service is alive, or a grandchild of an earlier
//! run).
//!
//! With `--torture SEED KIND` it is one of the services of a [torture run](torture) instead, with
//! events of its own: `start`, `wrote` (a numbered line of output), `reload`, `end`, `violation`.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use keepd_model::Signal;
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::{clock, process, signals};

use crate::{EventLog, torture};

/// The variable with the path of the event log.
pub const EVENTS_VARIABLE: &str = "TEST_EVENTS";

/// The word that makes a process a grandchild, or the one in between.
const IN_BETWEEN: &str = "--in-between";
const GRANDCHILD: &str = "--grandchild";

const SIGNALS: u64 = 0;
const LISTENER: u64 = 1;

/// What one service does.
#[derive(Debug, Default)]
struct Options {
    ready: Option<Duration>,
    exit: Option<(Duration, Ending)>,
    until: Option<u64>,
    ignore_term: bool,
    stop_takes: Option<Duration>,
    reload_takes: Option<Duration>,
    fork: usize,
    listen: Option<u16>,
    print: Vec<String>,
    print_err: Vec<String>,
    lines: usize,
    write: usize,
    write_err: usize,
    chatter: Option<Duration>,
    say_variable: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Exit(u8),
    Abort,
}

/// Runs the service with the arguments of this process.
pub fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(IN_BETWEEN) => in_between(),
        Some(GRANDCHILD) => grandchild(),
        Some(torture::LIFE) => torture::live(&arguments[1..]),
        Some(torture::RELATIVE) => torture::live_as_relative(),
        Some(_) | None => {
            let options = parse(&arguments).unwrap_or_else(|option| {
                panic!("the test service knows no \"{option}\", or its value is missing")
            });
            Service::new(options).serve()
        }
    }
}

/// Returns the first `count` bytes that `--write` writes: every byte value, in an order that does
/// not repeat soon, so that a lost, doubled or moved byte is seen.
pub fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
    .take(count)
    .collect()
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(option) = words.next() {
        parse_one(&mut options, option, &mut words).ok_or(option)?;
    }
    Ok(options)
}

fn parse_one<'w>(
    options: &mut Options,
    option: &str,
    words: &mut impl Iterator<Item = &'w String>,
) -> Option<()> {
    let mut text = || words.next().cloned();
    let milliseconds = |text: String| text.parse().ok().map(Duration::from_millis);
    match option {
        "--ready" => options.ready = Some(milliseconds(text()?)?),
        "--exit" => {
            let after = milliseconds(text()?)?;
            options.exit = Some((after, Ending::Exit(text()?.parse().ok()?)));
        }
        "--abort" => options.exit = Some((milliseconds(text()?)?, Ending::Abort)),
        "--until" => options.until = Some(text()?.parse().ok()?),
        "--ignore-term" => options.ignore_term = true,
        "--stop-takes" => options.stop_takes = Some(milliseconds(text()?)?),
        "--reload-takes" => options.reload_takes = Some(milliseconds(text()?)?),
        "--fork" => options.fork = text()?.parse().ok()?,
        "--listen" => options.listen = Some(text()?.parse().ok()?),
        "--print" => options.print.push(text()?),
        "--print-err" => options.print_err.push(text()?),
        "--lines" => options.lines = text()?.parse().ok()?,
        "--write" => options.write = text()?.parse().ok()?,
        "--write-err" => options.write_err = text()?.parse().ok()?,
        "--chatter" => options.chatter = Some(milliseconds(text()?)?),
        "--say-variable" => options.say_variable.push(text()?),
        _ => return None,
    }
    Some(())
}

/// Who this process is, and where it writes what happens.
struct Witness {
    log: Option<EventLog>,
    name: String,
    generation: u64,
}

impl Witness {
    fn new() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self {
            log: std::env::var_os(EVENTS_VARIABLE).map(EventLog::new),
            name: variable("KEEPD_SERVICE").unwrap_or_else(|| "nameless".to_owned()),
            generation: variable("KEEPD_GENERATION")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        }
    }

    fn say(&self, what: &str, more: &str) {
        if let Some(log) = &self.log {
            log.append(what, &self.name, self.generation, more)
                .expect("the event log can be written");
        }
    }

    /// Takes the lock that only one live process of a service can have; the kernel gives it back at
    /// the end of the process, however that comes.
    fn lock(&self) -> Option<File> {
        let path = self.log.as_ref()?.path();
        let path = path.with_file_name(format!("lock.{}", self.name));
        let file = File::create(path).expect("the lock file can be made");
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => self.say("violation", "another process is alive"),
            Err(TryLockError::Error(error)) => panic!("cannot lock: {error}"),
        }
        Some(file)
    }

    /// Grandchildren of earlier runs must be gone before this one begins.
    fn look_for_predecessors(&self) {
        let Some(log) = &self.log else { return };
        for entry in log.of("grandchild", &self.name) {
            if is_grandchild(entry.pid) {
                let what = format!("{} of generation {} is alive", entry.pid, entry.generation);
                self.say("violation", &what);
            }
        }
    }
}

/// Reports whether a process is one of our grandchildren, and not another with the same number.
fn is_grandchild(pid: u32) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0);
    words.any(|word| word == GRANDCHILD.as_bytes())
}

struct Service {
    options: Options,
    witness: Witness,
    started: Instant,
    ready_said: bool,
    chatter_count: u32,
    /// When it ends, once TERM came and that takes time.
    stop_at: Option<Instant>,
    /// When it has read its files again.
    reloaded_at: Option<Instant>,
}

impl Service {
    fn new(mut options: Options) -> Self {
        let witness = Witness::new();
        if options.until.is_some_and(|last| witness.generation > last) {
            options.exit = None;
        }
        Self {
            options,
            witness,
            started: Instant::now(),
            ready_said: false,
            chatter_count: 0,
            stop_at: None,
            reloaded_at: None,
        }
    }

    fn serve(mut self) -> ExitCode {
        let reader = signals::SignalReader::new(&[Signal::TERM, Signal::HUP, Signal::INT])
            .expect("signals can be read");
        let _lock = self.witness.lock();
        self.witness.look_for_predecessors();
        self.witness.say("start", "");
        self.begin();
        let set = Epoll::new().expect("an epoll set can be made");
        set.add(&reader, SIGNALS, Interest::READ).expect("signals can be waited for");
        let listener = self.options.listen.map(listen);
        if let Some(listener) = &listener {
            set.add(listener, LISTENER, Interest::READ).expect("a listener can be waited for");
        }
        let mut news = Vec::new();
        loop {
            if let Some(code) = self.on_time() {
                return code;
            }
            set.wait(self.timeout(), &mut news).expect("the set can be waited for");
            for ready in &news {
                match ready.token {
                    SIGNALS => {
                        for (signal, _) in reader.read().expect("signals can be read") {
                            if let Some(code) = self.on_signal(signal) {
                                return code;
                            }
                        }
                    }
                    _ => listener.iter().for_each(|listener| self.answer(listener)),
                }
            }
        }
    }

    /// Does what is done once, in the order of the table.
    fn begin(&self) {
        let options = &self.options;
        for name in &options.say_variable {
            let value = std::env::var(name);
            let value = value.as_deref().unwrap_or("(unset)");
            self.witness.say("variable", &format!("{name}={value}"));
        }
        for _ in 0..options.fork {
            fork_away();
        }
        for text in &options.print {
            println!("{text}");
        }
        for text in &options.print_err {
            eprintln!("{text}");
        }
        for number in 1..=options.lines {
            println!("line {number}");
        }
        if options.write > 0 || options.write_err > 0 {
            write_all(io::stdout(), options.write);
            write_all(io::stderr(), options.write_err);
            self.witness.say("written", "");
        }
    }

    /// Does what is due by the clock. Returns the code to end with, if that is due.
    fn on_time(&mut self) -> Option<ExitCode> {
        let elapsed = self.started.elapsed();
        if self.options.ready.is_some_and(|after| elapsed >= after) && !self.ready_said {
            self.ready_said = true;
            // Written first: whoever hears of it may look for it, and compare its time.
            self.witness.say("ready", "");
            notify("READY=1");
        }
        if let Some(every) = self.options.chatter
            && elapsed >= every * self.chatter_count
        {
            println!("chatter {}", self.chatter_count);
            self.chatter_count += 1;
        }
        if self.reloaded_at.is_some_and(|at| Instant::now() >= at) {
            self.reloaded_at = None;
            self.witness.say("reloaded", "");
            notify("READY=1");
        }
        if self.stop_at.is_some_and(|at| Instant::now() >= at) {
            return Some(self.end(0));
        }
        match self.options.exit {
            Some((after, Ending::Exit(code))) if elapsed >= after => Some(self.end(code)),
            Some((after, Ending::Abort)) if elapsed >= after => {
                self.witness.say("end", "abort");
                std::process::abort();
            }
            Some(_) | None => None,
        }
    }

    /// Returns how long until something is due by the clock.
    fn timeout(&self) -> Option<Duration> {
        let elapsed = self.started.elapsed();
        let ready = self.options.ready.filter(|_| !self.ready_said);
        let exit = self.options.exit.map(|(after, _)| after);
        let chatter = self.options.chatter.map(|every| every * self.chatter_count);
        let stop = self.stop_at.map(|at| at.duration_since(self.started));
        let reloaded = self.reloaded_at.map(|at| at.duration_since(self.started));
        [ready, exit, chatter, stop, reloaded]
            .into_iter()
            .flatten()
            .map(|after| after.saturating_sub(elapsed))
            .min()
    }

    fn on_signal(&mut self, signal: Signal) -> Option<ExitCode> {
        if signal == Signal::HUP {
            self.witness.say("reload", "");
            if let Some(time) = self.options.reload_takes {
                let now_us = clock::monotonic_now().as_nanos() / 1_000;
                notify(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
                self.reloaded_at = Some(Instant::now() + time);
            }
            return None;
        }
        self.witness.say("term", "");
        if self.options.ignore_term {
            return None;
        }
        match self.options.stop_takes {
            Some(time) => {
                self.stop_at = Some(Instant::now() + time);
                None
            }
            None => Some(self.end(0)),
        }
    }

    fn end(&self, code: u8) -> ExitCode {
        self.witness.say("end", &format!("exit {code}"));
        ExitCode::from(code)
    }

    /// Answers one HTTP request, whatever it asks.
    fn answer(&self, listener: &TcpListener) {
        let Ok((mut connection, _)) = listener.accept() else {
            return;
        };
        let patience = Some(Duration::from_secs(1));
        if connection.set_read_timeout(patience).is_err() {
            return;
        }
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            match connection.read(&mut buffer) {
                // Who only asks whether the port is open says nothing.
                Ok(0) | Err(_) => return,
                Ok(count) => request.extend_from_slice(&buffer[..count]),
            }
        }
        let Witness { name, generation, .. } = &self.witness;
        let body = format!("{name} {} {generation}\n", std::process::id());
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
        // The asker may be gone.
        let _ = write!(connection, "{head} {length}\r\n\r\n{body}");
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    listener.set_nonblocking(true).expect("a listener can be set to not wait");
    listener
}

fn write_all(mut stream: impl Write, count: usize) {
    let written = stream.write_all(&pattern(count)).and_then(|()| stream.flush());
    written.expect("the output can be written");
}

/// sd_notify(3), without abstract sockets.
fn notify(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let socket = UnixDatagram::unbound().expect("a socket can be made");
    let sent = socket.send_to(text.as_bytes(), path);
    sent.expect("the notify socket can be written to");
}

/// Starts a process that leaves session and parent, as daemons of old do.
fn fork_away() {
    let own = std::env::current_exe().expect("a program knows its own path");
    let status = Command::new(own).arg(IN_BETWEEN).stdin(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()));
}

fn in_between() -> ExitCode {
    process::new_session().expect("a new process leads no group");
    let own = std::env::current_exe().expect("a program knows its own path");
    let child = Command::new(own).arg(GRANDCHILD).stdin(Stdio::null()).spawn();
    assert!(child.is_ok());
    ExitCode::SUCCESS
}

/// Ignores TERM, and runs until somebody kills it.
fn grandchild() -> ExitCode {
    signals::ignore(Signal::TERM).expect("TERM can be ignored");
    signals::ignore(Signal::HUP).expect("HUP can be ignored");
    Witness::new().say("grandchild", "");
    let nothing = Epoll::new().expect("an epoll set can be made");
    loop {
        nothing.wait(None, &mut Vec::new()).expect("an empty set can be waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_with_their_values() {
        let words = ["--exit", "5", "3", "--ignore-term", "--lines", "2"].map(str::to_owned);
        let options = parse(&words).unwrap();
        assert!(matches!(options.exit, Some((_, Ending::Exit(3)))));
        assert!(options.ignore_term);
        assert_eq!(options.lines, 2);
        assert_eq!(parse(&["--odd".to_owned()]).unwrap_err(), "--odd");
        assert_eq!(parse(&["--lines".to_owned()]).unwrap_err(), "--lines");
    }

    #[test]
    fn the_pattern_has_every_byte() {
        let bytes = pattern(64 * 1024);
        assert_eq!(bytes.len(), 64 * 1024);
        assert!((0..=u8::MAX).all(|byte| bytes.contains(&byte)));
        assert!(pattern(10) == bytes[..10]);
    }
}
