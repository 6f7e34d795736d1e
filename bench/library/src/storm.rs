//! Ten thousand subsystems that fail at once: what waiting for their next starts costs, in a
//! process of its own.

use std::time::{Duration, Instant};

use keepd::shutdown::ShutdownHandle;
use keepd::subsystem::{SubsystemFuture, SubsystemManager, SubsystemState};
use keepd::{Error, RestartPolicy, ShutdownCoordinator, ShutdownReason, Subsystem};
use keepd_bench::error::{Attempt, BenchError};
use tokio::time::sleep;

use crate::fleet::processor_time;

/// The delay before the first restart where nothing may happen during the measurement.
const LONG_DELAY: Duration = Duration::from_secs(600);
/// The delay where the storm comes again: 0.5, 1.5, 3.5, 7.5 seconds after the start.
const SHORT_DELAY: Duration = Duration::from_millis(500);
/// How often the states are looked at until all wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

struct Failing {
    delay: Duration,
}

impl Subsystem for Failing {
    fn run(&self, _shutdown: ShutdownHandle) -> SubsystemFuture {
        Box::pin(async { Err(Error::runtime("the port is taken")) })
    }

    fn name(&self) -> &str {
        "failing"
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::ExponentialBackoff {
            initial_delay: self.delay,
            max_delay: Duration::from_secs(3600),
            max_attempts: u32::MAX,
        }
    }
}

/// Shares of one processor, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    /// While all wait for their next start.
    pub(crate) waiting_percent: f64,
    /// While they start and fail again and again.
    pub(crate) storm_percent: f64,
}

impl Figures {
    /// Returns the figures as the line that the process prints.
    pub(crate) fn line(self) -> String {
        format!("{} {}", self.waiting_percent, self.storm_percent)
    }

    /// Reads the line.
    pub(crate) fn parse(line: &str) -> Result<Self, BenchError> {
        let mut words = line.split_whitespace().map(|word| word.parse().ok());
        match (words.next().flatten(), words.next().flatten()) {
            (Some(waiting_percent), Some(storm_percent)) => {
                Ok(Self { waiting_percent, storm_percent })
            }
            (_, _) => Err(BenchError::new(format!("cannot read figures: \"{line}\""))),
        }
    }
}

/// Measures in this process, for so long each.
pub(crate) fn measure(count: usize, length: Duration) -> Result<Figures, BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .attempt("start a runtime")?;
    runtime.block_on(async {
        let waiting = fleet(count, LONG_DELAY);
        waiting.0.start_all().await.attempt("start the subsystems")?;
        while !all_wait(&waiting.0) {
            sleep(LOOK_INTERVAL).await;
        }
        let waiting_percent = processor_share(length).await;
        end(waiting).await?;
        let storm = fleet(count, SHORT_DELAY);
        storm.0.start_all().await.attempt("start the subsystems")?;
        let storm_percent = processor_share(length).await;
        end(storm).await?;
        Ok(Figures { waiting_percent, storm_percent })
    })
}

fn fleet(count: usize, delay: Duration) -> (SubsystemManager, ShutdownCoordinator) {
    let coordinator = ShutdownCoordinator::new(60_000, 90_000, 120_000);
    let manager = SubsystemManager::new(coordinator.clone());
    for _ in 0..count {
        manager.register(Failing { delay });
    }
    (manager, coordinator)
}

fn all_wait(manager: &SubsystemManager) -> bool {
    let waits = |metadata: &keepd::subsystem::SubsystemMetadata| {
        metadata.state == SubsystemState::Restarting
    };
    manager.get_all_metadata().iter().all(waits)
}

async fn processor_share(length: Duration) -> f64 {
    let (clock, before) = (Instant::now(), processor_time());
    sleep(length).await;
    let used = processor_time().saturating_sub(before);
    used.as_secs_f64() / clock.elapsed().as_secs_f64() * 100.0
}

async fn end(fleet: (SubsystemManager, ShutdownCoordinator)) -> Result<(), BenchError> {
    let is_first = fleet.1.initiate_shutdown(ShutdownReason::Requested);
    debug_assert!(is_first, "nobody else asks");
    fleet.0.stop_all().await.attempt("stop the subsystems")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_back_from_their_line() {
        let figures = Figures { waiting_percent: 0.25, storm_percent: 30.0 };
        assert_eq!(Figures::parse(&figures.line()), Ok(figures));
        assert!(Figures::parse("1").is_err());
    }
}
