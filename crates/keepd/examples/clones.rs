//! A daemon in the background of a program, and clones of it that see the same.

use keepd::{Daemon, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let daemon = Daemon::new()
        .with_task("one", |mut shutdown| async move {
            shutdown.cancelled().await;
            Ok(())
        })
        .with_task("two", |mut shutdown| async move {
            shutdown.cancelled().await;
            Ok(())
        })
        .build()?;
    let (first, second) = (daemon.clone(), daemon.clone());
    let running = daemon.start()?;
    let seen = |stats: keepd::daemon::DaemonStats| stats.subsystem_stats.running_subsystems;
    println!("running: {} {}", seen(first.get_stats()), seen(second.get_stats()));
    first.shutdown();
    running.wait().await?;
    println!("running: {} {}", seen(first.get_stats()), seen(second.get_stats()));
    println!("asked: {} {}", first.get_stats().is_shutdown, second.get_stats().is_shutdown);
    Ok(())
}
