//! The `a::b::c` paths of a code text, those in nested `use` lists written out, so that
//! `use std::{time::{Duration, Instant}}` is seen to name `std::time::Instant`.

use super::lexer::is_word;

/// A path and where it begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CodePath<'a> {
    pub(crate) offset: usize,
    /// The names in order; the last is `*` where everything is imported.
    pub(crate) segments: Vec<&'a str>,
    /// The byte after the path, `!` for a macro.
    pub(crate) follower: Option<u8>,
}

/// Returns every path of a code text (comments and literals already blanked), single words
/// included.
pub(crate) fn paths(code: &str) -> Vec<CodePath<'_>> {
    let mut reader = Reader { code, at: 0 };
    let mut found = Vec::new();
    while reader.at < code.len() {
        if !reader.peek().is_some_and(is_word) {
            reader.at += 1;
            continue;
        }
        let path = reader.path();
        let begins_import = path.segments == ["use"] && path.follower != Some(b'<');
        if begins_import {
            reader.import(&[], &mut found);
        } else {
            found.push(path);
        }
    }
    found
}

struct Reader<'a> {
    code: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.code.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(is_word) {
            self.at += 1;
        }
        &self.code[start..self.at]
    }

    /// Consumes `::` and reports whether it was there.
    fn separator(&mut self) -> bool {
        let there = self.code[self.at..].starts_with("::");
        if there {
            self.at += 2;
        }
        there
    }

    /// Reads a path in an expression or a type.
    fn path(&mut self) -> CodePath<'a> {
        let offset = self.at;
        let mut segments = vec![self.word()];
        loop {
            let end = self.at;
            if self.separator() && self.peek().is_some_and(is_word) {
                segments.push(self.word());
            } else {
                self.at = end;
                break;
            }
        }
        CodePath { offset, segments, follower: self.peek() }
    }

    /// Reads one tree of an import after `prefix`, with everything in its braces.
    fn import(&mut self, prefix: &[&'a str], found: &mut Vec<CodePath<'a>>) {
        let mut segments = prefix.to_vec();
        self.skip_space();
        let offset = self.at;
        // A leading `::` names a crate; it changes nothing here.
        self.separator();
        loop {
            match self.peek() {
                Some(b'{') => return self.import_list(&segments, found),
                Some(b'*') => {
                    self.at += 1;
                    segments.push("*");
                    break;
                }
                Some(byte) if is_word(byte) => {
                    let word = self.word();
                    if word != "self" || segments.is_empty() {
                        segments.push(word);
                    }
                    if !self.separator() {
                        break;
                    }
                }
                _ => break,
            }
        }
        found.push(CodePath { offset, segments, follower: None });
        self.skip_rename();
    }

    /// Reads `{ tree, tree }`.
    fn import_list(&mut self, prefix: &[&'a str], found: &mut Vec<CodePath<'a>>) {
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return;
                }
                Some(b',') => self.at += 1,
                Some(byte) if is_word(byte) || matches!(byte, b':' | b'*' | b'{') => {
                    self.import(prefix, found);
                }
                // Not an import after all; the caller goes on from here.
                _ => return,
            }
        }
    }

    /// Consumes ` as NAME`: a new name does not change what is named.
    fn skip_rename(&mut self) {
        let end = self.at;
        self.skip_space();
        if self.word() == "as" {
            self.skip_space();
            self.word();
        } else {
            self.at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str) -> Vec<String> {
        paths(code).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn import_lists_are_written_out() {
        assert_eq!(
            names("pub use std::{fmt, time::{self, Duration as D, Instant}, io::*};\nx"),
            [
                "pub",
                "std::fmt",
                "std::time",
                "std::time::Duration",
                "std::time::Instant",
                "std::io::*",
                "x"
            ]
        );
        assert_eq!(names("use ::std::fs;"), ["std::fs"]);
        assert_eq!(names("use {std::fs, std::env};"), ["std::fs", "std::env"]);
        assert_eq!(names("use self::a;"), ["self::a"]);
    }

    #[test]
    fn expressions_and_types_are_paths_too() {
        assert_eq!(
            names("let x: Vec<std::fs::File> = std::env!().a();"),
            ["let", "x", "Vec", "std::fs::File", "std::env", "a"]
        );
        assert_eq!(paths("env!()")[0].follower, Some(b'!'));
        assert_eq!(names("impl Sized + use<'a>"), ["impl", "Sized", "use", "a"]);
    }

    #[test]
    fn text_that_is_cut_off_ends_the_search() {
        assert_eq!(names("use std::{a, "), ["std::a"]);
        assert_eq!(names("use std::"), ["std"]);
        assert_eq!(names("use std::{a(b)}"), ["std::a", "b"]);
    }
}
