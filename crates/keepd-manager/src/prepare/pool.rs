//! Preparations on blocking threads: not too many at once, and none for longer than its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keepd_engine::manager::{Launch, Preparation, PrepareFailure};
use keepd_model::protocol::{Environment, EnvironmentChange};
use keepd_model::{ServiceSpec, SpawnStep};
use tokio::sync::Semaphore;

use super::launch::remove_stale;
use super::{Variables, failure, prepare};
use crate::Instance;
use crate::probes::Strangers;

/// The longest time that a start waits for the user database and file systems.
const PREPARE_LIMIT: Duration = Duration::from_secs(5);

/// How many preparations run at once. They rarely wait, so more would only cost stacks.
const AT_ONCE_MAX: usize = 4;

/// Prepares starts.
#[derive(Clone)]
pub(crate) struct Pool {
    instance: Arc<Instance>,
    base: Arc<Variables>,
    permits: Arc<Semaphore>,
    strangers: Strangers,
}

impl Pool {
    /// Returns a pool for services of this instance that inherit these variables.
    pub(crate) fn new(instance: Arc<Instance>, base: Variables) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE_MAX));
        Self { instance, base: Arc::new(base), permits, strangers: Strangers::default() }
    }

    /// Returns who listens where services are about to listen, found out before each start.
    pub(crate) fn strangers(&self) -> Strangers {
        self.strangers.clone()
    }

    /// Returns the whole environment that these differences make of the inherited one. What the
    /// proxy adds at each start (INVOCATION_ID and the like) is not in it.
    pub(crate) fn environment(&self, differences: &Environment) -> Variables {
        let mut variables =
            if differences.clear { Variables::new() } else { Variables::clone(&self.base) };
        for change in &differences.changes {
            match change {
                EnvironmentChange::Set(name, value) => {
                    variables.insert(name.clone(), value.clone());
                }
                EnvironmentChange::Remove(name) => {
                    variables.remove(name);
                }
            }
        }
        variables
    }

    /// Prepares one start. A thread that hangs is left behind; its permit is not, so that the
    /// others go on.
    pub(crate) async fn prepare(
        &self,
        spec: Arc<ServiceSpec>,
        preparation: Preparation,
    ) -> Result<Box<Launch>, PrepareFailure> {
        let permit = self.permits.acquire().await;
        let (instance, base) = (Arc::clone(&self.instance), Arc::clone(&self.base));
        let given_up = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&given_up);
        let strangers = self.strangers.clone();
        let work = tokio::task::spawn_blocking(move || {
            let launch = prepare(&spec, &instance, &base, preparation)?;
            // A thread that hung until now must not take away the file of a later run.
            if preparation == Preparation::Start && !seen.load(Ordering::Acquire) {
                remove_stale(&launch.questions)?;
                strangers.note(&spec.name, &launch.questions);
            }
            Ok(launch)
        });
        let outcome = tokio::time::timeout(PREPARE_LIMIT, work).await;
        given_up.store(true, Ordering::Release);
        drop(permit);
        match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                Err(failure(SpawnStep::Prepare, None, format!("cannot prepare the start: {error}")))
            }
            Err(_) => {
                let text = format!(
                    "user database or file system does not answer within {}s",
                    PREPARE_LIMIT.as_secs()
                );
                Err(failure(SpawnStep::Prepare, None, text))
            }
        }
    }
}
