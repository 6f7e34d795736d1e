//! The whole manager against a stand-in for the proxy, asked over its socket.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use keepd_model::Signal;
use keepd_model::protocol::{Command, Event, Message};
use keepd_os::clock::monotonic_now;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::stand_in::StandIn;
use crate::accepted::{Accepted, AcceptedSource, ApplyAnswer};
use crate::api::types::StepObject;
use crate::console::{ColorChoice, Outputs};
use crate::discovery::Root;
use crate::run::{StartError, manage};
use crate::{Instance, Options};
use keepd_testkit::Scratch;

const TWO_SERVICES: &str = r#"
[services.db]
command = "sleep 1"
ready.notify = true

[services.web]
command = "sleep 1"
ready.notify = true
depends_on = ["db"]
reload_signal = "HUP"
"#;

/// Collects what the console writes.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shown {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A manager, its proxy and its files.
struct Stage {
    scratch: Scratch,
    proxy: StandIn,
    client: Client,
    shown: Shown,
    manager: JoinHandle<Result<u8, StartError>>,
}

impl Stage {
    /// Starts a manager with this configuration.
    fn begin(config: &str) -> Self {
        Self::begin_with(config, |_| {})
    }

    /// Starts a manager with this configuration, and what a predecessor wrote beside it.
    fn begin_with(config: &str, change: impl FnOnce(&mut Accepted)) -> Self {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        let file = scratch.write("keepd.toml", config);
        fs::create_dir(path("run")).unwrap();
        let instance = Instance {
            name: "test-1".into(),
            run_dir: path("run"),
            state_dir: path("state"),
            log_dir: path("log"),
            config_dir: scratch.path().to_owned(),
        };
        let source = AcceptedSource {
            file: "keepd.toml".into(),
            path: Some(file.to_str().unwrap().to_owned()),
            directory: scratch.path().to_str().unwrap().to_owned(),
            text: config.to_owned(),
        };
        let root = Root {
            shown: "keepd.toml".into(),
            path: file.to_str().unwrap().to_owned(),
            required: true,
        };
        let mut accepted = Accepted::new(true, vec![root], vec![source]);
        change(&mut accepted);
        accepted.write(&instance.accepted_file()).unwrap();
        let proxy = StandIn::listen(&instance.proxy_socket());
        let client = Client(instance.control_socket());
        let shown = Shown::default();
        let outputs = Outputs {
            out: Box::new(shown.clone()),
            error: Box::new(shown.clone()),
            terminal: false,
            columns: || None,
            own_file: None,
        };
        let options = Options {
            instance,
            foreground: true,
            color: ColorChoice::Never,
            only: Vec::new(),
            no_start: false,
            log_level: None,
            group: None,
        };
        let manager = tokio::spawn(manage(options, outputs));
        Self { scratch, proxy, client, shown, manager }
    }

    /// Starts a manager and lets both services become ready.
    async fn begin_ready() -> Self {
        let mut stage = Self::begin(TWO_SERVICES);
        for name in ["db", "web"] {
            let started = |command: &Command| match command {
                Command::ServiceStart { name: known, .. } => known.as_str() == name,
                _ => false,
            };
            stage.proxy.run_until(started).await;
            stage.proxy.say_ready(name).await;
        }
        let (_, boot) = stage.get("/v1/changes/1/wait?timeout=10s").await;
        assert_eq!((&boot["verb"], &boot["success"]), (&json!("boot"), &json!(true)), "{boot}");
        stage
    }

    /// Asks while the proxy goes on.
    async fn get(&mut self, path: &str) -> (u16, Value) {
        self.ask("GET", path, String::new()).await
    }

