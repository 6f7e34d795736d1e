//! Causes in notes.

use keepd_model::{ChangeId, Errno, Generation, ServiceName, Signal, SpawnStep, Until};

use super::fields::{Fields, exit_from_word, exit_word};
use crate::manager::cause::{Cause, ShutdownCause};
use crate::manager::interface::{PrepareFailure, Verb};

/// Puts a cause under a key, its parts under keys that begin with it.
pub(super) fn put_cause(fields: &mut Fields, key: &str, cause: &Cause) {
    let sub = |part: &str| format!("{key}.{part}");
    let word = match cause {
        Cause::Boot => "boot",
        Cause::NotEnabled => "not-enabled",
        Cause::DependenciesMet => "dependencies-met",
        Cause::BecameReady => "became-ready",
        Cause::StayedUp => "stayed-up",
        Cause::Gathered => "gathered",
        Cause::Executed => "executed",
        Cause::RestartPolicy => "restart-policy",
        Cause::Cancelled => "cancelled",
        Cause::Unsure => "unsure",
        Cause::SafeMode(why) => {
            fields.put(&sub("text"), why);
            "safe-mode"
        }
        Cause::NotEmpty => "not-empty",
        Cause::Foreign => "foreign",
        Cause::Operator { verb, change } => {
            fields.put(&sub("verb"), verb.word());
            fields.put_number(&sub("change"), change.0);
            "operator"
        }
        Cause::Applied { change, keys } => {
            fields.put_number(&sub("change"), change.0);
            fields.put(&sub("keys"), &keys.join(" "));
            "applied"
        }
        Cause::Dependency { on, until } => {
            fields.put(&sub("on"), on.as_str());
            fields.put(&sub("until"), until.word());
            "dependency"
        }
        Cause::DependencyLost { on, until } => {
            fields.put(&sub("on"), on.as_str());
            fields.put(&sub("until"), until.word());
            "dependency-lost"
        }
        Cause::Order { on } => {
            fields.put(&sub("on"), on.as_str());
            "order"
        }
        Cause::Quarantined(why) => {
            fields.put(&sub("text"), why);
            "quarantined"
        }
        Cause::Limit { count, window } => {
            fields.put_number(&sub("count"), u64::from(*count));
            fields.put_duration(&sub("window_ns"), *window);
            "limit"
        }
        Cause::Ended { generation, pid, exit, ran } => {
            fields.put_number(&sub("gen"), generation.get());
            if let Some(pid) = pid {
                fields.put_number(&sub("pid"), u64::from(pid.get()));
            }
            fields.put(&sub("exit"), &exit_word(*exit));
            fields.put_duration(&sub("ran_ns"), *ran);
            "ended"
        }
        Cause::CannotExecute(failure) => {
            fields.put(&sub("step"), failure.step.word());
            if let Some(errno) = failure.errno {
                fields.put(&sub("errno"), &errno.0.to_string());
            }
            fields.put(&sub("text"), &failure.text);
            "cannot-execute"
        }
        Cause::ReadyTimeout { after, missing } => {
            fields.put_duration(&sub("after_ns"), *after);
            fields.put(&sub("missing"), missing);
            "ready-timeout"
        }
        Cause::Shutdown(cause) => {
            let (word, value) = match cause {
                ShutdownCause::Operator(change) => ("operator", change.to_string()),
                ShutdownCause::Signal(signal) => ("signal", signal.get().to_string()),
                ShutdownCause::Service(name) => ("service", name.to_string()),
                ShutdownCause::Idle => ("idle", String::new()),
            };
            fields.put(&sub("by"), word);
            fields.put(&sub("of"), &value);
            "shutdown"
        }
    };
    fields.put(key, word);
}

/// Reads a cause under a key.
pub(super) fn get_cause(fields: &Fields, key: &str) -> Option<Cause> {
    let sub = |part: &str| format!("{key}.{part}");
    let text = |part: &str| fields.get(&sub(part));
    let number = |part: &str| fields.number(&sub(part));
    Some(match fields.get(key)? {
        "boot" => Cause::Boot,
        "not-enabled" => Cause::NotEnabled,
        "dependencies-met" => Cause::DependenciesMet,
        "became-ready" => Cause::BecameReady,
        "stayed-up" => Cause::StayedUp,
        "gathered" => Cause::Gathered,
        "executed" => Cause::Executed,
        "restart-policy" => Cause::RestartPolicy,
        "not-empty" => Cause::NotEmpty,
        "foreign" => Cause::Foreign,
        "cancelled" => Cause::Cancelled,
        "unsure" => Cause::Unsure,
        "safe-mode" => Cause::SafeMode(text("text")?.to_owned()),
        "operator" => Cause::Operator {
            verb: Verb::ALL.into_iter().find(|verb| Some(verb.word()) == text("verb"))?,
            change: ChangeId(number("change")?),
        },
        "applied" => Cause::Applied {
            change: ChangeId(number("change")?),
            keys: text("keys")?
                .split(' ')
                .filter(|key| !key.is_empty())
                .map(str::to_owned)
                .collect(),
        },
        "dependency" => Cause::Dependency {
            on: ServiceName::new_internal(text("on")?).ok()?,
            until: Until::from_word(text("until")?)?,
        },
        "dependency-lost" => Cause::DependencyLost {
            on: ServiceName::new_internal(text("on")?).ok()?,
            until: Until::from_word(text("until")?)?,
        },
        "order" => Cause::Order { on: ServiceName::new_internal(text("on")?).ok()? },
        "quarantined" => Cause::Quarantined(text("text")?.to_owned()),
        "limit" => Cause::Limit {
            count: u32::try_from(number("count")?).ok()?,
            window: fields.duration(&sub("window_ns"))?,
        },
        "ended" => Cause::Ended {
            generation: Generation::new(number("gen")?),
            pid: fields.pid(&sub("pid")),
            exit: exit_from_word(text("exit")?)?,
            ran: fields.duration(&sub("ran_ns"))?,
        },
        "cannot-execute" => Cause::CannotExecute(PrepareFailure {
            step: SpawnStep::from_word(text("step")?)?,
            errno: text("errno").and_then(|errno| errno.parse().ok()).map(Errno),
            text: text("text")?.to_owned(),
        }),
        "ready-timeout" => Cause::ReadyTimeout {
            after: fields.duration(&sub("after_ns"))?,
            missing: text("missing")?.to_owned(),
        },
        "shutdown" => {
            let of = text("of")?;
            Cause::Shutdown(match text("by")? {
                "operator" => ShutdownCause::Operator(ChangeId(of.parse().ok()?)),
                "signal" => ShutdownCause::Signal(Signal::parse(of).ok()?),
                "service" => ShutdownCause::Service(ServiceName::new_internal(of).ok()?),
                "idle" => ShutdownCause::Idle,
                _ => return None,
            })
        }
        _ => return None,
    })
}
