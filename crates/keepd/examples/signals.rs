//! Signals as the program wants them: INT ends it, USR1 and WINCH are told to it, and TERM keeps
//! the meaning that it has without a handler.

use keepd::{Daemon, Result, SignalConfig};

const SIGUSR1: i32 = 10;
const SIGWINCH: i32 = 28;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let signals = SignalConfig::new()
        .without_sigterm()
        .with_sigusr1()
        .with_custom_handler(SIGWINCH, "the window changed");
    Daemon::new()
        .with_signal_config(signals)
        .on_signal(SIGUSR1, |event| println!("told of signal {}", event.signal))
        .on_signal(SIGWINCH, |event| println!("told of signal {}", event.signal))
        .with_task("worker", |mut shutdown| async move {
            println!("worker: runs");
            shutdown.cancelled().await;
            Ok(())
        })
        .run()
        .await
}
