//! Files of variables (`env_file`).
//!
//! One `NAME=value` a line. Blank lines and lines that begin with `#` are skipped; `export ` before
//! a name is allowed, because such files are shared with shells. A value without quotes ends at the
//! line's end or at a `#` after white space. Between single quotes everything stands for itself;
//! between double quotes `\n`, `\t`, `\"`, `\\` and `\$` are escapes. Quoted values may go over
//! several lines. Nothing is substituted.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file of variables.
const ENV_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Variables in the order of the file.
pub(crate) type Variables = Vec<(String, Vec<u8>)>;

/// Why a file of variables cannot be used. Written as one clause: `"/etc/web.env":3: …`.
#[derive(Debug)]
pub(crate) enum EnvFileError {
    /// It cannot be read.
    Read { path: PathBuf, source: io::Error },
    /// It has more than 1 MiB.
    TooLong { path: PathBuf },
    /// A line cannot be understood.
    Line { path: PathBuf, line: usize, problem: Problem },
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// There is no `=`.
    NoValue,
    /// What stands before the `=` is no name.
    Name(String),
    /// A quote is never closed.
    Unclosed,
    /// Something follows a closing quote.
    AfterQuote,
    /// The value holds a NUL byte, which no environment can.
    Nul,
}

impl fmt::Display for EnvFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
                write!(formatter, "env_file \"{}\" not found", path.display())
            }
            Self::Read { path, source } => {
                write!(formatter, "cannot read env_file \"{}\": {source}", path.display())
            }
            Self::TooLong { path } => write!(
                formatter,
                "cannot read env_file \"{}\": it has more than {ENV_FILE_BYTES_MAX} bytes",
                path.display()
            ),
            Self::Line { path, line, problem } => {
                write!(formatter, "{}:{line}: {problem}", path.display())
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue => write!(formatter, "line has no \"=\""),
            Self::Name(name) => write!(formatter, "\"{name}\" is no variable name"),
            Self::Unclosed => write!(formatter, "quote is not closed"),
            Self::AfterQuote => write!(formatter, "text follows the closing quote"),
            Self::Nul => write!(formatter, "value holds a NUL byte"),
        }
    }
}

/// Reads a file of variables.
pub(crate) fn read(path: &Path) -> Result<Variables, EnvFileError> {
    let mut content = Vec::new();
    let bytes_max = u64::try_from(ENV_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(bytes_max.saturating_add(1)).read_to_end(&mut content))
        .map_err(|source| EnvFileError::Read { path: path.to_owned(), source })?;
    if content.len() > ENV_FILE_BYTES_MAX {
        return Err(EnvFileError::TooLong { path: path.to_owned() });
    }
    parse(&content).map_err(|(line, problem)| EnvFileError::Line {
        path: path.to_owned(),
        line,
        problem,
    })
}

/// Returns the variables, or the number of the first bad line and what is wrong with it.
fn parse(content: &[u8]) -> Result<Variables, (usize, Problem)> {
    let mut variables = Variables::new();
    let mut rest = content;
    let mut line = 1;
    while !rest.is_empty() {
        let entry = rest;
        let text = first_line(entry).trim_ascii_start();
        if text.is_empty() || text.starts_with(b"#") {
            rest = after_line(entry);
            line += 1;
            continue;
        }
        let failed = |problem| (line, problem);
        let equals = first_line(entry).iter().position(|byte| *byte == b'=');
        let equals = equals.ok_or_else(|| failed(Problem::NoValue))?;
        let name = variable_name(&entry[..equals]).map_err(failed)?;
        let (value, used) = value(&entry[equals + 1..]).map_err(failed)?;
        if value.contains(&0) {
            return Err(failed(Problem::Nul));
        }
        variables.push((name, value));
        let end = equals + 1 + used;
        line += entry[..end].iter().filter(|byte| **byte == b'\n').count();
        rest = &entry[end..];
    }
    Ok(variables)
}

