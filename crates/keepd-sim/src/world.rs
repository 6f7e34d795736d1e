//! One world: both machines with their shells, the kernel, clients, and the agenda of what comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepd_engine::manager::Ticket;
use keepd_engine::proxy::ConnectionId;
use keepd_model::{Exit, Generation, Instant, Pid, Plan, ServiceName, ServiceSpec};

use crate::checker::Checker;
use crate::clients::Client;
use crate::estate::Estate;
use crate::kernel::Kernel;
use crate::manager::ManagerShell;
use crate::observer::Observer;
use crate::plain_client::PlainClient;
use crate::proxy::{Arrival, ProxyShell};
use crate::random::Random;
use crate::report::{Broken, Faults, Trace};
use crate::sabotage::Sabotage;
use crate::scenario::{self, Temper};
use crate::succession::Left;
use crate::visitor;

/// A step, or the invariant that it broke.
pub(crate) type Step<T = ()> = Result<T, Broken>;

/// Returns the breach of an invariant.
pub(crate) fn broken<T>(number: &'static str, sentence: String) -> Step<T> {
    Err(Broken { number, sentence })
}

/// What happens at a time. Processes are named with their serial number, because ids come again.
#[derive(Debug)]
pub(crate) enum Due {
    Executes(Pid, u64),
    FailsToExecute(Pid, u64),
    SaysReady(Pid, u64),
    Forks(Pid, u64),
    Dies(Pid, u64, Exit),
    ProxyTurn,
    ProxyBegins,
    ToProxy(Arrival),
    FromProxy(ConnectionId, Vec<u8>),
    ManagerBegins(Pid, u64),
    ManagerIsCut(u64, ConnectionId),
    ManagerConnects(u64),
    ManagerReadsPlan(u64),
    Prepared(u64, Ticket, Arc<ServiceSpec>),
    Probed(u64, ServiceName, Generation, usize, bool),
    ClientAsks(usize),
    ObserverLeaves(ConnectionId),
    PlainActs(ConnectionId),
    ToPlain(ConnectionId, Vec<u8>),
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    trace: Trace,
    agenda: BTreeMap<(Instant, u64), Due>,
    entries: u64,
    pub(crate) events: u64,
    pub(crate) kernel: Kernel,
    pub(crate) proxy: ProxyShell,
    pub(crate) estate: Estate,
    pub(crate) left: Left,
    /// Proxy and warden are killed, too.
    pub(crate) loses_proxies: bool,
    pub(crate) manager: Option<ManagerShell>,
    pub(crate) clients: Vec<Client>,
    pub(crate) observers: BTreeMap<ConnectionId, Observer>,
    pub(crate) plain_clients: BTreeMap<ConnectionId, PlainClient>,
    pub(crate) checker: Checker,
    /// The files as people left them.
    pub(crate) files: Plan,
    /// The plan that was accepted last: what a new manager begins with.
    pub(crate) accepted: Plan,
    /// The plan that was accepted before that.
    pub(crate) replaced: Plan,
    /// What the last start of each service was prepared from.
    pub(crate) prepared: BTreeMap<ServiceName, Arc<ServiceSpec>>,
    tempers: BTreeMap<ServiceName, Temper>,
    /// The faults stopped.
    pub(crate) is_calm: bool,
    /// keepd ended with this code.
    pub(crate) ended: Option<u8>,
    pub(crate) sabotage: Option<Sabotage>,
    /// The sabotage has not been committed yet, where once is enough.
    pub(crate) sabotage_left: bool,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let plan = scenario::plan(&mut random);
        let loses_proxies = random.chance(75) && sabotage.is_none();
        let proxy = ProxyShell::new(&mut random, visitor::first_handles());
        let mut world = Self {
            now: Instant::ZERO.saturating_add(Duration::from_secs(1)),
            random,
            faults: Faults::default(),
            trace,
            agenda: BTreeMap::new(),
            entries: 0,
            events: 0,
            kernel: Kernel::default(),
            proxy,
            estate: Estate::default(),
            left: Left::default(),
            loses_proxies,
            manager: None,
            clients: Vec::new(),
            observers: BTreeMap::new(),
            plain_clients: BTreeMap::new(),
            checker: Checker::default(),
            files: plan.clone(),
            replaced: plan.clone(),
            accepted: plan,
            prepared: BTreeMap::new(),
            tempers: BTreeMap::new(),
            is_calm: false,
            ended: None,
            sabotage,
            sabotage_left: sabotage.is_some(),
        };
        world.draw_tempers();
        world.boot_proxy();
        world
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.now, line);
    }

    pub(crate) fn take_trace(self) -> Vec<String> {
        self.trace.into_lines()
    }

    /// Reports whether a sabotage that is committed once is committed here.
    pub(crate) fn sabotage_once(&mut self, sabotage: Sabotage, fits: bool) -> bool {
        let committed = self.sabotage == Some(sabotage) && self.sabotage_left && fits;
        if committed {
            self.sabotage_left = false;
            self.trace(|| format!("sabotage: {sabotage:?}"));
        }
        committed
    }

    /// Draws what the processes of services are like that are new.
    pub(crate) fn draw_tempers(&mut self) {
        let names: Vec<ServiceName> = self.accepted.services.keys().cloned().collect();
        for name in names {
            if !self.tempers.contains_key(&name) {
                let temper = match self.is_calm {
                    true => Temper::calm(&mut self.random),
                    false => Temper::random(&mut self.random),
                };
                self.tempers.insert(name, temper);
            }
        }
    }

    pub(crate) fn temper_of(&self, name: &ServiceName) -> Temper {
        match self.tempers.get(name) {
            Some(temper) => temper.clone(),
            None => self.temper_of_nobody(),
        }
    }

    /// Returns the temper of keepd's own processes and of jobs: they do what they should.
    pub(crate) fn temper_of_nobody(&self) -> Temper {
        Temper {
            cannot_prepare: 0,
            cannot_clone: if self.is_calm { 0 } else { 3 },
            cannot_execute: 0,
            ends: 0,
            ends_at_once: 0,
            never_ready: 0,
            ignores_stop: 0,
            leaves_others: 0,
            sleeps_in_kernel: 0,
        }
    }

    /// Puts something on the agenda. What was put first comes first.
    pub(crate) fn at(&mut self, at: Instant, due: Due) {
        self.entries += 1;
        self.agenda.insert((at, self.entries), due);
    }

    pub(crate) fn after(&mut self, delay: Duration, due: Due) {
        self.at(self.now.saturating_add(delay), due);
    }

    /// Lets time pass, and everything happen that comes meanwhile.
    pub(crate) fn advance(&mut self, duration: Duration) -> Step {
        let end = self.now.saturating_add(duration);
        while self.ended.is_none() {
            let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let lives = !self.proxy.is_lost;
            let proxy = self.proxy.machine.poll_timeout().filter(|_| lives);
            let front = self.proxy.front.poll_timeout().filter(|_| lives);
            let front = front.map(|at| at.max(self.proxy.stalled_until));
            let proxy = proxy.map(|at| at.max(self.proxy.stalled_until));
            let manager = self.manager.as_ref().and_then(|shell| {
                let at = shell.machine.poll_timeout()?;
                Some(at.max(shell.stalled_until))
            });
            let Some(next) = [agenda, proxy, front, manager].into_iter().flatten().min() else {
                break;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.events += 1;
            if agenda == Some(next) {
                if let Some((_, due)) = self.agenda.pop_first() {
                    self.happen(due)?;
                }
            } else if manager == Some(next) {
                self.manager_timers()?;
            } else if front == Some(next) {
                self.plain_turn()?;
            } else {
                self.proxy_timers()?;
                self.flush_proxy();
            }
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn happen(&mut self, due: Due) -> Step {
        match due {
            Due::Executes(pid, serial) => self.on_executes(pid, serial),
            Due::FailsToExecute(pid, serial) => self.on_fails_to_execute(pid, serial),
            Due::SaysReady(pid, serial) => self.on_says_ready(pid, serial),
            Due::Forks(pid, serial) => self.on_forks(pid, serial),
            Due::Dies(pid, serial, exit) => self.on_dies(pid, serial, exit),
            Due::ProxyTurn => return self.proxy_turn(),
            Due::ProxyBegins => return self.on_proxy_begins(),
            Due::ToProxy(arrival) => {
                self.proxy.arrivals.push_back(arrival);
                self.wake_proxy();
            }
            Due::FromProxy(connection, bytes) => return self.on_bytes(connection, &bytes),
            Due::ManagerBegins(pid, serial) => return self.on_manager_begins(pid, serial),
            Due::ManagerIsCut(serial, connection) => {
                return self.on_manager_is_cut(serial, connection);
            }
            Due::ManagerConnects(serial) => return self.on_manager_connects(serial),
            Due::ManagerReadsPlan(serial) => return self.on_manager_reads_plan(serial),
            Due::Prepared(serial, ticket, spec) => return self.on_prepared(serial, ticket, &spec),
            Due::Probed(serial, name, generation, index, no_answer) => {
                return self.on_probed(serial, name, generation, index, no_answer);
            }
            Due::ClientAsks(client) => return self.on_client_asks(client),
            Due::ObserverLeaves(connection) => return self.on_observer_leaves(connection),
            Due::PlainActs(connection) => self.on_plain_acts(connection),
            Due::ToPlain(connection, bytes) => return self.on_bytes_for_plain(connection, &bytes),
        }
        Ok(())
    }

    /// Bytes reach the other end of a connection, if there still is one.
    fn on_bytes(&mut self, connection: ConnectionId, bytes: &[u8]) -> Step {
        self.on_read(connection, bytes.len());
        if self.observers.contains_key(&connection) {
            return self.on_bytes_for_observer(connection, bytes);
        }
        let is_managers =
            self.manager.as_ref().is_some_and(|shell| shell.connection == Some(connection));
        if is_managers {
            self.on_bytes_for_manager(bytes)?;
        }
        Ok(())
    }

    /// The faults stop. What is broken stays broken, and nothing new goes wrong.
    pub(crate) fn calm_down(&mut self) {
        self.is_calm = true;
        self.trace(|| "the faults stop".to_owned());
        if let Some(shell) = &mut self.manager {
            shell.dies_after = None;
            shell.stalled_until = Instant::ZERO;
        }
        self.proxy.stalled_until = Instant::ZERO;
        self.proxy.dies_after = None;
        let names: Vec<ServiceName> = self.tempers.keys().cloned().collect();
        for name in names {
            let temper = Temper::calm(&mut self.random);
            self.tempers.insert(name, temper);
        }
        self.wake_sleepers();
    }
}
