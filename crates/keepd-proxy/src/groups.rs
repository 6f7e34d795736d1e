//! Everything that one start has started, as one thing that can be signalled and watched until it is empty.
//!
//! With a writable cgroup each start has a leaf (`s.NAME.GEN`, a job `j.ID`). Without one the processes are
//! found by their INVOCATION_ID and their parents, which is weaker: who cleared its environment *and* lost
//! its parent is not found.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use keepd_engine::proxy::Owner;
use keepd_model::{Errno, Instant, Signal, SpawnFailure, SpawnStep};
use keepd_os::cgroup::{Group, read_populated};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::sweep;

use crate::token::Token;

/// From one look at /proc to the next, while somebody is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// So many looks in a row must find nobody.
const EMPTY_LOOKS: u32 = 2;
/// Leaves that could not be removed and are tried again later.
const UNREMOVED_MAX: usize = 1024;
/// File exists.
const EEXIST: Errno = Errno(17);

/// Every group of this proxy.
pub(crate) struct Groups {
    /// Where leaves are made, and where keepd's own processes are; `None`: the weaker way.
    root: Option<(Group, Group)>,
    entries: HashMap<Owner, Entry>,
    watchers: HashMap<u64, Owner>,
    token_next: u64,
    /// Found to be empty, not told yet.
    empty: Vec<Owner>,
    look_at: Option<Instant>,
    unremoved: Vec<Group>,
}

enum Entry {
    /// A cgroup, and the descriptor that tells of its end while that is waited for.
    Leaf(Group, Option<(u64, OwnedFd)>),
    /// Processes with this variable.
    Marked {
        mark: Vec<u8>,
        /// KILL was sent: whoever is found later gets it too.
        killed: bool,
        watch: Watch,
    },
}

/// Whether somebody wants to know of the end of marked processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    No,
    Yes { empty_looks: u32 },
}

impl Groups {
    /// Opens the cgroup, makes `own` in it and moves this process there.
    pub(crate) fn new(path: Option<&Path>) -> Result<Self, Errno> {
        let root = match path {
            Some(path) => {
                let root = Group::open(path)?;
                let own = Group::ensure(&root, "own")?;
                own.add_self()?;
                Some((root, own))
            }
            None => None,
        };
        Ok(Self::with_root(root))
    }

    /// Makes the table for the weaker way.
    pub(crate) fn without_cgroup() -> Self {
        Self::with_root(None)
    }

    fn with_root(root: Option<(Group, Group)>) -> Self {
        Self {
            root,
            entries: HashMap::new(),
            watchers: HashMap::new(),
            token_next: 0,
            empty: Vec::new(),
            look_at: None,
            unremoved: Vec::new(),
        }
    }

