//! The processes of keepd, as anybody finds them in /proc, and how they are killed.

use std::fs;
use std::path::{Path, PathBuf};

use keepd_model::{Pid, Signal};
use keepd_os::proc;

use super::Victim;
use crate::processes;

/// The processes of keepd that are alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepers {
    /// The process that keeps the proxy alive.
    pub warden: Option<u32>,
    /// The parent of services.
    pub proxy: Option<u32>,
    /// The process that decides.
    pub manager: Option<u32>,
}

impl Keepers {
    /// Returns the process of a kind.
    pub fn of(&self, victim: Victim) -> Option<u32> {
        match victim {
            Victim::Warden => self.warden,
            Victim::Proxy => self.proxy,
            Victim::Manager => self.manager,
        }
    }

    /// Reports whether there is one of each kind.
    pub fn is_complete(&self) -> bool {
        Victim::ALL.iter().all(|victim| self.of(*victim).is_some())
    }

    /// Reports whether everybody is there, and nobody who had to go.
    pub fn are_replaced_since(&self, before: &Self, gone: &[Victim]) -> bool {
        let is_new = |victim: &Victim| self.of(*victim) != before.of(*victim);
        self.is_complete() && gone.iter().all(is_new)
    }

    /// Sends KILL to one of them. Returns `false` if there is none.
    pub fn kill(&self, victim: Victim) -> bool {
        self.of(victim).is_some_and(|pid| processes::signal(pid, Signal::KILL))
    }
}

/// Whose processes to look for.
#[derive(Clone, Debug)]
pub struct Seeker {
    program: PathBuf,
    mark: Vec<u8>,
}

impl Seeker {
    /// Looks for processes of this program with this entry in their environment.
    pub fn new(program: &Path, mark: &str) -> Self {
        // /proc shows the file itself.
        let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
        Self { program, mark: mark.as_bytes().to_vec() }
    }

    /// Looks through /proc.
    ///
    /// # Panics
    /// If /proc cannot be read.
    pub fn find(&self) -> Keepers {
        let entries = fs::read_dir("/proc").expect("/proc can be read");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let found: Vec<Found> = pids.filter_map(|pid| self.look_at(pid)).collect();
        let one = |victim: Victim| {
            let mut candidates = found.iter().filter(|found| found.victim == victim);
            // What one of them has just cloned looks like it, until it executes its program.
            let is_parent = |candidate: &&Found| {
                !found
                    .iter()
                    .any(|other| other.pid == candidate.parent && other.victim == candidate.victim)
            };
            candidates.find(is_parent).map(|found| found.pid)
        };
        Keepers {
            warden: one(Victim::Warden),
            proxy: one(Victim::Proxy),
            manager: one(Victim::Manager),
        }
    }

    fn look_at(&self, pid: u32) -> Option<Found> {
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        if program != self.program || !proc::environment_has(Pid::new(pid)?, &self.mark) {
            return None;
        }
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let victim = victim(&String::from_utf8_lossy(&words))?;
        Some(Found { pid, parent: parent(pid)?, victim })
    }
}

struct Found {
    pid: u32,
    parent: u32,
    victim: Victim,
}

/// Returns what a process of keepd is, by its arguments as /proc has them. See proc_pid_cmdline(5).
fn victim(words: &str) -> Option<Victim> {
    let mut words = words.split('\0').skip(1);
    match words.next()? {
        "up" | "run" | "__top" | "__warden" => Some(Victim::Warden),
        "proxy" => {
            let words: Vec<&str> = words.collect();
            // A proxy has the words of its warden, and more.
            let is_warden = words.contains(&"--warden") && !words.contains(&"--channel");
            Some(if is_warden { Victim::Warden } else { Victim::Proxy })
        }
        "__manager" => Some(Victim::Manager),
        _ => None,
    }
}

/// Returns the parent of a process that has not ended. See proc_pid_stat(5).
fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in parentheses and may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.next()?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_known_by_their_words() {
        let of = |words: &[&str]| victim(&words.join("\0"));
        assert_eq!(of(&["keepd", "up", "-d"]), Some(Victim::Warden));
        assert_eq!(of(&["/usr/bin/keepd", "__top"]), Some(Victim::Warden));
        assert_eq!(of(&["keepd", "proxy", "--warden", "-i"]), Some(Victim::Warden));
        let under_it = ["keepd", "proxy", "--warden", "--estate", "3", "--channel", "4"];
        assert_eq!(of(&under_it), Some(Victim::Proxy));
        assert_eq!(of(&["keepd", "run", "--", "make"]), Some(Victim::Warden));
        assert_eq!(of(&["keepd", "proxy", "--quiet"]), Some(Victim::Proxy));
        assert_eq!(of(&["keepd", "__manager"]), Some(Victim::Manager));
        assert_eq!(of(&["keepd", "status"]), None);
        assert_eq!(of(&["keepd"]), None);
    }

    #[test]
    fn who_had_to_go_must_be_another_one() {
        let before = Keepers { warden: Some(1), proxy: Some(2), manager: Some(3) };
        let after = Keepers { warden: Some(1), proxy: Some(4), manager: Some(3) };
        assert!(after.are_replaced_since(&before, &[Victim::Proxy]));
        assert!(!after.are_replaced_since(&before, &[Victim::Warden, Victim::Proxy]));
        assert!(!Keepers { manager: None, ..after }.are_replaced_since(&before, &[Victim::Proxy]));
    }

    #[test]
    fn this_process_has_a_parent_and_is_no_keeper() {
        assert!(parent(std::process::id()).is_some());
        let own = std::env::current_exe().unwrap();
        assert_eq!(Seeker::new(&own, "NO_SUCH_VARIABLE=1").find(), Keepers::default());
    }
}
