//! The table of all keys: their paths, their other spellings, and where their values go.
//!
//! Nothing here reads a file, a variable or a clock.

use std::path::PathBuf;

use super::text::{parse_milliseconds, parse_size};
use super::types::{Config, LogLevel, LogRotation, LogTarget, RestartConfig, RestartWhen};
use keepd_model::nearest;

/// A value before it is known what it is for.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    not(any(feature = "toml", feature = "serde_json", feature = "figment")),
    expect(dead_code, reason = "without a format, all values come from variables")
)]
pub(super) enum Value {
    /// A text of a file: it stays a text.
    Text(String),
    /// A text without a type, as variables and command lines have it.
    Untyped(String),
    Integer(i64),
    Flag(bool),
    /// JSON's null.
    #[cfg_attr(
        not(any(feature = "serde_json", feature = "figment")),
        expect(dead_code, reason = "TOML has no null")
    )]
    Nothing,
    /// A list of whole numbers.
    List(Vec<i64>),
    /// Something no key takes, named as a person would: "a list".
    Other(&'static str),
}

/// Where a value goes, and so which type it has.
pub(super) enum Field<T: 'static> {
    Text(fn(&mut T) -> &mut String),
    OptionalPath(fn(&mut T) -> &mut Option<PathBuf>),
    Flag(fn(&mut T) -> &mut bool),
    Milliseconds(fn(&mut T) -> &mut u64),
    OptionalMilliseconds(fn(&mut T) -> &mut Option<u64>),
    Size(fn(&mut T) -> &mut usize),
    OptionalSize(fn(&mut T) -> &mut Option<u64>),
    Count(fn(&mut T) -> &mut usize),
    SmallCount(fn(&mut T) -> &mut u32),
    OptionalCount(fn(&mut T) -> &mut Option<u32>),
    Level(fn(&mut T) -> &mut LogLevel),
    Target(fn(&mut T) -> &mut LogTarget),
    Rotation(fn(&mut T) -> &mut LogRotation),
    When(fn(&mut T) -> &mut RestartWhen),
    Codes(fn(&mut T) -> &mut Option<Vec<u8>>),
}

/// One key.
pub(super) struct Key<T: 'static> {
    /// Its path, with dots.
    pub(super) path: &'static str,
    /// Other spellings, as whole paths.
    pub(super) aliases: &'static [&'static str],
    /// A running daemon takes a new value at once; else it needs a restart.
    pub(super) is_live: bool,
    pub(super) field: Field<T>,
}

const fn fixed<T>(path: &'static str, field: Field<T>) -> Key<T> {
    Key { path, aliases: &[], is_live: false, field }
}

