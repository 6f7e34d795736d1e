//! Putting the files' present content in force: one way for the API and for SIGHUP.

use keepd_engine::manager::{Change, Manager, Refusal, Who};
use keepd_model::ChangeId;

use crate::accepted::{Accepted, AcceptedError, ApplyAnswer};
use crate::api::step_objects;
use crate::api::types::{DiagnosticObject, StepObject};
use crate::calls::{Caller, Gone};
use crate::config::{Candidate, Configuration, LoadError, OnErrors, blocking, load};
use crate::proposal::propose;

/// What an apply opened.
pub(crate) struct Applied {
    /// The change.
    pub(crate) change: ChangeId,
    /// What is done.
    pub(crate) steps: Vec<StepObject>,
    /// What is odd in the files.
    pub(crate) warnings: Vec<DiagnosticObject>,
    /// What is wrong with tables that were left out.
    pub(crate) errors: Vec<DiagnosticObject>,
    /// What is in force instead.
    pub(crate) notes: Vec<String>,
}

impl Applied {
    /// Without an answer it is so long ago that what was done is not known any more.
    fn new(change: ChangeId, answer: Option<ApplyAnswer>, in_force: &Accepted) -> Self {
        let (mut steps, mut warnings, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(answer) = answer {
            (steps, warnings, errors) = (answer.steps, answer.warnings, answer.errors);
        }
        Self { change, steps, warnings, errors, notes: in_force.notes.clone() }
    }
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
    let told = token.as_deref().and_then(|token| accepted.answer_to(token)).cloned();
    let candidate = match (before, &told) {
        (Before::Refused(refusal), _) => return Err(ApplyError::Refused(refusal)),
        (Before::Known(change), _) => return Ok(Applied::new(change, told, &accepted)),
        // A predecessor was lost between writing it down and noting the change. What it did
        // about it is in force; files that somebody has edited since are not meant.
        (Before::Open, Some(_)) => {
            let in_force = accepted.clone();
            blocking(move || load(in_force)).await.map_err(ApplyError::Load)?
        }
        (Before::Open, None) => {
            let proposal = propose(&accepted, None, on_errors).await.map_err(ApplyError::Load)?;
            if plan_id.is_some_and(|meant| meant != proposal.plan_id) {
                return Err(ApplyError::PlanChanged(proposal.plan_id));
            }
            proposal.candidate
        }
    };
    let Candidate { accepted: mut new, plan, warnings, errors } = candidate;
    let preview = plan.clone();
    let steps = caller.look(move |machine, _| machine.preview(&preview)).await?;
    let answer = told.unwrap_or_else(|| ApplyAnswer {
        token: token.clone().unwrap_or_default(),
        steps: step_objects(steps, restart),
        warnings: warnings.into_iter().map(Into::into).collect(),
        errors: errors.into_iter().map(Into::into).collect(),
    });
    new.answers.clone_from(&accepted.answers);
    if token.is_some() && new.answer_to(&answer.token).is_none() {
        new.add_answer(answer.clone());
    }
    // Written before the machine acts: a successor of this process must know what was begun.
    configuration.write(&new).await.map_err(ApplyError::Write)?;
    match caller.apply(who, token, plan, restart).await? {
        Ok(change) => {
            *accepted = new;
            Ok(Applied::new(change, Some(answer), &accepted))
        }
        Err(refusal) => {
            if let Err(error) = configuration.write(&accepted).await {
                tracing::error!("{}", error.chain());
            }
            Err(ApplyError::Refused(refusal))
        }
    }
}
