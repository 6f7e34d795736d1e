//! Texts in, a plan or all errors out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keepd_model::{Origin, Plan, ServiceName, ServiceSpec};
use toml::Spanned;
use toml::de::DeString;

use crate::cycles::refuse_cycles;
use crate::diagnostic::{Collector, Diagnostic, Salvage, quoted};
use crate::document::Document;
use crate::edges::{Relations, Services};
use crate::field::{Entry, Field, Place, Value, integer, shown};
use crate::keep::Exceptions;
use crate::schema::{self, Section, Status};
use crate::service::{Draft, ServiceReader};
use crate::table::{Entries, Reader, is_note};
use crate::{include, manager};

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

/// A plan in which services stand that cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Salvaged {
    /// What shall be done. What cannot be used is in it as [`ServiceSpec::quarantined`].
    pub plan: Plan,
    /// As in [`Loaded`]; and what is wrong with tables whose name is no name of a service, which
    /// are left out.
    pub warnings: Vec<Diagnostic>,
    /// The services that cannot be used, by name, each with at least one error.
    pub quarantined: Vec<(ServiceName, Vec<Diagnostic>)>,
}

/// Reads the files of one instance together. Their order matters in one case only: a service table
/// with `override = true` is put over the one before it. What a file includes comes after it.
///
/// # Errors
///
/// Returns every error of every file, by file, line and column; of more than a thousand the rest
/// is counted.
pub fn load(sources: &[Source], context: &Context) -> Result<Loaded, Vec<Diagnostic>> {
    let Reading { plan, collector, .. } = read(sources, context, &Exceptions::default());
    collector.finish().map(|warnings| Loaded { plan, warnings })
}

/// Reads the files as [`load`] does, for a start at which there is nothing older to keep: a service
/// with an error is quarantined, and the others can start. So is each service that names another
/// one that does not exist or does not fit, and each that is part of a cycle. What depends on a
/// quarantined service stays as it is, and waits.
///
/// # Errors
///
/// Returns every error as [`load`] does where one is about more than single services: TOML that
/// cannot be read, unknown keys at the top level, `[keepd]`, and `[defaults]`, without which a
/// service may run as somebody it must not run as.
pub fn load_salvaging(sources: &[Source], context: &Context) -> Result<Salvaged, Vec<Diagnostic>> {
    let Reading { mut plan, collector, .. } = read(sources, context, &Exceptions::default());
    let Salvage { mut warnings, broken } = collector.salvage()?;
    let mut quarantined = Vec::new();
    for (name, errors) in broken {
        let Some(spec) = plan.services.get_mut(name.as_str()) else {
            warnings.extend(errors);
            continue;
        };
        *spec = Arc::new(quarantine(spec, reason(&errors)));
        quarantined.push((spec.name.clone(), errors));
    }
    Ok(Salvaged { plan, warnings, quarantined })
}

/// Returns what stands for a service that cannot be used: what people call it, and nothing that
/// could be run or waited for.
pub(crate) fn quarantine(spec: &ServiceSpec, why: String) -> ServiceSpec {
    ServiceSpec {
        description: spec.description.clone(),
        enabled: spec.enabled,
        tags: spec.tags.clone(),
        origins: spec.origins.clone(),
        ..ServiceSpec::quarantined(spec.name.clone(), why)
    }
}

/// Returns the sentence why a service with these errors cannot be used.
pub(crate) fn reason(errors: &[Diagnostic]) -> String {
    let why = errors.first().map(|error| match &error.origin {
        Some(origin) => format!("{origin}: {}", error.message),
        None => error.message.clone(),
    });
    why.unwrap_or_default()
}

/// What files say, and what is wrong with them.
pub(crate) struct Reading {
    /// What is in order.
    pub(crate) plan: Plan,
    pub(crate) collector: Collector,
    /// What each kept table names in `depends_on`, `after` and `before`.
    pub(crate) kept_relations: BTreeMap<ServiceName, BTreeSet<String>>,
}

/// Reads everything, and notes what is wrong.
pub(crate) fn read(sources: &[Source], context: &Context, exceptions: &Exceptions) -> Reading {
    let mut collector = Collector::default();
    let mut parse = |source| Document::parse(source, &mut collector);
    let documents: Vec<Document<'_>> = sources.iter().filter_map(&mut parse).collect();
    let kept: Vec<Document<'_>> = exceptions.kept.values().filter_map(parse).collect();
    let is_complete =
        documents.len() == sources.len() && documents.iter().all(|document| document.is_complete);
    let mut loader = Loader {
        context: *context,
        exceptions,
        is_complete,
        is_kept: false,
        collector,
        manager: Entries::default(),
        defaults: Entries::default(),
        services: Vec::new(),
        declared: BTreeMap::new(),
        kept_relations: BTreeMap::new(),
    };
    for document in &documents {
        loader.read_top(document);
    }
    loader.is_kept = true;
    for document in &kept {
        loader.read_top(document);
    }
    let plan = loader.plan();
    Reading { plan, collector: loader.collector, kept_relations: loader.kept_relations }
}

/// Everything the files say, while they are read.
struct Loader<'d> {
    context: Context,
    /// What holds instead of some tables of the files.
    exceptions: &'d Exceptions,
    /// Nothing was lost to syntax errors, so what is not there was not written.
    is_complete: bool,
    /// What is read now are tables that are kept, not files.
    is_kept: bool,
    collector: Collector,
    manager: Entries<'d>,
    defaults: Entries<'d>,
    /// The services in the order of the files, each with its keys.
    services: Vec<Declaration<'d>>,
    /// Where each service stands for the first time, by what stands there for a name.
    declared: BTreeMap<String, Origin>,
    kept_relations: BTreeMap<ServiceName, BTreeSet<String>>,
}

