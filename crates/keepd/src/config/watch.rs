//! Watching the configuration file.
//!
//! The folder is watched, not the file: a file that is replaced by renaming, as editors and
//! deployments do, is another file, and one that does not exist yet cannot be watched.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::files;
use super::load::ConfigLoader;
use super::types::Config;
use crate::error::{Error, ErrorCode, Result};

/// Events within this time are one change: a program that writes a file makes several.
const JOIN: Duration = Duration::from_millis(100);

/// Watches a configuration file until it is dropped.
///
/// See [`Config::watch_file`].
#[derive(Debug)]
pub struct ConfigWatcher {
    /// Dropped first, which ends the thread.
    watcher: Option<RecommendedWatcher>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for ConfigWatcher {
    fn drop(&mut self) {
        self.watcher = None;
        if let Some(thread) = self.thread.take() {
            // A callback may drop the watcher, and cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                // The callback's panic was printed by its thread; there is nothing to add.
                drop(thread.join());
            }
        }
    }
}

impl Config {
    /// Watches a file and its drop-ins, and calls `on_change` with what is loaded after each
    /// change: as [`Config::load_from_file`], and checked by [`Config::validate`]. The caller keeps
    /// the old configuration when it is called with an error.
    ///
    /// The file need not exist, but its folder must. Changes within 100 ms are one; one that leaves
    /// the bytes of all files as they were is none. The callback runs on a thread of its own.
    ///
    /// # Errors
    ///
    /// An input or output error if the folder cannot be watched.
    ///
    /// ```
    /// use keepd::Config;
    /// use keepd::config::LiveConfig;
    ///
    /// # fn main() -> keepd::Result<()> {
    /// # let folder = std::env::temp_dir();
    /// let live = LiveConfig::new(Config::default());
    /// let shared = live.clone();
    /// let watcher = Config::watch_file(folder.join("daemon.toml"), move |loaded| {
    ///     match loaded.and_then(|config| shared.replace(config)) {
    ///         Ok(changes) => tracing::info!(?changes, "the configuration is in force"),
    ///         Err(error) => tracing::error!(%error, "the old configuration stays in force"),
    ///     }
    /// })?;
    /// assert_eq!(live.snapshot().name, "proc-daemon");
    /// drop(watcher);
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_file<F, P>(path: P, on_change: F) -> Result<ConfigWatcher>
    where
        F: Fn(Result<Self>) + Send + Sync + 'static,
        P: AsRef<Path>,
    {
        ConfigLoader::new().file(path.as_ref()).watch(on_change)
    }
}

impl ConfigLoader {
    /// Watches the file of this loader as [`Config::watch_file`] does, and loads with all its
    /// sources: what was [set](ConfigLoader::set) in code survives a reload.
    ///
    /// # Errors
    ///
    /// An invalid state if the loader has no file, and an input or output error if its folder
    /// cannot be watched.
    ///
    /// ```
    /// use keepd::config::ConfigLoader;
    ///
    /// # fn main() -> keepd::Result<()> {
    /// # let folder = std::env::temp_dir();
    /// let loader = ConfigLoader::new().file(folder.join("daemon.toml")).set("name", "web");
    /// let watcher = loader.watch(|loaded| tracing::info!(?loaded, "the file has changed"))?;
    /// # drop(watcher);
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch<F>(mut self, on_change: F) -> Result<ConfigWatcher>
    where
        F: Fn(Result<Config>) + Send + 'static,
    {
        let Some(path) = self.path().map(Path::to_owned) else {
            return Err(Error::invalid_state("cannot watch a configuration without a file"));
        };
        watch(path, move || self.load(), on_change)
    }
}

/// Watches the files of a loader.
fn watch<L, F>(path: PathBuf, mut load: L, on_change: F) -> Result<ConfigWatcher>
where
    L: FnMut() -> Result<Config> + Send + 'static,
    F: Fn(Result<Config>) + Send + 'static,
{
    let folder = folder_of(&path);
    let refused = |error: notify::Error| {
        Error::io_with_source(format!("cannot watch {folder:?}: {error}"), error)
    };
    let (sender, receiver) = sync_channel(1);
    let mut watcher = notify::recommended_watcher(move |_| wake(&sender)).map_err(refused)?;
    watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(refused)?;
    let drop_ins = files::drop_in_folder(&path);
    if drop_ins.is_dir() {
        watcher.watch(&drop_ins, RecursiveMode::NonRecursive).map_err(refused)?;
    }
    // After the watch began, so that no change falls between.
    let seen = Seen::now(&path);
    let run = move || follow(&receiver, &path, seen, &mut load, &on_change);
    let thread = std::thread::Builder::new().name("keepd-config".to_owned()).spawn(run);
    let thread = thread.map_err(|error| {
        let message = format!("cannot start the thread that watches: {error}");
        Error::runtime_with_code(ErrorCode::RuntimeSpawnError, message)
    })?;
    Ok(ConfigWatcher { watcher: Some(watcher), thread: Some(thread) })
}

/// Says that something happened. A full queue says so already.
fn wake(sender: &SyncSender<()>) {
    // The other end is gone only while the watcher is dropped.
    let _ = sender.try_send(());
}

/// Calls back after each change, until the watcher is dropped.
fn follow(
    receiver: &Receiver<()>,
    path: &Path,
    mut seen: Seen,
    load: &mut impl FnMut() -> Result<Config>,
    on_change: &impl Fn(Result<Config>),
) {
    while receiver.recv().is_ok() {
        if !join_events(receiver) {
            return;
        }
        let now = Seen::now(path);
        if now == seen {
            continue;
        }
        seen = now;
        let checked = load().and_then(|config| config.validate().map(|()| config));
        on_change(checked);
    }
}

/// Waits until the time for joined events is over; false if the watcher was dropped.
fn join_events(receiver: &Receiver<()>) -> bool {
    let end = Instant::now() + JOIN;
    loop {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// The bytes of all files. A log file in the same folder makes events, too, and a file may be
/// written with the bytes that it had.
#[derive(PartialEq)]
struct Seen(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Seen {
    fn now(path: &Path) -> Self {
        // A folder that cannot be read looks empty here; loading says what is wrong with it.
        let drop_ins = files::drop_ins(path).unwrap_or_default();
        let paths = std::iter::once(path.to_owned()).chain(drop_ins);
        let files = paths.map(|path| {
            let bytes = std::fs::read(&path).ok();
            (path, bytes)
        });
        Self(files.collect())
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}
