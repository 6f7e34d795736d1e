//! One round: a project of short-lived services, kills of keepd's own processes, and a judgement.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepd_model::{Instant, Pid, Signal};
use keepd_os::proc;
use serde_json::{Value, json};

use super::instance::{Instance, PATIENCE, PROBE, look_until};
use super::stack::{FLAKY, Member, configuration, members};
use super::{
    Dice, Figures, Keepers, Kill, Kills, Kind, OutputFigures, Pairs, Reports, Victim, judge,
    judge_output,
};
use crate::{Entry, processes, test_service_program};

/// At most so many starts happen from the return of control to the next kill: about 50 ms.
const STARTS_MAX: u32 = 15;
/// Of so many kills, one is without another disturbance just before it.
const CALM_ONE_IN: u64 = 3;

/// How long output may be in a pipe on a busy machine, after the end of who wrote it.
const UNREAD_MAX: Duration = Duration::from_millis(500);

/// What a round shall be.
#[derive(Clone, Debug)]
pub struct Order {
    /// Everything that looks like chance follows from it.
    pub seed: u64,
    /// How often somebody is killed.
    pub kills: usize,
    /// How many services there are, without the one that is asked.
    pub services: usize,
    /// Who is killed.
    pub victims: Vec<Victim>,
    /// Who is killed at once with another one.
    pub pairs: Pairs,
}

/// What came of a round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Kills of each kind.
    pub kills: BTreeMap<Victim, usize>,
    /// Kills that came at once with another one.
    pub pairs: usize,
    /// From the kill until a command gets to a service again, by who was killed; pairs count for
    /// the first of the two.
    pub times: BTreeMap<Victim, Vec<Duration>>,
    /// Starts, ends and reports.
    pub figures: Figures,
    /// Output of all services.
    pub output: OutputFigures,
    /// What must not be, as sentences.
    pub findings: Vec<String>,
    /// The folder with everything, if there was a finding.
    pub evidence: Option<PathBuf>,
}

impl Order {
    /// Runs the round. After each kill `progress` gets how many there were.
    ///
    /// # Panics
    /// If the project cannot be started, or the event log cannot be read.
    pub fn run(&self, progress: impl FnMut(usize)) -> Round {
        let members = members(self.services);
        let program = test_service_program();
        let text = configuration(self.seed, &members, &program.to_string_lossy());
        let mut run = Run {
            instance: Instance::start(&text, self.seed),
            members,
            dice: Dice::named(self.seed, "disturbances", 0),
            reports: Reports::default(),
            unknown_allowed: 0,
            double_faults: Vec::new(),
            round: Round::default(),
        };
        if let Err(finding) = run.torture(self, progress).and_then(|()| run.bring_to_rest()) {
            run.round.findings.push(finding);
        }
        run.judge();
        run.finish()
    }
}

/// A round that goes on.
struct Run {
    instance: Instance,
    members: Vec<Member>,
    dice: Dice,
    reports: Reports,
    unknown_allowed: usize,
    /// When warden and proxy were killed at once.
    double_faults: Vec<Instant>,
    round: Round,
}

impl Run {
    /// Kills. The error is a finding after which there is no use in going on.
    fn torture(&mut self, order: &Order, mut progress: impl FnMut(usize)) -> Result<(), String> {
        let kills = Kills::new(order.seed, STARTS_MAX).only(&order.victims).pairs(order.pairs);
        let nobody = Keepers::default();
        let now = keepd_os::clock::monotonic_now();
        let back = self.instance.wait_until_back(&nobody, &[], now);
        back.ok_or("keepd does not get into control at the start")?;
        for (number, kill) in (1..=order.kills).zip(kills) {
            self.one_kill(number, kill)?;
            progress(number);
        }
        Ok(())
    }

