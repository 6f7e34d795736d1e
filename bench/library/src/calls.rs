//! What a single call costs: the same body for both libraries, written once.
//!
//! The first six rows are proc-daemon's own benchmarks; the others are calls that programs make for
//! every request.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::fleet::thread_time;
use crate::report::Target;

/// Repeats a body so many times.
pub(crate) type Body = Box<dyn FnMut(u64)>;

/// One row: the same thing, done with one library and with the other.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// What one repetition is.
    pub(crate) what: &'static str,
    pub(crate) target: Option<Target>,
    pub(crate) keepd: fn() -> Body,
    /// Who else does it.
    pub(crate) beside: &'static str,
    pub(crate) other: fn() -> Body,
}

/// How long a batch is at least: so long that looking at the clock costs nothing beside it.
const BATCH_MIN: Duration = Duration::from_millis(1);

fn repeat<T>(mut body: impl FnMut() -> T + 'static) -> Body {
    Box::new(move |times| {
        for _ in 0..times {
            black_box(body());
        }
    })
}

macro_rules! bodies {
    ($module:ident, $library:ident) => {
        pub(crate) mod $module {
            use std::hint::black_box;
            use std::time::Duration;

            use $library::metrics::MetricsCollector;
            use $library::{Config, Daemon, Error, Result, ShutdownHandle};

            use super::{Body, repeat};

            async fn nothing(_shutdown: ShutdownHandle) -> Result<()> {
                Ok(())
            }

            pub(crate) fn daemon_creation() -> Body {
                repeat(|| -> Result<Daemon> {
                    Daemon::builder(Config::new()?).without_signals().build()
                })
            }

            pub(crate) fn subsystem_registration() -> Body {
                repeat(|| -> Result<Daemon> {
                    Daemon::builder(Config::new()?)
                        .with_task("bench", nothing)
                        .with_task("bench2", nothing)
                        .with_task("bench3", nothing)
                        .without_signals()
                        .build()
                })
            }

            pub(crate) fn config_loading() -> Body {
                repeat(|| {
                    Config::builder()
                        .name(black_box("bench-daemon"))
                        .worker_threads(black_box(4))
                        .shutdown_timeout(black_box(Duration::from_secs(2)))
                        .expect("two seconds fit into any number")
                        .force_shutdown_timeout(black_box(Duration::from_secs(5)))
                        .expect("five seconds fit into any number")
                        .build()
                        .expect("the values keep every rule")
                })
            }

            pub(crate) fn shutdown_coordination() -> Body {
                let runtime = super::runtime();
                let once = || -> Result<Daemon> {
                    let daemon = Daemon::builder(Config::new()?)
                        .with_task("quick", nothing)
                        .without_signals()
                        .build()?;
                    daemon.shutdown();
                    Ok(daemon)
                };
                let mut body = repeat(once);
                Box::new(move |times| runtime.block_on(async { body(times) }))
            }

            pub(crate) fn error_creation() -> Body {
                repeat(|| Error::runtime(black_box("benchmark error")))
            }

            pub(crate) fn error_chain() -> Body {
                repeat(|| {
                    let cause = std::io::Error::new(std::io::ErrorKind::TimedOut, "timeout");
                    Error::io_with_source(black_box("operation failed"), cause)
                })
            }

            pub(crate) fn metrics_counter_increment() -> Body {
                let metrics = MetricsCollector::new();
                repeat(move || metrics.increment_counter(black_box("requests_total"), black_box(1)))
            }

            pub(crate) fn metrics_gauge_set() -> Body {
                let metrics = MetricsCollector::new();
                repeat(move || metrics.set_gauge(black_box("connections"), black_box(42)))
            }

            pub(crate) fn metrics_histogram_record() -> Body {
                let metrics = MetricsCollector::new();
                let duration = Duration::from_nanos(100);
                repeat(move || metrics.record_histogram(black_box("latency"), black_box(duration)))
            }

            pub(crate) fn metrics_snapshot() -> Body {
                let metrics = MetricsCollector::new();
                metrics.increment_counter("requests_total", 1);
                metrics.set_gauge("connections", 42);
                for number in 0..2048 {
                    metrics.record_histogram("latency", Duration::from_nanos(number));
                }
                repeat(move || metrics.get_metrics())
            }
        }
    };
}

