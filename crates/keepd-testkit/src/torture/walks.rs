//! SIGKILL at every system call in turn: an instance at rest, one episode, and one of keepd's
//! processes killed at the k-th call of it, for each k until the episode is over before there are
//! so many calls.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepd_model::Signal;
use keepd_os::clock;
use serde_json::{Value, json};

use super::instance::{Instance, PATIENCE, PROBE, look_until};
use super::tracer::{Tracer, Whose};
use super::{Keepers, Kind, LIFE, Reports, Victim, judge, judge_output};
use crate::{processes, test_service_program};

/// The service of the episodes.
const SUBJECT: &str = "subject";
/// Nobody's episode is longer. The walk is a failure then, and not endless.
const CALLS_MAX: u64 = 5_000;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Episode {
    /// A service is started.
    Spawn,
    /// A service is killed; its end is recorded, and it is started again.
    Reap,
    /// The same with a service that was adopted: its proxy was lost before.
    ReapAdopted,
    /// A service is stopped.
    Stop,
    /// The same with a service that was adopted.
    StopAdopted,
    /// The proxy is killed: there is a new one, and it adopts.
    ProxyLost,
    /// The warden is killed: the proxy takes its place, and a new proxy adopts.
    WardenLost,
}

/// One walk: an episode, and whose calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// What happens.
    pub episode: Episode,
    /// Who is traced.
    pub traced: Victim,
    /// Whether it is killed itself, or what it makes.
    pub whose: Whose,
}

const fn walk(episode: Episode, traced: Victim, whose: Whose) -> Walk {
    Walk { episode, traced, whose }
}

impl Walk {
    /// Every walk in which one of those that keep the services is always left.
    pub const ALL: [Self; 10] = [
        walk(Episode::Spawn, Victim::Proxy, Whose::Own),
        walk(Episode::Spawn, Victim::Proxy, Whose::Child),
        walk(Episode::Reap, Victim::Proxy, Whose::Own),
        walk(Episode::Reap, Victim::Proxy, Whose::Child),
        walk(Episode::ReapAdopted, Victim::Proxy, Whose::Own),
        walk(Episode::ReapAdopted, Victim::Warden, Whose::Own),
        walk(Episode::Stop, Victim::Proxy, Whose::Own),
        walk(Episode::StopAdopted, Victim::Proxy, Whose::Own),
        walk(Episode::ProxyLost, Victim::Warden, Whose::Successor),
        walk(Episode::WardenLost, Victim::Proxy, Whose::Successor),
    ];

    /// Walks in which warden and proxy are lost at once, so that statuses may be unknown.
    pub const DOUBLE_FAULTS: [Self; 2] = [
        walk(Episode::ProxyLost, Victim::Warden, Whose::Own),
        walk(Episode::WardenLost, Victim::Proxy, Whose::Own),
    ];

    /// Takes the walk: kills at the calls `first`, `first + stride`, … After each call `progress`
    /// gets its number. `tracer` is a program that runs [`tracer::run`](super::tracer::run).
    ///
    /// # Panics
    /// If the instance cannot be started.
    pub fn take(
        self,
        tracer: &Path,
        first: u64,
        stride: u64,
        mut progress: impl FnMut(u64),
    ) -> Walked {
        let mut steps = Steps::new(self);
        let mut call = first.max(1);
        let mut killed_at = Vec::new();
        while call <= CALLS_MAX && steps.findings.is_empty() {
            match steps.step(tracer, call) {
                Ok(Some(number)) => killed_at.push(number),
                // The episode has no such call.
                Ok(None) => break,
                Err(finding) => steps.findings.push(format!("call {call}: {finding}")),
            }
            progress(call);
            call += stride.max(1);
        }
        let evidence = steps.finish();
        let findings = std::mem::take(&mut steps.findings);
        Walked { calls: call - 1, killed: killed_at.len(), findings, evidence }
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { episode, traced, whose } = self;
        let episode = match episode {
            Episode::Spawn => "start of a service",
            Episode::Reap => "end and restart",
            Episode::ReapAdopted => "end and restart of an adopted service",
            Episode::Stop => "stop",
            Episode::StopAdopted => "stop of an adopted service",
            Episode::ProxyLost => "proxy killed",
            Episode::WardenLost => "warden killed",
        };
        let who = match whose {
            Whose::Own => traced.word().to_owned(),
            Whose::Child => "child before exec".to_owned(),
            Whose::Successor => "new proxy".to_owned(),
        };
        write!(formatter, "{episode}, {who}")
    }
}

