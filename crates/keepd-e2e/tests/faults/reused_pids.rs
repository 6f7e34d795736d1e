//! The number of a process that has ended belongs to another one (a stranger): nobody who asks for
//! the old one reaches the new one, and no stop, no new manager and no search for leftovers does.
//!
//! In a process id namespace of its own the numbers can be chosen (`ns_last_pid`).
//! (behaviour 2.3, 2.6)

use std::fs;
use std::process::{Command, Stdio};

use keepd_testkit::{
    LONG, Project, Running, figures, find_program, keepd_program, skip, wait_until,
};

use crate::instance::services;

/// A namespace in which a project runs, with its numbers from 1 on.
struct Namespace {
    /// The namespace ends with it.
    _running: Running,
    /// The number of its first process, out here.
    init: u32,
}

impl Namespace {
    /// Starts `keepd up` in a namespace of its own; says aloud where there can be none.
    fn up(project: &Project) -> Option<Self> {
        if find_program("unshare").is_none() || find_program("nsenter").is_none() {
            skip("reused process ids: there is no unshare or nsenter");
            return None;
        }
        let works =
            Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).status();
        if !works.is_ok_and(|status| status.success()) {
            skip("reused process ids: a namespace is not permitted");
            return None;
        }
        let mut command = project.command("unshare");
        // Process 1 is another one than keepd, and outlives it.
        let script = format!("{} up & wait; exec sleep 100000", keepd_program().display());
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]);
        let mut running = Running::start(&mut command);
        let init = wait_until("the first process of the namespace", LONG, || {
            let unshare = running.pid();
            let path = format!("/proc/{unshare}/task/{unshare}/children");
            fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
        });
        wait_until("an answer of the API", LONG, || {
            assert!(running.is_running(), "{}", running.stderr().text());
            project.api().get("/v1/services").ok().filter(|answer| answer.status == 200)
        });
        Some(Self { _running: running, init })
    }

    /// Returns a command that runs these words of the shell inside.
    fn shell(&self, project: &Project, script: &str) -> Command {
        // Who enters a mount namespace is in its root.
        let script = format!("cd '{}' && {script}", project.folder().display());
        let mut command = project.command("nsenter");
        command.args(["--target", &self.init.to_string(), "--pid", "--mount", "sh", "-c", &script]);
        command
    }

    /// Starts a process with this number inside, which waits.
    fn stranger(&self, project: &Project, pid: u64) -> Stranger {
        let script = format!(
            "until test \"$found\" = {pid}; do \
             test -z \"$found\" || {{ kill -KILL $found; wait $found; }} 2>/dev/null; \
             echo $(({pid} - 1)) > /proc/sys/kernel/ns_last_pid; \
             sleep 100000 & found=$!; done; echo $found; wait $found; echo ended $?"
        );
        let running = Running::start(self.shell(project, &script).stdin(Stdio::null()));
        let expected = format!("{pid}");
        running.stdout().wait_for_line("the stranger's number", LONG, |line| line == expected);
        Stranger { running }
    }

    fn keepd(&self, project: &Project, words: &str) -> (i32, String) {
        let script = format!("{} {words}", keepd_program().display());
        let output = self.shell(project, &script).output().expect("nsenter can be started");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }
}

/// A process that is none of keepd's business.
struct Stranger {
    running: Running,
}

impl Stranger {
    #[track_caller]
    fn assert_untouched(&mut self) {
        let text = self.running.stdout().text();
        assert!(self.running.is_running() && !text.contains("ended"), "it was hit: {text}");
    }
}

#[test]
fn no_signal_reaches_who_has_the_number_now() {
    const FAULT: &str = "process ids are used again";
    let keys = "command = \"${TEST_SERVICE} --ready 0\"\nready.notify = true\n\
                backoff_initial = \"1h\"\nbackoff_max = \"1h\"\n";
    let project = Project::new(&services(0..3, keys));
    let Some(inside) = Namespace::up(&project) else { return };
    let pid = |name: &str| project.service(name)["pid"].as_u64();
    for name in ["s0", "s1", "s2"] {
        project.wait_for_state(name, "ready");
    }
    // A service that has ended, and is not started again.
    let old = pid("s0").expect("it runs");
    inside.keepd(&project, "stop s0");
    let mut stranger = inside.stranger(&project, old);
    let (code, said) = inside.keepd(&project, "signal TERM s0 --all");
    assert_eq!(code, 3, "{said}");
    inside.keepd(&project, "stop s0 --kill");
    let (code, said) = inside.keepd(&project, "start s0");
    assert_eq!(code, 0, "{said}");
    assert_ne!(pid("s0"), Some(old));
    stranger.assert_untouched();

    // One that was killed. The second end in a row is followed by a delay of an hour.
    let mut others = Vec::new();
    for round in 0..2 {
        let old = project.wait_for_state("s1", "ready")["pid"].as_u64().expect("it runs");
        let (code, _) = inside.keepd(&project, "signal KILL s1");
        assert_eq!(code, 0, "round {round}");
        wait_until("its end", LONG, || (project.service("s1")["pid"] != old).then_some(()));
        others.push(inside.stranger(&project, old));
    }
    let (code, said) = inside.keepd(&project, "signal TERM s1 --all");
    assert_eq!(code, 3, "{said}");

    // The number of a manager that was killed.
    let manager =
        || project.api().get("/v1/version").ok().map(|answer| answer.json()["pid"].as_u64());
    let old = wait_until("the manager", LONG, manager).expect("it has a number");
    let script = format!("kill -KILL {old}");
    assert!(inside.shell(&project, &script).status().expect("a shell").success());
    wait_until("its successor", LONG, || (manager()? != Some(old)).then_some(()));
    others.push(inside.stranger(&project, old));

    let (code, said) = inside.keepd(&project, "down");
    assert_eq!(code, 0, "{said}");
    stranger.assert_untouched();
    others.iter_mut().for_each(Stranger::assert_untouched);
    figures::note(FAULT, "strangers untouched", &(1 + others.len()).to_string());
    project.events().check();
}
