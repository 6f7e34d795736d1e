//! A configuration that changes while the daemon runs: `reload FILE`. HUP reads the file again;
//! with the feature `config-watch` a changed file is seen by itself.

use keepd::{Config, Daemon, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| keepd::DEFAULT_CONFIG_FILE.to_owned());
    let config = Config::load_from_file(&path).inspect_err(|error| println!("main: {error}"))?;
    println!("begins with {}", described(&config));
    Daemon::builder(config)
        .with_config_path(path)
        .with_reload(|config| println!("changes to {}", described(config)))
        .with_task("worker", |mut shutdown| async move {
            println!("worker: runs");
            shutdown.cancelled().await;
            Ok(())
        })
        .run()
        .await
}

fn described(config: &Config) -> String {
    format!("name {}, graceful {} ms", config.name, config.shutdown.graceful)
}
