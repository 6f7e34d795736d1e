//! Who started this process, and what it wants to be told: read from the environment once, at the
//! start.
//!
//! Pure but for [`Environment::detect`]: the variables come in as a function.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

/// So many descriptors may be passed; whoever passes more has made a mistake.
const LISTEN_FDS_MAX: u32 = 1024;

/// What whoever started this process said in its environment.
///
/// ```
/// use keepd::Environment;
///
/// let environment = Environment::from_variables(
///     |name| (name == "WATCHDOG_USEC").then(|| "30000000".into()),
///     std::process::id(),
/// );
/// assert_eq!(environment.watchdog, Some(std::time::Duration::from_secs(30)));
/// assert!(environment.notify_socket.is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// Where messages of sd_notify(3) go: a path, or an abstract name that begins with `@`.
    pub notify_socket: Option<OsString>,
    /// The descriptor that gets one line when we are ready: NOTIFICATION_FD, or KEEPD_READY_FD,
    /// which keepd sets for a service with `ready.fd`.
    pub notification_fd: Option<i32>,
    /// How often we have to say that we are alive, where that is asked of this process.
    pub watchdog: Option<Duration>,
    /// The names of the sockets that were passed to this process, in the order of their numbers
    /// from 3 on.
    pub listen_names: Vec<String>,
    /// Standard error is the journal, or so the variable JOURNAL_STREAM says.
    pub has_journal: bool,
    /// What was there and could not be used: one sentence each.
    pub complaints: Vec<String>,
}

/// Whether a program goes into the background by itself, and lets go of whoever started it.
///
/// ```
/// use keepd::{Environment, environment::Reparent};
///
/// let alone = Environment::default();
/// assert!(Reparent::Yes.holds_in(&alone));
///
/// let mut supervised = Environment::default();
/// supervised.notify_socket = Some("/run/notify".into());
/// assert!(!Reparent::Yes.holds_in(&supervised));
/// assert!(Reparent::Force.holds_in(&supervised));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reparent {
    /// It stays in the foreground.
    #[default]
    No,
    /// It goes, unless a supervisor has started it: that would take the end of the process it
    /// knows for the end of the service.
    Yes,
    /// It goes in any case.
    Force,
}

impl Reparent {
    /// Decides by who started this process; a wish that is not fulfilled is a warning in the log.
    pub fn holds_in(self, environment: &Environment) -> bool {
        match self {
            Self::No => false,
            Self::Force => true,
            Self::Yes if environment.is_supervised() => {
                tracing::warn!(
                    "The process stays in the foreground, because a supervisor has started it; \
                     \"force\" overrides that."
                );
                false
            }
            Self::Yes => true,
        }
    }
}

impl Environment {
    /// The variables that are meant for this process, and for none that it starts.
    pub const VARIABLES: [&str; 9] = [
        "NOTIFY_SOCKET",
        "NOTIFICATION_FD",
        "KEEPD_READY_FD",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "JOURNAL_STREAM",
    ];

    /// Takes the [`VARIABLES`](Self::VARIABLES) out of the environment of a program that is to be
    /// started: it must not speak for us.
    ///
    /// ```
    /// use std::process::Command;
    ///
    /// let mut command = Command::new("true");
    /// keepd::Environment::hide_from(command.env("NOTIFY_SOCKET", "/run/notify"));
    /// assert!(command.get_envs().all(|(_, value)| value.is_none()));
    /// ```
    pub fn hide_from(command: &mut Command) -> &mut Command {
        Self::VARIABLES.into_iter().fold(command, |command, name| command.env_remove(name))
    }

    /// Reports whether a supervisor has started this process and listens to it.
    pub const fn is_supervised(&self) -> bool {
        self.notify_socket.is_some() || self.notification_fd.is_some()
    }

    /// Reads the environment of this process. Each finding is one line of the log at debug, each
    /// complaint one at warn.
    pub fn detect() -> Self {
        let found = Self::of_process();
        found.log();
        found
    }

    /// Reads the environment of this process.
    pub(crate) fn of_process() -> Self {
        Self::from_variables(|name| std::env::var_os(name), std::process::id())
    }

    /// Writes what was found to the log.
    pub(crate) fn log(&self) {
        let found = |what, value: &dyn std::fmt::Debug| {
            tracing::debug!("The environment has {what}: {value:?}.");
        };
        if let Some(socket) = &self.notify_socket {
            found("a supervisor that wants to be told", socket);
        }
        if let Some(number) = &self.notification_fd {
            found("a descriptor that wants to be told", number);
        }
        if let Some(time) = &self.watchdog {
            found("a watchdog", time);
        }
        if !self.listen_names.is_empty() {
            found("sockets", &self.listen_names);
        }
        if self.has_journal {
            found("a journal", &true);
        }
        for complaint in &self.complaints {
            tracing::warn!("{complaint}");
        }
    }

    /// Reads an environment that is given as a function; `pid` is the number of this process.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let mut environment = Self::default();
        let mut complain = |text: String| environment.complaints.push(text);
        let filled = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut number = |name: &str| -> Option<u64> {
            let value = filled(name)?;
            let number = value.to_str().and_then(|value| value.parse().ok());
            if number.is_none() {
                complain(format!("{name}={value:?} is not a number and is ignored"));
            }
            number
        };
        let is_ours = |given: Option<u64>| given.is_none_or(|given| given == u64::from(pid));

