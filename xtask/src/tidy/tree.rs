//! The files of the checkout, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::outcome::Failure;
use crate::workspace::find_program;

/// Folders that hold no file of ours, for a checkout that git does not know.
const FOREIGN: [&str; 4] = [".git", ".keepd", "node_modules", "target"];

/// A file of the checkout.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) bytes: u64,
    /// What it says, if a rule reads files of its kind.
    pub(crate) text: Option<String>,
}

/// Every file that is ours, by its path from the root, with `/`.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, File>,
}

impl Tree {
    /// Reads the checkout: what git tracks or would track.
    pub(crate) fn read(root: &Path) -> Result<Self, Failure> {
        let mut tree = Self::default();
        for path in list(root)? {
            let full = root.join(&path);
            // A tracked file may have been deleted just now; a link is no text of ours.
            let Ok(metadata) = fs::symlink_metadata(&full) else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let text = is_text(&path)
                .then(|| fs::read_to_string(&full))
                .transpose()
                .map_err(|error| Failure::System(format!("cannot read \"{path}\": {error}")))?;
            let bytes = metadata.len();
            tree.files.insert(path, File { bytes, text });
        }
        Ok(tree)
    }

    /// Returns the texts with an extension.
    pub(crate) fn texts(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts_all().filter(move |(path, _)| path.ends_with(extension))
    }

    /// Returns all texts.
    pub(crate) fn texts_all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, file)| Some((path.as_str(), file.text.as_deref()?)))
    }

    /// Returns the paths of all files and of the folders that hold them.
    pub(crate) fn paths_and_folders(&self) -> BTreeSet<&str> {
        let mut found: BTreeSet<&str> = self.files.keys().map(String::as_str).collect();
        for path in self.files.keys() {
            let folders = path.match_indices('/').map(|(offset, _)| &path[..offset]);
            found.extend(folders);
        }
        found
    }
}

/// Reports whether rules read a file.
fn is_text(path: &str) -> bool {
    [".rs", ".md", ".toml"].iter().any(|extension| path.ends_with(extension))
        || path.starts_with(".ci/")
}

/// Lists the files: by git where it knows the checkout, else by walking, as in an unpacked archive.
fn list(root: &Path) -> Result<Vec<String>, Failure> {
    if root.join(".git").exists() && find_program("git").is_some() {
        return list_by_git(root);
    }
    let mut found = Vec::new();
    walk(root, "", &mut found)
        .map_err(|error| Failure::System(format!("cannot list the checkout: {error}")))?;
    Ok(found)
}

fn list_by_git(root: &Path) -> Result<Vec<String>, Failure> {
    // The checkout may belong to somebody else, as in a container; only names are read.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| Failure::System(format!("cannot run \"git\": {error}")))?;
    if !output.status.success() {
        return Err(Failure::System(format!(
            "cannot list the checkout: git: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path, folder: &str, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if !entry.file_type()?.is_dir() {
            found.push(path);
        } else if !FOREIGN.contains(&name.as_str()) {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::root;

    #[test]
    fn git_and_the_walk_agree_on_this_crate() {
        let own = |path: &String| path.starts_with("xtask/");
        let mut walked = Vec::new();
        walk(root(), "", &mut walked).unwrap();
        let walked: BTreeSet<String> = walked.into_iter().filter(own).collect();
        assert!(walked.contains("xtask/src/main.rs"));
        let listed: BTreeSet<String> = list(root()).unwrap().into_iter().filter(own).collect();
        assert_eq!(walked, listed);
    }

    #[test]
    fn folders_are_known_as_well_as_files() {
        let file = File { bytes: 0, text: None };
        let tree = Tree { files: BTreeMap::from([("docs/design/a.md".to_owned(), file)]) };
        let known: Vec<&str> = tree.paths_and_folders().into_iter().collect();
        assert_eq!(known, ["docs", "docs/design", "docs/design/a.md"]);
    }
}
