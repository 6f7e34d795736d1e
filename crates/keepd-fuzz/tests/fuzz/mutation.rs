//! Changed copies of inputs, from a seed.

/// SplitMix64: the same numbers on every machine.
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Returns a copy of one input with a few changes, at most 4 KiB long.
    pub(crate) fn change(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            match self.below(8) {
                0 => input.truncate(at),
                1 => input.extend_from_within(at..),
                2 if at < input.len() => input[at] ^= 1 << self.below(8),
                3 if at < input.len() => {
                    let end = at + self.below(input.len() - at) + 1;
                    input.drain(at..end);
                }
                4 => self.insert_number(&mut input, at),
                5 | 6 => {
                    // The words of other inputs are the best that can be put in.
                    let other = &inputs[self.below(inputs.len())];
                    let start = self.below(other.len() + 1);
                    let end = (start + self.below(24)).min(other.len());
                    input.splice(at..at, other[start..end].iter().copied());
                }
                _ => {
                    let marks = b"\t\n\\\r@-=+,:#*[]{}\"'$.\0\xff0 ";
                    input.insert(at, marks[self.below(marks.len())]);
                }
            }
        }
        input.truncate(4096);
        input
    }

    /// Puts in a number that is often at an edge.
    fn insert_number(&mut self, input: &mut Vec<u8>, at: usize) {
        let number = match self.below(4) {
            0 => u64::MAX >> self.below(64),
            1 => 1 << self.below(64),
            2 => self.next() % 1000,
            _ => self.next(),
        };
        input.splice(at..at, number.to_string().into_bytes());
    }
}
