//! A proxy that runs.

use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use keepd_model::Signal;

use super::{Conversation, PATIENCE, Setup};
use crate::{Output, processes, wait_until};

/// A proxy that runs. It is killed when this is dropped, with everything it started.
#[derive(Debug)]
pub struct Daemonproxy {
    setup: Setup,
    child: Child,
    log: Output,
    code: Option<i32>,
}

impl Daemonproxy {
    /// Takes over a child that was just started.
    pub(super) fn new(setup: Setup, child: Child, log: Output) -> Self {
        Self { setup, child, log, code: None }
    }

    /// Starts a proxy with `-i`, and returns it with its controller, which has read the banner.
    #[track_caller]
    pub fn interactive() -> (Self, Conversation) {
        Self::interactive_with(Setup::new())
    }

    /// Starts a proxy with `-i` and with what was said before, and returns it with its controller,
    /// which has read the banner.
    #[track_caller]
    pub fn interactive_with(setup: Setup) -> (Self, Conversation) {
        let mut proxy = setup.options(["-i"]).start();
        let mut controller = proxy.standard();
        let first = controller.next_line();
        assert!(first.starts_with("info\t"), "-i greets with {first:?}");
        controller.sync();
        (proxy, controller)
    }

    /// Starts a proxy that listens on the socket `ctl`, and returns it with a client.
    #[track_caller]
    pub fn with_socket() -> (Self, Conversation) {
        let mut proxy = Setup::new().options(["-S", "ctl"]).start();
        let client = proxy.client("ctl");
        (proxy, client)
    }

    /// Returns the conversation over standard input and output. It can be had once.
    ///
    /// # Panics
    /// If it was given away, or if one of the two is no pipe.
    #[track_caller]
    pub fn standard(&mut self) -> Conversation {
        let input = self.child.stdin.take().expect("the input was not given away");
        let output = self.child.stdout.take().expect("the output was not given away");
        Conversation::new(input.into(), output.into(), self.log.clone())
    }

    /// Connects to the socket `name` in the folder of the proxy, as soon as it is there.
    ///
    /// # Panics
    /// If there is none within [`PATIENCE`], or the proxy has ended.
    #[track_caller]
    pub fn client(&mut self, name: &str) -> Conversation {
        let path = self.path(name);
        let socket = wait_until("the control socket", PATIENCE, || {
            if !self.is_running() {
                panic!("the proxy ended\nlog:\n{}", self.log.text());
            }
            UnixStream::connect(&path).ok()
        });
        Conversation::over_socket(socket, self.log.clone())
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the path of a file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// Returns its folder.
    pub fn folder(&self) -> &Path {
        self.setup.folder()
    }

    /// Signals it.
    ///
    /// # Panics
    /// If it has ended.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(processes::signal(self.pid(), signal), "the proxy has ended");
    }

    /// Reports whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.code.is_none() && matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns what it has written to standard error so far.
    pub fn log(&self) -> &Output {
        &self.log
    }

    /// Waits for a line of the log that holds all these words, whatever their case, and returns it.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn expect_log(&self, words: &[&str]) -> String {
        let holds = |line: &str| {
            let line = line.to_lowercase();
            words.iter().all(|word| line.contains(&word.to_lowercase()))
        };
        self.log.wait_for_line(&format!("a line with {words:?}"), PATIENCE, holds)
    }

    /// Waits for its end, and returns the exit code, or 128 plus the signal that ended it.
    ///
    /// # Panics
    /// If it goes on for longer than [`PATIENCE`].
    #[track_caller]
    pub fn wait_exit(&mut self) -> i32 {
        if let Some(code) = self.code {
            return code;
        }
        if !processes::wait_for_end(self.pid(), PATIENCE) {
            panic!("the proxy does not end\nlog:\n{}", self.log.text());
        }
        let status = self.child.wait().expect("an own child can be waited for");
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        *self.code.insert(code.expect("a process ends by itself or by a signal"))
    }
}

impl Drop for Daemonproxy {
    fn drop(&mut self) {
        if self.code.is_none() {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
