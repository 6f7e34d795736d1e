//! What is said about keys, services and files that cannot be used.

use keepd_plan::Source;

use crate::{errors, errors_of};

#[test]
fn the_documented_output_of_check() {
    let text = r#"# keepd.toml
version = 1




[services.web]
command = "/app/web"
depends-on = ["cache"]
[services.cache]
command = "redis-server"
depends_on = [ "web" ]
"#;
    assert_eq!(
        errors(text),
        [
            "keepd.toml:9:1: cannot use key \"depends-on\" in service \"web\"\n  hint: the key is \
             \"depends_on\"",
            "keepd.toml:12:16: cannot order services: web -> cache -> web",
        ]
    );
}

#[test]
fn every_error_is_told_at_once() {
    let text = r#"version = 2
include = "*.toml"
colour = true

[keepd]
log_level = "loud"
socket_mode = "0600"

[defaults]
command = "x"
stop_timeout = 10

[services.web]
comand = "/app/web"
restart = "no"
health.http = "http://127.0.0.1/"
ready.prot = 80
user = true
depends_on = ["dbb"]

[services.db]
command = "postgres | tee log"
log.mode = "append"
env = { "1A" = "x", B = true }
kind = "forking"

[services.all]
command = "x"
"#;
    assert_eq!(
        errors(text),
        [
            "keepd.toml:1:11: cannot use 2 for \"version\" at the top level: this keepd reads \
             version 1\n  hint: write version = 1",
            "keepd.toml:2:11: cannot use \"*.toml\" for \"include\" at the top level: it takes an \
             array of strings\n  hint: write [\"*.toml\"]",
            "keepd.toml:3:1: cannot use key \"colour\" at the top level",
            "keepd.toml:6:13: cannot use \"loud\" for \"log_level\" in table \"keepd\": it takes \
             one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            "keepd.toml:7:1: cannot use key \"socket_mode\" in table \"keepd\": it is not \
             supported by this version",
            "keepd.toml:10:1: cannot use key \"command\" in table \"defaults\": each service has \
             its own",
            "keepd.toml:11:16: cannot use 10 for \"stop_timeout\" in table \"defaults\": a bare \
             number has no unit\n  hint: write \"10s\"; supervisord means seconds by it and pm2 \
             milliseconds",
            "keepd.toml:14:1: cannot use key \"comand\" in service \"web\"\n  hint: the nearest \
             key is \"command\"",
            "keepd.toml:15:11: cannot use \"no\" for \"restart\" in service \"web\": it takes one \
             of \"always\", \"on-failure\", \"never\"\n  hint: the word is \"never\"",
            "keepd.toml:16:1: cannot use key \"health\" in service \"web\": it is not supported by \
             this version",
            "keepd.toml:17:7: cannot use key \"ready.prot\" in service \"web\"\n  hint: the \
             nearest key is \"ready.port\"",
            "keepd.toml:18:8: cannot use true for \"user\" in service \"web\": it takes a string",
            "keepd.toml:19:15: cannot find service \"dbb\", which service \"web\" depends on\n  \
             hint: the nearest service is \"db\"",
            "keepd.toml:22:21: cannot use \"postgres | tee log\" for \"command\" in service \
             \"db\": \"|\" means something to a shell only\n  hint: add shell = true to hand the \
             command to /bin/sh",
            "keepd.toml:23:12: cannot log service \"db\" by \"append\": it has no \"log.file\"\n  \
             hint: add log.file = \"PATH\"",
            "keepd.toml:24:9: cannot set variable \"1A\" in service \"db\": a name has letters, \
             digits and \"_\", and begins with no digit",
            "keepd.toml:24:25: cannot use true for \"env.B\" in service \"db\": it takes a string, \
             an integer or false\n  hint: write \"true\"",
            "keepd.toml:25:8: cannot use \"forking\" for \"kind\" in service \"db\": it is not \
             supported by this version",
            "keepd.toml:27:11: cannot use service name \"all\": the name is reserved (\"all\", and \
             names that begin with \"keepd.\")",
        ]
    );
}

#[test]
fn a_service_needs_a_command() {
    assert_eq!(
        errors("[services.web]\nuser = 'a'"),
        ["keepd.toml:1:11: cannot run service \"web\": it has no command\n  hint: add command = \
             \"PROGRAM ARGUMENT...\""]
    );
    // What was meant by another word is not asked for a second time.
    assert_eq!(
        errors("[services.web]\nExecStart = '/bin/web'"),
        ["keepd.toml:2:1: cannot use key \"ExecStart\" in service \"web\"\n  hint: the key is \
             \"command\""]
    );
}

