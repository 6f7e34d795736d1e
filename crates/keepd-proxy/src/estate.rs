//! What a warden and its proxy hold together: which descriptor has which number and what it is, who
//! is the proxy, and how a successor of the warden is started.
//!
//! It is written as lines into a file in memory that both have open, or keep for themselves; each
//! line is a change, so that the file is right after every one of them. Fields have the escapes of
//! the extended protocol.
//!
//! | line | what |
//! | --- | --- |
//! | `warden⇥ARG…` | the words of a warden, without the name of the program |
//! | `proxy⇥PID` | this is the proxy now |
//! | `death⇥NS` | a proxy was lost, at this monotonic time |
//! | `fault⇥NS` | a warden had a fault, at this monotonic time |
//! | `held⇥N⇥LABEL…` | descriptor N is this |
//! | `dropped⇥N` | descriptor N is closed |
//!
//! A label is one of `lock`, `listener⇥PATH`, `log⇥SERVICE⇥out|err`, `notify⇥SERVICE`,
//! `ready⇥SERVICE⇥GEN`, `handle⇥NAME⇥TYPE⇥FLAGS⇥DESCRIPTION` (with `⇥0`, `⇥1` or `⇥2` behind it for
//! a copy of a standard descriptor) and `pidfd⇥PID`.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::RawFd;

use keepd_model::protocol::Stream;
use keepd_model::{Generation, HandleReport, Instant, Pid, ServiceName};
use keepd_wire::words;

/// The number of the file with these lines in a proxy that a warden starts.
pub const ESTATE: RawFd = 3;
/// The number of its end of the channel.
pub const CHANNEL: RawFd = 4;
/// The longest file that is read, in bytes.
pub const ESTATE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How many moments of deaths, and of faults, are kept.
pub const MOMENTS_MAX: usize = 16;

/// A file is not rewritten before it is this long.
const REWRITE_BYTES: usize = 256 * 1024;

/// What a held descriptor is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// The lock of the instance.
    Lock,
    /// The socket on which controllers connect.
    Listener {
        /// Where its file is.
        path: Vec<u8>,
    },
    /// Our side of a pipe with output.
    Log {
        /// Of which service.
        service: ServiceName,
        /// Which of its streams.
        stream: Stream,
    },
    /// The notify socket of a service.
    Notify {
        /// Of which.
        service: ServiceName,
    },
    /// Our side of the pipe of `ready_fd`.
    Ready {
        /// Of which service.
        service: ServiceName,
        /// Of which of its generations.
        generation: Generation,
    },
    /// What a handle stands for.
    Handle {
        /// The handle, as dumps tell it.
        report: Box<HandleReport>,
        /// It is a copy of this standard descriptor.
        standard: Option<u8>,
    },
    /// A process.
    Pidfd {
        /// Its number.
        pid: Pid,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The words of a warden.
    Warden(Vec<Vec<u8>>),
    /// There is a new proxy.
    Proxy(Pid),
    /// A proxy was lost.
    Death(Instant),
    /// A warden had a fault, or panicked.
    Fault(Instant),
    /// A descriptor is held.
    Held(RawFd, Label),
    /// A descriptor is held no more.
    Dropped(RawFd),
}

/// The sum of all changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estate {
    /// The words of a warden, without the name of the program.
    pub warden: Vec<Vec<u8>>,
    /// The proxy that was started last.
    pub proxy: Option<Pid>,
    /// When the last proxies were lost, oldest first.
    pub deaths: VecDeque<Instant>,
    /// When wardens had their last faults, oldest first.
    pub faults: VecDeque<Instant>,
    /// What is held under which number.
    pub held: BTreeMap<RawFd, Label>,
}

