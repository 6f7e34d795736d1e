//! What is weaker for one instance: its folders, and the keepd that runs it.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use keepd_manager::Instance;
use keepd_manager::api::types::{ServicesObject, VersionObject};
use keepd_model::Pid;
use keepd_os::{file_system, ledger, proc, process};
use keepd_proxy::warden;

use super::finding::Finding;
use super::machine;
use crate::client::{Client, block_on};
use crate::error::CliError;
use crate::output::bytes;
use crate::place::Place;
use crate::top;

/// Less than this is soon full.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// How often files that change meanwhile are looked at until they count as damaged.
const LOOKS_MAX: usize = 5;

/// Looks at an instance, which need not run.
pub(super) fn look(place: &Place) -> Vec<Finding> {
    let Some(instance) = &place.instance else {
        return running(place, None);
    };
    let mut findings = vec![run_folder(&instance.run_dir)];
    findings.extend(log_folder(&instance.log_dir));
    findings.extend(ledger_files(&instance.run_dir, &instance.mark()));
    if UnixStream::connect(&place.socket).is_ok() {
        findings.extend(running(place, Some(instance)));
    } else if top::is_locked(instance) {
        findings.push(Finding::weaker(
            "keepd itself",
            format!("It runs {}, and its manager does not answer.", place.shown),
            format!("see what it says in \"{}\"", instance.own_log_file().display()),
        ));
    } else {
        findings.push(leftovers(place, instance));
    }
    findings
}

/// Returns the folder, or the nearest above it that is there.
fn nearest(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|folder| folder.is_dir())
}

fn run_folder(folder: &Path) -> Finding {
    const NAME: &str = "run folder";
    let shown = folder.display();
    let is_in_memory = nearest(folder).map(ledger::is_in_memory);
    match is_in_memory {
        Some(Ok(true)) => Finding::good(NAME, format!("\"{shown}\" is in memory.")),
        Some(Ok(false)) => Finding::weaker(
            NAME,
            format!(
                "\"{shown}\" is on a disk. What a successor of a lost proxy reads is written \
                 there with each start and end, and a full or hung disk is felt."
            ),
            "set keepd.run_dir, KEEPD_RUN_DIR or XDG_RUNTIME_DIR to a folder on a tmpfs",
        ),
        Some(Err(_)) | None => Finding::weaker(
            NAME,
            format!("What \"{shown}\" is on cannot be found out."),
            "make it a folder that this user can reach",
        ),
    }
}

fn log_folder(folder: &Path) -> Vec<Finding> {
    const NAME: &str = "log folder";
    let shown = folder.display();
    let Some(there) = nearest(folder) else {
        return Vec::new();
    };
    let place = match file_system::remote_name(there) {
        Ok(Some(system)) => Finding::weaker(
            NAME,
            format!(
                "\"{shown}\" is on {system}. While such a file system hangs, so does the proxy, \
                 and with it every service's control."
            ),
            "set keepd.log_dir to a folder on a local disk",
        ),
        Ok(None) => Finding::good(NAME, format!("\"{shown}\" is on this machine.")),
        Err(error) => Finding::weaker(
            NAME,
            format!("What \"{shown}\" is on cannot be found out: {error}."),
            "make it a folder that this user can reach",
        ),
    };
    let mut findings = vec![place];
    if let Ok(free) = file_system::free_bytes(there) {
        findings.push(room(free));
    }
    findings
}

fn room(free: u64) -> Finding {
    const NAME: &str = "room for logs";
    let text = format!("{} are free.", bytes(free));
    if free >= FREE_BYTES_MIN {
        return Finding::good(NAME, text);
    }
    let text = format!("{text} On a full disk a service that writes waits until there is room.");
    Finding::weaker(NAME, text, "make room, or set keepd.log_dir to a folder on another disk")
}

fn leftovers(place: &Place, instance: &Instance) -> Finding {
    const NAME: &str = "keepd itself";
    match top::find_leftovers(instance, None) {
        Ok(found) if found.is_empty() => {
            Finding::good(NAME, format!("Nothing runs {}.", place.shown))
        }
        Ok(found) => Finding::weaker(
            NAME,
            format!("{} processes of a lost keepd are left {}.", found.len(), place.shown),
            "keepd down --leftovers ends them",
        ),
        Err(error) => Finding::weaker(
            NAME,
            format!("What a lost keepd left {} cannot be found out: {error}.", place.shown),
            "run keepd doctor as root, or as the user who started it",
        ),
    }
}

