//! Programs that tests run against. They are installed where that can be done without asking, and
//! their absence is said loudly where it cannot.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::workspace::{find_program, run};

/// A program that some tests need.
struct Need {
    program: &'static str,
    /// The Debian package that holds it.
    package: &'static str,
    skipped: &'static str,
}

const NEEDS: [Need; 7] = [
    Need {
        program: "redis-server",
        package: "redis-server",
        skipped: "the stories with a real redis-server",
    },
    Need { program: "nginx", package: "nginx", skipped: "the stories with a real nginx" },
    Need {
        program: "postgres",
        package: "postgresql",
        skipped: "the stories with a real PostgreSQL",
    },
    Need {
        program: "python3",
        package: "python3",
        skipped: "examples/web-stack, examples/background-jobs and a controller",
    },
    Need { program: "perl", package: "perl", skipped: "the controller in Perl" },
    Need { program: "zsh", package: "zsh", skipped: "the completions for zsh" },
    Need { program: "fish", package: "fish", skipped: "the completions for fish" },
];

/// Programs that `cargo xtask bench` measures beside ours.
const BENCH_NEEDS: [Need; 2] = [
    Need { program: "tini", package: "tini", skipped: "its place in the measurement \"init\"" },
    Need {
        program: "dumb-init",
        package: "dumb-init",
        skipped: "its place in the measurement \"init\"",
    },
];

/// Where Debian keeps the programs of PostgreSQL's server: in a folder for each version, not in
/// PATH.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// The file by which Debian's packages ask whether they may start their daemons.
const POLICY_FILE: &str = "/usr/sbin/policy-rc.d";

/// Our answer, 101: no.
const POLICY: &str = "#!/bin/sh\n# Made by keepd's `cargo xtask test` for the time of one \
                      apt-get; it may be deleted.\nexit 101\n";

/// Installs what tests miss, if this is Debian and we are root. Returns a line for each program
/// that is still missing, with what will be skipped for want of it.
pub(crate) fn provide() -> Vec<String> {
    provide_all(&NEEDS)
}

/// The same for what is measured beside ours.
pub(crate) fn provide_for_bench() -> Vec<String> {
    provide_all(&BENCH_NEEDS)
}

fn provide_all(needs: &[Need]) -> Vec<String> {
    let missing = || needs.iter().filter(|need| !is_installed(need.program));
    let packages: Vec<&str> = missing().map(|need| need.package).collect();
    if !packages.is_empty() && is_root() && find_program("apt-get").is_some() {
        install(&packages);
    }
    missing()
        .map(|need| {
            format!(
                "MISSING: {} is not installed, so {} will be skipped (Debian: apt-get install {})",
                need.program, need.skipped, need.package
            )
        })
        .collect()
}

fn is_installed(program: &str) -> bool {
    let of_postgresql = || {
        let versions = fs::read_dir(POSTGRESQL).ok()?;
        let found = |version: fs::DirEntry| version.path().join("bin").join(program).is_file();
        Some(versions.flatten().any(found))
    };
    find_program(program).is_some() || of_postgresql().unwrap_or(false)
}

/// Reports whether our effective user is root: the folder of a process belongs to it (proc(5)).
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Installs packages without starting what is in them. A failure is only printed: what is still
/// missing afterwards is looked at anyway.
fn install(packages: &[&str]) {
    println!("==> apt-get install {}", packages.join(" "));
    let _policy = Policy::forbid_starts();
    let steps = [vec!["update"], {
        let mut words = vec!["install", "--yes", "--no-install-recommends"];
        words.extend(packages);
        words
    }];
    for words in steps {
        let mut apt = Command::new("apt-get");
        apt.args(["--quiet", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"])
            .args(&words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        match run(&mut apt) {
            Ok(status) if status.success() => {}
            Ok(status) => eprintln!("xtask: cannot {} packages: {status}", words[0]),
            Err(failure) => eprintln!("{failure}"),
        }
    }
}

/// A policy file of ours; it goes when this does.
struct Policy {
    ours: bool,
}

impl Policy {
    /// Forbids packages to start their daemons, unless the machine has a policy of its own.
    fn forbid_starts() -> Self {
        let path = Path::new(POLICY_FILE);
        // A file of ours may be left from a run that was interrupted; it is used, and then removed.
        let ours = match fs::read_to_string(path) {
            Ok(text) => text == POLICY,
            Err(_) => {
                let written = fs::write(path, POLICY)
                    .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
                if let Err(error) = &written {
                    eprintln!("xtask: cannot write \"{POLICY_FILE}\": {error}");
                }
                written.is_ok()
            }
        };
        Self { ours }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY_FILE)
        {
            eprintln!("xtask: cannot remove \"{POLICY_FILE}\": {error}");
        }
    }
}
