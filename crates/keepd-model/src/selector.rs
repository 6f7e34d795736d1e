//! Selectors: how people name several services at once.

use crate::{Plan, ServiceName, ServiceSpec};

/// Reports whether a selector must be held against every service: any but a name.
pub fn is_pattern(selector: &str) -> bool {
    selector == "all" || selector.contains(['*', '?', ':'])
}

impl ServiceSpec {
    /// Reports whether a selector means this service: its name, its base name, a glob over its name
    /// (`*` any run of bytes, `?` one byte), `tag:T`, or `all`.
    ///
    /// `state:S` is not answered here: only who runs services knows states.
    pub fn is_meant_by(&self, selector: &str) -> bool {
        if let Some(tag) = selector.strip_prefix("tag:") {
            return self.tags.iter().any(|own| own == tag);
        }
        selector == "all"
            || selector == self.name.as_str()
            || selector == self.name.base()
            || (selector.contains(['*', '?'])
                && glob(selector.as_bytes(), self.name.as_str().as_bytes()))
    }
}

impl Plan {
    /// Returns the services that any of the selectors means, by name.
    ///
    /// # Errors
    /// The first selector that means none. `all` of nothing is nothing, and no mistake.
    pub fn select(&self, selectors: &[String]) -> Result<Vec<ServiceName>, String> {
        for selector in selectors {
            let any = self.services.values().any(|spec| spec.is_meant_by(selector));
            if !any && selector != "all" {
                return Err(selector.clone());
            }
        }
        let meant = self
            .services
            .values()
            .filter(|spec| selectors.iter().any(|selector| spec.is_meant_by(selector)));
        Ok(meant.map(|spec| spec.name.clone()).collect())
    }
}

/// As long as the product of both lengths in the worst case.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // `fits[length]`: what of the pattern was looked at means the first `length` bytes of the text.
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    for byte in pattern {
        if *byte == b'*' {
            let first = fits.iter().position(|fit| *fit).unwrap_or(fits.len());
            fits[first..].fill(true);
        } else {
            for length in (0..text.len()).rev() {
                fits[length + 1] = fits[length] && (*byte == b'?' || *byte == text[length]);
            }
            fits[0] = false;
        }
    }
    fits[text.len()]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{CommandLine, Template};

    fn plan() -> Plan {
        let mut plan = Plan::default();
        for (text, tag) in [("db", "data"), ("web", "front"), ("web-admin", "front")] {
            let name = ServiceName::new(text).unwrap();
            let command = CommandLine::Words(vec![Template::literal("true")]);
            let mut spec = ServiceSpec::new(name.clone(), command);
            spec.tags.push(tag.to_owned());
            plan.services.insert(name, Arc::new(spec));
        }
        plan
    }

    fn select(selectors: &[&str]) -> Result<String, String> {
        let selectors: Vec<String> = selectors.iter().map(|text| (*text).to_owned()).collect();
        let names = plan().select(&selectors)?;
        Ok(names.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn several_are_united_and_in_order() {
        assert_eq!(select(&["web*", "db"]), Ok("db web web-admin".to_owned()));
        assert_eq!(select(&["tag:front"]), Ok("web web-admin".to_owned()));
        assert_eq!(select(&["all"]), Ok("db web web-admin".to_owned()));
        assert_eq!(select(&["web"]), Ok("web".to_owned()));
    }

    #[test]
    fn one_that_means_nothing_is_named() {
        assert_eq!(select(&["db", "wbe"]), Err("wbe".to_owned()));
        assert_eq!(select(&["tag:none"]), Err("tag:none".to_owned()));
        assert_eq!(Plan::default().select(&["all".to_owned()]), Ok(Vec::new()));
    }

    #[test]
    fn globs() {
        let fits = |pattern: &str, text: &str| glob(pattern.as_bytes(), text.as_bytes());
        assert!(fits("web*", "web") && fits("web*", "web@1") && fits("*@?", "web@1"));
        assert!(fits("*a*b*", "xxaxxbxx") && fits("a*a", "aa") && fits("**", ""));
        assert!(!fits("web*", "we") && !fits("a*a", "a") && !fits("?", "") && !fits("a", "ab"));
    }
}
