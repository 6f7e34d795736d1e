//! What happens to tasks that do not end when they are asked: named after the graceful time,
//! aborted after the force time, and the process ends after the kill time.
//!
//! `deadlines deaf` has one that never looks at its handle, `deadlines stuck` also one that blocks
//! its thread.

use std::time::Duration;

use keepd::{Config, Daemon, Result};

fn main() -> Result<()> {
    let manner = std::env::args().nth(1).unwrap_or_default();
    let ms = Duration::from_millis;
    let mut config = Config::builder().timeouts(ms(300), ms(600), ms(900)).build()?;
    config.performance.worker_threads = 2;
    let mut builder = Daemon::builder(config)
        .with_task("good", |mut shutdown| async move {
            shutdown.cancelled().await;
            Ok(())
        })
        .with_task("deaf", |_| async {
            println!("deaf: runs");
            std::future::pending().await
        });
    if let Some(path) = std::env::args().nth(2) {
        builder = builder.with_pid_file(path);
    }
    if manner == "stuck" {
        builder = builder.with_task("stuck", |_| async {
            println!("stuck: runs");
            loop {
                std::thread::park();
            }
        });
    }
    builder.build()?.run_blocking().inspect_err(|error| println!("main: {error}"))
}
