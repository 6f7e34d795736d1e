//! A subsystem that looks alive and is not: its health check says so, and it is started again. The
//! same with the rule "never" is only reported.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keepd::{Config, Daemon, RestartPolicy, Result, ShutdownHandle, Subsystem};

struct Stuck {
    name: &'static str,
    policy: RestartPolicy,
    answers: Arc<AtomicU32>,
}

impl Subsystem for Stuck {
    fn run(
        &self,
        mut shutdown: ShutdownHandle,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        println!("{}: starts after {} answers", self.name, self.answers.load(Ordering::SeqCst));
        Box::pin(async move {
            shutdown.cancelled().await;
            Ok(())
        })
    }

    fn name(&self) -> &str {
        self.name
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.policy
    }

    fn health_check(&self) -> Option<Box<dyn Fn() -> bool + Send + Sync>> {
        let answers = Arc::clone(&self.answers);
        // Well at first, then not for three answers, then well again.
        Some(Box::new(move || !(1..4).contains(&answers.fetch_add(1, Ordering::SeqCst))))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let stuck = |name, policy| Stuck { name, policy, answers: Arc::default() };
    let config = Config::builder().health_check_interval(Duration::from_millis(50)).build()?;
    Daemon::builder(config)
        .with_subsystem(stuck("restarted", RestartPolicy::OnFailure))
        .with_subsystem(stuck("reported", RestartPolicy::Never))
        .run()
        .await
}
