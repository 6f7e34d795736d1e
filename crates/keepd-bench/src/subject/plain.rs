//! The proxy as users of daemonproxy run it: configured by a file, commanded by plain connections.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant as WallInstant};

use keepd_model::{Instant, Pid};
use keepd_os::clock;

use super::{PATIENCE, Place, Subject, pid_of};
use crate::error::{Attempt, BenchError};
use crate::probe::OurProcess;
use crate::records::Records;
use crate::samples::Samples;

/// From one attempt to connect to the next.
const LOOK: Duration = Duration::from_millis(1);
/// What is read from a connection at once.
const READ_BYTES: usize = 64 * 1024;
/// What the proxy says to a client that it told more than the client took.
const OVERFLOW: &[u8] = b"overflow";

/// Which program it is, and whether its memory is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// `keepd proxy`.
    Proxy,
    /// `keepd proxy` with both pools, which just suffice.
    ProxyWithPools,
    /// The static `keepd-init -c`.
    Init,
    /// `keepd-init -c` with both pools, which just suffice.
    InitWithPools,
}

impl Flavour {
    /// Every one, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Proxy, Self::ProxyWithPools, Self::Init, Self::InitWithPools];

    /// Returns the name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "keepd proxy",
            Self::ProxyWithPools => "keepd proxy, pools",
            Self::Init => "keepd-init -c",
            Self::InitWithPools => "keepd-init -c, pools",
        }
    }

    /// Returns a command without its configuration, with room for so many services.
    fn command(self, place: &Place, count: usize) -> Result<Command, BenchError> {
        let mut command = match self {
            Self::Proxy | Self::ProxyWithPools => {
                let mut command = place.command(place.program("keepd"));
                command.arg("proxy");
                command
            }
            Self::Init | Self::InitWithPools => place.command(place.static_init()?),
        };
        match self {
            Self::ProxyWithPools | Self::InitWithPools => {
                command.args(["--fd-pool", "8x64", "--service-pool"]);
                command.arg(format!("{}x256", count.max(1)));
            }
            Self::Proxy | Self::Init => {}
        }
        Ok(command)
    }
}

/// A proxy with a configuration file.
#[derive(Debug)]
pub struct Plain {
    child: Child,
    count: usize,
    socket: PathBuf,
    asked_at: Instant,
    records: Records,
}

impl Plain {
    /// Executes a proxy whose configuration starts so many services. They are asked for before it
    /// is executed. Each runs `keepd-bench-service` with these words behind the file of records.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        place: &mut Place,
        flavour: Flavour,
        count: usize,
        words: &[&str],
    ) -> Result<Self, BenchError> {
        let folder = place.folder()?;
        let records = place.records(&folder)?;
        let (configuration, socket) = (folder.join("conf"), folder.join("proxy.sock"));
        let service = place.program("keepd-bench-service");
        std::fs::write(&configuration, script(count, &service, records.path(), words))
            .attempt(format!("write \"{}\"", configuration.display()))?;
        let mut command = flavour.command(place, count)?;
        command.arg("-c").arg(&configuration).arg("-S").arg(&socket);
        let asked_at = clock::monotonic_now();
        let child = command.spawn().attempt(format!("start \"{}\"", flavour.name()))?;
        Ok(Self { child, count, socket, asked_at, records })
    }

    /// Returns the process.
    ///
    /// # Errors
    /// It has no number.
    pub fn pid(&self) -> Result<Pid, BenchError> {
        pid_of(&self.child)
    }

    /// Connects as soon as the proxy listens.
    ///
    /// # Errors
    /// It does not.
    pub fn connect(&self) -> Result<Client, BenchError> {
        Client::connect(&self.socket)
    }

    /// Ends the proxy, and leaves its services alone.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn abandon(mut self) -> Result<(), BenchError> {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.attempt("end the proxy").map(drop)
    }
}

fn script(count: usize, service: &Path, records: &Path, words: &[&str]) -> String {
    let (service, records) = (service.display(), records.display());
    let mut script = String::new();
    for number in 0..count {
        let name = name(number);
        write!(script, "service.args\t{name}\t{service}\t{records}")
            .expect("a String takes every text");
        words.iter().for_each(|word| script.extend(["\t", word]));
        writeln!(script, "\nservice.start\t{name}").expect("a String takes every text");
    }
    script
}

/// Returns the name of a service.
pub fn name(number: usize) -> String {
    format!("s{number:05}")
}

impl Subject for Plain {
    fn asked_at(&self) -> Instant {
        self.asked_at
    }

    fn records(&self) -> &Records {
        &self.records
    }

    fn processes(&self) -> Result<Vec<OurProcess>, BenchError> {
        Ok(vec![OurProcess { role: "proxy", pid: self.pid()? }])
    }