/// What came of a walk.
#[derive(Clone, Debug)]
pub struct Walked {
    /// The last call that was tried; the first one that the episode does not have.
    pub calls: u64,
    /// How often somebody was killed.
    pub killed: usize,
    /// What must not be.
    pub findings: Vec<String>,
    /// The folder with everything, if there was a finding.
    pub evidence: Option<PathBuf>,
}

struct Steps {
    walk: Walk,
    instance: Instance,
    reports: Reports,
    unknown_allowed: usize,
    findings: Vec<String>,
}

impl Steps {
    fn new(walk: Walk) -> Self {
        let program = test_service_program();
        let configuration = format!(
            "version = 1\n[keepd]\nhistory = {}\n[defaults]\nready.delay = \"0s\"\n\
             backoff_initial = \"1ms\"\nbackoff_max = \"1ms\"\n\
             [services.{SUBJECT}]\ncommand = ['{}', '{LIFE}', '1', '{}']\n",
            super::REMEMBERED,
            program.display(),
            Kind::Steady.word(),
        );
        Self {
            walk,
            instance: Instance::start(&configuration, 1),
            reports: Reports::default(),
            unknown_allowed: 0,
            findings: Vec::new(),
        }
    }

    /// Kills at one call. Returns the number of the call; `None` if the episode was over before.
    fn step(&mut self, tracer: &Path, call: u64) -> Result<Option<u64>, String> {
        self.prepare()?;
        let before = self.instance.keepers();
        let traced = self.walk.traced;
        let pid = before.of(traced).ok_or_else(|| format!("there is no {traced}"))?;
        self.instance.note("call", call, &self.walk.to_string());
        let mut tracer = Tracer::start(tracer, pid, self.walk.whose, call)?;
        let from = self.instance.hear().len();
        let gone = self.begin(&before)?;
        let over = self.wait_until_over(from, &before, &gone);
        let killed = tracer.killed();
        drop(tracer);
        over.map_err(|finding| match killed {
            Some(number) => format!("killed at {}: {finding}", name(number)),
            None => format!("nobody was killed: {finding}"),
        })?;
        if killed.is_some() && !gone.is_empty() && self.walk.whose == Whose::Own {
            self.unknown_allowed += 2;
        }
        self.look(killed)?;
        Ok(killed)
    }

    /// Brings the instance to the rest from which the episode begins.
    fn prepare(&mut self) -> Result<(), String> {
        let now = clock::monotonic_now();
        let before = self.instance.keepers();
        let absent = || "control is not there before the episode".to_owned();
        self.instance.wait_until_back(&before, &[], now).ok_or_else(absent)?;
        let is_up = self.walk.episode != Episode::Spawn;
        self.want(is_up)?;
        if matches!(self.walk.episode, Episode::ReapAdopted | Episode::StopAdopted) {
            let before = self.instance.keepers();
            let gone = [Victim::Proxy];
            let killed_at =
                self.instance.kill(&before, &gone).ok_or("there is no proxy to kill")?;
            let back = self.instance.wait_until_back(&before, &gone, killed_at);
            back.ok_or("control is not back after the proxy was killed")?;
        }
        Ok(())
    }

    /// Wants the subject up or down, and waits until it is.
    fn want(&mut self, is_up: bool) -> Result<(), String> {
        let (action, state) = if is_up { ("start", "ready") } else { ("stop", "stopped") };
        let nothing = json!({});
        let mut last = String::new();
        let accepted =
            look_until(PATIENCE, || match self.instance.act(action, &[SUBJECT], &nothing) {
                Ok(()) => Some(()),
                Err(error) => {
                    last = error;
                    None
                }
            });
        accepted.ok_or(last)?;
        self.wait_for_state(state)
    }

    fn wait_for_state(&self, state: &str) -> Result<(), String> {
        let mut last = Value::Null;
        let reached = look_until(PATIENCE, || {
            let services = self.instance.services()?;
            last = services.into_iter().find(|service| service["name"] == SUBJECT)?;
            (last["state"] == state).then_some(())
        });
        reached.ok_or_else(|| format!("the subject is not {state} after {PATIENCE:?}: {last}"))
    }

    /// Sets the episode going. Returns who is killed by that.
    fn begin(&mut self, before: &Keepers) -> Result<Vec<Victim>, String> {
        let nothing = json!({});
        match self.walk.episode {
            Episode::Spawn => self.instance.act("start", &[SUBJECT], &nothing)?,
            Episode::Stop | Episode::StopAdopted => {
                self.instance.act("stop", &[SUBJECT], &nothing)?;
            }
            Episode::Reap | Episode::ReapAdopted => {
                let pid = self.subject().ok_or("the subject has no process")?;
                processes::signal(pid, Signal::KILL);
            }
            Episode::ProxyLost => return self.lose(before, Victim::Proxy),
            Episode::WardenLost => return self.lose(before, Victim::Warden),
        }
        Ok(Vec::new())
    }

