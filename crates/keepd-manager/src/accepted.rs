//! `accepted.json`: the configuration that is in force.
//!
//! It holds the texts that were accepted, so that a manager that replaces a lost one takes the
//! accepted configuration and not what somebody has typed into the files since.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::instance::write_atomically;

/// The version of the file's format. A reader refuses another one.
pub const FORMAT: u32 = 1;

/// The longest file that is read: larger than any configuration that can be loaded.
const ACCEPTED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The largest configuration file.
pub const SOURCE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The accepted configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// [`FORMAT`].
    pub format: u32,
    /// It was loaded for a project (`keepd up`), not for the system.
    pub project: bool,
    /// The files in the order of reading.
    pub sources: Vec<AcceptedSource>,
}

/// One accepted file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedSource {
    /// The file as the user named it, for messages.
    pub file: String,
    /// Its absolute path, to read it again; `None` where there is no file (`run -- CMD`).
    pub path: Option<String>,
    /// The absolute folder that relative paths are relative to.
    pub directory: String,
    /// What it held.
    pub text: String,
}

/// Why a configuration cannot be read or written.
#[derive(Debug)]
pub struct AcceptedError {
    text: String,
    source: io::Error,
}

impl fmt::Display for AcceptedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for AcceptedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl AcceptedError {
    /// Returns the sentence with what the system said.
    pub fn chain(&self) -> String {
        format!("{}: {}", self.text, self.source)
    }

    fn new(verb: &str, path: &Path, source: io::Error) -> Self {
        Self { text: format!("cannot {verb} \"{}\"", path.display()), source }
    }
}

impl Accepted {
    /// Returns an accepted configuration with these files.
    pub fn new(project: bool, sources: Vec<AcceptedSource>) -> Self {
        Self { format: FORMAT, project, sources }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or is none of this format.
    pub fn read(path: &Path) -> Result<Self, AcceptedError> {
        let failed = |source| AcceptedError::new("read", path, source);
        let text = read_bounded(path, ACCEPTED_BYTES_MAX).map_err(failed)?;
        let accepted: Self =
            serde_json::from_str(&text).map_err(|error| failed(io::Error::other(error)))?;
        if accepted.format != FORMAT {
            let text = format!("its format is {}, not {FORMAT}", accepted.format);
            return Err(failed(io::Error::other(text)));
        }
        Ok(accepted)
    }

    /// Writes the file, as a whole or not at all.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&self, path: &Path) -> Result<(), AcceptedError> {
        let failed = |source| AcceptedError::new("write", path, source);
        let text = serde_json::to_vec(self).map_err(|error| failed(io::Error::other(error)))?;
        write_atomically(path, &text).map_err(failed)
    }

    /// Reads the original files again. A source without a file keeps its text.
    ///
    /// # Errors
    /// A file cannot be read, is too large, or is not UTF-8.
    pub fn reread(&self) -> Result<Self, AcceptedError> {
        let mut fresh = self.clone();
        for source in &mut fresh.sources {
            if let Some(path) = &source.path {
                source.text = read_source(Path::new(path), &source.file)?;
            }
        }
        Ok(fresh)
    }
}

/// Reads a configuration file; `shown` is its name for messages.
///
/// # Errors
/// It cannot be read, has more than [`SOURCE_BYTES_MAX`] bytes, or is not UTF-8.
pub fn read_source(path: &Path, shown: &str) -> Result<String, AcceptedError> {
    read_bounded(path, SOURCE_BYTES_MAX)
        .map_err(|source| AcceptedError::new("read", Path::new(shown), source))
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= bytes_max) {
        Ok(text)
    } else {
        Err(io::Error::other(format!("more than {bytes_max} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;

    fn accepted(path: Option<&Path>) -> Accepted {
        let source = AcceptedSource {
            file: "keepd.toml".into(),
            path: path.map(|path| path.to_str().unwrap().to_owned()),
            directory: "/srv/shop".into(),
            text: "version = 1\n# \"quotes\" \u{e9}\n".into(),
        };
        Accepted::new(true, vec![source])
    }

    #[test]
    fn what_is_written_is_read_again() {
        let scratch = Scratch::new();
        let path = scratch.path().join("accepted.json");
        let accepted = accepted(None);
        accepted.write(&path).unwrap();
        assert_eq!(Accepted::read(&path).unwrap(), accepted);
    }

    #[test]
    fn another_format_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.write("accepted.json", r#"{"format":2,"project":true,"sources":[]}"#);
        let error = Accepted::read(&path).unwrap_err();
        assert!(error.to_string().starts_with("cannot read \""), "{error}");
        assert_eq!(error.source.to_string(), "its format is 2, not 1");
    }

    #[test]
    fn files_are_read_again_and_the_rest_stays() {
        let scratch = Scratch::new();
        let file = scratch.write("keepd.toml", "new");
        assert_eq!(accepted(Some(&file)).reread().unwrap().sources[0].text, "new");
        let without_file = accepted(None);
        assert_eq!(without_file.reread().unwrap(), without_file);
        let gone = accepted(Some(&scratch.path().join("gone")));
        let error = gone.reread().unwrap_err();
        assert_eq!(error.to_string(), "cannot read \"keepd.toml\"");
    }
}
