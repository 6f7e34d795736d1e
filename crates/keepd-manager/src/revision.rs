//! What a standing instance starts with when its files are not as they should be.
//!
//! At a cold start there is nothing that could be kept, so as much as possible comes up: services
//! whose own tables are good, else the last revision that was good as a whole. A project is
//! different: somebody sits in front of it, and `up` refuses a file with any error.

use std::path::Path;

use keepd_model::Plan;
use keepd_plan::{Diagnostic, Exceptions, Loaded};

use crate::accepted::{Accepted, AcceptedError};
use crate::discovery::{Discovered, Root};

/// The most names that a sentence repeats.
const NAMES_MAX: usize = 8;

/// What is said if all that is broken has no name that could be quarantined.
const LEFT_OUT: &str = "left out, because they cannot be read: some tables of the configuration; \
                        \"keepd check\" says which, \"keepd apply\" takes the corrected files";

/// What to start with.
#[derive(Debug)]
pub struct Start {
    /// The configuration that is in force from now on.
    pub accepted: Accepted,
    /// What it means.
    pub loaded: Loaded,
    /// Why it is not what the files say; empty if it is.
    pub errors: Vec<Diagnostic>,
}

impl Start {
    /// Chooses: the files as they are, else without the services that are broken, else the last
    /// good revision. `time` is now, for people.
    ///
    /// # Errors
    /// Every error, if there is no revision that could be used.
    pub fn choose(
        roots: Vec<Root>,
        found: Discovered,
        last_good_file: &Path,
        time: &str,
    ) -> Result<Self, Vec<Diagnostic>> {
        let whole = Accepted::new(false, roots, found.sources);
        let errors = match check(&whole, found.errors.clone()) {
            Ok(loaded) => return Ok(Self { accepted: whole, loaded, errors: Vec::new() }),
            Err(errors) => errors,
        };
        // Without a file that should be there nobody knows which services are meant to be.
        if found.errors.is_empty()
            && let Some(salvaged) = salvage(&whole)
        {
            let (accepted, loaded) = salvaged;
            return Ok(Self { accepted, loaded, errors });
        }
        match fall_back(whole.roots, last_good_file, &errors, time) {
            Ok((accepted, loaded)) => Ok(Self { accepted, loaded, errors }),
            Err(none) => Err(errors.into_iter().chain(none).collect()),
        }
    }
}

/// Returns what a configuration means if it has no error, those of its discovery included.
///
/// # Errors
/// All of them, by place.
pub fn check(accepted: &Accepted, found: Vec<Diagnostic>) -> Result<Loaded, Vec<Diagnostic>> {
    let mut errors = match accepted.load() {
        Ok(loaded) if found.is_empty() => return Ok(loaded),
        Ok(_) => Vec::new(),
        Err(errors) => errors,
    };
    errors.extend(found);
    errors.sort_by(|one, other| one.origin.cmp(&other.origin));
    errors.dedup();
    Err(errors)
}

/// Returns the error of a file that cannot be read, beside those of a plan.
pub fn unreadable(error: &AcceptedError) -> Diagnostic {
    Diagnostic { origin: None, message: error.chain(), hint: None }
}

/// Returns the configuration without its broken services, if that is all that is broken.
fn salvage(whole: &Accepted) -> Option<(Accepted, Loaded)> {
    let mut accepted = Accepted { salvaged: true, ..whole.clone() };
    let loaded = accepted.load().ok()?;
    let note = quarantine_note(&loaded.plan);
    accepted.notes = vec![note.unwrap_or_else(|| LEFT_OUT.to_owned())];
    Some((accepted, loaded))
}

/// Returns the sentence about the services of a plan that are quarantined, if there is one.
fn quarantine_note(plan: &Plan) -> Option<String> {
    let broken = plan.services.values().filter(|service| service.quarantine.is_some());
    quarantined(broken.map(|service| service.name.as_str()))
}

/// Returns the sentences about what an apply left out.
pub(crate) fn left_out_notes(exceptions: &Exceptions) -> Vec<String> {
    let kept = list(exceptions.kept().map(|(name, _)| name.as_str())).map(|names| {
        format!(
            "the tables from before are in force, because the configuration has errors: {names}; \
             \"keepd check\" says which, \"keepd apply\" takes the corrected files"
        )
    });
    let new = quarantined(exceptions.quarantined().map(|(name, _)| name.as_str()));
    let notes: Vec<String> = kept.into_iter().chain(new).collect();
    if notes.is_empty() { vec![LEFT_OUT.to_owned()] } else { notes }
}

fn quarantined<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    let have = if names.len() == 1 { "its table has" } else { "their tables have" };
    let names = list(names.into_iter())?;
    Some(format!(
        "quarantined: {names}: {have} errors; \"keepd why NAME\" says which, \
         \"keepd apply\" takes the corrected files"
    ))
}

/// Returns the first of these names, and how many more there are; `None` if there is none.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    let first = names.get(..NAMES_MAX).unwrap_or(&names);
    match names.len() - first.len() {
        _ if names.is_empty() => None,
        0 => Some(first.join(", ")),
        more => Some(format!("{} and {more} more", first.join(", "))),
    }
}

