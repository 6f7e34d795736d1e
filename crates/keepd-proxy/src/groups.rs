//! Everything that one start has started, as one thing that can be signalled and watched until it
//! is empty.
//!
//! With a writable cgroup each start has a leaf (`s.NAME.GEN`, a job `j.ID`). Without one the
//! processes are found by their INVOCATION_ID, their parents and their session, which is weaker:
//! who cleared its environment, lost its parent *and* made a session of its own is not found.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use keepd_engine::proxy::{JobId, Owner};
use keepd_model::{
    Errno, Generation, Instant, Pid, ServiceName, Signal, SpawnFailure, SpawnStep, protocol,
};
use keepd_os::cgroup::{Group, read_populated};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::sweep::{self, Leader, Mark};

use crate::token::Token;

/// From one look at /proc to the next, while somebody is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// So many looks in a row must find nobody.
const EMPTY_LOOKS: u32 = 2;
/// Leaves that could not be removed and are tried again later.
const UNREMOVED_MAX: usize = 1024;
/// How often processes are moved that fork while they are moved.
const MOVES_MAX: usize = 100;
/// File exists.
const EEXIST: Errno = Errno(17);
/// Device or resource busy: the group has processes.
const EBUSY: Errno = Errno(16);

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
    /// There are new ones among the unremoved.
    has_unremoved_news: bool,
    /// What runs that are over left behind (`kill_mode=main`), by the number in the epoll set.
    left: HashMap<u64, Left>,
}

/// A leaf whose processes nobody ends and nobody waits for.
struct Left {
    owner: Owner,
    group: Group,
    /// Tells when it is empty.
    events: OwnedFd,
}

struct Entry {
    kind: Kind,
    /// `cgroup.events` of a leaf, from the first time that somebody asked who is left.
    events: Option<OwnedFd>,
    watch: Watch,
}

impl Entry {
    /// Reads `cgroup.events` of a leaf, which is opened once. A leaf that is gone has nobody.
    fn is_populated(&mut self) -> Result<bool, Errno> {
        let Kind::Leaf(group) = &self.kind else {
            return Ok(true);
        };
        let events = match self.events.take() {
            Some(events) => events,
            None => group.events()?,
        };
        let is_populated = read_populated(events.as_fd());
        self.events = Some(events);
        is_populated
    }

    /// Takes the events out of the set again, where they are in it. Nothing more is told by them.
    fn stop_events(&mut self, epoll: &Epoll) {
        if let (Watch::Events(_), Some(events)) = (&self.watch, &self.events) {
            let _ = epoll.remove(events);
            self.watch = Watch::Told;
        }
    }
}

enum Kind {
    /// A cgroup.
    Leaf(Group),
    /// Processes with this variable, and those of the session of what was started.
    Marked { entry: Vec<u8>, leader: Option<Leader>, kill: Kill },
}

/// Whether marked processes get KILL when they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    No,
    /// Asked for since the last look. One look serves all groups that end at the same time.
    Due,
    /// They had it; whoever is found later gets it too.
    Sent,
}

/// Whether somebody wants to know when a group is empty.
enum Watch {
    No,
    /// The events of a cgroup tell it, under this number.
    Events(u64),
    /// It is empty, and among those to be told.
    Told,
    /// It is looked at from time to time.
    Looks {
        empty: u32,
    },
}

impl Groups {
    /// Opens the cgroup, makes `own` in it and moves this process there.
    pub(crate) fn new(path: Option<&Path>) -> Result<Self, Errno> {
        let root = match path {
            Some(path) => {
                let root = Group::open(path)?;
                make_fresh(&root, "own");
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
            has_unremoved_news: false,
            left: HashMap::new(),
        }
    }

    /// Returns the directory of the group of keepd's own processes.
    pub(crate) fn own_directory(&self) -> Option<BorrowedFd<'_>> {
        self.root.as_ref().map(|(_, own)| own.directory())
    }

