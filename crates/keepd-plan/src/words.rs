//! A command line as words: shell quoting rules, without globs, pipes or any other shell.

use keepd_model::{Template, TemplateError};

/// What would be a pipe, a list or a redirection in a shell.
const OPERATORS: [&str; 20] = [
    "|",
    "||",
    "|&",
    "&",
    "&&",
    ";",
    "<",
    "<<",
    "<<<",
    ">",
    ">>",
    ">|",
    "&>",
    "&>>",
    "2>",
    "2>>",
    "2>&1",
    "1>&2",
    ">&2",
    "2>/dev/null",
];

/// Why a line cannot be split. Offsets are in bytes of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WordsError {
    /// The quote at this offset is not closed.
    Quote { offset: usize, quote: char },
    /// A backslash is the last character.
    Backslash { offset: usize },
    /// An unquoted word means something to a shell only.
    Operator { offset: usize, operator: String },
    /// A variable is malformed.
    Template { offset: usize, error: TemplateError },
}

impl WordsError {
    /// Returns the byte of the line at which it stands.
    pub(crate) fn offset(&self) -> usize {
        match self {
            Self::Quote { offset, .. }
            | Self::Backslash { offset }
            | Self::Operator { offset, .. }
            | Self::Template { offset, .. } => *offset,
        }
    }

    /// Returns what is wrong.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Quote { quote, .. } => format!("the quote {quote} is not closed"),
            Self::Backslash { .. } => "there is nothing after the last backslash".to_owned(),
            Self::Operator { operator, .. } => {
                format!("{operator:?} means something to a shell only")
            }
            Self::Template { error, .. } => error.to_string(),
        }
    }
}

/// Splits a line into words. Backslash, single and double quotes are those of sh(1); in single
/// quotes and after a backslash a dollar sign is only itself; `${NAME:-a b}` is never split.
pub(crate) fn split(line: &str) -> Result<Vec<Template>, WordsError> {
    let mut splitter = Splitter { line, position: 0, words: Vec::new() };
    loop {
        splitter.skip_blanks();
        if splitter.rest().is_empty() {
            return Ok(splitter.words);
        }
        splitter.word()?;
    }
}

struct Splitter<'l> {
    line: &'l str,
    position: usize,
    words: Vec<Template>,
}

impl<'l> Splitter<'l> {
    fn rest(&self) -> &'l str {
        &self.line[self.position..]
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.position += next.len_utf8();
        Some(next)
    }

    fn skip_blanks(&mut self) {
        self.position = self.line.len() - self.rest().trim_start_matches(is_blank).len();
    }

    fn word(&mut self) -> Result<(), WordsError> {
        let start = self.position;
        let mut word = Template::default();
        while let Some(letter) = self.rest().chars().next().filter(|letter| !is_blank(*letter)) {
            match letter {
                '\'' => self.single_quoted(&mut word)?,
                '"' => self.double_quoted(&mut word)?,
                '$' => self.dollar(&mut word)?,
                '\\' => {
                    let offset = self.position;
                    self.position += 1;
                    match self.next() {
                        // A backslash joins two lines, as in a shell.
                        Some('\n') => {}
                        Some(escaped) => push(&mut word, escaped),
                        None => return Err(WordsError::Backslash { offset }),
                    }
                }
                plain => {
                    self.position += plain.len_utf8();
                    push(&mut word, plain);
                }
            }
        }
        let written = &self.line[start..self.position];
        if OPERATORS.contains(&written) {
            return Err(WordsError::Operator { offset: start, operator: written.to_owned() });
        }
        // A joined line may leave nothing between blanks.
        if written != "\\\n" {
            self.words.push(word);
        }
        Ok(())
    }

    fn single_quoted(&mut self, word: &mut Template) -> Result<(), WordsError> {
        let offset = self.position;
        let inside = &self.rest()[1..];
        let end = inside.find('\'').ok_or(WordsError::Quote { offset, quote: '\'' })?;
        word.push_literal(&inside[..end]);
        self.position += end + 2;
        Ok(())
    }

    fn double_quoted(&mut self, word: &mut Template) -> Result<(), WordsError> {
        let offset = self.position;
        self.position += 1;
        loop {
            match self.rest().chars().next() {
                None => return Err(WordsError::Quote { offset, quote: '"' }),
                Some('"') => {
                    self.position += 1;
                    return Ok(());
                }
                Some('$') => self.dollar(word)?,
                Some('\\') => {
                    self.position += 1;
                    match self.next() {
                        Some('\n') => {}
                        Some(escaped @ ('"' | '\\' | '$' | '`')) => push(word, escaped),
                        // In double quotes a backslash before anything else is itself.
                        Some(other) => {
                            push(word, '\\');
                            push(word, other);
                        }
                        None => return Err(WordsError::Quote { offset, quote: '"' }),
                    }
                }
                Some(plain) => {
                    self.position += plain.len_utf8();
                    push(word, plain);
                }
            }
        }
    }

    /// Takes `$$`, `${...}` as a whole, or a dollar sign that is only itself.
    fn dollar(&mut self, word: &mut Template) -> Result<(), WordsError> {
        let offset = self.position;
        let rest = self.rest();
        let length = match rest.as_bytes().get(1) {
            Some(b'$') => 2,
            Some(b'{') => match rest.find('}') {
                Some(end) => end + 1,
                None => {
                    let error = TemplateError::Unclosed { offset };
                    return Err(WordsError::Template { offset, error });
                }
            },
            Some(_) | None => 1,
        };
        word.push_parsed(&rest[..length])
            .map_err(|error| WordsError::Template { offset, error })?;
        self.position += length;
        Ok(())
    }
}

