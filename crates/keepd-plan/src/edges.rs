//! `depends_on`: what a service waits for.

use std::collections::BTreeMap;

use keepd_model::{Apply, Edge, Kind, Origin, RestartPolicy, ServiceName, Until};
use toml::de::DeValue;

use crate::diagnostic::{Collector, quoted};
use crate::field::{Entry, Field, Value};
use crate::nearest::nearest;
use crate::schema::{self, KeyDoc, Row, Section, Status};
use crate::service::Draft;
use crate::table::is_note;

/// One edge while it is read: what it means without `until` depends on the other service.
pub(crate) struct EdgeDraft {
    until: Option<Until>,
    /// Where the name of the other service stands.
    pub(crate) origin: Origin,
    until_origin: Option<Origin>,
}

/// Every key of `[services.NAME.depends_on.NAME]`.
pub(crate) static ROWS: &[Row<EdgeDraft>] = &[Row {
    doc: KeyDoc {
        section: Section::Edge,
        key: "until",
        value: "started, ready, done, exited",
        default: "\"ready\", \"done\" for a oneshot",
        meaning: "what the other service must have reached; exited: ended, whatever the status",
        apply: Some(Apply::Live),
    },
    read: |edge, field| {
        edge.until = field.word(Until::ALL, Until::word);
        edge.until_origin = Some(field.entry.value_origin());
    },
}];

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

fn add<'e>(
    draft: &'e mut Draft,
    field: &mut Field<'_, '_>,
    name: &str,
    start: usize,
) -> Option<&'e mut EdgeDraft> {
    let origin = field.entry.document.origin(start);
    if draft.edges.contains_key(name) {
        let message = format!("cannot depend on {} twice {}", quoted(name), field.place);
        field.error(origin, message, None);
        return None;
    }
    let key = format!("depends_on.{name}");
    draft.spec.origins.insert(key, origin.clone());
    Some(draft.edges.entry(name.to_owned()).or_insert(EdgeDraft {
        until: None,
        origin,
        until_origin: None,
    }))
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

/// What is known of every service when edges are resolved.
pub(crate) struct Services<'s> {
    /// Every service that is written down, whether or not it could be read.
    pub(crate) declared: &'s BTreeMap<String, Origin>,
    pub(crate) drafts: &'s BTreeMap<ServiceName, Draft>,
    /// Whatever is not there was not written.
    pub(crate) is_complete: bool,
}

impl Services<'_> {
    /// Returns the edges of a service, and notes those that lead nowhere.
    pub(crate) fn resolve(
        &self,
        draft: &Draft,
        collector: &mut Collector,
    ) -> BTreeMap<ServiceName, Edge> {
        let mut edges = BTreeMap::new();
        for (name, edge) in &draft.edges {
            if !self.declared.contains_key(name) {
                if self.is_complete {
                    self.refuse_missing(draft, name, edge, collector);
                }
                continue;
            }
            let Some((name, other)) = self.drafts.get_key_value(name.as_str()) else {
                continue;
            };
            let default = match other.spec.kind {
                Kind::Daemon | Kind::Group => Until::Ready,
                Kind::Oneshot => Until::Done,
            };
            let until = edge.until.unwrap_or(default);
            if until == Until::Done {
                refuse_endless(draft, other, edge, collector);
            }
            edges.insert(name.clone(), Edge::until(until));
        }
        edges
    }

    fn refuse_missing(
        &self,
        draft: &Draft,
        name: &str,
        edge: &EdgeDraft,
        collector: &mut Collector,
    ) {
        let message = format!(
            "cannot find service {}, which service {} depends on",
            quoted(name),
            quoted(draft.spec.name.as_str())
        );
        let others = self.declared.keys().map(String::as_str);
        let others = others.filter(|other| *other != draft.spec.name.as_str());
        let found = if collector.is_crowded() { None } else { nearest(name, others) };
        let hint = found.map(|other| format!("the nearest service is {}", quoted(other)));
        collector.error(Some(edge.origin.clone()), message, hint);
    }
}

/// Notes an edge that waits for the end of a service that never ends for good.
fn refuse_endless(draft: &Draft, other: &Draft, edge: &EdgeDraft, collector: &mut Collector) {
    let is_unclear = ["kind", "restart"].iter().any(|key| other.broken.contains(key));
    match other.spec.restart {
        RestartPolicy::Always if !is_unclear => {
            let name = other.spec.name.as_str();
            let message = format!(
                "cannot wait in service {} until {} is done: it is always restarted",
                quoted(draft.spec.name.as_str()),
                quoted(name)
            );
            let hint =
                format!("write until = \"ready\", or give {} kind = \"oneshot\"", quoted(name));
            let origin = edge.until_origin.as_ref().unwrap_or(&edge.origin);
            collector.error(Some(origin.clone()), message, Some(hint));
        }
        RestartPolicy::Always | RestartPolicy::OnFailure | RestartPolicy::Never => {}
    }
}
