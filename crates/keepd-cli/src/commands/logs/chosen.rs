//! Which logs are meant.

use std::collections::BTreeSet;

use keepd_manager::api::types::ServicesObject;
use keepd_manager::logs::{Run, ServiceLog};
use keepd_model::{Kind, Plan, ServiceName};

use crate::client::{Client, block_on};
use crate::error::{CliError, ErrorKind};
use crate::log_places::LogPlaces;
use crate::place::Place;
use crate::selector::{exact_name, select};

/// Returns the logs that are meant; a group means its members. A service without a log is only an
/// error if it was named.
pub(super) fn chosen(
    places: &LogPlaces,
    selectors: &[String],
) -> Result<Vec<ServiceLog>, CliError> {
    let selected = select(places.plan(), selectors)?;
    let mut logs = Vec::new();
    for name in with_members(places.plan(), selected) {
        match places.log(&name) {
            Ok(log) => logs.push(log),
            Err(error) if exact_name(selectors) == Some(name.as_str()) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(logs)
}

/// Returns these services, with members in the place of groups.
fn with_members(plan: &Plan, names: Vec<ServiceName>) -> BTreeSet<ServiceName> {
    let mut services = BTreeSet::new();
    let mut groups = BTreeSet::new();
    let mut queue = names;
    while let Some(name) = queue.pop() {
        match plan.services.get(&name) {
            Some(spec) if spec.kind == Kind::Group => {
                let members = spec.depends_on.keys().cloned();
                if groups.insert(name) {
                    queue.extend(members);
                }
            }
            Some(_) | None => {
                services.insert(name);
            }
        }
    }
    services
}

/// Returns for each log the run before the present one: of a service that does not run, its last
/// one.
///
/// # Errors
/// A keepd is there and does not say what runs.
pub(super) fn previous(
    place: &Place,
    logs: Vec<ServiceLog>,
) -> Result<Vec<(ServiceLog, Run)>, CliError> {
    let running = running(place)?;
    let run_of = |log: &ServiceLog| {
        if running.contains(log.name.as_str()) { Run::BeforeLast } else { Run::Last }
    };
    Ok(logs.into_iter().map(|log| (log.clone(), run_of(&log))).collect())
}

/// Returns the services that have a process. Where no keepd runs there is none.
fn running(place: &Place) -> Result<BTreeSet<String>, CliError> {
    let client = Client::new(place);
    let answer: Result<ServicesObject, CliError> = block_on(client.get("/v1/services"));
    match answer {
        Ok(found) => {
            let running = found.services.into_iter().filter(|service| service.pid.is_some());
            Ok(running.map(|service| service.name).collect())
        }
        Err(error) if error.kind() == ErrorKind::NoManager => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keepd_model::{CommandLine, Edge, ServiceSpec, Until};

    use super::*;

    #[test]
    fn a_group_means_its_members() {
        let name = |text: &str| ServiceName::new(text).unwrap();
        let mut plan = Plan::default();
        for text in ["db", "web"] {
            let spec = ServiceSpec::new(name(text), CommandLine::Words(Vec::new()));
            plan.services.insert(name(text), Arc::new(spec));
        }
        for (group, members) in [("inner", &["db"][..]), ("outer", &["inner", "web"])] {
            let mut spec = ServiceSpec::group(name(group));
            for member in members {
                spec.depends_on.insert(name(member), Edge::until(Until::Ready));
            }
            plan.services.insert(name(group), Arc::new(spec));
        }
        let shown = |names: &[&str]| {
            let names = with_members(&plan, names.iter().map(|text| name(text)).collect());
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(&["outer"]), ["db", "web"]);
        assert_eq!(shown(&["inner", "db"]), ["db"]);
        assert_eq!(shown(&["web"]), ["web"]);
    }
}
