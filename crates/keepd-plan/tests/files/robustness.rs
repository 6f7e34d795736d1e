//! Damaged files: every prefix and thousands of mutations of a large one end in a plan or errors.

use keepd_plan::start_order;
use keepd_plan::{Context, RenderOptions, Source, includes, load, load_salvaging, render_plan};

use crate::source;

/// A file with every built key, most kinds of values, and some errors.
const LARGE: &str = r#"version = 1
include = ["conf.d/*.toml", "[ab].toml"]
x_note = { a = [1, 2.5, 1979-05-27T07:32:00Z] }
[keepd]
name = "shop"; log_level = "debug"
log_format = 'json'
run_dir = "/run/shop"
state_dir = "state"
echo = "text"
exit_when = "idle"
shutdown_timeout = "1m30s"
history = 9
[defaults]
user = "app"
env = { A = "1", B = "x ${C:-d} $$", N = 0x1F }
ready.timeout = "5s"
log = { mode = "append", file = "all.log" }
[services.db]
command = ["postgres", "-D", "/var/lib/${DIR:?say where}"]
stop_signal = "INT"
ready = { port = 5432, interval = "1s" }
exit_ok = [0, 3, "TERM"]
description = "Größe ✓ \u00e9"
[services.migrate]
kind = "oneshot"
shell = true
command = '''
set -e; migrate | tee log'''
restart = "on-failure"
depends_on = ["db"]
[services.web]
command = "/app/web --name 'a b' \"c d\" ${PORT} \\$x"
depends-on = ["db"]
tags = ["front", "http"]
working_dir = "~/web"
umask = "0027"
env_file = ["-/etc/web.env", "b.env"]
env_inherit = ["PATH"]
kill_mode = "all"
reload_signal = 1
backoff_initial = "100ms"
backoff_factor = 1.5
ready.http = "http://127.0.0.1:8080/"
ready.exec = "true"
ready.fd = 3
ready.file = "/run/${X}"
ready.log = "(on) [0-9]+$"
restart_limit = 3
restart_window = "1m"
group = 33
extra_groups = ["video", 44]
after = ["migrate"]
reload_command = "true"
override = true
health.http = "http://127.0.0.1:8080/"
log.mode = "file"
log.dir = "${keepd.log_dir}/x"
shutdown_on = "failure"
[services.web.depends_on]
migrate = {}
db = { until = "started", x_note = 1 }
web = { required = false, on_stop = "stop" }
[services.site]
kind = "group"
depends_on = ["web"]
before = ["db"]
[[services.web.sockets]]
listen = "tcp://[::]:80"
"#;

/// Numbers that look random and are the same on every run (Knuth's MMIX generator).
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Loads a text, and checks what must hold of any answer.
fn check(text: &str) {
    // Two more ways through the same text take two more times; one text in five is enough.
    if text.len().is_multiple_of(5) {
        check_salvage(text);
        let _ = includes(&source(text));
    }
    match load(&[source(text)], &Context { project: true }) {
        Ok(loaded) => {
            assert_eq!(start_order(&loaded.plan).len(), loaded.plan.services.len());
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(error.message.starts_with("cannot "), "{error}");
                let lines = text.lines().count().max(1) + 1;
                let origin = error.origin.as_ref().expect("the error has a place");
                assert!(origin.line >= 1 && origin.line as usize <= lines, "{error}");
                assert!(origin.column >= 1, "{error}");
            }
        }
    }
}

/// Loads a text in the other way: what is in the plan can be ordered, and is complete.
fn check_salvage(text: &str) {
    let context = Context { project: true };
    let (whole, salvaged) =
        (load(&[source(text)], &context), load_salvaging(&[source(text)], &context));
    match (whole, salvaged) {
        (Ok(whole), Ok(salvaged)) => {
            assert_eq!((whole.plan, whole.warnings), (salvaged.plan, salvaged.warnings));
            assert_eq!(salvaged.quarantined, []);
        }
        (Err(errors), Ok(salvaged)) => {
            let plan = &salvaged.plan;
            assert!(salvaged.quarantined.len() + salvaged.warnings.len() > 0, "{errors:#?}");
            assert_eq!(start_order(plan).len(), plan.services.len());
            for spec in plan.services.values() {
                let others = spec.depends_on.keys().chain(&spec.after).chain(&spec.before);
                assert!(others.into_iter().all(|name| plan.services.contains_key(name)));
            }
            render_plan(plan, RenderOptions { origins: true, reveal: true });
        }
        (Err(whole), Err(salvaged)) => assert_eq!(whole, salvaged),
        (Ok(_), Err(errors)) => panic!("{errors:#?}"),
    }
}

