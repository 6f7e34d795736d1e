//! Lists of short byte strings, each in one piece of memory.
//!
//! A service has many short strings, there are many services, and most are looked at only when one
//! starts: as a vector of vectors they were the largest part of what the proxy holds.

use keepd_model::protocol::{Environment, EnvironmentChange};
use keepd_model::{FdSlot, HandleName};

/// Arguments or tags.
#[derive(Debug, Default)]
pub(super) struct Words(Box<[u8]>);

/// The bytes that a length takes.
const LENGTH_BYTES: usize = size_of::<u32>();

impl Words {
    /// Packs words.
    pub(super) fn new<W, I>(words: I) -> Self
    where
        W: AsRef<[u8]>,
        I: IntoIterator<Item = W, IntoIter: Clone>,
    {
        let words = words.into_iter();
        let length = |word: W| LENGTH_BYTES + word.as_ref().len();
        let mut packed = Vec::with_capacity(words.clone().map(length).sum());
        for word in words {
            let word = word.as_ref();
            let length = u32::try_from(word.len()).expect("a word is no longer than a line");
            packed.extend_from_slice(&length.to_ne_bytes());
            packed.extend_from_slice(word);
        }
        Self(packed.into())
    }

    /// Reports whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the words in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>()?;
            let (word, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
            rest = after;
            Some(word)
        })
    }

    /// Returns the words as messages have them.
    pub(super) fn unpack(&self) -> Vec<Vec<u8>> {
        self.iter().map(<[u8]>::to_vec).collect()
    }
}

/// Differences to the environment: `+KEY`, then the value; or `-KEY`.
#[derive(Debug, Default)]
pub(super) struct Changes {
    clear: bool,
    words: Words,
}

impl Changes {
    /// Packs differences.
    pub(super) fn new(environment: &Environment) -> Self {
        let words = environment.changes.iter().flat_map(|change| match change {
            EnvironmentChange::Set(key, value) => {
                [Some([b"+", key.as_slice()].concat()), Some(value.clone())]
            }
            EnvironmentChange::Remove(key) => [Some([b"-", key.as_slice()].concat()), None],
        });
        Self { clear: environment.clear, words: Words::new(words.flatten()) }
    }

    /// Returns the differences as messages have them.
    pub(super) fn unpack(&self) -> Environment {
        let mut words = self.words.iter();
        let changes = std::iter::from_fn(|| match words.next()? {
            [b'+', key @ ..] => Some(EnvironmentChange::Set(key.to_vec(), words.next()?.to_vec())),
            [_, key @ ..] => Some(EnvironmentChange::Remove(key.to_vec())),
            [] => None,
        });
        Environment { clear: self.clear, changes: changes.collect() }
    }
}

/// A descriptor list: names of handles, `-` for a closed place, nothing for a skipped one.
#[derive(Debug)]
pub(super) struct Slots(Words);

impl Slots {
    /// Packs a list.
    pub(super) fn new(slots: &[FdSlot]) -> Self {
        Self(Words::new(slots.iter().map(|slot| match slot {
            FdSlot::Closed => "-",
            FdSlot::Skipped => "",
            FdSlot::Handle(name) => name.as_str(),
        })))
    }

    /// Returns the places as words of a command.
    pub(super) fn words(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.0.iter()
    }

    /// Returns the places as messages have them.
    pub(super) fn unpack(&self) -> Vec<FdSlot> {
        let slot = |word: &[u8]| match word {
            b"-" => FdSlot::Closed,
            b"" => FdSlot::Skipped,
            name => {
                let name = std::str::from_utf8(name).expect("a packed name was text");
                FdSlot::Handle(HandleName::new(name).expect("a packed name was one of a handle"))
            }
        };
        self.words().map(slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        for words in [vec![], vec![""], vec!["", "a", ""], vec!["/bin/sh", "-c", "echo \0\n"]] {
            let packed = Words::new(&words);
            assert_eq!(packed.is_empty(), words.is_empty());
            let unpacked = packed.unpack();
            assert_eq!(unpacked, words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn places_come_back_as_they_were() {
        let handle = |name: &str| FdSlot::Handle(HandleName::new(name).unwrap());
        for slots in [
            vec![],
            vec![FdSlot::Skipped],
            vec![FdSlot::Closed, handle("null"), FdSlot::Skipped, handle("--"), handle("null")],
        ] {
            let packed = Slots::new(&slots);
            assert_eq!(packed.unpack(), slots);
            assert_eq!(packed.words().count(), slots.len());
        }
    }

    #[test]
    fn differences_come_back_as_they_were() {
        let set = |key: &str, value: &str| EnvironmentChange::Set(key.into(), value.into());
        let remove = |key: &str| EnvironmentChange::Remove(key.into());
        let lists = [
            vec![],
            vec![set("A", ""), remove("B"), set("-", "+x"), set("+", "-"), remove("+")],
            vec![remove(""), set("", "=")],
        ];
        for changes in lists {
            for clear in [false, true] {
                let environment = Environment { clear, changes: changes.clone() };
                assert_eq!(Changes::new(&environment).unpack(), environment);
            }
        }
    }
}