#[test]
fn a_key_that_is_only_spelt_otherwise_is_read_for_its_errors() {
    assert_eq!(
        errors("[services.web]\ncommand = 'x'\nStop-Timeout = 5"),
        [
            "keepd.toml:3:1: cannot use key \"Stop-Timeout\" in service \"web\"\n  hint: the key \
             is \"stop_timeout\"",
            "keepd.toml:3:16: cannot use 5 for \"stop_timeout\" in service \"web\": a bare number \
             has no unit\n  hint: write \"5s\"; supervisord means seconds by it and pm2 \
             milliseconds",
        ]
    );
}

#[test]
fn words_of_other_supervisors_have_a_hint() {
    for (foreign, ours) in [
        ("autostart", "enabled"),
        ("directory", "working_dir"),
        ("environment", "env"),
        ("startsecs", "ready.delay"),
        ("stopwaitsecs", "stop_timeout"),
        ("startretries", "restart_limit"),
        ("WorkingDirectory", "working_dir"),
        ("After", "after"),
        ("Requires", "depends_on"),
        ("PartOf", "depends_on"),
        ("ExecReload", "reload_command"),
        ("StartLimitBurst", "restart_limit"),
        ("StartLimitIntervalSec", "restart_window"),
        ("SupplementaryGroups", "extra_groups"),
        ("max_restarts", "restart_limit"),
        ("ready_log_line", "ready.log"),
        ("notification-fd", "ready.fd"),
        ("TimeoutStopSec", "stop_timeout"),
        ("stop_grace_period", "stop_timeout"),
        ("readiness_probe", "ready"),
        ("stopsignal", "stop_signal"),
        ("port", "ready.port"),
    ] {
        assert_eq!(
            errors(&format!("[services.web]\ncommand = 'x'\n{foreign} = 1"))[0],
            format!(
                "keepd.toml:3:1: cannot use key \"{foreign}\" in service \"web\"\n  hint: the key \
                 is \"{ours}\""
            )
        );
    }
    assert_eq!(
        errors("[services.web]\ncommand = 'x'\nnumprocs = 4"),
        ["keepd.toml:3:1: cannot use key \"numprocs\" in service \"web\"\n  hint: the key is \
             \"instances\", which is not supported by this version"]
    );
}

#[test]
fn what_is_documented_but_not_built_is_refused() {
    let lines = [
        "instances = 2",
        "limits.nofile = 1",
        "sandbox.no_new_privs = true",
        "hooks.timeout = '1s'",
        "secrets = {}",
        "pid_file = 'x'",
        "schedule.cron = '@daily'",
        "watch.paths = []",
        "max_runtime = '1s'",
        "update_order = 'stop-first'",
        "start_if = {}",
        "stop_command = 'x'",
        "directories = []",
        "sockets = []",
        "health.exec = 'x'",
    ];
    for line in lines {
        let key = line.split([' ', '.']).next().unwrap();
        assert_eq!(
            errors(&format!("[services.web]\ncommand = 'x'\n{line}")),
            [format!(
                "keepd.toml:3:1: cannot use key \"{key}\" in service \"web\": it is not supported \
                 by this version"
            )]
        );
    }
    for line in [
        "log.max_size = 1",
        "log.max_files = 1",
        "log.max_age = '1d'",
        "log.compress = 'zstd'",
        "log.on_full = 'drop'",
    ] {
        let key = line.split(' ').next().unwrap();
        let column = key.find('.').unwrap() + 2;
        assert_eq!(
            errors(&format!("[services.web]\ncommand = 'x'\n{line}")),
            [format!(
                "keepd.toml:3:{column}: cannot use key \"{key}\" in service \"web\": it is not \
                 supported by this version"
            )]
        );
    }
    for table in
        ["[access]", "[[notify]]", "[gateway]", "[metrics]", "[[log_targets]]", "[cluster]"]
    {
        let key = table.trim_matches(['[', ']']);
        let column = table.find(key).unwrap() + 1;
        assert_eq!(
            errors(table),
            [format!(
                "keepd.toml:1:{column}: cannot use key \"{key}\" at the top level: it is not \
                 supported by this version"
            )]
        );
    }
    assert_eq!(
        errors("[[services.web.sockets]]\nlisten = 'tcp://[::]:80'\n[services.web]\ncommand = 'x'"),
        ["keepd.toml:1:16: cannot use key \"sockets\" in service \"web\": it is not supported \
             by this version"]
    );
}