    async fn post(&mut self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, body.to_string()).await
    }

    async fn ask(&mut self, method: &str, path: &str, body: String) -> (u16, Value) {
        let client = self.client.clone();
        let (status, text) = tokio::select! {
            () = self.proxy.run() => unreachable!("it runs for ever"),
            answer = client.ask(method, path, body) => answer,
        };
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Waits until the console has shown this.
    async fn wait_until_shown(&mut self, part: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !self.shown.text().contains(part) {
            assert!(tokio::time::Instant::now() < deadline, "{}", self.shown.text());
            // Any question lets the other tasks go on, and the thread that writes.
            self.get("/livez").await;
        }
    }

    /// Waits for the end; returns the exit code.
    async fn end(mut self) -> (u8, String) {
        self.proxy.run_until(|command| matches!(command, Command::Terminate { .. })).await;
        let code = self.manager.await.unwrap().unwrap();
        (code, self.shown.text())
    }
}

/// Asks over the control socket.
#[derive(Clone)]
struct Client(PathBuf);

impl Client {
    async fn ask(&self, method: &str, path: &str, body: String) -> (u16, String) {
        let work = async {
            let stream = connect(&self.0).await;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            let connection = tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "keepd")
                .body(Full::new(Bytes::from(body)))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            connection.abort();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        tokio::time::timeout(Duration::from_secs(20), work).await.expect("an answer comes")
    }
}

/// Connects as soon as the manager listens.
async fn connect(path: &Path) -> UnixStream {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return stream,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn test(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work);
}

fn position(text: &str, part: &str) -> usize {
    text.find(part).unwrap_or_else(|| panic!("{part:?} is not in:\n{text}"))
}

#[test]
fn control_is_there_before_the_proxy_is() {
    test(async {
        let mut stage = Stage::begin(TWO_SERVICES);
        // The proxy has not accepted the connection yet.
        let (status, _) = stage.client.ask("GET", "/livez", String::new()).await;
        assert_eq!(status, 200);
        let (status, text) = stage.client.ask("GET", "/readyz", String::new()).await;
        assert_eq!(status, 503);
        assert!(text.contains("has not heard from the proxy"), "{text}");
        let (status, version) = stage.get("/v1/version").await;
        assert_eq!((status, &version["instance"]), (200, &json!("test-1")));
    });
}

#[test]
fn services_come_up_are_asked_about_and_go_down() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let (status, ready) = stage.get("/readyz").await;
        assert_eq!((status, ready), (200, json!({"status": "ok", "failing": []})));

        let (_, list) = stage.get("/v1/services").await;
        let names: Vec<_> =
            list["services"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["db", "web"]);
        let (_, web) = stage.get("/v1/services/web").await;
        assert_eq!((&web["state"], &web["pid"]), (&json!("ready"), &json!(1_001)));
        assert_eq!(web["status_text"], "at work");
        let (_, why) = stage.get("/v1/services/web/why").await;
        assert_eq!(why["lines"][0]["depth"], 0);

        let stop = json!({"action": "stop", "select": ["web"], "token": "once"});
        let (status, first) = stage.post("/v1/actions", stop.clone()).await;
        assert_eq!(status, 202, "{first}");
        let (_, again) = stage.post("/v1/actions", stop).await;
        assert_eq!(first, again, "the same token is the same change");
        let id = first["change"].as_str().unwrap();
        let (_, change) = stage.get(&format!("/v1/changes/{id}/wait?timeout=10s")).await;
        assert_eq!(change["success"], true, "{change}");
        let (_, some) = stage.get("/v1/services?select=state%3Astopped").await;
        assert_eq!(some["services"][0]["name"], "web");
        assert_eq!(some["services"][0]["last_exit"]["signal"], "TERM");
        let (status, ready) = stage.get("/readyz").await;
        assert_eq!((status, &ready["status"]), (200, &json!("ok")), "stopped by an operator");

        let (status, _) = stage.post("/v1/actions", json!({"action": "shutdown"})).await;
        assert_eq!(status, 202);
        let (code, shown) = stage.end().await;
        assert_eq!(code, 0);
        position(&shown, " keepd: db is ready (");
        position(&shown, " keepd: web: 1 start, stopped (signal TERM)\n");
        position(&shown, " keepd: ended after ");
    });
}

