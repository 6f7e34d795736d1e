//! One file as a tree of values, each with its place.

use std::ops::Range;

use keepd_model::Origin;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Source;
use crate::diagnostic::{Collector, quoted};

/// The largest file that is read.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Characters are counted once for every block of this many bytes, so that the column of a place in
/// a very long line needs no walk through the whole line.
const BLOCK_BYTES: usize = 256;

/// What the parser says about a key that is given twice.
const DUPLICATE_KEY: &str = "duplicate key";

/// A parsed file.
pub(crate) struct Document<'s> {
    pub(crate) source: &'s Source,
    pub(crate) root: DeTable<'s>,
    /// Nothing was lost to syntax errors, so what is not there was not written.
    pub(crate) is_complete: bool,
    /// Where syntax errors stand, in ascending order.
    error_offsets: Vec<usize>,
    places: Places<'s>,
}

impl<'s> Document<'s> {
    /// Parses a file as far as it goes and notes every syntax error. A file that is too large is
    /// only an error.
    pub(crate) fn parse(source: &'s Source, collector: &mut Collector) -> Option<Self> {
        let places = Places::new(source);
        let bytes = source.text.len();
        if bytes > FILE_BYTES_MAX {
            let message =
                format!("cannot read a file of {bytes} bytes: the limit is {FILE_BYTES_MAX}");
            collector.error(Some(places.origin(0)), message, None);
            return None;
        }
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        let mut error_offsets: Vec<usize> = errors
            .iter()
            .filter(|error| error.message() != DUPLICATE_KEY)
            .map(|error| error.span().map_or(bytes, |span| span.start))
            .collect();
        error_offsets.sort_unstable();
        for error in errors {
            if collector.is_full() {
                break;
            }
            let span = error.span().unwrap_or(bytes..bytes);
            let origin = Some(places.origin(span.start));
            if error.message() == DUPLICATE_KEY {
                let (message, hint) = places.duplicate(&span);
                collector.error(origin, message, hint);
            } else {
                collector.error(origin, format!("cannot parse TOML: {}", error.message()), None);
            }
        }
        Some(Self {
            source,
            root: root.into_inner(),
            is_complete: error_offsets.is_empty(),
            error_offsets,
            places,
        })
    }

    /// Reports whether what the parser made of this value is not what was written: it is broken, or
    /// put in for one that is missing. The syntax error has been noted already.
    pub(crate) fn is_unreadable(&self, value: &Spanned<DeValue<'_>>) -> bool {
        let span = value.span();
        let next = self.error_offsets.partition_point(|offset| *offset < span.start);
        let is_hit = self.error_offsets.get(next).is_some_and(|offset| *offset <= span.end);
        // A table is taken apart, so that what is sound in it is still looked at.
        span == (0..0) || (is_hit && !value.get_ref().is_table())
    }

    /// Returns the place of a byte.
    pub(crate) fn origin(&self, offset: usize) -> Origin {
        self.places.origin(offset)
    }

    /// Returns the place of a byte of a string's content. Where the string is written with escapes
    /// before that byte, the place of the string itself.
    pub(crate) fn origin_inside(&self, string: &Spanned<DeValue<'_>>, offset: usize) -> Origin {
        let span = string.span();
        let inside = self.source.text.get(span.clone()).and_then(|raw| {
            let content = string.get_ref().as_str()?;
            let delimiter = ["\"\"\"", "'''", "\"", "'"]
                .into_iter()
                .find(|delimiter| raw.starts_with(delimiter))?;
            let written = raw.as_bytes()[delimiter.len()..].get(..offset)?;
            (content.as_bytes().get(..offset)? == written)
                .then_some(span.start + delimiter.len() + offset)
        });
        self.origin(inside.unwrap_or(span.start))
    }
}

/// From bytes to lines and columns.
struct Places<'s> {
    source: &'s Source,
    line_starts: Vec<usize>,
    chars_before_block: Vec<usize>,
}

