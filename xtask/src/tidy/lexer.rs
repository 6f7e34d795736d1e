//! A lexer that knows just enough of Rust to tell code from comments and literals, so that a word
//! in a sentence or a string never breaks a rule.

/// A source text, taken apart. Both parts are as long as the source, byte for byte, with spaces in
/// place of what they leave out, so that an offset or a line number means the same in all three.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The code: strings keep their quotes and lose what is between them, characters vanish.
    pub(crate) code: String,
    /// The comments alone.
    pub(crate) comments: String,
}

/// Takes a source text apart.
pub(crate) fn split(text: &str) -> Parts {
    let mut lexer =
        Lexer { text: text.as_bytes(), code: blank(text), comments: blank(text), at: 0 };
    while lexer.at < lexer.text.len() {
        lexer.step();
    }
    Parts { code: into_text(lexer.code), comments: into_text(lexer.comments) }
}

/// Returns spaces and the line ends of a text.
fn blank(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| if byte == b'\n' { b'\n' } else { b' ' }).collect()
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("whole characters are copied or blanked")
}

struct Lexer<'a> {
    text: &'a [u8],
    code: Vec<u8>,
    comments: Vec<u8>,
    at: usize,
}

impl Lexer<'_> {
    /// Consumes one comment, literal, word or other byte.
    fn step(&mut self) {
        let byte = self.text[self.at];
        match (byte, self.peek(1)) {
            (b'/', Some(b'/')) => self.line_comment(),
            (b'/', Some(b'*')) => self.block_comment(),
            (b'"', _) => self.string(),
            (b'\'', _) => self.character_or_lifetime(),
            _ if is_word(byte) => self.word(),
            _ => self.keep(1),
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// Copies bytes to the code.
    fn keep(&mut self, count: usize) {
        let range = self.at..self.at + count;
        self.code[range.clone()].copy_from_slice(&self.text[range]);
        self.at += count;
    }

    /// Copies everything up to `end` to the comments.
    fn comment_until(&mut self, end: usize) {
        let range = self.at..end;
        self.comments[range.clone()].copy_from_slice(&self.text[range]);
        self.at = end;
    }

    fn line_comment(&mut self) {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        self.comment_until(self.at + length);
    }

    /// Block comments nest in Rust.
    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        let mut at = self.at;
        while at < self.text.len() {
            match (self.text[at], self.text.get(at + 1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        break;
                    }
                }
                _ => at += 1,
            }
        }
        self.comment_until(at);
    }

    /// A string with escapes, from its opening quote.
    fn string(&mut self) {
        self.keep(1);
        while let Some(byte) = self.peek(0) {
            match byte {
                b'"' => return self.keep(1),
                b'\\' => self.at = (self.at + 2).min(self.text.len()),
                _ => self.at += 1,
            }
        }
    }

    /// A raw string, from the first `#` or the quote after its prefix: it ends at a quote with as
    /// many `#` as it began with.
    fn raw_string(&mut self, hashes: usize) {
        self.at += hashes;
        self.keep(1);
        while let Some(byte) = self.peek(0) {
            let rest = &self.text[self.at + 1..];
            let closes = byte == b'"'
                && rest.len() >= hashes
                && rest[..hashes].iter().all(|byte| *byte == b'#');
            if closes {
                self.keep(1);
                self.at += hashes;
                return;
            }
            self.at += 1;
        }
    }

    /// `'x'` and `'\n'` are characters; `'x` without a second quote is a lifetime and stays in the
    /// code.
    fn character_or_lifetime(&mut self) {
        let rest = &self.text[self.at + 1..];
        let closing = match rest.first() {
            Some(b'\\') => {
                rest.iter().skip(2).position(|byte| *byte == b'\'').map(|position| position + 2)
            }
            Some(_) => {
                let width =
                    rest.iter().skip(1).take_while(|byte| is_continuation(**byte)).count() + 1;
                (rest.get(width) == Some(&b'\'')).then_some(width)
            }
            None => None,
        };
        match closing {
            Some(position) => self.at += position + 2,
            None => self.keep(1),
        }
    }

    /// A word; `r`, `br` and `cr` may begin a raw string instead.
    fn word(&mut self) {
        let length = self.text[self.at..].iter().take_while(|byte| is_word(**byte)).count();
        let word = &self.text[self.at..self.at + length];
        let raw = matches!(word, b"r" | b"br" | b"cr");
        self.keep(length);
        if !raw {
            return;
        }
        let hashes = self.text[self.at..].iter().take_while(|byte| **byte == b'#').count();
        if self.peek(hashes) == Some(b'"') {
            self.raw_string(hashes);
        }
    }
}

/// Reports whether a byte belongs to an identifier or a number; letters beyond ASCII do.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Reports whether a byte continues a character of several bytes.
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let parts = split(text);
        assert_eq!(parts.code.len(), text.len());
        assert_eq!(parts.comments.len(), text.len());
        parts.code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_leave_the_code_and_are_kept_apart() {
        assert_eq!(code("a /* b /* c */ d */ e // f\ng"), "a e g");
        let parts = split("a // é b\nc");
        assert_eq!(parts.comments, "  // é b\n ");
    }

    #[test]
    fn strings_keep_their_quotes_only() {
        assert_eq!(code(r#"f("a \" // b", g)"#), r#"f(" ", g)"#);
        assert_eq!(code("f(\"\", g)"), "f(\"\", g)");
        assert_eq!(code("r#\"a \" b\"# + br\"\\\" + c"), "r \" \" + br\" \" + c");
        assert_eq!(code("b\"x\" c\"y\""), "b\" \" c\" \"");
    }

    #[test]
    fn characters_vanish_and_lifetimes_stay() {
        assert_eq!(code("match c { '{' => '\\'', '\\u{7d}' => 'é' }"), "match c { => , => }");
        assert_eq!(
            code("fn f<'a>(x: &'a str) -> &'static str"),
            code("fn f<'a>(x: &'a str) -> &'static str")
        );
        assert!(code("fn f<'a>(x: &'a str)").contains("<'a>"));
        assert_eq!(code("b'\"' + '\"' + x"), "b + + x");
    }

    #[test]
    fn raw_identifiers_are_code() {
        assert_eq!(code("r#type + r#\"x\"#"), "r#type + r \" \"");
    }

    #[test]
    fn unfinished_literals_end_with_the_text() {
        assert_eq!(code("a \"b"), "a \"");
        assert_eq!(code("a r#\"b\""), "a r \"");
        assert_eq!(code("a /* b"), "a");
        assert_eq!(code("\"\\"), "\"");
        assert_eq!(code("'"), "'");
    }
}