#[test]
fn what_cannot_be_done_is_a_problem() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let long = "x".repeat(2 * 1024 * 1024);
        let token = "x".repeat(257);
        let token = json!({"action": "stop", "select": ["web"], "token": token}).to_string();
        let cases = [
            ("GET", "/v1/services?selct=web", "", 400, "usage"),
            ("GET", "/v1/services?select=wbe", "", 404, "no-such-service"),
            ("GET", "/v1/services/wbe", "", 404, "no-such-service"),
            ("GET", "/v1/changes/99", "", 404, "no-such-change"),
            ("GET", "/v1/changes/1/wait?timeout=5", "", 400, "usage"),
            ("GET", "/v2", "", 404, "no-such-path"),
            ("POST", "/v1/services", "", 405, "usage"),
            ("POST", "/v1/actions", "{", 400, "usage"),
            ("POST", "/v1/actions", r#"{"action":"jump"}"#, 400, "usage"),
            ("POST", "/v1/actions", r#"{"action":"stop"}"#, 400, "usage"),
            (
                "POST",
                "/v1/actions",
                r#"{"action":"stop","select":["wbe"]}"#,
                404,
                "no-such-service",
            ),
            ("POST", "/v1/actions", r#"{"action":"reload","select":["db"]}"#, 409, "cannot-reload"),
            ("POST", "/v1/actions", long.as_str(), 413, "usage"),
            ("POST", "/v1/config/apply", r#"{"keep_going":1}"#, 400, "usage"),
            ("POST", "/v1/actions", token.as_str(), 400, "usage"),
            ("POST", "/v1/config/apply", r#"{"token":""}"#, 400, "usage"),
            ("POST", "/v1/config/apply", r#"{"plan":"0123456789abcdef"}"#, 409, "plan-changed"),
            ("POST", "/v1/config/diff", r#"{"source":[]}"#, 400, "usage"),
            ("GET", "/v1/wait", "", 400, "usage"),
            ("GET", "/v1/wait?select=wbe", "", 404, "no-such-service"),
            ("GET", "/v1/wait?select=web&state=up", "", 400, "usage"),
            ("GET", "/v1/services/wbe/history", "", 404, "no-such-service"),
            ("GET", "/v1/services/web/history?limit=-1", "", 400, "usage"),
            ("GET", "/v1/services/wbe/launch", "", 404, "no-such-service"),
            ("GET", "/v1/events?since=yesterday", "", 400, "usage"),
            ("GET", "/v1/events?select=wbe", "", 404, "no-such-service"),
        ];
        for (method, path, body, status, code) in cases {
            let (found, problem) = stage.ask(method, path, body.to_owned()).await;
            let found = (found, &problem["code"], &problem["status"]);
            assert_eq!(found, (status, &json!(code), &json!(status)), "{method} {path}: {problem}");
        }
    });
}

#[test]
fn who_asks_while_the_proxy_is_lost_is_answered_once_its_successor_knows() {
    // (behaviour 10.1)
    test(async {
        let mut stage = Stage::begin_ready().await;
        let body = json!({"action": "stop", "select": ["web"]}).to_string();
        let (client, proxy) = (&stage.client, &mut stage.proxy);
        let mut asking = std::pin::pin!(client.ask("POST", "/v1/actions", body));
        tokio::select! {
            biased;
            answer = &mut asking => panic!("nobody has written it down: {answer:?}"),
            () = proxy.expect("service.note") => {}
        }
        proxy.hang_up();
        let known = proxy.received.len();
        let (status, _) = tokio::select! {
            answer = &mut asking => answer,
            () = proxy.run() => unreachable!("it runs for ever"),
        };
        assert_eq!(status, 202);
        let is_change = |command: &Command| match command {
            Command::ServiceNote { key, .. } => key.starts_with("change."),
            _ => false,
        };
        assert!(proxy.received[known..].iter().any(is_change));
    });
}

#[test]
fn an_apply_is_all_or_nothing() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let accepted = stage.scratch.path().join("run/accepted.json");
        let before = fs::read(&accepted).unwrap();
        stage.scratch.write("keepd.toml", "[services.web]\ncomand = 1\n[services.db]\nx = 2\n");
        let (status, problem) = stage.post("/v1/config/apply", json!({})).await;
        assert_eq!((status, &problem["code"]), (422, &json!("config")));
        let diagnostics = problem["diagnostics"].as_array().unwrap();
        assert!(diagnostics.len() >= 2, "{problem}");
        assert_eq!(
            (&diagnostics[0]["file"], &diagnostics[0]["line"]),
            (&json!("keepd.toml"), &json!(2))
        );
        assert_eq!(fs::read(&accepted).unwrap(), before);

        let changed = TWO_SERVICES.replace("[services.db]", "[services.db]\nenv = { A = \"1\" }");
        stage.scratch.write("keepd.toml", &changed);
        let steps = |action| json!([{"name": "db", "action": action, "keys": ["env.A"]}]);
        let (status, diff) = stage.post("/v1/config/diff", json!({})).await;
        assert_eq!((status, &diff["steps"]), (200, &steps("restart")));
        let (status, applied) = stage.post("/v1/config/apply", json!({"restart": false})).await;
        assert_eq!((status, &applied["steps"]), (202, &steps("marked")), "{applied}");
        let (_, db) = stage.get("/v1/services/db").await;
        assert_eq!(db["config_changed"], true);
        let (_, config) = stage.get("/v1/config").await;
        assert_eq!(config["sources"][0]["text"], changed);
        assert_eq!(Accepted::read(&accepted).unwrap().sources[0].text, changed);
    });
}

#[test]
fn an_apply_that_is_asked_for_twice_is_answered_twice() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let changed = TWO_SERVICES.replace("[services.db]", "[services.db]\nenv = { A = \"1\" }");
        stage.scratch.write("keepd.toml", &changed);
        let request = json!({"restart": false, "token": "once"});
        let first = stage.post("/v1/config/apply", request.clone()).await;
        assert_eq!((first.0, &first.1["steps"][0]["name"]), (202, &json!("db")));
        assert_eq!(stage.post("/v1/config/apply", request).await, first);
        // Another word is another apply, for which nothing is left to do.
        let (_, other) = stage.post("/v1/config/apply", json!({"token": "again"})).await;
        assert_eq!(other["steps"], json!([]), "{other}");
    });
}