impl Label {
    /// Appends the fields, for a line that has begun.
    pub(crate) fn push_fields<'a>(&'a self, fields: &mut Vec<Cow<'a, [u8]>>) {
        match self {
            Self::Lock => fields.push(word("lock")),
            Self::Listener { path } => fields.extend([word("listener"), bytes(path)]),
            Self::Log { service, stream } => {
                fields.extend([word("log"), word(service.as_str()), word(stream.word())]);
            }
            Self::Notify { service } => fields.extend([word("notify"), word(service.as_str())]),
            Self::Ready { service, generation } => {
                fields.extend([word("ready"), word(service.as_str()), number(generation)]);
            }
            Self::Handle { report, standard } => {
                let HandleReport { name, kind, description } = &**report;
                fields.extend([word("handle"), word(name.as_str())]);
                fields.extend([
                    word(words::handle_type(kind)),
                    Cow::Owned(words::handle_flags(kind).into_bytes()),
                ]);
                fields.push(bytes(description));
                fields.extend(standard.as_ref().map(number));
            }
            Self::Pidfd { pid } => fields.extend([word("pidfd"), number(pid)]),
        }
    }

    /// Reads the fields; `None` for what no version so far writes.
    pub(crate) fn read(fields: &[Cow<'_, [u8]>]) -> Option<Self> {
        let (kind, rest) = fields.split_first()?;
        Some(match (kind.as_ref(), rest) {
            (b"lock", []) => Self::Lock,
            (b"listener", [path]) => Self::Listener { path: path.to_vec() },
            (b"log", [name, stream]) => {
                Self::Log { service: service(name)?, stream: stream_of(stream)? }
            }
            (b"notify", [name]) => Self::Notify { service: service(name)? },
            (b"ready", [name, generation]) => {
                let generation = Generation::new(read_number(generation, u64::MAX)?);
                Self::Ready { service: service(name)?, generation }
            }
            (b"handle", [name, kind, flags, description, rest @ ..]) => {
                let standard = match rest {
                    [] => None,
                    [number] => Some(u8::try_from(read_number(number, 2)?).ok()?),
                    [..] => return None,
                };
                let name = words::handle_name(name).ok()?;
                let kind = words::handle_kind(kind, flags).ok()?;
                let report = HandleReport { name, kind, description: description.to_vec() };
                Self::Handle { report: Box::new(report), standard }
            }
            (b"pidfd", [number]) => Self::Pidfd { pid: read_pid(number)? },
            (_, _) => return None,
        })
    }
}

impl Entry {
    /// Appends the line, line feed included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::new();
        match self {
            Self::Warden(arguments) => {
                fields.push(word("warden"));
                fields.extend(arguments.iter().map(|argument| bytes(argument)));
            }
            Self::Proxy(pid) => fields.extend([word("proxy"), number(pid)]),
            Self::Death(at) => fields.extend([word("death"), number(&at.as_nanos())]),
            Self::Fault(at) => fields.extend([word("fault"), number(&at.as_nanos())]),
            Self::Held(descriptor, label) => {
                fields.extend([word("held"), number(descriptor)]);
                label.push_fields(&mut fields);
            }
            Self::Dropped(descriptor) => fields.extend([word("dropped"), number(descriptor)]),
        }
        words::join(fields, out);
    }

    /// Reads a line without its line feed; `None` for what no version so far writes.
    pub fn decode(line: &[u8]) -> Option<Self> {
        let fields = words::split(line).ok()?;
        let (name, rest) = fields.split_first()?;
        Some(match (name.as_ref(), rest) {
            (b"warden", arguments) => {
                Self::Warden(arguments.iter().map(|argument| argument.to_vec()).collect())
            }
            (b"proxy", [pid]) => Self::Proxy(read_pid(pid)?),
            (b"death", [at]) => Self::Death(Instant::from_nanos(read_number(at, u64::MAX)?)),
            (b"fault", [at]) => Self::Fault(Instant::from_nanos(read_number(at, u64::MAX)?)),
            (b"held", [descriptor, label @ ..]) => {
                Self::Held(read_descriptor(descriptor)?, Label::read(label)?)
            }
            (b"dropped", [descriptor]) => Self::Dropped(read_descriptor(descriptor)?),
            (_, _) => return None,
        })
    }
}

