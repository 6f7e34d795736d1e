//! The configuration that is in force, and how another one takes its place.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex as Latch, PoisonError};

use keepd_model::Plan;
use keepd_plan::{Diagnostic, Loaded};
use tokio::sync::{Mutex, MutexGuard};

use crate::accepted::{Accepted, AcceptedError};
use crate::revision::check;

/// A configuration that may be put in force.
pub(crate) struct Candidate {
    /// What was read.
    pub(crate) accepted: Accepted,
    /// What it means.
    pub(crate) plan: Plan,
    /// What is odd in it.
    pub(crate) warnings: Vec<Diagnostic>,
    /// What is wrong with tables that are left out.
    pub(crate) errors: Vec<Diagnostic>,
}

/// Why a configuration cannot be put in force.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// A file cannot be read.
    Read(AcceptedError),
    /// The files hold errors: all of them.
    Invalid(Vec<Diagnostic>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => formatter.write_str(&error.chain()),
            Self::Invalid(diagnostics) => match diagnostics.as_slice() {
                [one] => write!(formatter, "cannot use the configuration: {}", one.message),
                more => write!(formatter, "cannot use the configuration: {} errors", more.len()),
            },
        }
    }
}

/// Returns the plan of an accepted configuration.
pub(crate) fn load(accepted: Accepted) -> Result<Candidate, LoadError> {
    load_found(accepted, Vec::new())
}

/// Returns the plan of a configuration that was found with these errors.
fn load_found(accepted: Accepted, found: Vec<Diagnostic>) -> Result<Candidate, LoadError> {
    let loaded = check(&accepted, found).map_err(LoadError::Invalid)?;
    Ok(candidate(accepted, loaded, Vec::new()))
}

fn candidate(accepted: Accepted, loaded: Loaded, errors: Vec<Diagnostic>) -> Candidate {
    let Loaded { mut plan, mut warnings } = loaded;
    let variable = std::env::var("KEEPD_SHUTDOWN_TIMEOUT").ok();
    if let Some(warning) = override_shutdown_timeout(&mut plan, variable.as_deref()) {
        warnings.push(warning);
    }
    Candidate { accepted, plan, warnings, errors }
}

/// Lets KEEPD_SHUTDOWN_TIMEOUT win over the files; returns a warning if its value cannot be used.
fn override_shutdown_timeout(plan: &mut Plan, variable: Option<&str>) -> Option<Diagnostic> {
    match keepd_plan::parse_duration(variable?) {
        Ok(timeout) => {
            plan.manager.shutdown_timeout = timeout;
            None
        }
        Err(error) => Some(Diagnostic {
            origin: None,
            message: format!("cannot use variable KEEPD_SHUTDOWN_TIMEOUT: {error}"),
            hint: None,
        }),
    }
}

/// The configuration in force, on disk and in memory.
pub(crate) struct Configuration {
    file: PathBuf,
    /// Where a configuration that is good as a whole is kept for later starts.
    last_good: Option<PathBuf>,
    /// Held from the reading of files until the machine has the plan, so that two applies never
    /// mix.
    accepted: Mutex<Accepted>,
    /// What is in force other than what the files say. Beside the rest, so that nobody who asks
    /// waits for an apply that reads from a slow disk.
    notes: Latch<Vec<String>>,
}

impl Configuration {
    /// Returns the configuration that was read from this file.
    pub(crate) fn new(file: PathBuf, last_good: Option<PathBuf>, accepted: Accepted) -> Self {
        let notes = Latch::new(accepted.notes.clone());
        Self { file, last_good, accepted: Mutex::new(accepted), notes }
    }