bodies!(ours, keepd);
bodies!(theirs, proc_daemon);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers starts")
}

fn counter_by_handle() -> Body {
    let metrics = keepd::metrics::MetricsCollector::new();
    let requests = metrics.counter("requests_total");
    repeat(move || requests.increment(black_box(1)))
}

fn counter_by_local_handle() -> Body {
    let metrics = keepd::metrics::MetricsCollector::new();
    let requests = metrics.counter("requests_total").local();
    repeat(move || requests.increment(black_box(1)))
}

/// What an error with a cause cannot do without: the text, the cause, and a box for it.
fn text_and_cause() -> Body {
    repeat(|| {
        let cause = std::io::Error::new(std::io::ErrorKind::TimedOut, "timeout");
        (String::from(black_box("operation failed")), Box::new(cause))
    })
}

macro_rules! call {
    ($name:ident, $what:literal, $target:expr) => {
        Call {
            name: stringify!($name),
            what: $what,
            target: Some($target),
            keepd: ours::$name,
            beside: "proc-daemon",
            other: theirs::$name,
        }
    };
}

/// Returns every call, in the order of the table.
pub(crate) fn all() -> [Call; 13] {
    use Target::{NotMore, Ratio};
    [
        call!(daemon_creation, "configuration, daemon without signals", Ratio(0.5)),
        call!(subsystem_registration, "the same with 3 tasks", Ratio(0.5)),
        call!(config_loading, "builder, 4 setters, build", Ratio(0.5)),
        call!(shutdown_coordination, "daemon with 1 task, request, drop", Ratio(0.5)),
        call!(error_creation, "`Error::runtime(&str)`", NotMore),
        call!(error_chain, "`io::Error`, `io_with_source`", NotMore),
        Call {
            name: "error_chain",
            what: "against a text and a boxed cause",
            target: Some(NotMore),
            keepd: ours::error_chain,
            beside: "floor",
            other: text_and_cause,
        },
        call!(metrics_counter_increment, "by name", Ratio(0.5)),
        Call {
            name: "counter_by_handle",
            what: "against the other's by name",
            target: None,
            keepd: counter_by_handle,
            beside: "proc-daemon",
            other: theirs::metrics_counter_increment,
        },
        Call {
            name: "counter_by_local_handle",
            what: "against the other's by name",
            target: Some(Ratio(0.1)),
            keepd: counter_by_local_handle,
            beside: "proc-daemon",
            other: theirs::metrics_counter_increment,
        },
        call!(metrics_gauge_set, "by name", Ratio(0.5)),
        call!(metrics_histogram_record, "by name", Ratio(0.5)),
        call!(metrics_snapshot, "1 counter, 1 gauge, 2048 durations", Ratio(0.6)),
    ]
}

/// A body, and how often it is repeated between two looks at the clock.
pub(crate) struct Timed {
    body: Body,
    batch: u64,
}

impl Timed {
    /// Runs the body until it is warm, and finds out how long it takes.
    pub(crate) fn new(mut body: Body) -> Self {
        let mut batch = 1;
        loop {
            let begun = Instant::now();
            body(batch);
            if begun.elapsed() >= BATCH_MIN {
                return Self { body, batch };
            }
            batch *= 2;
        }
    }

    /// Repeats the body for so long; returns nanoseconds of processor time for one repetition. All
    /// of it is in this thread, so what else runs on the machine is not counted.
    pub(crate) fn turn(&mut self, length: Duration) -> f64 {
        let (begun, before) = (Instant::now(), thread_time());
        let mut times = 0_u64;
        while begun.elapsed() < length {
            (self.body)(self.batch);
            times += self.batch;
        }
        thread_time().saturating_sub(before).as_secs_f64() * 1e9 / times as f64
    }
}
