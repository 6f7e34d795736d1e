//! The smallest daemon: one task that works until TERM or INT comes. A second signal does not wait
//! for it, a third ends the process.
//!
//! Run it with `cargo run --example hello` and press Ctrl-C.

use std::time::Duration;

use keepd::{Config, Daemon, Result};

#[tokio::main]
async fn main() -> Result<()> {
    // With "slowly" the task takes its time to clean up, and with "never" it does not end at all.
    let manner = std::env::args().nth(1).unwrap_or_default();
    let config = Config::builder().name("hello").graceful(Duration::from_secs(20)).build()?;
    let run = Daemon::builder(config)
        .with_task("greeter", move |mut shutdown| {
            let manner = manner.clone();
            async move {
                println!("greeter: hello");
                shutdown.cancelled().await;
                println!("greeter: asked to end");
                match manner.as_str() {
                    "slowly" => tokio::time::sleep(Duration::from_secs(1)).await,
                    "never" => std::future::pending().await,
                    _ => {}
                }
                println!("greeter: goodbye");
                Ok(())
            }
        })
        .run();
    run.await.inspect_err(|error| println!("main: {error}"))
}
