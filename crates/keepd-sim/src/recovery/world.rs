//! One world: kernel, warden, proxy and a client, and whoever takes over from whom.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use keepd_model::{Exit, Instant, ServiceName, Signal};

use super::cells::{Actor, Shared};
use super::client::Client;
use super::kernel::{Kernel, Stopped};
use super::pace::Pace;
use super::proxy::ProxyShell;
use super::story::{Act, Story, service};
use super::warden::{Estate, Warden, open_estate};
use crate::report::Broken;

/// After this time somebody starts a new warden, when nobody is left.
const REBIRTH: Duration = Duration::from_millis(500);
/// Longer than everything that a story can lead to.
const SETTLING: Duration = Duration::from_secs(60);
/// More turns than this at one time are a loop.
const TURNS_MAX: u32 = 20_000;

/// The world.
pub(crate) struct World {
    pub(crate) kernel: Shared,
    story: Rc<Story>,
    warden: Option<Warden>,
    proxy: Option<ProxyShell>,
    /// The proxy has not begun.
    is_newborn: bool,
    client: Client,
    rebirth_at: Option<Instant>,
}

impl World {
    pub(crate) fn new(kernel: Kernel, story: Story) -> Self {
        let kernel = Rc::new(RefCell::new(kernel));
        let client = Client::new(&kernel);
        Self {
            kernel,
            story: Rc::new(story),
            warden: None,
            proxy: None,
            is_newborn: false,
            client,
            rebirth_at: Some(Instant::ZERO),
        }
    }

    /// Plays the story to its end, and looks.
    pub(crate) fn play(&mut self) -> Result<(), Broken> {
        self.pass(Duration::from_millis(50));
        let story = Rc::clone(&self.story);
        for act in &story.acts {
            self.act(act);
            self.pass(Duration::from_millis(2));
        }
        if matches!(self.kernel.borrow().pace, Pace::Walk { .. }) {
            // It would never end.
            self.kernel.borrow_mut().calm_down();
        }
        self.pass(SETTLING);
        self.kernel.borrow_mut().calm_down();
        self.pass(SETTLING);
        self.check();
        match self.kernel.borrow_mut().judge.breach.take() {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }

    pub(crate) fn act(&mut self, act: &Act) {
        self.kernel.borrow_mut().note(|| format!("{act:?}"));
        match act {
            Act::Define(names) => {
                for name in *names {
                    self.client.change(&service(name), |_| {});
                }
            }
            Act::Lease(name, lease) => {
                self.client.change(&service(name), |goal| goal.lease = Some(lease.clone()));
            }
            Act::Up(name) => {
                self.client.change(&service(name), |goal| goal.wanted = Some(true));
            }
            Act::Down(name) => {
                self.client.change(&service(name), |goal| goal.wanted = Some(false));
            }
            Act::Change(name) => self.client.change(&service(name), |goal| goal.version += 1),
            Act::Note(name, text) => {
                self.client.change(&service(name), |goal| goal.note = text.as_bytes().to_vec());
            }
            Act::Delete(name) => self.client.change(&service(name), |goal| {
                goal.wanted = Some(false);
                goal.is_deleted = true;
            }),
            Act::Stranger(millis) => {
                self.kernel.borrow_mut().add_stranger(Duration::from_millis(*millis));
            }
            Act::KillMain(name) => self.kill_main(&service(name)),
            Act::Wait(millis) => self.pass(Duration::from_millis(*millis)),
        }
    }

    fn kill_main(&mut self, name: &ServiceName) {
        let mut kernel = self.kernel.borrow_mut();
        if let Some((_, serial)) = kernel.live_run(name) {
            kernel.signal(serial, Signal::KILL);
        }
    }

    /// Lets time pass, and everything happen that comes meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.kernel.borrow().now.saturating_add(time);
        let mut turns = 0;
        while self.kernel.borrow().judge.breach.is_none() {
            if self.turns() {
                turns += 1;
                if turns > TURNS_MAX {
                    let mut kernel = self.kernel.borrow_mut();
                    kernel.judge.breach("R11", "the turns do not end".to_owned());
                }
                continue;
            }
            let mut kernel = self.kernel.borrow_mut();
            let agenda = kernel.next_time();
            let machine = self.proxy.as_ref().and_then(|proxy| proxy.machine.poll_timeout());
            let Some(next) = [agenda, machine, self.rebirth_at].into_iter().flatten().min() else {
                break;
            };
            if next > end {
                break;
            }
            if next > kernel.now {
                turns = 0;
                kernel.now = next;
            }
            if agenda == Some(next) {
                kernel.happen();
            }
        }
        let mut kernel = self.kernel.borrow_mut();
        kernel.now = kernel.now.max(end);
    }