const fn live<T>(path: &'static str, aliases: &'static [&'static str], field: Field<T>) -> Key<T> {
    Key { path, aliases, is_live: true, field }
}

/// The keys outside `[restart.NAME]`.
pub(super) const KEYS: &[Key<Config>] = &[
    fixed("name", Field::Text(|c| &mut c.name)),
    fixed("work_dir", Field::OptionalPath(|c| &mut c.work_dir)),
    fixed("pid_file", Field::OptionalPath(|c| &mut c.pid_file)),
    fixed("hot_reload", Field::Flag(|c| &mut c.hot_reload)),
    live("logging.level", &[], Field::Level(|c| &mut c.logging.level)),
    fixed("logging.json", Field::Flag(|c| &mut c.logging.json)),
    fixed("logging.color", Field::Flag(|c| &mut c.logging.color)),
    live("logging.file", &[], Field::OptionalPath(|c| &mut c.logging.file)),
    live("logging.max_file_size", &[], Field::OptionalSize(|c| &mut c.logging.max_file_size)),
    live("logging.max_files", &[], Field::OptionalCount(|c| &mut c.logging.max_files)),
    live("logging.target", &[], Field::Target(|c| &mut c.logging.target)),
    live("logging.rotate", &[], Field::Rotation(|c| &mut c.logging.rotate)),
    live(
        "shutdown.graceful",
        &["shutdown.timeout_ms", "shutdown.graceful_ms"],
        Field::Milliseconds(|c| &mut c.shutdown.graceful),
    ),
    live(
        "shutdown.force",
        &["shutdown.force_timeout_ms", "shutdown.force_ms"],
        Field::Milliseconds(|c| &mut c.shutdown.force),
    ),
    live(
        "shutdown.kill",
        &["shutdown.kill_timeout_ms", "shutdown.kill_ms"],
        Field::Milliseconds(|c| &mut c.shutdown.kill),
    ),
    fixed("shutdown.enforce_kill", Field::Flag(|c| &mut c.shutdown.enforce_kill)),
    fixed("performance.worker_threads", Field::Count(|c| &mut c.performance.worker_threads)),
    fixed("performance.thread_pinning", Field::Flag(|c| &mut c.performance.thread_pinning)),
    fixed("performance.memory_pool_size", Field::Size(|c| &mut c.performance.memory_pool_size)),
    fixed("performance.numa_aware", Field::Flag(|c| &mut c.performance.numa_aware)),
    fixed("performance.lock_free", Field::Flag(|c| &mut c.performance.lock_free)),
    fixed("monitoring.enable_metrics", Field::Flag(|c| &mut c.monitoring.enable_metrics)),
    Key {
        path: "monitoring.metrics_interval_ms",
        aliases: &["monitoring.metrics_interval"],
        is_live: false,
        field: Field::Milliseconds(|c| &mut c.monitoring.metrics_interval_ms),
    },
    fixed("monitoring.track_resources", Field::Flag(|c| &mut c.monitoring.track_resources)),
    live("monitoring.health_checks", &[], Field::Flag(|c| &mut c.monitoring.health_checks)),
    live(
        "monitoring.health_check_interval_ms",
        &["monitoring.health_check_interval"],
        Field::Milliseconds(|c| &mut c.monitoring.health_check_interval_ms),
    ),
    live(
        "monitoring.health_failures",
        &[],
        Field::SmallCount(|c| &mut c.monitoring.health_failures),
    ),
    Key {
        path: "monitoring.watchdog",
        aliases: &["monitoring.watchdog_ms"],
        is_live: false,
        field: Field::OptionalMilliseconds(|c| &mut c.monitoring.watchdog),
    },
];

/// The keys of a table `[restart.NAME]`.
pub(super) const RESTART_KEYS: &[Key<RestartConfig>] = &[
    live("when", &[], Field::When(|r| &mut r.when)),
    live("delay", &["delay_ms"], Field::Milliseconds(|r| &mut r.delay)),
    live("max_delay", &["max_delay_ms"], Field::Milliseconds(|r| &mut r.max_delay)),
    live("attempts", &[], Field::OptionalCount(|r| &mut r.attempts)),
    live("window", &["window_ms"], Field::OptionalMilliseconds(|r| &mut r.window)),
    live("codes", &[], Field::Codes(|r| &mut r.codes)),
    live("reset_after", &["reset_after_ms"], Field::OptionalMilliseconds(|r| &mut r.reset_after)),
];

/// The table of tables that are named after subsystems.
pub(super) const RESTART: &str = "restart";

/// The other tables.
pub(super) const TABLES: [&str; 5] = ["logging", "shutdown", "performance", "monitoring", RESTART];

/// Keys and tables that are documented for later versions. They are refused by name, because what
/// is ignored is found out at night.
pub(super) const LATER: [&str; 4] = ["logging.compress", "privileges", "limits", "sandbox"];

impl<T> Key<T> {
    /// Returns every spelling of the path, the proper one first.
    pub(super) fn spellings(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.path).chain(self.aliases.iter().copied())
    }

    /// Reports whether two targets have different values.
    pub(super) fn differs(&self, old: &mut T, new: &mut T) -> bool {
        match &self.field {
            Field::Text(place) => place(old) != place(new),
            Field::OptionalPath(place) => place(old) != place(new),
            Field::Flag(place) => place(old) != place(new),
            Field::Milliseconds(place) => place(old) != place(new),
            Field::OptionalMilliseconds(place) => place(old) != place(new),
            Field::Size(place) => place(old) != place(new),
            Field::OptionalSize(place) => place(old) != place(new),
            Field::Count(place) => place(old) != place(new),
            Field::SmallCount(place) => place(old) != place(new),
            Field::OptionalCount(place) => place(old) != place(new),
            Field::Level(place) => place(old) != place(new),
            Field::Target(place) => place(old) != place(new),
            Field::Rotation(place) => place(old) != place(new),
            Field::When(place) => place(old) != place(new),
            Field::Codes(place) => place(old) != place(new),
        }
    }

    /// Puts a value where it belongs.
    ///
    /// # Errors
    ///
    /// What is expected, as the end of a sentence.
    pub(super) fn set(&self, target: &mut T, value: &Value) -> Result<(), String> {
        match &self.field {
            Field::Text(place) => *place(target) = text(value)?,
            Field::OptionalPath(place) => {
                *place(target) = optional(value, |value| text(value).map(PathBuf::from))?;
            }
            Field::Flag(place) => *place(target) = flag(value)?,
            Field::Milliseconds(place) => *place(target) = milliseconds(value)?,
            Field::OptionalMilliseconds(place) => {
                *place(target) = optional(value, milliseconds)?;
            }
            Field::Size(place) => *place(target) = fitting(size(value)?)?,
            Field::OptionalSize(place) => *place(target) = optional(value, size)?,
            Field::Count(place) => *place(target) = fitting(count(value)?)?,
            Field::SmallCount(place) => *place(target) = fitting(count(value)?)?,
            Field::OptionalCount(place) => {
                *place(target) = optional(value, |value| fitting(count(value)?))?;
            }
            Field::Level(place) => *place(target) = word(value, &LEVELS)?,
            Field::Target(place) => *place(target) = word(value, &TARGETS)?,
            Field::Rotation(place) => *place(target) = word(value, &ROTATIONS)?,
            Field::When(place) => *place(target) = word(value, &WHENS)?,
            Field::Codes(place) => *place(target) = optional(value, codes)?,
        }
        Ok(())
    }
}