    fn one_kill(&mut self, number: usize, kill: Kill) -> Result<(), String> {
        let starts = usize::try_from(kill.after_starts).unwrap_or(usize::MAX);
        let stalled = || format!("before kill {number}: no {starts} starts in {PATIENCE:?}");
        self.instance.wait_for_starts(starts).ok_or_else(stalled)?;
        if !self.dice.one_in(CALM_ONE_IN) {
            self.disturb();
        }
        let victims: Vec<Victim> = kill.victims().collect();
        let before = self.instance.keepers();
        let words = victims.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        self.instance.note("kill", number as u64, &words);
        let Some(killed_at) = self.instance.kill(&before, &victims) else {
            return Err(format!("kill {number}: there is no {words}: {before:?}"));
        };
        if kill.is_double_fault() {
            // Each service may have ended in between.
            self.unknown_allowed += self.members.len() + 1;
            self.double_faults.push(killed_at);
        }
        let back = self.instance.wait_until_back(&before, &victims, killed_at);
        let Some(elapsed) = back else {
            let now = self.instance.keepers();
            return Err(format!(
                "kill {number} ({words}): control is not back after {PATIENCE:?}; \
                 before {before:?}, now {now:?}"
            ));
        };
        self.instance.note("back", number as u64, &elapsed.as_micros().to_string());
        for victim in &victims {
            *self.round.kills.entry(*victim).or_default() += 1;
        }
        self.round.pairs += usize::from(victims.len() > 1);
        self.round.times.entry(kill.victim).or_default().push(elapsed);
        // A manager that has only just come, or whose proxy has, may not know yet what runs. What
        // is not read now is read after a later kill, and at the end.
        if let Some(services) = self.instance.services() {
            let _ = self.reports.follow(&self.instance.project.api(), &services);
        }
        Ok(())
    }

    /// Does what people and bad days do: one service is killed, stopped or started, or its program
    /// is gone. Whether it works is for the judge; nobody waits for it here.
    fn disturb(&mut self) {
        let steady: Vec<String> = self.steady().map(|member| member.name.clone()).collect();
        let Some(name) = (!steady.is_empty()).then(|| self.dice.one_of(&steady).clone()) else {
            return;
        };
        let nothing = json!({});
        match self.dice.below(5) {
            0 => self.kill_service(&name),
            1 => drop(self.instance.act("restart", &[&name], &nothing)),
            2 => drop(self.instance.act("stop", &[&name], &nothing)),
            3 => drop(self.instance.act("start", &[&name], &nothing)),
            _ => toggle(&self.instance.project.path(FLAKY)),
        }
    }