    fn stop(mut self: Box<Self>) -> Result<Duration, BenchError> {
        let mut client = self.connect()?;
        let signal = |number| format!("service.signal\t{}\tSIGTERM\n", name(number));
        let commands: String = (0..self.count).map(signal).collect();
        let is_end = |line: &[u8]| line.starts_with(b"service.state\t") && is_down(line);
        let elapsed = client.exchange(commands.as_bytes(), self.count, is_end)?;
        client.send(b"terminate\t0\n")?;
        self.child.wait().attempt("wait for the proxy")?;
        Ok(elapsed)
    }
}

fn is_down(line: &[u8]) -> bool {
    line.split(|byte| *byte == b'\t').nth(2) == Some(b"down")
}

/// A plain connection.
#[derive(Debug)]
pub struct Client(UnixStream);

impl Client {
    /// Connects as soon as somebody listens at a socket.
    ///
    /// # Errors
    /// Nobody does.
    pub fn connect(socket: &Path) -> Result<Self, BenchError> {
        let begun_at = WallInstant::now();
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => {
                    let limited = stream.set_read_timeout(Some(PATIENCE));
                    limited.attempt("limit the time of a read")?;
                    return Ok(Self(stream));
                }
                Err(_) if begun_at.elapsed() < PATIENCE => thread::sleep(LOOK),
                Err(error) => {
                    return Err(error).attempt(format!("connect to \"{}\"", socket.display()));
                }
            }
        }
    }

    /// Sends commands without looking at what comes back.
    ///
    /// # Errors
    /// The proxy takes no more.
    pub fn send(&mut self, commands: &[u8]) -> Result<(), BenchError> {
        self.0.write_all(commands).attempt("command the proxy")
    }

    /// Sends commands as fast as they are taken, while another thread reads, until so many lines
    /// came that are wanted; returns how long that took.
    ///
    /// # Errors
    /// The connection ends, or lines were lost.
    pub fn exchange(
        &mut self,
        commands: &[u8],
        count: usize,
        is_wanted: impl Fn(&[u8]) -> bool + Send,
    ) -> Result<Duration, BenchError> {
        let (mut reader, mut writer) = (&self.0, &self.0);
        let begun_at = clock::monotonic_now();
        let read = thread::scope(|scope| {
            let reading = scope.spawn(|| read_lines(&mut reader, count, is_wanted));
            // If this fails, the reader finds the end.
            let _ = writer.write_all(commands);
            reading.join()
        });
        match read {
            Ok(outcome) => outcome?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Ok(clock::monotonic_now().saturating_since(begun_at))
    }

    /// Sends commands and returns what comes back, up to this end.
    ///
    /// # Errors
    /// The connection ends before.
    pub fn collect(&mut self, commands: &[u8], end: &[u8]) -> Result<Vec<u8>, BenchError> {
        self.send(commands)?;
        let mut answer = Vec::new();
        let mut buffer = [0; READ_BYTES];
        while !answer.ends_with(end) {
            let count = self.0.read(&mut buffer).attempt("hear the proxy")?;
            if count == 0 {
                return Err(BenchError::new("cannot hear the proxy: it ended"));
            }
            answer.extend_from_slice(&buffer[..count]);
        }
        Ok(answer)
    }

    /// Sends so many commands, each when the last one was answered, and adds the time of each, in
    /// microseconds.
    ///
    /// # Errors
    /// The connection ends.
    pub fn round_trips(&mut self, count: usize, samples: &mut Samples) -> Result<(), BenchError> {
        for _ in 0..count {
            samples.push(self.round_trip()?.as_secs_f64() * 1e6);
        }
        Ok(())
    }

    fn round_trip(&mut self) -> Result<Duration, BenchError> {
        let mut answer = [0; 256];
        let begun_at = clock::monotonic_now();
        self.send(b"echo\tthere and back\n")?;
        loop {
            let count = self.0.read(&mut answer).attempt("hear the proxy")?;
            match answer[..count] {
                [] => return Err(BenchError::new("cannot hear the proxy: it ended")),
                [.., b'\n'] => return Ok(clock::monotonic_now().saturating_since(begun_at)),
                [..] => {}
            }
        }
    }
}

/// Reads until so many lines came that are wanted.
fn read_lines(
    stream: &mut impl Read,
    count: usize,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Result<(), BenchError> {
    let mut buffer = vec![0; READ_BYTES];
    let (mut filled, mut found) = (0, 0);
    while found < count {
        let read = stream.read(&mut buffer[filled..]).attempt("hear the proxy")?;
        if read == 0 {
            let text = format!("cannot hear the proxy: it ended after {found} of {count} lines");
            return Err(BenchError::new(text));
        }
        filled += read;
        let mut begin = 0;
        while let Some(length) = buffer[begin..filled].iter().position(|byte| *byte == b'\n') {
            let line = &buffer[begin..begin + length];
            if line == OVERFLOW {
                let text = format!("cannot take all news: {found} of {count} came, then overflow");
                return Err(BenchError::new(text));
            }
            found += usize::from(is_wanted(line));
            begin += length + 1;
        }
        buffer.copy_within(begin..filled, 0);
        filled -= begin;
    }
    Ok(())
}
