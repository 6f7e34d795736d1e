//! What a service has to do with others: `depends_on`, `after`, `before`.

use std::collections::{BTreeMap, BTreeSet};

use keepd_model::{Apply, Edge, Kind, OnStop, Origin, RestartPolicy, ServiceName, Until, nearest};
use toml::de::DeValue;

use crate::diagnostic::{Collector, quoted};
use crate::field::{Entry, Field, Value, put};
use crate::schema::{self, KeyDoc, Row, Section, Status};
use crate::service::Draft;
use crate::table::is_note;

/// One edge while it is read: what it means without `until` depends on the other service.
pub(crate) struct EdgeDraft {
    until: Option<Until>,
    required: bool,
    on_stop: OnStop,
    /// Where the name of the other service stands.
    pub(crate) origin: Origin,
    until_origin: Option<Origin>,
    /// Which table names it.
    rank: u32,
}

/// Every key of `[services.NAME.depends_on.NAME]`.
pub(crate) static ROWS: &[Row<EdgeDraft>] = &[
    row(
        ("until", "started, ready, done, exited", "\"ready\", \"done\" for a oneshot"),
        "what the other service must have reached; exited: ended, whatever the status",
        |edge, field| {
            edge.until = field.word(Until::ALL, Until::word);
            edge.until_origin = Some(field.entry.value_origin());
        },
    ),
    row(
        ("required", "bool", "true"),
        "false: its failure is waited for, too, and then this one starts all the same",
        |edge, field| put(&mut edge.required, field.boolean()),
    ),
    row(
        ("on_stop", "ignore, restart, stop", "\"ignore\""),
        "what follows when the other leaves that state later: nothing, a restart, or a stop",
        |edge, field| put(&mut edge.on_stop, field.word(OnStop::ALL, OnStop::word)),
    ),
];

const fn row(
    (key, value, default): (&'static str, &'static str, &'static str),
    meaning: &'static str,
    read: fn(&mut EdgeDraft, &mut Field<'_, '_>),
) -> Row<EdgeDraft> {
    let section = Section::Edge;
    let doc = KeyDoc { section, key, value, default, meaning, apply: Some(Apply::Live) };
    Row { doc, read }
}

/// Reads `depends_on`: an array of names, or a table from names to edges.
pub(crate) fn read(draft: &mut Draft, field: &mut Field<'_, '_>) {
    match field.entry.value.get_ref() {
        DeValue::Array(_) => {
            for (item, name) in field.texts().unwrap_or_default() {
                let start = item.span().start;
                add(draft, field, name, start);
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table {
                let name: &str = key.get_ref();
                if let Some(edge) = add(draft, field, name, key.span().start) {
                    read_edge(edge, field, name, value);
                }
            }
        }
        DeValue::String(text) => {
            let hint = format!("write [{}]", quoted(text));
            field.refuse("it takes an array or a table", Some(hint));
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            field.refuse("it takes an array or a table", None);
        }
    }
}

/// Adds an edge, or finds the one that a lower table has.
fn add<'e>(
    draft: &'e mut Draft,
    field: &mut Field<'_, '_>,
    name: &str,
    start: usize,
) -> Option<&'e mut EdgeDraft> {
    let origin = field.entry.document.origin(start);
    let rank = field.entry.rank;
    if draft.edges.get(name).is_some_and(|edge| edge.rank == rank) {
        let message = format!("cannot depend on {} twice {}", quoted(name), field.place);
        field.error(origin, message, None);
        return None;
    }
    let key = format!("depends_on.{name}");
    draft.spec.origins.insert(key, origin.clone());
    let edge = draft.edges.entry(name.to_owned()).or_insert(EdgeDraft {
        until: None,
        required: true,
        on_stop: OnStop::Ignore,
        origin: origin.clone(),
        until_origin: None,
        rank,
    });
    edge.origin = origin;
    edge.rank = rank;
    Some(edge)
}

fn read_edge<'d>(
    edge: &mut EdgeDraft,
    field: &mut Field<'_, 'd>,
    name: &str,
    value: &'d Value<'d>,
) {
    if field.entry.document.is_unreadable(value) {
        return;
    }
    let Some(table) = value.get_ref().as_table() else {
        let hint = value.get_ref().as_str();
        let hint = hint.map(|word| format!("write {{ until = {} }}", quoted(word)));
        let reason = format!("the edge to {} takes a table", quoted(name));
        field.refuse_part(value, None, &reason, hint);
        return;
    };
    for (key, value) in table {
        if is_note(key.get_ref()) || field.entry.document.is_unreadable(value) {
            continue;
        }
        let full = format!("depends_on.{name}.{}", key.get_ref());
        let (reason, hint) = match schema::status(Section::Edge, key.get_ref()) {
            Status::Built(ours) => {
                let entry = Entry { key_start: key.span().start, value, ..field.entry };
                for row in ROWS.iter().filter(|row| row.doc.key == ours) {
                    field.inside(&full, entry, |field| (row.read)(edge, field));
                }
                continue;
            }
            Status::Unbuilt(_) => (": it is not supported by this version", None),
            Status::Unknown => ("", schema::guess(Section::Edge, key.get_ref()).hint),
        };
        let origin = field.entry.document.origin(key.span().start);
        let message = format!("cannot use key {} {}{reason}", quoted(&full), field.place);
        field.error(origin, message, hint);
    }
}

