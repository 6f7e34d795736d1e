//! A server that is the same under keepd, systemd, s6 and alone, without an `if`: it says when it
//! is ready, feeds a watchdog where one is wanted, and takes its socket from whoever started it, or
//! binds one.

use keepd::{Config, Daemon, Error, Result, sockets};
use tokio::io::AsyncWriteExt;

#[tokio::main]
async fn main() -> Result<()> {
    let listener = sockets::take_or_bind("web", "127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    let config = Config::builder().name("supervised").build()?;
    Daemon::builder(config)
        .with_task("web", move |shutdown| {
            let listener = listener.try_clone();
            async move { serve(listener?, shutdown).await }
        })
        .run()
        .await
}

async fn serve(listener: std::net::TcpListener, mut end: keepd::ShutdownHandle) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            accepted = listener.accept() => {
                let (mut connection, _) = accepted.map_err(Error::from)?;
                connection.write_all(b"hello\n").await?;
            }
        }
    }
}
