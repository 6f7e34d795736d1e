//! Every service with output to keep: its streams, its index, and when to look at them again.

mod adopt;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use keepd_model::protocol::{LogTarget, Stream as Which};
use keepd_model::{Errno, Generation, Instant, ServiceName};
use keepd_os::clock;
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::pipe::LogPipe;
use keepd_wire::index::{IndexKind, IndexRecord};

use super::file::{LogFile, Placement, make_folder, path};
use super::index::Index;
use super::stream::Stream;
use crate::estate::Label;
use crate::holder::{Held, Holder};
use crate::token::Token;

pub(crate) use adopt::Left;
use adopt::PutOff;

/// What is read at once: a full pipe.
const BUFFER_BYTES: usize = 64 * 1024;
/// What one stream may move in one turn, so that a flood does not starve the control.
const TURN_BYTES_MAX: u64 = 128 * 1024;
/// Device or resource busy.
const EBUSY: Errno = Errno(16);

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For distances.
    pub(crate) monotonic: Instant,
    /// For people: time since 1970-01-01 00:00 UTC.
    pub(crate) wall: Duration,
}

impl Moment {
    /// Reads both clocks.
    pub(crate) fn now() -> Self {
        Self { monotonic: clock::monotonic_now(), wall: Duration::from_nanos(clock::wall_now_ns()) }
    }
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Output reaches to this offset.
    Output(ServiceName, Which, u64),
    /// Output waits because of this error, or flows again.
    Blocked(ServiceName, Option<Errno>),
}

/// A generation that is about to start.
pub(crate) struct Start<'a> {
    /// Of this service.
    pub(crate) name: &'a ServiceName,
    /// Its number.
    pub(crate) generation: Generation,
    /// Where its output goes.
    pub(crate) target: &'a LogTarget,
    /// Whose process it is.
    pub(crate) uid: u32,
}

/// The process's sides of the pipes of one service.
pub(crate) struct Writers {
    /// For descriptor 1.
    pub(crate) out: OwnedFd,
    /// For descriptor 2; `None`: the same as `out`.
    pub(crate) err: Option<OwnedFd>,
}

/// The pump.
pub(crate) struct Pump {
    /// Boxed, because a node of the map has room for many that are not there.
    services: BTreeMap<ServiceName, Box<Logged>>,
    /// Whose stream a number in the epoll set is.
    owners: HashMap<u64, ServiceName>,
    /// How many services have a folder with this hash. With many services a look at the folder of
    /// each would make each start slow.
    folders: HashMap<u64, u32>,
    token_next: u64,
    holder: Holder,
    buffer: Vec<u8>,
    /// Streams that grew since the last [`Pump::take_news`].
    grown: BTreeSet<(ServiceName, Which)>,
    /// Services whose ability to write may have changed.
    doubtful: BTreeSet<ServiceName>,
    /// Services with a stream that waits for a retry.
    waiting: BTreeSet<ServiceName>,
    /// What a predecessor left and cannot be gone on with for now.
    put_off: BTreeMap<ServiceName, PutOff>,
}

/// What output goes into.
struct Files {
    logs: Vec<(Which, LogFile)>,
    index: Option<Index>,
    folder_hash: Option<u64>,
}

/// One service.
struct Logged {
    target: LogTarget,
    /// Of the folder of `mode=file`.
    folder_hash: Option<u64>,
    generation: Generation,
    streams: Vec<Stream>,
    index: Option<Index>,
    /// What was told last.
    told: Option<Errno>,
}

impl Pump {
    /// Makes a pump without services, whose pipes are held.
    pub(crate) fn new(holder: Holder) -> Self {
        Self {
            services: BTreeMap::new(),
            owners: HashMap::new(),
            folders: HashMap::new(),
            token_next: 0,
            holder,
            buffer: vec![0; BUFFER_BYTES],
            grown: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            waiting: BTreeSet::new(),
            put_off: BTreeMap::new(),
        }
    }

