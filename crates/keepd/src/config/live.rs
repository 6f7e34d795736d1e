//! The configuration in force, which a reload replaces.

use std::sync::{Arc, PoisonError, RwLock};

use super::load::Differences;
use super::types::Config;
use crate::error::Result;

/// The configuration in force. Clones share it.
///
/// Only a configuration that breaks no rule is ever put in force; a broken one changes nothing.
///
/// ```
/// use keepd::Config;
/// use keepd::config::LiveConfig;
///
/// # fn main() -> keepd::Result<()> {
/// let live = LiveConfig::new(Config::default());
/// let before = live.snapshot();
/// live.replace(Config { name: "web".to_owned(), ..Config::default() })?;
/// assert_eq!(live.snapshot().name, "web");
/// assert_eq!(before.name, "proc-daemon");
///
/// assert!(live.replace(Config { name: String::new(), ..Config::default() }).is_err());
/// assert_eq!(live.snapshot().name, "web");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LiveConfig {
    current: Arc<RwLock<Arc<Config>>>,
}

impl LiveConfig {
    /// Puts a configuration in force, which the caller has checked.
    pub fn new(config: Config) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(config))) }
    }

    /// Returns the configuration in force. It does not change under the caller's hands.
    pub fn snapshot(&self) -> Arc<Config> {
        // A panic while it was held cannot have left half a configuration: it is one pointer.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks a configuration, puts it in force, and returns what changed.
    ///
    /// # Errors
    ///
    /// What [`Config::validate`] says; then the old one stays in force.
    pub fn replace(&self, new: Config) -> Result<Differences> {
        new.validate()?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let differences = current.differences(&new);
        *current = Arc::new(new);
        Ok(differences)
    }
}
