//! What the loop of a daemon does again and again.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// The supervisor wants to hear that we are alive.
    SayAlive,
    /// Our own watchdog does.
    Beat,
    /// The numbers of the process are to be taken.
    Measure,
}

/// The intervals; absent ones never come.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    pub(super) alive: Option<Interval>,
    pub(super) beat: Option<Interval>,
    pub(super) measure: Option<Interval>,
}

impl Ticks {
    /// Waits for the next that is due. Nothing is lost where the future is dropped.
    pub(super) async fn next(&mut self) -> Tick {
        tokio::select! {
            () = tick(&mut self.alive) => Tick::SayAlive,
            () = tick(&mut self.beat) => Tick::Beat,
            () = tick(&mut self.measure) => Tick::Measure,
        }
    }
}

/// Returns ticks of which the first comes at once.
pub(super) fn every(period: Duration) -> Option<Interval> {
    if period.is_zero() {
        return None;
    }
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(ticks)
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_comes_in_its_time_and_an_absent_one_never() {
        let mut ticks = Ticks {
            alive: every(Duration::from_secs(5)),
            beat: every(Duration::ZERO),
            measure: every(Duration::from_secs(2)),
        };
        let begun = Instant::now();
        let mut seen = Vec::new();
        while begun.elapsed() < Duration::from_secs(5) {
            let tick = ticks.next().await;
            seen.push((begun.elapsed().as_secs(), tick));
        }
        seen.sort_by_key(|(at, tick)| (*at, *tick == Tick::Measure));
        let expected =
            [(0, Tick::SayAlive), (0, Tick::Measure), (2, Tick::Measure), (4, Tick::Measure)];
        assert_eq!(seen[..4], expected);
        assert_eq!(seen[4], (5, Tick::SayAlive));
    }
}
