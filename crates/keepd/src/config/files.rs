//! Configuration files: which there are, and what stands in them.

use std::path::{Path, PathBuf};

use super::load::unreadable;
use super::report::Report;
use super::tree::Table;
use crate::error::{Error, ErrorCode, Result};

/// The largest file that is read; a configuration is a few kilobytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Returns the drop-ins of a file: `FILE.d/*.toml`, and `*.json` where JSON is read, by name.
///
/// # Errors
///
/// A configuration error if the folder exists and cannot be read.
pub(super) fn drop_ins(file: &Path) -> Result<Vec<PathBuf>> {
    let folder = drop_in_folder(file);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&folder, error))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        let is_read = match extension {
            Some("toml") => true,
            Some("json") => cfg!(feature = "serde_json"),
            Some(_) | None => false,
        };
        if is_read && !is_hidden {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Returns the folder of the drop-ins of a file.
pub(super) fn drop_in_folder(file: &Path) -> PathBuf {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    PathBuf::from(folder)
}

/// Reads a file into a tree. Returns none if it does not exist, or if its syntax was reported.
///
/// # Errors
///
/// A configuration error if it cannot be read, is too large, or its format is not built in.
pub(super) fn read(path: &Path, map: bool, report: &mut Report) -> Result<Option<Table>> {
    let Some(bytes) = bytes(path, map)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|error| {
        let message = format!("cannot read {path:?}: it is not UTF-8");
        Error::config_with_source(ErrorCode::ConfigParse, message, error)
    })?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    if is_json { json(path, &text, report) } else { toml(path, &text, report) }
}

/// Returns the bytes of a file, or none if it does not exist.
fn bytes(path: &Path, map: bool) -> Result<Option<Vec<u8>>> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(unreadable(path, error)),
    };
    if length > FILE_BYTES_MAX {
        let text =
            format!("cannot read {path:?}: it has {length} bytes, more than a configuration");
        return Err(Error::config(text));
    }
    match contents(path, map) {
        Ok(bytes) => Ok(Some(bytes)),
        // It was there a moment ago: somebody replaces it.
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn contents(path: &Path, map: bool) -> std::io::Result<Vec<u8>> {
    #[cfg(feature = "mmap-config")]
    if map {
        let file = std::fs::File::open(path)?;
        // Files of /proc and pipes have no length, and cannot be mapped.
        if file.metadata()?.len() > 0 {
            let mapped = keepd_os::mapped::read(&file);
            return mapped.map_err(|errno| std::io::Error::from_raw_os_error(errno.0));
        }
    }
    #[cfg(not(feature = "mmap-config"))]
    let _ = map;
    std::fs::read(path)
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

#[cfg(feature = "toml")]
fn toml(path: &Path, text: &str, report: &mut Report) -> Result<Option<Table>> {
    Ok(super::toml_file::table(path, text, report))
}

#[cfg(not(feature = "toml"))]
fn toml(path: &Path, _text: &str, _report: &mut Report) -> Result<Option<Table>> {
    Err(format_missing(path, "TOML", "toml"))
}

#[cfg(feature = "serde_json")]
fn json(path: &Path, text: &str, report: &mut Report) -> Result<Option<Table>> {
    Ok(super::json_file::table(path, text, report))
}

#[cfg(not(feature = "serde_json"))]
fn json(path: &Path, _text: &str, _report: &mut Report) -> Result<Option<Table>> {
    Err(format_missing(path, "JSON", "serde_json"))
}

#[cfg(not(all(feature = "toml", feature = "serde_json")))]
fn format_missing(path: &Path, format: &str, feature: &str) -> Error {
    let text = format!("cannot read {path:?}: {format} needs the feature \"{feature}\" of keepd");
    Error::config_with_code(ErrorCode::ConfigMissing, text)
}
