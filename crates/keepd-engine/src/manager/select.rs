//! Selectors over services that have states: those of the model, and `state:S`.

use std::collections::BTreeSet;
use std::ops::Bound;

use keepd_model::{ServiceName, State, is_pattern};

use super::Manager;
use super::service::Service;

impl Manager {
    /// Returns the services that any of the selectors means, by name.
    ///
    /// # Errors
    /// The first selector that means none. `all` of nothing is nothing, and no mistake.
    pub fn select(&self, selectors: &[String]) -> Result<Vec<ServiceName>, String> {
        let mut found = BTreeSet::new();
        for selector in selectors.iter().collect::<BTreeSet<_>>() {
            let before = found.len();
            let is_known = match is_pattern(selector) {
                true => {
                    let meant = self.services.values().filter(|service| means(selector, service));
                    let mut meant = meant.map(|service| service.name().clone()).peekable();
                    let is_known = meant.peek().is_some() || selector == "all";
                    found.extend(meant);
                    is_known
                }
                // Names need no look at every service, so there may be as many as there are
                // services.
                false => {
                    found.extend(self.named(selector));
                    found.len() > before || found.contains(selector.as_str())
                }
            };
            if !is_known {
                return Err(selector.clone());
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Returns the service of this name, and those of which it is the base name.
    fn named<'m>(&'m self, name: &'m str) -> impl Iterator<Item = ServiceName> + 'm {
        let after = (Bound::Excluded(name), Bound::Unbounded);
        let instances = self.services.range::<str, _>(after).map(|(found, _)| found);
        let instances = instances
            .take_while(move |found| found.as_str().starts_with(name))
            .filter(move |found| found.base() == name);
        let exact = self.services.get_key_value(name).map(|(found, _)| found);
        exact.into_iter().chain(instances).cloned()
    }
}

fn means(selector: &str, service: &Service) -> bool {
    match selector.strip_prefix("state:") {
        Some(state) => State::from_word(state) == Some(service.state()),
        None => service.spec.is_meant_by(selector),
    }
}
