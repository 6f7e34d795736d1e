//! Random stories: a proxy with leases, a manager that is lost now and then, and people. The same
//! seed is the same story.

use keepd_engine::manager::Input;
use keepd_model::protocol::RunState;
use keepd_model::{Exit, Instant, Plan, State, Until};

use crate::world::*;

const STORIES: u64 = 300;
const STEPS: u64 = 60;
const SERVICES: [&str; 3] = ["app", "db", "web"];
/// No service is restarted more often than this within ten minutes.
const LIMIT: u32 = 6;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn plan_of(chance: &mut Chance) -> Plan {
    let mut app = needs(daemon("app"), &[("db", Until::Ready)]);
    app.umask = if chance.below(2) == 0 { 0o022 } else { 0o077 };
    let mut db = daemon("db");
    db.stop.timeout = secs(1 + chance.below(3));
    let mut web = daemon("web");
    web.backoff.jitter = 0.2;
    let specs = [app, db, web].map(|mut spec| {
        spec.restart_limit.count = LIMIT;
        spec
    });
    plan(specs)
}

/// What is kept beside the machine, to judge it.
struct Story {
    world: World,
    plan: Plan,
    is_there: bool,
    /// When each service ended by itself.
    ends: Vec<(&'static str, Instant)>,
    asked: Vec<Instant>,
}

impl Story {
    fn step(&mut self, chance: &mut Chance) {
        let service = SERVICES[usize::try_from(chance.below(3)).unwrap()];
        match chance.below(12) {
            0..=3 => self.crash(service, chance.below(3)),
            4 | 5 => self.pass(chance.below(3_000)),
            6 if self.is_there => {
                self.asked.push(self.world.now);
                match chance.below(3) {
                    0 => drop(self.world.stop(&[service])),
                    1 => drop(self.world.start(&[service])),
                    _ => drop(self.world.restart(&[service])),
                }
            }
            7 if self.is_there => {
                self.asked.push(self.world.now);
                self.plan = plan_of(chance);
                let plan = self.plan.clone();
                self.world.apply(plan, true);
            }
            8 if self.is_there => {
                self.world.give(Input::Disconnected);
                self.crash_unseen(service);
                self.world.give(Input::Connected);
            }
            9 | 10 => self.take_turns(),
            _ => self.pass(30),
        }
    }

    fn crash(&mut self, service: &'static str, code: u64) {
        if self.is_there && self.world.held[&name(service)].state == RunState::Up {
            self.ends.push((service, self.world.now));
            self.world.exits(service, Exit::Code(u8::try_from(code).unwrap()));
        } else if !self.is_there {
            self.crash_unseen(service);
        }
    }

    fn crash_unseen(&mut self, service: &'static str) {
        if self.world.held[&name(service)].state == RunState::Up {
            self.ends.push((service, self.world.now));
            self.world.exits_unseen(service, Exit::Code(9));
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        match self.is_there {
            true => self.world.advance(ms(milliseconds)),
            false => self.world.pass_unseen(ms(milliseconds)),
        }
    }

    fn take_turns(&mut self) {
        match self.is_there {
            true => self.world.lose_manager(),
            false => self.world.begin_manager(self.plan.clone()),
        }
        self.is_there = !self.is_there;
    }

    fn judge(&self, seed: u64) {
        for service in SERVICES {
            let status = self.world.status(service);
            let runs = self.world.manager.history(&name(service)).unwrap();
            let seen: Vec<u64> = runs.map(|run| run.end.generation.get()).collect();
            // I2: each end once, in order, without a gap.
            let is_over = status.pid.is_none() && status.state != State::Starting;
            let last = status.generation.get() - u64::from(!is_over);
            let expected: Vec<u64> = (1..=last).collect();
            assert_eq!(seen, expected, "seed {seed}: {service} {status:?}");
            let held = &self.world.held[&name(service)];
            assert_eq!(held.generation, status.generation, "seed {seed}: {service}");
            // Nobody asked for anything: then the policy alone decided.
            if self.asked.is_empty() {
                assert!(status.restarts <= u64::from(LIMIT), "seed {seed}: {service}");
                let ends = self.ends.iter().filter(|(name, _)| *name == service).count();
                assert!(status.restarts <= ends as u64, "seed {seed}: {service}");
            }
        }
    }
}

#[test]
fn every_end_is_counted_once_and_no_lease_overruns_the_limit() {
    // (behaviour 8.8, 8.10, 11.15)
    for seed in 0..STORIES {
        let mut chance = Chance(seed);
        let mut plan = plan_of(&mut chance);
        plan.manager.history_max = 1_000;
        let world = World::boot(plan.clone());
        let mut story = Story { world, plan, is_there: true, ends: Vec::new(), asked: Vec::new() };
        for _ in 0..STEPS {
            story.step(&mut chance);
        }
        if !story.is_there {
            story.take_turns();
        }
        // Everything that is due happens; then all is where it should be.
        story.pass(60_000);
        story.judge(seed);
    }
}
