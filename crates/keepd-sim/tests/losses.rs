//! Losses as part of the tests: crash points of every story, and shells that are broken on purpose.
//!
//! `cargo xtask sim --crash-points` plays all of them.

use keepd_sim::recovery::{
    Breach, Depth, LossSabotage, Outcome, Pace, Telling, crash_points, play, story_names, walk,
};

/// Plays some crash points of every story.
fn search(pace: Pace) {
    for story in 0..story_names().len() {
        let mut hear = |breach: Box<Breach>| -> bool {
            let told = play(&breach.loss, Telling::Last).err().unwrap_or(breach);
            panic!("{told}");
        };
        let (runs, total) = crash_points(story, pace, None, Depth::TESTS, &mut hear)
            .unwrap_or_else(|breach| panic!("{breach}"));
        assert!(runs > 50, "story {story} has {runs} runs");
        assert!(total.kills > runs / 2, "story {story}: {total:?}");
    }
}

#[test]
fn every_loss_is_recovered_from_while_children_wait() {
    search(Pace::Lazy);
}

#[test]
fn every_loss_is_recovered_from_while_children_hurry() {
    search(Pace::Eager);
}

#[test]
fn every_loss_is_recovered_from_while_children_need_seconds() {
    search(Pace::Slow);
}

/// Returns the first breach of a world that is broken on purpose.
fn noticed(sabotage: LossSabotage) -> Option<Box<Breach>> {
    (1..=3_000).find_map(|seed| walk(seed, 60, Some(sabotage)).err())
}

#[test]
fn every_sabotage_is_noticed() {
    // Which invariant has to notice. Several may, whichever comes first.
    let expected = |sabotage: LossSabotage| -> &[&str] {
        match sabotage {
            LossSabotage::ConsumesFirst
            | LossSabotage::ForgetsRuns
            | LossSabotage::PassesNoPidfds => &["R3"],
            LossSabotage::LeavesIntents
            | LossSabotage::StartsBeforeCancelling
            | LossSabotage::KeepsTornEnd => &["R10"],
            LossSabotage::RefusalIgnored => &["R2"],
            LossSabotage::AnswersFirst => &["R6"],
            // What nobody knows to have ended is not emptied either.
            LossSabotage::ForgetsEnds | LossSabotage::AcknowledgesUnread => &["R5", "R12"],
            LossSabotage::HoldsNoPipes | LossSabotage::ReadsThenWrites => &["R9"],
        }
    };
    for sabotage in LossSabotage::ALL {
        let Some(breach) = noticed(sabotage) else {
            panic!("{sabotage:?} is not noticed");
        };
        let number = breach.broken.number;
        let is_expected = expected(sabotage).contains(&number);
        assert!(is_expected, "{sabotage:?} is noticed by {number}: {breach}");
    }
}

#[test]
fn random_losses_are_recovered_from() {
    let mut total = Outcome::default();
    for seed in 1..=400 {
        match walk(seed, 60, None) {
            Ok(outcome) => total.add(&outcome),
            Err(breach) => {
                let told = play(&breach.loss, Telling::Last).err().unwrap_or(breach);
                panic!("{told}");
            }
        }
    }
    assert!(total.kills > 1_000 && total.double_faults > 200, "{total:?}");
    assert!(total.ends > 1_000 && total.unknowns * 20 < total.ends, "{total:?}");
}

#[test]
fn a_walk_follows_from_its_seed() {
    let first = walk(3, 60, None).map_err(|breach| breach.to_string());
    assert_eq!(first, walk(3, 60, None).map_err(|breach| breach.to_string()));
    assert_ne!(first, walk(4, 60, None).map_err(|breach| breach.to_string()));
}
