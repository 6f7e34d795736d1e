//! A warden that does what a test tells it to, one step after another: it starts the program as a
//! real one does, keeps what it is told to, and records ends before it consumes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keepd_model::{Exit, Pid, Signal};
use keepd_os::cgroup::Group;
use keepd_os::channel::{Channel, MESSAGE_BYTES_MAX, Received};
use keepd_os::held::{HELD_BASE, place_at};
use keepd_os::ledger::{Cell, Mapping};
use keepd_os::signals::{self, SignalReader};
use keepd_os::spawn::{Descriptor, FAILURE_STATUS, Session, SpawnRequest, spawn};
use keepd_os::{file, memfd, pidfd, reap, sweep};
use keepd_proxy::channel::ToWarden;
use keepd_proxy::estate::{CHANNEL, ESTATE, Entry, Label};
use keepd_wire::ledger::keeper::{Cells, Slot, cancel_intents, slot_count, slots_that_run};
use keepd_wire::ledger::layout::{HEADER_BYTES, SlotNumber};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Everything that a test waits for comes within this time, also on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The cells of the ledger.
pub(crate) struct MappedCells(Mapping);

impl MappedCells {
    fn cell(&self, offset: u64) -> Cell<'_> {
        self.0.cell(offset).unwrap()
    }
}

impl Cells for MappedCells {
    fn load(&self, offset: u64) -> u64 {
        self.cell(offset).load()
    }

    fn store(&self, offset: u64, value: u64) {
        self.cell(offset).store(value);
    }

    fn exchange(&self, offset: u64, expected: u64, new: u64) -> bool {
        self.cell(offset).exchange(expected, new)
    }
}

/// The parent of a proxy, and of what a proxy leaves behind.
pub(crate) struct Warden {
    folder: PathBuf,
    instance: String,
    file: OwnedFd,
    pub(crate) held: BTreeMap<RawFd, (Label, OwnedFd)>,
    signals: SignalReader,
    group: Option<Group>,
    channel: Option<Channel>,
    proxy: Option<Pid>,
    /// Who was consumed, and how they had ended.
    ends: BTreeMap<Pid, Exit>,
    said: Vec<ToWarden>,
}

