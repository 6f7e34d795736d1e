//! What is said about values that do not fit.

use crate::{errors, loaded};

/// Asserts what is said about one line of a service, without file and line.
#[track_caller]
fn refused(line: &str, expected: &str) {
    let found = errors(&format!("[services.web]\ncommand = 'x'\n{line}"));
    let expected = format!("keepd.toml:3:{expected}");
    assert_eq!(found, [expected.as_str()], "{line}");
}

/// As [`refused`], for a command.
#[track_caller]
fn refused_command(lines: &str, expected: &str) {
    let found = errors(&format!("[services.web]\n{lines}"));
    let expected = format!("keepd.toml:2:{expected}");
    assert_eq!(found, [expected.as_str()], "{lines}");
}

#[test]
fn words_that_mean_the_same_elsewhere() {
    let takes = "it takes one of \"always\", \"on-failure\", \"never\"";
    for (given, ours) in [
        ("'no'", "never"),
        ("'unless-stopped'", "always"),
        ("'on_failure'", "on-failure"),
        ("'unexpected'", "on-failure"),
        ("'alwasy'", "always"),
        ("true", "always"),
        ("false", "never"),
    ] {
        let shown = given.replace('\'', "\"");
        refused(
            &format!("restart = {given}"),
            &format!(
                "11: cannot use {shown} for \"restart\" in service \"web\": {takes}\n  hint: the \
                 word is \"{ours}\""
            ),
        );
    }
    refused(
        "restart = 'sometimes'",
        &format!("11: cannot use \"sometimes\" for \"restart\" in service \"web\": {takes}"),
    );
}

#[test]
fn documented_words_that_are_not_built() {
    for (key, value) in [("kind", "forking"), ("log.mode", "journald"), ("log.mode", "syslog")] {
        refused(
            &format!("{key} = '{value}'"),
            &format!(
                "{}: cannot use \"{value}\" for \"{key}\" in service \"web\": it is not supported \
                 by this version",
                key.len() + 4
            ),
        );
    }
}

#[test]
fn durations() {
    refused(
        "stop_timeout = 1.5",
        "16: cannot use 1.5 for \"stop_timeout\" in service \"web\": a bare number has no unit\n  \
         hint: write \"1.5s\"; supervisord means seconds by it and pm2 milliseconds",
    );
    refused(
        "stop_timeout = '10'",
        "16: cannot use \"10\" for \"stop_timeout\" in service \"web\": a bare number has no \
         unit\n  hint: write \"10s\"; supervisord means seconds by it and pm2 milliseconds",
    );
    refused(
        "stop_timeout = '10sec'",
        "16: cannot use \"10sec\" for \"stop_timeout\" in service \"web\": \"sec\" is no unit; \
         units are \"ms\", \"s\", \"m\", \"h\" and \"d\"",
    );
    refused(
        "stop_timeout = true",
        "16: cannot use true for \"stop_timeout\" in service \"web\": it takes a duration such as \
         \"10s\"",
    );
    refused(
        "ready.interval = '0s'",
        "18: cannot use \"0s\" for \"ready.interval\" in service \"web\": it must be longer than \
         nothing\n  hint: the shortest is \"1ms\"",
    );
}