#[test]
fn an_apply_that_was_written_down_by_a_lost_manager_is_told_what_it_did() {
    test(async {
        let mut stage = Stage::begin_with(TWO_SERVICES, |accepted| {
            let (name, action) = ("db".to_owned(), "restart".to_owned());
            accepted.add_answer(ApplyAnswer {
                token: "once".to_owned(),
                steps: vec![StepObject { name, action, keys: vec!["env.A".to_owned()] }],
                warnings: Vec::new(),
                errors: Vec::new(),
            });
        });
        stage.proxy.run_until(|command| matches!(command, Command::ServiceStart { .. })).await;
        // What somebody typed since is not what was asked for.
        stage.scratch.write("keepd.toml", "[services.other]\ncommand = \"x\"\n");
        let request = json!({"token": "once", "plan": "0123456789abcdef"});
        let (status, applied) = stage.post("/v1/config/apply", request).await;
        assert_eq!((status, &applied["steps"][0]["name"]), (202, &json!("db")), "{applied}");
        let (_, config) = stage.get("/v1/config").await;
        assert_eq!(config["sources"][0]["text"], TWO_SERVICES);
    });
}

#[test]
fn an_apply_goes_on_without_its_asker() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        // Whoever reads a FIFO waits for who writes into it.
        let file = stage.scratch.path().join("keepd.toml");
        fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        let client = stage.client.clone();
        let asker =
            tokio::spawn(
                async move { client.ask("POST", "/v1/config/apply", "{}".to_owned()).await },
            );
        let open = move || fs::OpenOptions::new().write(true).open(file);
        let opened = tokio::task::spawn_blocking(open).await.unwrap();
        asker.abort();
        assert!(asker.await.unwrap_err().is_cancelled());
        // By the time this is answered the manager has seen that nobody waits any more.
        stage.get("/livez").await;
        let changed = TWO_SERVICES.replace("[services.db]", "[services.db]\nenv = { A = \"1\" }");
        opened.unwrap().write_all(changed.as_bytes()).unwrap();
        // Answered as soon as the apply is over.
        let (_, config) = stage.get("/v1/config").await;
        assert_eq!(config["sources"][0]["text"], changed);
    });
}

