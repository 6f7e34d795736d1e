//! What whoever started a daemon hears of it, and the numbers that it keeps of itself. The clock is
//! paused where times matter.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keepd::{
    Config, Daemon, Environment, Error, ErrorCode, RestartPolicy, Result, ShutdownHandle,
    ShutdownReason, Subsystem,
};
use keepd_testkit::Scratch;
use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

/// Lets so much time pass on the paused clock.
async fn pass(duration: Duration) {
    let _ = timeout(duration, std::future::pending::<()>()).await;
}

async fn until_asked(mut shutdown: ShutdownHandle) -> Result<()> {
    shutdown.cancelled().await;
    Ok(())
}

/// A supervisor that listens.
struct Supervisor {
    listener: UnixDatagram,
    /// The same socket, for what is there without waiting.
    present: std::os::unix::net::UnixDatagram,
    path: PathBuf,
    _scratch: Scratch,
}

impl Supervisor {
    fn new() -> Self {
        let scratch = Scratch::new();
        let path = scratch.path().join("notify");
        let present = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        present.set_nonblocking(true).unwrap();
        let listener = UnixDatagram::from_std(present.try_clone().unwrap()).unwrap();
        Self { listener, present, path, _scratch: scratch }
    }

    fn environment(&self, watchdog: Option<&'static str>) -> Environment {
        let path = self.path.clone();
        let find = move |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
            "WATCHDOG_USEC" => watchdog.map(Into::into),
            _ => None,
        };
        Environment::from_variables(find, std::process::id())
    }

    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let received = timeout(LONG, self.listener.recv(&mut buffer));
        let count = received.await.expect("a message comes").unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    /// Waits for a message that begins like this.
    async fn hears(&self, start: &str) -> String {
        loop {
            let message = self.next().await;
            if message.starts_with(start) {
                return message;
            }
        }
    }

    /// Returns everything that was said up to now.
    fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| self.present.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()))
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn ready_is_said_when_the_wait_is_over_and_not_before() {
    let supervisor = Supervisor::new();
    let (gate, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (opened, waits) = (Arc::clone(&gate), Arc::clone(&asked));
    let scratch = Scratch::new();
    let (sender, mut reloaded) = tokio::sync::mpsc::unbounded_channel();
    let daemon = Daemon::new()
        .with_task("a", until_asked)
        .with_environment(supervisor.environment(None))
        .with_config_path(scratch.path().join("missing.toml"))
        .with_reload(move |_| sender.send(()).unwrap())
        .ready_when(move || async move {
            waits.notify_one();
            opened.notified().await;
            Ok(())
        })
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.start().unwrap();
    timeout(LONG, asked.notified()).await.unwrap();
    // The daemon works meanwhile, and a reload does not say ready either.
    running.reload();
    timeout(LONG, reloaded.recv()).await.unwrap();
    let before = supervisor.heard();
    assert!(before[0].starts_with("RELOADING=1"), "{before:?}");
    assert!(before.iter().all(|message| !message.contains("READY=1")), "{before:?}");
    gate.notify_one();
    supervisor.hears("READY=1").await;
    running.shutdown();
    running.wait().await.unwrap();
}

#[tokio::test]
async fn a_wait_that_fails_ends_the_daemon_and_its_error_is_told() {
    let supervisor = Supervisor::new();
    let daemon = Daemon::new()
        .with_task("a", until_asked)
        .with_environment(supervisor.environment(None))
        .ready_when(|| async { Err(Error::runtime("the store is empty").with_exit_code(42)) })
        .without_signals()
        .build()
        .unwrap();
    let error = timeout(LONG, daemon.clone().run()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("the store is empty"), "{error}");
    assert_eq!(daemon.get_stats().shutdown_reason, Some(ShutdownReason::Error));
    let heard = supervisor.heard();
    assert!(heard.iter().all(|message| !message.contains("READY=1")), "{heard:?}");
    assert!(heard.last().unwrap().ends_with("\nEXIT_STATUS=42"), "{heard:?}");
}

#[tokio::test]
async fn a_start_that_fails_is_told_with_the_number_of_the_system() {
    let supervisor = Supervisor::new();
    let scratch = Scratch::new();
    let daemon = Daemon::new()
        .with_task("a", until_asked)
        .with_environment(supervisor.environment(None))
        // A folder cannot be written.
        .with_pid_file(scratch.path())
        .without_signals()
        .build()
        .unwrap();
    let error = daemon.run().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::IoError);
    let [message] = <[String; 1]>::try_from(supervisor.heard()).unwrap();
    assert!(message.starts_with("STATUS=I/O error"), "{message}");
    assert!(message.ends_with("\nEXIT_STATUS=111\nERRNO=21"), "{message}");
}

/// A subsystem whose health a test sets.
struct Patient {
    healthy: Arc<AtomicBool>,
    critical: bool,
}