impl Estate {
    /// Reads a file. A line that is torn at its end never counted; one that no version so far
    /// writes is skipped: a descriptor of which it spoke is without a label then.
    pub fn read(file: &[u8]) -> Self {
        let mut estate = Self::default();
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            let entry = line.strip_suffix(b"\n").and_then(Entry::decode);
            if let Some(entry) = entry {
                estate.apply(entry);
            }
        }
        estate
    }

    /// Takes a change in.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Warden(arguments) => self.warden = arguments,
            Entry::Proxy(pid) => self.proxy = Some(pid),
            Entry::Death(at) => push_moment(&mut self.deaths, at),
            Entry::Fault(at) => push_moment(&mut self.faults, at),
            Entry::Held(descriptor, label) => {
                self.held.insert(descriptor, label);
            }
            Entry::Dropped(descriptor) => {
                self.held.remove(&descriptor);
            }
        }
    }

    /// Returns a file with what still holds, and nothing else.
    ///
    /// It takes the place of another one as a new file (dup3(2)): after a fault within a rewrite,
    /// a successor would find half of it.
    pub fn to_file(&self) -> Vec<u8> {
        let mut file = Vec::new();
        Entry::Warden(self.warden.clone()).encode(&mut file);
        if let Some(pid) = self.proxy {
            Entry::Proxy(pid).encode(&mut file);
        }
        for at in &self.deaths {
            Entry::Death(*at).encode(&mut file);
        }
        for at in &self.faults {
            Entry::Fault(*at).encode(&mut file);
        }
        for (descriptor, label) in &self.held {
            Entry::Held(*descriptor, label.clone()).encode(&mut file);
        }
        file
    }

    /// Reports whether a file of this length is mostly history, when one with what still holds had
    /// `whole_bytes` the last time.
    pub const fn wants_rewrite(file_bytes: usize, whole_bytes: usize) -> bool {
        file_bytes > REWRITE_BYTES && file_bytes / 2 > whole_bytes
    }
}

fn push_moment(moments: &mut VecDeque<Instant>, at: Instant) {
    if moments.len() == MOMENTS_MAX {
        moments.pop_front();
    }
    moments.push_back(at);
}

pub(crate) fn word(text: &str) -> Cow<'_, [u8]> {
    Cow::Borrowed(text.as_bytes())
}

pub(crate) fn bytes(field: &[u8]) -> Cow<'_, [u8]> {
    Cow::Borrowed(field)
}

pub(crate) fn number(number: &impl ToString) -> Cow<'static, [u8]> {
    Cow::Owned(number.to_string().into_bytes())
}

pub(crate) fn read_number(field: &[u8], max: u64) -> Option<u64> {
    words::decimal(field, "number", max).ok()
}

pub(crate) fn read_descriptor(field: &[u8]) -> Option<RawFd> {
    read_number(field, RawFd::MAX as u64).and_then(|number| RawFd::try_from(number).ok())
}

fn read_pid(field: &[u8]) -> Option<Pid> {
    let number = read_number(field, i32::MAX as u64)?;
    u32::try_from(number).ok().and_then(Pid::new)
}

fn service(field: &[u8]) -> Option<ServiceName> {
    ServiceName::new_internal(str::from_utf8(field).ok()?).ok()
}

fn stream_of(field: &[u8]) -> Option<Stream> {
    [Stream::Out, Stream::Err].into_iter().find(|stream| stream.word().as_bytes() == field)
}

#[cfg(test)]
mod tests {
    use keepd_model::{Domain, HandleKind, HandleName, OpenFlags, PipeEnd, PipeSpec, SocketType};

    use super::*;

    pub(crate) fn labels() -> Vec<Label> {
        let service = ServiceName::new_internal("web@1").unwrap();
        let handle = |name: &str, kind, standard| Label::Handle {
            report: Box::new(HandleReport {
                name: HandleName::new(name).unwrap(),
                kind,
                description: b"a\tb\\c\n".to_vec(),
            }),
            standard,
        };
        let read = OpenFlags { read: true, ..OpenFlags::default() };
        let pipe = PipeSpec { socket: None, nonblock: true };
        let socket = HandleKind::Socket {
            domain: Domain::Inet,
            kind: SocketType::Stream,
            bind: true,
            listen: Some(5),
            mkdir: false,
            nonblock: true,
        };
        vec![
            Label::Lock,
            Label::Listener { path: b"/run/keepd/a\tb".to_vec() },
            Label::Log { service: service.clone(), stream: Stream::Out },
            Label::Log { service: service.clone(), stream: Stream::Err },
            Label::Notify { service: service.clone() },
            Label::Ready { service, generation: Generation::new(u64::MAX) },
            handle("stdin", HandleKind::File(read), Some(0)),
            handle("null", HandleKind::Special(read), None),
            handle("p", HandleKind::Pipe { end: PipeEnd::To, spec: pipe }, None),
            handle("s", socket, None),
            Label::Pidfd { pid: Pid::new(4711).unwrap() },
        ]
    }

