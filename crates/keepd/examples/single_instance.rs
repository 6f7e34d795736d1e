//! One instance at a time: `single_instance PID_FILE`. A second one ends at once and says who runs;
//! a file that a killed one left behind is taken over.

use keepd::{Daemon, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "single_instance.pid".to_owned());
    let run = Daemon::new()
        .with_pid_file(path)
        .with_task("worker", |mut shutdown| async move {
            println!("worker: runs");
            shutdown.cancelled().await;
            Ok(())
        })
        .run();
    run.await.inspect_err(|error| println!("main: {error}"))
}
