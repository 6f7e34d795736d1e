//! Many services of a plain configuration file: how long until all of them run, what that costs in
//! memory, what it costs while nothing happens, and how long until none is left; and the start of
//! the proxy itself, up to its first service.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::error::BenchError;
use crate::probe;
use crate::records;
use crate::report::{Row, Target, Unit};
use crate::samples::Samples;
use crate::subject::{Flavour, Floor, Mode, PATIENCE, Place, Plain, Subject};

/// The large fleet is so many times the usual one. It has fewer rounds: what is asked of it is to
/// work.
const LARGE: usize = 10;
const LARGE_ROUNDS: usize = 3;
/// Rounds in which wake-ups are counted.
const IDLE_ROUNDS: usize = 2;
/// What a start sets in motion is over after this; memory is given back by then, too.
const SETTLE: Duration = Duration::from_secs(2);
/// Starts of the proxy with one service, of each subject in a round.
const STARTS: usize = 10;
/// What daemonproxy needs from its start to its first service, in milliseconds.
const PUBLISHED_FIRST: f64 = 1.96;
/// daemonproxy's 0.8 MB with 1,000 services, in KiB.
const PUBLISHED_PSS: f64 = 781.0;
/// The fleet that this was published for.
const PUBLISHED_SERVICES: usize = 1_000;
const FLOOR: &str = "floor";

/// Which figure, at how many services, of whom; the order is that of the table.
type Key = (Figure, usize, Who);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Figure {
    First,
    Start,
    Stop,
    Pss,
    Dirty,
    Idle,
}

/// The floor comes first, because the others are held against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Floor,
    Proxy(Flavour),
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Floor => FLOOR,
            Self::Proxy(flavour) => flavour.name(),
        }
    }

    /// Starts so many services.
    fn start(self, place: &mut Place, count: usize) -> Result<Box<dyn Subject>, BenchError> {
        Ok(match self {
            Self::Floor => Box::new(Floor::start(place, count, Mode::Once, &[])?),
            Self::Proxy(flavour) => Box::new(Plain::start(place, flavour, count, &[])?),
        })
    }
}

#[derive(Debug, Default)]
struct Figures(BTreeMap<Key, Samples>);

impl Figures {
    fn of(&mut self, figure: Figure, count: usize, who: Who) -> &mut Samples {
        self.0.entry((figure, count, who)).or_default()
    }
}

/// Starts and stops the fleet under each subject in turn.
///
/// # Errors
/// A subject cannot be started or stopped, or /proc cannot be read.
pub fn measure(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let mut figures = Figures::default();
    let everybody = || [Who::Floor].into_iter().chain(Flavour::ALL.map(Who::Proxy));
    for round in 1..=options.rounds {
        progress(&format!("plain, round {round} of {}", options.rounds));
        for _ in 0..STARTS {
            for who in everybody() {
                start_first(place, who, &mut figures)?;
            }
        }
        for who in everybody() {
            run_fleet(place, who, options.services, round, options, &mut figures)?;
        }
        for who in everybody().filter(|_| round <= LARGE_ROUNDS) {
            run_fleet(place, who, LARGE * options.services, round, options, &mut figures)?;
        }
    }
    Ok(rows(&figures, options))
}

/// From before the proxy is executed to the first instruction of its only service, which ends at
/// once.
fn start_first(place: &mut Place, who: Who, figures: &mut Figures) -> Result<(), BenchError> {
    let elapsed = match who {
        Who::Floor => {
            let floor = Floor::start(place, 1, Mode::Once, &["0"])?;
            let elapsed = since_asked(&floor, 1)?;
            Box::new(floor).stop()?;
            elapsed
        }
        Who::Proxy(flavour) => {
            let proxy = Plain::start(place, flavour, 1, &["0"])?;
            let elapsed = since_asked(&proxy, 1)?;
            proxy.abandon()?;
            elapsed
        }
    };
    figures.of(Figure::First, 1, who).push_time(elapsed);
    Ok(())
}

/// Waits until so many services are executed, and returns how long the last one took.
fn since_asked(subject: &dyn Subject, count: usize) -> Result<Duration, BenchError> {
    let started = subject.records().wait_for(count, PATIENCE)?;
    let last = records::last(&started);
    Ok(last.map_or(Duration::ZERO, |last| last.saturating_since(subject.asked_at())))
}

/// One start, look and stop of a fleet.
fn run_fleet(
    place: &mut Place,
    who: Who,
    count: usize,
    round: usize,
    options: &Options,
    figures: &mut Figures,
) -> Result<(), BenchError> {
    let subject = who.start(place, count)?;
    let elapsed = since_asked(&*subject, count)?;
    figures.of(Figure::Start, count, who).push_time(elapsed);
    thread::sleep(SETTLE);
    for process in subject.processes()? {
        let memory = probe::memory(process.pid)?;
        figures.of(Figure::Pss, count, who).push(memory.pss as f64);
        figures.of(Figure::Dirty, count, who).push(memory.private_dirty as f64);
        if round <= IDLE_ROUNDS && count == options.services {
            let before = probe::context_switches(process.pid)?;
            thread::sleep(options.idle());
            let switches = probe::context_switches(process.pid)?.saturating_sub(before);
            figures.of(Figure::Idle, count, who).push(switches as f64);
        }
    }
    let stop = subject.stop()?;
    figures.of(Figure::Stop, count, who).push_time(stop);
    Ok(())
}

fn rows(figures: &Figures, options: &Options) -> Vec<Row> {
    let row = |(&(figure, count, who), samples): (&Key, &Samples)| Row {
        part: Part::Plain,
        what: what(figure, count, options),
        subject: who.name().into(),
        unit: unit(figure),
        samples: samples.clone(),
        floor: figures.0.get(&(figure, count, Who::Floor)).and_then(Samples::median),
        target: target(figure, count).filter(|_| who != Who::Floor),
    };
    figures.0.iter().map(row).collect()
}

fn what(figure: Figure, count: usize, options: &Options) -> String {
    let seconds = options.idle().as_secs();
    match figure {
        Figure::First => "exec to the first service's first instruction".into(),
        Figure::Start => format!("until {count} services are executed"),
        Figure::Stop => format!("until {count} services are down"),
        Figure::Pss => format!("PSS at {count} services"),
        Figure::Dirty => format!("private dirty at {count} services"),
        Figure::Idle => format!("in {seconds} idle seconds at {count}"),
    }
}

fn unit(figure: Figure) -> Unit {
    match figure {
        Figure::First | Figure::Start | Figure::Stop => Unit::Milliseconds,
        Figure::Pss | Figure::Dirty => Unit::Kibibytes,
        Figure::Idle => Unit::Switches,
    }
}

fn target(figure: Figure, count: usize) -> Option<Target> {
    match figure {
        Figure::First => Some(Target::Median(PUBLISHED_FIRST)),
        Figure::Start if count == PUBLISHED_SERVICES => Some(Target::TimesFloor(1.15)),
        Figure::Stop if count == PUBLISHED_SERVICES => Some(Target::TimesFloor(1.5)),
        Figure::Pss if count == PUBLISHED_SERVICES => Some(Target::Median(PUBLISHED_PSS)),
        Figure::Idle => Some(Target::Median(0.0)),
        Figure::Start | Figure::Stop | Figure::Pss | Figure::Dirty => None,
    }
}
