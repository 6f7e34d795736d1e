//! The keys of a service, one row each.

use keepd_model::{
    Apply, CommandLine, EnvFile, EnvInherit, ExpectedEnd, KillMode, Kind, Probe, RestartPolicy,
    ShutdownOn, Signal, StderrMode, Template,
};
use toml::de::DeValue;

use crate::diagnostic::quoted;
use crate::field::{Field, Value, integer, put, shown};
use crate::schema::{KeyDoc, Row, Section};
use crate::service::{Destination, Draft};
use crate::{edges, probes};

/// The most supplementary groups: far below what Linux takes (NGROUPS_MAX), and far above what
/// anybody needs.
const EXTRA_GROUPS_MAX: usize = 1_000;

/// The most restarts that can be allowed within a window: each of them is remembered.
const RESTART_LIMIT_MAX: u32 = 1_000;

/// Every key of `[services.NAME]`. `kind` is read before all that a group cannot have, and `shell`
/// before `command`, which it changes.
pub(crate) static ROWS: &[Row<Draft>] = &[
    row(("description", "string", "\"\""), "one line for people", Apply::Live, |draft, field| {
        put(&mut draft.spec.description, field.line());
    }),
    row(
        ("kind", "daemon, oneshot, group", "\"daemon\""),
        "daemon: runs until it is stopped; oneshot: runs, ends, stays done; group: no process, \
         depends_on lists its members",
        Apply::Restart,
        |draft, field| put(&mut draft.spec.kind, field.word(Kind::ALL, Kind::word)),
    ),
    row(
        ("shell", "bool", "false"),
        "hands command, a string, to /bin/sh -c, unsubstituted",
        Apply::Restart,
        |draft, field| put(&mut draft.shell, field.boolean()),
    ),
    row(
        ("command", "command", "required, none for a group"),
        "what to run; found by the service's PATH",
        Apply::Restart,
        read_command,
    ),
    row(
        ("enabled", "bool", "true"),
        "wanted up when keepd starts; false: only by command or as a dependency",
        Apply::Live,
        |draft, field| put(&mut draft.spec.enabled, field.boolean()),
    ),
    row(("tags", "array of strings", "[]"), "words for selectors (tag:T)", Apply::Live, read_tags),
    Row {
        doc: KeyDoc {
            section: Section::Service,
            key: "override",
            value: "bool",
            default: "false",
            meaning: "this table is put over that of an earlier file: tables merge, all else \
                      replaces",
            apply: None,
        },
        // Which tables are put over which has been settled before keys are read.
        read: |_, field| {
            field.boolean();
        },
    },
    row(
        ("working_dir", "path", "\"/\"; in up the folder of the file"),
        "where it runs; must exist",
        Apply::Restart,
        |draft, field| put(&mut draft.spec.working_dir, field.path()),
    ),
    row(
        ("user", "string", "\"\""),
        "user by name or number; empty: keepd's own. Sets HOME, USER, LOGNAME, SHELL",
        Apply::Restart,
        |draft, field| draft.spec.user = account(field, "user"),
    ),
    row(
        ("group", "string", "\"\""),
        "group by name or number; empty: that of the user",
        Apply::Restart,
        |draft, field| draft.spec.group = account(field, "group"),
    ),
    row(
        ("extra_groups", "array of strings", "those of the user"),
        "supplementary groups by name or number; they replace the whole list",
        Apply::Restart,
        |draft, field| draft.spec.extra_groups = extra_groups(field),
    ),
    row(
        ("umask", "string", "\"0022\""),
        "file mode creation mask, octal",
        Apply::Restart,
        |draft, field| put(&mut draft.spec.umask, umask(field)),
    ),
    row(
        ("env", "table", "{}"),
        "variables; they win over files and inheritance; NAME = false removes one",
        Apply::Restart,
        read_variable,
    ),
    row(
        ("env_file", "path or array of paths", "[]"),
        "files of KEY=value lines, read at every start; later wins; leading -: may be missing",
        Apply::NextStart,
        |draft, field| put(&mut draft.spec.env_files, env_files(field)),
    ),
    row(
        ("env_inherit", "bool or array of names", "true"),
        "which of keepd's own variables pass: all, none but PATH, or these",
        Apply::Restart,
        |draft, field| put(&mut draft.spec.env_inherit, env_inherit(field)),
    ),
    row(
        ("depends_on", "array of names, or table of edges", "{}"),
        "services that must be there first",
        Apply::Live,
        edges::read,
    ),
    row(
        ("after", "array of names", "[]"),
        "order only: what starts before it and stops after it, if both do anyway",
        Apply::Live,
        edges::read_after,
    ),
    row(
        ("before", "array of names", "[]"),
        "order only: what starts after it and stops before it, if both do anyway",
        Apply::Live,
        edges::read_before,
    ),
    row(
        ("stop_signal", "signal", "\"TERM\""),
        "the polite signal; CONT follows it",
        Apply::Live,
        |draft, field| put(&mut draft.spec.stop.signal, field.signal()),
    ),
    row(
        ("stop_timeout", "duration", "\"10s\""),
        "then KILL to all; \"0s\": KILL at once",
        Apply::Live,
        |draft, field| put(&mut draft.spec.stop.timeout, field.duration()),
    ),
    row(
        ("kill_mode", "mixed, all, main", "\"mixed\""),
        "mixed: signal to the main process, KILL to the rest; all: signal to every process; main: \
         only the main process, what it leaves behind stays",
        Apply::Live,
        |draft, field| {
            let mode = field.word(KillMode::ALL, KillMode::word);
            put(&mut draft.spec.stop.kill_mode, mode);
        },
    ),
    row(
        ("reload_signal", "signal", "none"),
        "asks it to read its files again; without it and reload_command, reload is refused",
        Apply::Live,
        |draft, field| draft.reload_signal = field.signal(),
    ),
    row(
        ("reload_command", "command", "none"),
        "the same by a command, run in the service's context with MAINPID; at most one of the two",
        Apply::Live,
        |draft, field| draft.reload_command = reload_command(field),
    ),
    row(
        ("restart", "always, on-failure, never", "\"always\", \"never\" for a oneshot"),
        "whether it is started again after an end",
        Apply::Live,
        |draft, field| draft.restart = field.word(RestartPolicy::ALL, RestartPolicy::word),
    ),
    row(
        ("exit_ok", "array of exit codes and signals", "[0]"),
        "ends that count as success",
        Apply::Live,
        |draft, field| put(&mut draft.spec.exit_ok, exit_ok(field)),
    ),
    row(
        ("backoff_initial", "duration", "\"500ms\""),
        "the first delay before a restart",
        Apply::Live,
        |draft, field| put(&mut draft.spec.backoff.initial, field.duration_above_zero()),
    ),
    row(
        ("backoff_max", "duration", "\"30s\""),
        "the longest delay",
        Apply::Live,
        |draft, field| put(&mut draft.spec.backoff.max, field.duration_above_zero()),
    ),
    row(
        ("backoff_factor", "number >= 1", "2.0"),
        "growth from one delay to the next",
        Apply::Live,
        |draft, field| {
            let factor = field.number(1.0, f64::MAX, "a number of 1 or more");
            put(&mut draft.spec.backoff.factor, factor);
        },
    ),
    row(
        ("backoff_jitter", "number 0 to 1", "0.2"),
        "share of a delay that chance may take away",
        Apply::Live,
        |draft, field| {
            let jitter = field.number(0.0, 1.0, "a number from 0 to 1");
            put(&mut draft.spec.backoff.jitter, jitter);
        },
    ),
    row(
        ("backoff_reset", "duration", "\"60s\""),
        "this long ready: back to the first delay, and no restarts counted",
        Apply::Live,
        |draft, field| put(&mut draft.spec.backoff.reset, field.duration()),
    ),
    row(
        ("restart_limit", "0 to 1000", "0"),
        "more automatic restarts than this within restart_window: failed; 0: never given up",
        Apply::Live,
        |draft, field| {
            let count = field.whole(0, RESTART_LIMIT_MAX, "a whole number from 0 to 1000");
            put(&mut draft.spec.restart_limit.count, count);
        },
    ),
    row(
        ("restart_window", "duration", "\"10m\""),
        "in which restarts are counted for restart_limit",
        Apply::Live,
        |draft, field| put(&mut draft.spec.restart_limit.window, field.duration()),
    ),
    row(
        ("shutdown_on", "never, failure, exit", "\"never\""),
        "whose end is the end of everything: its failure, or any end",
        Apply::Live,
        |draft, field| {
            let end = field.word(ShutdownOn::ALL, ShutdownOn::word);
            put(&mut draft.spec.shutdown_on, end);
        },
    ),
    row(
        ("ready.notify", "bool", "false"),
        "ready when READY=1 comes on NOTIFY_SOCKET, from any of its processes",
        Apply::Restart,
        |draft, field| put(&mut draft.spec.ready.notify, field.boolean()),
    ),
    row(
        ("ready.fd", "3 to 1023", "none"),
        "ready when a line feed is written to this descriptor, which is KEEPD_READY_FD, too",
        Apply::Restart,
        |draft, field| draft.spec.ready.fd = probes::fd(field),
    ),
    row(
        ("ready.port", "port or \"host:port\"", "none"),
        "ready when a TCP connection can be made; host 127.0.0.1",
        Apply::Live,
        |draft, field| draft.spec.ready.probes.extend(probes::port(field)),
    ),
    row(
        ("ready.http", "URL", "none"),
        "ready when the answer is 200 to 399",
        Apply::Live,
        |draft, field| draft.spec.ready.probes.extend(probes::http(field)),
    ),
    row(
        ("ready.exec", "command", "none"),
        "ready when it exits with 0; runs in the service's context",
        Apply::Live,
        |draft, field| {
            draft.spec.ready.probes.extend(field.command().map(Probe::Exec));
        },
    ),
    row(
        ("ready.socket", "path", "none"),
        "ready when a connection to this unix socket can be made",
        Apply::Live,
        |draft, field| draft.spec.ready.probes.extend(probes::socket(field)),
    ),
    row(
        ("ready.file", "path", "none"),
        "ready when this path exists; what is left of an earlier run is removed before a start",
        Apply::Live,
        |draft, field| draft.spec.ready.probes.extend(probes::file(field)),
    ),
    row(
        ("ready.log", "regular expression", "none"),
        "ready when a line matches that it wrote since this start; needs log.mode = \"file\"",
        Apply::Live,
        |draft, field| draft.spec.ready.probes.extend(probes::log(field)),
    ),
    row(
        ("ready.delay", "duration", "\"1s\" if nothing else is asked, else \"0s\""),
        "must have stayed up this long",
        Apply::Live,
        |draft, field| draft.ready_delay = field.duration(),
    ),
    row(
        ("ready.timeout", "duration", "\"60s\", \"0s\" for a oneshot"),
        "everything asked must have succeeded by then; \"0s\": no limit",
        Apply::Live,
        |draft, field| draft.ready_timeout = field.duration(),
    ),
    row(
        ("ready.interval", "duration", "\"250ms\""),
        "from one attempt of a probe to the next",
        Apply::Live,
        |draft, field| put(&mut draft.spec.ready.interval, field.duration_above_zero()),
    ),
    row(
        ("log.mode", "file, append, null, inherit", "\"file\""),
        "files of keepd's own, one file of yours, nowhere, or keepd's own output",
        Apply::Restart,
        |draft, field| draft.log_mode = field.word(Destination::ALL, Destination::word),
    ),
    row(
        ("log.dir", "path", "\"${keepd.log_dir}/${keepd.service}\""),
        "folder for mode file; made if missing",
        Apply::Restart,
        |draft, field| draft.log_dir = field.path(),
    ),
    row(
        ("log.file", "path", "required for append"),
        "file for mode append; its folder must exist",
        Apply::Restart,
        |draft, field| draft.log_file = field.path(),
    ),
    row(
        ("log.stderr", "separate, merge", "\"separate\""),
        "a file of its own for standard error, or that of standard output",
        Apply::Restart,
        |draft, field| {
            let mode = field.word(StderrMode::ALL, StderrMode::word);
            put(&mut draft.spec.log.stderr, mode);
        },
    ),
];

