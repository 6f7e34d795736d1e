//! The values of `service.set`, `service.env` and `service.log`.

use std::str;
use std::time::Duration;

use keepd_model::KillMode;
use keepd_model::protocol::{
    Attributes, Environment, EnvironmentChange, LogTarget, Place, SessionPlace,
};

use crate::field::{
    Fields, LineWriter, Problem, decimal, decimal_u32, milliseconds, quoted, signal, signal_word,
    without_zero,
};
use crate::words::PATH_BYTES_MAX;

/// The most supplementary groups (the kernel's NGROUPS_MAX, setgroups(2)).
const GROUPS_MAX: usize = 65_536;
/// The most delays of `respawn_ms`.
const RESPAWN_MAX: usize = 64;
/// The descriptors that can be `ready_fd`: none of the standard ones, and none that a process with
/// the usual limit of 1,024 cannot have.
const READY_FD: std::ops::RangeInclusive<u32> = 3..=1_023;
/// The largest user or group id: -1 means "leave it" to setresuid(2), so it would keep root.
const ID_MAX: u32 = u32::MAX - 1;

/// Reads `KEY=VALUE…`; a key left out has its default.
pub(crate) fn decode_attributes(mut fields: Fields<'_>) -> Result<Attributes, Problem> {
    let mut attributes = Attributes::default();
    let mut keys = Keys::default();
    while let Some(field) = fields.next() {
        let (key, value) = keys.split(&field)?;
        match key {
            "directory" => attributes.directory = Some(path(value, key)?),
            "umask" => attributes.umask = umask(value)?,
            "uid" => attributes.uid = Some(decimal_u32(value, key, ID_MAX)?),
            "gid" => attributes.gid = Some(decimal_u32(value, key, ID_MAX)?),
            "groups" => attributes.groups = Some(groups(value)?),
            "notify" => attributes.notify = yes_or_no(value, key)?,
            "ready_fd" => attributes.ready_fd = Some(ready_fd(value)?),
            "kill_mode" => attributes.kill_mode = kill_mode(value)?,
            "stop_signal" => attributes.stop_signal = signal(value)?,
            "stop_timeout_ms" => attributes.stop_timeout = duration(value, key)?,
            "respawn_ms" => attributes.respawn = respawn(value)?,
            "place" => attributes.place = place(value)?,
            "session" => attributes.session = session(value)?,
            "marks" => attributes.marks = yes_or_no(value, key)?,
            "retry_ms" => attributes.retry = Some(duration(value, key)?),
            _ => return Err(unknown_key(key)),
        }
    }
    Ok(attributes)
}

/// Writes every attribute that has a value, defaults too: what comes back is complete, and it stays
/// what it was when a later version has other defaults.
pub(crate) fn encode_attributes<'out>(
    attributes: &Attributes,
    mut line: LineWriter<'out>,
) -> LineWriter<'out> {
    let Attributes {
        directory,
        umask,
        uid,
        gid,
        groups,
        notify,
        ready_fd,
        kill_mode,
        stop_signal,
        stop_timeout,
        respawn,
        place,
        session,
        marks,
        retry,
    } = attributes;
    if let Some(directory) = directory {
        line = line.prefixed("directory=", directory);
    }
    line = line.word(format_args!("umask={umask:03o}"));
    if let Some(uid) = uid {
        line = line.word(format_args!("uid={uid}"));
    }
    if let Some(gid) = gid {
        line = line.word(format_args!("gid={gid}"));
    }
    if let Some(groups) = groups {
        line = line.word(format_args!("groups={}", comma_list(groups.iter())));
    }
    line = line.word(format_args!("notify={}", if *notify { "yes" } else { "no" }));
    if let Some(ready_fd) = ready_fd {
        line = line.word(format_args!("ready_fd={ready_fd}"));
    }
    line = line
        .word(format_args!("kill_mode={kill_mode}"))
        .word(format_args!("stop_signal={}", signal_word(*stop_signal)))
        .word(format_args!("stop_timeout_ms={}", milliseconds(*stop_timeout)));
    if !respawn.is_empty() {
        let delays = respawn.iter().map(|delay| milliseconds(*delay));
        line = line.word(format_args!("respawn_ms={}", comma_list(delays)));
    }
    line = line
        .word(format_args!("place={}", place_word(*place)))
        .word(format_args!("session={}", session_word(*session)))
        .word(format_args!("marks={}", if *marks { "yes" } else { "no" }));
    match retry {
        Some(retry) => line.word(format_args!("retry_ms={}", milliseconds(*retry))),
        None => line,
    }
}