    /// Kills who was this before: whoever is traced may have been killed at its first call, and
    /// the roles be changing.
    fn lose(&mut self, before: &Keepers, victim: Victim) -> Result<Vec<Victim>, String> {
        let killed = self.instance.kill(before, &[victim]);
        killed.map(|_| vec![victim]).ok_or_else(|| format!("there is no {victim} to kill"))
    }

    /// Returns the process of the subject, as the subject itself says.
    fn subject(&mut self) -> Option<u32> {
        let is_start = |entry: &&crate::Entry| entry.what == "start" && entry.name == SUBJECT;
        self.instance.hear().iter().rev().find(is_start).map(|entry| entry.pid)
    }

    /// Waits until the episode has led to what it had to lead to, whoever was killed meanwhile.
    fn wait_until_over(
        &mut self,
        from: usize,
        before: &Keepers,
        gone: &[Victim],
    ) -> Result<(), String> {
        let is_start = |entry: &crate::Entry| entry.what == "start" && entry.name == SUBJECT;
        match self.walk.episode {
            Episode::Spawn | Episode::Reap | Episode::ReapAdopted => {
                let started = self.instance.wait_for_event(from, PATIENCE, is_start);
                started.ok_or("the subject was not started")?;
                self.wait_for_state("ready")?;
            }
            Episode::Stop | Episode::StopAdopted => self.wait_for_state("stopped")?,
            Episode::ProxyLost | Episode::WardenLost => {}
        }
        // Who was killed by the episode may be seen in /proc for a moment, and somebody else may
        // answer before he has heard of it.
        let now = clock::monotonic_now();
        let back = self.instance.wait_until_back(before, gone, now);
        back.ok_or_else(|| format!("control is not back ({gone:?} killed by the episode)"))?;
        if self.walk.episode != Episode::Stop && self.walk.episode != Episode::StopAdopted {
            self.wait_for_state("ready")?;
        }
        Ok(())
    }

    /// Judges everything up to now.
    fn look(&mut self, killed: Option<u64>) -> Result<(), String> {
        let api = self.instance.project.api();
        for name in [SUBJECT, PROBE] {
            let mut last = String::new();
            let read = look_until(Duration::from_secs(5), || {
                self.reports.read_one(&api, name).map_err(|error| last = error).ok()
            });
            read.ok_or(last)?;
        }
        let entries = self.instance.hear().to_vec();
        let verdict = judge(&entries, self.reports.all(), self.unknown_allowed);
        let (_, output) = judge_output(SUBJECT, &self.instance.project.out_log(SUBJECT), &entries);
        let found = verdict.findings.iter().map(ToString::to_string);
        let found: Vec<String> = found.chain(output.iter().map(ToString::to_string)).collect();
        if found.is_empty() {
            return Ok(());
        }
        let killed = killed.map_or_else(|| "nobody was killed".to_owned(), name);
        Err(format!("{killed}: {}", found.join("; ")))
    }

    /// Ends the instance; keeps its files if there was a finding.
    fn finish(&mut self) -> Option<PathBuf> {
        if self.findings.is_empty() {
            let down = self.instance.project.keepd(["down"]);
            if down.code() != 0 {
                self.findings.push(format!("keepd down ended with {}", down.code()));
            }
        }
        if self.findings.is_empty() {
            return None;
        }
        let findings = format!("{}: {}\n", self.walk, self.findings.join("\n"));
        Some(self.instance.keep(findings, &[]))
    }
}

/// Returns the name of a system call, from the kernel's list where there is one for people.
fn name(number: u64) -> String {
    let list = fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h");
    let found = list.ok().filter(|_| cfg!(target_arch = "x86_64")).and_then(|list| {
        let lines = list.lines().filter_map(|line| line.strip_prefix("#define __NR_"));
        let mut pairs = lines.filter_map(|line| line.split_once(' '));
        let (name, _) = pairs.find(|(_, found)| found.trim() == number.to_string())?;
        Some(name.to_owned())
    });
    found.unwrap_or_else(|| format!("system call {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_have_different_names() {
        let all = Walk::ALL.into_iter().chain(Walk::DOUBLE_FAULTS);
        let mut names: Vec<String> = all.map(|walk| walk.to_string()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }
}
