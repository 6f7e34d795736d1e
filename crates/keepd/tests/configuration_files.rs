//! Files, drop-ins and the environment together, as a program that loads them sees it.

#![cfg(feature = "toml")]

use std::path::PathBuf;

use keepd::ErrorCode;
use keepd::config::{ConfigLoader, Origin, RestartWhen, UnknownKeys};
use keepd_testkit::Scratch;

/// A folder with a configuration file.
struct Files(Scratch);

impl Files {
    fn new(text: &str) -> Self {
        let files = Self(Scratch::new());
        std::fs::write(files.path(), text).unwrap();
        files
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("daemon.toml")
    }

    fn loader(&self) -> ConfigLoader {
        ConfigLoader::new().file(self.path()).variables::<&str, &str>([])
    }

    fn error(&self) -> keepd::Error {
        self.loader().load().unwrap_err()
    }

    fn drop_in(&self, name: &str, text: &str) {
        let folder = self.0.path().join("daemon.toml.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// The file of the seed document, word by word.
const DOCUMENT: &str = r#"name = "my-production-daemon"

[logging]
level = "info"
json = false
color = true
file = "/var/log/my-daemon.log"
max_file_size = 104857600  # 100MB
max_files = 5

[shutdown]
timeout_ms = 30000
force_timeout_ms = 45000
kill_timeout_ms = 60000

[performance]
worker_threads = 0          # Auto-detect
thread_pinning = false
memory_pool_size = 1048576  # 1MB
numa_aware = false
lock_free = true

[monitoring]
enable_metrics = true
metrics_interval_ms = 1000
track_resources = true
health_checks = true
health_check_interval_ms = 5000
"#;

#[test]
fn the_file_of_the_document_is_taken_with_every_value() {
    let config = Files::new(DOCUMENT).loader().load().unwrap();
    assert_eq!(config.name, "my-production-daemon");
    assert_eq!(config.logging.file, Some("/var/log/my-daemon.log".into()));
    assert_eq!(config.shutdown.graceful, 30_000);
    assert_eq!(config.shutdown.force, 45_000);
    assert_eq!(config.shutdown.kill, 60_000);
    assert_eq!(config.monitoring.health_check_interval_ms, 5000);
}

#[test]
fn the_environment_beats_a_file_partial_or_whole() {
    for text in ["", "name = \"file\"\n", DOCUMENT] {
        let files = Files::new(text);
        let variables = [
            ("DAEMON_NAME", "env-daemon"),
            ("DAEMON_LOGGING_LEVEL", "debug"),
            ("DAEMON_SHUTDOWN_TIMEOUT_MS", "60000"),
            ("DAEMON_SHUTDOWN_FORCE_TIMEOUT_MS", "70000"),
            ("DAEMON_SHUTDOWN_KILL_MS", "80s"),
            ("DAEMON_PERFORMANCE_WORKER_THREADS", "16"),
            ("DAEMON_MONITORING_HEALTH_CHECK_INTERVAL_MS", "250"),
        ];
        let config = files.loader().variables(variables).load().unwrap();
        assert_eq!(config.name, "env-daemon");
        assert_eq!(config.logging.level, keepd::LogLevel::Debug);
        let shutdown = (config.shutdown.graceful, config.shutdown.force, config.shutdown.kill);
        assert_eq!(shutdown, (60_000, 70_000, 80_000));
        assert_eq!(config.performance.worker_threads, 16);
        assert_eq!(config.monitoring.health_check_interval_ms, 250);
    }
}

#[test]
fn what_the_environment_does_not_say_is_left_to_the_file() {
    let files = Files::new("[shutdown]\ngraceful = \"2s\"\n");
    let mut loader = files.loader().variables([("DAEMON_SHUTDOWN_FORCE", "3s")]);
    let config = loader.load().unwrap();
    assert_eq!((config.shutdown.graceful, config.shutdown.force), (2000, 3000));
    assert_eq!(config.shutdown.kill, 15_000);
    let origins = loader.origins();
    assert_eq!(
        origins.of("shutdown.graceful"),
        &Origin::File { path: files.path(), line: Some(2) }
    );
    assert_eq!(origins.of("shutdown.kill"), &Origin::Default);
    assert_eq!(origins.iter().count(), 2);
}

#[test]
fn an_unknown_key_has_its_line_and_the_nearest_name() {
    let error = Files::new("[shutdown]\n\ngracefull = 1\n").error();
    let text = error.to_string();
    let expected =
        "daemon.toml\" line 3: unknown key \"shutdown.gracefull\", did you mean \"graceful\"?";
    assert!(text.contains(expected), "{text}");
    assert_eq!(error.code(), ErrorCode::ConfigInvalid);
    let text = Files::new("[loging]\nlevel = \"info\"\n").error().to_string();
    assert!(text.contains("line 1: unknown key \"loging\", did you mean \"logging\"?"), "{text}");
    let text = Files::new("[restart.web]\ndelya = 1\n").error().to_string();
    let expected = "unknown key \"restart.web.delya\", did you mean \"delay\"?";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "name = 5\ncolour = true\n[shutdown]\ngraceful = \"soon\"\nkill = 1\n";
    let error = Files::new(text).error();
    let text = error.to_string();
    for expected in [
        "line 1: cannot read \"name\": expected a text, not 5",
        "line 2: unknown key \"colour\"",
        "line 4: cannot read \"shutdown.graceful\": expected milliseconds or a time such as",
        "line 5: Kill timeout must be greater than force timeout (shutdown.kill = 1)",
    ] {
        assert!(text.contains(expected), "{text} does not contain {expected}");
    }
}

#[test]
fn syntax_errors_have_their_line_and_code() {
    let error = Files::new("name = \"x\"\n[shutdown\n").error();
    assert_eq!(error.code(), ErrorCode::ConfigParse);
    let text = error.to_string();
    assert!(text.contains("daemon.toml\" line 2: cannot parse TOML: "), "{text}");
}

#[test]
fn a_key_in_the_wrong_table_is_taken_with_a_warning() {
    // The sample file that proc-daemon ships has these three there.
    let text = "[monitoring]\nwork_dir = \"/\"\npid_file = \"/tmp/x.pid\"\nhot_reload = true\n";
    let files = Files::new(text);
    let mut loader = files.loader();
    let config = loader.load().unwrap();
    assert_eq!(config.work_dir, Some("/".into()));
    assert_eq!(config.pid_file, Some("/tmp/x.pid".into()));
    assert!(config.hot_reload);
    let warnings = loader.warnings();
    assert_eq!(warnings.len(), 3);
    let expected = "line 2: \"monitoring.work_dir\" is taken as \"work_dir\": it belongs before \
                    the first table";
    assert!(warnings[0].contains(expected), "{warnings:?}");
}

#[test]
fn tables_of_the_program_are_its_own() {
    let text = "[app]\nanything = [1]\n[x-limits]\nday = 2026-01-01\n";
    let mut loader = Files::new(text).loader();
    loader.load().unwrap();
    assert!(loader.warnings().is_empty());
}

#[test]
fn unknown_keys_can_be_allowed_or_a_warning() {
    let files = Files::new("colour = true\n");
    files.loader().unknown_keys(UnknownKeys::Allow).load().unwrap();
    let mut loader = files.loader().unknown_keys(UnknownKeys::Warn);
    loader.load().unwrap();
    assert!(loader.warnings()[0].contains("unknown key \"colour\""));
}

#[test]
fn what_is_planned_is_refused_by_name() {
    let text = Files::new("[logging]\ncompress = true\n[sandbox]\n").error().to_string();
    assert!(text.contains("\"logging.compress\" is not built yet"), "{text}");
    assert!(text.contains("\"sandbox\" is not built yet"), "{text}");
}

#[test]
fn two_spellings_in_one_file_are_refused_and_in_two_sources_are_not() {
    let files = Files::new("[shutdown]\ngraceful = 1000\ntimeout_ms = 2000\n");
    let text = files.error().to_string();
    let expected = "\"shutdown.graceful\" and \"shutdown.timeout_ms\" are the same key";
    assert!(text.contains(expected), "{text}");
    let files = Files::new("[shutdown]\ngraceful = 1000\n");
    let config = files.loader().variables([("DAEMON_SHUTDOWN_TIMEOUT_MS", "2000")]).load().unwrap();
    assert_eq!(config.shutdown.graceful, 2000);
}

#[test]
fn drop_ins_come_after_the_file_by_name() {
    let files = Files::new("name = \"file\"\n[shutdown]\ngraceful = 1000\n");
    files.drop_in("20-second.toml", "name = \"second\"\n");
    files.drop_in("10-first.toml", "name = \"first\"\n[shutdown]\nforce = 9000\n");
    files.drop_in(".30-editor.toml", "not TOML");
    files.drop_in("40-note.txt", "not TOML");
    let mut loader = files.loader();
    let config = loader.load().unwrap();
    assert_eq!(config.name, "second");
    assert_eq!((config.shutdown.graceful, config.shutdown.force), (1000, 9000));
    let origin = loader.origins().of("name").to_string();
    assert!(origin.ends_with("daemon.toml.d/20-second.toml\" line 1"), "{origin}");
}

#[test]
fn a_missing_file_says_nothing_and_one_that_cannot_be_read_is_an_error() {
    let files = Files::new("");
    std::fs::remove_file(files.path()).unwrap();
    assert_eq!(files.loader().load().unwrap(), keepd::Config::default());
    std::fs::create_dir(files.path()).unwrap();
    let error = files.error();
    assert!(error.is_config_error());
    assert!(error.to_string().contains("cannot read "), "{error}");
}

#[test]
fn restarts_of_a_subsystem_are_read() {
    let text = "[restart.web]\nwhen = \"always\"\ndelay = \"50ms\"\nmax_delay = \"400ms\"\n\
                attempts = 5\nreset_after = \"1m\"\n";
    let config =
        Files::new(text).loader().variables([("DAEMON_RESTART_WEB_ATTEMPTS", "7")]).load().unwrap();
    let restart = &config.restart["web"];
    assert_eq!(restart.when, RestartWhen::Always);
    assert_eq!((restart.delay, restart.max_delay, restart.attempts), (50, 400, Some(7)));
    assert_eq!(restart.reset_after, Some(60_000));
}

#[test]
fn a_window_and_codes_of_a_restart_are_read() {
    let file = Files::new(
        "[restart.web]\nattempts = 5\nwindow = \"10m\"\ncodes = [75, 111]\n[restart.mail]\n",
    );
    let mut loader = file.loader().variables([("DAEMON_RESTART_MAIL_CODES", "101, 111")]);
    let config = loader.load().unwrap();
    assert_eq!(config.restart["web"].window, Some(600_000));
    assert_eq!(config.restart["web"].codes, Some(vec![75, 111]));
    assert_eq!(config.restart["mail"].codes, Some(vec![101, 111]));
    for wrong in ["[256]", "[-1]", "75", "[\"a\"]"] {
        let error = Files::new(&format!("[restart.web]\ncodes = {wrong}\n")).error().to_string();
        assert!(error.contains("expected a list of exit codes, 0 to 255, not"), "{error}");
    }
}

#[test]
fn what_serde_writes_can_be_read_again() {
    let mut config = keepd::Config { name: "written".to_owned(), ..Default::default() };
    config.restart.insert("web".to_owned(), keepd::config::RestartConfig::default());
    let files = Files::new("");
    let json = files.0.path().join("daemon.json");
    std::fs::write(&json, serde_json::to_vec(&config).unwrap()).unwrap();
    let again: keepd::Config = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(again, config);
    #[cfg(feature = "serde_json")]
    {
        let loaded = ConfigLoader::new().file(&json).variables::<&str, &str>([]).load().unwrap();
        assert_eq!(loaded, config);
    }
}

#[test]
fn a_mapped_file_says_what_a_read_one_says() {
    let files = Files::new(DOCUMENT);
    let mapped = files.loader().map(true).load().unwrap();
    assert_eq!(mapped, files.loader().load().unwrap());
    assert_eq!(Files::new("").loader().map(true).load().unwrap(), keepd::Config::default());
}

#[cfg(feature = "figment")]
#[test]
fn a_provider_beats_the_environment() {
    use figment::providers::Serialized;

    let provider = Serialized::default("shutdown.graceful", 1234);
    let mut loader = ConfigLoader::new()
        .variables([("DAEMON_SHUTDOWN_GRACEFUL", "9"), ("DAEMON_NAME", "env")])
        .provider(provider)
        .unwrap();
    let config = loader.load().unwrap();
    assert_eq!(config.shutdown.graceful, 1234);
    assert_eq!(config.name, "env");
    let whole = Serialized::defaults(keepd::Config { name: "p".into(), ..Default::default() });
    assert_eq!(keepd::Config::load_with_provider(whole).unwrap().name, "p");
}
