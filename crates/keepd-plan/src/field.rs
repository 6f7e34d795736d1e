//! One value of a file, and how it is read as what a key takes. Whatever does not fit is noted and
//! read as nothing, so that the next value gets its turn.

use std::fmt;
use std::time::Duration;

use keepd_model::{CommandLine, Origin, Signal, Template, TemplateError, nearest};
use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::{Collector, quoted};
use crate::document::Document;
use crate::duration::{bare_number_hint, parse_duration};
use crate::{foreign, schema, words};

/// Where a key stands, in the words of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'n> {
    /// The file itself.
    Top,
    /// `[keepd]`.
    Keepd,
    /// `[defaults]`.
    Defaults,
    /// A service.
    Service(&'n str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => formatter.write_str("at the top level"),
            Self::Keepd => formatter.write_str("in table \"keepd\""),
            Self::Defaults => formatter.write_str("in table \"defaults\""),
            Self::Service(name) => write!(formatter, "in service {}", quoted(name)),
        }
    }
}

/// A value as the parser gives it.
pub(crate) type Value<'d> = Spanned<DeValue<'d>>;

/// A key that was given, with its value.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'d> {
    pub(crate) document: &'d Document<'d>,
    /// The first byte of the key.
    pub(crate) key_start: usize,
    pub(crate) value: &'d Value<'d>,
    /// Which table it comes from: 0 is `[defaults]`, 1 the table itself, 2 and more what overrides
    /// it. Of two keys that exclude each other, the one of the higher rank is meant.
    pub(crate) rank: u32,
}

impl Entry<'_> {
    /// The rank of what stands in the table itself.
    pub(crate) const OWN: u32 = 1;

    /// Reports whether it comes from `[defaults]`, where what is wrong with it has been noted
    /// already.
    pub(crate) fn is_inherited(&self) -> bool {
        self.rank == 0
    }

    /// Returns the place of the key.
    pub(crate) fn key_origin(&self) -> Origin {
        self.document.origin(self.key_start)
    }

    /// Returns the place of the value.
    pub(crate) fn value_origin(&self) -> Origin {
        self.document.origin(self.value.span().start)
    }
}

/// A key that is being read.
pub(crate) struct Field<'f, 'd> {
    /// Its name in its table, with dots (`env.PORT`).
    pub(crate) key: &'f str,
    pub(crate) place: Place<'f>,
    pub(crate) entry: Entry<'d>,
    collector: &'f mut Collector,
    has_failed: bool,
}

impl<'f, 'd> Field<'f, 'd> {
    pub(crate) fn new(
        key: &'f str,
        place: Place<'f>,
        entry: Entry<'d>,
        collector: &'f mut Collector,
    ) -> Self {
        Self { key, place, entry, collector, has_failed: false }
    }

    /// Reports whether something was wrong with it.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Reads a key inside this one, which stands in another table.
    pub(crate) fn inside(
        &mut self,
        key: &str,
        entry: Entry<'d>,
        read: impl FnOnce(&mut Field<'_, 'd>),
    ) {
        let mut field = Field::new(key, self.place, entry, self.collector);
        read(&mut field);
        self.has_failed |= field.has_failed;
    }

    /// Notes any error about this key.
    pub(crate) fn error(&mut self, origin: Origin, message: String, hint: Option<String>) {
        self.has_failed = true;
        if !self.entry.is_inherited() {
            self.collector.error(Some(origin), message, hint);
        }
    }

    /// Notes that the whole value cannot be used.
    pub(crate) fn refuse(&mut self, reason: &str, hint: Option<String>) {
        self.refuse_part(self.entry.value, None, reason, hint);
    }

    /// Notes that this part of the value (or the byte at this offset of a string) cannot be used.
    pub(crate) fn refuse_part(
        &mut self,
        part: &Value<'_>,
        offset: Option<usize>,
        reason: &str,
        hint: Option<String>,
    ) {
        let document = self.entry.document;
        let origin = match offset {
            Some(offset) => document.origin_inside(part, offset),
            None => document.origin(part.span().start),
        };
        let shown = shown(part.get_ref());
        let (key, place) = (self.key, self.place);
        let message = format!("cannot use {shown} for {} {place}: {reason}", quoted(key));
        self.error(origin, message, hint);
    }

