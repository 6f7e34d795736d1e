//! Recorded causes in words. Times are left to whoever shows them.

use std::time::Duration;

use keepd_model::{Exit, Instant, ServiceName, State};

use super::Manager;
use super::cause::{Cause, ShutdownCause};
use super::interface::{Change, Happening, WhyLine};
use super::order::Unmet;
use super::service::{Phase, Rest, Service, Want};

/// Returns a clause that can follow "because": lower case, no full stop.
pub fn cause_clause(cause: &Cause) -> String {
    match cause {
        Cause::Boot => "it is enabled, and keepd started".to_owned(),
        Cause::NotEnabled => "it is not enabled, and nobody asked for it".to_owned(),
        Cause::Operator { verb, change } => {
            format!("somebody asked for it ({}, change {change})", verb.word())
        }
        Cause::Applied { change, keys } if change.0 == 0 && keys.is_empty() => {
            "the configuration changed".to_owned()
        }
        Cause::Applied { change, keys } if keys.is_empty() => {
            format!("the configuration changed (change {change})")
        }
        Cause::Applied { change, keys } => {
            format!("the configuration changed: {} (change {change})", keys.join(", "))
        }
        Cause::Dependency { on, until } => format!("it waits for \"{on}\" to be {until}"),
        Cause::DependencyLost { on, until } => format!("\"{on}\" is not {until} any more"),
        Cause::Order { on } => format!("it starts after \"{on}\", which is on its way"),
        Cause::Gathered => "everything it stands for is there".to_owned(),
        Cause::Quarantined(why) => format!("its table cannot be used: {why}"),
        Cause::Limit { count, window } => {
            format!("it would be restarted more than {count} times within {}", seconds(*window))
        }
        Cause::DependenciesMet => "everything it waited for is there".to_owned(),
        Cause::BecameReady => "it answered every readiness question".to_owned(),
        Cause::StayedUp => "it stayed up for its ready.delay, and is asked nothing".to_owned(),
        Cause::Executed => "its program was started".to_owned(),
        Cause::Ended { generation, pid, exit, ran } => {
            let process = pid.map_or_else(String::new, |pid| format!(" {pid}"));
            let ran = seconds(*ran);
            match exit {
                Exit::Code(code) => format!(
                    "its process{process} (generation {generation}) ended with exit {code} \
                     after {ran}"
                ),
                Exit::Signal { signal, core } => {
                    let core = if *core { ", core dumped" } else { "" };
                    format!(
                        "its process{process} (generation {generation}) was ended by signal \
                         {signal} after {ran}{core}"
                    )
                }
                Exit::Unknown => format!(
                    "its process{process} (generation {generation}) ended, and nobody saw how"
                ),
            }
        }
        Cause::CannotExecute(failure) => failure.text.clone(),
        Cause::ReadyTimeout { after, missing } => {
            format!("it was not ready within {}: {missing}", seconds(*after))
        }
        Cause::RestartPolicy => "its restart policy starts it again".to_owned(),
        Cause::Cancelled => "keepd was replaced before its program began".to_owned(),
        Cause::Unsure => {
            "keepd was replaced, and it cannot be said whether it still runs".to_owned()
        }
        Cause::SafeMode(why) => format!("keepd starts nothing: {why}"),
        Cause::NotEmpty => "something of it is left long after KILL".to_owned(),
        Cause::Shutdown(cause) => match cause {
            ShutdownCause::Operator(change) => {
                format!("everything is being stopped, as somebody asked (change {change})")
            }
            ShutdownCause::Signal(signal) => {
                format!("everything is being stopped: keepd got signal {signal}")
            }
            ShutdownCause::Service(name) => {
                format!(
                    "everything is being stopped: \"{name}\" ended, and its shutdown_on says so"
                )
            }
            ShutdownCause::Idle => "everything is being stopped: nothing runs any more".to_owned(),
        },
        Cause::Foreign => "the proxy reports something nobody asked it for".to_owned(),
    }
}

