//! Variables: `DAEMON_`, then the path of a key in capitals, with `_` for each dot.
//!
//! A name is held against the list of known keys and never split at `_`, because keys contain it.

use super::keys::{KEYS, Key, RESTART_KEYS, Value};
use super::origin::Origin;
use super::report::Report;
use super::tree::Setting;
use keepd_model::nearest;

/// What all names begin with.
pub(super) const PREFIX: &str = "DAEMON_";

/// What names of restart keys begin with, before the name of the subsystem.
const RESTART_PREFIX: &str = "DAEMON_RESTART_";

/// Finds the keys in variables that begin with the prefix.
pub(super) fn find(variables: Vec<(String, String)>, report: &mut Report) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, value) in variables {
        let origin = Origin::Variable(name.clone());
        let value = Value::Untyped(value);
        if let Some(key) = KEYS.iter().find(|key| key.spellings().any(|s| variable(s) == name)) {
            let written = name;
            settings.push(Setting { subsystem: None, path: key.path, written, value, origin });
        } else if let Some((subsystem, key)) = restart_key(&name) {
            let (subsystem, written) = (Some(subsystem), name);
            settings.push(Setting { subsystem, path: key, written, value, origin });
        } else {
            let names: Vec<String> = KEYS.iter().flat_map(Key::spellings).map(variable).collect();
            // Without the prefix, which would make every short name a neighbour of every other.
            let ends = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
            let hint = nearest(name.strip_prefix(PREFIX).unwrap_or(&name), ends)
                .map_or_else(String::new, |end| format!(", did you mean {PREFIX}{end}?"));
            report.warning(&origin, format!("the variable belongs to no key{hint}"));
        }
    }
    settings
}

/// Returns the variable of a key.
pub(super) fn variable(path: &str) -> String {
    let mut name = String::with_capacity(PREFIX.len() + path.len());
    name.push_str(PREFIX);
    name.extend(path.chars().map(|c| if c == '.' { '_' } else { c.to_ascii_uppercase() }));
    name
}

/// Splits the variable of a restart key into the subsystem and the key. Both contain `_`, so the
/// longest key that fits is taken.
fn restart_key(name: &str) -> Option<(String, &'static str)> {
    let rest = name.strip_prefix(RESTART_PREFIX)?;
    let spellings = RESTART_KEYS.iter().flat_map(|key| key.spellings().map(|s| (key.path, s)));
    let fitting = spellings.filter_map(|(path, spelling)| {
        let end = spelling.to_ascii_uppercase();
        let subsystem = rest.strip_suffix(&end)?.strip_suffix('_')?;
        (!subsystem.is_empty()).then(|| (subsystem.to_ascii_lowercase(), path, end.len()))
    });
    fitting.max_by_key(|(_, _, length)| *length).map(|(subsystem, path, _)| (subsystem, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_underscores_of_keys() {
        assert_eq!(variable("shutdown.timeout_ms"), "DAEMON_SHUTDOWN_TIMEOUT_MS");
        assert_eq!(variable("name"), "DAEMON_NAME");
    }

    #[test]
    fn the_longest_restart_key_wins() {
        let web = |key| Some(("web".to_owned(), key));
        assert_eq!(restart_key("DAEMON_RESTART_WEB_DELAY"), web("delay"));
        assert_eq!(restart_key("DAEMON_RESTART_WEB_MAX_DELAY"), web("max_delay"));
        assert_eq!(restart_key("DAEMON_RESTART_WEB_MAX_DELAY_MS"), web("max_delay"));
        assert_eq!(restart_key("DAEMON_RESTART_MAX_DELAY"), Some(("max".to_owned(), "delay")));
        assert_eq!(restart_key("DAEMON_RESTART_DELAY"), None);
        assert_eq!(restart_key("DAEMON_RESTART_WEB_COLOUR"), None);
    }
}