impl Subsystem for Patient {
    fn run(&self, shutdown: ShutdownHandle) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(until_asked(shutdown))
    }

    fn name(&self) -> &str {
        "patient"
    }

    fn health_check(&self) -> Option<Box<dyn Fn() -> bool + Send + Sync>> {
        let healthy = Arc::clone(&self.healthy);
        Some(Box::new(move || healthy.load(Ordering::SeqCst)))
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Never
    }

    fn critical(&self) -> bool {
        self.critical
    }
}

#[tokio::test(start_paused = true)]
async fn bad_health_that_nothing_restarts_is_a_status_and_silence_of_the_watchdog() {
    for critical in [false, true] {
        let supervisor = Supervisor::new();
        let healthy = Arc::new(AtomicBool::new(true));
        let daemon = Daemon::new()
            .with_subsystem(Patient { healthy: Arc::clone(&healthy), critical })
            .with_environment(supervisor.environment(Some("2000000")))
            .without_signals()
            .build()
            .unwrap();
        let running = daemon.start().unwrap();
        supervisor.hears("WATCHDOG=1").await;
        healthy.store(false, Ordering::SeqCst);
        let status = supervisor.hears("STATUS=").await;
        assert_eq!(status, "STATUS=1 subsystems running, 1 unhealthy: patient");
        pass(Duration::from_secs(10)).await;
        let is_silent = !supervisor.heard().iter().any(|message| message == "WATCHDOG=1");
        assert_eq!(is_silent, critical);
        healthy.store(true, Ordering::SeqCst);
        assert_eq!(supervisor.hears("STATUS=").await, "STATUS=1 subsystems running");
        supervisor.hears("WATCHDOG=1").await;
        running.shutdown();
        running.wait().await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn the_process_is_measured_while_the_daemon_runs() {
    let mut config = Config::default();
    config.monitoring.metrics_interval_ms = 500;
    let daemon = Daemon::builder(config).with_task("a", until_asked).without_signals();
    let daemon = daemon.build().unwrap();
    assert!(daemon.resources().history().is_empty(), "nothing is measured before the start");
    let running = daemon.clone().start().unwrap();
    pass(Duration::from_millis(2100)).await;
    // The first at the start, one with the first tick, and four after each half a second.
    assert_eq!(daemon.resources().history().len(), 6);
    assert!(running.daemon().resources().current_usage().memory_bytes() > 0);
    running.shutdown();
    running.wait().await.unwrap();

    let mut config = Config::default();
    config.monitoring.track_resources = false;
    let daemon = Daemon::builder(config).without_signals().build().unwrap();
    let running = daemon.clone().start().unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(daemon.resources().history().is_empty());
    running.shutdown();
    running.wait().await.unwrap();
}

#[cfg(all(target_os = "linux", feature = "metrics"))]
#[tokio::test(start_paused = true)]
async fn the_numbers_of_a_daemon_are_in_its_collector() {
    use keepd::metrics::MetricsCollector;

    let collector = MetricsCollector::new();
    let policy = RestartPolicy::ExponentialBackoff {
        initial_delay: Duration::from_millis(10),
        max_delay: Duration::from_millis(10),
        max_attempts: 3,
    };
    let daemon = Daemon::new()
        .with_task("good", until_asked)
        .with_subsystem(Failing(policy))
        .with_metrics(collector.clone())
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.clone().start().unwrap();
    pass(Duration::from_millis(3500)).await;
    let snapshot = daemon.metrics().get_metrics();
    let gauge = |name: &str| snapshot.gauges[name];
    assert_eq!(gauge("daemon.subsystems"), 2);
    assert_eq!(gauge("daemon.subsystems_running"), 1);
    assert_eq!(gauge("daemon.subsystems_failed"), 1);
    assert_eq!(gauge("daemon.subsystems_unhealthy"), 0);
    assert_eq!(snapshot.counters["daemon.restarts_total"], 3);
    assert_eq!(snapshot.counters["proc.samples_total"], 5);
    assert!(collector.get_metrics().gauges["proc.memory_bytes"] > 0, "it is the program's own");
    let text = snapshot.render_prometheus();
    assert!(text.contains("daemon_restarts_total 3"), "{text}");
    running.shutdown();
    running.wait().await.unwrap();

    let config = Config::builder().enable_metrics(false).build().unwrap();
    let daemon = Daemon::builder(config).without_signals().build().unwrap();
    let running = daemon.clone().start().unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(daemon.metrics().get_metrics().gauges.is_empty());
    running.shutdown();
    running.wait().await.unwrap();
}

#[cfg(all(target_os = "linux", feature = "metrics"))]
struct Failing(RestartPolicy);

#[cfg(all(target_os = "linux", feature = "metrics"))]
impl Subsystem for Failing {
    fn run(&self, _: ShutdownHandle) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(async { Err(Error::runtime("as told")) })
    }

    fn name(&self) -> &str {
        "failing"
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.0
    }
}

#[test]
fn what_was_passed_to_us_is_never_passed_on() {
    let mut command = std::process::Command::new("/usr/bin/env");
    for name in Environment::VARIABLES {
        command.env(name, "1");
    }
    let output = Environment::hide_from(&mut command).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for name in Environment::VARIABLES {
        assert!(!text.contains(name), "{text}");
    }
}
