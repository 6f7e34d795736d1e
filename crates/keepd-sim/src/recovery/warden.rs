//! The warden's shell: it reaps, holds descriptors, and starts a proxy when there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_model::{Exit, Generation, Instant, Pid, Signal};
use keepd_wire::ledger::keeper::{self, Slot};
use keepd_wire::ledger::layout::{SlotNumber, slots};
use keepd_wire::ledger::{Identity, Match, Seen, State};

use super::cells::{Actor, Shared};
use super::kernel::{CHUNKS, Label, Serial, Stopped, ToWarden};
use super::sabotage::Sabotage;

/// What is held, by number.
pub(crate) type Estate = BTreeMap<u32, Label>;

/// The first number of a held descriptor.
pub(crate) const HELD_BASE: u32 = 64;

/// Times between the loss of a proxy and the next one.
const PAUSES_MS: [u64; 5] = [0, 10, 100, 1_000, 5_000];
/// A proxy that lived so long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// A living warden.
pub(crate) struct Warden {
    pub(crate) actor: Actor,
    pub(crate) estate: Estate,
    proxy: Option<Serial>,
    started: Instant,
    /// When the next proxy is started.
    start_at: Option<Instant>,
    deaths: usize,
    /// keepd ends with this code.
    pub(crate) exit: Option<u8>,
    /// A new proxy has to be made a shell of.
    pub(crate) born: Option<Serial>,
    /// Sabotage only: intents are still to be taken back.
    cancels_late: bool,
}

/// Returns the lowest free number for a held descriptor.
pub(crate) fn free_number(estate: &Estate) -> u32 {
    (HELD_BASE..).find(|number| !estate.contains_key(number)).unwrap_or(HELD_BASE)
}

/// Takes descriptors over: whoever has the estate has the pipes open.
pub(crate) fn open_estate(actor: &Actor, estate: &Estate) {
    let mut kernel = actor.kernel();
    for label in estate.values() {
        if let Label::Log(_, pipe) = label {
            kernel.pipes[*pipe].holders.insert(actor.serial);
        }
    }
}

impl Warden {
    /// A warden, new or one that was a proxy until now. It has no proxy.
    pub(crate) fn new(serial: Serial, kernel: &Shared, estate: Estate) -> Self {
        let actor = Actor::new(serial, kernel);
        let now = actor.kernel().now;
        Self {
            actor,
            estate,
            proxy: None,
            started: now,
            start_at: Some(now),
            deaths: 0,
            exit: None,
            born: None,
            cancels_late: false,
        }
    }

    /// Does what there is to do. Reports whether there was anything.
    pub(crate) fn turn(&mut self) -> Result<bool, Stopped> {
        let mut did = self.read_channel()?;
        if std::mem::take(&mut self.cancels_late) {
            keeper::cancel_intents(&self.actor, self.slots());
        }
        while let Some((zombie, pid, exit)) = self.zombie() {
            did = true;
            self.actor.effect("peek")?;
            if self.proxy == Some(zombie) {
                self.actor.effect("consume the proxy")?;
                self.actor.kernel().consume(zombie);
                self.read_channel()?;
                self.on_proxy_lost(exit);
                continue;
            }
            if !self.is(Sabotage::ConsumesFirst) {
                self.record_end(zombie, pid, exit)?;
            }
            self.actor.effect("consume")?;
            self.actor.kernel().consume(zombie);
            if self.is(Sabotage::ConsumesFirst) {
                self.record_end(zombie, pid, exit)?;
            }
        }
        let now = self.actor.kernel().now;
        if self.exit.is_none() && self.start_at.is_some_and(|at| at <= now) {
            did = true;
            self.start_at = None;
            self.start_proxy()?;
        }
        Ok(did)
    }

    fn is(&self, sabotage: Sabotage) -> bool {
        self.actor.kernel().is(sabotage)
    }

    fn zombie(&self) -> Option<(Serial, Pid, Exit)> {
        self.actor.kernel().zombie_of(self.actor.serial)
    }

    fn read_channel(&mut self) -> Result<bool, Stopped> {
        let mut did = false;
        loop {
            let message = self.actor.kernel().channel.pop_front();
            let Some((_, message)) = message else {
                return Ok(did);
            };
            did = true;
            self.actor.effect("read the channel")?;
            match message {
                ToWarden::Hold(number, label) => {
                    self.estate.insert(number, label);
                }
                ToWarden::Drop(number) => {
                    if let Some(Label::Log(_, pipe)) = self.estate.remove(&number) {
                        let serial = self.actor.serial;
                        self.actor.kernel().pipes[pipe].holders.remove(&serial);
                    }
                }
                ToWarden::Exit(code) => self.exit = Some(code),
            }
        }
    }

