//! keepd's own processes are killed: how long until somebody is in control again, with the usual
//! fleet and with one ten times as large, and what its processes need for that.

use std::thread;
use std::time::{Duration, Instant as WallInstant};

use keepd_model::{Instant, Pid};
use keepd_os::clock;

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::control::Control;
use crate::error::BenchError;
use crate::probe::{self, OurProcess};
use crate::records::Records;
use crate::report::{Row, Target, Unit};
use crate::samples::Samples;
use crate::subject::{self, Mode, PATIENCE, Place, Project, Services, Subject, kill};

/// Kills of each process in a round.
const KILLS: usize = 5;
/// So many times the usual fleet.
const LARGE: usize = 10;
/// But never more than this: there are limits of processes and of memory, and whoever takes over
/// needs two descriptors for each, of which a process often may have 20,000.
const SERVICES_MAX: usize = 9_500;
/// Kills of each process of the large fleet.
const LARGE_KILLS: usize = 5;
/// From one kill to the next: longer than what a death sets in motion.
const REST: Duration = Duration::from_millis(300);
/// From one look at /proc to the next.
const LOOK: Duration = Duration::from_millis(1);
/// How long an accepted signal may take to the service before it is sent again: nobody sends it
/// again for us if its proxy was lost.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(250);
/// Starts in one go whose time is measured without and with a warden.
const STARTS: usize = 500;

/// Kills each of keepd's processes in turn, again and again.
///
/// # Errors
/// A project cannot be started, or control does not come back.
pub fn measure(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let mut rows = starts(place, options)?;
    let (count, large) = (options.services, (options.services * LARGE).min(SERVICES_MAX));
    let logged = Services::answering(Mode::Once);
    rows.extend(fleet(place, count, logged, options.rounds * KILLS)?);
    let unlogged = Services::answering_without_logs();
    rows.extend(fleet(place, large, unlogged, LARGE_KILLS.min(options.rounds))?);
    Ok(rows)
}

fn fleet(
    place: &mut Place,
    count: usize,
    services: Services,
    kills: usize,
) -> Result<Vec<Row>, BenchError> {
    progress(&format!("kills: starting {count} services"));
    let mut project = Project::start(place, count, services)?;
    project.wait_until_up()?;
    project.records().wait_for(count, PATIENCE)?;
    let mut rows = memory(&project, count)?;
    let control = project.control()?;
    for role in probe::ROLES {
        progress(&format!("kills: {role}, {kills} times, {count} services"));
        let mut samples = Samples::default();
        for _ in 0..kills {
            thread::sleep(REST);
            samples.push_time(kill_one(&project, &control, role)?);
        }
        rows.push(Row {
            part: Part::Kills,
            what: format!("kill to control, {count} services"),
            subject: format!("keepd up, {role}"),
            unit: Unit::Milliseconds,
            samples,
            floor: None,
            target: (count <= 1_000).then_some(Target::P99(100.0)),
        });
    }
    Box::new(project).stop()?;
    Ok(rows)
}

/// Kills one process. Returns how long it took until it had a successor and a command got as far
/// as a service.
fn kill_one(project: &Project, control: &Control, role: &str) -> Result<Duration, BenchError> {
    let before = project.processes()?;
    let find = |processes: &[OurProcess]| -> Option<Pid> {
        processes.iter().find(|process| process.role == role).map(|process| process.pid)
    };
    let victim = find(&before).ok_or_else(|| BenchError::new(format!("cannot find {role}")))?;
    let killed_at = kill(victim)?;
    let begun_at = WallInstant::now();
    let given_up = || BenchError::new(format!("cannot see control again after {role} was killed"));
    // For the time in between one of them is missing.
    while project.processes().ok().is_none_or(|now| find(&now) == Some(victim)) {
        if begun_at.elapsed() > PATIENCE {
            return Err(given_up());
        }
        thread::sleep(LOOK);
    }
    let records = project.records();
    let count = records.count()?;
    while begun_at.elapsed() < PATIENCE {
        if control.signal("s00000", "HUP")
            && let Some(at) = answer(records, count)?
        {
            return Ok(at.saturating_since(killed_at));
        }
        thread::sleep(LOOK);
    }
    Err(given_up())
}

/// Waits for the next record; `None` if there is none for some time.
fn answer(records: &Records, count: usize) -> Result<Option<Instant>, BenchError> {
    let begun_at = WallInstant::now();
    while records.count()? <= count {
        if begun_at.elapsed() > SIGNAL_PATIENCE {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
    Ok(records.read()?.get(count).map(|record| record.began_at))
}

fn memory(project: &Project, count: usize) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for process in project.processes()? {
        let memory = probe::memory(process.pid)?;
        let row = |what: &str, value: u64| Row {
            part: Part::Kills,
            what: format!("{what} at {count} services"),
            subject: format!("keepd up, {}", process.role),
            unit: Unit::Kibibytes,
            samples: [value as f64].into_iter().collect(),
            floor: None,
            target: None,
        };
        rows.push(row("PSS", memory.pss));
        rows.push(row("private dirty", memory.private_dirty));
    }
    Ok(rows)
}

/// What the ledger and the journal cost a start.
fn starts(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let subjects = [("keepd proxy", false), ("keepd proxy --warden", true)];
    let mut all = [Samples::default(), Samples::default()];
    for round in 1..=options.rounds {
        progress(&format!("kills: cost of a start, round {round} of {}", options.rounds));
        for ((_, is_warden), samples) in subjects.iter().zip(&mut all) {
            let proxy = subject::Proxy::start(place, STARTS, Mode::Once, *is_warden)?;
            let started = proxy.records().wait_for(STARTS, PATIENCE)?;
            let last = crate::records::last(&started).unwrap_or_else(clock::monotonic_now);
            let elapsed = last.saturating_since(proxy.asked_at());
            samples.push(elapsed.as_secs_f64() * 1_000_000.0 / STARTS as f64);
            Box::new(proxy).stop()?;
        }
    }
    let floor = all[0].median();
    let rows = subjects.iter().zip(all).map(|((subject, _), samples)| Row {
        part: Part::Kills,
        what: format!("a start, of {STARTS} in one go"),
        subject: (*subject).to_owned(),
        unit: Unit::Microseconds,
        samples,
        floor,
        target: None,
    });
    Ok(rows.collect())
}
