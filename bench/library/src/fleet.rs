//! Very many subsystems, in a process of their own: what is measured first must not leave its
//! memory to the second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keepd_bench::error::{Attempt, BenchError};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::sync::{Notify, watch};

/// Who runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Keepd,
    ProcDaemon,
    /// Tasks of tokio with a channel that says when to end: what one writes without a library.
    Plain,
}

impl Subject {
    /// Every subject, in the order of the tables.
    pub(crate) const ALL: [Self; 3] = [Self::Keepd, Self::ProcDaemon, Self::Plain];

    /// Returns the word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Keepd => "keepd",
            Self::ProcDaemon => "proc-daemon",
            Self::Plain => "plain tasks",
        }
    }
}

/// What one process found out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) register: Took,
    /// Until every body has begun.
    pub(crate) start: Took,
    /// From the request until every body has ended and the manager knows.
    pub(crate) stop: Took,
    /// Resident memory for each, before the start and while all run.
    pub(crate) registered_bytes: f64,
    pub(crate) running_bytes: f64,
}

/// How long something took, and how much processor time of all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Took {
    pub(crate) ms: f64,
    pub(crate) processor_ms: f64,
}

/// The beginning of something that takes time.
struct Clock {
    begun: Instant,
    processor: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { begun: Instant::now(), processor: processor_time() }
    }

    fn stop(&self) -> Took {
        let processor = processor_time().saturating_sub(self.processor);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        Took { ms: milliseconds(self.begun.elapsed()), processor_ms: milliseconds(processor) }
    }
}

impl Figures {
    /// Returns the figures as the line that the process prints.
    pub(crate) fn line(self) -> String {
        let Self { register, start, stop, registered_bytes, running_bytes } = self;
        let took = |took: Took| [took.ms, took.processor_ms];
        json!([took(register), took(start), took(stop), [registered_bytes, running_bytes]])
            .to_string()
    }

    /// Reads the line.
    pub(crate) fn parse(line: &str) -> Result<Self, BenchError> {
        let values: Vec<[f64; 2]> =
            serde_json::from_str(line).attempt(format!("read figures \"{line}\""))?;
        let [register, start, stop, [registered_bytes, running_bytes]] = values[..] else {
            return Err(BenchError::new(format!("cannot read figures \"{line}\"")));
        };
        let took = |[ms, processor_ms]: [f64; 2]| Took { ms, processor_ms };
        let (register, start, stop) = (took(register), took(start), took(stop));
        Ok(Self { register, start, stop, registered_bytes, running_bytes })
    }
}

/// Counts bodies, and tells when the last of them has come.
#[derive(Debug)]
pub(crate) struct Gate {
    wanted: usize,
    come: AtomicUsize,
    complete: Notify,
}

impl Gate {
    pub(crate) fn new(wanted: usize) -> Arc<Self> {
        Arc::new(Self { wanted, come: AtomicUsize::new(0), complete: Notify::new() })
    }

    pub(crate) fn pass(&self) {
        if self.come.fetch_add(1, Ordering::AcqRel) + 1 == self.wanted {
            self.complete.notify_one();
        }
    }

    pub(crate) async fn complete(&self) {
        self.complete.notified().await;
    }
}