    /// Waits until no other apply is under way.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, Accepted> {
        self.accepted.lock().await
    }

    /// Returns what is in force other than what the files say, and why, in sentences.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes another configuration down, for a successor of this process.
    pub(crate) async fn write(&self, accepted: &Accepted) -> Result<(), AcceptedError> {
        let (content, file) = (accepted.clone(), self.file.clone());
        blocking(move || content.write(&file)).await?;
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = accepted.notes.clone();
        self.keep(accepted).await;
        Ok(())
    }

    /// Keeps what is in force for later starts, after what is being applied now, if anything is:
    /// what is older must not come last.
    pub(crate) async fn keep_in_force(&self) {
        self.keep(&*self.lock().await).await;
    }

    /// Keeps a configuration that is good as a whole for later starts. That it cannot be kept
    /// is no reason to refuse it.
    async fn keep(&self, accepted: &Accepted) {
        let Some(file) = self.last_good.clone().filter(|_| accepted.is_whole()) else {
            return;
        };
        // Nobody asks a later start again what an apply before it did.
        let content = Accepted { answers: Vec::new(), ..accepted.clone() };
        if let Err(error) = blocking(move || content.write(&file)).await {
            tracing::warn!("{}; a later start has no such revision to fall back to", error.chain());
        }
    }
}

/// What becomes of files with errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnErrors {
    /// All is refused.
    #[default]
    Refuse,
    /// Services with errors keep the table that is in force.
    KeepGoing,
}

/// Looks for the files of a configuration again, and reads them.
pub(crate) async fn reread(
    in_force: &Accepted,
    on_errors: OnErrors,
) -> Result<Candidate, LoadError> {
    let in_force = in_force.clone();
    blocking(move || {
        let (fresh, found) = in_force.reread().map_err(LoadError::Read)?;
        // Without a file that should be there nobody knows which services are meant to be.
        let may_keep = on_errors == OnErrors::KeepGoing && found.is_empty();
        match load_found(fresh.clone(), found) {
            Err(LoadError::Invalid(_)) if may_keep => keep_going(fresh, &in_force),
            outcome => outcome,
        }
    })
    .await
}

/// Leaves out what is broken.
fn keep_going(fresh: Accepted, in_force: &Accepted) -> Result<Candidate, LoadError> {
    let old = in_force.load().map_err(LoadError::Invalid)?;
    let (accepted, loaded, errors) = fresh.keep_going(&old.plan).map_err(LoadError::Invalid)?;
    Ok(candidate(accepted, loaded, errors))
}

/// Runs what may block on another thread.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // It is never cancelled, so there was a panic, and it goes on here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accepted::AcceptedSource;

    fn accepted(text: &str) -> Accepted {
        let source = AcceptedSource {
            file: "keepd.toml".into(),
            path: None,
            directory: "/srv/shop".into(),
            text: text.into(),
        };
        Accepted::new(true, Vec::new(), vec![source])
    }

    #[test]
    fn a_good_configuration_is_a_plan() {
        let candidate = load(accepted("[services.web]\ncommand = \"sleep 1\"\n")).ok().unwrap();
        assert_eq!(candidate.plan.services.len(), 1);
    }

    #[test]
    fn what_is_kept_is_what_is_in_force_by_then() {
        let scratch = keepd_testkit::Scratch::new();
        let file = scratch.path().join("last-good.json");
        let (old, new) = (accepted("a = 1"), accepted("a = 2"));
        let path = scratch.path().join("accepted.json");
        let configuration = Configuration::new(path, Some(file.clone()), old);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut in_force = configuration.lock().await;
            let keep = configuration.keep_in_force();
            let apply = async {
                configuration.write(&new).await.unwrap();
                *in_force = new.clone();
                drop(in_force);
            };
            tokio::join!(keep, apply);
        });
        assert_eq!(Accepted::read(&file).unwrap(), new);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let mut plan = Plan::default();
        assert_eq!(override_shutdown_timeout(&mut plan, None), None);
        assert_eq!(override_shutdown_timeout(&mut plan, Some("5s")), None);
        assert_eq!(plan.manager.shutdown_timeout, std::time::Duration::from_secs(5));
        assert!(override_shutdown_timeout(&mut plan, Some("5")).is_some());
        assert_eq!(plan.manager.shutdown_timeout, std::time::Duration::from_secs(5));
    }

    #[test]
    fn a_bad_one_is_counted() {
        let error = load(accepted("[services.web]\nx = 1\ny = 2\n")).err().unwrap();
        assert!(error.to_string().starts_with("cannot use the configuration: "), "{error}");
        assert!(matches!(error, LoadError::Invalid(found) if found.len() >= 2));
    }
}