    /// Makes everything ready for the next generation of a service and returns its sides of the
    /// pipes; `None` where the target needs no pipe.
    ///
    /// Pipes are made at the first start and kept; they change when the target does. What the last
    /// generation left in them is moved first, and the border between the two is recorded.
    pub(crate) fn prepare(
        &mut self,
        epoll: &Epoll,
        now: Moment,
        start: &Start<'_>,
    ) -> Result<Option<Writers>, Errno> {
        let name = start.name;
        self.drain(epoll, now, name);
        let logged = self.services.get(name);
        if logged.is_some_and(|logged| logged.target != *start.target) {
            self.forget(epoll, name);
        }
        if let Some(logged) = self.services.get_mut(name) {
            logged.refresh()?;
        } else {
            let Some(files) = self.open(start.target)? else {
                return Ok(None);
            };
            let (pipes, told) = self.take_put_off(name, start.target);
            let mut logged = self.join(name, start.target, files, pipes)?;
            logged.told = told;
            self.add(epoll, name, logged)?;
        }
        let logged = self.services.get_mut(name).expect("the service was just added");
        logged.begin(start.generation, now);
        let streams = logged.streams.iter_mut();
        let mut writers = streams.map(|stream| stream.writer(start.uid));
        let out = writers.next().transpose()?;
        let err = writers.next().transpose()?;
        Ok(out.map(|out| Writers { out, err }))
    }

    fn add(&mut self, epoll: &Epoll, name: &ServiceName, logged: Box<Logged>) -> Result<(), Errno> {
        for stream in &logged.streams {
            // Dropped after an error, a new pipe is closed and out of the set.
            epoll.add(stream, Token::Stream(stream.token).into(), Interest::READ)?;
        }
        if let Some(hash) = logged.folder_hash {
            *self.folders.entry(hash).or_default() += 1;
        }
        let tokens = logged.streams.iter().map(|stream| stream.token);
        self.owners.extend(tokens.map(|token| (token, name.clone())));
        self.services.insert(name.clone(), logged);
        Ok(())
    }

    /// Opens what output of this target goes into; `None` where nothing is kept.
    fn open(&self, target: &LogTarget) -> Result<Option<Files>, Errno> {
        let mut files = Files { logs: Vec::new(), index: None, folder_hash: None };
        match target {
            LogTarget::Null | LogTarget::Inherit => return Ok(None),
            LogTarget::File { dir, merge } => {
                let dir = path(dir);
                let hash = hash_of(dir);
                if self.folders.contains_key(&hash)
                    && self.services.values().any(|logged| logged.is_in(dir))
                {
                    // Two writers at explicit offsets would overwrite each other.
                    return Err(EBUSY);
                }
                make_folder(dir)?;
                let mut add = |which, name| {
                    let log = LogFile::open(&dir.join(name), Placement::Offset)?;
                    files.logs.push((which, log));
                    Ok(())
                };
                add(Which::Out, "out.log")?;
                if !merge {
                    add(Which::Err, "err.log")?;
                }
                files.index = Some(Index::open(&dir.join("index"))?);
                files.folder_hash = Some(hash);
            }
            LogTarget::Append { file } => {
                let file = path(file);
                make_folder(file.parent().unwrap_or(file))?;
                files.logs.push((Which::Out, LogFile::open(file, Placement::Append)?));
            }
        }
        Ok(Some(files))
    }

    /// Joins files and pipes, and makes the pipes that are not there.
    fn join(
        &mut self,
        name: &ServiceName,
        target: &LogTarget,
        files: Files,
        mut pipes: Vec<(Which, LogPipe<Held>)>,
    ) -> Result<Box<Logged>, Errno> {
        // With exactly this room, because there are as many of these as services.
        let mut streams = Vec::with_capacity(files.logs.len());
        for (which, file) in files.logs {
            let found = pipes.iter().position(|(other, _)| *other == which);
            let pipe = match found.map(|position| pipes.swap_remove(position)) {
                Some((_, pipe)) => pipe,
                None => {
                    let label = Label::Log { service: name.clone(), stream: which };
                    LogPipe::new()?.map(|descriptor| self.holder.hold(label, descriptor))
                }
            };
            self.token_next += 1;
            streams.push(Stream::new(which, self.token_next, file, pipe)?);
        }
        Ok(Box::new(Logged {
            target: target.clone(),
            folder_hash: files.folder_hash,
            generation: Generation::NONE,
            streams,
            index: files.index,
            told: None,
        }))
    }