    /// Returns the directory of the group of keepd's own processes.
    pub(crate) fn own_directory(&self) -> Option<BorrowedFd<'_>> {
        self.root.as_ref().map(|(_, own)| own.directory())
    }

    /// Makes the group of a start.
    pub(crate) fn make(&mut self, owner: &Owner, invocation: u128) -> Result<(), SpawnFailure> {
        let entry = match &self.root {
            Some((root, _)) => Entry::Leaf(make_leaf(root, &leaf_name(owner))?, None),
            None => Entry::Marked {
                mark: format!("INVOCATION_ID={invocation:032x}").into_bytes(),
                killed: false,
                watch: Watch::No,
            },
        };
        self.entries.insert(owner.clone(), entry);
        Ok(())
    }

    /// Returns the directory of the group of a start, where it is a cgroup.
    pub(crate) fn directory(&self, owner: &Owner) -> Option<BorrowedFd<'_>> {
        match self.entries.get(owner)? {
            Entry::Leaf(group, _) => Some(group.directory()),
            Entry::Marked { .. } => None,
        }
    }

    /// Signals every process of a group.
    pub(crate) fn signal(&mut self, owner: &Owner, signal: Signal) -> Result<(), Errno> {
        match self.entries.get_mut(owner) {
            Some(Entry::Leaf(group, _)) if signal == Signal::KILL => group.kill(),
            Some(Entry::Leaf(group, _)) => group.signal_all(signal).map(drop),
            Some(Entry::Marked { mark, killed, .. }) => {
                *killed |= signal == Signal::KILL;
                for process in sweep::processes_marked(mark)? {
                    // Who has ended meanwhile needs no signal.
                    let _ = process.signal(signal);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Wants to know when a group is empty; it is told by [`Groups::take_empty`].
    pub(crate) fn watch(
        &mut self,
        epoll: &Epoll,
        owner: &Owner,
        now: Instant,
    ) -> Result<(), Errno> {
        match self.entries.get_mut(owner) {
            Some(Entry::Leaf(group, events)) => {
                let descriptor = group.events()?;
                self.token_next += 1;
                let token = Token::Group(self.token_next);
                epoll.add(&descriptor, token.into(), Interest::PRIORITY)?;
                self.watchers.insert(self.token_next, owner.clone());
                *events = Some((self.token_next, descriptor));
                self.on_ready(self.token_next);
            }
            Some(Entry::Marked { watch, .. }) => {
                *watch = Watch::Yes { empty_looks: 0 };
                self.look_at = Some(now);
            }
            None => self.empty.push(owner.clone()),
        }
        Ok(())
    }

    /// A cgroup changed. The reading rearms its descriptor.
    pub(crate) fn on_ready(&mut self, token: u64) {
        let Some(owner) = self.watchers.get(&token) else {
            return;
        };
        let Some(Entry::Leaf(_, Some((_, events)))) = self.entries.get(owner) else {
            return;
        };
        // A group that cannot be read is not there any more.
        if !read_populated(events.as_fd()).unwrap_or(false) && !self.empty.contains(owner) {
            self.empty.push(owner.clone());
        }
    }

    /// Returns when [`Groups::look`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks for marked processes, if it is time.
    pub(crate) fn look(&mut self, now: Instant) {
        if self.look_at.is_none_or(|look_at| now < look_at) {
            return;
        }
        self.look_at = None;
        for (owner, entry) in &mut self.entries {
            let Entry::Marked {
                mark,
                killed,
                watch: watch @ Watch::Yes { .. },
            } = entry
            else {
                continue;
            };
            let Watch::Yes { empty_looks } = *watch else {
                continue;
            };
            // A look that failed has seen nobody and nothing.
            let found = sweep::processes_marked(mark);
            let empty_looks = match &found {
                Ok(processes) if processes.is_empty() => empty_looks + 1,
                Ok(_) | Err(_) => 0,
            };
            if *killed {
                for process in found.unwrap_or_default() {
                    let _ = process.signal(Signal::KILL);
                }
            }
            if empty_looks >= EMPTY_LOOKS {
                *watch = Watch::No;
                self.empty.push(owner.clone());
            } else {
                *watch = Watch::Yes { empty_looks };
                self.look_at = Some(now.saturating_add(LOOK_INTERVAL));
            }
        }
    }

    /// Reports whether there is something for [`Groups::take_empty`].
    pub(crate) fn has_empty(&self) -> bool {
        !self.empty.is_empty()
    }

    /// Returns a group that is empty and was watched. It is forgotten and its leaf removed.
    pub(crate) fn take_empty(&mut self, epoll: &Epoll) -> Option<Owner> {
        let owner = self.empty.pop()?;
        self.discard(epoll, &owner);
        Some(owner)
    }

    /// Forgets a group that has no process, and removes its leaf.
    pub(crate) fn discard(&mut self, epoll: &Epoll, owner: &Owner) {
        match self.entries.remove(owner) {
            Some(Entry::Leaf(group, events)) => {
                if let Some((token, descriptor)) = events {
                    self.watchers.remove(&token);
                    let _ = epoll.remove(&descriptor);
                }
                self.unremoved.push(group);
            }
            Some(Entry::Marked { .. }) | None => {}
        }
        // A process that is just ending can keep its leaf busy for a moment.
        self.unremoved.retain(|group| group.remove().is_err());
        self.unremoved.truncate(UNREMOVED_MAX);
    }
}

fn leaf_name(owner: &Owner) -> String {
    match owner {
        Owner::Service(name, generation) => format!("s.{name}.{generation}"),
        Owner::Job(job) => format!("j.{}", job.0),
    }
}

/// A leaf of the same name can only be left from an earlier proxy. Without processes it is made anew; with
/// them the start is refused (EBUSY), because two starts in one leaf could never be told apart.
fn make_leaf(root: &Group, name: &str) -> Result<Group, SpawnFailure> {
    let made = match Group::create(root, name) {
        Err(EEXIST) => root
            .child(name)
            .and_then(|old| old.remove())
            .and_then(|()| Group::create(root, name)),
        result => result,
    };
    made.map_err(|errno| SpawnFailure {
        step: SpawnStep::Cgroup,
        errno,
    })
}
