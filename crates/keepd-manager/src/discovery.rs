//! From what was named to the files that are read: folders, includes, and their order.
//!
//! Everything that reads a configuration goes this way: `check`, `up`, `run`, and an `apply`, which
//! therefore finds files that came or went since.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use keepd_model::Origin;
use keepd_plan::{Diagnostic, Include};
use serde::{Deserialize, Serialize};

use crate::accepted::{AcceptedError, AcceptedSource, SOURCE_BYTES_MAX, read_bounded};

/// The most files of one configuration.
pub const FILES_MAX: usize = 1_000;

/// How deep a file that is included may include others.
pub const DEPTH_MAX: usize = 8;

/// The most bytes of all files together: twice as many, with every one of them escaped, are less
/// than what is read back of the accepted configuration.
const TOTAL_BYTES_MAX: usize = 24 * 1024 * 1024;

/// How names of files in a folder of drop-ins end.
const SUFFIX: &[u8] = b".toml";

/// Stars match no separators and no hidden files.
const GLOB: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A file or folder that the user named, or that is looked for by itself. A folder stands for its
/// files `*.toml`, in byte order of their names, hidden ones left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// As the user named it, for messages.
    pub shown: String,
    /// Its absolute path.
    pub path: String,
    /// It is an error if it is not there.
    pub required: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The files in the order of reading; an included file comes right after the one that names it.
    pub sources: Vec<AcceptedSource>,
    /// Includes that lead nowhere.
    pub errors: Vec<Diagnostic>,
}

/// Reads the files of these roots, and what they include. No file is read twice.
///
/// # Errors
/// A root cannot be read, has too many bytes or files, or is no text.
pub fn discover(roots: &[Root]) -> Result<Discovered, AcceptedError> {
    let mut search = Search::default();
    for root in roots {
        let path = Path::new(&root.path);
        let failed = |error| AcceptedError::new("read", Path::new(&root.shown), error);
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !root.required => {}
            Err(error) => return Err(failed(error)),
            Ok(found) if found.is_dir() => {
                for name in drop_ins(path).map_err(failed)? {
                    let shown = Path::new(&root.shown).join(&name);
                    search
                        .read(&path.join(&name), &shown, 0)
                        .map_err(|error| AcceptedError::new("read", &shown, error))?;
                }
            }
            Ok(_) => search.read(path, Path::new(&root.shown), 0).map_err(failed)?,
        }
    }
    Ok(search.found)
}