const fn row(
    (key, value, default): (&'static str, &'static str, &'static str),
    meaning: &'static str,
    apply: Apply,
    read: fn(&mut Draft, &mut Field<'_, '_>),
) -> Row<Draft> {
    let doc =
        KeyDoc { section: Section::Service, key, value, default, meaning, apply: Some(apply) };
    Row { doc, read }
}

fn read_command(draft: &mut Draft, field: &mut Field<'_, '_>) {
    if !draft.shell {
        draft.command = field.command();
        return;
    }
    if !field.entry.value.get_ref().is_str() {
        let hint = "write the command as one string, or leave out shell".to_owned();
        field.refuse("it takes a string with shell = true", Some(hint));
        return;
    }
    match field.text() {
        Some(line) if line.trim().is_empty() => field.refuse("it names no program", None),
        Some(line) => draft.command = Some(CommandLine::Shell(line.to_owned())),
        None => {}
    }
}

fn read_tags(draft: &mut Draft, field: &mut Field<'_, '_>) {
    let Some(tags) = field.texts() else { return };
    draft.spec.tags.clear();
    for (item, tag) in tags {
        if tag.is_empty()
            || tag.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        {
            field.refuse_part(item, None, "a tag is one word", None);
        } else {
            draft.spec.tags.push(tag.to_owned());
        }
    }
}

/// Reads a user or group: a name, or a number. Empty takes back what `[defaults]` says.
fn account(field: &mut Field<'_, '_>, what: &str) -> Option<String> {
    let value = field.entry.value;
    let found = match value.get_ref() {
        DeValue::Integer(_) => account_number(field, value, what),
        DeValue::String(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => field.line(),
    };
    found.filter(|found| !found.is_empty())
}

fn account_number(field: &mut Field<'_, '_>, part: &Value<'_>, what: &str) -> Option<String> {
    let number = integer(part).and_then(|number| u32::try_from(number).ok());
    // The number with all bits set means "no change" to the kernel (setresuid(2)).
    let number = number.filter(|number| *number != u32::MAX);
    if number.is_none() {
        field.refuse_part(part, None, &format!("it is no {what} number"), None);
    }
    number.map(|number| number.to_string())
}

fn extra_groups(field: &mut Field<'_, '_>) -> Option<Vec<String>> {
    let takes = "it takes an array of names and numbers";
    let Some(items) = field.entry.value.get_ref().as_array() else {
        let hint = field.entry.value.get_ref().as_str();
        let hint = hint.map(|text| format!("write [{}]", quoted(text)));
        field.refuse(takes, hint);
        return None;
    };
    if items.len() > EXTRA_GROUPS_MAX {
        field.refuse(&format!("it takes {EXTRA_GROUPS_MAX} groups at most"), None);
        return None;
    }
    let mut groups = Vec::with_capacity(items.len());
    for item in items.iter() {
        match item.get_ref() {
            DeValue::Integer(_) => groups.extend(account_number(field, item, "group")),
            DeValue::String(text) if text.is_empty() || text.contains(char::is_control) => {
                field.refuse_part(item, None, "it is no name of a group", None);
            }
            DeValue::String(text) => groups.push(text.to_string()),
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => field.refuse_part(item, None, takes, None),
        }
    }
    Some(groups)
}

/// Reads `reload_command`, in which people write `$MAINPID` as they do for systemd.
fn reload_command(field: &mut Field<'_, '_>) -> Option<CommandLine> {
    let command = field.command()?;
    let is_literal = |word: &Template| word.as_literal() == Some("$MAINPID");
    match &command {
        CommandLine::Words(words) if words.iter().any(is_literal) => {
            let hint = "write [\"/bin/sh\", \"-c\", \"kill -HUP $MAINPID\"], or use reload_signal";
            let reason = "\"$MAINPID\" means something to a shell only";
            field.refuse(reason, Some(hint.to_owned()));
            None
        }
        CommandLine::Words(_) | CommandLine::Shell(_) => Some(command),
    }
}

fn umask(field: &mut Field<'_, '_>) -> Option<u32> {
    let value = field.entry.value.get_ref();
    let mask = value
        .as_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mask| *mask <= 0o777);
    if mask.is_none() {
        let hint = match value {
            DeValue::Integer(_) => {
                Some("write \"0022\", a string, for the octal number".to_owned())
            }
            DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        field.refuse("it takes an octal string from \"0000\" to \"0777\"", hint);
    }
    mask
}

fn read_variable(draft: &mut Draft, field: &mut Field<'_, '_>) {
    let name = field.key.strip_prefix("env.").unwrap_or(field.key);
    if !is_variable_name(name) {
        let place = field.place;
        let shown = quoted(name);
        let origin = field.entry.key_origin();
        let message = format!(
            "cannot set variable {shown} {place}: a name has letters, digits and \"_\", and begins \
             with no digit"
        );
        field.error(origin, message, None);
        return;
    }
    let value = match field.entry.value.get_ref() {
        DeValue::Boolean(false) => Some(None),
        DeValue::String(_) => field.template().map(Some),
        DeValue::Integer(_) => match integer(field.entry.value) {
            Some(number) => Some(Some(Template::literal(&number.to_string()))),
            None => {
                field.refuse("the number is too large", Some("write it in quotes".into()));
                None
            }
        },
        other @ (DeValue::Boolean(true) | DeValue::Float(_)) => {
            let hint = format!("write \"{}\"", shown(other));
            field.refuse("it takes a string, an integer or false", Some(hint));
            None
        }
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            field.refuse("it takes a string, an integer or false", None);
            None
        }
    };
    if let Some(value) = value {
        draft.spec.env.insert(name.to_owned(), value);
    }
}

fn is_variable_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(fits) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn env_files(field: &mut Field<'_, '_>) -> Option<Vec<EnvFile>> {
    let value = field.entry.value;
    let texts = match value.get_ref().as_str() {
        Some(_) => vec![(value, field.text()?)],
        None => field.texts()?,
    };
    let mut files = Vec::with_capacity(texts.len());
    for (item, text) in texts {
        let (path, optional) = match text.strip_prefix('-') {
            Some(path) => (path, true),
            None => (text, false),
        };
        let path = field.path_of(item, path);
        files.extend(path.map(|path| EnvFile { path, optional }));
    }
    Some(files)
}

fn env_inherit(field: &mut Field<'_, '_>) -> Option<EnvInherit> {
    match field.entry.value.get_ref() {
        DeValue::Boolean(true) => Some(EnvInherit::All),
        DeValue::Boolean(false) => Some(EnvInherit::None),
        DeValue::Array(_) => {
            let names = field.texts()?;
            for (item, name) in &names {
                if !is_variable_name(name) {
                    field.refuse_part(item, None, "it is no name of a variable", None);
                }
            }
            let names = names.into_iter().map(|(_, name)| name.to_owned());
            Some(EnvInherit::Only(names.collect()))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => {
            field.refuse("it takes true, false or an array of names", None);
            None
        }
    }
}

fn exit_ok(field: &mut Field<'_, '_>) -> Option<Vec<ExpectedEnd>> {
    let value = field.entry.value.get_ref();
    let Some(items) = value.as_array() else {
        let hint = value.as_integer().map(|code| format!("write [{code}]"));
        field.refuse("it takes an array of exit codes and signals", hint);
        return None;
    };
    let mut ends = Vec::with_capacity(items.len());
    for item in items.iter() {
        match item.get_ref() {
            DeValue::Integer(_) => match integer(item).and_then(|code| u8::try_from(code).ok()) {
                Some(code) => ends.push(ExpectedEnd::Code(code)),
                None => field.refuse_part(item, None, "an exit code is 0 to 255", None),
            },
            // "15" could be meant either way, so a signal has its name here.
            DeValue::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                let hint = format!("write {text} for an exit code, or the name of a signal");
                field.refuse_part(item, None, "a number in quotes is unclear", Some(hint));
            }
            DeValue::String(text) => match Signal::parse(text) {
                Ok(signal) => ends.push(ExpectedEnd::Signal(signal)),
                Err(_) => field.refuse_signal(item),
            },
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                field.refuse_part(item, None, "it takes exit codes and signals", None);
            }
        }
    }
    Some(ends)
}
