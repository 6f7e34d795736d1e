//! One controller's side of a conversation.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use keepd_os::epoll::{Epoll, Interest};
use rustix::fs::OFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::pattern::captures;
use crate::{Deadline, Output};

/// How long a controller waits for a line that should come at once.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The bytes of a command that an error reply quotes.
const QUOTED_MAX: usize = 30;

/// A controller: it sends lines, hears lines, and remembers all of them for who reads a failure.
///
/// Lines are heard only when the caller asks for one, so a controller that asks for nothing is one
/// that does not read.
#[derive(Debug)]
pub struct Conversation {
    to_proxy: Option<File>,
    from_proxy: File,
    unread: Vec<u8>,
    syncs: u32,
    transcript: String,
    log: Output,
}

impl Conversation {
    /// Makes one of two ends that nobody else uses. `log` is shown with a failure.
    pub fn new(to_proxy: OwnedFd, from_proxy: OwnedFd, log: Output) -> Self {
        for end in [&to_proxy, &from_proxy] {
            let flags = rustix::fs::fcntl_getfl(end).expect("an open file has flags");
            rustix::fs::fcntl_setfl(end, flags | OFlags::NONBLOCK).expect("flags can be set");
        }
        Self {
            to_proxy: Some(File::from(to_proxy)),
            from_proxy: File::from(from_proxy),
            unread: Vec::new(),
            syncs: 0,
            transcript: String::new(),
            log,
        }
    }

    /// Makes one of a connected socket.
    pub fn over_socket(socket: UnixStream, log: Output) -> Self {
        let other = socket.try_clone().expect("a descriptor can be doubled");
        Self::new(OwnedFd::from(socket), OwnedFd::from(other), log)
    }

    /// Sends a line; the line feed is added.
    ///
    /// # Panics
    /// If the proxy does not take it within [`PATIENCE`], or has closed its side.
    #[track_caller]
    pub fn send(&mut self, line: impl AsRef<[u8]>) {
        let mut bytes = line.as_ref().to_vec();
        bytes.push(b'\n');
        self.send_bytes(&bytes);
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// As [`Conversation::send`].
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let taken = self.offer(bytes, PATIENCE);
        if taken < bytes.len() {
            self.fail(&format!("only {taken} of {} bytes could be sent", bytes.len()));
        }
    }

