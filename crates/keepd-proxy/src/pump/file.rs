//! Files that output goes into: written at an explicit offset, or appended to.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keepd_model::Errno;
use keepd_os::file;
use keepd_os::pipe::LogPipe;
use rustix::fs::{Mode, OFlags, fchmod, fstat, mkdir, open};

/// Folders are for everybody to look into; what is in the files is for owner and group.
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o640;

/// How bytes get into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// At the offset that follows what is known to be written: a failed write leaves nothing
    /// behind.
    Offset,
    /// By O_APPEND, because others may write or truncate it (copytruncate of logrotate).
    Append,
}

/// A file and how far it is written.
pub(super) struct LogFile {
    file: OwnedFd,
    path: PathBuf,
    placement: Placement,
    length: u64,
    /// Device and number of the file, by which it is known again.
    identity: (u64, u64),
}

impl LogFile {
    /// Opens the file, made if it is missing, and goes on at its end.
    pub(super) fn open(path: &Path, placement: Placement) -> Result<Self, Errno> {
        let is_new = !path.exists();
        let file = match placement {
            Placement::Offset => file::open_log(path)?,
            Placement::Append => file::open_append(path)?,
        };
        if is_new {
            // The proxy's umask takes the rights of the group away.
            fchmod(&file, Mode::from_raw_mode(FILE_MODE)).map_err(errno)?;
        }
        let stat = fstat(&file).map_err(errno)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            placement,
            length: u64::try_from(stat.st_size).unwrap_or(0),
            identity: (stat.st_dev, stat.st_ino),
        })
    }

    /// Returns the bytes written since the file began: where the next byte goes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Goes back to a multiple of `size`, so that a torn record at the end is overwritten.
    pub(super) fn align(&mut self, size: u64) {
        self.length -= self.length % size;
    }

    /// Follows a truncation, and makes the file anew if somebody removed it. Returns whether it
    /// was necessary.
    ///
    /// Without it, bytes would go behind a hole, or to where nobody can read them. A file that was
    /// renamed is written on until [`LogFile::refresh`].
    pub(super) fn follow(&mut self) -> Result<bool, Errno> {
        let ours = fstat(&self.file).map_err(errno)?;
        if ours.st_nlink == 0 {
            self.refresh()?;
            return Ok(true);
        }
        let length = u64::try_from(ours.st_size).unwrap_or(0);
        let is_shorter = self.placement == Placement::Offset && length < self.length;
        if is_shorter {
            self.length = length;
        }
        Ok(is_shorter)
    }

    /// Opens the file again if somebody removed or replaced it, and follows a truncation.
    pub(super) fn refresh(&mut self) -> Result<(), Errno> {
        // The number of an open file is nobody else's, so that looking at the path is enough.
        let there = std::fs::metadata(&self.path);
        let Some(ours) = there.ok().filter(|there| (there.dev(), there.ino()) == self.identity)
        else {
            if let Some(folder) = self.path.parent() {
                make_folder(folder)?;
            }
            *self = Self::open(&self.path, self.placement)?;
            return Ok(());
        };
        match self.placement {
            Placement::Offset => self.length = self.length.min(ours.len()),
            Placement::Append => {}
        }
        Ok(())
    }

    /// Moves bytes from a pipe to the end of the file; returns how many. If we are killed
    /// meanwhile, each of them is in one of the two.
    ///
    /// # Errors
    ///
    /// EAGAIN: the pipe is empty. EINVAL: this file is written by [`LogFile::write`] only.
    pub(super) fn splice<Descriptor: AsFd>(
        &mut self,
        pipe: &LogPipe<Descriptor>,
        bytes_max: usize,
    ) -> Result<usize, Errno> {
        match self.placement {
            Placement::Offset => {}
            Placement::Append => return Err(Errno::EINVAL),
        }
        let count = pipe.splice_to(&self.file, self.length, bytes_max)?;
        self.length += count as u64;
        Ok(count)
    }

    /// Reads from a place of the file; 0 at its end.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
        file::read_at(&self.file, bytes, offset)
    }

    /// Writes everything, or as much as goes before an error; what was written is taken off
    /// `bytes`.
    pub(super) fn write_all(&mut self, bytes: &mut Vec<u8>) -> Result<(), Errno> {
        let mut written = 0;
        let result = loop {
            if written == bytes.len() {
                break Ok(());
            }
            match self.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) => break Err(error),
            }
        };
        bytes.drain(..written);
        result
    }

    /// Writes bytes after those already written; returns how many were taken, at least one.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let count = match self.placement {
            Placement::Offset => file::write_at(&self.file, bytes, self.length)?,
            Placement::Append => file::append(&self.file, bytes)?,
        };
        if count == 0 {
            return Err(Errno::EIO);
        }
        self.length += count as u64;
        Ok(count)
    }
}

/// Makes a folder and its parents.
pub(super) fn make_folder(path: &Path) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(FOLDER_MODE);
    // The parent of a single word is the current folder, written as nothing.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let made = match (mkdir(path, mode), parent) {
        (Err(rustix::io::Errno::NOENT), Some(parent)) => {
            make_folder(parent)?;
            mkdir(path, mode)
        }
        (made, _) => made,
    };
    match made {
        // The proxy's umask takes the rights of everybody away; these folders are to be looked
        // into. Not by the path: who may write to the parent could have put a link there meanwhile.
        Ok(()) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = open(path, flags, Mode::empty()).map_err(errno)?;
            fchmod(&folder, mode).map_err(errno)
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(errno(error)),
    }
}

/// Returns the path that these bytes are.
pub(super) fn path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keepd_testkit::Scratch;

    use super::*;

    fn write(file: &mut LogFile, text: &str) {
        file.write_all(&mut text.as_bytes().to_vec()).unwrap();
    }

    #[test]
    fn a_file_that_was_cut_off_goes_on_from_its_new_end() {
        let scratch = Scratch::new();
        let path = scratch.path().join("out.log");
        let mut file = LogFile::open(&path, Placement::Offset).unwrap();
        write(&mut file, "one two");
        assert_eq!(file.follow(), Ok(false));
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
        assert_eq!(file.follow(), Ok(true));
        assert_eq!(file.length(), 3);
        write(&mut file, "!");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one!");
    }

    #[test]
    fn a_file_that_was_removed_is_made_anew_with_its_folder() {
        let scratch = Scratch::new();
        let folder = scratch.path().join("web");
        for placement in [Placement::Offset, Placement::Append] {
            make_folder(&folder).unwrap();
            let path = folder.join("out.log");
            let mut file = LogFile::open(&path, placement).unwrap();
            write(&mut file, "old");
            fs::remove_dir_all(&folder).unwrap();
            assert_eq!(file.follow(), Ok(true));
            write(&mut file, "new");
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}
