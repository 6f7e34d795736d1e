//! A warden of its own for each case, and the proxies that it starts, as the test sees them.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use keepd_model::{Pid, Signal};
use keepd_os::spawn::Session;
use keepd_os::{handle, pidfd, signals};
use keepd_proxy::warden::{self, Ending, Keys, News, Origin, Setup};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Whose ledger it is.
pub(crate) const INSTANCE: &str = "test";
/// The warden panics when it has started so many proxies.
const PANIC_AT: &str = "WARDEN_PANICS_AT";

/// A folder with a warden, and the socket to which its proxies connect.
pub(crate) struct Running {
    pub(crate) folder: PathBuf,
    listener: UnixListener,
    pub(crate) warden: Child,
}

/// A proxy, as it says itself.
pub(crate) struct Proxy {
    pub(crate) pid: Pid,
    pub(crate) arguments: Vec<String>,
    lines: BufReader<UnixStream>,
}

impl Running {
    /// Starts a warden in a new folder.
    pub(crate) fn start(case: &str) -> Self {
        Self::start_with(case, None)
    }

    /// Starts a warden that panics when it has started so many proxies.
    pub(crate) fn start_with(case: &str, panic_at: Option<u32>) -> Self {
        let folder =
            std::env::temp_dir().join(format!("keepd-warden-{case}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("control")).unwrap();
        let warden = Command::new(std::env::current_exe().unwrap())
            .arg("warden")
            .arg(&folder)
            .envs(panic_at.map(|count| (PANIC_AT, count.to_string())))
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { folder, listener, warden }
    }

    /// Returns the next proxy that is started.
    pub(crate) fn next_proxy(&self) -> Proxy {
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        let mut polled = [PollFd::new(&self.listener, PollFlags::IN)];
        assert_eq!(poll(&mut polled, Some(&timeout)), Ok(1), "no proxy comes: {}", self.said());
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut proxy = Proxy {
            pid: Pid::new(1).unwrap(),
            arguments: Vec::new(),
            lines: BufReader::new(stream),
        };
        let greeting = proxy.line();
        let mut words = greeting.split('\t').map(str::to_owned);
        proxy.pid = words.next().and_then(|pid| pid.parse().ok()).and_then(Pid::new).unwrap();
        proxy.arguments = words.collect();
        proxy
    }

    /// Returns what the warden has said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap()
    }

    /// Returns the process id of the warden that was started.
    pub(crate) fn pid(&self) -> Pid {
        Pid::new(self.warden.id()).unwrap()
    }

    /// Waits for the end of the warden that was started.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        wait_for(self.pid());
        self.warden.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.warden.kill();
        let _ = self.warden.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Waits until a process has ended.
pub(crate) fn wait_for(pid: Pid) {
    let Ok(held) = pidfd::open(pid) else { return };
    let mut polled = [PollFd::new(&held, PollFlags::IN)];
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    assert_eq!(poll(&mut polled, Some(&timeout)), Ok(1), "process {pid} does not end");
}

impl Proxy {
    /// Commands something; returns the one line of the answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.say(command);
        self.line()
    }

    /// Commands something that has no answer.
    pub(crate) fn say(&mut self, command: &str) {
        writeln!(self.lines.get_mut(), "{command}").unwrap();
    }

    /// Returns the next line.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).unwrap();
        assert!(count > 0, "the proxy {} is gone", self.pid);
        line.trim_end().to_owned()
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        // It is a child of the warden, which reaps it; the connection is open, so it lives.
        signals::send(self.pid, Signal::KILL).unwrap();
    }
}

/// This process as the warden.
pub(crate) fn warden(arguments: &[OsString]) -> ExitCode {
    let folder = PathBuf::from(&arguments[0]);
    let estate = arguments.iter().position(|word| word == "--estate");
    let estate = estate.map(|at| arguments[at + 1].to_str().unwrap().parse().unwrap());
    let origin = match estate {
        Some(number) => Origin::Successor { estate: handle::adopt(number).unwrap() },
        None => Origin::Fresh { lock: lock(&folder), handles: Vec::new() },
    };
    let exe = std::env::current_exe().unwrap().into_os_string().into_vec();
    let words = |role: &str| vec![role.into(), folder.clone().into_os_string().into_vec()];
    let setup = Setup {
        file: None,
        proxy: [vec![exe], words("proxy")].concat(),
        successor: words("warden"),
        session: Session::New,
        input: None,
        run_dir: folder.clone(),
        instance: INSTANCE.to_owned(),
        more_signals: Vec::new(),
        ignored: Vec::new(),
        keys: Keys::Ours(|signal| signal),
        rescue: None,
    };
    let panic_at: Option<u32> = std::env::var(PANIC_AT).ok().and_then(|text| text.parse().ok());
    let panic_at = panic_at.filter(|_| estate.is_none());
    let mut count = 0;
    let ended = warden::run(&setup, origin, &mut |news| match news {
        News::Started(_) => {
            count += 1;
            assert!(Some(count) != panic_at, "as it was asked to");
        }
        News::Ready => {}
    });
    let ended = ended.unwrap_or_else(|error| panic!("{error}"));
    match &ended.ending {
        Ending::Exit(code) => ExitCode::from(*code),
        Ending::Become { code, arguments } => {
            let (name, errno) = ended.become_other(*code, warden::TERMINATED, arguments);
            eprintln!("cannot execute {name}: {errno}");
            ExitCode::from(*code)
        }
        Ending::NotStarted(failure) => {
            eprintln!("not started: {failure}");
            ExitCode::from(110)
        }
        Ending::FailedStart(code) => {
            eprintln!("failed start: {code}");
            ExitCode::from(109)
        }
        Ending::Lost { why } => {
            eprintln!("lost: {why}");
            ExitCode::from(111)
        }
    }
}

fn lock(folder: &Path) -> OwnedFd {
    let file = fs::File::create(folder.join("lock")).unwrap();
    assert_eq!(keepd_os::file::lock_exclusive(&file), Ok(true));
    file.into()
}