/// One service as it is written down.
struct Declaration<'d> {
    name: ServiceName,
    document: &'d Document<'d>,
    origin: Origin,
    entries: Entries<'d>,
    /// The rank of its last table.
    rank: u32,
    /// It is complete by itself: `[defaults]` of the files was not made for it.
    is_kept: bool,
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
                Status::Built("include") => {
                    include::check(document, key.span().start, value, &mut self.collector);
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
        let entry = Entry { document, key_start: key.span().start, value, rank: Entry::OWN };
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
            let name: &str = key.get_ref();
            if !self.is_kept && self.exceptions.kept.contains_key(name) {
                continue;
            }
            self.collector.about(Some(name));
            self.read_service(document, name, document.origin(key.span().start), value);
            self.collector.about(None);
        }
    }

    /// Reads one table of a service: its first, or one that is put over it.
    fn read_service(
        &mut self,
        document: &'d Document<'d>,
        text: &str,
        origin: Origin,
        value: &'d Value<'d>,
    ) {
        // The keys of a service are read even if its name is wrong, for the errors in them.
        let entries = self.service_entries(document, text, value);
        if let Some(first) = self.declared.get(text).cloned() {
            self.read_again(text, origin, &first, entries);
            return;
        }
        if entries.is_override() && self.is_complete {
            let message = format!("cannot override service {}: it has no table yet", quoted(text));
            let hint = "leave out override, or read the file of the first table before this one";
            let origin = entries.get("override").map(Entry::key_origin);
            self.collector.error(origin, message, Some(hint.to_owned()));
        }
        self.declared.insert(text.to_owned(), origin.clone());
        let rank = Entry::OWN;
        let reason = match ServiceName::new(text) {
            Ok(name) => {
                let is_instance = name.instance().is_some();
                let (origin, is_kept) = (origin.clone(), self.is_kept);
                self.services.push(Declaration { name, document, origin, entries, rank, is_kept });
                if !is_instance {
                    return;
                }
                "\"@\" marks an instance, which is not supported by this version".to_owned()
            }
            Err(error) => error.to_string(),
        };
        let message = format!("cannot use service name {}: {reason}", quoted(text));
        self.collector.error(Some(origin), message, None);
    }

    /// Reads a table of a service that has one already.
    fn read_again(&mut self, text: &str, origin: Origin, first: &Origin, entries: Entries<'d>) {
        let mut earlier = self.services.iter_mut().filter(|_| entries.is_override());
        if let Some(earlier) = earlier.find(|earlier| earlier.name.as_str() == text) {
            earlier.rank += 1;
            earlier.entries.override_with(entries, earlier.rank);
            return;
        }
        let message = format!("cannot define service {} twice", quoted(text));
        let hint = format!(
            "it stands for the first time at {first}; with override = true this table is put over \
             that one"
        );
        self.collector.error(Some(origin), message, Some(hint));
    }

    fn service_entries(
        &mut self,
        document: &'d Document<'d>,
        text: &str,
        value: &'d Value<'d>,
    ) -> Entries<'d> {
        let Some(table) = value.get_ref().as_table() else {
            let shown = shown(value.get_ref());
            let message =
                format!("cannot use {shown} for service {}: it takes a table", quoted(text));
            let origin = document.origin(value.span().start);
            self.collector.error(Some(origin), message, None);
            // Nothing more is asked for in what is no table.
            let mut entries = Entries::default();
            entries.meant.push("command");
            return entries;
        };
        let section = Section::Service;
        let place = Place::Service(text);
        Reader { document, section, place, collector: &mut self.collector }.entries(table)
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
        refuse_cycles(&names, &drafts, &mut self.collector);
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
        let entries = match declaration.is_kept {
            true => declaration.entries.clone(),
            false => self.defaults.overridden_by(declaration.entries.clone()),
        };
        self.collector.about(Some(declaration.name.as_str()));
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
        let mut draft = reader.read(declaration.name.clone(), directory);
        self.collector.about(None);
        let name = &declaration.name;
        if self.exceptions.quarantined.contains_key(name) {
            // Nothing waits for what it would wait for, so it is no part of a cycle either.
            draft.edges.clear();
            draft.after.clear();
            draft.before.clear();
        }
        if declaration.is_kept {
            let named = draft.edges.keys().chain(draft.after.keys()).chain(draft.before.keys());
            self.kept_relations.insert(name.clone(), named.cloned().collect());
        }
        draft
    }

    fn resolve(
        &mut self,
        drafts: BTreeMap<ServiceName, Draft>,
    ) -> BTreeMap<ServiceName, Arc<ServiceSpec>> {
        let services =
            Services { declared: &self.declared, drafts: &drafts, is_complete: self.is_complete };
        let mut relations = Vec::with_capacity(drafts.len());
        for draft in drafts.values() {
            self.collector.about(Some(draft.spec.name.as_str()));
            relations.push(services.resolve(draft, &mut self.collector));
            self.collector.about(None);
        }
        let finished = drafts.into_iter().zip(relations).map(|((name, draft), relations)| {
            let Relations { depends_on, after, before } = relations;
            (name, Arc::new(ServiceSpec { depends_on, after, before, ..draft.spec }))
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
