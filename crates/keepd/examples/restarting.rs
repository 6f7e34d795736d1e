//! Subsystems that fail, each with another rule, side by side. It ends when nothing follows any
//! more.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keepd::restart::Restart;
use keepd::{Config, Daemon, Error, Result, ShutdownHandle, Subsystem};

/// How long one has to last to count as well again.
const RESET_AFTER: Duration = Duration::from_millis(1000);

struct Flaky {
    name: &'static str,
    restart: Restart,
    born: Instant,
    panics: bool,
    /// In which run it lasts for a while, counted from 1.
    lasting_run: u32,
    runs: AtomicU32,
}

impl Subsystem for Flaky {
    fn run(&self, _: ShutdownHandle) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        println!("{} starts at {} ms", self.name, self.born.elapsed().as_millis());
        let panics = self.panics;
        let lasts = self.runs.fetch_add(1, Ordering::Relaxed) + 1 == self.lasting_run;
        Box::pin(async move {
            if lasts {
                tokio::time::sleep(RESET_AFTER + RESET_AFTER / 2).await;
            }
            assert!(!panics, "out of luck");
            Err(Error::runtime("out of luck"))
        })
    }

    fn name(&self) -> &str {
        self.name
    }

    fn restart(&self) -> Restart {
        self.restart
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let ms = Duration::from_millis;
    let born = Instant::now();
    let flaky = |name, restart| Flaky {
        name,
        restart,
        born,
        panics: name == "panicking",
        lasting_run: if name == "recovering" { 4 } else { 0 },
        runs: AtomicU32::new(0),
    };
    let doubled = Restart::on_failure().backoff(ms(50), ms(400));
    let daemon = Daemon::builder(Config::new()?)
        .with_subsystem(flaky("never", Restart::never()))
        .with_subsystem(flaky("on-failure", Restart::on_failure().attempts(3)))
        .with_subsystem(flaky("backoff", doubled.attempts(5)))
        .with_subsystem(flaky("recovering", doubled.attempts(5).reset_after(RESET_AFTER)))
        .with_subsystem(flaky("panicking", Restart::on_failure().attempts(1)))
        .with_task("quiet", |_| async { Ok(()) })
        .exit_when_idle(true)
        .build()?;
    let stats = daemon.clone();
    daemon.run().await?;
    for one in stats.get_stats().subsystem_stats.subsystems {
        let error = one.last_error.unwrap_or_default();
        println!("{}: {} after {} restarts, {error}", one.name, one.state, one.restart_count);
    }
    Ok(())
}
