//! Who started this process, and what it wants to be told: read from the environment once, at the
//! start.
//!
//! Pure but for [`Environment::detect`]: the variables come in as a function.

use std::ffi::OsString;
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

impl Environment {
    /// Reads the environment of this process. Each finding is one line of the log at debug, each
    /// complaint one at warn.
    pub fn detect() -> Self {
        let found = Self::from_variables(|name| std::env::var_os(name), std::process::id());
        tracing::debug!(
            notify_socket = ?found.notify_socket,
            notification_fd = found.notification_fd,
            watchdog = ?found.watchdog,
            sockets = ?found.listen_names,
            journal = found.has_journal,
            "The environment was read."
        );
        for complaint in &found.complaints {
            tracing::warn!("{complaint}");
        }
        found
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