    /// Makes the group of a start.
    pub(crate) fn make(
        &mut self,
        epoll: &Epoll,
        owner: &Owner,
        invocation: u128,
    ) -> Result<(), SpawnFailure> {
        let kind = match &self.root {
            Some((root, _)) => {
                let made = match make_leaf(root, &leaf_name(owner)) {
                    Err(EBUSY) => self.make_beside_left(epoll, owner),
                    result => result,
                };
                let failure = |errno| SpawnFailure { step: SpawnStep::Cgroup, errno };
                Kind::Leaf(made.map_err(failure)?)
            }
            None => marked(invocation, None),
        };
        self.insert(owner, kind);
        Ok(())
    }

    fn insert(&mut self, owner: &Owner, kind: Kind) {
        let entry = Entry { kind, events: None, watch: Watch::No };
        self.entries.insert(owner.clone(), entry);
    }

    /// Goes on with the group of a run that a predecessor started. `leader`: its main process, if
    /// that is still there. Returns whether the group is a leaf that is there.
    ///
    /// Without a leaf its processes are found in the weaker way, as long as the main process tells
    /// its session.
    pub(crate) fn adopt(&mut self, owner: &Owner, leader: Option<Pid>, invocation: u128) -> bool {
        let leaf = self.root.as_ref().and_then(|(root, _)| root.child(&leaf_name(owner)).ok());
        let is_leaf = leaf.is_some();
        let kind = match leaf {
            Some(leaf) => Kind::Leaf(leaf),
            None => marked(invocation, leader.and_then(Leader::of_child)),
        };
        self.insert(owner, kind);
        is_leaf
    }

    /// Takes over every other leaf that a predecessor left, after the last [`Groups::adopt`]: jobs
    /// are ended, because nobody is there whom their answer could be told; what runs that are over
    /// left behind is left alone. Returns how many jobs there were.
    ///
    /// Jobs without a leaf are not found, and go on.
    pub(crate) fn take_over_rest(&mut self, epoll: &Epoll) -> Result<usize, Errno> {
        let Some((root, _)) = &self.root else {
            return Ok(0);
        };
        let mut found = Vec::new();
        for name in root.children()? {
            let Some((owner, number)) = owner_of(&name) else {
                continue;
            };
            // A later one that is put aside must not get the name of this one.
            self.token_next = self.token_next.max(number.unwrap_or(0));
            if number.is_none() && self.entries.contains_key(&owner) {
                continue;
            }
            found.push((owner, root.child(&name)?));
        }
        let mut jobs = 0;
        for (owner, group) in found {
            if let Owner::Job(_) = owner {
                jobs += 1;
                group.kill()?;
            }
            // What cannot be watched is tried to be removed from time to time.
            let _ = self.watch_left(epoll, owner, group);
        }
        Ok(jobs)
    }

    /// Says which process was started. Where there is no cgroup, its session is a mark of the
    /// group.
    pub(crate) fn note_leader(&mut self, owner: &Owner, pid: Pid) {
        if let Some(Entry { kind: Kind::Marked { leader, .. }, .. }) = self.entries.get_mut(owner) {
            *leader = Leader::of_child(pid);
        }
    }

