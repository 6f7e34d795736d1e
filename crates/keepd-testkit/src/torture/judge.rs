//! What the services wrote down, against what was reported about them.

use std::collections::BTreeMap;
use std::fmt;

use keepd_model::{Exit, Signal};

use crate::Entry;

/// What keepd reported about one generation of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The service.
    pub name: String,
    /// The generation.
    pub generation: u64,
    /// What became of it.
    pub reported: Reported,
}

/// What became of a generation, as it was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// Its process ended.
    Ended(Exit),
    /// Its program never ran: a step before it failed, or it was taken back.
    NeverRan,
}

/// Numbers of a run, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Services that were started at least once.
    pub services: usize,
    /// Starts that services wrote down.
    pub starts: usize,
    /// Different generations whose end was reported.
    pub ends: usize,
    /// Reports of ends that were reported before, in the same way. That is allowed: generations
    /// tell them apart.
    pub repeated: usize,
    /// Generations that were reported to have never run.
    pub never_ran: usize,
    /// Ends of which nobody could say how.
    pub unknown: usize,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Two processes of a service were alive at once.
    Double {
        /// The service.
        name: String,
        /// The generation that came second.
        generation: u64,
        /// How it is known.
        proof: String,
    },
    /// A generation ended, and no report says so.
    Lost {
        /// The service.
        name: String,
        /// The generation.
        generation: u64,
    },
    /// A report is not what happened, or not what another report says.
    Wrong {
        /// The service.
        name: String,
        /// The generation.
        generation: u64,
        /// What was reported.
        reported: Reported,
        /// What happened.
        truth: String,
    },
    /// More ends are unknown than were allowed.
    Unknown {
        /// How many.
        count: usize,
        /// How many were allowed.
        allowed: usize,
    },
    /// A generation was skipped.
    Gap {
        /// The service.
        name: String,
        /// The generation that nobody saw.
        generation: u64,
    },
    /// A generation was started after a later one.
    OutOfOrder {
        /// The service.
        name: String,
        /// The generation.
        generation: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Double { name, generation, proof } => {
                write!(formatter, "{name}: generation {generation} is a second instance: {proof}")
            }
            Self::Lost { name, generation } => {
                write!(formatter, "{name}: the end of generation {generation} was not reported")
            }
            Self::Wrong { name, generation, reported, truth } => write!(
                formatter,
                "{name}: generation {generation} was reported as {reported:?}, but {truth}"
            ),
            Self::Unknown { count, allowed } => {
                write!(formatter, "{count} ends are unknown, {allowed} were allowed")
            }
            Self::Gap { name, generation } => {
                write!(formatter, "{name}: generation {generation} was skipped")
            }
            Self::OutOfOrder { name, generation } => {
                write!(formatter, "{name}: generation {generation} came after a later one")
            }
        }
    }
}

/// What a judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The numbers.
    pub figures: Figures,
    /// What must not be; empty if all was well.
    pub findings: Vec<Finding>,
}

/// What one service wrote down about one generation.
#[derive(Default)]
struct Life<'a> {
    starts: Vec<&'a Entry>,
    end: Option<&'a Entry>,
}

/// Everything about one service.
#[derive(Default)]
struct Service<'a> {
    lives: BTreeMap<u64, Life<'a>>,
    reports: BTreeMap<u64, Reported>,
    /// The generations as they began.
    order: Vec<u64>,
}

/// Judges a run: the event log of the services, in the order of writing, and everything that was
/// reported. So many ends may be unknown: those for which two faults came into each other.
///
/// Events that count: `start`, `end` with how (`exit 3`, `abort`, `signal KILL`), `violation`. A
/// process that ended without saying so must have been killed.
pub fn judge(entries: &[Entry], reports: &[Report], unknown_allowed: usize) -> Verdict {
    let mut verdict = Verdict { figures: Figures::default(), findings: Vec::new() };
    let mut services: BTreeMap<&str, Service<'_>> = BTreeMap::new();
    for entry in entries {
        note_entry(services.entry(&entry.name).or_default(), entry, &mut verdict);
    }
    for report in reports {
        note_report(services.entry(&report.name).or_default(), report, &mut verdict);
    }
    for (name, service) in &services {
        judge_service(name, service, &mut verdict);
    }
    let figures = &mut verdict.figures;
    figures.services = services.values().filter(|service| !service.order.is_empty()).count();
    if figures.unknown > unknown_allowed {
        let finding = Finding::Unknown { count: figures.unknown, allowed: unknown_allowed };
        verdict.findings.push(finding);
    }
    verdict
}