/// Reads `[=⇥]+K=V…⇥-K…`.
pub(crate) fn decode_environment(mut fields: Fields<'_>) -> Result<Environment, Problem> {
    let mut environment = Environment::default();
    let mut first = true;
    while let Some(field) = fields.next() {
        match &*field {
            b"=" if first => environment.clear = true,
            [b'+', assignment @ ..] => {
                let Some(equals) = assignment.iter().position(|byte| *byte == b'=') else {
                    return Err(Problem::new(format!(
                        "a variable has no value: {}",
                        quoted(&field)
                    )));
                };
                let variable = variable_name(&assignment[..equals])?;
                let value = &assignment[equals + 1..];
                without_zero(value, "value of a variable")?;
                let change = EnvironmentChange::Set(variable, value.to_vec());
                environment.changes.push(change);
            }
            [b'-', variable @ ..] => {
                let change = EnvironmentChange::Remove(variable_name(variable)?);
                environment.changes.push(change);
            }
            other => {
                return Err(Problem::new(format!(
                    "\"+NAME=VALUE\" or \"-NAME\" is expected, not {}",
                    quoted(other)
                )));
            }
        }
        first = false;
    }
    Ok(environment)
}

/// Writes `[=⇥]+K=V…⇥-K…`, in order.
pub(crate) fn encode_environment<'out>(
    environment: &Environment,
    mut line: LineWriter<'out>,
) -> LineWriter<'out> {
    if environment.clear {
        line = line.word("=");
    }
    for change in &environment.changes {
        line = match change {
            EnvironmentChange::Set(variable, value) => {
                let mut assignment = Vec::with_capacity(variable.len() + 1 + value.len());
                assignment.extend_from_slice(variable);
                assignment.push(b'=');
                assignment.extend_from_slice(value);
                line.prefixed("+", &assignment)
            }
            EnvironmentChange::Remove(variable) => line.prefixed("-", variable),
        };
    }
    line
}

/// Reads `mode=…` and the keys of that mode.
pub(crate) fn decode_log_target(mut fields: Fields<'_>) -> Result<LogTarget, Problem> {
    let mut keys = Keys::default();
    let (mut mode, mut dir, mut file, mut merge) = (None, None, None, None);
    while let Some(field) = fields.next() {
        let (key, value) = keys.split(&field)?;
        match key {
            "mode" => mode = Some(value.to_vec()),
            "dir" => dir = Some(path(value, key)?),
            "file" => file = Some(path(value, key)?),
            "stderr" => merge = Some(is_merged(value)?),
            _ => return Err(unknown_key(key)),
        }
    }
    let mode = mode.ok_or_else(|| Problem::new("the \"mode\" is missing"))?;
    match (&*mode, dir, file, merge) {
        (b"null", None, None, None) => Ok(LogTarget::Null),
        (b"inherit", None, None, None) => Ok(LogTarget::Inherit),
        (b"file", Some(dir), None, merge) => {
            Ok(LogTarget::File { dir, merge: merge.unwrap_or(false) })
        }
        (b"file", None, ..) => Err(Problem::new("mode \"file\" needs \"dir\"")),
        (b"append", None, Some(file), None) => Ok(LogTarget::Append { file }),
        (b"append", _, None, _) => Err(Problem::new("mode \"append\" needs \"file\"")),
        (b"null" | b"inherit" | b"file" | b"append", ..) => {
            Err(Problem::new(format!("mode {} has no such key", quoted(&mode))))
        }
        (other, ..) => Err(Problem::new(format!("there is no mode {}", quoted(other)))),
    }
}

/// Writes `mode=…` and the keys of that mode.
pub(crate) fn encode_log_target<'out>(log: &LogTarget, line: LineWriter<'out>) -> LineWriter<'out> {
    match log {
        LogTarget::Null => line.word("mode=null"),
        LogTarget::Inherit => line.word("mode=inherit"),
        LogTarget::File { dir, merge } => {
            let stderr = if *merge { "merge" } else { "separate" };
            line.word("mode=file").prefixed("dir=", dir).word(format_args!("stderr={stderr}"))
        }
        LogTarget::Append { file } => line.word("mode=append").prefixed("file=", file),
    }
}

/// The keys seen on a line, so that none counts twice.
#[derive(Default)]
struct Keys(Vec<String>);

impl Keys {
    fn split<'field>(
        &mut self,
        field: &'field [u8],
    ) -> Result<(&'field str, &'field [u8]), Problem> {
        let not_a_pair =
            || Problem::new(format!("\"KEY=VALUE\" is expected, not {}", quoted(field)));
        let equals = field.iter().position(|byte| *byte == b'=').ok_or_else(not_a_pair)?;
        let key = str::from_utf8(&field[..equals]).map_err(|_| not_a_pair())?;
        if self.0.iter().any(|seen| seen == key) {
            return Err(Problem::new(format!("the key {} is given twice", quoted(key.as_bytes()))));
        }
        self.0.push(key.to_owned());
        Ok((key, &field[equals + 1..]))
    }
}

