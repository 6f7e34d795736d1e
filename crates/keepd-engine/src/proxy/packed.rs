//! Lists of short byte strings, each in one piece of memory.
//!
//! A service has many short strings, there are many services, and most are looked at only when one
//! starts: as a vector of vectors they were the largest part of what the proxy holds.

use keepd_model::protocol::{Environment, EnvironmentChange};
use keepd_model::{FdSlot, HandleName};

/// Arguments or tags.
#[derive(Debug, Default)]
pub(super) struct Words(Box<[u8]>);

/// How many bits of a length are in each of its bytes; the highest bit says that more follow.
/// Most words are short, and then their length is one byte, as a tab between them would be.
const LENGTH_BITS: u32 = 7;
const MORE: u8 = 1 << LENGTH_BITS;

impl Words {
    /// Packs words.
    pub(super) fn new<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W, IntoIter: Clone>) -> Self {
        let words = words.into_iter();
        let bytes = words.clone().map(|word| packed_bytes(word.as_ref())).sum();
        // Measured first: a vector that grows needs its memory twice.
        let mut packed = Vec::with_capacity(bytes);
        for word in words {
            let word = word.as_ref();
            push_length(word.len(), &mut packed);
            packed.extend_from_slice(word);
        }
        Self(packed.into())
    }

    /// Returns how many bytes they take.
    pub(super) const fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Reports whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the words in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let length = take_length(&mut rest)?;
            let (word, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(word)
        })
    }

    /// Returns the words as messages have them.
    pub(super) fn unpack(&self) -> Vec<Vec<u8>> {
        self.iter().map(<[u8]>::to_vec).collect()
    }
}

/// Returns how many bytes a word takes with its length.
pub(super) fn packed_bytes(word: &[u8]) -> usize {
    let bits = (usize::BITS - word.len().leading_zeros()).max(1);
    word.len() + bits.div_ceil(LENGTH_BITS) as usize
}

fn push_length(mut length: usize, packed: &mut Vec<u8>) {
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= LENGTH_BITS;
        if length == 0 {
            packed.push(low & !MORE);
            return;
        }
        packed.push(low | MORE);
    }
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in (0..usize::BITS).step_by(LENGTH_BITS as usize) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        length |= usize::from(byte & !MORE) << shift;
        if byte & MORE == 0 {
            return Some(length);
        }
    }
    None
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

    /// Returns how many bytes they take.
    pub(super) const fn bytes(&self) -> usize {
        self.words.bytes()
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

    /// Returns how many bytes it takes.
    pub(super) const fn bytes(&self) -> usize {
        self.0.bytes()
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
    fn words_of_any_length_come_back() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 1 << 21] {
            let words = [vec![b'x'; length], vec![b'y'; 3]];
            let packed = Words::new(&words);
            assert_eq!(packed.unpack(), words);
            assert_eq!(packed.bytes(), words.iter().map(|word| packed_bytes(word)).sum());
        }
        // Bytes that were never packed are not read beyond their end.
        assert_eq!(Words([5, b'x'].into()).iter().count(), 0);
        assert_eq!(Words([0xff; 12].into()).iter().count(), 0);
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
