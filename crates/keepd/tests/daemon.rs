//! The daemon as a part of a program: start, loop, reload and end. What needs a process of its own,
//! signals above all, is in `examples.rs`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keepd::daemon::KillAction;
use keepd::subsystem::SubsystemState;
use keepd::{
    Config, Daemon, Environment, Error, ErrorCode, Result, ShutdownHandle, ShutdownReason,
};
use keepd_testkit::Scratch;
use tokio::net::UnixDatagram;
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(60);

async fn until_asked(mut shutdown: ShutdownHandle) -> Result<()> {
    shutdown.cancelled().await;
    Ok(())
}

fn config(graceful: u64, force: u64, kill: u64) -> Config {
    let millis = Duration::from_millis;
    Config::builder().timeouts(millis(graceful), millis(force), millis(kill)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defect_2_a_shutdown_from_code_ends_the_run_with_signals_on() {
    let daemon = Daemon::builder(Config::default()).with_task("a", until_asked).build().unwrap();
    let clone = daemon.clone();
    let running = daemon.start().unwrap();
    assert!(clone.is_running());
    assert!(clone.shutdown());
    assert!(!clone.shutdown(), "only the first request counts");
    timeout(Duration::from_secs(5), running.wait()).await.expect("it ends").unwrap();
    assert!(!clone.is_running());
}

#[tokio::test(start_paused = true)]
async fn defect_7_a_clone_of_the_daemon_has_the_same_numbers() {
    let daemon = Daemon::builder(Config::default())
        .with_task("a", until_asked)
        .without_signals()
        .build()
        .unwrap();
    assert_eq!(daemon.get_stats().uptime, None);
    let clone = daemon.clone();
    let running = daemon.start().unwrap();
    let (ours, theirs) = (clone.get_stats(), running.stats());
    assert_eq!(ours.subsystem_stats.running_subsystems, 1);
    assert_eq!(theirs.subsystem_stats.running_subsystems, 1);
    assert_eq!((ours.uptime.is_some(), ours.is_shutdown), (true, false));
    let error = clone.clone().run().await.unwrap_err();
    assert_eq!(error.category(), "state", "a daemon runs once");
    clone.shutdown();
    running.wait().await.unwrap();
    assert_eq!(clone.get_stats().shutdown_reason, Some(ShutdownReason::Requested));
}

#[tokio::test(start_paused = true)]
async fn defect_8_a_run_whose_subsystems_all_failed_is_no_success() {
    let fails = |_| async { Err::<(), _>(Error::runtime("no disk")) };
    let run = Daemon::new().with_task("a", fails).without_signals().exit_when_idle(true).run();
    let error = run.await.unwrap_err();
    assert_eq!(error.category(), "subsystem");
    assert!(error.to_string().contains("no disk"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_critical_one_takes_all_along_and_any_one_with_fail_fast() {
    let fails = |_| async { panic!("lost") };
    for (critical, fail_fast, is_over) in
        [(true, false, true), (false, true, true), (false, false, false)]
    {
        let mut builder = Daemon::new()
            .with_task("heart", fails)
            .with_task("good", until_asked)
            .without_signals()
            .fail_fast(fail_fast);
        if critical {
            builder = builder.with_critical("heart");
        }
        let daemon = builder.build().unwrap();
        let result = timeout(LONG, daemon.clone().run()).await;
        assert_eq!(result.is_ok(), is_over, "{critical} {fail_fast}");
        if let Ok(result) = result {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("panicked: lost"), "{error}");
            assert_eq!(daemon.get_stats().shutdown_reason, Some(ShutdownReason::Error));
        }
    }
    let error = Daemon::new().with_critical("nobody").build().unwrap_err();
    assert!(error.is_config_error() && error.to_string().contains("\"nobody\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_within_the_graceful_time_is_waited_for() {
    let daemon = Daemon::builder(config(5000, 10_000, 15_000))
        .with_task("slow", |mut shutdown| async move {
            shutdown.cancelled().await;
            // The paused clock passes.
            let _ = timeout(Duration::from_secs(3), std::future::pending::<()>()).await;
            Ok(())
        })
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.start().unwrap();
    let begun = Instant::now();
    running.shutdown();
    running.wait().await.unwrap();
    assert_eq!(begun.elapsed().as_millis() / 100, 30);
}

#[tokio::test(start_paused = true)]
async fn one_that_ignores_the_request_is_aborted_and_named() {
    let daemon = Daemon::builder(config(1000, 2000, 3000))
        .with_task("deaf", |_| std::future::pending())
        .with_task("good", until_asked)
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.start().unwrap();
    let begun = Instant::now();
    running.shutdown();
    let error = running.wait().await.unwrap_err();
    assert_eq!(begun.elapsed().as_millis() / 100, 20);
    assert_eq!(error.code(), ErrorCode::ShutdownTimeout);
    assert!(error.to_string().contains("deaf") && !error.to_string().contains("good"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_one_that_blocks_its_thread_is_a_timeout_and_no_hang() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let entered = Arc::new(AtomicBool::new(false));
    let inside = Arc::clone(&entered);
    let daemon = Daemon::builder(config(10, 20, 30))
        .with_task("stuck", move |_| {
            let (released, inside) = (Arc::clone(&released), Arc::clone(&inside));
            async move {
                inside.store(true, Ordering::SeqCst);
                let _ = released.lock().unwrap().recv();
                Ok(())
            }
        })
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.start().unwrap();
    let wait = async {
        while !entered.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, wait).await.expect("the task begins");
    running.shutdown();
    let error = timeout(LONG, running.wait()).await.expect("no hang").unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("stuck"), "{error}");
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_ends_what_it_started() {
    let daemon = Daemon::new().with_task("a", until_asked).without_signals().build().unwrap();
    let stats = daemon.clone();
    assert!(timeout(LONG, daemon.run()).await.is_err(), "it waits for a shutdown");
    timeout(LONG, async {
        while stats.get_stats().subsystem_stats.running_subsystems > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the task ends");
}

#[tokio::test]
async fn the_pid_file_is_held_while_it_runs_and_gone_afterwards() {
    let scratch = Scratch::new();
    let path = scratch.path().join("daemon.pid");
    fs::write(&path, "left by a killed process, and no number").unwrap();
    let build = || {
        let builder = Daemon::new().with_task("a", until_asked).without_signals();
        builder.with_pid_file(&path).build().unwrap()
    };
    let running = build().start().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    let error = build().start().unwrap_err();
    assert_eq!(error.code(), ErrorCode::AlreadyRunning);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    running.shutdown();
    running.wait().await.unwrap();
    assert!(!path.exists());
}

/// Waits for one message of the protocol that begins like this.
async fn message(listener: &UnixDatagram, start: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let received = timeout(LONG, listener.recv(&mut buffer));
        let count = received.await.unwrap_or_else(|_| panic!("no {start}")).unwrap();
        let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        if text.starts_with(start) {
            return text;
        }
    }
}

fn supervised(path: PathBuf, watchdog: Option<&'static str>) -> Environment {
    let find = move |name: &str| match name {
        "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
        "WATCHDOG_USEC" => watchdog.map(Into::into),
        _ => None,
    };
    Environment::from_variables(find, std::process::id())
}

#[tokio::test]
async fn a_supervisor_hears_of_ready_reload_and_stop() {
    let scratch = Scratch::new();
    let socket = scratch.path().join("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    let file = scratch.path().join("daemon.toml");
    fs::write(&file, "[shutdown]\ngraceful = 7000\n").unwrap();
    let (sender, mut reloaded) = tokio::sync::mpsc::unbounded_channel();
    let daemon = Daemon::new()
        .with_task("a", until_asked)
        .with_environment(supervised(socket, None))
        .with_config_path(&file)
        .with_reload(move |config| sender.send(config.shutdown.graceful).unwrap())
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.start().unwrap();
    let ready = message(&listener, "READY=1").await;
    let pid = std::process::id();
    assert_eq!(ready, format!("READY=1\nMAINPID={pid}\nSTATUS=1 subsystems running"));

    running.reload();
    message(&listener, "RELOADING=1\nMONOTONIC_USEC=").await;
    assert!(message(&listener, "READY=1").await.ends_with("configuration reloaded"));
    assert_eq!(reloaded.recv().await, Some(7000));
    assert_eq!(running.config_snapshot().shutdown.graceful, 7000);

    fs::write(&file, "[shutdown]\ngracefull = 1\n").unwrap();
    running.reload();
    let refused = message(&listener, "READY=1").await;
    assert!(refused.contains("cannot reload") && refused.contains("graceful"), "{refused}");
    assert_eq!(running.config_snapshot().shutdown.graceful, 7000, "the old one stays");

    running.shutdown();
    message(&listener, "STOPPING=1\nEXTEND_TIMEOUT_USEC=").await;
    running.wait().await.unwrap();
}

#[tokio::test]
async fn a_reload_without_a_file_keeps_what_the_program_has_set() {
    let scratch = Scratch::new();
    let (sender, mut reloaded) = tokio::sync::mpsc::unbounded_channel();
    let daemon = Daemon::builder(Config::builder().name("mine").build().unwrap())
        .with_task("a", until_asked)
        .with_config_path(scratch.path().join("missing.toml"))
        .with_reload(move |config| sender.send(config.name.clone()).unwrap())
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.start().unwrap();
    running.reload();
    assert_eq!(reloaded.recv().await.as_deref(), Some("mine"));
    running.shutdown();
    running.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_every_half_time() {
    let scratch = Scratch::new();
    let socket = scratch.path().join("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    let daemon = Daemon::new()
        .with_task("a", until_asked)
        .with_environment(supervised(socket, Some("10000000")))
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.start().unwrap();
    message(&listener, "WATCHDOG=1").await;
    let begun = Instant::now();
    message(&listener, "WATCHDOG=1").await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    running.shutdown();
    running.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn defect_20_a_reload_applies_what_can_change_live() {
    let scratch = Scratch::new();
    let file = scratch.path().join("daemon.toml");
    fs::write(&file, "[restart.flaky]\nwhen = \"failure\"\ndelay = 60000\nmax_delay = 60000\n")
        .unwrap();
    let fail = Arc::new(tokio::sync::Notify::new());
    let failing = Arc::clone(&fail);
    let (sender, mut reloaded) = tokio::sync::mpsc::unbounded_channel();
    let daemon = Daemon::new()
        .with_task("flaky", move |_| {
            let failing = Arc::clone(&failing);
            async move {
                failing.notified().await;
                Err(Error::runtime("as told"))
            }
        })
        .with_config_path(&file)
        .with_reload(move |_| sender.send(()).unwrap())
        .without_signals()
        .build()
        .unwrap();
    let running = daemon.start().unwrap();
    running.reload();
    reloaded.recv().await.unwrap();
    fail.notify_one();
    let state = || running.stats().subsystem_stats.subsystems[0].state;
    timeout(LONG, async {
        while state() != SubsystemState::Restarting {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the new rule holds");
    running.shutdown();
    running.wait().await.unwrap();
}

#[cfg(not(feature = "json-logs"))]
#[test]
fn defect_14_json_without_its_feature_is_an_error_of_build() {
    let config = Config::builder().json_logging(true).build().unwrap();
    let error = Daemon::builder(config).build().unwrap_err();
    assert!(error.is_config_error() && error.to_string().contains("json-logs"), "{error}");
}

#[test]
fn without_a_runtime_of_the_caller_there_is_one_of_our_own() {
    let mut config = config(100, 200, 300);
    config.performance.worker_threads = 1;
    config.performance.thread_pinning = true;
    let quick = |_| async { Ok(()) };
    let daemon = Daemon::builder(config)
        .with_task("quick", quick)
        .exit_when_idle(true)
        .on_kill(KillAction::Error)
        .build()
        .unwrap();
    daemon.run_blocking().unwrap();
    let daemon = Daemon::new().build().unwrap();
    assert_eq!(daemon.start().unwrap_err().code(), ErrorCode::MissingRuntime);
}
