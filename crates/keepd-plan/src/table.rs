//! Tables as flat lists of keys: `ready.port`, `env.PATH`. Keys that cannot be used are noted here.

use std::collections::BTreeMap;

use keepd_model::Origin;
use toml::Spanned;
use toml::de::{DeString, DeTable};

use crate::diagnostic::{Collector, quoted};
use crate::document::Document;
use crate::field::{Entry, Field, Place, Value, shown};
use crate::schema::{self, NOT_IN_DEFAULTS, Section, Status, TABLES};

/// The one key whose table is not taken apart here, because names of services may hold dots.
const LAYERED: &str = "depends_on";

/// Keys that were given, by their name in the table.
#[derive(Clone, Default)]
pub(crate) struct Entries<'d> {
    keys: BTreeMap<String, Entry<'d>>,
    /// What lower tables say about the key that merges by names of services, lowest first.
    below: Vec<Entry<'d>>,
    /// Keys of keepd that were meant by others, or given in a form that cannot be read; what is
    /// missing is not asked for again.
    pub(crate) meant: Vec<&'static str>,
}

impl<'d> Entries<'d> {
    /// Returns the entry of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry<'d>> {
        self.keys.get(key)
    }

    /// Returns the place of any of the keys, or nothing if there is none.
    pub(crate) fn first_origin(&self) -> Option<Origin> {
        self.keys.values().next().map(Entry::key_origin)
    }

    /// Returns the entries of a key, or all those below it if it is a table with free names. Where
    /// a key has several that merge, the lowest comes first.
    pub(crate) fn of<'e>(
        &'e self,
        key: &'static str,
    ) -> impl Iterator<Item = (&'e str, &'e Entry<'d>)> + use<'e, 'd> {
        // '/' is the character after '.', so the range holds exactly what begins with "key.".
        let below = self.keys.range(format!("{key}.")..format!("{key}/"));
        let exact = self.keys.get_key_value(key).into_iter();
        let lower: &[Entry<'d>] = if key == LAYERED { &self.below } else { &[] };
        let lower = lower.iter().map(move |entry| (key, entry));
        lower.chain(exact.chain(below).map(|(key, entry)| (key.as_str(), entry)))
    }

    /// Adds the keys of the same table in another file; what is in both is noted.
    pub(crate) fn merge(&mut self, other: Self, place: Place<'_>, collector: &mut Collector) {
        self.meant.extend(other.meant);
        for (key, entry) in other.keys {
            if let Some(first) = self.keys.get(&key) {
                let message = format!("cannot use key {} {place} twice", quoted(&key));
                let hint = format!("it stands for the first time at {}", first.key_origin());
                collector.error(Some(entry.key_origin()), message, Some(hint));
            } else {
                self.keys.insert(key, entry);
            }
        }
    }

    /// Returns these keys as the defaults of the keys in `own`.
    pub(crate) fn overridden_by(&self, own: Self) -> Self {
        let inherited =
            self.keys.iter().map(|(key, entry)| (key.clone(), Entry { rank: 0, ..*entry }));
        let mut keys: BTreeMap<_, _> = inherited.collect();
        keys.extend(own.keys);
        Self { keys, below: own.below, meant: own.meant }
    }

    /// Puts the keys of a later table of the same service over these: scalars and arrays replace,
    /// tables merge key by key.
    pub(crate) fn override_with(&mut self, later: Self, rank: u32) {
        self.meant.extend(later.meant);
        for (key, entry) in later.keys {
            let first = self.keys.insert(key.clone(), Entry { rank, ..entry });
            if let Some(first) = first.filter(|_| key == LAYERED) {
                if entry.value.get_ref().is_table() {
                    self.below.push(first);
                } else {
                    self.below.clear();
                }
            }
        }
    }

    /// Reports whether these keys are to be put over those of an earlier table.
    pub(crate) fn is_override(&self) -> bool {
        self.get("override").is_some_and(|entry| entry.value.get_ref().as_bool() == Some(true))
    }
}

/// Reports whether a key is a note of the user's.
pub(crate) fn is_note(key: &str) -> bool {
    key.starts_with("x_")
}

