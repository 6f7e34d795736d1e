//! Text with `${NAME}` in it, split once when the file is read and filled in at each start.

use std::fmt;

/// Text with variables: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`; `$$` is a dollar sign;
/// `$NAME` without braces is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Content);

/// Nearly every text holds no variable, and there is one for each word of each command: such a text
/// is nothing more than itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Literal(String),
    /// At least one of them is a variable, and no two literals follow one another.
    Pieces(Box<[Piece]>),
}

impl Default for Template {
    fn default() -> Self {
        Self(Content::Literal(String::new()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Variable { name: String, absent: Absent },
}

/// What stands for a variable that is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Absent {
    Error,
    Default(String),
    Message(String),
}

/// Why a template cannot be read or filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// `${` without a `}`; the offset is that of the `$`, in bytes.
    Unclosed {
        /// Offset in bytes.
        offset: usize,
    },
    /// The name between the braces is empty or holds other characters than letters, digits, `_`,
    /// `.`.
    Name {
        /// Offset of the `$` in bytes.
        offset: usize,
        /// The text between the braces.
        found: String,
    },
    /// The variable is not set and has no default.
    Unset {
        /// Its name.
        name: String,
        /// The author's message (`${NAME:?message}`).
        message: Option<String>,
    },
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed { .. } => {
                write!(formatter, "\"${{\" has no \"}}\" (write \"$$\" for a dollar sign)")
            }
            Self::Name { found, .. } => {
                write!(
                    formatter,
                    "\"${{{found}}}\" holds no variable name (write \"$$\" for a dollar sign)"
                )
            }
            Self::Unset { name, message: Some(message) } => {
                write!(formatter, "variable \"{name}\" is not set: {message}")
            }
            Self::Unset { name, message: None } => {
                write!(formatter, "variable \"{name}\" is not set and has no default")
            }
        }
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Returns a template that is just this text, dollar signs included.
    pub fn literal(text: &str) -> Self {
        let mut template = Self::default();
        template.push_literal(text);
        template
    }

    /// Splits `text` into literals and variables.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self::default();
        template.push_parsed(text)?;
        Ok(template)
    }

    /// Appends text as it is.
    pub fn push_literal(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match &mut self.0 {
            Content::Literal(literal) => literal.push_str(text),
            Content::Pieces(pieces) => match pieces.last_mut() {
                Some(Piece::Literal(last)) => last.push_str(text),
                Some(Piece::Variable { .. }) | None => {
                    push(pieces, Piece::Literal(text.to_owned()));
                }
            },
        }
    }

    fn push_variable(&mut self, variable: Piece) {
        match &mut self.0 {
            Content::Literal(literal) => {
                let literal = std::mem::take(literal);
                let first = (!literal.is_empty()).then_some(Piece::Literal(literal));
                self.0 = Content::Pieces(first.into_iter().chain([variable]).collect());
            }
            Content::Pieces(pieces) => push(pieces, variable),
        }
    }

    /// Appends text in which variables are recognised.
    pub fn push_parsed(&mut self, text: &str) -> Result<(), TemplateError> {
        let mut rest = 0;
        while let Some(found) = text[rest..].find('$') {
            let dollar = rest + found;
            self.push_literal(&text[rest..dollar]);
            let after = &text[dollar + 1..];
            if after.starts_with('$') {
                self.push_literal("$");
                rest = dollar + 2;
            } else if let Some(inside) = after.strip_prefix('{') {
                let end = inside.find('}').ok_or(TemplateError::Unclosed { offset: dollar })?;
                self.push_variable(variable(&inside[..end], dollar)?);
                rest = dollar + 2 + end + 1;
            } else {
                self.push_literal("$");
                rest = dollar + 1;
            }
        }
        self.push_literal(&text[rest..]);
        Ok(())
    }

    /// Returns the text with every variable replaced by what `lookup` says.
    pub fn expand(&self, lookup: impl Fn(&str) -> Option<String>) -> Result<String, TemplateError> {
        let pieces = match &self.0 {
            Content::Literal(literal) => return Ok(literal.clone()),
            Content::Pieces(pieces) => pieces,
        };
        let mut text = String::new();
        for piece in pieces.iter() {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Variable { name, absent } => match (lookup(name), absent) {
                    (Some(value), _) => text.push_str(&value),
                    (None, Absent::Default(default)) => text.push_str(default),
                    (None, Absent::Message(message)) => {
                        let message = Some(message.clone());
                        return Err(TemplateError::Unset { name: name.clone(), message });
                    }
                    (None, Absent::Error) => {
                        return Err(TemplateError::Unset { name: name.clone(), message: None });
                    }
                },
            }
        }
        Ok(text)
    }

    /// Returns the text if it holds no variable.
    pub fn as_literal(&self) -> Option<&str> {
        match &self.0 {
            Content::Literal(text) => Some(text),
            Content::Pieces(_) => None,
        }
    }
}

