//! A change of files with errors: what is broken keeps the table that it has.
//!
//! A service that runs must not be touched because somebody mistyped a key of it, and the others
//! must not wait for the correction. What such a table needs is kept with it, so that the whole is
//! as sound as files without errors are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keepd_model::{Plan, ServiceName};

use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Salvage, sort};
use crate::load::{Context, Loaded, Reading, Source, quarantine, read, reason};
use crate::render::{RenderOptions, render};

/// How often the files are read. Each time what is kept fits better to the rest; for real files
/// three times are enough.
const ROUNDS_MAX: usize = 32;

/// What stands for a file in messages about a table that is kept.
const KEPT: &str = "the table in force";

/// A table must be read again as it is.
const REVEALED: RenderOptions = RenderOptions { origins: false, reveal: true };

/// What holds instead of what files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Tables that hold instead of those of the files. `[defaults]` of the files is not put under
    /// them.
    pub(crate) kept: BTreeMap<ServiceName, Source>,
    /// Services without a table that could be used, with why.
    pub(crate) quarantined: BTreeMap<ServiceName, String>,
}

impl Exceptions {
    /// Returns exceptions that were found before: tables as [`render`] writes them with every
    /// value, and the reasons why services have none.
    pub fn new(
        kept: impl IntoIterator<Item = (ServiceName, String)>,
        quarantined: BTreeMap<ServiceName, String>,
    ) -> Self {
        let source = |(name, text)| {
            let source = source(&name, text);
            (name, source)
        };
        Self { kept: kept.into_iter().map(source).collect(), quarantined }
    }

    /// Reports whether everything is as the files say.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.quarantined.is_empty()
    }

    /// Returns the services that keep a table, and the tables.
    pub fn kept(&self) -> impl Iterator<Item = (&ServiceName, &str)> {
        self.kept.iter().map(|(name, source)| (name, source.text.as_str()))
    }

    /// Returns the services that have no table that could be used, with why.
    pub fn quarantined(&self) -> impl Iterator<Item = (&ServiceName, &str)> {
        self.quarantined.iter().map(|(name, why)| (name, why.as_str()))
    }

    /// Keeps the table that a service has, if it has one that can be used.
    fn keep(&mut self, name: &str, in_force: &Plan) -> bool {
        let old = in_force.services.get(name).filter(|old| old.quarantine.is_none());
        let Some(old) =
            old.filter(|_| !self.kept.contains_key(name) && !self.quarantined.contains_key(name))
        else {
            return false;
        };
        self.kept.insert(old.name.clone(), source(&old.name, render(old, REVEALED)));
        true
    }
}

/// Returns a table that is kept, from its text.
fn source(name: &ServiceName, text: String) -> Source {
    // Every path in it is absolute.
    Source { file: format!("{KEPT} of {name}").into(), directory: "/".to_owned(), text }
}

/// What files with errors make of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// What shall be done.
    pub loaded: Loaded,
    /// Where it is not what the files say; empty if they have no error.
    pub exceptions: Exceptions,
    /// Why: every error of what is left out, by file, line and column.
    pub errors: Vec<Diagnostic>,
}

/// Reads the files as [`load`](crate::load) does, to follow a plan that is in force. A service with
/// an error keeps its table, and so does what that table needs and the files do not have any more;
/// one without a table that can be used is quarantined.
///
/// # Errors
///
/// Returns every error where one is about more than single services, as
/// [`load_salvaging`](crate::load_salvaging) does.
pub fn load_keeping(
    sources: &[Source],
    context: &Context,
    in_force: &Plan,
) -> Result<Kept, Vec<Diagnostic>> {
    let mut exceptions = Exceptions::default();
    let mut errors: Vec<Diagnostic> = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let Reading { plan, collector, kept_relations } = read(sources, context, &exceptions);
        let salvage = collector.salvage()?;
        let broken: Vec<(ServiceName, Vec<Diagnostic>)> = salvage
            .broken
            .iter()
            .filter_map(|(name, errors)| Some((plan.services.get(name.as_str())?, errors)))
            .filter(|(spec, _)| !exceptions.quarantined.contains_key(&spec.name))
            .map(|(spec, errors)| (spec.name.clone(), errors.clone()))
            .collect();
        if broken.is_empty() {
            sort(&mut errors);
            errors.truncate(DIAGNOSTICS_MAX);
            return Ok(Kept { loaded: finish(plan, salvage, &exceptions), exceptions, errors });
        }
        let (misfits, fresh): (Vec<_>, Vec<_>) =
            broken.into_iter().partition(|(name, _)| exceptions.kept.contains_key(name));
        for (name, found) in &fresh {
            if !exceptions.keep(name.as_str(), in_force) {
                exceptions.quarantined.insert(name.clone(), reason(found));
            }
            errors.extend(found.iter().cloned());
        }
        if fresh.is_empty() {
            make_fit(misfits, &kept_relations, in_force, &mut exceptions, &mut errors);
        }
    }
    sort(&mut errors);
    Err(errors)
}

/// Keeps what these kept tables name, too, since they do not fit to the rest; gives them up if that
/// is done already.
fn make_fit(
    misfits: Vec<(ServiceName, Vec<Diagnostic>)>,
    relations: &BTreeMap<ServiceName, BTreeSet<String>>,
    in_force: &Plan,
    exceptions: &mut Exceptions,
    errors: &mut Vec<Diagnostic>,
) {
    let mut has_grown = false;
    for other in misfits.iter().filter_map(|(name, _)| relations.get(name)).flatten() {
        has_grown |= exceptions.keep(other, in_force);
    }
    if has_grown {
        return;
    }
    for (name, found) in misfits {
        exceptions.kept.remove(&name);
        exceptions.quarantined.insert(name, reason(&found));
        errors.extend(found);
    }
}

/// Reads the files again that [`load_keeping`] has read, with what it has found.
///
/// # Errors
///
/// As [`load_keeping`].
pub fn load_except(
    sources: &[Source],
    context: &Context,
    exceptions: &Exceptions,
) -> Result<Loaded, Vec<Diagnostic>> {
    let Reading { plan, collector, .. } = read(sources, context, exceptions);
    Ok(finish(plan, collector.salvage()?, exceptions))
}

fn finish(mut plan: Plan, salvage: Salvage, exceptions: &Exceptions) -> Loaded {
    let Salvage { mut warnings, broken } = salvage;
    // Nobody can correct what is kept, so nothing is said against it.
    let is_kept = |warning: &Diagnostic| {
        warning.origin.as_ref().is_some_and(|origin| origin.file.starts_with(KEPT))
    };
    warnings.retain(|warning| !is_kept(warning));
    for (name, errors) in broken {
        match plan.services.get_mut(name.as_str()) {
            Some(spec) => *spec = Arc::new(quarantine(spec, reason(&errors))),
            None => warnings.extend(errors),
        }
    }
    for (name, why) in &exceptions.quarantined {
        if let Some(spec) = plan.services.get_mut(name) {
            *spec = Arc::new(quarantine(spec, why.clone()));
        }
    }
    Loaded { plan, warnings }
}
