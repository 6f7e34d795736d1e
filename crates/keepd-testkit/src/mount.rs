//! File systems of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// A mounted file system, until it is dropped.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// Calls mount(8) with these options for a folder that is made; says aloud that it is not
    /// permitted, where that is so.
    ///
    /// # Panics
    /// If the folder cannot be made, or there is no mount(8).
    #[track_caller]
    pub fn new(path: &Path, options: &[&str]) -> Option<Self> {
        fs::create_dir_all(path).expect("folders can be made");
        let found = Command::new("mount").args(options).arg(path).output();
        let found = found.expect("there is a program \"mount\"");
        if !found.status.success() {
            let why = String::from_utf8_lossy(&found.stderr).trim().to_owned();
            skip(&format!("a mount is not permitted: {why}"));
            return None;
        }
        Some(Self(path.to_owned()))
    }

    /// Mounts half a mebibyte of memory.
    #[track_caller]
    pub fn small(path: &Path) -> Option<Self> {
        Self::new(path, &["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
    }

    /// Changes its options.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "a remount is refused");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, because a process of a failed test may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
