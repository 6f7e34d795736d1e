//! The verbs that ask, wait and look ahead: `signal`, `wait`, `is`, `events`, `history`, `diff`,
//! `apply --plan`, `show`, `shutdown` and `completions`.
//! (behaviour 13.1, 13.2, 13.3, 13.4, 13.5, 13.6)

use std::fs;
use std::path::Path;

use keepd_model::Signal;
use keepd_testkit::{
    LONG, Project, Running, find_program, keepd_program, kill, skip, wait_for_end, wait_until,
};
use serde_json::Value;

const CONFIGURATION: &str = r#"
[defaults]
ready.notify = true
[services.db]
command = "${TEST_SERVICE} --ready 0"
[services.web]
command = "${TEST_SERVICE} --ready 0 --say-variable COLOR"
env = { COLOR = "red" }
depends_on = ["db"]
[services.migrate]
kind = "oneshot"
command = "true"
ready.notify = false
[services.extra]
command = "${TEST_SERVICE} --ready 0"
enabled = false
"#;

fn manager(project: &Project) -> u32 {
    let pid = wait_until("the version of the manager", LONG, || {
        let answer = project.api().get("/v1/version").ok()?;
        (answer.status == 200).then(|| answer.json()["pid"].as_u64())?
    });
    u32::try_from(pid).unwrap()
}

#[test]
fn a_signal_reaches_the_main_process_or_all_of_them() {
    let project = Project::new(
        r#"
[services.shell]
shell = true
command = '''
trap 'echo main got it' USR1
sh -c 'trap "echo child got it" USR1; while :; do sleep 1000 & wait; done' &
while :; do wait; done
'''
ready.delay = "0s"
"#,
    );
    let _up = project.up_and_ready();
    let heard = |text: &str, count: usize| {
        wait_until(text, LONG, || {
            let log = String::from_utf8_lossy(&project.out_log("shell")).into_owned();
            (log.matches(text).count() == count).then_some(log)
        })
    };
    // Until a shell has set its trap, USR1 ends it; the kernel tells which signals it catches.
    let catches_usr1 = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let mask = u64::from_str_radix(caught.trim(), 16).ok()?;
        (mask & 1 << (Signal::USR1.get() - 1) != 0).then_some(())
    };
    let main = project.pid("shell");
    wait_until("the trap of the shell", LONG, || catches_usr1(main));
    let sent = project.keepd(["signal", "USR1", "shell"]).expect_code(0);
    assert_eq!((sent.stdout.as_str(), sent.stderr.as_str()), ("", ""));
    let log = heard("main got it", 1);
    assert!(!log.contains("child"), "{log}");
    wait_until("the trap of the child", LONG, || {
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).ok()?;
        catches_usr1(children.split_whitespace().next()?.parse().ok()?)
    });
    // The `sleep` of the child is a process of the service, too, and has no trap: it ends, and the
    // loop starts another one.
    project.keepd(["signal", "SIGUSR1", "shell", "--all"]).expect_code(0);
    heard("main got it", 2);
    heard("child got it", 1);
    assert_eq!(project.pid("shell"), main);
}

#[test]
fn a_signal_that_cannot_be_sent_is_refused() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let web = project.pid("web");
    let stopped = project.keepd(["signal", "TERM", "web", "extra"]).expect_code(3);
    assert!(stopped.stderr.contains("\"extra\""), "{}", stopped.stderr);
    assert_eq!(project.pid("web"), web, "none is signalled if one cannot be");
    let wrong = project.keepd(["signal", "TREM", "web"]).expect_code(100);
    assert!(wrong.stderr.contains("the nearest signal is \"TERM\""), "{}", wrong.stderr);
    project.keepd(["signal", "TERM", "wbe"]).expect_code(4);
}

#[test]
fn a_wait_ends_when_it_is_there_or_hopeless_or_late() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    project.keepd(["wait", "db", "web", "migrate"]).expect_code(0);
    project.keepd(["wait", "migrate", "done"]).expect_code(0);
    project.keepd(["wait", "--for", "ready", "d*"]).expect_code(0);
    let hopeless = project.keepd(["wait", "db", "extra", "ready"]).expect_code(1);
    assert_eq!(
        hopeless.stderr,
        "keepd: cannot wait until service \"extra\" is ready: it is stopped\n"
    );
    let late = project.keepd(["wait", "web", "stopped", "-t", "50ms"]).expect_code(124);
    assert!(late.stderr.contains("web is ready"), "{}", late.stderr);
    project.keepd(["wait", "wbe"]).expect_code(4);
    let answer = project.keepd(["wait", "db", "extra", "-o", "json"]).expect_code(1).json();
    assert_eq!(answer["services"][0]["reached"], true);

    project.keepd(["start", "extra"]).expect_code(0);
    project.keepd(["wait", "all"]).expect_code(0);
}

