//! Many services: how long until all of them run, what that costs in memory, what it costs while
//! nothing happens, and how long until none is left.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::error::BenchError;
use crate::probe::{self, OurProcess};
use crate::records;
use crate::report::{Row, Target, Unit};
use crate::samples::Samples;
use crate::subject::{self, Kind, Mode, PATIENCE, Place, Project, Services, Subject};

/// Rounds in which wake-ups are counted: each takes as long as the fleet is watched, and a count
/// that should be zero needs no percentiles.
const IDLE_ROUNDS: usize = 2;
/// What a start sets in motion is over after this.
const SETTLE: Duration = Duration::from_secs(2);

/// Which figure of whom; the order is that of the table.
type Key = (Figure, &'static str, &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Figure {
    Start,
    Ready,
    Stop,
    PssEmpty,
    DirtyEmpty,
    Pss,
    Dirty,
    Idle,
}

/// The name of the sum over all processes of a subject.
const ALL: &str = "all";

#[derive(Debug, Default)]
struct Figures(BTreeMap<Key, Samples>);

impl Figures {
    fn add(&mut self, figure: Figure, kind: Kind, role: &'static str) -> &mut Samples {
        self.0.entry((figure, kind.name(), role)).or_default()
    }
}

/// Starts and stops the fleet under each subject in turn.
///
/// # Errors
/// A subject cannot be started or stopped, or /proc cannot be read.
pub fn measure(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        for kind in Kind::ALL {
            progress(&format!("fleet, round {round} of {}, {}", options.rounds, kind.name()));
            match kind {
                Kind::Floor => {}
                Kind::Proxy | Kind::Up => empty(place, kind, &mut figures)?,
            }
            full(place, kind, options, round <= IDLE_ROUNDS, &mut figures)?;
        }
    }
    Ok(rows(&figures, options))
}

/// The memory of a subject without services.
fn empty(place: &mut Place, kind: Kind, figures: &mut Figures) -> Result<(), BenchError> {
    let subject = match kind {
        Kind::Up => {
            let mut project = Project::start(place, 0, Services::waiting(Mode::Once))?;
            project.wait_until_up()?;
            Box::new(project)
        }
        Kind::Floor | Kind::Proxy => subject::start(kind, place, 0, Mode::Once)?,
    };
    let processes = subject.processes()?;
    add_memory(&processes, kind, [Figure::PssEmpty, Figure::DirtyEmpty], figures)?;
    subject.stop()?;
    Ok(())
}

/// One start, look and stop of the whole fleet.
fn full(
    place: &mut Place,
    kind: Kind,
    options: &Options,
    is_watched: bool,
    figures: &mut Figures,
) -> Result<(), BenchError> {
    let count = options.services;
    let subject: Box<dyn Subject> = match kind {
        Kind::Up => {
            let mut project = Project::start(place, count, Services::waiting(Mode::Once))?;
            let ready = project.wait_until_up()?;
            figures.add(Figure::Ready, kind, ALL).push_time(ready);
            Box::new(project)
        }
        Kind::Floor | Kind::Proxy => subject::start(kind, place, count, Mode::Once)?,
    };
    let started = subject.records().wait_for(count, PATIENCE)?;
    if let Some(last) = records::last(&started) {
        let elapsed = last.saturating_since(subject.asked_at());
        figures.add(Figure::Start, kind, ALL).push_time(elapsed);
    }
    let processes = subject.processes()?;
    if is_watched {
        thread::sleep(SETTLE);
        add_memory(&processes, kind, [Figure::Pss, Figure::Dirty], figures)?;
        watch(&processes, kind, options.idle(), figures)?;
    } else {
        add_memory(&processes, kind, [Figure::Pss, Figure::Dirty], figures)?;
    }
    let stop = subject.stop()?;
    figures.add(Figure::Stop, kind, ALL).push_time(stop);
    Ok(())
}

