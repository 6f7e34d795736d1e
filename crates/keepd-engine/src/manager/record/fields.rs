//! The form of a note: fields with names, in text.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_model::{Exit, Instant, Pid, Signal};

pub(super) fn exit_word(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal { signal, core: false } => format!("signal {}", signal.get()),
        Exit::Signal { signal, core: true } => format!("core {}", signal.get()),
        Exit::Unknown => "unknown -".to_owned(),
    }
}

pub(super) fn exit_from_word(word: &str) -> Option<Exit> {
    let (how, value) = word.split_once(' ')?;
    Some(match how {
        "exit" => Exit::Code(value.parse().ok()?),
        "signal" => Exit::Signal { signal: Signal::new(value.parse().ok()?)?, core: false },
        "core" => Exit::Signal { signal: Signal::new(value.parse().ok()?)?, core: true },
        "unknown" => Exit::Unknown,
        _ => return None,
    })
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `key=value` fields with tabs between, values percent-encoded where they hold `%` or control
/// bytes.
#[derive(Default)]
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    pub(super) fn put_number(&mut self, key: &str, value: u64) {
        self.put(key, &value.to_string());
    }

    pub(super) fn put_duration(&mut self, key: &str, value: Duration) {
        self.put_number(key, nanoseconds(value));
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    pub(super) fn instant(&self, key: &str) -> Option<Instant> {
        self.number(key).map(Instant::from_nanos)
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        self.number(key).map(Duration::from_nanos)
    }

    pub(super) fn pid(&self, key: &str) -> Option<Pid> {
        self.number(key).and_then(|number| Pid::new(u32::try_from(number).ok()?))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = String::new();
        for (key, value) in &self.0 {
            if !text.is_empty() {
                text.push('\t');
            }
            text.push_str(key);
            text.push('=');
            for character in value.chars() {
                if character == '%' || (character as u32) < 0x20 {
                    text.push_str(&format!("%{:02x}", character as u32));
                } else {
                    text.push(character);
                }
            }
        }
        text.into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut fields = BTreeMap::new();
        for field in text.split('\t') {
            let (key, encoded) = field.split_once('=')?;
            let mut value = String::new();
            let mut parts = encoded.split('%');
            value.push_str(parts.next().unwrap_or_default());
            for part in parts {
                let code = u8::from_str_radix(part.get(..2)?, 16).ok()?;
                value.push(char::from(code));
                value.push_str(part.get(2..)?);
            }
            fields.insert(key.to_owned(), value);
        }
        Some(Self(fields))
    }
}
