//! Signals as the program wants them: INT ends it, USR1 and WINCH are told to it, and TERM keeps
//! the meaning that it has without a handler.
//!
//! `signals early` gives itself INT as the first thing that its worker does.

use keepd::{Daemon, Result, SignalConfig};
use rustix::process::{Signal, getpid, kill_process};

const SIGUSR1: i32 = 10;
const SIGWINCH: i32 = 28;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let is_early = std::env::args().nth(1).as_deref() == Some("early");
    let signals = SignalConfig::new()
        .without_sigterm()
        .with_sigusr1()
        .with_custom_handler(SIGWINCH, "the window changed");
    Daemon::new()
        .with_signal_config(signals)
        .on_signal(SIGUSR1, |event| println!("told of signal {}", event.signal))
        .on_signal(SIGWINCH, |event| println!("told of signal {}", event.signal))
        .with_task("worker", move |mut shutdown| async move {
            println!("worker: runs");
            if is_early {
                kill_process(getpid(), Signal::INT).map_err(std::io::Error::from)?;
            }
            shutdown.cancelled().await;
            println!("worker: {:?}", shutdown.shutdown_reason());
            Ok(())
        })
        .run()
        .await
}
