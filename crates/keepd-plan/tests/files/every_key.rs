//! Every key that is built, with a value that fits.

use std::time::Duration;

use keepd_model::{
    CommandLine, Echo, Edge, EnvFile, EnvInherit, ExitWhen, ExpectedEnd, HttpProbe, KillMode,
    LogMode, ManagerSpec, OnStop, Probe, Reload, RestartLimit, RestartPolicy, ServiceSpec,
    ShutdownOn, Signal, StderrMode, TcpProbe, Template, Until,
};
use keepd_plan::{Section, keys};

use crate::{loaded, name, service, web};

fn literal(text: &str) -> Template {
    Template::literal(text)
}

fn parsed(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn address(lines: &str) -> Template {
    match web(lines).ready.probes.as_slice() {
        [Probe::Tcp(TcpProbe { address })] => address.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_keys_of_keepd() {
    let text = "[keepd]
        name = 'shop'
        log_level = 'debug'
        log_format = 'json'
        run_dir = '/run/shop'
        state_dir = 'state'
        log_dir = './log'
        echo = 'text'
        exit_when = 'idle'
        shutdown_timeout = '1m30s'
        history = 7";
    let expected = ManagerSpec {
        name: "shop".into(),
        log_level: "debug".into(),
        log_json: true,
        run_dir: Some("/run/shop".into()),
        state_dir: Some("/srv/app/state".into()),
        log_dir: Some("/srv/app/log".into()),
        echo: Echo::Text,
        exit_when: ExitWhen::Idle,
        shutdown_timeout: Duration::from_secs(90),
        history_max: 7,
    };
    assert_eq!(loaded(text).plan.manager, expected);
    assert_eq!(loaded("").plan.manager, ManagerSpec::default());
}

#[test]
fn a_service_with_a_command_alone_has_the_documented_defaults() {
    let mut spec = (*web("")).clone();
    spec.origins.clear();
    let command = CommandLine::Words(vec![literal("web")]);
    assert_eq!(spec, ServiceSpec::new(name("web"), command));
}

#[test]
fn a_documented_default_is_the_default() {
    let mut count = 0;
    for doc in keys().iter().filter(|doc| doc.section == Section::Service) {
        let line = format!("{} = {}", doc.key, doc.default);
        let is_toml = toml::de::DeTable::parse(&line).is_ok();
        if is_toml && !doc.default.contains("${") {
            let mut spec = (*web(&line)).clone();
            spec.origins = web("").origins.clone();
            assert_eq!(spec, *web(""), "{line}");
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn plain_keys() {
    let spec = web("description = 'Ein Dienst: Ä'
        enabled = false
        tags = ['a', 'b:c']
        user = 1000
        umask = '0077'
        stop_signal = 'SIGQUIT'
        stop_timeout = '0s'
        kill_mode = 'all'
        reload_signal = 1
        restart = 'on-failure'
        exit_ok = [0, 3, 'TERM', 'SIGHUP']
        shutdown_on = 'exit'");
    assert_eq!(spec.description, "Ein Dienst: Ä");
    assert!(!spec.enabled);
    assert_eq!(spec.tags, ["a", "b:c"]);
    assert_eq!(spec.user.as_deref(), Some("1000"));
    assert_eq!(spec.umask, 0o077);
    assert_eq!(spec.stop.signal, Signal::QUIT);
    assert_eq!(spec.stop.timeout, Duration::ZERO);
    assert_eq!(spec.stop.kill_mode, KillMode::All);
    assert_eq!(spec.reload, Some(Reload::Signal(Signal::HUP)));
    assert_eq!(spec.restart, RestartPolicy::OnFailure);
    assert_eq!(spec.shutdown_on, ShutdownOn::Exit);
    let ends = [
        ExpectedEnd::Code(0),
        ExpectedEnd::Code(3),
        ExpectedEnd::Signal(Signal::TERM),
        ExpectedEnd::Signal(Signal::HUP),
    ];
    assert_eq!(spec.exit_ok, ends);
}

#[test]
fn the_arithmetic_of_restarts() {
    let backoff = web("backoff_initial = '1ms'
        backoff_max = '1m'
        backoff_factor = 3
        backoff_jitter = 0.5
        backoff_reset = '0s'")
    .backoff;
    assert_eq!(backoff.initial, Duration::from_millis(1));
    assert_eq!(backoff.max, Duration::from_secs(60));
    assert_eq!((backoff.factor, backoff.jitter), (3.0, 0.5));
    assert_eq!(backoff.reset, Duration::ZERO);
}

#[test]
fn commands_are_lines_or_words_or_lines_for_a_shell() {
    let command = |line: &str| service(&format!("[services.web]\n{line}"), "web").command.clone();
    let words =
        |words: &[&str]| Some(CommandLine::Words(words.iter().map(|word| parsed(word)).collect()));
    assert_eq!(command(r#"command = "a 'b c' ${D}""#), words(&["a", "b c", "${D}"]));
    assert_eq!(command(r#"command = "a '${D}'""#), words(&["a", "$${D}"]));
    assert_eq!(
        command(r#"command = ["a b", "'c'", "${D}", "|"]"#),
        words(&["a b", "'c'", "${D}", "|"])
    );
    assert_eq!(command(r#"command = "${PROGRAM}""#), words(&["${PROGRAM}"]));
    assert_eq!(
        command("shell = true\ncommand = 'a | b ${C} $D'"),
        Some(CommandLine::Shell("a | b ${C} $D".into()))
    );
    assert_eq!(command("command = \"\"\"\n  a \\\n  b\n\"\"\""), words(&["a", "b"]));
}

#[test]
fn variables_and_their_files() {
    let spec =
        web("env = { A = 'x ${B:-y} $$', PORT = 8080, GONE = false, EMPTY = '', HEX = 0x10 }
        env_file = ['a.env', '-b.env', '/c.env', '-${HOME}/d.env']
        env_inherit = ['PATH', 'HOME']");
    assert_eq!(spec.env["A"], Some(parsed("x ${B:-y} $$")));
    assert_eq!(spec.env["PORT"], Some(literal("8080")));
    assert_eq!(spec.env["HEX"], Some(literal("16")));
    assert_eq!(spec.env["GONE"], None);
    assert_eq!(spec.env["EMPTY"], Some(literal("")));
    let file = |path: &str, optional| EnvFile { path: parsed(path), optional };
    let files = [
        file("/srv/app/a.env", false),
        file("/srv/app/b.env", true),
        file("/c.env", false),
        file("${HOME}/d.env", true),
    ];
    assert_eq!(spec.env_files, files);
    assert_eq!(spec.env_inherit, EnvInherit::Only(vec!["PATH".into(), "HOME".into()]));
    assert_eq!(web("env_inherit = false").env_inherit, EnvInherit::None);
    assert_eq!(web("env_inherit = true").env_inherit, EnvInherit::All);
    assert_eq!(web("env_inherit = []").env_inherit, EnvInherit::Only(vec![]));
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_file() {
    for (given, absolute) in [
        ("d", "/srv/app/d"),
        ("./d/e", "/srv/app/d/e"),
        ("../d", "/srv/app/../d"),
        (".", "/srv/app"),
        ("./", "/srv/app"),
        ("/d", "/d"),
        ("${HOME}/d", "${HOME}/d"),
        ("d/${X}", "/srv/app/d/${X}"),
        ("$$d", "/srv/app/$$d"),
    ] {
        let spec = web(&format!("working_dir = '{given}'"));
        assert_eq!(spec.working_dir.to_string(), absolute, "{given}");
    }
}

#[test]
fn ports_are_numbers_or_addresses() {
    assert_eq!(address("ready.port = 1"), literal("127.0.0.1:1"));
    assert_eq!(address("ready.port = 65535"), literal("127.0.0.1:65535"));
    assert_eq!(address("ready.port = 'db.example:5432'"), literal("db.example:5432"));
    assert_eq!(address("ready.port = '[::1]:80'"), literal("[::1]:80"));
    assert_eq!(address("ready.port = '${HOST}:80'"), parsed("${HOST}:80"));
    assert_eq!(address("ready.port = '${PORT:-80}'"), parsed("127.0.0.1:${PORT:-80}"));
}

#[test]
fn probes_stand_in_the_order_of_the_documentation() {
    let spec = web("ready.exec = ['true']
        ready.http = 'http://127.0.0.1:8080/ready'
        ready.port = 80
        ready.timeout = '0s'
        ready.interval = '1s'
        ready.delay = '2s'");
    let url = literal("http://127.0.0.1:8080/ready");
    let address = literal("127.0.0.1:80");
    let probes = [
        Probe::Tcp(TcpProbe { address }),
        Probe::Http(HttpProbe { url }),
        Probe::Exec(CommandLine::Words(vec![literal("true")])),
    ];
    assert_eq!(spec.ready.probes, probes);
    assert_eq!(spec.ready.timeout, None);
    assert_eq!(spec.ready.interval, Duration::from_secs(1));
    assert_eq!(spec.ready.delay, Duration::from_secs(2));
}

#[test]
fn the_delay_is_a_second_only_if_nothing_else_is_asked() {
    assert_eq!(web("").ready.delay, Duration::from_secs(1));
    assert_eq!(web("ready.notify = false").ready.delay, Duration::from_secs(1));
    assert_eq!(web("ready.notify = true").ready.delay, Duration::ZERO);
    assert_eq!(web("ready.port = 80").ready.delay, Duration::ZERO);
    let oneshot = web("kind = 'oneshot'").ready.clone();
    assert_eq!((oneshot.delay, oneshot.timeout), (Duration::ZERO, None));
    let limited = web("kind = 'oneshot'\nready.timeout = '5s'").ready.clone();
    assert_eq!(limited.timeout, Some(Duration::from_secs(5)));
}

#[test]
fn logs_go_where_the_mode_says() {
    let log = |lines: &str| web(lines).log.clone();
    assert_eq!(log("").mode, LogMode::File { dir: None });
    let dir = Some(parsed("${keepd.log_dir}/x"));
    assert_eq!(log("log.dir = '${keepd.log_dir}/x'").mode, LogMode::File { dir });
    let file = literal("/srv/app/web.log");
    let append = log("log = { mode = 'append', file = 'web.log', stderr = 'merge' }");
    assert_eq!(append.mode, LogMode::Append { file });
    assert_eq!(append.stderr, StderrMode::Merge);
    assert_eq!(log("log.mode = 'null'").mode, LogMode::Null);
    assert_eq!(log("log.mode = 'inherit'").mode, LogMode::Inherit);
}

#[test]
fn groups_of_users() {
    let spec = web("group = 'www'\nextra_groups = ['video', 44]");
    assert_eq!(spec.group.as_deref(), Some("www"));
    assert_eq!(spec.extra_groups, Some(vec!["video".into(), "44".into()]));
    assert_eq!(web("extra_groups = []").extra_groups, Some(vec![]));
    let text = "[defaults]\ngroup = 'www'\n[services.web]\ncommand = 'x'\ngroup = ''";
    assert_eq!(service(text, "web").group, None);
}

#[test]
fn limits_of_restarts() {
    let limit = web("restart_limit = 5\nrestart_window = '1h'").restart_limit;
    assert_eq!(limit, RestartLimit { count: 5, window: Duration::from_secs(3_600) });
    let limit = web("restart_limit = 1").restart_limit;
    assert_eq!(limit, RestartLimit { count: 1, window: Duration::from_secs(600) });
    assert_eq!(web("restart_limit = 0\nrestart_window = '0s'").restart_limit.count, 0);
    let text = "[defaults]\nrestart_limit = 3\n[services.web]\ncommand = 'x'";
    assert_eq!(service(text, "web").restart_limit.count, 3);
}

#[test]
fn a_reload_is_a_signal_or_a_command() {
    let words = vec![literal("nginx"), literal("-s"), literal("reload")];
    let command = Some(Reload::Command(CommandLine::Words(words)));
    assert_eq!(web("reload_command = 'nginx -s reload'").reload, command);
    assert_eq!(web("").reload, None);
    let text = |own: &str| {
        format!(
            "[defaults]\nreload_command = 'nginx -s reload'\n[services.web]\ncommand = 'x'\n{own}"
        )
    };
    assert_eq!(service(&text(""), "web").reload, command);
    let signal = Some(Reload::Signal(Signal::HUP));
    assert_eq!(service(&text("reload_signal = 'HUP'"), "web").reload, signal);
}

#[test]
fn other_ways_to_say_ready() {
    let ready = |lines: &str| web(lines).ready.clone();
    let fd = ready("ready.fd = 3");
    assert_eq!((fd.fd, fd.delay), (Some(3), Duration::ZERO));
    let socket = Probe::Socket(literal("/srv/app/run/x.sock"));
    assert_eq!(ready("ready.socket = 'run/x.sock'").probes, [socket]);
    let file = Probe::File(parsed("/run/${keepd.service}.ready"));
    assert_eq!(ready("ready.file = '/run/${keepd.service}.ready'").probes, [file]);
    let log = ready(r"ready.log = 'on \d+$'");
    assert_eq!(log.probes, [Probe::Log(r"on \d+$".into())]);
    assert_eq!(log.delay, Duration::ZERO);
    assert_eq!(web("kill_mode = 'main'").stop.kill_mode, KillMode::Main);
}

#[test]
fn a_group_is_its_members_and_nothing_of_the_defaults_for_processes() {
    let text = "[defaults]
        user = 'app'
        restart_limit = 3
        tags = ['t']
        [services.site]
        kind = 'group'
        description = 'all of it'
        enabled = false
        depends_on = ['web']
        after = ['db']
        before = ['log']
        [services]
        web.command = 'x'
        db.command = 'x'
        log.command = 'x'";
    let mut expected = ServiceSpec::group(name("site"));
    expected.description = "all of it".into();
    expected.enabled = false;
    expected.tags = vec!["t".into()];
    expected.depends_on.insert(name("web"), Edge::until(Until::Ready));
    expected.after.insert(name("db"));
    expected.before.insert(name("log"));
    let mut found = (*service(text, "site")).clone();
    found.origins.clear();
    assert_eq!(found, expected);
}

#[test]
fn an_edge_may_do_without_the_other_and_react_to_it() {
    let text = "[services.db]
        command = 'x'
        [services.group]
        kind = 'group'
        depends_on = ['db']
        [services.web]
        command = 'x'
        depends_on.db = { required = false, on_stop = 'restart' }
        depends_on.group = { on_stop = 'stop' }";
    let web = service(text, "web");
    let edge = Edge { until: Until::Ready, required: false, on_stop: OnStop::Restart };
    assert_eq!(web.depends_on[&name("db")], edge);
    let edge = Edge { until: Until::Ready, required: true, on_stop: OnStop::Stop };
    assert_eq!(web.depends_on[&name("group")], edge);
}

#[test]
fn edges_wait_for_what_fits_the_other_service() {
    let text = "[services.daemon]
        command = 'x'
        [services.task]
        command = 'x'
        kind = 'oneshot'
        enabled = false
        [services.list]
        command = 'x'
        depends_on = ['daemon', 'task']
        [services.table]
        command = 'x'
        depends_on.daemon.until = 'started'
        depends_on.task = { until = 'exited' }";
    let until = |service_name: &str, dependency: &str| {
        service(text, service_name).depends_on[&name(dependency)].until
    };
    assert_eq!(until("list", "daemon"), Until::Ready);
    assert_eq!(until("list", "task"), Until::Done);
    assert_eq!(until("table", "daemon"), Until::Started);
    assert_eq!(until("table", "task"), Until::Exited);
}