#[test]
fn a_wait_outlasts_the_manager() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let mut waiting = project.start_keepd(["wait", "web", "stopped"]);
    for _ in 0..3 {
        let pid = manager(&project);
        kill(pid);
        wait_for_end(pid, LONG);
        wait_until("another manager", LONG, || (manager(&project) != pid).then_some(()));
        assert!(waiting.is_running());
    }
    project.keepd(["stop", "web"]).expect_code(0);
    waiting.wait().expect_code(0);
}

#[test]
fn is_answers_by_its_exit_code() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    for (words, code) in [
        (&["is", "web", "ready"][..], 0),
        (&["is", "web", "db", "migrate", "ready"], 0),
        (&["is", "web", "stopped"], 1),
        (&["is", "extra", "ready"], 3),
        (&["is", "web", "extra", "ready"], 3),
        (&["is", "wbe", "ready"], 4),
        (&["is", "web", "raedy"], 100),
        (&["is", "web"], 100),
    ] {
        let answer = project.keepd(words).expect_code(code);
        assert_eq!(answer.stdout, "", "{words:?}");
        assert_eq!(answer.stderr.is_empty(), code < 4, "{words:?}: {}", answer.stderr);
    }
    let why = project.keepd(["is", "extra", "ready", "-v"]).expect_code(3);
    assert!(why.stderr.contains("service \"extra\" is stopped, not ready"), "{}", why.stderr);
    let json = project.keepd(["is", "extra", "ready", "-o", "json"]).expect_code(3).json();
    assert_eq!((&json["yes"], &json["services"][0]["state"]), (&false.into(), &"stopped".into()));
}

#[test]
fn events_are_told_again_and_further_over_the_end_of_a_manager() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let stored = project.keepd(["events"]).expect_code(0);
    assert!(stored.stdout.lines().any(|line| line.contains("Z web is ready (")));
    let some = project.keepd(["events", "--since", "10m", "db"]).expect_code(0);
    assert!(some.stdout.lines().count() > 0);
    assert!(some.stdout.lines().all(|line| line.contains("Z db ")), "{}", some.stdout);
    let none = project.keepd(["events", "--since", "2099-01-01T00:00:00Z"]).expect_code(0);
    assert_eq!(none.stdout, "");
    let first = project.keepd(["events", "-o", "json"]).expect_code(0);
    let first: Value = serde_json::from_str(first.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["sequence"], 1);
    project.keepd(["events", "--since", "yesterday"]).expect_code(100);

    let follow = project.start_keepd(["events", "-f", "--since", "1h"]);
    follow.stdout().wait_for_line("what is stored", LONG, |line| line.contains("web is ready"));
    project.keepd(["stop", "web"]).expect_code(0);
    follow.stdout().wait_for_line("what comes", LONG, |line| line.ends_with("web is stopped"));
    kill(manager(&project));
    follow.stdout().wait_for_line("the gap", LONG, |line| line.contains("may be lost"));
    project.keepd(["start", "web"]).expect_code(0);
    follow.stdout().wait_for("what comes from the next manager", LONG, |text| {
        (text.matches("Z web is ready (").count() == 2).then_some(())
    });
    project.keepd(["down"]).expect_code(0);
    follow.wait().expect_code(0);
}

#[test]
fn the_history_has_every_run() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    project.keepd(["restart", "web"]).expect_code(0);
    kill(project.pid("web"));
    project.wait_for("the third generation of web", LONG, |services| {
        let web = services.iter().find(|service| service["name"] == "web")?;
        (web["generation"] == 3 && web["state"] == "ready").then_some(())
    });
    let table = project.keepd(["history", "web"]).expect_code(0).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("GENERATION  STARTED"), "{table}");
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[2].contains("signal KILL") && lines[3].contains("exit 0"), "{table}");
    let json = project.keepd(["history", "web", "-n", "2", "-o", "json"]).expect_code(0).json();
    let runs = json["runs"].as_array().unwrap();
    let generations: Vec<u64> = runs.iter().filter_map(|run| run["generation"].as_u64()).collect();
    assert_eq!(generations, [3, 2]);
    assert_eq!(runs[0]["cause"], "its restart policy starts it again");
    assert!(runs[0]["end"].is_null() && runs[1]["end"]["signal"] == "KILL", "{json}");
    assert_eq!(project.keepd(["history", "extra", "-q"]).expect_code(0).stdout, "");
    project.keepd(["history", "wbe"]).expect_code(4);
}

