//! `accepted.json`: the configuration that is in force.
//!
//! It holds the texts that were accepted, so that a manager that replaces a lost one takes the
//! accepted configuration and not what somebody has typed into the files since.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use keepd_model::{Errno, Plan, ServiceName};
use keepd_plan::{Context, Diagnostic, Exceptions, Kept, Loaded, Source};
use serde::{Deserialize, Serialize};

use crate::api::types::{DiagnosticObject, StepObject};
use crate::discovery::{Root, discover};
use crate::instance::write_atomically;
use crate::revision::left_out_notes;

/// The version of the file's format. A reader refuses another one.
///
/// 1: sources only. 2: roots, and what is weaker than the files say. 3: tables that are kept.
/// 4: what the last applies were told.
pub const FORMAT: u32 = 4;

/// The longest file that is read: larger than any configuration that can be loaded.
const ACCEPTED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// So many answers are kept: who lost one asks again within seconds.
const ANSWERS_MAX: usize = 8;

/// The largest configuration file.
pub const SOURCE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The accepted configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// [`FORMAT`].
    pub format: u32,
    /// It was loaded for a project (`keepd up`), not for the system or user instance.
    pub project: bool,
    /// Where the files are looked for again; empty where there are none (`run -- CMD`).
    pub roots: Vec<Root>,
    /// The files in the order of reading.
    pub sources: Vec<AcceptedSource>,
    /// Services whose tables cannot be used are quarantined or keep an older table, instead of
    /// everything being refused.
    pub salvaged: bool,
    /// Tables that were in force before and hold instead of those of the files, which have errors:
    /// by service, as [`keepd_plan::render`] writes them.
    pub kept: BTreeMap<String, String>,
    /// Services whose tables have errors, and that had none before: why.
    pub quarantined: BTreeMap<String, String>,
    /// What is in force other than what the files say, and why: sentences for `keepd status`.
    pub notes: Vec<String>,
    /// What the last applies that had a word of their own were told, oldest first.
    pub answers: Vec<ApplyAnswer>,
}

/// What an apply is told. If that is lost on the way, it is asked for again with the same word,
/// maybe of a successor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyAnswer {
    /// The asker's word.
    pub token: String,
    /// What is done.
    pub steps: Vec<StepObject>,
    /// What is odd in the files.
    pub warnings: Vec<DiagnosticObject>,
    /// What is wrong with tables that were left out.
    pub errors: Vec<DiagnosticObject>,
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
        let known = self.source.raw_os_error().and_then(|number| Errno(number).text());
        match known {
            Some(why) => format!("{}: {why}", self.text),
            None => format!("{}: {}", self.text, self.source),
        }
    }

    pub(crate) fn new(verb: &str, path: &Path, source: io::Error) -> Self {
        Self { text: format!("cannot {verb} \"{}\"", path.display()), source }
    }
}

