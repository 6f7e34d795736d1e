//! Selectors: a name, a base name, a glob, `tag:T`, `state:S`, `all`.

use keepd_model::{ServiceName, State};

use super::Manager;
use super::service::Service;

impl Manager {
    /// Returns the services that any of the selectors means, by name; or the first selector that means none.
    pub fn select(&self, selectors: &[String]) -> Result<Vec<ServiceName>, String> {
        let mut found = std::collections::BTreeSet::new();
        for selector in selectors {
            let before = found.len();
            let matching = self
                .services
                .values()
                .filter(|service| means(selector, service));
            let mut any = false;
            for service in matching {
                any = true;
                found.insert(service.name().clone());
            }
            // `all` of nothing is nothing; anything else that means nothing is a mistake.
            if !any && selector != "all" && before == found.len() {
                return Err(selector.clone());
            }
        }
        Ok(found.into_iter().collect())
    }
}

fn means(selector: &str, service: &Service) -> bool {
    let name = service.name();
    if let Some(tag) = selector.strip_prefix("tag:") {
        return service.spec.tags.iter().any(|own| own == tag);
    }
    if let Some(state) = selector.strip_prefix("state:") {
        return State::from_word(state) == Some(service.state());
    }
    selector == "all"
        || selector == name.as_str()
        || selector == name.base()
        || (selector.contains(['*', '?']) && glob(selector.as_bytes(), name.as_str().as_bytes()))
}

/// `*` is any run of bytes, `?` is one byte. Linear in the text for each star.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                star = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[at_text] => {
                at_pattern += 1;
                at_text += 1;
            }
            Some(_) | None => match star {
                // The last star takes one byte more.
                Some((star_pattern, star_text)) => {
                    star = Some((star_pattern, star_text + 1));
                    at_pattern = star_pattern + 1;
                    at_text = star_text + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let fits = |pattern: &str, text: &str| glob(pattern.as_bytes(), text.as_bytes());
        assert!(fits("web*", "web") && fits("web*", "web@1") && fits("*@?", "web@1"));
        assert!(fits("*a*b*", "xxaxxbxx") && fits("a*a", "aa"));
        assert!(!fits("web*", "we") && !fits("a*a", "a") && !fits("?", "") && !fits("a", "ab"));
    }
}