fn note_entry<'a>(service: &mut Service<'a>, entry: &'a Entry, verdict: &mut Verdict) {
    let double = |proof: String| Finding::Double {
        name: entry.name.clone(),
        generation: entry.generation,
        proof,
    };
    match entry.what.as_str() {
        "start" => {
            verdict.figures.starts += 1;
            let life = service.lives.entry(entry.generation).or_default();
            if let Some(first) = life.starts.first() {
                let proof = format!("processes {} and {} both began it", first.pid, entry.pid);
                verdict.findings.push(double(proof));
            }
            life.starts.push(entry);
            service.order.push(entry.generation);
        }
        "end" => {
            // Who ends after its successor began was alive beside it.
            let current = service.order.last().copied().unwrap_or(entry.generation);
            if current > entry.generation {
                let proof = format!("generation {current} had begun before it ended");
                verdict.findings.push(double(proof));
            }
            service.lives.entry(entry.generation).or_default().end = Some(entry);
        }
        "violation" => verdict.findings.push(double(entry.more.clone())),
        _ => {}
    }
}

fn note_report(service: &mut Service<'_>, report: &Report, verdict: &mut Verdict) {
    match service.reports.get(&report.generation) {
        None => {
            service.reports.insert(report.generation, report.reported);
            match report.reported {
                Reported::Ended(Exit::Unknown) => verdict.figures.unknown += 1,
                Reported::Ended(_) => {}
                Reported::NeverRan => verdict.figures.never_ran += 1,
            }
            if report.reported != Reported::NeverRan {
                verdict.figures.ends += 1;
            }
        }
        Some(before) if *before == report.reported => verdict.figures.repeated += 1,
        Some(before) => verdict.findings.push(Finding::Wrong {
            name: report.name.clone(),
            generation: report.generation,
            reported: report.reported,
            truth: format!("it was reported as {before:?} before"),
        }),
    }
}

fn judge_service(name: &str, service: &Service<'_>, verdict: &mut Verdict) {
    let last_started = service.lives.keys().next_back().copied();
    let last_reported = service.reports.keys().next_back().copied();
    let last = last_started.max(last_reported).unwrap_or(0);
    for generation in 1..=last {
        let life = service.lives.get(&generation);
        let report = service.reports.get(&generation);
        let name = name.to_owned();
        match (life, report) {
            (None, None) => verdict.findings.push(Finding::Gap { name, generation }),
            (Some(life), None) if generation < last || life.end.is_some() => {
                verdict.findings.push(Finding::Lost { name, generation });
            }
            // The last one may be alive.
            (Some(_), None) => {}
            (life, Some(reported)) => {
                if let Some(truth) = contradiction(life, *reported) {
                    let reported = *reported;
                    verdict.findings.push(Finding::Wrong { name, generation, reported, truth });
                }
            }
        }
    }
    for pair in service.order.windows(2) {
        if pair[1] < pair[0] {
            let (name, generation) = (name.to_owned(), pair[1]);
            verdict.findings.push(Finding::OutOfOrder { name, generation });
        }
    }
}

/// Returns what happened, if it is not what was reported.
fn contradiction(life: Option<&Life<'_>>, reported: Reported) -> Option<String> {
    let end = life.and_then(|life| life.end);
    match reported {
        // It is counted, and that is all that can be said.
        Reported::Ended(Exit::Unknown) => None,
        Reported::NeverRan => life.map(|_| "it wrote down that it ran".to_owned()),
        Reported::Ended(exit) => match (end, exit) {
            (Some(end), exit) if said_exit(&end.more) == Some(exit) => None,
            (Some(end), _) => Some(format!("it wrote down \"{}\"", end.more)),
            // Killed, perhaps before it could write down anything.
            (None, Exit::Signal { .. }) => None,
            (None, _) => Some("it never wrote down that it would end".to_owned()),
        },
    }
}

