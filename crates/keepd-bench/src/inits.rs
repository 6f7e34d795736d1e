//! A command under the inits of containers: how much later it begins, and what they keep of memory
//! meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use keepd_model::Pid;
use keepd_os::{clock, proc, sweep};

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::error::{Attempt, BenchError};
use crate::probe;
use crate::records::Records;
use crate::report::{Row, Target, Unit};
use crate::samples::Samples;
use crate::subject::{PATIENCE, Place};

/// Starts of each subject in a round.
const RUNS: usize = 20;
/// How long a command runs before its init is looked at: `keepd-init` gives memory back after a
/// second.
const SETTLED: Duration = Duration::from_millis(1_500);
/// The most memory that `keepd-init` may keep, in KiB.
const RESIDENT_KIB_MAX: f64 = 1_331.0;
/// The init whose start is to be beaten.
const RIVAL: &str = "tini";

/// One way to start a command.
struct Init {
    name: &'static str,
    /// The init and its options; empty: the command alone.
    words: Vec<String>,
    starts: Samples,
}

/// Starts a command under each init in turn.
///
/// # Errors
/// A command does not begin, or an init cannot be looked at.
pub fn measure(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let folder = place.folder()?;
    let records = place.records(&folder)?;
    let mut inits = find(place, &folder)?;
    for round in 1..=options.rounds {
        progress(&format!("init, round {round} of {}", options.rounds));
        for _ in 0..RUNS {
            for init in &mut inits {
                init.start_once(place, &records)?;
            }
        }
    }
    let floor = inits[0].starts.median();
    let rival = inits.iter().find(|init| init.name == RIVAL).and_then(|init| init.starts.median());
    let mut rows: Vec<Row> = Vec::new();
    for init in &inits {
        let target = rival.filter(|_| init.is_ours()).map(Target::Median);
        let what = "exec to the command's first instruction";
        let starts = init.starts.clone();
        rows.push(row(init, what, Unit::Milliseconds, starts, floor, target));
    }
    for init in inits.iter().filter(|init| !init.words.is_empty()) {
        rows.extend(init.look(place, &records, options)?);
    }
    Ok(rows)
}

fn row(
    init: &Init,
    what: &str,
    unit: Unit,
    samples: Samples,
    floor: Option<f64>,
    target: Option<Target>,
) -> Row {
    let subject = init.name.to_owned();
    Row { part: Part::Init, what: what.to_owned(), subject, unit, samples, floor, target }
}

/// Returns the inits that are installed, the command alone first. `keepd-init` is copied and
/// written to disk: pages of a file that was just built count as changed.
fn find(place: &Place, folder: &Path) -> Result<Vec<Init>, BenchError> {
    let ours = copy_of(&place.static_init()?, folder)?;
    let all = [
        ("command alone", None, &[][..]),
        ("keepd-init", Some(ours), &["-s", "--"][..]),
        ("tini", installed("tini"), &["-s", "--"]),
        ("tini-static", installed("tini-static"), &["-s", "--"]),
        ("dumb-init", installed("dumb-init"), &[]),
    ];
    let mut inits = Vec::new();
    for (name, program, options) in all {
        let program = program.map(|path| path.display().to_string());
        if program.is_none() && !inits.is_empty() {
            progress(&format!("init: {name} is not installed, and left out"));
            continue;
        }
        let words = program.into_iter().chain(options.iter().map(|word| (*word).to_owned()));
        inits.push(Init { name, words: words.collect(), starts: Samples::default() });
    }
    Ok(inits)
}

fn copy_of(program: &Path, folder: &Path) -> Result<PathBuf, BenchError> {
    let copy = folder.join("keepd-init");
    let what = format!("copy \"{}\"", program.display());
    std::fs::copy(program, &copy).attempt(&what)?;
    File::open(&copy).and_then(|file| file.sync_all()).attempt(&what)?;
    Ok(copy)
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/bin").join(name);
    path.is_file().then_some(path)
}

impl Init {
    fn is_ours(&self) -> bool {
        self.name == "keepd-init"
    }

    /// Returns a command that runs the service under this init.
    fn command(&self, place: &Place, service: &[&str]) -> Command {
        let program = place.program("keepd-bench-service").display().to_string();
        let mut words = self.words.iter().cloned().chain([program]);
        let mut command = place.command(words.next().unwrap_or_default());
        command.args(words).args(service);
        command
    }

    /// From before the init is executed to the first instruction of the command behind it.
    fn start_once(&mut self, place: &Place, records: &Records) -> Result<(), BenchError> {
        records.clear()?;
        let path = records.path().display().to_string();
        let mut command = self.command(place, &[&path, "0"]);
        let begun_at = clock::monotonic_now();
        let status = command.status().attempt(format!("run {command:?}"))?;
        let record = records.read()?.first().copied().filter(|_| status.success());
        let record = record
            .ok_or_else(|| BenchError::new(format!("cannot measure {command:?}: {status}")))?;
        self.starts.push_time(record.began_at.saturating_since(begun_at));
        Ok(())
    }

    /// What the init keeps of memory while its command waits.
    fn look(
        &self,
        place: &Place,
        records: &Records,
        options: &Options,
    ) -> Result<Vec<Row>, BenchError> {
        progress(&format!("init: the memory of {}", self.name));
        records.clear()?;
        let path = records.path().display().to_string();
        let mut command = self.command(place, &[&path]);
        let mut child = command.spawn().attempt(format!("run {command:?}"))?;
        let pid = Pid::new(child.id()).ok_or("it has no number").attempt("find the init")?;
        records.wait_for(1, PATIENCE)?;
        thread::sleep(SETTLED);
        let memory = probe::memory(pid)?;
        let resident = proc::memory_resident_bytes(pid).unwrap_or(0) / 1_024;
        let before = probe::context_switches(pid)?;
        thread::sleep(options.idle());
        let wakeups = probe::context_switches(pid)?.saturating_sub(before);
        // Its command ends with it: TERM is handed on.
        for process in sweep::children(&[]).attempt("find the init")? {
            let _ = process.signal(keepd_model::Signal::TERM);
        }
        child.wait().attempt("wait for the init")?;
        let size = std::fs::metadata(&self.words[0]).attempt("look at the init")?.len();
        let kib = Unit::Kibibytes;
        let limit = self.is_ours().then_some(Target::Median(RESIDENT_KIB_MAX));
        let none = self.is_ours().then_some(Target::Median(0.0));
        let one = |value: u64| Samples::from_iter([value as f64]);
        Ok(vec![
            row(self, "size of the program", kib, one(size.div_ceil(1_024)), None, None),
            row(self, "resident memory", kib, one(resident), None, limit),
            row(self, "PSS", kib, one(memory.pss), None, None),
            row(self, "private dirty memory", kib, one(memory.private_dirty), None, None),
            row(self, "wake-ups when idle", Unit::Switches, one(wakeups), None, none),
        ])
    }
}
