//! examples/background-jobs as it is in the repository: a web program starts jobs through the
//! control socket of `keepd proxy`, and is killed; its successor knows them all.

use std::path::Path;

use keepd_model::Signal;
use keepd_testkit::{
    LONG, Project, Running, find_program, free_port, kill, skip, talk, wait_until,
};
use serde_json::Value;

use crate::b1700_controllers::{Watcher, assert_nothing_left, proxy_command};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/background-jobs");

/// Work that ends at once, or only when it is told to.
const WORK: &str = "case $2 in quick*) exit 0;; fail) exit 1;; *) exec sleep 1000;; esac\n";

/// The example with work of ours.
struct Site {
    project: Project,
    proxy: Running,
    port: u16,
}

impl Site {
    /// `None`, said aloud, without Python.
    fn start() -> Option<Self> {
        if find_program("python3").is_none() {
            skip("background jobs: python3 is not installed");
            return None;
        }
        let project = Project::copied_from(Path::new(EXAMPLE));
        project.write("work.sh", WORK);
        let port = free_port();
        let mut command = proxy_command(&project, &["-c", "jobs.conf", "-S", "jobs.sock"]);
        let proxy = Running::start(command.env("JOBS_PORT", port.to_string()));
        let site = Self { project, proxy, port };
        site.wait_for_listener(1);
        Some(site)
    }

    /// Waits until the web program has begun to listen for the `count`th time.
    #[track_caller]
    fn wait_for_listener(&self, count: usize) {
        self.proxy.stdout().wait_for("a listener", LONG, |text| {
            (text.matches("listens on").count() >= count).then_some(())
        });
    }

    /// Returns the status and the body of an answer.
    #[track_caller]
    fn ask(&self, request: &str, headers: &str, body: &str) -> (u16, String) {
        let text = format!(
            "{request} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let answer = talk(self.port, &text).expect("the web program answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("an answer has a status"), body.to_owned())
    }

    #[track_caller]
    fn json(&self, request: &str, status: u16) -> Value {
        let (found, body) = self.ask(request, "", "");
        assert_eq!(found, status, "{body}");
        serde_json::from_str(&body).expect("answers are JSON")
    }

    /// Starts a job, and returns its name.
    #[track_caller]
    fn submit(&self, owner: &str, argument: &str) -> String {
        let form = format!("owner={owner}&queue=thumbs&argument={argument}");
        let (status, body) = self.ask("POST /jobs", "", &form);
        assert_eq!(status, 201, "{body}");
        let job: Value = serde_json::from_str(&body).unwrap();
        let name = job["name"].as_str().expect("a job has a name").to_owned();
        assert!(name.len() <= 31, "{name} is too long for the proxy");
        name
    }

    /// Waits until a job has ended, and returns it.
    #[track_caller]
    fn wait_for_end(&self, name: &str) -> Value {
        wait_until("the end of a job", LONG, || {
            let job = self.json(&format!("GET /jobs/{name}"), 200);
            (!job["end"].is_null()).then_some(job)
        })
    }

    #[track_caller]
    fn refused(&self, request: &str, headers: &str, body: &str, status: u16, words: &str) {
        let (found, answer) = self.ask(request, headers, body);
        assert_eq!(found, status, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("answers are JSON");
        let error = answer["error"].as_str().expect("it says why");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn jobs_outlive_the_program_that_started_them() {
    let Some(site) = Site::start() else {
        return;
    };
    let long = site.submit("alice", "album");
    let quick = site.submit("alice", "quick+%3C1%3E");
    let fail = site.submit("bob", "fail");
    let mut watcher = Watcher::new(&site.project.path("jobs.sock"));
    let job = watcher.pid(&long);
    let web = watcher.pid("web");
    kill(web);
    watcher.next_pid("web", web);
    site.wait_for_listener(2);

    // Its successor knows how they ended, and that one still runs.
    let ended = site.wait_for_end(&quick);
    assert_eq!((&ended["state"], &ended["end"]), (&"done".into(), &"exit 0".into()));
    assert_eq!((&ended["owner"], &ended["queue"]), (&"alice".into(), &"thumbs".into()));
    assert_eq!(ended["argument"], "quick <1>");
    let ended = site.wait_for_end(&fail);
    assert_eq!((&ended["state"], &ended["end"]), (&"failed".into(), &"exit 1".into()));
    assert_eq!(site.json(&format!("GET /jobs/{long}"), 200)["state"], "running");
    assert_eq!(watcher.pid(&long), job);
    let of_alice = site.json("GET /jobs?owner=alice", 200);
    assert_eq!(of_alice.as_array().map(Vec::len), Some(2), "{of_alice}");
    let (status, page) = site.ask("GET /", "", "");
    assert_eq!(status, 200);
    assert!(page.contains("<td>quick &lt;1&gt;</td>"), "{page}");

    // What runs is kept; what has ended is forgotten.
    site.refused(&format!("DELETE /jobs/{long}"), "", "", 409, "the proxy says: ");
    let (status, body) = site.ask(&format!("POST /jobs/{long}/stop"), "", "");
    assert_eq!(status, 303, "{body}");
    assert_eq!(site.wait_for_end(&long)["end"], "signal SIGTERM");
    let deleted = site.json(&format!("DELETE /jobs/{long}"), 200);
    assert_eq!(deleted["deleted"][0], long);
    let deleted = site.json("DELETE /jobs?older=0", 200);
    assert_eq!(deleted["deleted"].as_array().map(Vec::len), Some(2), "{deleted}");
    assert_eq!(site.json("GET /jobs", 200).as_array().map(Vec::len), Some(0));

    // TERM starts stop.sh, which also ends a job that has only begun.
    site.submit("alice", "album");
    let Site { project, proxy, .. } = site;
    proxy.signal(Signal::TERM);
    proxy.wait().expect_code(0);
    assert_nothing_left(&project);
}

#[test]
fn what_cannot_be_passed_on_is_refused() {
    let Some(site) = Site::start() else {
        return;
    };
    let form = |argument: &str| format!("owner=alice&queue=thumbs&argument={argument}");
    site.refused("POST /jobs", "", &form("a%09b"), 400, "no control characters");
    site.refused("POST /jobs", "", &form("a%0Aterminate%0A"), 400, "no control characters");
    site.refused("POST /jobs", "", &form(&"x".repeat(201)), 400, "1 to 200 bytes");
    site.refused("POST /jobs", "", "owner=a%20b&queue=thumbs&argument=x", 400, "owner: ");
    site.refused("POST /jobs", "", "owner=alice&queue=sh&argument=x", 400, "queue: one of");
    site.refused("POST /jobs", "", &"x".repeat(5000), 413, "at most 4096 bytes");
    let foreign = "Origin: http://elsewhere.example\r\n";
    site.refused("POST /jobs", foreign, &form("album"), 403, "another place");
    // Services that are no jobs are none of its business.
    site.refused("DELETE /jobs/web", "", "", 404, "no job \"web\"");
    site.refused("POST /jobs/stop/stop", "", "", 404, "no job \"stop\"");
    assert_eq!(site.json("GET /jobs", 200).as_array().map(Vec::len), Some(0));
    let Site { project, proxy, .. } = site;
    proxy.signal(Signal::INT);
    proxy.wait().expect_code(0);
    assert_nothing_left(&project);
}
