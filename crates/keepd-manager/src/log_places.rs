//! Where the output of services goes, and that there is more of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keepd_model::ServiceName;
use keepd_model::protocol::LogTarget;
use tokio::sync::{Semaphore, watch};

use crate::Instance;
use crate::config::blocking;
use crate::logs::ServiceLog;

/// How many clients have logs read for them at the same moment. A file system that hangs must not
/// take every thread that services are started with.
const READERS_MAX: usize = 8;

/// What the proxy told about the logs of services. Everybody who reads logs holds it.
#[derive(Debug)]
pub(crate) struct LogPlaces {
    instance: Arc<Instance>,
    /// Those that are not where they usually are.
    moved: Mutex<BTreeMap<ServiceName, LogTarget>>,
    written: watch::Sender<()>,
    readers: Semaphore,
}

impl LogPlaces {
    pub(crate) fn new(instance: Arc<Instance>) -> Self {
        let (written, _) = watch::channel(());
        let readers = Semaphore::new(READERS_MAX);
        Self { instance, moved: Mutex::default(), written, readers }
    }

    fn moved(&self) -> MutexGuard<'_, BTreeMap<ServiceName, LogTarget>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where the output of a service goes.
    pub(crate) fn note_log(&self, name: &ServiceName, log: &LogTarget) {
        let default = self.instance.service_log_dir(name);
        match log {
            LogTarget::File { dir, .. } if *dir == default.as_os_str().as_encoded_bytes() => {
                self.moved().remove(name);
            }
            other => {
                self.moved().insert(name.clone(), other.clone());
            }
        }
    }

    /// Returns the log of a service; `None` if its output is kept in no files of keepd's own.
    pub(crate) fn log(&self, name: &ServiceName) -> Option<ServiceLog> {
        let dir = match self.moved().get(name) {
            None => self.instance.service_log_dir(name),
            Some(LogTarget::File { dir, .. }) => Path::new(OsStr::from_bytes(dir)).to_owned(),
            Some(LogTarget::Append { .. } | LogTarget::Null | LogTarget::Inherit) => return None,
        };
        Some(ServiceLog { name: name.clone(), dir })
    }

    /// Notes that some service wrote something.
    pub(crate) fn note_output(&self) {
        self.written.send_replace(());
    }

    /// Returns what tells that something was written.
    pub(crate) fn written(&self) -> watch::Receiver<()> {
        self.written.subscribe()
    }

    /// Reads files on another thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let _permit = self.readers.acquire().await.expect("the semaphore is never closed");
        blocking(work).await
    }

    /// Reports whether every log is where it usually is.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.moved().is_empty()
    }
}