    /// Reports whether output of a service is kept.
    pub(crate) fn has(&self, name: &ServiceName) -> bool {
        self.services.contains_key(name) || self.put_off.contains_key(name)
    }

    /// A pipe can be read.
    pub(crate) fn on_ready(&mut self, epoll: &Epoll, now: Moment, token: u64) {
        let Some(name) = self.owners.get(&token).cloned() else {
            return;
        };
        let streams = self.services.get(&name).map(|logged| &logged.streams);
        let found = streams.and_then(|streams| streams.iter().position(|one| one.token == token));
        if let Some(position) = found {
            self.visit(epoll, now, &name, position, TURN_BYTES_MAX);
        }
    }

    /// Moves what is in the pipes of a service now, unless its files cannot be written.
    pub(crate) fn drain(&mut self, epoll: &Epoll, now: Moment, name: &ServiceName) {
        self.open_untried(epoll, now, name);
        let count = self.services.get(name).map_or(0, |logged| logged.streams.len());
        for position in 0..count {
            let stream = &self.services[name].streams[position];
            let waiting_bytes = stream.waiting_bytes();
            if stream.blocked().is_none() && waiting_bytes > 0 {
                self.visit(epoll, now, name, position, waiting_bytes);
            }
        }
    }

    /// Moves what is in all pipes now.
    pub(crate) fn drain_all(&mut self, epoll: &Epoll, now: Moment) {
        let names: Vec<ServiceName> =
            self.services.keys().chain(self.put_off.keys()).cloned().collect();
        for name in names {
            self.drain(epoll, now, &name);
        }
    }

    /// Returns when [`Pump::retry`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().filter_map(|name| self.services.get(name));
        let retries = waiting.flat_map(|logged| &logged.streams).filter_map(Stream::retry_at);
        retries.chain(self.put_off.values().map(PutOff::retry_at)).min()
    }

    /// Tries again where a write failed and the pause is over.
    pub(crate) fn retry(&mut self, epoll: &Epoll, now: Moment) {
        self.retry_put_off(epoll, now);
        let names: Vec<ServiceName> = self.waiting.iter().cloned().collect();
        for name in names {
            let count = self.services.get(&name).map_or(0, |logged| logged.streams.len());
            for position in 0..count {
                let retry_at = self.services[&name].streams[position].retry_at();
                if retry_at.is_some_and(|retry_at| retry_at <= now.monotonic) {
                    self.visit(epoll, now, &name, position, TURN_BYTES_MAX);
                }
            }
        }
    }

    fn visit(
        &mut self,
        epoll: &Epoll,
        now: Moment,
        name: &ServiceName,
        position: usize,
        bytes_max: u64,
    ) {
        let Some(logged) = self.services.get_mut(name) else {
            return;
        };
        let was_blocked = logged.streams[position].blocked().is_some();
        if logged.visit(now, position, bytes_max, &mut self.buffer) {
            self.grown.insert((name.clone(), logged.streams[position].which));
        }
        let stream = &logged.streams[position];
        let is_blocked = stream.blocked().is_some();
        if was_blocked != is_blocked {
            // Level-triggered, a pipe that nobody reads would wake the loop for ever.
            let changed = if is_blocked {
                epoll.remove(stream)
            } else {
                epoll.add(stream, Token::Stream(stream.token).into(), Interest::READ)
            };
            debug_assert!(changed.is_ok(), "the set and the state of a stream agree: {changed:?}");
            self.doubtful.insert(name.clone());
        }
        if logged.blocked().is_some() {
            self.waiting.insert(name.clone());
        } else {
            self.waiting.remove(name);
        }
    }

    /// Returns what changed since the last call, each stream and service once.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        for (name, which) in std::mem::take(&mut self.grown) {
            let streams = self.services.get(&name).map(|logged| &logged.streams);
            let stream = streams.and_then(|streams| streams.iter().find(|one| one.which == which));
            if let Some(stream) = stream {
                news.push(News::Output(name, which, stream.offset()));
            }
        }
        for name in std::mem::take(&mut self.doubtful) {
            let put_off = self.put_off.get(&name).and_then(PutOff::errno);
            if put_off.is_some() {
                news.push(News::Blocked(name, put_off));
            } else if let Some(logged) = self.services.get_mut(&name) {
                let blocked = logged.blocked();
                if logged.told != blocked {
                    logged.told = blocked;
                    news.push(News::Blocked(name, blocked));
                }
            }
        }
        news
    }

    /// Closes pipes and files of a service. What cannot be written by then is lost.
    pub(crate) fn forget(&mut self, epoll: &Epoll, name: &ServiceName) {
        self.put_off.remove(name);
        let Some(logged) = self.services.remove(name) else {
            return;
        };
        self.waiting.remove(name);
        if let Some(hash) = logged.folder_hash
            && let Entry::Occupied(mut count) = self.folders.entry(hash)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        for stream in &logged.streams {
            self.owners.remove(&stream.token);
            if stream.blocked().is_none() {
                // A service of the old target may still hold a copy, and the entry would live with
                // it.
                let removed = epoll.remove(stream);
                debug_assert!(removed.is_ok(), "an open stream is in the set: {removed:?}");
            }
        }
    }
}

