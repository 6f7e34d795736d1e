//! Configuration files: found, read, and made a plan.

use std::path::Path;

use keepd_manager::accepted::{Accepted, AcceptedSource};
use keepd_manager::discovery::{self, Discovered, Root};
use keepd_manager::revision;
use keepd_plan::{Diagnostic, Loaded};

use crate::error::{CliError, ErrorKind};

/// Returns a file or folder that was named. It need not exist.
///
/// # Errors
/// The path is empty or not UTF-8, or the current folder is gone.
pub(crate) fn named(path: &Path) -> Result<Root, CliError> {
    let shown = path.display().to_string();
    let path = std::path::absolute(path).map_err(|error| {
        CliError::because(ErrorKind::Usage, format!("cannot use file \"{shown}\""), &error)
    })?;
    let path = path.into_os_string().into_string().map_err(|_| {
        let message = format!("cannot use \"{shown}\": its path is not UTF-8");
        CliError::new(ErrorKind::Config, message)
    })?;
    Ok(Root { shown, path, required: true })
}

/// Files that were found and read.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) roots: Vec<Root>,
    pub(crate) found: Discovered,
}

/// Reads these files, those of these folders, and what they include.
///
/// # Errors
/// One that was named cannot be read, is too large or no text, or its path is no text.
pub(crate) fn read(roots: Vec<Root>) -> Result<Files, CliError> {
    let found =
        discovery::discover(&roots).map_err(|error| CliError::of(ErrorKind::Config, &error))?;
    Ok(Files { roots, found })
}

impl Files {
    /// Makes a plan of files that were read.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn load(self, project: bool) -> Result<(Accepted, Loaded), Vec<Diagnostic>> {
        let Self { roots, found } = self;
        let accepted = Accepted::new(project, roots, found.sources);
        let loaded = revision::check(&accepted, found.errors)?;
        Ok((accepted, loaded))
    }
}

/// Makes a plan of texts that came from nowhere else.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn load(sources: &[AcceptedSource], project: bool) -> Result<Loaded, Vec<Diagnostic>> {
    Accepted::new(project, Vec::new(), sources.to_vec()).load()
}

/// Returns "1 error", "2 errors".
pub(crate) fn errors(count: usize) -> String {
    match count {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    }
}
