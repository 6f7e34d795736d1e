//! examples/web-stack as it is in the repository: PostgreSQL, Redis, an application and nginx, up,
//! killed one by one, changed, and down with nothing left.
//! (behaviour 3.15, 6.3, 7.1, 8.4, 9.2, 10.8, 10.9)

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keepd_model::Signal;
use keepd_testkit::{
    LONG, Project, Running, find_program, free_port, keepd_program, kill, skip, talk, wait_for_end,
    wait_until, working_below,
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/web-stack");
const SERVERS: [&str; 4] = ["app", "cache", "database", "nginx"];

/// The stack with ports of its own.
struct Stack {
    project: Project,
    web_port: u16,
    redis_port: u16,
    ports: [u16; 4],
}

impl Stack {
    /// `None`, said aloud, if a program of it is missing.
    fn new() -> Option<Self> {
        let missing = ["redis-server", "nginx", "psql", "python3"]
            .into_iter()
            .filter(|name| find_program(name).is_none())
            .chain(postgresql_server().is_none().then_some("postgres"))
            .collect::<Vec<_>>();
        if !missing.is_empty() {
            skip(&format!("the web stack: not installed: {}", missing.join(", ")));
            return None;
        }
        let mut project = Project::copied_from(Path::new(EXAMPLE));
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let names = ["WEB_PORT", "APP_PORT", "PGPORT", "REDIS_PORT"];
        for (name, port) in names.into_iter().zip(ports) {
            project.set_variable(name, &port.to_string());
        }
        // The machine stays up; disks shared with other tests are slow.
        project.set_variable("DATABASE_FSYNC", "off");
        Some(Self { project, web_port: ports[0], redis_port: ports[3], ports })
    }

    /// Asks nginx, and returns the status line and the body.
    fn request(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let length = body.len();
        let answer = talk(
            self.web_port,
            &format!(
                "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            ),
        );
        let answer = answer.expect("nginx answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }

    #[track_caller]
    fn get(&self, path: &str) -> String {
        let (status, body) = self.request("GET", path, "");
        assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
        body
    }

    /// Writes through to PostgreSQL.
    #[track_caller]
    fn write(&self, note: &str) {
        let (status, body) = self.request("POST", "/notes", note);
        assert_eq!(status, "HTTP/1.1 201 Created", "{body}");
    }

    fn pids(&self) -> [u32; 4] {
        SERVERS.map(|name| self.project.pid(name))
    }

    /// Kills the main process of a server, and waits until it and all those that follow it are
    /// ready in other processes. Returns everything that the server had running.
    fn kill_server(&self, name: &str) -> Vec<u32> {
        let before: Vec<(&str, u32)> =
            affected_by(name).iter().map(|name| (*name, self.project.pid(name))).collect();
        let mut processes = children(self.project.pid(name));
        processes.push(self.project.pid(name));
        kill(self.project.pid(name));
        for (other, before) in before {
            let after = self.project.wait_for("the next process to be ready", LONG, |services| {
                let found = services.iter().find(|service| service["name"] == other)?;
                let next = found["state"] == "ready" && found["pid"] != before;
                next.then(|| found.clone())
            });
            // Whoever follows is asked to end.
            assert_eq!(after["last_exit"]["signal"] == "KILL", other == name, "{after}");
        }
        processes
    }

    /// Checks that each server has the user that users.toml gives it.
    fn assert_users(&self) {
        for (name, user) in SERVERS.into_iter().zip(["nobody", "redis", "postgres", "nobody"]) {
            let service = self.project.service(name);
            assert_eq!(service["user"], user, "{service}");
            let process = format!("/proc/{}", self.project.pid(name));
            assert_ne!(std::fs::metadata(process).unwrap().uid(), 0, "{name} runs as root");
        }
    }

    fn assert_nothing_left(&self) {
        self.project.assert_nothing_left();
        let left = working_below(self.project.folder());
        assert!(left.is_empty(), "processes are left: {left:?}");
        for port in self.ports {
            assert!(talk(port, "").is_err(), "somebody listens on port {port}");
        }
        for file in ["database/data/postmaster.pid", "nginx/nginx.pid"] {
            let file = self.project.path(".keepd").join(file);
            assert!(!file.exists(), "{} is left", file.display());
        }
    }
}

/// Returns who gets another process when a server is killed: itself, and whoever says so with
/// `on_stop`.
fn affected_by(name: &str) -> &'static [&'static str] {
    match name {
        "database" => &["database", "app"],
        "cache" => &["cache"],
        "app" => &["app"],
        "nginx" => &["nginx"],
        _ => panic!("there is no server \"{name}\""),
    }
}

/// Debian keeps it out of PATH.
fn postgresql_server() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.flatten().map(|version| version.path().join("bin/postgres"));
    programs.into_iter().find(|path| path.is_file()).or_else(|| find_program("postgres"))
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn the_stack_comes_up_and_comes_back_after_each_kill() {
    let Some(stack) = Stack::new() else { return };
    let up = stack.project.up_and_ready();
    for oneshot in ["prepare", "migrate"] {
        assert_eq!(stack.project.service(oneshot)["state"], "done");
    }
    // Ready means that the first request is answered.
    assert_eq!(stack.get("/"), "Notes\nvisit 1\n");
    stack.write("milk");
    assert_eq!(stack.get("/notes"), "milk\n");
    let cached = talk(stack.redis_port, "GET notes\r\nQUIT\r\n").unwrap();
    assert_eq!(cached, "$5\r\nmilk\n\r\n+OK\r\n");

    let mut notes = "milk\n".to_owned();
    for (visit, name) in ["database", "cache", "app", "nginx"].into_iter().enumerate() {
        let before = stack.pids();
        let processes = stack.kill_server(name);
        let why = stack.project.keepd(["why", name]).expect_code(0).stdout;
        assert!(why.contains("ended with signal KILL"), "{why}");
        if matches!(name, "database" | "nginx") {
            assert!(processes.len() > 2, "{name} has processes of its own: {processes:?}");
        }
        for pid in processes {
            assert!(wait_for_end(pid, Duration::ZERO), "process {pid} of {name} is left");
        }
        // Nothing was lost, and everything works again.
        assert_eq!(stack.get("/"), format!("Notes\nvisit {}\n", visit + 2));
        stack.write(name);
        notes = format!("{name}\n{notes}");
        assert_eq!(stack.get("/notes"), notes);
        // Everybody else is as it was.
        for (server, (before, after)) in SERVERS.iter().zip(before.iter().zip(stack.pids())) {
            let affected = affected_by(name).contains(server);
            assert_eq!(*before != after, affected, "{server} after a kill of {name}");
        }
    }
    stack.project.keepd(["down"]).expect_code(0);
    assert_eq!(up.wait().code(), 0);
    stack.assert_nothing_left();
}

#[test]
fn only_the_changed_service_restarts_and_data_outlives_keepd() {
    let Some(mut stack) = Stack::new() else { return };
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        stack.project.set_variable("KEEPD_CONFIG", "keepd.toml:users.toml");
    }
    let up = stack.project.up_and_ready();
    if is_root {
        stack.assert_users();
    }
    stack.write("eggs");
    let before = stack.pids();
    let file = std::fs::read_to_string(stack.project.path("keepd.toml")).unwrap();
    let changed = file.replace("[services.app]\n", "[services.app]\nenv.TITLE = \"Shopping\"\n");
    stack.project.configure(&changed);
    let apply = stack.project.keepd(["apply"]).expect_code(0);
    assert!(apply.stdout.contains("~ app restart (env.TITLE)"), "{}", apply.stdout);
    let after = stack.pids();
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..], "only the application restarts");
    assert_eq!(stack.get("/"), "Shopping\nvisit 1\n");
    assert_eq!(stack.get("/notes"), "eggs\n");

    // nginx refuses a file with an error, in words of its own, and goes on with the old one.
    let template = std::fs::read_to_string(stack.project.path("nginx.conf.in")).unwrap();
    stack.project.write("nginx.conf.in", format!("{template}nonsense\n"));
    let refused = stack.project.keepd(["reload", "nginx"]).expect_code(1);
    for expected in ["reload_command ended with exit 1: ", "[emerg]", "nginx.conf.new:"] {
        assert!(refused.stderr.contains(expected), "{expected}\n{}", refused.stderr);
    }
    let renamed = template.replace("access_log off;", "access_log off; add_header X-New yes;");
    stack.project.write("nginx.conf.in", renamed);
    stack.project.keepd(["reload", "nginx"]).expect_code(0);
    wait_until("the new configuration of nginx", LONG, || {
        let answer = talk(stack.web_port, "GET / HTTP/1.0\r\n\r\n").ok()?;
        answer.contains("X-New: yes").then_some(())
    });
    assert_eq!(stack.pids(), after, "a reload is no restart");

    stack.project.keepd(["down"]).expect_code(0);
    assert_eq!(up.wait().code(), 0);
    stack.assert_nothing_left();

    let up = stack.project.up_and_ready();
    assert!(stack.get("/").starts_with("Shopping\nvisit "));
    assert_eq!(stack.get("/notes"), "eggs\n");
    stack.project.keepd(["down"]).expect_code(0);
    assert_eq!(up.wait().code(), 0);
    stack.assert_nothing_left();
}

