//! Texts in, a plan or all errors out.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepd_model::{Origin, Plan, ServiceName, ServiceSpec};
use toml::Spanned;
use toml::de::{DeString, DeTable};

use crate::diagnostic::{Collector, Diagnostic, quoted};
use crate::document::Document;
use crate::edges::Services;
use crate::field::{Entry, Field, Place, Value, integer, shown};
use crate::schema::{self, Section, Status};
use crate::service::{Draft, ServiceReader};
use crate::table::{Entries, Reader, is_note};
use crate::{manager, order};

/// The schema version that this keepd reads.
const VERSION: i64 = 1;

/// The most services of one instance.
const SERVICES_MAX: usize = 10_000;

/// One file, already read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file as the user named it, for messages.
    pub file: Arc<str>,
    /// The absolute folder of the file, for relative paths in it.
    pub directory: String,
    /// Its text.
    pub text: String,
}

/// What a plan needs to know about its use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// `keepd up`: `working_dir` is the file's folder where none is given, else `/`.
    pub project: bool,
}

/// A plan without errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What shall be done.
    pub plan: Plan,
    /// What is allowed and yet probably not meant, by file, line and column.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the files of one instance together. Their order does not matter.
///
/// # Errors
///
/// Returns every error of every file, by file, line and column; of more than a thousand the rest
/// is counted.
pub fn load(sources: &[Source], context: &Context) -> Result<Loaded, Vec<Diagnostic>> {
    let mut collector = Collector::default();
    let documents: Vec<Document<'_>> =
        sources.iter().filter_map(|source| Document::parse(source, &mut collector)).collect();
    let is_complete =
        documents.len() == sources.len() && documents.iter().all(|document| document.is_complete);
    let mut loader = Loader {
        context: *context,
        is_complete,
        collector,
        manager: Entries::default(),
        defaults: Entries::default(),
        services: Vec::new(),
        declared: BTreeMap::new(),
    };
    for document in &documents {
        loader.read_top(document);
    }
    let plan = loader.plan();
    loader.collector.finish().map(|warnings| Loaded { plan, warnings })
}

/// Everything the files say, while they are read.
struct Loader<'d> {
    context: Context,
    /// Nothing was lost to syntax errors, so what is not there was not written.
    is_complete: bool,
    collector: Collector,
    manager: Entries<'d>,
    defaults: Entries<'d>,
    /// The services in the order of the files, each with its keys.
    services: Vec<Declaration<'d>>,
    declared: BTreeMap<String, Origin>,
}

/// One service as it is written down.
struct Declaration<'d> {
    name: ServiceName,
    document: &'d Document<'d>,
    origin: Origin,
    entries: Entries<'d>,
}

impl<'d> Loader<'d> {
    fn reader(
        &mut self,
        document: &'d Document<'d>,
        section: Section,
        place: Place<'static>,
    ) -> Reader<'_, 'd> {
        Reader { document, section, place, collector: &mut self.collector }
    }

    fn read_top(&mut self, document: &'d Document<'d>) {
        for (key, value) in &document.root {
            if is_note(key.get_ref()) || document.is_unreadable(value) {
                continue;
            }
            let name: &str = key.get_ref();
            match schema::status(Section::Top, name) {
                Status::Built("version") => self.check_version(document, key, value),
                Status::Built("keepd") => {
                    let entries = self.table(document, Section::Keepd, Place::Keepd, value, name);
                    self.manager.merge(entries, Place::Keepd, &mut self.collector);
                }
                Status::Built("defaults") => {
                    let place = Place::Defaults;
                    let entries = self.table(document, Section::Service, place, value, name);
                    self.defaults.merge(entries, place, &mut self.collector);
                }
                Status::Built(_) => self.read_services(document, value),
                Status::Unbuilt(_) => {
                    let reason = ": it is not supported by this version";
                    let mut reader = self.reader(document, Section::Top, Place::Top);
                    reader.refuse(key, name, reason, None);
                }
                Status::Unknown => {
                    let hint = top_hint(name, value);
                    let mut reader = self.reader(document, Section::Top, Place::Top);
                    reader.refuse(key, name, "", hint);
                }
            }
        }
    }

