//! What the kernel, the container and the user allow.

use keepd_os::cgroup::Group;
use keepd_os::ledger::{Facility, facilities};
use keepd_os::{process, users};

use super::finding::Finding;

/// What the proxy needs for itself, and for a service whose output is kept.
const DESCRIPTORS_OWN: u64 = 300;
const DESCRIPTORS_PER_SERVICE: u64 = 7;

/// Fewer services than this are a surprise to somebody.
const SERVICES_MIN: u64 = 100;

/// Looks at everything that is the same for every instance of this user.
pub(super) fn look() -> Vec<Finding> {
    let mut findings: Vec<Finding> = facilities().iter().map(facility).collect();
    findings.push(control_groups(Group::own().is_some()));
    findings.push(descriptors(process::descriptor_limit(), SERVICES_MIN));
    findings.push(other_users(process::effective_uid()));
    findings
}

fn facility(facility: &Facility) -> Finding {
    let Facility { name, is_there, without } = facility;
    if *is_there {
        return Finding::good(*name, "It is there.");
    }
    let hint = "use a newer kernel; in a container, let its seccomp profile allow the call";
    Finding::weaker(*name, *without, hint)
}

fn control_groups(are_there: bool) -> Finding {
    const NAME: &str = "control groups (version 2)";
    if are_there {
        let text = "Groups can be made: a stop ends every process of a service, whatever it did.";
        return Finding::good(NAME, text);
    }
    Finding::weaker(
        NAME,
        "None can be made here. The processes of a service are found by a variable of their \
         environment, their parents and their session; one that hides from all three is not found.",
        "mount cgroup2 and make the own group writable: Delegate=yes under systemd, a private \
         cgroup namespace with a writable /sys/fs/cgroup in a container",
    )
}

/// Says for how many services the descriptors last. `services` is how many there are to be.
pub(super) fn descriptors(limit: Option<u64>, services: u64) -> Finding {
    const NAME: &str = "descriptors";
    let Some(limit) = limit else {
        return Finding::good(NAME, "There is no limit.");
    };
    let enough = limit.saturating_sub(DESCRIPTORS_OWN) / DESCRIPTORS_PER_SERVICE;
    let text = format!(
        "The proxy may have {limit}, which is enough for about {enough} services that keep logs."
    );
    if enough >= services {
        return Finding::good(NAME, text);
    }
    Finding::weaker(
        NAME,
        format!("{text} Further ones wait until there are some again."),
        "raise the hard limit of open files: ulimit -Hn, LimitNOFILE= under systemd, --ulimit \
         nofile in a container",
    )
}

fn other_users(uid: u32) -> Finding {
    const NAME: &str = "services of other users";
    if uid == 0 {
        return Finding::good(NAME, "keepd is root here and can start them.");
    }
    let known = users::user(&uid.to_string()).ok().flatten();
    let user = match known.and_then(|user| user.name) {
        Some(name) => format!("user \"{name}\""),
        None => format!("user {uid}"),
    };
    Finding::good(NAME, format!("keepd is {user} here, and starts services as this user only."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_facility_is_said_with_what_is_different() {
        let mut clone = Facility { name: "clone3", is_there: true, without: "It is slower." };
        assert_eq!(facility(&clone).lines(), ["ok      clone3: It is there."]);
        clone.is_there = false;
        let lines = facility(&clone).lines();
        assert_eq!(lines[0], "weaker  clone3: It is slower.");
        assert!(lines[1].starts_with("        hint: use a newer kernel;"), "{lines:?}");
    }

    #[test]
    fn descriptors_are_counted_in_services() {
        assert!(descriptors(None, 1_000_000).ok);
        assert!(descriptors(Some(1024), 100).ok);
        let few = descriptors(Some(1024), 1000);
        assert!(!few.ok);
        assert!(few.text.contains("enough for about 103 services"), "{}", few.text);
        assert!(!descriptors(Some(24), 1).ok);
    }

    #[test]
    fn without_control_groups_the_weaker_way_is_said() {
        assert!(control_groups(true).ok);
        let finding = control_groups(false);
        assert!(!finding.ok && finding.hint.is_some());
    }

    #[test]
    fn every_finding_of_this_machine_is_a_sentence() {
        for finding in look() {
            assert!(finding.text.ends_with('.'), "{finding:?}");
            assert_eq!(finding.ok, finding.hint.is_none(), "{finding:?}");
        }
    }
}