/// The account of the third story; it is there on every Debian, and owns nothing.
const ACCOUNT: &str = "nobody";

/// Returns a command that runs these words as [`ACCOUNT`], whose PATH lacks the folders of system
/// programs.
fn as_account(project: &Project) -> Option<Command> {
    let mut command = project.command(find_program("setpriv")?);
    command
        .args(["--reuid", ACCOUNT, "--regid", "nogroup", "--clear-groups", "--"])
        .env("PATH", "/usr/bin:/bin");
    Some(command)
}

#[test]
fn an_ordinary_account_runs_the_same_file() {
    let Some(stack) = Stack::new() else { return };
    let project = &stack.project;
    let root = project.folder().parent().expect("a project has a folder around it");
    let given =
        Running::start(project.command("chown").args(["-R", ACCOUNT]).arg(root)).wait().code() == 0;
    let command = as_account(project).filter(|_| given).and_then(|mut command| {
        let version = command.arg(keepd_program()).arg("--version");
        (Running::start(version).wait().code() == 0).then(|| as_account(project)).flatten()
    });
    let Some(mut command) = command else {
        skip("the web stack in an ordinary account: keepd cannot be run as user nobody here");
        return;
    };
    let up = Running::start(command.arg(keepd_program()).arg("up"));
    project.wait_for_state("nginx", "ready");
    stack.write("milk");
    // There are no cgroups for an account like this. What is left of a killed database hides its
    // environment and has sessions of its own, and is found and ended all the same.
    for name in ["database", "nginx"] {
        for pid in stack.kill_server(name) {
            assert!(wait_for_end(pid, Duration::ZERO), "process {pid} of {name} is left");
        }
        assert_eq!(stack.get("/notes"), "milk\n");
    }
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), 0);
    stack.assert_nothing_left();
}