#[test]
fn commands() {
    refused_command(
        "command = 5",
        "11: cannot use 5 for \"command\" in service \"web\": it takes a string or an array of \
         strings",
    );
    for empty in ["''", "'  '", "\"''\""] {
        let found = &errors(&format!("services.web.command = {empty}"))[0];
        assert!(
            found.ends_with("for \"command\" in service \"web\": it names no program"),
            "{found}"
        );
    }
    refused_command(
        "command = []",
        "11: cannot use an array for \"command\" in service \"web\": it names no program",
    );
    refused_command(
        "command = ['a', 1]",
        "17: cannot use 1 for \"command\" in service \"web\": it takes strings",
    );
    refused_command(
        "command = \"äa 'b\"",
        "15: cannot use \"äa 'b\" for \"command\" in service \"web\": the quote ' is not closed",
    );
    refused_command(
        "command = 'a ${B'",
        "14: cannot use \"a ${B\" for \"command\" in service \"web\": \"${\" has no \"}\" (write \
         \"$$\" for a dollar sign)",
    );
    refused_command(
        "command = ['a', 'x${b c}']",
        "19: cannot use \"x${b c}\" for \"command\" in service \"web\": \"${b c}\" holds no \
         variable name (write \"$$\" for a dollar sign)",
    );
    refused_command(
        "command = 'a && b'",
        "14: cannot use \"a && b\" for \"command\" in service \"web\": \"&&\" means something to a \
         shell only\n  hint: add shell = true to hand the command to /bin/sh",
    );
    refused_command(
        "command = ['a']\nshell = true",
        "11: cannot use an array for \"command\" in service \"web\": it takes a string with shell \
         = true\n  hint: write the command as one string, or leave out shell",
    );
    refused_command(
        "command = \"a\\u0000b\"",
        "13: cannot use \"a\\0b\" for \"command\" in service \"web\": it must not hold a NUL \
         character",
    );
}

#[test]
fn variables_and_paths() {
    refused(
        "env.A = 1.5",
        "9: cannot use 1.5 for \"env.A\" in service \"web\": it takes a string, an integer or \
         false\n  hint: write \"1.5\"",
    );
    refused(
        "env.A = ['x']",
        "9: cannot use an array for \"env.A\" in service \"web\": it takes a string, an integer or \
         false",
    );
    refused(
        "env.A-B = 'x'",
        "5: cannot set variable \"A-B\" in service \"web\": a name has letters, digits and \"_\", \
         and begins with no digit",
    );
    refused(
        "env_inherit = 'PATH'",
        "15: cannot use \"PATH\" for \"env_inherit\" in service \"web\": it takes true, false or \
         an array of names",
    );
    refused(
        "env_inherit = ['A B']",
        "16: cannot use \"A B\" for \"env_inherit\" in service \"web\": it is no name of a \
         variable",
    );
    refused(
        "env_file = ['-']",
        "13: cannot use \"-\" for \"env_file\" in service \"web\": a path must not be empty",
    );
    refused(
        "working_dir = '~/x'",
        "15: cannot use \"~/x\" for \"working_dir\" in service \"web\": \"~\" means something to a \
         shell only\n  hint: write \"${HOME}/x\"",
    );
    let found = errors("keepd.run_dir = '${X}/run'");
    assert_eq!(
        found,
        ["keepd.toml:1:17: cannot use \"${X}/run\" for \"run_dir\" in table \"keepd\": no \
             variable is filled in here"]
    );
}

