//! The ways to run the same services: the bare loop, `keepd proxy` commanded through its socket,
//! `keepd up` with a `keepd.toml`, and the proxy as users of daemonproxy run it.

mod floor;
mod place;
mod plain;
mod project;
mod proxy;

use std::process::Child;
use std::time::Duration;

use keepd_model::{Instant, Pid, Signal};
use keepd_os::{clock, pidfd};

pub use floor::Floor;
pub use place::Place;
pub use plain::{Client, Flavour, Plain, name};
pub use project::{Project, Services};
pub use proxy::Proxy;

use crate::error::{Attempt, BenchError};
use crate::probe::OurProcess;
use crate::records::{Record, Records};

/// How long anything here may take before the run is given up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Who runs the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bare loop.
    Floor,
    /// `keepd proxy` without a manager.
    Proxy,
    /// `keepd up`.
    Up,
}

impl Kind {
    /// Every kind; the floor comes first, because the others are held against it.
    pub const ALL: [Self; 3] = [Self::Floor, Self::Proxy, Self::Up];

    /// Returns the name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Proxy => "keepd proxy",
            Self::Up => "keepd up",
        }
    }
}

/// How often a service is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Once: it is not expected to end.
    Once,
    /// Again after each end, at once.
    Again,
}

/// Services that run under somebody.
pub trait Subject {
    /// Returns when the first of them was asked for.
    fn asked_at(&self) -> Instant;

    /// Returns the file in which they write down their starts.
    fn records(&self) -> &Records;

    /// Returns the processes that run them.
    fn processes(&self) -> Result<Vec<OurProcess>, BenchError>;

    /// Stops all of them, politely, and then who ran them; returns how long it took until the last
    /// one was gone.
    fn stop(self: Box<Self>) -> Result<Duration, BenchError>;
}

/// Starts so many services.
///
/// # Errors
/// They cannot be started; what was started is left to the guard.
pub fn start(
    kind: Kind,
    place: &mut Place,
    count: usize,
    mode: Mode,
) -> Result<Box<dyn Subject>, BenchError> {
    Ok(match kind {
        Kind::Floor => Box::new(Floor::start(place, count, mode, &[])?),
        Kind::Proxy => Box::new(Proxy::start(place, count, mode, false)?),
        Kind::Up => Box::new(Project::start(place, count, Services::waiting(mode))?),
    })
}

/// Kills a process; returns when.
///
/// # Errors
/// There is no such process.
pub fn kill(pid: Pid) -> Result<Instant, BenchError> {
    let what = format!("kill process {pid}");
    let process = pidfd::open(pid).attempt(&what)?;
    let at = clock::monotonic_now();
    pidfd::send(&process, Signal::KILL).attempt(&what)?;
    Ok(at)
}

/// Returns the number of a child.
///
/// # Errors
/// It has none.
pub fn pid_of(child: &Child) -> Result<Pid, BenchError> {
    Pid::new(child.id()).ok_or("it has no number").attempt("find a child")
}

/// Sends TERM to the processes of these records; returns when the first one got it.
fn terminate(records: &[Record]) -> Instant {
    // Taken hold of first, so that only the signals are in the time.
    let held: Vec<_> = records.iter().filter_map(|record| pidfd::open(record.pid).ok()).collect();
    let at = clock::monotonic_now();
    for process in &held {
        // An error means that it has ended already.
        let _ = pidfd::send(process, Signal::TERM);
    }
    at
}
