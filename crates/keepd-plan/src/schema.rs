//! The keys: which there are, which are not built yet, and what people are told about each.

use std::sync::LazyLock;

use keepd_model::{Apply, nearest};

use crate::field::Field;
use crate::folded::folded;
use crate::{edges, foreign, manager, service_keys};

/// The table a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// The file itself.
    Top,
    /// `[keepd]`.
    Keepd,
    /// `[services.NAME]`.
    Service,
    /// `[services.NAME.depends_on.NAME]`.
    Edge,
}

/// What people are told about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// The table it belongs to.
    pub section: Section,
    /// Its name in that table, with dots for tables inside (`ready.port`).
    pub key: &'static str,
    /// What it holds.
    pub value: &'static str,
    /// What stands for it where it is not given: TOML where that is possible, else words.
    pub default: &'static str,
    /// One line.
    pub meaning: &'static str,
    /// When a change of it takes effect on `apply`; `None` where it has no effect of its own.
    pub apply: Option<Apply>,
}

/// One key that can be read into a `T`: the only place where it is named.
pub(crate) struct Row<T> {
    pub(crate) doc: KeyDoc,
    pub(crate) read: fn(&mut T, &mut Field<'_, '_>),
}

/// The keys of the file itself, which are read by hand.
const TOP: &[KeyDoc] = &[
    top("version", "integer", "1", "schema version of the file"),
    top(
        "include",
        "array of globs",
        "[]",
        "more files, read after this one; a named file must exist, a pattern may match none",
    ),
    top(
        "defaults",
        "table",
        "{}",
        "service keys for every service that does not give them itself; tables merge",
    ),
    top("keepd", "table", "{}", "keepd itself"),
    top("services", "table", "{}", "the services by name"),
];

const fn top(
    key: &'static str,
    value: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> KeyDoc {
    KeyDoc { section: Section::Top, key, value, default, meaning, apply: None }
}

/// Documented keys that this version refuses. A table stands for all its keys.
const UNBUILT: &[(Section, &[&str])] = &[
    (Section::Top, &["access", "cluster", "gateway", "log_targets", "metrics", "notify"]),
    (
        Section::Keepd,
        &["apply_on_change", "log_quota", "max_starting", "socket_group", "socket_mode"],
    ),
    (
        Section::Service,
        &[
            "directories",
            "health",
            "hooks",
            "instances",
            "limits",
            "log.compress",
            "log.max_age",
            "log.max_files",
            "log.max_size",
            "log.on_full",
            "max_runtime",
            "pid_file",
            "sandbox",
            "schedule",
            "secrets",
            "sockets",
            "start_if",
            "stop_command",
            "update_order",
            "watch",
        ],
    ),
];

/// Documented values that this version refuses.
const UNBUILT_VALUES: &[(&str, &[&str])] =
    &[("kind", &["forking"]), ("log.mode", &["journald", "syslog"]), ("until", &["healthy"])];

/// Tables of a service whose keys are fixed.
pub(crate) const TABLES: [&str; 2] = ["ready", "log"];

/// Keys that every service has for itself, so that `[defaults]` cannot hold them.
pub(crate) const NOT_IN_DEFAULTS: [&str; 9] = [
    "after",
    "before",
    "command",
    "depends_on",
    "instances",
    "kind",
    "override",
    "schedule",
    "sockets",
];

/// Whether a key can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It can.
    Built(&'static str),
    /// It is documented, but not built.
    Unbuilt(&'static str),
    /// Nobody knows it.
    Unknown,
}

/// Returns the table of the keys of this version, in the order of the documentation.
pub fn keys() -> &'static [KeyDoc] {
    static KEYS: LazyLock<Vec<KeyDoc>> = LazyLock::new(|| {
        let manager = manager::ROWS.iter().map(|row| row.doc);
        let service = service_keys::ROWS.iter().map(|row| row.doc);
        let edge = edges::ROWS.iter().map(|row| row.doc);
        let top = TOP.iter().copied();
        top.chain(manager).chain(service).chain(edge).collect()
    });
    &KEYS
}

fn built(section: Section) -> impl Iterator<Item = &'static str> {
    let of_section = move |doc: &&KeyDoc| doc.section == section;
    keys().iter().filter(of_section).map(|doc| doc.key)
}

fn unbuilt(section: Section) -> impl Iterator<Item = &'static str> {
    let of_section = UNBUILT.iter().filter(move |(of, _)| *of == section);
    of_section.flat_map(|(_, keys)| keys.iter().copied())
}

