//! Asks an instance for control without a pause while something is wrong, and measures how long
//! each answer takes.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Api, LONG, Project, figures, keepd_program, wait_until};

/// What half of the answers have to be under.
pub const ANSWER_MAX: Duration = Duration::from_millis(100);

/// The same for `keepd status`, which reads the configuration to find the instance: without
/// optimisations that takes its time.
const PROGRAM_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 });

/// What the slowest answer has to be under: the machine may be busy with other tests.
pub const SLOWEST_MAX: Duration = Duration::from_secs(3);

/// From one round of questions to the next. They are no load of their own.
const PAUSE: Duration = Duration::from_millis(20);

/// How many rounds an episode has at least.
const ROUNDS_MIN: usize = 10;

/// The ways to ask, and what half of the answers of each have to be under.
const WAYS: [(&str, Duration); 3] =
    [("API", ANSWER_MAX), ("proxy.sock", ANSWER_MAX), ("keepd status", PROGRAM_MAX)];

/// A thread that asks the API, the proxy and `keepd status` in turn, with a connection of its own
/// for each question.
#[derive(Debug)]
pub struct ControlWatch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<ControlTimes>,
}

/// How long answers took, by way, and how long `true` took meanwhile.
#[derive(Debug, Default)]
struct ControlTimes {
    ways: [Vec<Duration>; 3],
    floor: Vec<Duration>,
}

impl ControlWatch {
    /// Begins to ask for everything.
    #[must_use = "who never looks at the answers measures nothing"]
    pub fn start(project: &Project) -> Self {
        Self::ask(project, "/v1/services".to_owned(), None)
    }

    /// Begins to ask for one service, which is ready all the time.
    #[must_use = "who never looks at the answers measures nothing"]
    pub fn start_for(project: &Project, service: &str) -> Self {
        Self::ask(project, format!("/v1/services/{service}"), Some(service))
    }

    fn ask(project: &Project, path: String, service: Option<&str>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let api = project.api();
        let proxy = project.run_dir().join("proxy.sock");
        let mut status = project.command(keepd_program());
        status.arg("status").args(service).stdout(Stdio::null()).stderr(Stdio::piped());
        let thread = std::thread::spawn(move || {
            let mut nothing = Command::new("true");
            let mut times = ControlTimes::default();
            while !is_over.load(Ordering::Relaxed) || times.floor.len() < ROUNDS_MIN {
                times.floor.push(time(|| ask_program(&mut nothing)));
                times.ways[0].push(time(|| ask_api(&api, &path)));
                times.ways[1].push(time(|| ask_proxy(&proxy)));
                times.ways[2].push(time(|| ask_program(&mut status)));
                pause();
            }
            times
        });
        Self { over, thread }
    }

    /// Stops asking, and checks that there was an answer to each question, and in time.
    ///
    /// # Panics
    /// If there was not, or half of the answers of a way took too long.
    #[track_caller]
    pub fn finish(self, fault: &str) {
        self.over.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().unwrap_or_else(|_| panic!("no control: {fault}"));
        times.ways.iter_mut().chain([&mut times.floor]).for_each(|times| times.sort());
        figures::note(fault, "control", &times.to_string());
        let floor = times.floor[times.floor.len() / 2];
        for ((way, limit), times) in WAYS.iter().zip(&times.ways) {
            let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
            let beside = format!("and `true` {floor:?} in the middle");
            let is_in_time = median < *limit;
            assert!(is_in_time, "{fault}: {way} took {median:?} in the middle, {beside}");
            let is_in_time = slowest < SLOWEST_MAX;
            assert!(is_in_time, "{fault}: {way} took {slowest:?} once, {beside}");
        }
    }
}

impl fmt::Display for ControlTimes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, ((way, _), times)) in WAYS.iter().zip(&self.ways).enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
            let count = times.len();
            write!(formatter, "{separator}{way} {median:.1?}, at most {last:.1?} ({count})")?;
        }
        Ok(())
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn ask_api(api: &Api, path: &str) {
    let answer = api.get(path).unwrap_or_else(|error| panic!("no answer: {error}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn ask_proxy(socket: &Path) {
    let mut connection = UnixStream::connect(socket).expect("the proxy can be connected to");
    connection.set_read_timeout(Some(LONG)).expect("a socket has a timeout");
    connection.write_all(b"echo\tare you there\n").expect("the proxy takes a line");
    let mut line = String::new();
    // A plain connection may hear events first.
    let mut lines = BufReader::new(connection);
    while line.trim_end() != "are you there" {
        line.clear();
        let count = lines.read_line(&mut line).expect("the proxy answers");
        assert!(count > 0, "the proxy hung up");
    }
}

fn ask_program(program: &mut Command) {
    let output = program.output().expect("a program can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{program:?}: {said}");
}

/// Waits for [`PAUSE`], which nothing cuts short.
fn pause() {
    let until = Instant::now() + PAUSE;
    wait_until("the next round", LONG, || (Instant::now() >= until).then_some(()));
}

/// Waits until everything is well again, notes how long that took since `lifted`, and checks it.
///
/// # Panics
/// If it takes longer than `limit`.
#[track_caller]
pub fn recovers<T>(
    fault: &str,
    limit: Duration,
    lifted: Instant,
    condition: impl FnMut() -> Option<T>,
) -> T {
    let found = wait_until(fault, LONG, condition);
    let took = lifted.elapsed();
    figures::note(fault, "recovery", &format!("{took:.2?}"));
    assert!(took < limit, "{fault}: well again after {took:?}");
    found
}