impl<'s> Places<'s> {
    fn new(source: &'s Source) -> Self {
        let bytes = source.text.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(end, _)| end + 1));
        let mut chars_before_block = vec![0];
        let mut total = 0;
        for block in bytes.chunks(BLOCK_BYTES) {
            total += char_count(block);
            chars_before_block.push(total);
        }
        Self { source, line_starts: line_starts.collect(), chars_before_block }
    }

    fn origin(&self, offset: usize) -> Origin {
        let offset = offset.min(self.source.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = self.chars_before(offset) - self.chars_before(start) + 1;
        Origin {
            file: self.source.file.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }

    fn chars_before(&self, offset: usize) -> usize {
        let block = offset / BLOCK_BYTES;
        let rest = &self.source.text.as_bytes()[block * BLOCK_BYTES..offset];
        self.chars_before_block[block] + char_count(rest)
    }

    /// Returns message and hint for a key or table that stands a second time at `span`.
    fn duplicate(&self, span: &Range<usize>) -> (String, Option<String>) {
        let index = self.line_starts.partition_point(|start| *start <= span.start) - 1;
        let line = self.line(index);
        let hint = |first: Option<Origin>| {
            first.map(|origin| format!("it stands for the first time at {origin}"))
        };
        if let Some(table) = header(line) {
            let first = (0..index).find(|earlier| header(self.line(*earlier)) == Some(table));
            let origin = first.map(|earlier| self.origin(self.line_starts[earlier]));
            let table = quoted(table);
            return (format!("cannot use table {table} twice"), hint(origin));
        }
        let key = self.source.text.get(span.clone()).unwrap_or_default();
        let written = key_of(line);
        let table_start =
            (0..index).rev().find(|earlier| header(self.line(*earlier)).is_some()).unwrap_or(0);
        let first = (table_start..index).find(|earlier| key_of(self.line(*earlier)) == written);
        let origin = first.filter(|_| written.is_some()).map(|earlier| {
            let line = self.line(earlier);
            self.origin(self.line_starts[earlier] + line.len() - line.trim_start().len())
        });
        let key = quoted(key.trim_matches(['"', '\'']));
        (format!("cannot use key {key} twice"), hint(origin))
    }

    fn line(&self, index: usize) -> &'s str {
        let text = &self.source.text;
        let start = self.line_starts[index];
        let end = self.line_starts.get(index + 1).map_or(text.len(), |next| next - 1);
        &text[start..end]
    }
}

fn char_count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| (**byte & 0xc0) != 0x80).count()
}

/// Returns `[name]` if the line is a table header.
fn header(line: &str) -> Option<&str> {
    let line = line.trim();
    let end = line.rfind(']')?;
    line.starts_with('[').then(|| &line[..=end])
}

/// Returns what stands before the first equals sign of a line.
fn key_of(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let source = source(text);
        let mut collector = Collector::default();
        Document::parse(&source, &mut collector);
        let errors = collector.finish().unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    fn source(text: &str) -> Source {
        Source { file: "k.toml".into(), directory: "/d".into(), text: text.into() }
    }

    #[test]
    fn columns_count_characters_and_lines_begin_at_one() {
        let source = source("é = 1\n\nx = 'äöü' # y\n");
        let places = Places::new(&source);
        let place = |needle: &str| {
            let origin = places.origin(source.text.find(needle).unwrap());
            (origin.line, origin.column)
        };
        assert_eq!(place("é"), (1, 1));
        assert_eq!(place("= 1"), (1, 3));
        assert_eq!(place("x"), (3, 1));
        assert_eq!(place("# y"), (3, 11));
        let end = places.origin(usize::MAX);
        assert_eq!((end.line, end.column), (4, 1));
    }

    #[test]
    fn columns_are_right_across_blocks() {
        let source = source(&"ü".repeat(1_000));
        let places = Places::new(&source);
        for index in [0, 127, 128, 129, 500, 999] {
            assert_eq!(places.origin(index * 2).column as usize, index + 1);
        }
    }

    #[test]
    fn a_place_inside_a_string_is_exact_unless_escapes_precede_it() {
        let source = source("a = \"ab$c\"\nb = \"\\u0061b$\"\nc = '''x$'''\n");
        let mut collector = Collector::default();
        let document = Document::parse(&source, &mut collector).unwrap();
        let place = |key: &str, offset: usize| {
            let origin = document.origin_inside(&document.root[key], offset);
            (origin.line, origin.column)
        };
        assert_eq!(place("a", 2), (1, 8));
        assert_eq!(place("b", 2), (2, 5));
        assert_eq!(place("c", 1), (3, 9));
        assert_eq!(place("a", 99), (1, 5));
    }

    #[test]
    fn every_syntax_error_is_noted() {
        assert_eq!(
            errors("a = \nb = 'x\nc = 1\n"),
            [
                "k.toml:1:5: cannot parse TOML: string values must be quoted, expected literal \
                 string",
                "k.toml:2:7: cannot parse TOML: invalid literal string, expected `'`"
            ]
        );
    }

    #[test]
    fn duplicates_name_both_places() {
        assert_eq!(
            errors("[t]\nx = 1\n  y = 2\n x = 3\n y = 4 \n[t]\n"),
            [
                "k.toml:4:2: cannot use key \"x\" twice\n  hint: it stands for the first time at \
                 k.toml:2:1",
                "k.toml:5:2: cannot use key \"y\" twice\n  hint: it stands for the first time at \
                 k.toml:3:3",
                "k.toml:6:2: cannot use table \"[t]\" twice\n  hint: it stands for the first time \
                 at k.toml:1:1",
            ]
        );
        assert_eq!(errors("a = { b = 1, b = 2 }"), ["k.toml:1:14: cannot use key \"b\" twice"]);
    }

    #[test]
    fn a_file_has_a_limit() {
        assert_eq!(
            errors(&"#".repeat(FILE_BYTES_MAX + 1)),
            ["k.toml:1:1: cannot read a file of 1048577 bytes: the limit is 1048576"]
        );
    }
}