#[test]
fn a_diff_is_what_the_apply_of_its_plan_does() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let same = project.keepd(["diff"]).expect_code(0);
    assert_eq!(same.stdout, "Nothing would change.\n");
    let other = CONFIGURATION.replace("red", "blue");
    let file = project.write("other.toml", &other);
    let file = file.to_str().unwrap();
    let preview = project.keepd(["diff", file]).expect_code(1);
    assert!(preview.stdout.starts_with("~ web restart (env.COLOR)\nplan "), "{}", preview.stdout);
    project.keepd(["diff"]).expect_code(0);

    project.configure(&format!("{other}[services.new]\ncommand = \"true\"\nkind = \"oneshot\"\n"));
    let diff = project.keepd(["diff"]).expect_code(1);
    let lines: Vec<&str> = diff.stdout.lines().collect();
    let [new, web, plan] = lines.as_slice() else { panic!("{}", diff.stdout) };
    assert_eq!((*new, *web), ("+ new start", "~ web restart (env.COLOR)"));
    let plan = plan.strip_prefix("plan ").unwrap().to_owned();
    let pid = project.pid("web");

    project.configure(&other);
    let changed = project.keepd(["apply", "--plan", &plan]).expect_code(100);
    assert!(changed.stderr.contains("plan"), "{}", changed.stderr);
    assert_eq!(project.pid("web"), pid);
    let json = project.keepd(["diff", "-o", "json"]).expect_code(1).json();
    let plan = json["plan"].as_str().unwrap();
    let apply = project.keepd(["apply", "--plan", plan]).expect_code(0);
    assert!(apply.stdout.starts_with("~ web restart (env.COLOR)\n"), "{}", apply.stdout);
    assert!(apply.stdout.contains("Service \"web\" is ready ("), "{}", apply.stdout);
    assert_ne!(project.pid("web"), pid);

    project.configure("[services.web]\ncommand = 7\n");
    let broken = project.keepd(["diff"]).expect_code(100);
    assert!(broken.stderr.starts_with("keepd.toml:2:"), "{}", broken.stderr);
}

#[test]
fn show_is_what_holds_and_what_the_kernel_says() {
    let project = Project::new(CONFIGURATION);
    let before = project.keepd(["show", "web"]).expect_code(0).stdout;
    let up = project.up_and_ready();
    let shown = project.keepd(["show", "web"]).expect_code(0).stdout;
    assert_eq!(shown, before, "without keepd it is what the file says");
    assert!(shown.contains("env.COLOR = <hidden>") && !shown.contains("\"red\""), "{shown}");
    let revealed = project.keepd(["show", "web", "--reveal", "--origin"]).expect_code(0).stdout;
    assert!(revealed.contains("env.COLOR = \"red\"  # keepd.toml:8"), "{revealed}");
    assert!(project.keepd(["show"]).expect_code(0).stdout.contains("[services.extra]"));
    project.keepd(["show", "wbe"]).expect_code(4);

    let environment = project.keepd(["show", "web", "--env"]).expect_code(0).stdout;
    assert!(environment.contains("COLOR=<hidden>\n"), "{environment}");
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(names.is_sorted(), "{environment}");
    let environment = project.keepd(["show", "web", "--env", "--reveal"]).expect_code(0).stdout;
    assert!(environment.contains("COLOR=red\n"), "{environment}");

    let actual = project.keepd(["show", "web", "--actual"]).expect_code(0).stdout;
    assert!(!actual.lines().any(|line| line.starts_with('!')), "{actual}");
    assert!(actual.contains(&project.pid("web").to_string()), "{actual}");
    project.keepd(["show", "extra", "--actual"]).expect_code(3);
    // What is in force changes, and the process does not.
    project.configure(&CONFIGURATION.replace("red", "blue"));
    let apply = project.keepd(["apply", "--no-restart"]).expect_code(0);
    assert_eq!(apply.stdout, "~ web not restarted (env.COLOR)\n");
    let status = project.keepd(["status"]).expect_code(0).stdout;
    let note = "note: not restarted since their configuration changed: web; ";
    assert!(status.lines().any(|line| line.starts_with(note)), "{status}");
    let page = project.keepd(["status", "web"]).expect_code(0).stdout;
    assert!(page.contains("its configuration is newer than its process"), "{page}");
    let actual = project.keepd(["show", "web", "--actual", "--reveal"]).expect_code(0).stdout;
    let marked: Vec<&str> = actual.lines().filter(|line| line.starts_with('!')).collect();
    let [color] = marked.as_slice() else { panic!("{actual}") };
    assert!(
        color.contains("env.COLOR") && color.ends_with("red  (a start would give it blue)"),
        "{color}"
    );
    project.configure(&CONFIGURATION.replace("red", "green"));
    let words = ["apply", "--no-restart", "-o", "json"];
    let change: Value = serde_json::from_str(&project.keepd(words).expect_code(0).stdout).unwrap();
    assert_eq!(change["result"]["verb"], "apply");
    assert_eq!(change["steps"][0]["action"], "marked");
    drop(up);
}

