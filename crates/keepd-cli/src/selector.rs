//! Selectors, for verbs that work without a manager.

use keepd_model::{Plan, ServiceName};

use crate::error::{CliError, ErrorKind};

/// Returns the name if the selectors are one exact name and nothing else.
pub(crate) fn exact_name(selectors: &[String]) -> Option<&str> {
    match selectors {
        [one] if ServiceName::new(one).is_ok() => Some(one),
        _ => None,
    }
}

/// Returns the services that the selectors mean, ordered by name; no selector means all.
///
/// # Errors
/// A selector means nothing, or asks for a state, which only the manager knows.
pub(crate) fn select(plan: &Plan, selectors: &[String]) -> Result<Vec<ServiceName>, CliError> {
    if let Some(state) = selectors.iter().find(|selector| selector.starts_with("state:")) {
        let message = format!("cannot select \"{state}\" here: only a running keepd knows states");
        return Err(CliError::new(ErrorKind::Usage, message)
            .with_hint("keepd status -o name state:STATE lists names"));
    }
    if selectors.is_empty() {
        return Ok(plan.services.keys().cloned().collect());
    }
    plan.select(selectors).map_err(|selector| {
        let message = format!("cannot find a service for \"{selector}\"");
        CliError::new(ErrorKind::NoSuchService, message).with_service(selector)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keepd_model::{CommandLine, ServiceSpec};

    use super::*;

    fn selected(selectors: &[&str]) -> Result<usize, ErrorKind> {
        let mut plan = Plan::default();
        for text in ["db", "web"] {
            let name = ServiceName::new(text).unwrap();
            let spec = ServiceSpec::new(name.clone(), CommandLine::Words(Vec::new()));
            plan.services.insert(name, Arc::new(spec));
        }
        let selectors: Vec<String> = selectors.iter().map(|text| (*text).to_owned()).collect();
        select(&plan, &selectors).map(|names| names.len()).map_err(|error| error.kind())
    }

    #[test]
    fn no_selector_means_all_and_a_wrong_one_is_a_mistake() {
        assert_eq!(selected(&[]), Ok(2));
        assert_eq!(selected(&["w*"]), Ok(1));
        assert_eq!(selected(&["db", "x*"]), Err(ErrorKind::NoSuchService));
        assert_eq!(selected(&["state:ready"]), Err(ErrorKind::Usage));
    }

    #[test]
    fn only_one_plain_name_is_exact() {
        let exact = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            exact_name(&words).map(str::to_owned)
        };
        assert_eq!(exact(&["web"]), Some("web".to_owned()));
        for words in [&["web*"][..], &["all"], &["tag:a"], &["a", "b"], &[]] {
            assert_eq!(exact(words), None, "{words:?}");
        }
    }
}