/// Returns the names of the drop-in files in a folder, in byte order.
fn drop_ins(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let bytes = name.as_bytes();
        if bytes.starts_with(b".") || !bytes.ends_with(SUFFIX) {
            continue;
        }
        // A link counts as what it leads to; one that leads nowhere is told when it is read.
        if fs::metadata(folder.join(&name)).is_ok_and(|found| !found.is_file()) {
            continue;
        }
        if names.len() == FILES_MAX {
            return Err(io::Error::other(format!("it has more than {FILES_MAX} files")));
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

/// The files so far.
#[derive(Default)]
struct Search {
    found: Discovered,
    /// The canonical paths of what was read.
    seen: BTreeSet<PathBuf>,
    bytes: usize,
}

impl Search {
    /// Reads one file and what it includes, unless it was read before.
    fn read(&mut self, path: &Path, shown: &Path, depth: usize) -> io::Result<()> {
        let real = path.canonicalize()?;
        if self.seen.contains(&real) {
            return Ok(());
        }
        if self.seen.len() == FILES_MAX {
            return Err(io::Error::other(format!("there are more than {FILES_MAX} files")));
        }
        let text = read_bounded(path, SOURCE_BYTES_MAX)?;
        self.bytes += text.len();
        if self.bytes > TOTAL_BYTES_MAX {
            let text = format!("all files together have more than {TOTAL_BYTES_MAX} bytes");
            return Err(io::Error::other(text));
        }
        let folder = path.parent().unwrap_or(Path::new("/")).canonicalize()?;
        let not_text = || io::Error::other("its path is not UTF-8");
        let source = AcceptedSource {
            file: shown.display().to_string(),
            path: Some(path.to_str().ok_or_else(not_text)?.to_owned()),
            directory: folder.to_str().ok_or_else(not_text)?.to_owned(),
            text,
        };
        self.seen.insert(real);
        // What is wrong with the key itself is told by the plan, with everything else.
        let includes = keepd_plan::includes(&source.to_source()).unwrap_or_default();
        self.found.sources.push(source);
        for include in &includes {
            self.follow(include, &folder, shown, depth + 1);
        }
        Ok(())
    }

    /// Reads what an include names.
    fn follow(&mut self, include: &Include, folder: &Path, shown: &Path, depth: usize) {
        let pattern = &include.pattern;
        if depth > DEPTH_MAX {
            let why = format!("files include each other more than {DEPTH_MAX} deep");
            return self.refuse(&include.origin, pattern, &why);
        }
        let paths = match matches(include) {
            Ok(paths) => paths,
            Err(why) => return self.refuse(&include.origin, pattern, &why),
        };
        for path in paths {
            // Beside the file that names it, it is shown in the same way.
            let near = match path.strip_prefix(folder) {
                Ok(rest) => shown.parent().unwrap_or(Path::new("")).join(rest),
                Err(_) => path.clone(),
            };
            if let Err(error) = self.read(&path, &near, depth) {
                let shown = near.display().to_string();
                self.refuse(&include.origin, &shown, &error.to_string());
            }
        }
    }

    fn refuse(&mut self, origin: &Origin, what: &str, why: &str) {
        // One broken folder must not fill the screen.
        if self.found.errors.len() < FILES_MAX {
            self.found.errors.push(Diagnostic {
                origin: Some(origin.clone()),
                message: format!("cannot include \"{what}\": {why}"),
                hint: None,
            });
        }
    }
}

/// Returns the regular files that an include names, in byte order; or why there are none.
fn matches(include: &Include) -> Result<Vec<PathBuf>, String> {
    if include.is_named {
        let path = PathBuf::from(&include.pattern);
        let found = fs::metadata(&path).map_err(|error| error.to_string())?;
        return if found.is_file() { Ok(vec![path]) } else { Err("it is no regular file".into()) };
    }
    let found = glob::glob_with(&include.pattern, GLOB).map_err(|error| error.msg.to_owned())?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|error| {
            format!("cannot look into \"{}\": {}", error.path().display(), error.error())
        })?;
        if !fs::metadata(&path).is_ok_and(|found| found.is_file()) {
            continue;
        }
        if paths.len() == FILES_MAX {
            return Err(format!("it matches more than {FILES_MAX} files"));
        }
        paths.push(path.into_os_string().into_vec());
    }
    paths.sort_unstable();
    Ok(paths.into_iter().map(|bytes| PathBuf::from(OsString::from_vec(bytes))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;

    fn root(scratch: &Scratch, name: &str, required: bool) -> Root {
        let path = scratch.path().join(name).to_str().unwrap().to_owned();
        Root { shown: name.to_owned(), path, required }
    }

    fn names(found: &Discovered) -> Vec<&str> {
        found.sources.iter().map(|source| source.file.as_str()).collect()
    }

    fn messages(found: &Discovered) -> Vec<String> {
        found.errors.iter().map(|error| error.to_string()).collect()
    }

    #[test]
    fn a_folder_is_its_files_in_byte_order() {
        let scratch = Scratch::new();
        for name in ["b.toml", "a.toml", "B.toml", ".hidden.toml", "c.toml~", "d.toml/x.toml"] {
            scratch.write(&format!("conf.d/{name}"), "");
        }
        let found = discover(&[root(&scratch, "conf.d", true)]).unwrap();
        assert_eq!(names(&found), ["conf.d/B.toml", "conf.d/a.toml", "conf.d/b.toml"]);
        let folder = scratch.path().join("conf.d");
        assert_eq!(found.sources[0].directory, folder.to_str().unwrap());
    }

    #[test]
    fn what_is_looked_for_may_be_missing_and_what_is_named_may_not() {
        let scratch = Scratch::new();
        assert_eq!(discover(&[root(&scratch, "no.toml", false)]).unwrap(), Discovered::default());
        let error = discover(&[root(&scratch, "no.toml", true)]).unwrap_err();
        assert_eq!(error.chain(), "cannot read \"no.toml\": no such file or directory");
    }

    #[test]
    fn included_files_come_right_after_the_one_that_names_them_and_once() {
        let scratch = Scratch::new();
        scratch.write("a.toml", "include = [\"sub/*.toml\", \"none/*.toml\", \"c.toml\"]\n");
        scratch.write("sub/2.toml", "include = [\"../a.toml\"]\n");
        scratch.write("sub/1.toml", "include = [\"deep.d/x.toml\"]\n");
        scratch.write("sub/.h.toml", "");
        scratch.write("sub/deep.d/x.toml", "");
        scratch.write("c.toml", "");
        scratch.write("z.toml", "");
        let roots = [root(&scratch, "a.toml", true), root(&scratch, "z.toml", true)];
        let found = discover(&roots).unwrap();
        assert_eq!(messages(&found), [""; 0]);
        let expected =
            ["a.toml", "sub/1.toml", "sub/deep.d/x.toml", "sub/2.toml", "c.toml", "z.toml"];
        assert_eq!(names(&found), expected);
        let again = discover(&[root(&scratch, "c.toml", true), root(&scratch, "c.toml", true)]);
        assert_eq!(names(&again.unwrap()), ["c.toml"]);
    }

    #[test]
    fn an_include_that_leads_nowhere_is_told_with_its_place() {
        let scratch = Scratch::new();
        scratch.write("folder/x", "");
        scratch.write("a.toml", "include = [\n  \"gone.toml\",\n  \"folder\",\n]\n");
        let found = discover(&[root(&scratch, "a.toml", true)]).unwrap();
        let folder = scratch.path().display();
        assert_eq!(
            messages(&found),
            [
                format!(
                    "a.toml:2:3: cannot include \"{folder}/gone.toml\": \
                     No such file or directory (os error 2)"
                ),
                format!("a.toml:3:3: cannot include \"{folder}/folder\": it is no regular file"),
            ]
        );
    }

    #[test]
    fn depth_has_a_limit() {
        let scratch = Scratch::new();
        for depth in 0..12 {
            let text = format!("include = [\"{}.toml\"]\n", depth + 1);
            scratch.write(&format!("{depth}.toml"), &text);
        }
        let found = discover(&[root(&scratch, "0.toml", true)]).unwrap();
        assert_eq!(found.sources.len(), DEPTH_MAX + 1);
        let folder = scratch.path().display();
        let expected = format!(
            "8.toml:1:12: cannot include \"{folder}/9.toml\": \
             files include each other more than 8 deep"
        );
        assert_eq!(messages(&found), [expected]);
    }
}