    /// The zombie may be one that a word is about: a child of a proxy that is lost.
    fn record_end(&self, zombie: Serial, pid: Pid, exit: Exit) -> Result<(), Stopped> {
        let runs = keeper::slots_that_run(&self.actor, self.slots());
        let of_pid = runs.filter(|(_, _, other)| *other == pid).collect::<Vec<_>>();
        self.actor.goes_on()?;
        for (number, generation, _) in of_pid {
            let slot = Slot::new(&self.actor, number);
            let seen = Seen { inode: Some(zombie), start_ticks: None };
            let compared = slot.identity().map(|identity: Identity| identity.compare(seen));
            if compared == Some(Match::Same) {
                // Who was faster said the same.
                let _ = slot.end(generation, Some(pid), exit);
            }
            self.actor.goes_on()?;
        }
        Ok(())
    }

    fn slots(&self) -> u32 {
        // The whole chunk is looked through by the program; here only what can be in use.
        slots(CHUNKS).min(self.actor.kernel().judge.slots_used)
    }

    fn on_proxy_lost(&mut self, exit: Exit) {
        self.proxy = None;
        if self.exit.is_some() {
            return;
        }
        let now = self.actor.kernel().now;
        if now.saturating_since(self.started) >= GOOD {
            self.deaths = 0;
        }
        let by_kill = matches!(exit, Exit::Signal { signal: Signal::KILL, .. });
        let pause = PAUSES_MS[self.deaths.min(PAUSES_MS.len() - 1)];
        let pause = if by_kill { pause.min(10) } else { pause };
        self.deaths += usize::from(!by_kill);
        let at = now.saturating_add(Duration::from_millis(pause));
        self.start_at = Some(at);
        self.actor.kernel().wake_at(at);
    }

    /// Intents are taken back, processes are held, and then there is a new proxy.
    fn start_proxy(&mut self) -> Result<(), Stopped> {
        let starts_first = self.is(Sabotage::StartsBeforeCancelling);
        if !starts_first && !self.is(Sabotage::LeavesIntents) {
            keeper::cancel_intents(&self.actor, self.slots());
            self.actor.goes_on()?;
        }
        if !self.is(Sabotage::PassesNoPidfds) {
            self.open_pidfds()?;
        }
        self.actor.effect("clone a proxy")?;
        let serial = self.actor.serial;
        let proxy = {
            let mut kernel = self.actor.kernel();
            let proxy = kernel.fork(Some(serial), None);
            kernel.channel.clear();
            kernel.proxy = Some(proxy);
            proxy
        };
        self.proxy = Some(proxy);
        self.started = self.actor.kernel().now;
        self.born = Some(proxy);
        self.cancels_late = starts_first;
        Ok(())
    }

    /// Takes hold of everybody whom a word names, and lets go of everybody else.
    fn open_pidfds(&mut self) -> Result<(), Stopped> {
        let runs: Vec<(SlotNumber, Generation, Pid)> =
            keeper::slots_that_run(&self.actor, self.slots()).collect();
        self.actor.goes_on()?;
        let mut held = Vec::new();
        for (number, generation, pid) in runs {
            let identity = Slot::new(&self.actor, number).identity();
            self.actor.goes_on()?;
            let of_run = self.estate.iter().find(|(_, label)| match label {
                Label::Pidfd(_, serial) => {
                    let seen = Seen { inode: Some(*serial), start_ticks: None };
                    identity.map(|identity| identity.compare(seen)) == Some(Match::Same)
                }
                Label::Log(..) => false,
            });
            if let Some((number, _)) = of_run {
                held.push(*number);
                continue;
            }
            self.actor.effect("pidfd_open")?;
            let Some(holder) = self.actor.kernel().holder(pid) else {
                continue;
            };
            // The pid may have been given again before it was taken hold of.
            let word = Slot::new(&self.actor, number).word();
            self.actor.goes_on()?;
            if word.is_ok_and(|word| word.state() == State::Run(generation, pid)) {
                let number = free_number(&self.estate);
                self.estate.insert(number, Label::Pidfd(pid, holder));
                held.push(number);
            }
        }
        self.estate.retain(|number, label| match label {
            Label::Log(..) => true,
            Label::Pidfd(..) => held.contains(number),
        });
        Ok(())
    }
}