fn unknown_key(key: &str) -> Problem {
    Problem::new(format!("there is no key {}", quoted(key.as_bytes())))
}

fn wrong_value(key: &str, expected: &str, value: &[u8]) -> Problem {
    Problem::new(format!("\"{key}\" is {expected}, not {}", quoted(value)))
}

fn path(value: &[u8], key: &str) -> Result<Vec<u8>, Problem> {
    without_zero(value, "path")?;
    if value.is_empty() || value.len() > PATH_BYTES_MAX {
        return Err(Problem::new(format!("the path of \"{key}\" has 1 to {PATH_BYTES_MAX} bytes")));
    }
    Ok(value.to_vec())
}

fn umask(value: &[u8]) -> Result<u32, Problem> {
    let text = str::from_utf8(value).unwrap_or_default();
    let octal =
        !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    octal
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()
        .filter(|umask| *umask <= 0o777)
        .ok_or_else(|| wrong_value("umask", "an octal number up to 777", value))
}

fn groups(value: &[u8]) -> Result<Vec<u32>, Problem> {
    comma_separated(value, GROUPS_MAX, "groups")?
        .into_iter()
        .map(|group| decimal_u32(group, "group", ID_MAX))
        .collect()
}

fn respawn(value: &[u8]) -> Result<Vec<Duration>, Problem> {
    comma_separated(value, RESPAWN_MAX, "respawn_ms")?
        .into_iter()
        .map(|delay| duration(delay, "respawn_ms"))
        .collect()
}

/// Splits a list at its commas; nothing is a list of none.
fn comma_separated<'value>(
    value: &'value [u8],
    count_max: usize,
    key: &str,
) -> Result<Vec<&'value [u8]>, Problem> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let items: Vec<&[u8]> = value.split(|byte| *byte == b',').take(count_max + 1).collect();
    if items.len() > count_max {
        return Err(Problem::new(format!("\"{key}\" has at most {count_max} items")));
    }
    Ok(items)
}

fn comma_list(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(",")
}

fn duration(value: &[u8], key: &str) -> Result<Duration, Problem> {
    decimal(value, key, u64::MAX).map(Duration::from_millis)
}

fn yes_or_no(value: &[u8], key: &str) -> Result<bool, Problem> {
    match value {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        other => Err(wrong_value(key, "\"yes\" or \"no\"", other)),
    }
}

fn is_merged(value: &[u8]) -> Result<bool, Problem> {
    match value {
        b"merge" => Ok(true),
        b"separate" => Ok(false),
        other => Err(wrong_value("stderr", "\"separate\" or \"merge\"", other)),
    }
}

fn kill_mode(value: &[u8]) -> Result<KillMode, Problem> {
    str::from_utf8(value)
        .ok()
        .and_then(KillMode::from_word)
        .ok_or_else(|| wrong_value("kill_mode", "\"mixed\", \"all\" or \"main\"", value))
}

fn ready_fd(value: &[u8]) -> Result<u32, Problem> {
    let number = decimal_u32(value, "ready_fd", *READY_FD.end())?;
    let is_free = READY_FD.contains(&number);
    is_free.then_some(number).ok_or_else(|| wrong_value("ready_fd", "3 or more", value))
}

fn place(value: &[u8]) -> Result<Place, Problem> {
    match value {
        b"service" => Ok(Place::Service),
        b"own" => Ok(Place::Own),
        b"none" => Ok(Place::None),
        other => Err(wrong_value("place", "\"service\", \"own\" or \"none\"", other)),
    }
}

fn session(value: &[u8]) -> Result<SessionPlace, Problem> {
    match value {
        b"new" => Ok(SessionPlace::New),
        b"inherit" => Ok(SessionPlace::Inherit),
        other => Err(wrong_value("session", "\"new\" or \"inherit\"", other)),
    }
}

const fn session_word(session: SessionPlace) -> &'static str {
    match session {
        SessionPlace::New => "new",
        SessionPlace::Inherit => "inherit",
    }
}

const fn place_word(place: Place) -> &'static str {
    match place {
        Place::Service => "service",
        Place::Own => "own",
        Place::None => "none",
    }
}

fn variable_name(variable: &[u8]) -> Result<Vec<u8>, Problem> {
    without_zero(variable, "name of a variable")?;
    if variable.is_empty() || variable.contains(&b'=') {
        return Err(Problem::new(format!("not a name of a variable: {}", quoted(variable))));
    }
    Ok(variable.to_vec())
}