#[test]
fn numbers_and_signals() {
    refused(
        "umask = 22",
        "9: cannot use 22 for \"umask\" in service \"web\": it takes an octal string from \"0000\" \
         to \"0777\"\n  hint: write \"0022\", a string, for the octal number",
    );
    for bad in ["0888", "1000", "", "+7", "99999999999999"] {
        refused(
            &format!("umask = '{bad}'"),
            &format!(
                "9: cannot use \"{bad}\" for \"umask\" in service \"web\": it takes an octal \
                 string from \"0000\" to \"0777\""
            ),
        );
    }
    refused(
        "stop_signal = 'term'",
        "15: cannot use \"term\" for \"stop_signal\" in service \"web\": it takes a signal such as \
         \"TERM\", or its number\n  hint: the nearest signal is \"TERM\"",
    );
    refused(
        "stop_signal = 65",
        "15: cannot use 65 for \"stop_signal\" in service \"web\": it takes a signal such as \
         \"TERM\", or its number",
    );
    refused(
        "exit_ok = [0, 256]",
        "15: cannot use 256 for \"exit_ok\" in service \"web\": an exit code is 0 to 255",
    );
    refused(
        "exit_ok = ['15']",
        "12: cannot use \"15\" for \"exit_ok\" in service \"web\": a number in quotes is \
         unclear\n  hint: write 15 for an exit code, or the name of a signal",
    );
    refused(
        "exit_ok = 0",
        "11: cannot use 0 for \"exit_ok\" in service \"web\": it takes an array of exit codes and \
         signals\n  hint: write [0]",
    );
    refused(
        "backoff_factor = 0.5",
        "18: cannot use 0.5 for \"backoff_factor\" in service \"web\": it takes a number of 1 or \
         more",
    );
    for bad in ["nan", "inf", "-0.1", "1.1"] {
        refused(
            &format!("backoff_jitter = {bad}"),
            &format!(
                "18: cannot use {bad} for \"backoff_jitter\" in service \"web\": it takes a number \
                 from 0 to 1"
            ),
        );
    }
    refused("user = -1", "8: cannot use -1 for \"user\" in service \"web\": it is no user number");
    refused(
        "enabled = 'true'",
        "11: cannot use \"true\" for \"enabled\" in service \"web\": it takes true or false\n  \
         hint: write true without quotes",
    );
    refused(
        "tags = 'a'",
        "8: cannot use \"a\" for \"tags\" in service \"web\": it takes an array of strings\n  \
         hint: write [\"a\"]",
    );
    refused(
        "tags = ['a b']",
        "9: cannot use \"a b\" for \"tags\" in service \"web\": a tag is one word",
    );
    refused(
        "description = \"a\\nb\"",
        "17: cannot use \"a\\nb\" for \"description\" in service \"web\": it takes one line \
         without control characters",
    );
}

#[test]
fn probes() {
    let takes = "it takes a port from 1 to 65535, or \"host:port\"";
    for bad in ["0", "65536", "-1", "80.0", "true"] {
        refused(
            &format!("ready.port = {bad}"),
            &format!("14: cannot use {bad} for \"ready.port\" in service \"web\": {takes}"),
        );
    }
    for bad in ["db", ":80", "db:", "db:0", "db:+80", "::1:80", "[::g]:80", "a b:80", "tcp://a:80"]
    {
        refused(
            &format!("ready.port = '{bad}'"),
            &format!("14: cannot use \"{bad}\" for \"ready.port\" in service \"web\": {takes}"),
        );
    }
    refused(
        "ready.port = '5432'",
        &format!(
            "14: cannot use \"5432\" for \"ready.port\" in service \"web\": {takes}\n  hint: write \
             5432 without quotes"
        ),
    );
    refused(
        "ready.http = 'https://a/'",
        "14: cannot use \"https://a/\" for \"ready.http\" in service \"web\": https is not \
         supported by this version",
    );
    for bad in ["localhost:80", "http://", "http:///x", ""] {
        refused(
            &format!("ready.http = '{bad}'"),
            &format!(
                "14: cannot use \"{bad}\" for \"ready.http\" in service \"web\": it takes a URL \
                 that begins with \"http://\" and a host"
            ),
        );
    }
    refused(
        "ready.http = \"http://a/\\r\\nX: y\"",
        "14: cannot use \"http://a/\\r\\nX: y\" for \"ready.http\" in service \"web\": a URL has \
         no blanks and no control characters",
    );
    refused(
        "ready.exec = 'a > b'",
        "17: cannot use \"a > b\" for \"ready.exec\" in service \"web\": \">\" means something to \
         a shell only\n  hint: write [\"/bin/sh\", \"-c\", \"...\"]",
    );
    refused(
        "ready.timeout = '1s'",
        "17: cannot reach \"ready\" in service \"web\": \"ready.delay\" (1s) is not shorter than \
         \"ready.timeout\" (1s)\n  hint: \"0s\" for \"ready.timeout\" means no limit",
    );
}