    /// Returns the directory of the group of a start, where it is a cgroup.
    pub(crate) fn directory(&self, owner: &Owner) -> Option<BorrowedFd<'_>> {
        match &self.entries.get(owner)?.kind {
            Kind::Leaf(group) => Some(group.directory()),
            Kind::Marked { .. } => None,
        }
    }

    /// Signals every process of a group. KILL to marked processes is sent by the next look, which
    /// is due at once.
    pub(crate) fn signal(
        &mut self,
        owner: &Owner,
        signal: Signal,
        now: Instant,
    ) -> Result<(), Errno> {
        let Some(found) = self.entries.get_mut(owner) else {
            return Ok(());
        };
        // Mostly the main process was all there was, and asking is much cheaper than a kill.
        let is_leaf = matches!(found.kind, Kind::Leaf(_));
        if is_leaf && signal == Signal::KILL && found.is_populated() == Ok(false) {
            return Ok(());
        }
        match &mut found.kind {
            Kind::Leaf(group) if signal == Signal::KILL => group.kill(),
            Kind::Leaf(group) => group.signal_all(signal).map(drop),
            Kind::Marked { kill, .. } if signal == Signal::KILL => {
                *kill = Kill::Due;
                self.look_at = Some(now);
                Ok(())
            }
            Kind::Marked { entry, leader, .. } => {
                let mark = Mark { entry, leader: *leader };
                for process in sweep::processes_marked_each(&[mark])?.into_iter().flatten() {
                    // Who has ended meanwhile needs no signal.
                    let _ = process.signal(signal);
                }
                Ok(())
            }
        }
    }

    /// Wants to know when a group is empty; it is told by [`Groups::take_empty`]. Where a cgroup
    /// cannot tell it (no descriptor is left), it is looked at from time to time; the error
    /// says why.
    pub(crate) fn watch(
        &mut self,
        epoll: &Epoll,
        owner: &Owner,
        now: Instant,
    ) -> Result<(), Errno> {
        let Some(entry) = self.entries.get_mut(owner) else {
            self.empty.push(owner.clone());
            return Ok(());
        };
        let watched = match &entry.kind {
            Kind::Leaf(_) => entry.is_populated().and_then(|is_populated| {
                if !is_populated {
                    entry.watch = Watch::Told;
                    self.empty.push(owner.clone());
                    return Ok(());
                }
                self.token_next += 1;
                let token = self.token_next;
                // A change since the reading is told at once.
                if let Some(events) = &entry.events {
                    epoll.add(events, Token::Group(token).into(), Interest::PRIORITY)?;
                }
                entry.watch = Watch::Events(token);
                self.watchers.insert(token, owner.clone());
                Ok(())
            }),
            Kind::Marked { .. } => {
                entry.watch = Watch::Looks { empty: 0 };
                self.look_at = Some(now);
                Ok(())
            }
        };
        if watched.is_err() {
            entry.watch = Watch::Looks { empty: 0 };
            self.look_at = Some(now);
        }
        watched
    }

    /// A cgroup changed. The reading rearms its descriptor.
    pub(crate) fn on_ready(&mut self, epoll: &Epoll, token: u64) {
        if let Some(left) = self.left.get(&token) {
            if !read_populated(left.events.as_fd()).unwrap_or(false) {
                self.remove_left(epoll, token);
            }
            return;
        }
        let Some(owner) = self.watchers.get(&token) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(owner) else {
            return;
        };
        // A group that cannot be read is not there any more.
        if matches!(entry.watch, Watch::Events(_)) && !entry.is_populated().unwrap_or(false) {
            self.empty.push(owner.clone());
            entry.stop_events(epoll);
            self.watchers.remove(&token);
        }
    }

    /// Returns when [`Groups::look`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks for processes of the groups that cannot tell their end, if it is time.
    pub(crate) fn look(&mut self, now: Instant) {
        if self.look_at.is_none_or(|look_at| now < look_at) {
            return;
        }
        self.look_at = None;
        for (owner, is_empty) in self.see() {
            let Some(entry) = self.entries.get_mut(&owner) else {
                continue;
            };
            match &mut entry.kind {
                Kind::Marked { kill: kill @ Kill::Due, .. } => *kill = Kill::Sent,
                Kind::Marked { .. } | Kind::Leaf(_) => {}
            }
            let Watch::Looks { empty } = &mut entry.watch else {
                continue;
            };
            *empty = if is_empty { *empty + 1 } else { 0 };
            if *empty >= EMPTY_LOOKS {
                entry.watch = Watch::Told;
                self.empty.push(owner);
            } else {
                self.look_at = Some(now.saturating_add(LOOK_INTERVAL));
            }
        }
    }

    /// Returns whether nobody was seen in each of the groups that are looked at. All marks are
    /// looked for in one pass over /proc.
    fn see(&self) -> Vec<(Owner, bool)> {
        let mut seen = Vec::new();
        let mut owners = Vec::new();
        let mut marks = Vec::new();
        for (owner, entry) in &self.entries {
            match (&entry.kind, &entry.watch) {
                (Kind::Marked { entry, leader, kill }, Watch::Looks { .. })
                | (Kind::Marked { entry, leader, kill: kill @ Kill::Due }, _) => {
                    owners.push((owner, *kill));
                    marks.push(Mark { entry, leader: *leader });
                }
                (Kind::Leaf(group), Watch::Looks { .. }) => {
                    seen.push((owner.clone(), group.is_populated() == Ok(false)));
                }
                (
                    Kind::Marked { .. } | Kind::Leaf(_),
                    Watch::No | Watch::Events(_) | Watch::Told,
                ) => {}
            }
        }
        let mut found = sweep::processes_marked_each(&marks).map(Vec::into_iter);
        for ((owner, kill), mark) in owners.into_iter().zip(marks) {
            // A look that failed has seen nothing, which is not the same as nobody. It may have
            // found too many at once to hold them all.
            let processes = match &mut found {
                Ok(found) => found.next(),
                Err(_) => sweep::processes_marked_each(&[mark]).ok().and_then(|mut one| one.pop()),
            };
            let is_empty = processes.as_ref().is_some_and(Vec::is_empty);
            match kill {
                Kill::No => {}
                Kill::Due | Kill::Sent => {
                    for process in processes.unwrap_or_default() {
                        // Who has ended meanwhile needs no signal.
                        let _ = process.signal(Signal::KILL);
                    }
                }
            }
            seen.push((owner.clone(), is_empty));
        }
        seen
    }

    /// Reports whether there is something for [`Groups::take_empty`].
    pub(crate) fn has_empty(&self) -> bool {
        !self.empty.is_empty()
    }

    /// Returns a group that is empty and was watched. It is forgotten.
    pub(crate) fn take_empty(&mut self, epoll: &Epoll) -> Option<Owner> {
        let owner = self.empty.pop()?;
        self.discard(epoll, &owner);
        Some(owner)
    }

    /// Forgets a group that has no process; its leaf goes at the end of the turn.
    pub(crate) fn discard(&mut self, epoll: &Epoll, owner: &Owner) {
        let Some(mut entry) = self.entries.remove(owner) else {
            return;
        };
        if let Watch::Events(token) = entry.watch {
            self.watchers.remove(&token);
        }
        entry.stop_events(epoll);
        match entry.kind {
            Kind::Leaf(group) => self.remove_later(group),
            Kind::Marked { .. } => {}
        }
    }

    fn remove_later(&mut self, group: Group) {
        self.unremoved.push(group);
        self.has_unremoved_news = true;
    }

    /// Removes the leaves that were given up since the last call. Called once in a turn, after the
    /// starts and before anybody hears of the ends: no start waits for it, and who is told that a
    /// service is down finds no leaf.
    pub(crate) fn remove_unremoved(&mut self) {
        if !std::mem::take(&mut self.has_unremoved_news) {
            return;
        }
        // A process that is just ending can keep its leaf busy for a moment.
        self.unremoved.retain(|group| group.remove().is_err());
        self.unremoved.truncate(UNREMOVED_MAX);
    }

    /// Leaves a group to itself: its leaf is removed when it is empty, which is told to nobody.
    ///
    /// Marked processes are known to the kernel only, and found by their mark when the instance
    /// ends. Where a leaf cannot be watched, it is tried to be removed from time to time; the error
    /// says why.
    pub(crate) fn leave(&mut self, epoll: &Epoll, owner: &Owner) -> Result<(), Errno> {
        let Some(mut entry) = self.entries.remove(owner) else {
            return Ok(());
        };
        // Mostly nobody is left.
        let is_empty = entry.is_populated() == Ok(false);
        match entry.kind {
            Kind::Leaf(group) if is_empty => {
                self.remove_later(group);
                Ok(())
            }
            Kind::Leaf(group) => self.watch_left(epoll, owner.clone(), group),
            Kind::Marked { .. } => Ok(()),
        }
    }

    fn watch_left(&mut self, epoll: &Epoll, owner: Owner, group: Group) -> Result<(), Errno> {
        self.token_next += 1;
        let token = self.token_next;
        let events = group.events().and_then(|events| {
            epoll.add(&events, Token::Group(token).into(), Interest::PRIORITY)?;
            Ok(events)
        });
        match events {
            Ok(events) => {
                self.left.insert(token, Left { owner, group, events });
                self.on_ready(epoll, token);
                Ok(())
            }
            Err(error) => {
                self.unremoved.push(group);
                Err(error)
            }
        }
    }

    fn remove_left(&mut self, epoll: &Epoll, token: u64) {
        if let Some(Left { group, events, .. }) = self.left.remove(&token) {
            let _ = epoll.remove(&events);
            self.remove_later(group);
        }
    }

    /// Makes the leaf of a start whose name belongs to one that was left: the service was deleted
    /// and made again, and counts its generations from 1 again. What was left moves to a leaf with
    /// a number behind its name.
    fn make_beside_left(&mut self, epoll: &Epoll, owner: &Owner) -> Result<Group, Errno> {
        let name = leaf_name(owner);
        // Others of the same owner may have been put aside before.
        let is_in_the_way = |left: &Left| left.group.path().ends_with(&name);
        let found = self.left.iter().find(|(_, left)| is_in_the_way(left));
        let (Some(token), Some((root, _))) = (found.map(|(token, _)| *token), &self.root) else {
            return Err(EBUSY);
        };
        let aside = Group::create(root, &format!("{name}+{token}"))?;
        let Some(Left { group, events, .. }) = self.left.remove(&token) else {
            return Err(EBUSY);
        };
        let _ = epoll.remove(&events);
        for _ in 0..MOVES_MAX {
            for pid in group.pids().unwrap_or_default() {
                // Who has ended meanwhile needs no move.
                let _ = aside.add(pid);
            }
            if group.remove().is_ok() {
                break;
            }
        }
        let made = Group::create(root, &name);
        self.unremoved.push(group);
        self.watch_left(epoll, owner.clone(), aside)?;
        made
    }

    /// Reports whether a process lives in a leaf that an earlier run of this service left.
    pub(crate) fn is_left_behind(&self, name: &ServiceName, pid: Pid) -> bool {
        let of_service = |left: &&Left| match &left.owner {
            Owner::Service(other, _) => other == name,
            Owner::Job(_) => false,
        };
        let is_in = |left: &Left| left.group.pids().is_ok_and(|pids| pids.contains(&pid));
        self.left.values().filter(of_service).any(is_in)
    }
}

