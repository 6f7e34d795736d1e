//! An instance under torture: its keepers are killed, and control has to come back.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use keepd_model::Instant;
use keepd_os::clock;
use keepd_os::epoll::Epoll;
use serde_json::{Value, json};

use super::guard::{FINDINGS, Guard};
use super::{Keepers, Seeker, Victim};
use crate::{Deadline, Entry, Project, Running, keepd_program, test_service_program};

/// The service that is asked to show itself whenever somebody was killed.
pub(super) const PROBE: &str = "probe";
/// How long control may be away before the run is given up. The promise is much shorter; this is to
/// tell slow from lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(2);
/// How long an accepted signal may take to the probe before it is sent again: nobody sends it again
/// for us if its proxy was lost.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(250);

/// Looks again and again until there is an answer; `None` after `limit`.
pub(super) fn look_until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(limit);
    let nothing = Epoll::new().expect("an epoll set can be made");
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        let remaining = deadline.remaining()?;
        nothing
            .wait(Some(LOOK.min(remaining)), &mut Vec::new())
            .expect("an empty set can be waited for");
    }
}

/// A project that runs, and what its services have written down so far.
#[derive(Debug)]
pub(super) struct Instance {
    /// The project.
    pub(super) project: Project,
    /// `keepd up`, the first warden.
    up: Running,
    seeker: Seeker,
    entries: Vec<Entry>,
    /// Bytes of the event log that were read.
    read: u64,
    /// Ends the project if we cannot. Last: there is nothing left for it to do then.
    _guard: Guard,
}

impl Instance {
    /// Starts a project with these services and [`PROBE`], and waits until its API answers.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(super) fn start(configuration: &str, seed: u64) -> Self {
        let program = test_service_program();
        let probe = format!(
            "\n[services.{PROBE}]\ncommand = ['{}', '{}', '{seed}', 'steady']\n",
            program.display(),
            super::LIFE
        );
        let project = Project::new(&(configuration.to_owned() + &probe));
        std::os::unix::fs::symlink(test_service_program(), project.path(super::FLAKY))
            .expect("the folder is ours");
        let folder = project.folder().parent().expect("it is in a folder of ours");
        let guard = Guard::start(folder, &[project.mark(), &project.project_entry()]);
        let up = project.up();
        let seeker = Seeker::new(&keepd_program(), project.mark());
        Self { project, up, seeker, entries: Vec::new(), read: 0, _guard: guard }
    }

    /// Keeps everything as evidence: the findings, the files of the project, its run folder as it
    /// is now, what `keepd up` and its successors said, and these files. Returns the folder.
    ///
    /// # Panics
    /// If it cannot be written.
    pub(super) fn keep(&mut self, findings: String, files: &[(&str, String)]) -> PathBuf {
        let folder = self.project.keep_files().to_owned();
        let run = folder.join("run-as-it-was");
        fs::create_dir_all(&run).expect("the folder of the project is ours");
        for entry in fs::read_dir(self.project.run_dir()).into_iter().flatten().flatten() {
            // Sockets are no files, and what is in use may go at any time.
            let _ = fs::copy(entry.path(), run.join(entry.file_name()));
        }
        let said = [(FINDINGS, findings), ("stderr.txt", self.up.stderr().text())];
        for (name, text) in said.iter().chain(files) {
            fs::write(folder.join(name), text).expect("the folder of the project is ours");
        }
        folder
    }

    /// Returns the processes of keepd that are alive.
    pub(super) fn keepers(&self) -> Keepers {
        self.seeker.find()
    }

    /// Returns every event up to now.
    ///
    /// # Panics
    /// If the event log cannot be read.
    pub(super) fn hear(&mut self) -> &[Entry] {
        let Ok(mut file) = File::open(self.project.events().path()) else {
            return &self.entries;
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.read)).expect("a file has positions");
        file.read_to_end(&mut bytes).expect("the event log can be read");
        // A line becomes visible page by page; what is not whole yet is read next time.
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        self.read += bytes.len() as u64;
        let text = String::from_utf8(bytes).expect("the event log is text");
        let lines = text.lines().map(|line| {
            Entry::parse(line).unwrap_or_else(|| panic!("cannot read event \"{line}\""))
        });
        self.entries.extend(lines);
        &self.entries
    }

    /// Writes into the event log what is done to keepd.
    ///
    /// # Panics
    /// If it cannot be written.
    pub(super) fn note(&self, what: &str, number: u64, more: &str) {
        let noted = self.project.events().append(what, "keepd", number, more);
        noted.expect("the event log can be written");
    }

    /// Asks for something (`POST /v1/actions`).
    ///
    /// # Errors
    /// It was refused, or there was no answer.
    pub(super) fn act(&self, action: &str, names: &[&str], options: &Value) -> Result<(), String> {
        let request = json!({ "action": action, "select": names, "options": options });
        let mut last = String::new();
        let answered =
            look_until(PATIENCE, || match self.project.api().post("/v1/actions", &request) {
                // Its proxy was just lost: it asks for another moment, and every client gives it.
                Ok(answer) if answer.body.contains("\"not-synchronised\"") => {
                    last = answer.body;
                    None
                }
                Ok(answer) if answer.status < 300 => Some(Ok(())),
                Ok(answer) => Some(Err(answer.body)),
                Err(error) => Some(Err(error.to_string())),
            });
        let answered = answered.unwrap_or(Err(last));
        answered.map_err(|why| format!("cannot {action} {names:?}: {why}"))
    }

    /// Returns the status objects of all services, if there is an answer.
    pub(super) fn services(&self) -> Option<Vec<Value>> {
        let answer = self.project.api().get("/v1/services").ok()?;
        let body: Value = serde_json::from_str(&answer.body).ok()?;
        (answer.status == 200).then(|| body["services"].as_array().cloned())?
    }

    /// Waits for an event from this index on.
    pub(super) fn wait_for_event(
        &mut self,
        from: usize,
        limit: Duration,
        is_it: impl Fn(&Entry) -> bool,
    ) -> Option<Entry> {
        look_until(limit, || self.hear().get(from..)?.iter().find(|entry| is_it(entry)).cloned())
    }

    /// Waits until so many services were started from now on.
    pub(super) fn wait_for_starts(&mut self, count: usize) -> Option<()> {
        let from = self.hear().len();
        look_until(PATIENCE, || {
            let new = self.hear().get(from..)?;
            (new.iter().filter(|entry| entry.what == "start").count() >= count).then_some(())
        })
    }

    /// Waits until everybody who was killed has a successor, and until a command gets as far as a
    /// service. Returns how long that took since `killed_at`.
    pub(super) fn wait_until_back(
        &mut self,
        before: &Keepers,
        gone: &[Victim],
        killed_at: Instant,
    ) -> Option<Duration> {
        look_until(PATIENCE, || self.keepers().are_replaced_since(before, gone).then_some(()))?;
        let from = self.hear().len();
        let shown = look_until(PATIENCE, || {
            self.act("signal", &[PROBE], &json!({ "signal": "HUP" })).ok()?;
            self.wait_for_event(from, SIGNAL_PATIENCE, |entry| {
                entry.what == "reload" && entry.name == PROBE
            })
        })?;
        Some(Instant::from_nanos(shown.nanoseconds).saturating_since(killed_at))
    }

    /// Kills these at once. Returns when; `None` if one of them is not there.
    pub(super) fn kill(&self, keepers: &Keepers, victims: &[Victim]) -> Option<Instant> {
        let at = clock::monotonic_now();
        victims.iter().all(|victim| keepers.kill(*victim)).then_some(at)
    }
}
