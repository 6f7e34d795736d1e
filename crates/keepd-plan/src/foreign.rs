//! The words of other supervisors, for hints: what supervisord, systemd, process-compose, compose,
//! pebble and pm2 call what keepd calls otherwise.

use crate::folded::folded;
use crate::schema::Section;

/// Foreign keys, folded (lower case, no dashes, no underscores), and the key that means it here.
const SERVICE_KEYS: &[(&str, &str)] = &[
    // supervisord
    ("autorestart", "restart"),
    ("autostart", "enabled"),
    ("directory", "working_dir"),
    ("environment", "env"),
    ("exitcodes", "exit_ok"),
    ("killasgroup", "kill_mode"),
    ("minfds", "limits"),
    ("numprocs", "instances"),
    ("priority", "after"),
    ("redirectstderr", "log.stderr"),
    ("startretries", "restart_limit"),
    ("startsecs", "ready.delay"),
    ("stderrlogfile", "log.dir"),
    ("stdoutlogfile", "log.dir"),
    ("stdoutlogfilebackups", "log.max_files"),
    ("stdoutlogfilemaxbytes", "log.max_size"),
    ("stopasgroup", "kill_mode"),
    ("stopwaitsecs", "stop_timeout"),
    // systemd
    ("environmentfile", "env_file"),
    ("bindsto", "depends_on"),
    ("execreload", "reload_command"),
    ("execstart", "command"),
    ("execstop", "stop_command"),
    ("failureaction", "shutdown_on"),
    ("killsignal", "stop_signal"),
    ("limitnofile", "limits"),
    ("listenstream", "sockets"),
    ("memorymax", "limits"),
    ("oncalendar", "schedule"),
    ("partof", "depends_on"),
    ("requires", "depends_on"),
    ("requisite", "depends_on"),
    ("restartmaxdelaysec", "backoff_max"),
    ("restartsec", "backoff_initial"),
    ("restartsteps", "backoff_factor"),
    ("standarderror", "log.stderr"),
    ("standardoutput", "log.mode"),
    ("startlimitburst", "restart_limit"),
    ("startlimitinterval", "restart_window"),
    ("startlimitintervalsec", "restart_window"),
    ("successexitstatus", "exit_ok"),
    ("supplementarygroups", "extra_groups"),
    ("timeoutstartsec", "ready.timeout"),
    ("timeoutstopsec", "stop_timeout"),
    ("type", "kind"),
    ("wantedby", "enabled"),
    ("wants", "depends_on"),
    ("watchdogsec", "health"),
    ("workingdirectory", "working_dir"),
    // process-compose and compose
    ("availability", "restart"),
    ("backoffseconds", "backoff_initial"),
    ("deploy", "instances"),
    ("disabled", "enabled"),
    ("entrypoint", "command"),
    ("exitonend", "shutdown_on"),
    ("exitonfailure", "shutdown_on"),
    ("healthcheck", "health"),
    ("extends", "override"),
    ("isdaemon", "kind"),
    ("livenessprobe", "health"),
    ("logging", "log"),
    ("loglocation", "log.file"),
    ("groupadd", "extra_groups"),
    ("maxrestarts", "restart_limit"),
    ("maxretries", "restart_limit"),
    ("parentonly", "kill_mode"),
    ("memlimit", "limits"),
    ("ports", "sockets"),
    ("profiles", "enabled"),
    ("readinessprobe", "ready"),
    ("readylogline", "ready.log"),
    ("replicas", "instances"),
    ("shutdown", "stop_signal"),
    ("stopgraceperiod", "stop_timeout"),
    ("successexitcodes", "exit_ok"),
    ("ulimits", "limits"),
    // dinit, s6
    ("dependsms", "depends_on"),
    ("logfile", "log.file"),
    ("notificationfd", "ready.fd"),
    ("readynotification", "ready.fd"),
    ("restartlimitcount", "restart_limit"),
    ("restartlimitinterval", "restart_window"),
    ("socketlisten", "sockets"),
    ("waitsfor", "depends_on"),
    // pebble
    ("backoffdelay", "backoff_initial"),
    ("backofflimit", "backoff_max"),
    ("checks", "health"),
    ("killdelay", "stop_timeout"),
    ("oncheckfailure", "health"),
    ("onfailure", "restart"),
    ("onsuccess", "restart"),
    ("startup", "enabled"),
    ("startupafter", "after"),
    // pm2, Procfile runners and what people try
    ("args", "command"),
    ("autoload", "enabled"),
    ("cmd", "command"),
    ("cwd", "working_dir"),
    ("dir", "working_dir"),
    ("environ", "env"),
    ("exec", "command"),
    ("killtimeout", "stop_timeout"),
    ("minuptime", "ready.delay"),
    ("run", "command"),
    ("script", "command"),
    ("waitready", "ready.notify"),
    ("workdir", "working_dir"),
    ("workingdirectory", "working_dir"),
];

/// As [`SERVICE_KEYS`], for the file itself.
const TOP_KEYS: &[(&str, &str)] = &[
    ("default", "defaults"),
    ("manager", "keepd"),
    ("processes", "services"),
    ("extends", "include"),
    ("files", "include"),
    ("groups", "services"),
    ("imports", "include"),
    ("program", "services"),
    ("programs", "services"),
    ("supervisord", "keepd"),
];

