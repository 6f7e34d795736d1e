//! Signals that keepd got, as far as they are not the machine's (INT, TERM, QUIT).

use keepd_engine::manager::{Refusal, Who};
use keepd_model::Signal;
use keepd_model::protocol::Command;

use super::Shell;
use crate::apply::{Application, Applied, ApplyError, apply};
use crate::calls::Caller;
use crate::config::{Configuration, LoadError};

impl Shell {
    /// Acts on a signal, and says that it was handled.
    pub(super) fn on_signal(&mut self, signal: Signal, count: u64) {
        match signal {
            Signal::HUP => {
                let configuration = std::sync::Arc::clone(&self.wires.configuration);
                let caller = self.wires.caller.clone();
                tokio::spawn(async move { apply_by_signal(&configuration, &caller).await });
            }
            Signal::USR1 | Signal::USR2 => {
                tracing::warn!("signal {signal} has no meaning in this version");
            }
            // The machine's own, and it clears them.
            _ => return,
        }
        self.send_own(Command::SignalClear { signal, count });
    }
}

async fn apply_by_signal(configuration: &Configuration, caller: &Caller) {
    let who = Who { uid: keepd_os::process::effective_uid(), pid: std::process::id() };
    if !caller.synchronised().await {
        tracing::error!("cannot apply the configuration: the proxy does not answer");
        return;
    }
    let application = Application { restart: true, ..Application::default() };
    match apply(configuration, caller, who, application).await {
        Ok(Applied { change, steps, warnings, errors: _, notes: _ }) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            tracing::info!(
                "configuration applied, services that differ: {} (change {change})",
                steps.len()
            );
        }
        Err(ApplyError::Load(LoadError::Invalid(diagnostics))) => {
            for diagnostic in &diagnostics {
                tracing::error!("{diagnostic}");
            }
            tracing::error!("configuration not applied, nothing was changed");
        }
        Err(ApplyError::Load(error @ LoadError::Read(_))) => {
            tracing::error!("{error}; nothing was changed");
        }
        Err(ApplyError::Write(error)) => {
            tracing::error!("{}; nothing was changed", error.chain());
        }
        Err(ApplyError::PlanChanged(_)) => {
            tracing::error!("configuration not applied: the files changed meanwhile");
        }
        Err(ApplyError::Refused(refusal)) => {
            let why = match refusal {
                Refusal::ShuttingDown => "everything is being stopped",
                Refusal::NotSynchronised => "the proxy does not answer",
                Refusal::NoSuchService(_)
                | Refusal::Quarantined(..)
                | Refusal::CannotReload(_)
                | Refusal::NotRunning(_) => "a service was named that does not fit",
            };
            tracing::error!("configuration not applied: {why}");
        }
        Err(ApplyError::Gone) => {}
    }
}
