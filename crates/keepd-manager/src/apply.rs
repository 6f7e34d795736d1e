//! Putting the files' present content in force: one way for the API and for SIGHUP.

use keepd_engine::manager::{Change, Manager, Refusal, Step, Who};
use keepd_model::ChangeId;
use keepd_plan::Diagnostic;

use crate::accepted::AcceptedError;
use crate::calls::{Caller, Gone};
use crate::config::{Configuration, LoadError, OnErrors};
use crate::proposal::propose;

/// What an apply opened.
pub(crate) struct Applied {
    /// The change.
    pub(crate) change: ChangeId,
    /// What is done.
    pub(crate) steps: Vec<Step>,
    /// What is odd in the files.
    pub(crate) warnings: Vec<Diagnostic>,
    /// What is wrong with tables that were left out.
    pub(crate) errors: Vec<Diagnostic>,
    /// What is in force instead.
    pub(crate) notes: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) enum ApplyError {
    /// The files cannot be used.
    Load(LoadError),
    /// The accepted configuration cannot be written down.
    Write(AcceptedError),
    /// What would be done is another change than the asker means; the word for it.
    PlanChanged(String),
    /// The machine refused.
    Refused(Refusal),
    /// The manager is ending.
    Gone,
}

impl From<Gone> for ApplyError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Whether there is anything to apply.
enum Before {
    /// The same word was accepted before.
    Known(ChangeId),
    /// It would be refused.
    Refused(Refusal),
    /// There is.
    Open,
}

impl Before {
    fn of(machine: &Manager, token: Option<&str>) -> Self {
        let same = |change: &&Change| token.is_some() && change.token.as_deref() == token;
        match machine.changes().find(same) {
            Some(change) => Self::Known(change.id),
            None if !machine.is_synchronised() => Self::Refused(Refusal::NotSynchronised),
            None if machine.is_shutting_down() => Self::Refused(Refusal::ShuttingDown),
            None => Self::Open,
        }
    }
}

/// What is asked of an apply.
#[derive(Clone, Debug, Default)]
pub(crate) struct Application {
    /// The asker's word.
    pub(crate) token: Option<String>,
    /// Restart what must be restarted.
    pub(crate) restart: bool,
    /// What becomes of files with errors.
    pub(crate) on_errors: OnErrors,
    /// Only if it is still this change ([`propose`]).
    pub(crate) plan_id: Option<String>,
}

/// Reads the files again and puts them in force. With any error in them nothing is changed, unless
/// those with errors shall be left out.
pub(crate) async fn apply(
    configuration: &Configuration,
    caller: &Caller,
    who: Who,
    application: Application,
) -> Result<Applied, ApplyError> {
    let Application { token, restart, on_errors, plan_id } = application;
    let mut accepted = configuration.lock().await;
    // What is not going to be applied must not replace what was accepted.
    let asked = token.clone();
    let before = caller.look(move |machine, _| Before::of(machine, asked.as_deref())).await?;
    match before {
        Before::Known(change) => {
            let (steps, warnings) = (Vec::new(), Vec::new());
            let (errors, notes) = (Vec::new(), accepted.notes.clone());
            return Ok(Applied { change, steps, warnings, errors, notes });
        }
        Before::Refused(refusal) => return Err(ApplyError::Refused(refusal)),
        Before::Open => {}
    }
    let proposal = propose(&accepted, None, on_errors).await.map_err(ApplyError::Load)?;
    if plan_id.is_some_and(|meant| meant != proposal.plan_id) {
        return Err(ApplyError::PlanChanged(proposal.plan_id));
    }
    let candidate = proposal.candidate;
    // Written before the machine acts: a successor of this process must know what was begun.
    configuration.write(&candidate.accepted).await.map_err(ApplyError::Write)?;
    let (steps, answer) = caller.apply(who, token, candidate.plan, restart).await?;
    match answer {
        Ok(change) => {
            *accepted = candidate.accepted;
            let (warnings, errors) = (candidate.warnings, candidate.errors);
            Ok(Applied { change, steps, warnings, errors, notes: accepted.notes.clone() })
        }
        Err(refusal) => {
            if let Err(error) = configuration.write(&accepted).await {
                tracing::error!("{}", error.chain());
            }
            Err(ApplyError::Refused(refusal))
        }
    }
}