fn add_memory(
    processes: &[OurProcess],
    kind: Kind,
    [pss, dirty]: [Figure; 2],
    figures: &mut Figures,
) -> Result<(), BenchError> {
    let mut all = probe::Memory::default();
    for process in processes {
        let memory = probe::memory(process.pid)?;
        all.pss += memory.pss;
        all.private_dirty += memory.private_dirty;
        if processes.len() > 1 {
            figures.add(pss, kind, process.role).push(memory.pss as f64);
            figures.add(dirty, kind, process.role).push(memory.private_dirty as f64);
        }
    }
    figures.add(pss, kind, ALL).push(all.pss as f64);
    figures.add(dirty, kind, ALL).push(all.private_dirty as f64);
    Ok(())
}

fn watch(
    processes: &[OurProcess],
    kind: Kind,
    time: Duration,
    figures: &mut Figures,
) -> Result<(), BenchError> {
    let count = |process: &OurProcess| probe::context_switches(process.pid);
    let before: Vec<u64> = processes.iter().map(count).collect::<Result<_, _>>()?;
    thread::sleep(time);
    for (process, before) in processes.iter().zip(before) {
        let switches = count(process)?.saturating_sub(before);
        let role = if processes.len() > 1 { process.role } else { ALL };
        figures.add(Figure::Idle, kind, role).push(switches as f64);
    }
    Ok(())
}

fn rows(figures: &Figures, options: &Options) -> Vec<Row> {
    let row = |((figure, subject, role), samples): (&Key, &Samples)| {
        let floor = figures.0.get(&(*figure, Kind::Floor.name(), ALL)).and_then(Samples::median);
        Row {
            part: Part::Fleet,
            what: what(*figure, options),
            subject: if *role == ALL { (*subject).into() } else { format!("{subject}, {role}") },
            unit: unit(*figure),
            samples: samples.clone(),
            floor,
            target: target(*figure, subject, role),
        }
    };
    figures.0.iter().map(row).collect()
}

fn what(figure: Figure, options: &Options) -> String {
    let count = options.services;
    let seconds = options.idle().as_secs();
    match figure {
        Figure::Start => format!("until {count} services are executed"),
        Figure::Ready => format!("until `up -d` of {count} returns"),
        Figure::Stop => format!("until {count} services are stopped"),
        Figure::PssEmpty => "PSS at 0 services".into(),
        Figure::DirtyEmpty => "private dirty at 0 services".into(),
        Figure::Pss => format!("PSS at {count} services"),
        Figure::Dirty => format!("private dirty at {count} services"),
        Figure::Idle => format!("in {seconds} idle seconds at {count}"),
    }
}

fn unit(figure: Figure) -> Unit {
    match figure {
        Figure::Start | Figure::Ready | Figure::Stop => Unit::Milliseconds,
        Figure::PssEmpty | Figure::DirtyEmpty | Figure::Pss | Figure::Dirty => Unit::Kibibytes,
        Figure::Idle => Unit::Switches,
    }
}

fn target(figure: Figure, subject: &str, role: &str) -> Option<Target> {
    let is = |kind: Kind| subject == kind.name() && role == ALL;
    match figure {
        Figure::Start if is(Kind::Proxy) => Some(Target::TimesFloor(1.15)),
        Figure::Start if is(Kind::Up) => Some(Target::TimesFloor(1.25)),
        Figure::Stop if is(Kind::Proxy) || is(Kind::Up) => Some(Target::TimesFloor(1.5)),
        // daemonproxy's 0.8 MB at 1,000 services, in which a MB is 1,000,000 bytes.
        Figure::Pss if is(Kind::Proxy) => Some(Target::Median(781.0)),
        Figure::Pss if is(Kind::Up) => Some(Target::Median(5_859.0)),
        Figure::Idle if subject != Kind::Floor.name() => Some(Target::Median(0.0)),
        Figure::Start
        | Figure::Ready
        | Figure::Stop
        | Figure::PssEmpty
        | Figure::DirtyEmpty
        | Figure::Pss
        | Figure::Dirty
        | Figure::Idle => None,
    }
}