#[test]
fn a_preview_is_applied_only_if_it_still_holds() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let changed = TWO_SERVICES.replace("[services.db]", "[services.db]\nenv = { A = \"1\" }");
        let directory = stage.scratch.path().to_str().unwrap();
        let source = json!({"file": "keepd.toml", "directory": directory, "text": changed});
        // These texts are not in the file yet.
        let (status, diff) = stage.post("/v1/config/diff", json!({"sources": [source]})).await;
        assert_eq!((status, &diff["steps"][0]["name"]), (200, &json!("db")), "{diff}");
        let apply = json!({"restart": false, "plan": diff["plan"]});
        let (status, problem) = stage.post("/v1/config/apply", apply.clone()).await;
        assert_eq!((status, &problem["code"]), (409, &json!("plan-changed")), "{problem}");

        stage.scratch.write("keepd.toml", &changed);
        let (_, again) = stage.post("/v1/config/diff", json!({})).await;
        assert_eq!(again["plan"], diff["plan"], "the same texts are the same plan");
        let (status, applied) = stage.post("/v1/config/apply", apply).await;
        let keys = |answer: &Value| answer["steps"][0]["keys"].clone();
        assert_eq!((status, keys(&applied)), (202, keys(&diff)), "{applied}");
        let (_, after) = stage.post("/v1/config/diff", json!({})).await;
        assert_ne!(after["plan"], diff["plan"], "another configuration is in force");
        assert_eq!(after["steps"], json!([]));
    });
}

#[test]
fn states_are_waited_for() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let (status, found) = stage.get("/v1/wait?select=all").await;
        assert_eq!((status, &found["reached"]), (200, &json!(true)), "{found}");
        assert_eq!(
            found["services"][1],
            json!({
                "name": "web", "state": "ready", "reached": true, "hopeless": null
            })
        );
        let (_, late) = stage.get("/v1/wait?select=web&state=stopped&timeout=20ms").await;
        assert_eq!((&late["reached"], &late["timed_out"]), (&json!(false), &json!(true)), "{late}");
        let client = stage.client.clone();
        let waiting = tokio::spawn(async move {
            client.ask("GET", "/v1/wait?select=web&state=stopped", String::new()).await
        });
        stage.post("/v1/actions", json!({"action": "stop", "select": ["web"]})).await;
        let stopped = |command: &Command| matches!(command, Command::ServiceStop { .. });
        stage.proxy.run_until(stopped).await;
        stage.get("/v1/wait?select=web&state=stopped&timeout=10s").await;
        let (status, text) = waiting.await.unwrap();
        assert!(status == 200 && text.starts_with("{\"reached\":true,"), "{text}");
        let (_, never) = stage.get("/v1/wait?select=web&timeout=10s").await;
        let expected = (&json!(false), &json!(false), &json!("it is stopped"));
        let hopeless = &never["services"][0]["hopeless"];
        assert_eq!((&never["reached"], &never["timed_out"], hopeless), expected);
    });
}

#[test]
fn a_service_has_runs_and_a_next_start() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let (status, history) = stage.get("/v1/services/web/history?limit=1").await;
        assert_eq!((status, &history["name"]), (200, &json!("web")));
        let run = &history["runs"][0];
        assert_eq!((&run["generation"], &run["pid"]), (&json!(1), &json!(1_001)), "{run}");
        assert_eq!(run["end"], Value::Null);
        let (status, launch) = stage.get("/v1/services/web/launch").await;
        assert_eq!((status, &launch["arguments"]), (200, &json!(["sleep", "1"])), "{launch}");
        assert_eq!(launch["directory"], stage.scratch.path().to_str().unwrap());
        assert_eq!(launch["environment"]["PATH"], std::env::var("PATH").unwrap());
        assert_eq!(launch["uid"], Value::Null);
    });
}