fn marked(invocation: u128, leader: Option<Leader>) -> Kind {
    let entry = format!("INVOCATION_ID={invocation:032x}").into_bytes();
    Kind::Marked { entry, leader, kill: Kill::No }
}

/// Returns whose leaf has this name, and the number behind it if it was put aside.
fn owner_of(leaf: &str) -> Option<(Owner, Option<u64>)> {
    let (leaf, number) = match leaf.rsplit_once('+') {
        Some((leaf, number)) => (leaf, Some(number.parse().ok()?)),
        None => (leaf, None),
    };
    let owner = match leaf.split_once('.')? {
        ("j", job) => Owner::Job(JobId(job.parse().ok()?)),
        ("s", rest) => {
            let (name, generation) = rest.rsplit_once('.')?;
            let name = ServiceName::new_internal(name).ok()?;
            Owner::Service(name, Generation::new(generation.parse().ok()?))
        }
        (_, _) => return None,
    };
    // Not `s.web.01`: that is nobody's.
    (leaf_name(&owner) == leaf).then_some((owner, number))
}

fn leaf_name(owner: &Owner) -> String {
    match owner {
        Owner::Service(name, generation) => protocol::leaf_name(name, *generation),
        Owner::Job(job) => format!("j.{}", job.0),
    }
}

/// Removes a group that has no process, so that it is made anew.
///
/// Linux 6.18 kills every child that is born into another group by a process of a group to which
/// `cgroup.kill` was ever written (it compares how often the two were killed), as the group of an
/// earlier instance was that had to be swept away.
fn make_fresh(root: &Group, name: &str) {
    if let Ok(old) = root.child(name) {
        // With other processes of keepd in it, it is in use and stays.
        let _ = old.remove();
    }
}

/// A leaf of the same name can only be left from an earlier proxy. Without processes it is made
/// anew; with them the start is refused (EBUSY), because two starts in one leaf could never be told
/// apart.
fn make_leaf(root: &Group, name: &str) -> Result<Group, Errno> {
    match Group::create(root, name) {
        Err(EEXIST) => {
            root.child(name).and_then(|old| old.remove()).and_then(|()| Group::create(root, name))
        }
        result => result,
    }
}

#[cfg(test)]
mod tests;