#[test]
fn keys_that_do_not_go_together() {
    refused(
        "restart = 'always'\nkind = 'oneshot'",
        "11: cannot use \"always\" for \"restart\" in service \"web\": a oneshot that succeeded \
         stays done\n  hint: write restart = \"on-failure\", or \"never\", the default of a \
         oneshot",
    );
    refused(
        "backoff_initial = '1m'",
        "19: cannot use \"backoff_initial\" in service \"web\": it is longer than \"backoff_max\"",
    );
    refused(
        "log.file = '/x'",
        "5: cannot use key \"log.file\" in service \"web\": it goes with log.mode = \"append\" \
         only",
    );
    refused(
        "log = { mode = 'null', dir = '/x' }",
        "24: cannot use key \"log.dir\" in service \"web\": it goes with log.mode = \"file\" only",
    );
}

#[test]
fn a_users_text_cannot_write_to_the_terminal_or_flood_it() {
    refused("\"\\u001b[31m\" = 1", "1: cannot use key \"\\u{1b}[31m\" in service \"web\"");
    let long = "y".repeat(10_000);
    let shown = "y".repeat(80);
    refused(
        &format!("kind = '{long}'"),
        &format!(
            "8: cannot use \"{shown}\"... for \"kind\" in service \"web\": it takes one of \
             \"daemon\", \"oneshot\", \"group\""
        ),
    );
}

#[test]
fn other_ways_to_say_ready() {
    let takes = "it takes a descriptor from 3 to 1023";
    for bad in ["2", "1024", "-1", "3.0"] {
        refused(
            &format!("ready.fd = {bad}"),
            &format!("12: cannot use {bad} for \"ready.fd\" in service \"web\": {takes}"),
        );
    }
    refused(
        "ready.fd = '3'",
        &format!(
            "12: cannot use \"3\" for \"ready.fd\" in service \"web\": {takes}\n  hint: write 3 \
             without quotes"
        ),
    );
    let long = "s".repeat(99);
    let shown = "s".repeat(80);
    refused(
        &format!("ready.socket = '{long}'"),
        &format!(
            "16: cannot use \"{shown}\"... for \"ready.socket\" in service \"web\": as an absolute \
             path it has 108 bytes, and that of a unix socket has at most 107"
        ),
    );
    for bad in ["/run/", "..", "a/."] {
        refused(
            &format!("ready.file = '{bad}'"),
            &format!(
                "14: cannot use \"{bad}\" for \"ready.file\" in service \"web\": it names a folder"
            ),
        );
    }
    refused(
        "ready.log = 'listening (on'",
        "24: cannot use \"listening (on\" for \"ready.log\" in service \"web\": it is no regular \
         expression: unclosed group",
    );
    refused(
        "ready.log = ''",
        "13: cannot use \"\" for \"ready.log\" in service \"web\": a pattern must not be empty, or \
         every line would do",
    );
    refused(
        "ready.log = '(\\w{200}){200}'",
        "13: cannot use \"(\\\\w{200}){200}\" for \"ready.log\" in service \"web\": it needs more \
         than 1 MiB of memory",
    );
}

#[test]
fn a_log_that_keepd_does_not_write_cannot_be_looked_at() {
    let why = "keepd can read only what it writes itself\n  hint: leave out log.mode, or write \
               log.mode = \"file\"";
    assert_eq!(
        errors("[services.web]\ncommand = 'x'\nlog.mode = 'inherit'\nready.log = 'x'"),
        [format!(
            "keepd.toml:4:7: cannot use \"ready.log\" in service \"web\" with log.mode = \
             \"inherit\": {why}"
        )]
    );
    // The key that is not of the defaults is the one to change.
    assert_eq!(
        errors("[defaults]\nready.log = 'x'\n[services.web]\ncommand = 'x'\nlog.mode = 'null'"),
        [format!(
            "keepd.toml:5:5: cannot use \"ready.log\" in service \"web\" with log.mode = \"null\": \
             {why}"
        )]
    );
    assert_eq!(
        errors("[defaults]\nready.log = 'x'\nlog.mode = 'null'\n[services.web]\ncommand = 'x'"),
        [format!(
            "keepd.toml:2:7: cannot use \"ready.log\" in table \"defaults\" with log.mode = \
             \"null\": {why}"
        )]
    );
}