/// Returns a sentence for the console and the event stream, without name and time where those stand
/// before.
pub fn sentence(happening: &Happening) -> String {
    match happening {
        Happening::State { to, cause, ran, next_start, .. } => {
            let ran = ran.map(seconds);
            match to {
                State::Ready => {
                    format!("is ready ({})", ran.unwrap_or_else(|| "at once".to_owned()))
                }
                State::Starting => "is starting".to_owned(),
                State::Waiting => format!("is waiting: {}", cause_clause(cause)),
                State::Stopping => match cause {
                    Cause::Ended { .. } => format!("ended: {}", cause_clause(cause)),
                    _ => format!("is stopping: {}", cause_clause(cause)),
                },
                State::Stopped => "is stopped".to_owned(),
                State::Done => format!("is done ({})", ran.unwrap_or_else(|| "0s".to_owned())),
                State::Failed => format!("failed: {}", cause_clause(cause)),
                State::Stuck => format!("is stuck: {}", cause_clause(cause)),
                State::Backoff => {
                    let _ = next_start;
                    format!("is in backoff: {}", cause_clause(cause))
                }
                State::Scheduled => "is scheduled".to_owned(),
                State::Unknown => "is in an unknown state".to_owned(),
            }
        }
        Happening::ChangeOpened(id) => format!("change {id} was accepted"),
        Happening::ChangeClosed(id) => format!("change {id} is complete"),
        Happening::OutputBlocked { errno: Some(errno), .. } => {
            format!("cannot have its output written: {errno}; it waits until there is room")
        }
        Happening::OutputBlocked { errno: None, .. } => "has its output written again".to_owned(),
        Happening::Synchronised { adopted: 0 } => "keepd is in charge".to_owned(),
        Happening::Synchronised { adopted: 1 } => {
            "keepd is in charge again; 1 service ran on".to_owned()
        }
        Happening::Synchronised { adopted } => {
            format!("keepd is in charge again; {adopted} services ran on")
        }
        Happening::ShutdownBegun(cause) => cause_clause(cause),
    }
}

/// Writes a duration with the digits a person wants: `0.004s`, `1.2s`, `75s`.
pub(super) fn seconds(duration: Duration) -> String {
    let value = duration.as_secs_f64();
    if value < 0.1 {
        format!("{value:.3}s")
    } else if value < 60.0 {
        format!("{value:.1}s")
    } else {
        format!("{value:.0}s")
    }
}

impl Manager {
    /// Returns the chain of recorded causes for the present state of a service, newest first.
    pub fn why(&self, now: Instant, name: &ServiceName) -> Option<Vec<WhyLine>> {
        let service = self.services.get(name)?;
        let mut lines = Vec::new();
        self.explain(now, service, 0, &mut lines);
        Some(lines)
    }

    fn explain(&self, now: Instant, service: &Service, depth: usize, lines: &mut Vec<WhyLine>) {
        let mut say = |depth, at, text: String| lines.push(WhyLine { depth, at, text });
        say(depth, Some(service.since), self.headline(now, service));
        say(depth + 1, Some(service.since), format!("because {}", cause_clause(&service.cause)));
        if let Some(text) = self.who(&service.cause) {
            say(depth + 2, None, text);
        }
        for missing in
            self.status(service.name()).map(|status| status.waits_for).into_iter().flatten()
        {
            say(depth + 2, None, format!("it waits for {missing}"));
        }
        if let Some(end) = &service.last_end
            && !matches!(service.cause, Cause::Ended { .. } | Cause::CannotExecute(_))
        {
            let how = match (end.exit, &end.failure) {
                (Some(exit), remark) => {
                    let remark = remark.as_ref().map_or_else(String::new, |r| format!(": {r}"));
                    format!(
                        "its last run (generation {}) ended with {exit} after {}{remark}",
                        end.generation,
                        seconds(end.ran)
                    )
                }
                (None, Some(failure)) => format!("its last start failed: {failure}"),
                (None, None) => format!("its last run (generation {}) ended", end.generation),
            };
            say(depth + 1, Some(end.at), how);
        }
        if let Some(errno) = service.output_blocked {
            let waits = "it waits until it can be, and nothing is lost";
            say(depth + 1, None, format!("its output cannot be written: {errno}; {waits}"));
        }
        say(depth + 1, None, self.wish(service));
        if service.phase == Phase::Waiting {
            let unmet: Vec<&Service> = self
                .unmet(service)
                .filter_map(|unmet| match unmet {
                    Unmet::Edge(on, _) | Unmet::Order(on) => self.services.get(&on),
                    Unmet::SafeMode(_) => None,
                })
                .map(Box::as_ref)
                .collect();
            // A plan has no cycles; the bound keeps a broken one from hanging us.
            if depth < self.services.len() {
                for other in unmet {
                    self.explain(now, other, depth + 2, lines);
                }
            }
        }
    }

