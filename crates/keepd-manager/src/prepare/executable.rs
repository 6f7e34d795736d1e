//! Where a program is, looked at before anything is stopped or started.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use keepd_engine::manager::PrepareFailure;
use keepd_model::{Errno, SpawnStep};

use super::failure;

/// Where programs are looked for when the service has no PATH; the same as at the spawn.
const FALLBACK_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks whether `program` can be executed, as far as its mode says.
///
/// A name without a slash is looked for in `path`; a relative one with a slash starts at
/// `directory`, as execve(2) would see it.
pub(crate) fn check(
    program: &str,
    path: Option<&[u8]>,
    directory: &Path,
) -> Result<(), PrepareFailure> {
    if program.is_empty() {
        return Err(failure(SpawnStep::Exec, Some(Errno::ENOENT), "command is empty".to_owned()));
    }
    if program.contains('/') {
        let file = directory.join(program);
        return match look(&file) {
            Look::Executable => Ok(()),
            Look::Missing => Err(missing(format!("executable \"{program}\" not found"))),
            Look::NotExecutable => Err(not_executable(&file)),
        };
    }
    let path = path.unwrap_or(FALLBACK_PATH);
    let mut unusable: Option<PathBuf> = None;
    for folder in path.split(|byte| *byte == b':') {
        let file = directory.join(Path::new(OsStr::from_bytes(folder))).join(program);
        match look(&file) {
            Look::Executable => return Ok(()),
            Look::Missing => {}
            Look::NotExecutable => unusable = unusable.or(Some(file)),
        }
    }
    Err(match unusable {
        Some(file) => not_executable(&file),
        None => missing(format!(
            "executable \"{program}\" not found in PATH ({})",
            String::from_utf8_lossy(path)
        )),
    })
}

enum Look {
    Executable,
    NotExecutable,
    Missing,
}

fn look(file: &Path) -> Look {
    match fs::metadata(file) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Look::Executable,
        Ok(_) => Look::NotExecutable,
        // Also where a folder may not be entered: for the service it is not there.
        Err(_) => Look::Missing,
    }
}

fn missing(text: String) -> PrepareFailure {
    failure(SpawnStep::Exec, Some(Errno::ENOENT), text)
}

fn not_executable(file: &Path) -> PrepareFailure {
    let text = format!("\"{}\" is not executable", file.display());
    failure(SpawnStep::Exec, Some(Errno::EACCES), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;
    use std::fs::Permissions;

    fn text(program: &str, path: Option<&[u8]>, directory: &Path) -> String {
        check(program, path, directory).unwrap_err().text
    }

    #[test]
    fn programs_are_found_by_path_and_by_name() {
        let scratch = Scratch::new();
        let program = scratch.write("bin/webd", "#!/bin/sh\n");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let folder = scratch.path().join("bin");
        let path = [b"/nonexistent:", folder.as_os_str().as_bytes()].concat();
        let root = Path::new("/");
        assert_eq!(check(program.to_str().unwrap(), None, root), Ok(()));
        assert_eq!(check("webd", Some(&path), root), Ok(()));
        assert_eq!(check("bin/webd", None, scratch.path()), Ok(()));
        assert_eq!(check("webd", Some(b"bin"), scratch.path()), Ok(()));
        assert_eq!(check("sh", None, root), Ok(()));
    }

    #[test]
    fn what_is_missing_or_no_program_is_named() {
        let scratch = Scratch::new();
        let file = scratch.write("plain", "");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let root = Path::new("/");
        assert_eq!(text("/bin/webd", None, root), "executable \"/bin/webd\" not found");
        assert_eq!(
            text("webd", Some(b"/usr/bin:/bin"), root),
            "executable \"webd\" not found in PATH (/usr/bin:/bin)"
        );
        let plain = format!("\"{}\" is not executable", file.display());
        assert_eq!(text(file.to_str().unwrap(), None, root), plain);
        assert_eq!(text("plain", Some(scratch.path().as_os_str().as_bytes()), root), plain);
        let failure = check("/", None, root).unwrap_err();
        assert_eq!((failure.step, failure.errno), (SpawnStep::Exec, Some(Errno::EACCES)));
    }
}
