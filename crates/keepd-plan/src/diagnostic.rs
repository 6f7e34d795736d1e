//! What is wrong with a file, and where.

use std::collections::BTreeMap;
use std::fmt;

use keepd_model::Origin;

/// The most errors of one load that are kept; the rest is counted.
pub(crate) const DIAGNOSTICS_MAX: usize = 1_000;

/// The most errors that are kept for one service when the others are to be salvaged.
const DIAGNOSTICS_OF_SERVICE_MAX: usize = 10;

/// From this many errors on, hints that cost a search through all services are left out.
const CROWD: usize = 50;

/// The most characters of a user's text that a message repeats.
const QUOTED_CHARS_MAX: usize = 80;

/// One error or warning about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The place of the offending key or value; `None` where no single place is at fault.
    pub origin: Option<Origin>,
    /// What cannot be done, on what, and why: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Writes `FILE:LINE:COL: MESSAGE`, and the hint on an indented line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(formatter, "{origin}: ")?;
        }
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Everything found wrong so far: errors, which refuse the plan, and warnings, which do not.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// The service whose table is being looked at, if it is one.
    about: Option<String>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    dropped: usize,
    /// An error is about more than single services.
    is_general: bool,
    /// The first errors of every service that has one, whether or not they are in `errors`.
    of_services: BTreeMap<String, Vec<Diagnostic>>,
}

/// What is left of files with errors that concern single services only.
#[derive(Debug)]
pub(crate) struct Salvage {
    /// By file, line and column.
    pub(crate) warnings: Vec<Diagnostic>,
    /// The services that cannot be used, by name, each with at least one error.
    pub(crate) broken: BTreeMap<String, Vec<Diagnostic>>,
}

impl Collector {
    /// Says which service the next errors are about; none: everything.
    pub(crate) fn about(&mut self, service: Option<&str>) {
        self.about = service.map(str::to_owned);
    }

    /// Notes an error.
    pub(crate) fn error(&mut self, origin: Option<Origin>, message: String, hint: Option<String>) {
        let diagnostic = Diagnostic { origin, message, hint };
        match self.about.take() {
            Some(service) => {
                self.note_broken(&service, &diagnostic);
                self.about = Some(service);
            }
            None => self.is_general = true,
        }
        self.push(diagnostic);
    }

    /// Notes one error about several services.
    pub(crate) fn error_of<'s>(
        &mut self,
        services: impl IntoIterator<Item = &'s str>,
        diagnostic: Diagnostic,
    ) {
        for service in services {
            self.note_broken(service, &diagnostic);
        }
        self.push(diagnostic);
    }

    /// Notes why a service cannot be used that would be in order if another error were not. Only
    /// salvaging asks for it: where all is refused, the other error says enough.
    pub(crate) fn consequence(&mut self, service: &str, origin: Origin, message: String) {
        let diagnostic = Diagnostic { origin: Some(origin), message, hint: None };
        self.note_broken(service, &diagnostic);
    }

    /// Reports whether a service has an error.
    pub(crate) fn is_broken(&self, service: &str) -> bool {
        self.of_services.contains_key(service)
    }

    /// Notes a warning.
    pub(crate) fn warning(&mut self, origin: Option<Origin>, message: &str, hint: &str) {
        self.warnings.push(Diagnostic {
            origin,
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        });
    }

    /// Reports whether there are so many errors that a costly hint is not worth its time.
    pub(crate) fn is_crowded(&self) -> bool {
        self.errors.len() >= CROWD
    }

    /// Reports whether further errors are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= DIAGNOSTICS_MAX
    }

    /// Returns the warnings, or the errors if there is one; both by file, line and column.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        sort(&mut self.errors);
        sort(&mut self.warnings);
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        if self.dropped > 0 {
            self.errors.push(Diagnostic {
                origin: None,
                message: format!("cannot show {} more errors", self.dropped),
                hint: Some("correct the errors above first".to_owned()),
            });
        }
        Err(self.errors)
    }

    /// Returns which services cannot be used, or every error if one is not about services alone.
    pub(crate) fn salvage(mut self) -> Result<Salvage, Vec<Diagnostic>> {
        if self.is_general {
            return self.finish().map(|warnings| Salvage { warnings, broken: BTreeMap::new() });
        }
        sort(&mut self.warnings);
        let mut broken = self.of_services;
        for errors in broken.values_mut() {
            sort(errors);
        }
        Ok(Salvage { warnings: self.warnings, broken })
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.dropped += 1;
        } else {
            self.errors.push(diagnostic);
        }
    }

    fn note_broken(&mut self, service: &str, diagnostic: &Diagnostic) {
        let errors = self.of_services.entry(service.to_owned()).or_default();
        if errors.len() < DIAGNOSTICS_OF_SERVICE_MAX {
            errors.push(diagnostic.clone());
        }
    }
}

