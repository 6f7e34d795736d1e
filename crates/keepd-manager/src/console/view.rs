//! The console: what is told to it, it shows, as far as somebody looks.

use std::collections::BTreeMap;
use std::io::{self, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keepd_engine::manager::{Announcement, Cause, Happening, Manager, sentence};
use keepd_model::protocol::LogTarget;
use keepd_model::{Echo, Instant, ManagerSpec, ServiceName, State};
use tokio::sync::oneshot;
use tracing::Level;

use super::color::{ColorChoice, ColorEnvironment};
use super::live::{Progress, Show, Waiting};
use super::news::{is_end_of_run, is_worth_a_line};
use super::own_file::OwnFile;
use super::queue::Queue;
use super::style::{SharedStyle, Style};
use super::summary;
use super::writer::Writer;
use crate::logs::ServiceLog;
use crate::time::WallClock;

/// How long the end of keepd waits for a terminal that does not take the last lines.
const FINISH_LIMIT: Duration = Duration::from_secs(1);

/// What a person sees of the manager.
pub(crate) struct Console {
    queue: Arc<Queue>,
    style: SharedStyle,
    /// It belongs to a foreground `up`.
    foreground: bool,
    echo: bool,
    progress: Progress,
    /// Where the output of each service is that is shown.
    followed: BTreeMap<ServiceName, PathBuf>,
    started: Instant,
    finished: Option<oneshot::Receiver<()>>,
}

/// Where the console writes.
pub(crate) struct Outputs {
    /// Standard output.
    pub(crate) out: Box<dyn Write + Send>,
    /// Standard error.
    pub(crate) error: Box<dyn Write + Send>,
    /// Standard output is a terminal.
    pub(crate) terminal: bool,
    /// Returns the width of the terminal.
    pub(crate) columns: fn() -> Option<u16>,
    /// Both are keepd's own log, which has a bound.
    pub(crate) own_file: Option<OwnFile>,
}

impl Outputs {
    /// Returns those of this process. In the background they are keepd's own log.
    pub(crate) fn standard(own_log: &Path) -> Self {
        Self {
            out: Box::new(stdout()),
            error: Box::new(stderr()),
            terminal: keepd_os::terminal::is_terminal(stdout()),
            columns: || keepd_os::terminal::columns(stdout()),
            own_file: OwnFile::find(own_log, stdout()),
        }
    }
}

impl Console {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// No thread can be made.
    pub(crate) fn start(
        outputs: Outputs,
        foreground: bool,
        color: ColorChoice,
        spec: &ManagerSpec,
    ) -> io::Result<Self> {
        let Outputs { out, error, terminal, columns, own_file } = outputs;
        let colored = color.is_colored(&ColorEnvironment::read(), terminal);
        let style = SharedStyle::new(with_keys(Style { colored, ..Style::default() }, spec));
        let queue = Arc::new(Queue::new());
        let writer = Writer::new(Arc::clone(&queue), out, error, style.clone(), columns)
            .with_own_file(own_file);
        let (done, finished) = oneshot::channel();
        thread::Builder::new().name("console".to_owned()).spawn(move || {
            writer.run();
            // Nobody waits for it any more if the end took too long.
            let _ = done.send(());
        })?;
        let started = keepd_os::clock::monotonic_now();
        Ok(Self {
            queue,
            style,
            foreground,
            echo: shows_services(spec.echo, foreground),
            progress: Progress::new(terminal && foreground, started),
            followed: BTreeMap::new(),
            started,
            finished: Some(finished),
        })
    }

    /// Returns where keepd's own messages go, and how they look.
    pub(crate) fn own_lines(&self) -> (Arc<Queue>, SharedStyle) {
        (Arc::clone(&self.queue), self.style.clone())
    }

    /// Lets changed keys of `[keepd]` take effect. `logs` returns where the output of every service
    /// is, should it be shown from now on.
    pub(crate) fn set_keys(&mut self, spec: &ManagerSpec, logs: impl FnOnce() -> Vec<ServiceLog>) {
        self.style.set(with_keys(self.style.get(), spec));
        let echo = shows_services(spec.echo, self.foreground);
        if echo && !self.echo {
            logs().into_iter().for_each(|log| self.follow(log));
        } else if !echo {
            self.followed.clear();
        }
        self.echo = echo;
    }

    /// Notes where the output of a service goes from now on.
    pub(crate) fn note_log(&mut self, name: &ServiceName, log: &LogTarget) {
        if !self.echo || name.is_internal() {
            return;
        }
        let dir = match log {
            LogTarget::File { dir, .. } => path(dir),
            // These are seen elsewhere, or nowhere.
            LogTarget::Append { .. } | LogTarget::Null | LogTarget::Inherit => {
                self.followed.remove(name);
                return;
            }
        };
        if self.followed.get(name) != Some(&dir) {
            self.follow(ServiceLog { name: name.clone(), dir });
        }
    }

    /// Shows what a service writes from now on.
    fn follow(&mut self, log: ServiceLog) {
        self.followed.insert(log.name.clone(), log.dir.clone());
        self.queue.push_follow(log, keepd_os::clock::wall_now_ns());
    }

    /// Notes that a service wrote something.
    pub(crate) fn note_output(&self, name: &ServiceName) {
        if self.followed.contains_key(name) {
            self.queue.push_output(name, false);
        }
    }

    /// Shows what happened, if it is for people who look on.
    pub(crate) fn announce(&mut self, news: &Announcement) {
        self.progress.note_change();
        if let Some(name) = ended(&news.what)
            && self.followed.contains_key(name)
        {
            // Its last words come before the news of its end.
            self.queue.push_output(name, true);
        }
        if let Some(text) = text(&news.what) {
            self.say_at(WallClock::read().wall_ns(news.at), weight(&news.what), &text);
        }
    }

    /// Adds a line of keepd's own.
    pub(crate) fn say(&self, text: &str) {
        self.say_at(keepd_os::clock::wall_now_ns(), Level::INFO, text);
    }

    /// Where lines of services are shown, everything that happens is told between them. Where they
    /// are not, standard output is not ours (in `keepd run` it is the command's): then these
    /// are messages like any other, as far as they are important enough for the level that was
    /// asked for.
    fn say_at(&self, wall_ns: u64, level: Level, text: &str) {
        if self.echo {
            let line = self.style.get().own_line(wall_ns, Level::INFO, text);
            self.queue.push_out(line);
        } else if level == Level::ERROR {
            tracing::error!("{text}");
        } else if level == Level::WARN {
            tracing::warn!("{text}");
        } else {
            tracing::info!("{text}");
        }
    }

    /// Notes that what is waited for may be something else now.
    pub(crate) fn note_change(&mut self) {
        self.progress.note_change();
    }

    /// Returns when [`Console::show_progress`] is to be called.
    pub(crate) fn progress_due(&self) -> Option<Instant> {
        self.progress.due()
    }

    /// Shows what is waited for now.
    pub(crate) fn show_progress(&mut self, now: Instant, machine: &Manager) {
        match self.progress.look(now, &Waiting::of(machine)) {
            Some(Show::Live(line)) => self.queue.set_live(line),
            Some(Show::Line(line)) => self.say(&line),
            None => {}
        }
    }

    /// Shows what became of everything, and waits a little until it is written.
    pub(crate) async fn finish(&mut self, now: Instant, machine: &Manager) {
        let Some(finished) = self.finished.take() else {
            return;
        };
        for name in self.followed.keys() {
            self.queue.push_output(name, true);
        }
        self.queue.set_live(None);
        // A manager that replaced another one goes on counting: the first change is as old as the
        // instance.
        let opened = machine.changes().map(|change| change.opened).min();
        let began = opened.map_or(self.started, |opened| opened.min(self.started));
        for line in summary::lines(&machine.statuses(), now.saturating_since(began)) {
            self.say(&line);
        }
        self.queue.close();
        // A terminal that is stopped does not keep the services' end from being reported.
        let _ = tokio::time::timeout(FINISH_LIMIT, finished).await;
    }
}

fn with_keys(style: Style, spec: &ManagerSpec) -> Style {
    Style { echo_json: spec.echo == Echo::Json, own_json: spec.log_json, ..style }
}

/// Reports whether lines of services are shown.
fn shows_services(echo: Echo, foreground: bool) -> bool {
    match echo {
        Echo::Auto => foreground,
        Echo::Off => false,
        Echo::Text | Echo::Json => true,
    }
}

/// Returns the service that has no process any more, by this news.
fn ended(what: &Happening) -> Option<&ServiceName> {
    match what {
        Happening::State { name, to, .. } => is_end_of_run(*to).then_some(name),
        Happening::ChangeOpened(_)
        | Happening::ChangeClosed(_)
        | Happening::OutputBlocked { .. }
        | Happening::Synchronised { .. }
        | Happening::ShutdownBegun(_) => None,
    }
}

/// Returns the line for this news; `None` if it is only for programs.
fn text(what: &Happening) -> Option<String> {
    match what {
        Happening::State { name, to, cause, .. } => {
            is_worth_a_line(*to, cause.reason()).then(|| format!("{name} {}", sentence(what)))
        }
        Happening::OutputBlocked { name, .. } => Some(format!("{name} {}", sentence(what))),
        Happening::ShutdownBegun(_) => Some(sentence(what)),
        Happening::Synchronised { adopted } => (*adopted > 0).then(|| sentence(what)),
        Happening::ChangeOpened(_) | Happening::ChangeClosed(_) => None,
    }
}

/// Returns how important this news is to somebody who does not look on.
fn weight(what: &Happening) -> Level {
    match what {
        Happening::State { to, cause, .. } => match (to, cause) {
            // A program that never ran has left no words of its own.
            (State::Failed, Cause::CannotExecute(_) | Cause::ReadyTimeout { .. })
            | (State::Stuck | State::Unknown, _) => Level::ERROR,
            (State::Failed | State::Backoff, _) => Level::WARN,
            (
                State::Stopped
                | State::Waiting
                | State::Scheduled
                | State::Starting
                | State::Ready
                | State::Stopping
                | State::Done,
                _,
            ) => Level::INFO,
        },
        Happening::OutputBlocked { errno: Some(_), .. } => Level::ERROR,
        Happening::OutputBlocked { errno: None, .. }
        | Happening::ChangeOpened(_)
        | Happening::ChangeClosed(_)
        | Happening::Synchronised { .. }
        | Happening::ShutdownBegun(_) => Level::INFO,
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_model::{Generation, Until};

    fn state(to: State, cause: Cause) -> Happening {
        Happening::State {
            name: ServiceName::new("web").unwrap(),
            from: State::Starting,
            to,
            cause,
            generation: Generation::new(1),
            pid: None,
            ran: Some(Duration::from_millis(1_200)),
            next_start: None,
        }
    }

    #[test]
    fn results_are_lines_and_steps_are_not() {
        let ready = state(State::Ready, Cause::BecameReady);
        assert_eq!(text(&ready).as_deref(), Some("web is ready (1.2s)"));
        assert_eq!(text(&state(State::Starting, Cause::Executed)), None);
        assert_eq!(text(&state(State::Stopping, Cause::Boot)), None);
        assert_eq!(text(&Happening::Synchronised { adopted: 0 }), None);
        assert_eq!(ended(&ready), None);
        let on = ServiceName::new("db").unwrap();
        let lost = state(State::Stopping, Cause::DependencyLost { on, until: Until::Ready });
        assert_eq!(text(&lost).as_deref(), Some("web is stopping: \"db\" is not ready any more"));
        let window = Duration::from_secs(600);
        let limit = state(State::Failed, Cause::Limit { count: 5, window });
        assert_eq!(
            text(&limit).as_deref(),
            Some("web failed: it would be restarted more than 5 times within 600s")
        );
        assert_eq!(
            text(&state(State::Ready, Cause::Gathered)).as_deref(),
            Some("web is ready (1.2s)")
        );
        assert_eq!(weight(&ready), Level::INFO);
        assert_eq!(weight(&state(State::Failed, Cause::Boot)), Level::WARN);
        assert_eq!(weight(&state(State::Stuck, Cause::NotEmpty)), Level::ERROR);
        assert!(ended(&state(State::Backoff, Cause::Boot)).is_some());
    }
}