/// One table that is being taken apart.
pub(crate) struct Reader<'r, 'd> {
    pub(crate) document: &'d Document<'d>,
    pub(crate) section: Section,
    pub(crate) place: Place<'r>,
    pub(crate) collector: &'r mut Collector,
}

impl<'d> Reader<'_, 'd> {
    /// Returns the keys of a table that can be used, and notes the others.
    pub(crate) fn entries(&mut self, table: &'d DeTable<'d>) -> Entries<'d> {
        let mut entries = Entries::default();
        for (key, value) in table {
            self.key("", key, value, table, &mut entries);
        }
        entries
    }

    fn key(
        &mut self,
        prefix: &str,
        key: &'d Spanned<DeString<'d>>,
        value: &'d Value<'d>,
        table: &'d DeTable<'d>,
        entries: &mut Entries<'d>,
    ) {
        let name = format!("{prefix}{}", key.get_ref());
        if is_note(key.get_ref()) || self.document.is_unreadable(value) {
            return;
        }
        let status = schema::status(self.section, &name);
        let is_misplaced =
            self.place == Place::Defaults && NOT_IN_DEFAULTS.contains(&name.as_str());
        match status {
            Status::Built(_) | Status::Unbuilt(_) if is_misplaced => {
                self.refuse(key, &name, ": each service has its own", None);
            }
            Status::Built(ours) => self.built(ours, key, value, entries),
            Status::Unbuilt(_) => {
                self.refuse(key, &name, ": it is not supported by this version", None);
            }
            Status::Unknown => {
                let guess = schema::guess(self.section, &name);
                entries.meant.extend(guess.meant);
                self.refuse(key, &name, "", guess.hint);
                // A key that is only spelt otherwise is read all the same, for the errors in it.
                let intended = guess.same.filter(|same| {
                    let leaf = same.strip_prefix(prefix).unwrap_or(same);
                    !table.contains_key(leaf)
                });
                if let Some(ours) = intended.filter(|_| self.place != Place::Defaults) {
                    self.built(ours, key, value, entries);
                }
            }
        }
    }

    fn built(
        &mut self,
        ours: &'static str,
        key: &'d Spanned<DeString<'d>>,
        value: &'d Value<'d>,
        entries: &mut Entries<'d>,
    ) {
        let entry =
            Entry { document: self.document, key_start: key.span().start, value, rank: Entry::OWN };
        let is_table = self.section == Section::Service && TABLES.contains(&ours);
        let is_open = self.section == Section::Service && ours == "env";
        if !is_table && !is_open {
            entries.keys.insert(ours.to_owned(), entry);
            return;
        }
        let Some(inner) = value.get_ref().as_table() else {
            let hint = is_open.then(|| "write env = { NAME = \"value\" }".to_owned());
            let mut field = Field::new(ours, self.place, entry, self.collector);
            field.refuse("it takes a table", hint);
            return;
        };
        for (key, value) in inner {
            if is_table {
                self.key(&format!("{ours}."), key, value, inner, entries);
            } else if !self.document.is_unreadable(value) {
                let name = format!("{ours}.{}", key.get_ref());
                let key_start = key.span().start;
                entries.keys.insert(name, Entry { key_start, value, ..entry });
            }
        }
    }

    /// Notes that a key cannot be used.
    pub(crate) fn refuse(
        &mut self,
        key: &Spanned<DeString<'_>>,
        name: &str,
        reason: &str,
        hint: Option<String>,
    ) {
        let origin = self.document.origin(key.span().start);
        let message = format!("cannot use key {} {}{reason}", quoted(name), self.place);
        self.collector.error(Some(origin), message, hint);
    }

    /// Returns the table that a key must hold.
    pub(crate) fn table(&mut self, value: &'d Value<'d>, name: &str) -> Option<&'d DeTable<'d>> {
        let table = value.get_ref().as_table();
        if table.is_none() && !self.document.is_unreadable(value) {
            let origin = self.document.origin(value.span().start);
            let shown = shown(value.get_ref());
            let message =
                format!("cannot use {shown} for {} {}: it takes a table", quoted(name), self.place);
            self.collector.error(Some(origin), message, None);
        }
        table
    }
}