/// Sorts by place, those without a place last, and drops what is said twice.
pub(crate) fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|left, right| {
        let key =
            |diagnostic: &Diagnostic| (diagnostic.origin.is_none(), diagnostic.origin.clone());
        key(left).cmp(&key(right)).then_with(|| left.message.cmp(&right.message))
    });
    diagnostics.dedup();
}

/// Returns a user's text in quotes, without control characters and cut to a bearable length.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(line: u32, column: u32) -> Option<Origin> {
        Some(Origin { file: "keepd.toml".into(), line, column })
    }

    #[test]
    fn display_is_file_line_column_message_and_hint() {
        let mut diagnostic = Diagnostic {
            origin: origin(9, 1),
            message: "cannot use key \"depends-on\" in service \"web\"".into(),
            hint: Some("the key is \"depends_on\"".into()),
        };
        assert_eq!(
            diagnostic.to_string(),
            "keepd.toml:9:1: cannot use key \"depends-on\" in service \"web\"\n  hint: the key is \
             \"depends_on\""
        );
        diagnostic.origin = None;
        diagnostic.hint = None;
        assert_eq!(diagnostic.to_string(), "cannot use key \"depends-on\" in service \"web\"");
    }

    #[test]
    fn errors_are_sorted_by_place_and_said_once() {
        let mut collector = Collector::default();
        collector.error(None, "c".into(), None);
        collector.error(origin(10, 1), "b".into(), None);
        collector.error(origin(9, 2), "a".into(), None);
        collector.error(origin(10, 1), "b".into(), None);
        let messages: Vec<_> = collector
            .finish()
            .unwrap_err()
            .into_iter()
            .map(|diagnostic| diagnostic.message)
            .collect();
        assert_eq!(messages, ["a", "b", "c"]);
    }

    #[test]
    fn what_is_beyond_the_limit_is_counted() {
        let mut collector = Collector::default();
        for line in 0..1_005 {
            collector.error(origin(line, 1), "x".into(), None);
        }
        let errors = collector.finish().unwrap_err();
        assert_eq!(errors.len(), 1_001);
        assert_eq!(errors[1_000].message, "cannot show 5 more errors");
    }

    #[test]
    fn every_service_with_an_error_is_known_beyond_the_limit() {
        let mut collector = Collector::default();
        for line in 0..1_005 {
            collector.about(Some(&format!("s{line}")));
            collector.error(origin(line, 1), "x".into(), None);
        }
        collector.about(None);
        collector.consequence("late", origin(1, 1).unwrap(), "y".into());
        assert!(collector.is_broken("s1004"));
        let salvage = collector.salvage().unwrap();
        assert_eq!(salvage.broken.len(), 1_006);
    }

    #[test]
    fn one_general_error_leaves_nothing_to_salvage() {
        let mut collector = Collector::default();
        collector.about(Some("web"));
        collector.error(origin(2, 1), "b".into(), None);
        collector.about(None);
        collector.error(origin(1, 1), "a".into(), None);
        assert_eq!(collector.salvage().unwrap_err().len(), 2);
    }

    #[test]
    fn quoted_text_is_cut_and_free_of_control_characters() {
        assert_eq!(quoted("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        assert_eq!(quoted(&"é".repeat(81)), format!("\"{}\"...", "é".repeat(80)));
    }
}