/// Writes the template as it would be written in a file.
impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let literal = |text: &str| text.replace('$', "$$");
        let pieces = match &self.0 {
            Content::Literal(text) => return formatter.write_str(&literal(text)),
            Content::Pieces(pieces) => pieces,
        };
        for piece in pieces.iter() {
            match piece {
                Piece::Literal(text) => formatter.write_str(&literal(text))?,
                Piece::Variable { name, absent } => match absent {
                    Absent::Error => write!(formatter, "${{{name}}}")?,
                    Absent::Default(default) => write!(formatter, "${{{name}:-{default}}}")?,
                    Absent::Message(message) => write!(formatter, "${{{name}:?{message}}}")?,
                },
            }
        }
        Ok(())
    }
}

fn push(pieces: &mut Box<[Piece]>, piece: Piece) {
    let mut list = std::mem::take(pieces).into_vec();
    list.push(piece);
    *pieces = list.into_boxed_slice();
}

fn variable(inside: &str, offset: usize) -> Result<Piece, TemplateError> {
    let (name, absent) = match inside.split_once(':') {
        Some((name, rest)) if rest.starts_with('-') => {
            (name, Absent::Default(rest[1..].to_owned()))
        }
        Some((name, rest)) if rest.starts_with('?') => {
            (name, Absent::Message(rest[1..].to_owned()))
        }
        Some(_) | None => (inside, Absent::Error),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    if name.is_empty() || !name.bytes().all(fits) {
        return Err(TemplateError::Name { offset, found: inside.to_owned() });
    }
    Ok(Piece::Variable { name: name.to_owned(), absent })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "PORT").then(|| "80".to_owned())
    }

    #[test]
    fn variables_defaults_messages_and_dollars() {
        let expand = |text: &str| Template::parse(text).unwrap().expand(lookup);
        assert_eq!(expand("a ${PORT} b"), Ok("a 80 b".into()));
        assert_eq!(expand("${NO:-x y}"), Ok("x y".into()));
        assert_eq!(expand("$$ $PORT $"), Ok("$ $PORT $".into()));
        let unset = |message: Option<&str>| TemplateError::Unset {
            name: "NO".into(),
            message: message.map(str::to_owned),
        };
        assert_eq!(expand("${NO:?set it}"), Err(unset(Some("set it"))));
        assert_eq!(expand("${NO}"), Err(unset(None)));
    }

    #[test]
    fn malformed_text_says_where() {
        assert_eq!(Template::parse("ab${X"), Err(TemplateError::Unclosed { offset: 2 }));
        for bad in ["${}", "${a b}", "${A:+x}"] {
            assert!(matches!(Template::parse(bad), Err(TemplateError::Name { offset: 0, .. })));
        }
    }

    #[test]
    fn what_is_pushed_piece_by_piece_is_what_is_parsed_as_a_whole() {
        for parts in [&["a", "b"][..], &["${A}", "b", "c"], &["a", "", "${A}${B}", "$$"], &[]] {
            let mut template = Template::default();
            for part in parts {
                template.push_parsed(part).unwrap();
            }
            assert_eq!(template, Template::parse(&parts.concat()).unwrap(), "{parts:?}");
        }
        assert_eq!(Template::parse("a$$").unwrap().as_literal(), Some("a$"));
        assert_eq!(Template::parse("${A}").unwrap().as_literal(), None);
    }

    #[test]
    fn display_is_the_file_form() {
        for text in ["a ${PORT} $$", "${NO:-x}", "${NO:?m}"] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
    }
}