/// Returns every documented key of a table, and the tables in it.
fn documented(section: Section) -> impl Iterator<Item = &'static str> {
    let tables = TABLES.into_iter().filter(move |_| section == Section::Service);
    built(section).chain(unbuilt(section)).chain(tables)
}

/// Looks a key up.
pub(crate) fn status(section: Section, key: &str) -> Status {
    if section == Section::Service
        && let Some(table) = TABLES.into_iter().find(|table| *table == key)
    {
        return Status::Built(table);
    }
    if let Some(found) = built(section).find(|known| *known == key) {
        return Status::Built(found);
    }
    match unbuilt(section).find(|known| *known == key) {
        Some(found) => Status::Unbuilt(found),
        None => Status::Unknown,
    }
}

/// Returns the documented values of a key that this version refuses.
pub(crate) fn unbuilt_values(key: &str) -> &'static [&'static str] {
    let found = UNBUILT_VALUES.iter().find(|(of, _)| *of == key);
    found.map_or(&[], |(_, values)| values)
}

/// What is known about a key that nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guess {
    /// What to tell its author.
    pub(crate) hint: Option<String>,
    /// The built key it is without doubt: only case, dashes or underscores differ.
    pub(crate) same: Option<&'static str>,
    /// The built key it stands for, however it is written.
    pub(crate) meant: Option<&'static str>,
}

/// Guesses which key an unknown one stands for.
pub(crate) fn guess(section: Section, key: &str) -> Guess {
    let found = certain(section, key);
    let (ours, word) = match found {
        Some((ours, _)) => (ours, "the key is"),
        None => match nearest(key, documented(section)) {
            Some(ours) => (ours, "the nearest key is"),
            None => return Guess::default(),
        },
    };
    let (meant, suffix) = match status(section, ours) {
        Status::Built(ours) => (Some(ours), ""),
        Status::Unbuilt(_) | Status::Unknown => (None, ", which is not supported by this version"),
    };
    let same = found.is_some_and(|(_, same)| same);
    Guess { hint: Some(format!("{word} \"{ours}\"{suffix}")), same: meant.filter(|_| same), meant }
}

/// Returns the documented key that an unknown one is without doubt, and whether only its spelling
/// differs.
fn certain(section: Section, key: &str) -> Option<(&'static str, bool)> {
    let written = folded(key);
    if let Some(ours) = documented(section).find(|known| folded(known) == written) {
        return Some((ours, true));
    }
    if let Some(ours) = foreign::key(section, key) {
        return Some((ours, false));
    }
    // `port` for `ready.port`, if only one table has such a key.
    let mut leaves = documented(section).filter(|known| {
        let leaf = known.split_once('.').map(|(_, leaf)| leaf);
        leaf.is_some_and(|leaf| folded(leaf) == written)
    });
    match (leaves.next(), leaves.next()) {
        (Some(ours), None) => Some((ours, false)),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(section: Section, key: &str) -> String {
        guess(section, key).hint.unwrap_or_default()
    }

    #[test]
    fn keys_are_unique_and_none_is_both_built_and_unbuilt() {
        let mut seen = std::collections::BTreeSet::new();
        for doc in keys() {
            assert!(seen.insert((doc.section, doc.key)), "{doc:?}");
            assert!(!doc.meaning.is_empty() && !doc.value.is_empty() && !doc.default.is_empty());
        }
        for (section, keys) in UNBUILT {
            for key in *keys {
                assert!(seen.insert((*section, key)), "{key}");
            }
        }
    }

    #[test]
    fn hints_tell_spelling_foreign_words_leaves_and_neighbours() {
        let service = Section::Service;
        assert_eq!(hint(service, "depends-on"), "the key is \"depends_on\"");
        assert_eq!(hint(service, "dependsOn"), "the key is \"depends_on\"");
        assert_eq!(hint(service, "autostart"), "the key is \"enabled\"");
        assert_eq!(hint(service, "port"), "the key is \"ready.port\"");
        assert_eq!(hint(service, "comand"), "the nearest key is \"command\"");
        assert_eq!(hint(service, "ready.prot"), "the nearest key is \"ready.port\"");
        assert_eq!(
            hint(service, "numprocs"),
            "the key is \"instances\", which is not supported by this version"
        );
        assert_eq!(hint(service, "zzzzzz"), "");
        assert_eq!(hint(Section::Top, "service"), "the nearest key is \"services\"");
        assert_eq!(hint(Section::Keepd, "log-level"), "the key is \"log_level\"");
        assert_eq!(hint(Section::Edge, "condition"), "the key is \"until\"");
    }
}
