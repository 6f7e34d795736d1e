//! The proxy that does as it is told, line by line. Signals that it gets are lines to the test.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use keepd_model::{Generation, Pid, Signal};
use keepd_os::channel::Channel;
use keepd_os::exec::{self, Program};
use keepd_os::ledger::Mapping;
use keepd_os::signals::SignalReader;
use keepd_os::{held, memfd, pidfd};
use keepd_proxy::channel::ToWarden;
use keepd_proxy::estate::{CHANNEL, ESTATE, Entry, Estate, Label};
use keepd_wire::ledger::keeper::Slot;
use keepd_wire::ledger::layout::{SlotCell, SlotNumber, encode_header, file_bytes};
use keepd_wire::ledger::{BootId, Identity, Scope, run_word};
use rustix::event::{PollFd, PollFlags, poll};

use crate::fixture::INSTANCE;

/// What it has.
struct Script {
    folder: PathBuf,
    channel: Channel,
    memory: OwnedFd,
    /// As the estate says it, with what was held and dropped since.
    estate: Estate,
    held: Vec<OwnedFd>,
    /// Ends of pipes of which the other ends are held.
    others: Vec<OwnedFd>,
    mapping: Option<Mapping>,
}

/// This process as the proxy.
pub(crate) fn proxy(arguments: &[OsString]) -> ExitCode {
    let folder = PathBuf::from(&arguments[0]);
    let watched = [Signal::TERM, Signal::HUP, Signal::INT];
    let signals = SignalReader::new(&watched).unwrap();
    let channel = Channel::from(held::claim(CHANNEL).unwrap());
    let memory = held::claim(ESTATE).unwrap();
    let estate = Estate::read(&memfd::read_all(&memory, 1 << 20).unwrap());
    let held = estate.held.keys().map(|number| held::claim(*number).unwrap()).collect();
    let (others, mapping) = (Vec::new(), None);
    let mut script = Script { folder, channel, memory, estate, held, others, mapping };
    let mut stream = UnixStream::connect(script.folder.join("control")).unwrap();
    let words: Vec<String> =
        arguments[1..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
    writeln!(stream, "{}\t{}", std::process::id(), words.join("\t")).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut polled =
            [PollFd::new(&stream, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        poll(&mut polled, None).unwrap();
        let has_line = !polled[0].revents().is_empty();
        for (signal, count) in signals.read().unwrap() {
            writeln!(stream, "signal {signal} {count}").unwrap();
        }
        // One line at a time: the test waits for the answer before it sends the next one.
        if has_line {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                return ExitCode::from(99);
            }
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            if let Some(answer) = script.run(&words) {
                writeln!(stream, "{answer}").unwrap();
            }
        }
    }
}

impl Script {
    fn run(&mut self, words: &[&str]) -> Option<String> {
        let code = || words[1].parse().unwrap();
        match words[0] {
            "ready" => self.tell(&ToWarden::Ready),
            "exit" => {
                self.tell(&ToWarden::Exit(code()));
                std::process::exit(0);
            }
            "exec" => {
                let arguments = words[2..].iter().map(|word| word.as_bytes().to_vec()).collect();
                self.tell(&ToWarden::Exec { code: code(), arguments });
                std::process::exit(0);
            }
            "die" => std::process::exit(code().into()),
            "hold" => return Some(self.hold(words[1]).to_string()),
            "drop" => self.drop_held(words[1].parse().unwrap()),
            "read" => return Some(self.read(words[1].parse().unwrap())),
            "estate" => return Some(self.describe()),
            "succeed" => self.succeed(),
            "ledger" => self.make_ledger(),
            "service" => return Some(self.start_service(words[1].parse().unwrap()).to_string()),
            "intent" => self.intend(words[1].parse().unwrap()),
            other => panic!("there is no command {other}"),
        }
        Some("done".to_owned())
    }

    fn tell(&self, message: &ToWarden) {
        self.channel.send(&message.encode().unwrap(), None).unwrap();
    }

    /// Holds the end of a pipe into which this text is written.
    fn hold(&mut self, text: &str) -> RawFd {
        let (reader, writer) = keepd_os::handle::pipe(false).unwrap();
        rustix::io::write(&writer, text.as_bytes()).unwrap();
        let lifted = held::lift(&reader).unwrap();
        let number = lifted.as_raw_fd();
        let label = Label::Listener { path: text.as_bytes().to_vec() };
        let message = ToWarden::Hold(number, label.clone()).encode().unwrap();
        use std::os::fd::AsFd as _;
        self.channel.send(&message, Some(lifted.as_fd())).unwrap();
        self.estate.apply(Entry::Held(number, label));
        self.held.push(lifted);
        self.others.push(writer);
        number
    }

    fn drop_held(&mut self, number: RawFd) {
        self.tell(&ToWarden::Drop(number));
        self.estate.apply(Entry::Dropped(number));
        self.held.retain(|held| held.as_raw_fd() != number);
    }

    /// Reads a byte of what is held.
    fn read(&self, number: RawFd) -> String {
        let held = self.held.iter().find(|held| held.as_raw_fd() == number).unwrap();
        let mut file = std::fs::File::from(held.try_clone().unwrap());
        let mut byte = [0];
        file.read_exact(&mut byte).unwrap();
        char::from(byte[0]).to_string()
    }

    /// What the estate says that is held, and what is open.
    fn describe(&self) -> String {
        let mut text = String::new();
        for (number, label) in &self.estate.held {
            let name = match label {
                Label::Lock => "lock".to_owned(),
                Label::Listener { path } => String::from_utf8_lossy(path).into_owned(),
                Label::Pidfd { pid } => format!("pidfd {pid}"),
                other => format!("{other:?}"),
            };
            let open = held::open_numbers().contains(number);
            write!(text, "{number}={name}{} ", if open { "" } else { " (closed)" }).unwrap();
        }
        let deaths = self.estate.deaths.len();
        write!(text, "deaths={deaths} proxy={}", self.estate.proxy.map_or(0, Pid::get)).unwrap();
        text
    }

    /// Takes the place of the warden, as the real proxy does.
    fn succeed(&mut self) {
        let memory = memfd::create("estate").unwrap();
        memfd::append(&memory, &self.estate.to_file()).unwrap();
        rustix::io::dup3(&memory, &mut self.memory, rustix::io::DupFlags::empty()).unwrap();
        for held in &self.held {
            held::set_close_on_exec(held.as_raw_fd(), false).unwrap();
        }
        let exe = std::env::current_exe().unwrap().into_os_string().into_vec();
        let estate = [b"--estate".to_vec(), ESTATE.to_string().into_bytes()];
        let arguments = [vec![exe], self.estate.warden.clone(), estate.to_vec()].concat();
        let program = Program {
            file: Some(exec::own_program().unwrap()),
            arguments: &arguments,
            environment: &[],
            descriptor_limit: None,
        };
        panic!("cannot become the warden: {}", exec::exec(&program));
    }

    fn make_ledger(&mut self) {
        let scope = Scope { boot: boot(), instance: INSTANCE };
        let first = encode_header(&scope, 1).unwrap();
        let path = self.folder.join("ledger");
        self.mapping = Some(Mapping::create(&path, &first, file_bytes(1)).unwrap());
    }

    fn sleep() -> Pid {
        let null = Stdio::null;
        let mut sleep = Command::new("sleep");
        let sleep = sleep.arg("1000").stdin(null()).stdout(null()).stderr(null());
        Pid::new(sleep.spawn().unwrap().id()).unwrap()
    }

    /// Starts a process that records itself in this slot as a service's child does.
    fn start_service(&mut self, slot: u32) -> Pid {
        let intent = self.intend_in(slot);
        let pid = Self::sleep();
        let mapping = self.mapping.as_ref().unwrap();
        let cell = |which| mapping.cell(SlotNumber(slot).offset(which)).unwrap();
        let inode = pidfd::open(pid).ok().and_then(keepd_os::ledger::inode);
        if let Some(raw) = inode.and_then(|inode| Identity::Inode(inode).raw()) {
            cell(SlotCell::Identity).store(raw);
        }
        assert!(cell(SlotCell::Word).exchange(intent, run_word(intent, pid.get())));
        pid
    }

    fn intend(&mut self, slot: u32) {
        self.intend_in(slot);
    }

    fn intend_in(&self, slot: u32) -> u64 {
        let cells = Cells(self.mapping.as_ref().unwrap());
        let slot = Slot::new(&cells, SlotNumber(slot));
        slot.claim("service").unwrap();
        slot.intend(Generation::new(1)).unwrap().intent
    }
}

/// The boot of this machine.
pub(crate) fn boot() -> BootId {
    BootId::parse(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()).unwrap()
}

/// Opens the ledger in a folder.
pub(crate) fn open_ledger(folder: &Path) -> Mapping {
    let (file, length) = Mapping::open(&folder.join("ledger")).unwrap();
    Mapping::beside(file, length).unwrap()
}

/// The cells of a mapping.
pub(crate) struct Cells<'a>(pub(crate) &'a Mapping);

impl keepd_wire::ledger::keeper::Cells for Cells<'_> {
    fn load(&self, offset: u64) -> u64 {
        self.0.cell(offset).unwrap().load()
    }

    fn store(&self, offset: u64, value: u64) {
        self.0.cell(offset).unwrap().store(value);
    }

    fn exchange(&self, offset: u64, expected: u64, new: u64) -> bool {
        self.0.cell(offset).unwrap().exchange(expected, new)
    }
}