impl Accepted {
    /// Returns an accepted configuration with these files and without an error.
    pub fn new(project: bool, roots: Vec<Root>, sources: Vec<AcceptedSource>) -> Self {
        Self {
            format: FORMAT,
            project,
            roots,
            sources,
            salvaged: false,
            kept: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            notes: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Returns what the apply with this word was told, if that was one of the last.
    pub(crate) fn answer_to(&self, token: &str) -> Option<&ApplyAnswer> {
        self.answers.iter().find(|answer| answer.token == token)
    }

    /// Keeps what an apply is told, for as long as it may be asked for again.
    pub(crate) fn add_answer(&mut self, answer: ApplyAnswer) {
        let surplus = (self.answers.len() + 1).saturating_sub(ANSWERS_MAX);
        self.answers.drain(..surplus);
        self.answers.push(answer);
    }

    /// Returns the files with what holds instead of their broken tables, what that means, and every
    /// error of these tables.
    ///
    /// # Errors
    /// Every error, if one is about more than single services.
    pub fn keep_going(
        self,
        in_force: &Plan,
    ) -> Result<(Self, Loaded, Vec<Diagnostic>), Vec<Diagnostic>> {
        let Kept { loaded, exceptions, errors } =
            keepd_plan::load_keeping(&self.plan_sources(), &self.context(), in_force)?;
        let texts = |name: &ServiceName, text: &str| (name.to_string(), text.to_owned());
        let kept = exceptions.kept().map(|(name, text)| texts(name, text)).collect();
        let quarantined = exceptions.quarantined().map(|(name, why)| texts(name, why)).collect();
        let notes = left_out_notes(&exceptions);
        Ok((Self { salvaged: true, kept, quarantined, notes, ..self }, loaded, errors))
    }

    fn context(&self) -> Context {
        Context { project: self.project }
    }

    fn plan_sources(&self) -> Vec<Source> {
        self.sources.iter().map(AcceptedSource::to_source).collect()
    }

    /// Returns what holds instead of what the files say.
    fn exceptions(&self) -> Exceptions {
        let named = |(name, text): (&String, &String)| {
            // A name that is none cannot have been written; without it the rest is still right.
            Some((ServiceName::new(name).ok()?, text.clone()))
        };
        let kept: Vec<_> = self.kept.iter().filter_map(named).collect();
        Exceptions::new(kept, self.quarantined.iter().filter_map(named).collect())
    }

    /// Returns what it means.
    ///
    /// # Errors
    /// Every error in the files, if it was not accepted by this version of keepd.
    pub fn load(&self) -> Result<Loaded, Vec<Diagnostic>> {
        let (sources, context) = (self.plan_sources(), self.context());
        if self.salvaged {
            keepd_plan::load_except(&sources, &context, &self.exceptions())
        } else {
            keepd_plan::load(&sources, &context)
        }
    }

    /// Reports whether it is what the files said, all of it.
    pub fn is_whole(&self) -> bool {
        !self.salvaged && self.notes.is_empty()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or is none of this format.
    pub fn read(path: &Path) -> Result<Self, AcceptedError> {
        let failed = |source| AcceptedError::new("read", path, source);
        let text = read_bounded(path, ACCEPTED_BYTES_MAX).map_err(failed)?;
        let found: Format =
            serde_json::from_str(&text).map_err(|error| failed(io::Error::other(error)))?;
        if found.format != FORMAT {
            let text = format!("its format is {}, this keepd reads {FORMAT}", found.format);
            return Err(failed(io::Error::other(text)));
        }
        serde_json::from_str(&text).map_err(|error| failed(io::Error::other(error)))
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

    /// Looks for the files again and reads them. Without roots the sources stay as they are.
    ///
    /// Returns what is wrong with the way to the files besides: includes that lead nowhere.
    ///
    /// # Errors
    /// A file that was named by the user cannot be read.
    pub fn reread(&self) -> Result<(Self, Vec<Diagnostic>), AcceptedError> {
        if self.roots.is_empty() {
            return Ok((Self::new(self.project, Vec::new(), self.sources.clone()), Vec::new()));
        }
        let found = discover(&self.roots)?;
        Ok((Self::new(self.project, self.roots.clone(), found.sources), found.errors))
    }
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl AcceptedSource {
    /// Returns the text as the plan takes it.
    pub(crate) fn to_source(&self) -> Source {
        Source {
            file: self.file.as_str().into(),
            directory: self.directory.clone(),
            text: self.text.clone(),
        }
    }
}

/// Reads a text of at most this many bytes.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
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

    fn accepted(roots: Vec<Root>) -> Accepted {
        let source = AcceptedSource {
            file: "keepd.toml".into(),
            path: None,
            directory: "/srv/shop".into(),
            text: "version = 1\n# \"quotes\" \u{e9}\n".into(),
        };
        Accepted::new(true, roots, vec![source])
    }

    fn root(path: &Path) -> Root {
        Root { shown: "keepd.toml".into(), path: path.to_str().unwrap().into(), required: true }
    }

    fn answer(token: &str) -> ApplyAnswer {
        let (name, action) = ("web".to_owned(), "restart".to_owned());
        let steps = vec![StepObject { name, action, keys: vec!["command".to_owned()] }];
        ApplyAnswer { token: token.to_owned(), steps, warnings: Vec::new(), errors: Vec::new() }
    }

    #[test]
    fn only_the_last_answers_are_kept() {
        let mut accepted = accepted(Vec::new());
        for number in 0..20 {
            accepted.add_answer(answer(&format!("word {number}")));
        }
        assert_eq!(accepted.answers.len(), ANSWERS_MAX);
        assert_eq!(accepted.answer_to("word 19"), Some(&answer("word 19")));
        assert_eq!(accepted.answer_to("word 11"), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let scratch = Scratch::new();
        let path = scratch.path().join("accepted.json");
        let mut accepted = accepted(vec![root(Path::new("/srv/shop/keepd.toml"))]);
        accepted.salvaged = true;
        accepted.kept.insert("web".into(), "[services.web]\n".into());
        accepted.quarantined.insert("db".into(), "keepd.toml:1:1: it is odd".into());
        accepted.notes.push("something is weaker".into());
        accepted.add_answer(answer("a"));
        accepted.write(&path).unwrap();
        assert_eq!(Accepted::read(&path).unwrap(), accepted);
    }

    #[test]
    fn what_was_kept_is_kept_by_a_successor() {
        let mut accepted = accepted(Vec::new());
        accepted.sources[0].text = "[services]\nweb.command = 'x'\ndb.command = 'x'\n".into();
        let old = accepted.load().unwrap().plan;
        accepted.sources[0].text = "[services]\nweb.command = 5\nnew.command = 5\n".into();
        let (kept, loaded, errors) = accepted.keep_going(&old).unwrap();
        assert!(!kept.is_whole() && errors.len() == 2);
        assert_eq!(kept.kept.keys().collect::<Vec<_>>(), ["web"]);
        assert!(kept.quarantined["new"].starts_with("keepd.toml:3:15: cannot use 5 for "));
        assert!(kept.notes[0].contains("has errors: web; "), "{:?}", kept.notes);
        assert!(kept.notes[1].starts_with("quarantined: new: "), "{:?}", kept.notes);
        let scratch = Scratch::new();
        let path = scratch.path().join("accepted.json");
        kept.write(&path).unwrap();
        assert_eq!(Accepted::read(&path).unwrap().load().unwrap(), loaded);
        assert!(old.services["web"].differences(&loaded.plan.services["web"]).is_empty());
    }

    #[test]
    fn a_table_without_a_name_is_left_out_and_said() {
        let mut accepted = accepted(Vec::new());
        let old = accepted.load().unwrap().plan;
        accepted.sources[0].text = "[services]\n'a/b'.command = 'x'\nweb.command = 'x'\n".into();
        let (kept, loaded, _) = accepted.keep_going(&old).unwrap();
        assert!(kept.notes[0].starts_with("left out, because they cannot be read"));
        assert_eq!(loaded.warnings.len(), 1);
        assert_eq!(kept.load().unwrap(), loaded);
    }

    #[test]
    fn another_format_is_refused() {
        let scratch = Scratch::new();
        for format in [3, 5] {
            let text = format!("{{\"format\":{format},\"project\":true,\"sources\":[]}}");
            let path = scratch.write("accepted.json", &text);
            let error = Accepted::read(&path).unwrap_err().chain();
            let end = format!(": its format is {format}, this keepd reads 4");
            assert!(error.ends_with(&end), "{error}");
        }
        let path = scratch.write("accepted.json", "{}");
        assert!(Accepted::read(&path).is_err());
    }

    #[test]
    fn files_are_read_again_and_the_rest_stays() {
        let scratch = Scratch::new();
        let file = scratch.write("keepd.toml", "# new\n");
        let mut old = accepted(vec![root(&file)]);
        old.notes.push("a fallback".into());
        let (fresh, errors) = old.reread().unwrap();
        assert_eq!((fresh.sources[0].text.as_str(), errors.len()), ("# new\n", 0));
        assert!(fresh.is_whole());
        let without_file = accepted(Vec::new());
        assert_eq!(without_file.reread().unwrap().0, without_file);
        let gone = accepted(vec![root(&scratch.path().join("gone"))]);
        let error = gone.reread().unwrap_err();
        assert_eq!(error.to_string(), "cannot read \"keepd.toml\"");
    }
}