#[test]
fn a_shutdown_is_the_end_of_everything() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    let reboot = project.keepd(["shutdown", "--reboot"]).expect_code(100);
    assert!(reboot.stderr.contains("process 1"), "{}", reboot.stderr);
    let end = project.keepd(["shutdown"]).expect_code(0);
    for name in ["db", "web"] {
        let line = format!("Service \"{name}\" ");
        assert!(end.stdout.contains(&line), "{}", end.stdout);
    }
    up.wait().expect_code(0);
    project.assert_nothing_left();
    assert!(project.keepd(["shutdown"]).expect_code(0).stdout.contains("Nothing runs"));
}

/// Returns what bash offers for the last of these words.
fn offered(project: &Project, script: &Path, words: &[&str]) -> Vec<String> {
    let line = words.join("' '");
    let last = words.len();
    let code = format!(
        "source '{}'\ncomplete -p keepd >/dev/null || exit 9\nCOMP_WORDS=('{}' '{line}')\n\
         COMP_CWORD={last}\n_keepd\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        script.display(),
        keepd_program().display(),
    );
    let mut bash = project.command("bash");
    let end = Running::start(bash.args(["--norc", "-c", &code])).wait().expect_code(0);
    assert_eq!(end.stderr, "");
    end.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_names_of_services_that_run() {
    let project = Project::new(CONFIGURATION);
    let script = project.keepd(["completions", "bash"]).expect_code(0).stdout;
    let script = project.write("keepd.bash", script);
    assert_eq!(offered(&project, &script, &["sta"]), ["status", "start"]);
    assert!(offered(&project, &script, &["start", ""]).is_empty(), "nothing runs");
    let _up = project.up_and_ready();
    let names = ["db", "extra", "migrate", "web"];
    assert_eq!(offered(&project, &script, &["start", ""]), names);
    assert_eq!(offered(&project, &script, &["-o", "json", "start", "w"]), ["web"]);
    assert_eq!(offered(&project, &script, &["is", "web", "stopp"]), ["stopped", "stopping"]);
    assert_eq!(offered(&project, &script, &["signal", "USR"]), ["USR1", "USR2"]);
    assert_eq!(offered(&project, &script, &["start", "--al"]), ["--alone"]);
    assert_eq!(offered(&project, &script, &["completions", "z"]), ["zsh"]);
    // The options that say which keepd is meant are passed on.
    let elsewhere = ["-c", "/nowhere/keepd.toml", "start", ""];
    assert!(offered(&project, &script, &elsewhere).is_empty());
}

#[test]
fn fish_completes_names_of_services_that_run() {
    if find_program("fish").is_none() {
        skip("fish completes nothing here: it is not installed");
        return;
    }
    let project = Project::new(CONFIGURATION);
    let script = project.keepd(["completions", "fish"]).expect_code(0).stdout;
    let script = project.write("keepd.fish", script);
    let _up = project.up_and_ready();
    let offered = |line: &str| -> Vec<String> {
        let folder = keepd_program().parent().unwrap().display().to_string();
        let code =
            format!("set -p PATH '{folder}'\nsource '{}'\ncomplete -C '{line}'", script.display());
        let mut fish = project.command("fish");
        let end = Running::start(fish.args(["--no-config", "-c", &code])).wait().expect_code(0);
        let words = end.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default());
        words.map(str::to_owned).collect()
    };
    assert_eq!(offered("keepd start "), ["db", "extra", "migrate", "web"]);
    assert_eq!(offered("keepd is web stopp"), ["stopped", "stopping"]);
    assert!(offered("keepd -c /nowhere/keepd.toml start ").is_empty());
}

#[test]
fn the_other_shells_take_their_scripts() {
    let project = Project::new("");
    for (shell, words) in [("zsh", ["-n"]), ("fish", ["--no-execute"])] {
        let script = project.keepd(["completions", shell]).expect_code(0).stdout;
        let script = project.write(&format!("keepd.{shell}"), script);
        if find_program(shell).is_none() {
            skip(&format!("the script for {shell} is not checked: {shell} is not installed"));
            continue;
        }
        let mut command = project.command(shell);
        Running::start(command.args(words).arg(script)).wait().expect_code(0);
    }
    for shell in ["elvish", "powershell"] {
        let script = project.keepd(["completions", shell]).expect_code(0).stdout;
        assert!(script.contains("restart"), "{shell}");
    }
    project.keepd(["completions", "csh"]).expect_code(100);
}