impl Warden {
    /// Makes a folder of its own, and the warden in this process.
    pub(crate) fn new(case: &str, group: Option<Group>) -> Self {
        let instance = format!("{case}-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("keepd-warden.{instance}"));
        std::fs::create_dir(&folder).unwrap();
        let mut warden = Self {
            folder,
            instance,
            file: memfd::create("estate").unwrap(),
            held: BTreeMap::new(),
            signals: SignalReader::new(&[Signal::CHLD]).unwrap(),
            group,
            channel: None,
            proxy: None,
            ends: BTreeMap::new(),
            said: Vec::new(),
        };
        warden.write(&Entry::Warden(vec![b"--".to_vec(), b"/bin/true".to_vec()]));
        warden
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Writes a line of the estate.
    pub(crate) fn write(&mut self, entry: &Entry) {
        let mut line = Vec::new();
        entry.encode(&mut line);
        memfd::append(&self.file, &line).unwrap();
    }

    /// Starts a proxy with these words beside its own, and waits until it is ready.
    pub(crate) fn start(&mut self, words: &[&str]) {
        self.launch(words);
        self.wait_for("ready", |warden| warden.said.contains(&ToWarden::Ready));
        self.said.clear();
    }

    /// Starts a proxy with these words beside its own.
    pub(crate) fn launch(&mut self, words: &[&str]) {
        let (ours, theirs) = Channel::pair().unwrap();
        let program = env!("CARGO_BIN_EXE_keepd-init");
        let own = ["--estate", "3", "--channel", "4"].map(str::to_owned);
        let places = ["--socket".to_owned(), self.path("proxy.sock")]
            .into_iter()
            .chain(["--run-dir".to_owned(), self.path("")])
            .chain(["--instance".to_owned(), self.instance.clone()]);
        let group = self.group.as_ref().map(|group| group.path().display().to_string());
        let group = group.into_iter().flat_map(|path| ["--group".to_owned(), path]);
        let words = words.iter().map(|word| (*word).to_owned());
        let arguments: Vec<Vec<u8>> = [program.to_owned()]
            .into_iter()
            .chain(own)
            .chain(places)
            .chain(group)
            .chain(words)
            .map(String::into_bytes)
            .collect();
        let environment: Vec<Cow<'_, [u8]>> = vec![b"PATH=/usr/bin:/bin".into()];
        let null = std::fs::File::open("/dev/null").unwrap();
        let log = file::open_append(&self.folder.join("log")).unwrap();
        let standard = [null.as_fd(), log.as_fd(), log.as_fd()].map(Descriptor::Open);
        let child = spawn(&SpawnRequest {
            arguments: &arguments,
            file: None,
            environment: &environment,
            directory: None,
            umask: 0o077,
            uid: None,
            gid: None,
            groups: None,
            descriptors: &standard,
            extra: &[(self.file.as_fd(), ESTATE), (theirs.as_fd(), CHANNEL)],
            keep_from: Some(HELD_BASE),
            cgroup: None,
            session: Session::New,
            ignored: &[],
            descriptor_limit: None,
            failure_status: FAILURE_STATUS,
            record: None,
        });
        let pid = child.unwrap().pid();
        self.write(&Entry::Proxy(pid));
        self.proxy = Some(pid);
        self.channel = Some(ours);
    }

    /// Waits until something is so, doing all the while what a warden does.
    pub(crate) fn wait_for(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + DEADLINE;
        loop {
            self.receive();
            self.reap();
            if is_so(self) {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not in time; the log says:\n{}", self.log());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: 1 };
            let mut polled = vec![PollFd::new(&self.signals, PollFlags::IN)];
            polled.extend(self.channel.as_ref().map(|it| PollFd::new(it, PollFlags::IN)));
            poll(&mut polled, Some(&timeout)).unwrap();
        }
    }

    fn receive(&mut self) {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while let Some(channel) = &self.channel {
            match channel.receive(&mut buffer).unwrap() {
                Received::Nothing => return,
                Received::Closed => self.channel = None,
                Received::Message { length, descriptor, is_cut } => {
                    assert!(!is_cut, "every message and descriptor is whole");
                    let message = ToWarden::decode(&buffer[..length]).unwrap();
                    self.take(message, descriptor);
                }
            }
        }
    }

    fn take(&mut self, message: ToWarden, descriptor: Option<OwnedFd>) {
        match message {
            ToWarden::Hold(number, label) => {
                let placed = place_at(descriptor.unwrap(), number).unwrap();
                self.write(&Entry::Held(number, label.clone()));
                self.held.insert(number, (label, placed));
            }
            ToWarden::Drop(number) => {
                self.write(&Entry::Dropped(number));
                assert!(self.held.remove(&number).is_some(), "{number} is held");
            }
            ToWarden::Ready | ToWarden::Exit(_) | ToWarden::Exec { .. } | ToWarden::Refused(_) => {
                self.said.push(message);
            }
        }
    }

    /// Records every end before its only copy is gone.
    fn reap(&mut self) {
        let _ = self.signals.read();
        while let Some((pid, exit)) = reap::peek().unwrap() {
            if let Some(cells) = self.cells() {
                let count = slot_count(&cells).unwrap();
                for (number, generation, found) in slots_that_run(&cells, count) {
                    if found == pid {
                        Slot::new(&cells, number).end(generation, Some(pid), exit).unwrap();
                    }
                }
            }
            self.ends.insert(pid, exit);
            reap::consume(pid).unwrap();
        }
    }

    /// Waits until this process has ended and was consumed by us.
    pub(crate) fn wait_for_end(&mut self, pid: Pid) -> Exit {
        self.wait_for("an end", |warden| warden.ends.contains_key(&pid));
        self.ends[&pid]
    }

    /// Maps the ledger, if there is one.
    pub(crate) fn cells(&self) -> Option<MappedCells> {
        let (file, length) = Mapping::open(&self.folder.join("ledger")).ok()?;
        assert!(length > HEADER_BYTES);
        Some(MappedCells(Mapping::of(file, length).unwrap()))
    }

    /// Returns the slot of a service.
    pub(crate) fn slot_of(cells: &MappedCells, service: &str) -> SlotNumber {
        let count = slot_count(cells).unwrap();
        let mut numbers = (0..count).map(SlotNumber);
        numbers.find(|number| Slot::new(cells, *number).is_of(service)).unwrap()
    }

    /// Kills the proxy, and waits for its end and for every word of it.
    pub(crate) fn kill_proxy(&mut self) {
        let pid = self.proxy.take().unwrap();
        signals::send(pid, Signal::KILL).unwrap();
        self.wait_for_end(pid);
        self.wait_for("the end of the channel", |warden| warden.channel.is_none());
        let now = keepd_os::clock::monotonic_now();
        self.write(&Entry::Death(now));
    }

    /// Does what comes between a proxy that was lost and the next: takes back intents, and holds
    /// what runs.
    pub(crate) fn recover(&mut self) {
        let cells = self.cells().unwrap();
        let count = slot_count(&cells).unwrap();
        cancel_intents(&cells, count);
        let running: Vec<Pid> = slots_that_run(&cells, count).map(|(_, _, pid)| pid).collect();
        for pid in running {
            let Ok(opened) = pidfd::open(pid) else { continue };
            let free = (HELD_BASE..).find(|number| !self.held.contains_key(number)).unwrap();
            let label = Label::Pidfd { pid };
            self.write(&Entry::Held(free, label.clone()));
            self.held.insert(free, (label, place_at(opened, free).unwrap()));
        }
    }

    /// Waits for the end of a proxy that ends by itself, and returns how, and what it said before.
    pub(crate) fn wait_for_proxy(&mut self) -> (Exit, Vec<ToWarden>) {
        let pid = self.proxy.take().unwrap();
        let exit = self.wait_for_end(pid);
        self.receive();
        (exit, std::mem::take(&mut self.said))
    }

    /// Begins anew, as a warden that is started when the last one is lost, too.
    pub(crate) fn forget_all(&mut self) {
        self.held.clear();
        self.file = memfd::create("estate").unwrap();
        self.write(&Entry::Warden(vec![b"--".to_vec(), b"/bin/true".to_vec()]));
    }

    pub(crate) fn proxy(&self) -> Pid {
        self.proxy.unwrap()
    }

    /// Closes our end of the channel, as if this process were gone.
    pub(crate) fn vanish(&mut self) {
        self.channel = None;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Reports whether something with such a label is held.
    pub(crate) fn holds(&self, is_meant: impl Fn(&Label) -> bool) -> bool {
        self.held.values().any(|(label, _)| is_meant(label))
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the proxies:\n{}", self.log());
        }
        if let Some(pid) = self.proxy.take() {
            let _ = signals::send(pid, Signal::KILL);
        }
        let mark = format!("KEEPD_PROJECT={}", self.instance);
        for process in sweep::processes_marked(mark.as_bytes()).unwrap_or_default() {
            let _ = process.signal(Signal::KILL);
        }
        if let Some(group) = self.group.take() {
            let _ = group.kill();
            let until = Instant::now() + DEADLINE;
            while group.remove().is_err() && Instant::now() < until {
                self.reap();
                std::thread::yield_now();
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
