//! `keepd run`: an instance of no project, started with what is good in its files.
//! (behaviour 10.14, 15.1, 15.2, 15.3, 15.4, 15.5, 15.6, 15.7, 15.8, 15.9, 15.10)
//! (behaviour 15.11, 15.13)
//!
//! It is the user instance here, with the home of the test: the system instance is the same program
//! with other folders, and a machine has only one of them.

use std::path::PathBuf;
use std::process::Command;

use keepd_model::Signal;
use keepd_testkit::{Api, Finished, LONG, Project, Running, keepd_program, skip, wait_until};
use serde_json::Value;

const SERVICE: &str = "command = \"${TEST_SERVICE} --ready 0\"\nready.notify = true\n";

fn service(name: &str) -> String {
    format!("[services.{name}]\n{SERVICE}")
}

/// A user's folders, with a keepd of no project in them.
struct User {
    project: Project,
}

impl User {
    /// Makes a user with this `keepd.toml`.
    fn new(configuration: &str) -> Self {
        let user = Self { project: Project::new("") };
        // No project: what a user means outside of all projects is asked here.
        std::fs::remove_file(user.project.path("keepd.toml")).unwrap();
        user.configure("keepd.toml", configuration);
        user
    }

    fn configure(&self, name: &str, text: &str) {
        self.project.write(&format!("../home/.config/keepd/{name}"), text);
    }

    fn state_dir(&self) -> PathBuf {
        self.project.path("../home/.local/state/keepd")
    }

    fn run_dir(&self) -> PathBuf {
        self.project.path("../run/user")
    }

    fn api(&self) -> Api {
        Api::new(self.run_dir().join("keepd.sock"))
    }

    /// Runs a verb for the user instance.
    fn keepd(&self, words: &[&str]) -> Finished {
        self.project.keepd(words.iter().chain(&["--user"]))
    }

    /// Starts the instance, and waits until it answers.
    fn start(&self, words: &[&str]) -> Running {
        let words = ["run", "--user"].iter().chain(words);
        let mut run = self.project.start_keepd(words);
        wait_until("an answer of the API", LONG, || {
            assert!(run.is_running(), "keepd run ended: {}", run.stderr().text());
            self.services().map(drop)
        });
        run
    }