impl Logged {
    /// Reports whether its files are in this folder.
    fn is_in(&self, folder: &Path) -> bool {
        match &self.target {
            LogTarget::File { dir, .. } => path(dir) == folder,
            LogTarget::Null | LogTarget::Inherit | LogTarget::Append { .. } => false,
        }
    }

    /// Returns why one of the streams is not written.
    fn blocked(&self) -> Option<Errno> {
        self.streams.iter().find_map(Stream::blocked)
    }

    /// Opens what somebody removed, replaced or truncated again.
    fn refresh(&mut self) -> Result<(), Errno> {
        if let Some(index) = &mut self.index {
            index.refresh()?;
        }
        self.streams.iter_mut().try_for_each(Stream::refresh)
    }

    /// Records the border to a new generation. A disk that is full now delays the record, not the
    /// start.
    fn begin(&mut self, generation: Generation, now: Moment) {
        self.generation = generation;
        let Some(index) = &mut self.index else {
            return;
        };
        for stream in &self.streams {
            index.push(&IndexRecord {
                kind: IndexKind::Start,
                stream: stream.which,
                offset: stream.offset() + stream.waiting_bytes(),
                length_bytes: 0,
                generation,
                monotonic: now.monotonic,
                wall: now.wall,
            });
        }
        // What cannot be written now waits in the index and goes with the next chunk.
        let _ = index.flush();
    }

    /// Moves bytes of one stream and records them. Returns whether there were any.
    fn visit(&mut self, now: Moment, position: usize, bytes_max: u64, buffer: &mut [u8]) -> bool {
        let stream = &mut self.streams[position];
        if let Some(index) = &mut self.index
            && let Err(error) = index.flush()
        {
            stream.set_blocked(Some(error), now.monotonic);
            return false;
        }
        let written = stream.visit(bytes_max, buffer);
        let mut failure = written.failure;
        if written.length_bytes > 0
            && let Some(index) = &mut self.index
        {
            let recorded = index.add(&IndexRecord {
                kind: IndexKind::Chunk,
                stream: stream.which,
                offset: written.offset,
                length_bytes: u32::try_from(written.length_bytes).unwrap_or(u32::MAX),
                generation: self.generation,
                monotonic: now.monotonic,
                wall: now.wall,
            });
            failure = failure.or(recorded.err());
        }
        stream.set_blocked(failure, now.monotonic);
        written.length_bytes > 0
    }
}

/// Returns a number that equal paths have in common.
fn hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