    /// Reads a string without NUL, which neither a file name nor an argument can hold.
    fn text_of(&mut self, part: &'d Value<'d>, takes: &str) -> Option<&'d str> {
        let Some(text) = part.get_ref().as_str() else {
            self.refuse_part(part, None, &format!("it takes {takes}"), None);
            return None;
        };
        if let Some(offset) = text.find('\0') {
            self.refuse_part(part, Some(offset), "it must not hold a NUL character", None);
            return None;
        }
        Some(text)
    }

    /// Reads a string.
    pub(crate) fn text(&mut self) -> Option<&'d str> {
        self.text_of(self.entry.value, "a string")
    }

    /// Reads a string for people: one line, no control characters.
    pub(crate) fn line(&mut self) -> Option<String> {
        let text = self.text()?;
        if let Some(offset) = text.find(char::is_control) {
            let reason = "it takes one line without control characters";
            self.refuse_part(self.entry.value, Some(offset), reason, None);
            return None;
        }
        Some(text.to_owned())
    }

    /// Reads an array of strings.
    pub(crate) fn texts(&mut self) -> Option<Vec<(&'d Value<'d>, &'d str)>> {
        let Some(items) = self.entry.value.get_ref().as_array() else {
            let hint = self.entry.value.get_ref().as_str();
            let hint = hint.map(|text| format!("write [{}]", quoted(text)));
            self.refuse("it takes an array of strings", hint);
            return None;
        };
        let read = |item| self.text_of(item, "strings").map(|text| (item, text));
        items.iter().map(read).collect()
    }

    /// Reads `true` or `false`.
    pub(crate) fn boolean(&mut self) -> Option<bool> {
        let found = self.entry.value.get_ref().as_bool();
        if found.is_none() {
            let hint = self.entry.value.get_ref().as_str();
            let hint = hint.and_then(|text| match text {
                "true" | "false" => Some(format!("write {text} without quotes")),
                _ => foreign::value(self.leaf(), text).map(|ours| format!("write {ours}")),
            });
            self.refuse("it takes true or false", hint);
        }
        found
    }

    /// Reads a number, whole or not, within these bounds.
    pub(crate) fn number(&mut self, least: f64, most: f64, takes: &str) -> Option<f64> {
        let number = match self.entry.value.get_ref() {
            DeValue::Integer(_) => integer(self.entry.value).map(|whole| whole as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let fits =
            number.filter(|number: &f64| number.is_finite() && (least..=most).contains(number));
        if fits.is_none() {
            self.refuse(&format!("it takes {takes}"), None);
        }
        fits
    }

    /// Reads a whole number within these bounds.
    pub(crate) fn whole(&mut self, least: u32, most: u32, takes: &str) -> Option<u32> {
        let number = integer(self.entry.value).and_then(|number| u32::try_from(number).ok());
        let fits = number.filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            let hint = self.entry.value.get_ref().as_str();
            let hint = hint
                .filter(|text| text.parse::<u32>().is_ok())
                .map(|text| format!("write {text} without quotes"));
            self.refuse(&format!("it takes {takes}"), hint);
        }
        fits
    }

    /// Reads a duration.
    pub(crate) fn duration(&mut self) -> Option<Duration> {
        match self.entry.value.get_ref() {
            DeValue::String(text) => match parse_duration(text) {
                Ok(duration) => Some(duration),
                Err(error) => {
                    self.refuse(&error.to_string(), error.hint());
                    None
                }
            },
            bare @ (DeValue::Integer(_) | DeValue::Float(_)) => {
                let hint = bare_number_hint(&shown(bare));
                self.refuse("a bare number has no unit", Some(hint));
                None
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.refuse("it takes a duration such as \"10s\"", None);
                None
            }
        }
    }

    /// Reads a duration longer than nothing: zero would make keepd spin.
    pub(crate) fn duration_above_zero(&mut self) -> Option<Duration> {
        let duration = self.duration()?;
        if duration.is_zero() {
            self.refuse("it must be longer than nothing", Some("the shortest is \"1ms\"".into()));
            return None;
        }
        Some(duration)
    }

    /// Returns the key without the name of a service in it, on which what it takes does not depend.
    fn leaf(&self) -> &'f str {
        match self.key.strip_prefix("depends_on.") {
            Some(edge) => edge.rsplit('.').next().unwrap_or(edge),
            None => self.key,
        }
    }

    /// Reads one of a few words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let key = self.leaf();
        let unbuilt = schema::unbuilt_values(key);
        let words = || all.iter().map(|value| word(*value));
        let found = match self.entry.value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Boolean(true) => "true",
            DeValue::Boolean(false) => "false",
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => "",
        };
        if self.entry.value.get_ref().is_str() {
            if let Some(value) = all.iter().find(|value| word(**value) == found) {
                return Some(*value);
            }
            if unbuilt.contains(&found) {
                self.refuse("it is not supported by this version", None);
                return None;
            }
        }
        let listed: Vec<String> = words().map(|word| format!("\"{word}\"")).collect();
        let ours = foreign::value(key, found)
            .or_else(|| nearest(&found.replace('_', "-").to_ascii_lowercase(), words()));
        let hint = ours.map(|ours| {
            let suffix = match unbuilt.contains(&ours) {
                true => ", which is not supported by this version",
                false => "",
            };
            format!("the word is \"{ours}\"{suffix}")
        });
        self.refuse(&format!("it takes one of {}", listed.join(", ")), hint);
        None
    }

    /// Reads a signal, by name or number.
    pub(crate) fn signal(&mut self) -> Option<Signal> {
        let value = self.entry.value;
        let signal = match value.get_ref() {
            DeValue::Integer(_) => {
                integer(value).and_then(|number| u8::try_from(number).ok()).and_then(Signal::new)
            }
            DeValue::String(text) => Signal::parse(text).ok(),
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        if signal.is_none() {
            self.refuse_signal(value);
        }
        signal
    }

    /// Notes that this is no signal.
    pub(crate) fn refuse_signal(&mut self, part: &Value<'_>) {
        let hint = part.get_ref().as_str().and_then(|text| {
            let upper = text.to_ascii_uppercase();
            let name = upper.strip_prefix("SIG").unwrap_or(&upper);
            let ours = nearest(name, Signal::names())?;
            Some(format!("the nearest signal is \"{ours}\""))
        });
        let reason = "it takes a signal such as \"TERM\", or its number";
        self.refuse_part(part, None, reason, hint);
    }

    /// Reads text with variables.
    pub(crate) fn template(&mut self) -> Option<Template> {
        let text = self.text()?;
        self.template_of(self.entry.value, text)
    }

    fn template_of(&mut self, part: &Value<'_>, text: &str) -> Option<Template> {
        match Template::parse(text) {
            Ok(template) => Some(template),
            Err(error) => {
                let offset = match error {
                    TemplateError::Unclosed { offset } | TemplateError::Name { offset, .. } => {
                        offset
                    }
                    TemplateError::Unset { .. } => 0,
                };
                self.refuse_part(part, Some(offset), &error.to_string(), None);
                None
            }
        }
    }

    /// Reads a path, relative to the folder of the file.
    pub(crate) fn path(&mut self) -> Option<Template> {
        let text = self.text()?;
        self.path_of(self.entry.value, text)
    }

    /// Reads this text of this part of the value as a path.
    pub(crate) fn path_of(&mut self, part: &Value<'_>, text: &str) -> Option<Template> {
        if text.is_empty() {
            self.refuse_part(part, None, "a path must not be empty", None);
            return None;
        }
        if text == "~" || text.starts_with("~/") {
            let hint = format!("write {}", quoted(&text.replacen('~', "${HOME}", 1)));
            self.refuse_part(part, None, "\"~\" means something to a shell only", Some(hint));
            return None;
        }
        let template = self.template_of(part, text)?;
        if text.starts_with('/') || text.starts_with("${") {
            return Some(template);
        }
        let directory = self.entry.document.source.directory.trim_end_matches('/');
        let mut absolute = Template::literal(directory);
        match text.strip_prefix("./").unwrap_or(text) {
            "" | "." => {
                if directory.is_empty() {
                    absolute.push_literal("/");
                }
            }
            relative => {
                absolute.push_literal("/");
                absolute.push_parsed(relative).ok()?;
            }
        }
        Some(absolute)
    }

    /// Reads a path of keepd's own, in which nothing is filled in.
    pub(crate) fn literal_path(&mut self) -> Option<String> {
        let path = self.path()?;
        let Some(literal) = path.as_literal() else {
            self.refuse("no variable is filled in here", None);
            return None;
        };
        Some(literal.to_owned())
    }

    /// Reads a command: a string that is split into words, or an array of words.
    pub(crate) fn command(&mut self) -> Option<CommandLine> {
        let value = self.entry.value;
        let words = match value.get_ref() {
            DeValue::String(_) => {
                let line = self.text()?;
                self.split(line)?
            }
            DeValue::Array(items) => {
                let mut words = Vec::with_capacity(items.len());
                for item in items.iter() {
                    let text = self.text_of(item, "strings");
                    words.push(text.and_then(|text| self.template_of(item, text)));
                }
                words.into_iter().collect::<Option<Vec<_>>>()?
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => {
                self.refuse("it takes a string or an array of strings", None);
                return None;
            }
        };
        let program = words.first();
        if program.is_none_or(|word| word.as_literal() == Some("")) {
            self.refuse("it names no program", None);
            return None;
        }
        Some(CommandLine::Words(words))
    }

    fn split(&mut self, line: &str) -> Option<Vec<Template>> {
        match words::split(line) {
            Ok(words) => Some(words),
            Err(error) => {
                let hint = match (&error, self.key) {
                    (words::WordsError::Operator { .. }, "command") => {
                        Some("add shell = true to hand the command to /bin/sh".to_owned())
                    }
                    (words::WordsError::Operator { .. }, _) => {
                        Some("write [\"/bin/sh\", \"-c\", \"...\"]".to_owned())
                    }
                    (
                        words::WordsError::Quote { .. }
                        | words::WordsError::Backslash { .. }
                        | words::WordsError::Template { .. },
                        _,
                    ) => None,
                };
                let offset = Some(error.offset());
                self.refuse_part(self.entry.value, offset, &error.reason(), hint);
                None
            }
        }
    }
}

/// Puts a value that could be read into its place.
pub(crate) fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

/// Returns the value as a whole number if it is one that fits.
pub(crate) fn integer(value: &Value<'_>) -> Option<i64> {
    let integer = value.get_ref().as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Returns a value in the words of a message.
pub(crate) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(integer) => integer.to_string().chars().take(40).collect(),
        DeValue::Float(float) => float.as_str().chars().take(40).collect(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