/// Returns the last good revision. Where there is one that cannot be used, it says why.
fn fall_back(
    roots: Vec<Root>,
    file: &Path,
    errors: &[Diagnostic],
    time: &str,
) -> Result<(Accepted, Loaded), Option<Diagnostic>> {
    let mut accepted =
        Accepted::read(file).map_err(|error| file.exists().then(|| unreadable(&error)))?;
    // What may be put in force again later is what is looked for now.
    accepted.roots = roots;
    let loaded = accepted.load().map_err(|refused| {
        let first = refused.into_iter().next();
        let why = first.map(|error| format!(": {}", error.message)).unwrap_or_default();
        let message = format!("cannot use the last good configuration{why}");
        Some(Diagnostic { origin: None, message, hint: None })
    })?;
    let because = match errors {
        [] => "the files cannot be used".to_owned(),
        [first, rest @ ..] => {
            let place = first.origin.as_ref().map(|origin| format!("{origin}: "));
            let more = match rest.len() {
                0 => String::new(),
                1 => " (and 1 more error)".to_owned(),
                more => format!(" (and {more} more errors)"),
            };
            format!("{}{}{more}", place.unwrap_or_default(), first.message)
        }
    };
    accepted.notes = vec![format!(
        "the last good configuration is in force since {time}, because {because}; \
         \"keepd apply\" takes the corrected files"
    )];
    Ok((accepted, loaded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accepted::AcceptedSource;
    use keepd_testkit::Scratch;

    const GOOD: &str = "[services.web]\ncommand = \"sleep 1\"\n";
    const NOW: &str = "2026-11-21T07:02:55.123Z";

    fn found(text: &str) -> Discovered {
        let source = AcceptedSource {
            file: "keepd.toml".into(),
            path: None,
            directory: "/etc/keepd".into(),
            text: text.into(),
        };
        Discovered { sources: vec![source], errors: Vec::new() }
    }

    fn choose(text: &str, file: &Path) -> Result<Start, Vec<Diagnostic>> {
        Start::choose(Vec::new(), found(text), file, NOW)
    }

    #[test]
    fn files_without_errors_are_taken_as_they_are() {
        let start = choose(GOOD, Path::new("/nowhere")).unwrap();
        assert!(start.accepted.is_whole() && !start.accepted.project);
        assert!(start.errors.is_empty());
        assert_eq!(start.loaded.plan.services.len(), 1);
    }

    #[test]
    fn a_broken_service_is_quarantined_and_the_others_start() {
        let text = format!("{GOOD}[services.db]\ncommand = \"db\"\nstop_timeout = 5\n");
        let start = choose(&text, Path::new("/nowhere")).unwrap();
        assert!(start.accepted.salvaged);
        let states: Vec<(&str, bool)> = start
            .loaded
            .plan
            .services
            .values()
            .map(|service| (service.name.as_str(), service.quarantine.is_some()))
            .collect();
        assert_eq!(states, [("db", true), ("web", false)]);
        let expected = "quarantined: db: its table has errors; \"keepd why NAME\" says which";
        assert!(start.accepted.notes[0].starts_with(expected), "{:?}", start.accepted.notes);
        assert_eq!(start.errors.len(), 1);
        assert_eq!(start.accepted.load().unwrap().plan, start.loaded.plan);
    }

    #[test]
    fn what_is_broken_as_a_whole_falls_back_to_the_last_good_revision() {
        let scratch = Scratch::new();
        let file = scratch.path().join("last-good.json");
        let good = Accepted::new(false, Vec::new(), found(GOOD).sources);
        for broken in ["[keepd]\nlog_level = 7\n", "[services.web\n"] {
            let _ = std::fs::remove_file(&file);
            let alone = choose(broken, &file).unwrap_err();
            assert!(!alone.is_empty());
            std::fs::write(&file, "{}").unwrap();
            let beside = choose(broken, &file).unwrap_err();
            assert_eq!(beside[..alone.len()], alone);
            assert!(beside[alone.len()].message.contains("last-good.json"), "{beside:?}");
            good.write(&file).unwrap();
            let start = choose(broken, &file).unwrap();
            assert_eq!(start.accepted.sources, good.sources);
            assert!(!start.accepted.salvaged && !start.errors.is_empty());
            let note = &start.accepted.notes[0];
            let begin = format!("the last good configuration is in force since {NOW}, because ");
            assert!(note.starts_with(&format!("{begin}keepd.toml:")), "{note}");
        }
    }

    #[test]
    fn a_missing_file_is_no_quarantine() {
        let mut found = found(GOOD);
        found.errors.push(Diagnostic {
            origin: None,
            message: "cannot include \"x.toml\"".into(),
            hint: None,
        });
        let errors = Start::choose(Vec::new(), found, Path::new("/nowhere"), NOW).unwrap_err();
        assert_eq!(errors[0].message, "cannot include \"x.toml\"");
    }
}
