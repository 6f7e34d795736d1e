//! Processes that runs left behind: with `kill_mode = "main"` they live on after the end of their
//! run, in its leaf.

use std::collections::BTreeMap;

use keepd_engine::manager::ServiceStatus;
use keepd_model::State;
use keepd_model::protocol::leaf_name;
use keepd_os::cgroup::Group;

/// The leaves of an instance, by service.
pub(super) struct Leaves(BTreeMap<String, Vec<String>>);

impl Leaves {
    /// Reads which leaves there are of these services; none where that cannot be read.
    pub(super) fn read(group: &Group, statuses: &[ServiceStatus]) -> Self {
        let found = match statuses {
            [status] => {
                let name = status.spec.name.as_str();
                group.children_that(|leaf| service_of(leaf) == Some(name))
            }
            _ => group.children(),
        };
        let mut leaves: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for leaf in found.unwrap_or_default() {
            if let Some(service) = service_of(&leaf) {
                leaves.entry(service.to_owned()).or_default().push(leaf);
            }
        }
        Self(leaves)
    }

    /// Counts the processes of a service that belong to none of its runs that go on.
    pub(super) fn left_by(&self, group: &Group, status: &ServiceStatus) -> u64 {
        let present = present_leaf(status);
        let leaves = self.0.get(status.spec.name.as_str()).into_iter().flatten();
        let left = leaves.filter(|leaf| present.as_ref() != Some(*leaf));
        let pids = left.filter_map(|leaf| group.child(leaf).ok()?.pids().ok());
        pids.map(|pids| u64::try_from(pids.len()).unwrap_or(u64::MAX)).sum()
    }
}

/// Returns the service that a leaf belongs to. It is called `s.NAME.GENERATION`, and has `+NUMBER`
/// behind it where the service was deleted and counts its generations from 1 again.
fn service_of(leaf: &str) -> Option<&str> {
    let (name, generation) = leaf.strip_prefix("s.")?.rsplit_once('.')?;
    let generation = generation.split('+').next()?;
    generation.parse::<u64>().is_ok().then_some(name)
}

/// Returns the leaf whose processes are no leftovers.
fn present_leaf(status: &ServiceStatus) -> Option<String> {
    match status.state {
        State::Starting | State::Ready | State::Stopping | State::Stuck | State::Unknown => {
            Some(leaf_name(&status.spec.name, status.generation))
        }
        State::Stopped
        | State::Waiting
        | State::Scheduled
        | State::Backoff
        | State::Done
        | State::Failed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples::status;

    #[test]
    fn a_leaf_names_its_service() {
        for (leaf, service) in [
            ("s.web.1", Some("web")),
            ("s.a.b.12", Some("a.b")),
            ("s.web.1+77", Some("web")),
            ("s.web.x", None),
            ("s.web", None),
            ("j.5", None),
            ("own", None),
        ] {
            assert_eq!(service_of(leaf), service, "{leaf}");
        }
    }

    #[test]
    fn the_leaf_of_a_run_that_is_over_holds_leftovers() {
        let mut status = status();
        assert_eq!(present_leaf(&status), None);
        status.state = State::Stopping;
        assert_eq!(present_leaf(&status).as_deref(), Some("s.web.5"));
    }
}
