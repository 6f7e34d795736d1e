//! Verbs that talk to a manager, against one that gives prepared answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use crate::fixture::Fixture;

/// What the next request is answered with; `None` closes the connection without a word.
type Answer = Option<(u16, &'static str)>;

/// A manager that answers in this order and remembers what it was asked.
struct Manager(JoinHandle<Vec<String>>);

impl Manager {
    fn start(fixture: &Fixture, answers: &'static [Answer]) -> Self {
        let listener = UnixListener::bind(fixture.path().join("keepd.sock")).unwrap();
        Self(thread::spawn(move || {
            answers.iter().map(|answer| serve(&listener, *answer)).collect()
        }))
    }

    /// Returns what was asked: method, path and body of each request.
    fn asked(self) -> Vec<String> {
        self.0.join().unwrap()
    }
}

fn serve(listener: &UnixListener, answer: Answer) -> String {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).unwrap();
        if let Some(value) = field.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if field.trim_end().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    if let Some((status, text)) = answer {
        let length = text.len();
        let mut writer = &stream;
        write!(writer, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{text}").unwrap();
    }
    let body = String::from_utf8(body).unwrap();
    format!("{}{body}", request.trim_end().trim_end_matches("HTTP/1.1"))
}

const SERVICE: &str = r#"{"name":"web","base":"web","instance":null,"kind":"daemon","wanted":"up",
    "state":"stopped","reason":"operator","health":"-","pid":null,"generation":0,
    "invocation_id":null,"since":"2026-11-21T07:02:55.123Z","uptime_s":null,"ready_after_s":null,
    "restarts":0,"restarts_in_window":null,"next_start":null,"last_exit":null,"cpu_s":null,
    "memory_bytes":null,"tasks":null,"limits_enforced":true,"log_dropped_bytes":0,"depends_on":[],
    "tags":[],"enabled":true,"config_changed":false,"description":"","user":null,"waits_for":[],
    "status_text":null,"output_blocked":null}"#;

const NO_SERVICES: Answer = Some((200, r#"{"services":[]}"#));

const NO_SUCH_SERVICE: &str = r#"{"type":"about:blank","title":"Not Found","status":404,
    "code":"no-such-service","detail":"cannot find service \"wbe\"","hint":"did you mean \"web\"?",
    "service":"wbe"}"#;

const OPEN: &str = r#"{"id":"17","verb":"start","uid":0,"pid":1,
    "opened":"2026-11-21T07:02:55.123Z",
    "closed":false,"success":false,"goals":[{"name":"web","target":"up","along":false,
    "reached":null,"after_s":null,"message":null}]}"#;

const REACHED: &str = r#"{"id":"17","verb":"start","uid":0,"pid":1,
    "opened":"2026-11-21T07:02:55.123Z",
    "closed":true,"success":true,"goals":[{"name":"web","target":"up","along":false,
    "reached":true,"after_s":1.2,"message":null}]}"#;

const MISSED: &str = r#"{"id":"17","verb":"start","uid":0,"pid":1,
    "opened":"2026-11-21T07:02:55.123Z",
    "closed":true,"success":false,"goals":[{"name":"web","target":"up","along":false,
    "reached":false,"after_s":null,"message":"its program was not found"}]}"#;

const ACCEPTED: Answer = Some((202, r#"{"change":"17"}"#));

#[test]
fn status_of_one_service_answers_by_its_exit_code() {
    let fixture = Fixture::new();
    let manager = Manager::start(&fixture, &[Some((200, SERVICE)), Some((404, NO_SUCH_SERVICE))]);
    let stopped = fixture.run(&["-s", "keepd.sock", "status", "web", "-o", "name"]);
    assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(3), "web\n"));
    fixture
        .run(&["-s", "keepd.sock", "status", "wbe"])
        .refused(4, "keepd: cannot find service \"wbe\"\nhint: did you mean \"web\"?\n");
    assert_eq!(manager.asked(), ["GET /v1/services/web ", "GET /v1/services/wbe "]);
}

#[test]
fn selectors_are_written_into_the_address() {
    let fixture = Fixture::new();
    let manager = Manager::start(&fixture, &[NO_SERVICES]);
    fixture.run(&["-s", "keepd.sock", "-q", "status", "w*", "tag:a b"]).done("");
    assert_eq!(manager.asked(), ["GET /v1/services?select=w%2A&select=tag%3Aa%20b "]);
}

#[test]
fn a_start_waits_until_it_is_ready() {
    let fixture = Fixture::new();
    let answers: &[Answer] = &[ACCEPTED, NO_SERVICES, Some((200, OPEN)), Some((200, REACHED))];
    let manager = Manager::start(&fixture, answers);
    fixture
        .run(&["-s", "keepd.sock", "start", "web", "--alone"])
        .done("Service \"web\" is ready (1.2s).\n");
    let asked = manager.asked();
    assert!(
        asked[0].starts_with(
            "POST /v1/actions {\"action\":\"start\",\"select\":[\"web\"],\
             \"options\":{\"alone\":true,"
        ),
        "{asked:?}"
    );
    assert_eq!(asked[3], "GET /v1/changes/17/wait?timeout=1000ms ");
}

#[test]
fn a_start_that_misses_its_goal_is_exit_1() {
    let fixture = Fixture::new();
    Manager::start(&fixture, &[ACCEPTED, NO_SERVICES, Some((200, MISSED))]);
    let run = fixture.run(&["-s", "keepd.sock", "start", "web"]);
    assert_eq!(run.code, Some(1));
    assert_eq!(run.stdout, "");
    assert_eq!(run.stderr, "keepd: cannot start service \"web\": its program was not found\n");
}