    /// Everybody who has something to do does it once.
    fn turns(&mut self) -> bool {
        self.bury();
        let mut did = self.take_over();
        if let Some(warden) = &mut self.warden {
            // A process that was killed did something, too.
            did |= warden.turn().unwrap_or(true);
            if let Some(born) = warden.born.take() {
                let estate = warden.estate.clone();
                self.bear(born, estate);
            }
        }
        self.bury();
        if let Some(proxy) = &mut self.proxy {
            did |= if std::mem::take(&mut self.is_newborn) {
                let _: Result<(), Stopped> = proxy.begin();
                true
            } else {
                proxy.turn().unwrap_or(true)
            };
        }
        self.bury();
        did | self.client.turn()
    }

    fn bear(&mut self, born: u64, estate: Estate) {
        let story = Rc::clone(&self.story);
        let proxy = ProxyShell::new(born, &self.kernel, story, estate);
        open_estate(&proxy.actor, &proxy.estate);
        self.proxy = Some(proxy);
        self.is_newborn = true;
    }

    /// The shells of processes that died are gone with all they knew.
    fn bury(&mut self) {
        let kernel = self.kernel.borrow();
        let lives = |actor: &Actor| kernel.is_alive(actor.serial);
        self.warden.take_if(|warden| !lives(&warden.actor));
        self.proxy.take_if(|proxy| !lives(&proxy.actor));
    }

    /// A proxy without a warden becomes the warden. When nobody is left, there is a new one.
    fn take_over(&mut self) -> bool {
        if self.warden.is_some() {
            return false;
        }
        if let Some(proxy) = self.proxy.take() {
            let serial = proxy.actor.serial;
            if self.kernel.borrow_mut().effect(serial, "execute itself in place").is_err() {
                return true;
            }
            {
                let mut kernel = self.kernel.borrow_mut();
                kernel.warden = Some(serial);
                kernel.proxy = None;
                kernel.is_listening = false;
                kernel.reports.remove(&serial);
                kernel.channel.clear();
            }
            self.warden = Some(Warden::new(serial, &self.kernel, proxy.estate));
            return true;
        }
        let now = self.kernel.borrow().now;
        match self.rebirth_at {
            None => {
                self.rebirth_at = Some(now.saturating_add(REBIRTH));
                true
            }
            Some(at) if at <= now => {
                self.rebirth_at = None;
                let serial = {
                    let mut kernel = self.kernel.borrow_mut();
                    let serial = kernel.fork(None, None);
                    kernel.warden = Some(serial);
                    kernel.note(|| format!("{serial} is a new warden"));
                    serial
                };
                self.warden = Some(Warden::new(serial, &self.kernel, Estate::new()));
                true
            }
            Some(_) => false,
        }
    }

    fn check(&mut self) {
        self.client.check_rest();
        let manager = ServiceName::new_internal("keepd.manager");
        let mut kernel = self.kernel.borrow_mut();
        if manager.is_ok_and(|name| kernel.live_run(&name).is_none()) {
            kernel.judge.breach("R8", "there is no manager".to_owned());
        }
        kernel.judge.check_lines();
        let zombie = kernel.processes.iter().find(|(_, process)| {
            matches!(process.life, super::kernel::Life::Zombie(Exit::Code(_) | Exit::Signal { .. }))
        });
        if let Some((serial, _)) = zombie {
            let sentence = format!("{serial} is a zombie for ever");
            kernel.judge.breach("R11", sentence);
        }
    }
}
