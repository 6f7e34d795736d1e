//! `include`: which more files belong to the configuration. Here the patterns are only read; to
//! look for files is the work of the program that reads them.

use keepd_model::{Origin, Template};

use crate::Source;
use crate::diagnostic::{Collector, Diagnostic};
use crate::document::Document;
use crate::field::{Entry, Field, Place, Value};

/// The most patterns of one file.
const PATTERNS_MAX: usize = 1_000;

/// What means something in a pattern, as in glob(7).
const GLOB_CHARACTERS: [char; 3] = ['*', '?', '['];

/// One entry of `include`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// An absolute path, or a pattern of absolute paths with `*`, `?` and `[...]`. Such characters
    /// of the file's own folder stand in brackets (`[*]`), so that they mean themselves.
    pub pattern: String,
    /// Where it stands.
    pub origin: Origin,
    /// It names one file, which must exist. A pattern may match nothing.
    pub is_named: bool,
}

/// Returns what a file includes, in its order. Files that match one pattern are read in the byte
/// order of their paths, and all of them count as coming right after the including file.
///
/// Included files may include others. How deep and how many, and what is done about a file that is
/// reached twice, is up to the caller: it must have bounds, or a circle of files has no end.
///
/// # Errors
///
/// Returns what is wrong with `include` itself. The rest of the file is not looked at: `load` tells
/// what is wrong with it, and says these errors, too.
pub fn includes(source: &Source) -> Result<Vec<Include>, Vec<Diagnostic>> {
    // Every command looks for the files of its project, and most projects are one file: its tree
    // is not made to find nothing. A key in quotes may be written with escapes.
    if !source.text.contains("include") && !source.text.contains('\\') {
        return Ok(Vec::new());
    }
    let mut rest = Collector::default();
    let Some(document) = Document::parse(source, &mut rest) else {
        return Ok(Vec::new());
    };
    let mut collector = Collector::default();
    let found = document.root.iter().find(|(key, _)| key.get_ref() == "include");
    let found = found.filter(|(_, value)| !document.is_unreadable(value));
    let includes = found.map(|(key, value)| {
        let entry =
            Entry { document: &document, key_start: key.span().start, value, rank: Entry::OWN };
        read(&mut Field::new("include", Place::Top, entry, &mut collector))
    });
    collector.finish().map(|_| includes.unwrap_or_default())
}

/// Notes what is wrong with this value of `include`.
pub(crate) fn check<'d>(
    document: &'d Document<'d>,
    key_start: usize,
    value: &'d Value<'d>,
    collector: &mut Collector,
) {
    let entry = Entry { document, key_start, value, rank: Entry::OWN };
    read(&mut Field::new("include", Place::Top, entry, collector));
}

fn read(field: &mut Field<'_, '_>) -> Vec<Include> {
    let items = field.texts().unwrap_or_default();
    if items.len() > PATTERNS_MAX {
        let reason = format!("it takes {PATTERNS_MAX} patterns at most");
        field.refuse(&reason, None);
        return Vec::new();
    }
    items.into_iter().filter_map(|(item, text)| read_item(field, item, text)).collect()
}

fn read_item(field: &mut Field<'_, '_>, item: &Value<'_>, text: &str) -> Option<Include> {
    if text == "~" || text.starts_with("~/") {
        let hint = Some("write the whole path".to_owned());
        field.refuse_part(item, None, "\"~\" means something to a shell only", hint);
        return None;
    }
    let path = field.path_of(item, text)?;
    let Some(path) = path.as_literal() else {
        field.refuse_part(item, None, "no variable is filled in here", None);
        return None;
    };
    let is_named = !text.contains(GLOB_CHARACTERS);
    if let Some(offset) = text.rfind('[').filter(|open| !text[*open..].contains(']')) {
        field.refuse_part(item, Some(offset), "the bracket [ is not closed", None);
        return None;
    }
    if text.ends_with('/') {
        let hint = format!("write \"{text}*.toml\" for the files in it");
        field.refuse_part(item, None, "it takes files, and this is a folder", Some(hint));
        return None;
    }
    let pattern = match is_named {
        true => path.to_owned(),
        false => escape_folder(path, text),
    };
    let origin = field.entry.document.origin(item.span().start);
    Some(Include { pattern, origin, is_named })
}

/// Puts what means something in a pattern into brackets, in the part of the path that the text does
/// not give.
fn escape_folder(path: &str, text: &str) -> String {
    // The dollar signs of the text are filled in already.
    let text = Template::parse(text).ok();
    let text = text.as_ref().and_then(Template::as_literal).unwrap_or_default();
    let own = text.strip_prefix("./").unwrap_or(text);
    let (folder, own) = path.split_at(path.len() - own.len().min(path.len()));
    let mut pattern = String::with_capacity(path.len());
    for letter in folder.chars() {
        match GLOB_CHARACTERS.contains(&letter) {
            true => pattern.extend(['[', letter, ']']),
            false => pattern.push(letter),
        }
    }
    pattern.push_str(own);
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(directory: &str, line: &str) -> Result<Vec<(String, bool)>, Vec<String>> {
        let source =
            Source { file: "k.toml".into(), directory: directory.into(), text: line.into() };
        let found = includes(&source);
        found
            .map(|found| {
                found.into_iter().map(|include| (include.pattern, include.is_named)).collect()
            })
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn patterns_are_absolute_and_a_name_is_told_from_a_pattern() {
        let line = "include = ['conf.d/*.toml', './one.toml', '/etc/[ab].toml', '$$x/?.toml']";
        let expected = [
            ("/srv/app/conf.d/*.toml", false),
            ("/srv/app/one.toml", true),
            ("/etc/[ab].toml", false),
            ("/srv/app/$x/?.toml", false),
        ];
        let expected = expected.map(|(pattern, is_named)| (pattern.to_owned(), is_named));
        assert_eq!(found("/srv/app", line), Ok(expected.to_vec()));
    }

    #[test]
    fn the_folder_of_the_file_is_never_a_pattern() {
        assert_eq!(
            found("/srv/a[1]*", "include = ['*.toml', 'b.toml']"),
            Ok(vec![
                ("/srv/a[[]1][*]/*.toml".to_owned(), false),
                ("/srv/a[1]*/b.toml".to_owned(), true),
            ])
        );
    }

    #[test]
    fn the_key_may_be_written_with_escapes() {
        let line = r#""incl\u0075de" = ['a.toml']"#;
        assert_eq!(found("/d", line), Ok(vec![("/d/a.toml".to_owned(), true)]));
    }

    #[test]
    fn only_what_is_wrong_with_include_is_told() {
        assert_eq!(found("/d", "include = []\ncolour = 1\nx = ["), Ok(vec![]));
        assert_eq!(found("/d", "colour = 1"), Ok(vec![]));
        assert_eq!(
            found("/d", "include = 'a.toml'\ncolour = 1"),
            Err(vec![
                "k.toml:1:11: cannot use \"a.toml\" for \"include\" at the top level: it takes an \
                 array of strings\n  hint: write [\"a.toml\"]"
                    .to_owned()
            ])
        );
    }

    #[test]
    fn origins_are_those_of_the_items() {
        let text = "include = [\n  'a.toml',\n  'b.toml',\n]".to_owned();
        let source = Source { file: "k.toml".into(), directory: "/d".into(), text };
        let lines: Vec<u32> =
            includes(&source).unwrap().iter().map(|include| include.origin.line).collect();
        assert_eq!(lines, [2, 3]);
    }
}
