//! Where the checkout is, and the programs that the commands call in it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::outcome::Failure;

/// Returns the root of the checkout: the folder above this crate.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the xtask crate lies in a folder of the checkout")
}

/// Returns the folder for files that live as long as a build: the one above this program's own.
pub(crate) fn target() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::System(format!("cannot find this program: {error}")))?;
    let folder = program.parent().and_then(Path::parent);
    Ok(folder.unwrap_or(root()).to_owned())
}

/// Returns a call of the same cargo that runs us, in the root, with words separated by white space.
/// It gets no standard input, so that no step can wait for a person.
pub(crate) fn cargo(words: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(words.split_whitespace()).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus, Failure> {
    command.status().map_err(|error| cannot_run(command, &error))
}

/// Returns the failure of a program that could not be started.
pub(crate) fn cannot_run(command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().to_string_lossy();
    Failure::System(format!("cannot run \"{program}\": {error}"))
}

/// Returns the full path of a program in `PATH` or in the folders of system programs, which the
/// `PATH` of an ordinary user often leaves out.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program-of-keepd"), None);
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("xtask/Cargo.toml").is_file());
    }
}