#[test]
fn kept_events_can_be_read_without_waiting_for_more() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let (status, text) = stage.get("/v1/events?follow=false&select=db").await;
        let text = text.as_str().unwrap();
        assert_eq!(status, 200);
        position(text, "\"service\":\"db\",\"from\":\"starting\",\"to\":\"ready\"");
        assert!(!text.contains("\"service\":\"web\"") && !text.contains("change-opened"), "{text}");
        let (_, later) = stage.get("/v1/events?follow=false&since=2999-01-01T00:00:00Z").await;
        assert_eq!(later, "");
        let (_, earlier) = stage.get("/v1/events?follow=false&since=2001-01-01T00:00:00Z").await;
        position(earlier.as_str().unwrap(), "event: change-closed\n");
    });
}

#[test]
fn keys_of_keepd_itself_take_effect_at_once() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        stage.wait_until_shown("Z web | hello\n").await;
        let keys = "[keepd]\necho = \"json\"\nlog_format = \"json\"\n";
        stage.scratch.write("keepd.toml", &format!("{keys}{TWO_SERVICES}"));
        let (status, applied) = stage.post("/v1/config/apply", json!({})).await;
        assert_eq!(status, 202, "{applied}");
        stage.post("/v1/actions", json!({"action": "stop", "select": ["web"]})).await;
        stage.wait_until_shown("\"level\":\"info\",\"message\":\"web is stopped\"}\n").await;
        let goodbye =
            "\"service\":\"web\",\"stream\":\"out\",\"generation\":1,\"message\":\"goodbye\"";
        position(&stage.shown.text(), goodbye);
        stage.scratch.write("keepd.toml", &format!("[keepd]\necho = \"off\"\n{TWO_SERVICES}"));
        stage.post("/v1/config/apply", json!({})).await;
        stage.post("/v1/actions", json!({"action": "stop", "select": ["db"]})).await;
        let (_, found) = stage.get("/v1/wait?select=db&state=stopped&timeout=10s").await;
        assert_eq!(found["reached"], true, "{found}");
        // Standard error is the same place here, so only what services write tells.
        assert!(!stage.shown.text().contains(
            "\"service\":\"db\",\"stream\":\"out\",\"generation\":1,\"message\":\"goodbye\""
        ));
        stage.scratch.write("keepd.toml", &format!("[keepd]\necho = \"text\"\n{TWO_SERVICES}"));
        stage.post("/v1/config/apply", json!({})).await;
        stage.post("/v1/actions", json!({"action": "start", "select": ["db"]})).await;
        let hellos = |stage: &Stage| stage.shown.text().matches("Z db | hello\n").count();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while hellos(&stage) < 2 {
            assert!(tokio::time::Instant::now() < deadline, "{}", stage.shown.text());
            stage.get("/livez").await;
        }
    });
}

#[test]
fn hang_up_applies_and_is_cleared() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        stage.scratch.write("keepd.toml", &TWO_SERVICES.replace("sleep 1", "sleep 2"));
        let signal = Event::Signal { signal: Signal::HUP, at: monotonic_now(), count: 1 };
        stage.proxy.send(&[Message::Event(signal)]).await;
        let cleared =
            |command: &Command| *command == Command::SignalClear { signal: Signal::HUP, count: 1 };
        stage.proxy.run_until(cleared).await;
        let restarted = |command: &Command| match command {
            Command::ServiceArgs { arguments, .. } => arguments[1] == b"2",
            _ => false,
        };
        stage.proxy.run_until(restarted).await;
    });
}

#[test]
fn a_lost_proxy_is_found_again() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        stage.proxy.hang_up();
        stage.proxy.received.clear();
        stage.proxy.run_until(|command| matches!(command, Command::StateDump)).await;
        let (_, web) = stage.get("/v1/services/web").await;
        assert_eq!((&web["state"], &web["generation"]), (&json!("ready"), &json!(1)));
        let started = |command: &Command| matches!(command, Command::ServiceStart { .. });
        assert!(!stage.proxy.received.iter().any(started), "nothing is started twice");
    });
}