/// Returns the name before an equals sign.
fn variable_name(text: &[u8]) -> Result<String, Problem> {
    let text = text.trim_ascii();
    let name = text.strip_prefix(b"export ").unwrap_or(text).trim_ascii_start();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.is_empty() || name[0].is_ascii_digit() || !name.iter().all(fits) {
        return Err(Problem::Name(String::from_utf8_lossy(name).into_owned()));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Returns the value that `text` begins with, and how many bytes of `text` it and its line feed
/// take.
fn value(text: &[u8]) -> Result<(Vec<u8>, usize), Problem> {
    let line = first_line(text);
    let start = line.len() - line.trim_ascii_start().len();
    match line.get(start) {
        Some(b'\'') => quoted(text, start + 1, b'\''),
        Some(b'"') => quoted(text, start + 1, b'"'),
        Some(_) | None => {
            let end = (start..line.len())
                .find(|at| line[*at] == b'#' && (*at == 0 || line[at - 1].is_ascii_whitespace()))
                .unwrap_or(line.len());
            Ok((line[start..end].trim_ascii_end().to_vec(), text.len() - after_line(text).len()))
        }
    }
}

/// Returns a value whose opening quote stands just before `start`.
fn quoted(text: &[u8], start: usize, quote: u8) -> Result<(Vec<u8>, usize), Problem> {
    let mut value = Vec::new();
    let mut at = start;
    loop {
        let byte = *text.get(at).ok_or(Problem::Unclosed)?;
        at += 1;
        if byte == quote {
            break;
        }
        if byte != b'\\' || quote == b'\'' {
            value.push(byte);
            continue;
        }
        match text.get(at) {
            Some(b'n') => value.push(b'\n'),
            Some(b't') => value.push(b'\t'),
            Some(escaped @ (b'"' | b'\\' | b'$')) => value.push(*escaped),
            Some(other) => value.extend([b'\\', *other]),
            None => return Err(Problem::Unclosed),
        }
        at += 1;
    }
    let rest = first_line(&text[at..]).trim_ascii();
    if !rest.is_empty() && !rest.starts_with(b"#") {
        return Err(Problem::AfterQuote);
    }
    Ok((value, text.len() - after_line(&text[at..]).len()))
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

fn after_line(text: &[u8]) -> &[u8] {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(end) => &text[end + 1..],
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let text_of = |value| String::from_utf8(value).unwrap();
        let variables = parse(text.as_bytes()).unwrap();
        variables.into_iter().map(|(name, value)| (name, text_of(value))).collect()
    }

    fn one(text: &str) -> String {
        let mut found = parsed(text);
        assert_eq!(found.len(), 1, "{text:?}");
        assert_eq!(found[0].0, "A");
        found.remove(0).1
    }

    #[test]
    fn values_without_quotes_end_at_the_line_or_a_comment() {
        assert_eq!(one("A=b"), "b");
        assert_eq!(one(" A = b c \r\n"), "b c");
        assert_eq!(one("export A=b"), "b");
        assert_eq!(one("A="), "");
        assert_eq!(one("A=b # comment"), "b");
        assert_eq!(one("A=# comment"), "");
        assert_eq!(one("A=b#c=d"), "b#c=d");
        assert_eq!(one("A=$HOME ${X} \\n 'q'"), "$HOME ${X} \\n 'q'");
    }

    #[test]
    fn quotes_keep_what_is_between_them() {
        assert_eq!(one("A=' b # c '"), " b # c ");
        assert_eq!(one(r"A='b\n'"), r"b\n");
        assert_eq!(one(r#"A="b\n\t\"\\\$ \x" # comment"#), "b\n\t\"\\$ \\x");
        assert_eq!(one("A='b\nc'\n"), "b\nc");
    }

    #[test]
    fn lines_are_kept_in_order_and_comments_skipped() {
        let text = "# first\n\nA=1\n  # second\nB.c-d='2\n3'\n\nA=4";
        let pairs = [("A", "1"), ("B.c-d", "2\n3"), ("A", "4")];
        let expected: Vec<_> =
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(parsed(text), expected);
    }

    #[test]
    fn bad_lines_are_numbered() {
        let fails = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert_eq!(fails("A=1\nnonsense\n"), (2, Problem::NoValue));
        assert_eq!(fails("\n=1"), (2, Problem::Name(String::new())));
        assert_eq!(fails("a b=1"), (1, Problem::Name("a b".into())));
        assert_eq!(fails("1A=1"), (1, Problem::Name("1A".into())));
        assert_eq!(fails("A='1\n2'\nB=\"x"), (3, Problem::Unclosed));
        assert_eq!(fails("A=\"x\\"), (1, Problem::Unclosed));
        assert_eq!(fails("A='x'y"), (1, Problem::AfterQuote));
        assert_eq!(fails("A=\0"), (1, Problem::Nul));
    }

    #[test]
    fn errors_name_the_file() {
        let scratch = Scratch::new();
        let bad = scratch.write("web.env", "A=1\nB");
        let error = read(&bad).unwrap_err();
        assert_eq!(error.to_string(), format!("{}:2: line has no \"=\"", bad.display()));
        let gone = scratch.path().join("gone.env");
        let error = read(&gone).unwrap_err();
        assert_eq!(error.to_string(), format!("env_file \"{}\" not found", gone.display()));
        let long = scratch.write("long.env", &"#".repeat(ENV_FILE_BYTES_MAX + 1));
        assert!(matches!(read(&long), Err(EnvFileError::TooLong { .. })));
    }
}