/// Measures in this process.
pub(crate) fn measure(subject: Subject, count: usize) -> Result<Figures, BenchError> {
    // Reserved before anything is measured: names are the program's, not the library's.
    let names: Vec<String> = (0..count).map(|number| format!("worker-{number}")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .attempt("start a runtime")?;
    runtime.block_on(async {
        match subject {
            Subject::Keepd => ours::measure(&names).await,
            Subject::ProcDaemon => theirs::measure(&names).await,
            Subject::Plain => plain(&names).await,
        }
    })
}

macro_rules! managed {
    ($module:ident, $library:ident) => {
        mod $module {
            use std::sync::Arc;

            use keepd_bench::error::{Attempt, BenchError};
            use $library::ShutdownReason;
            use $library::shutdown::ShutdownCoordinator;
            use $library::subsystem::SubsystemManager;

            use super::{Clock, Figures, Gate, bytes_for_each, resident_bytes};

            pub(super) async fn measure(names: &[String]) -> Result<Figures, BenchError> {
                let (begun, ended) = (Gate::new(names.len()), Gate::new(names.len()));
                let coordinator = ShutdownCoordinator::new(60_000, 90_000, 120_000);
                let manager = SubsystemManager::new(coordinator.clone());
                let before = resident_bytes()?;
                let clock = Clock::start();
                for name in names {
                    let gates = (Arc::clone(&begun), Arc::clone(&ended));
                    manager.register_fn(name, move |mut shutdown| {
                        let (begun, ended) = gates.clone();
                        async move {
                            begun.pass();
                            shutdown.cancelled().await;
                            ended.pass();
                            Ok(())
                        }
                    });
                }
                let register = clock.stop();
                let registered = resident_bytes()?;
                let clock = Clock::start();
                manager.start_all().await.attempt("start the subsystems")?;
                begun.complete().await;
                let start = clock.stop();
                let running = resident_bytes()?;
                let clock = Clock::start();
                let is_first = coordinator.initiate_shutdown(ShutdownReason::Requested);
                debug_assert!(is_first, "nobody else asks");
                manager.stop_all().await.attempt("stop the subsystems")?;
                ended.complete().await;
                let stop = clock.stop();
                let registered_bytes = bytes_for_each(before, registered, names.len());
                let running_bytes = bytes_for_each(before, running, names.len());
                Ok(Figures { register, start, stop, registered_bytes, running_bytes })
            }
        }
    };
}

managed!(ours, keepd);
managed!(theirs, proc_daemon);

async fn plain(names: &[String]) -> Result<Figures, BenchError> {
    let (begun, ended) = (Gate::new(names.len()), Gate::new(names.len()));
    let (sender, receiver) = watch::channel(false);
    let before = resident_bytes()?;
    let clock = Clock::start();
    let mut tasks = Vec::with_capacity(names.len());
    for _ in names {
        let gates = (Arc::clone(&begun), Arc::clone(&ended));
        let mut quit = receiver.clone();
        tasks.push(tokio::spawn(async move {
            gates.0.pass();
            // An error means that the sender has gone, which ends the tasks as well.
            let _ = quit.wait_for(|quit| *quit).await;
            gates.1.pass();
        }));
    }
    begun.complete().await;
    let start = clock.stop();
    let running = resident_bytes()?;
    let clock = Clock::start();
    sender.send(true).attempt("tell the tasks to end")?;
    for task in tasks {
        task.await.attempt("wait for a task")?;
    }
    ended.complete().await;
    let stop = clock.stop();
    let running_bytes = bytes_for_each(before, running, names.len());
    let register = Took::default();
    Ok(Figures { register, start, stop, registered_bytes: 0.0, running_bytes })
}

/// Returns the resident memory of this process. See proc_pid_statm(5).
fn resident_bytes() -> Result<u64, BenchError> {
    let path = "/proc/self/statm";
    let text = std::fs::read_to_string(path).attempt(format!("read \"{path}\""))?;
    let pages = text.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| BenchError::new(format!("cannot read \"{path}\": {text}")))?;
    Ok(pages * rustix::param::page_size() as u64)
}

fn bytes_for_each(before: u64, after: u64, count: usize) -> f64 {
    after.saturating_sub(before) as f64 / count as f64
}

/// Returns the processor time that this process has used.
pub(crate) fn processor_time() -> Duration {
    used(ClockId::ProcessCPUTime)
}

/// Returns the processor time that this thread has used.
pub(crate) fn thread_time() -> Duration {
    used(ClockId::ThreadCPUTime)
}

fn used(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // The kernel counts up from zero.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_back_from_their_line() {
        let figures = Figures {
            register: Took { ms: 1.5, processor_ms: 1.25 },
            start: Took { ms: 2.0, processor_ms: 2.0 },
            stop: Took { ms: 3.25, processor_ms: 5.0 },
            registered_bytes: 100.0,
            running_bytes: 560.0,
        };
        assert_eq!(Figures::parse(&figures.line()), Ok(figures));
        assert!(Figures::parse("[[1, 2]]").is_err());
    }

    #[test]
    fn each_subject_runs_all_its_tasks() {
        for subject in Subject::ALL {
            let figures = measure(subject, 50).unwrap();
            assert!(figures.start.ms > 0.0 && figures.stop.ms > 0.0, "{subject:?}");
        }
    }
}
