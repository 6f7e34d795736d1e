//! The part of a URL after the question mark.

use std::time::Duration;

use jiff::Timestamp;
use keepd_model::is_pattern;

use super::problem::Failure;

/// The most selectors of one request that are no names.
const PATTERNS_MAX: usize = 100;

/// How long a waiter waits if it does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// The longest wait; who wants more asks again.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// The parameters of a request. Unknown ones are refused, so that a typing error is never ignored.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query; `known` are the names that may occur.
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Failure> {
        let mut found = Vec::new();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                let failure = Failure::usage(format!("cannot use query parameter \"{name}\""));
                return Err(match known {
                    [] => failure,
                    known => failure.with_hint(&format!("known here: {}", known.join(", "))),
                });
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// Returns the last value of a parameter.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns how long to wait at most (`timeout`).
    pub(crate) fn wait_limit(&self) -> Result<Duration, Failure> {
        let Some(text) = self.last("timeout") else {
            return Ok(WAIT_DEFAULT);
        };
        let limit = keepd_plan::parse_duration(text)
            .map_err(|error| Failure::usage(format!("cannot use timeout \"{text}\": {error}")))?;
        Ok(limit.min(WAIT_MAX))
    }

    /// Returns a time (RFC 3339) in nanoseconds since 1970.
    pub(crate) fn wall_ns(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(text) = self.last(name) else {
            return Ok(None);
        };
        let time: Timestamp = text.parse().map_err(|_| {
            Failure::usage(format!("cannot use {name} \"{text}\""))
                .with_hint("give a time such as 2026-11-21T07:02:55Z")
        })?;
        // Nothing was written before 1970, nor later than numbers reach.
        Ok(Some(u64::try_from(time.as_nanosecond().max(0)).unwrap_or(u64::MAX)))
    }

    /// Returns a parameter that is `true` or `false`.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Failure> {
        match self.last(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => {
                let detail = format!("cannot use {name} \"{other}\": it is true or false");
                Err(Failure::usage(detail))
            }
        }
    }

    /// Returns the selectors of a request.
    ///
    /// # Errors
    /// There are more than could be answered at once.
    pub(crate) fn selectors(&self) -> Result<Vec<String>, Failure> {
        let selectors = self.every("select");
        check_selectors(&selectors)?;
        Ok(selectors)
    }

    /// Returns every value of a parameter.
    fn every(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| value.clone()).collect()
    }
}

/// Refuses so many patterns that everybody else would have to wait until each was held against
/// every service.
pub(crate) fn check_selectors(selectors: &[String]) -> Result<(), Failure> {
    let patterns = selectors.iter().filter(|selector| is_pattern(selector)).count();
    if patterns <= PATTERNS_MAX {
        return Ok(());
    }
    let detail =
        format!("cannot use {patterns} patterns in one request: the limit is {PATTERNS_MAX}");
    Err(Failure::usage(detail).with_hint("name services, or ask several times"))
}

/// Returns text with `+` and `%XX` resolved.
fn decode(text: &str) -> Result<String, Failure> {
    let bad = || Failure::usage(format!("cannot read \"{text}\" in the query"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
                u8::try_from(high * 16 + low).map_err(|_| bad())?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_kept_in_order() {
        let query = "select=web%2A&timeout=1s&select=tag%3Aa+b&timeout=2s&";
        let found = Parameters::parse(Some(query), &["select", "timeout"]).unwrap();
        assert_eq!(found.selectors().unwrap(), ["web*", "tag:a b"]);
        assert_eq!(found.last("timeout"), Some("2s"));
        assert_eq!(found.last("gone"), None);
    }

    #[test]
    fn limits_and_flags_are_read() {
        let parse = |query| Parameters::parse(Some(query), &["timeout", "follow"]).unwrap();
        assert_eq!(parse("").wait_limit(), Ok(Duration::from_secs(30)));
        assert_eq!(parse("timeout=5s").wait_limit(), Ok(Duration::from_secs(5)));
        assert_eq!(parse("timeout=7d").wait_limit(), Ok(WAIT_MAX));
        assert!(parse("timeout=5").wait_limit().is_err());
        assert_eq!(parse("").flag("follow", true), Ok(true));
        assert_eq!(parse("follow=false").flag("follow", true), Ok(false));
        assert!(parse("follow=no").flag("follow", true).is_err());
    }

    #[test]
    fn times_are_read() {
        let parse = |query| Parameters::parse(Some(query), &["since"]).unwrap().wall_ns("since");
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("since=1970-01-01T00:00:01.5Z"), Ok(Some(1_500_000_000)));
        assert_eq!(parse("since=1900-01-01T00:00:00Z"), Ok(Some(0)));
        assert_eq!(parse("since=1970-01-01T01:00:00%2B01:00"), Ok(Some(0)));
        assert!(parse("since=10m").is_err());
    }

    #[test]
    fn what_is_unknown_or_broken_is_refused() {
        let refused = |query| {
            Parameters::parse(Some(query), &["select"]).unwrap_err().problem().detail.clone()
        };
        assert_eq!(refused("selct=web"), "cannot use query parameter \"selct\"");
        assert_eq!(refused("select=%2"), "cannot read \"%2\" in the query");
        assert_eq!(refused("select=%zz"), "cannot read \"%zz\" in the query");
        assert_eq!(refused("select=%ff"), "cannot read \"%ff\" in the query");
        assert!(Parameters::parse(None, &[]).is_ok());
    }
}
