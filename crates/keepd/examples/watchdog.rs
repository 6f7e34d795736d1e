//! A daemon whose main loop blocks: USR1 does it. Its supervisor hears no more of it and can act;
//! run by itself it feeds the watchdog without a line of code.

use keepd::{Daemon, Result, SignalConfig};
use tokio::sync::mpsc;

const SIGUSR1: i32 = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = std::sync::Mutex::new(Some(receiver));
    Daemon::new()
        .with_signal_config(SignalConfig::new().with_sigusr1())
        .on_signal(SIGUSR1, move |_| {
            // Whoever listens has blocked already if this fails.
            let _ = sender.send(());
        })
        .with_task("worker", move |mut shutdown| {
            let receiver = receiver.lock().ok().and_then(|mut receiver| receiver.take());
            async move {
                let Some(mut receiver) = receiver else { return Ok(()) };
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    _ = receiver.recv() => println!("worker: blocks"),
                }
                loop {
                    std::thread::park();
                }
            }
        })
        .run()
        .await
}