/// Reads how a service said that it would end.
fn said_exit(text: &str) -> Option<Exit> {
    let signal = |signal| Exit::Signal { signal, core: false };
    match text.split_once(' ') {
        Some(("exit", code)) => Some(Exit::Code(code.parse().ok()?)),
        Some(("signal", name)) => Some(signal(Signal::parse(name).ok()?)),
        None if text == "abort" => Some(signal(Signal::parse("ABRT").ok()?)),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> Entry {
        let mut fields = line.splitn(5, ' ');
        let mut next = || fields.next().unwrap_or_default().to_owned();
        Entry {
            what: next(),
            name: next(),
            pid: next().parse().unwrap(),
            generation: next().parse().unwrap(),
            nanoseconds: 0,
            more: next(),
        }
    }

    fn code(name: &str, generation: u64, code: u8) -> Report {
        report(name, generation, Reported::Ended(Exit::Code(code)))
    }

    fn report(name: &str, generation: u64, reported: Reported) -> Report {
        Report { name: name.to_owned(), generation, reported }
    }

    fn findings(lines: &[&str], reports: &[Report]) -> Vec<String> {
        let entries: Vec<Entry> = lines.iter().map(|line| entry(line)).collect();
        judge(&entries, reports, 0).findings.iter().map(ToString::to_string).collect()
    }

    const GOOD: [&str; 5] = [
        "start web 10 1",
        "end web 10 1 exit 3",
        "start db 11 1",
        "start web 12 3",
        "end web 12 3 abort",
    ];

    fn good_reports() -> Vec<Report> {
        let aborted = Exit::Signal { signal: Signal::parse("ABRT").unwrap(), core: false };
        vec![
            code("web", 1, 3),
            report("web", 2, Reported::NeverRan),
            code("web", 1, 3),
            report("web", 3, Reported::Ended(aborted)),
        ]
    }

    #[test]
    fn a_good_run_has_figures_and_no_findings() {
        let entries = GOOD.map(entry);
        let figures =
            Figures { services: 2, starts: 3, ends: 2, repeated: 1, never_ran: 1, unknown: 0 };
        let verdict = judge(&entries, &good_reports(), 0);
        assert_eq!(verdict, Verdict { figures, findings: Vec::new() });
        assert_eq!(judge(&[], &[], 0).findings, []);
    }

    #[test]
    fn two_at_once_are_seen_in_each_way() {
        let twice = ["start web 10 1", "start web 11 1"];
        let expected = "web: generation 1 is a second instance: processes 10 and 11 both began it";
        assert_eq!(findings(&twice, &[]), [expected]);
        let late = ["start web 10 1", "start web 11 2", "end web 10 1 exit 0"];
        let expected =
            "web: generation 1 is a second instance: generation 2 had begun before it ended";
        assert_eq!(findings(&late, &[code("web", 1, 0)]), [expected]);
        let locked = ["start web 10 1", "violation web 11 1 another process is alive"];
        let expected = "web: generation 1 is a second instance: another process is alive";
        assert_eq!(findings(&locked, &[]), [expected]);
    }

    #[test]
    fn lost_ends_and_skipped_generations_are_named() {
        let reports = good_reports();
        let without = |index: usize| {
            let mut reports = reports.clone();
            reports.remove(index);
            findings(&GOOD, &reports)
        };
        assert_eq!(without(3), ["web: the end of generation 3 was not reported"]);
        assert_eq!(without(1), ["web: generation 2 was skipped"]);
        assert_eq!(without(2), [""; 0], "it was reported twice");
        let order = ["start web 1 2", "start web 2 1"];
        let found = findings(&order, &[code("web", 1, 0)]);
        assert!(
            found.contains(&"web: generation 1 came after a later one".to_owned()),
            "{found:?}"
        );
    }

    #[test]
    fn wrong_ends_are_told_with_the_truth() {
        let mut reports = good_reports();
        reports[0] = code("web", 1, 4);
        let found = findings(&GOOD, &reports);
        assert_eq!(found.len(), 2, "the truth and the other report: {found:?}");
        let truth =
            "web: generation 1 was reported as Ended(Code(4)), but it wrote down \"exit 3\"";
        assert!(found.contains(&truth.to_owned()), "{found:?}");
        let ran = report("db", 1, Reported::NeverRan);
        let found = findings(&["start db 1 1"], &[ran]);
        let expected = "db: generation 1 was reported as NeverRan, but it wrote down that it ran";
        assert_eq!(found, [expected]);
        let silent = findings(&["start db 1 1"], &[code("db", 1, 0)]);
        assert!(silent[0].ends_with("it never wrote down that it would end"));
        let killed = Exit::Signal { signal: Signal::KILL, core: false };
        let killed = report("db", 1, Reported::Ended(killed));
        assert_eq!(findings(&["start db 1 1"], &[killed]), [""; 0]);
    }

    #[test]
    fn unknown_ends_are_counted_against_what_is_allowed() {
        let entries = ["start db 1 1", "end db 1 1 exit 0"].map(entry);
        let reports = [report("db", 1, Reported::Ended(Exit::Unknown))];
        assert_eq!(judge(&entries, &reports, 1).findings, []);
        let verdict = judge(&entries, &reports, 0);
        assert_eq!(verdict.findings, [Finding::Unknown { count: 1, allowed: 0 }]);
    }
}