    /// Returns the keys of one of keepd's own tables.
    fn table(
        &mut self,
        document: &'d Document<'d>,
        section: Section,
        place: Place<'static>,
        value: &'d Value<'d>,
        name: &str,
    ) -> Entries<'d> {
        let table = self.reader(document, section, Place::Top).table(value, name);
        let mut reader = self.reader(document, section, place);
        table.map(|table| reader.entries(table)).unwrap_or_default()
    }

    fn check_version(
        &mut self,
        document: &'d Document<'d>,
        key: &Spanned<DeString<'d>>,
        value: &'d Value<'d>,
    ) {
        let entry = Entry { document, key_start: key.span().start, value, is_inherited: false };
        let mut field = Field::new("version", Place::Top, entry, &mut self.collector);
        if integer(value) != Some(VERSION) {
            let hint = Some(format!("write version = {VERSION}"));
            field.refuse(&format!("this keepd reads version {VERSION}"), hint);
        }
    }

    fn read_services(&mut self, document: &'d Document<'d>, value: &'d Value<'d>) {
        let reader = &mut self.reader(document, Section::Top, Place::Top);
        let Some(table) = reader.table(value, "services") else {
            return;
        };
        let mut tables: Vec<_> = table.iter().collect();
        tables.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in tables {
            if document.is_unreadable(value) {
                continue;
            }
            let origin = document.origin(key.span().start);
            let name: &str = key.get_ref();
            if let Some(first) = self.declared.get(name) {
                let message = format!("cannot define service {} twice", quoted(name));
                let hint = format!("it stands for the first time at {first}");
                self.collector.error(Some(origin), message, Some(hint));
                continue;
            }
            self.declared.insert(name.to_owned(), origin.clone());
            let Some(table) = value.get_ref().as_table() else {
                let shown = shown(value.get_ref());
                let message =
                    format!("cannot use {shown} for service {}: it takes a table", quoted(name));
                let origin = document.origin(value.span().start);
                self.collector.error(Some(origin), message, None);
                continue;
            };
            self.read_service(document, name, origin, table);
        }
    }

    fn read_service(
        &mut self,
        document: &'d Document<'d>,
        text: &str,
        origin: Origin,
        table: &'d DeTable<'d>,
    ) {
        // The keys of a service are read even if its name is wrong, for the errors in them.
        let mut reader = Reader {
            document,
            section: Section::Service,
            place: Place::Service(text),
            collector: &mut self.collector,
        };
        let entries = reader.entries(table);
        let reason = match ServiceName::new(text) {
            Ok(name) if name.instance().is_none() => {
                self.services.push(Declaration { name, document, origin, entries });
                return;
            }
            Ok(_) => "\"@\" marks an instance, which is not supported by this version".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("cannot use service name {}: {reason}", quoted(text));
        self.collector.error(Some(origin), message, None);
    }

    /// Returns the plan, as far as it could be read.
    fn plan(&mut self) -> Plan {
        let manager = manager::read(&self.manager, &mut self.collector);
        let declarations = std::mem::take(&mut self.services);
        if declarations.len() > SERVICES_MAX {
            let message =
                format!("cannot load {} services: the limit is {SERVICES_MAX}", declarations.len());
            let origin = declarations.get(SERVICES_MAX).map(|service| service.origin.clone());
            self.collector.error(origin, message, None);
            return Plan::default();
        }
        self.check_defaults();
        let drafts: BTreeMap<ServiceName, Draft> = declarations
            .iter()
            .map(|declaration| (declaration.name.clone(), self.draft(declaration)))
            .collect();
        let names: Vec<&ServiceName> = declarations.iter().map(|service| &service.name).collect();
        order::refuse_cycles(&names, &drafts, &mut self.collector);
        let services = self.resolve(drafts);
        if services.is_empty() && self.declared.is_empty() && self.is_complete {
            let hint = "add [services.NAME] with command = \"PROGRAM ARGUMENT...\"";
            self.collector.warning(None, "no service is defined", hint);
        }
        Plan { manager, services }
    }

    /// Reads `[defaults]` on its own, so that what is wrong in it is noted once.
    fn check_defaults(&mut self) {
        let Some(origin) = self.defaults.first_origin() else {
            return;
        };
        let name = ServiceName::new("defaults").expect("\"defaults\" is a valid service name");
        let mut reader = ServiceReader {
            place: Place::Defaults,
            origin,
            entries: &self.defaults,
            is_complete: self.is_complete,
            collector: &mut self.collector,
        };
        reader.read(name, "/");
    }

    fn draft(&mut self, declaration: &Declaration<'d>) -> Draft {
        let entries = self.defaults.overridden_by(declaration.entries.clone());
        let mut reader = ServiceReader {
            place: Place::Service(declaration.name.as_str()),
            origin: declaration.origin.clone(),
            entries: &entries,
            is_complete: self.is_complete,
            collector: &mut self.collector,
        };
        let directory = match self.context.project {
            true => declaration.document.source.directory.as_str(),
            false => "/",
        };
        reader.read(declaration.name.clone(), directory)
    }

    fn resolve(
        &mut self,
        drafts: BTreeMap<ServiceName, Draft>,
    ) -> BTreeMap<ServiceName, Arc<ServiceSpec>> {
        let services =
            Services { declared: &self.declared, drafts: &drafts, is_complete: self.is_complete };
        let edges: Vec<_> =
            drafts.values().map(|draft| services.resolve(draft, &mut self.collector)).collect();
        let finished = drafts.into_iter().zip(edges).map(|((name, draft), edges)| {
            let mut spec = draft.spec;
            spec.depends_on = edges;
            (name, Arc::new(spec))
        });
        finished.collect()
    }
}

/// Returns the hint for a key that nobody knows at the top level.
fn top_hint(name: &str, value: &Value<'_>) -> Option<String> {
    let table = value.get_ref().as_table();
    if table.is_some_and(|table| table.contains_key("command")) {
        return Some(format!("a service is written [services.{name}]"));
    }
    let guess = schema::guess(Section::Top, name).hint;
    guess.or_else(|| match schema::status(Section::Service, name) {
        Status::Built(_) => Some("it is a key of a service, [services.NAME]".to_owned()),
        Status::Unbuilt(_) | Status::Unknown => None,
    })
}