fn push(word: &mut Template, letter: char) {
    word.push_literal(letter.encode_utf8(&mut [0; 4]));
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = split(line).unwrap();
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn blanks_separate_and_quotes_join() {
        assert_eq!(words("  a  b\tc\n"), ["a", "b", "c"]);
        assert_eq!(words(r#"a 'b c' "d e" f\ g"#), ["a", "b c", "d e", "f g"]);
        assert_eq!(words(r#"a'b'"c"d '' """#), ["abcd", "", ""]);
        assert_eq!(words("ä 'ö ü'"), ["ä", "ö ü"]);
        assert_eq!(words("a \\\n b \\\nc"), ["a", "b", "c"]);
        assert!(words("").is_empty());
        assert!(words(" \t").is_empty());
    }

    #[test]
    fn backslashes_follow_sh() {
        assert_eq!(words(r#"\"a\' \\"#), [r#""a'"#, r"\"]);
        assert_eq!(words(r#""\a \" \\ \`""#), [r#"\a " \ `"#]);
        assert_eq!(words(r"'\a'"), [r"\a"]);
    }

    #[test]
    fn variables_are_recognised_outside_single_quotes_only() {
        // A literal dollar sign is written twice where a template is shown.
        assert_eq!(
            words(r#"${A} "${B:-x y}" '${C}' \${D} $E $$ "\${F}""#),
            ["${A}", "${B:-x y}", "$${C}", "$${D}", "$$E", "$$", "$${F}"]
        );
        assert_eq!(
            words("/app/migrate --url ${DATABASE_URL:?set DATABASE_URL}"),
            ["/app/migrate", "--url", "${DATABASE_URL:?set DATABASE_URL}"]
        );
    }

    #[test]
    fn what_is_not_closed_says_where() {
        let quote = |offset, quote| Err(WordsError::Quote { offset, quote });
        assert_eq!(split("a 'b"), quote(2, '\''));
        assert_eq!(split("a b\"c"), quote(3, '"'));
        assert_eq!(split("\"a\\"), quote(0, '"'));
        assert_eq!(split("a \\"), Err(WordsError::Backslash { offset: 2 }));
        let error = split("é ${A").unwrap_err();
        assert_eq!(error.offset(), 3);
        assert_eq!(error.reason(), "\"${\" has no \"}\" (write \"$$\" for a dollar sign)");
        assert_eq!(split("a \"${A b}\"").unwrap_err().offset(), 3);
    }

    #[test]
    fn shell_operators_are_refused_unless_quoted() {
        for operator in OPERATORS {
            let error = split(&format!("a {operator} b")).unwrap_err();
            assert_eq!(error.offset(), 2, "{operator}");
        }
        assert_eq!(words("a '|' \">\" \\& 'a;' *"), ["a", "|", ">", "&", "a;", "*"]);
    }
}