const LEVELS: [(&str, LogLevel); 5] = [
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
];

const TARGETS: [(&str, LogTarget); 3] =
    [("stdout", LogTarget::Stdout), ("stderr", LogTarget::Stderr), ("file", LogTarget::File)];

const ROTATIONS: [(&str, LogRotation); 3] =
    [("size", LogRotation::Size), ("daily", LogRotation::Daily), ("hourly", LogRotation::Hourly)];

const WHENS: [(&str, RestartWhen); 3] = [
    ("never", RestartWhen::Never),
    ("failure", RestartWhen::Failure),
    ("always", RestartWhen::Always),
];

impl Value {
    /// Says what was found, for the end of a message.
    fn found(&self) -> String {
        match self {
            Self::Text(text) | Self::Untyped(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Nothing => "nothing".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) | Value::Untyped(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Flag(_) | Value::Nothing | Value::List(_) | Value::Other(_) => {
            Err(format!("expected a text, not {}", value.found()))
        }
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    let refused = || format!("expected true or false, not {}", value.found());
    match value {
        Value::Flag(flag) => Ok(*flag),
        Value::Untyped(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(refused()),
        },
        Value::Text(_) | Value::Integer(_) | Value::Nothing | Value::List(_) | Value::Other(_) => {
            Err(refused())
        }
    }
}

fn count(value: &Value) -> Result<u64, String> {
    let refused = || format!("expected a number that is not negative, not {}", value.found());
    match value {
        Value::Integer(number) => u64::try_from(*number).map_err(|_| refused()),
        Value::Untyped(text) => text.trim().parse().map_err(|_| refused()),
        Value::Text(_) | Value::Flag(_) | Value::Nothing | Value::List(_) | Value::Other(_) => {
            Err(refused())
        }
    }
}

fn milliseconds(value: &Value) -> Result<u64, String> {
    number_or_text(value, parse_milliseconds, "expected milliseconds or a time such as \"30s\"")
}

fn size(value: &Value) -> Result<u64, String> {
    number_or_text(value, parse_size, "expected bytes or a size such as \"100MB\"")
}

/// Reads exit codes: a list, or in a variable numbers with commas between them.
fn codes(value: &Value) -> Result<Vec<u8>, String> {
    let refused = || format!("expected a list of exit codes, 0 to 255, not {}", value.found());
    match value {
        Value::List(codes) => {
            let codes = codes.iter().map(|code| u8::try_from(*code).map_err(|_| refused()));
            codes.collect()
        }
        Value::Untyped(text) => {
            let codes = text.split(',').map(|code| code.trim().parse().map_err(|_| refused()));
            codes.collect()
        }
        Value::Text(_) | Value::Integer(_) | Value::Flag(_) | Value::Nothing | Value::Other(_) => {
            Err(refused())
        }
    }
}

fn number_or_text(
    value: &Value,
    parse: fn(&str) -> Result<u64, String>,
    expected: &str,
) -> Result<u64, String> {
    let refused = || format!("{expected}, not {}", value.found());
    match value {
        Value::Integer(number) => u64::try_from(*number).map_err(|_| refused()),
        Value::Text(text) | Value::Untyped(text) => parse(text),
        Value::Flag(_) | Value::Nothing | Value::List(_) | Value::Other(_) => Err(refused()),
    }
}

/// Reads what may be absent: null, and an empty variable, are none.
fn optional<V>(
    value: &Value,
    read: impl FnOnce(&Value) -> Result<V, String>,
) -> Result<Option<V>, String> {
    match value {
        Value::Nothing => Ok(None),
        Value::Untyped(text) if text.is_empty() => Ok(None),
        Value::Text(_)
        | Value::Untyped(_)
        | Value::Integer(_)
        | Value::Flag(_)
        | Value::List(_)
        | Value::Other(_) => read(value).map(Some),
    }
}

fn fitting<N: TryFrom<u64>>(number: u64) -> Result<N, String> {
    N::try_from(number).map_err(|_| format!("expected a smaller number, not {number}"))
}

fn word<W: Copy>(value: &Value, words: &[(&str, W)]) -> Result<W, String> {
    let given = match value {
        Value::Text(text) => Some(text.to_ascii_lowercase()),
        Value::Untyped(text) => Some(text.trim().to_ascii_lowercase()),
        Value::Integer(_) | Value::Flag(_) | Value::Nothing | Value::List(_) | Value::Other(_) => {
            None
        }
    };
    let found = words.iter().find(|(name, _)| given.as_deref() == Some(*name));
    found.map(|(_, word)| *word).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let nearest = given.and_then(|given| nearest(&given, names.iter().copied()));
        let hint = nearest.map(|name| format!(" (did you mean \"{name}\"?)"));
        let names = names.join(", ");
        format!("expected one of {names}, not {}{}", value.found(), hint.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_a_table_that_is_listed_and_no_spelling_is_used_twice() {
        let mut spellings: Vec<&str> = KEYS.iter().flat_map(Key::spellings).collect();
        for spelling in &spellings {
            let table = spelling.split_once('.').map(|(table, _)| table);
            assert!(table.is_none_or(|table| TABLES.contains(&table)), "{spelling}");
        }
        let count = spellings.len();
        spellings.sort_unstable();
        spellings.dedup();
        assert_eq!(spellings.len(), count);
    }

    #[test]
    fn every_field_of_the_structs_has_a_key() {
        // What serde writes is what a file may contain, so the table must not lack any of it.
        let json = serde_json::to_value(Config::default()).unwrap();
        for (name, value) in json.as_object().unwrap() {
            match value.as_object() {
                Some(_) if name == RESTART => {}
                Some(table) => {
                    for inner in table.keys() {
                        let path = format!("{name}.{inner}");
                        assert!(KEYS.iter().any(|key| key.path == path), "{path}");
                    }
                }
                None => assert!(KEYS.iter().any(|key| key.path == name), "{name}"),
            }
        }
        let restart = serde_json::to_value(RestartConfig::default()).unwrap();
        for name in restart.as_object().unwrap().keys() {
            assert!(RESTART_KEYS.iter().any(|key| key.path == name), "{name}");
        }
    }

    #[test]
    fn a_text_of_a_file_is_no_number_and_an_untyped_one_may_be() {
        assert_eq!(count(&Value::Untyped(" 8 ".to_owned())), Ok(8));
        assert!(count(&Value::Text("8".to_owned())).is_err());
        assert_eq!(flag(&Value::Untyped("Yes".to_owned())), Ok(true));
        assert!(flag(&Value::Text("true".to_owned())).is_err());
        assert_eq!(optional(&Value::Untyped(String::new()), size), Ok(None));
        assert!(fitting::<u32>(u64::MAX).is_err());
    }

    #[test]
    fn a_wrong_word_gets_its_neighbour() {
        let message = word(&Value::Text("debgu".to_owned()), &LEVELS).unwrap_err();
        let expected = "expected one of trace, debug, info, warn, error, not \"debgu\" (did you \
                        mean \"debug\"?)";
        assert_eq!(message, expected);
    }
}