    /// Sends bytes until nothing more is taken for `patience`; returns how many were taken. It
    /// stops also when the proxy has closed its side.
    #[track_caller]
    pub fn offer(&mut self, bytes: &[u8], patience: Duration) -> usize {
        let mut input = self.to_proxy.as_ref().expect("the input is open");
        let mut taken = 0;
        while taken < bytes.len() {
            match input.write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !is_ready(input, Interest::WRITE, patience) {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        note(&mut self.transcript, "C> ", &bytes[..taken]);
        taken
    }

    /// Sends a line, and a descriptor with it (SCM_RIGHTS of unix(7)). Only for sockets.
    ///
    /// # Panics
    /// If it cannot be sent.
    #[track_caller]
    pub fn send_with_descriptors(&mut self, line: &str, descriptors: &[BorrowedFd<'_>]) {
        let input = self.to_proxy.as_ref().expect("the input is open");
        let bytes = format!("{line}\n");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "at most 8 fit");
        let slices = [IoSlice::new(bytes.as_bytes())];
        let sent = rustix::net::sendmsg(input, &slices, &mut ancillary, SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(bytes.len()));
        note(&mut self.transcript, "C> ", bytes.as_bytes());
    }

    /// Returns the next line without its line feed, and `None` at the end of the stream. An
    /// unfinished line at the end counts as none.
    ///
    /// # Panics
    /// If nothing comes within [`PATIENCE`].
    #[track_caller]
    pub fn next_line_bytes(&mut self) -> Option<Vec<u8>> {
        match self.next_line_within(PATIENCE) {
            Ok(line) => line,
            Err(Silence) => self.fail("nothing more came"),
        }
    }

    /// Reports whether the next line, or the end of the stream, comes within `limit`. The line
    /// stays to be read.
    pub fn is_heard_within(&mut self, limit: Duration) -> bool {
        self.unread.contains(&b'\n') || is_ready(&self.from_proxy, Interest::READ, limit)
    }

    fn next_line_within(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, Silence> {
        let deadline = Deadline::after(limit);
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.unread.drain(..=end).collect();
                note(&mut self.transcript, "P> ", &line);
                line.pop();
                return Ok(Some(line));
            }
            let mut buffer = [0; 4096];
            match self.from_proxy.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let remaining = deadline.remaining().ok_or(Silence)?;
                    is_ready(&self.from_proxy, Interest::READ, remaining);
                }
                // A connection that is cut (ECONNRESET) is at its end.
                Err(_) => return Ok(None),
            }
        }
    }

    /// Returns the next line as text.
    ///
    /// # Panics
    /// If nothing comes within [`PATIENCE`], or the stream ends.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        match self.next_line_bytes() {
            Some(line) => String::from_utf8_lossy(&line).into_owned(),
            None => self.fail("the proxy closed the connection"),
        }
    }

    /// Expects that the very next line fits the pattern, and returns what its holes captured.
    ///
    /// A pattern is a whole line in which `{num}` stands for digits, `{pid}` for digits without a
    /// leading 0, `{any}` for anything within a field, `{rest}` for anything.
    ///
    /// # Panics
    /// If another line comes, or none.
    #[track_caller]
    pub fn expect_next(&mut self, pattern: &str) -> Captured {
        let line = self.next_line();
        match captures(pattern, line.as_bytes()) {
            Some(captured) => Captured(captured),
            None => self.fail(&format!("{line:?} is not {pattern:?}")),
        }
    }

    /// Expects a line that fits the pattern (see [`Conversation::expect_next`]) and passes over
    /// others before it.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn expect(&mut self, pattern: &str) -> Captured {
        let what = format!("{pattern:?}");
        Captured(self.expect_line(&what, |line| captures(pattern, line.as_bytes())))
    }

    /// Expects a line that `condition` has an answer for, and passes over others before it.
    ///
    /// # Panics
    /// If none comes; the message says `what` it waited for.
    #[track_caller]
    pub fn expect_line<T>(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&str) -> Option<T>,
    ) -> T {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let remaining = deadline.remaining().unwrap_or_default();
            match self.next_line_within(remaining) {
                Ok(Some(line)) => {
                    if let Some(found) = condition(&String::from_utf8_lossy(&line)) {
                        return found;
                    }
                }
                Ok(None) => self.fail(&format!("the connection ended before {what}")),
                Err(Silence) => self.fail(&format!("waited in vain for {what}")),
            }
        }
    }

    /// Waits until everything that was sent is done: sends an `echo` with a unique word, and
    /// returns the lines that come before it.
    ///
    /// # Panics
    /// If the word does not come back.
    #[track_caller]
    pub fn sync(&mut self) -> Vec<String> {
        self.syncs += 1;
        let marker = format!("--sync-{}--", self.syncs);
        self.send(format!("echo\t{marker}"));
        let mut lines = Vec::new();
        self.expect_line("the echo of the last command", |line| {
            let found = line == marker;
            if !found {
                lines.push(line.to_owned());
            }
            found.then_some(())
        });
        lines
    }

    /// Sends a command, and returns every line up to its end.
    #[track_caller]
    pub fn ask(&mut self, command: impl AsRef<[u8]>) -> Vec<String> {
        self.send(command);
        self.sync()
    }

    /// Sends a command that is answered by exactly one line, and returns what the pattern captured
    /// of it.
    ///
    /// # Panics
    /// If something else is answered.
    #[track_caller]
    pub fn answers(&mut self, command: &str, pattern: &str) -> Captured {
        let lines = self.ask(command);
        match &lines[..] {
            [line] if captures(pattern, line.as_bytes()).is_some() => {
                Captured(captures(pattern, line.as_bytes()).unwrap_or_default())
            }
            _ => self.fail(&format!("{command:?} is answered by {lines:?}, not by {pattern:?}")),
        }
    }

    /// Sends a command whose success is silent.
    ///
    /// # Panics
    /// If anything is answered.
    #[track_caller]
    pub fn is_silent(&mut self, command: &str) {
        let lines = self.ask(command);
        if !lines.is_empty() {
            self.fail(&format!("{command:?} is answered by {lines:?}, not by silence"));
        }
    }

    /// Sends a command that is refused: exactly one `error` line, which holds these words and ends
    /// with the beginning of the command.
    ///
    /// # Panics
    /// If the answer is another one.
    #[track_caller]
    pub fn refuses(&mut self, command: &str, words: &[&str]) -> String {
        let lines = self.ask(command);
        let [line] = &lines[..] else {
            self.fail(&format!("{command:?} is answered by {lines:?}, not by one error"));
        };
        if let Some(fault) = fault_of_refusal(command, words, line) {
            let line = line.clone();
            self.fail(&format!("the answer to {command:?} {fault}: {line:?}"));
        }
        line.clone()
    }

    /// Expects the end of the stream; returns the lines before it.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn expect_end(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next_line_bytes() {
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        lines
    }

    /// Ends the input; what the proxy says can still be heard.
    pub fn close_input(&mut self) {
        if let Some(input) = self.to_proxy.take() {
            // Pipes have no half to shut down: for them, closing is all there is to do.
            let _ = rustix::net::shutdown(&input, rustix::net::Shutdown::Write);
        }
    }

    /// Refuses to hear anything more: what the proxy writes fails (EPIPE). Only for sockets.
    ///
    /// # Panics
    /// If the connection is no socket.
    pub fn stop_listening(&mut self) {
        rustix::net::shutdown(&self.from_proxy, rustix::net::Shutdown::Read)
            .expect("a connected socket can be shut down");
    }

    /// Fails the test, and shows everything that was said.
    #[track_caller]
    pub fn fail(&self, why: &str) -> ! {
        let unread = String::from_utf8_lossy(&self.unread);
        let (transcript, log) = (&self.transcript, self.log.text());
        panic!("{why}\nconversation:\n{transcript}unread: {unread:?}\nlog:\n{log}");
    }
}

