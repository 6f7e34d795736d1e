//! The random course of a run: one action after another, with time between them.

use std::time::Duration;

use keepd_model::Signal;

use crate::clients::Want;
use crate::world::{Step, World};

/// How a proxy is killed.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Alone,
    WithinTurn,
    WithWarden,
    WithManager,
}

/// What can be done to a world.
#[derive(Clone, Copy, Debug)]
enum Action {
    Ask,
    KillMain,
    KillManager,
    KillManagerWithinTurn,
    KillProxy(Loss),
    Observe,
    SpeakPlainly,
    StallProxy,
    StallManager,
    Reload,
    Trigger,
    Nothing,
}

impl World {
    /// Does one random thing, and lets some time pass.
    pub(crate) fn act(&mut self) -> Step {
        let losses = u64::from(self.loses_proxies);
        let action = self.random.weighted(&[
            (2 * losses, Action::KillProxy(Loss::Alone)),
            (5 * losses, Action::KillProxy(Loss::WithinTurn)),
            (losses, Action::KillProxy(Loss::WithWarden)),
            (losses, Action::KillProxy(Loss::WithManager)),
            (40, Action::Ask),
            (12, Action::KillMain),
            (4, Action::KillManager),
            (6, Action::KillManagerWithinTurn),
            (4, Action::Observe),
            (6, Action::SpeakPlainly),
            (3, Action::StallProxy),
            (4, Action::StallManager),
            (1, Action::Reload),
            (2, Action::Trigger),
            (26, Action::Nothing),
        ]);
        match action {
            Action::Ask => self.add_client(),
            Action::KillMain => self.kill_some_main(),
            Action::KillManager => {
                if self.manager.is_some() {
                    self.faults.count("manager killed");
                }
                self.kill_manager();
            }
            Action::KillManagerWithinTurn => {
                let outputs = self.random.between(0, 30);
                if let Some(shell) = &mut self.manager {
                    shell.dies_after = Some(outputs);
                }
            }
            Action::KillProxy(loss) => self.kill_proxy(loss),
            Action::Observe if self.proxy.is_lost => {}
            Action::SpeakPlainly if self.proxy.is_lost => {}
            Action::Observe => self.add_observer(),
            Action::SpeakPlainly => self.add_plain_client(),
            Action::StallProxy => {
                self.faults.count("slow proxy");
                let stall = self.random.millis(1, 500);
                self.proxy.stalled_until = self.now.saturating_add(stall);
            }
            Action::StallManager => self.stall_manager(),
            // HUP means "apply" and is the shell's own business.
            Action::Reload => self.signal_keepd(Signal::HUP),
            // The manager takes no notice of it.
            Action::Trigger => self.signal_keepd(Signal::USR1),
            Action::Nothing => {}
        }
        let pause = self.random.weighted(&[
            (30, (0, 5)),
            (30, (5, 100)),
            (30, (100, 1_000)),
            (8, (1_000, 5_000)),
            (2, (5_000, 30_000)),
        ]);
        let pause = self.random.millis(pause.0, pause.1);
        self.advance(pause)
    }

    fn kill_proxy(&mut self, loss: Loss) {
        match loss {
            Loss::Alone => {
                self.faults.count("proxy killed");
                self.lose_proxy(false);
            }
            Loss::WithinTurn => {
                let outputs = self.random.between(0, 30);
                self.proxy.dies_after = Some(outputs);
            }
            Loss::WithWarden => {
                self.faults.count("warden and proxy killed");
                self.lose_proxy(true);
            }
            Loss::WithManager => {
                self.faults.count("proxy and manager killed");
                if self.random.chance(50) {
                    self.kill_manager();
                    self.lose_proxy(false);
                } else {
                    self.lose_proxy(false);
                    self.kill_manager();
                }
            }
        }
    }

    /// The manager neither reads nor looks at a clock for a while.
    fn stall_manager(&mut self) {
        let stall = self.random.millis(1, 2_000);
        let until = self.now.saturating_add(stall);
        let Some(shell) = &mut self.manager else {
            return;
        };
        self.faults.count("slow manager");
        shell.stalled_until = until;
        if let Some(id) = shell.connection
            && let Some(connection) = self.proxy.connections.get_mut(&id)
        {
            connection.stalled_until = until;
        }
    }

    /// keepd is asked to end in some way.
    pub(crate) fn begin_end(&mut self) -> Step {
        match self.random.between(0, 3) {
            0 => self.signal_keepd(Signal::TERM),
            1 => self.signal_keepd(Signal::QUIT),
            2 => self.add_client_with(Want::Shutdown(false)),
            _ => self.add_client_with(Want::Shutdown(true)),
        }
        self.checker.end_was_asked_for = true;
        let pause = self.random.millis(0, 3_000);
        if self.random.chance(30) {
            self.advance(pause)?;
            self.kill_manager();
        }
        if self.random.chance(30) {
            self.signal_keepd(Signal::INT);
        }
        self.advance(Duration::ZERO)
    }
}