    /// Returns what `GET /v1/services` says.
    fn services(&self) -> Option<Value> {
        let answer = self.api().get("/v1/services").ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    fn wait_for_state(&self, name: &str, state: &str) -> Value {
        wait_until(&format!("{name} to be {state}"), LONG, || {
            let services = self.services()?;
            let mut services = services["services"].as_array()?.iter();
            services.find(|one| one["name"] == name && one["state"] == state).cloned()
        })
    }

    fn notes(&self) -> Vec<String> {
        let services = self.services().expect("the API answers");
        let notes = services["notes"].as_array().expect("there is a list of notes");
        let notes = notes.iter().filter_map(Value::as_str).map(str::to_owned);
        // What the machine is too weak for is said elsewhere.
        notes.filter(|note| !note.contains("cgroup")).collect()
    }

    fn end(&self, run: Running) {
        run.signal(Signal::TERM);
        run.wait().expect_code(0);
        assert!(!self.run_dir().exists(), "the run folder is left");
    }
}

#[test]
fn it_comes_up_with_its_drop_ins_and_stays() {
    let user = User::new(&service("web"));
    user.configure("conf.d/10-more.toml", &service("more"));
    let color = "[services.web]\noverride = true\nenv.COLOR = \"blue\"\nenabled = false\n";
    user.configure("conf.d/20-web.toml", color);
    user.keepd(&["check"]).expect_code(0);
    let run = user.start(&[]);
    user.wait_for_state("more", "ready");
    user.wait_for_state("web", "stopped");
    assert_eq!(user.notes(), [""; 0]);
    let status = user.project.keepd(["status", "--user", "more"]).expect_code(0);
    assert!(status.stdout.contains("ready"), "{}", status.stdout);
    assert!(user.state_dir().join("log/more/out.log").exists());
    let last_good = user.state_dir().join("last-good.json");
    wait_until("the revision to be kept", LONG, || last_good.exists().then_some(()));

    // Nothing is wanted any more, and it stays: it is there for what comes later.
    user.keepd(&["stop", "all"]).expect_code(0);
    user.keepd(&["start", "web"]).expect_code(0);
    user.end(run);
}

#[test]
fn no_start_starts_nothing_until_it_is_asked() {
    let user = User::new(&service("web"));
    let run = user.start(&["--no-start"]);
    user.wait_for_state("web", "stopped");
    user.keepd(&["start", "web"]).expect_code(0);
    user.wait_for_state("web", "ready");
    user.end(run);
}

#[test]
fn a_second_one_is_refused() {
    let user = User::new(&service("web"));
    let run = user.start(&[]);
    let second = user.keepd(&["run"]).expect_code(111);
    assert_eq!(
        second.stderr,
        "keepd: cannot start the user instance: keepd runs it already\n\
         hint: look at it with \"keepd status --user\"\n"
    );
    user.wait_for_state("web", "ready");
    user.end(run);
}

#[test]
fn a_hang_up_applies_and_finds_new_drop_ins() {
    let user = User::new(&service("web"));
    let run = user.start(&[]);
    user.wait_for_state("web", "ready");
    user.configure("conf.d/new.toml", &service("new"));
    run.signal(Signal::HUP);
    user.wait_for_state("new", "ready");
    assert_eq!(user.wait_for_state("web", "ready")["generation"], 1);
    user.end(run);
}

#[test]
fn a_broken_service_is_quarantined_until_an_apply() {
    let user = User::new(&service("web"));
    user.configure("conf.d/db.toml", &format!("{}kolor = 1\n", service("db")));
    let run = user.start(&[]);
    user.wait_for_state("web", "ready");
    let db = user.wait_for_state("db", "failed");
    assert_eq!(db["reason"], "config");
    let [note] = user.notes().try_into().expect("there is one note");
    assert!(note.starts_with("quarantined: db: its table has errors; "), "{note}");
    let status = user.keepd(&["status"]).expect_code(0);
    assert!(status.stdout.starts_with("note: quarantined"), "{}", status.stdout);
    let why = user.keepd(&["why", "db"]).expect_code(0);
    assert!(why.stdout.contains("conf.d/db.toml:4:1: "), "{}", why.stdout);
    let end = "it stays so until its table in the file is corrected and applied\n";
    assert!(why.stdout.ends_with(end), "{}", why.stdout);
    let page = user.keepd(&["status", "db"]).expect_code(3);
    let mut facts = page.stdout.lines().filter(|line| line.starts_with("  because "));
    let because = facts.next().expect("the page says why");
    assert!(because.contains("its table cannot be used: "), "{because}");
    assert!(because.contains("conf.d/db.toml:4:1: "), "{because}");
    assert!(run.stderr().text().contains("conf.d/db.toml:4:1: "), "{}", run.stderr().text());
    // What is not good as a whole is nothing to fall back to.
    assert!(!user.state_dir().join("last-good.json").exists());

    // A new manager knows it, too.
    let manager = user.api().get("/v1/version").unwrap().json()["pid"].clone();
    keepd_testkit::kill(u32::try_from(manager.as_u64().unwrap()).unwrap());
    user.wait_for_state("db", "failed");
    assert_eq!(user.notes(), std::slice::from_ref(&note));

    // An apply with an error changes nothing.
    user.configure("conf.d/more.toml", &service("more"));
    user.keepd(&["apply"]).expect_code(100);
    assert_eq!(user.notes(), [note]);

    user.configure("conf.d/db.toml", &service("db"));
    let applied = user.keepd(&["apply"]).expect_code(0);
    assert!(applied.stdout.starts_with("+ db start\n+ more start\n"), "{}", applied.stdout);
    let events = user.keepd(&["events", "db"]).expect_code(0);
    assert!(!events.stdout.contains("is stopped"), "{}", events.stdout);
    user.wait_for_state("db", "ready");
    user.wait_for_state("more", "ready");
    assert_eq!(user.notes(), [""; 0]);
    assert_eq!(user.wait_for_state("web", "ready")["generation"], 1);
    user.end(run);
}

#[test]
fn a_file_that_cannot_be_read_at_all_falls_back_to_the_last_good_one() {
    let user = User::new(&service("web"));
    let broken = format!("[keepd\n{}", service("other"));

    // There is none yet.
    user.configure("keepd.toml", &broken);
    let refused = user.keepd(&["run"]).expect_code(100);
    assert!(refused.stderr.contains("keepd.toml:1:"), "{}", refused.stderr);
    let expected = "keepd: cannot start the user instance: the configuration has ";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);

    user.configure("keepd.toml", &service("web"));
    let run = user.start(&[]);
    user.wait_for_state("web", "ready");
    let last_good = user.state_dir().join("last-good.json");
    wait_until("the revision to be kept", LONG, || last_good.exists().then_some(()));
    user.end(run);