/// Looks whether a successor could go on by what is written down in a run folder.
fn ledger_files(run_dir: &Path, instance: &str) -> Option<Finding> {
    const NAME: &str = "ledger and journal";
    let file = std::fs::symlink_metadata(run_dir.join("ledger")).ok()?;
    if file.uid() != process::effective_uid() {
        // It is for its owner alone.
        return None;
    }
    // Who reads while records are added may see a part of one.
    let mut found = warden::survivors(run_dir, instance);
    for _ in 1..LOOKS_MAX {
        if found.is_ok() {
            break;
        }
        found = warden::survivors(run_dir, instance);
    }
    let hint = "keepd down ends everything in order, and the next start begins a new one; after a \
                loss it is keepd down --leftovers";
    Some(match found {
        Ok(found) if found.unreadable == 0 => {
            let text = format!("A successor finds {} processes in it.", found.processes);
            Finding::good(NAME, text)
        }
        Ok(found) => {
            let text = format!(
                "{} words are damaged. If the proxy is lost, nobody can say whether those services \
                 run: they are neither signalled nor started again.",
                found.unreadable
            );
            Finding::weaker(NAME, text, hint)
        }
        Err(error) => {
            let text = format!(
                "No successor can use it: {error}. If the proxy is lost, every service is left as \
                 it is."
            );
            Finding::weaker(NAME, text, hint)
        }
    })
}

/// Asks the keepd that runs.
fn running(place: &Place, instance: Option<&Instance>) -> Vec<Finding> {
    match ask(place) {
        Ok((version, services)) => {
            let mut findings = vec![same_version(&version)];
            findings.extend(services.notes.iter().map(|note| of_note(note)));
            let proxy = instance.and_then(proxy_pid).and_then(|pid| proc::details(pid).ok());
            let limits = proxy.map(|details| details.limits).unwrap_or_default();
            let limit = limits.iter().find(|limit| limit.name == "Max open files");
            if let Some(limit) = limit {
                let count = u64::try_from(services.services.len()).unwrap_or(u64::MAX);
                let mut finding = machine::descriptors(limit.soft, count);
                finding.name = "descriptors of its proxy".to_owned();
                findings.push(finding);
            }
            findings
        }
        Err(error) => vec![Finding::weaker(
            "keepd itself",
            format!("It does not answer {}: {error}.", place.shown),
            "keepd doctor must run as root, or as the user who started it",
        )],
    }
}

/// A note of the manager is a clause, here it is a sentence.
fn of_note(note: &str) -> Finding {
    let mut letters = note.trim_end_matches('.').chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    let text = format!("{}{}.", first.unwrap_or_default(), letters.as_str());
    Finding::weaker("what runs", text, "keepd status says it too, and keepd why NAME says more")
}

fn ask(place: &Place) -> Result<(VersionObject, ServicesObject), CliError> {
    let client = Client::new(place);
    block_on(async {
        let version = client.get("/v1/version").await?;
        Ok((version, client.get("/v1/services").await?))
    })
}

fn proxy_pid(instance: &Instance) -> Option<Pid> {
    let text = std::fs::read_to_string(instance.proxy_pid_file()).ok()?;
    Pid::new(text.trim().parse().ok()?)
}

fn same_version(running: &VersionObject) -> Finding {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    let VersionObject { version, instance, .. } = running;
    if version == OURS {
        return Finding::good("keepd itself", format!("Version {version} runs \"{instance}\"."));
    }
    Finding::weaker(
        "keepd itself",
        format!("Version {version} runs \"{instance}\", and this is {OURS}."),
        "stop it and start it again with this version",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;

    #[test]
    fn a_folder_that_is_not_there_yet_is_where_the_nearest_above_is() {
        let scratch = Scratch::new();
        let folder = scratch.path().join("a/b");
        assert_eq!(nearest(&folder), Some(scratch.path()));
        let findings = log_folder(&folder);
        assert!(findings[0].text.contains("is on"), "{findings:?}");
        assert_eq!(findings[1].name, "room for logs");
    }

    #[test]
    fn memory_is_told_from_a_disk() {
        let proc = run_folder(Path::new("/proc"));
        assert!(!proc.ok && proc.text.contains("is on a disk"), "{proc:?}");
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            assert!(run_folder(memory).ok);
        }
    }

    #[test]
    fn little_room_is_said() {
        assert!(room(FREE_BYTES_MIN).ok);
        let finding = room(1024 * 1024);
        assert!(finding.text.starts_with("1.0MiB are free. On a full disk"), "{finding:?}");
    }

    #[test]
    fn a_note_becomes_a_sentence() {
        assert_eq!(of_note("no cgroup: weaker").text, "No cgroup: weaker.");
        assert_eq!(of_note("quarantined: web.").text, "Quarantined: web.");
    }

    #[test]
    fn another_version_is_said() {
        let version = |version: &str| VersionObject {
            version: version.to_owned(),
            instance: "app-1".to_owned(),
            pid: 7,
        };
        assert!(same_version(&version(env!("CARGO_PKG_VERSION"))).ok);
        let other = same_version(&version("0.0.1"));
        assert!(other.text.starts_with("Version 0.0.1 runs \"app-1\", and this is"), "{other:?}");
    }
}