#[test]
fn groups_of_a_process() {
    refused(
        "group = -1",
        "9: cannot use -1 for \"group\" in service \"web\": it is no group number",
    );
    refused(
        "extra_groups = 'video'",
        "16: cannot use \"video\" for \"extra_groups\" in service \"web\": it takes an array of \
         names and numbers\n  hint: write [\"video\"]",
    );
    refused(
        "extra_groups = ['video', '']",
        "26: cannot use \"\" for \"extra_groups\" in service \"web\": it is no name of a group",
    );
    refused(
        "extra_groups = [true]",
        "17: cannot use true for \"extra_groups\" in service \"web\": it takes an array of names \
         and numbers",
    );
    let many: String = (0..1_001).map(|number| format!("{number},")).collect();
    refused(
        &format!("extra_groups = [{many}]"),
        "16: cannot use an array for \"extra_groups\" in service \"web\": it takes 1000 groups at \
         most",
    );
}

#[test]
fn limits_of_restarts() {
    for bad in ["-1", "1001", "0.5", "true"] {
        refused(
            &format!("restart_limit = {bad}"),
            &format!(
                "17: cannot use {bad} for \"restart_limit\" in service \"web\": it takes a whole \
                 number from 0 to 1000"
            ),
        );
    }
    let text = "[services.web]\ncommand = 'x'\nrestart_limit = 5\nrestart_window = '0s'";
    assert_eq!(
        errors(text),
        ["keepd.toml:4:18: cannot limit restarts in service \"web\": \"restart_window\" is \
             \"0s\", in which nothing can be counted\n  hint: 0 for restart_limit means no limit"]
    );
    let text =
        "[defaults]\nrestart_window = '0s'\n[services.web]\ncommand = 'x'\nrestart_limit = 5";
    assert!(errors(text)[0].starts_with("keepd.toml:5:17: cannot limit restarts"));
    let warnings = loaded("[services.web]\ncommand = 'x'\nrestart_window = '1m'").warnings;
    let said: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["keepd.toml:3:1: key \"restart_window\" has no effect in service \"web\": nothing is \
             limited\n  hint: add restart_limit = COUNT"]
    );
    let text = "[defaults]\nrestart_window = '1m'\n[services.web]\ncommand = 'x'";
    assert!(loaded(text).warnings.is_empty());
    assert_eq!(
        errors("[keepd]\nhistory = 201"),
        ["keepd.toml:2:11: cannot use 201 for \"history\" in table \"keepd\": it takes a whole \
             number from 0 to 200"]
    );
}

#[test]
fn a_reload_is_a_signal_or_a_command() {
    refused(
        "reload_command = 'kill -HUP $MAINPID'",
        "18: cannot use \"kill -HUP $MAINPID\" for \"reload_command\" in service \"web\": \
         \"$MAINPID\" means something to a shell only\n  hint: write [\"/bin/sh\", \"-c\", \
         \"kill -HUP $MAINPID\"], or use reload_signal",
    );
    refused(
        "reload_command = 'kill -HUP 1 && true'",
        "31: cannot use \"kill -HUP 1 && true\" for \"reload_command\" in service \"web\": \"&&\" \
         means something to a shell only\n  hint: write [\"/bin/sh\", \"-c\", \"...\"]",
    );
    let text = "[services.web]\ncommand = 'x'\nreload_signal = 'HUP'\nreload_command = 'x'";
    assert_eq!(
        errors(text),
        ["keepd.toml:4:1: cannot use both \"reload_signal\" and \"reload_command\" in service \
             \"web\": a reload is one of them\n  hint: leave out one of them; reload_signal stands \
             at keepd.toml:3:1"]
    );
}
