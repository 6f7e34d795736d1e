//! sd_notify(3) datagrams.

use std::time::Duration;

use keepd_model::protocol::NOTIFY_BYTES_MAX;
use keepd_model::{Errno, Instant, Pid};

/// What a service says about itself in one datagram. Unknown keys and values that cannot be read
/// are ignored; of a key that comes twice the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    /// `READY=1`: it is ready, or has finished reloading.
    pub ready: bool,
    /// `RELOADING=1`: it is reading its configuration again.
    pub reloading: bool,
    /// `STOPPING=1`: it is ending.
    pub stopping: bool,
    /// `WATCHDOG=…`: a sign of life, or the opposite.
    pub watchdog: Option<Watchdog>,
    /// `WATCHDOG_USEC=`: from now on, this often.
    pub watchdog_interval: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=`: the present start or stop needs this much longer.
    pub extend_timeout: Option<Duration>,
    /// `MONOTONIC_USEC=`: when the message was made, which pairs `RELOADING=1` with its `READY=1`.
    pub monotonic: Option<Instant>,
    /// `STATUS=`: one line for people. Broken UTF-8 and control characters are replaced.
    pub status: Option<String>,
    /// `MAINPID=`.
    pub main_pid: Option<Pid>,
    /// `ERRNO=`: what failed.
    pub errno: Option<Errno>,
}

/// `WATCHDOG=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watchdog {
    /// `1`: alive.
    Ping,
    /// `trigger`: it knows that it is broken and asks to be treated so.
    Trigger,
}

/// Reads a datagram. It never fails: what cannot be read is not there. Only the first
/// [`NOTIFY_BYTES_MAX`] bytes are looked at.
pub fn parse_notify(datagram: &[u8]) -> Notification {
    let datagram = &datagram[..datagram.len().min(NOTIFY_BYTES_MAX)];
    let mut notification = Notification::default();
    for line in datagram.split(|byte| *byte == b'\n') {
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        notification.take(&line[..equals], &line[equals + 1..]);
    }
    notification
}

impl Notification {
    fn take(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"READY" => self.ready |= value == b"1",
            b"RELOADING" => self.reloading |= value == b"1",
            b"STOPPING" => self.stopping |= value == b"1",
            b"WATCHDOG" => first(&mut self.watchdog, watchdog(value)),
            b"WATCHDOG_USEC" => first(&mut self.watchdog_interval, microseconds(value)),
            b"EXTEND_TIMEOUT_USEC" => first(&mut self.extend_timeout, microseconds(value)),
            b"MONOTONIC_USEC" => {
                let at = microseconds(value).map(|time| Instant::ZERO.saturating_add(time));
                first(&mut self.monotonic, at);
            }
            b"STATUS" => first(&mut self.status, Some(printable(value))),
            b"MAINPID" => {
                let pid = number(value).and_then(|number| Pid::new(u32::try_from(number).ok()?));
                first(&mut self.main_pid, pid);
            }
            b"ERRNO" => {
                let errno = number(value).and_then(|number| i32::try_from(number).ok());
                first(&mut self.errno, errno.map(Errno));
            }
            _ => {}
        }
    }
}

/// Keeps the first value of a key.
fn first<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

fn watchdog(value: &[u8]) -> Option<Watchdog> {
    match value {
        b"1" => Some(Watchdog::Ping),
        b"trigger" => Some(Watchdog::Trigger),
        _ => None,
    }
}

fn microseconds(value: &[u8]) -> Option<Duration> {
    number(value).map(Duration::from_micros)
}

/// Reads digits alone.
fn number(value: &[u8]) -> Option<u64> {
    crate::field::decimal(value, "value", u64::MAX).ok()
}

/// A status goes to terminals and web pages, so a service must not be able to move their cursor.
fn printable(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .chars()
        .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_notification_is_read() {
        let notification = parse_notify(
            b"READY=1\nRELOADING=1\nSTOPPING=1\nWATCHDOG=1\nWATCHDOG_USEC=2000000\n\
              EXTEND_TIMEOUT_USEC=5\nMONOTONIC_USEC=7\nSTATUS=serving 3 = 3\nMAINPID=42\n\
              ERRNO=13\nX_UNKNOWN=1\nFDSTORE=1\n",
        );
        let expected = Notification {
            ready: true,
            reloading: true,
            stopping: true,
            watchdog: Some(Watchdog::Ping),
            watchdog_interval: Some(Duration::from_secs(2)),
            extend_timeout: Some(Duration::from_micros(5)),
            monotonic: Some(Instant::from_nanos(7_000)),
            status: Some("serving 3 = 3".to_owned()),
            main_pid: Pid::new(42),
            errno: Some(Errno::EACCES),
        };
        assert_eq!(notification, expected);
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        for datagram in [
            "",
            "\n\n",
            "READY",
            "READY=0",
            "READY=1 ",
            " READY=1",
            "ready=1",
            "WATCHDOG=yes",
            "MAINPID=0",
            "MAINPID=-4",
            "MAINPID=99999999999",
            "ERRNO=E2BIG",
            "WATCHDOG_USEC=+5",
            "WATCHDOG_USEC=18446744073709551616",
        ] {
            let notification = parse_notify(datagram.as_bytes());
            assert_eq!(notification, Notification::default(), "{datagram:?}");
        }
    }

    #[test]
    fn the_first_of_a_key_counts() {
        let notification = parse_notify(b"STATUS=a\nSTATUS=b\nMAINPID=x\nMAINPID=5");
        assert_eq!(notification.status.as_deref(), Some("a"));
        assert_eq!(notification.main_pid, Pid::new(5));
    }

    #[test]
    fn a_status_cannot_move_the_cursor() {
        let notification = parse_notify(b"STATUS=a\x1b[2Jb\xff\xc2\x9b\tc\x7f");
        assert_eq!(
            notification.status.as_deref(),
            Some("a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}")
        );
    }

    #[test]
    fn nothing_beyond_the_limit_is_looked_at() {
        let mut datagram = b"STATUS=".to_vec();
        datagram.resize(NOTIFY_BYTES_MAX, b'x');
        datagram.extend_from_slice(b"\nREADY=1");
        let notification = parse_notify(&datagram);
        assert!(!notification.ready);
        let status = notification.status.unwrap_or_default();
        assert_eq!(status.len(), NOTIFY_BYTES_MAX - "STATUS=".len());
    }
}