        let watchdog_is_ours = is_ours(number("WATCHDOG_PID"));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && watchdog_is_ours);
        let notification_fd = number("NOTIFICATION_FD").or_else(|| number("KEEPD_READY_FD"));
        // The protocol has no sockets without this number; a stranger's are not ours to take.
        let listen_is_ours = number("LISTEN_PID") == Some(u64::from(pid));
        let listen_fds = number("LISTEN_FDS").filter(|count| *count > 0 && listen_is_ours);

        environment.watchdog = watchdog.map(Duration::from_micros);
        environment.notify_socket = filled("NOTIFY_SOCKET");
        environment.has_journal = filled("JOURNAL_STREAM").is_some();
        if let Some(given) = notification_fd {
            match i32::try_from(given) {
                Ok(descriptor) if descriptor > 0 => environment.notification_fd = Some(descriptor),
                Ok(_) | Err(_) => environment
                    .complaints
                    .push(format!("notification descriptor {given} is none and is ignored")),
            }
        }
        if let Some(count) = listen_fds {
            let names = filled("LISTEN_FDNAMES").unwrap_or_default();
            environment.name_sockets(count, &names.to_string_lossy());
        }
        environment
    }

    fn name_sockets(&mut self, count: u64, names: &str) {
        let Some(count) = u32::try_from(count).ok().filter(|count| *count <= LISTEN_FDS_MAX) else {
            let text = format!("LISTEN_FDS={count} is more than {LISTEN_FDS_MAX} and is ignored");
            self.complaints.push(text);
            return;
        };
        let mut names = names.split(':').filter(|name| !name.is_empty());
        // As sd_listen_fds_with_names(3) does where names are missing.
        self.listen_names =
            (0..count).map(|_| names.next().unwrap_or("unknown").to_owned()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Environment::from_variables(find, 42)
    }

    #[test]
    fn nothing_means_alone() {
        assert_eq!(read(&[]), Environment::default());
        assert_eq!(read(&[("NOTIFY_SOCKET", ""), ("WATCHDOG_USEC", "0")]), Environment::default());
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let usec = ("WATCHDOG_USEC", "3000000");
        assert_eq!(read(&[usec]).watchdog, Some(Duration::from_secs(3)));
        assert_eq!(read(&[usec, ("WATCHDOG_PID", "42")]).watchdog, Some(Duration::from_secs(3)));
        assert_eq!(read(&[usec, ("WATCHDOG_PID", "41")]).watchdog, None);
    }

    #[test]
    fn sockets_are_taken_only_with_our_number() {
        let fds = ("LISTEN_FDS", "3");
        let names = ("LISTEN_FDNAMES", "web:admin");
        let ours = read(&[fds, names, ("LISTEN_PID", "42")]);
        assert_eq!(ours.listen_names, ["web", "admin", "unknown"]);
        assert!(read(&[fds, names, ("LISTEN_PID", "41")]).listen_names.is_empty());
        assert!(read(&[fds, names]).listen_names.is_empty());
    }

    #[test]
    fn the_descriptor_of_keepd_is_taken_where_no_other_is_named() {
        let keepd = ("KEEPD_READY_FD", "5");
        assert_eq!(read(&[keepd]).notification_fd, Some(5));
        assert_eq!(read(&[keepd, ("NOTIFICATION_FD", "4")]).notification_fd, Some(4));
    }

    #[test]
    fn every_variable_that_is_read_is_kept_from_children() {
        let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let find = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            let value = if name.ends_with("PID") { "42" } else { "1" };
            Some(OsString::from(value))
        };
        Environment::from_variables(find, 42);
        let hidden = Environment::VARIABLES.map(str::to_owned).into_iter().collect();
        let read = asked.into_inner();
        assert!(read.is_subset(&hidden), "{read:?}");
        // The second name of one thing is asked for only where the first is missing.
        assert_eq!(hidden.difference(&read).collect::<Vec<_>>(), ["KEEPD_READY_FD"]);
    }

    #[test]
    fn a_supervised_program_never_goes_into_the_background_unless_forced() {
        let alone = read(&[("WATCHDOG_USEC", "1")]);
        let socket = read(&[("NOTIFY_SOCKET", "@x")]);
        let descriptor = read(&[("NOTIFICATION_FD", "3")]);
        let goes = |wish: Reparent| [&alone, &socket, &descriptor].map(|e| wish.holds_in(e));
        assert_eq!(goes(Reparent::No), [false, false, false]);
        assert_eq!(goes(Reparent::Yes), [true, false, false]);
        assert_eq!(goes(Reparent::Force), [true, true, true]);
    }

    #[test]
    fn nonsense_is_complained_about_and_ignored() {
        let found = read(&[
            ("WATCHDOG_USEC", "soon"),
            ("NOTIFICATION_FD", "99999999999"),
            ("LISTEN_PID", "42"),
            ("LISTEN_FDS", "1025"),
        ]);
        assert_eq!(found.complaints.len(), 3, "{found:?}");
        assert_eq!((found.watchdog, found.notification_fd), (None, None));
        assert!(found.listen_names.is_empty());
    }
}