/// Reads `after`.
pub(crate) fn read_after(draft: &mut Draft, field: &mut Field<'_, '_>) {
    draft.after = read_names(draft, field);
}

/// Reads `before`.
pub(crate) fn read_before(draft: &mut Draft, field: &mut Field<'_, '_>) {
    draft.before = read_names(draft, field);
}

/// Reads names of other services, each once.
fn read_names(draft: &Draft, field: &mut Field<'_, '_>) -> BTreeMap<String, Origin> {
    let mut names = BTreeMap::new();
    let own = draft.spec.name.as_str();
    for (item, name) in field.texts().unwrap_or_default() {
        let origin = field.entry.document.origin(item.span().start);
        if name == own {
            let message = format!("cannot order service {} {} itself", quoted(name), field.key);
            field.error(origin, message, None);
        } else if names.contains_key(name) {
            let (key, place) = (quoted(field.key), field.place);
            let message = format!("cannot name {} twice for {key} {place}", quoted(name));
            field.error(origin, message, None);
        } else {
            names.insert(name.to_owned(), origin);
        }
    }
    names
}

/// What is known of every service when edges are resolved.
pub(crate) struct Services<'s> {
    /// Every service that is written down, whether or not it could be read.
    pub(crate) declared: &'s BTreeMap<String, Origin>,
    pub(crate) drafts: &'s BTreeMap<ServiceName, Draft>,
    /// Whatever is not there was not written.
    pub(crate) is_complete: bool,
}

/// What a service has to do with others that exist.
pub(crate) struct Relations {
    pub(crate) depends_on: BTreeMap<ServiceName, Edge>,
    pub(crate) after: BTreeSet<ServiceName>,
    pub(crate) before: BTreeSet<ServiceName>,
}

impl<'s> Services<'s> {
    /// Returns what leads somewhere, and notes what does not.
    pub(crate) fn resolve(&self, draft: &Draft, collector: &mut Collector) -> Relations {
        let mut depends_on = BTreeMap::new();
        for (name, edge) in &draft.edges {
            let Some(other) = self.find(draft, name, &edge.origin, "depends on", collector) else {
                continue;
            };
            let default = match other.spec.kind {
                Kind::Daemon | Kind::Group => Until::Ready,
                Kind::Oneshot => Until::Done,
            };
            let until = edge.until.unwrap_or(default);
            check_until(draft, other, edge, until, collector);
            let (required, on_stop) = (edge.required, edge.on_stop);
            depends_on.insert(other.spec.name.clone(), Edge { until, required, on_stop });
        }
        let mut names = |names: &BTreeMap<String, Origin>, relation: &str| {
            let find = |(name, origin): (&String, &Origin)| {
                let other = self.find(draft, name, origin, relation, collector)?;
                Some(other.spec.name.clone())
            };
            names.iter().filter_map(find).collect()
        };
        let after = names(&draft.after, "starts after");
        let before = names(&draft.before, "starts before");
        Relations { depends_on, after, before }
    }

    /// Returns the service with this name, or notes that there is none.
    fn find(
        &self,
        draft: &Draft,
        name: &str,
        origin: &Origin,
        relation: &str,
        collector: &mut Collector,
    ) -> Option<&'s Draft> {
        if let Some(other) = self.drafts.get(name) {
            return Some(other);
        }
        let own = draft.spec.name.as_str();
        let message = format!(
            "cannot find service {}, which service {} {relation}",
            quoted(name),
            quoted(own)
        );
        if self.declared.contains_key(name) {
            collector.consequence(own, origin.clone(), message);
        } else if self.is_complete {
            let others = self.declared.keys().map(String::as_str);
            let others = others.filter(|other| *other != own);
            let found = if collector.is_crowded() { None } else { nearest(name, others) };
            let hint = found.map(|other| format!("the nearest service is {}", quoted(other)));
            collector.error(Some(origin.clone()), message, hint);
        }
        None
    }
}

/// Notes an edge that waits for what the other service never gets to.
fn check_until(
    draft: &Draft,
    other: &Draft,
    edge: &EdgeDraft,
    until: Until,
    collector: &mut Collector,
) {
    let name = quoted(other.spec.name.as_str());
    let is_unclear = ["kind", "restart"].iter().any(|key| other.broken.contains(key));
    let (reason, hint) = match (other.spec.kind, until, other.spec.restart) {
        (Kind::Group, Until::Done | Until::Exited, _) => {
            ("a group never ends", "write until = \"ready\"".to_owned())
        }
        (Kind::Daemon | Kind::Oneshot, Until::Done, RestartPolicy::Always) if !is_unclear => (
            "it is always restarted",
            format!("write until = \"ready\", or give {name} kind = \"oneshot\""),
        ),
        (Kind::Group | Kind::Daemon | Kind::Oneshot, ..) => return,
    };
    let own = quoted(draft.spec.name.as_str());
    let message = match until {
        Until::Done => format!("cannot wait in service {own} until {name} is done: {reason}"),
        Until::Exited => format!("cannot wait in service {own} until {name} exited: {reason}"),
        Until::Started | Until::Ready => return,
    };
    let origin = edge.until_origin.as_ref().unwrap_or(&edge.origin);
    collector.error(Some(origin.clone()), message, Some(hint));
}
