//! A pump that goes on with what another one left.

use std::time::Duration;

use keepd_model::protocol::{LogTarget, Stream as Which};
use keepd_model::{Errno, Generation, Instant, ServiceName};
use keepd_os::epoll::Epoll;
use keepd_os::pipe::LogPipe;
use keepd_wire::index::{IndexKind, IndexRecord};

use super::{Logged, Moment, Pump};
use crate::holder::Held;

/// The pause after an attempt that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How many services are gone on with in one turn. Opening three files of each takes longer than
/// all else that a successor has to do, and somebody waits for its first answer.
const OPENED_PER_TURN: usize = 32;

/// What a predecessor left of the output of a service.
pub(crate) struct Left {
    /// Of this service.
    pub(crate) name: ServiceName,
    /// Its last generation.
    pub(crate) generation: Generation,
    /// Where its output goes.
    pub(crate) target: LogTarget,
    /// Our sides of its pipes, as far as they were found.
    pub(crate) pipes: Vec<(Which, LogPipe<Held>)>,
}

/// Something left whose files are not open yet, or cannot be opened. Its pipes are kept, and
/// nothing is lost.
pub(super) struct PutOff {
    left: Left,
    /// Why they cannot be opened; `None`: nobody has tried yet.
    errno: Option<Errno>,
    retry_at: Instant,
}

impl PutOff {
    pub(super) fn errno(&self) -> Option<Errno> {
        self.errno
    }

    pub(super) fn retry_at(&self) -> Instant {
        self.retry_at
    }
}

impl Pump {
    /// Goes on with what a predecessor left, whether the service runs or not: files at their ends,
    /// the index, and the pipes. The files are opened in the turns that follow ([`Pump::retry`]),
    /// or when somebody needs them; until then output stays in its pipes. Files that cannot be
    /// opened are tried again, and this is told as output that waits.
    ///
    /// Returns the streams whose pipes were lost: what the present process writes there is never
    /// read, and the next one gets a new pipe.
    pub(crate) fn adopt(&mut self, epoll: &Epoll, now: Moment, left: Left) -> Vec<Which> {
        self.forget(epoll, &left.name);
        let found: Vec<Which> = left.pipes.iter().map(|(which, _)| *which).collect();
        let wanted = match &left.target {
            LogTarget::Null | LogTarget::Inherit => &[][..],
            LogTarget::File { merge: true, .. } | LogTarget::Append { .. } => &[Which::Out],
            LogTarget::File { merge: false, .. } => &[Which::Out, Which::Err],
        };
        if !wanted.is_empty() {
            let (name, retry_at) = (left.name.clone(), now.monotonic);
            self.put_off.insert(name, PutOff { left, errno: None, retry_at });
        }
        wanted.iter().copied().filter(|which| !found.contains(which)).collect()
    }

    /// Tries what is due, some of it if that is much.
    pub(super) fn retry_put_off(&mut self, epoll: &Epoll, now: Moment) {
        let put_off = self.put_off.iter();
        let due = put_off.filter(|(_, put_off)| put_off.retry_at <= now.monotonic);
        let due: Vec<ServiceName> =
            due.map(|(name, _)| name.clone()).take(OPENED_PER_TURN).collect();
        for name in due {
            self.try_put_off(epoll, now, &name);
        }
    }

    /// Goes on with what nobody has looked at yet, because somebody needs it now.
    pub(super) fn open_untried(&mut self, epoll: &Epoll, now: Moment, name: &ServiceName) {
        if self.put_off.get(name).is_some_and(|put_off| put_off.errno.is_none()) {
            self.try_put_off(epoll, now, name);
        }
    }

    fn try_put_off(&mut self, epoll: &Epoll, now: Moment, name: &ServiceName) {
        if let Some(PutOff { left, errno, .. }) = self.put_off.remove(name) {
            self.go_on(epoll, now, left, errno);
        }
    }

    /// Returns the pipes of what was put off, for the next start with this target, and what was
    /// told of it.
    pub(super) fn take_put_off(
        &mut self,
        name: &ServiceName,
        target: &LogTarget,
    ) -> (Vec<(Which, LogPipe<Held>)>, Option<Errno>) {
        let Some(PutOff { left, errno, .. }) = self.put_off.remove(name) else {
            return (Vec::new(), None);
        };
        self.doubtful.insert(name.clone());
        let pipes = if left.target == *target { left.pipes } else { Vec::new() };
        (pipes, errno)
    }

    /// `told`: why its output waits, as it was told.
    fn go_on(&mut self, epoll: &Epoll, now: Moment, left: Left, told: Option<Errno>) {
        self.doubtful.insert(left.name.clone());
        let files = match self.open(&left.target) {
            Ok(Some(files)) => files,
            Ok(None) => return,
            Err(errno) => {
                let retry_at = now.monotonic.saturating_add(RETRY_PAUSE);
                let name = left.name.clone();
                self.put_off.insert(name, PutOff { left, errno: Some(errno), retry_at });
                return;
            }
        };
        let Left { name, generation, target, pipes } = left;
        // Without a place in the set its output stays in the pipes, as for a start that failed.
        let _ = self.join(&name, &target, files, pipes).and_then(|mut logged| {
            logged.generation = generation;
            logged.told = told;
            logged.close_gaps(now)?;
            self.grown.extend(logged.streams.iter().map(|stream| (name.clone(), stream.which)));
            self.add(epoll, &name, logged)
        });
    }
}

impl Logged {
    /// Records what a predecessor had moved and not recorded when it was lost.
    fn close_gaps(&mut self, now: Moment) -> Result<(), Errno> {
        let Some(index) = &mut self.index else {
            return Ok(());
        };
        for stream in &self.streams {
            let start = index.reaches(stream.which)?.unwrap_or(stream.offset());
            let length = stream.offset().saturating_sub(start);
            if length > 0 {
                index.push(&IndexRecord {
                    kind: IndexKind::Chunk,
                    stream: stream.which,
                    offset: start,
                    length_bytes: u32::try_from(length).unwrap_or(u32::MAX),
                    generation: self.generation,
                    monotonic: now.monotonic,
                    wall: now.wall,
                });
            }
        }
        // What cannot be written now goes with the next chunk.
        let _ = index.flush();
        Ok(())
    }
}