/// Nothing was heard in time.
#[derive(Debug)]
struct Silence;

/// What the holes of a pattern captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured(Vec<String>);

impl Captured {
    /// Returns what a hole captured; the first has the number 0.
    ///
    /// # Panics
    /// If the pattern has no such hole.
    #[track_caller]
    pub fn text(&self, hole: usize) -> &str {
        &self.0[hole]
    }

    /// Returns what a hole captured, as a number.
    ///
    /// # Panics
    /// If the pattern has no such hole, or it captured something else.
    #[track_caller]
    pub fn number(&self, hole: usize) -> u64 {
        self.0[hole].parse().expect("the hole takes numbers only")
    }

    /// Returns what a hole captured, as a process id.
    ///
    /// # Panics
    /// As [`Captured::number`].
    #[track_caller]
    pub fn pid(&self, hole: usize) -> u32 {
        u32::try_from(self.number(hole)).expect("a process id fits into 32 bits")
    }
}

/// Returns what is wrong with an error reply, and `None` if it is as it should be.
fn fault_of_refusal(command: &str, words: &[&str], line: &str) -> Option<String> {
    let Some(message) = line.strip_prefix("error\t") else {
        return Some("is no error".to_owned());
    };
    let quoted = String::from_utf8_lossy(&command.as_bytes()[..command.len().min(QUOTED_MAX)]);
    let dots = if command.len() >= QUOTED_MAX { "..." } else { "" };
    let end = format!(", for command \"{quoted}{dots}\"");
    let Some(message) = message.strip_suffix(&end) else {
        return Some(format!("does not end with {end:?}"));
    };
    let message = message.to_lowercase();
    let missing = words.iter().find(|word| !message.contains(&word.to_lowercase()));
    missing.map(|word| format!("does not hold {word:?}"))
}

fn note(transcript: &mut String, who: &str, bytes: &[u8]) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        writeln!(transcript, "{who}{}", text.escape_debug()).expect("a string takes everything");
    }
}

fn is_ready(end: impl AsFd, interest: Interest, limit: Duration) -> bool {
    let deadline = Deadline::after(limit);
    let set = Epoll::new().expect("an epoll set can be made");
    set.add(end, 0, interest).expect("pipes and sockets can be waited for");
    let mut ready = Vec::new();
    loop {
        let remaining = deadline.remaining();
        set.wait(Some(remaining.unwrap_or_default()), &mut ready)
            .expect("the set can be waited for");
        if !ready.is_empty() || remaining.is_none() {
            return !ready.is_empty();
        }
    }
}
