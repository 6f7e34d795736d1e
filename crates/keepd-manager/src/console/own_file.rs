//! The file that keepd's own messages go to after `up -d`, and its bound.
//!
//! The proxy and the top process have it as standard output and error, too, so it cannot be
//! renamed: they would go on writing into the renamed one. What is old is moved out of it instead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keepd_os::file;

/// A longer file is cut.
const BYTES_MAX: u64 = 10 * 1024 * 1024;

/// keepd's own log.
#[derive(Debug)]
pub(crate) struct OwnFile {
    file: File,
    path: PathBuf,
    bytes_max: u64,
    /// Not before it is as long as this.
    next_at: u64,
}

impl OwnFile {
    /// Returns the file at this path, if it is where `out` writes to.
    pub(crate) fn find(path: &Path, out: impl AsFd) -> Option<Self> {
        let out = File::from(out.as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        let file = OpenOptions::new().read(true).append(true).open(path).ok()?;
        let found = file.metadata().ok()?;
        let is_same = (found.dev(), found.ino()) == (out.dev(), out.ino());
        is_same.then(|| Self::new(file, path, BYTES_MAX))
    }

    fn new(file: File, path: &Path, bytes_max: u64) -> Self {
        Self { file, path: path.to_owned(), bytes_max, next_at: bytes_max }
    }

    /// Moves what is old to `keepd.log.old`, in place of what was there, if the file is too long.
    /// Both together have every byte, in order.
    ///
    /// # Errors
    /// What the system said. It is tried again when the file is longer by as much again.
    pub(crate) fn bound(&mut self) -> io::Result<()> {
        let found = self.file.metadata()?;
        if found.len() <= self.next_at {
            return Ok(());
        }
        self.next_at = found.len().saturating_add(self.bytes_max);
        // Only whole blocks can be taken out, and never the last one.
        let block = found.blksize().max(1);
        let moved = (found.len() - 1) / block * block;
        if moved == 0 || !self.take_out(moved)? {
            self.copy_and_truncate()?;
        }
        self.next_at = self.bytes_max;
        Ok(())
    }

    /// Takes the first bytes out as one step, which loses nothing that others write meanwhile.
    /// Reports whether the file system can do that.
    fn take_out(&mut self, bytes: u64) -> io::Result<bool> {
        let mut old = self.begin_old()?;
        self.file.seek(SeekFrom::Start(0))?;
        io::copy(&mut (&self.file).take(bytes), &mut old)?;
        if file::collapse_front(&self.file, bytes).is_err() {
            return Ok(false);
        }
        self.finish_old()?;
        Ok(true)
    }

    /// Everything is copied until nothing is added any more, and then cut off. Who writes in the
    /// moment between the two loses that line; it is not we, who write on this thread.
    fn copy_and_truncate(&mut self) -> io::Result<()> {
        let mut old = self.begin_old()?;
        self.file.seek(SeekFrom::Start(0))?;
        let mut copied = 0;
        while copied < self.file.metadata()?.len() {
            copied += io::copy(&mut self.file, &mut old)?;
        }
        self.finish_old()?;
        self.file.set_len(0)
    }

    fn begin_old(&self) -> io::Result<File> {
        let path = self.path.with_extension("log.new");
        // A link that somebody put there is not followed, nor is what he has open written to.
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn finish_old(&self) -> io::Result<()> {
        fs::rename(self.path.with_extension("log.new"), self.path.with_extension("log.old"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;
    use std::io::Write;

    const BYTES_MAX: u64 = 64 * 1024;

    fn writer(path: &Path) -> File {
        OpenOptions::new().create(true).append(true).open(path).unwrap()
    }

    fn own_file(path: &Path) -> OwnFile {
        let file = OpenOptions::new().read(true).append(true).open(path).unwrap();
        OwnFile::new(file, path, BYTES_MAX)
    }

    /// Returns the numbers of the lines in both files, and how long the longer one is.
    fn numbers(path: &Path) -> (Vec<u64>, usize) {
        let old = fs::read(path.with_extension("log.old")).unwrap_or_default();
        let new = fs::read(path).unwrap();
        let longest = old.len().max(new.len());
        let text = String::from_utf8([old, new].concat()).unwrap();
        (text.lines().map(|line| line.parse().unwrap()).collect(), longest)
    }

    #[test]
    fn the_file_is_bounded_and_its_tail_has_every_line() {
        // (behaviour 13.11)
        let scratch = Scratch::new();
        let path = scratch.path().join("keepd.log");
        // As the proxy has it: opened once, for good.
        let mut other = writer(&path);
        let mut own = own_file(&path);
        for number in 0..40_000 {
            writeln!(other, "{number:09}").unwrap();
            own.bound().unwrap();
        }
        let (numbers, longest) = numbers(&path);
        assert!(longest as u64 <= BYTES_MAX + 10, "{longest}");
        let first = 40_000 - numbers.len() as u64;
        assert!(numbers.iter().copied().eq(first..40_000), "from {first}");
        assert!(numbers.len() as u64 * 10 >= BYTES_MAX, "{}", numbers.len());
    }

    #[test]
    fn what_cannot_be_taken_out_is_copied_and_cut_off() {
        let scratch = Scratch::new();
        let path = scratch.path().join("keepd.log");
        let mut other = writer(&path);
        let mut own = own_file(&path);
        writeln!(other, "1\n2").unwrap();
        own.copy_and_truncate().unwrap();
        writeln!(other, "3").unwrap();
        assert_eq!(numbers(&path).0, [1, 2, 3]);
        assert_eq!(fs::read(&path).unwrap(), b"3\n");
    }

    #[test]
    fn another_file_is_left_alone() {
        let scratch = Scratch::new();
        let (path, other) = (scratch.write("keepd.log", ""), scratch.write("other", ""));
        assert!(OwnFile::find(&path, File::open(other).unwrap()).is_none());
        assert!(OwnFile::find(&path, writer(&path)).is_some());
        assert!(OwnFile::find(&scratch.path().join("gone"), writer(&path)).is_none());
    }

    #[test]
    fn where_nothing_can_be_made_it_is_not_tried_at_each_line() {
        let scratch = Scratch::new();
        let path = scratch.path().join("keepd.log");
        let mut other = writer(&path);
        let mut own = own_file(&path);
        fs::create_dir(path.with_extension("log.new")).unwrap();
        other.write_all(&[b'\n'; BYTES_MAX as usize + 1]).unwrap();
        assert!(own.bound().is_err());
        assert!(own.bound().is_ok());
        assert_eq!(fs::metadata(&path).unwrap().len(), BYTES_MAX + 1);
    }
}
