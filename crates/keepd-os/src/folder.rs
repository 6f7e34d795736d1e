//! Folders on paths that others may have a say in.
//!
//! A path is walked folder by folder, so that nothing can be exchanged between a look and an
//! action. A symbolic link of root or of our own user is followed wherever it leads. One of
//! somebody else is followed only to a folder of its owner: there its owner could do himself what
//! we are going to do, elsewhere we would lend him our hand.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use keepd_model::Errno;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::errno;

/// More symbolic links than this on one path are a circle; the kernel's own limit
/// (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The user whose links are followed wherever they lead, beside ourselves.
const ROOT: u32 = 0;

/// An open folder.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// Why a folder is not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// What the kernel said.
    System(Errno),
    /// A link of somebody else leads to a folder that is not his.
    Astray {
        /// The link.
        link: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
}

/// What is under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A block or character device.
    Device,
    /// Something else: a file, a link, a socket, a pipe.
    Other,
}

impl From<rustix::io::Errno> for Unreachable {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(errno::from_rustix(error))
    }
}

impl Folder {
    /// `openat(folder, part, O_PATH | O_DIRECTORY | O_NOFOLLOW)` for each part of a path: reaches
    /// the folder that it means.
    ///
    /// Fails with ENOENT if there is none. See openat(2), path_resolution(7).
    pub fn reach(path: &Path) -> Result<Self, Unreachable> {
        Walk::begin(path, None)?.finish()
    }

    /// The same, and `mkdirat(folder, part, mode)` for each part that is missing. See mkdirat(2).
    pub fn reach_or_make(path: &Path, mode: u32) -> Result<Self, Unreachable> {
        Walk::begin(path, Some(mode))?.finish()
    }

    /// `fstatat(folder, name, AT_SYMLINK_NOFOLLOW)`: returns what is under a name in the folder.
    /// See fstatat(2).
    pub fn kind_of(&self, name: &OsStr) -> Result<Kind, Errno> {
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(errno::from_rustix)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Folder,
            FileType::BlockDevice | FileType::CharacterDevice => Kind::Device,
            FileType::RegularFile
            | FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::Unknown => Kind::Other,
        })
    }

    /// `unlinkat(folder, name, 0)`: removes a name from the folder; a folder is refused (EISDIR).
    /// See unlinkat(2).
    pub fn unlink(&self, name: &OsStr) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.0, name, AtFlags::empty()).map_err(errno::from_rustix)
    }
}

/// A path that is being walked.
struct Walk {
    folder: OwnedFd,
    /// The way to it as it was walked, for messages.
    shown: PathBuf,
    left: VecDeque<Step>,
    /// With which mode missing folders are made.
    mode: Option<u32>,
    links: usize,
    /// The last link of somebody else, and its owner.
    foreign: Option<(PathBuf, u32)>,
}

/// What is to be done on the way.
enum Step {
    /// Go to this part.
    To(OsString),
    /// This is where a link of somebody else leads.
    Landed { link: PathBuf, owner: u32 },
}

impl Walk {
    fn begin(path: &Path, mode: Option<u32>) -> Result<Self, Unreachable> {
        let start = if path.is_absolute() { "/" } else { "." };
        let (folder, shown) = (open(rustix::fs::CWD, OsStr::new(start))?, PathBuf::from(start));
        Ok(Self { folder, shown, left: steps(path).into(), mode, links: 0, foreign: None })
    }

    fn finish(mut self) -> Result<Folder, Unreachable> {
        while let Some(step) = self.left.pop_front() {
            match step {
                Step::To(part) => self.go(&part)?,
                Step::Landed { link, owner } => {
                    self.check_owner(&link, owner)?;
                    self.foreign = Some((link, owner));
                }
            }
        }
        Ok(Folder(self.folder))
    }

    fn go(&mut self, part: &OsStr) -> Result<(), Unreachable> {
        match open(&self.folder, part) {
            Ok(next) => self.enter(next, part),
            Err(rustix::io::Errno::NOENT) => self.make(part),
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => self.follow(part),
            Err(error) => Err(error.into()),
        }
    }

    fn enter(&mut self, next: OwnedFd, part: &OsStr) -> Result<(), Unreachable> {
        self.folder = next;
        self.shown.push(part);
        match &self.foreign {
            // Whoever chose where we are chose what is above it.
            Some((link, owner)) if part == ".." => self.check_owner(link, *owner),
            Some(_) | None => Ok(()),
        }
    }

    fn make(&mut self, part: &OsStr) -> Result<(), Unreachable> {
        // Nothing is made where somebody else says, before it is known that it is his.
        let is_led = self.left.iter().any(|step| matches!(step, Step::Landed { .. }));
        let Some(mode) = self.mode.filter(|_| !is_led) else {
            return Err(rustix::io::Errno::NOENT.into());
        };
        match rustix::fs::mkdirat(&self.folder, part, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // Opened here: whoever puts a link in its place meanwhile is not followed.
        let next = open(&self.folder, part)?;
        self.enter(next, part)
    }

    /// What is no folder is a link, or the end of the way.
    fn follow(&mut self, part: &OsStr) -> Result<(), Unreachable> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = rustix::fs::openat(&self.folder, part, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&link)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(rustix::io::Errno::NOTDIR.into());
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let owner = stat.st_uid;
        if owner != ROOT && owner != crate::process::effective_uid() {
            self.left.push_front(Step::Landed { link: self.shown.join(part), owner });
        }
        let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.folder = open(rustix::fs::CWD, OsStr::new("/"))?;
            self.shown = PathBuf::from("/");
        }
        for step in steps(&target).into_iter().rev() {
            self.left.push_front(step);
        }
        Ok(())
    }

    fn check_owner(&self, link: &Path, owner: u32) -> Result<(), Unreachable> {
        if rustix::fs::fstat(&self.folder)?.st_uid == owner {
            return Ok(());
        }
        Err(Unreachable::Astray { link: link.to_owned(), owner })
    }
}

fn open(folder: impl AsFd, part: &OsStr) -> Result<OwnedFd, rustix::io::Errno> {
    // With O_DIRECTORY also what is mounted only when somebody looks is reached.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, part, flags, Mode::empty())
}

fn steps(path: &Path) -> Vec<Step> {
    let step = |component: Component<'_>| match component {
        Component::Normal(name) => Some(Step::To(name.to_owned())),
        Component::ParentDir => Some(Step::To(OsString::from(".."))),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(step).collect()
}
