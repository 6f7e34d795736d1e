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
    pub fn watch_file<F, P>(path: P, on_change: F) -> Result<ConfigWatcher>
    where
        F: Fn(Result<Self>) + Send + Sync + 'static,
        P: AsRef<Path>,
    {
        let path = path.as_ref().to_owned();
        let load = {
            let path = path.clone();
            move || ConfigLoader::new().file(&path).load()
        };
        watch(path, load, on_change)
    }
}

/// Watches the files of a loader.
pub(super) fn watch<L, F>(path: PathBuf, load: L, on_change: F) -> Result<ConfigWatcher>
where
    L: Fn() -> Result<Config> + Send + 'static,
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
    let run = move || follow(&receiver, &path, seen, &load, &on_change);
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
    load: &impl Fn() -> Result<Config>,
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