#[test]
fn output_is_shown_and_the_last_words_come_before_the_end() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        stage.wait_until_shown("Z db | hello\n").await;
        stage.wait_until_shown("Z web | hello\n").await;
        let term = Event::Signal { signal: Signal::TERM, at: monotonic_now(), count: 1 };
        stage.proxy.send(&[Message::Event(term)]).await;
        let (code, shown) = stage.end().await;
        assert_eq!(code, 0);
        for name in ["db", "web"] {
            let hello = position(&shown, &format!("Z {name} | hello\n"));
            let goodbye = position(&shown, &format!("Z {name} | goodbye\n"));
            let stopped = position(&shown, &format!("keepd: {name} is stopped\n"));
            assert!(hello < goodbye && goodbye < stopped, "{shown}");
        }
    });
}

#[test]
fn events_are_a_stream_that_ends_with_the_manager() {
    test(async {
        let mut stage = Stage::begin_ready().await;
        let client = stage.client.clone();
        let events =
            tokio::spawn(
                async move { client.ask("GET", "/v1/events?since=0", String::new()).await },
            );
        let (status, _) = stage.post("/v1/actions", json!({"action": "shutdown"})).await;
        assert_eq!(status, 202);
        stage.end().await;
        let (status, text) = events.await.unwrap();
        assert_eq!(status, 200);
        assert!(text.starts_with("id: 1\nevent: "), "{text}");
        let ready = position(&text, "\"service\":\"web\",\"from\":\"starting\",\"to\":\"ready\"");
        let shutdown = position(&text, "event: shutdown\n");
        let closed = text.rfind("event: change-closed\n").unwrap();
        assert!(ready < shutdown && shutdown < closed, "{text}");
    });
}

/// Returns `SERVICE MESSAGE` of each line.
fn messages(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap();
        assert!(object["time"].is_string() && object["stream"] == "out", "{object}");
        format!("{} {}", object["service"].as_str().unwrap(), object["message"].as_str().unwrap())
    };
    text.lines().map(line).collect()
}

#[test]
fn lines_of_services_are_json_objects() {
    // (behaviour 16.12)
    test(async {
        let stage = Stage::begin_ready().await;
        let ask = async |query: &str| {
            stage.client.ask("GET", &format!("/v1/logs{query}"), String::new()).await
        };
        assert_eq!(messages(&ask("").await.1), ["db hello", "web hello"]);
        assert_eq!(messages(&ask("?select=web&lines=all").await.1), ["web hello"]);
        assert_eq!(messages(&ask("?lines=1").await.1), ["web hello"]);
        assert_eq!(ask("?lines=0").await, (200, String::new()));
        assert_eq!(ask("?since=2999-01-01T00:00:00Z").await, (200, String::new()));
        assert_eq!(ask("?until=1999-01-01T00:00:00Z&follow=true").await, (200, String::new()));
        for (query, status) in [
            ("?select=gone", 404),
            ("?lines=few", 400),
            ("?since=10m", 400),
            ("?follow=yes", 400),
            ("?grep=x", 400),
        ] {
            assert_eq!(ask(query).await.0, status, "{query}");
        }
    });
}

#[test]
fn lines_are_followed_until_the_end_of_the_manager() {
    // (behaviour 16.12)
    test(async {
        let mut stage = Stage::begin_ready().await;
        let client = stage.client.clone();
        let lines = tokio::spawn(async move {
            client.ask("GET", "/v1/logs?follow=true&select=web", String::new()).await
        });
        // The stream is open once its request was answered after this one, on the same thread.
        stage.get("/v1/logs?lines=0").await;
        let (status, _) = stage.post("/v1/actions", json!({"action": "shutdown"})).await;
        assert_eq!(status, 202);
        stage.end().await;
        let (status, text) = lines.await.unwrap();
        assert_eq!(
            (status, messages(&text)),
            (200, vec!["web hello".into(), "web goodbye".into()])
        );
    });
}
