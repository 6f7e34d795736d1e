//! The code blocks of proc-daemon's reference that concern daemons, subsystems and their events, as
//! a program written for it has them; only where the reference and its code disagree is the form
//! that of the code.

use keepd as proc_daemon;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use proc_daemon::{Config, Daemon, RestartPolicy, Result, ShutdownHandle, Subsystem};

struct MyService {
    name: String,
}

impl Subsystem for MyService {
    fn run(
        &self,
        mut shutdown: ShutdownHandle,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let name = self.name.clone();
        Box::pin(async move {
            loop {
                tokio::select! {
                    _ = shutdown.cancelled() => {
                        tracing::info!("service {} shutting down", name);
                        break;
                    }
                    _ = work() => {
                        tracing::info!("service {} working", name);
                    }
                }
            }
            Ok(())
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::OnFailure
    }

    fn health_check(&self) -> Option<Box<dyn Fn() -> bool + Send + Sync>> {
        Some(Box::new(|| true))
    }
}

/// The reference sleeps for a second here, which `examples/pd_compat.rs` does.
async fn work() {
    std::future::pending::<()>().await;
}

/// Ends a daemon that a test started, as its user would with a signal.
async fn ends(daemon: Daemon) -> Result<()> {
    let running = daemon.start()?;
    assert!(running.stats().uptime.is_some());
    assert!(running.shutdown());
    running.wait().await
}

#[tokio::test]
async fn daemon_builder() -> Result<()> {
    let config = Config::builder()
        .name("my-daemon")
        .timeouts(Duration::from_secs(30), Duration::from_secs(45), Duration::from_secs(60))
        .enable_metrics(true)
        .build()?;
    let daemon = Daemon::builder(config)
        .with_task("main_service", |shutdown| {
            Box::pin(async move {
                let _ = shutdown.is_shutdown();
                Ok(())
            })
        })
        .build()?;
    ends(daemon).await
}

#[tokio::test]
async fn daemon_builder_with_the_chain_of_the_reference() -> Result<()> {
    use proc_daemon::prelude::*;

    let config = Config::builder()
        .name("my-daemon")
        .shutdown_timeout(Duration::from_secs(8))
        .enable_metrics(true)
        .build()?;
    ends(Daemon::builder(config).build()?).await
}

#[tokio::test]
async fn using_a_subsystem_with_the_daemon() -> Result<()> {
    let daemon = Daemon::builder(Config::new()?)
        .with_subsystem(MyService { name: "worker".into() })
        .with_subsystem_fn("another", |manager| {
            manager.register(MyService { name: "another".into() })
        })
        .build()?;
    let metadata = daemon.get_stats().subsystem_stats.subsystems;
    assert_eq!((metadata[0].id, metadata[1].id), (1, 2));
    assert_eq!(metadata[1].restart_policy, RestartPolicy::OnFailure);
    ends(daemon).await
}

#[tokio::test]
async fn configuration_hot_reload() -> Result<()> {
    let config = Config::builder().name("hot-reload-daemon").hot_reload(true).build()?;
    let daemon = Daemon::builder(config).build()?.start()?;
    let live = daemon.config_snapshot();
    assert_eq!(live.name, "hot-reload-daemon");
    println!("Current log level: {:?}", live.logging.level);
    daemon.shutdown();
    daemon.wait().await
}

#[tokio::test]
async fn subsystem_events() -> Result<()> {
    use proc_daemon::SubsystemManager;

    let manager = SubsystemManager::default();
    manager.enable_events();
    manager.register(MyService { name: "seen".into() });
    manager.start_all().await?;
    let mut seen = Vec::new();
    while let Some(ev) = manager.try_next_event() {
        match ev {
            proc_daemon::subsystem::SubsystemEvent::StateChanged { id, name, state, at } => {
                println!("[{at:?}] {id} {name} -> {state:?}");
                seen.push(state.to_string());
            }
        }
    }
    assert_eq!(seen, ["Starting", "Running"]);
    manager.stop_all().await
}

/// What `main` of the reference's last block does; a signal would end it.
#[tokio::test]
async fn error_handling() -> Result<()> {
    let config = Config::new()?;
    let daemon = Daemon::builder(config);
    let run = daemon.exit_when_idle(true).run();
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    is_send(run).await?;
    Ok(())
}

#[test]
fn everything_shared_is_send_and_sync() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Config>();
    check::<Daemon>();
    check::<ShutdownHandle>();
    check::<proc_daemon::SubsystemManager>();
    check::<proc_daemon::shutdown::ShutdownCoordinator>();
}
