//! The code blocks of proc-daemon's reference, as a program that was written for it has them. Where
//! the reference shows what proc-daemon's code refuses, the block stands in the form that compiles
//! with proc-daemon, and beside it the reference's own form with `prelude`.

use keepd as proc_daemon;

#[test]
fn programmatic_configuration() -> proc_daemon::Result<()> {
    use proc_daemon::{Config, LogLevel};
    use std::time::Duration;

    let config = Config::builder()
        .name("production-daemon")
        .log_level(LogLevel::Info)
        .json_logging(true)
        .shutdown_timeout(Duration::from_secs(30))?
        .force_shutdown_timeout(Duration::from_secs(45))?
        .kill_timeout(Duration::from_secs(60))?
        .worker_threads(8)
        .enable_metrics(true)
        .hot_reload(true)
        .build()?;

    assert_eq!(config.shutdown_timeout(), Duration::from_secs(30));
    assert_eq!(config.worker_threads(), 8);
    assert!(config.is_json_logging() && !config.is_colored_logging());
    assert!(config.hot_reload);
    Ok(())
}

#[test]
fn the_chain_of_the_reference_needs_the_prelude_and_longer_times() -> proc_daemon::Result<()> {
    use proc_daemon::prelude::*;
    use std::time::Duration;

    let config = Config::builder()
        .name("my-daemon")
        .graceful(Duration::from_secs(30))
        .enable_metrics(true)
        .build()?;
    assert_eq!(config.kill_timeout(), Duration::from_secs(40));

    let refused = Config::builder()
        .name("my-daemon")
        .shutdown_timeout(Duration::from_secs(30))
        .enable_metrics(true)
        .build();
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("Force timeout must be greater than graceful timeout"), "{text}");
    Ok(())
}

