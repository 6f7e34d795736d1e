//! From a death to the first instruction of the new instance.

use std::thread;
use std::time::Duration;

use keepd_os::clock;

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::error::BenchError;
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
    for round in 1..=options.rounds {
        progress(&format!("restart, round {round} of {}", options.rounds));
        for (_, subject, samples) in &mut subjects {
            kill_each(subject.records(), samples)?;
        }
    }
    let floor = subjects[0].2.median();
    let mut rows = Vec::new();
    for (kind, subject, samples) in subjects {
        subject.stop()?;
        rows.push(Row {
            part: Part::Restart,
            what: "death to first instruction".into(),
            subject: kind.name().into(),
            unit: Unit::Milliseconds,
            samples,
            floor,
            target: (kind != Kind::Floor).then_some(Target::TimesFloor(1.2)),
        });
    }
    Ok(rows)
}

/// Kills the present instance of each service, one after the other.
fn kill_each(records: &Records, samples: &mut Samples) -> Result<(), BenchError> {
    let all = records.read()?;
    let present = &all[all.len() - SERVICES..];
    if let Some(last) = records::last(present) {
        let age = clock::monotonic_now().saturating_since(last);
        thread::sleep(RUN.saturating_sub(age));
    }
    for (count, victim) in present.iter().enumerate() {
        let killed_at = kill(victim.pid)?;
        let wanted = all.len() + count + 1;
        let after = records.wait_for(wanted, PATIENCE)?;
        if let Some(new) = after.get(wanted - 1) {
            samples.push_time(new.began_at.saturating_since(killed_at));
        }
    }
    Ok(())
}
