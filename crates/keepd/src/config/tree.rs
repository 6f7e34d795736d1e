//! A configuration file as a tree, and the keys in it.

use super::keys::{KEYS, Key, LATER, RESTART, RESTART_KEYS, TABLES, Value};
use super::load::UnknownKeys;
use super::origin::Origin;
use super::report::Report;
use crate::error::ErrorCode;
use keepd_model::nearest;

/// A table of a file.
pub(super) type Table = Vec<Entry>;

/// One line of a table.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) node: Node,
}

/// What a key has.
pub(super) enum Node {
    Value(Value),
    Table(Table),
}

/// One value of one source, under the proper name of its key.
pub(super) struct Setting {
    /// The subsystem, for the keys of `[restart.NAME]`.
    pub(super) subsystem: Option<String>,
    /// The proper path of the key; inside `[restart.NAME]`, without the name.
    pub(super) path: &'static str,
    /// The path as it was written.
    pub(super) written: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Finds the keys of a source.
pub(super) struct Finder<'r> {
    unknown_keys: UnknownKeys,
    settings: Vec<Setting>,
    report: &'r mut Report,
}

impl<'r> Finder<'r> {
    pub(super) fn new(unknown_keys: UnknownKeys, report: &'r mut Report) -> Self {
        Self { unknown_keys, settings: Vec::new(), report }
    }

    /// Returns the values of all known keys; the others are reported.
    pub(super) fn find(mut self, root: Table) -> Vec<Setting> {
        for entry in root {
            let is_the_programs = entry.key == "app" || entry.key.starts_with("x-");
            if !is_the_programs {
                self.find_at("", entry);
            }
        }
        self.settings
    }

    fn find_at(&mut self, prefix: &str, entry: Entry) {
        let path = if prefix.is_empty() { entry.key } else { format!("{prefix}.{}", entry.key) };
        let is_table = TABLES.contains(&path.as_str());
        match entry.node {
            Node::Table(table) if path == RESTART => self.find_restarts(table),
            Node::Table(table) if is_table => {
                for inner in table {
                    self.find_at(&path, inner);
                }
            }
            Node::Value(value) if !is_table => self.take(path, value, entry.origin),
            Node::Value(_) => {
                let text = format!("\"{path}\" is a table, not a value");
                self.report.error(ErrorCode::ConfigTypeMismatch, &entry.origin, text);
            }
            Node::Table(_) => self.take(path, Value::Other("a table"), entry.origin),
        }
    }

    /// Takes a value whose key is known, wherever it was written.
    fn take(&mut self, path: String, value: Value, origin: Origin) {
        if let Some(key) = known(&path) {
            self.push(key.path, path, value, origin);
        } else if LATER.contains(&path.as_str()) {
            let text = format!("\"{path}\" is not built yet: remove it");
            self.report.error(ErrorCode::ConfigInvalid, &origin, text);
        } else if let Some(key) = misplaced(&path) {
            let place = key.path.rsplit_once('.').map_or_else(
                || "before the first table".to_owned(),
                |(table, _)| format!("in [{table}]"),
            );
            let text = format!("\"{path}\" is taken as \"{}\": it belongs {place}", key.path);
            self.report.warning(&origin, text);
            self.push(key.path, path, value, origin);
        } else {
            self.unknown(&path, &origin);
        }
    }

    fn push(&mut self, path: &'static str, written: String, value: Value, origin: Origin) {
        self.settings.push(Setting { subsystem: None, path, written, value, origin });
    }

    fn find_restarts(&mut self, tables: Table) {
        for Entry { key: name, origin, node } in tables {
            let Node::Table(table) = node else {
                let text = format!("\"{RESTART}.{name}\" is a table, not a value");
                self.report.error(ErrorCode::ConfigTypeMismatch, &origin, text);
                continue;
            };
            for inner in table {
                let written = format!("{RESTART}.{name}.{}", inner.key);
                let value = match inner.node {
                    Node::Value(value) => value,
                    Node::Table(_) => Value::Other("a table"),
                };
                match RESTART_KEYS.iter().find(|key| key.spellings().any(|s| s == inner.key)) {
                    Some(key) => self.settings.push(Setting {
                        subsystem: Some(name.clone()),
                        path: key.path,
                        written,
                        value,
                        origin: inner.origin,
                    }),
                    None => self.unknown(&written, &inner.origin),
                }
            }
        }
    }

    fn unknown(&mut self, path: &str, origin: &Origin) {
        let hint = match neighbour(path) {
            Some(name) => format!(", did you mean \"{name}\"?"),
            None => ": what belongs to the program goes into the table \"app\"".to_owned(),
        };
        let text = format!("unknown key \"{path}\"{hint}");
        match self.unknown_keys {
            UnknownKeys::Allow => {}
            UnknownKeys::Warn => self.report.warning(origin, text),
            UnknownKeys::Deny => self.report.error(ErrorCode::ConfigInvalid, origin, text),
        }
    }
}

/// Returns the key of a path in any spelling.
pub(super) fn known(path: &str) -> Option<&'static Key<super::Config>> {
    KEYS.iter().find(|key| key.spellings().any(|spelling| spelling == path))
}

/// Returns the only key whose last part is that of the path, which is then in the wrong table.
fn misplaced(path: &str) -> Option<&'static Key<super::Config>> {
    let name = last_part(path);
    let mut keys = KEYS.iter().filter(|key| key.spellings().any(|s| last_part(s) == name));
    let key = keys.next()?;
    keys.next().is_none().then_some(key)
}

/// Returns the known name that was probably meant: a key of the same table without the table, any
/// other one with it.
fn neighbour(path: &str) -> Option<&'static str> {
    if let Some(rest) = path.strip_prefix(RESTART).and_then(|rest| rest.strip_prefix('.')) {
        return nearest(last_part(rest), RESTART_KEYS.iter().flat_map(Key::spellings));
    }
    let spellings = || KEYS.iter().flat_map(Key::spellings);
    match path.rsplit_once('.') {
        Some((table, name)) => {
            let names = spellings().filter(|s| s.rsplit_once('.').is_some_and(|(t, _)| t == table));
            nearest(name, names.map(last_part)).or_else(|| nearest(path, spellings()))
        }
        None => nearest(path, spellings().chain(TABLES)),
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}