    fn entries() -> Vec<Entry> {
        let held = (256..).zip(labels()).map(|(descriptor, label)| Entry::Held(descriptor, label));
        let words = [b"up".to_vec(), b"".to_vec(), b"\t\\\n\r\xFF".to_vec()];
        let mut entries = vec![
            Entry::Warden(words.to_vec()),
            Entry::Proxy(Pid::new(12).unwrap()),
            Entry::Death(Instant::from_nanos(5)),
            Entry::Fault(Instant::from_nanos(6)),
        ];
        entries.extend(held);
        entries.push(Entry::Dropped(256));
        entries
    }

    #[test]
    fn every_line_comes_back() {
        for entry in entries() {
            let mut line = Vec::new();
            entry.encode(&mut line);
            assert_eq!(line.pop(), Some(b'\n'));
            assert!(!line.contains(&b'\n'));
            assert_eq!(Entry::decode(&line), Some(entry));
        }
    }

    #[test]
    fn a_file_is_the_sum_of_its_lines_and_a_torn_end_never_counted() {
        let mut file = Vec::new();
        let mut sums = vec![(0, Estate::default())];
        for entry in entries() {
            entry.encode(&mut file);
            let mut estate = sums.last().unwrap().1.clone();
            estate.apply(entry);
            sums.push((file.len(), estate));
        }
        let whole = &sums.last().unwrap().1;
        assert_eq!((whole.held.len(), whole.held.get(&256)), (labels().len() - 1, None));
        for length in 0..=file.len() {
            let expected = sums.iter().rev().find(|(end, _)| *end <= length).unwrap();
            assert_eq!(Estate::read(&file[..length]), expected.1, "{length} bytes");
        }
        assert_eq!(Estate::read(&whole.to_file()), *whole);
    }

    #[test]
    fn what_a_later_version_writes_is_skipped() {
        let file = b"held\t300\tgramophone\t7\nheld\t301\tlock\nheld\t302\tlock\tx\nwand\t1\n\
                     held\t-1\tlock\nproxy\t0\nheld\t303\tlog\tweb\tin\nheld\t304\tpidfd\t\\q\n";
        let estate = Estate::read(file);
        let held = BTreeMap::from([(301, Label::Lock)]);
        assert_eq!(estate, Estate { held, ..Estate::default() });
    }

    #[test]
    fn a_number_is_one_thing_at_a_time_and_moments_are_bounded() {
        let mut estate = Estate::default();
        estate.apply(Entry::Held(256, Label::Lock));
        let pidfd = Label::Pidfd { pid: Pid::new(1).unwrap() };
        estate.apply(Entry::Held(256, pidfd.clone()));
        assert_eq!(estate.held, BTreeMap::from([(256, pidfd)]));
        for nanos in 0..100 {
            estate.apply(Entry::Death(Instant::from_nanos(nanos)));
        }
        assert_eq!(estate.deaths.len(), MOMENTS_MAX);
        assert_eq!(estate.deaths.back(), Some(&Instant::from_nanos(99)));
    }

    #[test]
    fn a_file_is_rewritten_when_it_is_long_and_mostly_history() {
        assert!(!Estate::wants_rewrite(REWRITE_BYTES, 0));
        assert!(Estate::wants_rewrite(REWRITE_BYTES + 1, 1000));
        assert!(!Estate::wants_rewrite(1_000_000, 500_000));
        assert!(Estate::wants_rewrite(1_000_002, 500_000));
    }
}