/// As [`SERVICE_KEYS`], for `[keepd]`.
const MANAGER_KEYS: &[(&str, &str)] = &[
    ("format", "log_format"),
    ("level", "log_level"),
    ("historymax", "history"),
    ("historysize", "history"),
    ("loglocation", "log_dir"),
    ("logfile", "log_dir"),
    ("rundirectory", "run_dir"),
    ("statedirectory", "state_dir"),
    ("stoptimeout", "shutdown_timeout"),
];

/// As [`SERVICE_KEYS`], for one edge of `depends_on`.
const EDGE_KEYS: &[(&str, &str)] = &[
    ("condition", "until"),
    ("optional", "required"),
    ("restart", "on_stop"),
    ("state", "until"),
    ("wait", "until"),
];

/// Key, folded foreign value, and the word that means it here.
const VALUES: &[(&str, &str, &str)] = &[
    ("restart", "no", "never"),
    ("restart", "false", "never"),
    ("restart", "none", "never"),
    ("restart", "ignore", "never"),
    ("restart", "onabnormal", "on-failure"),
    ("restart", "onabort", "on-failure"),
    ("restart", "onerror", "on-failure"),
    ("restart", "exitonfailure", "never"),
    ("restart", "true", "always"),
    ("restart", "unlessstopped", "always"),
    ("restart", "unexpected", "on-failure"),
    ("restart", "yes", "always"),
    ("kind", "simple", "daemon"),
    ("kind", "notify", "daemon"),
    ("kind", "service", "daemon"),
    ("kind", "exec", "daemon"),
    ("kind", "job", "oneshot"),
    ("kind", "target", "group"),
    ("kind", "internal", "group"),
    ("kind", "task", "oneshot"),
    ("kill_mode", "controlgroup", "all"),
    ("kill_mode", "group", "all"),
    ("kill_mode", "process", "main"),
    ("log.mode", "journal", "journald"),
    ("log.mode", "none", "null"),
    ("log.mode", "off", "null"),
    ("log.mode", "console", "inherit"),
    ("log.mode", "stdout", "inherit"),
    ("log.stderr", "stdout", "merge"),
    ("log.stderr", "true", "merge"),
    ("log.stderr", "false", "separate"),
    ("shutdown_on", "no", "never"),
    ("shutdown_on", "end", "exit"),
    ("on_stop", "false", "ignore"),
    ("on_stop", "never", "ignore"),
    ("on_stop", "no", "ignore"),
    ("on_stop", "none", "ignore"),
    ("on_stop", "true", "restart"),
    ("override", "merge", "true"),
    ("override", "replace", "true"),
    ("required", "no", "false"),
    ("required", "yes", "true"),
    ("until", "healthy", "healthy"),
    ("until", "processcompleted", "exited"),
    ("until", "processcompletedsuccessfully", "done"),
    ("until", "processhealthy", "healthy"),
    ("until", "processstarted", "started"),
    ("until", "running", "ready"),
    ("until", "servicecompletedsuccessfully", "done"),
    ("until", "servicehealthy", "healthy"),
    ("until", "servicestarted", "started"),
    ("echo", "true", "text"),
    ("echo", "false", "off"),
    ("log_level", "warning", "warn"),
    ("log_level", "critical", "error"),
];

/// Returns the key of keepd for a foreign one.
pub(crate) fn key(section: Section, key: &str) -> Option<&'static str> {
    let table = match section {
        Section::Top => TOP_KEYS,
        Section::Keepd => MANAGER_KEYS,
        Section::Service => SERVICE_KEYS,
        Section::Edge => EDGE_KEYS,
    };
    let key = folded(key);
    let found = table.iter().find(|(foreign, _)| *foreign == key);
    found.map(|(_, ours)| *ours)
}

/// Returns the word of keepd for a foreign value of this key.
pub(crate) fn value(key: &str, value: &str) -> Option<&'static str> {
    let value = folded(value);
    let found = VALUES.iter().find(|(of, foreign, _)| *of == key && *foreign == value);
    found.map(|(_, _, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Status, status};

    #[test]
    fn every_hint_names_a_documented_key() {
        for (section, table) in [
            (Section::Top, TOP_KEYS),
            (Section::Keepd, MANAGER_KEYS),
            (Section::Service, SERVICE_KEYS),
            (Section::Edge, EDGE_KEYS),
        ] {
            for (foreign, ours) in table {
                assert_eq!(*foreign, folded(foreign), "written as it is compared");
                assert_ne!(status(section, ours), Status::Unknown, "{foreign} -> {ours}");
                assert_eq!(status(section, foreign), Status::Unknown, "{foreign} is our own");
            }
        }
    }

    #[test]
    fn foreign_words_are_found_however_they_are_written() {
        assert_eq!(key(Section::Service, "ExecStart"), Some("command"));
        assert_eq!(key(Section::Service, "kill-delay"), Some("stop_timeout"));
        assert_eq!(key(Section::Service, "startsecs"), Some("ready.delay"));
        assert_eq!(key(Section::Service, "nothing"), None);
        assert_eq!(value("restart", "unless-stopped"), Some("always"));
        assert_eq!(value("kind", "unless-stopped"), None);
    }
}
