//! From a death to the first instruction of the new instance, also while the manager cannot answer:
//! then the proxy spends the lease that it was given.

use std::thread;
use std::time::Duration;

use keepd_model::{Pid, Signal};
use keepd_os::{clock, pidfd};

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::error::{Attempt, BenchError};
use crate::records::{self, Records};
use crate::report::{Row, Target, Unit};
use crate::samples::Samples;
use crate::subject::{self, Kind, Mode, PATIENCE, Place, kill};

/// Services of each subject; each is killed once in a round.
const SERVICES: usize = 5;
/// How long a service has run before it is killed: longer than the shortest interval of `auto_up`
/// and the `backoff_reset` of the project, so that nobody has a reason to wait.
const RUN: Duration = Duration::from_millis(1_200);

/// Kills services under each subject in turn.
///
/// # Errors
/// A subject cannot be started, or does not start a service again.
pub fn measure(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let mut subjects = Vec::new();
    for kind in Kind::ALL {
        let subject = subject::start(kind, place, SERVICES, Mode::Again)?;
        subject.records().wait_for(SERVICES, PATIENCE)?;
        subjects.push((kind, subject, Samples::default()));
    }
    let mut without_manager = Samples::default();
    for round in 1..=options.rounds {
        progress(&format!("restart, round {round} of {}", options.rounds));
        for (kind, subject, samples) in &mut subjects {
            kill_each(subject.records(), samples, None)?;
            if *kind == Kind::Up {
                let processes = subject.processes()?;
                let manager = processes.iter().find(|process| process.role == "manager");
                let manager = manager.map(|process| process.pid);
                kill_each(subject.records(), &mut without_manager, manager)?;
            }
        }
    }
    let floor = subjects[0].2.median();
    let row = |subject: &str, samples, is_floor: bool| Row {
        part: Part::Restart,
        what: "death to first instruction".into(),
        subject: subject.into(),
        unit: Unit::Milliseconds,
        samples,
        floor,
        target: (!is_floor).then_some(Target::TimesFloor(1.2)),
    };
    let mut rows = Vec::new();
    for (kind, subject, samples) in subjects {
        subject.stop()?;
        rows.push(row(kind.name(), samples, kind == Kind::Floor));
    }
    rows.push(row("keepd up, manager stopped", without_manager, false));
    Ok(rows)
}

/// Kills the present instance of each service, one after the other, while `stopped` cannot run.
fn kill_each(
    records: &Records,
    samples: &mut Samples,
    stopped: Option<Pid>,
) -> Result<(), BenchError> {
    let all = records.read()?;
    let present = &all[all.len() - SERVICES..];
    if let Some(last) = records::last(present) {
        let age = clock::monotonic_now().saturating_since(last);
        thread::sleep(RUN.saturating_sub(age));
    }
    if let Some(pid) = stopped {
        signal(pid, Signal::STOP)?;
    }
    for (count, victim) in present.iter().enumerate() {
        let killed_at = kill(victim.pid)?;
        let wanted = all.len() + count + 1;
        let after = records.wait_for(wanted, PATIENCE)?;
        if let Some(new) = after.get(wanted - 1) {
            samples.push_time(new.began_at.saturating_since(killed_at));
        }
    }
    stopped.map_or(Ok(()), |pid| signal(pid, Signal::CONT))
}

fn signal(pid: Pid, signal: Signal) -> Result<(), BenchError> {
    let what = format!("signal process {pid}");
    let process = pidfd::open(pid).attempt(&what)?;
    pidfd::send(&process, signal).attempt(&what)
}