    user.configure("keepd.toml", &broken);
    let run = user.start(&[]);
    user.wait_for_state("web", "ready");
    let [note] = user.notes().try_into().expect("there is one note");
    assert!(note.starts_with("the last good configuration is in force since "), "{note}");
    assert!(note.contains("keepd.toml:1:"), "{note}");
    user.keepd(&["apply"]).expect_code(100);
    assert_eq!(user.notes(), [note]);

    user.configure("keepd.toml", &format!("{}{}", service("web"), service("more")));
    user.keepd(&["apply"]).expect_code(0);
    user.wait_for_state("more", "ready");
    assert_eq!(user.notes(), [""; 0]);
    user.end(run);
}

#[test]
fn without_any_file_it_says_where_it_looked() {
    let user = User::new("");
    std::fs::remove_file(user.project.path("../home/.config/keepd/keepd.toml")).unwrap();
    let refused = user.keepd(&["run"]).expect_code(100);
    assert!(refused.stderr.contains("cannot find a configuration file at "), "{}", refused.stderr);
    assert!(refused.stderr.contains(".config/keepd/conf.d\""), "{}", refused.stderr);
}

#[test]
fn folders_that_cannot_be_used_are_in_the_run_folder() {
    let user = User::new(&service("web"));
    // A file is in the way, which holds for root, too.
    user.project.write("../home/.local/state/keepd", "");
    let run = user.start(&[]);
    user.wait_for_state("web", "ready");
    let warning = "keepd: warning: state is kept in ";
    assert!(run.stderr().text().contains(warning), "{}", run.stderr().text());
    assert!(user.run_dir().join("log/web/out.log").exists());
    user.keepd(&["logs", "web"]).expect_code(0);
    user.end(run);
}

#[test]
fn the_verbs_find_the_instance_that_runs() {
    let user = User::new(&service("web"));
    let missing = user.keepd(&["status"]).expect_code(111);
    assert_eq!(
        missing.stderr,
        format!(
            "keepd: cannot reach keepd of the user instance: nothing listens at \"{}\"\n\
             hint: keepd run --user\n",
            user.project.run_dir().with_file_name("user").join("keepd.sock").display()
        )
    );
    let run = user.start(&[]);
    user.wait_for_state("web", "ready");
    let socket = user.run_dir().join("keepd.sock");
    let socket = socket.to_str().unwrap();
    for words in [&["--user"][..], &["-s", socket]] {
        let words = ["status", "-v", "web"].iter().chain(words);
        let status = user.project.keepd(words).expect_code(0);
        assert!(status.stderr.contains("run/user/keepd.sock"), "{}", status.stderr);
    }
    user.end(run);
}

#[test]
fn the_system_instance_is_what_a_verb_means_outside_of_projects() {
    let project = Project::new("");
    std::fs::remove_file(project.path("keepd.toml")).unwrap();
    let folders = "[keepd]\nstate_dir = \"../state\"\nlog_dir = \"../log\"\n";
    project.write("etc/10-keepd.toml", folders);
    project.write("etc/20-web.toml", service("web"));
    let mut run = project.start_keepd(["run", "--system", "-c", "etc"]);
    let api = Api::new(project.path("../run/system/keepd.sock"));
    wait_until("an answer of the API", LONG, || {
        assert!(run.is_running(), "keepd run ended: {}", run.stderr().text());
        api.get("/v1/services").ok().filter(|answer| answer.status == 200).map(drop)
    });
    project.keepd(["wait", "web"]).expect_code(0);
    for words in [&[][..], &["--system"], &["-c", "etc"]] {
        let words = ["status", "-v", "web"].iter().chain(words);
        let status = project.keepd(words).expect_code(0);
        let expected = "keepd: using keepd of the system instance at ";
        assert!(status.stderr.starts_with(expected), "{}", status.stderr);
    }
    // A file of a project is the project's, whatever else runs.
    project.configure(&service("other"));
    let status = project.keepd(["status"]).expect_code(111);
    assert!(status.stderr.contains("for project "), "{}", status.stderr);
    let logs = project.keepd(["logs", "web", "--system"]).expect_code(0);
    assert_eq!(logs.stderr, "");
    assert!(project.path("state/last-good.json").exists() && project.path("log/web").is_dir());
    run.signal(Signal::TERM);
    run.wait().expect_code(0);
}

