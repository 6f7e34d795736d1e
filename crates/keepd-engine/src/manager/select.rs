//! Selectors over services that have states: those of the model, and `state:S`.

use std::collections::BTreeSet;

use keepd_model::{ServiceName, State};

use super::Manager;
use super::service::Service;

impl Manager {
    /// Returns the services that any of the selectors means, by name.
    ///
    /// # Errors
    /// The first selector that means none. `all` of nothing is nothing, and no mistake.
    pub fn select(&self, selectors: &[String]) -> Result<Vec<ServiceName>, String> {
        let mut found = BTreeSet::new();
        for selector in selectors {
            let mut meant = self
                .services
                .values()
                .filter(|service| means(selector, service))
                .map(|service| service.name().clone())
                .peekable();
            if meant.peek().is_none() && selector != "all" {
                return Err(selector.clone());
            }
            found.extend(meant);
        }
        Ok(found.into_iter().collect())
    }
}

fn means(selector: &str, service: &Service) -> bool {
    match selector.strip_prefix("state:") {
        Some(state) => State::from_word(state) == Some(service.state()),
        None => service.spec.is_meant_by(selector),
    }
}