#[test]
fn every_prefix_ends_in_a_plan_or_in_errors() {
    for (end, _) in LARGE.char_indices() {
        check(&LARGE[..end]);
    }
    check(LARGE);
}

#[test]
fn every_suffix_ends_in_a_plan_or_in_errors() {
    for (start, _) in LARGE.char_indices() {
        check(&LARGE[start..]);
    }
}

#[test]
fn mutations_end_in_a_plan_or_in_errors() {
    const PIECES: [&str; 24] = [
        "\"", "'", "\"\"\"", "'''", "[", "]", "[[", "{", "}", "=", ".", ",", "\n", "\\", "$", "${",
        "}", "\u{0}", "é", "🦀", "-", "0", "#", "\r",
    ];
    let mut numbers = Lcg(2026);
    for _ in 0..1_000 {
        let mut letters: Vec<char> = LARGE.chars().collect();
        for _ in 0..=numbers.below(4) {
            let position = numbers.below(letters.len());
            let piece = PIECES[numbers.below(PIECES.len())];
            match numbers.below(4) {
                0 => {
                    letters.remove(position);
                }
                1 => {
                    letters.splice(position..position, piece.chars());
                }
                2 => {
                    letters.splice(position..=position, piece.chars());
                }
                _ => {
                    let other = numbers.below(letters.len());
                    let (start, end) =
                        (position.min(other), position.max(other).min(position + 200));
                    let copied: Vec<char> = letters[start..end.max(start)].to_vec();
                    letters.splice(start..start, copied);
                }
            }
        }
        check(&letters.iter().collect::<String>());
    }
}

#[test]
fn mutations_of_lines_end_in_a_plan_or_in_errors() {
    let lines: Vec<&str> = LARGE.lines().collect();
    let mut numbers = Lcg(7);
    for _ in 0..1_000 {
        let picked: Vec<&str> =
            (0..lines.len()).map(|_| lines[numbers.below(lines.len())]).collect();
        check(&picked.join("\n"));
    }
}

#[test]
fn hostile_files_are_refused_with_a_bounded_answer() {
    let repeated = |piece: &str| piece.repeat(1024 * 1024 / piece.len());
    let files = [
        repeated("["),
        repeated("a."),
        repeated("a=1\n"),
        repeated("[services.a]\n"),
        repeated("[[a]]\n"),
        format!("a = {}", repeated("[")),
        format!("services.a.command = '{}'", "${".repeat(500_000)),
        format!("services.a.command = \"{}\"", "'".repeat(1_000_000)),
        format!(
            "services = {{ {} }}",
            (0..30_000).map(|n| format!("a{n} = {{ b = 1 }}, ")).collect::<String>()
        ),
        format!(
            "[services]\n{}",
            (0..9_000)
                .map(|n| format!("a{n} = {{ command = 'x', depends_on = ['b{n}'] }}\n"))
                .collect::<String>()
        ),
        format!(
            "[services]\n{}",
            (0..9_000)
                .map(|n| format!(
                    "a{n} = {{ command = 'x', depends_on = ['a{}'] }}\n",
                    (n + 1) % 9_000
                ))
                .collect::<String>()
        ),
    ];
    for text in files {
        let beginning: String = text.chars().take(20).collect();
        let loaded = load(&[source(&text)], &Context::default());
        assert!(loaded.is_err_and(|errors| errors.len() <= 1_001), "{beginning}");
    }
}

#[test]
fn no_file_at_all_is_an_empty_plan() {
    let loaded = load(&[] as &[Source], &Context::default()).unwrap();
    assert!(loaded.plan.services.is_empty());
}