/// Returns a command for `sh` in a mount namespace with a /run of its own, so that the run folder
/// of root can be looked at without touching that of the machine. `before` is run there first.
/// `None` where there can be none.
fn with_own_run(project: &Project, before: &str) -> Option<Command> {
    let mut command = project.command("unshare");
    command.env_remove("KEEPD_RUN_DIR").args(["--mount", "--map-root-user"]);
    let script = format!("mount -t tmpfs tmpfs /run && {before} && exec \"$@\"");
    command.args(["sh", "-c", &script, "sh"]);
    let mut probe = project.command("unshare");
    probe.args(["--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "/run"]);
    probe.output().is_ok_and(|output| output.status.success()).then_some(command)
}

/// Runs a verb in the mount namespace of a keepd, in the folder of its project.
fn keepd_beside(project: &Project, run: &Running, words: &[&str]) -> Finished {
    let mut command = project.command("nsenter");
    let folder = project.path(".");
    command.env_remove("KEEPD_RUN_DIR").args(["--user", "--mount", "--preserve-credentials"]);
    command.arg(format!("--target={}", run.pid())).arg(format!("--wd={}", folder.display()));
    command.arg(keepd_program()).args(words);
    Running::start(&mut command).wait_for(LONG)
}

#[test]
fn an_instance_is_found_whose_files_put_its_run_folder_elsewhere() {
    let project = Project::new("");
    std::fs::remove_file(project.path("keepd.toml")).unwrap();
    let folders = "[keepd]\nrun_dir = \"../elsewhere\"\nstate_dir = \"../state\"\n\
                   log_dir = \"../log\"\n";
    project.write("etc/keepd.toml", format!("{folders}{}", service("web")));
    let Some(mut command) = with_own_run(&project, "true") else {
        skip("an instance whose run folder is elsewhere: unshare(1) cannot hide /run here");
        return;
    };
    command.arg(keepd_program()).args(["run", "--system", "-c", "etc/keepd.toml"]);
    let mut run = Running::start(&mut command);
    let socket = project.path("elsewhere/system/keepd.sock");
    wait_until("the socket of keepd", LONG, || {
        assert!(run.is_running(), "keepd run ended: {}", run.stderr().text());
        socket.exists().then_some(())
    });
    let beside = |words: &[&str]| keepd_beside(&project, &run, words);
    beside(&["--system", "wait", "web"]).expect_code(0);
    let named = ["-c", "etc/keepd.toml", "status", "-v", "web"];
    for words in [&["status", "-v"][..], &["--system", "status", "-v"], &named] {
        let status = beside(words).expect_code(0);
        let expected = "keepd: using keepd of the system instance at ";
        assert!(status.stderr.starts_with(expected), "{words:?}: {}", status.stderr);
        assert!(status.stdout.contains("ready"), "{words:?}: {}", status.stdout);
    }
    let why = beside(&["--system", "why", "web"]).expect_code(0);
    assert!(why.stdout.starts_with("web is ready"), "{}", why.stdout);

    // The same instance does not start a second time with another run folder.
    project.write("other.toml", "[keepd]\nrun_dir = \"../third\"\n");
    let refused = beside(&["run", "--system", "-c", "other.toml"]).expect_code(111);
    assert!(refused.stderr.contains("keepd runs it already, in "), "{}", refused.stderr);
    assert!(!project.path("../third/system").exists());
    project.write("plain.toml", "[keepd]\nstate_dir = \"state\"\n");
    let refused = beside(&["run", "--system", "-c", "plain.toml"]).expect_code(111);
    assert!(refused.stderr.contains("keepd runs it already, in "), "{}", refused.stderr);

    // A project may move its run folder in the file while it runs.
    project.configure("[keepd]\nrun_dir = \"../elsewhere\"\n");
    beside(&["up", "-d"]).expect_code(0);
    project.configure("");
    beside(&["status"]).expect_code(0);
    project.configure("[keepd]\nrun_dir = \"../fourth\"\n");
    beside(&["status"]).expect_code(0);
    beside(&["down"]).expect_code(0);
    let down = beside(&["down"]).expect_code(0);
    assert!(down.stdout.contains("Nothing runs"), "{}", down.stdout);

    let end = beside(&["--system", "shutdown"]).expect_code(0);
    assert!(!end.stdout.contains("Nothing runs"), "{}", end.stdout);
    run.wait_for(LONG).expect_code(0);
    assert!(!socket.parent().unwrap().exists());
}

#[test]
fn an_instance_that_cannot_be_found_elsewhere_says_so_and_runs() {
    let project = Project::new("");
    let folders = "[keepd]\nrun_dir = \"../elsewhere\"\nstate_dir = \"state\"\nlog_dir = \"log\"\n";
    project.configure(&format!("{folders}{}", service("web")));
    // A file is in the way of the usual folder, which holds for root, too.
    let Some(mut command) = with_own_run(&project, ": > /run/keepd") else {
        skip("an instance that cannot be found: unshare(1) cannot hide /run here");
        return;
    };
    command.arg(keepd_program()).args(["run", "--system", "-c", "keepd.toml"]);
    let mut run = Running::start(&mut command);
    let socket = project.path("../elsewhere/system/keepd.sock").display().to_string();
    let named = ["--system", "-c", "keepd.toml", "wait", "web"];
    wait_until("the warning", LONG, || {
        assert!(run.is_running(), "keepd run ended: {}", run.stderr().text());
        run.stderr().text().contains("hint: use -s ").then_some(())
    });
    let warning = "keepd: warning: verbs do not find this instance by themselves: cannot make ";
    assert!(run.stderr().text().contains(warning), "{}", run.stderr().text());
    wait_until("the socket of keepd", LONG, || std::fs::metadata(&socket).is_ok().then_some(()));
    keepd_beside(&project, &run, &named).expect_code(0);
    let words = ["--system", "shutdown"];
    let nothing = keepd_beside(&project, &run, &words).expect_code(0);
    let expected = "Nothing runs for the system instance: nothing listens at \"/run/keepd/";
    assert!(nothing.stdout.starts_with(expected), "{}", nothing.stdout);
    keepd_beside(&project, &run, &["-s", &socket, "shutdown"]).expect_code(0);
    run.wait_for(LONG).expect_code(0);
}

#[test]
fn as_the_first_process_it_reaps_and_shows_the_lines_of_services() {
    let project = Project::new("");
    let folders = "[keepd]\nstate_dir = \"state\"\nlog_dir = \"log\"\n";
    // The orphan of the service is reaped by keepd while the service runs.
    let web = "[services.web]\ncommand = [\"sh\", \"-c\", \"(echo orphan) & exec sleep 600\"]\n\
               ready.delay = \"0s\"\n";
    project.configure(&format!("{folders}{web}"));
    let contain = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let probe = project.command("unshare").args(contain).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("keepd as the first process: unshare(1) cannot make a namespace of processes here");
        return;
    }
    let mut unshare = project.command("unshare");
    unshare.args(contain).arg(keepd_program()).args(["run", "--system", "-c", "keepd.toml"]);
    let mut run = Running::start(&mut unshare);
    let api = Api::new(project.path("../run/system/keepd.sock"));
    wait_until("an answer of the API", LONG, || {
        assert!(run.is_running(), "keepd run ended: {}", run.stderr().text());
        api.get("/v1/services").ok().filter(|answer| answer.status == 200).map(drop)
    });
    project.keepd(["wait", "web", "--system"]).expect_code(0);
    wait_until("the line of the service", LONG, || {
        run.stdout().text().contains(" web | orphan\n").then_some(())
    });
    project.keepd(["shutdown", "--system"]).expect_code(0);
    run.wait_for(LONG).expect_code(0);
}

#[test]
fn an_apply_that_keeps_going_ends_one_quarantine_and_keeps_the_other() {
    let broken = "[services.a]\ncommand = 5\n[services.b]\ncommand = 5\n";
    let user = User::new(&format!("{broken}{}", service("web")));
    let run = user.start(&[]);
    let web = user.wait_for_state("web", "ready");
    let text = format!("{}[services.b]\ncommand = 5\n[services.web]\nx = 1\n", service("a"));
    user.configure("keepd.toml", &text);
    user.keepd(&["apply"]).expect_code(100);
    user.keepd(&["apply", "--keep-going"]).expect_code(0);
    user.wait_for_state("a", "ready");
    assert_eq!(user.wait_for_state("b", "failed")["reason"], "config");
    assert_eq!(user.wait_for_state("web", "ready")["pid"], web["pid"]);
    let notes = user.notes();
    let quarantined = notes[1].starts_with("quarantined: b: its table has errors; ");
    assert!(notes[0].contains("errors: web; ") && quarantined, "{notes:?}");
    // What is not whole is no revision to come back to.
    assert!(!user.state_dir().join("last-good.json").exists());
    user.configure("keepd.toml", &service("web"));
    user.keepd(&["apply"]).expect_code(0);
    assert_eq!(user.notes(), [""; 0]);
    user.end(run);
}
