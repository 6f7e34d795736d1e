//! The keys of a service, one row each.

use keepd_model::{
    Apply, CommandLine, EnvFile, EnvInherit, ExpectedEnd, HttpProbe, KillMode, Kind, Probe, Reload,
    RestartPolicy, ShutdownOn, Signal, StderrMode, TcpProbe, Template,
};
use toml::de::DeValue;

use crate::diagnostic::quoted;
use crate::edges;
use crate::field::{Field, integer, put, shown};
use crate::schema::{KeyDoc, Row, Section};
use crate::service::{Destination, Draft};

/// Every key of `[services.NAME]`. `shell` is read before `command`, which it changes.
pub(crate) static ROWS: &[Row<Draft>] = &[
    row(("description", "string", "\"\""), "one line for people", Apply::Live, |draft, field| {
        put(&mut draft.spec.description, field.line());
    }),
    row(
        ("kind", "daemon, oneshot", "\"daemon\""),
        "daemon: runs until it is stopped; oneshot: runs, ends, stays done",
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
        ("command", "command", "required"),
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
        read_user,
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
        ("kill_mode", "mixed, all", "\"mixed\""),
        "mixed: signal to the main process, KILL to the rest; all: signal to every process",
        Apply::Live,
        |draft, field| {
            let mode = field.word(KillMode::ALL, KillMode::word);
            put(&mut draft.spec.stop.kill_mode, mode);
        },
    ),
    row(
        ("reload_signal", "signal", "none"),
        "asks it to read its files again; without it reload is refused",
        Apply::Live,
        |draft, field| draft.spec.reload = field.signal().map(Reload::Signal),
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
        "this long ready: back to the first delay",
        Apply::Live,
        |draft, field| put(&mut draft.spec.backoff.reset, field.duration()),
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
        ("ready.port", "port or \"host:port\"", "none"),
        "ready when a TCP connection can be made; host 127.0.0.1",
        Apply::Live,
        |draft, field| draft.spec.ready.probes.extend(port(field)),
    ),
    row(
        ("ready.http", "URL", "none"),
        "ready when the answer is 200 to 399",
        Apply::Live,
        |draft, field| draft.spec.ready.probes.extend(http(field)),
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

fn read_user(draft: &mut Draft, field: &mut Field<'_, '_>) {
    let value = field.entry.value;
    let user = match value.get_ref() {
        DeValue::Integer(_) => {
            let number = integer(value).and_then(|number| u32::try_from(number).ok());
            // The number with all bits set means "no change" to the kernel (setresuid(2)).
            let number = number.filter(|number| *number != u32::MAX);
            if number.is_none() {
                field.refuse("it is no user number", None);
            }
            number.map(|number| number.to_string())
        }
        DeValue::String(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => field.line(),
    };
    // Empty takes back what [defaults] says.
    draft.spec.user = user.filter(|user| !user.is_empty());
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

fn port(field: &mut Field<'_, '_>) -> Option<Probe> {
    const TAKES: &str = "it takes a port from 1 to 65535, or \"host:port\"";
    let value = field.entry.value;
    let Some(text) = value.get_ref().as_str() else {
        let number = integer(value).and_then(|number| u16::try_from(number).ok());
        let Some(number) = number.filter(|number| *number > 0) else {
            field.refuse(TAKES, None);
            return None;
        };
        let address = Template::literal(&format!("127.0.0.1:{number}"));
        return Some(Probe::Tcp(TcpProbe { address }));
    };
    let address = field.template()?;
    let Some(literal) = address.as_literal() else {
        let is_one_variable = text.starts_with("${") && text.find('}') == Some(text.len() - 1);
        if !is_one_variable {
            return Some(Probe::Tcp(TcpProbe { address }));
        }
        // A variable alone holds what an integer would: the port.
        let mut address = Template::literal("127.0.0.1:");
        address.push_parsed(text).ok()?;
        return Some(Probe::Tcp(TcpProbe { address }));
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let fits = literal.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port));
    if !fits {
        let hint = is_port(literal).then(|| format!("write {literal} without quotes"));
        field.refuse(TAKES, hint);
        return None;
    }
    Some(Probe::Tcp(TcpProbe { address }))
}

/// Reports whether this can be a host: a name, an address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && !host.contains(|letter: char| {
                    letter.is_whitespace()
                        || letter.is_control()
                        || matches!(letter, ':' | '/' | '[' | ']')
                })
        }
    }
}

fn http(field: &mut Field<'_, '_>) -> Option<Probe> {
    let text = field.text()?;
    if text.starts_with("https://") {
        field.refuse("https is not supported by this version", None);
        return None;
    }
    let rest = text.strip_prefix("http://").unwrap_or_default();
    if rest.is_empty() || rest.starts_with('/') {
        field.refuse("it takes a URL that begins with \"http://\" and a host", None);
        return None;
    }
    // What could end the request line must not come in by the file.
    let url = field.template()?;
    let has_blank = url.as_literal().is_some_and(|url| url.contains(char::is_whitespace));
    if has_blank || text.contains(char::is_control) {
        field.refuse("a URL has no blanks and no control characters", None);
        return None;
    }
    Some(Probe::Http(HttpProbe { url }))
}
