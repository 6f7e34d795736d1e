//! The simulation as part of the tests: a sweep of seeds, and worlds that are broken on purpose.
//!
//! A fault that a seed showed is kept as a story of the machine it was in (`crates/keepd-engine/
//! tests`): what a seed means changes with every change of the world.
//!
//! `KEEPD_SIM_SEED=N cargo test --package keepd-sim` plays that seed alone, with its trace.

use keepd_sim::{Faults, Sabotage};

/// Random actions of each run of the sweep.
const ACTIONS: u32 = 300;
/// The sweep plays the seeds from 1 to this one, in parts that the test runner plays side by side.
const SEEDS: u64 = 300;
const PARTS: u64 = 3;

/// What must happen often enough in a sweep for it to mean anything.
const FAULTS: [&str; 43] = [
    "asked again",
    "asked too early",
    "child gives up",
    "clone fails",
    "command cut off",
    "ends at once",
    "ends by itself",
    "exec fails",
    "full",
    "grandchild",
    "handle given",
    "handle missing",
    "ignores its stop signal",
    "job cannot be cloned",
    "job hangs",
    "left behind",
    "killed from outside",
    "manager dies within a turn",
    "manager killed",
    "oneshot hangs",
    "overflow",
    "pid used again",
    "plain client",
    "proxy and manager killed",
    "proxy comes back",
    "proxy dies within a turn",
    "proxy killed",
    "plain client half-closes",
    "reload",
    "second controller",
    "service of a plain client",
    "service of a second controller",
    "service survives the manager",
    "service that controls",
    "signal to keepd",
    "slow manager",
    "slow proxy",
    "start cannot be prepared",
    "status unknown",
    "survives KILL",
    "system call fails",
    "warden and proxy killed",
    "stranger reaped",
];

/// Plays a seed; a failure is told with its trace.
fn play(seed: u64, actions: u32) -> Faults {
    match keepd_sim::run(seed, actions) {
        Ok(report) => report.faults,
        Err(failure) => {
            let told = keepd_sim::explain(seed, actions).err().unwrap_or(failure);
            panic!("{told}");
        }
    }
}

/// Returns the one seed that somebody wants to see.
fn wanted_seed() -> Option<u64> {
    let text = std::env::var("KEEPD_SIM_SEED").ok()?;
    Some(text.parse().expect("KEEPD_SIM_SEED is a number"))
}

fn sweep(part: u64) {
    if let Some(seed) = wanted_seed() {
        if part == 0
            && let Err(failure) = keepd_sim::print(seed, ACTIONS)
        {
            panic!("{failure}");
        }
        return;
    }
    let mut faults = Faults::default();
    for seed in (1..=SEEDS).filter(|seed| seed % PARTS == part) {
        faults.add(&play(seed, ACTIONS));
    }
    for kind in FAULTS {
        // A plain client seldom reads so late before its proxy is lost and its connection with it.
        let least = if kind == "overflow" { 1 } else { 5 };
        assert!(faults.of(kind) >= least, "\"{kind}\" hardly ever happens: {faults:?}");
    }
    for (kind, _) in faults.iter() {
        // It hardly ever happens, and that is a good thing.
        let is_known = FAULTS.contains(&kind) || kind == "readiness lost";
        assert!(is_known, "\"{kind}\" is not in the list");
    }
}

#[test]
fn every_invariant_holds_in_the_first_part_of_the_sweep() {
    sweep(0);
}

#[test]
fn every_invariant_holds_in_the_second_part_of_the_sweep() {
    sweep(1);
}

#[test]
fn every_invariant_holds_in_the_third_part_of_the_sweep() {
    sweep(2);
}

#[test]
fn a_run_follows_from_its_seed() {
    let first = keepd_sim::run(7, 100);
    assert_eq!(first, keepd_sim::run(7, 100));
    assert_ne!(first, keepd_sim::run(8, 100));
}

#[test]
fn every_sabotage_is_noticed() {
    if wanted_seed().is_some() {
        return;
    }
    // Which invariant has to notice. Several may, whichever comes first.
    let expected = |sabotage: Sabotage| -> &[&str] {
        match sabotage {
            Sabotage::LosesEmptyGroup => &["S4", "S5"],
            Sabotage::SpawnsTwice => &["S1"],
            Sabotage::SkipsGeneration => &["S2"],
            Sabotage::ForgesDown => &["S6", "S16"],
            Sabotage::LosesAnswer => &["S5", "S9", "S4"],
            Sabotage::AnswersTwice => &["S9"],
            Sabotage::SignalsStranger => &["S8"],
            Sabotage::ForgesReadiness => &["S15"],
            Sabotage::HurriesTimers => &["S13", "S15"],
            Sabotage::LosesNotes => &["S4", "S5", "S7", "S12", "S13", "S18", "S27"],
            Sabotage::KillsAtTakeover => &["S12"],
            Sabotage::IgnoresEdges => &["S3", "S14"],
            Sabotage::ForgesStatus => &["S16"],
            Sabotage::SwallowsRequest => &["S5"],
            Sabotage::LosesNews => &["S21", "S22"],
            Sabotage::ShowsInternal | Sabotage::AddsField => &["S20"],
            Sabotage::LosesFrontAnswer => &["S25"],
            Sabotage::TellsErrorToAll => &["S23"],
        }
    };
    for sabotage in Sabotage::ALL {
        let noticed = (1..=10).find_map(|seed| keepd_sim::run_sabotaged(seed, 200, sabotage).err());
        let Some(failure) = noticed else {
            panic!("{sabotage:?} is not noticed");
        };
        let number = failure.broken.number;
        assert!(
            expected(sabotage).contains(&number),
            "{sabotage:?} is noticed by {number}: {failure}"
        );
    }
}
