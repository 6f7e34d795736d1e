//! `keepd proxy`, commanded through its socket by the extended protocol (docs/protocol.md).

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant as WallInstant};

use keepd_model::{Instant, Pid};
use keepd_os::cgroup::Group;
use keepd_os::clock;

use super::{Mode, PATIENCE, Place, Subject, kill, terminate};
use crate::error::{Attempt, BenchError};
use crate::probe::OurProcess;
use crate::records::Records;

/// From one attempt to connect to the next.
const LOOK: Duration = Duration::from_millis(1);

/// A proxy and one connection to it.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    mode: Mode,
    count: usize,
    connection: UnixStream,
    news: Receiver<News>,
    asked_at: Instant,
    records: Records,
    group: Option<Group>,
}

/// What the connection says, as far as it matters here.
#[derive(Debug)]
enum News {
    /// Nothing of a generation is left.
    Down,
    /// The whole line of a refusal.
    Refused(String),
}

impl Proxy {
    /// Starts a proxy, with a warden if it shall have one, and then the services in one go. They
    /// are asked for with the first command.
    ///
    /// # Errors
    /// It cannot be started, or does not listen.
    pub fn start(
        place: &mut Place,
        count: usize,
        mode: Mode,
        with_warden: bool,
    ) -> Result<Self, BenchError> {
        let folder = place.folder()?;
        let records = place.records(&folder)?;
        let socket = folder.join("proxy.sock");
        let group = make_group(&folder);
        let mut command = place.command(place.program("keepd"));
        command.arg("proxy").arg("--socket").arg(&socket).arg("--run-dir").arg(&folder);
        if with_warden {
            command.arg("--warden");
        }
        if let Some(group) = &group {
            command.arg("--group").arg(group.path());
        }
        let child = command.spawn().attempt("start \"keepd proxy\"")?;
        let connection = connect(&socket)?;
        let reader = connection.try_clone().attempt("read the protocol")?;
        let (sender, news) = channel();
        thread::spawn(move || listen(reader, &sender));
        let service = place.program("keepd-bench-service");
        let script = start_script(count, mode, &service, records.path());
        let asked_at = clock::monotonic_now();
        let mut proxy = Self { child, mode, count, connection, news, asked_at, records, group };
        proxy.send(&script)?;
        Ok(proxy)
    }

    fn send(&mut self, script: &str) -> Result<(), BenchError> {
        let written = self.connection.write_all(script.as_bytes());
        written.attempt("command the proxy")
    }

    /// Waits until every service is down.
    fn wait_until_down(&self) -> Result<(), BenchError> {
        let mut down = 0;
        while down < self.count {
            match self.news.recv_timeout(PATIENCE) {
                Ok(News::Down) => down += 1,
                Ok(News::Refused(line)) => {
                    return Err(BenchError::new(format!("the proxy refused a command: {line}")));
                }
                Err(error) => {
                    let count = self.count;
                    return Err(error)
                        .attempt(format!("see every service down: {down} of {count} are"));
                }
            }
        }
        Ok(())
    }
}

/// A group of the kind that `keepd up` makes for its proxy, where one can be made.
fn make_group(folder: &Path) -> Option<Group> {
    let name = folder.file_name()?.to_str()?;
    let group = Group::create(&Group::own()?, &format!("keepd.{name}-proxy")).ok()?;
    Group::create(&group, "own").ok()?;
    Some(group)
}

fn connect(socket: &Path) -> Result<UnixStream, BenchError> {
    let begun_at = WallInstant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(connection) => return Ok(connection),
            Err(_) if begun_at.elapsed() < PATIENCE => thread::sleep(LOOK),
            Err(error) => {
                return Err(error).attempt(format!("connect to \"{}\"", socket.display()));
            }
        }
    }
}

/// Reads until the connection ends.
fn listen(connection: UnixStream, sender: &Sender<News>) {
    for line in BufReader::new(connection).lines() {
        let Ok(line) = line else { return };
        let fields: Vec<&str> = line.split('\t').collect();
        let news = match fields[..] {
            ["service.run", _, _, "down", ..] => News::Down,
            ["fail" | "error", ..] => News::Refused(line),
            [..] => continue,
        };
        if sender.send(news).is_err() {
            return;
        }
    }
}

/// Returns the name of a service.
fn name(number: usize) -> String {
    format!("s{number:05}")
}

fn start_script(count: usize, mode: Mode, service: &Path, records: &Path) -> String {
    let (service, records) = (service.display(), records.display());
    let mut script = String::from("proto\tkeepd\t1\n");
    for number in 0..count {
        let (id, name) = (2 * number, name(number));
        let last = match mode {
            Mode::Once => format!("service.start\t{name}\t0"),
            // The shortest interval that there is: a start at most once a second.
            Mode::Again => format!("service.auto_up\t{name}\t1\talways"),
        };
        let next = id + 1;
        writeln!(script, "@{id}\tservice.args\t{name}\t{service}\t{records}\n@{next}\t{last}")
            .expect("a String takes every text");
    }
    script
}

fn stop_script(count: usize) -> String {
    let lines = (0..count).map(|number| format!("@{number}\tservice.stop\t{}\t1\n", name(number)));
    lines.collect()
}

impl Subject for Proxy {
    fn asked_at(&self) -> Instant {
        self.asked_at
    }

    fn records(&self) -> &Records {
        &self.records
    }

    fn processes(&self) -> Result<Vec<OurProcess>, BenchError> {
        let pid = Pid::new(self.child.id());
        Ok(pid.map(|pid| OurProcess { role: "proxy", pid }).into_iter().collect())
    }

    fn stop(mut self: Box<Self>) -> Result<Duration, BenchError> {
        let begun_at = clock::monotonic_now();
        let elapsed = match self.mode {
            Mode::Once => {
                self.send(&stop_script(self.count))?;
                self.wait_until_down()?;
                let elapsed = clock::monotonic_now().saturating_since(begun_at);
                self.send("@0\tterminate\t0\n")?;
                elapsed
            }
            Mode::Again => {
                // It would start again what ends.
                if let Some(pid) = Pid::new(self.child.id()) {
                    kill(pid)?;
                }
                terminate(&self.records.read()?);
                clock::monotonic_now().saturating_since(begun_at)
            }
        };
        self.child.wait().attempt("wait for the proxy")?;
        // What is left of the group is removed by the guard.
        if let Some(group) = &self.group {
            let _ = group.child("own").and_then(|own| own.remove());
            let _ = group.remove();
        }
        Ok(elapsed)
    }
}