    fn headline(&self, now: Instant, service: &Service) -> String {
        let name = service.name();
        match &service.phase {
            Phase::Backoff { until } | Phase::Leased { until: Some(until), .. } => {
                let delay = seconds(until.saturating_since(service.since));
                let next = seconds(until.saturating_since(now));
                let tries = self.shortage.tries(service.name());
                if tries > 0 {
                    let nth = ordinal(u64::from(tries).saturating_add(1));
                    return format!("{name} is in backoff, {nth} try in {next}");
                }
                let nth = ordinal(service.restarts);
                format!("{name} is in backoff, next start in {next} (delay {delay}, {nth} restart)")
            }
            Phase::Running(running) => {
                let for_time = seconds(now.saturating_since(running.ready));
                format!("{name} is ready since {for_time}, process {}", running.pid)
            }
            Phase::Starting(starting) => format!(
                "{name} is starting since {}, process {}",
                seconds(now.saturating_since(starting.started)),
                starting.pid
            ),
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Gathered
            | Phase::Leased { until: None, .. }
            | Phase::Ending(_)
            | Phase::Stuck(_) => format!("{name} is {}", service.state()),
        }
    }

    /// Says why it is wanted as it is, and what the policy makes of its ends.
    fn wish(&self, service: &Service) -> String {
        let wanted = service.wanted();
        let clause = cause_clause(&service.want_cause);
        let place = match service.spec.origins.get("restart") {
            Some(origin) => format!("{origin} restart"),
            None => "default".to_owned(),
        };
        let policy = service.spec.restart;
        match (service.want, &service.phase) {
            (Want::Up, Phase::Resting(_)) if matches!(service.cause, Cause::Limit { .. }) => {
                let place = match service.spec.origins.get("restart_limit") {
                    Some(origin) => format!("{origin} restart_limit"),
                    None => "restart_limit".to_owned(),
                };
                format!("it stays so until it is started by hand ({place})")
            }
            (Want::Up, Phase::Resting(_)) if matches!(service.cause, Cause::Quarantined(_)) => {
                "it stays so until its table in the file is corrected and applied".to_owned()
            }
            (Want::Up, Phase::Resting(Rest::Failed | Rest::Done)) => {
                format!("it stays so: its restart policy is \"{policy}\" ({place})")
            }
            (Want::Up, Phase::Backoff { .. }) if self.shortage.tries(service.name()) > 0 => {
                "it is tried again until the system has room for it; its restart policy is not \
                 asked, and nothing is counted"
                    .to_owned()
            }
            (Want::Up, Phase::Backoff { .. } | Phase::Leased { .. }) => {
                format!("it is started again by the restart policy \"{policy}\" ({place})")
            }
            (Want::Up | Want::Down(_), _) => format!("it is wanted {wanted}, because {clause}"),
        }
    }

    /// Says who opened the change that a cause names.
    fn who(&self, cause: &Cause) -> Option<String> {
        let id = match cause {
            Cause::Operator { change, .. } | Cause::Applied { change, .. } => *change,
            Cause::Shutdown(ShutdownCause::Operator(change)) => *change,
            _ => return None,
        };
        let change: &Change = self.change(id)?;
        let who = change.who?;
        Some(format!(
            "change {id} ({}) was asked for by uid {}, process {}",
            change.verb.word(),
            who.uid,
            who.pid
        ))
    }
}

fn ordinal(number: u64) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        (_, _) => "th",
    };
    format!("{number}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(seconds(Duration::from_millis(4)), "0.004s");
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2s");
        assert_eq!(seconds(Duration::from_secs(75)), "75s");
        let spoken: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 111].map(ordinal).to_vec();
        assert_eq!(spoken.join(" "), "1st 2nd 3rd 4th 11th 12th 13th 21st 111th");
    }
}
