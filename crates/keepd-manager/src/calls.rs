//! What others ask of the task that owns the machine.

use std::sync::Arc;
use std::time::Duration;

use keepd_engine::manager::{Ask, Manager, Refusal, Who};
use keepd_model::{ChangeId, Instant, Plan, ServiceName};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// How many calls wait at most; further callers wait themselves.
pub(crate) const CALLS_MAX: usize = 256;

/// How long a caller waits for a manager that does not yet know what runs.
const SYNCHRONISE_LIMIT: Duration = Duration::from_secs(2);

/// A look at the machine.
pub(crate) type View = Box<dyn FnOnce(&Manager, Instant) + Send>;

/// A call to the task that owns the machine.
pub(crate) enum Call {
    /// Look at the machine.
    Look(View),
    /// Ask the machine for something.
    Act {
        /// Who asks.
        who: Who,
        /// The asker's word.
        token: Option<String>,
        /// Of which services.
        select: Vec<String>,
        /// What.
        ask: MakeAsk,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<ChangeId, ActError>>,
    },
    /// Put a plan in force.
    Apply {
        /// Who asks.
        who: Who,
        /// The asker's word.
        token: Option<String>,
        /// The plan.
        plan: Box<Plan>,
        /// Restart what must be restarted.
        restart: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<ChangeId, Refusal>>,
    },
}

/// Makes what is asked of the machine from the services that the selectors mean.
pub(crate) type MakeAsk = Box<dyn FnOnce(Vec<ServiceName>) -> Ask + Send>;

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ActError {
    /// The selector means no service.
    NoMatch(String),
    /// The machine refused.
    Refused(Refusal),
}

/// The manager is ending: nobody answers any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// What is told to those who wait for something to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// The machine knows what runs.
    pub(crate) synchronised: bool,
    /// Counts announcements.
    pub(crate) count: u64,
}

/// Calls the task that owns the machine.
#[derive(Clone)]
pub(crate) struct Caller {
    calls: mpsc::Sender<Call>,
    pulse: watch::Receiver<Pulse>,
    farewell: Arc<Notify>,
}

impl Caller {
    pub(crate) fn new(calls: mpsc::Sender<Call>, pulse: watch::Receiver<Pulse>) -> Self {
        Self { calls, pulse, farewell: Arc::new(Notify::new()) }
    }

    /// Notes that somebody has been told how the shutdown went that was asked for.
    pub(crate) fn note_farewell(&self) {
        self.farewell.notify_one();
    }

    /// Waits until that has been noted.
    pub(crate) async fn farewell(&self) {
        self.farewell.notified().await;
    }

    /// Looks at the machine.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        view: impl FnOnce(&Manager, Instant) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (sender, receiver) = oneshot::channel();
        let view = Box::new(move |machine: &Manager, now: Instant| {
            // Who asked may have gone meanwhile.
            let _ = sender.send(view(machine, now));
        });
        self.call(Call::Look(view)).await?;
        receiver.await.map_err(|_| Gone)
    }

    /// Asks the machine for something.
    pub(crate) async fn act(
        &self,
        who: Who,
        token: Option<String>,
        select: Vec<String>,
        ask: MakeAsk,
    ) -> Result<Result<ChangeId, ActError>, Gone> {
        let (reply, receiver) = oneshot::channel();
        self.call(Call::Act { who, token, select, ask, reply }).await?;
        receiver.await.map_err(|_| Gone)
    }

    /// Puts a plan in force.
    pub(crate) async fn apply(
        &self,
        who: Who,
        token: Option<String>,
        plan: Plan,
        restart: bool,
    ) -> Result<Result<ChangeId, Refusal>, Gone> {
        let (reply, receiver) = oneshot::channel();
        self.call(Call::Apply { who, token, plan: Box::new(plan), restart, reply }).await?;
        receiver.await.map_err(|_| Gone)
    }

    /// Returns what tells of changes.
    pub(crate) fn pulse(&self) -> watch::Receiver<Pulse> {
        self.pulse.clone()
    }

    /// Waits a little until the machine knows what runs; reports whether it does.
    pub(crate) async fn synchronised(&self) -> bool {
        let mut pulse = self.pulse();
        let wait = pulse.wait_for(|pulse| pulse.synchronised);
        matches!(tokio::time::timeout(SYNCHRONISE_LIMIT, wait).await, Ok(Ok(_)))
    }

    async fn call(&self, call: Call) -> Result<(), Gone> {
        self.calls.send(call).await.map_err(|_| Gone)
    }
}