    fn steady(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.kind == Kind::Steady)
    }

    /// Kills a service that never says how it will end, so that nobody can be wrong about it.
    fn kill_service(&mut self, name: &str) {
        let started = |entry: &&Entry| entry.what == "start" && entry.name == name;
        let Some(pid) = self.instance.hear().iter().rev().find(started).map(|entry| entry.pid)
        else {
            return;
        };
        let mark = self.instance.project.mark().to_owned();
        // The number may be somebody else's by now.
        if Pid::new(pid).is_some_and(|pid| proc::environment_has(pid, mark.as_bytes())) {
            processes::signal(pid, Signal::KILL);
        }
    }

    /// After the last kill everything must go on; then everything is stopped, so that each end is
    /// reported, and the reports are read.
    fn bring_to_rest(&mut self) -> Result<(), String> {
        let flaky = self.instance.project.path(FLAKY);
        if !flaky.exists() {
            toggle(&flaky);
        }
        let names: Vec<String> = self.members.iter().map(|member| member.name.clone()).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        let nothing = json!({});
        // What an operator stopped is to run again, too.
        self.patiently("start everything", |run| run.instance.act("up", &[], &nothing))?;
        let from = self.instance.hear().len();
        for Member { name, kind, .. } in self.members.clone() {
            let is_alive = |entry: &Entry| {
                entry.name == name && (entry.what == "start" || entry.what == "reload")
            };
            if kind == Kind::Steady {
                let hup = json!({ "signal": "HUP" });
                self.patiently("signal", |run| run.instance.act("signal", &[&name], &hup))?;
            }
            let alive = self.instance.wait_for_event(from, PATIENCE, is_alive);
            alive.ok_or_else(|| format!("{name}: it does not go on after the last kill"))?;
        }
        names.push(PROBE);
        self.patiently("stop everything", |run| run.instance.act("stop", &names, &nothing))?;
        let mut last = Vec::new();
        let stopped = look_until(PATIENCE, || {
            last = self.instance.services()?;
            last.iter().all(|service| service["state"] == "stopped").then_some(())
        });
        if stopped.is_none() {
            let left = |service: &&Value| service["state"] != "stopped";
            let left: Vec<&Value> = last.iter().filter(left).collect();
            return Err(format!("not stopped after {PATIENCE:?}: {left:?}"));
        }
        for name in names {
            self.patiently("read the history", |run| {
                run.reports.read_one(&run.instance.project.api(), name)
            })?;
        }
        Ok(())
    }

    /// Tries until it works: a manager may have only just come.
    fn patiently(
        &mut self,
        what: &str,
        mut attempt: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut last = String::new();
        let done = look_until(PATIENCE, || match attempt(self) {
            Ok(()) => Some(()),
            Err(error) => {
                last = error;
                None
            }
        });
        done.ok_or_else(|| format!("cannot {what} after the last kill: {last}"))
    }

    fn judge(&mut self) {
        let entries = self.instance.hear().to_vec();
        let verdict = judge(&entries, self.reports.all(), self.unknown_allowed);
        self.round.figures = verdict.figures;
        self.round.findings.extend(verdict.findings.iter().map(ToString::to_string));
        for Member { name, .. } in self.members.iter().filter(|it| it.kind == Kind::Writer) {
            let bytes = self.instance.project.out_log(name);
            let (figures, findings) = judge_output(name, &bytes, &entries);
            self.round.output.bytes += figures.bytes;
            self.round.output.lines += figures.lines;
            // What was in a pipe is lost with everybody who held it.
            let findings = findings.iter().filter(|finding| {
                let cut = self.double_faults.iter();
                !cut.into_iter().any(|at| was_writing(name, finding.generation(), &entries, *at))
            });
            let findings: Vec<String> =
                findings.map(|finding| format!("output of {name}: {finding}")).collect();
            self.round.findings.extend(findings);
        }
    }

    /// Ends the instance, or what is left of it, and keeps everything if there was a finding.
    fn finish(mut self) -> Round {
        if self.round.findings.is_empty() {
            let down = self.instance.project.keepd(["down"]);
            if down.code() == 0 {
                return self.round;
            }
            self.round.findings.push(format!("keepd down ended with {}", down.code()));
        }
        let mut reports = String::new();
        for report in self.reports.all() {
            let super::Report { name, generation, reported } = report;
            reports += &format!("{name} {generation} {reported:?}\n");
        }
        let findings = self.round.findings.join("\n") + "\n";
        let files = [("reports.txt", reports)];
        self.round.evidence = Some(self.instance.keep(findings, &files));
        self.round
    }
}

/// Reports whether output of this generation may have been in a pipe at that time.
fn was_writing(name: &str, generation: Option<u64>, entries: &[Entry], at: Instant) -> bool {
    let time = |what: &str| {
        let found = entries.iter().find(|entry| {
            entry.what == what && entry.name == name && Some(entry.generation) == generation
        });
        found.map(|entry| Instant::from_nanos(entry.nanoseconds))
    };
    // Who was made before writes down a moment later that it began.
    time("start").is_some_and(|started| started <= at.saturating_add(UNREAD_MAX))
        && time("end").is_none_or(|ended| ended.saturating_add(UNREAD_MAX) >= at)
}

/// Takes a link to the test service away, or puts it there again.
fn toggle(path: &Path) {
    if fs::remove_file(path).is_err() {
        std::os::unix::fs::symlink(test_service_program(), path).expect("the folder is ours");
    }
}