#[test]
fn edges_are_checked() {
    let text = "[services.db]
command = 'x'
[services.web]
command = 'x'
depends_on.db = { until = 'healthy', required = 'no', on_stop = 'none' }
[services.a]
command = 'x'
depends_on.db.until = 'done'
[services.b]
command = 'x'
depends_on = { db = 'ready' }
[services.c]
command = 'x'
depends_on = 'db'
[services.d]
command = 'x'
depends_on = ['db', 'db', 1]
[services.e]
command = 'x'
depends_on.db.condition = 'service_healthy'
[services.f]
command = 'x'
depends_on.db.until = 'service_healthy'
";
    assert_eq!(
        errors(text),
        [
            "keepd.toml:5:27: cannot use \"healthy\" for \"depends_on.db.until\" in service \
             \"web\": it is not supported by this version",
            "keepd.toml:5:49: cannot use \"no\" for \"depends_on.db.required\" in service \"web\": \
             it takes true or false\n  hint: write false",
            "keepd.toml:5:65: cannot use \"none\" for \"depends_on.db.on_stop\" in service \
             \"web\": it takes one of \"ignore\", \"restart\", \"stop\"\n  hint: the word is \
             \"ignore\"",
            "keepd.toml:8:23: cannot wait in service \"a\" until \"db\" is done: it is always \
             restarted\n  hint: write until = \"ready\", or give \"db\" kind = \"oneshot\"",
            "keepd.toml:11:21: cannot use \"ready\" for \"depends_on\" in service \"b\": the edge \
             to \"db\" takes a table\n  hint: write { until = \"ready\" }",
            "keepd.toml:14:14: cannot use \"db\" for \"depends_on\" in service \"c\": it takes an \
             array or a table\n  hint: write [\"db\"]",
            "keepd.toml:17:27: cannot use 1 for \"depends_on\" in service \"d\": it takes strings",
            "keepd.toml:20:15: cannot use key \"depends_on.db.condition\" in service \"e\"\n  \
             hint: the key is \"until\"",
            "keepd.toml:23:23: cannot use \"service_healthy\" for \"depends_on.db.until\" in \
             service \"f\": it takes one of \"started\", \"ready\", \"done\", \"exited\"\n  hint: \
             the word is \"healthy\", which is not supported by this version",
        ]
    );
    assert_eq!(
        errors(
            "[services.db]\ncommand = 'x'\n[services.web]\ncommand = 'x'\ndepends_on = ['db', 'db']"
        ),
        ["keepd.toml:5:21: cannot depend on \"db\" twice in service \"web\""]
    );
}

#[test]
fn each_cycle_is_told_once() {
    let text = "[services]
a = { command = 'x', depends_on = ['a'] }
b = { command = 'x', depends_on = ['c'] }
c = { command = 'x', depends_on = ['d', 'free'] }
d = { command = 'x', depends_on = ['b', 'c'] }
free = { command = 'x' }
user = { command = 'x', depends_on = ['b', 'free'] }
";
    assert_eq!(
        errors(text),
        [
            "keepd.toml:2:36: cannot order services: a -> a",
            "keepd.toml:5:36: cannot order services: b -> c -> d -> b",
            "keepd.toml:5:41: cannot order services: c -> d -> c",
        ]
    );
}

#[test]
fn what_is_written_twice_names_both_places() {
    let source = |file: &str, text: &str| Source {
        file: file.into(),
        directory: "/d".into(),
        text: text.into(),
    };
    let first = "keepd.name = 'a'\n[services.web]\ncommand = 'x'\n[defaults]\nuser = 'u'";
    let second = "[keepd]\nname = 'b'\n[services.web]\ncommand = 'y'\n[defaults]\nuser = 'v'";
    assert_eq!(
        errors_of(&[source("a.toml", first), source("b.toml", second)]),
        [
            "b.toml:2:1: cannot use key \"name\" in table \"keepd\" twice\n  hint: it stands for \
             the first time at a.toml:1:7",
            "b.toml:3:11: cannot define service \"web\" twice\n  hint: it stands for the first \
             time at a.toml:2:11; with override = true this table is put over that one",
            "b.toml:6:1: cannot use key \"user\" in table \"defaults\" twice\n  hint: it stands \
             for the first time at a.toml:5:1",
        ]
    );
    assert_eq!(
        errors("[services.web]\ncommand = 'x'\n[services.web]\nuser = 'u'"),
        ["keepd.toml:3:11: cannot use table \"[services.web]\" twice\n  hint: it stands for the \
             first time at keepd.toml:1:1"]
    );
}

