//! Configuration files: read, and made a plan.

use std::path::{Path, PathBuf};

use keepd_manager::accepted::{AcceptedSource, read_source};
use keepd_plan::{Context, Diagnostic, Loaded, Source};

use crate::error::{CliError, ErrorKind};

/// A configuration file that was named, or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    /// As the user named it, for messages.
    pub(crate) shown: String,
    /// Its absolute path.
    pub(crate) path: PathBuf,
}

impl ConfigFile {
    /// Makes the path of a file absolute. The file need not exist.
    ///
    /// # Errors
    /// The path is empty, or the current folder is gone.
    pub(crate) fn new(path: &Path) -> Result<Self, CliError> {
        let shown = path.display().to_string();
        let path = std::path::absolute(path).map_err(|error| {
            CliError::because(ErrorKind::Usage, format!("cannot use file \"{shown}\""), &error)
        })?;
        Ok(Self { shown, path })
    }
}

/// Reads these files.
///
/// # Errors
/// One cannot be read, is too large or no text, or its path is no text.
pub(crate) fn read(files: &[ConfigFile]) -> Result<Vec<AcceptedSource>, CliError> {
    files.iter().map(read_one).collect()
}

fn read_one(file: &ConfigFile) -> Result<AcceptedSource, CliError> {
    let text = read_source(&file.path, &file.shown)
        .map_err(|error| CliError::of(ErrorKind::Config, &error))?;
    let not_text = || {
        let message = format!("cannot use \"{}\": its path is not UTF-8", file.shown);
        CliError::new(ErrorKind::Config, message)
    };
    let path = file.path.to_str().ok_or_else(not_text)?;
    let folder = file.path.parent().unwrap_or(Path::new("/"));
    let folder = folder.canonicalize().map_err(|error| {
        let message = format!("cannot find the folder of \"{}\"", file.shown);
        CliError::because(ErrorKind::Config, message, &error)
    })?;
    Ok(AcceptedSource {
        file: file.shown.clone(),
        path: Some(path.to_owned()),
        directory: folder.to_str().ok_or_else(not_text)?.to_owned(),
        text,
    })
}

/// Makes a plan of files that were read.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn load(sources: &[AcceptedSource], project: bool) -> Result<Loaded, Vec<Diagnostic>> {
    let sources: Vec<Source> = sources
        .iter()
        .map(|source| Source {
            file: source.file.as_str().into(),
            directory: source.directory.clone(),
            text: source.text.clone(),
        })
        .collect();
    keepd_plan::load(&sources, &Context { project })
}

/// Returns "1 error", "2 errors".
pub(crate) fn errors(count: usize) -> String {
    match count {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    }
}
