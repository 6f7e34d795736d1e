//! What keepd reports about the ends of services: the history that it keeps of each, read through
//! its API often enough that nothing is forgotten in between.

use std::collections::BTreeMap;

use keepd_model::{Exit, Signal};
use serde_json::Value;

use super::{Report, Reported};
use crate::Api;

/// How many runs of a service keepd shall remember (`keepd.history`).
pub const REMEMBERED: u64 = 60;
/// After so many generations of a service its history is read again.
const READ_AFTER: u64 = REMEMBERED / 6;

/// Everything that was reported so far.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    known: BTreeMap<(String, u64), Reported>,
    /// In the order of reading. An end that is told again in the same way is there once.
    all: Vec<Report>,
    /// The generation of each service when its history was last read.
    read: BTreeMap<String, u64>,
}

impl Reports {
    /// Returns every report.
    pub fn all(&self) -> &[Report] {
        &self.all
    }

    /// Reads the histories of services that went on far enough since they were read.
    ///
    /// # Errors
    /// There is no answer; what was read so far is kept.
    pub fn follow(&mut self, api: &Api, services: &[Value]) -> Result<(), String> {
        for service in services {
            let name = service["name"].as_str().unwrap_or_default();
            let generation = service["generation"].as_u64().unwrap_or(0);
            let read = self.read.get(name).copied().unwrap_or(0);
            if generation >= read + READ_AFTER {
                self.read_one(api, name)?;
                self.read.insert(name.to_owned(), generation);
            }
        }
        Ok(())
    }

    /// Reads the history of one service.
    ///
    /// # Errors
    /// There is no answer.
    pub fn read_one(&mut self, api: &Api, name: &str) -> Result<(), String> {
        let answer = api.get(&format!("/v1/services/{name}/history"));
        let answer = answer.map_err(|error| format!("cannot read history of {name}: {error}"))?;
        if answer.status != 200 {
            return Err(format!("cannot read history of {name}: {}", answer.body));
        }
        let history: Value = serde_json::from_str(&answer.body)
            .map_err(|error| format!("cannot read history of {name}: {error}"))?;
        let runs = history["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (generation, reported) in ends(runs) {
            self.add(Report { name: name.to_owned(), generation, reported });
        }
        Ok(())
    }

    fn add(&mut self, report: Report) {
        let key = (report.name.clone(), report.generation);
        if self.known.get(&key) != Some(&report.reported) {
            self.known.insert(key, report.reported);
            self.all.push(report);
        }
    }
}

/// Reads the ends in a history, in the order of time.
///
/// The manager also remembers attempts that did not get as far as a generation of their own: with
/// the number of the one before. They are not the end of anything, even if the one before is
/// forgotten already.
fn ends(runs: &[Value]) -> Vec<(u64, Reported)> {
    let mut ends: Vec<(u64, Reported)> = Vec::new();
    let is_all = (runs.len() as u64) < REMEMBERED;
    // Whose number an attempt at the beginning has.
    let forgotten = runs.last().filter(|_| !is_all).and_then(|run| run["generation"].as_u64());
    // The newest comes first; the present one has no end.
    for run in runs.iter().rev() {
        let (Some(generation), Some(reported)) = (run["generation"].as_u64(), reported(run)) else {
            continue;
        };
        let before = ends.last().map(|(generation, _)| *generation).or(forgotten).unwrap_or(0);
        if reported != Reported::NeverRan || generation > before {
            ends.push((generation, reported));
        }
    }
    ends
}

/// Reads the end of a run; `None` if it has none.
fn reported(run: &Value) -> Option<Reported> {
    let end = run["end"].as_object()?;
    let code = end["code"].as_u64().and_then(|code| u8::try_from(code).ok());
    let signal = end["signal"].as_str().and_then(|word| Signal::parse(word).ok());
    Some(match (code, signal) {
        (Some(code), _) => Reported::Ended(Exit::Code(code)),
        // Whether there was a core depends on limits, and nobody promised one.
        (None, Some(signal)) => Reported::Ended(Exit::Signal { signal, core: false }),
        // What began, must have ended somehow.
        (None, None) if run["started"].is_string() => Reported::Ended(Exit::Unknown),
        (None, None) => Reported::NeverRan,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(generation: u64, code: Option<u8>, signal: Option<&str>, began: bool) -> Value {
        let started = began.then_some("2026-11-21T07:02:55Z");
        let end = json!({ "code": code, "signal": signal, "reason": "operator" });
        json!({ "generation": generation, "started": started, "end": end })
    }

    fn present(generation: u64) -> Value {
        json!({ "generation": generation, "started": "2026-11-21T07:02:55Z", "end": null })
    }

    #[test]
    fn ends_are_read_as_they_are_told() {
        let killed = Exit::Signal { signal: Signal::KILL, core: false };
        let expected = [
            (run(1, Some(3), None, true), Some(Reported::Ended(Exit::Code(3)))),
            (run(1, None, Some("KILL"), true), Some(Reported::Ended(killed))),
            (run(1, None, None, true), Some(Reported::Ended(Exit::Unknown))),
            (run(1, None, None, false), Some(Reported::NeverRan)),
            (present(1), None),
        ];
        for (value, reading) in expected {
            assert_eq!(reported(&value), reading, "{value}");
        }
    }

    #[test]
    fn an_attempt_without_a_generation_is_no_end() {
        let runs = [
            present(4),
            run(3, None, None, false),
            run(2, None, None, false),
            run(2, Some(1), None, true),
            run(1, Some(1), None, true),
            run(0, None, None, false),
        ];
        let exit = Reported::Ended(Exit::Code(1));
        assert_eq!(ends(&runs), [(1, exit), (2, exit), (3, Reported::NeverRan)]);
    }

    #[test]
    fn an_attempt_whose_generation_is_forgotten_is_no_end() {
        let window = |oldest: Value| {
            let newest = run(8, Some(1), None, true);
            let attempts = (2..REMEMBERED).map(|_| run(7, None, None, false));
            [newest].into_iter().chain(attempts).chain([oldest]).collect::<Vec<Value>>()
        };
        let exit = Reported::Ended(Exit::Code(1));
        assert_eq!(ends(&window(run(7, None, None, false))), [(8, exit)]);
        assert_eq!(ends(&window(run(7, Some(1), None, true))), [(7, exit), (8, exit)]);
        assert_eq!(ends(&window(run(6, Some(1), None, true)))[1], (7, Reported::NeverRan));
    }

    #[test]
    fn the_same_end_is_kept_once_and_another_one_beside_it() {
        let mut reports = Reports::default();
        for code in [3, 3, 4] {
            let reported = Reported::Ended(Exit::Code(code));
            reports.add(Report { name: "web".to_owned(), generation: 1, reported });
        }
        assert_eq!(reports.all().len(), 2);
    }
}