#[test]
fn after_a_syntax_error_nothing_is_missed_that_may_have_been_written() {
    assert_eq!(
        errors("[services.web]\nrestart = 'no'\ndepends_on = ['db']\ncommand = \n"),
        [
            "keepd.toml:2:11: cannot use \"no\" for \"restart\" in service \"web\": it takes one \
             of \"always\", \"on-failure\", \"never\"\n  hint: the word is \"never\"",
            "keepd.toml:4:11: cannot parse TOML: string values must be quoted, expected literal \
             string",
        ]
    );
}

#[test]
fn tables_are_tables() {
    assert_eq!(
        errors("services = 1\nkeepd = []\ndefaults = 'x'"),
        [
            "keepd.toml:1:12: cannot use 1 for \"services\" at the top level: it takes a table",
            "keepd.toml:2:9: cannot use an array for \"keepd\" at the top level: it takes a table",
            "keepd.toml:3:12: cannot use \"x\" for \"defaults\" at the top level: it takes a table",
        ]
    );
    assert_eq!(
        errors("[services]\nweb = 'x'\n[services.a]\ncommand = 'x'\nready = true\nenv = ['A=1']"),
        [
            "keepd.toml:2:7: cannot use \"x\" for service \"web\": it takes a table",
            "keepd.toml:5:9: cannot use true for \"ready\" in service \"a\": it takes a table",
            "keepd.toml:6:7: cannot use an array for \"env\" in service \"a\": it takes a table\n  \
             hint: write env = { NAME = \"value\" }",
        ]
    );
    assert_eq!(
        errors("[web]\ncommand = 'x'\n[processes]"),
        [
            "keepd.toml:1:2: cannot use key \"web\" at the top level\n  hint: a service is written \
             [services.web]",
            "keepd.toml:3:2: cannot use key \"processes\" at the top level\n  hint: the key is \
             \"services\"",
        ]
    );
    assert_eq!(
        errors("command = 'x'"),
        ["keepd.toml:1:1: cannot use key \"command\" at the top level\n  hint: it is a key of a \
             service, [services.NAME]"]
    );
}

#[test]
fn names_of_services_are_checked() {
    assert_eq!(
        errors(
            "[services.'a/b']\ncommand = 'x'\n[services.'web@1']\ncommand = \
             'x'\n[services.'']\ncommand = 'x'"
        ),
        [
            "keepd.toml:1:11: cannot use service name \"a/b\": a service name must not hold '/' \
             (at byte 1); allowed are letters, digits, \".\", \"_\" and \"-\"",
            "keepd.toml:3:11: cannot use service name \"web@1\": \"@\" marks an instance, which is \
             not supported by this version",
            "keepd.toml:5:11: cannot use service name \"\": a service name must not be empty",
        ]
    );
}

#[test]
fn an_error_in_the_defaults_is_told_once() {
    let text = "[defaults]
restart = 'no'
colour = 1
[services]
a = { command = 'x' }
b = { command = 'x' }
";
    assert_eq!(
        errors(text),
        [
            "keepd.toml:2:11: cannot use \"no\" for \"restart\" in table \"defaults\": it takes \
             one of \"always\", \"on-failure\", \"never\"\n  hint: the word is \"never\"",
            "keepd.toml:3:1: cannot use key \"colour\" in table \"defaults\"",
        ]
    );
}

#[test]
fn files_services_and_commands_have_limits() {
    let many: String = (0..10_001).map(|number| format!("s{number}.command = 'x'\n")).collect();
    assert_eq!(
        errors(&format!("[services]\n{many}")),
        ["keepd.toml:10002:1: cannot load 10001 services: the limit is 10000"]
    );
    let long = "a".repeat(128 * 1024);
    assert_eq!(
        errors(&format!("services.web.command = '{long}'")),
        ["keepd.toml:1:24: cannot use a command of 131073 bytes in service \"web\": the limit \
             is 131072"]
    );
    assert_eq!(
        errors(&"#".repeat(1024 * 1024 + 1)),
        ["keepd.toml:1:1: cannot read a file of 1048577 bytes: the limit is 1048576"]
    );
}
