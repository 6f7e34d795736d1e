//! A program that was written for proc-daemon: only the name of the crate is another.

use keepd as proc_daemon;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use proc_daemon::{Config, Daemon, LogLevel, RestartPolicy, Result, ShutdownHandle, Subsystem};

struct Worker;

impl Subsystem for Worker {
    fn run(
        &self,
        mut shutdown: ShutdownHandle,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(async move {
            println!("worker: started");
            loop {
                tokio::select! {
                    _ = shutdown.cancelled() => break,
                    _ = tokio::time::sleep(Duration::from_secs(1)) => println!("worker: working"),
                }
            }
            println!("worker: {:?}", shutdown.shutdown_reason());
            Ok(())
        })
    }

    fn name(&self) -> &str {
        "worker"
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::ExponentialBackoff {
            initial_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(30),
            max_attempts: 5,
        }
    }

    fn health_check(&self) -> Option<Box<dyn Fn() -> bool + Send + Sync>> {
        Some(Box::new(|| true))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::builder()
        .name("compatible")
        .log_level(LogLevel::Warn)
        .shutdown_timeout(Duration::from_secs(3))?
        .worker_threads(2)
        .build()?;
    Daemon::builder(config)
        .with_subsystem(Worker)
        .with_task("ticker", |mut shutdown| async move {
            shutdown.cancelled().await;
            Ok(())
        })
        .run()
        .await
}
