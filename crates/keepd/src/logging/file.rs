//! A log file that is replaced when it is large or old.
//!
//! `web.log` is written; `web.log.1` is the newest that was replaced, `web.log.2` the one before.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{LogConfig, LogRotation};
use crate::error::{Error, Result, io_code};

/// How often a trouble is told, in seconds.
const COMPLAINT_SECONDS: u64 = 60;

/// A log file.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// What is in it, in bytes.
    length: u64,
    length_max: Option<u64>,
    kept_max: u32,
    rotation: LogRotation,
    /// Lines are JSON objects, and so must be what is said here.
    is_json: bool,
    /// The day or hour of the last line.
    period: u64,
    /// The second in which it was last checked that the file has its name.
    checked: u64,
    /// When a trouble was told last.
    complained: Option<u64>,
    /// Lines that could not be written and were not told yet.
    lost: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path, config: &LogConfig) -> Result<Self> {
        let refused = |error: io::Error| {
            let message = format!("cannot open the log file {path:?}: {error}");
            Error::Io { code: io_code(&error), message, source: Some(Box::new(error)) }
        };
        let file = append_to(path).map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        let written = u64::try_from(metadata.mtime()).unwrap_or(0);
        Ok(Self {
            path: path.to_owned(),
            file,
            length: metadata.len(),
            length_max: config.max_file_size,
            kept_max: config.max_files.unwrap_or(0),
            rotation: config.rotate,
            is_json: config.json,
            // A file of yesterday is replaced by the first line of today, also after a restart.
            period: period(config.rotate, written),
            checked: 0,
            complained: None,
            lost: 0,
        })
    }

    /// Opens the path again, after somebody renamed the file.
    pub(super) fn reopen(&mut self) -> Result<()> {
        self.open_again().map_err(|error| {
            let message = format!("cannot open the log file {:?} again: {error}", self.path);
            Error::Io { code: io_code(&error), message, source: Some(Box::new(error)) }
        })
    }

    /// Writes a whole line. What cannot be written is counted, and told when it can be again.
    pub(super) fn write_line(&mut self, line: &[u8], now: u64) {
        self.follow_name(now);
        if self.must_rotate(line.len() as u64, now)
            && let Err(error) = self.rotate()
        {
            // The line is not lost: it goes where the last one went.
            self.complain(now, &format!("cannot replace the log file {:?}: {error}", self.path));
        }
        self.period = period(self.rotation, now);
        if self.lost > 0 {
            let text = self.about_lost_lines();
            if self.append(text.as_bytes()).is_err() {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if let Err(error) = self.append(line) {
            self.lost += 1;
            self.complain(now, &format!("cannot write the log file {:?}: {error}", self.path));
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn about_lost_lines(&self) -> String {
        match self.is_json {
            true => format!("{{\"level\":\"WARN\",\"lost_lines\":{}}}\n", self.lost),
            false => format!("WARN {} lines of the log could not be written\n", self.lost),
        }
    }

    /// Once a second: if another program renamed or removed the file, the path is opened again.
    fn follow_name(&mut self, now: u64) {
        if self.checked == now {
            return;
        }
        self.checked = now;
        let is_same = match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
            (Ok(_), Err(error)) => error.kind() != io::ErrorKind::NotFound,
            (Err(_), _) => true,
        };
        if !is_same && let Err(error) = self.open_again() {
            self.complain(now, &format!("cannot open the log file {:?}: {error}", self.path));
        }
    }

    fn open_again(&mut self) -> io::Result<()> {
        let file = append_to(&self.path)?;
        self.length = file.metadata()?.len();
        self.file = file;
        Ok(())
    }

    fn must_rotate(&self, more: u64, now: u64) -> bool {
        let is_too_long = self.length_max.is_some_and(|max| self.length + more > max);
        // An empty file has nothing to be replaced for: a line that is too long stays whole.
        self.length > 0 && (is_too_long || self.period != period(self.rotation, now))
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.kept_max == 0 {
            self.file.set_len(0)?;
            self.length = 0;
            return Ok(());
        }
        for number in (1..self.kept_max).rev() {
            rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
        }
        rename_if_there(&self.path, &self.numbered(1))?;
        // If this fails, the file goes on under its new name until the path can be opened.
        self.open_again()
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }

    /// Tells a trouble on standard error, once a minute: the log itself is what has the trouble.
    fn complain(&mut self, now: u64, text: &str) {
        let is_silent = self.complained.is_some_and(|last| now.abs_diff(last) < COMPLAINT_SECONDS);
        if !is_silent {
            self.complained = Some(now);
            eprintln!("keepd: {text}");
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns the number of the day or hour (UTC) that a moment belongs to.
const fn period(rotation: LogRotation, unix_seconds: u64) -> u64 {
    match rotation {
        LogRotation::Size => 0,
        LogRotation::Daily => unix_seconds / 86_400,
        LogRotation::Hourly => unix_seconds / 3600,
    }
}

#[cfg(test)]
mod tests {
    use keepd_testkit::Scratch;

    use super::*;

    struct Fixture {
        scratch: Scratch,
        log: LogFile,
    }

    fn fixture(change: impl FnOnce(&mut LogConfig)) -> Fixture {
        let scratch = Scratch::new();
        let mut config = LogConfig { max_file_size: Some(20), ..LogConfig::default() };
        change(&mut config);
        let log = LogFile::open(&scratch.path().join("web.log"), &config).unwrap();
        Fixture { scratch, log }
    }

    impl Fixture {
        fn text(&self, name: &str) -> Option<String> {
            std::fs::read_to_string(self.scratch.path().join(name)).ok()
        }
    }

    #[test]
    fn a_file_is_replaced_before_the_line_that_would_pass_the_limit() {
        let mut f = fixture(|config| config.max_files = Some(2));
        for number in 0..7 {
            f.log.write_line(format!("line {number:02}--\n").as_bytes(), 1);
        }
        let lines = |from: u32, to: u32| {
            Some((from..to).map(|number| format!("line {number:02}--\n")).collect::<String>())
        };
        assert_eq!(f.text("web.log"), lines(6, 7));
        assert_eq!(f.text("web.log.1"), lines(4, 6));
        assert_eq!(f.text("web.log.2"), lines(2, 4));
        assert_eq!(f.text("web.log.3"), None);
    }

    #[test]
    fn keeping_none_empties_the_file() {
        let mut f = fixture(|config| config.max_files = Some(0));
        for _ in 0..5 {
            f.log.write_line(b"0123456789\n", 1);
        }
        assert_eq!(f.text("web.log").unwrap(), "0123456789\n");
        assert_eq!(f.text("web.log.1"), None);
    }

    #[test]
    fn a_line_longer_than_the_limit_stays_whole() {
        let mut f = fixture(|_| {});
        let long = format!("{}\n", "x".repeat(50));
        f.log.write_line(long.as_bytes(), 1);
        f.log.write_line(b"short\n", 1);
        assert_eq!(f.text("web.log.1").unwrap(), long);
        assert_eq!(f.text("web.log").unwrap(), "short\n");
    }

    #[test]
    fn a_rotation_that_fails_loses_no_line() {
        let mut f = fixture(|config| config.max_files = Some(1));
        // A folder in the way: nothing can be renamed to it.
        std::fs::create_dir(f.scratch.path().join("web.log.1")).unwrap();
        for number in 0..5 {
            f.log.write_line(format!("line {number:02}--\n").as_bytes(), 1);
        }
        assert_eq!(f.text("web.log").unwrap().lines().count(), 5);
    }

    #[test]
    fn days_and_hours_begin_new_files() {
        let mut f = fixture(|config| {
            config.rotate = LogRotation::Hourly;
            config.max_file_size = None;
        });
        f.log.write_line(b"a\n", 3600 * 1_000_000);
        f.log.write_line(b"b\n", 3600 * 1_000_000 + 3599);
        f.log.write_line(b"c\n", 3600 * 1_000_001);
        assert_eq!(f.text("web.log.1").unwrap(), "a\nb\n");
        assert_eq!(f.text("web.log").unwrap(), "c\n");
        assert_eq!(period(LogRotation::Daily, 86_399), 0);
        assert_eq!(period(LogRotation::Daily, 86_400), 1);
    }

    #[test]
    fn a_file_that_somebody_renames_is_opened_again() {
        let mut f = fixture(|_| {});
        let path = f.scratch.path().join("web.log");
        f.log.write_line(b"a\n", 1);
        std::fs::rename(&path, f.scratch.path().join("old")).unwrap();
        f.log.write_line(b"b\n", 2);
        assert_eq!(f.text("web.log").unwrap(), "b\n");
        std::fs::rename(&path, f.scratch.path().join("older")).unwrap();
        f.log.reopen().unwrap();
        f.log.write_line(b"c\n", 2);
        assert_eq!(f.text("web.log").unwrap(), "c\n");
        assert_eq!(f.text("old").unwrap(), "a\n");
    }

    #[test]
    fn lines_that_could_not_be_written_are_told_later() {
        let mut f = fixture(|config| config.max_file_size = None);
        // Every write to it says that the disk is full.
        let good = std::mem::replace(&mut f.log.file, append_to(Path::new("/dev/full")).unwrap());
        f.log.checked = 1;
        for _ in 0..3 {
            f.log.write_line(b"lost\n", 1);
        }
        f.log.file = good;
        f.log.write_line(b"found\n", 1);
        assert_eq!(
            f.text("web.log").unwrap(),
            "WARN 3 lines of the log could not be written\nfound\n"
        );
    }
}