#[cfg(feature = "toml")]
#[test]
fn file_based_configuration() -> proc_daemon::Result<()> {
    use proc_daemon::Config;

    let scratch = keepd_testkit::Scratch::new();
    let path = scratch.write("daemon.toml", "name = \"my-production-daemon\"\n");
    let config = Config::load_from_file(path)?;
    assert_eq!(config.name, "my-production-daemon");
    Ok(())
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_collection() {
    use proc_daemon::metrics::MetricsCollector;

    let collector = MetricsCollector::new();

    // Counters
    collector.increment_counter("requests_total", 1);

    // Gauges
    collector.set_gauge("active_connections", 42);

    // Histograms
    use std::time::Duration;
    collector.record_histogram("request_latency_ms", Duration::from_millis(150));

    // Snapshot
    let snapshot = collector.get_metrics();
    println!("Uptime: {:?}", snapshot.uptime);
    println!("Worker threads: {}", snapshot.worker_count);
    assert!(snapshot.worker_count > 0);
    assert_eq!(snapshot.gauges["active_connections"], 42);
}

#[cfg(all(feature = "tokio", target_os = "linux"))]
#[tokio::test]
async fn resource_tracking() -> proc_daemon::Result<()> {
    use proc_daemon::resources::ResourceTracker;
    use std::time::Duration;

    // As proc-daemon's code has it.
    let mut tracker = ResourceTracker::new(Duration::from_secs(1));
    tracker.start()?;
    let current = tracker.current_usage();
    println!("Memory: {} MB", current.memory_mb());
    println!("CPU: {} %", current.cpu_percent());
    println!("Threads: {}", current.thread_count());
    assert!(current.memory_mb() > 0.0);
    tracker.stop().await;

    // As its reference has it: in a task, and with fields.
    let tracker = ResourceTracker::default();
    let tracker_clone = tracker.clone();
    let task = tokio::spawn(async move { tracker_clone.run().await });
    while tracker.history().is_empty() {
        tokio::task::yield_now().await;
    }
    let current = tracker.current_usage();
    println!("Memory: {} MB", current.memory_mb);
    println!("CPU: {} %", current.cpu_percent);
    println!("Threads: {}", current.thread_count);
    assert!(current.thread_count > 0);
    task.abort();
    Ok(())
}

#[cfg(feature = "profiling")]
#[test]
fn cpu_profiling() -> proc_daemon::Result<()> {
    use proc_daemon::profiling::CpuProfiler;

    let scratch = keepd_testkit::Scratch::new();
    let path = scratch.path().join("cpu_profile.pb");
    let cpu = CpuProfiler::start()?;
    assert!(CpuProfiler::start().is_err());
    cpu.stop_to_file(&path)?;
    assert!(path.exists());
    Ok(())
}

#[cfg(feature = "heap-profiling")]
#[test]
fn heap_profiling_needs_the_allocator_and_says_so() {
    use proc_daemon::profiling::heap::HeapProfiler;

    // The program of this test has no line `heap_profiling_allocator!()`; the documentation of that
    // macro is the test with it.
    let scratch = keepd_testkit::Scratch::new();
    let path = scratch.path().join("heap_profile.json");
    let text = HeapProfiler::start(Some(path)).unwrap_err().to_string();
    assert!(text.contains("keepd::heap_profiling_allocator!();"), "{text}");
    assert!(std::env::var_os("DHAT_HEAP_PROFILE_PATH").is_none());
}

#[test]
fn the_channel_facade() {
    use proc_daemon::coord::chan;

    let (tx, rx) = chan::unbounded::<String>();
    tx.send("hello".into()).ok();

    // Non-blocking receive
    if let Ok(msg) = chan::try_recv(&rx) {
        println!("Got: {msg}");
        assert_eq!(msg, "hello");
    }
    assert_eq!(chan::try_recv(&rx), Err(chan::TryRecvError::Empty));
}

#[cfg(feature = "lockfree-coordination")]
#[test]
fn receivers_can_be_cloned_and_share_one_queue() {
    use proc_daemon::coord::chan;

    let (sender, receiver) = chan::unbounded::<u32>();
    let second = receiver.clone();
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!(chan::try_recv(&receiver), Ok(1));
    assert_eq!(chan::try_recv(&second), Ok(2));
    assert_eq!(chan::try_recv(&receiver), Err(chan::TryRecvError::Empty));
}

#[cfg(feature = "high-res-timing")]
#[test]
fn high_resolution_timing() {
    use proc_daemon::timing;

    let t0 = timing::now();
    let t1 = timing::now();
    let elapsed = t1.duration_since(t0);
    println!("Elapsed: {} nanoseconds", elapsed.as_nanos());
    assert!(t1 >= t0);
}

#[cfg(feature = "scheduler-hints")]
#[test]
fn scheduler_hints() -> proc_daemon::Result<()> {
    use proc_daemon::Config;
    use proc_daemon::scheduler;

    let allowed = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        text.lines().find(|line| line.starts_with("Cpus_allowed:")).map(str::to_owned)
    };
    let before = allowed();
    let config = Config::new()?;

    // Apply process-level hints (best-effort)
    scheduler::apply_process_hints(&config);

    // Apply runtime-level hints (currently noop)
    scheduler::apply_runtime_hints();

    // proc-daemon widened the mask that the operator had set.
    assert_eq!(allowed(), before);
    Ok(())
}

#[test]
fn errors_are_matched_and_built_as_before() {
    use proc_daemon::{Error, Result};

    fn fails() -> Result<()> {
        let _file = std::fs::File::open("/nonexistent")?;
        Ok(())
    }
    let error = fails().unwrap_err();
    assert!(error.is_retryable() && !error.is_timeout());
    assert_eq!(error.category(), "io");
    assert!(std::error::Error::source(&error).is_some());
    match error {
        Error::Io { message, .. } => assert!(message.contains("No such file"), "{message}"),
        other => panic!("{other}"),
    }
    let built = Error::Runtime {
        code: proc_daemon::ErrorCode::LockFailed,
        message: String::from("held"),
        source: None,
    };
    assert_eq!(built.to_string(), "Runtime error [LOCK_FAILED(6002)]: held");
}

#[test]
fn macros_and_constants() {
    let error = proc_daemon::daemon_error!(runtime, "{} of {}", 1, 2);
    assert!(error.to_string().ends_with(": 1 of 2"));
    assert_eq!(proc_daemon::DEFAULT_CONFIG_FILE, "daemon.toml");
    assert_eq!(proc_daemon::DEFAULT_SHUTDOWN_TIMEOUT_MS, 5000);
    assert!(!proc_daemon::VERSION.is_empty());
}