#[test]
fn a_lost_answer_is_asked_for_with_the_same_token() {
    let fixture = Fixture::new();
    let manager = Manager::start(&fixture, &[None, ACCEPTED]);
    fixture.run(&["-s", "keepd.sock", "start", "web", "--no-wait"]).done("17\n");
    let asked = manager.asked();
    assert_eq!(asked[0], asked[1]);
    assert!(asked[0].contains("\"token\":\""), "{asked:?}");
}

#[test]
fn a_timeout_is_exit_124_and_names_the_change() {
    let fixture = Fixture::new();
    Manager::start(&fixture, &[ACCEPTED, NO_SERVICES, Some((200, OPEN))]);
    fixture.run(&["-s", "keepd.sock", "-t", "0s", "start", "web"]).refused(
        124,
        "keepd: cannot finish \"start\" within 0s: the action goes on as change 17\n",
    );
}

#[test]
fn a_configuration_with_errors_is_refused_with_all_of_them() {
    let fixture = Fixture::new();
    let problem: Answer = Some((
        422,
        r#"{"type":"about:blank","title":"X","status":422,"code":"config",
        "detail":"cannot apply the configuration: 1 error","diagnostics":[
        {"file":"keepd.toml","line":9,"column":1,
        "message":"cannot use key \"depends-on\" in service \"web\"",
        "hint":"the key is \"depends_on\""}]}"#,
    ));
    let answers: &'static [Answer] = Box::leak(Box::new([problem]));
    Manager::start(&fixture, answers);
    fixture.run(&["-s", "keepd.sock", "apply"]).refused(
        100,
        "keepd.toml:9:1: cannot use key \"depends-on\" in service \"web\"\n  \
         hint: the key is \"depends_on\"\n\
         keepd: cannot apply the configuration: 1 error\n",
    );
}

#[test]
fn a_signal_is_sent_by_its_name_and_says_nothing() {
    let fixture = Fixture::new();
    let signalled: Answer = Some((
        200,
        r#"{"id":"17","verb":"signal","uid":0,"pid":1,"opened":"2026-11-21T07:02:55.123Z",
        "closed":true,"success":true,"goals":[{"name":"web","target":"signalled","along":false,
        "reached":true,"after_s":0.0,"message":null}]}"#,
    ));
    let answers: &'static [Answer] = Box::leak(Box::new([ACCEPTED, NO_SERVICES, signalled]));
    let manager = Manager::start(&fixture, answers);
    fixture.run(&["-s", "keepd.sock", "signal", "SIGUSR1", "web", "--all"]).done("");
    let asked = manager.asked();
    assert!(asked[0].contains("\"action\":\"signal\",\"select\":[\"web\"]"), "{asked:?}");
    assert!(asked[0].contains("\"signal\":\"USR1\",\"all\":true"), "{asked:?}");
}

#[test]
fn a_wait_goes_on_after_a_lost_answer_and_ends_when_it_is_hopeless() {
    let fixture = Fixture::new();
    let answers: &[Answer] = &[
        None,
        Some((200, r#"{"reached":false,"timed_out":true,"services":[]}"#)),
        Some((
            200,
            r#"{"reached":false,"timed_out":false,"services":[
            {"name":"web","state":"failed","reached":false,"hopeless":"it is failed"}]}"#,
        )),
    ];
    let manager = Manager::start(&fixture, answers);
    let run = fixture.run(&["-s", "keepd.sock", "wait", "web", "healthy"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert_eq!(run.stderr, "keepd: cannot wait until service \"web\" is healthy: it is failed\n");
    let asked = manager.asked();
    assert!(
        asked
            .iter()
            .all(|asked| { asked == "GET /v1/wait?select=web&state=healthy&timeout=30000ms " })
    );
}

#[test]
fn events_are_read_to_their_end() {
    let fixture = Fixture::new();
    let event: Answer = Some((
        200,
        "id: 3\nevent: state\ndata: {\"sequence\":3,\"time\":\"2026-11-21T07:02:55.123Z\",\
         \"event\":\"state\",\"service\":\"web\",\"from\":\"starting\",\"to\":\"ready\",\
         \"reason\":\"operator\",\"generation\":1,\"pid\":7,\"ran_s\":1.2,\"next_start\":null,\
         \"change\":null,\"text\":\"web is ready (1.2s)\"}\n\n",
    ));
    let answers: &'static [Answer] = Box::leak(Box::new([event]));
    let manager = Manager::start(&fixture, answers);
    fixture
        .run(&["-s", "keepd.sock", "events", "web"])
        .done("2026-11-21T07:02:55.123Z web is ready (1.2s)\n");
    assert_eq!(manager.asked(), ["GET /v1/events?follow=false&since=0&select=web "]);
}

#[test]
fn a_diff_ends_with_its_plan_and_answers_by_its_exit_code() {
    let fixture = Fixture::new();
    let answers: &[Answer] = &[
        Some((
            200,
            r#"{"plan":"00c0ffee00c0ffee","warnings":[],"steps":[
            {"name":"db","action":"next-start","keys":["env_file"]},
            {"name":"old","action":"remove","keys":[]}]}"#,
        )),
        Some((200, r#"{"plan":"00c0ffee00c0ffee","warnings":[],"steps":[]}"#)),
    ];
    let manager = Manager::start(&fixture, answers);
    let run = fixture.run(&["-s", "keepd.sock", "diff"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(1), ""));
    assert_eq!(run.stdout, ". db next-start (env_file)\n- old remove\nplan 00c0ffee00c0ffee\n");
    fixture.run(&["-s", "keepd.sock", "diff", "-q"]).done("");
    assert_eq!(manager.asked(), ["POST /v1/config/diff {}", "POST /v1/config/diff {}"]);
}
